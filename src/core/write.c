/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Write, zero, fill: everything that appends new keys.
 *
 *     room       alloc/head       may wait for space; nothing is locked
 *     lock       index            all shards of the request, ascending
 *     position   log              may wait for space after unlocking; the room is kept
 *     copy       media            data, with the CRC of the bytes that are stored
 *     insert     index            older extents give way, part by part while the stores of the copy drain
 *     slots      media            the kset
 *     fence      media            commits both
 *     give up    segment map      what gave way may be overwritten from now on
 *     unlock
 *
 * A request is one kset, so it is all or nothing. From the position to the insert the shards stay locked, so log order and index order agree. If a crash comes before the
 * fence, replay finds a slot or a data CRC wrong and the write never happened. Without data CRCs, or with commit_guard=fence, the data is committed before its slots.
 *
 * Nobody sees the index before the unlock, so an extent may be in it before the fence (decisions 0017 and 0018). What it displaced may be given up only after that, and is kept until then. At page granularity a
 * commit can fail, and then nothing must have changed: there all of the index comes last.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"
#include "base/sched.h"
#include "core/append.h"
#include "core/cache.h"
#include "core/write_batch.h"
#include "core/write_one.h"
#include "pcache/errors.h"

#define INLINE_KEYS 20u /* a batch of 16, or 1 MiB, and two borders of segments */
#define INLINE_CELLS 48u
#define PREFETCH_KEYS_MAX 64u /* more than a processor has under way */
#define PART_CHUNKS 16u /* inserted at once: less work than the stores take that the processor has queued by then */
#define KEPT_MAX \
	192u /* pieces displaced before the fence; a part displaces one for each block at most, and mostly one in all */

/* A key of the request and where its bytes come from. */
struct wkey {
	struct pc_key key;
	const uint8_t *src;
	uint32_t cell_idx;
	uint32_t chunk_nr; /* 0 without data CRCs, and for keys without data */
};

struct op {
	struct pcache *cache;
	const struct pcache_range *ranges;
	uint32_t range_nr;
	uint32_t flags; /* PCACHE_* flags of the caller */
	uint32_t total_blk; /* data to place */
	uint64_t mask; /* shards */
	uint32_t reserve_nr; /* index insertions per shard */
	struct pc_space_ticket ticket; /* place in the queue for space */
	struct pc_piece pieces[PC_PIECES_MAX];
	uint32_t piece_nr;
	bool took_segs;
	uint8_t ext_flags; /* PC_EXT_DIRTY, or 0 for fills */
	uint8_t key_flags;
#ifdef PC_PLANTS
	uint64_t planted_epoch_pos;
#endif
	struct wkey *keys;
	uint32_t key_nr;
	bool early; /* the index may be changed before the fence */
	uint32_t next_key; /* the keys before it are in the index, */
	uint32_t next_chunk; /* and of it the chunks before this one */
	struct pc_apply apply;
	struct pc_kbuf kbuf;
	void *heap; /* keys and cells, if they do not fit inside */
	struct wkey inline_keys[INLINE_KEYS];
	struct pc_displaced kept[KEPT_MAX];
	_Alignas(64) uint8_t inline_cells[INLINE_CELLS * PC_CELL_BYTES];
};

/* ---- construction ---------------------------------------------------------------------------------------------------- */

/* Memory for the most keys and cells that the request can need. */
static int op_alloc_scratch(struct op *op)
{
	/* Each end of a segment cuts one more key; segments are powers of two, as chunks are. */
	uint32_t cut_nr = op->total_blk ? (op->total_blk - 1) / op->cache->map.segment_blk + 1 : 0;
	uint32_t key_max = op->range_nr + cut_nr;
	uint32_t chunk_max = (op->total_blk >> op->cache->chunk_shift) + key_max;
	uint64_t cell_max;
	size_t key_bytes;

	op->kbuf.cell_nr = 1;
	cell_max = 1 + (uint64_t)key_max * 2 + chunk_max / PC_CRCS_PER_CELL;
	cell_max = PC_MIN(cell_max, (uint64_t)op->cache->log.kset_slots_max * 2);
	cell_max = PC_ROUND_UP(cell_max, 2u);
	op->kbuf.cell_max = (uint32_t)cell_max;
	if (key_max <= INLINE_KEYS && cell_max <= INLINE_CELLS) {
		op->keys = op->inline_keys;
		op->kbuf.cells = op->inline_cells;
		return 0;
	}
	key_bytes = PC_ROUND_UP(key_max * sizeof(*op->keys), (size_t)64);
	op->heap = aligned_alloc(64, key_bytes + cell_max * PC_CELL_BYTES);
	if (!op->heap)
		return -ENOMEM;
	op->keys = op->heap;
	op->kbuf.cells = (uint8_t *)op->heap + key_bytes;
	return 0;
}

