/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Cutting an extent, exhaustively for every chunk of at most 8 blocks: the chunk that a part describes never changes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "index/index.h"

#define VOLUME_BLK (UINT64_C(3) << 48)

static void check_part(const struct pc_extent *whole, uint32_t skip_blk, uint32_t len_blk)
{
	struct pc_extent part = pc_extent_part(whole, whole->vol_blk + skip_blk, len_blk);

	assert_int_equal(part.vol_blk, whole->vol_blk + skip_blk);
	assert_int_equal(part.len_blk, len_blk);
	assert_int_equal(part.pos, whole->pos);
	assert_int_equal(part.seg_id, whole->seg_id);
	assert_int_equal(part.crc, whole->crc);
	assert_int_equal(part.flags, whole->flags);
	assert_int_equal(part.seg_blk, whole->seg_blk + skip_blk);
	assert_int_equal(part.seg_blk - (part.geom & 7), whole->seg_blk - (whole->geom & 7));
	assert_int_equal((part.geom & 7) + part.len_blk + (part.geom >> 3),
			 (whole->geom & 7) + whole->len_blk + (whole->geom >> 3));
}

static void test_data_part_keeps_its_chunk(void **state)
{
	(void)state;
	for (uint32_t head = 0; head < 8; head++) {
		for (uint32_t len = 1; head + len <= 8; len++) {
			for (uint32_t tail = 0; head + len + tail <= 8; tail++) {
				struct pc_extent whole = { .vol_blk = VOLUME_BLK + 1000,
							   .pos = 77,
							   .len_blk = len,
							   .seg_id = 5,
							   .crc = 0xdeadbeef,
							   .seg_blk = (uint16_t)(40 + head),
							   .geom = (uint8_t)(head | tail << 3),
							   .flags = PC_EXT_DATA | PC_EXT_DIRTY };

				for (uint32_t skip = 0; skip < len; skip++) {
					for (uint32_t part = 1; skip + part <= len; part++)
						check_part(&whole, skip, part);
				}
			}
		}
	}
}

static void test_a_part_of_a_part_is_that_part(void **state)
{
	struct pc_extent whole = { .vol_blk = 8, .len_blk = 8, .seg_blk = 16 };
	struct pc_extent once = pc_extent_part(&whole, 11, 2);
	struct pc_extent twice = pc_extent_part(&whole, 10, 5);

	(void)state;
	twice = pc_extent_part(&twice, 11, 2);
	assert_memory_equal(&once, &twice, sizeof(once));
	assert_int_equal(once.geom, 3 | 3 << 3);
}

static void test_zero_and_poison_change_the_range_only(void **state)
{
	static const uint8_t flags[] = { PC_EXT_ZERO, PC_EXT_ZERO | PC_EXT_DISCARD | PC_EXT_DIRTY, PC_EXT_POISON };

	(void)state;
	for (size_t i = 0; i < PC_ARRAY_NR(flags); i++) {
		struct pc_extent whole = { .vol_blk = 100, .pos = 9, .len_blk = 1000000, .flags = flags[i] };
		struct pc_extent want = whole;
		struct pc_extent part = pc_extent_part(&whole, 5000, 70000);

		want.vol_blk = 5000;
		want.len_blk = 70000;
		assert_memory_equal(&part, &want, sizeof(part));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_data_part_keeps_its_chunk),
		cmocka_unit_test(test_a_part_of_a_part_is_that_part),
		cmocka_unit_test(test_zero_and_poison_change_the_range_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
