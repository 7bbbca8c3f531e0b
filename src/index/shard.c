/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is done with a shard: replace a range, look one up, walk along one. Where extents are, and where their memory comes from, is the business of tree.c; how
 * they are packed that of leaf.c. Here they are unpacked: whoever gets one gets a copy.
 *
 * All of this runs under the shard's lock, which the caller holds. Callbacks run in the middle of a change and must not call the index.
 */
#include "index/shard.h"

#include "base/plant.h"

static uint64_t extent_end(const struct pc_extent *extent)
{
	return extent->vol_blk + extent->len_blk;
}

/* The place of the first extent that ends after vol_blk, for a change: whatever was remembered before is void. A long write comes chunk by chunk, each where the last one ended. */
static inline __attribute__((always_inline)) struct pc_shard_at find_to_change(struct pc_shard *shard, uint64_t vol_blk)
{
	struct pc_shard_at at = shard->next_blk == vol_blk ? shard->next_at : pc_shard_find_locked(shard, vol_blk);

	shard->hint_blk = PC_NO_HINT;
	shard->next_blk = PC_NO_HINT;
	return at;
}

/* ---- replace ----------------------------------------------------------------------------------------------------------- */

/* Removes the extents from at on, in this leaf, that end at or before end_blk: each goes to displaced. Returns the place behind them. */
static struct pc_shard_at remove_run(struct pc_shard *shard, struct pc_shard_at at, uint64_t end_blk,
				     pc_displaced_fn displaced, void *ctx)
{
	uint32_t leaf_extent_nr = pc_shard_leaf_extent_nr(shard, at);
	struct pc_shard_at to = at;

	for (; to.slot_idx < leaf_extent_nr; to.slot_idx++) {
		struct pc_extent old = pc_shard_get(shard, to);

		if (extent_end(&old) > end_blk)
			break;
		if (displaced != NULL)
			displaced(ctx, &old);
	}
	return pc_shard_slots_remove(shard, at, to.slot_idx - at.slot_idx);
}

static void give_part(const struct pc_extent *old, uint64_t vol_blk, uint64_t end_blk, pc_displaced_fn displaced,
		      void *ctx)
{
	struct pc_extent piece;

	if (displaced == NULL)
		return;
	piece = pc_extent_part(old, vol_blk, (uint32_t)(end_blk - vol_blk));
	displaced(ctx, &piece);
}

/* What is left of old, at at: [vol_blk, end_blk). */
static void keep_part(struct pc_shard *shard, struct pc_shard_at at, const struct pc_extent *old, uint64_t vol_blk,
		      uint64_t end_blk)
{
	struct pc_extent left = pc_extent_part(old, vol_blk, (uint32_t)(end_blk - vol_blk));

	pc_shard_set(shard, at, &left);
}

/* New range inside one old extent: what is left of it is a head, in its old slot, and a tail. */
static void split_old(struct pc_shard *shard, struct pc_shard_at at, const struct pc_extent *old, uint64_t vol_blk,
		      uint64_t end_blk, const struct pc_extent *extent)
{
	struct pc_extent tail = pc_extent_part(old, end_blk, (uint32_t)(extent_end(old) - end_blk));

	keep_part(shard, at, old, old->vol_blk, vol_blk);
	at.slot_idx++;
	at = pc_shard_slot_insert(shard, at, &tail);
	if (extent != NULL)
		pc_shard_slot_insert(shard, at, extent);
}

/* A change that begins at end_blk, where this one ended, goes on at at, or behind the leaf that ends there. */
static inline void remember_next(struct pc_shard *shard, struct pc_shard_at at, uint64_t end_blk)
{
	shard->next_blk = end_blk;
	shard->next_at = pc_shard_settle(shard, at);
}

