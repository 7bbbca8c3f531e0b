/* SPDX-License-Identifier: BSD-3-Clause */
/* Who of the coroutines of a scheduler goes on, by the strategy of the seed. See sched_coro.h. */
#include "sim/sched_coro_internal.h"

#ifdef PC_PLANTS

#define SCENE_HOLD_STEPS 100000u /* should no call end */

static bool can_run(const struct sched *sched, const struct coro *coro)
{
	switch (coro->state) {
	case CORO_READY:
		return true;
	case CORO_COND:
		return coro->woken || coro->deadline_ns <= sched->now_ns;
	case CORO_SPIN:
		/* What it waits for may have come before it began to spin. */
		return coro->spin_rounds < SPIN_ROUNDS || coro->spin_seen != sched->progress - coro->own_progress;
	default:
		return false;
	}
}

void sched_draw_hold(struct sched *sched)
{
	/* Between a look and what relies on it. */
	static const enum pc_yield_point gaps[] = {
		PC_YIELD_READ_FOUND,      PC_YIELD_READ_FOUND,    PC_YIELD_WB_LIMIT,        PC_YIELD_WB_LOOKED_UP,
		PC_YIELD_WB_PINNED,       PC_YIELD_WB_COLLECTED,  PC_YIELD_SEG_POPPED,      PC_YIELD_SEG_RECORD,
		PC_YIELD_WRITE_ROOM,      PC_YIELD_FILL_READ,     PC_YIELD_FILL_ROOM,       PC_YIELD_EVICT_PICKED,
		PC_YIELD_RECLAIM_CHECKED, PC_YIELD_LOG_LOW,       PC_YIELD_LOG_PUBLISHED,   PC_YIELD_WB_SWEPT,
		PC_YIELD_LOG_PUBLISHED,   PC_YIELD_LOG_PUBLISHED, PC_YIELD_FLUSH_ANNOUNCED, PC_YIELD_WB_TAIL,
		PC_YIELD_CLEAN_SWEPT,     PC_YIELD_PEEK_FOUND,    PC_YIELD_PEEK_FOUND,
	};
	/* The range is held, or somebody does not know the mode yet. */
	static const enum pc_yield_point modes[] = { PC_YIELD_HELD, PC_YIELD_AROUND_WRITTEN, PC_YIELD_MODE_STORED,
						     PC_YIELD_WRITE_ROOM, PC_YIELD_FILL_READ };

	sched->hold_point =
		(enum pc_yield_point)(PC_YIELD_FENCE + pc_rng_below(&sched->rng, PC_YIELD_HELD - PC_YIELD_FENCE));
	if (sched->settings.long_holds && pc_rng_chance(&sched->rng, 75))
		sched->hold_point = gaps[pc_rng_below(&sched->rng, PC_ARRAY_NR(gaps))];
	if (sched->settings.modes && pc_rng_chance(&sched->rng, 60))
		sched->hold_point = modes[pc_rng_below(&sched->rng, PC_ARRAY_NR(modes))];
	if (sched->settings.scene && (pc_rng_chance(&sched->rng, 75) || sched->settings.scene_point_only))
		sched->hold_point = sched->settings.scene_point;
	sched->hold_after = pc_rng_chance(&sched->rng, 50) ? 0 : pc_rng_below(&sched->rng, 6);
	if (sched->settings.scene)
		sched->hold_after = pc_rng_below(&sched->rng, 1u << pc_rng_below(&sched->rng, 4));
}

static bool hold_is_over(const struct sched *sched)
{
	return sched->held->state == CORO_ENDED || sched->steps >= sched->hold_until ||
	       sched->calls >= sched->hold_until_calls;
}

static void hold(struct sched *sched, struct coro *coro)
{
	sched->held = coro;
	sched->hold_until_calls = UINT64_MAX;
	if (sched->settings.scene) {
		sched->hold_until = sched->steps + SCENE_HOLD_STEPS;
		/* Half of the time until nobody else can go on. */
		if (pc_rng_chance(&sched->rng, 50))
			sched->hold_until_calls =
				sched->calls + 1 + pc_rng_below(&sched->rng, 2u << pc_rng_below(&sched->rng, 6));
	} else if (sched->settings.long_holds) {
		sched->hold_until = sched->steps + (UINT64_C(1024) << pc_rng_below(&sched->rng, 6));
	} else {
		sched->hold_until = sched->steps + (UINT64_C(8) << pc_rng_below(&sched->rng, 11));
	}
}

