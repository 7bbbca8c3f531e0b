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

void crash_note(struct crash_run *run, uint64_t value)
{
	run->digest = pc_rng_mix(run->digest ^ value);
}

/* --- what is going on, in words --- */

void crash_doing_to_text(const struct crash_doing *doing, char *text, size_t text_bytes)
{
	size_t used = 0;

	text[0] = '\0';
	if (doing->before != NULL)
		used += (size_t)snprintf(text, text_bytes, "%s", doing->before);
	if (doing->after != NULL && used < text_bytes)
		used += (size_t)snprintf(text + used, text_bytes - used, "%u%s", doing->nr, doing->after);
	if (doing->op != NULL && used < text_bytes)
		pc_gen_op_to_text(doing->op, text + used, text_bytes - used);
}

void crash_cut_to_text(const struct crash_cut *cut, char *text, size_t text_bytes)
{
	const struct crash_snap *snap = cut->from;
	const size_t store_nr = snap->media.store_nr;
	char how[128];
	char damage[64] = "";

	if (cut->killed)
		snprintf(how, sizeof(how), "process killed, all stores visible");
	else if (cut->given)
		snprintf(how, sizeof(how), "as given");
	else if (cut->policy == CRASH_POLICY_SUBSET)
		snprintf(how, sizeof(how), "subset 0x%x of %zu words", cut->at, store_nr);
	else
		snprintf(how, sizeof(how), "policy %u at %u bias %u of %zu words in %u lines", cut->policy, cut->at, cut->bias, store_nr, snap->line_nr);
	if (cut->bit_off != 0)
		snprintf(damage, sizeof(damage), "; bit %u of byte %llu turned", cut->bit, (unsigned long long)cut->bit_off);
	snprintf(text, text_bytes, "%s, event %u, media %s%s; disk %s (%u pending)", snap->when, snap->event_nr, how, damage,
		 cut->given ? "as given" :
		 cut->disk_policy == 0 ? "durable only" :
		 cut->disk_policy == 1 ? "all" : "random", snap->disk.pending_nr);
}

/* Makes the present state repeatable: see crash_path.h. */
static void note_path(struct crash_world *w, struct pc_crash_path *path)
{
	const struct crash_run *run = w->run;

	path->cut_nr = w->depth;
	path->lossy = run->lossy;
	memcpy(path->courses, run->courses, sizeof(path->courses));
	for (uint32_t depth = 1; depth <= w->depth; depth++) {
		const struct crash_cut *at = &run->worlds[depth].cut;
		struct pc_crash_cut *cut = &path->cuts[depth - 1];

		*cut = (struct pc_crash_cut){.step = at->from->step, .point = at->from->point, .killed = at->killed, .bit_off = at->bit_off, .bit = at->bit};
		if (!at->killed && !(pc_crash_some_set(&cut->words, at->keep, (uint32_t)at->from->media.store_nr) &&
				     pc_crash_some_set(&cut->disk, at->keep_disk, at->from->disk.pending_nr)))
			path->lossy = true;
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
		char text[512];

		if (depth > 0) {
			crash_cut_to_text(&at->cut, text, sizeof(text));
			used += (size_t)snprintf(result->text + used, sizeof(result->text) - used, "  power cut %u: %s\n", depth, text);
		}
		crash_doing_to_text(&at->doing, text, sizeof(text));
		used += (size_t)snprintf(result->text + used, sizeof(result->text) - used, "  %s\n", text);
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

bool pc_crash_path_now(struct pc_crash_path *out_path)
{
	struct crash_run *run = crash_current_run;
	uint32_t depth = 0;

	if (run == NULL)
		return false;
	while (depth < run->settings->depth && run->worlds[depth + 1].doing.before != NULL)
		depth++;
	note_path(&run->worlds[depth], out_path);
	return true;
}

void pc_crash_print_where(void)
{
	const struct crash_run *run = crash_current_run;

	if (run == NULL)
		return;
	for (uint32_t depth = 0; depth <= run->settings->depth; depth++) {
		const struct crash_world *w = &run->worlds[depth];
		char text[512];

		if (depth > 0 && w->doing.before == NULL)
			break;
		if (depth > 0) {
			crash_cut_to_text(&w->cut, text, sizeof(text));
			put_line(text);
		}
		crash_doing_to_text(&w->doing, text, sizeof(text));
		put_line(text);
	}
}
