/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Actors of the scheduler simulator: coroutines that call the library as the threads of a program do, and tell the oracle when each call began and what it returned.
 *
 * No yield point lies between the stamp of the oracle and the call, so stamps are as close as they can be.
 */
#ifdef PC_PLANTS

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/sched_internal.h"

#define READ_BLK 16u
#define BLOCK_UNITS_MAX 4u
#define FILL_UNIT_NR_MAX 320u /* more than the log of such a cache has slots */

static const uint32_t allowed[ACTOR_KIND_NR] = {
	[ACTOR_WRITER] = 1u << PC_GEN_WRITE | 1u << PC_GEN_DURABLE | 1u << PC_GEN_BATCH | 1u << PC_GEN_DISCARD |
			 1u << PC_GEN_ZEROES,
	[ACTOR_READER] = 1u << PC_GEN_READ,
	[ACTOR_FLUSHER] = 1u << PC_GEN_FLUSH | 1u << PC_GEN_DURABLE,
	[ACTOR_STEPPER] = 1u << PC_GEN_WRITEBACK | 1u << PC_GEN_EVICT | 1u << PC_GEN_CLEAN | 1u << PC_GEN_MAINTAIN,
	[ACTOR_MIXED] = ((1u << PC_GEN_KIND_NR) - 1) & ~(1u << PC_GEN_REOPEN | 1u << PC_GEN_GOES),
};

/* --- drawing --- */

static bool overlaps(const struct pc_gen_range *a, const struct pc_gen_range *b)
{
	return a->blk < b->blk + b->len_blk && b->blk < a->blk + a->len_blk;
}

/* Around the cache, a write of several stripes that finds no room for the next has written the ones before. */
static uint32_t stripe_left(const struct pc_gen_shape *shape, uint32_t blk)
{
	const uint32_t stripe_blk = shape->stripe_bytes / shape->block_bytes;

	return stripe_blk - blk % stripe_blk;
}

/* Moves ranges into a few blocks, takes overlaps out of a batch, and cuts what would not be atomic. */
static void tame(struct actor *actor, struct pc_gen_op *op)
{
	const struct pc_gen_shape *shape = &actor->shape;
	const bool zero = op->kind == PC_GEN_DISCARD || op->kind == PC_GEN_ZEROES;
	const uint64_t max_bytes =
		zero ? (uint64_t)shape->stripe_bytes * shape->shard_nr : pcache_atomic_write_max(actor->w->cache);
	uint32_t left_blk = op->kind == PC_GEN_READ ? shape->backing_blk : (uint32_t)(max_bytes / shape->block_bytes);
	uint32_t kept_nr = 0;

	for (uint32_t i = 0; i < op->range_nr; i++) {
		struct pc_gen_range range = op->ranges[i];
		bool keep = true;

		if (actor->w->run->plan.narrow) {
			range.blk =
				(uint32_t)(actor->w->run->settings->seed % (shape->backing_blk / 2)) + range.blk % 10;
			range.len_blk = PC_MIN(1 + range.len_blk % 6, shape->backing_blk - range.blk);
		}
		if (actor->w->run->plan.whole_chunks) {
			range.len_blk = PC_CHUNK_BYTES / shape->block_bytes;
			range.blk = pc_rng_below(&actor->rng, shape->backing_blk / range.len_blk) * range.len_blk;
			if (zero)
				range.len_blk <<= pc_rng_below(&actor->rng, 3);
			range.len_blk = PC_MIN(range.len_blk, shape->backing_blk - range.blk);
		}
		if (actor->w->run->plan.short_ranges)
			range.len_blk = PC_MIN(range.len_blk, 1u);
		if (actor->w->run->plan.modes && (op->kind == PC_GEN_WRITE || op->kind == PC_GEN_DURABLE))
			range.len_blk = PC_MIN(PC_MIN(range.len_blk, BLOCK_UNITS_MAX), stripe_left(shape, range.blk));
		range.len_blk = PC_MIN(range.len_blk, left_blk);
		for (uint32_t j = 0; j < kept_nr; j++)
			keep &= !overlaps(&range, &op->ranges[j]);
		if (!keep || range.len_blk == 0)
			continue;
		left_blk -= range.len_blk;
		op->ranges[kept_nr++] = range;
	}
	op->range_nr = kept_nr;
}

