/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The structure of a shard: root, nodes, leaves, and their memory.
 *
 * Leaves stay dense. A full leaf first evens out with leaves beside it that have room; if there are none, it and its neighbours, all nearly full, are
 * dealt out again with one leaf more. An append behind the last extent opens a new leaf, so a sequential fill packs them completely. After a removal two
 * neighbours that fit in three quarters of a leaf become one. All of that happens within a node. Nodes split in half when they are full.
 *
 * Memory. Insertion must not fail, so it never allocates: pc_shard_reserve_locked puts leaves and nodes on the free lists and makes the root roomy
 * beforehand. One replacement takes at most ONE leaf: it adds at most two extents, and those are adjacent (the new extent and the tail of the one it was put
 * into). Whenever a full leaf had to make way for the first of them, each leaf on either side of that place has room for two. Removals only give leaves back. What that
 * means for nodes is said at pc_shard_node_need.
 *
 * All of this runs under the shard's lock, which the caller holds.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "index/shard.h"

#define EVEN_OUT_ROOM 4u /* less in a neighbour is not worth the copying; at least 2 for each of two leaves */
#define EVEN_OUT_FAR_ROOM 8u /* the same for a neighbour's neighbour; at least 2 for each of three leaves */
#define JOIN_NR (PC_LEAF_NR * 3 / 4)
#define NODE_JOIN_NR (PC_NODE_NR * 3 / 4)
#define TAKE_LEAF_NR_MAX 64u /* at a time */
#define ROOT_CAP_MIN 4u

/* ---- memory -------------------------------------------------------------------------------------------------------- */

int pc_shard_init(struct pc_shard *shard, const struct pc_shard_params *params)
{
	memset(shard, 0, sizeof(*shard));
	shard->pack = params->pack;
	shard->arena = params->arena;
	shard->more_regions = params->more_regions;
	shard->hint_blk = PC_NO_HINT;
	shard->next_blk = PC_NO_HINT;
	return pc_spin_init(&shard->lock, PC_RANK_SHARD, params->shard_idx);
}

static struct pc_root *root_of(uint64_t *first_blks)
{
	return first_blks == NULL ? NULL : (struct pc_root *)(void *)((char *)first_blks - sizeof(struct pc_root));
}

void pc_shard_free_roots(uint64_t *first_blks)
{
	struct pc_root *older;

	for (struct pc_root *root = root_of(first_blks); root != NULL; root = older) {
		older = root->older;
		free(root);
	}
}

void pc_shard_fini(struct pc_shard *shard)
{
	pc_shard_free_roots(shard->first_blks);
	pc_spin_fini(&shard->lock);
}

/* What is taken at a time grows with the shard, so that a small cache does not pay for 64 large ones. */
int pc_shard_grow_leaves(struct pc_shard *shard, uint32_t need_nr)
{
	uint32_t step_nr = PC_MIN(shard->leaf_nr / 32, TAKE_LEAF_NR_MAX);
	uint32_t leaf_nr = PC_MAX(need_nr, PC_MAX(step_nr, 1u));
	size_t leaf_bytes = shard->pack->leaf_bytes;
	char *memory = pc_arena_take(shard->arena, leaf_nr * leaf_bytes);

	if (memory == NULL)
		return -ENOMEM;
	/* The lowest address comes off the list first. */
	for (uint32_t i = leaf_nr; i-- > 0;)
		pc_shard_leaf_put(shard, (struct pc_leaf *)(void *)(memory + i * leaf_bytes));
	shard->taken_leaf_nr += leaf_nr;
	return 0;
}

int pc_shard_grow_nodes(struct pc_shard *shard, uint32_t need_nr)
{
	struct pc_node *nodes = pc_arena_take(shard->arena, need_nr * sizeof(*nodes));

	if (nodes == NULL)
		return -ENOMEM;
	memset(nodes, 0, need_nr * sizeof(*nodes));
	/* Order: no pointer to a node is seen before the NULLs in it. */
	atomic_thread_fence(memory_order_release);
	for (uint32_t i = need_nr; i-- > 0;)
		pc_shard_node_put(shard, &nodes[i]);
	shard->taken_node_nr += need_nr;
	return 0;
}

