/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The sleep of the write-back worker and the writers who wake it, the code of service/worker.c, core/space.c and log/log.c, in every interleaving: whatever a writer has reserved, a worker
 * that sleeps without limit is woken for it. And that wrong orders are found.
 */
#ifndef NDEBUG
#define NDEBUG
#endif
#undef PC_PLANTS
#include "explore/explore_atomics.h"
#include "explore/explore_locks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "core/cache.h"

#define pc_media_copy(media, media_off, bytes, len) ((void)(media_off), (void)(bytes), (void)(len))
#define pc_media_fence(media) ((void)0)
#include "core/space.c" /* NOLINT: the code itself, with those accesses */
#include "log/log.c" /* NOLINT */
#include "service/worker.c" /* NOLINT */

#include <cmocka.h>

#include "explore/expect.h"

#define SLOTS_PER_SEG 64u
#define SEG_NR 4u
#define START_POS SLOTS_PER_SEG

static struct pcache cache;
static struct pc_log_seg ring[SEG_NR];
static bool (*sleep_idle)(void);
static void (*write_one)(uint32_t idx);
static uint32_t woken_nr;

/* Slots of nobody are idle all the time. */
bool explore_skips(const volatile void *at)
{
	const volatile char *p = at, *slots = (const volatile char *)&cache.log.inflight[EXPLORE_THREADS_MAX];

	return p >= slots && p < (const volatile char *)&cache.log.inflight[0] + sizeof(cache.log.inflight);
}

static void begin(void *arg)
{
	(void)arg;
	explore_locks_begin();
	memset(&cache.signal, 0, sizeof(cache.signal));
	memset(&cache.log, 0, sizeof(cache.log));
	cache.layout.super.segment_bytes = SLOTS_PER_SEG * PC_SLOT_BYTES;
	cache.layout.tail.dirty_tail_pos = START_POS;
	cache.log.layout = &cache.layout;
	cache.log.ring = ring;
	cache.log.ring_nr = SEG_NR;
	cache.log.slots_per_seg = SLOTS_PER_SEG;
	cache.log.slots_shift = 6;
	cache.log.max_segs = SEG_NR;
	atomic_init(&cache.log.cap_end, SEG_NR * SLOTS_PER_SEG);
	atomic_init(&cache.log.writer_limit, SEG_NR * SLOTS_PER_SEG);
	atomic_init(&cache.log.tail, START_POS);
	atomic_init(&cache.log.head, START_POS);
	for (uint32_t i = 0; i < PC_INFLIGHT_NR; i++)
		atomic_init(&cache.log.inflight[i].low_pos, PC_POS_IDLE);
	woken_nr = 0;
}

static bool sleep_as_it_is(void)
{
	return await_work(&cache);
}

/* Until the dirty tail has come to the head for the second writer's position, too: each time it is woken it writes all back. */
static void worker(void *arg)
{
	const uint64_t all = START_POS + (arg ? 2 : 1);

	while (cache.layout.tail.dirty_tail_pos < all) {
		(void)take_urgent(&cache);
		if (!sleep_idle())
			explore_fail("nobody said stop");
		woken_nr++;
		explore_point();
		cache.layout.tail.dirty_tail_pos = cache.log.head;
	}
}

static uint64_t reserve(uint32_t idx)
{
	uint64_t pos = 0;

	if (pc_log_reserve(&cache.log, idx, 1, PC_LOG_WRITER, &pos))
		explore_fail("there is room");
	return pos;
}

/* What a write does when it has its position. */
static void look(void)
{
	if (atomic_load_explicit(&cache.signal.writeback_idle, memory_order_seq_cst))
		pc_signal_work(&cache, PC_WORK_WRITEBACK);
}

static void write_as_it_is(uint32_t idx)
{
	(void)reserve(idx);
	pc_log_done(&cache.log, idx);
	look();
}

static void writer(void *arg)
{
	(void)arg;
	write_one(explore_self());
}

/* Room is wanted meanwhile, and is not any more when the worker looks. */
static void asks_for_room(void *arg)
{
	(void)arg;
	pc_signal_work(&cache, PC_WORK_URGENT);
}

static struct explore_result explore_idle(void (*third)(void *arg))
{
	const struct explore_scene scene = { .threads = { worker, writer, third },
					     .begin = begin,
					     .arg = third == writer ? &cache : NULL,
					     .preemptions_max = explore_preemptions(third ? 2 : 4) };

	return explore(&scene);
}

static void no_write_is_left_behind(void **state)
{
	(void)state;
	sleep_idle = sleep_as_it_is;
	write_one = write_as_it_is;
	expect_right(explore_idle(NULL));
	assert_true(woken_nr > 0);
	expect_right(explore_idle(writer));
	expect_right(explore_idle(asks_for_room));
}

/* ---- orders that are wrong ---- */

static bool sleep_looks_first(void)
{
	if (log_has_dirty(&cache))
		return true;
	atomic_store_explicit(&cache.signal.writeback_idle, true, memory_order_seq_cst);
	return await_bits(&cache, PC_WORK_WRITEBACK);
}

/* What came before counts for nothing. */
static bool sleep_forgets_bits(void)
{
	atomic_store_explicit(&cache.signal.writeback_idle, true, memory_order_seq_cst);
	if (log_has_dirty(&cache))
		return true;
	explore_mutex_lock(&cache.signal.lock);
	cache.signal.bits = 0;
	explore_cond_wait(&cache.signal.cond, &cache.signal.lock);
	explore_mutex_unlock(&cache.signal.lock);
	return true;
}

static void write_looks_first(uint32_t idx)
{
	look();
	(void)reserve(idx);
	pc_log_done(&cache.log, idx);
}

static void wrong_orders_are_found(void **state)
{
	(void)state;
	write_one = write_as_it_is;
	sleep_idle = sleep_looks_first;
	expect_wrong(explore_idle(NULL), "nobody can go on");
	sleep_idle = sleep_forgets_bits;
	expect_wrong(explore_idle(NULL), "nobody can go on");
	sleep_idle = sleep_as_it_is;
	write_one = write_looks_first;
	expect_wrong(explore_idle(NULL), "nobody can go on");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_write_is_left_behind),
		cmocka_unit_test(wrong_orders_are_found),
	};

	return cmocka_run_group_tests_name("explore_idle", tests, NULL, NULL);
}
