/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Included behind explore_atomics.h and before a source file of the library: mutexes and conditions of base/lock.h become such of explore(). Who waits for one that never comes shows as
 * "nobody can go on". A wait with a limit is over at once: nobody may depend on it.
 */
#ifndef PC_TESTS_EXPLORE_LOCKS_H
#define PC_TESTS_EXPLORE_LOCKS_H

#include <limits.h>
#include <linux/futex.h>
#include <string.h>

#include "base/lock.h"
#include "explore/explore.h"

#define EXPLORE_LOCKS_MAX 8u

/* Mutexes by their address; conditions: how often each was told. */
static struct explore_lock {
	const void *of;
	bool held;
	uint32_t told_nr;
} explore_locks[EXPLORE_LOCKS_MAX];

/* Before each schedule. */
static inline void explore_locks_begin(void)
{
	memset(explore_locks, 0, sizeof(explore_locks));
}

static inline struct explore_lock *explore_lock_of(const void *of)
{
	uint32_t i = 0;

	while (i + 1 < EXPLORE_LOCKS_MAX && explore_locks[i].of && explore_locks[i].of != of)
		i++;
	explore_locks[i].of = of;
	return &explore_locks[i];
}

static inline void explore_mutex_lock(const void *mutex)
{
	struct explore_lock *lock = explore_lock_of(mutex);

	explore_point();
	while (lock->held)
		explore_wait();
	lock->held = true;
}

static inline void explore_mutex_unlock(const void *mutex)
{
	explore_lock_of(mutex)->held = false;
	explore_point();
}

static inline void explore_cond_wait(const void *cond, const void *mutex)
{
	const uint32_t *told_nr = &explore_lock_of(cond)->told_nr, seen_nr = *told_nr;

	explore_lock_of(mutex)->held = false;
	(void)explore_futex(told_nr, FUTEX_WAIT_PRIVATE, seen_nr);
	explore_mutex_lock(mutex);
}

static inline void explore_cond_tell(const void *cond)
{
	uint32_t *told_nr = &explore_lock_of(cond)->told_nr;

	++*told_nr;
	(void)explore_futex(told_nr, FUTEX_WAKE_PRIVATE, INT_MAX);
}

#define pc_mutex_init(mutex, rank, sub_rank) ((void)(mutex), 0)
#define pc_mutex_fini(mutex) ((void)(mutex))
#define pc_mutex_lock(mutex) explore_mutex_lock(mutex)
#define pc_mutex_unlock(mutex) explore_mutex_unlock(mutex)
#define pc_cond_init(cond) ((void)(cond), 0)
#define pc_cond_fini(cond) ((void)(cond))
#define pc_cond_wait(cond, mutex) explore_cond_wait(cond, mutex)
#define pc_cond_wait_until(cond, mutex, deadline_ns) ((void)(deadline_ns), explore_point(), false)
#define pc_cond_signal(cond) explore_cond_tell(cond)
#define pc_cond_broadcast(cond) explore_cond_tell(cond)

#endif
