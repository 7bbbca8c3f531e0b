/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The batch that nearly all batches are: a few ranges of at most one CRC chunk each, into the open segment, with free positions in the log. What core/write_one.c is for one range; the steps and
 * their order are those of core/write.c.
 *
 * What a batch costs beyond its copies is what the processor has to wait for, so nothing here is asked for and needed at once:
 *
 *     before the first lock    the way to each extent is asked for, of all ranges, while the stores of the last batch drain
 *     between the locks        nothing
 *     between two copies       what is known by then: the extent goes into the index, the key into the kset, the slots that are full to the media; all while the stores of the copies are queued
 *     after the last copy      the first slot, which has the CRC of all, and the fence
 *     behind the fence         what was displaced is given up
 *
 * The slots are put together word by word, and read word by word: a wide load of what was stored in narrow parts a moment ago would wait until the data have left the processor's queue.
 */
#include "core/write_batch.h"

#include <string.h>

#include "base/sched.h"
#include "core/cache.h"
#include "core/write_one.h"

#define RANGES_MAX PC_KSET_WORDS_KEYS
#define EXTENTS_MAX 4u /* index insertions of a range, as in core/write_one.c */
#define KEPT_MAX (RANGES_MAX * 8) /* pieces displaced: one for each block of a chunk */

struct batch {
	struct pcache *cache;
	const struct pcache_range *ranges;
	uint32_t range_nr;
	uint32_t total_blk;
	uint64_t mask; /* shards */
	struct pc_piece piece;
	struct pc_apply apply;
	uint8_t range_nrs[PC_SHARD_NR_MAX]; /* in each shard of mask */
	struct pc_displaced kept[KEPT_MAX];
	_Alignas(64) struct pc_kset_words kset;
};

static inline uint64_t first_blk(const struct batch *batch, uint32_t range_idx)
{
	return batch->ranges[range_idx].off >> batch->cache->block_shift;
}

static inline uint32_t blk_nr(const struct batch *batch, uint32_t range_idx)
{
	return (uint32_t)(batch->ranges[range_idx].len >> batch->cache->block_shift);
}

/* Asks for what the insertions need, and notes shards and length. False: a range is not a usual one. */
static bool plan(struct batch *batch)
{
	struct pc_index *index = batch->cache->index;

	memset(batch->range_nrs, 0, sizeof(batch->range_nrs));
	batch->mask = 0;
	batch->total_blk = 0;
	for (uint32_t i = 0; i < batch->range_nr; i++) {
		uint64_t blk = first_blk(batch, i), len_blk = batch->ranges[i].len >> batch->cache->block_shift;
		uint32_t shard_idx = pc_index_shard_idx(index, blk);

		if (len_blk - 1 >= batch->cache->chunk_blk || blk + len_blk > pc_index_stripe_end(index, blk))
			return false;
		pc_index_prefetch(index, blk);
		batch->mask |= UINT64_C(1) << shard_idx;
		batch->range_nrs[shard_idx]++;
		batch->total_blk += (uint32_t)len_blk;
	}
	return true;
}

static bool reserve_locked(struct batch *batch, uint32_t idx)
{
	struct pcache *cache = batch->cache;

	for (uint64_t rest = batch->mask; rest; rest &= rest - 1) {
		uint32_t piece_nr = EXTENTS_MAX * batch->range_nrs[__builtin_ctzll(rest)];

		if (pc_index_reserve_locked(cache->index, rest & -rest, piece_nr))
			return false;
	}
	return pc_log_reserve(&cache->log, idx, pc_cells_to_slots(1 + batch->range_nr), PC_LOG_WRITER,
			      &batch->apply.pos) == 0;
}

static void store_slot(struct batch *batch, uint32_t slot_idx)
{
	struct pcache *cache = batch->cache;

	pc_media_copy_line(cache->media,
			   pc_log_media_off(&cache->log, batch->apply.pos) + (uint64_t)slot_idx * PC_SLOT_BYTES,
			   batch->kset.cells + (size_t)slot_idx * (PC_SLOT_BYTES / sizeof(uint64_t)));
}

