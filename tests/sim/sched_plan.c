/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a seed of the scheduler simulator draws: the cache, its threads, how they are scheduled, and where the power fails.
 *
 * Half of the seeds are scenes. Some mistakes show only where nothing is left: a segment that is freed too early comes last in a list that others take from first, room that is shown
 * too early is used only where there is no other. A scene fills the cache before its threads begin, and holds one of them at one point again and again, while others go on.
 */
#ifdef PC_PLANTS

#include <stdio.h>
#include <string.h>

#include "sim/sched_internal.h"

/* ---- storms ---------------------------------------------------------------------------------------------------- */

/* Few blocks are written again and again, so that segments are emptied, freed and taken while somebody stands still. */
static void draw_storm(struct pc_rng *rng, struct plan *plan)
{
	static const enum actor_kind kinds[] = { ACTOR_READER, ACTOR_WRITER, ACTOR_STEPPER, ACTOR_FLUSHER };

	plan->storm = true;
	plan->narrow = true;
	plan->strategy = SCHED_HOLD;
	plan->cut_per_10000 = 20;
	plan->actor_nr = 4 + pc_rng_below(rng, ACTOR_NR_MAX - 3);
	for (uint32_t i = 0; i < plan->actor_nr; i++) {
		plan->kinds[i] = i < PC_ARRAY_NR(kinds) ? kinds[i] : (enum actor_kind)pc_rng_below(rng, ACTOR_KIND_NR);
		plan->op_nrs[i] = 60 + pc_rng_below(rng, 60);
		plan->mixes[i] = pc_rng_chance(rng, 40) ? 5 : pc_rng_below(rng, 6);
	}
}

/* ---- scenes ---------------------------------------------------------------------------------------------------- */

/* A cache of a dozen segments, which take a page each or two, and of which the log has up to four. */
static void draw_scene_shape(struct pc_rng *rng, enum scene scene, struct pc_gen_shape *shape)
{
	const uint32_t segment_nr = 10 + pc_rng_below(rng, 4);
	const uint32_t record_bytes = PC_ROUND_UP(segment_nr * 64, 4096u);
	uint32_t segment_blk;

	shape->block_bytes = pc_rng_chance(rng, 60) ? 512 : 4096;
	shape->segment_bytes = shape->block_bytes == 512 ? 4096 : 4096u << pc_rng_below(rng, 2);
	segment_blk = shape->segment_bytes / shape->block_bytes;
	shape->media_bytes = PC_ROUND_UP(2 * 4096 + record_bytes, shape->segment_bytes) +
			     segment_nr * shape->segment_bytes + record_bytes + 2 * 4096;
	shape->backing_blk = PC_MAX(16u, scene == SCENE_TINY ? 4 * segment_blk : segment_nr * segment_blk);
	shape->page = pc_rng_chance(rng, scene == SCENE_FULL ? 60 : 30);
	shape->byte = !shape->page && pc_rng_chance(rng, 15);
	shape->commit_flush = pc_rng_chance(rng, shape->page ? 80 : 25);
	shape->order_batch = pc_rng_chance(rng, 45);
	shape->warm_nr = pc_rng_chance(rng, 50) ? 0 : pc_rng_below(rng, 40);
}

/* Between a look and what relies on it, and while something is in memory and not yet on the media, or the reverse. */
static enum pc_yield_point draw_scene_point(struct pc_rng *rng, enum scene scene)
{
	static const enum pc_yield_point log_points[] = { PC_YIELD_LOG_EXTENDED, PC_YIELD_LOG_EXTENDED,
							  PC_YIELD_LOG_TAIL_STORED, PC_YIELD_CLEAN_SWEPT,
							  PC_YIELD_SPACE_MADE };
	static const enum pc_yield_point tiny_points[] = { PC_YIELD_LOG_PUBLISHED, PC_YIELD_LOG_PUBLISHED,
							   PC_YIELD_FLUSH_ANNOUNCED, PC_YIELD_FLUSH_RESERVED };
	static const enum pc_yield_point points[] = {
		PC_YIELD_LOG_LOW,         PC_YIELD_LOG_PADDED,    PC_YIELD_SEG_POPPED,     PC_YIELD_SEG_RECORD,
		PC_YIELD_SEG_RAISED,      PC_YIELD_WRITE_ROOM,    PC_YIELD_WRITE_RESERVED, PC_YIELD_WRITE_DONE,
		PC_YIELD_FLUSH_MARKED,    PC_YIELD_FLUSH_SYNCING, PC_YIELD_SYNC,           PC_YIELD_WB_LIMIT,
		PC_YIELD_WB_PINNED,       PC_YIELD_WB_FLUSHED,    PC_YIELD_WB_TAIL,        PC_YIELD_EVICT_PICKED,
		PC_YIELD_RECLAIM_CHECKED, PC_YIELD_READ_FOUND,    PC_YIELD_PEEK_FOUND,
	};

