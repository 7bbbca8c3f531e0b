/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Log cleaning: the tail of the log moves on by one segment.
 *
 * What is still live of the oldest segment are the extents of the index whose position lies in it. They are appended again, 32 bytes each,
 * marked clean and appended again; no data moves. They are found by a walk over the index, not over the segment: most keys there are dead, and a look-up of each would
 * cost more than a walk in order. The walk lets go of a shard's lock after a while; what comes behind it carries newer positions. Decision, reservation and append are one step
 * under the shard lock, so an overwrite cannot come between.
 *
 * Then the tail record moves, then the segment is free. The tail never passes the settled dirty tail nor a position that is not durable, so everything met here is clean, and dropping it
 * instead is always allowed (but for poison): that is done when there are no slots left to append to, so cleaning always ends and always frees its segment.
 */
#include <stdlib.h>
#include <string.h>

#include "pcache/errors.h"
#include "service/internal.h"

#define FRAGMENTS_MAX 62u
#define VISIT_MAX 2048u /* extents looked at in one hold of a shard's lock */

/* How far cleaning may go in appending, before it drops what is left. */
struct budget {
	uint64_t slots_left;
};

/* One stretch of a shard. */
struct stretch {
	struct pcache *cache;
	uint64_t tail_end_pos; /* extents below are of the oldest segment */
	struct pc_extent *found[FRAGMENTS_MAX];
	uint32_t found_nr;
	uint32_t visited_nr;
	uint64_t resume_blk; /* where the next stretch begins */
	bool at_end; /* of the shard */
};

static enum pc_walk gather(void *ctx, struct pc_extent *extent)
{
	struct stretch *stretch = ctx;

	if (stretch->found_nr == PC_MIN(FRAGMENTS_MAX, stretch->cache->clean_keys_max) || stretch->visited_nr == VISIT_MAX) {
		stretch->resume_blk = extent->vol_blk;
		stretch->at_end = false;
		return PC_WALK_STOP;
	}
	stretch->visited_nr++;
	if (extent->pos < stretch->tail_end_pos)
		stretch->found[stretch->found_nr++] = extent;
	return PC_WALK_KEEP;
}

static bool is_poison(const struct pc_extent *extent)
{
	return (extent->flags & PC_EXT_TYPE_MASK) == PC_EXT_POISON;
}

static enum pc_walk drop_old(void *ctx, struct pc_extent *extent)
{
	struct stretch *stretch = ctx;

	if (stretch->visited_nr == 0)
		return PC_WALK_STOP;
	stretch->visited_nr--;
	if (extent->pos >= stretch->tail_end_pos || is_poison(extent))
		return PC_WALK_KEEP;
	pc_segmap_unref(&stretch->cache->map, &stretch->cache->map.segs[extent->seg_id], extent->len_blk);
	return PC_WALK_DROP;
}

static void put_fragment(struct pcache *cache, struct pc_kbuf *kbuf, const struct pc_extent *extent)
{
	struct pc_key key = {
		.vol_blk = extent->vol_blk,
		.len_blk = extent->len_blk,
		.flags = PC_KEY_CLEAN | PC_KEY_RELOGGED,
	};
	uint32_t chunk_nr = 0, cell_idx;

	if ((extent->flags & PC_EXT_TYPE_MASK) == PC_EXT_DATA) {
		key.gen = atomic_load_explicit(&cache->map.segs[extent->seg_id].gen, memory_order_relaxed);
		key.seg_id = extent->seg_id;
		key.seg_blk = extent->seg_blk;
		key.geom = extent->geom;
		chunk_nr = cache->data_crc ? 1 : 0;
	} else {
		key.flags |= PC_KEY_POISON;
	}
	cell_idx = pc_kbuf_add(kbuf, chunk_nr);
	if (chunk_nr)
		*pc_kbuf_crcs(kbuf, cell_idx, chunk_nr) = pc_le32(extent->crc);
	pc_kbuf_put_key(kbuf, cell_idx, &key, chunk_nr);
}

/* Appends extents again and gives them their new position. False: no slots, nothing was done. */
static bool append_again(struct pcache *cache, uint32_t shard_idx, struct pc_extent *const *extents, uint32_t nr, struct budget *budget)
{
	struct pc_kbuf *kbuf = &cache->cleaner->kbuf;
	uint64_t pos;

	pc_kbuf_reset(kbuf);
	for (uint32_t i = 0; i < nr; i++)
		put_fragment(cache, kbuf, extents[i]);
	if (pc_kbuf_slot_nr(kbuf) > budget->slots_left ||
	    pc_log_reserve(&cache->log, shard_idx, pc_kbuf_slot_nr(kbuf), PC_LOG_CLEANING, &pos))
		return false;
	budget->slots_left -= pc_kbuf_slot_nr(kbuf);
	pc_append_commit(cache, shard_idx, pos, kbuf);
	for (uint32_t i = 0; i < nr; i++)
		extents[i]->pos = pos;
	return true;
}

/* Without poison the backing's older bytes would show, so it is appended even beyond the budget. 0 or PCACHE_E_FULL. */
static int append_poison(struct pcache *cache, uint32_t shard_idx, struct stretch *stretch)
{
	struct budget unlimited = { .slots_left = UINT64_MAX };

	for (uint32_t i = 0; i < stretch->found_nr; i++)
		if (is_poison(stretch->found[i]) && !append_again(cache, shard_idx, &stretch->found[i], 1, &unlimited))
			return PCACHE_E_FULL;
	return 0;
}

