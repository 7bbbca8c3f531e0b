/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One seed of the scheduler simulator, see sched_run.h.
 *
 * World 0 is the cache that the simulated threads work on; all of them, its open and its close included, are coroutines. At a yield point the power may fail: then, with all
 * coroutines suspended where they are, some images of the media and the disk at this instant are built and recovered in world 1, one after the other, whose own threads may work on
 * and whose power may fail again; then world 0 goes on as if nothing had been. The oracle of a world is cloned at the cut.
 */
#include "sim/sched_run.h"

#ifdef PC_PLANTS

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc.h"
#include "base/plant.h"
#include "core/cache.h"
#include "sim/sched_internal.h"

static struct run *current_run;

static void *must(void *memory)
{
	if (memory == NULL)
		abort();
	return memory;
}

static bool set_add(struct hash_set *set, uint64_t hash)
{
	uint32_t at;

	hash |= 1;
	if (set->used_nr * 2 >= set->slot_nr) {
		struct hash_set larger = { .slot_nr = set->slot_nr == 0 ? 1024 : set->slot_nr * 2 };

		larger.slots = must(calloc(larger.slot_nr, sizeof(*larger.slots)));
		for (uint32_t i = 0; i < set->slot_nr; i++) {
			if (set->slots[i] != 0)
				(void)set_add(&larger, set->slots[i]);
		}
		free(set->slots);
		*set = larger;
	}
	for (at = (uint32_t)(hash >> 32) & (set->slot_nr - 1); set->slots[at] != 0;
	     at = (at + 1) & (set->slot_nr - 1)) {
		if (set->slots[at] == hash)
			return false;
	}
	set->slots[at] = hash;
	set->used_nr++;
	return true;
}

/* ---- violations ------------------------------------------------------------------------------------------------ */

static void note_failure(struct world *w, const char *fmt, va_list args)
{
	struct sched_run_result *result = w->run->result;
	size_t used = 0;

	if (result->failed)
		return;
	result->failed = true;
	for (uint32_t depth = 0; depth <= w->depth; depth++) {
		const struct world *at = &w->run->worlds[depth];

		if (depth > 0)
			used += (size_t)snprintf(result->text + used, sizeof(result->text) - used,
						 "  power cut %u: %s\n", depth, at->state);
		if (at->sched == NULL)
			continue;
		sched_describe(at->sched, result->text + used, sizeof(result->text) - used);
		used = strlen(result->text);
		used += (size_t)snprintf(result->text + used, sizeof(result->text) - used, "\n");
	}
	used += (size_t)snprintf(result->text + used, sizeof(result->text) - used, "  WRONG: ");
	vsnprintf(result->text + used, sizeof(result->text) - used, fmt, args);
}

void sched_fail(struct world *w, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	note_failure(w, fmt, args);
	va_end(args);
	w->run->stop = true;
	if (w->sched != NULL)
		sched_stop(w->sched);
}

/* ---- what the media and the backing tell ---------------------------------------------------------------------- */

static void at_fence(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	(void)sim, (void)user;
	sched_yield_at(event == PC_SIM_AT_FENCE ? PC_YIELD_FENCE : PC_YIELD_SYNC);
	if (PC_PLANTED(PC_PLANT_FENCE_OF_OTHER))
		sched_fence_as_other();
}

