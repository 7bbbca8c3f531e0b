/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The write that nearly all writes are: one range of at most one CRC chunk, into the open segment, with a free position in the log. The steps and their order are those of core/write.c; what it
 * decides anew for every request (pieces, keys, cells, ranges over several shards) is constant here, and the insert comes before the fence (docs/decisions/0017). Whatever is not as usual is left to it, with nothing changed. (Where others take
 * the last position at that moment, the room that was allocated is given up.)
 *
 * Between two locked instructions of this thread the stores of its last write drain, and everything here that is not behind one runs meanwhile; so there are three, close together, before
 * the first store, and none behind it.
 */
#include "core/write_one.h"
#include "base/sched.h"
#include "core/cache.h"
#include "pcache/errors.h"

#define EXTENTS_MAX 1u /* index insertions: it lies in one stripe, and what it cuts counts with it */
#define KEPT_MAX 8u /* pieces that it displaces: one for each block of a chunk */

static bool is_usual(struct pcache *cache, uint64_t blk, uint32_t len_blk)
{
	return pc_write_short_may(cache) && len_blk <= cache->chunk_blk &&
	       blk + len_blk <= pc_index_stripe_end(cache->index, blk);
}

/* Data and slot. Returns the CRC. */
static uint32_t store(struct pcache *cache, const void *buf, const struct pc_key *key, uint64_t pos)
{
	uint64_t off =
		pc_geo_segment_off(&cache->layout.super, key->seg_id) + ((uint64_t)key->seg_blk << cache->block_shift);
	_Alignas(64) uint64_t slot[PC_SLOT_BYTES / sizeof(uint64_t)];
	uint32_t crc;

	PC_YIELD(WRITE_RESERVED);
	crc = pc_media_copy_crc(cache->media, off, buf, (size_t)key->len_blk << cache->block_shift);
	PC_YIELD(WRITE_COPIED);
	pc_kset_encode_one(slot, pos, pc_log_seg(&cache->log, pos)->nonce, key, crc);
	pc_media_copy_line(cache->media, pc_log_media_off(&cache->log, pos), slot);
	return crc;
}

static void insert_locked(struct pc_apply *apply, const struct pc_key *key, uint32_t crc)
{
	struct pcache *cache = apply->cache;
	struct pc_extent extent = {
		.vol_blk = key->vol_blk,
		.pos = apply->pos,
		.len_blk = key->len_blk,
		.seg_id = key->seg_id,
		.crc = crc,
		.seg_blk = key->seg_blk,
		.flags = PC_EXT_DATA | PC_EXT_DIRTY,
	};

	pc_segmap_dirty(&cache->map, key->seg_id, apply->share_idx, (int32_t)key->len_blk);
	pc_index_insert_locked(cache->index, &extent, pc_apply_displaced, apply);
}

/* Locked. False: no position, or no memory; nothing has changed. */
static bool commit_locked(struct pcache *cache, const void *buf, const struct pc_key *key, uint32_t idx)
{
	struct pc_shard_stats *stats = &cache->stats.shard[idx];
	struct pc_displaced kept[KEPT_MAX];
	struct pc_apply apply = { .cache = cache, .share_idx = idx, .kept = kept, .kept_max = KEPT_MAX };
	uint32_t crc;

	if (pc_write_may_be_held(cache) || pc_index_reserve_locked(cache->index, UINT64_C(1) << idx, EXTENTS_MAX) ||
	    pc_log_reserve(&cache->log, idx, 1, PC_LOG_WRITER, &apply.pos))
		return false;
	/* Read after the position was reserved: a flush announces itself before it takes its own position. */
	apply.epoch_pos = atomic_load_explicit(&cache->log.epoch_pos, memory_order_acquire);
	crc = store(cache, buf, key, apply.pos);
	/* Behind the lock nobody sees the index before the fence. */
	insert_locked(&apply, key, crc);
	PC_YIELD(WRITE_STORED);
	pc_apply_fence(&apply);
	pc_log_done(&cache->log, idx);
	PC_YIELD(WRITE_DONE);
	pc_stat_add(&stats->write_ops, 1);
	pc_stat_add(&stats->write_bytes, (uint64_t)key->len_blk << cache->block_shift);
	return true;
}

bool pc_write_one(struct pcache *cache, const void *buf, uint64_t blk, uint32_t len_blk)
{
	struct pc_key key = { .vol_blk = blk, .len_blk = len_blk, .flags = PC_KEY_DATA };
	struct pc_piece piece;
	uint32_t idx;
	bool done;

	if (!is_usual(cache, blk, len_blk))
		return false;
	idx = pc_index_shard_idx(cache->index, blk);
	/* What is not in this processor's caches comes while the stores of the last write drain, and not behind the locked instructions. */
	pc_index_prefetch(cache->index, blk);
	pc_log_prefetch(&cache->log, idx);
	if (!pc_heads_alloc_one(&cache->heads, len_blk, &piece))
		return false;
	key.gen = piece.gen;
	key.seg_id = piece.seg_id;
	key.seg_blk = (uint16_t)piece.seg_blk;
	PC_YIELD(WRITE_ROOM);
	pc_index_lock(cache->index, UINT64_C(1) << idx);
	done = commit_locked(cache, buf, &key, idx);
	if (done)
		PC_YIELD(WRITE_INSERTED);
	pc_index_unlock(cache->index, UINT64_C(1) << idx);
	PC_YIELD(WRITE_UNLOCKED);
	if (!done) {
		pc_heads_unalloc(&cache->heads, &piece, 1);
		return false;
	}
	pc_write_short_signal(cache);
	return true;
}
