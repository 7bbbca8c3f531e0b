/* SPDX-License-Identifier: BSD-3-Clause */
/* Runs a kept violation again, see kept.h. */
#include "sim/kept.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/crash_run.h"
#include "sim/plants.h"

#define AROUND_STATES 3000u /* crash states around the path */

static bool say(const struct pc_crash_result *result, const char *where, char *text, size_t text_bytes)
{
	if (result->failed)
		snprintf(text, text_bytes, "%s:\n%s", where, result->text);
	return !result->failed;
}

bool kept_text_holds(const struct pc_kept *kept, char *text, size_t text_bytes)
{
	struct pc_crash_result *result = malloc(sizeof(*result));
	struct pc_crash_settings settings = {
		.seed = kept->seed, .plan = &kept->plan, .path = &kept->path, .depth = PC_MAX(kept->path.cut_nr, 1u)};
	const char *plant = getenv("PCACHE_SIM_PLANT");
	bool ok;

	if (result == NULL || (plant != NULL && !pc_plant_switch_on(plant)))
		abort();
	pc_crash_run(&settings, result);
	ok = say(result, "on the path", text, text_bytes);
	if (ok) {
		settings.path = NULL;
		settings.thorough = true;
		settings.states_max = AROUND_STATES;
		pc_crash_run(&settings, result);
		ok = say(result, "near the path", text, text_bytes);
	}
	free(result);
	return ok;
}

static void put_cut(const struct kept_cut *from, struct pc_crash_cut *cut, struct pc_crash_course *course)
{
	*cut = (struct pc_crash_cut){.step = from->step, .point = from->point, .killed = from->killed, .bit_off = from->bit_off, .bit = from->bit};
	if (!from->killed && (!pc_kept_words_from_text(from->words, &cut->words) || !pc_kept_words_from_text(from->disk, &cut->disk)))
		abort();
	if (from->then_nr > PC_CRASH_COURSE_OP_NR_MAX || (from->events != NULL && !pc_kept_events_from_text(from->events, course)))
		abort();
	for (uint32_t i = 0; i < from->then_nr; i++)
		course->ops[i] = from->then[i];
	course->op_nr = from->then_nr;
}

bool kept_holds(const struct kept_case *kept, char *text, size_t text_bytes)
{
	struct pc_kept *full = calloc(1, sizeof(*full));
	bool ok;

	if (full == NULL || kept->op_nr > PC_CRASH_OP_NR_MAX || kept->old_op_nr > PC_CRASH_OLD_OP_NR_MAX || kept->cut_nr > PC_CRASH_DEPTH_MAX)
		abort();
	full->seed = kept->seed;
	full->plan.shape = kept->shape;
	full->plan.shape.op_nr = kept->op_nr;
	full->plan.op_nr = kept->op_nr;
	full->plan.old_op_nr = kept->old_op_nr;
	for (uint32_t i = 0; i < kept->op_nr; i++)
		full->plan.ops[i] = kept->ops[i];
	for (uint32_t i = 0; i < kept->old_op_nr; i++)
		full->plan.old_ops[i] = kept->old_ops[i];
	if (kept->events != NULL && !pc_kept_events_from_text(kept->events, &full->path.courses[0]))
		abort();
	full->path.cut_nr = kept->cut_nr;
	for (uint32_t i = 0; i < kept->cut_nr; i++)
		put_cut(&kept->cuts[i], &full->path.cuts[i], &full->path.courses[i + 1]);
	if (!pc_kept_plan_fits(&full->plan, text, text_bytes))
		abort();
	ok = kept_text_holds(full, text, text_bytes);
	free(full);
	return ok;
}
