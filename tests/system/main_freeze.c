/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Freeze: a loaded writer, and the judge of what its files hold at any instant.
 *
 *   pcache-freeze write  cache=PATH backing=PATH record=PATH [key=value ...]      writes until it is killed
 *   pcache-freeze verify cache=PATH backing=PATH record=PATH [key=value ...]      judges copies taken while the writer was stopped
 *   pcache-freeze backing backing=PATH record=PATH                                judges the backing alone (guarantee G7)
 *
 * What the writer does follows from the seed: operation j of thread t in epoch k is computed by make_op(), so the judge replays
 * the whole history from the record, which only says how far each thread is. All threads end an epoch at a barrier, one flushes, then
 * the next epoch begins. In an epoch each stripe belongs to one thread, so the writes to a block are in one order.
 *
 * The record is a mapped file: `issued` is stored before a request starts and `acked` after it returned, so a copy of it that
 * is taken with all threads stopped bounds what the cache may hold:
 * - a block holds, whole, its newest durable version or a later one that was issued (G2, G3, G6);
 * - a write or batch that shows in one block shows in all of them, unless something newer does (G4);
 * - the backing alone holds, for some epoch e, all writes of the epochs before e and some of e, and nothing later (G7).
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../examples/common/slow_file.h"
#include "system/stress.h"

#define THREAD_MAX 16
#define STRIPE_BLOCKS 64u
#define RANGE_MAX 2
#define RECORD_MAGIC 0x667265657a653031u
#define EPOCH_NONE UINT64_MAX

/* The mapped record. Positions are epoch << 32 | operations of that epoch, so that one store moves both. */
struct record {
	uint64_t magic;
	uint64_t seed;
	uint64_t block_nr;
	uint64_t block_bytes;
	uint64_t thread_nr;
	uint64_t commit; /* PCACHE_COMMIT_* in force */
	uint64_t ordering;
	uint64_t atomic_max_bytes;
	_Atomic uint64_t flushed; /* epochs that ended with a flush that returned 0 */
	struct {
		_Atomic uint64_t issued;
		_Atomic uint64_t acked;
		uint64_t pad[6]; /* a cache line each */
	} thread[THREAD_MAX];
};

enum op_kind { OP_WRITE, OP_ZEROES, OP_DISCARD };

struct op {
	enum op_kind kind;
	uint32_t flags;
	uint32_t range_nr;
	struct {
		uint64_t block;
		uint64_t block_nr;
	} range[RANGE_MAX];
	uint64_t version; /* 0: zeroes */
};

static const char *cache_path;
static const char *backing_path;
static const char *record_path;
static uint64_t cache_bytes = 64u << 20;
static uint64_t backing_bytes = 256u << 20;
static uint64_t rate_bytes;
static uint64_t thread_nr = 4;
static uint64_t seed;

static const struct option options[] = {
	{ "cache", &cache_path, NULL, "cache file" },
	{ "backing", &backing_path, NULL, "backing file" },
	{ "record", &record_path, NULL, "how far the writer is" },
	{ "cache-size", NULL, &cache_bytes, "" },
	{ "backing-size", NULL, &backing_bytes, "" },
	{ "rate", NULL, &rate_bytes, "bytes per second of the backing; 0: no limit" },
	{ "threads", NULL, &thread_nr, "" },
	{ "seed", NULL, &seed, "0: random" },
	{ NULL, NULL, NULL, NULL },
};

static struct pcache_config *config;
static struct pcache *cache;
static struct record *rec;

/* ---- what is written ---- */

static uint32_t epoch_op_nr(uint64_t epoch)
{
	return 1 + (uint32_t)(mix64(rec->seed ^ (epoch << 20)) % 64);
}

/* A stripe that belongs to this thread in this epoch: it goes to another one in the next. */
static uint64_t own_stripe(struct rng *r, uint64_t epoch, uint64_t thread)
{
	uint64_t share = rec->block_nr / STRIPE_BLOCKS / rec->thread_nr;

	/* Half of the load on an eighth of the stripes, so that blocks are overwritten before they are written back. */
	if (rng_below(r, 2) == 0)
		share = share / 8 + 1;
	return rng_below(r, share) * rec->thread_nr + (thread + epoch) % rec->thread_nr;
}

