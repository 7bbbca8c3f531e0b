/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory backing itself: other tests believe what it says, so its power cuts, faults and counts are checked here.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "backing/backing.h"
#include "backing/mem_backing.h"

#define SIZE_BYTES 65536u
#define BLOCK MEM_BACKING_BLOCK

struct bed {
	struct mem_backing *mb;
	struct pcache_backing *backing;
};

static struct bed make(const struct mem_backing_options *options)
{
	struct mem_backing_options defaults = { .size_bytes = SIZE_BYTES };
	struct bed bed;

	bed.mb = mem_backing_create(options != NULL ? options : &defaults);
	assert_non_null(bed.mb);
	bed.backing = mem_backing_attach(bed.mb);
	assert_non_null(bed.backing);
	return bed;
}

static void unmake(struct bed *bed)
{
	struct mem_backing_counters counters;

	pcache_backing_free(bed->backing);
	mem_backing_get_counters(bed->mb, &counters);
	assert_int_equal(counters.frees, 1);
	assert_int_equal(counters.in_flight, 0);
	mem_backing_destroy(bed->mb);
}

static int put(struct bed *bed, uint64_t blk, uint32_t block_nr, uint8_t value)
{
	uint8_t buf[16 * BLOCK];

	assert_true(block_nr <= 16);
	memset(buf, value, sizeof(buf));
	return pc_backing_write(bed->backing, buf, blk * BLOCK, (uint64_t)block_nr * BLOCK);
}

static bool block_is(const uint8_t *image, uint64_t blk, uint8_t value)
{
	for (uint32_t i = 0; i < BLOCK; i++) {
		if (image[blk * BLOCK + i] != value)
			return false;
	}
	return true;
}

static bool keep_by_mask(void *user, uint32_t idx)
{
	const uint64_t *mask = user;

	return (*mask >> idx & 1) != 0;
}

static void test_bad_sizes(void **state)
{
	struct mem_backing_options options = { .size_bytes = 0 };

	(void)state;
	assert_null(mem_backing_create(&options));
	options.size_bytes = 513;
	assert_null(mem_backing_create(&options));
	mem_backing_destroy(NULL);
}

/* Every subset of four block writes, two of them to one block: the last one kept wins, what is not kept is lost. */
static void test_power_cut_subsets(void **state)
{
	static uint8_t image[SIZE_BYTES];
	struct bed bed = make(NULL);

	(void)state;
	assert_int_equal(put(&bed, 0, 1, 1), 0);
	assert_int_equal(pc_backing_flush(bed.backing), 0);
	assert_int_equal(mem_backing_pending_nr(bed.mb), 0);
	assert_int_equal(put(&bed, 0, 2, 2), 0); /* 0: block 0, 1: block 1 */
	assert_int_equal(put(&bed, 0, 1, 3), 0); /* 2: block 0 */
	assert_int_equal(put(&bed, 5, 1, 4), 0); /* 3: block 5 */
	assert_int_equal(mem_backing_pending_nr(bed.mb), 4);
	for (uint64_t mask = 0; mask < 16; mask++) {
		uint8_t first = (uint8_t)((mask & 4) != 0 ? 3 : (mask & 1) != 0 ? 2 : 1);

		mem_backing_crash_image(bed.mb, keep_by_mask, &mask, image);
		assert_true(block_is(image, 0, first));
		assert_true(block_is(image, 1, (mask & 2) != 0 ? 2 : 0));
		assert_true(block_is(image, 5, (mask & 8) != 0 ? 4 : 0));
		assert_true(block_is(image, 2, 0));
	}
	assert_true(block_is(mem_backing_live(bed.mb), 0, 3));
	assert_true(block_is(mem_backing_durable(bed.mb), 0, 1));
	unmake(&bed);
}

