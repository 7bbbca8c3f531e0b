/* SPDX-License-Identifier: BSD-3-Clause */
/* Write-back: the order of what reaches the backing, and what happens when the backing fails. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/rig.h"

/* Every write to the backing: what was not flushed yet when it came. */
struct watch {
	uint32_t unflushed_epoch; /* epoch of what is not flushed; 0: nothing */
	uint32_t writes;
	uint32_t flushes;
	uint32_t
		done_epoch; /* all epochs up to this were written and flushed, says the highest epoch that was flushed */
};

/* A block that says its epoch. */
static void stamp(uint8_t *block, uint64_t epoch, uint64_t number)
{
	for (uint32_t i = 0; i < 512; i += 16) {
		memcpy(block + i, &epoch, 8);
		memcpy(block + i + 8, &number, 8);
	}
}

static int watch_backing(void *user, enum mem_backing_op op, uint64_t off, uint64_t len, const void *buf)
{
	struct watch *watch = user;

	(void)off;
	if (op == MEM_BACKING_FLUSH) {
		watch->flushes++;
		if (watch->unflushed_epoch)
			watch->done_epoch = watch->unflushed_epoch;
		watch->unflushed_epoch = 0;
	}
	if (op != MEM_BACKING_WRITE)
		return 0;
	watch->writes++;
	for (uint64_t at = 0; at < len; at += 512) {
		uint64_t epoch;

		memcpy(&epoch, (const uint8_t *)buf + at, 8);
		/* Nothing of a later epoch beside something that is not flushed, nothing of an earlier one after a later one. */
		if (watch->unflushed_epoch && watch->unflushed_epoch != epoch)
			fail_msg("epoch %u is not flushed when epoch %u is written", watch->unflushed_epoch,
				 (unsigned int)epoch);
		if (epoch < watch->done_epoch)
			fail_msg("epoch %u is written after epoch %u", (unsigned int)epoch, watch->done_epoch);
		watch->unflushed_epoch = (uint32_t)epoch;
	}
	return 0;
}

static void strict_order(void **state)
{
	(void)state;
	for (uint32_t shape = 0; shape < 4; shape++) {
		struct watch watch = { 0 };
		struct rig rig;
		uint64_t number = 0;

		rig_zero(&rig);
		rig.o.granularity = shape & 1 ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
		rig.o.no_crc = (shape & 2) != 0;
		rig.o.segment_nr = 64;
		rig_up(&rig);
		mem_backing_observe(rig.mb, watch_backing, &watch);
		for (uint64_t epoch = 1; epoch <= 60; epoch++) {
			for (uint32_t i = 0; i < 6; i++) {
				uint64_t blk = rig_below(&rig, 24);

				stamp(rig.model + blk * 512, epoch, number++);
				assert_int_equal(pcache_write(rig.cache, rig.model + blk * 512, blk * 512, 512, 0), 0);
				if (rig_below(&rig, 12) == 0)
					assert_true(pc_cache_step(rig.cache, PC_STEP_WRITEBACK, false) >= 0);
			}
			rig_flush(&rig);
			if (epoch % 16 == 0) {
				rig_reopen(&rig);
				/* A second write-back after a crash begins at the durable dirty tail, so the last epoch may come again, no older one. */
				if (watch.unflushed_epoch)
					watch.unflushed_epoch = 0;
			}
		}
		rig_check_range(&rig, 0, 24 * 512);
		rig_drain(&rig);
		assert_true(watch.done_epoch == 60);
		assert_true(watch.flushes >= 30);
		mem_backing_observe(rig.mb, NULL, NULL);
		rig_down(&rig);
	}
}

/* Ordering batch: a version that was overwritten does not go to the backing at all. */
static void batch_writes_the_newest_only(void **state)
{
	struct mem_backing_counters counters;
	struct rig rig;

	(void)state;
	for (uint32_t batch = 0; batch < 2; batch++) {
		rig_zero(&rig);
		rig.o.ordering = batch ? PCACHE_ORDERING_BATCH : PCACHE_ORDERING_STRICT;
		rig_up(&rig);
		for (uint32_t i = 0; i < 5; i++) {
			rig_write(&rig, 4096, 512, 0);
			rig_flush(&rig);
		}
		rig_drain(&rig);
		mem_backing_get_counters(rig.mb, &counters);
		assert_int_equal(counters.bytes[MEM_BACKING_WRITE], batch ? 512 : 5 * 512);
		assert_int_equal(rig_info(&rig).writeback_bytes, batch ? 512 : 5 * 512);
		rig_down(&rig);
	}
}

