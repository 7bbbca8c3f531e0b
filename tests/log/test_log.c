/* SPDX-License-Identifier: BSD-3-Clause */
/* The log: positions, their limits, what is in flight, the chain of segments, and reading it. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "core/rig.h"

/* A cache of 16 segments with 64 slots each. */
static struct pc_log *log_up(struct rig *rig)
{
	rig_zero(rig);
	rig->o.segment_nr = 16;
	rig_up(rig);
	return &rig->cache->log;
}

static uint64_t head(struct pc_log *log)
{
	return atomic_load(&log->head);
}

static void fill_with_void(struct pc_log *log, uint32_t slot_nr, uint64_t pos)
{
	_Alignas(64) uint8_t slot[PC_SLOT_BYTES];

	pc_kset_encode_void(slot, pos, pc_log_seg(log, pos)->nonce, slot_nr);
	pc_log_store(log, pos, slot, 1);
	pc_media_fence(log->media);
	pc_log_done(log, 0);
}

/* Reserves and fills positions with voids of their own. */
static int put_void(struct pc_log *log, uint32_t slot_nr, enum pc_log_user user, uint64_t *out_pos)
{
	int rc = pc_log_reserve(log, 0, slot_nr, user, out_pos);

	if (!rc)
		fill_with_void(log, slot_nr, *out_pos);
	return rc;
}

static void end_of_a_segment_is_padded(void **state)
{
	struct pc_log_reader reader;
	struct pc_kset kset;
	struct pc_log *log;
	struct rig rig;
	const void *buf;
	uint64_t pos, start, seg_end;

	(void)state;
	log = log_up(&rig);
	start = head(log);
	seg_end = pc_log_seg_start(log, start) + 64;
	assert_int_equal(put_void(log, (uint32_t)(seg_end - start - 3), PC_LOG_WRITER, &pos), 0);
	assert_int_equal(pos, start);
	/* What fits, fits exactly. */
	assert_int_equal(put_void(log, 1, PC_LOG_WRITER, &pos), 0);
	assert_int_equal(pos, seg_end - 3);
	assert_int_equal(pc_log_extend(log, true), 0);
	/* The pad is durable as soon as its writer's bound is beyond it: a mark of another thread may say so. */
	assert_int_equal(pc_log_reserve(log, 0, 3, PC_LOG_WRITER, &pos), 0);
	assert_int_equal(pos, seg_end);
	assert_int_equal(pc_log_low(log, PC_INFLIGHT_NR), seg_end);
	assert_int_equal(pc_sim_pending_nr(rig.sim), 0);
	fill_with_void(log, 3, pos);
	assert_int_equal(head(log), seg_end + 3);
	assert_int_equal(pc_log_reader_init(&reader, log), 0);
	assert_int_equal(pc_log_reader_at(&reader, seg_end - 2, head(log), &kset, &buf), PC_VALID);
	assert_int_equal(kset.type, PC_KSET_VOID);
	assert_int_equal(kset.slot_nr, 2);
	assert_int_equal(pc_log_reader_at(&reader, seg_end, head(log), &kset, &buf), PC_VALID);
	assert_int_equal(kset.slot_nr, 3);
	pc_log_reader_fini(&reader);
	rig_down(&rig);
}

