/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Segment map: what each segment is used for now, and whether it may be taken again.
 *
 *     FREE --take--> OPEN (a data head fills it) --close--> DATA --reclaim--> FREE
 *     FREE --take--> LOG --free, at the tail only--> FREE
 *
 * A segment in which damage was met, or whose generation is the last there is, becomes QUARANTINED where it would become FREE, and stays that until the cache is closed.
 *
 * Taking a segment raises its generation durably first, so that keys of its earlier life carry no data any more. A closed data segment is reclaimed when
 *   - nothing in it is live (index extents and allocations in flight count),
 *   - nobody reads it (pins),
 *   - no key at or above the durable dirty tail needs it: hold_pos, ordering strict,
 *   - the ksets that overwrote its content are durable: dead_pos, page granularity.
 *
 * Blocks are counted in shares, one per shard of the index: whoever holds the lock of a shard changes its share by a plain load and store, because a locked instruction on the way of a write
 * costs more than the sum over all shares does, which is rare. taken_blk counts what was handed out; shares count what came back, so an insertion counts nothing. What came back is also
 * published in steps of a quantum, and the sum is formed only of a segment in which that leaves it open whether anything is live.
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
	PC_SS_QUARANTINED /* would be FREE, but its media is damaged, or its generation cannot be raised */
};

#define PC_TOUCHED_READ 1u
#define PC_TOUCHED_NEW 2u /* taken, and not read */

struct pc_seg {
	_Atomic uint64_t gen; /* changes only while nothing refers to the segment */
	_Atomic uint64_t hold_pos; /* reusable only when the durable dirty tail lies above */
	_Atomic uint64_t dead_pos; /* reusable only when this position is durable */
	_Atomic uint32_t
		taken_blk; /* handed out, in all lives modulo 2^32, like what came back; under the lock of the head, atomic in recovery */
	_Atomic uint32_t unused_blk; /* handed out and given up before they came into the index */
	_Atomic uint32_t published_blk; /* what came back: unused_blk, and of each share whole quanta */
	_Atomic uint32_t pins; /* readers */
	_Atomic uint8_t state; /* enum pc_seg_state; written under the segmap lock */
	_Atomic uint8_t touched; /* PC_TOUCHED_* since the clock hand last came by, or 0 */
	_Atomic uint8_t damaged; /* not to be taken again while the cache is open; written under the segmap lock */
};

/* Of one segment and one shard, under the lock of that shard; read by others. All counts are modulo 2^32: only their sum means something. */
struct pc_seg_share {
	_Atomic uint32_t freed_blk; /* blocks of extents that left the index */
	_Atomic uint32_t dirty_blk; /* blocks of dirty index extents */
};

struct pc_segmap {
	struct pc_layout *layout;
	struct pc_seg *segs;
	struct pc_seg_share *shares; /* share_nr for each segment */
	uint32_t share_nr;
	uint32_t quantum_shift; /* log2 of the blocks that a share publishes at a time */
	uint32_t open_max_blk; /* most that the shares of a segment have not published */
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

/*
 * All FREE, generations from the records. share_nr: shards of the index; quantum_blk: a power of two, or 0 for an eighth of a segment in all shares. 0, -ENOMEM,
 * -errno.
 */
int pc_segmap_init(struct pc_segmap *map, struct pc_layout *layout, uint32_t share_nr, uint32_t quantum_blk);
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

static inline struct pc_seg_share *pc_segmap_share(const struct pc_segmap *map, uint32_t seg_id, uint32_t share_idx)
{
	return &map->shares[(size_t)seg_id * map->share_nr + share_idx];
}

void pc_segmap_publish(struct pc_segmap *map, uint32_t seg_id, uint32_t blk_nr);

/* blk_nr blocks left the index; the shard of the share is locked. Release: who sees them gone sees the pins of those who read them. */
static inline void pc_segmap_unref(struct pc_segmap *map, uint32_t seg_id, uint32_t share_idx, uint32_t blk_nr)
{
	struct pc_seg_share *share = pc_segmap_share(map, seg_id, share_idx);
	uint32_t old = atomic_load_explicit(&share->freed_blk, memory_order_relaxed), sum = old + blk_nr;
	uint32_t quanta = (sum >> map->quantum_shift) - (old >> map->quantum_shift);

	atomic_store_explicit(&share->freed_blk, sum, memory_order_release);
	if (quanta)
		pc_segmap_publish(map, seg_id, quanta << map->quantum_shift);
}

/* Blocks became dirty, or clean (negative); the shard of the share is locked. */
static inline void pc_segmap_dirty(struct pc_segmap *map, uint32_t seg_id, uint32_t share_idx, int32_t blk_nr)
{
	_Atomic uint32_t *dirty = &pc_segmap_share(map, seg_id, share_idx)->dirty_blk;

	atomic_store_explicit(dirty, atomic_load_explicit(dirty, memory_order_relaxed) + (uint32_t)blk_nr,
			      memory_order_relaxed);
}

/* Recovery: blk_nr blocks of a key go into the index. */
static inline void pc_segmap_ref(struct pc_segmap *map, uint32_t seg_id, uint32_t blk_nr)
{
	atomic_fetch_add_explicit(&map->segs[seg_id].taken_blk, blk_nr, memory_order_relaxed);
}

/* Blocks that never came into the index are given up. */
void pc_segmap_give_up(struct pc_segmap *map, uint32_t seg_id, uint32_t blk_nr);
/* Blocks of index extents and of allocations in flight: a sum that is exact while nothing changes, and 0 only if nothing is live in a closed segment. */
uint32_t pc_segmap_live_blk(const struct pc_segmap *map, uint32_t seg_id);
/* At least pc_segmap_live_blk, without the sum. */
uint32_t pc_segmap_live_max_blk(const struct pc_segmap *map, uint32_t seg_id);
/* Blocks of dirty index extents, each share as it was when it was read: 0 only if each was 0 then. */
uint32_t pc_segmap_dirty_blk(const struct pc_segmap *map, uint32_t seg_id);

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
