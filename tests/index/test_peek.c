/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Look-ups without the lock, while the shard changes.
 *
 * First all interleavings with one change: before each single load of a look-up, in shards of many shapes, a whole change is made. The look-up must then end, in memory of the shard (which
 * is for valgrind and the address sanitizer to say), and must not count. Then threads: what does count is of one moment.
 */
#include <pthread.h>

#include "model.h"

static void before_load(void);

/* The same code, with a place for a change before each load. */
#define PC_PEEK(x) (before_load(), __atomic_load_n(&(x), __ATOMIC_RELAXED))
#define pc_shard_peek stepped_peek
#define pc_shard_peek_one stepped_peek_one
#define pc_shard_prefetch stepped_prefetch
#include "index/peek.c"
#undef pc_shard_peek
#undef pc_shard_peek_one
#undef pc_shard_prefetch

#define MAX 16u

/* ---- one change, before any load ------------------------------------------------------------------------------------- */

#define SPACE_BLK (1u << 16)
#define OTHER_REGION (UINT64_C(1) << 48)

static struct {
	struct pc_index *index;
	uint32_t load_nr; /* so far */
	uint32_t change_at; /* before this one */
	void (*change)(struct pc_index *index);
	uint32_t seed;
} stage;

static void before_load(void)
{
	if (stage.load_nr++ == stage.change_at)
		stage.change(stage.index);
}

static void insert(struct pc_index *index, uint64_t vol_blk, uint32_t len)
{
	struct pc_extent extent = { .vol_blk = vol_blk, .len_blk = len, .pos = ++stage.seed, .flags = PC_EXT_DATA };
	uint64_t mask = pc_index_mask(index, vol_blk, len);

	extent.seg_id = stage.seed % 1000;
	extent.crc = stage.seed;
	pc_index_lock(index, mask);
	assert_int_equal(pc_index_reserve_locked(index, mask, 4), 0);
	pc_index_insert_locked(index, &extent, NULL, NULL);
	pc_index_unlock(index, mask);
}

static void erase(struct pc_index *index, uint64_t vol_blk, uint64_t len)
{
	uint64_t mask = pc_index_mask(index, vol_blk, len);

	pc_index_lock(index, mask);
	assert_int_equal(pc_index_reserve_locked(index, mask, 4), 0);
	pc_index_erase_locked(index, vol_blk, len, NULL, NULL);
	pc_index_unlock(index, mask);
}

static void fill(struct pc_index *index, uint32_t nr, uint32_t step)
{
	for (uint32_t i = 0; i < nr; i++)
		insert(index, (uint64_t)i * step, 2);
}

/* Shapes. The blocks looked up lie around 2000. */
static void shape_empty(struct pc_index *index)
{
	(void)index;
}
static void shape_one(struct pc_index *index)
{
	insert(index, 2000, 8);
}
static void shape_full_leaf(struct pc_index *index)
{
	for (uint32_t i = 0; i < PC_LEAF_NR; i++)
		insert(index, 1900 + 4 * i, 2);
}
static void shape_leaves(struct pc_index *index)
{
	fill(index, 1000, 4);
}
static void shape_full_node(struct pc_index *index)
{
	fill(index, PC_NODE_NR * PC_LEAF_NR, 2);
}
static void shape_nodes(struct pc_index *index)
{
	fill(index, 3000, 8);
}
static void shape_full_root(struct pc_index *index)
{
	struct pc_shard *shard = pc_index_shards(index);

	/* Up to where the next node makes it grow: four are kept in reserve. */
	for (uint32_t i = 0; shard->node_nr < 2 || shard->root_cap - shard->node_nr > 4; i++)
		insert(index, (uint64_t)i * 4, 2);
}
static void shape_regions(struct pc_index *index)
{
	insert(index, 2000, 2);
	insert(index, OTHER_REGION + 2000, 2);
}
static void shape_zero(struct pc_index *index)
{
	struct pc_extent extent = { .vol_blk = 1996, .len_blk = 16, .pos = ++stage.seed, .flags = PC_EXT_ZERO };

	insert(index, 1990, 2);
	pc_index_lock(index, 1);
	assert_int_equal(pc_index_reserve_locked(index, 1, 4), 0);
	pc_index_insert_locked(index, &extent, NULL, NULL);
	pc_index_unlock(index, 1);
}
static void (*const shapes[])(struct pc_index *index) = { shape_empty,     shape_one,       shape_full_leaf,
							  shape_leaves,    shape_full_node, shape_nodes,
							  shape_full_root, shape_regions,   shape_zero };

