/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Simulated media, what differs by granularity and what only the crash simulator uses: early eviction of cached lines, caches that survive a power cut, and saved moments.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/generator.h"
#include "sim/sim_media.h"

#define LEN 8192u

static void store(struct pc_sim *sim, uint64_t media_off, uint64_t value)
{
	pc_media_copy(pc_sim_media(sim), media_off, &value, sizeof(value));
}

static uint64_t word_of(const uint8_t *image, uint64_t media_off)
{
	uint64_t value;

	memcpy(&value, image + media_off, sizeof(value));
	return value;
}

/* --- early eviction --- */

struct seen {
	uint64_t off;
	uint64_t with; /* images that have the store */
	uint64_t without;
};

static bool look(void *user, const uint8_t *image, enum pc_sim_policy policy, uint64_t arg)
{
	struct seen *seen = user;

	(void)policy;
	(void)arg;
	if (word_of(image, seen->off) != 0)
		seen->with++;
	else
		seen->without++;
	return true;
}

/* A line that nobody flushed or fenced may persist all the same, and alone: the processor evicts when it likes. */
static void evicts_early(enum pc_granularity granularity, uint32_t store_nr)
{
	const struct pc_sim_explore how = {.subset_max = 12, .word_max = 64, .line_max = 64, .random_nr = 8, .seed = 5};
	static uint8_t scratch[LEN];
	struct seen seen = {.off = 0};
	struct pc_sim *sim;

	assert_int_equal(pc_sim_new(LEN, granularity, 0, &sim), 0);
	for (uint32_t i = 0; i < store_nr; i++)
		store(sim, i * 64, 1 + i);
	seen.off = (store_nr - 1) * 64;
	assert_true(pc_sim_explore(sim, &how, scratch, look, &seen) > 1);
	assert_int_not_equal(seen.with, 0);
	assert_int_not_equal(seen.without, 0);
	/* The last one without all others. */
	(void)pc_sim_crash(sim, PC_SIM_LINE_ALONE, store_nr - 1, scratch);
	assert_int_equal(word_of(scratch, seen.off), store_nr);
	for (uint32_t i = 0; i + 1 < store_nr; i++)
		assert_int_equal(word_of(scratch, i * 64), 0);
	pc_sim_free(sim);
}

static void test_unfenced_line_may_be_evicted(void **state)
{
	(void)state;
	evicts_early(PC_GRAN_CACHE_LINE, 5);
	evicts_early(PC_GRAN_CACHE_LINE, 40);
}

static void test_unsynced_page_may_be_written(void **state)
{
	(void)state;
	evicts_early(PC_GRAN_PAGE, 5);
	evicts_early(PC_GRAN_PAGE, 40);
}

/* --- stores of a dead process --- */

static void put_orphan(struct pc_sim *sim)
{
	const struct pc_sim_store orphan = {.word = 8, .value = 77};

	pc_sim_store_orphan(sim, orphan);
}

/* In the processor's caches: visible, and lost by a power cut unless it is flushed. */
static void test_orphan_needs_a_flush_at_cache_line(void **state)
{
	struct pc_sim *sim;

	(void)state;
	assert_int_equal(pc_sim_new(LEN, PC_GRAN_CACHE_LINE, 0, &sim), 0);
	put_orphan(sim);
	assert_int_equal(word_of(pc_sim_view(sim), 64), 77);
	pc_media_fence(pc_sim_media(sim));
	assert_int_equal(word_of(pc_sim_durable(sim), 64), 0);
	pc_media_flush(pc_sim_media(sim), 64, 8);
	pc_media_fence(pc_sim_media(sim));
	assert_int_equal(word_of(pc_sim_durable(sim), 64), 77);
	pc_sim_free(sim);
}

/* Caches survive: what is visible to others is durable. */
static void test_orphan_is_durable_at_byte(void **state)
{
	struct pc_sim *sim;

	(void)state;
	assert_int_equal(pc_sim_new(LEN, PC_GRAN_BYTE, 0, &sim), 0);
	put_orphan(sim);
	assert_int_equal(word_of(pc_sim_view(sim), 64), 77);
	assert_int_equal(word_of(pc_sim_durable(sim), 64), 77);
	assert_int_equal(pc_sim_pending_nr(sim), 0);
	pc_sim_free(sim);
}

/* Non-temporal copies are in the thread's own buffers until it fences: not even there they are durable at once. */
static void test_copy_needs_a_fence_at_byte(void **state)
{
	struct pc_sim *sim;

	(void)state;
	assert_int_equal(pc_sim_new(LEN, PC_GRAN_BYTE, 0, &sim), 0);
	store(sim, 64, 9);
	assert_int_equal(word_of(pc_sim_durable(sim), 64), 0);
	pc_media_fence(pc_sim_media(sim));
	assert_int_equal(word_of(pc_sim_durable(sim), 64), 9);
	pc_sim_free(sim);
}

/* --- saved moments --- */

static void work(struct pc_sim *sim, struct pc_rng *rng)
{
	for (uint32_t i = pc_rng_below(rng, 30); i > 0; i--) {
		uint8_t bytes[200];
		const size_t len = 1 + pc_rng_below(rng, sizeof(bytes));
		const uint64_t off = pc_rng_below(rng, LEN - (uint32_t)len);
		const struct pc_sim_store orphan = {.word = pc_rng_below(rng, LEN / 8), .value = pc_rng_next(rng)};

		memset(bytes, (int)pc_rng_below(rng, 3), len);
		pc_media_copy(pc_sim_media(sim), off, bytes, len);
		if (pc_rng_chance(rng, 20))
			pc_media_fence(pc_sim_media(sim));
		if (pc_rng_chance(rng, 5))
			pc_sim_store_orphan(sim, orphan);
		if (pc_rng_chance(rng, 5)) {
			pc_media_fence(pc_sim_media(sim));
			pc_media_flush(pc_sim_media(sim), 0, LEN);
			pc_media_fence(pc_sim_media(sim));
			pc_sim_damage(sim, off, bytes, len);
		}
	}
}

