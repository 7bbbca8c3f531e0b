/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Deterministic scheduler, see sched_coro.h. Only in objects built with PC_PLANTS; elsewhere this file is empty.
 *
 * A coroutine decides at each yield point itself who runs next, and goes back to the loop of sched_run only if that is another one, or if the step function is wanted.
 * The sanitizers are told of every change of stacks.
 */
#include "sim/sched_coro_internal.h"

#ifdef PC_PLANTS

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/lock.h"
#include "sim/sim_media.h"

#ifdef ON_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef ON_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#define STACK_BYTES (512u << 10)
#define GUARD_BYTES 4096u
#define STALE_STEPS_MAX 400000u /* without the end of any call */

static struct sched *current; /* whose coroutine runs now */

/* ---- stacks --------------------------------------------------------------------------------------------------- */

static void *stack_pool[64];
static uint32_t stack_pool_nr;

static void *stack_get(void)
{
	uint8_t *base;

	if (stack_pool_nr > 0)
		return stack_pool[--stack_pool_nr];
	base = mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK,
		    -1, 0);
	if (base == MAP_FAILED || mprotect(base, GUARD_BYTES, PROT_NONE) != 0)
		abort();
	return base + GUARD_BYTES;
}

static void stack_put(void *stack)
{
	if (stack_pool_nr < PC_ARRAY_NR(stack_pool))
		stack_pool[stack_pool_nr++] = stack;
	else
		(void)munmap((uint8_t *)stack - GUARD_BYTES, STACK_BYTES + GUARD_BYTES);
}

/* ---- switching ------------------------------------------------------------------------------------------------- */

/* From the running coroutine to the loop. ends: it never comes back. */
static void to_main(struct sched *sched, struct coro *from, bool ends)
{
#ifdef ON_ASAN
	__sanitizer_start_switch_fiber(ends ? NULL : &from->fake_stack, sched->main_bottom, sched->main_bytes);
#endif
#ifdef ON_TSAN
	__tsan_switch_to_fiber(sched->main_fiber, 0);
#endif
	(void)ends;
	(void)swapcontext(&from->context, &sched->main_context);
#ifdef ON_ASAN
	__sanitizer_finish_switch_fiber(from->fake_stack, &sched->main_bottom, &sched->main_bytes);
#endif
}

static void coro_main(void)
{
	struct sched *sched = current;
	struct coro *coro = sched->running;

#ifdef ON_ASAN
	__sanitizer_finish_switch_fiber(NULL, &sched->main_bottom, &sched->main_bytes);
#endif
	if (coro->thread_fn)
		(void)coro->thread_fn(coro->arg);
	else
		coro->fn(coro->arg);
	coro->state = CORO_ENDED;
	for (uint32_t i = 0; i < sched->coro_nr; i++) {
		if (sched->coros[i].state == CORO_JOIN && sched->coros[i].joins == coro->number)
			sched->coros[i].state = CORO_READY;
	}
	sched->progress++;
	sched->last_end_step = sched->steps;
	sched->next = NULL;
	to_main(sched, coro, true);
	abort();
}

static const struct pc_sched_hooks hooks;

static void to_coro(struct sched *sched, struct coro *to)
{
	struct sched *outer = current;

	sched->running = to;
	current = sched;
	pc_sched = &hooks;
	pc_sim_act_as(to->number + 1);
	sched->switches++;
#ifdef ON_ASAN
	__sanitizer_start_switch_fiber(&sched->main_fake_stack, to->stack, STACK_BYTES);
#endif
#ifdef ON_TSAN
	sched->main_fiber = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(to->fiber, 0);
#endif
	(void)swapcontext(&sched->main_context, &to->context);
#ifdef ON_ASAN
	__sanitizer_finish_switch_fiber(sched->main_fake_stack, NULL, NULL);
#endif
	pc_sim_act_as(0);
	pc_sched = NULL;
	current = outer;
	sched->running = NULL;
	if (to->state == CORO_ENDED && to->stack != NULL) {
		stack_put(to->stack);
		to->stack = NULL;
#ifdef ON_TSAN
		__tsan_destroy_fiber(to->fiber);
#endif
	}
}

static struct coro *add_coro(struct sched *sched, const char *name)
{
	struct coro *coro;

