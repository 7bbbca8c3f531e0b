/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two worker threads: one writes back, one makes room (eviction and log cleaning), so that a slow backing never keeps the second waiting.
 *
 * Write-back is lazy: what is overwritten soon need not be written at all. Dirty data goes to the backing when it is older than the delay, or a batch at a time
 * when room is wanted and eviction found nothing clean; then the space worker looks again, and asks again if that was not enough.
 *
 * Both sleep on the cache's signal. The write-back worker announces that it is idle and looks at the log once more before
 * it sleeps; a writer reserves its position and looks for the announcement after. One of the two sees the other, so no write is forgotten. Errors are retried with a growing pause; a
 * waiter or a drain does not shorten it.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/sched.h"
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

/* Sleeps until bit is there (it is taken), or STOP; the write-back worker's bit also gives way to URGENT. */
static bool await_bits(struct pcache *cache, uint32_t bits)
{
	struct pc_signal *signal = &cache->signal;
	uint32_t also = bits & PC_WORK_WRITEBACK ? PC_WORK_URGENT : 0;
	bool go;

	pc_mutex_lock(&signal->lock);
	while (!(signal->bits & (bits | also | PC_WORK_STOP)))
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
	return pc_layout_tail(&cache->layout).dirty_tail_pos <
	       atomic_load_explicit(&cache->log.head, memory_order_seq_cst);
}

/*
 * While a writer waits for space and nothing can be done at the moment (another writer is between its position and its fence, say), the workers look again after a
 * short pause: the end of such an operation wakes nobody, so that it costs nothing.
 */
static bool somebody_waits(struct pcache *cache)
{
	return atomic_load_explicit(&cache->space.waiting_nr, memory_order_relaxed) != 0;
}

/* Writers go on in the pace of write-back: it need not be asked for each batch. */
static bool somebody_is_slow(struct pcache *cache)
{
	return atomic_load_explicit(&cache->admit.slow, memory_order_relaxed);
}

/* Room is wanted, or positions, that only write-back can make. While there is enough that is clean, dirty data is left to be overwritten. */
static bool needs_writeback(struct pcache *cache)
{
	return pc_evict_lacks_clean(cache) || pc_log_short(&cache->log) || somebody_waits(cache) ||
	       somebody_is_slow(cache) || pc_core_draining(cache);
}

/* What the write-back worker knows of ages: positions below aged_pos are older than the delay. */
struct pacing {
	uint64_t aged_pos;
	uint64_t sample_pos; /* the head at sample_ns */
	uint64_t sample_ns;
	uint64_t pause_ns; /* after the next error */
};

static void look_at_clock(struct pcache *cache, struct pacing *pacing)
{
	uint64_t now_ns = pc_monotonic_ns();

	if (now_ns - pacing->sample_ns < cache->writeback_delay_ms * UINT64_C(1000000))
		return;
	pacing->aged_pos = pacing->sample_pos;
	pacing->sample_pos = atomic_load_explicit(&cache->log.head, memory_order_acquire);
	pacing->sample_ns = now_ns;
}

/* One step, and a pause after an error. 1 did something, 0 nothing to do now, -1 stop. */
static int run_step(struct pcache *cache, struct pacing *pacing)
{
	int rc = pc_writeback_step(cache);

	if (rc <= 0)
		pc_admit_all(cache); /* what they would wait for does not come */
	if (rc > 0) {
		pacing->pause_ns = RETRY_MIN_NS;
		/* What has become free counts at once: else this worker would be asked for more than is needed. */
		if (pc_space_pressure(cache) && (pc_evict_step(cache, false), pc_space_pressure(cache)))
			pc_signal_work(cache, PC_WORK_SPACE);
		return 1;
	}
	if (rc == 0)
		return 0;
	if (rc == PCACHE_E_FAILSTOP)
		return pause_unless(cache, RETRY_MAX_NS, 0) ? 0 : -1;
	pc_msg(&cache->msg, PCACHE_LOG_WARN,
	       "write-back failed (%d); dirty data stays in the cache, next try in %llu ms", rc,
	       (unsigned long long)(pacing->pause_ns / 1000000));
	if (!pause_unless(cache, pacing->pause_ns, 0))
		return -1;
	pacing->pause_ns = PC_MIN(pacing->pause_ns * 2, RETRY_MAX_NS);
	return 1;
}

