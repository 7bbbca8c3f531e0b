/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One shard of the index.
 *
 *     root   first_blks[]   | 0 | 96 | 310 | ...      binary search, contiguous
 *            refs[]         | . | .  | .   | ...
 *                             |
 *     leaf   ext[32]        sorted, packed from slot 0, never empty
 *
 * Leaves stay dense: a full leaf first evens out with a neighbour, and splits in half only when both neighbours are (nearly)
 * full as well; an append behind the last extent opens a new leaf, so a sequential fill packs them completely. After a
 * removal two neighbours that fit in half a leaf become one.
 *
 * Memory. Insertion must not fail, so it never allocates: pc_shard_reserve_locked puts leaves on the free list and makes the root
 * roomy beforehand. One replacement takes at most ONE leaf: it adds at most two extents, and those are adjacent (the new extent and the
 * tail of the one it was put into). Whenever a full leaf had to make way for the first of them, each leaf to the left and right
 * of that place has room for another, or has a next leaf with room to even out with; so piece_nr replacements take at most
 * piece_nr leaves and as many places in the root. Removals only give leaves back.
 *
 * All of this runs under the shard's mutex, which the caller holds. The two counters are stored with relaxed order under it,
 * for readers without it. Callbacks run in the middle of a change and must not call the index.
 */
#include "index/shard.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"

#define EVEN_OUT_MIN_ROOM 4u /* less room in a neighbour is not worth the copying; at least 4, see make_room */
#define SLAB_LEAF_NR_MAX 64u
#define ROOT_CAP_MIN 8u

/* ---- counters and memory ----------------------------------------------------------------------------------------- */

/* A load and a store: under the lock there is one writer, so no locked instruction is needed. */
static void counter_add(_Atomic uint64_t *counter, uint64_t delta)
{
	uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, value + delta, memory_order_relaxed);
}

static void counter_sub(_Atomic uint64_t *counter, uint64_t delta)
{
	counter_add(counter, 0 - delta);
}

int pc_shard_init(struct pc_shard *shard, uint32_t shard_idx)
{
	memset(shard, 0, sizeof(*shard));
	return pc_spin_init(&shard->lock, PC_RANK_SHARD, shard_idx);
}

void pc_shard_fini(struct pc_shard *shard)
{
	struct pc_slab *next;

	for (struct pc_slab *slab = shard->slabs; slab != NULL; slab = next) {
		next = slab->next;
		free(slab);
	}
	free(shard->first_blks);
	pc_spin_fini(&shard->lock);
}

static void leaf_put(struct pc_shard *shard, union pc_leaf *leaf)
{
	leaf->next_free = shard->free_list;
	shard->free_list = leaf;
	shard->free_nr++;
}

/* Slabs grow with the shard, so that a small cache does not pay for 64 large ones. */
static int grow_leaves(struct pc_shard *shard, uint32_t need_nr)
{
	uint32_t step_nr = PC_MIN(shard->leaf_nr / 16, SLAB_LEAF_NR_MAX);
	uint32_t leaf_nr = PC_MAX(need_nr, PC_MAX(step_nr, 1u));
	size_t bytes = sizeof(struct pc_slab) + (size_t)leaf_nr * sizeof(union pc_leaf);
	struct pc_slab *slab = aligned_alloc(PC_CACHE_LINE_BYTES, bytes);

	if (slab == NULL)
		return -ENOMEM;
	slab->next = shard->slabs;
	slab->leaf_nr = leaf_nr;
	shard->slabs = slab;
	/* The lowest address comes off the list first. */
	for (uint32_t i = leaf_nr; i-- > 0;)
		leaf_put(shard, &slab->leaves[i]);
	counter_add(&shard->dram_bytes, bytes);
	return 0;
}

static size_t root_bytes(uint32_t cap)
{
	return PC_ROUND_UP((size_t)cap * (sizeof(uint64_t) + sizeof(struct pc_leaf_ref)), PC_CACHE_LINE_BYTES);
}

