/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Looking up without the lock of the shard.
 *
 * A locked instruction waits for every load and store before it, and nothing behind it begins before it is done. So a look-up under a lock begins only when the copy of the last read has
 * ended; without a lock the processor works on both at the same time.
 *
 * Others may change the shard meanwhile, so whatever is loaded here may be old, or half of a change. The caller compares the version of the lock before and after: if it is the same
 * and even, nobody held the lock in between, and all that was loaded is of one moment. If not, the result counts for nothing, and it is enough that this code ends and stays in the
 * memory of the shard:
 *
 *     - each value that leads to memory or bounds a loop is loaded once (PC_PEEK), and checked then;
 *     - a root says itself how much it holds, which is constant, and is not freed before the shard is;
 *     - pointers in a root or a node are NULL, or to a node or leaf; tree.c stores them in one piece, and never makes one kind of the other;
 *     - what is unpacked is values only, and any bits unpack to some extent.
 *
 * The stores that race with these loads are plain ones. That the compiler tears none of them, or invents others, is only needed for pointers, which are stored as atomic ones. The
 * thread sanitizer is not asked about the functions here: it would be right about each race, and cannot know that its result is thrown away.
 */
#include "index/shard.h"

#define RACES __attribute__((no_sanitize("thread")))
#define RACES_INLINE static inline __attribute__((always_inline, no_sanitize("thread")))

/* One load. Tests put a change of the shard before each of them. */
#ifndef PC_PEEK
#define PC_PEEK(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
#endif

/* With as many leaves in each shard an index is larger than the caches of processors are: 16 MiB in 64 shards. */
#define FAR_LEAF_NR 512u

struct place {
	const struct pc_node *const *nodes;
	const struct pc_node *node;
	const struct pc_leaf *leaf;
	uint32_t node_nr, node_idx;
	uint32_t leaf_nr, leaf_idx; /* in node */
	uint32_t extent_nr, slot_idx; /* in leaf */
	uint32_t region;
};

/* The last of nr that is not greater, or the first, if count are not greater of these and of places behind them. */
RACES_INLINE uint32_t last_not_greater(uint32_t count, uint32_t nr)
{
	count = PC_MIN(count, nr);
	__asm__("" : "+r"(count)); /* so that it is not counted a second time, with another result */
	return count - (count > 0);
}

/* Past the end: true, and node is NULL. */
RACES_INLINE bool enter_node(struct place *at)
{
	at->node = NULL;
	at->leaf_idx = 0;
	if (at->node_idx == at->node_nr)
		return true;
	at->node = PC_PEEK(at->nodes[at->node_idx]);
	if (at->node == NULL)
		return false;
	at->region = PC_PEEK(at->node->region);
	at->leaf_nr = PC_PEEK(at->node->leaf_nr);
	return at->leaf_nr > 0 && at->leaf_nr <= PC_NODE_NR;
}

RACES_INLINE bool enter_leaf(struct place *at)
{
	at->slot_idx = 0;
	at->leaf = PC_PEEK(at->node->leaves[at->leaf_idx]);
	at->extent_nr = PC_PEEK(at->node->extent_nrs[at->leaf_idx]);
	return at->leaf != NULL && at->extent_nr > 0 && at->extent_nr <= PC_LEAF_NR;
}

/* From behind an extent to the next one. */
RACES_INLINE bool next_slot(struct place *at)
{
	if (++at->slot_idx < at->extent_nr)
		return true;
	if (++at->leaf_idx == at->leaf_nr) {
		at->node_idx++;
		if (!enter_node(at))
			return false;
	}
	return at->node == NULL || enter_leaf(at);
}

RACES_INLINE struct pc_extent get(const struct pc_shard *shard, const struct place *at, uint64_t newest_pos)
{
	const struct pc_pack *pack = shard->pack;
	uint64_t vol_blk = pc_key_blk(at->region, PC_PEEK(at->leaf->keys[at->slot_idx]));
	struct pc_packed packed = {
		.word = PC_PEEK(at->leaf->words[at->slot_idx]),
		.crc = PC_PEEK(at->leaf->crcs[at->slot_idx]),
	};

	if (pack->high_bytes == 2)
		packed.high = PC_PEEK(at->leaf->highs[at->slot_idx]);
	else if (pack->high_bytes == 4)
		packed.high = PC_PEEK(at->leaf->highs[2 * at->slot_idx]) |
			      (uint64_t)PC_PEEK(at->leaf->highs[2 * at->slot_idx + 1]) << 16;
	return pc_unpack(pack, &packed, vol_blk, newest_pos);
}

