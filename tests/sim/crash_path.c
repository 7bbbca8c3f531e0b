/* SPDX-License-Identifier: BSD-3-Clause */
/* Sets of numbers and lists of events of a crash path, see crash_path.h. */
#include "sim/crash_path.h"

bool pc_crash_some_has(const struct pc_crash_some *some, uint32_t idx)
{
	uint32_t low = 0;
	uint32_t high = some->run_nr;

	while (low < high) { /* the last run that begins at or before idx */
		const uint32_t middle = low + (high - low) / 2;

		if (some->runs[middle].first <= idx)
			low = middle + 1;
		else
			high = middle;
	}
	if (low != 0 && idx - some->runs[low - 1].first < some->runs[low - 1].nr)
		return !some->rest;
	return some->rest;
}

bool pc_crash_some_set(struct pc_crash_some *some, const uint8_t *flags, uint32_t nr)
{
	uint32_t set_nr = 0;

	for (uint32_t i = 0; i < nr; i++)
		set_nr += flags[i] != 0;
	some->rest = set_nr * 2 > nr;
	some->run_nr = 0;
	for (uint32_t i = 0; i < nr; i++) {
		if ((flags[i] != 0) == some->rest)
			continue;
		if (i != 0 && (flags[i - 1] != 0) != some->rest) {
			some->runs[some->run_nr - 1].nr++;
			continue;
		}
		if (some->run_nr == PC_CRASH_RUN_NR_MAX)
			return false;
		some->runs[some->run_nr].first = i;
		some->runs[some->run_nr++].nr = 1;
	}
	return true;
}

bool pc_crash_course_has(const struct pc_crash_course *course, uint8_t kind, uint32_t step, uint32_t nr)
{
	for (uint32_t i = 0; i < course->event_nr; i++) {
		const struct pc_crash_event *event = &course->events[i];

		if (event->kind == kind && event->step == step && event->nr == nr)
			return true;
	}
	return false;
}