static int clean_stretch_locked(struct pcache *cache, uint32_t shard_idx, uint64_t from_blk, struct stretch *stretch, struct budget *budget)
{
	int rc;

	stretch->found_nr = 0;
	stretch->visited_nr = 0;
	stretch->at_end = true;
	pc_index_walk_shard_from_locked(cache->index, shard_idx, from_blk, gather, stretch);
	if (stretch->found_nr == 0 || append_again(cache, shard_idx, stretch->found, stretch->found_nr, budget))
		return 0;
	rc = append_poison(cache, shard_idx, stretch);
	if (!rc)
		pc_index_walk_shard_from_locked(cache->index, shard_idx, from_blk, drop_old, stretch);
	return rc;
}

static int clean_shard(struct pcache *cache, uint32_t shard_idx, uint64_t tail_end_pos, struct budget *budget)
{
	struct stretch stretch = { .cache = cache, .tail_end_pos = tail_end_pos, .at_end = false };
	uint64_t from_blk = 0;
	int rc = 0;

	while (!rc && !stretch.at_end) {
		pc_index_lock(cache->index, UINT64_C(1) << shard_idx);
		rc = clean_stretch_locked(cache, shard_idx, from_blk, &stretch, budget);
		pc_index_unlock(cache->index, UINT64_C(1) << shard_idx);
		from_blk = stretch.resume_blk;
	}
	return rc;
}

/* The log is longer than its live keys justify, or somebody waits for positions. */
static bool log_is_long(struct pcache *cache)
{
	uint64_t log_slots = (uint64_t)atomic_load_explicit(&cache->map.log_nr, memory_order_relaxed) * cache->log.slots_per_seg;
	uint64_t live = pc_index_extent_nr(cache->index);

	if (atomic_load_explicit(&cache->space.want_log, memory_order_relaxed))
		return true;
	if (log_slots >= (uint64_t)cache->log.max_segs * cache->log.slots_per_seg)
		return true;
	if (pc_segmap_free_nr(&cache->map) <= 2 && log_slots > live + 2 * (uint64_t)cache->log.slots_per_seg)
		return true;
	return log_slots > 2 * live + 4 * (uint64_t)cache->log.slots_per_seg;
}

/* True if the oldest segment may be cleaned now. */
static bool tail_may_move(struct pcache *cache, uint64_t seg_end)
{
	if (pc_log_seg_start(&cache->log, atomic_load_explicit(&cache->log.head, memory_order_acquire)) < seg_end)
		return false;
	return atomic_load_explicit(&cache->log.settled_pos, memory_order_acquire) >= seg_end && pc_log_durable_pos(&cache->log) >= seg_end;
}

static int clean_oldest(struct pcache *cache)
{
	struct pc_log *log = &cache->log;
	uint64_t from = atomic_load_explicit(&log->tail, memory_order_acquire), end = from + log->slots_per_seg;
	/* Under want, at least half a segment must come out of it. */
	bool starving = atomic_load_explicit(&cache->space.want_log, memory_order_relaxed);
	struct budget budget = { .slots_left = starving ? log->slots_per_seg / 2 : UINT64_MAX };
	int rc;

	if (!tail_may_move(cache, end))
		return 0;
	rc = 0;
	for (uint32_t i = 0; !rc && i < pc_index_shard_nr(cache->index); i++)
		rc = clean_shard(cache, i, end, &budget);
	if (rc == PCACHE_E_FULL) {
		/* Poison may not be dropped, and there is no slot for it: another segment, whatever the limit. The next step goes on. */
		rc = pc_log_extend(log, true);
		return rc ? (rc == PCACHE_E_FULL ? 0 : rc) : 1;
	}
	if (rc)
		return rc;
	/* Order: what was appended again is durable before the tail passes its old place. Elsewhere each append was fenced. */
	rc = pc_core_sync(cache);
	if (rc)
		return rc;
	rc = pc_log_drop_tail(log);
	if (rc)
		return pc_core_failstop(cache, rc);
	atomic_fetch_add_explicit(&cache->stats.cleaned_segs, 1, memory_order_relaxed);
	return 1;
}

/* Writers come close to the end of the capacity: take another segment if there is one. */
static int provide_positions(struct pcache *cache)
{
	int rc;

	if (!pc_log_short(&cache->log))
		return 0;
	rc = pc_log_extend(&cache->log, false);
	if (rc == PCACHE_E_FULL)
		return 0;
	return rc ? pc_core_failstop(cache, rc) : 1;
}

int pc_clean_step(struct pcache *cache, bool force)
{
	int rc = 0, extended;

	if (atomic_load_explicit(&cache->failstop, memory_order_acquire))
		return PCACHE_E_FAILSTOP;
	pc_mutex_lock(&cache->cleaner->lock);
	extended = provide_positions(cache);
	if (extended < 0)
		rc = extended;
	else if (force || log_is_long(cache))
		rc = clean_oldest(cache);
	if (rc == 1 && extended == 0)
		extended = provide_positions(cache);
	pc_mutex_unlock(&cache->cleaner->lock);
	if (rc < 0)
		return rc;
	if (rc || extended)
		pc_space_progress(cache);
	return rc || extended ? 1 : 0;
}
