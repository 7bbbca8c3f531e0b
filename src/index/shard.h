/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One shard: a sorted set of extents that do not intersect, as a root array over leaves. Private to src/index and its
 * tests. Everything but the two counters is under mutex.
 */
#ifndef PC_INDEX_SHARD_H
#define PC_INDEX_SHARD_H

#include <stdatomic.h>

#include "index/index.h"

#define PC_LEAF_NR 32u /* extents in a full leaf; even */

union pc_leaf {
	struct pc_extent ext[PC_LEAF_NR];
	union pc_leaf *next_free; /* while on the free list */
};
_Static_assert(sizeof(union pc_leaf) % PC_CACHE_LINE_BYTES == 0, "leaves are whole cache lines");

struct pc_leaf_ref {
	union pc_leaf *leaf;
	uint32_t nr; /* extents in it, 1 .. PC_LEAF_NR */
};

/* Leaves are allocated in slabs; a slab goes back to the heap with the index only. */
struct pc_slab {
	struct pc_slab *next;
	uint64_t leaf_nr;
	uint8_t pad[PC_CACHE_LINE_BYTES - sizeof(struct pc_slab *) - sizeof(uint64_t)];
	union pc_leaf leaves[];
};

struct pc_shard {
	struct pc_spin lock;
	uint64_t *first_blks; /* root: vol_blk of the first extent of each leaf, ascending; apart, for the search */
	struct pc_leaf_ref *refs; /* root: the leaves; same allocation as first_blks */
	uint32_t leaf_nr;
	uint32_t root_cap; /* leaves that the root has room for */
	uint32_t free_nr;
	union pc_leaf *free_list;
	struct pc_slab *slabs;
	struct pc_fill *fills;
	_Atomic uint64_t extent_nr; /* stored under mutex, read without */
	_Atomic uint64_t dram_bytes; /* the same */
} __attribute__((aligned(PC_CACHE_LINE_BYTES)));

/* Where an extent is, or would be. */
struct pc_shard_at {
	uint32_t leaf_idx;
	uint32_t slot_idx;
};

int pc_shard_init(struct pc_shard *shard, uint32_t shard_idx); /* 0 or -errno */
void pc_shard_fini(struct pc_shard *shard);

/* The next piece_nr calls of pc_shard_replace_locked find the memory they need. 0 or -ENOMEM. */
int pc_shard_reserve_slow_locked(struct pc_shard *shard, uint32_t piece_nr);
static inline int pc_shard_reserve_locked(struct pc_shard *shard, uint32_t piece_nr)
{
	if (shard->free_nr >= piece_nr && shard->root_cap - shard->leaf_nr >= piece_nr)
		return 0;
	return pc_shard_reserve_slow_locked(shard, piece_nr);
}

/* First extent that ends after vol_blk; leaf_idx == leaf_nr if there is none. */
/* Asks for the leaf where vol_blk belongs to be brought into the processor's caches; does not wait for it. */
void pc_shard_prefetch_locked(const struct pc_shard *shard, uint64_t vol_blk);
struct pc_shard_at pc_shard_find_locked(const struct pc_shard *shard, uint64_t vol_blk);

/* Takes [vol_blk, vol_blk + len_blk) out of the shard and puts extent, which has that very range, in its place (NULL: nothing). */
void pc_shard_replace_locked(struct pc_shard *shard, uint64_t vol_blk, uint64_t len_blk, const struct pc_extent *extent,
			     pc_displaced_fn displaced, void *ctx);

/* Walks the extents that intersect [vol_blk, end_blk). False if fn said stop. A dropped extent cancels overlapping fills. */
bool pc_shard_walk_locked(struct pc_shard *shard, uint64_t vol_blk, uint64_t end_blk, pc_walk_fn fn, void *ctx);

void pc_shard_cancel_fills_slow_locked(struct pc_shard *shard, uint64_t vol_blk, uint64_t len_blk);
static inline void pc_shard_cancel_fills_locked(struct pc_shard *shard, uint64_t vol_blk, uint64_t len_blk)
{
	if (shard->fills != NULL)
		pc_shard_cancel_fills_slow_locked(shard, vol_blk, len_blk);
}

/* Order, no overlap, lengths, counts, memory. NULL or a text. Stripes are the index's business. */
const char *pc_shard_check_locked(const struct pc_shard *shard);

#endif
