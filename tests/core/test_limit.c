/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The share of the cache that may be dirty, the age of dirty data and the rate of write-back, on an open cache. Where the caller runs the steps all is exact. With workers nothing depends on how fast they are: a
 * test waits for what must come, however long it takes, and asserts of time only what more time makes no worse.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/lock.h"
#include "core/rig.h"
#include "pcache/errors.h"

#define SEG_BYTES 4096u
#define SEG_NR 64u
#define SPACE_BYTES (SEG_NR * SEG_BYTES)
#define IO_BYTES 512u
#define NEVER_MS 3600000u
#define PATIENCE_MS 20000u

static void set(struct rig *rig, int option, uint64_t value)
{
	assert_int_equal(pcache_option_set(rig->cache, option, value), 0);
}

static void up(struct rig *rig, bool threads, uint32_t ordering)
{
	rig_zero(rig);
	rig->o.segment_nr = SEG_NR;
	rig->o.ordering = ordering;
	rig->o.threads = threads;
	rig->o.writeback_delay_ms = NEVER_MS;
	rig_up(rig);
}

static uint64_t dirty(struct rig *rig)
{
	return rig_info(rig).dirty_bytes;
}

static void doze(void)
{
	struct timespec ms = { .tv_nsec = 1000000 };

	nanosleep(&ms, NULL);
}

/* Writes blocks nobody has written yet, then goes round. */
static void write_next(struct rig *rig, uint64_t *io)
{
	rig_write(rig, (*io)++ * IO_BYTES % rig->o.backing_bytes, IO_BYTES, 0);
}

/* ---- the caller runs the steps ------------------------------------------------------------------------------------------------ */