static int grow_root(struct pc_shard *shard, uint64_t need_cap)
{
	/* The cap is even, so that refs behind it are aligned. */
	uint64_t wish = PC_MAX((uint64_t)shard->root_cap + shard->root_cap / 4, ROOT_CAP_MIN);
	uint64_t cap = PC_ROUND_UP(PC_MAX(need_cap, wish), 2u);
	uint64_t *first_blks;
	struct pc_leaf_ref *refs;

	if (cap > UINT32_MAX / 2)
		return -ENOMEM;
	first_blks = aligned_alloc(PC_CACHE_LINE_BYTES, root_bytes((uint32_t)cap));
	if (first_blks == NULL)
		return -ENOMEM;
	refs = (struct pc_leaf_ref *)(void *)(first_blks + cap);
	if (shard->leaf_nr > 0) {
		memcpy(first_blks, shard->first_blks, shard->leaf_nr * sizeof(*first_blks));
		memcpy(refs, shard->refs, shard->leaf_nr * sizeof(*refs));
	}
	if (shard->root_cap > 0)
		counter_sub(&shard->dram_bytes, root_bytes(shard->root_cap));
	free(shard->first_blks);
	shard->first_blks = first_blks;
	shard->refs = refs;
	shard->root_cap = (uint32_t)cap;
	counter_add(&shard->dram_bytes, root_bytes(shard->root_cap));
	return 0;
}

int pc_shard_reserve_slow_locked(struct pc_shard *shard, uint32_t piece_nr)
{
	int rc;

	if (shard->root_cap - shard->leaf_nr < piece_nr) {
		rc = grow_root(shard, (uint64_t)shard->leaf_nr + piece_nr);
		if (rc != 0)
			return rc;
	}
	if (shard->free_nr < piece_nr)
		return grow_leaves(shard, piece_nr - shard->free_nr);
	return 0;
}

/* ---- places -------------------------------------------------------------------------------------------------------- */

static uint64_t extent_end(const struct pc_extent *extent)
{
	return extent->vol_blk + extent->len_blk;
}

static struct pc_extent *slot(const struct pc_shard *shard, struct pc_shard_at at)
{
	return &shard->refs[at.leaf_idx].leaf->ext[at.slot_idx];
}

/* Steps from behind a leaf's last extent to the first of the next leaf. */
static struct pc_shard_at settle(const struct pc_shard *shard, struct pc_shard_at at)
{
	if (at.leaf_idx < shard->leaf_nr && at.slot_idx == shard->refs[at.leaf_idx].nr) {
		at.leaf_idx++;
		at.slot_idx = 0;
	}
	return at;
}

/* Both searches, in the root and in a leaf: the last entry that begins at or before vol_blk, or the first entry; without a branch that could be mispredicted. */
static uint32_t find_leaf(const struct pc_shard *shard, uint64_t vol_blk)
{
	const uint64_t *base = shard->first_blks;

	for (uint32_t nr = shard->leaf_nr, half; nr > 1; nr -= half) {
		half = nr / 2;
		base += base[half] <= vol_blk ? half : 0;
	}
	return (uint32_t)(base - shard->first_blks);
}

/* The steps in a leaf that is not in the processor's caches would miss one after the other: let them miss together. */
static void prefetch_leaf(const union pc_leaf *leaf)
{
	for (uint32_t i = 0; i < PC_LEAF_NR; i += 2)
		__builtin_prefetch(&leaf->ext[i]);
}

void pc_shard_prefetch_locked(const struct pc_shard *shard, uint64_t vol_blk)
{
	if (shard->leaf_nr != 0)
		prefetch_leaf(shard->refs[find_leaf(shard, vol_blk)].leaf);
}

struct pc_shard_at pc_shard_find_locked(const struct pc_shard *shard, uint64_t vol_blk)
{
	struct pc_shard_at at = { 0, 0 };
	const struct pc_extent *ext;

	if (shard->leaf_nr == 0)
		return at;
	at.leaf_idx = find_leaf(shard, vol_blk);
	ext = shard->refs[at.leaf_idx].leaf->ext;
	prefetch_leaf(shard->refs[at.leaf_idx].leaf);
	for (uint32_t nr = shard->refs[at.leaf_idx].nr, half; nr > 1; nr -= half) {
		half = nr / 2;
		ext += ext[half].vol_blk <= vol_blk ? half : 0;
	}
	at.slot_idx = (uint32_t)(ext - shard->refs[at.leaf_idx].leaf->ext);
	if (extent_end(ext) <= vol_blk) {
		at.slot_idx++;
		at = settle(shard, at);
	}
	return at;
}

/* Call after the first extent of a leaf has changed. */
static void update_first(struct pc_shard *shard, uint32_t leaf_idx)
{
	shard->first_blks[leaf_idx] = shard->refs[leaf_idx].leaf->ext[0].vol_blk;
}

/* ---- leaves of the root ---------------------------------------------------------------------------------------------- */

