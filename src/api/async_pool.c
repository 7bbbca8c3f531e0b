/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The threads that do what has to wait, and the one that watches deadlines. Each is started when it is first needed, and ends with the cache.
 */
#include <errno.h>
#include <stdlib.h>

#include "api/async.h"
#include "base/options.h"
#include "base/sched.h"

/* ---- a request in a thread --------------------------------------------------------------------------------------------- */

static bool is_read(const struct pc_aio *aio)
{
	return aio->call.kind == PC_AIO_READ || aio->call.kind == PC_AIO_READV;
}

/* The thread has it until release. */
static void run_locked(struct pc_async *async, struct pcache *cache, struct pc_aio *aio)
{
	void *own;
	int rc;

	aio->state = PC_AIO_RUNNING;
	aio->has_thread = true;
	TAILQ_INSERT_TAIL(&async->running, aio, link);
	pc_mutex_unlock(&async->lock);
	rc = pc_aio_run(cache, &aio->call, &own);
	pc_mutex_lock(&async->lock);
	if (aio->state == PC_AIO_RUNNING) {
		/* Nobody else may end it from here on: its buffer is ours. */
		aio->state = PC_AIO_BEGUN;
		if (!rc && own) {
			pc_mutex_unlock(&async->lock);
			pc_aio_deliver(&aio->call, own);
			pc_mutex_lock(&async->lock);
		}
		pc_aio_end_locked(aio, rc);
	}
	TAILQ_REMOVE(&async->running, aio, link);
	aio->has_thread = false;
	if (!aio->to_reap)
		pc_aio_release_locked(aio);
	pc_cond_broadcast(&async->ended);
	free(own);
}

static void *thread_main(void *arg)
{
	struct pc_async *async = arg;
	struct pcache *cache = atomic_load(&async->cache);
	struct pc_aio *aio;

	pc_mutex_lock(&async->lock);
	for (;;) {
		while (!(aio = TAILQ_FIRST(&async->jobs)) && !async->stop)
			pc_cond_wait(&async->work, &async->lock);
		if (!aio)
			break;
		TAILQ_REMOVE(&async->jobs, aio, link);
		async->job_nr--;
		async->idle_nr--;
		run_locked(async, cache, aio);
		async->idle_nr++;
	}
	pc_mutex_unlock(&async->lock);
	return NULL;
}

/* ---- deadlines --------------------------------------------------------------------------------------------------------- */

int pc_async_revoke_locked(struct pc_async *async, struct pc_aio *aio, int result)
{
	switch (aio->state) {
	case PC_AIO_QUEUED:
		TAILQ_REMOVE(&async->jobs, aio, link);
		async->job_nr--;
		break;
	case PC_AIO_RUNNING:
		if (!is_read(aio) && aio->call.kind != PC_AIO_FLUSH)
			return -EBUSY;
		break;
	case PC_AIO_BEGUN:
		return -EBUSY;
	default:
		return -ENOENT;
	}
	pc_aio_end_locked(aio, result);
	return 0;
}

/* One of the list whose time is over; else lowers *next_ns to the earliest deadline. */
static struct pc_aio *overdue(const struct pc_aio_list *list, uint64_t now_ns, uint64_t *next_ns)
{
	struct pc_aio *aio;

	TAILQ_FOREACH(aio, list, link)
	{
		if (!aio->deadline_ns || aio->state == PC_AIO_ENDED)
			continue;
		if (aio->deadline_ns <= now_ns)
			return aio;
		*next_ns = PC_MIN(*next_ns, aio->deadline_ns);
	}
	return NULL;
}

static void *timer_main(void *arg)
{
	struct pc_async *async = arg;

	pc_mutex_lock(&async->lock);
	while (!async->stop) {
		uint64_t now_ns = pc_monotonic_ns(), next_ns = UINT64_MAX;
		struct pc_aio *aio = overdue(&async->jobs, now_ns, &next_ns);

		if (!aio)
			aio = overdue(&async->running, now_ns, &next_ns);
		if (aio) {
			aio->deadline_ns = 0; /* a write that has begun ends by itself */
			(void)pc_async_revoke_locked(async, aio, -ETIMEDOUT);
		} else if (next_ns == UINT64_MAX) {
			pc_cond_wait(&async->clock, &async->lock);
		} else {
			(void)pc_cond_wait_until(&async->clock, &async->lock, next_ns);
		}
	}
	pc_mutex_unlock(&async->lock);
	return NULL;
}

/* ---- queueing ---------------------------------------------------------------------------------------------------------- */