	if (sched->coro_nr == SCHED_CORO_NR_MAX)
		abort();
	coro = &sched->coros[sched->coro_nr];
	memset(coro, 0, sizeof(*coro));
	coro->sched = sched;
	coro->number = sched->coro_nr++;
	snprintf(coro->name, sizeof(coro->name), "%s", name);
	coro->deadline_ns = UINT64_MAX;
	coro->priority = (UINT64_C(1) << 32) + pc_rng_below(&sched->rng, 1u << 30);
	coro->stack = stack_get();
	if (getcontext(&coro->context) != 0)
		abort();
	coro->context.uc_stack.ss_sp = coro->stack;
	coro->context.uc_stack.ss_size = STACK_BYTES;
	coro->context.uc_link = NULL;
	makecontext(&coro->context, coro_main, 0);
#ifdef ON_TSAN
	coro->fiber = __tsan_create_fiber(0);
#endif
	return coro;
}

uint32_t sched_start(struct sched *sched, const char *name, void (*fn)(void *arg), void *arg)
{
	struct coro *coro = add_coro(sched, name);

	coro->fn = fn;
	coro->arg = arg;
	return coro->number;
}

/* ---- rules ----------------------------------------------------------------------------------------------------- */

/* A rule is broken; nobody goes on. From a coroutine it does not return. */
static void fail(struct sched *sched, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct sched *sched, const char *fmt, ...)
{
	va_list args;

	if (!sched->failed) {
		va_start(args, fmt);
		vsnprintf(sched->text, sizeof(sched->text), fmt, args);
		va_end(args);
	}
	sched->failed = true;
	if (sched->running != NULL)
		sched_stop(sched);
}

/* ---- steps ----------------------------------------------------------------------------------------------------- */

static void note_step(struct sched *sched, struct coro *self, enum pc_yield_point point)
{
	self->point = point;
	sched->recent[sched->steps % RECENT_NR] = (struct recent){ self->number, point };
	sched->digest = pc_rng_mix(sched->digest ^ ((uint64_t)self->number << 32 | point));
	sched->steps++;
	sched->now_ns += 1000 + pc_rng_below(&sched->rng, 4000);
	if (sched->settings.trace)
		fprintf(stderr, "%*s%s @%s%s\n", (int)self->number * 4, "", self->name, sched_point_name(point),
			self->state == CORO_READY ? "" : " waits");
	if (sched->steps - sched->last_end_step > STALE_STEPS_MAX)
		fail(sched, "no call has ended for %u steps", STALE_STEPS_MAX);
}

/* The running coroutine, in its new state, gives way to whoever is next. */
static void give_way(struct sched *sched, enum pc_yield_point point)
{
	struct coro *self = sched->running;

	note_step(sched, self, point);
	sched->step_wanted = sched->wants_step != NULL && sched->wants_step(sched->user, point);
	sched->next = sched_pick(sched);
	if (sched->next != self || sched->step_wanted)
		to_main(sched, self, false);
	if (self->state == CORO_COND || self->state == CORO_SPIN)
		self->state = CORO_READY;
}

void sched_yield_at(enum pc_yield_point point)
{
	struct sched *sched = current;

	if (sched == NULL || sched->running == NULL)
		return;
	pc_sim_act_as(sched->running->number + 1); /* a planted defect may have changed it */
	sched->progress++;
	sched->running->own_progress++;
	give_way(sched, point);
}

static void hook_yield(enum pc_yield_point point)
{
	sched_yield_at(point);
}

/*
 * Two that spin make what is progress for each other (each takes locks between its rounds), and the one that both wait for has the lowest
 * priority. No scheduler that is fair lets that last: who spins for long without an end of any call loses his priority.
 */
static void note_spin(struct sched *sched, struct coro *self)
{
	if (self->spin_calls != sched->calls) {
		self->spin_calls = sched->calls;
		self->spin_nr = 0;
	}
	if (++self->spin_nr <= SPINS_OF_PRIORITY)
		return;
	self->spin_nr = 0;
	self->priority = --sched->lowest_priority;
}

static void hook_spin(enum pc_yield_point point)
{
	struct sched *sched = current;
	struct coro *self = sched->running;
	const uint64_t others = sched->progress - self->own_progress;

	note_spin(sched, self);
	self->spin_rounds = others == self->spin_seen ? self->spin_rounds + 1 : 0;
	self->spin_seen = others;
	self->state = CORO_SPIN;
	give_way(sched, point);
}