/* The node of at, if there is an extent that begins in the region of vol_blk; else NULL. */
static inline struct pc_node *node_of(const struct pc_shard *shard, struct pc_shard_at at, uint64_t vol_blk)
{
	struct pc_node *node;

	if (pc_shard_is_end(shard, at))
		return NULL;
	node = shard->nodes[at.node_idx];
	return node->region == (uint32_t)(vol_blk >> 32) ? node : NULL;
}

/* The usual overwrite: at is DATA of the very same range. False: it is not, and nothing has changed. */
static inline bool overwrite(struct pc_shard *shard, struct pc_shard_at at, const struct pc_extent *extent,
			     pc_displaced_fn displaced, void *ctx)
{
	struct pc_node *node = node_of(shard, at, extent->vol_blk);
	uint64_t newest_pos = PC_MAX(shard->newest_pos, extent->pos);
	struct pc_extent old;

	if (node == NULL || !pc_leaf_swap(shard->pack, node->leaves[at.leaf_idx], at.slot_idx, extent,
					  shard->newest_pos, newest_pos, &old))
		return false;
	shard->newest_pos = newest_pos;
	at.slot_idx++;
	if (at.slot_idx < node->extent_nrs[at.leaf_idx]) {
		shard->next_blk = extent_end(extent);
		shard->next_at = at;
	}
	if (displaced != NULL)
		displaced(ctx, &old);
	return true;
}

/* The same for a run, as far as this leaf goes. Returns how many. */
static uint32_t overwrite_run(struct pc_shard *shard, struct pc_shard_at at, const struct pc_extent_run *run,
			      pc_displaced_fn displaced, void *ctx)
{
	uint64_t newest_pos = PC_MAX(shard->newest_pos, run->first->pos);
	struct pc_node *node = node_of(shard, at, run->first->vol_blk);
	uint32_t nr;

	if (node == NULL)
		return 0;
	nr = pc_leaf_swap_run(shard->pack, node->leaves[at.leaf_idx], at.slot_idx, node->extent_nrs[at.leaf_idx], run,
			      shard->newest_pos, newest_pos, displaced, ctx);
	if (nr != 0) {
		shard->newest_pos = newest_pos;
		at.slot_idx += nr;
		remember_next(shard, at, run->first->vol_blk + (uint64_t)nr * run->first->len_blk);
	}
	return nr;
}

/* Puts what of a run lies before at, where nothing is, into the leaf there, as far as that has room. Returns how many. */
static uint32_t fill_gap(struct pc_shard *shard, struct pc_shard_at at, const struct pc_extent_run *run)
{
	const struct pc_node *node = node_of(shard, at, run->first->vol_blk);
	struct pc_extent extent = *run->first;
	struct pc_extent_run rest = *run;
	uint32_t nr;

	if (node != NULL) {
		uint64_t next_blk = pc_key_blk(node->region, node->leaves[at.leaf_idx]->keys[at.slot_idx]);

		if (next_blk < extent_end(&extent))
			return 0;
		rest.nr = (uint32_t)PC_MIN((next_blk - extent.vol_blk) / extent.len_blk, (uint64_t)rest.nr);
	}
	at = pc_shard_slot_insert(shard, at, &extent);
	at.slot_idx++;
	extent.vol_blk += extent.len_blk;
	extent.seg_blk = (uint16_t)(extent.seg_blk + extent.len_blk);
	rest = (struct pc_extent_run){ &extent, run->crcs != NULL ? run->crcs + 1 : NULL, rest.nr - 1 };
	nr = pc_shard_slots_fill(shard, at, &rest);
	at.slot_idx += nr;
	remember_next(shard, at, extent.vol_blk + (uint64_t)nr * extent.len_blk);
	return nr + 1;
}