/* The one hold of a sequence: it ends when nobody else can go on. */
static void hold_of_sequence(struct sched *sched)
{
	struct coro *running = sched->running;

	if (sched->held_once || running == NULL || running->number != 0 || running->state != CORO_READY ||
	    running->point != sched->settings.scene_point)
		return;
	if (sched->hold_after > 0) {
		sched->hold_after--;
		return;
	}
	sched->held_once = true;
	sched->held = running;
}

static void look_at_hold(struct sched *sched)
{
	struct coro *running = sched->running;

	if (sched->settings.strategy == SCHED_SEQUENCE) {
		hold_of_sequence(sched);
		return;
	}
	if (sched->held != NULL && hold_is_over(sched)) {
		sched->held = NULL;
		sched_draw_hold(sched);
	}
	if (sched->settings.strategy != SCHED_HOLD || sched->held != NULL || running == NULL ||
	    running->point != sched->hold_point || running->state != CORO_READY)
		return;
	if (sched->hold_after > 0) {
		sched->hold_after--;
		return;
	}
	hold(sched, running);
}

static uint32_t list_eligible(struct sched *sched, struct coro **out)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < sched->coro_nr; i++) {
		if (can_run(sched, &sched->coros[i]) && &sched->coros[i] != sched->held)
			out[nr++] = &sched->coros[i];
	}
	if (nr == 0 && sched->held != NULL) {
		struct coro *held = sched->held;

		sched->held = NULL;
		sched_draw_hold(sched);
		if (can_run(sched, held))
			out[nr++] = held;
	}
	return nr;
}

/* Some conditions wake somebody for no reason; programs must bear it. Not always, or a wake-up that is missing would never show. */
static void wake_spuriously(struct sched *sched)
{
	struct coro *coro;

	if (!sched->spurious)
		return;
	coro = &sched->coros[pc_rng_below(&sched->rng, sched->coro_nr)];
	if (coro->state == CORO_COND && pc_rng_chance(&sched->rng, 2))
		coro->woken = true;
}

static struct coro *highest(struct coro *const *coros, uint32_t nr)
{
	struct coro *best = coros[0];

	for (uint32_t i = 1; i < nr; i++) {
		if (coros[i]->priority > best->priority)
			best = coros[i];
	}
	return best;
}

static struct coro *choose(struct sched *sched, struct coro *const *coros, uint32_t nr)
{
	struct coro *running = sched->running;
	bool stays = running != NULL && can_run(sched, running) && running != sched->held;

	if (nr == 1)
		return coros[0];
	switch (sched->settings.strategy) {
	case SCHED_PRIORITY:
		for (uint32_t i = 0; i < CHANGE_NR_MAX; i++) {
			if (sched->change_steps[i] == sched->steps && running != NULL)
				running->priority = --sched->lowest_priority;
		}
		return highest(coros, nr);
	case SCHED_RUN_ON:
	case SCHED_HOLD:
		if (stays && !pc_rng_chance(&sched->rng, sched->switch_pct))
			return running;
		break;
	case SCHED_SEQUENCE:
		return coros[0];
	default:
		break;
	}
	return coros[pc_rng_below(&sched->rng, nr)];
}

struct coro *sched_pick(struct sched *sched)
{
	struct coro *coros[SCHED_CORO_NR_MAX];
	uint64_t first_ns = UINT64_MAX;
	uint32_t nr;

	look_at_hold(sched);
	nr = list_eligible(sched, coros);
	if (nr > 0) {
		wake_spuriously(sched);
		return choose(sched, coros, nr);
	}
	for (uint32_t i = 0; i < sched->coro_nr; i++) {
		if (sched->coros[i].state == CORO_COND)
			first_ns = PC_MIN(first_ns, sched->coros[i].deadline_ns);
	}
	if (first_ns == UINT64_MAX)
		return NULL;
	sched->now_ns = PC_MAX(sched->now_ns, first_ns);
	nr = list_eligible(sched, coros);
	return nr > 0 ? choose(sched, coros, nr) : NULL;
}

#endif