static void check_rank(struct sched *sched, const struct pc_mutex *mutex)
{
	const struct coro *self = sched->running;

	for (uint32_t i = 0; i < self->held_nr; i++) {
		if (self->held_orders[i] >= mutex->order)
			fail(sched, "%s locks rank %u.%u while it holds %u.%u", self->name, mutex->order >> 16,
			     mutex->order & 0xffff, self->held_orders[i] >> 16, self->held_orders[i] & 0xffff);
	}
}

static void note_taken(struct coro *self, const struct pc_mutex *mutex)
{
	if (self->held_nr == HELD_MAX)
		abort();
	self->held_orders[self->held_nr++] = mutex->order;
}

static void lock_now(struct sched *sched, struct pc_mutex *mutex)
{
	struct coro *self = sched->running;

	check_rank(sched, mutex);
	while (pthread_mutex_trylock(&mutex->m) != 0) {
		self->state = CORO_MUTEX;
		self->waits_for = mutex;
		self->waits_order = mutex->order;
		give_way(sched, PC_YIELD_LOCK);
	}
	note_taken(self, mutex);
}

static void hook_lock(struct pc_mutex *mutex)
{
	sched_yield_at(PC_YIELD_LOCK);
	lock_now(current, mutex);
}

static bool hook_trylock(struct pc_mutex *mutex)
{
	sched_yield_at(PC_YIELD_LOCK);
	if (pthread_mutex_trylock(&mutex->m) != 0)
		return false;
	note_taken(current->running, mutex);
	return true;
}

static void unlock_now(struct sched *sched, struct pc_mutex *mutex)
{
	struct coro *self = sched->running;
	uint32_t i = self->held_nr;

	while (i-- > 0 && self->held_orders[i] != mutex->order)
		;
	if (i == UINT32_MAX) {
		fail(sched, "%s unlocks rank %u.%u, which it does not hold", self->name, mutex->order >> 16,
		     mutex->order & 0xffff);
		return;
	}
	self->held_orders[i] = self->held_orders[--self->held_nr];
	if (pthread_mutex_unlock(&mutex->m) != 0)
		abort();
	for (i = 0; i < sched->coro_nr; i++) {
		if (sched->coros[i].state == CORO_MUTEX && sched->coros[i].waits_for == mutex)
			sched->coros[i].state = CORO_READY;
	}
}

static void hook_unlock(struct pc_mutex *mutex)
{
	unlock_now(current, mutex);
	sched_yield_at(PC_YIELD_UNLOCK);
}

static bool hook_wait(struct pc_cond *cond, struct pc_mutex *mutex, uint64_t deadline_ns)
{
	struct sched *sched = current;
	struct coro *self = sched->running;
	bool woken;

	unlock_now(sched, mutex);
	check_rank(sched, mutex); /* it is taken again at the end */
	self->state = CORO_COND;
	self->waits_for = cond;
	self->deadline_ns = deadline_ns;
	self->woken = false;
	give_way(sched, PC_YIELD_WAIT);
	woken = self->woken;
	self->deadline_ns = UINT64_MAX;
	lock_now(sched, mutex);
	return woken;
}

static void hook_wake(struct pc_cond *cond, bool all)
{
	struct sched *sched = current;
	struct coro *waiting[SCHED_CORO_NR_MAX];
	uint32_t nr = 0;

	for (uint32_t i = 0; i < sched->coro_nr; i++) {
		struct coro *coro = &sched->coros[i];

		if (coro->state == CORO_COND && coro->waits_for == cond && !coro->woken)
			waiting[nr++] = coro;
	}
	if (all) {
		for (uint32_t i = 0; i < nr; i++)
			waiting[i]->woken = true;
	} else if (nr > 0) {
		waiting[pc_rng_below(&sched->rng, nr)]->woken = true;
	}
}

static uint64_t hook_now_ns(void)
{
	return current->now_ns;
}

static uint32_t hook_thread_number(void)
{
	return current->running->number;
}

static int hook_start(pthread_t *out_thread, void *(*fn)(void *arg), void *arg)
{
	char name[16];
	struct coro *coro;

	snprintf(name, sizeof(name), "worker%u", current->coro_nr);
	coro = add_coro(current, name);
	coro->thread_fn = fn;
	coro->arg = arg;
	*out_thread = (pthread_t)(coro->number + 1);
	return 0;
}

static int hook_join(pthread_t thread)
{
	sched_join((uint32_t)thread - 1);
	return 0;
}