/* Within an epoch, the newest version only, neighbours in one request. */
static void neighbours_are_written_together(void **state)
{
	struct mem_backing_counters counters;
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	for (int i = 7; i >= 0; i--)
		rig_write(&rig, 4096 + (uint64_t)i * 512, 512, 0);
	rig_write(&rig, 4096, 512, 0);
	assert_int_equal(pc_cache_step(rig.cache, PC_STEP_WRITEBACK, false), 1);
	rig_drain(&rig);
	mem_backing_get_counters(rig.mb, &counters);
	assert_int_equal(counters.bytes[MEM_BACKING_WRITE], 4096);
	assert_int_equal(counters.calls[MEM_BACKING_WRITE], 1);
	assert_int_equal(counters.calls[MEM_BACKING_FLUSH], 1 + 1); /* that of the open */
	assert_int_equal(counters.violations, 0);
	rig_down(&rig);
}

/* A failing backing write: the range stays dirty, that shows, and the next step tries again. */
static void backing_write_fails(void **state)
{
	static const enum mem_backing_op ops[] = { MEM_BACKING_WRITE, MEM_BACKING_DISCARD, MEM_BACKING_ZEROES };

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		struct rig rig;
		uint64_t dirty_tail;

		rig_zero(&rig);
		rig_up(&rig);
		dirty_tail = rig_info(&rig).log_dirty_tail;
		if (i == 0)
			rig_write(&rig, 4096, 4096, 0);
		else
			rig_zeroes(&rig, 4096, 4096, i == 1);
		rig_flush(&rig);
		mem_backing_fail(rig.mb, ops[i], 1, ENOSPC, MEM_BACKING_ONCE);
		assert_int_equal(pc_cache_step(rig.cache, PC_STEP_WRITEBACK, false), -ENOSPC);
		assert_true(rig_info(&rig).state_flags & PCACHE_STATE_DEGRADED);
		assert_int_equal(rig_info(&rig).dirty_bytes, 4096);
		assert_int_equal(rig_info(&rig).log_dirty_tail, dirty_tail);
		assert_true(rig_info(&rig).backing_errors >= 1);
		rig_check_all(&rig);
		rig_reopen(&rig);
		assert_int_equal(rig_info(&rig).dirty_bytes, 4096);
		assert_int_equal(pc_cache_step(rig.cache, PC_STEP_WRITEBACK, false), 1);
		assert_false(rig_info(&rig).state_flags & PCACHE_STATE_DEGRADED);
		assert_int_equal(rig_info(&rig).dirty_bytes, 0);
		rig_check_all(&rig);
		rig_drain(&rig);
		rig_down(&rig);
	}
}