static void draw_op(struct actor *actor, struct pc_gen_op *op)
{
	static const uint8_t modes[] = { PCACHE_MODE_WRITEAROUND,  PCACHE_MODE_WRITEAROUND, PCACHE_MODE_WRITEAROUND,
					 PCACHE_MODE_WRITEAROUND,  PCACHE_MODE_WRITEBACK,   PCACHE_MODE_WRITEBACK,
					 PCACHE_MODE_WRITETHROUGH, PCACHE_MODE_PASSTHROUGH, PCACHE_MODE_WRITEONLY };
	const bool steps = actor->kind == ACTOR_STEPPER && actor->w->workers;

	do
		pc_gen_op(&actor->rng, &actor->shape, &actor->w->memory, op);
	while (!steps && (allowed[actor->kind] >> op->kind & 1) == 0);
	if (steps)
		op->kind = PC_GEN_DRAIN;
	tame(actor, op);
	if (actor->w->run->plan.modes && pc_rng_chance(&actor->rng, 15))
		*op = (struct pc_gen_op){ .kind = PC_GEN_GOES,
					  .arg = modes[pc_rng_below(&actor->rng, PC_ARRAY_NR(modes))] };
}

void sched_actors_draw(struct world *w, const struct plan *plan, uint64_t seed)
{
	static const char letters[ACTOR_KIND_NR] = { 'w', 'r', 'f', 's', 'm' };

	w->actor_nr = plan->actor_nr;
	for (uint32_t i = 0; i < plan->actor_nr; i++) {
		struct actor *actor = &w->actors[i];
		uint8_t *buf = actor->buf;

		*actor = (struct actor){ .w = w, .kind = plan->kinds[i], .buf = buf, .shape = w->run->shape };
		snprintf(actor->name, sizeof(actor->name), "%c%u", letters[actor->kind], i + 1);
		actor->rng.state = pc_rng_mix(seed + i);
		actor->op_nr = plan->op_nrs[i];
		actor->shape.mix = plan->mixes[i];
		if (actor->buf == NULL)
			actor->buf = malloc((size_t)w->run->shape.backing_blk * w->run->shape.block_bytes * 2);
		if (actor->buf == NULL)
			abort();
	}
}

/* --- calls --- */

static bool op_failed(struct actor *actor, const char *what, int rc)
{
	if (rc >= 0)
		return false;
	sched_fail(actor->w, "%s gives %d: %s", what, rc, pcache_strerror(rc));
	return true;
}

static int call_unit(struct actor *actor, const struct pc_gen_op *op, const struct pcache_range *ranges, uint32_t flags)
{
	struct pcache *cache = actor->w->cache;

	switch (op->kind) {
	case PC_GEN_BATCH:
		return pcache_write_batch(cache, ranges, op->range_nr, flags);
	case PC_GEN_DISCARD:
		return pcache_discard(cache, ranges[0].off, ranges[0].len, flags);
	case PC_GEN_ZEROES:
		return pcache_write_zeroes(cache, ranges[0].off, ranges[0].len, flags);
	default:
		return pcache_write(cache, ranges[0].buf, ranges[0].off, ranges[0].len, flags);
	}
}

