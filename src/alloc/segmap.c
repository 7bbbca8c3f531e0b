/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * States of segments, the free list, and the rules of reuse.
 *
 * A segment leaves the free list under the lock, but its record is stored outside of it: until the record is durable only the taker knows
 * the segment. Pins and references are counted without the lock. That is safe because both are taken under the shard lock of an extent that is live: once the
 * last extent has left the index, no new pin can come from there, and reclaim looks at what is live first and at pins after. Write-back, which comes from the
 * log and not from the index, pins under the lock and compares generations there.
 */
#include "alloc/segmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"
#include "base/sched.h"
#include "pcache/errors.h"

static size_t shares_bytes(const struct pc_segmap *map)
{
	return PC_ROUND_UP((size_t)map->segment_nr * map->share_nr * sizeof(struct pc_seg_share),
			   (size_t)PC_CACHE_LINE_BYTES);
}

/* Steps in which shares publish: together they hold back an eighth of a segment. */
static void choose_quantum(struct pc_segmap *map, uint32_t quantum_blk)
{
	if (!quantum_blk)
		quantum_blk = PC_MAX(map->segment_blk / 8 / map->share_nr, 1u);
	map->quantum_shift = 31 - (uint32_t)__builtin_clz(quantum_blk);
	map->open_max_blk = map->share_nr * ((1u << map->quantum_shift) - 1);
}

int pc_segmap_init(struct pc_segmap *map, struct pc_layout *layout, uint32_t share_nr, uint32_t quantum_blk)
{
	int rc;

	memset(map, 0, sizeof(*map));
	map->layout = layout;
	map->segment_nr = layout->super.segment_nr;
	map->segment_blk = layout->super.segment_bytes / layout->super.block_bytes;
	map->share_nr = share_nr;
	choose_quantum(map, quantum_blk);
	map->log_reserve_segs = 1;
	map->damaged_max = PC_MIN(map->segment_nr / 8, map->segment_nr - PC_SEGMENT_NR_MIN);
	rc = pc_mutex_init(&map->lock, PC_RANK_SEGMAP, 0);
	if (rc)
		return rc;
	map->segs = calloc(map->segment_nr, sizeof(*map->segs));
	map->free_ids = calloc(map->segment_nr, sizeof(*map->free_ids));
	map->shares = aligned_alloc(PC_CACHE_LINE_BYTES, shares_bytes(map));
	if (!map->segs || !map->free_ids || !map->shares) {
		pc_segmap_fini(map);
		return -ENOMEM;
	}
	memset(map->shares, 0, shares_bytes(map));
	for (uint32_t id = 0; id < map->segment_nr; id++)
		atomic_init(&map->segs[id].gen, layout->segrecs[id].gen);
	pc_segmap_adopt_done(map);
	return 0;
}

void pc_segmap_fini(struct pc_segmap *map)
{
	free(map->segs);
	free(map->shares);
	free(map->free_ids);
	pc_mutex_fini(&map->lock);
	memset(map, 0, sizeof(*map));
}

static void set_state(struct pc_seg *seg, enum pc_seg_state state)
{
	atomic_store_explicit(&seg->state, (uint8_t)state, memory_order_release);
}

static enum pc_seg_state get_state(struct pc_seg *seg)
{
	return (enum pc_seg_state)atomic_load_explicit(&seg->state, memory_order_acquire);
}

void pc_segmap_adopt(struct pc_segmap *map, uint32_t seg_id, enum pc_seg_state state)
{
	set_state(&map->segs[seg_id], state);
}

/* The last generation cannot be raised: after it old keys would be younger than their segment. Only an image that was made up has it. */
static bool can_be_taken(struct pc_seg *seg)
{
	return !atomic_load_explicit(&seg->damaged, memory_order_relaxed) &&
	       atomic_load_explicit(&seg->gen, memory_order_relaxed) != UINT64_MAX;
}

void pc_segmap_adopt_done(struct pc_segmap *map)
{
	uint32_t free_nr = 0, log_nr = 0;

	map->free_first = 0;
	for (uint32_t id = 0; id < map->segment_nr; id++) {
		if (get_state(&map->segs[id]) == PC_SS_FREE && !can_be_taken(&map->segs[id]))
			set_state(&map->segs[id], PC_SS_QUARANTINED);
		if (get_state(&map->segs[id]) == PC_SS_FREE)
			map->free_ids[free_nr++] = id;
		log_nr += get_state(&map->segs[id]) == PC_SS_LOG;
	}
	atomic_store(&map->free_nr, free_nr);
	atomic_store(&map->log_nr, log_nr);
	atomic_store(&map->maybe_empty, true);
}

/* Pops one free segment into state; the caller checked that there is one. */
static uint32_t pop_locked(struct pc_segmap *map, enum pc_seg_state state)
{
	uint32_t nr = atomic_load_explicit(&map->free_nr, memory_order_relaxed);
	uint32_t id = map->free_ids[map->free_first];

	map->free_first = (map->free_first + 1) % map->segment_nr;
	atomic_store_explicit(&map->free_nr, nr - 1, memory_order_relaxed);
	set_state(&map->segs[id], state);
	return id;
}