/* Fewer threads than wanted are no error while there is one. */
static int want_threads_locked(struct pc_async *async, bool timer)
{
	int rc = 0;

	if (timer && !async->has_timer) {
		rc = -pc_thread_start(&async->timer, timer_main, async);
		if (rc)
			return rc;
		async->has_timer = true;
	}
	if (async->idle_nr > async->job_nr || async->thread_nr == async->thread_max)
		return 0;
	rc = -pc_thread_start(&async->threads[async->thread_nr], thread_main, async);
	if (!rc) {
		async->thread_nr++;
		async->idle_nr++;
	}
	return async->thread_nr ? 0 : rc;
}

int pc_async_queue_locked(struct pc_async *async, struct pc_aio *aio)
{
	int rc = want_threads_locked(async, aio->deadline_ns != 0);

	if (rc)
		return rc;
	aio->state = PC_AIO_QUEUED;
	TAILQ_INSERT_TAIL(&async->jobs, aio, link);
	async->job_nr++;
	pc_cond_signal(&async->work);
	if (aio->deadline_ns)
		pc_cond_signal(&async->clock);
	return 0;
}

static struct pc_aio *first_of(const struct pc_aio_list *list, const struct pcache_queue *queue)
{
	struct pc_aio *aio;

	TAILQ_FOREACH(aio, list, link)
	{
		if (!queue || aio->queue == queue)
			return aio;
	}
	return NULL;
}

static bool is_active_locked(const struct pc_async *async, const struct pcache_queue *queue)
{
	return first_of(&async->jobs, queue) || first_of(&async->running, queue) ||
	       (queue ? queue->calling_nr : async->calling_nr) != 0;
}

void pc_async_end_all_locked(struct pc_async *async, struct pcache_queue *queue)
{
	struct pc_aio *aio;

	while ((aio = first_of(&async->jobs, queue)) != NULL)
		(void)pc_async_revoke_locked(async, aio, -ECANCELED);
	while (is_active_locked(async, queue))
		pc_cond_wait(&async->ended, &async->lock);
}

/* ---- of a cache -------------------------------------------------------------------------------------------------------- */

static int init_locks(struct pc_async *async)
{
	int rc = pc_mutex_init(&async->lock, PC_RANK_ASYNC, 0);

	if (rc)
		return rc;
	rc = pc_cond_init(&async->work);
	if (rc)
		goto undo_lock;
	rc = pc_cond_init(&async->clock);
	if (rc)
		goto undo_work;
	rc = pc_cond_init(&async->ended);
	if (!rc)
		return 0;
	pc_cond_fini(&async->clock);
undo_work:
	pc_cond_fini(&async->work);
undo_lock:
	pc_mutex_fini(&async->lock);
	return rc;
}

int pc_async_init(struct pcache *cache, const struct pcache_config *config)
{
	uint32_t thread_max = config ? (uint32_t)config->values[PCACHE_OPT_IO_THREADS] : 4;
	struct pc_async *async = calloc(1, sizeof(*async) + thread_max * sizeof(async->threads[0]));
	int rc;

	if (!async)
		return -ENOMEM;
	rc = init_locks(async);
	if (rc) {
		free(async);
		return rc;
	}
	async->thread_max = thread_max;
	async->ref_nr = 1;
	TAILQ_INIT(&async->jobs);
	TAILQ_INIT(&async->running);
	atomic_store(&async->cache, cache);
	cache->async = async;
	return 0;
}

void pc_async_fini(struct pcache *cache)
{
	struct pc_async *async = cache->async;

	if (!async)
		return;
	atomic_store(&async->closing, true);
	pc_mutex_lock(&async->lock);
	pc_async_end_all_locked(async, NULL);
	async->stop = true;
	pc_cond_broadcast(&async->work);
	pc_cond_broadcast(&async->clock);
	pc_mutex_unlock(&async->lock);
	for (uint32_t i = 0; i < async->thread_nr; i++)
		pc_thread_join(async->threads[i]);
	if (async->has_timer)
		pc_thread_join(async->timer);
	atomic_store(&async->cache, NULL);
	cache->async = NULL;
	pc_mutex_lock(&async->lock);
	pc_async_put_locked(async);
}

void pc_async_quiesce(struct pcache *cache)
{
	struct pc_async *async = cache->async;

	pc_mutex_lock(&async->lock);
	while (is_active_locked(async, NULL))
		pc_cond_wait(&async->ended, &async->lock);
	pc_mutex_unlock(&async->lock);
}

uint32_t pc_async_thread_max(const struct pcache *cache)
{
	return cache->async->thread_max;
}