/* The old root stays for those who look something up in it without the lock; so each is twice as large as the one before. */
int pc_shard_grow_root(struct pc_shard *shard, uint64_t need_cap)
{
	uint64_t wish = PC_MAX(2 * (uint64_t)shard->root_cap, ROOT_CAP_MIN);
	uint64_t cap = PC_ROUND_UP(PC_MAX(need_cap, wish), 4u);
	uint64_t bytes = sizeof(struct pc_root) + cap * (sizeof(*shard->first_blks) + sizeof(*shard->nodes));
	struct pc_root *root;
	struct pc_node **nodes;

	if (cap > UINT32_MAX / 2)
		return -ENOMEM;
	root = aligned_alloc(PC_CACHE_LINE_BYTES, bytes);
	if (root == NULL)
		return -ENOMEM;
	memset(root, 0, bytes);
	root->older = root_of(shard->first_blks);
	root->cap = cap;
	nodes = (struct pc_node **)(void *)(root->first_blks + cap);
	if (shard->node_nr > 0) {
		memcpy(root->first_blks, shard->first_blks, shard->node_nr * sizeof(*root->first_blks));
		memcpy(nodes, shard->nodes, shard->node_nr * sizeof(*nodes));
	}
	/* Order: the root is whole before it is seen. */
	__atomic_store_n(&shard->first_blks, root->first_blks, __ATOMIC_RELEASE);
	shard->nodes = nodes;
	shard->root_cap = (uint32_t)cap;
	atomic_store_explicit(&shard->root_bytes,
			      atomic_load_explicit(&shard->root_bytes, memory_order_relaxed) + bytes,
			      memory_order_relaxed);
	return 0;
}

int pc_shard_reserve_slow_locked(struct pc_shard *shard, uint32_t piece_nr)
{
	uint32_t node_need = pc_shard_node_need(shard, piece_nr);
	int rc = 0;

	if (shard->root_cap - shard->node_nr < node_need)
		rc = pc_shard_grow_root(shard, (uint64_t)shard->node_nr + node_need);
	if (rc == 0 && shard->free_node_nr < node_need)
		rc = pc_shard_grow_nodes(shard, node_need - shard->free_node_nr);
	if (rc == 0 && shard->free_leaf_nr < piece_nr)
		rc = pc_shard_grow_leaves(shard, piece_nr - shard->free_leaf_nr);
	return rc;
}

/* ---- places -------------------------------------------------------------------------------------------------------- */

static struct pc_node *node_at(const struct pc_shard *shard, struct pc_shard_at at)
{
	return shard->nodes[at.node_idx];
}

static uint32_t region_of(uint64_t vol_blk)
{
	return (uint32_t)(vol_blk >> 32);
}

static void prefetch_node(const struct pc_node *node)
{
	for (size_t at = 0; at < sizeof(*node); at += PC_CACHE_LINE_BYTES)
		__builtin_prefetch((const char *)node + at);
}

void pc_shard_prefetch_node_locked(const struct pc_shard *shard, uint64_t vol_blk)
{
	const struct pc_node *node;

	/* The only one is in the caches. */
	if (shard->node_nr <= 1)
		return;
	node = shard->nodes[pc_shard_find_node(shard, vol_blk)];
	for (size_t at = 0; at < offsetof(struct pc_node, leaves); at += PC_CACHE_LINE_BYTES)
		__builtin_prefetch((const char *)node + at);
}

void pc_shard_prefetch_locked(struct pc_shard *shard, uint64_t vol_blk)
{
	struct pc_shard_at at = { 0, 0, 0 };
	const struct pc_node *node;

	if (shard->node_nr == 0)
		return;
	at.node_idx = pc_shard_find_node(shard, vol_blk);
	node = node_at(shard, at);
	/* The only one is in the caches. */
	if (shard->node_nr > 1)
		prefetch_node(node);
	if (node->region != region_of(vol_blk))
		return;
	at.leaf_idx = pc_node_find_leaf(node, vol_blk);
	pc_leaf_prefetch_to_change(shard->pack, node->leaves[at.leaf_idx]);
	shard->hint_blk = vol_blk;
	shard->hint_at = at;
}

