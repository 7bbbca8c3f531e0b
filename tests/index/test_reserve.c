/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The reserve of a shard: after it was granted, nothing allocates and nothing fails, with not one leaf more than promised; and a reserve
 * that is refused changes nothing. This program replaces aligned_alloc, the only allocator of the index, by its own.
 */
#include <errno.h>

#include "model.h"

#include "index/shard.h"

static bool alloc_fails;
static uint64_t alloc_nr;

void *aligned_alloc(size_t alignment, size_t size)
{
	void *mem;

	alloc_nr++;
	return alloc_fails || posix_memalign(&mem, alignment, size) != 0 ? NULL : mem;
}

/* A shard by itself. */
struct alone {
	struct pc_pack pack;
	struct pc_arena arena;
	struct pc_shard shard;
};

static void alone_init(struct alone *alone)
{
	struct pc_index_params params = model_params(1, 8);
	struct pc_shard_params shard_params = { .pack = &alone->pack, .arena = &alone->arena };

	params.slot_nr = 4;
	assert_int_equal(pc_pack_init(&alone->pack, &params), 0);
	assert_int_equal(pc_arena_init(&alone->arena), 0);
	assert_int_equal(pc_shard_init(&alone->shard, &shard_params), 0);
}

static void alone_fini(struct alone *alone)
{
	pc_shard_fini(&alone->shard);
	pc_arena_fini(&alone->arena);
}

/* The shard with exactly what a reserve of piece_nr promises: surplus leaves, nodes and root places are put aside. */
struct tight {
	struct pc_shard *shard;
	struct pc_leaf *leaves;
	struct pc_node *nodes;
	uint32_t root_cap;
};

static void tight_begin(struct tight *tight, struct pc_shard *shard, uint32_t piece_nr)
{
	uint32_t node_need;

	assert_int_equal(pc_shard_reserve_locked(shard, piece_nr), 0);
	node_need = pc_shard_node_need(shard, piece_nr);
	assert_true(shard->free_leaf_nr >= piece_nr && shard->free_node_nr >= node_need &&
		    shard->root_cap - shard->node_nr >= node_need);
	*tight = (struct tight){ .shard = shard, .root_cap = shard->root_cap };
	for (; shard->free_leaf_nr > piece_nr; shard->free_leaf_nr--) {
		struct pc_leaf *leaf = shard->free_leaves;

		shard->free_leaves = leaf->next_free;
		leaf->next_free = tight->leaves;
		tight->leaves = leaf;
	}
	for (; shard->free_node_nr > node_need; shard->free_node_nr--) {
		struct pc_node *node = shard->free_nodes;

		shard->free_nodes = node->next_free;
		node->next_free = tight->nodes;
		tight->nodes = node;
	}
	shard->root_cap = shard->node_nr + node_need;
	alloc_fails = true;
	alloc_nr = 0;
}

static void tight_end(struct tight *tight)
{
	struct pc_shard *shard = tight->shard;

	assert_int_equal(alloc_nr, 0);
	alloc_fails = false;
	shard->root_cap = tight->root_cap;
	while (tight->leaves != NULL) {
		struct pc_leaf *leaf = tight->leaves;

		tight->leaves = leaf->next_free;
		leaf->next_free = shard->free_leaves;
		shard->free_leaves = leaf;
		shard->free_leaf_nr++;
	}
	while (tight->nodes != NULL) {
		struct pc_node *node = tight->nodes;

		tight->nodes = node->next_free;
		node->next_free = shard->free_nodes;
		shard->free_nodes = node;
		shard->free_node_nr++;
	}
	assert_null(pc_shard_check_locked(shard));
}

static void put(struct pc_shard *shard, uint64_t blk, uint32_t len)
{
	struct pc_extent extent = { .vol_blk = blk, .len_blk = len, .flags = PC_EXT_ZERO };

	pc_shard_replace_locked(shard, blk, len, &extent, NULL, NULL);
}

/* Every leaf full: an ascending fill of 4-block extents packs them. */
static void fill_full(struct pc_shard *shard, uint32_t leaf_nr)
{
	for (uint32_t i = 0; i < leaf_nr * PC_LEAF_NR; i++) {
		assert_int_equal(pc_shard_reserve_locked(shard, 1), 0);
		put(shard, (uint64_t)i * 4, 4);
	}
	assert_int_equal(shard->leaf_nr, leaf_nr);
}

