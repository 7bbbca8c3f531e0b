/* SPDX-License-Identifier: BSD-3-Clause */
/* Recovery of one crash state: what is accepted, and what the cache does afterwards. */
#include "sim/crash_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The operation of a world after a power cut that comes next. False: there is none. */
static bool next_op(struct crash_world *w, uint32_t i, uint32_t op_nr, struct pc_gen_op *out_op)
{
	const struct pc_crash_path *follow = w->run->follow;
	struct pc_crash_course *course = &w->run->courses[w->depth];

	if (i >= (follow != NULL ? follow->courses[w->depth].op_nr : op_nr))
		return false;
	if (follow != NULL)
		*out_op = follow->courses[w->depth].ops[i];
	else
		pc_gen_op(&w->rng, &w->run->shape, &w->memory, out_op);
	course->ops[course->op_nr++] = *out_op;
	return true;
}

static void work_on(struct crash_world *w)
{
	const uint32_t op_nr = 1 + pc_rng_below(&w->rng, 6);
	struct pc_gen_op op;
	uint32_t done_nr;

	for (done_nr = 0; !w->run->stop && next_op(w, done_nr, op_nr, &op); done_nr++) {
		char text[128];

		crash_begin_step(w, done_nr + 1);
		pc_gen_op_to_text(&op, text, sizeof(text));
		snprintf(w->what, sizeof(w->what), "then, operation %u: %s", done_nr, text);
		if (w->run->settings->trace)
			fprintf(stderr, "%*s%s\n", (int)w->depth * 4, "", w->what);
		crash_do_op(w, &op);
	}
	if (w->run->stop)
		return;
	crash_begin_step(w, done_nr + 1);
	snprintf(w->what, sizeof(w->what), "then, after %u operations, everything is read", done_nr);
	if (crash_check_all_live(w) && crash_decide(w, PC_CRASH_EVENT_DRAIN, 30)) {
		snprintf(w->what, sizeof(w->what), "then, after %u operations, drain", done_nr);
		crash_do_drain(w);
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

static void check_recovered(struct crash_world *child)
{
	struct crash_run *run = child->run;

	if (!pc_oracle_check_backing(child->oracle, &child->disk)) {
		crash_fail(child, "%s", pc_oracle_text(child->oracle));
		return;
	}
	if (crash_decide(child, PC_CRASH_EVENT_PROBE, 8) && !check_read_only(child))
		return;
	if (!crash_open(child) || !crash_read_all(child, run->seen))
		return;
	if (!pc_oracle_recover(child->oracle, run->seen)) {
		crash_fail(child, "%s", pc_oracle_text(child->oracle));
		return;
	}
	pc_oracle_flushed(child->oracle, true); /* what an open shows is an epoch of its own */
	crash_between(child);
	if (!run->stop && (run->follow != NULL || child->exploring || pc_rng_chance(&child->rng, 35)))
		work_on(child);
}

/* Puts the child into the state of child->image and child->backing_image; killed: with the stores of that snapshot in the processor's caches. */
static void load_state(struct crash_world *child, uint64_t key, const struct crash_snap *killed)
{
	const struct crash_run *run = child->run;
	const struct crash_world *above = &run->worlds[child->depth - 1];
	const struct pc_crash_settings *settings = run->settings;

	pc_sim_reset(child->sim, child->image);
	for (uint32_t i = 0; killed != NULL && i < killed->store_nr; i++)
		pc_sim_store_orphan(child->sim, killed->stores[i]);
	if (!pc_oracle_copy(child->oracle, above->oracle))
		abort();
	if (killed != NULL) {
		/* The disk goes on as it was, with what it has not made durable yet. */
		mem_backing_destroy(child->mb);
		child->mb = crash_must(mem_backing_clone(killed->mb));
		mem_backing_observe(child->mb, crash_at_backing, child);
		if (!pc_oracle_disk_copy(&child->disk, &killed->disk))
			abort();
	} else {
		mem_backing_load(child->mb, child->backing_image);
		pc_oracle_disk_load(child->oracle, &child->disk, child->backing_image);
	}
	child->nonce.state = pc_rng_mix(key + 1);
	child->rng.state = pc_rng_mix(key + 2);
	child->memory = above->memory;
	child->no_faults = run->formatting;
	child->snap_nr = 0;
	crash_begin_step(child, 0);
	run->courses[child->depth].op_nr = 0;
	run->courses[child->depth].event_nr = 0;
	child->exploring = child->depth < settings->depth && (settings->thorough || pc_rng_chance(&child->rng, killed != NULL ? 60 : 22));
	child->point_pct = settings->thorough ? 100 : 35;
	child->image_nr = settings->thorough ? 16 : 4;
	child->snap_max = settings->thorough ? SNAP_NR_MAX : 5;
	pc_sim_crash_at(child->sim, 0, crash_at_fence, child);
	snprintf(child->what, sizeof(child->what), "open after the power cut");
}

/* child->image and child->backing_image are set; the world above says what is accepted. */
void crash_recover_state(struct crash_world *child, uint64_t key, const struct crash_snap *killed)
{
	struct crash_run *run = child->run;
	const struct pc_crash_settings *settings = run->settings;

	run->result->states++;
	run->result->depth = PC_MAX(run->result->depth, child->depth);
	if (settings->trace)
		fprintf(stderr, "%*spower cut %u: %s\n", (int)child->depth * 4 - 2, "", child->depth, child->state);
	load_state(child, key, killed);
	if (run->formatting)
		check_half_formatted(child);
	else
		check_recovered(child);
	if (child->cache != NULL)
		pc_cache_abandon(child->cache);
	child->cache = NULL;
	child->what[0] = '\0';
	if (settings->states_max != 0 && run->result->states >= settings->states_max)
		run->stop = true;
}
