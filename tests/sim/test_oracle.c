/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The oracle of the crash simulator, tried on a toy: an array that keeps its writes as a list of units, crashes by dropping units, and writes back
 * epoch by epoch. A faithful toy must pass for thousands of crashes; each of a list of defects must be caught soon.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/generator.h"
#include "sim/oracle.h"

#define BLOCK_NR 24u
#define BLOCK_BYTES 512u
#define UNIT_NR_MAX 48u

enum defect {
	DEFECT_NONE,
	DEFECT_TEAR, /* a crash leaves half a block */
	DEFECT_MISPLACE, /* a crash moves a block */
	DEFECT_LOSE_DURABLE, /* a crash drops a durable unit */
	DEFECT_SPLIT, /* a crash keeps a unit in part */
	DEFECT_ZOMBIE, /* a unit that a crash dropped comes back at the next */
	DEFECT_STALE, /* a live read gives the version before */
	DEFECT_ZERO, /* a crash leaves zeroes */
	DEFECT_DISK_ORDER, /* write-back begins with the newest unit */
	DEFECT_DISK_NO_FLUSH, /* no flush of the backing between epochs */
	DEFECT_DISK_UNDO, /* after a drain an old version is written to the backing */
	DEFECT_DISK_LOST, /* a unit that a crash dropped is written back */
	DEFECT_DRAIN, /* a drain leaves out a block */
	DEFECT_NR
};

struct unit {
	uint32_t epoch;
	uint32_t range_nr;
	struct pc_gen_range ranges[3];
	uint32_t versions[3]; /* 0: zeroes */
	bool durable;
};

struct toy {
	enum defect defect;
	bool commit_flush;
	struct pc_rng rng;
	struct pc_oracle *oracle;
	struct pc_oracle_disk disk;
	uint8_t base[BLOCK_NR * BLOCK_BYTES]; /* the backing, live */
	uint8_t now[BLOCK_NR * BLOCK_BYTES]; /* what reads see */
	struct unit units[UNIT_NR_MAX]; /* not written back yet, in issue order */
	uint32_t unit_nr;
	uint32_t epoch;
	uint32_t flushed_epoch; /* epoch of the newest unit since the last backing flush */
	struct unit lost;
	bool has_lost;
	struct unit old; /* written back some time ago */
	bool has_old;
};

static uint8_t *block(uint8_t *image, uint32_t blk)
{
	return image + (size_t)blk * BLOCK_BYTES;
}

static void apply(const struct toy *toy, uint8_t *image, const struct unit *unit, uint32_t range_nr)
{
	for (uint32_t i = 0; i < range_nr; i++) {
		const struct pc_gen_range *range = &unit->ranges[i];

		if (unit->versions[i] == 0)
			memset(block(image, range->blk), 0, range->len_blk * BLOCK_BYTES);
		else
			pc_oracle_fill(toy->oracle, block(image, range->blk), range->blk, range->len_blk, unit->versions[i]);
	}
}

static void toy_init(struct toy *toy, enum defect defect, uint64_t seed)
{
	struct pc_oracle_options options = {.block_nr = BLOCK_NR, .block_bytes = BLOCK_BYTES};

	memset(toy, 0, sizeof(*toy));
	toy->defect = defect;
	toy->rng.state = seed;
	toy->commit_flush = options.commit_flush = seed % 2 == 0;
	toy->oracle = pc_oracle_new(&options);
	assert_non_null(toy->oracle);
	toy->epoch = 1;
	pc_oracle_fill(toy->oracle, toy->base, 0, BLOCK_NR, 1);
	memcpy(toy->now, toy->base, sizeof(toy->now));
	pc_oracle_disk_init(&toy->disk);
	pc_oracle_disk_load(toy->oracle, &toy->disk, toy->base);
}

static void toy_fini(struct toy *toy)
{
	pc_oracle_free(toy->oracle);
	pc_oracle_disk_fini(&toy->disk);
}

