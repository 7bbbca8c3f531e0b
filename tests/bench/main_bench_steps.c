/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-bench-steps DIR [BLOCK-BYTES [KEYS [SECONDS]]]: where the nanoseconds of a write and of a read go.
 *
 * Each row does what the row before does and one step more, with the library's own parts, but bare: no choice of room, no arguments to check, nobody else. The last row is the whole call.
 * Slices of all rows alternate; printed are medians, with the least and the greatest, and what the step adds. Steps are no sum of costs: what runs in the shadow of stores that drain adds
 * nothing, and a locked instruction in the wrong place adds a whole drain.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/index.h"
#include "media/media.h"
#include "system/stress.h"

#define SLICE_NS UINT64_C(20000000)
#define ROUNDS_MAX 500u
#define SHARD_NR 64u
#define SLOT_BYTES 64u
#define SLOT_AREA_BYTES (UINT64_C(1) << 20)
#define MEDIA_BYTES (UINT64_C(1) << 30)
#define BLOCK_UNIT 512u

struct bench {
	struct pc_media *media;
	struct pc_index *index;
	struct pcache *cache;
	uint64_t key_nr;
	size_t len;
	uint64_t random;
	uint64_t data_off; /* next place for data */
	uint64_t slot_off;
	_Alignas(64) _Atomic uint64_t head;
	_Alignas(64) _Atomic uint64_t in_flight;
	uint8_t *buf;
	uint8_t slot[SLOT_BYTES];
};

static uint64_t next_key(struct bench *bench)
{
	bench->random ^= bench->random << 13;
	bench->random ^= bench->random >> 7;
	bench->random ^= bench->random << 17;
	return (uint64_t)((unsigned __int128)bench->random * bench->key_nr >> 64);
}

static uint64_t next_place(struct bench *bench)
{
	bench->data_off += bench->len;
	if (bench->data_off + bench->len > MEDIA_BYTES)
		bench->data_off = SLOT_AREA_BYTES;
	return bench->data_off;
}

/* ---- writes, one step more each ------------------------------------------------------------------------------------ */

#define STEP_SLOT 1u
#define STEP_CRC 2u
#define STEP_LOCK 4u
#define STEP_POSITION 8u
#define STEP_INDEX 16u

static void put_slot(struct bench *bench, uint32_t crc)
{
	memcpy(bench->slot, &crc, sizeof(crc));
	bench->slot_off = (bench->slot_off + SLOT_BYTES) % SLOT_AREA_BYTES;
	pc_media_copy(bench->media, bench->slot_off, bench->slot, SLOT_BYTES);
}

static void take_position(struct bench *bench)
{
	uint64_t head = atomic_load_explicit(&bench->head, memory_order_acquire);

	do
		atomic_store_explicit(&bench->in_flight, head, memory_order_release);
	while (!atomic_compare_exchange_weak(&bench->head, &head, head + 1));
}

static void insert(struct bench *bench, uint64_t block, uint64_t mask, uint32_t crc)
{
	struct pc_extent extent = { .vol_blk = block,
				    .pos = bench->head,
				    .len_blk = (uint32_t)(bench->len / BLOCK_UNIT),
				    .crc = crc,
				    .flags = PC_EXT_DIRTY };

	if (pc_index_reserve_locked(bench->index, mask, 2))
		die("no memory");
	pc_index_insert_locked(bench->index, &extent, NULL, NULL);
}

static inline __attribute__((always_inline)) void write_steps(struct bench *bench, unsigned int steps)
{
	uint64_t block = next_key(bench) * (bench->len / BLOCK_UNIT), place = next_place(bench), mask = 0;
	uint32_t crc = 0;

	memcpy(bench->buf, &bench->random, sizeof(bench->random));
	if (steps & STEP_LOCK) {
		mask = pc_index_mask(bench->index, block, bench->len / BLOCK_UNIT);
		pc_index_lock(bench->index, mask);
	}
	if (steps & STEP_INDEX)
		pc_index_prefetch_locked(bench->index, block);
	if (steps & STEP_POSITION)
		take_position(bench);
	if (steps & STEP_CRC)
		crc = pc_media_copy_crc(bench->media, place, bench->buf, bench->len);
	else
		pc_media_copy(bench->media, place, bench->buf, bench->len);
	if (steps & STEP_SLOT)
		put_slot(bench, crc);
	/* Order: data and slot before the next write, as a durable write promises. */
	pc_media_fence(bench->media);
	if (steps & STEP_POSITION)
		atomic_store_explicit(&bench->in_flight, UINT64_MAX, memory_order_release);
	if (steps & STEP_INDEX)
		insert(bench, block, mask, crc);
	if (steps & STEP_LOCK)
		pc_index_unlock(bench->index, mask);
}

static void write_copy(struct bench *bench)
{
	write_steps(bench, 0);
}

