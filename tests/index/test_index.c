/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The index against a flat model: every overlap case, all short sequences in a small space, long random runs over many shapes; then walks,
 * fills, lock masks, and damage planted on purpose for the check.
 */
#include <errno.h>
#include <stdio.h>

#include "model.h"

#include "index/shard.h"

#define VOLUME_1 (UINT64_C(1) << 48)
#define SPACE_BLK 32768u

/* The structure behind the handle: the shards are its end. */
static struct pc_shard *shard_0(struct pc_index *index)
{
	return pc_index_shards(index);
}

/* ---- insertion and erasure ------------------------------------------------------------------------------------------ */

/* Old extent in blocks 4..8, between neighbours; every new range; as DATA, ZERO and erasure. */
static void test_every_overlap_case(void **state)
{
	(void)state;
	for (uint32_t kind = 0; kind < 3; kind++) {
		for (uint32_t blk = 0; blk < 12; blk++) {
			for (uint32_t len = 1; blk + len <= 12 && (kind > 0 || len <= 8); len++) {
				struct model m;

				model_init(&m, 1, 16, VOLUME_1, 16);
				model_insert(&m, 0, 3, PC_EXT_DATA, 1);
				model_insert(&m, 4, 4, PC_EXT_DATA | PC_EXT_DIRTY, 0x10203);
				model_insert(&m, 8, 4, PC_EXT_POISON, 0);
				if (kind == 2)
					model_erase(&m, blk, len);
				else
					model_insert(&m, blk, len, (uint8_t)(kind == 0 ? PC_EXT_DATA : PC_EXT_ZERO),
						     blk * 77 + len);
				model_compare(&m);
				model_fini(&m);
			}
		}
	}
}

static void one_of(struct model *m, uint32_t code, uint32_t space_blk)
{
	uint32_t kind = code % 3;
	uint32_t range = code / 3;
	uint32_t len = 1;

	while (range >= space_blk - len + 1) {
		range -= space_blk - len + 1;
		len++;
	}
	if (kind == 0)
		model_insert(m, range, len, PC_EXT_DATA, code);
	else if (kind == 1)
		model_insert(m, range, len, PC_EXT_ZERO | PC_EXT_DIRTY, 0);
	else
		model_erase(m, range, len);
}

/* All sequences of three operations in six blocks, stripes of four blocks, two shards. */
static void test_all_sequences_of_three(void **state)
{
	const uint32_t space_blk = 6;
	const uint32_t code_nr = 3 * (space_blk * (space_blk + 1) / 2);
	struct model m;

	(void)state;
	model_init(&m, 2, 4, VOLUME_1, space_blk);
	for (uint32_t a = 0; a < code_nr; a++) {
		for (uint32_t b = 0; b < code_nr; b++) {
			for (uint32_t c = 0; c < code_nr; c++) {
				one_of(&m, a, space_blk);
				one_of(&m, b, space_blk);
				one_of(&m, c, space_blk);
				model_lookup(&m, 0, space_blk);
				model_erase(&m, 0, space_blk);
				m.owner_nr = 0;
			}
		}
	}
	model_compare(&m);
	assert_int_equal(pc_index_extent_nr(m.index), 0);
	model_fini(&m);
}

struct shape {
	uint32_t shard_nr, stripe_blk, space_blk, zero_max_blk, op_nr;
};

/* Each way to pack: positions in the word, 2 bytes beside it, 4 bytes. */
static void take_packing(struct pc_index_params *params, uint64_t seed)
{
	params->slot_nr = UINT64_C(1) << 17;
	if (seed % 3 == 0) {
		params->segment_nr = 8;
		params->segment_blk = 8;
	} else if (seed % 3 == 2) {
		params->slot_nr = UINT64_C(1) << 42;
	}
}

/* Half of them where a run was before, or would have been: on a grid of its lengths. */
static void one_run(struct model *m, uint32_t blk, uint32_t len, uint8_t dirty, uint64_t *seed)
{
	uint32_t nr_max = PC_MIN((m->space_blk - blk) / len, m->params.segment_blk / len);
	uint32_t nr = (uint32_t)(1 + rnd(seed) % 100);

	nr = 1 + (nr - 1) % nr_max;
	if (rnd(seed) % 2)
		blk -= blk % len;
	model_insert_run(m, blk, len, nr, PC_EXT_DATA | dirty, rnd(seed), rnd(seed) % 8 != 0);
}

