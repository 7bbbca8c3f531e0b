/* SPDX-License-Identifier: BSD-3-Clause */
/* Log cleaning and eviction: what they may do, what they must leave, and that they make room. */
#include <stdlib.h>
#include <string.h>

#include "core/rig.h"

static uint64_t head(struct rig *rig)
{
	return atomic_load(&rig->cache->log.head);
}

/* Writes until the head is in the segment after the one that it is in now. */
static void leave_segment(struct rig *rig, uint64_t off)
{
	uint64_t seg = head(rig) / rig->cache->log.slots_per_seg;

	for (uint32_t i = 0; head(rig) / rig->cache->log.slots_per_seg == seg; i++) {
		assert_true(i < 4096);
		rig_write(rig, off + (uint64_t)(i % 8) * 512, 512, 0);
	}
}

static void clean_until(struct rig *rig, uint64_t pos)
{
	while (atomic_load(&rig->cache->log.tail) <= pos)
		assert_int_equal(pc_cache_step(rig->cache, PC_STEP_CLEAN, true), 1);
}

static void tail_does_not_pass_the_dirty_tail(void **state)
{
	struct rig rig;
	uint64_t tail;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 0, 512, 0);
	leave_segment(&rig, 8192);
	leave_segment(&rig, 8192);
	tail = rig_info(&rig).log_tail;
	for (uint32_t i = 0; i < 10; i++)
		assert_true(pc_cache_step(rig.cache, PC_STEP_CLEAN, true) >= 0);
	assert_int_equal(rig_info(&rig).log_tail, tail);
	rig_drain(&rig);
	assert_int_equal(pc_cache_step(rig.cache, PC_STEP_CLEAN, true), 1);
	assert_true(rig_info(&rig).log_tail > tail);
	rig_check_all(&rig);
	rig_reopen(&rig);
	rig_check_all(&rig);
	/* The segment of the head is never cleaned. */
	for (uint32_t i = 0; i < 20; i++)
		assert_true(pc_cache_step(rig.cache, PC_STEP_CLEAN, true) >= 0);
	assert_true(atomic_load(&rig.cache->log.tail) <= head(&rig) / 64 * 64);
	rig_down(&rig);
}

