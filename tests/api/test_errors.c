/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Texts and names of errors: complete, unique, apart from the errno values; and the version.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "pcache/pcache.h"

static const struct {
	const char *name;
	int value;
	const char *text;
	const char *cause;
} rows[] = {
#define ROW(name, value, text, cause) { #name, value, text, cause },
	PCACHE_ERROR_TABLE(ROW)
#undef ROW
};

#define ROW_NR (sizeof(rows) / sizeof(rows[0]))

static void test_own_codes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROW_NR; i++) {
		assert_true(rows[i].value < -4095);
		assert_string_equal(pcache_strerror(rows[i].value), rows[i].text);
		assert_string_equal(pcache_errname(rows[i].value), rows[i].name);
		assert_string_equal(pcache_errcause(rows[i].value), rows[i].cause);
		assert_true(strlen(rows[i].cause) > 20 && rows[i].cause[strlen(rows[i].cause) - 1] == '.');
		assert_int_equal(strncmp(rows[i].name, "PCACHE_E_", 9), 0);
		assert_non_null(strchr(rows[i].text, ';')); /* what happened; what to do next */
		for (size_t k = 0; k < i; k++) {
			assert_int_not_equal(rows[i].value, rows[k].value);
			assert_string_not_equal(rows[i].text, rows[k].text);
			assert_string_not_equal(rows[i].name, rows[k].name);
		}
	}
}

static void test_errno_values(void **state)
{
	(void)state;
	assert_string_equal(pcache_strerror(-EIO), strerror(EIO));
	assert_string_equal(pcache_strerror(-ENOSPC), strerror(ENOSPC));
	assert_string_equal(pcache_errname(-EIO), "EIO");
	assert_string_equal(pcache_errname(-EBUSY), "EBUSY");
	assert_string_equal(pcache_errname(-EPERM), "EPERM");
	for (int err = -1; err >= -133; err--) {
		if (err == -41 || err == -58)
			continue; /* Linux has no such errno */
		assert_non_null(pcache_errname(err));
		assert_string_not_equal(pcache_strerror(err), "unknown error");
	}
}

static void test_success(void **state)
{
	static const int values[] = { 0, 1, 5001, INT32_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		assert_string_equal(pcache_strerror(values[i]), "success");
		assert_null(pcache_errname(values[i]));
	}
}

static void test_unknown(void **state)
{
	static const int values[] = { -4000, -4095, -4096, -5000, -5999, INT32_MIN, INT32_MIN + 1 };

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		assert_string_equal(pcache_strerror(values[i]), "unknown error");
		assert_null(pcache_errname(values[i]));
	}
}

static void test_no_other_code_has_a_name(void **state)
{
	size_t named = 0;

	(void)state;
	for (int err = -4096; err >= -6000; err--) {
		named += pcache_errname(err) != NULL;
		assert_int_equal(pcache_errcause(err) != NULL, pcache_errname(err) != NULL);
	}
	assert_null(pcache_errcause(0));
	assert_null(pcache_errcause(-EIO));
	assert_int_equal(named, ROW_NR);
}

static void test_version(void **state)
{
	char expected[32];

	(void)state;
	(void)snprintf(expected, sizeof(expected), "%d.%d.%d", PCACHE_VERSION_MAJOR, PCACHE_VERSION_MINOR,
		       PCACHE_VERSION_PATCH);
	assert_string_equal(pcache_version(), expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_codes),
		cmocka_unit_test(test_errno_values),
		cmocka_unit_test(test_success),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_no_other_code_has_a_name),
		cmocka_unit_test(test_version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
