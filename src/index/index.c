/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The index: stripes, shards and their locks.
 *
 * Stripe s is in shard s % shard_nr, so a sequential range spreads over all shards. Here ranges are cut at stripe borders and handed to the
 * shard in charge; what happens inside of a shard is index/shard. Segments, references and the log are the caller's.
 *
 * Locks: a request takes the mutexes of all its shards in ascending order (PC_RANK_SHARD, sub-rank shard number) and drops them
 * together. pc_index_check takes them one at a time, so it may run beside anything, but sees each shard at another moment.
 * The sums of extents and bytes are read without a lock.
 */
#include "index/index.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/sched.h"
#include "index/shard.h"

struct pc_index {
	uint32_t shard_nr;
	uint32_t stripe_shift; /* log2 of stripe_blk */
	bool shard_nr_is_pow2; /* then a mask does for the modulo */
	struct pc_pack pack;
	struct pc_arena arena;
	struct pc_shard shards[];
};

/* ---- life ---------------------------------------------------------------------------------------------------------- */

/* Regions of a volume that a shard may have extents in, beyond the first. */
static uint32_t more_regions(const struct pc_index_params *params)
{
	return params->volume_blk == 0 ? 0 : (uint32_t)((params->volume_blk - 1) >> 32);
}

static int init_shards(struct pc_index *index, const struct pc_index_params *params)
{
	struct pc_shard_params shard_params = { .more_regions = more_regions(params),
						.pack = &index->pack,
						.arena = &index->arena };

	for (uint32_t i = 0; i < index->shard_nr; i++) {
		int rc;

		shard_params.shard_idx = i;
		rc = pc_shard_init(&index->shards[i], &shard_params);
		if (rc == 0)
			continue;
		while (i-- > 0)
			pc_shard_fini(&index->shards[i]);
		return rc;
	}
	return 0;
}

int pc_index_new(const struct pc_index_params *params, struct pc_index **out_index)
{
	struct pc_index *index;
	struct pc_pack pack;
	int rc;

	if (params->shard_nr < 1 || params->shard_nr > PC_SHARD_NR_MAX || !pc_is_pow2(params->stripe_blk))
		return -EINVAL;
	rc = pc_pack_init(&pack, params);
	if (rc != 0)
		return rc;
	index = aligned_alloc(PC_CACHE_LINE_BYTES, sizeof(*index) + params->shard_nr * sizeof(struct pc_shard));
	if (index == NULL)
		return -ENOMEM;
	index->shard_nr = params->shard_nr;
	index->shard_nr_is_pow2 = pc_is_pow2(params->shard_nr);
	index->stripe_shift = (uint32_t)__builtin_ctz(params->stripe_blk);
	index->pack = pack;
	rc = pc_arena_init(&index->arena);
	if (rc != 0)
		goto free_index;
	rc = init_shards(index, params);
	if (rc != 0)
		goto fini_arena;
	*out_index = index;
	return 0;

fini_arena:
	pc_arena_fini(&index->arena);
free_index:
	free(index);
	return rc;
}

void pc_index_free(struct pc_index *index)
{
	if (index == NULL)
		return;
	for (uint32_t i = 0; i < index->shard_nr; i++)
		pc_shard_fini(&index->shards[i]);
	pc_arena_fini(&index->arena);
	free(index);
}

struct pc_shard *pc_index_shards(struct pc_index *index)
{
	return index->shards;
}

/* ---- stripes and locks ----------------------------------------------------------------------------------------------- */

uint32_t pc_index_shard_idx(const struct pc_index *index, uint64_t vol_blk)
{
	uint64_t stripe = vol_blk >> index->stripe_shift;

	return (uint32_t)(index->shard_nr_is_pow2 ? stripe & (index->shard_nr - 1) : stripe % index->shard_nr);
}

static struct pc_shard *shard_of(struct pc_index *index, uint64_t vol_blk)
{
	return &index->shards[pc_index_shard_idx(index, vol_blk)];
}

