/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Many changes of a shard at once give what the same changes one by one give: the same extents, and of each block the same versions displaced by the same records. Two indexes live the same random
 * lives; one gets its records by pc_index_merge_locked, the other in order of positions by insertions and erasures. Between merges both get single changes as live writes make them, so
 * that what was built has to serve as well.
 */
#include "model.h"

#include "index/shard.h"

#define REC_MAX 3000u
#define SHARD_NR 2u
#define STRIPE_BLK 64u

struct sum {
	uint64_t hash, blk_nr;
	uint64_t by_pos; /* one by one: of the record that is applied */
};

struct twins {
	struct pc_index *merged, *single;
	struct pc_index_params params;
	struct sum merged_sum, single_sum;
	uint64_t seed, pos, base, space_blk;
	uint64_t merge_nr;
	struct pc_extent recs[SHARD_NR][REC_MAX];
	uint64_t order[REC_MAX];
	uint32_t nr[SHARD_NR];
	struct pc_extent walked[2][1u << 16];
	uint32_t walked_nr[2];
};
static struct twins twins;

static uint64_t mix(uint64_t x)
{
	return rnd(&x);
}

/* A version of a block leaves; the order in which they do does not matter. */
static void add_piece(struct sum *sum, const struct pc_extent *piece, uint64_t by_pos)
{
	bool is_data = (piece->flags & PC_EXT_TYPE_MASK) == PC_EXT_DATA;

	assert_true(piece->len_blk > 0 && piece->pos < by_pos);
	for (uint32_t i = 0; i < piece->len_blk; i++) {
		uint64_t place = is_data ? ((uint64_t)piece->seg_id << 16 | piece->seg_blk) + i : 0;

		sum->hash += mix(piece->vol_blk + i + mix(piece->pos + mix(by_pos + mix(place + piece->flags))));
		sum->hash += is_data ? mix(piece->crc + mix(piece->seg_blk - (piece->geom & 7))) : 0;
	}
	sum->blk_nr += piece->len_blk;
}

static void merged_replaced(void *ctx, const struct pc_extent *piece, uint64_t by_pos)
{
	add_piece(ctx, piece, by_pos);
}

static void single_displaced(void *ctx, const struct pc_extent *piece)
{
	struct sum *sum = ctx;

	add_piece(sum, piece, sum->by_pos);
}

static void single_apply(struct pc_index *index, const struct pc_extent *rec, struct sum *sum)
{
	uint64_t mask = pc_index_mask(index, rec->vol_blk, rec->len_blk);

	sum->by_pos = rec->pos;
	pc_index_lock(index, mask);
	assert_int_equal(pc_index_reserve_locked(index, mask, 1), 0);
	if (rec->flags & PC_REC_ERASE)
		pc_index_erase_locked(index, rec->vol_blk, rec->len_blk, single_displaced, sum);
	else
		pc_index_insert_locked(index, rec, single_displaced, sum);
	pc_index_unlock(index, mask);
}

static enum pc_walk note(void *ctx, struct pc_extent *extent)
{
	uint32_t i = *(const uint32_t *)ctx;

	assert_true(twins.walked_nr[i] < PC_ARRAY_NR(twins.walked[i]));
	twins.walked[i][twins.walked_nr[i]++] = *extent;
	return PC_WALK_KEEP;
}

static void walk(struct pc_index *index, uint32_t i)
{
	twins.walked_nr[i] = 0;
	for (uint32_t s = 0; s < SHARD_NR; s++) {
		pc_index_lock(index, UINT64_C(1) << s);
		pc_index_walk_shard_locked(index, s, note, &i);
		pc_index_unlock(index, UINT64_C(1) << s);
	}
}

static void assert_same(void)
{
	const char *text = pc_index_check(twins.merged);

	if (text)
		fail_msg("what was merged: %s", text);
	assert_null(pc_index_check(twins.single));
	walk(twins.merged, 0);
	walk(twins.single, 1);
	assert_int_equal(twins.walked_nr[0], twins.walked_nr[1]);
	assert_int_equal(pc_index_extent_nr(twins.merged), twins.walked_nr[0]);
	assert_memory_equal(twins.walked[0], twins.walked[1], twins.walked_nr[0] * sizeof(twins.walked[0][0]));
	assert_int_equal(twins.merged_sum.blk_nr, twins.single_sum.blk_nr);
	assert_true(twins.merged_sum.hash == twins.single_sum.hash);
}

static uint64_t below(uint64_t nr)
{
	return rnd(&twins.seed) % nr;
}

enum mix { MIX_FIXED, MIX_HOT, MIX_CHUNKS, MIX_ANY, MIX_RUNS, MIX_NR };

