/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Churn: a small cache before a large backing takes many times its size of random writes, zeroes, discards and reads of all lengths
 * from several threads, and must come through without an error, a deadlock or a byte that is wrong.
 *
 *   pcache-churn run cache=PATH backing=PATH oracle=PATH [key=value ...]     make both, load, verify, close
 *   pcache-churn verify cache=PATH backing=PATH oracle=PATH [key=value ...]  open again, verify, drain, verify the backing alone
 *
 * Between the two the caller can look at the cache with `pcache check`. The oracle is a mapped file with the version of each block, so that
 * the second program knows what the first one wrote. A request holds the locks of the stripes that it touches, so its
 * blocks have one right version; requests of different stripes run at once. A watchdog ends the program when no request completes
 * for a minute: that is a deadlock, and the counters of the cache are printed for it.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../examples/common/slow_file.h"
#include "system/stress.h"

#define STRIPE_BYTES (1u << 20)
#define REQUEST_MAX_BYTES (100u << 10)
#define VERIFY_BYTES (1u << 20)

static const char *cache_path;
static const char *backing_path;
static const char *oracle_path;
static uint64_t cache_bytes = 64u << 20; /* 0: the smallest that format accepts */
static uint64_t backing_bytes = 1u << 30;
static uint64_t write_bytes = 256u << 20;
static uint64_t rate_bytes;
static uint64_t thread_nr = 4;
static uint64_t stall_s = 60;
static uint64_t seed;
static uint64_t block_bytes; /* of the cache, from the config */

static const struct option options[] = {
	{ "cache", &cache_path, NULL, "cache file" },
	{ "backing", &backing_path, NULL, "backing file" },
	{ "oracle", &oracle_path, NULL, "file with the version of each block" },
	{ "cache-size", NULL, &cache_bytes, "0: the smallest that format accepts" },
	{ "backing-size", NULL, &backing_bytes, "" },
	{ "write-bytes", NULL, &write_bytes, "bytes to write in all" },
	{ "rate", NULL, &rate_bytes, "bytes per second of the backing; 0: no limit" },
	{ "threads", NULL, &thread_nr, "" },
	{ "stall-s", NULL, &stall_s, "seconds without progress that count as a deadlock" },
	{ "seed", NULL, &seed, "0: random" },
	{ NULL, NULL, NULL, NULL },
};

static struct pcache_config *config;
static struct pcache *cache;
static uint32_t *oracle; /* version of each block; guarded by the lock of its stripe */
static pthread_mutex_t *stripe_locks;
static _Atomic uint64_t written_bytes;
static _Atomic uint64_t op_nr; /* finished; what the watchdog watches */
static _Atomic uint32_t version_nr; /* versions drawn */
static atomic_bool done;

static void print_counters(FILE *to)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };

	must(pcache_info_get(cache, &info), "info");
	fprintf(to,
		"  ops=%" PRIu64 " written=%" PRIu64 "M writeback=%" PRIu64 "M full_waits=%" PRIu64 " evicted=%" PRIu64
		" cleaned=%" PRIu64 " dirty=%" PRIu64 "K segments=%" PRIu64 " free=%" PRIu64 " log=%" PRIu64
		" extents=%" PRIu64 " hit=%" PRIu64 "M miss=%" PRIu64 "M flags=%u\n",
		(uint64_t)op_nr, (uint64_t)written_bytes >> 20, info.writeback_bytes >> 20, info.full_waits,
		info.evicted_segments, info.cleaned_segments, info.dirty_bytes >> 10, info.segments, info.segments_free,
		info.segments_log, info.extents, info.hit_bytes >> 20, info.miss_bytes >> 20, info.state_flags);
}

static void *watchdog(void *arg)
{
	uint64_t last = 0;
	uint64_t still_s = 0;

	(void)arg;
	while (!done) {
		uint64_t current = op_nr;

		sleep(1);
		still_s = current == last ? still_s + 1 : 0;
		last = current;
		if (still_s >= stall_s) {
			fprintf(stderr, "FAILED: no request completed for %" PRIu64 " s; seed=%" PRIu64 "\n", stall_s,
				seed);
			print_counters(stderr);
			abort();
		}
	}
	return NULL;
}

static void lock_range(uint64_t off, uint64_t len, bool lock)
{
	uint64_t stripe;

	for (stripe = off / STRIPE_BYTES; stripe <= (off + len - 1) / STRIPE_BYTES; stripe++) {
		if (lock)
			pthread_mutex_lock(&stripe_locks[stripe]);
		else
			pthread_mutex_unlock(&stripe_locks[stripe]);
	}
}

