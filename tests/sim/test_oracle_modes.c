/* SPDX-License-Identifier: BSD-3-Clause */
/* The oracle: modes that change between opens, lost blocks, and the disk that keeps versions instead of bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/oracle.h"

#define BLK_NR 4u
#define BLK_BYTES 512u

static struct pc_oracle *oracle;
static struct pc_oracle_disk disk;

static void start(bool commit_flush, bool order_batch)
{
	const struct pc_oracle_options options = {.block_nr = BLK_NR, .block_bytes = BLK_BYTES, .commit_flush = commit_flush, .order_batch = order_batch};

	oracle = pc_oracle_new(&options);
	assert_non_null(oracle);
	pc_oracle_disk_init(&disk);
	pc_oracle_disk_format(oracle, &disk);
}

static int stop(void **state)
{
	(void)state;
	pc_oracle_free(oracle);
	pc_oracle_disk_fini(&disk);
	return 0;
}

static uint32_t write_blk(uint32_t blk)
{
	const uint32_t version = pc_oracle_next_version(oracle);

	pc_oracle_begin(oracle, true);
	pc_oracle_put(oracle, blk, 1, version, false);
	pc_oracle_end(oracle, true, false);
	return version;
}

/* The write reaches the backing, and whether the backing may be so. */
static bool back(uint32_t blk, uint32_t version)
{
	uint8_t buf[BLK_BYTES];

	pc_oracle_fill(oracle, buf, blk, 1, version);
	assert_true(pc_oracle_disk_write(oracle, &disk, blk, 1, buf));
	return pc_oracle_check_backing(oracle, &disk);
}

/* Two epochs that reach the backing in the wrong order: a violation in strict, none in batch. */
static void test_order_is_that_of_the_mode(void **state)
{
	(void)state;
	for (uint32_t batch = 0; batch < 2; batch++) {
		uint32_t second;

		start(false, batch != 0);
		(void)write_blk(0);
		pc_oracle_flushed(oracle, true);
		second = write_blk(1);
		assert_int_equal(back(1, second), batch != 0);
		(void)stop(state);
	}
	start(false, false);
}

/* What batch left is one epoch after a change to strict; what comes then is in order. */
static void test_strict_after_batch(void **state)
{
	uint32_t first;
	uint32_t second;
	uint32_t third;

	(void)state;
	start(false, true);
	first = write_blk(0);
	pc_oracle_flushed(oracle, true);
	second = write_blk(1);
	pc_oracle_set_mode(oracle, false, false);
	pc_oracle_flushed(oracle, true);
	third = write_blk(2);
	assert_true(back(1, second)); /* without the first: they are one epoch */
	assert_false(back(2, third)); /* but this is a later one */
	pc_oracle_disk_format(oracle, &disk);
	assert_true(back(1, second));
	assert_true(back(0, first));
	pc_oracle_disk_flush(&disk);
	assert_true(back(2, third));
}

/* A drain ends what batch left: nothing is merged by a later change. */
static void test_drain_ends_the_batch(void **state)
{
	uint32_t second;
	uint32_t third;

	(void)state;
	start(false, true);
	assert_true(back(0, write_blk(0)));
	pc_oracle_disk_flush(&disk);
	pc_oracle_set_mode(oracle, false, false);
	assert_true(pc_oracle_drained(oracle, &disk));
	pc_oracle_flushed(oracle, true);
	(void)write_blk(1);
	pc_oracle_flushed(oracle, true);
	second = write_blk(2);
	assert_false(back(2, second));
	/* Strict to strict merges nothing either. */
	disk.pending_nr = 0;
	pc_oracle_set_mode(oracle, false, false);
	third = write_blk(3);
	assert_false(back(3, third));
}

/* From commit flush to commit write: a completed write is durable from then on. */
static void test_commit_is_that_of_the_mode(void **state)
{
	(void)state;
	start(true, false);
	(void)write_blk(0);
	assert_int_equal(pc_oracle_pending_nr(oracle), 1);
	pc_oracle_flushed(oracle, true);
	pc_oracle_set_mode(oracle, false, false);
	(void)write_blk(0);
	assert_int_equal(pc_oracle_pending_nr(oracle), 0);
}

