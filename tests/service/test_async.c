/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Write-back over a backing whose writes end late, out of order and with errors: what it holds is checked against an array after every drain, no two writes in
 * flight ever overlap, and none is in flight when the backing is flushed.
 */
#include <errno.h>
#include <string.h>

#include "backing/async_backing.h"
#include "core/rig.h"

static struct async_backing *async;
static struct async_options async_options;

static struct pcache_backing *attach(struct mem_backing *mb)
{
	struct pcache_backing *backing = NULL;
	struct pcache_backing_ops ops;

	if (!async)
		async = async_backing_create(mb, &async_options);
	assert_non_null(async);
	async_backing_get_ops(async, &ops);
	assert_int_equal(pcache_backing_new(&ops, async, &backing), 0);
	return backing;
}

static void up(struct rig *rig, const struct async_options *options, uint32_t ordering)
{
	async_options = *options;
	async = NULL;
	rig_zero(rig);
	rig->seed = options->seed;
	rig->o.attach = attach;
	rig->o.ordering = ordering;
	rig->o.segment_bytes = 64 << 10;
	rig->o.segment_nr = 128;
	rig->o.backing_bytes = 4 << 20;
	rig->o.threads = true;
	rig->o.sim_flags = PC_SIM_THREADED;
	rig_up(rig);
}

static void down(struct rig *rig)
{
	struct mem_backing_counters counters;
	struct async_counters seen;

	async_backing_get_counters(async, &seen);
	assert_true(seen.submit_nr > 0);
	assert_true(seen.disorder_nr > 0 || !async_options.gather_nr);
	mem_backing_get_counters(rig->mb, &counters);
	assert_int_equal(counters.overlapping_writes, 0);
	assert_int_equal(counters.violations, 0);
	rig_down(rig);
	async_backing_destroy(async);
}

static void some_writes(struct rig *rig, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t blk = rig_below(rig, 8000), len = 1 + rig_below(rig, 16);

		if (rig_below(rig, 10) == 0)
			rig_zeroes(rig, blk * 512, len * 512, rig_below(rig, 2));
		else
			rig_write(rig, blk * 512, len * 512, 0);
		if (rig_below(rig, 40) == 0)
			rig_flush(rig);
	}
}

static void late_and_out_of_order(void **state)
{
	(void)state;
	for (uint32_t ordering = 0; ordering < 2; ordering++) {
		struct async_options options = { .seed = 31 + ordering,
						 .pause_us_max = 30,
						 .busy_percent = 5,
						 .at_once_percent = 10,
						 .gather_nr = 2 };
		struct rig rig;

		up(&rig, &options, ordering);
		for (uint32_t round = 0; round < 4; round++) {
			some_writes(&rig, 1500);
			rig_drain(&rig);
			rig_check_all(&rig);
		}
		rig_close(&rig);
		rig_open(&rig);
		rig_check_all(&rig);
		down(&rig);
	}
}

/* Errors come and go: a drain that returned 0 is complete, one that failed has lost nothing. */
static void errors_come_and_go(void **state)
{
	(void)state;
	for (uint32_t ordering = 0; ordering < 2; ordering++) {
		struct async_options options = { .seed = 77 + ordering, .pause_us_max = 20, .refuse_percent = 1 };
		uint32_t failed_nr = 0;
		struct rig rig;

		up(&rig, &options, ordering);
		for (uint32_t round = 0; round < 4; round++) {
			int rc;

			mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 20 + 10 * round, EIO, MEM_BACKING_ONCE);
			mem_backing_fail(rig.mb, MEM_BACKING_FLUSH, 1, EIO, MEM_BACKING_ONCE);
			some_writes(&rig, 600);
			/* The workers may have met those two by themselves. This one nobody gets around: no drain is complete. */
			mem_backing_fail(rig.mb, MEM_BACKING_FLUSH, 1, EIO, MEM_BACKING_FOREVER);
			rig_write(&rig, 0, 512, 0);
			rc = pcache_drain(rig.cache, NULL, NULL);
			assert_int_equal(rc, -EIO);
			mem_backing_clear_faults(rig.mb);
			while ((rc = pcache_drain(rig.cache, NULL, NULL)) != 0) {
				assert_int_equal(rc, -EIO);
				assert_true(++failed_nr < 1000);
			}
			assert_memory_equal(mem_backing_durable(rig.mb), rig.model, rig.o.backing_bytes);
			rig_check_all(&rig);
		}
		assert_true(rig_info(&rig).backing_errors > 0);
		down(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(late_and_out_of_order),
		cmocka_unit_test(errors_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