static void random_run(const struct shape *shape, uint64_t seed)
{
	static const uint8_t types[] = { PC_EXT_ZERO, PC_EXT_ZERO | PC_EXT_DISCARD, PC_EXT_POISON };
	/* Around a border of volumes, of regions, or at the start. */
	const uint64_t bases[] = { 0, VOLUME_1 * 9, VOLUME_1 * 9 + (UINT64_C(7) << 32) - shape->space_blk / 2 };
	struct pc_index_params params = model_params(shape->shard_nr, shape->stripe_blk);
	struct model m;

	take_packing(&params, seed);
	model_init_with(&m, &params, PC_ROUND_DOWN(bases[seed % 3], (uint64_t)shape->stripe_blk), shape->space_blk);
	m.pos_base = seed % 2 ? (UINT64_C(1) << 62) - 5000 : (UINT64_C(1) << 17) - 1000;
	for (uint32_t op = 0; op < shape->op_nr; op++) {
		/* The mix drifts, so that the index fills up and empties again. */
		bool filling = op / (shape->op_nr / 6) % 2 == 0;
		uint64_t dice = rnd(&seed) % 100;
		bool data = dice < (filling ? 97u : 45u);
		uint32_t len = (uint32_t)(1 + rnd(&seed) % (data ? 1 + rnd(&seed) % 8 : shape->zero_max_blk));
		uint32_t blk = (uint32_t)(rnd(&seed) % (shape->space_blk - len + 1));
		uint8_t dirty = rnd(&seed) % 2 ? PC_EXT_DIRTY : 0;

		if (data && dice % 4 == 0)
			one_run(&m, blk, len, dirty, &seed);
		else if (data)
			model_insert(&m, blk, len, PC_EXT_DATA | dirty, rnd(&seed));
		else if (dice % 3 != 0)
			model_erase(&m, blk, len);
		else
			model_insert(&m, blk, len, (uint8_t)(types[rnd(&seed) % 3] | dirty), 0);
		len = (uint32_t)(1 + rnd(&seed) % 100);
		model_lookup(&m, (uint32_t)(rnd(&seed) % (shape->space_blk - len + 1)), len);
		if (op % 256 == 0 || op + 1 == shape->op_nr)
			model_compare(&m);
	}
	model_fini(&m);
}

static void test_random_runs(void **state)
{
	static const struct shape shapes[] = {
		{ 1, 8, 512, 20, 20000 },       { 1, 8192, 8192, 300, 40000 }, { 3, 16, 2048, 100, 20000 },
		{ 4, 64, 16384, 1000, 40000 },  { 64, 8, 4096, 200, 20000 },   { 7, 1024, 16384, 3000, 40000 },
		{ 1, 16384, 16384, 16, 60000 },
	};

	(void)state;
	for (uint32_t i = 0; i < PC_ARRAY_NR(shapes); i++) {
		for (uint64_t seed = 0; seed < 6; seed++)
			random_run(&shapes[i], i * 100 + seed);
	}
}

static uint64_t dense_bytes(struct pc_index *index)
{
	uint64_t leaf_nr = 0;

	for (uint32_t i = 0; i < pc_index_shard_nr(index); i++)
		leaf_nr += shard_0(index)[i].leaf_nr;
	return leaf_nr * sizeof(struct pc_leaf);
}

/* Ascending, descending and alternating fills of single blocks, then every other one erased, then all. */
static void test_dense_patterns(void **state)
{
	const uint32_t space_blk = 4096;
	struct model m;

	(void)state;
	for (uint32_t pattern = 0; pattern < 4; pattern++) {
		model_init(&m, 2, 2048, VOLUME_1, space_blk);
		for (uint32_t i = 0; i < space_blk; i++) {
			uint32_t blk = i;

			if (pattern == 1)
				blk = space_blk - 1 - i;
			else if (pattern == 2)
				blk = i % 2 ? space_blk - 1 - i / 2 : i / 2;
			else if (pattern == 3)
				blk = i * 1597 % space_blk;
			model_insert(&m, blk, 1, PC_EXT_DATA, 0);
		}
		model_compare(&m);
		assert_int_equal(pc_index_extent_nr(m.index), space_blk);
		assert_in_range(dense_bytes(m.index), 16 * space_blk, 20 * space_blk);
		for (uint32_t blk = 0; blk < space_blk; blk += 2)
			model_erase(&m, blk, 1);
		model_compare(&m);
		model_erase(&m, 1, space_blk - 2);
		model_compare(&m);
		assert_int_equal(pc_index_extent_nr(m.index), 1);
		model_fini(&m);
	}
}

