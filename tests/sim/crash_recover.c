/* SPDX-License-Identifier: BSD-3-Clause */
/* Recovery of one crash state: what is accepted, and what the cache does afterwards. */
#include "sim/crash_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The next operation of the sequence. */
static bool next_of_sequence(struct crash_world *w, struct pc_gen_op *out_op)
{
	const struct pc_crash_plan *plan = w->run->plan;

	if (!w->goes_on || w->op_idx + 1 >= plan->op_nr)
		return false;
	*out_op = plan->ops[++w->op_idx];
	w->exploring = w->depth < w->run->settings->depth && w->op_idx + 1 == plan->op_nr;
	return true;
}

/* The operation of a world after a power cut that comes next. False: there is none. */
static bool next_op(struct crash_world *w, uint32_t i, uint32_t op_nr, struct pc_gen_op *out_op)
{
	const struct pc_crash_path *follow = w->run->follow;
	struct pc_crash_course *course = &w->run->courses[w->depth];

	if (follow == NULL && w->run->settings->every != NULL) {
		if (!next_of_sequence(w, out_op))
			return false;
	} else if (i >= (follow != NULL ? follow->courses[w->depth].op_nr : op_nr)) {
		return false;
	} else if (follow != NULL) {
		*out_op = follow->courses[w->depth].ops[i];
	} else {
		pc_gen_op(&w->rng, &w->run->shape, &w->memory, out_op);
	}
	course->ops[course->op_nr++] = *out_op;
	return true;
}

/* The seed of damage at the end of this life; 0: none. */
static uint32_t pick_damage(struct crash_world *w)
{
	const struct pc_crash_path *follow = w->run->follow;
	struct pc_crash_course *course = &w->run->courses[w->depth];
	uint32_t seed = 0;

	if (follow != NULL) {
		const struct pc_crash_course *given = &follow->courses[w->depth];

		for (uint32_t i = 0; i < given->event_nr; i++) {
			if (given->events[i].kind == PC_CRASH_EVENT_DAMAGE)
				seed = given->events[i].nr;
		}
	} else if (pc_rng_chance(&w->rng, 4)) {
		seed = (uint32_t)pc_rng_next(&w->rng) | 1;
	}
	if (seed == 0)
		return 0;
	if (course->event_nr == PC_CRASH_EVENT_NR_MAX)
		w->run->lossy = true;
	else
		course->events[course->event_nr++] = (struct pc_crash_event){.kind = PC_CRASH_EVENT_DAMAGE, .step = w->step, .nr = seed};
	return seed;
}

static void work_on(struct crash_world *w)
{
	const uint32_t op_nr = 1 + pc_rng_below(&w->rng, 6);
	struct pc_gen_op op;
	uint32_t done_nr;

	for (done_nr = 0; !w->run->stop && next_op(w, done_nr, op_nr, &op); done_nr++) {
		crash_begin_step(w, done_nr + 1);
		w->doing = (struct crash_doing){.before = "then, operation ", .nr = done_nr, .after = ": ", .op = &op};
		if (w->run->settings->trace) {
			char text[160];

			crash_doing_to_text(&w->doing, text, sizeof(text));
			fprintf(stderr, "%*s%s\n", (int)w->depth * 4, "", text);
		}
		crash_do_op(w, &op);
	}
	if (w->run->stop)
		return;
	crash_begin_step(w, done_nr + 1);
	w->doing = (struct crash_doing){.before = "then, after ", .nr = done_nr, .after = " operations, everything is read"};
	if (crash_check_all_live(w) && crash_decide(w, PC_CRASH_EVENT_DRAIN, 30)) {
		w->doing.after = " operations, drain";
		crash_do_drain(w);
	}
	if (!w->run->stop) {
		const uint32_t seed = pick_damage(w);

		if (seed != 0)
			crash_damaged_life(w, seed);
	}
}

/* A power cut in format: there is no cache, the old one, or the new one. */
static void check_half_formatted(struct crash_world *child)
{
	struct crash_run *run = child->run;
	const int rc = crash_try_open(child, run->config);
	bool is_new = true;

	if (rc == PCACHE_E_NOT_A_CACHE)
		return;
	if (rc != 0) {
		crash_fail(child, "open after a power cut in format gives %d: %s", rc, crash_error_text(rc));
		return;
	}
	crash_check_runtime(child);
	if (run->stop || !crash_read_all(child, run->seen))
		return;
	for (uint32_t blk = 0; blk < run->shape.backing_blk; blk++) {
		const struct pc_seen seen = pc_oracle_look(child->oracle, blk, run->seen + (size_t)blk * run->shape.block_bytes);

		is_new &= seen.kind == PC_SEEN_DATA && seen.version == 1;
	}
	if (is_new || (run->old_oracle != NULL && pc_oracle_copy(child->oracle, run->old_oracle) && pc_oracle_recover(child->oracle, run->seen)))
		return;
	crash_fail(child, "after a power cut in format: neither the new cache nor the old one: %s", pc_oracle_text(child->oracle));
}

