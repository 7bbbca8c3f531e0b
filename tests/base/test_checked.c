/* SPDX-License-Identifier: BSD-3-Clause */
/* Checked arithmetic at its edges. */
#include "base/checked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void sums_and_products_that_wrap_are_refused(void **state)
{
	uint64_t out = 42;

	(void)state;
	assert_false(pc_add_u64(UINT64_MAX, 1, &out));
	assert_int_equal(out, 42);
	assert_true(pc_add_u64(UINT64_MAX - 1, 1, &out));
	assert_true(out == UINT64_MAX);
	out = 42;
	assert_false(pc_mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 32, &out));
	assert_int_equal(out, 42);
	assert_true(pc_mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 31, &out));
	assert_true(out == UINT64_C(1) << 63);
}

static void ranges(void **state)
{
	(void)state;
	assert_true(pc_range_inside(0, 0, 0));
	assert_true(pc_range_inside(4, 4, 8));
	assert_false(pc_range_inside(4, 5, 8));
	assert_false(pc_range_inside(9, 0, 8));
	assert_false(pc_range_inside(8, UINT64_MAX, 8));
	assert_false(pc_range_inside(UINT64_MAX, 2, UINT64_MAX));
}

static void powers_of_two(void **state)
{
	(void)state;
	assert_false(pc_is_pow2(0));
	assert_true(pc_is_pow2(1));
	assert_false(pc_is_pow2(3));
	assert_true(pc_is_pow2(UINT64_C(1) << 63));
	assert_false(pc_is_pow2(UINT64_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_and_products_that_wrap_are_refused),
		cmocka_unit_test(ranges),
		cmocka_unit_test(powers_of_two),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
