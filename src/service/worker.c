/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two worker threads: one writes back, one makes room (eviction and log cleaning), so that a slow backing never keeps the second waiting.
 *
 * Write-back is lazy: what is overwritten soon need not be written at all. Dirty data goes to the backing when it is older than the delay, or a batch at a time
 * when room is wanted and eviction found nothing clean; then the space worker looks again, and asks again if that was not enough. What is only due obeys the ceiling of the rate
 * (writeback_rate); what is wanted now does not: for room, for a drain, for the limit of dirty data, or because half of the age that dirty data may have has passed.
 *
 * Both sleep on the cache's signal. The write-back worker announces that it is idle and looks at the log once more before
 * it sleeps; a writer reserves its position and looks for the announcement after. One of the two sees the other, so no write is forgotten. Errors are retried with a growing pause; a
 * waiter or a drain does not shorten it.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/sched.h"
#include "pcache/errors.h"
#include "service/pace.h"
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
	return atomic_load_explicit(&cache->space.waiting_nr, memory_order_relaxed) != 0 ||
	       atomic_load_explicit(&cache->limit.waiter_nr, memory_order_relaxed) != 0;
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

/* What the write-back worker knows of time. */
struct pacing {
	struct pc_ages rest; /* may rest no longer: writeback_delay_ms */
	struct pc_ages limited; /* may be no older: dirty_age_max_ms */
	struct pc_bucket bucket; /* writeback_rate */
	uint64_t pause_ns; /* after the next error */
};

enum due { DUE_NOT, DUE_PACED, DUE_NOW };

#define NS_PER_MS UINT64_C(1000000)

/* What waits longest for write-back, and all that is dirty takes this half of the age at most: begun then, it is done in time. */
static uint64_t age_begin_ns(struct pcache *cache)
{
	return atomic_load_explicit(&cache->dirty_age_max_ms, memory_order_relaxed) * NS_PER_MS / 2;
}

static uint64_t rest_ns(struct pcache *cache)
{
	uint64_t delay_ns = atomic_load_explicit(&cache->writeback_delay_ms, memory_order_relaxed) * NS_PER_MS;
	uint64_t begin_ns = age_begin_ns(cache);

	return begin_ns ? PC_MIN(delay_ns, begin_ns) : delay_ns;
}

/* The age that dirty data may have wants it now: it has half of it, or is so much that the backing needs a fourth of it. */
static bool age_is_short(struct pcache *cache, struct pacing *pacing, uint64_t now_ns, uint64_t head, uint64_t tail)
{
	uint64_t begin_ns = age_begin_ns(cache);

	if (!begin_ns) {
		pc_ages_init(&pacing->limited, true);
		return false;
	}
	return tail < pc_ages_look(&pacing->limited, begin_ns, now_ns, head) ||
	       pc_writeback_needs_ns(cache, pc_service_dirty_bytes(cache)) >= begin_ns / 2;
}

static enum due look_at_clock(struct pcache *cache, struct pacing *pacing, uint64_t now_ns)
{
	uint64_t head = atomic_load_explicit(&cache->log.head, memory_order_acquire);
	uint64_t tail = pc_layout_tail(&cache->layout).dirty_tail_pos;
	uint64_t rest_pos = pc_ages_look(&pacing->rest, rest_ns(cache), now_ns, head);

	if (age_is_short(cache, pacing, now_ns, head, tail))
		return DUE_NOW;
	if (tail < rest_pos || atomic_load_explicit(&cache->limit.over_start, memory_order_relaxed))
		return DUE_PACED;
	return DUE_NOT;
}

/* One step, and a pause after an error. 1 did something, 0 nothing to do now, -1 stop. */
static int run_step(struct pcache *cache, struct pacing *pacing, uint64_t rate)
{
	uint64_t bytes = 0;
	int rc = pc_writeback_step_of(cache, rate ? pc_bucket_burst(rate) : UINT64_MAX, &bytes);

	if (rate)
		pc_bucket_take(&pacing->bucket, bytes);

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
	if (rc == PCACHE_E_FAILSTOP) {
		pc_core_tell_failstop(cache);
		return pause_unless(cache, RETRY_MAX_NS, 0) ? 0 : -1;
	}
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

/* How long nothing can become due: until the next sample, or somebody asks. */
static uint64_t look_again_ns(struct pcache *cache)
{
	if (atomic_load_explicit(&cache->limit.over_start, memory_order_relaxed))
		return RETRY_MIN_NS;
	return PC_MAX(rest_ns(cache) / PC_AGES_STEPS, RETRY_MIN_NS);
}

/* Sleeps: without dirty data until a write comes, else until some of it is old enough; in both cases until room is wanted. False: stop. */
static bool await_work(struct pcache *cache)
{
	if (somebody_waits(cache))
		return pause_unless(cache, RETRY_MIN_NS, PC_WORK_URGENT);
	if (log_has_dirty(cache))
		return pause_unless(cache, look_again_ns(cache), PC_WORK_URGENT);
	atomic_store_explicit(&cache->signal.writeback_idle, true, memory_order_seq_cst);
	if (log_has_dirty(cache))
		pc_signal_work(cache, PC_WORK_WRITEBACK);
	return await_bits(cache, PC_WORK_WRITEBACK);
}

/* What is due waits for the ceiling of the rate, unless somebody asks meanwhile. 1 may go on, 0 look again, -1 stop. */
static int await_rate(struct pcache *cache, struct pacing *pacing, uint64_t rate, uint64_t now_ns)
{
	uint64_t wait_ns = rate ? pc_bucket_wait_ns(&pacing->bucket, rate, now_ns) : 0;

	if (!wait_ns)
		return 1;
	return pause_unless(cache, PC_MIN(wait_ns, look_again_ns(cache)), PC_WORK_URGENT) ? 0 : -1;
}

/* One look: a step if one is due. 1 did something, 0 nothing to do now, -1 stop. */
static int look_and_step(struct pcache *cache, struct pacing *pacing)
{
	bool urgent =
		(take_urgent(cache) && needs_writeback(cache)) || somebody_waits(cache) || somebody_is_slow(cache);
	uint64_t now_ns = pc_monotonic_ns(), rate = 0;
	enum due due = look_at_clock(cache, pacing, now_ns);
	int may = 1;

	if (!urgent && due == DUE_NOT)
		return 0;
	if (!urgent && due == DUE_PACED) {
		rate = atomic_load_explicit(&cache->writeback_rate, memory_order_relaxed);
		may = await_rate(cache, pacing, rate, now_ns);
	}
	return may > 0 ? run_step(cache, pacing, rate) : may < 0 ? -1 : 1;
}

static void *writeback_main(void *arg)
{
	struct pcache *cache = ((struct pc_workers *)arg)->cache;
	struct pacing pacing = { .pause_ns = RETRY_MIN_NS };
	int did = 1;

	pc_ages_init(&pacing.rest, false);
	pc_ages_init(&pacing.limited, true);
	pc_media_guard_thread(cache->media);
	while (did >= 0 && !is_stopping(cache)) {
		did = look_and_step(cache, &pacing);
		/* Room is wanted and there is no step: the space worker looks again when something has changed. */
		if (did == 0 && !await_work(cache))
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
