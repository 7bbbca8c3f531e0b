/* SPDX-License-Identifier: BSD-3-Clause */
/* A run of the crash simulator on media that an earlier run has used is the run that it is on media of its own: the same states, the same verdicts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim/crash_run.h"
#include "sim/sim_media.h"

static struct pc_crash_result result;

static uint64_t digest_of(uint64_t seed, bool keep_media)
{
	const struct pc_crash_settings settings = {
		.seed = seed, .depth = 2, .states_max = 40, .keep_media = keep_media
	};

	pc_crash_run(&settings, &result);
	assert_false(result.failed);
	assert_true(result.states > 0);
	return result.digest;
}

static void digests_are_the_same(void **state)
{
	uint64_t fresh[24];

	(void)state;
	for (uint64_t seed = 0; seed < 24; seed++)
		fresh[seed] = digest_of(seed + 1, false);
	/* Twice, so that every run but the first has media of another one, shorter or longer. */
	for (uint64_t i = 0; i < 48; i++)
		assert_int_equal(digest_of(i * 7 % 24 + 1, true), fresh[i * 7 % 24]);
}

static void renewed_is_new(void **state)
{
	uint8_t bytes[64] = { 1 };
	struct pc_sim *sim, *fresh;

	(void)state;
	assert_int_equal(pc_sim_new(64u << 10, PC_GRAN_CACHE_LINE, 0, &sim), 0);
	pc_media_copy(pc_sim_media(sim), 40u << 10, bytes, sizeof(bytes));
	pc_media_fence(pc_sim_media(sim));
	(void)pc_sim_durable_hash(sim);
	pc_media_copy(pc_sim_media(sim), 4096, bytes, sizeof(bytes));
	assert_false(pc_sim_renew(sim, 68u << 10));
	assert_false(pc_sim_renew(sim, 4097));
	assert_false(pc_sim_renew(sim, 0));
	assert_int_equal(pc_sim_pending_nr(sim), 1);
	for (uint32_t kib = 32; kib <= 64; kib += 32) {
		assert_true(pc_sim_renew(sim, kib << 10));
		assert_int_equal(pc_sim_new(kib << 10, PC_GRAN_CACHE_LINE, 0, &fresh), 0);
		assert_int_equal(pc_sim_media(sim)->len_bytes, kib << 10);
		assert_int_equal(pc_sim_pending_nr(sim), 0);
		assert_int_equal(pc_sim_site_nr(sim), 0);
		assert_memory_equal(pc_sim_view(sim), pc_sim_view(fresh), kib << 10);
		assert_memory_equal(pc_sim_durable(sim), pc_sim_durable(fresh), kib << 10);
		assert_int_equal(pc_sim_durable_hash(sim), pc_sim_durable_hash(fresh));
		pc_sim_free(fresh);
	}
	pc_sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(renewed_is_new),
		cmocka_unit_test(digests_are_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
