/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Waiting for space, and telling the services.
 *
 * Waiters queue: only the first tries again when room was made, and while anybody waits nobody else takes new segments, so a large request is not starved by
 * small ones. A waiter enters the queue before its next try, and remembers how much progress had been made before it; so room that is made in between is never missed.
 * Nothing polls.
 */
#include <errno.h>

#include "base/plant.h"
#include "core/cache.h"
#include "pcache/errors.h"

int pc_space_init(struct pcache *cache)
{
	int rc = pc_mutex_init(&cache->space.lock, PC_RANK_SPACE, 0);

	if (rc)
		return rc;
	rc = pc_cond_init(&cache->space.cond);
	if (rc)
		goto undo_lock;
	rc = pc_mutex_init(&cache->signal.lock, PC_RANK_SIGNAL, 0);
	if (rc)
		goto undo_cond;
	rc = pc_cond_init(&cache->signal.cond);
	if (rc)
		goto undo_signal_lock;
	return 0;
undo_signal_lock:
	pc_mutex_fini(&cache->signal.lock);
undo_cond:
	pc_cond_fini(&cache->space.cond);
undo_lock:
	pc_mutex_fini(&cache->space.lock);
	return rc;
}

void pc_space_fini(struct pcache *cache)
{
	pc_cond_fini(&cache->signal.cond);
	pc_mutex_fini(&cache->signal.lock);
	pc_cond_fini(&cache->space.cond);
	pc_mutex_fini(&cache->space.lock);
}

void pc_signal_work(struct pcache *cache, uint32_t bits)
{
	struct pc_signal *signal = &cache->signal;

	if (cache->caller_maintains)
		return;
	/* A full cache would signal on every write; once is enough until the worker has taken it up. */
	if (bits == PC_WORK_SPACE && atomic_exchange_explicit(&signal->space_told, true, memory_order_acq_rel))
		return;
	pc_mutex_lock(&signal->lock);
	signal->bits |= bits;
	if (bits & (PC_WORK_WRITEBACK | PC_WORK_URGENT))
		atomic_store_explicit(&signal->writeback_idle, false, memory_order_relaxed);
	pc_cond_broadcast(&signal->cond);
	pc_mutex_unlock(&signal->lock);
}

bool pc_space_pressure(struct pcache *cache)
{
	uint64_t used = cache->map.segment_nr - pc_segmap_free_nr(&cache->map);

	return used * 100 > (uint64_t)cache->gc_percent * cache->map.segment_nr || pc_log_short(&cache->log) ||
	       atomic_load_explicit(&cache->space.waiting_nr, memory_order_relaxed) != 0;
}

bool pc_space_may_take(struct pcache *cache, const struct pc_space_ticket *ticket)
{
	return ticket->number != 0 || atomic_load_explicit(&cache->space.waiting_nr, memory_order_relaxed) == 0;
}

static int run_steps(struct pcache *cache, uint32_t want_segs, bool want_log)
{
	struct pc_space *space = &cache->space;
	uint32_t old_segs = atomic_load(&space->want_segs);
	int rc;

	atomic_fetch_add(&space->caller_nr, 1);
	while (old_segs < want_segs && !atomic_compare_exchange_weak(&space->want_segs, &old_segs, want_segs))
		;
	if (want_log)
		atomic_store(&space->want_log, true);
	rc = cache->run_steps ? cache->run_steps(cache) : 0;
	/* The last one out forgets the wishes; with several callers a wish may outlive its owner by a round. */
	if (atomic_fetch_sub(&space->caller_nr, 1) == 1) {
		atomic_store(&space->want_segs, 0);
		atomic_store(&space->want_log, false);
	}
	if (rc == PCACHE_E_FAILSTOP || rc > 0)
		return rc > 0 ? 0 : rc;
	/* The backing's error is about other data than the caller's; the degraded state shows it. */
	return PCACHE_E_FULL;
}

/* The queue is in order of numbers: the first is the one after the last that left. */
static bool is_first_locked(const struct pc_space *space, const struct pc_space_ticket *ticket)
{
	return ticket->number == space->now_serving + 1;
}

static int wait_in_queue(struct pcache *cache, struct pc_space_ticket *ticket, uint32_t want_segs, bool want_log)
{
	struct pc_space *space = &cache->space;
	bool entered = false;

	pc_mutex_lock(&space->lock);
	if (ticket->number == 0) {
		ticket->number = ++space->next_ticket;
		atomic_fetch_add_explicit(&space->waiting_nr, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&cache->stats.full_waits, 1, memory_order_relaxed);
		entered = true;
	}
	for (;;) {
		if (atomic_load_explicit(&cache->failstop, memory_order_acquire))
			break;
		if (is_first_locked(space, ticket)) {
			atomic_store_explicit(&space->want_segs, want_segs, memory_order_relaxed);
			atomic_store_explicit(&space->want_log, want_log, memory_order_relaxed);
			if (entered || space->progress_nr != ticket->seen_nr)
				break;
		}
		pc_signal_work(cache, PC_WORK_SPACE | PC_WORK_URGENT);
		pc_cond_wait(&space->cond, &space->lock);
	}
	ticket->seen_nr = space->progress_nr;
	pc_mutex_unlock(&space->lock);
	return atomic_load_explicit(&cache->failstop, memory_order_acquire) ? PCACHE_E_FAILSTOP : 0;
}

int pc_space_wait(struct pcache *cache, struct pc_space_ticket *ticket, uint32_t want_segs, bool want_log,
		  uint32_t flags)
{
	if (atomic_load_explicit(&cache->failstop, memory_order_acquire))
		return PCACHE_E_FAILSTOP;
	if (cache->caller_maintains) {
		if (flags & PCACHE_NOWAIT)
			return PCACHE_E_FULL;
		return run_steps(cache, want_segs, want_log);
	}
	if ((flags & PCACHE_NOWAIT) || (cache->full_is_error && !(flags & PC_SPACE_MUST))) {
		pc_signal_work(cache, PC_WORK_SPACE | PC_WORK_URGENT);
		return PCACHE_E_FULL;
	}
	return wait_in_queue(cache, ticket, want_segs, want_log);
}

void pc_space_leave(struct pcache *cache, struct pc_space_ticket *ticket)
{
	struct pc_space *space = &cache->space;

	if (ticket->number == 0)
		return;
	pc_mutex_lock(&space->lock);
	/* Only the first returns from a wait, except in fail-stop, where order does not matter any more. */
	space->now_serving = PC_MAX(space->now_serving, ticket->number);
	atomic_fetch_sub_explicit(&space->waiting_nr, 1, memory_order_relaxed);
	atomic_store_explicit(&space->want_segs, 0, memory_order_relaxed);
	atomic_store_explicit(&space->want_log, false, memory_order_relaxed);
	pc_cond_broadcast(&space->cond);
	pc_mutex_unlock(&space->lock);
	ticket->number = 0;
}

void pc_space_progress(struct pcache *cache)
{
	struct pc_space *space = &cache->space;

	pc_mutex_lock(&space->lock);
	space->progress_nr++;
	if (!PC_PLANTED(PC_PLANT_LOST_WAKEUP))
		pc_cond_broadcast(&space->cond);
	pc_mutex_unlock(&space->lock);
}