static int at_backing(void *user, enum mem_backing_op op, uint64_t off, uint64_t len, const void *buf)
{
	static const enum pc_yield_point points[MEM_BACKING_OP_NR] = {
		[MEM_BACKING_READ] = PC_YIELD_BACKING_READ,    [MEM_BACKING_WRITE] = PC_YIELD_BACKING_WRITE,
		[MEM_BACKING_FLUSH] = PC_YIELD_BACKING_FLUSH,  [MEM_BACKING_DISCARD] = PC_YIELD_BACKING_WRITE,
		[MEM_BACKING_ZEROES] = PC_YIELD_BACKING_WRITE,
	};
	struct world *w = user;
	const uint32_t block_bytes = w->run->shape.block_bytes;
	bool ok;

	sched_yield_at(points[op]);
	if (op == MEM_BACKING_READ)
		return 0;
	if (op == MEM_BACKING_FLUSH) {
		so_disk_flush(&w->disk);
		return 0;
	}
	ok = so_disk_write(w->so, &w->disk, (uint32_t)(off / block_bytes), (uint32_t)(len / block_bytes),
			   op == MEM_BACKING_WRITE ? buf : NULL);
	if (ok && w->run->shape.write_through)
		so_disk_flush(&w->disk);
	if (!ok || !so_check_backing(w->so, &w->disk))
		sched_fail(w, "backing write [%u,+%u): %s", (unsigned int)(off / block_bytes),
			   (unsigned int)(len / block_bytes), so_text(w->so));
	return 0;
}

static uint64_t draw_nonce(void *user)
{
	struct world *w = user;

	return pc_rng_next(&w->nonce);
}

/* ---- power cuts ------------------------------------------------------------------------------------------------ */

struct disk_cut {
	const struct mem_backing *mb;
	uint32_t block_bytes;
	uint32_t policy; /* 0 none, 1 all, else random */
	uint32_t bias;
	uint64_t seed;
};

/* A block of the cache is kept as a whole, or not. */
static bool keep_disk_write(void *user, uint32_t idx)
{
	const struct disk_cut *cut = user;
	struct mem_backing_pending pending;

	mem_backing_get_pending(cut->mb, idx, &pending);
	if (cut->policy < 2)
		return cut->policy == 1;
	return pc_rng_mix(cut->seed ^ pc_rng_mix(pending.seq << 32 | pending.off / cut->block_bytes)) % 8 < cut->bias;
}

static uint64_t bytes_hash(const uint8_t *bytes, size_t len_bytes)
{
	const size_t half = len_bytes / 2;

	return (uint64_t)pc_crc32c(0, bytes, half) << 32 | pc_crc32c(0, bytes + half, len_bytes - half);
}

/* Which of the pending stores survive; nth 0 and 1: none and all. */
static uint64_t cut_media(struct world *w, struct world *child, uint32_t nth, char *text, size_t text_bytes)
{
	static const char *const names[PC_SIM_POLICY_NR] = {
		[PC_SIM_NONE] = "none",
		[PC_SIM_ALL] = "all",
		[PC_SIM_MISSING] = "all but one",
		[PC_SIM_ALONE] = "one",
		[PC_SIM_PREFIX] = "the first",
		[PC_SIM_SUFFIX] = "the last",
		[PC_SIM_LINE_MISSING] = "all but one line",
		[PC_SIM_LINE_ALONE] = "one line",
		[PC_SIM_LINE_PREFIX] = "the first lines",
		[PC_SIM_LINE_SUFFIX] = "the last lines",
		[PC_SIM_RANDOM] = "any",
		[PC_SIM_RANDOM_LINES] = "any lines",
	};
	const size_t pending_nr = pc_sim_pending_nr(w->sim);
	enum pc_sim_policy policy = nth == 0 ? PC_SIM_NONE : PC_SIM_ALL;
	uint64_t arg = 0, arg_nr;

	if (nth > 1 && pending_nr > 0)
		policy =
			(enum pc_sim_policy)(PC_SIM_MISSING + pc_rng_below(&w->rng, PC_SIM_POLICY_NR - PC_SIM_MISSING));
	/* At the boundary that a scene aims at, what was stored last is what earlier stores allow. */
	if (w->run->plan.scene != SCENE_NONE && nth > 1 && pending_nr > 0 && pc_rng_chance(&w->rng, 50))
		policy = PC_SIM_LINE_SUFFIX;
	arg_nr = pc_sim_policy_args(w->sim, policy);
	if (arg_nr == UINT64_MAX)
		arg = pc_rng_next(&w->rng);
	else if (arg_nr > 1)
		/* The last stores without the earlier ones, and the reverse, are where mistakes of order show. */
		arg = pc_rng_chance(&w->rng, w->run->plan.scene != SCENE_NONE ? 70 : 30)
			      ? arg_nr - 1 - pc_rng_below(&w->rng, 2)
			      : pc_rng_below(&w->rng, (uint32_t)arg_nr);
	snprintf(text, text_bytes, "%s (%llu) of %zu words", names[policy],
		 (unsigned long long)(arg_nr == UINT64_MAX ? 0 : arg), pending_nr);
	return pc_sim_crash(w->sim, policy, arg, child->image);
}