static int op_add_key(struct op *op, const struct pc_key *key, const uint8_t *src)
{
	struct wkey *wkey = &op->keys[op->key_nr];
	uint32_t chunk_nr = 0;

	if (src && op->cache->data_crc)
		chunk_nr = (uint32_t)pc_core_chunk_nr(op->cache, key->len_blk);
	if (op->kbuf.cell_nr + 1 + PC_DIV_UP(chunk_nr, PC_CRCS_PER_CELL) > op->kbuf.cell_max)
		return PCACHE_E_TOO_BIG;
	*wkey = (struct wkey){
		.key = *key, .src = src, .chunk_nr = chunk_nr, .cell_idx = pc_kbuf_add(&op->kbuf, chunk_nr)
	};
	op->key_nr++;
	return 0;
}

/* Cuts the ranges by the pieces of the allocation. */
static int op_build_data_keys(struct op *op)
{
	struct pcache *cache = op->cache;
	uint32_t piece_idx = 0, used_blk = 0;
	int rc = 0;

	for (uint32_t i = 0; i < op->range_nr; i++) {
		const uint8_t *src = op->ranges[i].buf;
		uint64_t blk = op->ranges[i].off >> cache->block_shift;
		uint64_t left_blk = op->ranges[i].len >> cache->block_shift;

		while (left_blk && !rc) {
			const struct pc_piece *piece = &op->pieces[piece_idx];
			uint32_t part_blk = (uint32_t)PC_MIN(left_blk, (uint64_t)(piece->len_blk - used_blk));
			struct pc_key key = {
				.vol_blk = blk,
				.gen = piece->gen,
				.seg_id = piece->seg_id,
				.seg_blk = (uint16_t)(piece->seg_blk + used_blk),
				.len_blk = part_blk,
				.flags = PC_KEY_DATA | op->key_flags,
			};
			/* Chunks are counted from the start of the key; the last may be short, and then ends with it. */
			rc = op_add_key(op, &key, src);
			src += (size_t)part_blk << cache->block_shift;
			blk += part_blk;
			left_blk -= part_blk;
			used_blk += part_blk;
			if (used_blk == piece->len_blk) {
				piece_idx++;
				used_blk = 0;
			}
		}
	}
	return rc;
}

static void op_plan_index(struct op *op)
{
	for (uint32_t i = 0; i < op->range_nr; i++) {
		uint64_t blk = op->ranges[i].off >> op->cache->block_shift;
		uint64_t len_blk = op->ranges[i].len >> op->cache->block_shift;

		if (!len_blk)
			continue;
		op->mask |= pc_index_mask(op->cache->index, blk, len_blk);
		op->reserve_nr += pc_apply_piece_nr(op->cache, blk, len_blk, op->total_blk != 0);
	}
}

/* ---- commit ---------------------------------------------------------------------------------------------------------- */

static uint64_t data_off(const struct pcache *cache, const struct pc_key *key)
{
	return pc_geo_segment_off(&cache->layout.super, key->seg_id) + ((uint64_t)key->seg_blk << cache->block_shift);
}

static const struct pcm_le32 *crcs_of(struct op *op, const struct wkey *wkey)
{
	return wkey->chunk_nr ? pc_kbuf_crcs(&op->kbuf, wkey->cell_idx, wkey->chunk_nr) : NULL;
}

