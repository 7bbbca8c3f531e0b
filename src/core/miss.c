/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Miss: the backing is read without a lock, while a fill of the range is listed in its shard. A write that overlaps does not wait; it cancels the fill,
 * and so the newer data always wins. The reader then looks the range up again: write-back may have written the block while the backing was reading it. The data goes through a buffer of our own: what is kept must be what the backing returned, whatever the caller does
 * with its buffer meanwhile. Without memory for it the read is served and nothing is kept.
 *
 * What is kept has a fence of its own, as every append has (docs/decisions/0008): without it, later positions would be called durable while a position below them is not, and
 * an open could not tell a fill that was lost from a write that was.
 */
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"
#include "base/probe.h"
#include "base/sched.h"
#include "core/cache.h"

#define SMALL_BYTES ((uint64_t)PC_PAGE_BYTES) /* fills up to here have their buffer on the stack */

static bool wants_fill(struct pcache *cache, uint32_t flags)
{
	if ((flags & PCACHE_NOCACHE) || !cache->read_cache || cache->read_only)
		return false;
	if (atomic_load_explicit(&cache->fills_off, memory_order_relaxed))
		return false;
	if (atomic_load_explicit(&cache->failstop, memory_order_relaxed))
		return false;
	/* Without CRCs each fill at page granularity would cost a sync of its own: not worth it. */
	if (cache->guard_fence && cache->media->granularity == PC_GRAN_PAGE)
		return false;
	return true;
}

static bool end_fill(struct pcache *cache, uint64_t mask, struct pc_fill *fill)
{
	bool cancelled;

	pc_index_lock(cache->index, mask);
	cancelled = fill->cancelled;
	pc_index_fill_unlist_locked(cache->index, fill);
	pc_index_unlock(cache->index, mask);
	return !cancelled;
}

/* The fill is listed and nothing is locked. own: a buffer for what is to be kept, or NULL. As pc_core_miss. */
static int miss_listed(struct pcache *cache, uint64_t mask, struct pc_fill *fill, void *buf, void *own)
{
	uint64_t off = fill->vol_blk << cache->block_shift, len = fill->len_blk << cache->block_shift;
	int rc = pc_backing_read(cache->backing, own ? own : buf, off, len);
	bool undisturbed;

	PC_YIELD(FILL_READ);
	PC_PROBE3(miss, off, len, rc);
	if (rc)
		atomic_fetch_add_explicit(&cache->stats.backing_errors, 1, memory_order_relaxed);
	if (rc || !own) {
		undisturbed = end_fill(cache, mask, fill);
	} else {
		memcpy(buf, own, len);
		undisturbed = pc_core_fill(cache, fill, own);
	}
	if (rc)
		return rc;
	return undisturbed ? 0 : PC_MISS_RETRY;
}

/* In a function of its own, so that only small fills pay for the room on the stack. */
static __attribute__((noinline)) int miss_small(struct pcache *cache, uint64_t mask, struct pc_fill *fill, void *buf)
{
	_Alignas(PC_PAGE_BYTES) uint8_t own[SMALL_BYTES];

	return miss_listed(cache, mask, fill, buf, own);
}

int pc_core_miss(struct pcache *cache, uint64_t mask, void *buf, uint64_t vol_blk, uint64_t len_blk, uint32_t flags)
{
	struct pc_fill fill = { .vol_blk = vol_blk, .len_blk = len_blk };
	uint64_t len = len_blk << cache->block_shift;
	void *own = NULL;
	int rc;

	if (pc_core_held_locked(cache, mask, vol_blk, len_blk) && !PC_PLANTED(PC_PLANT_HOLD_UNSEEN_BY_MISSES)) {
		uint64_t seen_nr = atomic_load_explicit(&cache->holds.released_nr, memory_order_relaxed);

		pc_index_unlock(cache->index, mask);
		(void)pc_core_hold_wait(cache, seen_nr, 0);
		return PC_MISS_RETRY;
	}
	pc_index_fill_list_locked(cache->index, &fill);
	pc_index_unlock(cache->index, mask);
	if (wants_fill(cache, flags)) {
		if (len <= SMALL_BYTES)
			return miss_small(cache, mask, &fill, buf);
		own = aligned_alloc(PC_PAGE_BYTES, PC_ROUND_UP(len, (uint64_t)PC_PAGE_BYTES));
	}
	rc = miss_listed(cache, mask, &fill, buf, own);
	free(own);
	return rc;
}