static void recover_state(struct world *child, uint64_t key);

/* The media and the disk of the child are what the power cut left. */
static void load_cut(struct world *w, struct world *child)
{
	pc_sim_reset(child->sim, child->image);
	mem_backing_load(child->mb, child->backing_image);
	so_free(child->so);
	child->so = so_clone(w->so);
	if (!so_disk_load(child->so, &child->disk, child->backing_image))
		sched_fail(child, "%s", so_text(child->so));
}

/* The process was killed: its stores are in the processor's caches, and the disk goes on as it was. */
static void load_kill(struct world *w, struct world *child)
{
	pc_sim_reset(child->sim, pc_sim_durable(w->sim));
	for (size_t i = 0; i < pc_sim_pending_nr(w->sim); i++)
		pc_sim_store_orphan(child->sim, pc_sim_pending(w->sim, i));
	mem_backing_destroy(child->mb);
	child->mb = must(mem_backing_clone(w->mb));
	mem_backing_observe(child->mb, at_backing, child);
	so_free(child->so);
	child->so = so_clone(w->so);
	so_disk_copy(&child->disk, &w->disk);
}

static void explore_image(struct world *w, uint32_t nth, enum pc_yield_point point)
{
	struct run *run = w->run;
	struct world *child = &run->worlds[w->depth + 1];
	struct disk_cut cut = { .mb = w->mb,
				.block_bytes = run->shape.block_bytes,
				.policy = pc_rng_below(&w->rng, 4) };
	const bool killed = pc_rng_chance(&w->rng, 15);
	char how[96] = "process killed, all stores visible";
	uint64_t hash;

	if (killed)
		hash = pc_sim_crash(w->sim, PC_SIM_ALL, 0, child->image) + 1;
	else
		hash = cut_media(w, child, nth, how, sizeof(how));
	cut.bias = 1 + pc_rng_below(&w->rng, 7);
	cut.seed = pc_rng_next(&w->rng);
	if (killed)
		cut.policy = 1;
	mem_backing_crash_image(w->mb, keep_disk_write, &cut, child->backing_image);
	hash = pc_rng_mix(hash ^ bytes_hash(child->backing_image, mem_backing_size(w->mb)));
	snprintf(child->state, sizeof(child->state), "%s at %s, step %llu, media %s; disk %s (%u pending)",
		 sched_point_name(point), w->depth == 0 ? "first cache" : "recovered cache",
		 (unsigned long long)sched_steps(w->sched), how,
		 cut.policy == 0   ? "durable only"
		 : cut.policy == 1 ? "all"
				   : "random",
		 mem_backing_pending_nr(w->mb));
	if (set_add(&run->images, hash))
		run->result->distinct++;
	hash = pc_rng_mix(hash + so_now(w->so) * UINT64_C(0x2545f4914f6cdd1d) + w->depth);
	if (!set_add(&run->states, hash))
		return;
	run->result->digest = pc_rng_mix(run->result->digest ^ hash);
	if (killed)
		load_kill(w, child);
	else
		load_cut(w, child);
	if (!run->stop)
		recover_state(child, hash);
}