/* Inserts the chunks [from, to) of the next key, all that are left if to is UINT32_MAX. */
static void op_insert_part_locked(struct op *op, uint32_t from, uint32_t to)
{
	const struct wkey *wkey = &op->keys[op->next_key];
	const struct pcm_le32 *crcs = crcs_of(op, wkey);
	struct pc_key part = wkey->key;
	uint32_t chunk_blk = op->cache->chunk_blk, end_blk = part.len_blk;

	if (to < wkey->chunk_nr)
		end_blk = to * chunk_blk;
	part.vol_blk += (uint64_t)from * chunk_blk;
	part.seg_blk = (uint16_t)(part.seg_blk + from * chunk_blk);
	part.len_blk = end_blk - from * chunk_blk;
	op->next_chunk = to;
	if (end_blk == wkey->key.len_blk) {
		op->next_key++;
		op->next_chunk = 0;
	}
	pc_apply_key_locked(&op->apply, &part, crcs ? crcs + from : NULL, op->ext_flags);
}

/* Chunks up to to of the next key are copied: inserts them, unless more may be displaced than can be kept. Then the rest comes after the fence. */
static void op_insert_early_locked(struct op *op, uint32_t to)
{
	uint32_t part_blk = (to - op->next_chunk) * op->cache->chunk_blk;

	op->early = op->early && part_blk <= KEPT_MAX - op->apply.kept_nr;
	if (op->early)
		op_insert_part_locked(op, op->next_chunk, to);
}

/*
 * The index's cache misses come while the data before is copied. A long range ends in another leaf than it begins in; what lies between is asked for by the processor itself, or
 * is little.
 */
static void op_prefetch_locked(const struct op *op, uint32_t key_idx)
{
	struct pc_index *index = op->cache->index;
	const struct pc_key *key = &op->keys[key_idx].key;

	if (key_idx >= op->key_nr)
		return;
	if (key->len_blk > op->cache->chunk_blk)
		pc_index_prefetch_locked(index, key->vol_blk + key->len_blk - 1);
	pc_index_prefetch_locked(index, key->vol_blk);
}

/* Copies the bytes of one key; the CRCs go into the kset. */
static void copy_key_data(struct op *op, const struct wkey *wkey)
{
	struct pcache *cache = op->cache;
	uint64_t off = data_off(cache, &wkey->key);
	size_t left = (size_t)wkey->key.len_blk << cache->block_shift;
	const uint8_t *src = wkey->src;
	struct pcm_le32 *crcs;

	if (!wkey->chunk_nr) {
		pc_media_copy(cache->media, off, src, left);
		op->early = false;
		return;
	}
	crcs = pc_kbuf_crcs(&op->kbuf, wkey->cell_idx, wkey->chunk_nr);
	for (uint32_t i = 0; i < wkey->chunk_nr; i++) {
		size_t len = PC_MIN(left, (size_t)PC_CHUNK_BYTES);

		crcs[i] = pc_le32(pc_media_copy_crc(cache->media, off, src, len));
		off += len;
		src += len;
		left -= len;
		if (i == 0 && op->key_nr == 1)
			op_prefetch_locked(op, 0);
		if (!left || i % PART_CHUNKS == PART_CHUNKS - 1)
			op_insert_early_locked(op, i + 1);
	}
}

/* For many keys it is one step more, for all of them together. One with chunks asks when its first chunk is on its way. */
static void op_prefetch_first_locked(const struct op *op)
{
	uint32_t nr = PC_MIN(op->key_nr, PREFETCH_KEYS_MAX);

	if (nr == 1 && op->keys[0].chunk_nr)
		return;
	for (uint32_t i = 0; nr > 1 && i < nr; i++)
		pc_index_prefetch_node_locked(op->cache->index, op->keys[i].key.vol_blk);
	op_prefetch_locked(op, 0);
}