/* Call after the first extent of a leaf has changed. */
static void update_first(struct pc_shard *shard, struct pc_shard_at at)
{
	struct pc_node *node = node_at(shard, at);

	node->keys[at.leaf_idx] = node->leaves[at.leaf_idx]->keys[0];
	if (at.leaf_idx == 0)
		shard->first_blks[at.node_idx] = pc_key_blk(node->region, node->keys[0]);
}

void pc_shard_set(struct pc_shard *shard, struct pc_shard_at at, const struct pc_extent *extent)
{
	shard->newest_pos = PC_MAX(shard->newest_pos, extent->pos);
	pc_leaf_set(shard->pack, node_at(shard, at)->leaves[at.leaf_idx], at.slot_idx, extent, shard->newest_pos);
	if (at.slot_idx == 0)
		update_first(shard, at);
}

/* ---- nodes of the root ------------------------------------------------------------------------------------------------- */

/* As memmove of nr pointers, but each is stored in one piece, as peek.c may follow it. */
#define MOVE_POINTERS(to, from, nr) \
	do { \
		__typeof__(&(to)[0]) to_ = (to), from_ = (from); \
		size_t nr_ = (nr); \
		if (to_ <= from_) { \
			for (size_t i_ = 0; i_ < nr_; i_++) \
				__atomic_store_n(&to_[i_], from_[i_], __ATOMIC_RELAXED); \
		} else { \
			for (size_t i_ = nr_; i_-- > 0;) \
				__atomic_store_n(&to_[i_], from_[i_], __ATOMIC_RELAXED); \
		} \
	} while (0)

/* Moves nr leaves behind or before those of another node of the region. */
static void node_move(struct pc_node *to, uint32_t to_idx, struct pc_node *from, uint32_t from_idx, uint32_t nr)
{
	memmove(&to->keys[to_idx], &from->keys[from_idx], nr * sizeof(to->keys[0]));
	MOVE_POINTERS(&to->leaves[to_idx], &from->leaves[from_idx], nr);
	memmove(&to->extent_nrs[to_idx], &from->extent_nrs[from_idx], nr * sizeof(to->extent_nrs[0]));
}

static void node_end_at(struct pc_node *node, uint32_t leaf_nr)
{
	for (uint32_t i = leaf_nr; i < PC_NODE_NR; i++)
		node->keys[i] = PC_KEY_PAST;
	node->leaf_nr = leaf_nr;
}

/* An empty node at node_idx, out of the reserve; its first block is yet to be set. */
static struct pc_node *root_insert(struct pc_shard *shard, uint32_t node_idx, uint32_t region)
{
	size_t behind = shard->node_nr - node_idx;
	struct pc_node *node = pc_shard_node_take(shard);

	memmove(&shard->first_blks[node_idx + 1], &shard->first_blks[node_idx], behind * sizeof(*shard->first_blks));
	MOVE_POINTERS(&shard->nodes[node_idx + 1], &shard->nodes[node_idx], behind);
	__atomic_store_n(&shard->nodes[node_idx], node, __ATOMIC_RELAXED);
	shard->node_nr++;
	node->region = region;
	node_end_at(node, 0);
	return node;
}

static void root_remove(struct pc_shard *shard, uint32_t node_idx)
{
	size_t behind = shard->node_nr - node_idx - 1;

	pc_shard_node_put(shard, shard->nodes[node_idx]);
	memmove(&shard->first_blks[node_idx], &shard->first_blks[node_idx + 1], behind * sizeof(*shard->first_blks));
	MOVE_POINTERS(&shard->nodes[node_idx], &shard->nodes[node_idx + 1], behind);
	shard->node_nr--;
}

