/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Write-back, the end of a batch: what is on the backing becomes clean, or leaves the cache.
 *
 * It is found by the list of items, by the list of what a sweep has written, or, where neither names all of it, by a walk over the index.
 *
 * A batch that was made because room is wanted, and there is nothing clean to take, drops what it has written at once: eviction would look for just that, in the whole
 * index. Only the oldest, and out of closed segments that nobody has read lately; what else there is becomes clean, and the clock of eviction decides. All that eviction demands
 * is there: backing flushed, tail record durable.
 */
#include "base/probe.h"
#include "base/sched.h"
#include "service/internal.h"

#define ROOM_SHARE 8u /* of what is dirty, a batch that makes room takes this part */

struct cleaning {
	struct pcache *cache;
	uint64_t from; /* positions */
	uint64_t end;
};

/* Of what is dirty the oldest part: what is younger may be overwritten before its turn comes. */
void pc_wb_choose_room(struct pcache *cache, uint64_t from, uint64_t limit)
{
	struct pc_writeback *wb = cache->writeback;
	uint64_t share_slots = (limit - from) / ROOM_SHARE;

	/* A drain writes because it was asked to, and what is young as well. */
	wb->makes_room = !pc_core_draining(cache) && pc_evict_lacks_clean(cache);
	wb->room_end = from + share_slots;
	wb->span_slots = wb->makes_room ? share_slots : UINT64_MAX;
	for (uint32_t id = 0; wb->makes_room && id < cache->map.segment_nr; id++) {
		const struct pc_seg *seg = &cache->map.segs[id];

		wb->gives_room[id] = atomic_load_explicit(&seg->state, memory_order_acquire) == PC_SS_DATA &&
				     atomic_load_explicit(&seg->touched, memory_order_relaxed) != PC_TOUCHED_READ;
	}
}

/* True: the extent leaves the index. */
static bool leaves(struct pcache *cache, const struct pc_extent *extent)
{
	struct pc_writeback *wb = cache->writeback;

	if (!wb->makes_room || extent->pos >= wb->room_end || !wb->gives_room[extent->seg_id])
		return false;
	wb->gives_room[extent->seg_id] = 2;
	return true;
}

/* Segments that this batch has emptied: one may lose something to many batches. */
static void count_emptied(struct pcache *cache)
{
	const struct pc_writeback *wb = cache->writeback;

	for (uint32_t id = 0; wb->makes_room && id < cache->map.segment_nr; id++)
		if (wb->gives_room[id] == 2 && pc_segmap_live_blk(&cache->map, id) == 0) {
			atomic_fetch_add_explicit(&cache->stats.evicted_segs, 1, memory_order_relaxed);
			PC_PROBE1(evict, 1);
		}
}

static enum pc_walk make_clean(void *ctx, struct pc_extent *extent)
{
	const struct cleaning *cleaning = ctx;
	struct pcache *cache = cleaning->cache;

	if (!(extent->flags & PC_EXT_DIRTY) || extent->pos < cleaning->from || extent->pos >= cleaning->end)
		return PC_WALK_KEEP;
	if (!pc_wb_is_data(extent)) {
		/* The backing reads as zeroes by itself now. */
		atomic_fetch_sub_explicit(&cache->dirty_zero_blk, extent->len_blk, memory_order_relaxed);
		return PC_WALK_DROP;
	}
	pc_segmap_dirty(&cache->map, extent->seg_id, pc_index_shard_idx(cache->index, extent->vol_blk),
			-(int32_t)extent->len_blk);
	if (leaves(cache, extent)) {
		pc_core_unref(cache, extent);
		return PC_WALK_DROP;
	}
	extent->flags &= (uint8_t)~PC_EXT_DIRTY;
	return PC_WALK_KEEP;
}

static void clean_part(struct cleaning *cleaning, uint64_t vol_blk, uint64_t len_blk)
{
	struct pc_index *index = cleaning->cache->index;
	uint64_t mask = pc_index_mask(index, vol_blk, len_blk);

	pc_index_lock(index, mask);
	pc_index_walk_range_locked(index, vol_blk, len_blk, make_clean, cleaning);
	pc_index_unlock(index, mask);
}

/* The parts of the batch that the index still shows. */
static void clean_items(struct pcache *cache)
{
	const struct pc_writeback *wb = cache->writeback;

	for (uint32_t i = 0; i < wb->item_nr; i++) {
		const struct pc_extent *extent = &wb->items[i].extent;
		struct cleaning cleaning = { .cache = cache, .from = extent->pos, .end = extent->pos + 1 };

		clean_part(&cleaning, extent->vol_blk, extent->len_blk);
	}
}

/* A part that was cut since begins further on, but in the same chunk. What else is there of these positions was written as well. */
static void clean_swept(struct cleaning *cleaning)
{
	const struct pcache *cache = cleaning->cache;
	const struct pc_writeback *wb = cache->writeback;

	for (uint32_t i = 0; i < wb->swept_nr; i++) {
		uint64_t blk = wb->swept_blks[i], stripe_end = pc_index_stripe_end(cache->index, blk);

		clean_part(cleaning, blk, PC_MIN((uint64_t)cache->chunk_blk, stripe_end - blk));
	}
}

void pc_wb_clean(struct pcache *cache, uint64_t from, uint64_t end)
{
	const struct pc_writeback *wb = cache->writeback;
	struct cleaning cleaning = { .cache = cache, .from = from, .end = end };
	struct pc_index_sweep sweep = { .ctx = &cleaning, .fn = make_clean };

	if (!wb->items_lost)
		clean_items(cache);
	else if (wb->is_swept && !wb->swept_lost)
		clean_swept(&cleaning);
	else
		(void)pc_index_sweep(cache->index, &sweep);
	count_emptied(cache);
}
