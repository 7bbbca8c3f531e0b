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

#include "base/plant.h"
#include "base/probe.h"
#include "base/sched.h"
#include "pcache/errors.h"
#include "service/internal.h"

#define FRAGMENTS_MAX 62u

/* The sweep over the index. */
struct cleaning {
	struct pcache *cache;
	uint64_t tail_end_pos; /* extents below are of the oldest segment */
	uint64_t slots_left; /* how many may be appended before what is left is dropped */
	struct pc_extent found[FRAGMENTS_MAX]; /* of the stretch at hand: copies, in the order of the index */
	uint32_t found_nr;
	uint32_t drop_nr; /* extents to look at, while dropping */
};

static enum pc_walk gather(void *ctx, struct pc_extent *extent)
{
	struct cleaning *cleaning = ctx;

	if (extent->pos >= cleaning->tail_end_pos)
		return PC_WALK_KEEP;
	if (cleaning->found_nr == PC_MIN(FRAGMENTS_MAX, cleaning->cache->clean_keys_max))
		return PC_WALK_STOP;
	cleaning->found[cleaning->found_nr++] = *extent;
	return PC_WALK_KEEP;
}

static bool is_poison(const struct pc_extent *extent)
{
	return (extent->flags & PC_EXT_TYPE_MASK) == PC_EXT_POISON;
}

static enum pc_walk drop_old(void *ctx, struct pc_extent *extent)
{
	struct cleaning *cleaning = ctx;

	if (cleaning->drop_nr == 0)
		return PC_WALK_STOP;
	cleaning->drop_nr--;
	if (extent->pos >= cleaning->tail_end_pos || is_poison(extent))
		return PC_WALK_KEEP;
	pc_core_unref(cleaning->cache, extent);
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

#ifdef PC_PLANTS
/* Planted defect: what was found is appended after others have had the shard. */
static bool append_stale(struct pcache *cache, uint32_t shard_idx, const struct pc_extent *extents, uint32_t nr,
			 uint64_t *slots_left)
{
	struct pc_kbuf *kbuf = &cache->cleaner->kbuf;
	uint64_t pos;

	pc_kbuf_reset(kbuf);
	for (uint32_t i = 0; i < nr; i++)
		put_fragment(cache, kbuf, &extents[i]);
	pc_index_unlock(cache->index, UINT64_C(1) << shard_idx);
	pc_index_lock(cache->index, UINT64_C(1) << shard_idx);
	if (pc_kbuf_slot_nr(kbuf) > *slots_left ||
	    pc_log_reserve(&cache->log, shard_idx, pc_kbuf_slot_nr(kbuf), PC_LOG_CLEANING, &pos))
		return false;
	*slots_left -= pc_kbuf_slot_nr(kbuf);
	pc_append_commit(cache, shard_idx, pos, kbuf);
	return true;
}
#endif

/* Extents that were appended again, in the order of the index, and their new position. */
struct moved {
	const struct pc_extent *extents;
	uint32_t nr;
	uint32_t next; /* the first that the walk has not met */
	uint64_t pos;
};

static enum pc_walk take_position(void *ctx, struct pc_extent *extent)
{
	struct moved *moved = ctx;

