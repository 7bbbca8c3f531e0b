/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Known races, each at its place: a call is held at a named point of the library, at its first visit, its second and so on, a second call runs there from begin to end, and the first goes on. What must
 * hold then, holds at every visit; with the defect planted that the race is about, it fails at one of them, so each of these tests is seen to be able to.
 */
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"
#include "core/rig.h"
#include "sim/sched_coro.h"

#define BLOCK 512u
#define VISIT_MAX 24u
#define PLACE (16u * BLOCK) /* where calls meet */

struct stage {
	struct rig rig;
	uint8_t first[BLOCK], second[BLOCK]; /* what the calls write */
	uint8_t seen[BLOCK]; /* what the held read returned */
	uint8_t *image; /* of a power cut while the first call was held */
	int rc; /* of the first call that failed */
};

struct race {
	enum pc_plant plant;
	enum pc_yield_point point;
	void (*held)(void *stage);
	void (*other)(void *stage);
	bool (*right)(struct stage *stage);
	void (*before)(struct stage *stage); /* NULL: nothing */
};

static void note(struct stage *stage, int rc)
{
	if (rc != 0 && stage->rc == 0)
		stage->rc = rc;
}

static bool reads_as(struct stage *stage, const uint8_t *want)
{
	uint8_t got[BLOCK];

	return pcache_read(stage->rig.cache, got, PLACE, BLOCK, 0) == 0 && memcmp(got, want, BLOCK) == 0;
}

/* ---- calls ----------------------------------------------------------------------------------------------------- */

static void read_place(void *arg)
{
	struct stage *stage = arg;

	note(stage, pcache_read(stage->rig.cache, stage->seen, PLACE, BLOCK, 0));
}

static void write_first(void *arg)
{
	struct stage *stage = arg;

	note(stage, pcache_write(stage->rig.cache, stage->first, PLACE, BLOCK, 0));
}

static void write_second(void *arg)
{
	struct stage *stage = arg;

	note(stage, pcache_write(stage->rig.cache, stage->second, PLACE, BLOCK, 0));
}

static void zero_place(void *arg)
{
	struct stage *stage = arg;

	note(stage, pcache_write_zeroes(stage->rig.cache, PLACE, BLOCK, 0));
}

static void clean_log(void *arg)
{
	struct stage *stage = arg;

	(void)pc_cache_step(stage->rig.cache, PC_STEP_CLEAN, true);
}

/* Overwrites all there is often enough for each segment to be used again. */
static void use_all_segments_again(void *arg)
{
	struct stage *stage = arg;
	uint8_t block[BLOCK];

	memset(block, 0xee, sizeof(block));
	for (uint32_t i = 0; i < 600; i++) {
		note(stage, pcache_write(stage->rig.cache, block, (16u + i % 8) * BLOCK, BLOCK, 0));
		(void)pcache_maintain(stage->rig.cache, 16);
	}
}

static void flush_and_cut(void *arg)
{
	struct stage *stage = arg;

	note(stage, pcache_write(stage->rig.cache, stage->second, 0, BLOCK, 0));
	note(stage, pcache_flush(stage->rig.cache));
	pc_sim_crash(stage->rig.sim, PC_SIM_NONE, 0, stage->image);
}

/* ---- what must hold -------------------------------------------------------------------------------------------- */

static bool second_is_read(struct stage *stage)
{
	return reads_as(stage, stage->second);
}

static bool zeroes_are_read(struct stage *stage)
{
	static const uint8_t zeroes[BLOCK];

	return reads_as(stage, zeroes);
}

static bool seen_is_the_first_or_later(struct stage *stage)
{
	for (uint32_t i = 0; i < BLOCK; i++) {
		if (stage->seen[i] != 0xee)
			return memcmp(stage->seen, stage->first, BLOCK) == 0;
	}
	return true;
}

/* What is read is what an open after a killed process finds. */
static bool log_and_index_agree(struct stage *stage)
{
	uint8_t got[BLOCK];

	if (pcache_read(stage->rig.cache, got, PLACE, BLOCK, 0) != 0)
		return false;
	rig_kill(&stage->rig);
	return rig_try_open(&stage->rig) == 0 && reads_as(stage, got);
}

static bool flushed_is_recovered(struct stage *stage)
{
	uint8_t got[BLOCK];

	rig_kill(&stage->rig);
	pc_sim_reset(stage->rig.sim, stage->image);
	return rig_try_open(&stage->rig) == 0 && pcache_read(stage->rig.cache, got, 0, BLOCK, 0) == 0 &&
	       memcmp(got, stage->second, BLOCK) == 0;
}

/* ---- running --------------------------------------------------------------------------------------------------- */

static void set_up(struct stage *stage)
{
	memset(stage, 0, sizeof(*stage));
	rig_zero(&stage->rig);
	stage->rig.o.no_crc = true;
	rig_up(&stage->rig);
	rig_pattern(&stage->rig, stage->first, BLOCK);
	rig_pattern(&stage->rig, stage->second, BLOCK);
	stage->image = malloc(pc_sim_media(stage->rig.sim)->len_bytes);
	assert_non_null(stage->image);
}

