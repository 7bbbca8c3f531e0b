/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Admission: writers are slowed down before the cache is full, in the pace of write-back. Nothing here depends on time: what is counted is how many writes went on for how many bytes that
 * the backing got. A write that is slowed down goes on after PC_ADMIT_WAIT_NS in any case.
 */
#include <errno.h>
#include <string.h>

#include "core/rig.h"

#define IO_BYTES 512u
#define WS_IO_NR 500u /* of 512 bytes: the backing of the rig */

/* The caller runs the steps, but writers are slowed down as if threads did. */
static void slow_rig(struct rig *rig, uint32_t ordering)
{
	rig_zero(rig);
	rig->o.segment_nr = 64;
	rig->o.ordering = ordering;
	rig->o.gc_percent = 50;
	rig_up(rig);
	rig->cache->caller_maintains = false;
	pc_admit_init(rig->cache);
	rig->cache->caller_maintains = true;
}

static bool is_slow(struct rig *rig)
{
	return atomic_load(&rig->cache->admit.slow);
}

static uint64_t slowed(struct rig *rig)
{
	return atomic_load(&rig->cache->stats.slowed_writes);
}

/* Each write another block, so that all of them are dirty and live: 500 blocks are 62 segments of 64. */
static void fill_until_slow(struct rig *rig, uint64_t *io)
{
	while (!is_slow(rig)) {
		assert_true(*io < WS_IO_NR);
		rig_write(rig, (*io)++ * IO_BYTES, IO_BYTES, 0);
	}
}

