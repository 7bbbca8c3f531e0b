/* SPDX-License-Identifier: BSD-3-Clause */
/* Options of an open cache: what is in force, what may change, what a change does, and what of it a crash leaves. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "core/rig.h"

static uint64_t in_force(struct rig *rig, int option)
{
	uint64_t value = 0xdead;

	assert_int_equal(pcache_option_get(rig->cache, option, &value), 0);
	return value;
}

/* Each option of the rig's cache, given and not given. */
static void what_is_in_force(void **state)
{
	struct rig rig;

	(void)state;
	for (int given = 0; given <= 1; given++) {
		rig_zero(&rig);
		rig.o.segment_bytes = 8192;
		if (given) {
			rig.o.block_bytes = 4096;
			rig.o.no_crc = true;
			rig.o.gc_percent = 33;
			rig.o.ordering = PCACHE_ORDERING_BATCH;
			rig.o.commit = PCACHE_COMMIT_FLUSH;
			rig.o.no_read_cache = true;
			rig.o.full_error = true;
		}
		rig_up(&rig);
		assert_int_equal(in_force(&rig, PCACHE_OPT_CACHE_BYTES), rig_info(&rig).media_bytes);
		assert_int_equal(in_force(&rig, PCACHE_OPT_BLOCK_BYTES), given ? 4096 : 512);
		assert_int_equal(in_force(&rig, PCACHE_OPT_SEGMENT_BYTES), 8192);
		assert_int_equal(in_force(&rig, PCACHE_OPT_DATA_CRC), !given);
		assert_int_equal(in_force(&rig, PCACHE_OPT_FORCE), 0);
		assert_int_equal(in_force(&rig, PCACHE_OPT_GC_PERCENT), given ? 33 : 70);
		assert_int_equal(in_force(&rig, PCACHE_OPT_ORDERING), given);
		assert_int_equal(in_force(&rig, PCACHE_OPT_COMMIT), given ? PCACHE_COMMIT_FLUSH : PCACHE_COMMIT_WRITE);
		assert_int_equal(in_force(&rig, PCACHE_OPT_COMMIT_GUARD), given); /* no CRC: always a fence */
		assert_int_equal(in_force(&rig, PCACHE_OPT_READ_CACHE), !given);
		assert_int_equal(in_force(&rig, PCACHE_OPT_MAINTENANCE), PCACHE_MAINTENANCE_CALLER);
		assert_int_equal(in_force(&rig, PCACHE_OPT_FULL_POLICY), given);
		assert_int_equal(in_force(&rig, PCACHE_OPT_READ_ONLY), 0);
		assert_int_equal(in_force(&rig, PCACHE_OPT_STATS_PAGE), 0);
		assert_int_equal(in_force(&rig, PCACHE_OPT_MEDIA_GUARD), 0);
		assert_int_equal(in_force(&rig, PCACHE_OPT_GRANULARITY), PCACHE_GRANULARITY_PAGE);
		rig_down(&rig);
	}
}

/* All of them have an answer, and those that may change take each of their limits and nothing beyond. */
static void over_the_table(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	for (int option = 0; option < PCACHE_OPT_NR; option++) {
		struct pcache_option_info info = { .struct_bytes = sizeof(info) };
		uint64_t before = in_force(&rig, option);

		assert_int_equal(pcache_option_describe(option, &info), 0);
		assert_true(before >= info.lowest && before <= info.highest);
		if (!(info.when & PCACHE_OPTION_WHILE_OPEN)) {
			assert_int_equal(pcache_option_set(rig.cache, option, before), -EPERM);
			assert_int_equal(pcache_option_set(rig.cache, option, info.lowest), -EPERM);
			assert_int_equal(in_force(&rig, option), before);
			continue;
		}
		assert_int_equal(pcache_option_set(rig.cache, option, info.highest), 0);
		assert_int_equal(in_force(&rig, option), info.highest);
		assert_int_equal(pcache_option_set(rig.cache, option, info.lowest), 0);
		assert_int_equal(pcache_option_set(rig.cache, option, info.highest + 1), -EINVAL);
		assert_int_equal(in_force(&rig, option), info.lowest);
	}
	rig_down(&rig);
}

