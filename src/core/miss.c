/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Miss: the backing is read without a lock, while a fill of the range is listed in its shard. A write that overlaps does not wait; it cancels the fill,
 * and so the newer data always wins. The reader then looks the range up again: write-back may have written the block while the backing was reading it. The data goes through a buffer of our own: what is kept must be what the backing returned, whatever the caller does
 * with its buffer meanwhile. Without memory for it the read is served and nothing is kept.
 */
#include <stdlib.h>
#include <string.h>

#include "base/sched.h"
#include "core/cache.h"

static bool wants_fill(struct pcache *cache, uint32_t flags)
{
	if (!cache->read_cache || cache->read_only || (flags & PCACHE_NOCACHE))
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

int pc_core_miss(struct pcache *cache, uint64_t mask, void *buf, uint64_t vol_blk, uint64_t len_blk, uint32_t flags)
{
	struct pc_fill fill = { .vol_blk = vol_blk, .len_blk = len_blk };
	uint64_t off = vol_blk << cache->block_shift, len = len_blk << cache->block_shift;
	void *own = wants_fill(cache, flags) ? aligned_alloc(64, PC_ROUND_UP(len, UINT64_C(64))) : NULL;
	bool undisturbed;
	int rc;

	pc_index_fill_list_locked(cache->index, &fill);
	pc_index_unlock(cache->index, mask);
	rc = pc_backing_read(cache->backing, own ? own : buf, off, len);
	PC_YIELD(FILL_READ);
	if (rc)
		atomic_fetch_add_explicit(&cache->stats.backing_errors, 1, memory_order_relaxed);
	if (rc || !own) {
		undisturbed = end_fill(cache, mask, &fill);
	} else {
		memcpy(buf, own, len);
		undisturbed = pc_core_fill(cache, &fill, own);
	}
	free(own);
	if (rc)
		return rc;
	return undisturbed ? 0 : PC_MISS_RETRY;
}