static void toy_write(struct toy *toy)
{
	struct unit unit = {.epoch = toy->epoch, .range_nr = 1 + pc_rng_below(&toy->rng, 3), .durable = !toy->commit_flush};
	const bool durable = pc_rng_chance(&toy->rng, 10);
	const bool zero = pc_rng_chance(&toy->rng, 10);

	pc_oracle_begin(toy->oracle, true);
	for (uint32_t i = 0; i < unit.range_nr; i++) {
		const uint32_t version = pc_oracle_next_version(toy->oracle);
		const uint32_t blk = pc_rng_below(&toy->rng, BLOCK_NR);

		unit.ranges[i] = (struct pc_gen_range){blk, 1 + pc_rng_below(&toy->rng, BLOCK_NR - blk) % 4};
		unit.versions[i] = zero ? 0 : version;
		pc_oracle_put(toy->oracle, unit.ranges[i].blk, unit.ranges[i].len_blk, version, zero);
	}
	if (pc_rng_chance(&toy->rng, 5)) { /* it fails */
		pc_oracle_end(toy->oracle, false, durable);
		return;
	}
	unit.durable |= durable;
	apply(toy, toy->now, &unit, unit.range_nr);
	toy->units[toy->unit_nr++] = unit;
	pc_oracle_end(toy->oracle, true, durable);
}

static void toy_flush(struct toy *toy)
{
	for (uint32_t i = 0; i < toy->unit_nr; i++)
		toy->units[i].durable = true;
	toy->epoch++;
	pc_oracle_flushed(toy->oracle, true);
}

/* True if the oracle is content. */
static bool disk_put(struct toy *toy, const struct unit *unit)
{
	apply(toy, toy->base, unit, unit->range_nr);
	for (uint32_t i = 0; i < unit->range_nr; i++) {
		const struct pc_gen_range *range = &unit->ranges[i];

		if (!pc_oracle_disk_write(toy->oracle, &toy->disk, range->blk, range->len_blk, block(toy->base, range->blk)))
			return false;
	}
	return pc_oracle_check_backing(toy->oracle, &toy->disk);
}

static bool toy_writeback(struct toy *toy)
{
	const struct unit unit = toy->units[0];
	const struct unit last = toy->unit_nr == 0 ? unit : toy->units[toy->unit_nr - 1];

	if (toy->defect == DEFECT_DISK_UNDO && toy->has_old && pc_rng_chance(&toy->rng, 20))
		return disk_put(toy, &toy->old);
	if (toy->defect == DEFECT_DISK_LOST && toy->has_lost)
		return disk_put(toy, &toy->lost);
	if (toy->unit_nr == 0 || !unit.durable)
		return true;
	if (toy->defect == DEFECT_DISK_ORDER && last.durable)
		return disk_put(toy, &last);
	if (unit.epoch > toy->flushed_epoch && toy->defect != DEFECT_DISK_NO_FLUSH)
		pc_oracle_disk_flush(&toy->disk);
	toy->flushed_epoch = unit.epoch;
	memmove(toy->units, toy->units + 1, (toy->unit_nr - 1) * sizeof(toy->units[0]));
	toy->unit_nr--;
	if (!toy->has_old)
		toy->old = unit;
	toy->has_old = true;
	return disk_put(toy, &unit);
}

static bool toy_drain(struct toy *toy)
{
	const bool forget = toy->defect == DEFECT_DRAIN && toy->unit_nr > 0;

	for (uint32_t i = 0; i < toy->unit_nr; i++)
		toy->units[i].durable = true;
	for (uint32_t i = 0; i < 1000 && toy->unit_nr > (forget ? 1 : 0); i++) {
		if (!toy_writeback(toy))
			return false;
	}
	if (toy->unit_nr > (forget ? 1 : 0))
		return true; /* a defect of write-back makes no progress: no drain, then */
	pc_oracle_disk_flush(&toy->disk);
	pc_oracle_flushed(toy->oracle, false);
	return pc_oracle_drained(toy->oracle, &toy->disk);
}

static bool toy_read(struct toy *toy)
{
	const uint32_t blk = pc_rng_below(&toy->rng, BLOCK_NR);
	const uint8_t *from = toy->defect == DEFECT_STALE ? toy->base : toy->now;

	return pc_oracle_check_live(toy->oracle, blk, from + (size_t)blk * BLOCK_BYTES);
}