static void test_ascending_fill_packs_leaves(void **state)
{
	const uint32_t space_blk = 1u << 16;
	struct pc_index_params params = model_params(1, space_blk);
	struct model m;

	(void)state;
	params.segment_nr = 64;
	model_init_with(&m, &params, 0, space_blk);
	for (uint32_t blk = 0; blk < space_blk; blk++)
		model_insert(&m, blk, 1, PC_EXT_DATA, 0);
	assert_in_range(pc_index_dram_bytes(m.index), 16 * space_blk, 20 * space_blk);
	model_fini(&m);
}

static enum pc_walk turn_dirty(void *ctx, struct pc_extent *extent)
{
	struct model *m = ctx;

	extent->flags ^= PC_EXT_DIRTY;
	m->owners[m->cells[extent->vol_blk - m->base].owner].flags = extent->flags;
	return PC_WALK_KEEP;
}

/* Two runs over what is there: the very same ranges with one in the middle that differs, in segment, dirtiness, length, position; then exactly what was displaced is counted by model_displaced. */
static void test_runs_over_runs(void **state)
{
	const uint32_t space_blk = 2048;

	(void)state;
	for (uint32_t code = 0; code < 6 * 70; code++) {
		uint32_t odd = code / 6 * 8;
		struct model m;

		model_init(&m, 2, 512, VOLUME_1, space_blk);
		model_insert_run(&m, 16, 8, 140, PC_EXT_DATA | PC_EXT_DIRTY, 77, true);
		if (code % 6 == 4)
			pc_index_walk_range_locked(m.index, m.base + 16 + odd, 8, turn_dirty, &m);
		m.pos_nr -= code % 6 == 5;
		if (code % 6 == 5) /* two keys of one kset, in two segments */
			model_insert_run(&m, 16 + odd, 8, 3, PC_EXT_DATA | PC_EXT_DIRTY, 78, true);
		else if (code % 6 == 0)
			model_insert(&m, 16 + odd, 8, PC_EXT_DATA | PC_EXT_DIRTY, 0);
		else if (code % 6 == 1)
			model_insert(&m, 16 + odd + 3, 2, PC_EXT_DATA | PC_EXT_DIRTY, 0);
		else if (code % 6 == 2)
			model_erase(&m, 16 + odd, 8);
		else if (code % 6 == 3)
			model_insert(&m, 16 + odd, 8, PC_EXT_ZERO | PC_EXT_DIRTY, 0);
		model_insert_run(&m, 16, 8, 140, PC_EXT_DATA, UINT64_C(99) << 32 | 5, code % 3 != 0);
		model_compare(&m);
		assert_int_equal(pc_index_extent_nr(m.index), 140);
		model_insert_run(&m, 16 + odd % 8 + 4, 8, 100, PC_EXT_DATA, 7, true); /* between the ranges */
		model_compare(&m);
		model_fini(&m);
	}
}

static void test_lookup_stops_at_max(void **state)
{
	struct model m;
	struct pc_extent out[4];

	(void)state;
	model_init(&m, 2, 8, 0, 64);
	for (uint32_t blk = 0; blk < 64; blk += 2)
		model_insert(&m, blk, 1, PC_EXT_DATA, 0);
	pc_index_lock(m.index, 3);
	memset(out, 0xaa, sizeof(out));
	assert_int_equal(pc_index_lookup_locked(m.index, 5, 50, out, 3), 3);
	assert_int_equal(out[0].vol_blk, 6);
	assert_int_equal(out[2].vol_blk, 10);
	assert_int_equal(out[3].vol_blk, UINT64_C(0xaaaaaaaaaaaaaaaa));
	assert_int_equal(pc_index_lookup_locked(m.index, 5, 1, out, 3), 0);
	pc_index_unlock(m.index, 3);
	model_fini(&m);
}

