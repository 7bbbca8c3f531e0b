/* SPDX-License-Identifier: BSD-3-Clause */
/* Keys: round trip of one cell, every rule of pc_key_check at its edge, numbers of chunks and cells, and the line of text. */
#include "format/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* 64 blocks of 512 in a segment, 8 to a chunk. */
static const struct pc_kset_rules rules_512 = {
	.block_bytes = 512, .segment_bytes = 32768, .segment_nr = 10, .backing_blk = 1000, .data_crc = true
};
static const struct pc_kset_rules rules_4096 = {
	.block_bytes = 4096, .segment_bytes = 1u << 24, .segment_nr = 10, .backing_blk = 1u << 20, .data_crc = true
};

/* One whole chunk. */
static const struct pc_key data_key = {
	.vol_blk = 100, .gen = 7, .crc = 0xdeadbeef, .seg_id = 3, .len_blk = 8, .seg_blk = 16, .flags = PC_KEY_DATA
};
static const struct pc_key zero_key = { .vol_blk = 100, .len_blk = 8, .flags = PC_KEY_ZERO };

static bool check_with(const struct pc_key *base, uint32_t seg_blk, uint32_t len_blk, uint32_t head_blk,
		       uint32_t tail_blk)
{
	struct pc_key key = *base;

	key.seg_blk = (uint16_t)seg_blk;
	key.len_blk = len_blk;
	key.geom = PC_GEOM(head_blk, tail_blk);
	if (pc_key_chunk_nr(&key, rules_512.block_bytes) > 1)
		key.crc = 0;
	return pc_key_check(&key, &rules_512);
}

static void round_trip(void **state)
{
	const struct pc_key key = { .vol_blk = UINT64_C(0x1234a0b0c0d0e0f0),
				    .gen = UINT64_C(0x1122334455667788),
				    .crc = 0x99aabbcc,
				    .seg_id = 0xddeeff00,
				    .len_blk = 0x13579bdf,
				    .seg_blk = 0x2468,
				    .geom = 0x3f,
				    .flags = 0xa5 };
	struct pcm_key cell;
	struct pc_key out;

	(void)state;
	pc_key_encode(&key, &cell);
	pc_key_decode(&cell, &out);
	assert_true(out.vol_blk == key.vol_blk && out.gen == key.gen);
	assert_int_equal(out.crc, key.crc);
	assert_int_equal(out.seg_id, key.seg_id);
	assert_int_equal(out.len_blk, key.len_blk);
	assert_int_equal(out.seg_blk, key.seg_blk);
	assert_int_equal(out.geom, key.geom);
	assert_int_equal(out.flags, key.flags);
}

#define EXPECT_WITH(good, base, member, value) \
	do { \
		struct pc_key changed = (base); \
		changed.member = (value); \
		assert_int_equal(pc_key_check(&changed, &rules_512), (good)); \
	} while (0)

static void the_range_lies_on_the_backing(void **state)
{
	(void)state;
	EXPECT_WITH(true, data_key, vol_blk, 0);
	EXPECT_WITH(true, data_key, vol_blk, 992);
	EXPECT_WITH(false, data_key, vol_blk, 993);
	EXPECT_WITH(false, data_key, vol_blk, 1000);
	EXPECT_WITH(false, data_key, vol_blk, PC_KEY_BLK_MASK);
	EXPECT_WITH(false, data_key, vol_blk, UINT64_C(1) << 48); /* a volume other than 0 */
	EXPECT_WITH(false, data_key, vol_blk, UINT64_MAX);
	EXPECT_WITH(false, data_key, len_blk, 0);
	EXPECT_WITH(true, zero_key, len_blk, 900);
	EXPECT_WITH(false, zero_key, len_blk, 901);
	EXPECT_WITH(false, zero_key, len_blk, UINT32_MAX);
	{
		struct pc_kset_rules wide = rules_512;
		struct pc_key key = zero_key;

		wide.backing_blk = UINT64_C(1) << 40;
		key.len_blk = PC_KEY_BARE_BLK_MAX;
		assert_true(pc_key_check(&key, &wide));
		key.len_blk++;
		assert_false(pc_key_check(&key, &wide));
	}
	EXPECT_WITH(false, zero_key, len_blk, 0);
}

static void the_data_lies_in_a_segment(void **state)
{
	(void)state;
	EXPECT_WITH(true, data_key, seg_id, 9);
	EXPECT_WITH(false, data_key, seg_id, 10);
	EXPECT_WITH(false, data_key, seg_id, UINT32_MAX);
	EXPECT_WITH(true, data_key, seg_blk, 0);
	EXPECT_WITH(true, data_key, seg_blk, 56);
	EXPECT_WITH(false, data_key, seg_blk, 57);
	EXPECT_WITH(false, data_key, seg_blk, UINT16_MAX);
	EXPECT_WITH(true, data_key, gen, UINT64_MAX);
	EXPECT_WITH(true, data_key, gen, 0);
	assert_true(check_with(&data_key, 0, 64, 0, 0));
	assert_false(check_with(&data_key, 0, 65, 0, 0));
	assert_false(check_with(&data_key, 0, UINT32_MAX, 0, 0));
	assert_false(check_with(&data_key, 63, UINT32_MAX - 62, 0, 0));
}