static const struct pc_sched_hooks hooks = {
	.yield = hook_yield,
	.spin = hook_spin,
	.lock = hook_lock,
	.trylock = hook_trylock,
	.unlock = hook_unlock,
	.wait = hook_wait,
	.wake = hook_wake,
	.now_ns = hook_now_ns,
	.thread_number = hook_thread_number,
	.start = hook_start,
	.join = hook_join,
};

/* ---- for coroutines -------------------------------------------------------------------------------------------- */

void sched_join(uint32_t number)
{
	struct sched *sched = current;
	struct coro *self = sched->running;

	while (sched->coros[number].state != CORO_ENDED) {
		self->state = CORO_JOIN;
		self->joins = number;
		give_way(sched, PC_YIELD_WAIT);
	}
}

void sched_note(const char *text)
{
	struct sched *sched = current;

	if (sched == NULL || sched->running == NULL)
		return;
	snprintf(sched->running->note, sizeof(sched->running->note), "%s", text);
	if (sched->settings.trace)
		fprintf(stderr, "%*s%s: %s\n", (int)sched->running->number * 4, "", sched->running->name, text);
	sched->last_end_step = sched->steps;
	sched->calls++;
}

bool sched_holds(const struct sched *sched)
{
	return sched->held != NULL;
}

bool sched_held_once(const struct sched *sched)
{
	return sched->held_once;
}

uint32_t sched_self(void)
{
	return current != NULL && current->running != NULL ? current->running->number : 0;
}

void sched_fence_as_other(void)
{
	if (current != NULL && current->running != NULL)
		pc_sim_act_as(current->running->number + 2);
}

void sched_stop(struct sched *sched)
{
	sched->stop = true;
	if (sched->running != NULL && current == sched) {
		to_main(sched, sched->running, false);
		abort();
	}
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

struct sched *sched_new(const struct sched_settings *settings, sched_wants_fn wants_step, sched_step_fn step,
			void *user)
{
	struct sched *sched = calloc(1, sizeof(*sched));

	if (sched == NULL)
		abort();
	sched->settings = *settings;
	sched->wants_step = wants_step;
	sched->step_fn = step;
	sched->user = user;
	sched->rng.state = pc_rng_mix(settings->seed ^ UINT64_C(0x5ced));
	sched->now_ns = UINT64_C(1000000000);
	sched->lowest_priority = UINT64_C(1) << 31;
	sched->switch_pct = settings->strategy == SCHED_RUN_ON ? 1 + pc_rng_below(&sched->rng, 6)
							       : 5 + pc_rng_below(&sched->rng, 40);
	for (uint32_t i = 0; i < CHANGE_NR_MAX; i++)
		sched->change_steps[i] = 1 + pc_rng_below(&sched->rng, 600u << pc_rng_below(&sched->rng, 4));
	sched_draw_hold(sched);
	sched->spurious = pc_rng_chance(&sched->rng, 25);
	if (settings->strategy == SCHED_SEQUENCE) {
		sched->hold_after = settings->hold_after;
		sched->spurious = false;
	}
	return sched;
}

void sched_free(struct sched *sched)
{
	if (sched == NULL)
		return;
	for (uint32_t i = 0; i < sched->coro_nr; i++) {
		if (sched->coros[i].stack != NULL)
			stack_put(sched->coros[i].stack);
	}
	free(sched);
}

int sched_run(struct sched *sched)
{
	for (;;) {
		bool all_ended = true;

		if (sched->step_wanted && !sched->stop) {
			struct sched *outer = current;

			sched->step_wanted = false;
			current = NULL;
			sched->step_fn(sched->user, sched->recent[(sched->steps - 1) % RECENT_NR].point);
			current = outer;
		}
		if (sched->stop)
			break;
		if (sched->next == NULL)
			sched->next = sched_pick(sched);
		for (uint32_t i = 0; i < sched->coro_nr; i++)
			all_ended &= sched->coros[i].state == CORO_ENDED;
		if (all_ended)
			return 0;
		if (sched->next == NULL) {
			fail(sched, "deadlock: nobody can run");
			break;
		}
		to_coro(sched, sched->next);
	}
	return sched->failed ? -EDEADLK : -ECANCELED;
}

const char *sched_text(const struct sched *sched)
{
	return sched->text;
}

uint64_t sched_digest(const struct sched *sched)
{
	return sched->digest;
}

uint64_t sched_steps(const struct sched *sched)
{
	return sched->steps;
}

uint64_t sched_switches(const struct sched *sched)
{
	return sched->switches;
}

#endif
