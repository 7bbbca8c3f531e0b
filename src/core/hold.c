/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranges that are held while a write goes around the cache.
 *
 * What goes around is erased from the cache before it goes to the backing, and nothing comes back before it is there. Three things would break that, and each is shut out:
 *
 *   an older version in the log      only a range whose versions are all on the backing is held: what is dirty would be written back later, over the newer data. All older
 *                                    versions of a block that the index shows clean, or not at all, lie below the durable dirty tail, for write-back makes clean behind it
 *   a crash                          a key that erases is durable before the backing has the first byte: without it the next open would show the old data again, until it is evicted
 *   others                           a write, fill or miss of the range waits for the release. The hold is in the list of fills of its shard
 *
 * Whoever may meet a hold sees PC_GATE_MODE, which is set before the first one and until after the last.
 */
#include <errno.h>

#include "base/plant.h"
#include "base/sched.h"
#include "core/append.h"
#include "core/cache.h"
#include "pcache/errors.h"

#define LOOK_NR 16u

int pc_core_hold_wait(struct pcache *cache, uint64_t seen_nr, uint32_t flags)
{
	struct pc_holds *holds = &cache->holds;

	if (flags & PCACHE_NOWAIT)
		return -EAGAIN;
	pc_mutex_lock(&cache->space.lock);
	while (atomic_load_explicit(&holds->released_nr, memory_order_relaxed) == seen_nr)
		pc_cond_wait(&holds->cond, &cache->space.lock);
	pc_mutex_unlock(&cache->space.lock);
	return 0;
}

/* All that there is of the range is on the backing. */
static bool is_clean_locked(struct pcache *cache, const struct pc_fill *hold)
{
	uint64_t blk = hold->vol_blk, end_blk = blk + hold->len_blk;
	struct pc_extent found[LOOK_NR];
	uint32_t nr;

	do {
		nr = pc_index_lookup_locked(cache->index, blk, end_blk - blk, found, LOOK_NR);
		for (uint32_t i = 0; i < nr; i++) {
			/* Damaged: what would be read from the backing if the write failed is older than what was lost. */
			if ((found[i].flags & PC_EXT_DIRTY) || (found[i].flags & PC_EXT_TYPE_MASK) != PC_EXT_DATA)
				return PC_PLANTED(PC_PLANT_HOLD_DIRTY);
		}
		if (nr)
			blk = found[nr - 1].vol_blk + found[nr - 1].len_blk;
	} while (nr == LOOK_NR && blk < end_blk);
	return true;
}

/* A key that only erases. PCACHE_E_FULL: no position. */
static int erase_locked(struct pcache *cache, const struct pc_fill *hold, uint64_t mask)
{
	const struct pc_key key = { .vol_blk = hold->vol_blk,
				    .len_blk = (uint32_t)hold->len_blk,
				    .flags = PC_KEY_ZERO | PC_KEY_CLEAN };
	_Alignas(64) uint8_t cells[2 * PC_CELL_BYTES];
	struct pc_kbuf kbuf = { .cells = cells, .cell_nr = 1, .cell_max = PC_ARRAY_NR(cells) / PC_CELL_BYTES };
	struct pc_apply apply = { .cache = cache, .share_idx = pc_apply_share_idx(mask) };
	uint32_t idx = (uint32_t)__builtin_ctzll(mask);
	int rc;

	pc_kbuf_put_key(&kbuf, pc_kbuf_add(&kbuf, 0), &key, 0);
	rc = pc_index_reserve_locked(cache->index, mask, pc_apply_piece_nr(cache, hold->vol_blk, hold->len_blk, false));
	if (!rc)
		rc = pc_log_reserve(&cache->log, idx, pc_kbuf_slot_nr(&kbuf), PC_LOG_WRITER, &apply.pos);
	if (rc)
		return rc;
	pc_append_commit(cache, idx, apply.pos, &kbuf);
	apply.epoch_pos = atomic_load_explicit(&cache->log.epoch_pos, memory_order_acquire);
	pc_apply_key_locked(&apply, &key, NULL, 0);
	return 0;
}

