/* SPDX-License-Identifier: BSD-3-Clause */
/* The oracle of concurrent calls: hand-made histories that must be accepted, and others, each wrong in one way, that must not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/sched_oracle.h"

#define BLK_NR 8u
#define BLK_BYTES 512u

struct bed {
	struct so *so;
	struct so_disk disk;
	uint8_t image[BLK_NR * BLK_BYTES];
};

static void up(struct bed *bed, bool commit_flush, bool order_batch)
{
	const struct so_options options = {
		.block_nr = BLK_NR, .block_bytes = BLK_BYTES, .commit_flush = commit_flush, .order_batch = order_batch
	};

	memset(bed, 0, sizeof(*bed));
	bed->so = so_new(&options);
	so_fill(bed->so, bed->image, 0, BLK_NR, 1);
	assert_true(so_disk_load(bed->so, &bed->disk, bed->image));
}

static void down(struct bed *bed)
{
	so_disk_fini(&bed->disk);
	so_free(bed->so);
}

/* A write of version v that begins now. */
static uint32_t begin(struct bed *bed, uint32_t blk, uint32_t len_blk, uint32_t version)
{
	const uint32_t unit = so_begin(bed->so);

	so_put(bed->so, unit, blk, len_blk, version, false);
	return unit;
}

static void end(struct bed *bed, uint32_t unit)
{
	assert_true(so_end(bed->so, unit, true, false));
}

static void whole(struct bed *bed, uint32_t blk, uint32_t len_blk, uint32_t version)
{
	end(bed, begin(bed, blk, len_blk, version));
}

/* Version of a block in the image. 0: zeroes. */
static void show(struct bed *bed, uint32_t blk, uint32_t version)
{
	if (version == 0)
		memset(bed->image + blk * BLK_BYTES, 0, BLK_BYTES);
	else
		so_fill(bed->so, bed->image + blk * BLK_BYTES, blk, 1, version);
}

/* A read of one block, begun at stamp. */
static bool read_since(struct bed *bed, uint64_t stamp, uint32_t blk, uint32_t version)
{
	uint8_t buf[BLK_BYTES] = { 0 };

	if (version != 0)
		so_fill(bed->so, buf, blk, 1, version);
	return so_read(bed->so, stamp, blk, 1, buf);
}

static bool read_now(struct bed *bed, uint32_t blk, uint32_t version)
{
	return read_since(bed, so_stamp(bed->so), blk, version);
}

static bool disk_write(struct bed *bed, uint32_t blk, uint32_t version)
{
	uint8_t buf[BLK_BYTES];

	so_fill(bed->so, buf, blk, 1, version);
	return so_disk_write(bed->so, &bed->disk, blk, 1, buf) && so_check_backing(bed->so, &bed->disk);
}

/* ---- live reads ------------------------------------------------------------------------------------------------ */

static void reads_old_or_new_beside_a_write(void **state)
{
	struct bed bed;
	uint32_t unit;

	(void)state;
	up(&bed, false, false);
	unit = begin(&bed, 0, 2, 2);
	assert_true(read_now(&bed, 0, 1));
	assert_true(read_now(&bed, 1, 2));
	assert_true(read_now(&bed, 0, 2));
	assert_false(read_now(&bed, 0, 1)); /* it has been read already */
	end(&bed, unit);
	assert_false(read_now(&bed, 1, 1));
	down(&bed);
}

static void reads_no_old_version_after_a_write(void **state)
{
	struct bed bed;
	uint64_t stamp;

	(void)state;
	up(&bed, false, false);
	stamp = so_stamp(bed.so);
	whole(&bed, 3, 1, 2);
	assert_true(read_since(&bed, stamp, 3, 1)); /* began before */
	assert_false(read_now(&bed, 3, 1));
	down(&bed);
}

static void reads_agree_about_two_writes(void **state)
{
	struct bed bed;
	uint32_t a, b;

	(void)state;
	up(&bed, false, false);
	a = begin(&bed, 0, 1, 2);
	b = begin(&bed, 0, 1, 3);
	end(&bed, a);
	end(&bed, b);
	assert_true(read_now(&bed, 0, 2)); /* b came first, then */
	assert_true(read_now(&bed, 0, 2));
	assert_false(read_now(&bed, 0, 3));
	down(&bed);
}

static void reads_nothing_that_failed_or_never_was(void **state)
{
	struct bed bed;
	uint32_t unit;

	(void)state;
	up(&bed, false, false);
	unit = begin(&bed, 0, 1, 2);
	assert_true(so_end(bed.so, unit, false, false));
	assert_false(read_now(&bed, 0, 2));
	assert_false(read_now(&bed, 1, 77));
	assert_true(read_now(&bed, 0, 1));
	unit = begin(&bed, 5, 1, 3);
	assert_true(read_now(&bed, 5, 3));
	assert_false(so_end(bed.so, unit, false, false)); /* it was read */
	down(&bed);
}