/* Compares what was read with the oracle. */
static void compare(const char *where, const char *buf, uint64_t off, uint64_t len)
{
	uint64_t at;

	for (at = 0; at < len; at += block_bytes) {
		uint64_t block = (off + at) / block_bytes;
		uint64_t version = 0;
		bool whole = block_parse(buf + at, block_bytes, block, &version);

		if (!whole || version != oracle[block])
			die("%s: block %" PRIu64 " of %" PRIu64 " bytes is %s version %" PRIu64
			    ", not version %u; seed=%" PRIu64,
			    where, block, block_bytes, whole ? "the whole" : "a torn", version, oracle[block], seed);
	}
}

static void do_write(char *buf, uint64_t off, uint64_t len, uint32_t flags)
{
	uint32_t version = atomic_fetch_add(&version_nr, 1) + 1;
	uint64_t at;

	for (at = 0; at < len; at += block_bytes)
		block_fill(buf + at, block_bytes, (off + at) / block_bytes, version);
	must(pcache_write(cache, buf, off, len, flags), "write");
	for (at = 0; at < len; at += block_bytes)
		oracle[(off + at) / block_bytes] = version;
	atomic_fetch_add(&written_bytes, len);
}

static void do_zero(uint64_t off, uint64_t len, bool discard)
{
	uint64_t at;

	must(discard ? pcache_discard(cache, off, len, 0) : pcache_write_zeroes(cache, off, len, 0),
	     discard ? "discard" : "zeroes");
	for (at = 0; at < len; at += block_bytes)
		oracle[(off + at) / block_bytes] = 0;
}

/* Half of the requests are multiples of 4 KiB, half of the block; half go to a sixteenth of the backing, so that they overlap. */
static void pick_range(struct rng *r, uint64_t *out_off, uint64_t *out_len)
{
	uint64_t unit = rng_below(r, 2) == 0 ? 4096 : block_bytes;
	uint64_t area_bytes = rng_below(r, 2) == 0 ? backing_bytes / 16 : backing_bytes;
	uint64_t max_units = REQUEST_MAX_BYTES / unit;
	uint64_t len = unit * (1 + rng_below(r, rng_below(r, 4) == 0 ? max_units : max_units / 8 + 1));

	*out_len = len;
	*out_off = unit * rng_below(r, (area_bytes - len) / unit + 1);
}

static void *load(void *arg)
{
	struct rng r = { mix64(seed + 1 + (uint64_t)(uintptr_t)arg) };
	char *buf = aligned_alloc(4096, REQUEST_MAX_BYTES);

	if (buf == NULL)
		die("no memory");
	while (atomic_load(&written_bytes) < write_bytes) {
		uint64_t kind = rng_below(&r, 1000);
		uint64_t off;
		uint64_t len;

		pick_range(&r, &off, &len);
		lock_range(off, len, true);
		if (kind < 700) {
			do_write(buf, off, len, kind < 7 ? PCACHE_DURABLE : 0);
		} else if (kind < 940) {
			must(pcache_read(cache, buf, off, len, kind < 720 ? PCACHE_NOCACHE : 0), "read");
			compare("read", buf, off, len);
		} else if (kind < 990) {
			do_zero(off, len, kind < 965);
		}
		lock_range(off, len, false);
		if (kind >= 990)
			must(pcache_flush(cache), "flush");
		atomic_fetch_add(&op_nr, 1);
	}
	free(buf);
	return NULL;
}

static void verify_cache(void)
{
	char *buf = aligned_alloc(4096, VERIFY_BYTES);
	uint64_t off;

	if (buf == NULL)
		die("no memory");
	for (off = 0; off < backing_bytes; off += VERIFY_BYTES) {
		must(pcache_read(cache, buf, off, VERIFY_BYTES, PCACHE_NOCACHE), "read");
		compare("cache", buf, off, VERIFY_BYTES);
		atomic_fetch_add(&op_nr, 1);
	}
	free(buf);
}

static int drain_progress(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
	(void)user;
	(void)done_bytes;
	(void)total_bytes;
	atomic_fetch_add(&op_nr, 1);
	return 0;
}

static void verify_backing(void)
{
	char *buf = aligned_alloc(4096, VERIFY_BYTES);
	int fd = open(backing_path, O_RDONLY | O_CLOEXEC);
	uint64_t off;

	if (buf == NULL || fd < 0)
		die("%s: cannot open", backing_path);
	for (off = 0; off < backing_bytes; off += VERIFY_BYTES) {
		if (pread(fd, buf, VERIFY_BYTES, (off_t)off) != VERIFY_BYTES)
			die("%s: cannot read", backing_path);
		compare("backing alone", buf, off, VERIFY_BYTES);
	}
	close(fd);
	free(buf);
}

