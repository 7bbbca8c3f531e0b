/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Deterministic scheduler: simulated threads are coroutines on one thread of the system, and a seed says which of them runs next.
 *
 * The library's mutexes, conditions, clock, worker threads and spin loops go through the hooks of base/sched.h while a coroutine runs, so a coroutine that would wait lets
 * others run. Time is simulated: a step takes some microseconds, and where all wait for a deadline it jumps to the first. Where nobody can run and no deadline
 * is set, or no call ends for too long, sched_run says so, and what each coroutine waits for. Ranks of mutexes are checked for each coroutine.
 *
 * Several schedulers may exist: one whose coroutines are all suspended (in its step function) may be interrupted by the whole run of another.
 */
#ifndef PC_SIM_SCHED_CORO_H
#define PC_SIM_SCHED_CORO_H

#include "base/sched.h"
#include "base/types.h"

#define SCHED_CORO_NR_MAX 16u

enum sched_strategy {
	SCHED_RANDOM, /* any that can run */
	SCHED_PRIORITY, /* the highest of drawn priorities; at a few drawn steps the one that runs becomes the lowest */
	SCHED_RUN_ON, /* the same until it has to wait, or seldom another */
	SCHED_HOLD, /* who comes to a drawn yield point stays there while the others go on */
	SCHED_STRATEGY_NR, /* what is above is drawn */
	/* The first coroutine goes on alone to a visit of scene_point and stays there until no other can go on. */
	SCHED_SEQUENCE = SCHED_STRATEGY_NR
};

struct sched_settings {
	uint64_t seed;
	enum sched_strategy strategy;
	bool long_holds; /* SCHED_HOLD: long enough for segments to be used again, at points without a lock above all */
	bool modes; /* somebody is often held where a write goes around the cache */
	bool scene; /* SCHED_HOLD: until others have ended some calls, and often at scene_point */
	bool scene_point_only; /* and nowhere else */
	enum pc_yield_point scene_point;
	uint32_t hold_after; /* SCHED_SEQUENCE: visits before the one that counts */
	bool trace; /* print every step on stderr */
};

struct sched;

/* Called between two steps, with no coroutine running and pc_sched NULL, where wants_step said so. */
typedef void (*sched_step_fn)(void *user, enum pc_yield_point point);
/* Whether the step function is to be called at this step; cheap. */
typedef bool (*sched_wants_fn)(void *user, enum pc_yield_point point);

struct sched *sched_new(const struct sched_settings *settings, sched_wants_fn wants_step, sched_step_fn step,
			void *user);
void sched_free(struct sched *sched); /* also coroutines that have not ended; what they hold on the heap is lost */

/* Makes a coroutine; from a coroutine, or before sched_run. Returns its number. */
uint32_t sched_start(struct sched *sched, const char *name, void (*fn)(void *arg), void *arg);
/* 0: all have ended. -EDEADLK: nobody can run, or a rule was broken, see sched_text. -ECANCELED: sched_stop. */
int sched_run(struct sched *sched);
const char *sched_text(const struct sched *sched);

/* --- from a coroutine --- */

void sched_yield_at(enum pc_yield_point point); /* does nothing outside of one */
void sched_join(uint32_t number);
/* What the running coroutine is doing, for reports; text is copied. A call has ended: progress. */
void sched_note(const char *text);
/* Ends sched_run; the calling coroutine does not go on. From a step function it returns. */
void sched_stop(struct sched *sched);
uint32_t sched_self(void); /* number of the running coroutine */
/* The fence that the running coroutine is about to make is that of another one (a planted defect). */
void sched_fence_as_other(void);

/* --- figures --- */

bool sched_holds(const struct sched *sched); /* somebody is held */
bool sched_held_once(const struct sched *sched); /* SCHED_SEQUENCE: the visit that counts was made */
uint64_t sched_digest(const struct sched *sched); /* of all steps */
uint64_t sched_steps(const struct sched *sched);
uint64_t sched_switches(const struct sched *sched);
const char *sched_point_name(enum pc_yield_point point);
const char *sched_strategy_name(enum sched_strategy strategy);
/* The last steps and what each coroutine is doing, as text. */
void sched_describe(const struct sched *sched, char *text, size_t text_bytes);

#endif