static void reads_no_torn_or_foreign_bytes(void **state)
{
	uint8_t buf[BLK_BYTES];
	struct bed bed;

	(void)state;
	up(&bed, false, false);
	whole(&bed, 0, 2, 2);
	so_fill(bed.so, buf, 1, 1, 2);
	assert_true(so_read(bed.so, so_stamp(bed.so), 1, 1, buf));
	assert_false(so_read(bed.so, so_stamp(bed.so), 0, 1, buf)); /* bytes of another block */
	so_fill(bed.so, buf, 1, 1, 2);
	memset(buf + 256, 0, 8);
	assert_false(so_read(bed.so, so_stamp(bed.so), 1, 1, buf));
	down(&bed);
}

static void zeroes_are_versions(void **state)
{
	struct bed bed;
	uint32_t unit;

	(void)state;
	up(&bed, false, false);
	assert_false(read_now(&bed, 0, 0));
	unit = so_begin(bed.so);
	so_put(bed.so, unit, 0, 1, 2, true);
	assert_true(read_now(&bed, 0, 1));
	assert_true(read_now(&bed, 0, 0));
	end(&bed, unit);
	assert_false(read_now(&bed, 0, 1));
	whole(&bed, 0, 1, 3);
	assert_false(read_now(&bed, 0, 0));
	down(&bed);
}

/* ---- crash ----------------------------------------------------------------------------------------------------- */

static bool recover(struct bed *bed)
{
	const enum so_verdict verdict = so_recover(bed->so, bed->image);

	assert_int_not_equal(verdict, SO_UNDECIDED);
	return verdict == SO_RIGHT;
}

static void crash_keeps_what_was_acknowledged(void **state)
{
	struct bed bed;

	(void)state;
	up(&bed, false, false);
	whole(&bed, 0, 2, 2);
	show(&bed, 0, 2);
	assert_false(recover(&bed)); /* block 1 lacks it */
	show(&bed, 1, 2);
	assert_true(recover(&bed));
	down(&bed);
}

static void crash_keeps_what_was_read(void **state)
{
	struct bed bed;

	(void)state;
	for (int commit_flush = 0; commit_flush < 2; commit_flush++) {
		up(&bed, commit_flush != 0, false);
		(void)begin(&bed, 0, 1, 2);
		assert_true(read_now(&bed, 0, 2));
		assert_int_equal(recover(&bed), commit_flush != 0);
		down(&bed);
	}
}

static void crash_takes_units_whole(void **state)
{
	struct bed bed;

	(void)state;
	up(&bed, false, false);
	(void)begin(&bed, 0, 3, 2);
	show(&bed, 0, 2);
	show(&bed, 2, 2);
	assert_false(recover(&bed));
	show(&bed, 1, 2);
	assert_true(recover(&bed));
	down(&bed);
}

static void crash_may_take_either_of_two_at_once(void **state)
{
	static const uint32_t shown[5][3] = { { 2, 2, 3 }, { 2, 3, 3 }, { 1, 3, 3 }, { 2, 2, 1 }, { 1, 1, 1 } };
	struct bed bed;

	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		up(&bed, false, false);
		(void)begin(&bed, 0, 2, 2);
		(void)begin(&bed, 1, 2, 3);
		for (uint32_t blk = 0; blk < 3; blk++)
			show(&bed, blk, shown[i][blk]);
		assert_true(recover(&bed));
		down(&bed);
	}
}

static void crash_needs_one_order_for_all_blocks(void **state)
{
	struct bed bed;

	(void)state;
	up(&bed, false, false);
	(void)begin(&bed, 0, 2, 2);
	(void)begin(&bed, 0, 2, 3);
	show(&bed, 0, 2);
	show(&bed, 1, 3);
	assert_false(recover(&bed));
	show(&bed, 0, 3);
	assert_true(recover(&bed));
	down(&bed);
}

static void crash_takes_zeroes_whole(void **state)
{
	struct bed bed;
	uint32_t unit;

	(void)state;
	for (uint32_t zero_nr = 0; zero_nr <= 6; zero_nr++) {
		up(&bed, false, false);
		unit = so_begin(bed.so);
		so_put(bed.so, unit, 0, 2, 2, true);
		end(&bed, unit);
		unit = so_begin(bed.so); /* over what is zero, and more; does not end */
		so_put(bed.so, unit, 0, 6, 3, true);
		for (uint32_t blk = 0; blk < PC_MAX(zero_nr, 2u); blk++)
			show(&bed, blk, 0);
		assert_int_equal(recover(&bed), zero_nr <= 2 || zero_nr == 6);
		if (zero_nr == 2)
			assert_true(read_now(&bed, 5, 1));
		down(&bed);
	}
}