static bool wants_cut(void *user, enum pc_yield_point point)
{
	struct world *w = user;
	const struct plan *plan = &w->run->plan;

	if (w->cuts_left == 0 || w->run->stop || w->run->enough)
		return false;
	if (plan->focused && point == plan->focus)
		return pc_rng_chance(&w->rng, 50);
	if (plan->scene == SCENE_TIGHT && point == PC_YIELD_FENCE && sched_holds(w->sched))
		return pc_rng_chance(&w->rng, 20);
	if (plan->scene != SCENE_NONE && w->run->shape.page && point == PC_YIELD_SYNC)
		return pc_rng_chance(&w->rng, 50);
	if (plan->scene != SCENE_NONE && !w->run->shape.page && point == PC_YIELD_FENCE)
		return pc_rng_chance(&w->rng, sched_holds(w->sched) ? 8 : 2);
	return pc_rng_below(&w->rng, 10000) < plan->cut_per_10000;
}

static void cut_power(void *user, enum pc_yield_point point)
{
	struct world *w = user;

	w->cuts_left--;
	w->run->result->cuts[point]++;
	for (uint32_t nth = 0; nth < w->image_nr && !w->run->stop && !w->run->enough; nth++)
		explore_image(w, pc_rng_chance(&w->rng, w->image_nr == 1 ? 85 : 60) ? 2 : pc_rng_below(&w->rng, 2),
			      point);
	if (w->run->stop)
		sched_stop(w->sched);
}

/* ---- the life of a world --------------------------------------------------------------------------------------- */

static void check_runtime(struct world *w)
{
	const char *wrong = w->workers ? NULL : pc_cache_check(w->cache);
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	uint64_t mode;

	if (wrong != NULL)
		sched_fail(w, "invariant of the run-time state: %s", wrong);
	/* Nobody runs: all that has returned since the change is on the backing. */
	else if (w->run->plan.modes && pcache_option_get(w->cache, PCACHE_OPT_MODE, &mode) == 0 &&
		 mode == PCACHE_MODE_PASSTHROUGH && pcache_info_get(w->cache, &info) == 0 && info.dirty_bytes != 0)
		sched_fail(w, "%llu dirty bytes in mode passthrough", (unsigned long long)info.dirty_bytes);
	/* No data of a key that counts is ever damaged here: who meets some has read what somebody else is writing. */
	else if (pcache_info_get(w->cache, &info) != 0 || info.crc_errors != 0)
		sched_fail(w, "%llu CRC errors, and no damaged data", (unsigned long long)info.crc_errors);
}

static void open_cache(struct world *w)
{
	struct pcache_backing *backing = must(mem_backing_attach(w->mb));
	int rc;

	sched_note("open");
	rc = pc_cache_open_media(pc_sim_media(w->sim), w->workers ? w->run->config_workers : w->run->config, &w->tweaks,
				 backing, &w->cache);
	if (rc != 0) {
		w->cache = NULL;
		sched_fail(w, "open gives %d: %s", rc, pcache_strerror(rc));
	}
}

static void abandon(struct world *w)
{
	struct pcache *cache = w->cache;

	sched_note("the process ends");
	w->run->result->slowed += atomic_load(&cache->stats.slowed_writes);
	w->run->result->waited += atomic_load(&cache->stats.full_waits);
	w->cache = NULL;
	w->cuts_left = 0;
	pc_cache_abandon(cache);
}

static void read_and_check(struct world *w, const char *note)
{
	const uint64_t begin = so_stamp(w->so);

	sched_note(note);
	sched_read_all(w);
	if (!so_read(w->so, begin, 0, w->run->shape.backing_blk, w->seen))
		sched_fail(w, "%s", so_text(w->so));
}

/* A closed cache is opened again: what was there is there. */
static void reopen(struct world *w)
{
	struct pcache *cache = w->cache;
	const uint64_t begin = so_stamp(w->so);
	int rc;

	sched_note("close");
	w->cache = NULL;
	rc = pcache_close(cache);
	if (rc != 0)
		sched_fail(w, "close gives %d: %s", rc, pcache_strerror(rc));
	so_flushed(w->so, begin, false);
	pc_sim_reopen(w->sim);
	open_cache(w);
	read_and_check(w, "reads all after close and open");
}