static void make_op(uint64_t epoch, uint64_t thread, uint32_t idx, struct op *op)
{
	struct rng r = { mix64(rec->seed + epoch * 0x10001 + thread) + idx };
	uint64_t kind = rng_below(&r, 64);
	uint64_t max_blocks = rng_below(&r, 32) == 0 ? STRIPE_BLOCKS : 16;
	uint64_t stripe[RANGE_MAX];
	uint32_t i;

	memset(op, 0, sizeof(*op));
	op->kind = kind < 4 ? OP_ZEROES : kind < 6 ? OP_DISCARD : OP_WRITE;
	op->flags = rng_below(&r, 64) == 0 ? PCACHE_DURABLE : 0;
	op->version = op->kind == OP_WRITE ? epoch << 32 | thread << 24 | (idx + 1) : 0;
	stripe[0] = own_stripe(&r, epoch, thread);
	stripe[1] = own_stripe(&r, epoch, thread);
	op->range_nr = op->kind == OP_WRITE && kind >= 56 && stripe[0] != stripe[1] ? 2 : 1;
	for (i = 0; i < op->range_nr; i++) {
		op->range[i].block_nr = 1 + rng_below(&r, max_blocks);
		op->range[i].block =
			stripe[i] * STRIPE_BLOCKS + rng_below(&r, STRIPE_BLOCKS - op->range[i].block_nr + 1);
	}
}

/* ---- the writer ---- */

static pthread_barrier_t barrier;

static void issue(const struct op *op, char *buf)
{
	struct pcache_range ranges[RANGE_MAX];
	char *at = buf;
	uint64_t b;
	uint32_t i;

	for (i = 0; i < op->range_nr; i++) {
		ranges[i].buf = at;
		ranges[i].off = op->range[i].block * rec->block_bytes;
		ranges[i].len = op->range[i].block_nr * rec->block_bytes;
		if (op->kind != OP_WRITE)
			continue;
		for (b = 0; b < op->range[i].block_nr; b++, at += rec->block_bytes)
			block_fill(at, rec->block_bytes, op->range[i].block + b, op->version);
	}
	if (op->kind == OP_ZEROES)
		must(pcache_write_zeroes(cache, ranges[0].off, ranges[0].len, op->flags), "zeroes");
	else if (op->kind == OP_DISCARD)
		must(pcache_discard(cache, ranges[0].off, ranges[0].len, op->flags), "discard");
	else if (op->range_nr > 1)
		must(pcache_write_batch(cache, ranges, op->range_nr, op->flags), "batch");
	else
		must(pcache_write(cache, ranges[0].buf, ranges[0].off, ranges[0].len, op->flags), "write");
}

/* Reads anywhere, also what others write just now: each block must be whole. Brings clean data into the cache. */
static void read_somewhere(struct rng *r, char *buf)
{
	uint64_t block_nr = 1 + rng_below(r, STRIPE_BLOCKS);
	uint64_t block = rng_below(r, rec->block_nr - block_nr + 1);
	uint64_t version;
	uint64_t b;

	must(pcache_read(cache, buf, block * rec->block_bytes, block_nr * rec->block_bytes, 0), "read");
	for (b = 0; b < block_nr; b++)
		if (!block_parse(buf + b * rec->block_bytes, rec->block_bytes, block + b, &version))
			die("a read shows block %" PRIu64 " torn; seed=%" PRIu64, block + b, rec->seed);
}