/* Without a reserve the caller broke the contract. The extent is about data that is already durable: rather try than lose it. */
static void need_reserve(struct pc_shard *shard, bool have)
{
	assert(have);
	if (!have && pc_shard_reserve_slow_locked(shard, PC_NODE_NR) != 0)
		abort();
}

/* The node of at is full: makes two of it, and says where the leaf is now. At the end of the shard most stays, as what comes next is behind it. */
static struct pc_shard_at node_split(struct pc_shard *shard, struct pc_shard_at at)
{
	bool at_end = at.node_idx + 1 == shard->node_nr && at.leaf_idx + 1 == PC_NODE_NR;
	uint32_t keep_nr = at_end ? PC_NODE_NR * 3 / 4 : PC_NODE_NR / 2;
	struct pc_node *node, *right;

	need_reserve(shard, shard->free_node_nr > 0 && shard->node_nr < shard->root_cap);
	node = node_at(shard, at);
	right = root_insert(shard, at.node_idx + 1, node->region);
	node_move(right, 0, node, keep_nr, PC_NODE_NR - keep_nr);
	right->leaf_nr = PC_NODE_NR - keep_nr;
	node_end_at(node, keep_nr);
	shard->first_blks[at.node_idx + 1] = pc_key_blk(right->region, right->keys[0]);
	if (at.leaf_idx >= keep_nr) {
		at.node_idx++;
		at.leaf_idx -= keep_nr;
	}
	return at;
}

/* Node node_idx and the one behind it become one if they may. */
static bool node_join(struct pc_shard *shard, uint32_t node_idx)
{
	struct pc_node *left, *right;

	if (node_idx + 1 >= shard->node_nr)
		return false;
	left = shard->nodes[node_idx];
	right = shard->nodes[node_idx + 1];
	if (left->region != right->region || left->leaf_nr + right->leaf_nr > NODE_JOIN_NR)
		return false;
	node_move(left, left->leaf_nr, right, 0, right->leaf_nr);
	left->leaf_nr += right->leaf_nr;
	root_remove(shard, node_idx + 1);
	return true;
}

/* ---- leaves of a node ---------------------------------------------------------------------------------------------------- */

/* An empty leaf, out of the reserve, at the place at of a node with room; its first key is yet to be set. */
static void node_insert(struct pc_shard *shard, struct pc_shard_at at)
{
	struct pc_node *node = node_at(shard, at);
	struct pc_leaf *leaf;

	need_reserve(shard, shard->free_leaf_nr > 0);
	leaf = pc_shard_leaf_take(shard);
	shard->leaf_nr++;
	pc_leaf_end_at(leaf, 0);
	node_move(node, at.leaf_idx + 1, node, at.leaf_idx, node->leaf_nr - at.leaf_idx);
	__atomic_store_n(&node->leaves[at.leaf_idx], leaf, __ATOMIC_RELAXED);
	node->extent_nrs[at.leaf_idx] = 0;
	node->leaf_nr++;
}

/* Takes the leaf of at away. Returns the place of the leaf behind it, not settled. */
static struct pc_shard_at node_remove(struct pc_shard *shard, struct pc_shard_at at)
{
	struct pc_node *node = node_at(shard, at);

	pc_shard_leaf_put(shard, node->leaves[at.leaf_idx]);
	shard->leaf_nr--;
	node_move(node, at.leaf_idx, node, at.leaf_idx + 1, node->leaf_nr - at.leaf_idx - 1);
	node_end_at(node, node->leaf_nr - 1);
	at.slot_idx = 0;
	if (node->leaf_nr == 0) {
		root_remove(shard, at.node_idx);
		return at; /* leaf_idx is 0 */
	}
	if (at.leaf_idx == 0)
		shard->first_blks[at.node_idx] = pc_key_blk(node->region, node->keys[0]);
	return at;
}