/* The last node that begins at or before vol_blk, or the first; without a branch that could be mispredicted. */
RACES_INLINE uint32_t find_node(const uint64_t *first_blks, uint32_t node_nr, uint64_t vol_blk)
{
	const uint64_t *base = first_blks;

	for (uint32_t nr = node_nr, half; nr > 1; nr -= half) {
		half = nr / 2;
		base += PC_PEEK(base[half]) <= vol_blk ? half : 0;
	}
	return (uint32_t)(base - first_blks);
}

/* The whole node: where in it the pointer to the leaf is, is known only when its keys have come, and the two should come together. */
RACES_INLINE void prefetch_node(const struct pc_node *node)
{
	for (size_t line = 0; line < sizeof(*node); line += PC_CACHE_LINE_BYTES)
		__builtin_prefetch((const char *)node + line);
}

/* The leaf where vol_blk belongs, and, in another region, its first extent: *out_inside is false. True and node NULL: there is none. */
RACES_INLINE bool find_leaf(const struct pc_shard *shard, uint64_t vol_blk, struct place *at, bool *out_inside)
{
	uint32_t node_nr = PC_PEEK(shard->node_nr), region = (uint32_t)(vol_blk >> 32);
	const uint64_t *first_blks = PC_PEEK(shard->first_blks);
	uint64_t cap;

	at->node = NULL;
	*out_inside = false;
	if (node_nr == 0)
		return true;
	if (first_blks == NULL)
		return false;
	cap = pc_root_of(first_blks)->cap;
	if (node_nr > cap)
		return false;
	at->nodes = (const struct pc_node *const *)(const void *)(first_blks + cap);
	at->node_nr = node_nr;
	at->node_idx = find_node(first_blks, node_nr, vol_blk);
	at->node = PC_PEEK(at->nodes[at->node_idx]);
	/* The only one is in the caches. */
	if (node_nr > 1 && at->node != NULL)
		prefetch_node(at->node);
	if (!enter_node(at))
		return false;
	if (at->node != NULL && at->region < region) {
		at->node_idx++;
		if (!enter_node(at))
			return false;
	}
	if (at->node == NULL)
		return true;
	if (at->region != region)
		return enter_leaf(at);
	at->leaf_idx = last_not_greater(pc_node_keys_count(at->node, pc_key_of(vol_blk)), at->leaf_nr);
	*out_inside = true;
	return enter_leaf(at);
}

/* The last extent that begins at or before vol_blk, or one behind it. True and node NULL: there is none. */
RACES_INLINE bool find(const struct pc_shard *shard, uint64_t vol_blk, struct place *at)
{
	bool inside;

	if (!find_leaf(shard, vol_blk, at, &inside))
		return false;
	if (!inside)
		return true;
	pc_leaf_prefetch(shard->pack, at->leaf);
	at->slot_idx = last_not_greater(pc_leaf_keys_count(at->leaf->keys, pc_key_of(vol_blk)), at->extent_nr);
	return true;
}

/* Only what a read of data needs, in as few instructions as can be: see core/read.c. */
RACES bool pc_shard_peek_one(const struct pc_shard *shard, uint64_t vol_blk, uint64_t len_blk, struct pc_index_hit *out)
{
	const struct pc_pack *pack = shard->pack;
	int32_t key = pc_key_of(vol_blk);
	uint32_t slot_idx, shape, crc;
	uint64_t word, before, extent_len;
	struct place at;
	bool inside;

	if (!find_leaf(shard, vol_blk, &at, &inside) || !inside)
		return false;
	/* All lines together: one after the other they would be waited for one by one. */
	for (size_t line = 0; line < sizeof(struct pc_leaf); line += PC_CACHE_LINE_BYTES)
		__builtin_prefetch((const char *)at.leaf + line);
	slot_idx = last_not_greater(pc_leaf_keys_count(at.leaf->keys, key), at.extent_nr);
	/* Far more than any length if the first extent begins behind. */
	before = (uint32_t)key - (uint32_t)PC_PEEK(at.leaf->keys[slot_idx]);
	word = PC_PEEK(at.leaf->words[slot_idx]);
	crc = PC_PEEK(at.leaf->crcs[slot_idx]);
	shape = word & PC_SHAPE_MASK;
	extent_len = pack->shape_len[shape]; /* 0 if it is not DATA */
	if (before + len_blk > extent_len)
		return false;
	out->media_blk = (word >> PC_PACKED_MEDIA_SHIFT & pack->media_mask) + before;
	out->seg_id = (uint32_t)(out->media_blk >> pack->seg_shift);
	out->crc = crc;
	/* As pc_extent_part: what is cut off is of the chunk all the same, before the range and behind it. */
	out->geom = pack->shape_geom[shape] + (uint32_t)(before + ((extent_len - before - len_blk) << 3));
	return true;
}

