/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * States of segments, the free list, and the rules of reuse.
 *
 * A segment leaves the free list under the lock, but its record is stored outside of it: until the record is durable only the taker knows
 * the segment. Pins and references are counted without the lock. That is safe because both are taken under the shard lock of an extent that is live: once the
 * last extent has left the index, no new pin can come from there, and reclaim looks at live_blk first and at pins after. Write-back, which comes from the
 * log and not from the index, pins under the lock and compares generations there.
 */
#include "alloc/segmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"
#include "base/sched.h"
#include "pcache/errors.h"

int pc_segmap_init(struct pc_segmap *map, struct pc_layout *layout)
{
	int rc;

	memset(map, 0, sizeof(*map));
	map->layout = layout;
	map->segment_nr = layout->super.segment_nr;
	map->segment_blk = layout->super.segment_bytes / layout->super.block_bytes;
	map->log_reserve_segs = 1;
	map->damaged_max = PC_MIN(map->segment_nr / 8, map->segment_nr - PC_SEGMENT_NR_MIN);
	rc = pc_mutex_init(&map->lock, PC_RANK_SEGMAP, 0);
	if (rc)
		return rc;
	map->segs = calloc(map->segment_nr, sizeof(*map->segs));
	map->free_ids = calloc(map->segment_nr, sizeof(*map->free_ids));
	if (!map->segs || !map->free_ids) {
		pc_segmap_fini(map);
		return -ENOMEM;
	}
	for (uint32_t id = 0; id < map->segment_nr; id++)
		atomic_init(&map->segs[id].gen, layout->segrecs[id].gen);
	pc_segmap_adopt_done(map);
	return 0;
}

void pc_segmap_fini(struct pc_segmap *map)
{
	free(map->segs);
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

void pc_segmap_adopt_done(struct pc_segmap *map)
{
	uint32_t free_nr = 0, log_nr = 0;

	map->free_first = 0;
	for (uint32_t id = 0; id < map->segment_nr; id++) {
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

/* The segment becomes free. False: it is damaged and becomes nothing. */
static bool push_locked(struct pc_segmap *map, uint32_t seg_id)
{
	uint32_t nr = atomic_load_explicit(&map->free_nr, memory_order_relaxed);

	if (atomic_load_explicit(&map->segs[seg_id].damaged, memory_order_relaxed)) {
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
	atomic_store_explicit(&seg->touched, 1, memory_order_relaxed);
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

static bool reclaimable(struct pc_seg *seg, uint64_t durable_dirty_tail, uint64_t durable_pos)
{
	return get_state(seg) == PC_SS_DATA && atomic_load_explicit(&seg->live_blk, memory_order_acquire) == 0 &&
	       (atomic_load_explicit(&seg->pins, memory_order_acquire) == 0 || PC_PLANTED(PC_PLANT_PINS_IGNORED)) &&
	       (atomic_load_explicit(&seg->hold_pos, memory_order_acquire) < durable_dirty_tail) &&
	       (atomic_load_explicit(&seg->dead_pos, memory_order_acquire) < durable_pos ||
		PC_PLANTED(PC_PLANT_DEAD_IGNORED));
}

uint32_t pc_segmap_reclaim(struct pc_segmap *map, uint64_t durable_dirty_tail, uint64_t durable_pos)
{
	uint32_t nr = 0;

	PC_YIELD(RECLAIM_CHECKED);
	/* Held segments are looked at again when the dirty tail or the durable position moved; the caller comes back then. */
	if (!atomic_exchange_explicit(&map->maybe_empty, false, memory_order_acq_rel))
		return 0;
	pc_mutex_lock(&map->lock);
	for (uint32_t id = 0; id < map->segment_nr; id++) {
		struct pc_seg *seg = &map->segs[id];

		if (reclaimable(seg, durable_dirty_tail, durable_pos)) {
			nr += push_locked(map, id);
		} else if (get_state(seg) == PC_SS_DATA &&
			   atomic_load_explicit(&seg->live_blk, memory_order_relaxed) == 0) {
			atomic_store_explicit(&map->maybe_empty, true, memory_order_release);
		}
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