/* A record at the next position. FIXED: aligned ranges of one length; HOT: few of them; CHUNKS: data that overlaps; ANY: zeroes, poison and erasures of all lengths too; RUNS: one behind the other. */
static struct pc_extent make_rec(enum mix mix)
{
	uint64_t word = rnd(&twins.seed), space = mix == MIX_HOT ? twins.space_blk / 16 : twins.space_blk;
	struct pc_extent rec = { .pos = twins.pos += 1 + (word & 3) };
	uint64_t at = below(space);

	rec.len_blk = mix == MIX_CHUNKS || mix == MIX_ANY ? 1 + (uint32_t)below(8) : 4;
	if (mix == MIX_RUNS)
		at = twins.pos / 4 * 4;
	else if (mix != MIX_CHUNKS && mix != MIX_ANY)
		at = at / 4 * 4;
	at %= twins.space_blk;
	if (word >> 8 & 1)
		rec.flags |= PC_EXT_DIRTY;
	if (mix == MIX_ANY && (word >> 9 & 3) == 0) {
		static const uint8_t bare[] = { PC_EXT_ZERO, PC_EXT_POISON, PC_EXT_ZERO | PC_EXT_DISCARD,
						PC_EXT_ZERO | PC_REC_ERASE };

		rec.flags |= bare[word >> 11 & 3];
		rec.len_blk = 1 + (uint32_t)below(STRIPE_BLK);
	} else if ((word >> 13 & 15) == 0) {
		rec.flags |= PC_EXT_ZERO | PC_REC_ERASE;
	} else {
		uint32_t head = (uint32_t)below(9 - rec.len_blk), tail = (uint32_t)below(9 - rec.len_blk - head);

		rec.seg_id = (uint32_t)below(twins.params.segment_nr);
		rec.seg_blk = (uint16_t)(head + below(twins.params.segment_blk - 7));
		rec.geom = (uint8_t)(head | tail << 3);
		rec.crc = (uint32_t)(word >> 32);
	}
	rec.vol_blk = twins.base + at;
	rec.len_blk =
		(uint32_t)PC_MIN((uint64_t)rec.len_blk, pc_index_stripe_end(twins.merged, rec.vol_blk) - rec.vol_blk);
	if (rec.flags & PC_EXT_TYPE_MASK)
		return rec;
	rec.geom &= (uint8_t)~0x38u; /* what was cut off is behind it no more */
	return rec;
}

static const struct pc_extent *ordered;

static int by_block(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	if (ordered[x].vol_blk != ordered[y].vol_blk)
		return ordered[x].vol_blk < ordered[y].vol_blk ? -1 : 1;
	return x < y ? -1 : x > y;
}

static void merge(uint32_t shard_idx)
{
	struct pc_merge run = { .recs = twins.recs[shard_idx],
				.order = twins.order,
				.nr = twins.nr[shard_idx],
				.replaced = merged_replaced,
				.ctx = &twins.merged_sum };

	if (run.nr == 0)
		return;
	for (uint32_t i = 0; i < run.nr; i++)
		twins.order[i] = i;
	ordered = run.recs;
	qsort(twins.order, run.nr, sizeof(twins.order[0]), by_block);
	/* What is above the number of a record may be anything. */
	for (uint32_t i = 0; i < run.nr; i++)
		twins.order[i] |= run.recs[twins.order[i]].vol_blk << PC_MERGE_IDX_BITS;
	pc_index_lock(twins.merged, UINT64_C(1) << shard_idx);
	assert_int_equal(pc_index_merge_locked(twins.merged, shard_idx, &run), 0);
	pc_index_unlock(twins.merged, UINT64_C(1) << shard_idx);
	twins.nr[shard_idx] = 0;
	twins.merge_nr++;
}

static void merge_round(enum mix mix, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		struct pc_extent rec = make_rec(mix);
		uint32_t shard_idx = pc_index_shard_idx(twins.merged, rec.vol_blk);

		twins.recs[shard_idx][twins.nr[shard_idx]++] = rec;
		single_apply(twins.single, &rec, &twins.single_sum);
	}
	for (uint32_t s = 0; s < SHARD_NR; s++)
		merge(s);
}

static void live_round(uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		struct pc_extent rec = make_rec(MIX_ANY);

		single_apply(twins.merged, &rec, &twins.merged_sum);
		single_apply(twins.single, &rec, &twins.single_sum);
	}
}

static void twins_up(uint64_t seed, uint64_t base, uint64_t space_blk, uint64_t slot_nr)
{
	memset(&twins, 0, sizeof(twins));
	twins.seed = seed;
	twins.base = base;
	twins.space_blk = space_blk;
	twins.pos = seed % 2 ? 0 : UINT64_C(1) << 40;
	twins.params = model_params(SHARD_NR, STRIPE_BLK);
	twins.params.slot_nr = slot_nr;
	assert_int_equal(pc_index_new(&twins.params, &twins.merged), 0);
	assert_int_equal(pc_index_new(&twins.params, &twins.single), 0);
}

