/* SPDX-License-Identifier: BSD-3-Clause */
/* The requests on an open cache: every bad argument with its code, a full cache under each policy, drain and maintain. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "core/rig.h"

static void null_handles(void **state)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	uint8_t bytes[512];
	struct pcache_range range = { .buf = bytes, .off = 0, .len = 512 };

	(void)state;
	assert_int_equal(pcache_read(NULL, bytes, 0, 512, 0), -EINVAL);
	assert_int_equal(pcache_write(NULL, bytes, 0, 512, 0), -EINVAL);
	assert_int_equal(pcache_write_batch(NULL, &range, 1, 0), -EINVAL);
	assert_int_equal(pcache_flush(NULL), -EINVAL);
	assert_int_equal(pcache_discard(NULL, 0, 512, 0), -EINVAL);
	assert_int_equal(pcache_write_zeroes(NULL, 0, 512, 0), -EINVAL);
	assert_int_equal(pcache_drain(NULL, NULL, NULL), -EINVAL);
	assert_int_equal(pcache_maintain(NULL, 0), -EINVAL);
	assert_int_equal(pcache_info_get(NULL, &info), -EINVAL);
	assert_int_equal(pcache_atomic_write_max(NULL), 0);
	assert_int_equal(pcache_size(NULL), 0);
	assert_int_equal(pcache_block_bytes(NULL), 0);
	assert_int_equal(pcache_close(NULL), 0);
}

struct bad_range {
	uint64_t off;
	uint64_t len;
	int code;
};

static void bad_ranges(void **state)
{
	(void)state;
	for (uint32_t block = 512; block <= 4096; block *= 8) {
		struct rig rig;
		uint64_t size, head;

		rig_zero(&rig);
		rig.o.block_bytes = block;
		rig.o.segment_bytes = 16384;
		rig_up(&rig);
		size = pcache_size(rig.cache);
		assert_int_equal(size, rig.o.backing_bytes);
		assert_int_equal(pcache_block_bytes(rig.cache), block);
		head = rig_info(&rig).log_head;
		const struct bad_range bad[] = {
			{ 1, block, PCACHE_E_UNALIGNED },
			{ 0, 1, PCACHE_E_UNALIGNED },
			{ 0, block - 1, PCACHE_E_UNALIGNED },
			{ block / 2, block / 2, PCACHE_E_UNALIGNED },
			{ 0, block + 1, PCACHE_E_UNALIGNED },
			{ size, block, PCACHE_E_RANGE },
			{ size - block, 2 * block, PCACHE_E_RANGE },
			{ size + block, 0, PCACHE_E_RANGE },
			{ 0, size + block, PCACHE_E_RANGE },
			{ UINT64_MAX - block + 1, block, PCACHE_E_RANGE },
			{ UINT64_MAX - block + 1, 2 * block, PCACHE_E_RANGE },
			{ block, UINT64_MAX - block + 1, PCACHE_E_RANGE },
			{ 2 * block, UINT64_MAX - 2 * block + 1, PCACHE_E_RANGE },
			{ UINT64_MAX, UINT64_MAX, PCACHE_E_RANGE },
			{ UINT64_C(1) << 63, UINT64_C(1) << 63, PCACHE_E_RANGE },
		};

		for (size_t i = 0; i < PC_ARRAY_NR(bad); i++) {
			struct pcache_range ranges[2] = {
				{ .buf = rig.model, .off = 0, .len = block },
				{ .buf = rig.scratch, .off = bad[i].off, .len = bad[i].len }
			};

			memcpy(rig.scratch, rig.model, block);
			assert_int_equal(pcache_read(rig.cache, rig.scratch, bad[i].off, bad[i].len, 0), bad[i].code);
			assert_int_equal(pcache_write(rig.cache, rig.scratch, bad[i].off, bad[i].len, 0), bad[i].code);
			assert_int_equal(pcache_write_batch(rig.cache, ranges, 2, 0), bad[i].code);
			assert_int_equal(pcache_discard(rig.cache, bad[i].off, bad[i].len, 0), bad[i].code);
			assert_int_equal(pcache_write_zeroes(rig.cache, bad[i].off, bad[i].len, 0), bad[i].code);
		}
		/* The very end is in. */
		assert_int_equal(rig_info(&rig).log_head, head);
		rig_write(&rig, size - block, block, 0);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