/* Whether all is right with the first call held at this visit; *out_held: it came there. */
static bool run_once(const struct race *race, uint32_t visit, bool *out_held)
{
	const struct sched_settings settings = {
		.seed = 1, .strategy = SCHED_SEQUENCE, .scene_point = race->point, .hold_after = visit
	};
	struct stage stage;
	struct sched *sched;
	bool right;

	set_up(&stage);
	if (race->before)
		race->before(&stage);
	sched = sched_new(&settings, NULL, NULL, NULL);
	(void)sched_start(sched, "held", race->held, &stage);
	(void)sched_start(sched, "other", race->other, &stage);
	assert_int_equal(sched_run(sched), 0);
	*out_held = sched_held_once(sched);
	sched_free(sched);
	right = stage.rc == 0 && (!*out_held || race->right(&stage));
	free(stage.image);
	rig_down(&stage.rig);
	return right;
}

static uint32_t wrong_visits(const struct race *race, uint32_t *out_held_nr)
{
	uint32_t wrong_nr = 0;
	bool held = true;

	*out_held_nr = 0;
	for (uint32_t visit = 0; visit < VISIT_MAX && held; visit++) {
		wrong_nr += !run_once(race, visit, &held);
		*out_held_nr += held;
	}
	return wrong_nr;
}

static void check(const struct race *race)
{
	uint32_t held_nr;

	pc_plant = PC_PLANT_NONE;
	assert_int_equal(wrong_visits(race, &held_nr), 0);
	assert_true(held_nr > 0);
	pc_plant = (int)race->plant;
	assert_true(wrong_visits(race, &held_nr) > 0);
	pc_plant = PC_PLANT_NONE;
}

/* ---- races ----------------------------------------------------------------------------------------------------- */

static void put_first(struct stage *stage)
{
	write_first(stage);
}

/* The key of the place is clean and the oldest there is, behind it are some segments of log, and cleaning is wanted. */
static void put_first_into_the_oldest_log(struct stage *stage)
{
	write_first(stage);
	for (uint32_t i = 0; i < 300; i++) {
		note(stage, pcache_write(stage->rig.cache, stage->second, (64u + i % 8) * BLOCK, BLOCK, 0));
		if (i % 16 == 15)
			note(stage, pcache_drain(stage->rig.cache, NULL, NULL));
	}
	note(stage, pcache_drain(stage->rig.cache, NULL, NULL));
	atomic_store(&stage->rig.cache->space.want_log, true);
}

static void a_write_beside_a_fill(void **state)
{
	(void)state;
	check(&(struct race){ PC_PLANT_FILL_OVER_WRITE, PC_YIELD_FILL_READ, read_place, write_second, second_is_read,
			      NULL });
}

static void zeroes_beside_a_fill(void **state)
{
	(void)state;
	check(&(struct race){ PC_PLANT_ERASE_KEEPS_FILLS, PC_YIELD_FILL_READ, read_place, zero_place, zeroes_are_read,
			      NULL });
}

static void a_segment_used_again_beside_a_read(void **state)
{
	(void)state;
	check(&(struct race){ PC_PLANT_NO_PIN, PC_YIELD_READ_FOUND, read_place, use_all_segments_again,
			      seen_is_the_first_or_later, put_first });
}

static void two_writes_of_one_block(void **state)
{
	(void)state;
	check(&(struct race){ PC_PLANT_RANGE_UNLOCKED, PC_YIELD_UNLOCK, write_first, write_second, log_and_index_agree,
			      NULL });
}

static void a_flush_beside_a_write(void **state)
{
	(void)state;
	check(&(struct race){ PC_PLANT_MARK_TOO_HIGH, PC_YIELD_WRITE_RESERVED, write_first, flush_and_cut,
			      flushed_is_recovered, NULL });
}

static void a_flush_beside_a_write_without_position(void **state)
{
	(void)state;
	check(&(struct race){ PC_PLANT_PUBLISH_LATE, PC_YIELD_LOG_PUBLISHED, write_first, flush_and_cut,
			      flushed_is_recovered, NULL });
}

static void a_write_beside_cleaning(void **state)
{
	(void)state;
	check(&(struct race){ PC_PLANT_CLEAN_STALE, PC_YIELD_UNLOCK, clean_log, write_second, log_and_index_agree,
			      put_first_into_the_oldest_log });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_write_beside_a_fill),
		cmocka_unit_test(zeroes_beside_a_fill),
		cmocka_unit_test(a_segment_used_again_beside_a_read),
		cmocka_unit_test(two_writes_of_one_block),
		cmocka_unit_test(a_flush_beside_a_write),
		cmocka_unit_test(a_flush_beside_a_write_without_position),
		cmocka_unit_test(a_write_beside_cleaning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