static void slow_before_full(void **state)
{
	(void)state;
	for (uint32_t ordering = 0; ordering < 2; ordering++) {
		uint64_t io = 0, before, credit;
		struct rig rig;

		slow_rig(&rig, ordering);
		fill_until_slow(&rig, &io);
		/* Long before somebody has to stop. */
		assert_true(pc_segmap_free_nr(&rig.cache->map) >= 64 / 8);
		assert_int_equal(slowed(&rig), 0);
		/* Nothing was written back: each write waits its time, and goes on. */
		before = pc_segmap_free_nr(&rig.cache->map);
		rig_write(&rig, io++ * IO_BYTES, IO_BYTES, 0);
		assert_int_equal(slowed(&rig), 1);
		/* Who must not wait does not. */
		rig_pattern(&rig, rig.scratch, IO_BYTES);
		assert_int_equal(pcache_write(rig.cache, rig.scratch, 0, IO_BYTES, PCACHE_NOWAIT), 0);
		memcpy(rig.model, rig.scratch, IO_BYTES);
		assert_int_equal(slowed(&rig), 1);
		/* For each block that the backing gets at least half of one is admitted, and at once. */
		assert_true(pc_segmap_free_nr(&rig.cache->map) + 1 >= before);
		for (uint32_t grant = 1; grant <= 16; grant *= 2) {
			atomic_store(&rig.cache->space.want_segs, 0);
			rig.cache->admit.credit_bytes = 0;
			pc_admit_grant(rig.cache, grant * IO_BYTES);
			credit = (uint64_t)rig.cache->admit.credit_bytes;
			assert_true(credit >= grant * IO_BYTES / 2);
			assert_true(credit <= grant * IO_BYTES * 512);
			before = slowed(&rig);
			for (uint64_t used = 0; used < credit; used += IO_BYTES)
				rig_write(&rig, 0, IO_BYTES, 0);
			assert_int_equal(slowed(&rig), before);
			rig_write(&rig, 0, IO_BYTES, 0);
			assert_int_equal(slowed(&rig), before + 1);
			if (!is_slow(&rig))
				break;
		}
		rig_drain(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* The less room, the less is admitted for a block that is written back: down to half of one. */
static void the_pace_follows_the_room(void **state)
{
	int64_t last = INT64_MAX;
	struct rig rig;
	uint64_t io = 0;

	(void)state;
	slow_rig(&rig, PCACHE_ORDERING_STRICT);
	fill_until_slow(&rig, &io);
	for (uint32_t steps = 0; pc_segmap_free_nr(&rig.cache->map) > 1; steps++) {
		uint32_t free_nr = pc_segmap_free_nr(&rig.cache->map);

		rig.cache->admit.credit_bytes = 0;
		pc_admit_grant(rig.cache, 8192);
		assert_true(rig.cache->admit.credit_bytes <= last);
		assert_true(rig.cache->admit.credit_bytes >= 4096);
		last = rig.cache->admit.credit_bytes;
		rig.cache->admit.credit_bytes = INT32_MAX; /* free passage to the next segment */
		while (pc_segmap_free_nr(&rig.cache->map) == free_nr && io < WS_IO_NR)
			rig_write(&rig, io++ * IO_BYTES, IO_BYTES, 0);
		if (io == WS_IO_NR)
			break;
	}
	assert_int_equal(last, 4096);
	rig_down(&rig);
}

/* A write-back step as a worker makes it brings passage by itself; when nothing is dirty nobody is slow. */
static void write_back_lets_writers_go_on(void **state)
{
	(void)state;
	for (uint32_t ordering = 0; ordering < 2; ordering++) {
		struct rig rig;
		uint64_t io = 0;
		uint32_t steps = 0;

		slow_rig(&rig, ordering);
		for (uint32_t i = 0; !is_slow(&rig); i++) {
			assert_true(io < WS_IO_NR);
			rig_write(&rig, io++ * IO_BYTES, IO_BYTES, 0);
			if (i % 8 == 0)
				rig_flush(&rig);
		}
		if (ordering == PCACHE_ORDERING_STRICT) {
			/* One epoch, of few writes. */
			assert_int_equal(pc_cache_step(rig.cache, PC_STEP_WRITEBACK, false), 1);
			assert_true(rig.cache->admit.credit_bytes >= 8 * IO_BYTES / 2);
		}
		while (is_slow(&rig)) {
			assert_true(steps++ < 200);
			assert_int_equal(pc_cache_step(rig.cache, PC_STEP_WRITEBACK, false), 1);
			assert_true(pc_cache_step(rig.cache, PC_STEP_EVICT, false) >= 0);
		}
		/* Clean segments count as room: nothing was evicted beyond need. */
		assert_true(rig_info(&rig).dirty_bytes + (64 / 8) * 4096 <= 64 * 4096);
		assert_int_equal(rig.cache->admit.credit_bytes, 0);
		rig_drain(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* A backing that fails makes nothing free: waiting for it would only cost the room that is left its use. */
static void a_dead_backing_slows_nobody(void **state)
{
	struct rig rig;
	uint64_t io = 0;

	(void)state;
	slow_rig(&rig, PCACHE_ORDERING_STRICT);
	fill_until_slow(&rig, &io);
	mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 1, EIO, MEM_BACKING_FOREVER);
	assert_int_equal(pc_cache_step(rig.cache, PC_STEP_WRITEBACK, false), -EIO);
	pc_admit_look(rig.cache);
	assert_false(is_slow(&rig));
	for (uint32_t i = 0; i < 40; i++)
		rig_write(&rig, io++ * IO_BYTES, IO_BYTES, 0);
	assert_int_equal(slowed(&rig), 0);
	mem_backing_clear_faults(rig.mb);
	rig_drain(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* Overwrites of few blocks fill the log and not the data segments: its positions are handed out as slowly. */
static void the_log_runs_full(void **state)
{
	struct rig rig;
	uint64_t room;

	(void)state;
	slow_rig(&rig, PCACHE_ORDERING_BATCH);
	for (uint32_t i = 0; !is_slow(&rig); i++) {
		assert_true(i < 10000);
		rig_zeroes(&rig, i % 8 * IO_BYTES, IO_BYTES, true);
		pc_admit_look(rig.cache);
	}
	assert_true(pc_segmap_free_nr(&rig.cache->map) > 64 / 4);
	room = atomic_load(&rig.cache->log.settled_pos) +
	       (uint64_t)rig.cache->log.max_segs * rig.cache->log.slots_per_seg - atomic_load(&rig.cache->log.head);
	assert_true(room >= (2 + rig.cache->log.max_segs / 8) * (uint64_t)rig.cache->log.slots_per_seg);
	rig_drain(&rig);
	pc_admit_look(rig.cache);
	assert_false(is_slow(&rig));
	rig_check_all(&rig);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slow_before_full),
		cmocka_unit_test(the_pace_follows_the_room),
		cmocka_unit_test(write_back_lets_writers_go_on),
		cmocka_unit_test(a_dead_backing_slows_nobody),
		cmocka_unit_test(the_log_runs_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