static void map_oracle(bool make)
{
	size_t oracle_bytes = (size_t)(backing_bytes / block_bytes * sizeof(*oracle));
	int fd = open(oracle_path, O_RDWR | O_CLOEXEC | (make ? O_CREAT | O_TRUNC : 0), 0600);

	if (fd < 0 || (make && ftruncate(fd, (off_t)oracle_bytes) != 0))
		die("%s: cannot open", oracle_path);
	oracle = mmap(NULL, oracle_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (oracle == MAP_FAILED)
		die("%s: cannot map", oracle_path);
	close(fd);
}

static void make_backing(void)
{
	int fd = open(backing_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, (off_t)backing_bytes) != 0)
		die("%s: cannot make", backing_path);
	close(fd);
}

static void format_cache(void)
{
	struct pcache_backing *backing;

	if (cache_bytes == 0)
		cache_bytes = pcache_format_min_bytes((uint32_t)block_bytes);
	unlink(cache_path);
	must(slow_file_new(backing_path, 0, &backing), "backing");
	must(pcache_config_set(config, PCACHE_OPT_CACHE_BYTES, cache_bytes), "cache-size");
	must(pcache_format(cache_path, config, backing), "format");
	pcache_backing_free(backing);
}

static void open_cache(void)
{
	struct pcache_backing *backing;

	must(slow_file_new(backing_path, rate_bytes, &backing), "backing");
	must(pcache_open(cache_path, config, backing, &cache), "open");
}

static void run(void)
{
	pthread_t threads[64];
	uint64_t start_ns = now_ns();
	uint64_t i;

	for (i = 0; i < thread_nr; i++)
		if (pthread_create(&threads[i], NULL, load, (void *)(uintptr_t)i) != 0)
			die("no thread");
	for (i = 0; i < thread_nr; i++)
		pthread_join(threads[i], NULL);
	printf("churn: %" PRIu64 " MiB through a cache of %" PRIu64 " KiB in %.1f s, seed=%" PRIu64 "\n",
	       (uint64_t)written_bytes >> 20, cache_bytes >> 10, (double)(now_ns() - start_ns) / 1e9, seed);
	if (rate_bytes == 0)
		verify_cache(); /* else it would take minutes; `verify` does it without the limit */
	print_counters(stdout);
}

int main(int argc, char **argv)
{
	bool make = argc > 1 && strcmp(argv[1], "run") == 0;
	pthread_t watchdog_thread;
	uint64_t i;

	if (argc < 2 || (!make && strcmp(argv[1], "verify") != 0))
		die("usage: pcache-churn run|verify cache=PATH backing=PATH oracle=PATH [key=value ...]");
	must(pcache_config_new(&config), "config");
	must(pcache_config_set_log(config, log_line, NULL), "config");
	parse_options(argv + 2, options, config);
	if (cache_path == NULL || backing_path == NULL || oracle_path == NULL || thread_nr == 0 || thread_nr > 64 ||
	    backing_bytes % VERIFY_BYTES != 0 || backing_bytes < 16 * VERIFY_BYTES)
		die("cache, backing and oracle are required; 1 to 64 threads; a backing of whole MiB, at least 16");
	must(pcache_config_get(config, PCACHE_OPT_BLOCK_BYTES, &block_bytes), "config");
	seed = seed_or_random(seed);

	stripe_locks = calloc((size_t)(backing_bytes / STRIPE_BYTES), sizeof(*stripe_locks));
	if (stripe_locks == NULL)
		die("no memory");
	for (i = 0; i < backing_bytes / STRIPE_BYTES; i++)
		pthread_mutex_init(&stripe_locks[i], NULL);
	map_oracle(make);
	if (make) {
		make_backing();
		format_cache();
	}
	if (pthread_create(&watchdog_thread, NULL, watchdog, NULL) != 0)
		die("no thread");
	open_cache();
	if (make) {
		run();
	} else {
		verify_cache();
		must(pcache_drain(cache, drain_progress, NULL), "drain");
		verify_backing();
		verify_cache();
	}
	done = true;
	pthread_join(watchdog_thread, NULL); /* it looks at the cache */
	must(pcache_close(cache), "close");
	pcache_config_free(config);
	free(stripe_locks);
	return 0;
}