uint64_t pc_index_stripe_end(const struct pc_index *index, uint64_t vol_blk)
{
	return ((vol_blk >> index->stripe_shift) + 1) << index->stripe_shift;
}

/* What of [vol_blk, end_blk) lies in the first stripe. */
static uint64_t first_part_len(const struct pc_index *index, uint64_t vol_blk, uint64_t end_blk)
{
	return PC_MIN(pc_index_stripe_end(index, vol_blk), end_blk) - vol_blk;
}

uint64_t pc_index_mask(const struct pc_index *index, uint64_t vol_blk, uint64_t len_blk)
{
	uint64_t all = index->shard_nr == 64 ? UINT64_MAX : (UINT64_C(1) << index->shard_nr) - 1;
	uint64_t stripe_nr;
	uint64_t mask = 0;

	if (len_blk == 0)
		return 0;
	stripe_nr = ((vol_blk + len_blk - 1) >> index->stripe_shift) - (vol_blk >> index->stripe_shift) + 1;
	if (stripe_nr >= index->shard_nr)
		return all;
	for (uint32_t idx = pc_index_shard_idx(index, vol_blk); stripe_nr > 0; stripe_nr--) {
		mask |= UINT64_C(1) << idx;
		idx = idx + 1 == index->shard_nr ? 0 : idx + 1;
	}
	return mask;
}

void pc_index_lock(struct pc_index *index, uint64_t mask)
{
	/* Others may have had these lines: let them come together, not one after the other behind locked instructions. */
	for (uint64_t rest = mask & (mask - 1); rest != 0; rest &= rest - 1)
		__builtin_prefetch(&index->shards[__builtin_ctzll(rest)].lock, 1);
	for (; mask != 0; mask &= mask - 1)
		pc_spin_lock(&index->shards[__builtin_ctzll(mask)].lock);
}

void pc_index_unlock(struct pc_index *index, uint64_t mask)
{
	for (; mask != 0; mask &= mask - 1)
		pc_spin_unlock(&index->shards[__builtin_ctzll(mask)].lock);
}

/* ---- the verbs --------------------------------------------------------------------------------------------------------- */

int pc_index_reserve_locked(struct pc_index *index, uint64_t mask, uint32_t piece_nr)
{
	int rc;

	for (; mask != 0; mask &= mask - 1) {
		rc = pc_shard_reserve_locked(&index->shards[__builtin_ctzll(mask)], piece_nr);
		if (rc != 0)
			return rc;
	}
	return 0;
}

void pc_index_insert_locked(struct pc_index *index, const struct pc_extent *extent, pc_displaced_fn displaced,
			    void *ctx)
{
	uint64_t end_blk = extent->vol_blk + extent->len_blk;
	uint64_t part_len;

	assert(extent->len_blk > 0);
	if (end_blk <= pc_index_stripe_end(index, extent->vol_blk)) {
		pc_shard_replace_locked(shard_of(index, extent->vol_blk), extent->vol_blk, extent->len_blk, extent,
					displaced, ctx);
		return;
	}
	for (uint64_t vol_blk = extent->vol_blk; vol_blk < end_blk; vol_blk += part_len) {
		struct pc_extent part;

		part_len = first_part_len(index, vol_blk, end_blk);
		part = pc_extent_part(extent, vol_blk, (uint32_t)part_len);
		pc_shard_replace_locked(shard_of(index, vol_blk), vol_blk, part_len, &part, displaced, ctx);
	}
}