/* One cut in each of many full leaves with full neighbours, near and far: as many leaves as pieces, and the promise covers it. */
static void test_one_cut_in_every_full_leaf(void **state)
{
	(void)state;
	for (uint32_t slot_idx = 0; slot_idx < PC_LEAF_NR; slot_idx++) {
		for (uint32_t erase = 0; erase < 2; erase++) {
			const uint32_t leaf_nr = 300;
			struct alone alone;
			struct tight tight;

			alone_init(&alone);
			fill_full(&alone.shard, leaf_nr);
			/* Every sixth leaf, so that none can even out with one that was dealt out again before. */
			tight_begin(&tight, &alone.shard, leaf_nr / 6);
			for (uint32_t i = 0; i < leaf_nr / 6; i++) {
				uint64_t blk = (uint64_t)((6 * i + 2) * PC_LEAF_NR + slot_idx) * 4 + 1;

				if (erase)
					pc_shard_replace_locked(&alone.shard, blk, 2, NULL, NULL, NULL);
				else
					put(&alone.shard, blk, 2);
			}
			/* The bound is exact: one less would not do. */
			assert_int_equal(alone.shard.free_leaf_nr, 0);
			tight_end(&tight);
			alone_fini(&alone);
		}
	}
}

/* Single pieces, each under its own exact reserve, hammering one place from every side. */
static void test_one_piece_takes_one_leaf_at_most(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 60; seed++) {
		uint64_t dice = seed;
		struct alone alone;
		struct pc_shard *shard = &alone.shard;

		alone_init(&alone);
		fill_full(shard, 6);
		for (uint32_t op = 0; op < 600; op++) {
			uint64_t span = seed % 3 == 0 ? 6 * PC_LEAF_NR * 4 : 200;
			uint64_t blk = seed % 3 * 256 + rnd(&dice) % span;
			struct tight tight;

			tight_begin(&tight, shard, 1);
			if (rnd(&dice) % 4 == 0)
				pc_shard_replace_locked(shard, blk, 1 + rnd(&dice) % 3, NULL, NULL, NULL);
			else
				put(shard, blk, (uint32_t)(1 + rnd(&dice) % 8));
			tight_end(&tight);
		}
		alone_fini(&alone);
	}
}

static void test_random_batches_never_allocate(void **state)
{
	(void)state;
	for (uint64_t seed = 100; seed < 130; seed++) {
		uint64_t dice = seed;
		struct alone alone;
		struct pc_shard *shard = &alone.shard;

		alone_init(&alone);
		for (uint32_t batch = 0; batch < 400; batch++) {
			uint32_t piece_nr = (uint32_t)(1 + rnd(&dice) % 40);
			bool ascending = rnd(&dice) % 3 == 0;
			uint64_t start = rnd(&dice) % 30000;
			struct tight tight;

			tight_begin(&tight, shard, piece_nr);
			for (uint32_t i = 0; i < piece_nr; i++) {
				uint64_t blk = ascending ? start + i * 2 : rnd(&dice) % 30000;
				uint64_t kind = rnd(&dice) % 20;

				if (kind == 0)
					put(shard, blk, (uint32_t)(1 + rnd(&dice) % 4000));
				else if (kind == 1)
					pc_shard_replace_locked(shard, blk, 1 + rnd(&dice) % 4000, NULL, NULL, NULL);
				else if (kind < 5)
					pc_shard_replace_locked(shard, blk, 1, NULL, NULL, NULL);
				else
					put(shard, blk, (uint32_t)(1 + rnd(&dice) % 4));
			}
			tight_end(&tight);
		}
		alone_fini(&alone);
	}
}

/* Nodes full of full leaves, cut everywhere: the bound on nodes holds, for large reserves too. */
static void test_cuts_split_nodes(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 40; seed++) {
		uint32_t leaf_nr = (uint32_t)(50 + seed * 17);
		uint32_t piece_nr = (uint32_t)(1 + seed * seed * 3);
		uint64_t dice = seed, span = seed % 2 ? leaf_nr * PC_LEAF_NR * 4 : 2000;
		struct alone alone;
		struct tight tight;

		alone_init(&alone);
		fill_full(&alone.shard, leaf_nr);
		for (uint32_t round = 0; round < 8; round++) {
			tight_begin(&tight, &alone.shard, piece_nr);
			for (uint32_t i = 0; i < piece_nr; i++) {
				uint64_t blk = rnd(&dice) % span;

				if (rnd(&dice) % 5 == 0)
					pc_shard_replace_locked(&alone.shard, blk, 1 + rnd(&dice) % 900, NULL, NULL,
								NULL);
				else
					put(&alone.shard, round % 2 ? blk : i * 4 % span + 1, 2);
			}
			tight_end(&tight);
		}
		alone_fini(&alone);
	}
}