static void bad_flags_and_buffers(void **state)
{
	struct pcache_range range = { .buf = NULL, .off = 0, .len = 512 };
	struct rig rig;
	uint64_t head;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	head = rig_info(&rig).log_head;
	assert_int_equal(pcache_read(rig.cache, NULL, 0, 512, 0), -EINVAL);
	assert_int_equal(pcache_write(rig.cache, NULL, 0, 512, 0), -EINVAL);
	assert_int_equal(pcache_write_batch(rig.cache, NULL, 1, 0), -EINVAL);
	assert_int_equal(pcache_write_batch(rig.cache, &range, 1, 0), -EINVAL);
	range.buf = rig.model;
	for (uint32_t bit = 0; bit < 32; bit++) {
		uint32_t flag = 1u << bit;

		if (flag != PCACHE_NOCACHE && flag != PCACHE_NOWAIT)
			assert_int_equal(pcache_read(rig.cache, rig.scratch, 0, 512, flag), -EINVAL);
		if (flag == PCACHE_DURABLE || flag == PCACHE_NOWAIT)
			continue;
		assert_int_equal(pcache_write(rig.cache, rig.model, 0, 512, flag), -EINVAL);
		assert_int_equal(pcache_write_batch(rig.cache, &range, 1, flag), -EINVAL);
		assert_int_equal(pcache_discard(rig.cache, 0, 512, flag), -EINVAL);
		assert_int_equal(pcache_write_zeroes(rig.cache, 0, 512, flag), -EINVAL);
	}
	assert_int_equal(rig_info(&rig).log_head, head);
	rig_check_all(&rig);
	rig_down(&rig);
}

static void info_fills_what_is_asked(void **state)
{
	struct pcache_info info;
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	assert_int_equal(pcache_info_get(rig.cache, NULL), -EINVAL);
	memset(&info, 0xee, sizeof(info));
	info.struct_bytes = 7;
	assert_int_equal(pcache_info_get(rig.cache, &info), -EINVAL);
	assert_int_equal(info.state_flags, 0xeeeeeeee);
	info.struct_bytes = 8;
	assert_int_equal(pcache_info_get(rig.cache, &info), 0);
	assert_int_equal(info.state_flags, 0);
	assert_int_equal(info.cache_uuid[0], 0xee);
	info.struct_bytes = sizeof(info);
	rig_write(&rig, 0, 1536, 0);
	rig_zeroes(&rig, 4096, 512, true);
	rig_check_range(&rig, 0, 4096);
	rig_flush(&rig);
	assert_int_equal(pcache_info_get(rig.cache, &info), 0);
	assert_int_equal(info.struct_bytes, sizeof(info));
	assert_int_equal(info.write_ops, 2);
	assert_int_equal(info.write_bytes, 1536);
	assert_int_equal(info.discard_bytes, 512);
	assert_int_equal(info.read_ops, 1);
	assert_int_equal(info.read_bytes, 4096);
	assert_int_equal(info.hit_bytes, 1536);
	assert_int_equal(info.miss_bytes, 2560);
	assert_int_equal(info.dirty_bytes, 2048);
	assert_int_equal(info.clean_bytes, 2560);
	assert_int_equal(info.commit, PCACHE_COMMIT_WRITE);
	assert_int_equal(info.granularity, PCACHE_GRANULARITY_CACHE_LINE);
	assert_int_equal(info.atomic_write_max_bytes, pcache_atomic_write_max(rig.cache));
	assert_int_equal(info.segments_free + info.segments_log + info.segments_data, info.segments);
	rig_down(&rig);
}

/* Fills the cache until a write is refused. Returns the code; nothing of the refused write is there. */
static int fill_up(struct rig *rig, uint32_t flags)
{
	for (uint32_t i = 0; i < 10000; i++) {
		uint64_t off = (uint64_t)i * 1024 % rig->o.backing_bytes;
		int rc;

		rig_pattern(rig, rig->scratch, 1024);
		rc = pcache_write(rig->cache, rig->scratch, off, 1024, flags);
		if (rc)
			return rc;
		memcpy(rig->model + off, rig->scratch, 1024);
	}
	return 0;
}

