/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mutexes and spin locks with ranks, and condition variables on the monotonic clock.
 *
 * A thread takes mutexes only in ascending order of (rank, sub-rank). Debug builds (without NDEBUG) check it and abort on a violation;
 * release builds check nothing. docs/LOCKING.md is the prose of this list.
 */
#ifndef PC_BASE_LOCK_H
#define PC_BASE_LOCK_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/types.h"

enum pc_lock_rank {
	PC_RANK_LIFECYCLE = 1, /* service/worker: start and stop */
	PC_RANK_WRITEBACK, /* service/writeback: one write-back step at a time */
	PC_RANK_SPACE_STEP, /* service: one eviction or cleaning step at a time */
	PC_RANK_FLUSH, /* core/flush: one flush or group sync at a time */
	PC_RANK_SHARD, /* index/shard; sub-rank: shard number */
	PC_RANK_ARENA, /* index/arena: memory of all shards */
	PC_RANK_HEAD, /* alloc/head; sub-rank: head number */
	PC_RANK_LOG, /* log: segment chain, slow path of a reservation */
	PC_RANK_SYNC, /* log: one sync of page-granular media at a time */
	PC_RANK_SEGMAP, /* alloc/segmap: states of segments, free count */
	PC_RANK_RECORD, /* layout: replicated records */
	PC_RANK_MEDIA, /* media: one sync at a time */
	PC_RANK_SPACE, /* core/space: waiters for space */
	PC_RANK_SIGNAL, /* service: work to do */
	PC_RANK_ASYNC, /* api/async: requests, queues and their threads */
	PC_RANK_BACKING, /* backings */
	PC_RANK_LEAF /* tests, statistics page */
};

struct pc_mutex {
	pthread_mutex_t m;
	uint32_t order; /* rank << 16 | sub-rank */
};

/*
 * A lock for holds of less than a microsecond, in the same ladder of ranks. To take it costs one locked instruction, to release it none: after non-temporal stores and their fence a
 * locked instruction waits until they have drained, a plain store does not. Who has spun for long sleeps; that needs no fence in the release, because a sleeper looks again by himself
 * when a wake-up was missed.
 *
 * The word counts holds, so it is also a version of what the lock protects: who can bear to read what is half changed may read without the lock, and asks afterwards whether the
 * version is the same. 64 bits do not come round.
 */
struct pc_spin {
	_Atomic uint64_t word; /* odd: taken */
	_Atomic uint32_t sleeper_nr;
	struct pc_mutex mutex; /* its order; the lock itself under a deterministic scheduler */
};

struct pc_cond {
	pthread_cond_t c;
};

int pc_mutex_init(struct pc_mutex *mutex, enum pc_lock_rank rank, uint32_t sub_rank); /* 0 or -errno */
void pc_mutex_fini(struct pc_mutex *mutex);
void pc_mutex_lock(struct pc_mutex *mutex);
bool pc_mutex_trylock(struct pc_mutex *mutex);
void pc_mutex_unlock(struct pc_mutex *mutex);

int pc_spin_init(struct pc_spin *spin, enum pc_lock_rank rank, uint32_t sub_rank); /* 0 or -errno */
void pc_spin_fini(struct pc_spin *spin);
void pc_spin_lock_slow(struct pc_spin *spin); /* any state of the lock; checks the rank where checks are built in */
void pc_spin_unlock_slow(struct pc_spin *spin);
void pc_spin_wake(struct pc_spin *spin);

static inline void pc_spin_lock(struct pc_spin *spin)
{
#if defined(NDEBUG) && !defined(PC_PLANTS)
	if (__builtin_expect(!(atomic_fetch_or_explicit(&spin->word, 1, memory_order_acquire) & 1), 1)) {
		/* Order: the odd version before what changes under the lock, for those who read without it. */
		atomic_thread_fence(memory_order_release);
		return;
	}
#endif
	pc_spin_lock_slow(spin);
}

static inline void pc_spin_unlock(struct pc_spin *spin)
{
#if defined(NDEBUG) && !defined(PC_PLANTS)
	atomic_store_explicit(&spin->word, atomic_load_explicit(&spin->word, memory_order_relaxed) + 1,
			      memory_order_release);
	if (__builtin_expect(atomic_load_explicit(&spin->sleeper_nr, memory_order_relaxed) != 0, 0))
		pc_spin_wake(spin);
#else
	pc_spin_unlock_slow(spin);
#endif
}

/* For a reader without the lock: begin, read, and ask. An odd version is taken: what is read then means nothing. */
static inline uint64_t pc_spin_version(const struct pc_spin *spin)
{
	return atomic_load_explicit(&spin->word, memory_order_acquire);
}

/* Nobody has had the lock since the version was read: what was read meanwhile is what the lock protected all the time. */
static inline bool pc_spin_is_unchanged(const struct pc_spin *spin, uint64_t version)
{
	/* Order: what was read before the version; who changed any of it had made the version odd before. */
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&spin->word, memory_order_relaxed) == version;
}

int pc_cond_init(struct pc_cond *cond); /* 0 or -errno */
void pc_cond_fini(struct pc_cond *cond);
void pc_cond_wait(struct pc_cond *cond, struct pc_mutex *mutex);
/* Waits until deadline_ns of pc_monotonic_ns(); false when it has passed. */
bool pc_cond_wait_until(struct pc_cond *cond, struct pc_mutex *mutex, uint64_t deadline_ns);
void pc_cond_signal(struct pc_cond *cond);
void pc_cond_broadcast(struct pc_cond *cond);

uint64_t pc_monotonic_ns(void);

/* What calls back into the program must not hold a lock: aborts if this thread does. Debug builds only. */
void pc_lock_none_held(const char *what);

#endif
