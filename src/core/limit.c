/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The share of the cache that may be dirty.
 *
 *     dirty data   0 .................... start .................... limit ........ all segments
 *                     as writeback_delay_ms says | write-back without delay | writers wait, or get the full error
 *
 * Dirty data is a sum over the segments, too dear for each write. So it is counted only when it may have reached what comes next: until then what is taken is charged to the room that is left up to there, as if no
 * write replaced another. Far from the limit the charge is for whole segments (to_go_bytes), and writes do not notice; where what the open segments can still take might reach it (near), it is for each write
 * (left_bytes), and the short ways of a write are closed. A request is let in while dirty data is below the limit, so the limit is passed by no more than one request, and what was being written when it was counted.
 *
 * Only data counts: zeroes take no room.
 */
#include <errno.h>

#include "core/cache.h"
#include "pcache/errors.h"

#define NEAR_SEGS 2u /* of a head: the open one, and one of a request that runs */

int pc_limit_init(struct pcache *cache)
{
	return pc_cond_init(&cache->limit.cond);
}

void pc_limit_fini(struct pcache *cache)
{
	pc_cond_fini(&cache->limit.cond);
}

static uint64_t segments_bytes(const struct pcache *cache, uint64_t segment_nr)
{
	return segment_nr * cache->map.segment_blk << cache->block_shift;
}

uint64_t pc_limit_dirty_bytes(const struct pcache *cache)
{
	uint64_t blk_nr = 0;

	for (uint32_t id = 0; id < cache->map.segment_nr; id++)
		blk_nr += pc_segmap_dirty_blk(&cache->map, id);
	return blk_nr << cache->block_shift;
}

/* 100 percent is no limit: UINT64_MAX. */
static uint64_t share_bytes(const struct pcache *cache, uint32_t percent)
{
	return percent >= 100 ? UINT64_MAX : segments_bytes(cache, cache->map.segment_nr) / 100 * percent;
}

/* Adds to what is left as much as makes it want_bytes, if nobody took anything meanwhile. */
static void refill(_Atomic int64_t *left, int64_t seen, uint64_t want_bytes)
{
	int64_t want = (int64_t)PC_MIN(want_bytes, (uint64_t)INT64_MAX / 4);

	atomic_fetch_add_explicit(left, want - seen, memory_order_relaxed);
}

/* True: dirty data has reached the limit. */
static bool count_locked(struct pcache *cache)
{
	struct pc_limit *limit = &cache->limit;
	uint64_t limit_bytes = share_bytes(cache, atomic_load_explicit(&limit->limit_percent, memory_order_relaxed));
	uint64_t start_bytes = share_bytes(cache, atomic_load_explicit(&limit->start_percent, memory_order_relaxed));
	uint64_t near_bytes = segments_bytes(cache, (uint64_t)cache->heads.head_nr * NEAR_SEGS), far_bytes, dirty_bytes;
	int64_t left = atomic_load_explicit(&limit->left_bytes, memory_order_relaxed);
	int64_t to_go = atomic_load_explicit(&limit->to_go_bytes, memory_order_relaxed);

	dirty_bytes = pc_limit_dirty_bytes(cache);
	far_bytes = limit_bytes > near_bytes ? limit_bytes - near_bytes : 0;
	refill(&limit->left_bytes, left, limit_bytes > dirty_bytes ? limit_bytes - dirty_bytes : 0);
	refill(&limit->to_go_bytes, to_go,
	       dirty_bytes < start_bytes ? PC_MIN(start_bytes, PC_MAX(far_bytes, dirty_bytes)) - dirty_bytes
	       : dirty_bytes < far_bytes ? far_bytes - dirty_bytes
					 : near_bytes);
	/* Order of memory: the short ways look at the gate alone; one that has passed it is a request that runs. */
	if (dirty_bytes >= far_bytes)
		atomic_fetch_or_explicit(&cache->admit.gate, PC_GATE_LIMIT, memory_order_relaxed);
	else
		atomic_fetch_and_explicit(&cache->admit.gate, (uint8_t)~PC_GATE_LIMIT, memory_order_relaxed);
	atomic_store_explicit(&limit->over_start, dirty_bytes >= start_bytes, memory_order_relaxed);
	return dirty_bytes >= limit_bytes;
}