/* The backing takes nothing: the cache fills up, says so, still flushes, still reads; and goes on when the backing does. */
static void full_cache_with_a_broken_backing(void **state)
{
	(void)state;
	for (uint32_t shape = 0; shape < 4; shape++) {
		struct rig rig;
		int rc;

		rig_zero(&rig);
		rig.o.threads = (shape & 1) != 0;
		rig.o.full_error = true;
		rig.o.granularity = shape & 2 ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
		rig.o.sim_flags = rig.o.threads ? PC_SIM_THREADED : 0;
		rig_up(&rig);
		mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 1, EIO, MEM_BACKING_FOREVER);
		rc = fill_up(&rig, 0);
		assert_int_equal(rc, PCACHE_E_FULL);
		for (uint32_t i = 0; i < 200; i++) {
			rig_flush(&rig);
			assert_int_equal(pcache_write(rig.cache, rig.scratch, 0, 16384, PCACHE_NOWAIT), PCACHE_E_FULL);
		}
		rig_check_all(&rig);
		assert_int_equal(pcache_drain(rig.cache, NULL, NULL), -EIO);
		assert_true(rig_info(&rig).state_flags & PCACHE_STATE_DEGRADED);
		assert_true(rig_info(&rig).dirty_bytes > 0);
		mem_backing_clear_faults(rig.mb);
		rig_drain(&rig);
		assert_false(rig_info(&rig).state_flags & PCACHE_STATE_DEGRADED);
		for (uint32_t i = 0; i < 100; i++) {
			uint64_t off = rig_below(&rig, 200) * 1024;

			rig_pattern(&rig, rig.scratch, 1024);
			for (uint32_t tries = 0;
			     (rc = pcache_write(rig.cache, rig.scratch, off, 1024, 0)) == PCACHE_E_FULL; tries++) {
				assert_true(rig.o.threads && tries < 60000);
				(void)usleep(1000);
			}
			assert_int_equal(rc, 0);
			memcpy(rig.model + off, rig.scratch, 1024);
		}
		rig_check_range(&rig, 0, rig.o.backing_bytes);
		rig_drain(&rig);
		rig_close(&rig);
		rig_open(&rig);
		rig_check_range(&rig, 0, rig.o.backing_bytes);
		rig_down(&rig);
	}
}

static void nowait(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	/* The caller maintains: without the flag writes make their own room, with it they do not. */
	assert_int_equal(fill_up(&rig, PCACHE_NOWAIT), PCACHE_E_FULL);
	assert_int_equal(pcache_write(rig.cache, rig.scratch, 0, 1024, PCACHE_NOWAIT), PCACHE_E_FULL);
	rig_check_all(&rig);
	rig_write(&rig, 0, 1024, 0);
	rig_check_all(&rig);
	rig_drain(&rig);
	rig_down(&rig);
}

/* ---- maintenance=caller: several threads that run steps ---- */

struct asker {
	struct rig *rig;
	uint32_t want_segs;
	bool want_log;
	_Atomic bool done;
	int rc;
};

static _Atomic uint32_t asked_nr; /* threads in a round */
static _Atomic bool round_ends;

/* A round of steps that finds nothing, and lasts until it is told to end. */
static int empty_round(struct pcache *cache)
{
	(void)cache;
	atomic_fetch_add(&asked_nr, 1);
	while (!atomic_load(&round_ends))
		(void)usleep(100);
	return 0;
}

static void *ask(void *arg)
{
	struct asker *asker = arg;
	struct pc_space_ticket ticket = { 0 };

	asker->rc = pc_space_wait(asker->rig->cache, &ticket, asker->want_segs, asker->want_log, 0);
	atomic_store(&asker->done, true);
	return NULL;
}

static pthread_t start_asking(struct asker *asker, struct rig *rig)
{
	uint32_t before = atomic_load(&asked_nr);
	pthread_t thread;

	asker->rig = rig;
	assert_int_equal(pthread_create(&thread, NULL, ask, asker), 0);
	while (atomic_load(&asked_nr) == before)
		(void)usleep(100);
	return thread;
}

/* A step of another thread had begun: there may be room when it ends, so nobody hears that the cache is full before; steps that begin later do not stand in for it. */
static void later_steps_do_not_count(void **state)
{
	struct pc_space_step running = { 0 }, later = { 0 };
	struct asker asker = { .want_segs = 1 };
	pthread_t thread;
	struct rig rig;

	(void)state;
	for (uint32_t made = 0; made < 2; made++) {
		rig_zero(&rig);
		rig_up(&rig);
		rig.cache->run_steps = empty_round;
		atomic_store(&round_ends, false);
		atomic_store(&asker.done, false);
		pc_space_step_begin(rig.cache, &running);
		thread = start_asking(&asker, &rig);
		atomic_store(&round_ends, true);
		for (uint32_t i = 0; i < 500; i++) {
			pc_space_step_begin(rig.cache, &later);
			pc_space_step_end(rig.cache, &later);
			(void)usleep(100);
		}
		assert_false(atomic_load(&asker.done));
		if (made)
			pc_space_progress(rig.cache);
		pc_space_step_end(rig.cache, &running);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(asker.rc, made ? 0 : PCACHE_E_FULL);
		rig_down(&rig);
	}
}

static void expect_wishes(struct rig *rig, uint32_t want_segs, bool want_log)
{
	assert_int_equal(atomic_load(&rig->cache->space.want_segs), want_segs);
	assert_int_equal(atomic_load(&rig->cache->space.want_log), want_log);
}

