/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packing of extents: every shape, and the ends of every field, in each layout, come back as they went in; what does not fit aborts and is never cut off.
 */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "model.h"

#include "index/shard.h"

/* The largest number of segments, of blocks in one, of slots; bytes beside the word. */
struct layout {
	uint32_t segment_nr, segment_blk;
	uint64_t slot_nr;
	uint32_t high_bytes;
};

static const struct layout layouts[] = {
	{ 8, 8, 8 * 64, 0 }, /* the smallest cache that can be formatted */
	{ 1, 1, 1, 0 },
	{ 1000, 32768, UINT64_C(1000) << 18, 0 }, /* 16 GiB of 512 B */
	{ 2048, 32768, UINT64_C(2048) << 18, 0 }, /* 26 + 29 bits, of 56 */
	{ 2049, 32768, UINT64_C(2049) << 18, 2 }, /* 27 + 30 */
	{ 8192, 4096, UINT64_C(8192) << 18, 0 }, /* 128 GiB of 4 KiB */
	{ 1u << 24, 32768, UINT64_C(1) << 33, 2 },
	{ 1u << 24, 32768, (UINT64_C(1) << 33) + 1, 4 },
	{ 1u << 24, 32768, UINT64_C(1) << 42, 4 }, /* the largest that the format knows */
	{ 1u << 24, 1u << 16, UINT64_C(1) << 48, 4 },
};

static void take_layout(struct pc_pack *pack, const struct layout *layout)
{
	struct pc_index_params params = model_params(1, 8);

	params.segment_nr = layout->segment_nr;
	params.segment_blk = layout->segment_blk;
	params.slot_nr = layout->slot_nr;
	assert_int_equal(pc_pack_init(pack, &params), 0);
	assert_int_equal(pack->high_bytes, layout->high_bytes);
	assert_int_equal(pack->leaf_bytes, PC_LEAF_NR * (16 + layout->high_bytes));
}

static struct pc_leaf *new_leaf(const struct pc_pack *pack)
{
	struct pc_leaf *leaf = aligned_alloc(PC_CACHE_LINE_BYTES, pack->leaf_bytes);

	assert_non_null(leaf);
	memset(leaf, 0xa5, pack->leaf_bytes);
	return leaf;
}

static void assert_same(const struct pc_extent *a, const struct pc_extent *b)
{
	assert_int_equal(a->vol_blk, b->vol_blk);
	assert_int_equal(a->pos, b->pos);
	assert_int_equal(a->len_blk, b->len_blk);
	assert_int_equal(a->seg_id, b->seg_id);
	assert_int_equal(a->crc, b->crc);
	assert_int_equal(a->seg_blk, b->seg_blk);
	assert_int_equal(a->geom, b->geom);
	assert_int_equal(a->flags, b->flags);
}

/* Into a slot and out again; the slots beside it stay. */
static void there_and_back(const struct pc_pack *pack, struct pc_leaf *leaf, uint32_t slot_idx,
			   const struct pc_extent *extent, uint64_t newest_pos)
{
	uint32_t region = (uint32_t)(extent->vol_blk >> 32), beside = (slot_idx + 1) % PC_LEAF_NR;
	struct pc_extent old = { .vol_blk = (uint64_t)region << 32 | 5, .pos = newest_pos, .len_blk = 8, .crc = 77 };
	struct pc_extent got;

	pc_leaf_set(pack, leaf, beside, &old, newest_pos);
	pc_leaf_set(pack, leaf, slot_idx, extent, newest_pos);
	got = pc_leaf_get(pack, leaf, slot_idx, region, newest_pos);
	assert_same(&got, extent);
	assert_int_equal(pc_leaf_len_blk(pack, leaf, slot_idx), extent->len_blk);
	got = pc_leaf_get(pack, leaf, beside, region, newest_pos);
	assert_same(&got, &old);
}

