/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Four threads on one index, random ranges over several shards each, for the thread sanitizer. What each thread displaced and inserted must
 * add up to what is left.
 */
#include <pthread.h>

#include "model.h"

#define THREAD_NR 4
#define OP_NR 8000
#define SPACE_BLK 4096u
#define BASE_BLK (UINT64_C(2) << 48)

struct worker {
	struct pc_index *index;
	uint64_t seed;
	int64_t balance_blk; /* inserted less displaced and dropped */
	bool failed;
};

static void displaced(void *ctx, const struct pc_extent *piece)
{
	struct worker *worker = ctx;

	worker->balance_blk -= piece->len_blk;
}

static enum pc_walk drop_some(void *ctx, struct pc_extent *extent)
{
	struct worker *worker = ctx;

	if (rnd(&worker->seed) % 2) {
		worker->balance_blk -= extent->len_blk;
		return PC_WALK_DROP;
	}
	extent->flags = (uint8_t)(extent->flags & ~PC_EXT_DIRTY);
	return PC_WALK_KEEP;
}

/* What was just inserted is what is found under the same lock, whatever others do. */
static bool found_again(struct worker *worker, uint64_t vol_blk, uint32_t len, uint64_t pos)
{
	struct pc_extent out[16];
	uint32_t nr = pc_index_lookup_locked(worker->index, vol_blk, len, out, 16);
	uint64_t next = vol_blk;

	for (uint32_t i = 0; i < nr; i++) {
		if (out[i].vol_blk != next || out[i].pos != pos)
			return false;
		next += out[i].len_blk;
	}
	return nr == 16 || next == vol_blk + len;
}

static void *work(void *arg)
{
	struct worker *worker = arg;

	for (uint32_t op = 0; op < OP_NR; op++) {
		uint32_t len = (uint32_t)(1 + rnd(&worker->seed) % 100);
		uint64_t vol_blk = BASE_BLK + rnd(&worker->seed) % (SPACE_BLK - len);
		uint64_t pos = worker->seed >> 38; /* any of them is in the window */
		uint64_t mask = pc_index_mask(worker->index, vol_blk, len);
		struct pc_extent extent = {
			.vol_blk = vol_blk, .len_blk = len, .pos = pos, .flags = PC_EXT_ZERO | PC_EXT_DIRTY
		};
		struct pc_fill fill = { .vol_blk = vol_blk, .len_blk = 1 };

		pc_index_lock(worker->index, mask);
		if (pc_index_reserve_locked(worker->index, mask, len) != 0) {
			worker->failed = true;
		} else if (op % 8 == 0) {
			pc_index_erase_locked(worker->index, vol_blk, len, displaced, worker);
		} else if (op % 8 == 1) {
			pc_index_walk_range_locked(worker->index, vol_blk, len, drop_some, worker);
		} else {
			pc_index_fill_list_locked(worker->index, &fill);
			pc_index_insert_locked(worker->index, &extent, displaced, worker);
			worker->balance_blk += len;
			worker->failed |= !fill.cancelled || !found_again(worker, vol_blk, len, pos);
			pc_index_fill_unlist_locked(worker->index, &fill);
		}
		pc_index_unlock(worker->index, mask);
		if (op % 64 == 0)
			worker->failed |= pc_index_extent_nr(worker->index) > SPACE_BLK ||
					  pc_index_dram_bytes(worker->index) == 0;
		if (op % 1024 == 0)
			worker->failed |= pc_index_check(worker->index) != NULL;
	}
	return NULL;
}

static void test_four_threads(void **state)
{
	static struct pc_extent out[SPACE_BLK];
	struct pc_index_params params = model_params(6, 32);
	struct worker workers[THREAD_NR];
	pthread_t threads[THREAD_NR];
	int64_t balance_blk = 0;
	struct pc_index *index;
	uint32_t nr;

	(void)state;
	assert_int_equal(pc_index_new(&params, &index), 0);
	for (uint32_t i = 0; i < THREAD_NR; i++) {
		workers[i] = (struct worker){ .index = index, .seed = 1000 + i };
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (uint32_t i = 0; i < THREAD_NR; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_false(workers[i].failed);
		balance_blk += workers[i].balance_blk;
	}
	assert_null(pc_index_check(index));
	pc_index_lock(index, pc_index_mask(index, BASE_BLK, SPACE_BLK));
	nr = pc_index_lookup_locked(index, BASE_BLK, SPACE_BLK, out, SPACE_BLK);
	pc_index_unlock(index, pc_index_mask(index, BASE_BLK, SPACE_BLK));
	assert_int_equal(nr, pc_index_extent_nr(index));
	for (uint32_t i = 0; i < nr; i++)
		balance_blk -= out[i].len_blk;
	assert_int_equal(balance_blk, 0);
	pc_index_free(index);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_four_threads) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
