/* SPDX-License-Identifier: BSD-3-Clause */
/* The load of async_load.h over a backing that is slow and fails. At the end all writes are there, in the cache and on the backing. */
#include <errno.h>
#include <stdatomic.h>

#include "system/async_load.h"

/* Each 50th read fails, each 5000th write, since write-back then pauses. */
static int trouble(void *user, enum mem_backing_op op, uint64_t off, uint64_t len, const void *buf)
{
	static _Atomic uint32_t read_nr, write_nr;

	(void)user;
	(void)off;
	(void)len;
	(void)buf;
	if (op == MEM_BACKING_READ && atomic_fetch_add(&read_nr, 1) % 50 == 49)
		return -EIO;
	return op == MEM_BACKING_WRITE && atomic_fetch_add(&write_nr, 1) % 5000 == 4999 ? -EIO : 0;
}

static void load(void **state)
{
	struct async_load_sums sums;
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig.o.threads = true;
	rig.o.sim_flags = PC_SIM_THREADED;
	rig.o.segment_bytes = 64 << 10;
	rig.o.segment_nr = 48;
	rig.o.backing_bytes = ASYNC_LOAD_BYTES;
	rig_up(&rig);
	rig_pattern(&rig, rig.model, rig.o.backing_bytes);
	mem_backing_load(rig.mb, rig.model);
	mem_backing_observe(rig.mb, trouble, NULL);
	mem_backing_set_delay(rig.mb, MEM_BACKING_READ, 300000);
	mem_backing_set_delay(rig.mb, MEM_BACKING_WRITE, 100000);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_WRITEBACK_DELAY_MS, 0), 0);
	sums = async_load_run(&rig, async_load_seconds());
	assert_true(sums.done_nr > 1000 && sums.error_nr > 0 && sums.given_up_nr > 0);
	mem_backing_observe(rig.mb, NULL, NULL);
	mem_backing_set_delay(rig.mb, MEM_BACKING_READ, 0);
	mem_backing_set_delay(rig.mb, MEM_BACKING_WRITE, 0);
	rig_drain(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(load) };

	return cmocka_run_group_tests_name("system_async_load", tests, NULL, NULL);
}
