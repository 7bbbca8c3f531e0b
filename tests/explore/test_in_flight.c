/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Positions of the log and their slots in flight, the code of log/log.c, in every interleaving of two writers and one who asks what is durable: no position is given out twice, and what
 * pc_log_low calls durable is. The ends of segments are met too: a pad is in flight as well. And that a wrong order is found.
 */
#ifndef NDEBUG
#define NDEBUG
#endif
#undef PC_PLANTS
#include "explore/explore_atomics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include "log/log.h"

/* Positions, not bytes, are what is looked at. */
static void stored(uint64_t media_off, const void *bytes, size_t len);
static void fenced(void);
#define pc_media_copy(media, media_off, bytes, len) stored(media_off, bytes, len)
#define pc_media_fence(media) fenced()
#include "log/log.c" /* NOLINT: the code itself, with those accesses */

#include <cmocka.h>

#include "explore/expect.h"

#define SLOTS_PER_SEG 4u
#define SEG_NR 8u
#define POS_NR (SEG_NR * SLOTS_PER_SEG)
#define START_POS (2 * SLOTS_PER_SEG)
#define SHARD_OF_OBSERVER 2u

static struct pc_log the_log;
static struct pc_log_seg ring[SEG_NR];
static struct pc_layout layout;
static uint32_t owner_nr[POS_NR]; /* writers that got a position */
static bool durable[POS_NR];
static uint64_t pending_pos[EXPLORE_THREADS_MAX]; /* stored by a thread and not fenced; UINT64_MAX: none */
static uint32_t pending_nr[EXPLORE_THREADS_MAX];
static bool broken_done; /* the slot is idle before the fence */

/* Slots of nobody are idle all the time: whoever reads them meets no one. */
bool explore_skips(const volatile void *at)
{
	const volatile char *slots = (const volatile char *)the_log.inflight, *p = at;

	return p >= slots && p < slots + sizeof(the_log.inflight) && p >= (const volatile char *)&the_log.inflight[2];
}

static void begin(void *arg)
{
	(void)arg;
	memset(&the_log, 0, sizeof(the_log));
	memset(owner_nr, 0, sizeof(owner_nr));
	memset(durable, 0, sizeof(durable));
	for (uint32_t i = 0; i < EXPLORE_THREADS_MAX; i++)
		pending_pos[i] = UINT64_MAX;
	layout.super.segment_bytes = SLOTS_PER_SEG * PC_SLOT_BYTES;
	for (uint32_t i = 0; i < SEG_NR; i++)
		ring[i].seg_id = i;
	the_log.layout = &layout;
	the_log.ring = ring;
	the_log.ring_nr = SEG_NR;
	the_log.slots_per_seg = SLOTS_PER_SEG;
	the_log.slots_shift = 2;
	the_log.max_segs = SEG_NR;
	atomic_init(&the_log.cap_end, POS_NR);
	atomic_init(&the_log.writer_limit, POS_NR);
	atomic_init(&the_log.tail, START_POS);
	atomic_init(&the_log.head, START_POS + 1);
	durable[START_POS] = true;
	for (uint32_t i = 0; i < START_POS; i++)
		durable[i] = true;
	for (uint32_t i = 0; i < PC_INFLIGHT_NR; i++)
		atomic_init(&the_log.inflight[i].low_pos, PC_POS_IDLE);
}

static void own(uint64_t pos, uint32_t nr)
{
	uint32_t self = explore_self();

	for (uint32_t i = 0; i < nr; i++)
		if (owner_nr[pos + i]++)
			explore_fail("a position was given out twice");
	pending_pos[self] = pos;
	pending_nr[self] = nr;
}

/* A pad reaches to the end of its segment. */
static void stored(uint64_t media_off, const void *bytes, size_t len)
{
	uint64_t pos = (media_off - layout.super.data_off) / PC_SLOT_BYTES;

	(void)bytes, (void)len;
	own(pos, (uint32_t)(SLOTS_PER_SEG - pos % SLOTS_PER_SEG));
}

static void fenced(void)
{
	uint32_t self = explore_self();

	explore_point();
	for (uint32_t i = 0; i < pending_nr[self]; i++)
		durable[pending_pos[self] + i] = true;
}

static void writer(void *arg)
{
	uint32_t idx = explore_self();

	(void)arg;
	for (uint32_t i = 0; i < 2; i++) {
		uint64_t pos;

		if (pc_log_reserve(&the_log, idx, 2 + idx, PC_LOG_WRITER, &pos))
			explore_fail("there is room");
		own(pos, 2 + idx);
		if (broken_done)
			pc_log_done(&the_log, idx);
		fenced();
		pc_log_done(&the_log, idx);
	}
}

static void observer(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < 2; i++) {
		uint64_t low = pc_log_low(&the_log, PC_INFLIGHT_NR);

		for (uint64_t pos = 0; pos < low; pos++)
			if (!durable[pos])
				explore_fail("what is called durable is not");
	}
}

static void end(void *arg)
{
	uint64_t head = atomic_load(&the_log.head);

	(void)arg;
	for (uint64_t pos = START_POS + 1; pos < head; pos++)
		if (owner_nr[pos] != 1 || !durable[pos])
			explore_fail("a position has no owner, or is not durable");
	if (pc_log_low(&the_log, PC_INFLIGHT_NR) != head)
		explore_fail("something is still in flight");
}

static struct explore_result explore_log(bool with_two)
{
	struct explore_scene scene = {
		.threads = { writer, observer }, .begin = begin, .end = end, .preemptions_max = 3
	};

	if (with_two) {
		scene.threads[1] = writer;
		scene.threads[2] = observer;
		scene.preemptions_max = explore_preemptions(2);
	}
	return explore(&scene);
}

static void what_is_called_durable_is(void **state)
{
	(void)state;
	expect_right(explore_log(false));
	expect_right(explore_log(true));
}

static void a_wrong_order_is_found(void **state)
{
	(void)state;
	broken_done = true;
	expect_wrong(explore_log(false), "what is called durable is not");
	expect_wrong(explore_log(true), "what is called durable is not");
	broken_done = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_called_durable_is),
		cmocka_unit_test(a_wrong_order_is_found),
	};

	return cmocka_run_group_tests_name("explore_in_flight", tests, NULL, NULL);
}
