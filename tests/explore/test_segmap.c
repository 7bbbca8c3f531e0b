/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The counts of the segment map and its free list, the code of alloc/segmap.c, in every interleaving of those who make a segment empty, read it, close it, free it and take it: it comes free
 * only when nothing in it is live and nobody has it pinned, it is never forgotten, and the free list has each segment once. And that wrong orders are found.
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
#include <stdlib.h>

#include "alloc/segmap.h"

static int record_stored(const struct pc_segrec *rec);
#define pc_layout_store_segrec(layout, rec) record_stored(rec)
#include "alloc/segmap.c" /* NOLINT: the code itself, with those accesses */

#include <cmocka.h>

#include "explore/expect.h"

#define SEG_NR 3u
#define SHARE_NR 2u
#define PART_BLK 2u /* of each share in segment 0 */

static struct pc_segmap map;
static struct pc_layout layout;
static struct pc_segrec segrecs[SEG_NR];
static struct pc_seg segs[SEG_NR];
static struct pc_seg_share shares[SEG_NR * SHARE_NR];
static uint32_t free_ids[SEG_NR];
static struct pc_mutex shard; /* of share 0 */
static uint32_t live_blk; /* in segment 0, as the index has it */
static bool is_read; /* segment 0, by somebody who has pinned it */
static bool starts_open; /* else closed */
static uint32_t (*reclaim)(struct pc_segmap *map, uint64_t durable_dirty_tail, uint64_t durable_pos);
static void (*unref)(uint32_t share_idx);

/* Segments 1 and 2 are nobody's. */
bool explore_skips(const volatile void *at)
{
	const volatile char *p = at;

	return (p >= (const volatile char *)&segs[1] && p < (const volatile char *)(segs + SEG_NR)) ||
	       (p >= (const volatile char *)&shares[SHARE_NR] &&
		p < (const volatile char *)(shares + PC_ARRAY_NR(shares)));
}

static void begin(void *arg)
{
	(void)arg;
	explore_locks_begin();
	memset(&map, 0, sizeof(map));
	memset(segs, 0, sizeof(segs));
	memset(shares, 0, sizeof(shares));
	layout.segrecs = segrecs;
	map.layout = &layout;
	map.segs = segs;
	map.shares = shares;
	map.free_ids = free_ids;
	map.segment_nr = SEG_NR;
	map.share_nr = SHARE_NR;
	map.segment_blk = SHARE_NR * PART_BLK;
	map.quantum_shift = 1;
	map.open_max_blk = SHARE_NR * ((1u << map.quantum_shift) - 1);
	atomic_init(&segs[0].taken_blk, SHARE_NR * PART_BLK);
	segs[0].state = starts_open ? PC_SS_OPEN : PC_SS_DATA;
	segs[2].state = PC_SS_LOG;
	pc_segmap_adopt_done(&map);
	atomic_init(&map.maybe_empty, false);
	live_blk = SHARE_NR * PART_BLK;
	is_read = false;
}

/* Nobody may be in a segment that has left its life. */
static void look_at_free(void)
{
	if (segs[0].state == PC_SS_FREE && (live_blk || is_read))
		explore_fail("a segment is free that is live or read");
}

static int record_stored(const struct pc_segrec *rec)
{
	explore_point();
	if (rec->seg_id == 0 && (live_blk || is_read))
		explore_fail("a segment is taken that is live or read");
	return 0;
}

static void unref_one(uint32_t share_idx)
{
	pc_segmap_unref(&map, 0, share_idx, 1);
}

/* Overwrites what a shard has in the segment, a block at a time. */
static void empty_share(uint32_t share_idx, const struct pc_mutex *lock)
{
	for (uint32_t i = 0; i < PART_BLK; i++) {
		explore_mutex_lock(lock);
		live_blk--;
		unref(share_idx);
		explore_mutex_unlock(lock);
	}
}

static void first_shard(void *arg)
{
	(void)arg;
	empty_share(0, &shard);
}

static void second_shard(void *arg)
{
	static const struct pc_mutex other;

	(void)arg;
	empty_share(1, &other);
}

/* Both shards, one after the other. */
static void overwriter(void *arg)
{
	second_shard(arg);
	first_shard(arg);
}

static void reclaimer(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < 2; i++) {
		(void)reclaim(&map, 1, 1);
		look_at_free();
	}
}

static void closer(void *arg)
{
	(void)arg;
	pc_segmap_close(&map, 0);
	reclaimer(arg);
}

/* Looks up in the first shard: while that has something there, it may be pinned, and is read without the lock. */
static void reader(void *arg)
{
	(void)arg;
	explore_mutex_lock(&shard);
	if (atomic_load_explicit(&shares[0].freed_blk, memory_order_relaxed) == PART_BLK) {
		explore_mutex_unlock(&shard);
		return;
	}
	pc_seg_pin(&segs[0]);
	is_read = true;
	explore_mutex_unlock(&shard);
	explore_point();
	is_read = false;
	pc_seg_unpin(&segs[0]);
}

/* Frees and takes what there is. */
static void taker(void *arg)
{
	uint32_t id;

	reclaimer(arg);
	for (uint32_t i = 0; i < 2; i++)
		(void)pc_segmap_take_log(&map, 1, 1, &id);
}

