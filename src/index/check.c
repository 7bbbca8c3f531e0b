/* SPDX-License-Identifier: BSD-3-Clause */
/* Every invariant of one shard, for tests and debug builds. NULL, or a text that says which does not hold. */
#include "index/shard.h"

/* How far the check has come. */
struct check {
	const struct pc_shard *shard;
	uint64_t prev_end; /* of the extent before */
	uint64_t extent_nr;
	uint32_t leaf_nr;
};

static const char *check_extent(const struct pc_extent *extent)
{
	uint32_t head_blk = extent->geom & 7u;
	uint32_t tail_blk = extent->geom >> 3;
	uint32_t type = extent->flags & PC_EXT_TYPE_MASK;

	if (extent->len_blk == 0)
		return "an extent is empty";
	if (extent->vol_blk >> 48 != (extent->vol_blk + extent->len_blk - 1) >> 48)
		return "an extent crosses a volume";
	if (type > PC_EXT_POISON)
		return "an extent has no known type";
	if (type != PC_EXT_DATA)
		return NULL;
	if (head_blk > extent->seg_blk)
		return "a chunk begins before its segment";
	if (extent->len_blk > 8 || extent->len_blk + head_blk + tail_blk > 8)
		return "a chunk is longer than 8 blocks";
	return NULL;
}

static const char *check_leaf(struct check *check, const struct pc_node *node, uint32_t leaf_idx)
{
	const struct pc_pack *pack = check->shard->pack;
	const struct pc_leaf *leaf = node->leaves[leaf_idx];
	uint32_t extent_nr = node->extent_nrs[leaf_idx];

	if (extent_nr == 0 || extent_nr > PC_LEAF_NR)
		return "a leaf is empty or overfull";
	if (leaf->keys[0] != node->keys[leaf_idx])
		return "a node has another first key than its leaf";
	for (uint32_t i = 0; i < extent_nr; i++) {
		struct pc_extent extent;
		const char *text;

		if ((leaf->words[i] & ((1u << PC_SHAPE_BITS) - 1)) > PC_SHAPE_NR + 2)
			return "an extent has no known shape";
		extent = pc_leaf_get(pack, leaf, i, node->region, check->shard->newest_pos);
		text = check_extent(&extent);
		if (text != NULL)
			return text;
		if (extent.vol_blk < check->prev_end)
			return "extents overlap or are out of order";
		check->prev_end = extent.vol_blk + extent.len_blk;
	}
	for (uint32_t i = extent_nr; i < PC_LEAF_NR; i++) {
		if (leaf->keys[i] != PC_KEY_PAST)
			return "a leaf has a key behind its last extent";
	}
	check->extent_nr += extent_nr;
	return NULL;
}

static const char *check_node(struct check *check, uint32_t node_idx)
{
	const struct pc_node *node = check->shard->nodes[node_idx];
	const char *text = NULL;

	if (node->leaf_nr == 0 || node->leaf_nr > PC_NODE_NR)
		return "a node is empty or overfull";
	if (check->shard->first_blks[node_idx] != pc_key_blk(node->region, node->keys[0]))
		return "the root has another first block than its node";
	for (uint32_t l = 0; l < node->leaf_nr && text == NULL; l++)
		text = check_leaf(check, node, l);
	for (uint32_t l = node->leaf_nr; l < PC_NODE_NR; l++) {
		if (node->keys[l] != PC_KEY_PAST)
			return "a node has a key behind its last leaf";
	}
	check->leaf_nr += node->leaf_nr;
	return text;
}

static const char *check_memory(const struct pc_shard *shard)
{
	uint64_t free_leaf_nr = 0, free_node_nr = 0;
	uint64_t root_bytes = 0;

	for (const struct pc_root *root = shard->first_blks != NULL ? pc_root_of(shard->first_blks) : NULL;
	     root != NULL; root = root->older)
		root_bytes += sizeof(*root) + root->cap * (sizeof(*shard->first_blks) + sizeof(*shard->nodes));
	for (const struct pc_leaf *leaf = shard->free_leaves; leaf != NULL && free_leaf_nr <= shard->taken_leaf_nr;
	     leaf = leaf->next_free)
		free_leaf_nr++;
	for (const struct pc_node *node = shard->free_nodes; node != NULL && free_node_nr <= shard->taken_node_nr;
	     node = node->next_free)
		free_node_nr++;
	if (free_leaf_nr != shard->free_leaf_nr || free_node_nr != shard->free_node_nr)
		return "a free list and its count differ";
	if (shard->taken_leaf_nr != free_leaf_nr + shard->leaf_nr)
		return "a leaf is lost";
	if (shard->taken_node_nr != free_node_nr + shard->node_nr)
		return "a node is lost";
	if (root_bytes != atomic_load_explicit(&shard->root_bytes, memory_order_relaxed))
		return "root_bytes is wrong";
	return NULL;
}

/* A hint is what a search without it would find. */
static const char *check_hint(const struct pc_shard *shard)
{
	const struct pc_shard_at at = shard->hint_at;
	const struct pc_node *node;

	if (shard->hint_blk == PC_NO_HINT)
		return NULL;
	if (at.node_idx >= shard->node_nr || at.leaf_idx >= shard->nodes[at.node_idx]->leaf_nr)
		return "the hint leads nowhere";
	node = shard->nodes[at.node_idx];
	if (node->region != shard->hint_blk >> 32)
		return "the hint leads to another region";
	if (at.leaf_idx > 0 && pc_key_blk(node->region, node->keys[at.leaf_idx]) > shard->hint_blk)
		return "the hint leads behind its block";
	if (at.leaf_idx + 1 < node->leaf_nr && pc_key_blk(node->region, node->keys[at.leaf_idx + 1]) <= shard->hint_blk)
		return "the hint leads before its block";
	return NULL;
}

static const char *check_next(const struct pc_shard *shard)
{
	struct pc_shard_at at = { 0, 0, 0 };

	if (shard->next_blk == PC_NO_HINT)
		return NULL;
	while (!pc_shard_is_end(shard, at)) {
		struct pc_extent extent = pc_shard_get(shard, at);

		if (extent.vol_blk + extent.len_blk > shard->next_blk)
			break;
		at.slot_idx++;
		at = pc_shard_settle(shard, at);
	}
	if (pc_shard_is_end(shard, at))
		return pc_shard_is_end(shard, shard->next_at) ? NULL : "the next place is not the end";
	if (at.node_idx != shard->next_at.node_idx || at.leaf_idx != shard->next_at.leaf_idx ||
	    at.slot_idx != shard->next_at.slot_idx)
		return "the next place is another";
	return NULL;
}

const char *pc_shard_check_locked(const struct pc_shard *shard)
{
	struct check check = { .shard = shard };
	const char *text = NULL;

	if (shard->node_nr > shard->root_cap)
		return "the root is overfull";
	for (uint32_t n = 0; n < shard->node_nr && text == NULL; n++)
		text = check_node(&check, n);
	if (text != NULL)
		return text;
	if (check.leaf_nr != shard->leaf_nr)
		return "leaf_nr is wrong";
	if (check.extent_nr != atomic_load_explicit(&shard->extent_nr, memory_order_relaxed))
		return "extent_nr is wrong";
	text = check_hint(shard);
	if (text == NULL)
		text = check_next(shard);
	return text != NULL ? text : check_memory(shard);
}