static void first_life(void *arg)
{
	struct world *w = arg;
	struct actor warm = { .w = w, .kind = ACTOR_MIXED, .shape = w->run->shape, .op_nr = w->run->shape.warm_nr };
	const uint32_t cuts = w->cuts_left;

	w->cuts_left = 0;
	open_cache(w);
	warm.rng.state = pc_rng_mix(w->run->settings->seed + 17);
	warm.buf = w->actors[0].buf;
	if (w->run->plan.scene != SCENE_NONE)
		sched_fill(&warm);
	sched_ops_run(&warm);
	w->cuts_left = cuts;
	sched_actors_run(w);
	read_and_check(w, "reads all");
	check_runtime(w);
	sched_note("drains");
	sched_drain(w);
	reopen(w);
	check_runtime(w);
	abandon(w);
}

static void later_life(void *arg)
{
	struct world *w = arg;
	enum so_verdict verdict;

	if (!so_check_backing(w->so, &w->disk))
		sched_fail(w, "%s", so_text(w->so));
	open_cache(w);
	check_runtime(w);
	sched_note("reads all after recovery");
	sched_read_all(w);
	verdict = so_recover(w->so, w->seen);
	if (verdict == SO_WRONG)
		sched_fail(w, "%s", so_text(w->so));
	if (verdict == SO_UNDECIDED) {
		w->run->result->undecided++;
		abandon(w);
		return;
	}
	so_flushed(w->so, so_stamp(w->so), true); /* what an open shows is an epoch of its own */
	if (w->lives) {
		sched_actors_run(w);
		read_and_check(w, "reads all");
		check_runtime(w);
		if (pc_rng_chance(&w->rng, 30)) {
			sched_note("drains");
			sched_drain(w);
		}
	}
	abandon(w);
}

/* Runs the coroutines of a world to their end. */
static void run_world(struct world *w, void (*life)(void *arg), uint64_t seed, enum sched_strategy strategy)
{
	struct run *run = w->run;
	const struct sched_settings settings = { .seed = seed,
						 .strategy = strategy,
						 .long_holds = w->depth == 0 && run->plan.storm,
						 .modes = run->plan.modes,
						 .scene = w->depth == 0 && run->plan.scene != SCENE_NONE,
						 .scene_point = run->plan.scene_point,
						 .scene_point_only = run->plan.scene == SCENE_TIGHT,
						 .trace = run->settings->trace };
	int rc;

	pc_sim_crash_at(w->sim, 0, at_fence, w);
	w->sched = sched_new(&settings, wants_cut, cut_power, w);
	(void)sched_start(w->sched, "main", life, w);
	rc = sched_run(w->sched);
	if (rc == -EDEADLK) {
		struct sched *sched = w->sched;

		sched_fail(w, "%s", sched_text(sched));
	}
	run->result->digest = pc_rng_mix(run->result->digest ^ sched_digest(w->sched));
	if (w->depth == 0)
		run->result->steps = sched_steps(w->sched);
	sched_free(w->sched);
	w->sched = NULL;
	w->cache = NULL; /* where it did not come to its end, it is lost */
}

/* A few threads that work on after a recovery. */
static void draw_later_life(struct world *w, struct plan *plan)
{
	plan->actor_nr = 1 + pc_rng_below(&w->rng, 3);
	for (uint32_t i = 0; i < plan->actor_nr; i++) {
		plan->kinds[i] = (enum actor_kind)pc_rng_below(&w->rng, ACTOR_KIND_NR);
		plan->op_nrs[i] = 1 + pc_rng_below(&w->rng, 4);
		plan->mixes[i] = pc_rng_below(&w->rng, 6);
	}
}