/* Reserves for a few pieces at a time, where nodes fill up, split, and become one again: the bound counts those alone that are nearly full. */
static void test_a_few_pieces_split_full_nodes(void **state)
{
	uint32_t split_nr = 0, joined_nr = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 12; seed++) {
		uint64_t dice = seed, span = seed % 2 ? 4000 : 40000;
		struct alone alone;
		struct pc_shard *shard = &alone.shard;

		alone_init(&alone);
		fill_full(shard, 70);
		for (uint32_t round = 0; round < 1500; round++) {
			uint32_t piece_nr = (uint32_t)(1 + rnd(&dice) % (PC_FEW_PIECES + 1)), node_nr = shard->node_nr;
			uint64_t start = rnd(&dice) % span;
			struct tight tight;

			tight_begin(&tight, shard, piece_nr);
			for (uint32_t i = 0; i < piece_nr; i++) {
				uint64_t blk = round % 2 ? start + i * PC_LEAF_NR * 4 : rnd(&dice) % span;

				if (rnd(&dice) % 400 == 0)
					pc_shard_replace_locked(shard, blk, 1 + rnd(&dice) % 8000, NULL, NULL, NULL);
				else
					put(shard, blk, 1);
			}
			tight_end(&tight);
			split_nr += shard->node_nr > node_nr;
			joined_nr += shard->node_nr < node_nr;
		}
		alone_fini(&alone);
	}
	assert_true(split_nr > 20 && joined_nr > 20);
}

/* Extents in regions that were empty take nodes, as many as there are regions. */
static void test_regions_take_nodes(void **state)
{
	(void)state;
	for (uint32_t piece_nr = 1; piece_nr < 100; piece_nr += 7) {
		struct alone alone;
		struct tight tight;

		alone_init(&alone);
		alone.shard.more_regions = 49;
		tight_begin(&tight, &alone.shard, piece_nr);
		for (uint64_t i = 0; i < piece_nr; i++)
			put(&alone.shard, (i * 7 % 50) << 32 | (i * 3), 2);
		tight_end(&tight);
		assert_int_equal(alone.shard.node_nr, PC_MIN(piece_nr, 50u));
		alone_fini(&alone);
	}
}

/* Whatever is left of leaves, of nodes and of places in the root: afterwards there is enough of each. */
static void test_reserve_tops_up_all(void **state)
{
	(void)state;
	for (uint32_t code = 0; code < 5 * 5 * 5 * 6; code++) {
		uint32_t root_left = code % 5;
		uint32_t free_leaf_nr = code / 5 % 5;
		uint32_t free_node_nr = code / 25 % 5;
		uint32_t piece_nr = code / 125;
		struct alone alone;
		struct pc_shard *shard = &alone.shard;

		alone_init(&alone);
		shard->more_regions = 5;
		assert_int_equal(pc_shard_reserve_locked(shard, 4), 0);
		shard->root_cap = root_left;
		for (; shard->free_leaf_nr > free_leaf_nr; shard->free_leaf_nr--)
			shard->free_leaves = shard->free_leaves->next_free;
		for (; shard->free_node_nr > free_node_nr; shard->free_node_nr--)
			shard->free_nodes = shard->free_nodes->next_free;
		assert_int_equal(pc_shard_reserve_locked(shard, piece_nr), 0);
		assert_true(shard->free_leaf_nr >= piece_nr && shard->free_node_nr >= piece_nr &&
			    shard->root_cap - shard->node_nr >= piece_nr);
		alone_fini(&alone);
	}
}

static void test_a_refused_reserve_changes_nothing(void **state)
{
	struct model m;
	uint64_t mask;

	(void)state;
	model_init(&m, 4, 16, 0, 256);
	for (uint32_t blk = 0; blk < 256; blk += 3)
		model_insert(&m, blk, 1, PC_EXT_DATA, 0);
	mask = pc_index_mask(m.index, 0, 256);
	alloc_fails = true;
	pc_index_lock(m.index, mask);
	assert_int_equal(pc_index_reserve_locked(m.index, mask, 100000), -ENOMEM);
	assert_int_equal(pc_index_reserve_locked(m.index, mask, UINT32_MAX), -ENOMEM);
	assert_int_equal(pc_index_reserve_locked(m.index, mask, 0), 0);
	pc_index_unlock(m.index, mask);
	alloc_fails = false;
	model_compare(&m);
	/* A second reserve of what is there already allocates nothing. */
	pc_index_lock(m.index, mask);
	assert_int_equal(pc_index_reserve_locked(m.index, mask, 50), 0);
	alloc_nr = 0;
	assert_int_equal(pc_index_reserve_locked(m.index, mask, 50), 0);
	assert_int_equal(alloc_nr, 0);
	pc_index_unlock(m.index, mask);
	model_compare(&m);
	model_fini(&m);
}

static void test_new_without_memory(void **state)
{
	struct pc_index_params params = model_params(4, 16);
	struct pc_index *index = NULL;

	(void)state;
	alloc_fails = true;
	assert_int_equal(pc_index_new(&params, &index), -ENOMEM);
	alloc_fails = false;
	assert_null(index);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_cut_in_every_full_leaf),
		cmocka_unit_test(test_one_piece_takes_one_leaf_at_most),
		cmocka_unit_test(test_random_batches_never_allocate),
		cmocka_unit_test(test_cuts_split_nodes),
		cmocka_unit_test(test_a_few_pieces_split_full_nodes),
		cmocka_unit_test(test_regions_take_nodes),
		cmocka_unit_test(test_reserve_tops_up_all),
		cmocka_unit_test(test_a_refused_reserve_changes_nothing),
		cmocka_unit_test(test_new_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
