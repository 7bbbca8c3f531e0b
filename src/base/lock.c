/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mutexes and spin locks with ranks, and condition variables on the monotonic clock.
 *
 * Builds without NDEBUG keep the orders of the mutexes that a thread holds in a thread-local array. A thread that locks must
 * be above everything it holds: since all threads climb the same ladder, no circle of waiters can form. A try-lock never
 * waits, so it may be taken in any order, but from then on it counts like any other. Waiting on a condition takes its
 * mutex again, so that mutex must be the highest held.
 *
 * A violation is a broken invariant of this library: it writes one line to stderr and aborts. Release builds check nothing and
 * carry no thread-local state. What pthread functions return is checked in both: a mutex that cannot be locked must not
 * be taken for locked.
 *
 * The array needs no synchronisation: it is its thread's own. Statements about held locks are made only while they are held.
 *
 * Under a deterministic scheduler (base/sched.h) a thread is a coroutine; the scheduler then lets coroutines wait and checks ranks itself.
 */
#include "base/lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/sched.h"

#define NS_PER_S UINT64_C(1000000000)

#ifndef NDEBUG
#define HELD_MAX 256u /* all shards at once, and some more */

static _Thread_local uint32_t held_orders[HELD_MAX];
static _Thread_local uint32_t held_nr;
#endif

static _Noreturn void die(const char *what, uint32_t order, uint32_t other)
{
#ifdef NDEBUG
	/* Release builds print nothing, whatever happens. */
	(void)what, (void)order, (void)other;
#else
	char line[160];
	int len;

	len = snprintf(line, sizeof(line), "libpcache: %s: mutex rank %u.%u, other %u.%u\n", what,
		       (unsigned int)(order >> 16), (unsigned int)(order & 0xffff), (unsigned int)(other >> 16),
		       (unsigned int)(other & 0xffff));
	if (len > 0 && write(STDERR_FILENO, line, strlen(line)) < 0)
		abort();
#endif
	abort();
}

#ifndef NDEBUG
static void check_above_held(uint32_t order, const char *what)
{
	for (uint32_t i = 0; i < held_nr; i++) {
		if (held_orders[i] >= order)
			die(what, order, held_orders[i]);
	}
}

static void note_locked(uint32_t order)
{
	if (held_nr == HELD_MAX)
		die("too many mutexes held", order, 0);
	held_orders[held_nr++] = order;
}

/* Order among the held does not matter to the check, so the hole is filled with the last. */
static void note_unlocked(uint32_t order, const char *what)
{
	for (uint32_t i = held_nr; i-- > 0;) {
		if (held_orders[i] != order)
			continue;
		held_orders[i] = held_orders[--held_nr];
		return;
	}
	die(what, order, 0);
}

static void note_wait(uint32_t order)
{
	note_unlocked(order, "wait without its mutex");
	check_above_held(order, "wait below a held mutex");
}
#else
static inline void check_above_held(uint32_t order, const char *what)
{
	(void)order;
	(void)what;
}

static inline void note_locked(uint32_t order)
{
	(void)order;
}

static inline void note_unlocked(uint32_t order, const char *what)
{
	(void)order;
	(void)what;
}

static inline void note_wait(uint32_t order)
{
	(void)order;
}
#endif

int pc_mutex_init(struct pc_mutex *mutex, enum pc_lock_rank rank, uint32_t sub_rank)
{
	pthread_mutexattr_t attr;
	int rc;

	if (sub_rank > 0xffff)
		return -EINVAL;
	mutex->order = (uint32_t)rank << 16 | sub_rank;
	rc = pthread_mutexattr_init(&attr);
	if (rc != 0)
		return -rc;
	/* Most locks here are held for less than a microsecond; going to sleep and being woken costs ten, so spin a little first. */
	(void)pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	rc = pthread_mutex_init(&mutex->m, &attr);
	(void)pthread_mutexattr_destroy(&attr);
	return -rc;
}