static void test_volumes_are_apart(void **state)
{
	struct pc_extent first = { .vol_blk = VOLUME_1 - 4, .len_blk = 4, .flags = PC_EXT_ZERO };
	struct pc_extent second = { .vol_blk = VOLUME_1, .len_blk = 4, .flags = PC_EXT_ZERO };
	struct pc_extent out[2];
	struct model m;

	(void)state;
	model_init(&m, 3, 8, 0, 8);
	pc_index_lock(m.index, 7);
	assert_int_equal(pc_index_reserve_locked(m.index, 7, 2), 0);
	pc_index_insert_locked(m.index, &first, NULL, NULL);
	pc_index_insert_locked(m.index, &second, NULL, NULL);
	assert_int_equal(pc_index_lookup_locked(m.index, VOLUME_1, 8, out, 2), 1);
	assert_int_equal(out[0].vol_blk, VOLUME_1);
	assert_int_equal(pc_index_lookup_locked(m.index, VOLUME_1 - 8, 8, out, 2), 1);
	pc_index_unlock(m.index, 7);
	assert_null(pc_index_check(m.index));
	model_fini(&m);
}

/* ---- shards -------------------------------------------------------------------------------------------------------------- */

static void test_mask_is_the_union_of_its_blocks(void **state)
{
	static const uint32_t shard_nrs[] = { 1, 2, 3, 7, 63, 64 };

	(void)state;
	for (uint32_t i = 0; i < PC_ARRAY_NR(shard_nrs); i++) {
		struct pc_index_params params = model_params(shard_nrs[i], 8);
		struct pc_index *index;
		uint64_t all = 0;

		assert_int_equal(pc_index_new(&params, &index), 0);
		assert_int_equal(pc_index_shard_nr(index), shard_nrs[i]);
		for (uint64_t blk = VOLUME_1 * 5 + 3; blk < VOLUME_1 * 5 + 40; blk += 5) {
			uint64_t want = 0;

			for (uint64_t len = 1; len < 700; len++) {
				uint64_t one = pc_index_mask(index, blk + len - 1, 1);

				assert_true(one != 0 && (one & (one - 1)) == 0);
				want |= one;
				assert_int_equal(pc_index_mask(index, blk, len), want);
			}
			all |= want;
		}
		/* Every shard has its share. */
		assert_int_equal(all, shard_nrs[i] == 64 ? UINT64_MAX : (UINT64_C(1) << shard_nrs[i]) - 1);
		assert_int_equal(pc_index_mask(index, 8, 0), 0);
		pc_index_free(index);
	}
}

static void test_lock_takes_the_whole_mask(void **state)
{
	struct pc_index_params params = model_params(64, 8);
	uint64_t mask = UINT64_C(1) << 63 | 1u << 5 | 1u;
	struct pc_index *index;

	(void)state;
	assert_int_equal(pc_index_new(&params, &index), 0);
	for (uint32_t round = 0; round < 2; round++) {
		pc_index_lock(index, mask);
		pc_index_unlock(index, mask);
	}
	pc_index_lock(index, ~mask); /* would hang if one of these were still held */
	pc_index_unlock(index, ~mask);
	pc_index_free(index);
	pc_index_free(NULL);
}

static void test_bad_params(void **state)
{
	struct pc_index_params bad[] = { model_params(0, 8),  model_params(65, 8), model_params(4, 0),
					 model_params(4, 12), model_params(4, 8),  model_params(4, 8),
					 model_params(4, 8),  model_params(4, 8),  model_params(4, 8) };
	struct pc_index *index = (struct pc_index *)(uintptr_t)1;

	(void)state;
	bad[4].segment_nr = 0;
	bad[5].segment_blk = 24;
	bad[6].segment_blk = 1u << 17;
	bad[7].slot_nr = 0;
	bad[8].slot_nr = UINT64_C(1) << 50; /* with blocks of 39 bits: more than 32 bits beside the word */
	for (uint32_t i = 0; i < PC_ARRAY_NR(bad); i++)
		assert_int_equal(pc_index_new(&bad[i], &index), -EINVAL);
	assert_true(index == (struct pc_index *)(uintptr_t)1);
}

/* ---- walks --------------------------------------------------------------------------------------------------------------- */

struct walk {
	struct model *m;
	uint64_t last; /* vol_blk of the last one shown */
	uint64_t shown_nr;
	uint32_t drop_pct;
	uint32_t stop_after; /* 0: never */
	uint64_t seed;
};

/* Renames the extent (a new pos and other flags) or drops it; the model follows. */
static enum pc_walk walk_some(void *ctx, struct pc_extent *extent)
{
	struct walk *walk = ctx;
	struct model *m = walk->m;
	uint64_t blk = extent->vol_blk - m->base;