static void test_every_shape(void **state)
{
	(void)state;
	for (uint32_t l = 0; l < PC_ARRAY_NR(layouts); l++) {
		struct pc_leaf *leaf;
		struct pc_pack pack;
		uint32_t shape_nr = 0;

		take_layout(&pack, &layouts[l]);
		leaf = new_leaf(&pack);
		for (uint32_t geom = 0; geom < 64; geom++) {
			uint32_t beside_blk = (geom & 7) + (geom >> 3);

			for (uint32_t len_blk = 1; len_blk + beside_blk <= 8; len_blk++, shape_nr++) {
				struct pc_extent extent = { .vol_blk = UINT64_C(3) << 48 | geom,
							    .pos = 1,
							    .len_blk = len_blk,
							    .crc = ~geom,
							    .geom = (uint8_t)geom };

				there_and_back(&pack, leaf, shape_nr % PC_LEAF_NR, &extent, 1);
				extent.flags = PC_EXT_DIRTY;
				there_and_back(&pack, leaf, shape_nr % PC_LEAF_NR, &extent, 1);
			}
		}
		assert_int_equal(shape_nr, PC_SHAPE_NR);
		free(leaf);
	}
}

static void test_bare_extents_of_any_length(void **state)
{
	static const uint8_t types[] = { PC_EXT_ZERO, PC_EXT_ZERO | PC_EXT_DISCARD, PC_EXT_POISON };
	static const uint32_t lens[] = { 1, 8, 9, 255, 256, 8192, 1u << 31, UINT32_MAX };

	(void)state;
	for (uint32_t code = 0; code < PC_ARRAY_NR(layouts) * PC_ARRAY_NR(types) * PC_ARRAY_NR(lens) * 2; code++) {
		const struct layout *layout = &layouts[code % PC_ARRAY_NR(layouts)];
		uint32_t rest = code / (uint32_t)PC_ARRAY_NR(layouts);
		struct pc_extent extent = { .vol_blk = 7, .pos = 12, .len_blk = lens[rest / 6 % PC_ARRAY_NR(lens)] };
		struct pc_leaf *leaf;
		struct pc_pack pack;

		extent.flags = (uint8_t)(types[rest % 3] | (rest / 3 % 2 ? PC_EXT_DIRTY : 0));
		take_layout(&pack, layout);
		leaf = new_leaf(&pack);
		there_and_back(&pack, leaf, code % PC_LEAF_NR, &extent, 12);
		free(leaf);
	}
}

/* First and last block of a region, segment and block at both ends, positions at both ends of the window, around every power of two. */
static void test_ends_of_fields(void **state)
{
	(void)state;
	for (uint32_t l = 0; l < PC_ARRAY_NR(layouts); l++) {
		const struct layout *layout = &layouts[l];
		struct pc_leaf *leaf;
		struct pc_pack pack;

		take_layout(&pack, layout);
		leaf = new_leaf(&pack);
		for (uint32_t code = 0; code < 64 * 2 * 2 * 2 * 4; code++) {
			uint64_t newest_pos = (UINT64_C(1) << code % 64) - (code >> 6 & 1);
			uint64_t reach = PC_MIN(layout->slot_nr - 1, newest_pos);
			const uint64_t distances[] = { 0, PC_MIN(reach, 1u), reach / 2 + reach % 2, reach };
			struct pc_extent extent = {
				.vol_blk = (UINT64_C(9) << 48) + (code >> 7 & 1 ? UINT32_MAX : 0),
				.pos = newest_pos - distances[code >> 9],
				.len_blk = 1,
				.seg_id = code >> 8 & 1 ? layout->segment_nr - 1 : 0,
				.seg_blk = (uint16_t)(code >> 7 & 1 ? layout->segment_blk - 1 : 0),
				.crc = code >> 8 & 1 ? UINT32_MAX : 0,
				.flags = PC_EXT_DIRTY,
			};

			there_and_back(&pack, leaf, code % PC_LEAF_NR, &extent, newest_pos);
		}
		free(leaf);
	}
}