static void recover_state(struct world *child, uint64_t key)
{
	struct run *run = child->run;
	const struct sched_run_settings *settings = run->settings;
	struct plan plan = run->plan;

	run->result->states++;
	run->result->depth = PC_MAX(run->result->depth, child->depth);
	if (settings->trace)
		fprintf(stderr, "power cut %u: %s\n", child->depth, child->state);
	child->nonce.state = pc_rng_mix(key + 1);
	child->rng.state = pc_rng_mix(key + 2);
	child->memory = run->worlds[child->depth - 1].memory;
	child->lives = pc_rng_chance(&child->rng, 25);
	child->workers = child->lives && run->plan.workers;
	child->cuts_left = child->depth < settings->depth && (child->lives || pc_rng_chance(&child->rng, 10)) ? 6 : 0;
	child->image_nr = 2;
	if (child->lives)
		draw_later_life(child, &plan);
	else
		plan.actor_nr = 0;
	sched_actors_draw(child, &plan, key + 3);
	run_world(child, later_life, key + 4, (enum sched_strategy)pc_rng_below(&child->rng, SCHED_STRATEGY_NR));
	if (settings->states_max != 0 && run->result->states >= settings->states_max)
		run->enough = true;
}

/* ---- one seed -------------------------------------------------------------------------------------------------- */

static void set_option(struct run *run, int option, uint64_t value)
{
	if (pcache_config_set(run->config, option, value) != 0 ||
	    pcache_config_set(run->config_workers, option, value) != 0)
		abort();
}

static void config_init(struct run *run)
{
	const struct pc_gen_shape *shape = &run->shape;

	if (pcache_config_new(&run->config) != 0 || pcache_config_new(&run->config_workers) != 0)
		abort();
	set_option(run, PCACHE_OPT_BLOCK_BYTES, shape->block_bytes);
	set_option(run, PCACHE_OPT_SEGMENT_BYTES, shape->segment_bytes);
	set_option(run, PCACHE_OPT_DATA_CRC, shape->data_crc);
	set_option(run, PCACHE_OPT_GC_PERCENT, shape->gc_pct);
	set_option(run, PCACHE_OPT_ORDERING, shape->order_batch ? PCACHE_ORDERING_BATCH : PCACHE_ORDERING_STRICT);
	set_option(run, PCACHE_OPT_COMMIT, shape->commit_flush ? PCACHE_COMMIT_FLUSH : PCACHE_COMMIT_WRITE);
	set_option(run, PCACHE_OPT_COMMIT_GUARD, shape->guard_fence);
	set_option(run, PCACHE_OPT_READ_CACHE, shape->read_cache);
	set_option(run, PCACHE_OPT_FULL_POLICY, shape->full_error);
	set_option(run, PCACHE_OPT_WRITEBACK_DELAY_MS, run->plan.writeback_delay_ms);
	set_option(run, PCACHE_OPT_MAINTENANCE, PCACHE_MAINTENANCE_THREAD);
	if (pcache_config_set(run->config, PCACHE_OPT_MAINTENANCE, PCACHE_MAINTENANCE_CALLER) != 0)
		abort();
}

static void world_init(struct run *run, uint32_t depth)
{
	const struct pc_gen_shape *shape = &run->shape;
	struct world *w = &run->worlds[depth];
	const struct so_options oracle_options = { .block_nr = shape->backing_blk,
						   .block_bytes = shape->block_bytes,
						   .commit_flush = shape->commit_flush,
						   .order_batch = shape->order_batch || run->plan.modes };
	const struct mem_backing_options backing_options = { .size_bytes =
								     (uint64_t)shape->backing_blk * shape->block_bytes,
							     .block_bytes = shape->block_bytes,
							     .write_through = shape->write_through };

	w->run = run;
	w->depth = depth;
	w->tweaks = (struct pc_tweaks){ .shard_nr = shape->shard_nr,
					.pass_min_slots = 1,
					.pass_part_bytes = 4096,
					.stripe_bytes = shape->stripe_bytes,
					.data_head_nr = shape->data_head_nr,
					.replay_records = (shape->shard_nr + shape->data_head_nr) % 4,
					.kset_max_keys = shape->kset_max_keys,
					.share_quantum_blk = 1u << shape->backing_blk % 3,
					.nonce = draw_nonce,
					.nonce_user = w };
	if (depth == 0)
		w->so = so_new(&oracle_options);
	w->mb = must(mem_backing_create(&backing_options));
	mem_backing_observe(w->mb, at_backing, w);
	w->image = must(malloc(shape->media_bytes));
	w->backing_image = must(malloc(backing_options.size_bytes));
	w->seen = must(malloc(backing_options.size_bytes));
	if (pc_sim_new(shape->media_bytes, shape->page ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE,
		       pc_rng_mix(run->settings->seed) & 1 ? PC_SIM_STAGED : 0, &w->sim) != 0)
		abort();
}

