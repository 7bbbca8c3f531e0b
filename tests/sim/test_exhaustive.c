/* SPDX-License-Identifier: BSD-3-Clause */
/* The enumeration of short sequences is complete: as many as the formula says, none twice, and those among them that a person would write down. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/exhaustive.h"
#include "sim/kept_text.h"

static struct pc_crash_plan plan;

static void counts_agree(void **state)
{
	(void)state;
	for (uint32_t len = 1; len <= PC_EXHAUSTIVE_LEN_MAX; len++) {
		struct pc_exhaustive e;
		uint64_t count = 0;

		pc_exhaustive_begin(&e, len);
		while (pc_exhaustive_next(&e))
			count++;
		assert_int_equal(count, pc_exhaustive_count(len));
	}
	/*
	 * Once by hand: 24 caches, half of them with 5 kinds that have a range (37 operations in all), half with 6 (43). Over what is clean, dirty or aged any operation;
	 * over nothing one of 7 without a range, or each kind in one way.
	 */
	assert_int_equal(pc_exhaustive_count(1), 12 * (3 * 37 + 7 + 5) + 12 * (3 * 43 + 7 + 6));
}

/* Passing over what begins with the same operations loses nothing and counts right. */
static void skips_are_counted(void **state)
{
	struct pc_rng rng = {3};

	(void)state;
	for (uint32_t round = 0; round < 5; round++) {
		struct pc_exhaustive e;
		uint64_t count = 0;

		pc_exhaustive_begin(&e, 3);
		while (pc_exhaustive_next(&e)) {
			count++;
			if (pc_rng_chance(&rng, 30))
				count += pc_exhaustive_skip(&e, pc_rng_below(&rng, 3));
		}
		assert_int_equal(count, pc_exhaustive_count(3));
	}
}

/* The shape and the operations as text, without the set-up if it is left out. */
static char *text_of(const struct pc_exhaustive *e)
{
	struct pc_kept *kept = calloc(1, sizeof(*kept));
	char *text;

	assert_non_null(kept);
	pc_exhaustive_plan(e, &kept->plan);
	text = pc_kept_to_text(kept);
	assert_non_null(text);
	free(kept);
	return text;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void none_is_there_twice(void **state)
{
	const uint64_t count = pc_exhaustive_count(1);
	char **texts = calloc(count, sizeof(*texts));
	struct pc_exhaustive e;
	uint64_t nr = 0;

	(void)state;
	assert_non_null(texts);
	pc_exhaustive_begin(&e, 1);
	while (pc_exhaustive_next(&e))
		texts[nr++] = text_of(&e);
	qsort(texts, nr, sizeof(*texts), by_text);
	for (uint64_t i = 1; i < nr; i++)
		assert_string_not_equal(texts[i - 1], texts[i]);
	for (uint64_t i = 0; i < nr; i++)
		free(texts[i]);
	free(texts);
}

static void all_of_them_fit(void **state)
{
	struct pc_exhaustive e;

	(void)state;
	for (uint32_t len = 1; len <= 2; len++) {
		pc_exhaustive_begin(&e, len);
		while (pc_exhaustive_next(&e)) {
			char error[128] = "";

			pc_exhaustive_plan(&e, &plan);
			if (!pc_kept_plan_fits(&plan, error, sizeof(error)))
				fail_msg("%s", error);
			assert_int_equal(plan.op_nr - plan.shape.warm_nr, len);
		}
	}
}

struct wanted {
	const char *cache; /* parts of the text */
	const char *ops; /* its end */
	uint32_t len;
};

/* Sequences as a person would write them down. */
static const struct wanted wanted[] = {
	{" page=0 byte=0 commit_flush=0 order_batch=0 crc=1 ", " ops=write:8+4,discard:10+4", 1}, /* a discard over the tail of what is dirty */
	{" page=1 byte=0 commit_flush=1 order_batch=0 crc=1 ", " ops=write:8+4,flush,write:8+4", 2}, /* a new epoch over the old one */
	{" page=0 byte=1 commit_flush=0 order_batch=1 crc=0 ", " ops=write:8+4,write:9+2,reopen", 2},
	{" page=0 byte=0 commit_flush=1 order_batch=0 crc=1 ", " ops=write:8+4,drain,durable:7+6,writeback@1", 2},
	{" page=0 byte=0 commit_flush=0 order_batch=0 crc=1 ", " ops=read:8+4,batch:8+4/23+1", 2}, /* a batch over what a read has filled */
	{" page=1 byte=0 commit_flush=1 order_batch=1 crc=1 ", " ops=write:8+4,drain,evict@1,write:8+4", 2},
	{" page=0 byte=0 commit_flush=0 order_batch=0 crc=1 ", " ops=write:8+4,write:16+4,flush,writeback@1", 3},
	{" page=0 byte=0 commit_flush=0 order_batch=0 crc=1 ", ",drain,batch:6+4/23+1,clean@1,reopen", 3}, /* aged */
	{" page=1 byte=0 commit_flush=0 order_batch=0 crc=0 ", ",drain,zeroes:9+2,writeback@1,clean@1", 3},
	{" page=0 byte=0 commit_flush=0 order_batch=0 crc=1 ", " ops=write:8+4,reopen@1,write:8+4", 2}, /* ordering changes between two versions */
};

static void known_ones_are_there(void **state)
{
	bool found[PC_ARRAY_NR(wanted)] = {false};

	(void)state;
	for (uint32_t len = 1; len <= 3; len++) {
		struct pc_exhaustive e;

		pc_exhaustive_begin(&e, len);
		while (pc_exhaustive_next(&e)) {
			char *text;

			if (len == 3 && (e.shape_idx & 3) != 0) /* the wanted ones are of strict caches with commit=write */
				continue;
			if (len == 3 && e.symbols[2] < 30)
				continue;
			text = text_of(&e);
			for (size_t i = 0; i < PC_ARRAY_NR(wanted); i++) {
				const size_t text_len = strlen(text);
				const size_t ops_len = strlen(wanted[i].ops);

				if (wanted[i].len == len && strstr(text, wanted[i].cache) != NULL && text_len > ops_len && strcmp(text + text_len - ops_len, wanted[i].ops) == 0)
					found[i] = true;
			}
			free(text);
		}
	}
	for (size_t i = 0; i < PC_ARRAY_NR(wanted); i++) {
		if (!found[i])
			fail_msg("not in the enumeration:%s...%s", wanted[i].cache, wanted[i].ops);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_agree), cmocka_unit_test(skips_are_counted),	cmocka_unit_test(none_is_there_twice),
		cmocka_unit_test(all_of_them_fit), cmocka_unit_test(known_ones_are_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