/* A saved moment is what was durable and pending then, also when the same place was saved to before and the simulator went on. */
static void check_saved(const struct pc_sim_saved *saved, const uint8_t *durable, const struct pc_sim_store *stores, size_t store_nr)
{
	assert_memory_equal(saved->durable, durable, LEN);
	assert_int_equal(saved->hash, pc_sim_image_hash(durable, LEN));
	assert_int_equal(saved->store_nr, store_nr);
	for (size_t i = 0; i < store_nr; i++) {
		assert_int_equal(saved->stores[i].word, stores[i].word);
		assert_int_equal(saved->stores[i].value, stores[i].value);
	}
}

static void check_loaded(struct pc_sim *sim, const struct pc_sim_saved *saved)
{
	pc_sim_load(sim, saved);
	assert_memory_equal(pc_sim_durable(sim), saved->durable, LEN);
	assert_memory_equal(pc_sim_view(sim), saved->durable, LEN);
	assert_int_equal(pc_sim_durable_hash(sim), saved->hash);
	assert_int_equal(pc_sim_pending_nr(sim), 0);
}

#define SAVED_NR 4u

static void test_saved_moments(void **state)
{
	struct pc_rng rng = {12345};
	struct pc_sim_saved saved[SAVED_NR] = {0};
	struct pc_sim_saved child_saved = {0};
	struct pc_sim *sim;
	struct pc_sim *child;

	(void)state;
	print_message("seed 12345\n");
	assert_int_equal(pc_sim_new(LEN, PC_GRAN_CACHE_LINE, 0, &sim), 0);
	assert_int_equal(pc_sim_new(LEN, PC_GRAN_CACHE_LINE, 0, &child), 0);
	for (uint32_t round = 0; round < 400; round++) {
		const uint32_t at = pc_rng_below(&rng, SAVED_NR);
		static uint8_t durable[LEN];
		struct pc_sim_store stores[4096];
		size_t store_nr;

		if (pc_rng_chance(&rng, 3))
			pc_sim_reset(sim, pc_rng_chance(&rng, 50) ? NULL : child_saved.durable);
		work(sim, &rng);
		memcpy(durable, pc_sim_durable(sim), LEN);
		store_nr = pc_sim_pending_nr(sim);
		assert_true(store_nr <= PC_ARRAY_NR(stores));
		for (size_t i = 0; i < store_nr; i++)
			stores[i] = pc_sim_pending(sim, i);
		pc_sim_save(sim, &saved[at]);
		work(sim, &rng);
		check_saved(&saved[at], durable, stores, store_nr);
		for (uint32_t i = 0; i < 3; i++) {
			const struct pc_sim_saved *from = &saved[pc_rng_below(&rng, SAVED_NR)];

			if (from->sim == NULL)
				continue;
			check_loaded(child, from);
			work(child, &rng);
			if (pc_rng_chance(&rng, 5))
				pc_sim_reset(child, durable);
		}
		pc_sim_save(child, &child_saved);
		assert_memory_equal(child_saved.durable, pc_sim_durable(child), LEN);
		assert_int_equal(child_saved.hash, pc_sim_image_hash(child_saved.durable, LEN));
	}
	for (uint32_t i = 0; i < SAVED_NR; i++)
		pc_sim_saved_fini(&saved[i]);
	pc_sim_saved_fini(&child_saved);
	pc_sim_free(child);
	pc_sim_free(sim);
}

/* Putting words one by one gives the image and the hash of the same crash. */
static void test_put_is_a_crash(void **state)
{
	struct pc_rng rng = {99};
	struct pc_sim_saved saved = {0};
	static uint8_t image[LEN];
	struct pc_sim *sim;
	struct pc_sim *child;

	(void)state;
	assert_int_equal(pc_sim_new(LEN, PC_GRAN_CACHE_LINE, 0, &sim), 0);
	assert_int_equal(pc_sim_new(LEN, PC_GRAN_CACHE_LINE, 0, &child), 0);
	for (uint32_t round = 0; round < 200; round++) {
		uint64_t hash;

		work(sim, &rng);
		pc_sim_save(sim, &saved);
		pc_sim_load(child, &saved);
		hash = saved.hash;
		for (size_t i = 0; i < saved.store_nr; i++)
			hash ^= pc_sim_put(child, saved.stores[i]);
		assert_int_equal(pc_sim_crash(sim, PC_SIM_ALL, 0, image), hash);
		assert_memory_equal(pc_sim_durable(child), image, LEN);
		assert_memory_equal(pc_sim_view(child), image, LEN);
		assert_int_equal(pc_sim_durable_hash(child), hash);
	}
	pc_sim_saved_fini(&saved);
	pc_sim_free(child);
	pc_sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unfenced_line_may_be_evicted),
		cmocka_unit_test(test_unsynced_page_may_be_written),
		cmocka_unit_test(test_orphan_needs_a_flush_at_cache_line),
		cmocka_unit_test(test_orphan_is_durable_at_byte),
		cmocka_unit_test(test_copy_needs_a_fence_at_byte),
		cmocka_unit_test(test_saved_moments),
		cmocka_unit_test(test_put_is_a_crash),
	};

	return cmocka_run_group_tests_name("sim_media_modes", tests, NULL, NULL);
}
