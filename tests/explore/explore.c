/* SPDX-License-Identifier: BSD-3-Clause */
/* Depth-first search over schedules of coroutines, see the header. */
#include "explore/explore.h"

#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EXPLORE_ASAN
#endif
#if __has_feature(thread_sanitizer)
#define EXPLORE_TSAN
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define EXPLORE_ASAN
#endif
#ifdef __SANITIZE_THREAD__
#define EXPLORE_TSAN
#endif
#ifdef EXPLORE_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef EXPLORE_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#define STACK_BYTES (128u << 10)
#define CHOICES_MAX 4096u

enum thread_state {
	READY,
	WAITING, /* until another has made a step */
	SLEEPING, /* until it is woken */
	ENDED
};

struct thread {
	ucontext_t context;
	void *stack;
	void *fiber;
	void *fake_stack;
	const void *word; /* it sleeps on */
	enum thread_state state;
	bool stirred; /* another has made a step since it last waited */
};

/* One place where more than one thread could go on. */
struct choice {
	uint8_t taken; /* number of what was let on, among the possible */
	uint8_t possible_nr;
};

static struct {
	const struct explore_scene *scene;
	struct explore_result result;
	struct thread threads[EXPLORE_THREADS_MAX];
	ucontext_t context;
	void *fiber;
	const void *main_bottom;
	size_t main_bytes;
	void *main_fake_stack;
	uint32_t thread_nr;
	uint32_t running; /* EXPLORE_THREADS_MAX: none */
	uint32_t preemption_nr;
	struct choice choices[CHOICES_MAX];
	uint32_t choice_nr; /* met in this schedule */
	uint32_t planned_nr; /* decided before it */
	bool active;
} ex;

static void to_main(struct thread *from)
{
#ifdef EXPLORE_ASAN
	__sanitizer_start_switch_fiber(from->state == ENDED ? NULL : &from->fake_stack, ex.main_bottom, ex.main_bytes);
#endif
#ifdef EXPLORE_TSAN
	__tsan_switch_to_fiber(ex.fiber, 0);
#endif
	(void)swapcontext(&from->context, &ex.context);
#ifdef EXPLORE_ASAN
	__sanitizer_finish_switch_fiber(from->fake_stack, &ex.main_bottom, &ex.main_bytes);
#endif
}

static void to_thread(struct thread *to)
{
#ifdef EXPLORE_ASAN
	__sanitizer_start_switch_fiber(&ex.main_fake_stack, to->stack, STACK_BYTES);
#endif
#ifdef EXPLORE_TSAN
	ex.fiber = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(to->fiber, 0);
#endif
	(void)swapcontext(&ex.context, &to->context);
#ifdef EXPLORE_ASAN
	__sanitizer_finish_switch_fiber(ex.main_fake_stack, NULL, NULL);
#endif
}

static void thread_main(void)
{
	struct thread *self = &ex.threads[ex.running];

#ifdef EXPLORE_ASAN
	__sanitizer_finish_switch_fiber(NULL, &ex.main_bottom, &ex.main_bytes);
#endif
	ex.scene->threads[ex.running](ex.scene->arg);
	self->state = ENDED;
	to_main(self);
}

static void start(struct thread *thread)
{
	thread->state = READY;
	thread->fake_stack = NULL;
	thread->stirred = true;
	if (getcontext(&thread->context))
		abort();
	thread->context.uc_stack.ss_sp = thread->stack;
	thread->context.uc_stack.ss_size = STACK_BYTES;
	thread->context.uc_link = NULL;
	makecontext(&thread->context, thread_main, 0);
#ifdef EXPLORE_TSAN
	thread->fiber = __tsan_create_fiber(0);
#endif
}

static void wrong(const char *what)
{
	if (!ex.result.wrong)
		ex.result.wrong = what;
}

/* The possible_nr-th of several: as planned, else the first. */
static uint32_t decide(uint32_t possible_nr)
{
	struct choice *choice = &ex.choices[ex.choice_nr];

	if (ex.choice_nr == CHOICES_MAX) {
		wrong("a schedule is too long");
		return 0;
	}
	if (ex.choice_nr++ >= ex.planned_nr)
		choice->taken = 0;
	choice->possible_nr = (uint8_t)possible_nr;
	return choice->taken;
}

/* Who goes on: first the one that ran, if it can. EXPLORE_THREADS_MAX: nobody can. */
static uint32_t pick(void)
{
	uint32_t possible[EXPLORE_THREADS_MAX], nr = 0, taken = 0;
	bool goes_on = ex.running < ex.thread_nr && ex.threads[ex.running].state == READY;

	if (goes_on)
		possible[nr++] = ex.running;
	for (uint32_t i = 0; i < ex.thread_nr && (!goes_on || ex.preemption_nr < ex.scene->preemptions_max); i++)
		if (ex.threads[i].state == READY && !(goes_on && i == ex.running))
			possible[nr++] = i;
	if (nr == 0)
		return EXPLORE_THREADS_MAX;
	if (nr > 1)
		taken = decide(nr);
	ex.preemption_nr += goes_on && taken != 0;
	return possible[taken];
}

