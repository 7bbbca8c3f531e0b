/* SPDX-License-Identifier: BSD-3-Clause */
/* The text form of plans and crash paths: what is written is read back the same, and what is wrong is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/kept_text.h"

#define SHAPE \
	"media=65536 segment=4096 block=512 backing=16 shards=1 stripe=4096 heads=1 kset_keys=0 gc=70 page=0 commit_flush=0 order_batch=0 crc=1 guard_fence=0 " \
	"read_cache=0 full_error=0 write_through=0 faults=0 old_cache=0 warm=0 mix=0"

static struct pc_kept kept[2];

static void draw_some(struct pc_rng *rng, struct pc_crash_some *some)
{
	uint8_t flags[200];
	const uint32_t bias = pc_rng_below(rng, 101);

	for (uint32_t i = 0; i < sizeof(flags); i++)
		flags[i] = pc_rng_chance(rng, bias);
	assert_true(pc_crash_some_set(some, flags, sizeof(flags)));
	for (uint32_t i = 0; i < sizeof(flags); i++)
		assert_int_equal(pc_crash_some_has(some, i), flags[i]);
}

static void draw_course(struct pc_rng *rng, struct pc_crash_course *course)
{
	static const char kinds[] = "frpdmx";

	course->event_nr = pc_rng_below(rng, 4);
	for (uint32_t i = 0; i < course->event_nr; i++)
		course->events[i] =
			(struct pc_crash_event){.kind = (uint8_t)kinds[pc_rng_below(rng, sizeof(kinds) - 1)], .step = pc_rng_below(rng, 30), .nr = 1 + pc_rng_below(rng, 30)};
}

static void draw_path(struct pc_rng *rng, struct pc_kept *to)
{
	struct pc_gen_memory memory = {0};

	draw_course(rng, &to->path.courses[0]);
	to->path.cut_nr = pc_rng_below(rng, PC_CRASH_DEPTH_MAX + 1);
	for (uint32_t i = 0; i < to->path.cut_nr; i++) {
		struct pc_crash_cut *cut = &to->path.cuts[i];
		struct pc_crash_course *course = &to->path.courses[i + 1];

		cut->step = pc_rng_below(rng, 100);
		cut->point = pc_rng_below(rng, 100);
		cut->killed = pc_rng_chance(rng, 20);
		draw_some(rng, &cut->words);
		draw_some(rng, &cut->disk);
		cut->bit_off = pc_rng_chance(rng, 30) ? 1 + pc_rng_below(rng, 10000) : 0;
		cut->bit = cut->bit_off != 0 ? pc_rng_below(rng, 8) : 0;
		draw_course(rng, course);
		course->op_nr = pc_rng_below(rng, 6);
		for (uint32_t j = 0; j < course->op_nr; j++)
			pc_gen_op(rng, &to->plan.shape, &memory, &course->ops[j]);
	}
}

/* Written, read, written again: the same text, which says everything. */
static void text_says_everything(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct pc_rng rng = {seed};
		char error[256] = "";
		char *text;
		char *again;

		memset(kept, 0, sizeof(kept));
		kept[0].seed = pc_rng_next(&rng);
		pc_gen_plan(seed, &kept[0].plan);
		draw_path(&rng, &kept[0]);
		text = pc_kept_to_text(&kept[0]);
		assert_non_null(text);
		if (!pc_kept_from_text(text, &kept[1], error, sizeof(error)))
			fail_msg("seed %u: %s\n%s", (unsigned int)seed, error, text);
		again = pc_kept_to_text(&kept[1]);
		assert_string_equal(text, again);
		assert_memory_equal(&kept[0].plan.shape, &kept[1].plan.shape, sizeof(kept[0].plan.shape));
		assert_int_equal(kept[0].plan.op_nr, kept[1].plan.op_nr);
		for (uint32_t i = 0; i < kept[0].plan.op_nr; i++) {
			const struct pc_gen_op *a = &kept[0].plan.ops[i];
			const struct pc_gen_op *b = &kept[1].plan.ops[i];

			assert_true(a->kind == b->kind && a->range_nr == b->range_nr && a->arg == b->arg);
			assert_memory_equal(a->ranges, b->ranges, sizeof(a->ranges));
		}
		assert_int_equal(kept[0].path.cut_nr, kept[1].path.cut_nr);
		free(text);
		free(again);
	}
}