/* Writers stop one segment before the end, cleaning before what is kept for poison, that before what is kept for flushes, which take the last slot. Who is refused leaves nothing behind. */
static void limits_by_user(void **state)
{
	struct pc_log *log;
	struct rig rig;
	uint64_t pos, cap_end;

	(void)state;
	log = log_up(&rig);
	cap_end = atomic_load(&log->cap_end);
	while (put_void(log, 1, PC_LOG_WRITER, &pos) == 0)
		assert_true(head(log) <= cap_end - 64);
	assert_int_equal(head(log), cap_end - 64);
	assert_int_equal(pc_log_reserve(log, 9, 1, PC_LOG_WRITER, &pos), PCACHE_E_FULL);
	assert_int_equal(put_void(log, 1, PC_LOG_CLEANING, &pos), 0);
	assert_int_equal(pc_log_low(log, PC_INFLIGHT_NR), head(log)); /* who was refused holds nobody up */
	while (put_void(log, 1, PC_LOG_CLEANING, &pos) == 0)
		;
	assert_int_equal(head(log), cap_end - log->flush_reserve_slots - log->poison_reserve_slots);
	assert_true(log->poison_reserve_slots >= 8);
	assert_int_equal(put_void(log, 2, PC_LOG_CLEANING, &pos), PCACHE_E_FULL);
	while (put_void(log, 1, PC_LOG_POISON, &pos) == 0)
		;
	assert_int_equal(head(log), cap_end - log->flush_reserve_slots);
	while (put_void(log, 1, PC_LOG_FLUSH, &pos) == 0)
		;
	assert_int_equal(head(log), cap_end);
	assert_int_equal(pc_log_low(log, PC_INFLIGHT_NR), cap_end);
	/* A new segment makes room, for writers only beyond the reserve. */
	assert_int_equal(pc_log_extend(log, true), 0);
	assert_int_equal(atomic_load(&log->cap_end), cap_end + 64);
	assert_int_equal(put_void(log, 1, PC_LOG_WRITER, &pos), PCACHE_E_FULL);
	assert_int_equal(pc_log_extend(log, true), 0);
	assert_int_equal(put_void(log, 1, PC_LOG_WRITER, &pos), 0);
	assert_int_equal(pos, cap_end);
	rig_down(&rig);
}

struct extension {
	struct pc_log *log;
	uint64_t cap_end;
	uint32_t fences;
};

static void room_is_not_shown(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	struct extension *extension = user;

	(void)sim, (void)event;
	assert_int_equal(atomic_load(&extension->log->cap_end), extension->cap_end);
	extension->fences++;
}

/* Nobody may store into a segment before its record, in both copies, is durable: after a crash it would be no part of the log, and what it holds would be lost. */
static void room_comes_after_its_record(void **state)
{
	struct extension extension = { .fences = 0 };
	struct rig rig;

	(void)state;
	extension.log = log_up(&rig);
	extension.cap_end = atomic_load(&extension.log->cap_end);
	pc_sim_crash_at(rig.sim, 0, room_is_not_shown, &extension);
	assert_int_equal(pc_log_extend(extension.log, true), 0);
	pc_sim_crash_at(rig.sim, 0, NULL, NULL);
	assert_true(extension.fences >= 2);
	assert_int_equal(pc_sim_pending_nr(rig.sim), 0);
	assert_int_equal(atomic_load(&extension.log->cap_end), extension.cap_end + 64);
	rig_down(&rig);
}

static void low_is_the_oldest_in_flight(void **state)
{
	struct pc_log *log;
	struct rig rig;
	uint64_t a, b, c;

	(void)state;
	log = log_up(&rig);
	assert_int_equal(pc_log_reserve(log, 3, 2, PC_LOG_WRITER, &a), 0);
	assert_int_equal(pc_log_reserve(log, 1, 1, PC_LOG_WRITER, &b), 0);
	assert_int_equal(pc_log_reserve(log, PC_INFLIGHT_FLUSH, 1, PC_LOG_FLUSH, &c), 0);
	assert_int_equal(b, a + 2);
	assert_int_equal(c, b + 1);
	assert_true(pc_log_low(log, PC_INFLIGHT_NR) <= a);
	assert_true(pc_log_durable_pos(log) <= a);
	pc_log_done(log, 1);
	assert_true(pc_log_low(log, PC_INFLIGHT_NR) <= a);
	assert_true(pc_log_low(log, 3) <= c && pc_log_low(log, 3) > a);
	pc_log_done(log, 3);
	assert_true(pc_log_low(log, PC_INFLIGHT_NR) <= c);
	assert_true(pc_log_low(log, PC_INFLIGHT_NR) > a);
	assert_int_equal(pc_log_low(log, PC_INFLIGHT_FLUSH), c + 1);
	pc_log_done(log, PC_INFLIGHT_FLUSH);
	assert_int_equal(pc_log_low(log, PC_INFLIGHT_NR), c + 1);
	assert_int_equal(pc_log_durable_pos(log), c + 1);
	rig_down(&rig);
}