/* A read-only open stores nothing, and shows what may be there, or says that recovery comes first. */
static bool check_read_only(struct crash_world *child)
{
	struct crash_run *run = child->run;
	const uint64_t copies = pc_sim_counts(child->sim).copies;
	struct pc_oracle *oracle;
	int rc;

	child->no_faults = true;
	rc = crash_try_open(child, run->config_read_only);
	child->no_faults = false;
	if (rc == PCACHE_E_READ_ONLY)
		return true;
	if (rc != 0) {
		crash_fail(child, "read-only open gives %d: %s", rc, crash_error_text(rc));
		return false;
	}
	if (!crash_read_all(child, run->seen))
		return false;
	oracle = crash_must(pc_oracle_clone(child->oracle));
	if (!pc_oracle_recover(oracle, run->seen))
		crash_fail(child, "read-only: %s", pc_oracle_text(oracle));
	pc_oracle_free(oracle);
	pc_cache_abandon(child->cache);
	child->cache = NULL;
	pc_sim_reopen(child->sim);
	if (pc_sim_counts(child->sim).copies != copies)
		crash_fail(child, "a read-only open has stored to the media");
	return !run->stop;
}

/* The image is opened, and shows what is accepted, and what check (second, or NULL) said before. */
static bool open_and_read(struct crash_world *child, const struct crash_second *second)
{
	struct crash_run *run = child->run;

	if (!crash_open(child) || !crash_read_all(child, run->seen))
		return false;
	if (!pc_oracle_recover(child->oracle, run->seen)) {
		crash_fail(child, "%s", pc_oracle_text(child->oracle));
		return false;
	}
	crash_check_same(child, second, run->seen);
	return !run->stop;
}

static void check_recovered(struct crash_world *child, uint64_t key)
{
	struct crash_run *run = child->run;
	struct crash_second *second;
	bool ok;

	if (!pc_oracle_check_backing(child->oracle, &child->disk)) {
		crash_fail(child, "%s", pc_oracle_text(child->oracle));
		return;
	}
	if (crash_decide(child, PC_CRASH_EVENT_PROBE, 8) && !check_read_only(child))
		return;
	crash_pick_mode(child);
	second = crash_check_before(child, key);
	ok = !run->stop && open_and_read(child, second);
	free(second);
	if (!ok)
		return;
	crash_note(run, pc_oracle_hash(child->oracle));
	pc_oracle_flushed(child->oracle, true); /* what an open shows is an epoch of its own */
	crash_between(child);
	if (!run->stop && (run->follow != NULL || (run->settings->every != NULL ? child->goes_on : child->exploring || pc_rng_chance(&child->rng, 35))))
		work_on(child);
}

/* Readies the child for its first open. */
static void begin_life(struct crash_world *child, uint64_t key)
{
	const struct crash_run *run = child->run;
	const struct crash_world *above = &run->worlds[child->depth - 1];
	const struct pc_crash_settings *settings = run->settings;
	const struct pc_sim_saved *media = &child->cut.from->media;

	for (size_t i = 0; child->cut.killed && i < media->store_nr; i++)
		pc_sim_store_orphan(child->sim, media->stores[i]);
	if (!pc_oracle_copy(child->oracle, above->oracle))
		abort();
	crash_set_mode(child, above->mode);
	child->nonce.state = pc_rng_mix(key + 1);
	child->rng.state = pc_rng_mix(key + 2);
	child->memory = above->memory;
	child->no_faults = run->formatting;
	child->dead_nr = 0;
	child->snap_nr = 0;
	crash_begin_step(child, 0);
	run->courses[child->depth].op_nr = 0;
	run->courses[child->depth].event_nr = 0;
	child->exploring = child->depth < settings->depth && (settings->thorough || pc_rng_chance(&child->rng, child->cut.killed ? 60 : 22));
	child->point_pct = settings->thorough ? 100 : 35;
	child->image_nr = settings->thorough ? 16 : 4;
	child->snap_max = settings->thorough ? SNAP_NR_THOROUGH : 5;
	if (settings->every != NULL) {
		child->op_idx = above->op_idx;
		child->exploring = child->goes_on && child->depth < settings->depth && above->op_idx + 1 == run->plan->op_nr;
		child->point_pct = 100;
		child->snap_max = SNAP_NR_THOROUGH;
	}
	pc_sim_crash_at(child->sim, 0, crash_at_fence, child);
	child->doing = (struct crash_doing){.before = "open after the power cut"};
}

void crash_recover_state(struct crash_world *child, uint64_t key)
{
	struct crash_run *run = child->run;
	const struct pc_crash_settings *settings = run->settings;

	run->result->states++;
	run->result->depth = PC_MAX(run->result->depth, child->depth);
	if (settings->trace) {
		char text[512];

		crash_cut_to_text(&child->cut, text, sizeof(text));
		fprintf(stderr, "%*spower cut %u: %s\n", (int)child->depth * 4 - 2, "", child->depth, text);
	}
	begin_life(child, key);
	crash_note(run, key);
	if (run->formatting)
		check_half_formatted(child);
	else
		check_recovered(child, key);
	crash_note(run, run->result->failed);
	if (child->cache != NULL)
		pc_cache_abandon(child->cache);
	child->cache = NULL;
	child->doing.before = NULL;
	if (settings->states_max != 0 && run->result->states >= settings->states_max)
		run->stop = true;
}