static void crash_keeps_to_the_order_in_time(void **state)
{
	struct bed bed;
	uint32_t first;

	(void)state;
	up(&bed, true, false);
	first = begin(&bed, 0, 2, 2);
	end(&bed, first);
	whole(&bed, 0, 1, 3); /* after it */
	(void)begin(&bed, 1, 1, 4);
	/* Of block 0 the older one, so the newer was lost: right in commit mode flush. */
	show(&bed, 0, 2);
	show(&bed, 1, 4);
	assert_true(recover(&bed));
	down(&bed);

	/* c runs beside a and b, and a ended before b began. What is read says c, a in block 0 and b, c in block 1: no order of the three does. */
	up(&bed, false, false);
	(void)begin(&bed, 0, 2, 2); /* c */
	whole(&bed, 0, 1, 3); /* a */
	whole(&bed, 1, 1, 4); /* b */
	show(&bed, 0, 3);
	show(&bed, 1, 2);
	assert_false(recover(&bed));
	show(&bed, 0, 2);
	assert_true(recover(&bed));
	down(&bed);
}

static void crash_keeps_what_was_flushed(void **state)
{
	struct bed bed;
	uint64_t stamp;
	uint32_t late;

	(void)state;
	for (int lost = 0; lost < 2; lost++) {
		up(&bed, true, false);
		whole(&bed, 0, 1, 2);
		late = begin(&bed, 1, 1, 3);
		stamp = so_stamp(bed.so);
		end(&bed, late); /* ended after the flush began: not promised */
		so_flushed(bed.so, stamp, true);
		show(&bed, 0, lost ? 1 : 2);
		assert_int_equal(recover(&bed), !lost);
		down(&bed);
	}
}

static void crash_keeps_durable_writes(void **state)
{
	struct bed bed;

	(void)state;
	up(&bed, true, false);
	assert_true(so_end(bed.so, begin(&bed, 0, 1, 2), true, true));
	assert_false(recover(&bed));
	show(&bed, 0, 2);
	assert_true(recover(&bed));
	down(&bed);
}

static void lost_writes_never_return(void **state)
{
	struct bed bed;

	(void)state;
	up(&bed, true, false);
	whole(&bed, 0, 1, 2);
	assert_true(recover(&bed)); /* it is lost */
	assert_false(read_now(&bed, 0, 2));
	show(&bed, 0, 2);
	assert_false(recover(&bed));
	down(&bed);
}

/* Zeroes over older zeroes may have happened, although nobody can see it: then their other blocks may be on the backing. */
static void silent_zeroes_are_not_lost(void **state)
{
	struct bed bed;
	uint32_t unit;

	(void)state;
	up(&bed, true, false);
	unit = so_begin(bed.so);
	so_put(bed.so, unit, 0, 1, 2, true);
	assert_true(so_end(bed.so, unit, true, true));
	unit = so_begin(bed.so);
	so_put(bed.so, unit, 0, 2, 3, true);
	end(&bed, unit);
	whole(&bed, 1, 1, 4);
	show(&bed, 0, 0);
	show(&bed, 1, 4);
	assert_true(recover(&bed));
	assert_true(so_disk_write(bed.so, &bed.disk, 1, 1, NULL));
	assert_true(so_check_backing(bed.so, &bed.disk));
	down(&bed);
}

/* Zeroes, data, zeroes: the data may have been there, and write-back may bring it after the crash. */
static void data_between_zeroes_is_not_lost(void **state)
{
	struct bed bed;
	uint32_t unit;

	(void)state;
	up(&bed, true, false);
	unit = so_begin(bed.so);
	so_put(bed.so, unit, 0, 1, 2, true);
	assert_true(so_end(bed.so, unit, true, true));
	whole(&bed, 0, 1, 3);
	unit = so_begin(bed.so);
	so_put(bed.so, unit, 0, 1, 4, true);
	end(&bed, unit);
	show(&bed, 0, 0);
	assert_true(recover(&bed));
	assert_true(disk_write(&bed, 0, 3));
	assert_false(read_now(&bed, 0, 3)); /* but it was zeroes */
	show(&bed, 0, 3);
	assert_false(recover(&bed));
	down(&bed);
}

