/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the index costs, alone: nanoseconds per insertion, overwrite and look-up, bytes of DRAM per extent. Each operation is done as a write does
 * it: lock, prefetch, reserve, insert, unlock, on one thread. The columns "limit" and "write": data and slot stored past the caches and fenced, alone, and between prefetch and
 * insertion of an overwrite: how much of the index the stores hide.
 *
 *     pcache-bench-index [--extents N] [--bs 512|4096] [--order random|sequential] [--space-bytes N] [--ops N] [--seed N] [--quick]
 *
 * Without --extents it runs a table of sizes. Extents lie in an own slot of the space each, at a random block of the slot.
 */
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "index/index.h"

#define BLOCK_BYTES 512u
#define STRIPE_BYTES (4u << 20)
#define SEG_BLK 32768u
#define SLICE_NR 5u
#define SLOT_BYTES 64u
#define DATA_BYTES ((size_t)256 << 20)

struct run {
	uint64_t extent_nr; /* power of two */
	uint64_t space_bytes;
	uint64_t op_nr; /* of each phase after the fill */
	uint64_t seed;
	uint32_t bs_bytes;
	uint32_t block_bytes;
	bool sequential;
};

static uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* A permutation of [0, nr), nr a power of two. */
static uint64_t permute(uint64_t i, uint64_t nr, uint64_t seed)
{
	uint32_t shift = (uint32_t)__builtin_ctzll(nr) / 2 + 1;

	for (uint32_t round = 0; round < 4; round++) {
		i = (i * (mix(seed + round) | 1) + round) & (nr - 1);
		i ^= i >> shift;
	}
	return i;
}

struct bench {
	struct run run;
	struct pc_index *index;
	uint64_t slot_blk;
	uint64_t media_blk; /* blocks of the cache */
	uint32_t len_blk;
	uint64_t pos;
	uint64_t displaced_blk;
	uint64_t stored_nr;
	uint64_t round;
	char *buf; /* DATA_BYTES: what stands in for persistent memory */
};

