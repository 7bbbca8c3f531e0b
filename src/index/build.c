/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Many changes of a shard at once, for replay: pc_shard_merge_locked.
 *
 * Records that overlap, directly or through others, are a cluster. Two records of different clusters have no block in common, so it does not matter which comes first; within a
 * cluster the order of positions decides. So clusters can be taken in order of blocks, and a shard that gets many is built anew in one sweep from left to right: extents that were there and
 * clusters, whichever comes first, go to the leaf that is open.
 *
 *     what was there    | a  b |  c  d |  e  f |            leaves are given back as they are used up,
 *     clusters              1       2        3              and filled again
 *     what is built     | a 1 b c | 2 d e ...
 *
 * A cluster of one record that meets nothing is put where it belongs. If all records of a cluster have the same range, the newest remains. Anything else is rare: what it meets goes into a shard of
 * its own, the records are applied there as live writes are, and what remains comes back.
 *
 * Leaves are filled to seven eighths, as what comes after an open is mostly between what is there; those that have no room between their extents are filled up.
 *
 * A shard that gets few records for its size is changed where they belong, one by one.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sort.h"
#include "index/shard.h"

#define LEAF_FILL 28u /* of PC_LEAF_NR */
#define NODE_FILL 52u /* of PC_NODE_NR */
#define LEAVES_PER_RECORD 2u /* with more, building anew costs more than one by one */
#define RECORDS_AHEAD 16u
#define RESERVE_NR 4u /* pieces reserved at once: more would stay unused in each shard */

/* ---- clusters ------------------------------------------------------------------------------------------------------------ */

static const struct pc_extent *rec_at(const struct pc_merge *merge, uint32_t i)
{
	return &merge->recs[merge->order[i] & PC_MERGE_IDX_MASK];
}

static uint64_t rec_end(const struct pc_extent *rec)
{
	return rec->vol_blk + rec->len_blk;
}