/* A failed flush of the backing forgets what was written: all of it is written again, and only then does it count. */
static void backing_flush_fails(void **state)
{
	struct mem_backing_counters before, after;
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig.o.backing.failed_flush_drops = true;
	rig_up(&rig);
	rig_write(&rig, 4096, 4096, 0);
	rig_write(&rig, 16384, 1024, 0);
	rig_flush(&rig);
	mem_backing_fail(rig.mb, MEM_BACKING_FLUSH, 1, EIO, MEM_BACKING_ONCE);
	assert_int_equal(pcache_drain(rig.cache, NULL, NULL), -EIO);
	assert_int_equal(rig_info(&rig).dirty_bytes, 5120);
	assert_true(rig_info(&rig).state_flags & PCACHE_STATE_DEGRADED);
	mem_backing_get_counters(rig.mb, &before);
	rig_drain(&rig); /* looks at the durable image */
	mem_backing_get_counters(rig.mb, &after);
	assert_int_equal(after.bytes[MEM_BACKING_WRITE] - before.bytes[MEM_BACKING_WRITE], 5120);
	/* Over a crash between the failure and the next try, too. */
	rig_write(&rig, 32768, 2048, 0);
	rig_flush(&rig);
	mem_backing_fail(rig.mb, MEM_BACKING_FLUSH, 1, EIO, MEM_BACKING_ONCE);
	assert_int_equal(pcache_drain(rig.cache, NULL, NULL), -EIO);
	rig_reopen(&rig);
	rig_drain(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* Worker threads retry by themselves until the backing is back. */
static void workers_retry(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig.o.threads = true;
	rig.o.sim_flags = PC_SIM_THREADED;
	rig_up(&rig);
	mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 1, EIO, MEM_BACKING_FOREVER);
	rig_write(&rig, 4096, 4096, 0);
	rig_flush(&rig);
	for (uint32_t tries = 0; !(rig_info(&rig).state_flags & PCACHE_STATE_DEGRADED); tries++) {
		assert_true(tries < 60000);
		(void)usleep(1000);
	}
	assert_int_equal(rig_info(&rig).dirty_bytes, 4096);
	(void)usleep(100000); /* a few tries, with a growing pause: not a storm */
	assert_in_range(rig_info(&rig).backing_errors, 1, 30);
	mem_backing_clear_faults(rig.mb);
	for (uint32_t tries = 0; rig_info(&rig).dirty_bytes; tries++) {
		assert_true(tries < 60000);
		(void)usleep(1000);
	}
	assert_false(rig_info(&rig).state_flags & PCACHE_STATE_DEGRADED);
	assert_true(rig.messages[PCACHE_LOG_WARN] != 0);
	rig_drain(&rig);
	rig_close(&rig);
	rig_down(&rig);
}

/* Close with a dead backing keeps everything; drain does not lie. */
static void close_with_a_dead_backing(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig.o.threads = true;
	rig.o.sim_flags = PC_SIM_THREADED;
	rig_up(&rig);
	mem_backing_fail(rig.mb, MEM_BACKING_FLUSH, 1, EIO, MEM_BACKING_FOREVER);
	rig_write(&rig, 4096, 4096, 0);
	assert_int_equal(pcache_drain(rig.cache, NULL, NULL), -EIO);
	rig_close(&rig);
	mem_backing_clear_faults(rig.mb);
	rig_open(&rig);
	rig_check_range(&rig, 0, 16384);
	rig_drain(&rig);
	rig_down(&rig);
}

/* A dirty version that a later epoch overwrote stays readable for write-back, however long the backing is away (ordering strict). */
static void held_version_is_not_reused(void **state)
{
	struct rig rig;
	uint8_t *first = malloc(16384);
	uint32_t i;

	(void)state;
	assert_non_null(first);
	rig_zero(&rig);
	rig.o.full_error = true;
	rig_up(&rig);
	rig_write(&rig, 0, 16384, 0);
	memcpy(first, rig.model, 16384);
	rig_flush(&rig);
	for (i = 0; i < 1000; i++) {
		rig_pattern(&rig, rig.scratch, 512);
		if (pcache_write(rig.cache, rig.scratch, i % 32 * 512, 512, PCACHE_NOWAIT))
			break;
		memcpy(rig.model + i % 32 * 512, rig.scratch, 512);
		(void)pc_cache_step(rig.cache, PC_STEP_EVICT, true);
	}
	assert_true(i > 32); /* all of the first epoch is overwritten */
	/* The second flush of the backing fails, and with it the second epoch alone. */
	mem_backing_fail(rig.mb, MEM_BACKING_FLUSH, 2, EIO, MEM_BACKING_ONCE);
	assert_int_equal(pc_cache_step(rig.cache, PC_STEP_WRITEBACK, false), -EIO);
	assert_memory_equal(mem_backing_durable(rig.mb), first, 16384); /* the first epoch, and nothing else */
	assert_int_equal(rig_info(&rig).state_flags & PCACHE_STATE_DEGRADED, PCACHE_STATE_DEGRADED);
	rig_drain(&rig);
	rig_check_all(&rig);
	free(first);
	rig_down(&rig);
}

/* Closed data segments in which nothing is live. */
static uint32_t empty_segs(struct pcache *cache)
{
	uint32_t nr = 0;

	for (uint32_t id = 0; id < cache->map.segment_nr; id++)
		nr += atomic_load(&cache->map.segs[id].state) == PC_SS_DATA && pc_segmap_live_blk(&cache->map, id) == 0;
	return nr;
}

/* Write-back that makes room drops what it has written, a part of a segment at a time: a segment counts as evicted when it is empty, and once. */
static void an_emptied_segment_counts_once(void **state)
{
	uint32_t steps = 0, empty = 0;
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig.o.segment_nr = 48;
	rig_up(&rig);
	/* In pairs of epochs that share a block, so that a batch takes no more than two. */
	for (uint64_t i = 0; i < 120; i++) {
		rig_write(&rig, 512 * (1 + i), 512, 0);
		rig_write(&rig, 0, 512, 0);
		rig_flush(&rig);
	}
	assert_true(pc_segmap_free_nr(&rig.cache->map) * 10 < rig.cache->map.segment_nr * 3);
	assert_int_equal(empty_segs(rig.cache), 0);
	while (steps++ < 40) {
		assert_int_equal(pc_cache_step(rig.cache, PC_STEP_WRITEBACK, false), 1);
		assert_int_equal(rig_info(&rig).evicted_segments, empty_segs(rig.cache));
	}
	empty = empty_segs(rig.cache);
	assert_true(empty >= 2);
	rig_check_all(&rig);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strict_order),
		cmocka_unit_test(batch_writes_the_newest_only),
		cmocka_unit_test(neighbours_are_written_together),
		cmocka_unit_test(backing_write_fails),
		cmocka_unit_test(backing_flush_fails),
		cmocka_unit_test(workers_retry),
		cmocka_unit_test(close_with_a_dead_backing),
		cmocka_unit_test(held_version_is_not_reused),
		cmocka_unit_test(an_emptied_segment_counts_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