/* Data and keys to the media. The position is reserved. 0 or -errno of a sync. */
static int op_store(struct op *op, uint64_t pos)
{
	struct pcache *cache = op->cache;
	uint32_t idx = (uint32_t)__builtin_ctzll(op->mask);
	bool has_data = false;

	PC_YIELD(WRITE_RESERVED);
	for (uint32_t i = 0; i < op->key_nr; i++) {
		struct wkey *wkey = &op->keys[i];

		op_prefetch_locked(op, i + 1);
		if (wkey->src) {
			copy_key_data(op, wkey);
			has_data = true;
			PC_YIELD(WRITE_COPIED);
		}
		pc_kbuf_put_key(&op->kbuf, wkey->cell_idx, &wkey->key, wkey->chunk_nr);
	}
	if (has_data && cache->guard_fence) {
		/* Order: data before the slots that point to it, because no CRC tells later whether it got there. */
		int rc = pc_media_commit(cache->media);

		if (rc) {
			/* Stopped first: nobody may take the abandoned position for a durable one. */
			rc = pc_core_failstop(cache, rc);
			pc_log_done(&cache->log, idx);
			return rc;
		}
	}
	pc_append_commit(cache, idx, pos, &op->kbuf);
	if (pc_media_error(cache->media))
		return pc_media_error(cache->media); /* not in the index, where a read would find it damaged */
	if (cache->commit_write && op->ext_flags) {
		bool synced;

		/* Order: page granularity: the sync before the index insert, which makes the write visible. Elsewhere the fence has done it. */
		return pc_log_sync_upto(&cache->log, pos + pc_kbuf_slot_nr(&op->kbuf), &synced);
	}
	return 0;
}

/* Before the first store. The position is reserved. */
static void op_begin_apply(struct op *op, uint64_t pos)
{
	struct pcache *cache = op->cache;

	op->early = cache->media->granularity != PC_GRAN_PAGE && !PC_PLANTED(PC_PLANT_RANGE_UNLOCKED);
	op->next_key = 0;
	op->next_chunk = 0;
	op->apply = (struct pc_apply){ .cache = cache,
				       .pos = pos,
				       .share_idx = pc_apply_share_idx(op->mask),
				       .kept = op->kept,
				       .kept_max = op->early ? KEPT_MAX : 0 };
}

/* After the fence. */
static void op_insert_rest_locked(struct op *op)
{
	PC_YIELD(WRITE_DONE);
	/* Read after the position was reserved: a flush announces itself before it takes its own position. */
	op->apply.epoch_pos = atomic_load_explicit(&op->cache->log.epoch_pos, memory_order_acquire);
#ifdef PC_PLANTS
	if (PC_PLANTED(PC_PLANT_EPOCH_EARLY))
		op->apply.epoch_pos = op->planted_epoch_pos;
#endif
	pc_apply_give_up(&op->apply);
	while (op->next_key < op->key_nr)
		op_insert_part_locked(op, op->next_chunk, UINT32_MAX);
}

