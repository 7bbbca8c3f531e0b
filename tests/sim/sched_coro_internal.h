/* SPDX-License-Identifier: BSD-3-Clause */
/* The state of a scheduler; private to tests/sim/sched_coro.c, sched_pick.c and sched_report.c. */
#ifndef PC_SIM_SCHED_CORO_INTERNAL_H
#define PC_SIM_SCHED_CORO_INTERNAL_H

#include <ucontext.h>

#include "sim/generator.h"
#include "sim/sched_coro.h"

#if defined(__SANITIZE_ADDRESS__)
#define ON_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ON_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define ON_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ON_TSAN 1
#endif
#endif

#define SPIN_ROUNDS 3u
#define SPINS_OF_PRIORITY 64u
#define HELD_MAX 96u
#define RECENT_NR 48u
#define CHANGE_NR_MAX 6u

enum coro_state { CORO_READY, CORO_MUTEX, CORO_COND, CORO_SPIN, CORO_JOIN, CORO_ENDED };

struct coro {
	struct sched *sched;
	uint32_t number;
	char name[24];
	char note[160];
	enum coro_state state;
	enum pc_yield_point point; /* where it is */
	const void *waits_for; /* mutex or condition */
	uint32_t waits_order;
	uint32_t joins;
	uint64_t deadline_ns;
	bool woken;
	uint64_t own_progress;
	uint64_t spin_seen; /* progress of others at its last round of a spin */
	uint32_t spin_rounds; /* without any */
	uint32_t spin_nr; /* spins since a call of anybody ended, at spin_calls calls */
	uint64_t spin_calls;
	uint64_t priority;
	uint32_t held_orders[HELD_MAX];
	uint32_t held_nr;
	void (*fn)(void *arg);
	void *(*thread_fn)(void *arg);
	void *arg;
	void *stack;
	ucontext_t context;
#ifdef ON_ASAN
	void *fake_stack;
#endif
#ifdef ON_TSAN
	void *fiber;
#endif
};

struct recent {
	uint32_t number;
	enum pc_yield_point point;
};

struct sched {
	struct sched_settings settings;
	sched_wants_fn wants_step;
	sched_step_fn step_fn;
	void *user;
	struct pc_rng rng;
	struct coro coros[SCHED_CORO_NR_MAX];
	uint32_t coro_nr;
	struct coro *running;
	struct coro *next;
	bool step_wanted;
	bool stop;
	bool failed;
	uint64_t now_ns;
	uint64_t steps;
	uint64_t switches;
	uint64_t progress;
	uint64_t last_end_step; /* of a call */
	uint64_t digest;
	uint64_t lowest_priority;
	uint64_t change_steps[CHANGE_NR_MAX];
	uint32_t switch_pct;
	bool spurious; /* conditions wake waiters for no reason at times */
	enum pc_yield_point hold_point;
	uint32_t hold_after; /* visits of the point before somebody is held */
	struct coro *held;
	bool held_once; /* SCHED_SEQUENCE */
	uint64_t hold_until; /* step */
	uint64_t hold_until_calls; /* of a scene, or this many calls */
	uint64_t calls; /* that have ended */
	struct recent recent[RECENT_NR];
	char text[3000];
	ucontext_t main_context;
#ifdef ON_ASAN
	void *main_fake_stack;
	const void *main_bottom;
	size_t main_bytes;
#endif
#ifdef ON_TSAN
	void *main_fiber;
#endif
};

/* sched_pick.c: the coroutine that goes on; NULL: nobody can. */
struct coro *sched_pick(struct sched *sched);
/* Draws the next point at which somebody is held. */
void sched_draw_hold(struct sched *sched);

#endif