/* Damages one block that the newest unit wrote. */
static void spoil(struct toy *toy, uint8_t *image)
{
	const struct unit *unit = &toy->units[toy->unit_nr - 1];
	const uint32_t blk = unit->ranges[0].blk;

	if (toy->defect == DEFECT_TEAR)
		memset(block(image, blk), 0x55, 8);
	if (toy->defect == DEFECT_MISPLACE)
		memcpy(block(image, blk), block(image, (blk + 1) % BLOCK_NR), BLOCK_BYTES);
	if (toy->defect == DEFECT_ZERO)
		memset(block(image, blk), 0, BLOCK_BYTES);
}

/* Drops some units that are not durable; true if the oracle takes what is left. */
static bool toy_crash(struct toy *toy)
{
	uint8_t image[BLOCK_NR * BLOCK_BYTES];
	struct unit kept[UNIT_NR_MAX];
	uint32_t kept_nr = 0;

	memcpy(image, toy->base, sizeof(image));
	if (toy->defect == DEFECT_ZOMBIE && toy->has_lost)
		apply(toy, image, &toy->lost, toy->lost.range_nr);
	for (uint32_t i = 0; i < toy->unit_nr; i++) {
		const struct unit *unit = &toy->units[i];
		const bool must_stay = unit->durable && toy->defect != DEFECT_LOSE_DURABLE;

		if (!must_stay && pc_rng_chance(&toy->rng, 40)) {
			if (toy->defect == DEFECT_SPLIT && unit->range_nr > 1)
				apply(toy, image, unit, 1);
			toy->lost = *unit;
			toy->has_lost = true;
			continue;
		}
		apply(toy, image, unit, unit->range_nr);
		kept[kept_nr] = *unit;
		kept[kept_nr++].durable = true;
	}
	memcpy(toy->units, kept, kept_nr * sizeof(kept[0]));
	toy->unit_nr = kept_nr;
	if (kept_nr > 0 && toy->defect != DEFECT_NONE)
		spoil(toy, image);
	memcpy(toy->now, image, sizeof(image));
	return pc_oracle_recover(toy->oracle, image);
}

/* Steps until the oracle objects; the number of steps, or 0 if it never did. */
static uint32_t toy_run(enum defect defect, uint64_t seed, uint32_t step_nr)
{
	static struct toy toy;
	uint32_t caught = 0;

	toy_init(&toy, defect, seed);
	for (uint32_t step = 1; step <= step_nr && caught == 0; step++) {
		const uint32_t pct = pc_rng_below(&toy.rng, 100);
		bool ok = true;

		if (toy.unit_nr >= UNIT_NR_MAX - 1 || pct >= 97)
			ok = toy_drain(&toy);
		else if (pct < 45)
			toy_write(&toy);
		else if (pct < 55)
			toy_flush(&toy);
		else if (pct < 75)
			ok = toy_writeback(&toy);
		else if (pct < 87)
			ok = toy_read(&toy);
		else
			ok = toy_crash(&toy);
		if (!ok)
			caught = step;
		if (!ok && defect == DEFECT_NONE)
			print_error("seed %u step %u: %s\n", (unsigned int)seed, step, pc_oracle_text(toy.oracle));
	}
	toy_fini(&toy);
	return caught;
}

static void test_faithful_toy_passes(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 200; seed++)
		assert_int_equal(toy_run(DEFECT_NONE, seed, 1000), 0);
}

static void test_every_defect_is_caught(void **state)
{
	(void)state;
	for (uint32_t defect = DEFECT_NONE + 1; defect < DEFECT_NR; defect++) {
		uint32_t caught = 0;

		for (uint64_t seed = 1; seed <= 20; seed++)
			caught += toy_run((enum defect)defect, seed, 2000) != 0;
		if (caught < 9) /* some defects show in one commit mode only */
			print_error("defect %u was caught in %u runs of 20\n", defect, caught);
		assert_true(caught >= 9);
	}
}

static void test_in_flight_batch_is_all_or_nothing(void **state)
{
	const struct pc_oracle_options options = {.block_nr = BLOCK_NR, .block_bytes = BLOCK_BYTES};
	static uint8_t image[BLOCK_NR * BLOCK_BYTES];

	(void)state;
	for (uint32_t kept = 0; kept < 4; kept++) {
		struct pc_oracle *oracle = pc_oracle_new(&options);

		assert_non_null(oracle);
		pc_oracle_fill(oracle, image, 0, BLOCK_NR, 1);
		pc_oracle_begin(oracle, true);
		pc_oracle_put(oracle, 3, 1, 7, false);
		pc_oracle_put(oracle, 9, 1, 8, false);
		if (kept & 1)
			pc_oracle_fill(oracle, block(image, 3), 3, 1, 7);
		if (kept & 2)
			pc_oracle_fill(oracle, block(image, 9), 9, 1, 8);
		assert_int_equal(pc_oracle_recover(oracle, image), kept == 0 || kept == 3);
		pc_oracle_free(oracle);
	}
}