/* Moves the first nr extents of leaf_idx behind the last of the leaf before. */
static void move_left(struct pc_shard *shard, struct pc_node *node, uint32_t leaf_idx, uint32_t nr)
{
	struct pc_leaf *from = node->leaves[leaf_idx], *to = node->leaves[leaf_idx - 1];
	uint32_t rest_nr = node->extent_nrs[leaf_idx] - nr;

	pc_leaf_move(shard->pack, to, node->extent_nrs[leaf_idx - 1], from, 0, nr);
	pc_leaf_move(shard->pack, from, 0, from, nr, rest_nr);
	pc_leaf_end_at(from, rest_nr);
	node->extent_nrs[leaf_idx - 1] = (uint8_t)(node->extent_nrs[leaf_idx - 1] + nr);
	node->extent_nrs[leaf_idx] = (uint8_t)rest_nr;
	node->keys[leaf_idx] = from->keys[0];
}

/* Moves the last nr extents of leaf_idx before the first of the next leaf. */
static void move_right(struct pc_shard *shard, struct pc_node *node, uint32_t leaf_idx, uint32_t nr)
{
	struct pc_leaf *from = node->leaves[leaf_idx], *to = node->leaves[leaf_idx + 1];
	uint32_t rest_nr = node->extent_nrs[leaf_idx] - nr;

	pc_leaf_move(shard->pack, to, nr, to, 0, node->extent_nrs[leaf_idx + 1]);
	pc_leaf_move(shard->pack, to, 0, from, rest_nr, nr);
	pc_leaf_end_at(from, rest_nr);
	node->extent_nrs[leaf_idx + 1] = (uint8_t)(node->extent_nrs[leaf_idx + 1] + nr);
	node->extent_nrs[leaf_idx] = (uint8_t)rest_nr;
	node->keys[leaf_idx + 1] = to->keys[0];
}

/*
 * The extents of leaves lo .. hi evenly over them. All but an empty last one, or the one of two, are nearly full, so none is asked for more than it has.
 */
static void deal(struct pc_shard *shard, struct pc_node *node, uint32_t lo, uint32_t hi)
{
	uint32_t extent_nr = 0, left_nr = 0, want_nr = 0, leaf_nr = hi - lo + 1;
	int32_t flow[4]; /* from each leaf to the next */

	assert(leaf_nr <= PC_ARRAY_NR(flow));
	for (uint32_t i = lo; i <= hi; i++)
		extent_nr += node->extent_nrs[i];
	for (uint32_t i = 0; i < leaf_nr; i++) {
		left_nr += node->extent_nrs[lo + i];
		want_nr += extent_nr / leaf_nr + (i < extent_nr % leaf_nr);
		flow[i] = (int32_t)left_nr - (int32_t)want_nr;
	}
	for (uint32_t i = leaf_nr - 1; i-- > 0;) {
		if (flow[i] > 0)
			move_right(shard, node, lo + i, (uint32_t)flow[i]);
	}
	for (uint32_t i = 0; i + 1 < leaf_nr; i++) {
		if (flow[i] < 0)
			move_left(shard, node, lo + i + 1, (uint32_t)-flow[i]);
	}
}

/* The place behind the extent_nr-th extent from leaf lo on, in the leaf of that extent. */
static struct pc_shard_at place_behind(const struct pc_shard *shard, struct pc_shard_at at, uint32_t lo,
				       uint32_t extent_nr)
{
	at.leaf_idx = lo;
	at.slot_idx = extent_nr;
	while (at.slot_idx > pc_shard_leaf_extent_nr(shard, at)) {
		at.slot_idx -= pc_shard_leaf_extent_nr(shard, at);
		at.leaf_idx++;
	}
	return at;
}

static uint32_t room(const struct pc_node *node, uint32_t leaf_idx)
{
	/* Before the first one the index wraps. */
	return leaf_idx < node->leaf_nr ? PC_LEAF_NR - node->extent_nrs[leaf_idx] : 0;
}