static bool aborts(const struct layout *layout, const struct pc_extent *extent, uint64_t newest_pos)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct pc_leaf *leaf;
		struct pc_pack pack;

		signal(SIGABRT, SIG_DFL);
		take_layout(&pack, layout);
		leaf = new_leaf(&pack);
		pc_leaf_set(&pack, leaf, 0, extent, newest_pos);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void test_what_does_not_fit_aborts(void **state)
{
	const struct layout *layout = &layouts[3];
	const struct pc_extent good = { .vol_blk = 1, .pos = 1u << 30, .len_blk = 1 };
	struct pc_extent bad[14];
	uint64_t newest_pos = good.pos + layout->slot_nr - 1;

	(void)state;
	assert_false(aborts(layout, &good, newest_pos));
	assert_true(aborts(layout, &good, newest_pos + 1)); /* out of the window */
	assert_true(aborts(layout, &good, good.pos - 1));
	for (uint32_t i = 0; i < PC_ARRAY_NR(bad); i++)
		bad[i] = good;
	bad[0].len_blk = 0;
	bad[1].len_blk = 9;
	bad[2].len_blk = UINT32_MAX;
	bad[3].geom = 7 | 1 << 3;
	bad[4].geom = 64;
	bad[5].seg_id = layout->segment_nr;
	bad[6].seg_id = UINT32_MAX;
	bad[7].seg_blk = 32768;
	bad[8].flags = 3;
	bad[9].flags = PC_EXT_DISCARD; /* DATA */
	bad[10].flags = 16;
	bad[11].flags = PC_EXT_POISON | PC_EXT_DISCARD;
	bad[12].flags = PC_EXT_ZERO;
	bad[12].len_blk = 0;
	bad[13].len_blk = 5;
	bad[13].geom = 2 | 2 << 3;
	for (uint32_t i = 0; i < PC_ARRAY_NR(bad); i++) {
		if (!aborts(layout, &bad[i], good.pos))
			fail_msg("extent %u was packed", i);
	}
}

/* Moves within a leaf, both ways, and between leaves, against an array. */
static void test_moves(void **state)
{
	uint64_t dice = 5;

	(void)state;
	for (uint32_t l = 0; l < PC_ARRAY_NR(layouts); l++) {
		struct pc_leaf *leaves[2];
		struct pc_extent all[2][PC_LEAF_NR];
		struct pc_pack pack;

		take_layout(&pack, &layouts[l]);
		for (uint32_t i = 0; i < 2; i++) {
			leaves[i] = new_leaf(&pack);
			for (uint32_t s = 0; s < PC_LEAF_NR; s++) {
				all[i][s] = (struct pc_extent){ .vol_blk = rnd(&dice) >> 32,
								.pos = (UINT64_C(1) << 50) -
								       rnd(&dice) % layouts[l].slot_nr,
								.len_blk = 1 + s % 8,
								.crc = (uint32_t)rnd(&dice) };
				pc_leaf_set(&pack, leaves[i], s, &all[i][s], UINT64_C(1) << 50);
			}
		}
		for (uint32_t move = 0; move < 1000; move++) {
			uint32_t from = rnd(&dice) % 2, to = rnd(&dice) % 2;
			uint32_t nr = (uint32_t)(rnd(&dice) % (PC_LEAF_NR + 1));
			uint32_t from_idx = (uint32_t)(rnd(&dice) % (PC_LEAF_NR - nr + 1));
			uint32_t to_idx = (uint32_t)(rnd(&dice) % (PC_LEAF_NR - nr + 1));

			pc_leaf_move(&pack, leaves[to], to_idx, leaves[from], from_idx, nr);
			memmove(&all[to][to_idx], &all[from][from_idx], nr * sizeof(all[0][0]));
			for (uint32_t s = 0; s < 2 * PC_LEAF_NR; s++) {
				struct pc_extent got = pc_leaf_get(&pack, leaves[s / PC_LEAF_NR], s % PC_LEAF_NR, 0,
								   UINT64_C(1) << 50);

				assert_same(&got, &all[s / PC_LEAF_NR][s % PC_LEAF_NR]);
			}
		}
		free(leaves[0]);
		free(leaves[1]);
	}
}