/* Changes. */
static void change_insert(struct pc_index *index)
{
	insert(index, 2001, 1);
}
static void change_overwrite(struct pc_index *index)
{
	insert(index, 1998, 7);
}
static void change_erase_some(struct pc_index *index)
{
	erase(index, 1900, 200);
}
static void change_erase_all(struct pc_index *index)
{
	erase(index, 0, SPACE_BLK);
	erase(index, OTHER_REGION, SPACE_BLK);
}
static void change_all_anew(struct pc_index *index)
{
	change_erase_all(index);
	for (uint32_t i = 0; i < 300; i++)
		insert(index, OTHER_REGION + 3 * i, 1);
}
static void change_split(struct pc_index *index)
{
	for (uint32_t i = 0; i < 64; i++)
		insert(index, 1901 + 2 * i, 1);
}
static void change_root(struct pc_index *index)
{
	struct pc_shard *shard = pc_index_shards(index);

	pc_index_lock(index, 1);
	assert_int_equal(pc_shard_reserve_slow_locked(shard, shard->root_cap * 16), 0);
	pc_index_unlock(index, 1);
	fill(index, 100, 3);
}
static void (*const changes[])(struct pc_index *index) = { change_insert,    change_overwrite, change_erase_some,
							   change_erase_all, change_all_anew,  change_split,
							   change_root };

struct outcome {
	bool whole;
	bool counts;
	uint32_t nr;
	struct pc_extent out[MAX];
	struct pc_index_hit hit; /* of one */
};

/* one: of a single extent that has all of the range. */
static struct outcome look_up(struct pc_index *index, uint64_t vol_blk, uint32_t len, bool one)
{
	struct pc_shard *shard = pc_index_shards(index);
	uint64_t version = pc_spin_version(&shard->lock);
	struct outcome outcome;

	stage.load_nr = 0;
	outcome.nr = 0;
	if (one) {
		outcome.whole = stepped_peek_one(shard, vol_blk, len, &outcome.hit);
	} else {
		outcome.whole = stepped_peek(shard, vol_blk, vol_blk + len, outcome.out, MAX, &outcome.nr);
	}
	outcome.counts = pc_spin_is_unchanged(&shard->lock, version);
	return outcome;
}

static void check_hit(const struct pc_index_hit *hit, const struct pc_extent *extent)
{
	struct pc_index_params params = model_params(1, SPACE_BLK);

	assert_int_equal(hit->media_blk, (uint64_t)extent->seg_id * params.segment_blk + extent->seg_blk);
	assert_int_equal(hit->seg_id, extent->seg_id);
	assert_int_equal(hit->crc, extent->crc);
	assert_int_equal(hit->geom, extent->geom);
}

static bool is_data(const struct pc_extent *extent)
{
	return (extent->flags & PC_EXT_TYPE_MASK) == PC_EXT_DATA;
}

static void check_undisturbed(struct pc_index *index, uint64_t vol_blk, uint32_t len, bool one,
			      const struct outcome *outcome)
{
	struct pc_extent out[MAX];
	uint32_t nr;

	assert_true(outcome->counts);
	pc_index_lock(index, 1);
	nr = pc_index_lookup_locked(index, vol_blk, len, out, MAX);
	pc_index_unlock(index, 1);
	assert_int_equal(outcome->whole,
			 !one || (nr == 1 && out[0].vol_blk == vol_blk && out[0].len_blk == len && is_data(&out[0])));
	if (!outcome->whole)
		return;
	if (one) {
		check_hit(&outcome->hit, &out[0]);
		return;
	}
	assert_int_equal(outcome->nr, nr);
	assert_memory_equal(outcome->out, out, nr * sizeof(*out));
}