	if (pc_rng_chance(rng, 20))
		return (enum pc_yield_point)(PC_YIELD_FENCE + pc_rng_below(rng, PC_YIELD_HELD - PC_YIELD_FENCE));
	if (scene == SCENE_LOG_FULL && pc_rng_chance(rng, 70))
		return log_points[pc_rng_below(rng, PC_ARRAY_NR(log_points))];
	if (scene == SCENE_TINY && pc_rng_chance(rng, 60))
		return tiny_points[pc_rng_below(rng, PC_ARRAY_NR(tiny_points))];
	return points[pc_rng_below(rng, PC_ARRAY_NR(points))];
}

/* A cache that is full before the threads begin, threads that do not wait for room, and somebody who is held at one point while others end some calls. */
static void draw_scene(struct pc_rng *rng, struct pc_gen_shape *shape, struct plan *plan)
{
	static const enum actor_kind kinds[SCENE_DRAWN_NR][ACTOR_NR_MAX] = {
		[SCENE_TINY] = { ACTOR_WRITER, ACTOR_STEPPER, ACTOR_FLUSHER, ACTOR_WRITER, ACTOR_MIXED },
		[SCENE_FULL] = { ACTOR_WRITER, ACTOR_STEPPER, ACTOR_WRITER, ACTOR_FLUSHER, ACTOR_READER },
		[SCENE_LOG_FULL] = { ACTOR_WRITER, ACTOR_STEPPER, ACTOR_FLUSHER, ACTOR_STEPPER, ACTOR_WRITER },
	};
	static const uint32_t mixes[] = { 0, 1, 2, 4, 5, 5, 6, 6 };

	plan->scene = (enum scene)(SCENE_TINY + pc_rng_below(rng, SCENE_DRAWN_NR - SCENE_TINY));
	draw_scene_shape(rng, plan->scene, shape);
	plan->scene_point = draw_scene_point(rng, plan->scene);
	plan->scene_clean = pc_rng_chance(rng, 50);
	plan->nowait_pct = pc_rng_chance(rng, 70) ? 90 : 10;
	plan->workers = pc_rng_chance(rng, 10);
	plan->storm = false;
	plan->narrow = pc_rng_chance(rng, 70);
	plan->short_ranges = plan->scene != SCENE_FULL && pc_rng_chance(rng, 70);
	plan->strategy = SCHED_HOLD;
	plan->cut_per_10000 = 30;
	plan->actor_nr = 3 + pc_rng_below(rng, ACTOR_NR_MAX - 2);
	for (uint32_t i = 0; i < plan->actor_nr; i++) {
		plan->kinds[i] = pc_rng_chance(rng, 80) ? kinds[plan->scene][i]
							: (enum actor_kind)pc_rng_below(rng, ACTOR_KIND_NR);
		plan->op_nrs[i] = 20 + pc_rng_below(rng, 80);
		plan->mixes[i] = mixes[pc_rng_below(rng, plan->kinds[i] == ACTOR_READER ? 4 : PC_ARRAY_NR(mixes))];
	}
}

/*
 * Worker threads beside writers who wait: a cache in which they are slowed down all the time, and often stopped, for room and for positions. What is found here is a wait that nobody ends.
 */
static void draw_slow(struct pc_rng *rng, struct pc_gen_shape *shape, struct plan *plan)
{
	static const enum actor_kind kinds[] = { ACTOR_WRITER, ACTOR_WRITER, ACTOR_FLUSHER, ACTOR_MIXED, ACTOR_WRITER };

	draw_scene_shape(rng, SCENE_SLOW, shape);
	shape->media_bytes += (4 + pc_rng_below(rng, 8)) * shape->segment_bytes;
	shape->backing_blk *= 2;
	plan->scene = SCENE_SLOW;
	plan->scene_point = draw_scene_point(rng, SCENE_SLOW);
	plan->scene_clean = pc_rng_chance(rng, 30);
	plan->nowait_pct = pc_rng_chance(rng, 50) ? 0 : 10;
	plan->workers = true;
	plan->storm = false;
	plan->narrow = pc_rng_chance(rng, 30);
	plan->short_ranges = pc_rng_chance(rng, 30);
	plan->cut_per_10000 = 10;
	plan->actor_nr = 2 + pc_rng_below(rng, ACTOR_NR_MAX - 1);
	for (uint32_t i = 0; i < plan->actor_nr; i++) {
		plan->kinds[i] = kinds[i];
		plan->op_nrs[i] = 30 + pc_rng_below(rng, 80);
		plan->mixes[i] = pc_rng_below(rng, 4);
	}
}