/* A request is let in while less than the limit was dirty when it was counted, which may have been in the middle of the one before. */
static void never_more_than_the_limit(void **state)
{
	static const uint32_t percents[] = { 1, 5, 10, 25, 50, 75, 99 };

	(void)state;
	for (uint32_t i = 0; i < 2 * PC_ARRAY_NR(percents); i++) {
		uint64_t limit = SPACE_BYTES / 100 * percents[i / 2], most = 0, last_len = 0;
		struct rig rig;

		up(&rig, false, i % 2);
		set(&rig, PCACHE_OPT_DIRTY_LIMIT_PERCENT, percents[i / 2]);
		for (uint32_t nr = 0; nr < 1500; nr++) {
			uint64_t len = rig_below(&rig, 20) ? IO_BYTES : (1 + rig_below(&rig, 16)) * IO_BYTES;
			uint64_t at = rig_below(&rig, (rig.o.backing_bytes - len) / IO_BYTES + 1) * IO_BYTES;

			rig_write(&rig, at, len, 0);
			if (nr % 7 == 0)
				rig_flush(&rig);
			if (nr % 50 == 0)
				rig_check_range(&rig, rig_below(&rig, 64) * IO_BYTES * 4, IO_BYTES * 4); /* fills */
			most = PC_MAX(most, dirty(&rig));
			assert_true(dirty(&rig) < limit + len + last_len);
			last_len = len;
		}
		if (percents[i / 2] <= 50)
			assert_true(most + IO_BYTES >= limit); /* and no less is let in */
		rig_drain(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* Who must not wait gets the full error at the limit, and goes on when there is less. Zeroes take no room. */
static void nowait_is_full(void **state)
{
	uint64_t limit = SPACE_BYTES / 100 * 10, io = 0, before;
	struct rig rig;

	(void)state;
	up(&rig, false, PCACHE_ORDERING_STRICT);
	set(&rig, PCACHE_OPT_DIRTY_LIMIT_PERCENT, 10);
	while (dirty(&rig) < limit)
		write_next(&rig, &io);
	before = dirty(&rig);
	rig_pattern(&rig, rig.scratch, IO_BYTES);
	assert_int_equal(pcache_write(rig.cache, rig.scratch, 0, IO_BYTES, PCACHE_NOWAIT), PCACHE_E_FULL);
	assert_int_equal(dirty(&rig), before);
	assert_true(pc_segmap_free_nr(&rig.cache->map) > SEG_NR / 2); /* of room there is plenty */
	rig_check_all(&rig);
	assert_int_equal(pcache_write_zeroes(rig.cache, 0, 8 * IO_BYTES, PCACHE_NOWAIT), 0);
	memset(rig.model, 0, 8 * IO_BYTES);
	/* Seven blocks of data have given way. */
	assert_int_equal(pcache_write(rig.cache, rig.scratch, 0, IO_BYTES, PCACHE_NOWAIT), 0);
	memcpy(rig.model, rig.scratch, IO_BYTES);
	/* A higher limit is in force at once; so is none. */
	while (pcache_write(rig.cache, rig.scratch, io * IO_BYTES, IO_BYTES, PCACHE_NOWAIT) == 0)
		memcpy(rig.model + io++ * IO_BYTES, rig.scratch, IO_BYTES);
	set(&rig, PCACHE_OPT_DIRTY_LIMIT_PERCENT, 20);
	assert_int_equal(pcache_write(rig.cache, rig.scratch, 0, IO_BYTES, PCACHE_NOWAIT), 0);
	set(&rig, PCACHE_OPT_DIRTY_LIMIT_PERCENT, 1);
	assert_int_equal(pcache_write(rig.cache, rig.scratch, 0, IO_BYTES, PCACHE_NOWAIT), PCACHE_E_FULL);
	set(&rig, PCACHE_OPT_DIRTY_LIMIT_PERCENT, 100);
	assert_int_equal(rig.cache->admit.gate, 0);
	assert_int_equal(pcache_write(rig.cache, rig.scratch, 0, IO_BYTES, PCACHE_NOWAIT), 0);
	memcpy(rig.model, rig.scratch, IO_BYTES);
	rig_drain(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* What was dirty before the open counts. */
static void a_new_open_counts(void **state)
{
	uint64_t io = 0;
	struct rig rig;

	(void)state;
	up(&rig, false, PCACHE_ORDERING_STRICT);
	while (dirty(&rig) < SPACE_BYTES / 4)
		write_next(&rig, &io);
	rig.o.dirty_limit_percent = 20;
	rig_reopen(&rig);
	rig_pattern(&rig, rig.scratch, IO_BYTES);
	assert_int_equal(pcache_write(rig.cache, rig.scratch, 0, IO_BYTES, PCACHE_NOWAIT), PCACHE_E_FULL);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* The backing fails: at the limit a write that runs steps itself gets the full error, and nothing is lost. */
static void a_dead_backing_is_full(void **state)
{
	uint64_t limit = SPACE_BYTES / 100 * 10, io = 0;
	struct rig rig;

	(void)state;
	up(&rig, false, PCACHE_ORDERING_STRICT);
	set(&rig, PCACHE_OPT_DIRTY_LIMIT_PERCENT, 10);
	mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 1, EIO, MEM_BACKING_FOREVER);
	while (dirty(&rig) < limit)
		write_next(&rig, &io);
	rig_pattern(&rig, rig.scratch, IO_BYTES);
	assert_int_equal(pcache_write(rig.cache, rig.scratch, 0, IO_BYTES, 0), PCACHE_E_FULL);
	rig_check_all(&rig);
	mem_backing_clear_faults(rig.mb);
	write_next(&rig, &io);
	rig_drain(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* ---- workers ------------------------------------------------------------------------------------------------------------------ */

static void await_dirty_below(struct rig *rig, uint64_t bytes)
{
	for (uint32_t ms = 0; dirty(rig) >= bytes; ms++) {
		assert_true(ms < PATIENCE_MS);
		doze();
	}
}

/* Below the start data rests; what is above it goes to the backing though the delay has not passed. */
static void write_back_begins_at_the_start(void **state)
{
	uint64_t start = SPACE_BYTES / 100 * 20, io = 0;
	struct rig rig;

	(void)state;
	up(&rig, true, PCACHE_ORDERING_STRICT);
	set(&rig, PCACHE_OPT_DIRTY_START_PERCENT, 20);
	/* Few keys, so that the log does not run short. */
	for (; (io + 1) * SEG_BYTES < start; io++)
		rig_write(&rig, io * SEG_BYTES, SEG_BYTES, 0);
	for (uint32_t i = 0; i < 20; i++)
		doze();
	assert_int_equal(rig_info(&rig).writeback_bytes, 0);
	for (uint32_t i = 0; i < 3; i++, io++)
		rig_write(&rig, io * SEG_BYTES, SEG_BYTES, 0);
	await_dirty_below(&rig, start);
	/* An option that is changed is in force. */
	set(&rig, PCACHE_OPT_DIRTY_START_PERCENT, 0);
	await_dirty_below(&rig, 1);
	rig_check_all(&rig);
	rig_down(&rig);
}

struct writer {
	pthread_t thread;
	struct rig *rig;
	pthread_rwlock_t *in_flight; /* shared: while a request is in flight */
	uint64_t first;
	uint64_t most; /* dirty bytes that it saw */
};

/* An overwrite that is in flight is counted twice or not at all, so with nobody in flight. */
static uint64_t dirty_at_rest(struct writer *writer)
{
	uint64_t bytes;

	pthread_rwlock_wrlock(writer->in_flight);
	bytes = dirty(writer->rig);
	pthread_rwlock_unlock(writer->in_flight);
	return bytes;
}

static void *write_on(void *arg)
{
	struct writer *writer = arg;
	uint8_t buf[IO_BYTES];
	int rc;

	for (uint32_t i = 0; i < 1200; i++) {
		memset(buf, (int)(i & 0x7f) + 1, sizeof(buf));
		pthread_rwlock_rdlock(writer->in_flight);
		rc = pcache_write(writer->rig->cache, buf, (writer->first + i % 120) * IO_BYTES, IO_BYTES, 0);
		pthread_rwlock_unlock(writer->in_flight);
		if (rc != 0)
			return writer;
		if (i % 8 == 0)
			writer->most = PC_MAX(writer->most, dirty_at_rest(writer));
	}
	return NULL;
}

/* Four writers wait at the limit, each for write-back, and all come to their end. */
static void writers_wait_at_the_limit(void **state)
{
	(void)state;
	for (uint32_t ordering = 0; ordering < 2; ordering++) {
		uint64_t limit = SPACE_BYTES / 100 * 15;
		pthread_rwlock_t in_flight;
		pthread_rwlockattr_t attr;
		struct writer writers[4];
		struct rig rig;

		/* Who looks gets his turn beside writers that never rest. */
		assert_int_equal(pthread_rwlockattr_init(&attr), 0);
		assert_int_equal(pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP), 0);
		assert_int_equal(pthread_rwlock_init(&in_flight, &attr), 0);
		assert_int_equal(pthread_rwlockattr_destroy(&attr), 0);
		up(&rig, true, ordering);
		set(&rig, PCACHE_OPT_DIRTY_LIMIT_PERCENT, 15);
		for (uint32_t i = 0; i < 4; i++) {
			writers[i] = (struct writer){ .rig = &rig, .in_flight = &in_flight, .first = i * 120 };
			assert_int_equal(pthread_create(&writers[i].thread, NULL, write_on, &writers[i]), 0);
		}
		for (uint32_t i = 0; i < 4; i++) {
			void *failed;

			assert_int_equal(pthread_join(writers[i].thread, &failed), 0);
			assert_null(failed);
			/* One request that is let in below the limit, and of each what was in flight at the last two counts. */
			assert_true(writers[i].most < limit + 8 * IO_BYTES);
			for (uint32_t blk = 0; blk < 120; blk++)
				memset(rig.model + (writers[i].first + blk) * IO_BYTES, (int)((1080 + blk) & 0x7f) + 1,
				       IO_BYTES);
		}
		assert_true(rig_info(&rig).full_waits > 0);
		rig_check_all(&rig);
		rig_drain(&rig);
		rig_down(&rig);
		assert_int_equal(pthread_rwlock_destroy(&in_flight), 0);
	}
}

/* A writer that waits sees a higher limit, and goes on, and another policy, and gets the full error. */
static void *write_until_refused(void *arg)
{
	struct writer *writer = arg;
	uint8_t buf[IO_BYTES] = { 1 };
	int rc = 0;

	for (uint64_t i = 0; i < 400 && !rc; i++)
		rc = pcache_write(writer->rig->cache, buf, i * IO_BYTES, IO_BYTES, 0);
	return rc == PCACHE_E_FULL ? NULL : writer;
}

static void who_waits_sees_the_policy(void **state)
{
	struct writer writer;
	struct rig rig;
	void *failed;

	(void)state;
	up(&rig, true, PCACHE_ORDERING_STRICT);
	writer.rig = &rig;
	set(&rig, PCACHE_OPT_DIRTY_LIMIT_PERCENT, 10);
	/* Write-back does not come back, so nobody but the change of an option wakes him. */
	mem_backing_set_hang(rig.mb, MEM_BACKING_WRITE, true);
	assert_int_equal(pthread_create(&writer.thread, NULL, write_until_refused, &writer), 0);
	for (uint32_t ms = 0; atomic_load(&rig.cache->limit.waiter_nr) == 0; ms++) {
		assert_true(ms < PATIENCE_MS);
		doze();
	}
	/* Nothing is written back, but a higher limit lets him go on, up to that. */
	set(&rig, PCACHE_OPT_DIRTY_LIMIT_PERCENT, 20);
	for (uint32_t ms = 0; dirty(&rig) < SPACE_BYTES / 100 * 20; ms++) {
		assert_true(ms < PATIENCE_MS);
		doze();
	}
	set(&rig, PCACHE_OPT_FULL_POLICY, 1);
	assert_int_equal(pthread_join(writer.thread, &failed), 0);
	assert_null(failed);
	mem_backing_set_hang(rig.mb, MEM_BACKING_WRITE, false);
	rig_down(&rig);
}

/* The delay is an hour and nothing is full, yet what is dirty goes to the backing; so does what was dirty before the age was set. */
static void nothing_is_older_than_allowed(void **state)
{
	uint64_t io = 0;
	struct rig rig;

	(void)state;
	up(&rig, true, PCACHE_ORDERING_STRICT);
	write_next(&rig, &io);
	set(&rig, PCACHE_OPT_DIRTY_AGE_MAX_MS, 3600000);
	await_dirty_below(&rig, 1);
	set(&rig, PCACHE_OPT_DIRTY_AGE_MAX_MS, 200);
	for (uint32_t i = 0; i < 3; i++) {
		write_next(&rig, &io);
		await_dirty_below(&rig, 1);
	}
	/* A rate that would take hours for it is not obeyed. */
	set(&rig, PCACHE_OPT_WRITEBACK_RATE, 1);
	for (uint32_t i = 0; i < 120; i++)
		write_next(&rig, &io);
	await_dirty_below(&rig, 1);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* 64 KiB at 128 KiB a second: less the two bursts, that is never done in a fifth of a second. A drain does not wait for it. */
static void write_back_keeps_its_rate(void **state)
{
	uint64_t io = 0, rate = 128 * 1024, start_ns, allowed;
	struct rig rig;

	(void)state;
	up(&rig, true, PCACHE_ORDERING_STRICT);
	for (uint32_t i = 0; i < 128; i++)
		write_next(&rig, &io);
	set(&rig, PCACHE_OPT_WRITEBACK_RATE, rate);
	start_ns = pc_monotonic_ns();
	set(&rig, PCACHE_OPT_WRITEBACK_DELAY_MS, 0);
	for (uint32_t ms = 0; dirty(&rig) != 0; ms++) {
		uint64_t done = rig_info(&rig).writeback_bytes;

		allowed = rate * ((pc_monotonic_ns() - start_ns) / 1000000 + 1) / 1000 + 2 * rate / 10 + IO_BYTES;
		assert_true(done <= allowed);
		assert_true(ms < PATIENCE_MS);
		doze();
	}
	assert_true(pc_monotonic_ns() - start_ns >= UINT64_C(200000000));
	set(&rig, PCACHE_OPT_WRITEBACK_RATE, 1);
	write_next(&rig, &io);
	rig_drain(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(never_more_than_the_limit),
		cmocka_unit_test(nowait_is_full),
		cmocka_unit_test(a_new_open_counts),
		cmocka_unit_test(a_dead_backing_is_full),
		cmocka_unit_test(write_back_begins_at_the_start),
		cmocka_unit_test(writers_wait_at_the_limit),
		cmocka_unit_test(who_waits_sees_the_policy),
		cmocka_unit_test(nothing_is_older_than_allowed),
		cmocka_unit_test(write_back_keeps_its_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