static void null_and_unknown(void **state)
{
	struct rig rig;
	uint64_t value = 77;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	assert_int_equal(pcache_option_get(NULL, 0, &value), -EINVAL);
	assert_int_equal(pcache_option_get(rig.cache, 0, NULL), -EINVAL);
	assert_int_equal(pcache_option_get(rig.cache, PCACHE_OPT_NR, &value), -ENOENT);
	assert_int_equal(pcache_option_get(rig.cache, -1, &value), -ENOENT);
	assert_int_equal(pcache_option_set(NULL, PCACHE_OPT_GC_PERCENT, 1), -EINVAL);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_NR, 1), -ENOENT);
	assert_int_equal(pcache_option_set(rig.cache, -1, 1), -ENOENT);
	assert_int_equal(value, 77);
	rig_down(&rig);
}

/* A power cut right after the call, and a close; an open without a value takes what is there. */
static void gc_percent_is_kept(void **state)
{
	struct rig rig;

	(void)state;
	for (enum pc_granularity granularity = PC_GRAN_BYTE; granularity <= PC_GRAN_PAGE; granularity++) {
		rig_zero(&rig);
		rig.o.granularity = granularity;
		rig_up(&rig);
		assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_GC_PERCENT, 20), 0);
		rig_power_cut(&rig);
		rig_open(&rig);
		assert_int_equal(in_force(&rig, PCACHE_OPT_GC_PERCENT), 20);
		assert_int_equal(rig_info(&rig).gc_percent, 20);
		assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_GC_PERCENT, 40), 0);
		rig_close(&rig);
		rig_open(&rig);
		assert_int_equal(in_force(&rig, PCACHE_OPT_GC_PERCENT), 40);
		rig_down(&rig);
	}
}

static void gc_percent_of_a_cache_that_cannot_store(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig.o.granularity = PC_GRAN_PAGE;
	rig_up(&rig);
	pc_sim_fail_sync(rig.sim, 1, -EIO);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_GC_PERCENT, 20), -EIO);
	assert_int_equal(in_force(&rig, PCACHE_OPT_GC_PERCENT), 70);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_GC_PERCENT, 20), PCACHE_E_FAILSTOP);
	assert_int_equal(in_force(&rig, PCACHE_OPT_GC_PERCENT), 70);
	/* What is only in memory may still change. */
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_READ_CACHE, 0), 0);
	rig_down(&rig);

	rig_zero(&rig);
	rig_up(&rig);
	rig_close(&rig);
	rig.o.read_only = true;
	rig_open(&rig);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_GC_PERCENT, 20), PCACHE_E_READ_ONLY);
	assert_int_equal(in_force(&rig, PCACHE_OPT_READ_ONLY), 1);
	rig_down(&rig);
}

/* Clean data above the new threshold is evicted by the next steps. */
static void gc_percent_takes_effect(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig.o.gc_percent = 90;
	rig_up(&rig);
	for (uint64_t off = 0; off < 64 * 1024; off += 4096)
		rig_write(&rig, off, 4096, 0);
	rig_drain(&rig);
	assert_true(pcache_maintain(rig.cache, 0) >= 0);
	assert_true(rig_info(&rig).clean_bytes >= 48 * 1024);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_GC_PERCENT, 20), 0);
	assert_true(pcache_maintain(rig.cache, 0) > 0);
	assert_true(rig_info(&rig).clean_bytes <= 16 * 1024);
	rig_check_all(&rig);
	rig_down(&rig);
}