/* Page granularity: durable is what a sync has covered, and only what was done when it began. */
static void durable_at_page_granularity(void **state)
{
	struct pc_log *log;
	struct rig rig;
	uint64_t a, b;
	bool synced;

	(void)state;
	rig_zero(&rig);
	rig.o.granularity = PC_GRAN_PAGE;
	rig_up(&rig);
	log = &rig.cache->log;
	assert_int_equal(pc_log_extend(log, true), 0);
	assert_int_equal(put_void(log, 1, PC_LOG_WRITER, &a), 0);
	assert_true(pc_log_durable_pos(log) <= a);
	assert_int_equal(pc_log_reserve(log, 5, 1, PC_LOG_WRITER, &b), 0);
	assert_int_equal(pc_log_sync_upto(log, a + 1, &synced), 0);
	assert_true(synced);
	assert_int_equal(pc_log_durable_pos(log), b); /* in flight: not yet */
	pc_log_done(log, 5);
	assert_int_equal(pc_log_durable_pos(log), b);
	assert_int_equal(pc_log_sync_upto(log, a + 1, &synced), 0);
	assert_false(synced); /* it is already */
	assert_int_equal(pc_log_sync_upto(log, b + 1, &synced), 0);
	assert_true(synced);
	assert_int_equal(pc_log_durable_pos(log), b + 1);
	/* A failed sync counts for nothing. */
	assert_int_equal(put_void(log, 1, PC_LOG_WRITER, &a), 0);
	pc_sim_fail_sync(rig.sim, 1, -EIO);
	assert_int_equal(pc_log_sync_upto(log, a + 1, &synced), -EIO);
	assert_int_equal(pc_log_durable_pos(log), b + 1);
	rig_down(&rig);
}

/* Page granularity: a flush fills the page of its mark, so that later groups are stored to other pages. A durable write does not, nor does a sync of the services. */
static void flush_fills_its_page(void **state)
{
	const uint32_t page_slots = PC_PAGE_BYTES / PC_SLOT_BYTES;
	struct pc_log_reader reader;
	struct pc_kset kset;
	struct pc_log *log;
	struct rig rig;
	const void *buf;
	uint64_t first;

	(void)state;
	rig_zero(&rig);
	rig.o.granularity = PC_GRAN_PAGE;
	rig.o.segment_bytes = 4 * PC_PAGE_BYTES;
	rig_up(&rig);
	log = &rig.cache->log;
	rig_flush(&rig);
	first = head(log);
	assert_int_equal(first % page_slots, 0);
	rig_write(&rig, 0, 512, PCACHE_DURABLE);
	rig_write(&rig, 512, 512, PCACHE_DURABLE);
	assert_int_equal(head(log), first + 2);
	assert_int_equal(pc_log_durable_pos(log), first + 2);
	rig_flush(&rig);
	assert_int_equal(head(log), first + page_slots);
	assert_int_equal(pc_log_reader_init(&reader, log), 0);
	assert_int_equal(pc_log_reader_at(&reader, first + 3, head(log), &kset, &buf), PC_VALID);
	assert_int_equal(kset.type, PC_KSET_VOID);
	assert_int_equal(kset.slot_nr, page_slots - 3);
	pc_log_reader_fini(&reader);
	/* Nothing new: nothing is stored. */
	rig_flush(&rig);
	assert_int_equal(head(log), first + page_slots);
	rig_down(&rig);
}