static void *writer(void *arg)
{
	uint64_t thread = (uint64_t)(uintptr_t)arg;
	struct rng r = { mix64(rec->seed + 77 * thread) };
	char *buf = aligned_alloc(4096, (size_t)(RANGE_MAX * STRIPE_BLOCKS * rec->block_bytes));
	uint64_t epoch;

	if (buf == NULL)
		die("no memory");
	for (epoch = 0;; epoch++) {
		uint32_t op_nr = epoch_op_nr(epoch);
		uint32_t idx;

		atomic_store(&rec->thread[thread].issued, epoch << 32);
		atomic_store(&rec->thread[thread].acked, epoch << 32);
		for (idx = 0; idx < op_nr; idx++) {
			struct op op;

			make_op(epoch, thread, idx, &op);
			atomic_store(&rec->thread[thread].issued, epoch << 32 | (idx + 1));
			issue(&op, buf);
			atomic_store(&rec->thread[thread].acked, epoch << 32 | (idx + 1));
			if (rng_below(&r, 8) == 0)
				read_somewhere(&r, buf);
		}
		pthread_barrier_wait(&barrier);
		if (thread == 0) {
			must(pcache_flush(cache), "flush");
			atomic_store(&rec->flushed, epoch + 1);
		}
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

static void map_record(bool make)
{
	int fd = open(record_path, O_RDWR | O_CLOEXEC | (make ? O_CREAT | O_TRUNC : 0), 0600);

	if (fd < 0 || (make && ftruncate(fd, sizeof(*rec)) != 0))
		die("%s: cannot open", record_path);
	rec = mmap(NULL, sizeof(*rec), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (rec == MAP_FAILED)
		die("%s: cannot map", record_path);
	close(fd);
	if (!make && rec->magic != RECORD_MAGIC)
		die("%s: the writer had not begun", record_path);
}

static void open_cache(void)
{
	struct pcache_backing *backing;

	must(slow_file_new(backing_path, rate_bytes, &backing), "backing");
	must(pcache_open(cache_path, config, backing, &cache), "open");
}

static void make_all(void)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	struct pcache_backing *backing;
	int fd = open(backing_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, (off_t)backing_bytes) != 0)
		die("%s: cannot make", backing_path);
	close(fd);
	unlink(cache_path);
	must(slow_file_new(backing_path, 0, &backing), "backing");
	must(pcache_config_set(config, PCACHE_OPT_CACHE_BYTES, cache_bytes), "cache-size");
	must(pcache_format(cache_path, config, backing), "format");
	pcache_backing_free(backing);
	open_cache();
	must(pcache_info_get(cache, &info), "info");

	map_record(true);
	rec->seed = seed_or_random(seed);
	rec->block_bytes = info.block_bytes;
	rec->block_nr = backing_bytes / info.block_bytes;
	rec->thread_nr = thread_nr;
	rec->commit = info.commit;
	/* What was asked for, not what the cache says. */
	must(pcache_config_get(config, PCACHE_OPT_ORDERING, &rec->ordering), "config");
	rec->atomic_max_bytes = pcache_atomic_write_max(cache);
	rec->magic = RECORD_MAGIC;
	printf("freeze: writer of seed=%" PRIu64 " commit=%s ordering=%s crc=%u granularity=%u\n", rec->seed,
	       info.commit == PCACHE_COMMIT_WRITE ? "write" : "flush",
	       rec->ordering == PCACHE_ORDERING_STRICT ? "strict" : "batch", info.data_crc, info.granularity);
	fflush(stdout);
}

static void write_for_ever(void)
{
	pthread_t threads[THREAD_MAX];
	uint64_t i;

	if (thread_nr == 0 || thread_nr > THREAD_MAX)
		die("1 to %d threads", THREAD_MAX);
	make_all();
	pthread_barrier_init(&barrier, NULL, (unsigned)thread_nr);
	for (i = 0; i < thread_nr; i++)
		if (pthread_create(&threads[i], NULL, writer, (void *)(uintptr_t)i) != 0)
			die("no thread");
	for (i = 0; i < thread_nr; i++)
		pthread_join(threads[i], NULL);
}

/* ---- the judge ---- */

static uint64_t *seen; /* version that each block shows */

/* One issued operation, in an order that is right for each block. */
struct event {
	struct op op;
	uint64_t epoch;
	uint64_t ordinal; /* from 1 */
	bool durable;
};

typedef void (*event_fn)(const struct event *event);

/* Calls fn for each operation that was issued. A thread that just began an epoch may show `issued` of it and `acked` of the one before. */
static void replay(event_fn fn)
{
	uint64_t flushed = atomic_load(&rec->flushed);
	struct event event = { .ordinal = 0 };
	bool more = true;

	for (event.epoch = 0; more; event.epoch++) {
		uint64_t thread;

		more = false;
		for (thread = 0; thread < rec->thread_nr; thread++) {
			uint64_t issued = atomic_load(&rec->thread[thread].issued);
			uint64_t acked = atomic_load(&rec->thread[thread].acked);
			uint32_t op_nr = issued >> 32 > event.epoch    ? epoch_op_nr(event.epoch)
					 : issued >> 32 == event.epoch ? (uint32_t)issued
								       : 0;
			uint32_t idx;

			more |= issued >> 32 > event.epoch;
			for (idx = 0; idx < op_nr; idx++) {
				bool was_acked = acked >> 32 > event.epoch ||
						 (acked >> 32 == event.epoch && idx < (uint32_t)acked);

				make_op(event.epoch, thread, idx, &event.op);
				event.ordinal++;
				event.durable = event.epoch < flushed ||
						(was_acked && (rec->commit == PCACHE_COMMIT_WRITE ||
							       (event.op.flags & PCACHE_DURABLE) != 0));
				fn(&event);
			}
		}
	}
}

#define for_each_block(event, block) \
	for (uint32_t i_ = 0; i_ < (event)->op.range_nr; i_++) \
		for (uint64_t block = (event)->op.range[i_].block; \
		     block < (event)->op.range[i_].block + (event)->op.range[i_].block_nr; block++)

static uint8_t *allowed; /* the version that the block shows is its newest durable one, or was issued later */
static uint64_t *seen_ordinal; /* event that the block shows; of zeroes the last one */
static uint64_t broken_nr;

static void judge_version(const struct event *event)
{
	for_each_block(event, block) {
		bool same = seen[block] == event->op.version;

		if (event->durable)
			allowed[block] = same;
		else
			allowed[block] |= (uint8_t)same;
		if (same)
			seen_ordinal[block] = event->ordinal;
	}
}

static void judge_atomic(const struct event *event)
{
	bool shows = false;

	if (event->op.version == 0)
		return; /* zeroes of two events look the same */
	for_each_block(event, block)
		shows |= seen_ordinal[block] == event->ordinal;
	if (!shows)
		return;
	for_each_block(event, block)
		if (seen_ordinal[block] < event->ordinal && broken_nr++ < 10)
			fprintf(stderr, "block %" PRIu64 " misses a write of epoch %" PRIu64 " that shows elsewhere\n",
				block, event->epoch);
}

static void read_all(int fd)
{
	uint64_t step_blocks = (1u << 20) / rec->block_bytes;
	char *buf = aligned_alloc(4096, 1u << 20);
	uint64_t block;
	uint64_t b;

	if (buf == NULL)
		die("no memory");
	for (block = 0; block < rec->block_nr; block += step_blocks) {
		if (fd >= 0 && pread(fd, buf, 1u << 20, (off_t)(block * rec->block_bytes)) != 1 << 20)
			die("%s: cannot read", backing_path);
		if (fd < 0)
			must(pcache_read(cache, buf, block * rec->block_bytes, 1u << 20, PCACHE_NOCACHE), "read");
		for (b = 0; b < step_blocks; b++)
			if (!block_parse(buf + b * rec->block_bytes, rec->block_bytes, block + b, &seen[block + b]))
				die("%s: block %" PRIu64 " is torn; seed=%" PRIu64, fd < 0 ? "cache" : "backing alone",
				    block + b, rec->seed);
	}
	free(buf);
}

static void judge_cache(void)
{
	uint64_t block;

	read_all(-1);
	for (block = 0; block < rec->block_nr; block++) {
		allowed[block] = seen[block] == 0;
		seen_ordinal[block] = 0;
	}
	replay(judge_version);
	for (block = 0; block < rec->block_nr; block++)
		if (allowed[block] == 0 && broken_nr++ < 10)
			fprintf(stderr,
				"block %" PRIu64 " shows version %" PRIx64
				", which is not its newest durable one or later\n",
				block, seen[block]);
	replay(judge_atomic);
	if (broken_nr != 0)
		die("the cache broke %" PRIu64 " promises; seed=%" PRIu64, broken_nr, rec->seed);
}

/*
 * The backing alone. A block that shows a version of epoch a, whose next version is of epoch b, says: a <= e <= b. A block of
 * zeroes says so for each of its zero versions: `mask` collects them for the 64 values of e from the lowest one that the others allow.
 */
static uint64_t e_low;
static uint64_t e_high;
static uint64_t *open_from; /* block of zeroes: epoch of the zero version that replay is in, or EPOCH_NONE */
static uint64_t *mask;

static void judge_versioned(const struct event *event)
{
	for_each_block(event, block) {
		if (seen[block] == 0)
			continue;
		if (seen[block] == event->op.version) {
			seen_ordinal[block] = event->ordinal;
			if (e_low < event->epoch)
				e_low = event->epoch;
		} else if (seen_ordinal[block] != 0) {
			if (seen_ordinal[block] != UINT64_MAX && e_high > event->epoch)
				e_high = event->epoch;
			seen_ordinal[block] = UINT64_MAX; /* only the next one counts */
		}
	}
}

static uint64_t interval_mask(uint64_t from, uint64_t to)
{
	uint64_t bits = 0;
	uint64_t e;

	for (e = e_low; e < e_low + 64; e++)
		if (e >= from && e <= to)
			bits |= (uint64_t)1 << (e - e_low);
	return bits;
}

static void judge_zeroes(const struct event *event)
{
	for_each_block(event, block) {
		if (seen[block] != 0)
			continue;
		if (event->op.version == 0) {
			if (open_from[block] == EPOCH_NONE)
				open_from[block] = event->epoch;
		} else if (open_from[block] != EPOCH_NONE) {
			mask[block] |= interval_mask(open_from[block], event->epoch);
			open_from[block] = EPOCH_NONE;
		}
	}
}

static void judge_backing(void)
{
	int fd = open(backing_path, O_RDONLY | O_CLOEXEC);
	uint64_t common;
	uint64_t block;

	if (fd < 0)
		die("%s: cannot open", backing_path);
	read_all(fd);
	close(fd);
	e_low = 0;
	e_high = UINT64_MAX;
	memset(seen_ordinal, 0, (size_t)rec->block_nr * sizeof(*seen_ordinal));
	replay(judge_versioned);
	for (block = 0; block < rec->block_nr; block++) {
		if (seen[block] != 0 && seen_ordinal[block] == 0)
			die("backing alone: block %" PRIu64 " shows version %" PRIx64
			    ", which was never issued; seed=%" PRIu64,
			    block, seen[block], rec->seed);
		open_from[block] = 0;
		mask[block] = 0;
	}
	replay(judge_zeroes);
	common = interval_mask(e_low, e_high);
	for (block = 0; block < rec->block_nr; block++) {
		if (seen[block] == 0 && open_from[block] != EPOCH_NONE)
			mask[block] |= interval_mask(open_from[block], UINT64_MAX);
		if (seen[block] == 0)
			common &= mask[block];
	}
	if (common == 0)
		die("backing alone: shows epoch %" PRIu64 ", but not all of those before (%" PRIu64
		    " is the last it could be); seed=%" PRIu64,
		    e_low, e_high, rec->seed);
	printf("backing=epoch %" PRIu64 " of %" PRIu64 "\n", e_low, (uint64_t)rec->flushed);
}

/* After a drain the backing is what the cache showed. */
static void judge_drained(void)
{
	uint64_t *shown = seen;
	int fd = open(backing_path, O_RDONLY | O_CLOEXEC);
	uint64_t block;

	seen = calloc((size_t)rec->block_nr, sizeof(*seen));
	if (fd < 0 || seen == NULL)
		die("%s: cannot open", backing_path);
	read_all(fd);
	close(fd);
	for (block = 0; block < rec->block_nr; block++)
		if (seen[block] != shown[block])
			die("after the drain block %" PRIu64 " of the backing differs; seed=%" PRIu64, block,
			    rec->seed);
	free(shown);
}

static void judge(bool with_cache)
{
	map_record(false);
	seen = calloc((size_t)rec->block_nr, sizeof(*seen));
	seen_ordinal = calloc((size_t)rec->block_nr, sizeof(*seen_ordinal));
	open_from = calloc((size_t)rec->block_nr, sizeof(*open_from));
	mask = calloc((size_t)rec->block_nr, sizeof(*mask));
	allowed = calloc((size_t)rec->block_nr, 1);
	if (seen == NULL || seen_ordinal == NULL || open_from == NULL || mask == NULL || allowed == NULL)
		die("no memory");
	if (rec->ordering == PCACHE_ORDERING_STRICT)
		judge_backing();
	if (with_cache) {
		struct pcache_info info = { .struct_bytes = sizeof(info) };

		open_cache();
		must(pcache_info_get(cache, &info), "info");
		printf("dirty_bytes=%" PRIu64 "\n", info.dirty_bytes);
		judge_cache();
		must(pcache_drain(cache, NULL, NULL), "drain");
		judge_drained();
		must(pcache_close(cache), "close");
	}
	free(seen);
	free(seen_ordinal);
	free(open_from);
	free(mask);
	free(allowed);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (strcmp(what, "write") != 0 && strcmp(what, "verify") != 0 && strcmp(what, "backing") != 0)
		die("usage: pcache-freeze write|verify|backing cache=PATH backing=PATH record=PATH [key=value ...]");
	must(pcache_config_new(&config), "config");
	must(pcache_config_set_log(config, log_line, NULL), "config");
	parse_options(argv + 2, options, config);
	if (backing_path == NULL || record_path == NULL || (cache_path == NULL && strcmp(what, "backing") != 0))
		die("cache, backing and record are required");
	if (strcmp(what, "write") == 0)
		write_for_ever();
	else
		judge(strcmp(what, "verify") == 0);
	pcache_config_free(config);
	return 0;
}