static inline void insert_locked(struct batch *batch, const struct pc_key *key, uint32_t crc)
{
	struct pc_apply *apply = &batch->apply;
	struct pc_extent extent = {
		.vol_blk = key->vol_blk,
		.pos = apply->pos,
		.len_blk = key->len_blk,
		.seg_id = key->seg_id,
		.crc = crc,
		.seg_blk = key->seg_blk,
		.flags = PC_EXT_DATA | PC_EXT_DIRTY,
	};

	apply->share_idx = pc_index_shard_idx(batch->cache->index, key->vol_blk);
	pc_segmap_dirty(&batch->cache->map, key->seg_id, apply->share_idx, (int32_t)key->len_blk);
	pc_index_insert_locked(batch->cache->index, &extent, pc_apply_displaced, apply);
}

/* Data, extents and keys; then what of the slots is left. */
static void store_locked(struct batch *batch)
{
	struct pcache *cache = batch->cache;
	struct pc_key key = { .gen = batch->piece.gen, .seg_id = batch->piece.seg_id, .flags = PC_KEY_DATA };
	uint32_t seg_blk = batch->piece.seg_blk;
	uint64_t seg_off = pc_geo_segment_off(&cache->layout.super, key.seg_id);

	pc_kset_begin(&batch->kset, batch->apply.pos, pc_log_seg(&cache->log, batch->apply.pos)->nonce,
		      batch->range_nr);
	for (uint32_t i = 0; i < batch->range_nr; i++, seg_blk += key.len_blk) {
		uint32_t crc;

		key.vol_blk = first_blk(batch, i);
		key.len_blk = blk_nr(batch, i);
		key.seg_blk = (uint16_t)seg_blk;
		crc = pc_media_copy_crc(cache->media, seg_off + ((uint64_t)seg_blk << cache->block_shift),
					batch->ranges[i].buf, batch->ranges[i].len);
		PC_YIELD(WRITE_COPIED);
		/* Behind the locks nobody sees the index before the fence. */
		insert_locked(batch, &key, crc);
		pc_kset_add(&batch->kset, &key, crc);
		if (i && i % 2 == 0)
			store_slot(batch, i / 2); /* keys i - 1 and i */
	}
	(void)pc_kset_end(&batch->kset);
	if (batch->range_nr % 2 == 0)
		store_slot(batch, batch->range_nr / 2); /* the last key, and nothing */
	store_slot(batch, 0);
}

/* Locked. False: no positions, or no memory; nothing has changed. */
static bool commit_locked(struct batch *batch)
{
	struct pcache *cache = batch->cache;
	uint32_t idx = (uint32_t)__builtin_ctzll(batch->mask);
	struct pc_shard_stats *stats = &cache->stats.shard[idx];

	batch->apply = (struct pc_apply){ .cache = cache, .kept = batch->kept, .kept_max = KEPT_MAX };
	if (pc_write_may_be_held(cache) || !reserve_locked(batch, idx))
		return false;
	PC_YIELD(WRITE_RESERVED);
	/* Read after the position was reserved: a flush announces itself before it takes its own position. */
	batch->apply.epoch_pos = atomic_load_explicit(&cache->log.epoch_pos, memory_order_acquire);
	store_locked(batch);
	PC_YIELD(WRITE_STORED);
	pc_apply_fence(&batch->apply);
	pc_log_done(&cache->log, idx);
	PC_YIELD(WRITE_DONE);
	pc_stat_add(&stats->write_ops, 1);
	pc_stat_add(&stats->write_bytes, (uint64_t)batch->total_blk << cache->block_shift);
	return true;
}

bool pc_write_batch(struct pcache *cache, const struct pcache_range *ranges, uint32_t range_nr)
{
	struct batch batch; /* not initialized: large, and filled in as it is used */
	bool done;

	if (range_nr > RANGES_MAX || !pc_write_short_may(cache))
		return false;
	batch.cache = cache;
	batch.ranges = ranges;
	batch.range_nr = range_nr;
	if (!plan(&batch))
		return false;
	pc_log_prefetch(&cache->log, (uint32_t)__builtin_ctzll(batch.mask));
	if (!pc_heads_alloc_one(&cache->heads, batch.total_blk, &batch.piece))
		return false;
	PC_YIELD(WRITE_ROOM);
	pc_index_lock(cache->index, batch.mask);
	done = commit_locked(&batch);
	if (done)
		PC_YIELD(WRITE_INSERTED);
	pc_index_unlock(cache->index, batch.mask);
	PC_YIELD(WRITE_UNLOCKED);
	if (done)
		pc_write_short_signal(cache);
	else
		pc_heads_unalloc(&cache->heads, &batch.piece, 1);
	return done;
}