void pc_mutex_fini(struct pc_mutex *mutex)
{
	if (pthread_mutex_destroy(&mutex->m) != 0)
		die("mutex destroyed while in use", mutex->order, 0);
}

void pc_mutex_lock(struct pc_mutex *mutex)
{
	if (pc_sched) {
		pc_sched->lock(mutex);
		return;
	}
	check_above_held(mutex->order, "lock below a held mutex");
	if (pthread_mutex_lock(&mutex->m) != 0)
		die("lock failed", mutex->order, 0);
	note_locked(mutex->order);
}

bool pc_mutex_trylock(struct pc_mutex *mutex)
{
	int err;

	if (pc_sched)
		return pc_sched->trylock(mutex);
	err = pthread_mutex_trylock(&mutex->m);
	if (err == EBUSY)
		return false;
	if (err != 0)
		die("try-lock failed", mutex->order, 0);
	note_locked(mutex->order);
	return true;
}

void pc_mutex_unlock(struct pc_mutex *mutex)
{
	if (pc_sched) {
		pc_sched->unlock(mutex);
		return;
	}
	note_unlocked(mutex->order, "unlock of a mutex that is not held");
	if (pthread_mutex_unlock(&mutex->m) != 0)
		die("unlock failed", mutex->order, 0);
}

/* ---- spin locks ------------------------------------------------------------------------------------------------ */

#ifndef SPIN_NR /* tests/explore has fewer */
#define SPIN_NR 64u /* some microseconds: longer than most holds */
#define SPIN_YIELD_NR 4u
#endif
#define SPIN_SLEEP_MIN_NS 100000L
#define SPIN_SLEEP_MAX_NS 5000000L

int pc_spin_init(struct pc_spin *spin, enum pc_lock_rank rank, uint32_t sub_rank)
{
	atomic_init(&spin->word, 0);
	atomic_init(&spin->sleeper_nr, 0);
	return pc_mutex_init(&spin->mutex, rank, sub_rank);
}

void pc_spin_fini(struct pc_spin *spin)
{
	if (atomic_load_explicit(&spin->word, memory_order_relaxed) & 1)
		die("spin lock destroyed while in use", spin->mutex.order, 0);
	pc_mutex_fini(&spin->mutex);
}

static inline void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static bool spin_take(struct pc_spin *spin)
{
	if (atomic_load_explicit(&spin->word, memory_order_relaxed) & 1 ||
	    atomic_fetch_or_explicit(&spin->word, 1, memory_order_acquire) & 1)
		return false;
	/* Order: the odd version before what changes under the lock, for those who read without it. */
	atomic_thread_fence(memory_order_release);
	return true;
}

/* Only the holder changes the word. */
static void spin_give(struct pc_spin *spin)
{
	atomic_store_explicit(&spin->word, atomic_load_explicit(&spin->word, memory_order_relaxed) + 1,
			      memory_order_release);
}

/*
 * The holder changes the word and then looks for sleepers; the processor may do the second before others see the first, and then a sleeper that came in between is not woken. So nobody
 * sleeps without a limit. That happens within some nanoseconds, hence hardly ever.
 */
static void spin_sleep(struct pc_spin *spin, long sleep_ns)
{
	const struct timespec limit = { .tv_nsec = sleep_ns };
	uint64_t word = atomic_load_explicit(&spin->word, memory_order_relaxed);

	if (!(word & 1))
		return;
	atomic_fetch_add_explicit(&spin->sleeper_nr, 1, memory_order_seq_cst);
	/* The system compares 32 bits: the low ones, which come first on every machine that this is built for. */
	(void)syscall(SYS_futex, &spin->word, FUTEX_WAIT_PRIVATE, (uint32_t)word, &limit, NULL, 0);
	atomic_fetch_sub_explicit(&spin->sleeper_nr, 1, memory_order_relaxed);
}