void pc_index_insert_run_locked(struct pc_index *index, const struct pc_extent_run *run, pc_displaced_fn displaced,
				void *ctx)
{
	struct pc_extent extent;
	struct pc_extent_run rest = { &extent, run->crcs, run->nr };

	pc_extent_copy(&extent, run->first);
	while (rest.nr > 0) {
		uint64_t room_blk = pc_index_stripe_end(index, extent.vol_blk) - extent.vol_blk;
		struct pc_extent_run part = { &extent, rest.crcs, 0 };

		part.nr = (uint32_t)PC_MIN(room_blk / extent.len_blk, (uint64_t)rest.nr);
		if (part.nr != 0) {
			pc_shard_replace_run_locked(shard_of(index, extent.vol_blk), &part, displaced, ctx);
		} else {
			/* Across the border. */
			extent.crc = rest.crcs != NULL ? *rest.crcs : 0;
			pc_index_insert_locked(index, &extent, displaced, ctx);
			part.nr = 1;
		}
		pc_extent_run_skip(&rest, &extent, part.nr);
	}
}

void pc_index_erase_locked(struct pc_index *index, uint64_t vol_blk, uint64_t len_blk, pc_displaced_fn displaced,
			   void *ctx)
{
	uint64_t end_blk = vol_blk + len_blk;
	uint64_t part_len;

	for (; vol_blk < end_blk; vol_blk += part_len) {
		part_len = first_part_len(index, vol_blk, end_blk);
		pc_shard_replace_locked(shard_of(index, vol_blk), vol_blk, part_len, NULL, displaced, ctx);
	}
}

int pc_index_merge_locked(struct pc_index *index, uint32_t shard_idx, const struct pc_merge *merge)
{
	return pc_shard_merge_locked(&index->shards[shard_idx], merge);
}

uint32_t pc_index_lookup_locked(struct pc_index *index, uint64_t vol_blk, uint64_t len_blk, struct pc_extent *out,
				uint32_t max)
{
	uint64_t end_blk = vol_blk + len_blk;
	uint64_t part_len;
	uint32_t nr = 0;

	for (; vol_blk < end_blk && nr < max; vol_blk += part_len) {
		part_len = first_part_len(index, vol_blk, end_blk);
		nr += pc_shard_lookup_locked(shard_of(index, vol_blk), vol_blk, vol_blk + part_len, out + nr, max - nr);
	}
	return nr;
}

bool pc_index_peek(struct pc_index *index, uint64_t vol_blk, uint64_t len_blk, struct pc_extent *out, uint32_t max,
		   struct pc_index_peek *out_peek)
{
	const struct pc_shard *shard = shard_of(index, vol_blk);
	bool whole;

	out_peek->lock = &shard->lock;
	out_peek->version = pc_spin_version(&shard->lock);
	if (out_peek->version & 1)
		return false;
	PC_YIELD(PEEK_BEGUN);
	whole = pc_shard_peek(shard, vol_blk, vol_blk + len_blk, out, max, &out_peek->nr);
	PC_YIELD(PEEK_FOUND);
	return whole;
}

bool pc_index_peek_one(struct pc_index *index, uint64_t vol_blk, uint64_t len_blk, struct pc_index_hit *out,
		       struct pc_index_peek *out_peek)
{
	const struct pc_shard *shard = shard_of(index, vol_blk);
	bool found;

	out_peek->lock = &shard->lock;
	out_peek->version = pc_spin_version(&shard->lock);
	if (out_peek->version & 1)
		return false;
	PC_YIELD(PEEK_BEGUN);
	found = pc_shard_peek_one(shard, vol_blk, len_blk, out);
	PC_YIELD(PEEK_FOUND);
	return found;
}

void pc_index_prefetch(const struct pc_index *index, uint64_t vol_blk)
{
	pc_shard_prefetch(&index->shards[pc_index_shard_idx(index, vol_blk)], vol_blk);
}

void pc_index_prefetch_locked(struct pc_index *index, uint64_t vol_blk)
{
	pc_shard_prefetch_locked(shard_of(index, vol_blk), vol_blk);
}

void pc_index_prefetch_node_locked(struct pc_index *index, uint64_t vol_blk)
{
	pc_shard_prefetch_node_locked(shard_of(index, vol_blk), vol_blk);
}