/* The leaf of at is full. Chooses leaves around it that have room together; false: there are none. */
static bool choose_window(const struct pc_node *node, uint32_t leaf_idx, uint32_t *lo, uint32_t *hi)
{
	uint32_t before = room(node, leaf_idx - 1), behind = room(node, leaf_idx + 1);

	*lo = leaf_idx;
	*hi = leaf_idx;
	if (PC_MAX(before, behind) >= EVEN_OUT_ROOM) {
		*lo -= before >= behind;
		*hi += before < behind;
		return true;
	}
	before = leaf_idx >= 2 ? room(node, leaf_idx - 2) : 0;
	behind = room(node, leaf_idx + 2);
	if (PC_MAX(before, behind) >= EVEN_OUT_FAR_ROOM) {
		*lo -= before >= behind ? 2 : 0;
		*hi += before < behind ? 2 : 0;
		return true;
	}
	return false;
}

/* The leaf of at is full: makes room, and says where the place is now. The leaves on both sides of it have room for 2 then: the reserve counts on that. */
static struct pc_shard_at make_room(struct pc_shard *shard, struct pc_shard_at at)
{
	bool append = at.node_idx + 1 == shard->node_nr && at.leaf_idx + 1 == node_at(shard, at)->leaf_nr &&
		      at.slot_idx == PC_LEAF_NR;
	uint32_t lo, hi, before_nr = at.slot_idx;
	struct pc_node *node = node_at(shard, at);

	if (append || !choose_window(node, at.leaf_idx, &lo, &hi)) {
		if (node->leaf_nr == PC_NODE_NR) {
			at = node_split(shard, at);
			node = node_at(shard, at);
		}
		lo = append || at.leaf_idx == 0 ? at.leaf_idx : at.leaf_idx - 1;
		hi = append ? at.leaf_idx + 1 : PC_MIN(at.leaf_idx + 1, node->leaf_nr - 1) + 1;
		node_insert(shard, (struct pc_shard_at){ at.node_idx, hi, 0 });
		if (append)
			return (struct pc_shard_at){ at.node_idx, hi, 0 };
	}
	for (uint32_t i = lo; i < at.leaf_idx; i++)
		before_nr += node->extent_nrs[i];
	deal(shard, node, lo, hi);
	return place_behind(shard, at, lo, before_nr);
}

/* The place for an extent of region before at: in which leaf, if at is between two. False: no leaf of that region is there. */
static bool choose_leaf(const struct pc_shard *shard, struct pc_shard_at *at, uint32_t region)
{
	struct pc_shard_at left = *at;
	bool right_fits = at->node_idx < shard->node_nr && node_at(shard, *at)->region == region;

	if (at->slot_idx > 0)
		return true;
	if (left.leaf_idx == 0) {
		if (left.node_idx == 0 || shard->nodes[left.node_idx - 1]->region != region)
			return right_fits;
		left.node_idx--;
		left.leaf_idx = node_at(shard, left)->leaf_nr;
	}
	left.leaf_idx--;
	left.slot_idx = pc_shard_leaf_extent_nr(shard, left);
	/* Behind the last of the left one, unless only the right one has room. */
	if (left.slot_idx < PC_LEAF_NR || !right_fits || pc_shard_leaf_extent_nr(shard, *at) == PC_LEAF_NR)
		*at = left;
	return true;
}

static void count_extents(struct pc_shard *shard, uint64_t delta)
{
	/* A load and a store: under the lock there is one writer, so no locked instruction is needed. */
	atomic_store_explicit(&shard->extent_nr, atomic_load_explicit(&shard->extent_nr, memory_order_relaxed) + delta,
			      memory_order_relaxed);
}

struct pc_shard_at pc_shard_slot_insert(struct pc_shard *shard, struct pc_shard_at at, const struct pc_extent *extent)
{
	uint32_t region = region_of(extent->vol_blk), extent_nr;
	struct pc_leaf *leaf;

	if (!choose_leaf(shard, &at, region)) {
		need_reserve(shard, shard->free_node_nr > 0 && shard->node_nr < shard->root_cap);
		root_insert(shard, at.node_idx, region);
		at.leaf_idx = 0;
		node_insert(shard, at);
	} else if (pc_shard_leaf_extent_nr(shard, at) == PC_LEAF_NR) {
		at = make_room(shard, at);
	}
	leaf = node_at(shard, at)->leaves[at.leaf_idx];
	extent_nr = pc_shard_leaf_extent_nr(shard, at);
	pc_leaf_move(shard->pack, leaf, at.slot_idx + 1, leaf, at.slot_idx, extent_nr - at.slot_idx);
	node_at(shard, at)->extent_nrs[at.leaf_idx] = (uint8_t)(extent_nr + 1);
	pc_shard_set(shard, at, extent);
	count_extents(shard, 1);
	return at;
}

