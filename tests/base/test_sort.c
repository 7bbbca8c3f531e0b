/* SPDX-License-Identifier: BSD-3-Clause */
/* Short lists of words in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/sort.h"

#define BEYOND UINT64_C(0x5a5a5a5a5a5a5a5a)

/* Sorted, the same words as often, and nothing beyond them changed. */
static void check_sorted(const uint64_t *was, uint32_t nr)
{
	uint64_t words[PC_SORT_SHORT_NR + 1];

	memcpy(words, was, nr * sizeof(*words));
	words[nr] = BEYOND;
	pc_sort_short(words, nr);
	assert_int_equal(words[nr], BEYOND);
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t had = 0, has = 0;

		for (uint32_t j = 0; j < nr; j++) {
			had += was[j] == was[i];
			has += words[j] == was[i];
		}
		assert_int_equal(has, had);
		assert_true(i == 0 || words[i - 1] <= words[i]);
	}
}

/* All lists of up to five words out of five, so all orders and all repetitions. */
static void test_all_short_lists(void **state)
{
	static const uint64_t values[] = { 0, 1, UINT64_C(1) << 32, INT64_MAX, UINT64_MAX };
	uint64_t words[5];
	uint32_t lists = 1;

	(void)state;
	for (uint32_t nr = 0; nr <= 5; nr++, lists *= 5) {
		for (uint32_t list = 0; list < lists; list++) {
			uint32_t rest = list;

			for (uint32_t i = 0; i < nr; i++, rest /= 5)
				words[i] = values[rest % 5];
			check_sorted(words, nr);
		}
	}
}

static void test_longest(void **state)
{
	uint64_t words[PC_SORT_SHORT_NR];

	(void)state;
	for (uint32_t factor = 1; factor < 97; factor++) {
		for (uint32_t i = 0; i < PC_SORT_SHORT_NR; i++)
			words[i] = (uint64_t)(PC_SORT_SHORT_NR - i) * factor % 97;
		check_sorted(words, PC_SORT_SHORT_NR);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_short_lists),
		cmocka_unit_test(test_longest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