/* Live clean data is appended again, without its bytes; over a reopen it is a hit. */
static void live_fragments_are_appended_again(void **state)
{
	struct mem_backing_counters before, after;
	struct rig rig;
	uint64_t pos, place, clean;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	pos = head(&rig);
	rig_write(&rig, 0, 4096, 0);
	rig_write(&rig, 1024, 512, 0); /* leaves two fragments */
	place = rig_find(&rig, 3072);
	leave_segment(&rig, 8192);
	rig_drain(&rig);
	clean = rig_info(&rig).clean_bytes;
	clean_until(&rig, pos);
	assert_int_equal(rig_info(&rig).clean_bytes, clean);
	assert_int_equal(rig_find(&rig, 3072), place);
	rig_reopen(&rig);
	assert_int_equal(rig_info(&rig).clean_bytes, clean);
	assert_int_equal(rig_info(&rig).dirty_bytes, 0);
	mem_backing_get_counters(rig.mb, &before);
	rig_check_range(&rig, 0, 4096);
	mem_backing_get_counters(rig.mb, &after);
	assert_int_equal(after.calls[MEM_BACKING_READ], before.calls[MEM_BACKING_READ]);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* Two keys of one kset with a range in common: each gives what is its own, nothing is left at a position that is gone. */
static void overlapping_keys_of_one_kset(void **state)
{
	(void)state;
	for (uint32_t shape = 0; shape < 3; shape++) {
		const uint64_t offs[3][2] = { { 0, 1024 }, { 1024, 0 }, { 0, 0 } };
		uint8_t bytes[8192];
		struct pcache_range ranges[2] = {
			{ .buf = bytes, .off = offs[shape][0], .len = 3072 },
			{ .buf = bytes + 4096, .off = offs[shape][1], .len = shape == 2 ? 1536 : 3072 }
		};
		struct rig rig;
		uint64_t pos;

		rig_zero(&rig);
		rig.o.segment_bytes = 16384;
		rig_up(&rig);
		rig_pattern(&rig, bytes, sizeof(bytes));
		pos = head(&rig);
		assert_int_equal(pcache_write_batch(rig.cache, ranges, 2, 0), 0);
		for (uint32_t i = 0; i < 2; i++)
			memcpy(rig.model + ranges[i].off, ranges[i].buf, ranges[i].len);
		leave_segment(&rig, 16384);
		rig_drain(&rig);
		clean_until(&rig, pos);
		assert_null(pc_cache_check(rig.cache));
		pos = head(&rig);
		rig_write(&rig, 1024, 1024, 0); /* just what both have */
		leave_segment(&rig, 16384);
		rig_drain(&rig);
		clean_until(&rig, pos);
		rig_check_all(&rig);
		rig_reopen(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* The key of a clean zero goes with the tail: the backing reads as zeroes by itself. */
static void clean_zeroes_go(void **state)
{
	struct rig rig;
	uint64_t pos;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	pos = head(&rig);
	rig_zeroes(&rig, 0, 65536, true);
	leave_segment(&rig, 131072);
	rig_drain(&rig);
	clean_until(&rig, pos);
	rig_check_all(&rig);
	rig_reopen(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

/*
 * With no slot left to append to, clean data is dropped, poison is not: the backing's older bytes would show. 0: no poison; 1: every slot is gone, the tail stays; 2: those that are kept
 * for poison are there, and the tail moves.
 */
static void poison_is_never_dropped(void **state)
{
	_Alignas(64) uint8_t slot[PC_SLOT_BYTES];
	struct pc_log *log;
	struct rig rig;
	uint64_t pos, at;
	uint32_t id;

	(void)state;
	for (uint32_t poison = 0; poison < 3; poison++) {
		rig_zero(&rig);
		rig_up(&rig);
		log = &rig.cache->log;
		rig_write(&rig, 0, 512, 0);
		rig_flush(&rig);
		if (poison)
			rig_flip(&rig, rig_find(&rig, 0));
		pos = head(&rig);
		assert_int_equal(pcache_drain(rig.cache, NULL, NULL), poison ? PCACHE_E_POISONED : 0);
		leave_segment(&rig, 8192);
		assert_int_equal(pcache_drain(rig.cache, NULL, NULL), poison ? PCACHE_E_POISONED : 0);
		assert_true(pos / 64 == atomic_load(&log->tail) / 64);
		/* Somebody else has every free segment, and every slot. */
		while (pc_segmap_take_log(&rig.cache->map, 1000, 1, &id) == 0)
			;
		while (pc_log_reserve(log, 0, 1, poison == 1 ? PC_LOG_POISON : PC_LOG_CLEANING, &at) == 0) {
			pc_kset_encode_void(slot, at, pc_log_seg(log, at)->nonce, 1);
			pc_log_store(log, at, slot, 1);
			pc_media_fence(log->media);
			pc_log_done(log, 0);
		}
		assert_int_equal(pcache_drain(rig.cache, NULL, NULL), poison ? PCACHE_E_POISONED : 0);
		if (poison == 1) {
			assert_true(pc_cache_step(rig.cache, PC_STEP_CLEAN, true) <= 0);
			assert_int_equal(pcache_read(rig.cache, rig.scratch, 0, 512, 0), PCACHE_E_POISONED);
		} else {
			assert_int_equal(pc_cache_step(rig.cache, PC_STEP_CLEAN, true), 1);
			assert_true(atomic_load(&log->tail) / 64 > pos / 64);
			if (poison)
				assert_int_equal(pcache_read(rig.cache, rig.scratch, 0, 512, 0), PCACHE_E_POISONED);
			rig_check_range(&rig, poison ? 512 : 0, 2048);
		}
		rig_down(&rig);
	}
}

static void eviction_spares_dirty_data(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	for (uint64_t i = 0; i < 8; i++)
		rig_write(&rig, i * 4096, 4096, 0);
	for (uint32_t i = 0; i < 20; i++)
		assert_true(pc_cache_step(rig.cache, PC_STEP_EVICT, true) >= 0);
	assert_int_equal(rig_info(&rig).dirty_bytes, 32768);
	assert_int_equal(rig_info(&rig).evicted_segments, 0);
	rig_check_range(&rig, 0, 32768);
	rig_drain(&rig);
	for (uint32_t i = 0; i < 60; i++)
		assert_true(pc_cache_step(rig.cache, PC_STEP_EVICT, true) >= 0);
	assert_true(rig_info(&rig).evicted_segments >= 7); /* all but the open one */
	assert_true(rig_info(&rig).clean_bytes <= 4096);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* The threshold: below it nothing is evicted unasked, above it down to it. */
static void gc_percent(void **state)
{
	(void)state;
	for (int percent = 20; percent <= 90; percent += 35) {
		struct pcache_info info;
		struct rig rig;

		rig_zero(&rig);
		rig.o.segment_nr = 64;
		rig.o.gc_percent = percent;
		rig_up(&rig);
		for (uint32_t i = 0; i < 600; i++) {
			rig_write(&rig, rig_below(&rig, 500) * 512, 512, 0);
			if (i % 32 == 0)
				rig_drain(&rig);
			assert_true(pcache_maintain(rig.cache, 0) >= 0);
		}
		info = rig_info(&rig);
		assert_int_equal(info.gc_percent, percent);
		assert_true(info.segments_free * 100 + 300 >= info.segments * (100 - (uint64_t)percent));
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/*
 * Overwrites of a working set that the cache holds: a pass over the index, whose cost is the length of the index, is made for many segments, and not for each one that falls below the
 * threshold. But who waits gets what there is.
 */
static void a_pass_takes_many(void **state)
{
	uint64_t passes = 0, evicted = 0;
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig.o.segment_nr = 128;
	rig.o.gc_percent = 50;
	rig_up(&rig);
	for (uint32_t i = 0; i < 6000; i++) {
		rig_write(&rig, rig_below(&rig, 250) * 512, 512, 0);
		if (i % 16)
			continue;
		rig_drain(&rig);
		assert_true(pc_cache_step(rig.cache, PC_STEP_CLEAN, false) >= 0);
		assert_true(pc_cache_step(rig.cache, PC_STEP_EVICT, false) >= 0);
		passes += rig_info(&rig).evicted_segments != evicted;
		evicted = rig_info(&rig).evicted_segments;
	}
	assert_true(passes >= 10);
	assert_true(evicted >= 6 * passes); /* a sixteenth and one are 9; some become free without a pass */
	rig_check_all(&rig);
	/* One clean segment is enough when the free ones run out. */
	atomic_store(&rig.cache->space.want_segs, 128);
	for (uint32_t i = 0; i < 128; i++)
		assert_true(pc_cache_step(rig.cache, PC_STEP_EVICT, false) >= 0);
	assert_true(rig_info(&rig).clean_bytes <= 4096); /* the open one */
	atomic_store(&rig.cache->space.want_segs, 0);
	rig_check_all(&rig);
	rig_down(&rig);
}

/*
 * Room is wanted and nothing is clean: write-back drops the oldest of what it has written, where nobody has read lately, and nothing else. The batch is found by a sweep over the index, and, where it has
 * been flushed, in the log.
 */
static void write_back_makes_room(void **state)
{
	(void)state;
	for (uint32_t flushed = 0; flushed < 2; flushed++) {
		struct pcache_info before, after;
		struct rig rig;

		rig_zero(&rig);
		rig.o.segment_nr = 128;
		rig.o.gc_percent = 50;
		rig_up(&rig);
		for (uint64_t at = 0; rig_info(&rig).segments_free >= 60; at++)
			rig_write(&rig, (at % 9 == 0 ? at / 9 : 400 + at % 9) * 512, 512, 0);
		if (flushed)
			rig_flush(&rig);
		rig_check_range(&rig, 0, 512); /* its segment is in use */
		before = rig_info(&rig);
		assert_int_equal(pc_cache_step(rig.cache, PC_STEP_WRITEBACK, false), 1);
		after = rig_info(&rig);
		assert_true(after.evicted_segments > 0);
		assert_true(after.extents < before.extents);
		assert_true(before.extents - after.extents <= before.extents / 4);
		assert_true(after.clean_bytes >= 512);
		rig_check_all(&rig);
		rig_reopen(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* A small cache full of clean data and a long log always makes room, for data and for positions. */
static void always_progress(void **state)
{
	(void)state;
	for (uint32_t shape = 0; shape < 8; shape++) {
		struct rig rig;

		rig_zero(&rig);
		rig.o.granularity = shape & 1 ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
		rig.o.ordering = shape & 2 ? PCACHE_ORDERING_BATCH : PCACHE_ORDERING_STRICT;
		rig.o.full_error = true;
		rig.o.segment_nr = shape & 4 ? 8 : 10;
		rig.o.gc_percent = 90;
		rig_up(&rig);
		for (uint32_t i = 0; i < 3000; i++) {
			switch (rig_below(&rig, 6)) {
			case 0:
				rig_flush(&rig);
				break;
			case 1:
				rig_zeroes(&rig, rig_below(&rig, 400) * 512, 512 * (1 + rig_below(&rig, 100)),
					   rig_below(&rig, 2) != 0);
				break;
			case 2:
				rig_check_range(&rig, rig_below(&rig, 500) * 512, 4096);
				break;
			default:
				rig_write(&rig, rig_below(&rig, 500) * 512, 512 * (1 + rig_below(&rig, 4)), 0);
				break;
			}
		}
		rig_check_all(&rig);
		rig_drain(&rig);
		rig_down(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tail_does_not_pass_the_dirty_tail),
		cmocka_unit_test(live_fragments_are_appended_again),
		cmocka_unit_test(overlapping_keys_of_one_kset),
		cmocka_unit_test(clean_zeroes_go),
		cmocka_unit_test(poison_is_never_dropped),
		cmocka_unit_test(eviction_spares_dirty_data),
		cmocka_unit_test(gc_percent),
		cmocka_unit_test(a_pass_takes_many),
		cmocka_unit_test(write_back_makes_room),
		cmocka_unit_test(always_progress),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
