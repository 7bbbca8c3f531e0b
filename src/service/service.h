/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Services: write-back, eviction, log cleaning, each as steps that a worker thread runs, or the caller (maintenance=caller).
 *
 * A step returns 1 if it did something, 0 if there was nothing to do, or a negative error. Steps of one kind exclude each other; none of them needs memory, a data segment
 * or a writer's log position to make progress.
 */
#ifndef PC_SERVICE_SERVICE_H
#define PC_SERVICE_SERVICE_H

#include "core/cache.h"

/* Allocates what the steps need. 0 or -errno. */
int pc_service_init(struct pcache *cache);
void pc_service_fini(struct pcache *cache);

/* Writes a batch of the oldest dirty data to the backing, in log order. */
int pc_writeback_step(struct pcache *cache);
/* The same; a batch is not continued beyond max_bytes. *out_bytes: what it has issued. Left alone with PCACHE_E_FAILSTOP. */
int pc_writeback_step_of(struct pcache *cache, uint64_t max_bytes, uint64_t *out_bytes);
/* How long the backing took for so much, by the last batch. */
uint64_t pc_writeback_needs_ns(struct pcache *cache, uint64_t bytes);
/* Frees segments that hold nothing live; above the eviction threshold (or if force) drops clean data first. */
int pc_evict_step(struct pcache *cache, bool force);
/* Room is wanted, and what is clean does not make enough of it. */
bool pc_evict_lacks_clean(struct pcache *cache);
/* Cleans and frees the oldest segment of the log, if the log is long (or if force) and its dirty data is on the backing. */
int pc_clean_step(struct pcache *cache, bool force);
/* One round of everything: 1 if any step did something, else the first error, else 0. */
int pc_service_round(struct pcache *cache);
/* Writes back until everything below the position is on the backing, whatever comes meanwhile. progress may be NULL. */
int pc_service_drain_to(struct pcache *cache, uint64_t target, pcache_progress_fn progress, void *user);
/* The same for everything that was dirty before the call, overwritten meanwhile or not, with a flush of the cache first. */
int pc_service_drain(struct pcache *cache, pcache_progress_fn progress, void *user);
/* Write-back goes through io_uring. */
bool pc_service_uses_ring(struct pcache *cache);
/* Dirty bytes, from the segments' counters. */
uint64_t pc_service_dirty_bytes(struct pcache *cache);

/* Worker threads. start: 0 or -errno. stop: returns when they have ended; NULL-safe. on_tick runs about every 200 ms while the statistics page is on. */
int pc_workers_start(struct pcache *cache, void (*on_tick)(struct pcache *cache));
void pc_workers_stop(struct pcache *cache);

/* ---- pure: which segments to evict (evict_pick.c) ------------------------------------------------------------------------ */

struct pc_evict_candidate {
	bool eligible; /* closed data segment, nothing dirty, nobody reads it */
	bool touched; /* read since the hand came by */
};
/* A clock: goes round from hand, spares touched segments once (clears touched). Sets victim[i] for at most want segments; returns how many; *hand moves on. */
uint32_t pc_evict_pick(struct pc_evict_candidate *candidates, uint32_t nr, uint32_t *hand, uint32_t want,
		       uint8_t *victim);

#endif
