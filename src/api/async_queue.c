/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Slots of a queue, and how its completions are told.
 *
 * The descriptor is an eventfd whose counter is 1 while the list of completions is not empty, and 0 else. Both change under the lock: so a wake-up can be neither lost nor stale, and a
 * queue that is reaped in time makes no system call for each completion but one for each time the list became filled.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "api/async.h"
#include "api/handle.h"

static void arm_locked(const struct pcache_queue *queue)
{
	if (queue->fd >= 0)
		(void)eventfd_write(queue->fd, 1);
}

static void disarm_locked(const struct pcache_queue *queue)
{
	eventfd_t value;

	if (queue->fd >= 0)
		(void)eventfd_read(queue->fd, &value);
}

struct pc_aio *pc_aio_take(struct pcache_queue *queue)
{
	struct pc_async *async = queue->async;
	struct pc_aio *aio;

	pc_mutex_lock(&async->lock);
	aio = TAILQ_FIRST(&queue->free);
	if (aio) {
		TAILQ_REMOVE(&queue->free, aio, link);
		aio->state = PC_AIO_BEGUN;
		aio->ticket += PCACHE_QUEUE_DEPTH_MAX;
	}
	pc_mutex_unlock(&async->lock);
	return aio;
}

void pc_aio_release_locked(struct pc_aio *aio)
{
	struct pcache_queue *queue = aio->queue;

	if (aio->has_thread || aio->to_reap)
		return;
	free(aio->copy);
	aio->copy = NULL;
	aio->state = PC_AIO_FREE;
	/* The oldest is used next: a ticket says for long what it was. */
	TAILQ_INSERT_TAIL(&queue->free, aio, link);
}

/* to_reap keeps the slot meanwhile. */
static void call_back_locked(struct pc_aio *aio)
{
	struct pcache_queue *queue = aio->queue;
	struct pc_async *async = queue->async;

	async->calling_nr++;
	queue->calling_nr++;
	pc_mutex_unlock(&async->lock);
	pc_lock_none_held("completion callback");
	aio->done(aio->user, aio->result);
	pc_mutex_lock(&async->lock);
	async->calling_nr--;
	queue->calling_nr--;
	aio->to_reap = false;
	pc_aio_release_locked(aio);
	pc_cond_broadcast(&async->ended);
}

void pc_aio_end_locked(struct pc_aio *aio, int result)
{
	struct pcache_queue *queue = aio->queue;

	aio->state = PC_AIO_ENDED;
	aio->result = result;
	aio->to_reap = true;
	if (aio->done) {
		call_back_locked(aio);
		return;
	}
	if (STAILQ_EMPTY(&queue->done))
		arm_locked(queue);
	STAILQ_INSERT_TAIL(&queue->done, aio, done_link);
}

void pc_async_put_locked(struct pc_async *async)
{
	bool last = --async->ref_nr == 0;

	pc_mutex_unlock(&async->lock);
	if (!last)
		return;
	pc_cond_fini(&async->ended);
	pc_cond_fini(&async->clock);
	pc_cond_fini(&async->work);
	pc_mutex_fini(&async->lock);
	free(async);
}

/* ---- exported ------------------------------------------------------------------------------------------------------------ */

/* 0, -EINVAL, PCACHE_E_FORKED; also of a queue whose cache was closed. */
static int check(const struct pcache_queue *queue)
{
	const struct pcache *cache;

	if (!queue)
		return -EINVAL;
	cache = atomic_load(&queue->async->cache);
	if (cache)
		return pc_api_check(cache);
	return queue->pid == getpid() ? 0 : PCACHE_E_FORKED;
}

PCACHE_API int pcache_queue_new(struct pcache *cache, uint32_t depth, struct pcache_queue **out_queue)
{
	struct pcache_queue *queue;
	int rc = pc_api_check(cache);

	if (rc)
		return rc;
	if (!out_queue || depth == 0 || depth > PCACHE_QUEUE_DEPTH_MAX)
		return -EINVAL;
	queue = calloc(1, sizeof(*queue) + depth * sizeof(queue->slots[0]));
	if (!queue)
		return -ENOMEM;
	queue->async = cache->async;
	queue->depth = depth;
	queue->fd = -1;
	queue->pid = getpid();
	TAILQ_INIT(&queue->free);
	STAILQ_INIT(&queue->done);
	for (uint32_t i = 0; i < depth; i++) {
		queue->slots[i].queue = queue;
		queue->slots[i].ticket = i;
		TAILQ_INSERT_TAIL(&queue->free, &queue->slots[i], link);
	}
	pc_mutex_lock(&queue->async->lock);
	queue->async->ref_nr++;
	pc_mutex_unlock(&queue->async->lock);
	*out_queue = queue;
	return 0;
}

