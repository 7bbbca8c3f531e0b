/* SPDX-License-Identifier: BSD-3-Clause */
/* When write-back is due, and how much of it. The clock is a number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/pace.h"

#define MS UINT64_C(1000000)
#define S (1000 * MS)
#define KIB UINT64_C(1024)

/* The head moves by one each millisecond, so a position is the time of its write. Looks come every step_ms. */
static void every_age(void **state)
{
	static const uint64_t dues_ms[] = { 0, 1, 10, 100, 1000, 5000 }, steps_ms[] = { 1, 3, 10, 125 };

	(void)state;
	for (uint32_t i = 0; i < PC_ARRAY_NR(dues_ms); i++) {
		for (uint32_t j = 0; j < PC_ARRAY_NR(steps_ms); j++) {
			uint64_t due_ms = dues_ms[i], step_ms = steps_ms[j],
				 late_ms = due_ms / PC_AGES_STEPS + 2 * step_ms;
			struct pc_ages ages;

			pc_ages_init(&ages, false);
			for (uint64_t now_ms = 1; now_ms < 20000; now_ms += step_ms) {
				uint64_t pos = pc_ages_look(&ages, due_ms * MS, (now_ms + 77777) * MS, now_ms);

				assert_true(pos + due_ms <= now_ms || pos == 0); /* nothing too early */
				assert_true(pos + due_ms + late_ms >= now_ms); /* nothing too late */
			}
		}
	}
}

/* At once, what was there before anybody looked, and what was there when the age was made less: its own age is not known well enough. */
static void unknown_ages_are_due(void **state)
{
	struct pc_ages ages;

	(void)state;
	pc_ages_init(&ages, true);
	assert_int_equal(pc_ages_look(&ages, 10 * S, 1 * S, 500), 500);
	assert_int_equal(pc_ages_look(&ages, 10 * S, 2 * S, 600), 500);
	assert_int_equal(pc_ages_look(&ages, 9 * S, 3 * S, 700), 700);
	pc_ages_init(&ages, false);
	assert_int_equal(pc_ages_look(&ages, 10 * S, 1 * S, 500), 0);
	assert_int_equal(pc_ages_look(&ages, 10 * S, 11 * S - 1, 900), 0);
	assert_int_equal(pc_ages_look(&ages, 10 * S, 11 * S, 900), 500);
}

/* Many samples near one another, and then a long age: none of them is found too early, and what comes later not much too late. */
static void a_longer_age(void **state)
{
	struct pc_ages ages;
	uint64_t now_ms = 1, pos = 0;

	(void)state;
	pc_ages_init(&ages, false);
	for (; now_ms < 100; now_ms++)
		(void)pc_ages_look(&ages, 16 * MS, now_ms * MS, now_ms);
	for (; now_ms < 40000; now_ms += 10) {
		pos = pc_ages_look(&ages, 10 * S, now_ms * MS, now_ms);
		assert_true(pos < 100 || pos + 10000 <= now_ms);
		assert_true(pos + 10000 + 2 * 1250 + 20 >= now_ms);
	}
}

/* Batches as the worker writes them: never more than the rate and two bursts, and never much less. */
static void every_rate(void **state)
{
	static const uint64_t rates[] = { 1, 999, 4096, 100 * KIB, 50 * KIB * KIB, KIB * KIB * KIB * KIB };

	(void)state;
	for (uint32_t i = 0; i < PC_ARRAY_NR(rates); i++) {
		uint64_t rate = rates[i], burst = pc_bucket_burst(rate), batch = burst, start_ns = 5 * S,
			 now_ns = start_ns;
		struct pc_bucket bucket = { 0 };
		long double done = 0;

		assert_true(burst >= rate / 10 && burst >= 4096);
		for (uint32_t nr = 0; nr < 3000; nr++) {
			uint64_t wait_ns = pc_bucket_wait_ns(&bucket, rate, now_ns);
			long double allowed =
				(long double)(now_ns - start_ns) / 1e9L * (long double)rate + 2 * (long double)burst;

			if (wait_ns) {
				now_ns += PC_MIN(wait_ns, S);
				continue;
			}
			done += (long double)batch;
			pc_bucket_take(&bucket, batch);
			assert_true(done <= allowed + 1);
			now_ns += 1000; /* what a batch takes: the rate is what holds it */
		}
		assert_true(done >= (long double)(now_ns - start_ns) / 1e9L * (long double)rate * 0.9L -
					    2 * (long double)burst);
		assert_true(done > 0);
	}
}

/* One request is longer than all that a second gives: those that follow wait for it. Idle time is not saved up beyond the burst. */
static void debt_and_idleness(void **state)
{
	struct pc_bucket bucket = { 0 };
	uint64_t now_ns = 10 * S;

	(void)state;
	assert_int_equal(pc_bucket_wait_ns(&bucket, 1000 * KIB, now_ns), 0);
	pc_bucket_take(&bucket, 5000 * KIB);
	assert_int_equal(pc_bucket_wait_ns(&bucket, 1000 * KIB, now_ns), S); /* at most a second at once */
	now_ns += 4 * S;
	assert_true(pc_bucket_wait_ns(&bucket, 1000 * KIB, now_ns) > 800 * MS);
	now_ns += S;
	assert_int_equal(pc_bucket_wait_ns(&bucket, 1000 * KIB, now_ns), 0);
	now_ns += 10000 * S;
	assert_int_equal(pc_bucket_wait_ns(&bucket, 1000 * KIB, now_ns), 0);
	pc_bucket_take(&bucket, 100 * KIB);
	assert_true(pc_bucket_wait_ns(&bucket, 1000 * KIB, now_ns) > 0);
}

/* Looks that come too fast for a byte do not keep it from coming. */
static void slow_rates_come_through(void **state)
{
	struct pc_bucket bucket = { 0 };
	uint64_t now_ns = S;

	(void)state;
	(void)pc_bucket_wait_ns(&bucket, 3, now_ns);
	pc_bucket_take(&bucket, 4096 + 5);
	for (uint32_t i = 0; i < 4000; i++) {
		now_ns += MS;
		if (pc_bucket_wait_ns(&bucket, 3, now_ns) == 0)
			break;
	}
	assert_true(bucket.bytes > -4096 - 5 && now_ns <= 5 * S);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_age),         cmocka_unit_test(unknown_ages_are_due),
		cmocka_unit_test(a_longer_age),      cmocka_unit_test(every_rate),
		cmocka_unit_test(debt_and_idleness), cmocka_unit_test(slow_rates_come_through),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
