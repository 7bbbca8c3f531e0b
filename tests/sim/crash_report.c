/* SPDX-License-Identifier: BSD-3-Clause */
/* Violations of the crash simulator, and what its parts have in common. */
#include "sim/crash_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct crash_run *crash_current_run;

void *crash_must(void *memory)
{
	if (memory == NULL)
		abort();
	return memory;
}

bool crash_set_add(struct crash_set *set, uint64_t hash)
{
	uint32_t at;

	hash |= 1;
	if (set->used_nr * 2 >= set->slot_nr) {
		struct crash_set larger = {.slot_nr = set->slot_nr == 0 ? 1024 : set->slot_nr * 2};

		larger.slots = crash_must(calloc(larger.slot_nr, sizeof(*larger.slots)));
		for (uint32_t i = 0; i < set->slot_nr; i++) {
			if (set->slots[i] != 0)
				(void)crash_set_add(&larger, set->slots[i]);
		}
		free(set->slots);
		*set = larger;
	}
	for (at = (uint32_t)(hash >> 32) & (set->slot_nr - 1); set->slots[at] != 0; at = (at + 1) & (set->slot_nr - 1)) {
		if (set->slots[at] == hash)
			return false;
	}
	set->slots[at] = hash;
	set->used_nr++;
	return true;
}

/* Makes the present state repeatable: see crash_path.h. */
static void note_path(struct crash_world *w, struct pc_crash_path *path)
{
	const struct crash_run *run = w->run;

	path->cut_nr = w->depth;
	path->lossy = run->lossy;
	memcpy(path->courses, run->courses, sizeof(path->courses));
	for (uint32_t depth = 1; depth <= w->depth; depth++) {
		const struct crash_world *at = &run->worlds[depth];
		struct pc_crash_cut *cut = &path->cuts[depth - 1];
		const uint32_t disk_nr = mem_backing_pending_nr(at->from->mb);
		uint8_t *disk = crash_must(calloc(1, disk_nr + 1));

		*cut = (struct pc_crash_cut){.step = at->from->step, .point = at->from->point, .killed = at->killed, .bit_off = at->bit_off, .bit = at->bit};
		for (uint32_t i = 0; i < disk_nr; i++)
			disk[i] = at->disk_cut.policy == 1 || crash_keep_disk_write((void *)(uintptr_t)&at->disk_cut, i);
		if (!at->killed && !(pc_crash_some_set(&cut->words, at->keep, at->from->store_nr) && pc_crash_some_set(&cut->disk, disk, disk_nr)))
			path->lossy = true;
		free(disk);
	}
}

/* Notes a violation, with the path of power cuts that led to it. Only the first counts. */
void crash_fail(struct crash_world *w, const char *fmt, ...)
{
	struct pc_crash_result *result = w->run->result;
	size_t used = 0;
	va_list args;

	w->run->stop = true;
	if (result->failed)
		return;
	result->failed = true;
	result->failed_op = w->run->op_idx;
	note_path(w, &result->path);
	for (uint32_t depth = 0; depth <= w->depth; depth++) {
		const struct crash_world *at = &w->run->worlds[depth];

		if (depth > 0)
			used += (size_t)snprintf(result->text + used, sizeof(result->text) - used, "  power cut %u: %s\n", depth, at->state);
		used += (size_t)snprintf(result->text + used, sizeof(result->text) - used, "  %s\n", at->what);
	}
	used += (size_t)snprintf(result->text + used, sizeof(result->text) - used, "  WRONG: ");
	va_start(args, fmt);
	vsnprintf(result->text + used, sizeof(result->text) - used, fmt, args);
	va_end(args);
}

static void put_line(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0 || write(STDERR_FILENO, "\n", 1) < 0)
		return;
}

void pc_crash_print_where(void)
{
	const struct crash_run *run = crash_current_run;

	if (run == NULL)
		return;
	for (uint32_t depth = 0; depth <= run->settings->depth; depth++) {
		if (depth > 0 && run->worlds[depth].cache == NULL && run->worlds[depth].what[0] == '\0')
			break;
		put_line(run->worlds[depth].state);
		put_line(run->worlds[depth].what);
	}
}
