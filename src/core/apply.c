/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A key becomes extents, and what they displace gives back its references. The same code serves writes, fills, cleaning and replay, so that
 * all of them take and drop references by one rule.
 *
 * Everything runs under the locks of the shards that the key touches.
 *
 * Hold rule (ordering strict): a dirty piece that a later epoch overwrites must stay readable until its own epoch is on the backing, for write-back
 * reads versions from the log. So its segment is held until the durable dirty tail has passed the piece's position. Within one epoch an overwrite frees at once.
 */
#include "core/cache.h"

#include <string.h>

#include "base/sched.h"

#define ALONE(x) (*(const volatile __typeof__(x) *)&(x)) /* a load of its own */

uint32_t pc_apply_piece_nr(const struct pcache *cache, uint64_t vol_blk, uint64_t len_blk, bool has_data)
{
	uint64_t stripe_end = pc_index_stripe_end(cache->index, vol_blk), pieces;
	uint64_t stripe_blk = pc_index_stripe_end(cache->index, stripe_end) - stripe_end, stripes, per_shard;

	if (vol_blk + len_blk <= stripe_end)
		return has_data ? (uint32_t)pc_core_chunk_nr(cache, len_blk) + 2 : 2;
	/* Consecutive stripes go round the shards, so one shard sees every shard_nr-th. */
	stripes = PC_DIV_UP(vol_blk + len_blk - stripe_end, stripe_blk) + 1;
	per_shard = PC_DIV_UP(stripes, pc_index_shard_nr(cache->index));
	pieces = 2 * per_shard + 2;
	if (has_data)
		pieces += pc_core_chunk_nr(cache, PC_MIN(len_blk, per_shard * stripe_blk));
	return (uint32_t)PC_MIN(pieces, (uint64_t)UINT32_MAX);
}

/* seg is NULL for zeroes, which have no bytes: their key is in the log. */
static void hold_for_older_epoch(const struct pc_apply *apply, struct pc_seg *seg, const struct pc_displaced *piece)
{
	struct pcache *cache = apply->cache;

	if (piece->pos >= apply->epoch_pos || !(cache->strict || pc_core_draining(cache)))
		return;
	if (seg)
		pc_pos_raise(&seg->hold_pos, piece->pos);
	/* The index does not show it any more: a sweep of write-back has to know. */
	pc_pos_raise(&cache->hidden_pos, piece->pos);
}

/* The bytes of piece may be overwritten from now on, as far as this write is concerned. */
static void give_up(const struct pc_apply *apply, const struct pc_displaced *piece)
{
	struct pcache *cache = apply->cache;
	struct pc_seg *seg;

	if ((piece->flags & PC_EXT_TYPE_MASK) != PC_EXT_DATA) {
		if (piece->flags & PC_EXT_DIRTY) {
			hold_for_older_epoch(apply, NULL, piece);
			atomic_fetch_sub_explicit(&cache->dirty_zero_blk, piece->len_blk, memory_order_relaxed);
		}
		return;
	}
	seg = &cache->map.segs[piece->seg_id];
	if (piece->flags & PC_EXT_DIRTY) {
		hold_for_older_epoch(apply, seg, piece);
		pc_segmap_dirty(&cache->map, piece->seg_id, piece->share_idx, -(int32_t)piece->len_blk);
	}
	/* At page granularity the overwriting kset may not be durable yet, and the old bytes are what a crash falls back to. */
	if (cache->media->granularity == PC_GRAN_PAGE)
		pc_pos_raise(&seg->dead_pos, apply->pos);
	pc_segmap_unref(&cache->map, piece->seg_id, piece->share_idx, piece->len_blk);
}

/* What give_up needs, field by field: a wide load of what has just been stored in narrow parts would wait until these have left the processor's queue, behind the stores of the data. */
static inline void note(const struct pc_apply *apply, struct pc_displaced *noted, const struct pc_extent *piece)
{
	noted->pos = ALONE(piece->pos);
	noted->len_blk = ALONE(piece->len_blk);
	noted->seg_id = ALONE(piece->seg_id);
	noted->flags = ALONE(piece->flags);
	noted->share_idx = apply->share_idx;
	if (noted->share_idx == PC_APPLY_SHARDS)
		noted->share_idx = pc_index_shard_idx(apply->cache->index, piece->vol_blk);
}

void pc_apply_displaced(void *ctx, const struct pc_extent *piece)
{
	struct pc_apply *apply = ctx;
	struct pc_displaced *kept;

	if (apply->kept_max && apply->kept_nr == apply->kept_max)
		pc_apply_fence(apply);
	if (!apply->kept_max) {
		struct pc_displaced noted;

		note(apply, &noted, piece);
		give_up(apply, &noted);
		return;
	}
	kept = &apply->kept[apply->kept_nr++];
	note(apply, kept, piece);
	/* What is counted after the fence; of a piece without data, segment 0, which nobody needs. */
	pc_prefetch_store(pc_segmap_share(&apply->cache->map, kept->seg_id, kept->share_idx));
	/* A long piece is published at once, and others store to that line as well: write-back pins. */
	if (kept->len_blk > apply->cache->chunk_blk)
		pc_prefetch_store(&apply->cache->map.segs[kept->seg_id].published_blk);
}

void pc_apply_give_up(struct pc_apply *apply)
{
	uint32_t nr = apply->kept_nr;

	apply->kept_nr = 0;
	apply->kept_max = 0;
	for (uint32_t i = 0; i < nr; i++)
		give_up(apply, &apply->kept[i]);
}