static void world_fini(struct world *w)
{
	for (uint32_t i = 0; i < ACTOR_NR_MAX; i++)
		free(w->actors[i].buf);
	pc_sim_free(w->sim);
	mem_backing_destroy(w->mb);
	so_free(w->so);
	so_disk_fini(&w->disk);
	free(w->image);
	free(w->backing_image);
	free(w->seen);
}

static void first_world(struct run *run)
{
	struct world *w = &run->worlds[0];
	const uint64_t seed = run->settings->seed;
	struct pcache_backing *backing;

	so_fill(w->so, w->backing_image, 0, run->shape.backing_blk, 1);
	mem_backing_load(w->mb, w->backing_image);
	(void)so_disk_load(w->so, &w->disk, w->backing_image);
	w->nonce.state = pc_rng_mix(seed + 1);
	w->rng.state = pc_rng_mix(seed + 2);
	w->workers = run->plan.workers;
	w->cuts_left = run->settings->depth == 0 ? 0 : 100;
	w->image_nr = run->plan.scene == SCENE_NONE || run->plan.scene == SCENE_TIGHT ? 3 : 1;
	sched_actors_draw(w, &run->plan, seed + 3);
	backing = must(mem_backing_attach(w->mb));
	if (pc_cache_format_media(pc_sim_media(w->sim), run->config, &w->tweaks, backing) != 0)
		abort();
	pcache_backing_free(backing);
	run_world(w, first_life, seed + 4, run->plan.strategy);
}

void sched_run_seed(const struct sched_run_settings *settings, struct sched_run_result *out_result)
{
	struct run *run = must(calloc(1, sizeof(*run)));

	memset(out_result, 0, sizeof(*out_result));
	run->settings = settings;
	run->result = out_result;
	sched_plan_draw(settings->seed, &run->shape, &run->plan);
	config_init(run);
	current_run = run;
	for (uint32_t depth = 0; depth <= settings->depth; depth++)
		world_init(run, depth);
	first_world(run);
	current_run = NULL;
	/* After a violation coroutines stand in the middle of calls, with locks and memory: these worlds are left as they are. */
	for (uint32_t depth = 0; depth <= settings->depth && !out_result->failed; depth++)
		world_fini(&run->worlds[depth]);
	pcache_config_free(run->config);
	pcache_config_free(run->config_workers);
	free(run->images.slots);
	free(run->states.slots);
	free(run);
}

void sched_run_print_where(void)
{
	static char text[6000];

	for (uint32_t depth = 0; current_run != NULL && depth <= current_run->settings->depth; depth++) {
		const struct world *w = &current_run->worlds[depth];

		if (w->sched == NULL)
			break;
		if (depth > 0 &&
		    (write(STDERR_FILENO, w->state, strlen(w->state)) < 0 || write(STDERR_FILENO, "\n", 1) < 0))
			return;
		sched_describe(w->sched, text, sizeof(text));
		if (write(STDERR_FILENO, text, strlen(text)) < 0 || write(STDERR_FILENO, "\n", 1) < 0)
			return;
	}
}

#endif