	if (walk->shown_nr++ > 0)
		assert_true(extent->vol_blk > walk->last);
	walk->last = extent->vol_blk;
	model_check_piece(m, extent);
	if (rnd(&walk->seed) % 100 < walk->drop_pct) {
		for (uint32_t i = 0; i < extent->len_blk; i++)
			m->cells[blk + i].owner = 0;
		return PC_WALK_DROP;
	}
	model_owners_room(m, 1);
	extent->pos = m->pos_base + ++m->pos_nr;
	m->owner_nr++;
	extent->flags = (uint8_t)(extent->flags ^ PC_EXT_DIRTY);
	m->owners[m->owner_nr] = *extent;
	for (uint32_t i = 0; i < extent->len_blk; i++) {
		m->cells[blk + i].owner = m->owner_nr;
		m->cells[blk + i].idx = i;
	}
	return walk->stop_after != 0 && walk->shown_nr == walk->stop_after ? PC_WALK_STOP : PC_WALK_KEEP;
}

static uint64_t count_in(struct model *m, uint32_t blk, uint32_t len)
{
	return pc_index_lookup_locked(m->index, m->base + blk, len, m->found, m->space_blk);
}

static void test_walks_change_and_drop(void **state)
{
	static const uint32_t drop_pcts[] = { 0, 10, 50, 90, 100 };
	const uint32_t space_blk = 4096;
	uint64_t seed = 42;
	struct model m;

	(void)state;
	model_init(&m, 3, 256, VOLUME_1, space_blk);
	for (uint32_t round = 0; round < 400; round++) {
		struct walk walk = { .m = &m, .drop_pct = drop_pcts[rnd(&seed) % 5], .seed = rnd(&seed) };
		uint32_t len = (uint32_t)(1 + rnd(&seed) % 1000);
		uint32_t blk = (uint32_t)(rnd(&seed) % (space_blk - len + 1));
		uint64_t in_nr;

		for (uint32_t i = 0; i < 600; i++) {
			uint32_t data_len = (uint32_t)(1 + rnd(&seed) % 4);

			model_insert(&m, (uint32_t)(rnd(&seed) % (space_blk - 4)), data_len, PC_EXT_DATA, rnd(&seed));
		}
		pc_index_lock(m.index, 7);
		in_nr = count_in(&m, blk, len);
		if (round % 4 == 0)
			walk.stop_after = (uint32_t)(1 + rnd(&seed) % 20);
		pc_index_walk_range_locked(m.index, m.base + blk, len, walk_some, &walk);
		if (walk.stop_after == 0)
			assert_int_equal(walk.shown_nr, in_nr);
		else if (walk.drop_pct == 0)
			assert_int_equal(walk.shown_nr, PC_MIN(in_nr, walk.stop_after));
		pc_index_unlock(m.index, 7);
		model_compare(&m);
		if (round % 8 == 7) {
			walk = (struct walk){ .m = &m, .drop_pct = drop_pcts[rnd(&seed) % 5], .seed = rnd(&seed) };
			for (uint32_t shard_idx = 0; shard_idx < 3; shard_idx++) {
				walk.last = 0;
				walk.shown_nr = 0;
				pc_index_lock(m.index, UINT64_C(1) << shard_idx);
				pc_index_walk_shard_locked(m.index, shard_idx, walk_some, &walk);
				pc_index_unlock(m.index, UINT64_C(1) << shard_idx);
			}
			model_compare(&m);
			if (walk.drop_pct == 100)
				assert_int_equal(pc_index_extent_nr(m.index), 0);
		}
	}
	model_fini(&m);
}

/* ---- fills --------------------------------------------------------------------------------------------------------------- */

