/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The seam of the deterministic scheduler: named places where another thread may get its turn, and hooks for whatever makes a thread wait.
 *
 * Only objects built with PC_PLANTS have it. There pc_sched is set while the simulated threads of a simulator run; each is a coroutine, and all of them are on one
 * thread of the system. In the library pc_sched is the constant NULL, so that everything here compiles to nothing.
 */
#ifndef PC_BASE_SCHED_H
#define PC_BASE_SCHED_H

#include <pthread.h>
#include <sched.h>

#include "base/types.h"

struct pc_mutex;
struct pc_cond;

/* Where interleavings matter. Two places of a row can be told apart by what others see in between. */
#define PC_YIELD_POINTS(X) \
	X(START) /* a simulated thread has not begun */ \
	X(LOCK) /* before a mutex is taken */ \
	X(UNLOCK) /* after it was released */ \
	X(WAIT) /* on a condition */ \
	X(FENCE) /* before a fence takes effect */ \
	X(SYNC) /* before a sync of the media takes effect */ \
	X(BACKING_READ) /* before the backing reads */ \
	X(BACKING_WRITE) /* before the backing writes or zeroes */ \
	X(BACKING_FLUSH) /* before the backing flushes */ \
	X(CALL) /* between two calls of the library */ \
	X(WRITE_ROOM) /* room is allocated, nothing is locked */ \
	X(WRITE_RESERVED) /* position reserved, nothing stored */ \
	X(WRITE_COPIED) /* a key's data is copied, no slot yet */ \
	X(WRITE_STORED) /* slots stored, not fenced; a small write is in the index */ \
	X(WRITE_FENCED) /* fenced, still in flight */ \
	X(WRITE_DONE) /* out of flight; not in the index, if not a small write */ \
	X(WRITE_INSERTED) /* in the index, still locked */ \
	X(WRITE_UNLOCKED) \
	X(FILL_READ) /* the backing has been read */ \
	X(FILL_ROOM) /* room for the fill is allocated */ \
	X(PEEK_BEGUN) /* version of the shard taken, nothing looked up */ \
	X(PEEK_FOUND) /* looked up without the lock, version not compared */ \
	X(READ_FOUND) /* looked up, perhaps pinned, nothing copied */ \
	X(READ_COPIED) /* copied, the generation not compared, or still pinned */ \
	X(STAGE_WRITING) /* a window is not written yet, and wanted for something else */ \
	X(LOG_PUBLISHED) /* lower bound published, no position */ \
	X(LOG_WINDOW) /* waits for the segment before */ \
	X(LOG_PADDED) /* head moved, void not stored */ \
	X(LOG_LOW) /* head read, slots in flight not yet */ \
	X(LOG_EXTENDED) /* segment taken, capacity not moved */ \
	X(LOG_TAIL_STORED) /* tail record durable, not yet free */ \
	X(SEG_POPPED) /* left the free list, generation is old */ \
	X(SEG_RECORD) /* record durable, generation in memory old */ \
	X(SEG_RAISED) /* generation raised, not open yet */ \
	X(WB_LIMIT) /* durable position taken */ \
	X(WB_LOOKED_UP) /* shard unlocked, part not added yet */ \
	X(WB_PINNED) /* pinned from the log */ \
	X(WB_COLLECTED) /* the batch is known, nothing issued */ \
	X(WB_SWEPT) /* swept, epoch not compared yet */ \
	X(WB_ISSUED) /* written, backing not flushed */ \
	X(WB_FLUSHED) /* backing flushed, tail record not stored */ \
	X(WB_TAIL) /* tail record durable, nothing clean yet */ \
	X(WB_CLEAN) /* clean, not settled */ \
	X(WB_DRAIN) /* a drain looks again */ \
	X(EVICT_PICKED) /* victims chosen */ \
	X(EVICT_DROPPED) /* out of the index, not reclaimed */ \
	X(RECLAIM_CHECKED) /* limits taken, nothing freed */ \
	X(CLEAN_FOUND) /* decided, nothing appended */ \
	X(CLEAN_APPENDED) /* appended, positions not moved */ \
	X(CLEAN_SWEPT) /* all appended, tail not moved */ \
	X(FLUSH_ANNOUNCED) /* epoch is infinity, no position */ \
	X(FLUSH_RESERVED) /* mark has its position */ \
	X(FLUSH_MARKED) /* mark durable, epoch not set */ \
	X(FLUSH_SYNCING) /* before the sync of a flush */ \
	X(FLUSH_SYNCED) /* durable, the round not ended */ \
	X(SPACE_OTHERS) /* waits for the steps of others */ \
	X(SPACE_MADE) /* room was made, and nobody knows */ \
	/* The ones from here on are drawn for seeds with modes alone. */ \
	X(HELD) /* a range is held, the backing has nothing of it yet */ \
	X(AROUND_WRITTEN) /* around the cache: written, backing not flushed */ \
	X(MODE_STORED) /* another mode, nothing drained */

enum pc_yield_point {
#define PC_YIELD_ENUM(name) PC_YIELD_##name,
	PC_YIELD_POINTS(PC_YIELD_ENUM)
#undef PC_YIELD_ENUM
		PC_YIELD_POINT_NR
};

/* What a scheduler does in the place of the system. Called by the running coroutine. */
struct pc_sched_hooks {
	void (*yield)(enum pc_yield_point point);
	void (*spin)(enum pc_yield_point point); /* nothing to do until somebody else has done something */
	void (*lock)(struct pc_mutex *mutex);
	bool (*trylock)(struct pc_mutex *mutex);
	void (*unlock)(struct pc_mutex *mutex);
	bool (*wait)(struct pc_cond *cond, struct pc_mutex *mutex,
		     uint64_t deadline_ns); /* false: too late; UINT64_MAX: none */
	void (*wake)(struct pc_cond *cond, bool all);
	uint64_t (*now_ns)(void);
	uint32_t (*thread_number)(void);
	int (*start)(pthread_t *out_thread, void *(*fn)(void *arg), void *arg); /* 0 or an errno */
	int (*join)(pthread_t thread);
};

#ifdef PC_PLANTS
extern const struct pc_sched_hooks *pc_sched; /* NULL: the system schedules */
#else
#define pc_sched ((const struct pc_sched_hooks *)0)
#endif

/* Another thread may get its turn here. */
#define PC_YIELD(point) \
	do { \
		if (pc_sched) \
			pc_sched->yield(PC_YIELD_##point); \
	} while (0)

/* One round of a wait for others who take no lock. */
static inline void pc_spin_wait(enum pc_yield_point point)
{
	if (pc_sched)
		pc_sched->spin(point);
	else
		sched_yield();
}

static inline int pc_thread_start(pthread_t *out_thread, void *(*fn)(void *arg), void *arg)
{
	if (pc_sched)
		return pc_sched->start(out_thread, fn, arg);
	return pthread_create(out_thread, NULL, fn, arg);
}

static inline int pc_thread_join(pthread_t thread)
{
	if (pc_sched)
		return pc_sched->join(thread);
	return pthread_join(thread, NULL);
}

#endif