static void mistakes_are_named(void **state)
{
	static const struct {
		const char *text;
		const char *error; /* begins so */
	} cases[] = {
		{"", "the text does not begin with v1"},
		{"v2 seed=1", "the text does not begin with v1"},
		{"v1", "media= is missing"},
		{"v1 " SHAPE " ops=-", "seed= is missing"},
		{"v1 seed=1 " SHAPE, "ops= is missing"},
		{"v1 seed=1 seed=2 " SHAPE " ops=-", "given twice"},
		{"v1 seed=1 " SHAPE " mix=0 ops=-", "given twice"},
		{"v1 seed=1 " SHAPE " ops=- size=3", "no such key"},
		{"v1  seed=1 " SHAPE " ops=-", "no such key"},
		{"v1 seed= " SHAPE " ops=-", "a number was expected"},
		{"v1 seed=-1 " SHAPE " ops=-", "a number was expected"},
		{"v1 seed=01 " SHAPE " ops=-", "a number with a zero in front"},
		{"v1 seed=18446744073709551616 " SHAPE " ops=-", "the number is above"},
		{"v1 seed=1x " SHAPE " ops=-", "the value should end here"},
		{"v1 seed=1 " SHAPE " ops=", "no such operation"},
		{"v1 seed=1 " SHAPE " ops=flush,", "no such operation"},
		{"v1 seed=1 " SHAPE " ops=flash", "no such operation"},
		{"v1 seed=1 " SHAPE " ops=write", "a range was expected"},
		{"v1 seed=1 " SHAPE " ops=write:1", "+ and a length were expected"},
		{"v1 seed=1 " SHAPE " ops=write:1+0", "an empty range"},
		{"v1 seed=1 " SHAPE " ops=write:1+1/2+1", "too many ranges"},
		{"v1 seed=1 " SHAPE " ops=write:15+2", "an operation reaches beyond the backing"},
		{"v1 seed=1 " SHAPE " ops=flush@", "a number was expected"},
		{"v1 seed=1 " SHAPE " old=flush ops=-", "old= without old_cache=1"},
		{"v1 seed=1 " SHAPE " ops=- events=z1.1", "an event is b, f, r, p, d, m or x"},
		{"v1 seed=1 " SHAPE " ops=- cut=1", "a dot and the crash point were expected"},
		{"v1 seed=1 " SHAPE " ops=- words=all", "no such key"},
		{"v1 seed=1 " SHAPE " ops=- cut=1.1 words=some", "all or none was expected"},
		{"v1 seed=1 " SHAPE " ops=- cut=1.1 words=all+1", "the value should end here"},
		{"v1 seed=1 " SHAPE " ops=- cut=1.1 words=all-3/2", "runs must ascend"},
		{"v1 seed=1 " SHAPE " ops=- cut=1.1 words=all-3..2", "runs must ascend"},
		{"v1 seed=1 " SHAPE " ops=- cut=1.1 words=all-3.4", "a run is FIRST or FIRST..LAST"},
		{"v1 seed=1 " SHAPE " ops=- cut=1.1 killed killed", "given twice"},
		{"v1 seed=1 " SHAPE " ops=- cut=1.1 bit=1.8", "the number is above 7"},
		{"v1 seed=1 " SHAPE " ops=- cut=1.1 ops=-", "no such key of a power cut"},
		{"v1 seed=1 " SHAPE " ops=- cut=1.1 cut=1.1 cut=1.1 cut=1.1 cut=1.1", "more than 4 power cuts"},
	};

	(void)state;
	for (size_t i = 0; i < PC_ARRAY_NR(cases); i++) {
		char error[256] = "";

		assert_false(pc_kept_from_text(cases[i].text, &kept[0], error, sizeof(error)));
		if (strncmp(error, cases[i].error, strlen(cases[i].error)) != 0)
			fail_msg("%s\ngives \"%s\", not \"%s\"", cases[i].text, error, cases[i].error);
	}
	assert_true(pc_kept_from_text("v1 seed=1 " SHAPE " ops=write:15+1,batch:0+1/2+3@1 events=f1.1 cut=1.1 killed then=- cut=0.2 words=none+1/3..5 disk=all bit=9.7",
				      &kept[0], (char[8]){0}, 8));
}

/* No text, however it is cut or changed, is read beyond its end or accepted with a shape that cannot be. */
static void broken_texts(void **state)
{
	struct pc_rng rng = {5};

	(void)state;
	for (uint32_t i = 0; i < 3000; i++) {
		char error[256];
		char *text;
		size_t len;

		memset(&kept[0], 0, sizeof(kept[0]));
		pc_gen_plan(1 + i % 20, &kept[0].plan);
		draw_path(&rng, &kept[0]);
		text = pc_kept_to_text(&kept[0]);
		assert_non_null(text);
		len = strlen(text);
		if (i % 2 == 0)
			text[pc_rng_below(&rng, (uint32_t)len)] = '\0';
		else
			text[pc_rng_below(&rng, (uint32_t)len)] = (char)(32 + pc_rng_below(&rng, 95));
		if (pc_kept_from_text(text, &kept[1], error, sizeof(error)))
			assert_true(pc_kept_plan_fits(&kept[1].plan, error, sizeof(error)));
		else
			assert_true(error[0] != '\0');
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_says_everything),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(broken_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