static bool cancelled_by(uint32_t blk, uint32_t len, int verb)
{
	struct pc_fill before = { .vol_blk = 16, .len_blk = 2 };
	struct pc_fill fill = { .vol_blk = 20, .len_blk = 4, .cancelled = true };
	struct pc_fill after = { .vol_blk = 30, .len_blk = 2 };
	struct model m;

	model_init(&m, 1, 32, 0, 32);
	pc_index_lock(m.index, 1);
	pc_index_fill_list_locked(m.index, &before);
	pc_index_fill_list_locked(m.index, &fill);
	pc_index_fill_list_locked(m.index, &after);
	assert_false(fill.cancelled);
	pc_index_unlock(m.index, 1);
	if (verb == 0)
		model_insert(&m, blk, len, PC_EXT_DATA, 0);
	else if (verb == 1)
		model_erase(&m, blk, len);
	else
		model_lookup(&m, blk, len);
	pc_index_lock(m.index, 1);
	assert_false(before.cancelled || after.cancelled);
	pc_index_fill_unlist_locked(m.index, &fill);
	pc_index_fill_unlist_locked(m.index, &before);
	pc_index_fill_unlist_locked(m.index, &after);
	pc_index_unlock(m.index, 1);
	/* Not listed any more: nothing touches them. */
	before.cancelled = after.cancelled = false;
	model_insert(&m, 0, 32, PC_EXT_ZERO, 0);
	assert_false(before.cancelled || after.cancelled);
	model_fini(&m);
	return fill.cancelled;
}

static void test_fills_are_cancelled_by_overlap_only(void **state)
{
	(void)state;
	for (int verb = 0; verb < 3; verb++) {
		for (uint32_t blk = 18; blk < 30; blk++) {
			for (uint32_t len = 1; len <= 8 && blk + len <= 30; len++) {
				bool meets = blk < 24 && blk + len > 20;

				assert_int_equal(cancelled_by(blk, len, verb), meets && verb != 2);
			}
		}
	}
}

static enum pc_walk drop_all(void *ctx, struct pc_extent *extent)
{
	(void)ctx;
	(void)extent;
	return PC_WALK_DROP;
}

static void test_a_drop_cancels_fills(void **state)
{
	struct pc_fill over = { .vol_blk = 4, .len_blk = 8 };
	struct pc_fill beside = { .vol_blk = 10, .len_blk = 2 };
	struct model m;

	(void)state;
	model_init(&m, 1, 32, 0, 32);
	model_insert(&m, 8, 2, PC_EXT_DATA, 0);
	pc_index_lock(m.index, 1);
	pc_index_fill_list_locked(m.index, &over);
	pc_index_fill_list_locked(m.index, &beside);
	pc_index_walk_range_locked(m.index, 0, 32, drop_all, NULL);
	assert_true(over.cancelled);
	assert_false(beside.cancelled);
	pc_index_fill_unlist_locked(m.index, &over);
	pc_index_fill_unlist_locked(m.index, &beside);
	pc_index_unlock(m.index, 1);
	model_fini(&m);
}

/* ---- check --------------------------------------------------------------------------------------------------------------- */