void pc_index_walk_range_locked(struct pc_index *index, uint64_t vol_blk, uint64_t len_blk, pc_walk_fn fn, void *ctx)
{
	uint64_t end_blk = vol_blk + len_blk;
	uint64_t part_len;

	for (; vol_blk < end_blk; vol_blk += part_len) {
		part_len = first_part_len(index, vol_blk, end_blk);
		if (!pc_shard_walk_locked(shard_of(index, vol_blk), vol_blk, vol_blk + part_len, fn, ctx))
			return;
	}
}

void pc_index_walk_shard_from_locked(struct pc_index *index, uint32_t shard_idx, uint64_t from_vol_blk, pc_walk_fn fn,
				     void *ctx)
{
	pc_shard_walk_locked(&index->shards[shard_idx], from_vol_blk, UINT64_MAX, fn, ctx);
}

void pc_index_walk_shard_locked(struct pc_index *index, uint32_t shard_idx, pc_walk_fn fn, void *ctx)
{
	pc_index_walk_shard_from_locked(index, shard_idx, 0, fn, ctx);
}

uint32_t pc_index_scan_locked(struct pc_index *index, uint32_t shard_idx, struct pc_index_scan *scan,
			      struct pc_extent *out, uint32_t max)
{
	return pc_shard_scan_locked(&index->shards[shard_idx], scan, out, max);
}

/* ---- fills --------------------------------------------------------------------------------------------------------------- */

void pc_index_fill_list_locked(struct pc_index *index, struct pc_fill *fill)
{
	struct pc_shard *shard = shard_of(index, fill->vol_blk);

	assert(fill->len_blk > 0 && fill->vol_blk + fill->len_blk <= pc_index_stripe_end(index, fill->vol_blk));
	fill->cancelled = false;
	fill->next = shard->fills;
	shard->fills = fill;
}

void pc_index_fill_unlist_locked(struct pc_index *index, struct pc_fill *fill)
{
	struct pc_fill **link = &shard_of(index, fill->vol_blk)->fills;

	while (*link != fill) {
		assert(*link != NULL);
		link = &(*link)->next;
	}
	*link = fill->next;
	fill->next = NULL;
}

bool pc_index_held_locked(struct pc_index *index, uint64_t mask, uint64_t vol_blk, uint64_t len_blk)
{
	for (; mask != 0; mask &= mask - 1) {
		const struct pc_shard *shard = &index->shards[__builtin_ctzll(mask)];

		for (const struct pc_fill *fill = shard->fills; fill != NULL; fill = fill->next)
			if (fill->is_hold &&
			    pc_overlap_classify(vol_blk, len_blk, fill->vol_blk, fill->len_blk) != PC_OVERLAP_NONE)
				return true;
	}
	return false;
}

/* ---- figures and check --------------------------------------------------------------------------------------------------- */

uint32_t pc_index_shard_nr(const struct pc_index *index)
{
	return index->shard_nr;
}

uint64_t pc_index_extent_nr(struct pc_index *index)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < index->shard_nr; i++)
		sum += atomic_load_explicit(&index->shards[i].extent_nr, memory_order_relaxed);
	return sum;
}

uint64_t pc_index_dram_bytes(struct pc_index *index)
{
	uint64_t sum = sizeof(*index) + index->shard_nr * sizeof(struct pc_shard) + pc_arena_dram_bytes(&index->arena);

	for (uint32_t i = 0; i < index->shard_nr; i++)
		sum += atomic_load_explicit(&index->shards[i].root_bytes, memory_order_relaxed);
	return sum;
}

