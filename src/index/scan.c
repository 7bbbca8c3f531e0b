/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is dirty of a range of positions, along a shard. Most extents are not: they are told by their packed words alone, a leaf at a time, and nothing is stored to, so that the lines of
 * the writers stay what they are to them but for the first store after it.
 */
#include "index/shard.h"

#define LEAVES_MAX 4u /* looked at in one hold of the lock: a few hundred nanoseconds */

static uint64_t blk_at(const struct pc_shard *shard, struct pc_shard_at at)
{
	const struct pc_node *node = shard->nodes[at.node_idx];

	return pc_key_blk(node->region, node->leaves[at.leaf_idx]->keys[at.slot_idx]);
}

/* The next leaves of the node are asked for before this one is looked at. */
static void prefetch_behind(const struct pc_shard *shard, struct pc_shard_at at)
{
	const struct pc_node *node = shard->nodes[at.node_idx];

	for (uint32_t i = at.leaf_idx + 1; i < PC_MIN(at.leaf_idx + 3, node->leaf_nr); i++)
		for (uint32_t line = 0; line < sizeof(node->leaves[i]->words); line += PC_CACHE_LINE_BYTES)
			__builtin_prefetch((const char *)node->leaves[i]->words + line);
}

uint32_t pc_shard_scan_locked(const struct pc_shard *shard, struct pc_index_scan *scan, struct pc_extent *out,
			      uint32_t max)
{
	struct pc_shard_at at = pc_shard_find_locked(shard, scan->next_blk);
	uint32_t nr = 0;

	for (uint32_t leaf_nr = 0; !pc_shard_is_end(shard, at); leaf_nr++) {
		const struct pc_node *node = shard->nodes[at.node_idx];
		const struct pc_leaf *leaf = node->leaves[at.leaf_idx];
		uint32_t extent_nr = pc_shard_leaf_extent_nr(shard, at), mask;

		scan->next_blk = blk_at(shard, at);
		if (scan->next_blk >= scan->end_blk || leaf_nr == LEAVES_MAX)
			return nr;
		prefetch_behind(shard, at);
		mask = pc_leaf_dirty_mask(shard->pack, leaf, extent_nr, shard->newest_pos, scan->from_pos,
					  scan->end_pos);
		for (mask &= UINT32_MAX << at.slot_idx; mask != 0; mask &= mask - 1) {
			at.slot_idx = (uint32_t)__builtin_ctz(mask);
			scan->next_blk = blk_at(shard, at);
			if (scan->next_blk >= scan->end_blk || nr == max)
				return nr;
			out[nr++] = pc_shard_get(shard, at);
		}
		at.slot_idx = extent_nr;
		at = pc_shard_settle(shard, at);
	}
	scan->next_blk = UINT64_MAX;
	return nr;
}