/* What is wanted is what those want who are there, whoever came or went. */
static void wishes_belong_to_callers(void **state)
{
	struct pc_space_step small = { .want_segs = 1 }, big = { .want_segs = 5, .want_log = true }, none = { 0 };
	struct asker asker = { .want_segs = 3 };
	pthread_t thread;
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig.cache->run_steps = empty_round;
	atomic_store(&round_ends, false);
	pc_space_step_begin(rig.cache, &small);
	expect_wishes(&rig, 1, false);
	thread = start_asking(&asker, &rig);
	expect_wishes(&rig, 3, false);
	pc_space_step_begin(rig.cache, &big);
	expect_wishes(&rig, 5, true);
	pc_space_step_end(rig.cache, &small);
	pc_space_step_begin(rig.cache, &none);
	expect_wishes(&rig, 5, true);
	pc_space_step_end(rig.cache, &big);
	expect_wishes(&rig, 3, false);
	pc_space_step_end(rig.cache, &none);
	expect_wishes(&rig, 3, false);
	atomic_store(&round_ends, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(asker.rc, PCACHE_E_FULL);
	expect_wishes(&rig, 0, false);
	rig_down(&rig);
}

struct waiter {
	struct rig *rig;
	_Atomic uint32_t done_nr;
	int rc;
};

static void *write_on(void *arg)
{
	struct waiter *waiter = arg;

	for (uint32_t i = 0; i < 500 && !waiter->rc; i++) {
		waiter->rc = pcache_write(waiter->rig->cache, waiter->rig->model + 512 * (uint64_t)(i % 500),
					  512 * (uint64_t)(i % 500), 512, 0);
		atomic_fetch_add(&waiter->done_nr, 1);
	}
	return NULL;
}

/* full_policy=wait: while the backing hangs, a writer waits and a flush completes; when it comes back, the writer does. */
static void writers_wait_for_space(void **state)
{
	struct waiter waiter = { .rc = 0 };
	struct pcache_info info;
	struct rig rig;
	pthread_t thread;
	uint32_t seen = 0;

	(void)state;
	rig_zero(&rig);
	rig.o.threads = true;
	rig.o.sim_flags = PC_SIM_THREADED;
	rig_up(&rig);
	waiter.rig = &rig;
	mem_backing_set_hang(rig.mb, MEM_BACKING_WRITE, true);
	rig_pattern(&rig, rig.model, 500 * 512);
	assert_int_equal(pthread_create(&thread, NULL, write_on, &waiter), 0);
	for (uint32_t tries = 0;; tries++) {
		assert_true(tries < 60000);
		info = rig_info(&rig);
		if (info.full_waits)
			break;
		(void)usleep(2000);
	}
	seen = atomic_load(&waiter.done_nr);
	rig_flush(&rig);
	rig_check_range(&rig, 0, 512);
	(void)usleep(20000);
	assert_int_equal(atomic_load(&waiter.done_nr), seen);
	assert_true(seen < 500);
	mem_backing_set_hang(rig.mb, MEM_BACKING_WRITE, false);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(waiter.rc, 0);
	rig_drain(&rig);
	rig_check_range(&rig, 0, rig.o.backing_bytes);
	rig_down(&rig);
}

static int count_progress(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
	uint32_t *calls = user;

	assert_true(done_bytes <= total_bytes);
	return ++*calls >= 1;
}

static int let_pass(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
	uint64_t *last = user;

	assert_true(done_bytes >= *last && done_bytes <= total_bytes);
	*last = done_bytes;
	return 0;
}

static void drain_and_maintain(void **state)
{
	struct rig rig;
	uint32_t calls = 0;
	uint64_t last = 0;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	assert_int_equal(pcache_maintain(rig.cache, 0) >= 0, 1);
	assert_int_equal(pcache_maintain(rig.cache, 0), 0); /* nothing to do */
	/* A step ends where a block comes again. */
	for (uint32_t i = 0; i < 8; i++) {
		rig_write(&rig, i % 2 * 8192, 4096, 0);
		rig_flush(&rig);
	}
	assert_int_equal(pcache_drain(rig.cache, count_progress, &calls), -ECANCELED);
	assert_int_equal(calls, 1);
	assert_true(rig_info(&rig).dirty_bytes > 0);
	assert_int_equal(pcache_maintain(rig.cache, 1), 1);
	assert_int_equal(pcache_drain(rig.cache, let_pass, &last), 0);
	rig_drain(&rig);
	assert_int_equal(rig_info(&rig).dirty_bytes, 0);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(null_handles),
		cmocka_unit_test(bad_ranges),
		cmocka_unit_test(bad_flags_and_buffers),
		cmocka_unit_test(info_fills_what_is_asked),
		cmocka_unit_test(full_cache_with_a_broken_backing),
		cmocka_unit_test(nowait),
		cmocka_unit_test(later_steps_do_not_count),
		cmocka_unit_test(wishes_belong_to_callers),
		cmocka_unit_test(writers_wait_for_space),
		cmocka_unit_test(drain_and_maintain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
