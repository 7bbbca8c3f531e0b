/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One shard: a sorted set of extents that do not intersect. Private to src/index and its tests.
 *
 *     root   first_blks[]   | 0 | 7104 | 13310 | ...      all nodes; contiguous, searched by bisection
 *            nodes[]        | . |  .   |   .   | ...
 *                             |
 *     node   keys[]         | 0 | 96 | 310 | ...          up to 60 leaves of one region
 *            leaves[]       | . | .  | .   | ...
 *                             |
 *     leaf   32 extents, packed: index/leaf.h
 *
 * A region is 2^32 blocks of a volume, so 32 bits say where a leaf begins. Leaves and nodes are never empty.
 *
 * Everything but the two counters is under lock. tree.c has the structure, shard.c what is done with it, check.c its invariants.
 *
 * peek.c looks up without the lock, and may meet a change half done: node_nr, first_blks, the root, nodes and leaves, but not the hints and lists. What it makes of that counts for nothing,
 * but it must not leave this memory. So the memory of roots, nodes and leaves stays until pc_shard_fini and keeps its kind, a root has room for root_cap nodes for ever, and every
 * pointer in a root or node is stored in one piece: NULL, or to a node or leaf that is or was in use.
 */
#ifndef PC_INDEX_SHARD_H
#define PC_INDEX_SHARD_H

#include <stdatomic.h>

#include "index/arena.h"
#include "index/index.h"
#include "index/leaf.h"

#define PC_NODE_NR 60u /* leaves of a full node */
#define PC_FEW_PIECES (PC_NODE_NR / 4) /* what a node has room for that comes of a split, or of a join */
#define PC_NO_HINT UINT64_MAX

/* Before first_blks. Behind them, nodes. */
struct pc_root {
	struct pc_root *older; /* smaller ones, outgrown */
	uint64_t cap; /* nodes that there is room for; constant */
	uint8_t pad[PC_CACHE_LINE_BYTES - 16];
	uint64_t first_blks[];
};
_Static_assert(sizeof(struct pc_root) == PC_CACHE_LINE_BYTES, "first_blks begin a line");

static inline const struct pc_root *pc_root_of(const uint64_t *first_blks)
{
	return (const struct pc_root *)(const void *)((const char *)first_blks - sizeof(struct pc_root));
}

struct pc_node {
	uint32_t leaf_nr;
	uint32_t region;
	struct pc_node *next_free; /* while on the free list */
	int32_t keys[PC_NODE_NR]; /* of the first extent of each leaf; behind the last PC_KEY_PAST */
	struct pc_leaf *leaves[PC_NODE_NR];
	uint8_t extent_nrs[PC_NODE_NR]; /* extents in each leaf */
	uint8_t pad[36];
};
_Static_assert(sizeof(struct pc_node) % PC_CACHE_LINE_BYTES == 0, "nodes are whole cache lines");
_Static_assert(PC_NODE_NR % 4 == 0 && offsetof(struct pc_node, keys) % 16 == 0, "searched four by four");

/*
 * How many keys of a node are not greater: may count up to 4 beyond PC_NODE_NR, and those of places that hold nothing if key is PC_KEY_PAST. (Behind the keys lies what is read with the last
 * of them.)
 */
static inline __attribute__((always_inline)) uint32_t pc_node_keys_count(const struct pc_node *node, int32_t key)
{
	const int32_t *keys = (const int32_t *)(const void *)((const char *)node + offsetof(struct pc_node, keys));
	uint32_t before = 16 * ((uint32_t)(keys[16] <= key) + (keys[32] <= key) + (keys[48] <= key));

	return before + pc_keys_count_16(keys + before, key);
}
_Static_assert(PC_NODE_NR > 48 && PC_NODE_NR <= 64 && PC_LEAF_NR == 32, "searched 16 at a time");

/* Where an extent is, or would be. */
struct pc_shard_at {
	uint32_t node_idx;
	uint32_t leaf_idx;
	uint32_t slot_idx;
};