void pc_limit_count(struct pcache *cache)
{
	struct pc_limit *limit = &cache->limit;
	bool was_over = atomic_load_explicit(&limit->over_start, memory_order_relaxed);

	pc_mutex_lock(&cache->space.lock);
	if (!count_locked(cache) || atomic_load_explicit(&cache->failstop, memory_order_relaxed))
		pc_cond_broadcast(&limit->cond);
	pc_mutex_unlock(&cache->space.lock);
	if (!was_over && atomic_load_explicit(&limit->over_start, memory_order_relaxed))
		pc_signal_work(cache, PC_WORK_URGENT);
}

void pc_limit_took(struct pcache *cache, uint64_t bytes)
{
	int64_t taken = (int64_t)(bytes + segments_bytes(cache, NEAR_SEGS));

	if (atomic_fetch_sub_explicit(&cache->limit.to_go_bytes, taken, memory_order_relaxed) <= taken)
		pc_limit_count(cache);
}

void pc_limit_change(struct pcache *cache)
{
	struct pc_limit *limit = &cache->limit;

	atomic_store_explicit(&limit->on,
			      atomic_load_explicit(&limit->start_percent, memory_order_relaxed) < 100 ||
				      atomic_load_explicit(&limit->limit_percent, memory_order_relaxed) < 100,
			      memory_order_relaxed);
	pc_limit_count(cache);
}

/* ---- who writes near the limit -------------------------------------------------------------------------------------------- */

static bool take(struct pc_limit *limit, uint64_t bytes)
{
	if (atomic_fetch_sub_explicit(&limit->left_bytes, (int64_t)bytes, memory_order_relaxed) > 0)
		return true;
	atomic_fetch_add_explicit(&limit->left_bytes, (int64_t)bytes, memory_order_relaxed);
	return false;
}

/* Until a count finds less. Woken after each step of write-back. */
static int sleep_until_below(struct pcache *cache)
{
	struct pc_limit *limit = &cache->limit;

	pc_mutex_lock(&cache->space.lock);
	atomic_fetch_add_explicit(&limit->waiter_nr, 1, memory_order_relaxed);
	if (count_locked(cache)) {
		atomic_fetch_add_explicit(&cache->stats.full_waits, 1, memory_order_relaxed);
		do {
			pc_signal_work(cache, PC_WORK_URGENT);
			pc_cond_wait(&limit->cond, &cache->space.lock);
		} while (!atomic_load_explicit(&cache->failstop, memory_order_relaxed) &&
			 !atomic_load_explicit(&cache->full_is_error, memory_order_relaxed) && count_locked(cache));
	}
	atomic_fetch_sub_explicit(&limit->waiter_nr, 1, memory_order_relaxed);
	pc_mutex_unlock(&cache->space.lock);
	return atomic_load_explicit(&cache->failstop, memory_order_relaxed) ? PCACHE_E_FAILSTOP : 0;
}

static bool has_reached(struct pcache *cache)
{
	bool reached;

	pc_mutex_lock(&cache->space.lock);
	reached = count_locked(cache);
	pc_mutex_unlock(&cache->space.lock);
	return reached;
}

/* One try to get below. 0: look again. */
static int make_less(struct pcache *cache, struct pc_space_ticket *ticket, uint32_t flags)
{
	if (!cache->caller_maintains && !(flags & PCACHE_NOWAIT) &&
	    !atomic_load_explicit(&cache->full_is_error, memory_order_relaxed))
		return sleep_until_below(cache);
	/* Steps in this thread, or the error. */
	return pc_space_wait(cache, ticket, 0, false, flags);
}

int pc_limit_wait(struct pcache *cache, uint64_t bytes, uint32_t flags)
{
	struct pc_space_ticket ticket = { 0 };
	int rc = 0;

	while (!rc && !take(&cache->limit, bytes) && has_reached(cache))
		rc = make_less(cache, &ticket, flags);
	pc_space_leave(cache, &ticket);
	return rc;
}
