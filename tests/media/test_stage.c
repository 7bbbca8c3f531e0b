/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stores that gather before a sync (media/stage.c), on simulated media with few and small windows, against a flat array: every load gives what was stored last, nothing is on the media
 * before a sync wants it, everything after, and bytes between stores are never written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <pthread.h>

#include <cmocka.h>

#include "media/stage.h"
#include "sim/sim_media.h"

#define LEN (UINT64_C(256) << 10)

struct fixture {
	struct pc_sim *sim;
	struct pc_media *media;
	uint8_t *model;
	uint8_t *got;
	uint64_t seed;
};

static int setup(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));

	assert_non_null(fx);
	assert_int_equal(pc_sim_new(LEN, PC_GRAN_PAGE, PC_SIM_STAGED | PC_SIM_THREADED, &fx->sim), 0);
	fx->media = pc_sim_media(fx->sim);
	fx->model = calloc(1, LEN);
	fx->got = calloc(1, LEN);
	fx->seed = 7;
	assert_non_null(fx->media->stage);
	*state = fx;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fx = *state;

	pc_sim_free(fx->sim);
	free(fx->model);
	free(fx->got);
	free(fx);
	return 0;
}

static uint64_t below(struct fixture *fx, uint64_t limit)
{
	fx->seed = fx->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (fx->seed >> 33) % limit;
}

static void store(struct fixture *fx, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++)
		fx->model[off + i] = (uint8_t)below(fx, 256);
	pc_media_copy(fx->media, off, fx->model + off, len);
}

static void check(struct fixture *fx, uint64_t off, size_t len)
{
	uint32_t crc;

	memset(fx->got, 0xee, len);
	assert_int_equal(pc_media_load(fx->media, off, fx->got, len), 0);
	assert_memory_equal(fx->got, fx->model + off, len);
	if (len > 4096)
		return;
	assert_int_equal(pc_media_load_crc(fx->media, off, fx->got, len, &crc), 0);
	assert_memory_equal(fx->got, fx->model + off, len);
}

static void test_gathers_until_a_sync(void **state)
{
	struct fixture *fx = *state;

	for (uint64_t off = 8192; off < 8192 + 2048; off += 64)
		store(fx, off, 64);
	assert_int_equal(pc_sim_counts(fx->sim).copies, 0);
	check(fx, 4096, 8192);
	assert_int_equal(pc_media_sync(fx->media), 0);
	assert_int_equal(pc_sim_counts(fx->sim).copies, 1); /* one run */
	assert_memory_equal(pc_sim_durable(fx->sim), fx->model, LEN);
	assert_int_equal(pc_media_sync(fx->media), 0);
	assert_int_equal(pc_sim_counts(fx->sim).copies, 1);
}

/* Bytes that nobody stored stay as somebody else changed them. */
static void test_gaps_are_not_written(void **state)
{
	struct fixture *fx = *state;
	const uint8_t other[64] = { 1, 2, 3 };

	store(fx, 4096, 64);
	store(fx, 4096 + 192, 64);
	pc_sim_damage(fx->sim, 4096 + 64, other, sizeof(other));
	memcpy(fx->model + 4096 + 64, other, sizeof(other));
	check(fx, 4096, 4096);
	assert_int_equal(pc_media_sync(fx->media), 0);
	assert_int_equal(pc_sim_counts(fx->sim).copies, 2);
	assert_memory_equal(pc_sim_durable(fx->sim), fx->model, LEN);
}