static void chain_grows_and_shrinks_in_order(void **state)
{
	struct pc_log *log;
	struct rig rig;
	uint64_t tail, cap_end;
	uint32_t seg_id, free_nr;

	(void)state;
	log = log_up(&rig);
	assert_int_equal(log->max_segs, 4);
	while (pc_log_extend(log, false) == 0)
		;
	cap_end = atomic_load(&log->cap_end);
	tail = atomic_load(&log->tail);
	assert_int_equal((cap_end - tail) / 64, 4);
	assert_int_equal(pc_log_extend(log, false), PCACHE_E_FULL);
	assert_int_equal(atomic_load(&log->cap_end), cap_end);
	assert_int_equal(pc_log_extend(log, true), 0);
	assert_int_equal(pc_log_ordinal(log, cap_end), tail / 64 + 4);
	/* The tail record is durable before the segment is free. */
	seg_id = pc_log_seg(log, tail)->seg_id;
	free_nr = pc_segmap_free_nr(&rig.cache->map);
	pc_layout_tail(&rig.cache->layout);
	rig.cache->layout.tail.dirty_tail_pos = tail + 64; /* as write-back would */
	assert_int_equal(pc_log_drop_tail(log), 0);
	assert_int_equal(atomic_load(&log->tail), tail + 64);
	assert_int_equal(pc_segmap_free_nr(&rig.cache->map), free_nr + 1);
	assert_int_equal(atomic_load(&rig.cache->map.segs[seg_id].state), PC_SS_FREE);
	for (unsigned int i = 0; i < 2; i++) {
		struct pcm_tail bytes;
		struct pc_tail rec;

		memcpy(&bytes, pc_sim_durable(rig.sim) + pc_geo_tail_off(&rig.cache->layout.super, i), sizeof(bytes));
		assert_int_equal(pc_tail_decode(&bytes, &rec), PC_VALID);
		assert_int_equal(rec.log_tail_pos, tail + 64);
	}
	rig_down(&rig);
}

/* Marks carry the lowest position in flight, never their own. */
static void mark_carries_the_lowest_in_flight(void **state)
{
	struct pc_log_reader reader;
	struct pc_kset kset;
	struct pc_log *log;
	struct rig rig;
	const void *buf;
	uint64_t pos, mark;

	(void)state;
	log = log_up(&rig);
	rig_write(&rig, 0, 512, 0);
	assert_int_equal(pc_log_reserve(log, 7, 1, PC_LOG_WRITER, &pos), 0);
	mark = head(log);
	rig_flush(&rig);
	assert_int_equal(head(log), mark + 1);
	assert_int_equal(pc_log_reader_init(&reader, log), 0);
	assert_int_equal(pc_log_reader_at(&reader, mark, head(log), &kset, &buf), PC_VALID);
	assert_int_equal(kset.type, PC_KSET_MARK);
	assert_int_equal(kset.flags, PC_KSET_FLAG_FLUSH);
	assert_true(kset.mark_low_pos <= pos);
	pc_log_done(log, 7);
	rig_write(&rig, 512, 512, 0);
	mark = head(log);
	rig_flush(&rig);
	assert_int_equal(pc_log_reader_at(&reader, mark, head(log), &kset, &buf), PC_VALID);
	assert_int_equal(kset.mark_low_pos, mark);
	/* With nothing new there is no new mark. */
	rig_flush(&rig);
	assert_int_equal(head(log), mark + 1);
	pc_log_reader_fini(&reader);
	rig_down(&rig);
}