static bool take_urgent(struct pcache *cache)
{
	bool urgent;

	pc_mutex_lock(&cache->signal.lock);
	urgent = (cache->signal.bits & PC_WORK_URGENT) != 0;
	cache->signal.bits &= ~PC_WORK_URGENT;
	pc_mutex_unlock(&cache->signal.lock);
	return urgent;
}

/* Sleeps: without dirty data until a write comes, else until some of it is old enough; in both cases until room is wanted. False: stop. */
static bool await_work(struct pcache *cache, const struct pacing *pacing)
{
	uint64_t delay_ns = cache->writeback_delay_ms * UINT64_C(1000000),
		 age_ns = pc_monotonic_ns() - pacing->sample_ns;

	if (somebody_waits(cache))
		return pause_unless(cache, RETRY_MIN_NS, PC_WORK_URGENT);
	if (log_has_dirty(cache))
		return pause_unless(cache, age_ns < delay_ns ? delay_ns - age_ns : RETRY_MIN_NS, PC_WORK_URGENT);
	atomic_store_explicit(&cache->signal.writeback_idle, true, memory_order_seq_cst);
	if (log_has_dirty(cache))
		pc_signal_work(cache, PC_WORK_WRITEBACK);
	return await_bits(cache, PC_WORK_WRITEBACK);
}

static void *writeback_main(void *arg)
{
	struct pcache *cache = ((struct pc_workers *)arg)->cache;
	struct pacing pacing = { .pause_ns = RETRY_MIN_NS };
	int did = 1;

	pc_media_guard_thread(cache->media);
	while (did >= 0 && !is_stopping(cache)) {
		bool urgent = (take_urgent(cache) && needs_writeback(cache)) || somebody_waits(cache) ||
			      somebody_is_slow(cache);

		look_at_clock(cache, &pacing);
		if (urgent || pc_layout_tail(&cache->layout).dirty_tail_pos < pacing.aged_pos) {
			did = run_step(cache, &pacing);
			if (did > 0)
				continue;
		}
		/* Room is wanted and there is no step: the space worker looks again when something has changed. */
		if (did >= 0 && !await_work(cache, &pacing))
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

static bool await_space_work(struct pcache *cache)
{
	if (!somebody_waits(cache))
		return await_bits(cache, PC_WORK_SPACE);
	if (!pause_unless(cache, RETRY_MIN_NS, PC_WORK_SPACE))
		return false;
	pc_mutex_lock(&cache->signal.lock);
	cache->signal.bits &= ~PC_WORK_SPACE;
	pc_mutex_unlock(&cache->signal.lock);
	return true;
}

static void *space_main(void *arg)
{
	struct pcache *cache = ((struct pc_workers *)arg)->cache;

	while (await_space_work(cache)) {
		atomic_store_explicit(&cache->signal.space_told, false, memory_order_release);
		while (make_room(cache) && !is_stopping(cache))
			;
		/* What is left needs write-back first; it signals again when it has made progress. */
		if (needs_writeback(cache) && log_has_dirty(cache))
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
	rc = -pc_thread_start(&workers->writeback, writeback_main, workers);
	if (rc)
		goto undo_workers;
	rc = -pc_thread_start(&workers->space, space_main, workers);
	if (rc)
		goto undo_writeback;
	if (on_tick) {
		rc = -pc_thread_start(&workers->ticker, tick_main, workers);
		if (rc)
			goto undo_space;
	}
	cache->workers = workers;
	pc_signal_work(cache, PC_WORK_SPACE);
	return 0;
undo_space:
	pc_signal_work(cache, PC_WORK_STOP);
	pc_thread_join(workers->space);
undo_writeback:
	pc_signal_work(cache, PC_WORK_STOP);
	pc_thread_join(workers->writeback);
undo_workers:
	free(workers);
	return rc;
}

void pc_workers_stop(struct pcache *cache)
{
	if (!cache->workers)
		return;
	pc_signal_work(cache, PC_WORK_STOP);
	pc_thread_join(cache->workers->writeback);
	pc_thread_join(cache->workers->space);
	if (cache->workers->on_tick)
		pc_thread_join(cache->workers->ticker);
	free(cache->workers);
	cache->workers = NULL;
}