struct pc_shard {
	struct pc_spin lock;
	const struct pc_pack *pack;
	struct pc_arena *arena;
	uint64_t *first_blks; /* root: vol_blk of the first extent of each node, ascending */
	struct pc_node **nodes; /* root; same allocation as first_blks */
	uint32_t node_nr;
	uint32_t root_cap; /* nodes that the root has room for */
	uint32_t leaf_nr;
	uint32_t free_leaf_nr;
	uint32_t free_node_nr;
	uint32_t more_regions; /* beyond the first, that the volume has */
	struct pc_leaf *free_leaves;
	struct pc_node *free_nodes;
	uint64_t newest_pos; /* highest position of any extent that ever was here */
	uint64_t hint_blk; /* a search for this block leads to that leaf; PC_NO_HINT */
	struct pc_shard_at hint_at;
	uint64_t next_blk; /* the first extent that ends after this block is at next_at, or there is none; PC_NO_HINT */
	struct pc_shard_at next_at;
	uint32_t taken_leaf_nr; /* from the arena */
	uint32_t taken_node_nr;
	struct pc_fill *fills;
	_Atomic uint64_t extent_nr; /* stored under lock, read without */
	_Atomic uint64_t root_bytes; /* the same; older roots included */
} __attribute__((aligned(PC_CACHE_LINE_BYTES)));

struct pc_shard_params {
	uint32_t shard_idx;
	uint32_t more_regions;
	const struct pc_pack *pack;
	struct pc_arena *arena;
};

int pc_shard_init(struct pc_shard *shard, const struct pc_shard_params *params); /* 0 or -errno */
void pc_shard_fini(struct pc_shard *shard);

/* ---- tree: places and memory ---------------------------------------------------------------------------------------- */

/*
 * Nodes that piece_nr replacements may take, each of which takes one leaf at most. Before a node splits it is full, so none does in a small shard. A region that was empty takes a node as well.
 *
 * A few: a node that splits was full but for piece_nr - 1 leaves before, as what comes of a split or of two nodes that became one has room for more than these; and so full are no more nodes
 * than the shard has leaves for.
 *
 * Many: count, over all nodes, the leaves beyond half of a node: at most 30 a node. A leaf adds at most one to the sum; a split takes 15 from it at least; two nodes that become one add at most
 * 15, and give a node back.
 */
static inline uint32_t pc_shard_node_need(const struct pc_shard *shard, uint32_t piece_nr)
{
	uint64_t need = (uint64_t)shard->more_regions + (shard->node_nr == 0);

	if (piece_nr <= PC_FEW_PIECES)
		need += shard->leaf_nr / (PC_NODE_NR + 1 - piece_nr);
	else if (shard->leaf_nr + (uint64_t)piece_nr > PC_NODE_NR)
		need += 2 * (uint64_t)shard->node_nr + piece_nr / (PC_NODE_NR / 4) + 1;
	return (uint32_t)PC_MIN(need, (uint64_t)piece_nr);
}

/* The next piece_nr calls of pc_shard_replace_locked find the memory they need. 0 or -ENOMEM. */
int pc_shard_reserve_slow_locked(struct pc_shard *shard, uint32_t piece_nr);
static inline int pc_shard_reserve_locked(struct pc_shard *shard, uint32_t piece_nr)
{
	uint32_t node_need = pc_shard_node_need(shard, piece_nr);

	if (shard->free_leaf_nr >= piece_nr && shard->free_node_nr >= node_need &&
	    shard->root_cap - shard->node_nr >= node_need)
		return 0;
	return pc_shard_reserve_slow_locked(shard, piece_nr);
}

/* For a merge, which knows only as it goes how much it needs. Room for need_cap nodes in the root; need_nr more leaves or nodes on the free lists. 0 or -ENOMEM. */
int pc_shard_grow_root(struct pc_shard *shard, uint64_t need_cap);
/* The other way: frees the root that begins with first_blks (may be NULL), and those that it has outgrown. Nobody may be looking up in it without the lock. */
void pc_shard_free_roots(uint64_t *first_blks);
int pc_shard_grow_leaves(struct pc_shard *shard, uint32_t need_nr);
int pc_shard_grow_nodes(struct pc_shard *shard, uint32_t need_nr);

static inline void pc_shard_leaf_put(struct pc_shard *shard, struct pc_leaf *leaf)
{
	leaf->next_free = shard->free_leaves;
	shard->free_leaves = leaf;
	shard->free_leaf_nr++;
}

static inline void pc_shard_node_put(struct pc_shard *shard, struct pc_node *node)
{
	node->next_free = shard->free_nodes;
	shard->free_nodes = node;
	shard->free_node_nr++;
}

/* One of those that are there. */
static inline struct pc_leaf *pc_shard_leaf_take(struct pc_shard *shard)
{
	struct pc_leaf *leaf = shard->free_leaves;

	shard->free_leaves = leaf->next_free;
	shard->free_leaf_nr--;
	return leaf;
}