/* What the unit returned. */
static int do_unit(struct actor *actor, const struct pc_gen_op *op)
{
	struct world *w = actor->w;
	const uint64_t block_bytes = w->run->shape.block_bytes;
	const bool zero = op->kind == PC_GEN_DISCARD || op->kind == PC_GEN_ZEROES;
	uint32_t flags = op->kind == PC_GEN_DURABLE || (op->kind == PC_GEN_BATCH && op->arg != 0) ? PCACHE_DURABLE : 0;
	struct pcache_range ranges[PC_GEN_RANGE_NR_MAX];
	uint32_t versions[PC_GEN_RANGE_NR_MAX], units[BLOCK_UNITS_MAX], unit_nr = 1;
	/* Around the cache each block is all or nothing by itself. */
	const bool by_block = w->run->plan.modes && (op->kind == PC_GEN_WRITE || op->kind == PC_GEN_DURABLE);
	uint8_t *at = actor->buf;
	int rc;

	if ((op->kind == PC_GEN_WRITE && op->arg != 0) || actor->nowait)
		flags |= PCACHE_NOWAIT;
	for (uint32_t i = 0; i < op->range_nr; i++) {
		const struct pc_gen_range *range = &op->ranges[i];

		versions[i] = so_next_version(w->so);
		so_fill(w->so, at, range->blk, range->len_blk, versions[i]);
		ranges[i] = (struct pcache_range){ .buf = at,
						   .off = range->blk * block_bytes,
						   .len = range->len_blk * block_bytes };
		at += range->len_blk * block_bytes;
	}
	if (by_block) {
		unit_nr = op->ranges[0].len_blk;
		for (uint32_t i = 0; i < unit_nr; i++) {
			units[i] = so_begin(w->so);
			so_put(w->so, units[i], op->ranges[0].blk + i, 1, versions[0], zero);
		}
	} else {
		units[0] = so_begin(w->so);
		for (uint32_t i = 0; i < op->range_nr; i++)
			so_put(w->so, units[0], op->ranges[i].blk, op->ranges[i].len_blk, versions[i], zero);
	}
	rc = call_unit(actor, op, ranges, flags);
	if (rc == -EAGAIN && (flags & PCACHE_NOWAIT) && w->run->plan.modes)
		rc = PCACHE_E_FULL;
	if (rc != 0 && rc != PCACHE_E_FULL)
		(void)op_failed(actor, "a write", rc);
	for (uint32_t i = 0; i < unit_nr; i++)
		if (!so_end(w->so, units[i], rc == 0, (flags & PCACHE_DURABLE) != 0))
			sched_fail(w, "%s", so_text(w->so));
	return rc;
}

static void do_read(struct actor *actor, uint32_t blk, uint32_t len_blk, uint32_t flags)
{
	struct world *w = actor->w;
	const uint64_t block_bytes = w->run->shape.block_bytes;
	const uint64_t begin = so_stamp(w->so);
	const int rc = pcache_read(w->cache, actor->buf, blk * block_bytes, len_blk * block_bytes, flags);

	if (!op_failed(actor, "a read", rc) && !so_read(w->so, begin, blk, len_blk, actor->buf))
		sched_fail(w, "%s", so_text(w->so));
}

static void do_flush(struct actor *actor)
{
	const uint64_t begin = so_stamp(actor->w->so);
	const int rc = pcache_flush(actor->w->cache);

	if (!op_failed(actor, "a flush", rc))
		so_flushed(actor->w->so, begin, true);
}

void sched_drain(struct world *w)
{
	const uint64_t begin = so_stamp(w->so);
	const int rc = pcache_drain(w->cache, NULL, NULL);

	if (rc != 0)
		sched_fail(w, "a drain gives %d: %s", rc, pcache_strerror(rc));
	so_flushed(w->so, begin, false);
	if (!so_drained(w->so, begin, &w->disk))
		sched_fail(w, "after a drain: %s", so_text(w->so));
}

/* Busy: another changes it. */
static void set_mode(struct actor *actor, uint32_t mode)
{
	const int rc = pcache_option_set(actor->w->cache, PCACHE_OPT_MODE, mode);

	if (rc != -EBUSY)
		(void)op_failed(actor, "a change of the mode", rc);
}

static void do_op(struct actor *actor, const struct pc_gen_op *op)
{
	switch (op->kind) {
	case PC_GEN_FLUSH:
		do_flush(actor);
		break;
	case PC_GEN_READ:
		do_read(actor, op->ranges[0].blk, op->ranges[0].len_blk, op->arg);
		break;
	case PC_GEN_WRITEBACK:
		(void)op_failed(actor, "write-back", pc_cache_step(actor->w->cache, PC_STEP_WRITEBACK, op->arg != 0));
		break;
	case PC_GEN_EVICT:
		(void)op_failed(actor, "eviction", pc_cache_step(actor->w->cache, PC_STEP_EVICT, op->arg != 0));
		break;
	case PC_GEN_CLEAN:
		(void)op_failed(actor, "cleaning", pc_cache_step(actor->w->cache, PC_STEP_CLEAN, op->arg != 0));
		break;
	case PC_GEN_MAINTAIN:
		(void)op_failed(actor, "maintenance", pcache_maintain(actor->w->cache, op->arg));
		break;
	case PC_GEN_DRAIN:
		sched_drain(actor->w);
		break;
	case PC_GEN_GOES:
		set_mode(actor, op->arg);
		break;
	case PC_GEN_REOPEN:
		break;
	default:
		(void)do_unit(actor, op);
		break;
	}
}