static void write_slot(struct bench *bench)
{
	write_steps(bench, STEP_SLOT);
}

static void write_crc(struct bench *bench)
{
	write_steps(bench, STEP_SLOT | STEP_CRC);
}

static void write_lock(struct bench *bench)
{
	write_steps(bench, STEP_SLOT | STEP_CRC | STEP_LOCK);
}

static void write_position(struct bench *bench)
{
	write_steps(bench, STEP_SLOT | STEP_CRC | STEP_LOCK | STEP_POSITION);
}

static void write_index(struct bench *bench)
{
	write_steps(bench, STEP_SLOT | STEP_CRC | STEP_LOCK | STEP_POSITION | STEP_INDEX);
}

static void write_whole(struct bench *bench)
{
	uint64_t off = next_key(bench) * bench->len;

	memcpy(bench->buf, &bench->random, sizeof(bench->random));
	must(pcache_write(bench->cache, bench->buf, off, bench->len, 0), "write");
}

/* ---- reads ------------------------------------------------------------------------------------------------------------ */

/* Data lies at random, as it does when it was written at random. */
static uint64_t random_place(struct bench *bench)
{
	return SLOT_AREA_BYTES +
	       next_key(bench) * bench->len % (MEDIA_BYTES - SLOT_AREA_BYTES - bench->len) / bench->len * bench->len;
}

static void read_copy(struct bench *bench)
{
	(void)pc_media_load(bench->media, random_place(bench), bench->buf, bench->len);
}

static void read_crc(struct bench *bench)
{
	uint64_t place = random_place(bench);
	uint32_t crc;

	for (size_t at = 0; at < bench->len; at += 4096)
		(void)pc_media_load_crc(bench->media, place + at, bench->buf + at,
					bench->len - at < 4096 ? bench->len - at : 4096, &crc);
}

static void read_lookup(struct bench *bench)
{
	uint64_t block = next_key(bench) * (bench->len / BLOCK_UNIT), mask;
	struct pc_extent extents[4];
	uint32_t crc;

	mask = pc_index_mask(bench->index, block, bench->len / BLOCK_UNIT);
	pc_index_lock(bench->index, mask);
	(void)pc_index_lookup_locked(bench->index, block, bench->len / BLOCK_UNIT, extents, 4);
	pc_index_unlock(bench->index, mask);
	(void)pc_media_load_crc(bench->media, random_place(bench), bench->buf, bench->len < 4096 ? bench->len : 4096,
				&crc);
}

static void read_whole(struct bench *bench)
{
	must(pcache_read(bench->cache, bench->buf, next_key(bench) * bench->len, bench->len, 0), "read");
}

/* ---- measuring -------------------------------------------------------------------------------------------------------- */

struct row {
	const char *name;
	void (*step)(struct bench *bench);
	double ns[ROUNDS_MAX];
};

static struct row writes[] = {
	{ .name = "data past the CPU caches, fence", .step = write_copy },
	{ .name = "+ slot of 64 bytes, same fence", .step = write_slot },
	{ .name = "+ CRC of the data", .step = write_crc },
	{ .name = "+ lock of one shard", .step = write_lock },
	{ .name = "+ position in the log", .step = write_position },
	{ .name = "+ insert into the index", .step = write_index },
	{ .name = "pcache_write", .step = write_whole },
};

static struct row reads[] = {
	{ .name = "data out of the mapping", .step = read_copy },
	{ .name = "+ CRC in the same pass", .step = read_crc },
	{ .name = "+ lock, lookup, unlock", .step = read_lookup },
	{ .name = "pcache_read", .step = read_whole },
};

static double run_slice(struct bench *bench, const struct row *row)
{
	uint64_t begin_ns = now_ns(), ns, ops = 0;

	do {
		for (unsigned int i = 0; i < 64; i++)
			row->step(bench);
		ops += 64;
		ns = now_ns() - begin_ns;
	} while (ns < SLICE_NS);
	return (double)ns / (double)ops;
}

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return a < b ? -1 : a > b;
}

static void measure(struct bench *bench, const char *what, struct row *rows, size_t row_nr, double seconds)
{
	uint32_t round_nr = (uint32_t)(seconds * 1e9 / (double)(SLICE_NS * row_nr)), round;
	double before = 0;

	round_nr = round_nr < 5 ? 5 : round_nr > ROUNDS_MAX ? ROUNDS_MAX : round_nr;
	for (round = 0; round <= round_nr; round++)
		for (size_t i = 0; i < row_nr; i++)
			rows[i].ns[round ? round - 1 : 0] = run_slice(bench, &rows[i]);
	printf("\n%-36s %9s %18s %9s\n", what, "ns", "(least to most)", "adds");
	for (size_t i = 0; i < row_nr; i++) {
		double median;
		char spread[40];

		qsort(rows[i].ns, round_nr, sizeof(double), compare);
		median = rows[i].ns[round_nr / 2];
		snprintf(spread, sizeof(spread), "(%.0f to %.0f)", rows[i].ns[0], rows[i].ns[round_nr - 1]);
		printf("  %-34s %9.0f %18s %+9.0f\n", rows[i].name, median, spread, median - before);
		before = median;
	}
}

