/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two worker threads: one writes back, one makes room (eviction and log cleaning), so that a slow backing never keeps the second waiting.
 *
 * Both sleep on the cache's signal and run until their steps find nothing to do. The write-back worker announces that it is idle and looks at the log once more before
 * it sleeps; a writer reserves its position and looks for the announcement after. One of the two sees the other, so no write is forgotten. Errors are retried with a growing pause; a
 * waiter or a drain does not shorten it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "pcache/errors.h"
#include "service/service.h"

#define RETRY_MIN_NS UINT64_C(10000000)
#define RETRY_MAX_NS UINT64_C(1000000000)
#define TICK_NS UINT64_C(200000000)

struct pc_workers {
	struct pcache *cache;
	pthread_t writeback;
	pthread_t space;
	pthread_t ticker; /* only with on_tick */
	void (*on_tick)(struct pcache *cache);
};

static bool stopping_locked(const struct pcache *cache)
{
	return (cache->signal.bits & PC_WORK_STOP) != 0;
}

/* Sleeps until one of bits is there (they are taken), or STOP. */
static bool await_bits(struct pcache *cache, uint32_t bits)
{
	struct pc_signal *signal = &cache->signal;
	bool go;

	pc_mutex_lock(&signal->lock);
	while (!(signal->bits & (bits | PC_WORK_STOP)))
		pc_cond_wait(&signal->cond, &signal->lock);
	go = !stopping_locked(cache);
	signal->bits &= ~bits;
	pc_mutex_unlock(&signal->lock);
	return go;
}

/* Sleeps for pause_ns unless one of bits comes (it stays). False: stop. */
static bool pause_unless(struct pcache *cache, uint64_t pause_ns, uint32_t bits)
{
	struct pc_signal *signal = &cache->signal;
	uint64_t deadline_ns = pc_monotonic_ns() + pause_ns;
	bool go, in_time = true;

	pc_mutex_lock(&signal->lock);
	while (in_time && !(signal->bits & (bits | PC_WORK_STOP)))
		in_time = pc_cond_wait_until(&signal->cond, &signal->lock, deadline_ns);
	go = !stopping_locked(cache);
	pc_mutex_unlock(&signal->lock);
	return go;
}

static bool is_stopping(struct pcache *cache)
{
	bool stop;

	pc_mutex_lock(&cache->signal.lock);
	stop = stopping_locked(cache);
	pc_mutex_unlock(&cache->signal.lock);
	return stop;
}

static bool log_has_dirty(struct pcache *cache)
{
	return pc_layout_tail(&cache->layout).dirty_tail_pos < atomic_load_explicit(&cache->log.head, memory_order_seq_cst);
}

/* Steps until there is nothing to do. False: stop. */
static bool write_back_all(struct pcache *cache)
{
	uint64_t pause_ns = RETRY_MIN_NS;

	while (!is_stopping(cache)) {
		int rc = pc_writeback_step(cache);

		if (rc == 0)
			return true;
		if (rc == PCACHE_E_FAILSTOP)
			return pause_unless(cache, RETRY_MAX_NS, 0);
		if (rc > 0) {
			pause_ns = RETRY_MIN_NS;
			if (pc_space_pressure(cache))
				pc_signal_work(cache, PC_WORK_SPACE);
			continue;
		}
		pc_msg(&cache->msg, PCACHE_LOG_WARN, "write-back failed (%d); dirty data stays in the cache, next try in %llu ms", rc,
		       (unsigned long long)(pause_ns / 1000000));
		if (!pause_unless(cache, pause_ns, 0))
			return false;
		pause_ns = PC_MIN(pause_ns * 2, RETRY_MAX_NS);
	}
	return false;
}

static void *writeback_main(void *arg)
{
	struct pcache *cache = ((struct pc_workers *)arg)->cache;
	const uint32_t bits = PC_WORK_WRITEBACK | PC_WORK_URGENT;

	for (;;) {
		atomic_store_explicit(&cache->signal.writeback_idle, true, memory_order_seq_cst);
		if (log_has_dirty(cache))
			pc_signal_work(cache, PC_WORK_WRITEBACK);
		if (!await_bits(cache, bits))
			break;
		if (!pc_space_pressure(cache) && !pause_unless(cache, cache->writeback_delay_ms * UINT64_C(1000000), PC_WORK_URGENT))
			break;
		if (!write_back_all(cache))
			break;
		/* What is in flight now keeps the log from being empty; look again a moment later instead of at once. */
		if (log_has_dirty(cache) && !pause_unless(cache, RETRY_MIN_NS, PC_WORK_URGENT))
			break;
	}
	return NULL;
}

/* One round; true if anything was done. */
static bool make_room(struct pcache *cache)
{
	int evicted = pc_evict_step(cache, false), cleaned = pc_clean_step(cache, false);

	if (cleaned < 0 && cleaned != PCACHE_E_FAILSTOP)
		pc_msg(&cache->msg, PCACHE_LOG_ERROR, "log cleaning failed (%d)", cleaned);
	return evicted > 0 || cleaned > 0;
}

static void *space_main(void *arg)
{
	struct pcache *cache = ((struct pc_workers *)arg)->cache;

	while (await_bits(cache, PC_WORK_SPACE)) {
		atomic_store_explicit(&cache->signal.space_told, false, memory_order_release);
		while (make_room(cache) && !is_stopping(cache))
			;
		/* What is left needs write-back first; it signals again when it has made progress. */
		if (pc_space_pressure(cache) && log_has_dirty(cache))
			pc_signal_work(cache, PC_WORK_URGENT);
	}
	return NULL;
}

/* Publishes statistics; opt-in. */
static void *tick_main(void *arg)
{
	struct pc_workers *workers = arg;

	do
		workers->on_tick(workers->cache);
	while (pause_unless(workers->cache, TICK_NS, 0));
	return NULL;
}

int pc_workers_start(struct pcache *cache, void (*on_tick)(struct pcache *cache))
{
	struct pc_workers *workers = calloc(1, sizeof(*workers));
	int rc;

	if (!workers)
		return -ENOMEM;
	workers->cache = cache;
	workers->on_tick = on_tick;
	rc = -pthread_create(&workers->writeback, NULL, writeback_main, workers);
	if (rc)
		goto undo_workers;
	rc = -pthread_create(&workers->space, NULL, space_main, workers);
	if (rc)
		goto undo_writeback;
	if (on_tick) {
		rc = -pthread_create(&workers->ticker, NULL, tick_main, workers);
		if (rc)
			goto undo_space;
	}
	cache->workers = workers;
	pc_signal_work(cache, PC_WORK_SPACE);
	return 0;
undo_space:
	pc_signal_work(cache, PC_WORK_STOP);
	pthread_join(workers->space, NULL);
undo_writeback:
	pc_signal_work(cache, PC_WORK_STOP);
	pthread_join(workers->writeback, NULL);
undo_workers:
	free(workers);
	return rc;
}

void pc_workers_stop(struct pcache *cache)
{
	if (!cache->workers)
		return;
	pc_signal_work(cache, PC_WORK_STOP);
	pthread_join(cache->workers->writeback, NULL);
	pthread_join(cache->workers->space, NULL);
	if (cache->workers->on_tick)
		pthread_join(cache->workers->ticker, NULL);
	free(cache->workers);
	cache->workers = NULL;
}