/* Whatever is there gives way, whole or in part; at: of the first extent that ends after vol_blk. */
static void replace_any(struct pc_shard *shard, struct pc_shard_at at, uint64_t vol_blk, uint64_t len_blk,
			const struct pc_extent *extent, pc_displaced_fn displaced, void *ctx)
{
	uint64_t end_blk = vol_blk + len_blk;
	bool meets = true;

	while (meets && !pc_shard_is_end(shard, at)) {
		struct pc_extent old = pc_shard_get(shard, at);
		uint64_t old_end = extent_end(&old);

		switch (pc_overlap_classify(vol_blk, len_blk, old.vol_blk, old.len_blk)) {
		case PC_OVERLAP_NONE: /*       new  |-----|
				       *       old           |-----|    the first one behind  */
			meets = false;
			break;
		case PC_OVERLAP_EQUAL: /*      new  |-----|
					*      old  |-----|             all of it goes  */
		case PC_OVERLAP_CONTAINS: /*   new  |---------|
					   *   old    |-----|           all of it goes, and maybe more behind it  */
			if (extent == NULL) {
				at = remove_run(shard, at, end_blk, displaced, ctx);
				break;
			}
			if (displaced != NULL)
				displaced(ctx, &old);
			pc_shard_set(shard, at, extent);
			extent = NULL; /* it has taken the slot of the first that it covers */
			at.slot_idx++;
			at = pc_shard_settle(shard, at);
			meets = old_end < end_blk;
			break;
		case PC_OVERLAP_HEAD: /*       new  |-----|
				       *       old     |-----|          its tail stays  */
			give_part(&old, old.vol_blk, end_blk, displaced, ctx);
			keep_part(shard, at, &old, end_blk, old_end);
			meets = false;
			break;
		case PC_OVERLAP_TAIL: /*       new     |-----|
				       *       old  |-----|             its head stays  */
			give_part(&old, vol_blk, old_end, displaced, ctx);
			keep_part(shard, at, &old, old.vol_blk, vol_blk);
			at.slot_idx++;
			at = pc_shard_settle(shard, at);
			break;
		case PC_OVERLAP_CONTAINED: /*  new    |-----|
					    *  old  |---------|         head and tail stay  */
			give_part(&old, vol_blk, end_blk, displaced, ctx);
			split_old(shard, at, &old, vol_blk, end_blk, extent);
			return;
		}
	}
	if (extent != NULL) {
		at = pc_shard_slot_insert(shard, at, extent);
		at.slot_idx++;
	}
	remember_next(shard, at, end_blk);
}

void pc_shard_replace_locked(struct pc_shard *shard, uint64_t vol_blk, uint64_t len_blk, const struct pc_extent *extent,
			     pc_displaced_fn displaced, void *ctx)
{
	struct pc_shard_at at = find_to_change(shard, vol_blk);
	bool is_data = extent != NULL && (extent->flags & ~PC_EXT_DIRTY) == PC_EXT_DATA;

	if (!PC_PLANTED(PC_PLANT_ERASE_KEEPS_FILLS) || is_data)
		pc_shard_cancel_fills_locked(shard, vol_blk, len_blk);
	if (is_data && overwrite(shard, at, extent, displaced, ctx))
		return;
	replace_any(shard, at, vol_blk, len_blk, extent, displaced, ctx);
}

void pc_shard_replace_run_locked(struct pc_shard *shard, const struct pc_extent_run *run, pc_displaced_fn displaced,
				 void *ctx)
{
	struct pc_extent extent;
	struct pc_extent_run rest = { &extent, run->crcs, run->nr };
	uint32_t nr;

	pc_extent_copy(&extent, run->first);
	pc_shard_cancel_fills_locked(shard, extent.vol_blk, (uint64_t)rest.nr * extent.len_blk);
	for (; rest.nr > 0; pc_extent_run_skip(&rest, &extent, nr)) {
		struct pc_shard_at at = find_to_change(shard, extent.vol_blk);

		extent.crc = rest.crcs != NULL ? *rest.crcs : 0;
		nr = overwrite_run(shard, at, &rest, displaced, ctx);
		if (nr == 0)
			nr = fill_gap(shard, at, &rest);
		if (nr == 0) {
			replace_any(shard, at, extent.vol_blk, extent.len_blk, &extent, displaced, ctx);
			nr = 1;
		}
	}
}