static void what_was_recovered_stays(void **state)
{
	struct bed bed;

	(void)state;
	up(&bed, true, false);
	(void)begin(&bed, 0, 1, 2);
	show(&bed, 0, 2);
	assert_true(recover(&bed));
	assert_true(read_now(&bed, 0, 2));
	show(&bed, 0, 1);
	assert_false(recover(&bed));
	down(&bed);
}

/* ---- backing --------------------------------------------------------------------------------------------------- */

static void flush_now(struct bed *bed)
{
	so_flushed(bed->so, so_stamp(bed->so), true);
}

static void backing_holds_epochs_in_order(void **state)
{
	struct bed bed;

	(void)state;
	up(&bed, false, false);
	whole(&bed, 0, 1, 2);
	whole(&bed, 1, 1, 3);
	flush_now(&bed);
	whole(&bed, 2, 1, 4);
	assert_true(disk_write(&bed, 1, 3)); /* any part of the first epoch */
	assert_false(disk_write(&bed, 2, 4)); /* block 0 is missing */
	down(&bed);

	up(&bed, false, false);
	whole(&bed, 0, 1, 2);
	flush_now(&bed);
	whole(&bed, 2, 1, 4);
	assert_true(disk_write(&bed, 0, 2));
	assert_false(disk_write(&bed, 2, 4)); /* not flushed there yet: a power cut may reorder the two */
	down(&bed);

	up(&bed, false, false);
	whole(&bed, 0, 1, 2);
	flush_now(&bed);
	whole(&bed, 2, 1, 4);
	assert_true(disk_write(&bed, 0, 2));
	so_disk_flush(&bed.disk);
	assert_true(disk_write(&bed, 2, 4));
	down(&bed);
}

static void backing_need_not_order_what_was_at_once(void **state)
{
	struct bed bed;
	uint64_t stamp;
	uint32_t beside;

	(void)state;
	up(&bed, false, false);
	beside = begin(&bed, 0, 1, 2);
	stamp = so_stamp(bed.so);
	end(&bed, beside); /* ended after the flush began */
	so_flushed(bed.so, stamp, true);
	whole(&bed, 2, 1, 4);
	assert_true(disk_write(&bed, 2, 4));
	down(&bed);
}

static void backing_holds_only_versions_that_were(void **state)
{
	struct bed bed;

	(void)state;
	up(&bed, false, true);
	assert_true(so_end(bed.so, begin(&bed, 0, 1, 2), false, false));
	assert_false(disk_write(&bed, 0, 2));
	down(&bed);
	up(&bed, false, true);
	assert_false(disk_write(&bed, 0, 55));
	down(&bed);
}

static void drain_brings_everything(void **state)
{
	struct bed bed;
	uint64_t stamp;

	(void)state;
	for (int kind = 0; kind < 4; kind++) {
		up(&bed, false, true);
		whole(&bed, 0, 1, 2);
		stamp = so_stamp(bed.so);
		whole(&bed, 0, 1, 3); /* while it runs */
		if (kind > 0)
			assert_true(disk_write(&bed, 0, kind == 1 ? 2 : 3));
		if (kind != 3)
			so_disk_flush(&bed.disk);
		assert_int_equal(so_drained(bed.so, stamp, &bed.disk), kind == 1 || kind == 2);
		down(&bed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_old_or_new_beside_a_write),
		cmocka_unit_test(reads_no_old_version_after_a_write),
		cmocka_unit_test(reads_agree_about_two_writes),
		cmocka_unit_test(reads_nothing_that_failed_or_never_was),
		cmocka_unit_test(reads_no_torn_or_foreign_bytes),
		cmocka_unit_test(zeroes_are_versions),
		cmocka_unit_test(crash_keeps_what_was_acknowledged),
		cmocka_unit_test(crash_keeps_what_was_read),
		cmocka_unit_test(crash_takes_units_whole),
		cmocka_unit_test(crash_may_take_either_of_two_at_once),
		cmocka_unit_test(crash_needs_one_order_for_all_blocks),
		cmocka_unit_test(crash_takes_zeroes_whole),
		cmocka_unit_test(crash_keeps_to_the_order_in_time),
		cmocka_unit_test(crash_keeps_what_was_flushed),
		cmocka_unit_test(crash_keeps_durable_writes),
		cmocka_unit_test(lost_writes_never_return),
		cmocka_unit_test(silent_zeroes_are_not_lost),
		cmocka_unit_test(data_between_zeroes_is_not_lost),
		cmocka_unit_test(what_was_recovered_stays),
		cmocka_unit_test(backing_holds_epochs_in_order),
		cmocka_unit_test(backing_need_not_order_what_was_at_once),
		cmocka_unit_test(backing_holds_only_versions_that_were),
		cmocka_unit_test(drain_brings_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