/* Data and a slot of the log, past the processor's caches, and a fence: what a write does between prefetch and insertion. */
static void store_data(struct bench *bench, size_t bytes)
{
	static _Alignas(64) char src[4096 + SLOT_BYTES];
	char *to = bench->buf + bench->stored_nr++ % (DATA_BYTES / (bytes + SLOT_BYTES)) * (bytes + SLOT_BYTES);

#ifdef __SSE2__
	for (size_t at = 0; at < bytes + SLOT_BYTES; at += sizeof(__m128i))
		_mm_stream_si128((__m128i *)(void *)(to + at),
				 _mm_load_si128((const __m128i *)(const void *)(src + at)));
	_mm_sfence();
#else
	memcpy(to, src, bytes + SLOT_BYTES);
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

static void displaced(void *ctx, const struct pc_extent *piece)
{
	((struct bench *)ctx)->displaced_blk += piece->len_blk;
}

/* First block of the extent of slot i. */
static uint64_t place(const struct bench *bench, uint64_t i)
{
	uint64_t room_blk = bench->slot_blk / bench->len_blk;

	return i * bench->slot_blk + mix(i ^ bench->run.seed) % room_blk * bench->len_blk;
}

static void put(struct bench *bench, uint64_t vol_blk, uint32_t len_blk, bool with_data)
{
	uint64_t pos = ++bench->pos;
	uint64_t media_blk = pos * bench->len_blk % bench->media_blk / 8 * 8;
	struct pc_extent extent = {
		.vol_blk = vol_blk,
		.pos = pos,
		.len_blk = len_blk,
		.seg_id = (uint32_t)(media_blk / SEG_BLK),
		.seg_blk = (uint16_t)(media_blk % SEG_BLK),
		.crc = (uint32_t)pos * 0x9e3779b1u,
		.flags = PC_EXT_DATA | PC_EXT_DIRTY,
	};
	uint64_t mask = pc_index_mask(bench->index, vol_blk, len_blk);

	pc_index_lock(bench->index, mask);
	pc_index_prefetch_locked(bench->index, vol_blk);
	if (pc_index_reserve_locked(bench->index, mask, 3) != 0)
		abort();
	if (with_data)
		store_data(bench, bench->run.bs_bytes);
	pc_index_insert_locked(bench->index, &extent, displaced, bench);
	pc_index_unlock(bench->index, mask);
}

static double since_ns(uint64_t from_ns, uint64_t op_nr)
{
	return (double)(pc_monotonic_ns() - from_ns) / (double)op_nr;
}

static double bytes_per_extent(const struct bench *bench)
{
	return (double)pc_index_dram_bytes(bench->index) / (double)pc_index_extent_nr(bench->index);
}

static double fill(struct bench *bench)
{
	const struct run *run = &bench->run;
	uint64_t from_ns = pc_monotonic_ns();

	for (uint64_t i = 0; i < run->extent_nr; i++)
		put(bench, place(bench, run->sequential ? i : permute(i, run->extent_nr, run->seed)), bench->len_blk,
		    false);
	return since_ns(from_ns, run->extent_nr);
}

static double overwrite(struct bench *bench, bool with_data)
{
	const struct run *run = &bench->run;
	uint64_t seed = run->seed + ++bench->round * run->op_nr;
	uint64_t from_ns = pc_monotonic_ns();

	for (uint64_t i = 0; i < run->op_nr; i++)
		put(bench, place(bench, mix(i + seed) & (run->extent_nr - 1)), bench->len_blk, with_data);
	return since_ns(from_ns, run->op_nr);
}

static double store_only(struct bench *bench)
{
	uint64_t from_ns = pc_monotonic_ns();

	for (uint64_t i = 0; i < bench->run.op_nr; i++)
		store_data(bench, bench->run.bs_bytes);
	return since_ns(from_ns, bench->run.op_nr);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Medians of slices that alternate: the stores alone, and the stores with the overwrite around them. */
static void write_beside_limit(struct bench *bench, double *limit_ns, double *write_ns)
{
	double limits[SLICE_NR], writes[SLICE_NR];

	store_only(bench);
	for (uint32_t i = 0; i < SLICE_NR; i++) {
		limits[i] = store_only(bench);
		writes[i] = overwrite(bench, true);
	}
	qsort(limits, SLICE_NR, sizeof(limits[0]), by_value);
	qsort(writes, SLICE_NR, sizeof(writes[0]), by_value);
	*limit_ns = limits[SLICE_NR / 2];
	*write_ns = writes[SLICE_NR / 2];
}

static double look_up(struct bench *bench)
{
	const struct run *run = &bench->run;
	uint64_t from_ns = pc_monotonic_ns();
	struct pc_extent found[4];
	uint64_t found_nr = 0;

	for (uint64_t i = 0; i < run->op_nr; i++) {
		uint64_t vol_blk = place(bench, mix(i * 3 + run->seed) & (run->extent_nr - 1));
		uint64_t mask = pc_index_mask(bench->index, vol_blk, bench->len_blk);

		pc_index_lock(bench->index, mask);
		found_nr += pc_index_lookup_locked(bench->index, vol_blk, bench->len_blk, found, PC_ARRAY_NR(found));
		pc_index_unlock(bench->index, mask);
	}
	if (found_nr < run->op_nr)
		abort();
	return since_ns(from_ns, run->op_nr);
}

/* Overwrites of 1 to 8 blocks anywhere: cuts and splits. */
static double cut(struct bench *bench)
{
	const struct run *run = &bench->run;
	uint64_t from_ns = pc_monotonic_ns();

	for (uint64_t i = 0; i < run->op_nr; i++) {
		uint64_t dice = mix(i * 5 + run->seed);
		uint64_t vol_blk = place(bench, dice & (run->extent_nr - 1)) + (dice >> 40 & 7);
		uint32_t len_blk = (uint32_t)(1 + (dice >> 50 & 7));

		vol_blk = PC_MIN(vol_blk, pc_index_stripe_end(bench->index, vol_blk) - len_blk);
		put(bench, vol_blk, len_blk, false);
	}
	return since_ns(from_ns, run->op_nr);
}

static void run_one(const struct run *run)
{
	struct pc_index_params params = { .shard_nr = PC_SHARD_NR_MAX, .stripe_blk = STRIPE_BYTES / run->block_bytes };
	struct bench bench = { .run = *run, .len_blk = run->bs_bytes / run->block_bytes };
	double fill_ns, fill_bytes, lookup_ns, overwrite_ns, cut_ns = 0, limit_ns, write_ns;

	/* A cache on twice the bytes that the extents hold. */
	params.segment_blk = SEG_BLK;
	params.segment_nr = (uint32_t)PC_MAX(2 * run->extent_nr * bench.len_blk / SEG_BLK, UINT64_C(64));
	params.slot_nr = (uint64_t)params.segment_nr * SEG_BLK * run->block_bytes / 64;
	params.volume_blk = run->space_bytes / run->block_bytes;
	bench.media_blk = (uint64_t)params.segment_nr * SEG_BLK;
	bench.buf = aligned_alloc(2u << 20, DATA_BYTES);
	if (bench.buf == NULL || pc_index_new(&params, &bench.index) != 0)
		abort();
	(void)madvise(bench.buf, DATA_BYTES, MADV_HUGEPAGE);
	bench.slot_blk = run->space_bytes / run->block_bytes / run->extent_nr;
	fill_ns = fill(&bench);
	fill_bytes = bytes_per_extent(&bench);
	lookup_ns = look_up(&bench);
	overwrite_ns = overwrite(&bench, false);
	write_beside_limit(&bench, &limit_ns, &write_ns);
	if (run->block_bytes < 4096)
		cut_ns = cut(&bench);
	printf("%9" PRIu64 "  %4u  %-10s  %7.1f  %7.1f  %9.1f  %7.1f  %8.1f  %8.1f  %12.2f  %14.2f\n", run->extent_nr,
	       run->bs_bytes, run->sequential ? "sequential" : "random", fill_ns, lookup_ns, overwrite_ns, cut_ns,
	       limit_ns, write_ns, fill_bytes, bytes_per_extent(&bench));
	fflush(stdout);
	pc_index_free(bench.index);
	free(bench.buf);
}

static void run_table(const struct run *like, bool quick)
{
	static const uint64_t extent_nrs[] = { 1u << 10, 1u << 15, 1u << 18, 1u << 22, 1u << 24 };

	for (uint32_t i = 0; i < PC_ARRAY_NR(extent_nrs) - (quick ? 2 : 0); i++) {
		for (uint32_t kind = 0; kind < 4; kind++) {
			struct run run = *like;

			run.extent_nr = extent_nrs[i];
			run.bs_bytes = run.block_bytes = kind % 2 ? 4096 : 512;
			run.sequential = kind >= 2;
			/* 512 B: one in 8 blocks, as 16 M extents in 64 GiB; 4 KiB: every second block. */
			run.space_bytes = run.extent_nr * (kind % 2 ? 8192 : 4096);
			run_one(&run);
		}
	}
}

int main(int argc, char **argv)
{
	struct run run = { .op_nr = 1u << 20, .seed = 1, .bs_bytes = 512 };
	bool quick = false;

	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (strcmp(argv[i], "--quick") == 0) {
			quick = true;
			continue;
		}
		if (strcmp(argv[i], "--extents") == 0)
			run.extent_nr = strtoull(value, NULL, 0);
		else if (strcmp(argv[i], "--bs") == 0)
			run.bs_bytes = (uint32_t)strtoul(value, NULL, 0);
		else if (strcmp(argv[i], "--space-bytes") == 0)
			run.space_bytes = strtoull(value, NULL, 0);
		else if (strcmp(argv[i], "--ops") == 0)
			run.op_nr = strtoull(value, NULL, 0);
		else if (strcmp(argv[i], "--seed") == 0)
			run.seed = strtoull(value, NULL, 0);
		else if (strcmp(argv[i], "--order") == 0)
			run.sequential = strcmp(value, "sequential") == 0;
		else
			return fprintf(stderr, "unknown option %s; see the top of the source\n", argv[i]), 2;
		i++;
	}
	run.block_bytes = BLOCK_BYTES;
	if (run.space_bytes == 0)
		run.space_bytes = run.extent_nr * 8 * run.bs_bytes;
	if ((run.extent_nr & (run.extent_nr - 1)) != 0 || run.space_bytes < run.extent_nr * run.bs_bytes)
		return fprintf(stderr, "--extents is a power of two, and the space must hold them\n"), 2;
	printf("seed %" PRIu64 "\n", run.seed);
	printf("  extents    bs  order        fill ns  look ns  overwr ns   cut ns  limit ns  write ns  bytes/extent  "
	       "after overwrite\n");
	if (run.extent_nr != 0)
		run_one(&run);
	else
		run_table(&run, quick);
	return 0;
}