static void root_remove(struct pc_shard *shard, uint32_t leaf_idx)
{
	size_t behind = shard->leaf_nr - leaf_idx - 1;

	leaf_put(shard, shard->refs[leaf_idx].leaf);
	memmove(&shard->first_blks[leaf_idx], &shard->first_blks[leaf_idx + 1], behind * sizeof(*shard->first_blks));
	memmove(&shard->refs[leaf_idx], &shard->refs[leaf_idx + 1], behind * sizeof(*shard->refs));
	shard->leaf_nr--;
}

/* An empty leaf at leaf_idx, out of the reserve. */
static void root_insert(struct pc_shard *shard, uint32_t leaf_idx)
{
	size_t behind = shard->leaf_nr - leaf_idx;
	union pc_leaf *leaf;

	/* Without a reserve the caller broke the contract. The extent is about data that is already durable: rather try than lose it. */
	assert(shard->free_nr > 0 && shard->leaf_nr < shard->root_cap);
	if (pc_shard_reserve_locked(shard, 1) != 0)
		abort();
	leaf = shard->free_list;
	shard->free_list = leaf->next_free;
	shard->free_nr--;
	memmove(&shard->first_blks[leaf_idx + 1], &shard->first_blks[leaf_idx], behind * sizeof(*shard->first_blks));
	memmove(&shard->refs[leaf_idx + 1], &shard->refs[leaf_idx], behind * sizeof(*shard->refs));
	shard->refs[leaf_idx] = (struct pc_leaf_ref){ .leaf = leaf, .nr = 0 };
	shard->leaf_nr++;
}

/* Moves the first nr extents of leaf_idx behind the last of the leaf before. */
static void move_left(struct pc_shard *shard, uint32_t leaf_idx, uint32_t nr)
{
	struct pc_leaf_ref *from = &shard->refs[leaf_idx];
	struct pc_leaf_ref *to = &shard->refs[leaf_idx - 1];

	memcpy(&to->leaf->ext[to->nr], &from->leaf->ext[0], nr * sizeof(struct pc_extent));
	to->nr += nr;
	from->nr -= nr;
	memmove(&from->leaf->ext[0], &from->leaf->ext[nr], from->nr * sizeof(struct pc_extent));
	if (from->nr > 0)
		update_first(shard, leaf_idx);
}

/* Moves the last nr extents of leaf_idx before the first of the next leaf. */
static void move_right(struct pc_shard *shard, uint32_t leaf_idx, uint32_t nr)
{
	struct pc_leaf_ref *from = &shard->refs[leaf_idx];
	struct pc_leaf_ref *to = &shard->refs[leaf_idx + 1];

	memmove(&to->leaf->ext[nr], &to->leaf->ext[0], to->nr * sizeof(struct pc_extent));
	from->nr -= nr;
	memcpy(&to->leaf->ext[0], &from->leaf->ext[from->nr], nr * sizeof(struct pc_extent));
	to->nr += nr;
	update_first(shard, leaf_idx + 1);
}

/* After removals in leaf_idx: it and a neighbour that together fill at most half a leaf become one. */
static void merge_around(struct pc_shard *shard, uint32_t leaf_idx)
{
	for (uint32_t right = PC_MIN(leaf_idx + 1, shard->leaf_nr - 1); right > 0 && right >= leaf_idx; right--) {
		if (shard->refs[right - 1].nr + shard->refs[right].nr > PC_LEAF_NR / 2)
			continue;
		move_left(shard, right, shard->refs[right].nr);
		root_remove(shard, right);
	}
}

/*
 * The leaf of at is full: makes room, and says where the place is now. Evening out moves half of a neighbour's room, at least 2, so both leaves
 * have room for 2 afterwards: the reserve counts on that.
 */
static struct pc_shard_at make_room(struct pc_shard *shard, struct pc_shard_at at)
{
	uint32_t leaf_idx = at.leaf_idx;
	uint32_t prev_nr = leaf_idx > 0 ? shard->refs[leaf_idx - 1].nr : PC_LEAF_NR;
	uint32_t next_nr = leaf_idx + 1 < shard->leaf_nr ? shard->refs[leaf_idx + 1].nr : PC_LEAF_NR;
	uint32_t keep_nr;