static void twins_down(void)
{
	pc_index_free(twins.merged);
	pc_index_free(twins.single);
}

static void same_as_one_by_one(void **state)
{
	/* The second base: extents on both sides of a border of regions. */
	static const uint64_t bases[] = { 0, (UINT64_C(1) << 32) - 4096, (UINT64_C(7) << 48) + 64 };
	static const uint64_t slot_nrs[] = { UINT64_C(1) << 21, UINT64_C(1) << 26, UINT64_C(1) << 42 };
	static const uint32_t rec_nrs[] = { 1, 2, 30, 300, 3000 };
	static const uint64_t spaces[] = { 64, 1024, 8192, 65536 };

	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		twins_up(seed, bases[seed % 3], spaces[seed / 3 % 4], slot_nrs[seed % 5 % 3]);
		for (uint32_t round = 0; round < 12; round++) {
			merge_round((enum mix)below(MIX_NR), rec_nrs[below(5)]);
			assert_same();
			if (below(3) == 0) {
				live_round((uint32_t)below(200));
				assert_same();
			}
		}
		assert_true(twins.merge_nr >= 12 && twins.merged_sum.blk_nr > 0);
		twins_down();
	}
}

/* Of all that a merge may meet at the border of two extents: every extent of up to 8 blocks, and every two records after it. */
static void all_borders(void **state)
{
	(void)state;
	twins_up(5, 0, 64, UINT64_C(1) << 26);
	for (uint32_t old = 0; old < 64; old++) {
		for (uint32_t new = 0; new < 4096; new ++) {
			const uint32_t vals[6] = { old % 8, old / 8, new % 8, new / 8 % 8, new / 64 % 8, new / 512 };
			struct pc_extent *recs = twins.recs[0];

			for (uint32_t i = 0; i < 3; i++) {
				recs[i] = (struct pc_extent){ .vol_blk = vals[2 * i],
							      .len_blk = vals[2 * i + 1] + 1,
							      .pos = ++twins.pos,
							      .flags = PC_EXT_DIRTY | PC_EXT_ZERO };
				single_apply(twins.single, &recs[i], &twins.single_sum);
				if (i == 0)
					single_apply(twins.merged, &recs[0], &twins.merged_sum);
			}
			recs[0] = recs[1];
			recs[1] = recs[2];
			twins.nr[0] = 2;
			merge(0);
			assert_true(twins.merged_sum.hash == twins.single_sum.hash);
			if (new % 64 == 0)
				assert_same();
			recs[0] = (struct pc_extent){
				.vol_blk = 0, .len_blk = 64, .pos = ++twins.pos, .flags = PC_EXT_ZERO | PC_REC_ERASE
			};
			single_apply(twins.single, &recs[0], &twins.single_sum);
			twins.nr[0] = 1;
			merge(0);
		}
	}
	assert_same();
	assert_int_equal(twins.walked_nr[0], 0);
	twins_down();
}

static uint64_t leaf_nr_of(struct pc_index *index)
{
	uint64_t nr = 0;

	for (uint32_t s = 0; s < SHARD_NR; s++)
		nr += pc_index_shards(index)[s].leaf_nr;
	return nr;
}

/* How full leaves are: what is scattered leaves room for 4 of 32, what has no gaps none. */
static void leaves_are_dense(void **state)
{
	(void)state;
	for (uint32_t gap = 0; gap < 2; gap++) {
		twins_up(9, 0, 1u << 20, UINT64_C(1) << 26);
		for (uint32_t round = 0; round < 8; round++) {
			for (uint32_t i = 0; i < REC_MAX; i++) {
				uint64_t nth = (round + (uint64_t)i * 8) << gap; /* block of the first shard */
				uint64_t at = nth / STRIPE_BLK * SHARD_NR * STRIPE_BLK + nth % STRIPE_BLK;

				twins.recs[0][i] =
					(struct pc_extent){ .vol_blk = at, .len_blk = 1, .pos = ++twins.pos };
			}
			twins.nr[0] = REC_MAX;
			merge(0);
		}
		assert_null(pc_index_check(twins.merged));
		assert_int_equal(pc_index_extent_nr(twins.merged), 8 * REC_MAX);
		assert_in_range(pc_index_extent_nr(twins.merged) * 100 / (leaf_nr_of(twins.merged) * PC_LEAF_NR),
				gap ? 86 : 96, gap ? 88 : 100);
		twins_down();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_as_one_by_one),
		cmocka_unit_test(all_borders),
		cmocka_unit_test(leaves_are_dense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