static void test_power_cut(void **state)
{
	struct bed bed = make(NULL);
	uint8_t buf[BLOCK];
	uint64_t mask = 2;

	(void)state;
	assert_int_equal(put(&bed, 0, 3, 9), 0);
	mem_backing_crash(bed.mb, keep_by_mask, &mask);
	assert_int_equal(mem_backing_pending_nr(bed.mb), 0);
	assert_int_equal(pc_backing_read(bed.backing, buf, 0, BLOCK), 0);
	assert_int_equal(buf[0], 0);
	assert_int_equal(pc_backing_read(bed.backing, buf, BLOCK, BLOCK), 0);
	assert_int_equal(buf[0], 9);
	assert_int_equal(put(&bed, 4, 1, 8), 0);
	mem_backing_crash(bed.mb, NULL, NULL);
	assert_true(block_is(mem_backing_live(bed.mb), 4, 0));
	assert_true(block_is(mem_backing_live(bed.mb), 1, 9));
	unmake(&bed);
}

static void test_pending_list(void **state)
{
	struct bed bed = make(NULL);
	struct mem_backing_pending pending[3];

	(void)state;
	assert_int_equal(put(&bed, 7, 2, 1), 0);
	assert_int_equal(pc_backing_zero(bed.backing, 3 * BLOCK, BLOCK, false), 0);
	assert_int_equal(mem_backing_pending_nr(bed.mb), 3);
	for (uint32_t i = 0; i < 3; i++)
		mem_backing_get_pending(bed.mb, i, &pending[i]);
	assert_int_equal(pending[0].off, 7 * BLOCK);
	assert_int_equal(pending[1].off, 8 * BLOCK);
	assert_int_equal(pending[2].off, 3 * BLOCK);
	assert_int_equal(pending[0].seq, pending[1].seq);
	assert_true(pending[2].seq > pending[1].seq);
	assert_int_equal(pending[1].data[BLOCK - 1], 1);
	assert_int_equal(pending[2].data[0], 0);
	unmake(&bed);
}

/* More than the first room of the list. */
static void test_many_pending(void **state)
{
	struct mem_backing_options options = { .size_bytes = 4u << 20 };
	struct bed bed = make(&options);

	(void)state;
	assert_int_equal(pc_backing_zero(bed.backing, 0, options.size_bytes, false), 0);
	for (uint64_t blk = 0; blk < 8192; blk += 16)
		assert_int_equal(put(&bed, blk, 16, (uint8_t)(blk / 16)), 0);
	assert_int_equal(mem_backing_pending_nr(bed.mb), 2 * 8192);
	assert_int_equal(pc_backing_flush(bed.backing), 0);
	assert_int_equal(mem_backing_pending_nr(bed.mb), 0);
	assert_memory_equal(mem_backing_live(bed.mb), mem_backing_durable(bed.mb), options.size_bytes);
	assert_true(block_is(mem_backing_durable(bed.mb), 8191, 255));
	unmake(&bed);
}

static void test_write_through(void **state)
{
	struct mem_backing_options options = { .size_bytes = SIZE_BYTES, .write_through = true };
	struct bed bed = make(&options);

	(void)state;
	assert_null(bed.backing->ops.flush);
	assert_int_equal(put(&bed, 3, 2, 6), 0);
	assert_int_equal(mem_backing_pending_nr(bed.mb), 0);
	assert_true(block_is(mem_backing_durable(bed.mb), 4, 6));
	unmake(&bed);
}