/* The segment becomes free. False: it cannot be taken again and becomes nothing. */
static bool push_locked(struct pc_segmap *map, uint32_t seg_id)
{
	uint32_t nr = atomic_load_explicit(&map->free_nr, memory_order_relaxed);

	if (!can_be_taken(&map->segs[seg_id])) {
		set_state(&map->segs[seg_id], PC_SS_QUARANTINED);
		return false;
	}
	set_state(&map->segs[seg_id], PC_SS_FREE);
	map->free_ids[(uint32_t)(((uint64_t)map->free_first + nr) % map->segment_nr)] = seg_id;
	atomic_store_explicit(&map->free_nr, nr + 1, memory_order_relaxed);
	return true;
}

/* Stores the record of a segment that was popped, with its generation raised. */
static int raise_gen(struct pc_segmap *map, uint32_t seg_id, enum pc_seg_type type, uint64_t ordinal, uint64_t nonce)
{
	struct pc_seg *seg = &map->segs[seg_id];
	struct pc_segrec rec = { .seg_id = seg_id, .type = type, .ordinal = ordinal, .nonce = nonce };
	int rc;

	rec.gen = atomic_load_explicit(&seg->gen, memory_order_relaxed) + 1;
	rc = pc_layout_store_segrec(map->layout, &rec);
	if (rc)
		return rc;
	PC_YIELD(SEG_RECORD);
	atomic_store_explicit(&seg->hold_pos, 0, memory_order_relaxed);
	atomic_store_explicit(&seg->dead_pos, 0, memory_order_relaxed);
	atomic_store_explicit(&seg->touched, PC_TOUCHED_NEW, memory_order_relaxed);
	atomic_store_explicit(&seg->gen, rec.gen, memory_order_release);
	/* Order: the generation before all bytes of the new life, because readers compare it after their copy; non-temporal stores are ordered by nothing less. */
	atomic_thread_fence(memory_order_seq_cst);
	return 0;
}

int pc_segmap_take_data(struct pc_segmap *map, uint32_t nr, uint32_t leave_nr, uint32_t *out_ids)
{
	uint32_t i;
	int rc = 0;

	pc_mutex_lock(&map->lock);
	if (atomic_load_explicit(&map->free_nr, memory_order_relaxed) < (uint64_t)nr + leave_nr + map->log_reserve_segs)
		rc = PCACHE_E_FULL;
	for (i = 0; !rc && i < nr; i++)
		out_ids[i] = pop_locked(map, PC_SS_TAKEN);
	pc_mutex_unlock(&map->lock);
	PC_YIELD(SEG_POPPED);
	/* A failed sync stops all stores for good, so segments that were popped need no way back. */
	for (i = 0; !rc && i < nr; i++)
		rc = raise_gen(map, out_ids[i], PC_SEG_DATA, 0, 0);
	PC_YIELD(SEG_RAISED);
	/* Write-back pins by generation: it must not meet the old generation in a segment that is being reused. */
	for (i = 0; !rc && i < nr; i++)
		set_state(&map->segs[out_ids[i]], PC_SS_OPEN);
	return rc;
}

int pc_segmap_take_log(struct pc_segmap *map, uint64_t ordinal, uint64_t nonce, uint32_t *out_id)
{
	int rc = 0;

	pc_mutex_lock(&map->lock);
	if (atomic_load_explicit(&map->free_nr, memory_order_relaxed) == 0) {
		rc = PCACHE_E_FULL;
	} else {
		*out_id = pop_locked(map, PC_SS_LOG);
		atomic_fetch_add_explicit(&map->log_nr, 1, memory_order_relaxed);
	}
	pc_mutex_unlock(&map->lock);
	return rc ? rc : raise_gen(map, *out_id, PC_SEG_LOG, ordinal, nonce);
}

void pc_segmap_close(struct pc_segmap *map, uint32_t seg_id)
{
	pc_mutex_lock(&map->lock);
	set_state(&map->segs[seg_id], PC_SS_DATA);
	atomic_store_explicit(&map->maybe_empty, true, memory_order_release);
	pc_mutex_unlock(&map->lock);
}

void pc_segmap_free_log(struct pc_segmap *map, uint32_t seg_id)
{
	pc_mutex_lock(&map->lock);
	(void)push_locked(map, seg_id);
	atomic_fetch_sub_explicit(&map->log_nr, 1, memory_order_relaxed);
	pc_mutex_unlock(&map->lock);
}

/* ---- counts -------------------------------------------------------------------------------------------------------- */

void pc_segmap_publish(struct pc_segmap *map, uint32_t seg_id, uint32_t blk_nr)
{
	atomic_fetch_add_explicit(&map->segs[seg_id].published_blk, blk_nr, memory_order_acq_rel);
	/* After the addition, so that a reclaim that clears the flag later sees the sum. */
	if (pc_segmap_live_max_blk(map, seg_id) <= map->open_max_blk)
		atomic_store_explicit(&map->maybe_empty, true, memory_order_release);
}