/* What is dirty in a range of positions, told by the words, against what the extents say. */
static void test_dirty_ones_are_told(void **state)
{
	uint64_t dice = 23;

	(void)state;
	for (size_t l = 0; l < sizeof(layouts) / sizeof(layouts[0]); l++) {
		uint64_t slot_nr = layouts[l].slot_nr, newest_pos = UINT64_C(1) << 50;
		struct pc_pack pack;
		struct pc_leaf *leaf;

		take_layout(&pack, &layouts[l]);
		leaf = new_leaf(&pack);
		for (uint32_t round = 0; round < 2000; round++) {
			uint64_t near = PC_MIN(slot_nr, round % 2 ? UINT64_C(40) : slot_nr);
			uint64_t from_pos = newest_pos - rnd(&dice) % near, end_pos = from_pos + rnd(&dice) % near + 1;
			uint32_t extent_nr = (uint32_t)(rnd(&dice) % (PC_LEAF_NR + 1)), wanted = 0;

			for (uint32_t s = 0; s < PC_LEAF_NR; s++) {
				struct pc_extent extent = { .vol_blk = s * 8, .len_blk = 1, .crc = 1 };

				extent.pos = newest_pos - rnd(&dice) % near;
				extent.flags = rnd(&dice) % 4 ? PC_EXT_DIRTY : 0;
				pc_leaf_set(&pack, leaf, s, &extent, newest_pos);
				wanted |= (uint32_t)(s < extent_nr && extent.flags && extent.pos >= from_pos &&
						     extent.pos < end_pos)
					  << s;
			}
			assert_int_equal(pc_leaf_dirty_mask(&pack, leaf, extent_nr, newest_pos, from_pos, end_pos),
					 wanted);
			assert_int_equal(
				pc_leaf_dirty_mask(&pack, leaf, extent_nr, newest_pos, newest_pos + 1, UINT64_MAX), 0);
			assert_int_equal(pc_leaf_dirty_mask(&pack, leaf, extent_nr, newest_pos, end_pos, from_pos), 0);
		}
		free(leaf);
	}
}

static void test_keys_are_counted(void **state)
{
	uint64_t dice = 11;

	(void)state;
	for (uint32_t round = 0; round < 20000; round++) {
		static _Alignas(PC_CACHE_LINE_BYTES) struct pc_node node; /* as in the arena */
		int32_t *keys = node.keys;
		uint32_t leaf_count = 0;
		uint64_t blk = round % 3 == 0 ? 0 : rnd(&dice) % (UINT64_C(1) << 32);
		uint64_t wanted = rnd(&dice) % (UINT64_C(1) << 32);
		uint32_t count = 0;

		for (uint32_t i = 0; i < 60; i++) {
			keys[i] = pc_key_of(blk);
			assert_int_equal(pc_key_blk(7, keys[i]), UINT64_C(7) << 32 | blk);
			count += blk <= wanted;
			leaf_count += i < PC_LEAF_NR && blk <= wanted;
			blk += rnd(&dice) % (UINT64_C(1) << (1 + round % 30));
			blk = PC_MIN(blk, UINT64_C(0xffffffff));
		}
		assert_int_equal(PC_MIN(pc_node_keys_count(&node, pc_key_of(wanted)), 60u), count);
		assert_int_equal(pc_leaf_keys_count(keys, pc_key_of(wanted)), leaf_count);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_shape),
		cmocka_unit_test(test_bare_extents_of_any_length),
		cmocka_unit_test(test_ends_of_fields),
		cmocka_unit_test(test_what_does_not_fit_aborts),
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_keys_are_counted),
		cmocka_unit_test(test_dirty_ones_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