	while (moved->next < moved->nr && moved->extents[moved->next].vol_blk < extent->vol_blk)
		moved->next++;
	if (moved->next == moved->nr)
		return PC_WALK_STOP;
	if (moved->extents[moved->next].vol_blk == extent->vol_blk && moved->extents[moved->next].pos == extent->pos)
		extent->pos = moved->pos;
	return PC_WALK_KEEP;
}

/* Appends extents again, at most *slots_left slots, and gives them their new position. False: no slots, nothing was done. */
static bool append_again(struct pcache *cache, enum pc_log_user user, uint32_t shard_idx,
			 const struct pc_extent *extents, uint32_t nr, uint64_t *slots_left)
{
	struct moved moved = { .extents = extents, .nr = nr };
	struct pc_kbuf *kbuf = &cache->cleaner->kbuf;
	uint64_t pos;

#ifdef PC_PLANTS
	if (PC_PLANTED(PC_PLANT_CLEAN_STALE))
		return append_stale(cache, shard_idx, extents, nr, slots_left);
#endif
	PC_YIELD(CLEAN_FOUND);
	pc_kbuf_reset(kbuf);
	for (uint32_t i = 0; i < nr; i++)
		put_fragment(cache, kbuf, &extents[i]);
	if (pc_kbuf_slot_nr(kbuf) > *slots_left ||
	    pc_log_reserve(&cache->log, shard_idx, pc_kbuf_slot_nr(kbuf), user, &pos))
		return false;
	*slots_left -= pc_kbuf_slot_nr(kbuf);
	pc_append_commit(cache, shard_idx, pos, kbuf);
	PC_YIELD(CLEAN_APPENDED);
	moved.pos = pos;
	pc_index_walk_shard_from_locked(cache->index, shard_idx, extents[0].vol_blk, take_position, &moved);
	return true;
}

/* Without poison the backing's older bytes would show, so it is appended even beyond the limit. 0 or PCACHE_E_FULL. */
static int append_poison(struct cleaning *cleaning, uint32_t shard_idx)
{
	uint64_t unlimited = UINT64_MAX;

	for (uint32_t i = 0; i < cleaning->found_nr; i++)
		if (is_poison(&cleaning->found[i]) &&
		    !append_again(cleaning->cache, PC_LOG_POISON, shard_idx, &cleaning->found[i], 1, &unlimited))
			return PCACHE_E_FULL;
	return 0;
}

/* The end of a stretch: what was found moves, or goes. */
static int move_found_locked(void *ctx, uint32_t shard_idx, uint64_t from_blk, uint32_t visited_nr)
{
	struct cleaning *cleaning = ctx;
	int rc = 0;

	if (cleaning->found_nr && !append_again(cleaning->cache, PC_LOG_CLEANING, shard_idx, cleaning->found,
						cleaning->found_nr, &cleaning->slots_left)) {
		rc = append_poison(cleaning, shard_idx);
		cleaning->drop_nr = visited_nr;
		if (!rc)
			pc_index_walk_shard_from_locked(cleaning->cache->index, shard_idx, from_blk, drop_old,
							cleaning);
	}
	cleaning->found_nr = 0;
	return rc;
}

/* The log is longer than its live keys justify, or somebody waits for positions. */
static bool log_is_long(struct pcache *cache)
{
	uint64_t log_slots =
		(uint64_t)atomic_load_explicit(&cache->map.log_nr, memory_order_relaxed) * cache->log.slots_per_seg;
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
	if (PC_PLANTED(PC_PLANT_TAIL_PAST_INFLIGHT))
		return true;
	return atomic_load_explicit(&cache->log.settled_pos, memory_order_acquire) >= seg_end &&
	       pc_log_durable_pos(&cache->log) >= seg_end;
}

static int clean_oldest(struct pcache *cache)
{
	struct pc_log *log = &cache->log;
	uint64_t from = atomic_load_explicit(&log->tail, memory_order_acquire), end = from + log->slots_per_seg;
	/* Under want, at least half a segment must come out of it. */
	bool starving = atomic_load_explicit(&cache->space.want_log, memory_order_relaxed);
	struct cleaning cleaning = { .cache = cache,
				     .tail_end_pos = end,
				     .slots_left = starving ? log->slots_per_seg / 2 : UINT64_MAX };
	struct pc_index_sweep sweep = { .ctx = &cleaning, .fn = gather, .finish_locked = move_found_locked };
	int rc;

	if (!tail_may_move(cache, end))
		return 0;
	rc = pc_index_sweep(cache->index, &sweep);
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
	PC_YIELD(CLEAN_SWEPT);
	rc = pc_log_drop_tail(log);
	if (rc)
		return pc_core_failstop(cache, rc);
	atomic_fetch_add_explicit(&cache->stats.cleaned_segs, 1, memory_order_relaxed);
	PC_PROBE1(clean, end);
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