static inline struct pc_node *pc_shard_node_take(struct pc_shard *shard)
{
	struct pc_node *node = shard->free_nodes;

	shard->free_nodes = node->next_free;
	shard->free_node_nr--;
	return node;
}

/* Asks for what a change at vol_blk will store to, the lock as well; does not wait. Without the lock. */
void pc_shard_prefetch(const struct pc_shard *shard, uint64_t vol_blk);
/* Asks for the leaf where vol_blk belongs to be brought into the processor's caches; does not wait for it. */
void pc_shard_prefetch_locked(struct pc_shard *shard, uint64_t vol_blk);
/* The same for what pc_shard_prefetch_locked will look at. */
void pc_shard_prefetch_node_locked(const struct pc_shard *shard, uint64_t vol_blk);
/* Inserts extent before the place at; returns where it is. */
struct pc_shard_at pc_shard_slot_insert(struct pc_shard *shard, struct pc_shard_at at, const struct pc_extent *extent);
/* Inserts extents of a run before the place at, which is behind another of the same leaf, as far as that has room. Returns how many. */
uint32_t pc_shard_slots_fill(struct pc_shard *shard, struct pc_shard_at at, const struct pc_extent_run *run);
/*
 * Removes nr extents, at least one, from at on, all in this leaf, whose first key may be out of date. Leaves and nodes that fit together become one. Returns the
 * place behind them, wherever it is now.
 */
struct pc_shard_at pc_shard_slots_remove(struct pc_shard *shard, struct pc_shard_at at, uint32_t nr);

static inline bool pc_shard_is_end(const struct pc_shard *shard, struct pc_shard_at at)
{
	return at.node_idx >= shard->node_nr;
}

/* Extents in the leaf of at. */
static inline uint32_t pc_shard_leaf_extent_nr(const struct pc_shard *shard, struct pc_shard_at at)
{
	return shard->nodes[at.node_idx]->extent_nrs[at.leaf_idx];
}

/* The last node that begins at or before vol_blk, or the first; without a branch that could be mispredicted. */
static inline uint32_t pc_shard_find_node(const struct pc_shard *shard, uint64_t vol_blk)
{
	const uint64_t *base = shard->first_blks;

	for (uint32_t nr = shard->node_nr, half; nr > 1; nr -= half) {
		half = nr / 2;
		base += base[half] <= vol_blk ? half : 0;
	}
	return (uint32_t)(base - shard->first_blks);
}

/* The last of nr that is not greater, or the first, if count are not greater of these and of places behind them. */
static inline uint32_t pc_last_not_greater(uint32_t count, uint32_t nr)
{
	count = PC_MIN(count, nr);
	return count - (count > 0);
}

/* The leaf where vol_blk belongs, which is in the region of the node. */
static inline uint32_t pc_node_find_leaf(const struct pc_node *node, uint64_t vol_blk)
{
	return pc_last_not_greater(pc_node_keys_count(node, pc_key_of(vol_blk)), node->leaf_nr);
}

/*
 * A place is returned in registers by being inlined: put together in memory, in parts, it would be loaded wide, and such a load waits until all stores before it have left the processor's
 * queue. In a write these are the stores of the data.
 */

/* Steps from behind the last extent of a leaf, or the last leaf of a node, to what follows. */
static inline __attribute__((always_inline)) struct pc_shard_at pc_shard_settle(const struct pc_shard *shard,
										struct pc_shard_at at)
{
	if (at.node_idx >= shard->node_nr)
		return at;
	if (at.leaf_idx < shard->nodes[at.node_idx]->leaf_nr && at.slot_idx == pc_shard_leaf_extent_nr(shard, at)) {
		at.leaf_idx++;
		at.slot_idx = 0;
	}
	if (at.leaf_idx == shard->nodes[at.node_idx]->leaf_nr) {
		at.node_idx++;
		at.leaf_idx = 0;
		at.slot_idx = 0;
	}
	return at;
}