/* ---- construction ----------------------------------------------------------------------------------------------------- */

static int back_read(void *user, void *buf, uint64_t off, uint64_t len)
{
	(void)user, (void)off;
	memset(buf, 0, len);
	return 0;
}

static int back_write(void *user, const void *buf, uint64_t off, uint64_t len)
{
	(void)user, (void)buf, (void)off, (void)len;
	return 0;
}

static void open_media(struct bench *bench, const char *dir)
{
	const struct pc_msg msg = { 0 };
	char path[4096];

	snprintf(path, sizeof(path), "%s/pcache-steps-%ld", dir, (long)getpid());
	must(pc_media_open(path, PC_MEDIA_CREATE, &msg, &bench->media), path);
	must(pc_media_allocate(bench->media, MEDIA_BYTES), path);
	must(pc_media_map(bench->media), path);
	(void)unlink(path);
	for (uint64_t off = 0; off < MEDIA_BYTES; off += 4096)
		pc_media_copy(bench->media, off, bench->buf, 4096);
}

static void open_cache(struct bench *bench, const char *dir)
{
	const struct pcache_backing_ops ops = { .struct_bytes = sizeof(ops),
						.size_bytes = (bench->key_nr * bench->len + 4095) & ~UINT64_C(4095),
						.read = back_read,
						.write = back_write };
	struct pcache_backing *backing;
	struct pcache_config *config;
	char path[4096];

	snprintf(path, sizeof(path), "%s/pcache-steps-%ld.cache", dir, (long)getpid());
	must(pcache_backing_new(&ops, NULL, &backing), "backing");
	must(pcache_config_new(&config), "config");
	must(pcache_config_set(config, PCACHE_OPT_CACHE_BYTES, 3 * bench->key_nr * bench->len + (UINT64_C(256) << 20)),
	     "size");
	must(pcache_config_set(config, PCACHE_OPT_WRITEBACK_DELAY_MS, 3600000), "delay");
	must(pcache_format(path, config, backing), path);
	must(pcache_open(path, config, backing, &bench->cache), path);
	(void)unlink(path);
	pcache_config_free(config);
	for (uint64_t i = 0; i < 3 * bench->key_nr; i++) /* through the cache once */
		write_whole(bench);
	for (uint64_t i = 0; i < bench->key_nr; i++)
		must(pcache_write(bench->cache, bench->buf, i * bench->len, bench->len, 0), "write");
}

int main(int argc, char **argv)
{
	static struct bench bench = { .random = 88172645463325252u, .key_nr = 131072, .len = 4096 };
	struct pc_index_params params = { .shard_nr = SHARD_NR,
					  .stripe_blk = 2048,
					  .segment_nr = 128,
					  .segment_blk = 32768,
					  .slot_nr = UINT64_C(1) << 32 };
	double seconds = 4;

	if (argc < 2 || argc > 5)
		die("usage: pcache-bench-steps DIR [BLOCK-BYTES [KEYS [SECONDS]]]");
	if (argc > 2)
		bench.len = strtoull(argv[2], NULL, 10);
	if (argc > 3)
		bench.key_nr = strtoull(argv[3], NULL, 10);
	if (argc > 4)
		seconds = strtod(argv[4], NULL);
	if (bench.len == 0 || bench.len % BLOCK_UNIT || bench.len > 4096 || bench.key_nr == 0)
		die("BLOCK-BYTES is a multiple of 512 up to 4096, KEYS at least 1");
	params.volume_blk = bench.key_nr * bench.len / BLOCK_UNIT;
	setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 0);
	bench.buf = aligned_alloc(4096, 4096);
	if (!bench.buf || pc_index_new(&params, &bench.index))
		die("no memory");
	memset(bench.buf, 0x77, 4096);
	open_media(&bench, argv[1]);
	open_cache(&bench, argv[1]);
	for (uint64_t i = 0; i < 4 * bench.key_nr; i++)
		write_index(&bench);
	printf("blocks of %zu bytes, %llu keys\n", bench.len, (unsigned long long)bench.key_nr);
	measure(&bench, "write, durable on return", writes, sizeof(writes) / sizeof(*writes), seconds);
	measure(&bench, "read of a hit", reads, sizeof(reads) / sizeof(*reads), seconds);
	must(pcache_close(bench.cache), "close");
	pc_media_close(bench.media);
	pc_index_free(bench.index);
	free(bench.buf);
	return 0;
}