/* Where the cluster ends that begins at from. *end_blk: the same in blocks. */
static uint32_t cluster_end(const struct pc_merge *merge, uint32_t from, uint64_t *out_end_blk)
{
	uint64_t end_blk = rec_end(rec_at(merge, from));

	while (++from < merge->nr) {
		const struct pc_extent *rec = rec_at(merge, from);

		if (rec->vol_blk >= end_blk)
			break;
		end_blk = PC_MAX(end_blk, rec_end(rec));
	}
	*out_end_blk = end_blk;
	return from;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* A cluster in order of positions: by the numbers of its records, which are all that is left of the words. */
static void sort_cluster(uint64_t *order, uint32_t nr)
{
	bool sorted = true;

	for (uint32_t i = 0; i < nr; i++) {
		order[i] &= PC_MERGE_IDX_MASK;
		sorted = sorted && (i == 0 || order[i - 1] < order[i]);
	}
	if (!sorted && nr < PC_SORT_SHORT_NR)
		pc_sort_short(order, nr);
	else if (!sorted)
		qsort(order, nr, sizeof(*order), by_value);
}

/* ---- one by one ----------------------------------------------------------------------------------------------------------- */

struct one_by_one {
	struct pc_shard *shard;
	const struct pc_merge *merge;
	uint64_t pos; /* of the record that is applied */
	uint32_t reserved_nr;
};

static void displaced(void *ctx, const struct pc_extent *piece)
{
	const struct one_by_one *one = ctx;

	one->merge->replaced(one->merge->ctx, piece, one->pos);
}

static int apply_record(struct one_by_one *one, const struct pc_extent *rec)
{
	if (one->reserved_nr == 0) {
		if (pc_shard_reserve_locked(one->shard, RESERVE_NR) != 0)
			return -ENOMEM;
		one->reserved_nr = RESERVE_NR;
	}
	one->reserved_nr--;
	one->pos = rec->pos;
	pc_shard_replace_locked(one->shard, rec->vol_blk, rec->len_blk, rec->flags & PC_REC_ERASE ? NULL : rec,
				displaced, one);
	return 0;
}

/* The records from .. end of a cluster. */
static int apply_cluster(struct one_by_one *one, uint32_t from, uint32_t end)
{
	int rc = 0;

	if (end - from > 1)
		sort_cluster(one->merge->order + from, end - from);
	for (; from < end && rc == 0; from++)
		rc = apply_record(one, rec_at(one->merge, from));
	return rc;
}

static int apply_all(struct pc_shard *shard, const struct pc_merge *merge)
{
	struct one_by_one one = { .shard = shard, .merge = merge };
	uint64_t end_blk;
	int rc = 0;

	for (uint32_t i = 0, end; i < merge->nr && rc == 0; i = end) {
		end = cluster_end(merge, i, &end_blk);
		rc = apply_cluster(&one, i, end);
	}
	return rc;
}

/* ---- the shard that is built ------------------------------------------------------------------------------------------------ */

struct build {
	struct pc_shard *shard;
	const struct pc_merge *merge;
	/* What was there and is not taken over yet. */
	uint64_t *old_root;
	struct pc_node **old_nodes;
	uint32_t old_node_nr;
	struct pc_shard_at old_at;
	const struct pc_leaf *old_leaf; /* of old_at */
	uint32_t old_nr; /* extents of this leaf */
	uint32_t old_region;
	uint64_t old_blk; /* where it begins; UINT64_MAX: there is no more */
	/* What is built. */
	struct pc_node *node; /* NULL: none is open */
	struct pc_leaf *leaf; /* the same */
	uint32_t region; /* of the node */
	uint32_t nr; /* extents in the open leaf */
	uint32_t limit_nr; /* it takes no more; 0: none is open */
	uint64_t end_blk; /* of the last extent, or what is behind that */
	uint64_t extent_nr; /* in leaves that are closed */
	int rc;
	struct pc_shard side; /* for a cluster that is not simple */
};

static void close_leaf(struct build *build)
{
	struct pc_node *node = build->node;

	if (build->nr == 0)
		return;
	pc_leaf_end_at(build->leaf, build->nr);
	if (node->leaf_nr == 0)
		build->shard->first_blks[build->shard->node_nr - 1] = pc_key_blk(node->region, build->leaf->keys[0]);
	node->keys[node->leaf_nr] = build->leaf->keys[0];
	node->leaves[node->leaf_nr] = build->leaf;
	node->extent_nrs[node->leaf_nr] = (uint8_t)build->nr;
	node->leaf_nr++;
	build->shard->leaf_nr++;
	build->extent_nr += build->nr;
	build->leaf = NULL;
	build->nr = 0;
	build->limit_nr = 0;
}

static void close_node(struct build *build)
{
	struct pc_node *node = build->node;

	if (node == NULL)
		return;
	close_leaf(build);
	if (build->leaf != NULL)
		pc_shard_leaf_put(build->shard, build->leaf);
	build->leaf = NULL;
	build->limit_nr = 0;
	for (uint32_t i = node->leaf_nr; i < PC_NODE_NR; i++)
		node->keys[i] = PC_KEY_PAST;
	if (node->leaf_nr == 0) {
		build->shard->node_nr--;
		pc_shard_node_put(build->shard, node);
	}
	build->node = NULL;
}

static void open_node(struct build *build, uint32_t region)
{
	struct pc_shard *shard = build->shard;

	if (shard->node_nr == shard->root_cap && build->rc == 0)
		build->rc = pc_shard_grow_root(shard, (uint64_t)shard->node_nr + 1);
	if (shard->free_node_nr == 0 && build->rc == 0)
		build->rc = pc_shard_grow_nodes(shard, 1);
	if (build->rc != 0)
		return;
	build->node = pc_shard_node_take(shard);
	build->node->leaf_nr = 0;
	build->node->region = region;
	build->region = region;
	shard->nodes[shard->node_nr++] = build->node;
}

/* Nothing fits between the extents of the open leaf. */
static bool is_solid(const struct build *build)
{
	const struct pc_leaf *leaf = build->leaf;

	for (uint32_t i = 0; i + 1 < build->nr; i++)
		if ((uint32_t)leaf->keys[i] + pc_leaf_len_blk(build->shard->pack, leaf, i) !=
		    (uint32_t)leaf->keys[i + 1])
			return false;
	return true;
}

/* As room, where the open leaf will not do. */
static bool room_slow(struct build *build, uint64_t vol_blk)
{
	uint32_t region = (uint32_t)(vol_blk >> 32);
	bool fits = build->node != NULL && build->region == region;

	if (fits && build->nr == LEAF_FILL && vol_blk == build->end_blk && is_solid(build)) {
		build->limit_nr = PC_LEAF_NR;
		return true;
	}
	if (fits)
		close_leaf(build);
	if (!fits || build->node->leaf_nr == NODE_FILL) {
		close_node(build);
		open_node(build, region);
	}
	if (build->leaf == NULL && build->shard->free_leaf_nr == 0 && build->rc == 0)
		build->rc = pc_shard_grow_leaves(build->shard, 1);
	if (build->rc != 0)
		return false;
	if (build->leaf == NULL)
		build->leaf = pc_shard_leaf_take(build->shard);
	build->limit_nr = LEAF_FILL;
	return true;
}

/* Makes the open leaf one that takes an extent at vol_blk. False: no memory. */
static inline bool room(struct build *build, uint64_t vol_blk)
{
	if (build->nr < build->limit_nr && build->region == vol_blk >> 32)
		return true;
	return room_slow(build, vol_blk);
}

static void put(struct build *build, const struct pc_extent *extent)
{
	if (!room(build, extent->vol_blk))
		return;
	pc_leaf_set(build->shard->pack, build->leaf, build->nr++, extent, build->shard->newest_pos);
	build->end_blk = rec_end(extent);
}

/* ---- what was there --------------------------------------------------------------------------------------------------------- */

/* The place of old_at is the first of a leaf, or the end. */
static void look_at_old_leaf(struct build *build)
{
	const struct pc_shard_at *at = &build->old_at;
	const struct pc_node *node;

	if (at->node_idx == build->old_node_nr) {
		build->old_blk = UINT64_MAX;
		return;
	}
	node = build->old_nodes[at->node_idx];
	build->old_leaf = node->leaves[at->leaf_idx];
	build->old_nr = node->extent_nrs[at->leaf_idx];
	build->old_region = node->region;
	build->old_blk = pc_key_blk(node->region, node->keys[at->leaf_idx]);
	if (at->leaf_idx + 1 < node->leaf_nr)
		pc_leaf_prefetch(build->shard->pack, node->leaves[at->leaf_idx + 1]);
}

/* The leaf is used up, and soon filled again. */
static void next_old_leaf(struct build *build)
{
	struct pc_shard_at *at = &build->old_at;
	struct pc_node *node = build->old_nodes[at->node_idx];

	pc_shard_leaf_put(build->shard, node->leaves[at->leaf_idx]);
	at->slot_idx = 0;
	at->leaf_idx++;
	if (at->leaf_idx == node->leaf_nr) {
		pc_shard_node_put(build->shard, node);
		at->leaf_idx = 0;
		at->node_idx++;
	}
	look_at_old_leaf(build);
}

/* Steps to slot_idx of the leaf, or behind it. */
static void old_step(struct build *build, uint32_t slot_idx)
{
	build->old_at.slot_idx = slot_idx;
	if (slot_idx == build->old_nr)
		next_old_leaf(build);
	else
		build->old_blk = pc_key_blk(build->old_region, build->old_leaf->keys[slot_idx]);
}

static struct pc_extent old_take(struct build *build)
{
	struct pc_extent extent = pc_leaf_get(build->shard->pack, build->old_leaf, build->old_at.slot_idx,
					      build->old_region, build->shard->newest_pos);

	old_step(build, build->old_at.slot_idx + 1);
	return extent;
}

static void copy_four(struct pc_leaf *to, uint32_t to_idx, const struct pc_leaf *from, uint32_t from_idx)
{
	memcpy(&to->keys[to_idx], &from->keys[from_idx], 4 * sizeof(to->keys[0]));
	memcpy(&to->words[to_idx], &from->words[from_idx], 4 * sizeof(to->words[0]));
	memcpy(&to->crcs[to_idx], &from->crcs[from_idx], 4 * sizeof(to->crcs[0]));
}

/* As pc_leaf_move between two leaves, for the few extents between two records: four at a time without a call; what is copied too much is written over, or behind the last. */
static void copy_few(const struct pc_pack *pack, struct pc_leaf *to, uint32_t to_idx, const struct pc_leaf *from,
		     uint32_t from_idx, uint32_t nr)
{
	if (pack->high_bytes != 0 || PC_MAX(to_idx, from_idx) + PC_ROUND_UP(nr, 4u) > PC_LEAF_NR) {
		pc_leaf_move(pack, to, to_idx, from, from_idx, nr);
		return;
	}
	for (uint32_t i = 0; i < nr; i += 4)
		copy_four(to, to_idx + i, from, from_idx + i);
}

static uint64_t end_of_slot(const struct build *build, uint32_t slot_idx)
{
	return pc_key_blk(build->old_region, build->old_leaf->keys[slot_idx]) +
	       pc_leaf_len_blk(build->shard->pack, build->old_leaf, slot_idx);
}

/* Takes over the extents of the leaf up to slot to, as they are packed. */
static void copy_slots(struct build *build, uint32_t to)
{
	uint32_t from = build->old_at.slot_idx;

	while (from < to && room(build, pc_key_blk(build->old_region, build->old_leaf->keys[from]))) {
		uint32_t nr = PC_MIN(to - from, build->limit_nr - build->nr);

		copy_few(build->shard->pack, build->leaf, build->nr, build->old_leaf, from, nr);
		build->nr += nr;
		from += nr;
		build->end_blk = end_of_slot(build, from - 1);
	}
}

/* The first slot of the leaf that does not begin before vol_blk. */
static uint32_t old_slot_at(const struct build *build, uint64_t vol_blk)
{
	int32_t key = pc_key_of(vol_blk);
	uint32_t to;

	if (build->old_region != vol_blk >> 32)
		return build->old_region < vol_blk >> 32 ? build->old_nr : 0;
	to = PC_MIN(pc_leaf_keys_count(build->old_leaf->keys, key), build->old_nr);
	return to - (to > 0 && build->old_leaf->keys[to - 1] == key);
}

/* How many of the four keys from slot_idx on are less. Behind the last extent are the greatest there are. */
static uint32_t count_below(const struct pc_leaf *leaf, uint32_t slot_idx, int32_t key)
{
	pc_keys4 keys, wanted = { key, key, key, key }, is_less;

	memcpy(&keys, &leaf->keys[slot_idx], sizeof(keys));
	is_less = keys < wanted;
	return (uint32_t) - (is_less[0] + is_less[1] + is_less[2] + is_less[3]);
}

/* Takes over up to four extents that begin before vol_blk, of the first of which that is known. False: nothing was done, as places or kinds of leaves do not allow it. */
static inline bool copy_next(struct build *build, uint64_t vol_blk)
{
	uint32_t from = build->old_at.slot_idx, nr;

	if (build->old_region != vol_blk >> 32 || build->region != build->old_region || from > PC_LEAF_NR - 4 ||
	    build->nr + 4 > build->limit_nr || build->shard->pack->high_bytes != 0)
		return false;
	nr = count_below(build->old_leaf, from, pc_key_of(vol_blk));
	copy_four(build->leaf, build->nr, build->old_leaf, from);
	build->nr += nr;
	build->end_blk = end_of_slot(build, from + nr - 1);
	old_step(build, from + nr);
	return true;
}

/* Takes over what begins before vol_blk. */
static void copy_old(struct build *build, uint64_t vol_blk)
{
	while (build->old_blk < vol_blk && build->rc == 0) {
		if (!copy_next(build, vol_blk)) {
			uint32_t to = old_slot_at(build, vol_blk);

			copy_slots(build, to);
			old_step(build, to);
		}
	}
}

/* ---- clusters that meet something ------------------------------------------------------------------------------------------- */

/* All records from .. end have one range, and what was there has it too, or nothing was there. */
static bool is_pile(const struct build *build, uint32_t from, uint32_t end, uint64_t end_blk)
{
	const struct pc_extent *first = rec_at(build->merge, from);

	/* The last one begins last, and none ends behind end_blk. */
	if (rec_at(build->merge, end - 1)->vol_blk != first->vol_blk || build->end_blk > first->vol_blk)
		return false;
	for (uint32_t i = from; i < end; i++)
		if (rec_end(rec_at(build->merge, i)) != end_blk)
			return false;
	if (build->old_blk < end_blk) {
		return build->old_blk == first->vol_blk &&
		       pc_leaf_len_blk(build->shard->pack, build->old_leaf, build->old_at.slot_idx) == first->len_blk;
	}
	return true;
}

/* Records of one block number are in order of positions. */
static void put_pile(struct build *build, uint32_t from, uint32_t end)
{
	const struct pc_merge *merge = build->merge;
	struct pc_extent old, *last = NULL;

	if (build->old_blk == rec_at(merge, from)->vol_blk) {
		old = old_take(build);
		last = &old;
	}
	for (; from < end; from++) {
		const struct pc_extent *rec = rec_at(merge, from);

		if (last != NULL)
			merge->replaced(merge->ctx, last, rec->pos);
		last = NULL;
		if (!(rec->flags & PC_REC_ERASE)) {
			old = *rec;
			last = &old;
		}
	}
	if (last != NULL)
		put(build, last);
}

/* Memory that is free goes from one shard to another. */
static void lend(struct pc_shard *to, struct pc_shard *from)
{
	to->free_leaves = from->free_leaves;
	to->free_leaf_nr = from->free_leaf_nr;
	to->free_nodes = from->free_nodes;
	to->free_node_nr = from->free_node_nr;
	from->free_leaves = NULL;
	from->free_nodes = NULL;
	from->free_leaf_nr = 0;
	from->free_node_nr = 0;
}

/* What was lent, what the other shard took itself, and what has become free meanwhile. */
static void give_back(struct pc_shard *to, struct pc_shard *from)
{
	while (to->free_leaf_nr > 0)
		pc_shard_leaf_put(from, pc_shard_leaf_take(to));
	while (to->free_node_nr > 0)
		pc_shard_node_put(from, pc_shard_node_take(to));
	lend(to, from);
	to->taken_leaf_nr += from->taken_leaf_nr;
	to->taken_node_nr += from->taken_node_nr;
	from->taken_leaf_nr = 0;
	from->taken_node_nr = 0;
}

static void put_aside(struct build *build, const struct pc_extent *extent)
{
	if (build->rc == 0)
		build->rc = pc_shard_reserve_locked(&build->side, 1);
	if (build->rc == 0)
		pc_shard_replace_locked(&build->side, extent->vol_blk, extent->len_blk, extent, NULL, NULL);
}

/* All that is in the shard at the side comes back, and it is empty again. */
static void take_side(struct build *build)
{
	struct pc_shard *side = &build->side;
	struct pc_shard_at at = { 0, 0, 0 };

	give_back(build->shard, side);
	for (; !pc_shard_is_end(side, at); at.slot_idx++, at = pc_shard_settle(side, at)) {
		struct pc_extent extent = pc_shard_get(side, at);

		put(build, &extent);
	}
	for (uint32_t i = 0; i < side->node_nr; i++) {
		for (uint32_t j = 0; j < side->nodes[i]->leaf_nr; j++)
			pc_shard_leaf_put(build->shard, side->nodes[i]->leaves[j]);
		pc_shard_node_put(build->shard, side->nodes[i]);
	}
	side->node_nr = 0;
	side->leaf_nr = 0;
	side->hint_blk = PC_NO_HINT;
	side->next_blk = PC_NO_HINT;
	atomic_store_explicit(&side->extent_nr, 0, memory_order_relaxed);
}

/* Anything. What was there and meets the cluster is aside before the first record comes. */
static void put_mixed(struct build *build, uint32_t from, uint32_t end, uint64_t end_blk)
{
	struct one_by_one one = { .shard = &build->side, .merge = build->merge };
	uint64_t vol_blk = rec_at(build->merge, from)->vol_blk;
	struct pc_extent extent;

	lend(&build->side, build->shard);
	build->side.newest_pos = build->shard->newest_pos;
	if (build->end_blk > vol_blk) {
		extent = pc_leaf_get(build->shard->pack, build->leaf, --build->nr, build->node->region,
				     build->shard->newest_pos);
		build->end_blk = extent.vol_blk;
		put_aside(build, &extent);
	}
	while (build->old_blk < end_blk && build->rc == 0) {
		extent = old_take(build);
		put_aside(build, &extent);
	}
	if (build->rc == 0)
		build->rc = apply_cluster(&one, from, end);
	take_side(build);
}

/* ---- the sweep ---------------------------------------------------------------------------------------------------------------- */

static void put_cluster(struct build *build, uint32_t from, uint32_t end, uint64_t end_blk)
{
	const struct pc_extent *rec = rec_at(build->merge, from);

	copy_old(build, rec->vol_blk);
	if (end - from == 1 && build->end_blk <= rec->vol_blk && build->old_blk >= end_blk) {
		if (!(rec->flags & PC_REC_ERASE))
			put(build, rec);
	} else if (is_pile(build, from, end, end_blk)) {
		put_pile(build, from, end);
	} else {
		put_mixed(build, from, end, end_blk);
	}
}

/* The old tree becomes what is to be taken over, and the shard has an empty one. */
static int begin(struct build *build, struct pc_shard *shard, const struct pc_merge *merge)
{
	const struct pc_shard_params side_params = { .pack = shard->pack, .arena = shard->arena };
	uint64_t extent_nr = atomic_load_explicit(&shard->extent_nr, memory_order_relaxed) + merge->nr;
	int rc;

	assert(shard->fills == NULL);
	*build = (struct build){ .shard = shard,
				 .merge = merge,
				 .old_root = shard->first_blks,
				 .old_nodes = shard->nodes,
				 .old_node_nr = shard->node_nr };
	rc = pc_shard_init(&build->side, &side_params);
	if (rc != 0)
		return rc;
	shard->first_blks = NULL;
	shard->node_nr = 0;
	shard->leaf_nr = 0;
	shard->root_cap = 0;
	atomic_store_explicit(&shard->root_bytes, 0, memory_order_relaxed);
	shard->hint_blk = PC_NO_HINT;
	shard->next_blk = PC_NO_HINT;
	shard->newest_pos = PC_MAX(shard->newest_pos, merge->recs[merge->nr - 1].pos);
	build->rc = pc_shard_grow_root(shard, extent_nr / ((uint64_t)LEAF_FILL * NODE_FILL) + 1);
	look_at_old_leaf(build);
	return 0;
}

static int build_anew(struct pc_shard *shard, const struct pc_merge *merge)
{
	struct build build;
	uint64_t end_blk;
	int rc = begin(&build, shard, merge);

	if (rc != 0)
		return rc;
	for (uint32_t i = 0, end; i < merge->nr && build.rc == 0; i = end) {
		/* Records lie in order of positions: what comes soon is somewhere else. */
		if (i + RECORDS_AHEAD < merge->nr)
			__builtin_prefetch(rec_at(merge, i + RECORDS_AHEAD));
		end = cluster_end(merge, i, &end_blk);
		put_cluster(&build, i, end, end_blk);
	}
	copy_old(&build, UINT64_MAX);
	close_node(&build);
	atomic_store_explicit(&shard->extent_nr, build.extent_nr, memory_order_relaxed);
	pc_shard_fini(&build.side);
	pc_shard_free_roots(build.old_root);
	return build.rc;
}

int pc_shard_merge_locked(struct pc_shard *shard, const struct pc_merge *merge)
{
	if (shard->leaf_nr > (uint64_t)merge->nr * LEAVES_PER_RECORD)
		return apply_all(shard, merge);
	return build_anew(shard, merge);
}