static void test_later_write_needs_not_the_earlier(void **state)
{
	const struct pc_oracle_options options = {.block_nr = BLOCK_NR, .block_bytes = BLOCK_BYTES, .commit_flush = true};
	struct pc_oracle *oracle = pc_oracle_new(&options);
	static uint8_t image[BLOCK_NR * BLOCK_BYTES];

	(void)state;
	assert_non_null(oracle);
	pc_oracle_fill(oracle, image, 0, BLOCK_NR, 1);
	pc_oracle_begin(oracle, true);
	pc_oracle_put(oracle, 0, 2, 5, false);
	pc_oracle_end(oracle, true, false);
	pc_oracle_begin(oracle, true);
	pc_oracle_put(oracle, 1, 1, 6, false);
	pc_oracle_end(oracle, true, true);
	/* The durable second one over a first one that is lost. */
	pc_oracle_fill(oracle, block(image, 1), 1, 1, 6);
	assert_true(pc_oracle_recover(oracle, image));
	/* Now the first one must never come back. */
	pc_oracle_fill(oracle, block(image, 0), 0, 1, 5);
	assert_false(pc_oracle_recover(oracle, image));
	pc_oracle_free(oracle);
}

static void test_zeroes_find_a_fitting_version(void **state)
{
	const struct pc_oracle_options options = {.block_nr = BLOCK_NR, .block_bytes = BLOCK_BYTES, .commit_flush = true};
	static uint8_t image[BLOCK_NR * BLOCK_BYTES];

	(void)state;
	for (uint32_t seen = 0; seen < 2; seen++) {
		struct pc_oracle *oracle = pc_oracle_new(&options);

		assert_non_null(oracle);
		pc_oracle_fill(oracle, image, 0, BLOCK_NR, 1);
		pc_oracle_begin(oracle, true);
		pc_oracle_put(oracle, 4, 1, 5, true);
		pc_oracle_end(oracle, true, true); /* zero, durable */
		pc_oracle_begin(oracle, true);
		pc_oracle_put(oracle, 4, 2, 6, true); /* zero again, and block 5 with it */
		pc_oracle_end(oracle, true, false);
		memset(block(image, 4), 0, BLOCK_BYTES);
		if (seen == 1)
			memset(block(image, 5), 0, BLOCK_BYTES);
		assert_true(pc_oracle_recover(oracle, image));
		pc_oracle_free(oracle);
	}
}

static void test_payload_is_described(void **state)
{
	const struct pc_oracle_options options = {.block_nr = BLOCK_NR, .block_bytes = BLOCK_BYTES};
	struct pc_oracle *oracle = pc_oracle_new(&options);
	uint8_t bytes[BLOCK_BYTES];
	char text[200];

	(void)state;
	assert_non_null(oracle);
	pc_oracle_fill(oracle, bytes, 6, 1, 12);
	assert_int_equal(pc_oracle_look(oracle, 6, bytes).kind, PC_SEEN_DATA);
	assert_int_equal(pc_oracle_look(oracle, 6, bytes).version, 12);
	assert_int_equal(pc_oracle_look(oracle, 7, bytes).kind, PC_SEEN_BAD);
	memset(bytes + 256, 0, 256);
	assert_int_equal(pc_oracle_look(oracle, 6, bytes).kind, PC_SEEN_BAD);
	pc_oracle_describe(oracle, 6, bytes, text, sizeof(text));
	assert_string_equal(text, "words 0..31 v12 of block 6 from word 0, words 32..63 zero");
	pc_oracle_free(oracle);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faithful_toy_passes),
		cmocka_unit_test(test_every_defect_is_caught),
		cmocka_unit_test(test_in_flight_batch_is_all_or_nothing),
		cmocka_unit_test(test_later_write_needs_not_the_earlier),
		cmocka_unit_test(test_zeroes_find_a_fitting_version),
		cmocka_unit_test(test_payload_is_described),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