/* True: the look-up was over before change_at. */
static bool run(uint32_t shape_idx, uint32_t change_idx, uint64_t vol_blk, uint32_t len, bool one, uint32_t change_at)
{
	struct pc_index_params params = model_params(1, SPACE_BLK);
	struct outcome outcome;
	bool over;

	assert_int_equal(pc_index_new(&params, &stage.index), 0);
	shapes[shape_idx](stage.index);
	stage.change_at = change_at;
	stage.change = changes[change_idx];
	outcome = look_up(stage.index, vol_blk, len, one);
	over = stage.load_nr <= change_at;
	if (over)
		check_undisturbed(stage.index, vol_blk, len, one, &outcome);
	else
		assert_false(outcome.counts);
	assert_true(outcome.nr <= MAX);
	assert_null(pc_index_check(stage.index));
	pc_index_free(stage.index);
	return over;
}

static void test_any_change_before_any_load(void **state)
{
	static const struct {
		uint64_t vol_blk;
		uint32_t len;
		bool one;
	} ranges[] = { { 2000, 8, false },
		       { 1990, 64, false },
		       { OTHER_REGION + 2000, 2, false },
		       { 30000, 8, false },
		       { 2000, 2, true },
		       { 2001, 1, true },
		       { 2001, 2, true },
		       { OTHER_REGION + 2000, 2, true } };

	(void)state;
	for (uint32_t shape_idx = 0; shape_idx < PC_ARRAY_NR(shapes); shape_idx++) {
		for (uint32_t change_idx = 0; change_idx < PC_ARRAY_NR(changes); change_idx++) {
			for (uint32_t i = 0; i < PC_ARRAY_NR(ranges); i++) {
				uint32_t change_at = 0;

				while (!run(shape_idx, change_idx, ranges[i].vol_blk, ranges[i].len, ranges[i].one,
					    change_at))
					change_at++;
				assert_true(change_at > 0);
			}
		}
	}
}

/* Who comes while the lock is held learns nothing, whatever he would find. */
static void test_nothing_counts_under_the_lock(void **state)
{
	struct pc_index_params params = model_params(1, SPACE_BLK);
	struct pc_extent out[MAX];
	struct pc_index_peek peek;
	struct pc_index_hit hit;
	struct pc_index *index;

	(void)state;
	assert_int_equal(pc_index_new(&params, &index), 0);
	insert(index, 2000, 8);
	assert_true(pc_index_peek(index, 2000, 8, out, MAX, &peek));
	assert_true(pc_index_peek_one(index, 2000, 8, &hit, &peek));
	pc_index_lock(index, 1);
	assert_false(pc_index_peek(index, 2000, 8, out, MAX, &peek));
	assert_false(pc_index_peek_one(index, 2000, 8, &hit, &peek));
	pc_index_unlock(index, 1);
	assert_false(pc_index_peek_holds(&peek));
	pc_index_free(index);
}

/* ---- threads ------------------------------------------------------------------------------------------------------------ */

/*
 * Writers change a block and the one PAIR_BLK behind it in one hold of the lock, to the same position; others come and go around them, so that leaves and nodes split and join. Readers
 * look both up at once.
 */
#define WRITER_NR 2u
#define READER_NR 2u
#define PAIR_BLK 6u
#define GROUP_BLK 16u
#define GROUP_NR 512u
#define WRITES 30000u
#define COUNTED_MIN 2000u

static struct pc_index *shared;
static _Atomic uint32_t writers_left;
static _Atomic uint64_t pos_source;