static void test_random(void **state)
{
	struct fixture *fx = *state;
	uint8_t bytes[64];

	for (uint32_t i = 0; i < 60000; i++) {
		uint64_t at = below(fx, 3) ? 65536 + below(fx, 20000) : below(fx, LEN - 20000), what = below(fx, 100);

		if (what < 50)
			store(fx, at & ~63ull, 64 * (size_t)(1 + below(fx, below(fx, 8) ? 8 : 200)));
		else if (what < 55)
			store(fx, at, (size_t)below(fx, 300)); /* any alignment */
		else if (what < 95)
			check(fx, at, (size_t)(1 + below(fx, 9000)));
		else if (what < 97) {
			assert_int_equal(pc_media_read(fx->media, at & ~63ull, bytes, sizeof(bytes)), 0);
			assert_memory_equal(bytes, fx->model + (at & ~63ull), sizeof(bytes));
		} else if (what < 98) {
			assert_int_equal(pc_media_sync(fx->media), 0);
			assert_memory_equal(pc_sim_durable(fx->sim), fx->model, LEN);
		}
	}
	check(fx, 0, LEN);
	assert_int_equal(pc_media_sync(fx->media), 0);
	assert_memory_equal(pc_sim_durable(fx->sim), fx->model, LEN);
}

static void test_end_of_the_process(void **state)
{
	struct fixture *fx = *state;

	store(fx, 0, 4096);
	assert_int_equal(pc_media_sync(fx->media), 0);
	store(fx, 128, 64);
	pc_sim_reopen(fx->sim);
	assert_int_equal(pc_media_load(fx->media, 0, fx->got, 4096), 0);
	assert_memory_not_equal(fx->got, fx->model, 4096);
	assert_memory_equal(fx->got, fx->model, 128);
	assert_memory_equal(fx->got + 192, fx->model + 192, 4096 - 192);
}

/* What could not be written stays readable, and no sync says that it is durable. */
static void test_failure(void **state)
{
	struct fixture *fx = *state;

	store(fx, 0, 256);
	pc_media_fail(fx->media, -EIO);
	assert_int_equal(pc_media_sync(fx->media), -EIO);
	assert_int_equal(pc_sim_counts(fx->sim).copies, 0);
	check(fx, 0, 256);
	pc_media_copy(fx->media, 65536, fx->model, 64); /* nothing is stored any more */
	assert_int_equal(pc_media_load(fx->media, 65536, fx->got, 64), 0);
	for (uint32_t i = 0; i < 64; i++)
		assert_int_equal(fx->got[i], 0);
}

/* ---- a thread that stores, and this one, which reads what it has stored ---- */

struct race {
	struct pc_media *media;
	_Atomic uint64_t stored; /* lines, from the start */
};

static void line_of(uint64_t nr, uint8_t line[64])
{
	for (uint32_t i = 0; i < 64; i++)
		line[i] = (uint8_t)(nr * 131 + i);
}

static void *storer(void *arg)
{
	struct race *race = arg;
	uint8_t line[64];

	for (uint64_t nr = 0; nr < LEN / 64; nr++) {
		line_of(nr, line);
		pc_media_copy(race->media, nr * 64, line, sizeof(line));
		atomic_store_explicit(&race->stored, nr + 1, memory_order_release);
		if (nr % 512 == 511)
			assert_int_equal(pc_media_sync(race->media), 0);
	}
	return NULL;
}

static void test_loads_beside_stores(void **state)
{
	struct fixture *fx = *state;
	struct race race = { .media = fx->media };
	uint8_t want[64], got[64];
	uint64_t stored = 0, nr;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, storer, &race), 0);
	while (stored < LEN / 64) {
		stored = atomic_load_explicit(&race.stored, memory_order_acquire);
		if (stored == 0)
			continue;
		nr = below(fx, 4) ? stored - 1 - below(fx, PC_MIN(stored, UINT64_C(100))) : below(fx, stored);
		line_of(nr, want);
		assert_int_equal(pc_media_load(fx->media, nr * 64, got, sizeof(got)), 0);
		assert_memory_equal(got, want, sizeof(got));
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_gathers_until_a_sync, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gaps_are_not_written, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
		cmocka_unit_test_setup_teardown(test_end_of_the_process, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loads_beside_stores, setup, teardown),
	};

	return cmocka_run_group_tests_name("media_stage", tests, NULL, NULL);
}