void pc_apply_fence(struct pc_apply *apply)
{
	/*
	 * Order: data and slots before what they replace is given up, because until then a crash falls back to the old bytes; and before the unlock and the return, because both promise that the
	 * write survives.
	 */
	pc_media_fence(apply->cache->media);
	PC_YIELD(WRITE_FENCED);
	pc_apply_give_up(apply);
}

bool pc_apply_chunk(const struct pcache *cache, const struct pc_key *key, const struct pcm_le32 *crcs, uint64_t pos,
		    uint32_t chunk_idx, struct pc_extent *out_extent)
{
	uint32_t chunk_blk = cache->chunk_blk, head = PC_GEOM_HEAD(key->geom), tail = PC_GEOM_TAIL(key->geom);
	uint32_t all_blk = head + key->len_blk + tail; /* the chunks, as the CRCs count them */
	uint32_t start = chunk_idx * chunk_blk, end = PC_MIN(start + chunk_blk, all_blk);
	uint32_t from = PC_MAX(start, head), to = PC_MIN(end, head + key->len_blk);

	if (start >= all_blk || from >= to)
		return false;
	out_extent->vol_blk = key->vol_blk + (from - head);
	out_extent->pos = pos;
	out_extent->len_blk = to - from;
	out_extent->seg_id = key->seg_id;
	out_extent->crc = crcs ? pc_get32(crcs[chunk_idx]) : 0;
	out_extent->seg_blk = (uint16_t)(key->seg_blk + (from - head));
	out_extent->geom = PC_GEOM(from - start, end - to);
	out_extent->flags = PC_EXT_DATA;
	return true;
}

/* The whole chunks of a key that begins with one, as one run. Returns how many: 0 if there are fewer than two. */
static uint32_t apply_run(struct pc_apply *apply, const struct pc_key *key, const struct pcm_le32 *crcs,
			  uint8_t ext_flags)
{
	uint32_t whole_nr = PC_GEOM_HEAD(key->geom) == 0 ? key->len_blk >> apply->cache->chunk_shift : 0;
	struct pc_extent extent;
	struct pc_extent_run run = { &extent, crcs ? pc_raw32s(crcs) : NULL, whole_nr };

	if (whole_nr < 2)
		return 0;
	pc_apply_chunk(apply->cache, key, NULL, apply->pos, 0, &extent);
	extent.flags |= ext_flags;
	pc_index_insert_run_locked(apply->cache->index, &run, pc_apply_displaced, apply);
	return whole_nr;
}

/* The blocks of a key become dirty. */
static void count_dirty(struct pc_apply *apply, const struct pc_key *key)
{
	struct pcache *cache = apply->cache;
	uint64_t blk = key->vol_blk, end_blk = key->vol_blk + key->len_blk, part_end;

	if (apply->share_idx != PC_APPLY_SHARDS) {
		pc_segmap_dirty(&cache->map, key->seg_id, apply->share_idx, (int32_t)key->len_blk);
		return;
	}
	for (; blk < end_blk; blk = part_end) {
		part_end = PC_MIN(end_blk, pc_index_stripe_end(cache->index, blk));
		pc_segmap_dirty(&cache->map, key->seg_id, pc_index_shard_idx(cache->index, blk),
				(int32_t)(part_end - blk));
	}
}

static void apply_data(struct pc_apply *apply, const struct pc_key *key, const struct pcm_le32 *crcs, uint8_t ext_flags)
{
	struct pcache *cache = apply->cache;
	struct pc_extent extent;

	if (ext_flags & PC_EXT_DIRTY)
		count_dirty(apply, key);
	for (uint32_t i = apply_run(apply, key, crcs, ext_flags);
	     pc_apply_chunk(cache, key, crcs, apply->pos, i, &extent); i++) {
		extent.flags |= ext_flags;
		pc_index_insert_locked(cache->index, &extent, pc_apply_displaced, apply);
	}
}

bool pc_apply_bare(const struct pc_key *key, uint64_t pos, uint8_t ext_flags, struct pc_extent *out_extent)
{
	uint32_t type = key->flags & PC_KEY_TYPE_MASK;

	if (type == PC_KEY_ZERO && !(ext_flags & PC_EXT_DIRTY))
		return false;
	*out_extent = (struct pc_extent){ .vol_blk = key->vol_blk, .pos = pos, .len_blk = key->len_blk };
	out_extent->flags = type == PC_KEY_POISON ? PC_EXT_POISON : PC_EXT_ZERO | PC_EXT_DIRTY;
	if (key->flags & PC_KEY_DISCARD)
		out_extent->flags |= PC_EXT_DISCARD;
	return true;
}

void pc_apply_key_locked(struct pc_apply *apply, const struct pc_key *key, const struct pcm_le32 *crcs,
			 uint8_t ext_flags)
{
	struct pc_extent extent;

	if ((key->flags & PC_KEY_TYPE_MASK) == PC_KEY_DATA) {
		apply_data(apply, key, crcs, ext_flags);
		return;
	}
	if (!pc_apply_bare(key, apply->pos, ext_flags, &extent)) {
		pc_apply_mask_locked(apply, key);
		return;
	}
	if (extent.flags & PC_EXT_DIRTY)
		atomic_fetch_add_explicit(&apply->cache->dirty_zero_blk, key->len_blk, memory_order_relaxed);
	pc_index_insert_locked(apply->cache->index, &extent, pc_apply_displaced, apply);
}

void pc_apply_mask_locked(struct pc_apply *apply, const struct pc_key *key)
{
	pc_index_erase_locked(apply->cache->index, key->vol_blk, key->len_blk, pc_apply_displaced, apply);
}
