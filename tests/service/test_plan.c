/* SPDX-License-Identifier: BSD-3-Clause */
/* The pure decisions of the services: which segments to evict, in which order a batch goes to the backing, and which epochs share a tail record. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "service/internal.h"

static struct pc_wb_item scratch[PC_WB_ITEM_MAX];

static uint32_t pick(const char *segs, uint32_t *hand, uint32_t want, char *out)
{
	struct pc_evict_candidate candidates[16];
	uint8_t victim[16] = { 0 };
	uint32_t nr = (uint32_t)strlen(segs), picked;

	/* e: eligible, t: eligible and touched, '-': neither, '+': touched only */
	for (uint32_t i = 0; i < nr; i++)
		candidates[i] = (struct pc_evict_candidate){ .eligible = segs[i] == 'e' || segs[i] == 't',
							     .touched = segs[i] == 't' || segs[i] == '+' };
	picked = pc_evict_pick(candidates, nr, hand, want, victim);
	for (uint32_t i = 0; i < nr; i++)
		out[i] = victim[i]                ? 'V'
			 : candidates[i].eligible ? (candidates[i].touched ? 't' : 'e')
			 : candidates[i].touched  ? '+'
						  : '-';
	out[nr] = 0;
	return picked;
}

static void clock_goes_round(void **state)
{
	uint32_t hand = 0;
	char out[17];

	(void)state;
	assert_int_equal(pick("eeee", &hand, 1, out), 1);
	assert_string_equal(out, "Veee");
	assert_int_equal(hand, 1);
	assert_int_equal(pick("eeee", &hand, 2, out), 2);
	assert_string_equal(out, "eVVe");
	assert_int_equal(hand, 3);
	assert_int_equal(pick("eeee", &hand, 2, out), 2);
	assert_string_equal(out, "VeeV");
	assert_int_equal(hand, 1);
	/* Touched segments are spared once, and only those that the hand passed lose the mark. */
	hand = 0;
	assert_int_equal(pick("ttet", &hand, 1, out), 1);
	assert_string_equal(out, "eeVt");
	assert_int_equal(hand, 3);
	/* All touched: the second turn takes them. */
	hand = 2;
	assert_int_equal(pick("tttt", &hand, 1, out), 1);
	assert_string_equal(out, "eeVe");
	hand = 0;
	assert_int_equal(pick("tttt", &hand, 9, out), 4);
	assert_string_equal(out, "VVVV");
	/* What is not eligible is left alone, mark and all. */
	hand = 0;
	assert_int_equal(pick("-+-+", &hand, 4, out), 0);
	assert_string_equal(out, "-+-+");
	assert_int_equal(pick("-e+-t-", &hand, 4, out), 2);
	assert_string_equal(out, "-V+-V-");
	assert_int_equal(pick("eeee", &hand, 0, out), 0);
	assert_string_equal(out, "eeee");
}

static struct pc_wb_item item(uint64_t vol_blk, uint32_t len_blk, uint64_t pos, uint32_t seq)
{
	return (struct pc_wb_item){ .extent = { .vol_blk = vol_blk, .len_blk = len_blk, .pos = pos }, .seq = seq };
}

static void neighbours_come_together(void **state)
{
	struct pc_wb_item items[] = { item(30, 10, 1, 0), item(10, 5, 2, 1), item(15, 15, 3, 2), item(0, 4, 4, 3) };
	const uint64_t want[] = { 0, 10, 15, 30 };

	(void)state;
	assert_true(pc_wb_plan(items, scratch, 4));
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(items[i].extent.vol_blk, want[i]);
	assert_true(pc_wb_plan(items, scratch, 1));
	assert_true(pc_wb_plan(items, scratch, 0));
}

static void overlaps_go_in_log_order(void **state)
{
	struct pc_wb_item items[] = { item(10, 4, 9, 0), item(50, 1, 3, 1), item(12, 1, 5, 2), item(13, 4, 7, 3),
				      item(8, 3, 9, 4) };
	const uint64_t want[] = { 50, 12, 13, 10, 8 };

	(void)state;
	assert_false(pc_wb_plan(items, scratch, 5));
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(items[i].extent.vol_blk, want[i]);
	/* Of one kset, the later key is written later. */
	for (uint32_t turn = 0; turn < 2; turn++) {
		struct pc_wb_item same[] = { item(20, 8, 6, turn), item(20, 8, 6, 1 - turn) };

		assert_false(pc_wb_plan(same, scratch, 2));
		assert_int_equal(same[0].seq, 0);
		assert_int_equal(same[1].seq, 1);
	}
	/* A long one that begins early overlaps one that is not its neighbour in order of offsets. */
	struct pc_wb_item wide[] = { item(0, 100, 8, 0), item(10, 1, 2, 1), item(50, 1, 3, 2) };
	assert_false(pc_wb_plan(wide, scratch, 3));
	assert_int_equal(wide[2].extent.len_blk, 100);
}

/* A group goes on while no block is in it twice. */
static void epochs_share_while_apart(void **state)
{
	static const struct {
		uint64_t blk, end_blk;
		bool apart;
	} tries[] = { { 10, 20, false }, { 0, 11, false },  { 19, 30, false }, { 5, 50, false },
		      { 12, 13, false }, { 0, 10, true },   { 20, 40, true },  { 40, 50, false },
		      { 39, 41, false }, { 49, 51, false }, { 30, 40, true },  { 50, 60, true } };
	struct pc_wb_group group;

	(void)state;
	for (size_t i = 0; i < PC_ARRAY_NR(tries); i++) {
		pc_wb_group_begin(&group, true);
		pc_wb_group_add(&group, 40, 50);
		pc_wb_group_add(&group, 10, 20);
		assert_true(group.apart);
		pc_wb_group_add(&group, tries[i].blk, tries[i].end_blk);
		assert_int_equal(group.apart, tries[i].apart);
	}
	/* Once it does not, it never does again. */
	pc_wb_group_begin(&group, true);
	pc_wb_group_add(&group, 1, 2);
	pc_wb_group_add(&group, 1, 2);
	pc_wb_group_add(&group, 3, 4);
	assert_false(group.apart);
	pc_wb_group_begin(&group, false);
	pc_wb_group_add(&group, 1, 2);
	assert_false(group.apart);
	/* Downwards, upwards and in between, until it is full. */
	pc_wb_group_begin(&group, true);
	for (uint64_t i = 0; i < PC_WB_GROUP_KEYS; i++) {
		uint64_t blk = 8 * (i * 37 % PC_WB_GROUP_KEYS);

		pc_wb_group_add(&group, blk, blk + 8);
		assert_true(group.apart);
	}
	for (uint32_t i = 0; i < PC_WB_GROUP_KEYS; i++)
		assert_int_equal(group.ranges[i].blk, 8 * i);
	pc_wb_group_add(&group, 8 * PC_WB_GROUP_KEYS, 8 * PC_WB_GROUP_KEYS + 1);
	assert_false(group.apart);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clock_goes_round),
		cmocka_unit_test(neighbours_come_together),
		cmocka_unit_test(overlaps_go_in_log_order),
		cmocka_unit_test(epochs_share_while_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
