/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Segment map: what each segment is used for now, and whether it may be taken again.
 *
 *     FREE --take--> OPEN (a data head fills it) --close--> DATA --reclaim--> FREE
 *     FREE --take--> LOG --free, at the tail only--> FREE
 *
 * A segment in which damage was met becomes QUARANTINED where it would become FREE, and stays that until the cache is closed.
 *
 * Taking a segment raises its generation durably first, so that keys of its earlier life carry no data any more. A closed data segment is reclaimed when
 *   - nothing in it is live (index extents and allocations in flight count),
 *   - nobody reads it (pins),
 *   - no key at or above the durable dirty tail needs it: hold_pos, ordering strict,
 *   - the ksets that overwrote its content are durable: dead_pos, page granularity.
 */
#ifndef PC_ALLOC_SEGMAP_H
#define PC_ALLOC_SEGMAP_H

#include <stdatomic.h>

#include "base/lock.h"
#include "layout/layout.h"

#define PC_SEG_NONE UINT32_MAX

enum pc_seg_state {
	PC_SS_FREE,
	PC_SS_TAKEN, /* left the free list, generation not raised yet: nobody else may touch it */
	PC_SS_OPEN,
	PC_SS_DATA,
	PC_SS_LOG,
	PC_SS_QUARANTINED /* would be FREE, but its media is damaged */
};

struct pc_seg {
	_Atomic uint64_t gen; /* changes only while nothing refers to the segment */
	_Atomic uint64_t hold_pos; /* reusable only when the durable dirty tail lies above */
	_Atomic uint64_t dead_pos; /* reusable only when this position is durable */
	_Atomic uint32_t live_blk; /* blocks of index extents and of allocations in flight */
	_Atomic uint32_t dirty_blk; /* blocks of dirty index extents */
	_Atomic uint32_t pins; /* readers */
	_Atomic uint8_t state; /* enum pc_seg_state; written under the segmap lock */
	_Atomic uint8_t touched; /* read since the clock hand last came by */
	_Atomic uint8_t damaged; /* not to be taken again while the cache is open; written under the segmap lock */
};

struct pc_segmap {
	struct pc_layout *layout;
	struct pc_seg *segs;
	uint32_t segment_nr;
	uint32_t segment_blk;
	uint32_t log_reserve_segs; /* free segments that data never takes */
	uint32_t damaged_max; /* no more are taken out of use, so that there is always progress */
	struct pc_mutex lock; /* PC_RANK_SEGMAP: states, free list */
	uint32_t *
		free_ids; /* ring: the segment that has been free for longest is taken first, so that all of them are used in turn */
	uint32_t free_first; /* under the lock */
	_Atomic uint32_t free_nr; /* written under the lock */
	_Atomic uint32_t log_nr; /* segments in state LOG; written under the lock */
	_Atomic uint32_t damaged_nr; /* written under the lock */
	_Atomic bool maybe_empty; /* some data segment may have become reclaimable */
};

int pc_segmap_init(struct pc_segmap *map,
		   struct pc_layout *layout); /* all FREE, generations from the records; 0 or -errno */
void pc_segmap_fini(struct pc_segmap *map);
/* Recovery only: sets a segment's state and rebuilds the free list when done. */
void pc_segmap_adopt(struct pc_segmap *map, uint32_t seg_id, enum pc_seg_state state);
void pc_segmap_adopt_done(struct pc_segmap *map);

/*
 * Takes nr segments for data, all or none. leave_nr free segments are left beside the log's reserve. 0, PCACHE_E_FULL (nothing changed), -errno of a sync. They are
 * OPEN, empty, and their new generations durable.
 */
int pc_segmap_take_data(struct pc_segmap *map, uint32_t nr, uint32_t leave_nr, uint32_t *out_ids);
/* Takes one segment for the log with this ordinal and nonce. As above. */
int pc_segmap_take_log(struct pc_segmap *map, uint64_t ordinal, uint64_t nonce, uint32_t *out_id);
void pc_segmap_close(struct pc_segmap *map, uint32_t seg_id); /* OPEN to DATA */
void pc_segmap_free_log(struct pc_segmap *map, uint32_t seg_id); /* LOG to FREE */
/* Frees every closed data segment that may be taken again. Returns how many. */
uint32_t pc_segmap_reclaim(struct pc_segmap *map, uint64_t durable_dirty_tail, uint64_t durable_pos);

/*
 * Damage was met in a segment that the caller has pinned, or that is of the log: it is not taken again while the cache is open; what it holds stays. Not kept on media. True if that is
 * news; false too if damaged_max segments are out of use: then it is taken again, and the damage met again.
 */
bool pc_segmap_quarantine(struct pc_segmap *map, uint32_t seg_id);

/* References. pin_gen pins only if the segment still has this generation: false otherwise. */
bool pc_segmap_pin_gen(struct pc_segmap *map, uint32_t seg_id, uint64_t gen);

static inline void pc_seg_pin(struct pc_seg *seg) /* caller holds the shard lock of an extent in it */
{
	atomic_fetch_add_explicit(&seg->pins, 1, memory_order_acquire);
}

static inline void pc_seg_unpin(struct pc_seg *seg)
{
	atomic_fetch_sub_explicit(&seg->pins, 1, memory_order_release);
}

static inline void pc_segmap_unref(struct pc_segmap *map, struct pc_seg *seg, uint32_t blk_nr)
{
	if (atomic_fetch_sub_explicit(&seg->live_blk, blk_nr, memory_order_acq_rel) == blk_nr)
		atomic_store_explicit(&map->maybe_empty, true, memory_order_release);
}

/* Raises *to to at least pos. */
static inline void pc_pos_raise(_Atomic uint64_t *to, uint64_t pos)
{
	uint64_t old = atomic_load_explicit(to, memory_order_relaxed);

	while (old < pos &&
	       !atomic_compare_exchange_weak_explicit(to, &old, pos, memory_order_release, memory_order_relaxed))
		;
}

static inline uint32_t pc_segmap_free_nr(struct pc_segmap *map)
{
	return atomic_load_explicit(&map->free_nr, memory_order_relaxed);
}

#endif