/* What stands still in a tight scene: somebody with a lock of the index, or with what he has found in it; before a sync; between an epoch and a position. */
static enum pc_yield_point draw_tight_point(struct pc_rng *rng, const struct pc_gen_shape *shape)
{
	static const enum pc_yield_point points[] = { PC_YIELD_WRITE_STORED, PC_YIELD_WRITE_STORED, PC_YIELD_FENCE,
						      PC_YIELD_WRITE_FENCED, PC_YIELD_PEEK_FOUND,   PC_YIELD_PEEK_BEGUN,
						      PC_YIELD_READ_FOUND };
	static const enum pc_yield_point page_points[] = { PC_YIELD_SYNC,          PC_YIELD_SEG_POPPED,
							   PC_YIELD_SEG_RECORD,    PC_YIELD_WRITE_ROOM,
							   PC_YIELD_FLUSH_SYNCED,  PC_YIELD_FLUSH_SYNCED,
							   PC_YIELD_FLUSH_SYNCING, PC_YIELD_RECLAIM_CHECKED };
	static const enum pc_yield_point strict_points[] = { PC_YIELD_LOG_PUBLISHED, PC_YIELD_LOG_PUBLISHED,
							     PC_YIELD_FLUSH_ANNOUNCED, PC_YIELD_FLUSH_RESERVED };

	if (shape->page)
		return page_points[pc_rng_below(rng, PC_ARRAY_NR(page_points))];
	if (!shape->order_batch)
		return strict_points[pc_rng_below(rng, PC_ARRAY_NR(strict_points))];
	return points[pc_rng_below(rng, PC_ARRAY_NR(points))];
}

static bool at_reading(enum pc_yield_point point)
{
	return point == PC_YIELD_PEEK_BEGUN || point == PC_YIELD_PEEK_FOUND || point == PC_YIELD_READ_FOUND;
}

static bool at_flushing(enum pc_yield_point point)
{
	return point == PC_YIELD_FLUSH_SYNCING || point == PC_YIELD_FLUSH_SYNCED || point == PC_YIELD_SYNC;
}

/*
 * A cache with hardly more segments than chunks, which are overwritten one at a time: nearly each overwrite empties a segment, and it is taken again a few writes later. Segments of one chunk
 * take the long way of a write, the second chunk of a segment the short one. Where epochs are kept apart, what is overwritten is held, and write-back has to go on.
 */
static void draw_tight(struct pc_rng *rng, struct pc_gen_shape *shape, struct plan *plan)
{
	static const enum actor_kind kinds[] = { ACTOR_MIXED, ACTOR_MIXED, ACTOR_WRITER, ACTOR_MIXED, ACTOR_READER };
	const uint32_t segment_nr = 10 + pc_rng_below(rng, 3), kind = pc_rng_below(rng, 10);

	shape->block_bytes = pc_rng_chance(rng, 50) ? 512 : PC_CHUNK_BYTES;
	shape->segment_bytes = PC_CHUNK_BYTES << pc_rng_chance(rng, 70);
	shape->media_bytes = PC_ROUND_UP(3 * 4096, shape->segment_bytes) + segment_nr * shape->segment_bytes + 3 * 4096;
	shape->backing_blk = (segment_nr - 4 - pc_rng_below(rng, 2)) * (PC_CHUNK_BYTES / shape->block_bytes);
	shape->shard_nr = 4;
	shape->stripe_bytes = PC_CHUNK_BYTES;
	shape->data_head_nr = 1;
	shape->data_crc = pc_rng_chance(rng, 50);
	shape->page = shape->commit_flush = kind < 2;
	shape->byte = shape->guard_fence = false;
	shape->order_batch = kind < 2 || kind >= 4;
	shape->warm_nr = 0;
	plan->scene = SCENE_TIGHT;
	plan->scene_point = draw_tight_point(rng, shape);
	plan->scene_clean = false;
	plan->nowait_pct = 100;
	plan->workers = false;
	plan->storm = false;
	plan->narrow = false;
	plan->short_ranges = false;
	plan->whole_chunks = true;
	plan->strategy = SCHED_HOLD;
	plan->cut_per_10000 = 30;
	plan->actor_nr = 4 + pc_rng_below(rng, ACTOR_NR_MAX - 3);
	for (uint32_t i = 0; i < plan->actor_nr; i++) {
		plan->kinds[i] = kinds[i];
		if (i % 2 == 0 && at_reading(plan->scene_point))
			plan->kinds[i] = ACTOR_READER;
		else if (i % 2 == 0 && at_flushing(plan->scene_point))
			plan->kinds[i] = ACTOR_FLUSHER;
		plan->op_nrs[i] = 30 + pc_rng_below(rng, 60);
		plan->mixes[i] = plan->kinds[i] == ACTOR_READER ? 3 : shape->page ? 5 : shape->order_batch ? 6 : i % 2;
	}
}

