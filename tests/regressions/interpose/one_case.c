/* SPDX-License-Identifier: BSD-3-Clause */
/* Linked into programs of cmocka tests: PCACHE_TEST_CASE in the environment names the only test that is run. Whoever sets it looks for the OK of that test, as cmocka is content with none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void __attribute__((constructor)) choose(void)
{
	const char *name = getenv("PCACHE_TEST_CASE");

	if (name)
		cmocka_set_test_filter(name);
}