static void test_fault_modes(void **state)
{
	struct bed bed = make(NULL);

	(void)state;
	assert_true(mem_backing_fail(bed.mb, MEM_BACKING_WRITE, 2, EIO, MEM_BACKING_ONCE));
	assert_int_equal(put(&bed, 0, 1, 1), 0);
	assert_int_equal(put(&bed, 1, 1, 1), -EIO);
	assert_int_equal(put(&bed, 1, 1, 2), 0);
	assert_true(block_is(mem_backing_live(bed.mb), 1, 2));

	assert_true(mem_backing_fail(bed.mb, MEM_BACKING_WRITE, 1, ENOSPC, MEM_BACKING_UNTIL_FLUSH));
	assert_int_equal(put(&bed, 2, 1, 1), -ENOSPC);
	assert_int_equal(put(&bed, 2, 1, 1), -ENOSPC);
	assert_int_equal(pc_backing_flush(bed.backing), 0);
	assert_int_equal(put(&bed, 2, 1, 1), 0);
	/* A flush before it struck does not end it. */
	assert_true(mem_backing_fail(bed.mb, MEM_BACKING_WRITE, 2, ENOSPC, MEM_BACKING_UNTIL_FLUSH));
	assert_int_equal(pc_backing_flush(bed.backing), 0);
	assert_int_equal(put(&bed, 2, 1, 1), 0);
	assert_int_equal(put(&bed, 2, 1, 1), -ENOSPC);
	assert_int_equal(pc_backing_flush(bed.backing), 0);

	assert_true(mem_backing_fail(bed.mb, MEM_BACKING_READ, 1, ETIMEDOUT, MEM_BACKING_FOREVER));
	for (int i = 0; i < 5; i++) {
		uint8_t buf[BLOCK];

		assert_int_equal(pc_backing_read(bed.backing, buf, 0, BLOCK), -ETIMEDOUT);
		assert_int_equal(put(&bed, 0, 1, 1), 0);
	}
	mem_backing_clear_faults(bed.mb);
	assert_int_equal(put(&bed, 0, 1, 7), 0);
	unmake(&bed);
}

static void test_fault_of_a_range_and_a_part(void **state)
{
	struct bed bed = make(NULL);
	struct mem_backing_fault bad_sector = { .op = MEM_BACKING_WRITE,
						.mode = MEM_BACKING_FOREVER,
						.err = EIO,
						.applied_bytes = 2 * BLOCK + 100,
						.off = 10 * BLOCK,
						.len = BLOCK };

	(void)state;
	assert_true(mem_backing_add_fault(bed.mb, &bad_sector));
	assert_int_equal(put(&bed, 6, 4, 1), 0);
	assert_int_equal(put(&bed, 11, 1, 1), 0);
	assert_int_equal(put(&bed, 8, 4, 2), -EIO);
	assert_true(block_is(mem_backing_live(bed.mb), 8, 2));
	assert_true(block_is(mem_backing_live(bed.mb), 9, 2));
	assert_true(block_is(mem_backing_live(bed.mb), 10, 0));
	assert_true(block_is(mem_backing_live(bed.mb), 11, 1));
	for (int i = 1; i < 16; i++)
		assert_true(mem_backing_add_fault(bed.mb, &bad_sector));
	assert_false(mem_backing_add_fault(bed.mb, &bad_sector));
	unmake(&bed);
}

static void test_failed_flush(void **state)
{
	struct mem_backing_options options = { .size_bytes = SIZE_BYTES, .failed_flush_drops = true };
	struct bed bed = make(NULL);
	uint64_t all = UINT64_MAX;

	(void)state;
	/* A plain failure keeps everything pending, so the next one makes it durable. */
	assert_int_equal(put(&bed, 0, 1, 1), 0);
	assert_true(mem_backing_fail(bed.mb, MEM_BACKING_FLUSH, 1, EIO, MEM_BACKING_ONCE));
	assert_int_equal(pc_backing_flush(bed.backing), -EIO);
	assert_true(block_is(mem_backing_durable(bed.mb), 0, 0));
	assert_int_equal(pc_backing_flush(bed.backing), 0);
	assert_true(block_is(mem_backing_durable(bed.mb), 0, 1));
	unmake(&bed);

	/* A forgetful disk: the next flush says 0 about nothing, only writing again helps. */
	bed = make(&options);
	assert_int_equal(put(&bed, 0, 2, 1), 0);
	assert_true(mem_backing_fail(bed.mb, MEM_BACKING_FLUSH, 1, EIO, MEM_BACKING_ONCE));
	assert_int_equal(pc_backing_flush(bed.backing), -EIO);
	assert_int_equal(pc_backing_flush(bed.backing), 0);
	assert_true(block_is(mem_backing_live(bed.mb), 0, 1));
	assert_true(block_is(mem_backing_durable(bed.mb), 0, 0));
	assert_int_equal(mem_backing_pending_nr(bed.mb), 2);
	assert_int_equal(put(&bed, 0, 1, 3), 0);
	assert_int_equal(pc_backing_flush(bed.backing), 0);
	assert_true(block_is(mem_backing_durable(bed.mb), 0, 3));
	assert_int_equal(mem_backing_pending_nr(bed.mb), 1); /* the old block 0 cannot come back, block 1 may */
	mem_backing_crash(bed.mb, keep_by_mask, &all);
	assert_true(block_is(mem_backing_live(bed.mb), 0, 3));
	assert_true(block_is(mem_backing_live(bed.mb), 1, 1));
	unmake(&bed);
}