static void read_cache_takes_effect(void **state)
{
	struct rig rig;
	uint64_t clean;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_READ_CACHE, 0), 0);
	rig_check_range(&rig, 0, 4096);
	assert_int_equal(rig_info(&rig).clean_bytes, 0);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_READ_CACHE, 1), 0);
	rig_check_range(&rig, 0, 4096);
	clean = rig_info(&rig).clean_bytes;
	assert_int_equal(clean, 4096);
	rig_down(&rig);
}

static void *write_until_it_fails(void *arg)
{
	struct rig *rig = arg;
	intptr_t rc = 0;

	for (uint64_t i = 0; rc == 0; i++)
		rc = pcache_write(rig->cache, rig->model, (i * 4096) % rig->o.backing_bytes, 4096, 0);
	return (void *)rc;
}

/* Two writers wait in a full cache whose backing fails, until the policy says otherwise. */
static void full_policy_takes_effect(void **state)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	pthread_t writers[2];
	struct rig rig;
	void *rc;

	(void)state;
	rig_zero(&rig);
	rig.o.threads = true;
	rig.o.sim_flags = PC_SIM_THREADED;
	rig_up(&rig);
	mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 1, EIO, MEM_BACKING_FOREVER);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&writers[i], NULL, write_until_it_fails, &rig), 0);
	while (atomic_load(&rig.cache->space.waiting_nr) < 2)
		nanosleep(&pause, NULL);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_FULL_POLICY, 1), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(writers[i], &rc), 0);
		assert_int_equal((intptr_t)rc, PCACHE_E_FULL);
	}
	rig_down(&rig);
}

/* Data that rests for an hour goes to the backing as soon as the time is over, though the worker sleeps by then. */
static void writeback_delay_takes_effect(void **state)
{
	const struct timespec pause = { .tv_nsec = 2000000 };
	struct rig rig;
	int tries;

	(void)state;
	rig_zero(&rig);
	rig.o.threads = true;
	rig.o.sim_flags = PC_SIM_THREADED;
	rig_up(&rig);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_WRITEBACK_DELAY_MS, 3600000), 0);
	rig_write(&rig, 0, 4096, 0);
	for (tries = 0; tries < 20; tries++)
		nanosleep(&pause, NULL);
	assert_int_equal(rig_info(&rig).writeback_bytes, 0);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_WRITEBACK_DELAY_MS, 0), 0);
	for (tries = 0; rig_info(&rig).writeback_bytes == 0; tries++) {
		assert_true(tries < 15000);
		nanosleep(&pause, NULL);
	}
	rig_down(&rig);
}

/* Coarser media is refused before anything is stored, finer media is taken. */
static void granularity_is_required(void **state)
{
	struct rig rig;

	(void)state;
	for (enum pc_granularity have = PC_GRAN_BYTE; have <= PC_GRAN_PAGE; have++) {
		for (uint32_t want = 0; want <= PCACHE_GRANULARITY_PAGE; want++) {
			size_t pending;

			rig_zero(&rig);
			rig.o.granularity = have;
			rig_up(&rig);
			rig_close(&rig);
			rig.o.granularity_max = want;
			pending = pc_sim_pending_nr(rig.sim);
			if ((uint32_t)have <= want) {
				rig_open(&rig);
				assert_int_equal(in_force(&rig, PCACHE_OPT_GRANULARITY), want);
			} else {
				assert_int_equal(rig_try_open(&rig), PCACHE_E_PLATFORM);
				assert_int_equal(pc_sim_pending_nr(rig.sim), pending);
			}
			rig_down(&rig);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_in_force),
		cmocka_unit_test(over_the_table),
		cmocka_unit_test(null_and_unknown),
		cmocka_unit_test(gc_percent_is_kept),
		cmocka_unit_test(gc_percent_of_a_cache_that_cannot_store),
		cmocka_unit_test(gc_percent_takes_effect),
		cmocka_unit_test(read_cache_takes_effect),
		cmocka_unit_test(full_policy_takes_effect),
		cmocka_unit_test(writeback_delay_takes_effect),
		cmocka_unit_test(granularity_is_required),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