static void reader_over_poison(void **state)
{
	struct pc_log_reader reader;
	struct pc_kset kset;
	struct pc_log *log;
	struct rig rig;
	const void *buf;
	uint64_t pos;

	(void)state;
	log = log_up(&rig);
	pos = head(log);
	for (uint64_t i = 0; i < 5; i++)
		rig_write(&rig, i * 1024, 512, 0);
	assert_int_equal(pc_log_reader_init(&reader, log), 0);
	pc_sim_poison(rig.sim, pc_log_media_off(log, pos + 2), 64);
	for (uint32_t turn = 0; turn < 2; turn++) {
		for (uint64_t i = 0; i < 5; i++) {
			enum pc_valid valid = pc_log_reader_at(&reader, pos + i, head(log), &kset, &buf);

			if (i == 2) {
				assert_int_equal(valid, PC_INVALID_CRC);
				assert_null(buf);
			} else {
				assert_int_equal(valid, PC_VALID);
				assert_non_null(buf);
			}
		}
	}
	pc_sim_unpoison(rig.sim);
	assert_int_equal(pc_log_reader_at(&reader, pos + 2, head(log), &kset, &buf), PC_VALID);
	/* Nothing is read beyond the end that the caller gives, nor beyond the segment. */
	assert_int_not_equal(pc_log_reader_at(&reader, head(log), head(log) + 1, &kset, &buf), PC_VALID);
	pc_log_reader_fini(&reader);
	rig_down(&rig);
}

struct racer {
	struct pc_log *log;
	uint32_t idx;
	_Atomic uint32_t *owner; /* by position: who has it */
	uint32_t failed;
};

static void *race(void *arg)
{
	struct racer *racer = arg;

	for (uint32_t i = 0; i < 400; i++) {
		uint32_t slot_nr = 1 + (i + racer->idx) % 3;
		_Alignas(64) uint8_t slot[PC_SLOT_BYTES];
		uint64_t pos;

		if (pc_log_reserve(racer->log, racer->idx, slot_nr, PC_LOG_WRITER, &pos))
			break;
		for (uint32_t j = 0; j < slot_nr; j++)
			racer->failed += atomic_fetch_add(&racer->owner[pos + j], 1) != 0;
		racer->failed += pc_log_low(racer->log, PC_INFLIGHT_NR) > pos;
		racer->failed += pos / 64 != (pos + slot_nr - 1) / 64;
		pc_kset_encode_void(slot, pos, pc_log_seg(racer->log, pos)->nonce, slot_nr);
		pc_log_store(racer->log, pos, slot, 1);
		pc_media_fence(racer->log->media);
		pc_log_done(racer->log, racer->idx);
	}
	return NULL;
}

/* Threads that reserve at once: every position has one owner, the log is whole from end to end. */
static void threads_reserve_at_once(void **state)
{
	static _Atomic uint32_t owner[64 * 200];
	struct racer racers[4];
	pthread_t threads[4];
	struct pc_log_reader reader;
	struct pc_log *log;
	struct rig rig;
	uint64_t pos;

	(void)state;
	rig_zero(&rig);
	rig.o.segment_nr = 128;
	rig.o.sim_flags = PC_SIM_THREADED;
	rig_up(&rig);
	log = &rig.cache->log;
	while (pc_log_extend(log, false) == 0)
		;
	pos = head(log);
	for (uint32_t i = 0; i < 4; i++) {
		racers[i] = (struct racer){ .log = log, .idx = i, .owner = owner };
		assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	}
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(racers[i].failed, 0);
	}
	assert_true(head(log) > pos + 64 * 10);
	assert_int_equal(pc_log_reader_init(&reader, log), 0);
	while (pos < head(log)) {
		struct pc_kset kset;
		const void *buf;

		assert_int_equal(pc_log_reader_at(&reader, pos, head(log), &kset, &buf), PC_VALID);
		pos += kset.slot_nr;
	}
	assert_int_equal(pos, head(log));
	pc_log_reader_fini(&reader);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(end_of_a_segment_is_padded),
		cmocka_unit_test(limits_by_user),
		cmocka_unit_test(room_comes_after_its_record),
		cmocka_unit_test(low_is_the_oldest_in_flight),
		cmocka_unit_test(durable_at_page_granularity),
		cmocka_unit_test(flush_fills_its_page),
		cmocka_unit_test(chain_grows_and_shrinks_in_order),
		cmocka_unit_test(mark_carries_the_lowest_in_flight),
		cmocka_unit_test(reader_over_poison),
		cmocka_unit_test(threads_reserve_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