void pc_segmap_give_up(struct pc_segmap *map, uint32_t seg_id, uint32_t blk_nr)
{
	atomic_fetch_add_explicit(&map->segs[seg_id].unused_blk, blk_nr, memory_order_acq_rel);
	pc_segmap_publish(map, seg_id, blk_nr);
}

uint32_t pc_segmap_live_max_blk(const struct pc_segmap *map, uint32_t seg_id)
{
	struct pc_seg *seg = &map->segs[seg_id];
	uint32_t published_blk = atomic_load_explicit(&seg->published_blk, memory_order_acquire);

	return atomic_load_explicit(&seg->taken_blk, memory_order_relaxed) - published_blk;
}

uint32_t pc_segmap_live_blk(const struct pc_segmap *map, uint32_t seg_id)
{
	struct pc_seg *seg = &map->segs[seg_id];
	uint32_t gone_blk = atomic_load_explicit(&seg->unused_blk, memory_order_acquire);

	for (uint32_t i = 0; i < map->share_nr; i++)
		gone_blk += atomic_load_explicit(&pc_segmap_share(map, seg_id, i)->freed_blk, memory_order_acquire);
	return atomic_load_explicit(&seg->taken_blk, memory_order_relaxed) - gone_blk;
}

uint32_t pc_segmap_dirty_blk(const struct pc_segmap *map, uint32_t seg_id)
{
	uint32_t dirty_blk = 0;

	for (uint32_t i = 0; i < map->share_nr; i++)
		dirty_blk += atomic_load_explicit(&pc_segmap_share(map, seg_id, i)->dirty_blk, memory_order_acquire);
	return dirty_blk;
}

/* ---- reclaim ------------------------------------------------------------------------------------------------------- */

static bool is_nearly_empty(const struct pc_segmap *map, uint32_t seg_id)
{
	return get_state(&map->segs[seg_id]) == PC_SS_DATA && pc_segmap_live_max_blk(map, seg_id) <= map->open_max_blk;
}

static bool reclaimable(struct pc_segmap *map, uint32_t seg_id, uint64_t durable_dirty_tail, uint64_t durable_pos)
{
	struct pc_seg *seg = &map->segs[seg_id];

	return is_nearly_empty(map, seg_id) && pc_segmap_live_blk(map, seg_id) == 0 &&
	       (atomic_load_explicit(&seg->pins, memory_order_acquire) == 0 || PC_PLANTED(PC_PLANT_PINS_IGNORED)) &&
	       (atomic_load_explicit(&seg->hold_pos, memory_order_acquire) < durable_dirty_tail) &&
	       (atomic_load_explicit(&seg->dead_pos, memory_order_acquire) < durable_pos ||
		PC_PLANTED(PC_PLANT_DEAD_IGNORED));
}

uint32_t pc_segmap_reclaim(struct pc_segmap *map, uint64_t durable_dirty_tail, uint64_t durable_pos)
{
	uint32_t nr = 0;

	PC_YIELD(RECLAIM_CHECKED);
	/* Those that are nearly empty are looked at each time; held segments when the dirty tail or the durable position moved; the caller comes back then. */
	if (!atomic_exchange_explicit(&map->maybe_empty, false, memory_order_acq_rel))
		return 0;
	pc_mutex_lock(&map->lock);
	for (uint32_t id = 0; id < map->segment_nr; id++) {
		if (reclaimable(map, id, durable_dirty_tail, durable_pos))
			nr += push_locked(map, id);
		else if (is_nearly_empty(map, id))
			atomic_store_explicit(&map->maybe_empty, true, memory_order_release);
	}
	pc_mutex_unlock(&map->lock);
	return nr;
}

bool pc_segmap_quarantine(struct pc_segmap *map, uint32_t seg_id)
{
	struct pc_seg *seg = &map->segs[seg_id];
	uint32_t nr;
	bool news;

	pc_mutex_lock(&map->lock);
	nr = atomic_load_explicit(&map->damaged_nr, memory_order_relaxed);
	news = nr < map->damaged_max && !atomic_load_explicit(&seg->damaged, memory_order_relaxed);
	if (news) {
		atomic_store_explicit(&seg->damaged, 1, memory_order_relaxed);
		atomic_store_explicit(&map->damaged_nr, nr + 1, memory_order_relaxed);
	}
	pc_mutex_unlock(&map->lock);
	return news;
}

bool pc_segmap_pin_gen(struct pc_segmap *map, uint32_t seg_id, uint64_t gen)
{
	struct pc_seg *seg = &map->segs[seg_id];
	bool same;

	pc_mutex_lock(&map->lock);
	same = (get_state(seg) == PC_SS_OPEN || get_state(seg) == PC_SS_DATA ||
		(PC_PLANTED(PC_PLANT_TAKEN_IS_PINNED) && get_state(seg) == PC_SS_TAKEN)) &&
	       atomic_load_explicit(&seg->gen, memory_order_acquire) == gen;
	if (same)
		pc_seg_pin(seg);
	pc_mutex_unlock(&map->lock);
	return same;
}