/* ---- look-up ----------------------------------------------------------------------------------------------------------- */

uint32_t pc_shard_lookup_locked(const struct pc_shard *shard, uint64_t vol_blk, uint64_t end_blk, struct pc_extent *out,
				uint32_t max)
{
	struct pc_shard_at at = pc_shard_find_locked(shard, vol_blk);
	uint32_t nr = 0;

	for (; nr < max && !pc_shard_is_end(shard, at); at = pc_shard_settle(shard, at)) {
		struct pc_extent extent = pc_shard_get(shard, at);
		uint64_t from = PC_MAX(extent.vol_blk, vol_blk);
		uint64_t to = PC_MIN(extent_end(&extent), end_blk);

		if (extent.vol_blk >= end_blk)
			break;
		out[nr++] = to - from == extent.len_blk ? extent : pc_extent_part(&extent, from, (uint32_t)(to - from));
		if (to == end_blk)
			break;
		at.slot_idx++;
	}
	return nr;
}

/* ---- walk -------------------------------------------------------------------------------------------------------------- */

enum walk_end { WALK_GO_ON, WALK_AT_END, WALK_STOPPED };

/* Shows the extents of one leaf from at on to fn and closes the gaps. *at: what follows; it and the leaves around it may have moved. */
static enum walk_end walk_leaf(struct pc_shard *shard, struct pc_shard_at *at, uint64_t end_blk, pc_walk_fn fn,
			       void *ctx)
{
	uint32_t leaf_extent_nr = pc_shard_leaf_extent_nr(shard, *at);
	struct pc_leaf *leaf = shard->nodes[at->node_idx]->leaves[at->leaf_idx];
	struct pc_shard_at from = *at, to = *at;
	enum walk_end end = WALK_GO_ON;

	for (; end == WALK_GO_ON && from.slot_idx < leaf_extent_nr; from.slot_idx++) {
		struct pc_extent old = pc_shard_get(shard, from), extent = old;
		enum pc_walk answer;

		if (extent.vol_blk >= end_blk) {
			end = WALK_AT_END;
			break;
		}
		answer = fn(ctx, &extent);
		if (answer == PC_WALK_DROP) {
			pc_shard_cancel_fills_locked(shard, extent.vol_blk, extent.len_blk);
			continue;
		}
		if (extent.pos != old.pos || extent.flags != old.flags)
			pc_shard_set(shard, from, &extent);
		if (to.slot_idx != from.slot_idx)
			pc_leaf_move(shard->pack, leaf, to.slot_idx, leaf, from.slot_idx, 1);
		to.slot_idx++;
		if (answer == PC_WALK_STOP)
			end = WALK_STOPPED;
	}
	/* What is dropped is now in the slots from to on, up to from. */
	if (to.slot_idx != from.slot_idx)
		*at = pc_shard_slots_remove(shard, to, from.slot_idx - to.slot_idx);
	else
		*at = pc_shard_settle(shard, from);
	return end;
}

bool pc_shard_walk_locked(struct pc_shard *shard, uint64_t vol_blk, uint64_t end_blk, pc_walk_fn fn, void *ctx)
{
	struct pc_shard_at at = find_to_change(shard, vol_blk);
	enum walk_end end = WALK_GO_ON;

	while (end == WALK_GO_ON && !pc_shard_is_end(shard, at))
		end = walk_leaf(shard, &at, end_blk, fn, ctx);
	return end != WALK_STOPPED;
}

void pc_shard_cancel_fills_slow_locked(struct pc_shard *shard, uint64_t vol_blk, uint64_t len_blk)
{
	for (struct pc_fill *fill = shard->fills; fill != NULL; fill = fill->next) {
		if (pc_overlap_classify(vol_blk, len_blk, fill->vol_blk, fill->len_blk) != PC_OVERLAP_NONE)
			fill->cancelled = true;
	}
}