static void head_and_tail_complete_chunks(void **state)
{
	(void)state;
	assert_true(check_with(&data_key, 16, 1, 7, 0));
	assert_true(check_with(&data_key, 16, 1, 3, 4));
	assert_true(check_with(&data_key, 16, 1, 0, 7));
	assert_false(check_with(&data_key, 16, 1, 1, 7)); /* the tail would be a chunk of its own */
	assert_false(check_with(&data_key, 16, 8, 0, 1));
	assert_true(check_with(&data_key, 16, 9, 7, 0));
	assert_true(check_with(&data_key, 16, 10, 7, 7));
	assert_false(check_with(&data_key, 16, 9, 7, 1));
	assert_true(check_with(&data_key, 16, 9, 0, 0)); /* the last chunk is short */
	assert_true(check_with(&data_key, 3, 5, 3, 0));
	assert_false(check_with(&data_key, 2, 5, 3, 0)); /* the first chunk would begin before the segment */
	assert_true(check_with(&data_key, 60, 2, 0, 2));
	assert_false(check_with(&data_key, 60, 2, 0, 3)); /* the last chunk would end after it */
	EXPECT_WITH(false, data_key, geom, 0x40);
	EXPECT_WITH(false, data_key, geom, 0x80);
}

static void blocks_of_a_chunk_have_no_head_or_tail(void **state)
{
	struct pc_key key = data_key;

	(void)state;
	key.crc = 0;
	assert_true(pc_key_check(&key, &rules_4096));
	key.seg_blk = 4088;
	assert_true(pc_key_check(&key, &rules_4096));
	key.seg_blk = 4089;
	assert_false(pc_key_check(&key, &rules_4096));
	key.seg_blk = 16;
	key.geom = PC_GEOM(1, 0);
	assert_false(pc_key_check(&key, &rules_4096));
	key.geom = PC_GEOM(0, 1);
	assert_false(pc_key_check(&key, &rules_4096));
}

static void flags_and_types(void **state)
{
	const uint8_t unknown[] = { 32, 64, 128 };
	const uint8_t types[] = { PC_KEY_DATA, PC_KEY_ZERO, PC_KEY_POISON };

	(void)state;
	for (size_t i = 0; i < PC_ARRAY_NR(unknown); i++) {
		EXPECT_WITH(false, data_key, flags, unknown[i]);
		EXPECT_WITH(false, zero_key, flags, PC_KEY_ZERO | unknown[i]);
	}
	for (size_t i = 0; i < PC_ARRAY_NR(types); i++) {
		const struct pc_key base = types[i] == PC_KEY_DATA ? data_key : zero_key;

		EXPECT_WITH(true, base, flags, types[i]);
		EXPECT_WITH(true, base, flags, types[i] | PC_KEY_CLEAN);
		EXPECT_WITH(true, base, flags, types[i] | PC_KEY_CLEAN | PC_KEY_RELOGGED);
		EXPECT_WITH(types[i] == PC_KEY_ZERO, base, flags, types[i] | PC_KEY_DISCARD);
	}
	EXPECT_WITH(false, data_key, flags, 3);
	EXPECT_WITH(false, zero_key, flags, 3);
}

static void zero_and_poison_have_no_place(void **state)
{
	struct pc_key poison = zero_key;

	(void)state;
	poison.flags = PC_KEY_POISON;
	EXPECT_WITH(false, zero_key, gen, 1);
	EXPECT_WITH(false, zero_key, seg_id, 1);
	EXPECT_WITH(false, zero_key, seg_blk, 1);
	EXPECT_WITH(false, zero_key, geom, 1);
	EXPECT_WITH(false, zero_key, crc, 1);
	EXPECT_WITH(false, poison, gen, 1);
	EXPECT_WITH(false, poison, seg_id, 1);
	EXPECT_WITH(false, poison, seg_blk, 1);
	EXPECT_WITH(false, poison, geom, 1);
	EXPECT_WITH(false, poison, crc, 1);
}

static void crc_in_the_cell_only_for_one_chunk(void **state)
{
	struct pc_kset_rules no_crc = rules_512;
	struct pc_key key = data_key;

	(void)state;
	no_crc.data_crc = false;
	assert_false(pc_key_check(&key, &no_crc));
	key.crc = 0;
	assert_true(pc_key_check(&key, &no_crc));
	assert_true(pc_key_check(&key, &rules_512)); /* 0 is a CRC as good as others */
	key.len_blk = 9;
	assert_true(pc_key_check(&key, &no_crc));
	assert_true(pc_key_check(&key, &rules_512));
	key.crc = 1;
	assert_false(pc_key_check(&key, &rules_512));
}