uint32_t pc_shard_slots_fill(struct pc_shard *shard, struct pc_shard_at at, const struct pc_extent_run *run)
{
	struct pc_node *node = node_at(shard, at);
	struct pc_leaf *leaf = node->leaves[at.leaf_idx];
	uint32_t extent_nr = node->extent_nrs[at.leaf_idx];
	uint32_t nr = PC_MIN(run->nr, PC_LEAF_NR - extent_nr);

	if (nr == 0)
		return 0;
	shard->newest_pos = PC_MAX(shard->newest_pos, run->first->pos);
	pc_leaf_move(shard->pack, leaf, at.slot_idx + nr, leaf, at.slot_idx, extent_nr - at.slot_idx);
	pc_leaf_set_run(shard->pack, leaf, at.slot_idx, nr, run, shard->newest_pos);
	node->extent_nrs[at.leaf_idx] = (uint8_t)(extent_nr + nr);
	count_extents(shard, nr);
	return nr;
}

/* Joins the leaf of at with its neighbours where that leaves room. Returns the same place, wherever it is now. */
static struct pc_shard_at join_leaves(struct pc_shard *shard, struct pc_shard_at at)
{
	struct pc_node *node = node_at(shard, at);

	if (at.leaf_idx + 1 < node->leaf_nr &&
	    node->extent_nrs[at.leaf_idx] + node->extent_nrs[at.leaf_idx + 1] <= JOIN_NR) {
		move_left(shard, node, at.leaf_idx + 1, node->extent_nrs[at.leaf_idx + 1]);
		node_remove(shard, (struct pc_shard_at){ at.node_idx, at.leaf_idx + 1, 0 });
	}
	if (at.leaf_idx > 0 && node->extent_nrs[at.leaf_idx - 1] + node->extent_nrs[at.leaf_idx] <= JOIN_NR) {
		at.slot_idx += node->extent_nrs[at.leaf_idx - 1];
		move_left(shard, node, at.leaf_idx, node->extent_nrs[at.leaf_idx]);
		node_remove(shard, (struct pc_shard_at){ at.node_idx, at.leaf_idx, 0 });
		at.leaf_idx--;
	}
	return at;
}

/* The same for its node. */
static struct pc_shard_at join_nodes(struct pc_shard *shard, struct pc_shard_at at)
{
	uint32_t before_nr;

	(void)node_join(shard, at.node_idx);
	if (at.node_idx == 0)
		return at;
	before_nr = shard->nodes[at.node_idx - 1]->leaf_nr;
	if (node_join(shard, at.node_idx - 1)) {
		at.node_idx--;
		at.leaf_idx += before_nr;
	}
	return at;
}

struct pc_shard_at pc_shard_slots_remove(struct pc_shard *shard, struct pc_shard_at at, uint32_t nr)
{
	struct pc_node *node = node_at(shard, at);
	struct pc_leaf *leaf = node->leaves[at.leaf_idx];
	uint32_t rest_nr = node->extent_nrs[at.leaf_idx] - nr;

	count_extents(shard, 0 - (uint64_t)nr);
	if (rest_nr == 0) {
		at = node_remove(shard, at);
	} else {
		pc_leaf_move(shard->pack, leaf, at.slot_idx, leaf, at.slot_idx + nr, rest_nr - at.slot_idx);
		pc_leaf_end_at(leaf, rest_nr);
		node->extent_nrs[at.leaf_idx] = (uint8_t)rest_nr;
		update_first(shard, at);
		at = join_leaves(shard, at);
	}
	return pc_shard_settle(shard, join_nodes(shard, at));
}
