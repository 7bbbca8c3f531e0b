/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A batch of records goes into the index, one shard at a time: sorted by first block, merged by index/build.c. What a record displaces is counted by the code that serves live writes.
 *
 * Sorted are words of 8 bytes: the block above, the number of the record below, which is its rank by position. Equal blocks thus stay in order of positions.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sort.h"
#include "recovery/gather.h"

#define DIGIT_BITS_MAX 11u

_Static_assert(PC_GATHER_RECORDS <= PC_MERGE_IDX_MASK + 1, "the number of a record fits");

int pc_sorter_init(struct pc_sorter *sorter, uint32_t cap)
{
	sorter->keys[0] = malloc(2 * (size_t)cap * sizeof(uint64_t));
	if (!sorter->keys[0])
		return -ENOMEM;
	sorter->keys[1] = sorter->keys[0] + cap;
	return 0;
}

void pc_sorter_fini(struct pc_sorter *sorter)
{
	free(sorter->keys[0]);
	sorter->keys[0] = NULL;
}

/* ---- references -------------------------------------------------------------------------------------------------------- */

/* What records say of one segment, added up: neighbours in the log are neighbours in a segment. */
struct tally {
	uint32_t seg_id;
	uint32_t live_blk;
	uint32_t dirty_blk;
};
#define TALLY_NR 8u

static void post(struct pcache *cache, uint32_t shard_idx, struct tally *tally)
{
	if (!tally->live_blk)
		return;
	pc_segmap_ref(&cache->map, tally->seg_id, tally->live_blk);
	pc_segmap_dirty(&cache->map, tally->seg_id, shard_idx, (int32_t)tally->dirty_blk);
	tally->live_blk = tally->dirty_blk = 0;
}

/* The references of all records are taken before any extent gives way to one. */
static void take_references(struct pcache *cache, uint32_t shard_idx, const struct pc_extent *recs, uint32_t nr)
{
	struct tally tallies[TALLY_NR] = { 0 };
	uint64_t zero_blk = 0;

	for (uint32_t i = 0; i < nr; i++) {
		const struct pc_extent *rec = &recs[i];
		struct tally *tally = &tallies[rec->seg_id % TALLY_NR];

		if (rec->flags & PC_REC_ERASE)
			continue;
		if ((rec->flags & PC_EXT_TYPE_MASK) != PC_EXT_DATA) {
			zero_blk += rec->flags & PC_EXT_DIRTY ? rec->len_blk : 0;
			continue;
		}
		if (tally->seg_id != rec->seg_id) {
			post(cache, shard_idx, tally);
			tally->seg_id = rec->seg_id;
		}
		tally->live_blk += rec->len_blk;
		tally->dirty_blk += rec->flags & PC_EXT_DIRTY ? rec->len_blk : 0;
	}
	for (uint32_t i = 0; i < TALLY_NR; i++)
		post(cache, shard_idx, &tallies[i]);
	if (zero_blk)
		atomic_fetch_add_explicit(&cache->dirty_zero_blk, zero_blk, memory_order_relaxed);
}

/* ---- order --------------------------------------------------------------------------------------------------------------- */

/*
 * Bits of a block that are the same in all records carry no order: the bits above the highest that differs, and the longest such run below it. A shard has every 64th
 * stripe, so there is a run of 6.
 */
struct squeeze {
	uint32_t hole_at, hole_len; /* bits left out */
	uint32_t bit_nr; /* bits that are left */
};

static struct squeeze squeeze_of(uint64_t diff)
{
	struct squeeze squeeze = { .bit_nr = 64 - (uint32_t)__builtin_clzll(diff) };
	uint32_t run = 0;

	for (uint32_t bit = 0; bit < squeeze.bit_nr; bit++) {
		run = diff >> bit & 1 ? 0 : run + 1;
		if (run > squeeze.hole_len) {
			squeeze.hole_len = run;
			squeeze.hole_at = bit + 1 - run;
		}
	}
	squeeze.bit_nr -= squeeze.hole_len;
	return squeeze;
}

static uint64_t squeezed(const struct squeeze *squeeze, uint64_t blk)
{
	uint64_t low = blk & ((UINT64_C(1) << squeeze->hole_at) - 1);

	return blk >> squeeze->hole_len >> squeeze->hole_at << squeeze->hole_at | low;
}