static void test_lying_flush(void **state)
{
	struct bed bed = make(NULL);

	(void)state;
	mem_backing_set_flush_lies(bed.mb, true);
	assert_int_equal(put(&bed, 0, 1, 1), 0);
	assert_int_equal(pc_backing_flush(bed.backing), 0);
	assert_true(block_is(mem_backing_durable(bed.mb), 0, 0));
	mem_backing_set_flush_lies(bed.mb, false);
	assert_int_equal(pc_backing_flush(bed.backing), 0);
	assert_true(block_is(mem_backing_durable(bed.mb), 0, 1));
	unmake(&bed);
}

static void test_violations_are_caught(void **state)
{
	struct mem_backing_options options = { .size_bytes = SIZE_BYTES,
					       .block_bytes = 4096,
					       .max_transfer_bytes = 8192 };
	struct bed bed = make(&options);
	struct mem_backing_counters counters;
	static uint8_t buf[16384];
	const struct pcache_backing_ops *ops = &bed.backing->ops;

	(void)state;
	assert_int_equal(ops->write(bed.mb, buf, 512, 4096), -EINVAL);
	assert_int_equal(ops->write(bed.mb, buf, 0, 512), -EINVAL);
	assert_int_equal(ops->read(bed.mb, buf, 0, 0), -EINVAL);
	assert_int_equal(ops->read(bed.mb, buf, 0, 12288), -EINVAL);
	assert_int_equal(ops->read(bed.mb, buf, SIZE_BYTES - 4096, 8192), -EINVAL);
	assert_int_equal(ops->discard(bed.mb, SIZE_BYTES, 4096), -EINVAL);
	assert_int_equal(ops->write_zeroes(bed.mb, UINT64_MAX - 4095, 4096), -EINVAL);
	mem_backing_get_counters(bed.mb, &counters);
	assert_int_equal(counters.violations, 7);
	assert_int_equal(counters.errors[MEM_BACKING_READ], 3);
	assert_int_equal(counters.bytes[MEM_BACKING_WRITE], 0);
	assert_int_equal(pc_backing_write(bed.backing, buf, 0, sizeof(buf)), 0);
	assert_int_equal(pc_backing_read(bed.backing, buf, 0, sizeof(buf)), 0);
	mem_backing_get_counters(bed.mb, &counters);
	assert_int_equal(counters.violations, 7);
	assert_int_equal(counters.calls[MEM_BACKING_WRITE], 4);
	assert_int_equal(counters.bytes[MEM_BACKING_WRITE], sizeof(buf));
	assert_int_equal(counters.bytes[MEM_BACKING_READ], sizeof(buf));
	unmake(&bed);
}

struct watcher {
	struct mem_backing *mb;
	uint32_t nr;
	enum mem_backing_op op;
	uint64_t off;
	uint64_t len;
	uint8_t first_byte;
	uint8_t live_before;
	uint32_t pending_before;
	int answer;
};