static void spin_wait(struct pc_spin *spin)
{
	long sleep_ns = SPIN_SLEEP_MIN_NS;

	for (uint32_t round = 0; !spin_take(spin); round++) {
		if (round < SPIN_NR) {
			relax();
		} else if (round < SPIN_NR + SPIN_YIELD_NR) {
			sched_yield();
		} else {
			spin_sleep(spin, sleep_ns);
			sleep_ns = PC_MIN(2 * sleep_ns, SPIN_SLEEP_MAX_NS);
		}
	}
}

void pc_spin_lock_slow(struct pc_spin *spin)
{
	if (pc_sched) {
		pc_sched->lock(&spin->mutex);
		(void)spin_take(spin);
		return;
	}
	check_above_held(spin->mutex.order, "lock below a held mutex");
	spin_wait(spin);
	note_locked(spin->mutex.order);
}

void pc_spin_unlock_slow(struct pc_spin *spin)
{
	if (pc_sched) {
		spin_give(spin);
		pc_sched->unlock(&spin->mutex);
		return;
	}
	note_unlocked(spin->mutex.order, "unlock of a mutex that is not held");
	spin_give(spin);
	if (atomic_load_explicit(&spin->sleeper_nr, memory_order_relaxed))
		pc_spin_wake(spin);
}

/* One is enough: who gets the lock next looks for sleepers again. */
void pc_spin_wake(struct pc_spin *spin)
{
	(void)syscall(SYS_futex, &spin->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* ---- conditions ------------------------------------------------------------------------------------------------ */

int pc_cond_init(struct pc_cond *cond)
{
	pthread_condattr_t attr;
	int err;

	err = pthread_condattr_init(&attr);
	if (err != 0)
		return -err;
	err = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (err == 0)
		err = pthread_cond_init(&cond->c, &attr);
	pthread_condattr_destroy(&attr);
	return -err;
}

void pc_cond_fini(struct pc_cond *cond)
{
	pthread_cond_destroy(&cond->c);
}

void pc_cond_wait(struct pc_cond *cond, struct pc_mutex *mutex)
{
	if (pc_sched) {
		(void)pc_sched->wait(cond, mutex, UINT64_MAX);
		return;
	}
	note_wait(mutex->order);
	if (pthread_cond_wait(&cond->c, &mutex->m) != 0)
		die("wait failed", mutex->order, 0);
	note_locked(mutex->order);
}

bool pc_cond_wait_until(struct pc_cond *cond, struct pc_mutex *mutex, uint64_t deadline_ns)
{
	struct timespec at = { .tv_sec = (time_t)(deadline_ns / NS_PER_S), .tv_nsec = (long)(deadline_ns % NS_PER_S) };
	int err;

	if (pc_sched)
		return pc_sched->wait(cond, mutex, deadline_ns);
	note_wait(mutex->order);
	err = pthread_cond_timedwait(&cond->c, &mutex->m, &at);
	if (err != 0 && err != ETIMEDOUT)
		die("timed wait failed", mutex->order, 0);
	note_locked(mutex->order);
	return err == 0;
}

void pc_cond_signal(struct pc_cond *cond)
{
	if (pc_sched) {
		pc_sched->wake(cond, false);
		return;
	}
	pthread_cond_signal(&cond->c);
}

void pc_cond_broadcast(struct pc_cond *cond)
{
	if (pc_sched) {
		pc_sched->wake(cond, true);
		return;
	}
	pthread_cond_broadcast(&cond->c);
}

void pc_lock_none_held(const char *what)
{
#ifndef NDEBUG
	if (held_nr)
		die(what, 0, held_orders[held_nr - 1]);
#else
	(void)what;
#endif
}

uint64_t pc_monotonic_ns(void)
{
	struct timespec now;

	if (pc_sched)
		return pc_sched->now_ns();
	/* Fails only for a clock that does not exist. */
	if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
		abort();
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}
