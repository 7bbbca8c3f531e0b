/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every interleaving of two or three short threads, up to a number of preemptions: for the pieces of the library that work without a lock.
 *
 * A test includes explore_atomics.h and then the source file under test, so that each atomic access of the real code is a place where another thread may get its turn. The threads are
 * coroutines; explore() runs them again and again, depth first over what could have been decided otherwise. A switch away from a thread that could go on is a preemption; one away from a
 * thread that waits or has ended costs nothing. Whoever waits becomes ready when another thread has made a step.
 *
 * All see each other's stores in order: weak memory order is not explored. ThreadSanitizer and the proofs in docs/LOCKING.md are for that.
 */
#ifndef PC_TESTS_EXPLORE_H
#define PC_TESTS_EXPLORE_H

#include <stdbool.h>
#include <stdint.h>

#define EXPLORE_THREADS_MAX 3u

struct explore_scene {
	void (*threads[EXPLORE_THREADS_MAX])(void *arg); /* up to the first NULL */
	void (*begin)(void *arg); /* before each schedule */
	void (*end)(void *arg); /* when all threads have ended */
	void *arg;
	uint32_t preemptions_max;
};

struct explore_result {
	uint64_t schedule_nr;
	uint64_t step_nr;
	const char *wrong; /* the first that was found ends it; NULL: none */
	char schedule[256]; /* that it was found with: who was let on, at each choice */
};

/* Preemptions for a scene that allows so many in a short run: one more with PCACHE_EXPLORE_LONG, one less in builds with a sanitizer, which are so much slower. */
uint32_t explore_preemptions(uint32_t nr);
struct explore_result explore(const struct explore_scene *scene);

/* From the threads. Outside of explore() the first two do nothing. */
void explore_point(void); /* another may get its turn */
void explore_wait(void); /* nothing to do until another has made a step */
void explore_fail(const char *what); /* does not return */
uint32_t explore_self(void);

/* A futex without time limit, for code that waits in the system. */
long explore_futex(const void *word, int op, uint32_t val);

#endif
