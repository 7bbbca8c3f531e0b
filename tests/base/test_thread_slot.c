/* SPDX-License-Identifier: BSD-3-Clause */
/* Slots of threads: one's own while there are enough, counted in without loss, given back at the end of a thread. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/thread_slot.h"

#define THREAD_NR 80u /* more than there are slots */
#define ADDS 20000u

static _Atomic uint64_t counters[PC_THREAD_SLOT_NR];
static _Atomic uint32_t users[PC_THREAD_SLOT_NR];
static pthread_barrier_t all_begun, all_done;

static void *count(void *arg)
{
	uint32_t *out_slot = arg, slot = pc_thread_slot();

	atomic_fetch_add(&users[slot], 1);
	pthread_barrier_wait(&all_begun);
	for (uint32_t i = 0; i < ADDS; i++)
		pc_thread_slot_add(&counters[slot], pc_thread_slot(), 1);
	*out_slot = pc_thread_slot() == slot ? slot : PC_THREAD_SLOT_NR;
	pthread_barrier_wait(&all_done);
	return NULL;
}

static uint32_t run_threads(uint32_t nr)
{
	pthread_t threads[THREAD_NR];
	uint32_t slots[THREAD_NR], shared_nr = 0;
	uint64_t sum = 0;

	assert_int_equal(pthread_barrier_init(&all_begun, NULL, nr), 0);
	assert_int_equal(pthread_barrier_init(&all_done, NULL, nr), 0);
	for (uint32_t i = 0; i < PC_THREAD_SLOT_NR; i++) {
		atomic_store(&counters[i], 0);
		atomic_store(&users[i], 0);
	}
	for (uint32_t i = 0; i < nr; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, &slots[i]), 0);
	for (uint32_t i = 0; i < nr; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	for (uint32_t i = 0; i < nr; i++) {
		assert_true(slots[i] < PC_THREAD_SLOT_NR);
		shared_nr += slots[i] == PC_THREAD_SLOT_SHARED;
	}
	for (uint32_t i = 0; i < PC_THREAD_SLOT_NR; i++) {
		assert_true(i == PC_THREAD_SLOT_SHARED || atomic_load(&users[i]) <= 1);
		sum += atomic_load(&counters[i]);
	}
	assert_int_equal(sum, (uint64_t)nr * ADDS);
	pthread_barrier_destroy(&all_begun);
	pthread_barrier_destroy(&all_done);
	return shared_nr;
}

static void slots_are_ones_own_and_come_back(void **state)
{
	(void)state;
	/* Round after round: without slots that come back the second would find none. */
	for (uint32_t round = 0; round < 4; round++)
		assert_int_equal(run_threads(40), 0);
}

static void who_comes_too_late_shares(void **state)
{
	(void)state;
	assert_int_equal(run_threads(THREAD_NR), THREAD_NR - PC_THREAD_SLOT_SHARED);
	assert_int_equal(run_threads(40), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(slots_are_ones_own_and_come_back),
					    cmocka_unit_test(who_comes_too_late_shares) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