PCACHE_API int pcache_queue_free(struct pcache_queue *queue)
{
	struct pc_async *async;
	int rc;

	if (!queue)
		return 0;
	rc = check(queue);
	if (rc)
		return rc;
	async = queue->async;
	pc_mutex_lock(&async->lock);
	pc_async_end_all_locked(async, queue);
	pc_async_put_locked(async);
	for (uint32_t i = 0; i < queue->depth; i++)
		free(queue->slots[i].copy);
	if (queue->fd >= 0)
		(void)close(queue->fd);
	free(queue);
	return 0;
}

PCACHE_API int pcache_queue_fd(struct pcache_queue *queue)
{
	int rc = check(queue);

	if (rc)
		return rc;
	pc_mutex_lock(&queue->async->lock);
	if (queue->fd < 0)
		queue->fd = eventfd(!STAILQ_EMPTY(&queue->done), EFD_CLOEXEC | EFD_NONBLOCK);
	rc = queue->fd < 0 ? -errno : queue->fd;
	pc_mutex_unlock(&queue->async->lock);
	return rc;
}

PCACHE_API int pcache_queue_reap(struct pcache_queue *queue, struct pcache_completion *out, uint32_t max_nr)
{
	struct pc_aio *aio;
	int rc = check(queue);
	uint32_t nr = 0;

	if (rc)
		return rc;
	if ((!out && max_nr) || max_nr > INT32_MAX)
		return -EINVAL;
	pc_mutex_lock(&queue->async->lock);
	while (nr < max_nr && (aio = STAILQ_FIRST(&queue->done)) != NULL) {
		out[nr++] =
			(struct pcache_completion){ .user = aio->user, .ticket = aio->ticket, .result = aio->result };
		STAILQ_REMOVE_HEAD(&queue->done, done_link);
		aio->to_reap = false;
		pc_aio_release_locked(aio);
	}
	if (nr && STAILQ_EMPTY(&queue->done))
		disarm_locked(queue);
	pc_mutex_unlock(&queue->async->lock);
	return (int)nr;
}

PCACHE_API int pcache_aio_cancel(struct pcache_queue *queue, uint64_t ticket)
{
	struct pc_aio *aio;
	int rc = check(queue);

	if (rc)
		return rc;
	if (ticket % PCACHE_QUEUE_DEPTH_MAX >= queue->depth)
		return -ENOENT;
	aio = &queue->slots[ticket % PCACHE_QUEUE_DEPTH_MAX];
	pc_mutex_lock(&queue->async->lock);
	rc = aio->ticket != ticket ? -ENOENT : pc_async_revoke_locked(queue->async, aio, -ECANCELED);
	pc_mutex_unlock(&queue->async->lock);
	return rc;
}

/* ---- submission ---------------------------------------------------------------------------------------------------------- */

static int take_aio(const struct pcache_aio *from, struct pcache_aio *to)
{
	*to = (struct pcache_aio){ 0 };
	if (!from)
		return 0;
	if (from->struct_bytes < sizeof(*to))
		return -EINVAL;
	for (size_t i = sizeof(*to); i < from->struct_bytes; i++) {
		if (((const uint8_t *)from)[i])
			return -EINVAL;
	}
	*to = *from;
	return 0;
}

static size_t array_bytes(const struct pc_aio_call *call)
{
	switch (call->kind) {
	case PC_AIO_READV:
	case PC_AIO_WRITEV:
		return call->data_nr * sizeof(struct iovec);
	case PC_AIO_BATCH:
		return call->data_nr * sizeof(struct pcache_range);
	default:
		return 0;
	}
}

static int copy_array(struct pc_aio *aio)
{
	size_t bytes = array_bytes(&aio->call);

	if (!bytes)
		return 0;
	aio->copy = malloc(bytes);
	if (!aio->copy)
		return -ENOMEM;
	memcpy(aio->copy, aio->call.data.iov, bytes);
	aio->call.data.iov = aio->copy;
	return 0;
}

/* It has to wait: a thread is to do it. */
static int queue_slot(struct pc_aio *aio)
{
	struct pc_async *async = aio->queue->async;
	int rc = copy_array(aio);

	pc_mutex_lock(&async->lock);
	if (!rc)
		rc = atomic_load(&async->closing) ? -ESHUTDOWN : pc_async_queue_locked(async, aio);
	if (rc)
		pc_aio_release_locked(aio);
	pc_mutex_unlock(&async->lock);
	return rc;
}

static void fill_slot(struct pc_aio *aio, const struct pcache_aio *how, const struct pc_aio_call *call,
		      uint64_t *ticket)
{
	aio->done = how->done;
	aio->user = how->user;
	aio->deadline_ns = how->timeout_ns ? pc_monotonic_ns() + how->timeout_ns : 0;
	aio->call = *call;
	*ticket = aio->ticket;
}

