/* SPDX-License-Identifier: BSD-3-Clause */
/* What tests of explore() expect of it. Included behind cmocka.h. */
#ifndef PC_TESTS_EXPLORE_EXPECT_H
#define PC_TESTS_EXPLORE_EXPECT_H

#include "explore/explore.h"

/* No schedule is wrong, and there were many. */
static inline void expect_right(struct explore_result result)
{
	print_message("%llu schedules, %llu steps\n", (unsigned long long)result.schedule_nr,
		      (unsigned long long)result.step_nr);
	if (result.wrong)
		fail_msg("%s: %s", result.wrong, result.schedule);
	assert_true(result.schedule_nr > 100);
}

/* Some schedule is wrong; what: why, or NULL. */
static inline void expect_wrong(struct explore_result result, const char *what)
{
	assert_non_null(result.wrong);
	if (what)
		assert_string_equal(result.wrong, what);
}

#endif
