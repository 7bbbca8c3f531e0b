/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Log cleaning: the tail of the log moves on by one segment.
 *
 * Of each key in the oldest segment the fragments that are still live (the index says so: an extent carries the position of its key) are appended again, 32 bytes each,
 * marked clean and appended again; no data moves. Decision, reservation and append are one step under the shard locks, so an overwrite cannot come
 * between. Then the tail record moves, then the segment is free. The tail never passes the durable dirty tail nor a position that is not durable, so everything met here is clean,
 * and dropping it instead is always allowed: that is done when there are no slots left to append to, so cleaning always ends and always frees its segment.
 */
#include <stdlib.h>
#include <string.h>

#include "pcache/errors.h"
#include "service/internal.h"

#define FRAGMENTS_MAX 62u

/* How far cleaning may go in appending, before it drops what is left. */
struct budget {
	uint64_t slots_left;
};

struct move_ctx {
	struct pcache *cache;
	const struct pc_key *key;
	uint64_t old_pos;
	uint64_t new_pos; /* 0: drop */
};

/* Whether extent comes from this key: where ranges of one kset overlap, two of its keys have extents at one position in one range. */
static bool is_of_key(const struct pc_extent *extent, const struct pc_key *key, uint64_t pos)
{
	if (extent->pos != pos)
		return false;
	if ((extent->flags & PC_EXT_TYPE_MASK) != PC_EXT_DATA)
		return true;
	return extent->seg_id == key->seg_id && extent->vol_blk - key->vol_blk == (uint64_t)extent->seg_blk - key->seg_blk;
}

static enum pc_walk move_extent(void *ctx, struct pc_extent *extent)
{
	const struct move_ctx *move = ctx;

	if (!is_of_key(extent, move->key, move->old_pos))
		return PC_WALK_KEEP;
	if (move->new_pos) {
		extent->pos = move->new_pos;
		return PC_WALK_KEEP;
	}
	if ((extent->flags & PC_EXT_TYPE_MASK) == PC_EXT_DATA)
		pc_segmap_unref(&move->cache->map, &move->cache->map.segs[extent->seg_id], extent->len_blk);
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

/* Appends the fragments in kbuf again, or says that they must be dropped. Poison is never dropped: without it the backing's older bytes would show. */
static uint64_t append_fragments(struct pcache *cache, uint64_t mask, struct budget *budget)
{
	struct pc_kbuf *kbuf = &cache->cleaner->kbuf;
	uint32_t slot_nr = pc_kbuf_slot_nr(kbuf), idx = (uint32_t)__builtin_ctzll(mask);
	uint64_t pos;

	if (slot_nr > budget->slots_left)
		return 0;
	if (pc_log_reserve(&cache->log, idx, slot_nr, PC_LOG_CLEANING, &pos))
		return 0;
	budget->slots_left -= slot_nr;
	pc_append_commit(cache, idx, pos, kbuf);
	return pos;
}

/* One key of the oldest segment. */
static int clean_key(struct pcache *cache, const struct pc_key *key, uint64_t pos, struct budget *budget)
{
	struct pc_kbuf *kbuf = &cache->cleaner->kbuf;
	uint64_t blk = key->vol_blk, end_blk = key->vol_blk + key->len_blk;
	struct pc_extent found[FRAGMENTS_MAX];
	bool has_poison = false;

	while (blk < end_blk) {
		uint64_t part_end = PC_MIN(end_blk, pc_index_stripe_end(cache->index, blk));
		uint64_t mask = pc_index_mask(cache->index, blk, part_end - blk);
		struct move_ctx move = { .cache = cache, .key = key, .old_pos = pos };
		uint32_t nr;

		pc_kbuf_reset(kbuf);
		pc_index_lock(cache->index, mask);
		nr = pc_index_lookup_locked(cache->index, blk, part_end - blk, found, FRAGMENTS_MAX);
		if (nr == FRAGMENTS_MAX)
			part_end = found[nr - 1].vol_blk + found[nr - 1].len_blk;
		for (uint32_t i = 0; i < nr; i++) {
			if (!is_of_key(&found[i], key, pos))
				continue;
			has_poison |= (found[i].flags & PC_EXT_TYPE_MASK) == PC_EXT_POISON;
			put_fragment(cache, kbuf, &found[i]);
		}
		if (kbuf->key_nr) {
			move.new_pos = append_fragments(cache, mask, budget);
			if (move.new_pos || !has_poison)
				pc_index_walk_range_locked(cache->index, blk, part_end - blk, move_extent, &move);
		}
		pc_index_unlock(cache->index, mask);
		if (kbuf->key_nr && !move.new_pos && has_poison)
			return PCACHE_E_FULL;
		blk = part_end;
	}
	return 0;
}

static int clean_kset(struct pcache *cache, const void *buf, const struct pc_kset *kset, struct budget *budget)
{
	struct pc_key_cursor cursor;
	struct pc_key key;
	const struct pcm_le32 *crcs;
	int rc = 0;

	pc_key_first(buf, kset, &cache->layout.rules, &cursor);
	while (!rc && pc_key_next(&cursor, &key, &crcs))
		rc = clean_key(cache, &key, kset->pos, budget);
	return rc;
}

static int clean_segment(struct pcache *cache, uint64_t from, uint64_t end, struct budget *budget)
{
	struct pc_cleaner *cleaner = cache->cleaner;
	int rc = 0;

	pc_log_reader_reset(&cleaner->reader);
	for (uint64_t pos = from; pos < end && !rc;) {
		struct pc_kset kset;
		const void *buf;

		if (pc_log_reader_at(&cleaner->reader, pos, end, &kset, &buf) != PC_VALID)
			return PCACHE_E_CORRUPT;
		if (kset.type == PC_KSET_KEYS)
			rc = clean_kset(cache, buf, &kset, budget);
		pos += kset.slot_nr;
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
	rc = clean_segment(cache, from, end, &budget);
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
