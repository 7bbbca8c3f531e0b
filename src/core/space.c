/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Waiting for space, and telling the services.
 *
 * Waiters queue: only the first tries again when room was made, and while anybody waits nobody else takes new segments, so a large request is not starved by
 * small ones. Each sleeps on a condition of its own, so that only who can go on is woken. A waiter enters the queue before its next try, and remembers how much progress had been made
 * before it; so room that is made in between is never missed. Nothing polls.
 */
#include <errno.h>

#include "base/plant.h"
#include "base/probe.h"
#include "base/sched.h"
#include "core/cache.h"
#include "pcache/errors.h"

#define FULL_OVER_NS UINT64_C(1000000000) /* without a write that finds no space */

int pc_space_init(struct pcache *cache)
{
	int rc = pc_mutex_init(&cache->space.lock, PC_RANK_SPACE, 0);

	if (rc)
		return rc;
	cache->space.last = &cache->space.first;
	cache->space.steps_last = &cache->space.steps;
	rc = pc_mutex_init(&cache->signal.lock, PC_RANK_SIGNAL, 0);
	if (rc)
		goto undo_lock;
	rc = pc_cond_init(&cache->signal.cond);
	if (rc)
		goto undo_signal_lock;
	rc = pc_limit_init(cache);
	if (rc)
		goto undo_signal_cond;
	rc = pc_cond_init(&cache->holds.cond);
	if (rc)
		goto undo_limit;
	pc_admit_init(cache);
	return 0;
undo_limit:
	pc_limit_fini(cache);
undo_signal_cond:
	pc_cond_fini(&cache->signal.cond);
undo_signal_lock:
	pc_mutex_fini(&cache->signal.lock);
undo_lock:
	pc_mutex_fini(&cache->space.lock);
	return rc;
}

void pc_space_fini(struct pcache *cache)
{
	pc_cond_fini(&cache->holds.cond);
	pc_limit_fini(cache);
	pc_cond_fini(&cache->signal.cond);
	pc_mutex_fini(&cache->signal.lock);
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
	       atomic_load_explicit(&cache->space.waiting_nr, memory_order_relaxed) != 0 ||
	       atomic_load_explicit(&cache->admit.slow, memory_order_relaxed);
}

bool pc_space_may_take(struct pcache *cache, const struct pc_space_ticket *ticket)
{
	return ticket->queued || atomic_load_explicit(&cache->space.waiting_nr, memory_order_relaxed) == 0;
}

static bool wants(const struct pc_space_step *step)
{
	return step->want_segs || step->want_log;
}

/* What the callers who run steps want together. With workers nobody has a wish here: there it is the first waiter's. */
static void collect_wishes_locked(struct pc_space *space)
{
	uint32_t want_segs = 0;
	bool want_log = false;

	for (const struct pc_space_step *step = space->steps; step; step = step->next) {
		want_segs = PC_MAX(want_segs, step->want_segs);
		want_log |= step->want_log;
	}
	atomic_store_explicit(&space->want_segs, want_segs, memory_order_relaxed);
	atomic_store_explicit(&space->want_log, want_log, memory_order_relaxed);
}

void pc_space_step_begin(struct pcache *cache, struct pc_space_step *step)
{
	struct pc_space *space = &cache->space;

	pc_mutex_lock(&space->lock);
	step->nr = ++space->step_nr;
	step->next = NULL;
	*space->steps_last = step;
	space->steps_last = &step->next;
	if (wants(step))
		collect_wishes_locked(space);
	pc_mutex_unlock(&space->lock);
}

void pc_space_step_end(struct pcache *cache, struct pc_space_step *step)
{
	struct pc_space *space = &cache->space;
	struct pc_space_step **at;

	pc_mutex_lock(&space->lock);
	for (at = &space->steps; *at != step; at = &(*at)->next)
		;
	*at = step->next;
	if (!*at)
		space->steps_last = at;
	if (wants(step))
		collect_wishes_locked(space);
	pc_mutex_unlock(&space->lock);
}

/* Whether a step runs that began as nr or before. */
static bool one_runs_since(struct pc_space *space, uint64_t nr)
{
	bool runs;

	pc_mutex_lock(&space->lock);
	runs = space->steps && space->steps->nr <= nr;
	pc_mutex_unlock(&space->lock);
	return runs;
}

/* The steps of other callers that have begun, and may make room yet, come to their end. Bounded: one that begins later does not count. */
static void await_steps_of_others(struct pcache *cache)
{
	struct pc_space *space = &cache->space;
	uint64_t begun;

	pc_mutex_lock(&space->lock);
	begun = space->step_nr;
	pc_mutex_unlock(&space->lock);
	while (one_runs_since(space, begun) && !atomic_load_explicit(&cache->failstop, memory_order_acquire))
		pc_spin_wait(PC_YIELD_SPACE_OTHERS);
}

/* Whether room was made since this request last looked, by whomever. */
static bool room_was_made(struct pcache *cache, struct pc_space_ticket *ticket)
{
	struct pc_space *space = &cache->space;
	bool made;

	pc_mutex_lock(&space->lock);
	made = space->progress_nr != ticket->seen_nr;
	ticket->seen_nr = space->progress_nr;
	pc_mutex_unlock(&space->lock);
	return made;
}