static void sort_digit(const uint64_t *from, uint64_t *to, uint32_t nr, uint32_t shift, uint32_t bits)
{
	uint32_t at[1u << DIGIT_BITS_MAX];
	uint64_t mask = (UINT64_C(1) << bits) - 1;
	uint32_t sum = 0;

	memset(at, 0, sizeof(at[0]) << bits);
	for (uint32_t i = 0; i < nr; i++)
		at[from[i] >> shift & mask]++;
	for (uint32_t digit = 0; digit <= mask; digit++) {
		uint32_t count = at[digit];

		at[digit] = sum;
		sum += count;
	}
	for (uint32_t i = 0; i < nr; i++)
		to[at[from[i] >> shift & mask]++] = from[i];
}

/* The records by first block; the low bits of each word are the number of the record. */
static uint64_t *sort_records(struct pc_sorter *sorter, const struct pc_extent *recs, uint32_t nr)
{
	uint64_t *keys = sorter->keys[0], *other = sorter->keys[1], *swap;
	uint64_t diff = 0;
	struct squeeze squeeze;
	uint32_t digit_bits;

	for (uint32_t i = 0; i < nr; i++)
		diff |= recs[i].vol_blk ^ recs[0].vol_blk;
	if (nr < PC_SORT_SHORT_NR || diff == 0) {
		for (uint32_t i = 0; i < nr; i++)
			keys[i] = recs[i].vol_blk << PC_MERGE_IDX_BITS | i;
		if (diff)
			pc_sort_short(keys, nr);
		return keys;
	}
	squeeze = squeeze_of(diff);
	for (uint32_t i = 0; i < nr; i++)
		keys[i] = squeezed(&squeeze, recs[i].vol_blk) << PC_MERGE_IDX_BITS | i;
	digit_bits = PC_DIV_UP(squeeze.bit_nr, PC_DIV_UP(squeeze.bit_nr, DIGIT_BITS_MAX));
	for (uint32_t bit = 0; bit < squeeze.bit_nr; bit += digit_bits) {
		sort_digit(keys, other, nr, PC_MERGE_IDX_BITS + bit, digit_bits);
		swap = keys;
		keys = other;
		other = swap;
	}
	return keys;
}

/* ---- application --------------------------------------------------------------------------------------------------------- */

struct shard_apply {
	struct pc_apply apply;
	const struct pc_batch *batch;
};

/* The last flush mark before pos. */
static uint64_t epoch_at(const struct pc_batch *batch, uint64_t pos)
{
	uint32_t from = 0, to = batch->epoch_nr;

	while (from < to) {
		uint32_t mid = from + (to - from) / 2;

		if (batch->epochs[mid] < pos)
			from = mid + 1;
		else
			to = mid;
	}
	return from ? batch->epochs[from - 1] : 0;
}

static void replaced(void *ctx, const struct pc_extent *piece, uint64_t by_pos)
{
	struct shard_apply *shard = ctx;

	shard->apply.pos = by_pos;
	/* Only a dirty piece asks for the epoch of what displaces it. */
	if (piece->flags & PC_EXT_DIRTY)
		shard->apply.epoch_pos = epoch_at(shard->batch, by_pos);
	pc_apply_displaced(&shard->apply, piece);
}

static int apply_shard(struct pc_gather *gather, struct pc_batch *batch, uint32_t shard_idx, struct pc_sorter *sorter)
{
	struct shard_apply shard = {
		.apply = { .cache = gather->cache, .share_idx = shard_idx },
		.batch = batch,
	};
	struct pc_merge run = {
		.recs = batch->recs + (size_t)shard_idx * gather->cap,
		.nr = batch->nr[shard_idx],
		.replaced = replaced,
		.ctx = &shard,
	};
	int rc;

	take_references(gather->cache, shard_idx, run.recs, run.nr);
	run.order = sort_records(sorter, run.recs, run.nr);
	pc_index_lock(gather->cache->index, UINT64_C(1) << shard_idx);
	rc = pc_index_merge_locked(gather->cache->index, shard_idx, &run);
	pc_index_unlock(gather->cache->index, UINT64_C(1) << shard_idx);
	return rc;
}

void pc_batch_apply(struct pc_gather *gather, struct pc_batch *batch, struct pc_sorter *sorter)
{
	for (;;) {
		uint32_t shard_idx = atomic_fetch_add_explicit(&batch->next_shard, 1, memory_order_acquire);
		int rc = 0;

		if (shard_idx >= gather->shard_nr)
			return;
		if (batch->nr[shard_idx] && atomic_load_explicit(&batch->rc, memory_order_relaxed) == 0)
			rc = apply_shard(gather, batch, shard_idx, sorter);
		if (rc)
			atomic_store_explicit(&batch->rc, rc, memory_order_relaxed);
		/* Order of memory: who sees all shards done sees what was done. */
		atomic_fetch_add_explicit(&batch->done_nr, 1, memory_order_release);
	}
}
