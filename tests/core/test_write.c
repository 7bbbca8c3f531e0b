/* SPDX-License-Identifier: BSD-3-Clause */
/* Writes, batches and zeroes: what is atomic, what is refused, what survives which end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/rig.h"

static void later_range_wins(void **state)
{
	uint8_t bytes[3 * 4096];
	struct pcache_range ranges[3];
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_pattern(&rig, bytes, sizeof(bytes));
	ranges[0] = (struct pcache_range){ .buf = bytes, .off = 8192, .len = 2048 };
	ranges[1] = (struct pcache_range){ .buf = bytes + 4096, .off = 8192 + 1024, .len = 2048 };
	ranges[2] = (struct pcache_range){ .buf = bytes + 8192, .off = 8192 + 512, .len = 1024 };
	for (int i = 0; i < 3; i++)
		memcpy(rig.model + ranges[i].off, ranges[i].buf, ranges[i].len);
	assert_int_equal(pcache_write_batch(rig.cache, ranges, 3, 0), 0);
	rig_check_all(&rig);
	rig_reopen(&rig);
	rig_check_all(&rig);
	/* Write-back keeps the order inside the batch, too. */
	rig_drain(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

static void batch_above_the_maximum(void **state)
{
	struct rig rig;
	struct pcache_range ranges[2];
	uint64_t max, head;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	max = pcache_atomic_write_max(rig.cache);
	assert_true(max >= rig.o.block_bytes && max % rig.o.block_bytes == 0 && max < rig.o.backing_bytes / 2);
	head = rig_info(&rig).log_head;
	ranges[0] = (struct pcache_range){ .buf = rig.scratch, .off = 0, .len = max };
	ranges[1] = (struct pcache_range){ .buf = rig.scratch, .off = max, .len = 512 };
	assert_int_equal(pcache_write_batch(rig.cache, ranges, 2, 0), PCACHE_E_TOO_BIG);
	ranges[0].len = max + 512;
	assert_int_equal(pcache_write_batch(rig.cache, ranges, 1, 0),
			 PCACHE_E_TOO_BIG); /* a plain write would be cut */
	ranges[0].len = UINT64_MAX - 511;
	assert_int_equal(pcache_write_batch(rig.cache, ranges, 1, 0), PCACHE_E_RANGE);
	assert_int_equal(rig_info(&rig).log_head, head);
	rig_check_all(&rig);
	/* Exactly the maximum is one kset: one reservation, so one void at most between. */
	ranges[0] = (struct pcache_range){ .buf = rig.model, .off = 0, .len = max - 512 };
	ranges[1] = (struct pcache_range){ .buf = rig.model + max, .off = max, .len = 512 };
	rig_pattern(&rig, rig.model, max + 512);
	memcpy(rig.model + max - 512, mem_backing_live(rig.mb) + max - 512, 512);
	assert_int_equal(pcache_write_batch(rig.cache, ranges, 2, 0), 0);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* The worst shape of a batch of the maximal size: every block a range of its own. */
static void batch_of_single_blocks(void **state)
{
	struct rig rig;
	struct pcache_range *ranges;
	uint32_t nr;

	(void)state;
	rig_zero(&rig);
	rig.o.segment_nr = 128; /* the maximum is bounded by keys, then */
	rig_up(&rig);
	nr = (uint32_t)(pcache_atomic_write_max(rig.cache) / 512);
	ranges = calloc(nr, sizeof(*ranges));
	assert_non_null(ranges);
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t off = (uint64_t)(nr - 1 - i) * 1024;

		rig_pattern(&rig, rig.model + off, 512);
		ranges[i] = (struct pcache_range){ .buf = rig.model + off, .off = off, .len = 512 };
	}
	assert_int_equal(pcache_write_batch(rig.cache, ranges, nr, 0), 0);
	free(ranges);
	rig_check_all(&rig);
	rig_reopen(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

static void empty_requests(void **state)
{
	struct pcache_range empty[2] = { { .off = 512 }, { .off = 1024 } };
	struct rig rig;
	uint64_t head;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	head = rig_info(&rig).log_head;
	assert_int_equal(pcache_write(rig.cache, NULL, 512, 0, 0), 0);
	assert_int_equal(pcache_read(rig.cache, NULL, 512, 0, 0), 0);
	assert_int_equal(pcache_write_batch(rig.cache, NULL, 0, 0), 0);
	assert_int_equal(pcache_write_batch(rig.cache, empty, 2, 0), 0);
	assert_int_equal(pcache_discard(rig.cache, 512, 0, 0), 0);
	assert_int_equal(pcache_write_zeroes(rig.cache, rig.o.backing_bytes, 0, 0), 0);
	assert_int_equal(rig_info(&rig).log_head, head);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* Commit mode flush at page granularity: a plain write may be lost with the power, one with the flag may not, nor one before a flush. */
static void durable_flag(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig.o.granularity = PC_GRAN_PAGE;
	rig.o.commit = PCACHE_COMMIT_FLUSH;
	rig_up(&rig);
	rig_write(&rig, 0, 512, 0);
	rig_flush(&rig);
	rig_write(&rig, 4096, 512, PCACHE_DURABLE);
	memset(rig.scratch, 0x77, 512);
	assert_int_equal(pcache_write(rig.cache, rig.scratch, 8192, 512, 0), 0);
	rig_power_cut(&rig);
	rig_open(&rig);
	rig_check_all(&rig); /* the array does not have the third */
	/* The same for zeroes. */
	assert_int_equal(pcache_discard(rig.cache, 0, 512, PCACHE_DURABLE), 0);
	memset(rig.model, 0, 512);
	assert_int_equal(pcache_write_zeroes(rig.cache, 4096, 512, 0), 0);
	rig_power_cut(&rig);
	rig_open(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* Commit mode write at both granularities, and any commit mode at cache lines: nothing is lost. */
static void completed_is_durable(void **state)
{
	(void)state;
	for (uint32_t shape = 0; shape < 8; shape++) {
		struct rig rig;

		rig_zero(&rig);
		rig.o.granularity = shape & 1 ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
		rig.o.no_crc = (shape & 2) != 0;
		rig.o.guard_fence = (shape & 4) != 0;
		rig.o.commit = PCACHE_COMMIT_WRITE;
		rig_up(&rig);
		for (int i = 0; i < 20; i++) {
			rig_write(&rig, rig_below(&rig, 64) * 512, 512 * (1 + rig_below(&rig, 4)), 0);
			if (i % 5 == 4)
				rig_zeroes(&rig, rig_below(&rig, 64) * 512, 1024, i % 2 != 0);
			rig_power_cut(&rig);
			rig_open(&rig);
			rig_check_all(&rig);
		}
		rig_down(&rig);
	}
}

static void long_write(void **state)
{
	const uint64_t len = 64u << 20;
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig.o.granularity = PC_GRAN_PAGE;
	rig.o.commit = PCACHE_COMMIT_FLUSH;
	rig.o.segment_bytes = 64u << 10;
	rig.o.segment_nr = 48;
	rig.o.backing_bytes = len;
	rig_up(&rig);
	rig_write(&rig, 0, len, 0);
	rig_check_all(&rig);
	rig_write(&rig, 4096 + 512, 1u << 20, 0);
	rig_drain(&rig);
	rig_check_range(&rig, 0, 2u << 20);
	rig_down(&rig);
}

/* Of a request over several shards each counts its own dirty blocks; rig_check_all compares. */
static void shards_count_their_own(void **state)
{
	struct rig rig;
	uint64_t stripe_bytes;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	stripe_bytes = pc_index_stripe_end(rig.cache->index, 0) << rig.cache->block_shift;
	assert_true(pc_index_shard_nr(rig.cache->index) > 1 && 3 * stripe_bytes < rig.o.backing_bytes);
	rig_write(&rig, stripe_bytes - 1024, 2 * stripe_bytes, 0);
	rig_check_all(&rig);
	rig_write(&rig, stripe_bytes - 512, 1024, 0); /* displaces in two shards, kept until the fence */
	rig_check_all(&rig);
	rig_zeroes(&rig, 2 * stripe_bytes - 512, 1024, false);
	rig_check_all(&rig);
	rig_drain(&rig);
	rig_check_all(&rig);
	assert_int_equal(rig_info(&rig).dirty_bytes, 0);
	rig_down(&rig);
}

static void zeroes_are_dirty_until_written_back(void **state)
{
	struct mem_backing_counters counters;
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 0, 4096, 0);
	rig_zeroes(&rig, 1024, 2048, true);
	rig_zeroes(&rig, 16384, 32768, false);
	assert_int_equal(rig_info(&rig).dirty_bytes, 4096 + 32768);
	assert_memory_not_equal(mem_backing_live(rig.mb) + 16384, rig.model + 16384, 32768);
	rig_check_all(&rig);
	rig_reopen(&rig);
	assert_int_equal(rig_info(&rig).dirty_bytes, 4096 + 32768);
	rig_check_all(&rig);
	rig_drain(&rig);
	assert_int_equal(rig_info(&rig).dirty_bytes, 0);
	mem_backing_get_counters(rig.mb, &counters);
	assert_true(counters.calls[MEM_BACKING_DISCARD] >= 1);
	assert_true(counters.calls[MEM_BACKING_ZEROES] >= 1);
	rig_check_all(&rig);
	rig_reopen(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* The whole store in one call, over a backing that can neither discard nor zero. */
static void discard_everything(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig.o.backing.no_discard = true;
	rig.o.backing.no_zeroes = true;
	rig_up(&rig);
	rig_write(&rig, 4096, 16384, 0);
	rig_zeroes(&rig, 0, rig.o.backing_bytes, true);
	rig_check_all(&rig);
	rig_reopen(&rig);
	rig_check_all(&rig);
	rig_drain(&rig);
	rig_down(&rig);
}

/* A failed sync fails that write or flush, stops all stores, and is not retried as if it counted; reads are served. */
static void failed_sync_stops(void **state)
{
	struct pcache_info info;
	struct rig rig;
	uint64_t syncs;

	(void)state;
	rig_zero(&rig);
	rig.o.granularity = PC_GRAN_PAGE;
	rig.o.commit = PCACHE_COMMIT_FLUSH;
	rig_up(&rig);
	rig_write(&rig, 0, 4096, 0);
	rig_flush(&rig);
	rig_write(&rig, 8192, 512, 0);
	pc_sim_fail_sync(rig.sim, 1, -EIO);
	assert_int_equal(pcache_flush(rig.cache), -EIO);
	syncs = pc_sim_counts(rig.sim).syncs;
	assert_int_equal(pcache_flush(rig.cache), PCACHE_E_FAILSTOP);
	assert_int_equal(pcache_write(rig.cache, rig.scratch, 0, 512, 0), PCACHE_E_FAILSTOP);
	assert_int_equal(pcache_discard(rig.cache, 0, 512, 0), PCACHE_E_FAILSTOP);
	assert_int_equal(pcache_drain(rig.cache, NULL, NULL), PCACHE_E_FAILSTOP);
	assert_true(pcache_maintain(rig.cache, 0) < 0);
	info = rig_info(&rig);
	assert_true(info.state_flags & PCACHE_STATE_FAILSTOP);
	rig_check_range(&rig, 0, 32768);
	assert_int_equal(pc_sim_counts(rig.sim).syncs, syncs);
	assert_int_equal(pcache_close(rig.cache), PCACHE_E_FAILSTOP);
	rig.cache = NULL;
	assert_int_equal(pc_sim_counts(rig.sim).syncs, syncs);
	rig_down(&rig);
}

#define LONG_BYTES (UINT64_C(128) << 10)

/* A segment whose content is being overwritten, as others see it. */
struct overwrite {
	struct rig *rig;
	uint32_t seg_id;
	uint32_t live_blk; /* before */
	uint32_t fence_nr;
};

static void nothing_is_given_up_yet(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	struct overwrite *overwrite = user;

	(void)sim, (void)event;
	overwrite->fence_nr++;
	assert_int_equal(pc_segmap_live_blk(&overwrite->rig->cache->map, overwrite->seg_id), overwrite->live_blk);
}

static uint32_t segment_of(struct rig *rig, uint64_t off)
{
	return (uint32_t)((rig_find(rig, off) - rig->cache->layout.super.data_off) / rig->o.segment_bytes);
}

/* Until the fence of an overwrite the old bytes are what a crash falls back to: no segment becomes free for it before. Old pieces of every number and length. */
static void overwritten_lives_until_the_fence(void **state)
{
	(void)state;
	/* As one range, and as a batch of two. */
	for (uint64_t i = 0; i < 16; i++) {
		const uint64_t old_len = 512 * (1 + i / 2), cut = 512 * (1 + i % 7);
		struct overwrite overwrite = { 0 };
		struct rig rig;

		rig_zero(&rig);
		rig.o.segment_bytes = 16384;
		rig_up(&rig);
		for (uint64_t off = 0; off < 4096; off += old_len)
			rig_write(&rig, off, old_len < 4096 - off ? old_len : 4096 - off, 0);
		overwrite.rig = &rig;
		overwrite.seg_id = segment_of(&rig, 0);
		overwrite.live_blk = pc_segmap_live_blk(&rig.cache->map, overwrite.seg_id) + 8; /* and the new ones */
		rig_pattern(&rig, rig.model, 4096);
		pc_sim_crash_at(rig.sim, 0, nothing_is_given_up_yet, &overwrite);
		if (i % 2) {
			const struct pcache_range ranges[] = { { rig.model + cut, cut, 4096 - cut },
							       { rig.model, 0, cut } };

			assert_int_equal(pcache_write_batch(rig.cache, ranges, 2, 0), 0);
		} else {
			assert_int_equal(pcache_write(rig.cache, rig.model, 0, 4096, 0), 0);
		}
		pc_sim_crash_at(rig.sim, 0, NULL, NULL);
		assert_int_equal(overwrite.fence_nr, 1);
		assert_int_equal(segment_of(&rig, 0), overwrite.seg_id);
		assert_int_equal(pc_segmap_live_blk(&rig.cache->map, overwrite.seg_id), overwrite.live_blk - 8);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* The same for 128 KiB at once, or as a batch of 16 ranges; what is overwritten is in fewer pieces than can be kept until the fence, or in more. */
static void long_overwrite_lives_until_the_fence(void **state)
{
	const uint64_t old_lens[] = { 512, 1024, 3584, 4096, 20480, LONG_BYTES };

	(void)state;
	for (uint32_t i = 0; i < 4 * PC_ARRAY_NR(old_lens); i++) {
		uint64_t old_len = old_lens[i / 4], off = i % 2 ? 2048 : 4096;
		struct pcache_range ranges[16];
		struct overwrite overwrite = { 0 };
		struct rig rig;

		rig_zero(&rig);
		rig.o.segment_bytes = 1u << 20;
		rig.o.segment_nr = 8;
		rig_up(&rig);
		for (uint64_t at = 0; at < LONG_BYTES; at += old_len)
			rig_write(&rig, off + at, PC_MIN(old_len, LONG_BYTES - at), 0);
		overwrite.rig = &rig;
		overwrite.seg_id = segment_of(&rig, off);
		overwrite.live_blk = pc_segmap_live_blk(&rig.cache->map, overwrite.seg_id);
		assert_int_equal(overwrite.live_blk, LONG_BYTES / 512);
		overwrite.live_blk += LONG_BYTES / 512; /* and the new ones */
		rig_pattern(&rig, rig.model + off, LONG_BYTES);
		for (uint32_t r = 0; r < 16; r++)
			ranges[15 - r] = (struct pcache_range){ .buf = rig.model + off + r * (LONG_BYTES / 16),
								.off = off + r * (LONG_BYTES / 16),
								.len = LONG_BYTES / 16 };
		pc_sim_crash_at(rig.sim, 0, nothing_is_given_up_yet, &overwrite);
		if (i % 4 < 2)
			assert_int_equal(pcache_write(rig.cache, rig.model + off, off, LONG_BYTES, 0), 0);
		else
			assert_int_equal(pcache_write_batch(rig.cache, ranges, 16, 0), 0);
		pc_sim_crash_at(rig.sim, 0, NULL, NULL);
		assert_int_equal(overwrite.fence_nr, 1);
		assert_int_equal(pc_segmap_live_blk(&rig.cache->map, overwrite.seg_id), LONG_BYTES / 512);
		assert_int_equal(pc_segmap_dirty_blk(&rig.cache->map, overwrite.seg_id), LONG_BYTES / 512);
		rig_check_all(&rig);
		rig_power_cut(&rig);
		rig_open(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(later_range_wins),
		cmocka_unit_test(batch_above_the_maximum),
		cmocka_unit_test(batch_of_single_blocks),
		cmocka_unit_test(empty_requests),
		cmocka_unit_test(durable_flag),
		cmocka_unit_test(completed_is_durable),
		cmocka_unit_test(long_write),
		cmocka_unit_test(shards_count_their_own),
		cmocka_unit_test(zeroes_are_dirty_until_written_back),
		cmocka_unit_test(discard_everything),
		cmocka_unit_test(failed_sync_stops),
		cmocka_unit_test(overwritten_lives_until_the_fence),
		cmocka_unit_test(long_overwrite_lives_until_the_fence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