static void test_lost_blocks_say_nothing(void **state)
{
	uint8_t image[BLK_NR * BLK_BYTES];
	bool lost[BLK_NR] = {false};
	struct pc_seen seen = {1, PC_SEEN_DATA};

	(void)state;
	start(false, false);
	(void)write_blk(2);
	pc_oracle_fill(oracle, image, 0, BLK_NR, 1);
	assert_false(pc_oracle_recover_but(oracle, image, lost)); /* block 2 is old */
	lost[2] = true;
	assert_true(pc_oracle_recover_but(oracle, image, lost));
	assert_true(pc_oracle_knows(oracle, 2, &seen));
	seen.version = 77;
	assert_false(pc_oracle_knows(oracle, 2, &seen));
	memset(image, 0xee, BLK_BYTES);
	assert_false(pc_oracle_recover_but(oracle, image, lost));
}

static void check_disk(uint32_t blk, uint32_t version)
{
	uint8_t buf[BLK_BYTES];
	struct pc_seen seen;

	memset(buf, 0xee, sizeof(buf));
	pc_oracle_disk_read(oracle, &disk, blk, 1, buf);
	seen = pc_oracle_look(oracle, blk, buf);
	assert_int_equal(seen.kind, version == 0 ? PC_SEEN_ZERO : PC_SEEN_DATA);
	assert_int_equal(seen.version, version);
}

/* Reads see the newest; a power cut keeps what was flushed, and of the rest what it likes, the later one on top. */
static void test_disk(void **state)
{
	struct pc_oracle_disk after;
	uint32_t first;
	uint32_t second;

	(void)state;
	start(false, true);
	first = write_blk(0);
	assert_true(back(0, first));
	pc_oracle_disk_flush(&disk);
	second = write_blk(0);
	assert_true(back(0, second));
	assert_true(pc_oracle_disk_write(oracle, &disk, 1, 1, NULL));
	check_disk(0, second);
	check_disk(1, 0);
	check_disk(2, 1);
	pc_oracle_disk_init(&after);
	pc_oracle_disk_cut(&after, &disk, (const uint8_t[]){0, 1});
	assert_int_equal(after.durable[0].version, first);
	assert_int_equal(after.live[0].version, first);
	assert_int_equal(after.durable[1].kind, PC_SEEN_ZERO);
	pc_oracle_disk_cut(&after, &disk, (const uint8_t[]){1, 0});
	assert_int_equal(after.durable[0].version, second);
	assert_int_equal(after.durable[1].version, 1);
	assert_int_equal(after.pending_nr, 0);
	/* A failed flush forgets: visible, and never durable for certain. */
	pc_oracle_disk_flush_failed(&disk);
	pc_oracle_disk_flush(&disk);
	check_disk(0, second);
	assert_int_equal(disk.durable[0].version, first);
	assert_int_equal(disk.pending_nr, 2);
	pc_oracle_disk_fini(&after);
}

/* Each word of a block counts, wherever it stands. */
static void test_look_sees_every_word(void **state)
{
	uint8_t buf[BLK_BYTES];

	(void)state;
	start(false, false);
	for (uint32_t bit = 0; bit < BLK_BYTES * 8; bit++) {
		pc_oracle_fill(oracle, buf, 3, 1, 9);
		assert_int_equal(pc_oracle_look(oracle, 3, buf).version, 9);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_false(pc_oracle_look(oracle, 3, buf).kind == PC_SEEN_DATA && pc_oracle_look(oracle, 3, buf).version == 9);
		memset(buf, 0, sizeof(buf));
		assert_int_equal(pc_oracle_look(oracle, 3, buf).kind, PC_SEEN_ZERO);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(pc_oracle_look(oracle, 3, buf).kind, PC_SEEN_BAD);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_order_is_that_of_the_mode, stop),
		cmocka_unit_test_teardown(test_strict_after_batch, stop),
		cmocka_unit_test_teardown(test_drain_ends_the_batch, stop),
		cmocka_unit_test_teardown(test_commit_is_that_of_the_mode, stop),
		cmocka_unit_test_teardown(test_lost_blocks_say_nothing, stop),
		cmocka_unit_test_teardown(test_disk, stop),
		cmocka_unit_test_teardown(test_look_sees_every_word, stop),
	};

	return cmocka_run_group_tests_name("sim_oracle_modes", tests, NULL, NULL);
}