static int watch(void *user, enum mem_backing_op op, uint64_t off, uint64_t len, const void *buf)
{
	struct watcher *watcher = user;

	watcher->nr++;
	watcher->op = op;
	watcher->off = off;
	watcher->len = len;
	watcher->first_byte = buf != NULL ? *(const uint8_t *)buf : 0xee;
	watcher->live_before = mem_backing_live(watcher->mb)[off];
	watcher->pending_before = mem_backing_pending_nr(watcher->mb);
	return watcher->answer;
}

static void test_observer_comes_first(void **state)
{
	struct bed bed = make(NULL);
	struct watcher watcher = { .mb = bed.mb };

	(void)state;
	mem_backing_observe(bed.mb, watch, &watcher);
	assert_int_equal(put(&bed, 2, 1, 5), 0);
	assert_int_equal(watcher.op, MEM_BACKING_WRITE);
	assert_int_equal(watcher.off, 2 * BLOCK);
	assert_int_equal(watcher.len, BLOCK);
	assert_int_equal(watcher.first_byte, 5);
	assert_int_equal(watcher.live_before, 0);
	assert_int_equal(watcher.pending_before, 0);
	assert_int_equal(pc_backing_flush(bed.backing), 0);
	assert_int_equal(watcher.op, MEM_BACKING_FLUSH);
	assert_int_equal(watcher.pending_before, 1);
	assert_int_equal(watcher.first_byte, 0xee);
	watcher.answer = -ECANCELED;
	assert_int_equal(put(&bed, 2, 1, 6), -ECANCELED);
	assert_true(block_is(mem_backing_live(bed.mb), 2, 5));
	assert_int_equal(watcher.nr, 3);
	mem_backing_observe(bed.mb, NULL, NULL);
	assert_int_equal(put(&bed, 2, 1, 6), 0);
	assert_int_equal(watcher.nr, 3);
	unmake(&bed);
}

static void test_clone_and_load(void **state)
{
	struct bed bed = make(NULL);
	struct mem_backing *copy;
	static uint8_t image[SIZE_BYTES];
	uint64_t mask = 1;

	(void)state;
	assert_int_equal(put(&bed, 0, 1, 1), 0);
	assert_int_equal(pc_backing_flush(bed.backing), 0);
	assert_int_equal(put(&bed, 1, 2, 2), 0);
	copy = mem_backing_clone(bed.mb);
	assert_non_null(copy);
	assert_int_equal(put(&bed, 0, 4, 9), 0);
	assert_int_equal(mem_backing_pending_nr(copy), 2);
	mem_backing_crash(copy, keep_by_mask, &mask);
	assert_true(block_is(mem_backing_live(copy), 0, 1));
	assert_true(block_is(mem_backing_live(copy), 1, 2));
	assert_true(block_is(mem_backing_live(copy), 2, 0));
	mem_backing_destroy(copy);

	memset(image, 0x33, sizeof(image));
	mem_backing_load(bed.mb, image);
	assert_int_equal(mem_backing_pending_nr(bed.mb), 0);
	assert_memory_equal(mem_backing_live(bed.mb), image, SIZE_BYTES);
	assert_memory_equal(mem_backing_durable(bed.mb), image, SIZE_BYTES);
	mem_backing_load(bed.mb, NULL);
	assert_true(block_is(mem_backing_live(bed.mb), 127, 0));
	unmake(&bed);
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void test_delay_and_rate(void **state)
{
	struct bed bed = make(NULL);
	uint64_t start_ms = now_ms();

	(void)state;
	mem_backing_set_delay(bed.mb, MEM_BACKING_WRITE, 20000000);
	assert_int_equal(put(&bed, 0, 1, 1), 0);
	assert_true(now_ms() - start_ms >= 19);
	mem_backing_set_delay(bed.mb, MEM_BACKING_WRITE, 0);
	mem_backing_set_rate(bed.mb, 1u << 20);
	start_ms = now_ms();
	for (int i = 0; i < 4; i++)
		assert_int_equal(put(&bed, 0, 16, 1), 0); /* 32 KiB at 1 MiB/s: 31 ms */
	assert_true(now_ms() - start_ms >= 30);
	unmake(&bed);
}

struct thread_put {
	struct bed *bed;
	uint64_t blk;
	int result;
};

static void *thread_put(void *arg)
{
	struct thread_put *job = arg;

	job->result = put(job->bed, job->blk, 2, (uint8_t)(job->blk + 1));
	return NULL;
}

static void wait_in_flight(struct mem_backing *mb, uint32_t nr)
{
	static const struct timespec pause = { .tv_nsec = 1000000 };
	struct mem_backing_counters counters;

	do {
		(void)nanosleep(&pause, NULL);
		mem_backing_get_counters(mb, &counters);
	} while (counters.in_flight != nr);
}

/* Hanging writes run at once, overlap is counted, and a flush that began before they ended does not cover them. */
static void test_hang_overlap_and_flush(void **state)
{
	struct bed bed = make(NULL);
	struct thread_put jobs[3] = { { &bed, 0, 1 }, { &bed, 1, 1 }, { &bed, 8, 1 } };
	struct mem_backing_counters counters;
	pthread_t threads[3];

	(void)state;
	mem_backing_set_hang(bed.mb, MEM_BACKING_WRITE, true);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, thread_put, &jobs[i]), 0);
		wait_in_flight(bed.mb, i + 1);
	}
	assert_int_equal(pc_backing_flush(bed.backing), 0);
	assert_true(block_is(mem_backing_live(bed.mb), 0, 0));
	mem_backing_set_hang(bed.mb, MEM_BACKING_WRITE, false);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(jobs[i].result, 0);
	}
	mem_backing_get_counters(bed.mb, &counters);
	assert_int_equal(counters.overlapping_writes, 1);
	assert_int_equal(counters.in_flight_max, 4);
	assert_int_equal(mem_backing_pending_nr(bed.mb), 6);
	unmake(&bed);
}

