/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One seed of the crash simulator, see crash_run.h.
 *
 * World 0 is the cache that the operations of the seed work on. Before a fence or sync, before a call of the backing, and after an API call, a
 * snapshot may be taken: the durable media, its pending stores, the disk with its pending writes. Snapshots are explored when the API call has
 * returned, see crash_point.c: from each, some images are built and recovered in world 1, which works on for a few operations and
 * has its own snapshots, explored in world 2, and so on. The oracle does not change between the start of a call and the exploration, so what is accepted
 * at a snapshot is what was accepted when it was taken: the unit in flight is pending.
 *
 * All choices come from random numbers that are derived from the seed and from the number of the operation, so that leaving out an operation changes as
 * little as possible for the others: that is what makes shrinking work.
 */
#include "sim/crash_internal.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t draw_nonce(void *user)
{
	struct crash_world *w = user;

	return pc_rng_next(&w->nonce);
}

static const volatile uint8_t no_fork = 1; /* simulators do not fork with a cache open */

/* Media of earlier runs, by world and kind. Mapping it takes longer than a short run. */
static struct pc_sim *kept[PC_CRASH_DEPTH_MAX + 1][4];

static uint32_t sim_flags(const struct crash_run *run)
{
	return pc_rng_mix(run->settings->seed) & 1 ? PC_SIM_STAGED : 0;
}

static enum pc_granularity granularity_of(const struct pc_gen_shape *shape)
{
	return shape->page ? PC_GRAN_PAGE : shape->byte ? PC_GRAN_BYTE : PC_GRAN_CACHE_LINE;
}

static struct pc_sim **kept_place(const struct crash_run *run, uint32_t depth)
{
	const struct pc_gen_shape *shape = &run->shape;

	return &kept[depth][shape->page ? sim_flags(run) != 0 : shape->byte ? 2 : 3];
}

/* NULL: no memory. */
static struct pc_sim *take_media(const struct crash_run *run, uint32_t depth)
{
	struct pc_sim **place = kept_place(run, depth), *sim = *place;

	if (!run->settings->keep_media)
		sim = NULL;
	else
		*place = NULL;
	if (sim != NULL && pc_sim_renew(sim, run->shape.media_bytes))
		return sim;
	pc_sim_free(sim);
	if (pc_sim_new(run->shape.media_bytes, granularity_of(&run->shape), sim_flags(run), &sim) != 0)
		return NULL;
	return sim;
}

static bool world_init(struct crash_run *run, uint32_t depth)
{
	const struct pc_gen_shape *shape = &run->shape;
	struct crash_world *w = &run->worlds[depth];
	const struct pc_oracle_options oracle_options = {.block_nr = shape->backing_blk,
							 .block_bytes = shape->block_bytes,
							 .commit_flush = shape->commit_flush,
							 .order_batch = shape->order_batch};

	w->run = run;
	w->depth = depth;
	pc_oracle_disk_init(&w->disk);
	w->tweaks = (struct pc_tweaks){.fork_page = &no_fork, .nonce = draw_nonce, .nonce_user = w,
				       .pass_min_slots = 1, .pass_part_bytes = 4096};
	w->oracle = crash_must(pc_oracle_new(&oracle_options));
	crash_set_mode(w, 0);
	pc_oracle_disk_format(w->oracle, &w->disk);
	w->sim = take_media(run, depth);
	if (w->sim == NULL)
		return false;
	pc_sim_skip_site(w->sim, run->settings->skip_site);
	return true;
}

/* Adds the places that called flush, fence or sync to the result. */
static void collect_sites(const struct crash_world *w, struct pc_crash_result *result)
{
	static const char *const ops[] = {[PC_SIM_OP_FLUSH] = "flush", [PC_SIM_OP_FENCE] = "fence", [PC_SIM_OP_SYNC] = "sync"};

	for (size_t i = 0; i < pc_sim_site_nr(w->sim); i++) {
		const struct pc_sim_site site = pc_sim_site(w->sim, i);
		uint32_t at = 0;

		while (at < result->site_nr && result->sites[at].address != site.address)
			at++;
		if (at == PC_CRASH_SITE_NR_MAX)
			continue;
		if (at == result->site_nr)
			result->sites[result->site_nr++] = (struct pc_crash_site){.address = site.address, .op = ops[site.op]};
		result->sites[at].calls += site.calls;
	}
}

static void world_fini(struct crash_world *w)
{
	if (w->cache != NULL)
		pc_cache_abandon(w->cache);
	for (uint32_t i = 0; i < w->snap_room; i++) {
		pc_sim_saved_fini(&w->snaps[i].media);
		free(w->snaps[i].line_of);
		pc_oracle_disk_fini(&w->snaps[i].disk);
	}
	free(w->snaps);
	if (w->run->settings->keep_media)
		*kept_place(w->run, w->depth) = w->sim;
	else
		pc_sim_free(w->sim);
	pc_oracle_free(w->oracle);
	pc_oracle_disk_fini(&w->disk);
	free(w->cut.keep);
	free(w->cut.keep_disk);
}