/* ---- plans ----------------------------------------------------------------------------------------------------- */

void sched_plan_draw(uint64_t seed, struct pc_gen_shape *shape, struct plan *plan)
{
	static const uint32_t rates[] = { 20, 60, 200, 600 };
	bool long_life;
	struct pc_rng rng = { pc_rng_mix(seed) };

	pc_gen_shape(&rng, shape);
	rng.state = pc_rng_mix(seed ^ UINT64_C(0xac70125));
	memset(plan, 0, sizeof(*plan));
	shape->faults = false;
	shape->old_cache = false;
	plan->workers = pc_rng_chance(&rng, 30);
	plan->writeback_delay_ms = pc_rng_chance(&rng, 60) ? 0 : 1;
	plan->strategy =
		(enum sched_strategy)(pc_rng_chance(&rng, 20) ? SCHED_HOLD : pc_rng_below(&rng, SCHED_STRATEGY_NR));
	long_life = pc_rng_chance(&rng, 25);
	plan->actor_nr = 2 + pc_rng_below(&rng, ACTOR_NR_MAX - 1);
	for (uint32_t i = 0; i < plan->actor_nr; i++) {
		plan->kinds[i] =
			(enum actor_kind)(pc_rng_chance(&rng, 30) ? ACTOR_WRITER : pc_rng_below(&rng, ACTOR_KIND_NR));
		plan->op_nrs[i] = 2 + pc_rng_below(&rng, long_life ? 50 : 12);
		plan->mixes[i] = pc_rng_below(&rng, 6);
	}
	plan->narrow = pc_rng_chance(&rng, 50);
	plan->cut_per_10000 = rates[pc_rng_below(&rng, PC_ARRAY_NR(rates))];
	if (pc_rng_chance(&rng, 12))
		draw_storm(&rng, plan);
	plan->focused = !plan->storm && pc_rng_chance(&rng, 40);
	plan->focus = (enum pc_yield_point)(PC_YIELD_FENCE + pc_rng_below(&rng, PC_YIELD_HELD - PC_YIELD_FENCE));
	if (seed % 4 >= 2)
		draw_scene(&rng, shape, plan);
	plan->modes = seed % 32 == 5 || seed % 32 == 9;
	if (plan->modes) {
		plan->narrow = true;
		plan->strategy = seed % 32 == 5 ? SCHED_HOLD : plan->strategy;
	}
	if (seed % 32 == 20)
		draw_slow(&rng, shape, plan);
	if (seed % 32 == 4 || seed % 32 == 12)
		draw_tight(&rng, shape, plan);
}

void sched_run_text(uint64_t seed, char *text, size_t text_bytes)
{
	static const char *const scenes[SCENE_NR] = { "", "tiny", "full", "log full", "slow", "tight" };
	static const char *const kinds[ACTOR_KIND_NR] = { "writer", "reader", "flusher", "stepper", "mixed" };
	struct pc_gen_shape shape;
	struct plan plan;
	size_t used;

	sched_plan_draw(seed, &shape, &plan);
	pc_gen_shape_to_text(&shape, text, text_bytes);
	used = strlen(text);
	used += (size_t)snprintf(text + used, text_bytes - used, "; %s, %s%s%s, cuts %u/10000%s%s;",
				 plan.workers ? "worker threads" : "steps by callers",
				 sched_strategy_name(plan.strategy),
				 plan.storm    ? ", storm"
				 : plan.narrow ? ", narrow"
					       : "",
				 plan.modes ? ", modes" : "", plan.cut_per_10000, plan.focused ? " and at " : "",
				 plan.focused ? sched_point_name(plan.focus) : "");
	if (plan.scene != SCENE_NONE)
		used += (size_t)snprintf(text + used, text_bytes - used, " scene %s%s, held at %s, no wait %u%%;",
					 scenes[plan.scene], plan.scene_clean ? " and clean" : "",
					 sched_point_name(plan.scene_point), plan.nowait_pct);
	for (uint32_t i = 0; i < plan.actor_nr && used < text_bytes; i++)
		used += (size_t)snprintf(text + used, text_bytes - used, " %s x %u", kinds[plan.kinds[i]],
					 plan.op_nrs[i]);
}

#endif