/* self has made a step: those who waited for anything look again. */
static void stir(uint32_t self)
{
	for (uint32_t i = 0; i < ex.thread_nr; i++) {
		if (i == self)
			continue;
		ex.threads[i].stirred = true;
		if (ex.threads[i].state == WAITING)
			ex.threads[i].state = READY;
	}
}

static void run_schedule(void)
{
	uint32_t ended_nr = 0;

	ex.choice_nr = ex.preemption_nr = 0;
	ex.running = EXPLORE_THREADS_MAX;
	if (ex.scene->begin)
		ex.scene->begin(ex.scene->arg);
	for (uint32_t i = 0; i < ex.thread_nr; i++)
		start(&ex.threads[i]);
	ex.active = true;
	while (!ex.result.wrong && ended_nr < ex.thread_nr) {
		uint32_t next = pick();

		if (next == EXPLORE_THREADS_MAX) {
			wrong("nobody can go on");
			break;
		}
		ex.running = next;
		ex.result.step_nr++;
		to_thread(&ex.threads[next]);
		if (ex.threads[next].state == ENDED) {
			ended_nr++;
			stir(next);
		}
	}
	ex.active = false;
	if (!ex.result.wrong && ex.scene->end)
		ex.scene->end(ex.scene->arg);
#ifdef EXPLORE_TSAN
	for (uint32_t i = 0; i < ex.thread_nr; i++)
		__tsan_destroy_fiber(ex.threads[i].fiber);
#endif
}

/* The next schedule: the last choice that could have been another one is another one. False: there is none. */
static bool next_plan(void)
{
	while (ex.choice_nr) {
		struct choice *choice = &ex.choices[ex.choice_nr - 1];

		if (choice->taken + 1 < choice->possible_nr) {
			choice->taken++;
			ex.planned_nr = ex.choice_nr;
			return true;
		}
		ex.choice_nr--;
	}
	return false;
}

static void note_schedule(void)
{
	size_t at = 0;

	for (uint32_t i = 0; i < ex.choice_nr && at + 2 < sizeof(ex.result.schedule); i++)
		ex.result.schedule[at++] = (char)('0' + ex.choices[i].taken);
}

uint32_t explore_preemptions(uint32_t nr)
{
	const char *sanitize = getenv("PCACHE_SANITIZE");

	return getenv("PCACHE_EXPLORE_LONG") ? nr + 1 : sanitize && *sanitize ? nr - 1 : nr;
}

struct explore_result explore(const struct explore_scene *scene)
{
	memset(&ex, 0, sizeof(ex));
	ex.scene = scene;
	while (ex.thread_nr < EXPLORE_THREADS_MAX && scene->threads[ex.thread_nr]) {
		ex.threads[ex.thread_nr].stack = malloc(STACK_BYTES);
		if (!ex.threads[ex.thread_nr++].stack)
			abort();
	}
	do {
		ex.result.schedule_nr++;
		run_schedule();
	} while (!ex.result.wrong && next_plan());
	if (ex.result.wrong)
		note_schedule();
	for (uint32_t i = 0; i < ex.thread_nr; i++)
		free(ex.threads[i].stack);
	return ex.result;
}

void explore_point(void)
{
	uint32_t self = ex.running;

	if (!ex.active)
		return;
	stir(self);
	to_main(&ex.threads[self]);
}

void explore_wait(void)
{
	struct thread *self = &ex.threads[ex.running];

	if (!ex.active)
		return;
	/* What it looked at may have changed since: it looks once more. */
	if (!self->stirred)
		self->state = WAITING;
	self->stirred = false;
	to_main(self);
}

void explore_fail(const char *what)
{
	struct thread *self = &ex.threads[ex.running];

	wrong(what);
	if (!ex.active)
		return;
	/* It is not run again. */
	self->state = SLEEPING;
	to_main(self);
}

uint32_t explore_self(void)
{
	return ex.running;
}

long explore_futex(const void *word, int op, uint32_t val)
{
	uint32_t now;

	explore_point();
	memcpy(&now, word, sizeof(now));
	if (op == FUTEX_WAIT_PRIVATE) {
		struct thread *self = &ex.threads[ex.running];

		if (now != val)
			return -1;
		self->word = word;
		self->state = SLEEPING;
		to_main(self);
		return 0;
	}
	for (uint32_t i = 0; i < ex.thread_nr && val; i++) {
		if (ex.threads[i].state == SLEEPING && ex.threads[i].word == word) {
			ex.threads[i].state = READY;
			val--;
		}
	}
	return 0;
}