static bool do_format(struct crash_world *w)
{
	struct pcache_backing *backing = crash_attach(w);
	int rc;

	crash_call_begin(w);
	rc = pc_cache_format_media(pc_sim_media(w->sim), w->run->config, &w->tweaks, backing);
	crash_call_end(w);
	pcache_backing_free(backing);
	if (rc != 0)
		crash_fail(w, "format gives %d: %s", rc, crash_error_text(rc));
	return rc == 0 && !w->run->stop;
}

/* Leaves an older cache with dirty data on the media. It never reaches the backing. */
static bool make_old_cache(struct crash_world *w)
{
	const struct pc_crash_plan *plan = w->run->plan;
	struct pc_oracle *oracle = w->oracle;

	w->doing = (struct crash_doing){.before = "older cache"};
	if (!do_format(w) || !crash_open(w))
		return false;
	w->oracle = crash_must(pc_oracle_clone(oracle));
	for (uint32_t i = 0; i < plan->old_op_nr && !w->run->stop; i++) {
		pc_gen_remember(&w->memory, &plan->old_ops[i]);
		if (plan->old_ops[i].kind <= PC_GEN_ZEROES || !plan->old_only_writes)
			crash_do_op(w, &plan->old_ops[i]);
	}
	if (!w->run->stop)
		crash_do_flush(w);
	pc_cache_abandon(w->cache);
	w->cache = NULL;
	pc_sim_reopen(w->sim);
	w->run->old_oracle = w->oracle;
	w->oracle = oracle;
	crash_set_mode(w, 0);
	while (pc_oracle_next_version(oracle) < 1000)
		; /* the old versions are never given again */
	/* Writes of a full cache may have run write-back; on a fresh backing the old cache is then no whole state any more. */
	for (uint32_t blk = 0; blk < w->disk.block_nr; blk++) {
		if (w->disk.live[blk].kind != PC_SEEN_DATA || w->disk.live[blk].version != 1)
			w->run->old_is_broken = true;
	}
	pc_oracle_disk_format(w->oracle, &w->disk);
	return !w->run->stop;
}

/* Formats world 0 and opens it. */
static bool first_open(struct crash_run *run)
{
	struct crash_world *w = &run->worlds[0];

	w->no_faults = true;
	if (run->shape.old_cache && !make_old_cache(w))
		return false;
	w->doing = (struct crash_doing){.before = "format"};
	w->rng.state = pc_rng_mix(run->settings->seed + 13);
	w->exploring = (run->settings->thorough || run->settings->seed % 4 == 0) && !run->old_is_broken && run->settings->every == NULL;
	w->point_pct = 100;
	w->image_nr = 10;
	w->snap_max = run->settings->thorough ? SNAP_NR_THOROUGH : SNAP_NR_MAX;
	run->formatting = true;
	if (!do_format(w))
		return false;
	run->formatting = false;
	w->image_nr = 40;
	crash_between(w); /* from here on there is the new cache, and nothing else */
	if (run->shape.high != 0)
		crash_raise_counters(w);
	if (run->stop)
		return false;
	w->doing = (struct crash_doing){.before = "first open"};
	if (run->settings->seed % 4 == 1 && !run->shape.write_through) {
		/* What the backing holds was written by somebody who did not flush it. The first open shows it, so from then on it stays. A flush that fails would lose it for good. */
		pc_oracle_disk_unflush(&w->disk);
		w->no_faults = true;
		w->exploring = false; /* until the open has returned it may still be lost */
	}
	if (!crash_open(w))
		return false;
	w->no_faults = false;
	w->exploring = false;
	return crash_check_all_live(w);
}

static void run_op(struct crash_run *run, uint32_t i, uint32_t point_pct)
{
	const struct pc_crash_settings *settings = run->settings;
	const struct pc_gen_op *op = &run->plan->ops[i];
	struct crash_world *w = &run->worlds[0];

	run->op_idx = i;
	w->op_idx = i;
	crash_begin_step(w, i + 1);
	w->doing = (struct crash_doing){.before = "operation ", .nr = i, .after = ": ", .op = op};
	if (settings->trace) {
		char text[160];

		crash_doing_to_text(&w->doing, text, sizeof(text));
		fprintf(stderr, "%s\n", text);
	}
	w->rng.state = pc_rng_mix(settings->seed ^ pc_rng_mix(op->nr != 0 ? op->nr : i));
	w->exploring = i >= run->shape.warm_nr && settings->depth > 0;
	w->point_pct = point_pct;
	w->image_nr = settings->thorough ? 64 : pc_rng_chance(&w->rng, 4) ? 200 : 10;
	w->snap_max = settings->thorough || settings->every != NULL ? SNAP_NR_THOROUGH : 8;
	crash_do_op(w, op);
	if (!run->stop)
		crash_note_reached(w, op);
}