/* The leaf where vol_blk belongs if nothing changes meanwhile; or another, or NULL. */
RACES_INLINE const struct pc_leaf *guess_leaf(const struct pc_shard *shard, uint64_t vol_blk)
{
	uint32_t node_nr = PC_PEEK(shard->node_nr), node_idx, leaf_nr, leaf_idx;
	const uint64_t *first_blks = PC_PEEK(shard->first_blks);
	const struct pc_node *node;
	uint64_t cap;

	if (node_nr == 0 || first_blks == NULL)
		return NULL;
	cap = pc_root_of(first_blks)->cap;
	if (node_nr > cap)
		return NULL;
	node_idx = find_node(first_blks, node_nr, vol_blk);
	node = PC_PEEK(((const struct pc_node *const *)(const void *)(first_blks + cap))[node_idx]);
	if (node == NULL)
		return NULL;
	/* The only one is in the caches. */
	if (node_nr > 1)
		prefetch_node(node);
	leaf_nr = PC_PEEK(node->leaf_nr);
	leaf_idx = last_not_greater(pc_node_keys_count(node, pc_key_of(vol_blk)), leaf_nr);
	return leaf_idx < PC_NODE_NR ? PC_PEEK(node->leaves[leaf_idx]) : NULL;
}

RACES_INLINE void prefetch_leaf_to_change(const struct pc_pack *pack, const struct pc_leaf *leaf)
{
	for (uint32_t line = 0; line < pack->leaf_bytes; line += PC_CACHE_LINE_BYTES)
		pc_prefetch_store((const char *)leaf + line);
}

/* One that will not be met again soon: past the cache that processors share, which is to keep nodes. */
RACES_INLINE void prefetch_far_leaf(const struct pc_pack *pack, const struct pc_leaf *leaf)
{
	for (uint32_t line = 0; line < pack->leaf_bytes; line += PC_CACHE_LINE_BYTES)
		__builtin_prefetch((const char *)leaf + line, 0, 0);
}

RACES void pc_shard_prefetch(const struct pc_shard *shard, uint64_t vol_blk)
{
	const struct pc_leaf *leaf;

	for (size_t line = 0; line < sizeof(*shard); line += PC_CACHE_LINE_BYTES)
		pc_prefetch_store((const char *)shard + line);
	leaf = guess_leaf(shard, vol_blk);
	if (leaf == NULL)
		return;
	if (PC_PEEK(shard->leaf_nr) < FAR_LEAF_NR)
		prefetch_leaf_to_change(shard->pack, leaf);
	else
		prefetch_far_leaf(shard->pack, leaf);
}

RACES bool pc_shard_peek(const struct pc_shard *shard, uint64_t vol_blk, uint64_t end_blk, struct pc_extent *out,
			 uint32_t max, uint32_t *out_nr)
{
	uint64_t newest_pos = PC_PEEK(shard->newest_pos);
	struct place at;
	uint32_t nr = 0;

	*out_nr = 0;
	if (!find(shard, vol_blk, &at))
		return false;
	while (nr < max && at.node != NULL) {
		struct pc_extent extent = get(shard, &at, newest_pos);
		uint64_t extent_end = extent.vol_blk + extent.len_blk;

		if (extent.vol_blk >= end_blk)
			break;
		if (extent_end > vol_blk) {
			uint64_t from = PC_MAX(extent.vol_blk, vol_blk), to = PC_MIN(extent_end, end_blk);

			out[nr++] = extent.len_blk == to - from ? extent
								: pc_extent_part(&extent, from, (uint32_t)(to - from));
			if (to == end_blk)
				break;
			/* Behind this one; so what is found ascends, whatever is there. */
			vol_blk = to;
		} else if (nr > 0) {
			return false;
		}
		if (!next_slot(&at))
			return false;
	}
	*out_nr = nr;
	return true;
}