struct thread_flush {
	struct bed *bed;
	int result;
};

static void *thread_flush(void *arg)
{
	struct thread_flush *job = arg;

	job->result = pc_backing_flush(job->bed->backing);
	return NULL;
}

/* A write that returns while a flush runs is not covered by it. */
static void test_flush_covers_what_returned_before(void **state)
{
	struct bed bed = make(NULL);
	struct thread_flush job = { &bed, 1 };
	pthread_t thread;

	(void)state;
	assert_int_equal(put(&bed, 0, 1, 1), 0);
	mem_backing_set_hang(bed.mb, MEM_BACKING_FLUSH, true);
	assert_int_equal(pthread_create(&thread, NULL, thread_flush, &job), 0);
	wait_in_flight(bed.mb, 1);
	assert_int_equal(put(&bed, 1, 1, 2), 0);
	mem_backing_set_hang(bed.mb, MEM_BACKING_FLUSH, false);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(job.result, 0);
	assert_true(block_is(mem_backing_durable(bed.mb), 0, 1));
	assert_true(block_is(mem_backing_durable(bed.mb), 1, 0));
	assert_int_equal(mem_backing_pending_nr(bed.mb), 1);
	unmake(&bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_sizes),
		cmocka_unit_test(test_power_cut_subsets),
		cmocka_unit_test(test_power_cut),
		cmocka_unit_test(test_pending_list),
		cmocka_unit_test(test_many_pending),
		cmocka_unit_test(test_write_through),
		cmocka_unit_test(test_fault_modes),
		cmocka_unit_test(test_fault_of_a_range_and_a_part),
		cmocka_unit_test(test_failed_flush),
		cmocka_unit_test(test_lying_flush),
		cmocka_unit_test(test_violations_are_caught),
		cmocka_unit_test(test_observer_comes_first),
		cmocka_unit_test(test_clone_and_load),
		cmocka_unit_test(test_delay_and_rate),
		cmocka_unit_test(test_hang_overlap_and_flush),
		cmocka_unit_test(test_flush_covers_what_returned_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
