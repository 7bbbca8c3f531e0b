/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The classifier of overlaps against its definition by sets of blocks, for all pairs of ranges in a small space, also near 2^63.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "index/index.h"

#define SPACE_BLK 12u

static uint32_t blocks_of(uint32_t blk, uint32_t len)
{
	return ((1u << len) - 1) << blk;
}

/* By what is left of the old extent, not by comparing ends. */
static enum pc_overlap define(uint32_t new_blk, uint32_t new_len, uint32_t old_blk, uint32_t old_len)
{
	uint32_t old_set = blocks_of(old_blk, old_len);
	uint32_t new_set = blocks_of(new_blk, new_len);
	uint32_t left = old_set & ~new_set;

	if (old_set == new_set)
		return PC_OVERLAP_EQUAL;
	if (left == old_set)
		return PC_OVERLAP_NONE;
	if (left == 0)
		return PC_OVERLAP_CONTAINS;
	if ((left & 1u << old_blk) == 0)
		return PC_OVERLAP_HEAD;
	if ((left & 1u << (old_blk + old_len - 1)) == 0)
		return PC_OVERLAP_TAIL;
	return PC_OVERLAP_CONTAINED;
}

static void check_space(uint64_t base)
{
	uint32_t seen = 0;

	for (uint32_t a = 0; a < SPACE_BLK; a++) {
		for (uint32_t al = 1; a + al <= SPACE_BLK; al++) {
			for (uint32_t b = 0; b < SPACE_BLK; b++) {
				for (uint32_t bl = 1; b + bl <= SPACE_BLK; bl++) {
					enum pc_overlap got = pc_overlap_classify(base + a, al, base + b, bl);

					assert_int_equal(got, define(a, al, b, bl));
					seen |= 1u << got;
				}
			}
		}
	}
	assert_int_equal(seen, (1u << (PC_OVERLAP_CONTAINED + 1)) - 1);
}

static void test_all_pairs(void **state)
{
	(void)state;
	check_space(0);
	check_space((UINT64_C(1) << 63) - 6);
	check_space(UINT64_C(0xffff) << 48);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_all_pairs) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