static void free_list_is_right(void)
{
	uint32_t seen[SEG_NR] = { 0 }, free_nr = 0;

	for (uint32_t i = 0; i < atomic_load(&map.free_nr); i++)
		if (seen[map.free_ids[(map.free_first + i) % SEG_NR]]++)
			explore_fail("a segment is in the free list twice");
	for (uint32_t id = 0; id < SEG_NR; id++)
		free_nr += segs[id].state == PC_SS_FREE;
	if (free_nr != atomic_load(&map.free_nr))
		explore_fail("the free list lacks a segment");
}

/* Who comes by when all is quiet finds what is empty. */
static void end(void *arg)
{
	(void)arg;
	free_list_is_right();
	(void)reclaim(&map, 1, 1);
	if (live_blk || segs[0].state == PC_SS_DATA || segs[0].state == PC_SS_OPEN)
		explore_fail("an empty segment is forgotten");
	free_list_is_right();
}

static struct explore_result explore_up_to(uint32_t preemptions_max, void (*a)(void *arg), void (*b)(void *arg),
					   void (*c)(void *arg))
{
	struct explore_scene scene = {
		.threads = { a, b, c }, .begin = begin, .end = end, .preemptions_max = preemptions_max
	};

	starts_open = a == closer;
	return explore(&scene);
}

static struct explore_result explore_segmap(void (*a)(void *arg), void (*b)(void *arg), void (*c)(void *arg))
{
	return explore_up_to(explore_preemptions(c ? 2 : 3), a, b, c);
}

/* The wrong orders take two preemptions, however little time the build has. */
static struct explore_result explore_wrong(void (*a)(void *arg), void (*b)(void *arg), void (*c)(void *arg))
{
	return explore_up_to(2, a, b, c);
}

static void counts_and_list_are_right(void **state)
{
	(void)state;
	reclaim = pc_segmap_reclaim;
	unref = unref_one;
	expect_right(explore_segmap(first_shard, second_shard, reclaimer));
	expect_right(explore_segmap(closer, overwriter, NULL));
	expect_right(explore_segmap(closer, first_shard, second_shard));
	expect_right(explore_segmap(reader, overwriter, taker));
	expect_right(explore_segmap(overwriter, taker, NULL));
}

/* ---- orders that are wrong ---- */

static uint32_t reclaim_clears_last(struct pc_segmap *of, uint64_t durable_dirty_tail, uint64_t durable_pos)
{
	uint32_t nr = 0;

	if (!atomic_load(&of->maybe_empty))
		return 0;
	explore_mutex_lock(&of->lock);
	for (uint32_t id = 0; id < of->segment_nr; id++)
		nr += reclaimable(of, id, durable_dirty_tail, durable_pos) && push_locked(of, id);
	explore_mutex_unlock(&of->lock);
	atomic_store(&of->maybe_empty, false);
	return nr;
}

static uint32_t reclaim_ignores_pins(struct pc_segmap *of, uint64_t durable_dirty_tail, uint64_t durable_pos)
{
	(void)durable_dirty_tail, (void)durable_pos;
	if (get_state(&of->segs[0]) == PC_SS_DATA && pc_segmap_live_blk(of, 0) == 0)
		return push_locked(of, 0);
	return 0;
}

/* What is published counts for what is gone. */
static uint32_t reclaim_by_quanta(struct pc_segmap *of, uint64_t durable_dirty_tail, uint64_t durable_pos)
{
	(void)durable_dirty_tail, (void)durable_pos;
	explore_mutex_lock(&of->lock);
	if (is_nearly_empty(of, 0))
		(void)push_locked(of, 0);
	explore_mutex_unlock(&of->lock);
	return 0;
}

static void unref_tells_first(uint32_t share_idx)
{
	struct pc_seg_share *share = pc_segmap_share(&map, 0, share_idx);

	atomic_store(&map.maybe_empty, true);
	atomic_store(&share->freed_blk, atomic_load(&share->freed_blk) + 1);
	if (atomic_load(&share->freed_blk) == PART_BLK)
		(void)atomic_fetch_add_explicit(&segs[0].published_blk, PART_BLK, memory_order_acq_rel);
}

static void wrong_orders_are_found(void **state)
{
	(void)state;
	unref = unref_one;
	reclaim = reclaim_clears_last;
	expect_wrong(explore_wrong(first_shard, second_shard, reclaimer), "an empty segment is forgotten");
	reclaim = reclaim_ignores_pins;
	expect_wrong(explore_wrong(reader, overwriter, taker), "a segment is free that is live or read");
	reclaim = reclaim_by_quanta;
	expect_wrong(explore_wrong(first_shard, second_shard, reclaimer), "a segment is free that is live or read");
	unref = unref_tells_first;
	reclaim = pc_segmap_reclaim;
	expect_wrong(explore_wrong(first_shard, second_shard, reclaimer), "an empty segment is forgotten");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_and_list_are_right),
		cmocka_unit_test(wrong_orders_are_found),
	};

	return cmocka_run_group_tests_name("explore_segmap", tests, NULL, NULL);
}