static int run_steps(struct pcache *cache, struct pc_space_ticket *ticket, uint32_t want_segs, bool want_log)
{
	struct pc_space *space = &cache->space;
	struct pc_space_step step = { .want_segs = want_segs, .want_log = want_log };
	int rc;

	atomic_fetch_add(&space->caller_nr, 1);
	pc_space_step_begin(cache, &step);
	rc = cache->run_steps ? cache->run_steps(cache) : 0;
	pc_space_step_end(cache, &step);
	atomic_fetch_sub(&space->caller_nr, 1);
	if (rc == PCACHE_E_FAILSTOP || rc > 0)
		return rc > 0 ? 0 : rc;
	/* This round found nothing to do. Another thread may be in the middle of what there was. */
	if (!PC_PLANTED(PC_PLANT_STEPS_NOT_AWAITED))
		await_steps_of_others(cache);
	if (room_was_made(cache, ticket))
		return 0;
	/* The backing's error is about other data than the caller's; the degraded state shows it. */
	return PCACHE_E_FULL;
}

static void enter_locked(struct pcache *cache, struct pc_space_ticket *ticket)
{
	struct pc_space *space = &cache->space;

	ticket->next = NULL;
	ticket->queued = true;
	*space->last = ticket;
	space->last = &ticket->next;
	atomic_fetch_add_explicit(&space->waiting_nr, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&cache->stats.full_waits, 1, memory_order_relaxed);
}

static void wake_locked(struct pc_space_ticket *ticket)
{
	if (ticket && ticket->cond)
		pc_cond_signal(ticket->cond);
}

static void sleep_locked(struct pcache *cache, struct pc_space_ticket *ticket, struct pc_cond *cond)
{
	pc_signal_work(cache, PC_WORK_SPACE | PC_WORK_URGENT);
	ticket->cond = cond;
	pc_cond_wait(cond, &cache->space.lock);
	ticket->cond = NULL;
}

static int wait_in_queue(struct pcache *cache, struct pc_space_ticket *ticket, uint32_t want_segs, bool want_log)
{
	struct pc_space *space = &cache->space;
	bool entered = !ticket->queued;
	struct pc_cond cond;
	int rc = pc_cond_init(&cond);

	if (rc)
		return rc;
	pc_mutex_lock(&space->lock);
	if (entered)
		enter_locked(cache, ticket);
	while (!atomic_load_explicit(&cache->failstop, memory_order_acquire)) {
		if (space->first == ticket) {
			atomic_store_explicit(&space->want_segs, want_segs, memory_order_relaxed);
			atomic_store_explicit(&space->want_log, want_log, memory_order_relaxed);
			if (entered || space->progress_nr != ticket->seen_nr)
				break;
		}
		sleep_locked(cache, ticket, &cond);
	}
	ticket->seen_nr = space->progress_nr;
	pc_mutex_unlock(&space->lock);
	pc_cond_fini(&cond);
	return atomic_load_explicit(&cache->failstop, memory_order_acquire) ? PCACHE_E_FAILSTOP : 0;
}

/* An event when writes begin to find no space: not again before there has been some for a second. */
static int tell_full(struct pcache *cache)
{
	uint64_t now_ns = pc_monotonic_ns();
	uint64_t before_ns = atomic_exchange_explicit(&cache->space.full_ns, now_ns, memory_order_relaxed);

	if (!before_ns || now_ns - before_ns > FULL_OVER_NS)
		pc_event(&cache->msg, (struct pcache_event){ .kind = PCACHE_EVENT_FULL });
	return PCACHE_E_FULL;
}

int pc_space_wait(struct pcache *cache, struct pc_space_ticket *ticket, uint32_t want_segs, bool want_log,
		  uint32_t flags)
{
	if (atomic_load_explicit(&cache->failstop, memory_order_acquire))
		return PCACHE_E_FAILSTOP;
	if (cache->caller_maintains) {
		int rc = flags & PCACHE_NOWAIT ? PCACHE_E_FULL : run_steps(cache, ticket, want_segs, want_log);

		return rc == PCACHE_E_FULL ? tell_full(cache) : rc;
	}
	if ((flags & PCACHE_NOWAIT) || (cache->full_is_error && !(flags & PC_SPACE_MUST))) {
		pc_signal_work(cache, PC_WORK_SPACE | PC_WORK_URGENT);
		return tell_full(cache);
	}
	(void)tell_full(cache);
	PC_PROBE2(full_wait, want_segs, want_log);
	return wait_in_queue(cache, ticket, want_segs, want_log);
}

void pc_space_leave(struct pcache *cache, struct pc_space_ticket *ticket)
{
	struct pc_space *space = &cache->space;
	struct pc_space_ticket **at;

	if (!ticket->queued)
		return;
	pc_mutex_lock(&space->lock);
	/* Only the first returns from a wait, except in fail-stop. */
	for (at = &space->first; *at != ticket; at = &(*at)->next)
		;
	*at = ticket->next;
	if (!*at)
		space->last = at;
	atomic_fetch_sub_explicit(&space->waiting_nr, 1, memory_order_relaxed);
	atomic_store_explicit(&space->want_segs, 0, memory_order_relaxed);
	atomic_store_explicit(&space->want_log, false, memory_order_relaxed);
	wake_locked(space->first);
	pc_mutex_unlock(&space->lock);
	ticket->queued = false;
}

void pc_space_progress(struct pcache *cache)
{
	struct pc_space *space = &cache->space;
	bool stopped = atomic_load_explicit(&cache->failstop, memory_order_acquire) != 0;

	PC_YIELD(SPACE_MADE);
	pc_mutex_lock(&space->lock);
	space->progress_nr++;
	if (!PC_PLANTED(PC_PLANT_LOST_WAKEUP)) {
		wake_locked(space->first);
		for (struct pc_space_ticket *ticket = space->first; stopped && ticket; ticket = ticket->next)
			wake_locked(ticket);
		pc_cond_broadcast(&cache->limit.cond);
	}
	pc_mutex_unlock(&space->lock);
}