	if (PC_LEAF_NR - prev_nr >= EVEN_OUT_MIN_ROOM) {
		uint32_t move_nr = (PC_LEAF_NR - prev_nr) / 2;

		move_left(shard, leaf_idx, move_nr);
		if (at.slot_idx < move_nr)
			return (struct pc_shard_at){ leaf_idx - 1, prev_nr + at.slot_idx };
		return (struct pc_shard_at){ leaf_idx, at.slot_idx - move_nr };
	}
	if (PC_LEAF_NR - next_nr >= EVEN_OUT_MIN_ROOM) {
		keep_nr = PC_LEAF_NR - (PC_LEAF_NR - next_nr) / 2;
		move_right(shard, leaf_idx, PC_LEAF_NR - keep_nr);
	} else {
		bool append = leaf_idx + 1 == shard->leaf_nr && at.slot_idx == PC_LEAF_NR;

		keep_nr = append ? PC_LEAF_NR : PC_LEAF_NR / 2;
		root_insert(shard, leaf_idx + 1);
		if (append)
			return (struct pc_shard_at){ leaf_idx + 1, 0 };
		move_right(shard, leaf_idx, PC_LEAF_NR - keep_nr);
	}
	if (at.slot_idx <= keep_nr)
		return at;
	return (struct pc_shard_at){ leaf_idx + 1, at.slot_idx - keep_nr };
}

/* Inserts extent before the place at; returns where it is. */
static struct pc_shard_at slot_insert(struct pc_shard *shard, struct pc_shard_at at, const struct pc_extent *extent)
{
	struct pc_leaf_ref *ref;

	/* Between two leaves: behind the last of the left one, if there is a choice. */
	if (at.slot_idx == 0 && at.leaf_idx > 0) {
		at.leaf_idx--;
		at.slot_idx = shard->refs[at.leaf_idx].nr;
	}
	if (shard->leaf_nr == 0)
		root_insert(shard, 0);
	else if (shard->refs[at.leaf_idx].nr == PC_LEAF_NR)
		at = make_room(shard, at);
	ref = &shard->refs[at.leaf_idx];
	memmove(&ref->leaf->ext[at.slot_idx + 1], &ref->leaf->ext[at.slot_idx],
		(ref->nr - at.slot_idx) * sizeof(*extent));
	ref->leaf->ext[at.slot_idx] = *extent;
	ref->nr++;
	if (at.slot_idx == 0)
		update_first(shard, at.leaf_idx);
	counter_add(&shard->extent_nr, 1);
	return at;
}

/* Removes the extents from at on, in this leaf, that end at or before end_blk: each goes to displaced. Returns the place behind them. */
static struct pc_shard_at remove_run(struct pc_shard *shard, struct pc_shard_at at, uint64_t end_blk,
				     pc_displaced_fn displaced, void *ctx)
{
	struct pc_leaf_ref *ref = &shard->refs[at.leaf_idx];
	uint32_t to = at.slot_idx;

	for (; to < ref->nr && extent_end(&ref->leaf->ext[to]) <= end_blk; to++) {
		if (displaced != NULL)
			displaced(ctx, &ref->leaf->ext[to]);
	}
	counter_sub(&shard->extent_nr, to - at.slot_idx);
	memmove(&ref->leaf->ext[at.slot_idx], &ref->leaf->ext[to], (ref->nr - to) * sizeof(struct pc_extent));
	ref->nr -= to - at.slot_idx;
	if (ref->nr == 0) {
		root_remove(shard, at.leaf_idx);
		return at;
	}
	if (at.slot_idx == 0)
		update_first(shard, at.leaf_idx);
	return settle(shard, at);
}

/* ---- the verbs ------------------------------------------------------------------------------------------------------- */

static void give_part(const struct pc_extent *old, uint64_t vol_blk, uint64_t end_blk, pc_displaced_fn displaced,
		      void *ctx)
{
	struct pc_extent piece;

	if (displaced == NULL)
		return;
	piece = pc_extent_part(old, vol_blk, (uint32_t)(end_blk - vol_blk));
	displaced(ctx, &piece);
}

/* New range inside one old extent: what is left of it is a head, in its old slot, and a tail. */
static void split_old(struct pc_shard *shard, struct pc_shard_at at, uint64_t vol_blk, uint64_t end_blk,
		      const struct pc_extent *extent)
{
	struct pc_extent *old = slot(shard, at);
	struct pc_extent tail = pc_extent_part(old, end_blk, (uint32_t)(extent_end(old) - end_blk));

	*old = pc_extent_part(old, old->vol_blk, (uint32_t)(vol_blk - old->vol_blk));
	at.slot_idx++;
	at = slot_insert(shard, at, &tail);
	if (extent != NULL)
		slot_insert(shard, at, extent);
}