/* First extent that ends after vol_blk; node_idx == node_nr if there is none. */
static inline __attribute__((always_inline)) struct pc_shard_at pc_shard_find_locked(const struct pc_shard *shard,
										     uint64_t vol_blk)
{
	struct pc_shard_at at = { 0, 0, 0 };
	const struct pc_node *node;
	const struct pc_leaf *leaf;
	uint64_t begin_blk;

	if (shard->hint_blk == vol_blk) {
		at = shard->hint_at;
		node = shard->nodes[at.node_idx];
	} else {
		if (shard->node_nr == 0)
			return at;
		at.node_idx = pc_shard_find_node(shard, vol_blk);
		node = shard->nodes[at.node_idx];
		if (node->region != (uint32_t)(vol_blk >> 32)) {
			at.node_idx += node->region < (uint32_t)(vol_blk >> 32);
			return at;
		}
		at.leaf_idx = pc_node_find_leaf(node, vol_blk);
		pc_leaf_prefetch(shard->pack, node->leaves[at.leaf_idx]);
	}
	leaf = node->leaves[at.leaf_idx];
	at.slot_idx =
		pc_last_not_greater(pc_leaf_keys_count(leaf->keys, pc_key_of(vol_blk)), node->extent_nrs[at.leaf_idx]);
	begin_blk = pc_key_blk(node->region, leaf->keys[at.slot_idx]);
	if (begin_blk + pc_leaf_len_blk(shard->pack, leaf, at.slot_idx) <= vol_blk) {
		at.slot_idx++;
		at = pc_shard_settle(shard, at);
	}
	return at;
}

static inline struct pc_extent pc_shard_get(const struct pc_shard *shard, struct pc_shard_at at)
{
	const struct pc_node *node = shard->nodes[at.node_idx];

	return pc_leaf_get(shard->pack, node->leaves[at.leaf_idx], at.slot_idx, node->region, shard->newest_pos);
}

/* Puts extent in the place of what is at at, whose neighbours it does not reach. */
void pc_shard_set(struct pc_shard *shard, struct pc_shard_at at, const struct pc_extent *extent);

/* ---- shard: what is done with it ------------------------------------------------------------------------------------- */

/* scan.c: pc_index_scan_locked for one shard. */
uint32_t pc_shard_scan_locked(const struct pc_shard *shard, struct pc_index_scan *scan, struct pc_extent *out,
			      uint32_t max);

/* Takes [vol_blk, vol_blk + len_blk) out of the shard and puts extent, which has that very range, in its place (NULL: nothing). */
void pc_shard_replace_locked(struct pc_shard *shard, uint64_t vol_blk, uint64_t len_blk, const struct pc_extent *extent,
			     pc_displaced_fn displaced, void *ctx);

/* The same for each of a run, but what displaced is shown may be several extents in one piece: pc_leaf_swap_run. Counts as run->nr calls for the reserve. */
void pc_shard_replace_run_locked(struct pc_shard *shard, const struct pc_extent_run *run, pc_displaced_fn displaced,
				 void *ctx);

/* The records of merge, all of this shard; build.c. As pc_index_merge_locked. */
int pc_shard_merge_locked(struct pc_shard *shard, const struct pc_merge *merge);

/* Copies what of [vol_blk, end_blk) is in the shard, clipped. Returns how many. */
uint32_t pc_shard_lookup_locked(const struct pc_shard *shard, uint64_t vol_blk, uint64_t end_blk, struct pc_extent *out,
				uint32_t max);

/*
 * The same without the lock, and with max extents at most as before. False: met what no shard looks like at rest. What true gives counts only if the version of the lock, read
 * before, is the same afterwards. one: a single DATA extent that has all of the range; false also if there is none.
 */
bool pc_shard_peek_one(const struct pc_shard *shard, uint64_t vol_blk, uint64_t len_blk, struct pc_index_hit *out);
bool pc_shard_peek(const struct pc_shard *shard, uint64_t vol_blk, uint64_t end_blk, struct pc_extent *out,
		   uint32_t max, uint32_t *out_nr);

/* Walks the extents that intersect [vol_blk, end_blk). False if fn said stop. A dropped extent cancels overlapping fills. */
bool pc_shard_walk_locked(struct pc_shard *shard, uint64_t vol_blk, uint64_t end_blk, pc_walk_fn fn, void *ctx);

void pc_shard_cancel_fills_slow_locked(struct pc_shard *shard, uint64_t vol_blk, uint64_t len_blk);
static inline void pc_shard_cancel_fills_locked(struct pc_shard *shard, uint64_t vol_blk, uint64_t len_blk)
{
	if (shard->fills != NULL)
		pc_shard_cancel_fills_slow_locked(shard, vol_blk, len_blk);
}

/* The shards of an index, for tests. */
struct pc_shard *pc_index_shards(struct pc_index *index);

/* Order, no overlap, lengths, counts, memory. NULL or a text. Stripes are the index's business. */
const char *pc_shard_check_locked(const struct pc_shard *shard);

#endif