static void count(_Atomic uint64_t *counter, uint64_t add)
{
	/* One writer at a time, under the shard lock: no locked instruction is needed. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + add, memory_order_relaxed);
}

static void op_count_locked(const struct op *op)
{
	struct pc_shard_stats *stats = &op->cache->stats.shard[__builtin_ctzll(op->mask)];

	if (!op->ext_flags)
		return;
	count(&stats->write_ops, 1);
	if (op->total_blk)
		count(&stats->write_bytes, (uint64_t)op->total_blk << op->cache->block_shift);
	else
		count(&stats->discard_bytes, op->ranges[0].len);
}

#define OP_HELD 1

static bool op_is_held_locked(const struct op *op)
{
	for (uint32_t i = 0; i < op->range_nr; i++) {
		const struct pcache_range *range = &op->ranges[i];

		if (range->len && pc_core_held_locked(op->cache, op->mask, range->off >> op->cache->block_shift,
						      range->len >> op->cache->block_shift))
			return !PC_PLANTED(PC_PLANT_HOLD_UNSEEN_BY_WRITES);
	}
	return false;
}

/* Locks, reserves, stores, inserts, unlocks. PCACHE_E_FULL: no position, or OP_HELD: a part is held, with *out_seen_nr; nothing is locked and nothing has changed. */
static int op_commit_once(struct op *op, uint64_t *out_seen_nr)
{
	struct pcache *cache = op->cache;
	uint32_t idx = (uint32_t)__builtin_ctzll(op->mask);
	uint64_t pos;
	int rc;

	pc_index_lock(cache->index, op->mask);
	*out_seen_nr = atomic_load_explicit(&cache->holds.released_nr, memory_order_relaxed);
	op_prefetch_first_locked(op);
	rc = op_is_held_locked(op) ? OP_HELD : pc_index_reserve_locked(cache->index, op->mask, op->reserve_nr);
#ifdef PC_PLANTS
	op->planted_epoch_pos = atomic_load(&cache->log.epoch_pos);
#endif
	if (!rc)
		rc = pc_log_reserve(&cache->log, idx, pc_kbuf_slot_nr(&op->kbuf), PC_LOG_WRITER, &pos);
	if (!rc) {
		op_begin_apply(op, pos);
		rc = op_store(op, pos);
		if (!rc && PC_PLANTED(PC_PLANT_RANGE_UNLOCKED)) {
			pc_index_unlock(cache->index, op->mask);
			pc_index_lock(cache->index, op->mask);
			rc = pc_index_reserve_locked(cache->index, op->mask, op->reserve_nr);
		}
		if (rc)
			rc = pc_core_failstop(cache, rc);
		else
			op_insert_rest_locked(op);
		op_count_locked(op);
		PC_YIELD(WRITE_INSERTED);
	}
	pc_index_unlock(cache->index, op->mask);
	PC_YIELD(WRITE_UNLOCKED);
	return rc;
}

static int op_alloc_room(struct op *op)
{
	struct pcache *cache = op->cache;
	uint32_t seg_nr = PC_DIV_UP(op->total_blk, cache->map.segment_blk) + 1;

	for (;;) {
		uint32_t leave_nr = pc_space_may_take(cache, &op->ticket) ? 0 : cache->map.segment_nr;
		int rc = pc_heads_alloc(&cache->heads, op->total_blk, leave_nr, op->pieces, &op->piece_nr,
					&op->took_segs);

		if (rc == 0)
			return 0;
		if (rc != PCACHE_E_FULL)
			return rc == PCACHE_E_TOO_BIG ? rc : pc_core_failstop(cache, rc);
		rc = pc_space_wait(cache, &op->ticket, seg_nr, false, op->flags);
		if (rc)
			return rc;
	}
}

static int op_commit(struct op *op)
{
	struct pcache *cache = op->cache;

	for (;;) {
		uint64_t seen_nr;
		int rc = op_commit_once(op, &seen_nr);

		if (rc == OP_HELD) {
			rc = pc_core_hold_wait(cache, seen_nr, op->flags);
			if (rc)
				return rc;
			continue;
		}
		if (rc != PCACHE_E_FULL)
			return rc;
		rc = pc_log_extend(&cache->log, false);
		if (rc && rc != PCACHE_E_FULL)
			return pc_core_failstop(cache, rc);
		if (rc == PCACHE_E_FULL)
			rc = pc_space_wait(cache, &op->ticket, 0, true, op->flags);
		if (rc)
			return rc;
	}
}

/* After a request: wake those who should know, make it durable where asked. Nothing is locked. */
static int op_finish(struct op *op)
{
	struct pcache *cache = op->cache;
	bool synced;
	int rc = 0;

	if (op->flags & PCACHE_DURABLE) {
		/* Order: the sync before a durable write returns; does nothing where the fence has done it. */
		rc = pc_log_sync_upto(&cache->log, atomic_load(&cache->log.head), &synced);
		if (rc)
			rc = pc_core_failstop(cache, rc);
		else if (synced)
			atomic_fetch_add_explicit(&cache->heads.sync_nr, 1, memory_order_acq_rel);
	}
	if (op->took_segs) {
		pc_core_mark(cache);
		pc_admit_look(cache);
		if (pc_limit_is_on(cache))
			pc_limit_took(cache, (uint64_t)op->total_blk << cache->block_shift);
	}
	if (atomic_load_explicit(&cache->signal.writeback_idle, memory_order_seq_cst))
		pc_signal_work(cache, PC_WORK_WRITEBACK);
	if ((op->took_segs && pc_space_pressure(cache)) || pc_log_short(&cache->log))
		pc_signal_work(cache, PC_WORK_SPACE);
	return rc;
}

static int op_run(struct op *op)
{
	struct pcache *cache = op->cache;
	int rc = op_alloc_scratch(op);

	if (rc)
		return rc;
	rc = pc_admit(cache, (uint64_t)op->total_blk << cache->block_shift, op->flags);
	if (!rc)
		rc = op_alloc_room(op);
	if (!rc)
		rc = op_build_data_keys(op);
	if (!rc) {
		PC_YIELD(WRITE_ROOM);
		op_plan_index(op);
		op->reserve_nr += op->piece_nr; /* each cut by a segment's end makes one more extent */
		rc = op_commit(op);
	}
	if (rc)
		pc_heads_unalloc(&cache->heads, op->pieces, op->piece_nr);
	else
		rc = op_finish(op);
	pc_space_leave(cache, &op->ticket);
	free(op->heap);
	return rc;
}

/* Not the whole struct is set: pieces and inline cells are filled as they are used. */
static void op_init(struct op *op, struct pcache *cache, const struct pcache_range *ranges, uint32_t range_nr)
{
	memset(op, 0, offsetof(struct op, pieces));
	op->piece_nr = 0;
	op->took_segs = false;
	op->ext_flags = 0;
	op->key_flags = 0;
	op->key_nr = 0;
	op->heap = NULL;
	op->kbuf = (struct pc_kbuf){ 0 };
	op->cache = cache;
	op->ranges = ranges;
	op->range_nr = range_nr;
}

/* One atomic request. */
static int write_atomic(struct pcache *cache, const struct pcache_range *ranges, uint32_t range_nr, uint64_t len,
			uint32_t flags)
{
	struct op op;

	op_init(&op, cache, ranges, range_nr);
	op.flags = flags;
	op.total_blk = (uint32_t)(len >> cache->block_shift);
	op.ext_flags = PC_EXT_DIRTY;
	return op_run(&op);
}

int pc_core_write(struct pcache *cache, const struct pcache_range *ranges, uint32_t range_nr, uint32_t flags)
{
	struct pcache_range part;
	uint64_t total = 0;
	int rc = pc_core_stopped(cache);

	for (uint32_t i = 0; i < range_nr; i++)
		total += ranges[i].len;
	if (rc || total == 0)
		return rc;
	if (range_nr > 1 && PC_PLANTED(PC_PLANT_BATCH_IN_TWO)) {
		rc = pc_core_write(cache, ranges, range_nr / 2, flags);
		return rc ? rc : pc_core_write(cache, ranges + range_nr / 2, range_nr - range_nr / 2, flags);
	}
	if (range_nr == 1 && total <= PC_CHUNK_BYTES &&
	    pc_write_one(cache, ranges[0].buf, ranges[0].off >> cache->block_shift,
			 (uint32_t)(total >> cache->block_shift)))
		return 0;
	if (range_nr > 1 && total <= cache->atomic_max_bytes && pc_write_batch(cache, ranges, range_nr))
		return 0;
	if (total <= cache->atomic_max_bytes)
		return write_atomic(cache, ranges, range_nr, total, flags);
	if (range_nr > 1)
		return PCACHE_E_TOO_BIG;
	part = ranges[0];
	for (uint64_t done = 0; done < total && !rc; done += part.len) {
		part.buf = (const uint8_t *)ranges[0].buf + done;
		part.off = ranges[0].off + done;
		part.len = PC_MIN(total - done, cache->atomic_max_bytes);
		rc = write_atomic(cache, &part, 1, part.len, flags);
	}
	return rc;
}

/* ---- keys without data of their own --------------------------------------------------------------------------------------- */

/* Appends one kset of keys that need no copy, over range. */
static int append_bare(struct pcache *cache, struct pcache_range *range, const struct pc_key *key, uint32_t flags)
{
	struct op op;
	int rc;

	op_init(&op, cache, range, 1);
	op.flags = flags;
	op.ext_flags = PC_EXT_DIRTY;
	rc = op_alloc_scratch(&op);
	if (rc)
		return rc;
	rc = op_add_key(&op, key, NULL);
	op_plan_index(&op);
	if (!rc)
		rc = op_commit(&op);
	if (!rc)
		rc = op_finish(&op);
	pc_space_leave(cache, &op.ticket);
	free(op.heap);
	return rc;
}

int pc_core_zero(struct pcache *cache, uint64_t off, uint64_t len, bool discard, uint32_t flags)
{
	uint64_t stripe_bytes = pc_index_stripe_end(cache->index, 0) << cache->block_shift;
	uint64_t part_max = PC_MIN(stripe_bytes * pc_index_shard_nr(cache->index),
				   (uint64_t)PC_KEY_BARE_BLK_MAX << cache->block_shift);
	int rc = pc_core_stopped(cache);

	for (uint64_t done = 0; done < len && !rc;) {
		struct pcache_range range = { .off = off + done, .len = PC_MIN(len - done, part_max) };
		struct pc_key key = {
			.vol_blk = range.off >> cache->block_shift,
			.len_blk = (uint32_t)(range.len >> cache->block_shift),
			.flags = (uint8_t)(PC_KEY_ZERO | (discard ? PC_KEY_DISCARD : 0u)),
		};

		rc = append_bare(cache, &range, &key, flags);
		done += range.len;
	}
	return rc;
}

/* Whether part, of the index, still shows the bytes of the damaged version. */
static bool shows_version(const struct pc_extent *part, const struct pc_extent *version)
{
	return part->pos == version->pos && (part->flags & PC_EXT_TYPE_MASK) == PC_EXT_DATA &&
	       part->seg_id == version->seg_id &&
	       part->vol_blk - version->vol_blk == (uint64_t)part->seg_blk - version->seg_blk;
}

#define POISON_PARTS_MAX 8u /* a version lies within one chunk */

/* One try, with the shards of mask locked. 0: no part of the version shows any more. */
static int poison_locked(struct pcache *cache, const struct pc_extent *version, uint64_t mask)
{
	_Alignas(64) uint8_t cells[(POISON_PARTS_MAX + 2) * PC_CELL_BYTES];
	struct pc_kbuf kbuf = { .cells = cells, .cell_nr = 1, .cell_max = PC_ARRAY_NR(cells) / PC_CELL_BYTES };
	struct pc_apply apply = { .cache = cache, .share_idx = pc_apply_share_idx(mask) };
	struct pc_key keys[POISON_PARTS_MAX];
	struct pc_extent found[POISON_PARTS_MAX];
	uint32_t nr, idx = (uint32_t)__builtin_ctzll(mask);
	int rc;

	nr = pc_index_lookup_locked(cache->index, version->vol_blk, version->len_blk, found, POISON_PARTS_MAX);
	for (uint32_t i = 0; i < nr; i++) {
		struct pc_key *key = &keys[kbuf.key_nr];

		if (!shows_version(&found[i], version))
			continue;
		*key = (struct pc_key){ .vol_blk = found[i].vol_blk,
					.len_blk = found[i].len_blk,
					.flags = PC_KEY_POISON };
		pc_kbuf_put_key(&kbuf, pc_kbuf_add(&kbuf, 0), key, 0);
	}
	if (kbuf.key_nr == 0)
		return 0;
	rc = pc_index_reserve_locked(cache->index, mask, 2 * kbuf.key_nr);
	if (!rc)
		rc = pc_log_reserve(&cache->log, idx, pc_kbuf_slot_nr(&kbuf), PC_LOG_POISON, &apply.pos);
	if (rc)
		return rc;
	pc_append_commit(cache, idx, apply.pos, &kbuf);
	apply.epoch_pos = atomic_load_explicit(&cache->log.epoch_pos, memory_order_acquire);
	for (uint32_t i = 0; i < kbuf.key_nr; i++)
		pc_apply_key_locked(&apply, &keys[i], NULL, 0);
	return 0;
}

int pc_core_poison(struct pcache *cache, const struct pc_extent *version)
{
	uint64_t mask = pc_index_mask(cache->index, version->vol_blk, version->len_blk);
	int rc;

	for (;;) {
		/* An overwrite cures, so looking and appending are one step under the shard locks. */
		pc_index_lock(cache->index, mask);
		rc = poison_locked(cache, version, mask);
		pc_index_unlock(cache->index, mask);
		if (rc != PCACHE_E_FULL)
			return rc;
		rc = pc_log_extend(&cache->log, true);
		if (rc)
			return rc == PCACHE_E_FULL ? rc : pc_core_failstop(cache, rc);
	}
}

/* ---- fill ------------------------------------------------------------------------------------------------------------------- */

/* The part of a fill under the shard lock: 0 if the data was kept. */
static int fill_commit(struct op *op, struct pc_fill *fill)
{
	struct pcache *cache = op->cache;
	uint64_t pos;
	int rc;

	if (fill->cancelled && !PC_PLANTED(PC_PLANT_FILL_OVER_WRITE))
		return -ECANCELED;
	if (atomic_load_explicit(&cache->fills_off, memory_order_relaxed))
		return PCACHE_E_FULL; /* nothing is kept, and what had begun before neither */
	rc = pc_index_reserve_locked(cache->index, op->mask, op->reserve_nr);
	if (!rc)
		rc = pc_log_reserve(&cache->log, (uint32_t)__builtin_ctzll(op->mask), pc_kbuf_slot_nr(&op->kbuf),
				    PC_LOG_WRITER, &pos);
	if (rc)
		return rc;
	op_begin_apply(op, pos);
	rc = op_store(op, pos);
	if (rc)
		return pc_core_failstop(cache, rc);
	op_insert_rest_locked(op);
	count(&cache->stats.shard[__builtin_ctzll(op->mask)].fill_bytes, (uint64_t)op->total_blk << cache->block_shift);
	return 0;
}

bool pc_core_fill(struct pcache *cache, struct pc_fill *fill, const void *buf)
{
	struct pcache_range range = { .buf = buf,
				      .off = fill->vol_blk << cache->block_shift,
				      .len = fill->len_blk << cache->block_shift };
	bool cancelled;
	struct op op;
	int rc = pc_core_stopped(cache);

	op_init(&op, cache, &range, 1);
	op.total_blk = (uint32_t)fill->len_blk;
	op.key_flags = PC_KEY_CLEAN;
	op_plan_index(&op);
	if (!rc)
		rc = op_alloc_scratch(&op);
	/* Room that a writer waits for is not for keeping what the backing has anyway. */
	if (!rc && atomic_load_explicit(&cache->space.waiting_nr, memory_order_relaxed) != 0)
		rc = PCACHE_E_FULL;
	if (!rc)
		rc = pc_heads_alloc(&cache->heads, op.total_blk, cache->fill_leave_segs, op.pieces, &op.piece_nr,
				    &op.took_segs);
	if (rc && rc != PCACHE_E_FULL && rc != PCACHE_E_TOO_BIG && rc != -ENOMEM)
		rc = pc_core_failstop(cache, rc);
	if (!rc)
		rc = op_build_data_keys(&op);
	op.reserve_nr += op.piece_nr;
	PC_YIELD(FILL_ROOM);
	pc_index_lock(cache->index, op.mask);
	cancelled = fill->cancelled;
	if (!rc)
		rc = fill_commit(&op, fill);
	pc_index_fill_unlist_locked(cache->index, fill);
	pc_index_unlock(cache->index, op.mask);
	if (rc)
		pc_heads_unalloc(&cache->heads, op.pieces, op.piece_nr);
	/* What a fill leaves of them is there for writes. */
	if (op.took_segs && pc_limit_is_on(cache))
		pc_limit_took(cache, range.len);
	if (op.took_segs && pc_space_pressure(cache))
		pc_signal_work(cache, PC_WORK_SPACE);
	free(op.heap);
	return !cancelled || PC_PLANTED(PC_PLANT_FILL_OVER_WRITE);
}