void pc_shard_replace_locked(struct pc_shard *shard, uint64_t vol_blk, uint64_t len_blk, const struct pc_extent *extent,
			     pc_displaced_fn displaced, void *ctx)
{
	uint64_t end_blk = vol_blk + len_blk;
	struct pc_shard_at at = pc_shard_find_locked(shard, vol_blk);
	bool removed = false;
	bool meets = true;

	if (!PC_PLANTED(PC_PLANT_ERASE_KEEPS_FILLS) ||
	    (extent != NULL && (extent->flags & PC_EXT_TYPE_MASK) == PC_EXT_DATA))
		pc_shard_cancel_fills_locked(shard, vol_blk, len_blk);
	while (meets && at.leaf_idx < shard->leaf_nr) {
		struct pc_extent *old = slot(shard, at);
		uint64_t old_end = extent_end(old);

		switch (pc_overlap_classify(vol_blk, len_blk, old->vol_blk, old->len_blk)) {
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
				removed = true;
				break;
			}
			if (displaced != NULL)
				displaced(ctx, old);
			*old = *extent;
			extent = NULL; /* it has taken the slot of the first that it covers */
			if (at.slot_idx == 0)
				update_first(shard, at.leaf_idx);
			at.slot_idx++;
			at = settle(shard, at);
			meets = old_end < end_blk;
			break;
		case PC_OVERLAP_HEAD: /*       new  |-----|
				       *       old     |-----|          its tail stays  */
			give_part(old, old->vol_blk, end_blk, displaced, ctx);
			*old = pc_extent_part(old, end_blk, (uint32_t)(old_end - end_blk));
			if (at.slot_idx == 0)
				update_first(shard, at.leaf_idx);
			meets = false;
			break;
		case PC_OVERLAP_TAIL: /*       new     |-----|
				       *       old  |-----|             its head stays  */
			give_part(old, vol_blk, old_end, displaced, ctx);
			*old = pc_extent_part(old, old->vol_blk, (uint32_t)(vol_blk - old->vol_blk));
			at.slot_idx++;
			at = settle(shard, at);
			break;
		case PC_OVERLAP_CONTAINED: /*  new    |-----|
					    *  old  |---------|         head and tail stay  */
			give_part(old, vol_blk, end_blk, displaced, ctx);
			split_old(shard, at, vol_blk, end_blk, extent);
			return;
		}
	}
	if (extent != NULL)
		slot_insert(shard, at, extent);
	else if (removed && shard->leaf_nr > 0)
		merge_around(shard, PC_MIN(at.leaf_idx, shard->leaf_nr - 1));
}

enum walk_end { WALK_GO_ON, WALK_AT_END, WALK_STOPPED };

/* Shows the extents of one leaf from slot_idx on to fn and closes the gaps; the leaf may be empty afterwards. */
static enum walk_end walk_leaf(struct pc_shard *shard, struct pc_shard_at at, uint64_t end_blk, pc_walk_fn fn,
			       void *ctx)
{
	struct pc_leaf_ref *ref = &shard->refs[at.leaf_idx];
	struct pc_extent *ext = ref->leaf->ext;
	uint32_t from = at.slot_idx;
	uint32_t to = from;
	enum walk_end end = WALK_GO_ON;

	for (; end == WALK_GO_ON && from < ref->nr; from++) {
		enum pc_walk answer;

		if (ext[from].vol_blk >= end_blk) {
			end = WALK_AT_END;
			break;
		}
		answer = fn(ctx, &ext[from]);
		if (answer == PC_WALK_DROP) {
			pc_shard_cancel_fills_locked(shard, ext[from].vol_blk, ext[from].len_blk);
			continue;
		}
		if (to != from)
			ext[to] = ext[from];
		to++;
		if (answer == PC_WALK_STOP)
			end = WALK_STOPPED;
	}
	if (to != from) {
		memmove(&ext[to], &ext[from], (ref->nr - from) * sizeof(*ext));
		ref->nr -= from - to;
		counter_sub(&shard->extent_nr, from - to);
	}
	return end;
}