void sched_ops_run(struct actor *actor)
{
	for (uint32_t i = 0; i < actor->op_nr; i++) {
		struct pc_gen_op op;
		char text[160];

		draw_op(actor, &op);
		if (op.range_nr == 0 && (op.kind == PC_GEN_READ || op.kind <= PC_GEN_BATCH ||
					 op.kind == PC_GEN_DISCARD || op.kind == PC_GEN_ZEROES))
			continue;
		pc_gen_op_to_text(&op, text, sizeof(text));
		sched_note(text);
		sched_yield_at(PC_YIELD_CALL);
		actor->nowait = actor->w->run->plan.nowait_pct != 0 &&
				pc_rng_chance(&actor->rng, actor->w->run->plan.nowait_pct);
		do_op(actor, &op);
		actor->w->run->result->calls++;
	}
	sched_note("done");
}

static void actor_main(void *arg)
{
	sched_ops_run(arg);
}

void sched_actors_run(struct world *w)
{
	for (uint32_t i = 0; i < w->actor_nr; i++)
		w->actors[i].coro = sched_start(w->sched, w->actors[i].name, actor_main, &w->actors[i]);
	for (uint32_t i = 0; i < w->actor_nr; i++)
		sched_join(w->actors[i].coro);
}

/* One range after the other until there is no room. */
static void fill_with(struct actor *actor, enum pc_gen_kind kind, uint32_t unit_nr, uint32_t len_blk)
{
	const uint32_t backing_blk = actor->shape.backing_blk;
	uint32_t blk = 0;

	actor->nowait = true;
	for (uint32_t i = 0; i < unit_nr; i++) {
		const struct pc_gen_op op = { .kind = kind,
					      .range_nr = 1,
					      .ranges = { { blk, PC_MIN(len_blk, backing_blk - blk) } } };

		if (do_unit(actor, &op) != 0)
			break;
		blk = (blk + op.ranges[0].len_blk) % backing_blk;
	}
}

void sched_fill(struct actor *actor)
{
	const struct plan *plan = &actor->w->run->plan;
	const struct pc_gen_shape *shape = &actor->shape;
	const uint32_t segment_blk = shape->segment_bytes / shape->block_bytes;

	sched_note("fills the cache");
	if (plan->scene == SCENE_TIGHT) {
		/* All of it dirty and of one epoch: what is overwritten is free at once. */
		fill_with(actor, PC_GEN_WRITE, shape->backing_blk, PC_CHUNK_BYTES / shape->block_bytes);
		return;
	}
	if (plan->scene == SCENE_FULL || plan->scene == SCENE_SLOW || plan->scene_clean)
		fill_with(actor, PC_GEN_WRITE, shape->backing_blk, 1 + pc_rng_below(&actor->rng, segment_blk));
	if (plan->scene_clean)
		sched_drain(actor->w);
	else if (pc_rng_chance(&actor->rng, 70))
		do_flush(actor);
	if (plan->scene == SCENE_LOG_FULL)
		fill_with(actor, PC_GEN_DISCARD, FILL_UNIT_NR_MAX, 1);
	else if (plan->scene == SCENE_FULL && plan->scene_clean)
		fill_with(actor, PC_GEN_WRITE, pc_rng_below(&actor->rng, shape->backing_blk), 1);
}

void sched_read_all(struct world *w)
{
	const struct pc_gen_shape *shape = &w->run->shape;

	for (uint32_t blk = 0; blk < shape->backing_blk; blk += READ_BLK) {
		const uint32_t len_blk = PC_MIN(READ_BLK, shape->backing_blk - blk);
		uint8_t *to = w->seen + (size_t)blk * shape->block_bytes;
		const int rc = pcache_read(w->cache, to, (uint64_t)blk * shape->block_bytes,
					   (uint64_t)len_blk * shape->block_bytes, PCACHE_NOCACHE);

		if (rc != 0)
			sched_fail(w, "read [%u,+%u) gives %d: %s", blk, len_blk, rc, pcache_strerror(rc));
	}
}

#endif