static const char *check_stripes(const struct pc_index *index, uint32_t shard_idx)
{
	const struct pc_shard *shard = &index->shards[shard_idx];
	struct pc_shard_at at = { 0, 0, 0 };

	for (; !pc_shard_is_end(shard, at); at.slot_idx++, at = pc_shard_settle(shard, at)) {
		struct pc_extent extent = pc_shard_get(shard, at);

		if (pc_index_shard_idx(index, extent.vol_blk) != shard_idx)
			return "an extent is in another shard's structure";
		if (extent.vol_blk + extent.len_blk > pc_index_stripe_end(index, extent.vol_blk))
			return "an extent crosses a stripe";
	}
	for (const struct pc_fill *fill = shard->fills; fill != NULL; fill = fill->next) {
		if (pc_index_shard_idx(index, fill->vol_blk) != shard_idx)
			return "a fill is in another shard's list";
	}
	return NULL;
}

const char *pc_index_check(struct pc_index *index)
{
	const char *text = NULL;

	for (uint32_t i = 0; i < index->shard_nr && text == NULL; i++) {
		pc_spin_lock(&index->shards[i].lock);
		text = pc_shard_check_locked(&index->shards[i]);
		if (text == NULL)
			text = check_stripes(index, i);
		pc_spin_unlock(&index->shards[i].lock);
	}
	return text;
}

/* ---- sweep ------------------------------------------------------------------------------------------------------------- */

#define SWEEP_VISIT_MAX 32u /* extents looked at in one hold of a lock: well under a microsecond */

struct stretch {
	const struct pc_index_sweep *sweep;
	uint32_t visited_nr;
	uint64_t resume_blk;
	bool at_end; /* of the shard */
};

static enum pc_walk sweep_visit(void *ctx, struct pc_extent *extent)
{
	struct stretch *stretch = ctx;
	uint64_t vol_blk = extent->vol_blk;
	enum pc_walk walk = PC_WALK_STOP;

	if (stretch->visited_nr < SWEEP_VISIT_MAX)
		walk = stretch->sweep->fn(stretch->sweep->ctx, extent);
	if (walk == PC_WALK_STOP) {
		stretch->resume_blk = vol_blk;
		stretch->at_end = false;
	} else {
		stretch->visited_nr++;
	}
	return walk;
}

static int sweep_stretch(struct pc_index *index, uint32_t shard_idx, uint64_t from_blk, struct stretch *stretch)
{
	const struct pc_index_sweep *sweep = stretch->sweep;
	int rc = 0;

	stretch->visited_nr = 0;
	stretch->at_end = true;
	pc_index_lock(index, UINT64_C(1) << shard_idx);
	pc_index_walk_shard_from_locked(index, shard_idx, from_blk, sweep_visit, stretch);
	if (sweep->finish_locked != NULL)
		rc = sweep->finish_locked(sweep->ctx, shard_idx, from_blk, stretch->visited_nr);
	pc_index_unlock(index, UINT64_C(1) << shard_idx);
	if (rc == 0 && sweep->between != NULL)
		rc = sweep->between(sweep->ctx);
	return rc;
}

int pc_index_sweep(struct pc_index *index, const struct pc_index_sweep *sweep)
{
	uint64_t resume_blks[PC_SHARD_NR_MAX] = { 0 };
	uint64_t left = index->shard_nr == 64 ? UINT64_MAX : (UINT64_C(1) << index->shard_nr) - 1;

	/* Round and round the shards: whoever waits for one gets it while the sweep is at the others. */
	while (left != 0) {
		for (uint32_t i = 0; i < index->shard_nr; i++) {
			struct stretch stretch = { .sweep = sweep };
			int rc;

			if (!(left >> i & 1))
				continue;
			/* What the next one begins with comes while this one is under way, and not under its lock. */
			if (i + 1 < index->shard_nr)
				pc_shard_prefetch(&index->shards[i + 1], resume_blks[i + 1]);
			rc = sweep_stretch(index, i, resume_blks[i], &stretch);
			if (rc != 0)
				return rc;
			resume_blks[i] = stretch.resume_blk;
			if (stretch.at_end)
				left &= ~(UINT64_C(1) << i);
		}
	}
	return 0;
}