static void chunks_and_cells(void **state)
{
	struct pc_kset_rules no_crc = rules_512;
	struct pc_key key = data_key;

	(void)state;
	no_crc.data_crc = false;
	assert_int_equal(pc_key_chunk_nr(&key, 512), 1);
	assert_int_equal(pc_key_cell_nr(&key, &rules_512), 1);
	key.len_blk = 9;
	assert_int_equal(pc_key_chunk_nr(&key, 512), 2);
	assert_int_equal(pc_key_cell_nr(&key, &rules_512), 2);
	assert_int_equal(pc_key_cell_nr(&key, &no_crc), 1);
	key.len_blk = 64;
	assert_int_equal(pc_key_chunk_nr(&key, 512), 8);
	assert_int_equal(pc_key_cell_nr(&key, &rules_512), 2);
	key.len_blk = 57;
	key.geom = PC_GEOM(7, 0);
	assert_int_equal(pc_key_chunk_nr(&key, 512), 8);
	key.len_blk = 58;
	assert_int_equal(pc_key_chunk_nr(&key, 512), 9);
	assert_int_equal(pc_key_cell_nr(&key, &rules_512), 3);
	key.geom = PC_GEOM(7, 7);
	key.len_blk = UINT32_MAX;
	assert_int_equal(pc_key_chunk_nr(&key, 512), (UINT32_MAX - 7) / 8 + 3);
	assert_true(pc_key_chunk_nr(&key, 4096) == UINT32_MAX);
	assert_int_equal(pc_key_cell_nr(&key, &rules_4096), 1 + (1u << 29));
	key.flags = PC_KEY_ZERO;
	assert_int_equal(pc_key_cell_nr(&key, &rules_512), 1);
	key = data_key;
	key.len_blk = 4096;
	assert_int_equal(pc_key_cell_nr(&key, &rules_4096), 513); /* a whole segment */
	assert_int_equal(pc_cells_to_slots(1), 1);
	assert_int_equal(pc_cells_to_slots(2), 1);
	assert_int_equal(pc_cells_to_slots(3), 2);
}

static void rules_come_from_the_superblock(void **state)
{
	const struct pc_super super = { .flags = PC_SUPER_FLAG_DATA_CRC,
					.backing_bytes = 40960,
					.segment_bytes = 131072,
					.segment_nr = 12,
					.block_bytes = 4096 };
	struct pc_super without = super;
	struct pc_kset_rules rules;

	(void)state;
	pc_kset_rules_of(&super, &rules);
	assert_int_equal(rules.block_bytes, 4096);
	assert_int_equal(rules.segment_bytes, 131072);
	assert_int_equal(rules.segment_nr, 12);
	assert_int_equal(rules.backing_blk, 10);
	assert_true(rules.data_crc);
	without.flags = 0;
	pc_kset_rules_of(&without, &rules);
	assert_false(rules.data_crc);
}

static void one_line_of_text(void **state)
{
	const struct pcm_le32 crcs[] = { { 0x1 }, { 0xabcdef01 } };
	struct pc_key key = data_key;
	char *text = NULL;
	size_t len;
	FILE *to;

	(void)state;
	key.geom = PC_GEOM(2, 5);
	key.flags |= PC_KEY_CLEAN | PC_KEY_RELOGGED;
	to = open_memstream(&text, &len);
	assert_non_null(to);
	pc_key_to_text(to, &key, crcs, 2);
	key = zero_key;
	key.flags |= PC_KEY_DISCARD | 0x40;
	key.vol_blk |= UINT64_C(3) << 48;
	pc_key_to_text(to, &key, NULL, 0);
	assert_int_equal(fclose(to), 0);
	assert_string_equal(text,
			    "key type=data flags=clean,relogged volume=0 blk=100 len_blk=8 seg_id=3 seg_blk=16 gen=7"
			    " head_blk=2 tail_blk=5 crcs=00000001,abcdef01\n"
			    "key type=zero flags=discard,0x40 volume=3 blk=100 len_blk=8 seg_id=0 seg_blk=0 gen=0"
			    " head_blk=0 tail_blk=0 crcs=-\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(the_range_lies_on_the_backing),
		cmocka_unit_test(the_data_lies_in_a_segment),
		cmocka_unit_test(head_and_tail_complete_chunks),
		cmocka_unit_test(blocks_of_a_chunk_have_no_head_or_tail),
		cmocka_unit_test(flags_and_types),
		cmocka_unit_test(zero_and_poison_have_no_place),
		cmocka_unit_test(crc_in_the_cell_only_for_one_chunk),
		cmocka_unit_test(chunks_and_cells),
		cmocka_unit_test(rules_come_from_the_superblock),
		cmocka_unit_test(one_line_of_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
