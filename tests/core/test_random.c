/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random operations against a flat array, with every way to end and open again, over every shape of the cache: both granularities, commit modes,
 * orderings, block sizes, with and without data CRC. The cache is far smaller than the backing, so the log wraps, data is evicted and the log is
 * cleaned many times. PCACHE_TEST_OPS: operations of each shape; PCACHE_TEST_SEED.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rig.h"

static uint64_t env(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static void random_range(struct rig *rig, uint64_t max_blk, uint64_t *out_off, uint64_t *out_len)
{
	uint64_t block = rig->o.block_bytes, all = rig->o.backing_bytes / block;
	uint64_t len = 1 + rig_below(rig, rig_below(rig, 4) ? PC_MIN(max_blk, 8u) : max_blk);
	uint64_t off = rig_below(rig, all - len + 1);

	if (rig_below(rig, 2)) /* a hot part, so that overlaps are common */
		off %= PC_MIN(all - len + 1, UINT64_C(32));
	*out_off = off * block;
	*out_len = len * block;
}

static void random_batch(struct rig *rig)
{
	uint8_t bytes[4 * 8 * 512];
	uint64_t max = pcache_atomic_write_max(rig->cache), used = 0;
	struct pcache_range ranges[5];
	uint32_t nr = (uint32_t)rig_below(rig, 5);

	for (uint32_t i = 0; i < nr; i++) {
		uint64_t off, len;

		random_range(rig, 4, &off, &len);
		if (used + len > max || used + len > sizeof(bytes))
			len = 0;
		rig_pattern(rig, bytes + used, len);
		ranges[i] = (struct pcache_range){ .buf = bytes + used, .off = off, .len = len };
		memcpy(rig->model + off, bytes + used, len);
		used += len;
	}
	assert_int_equal(pcache_write_batch(rig->cache, ranges, nr, 0), 0);
}

static void one_operation(struct rig *rig)
{
	bool lossy = rig->o.granularity == PC_GRAN_PAGE && rig->o.commit == PCACHE_COMMIT_FLUSH;
	uint64_t off, len;

	random_range(rig, 40, &off, &len);
	switch (rig_below(rig, 40)) {
	case 0:
	case 1:
		rig_zeroes(rig, off, len, true);
		break;
	case 2:
		rig_zeroes(rig, off, len, false);
		break;
	case 3:
	case 4:
	case 5:
		random_batch(rig);
		break;
	case 6:
	case 7:
		rig_flush(rig);
		break;
	case 8:
	case 9:
		assert_true(pc_cache_step(rig->cache, PC_STEP_WRITEBACK, false) >= 0);
		break;
	case 10:
		assert_true(pc_cache_step(rig->cache, PC_STEP_EVICT, true) >= 0);
		break;
	case 11:
	case 12:
		assert_true(pc_cache_step(rig->cache, PC_STEP_CLEAN, true) >= 0);
		break;
	case 13:
		assert_true(pcache_maintain(rig->cache, (uint32_t)rig_below(rig, 8)) >= 0);
		break;
	case 14:
		if (rig_below(rig, 8) == 0)
			rig_drain(rig);
		break;
	case 15:
		if (rig_below(rig, 3) == 0) {
			rig_close(rig);
			rig_open(rig);
		}
		break;
	case 16:
		if (rig_below(rig, 3) == 0)
			rig_reopen(rig);
		break;
	case 17:
		if (rig_below(rig, 3) == 0) {
			if (lossy)
				rig_flush(rig);
			rig_power_cut(rig);
			rig_open(rig);
		}
		break;
	case 18:
		if (rig_below(rig, 4) == 0)
			rig_check_all(rig);
		break;
	case 19:
	case 20:
	case 21:
	case 22:
	case 23:
		rig_check_range(rig, off, len);
		break;
	case 24:
		rig_write(rig, off, len, PCACHE_DURABLE);
		break;
	default:
		rig_write(rig, off, len, 0);
		break;
	}
}

static void run_shape(uint32_t shape, uint64_t seed)
{
	struct rig rig;
	struct pcache_info info;
	uint64_t op_nr = env("PCACHE_TEST_OPS", 4000), check_every = env("PCACHE_TEST_CHECK", 16), evicted = 0,
		 cleaned = 0;

	rig_zero(&rig);
	rig.seed = seed * 64 + shape;
	rig.o.granularity = shape & 1 ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
	rig.o.commit = shape & 2 ? PCACHE_COMMIT_FLUSH : PCACHE_COMMIT_WRITE;
	rig.o.ordering = shape & 4 ? PCACHE_ORDERING_BATCH : PCACHE_ORDERING_STRICT;
	rig.o.no_crc = (shape & 8) != 0;
	rig.o.block_bytes = shape & 16 ? 4096 : 512;
	rig.o.segment_bytes = shape & 16 ? 16384 : (shape & 2 ? 4096 : 8192);
	rig.o.segment_nr = shape & 4 ? 16 : 24;
	rig.o.backing_bytes = shape & 16 ? 1u << 20 : 256u << 10;
	rig.o.data_head_nr = 1 + (shape & 1);
	print_message("shape %u: %s, commit %s, %s, %s, block %u\n", shape, shape & 1 ? "page" : "line",
		      shape & 2 ? "flush" : "write", shape & 4 ? "batch" : "strict", shape & 8 ? "no crc" : "crc",
		      rig.o.block_bytes);
	rig_up(&rig);
	for (uint64_t i = 0; i < op_nr; i++) {
		one_operation(&rig);
		if (i % check_every == 0) {
			const char *wrong = pc_cache_check(rig.cache);

			info = rig_info(&rig);
			evicted = PC_MAX(evicted, info.evicted_segments);
			cleaned = PC_MAX(cleaned, info.cleaned_segments);
			if (wrong)
				fail_msg("operation %llu: %s", (unsigned long long)i, wrong);
		}
	}
	rig_check_all(&rig);
	rig_drain(&rig);
	/* The geometry does what it is there for. */
	assert_true(evicted > 0);
	assert_true(cleaned > 0);
	info = rig_info(&rig);
	assert_int_equal(info.dirty_bytes, 0);
	assert_true(info.log_tail / (rig.o.segment_bytes / 64) > 4);
	assert_int_equal(info.crc_errors, 0);
	rig_close(&rig);
	rig_open(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

static void random_operations(void **state)
{
	uint32_t first = *(uint32_t *)*state;
	uint64_t seed = env("PCACHE_TEST_SEED", 1), only = env("PCACHE_TEST_SHAPE", UINT64_MAX);

	for (uint32_t shape = first; shape < 32; shape += 4)
		if (only == UINT64_MAX || only == shape)
			run_shape(shape, seed);
}

int main(void)
{
	static uint32_t firsts[] = { 0, 1, 2, 3 };
	const struct CMUnitTest tests[] = {
		{ "cache line, commit write", random_operations, NULL, NULL, &firsts[0] },
		{ "page, commit write", random_operations, NULL, NULL, &firsts[1] },
		{ "cache line, commit flush", random_operations, NULL, NULL, &firsts[2] },
		{ "page, commit flush", random_operations, NULL, NULL, &firsts[3] },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