/* Each breaks one invariant of a shard with several full nodes: 1-block extents at every fourth block, two blocks long. */
static void plant(struct pc_shard *shard, uint32_t damage)
{
	struct pc_node *node = shard->nodes[1], *last_node = shard->nodes[shard->node_nr - 1];
	struct pc_leaf *leaf = node->leaves[1], *last_leaf = last_node->leaves[last_node->leaf_nr - 1];
	uint32_t last_slot = last_node->extent_nrs[last_node->leaf_nr - 1] - 1u;
	const uint64_t shape_mask = (1u << PC_SHAPE_BITS) - 1;
	struct pc_extent extent = pc_leaf_get(shard->pack, leaf, 3, node->region, shard->newest_pos);

	switch (damage) {
	case 0: /* an empty extent */
		leaf->words[3] |= shape_mask;
		leaf->words[3] -= 7; /* ZERO */
		leaf->crcs[3] = 0;
		break;
	case 1: /* into the next */
		extent.len_blk = 5;
		pc_leaf_set(shard->pack, leaf, 3, &extent, shard->newest_pos);
		break;
	case 2: /* out of order */
		leaf->keys[3] = leaf->keys[5] + 1;
		break;
	case 3: /* into another shard's stripe, and out of order */
		leaf->keys[4] += 1 << 20;
		break;
	case 4: /* no type */
		leaf->words[3] |= shape_mask;
		break;
	case 5: /* head before the segment */
		extent.geom = 6;
		extent.seg_blk = 5;
		pc_leaf_set(shard->pack, leaf, 3, &extent, shard->newest_pos);
		break;
	case 6:
		node->keys[1]--;
		break;
	case 7:
		node->extent_nrs[1]--;
		break;
	case 8:
		node->extent_nrs[1] = 0;
		break;
	case 9:
		shard->extent_nr++;
		break;
	case 10:
		shard->root_bytes++;
		break;
	case 11:
		shard->free_leaf_nr++;
		break;
	case 12:
		shard->leaf_nr--;
		break;
	case 13: /* over the stripe's end: the last extent ends two blocks before */
		extent = pc_leaf_get(shard->pack, last_leaf, last_slot, last_node->region, shard->newest_pos);
		extent.len_blk = 8;
		pc_leaf_set(shard->pack, last_leaf, last_slot, &extent, shard->newest_pos);
		break;
	case 14: /* another shard's */
		last_leaf->keys[last_slot] += (int32_t)SPACE_BLK;
		break;
	case 15:
		shard->first_blks[1]++;
		break;
	case 16:
		node->leaf_nr--;
		break;
	case 17:
		node->region++;
		break;
	case 18:
		shard->free_node_nr++;
		break;
	case 19:
		shard->taken_node_nr++;
		break;
	case 20:
		shard->taken_leaf_nr++;
		break;
	case 21: /* a search would count it */
		last_leaf->keys[PC_LEAF_NR - 1] = PC_KEY_PAST - 1;
		break;
	case 22:
		last_node->keys[PC_NODE_NR - 1] = PC_KEY_PAST - 1;
		break;
	case 23:
		shard->hint_blk = extent.vol_blk;
		shard->hint_at = (struct pc_shard_at){ .node_idx = 1, .leaf_idx = 0 };
		break;
	case 24:
		shard->hint_blk = extent.vol_blk;
		shard->hint_at = (struct pc_shard_at){ .node_idx = 1, .leaf_idx = 2 };
		break;
	case 25:
		shard->hint_blk = extent.vol_blk;
		shard->hint_at = (struct pc_shard_at){ .node_idx = shard->node_nr };
		break;
	case 28:
		shard->next_blk = extent.vol_blk + extent.len_blk;
		shard->next_at = (struct pc_shard_at){ .node_idx = 1, .leaf_idx = 1, .slot_idx = 5 };
		break;
	case 29:
		shard->next_blk = extent.vol_blk;
		shard->next_at = (struct pc_shard_at){ .node_idx = shard->node_nr };
		break;
	case 26:
		shard->node_nr = shard->root_cap + 1;
		break;
	case 27: /* a chunk of more than 8 blocks cannot be packed; a volume can be crossed */
		node->region |= 0xffff;
		node->keys[0] = 0;
		leaf->words[3] = (leaf->words[3] | shape_mask) - 7;
		leaf->crcs[3] = UINT32_MAX;
		break;
	default:
		fail();
	}
}

#define DAMAGE_NR 30u

static void test_check_finds_planted_damage(void **state)
{
	(void)state;
	for (uint32_t damage = 0; damage < DAMAGE_NR; damage++) {
		struct pc_shard *shard;
		struct model m;

		model_init(&m, 2, SPACE_BLK, 0, SPACE_BLK);
		for (uint32_t blk = 0; blk < SPACE_BLK; blk += 4)
			model_insert(&m, blk, 2, PC_EXT_DATA, 0);
		/* So that the last leaf and the last node are not full. */
		model_erase(&m, 8, 2);
		assert_null(pc_index_check(m.index));
		shard = shard_0(m.index);
		assert_true(shard->node_nr >= 3 && shard->nodes[shard->node_nr - 1]->leaf_nr < PC_NODE_NR);
		plant(shard, damage);
		if (pc_index_check(m.index) == NULL)
			fail_msg("damage %u was not found", damage);
		if (damage == 26)
			shard->node_nr = 0;
		model_fini(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_overlap_case),
		cmocka_unit_test(test_all_sequences_of_three),
		cmocka_unit_test(test_random_runs),
		cmocka_unit_test(test_dense_patterns),
		cmocka_unit_test(test_ascending_fill_packs_leaves),
		cmocka_unit_test(test_runs_over_runs),
		cmocka_unit_test(test_lookup_stops_at_max),
		cmocka_unit_test(test_volumes_are_apart),
		cmocka_unit_test(test_mask_is_the_union_of_its_blocks),
		cmocka_unit_test(test_lock_takes_the_whole_mask),
		cmocka_unit_test(test_bad_params),
		cmocka_unit_test(test_walks_change_and_drop),
		cmocka_unit_test(test_fills_are_cancelled_by_overlap_only),
		cmocka_unit_test(test_a_drop_cancels_fills),
		cmocka_unit_test(test_check_finds_planted_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