static void put_locked(uint64_t vol_blk, uint64_t pos)
{
	struct pc_extent extent = {
		.vol_blk = vol_blk, .len_blk = 2, .pos = pos, .crc = (uint32_t)pos, .flags = PC_EXT_DATA
	};

	pc_index_insert_locked(shared, &extent, NULL, NULL);
}

static void *write_pairs(void *arg)
{
	uint64_t seed = (uint64_t)(uintptr_t)arg;

	for (uint32_t i = 0; i < WRITES; i++) {
		uint64_t group = rnd(&seed) % GROUP_NR * GROUP_BLK, pos = atomic_fetch_add(&pos_source, 1);
		uint64_t mask = pc_index_mask(shared, group, GROUP_BLK);

		pc_index_lock(shared, mask);
		if (pc_index_reserve_locked(shared, mask, 8) != 0)
			abort();
		if (rnd(&seed) % 4 == 0) {
			pc_index_erase_locked(shared, group, GROUP_BLK, NULL, NULL);
		} else {
			put_locked(group, pos);
			put_locked(group + PAIR_BLK, pos);
		}
		if (rnd(&seed) % 2 == 0)
			pc_index_erase_locked(shared, group + PAIR_BLK + 2, 8, NULL, NULL);
		else
			put_locked(group + PAIR_BLK + 2 + rnd(&seed) % 6, pos);
		pc_index_unlock(shared, mask);
	}
	atomic_fetch_sub(&writers_left, 1);
	return NULL;
}

/* Both or none of a pair, and of the same position. */
static bool is_of_one_moment(const struct pc_extent *out, uint32_t nr, uint64_t group)
{
	const struct pc_extent *first = NULL, *second = NULL;

	for (uint32_t i = 0; i < nr; i++) {
		if (i > 0 && out[i].vol_blk < out[i - 1].vol_blk + out[i - 1].len_blk)
			return false;
		if (out[i].crc != (uint32_t)out[i].pos)
			return false;
		if (out[i].vol_blk == group)
			first = &out[i];
		if (out[i].vol_blk == group + PAIR_BLK)
			second = &out[i];
	}
	if (first == NULL || second == NULL)
		return first == second;
	return first->pos == second->pos;
}

struct reader {
	uint64_t seed;
	uint64_t counted_nr;
	bool failed;
};

static void *read_pairs(void *arg)
{
	struct reader *reader = arg;
	struct pc_extent out[MAX];

	while (atomic_load(&writers_left) != 0 || reader->counted_nr < COUNTED_MIN) {
		uint64_t group = rnd(&reader->seed) % GROUP_NR * GROUP_BLK;
		struct pc_index_peek peek;

		if (!pc_index_peek(shared, group, GROUP_BLK, out, MAX, &peek) || !pc_index_peek_holds(&peek))
			continue;
		reader->counted_nr++;
		reader->failed |= !is_of_one_moment(out, peek.nr, group);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct pc_index_params params = model_params(1, GROUP_BLK * GROUP_NR);
	struct reader readers[READER_NR];
	pthread_t threads[WRITER_NR + READER_NR];

	(void)state;
	params.slot_nr = UINT64_C(1) << 26;
	assert_int_equal(pc_index_new(&params, &shared), 0);
	atomic_store(&writers_left, WRITER_NR);
	for (uintptr_t i = 0; i < WRITER_NR; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_pairs, (void *)(i + 1)), 0);
	for (uint32_t i = 0; i < READER_NR; i++) {
		readers[i] = (struct reader){ .seed = 100 + i };
		assert_int_equal(pthread_create(&threads[WRITER_NR + i], NULL, read_pairs, &readers[i]), 0);
	}
	for (uint32_t i = 0; i < WRITER_NR + READER_NR; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	for (uint32_t i = 0; i < READER_NR; i++)
		assert_false(readers[i].failed);
	assert_null(pc_index_check(shared));
	pc_index_free(shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_any_change_before_any_load),
					    cmocka_unit_test(test_nothing_counts_under_the_lock),
					    cmocka_unit_test(test_threads) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
