/* SPDX-License-Identifier: BSD-3-Clause */
/* Close with a policy: what each does to dirty data, what leaves the cache open, and that nothing is lost on the way. */
#include <errno.h>

#include "core/rig.h"

static int close_with(struct rig *rig, uint32_t policy)
{
	int closed = 7, rc = pcache_close_with(rig->cache, policy, NULL, NULL, &closed);

	assert_true(closed == 0 || closed == 1);
	if (closed)
		rig->cache = NULL;
	return rc;
}

static void up_dirty(struct rig *rig)
{
	rig_zero(rig);
	rig_up(rig);
	rig_write(rig, 4096, 8192, 0);
	rig_zeroes(rig, 32768, 4096, true);
}

static void keep(void **state)
{
	struct rig rig;

	(void)state;
	up_dirty(&rig);
	assert_int_equal(close_with(&rig, PCACHE_CLOSE_KEEP), 0);
	assert_null(rig.cache);
	rig_power_cut(&rig);
	rig_open(&rig);
	assert_int_equal(rig_info(&rig).dirty_bytes, 8192 + 4096);
	rig_check_all(&rig);
	assert_int_equal(pcache_close_with(rig.cache, PCACHE_CLOSE_KEEP, NULL, NULL, NULL), 0);
	rig.cache = NULL;
	rig_down(&rig);
}

static int stop(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
	(void)user, (void)done_bytes, (void)total_bytes;
	return 1;
}

static void drain(void **state)
{
	struct rig rig;
	int closed = 7;

	(void)state;
	up_dirty(&rig);
	mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 1, EIO, MEM_BACKING_FOREVER);
	assert_int_equal(close_with(&rig, PCACHE_CLOSE_DRAIN), -EIO);
	assert_non_null(rig.cache);
	mem_backing_clear_faults(rig.mb);
	assert_int_equal(pcache_close_with(rig.cache, PCACHE_CLOSE_DRAIN, stop, NULL, &closed), -ECANCELED);
	assert_int_equal(closed, 0);
	rig_check_all(&rig);
	assert_int_equal(close_with(&rig, PCACHE_CLOSE_DRAIN), 0);
	assert_null(rig.cache);
	assert_memory_equal(mem_backing_durable(rig.mb), rig.model, rig.o.backing_bytes);
	rig_open(&rig);
	assert_int_equal(rig_info(&rig).dirty_bytes, 0);
	rig_down(&rig);
}

static void clean(void **state)
{
	struct rig rig;

	(void)state;
	/* Data alone, zeroes alone, then neither. */
	for (int what = 0; what < 3; what++) {
		rig_zero(&rig);
		rig_up(&rig);
		if (what == 0)
			rig_write(&rig, 4096, 512, 0);
		if (what == 1)
			rig_zeroes(&rig, 4096, 512, false);
		assert_int_equal(close_with(&rig, PCACHE_CLOSE_CLEAN), what < 2 ? PCACHE_E_DIRTY : 0);
		assert_int_equal(rig.cache == NULL, what == 2);
		if (rig.cache) {
			rig_check_all(&rig);
			rig_drain(&rig);
			assert_int_equal(close_with(&rig, PCACHE_CLOSE_CLEAN), 0);
			assert_null(rig.cache);
		}
		rig_down(&rig);
	}
}

/* Lost blocks are no dirty data, and no clean end either. */
static void poison(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 4096, 4096, 0);
	rig_flip(&rig, rig_find(&rig, 4096));
	assert_int_equal(close_with(&rig, PCACHE_CLOSE_DRAIN), PCACHE_E_POISONED);
	assert_non_null(rig.cache);
	assert_int_equal(close_with(&rig, PCACHE_CLOSE_CLEAN), PCACHE_E_POISONED);
	assert_non_null(rig.cache);
	rig_write(&rig, 4096, 4096, 0);
	assert_int_equal(close_with(&rig, PCACHE_CLOSE_DRAIN), 0);
	assert_null(rig.cache);
	rig_down(&rig);
}

static void read_only(void **state)
{
	struct rig rig;

	(void)state;
	for (int dirty = 0; dirty <= 1; dirty++) {
		rig_zero(&rig);
		rig_up(&rig);
		if (dirty)
			rig_write(&rig, 4096, 4096, 0);
		rig_close(&rig);
		rig.o.read_only = true;
		rig_open(&rig);
		for (uint32_t policy = PCACHE_CLOSE_DRAIN; dirty && policy <= PCACHE_CLOSE_CLEAN; policy++) {
			assert_int_equal(close_with(&rig, policy), PCACHE_E_DIRTY);
			assert_non_null(rig.cache);
		}
		assert_int_equal(close_with(&rig, dirty ? PCACHE_CLOSE_KEEP : PCACHE_CLOSE_DRAIN), 0);
		assert_null(rig.cache);
		rig_down(&rig);
	}
}

static void bad_arguments(void **state)
{
	struct rig rig;
	int closed = 7;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	assert_int_equal(pcache_close_with(NULL, PCACHE_CLOSE_KEEP, NULL, NULL, &closed), -EINVAL);
	assert_int_equal(closed, 0);
	assert_int_equal(pcache_close_with(rig.cache, 3, NULL, NULL, &closed), -EINVAL);
	assert_int_equal(pcache_close_with(rig.cache, PCACHE_CLOSE_DRAIN, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(pcache_close_with(rig.cache, PCACHE_CLOSE_CLEAN, NULL, NULL, NULL), -EINVAL);
	rig_check_all(&rig);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keep),   cmocka_unit_test(drain),     cmocka_unit_test(clean),
		cmocka_unit_test(poison), cmocka_unit_test(read_only), cmocka_unit_test(bad_arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