static void run_ops(struct crash_run *run)
{
	const struct pc_crash_settings *settings = run->settings;
	struct crash_world *w = &run->worlds[0];
	const uint32_t op_nr = run->plan->op_nr;
	const uint32_t limit = settings->op_limit == 0 ? op_nr : PC_MIN(op_nr, settings->op_limit);
	static const uint32_t pcts[] = {12, 25, 50, 100};
	const uint32_t point_pct = settings->thorough || settings->every != NULL ? 100 : pcts[pc_rng_mix(settings->seed) % PC_ARRAY_NR(pcts)];

	for (uint32_t i = 0; i < limit && !run->stop; i++) {
		pc_gen_remember(&w->memory, &run->plan->ops[i]);
		if (settings->skip == NULL || !settings->skip[i])
			run_op(run, i, point_pct);
	}
	if (run->stop || limit < op_nr)
		return;
	crash_begin_step(w, limit + 1);
	w->doing = (struct crash_doing){.before = "at the end"};
	w->exploring = false;
	w->no_faults = true;
	if (crash_check_all_live(w))
		crash_do_drain(w);
	if (!run->stop)
		crash_do_reopen(w, 0);
	if (!run->stop)
		crash_do_close(w);
	if (!run->stop)
		crash_check_closed(w);
}

void pc_crash_run(const struct pc_crash_settings *settings, struct pc_crash_result *out_result)
{
	struct crash_run *run = crash_must(calloc(1, sizeof(*run)));
	size_t backing_bytes;

	memset(out_result, 0, offsetof(struct pc_crash_result, path));
	run->settings = settings;
	run->result = out_result;
	run->plan = settings->plan;
	if (run->plan == NULL) {
		run->drawn = crash_must(malloc(sizeof(*run->drawn)));
		pc_gen_plan(settings->seed, run->drawn);
		run->plan = run->drawn;
	}
	run->shape = run->plan->shape;
	run->follow = settings->path;
	run->courses = crash_must(calloc(PC_CRASH_DEPTH_MAX + 1, sizeof(*run->courses)));
	out_result->op_nr = run->plan->op_nr;
	backing_bytes = (size_t)run->shape.backing_blk * run->shape.block_bytes;
	run->io = crash_must(malloc(backing_bytes * PC_GEN_RANGE_NR_MAX));
	run->seen = crash_must(malloc(backing_bytes));
	crash_configs_init(run);
	crash_current_run = run;
	for (uint32_t depth = 0; depth <= settings->depth; depth++) {
		if (!world_init(run, depth))
			abort();
	}
	run->worlds[0].nonce.state = pc_rng_mix(settings->seed + 1);
	pc_sim_crash_at(run->worlds[0].sim, 0, crash_at_fence, &run->worlds[0]);
	if (first_open(run))
		run_ops(run);
	crash_current_run = NULL;
	out_result->digest = run->digest;
	for (uint32_t depth = 0; depth <= settings->depth; depth++) {
		collect_sites(&run->worlds[depth], out_result);
		world_fini(&run->worlds[depth]);
	}
	pc_oracle_free(run->old_oracle);
	crash_configs_fini(run);
	free(run->states.slots);
	free(run->images.slots);
	free(run->io);
	free(run->seen);
	free(run->courses);
	free(run->drawn);
	free(run);
}

void pc_crash_shape_text(uint64_t seed, char *text, size_t text_bytes)
{
	struct pc_crash_plan *plan = crash_must(malloc(sizeof(*plan)));

	pc_gen_plan(seed, plan);
	pc_gen_shape_to_text(&plan->shape, text, text_bytes);
	free(plan);
}

void pc_crash_print_plan(const struct pc_crash_settings *settings)
{
	struct pc_crash_plan *drawn = NULL;
	const struct pc_crash_plan *plan = settings->plan;
	char text[512];
	uint32_t limit;

	if (plan == NULL) {
		drawn = crash_must(malloc(sizeof(*drawn)));
		pc_gen_plan(settings->seed, drawn);
		plan = drawn;
	}
	pc_gen_shape_to_text(&plan->shape, text, sizeof(text));
	fprintf(stderr, "seed %llu%s%s: %s\n", (unsigned long long)settings->seed, plan->directed != 0 ? ", " : "",
		plan->directed != 0 ? pc_directed_name(plan->directed - 1) : "", text);
	limit = settings->op_limit == 0 ? plan->op_nr : PC_MIN(plan->op_nr, settings->op_limit);
	for (uint32_t i = 0; i < limit; i++) {
		if (settings->skip != NULL && settings->skip[i])
			continue;
		pc_gen_op_to_text(&plan->ops[i], text, sizeof(text));
		fprintf(stderr, "  %3u %s\n", i, text);
	}
	free(drawn);
}