/* One try. PC_HOLD_BUSY: somebody else holds a part; *out_seen_nr is for pc_core_hold_wait. */
#define PC_HOLD_BUSY 2
static int hold_once(struct pcache *cache, struct pc_fill *hold, uint64_t *out_seen_nr)
{
	uint64_t mask = pc_index_mask(cache->index, hold->vol_blk, hold->len_blk);
	int rc = 0;

	pc_index_lock(cache->index, mask);
	*out_seen_nr = atomic_load_explicit(&cache->holds.released_nr, memory_order_relaxed);
	if (!pc_mode_goes_around(cache) || !is_clean_locked(cache, hold))
		rc = PC_HOLD_NO;
	else if (pc_index_held_locked(cache->index, mask, hold->vol_blk, hold->len_blk))
		rc = PC_HOLD_BUSY;
	if (!rc && !PC_PLANTED(PC_PLANT_HOLD_NO_ERASE))
		rc = erase_locked(cache, hold, mask);
	if (!rc) {
		atomic_fetch_add_explicit(&cache->holds.nr, 1, memory_order_relaxed);
		pc_index_fill_list_locked(cache->index, hold);
	}
	pc_index_unlock(cache->index, mask);
	PC_YIELD(HELD);
	return rc;
}

/* Page granularity: the key is durable. */
static int sync_key(struct pcache *cache)
{
	bool synced;
	int rc = pc_log_sync_upto(&cache->log, atomic_load(&cache->log.head), &synced);

	if (rc)
		return pc_core_failstop(cache, rc);
	if (synced)
		atomic_fetch_add_explicit(&cache->heads.sync_nr, 1, memory_order_acq_rel);
	return 0;
}

int pc_core_hold(struct pcache *cache, struct pc_fill *hold, uint32_t flags)
{
	struct pc_space_ticket ticket = { 0 };
	uint64_t seen_nr;
	int rc = pc_core_stopped(cache);

	while (!rc) {
		rc = hold_once(cache, hold, &seen_nr);
		if (rc == PC_HOLD_BUSY) {
			rc = pc_core_hold_wait(cache, seen_nr, flags);
		} else if (rc == PCACHE_E_FULL) {
			rc = pc_log_extend(&cache->log, false);
			if (rc && rc != PCACHE_E_FULL)
				rc = pc_core_failstop(cache, rc);
			else if (rc)
				rc = pc_space_wait(cache, &ticket, 0, true, flags);
		} else {
			break;
		}
	}
	pc_space_leave(cache, &ticket);
	if (pc_log_short(&cache->log))
		pc_signal_work(cache, PC_WORK_SPACE);
	if (rc)
		return rc;
	/* Order: the key before the first byte of the backing. Does nothing where the fence has done it. */
	rc = sync_key(cache);
	if (rc)
		pc_core_release(cache, hold, false, 0);
	return rc;
}

void pc_core_release(struct pcache *cache, struct pc_fill *hold, bool written, uint32_t op_nr)
{
	uint64_t mask = pc_index_mask(cache->index, hold->vol_blk, hold->len_blk);
	struct pc_shard_stats *stats = &cache->stats.shard[__builtin_ctzll(mask)];

	pc_index_lock(cache->index, mask);
	pc_index_fill_unlist_locked(cache->index, hold);
	if (written) {
		pc_stat_add(&stats->write_ops, op_nr);
		pc_stat_add(&stats->write_bytes, hold->len_blk << cache->block_shift);
	}
	pc_index_unlock(cache->index, mask);
	pc_mutex_lock(&cache->space.lock);
	/* Behind the lock of the shard: who saw the hold there has seen the count before. */
	atomic_fetch_add_explicit(&cache->holds.released_nr, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&cache->holds.nr, 1, memory_order_relaxed);
	pc_cond_broadcast(&cache->holds.cond);
	pc_mutex_unlock(&cache->space.lock);
}

void pc_core_holds_begin(struct pcache *cache)
{
	atomic_fetch_or_explicit(&cache->admit.gate, PC_GATE_MODE, memory_order_relaxed);
}

void pc_core_holds_end(struct pcache *cache)
{
	/* Who holds from now on has seen the mode under one of these locks. */
	for (uint32_t i = 0; i < pc_index_shard_nr(cache->index); i++) {
		pc_index_lock(cache->index, UINT64_C(1) << i);
		pc_index_unlock(cache->index, UINT64_C(1) << i);
	}
	pc_mutex_lock(&cache->space.lock);
	while (atomic_load_explicit(&cache->holds.nr, memory_order_relaxed) != 0)
		pc_cond_wait(&cache->holds.cond, &cache->space.lock);
	pc_mutex_unlock(&cache->space.lock);
	atomic_fetch_and_explicit(&cache->admit.gate, (uint8_t)~PC_GATE_MODE, memory_order_relaxed);
}