bool pc_shard_walk_locked(struct pc_shard *shard, uint64_t vol_blk, uint64_t end_blk, pc_walk_fn fn, void *ctx)
{
	struct pc_shard_at at = pc_shard_find_locked(shard, vol_blk);
	uint32_t to = at.leaf_idx; /* leaves before it are done and stay; the root is closed up once, at the end */
	size_t behind;
	enum walk_end end = WALK_GO_ON;

	for (; end == WALK_GO_ON && at.leaf_idx < shard->leaf_nr; at.leaf_idx++, at.slot_idx = 0) {
		uint32_t old_nr = shard->refs[at.leaf_idx].nr;
		struct pc_leaf_ref ref;

		end = walk_leaf(shard, at, end_blk, fn, ctx);
		ref = shard->refs[at.leaf_idx];
		if (ref.nr < old_nr && to > 0 && shard->refs[to - 1].nr + ref.nr <= PC_LEAF_NR / 2) {
			struct pc_leaf_ref *prev = &shard->refs[to - 1];

			memcpy(&prev->leaf->ext[prev->nr], ref.leaf->ext, ref.nr * sizeof(struct pc_extent));
			prev->nr += ref.nr;
			ref.nr = 0;
		}
		if (ref.nr == 0) {
			leaf_put(shard, ref.leaf);
			continue;
		}
		shard->refs[to] = ref;
		update_first(shard, to);
		to++;
	}
	behind = shard->leaf_nr - at.leaf_idx;
	if (to != at.leaf_idx) {
		memmove(&shard->first_blks[to], &shard->first_blks[at.leaf_idx], behind * sizeof(*shard->first_blks));
		memmove(&shard->refs[to], &shard->refs[at.leaf_idx], behind * sizeof(*shard->refs));
		shard->leaf_nr = to + (uint32_t)behind;
	}
	return end != WALK_STOPPED;
}

void pc_shard_cancel_fills_slow_locked(struct pc_shard *shard, uint64_t vol_blk, uint64_t len_blk)
{
	for (struct pc_fill *fill = shard->fills; fill != NULL; fill = fill->next) {
		if (pc_overlap_classify(vol_blk, len_blk, fill->vol_blk, fill->len_blk) != PC_OVERLAP_NONE)
			fill->cancelled = true;
	}
}

/* ---- check ----------------------------------------------------------------------------------------------------------- */

static const char *check_extent(const struct pc_extent *extent)
{
	uint32_t head_blk = extent->geom & 7u;
	uint32_t tail_blk = extent->geom >> 3;
	uint32_t type = extent->flags & PC_EXT_TYPE_MASK;

	if (extent->len_blk == 0)
		return "an extent is empty";
	if (extent->vol_blk >> 48 != (extent_end(extent) - 1) >> 48)
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

static const char *check_memory(const struct pc_shard *shard)
{
	uint64_t dram_bytes = shard->root_cap > 0 ? root_bytes(shard->root_cap) : 0;
	uint64_t slab_leaf_nr = 0;
	uint64_t free_nr = 0;

	for (const struct pc_slab *slab = shard->slabs; slab != NULL; slab = slab->next) {
		slab_leaf_nr += slab->leaf_nr;
		dram_bytes += sizeof(*slab) + slab->leaf_nr * sizeof(union pc_leaf);
	}
	for (const union pc_leaf *leaf = shard->free_list; leaf != NULL && free_nr <= slab_leaf_nr;
	     leaf = leaf->next_free)
		free_nr++;
	if (free_nr != shard->free_nr)
		return "the free list and its count differ";
	if (slab_leaf_nr != free_nr + shard->leaf_nr)
		return "a leaf is lost";
	if (dram_bytes != atomic_load_explicit(&shard->dram_bytes, memory_order_relaxed))
		return "dram_bytes is wrong";
	return NULL;
}

const char *pc_shard_check_locked(const struct pc_shard *shard)
{
	uint64_t extent_nr = 0;
	uint64_t prev_end = 0;
	const char *text;

	if (shard->leaf_nr > shard->root_cap)
		return "the root is overfull";
	for (uint32_t l = 0; l < shard->leaf_nr; l++) {
		const struct pc_leaf_ref *ref = &shard->refs[l];

		if (ref->nr == 0 || ref->nr > PC_LEAF_NR)
			return "a leaf is empty or overfull";
		if (ref->leaf->ext[0].vol_blk != shard->first_blks[l])
			return "the root has another first block than its leaf";
		for (uint32_t i = 0; i < ref->nr; i++) {
			text = check_extent(&ref->leaf->ext[i]);
			if (text != NULL)
				return text;
			if (ref->leaf->ext[i].vol_blk < prev_end)
				return "extents overlap or are out of order";
			prev_end = extent_end(&ref->leaf->ext[i]);
		}
		extent_nr += ref->nr;
	}
	if (extent_nr != atomic_load_explicit(&shard->extent_nr, memory_order_relaxed))
		return "extent_nr is wrong";
	return check_memory(shard);
}