static int submit_to_queue(struct pcache_queue *queue, struct pcache *cache, const struct pcache_aio *how,
			   const struct pc_aio_call *call, uint64_t *ticket)
{
	struct pc_aio *aio = pc_aio_take(queue);
	int result;

	if (!aio)
		return -EAGAIN;
	fill_slot(aio, how, call, ticket);
	if (!pc_aio_try(cache, &aio->call, &result))
		return queue_slot(aio);
	pc_mutex_lock(&queue->async->lock);
	pc_aio_end_locked(aio, result);
	pc_mutex_unlock(&queue->async->lock);
	return 0;
}

static int submit_with_callback(struct pcache_queue *queue, struct pcache *cache, const struct pcache_aio *how,
				struct pc_aio_call *call, uint64_t *ticket)
{
	struct pc_aio *aio;
	int result;

	*ticket = 0;
	if (pc_aio_try(cache, call, &result)) {
		pc_lock_none_held("completion callback");
		how->done(how->user, result);
		return 0;
	}
	aio = pc_aio_take(queue);
	if (!aio)
		return -EAGAIN;
	fill_slot(aio, how, call, ticket);
	return queue_slot(aio);
}

static int submit(struct pcache_queue *queue, struct pc_aio_call call, const struct pcache_aio *aio,
		  uint64_t *out_ticket)
{
	uint64_t no_ticket;
	struct pcache *cache;
	struct pcache_aio how;
	int rc = check(queue);

	if (!rc)
		rc = take_aio(aio, &how);
	if (rc)
		return rc;
	cache = atomic_load(&queue->async->cache);
	if (!cache || atomic_load(&queue->async->closing))
		return -ESHUTDOWN;
	call.flags = how.flags;
	return (how.done ? submit_with_callback(queue, cache, &how, &call, out_ticket ? out_ticket : &no_ticket)
			 : submit_to_queue(queue, cache, &how, &call, out_ticket ? out_ticket : &no_ticket));
}

PCACHE_API int pcache_aio_read(struct pcache_queue *queue, void *buf, uint64_t off, uint64_t len,
			       const struct pcache_aio *aio, uint64_t *out_ticket)
{
	return submit(queue, (struct pc_aio_call){ .kind = PC_AIO_READ, .off = off, .len = len, .data.to = buf }, aio,
		      out_ticket);
}

PCACHE_API int pcache_aio_write(struct pcache_queue *queue, const void *buf, uint64_t off, uint64_t len,
				const struct pcache_aio *aio, uint64_t *out_ticket)
{
	return submit(queue, (struct pc_aio_call){ .kind = PC_AIO_WRITE, .off = off, .len = len, .data.from = buf },
		      aio, out_ticket);
}

PCACHE_API int pcache_aio_readv(struct pcache_queue *queue, const struct iovec *iov, uint32_t iov_nr, uint64_t off,
				const struct pcache_aio *aio, uint64_t *out_ticket)
{
	return submit(queue,
		      (struct pc_aio_call){ .kind = PC_AIO_READV, .off = off, .data.iov = iov, .data_nr = iov_nr }, aio,
		      out_ticket);
}

PCACHE_API int pcache_aio_writev(struct pcache_queue *queue, const struct iovec *iov, uint32_t iov_nr, uint64_t off,
				 const struct pcache_aio *aio, uint64_t *out_ticket)
{
	return submit(queue,
		      (struct pc_aio_call){ .kind = PC_AIO_WRITEV, .off = off, .data.iov = iov, .data_nr = iov_nr },
		      aio, out_ticket);
}

PCACHE_API int pcache_aio_write_batch(struct pcache_queue *queue, const struct pcache_range *ranges, uint32_t range_nr,
				      const struct pcache_aio *aio, uint64_t *out_ticket)
{
	return submit(queue, (struct pc_aio_call){ .kind = PC_AIO_BATCH, .data.ranges = ranges, .data_nr = range_nr },
		      aio, out_ticket);
}

PCACHE_API int pcache_aio_flush(struct pcache_queue *queue, const struct pcache_aio *aio, uint64_t *out_ticket)
{
	return submit(queue, (struct pc_aio_call){ .kind = PC_AIO_FLUSH }, aio, out_ticket);
}

PCACHE_API int pcache_aio_discard(struct pcache_queue *queue, uint64_t off, uint64_t len, const struct pcache_aio *aio,
				  uint64_t *out_ticket)
{
	return submit(queue, (struct pc_aio_call){ .kind = PC_AIO_DISCARD, .off = off, .len = len }, aio, out_ticket);
}

PCACHE_API int pcache_aio_write_zeroes(struct pcache_queue *queue, uint64_t off, uint64_t len,
				       const struct pcache_aio *aio, uint64_t *out_ticket)
{
	return submit(queue, (struct pc_aio_call){ .kind = PC_AIO_ZEROES, .off = off, .len = len }, aio, out_ticket);
}
