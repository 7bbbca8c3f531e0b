/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file async.h
 * @brief Calls that do not wait: queues of requests to a cache, with callbacks or a descriptor to poll.
 *
 * A request does what the call of the same name in io.h does, and its result is what that call would have returned, bad arguments included; a completed one is as durable.
 * Hits, and writes that find room, are done inside the submitting call. What would have to wait is done by threads of the library (option `io_threads`): misses, flushes, writes that
 * wait for space or for a sync of the media. Requests are not ordered: one that must come after another is submitted when that is complete.
 *
 * Exactly one completion follows a submission that returned 0, and none any other. With a callback it is called, also before the submission returns, on any thread, with no lock held; it may
 * submit, reap and cancel, but neither free the queue nor close the cache. Without one the completion waits in the queue for pcache_queue_reap().
 *
 * Buffers are the library's until completion, and never touched afterwards, whatever the result. Arrays of iovec or ranges are only read inside the submission.
 *
 * Cancelled and timed out, a read or a flush ends at once, wherever it is. A write, discard or zeroing does so only while it waits for its turn, and then nothing of it is written, now or later;
 * once it has begun it ends by itself, so no stale data can ever follow a completion.
 */
#ifndef PCACHE_ASYNC_H
#define PCACHE_ASYNC_H

#include <pcache/io.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Opaque: a queue of requests to one cache. Any thread may use it. */
struct pcache_queue;

/** Most requests of one queue. */
#define PCACHE_QUEUE_DEPTH_MAX 65536u

/** Called once when a request is complete: @a result is what the synchronous call returns, -ECANCELED or -ETIMEDOUT. */
typedef void (*pcache_done_fn)(void *user, int result);

/** How a request is to be done. Set @a struct_bytes to sizeof(struct pcache_aio), zero what is not used. */
struct pcache_aio {
	uint32_t struct_bytes; /**< sizeof(struct pcache_aio) of the program */
	uint32_t flags; /**< of the synchronous call; with #PCACHE_NOWAIT the request is complete on return */
	uint64_t timeout_ns; /**< from the submission; 0: none */
	pcache_done_fn done; /**< NULL: the completion goes to the queue */
	void *user; /**< passed on to @a done, or to the completion */
};

/** One completed request, from pcache_queue_reap(). */
struct pcache_completion {
	void *user; /**< of the request */
	uint64_t ticket; /**< of the submission */
	int32_t result; /**< see #pcache_done_fn */
	uint32_t reserved; /**< 0 */
};

/**
 * Makes a queue for an open cache.
 *
 * @param depth     most requests that are neither complete nor, without a callback, reaped: 1 to #PCACHE_QUEUE_DEPTH_MAX.
 * @param out_queue the new queue.
 * @return 0, -EINVAL (NULL, @a depth), -ENOMEM, #PCACHE_E_FORKED. Does not block. Since 0.9.
 */
PCACHE_API int pcache_queue_new(struct pcache *cache, uint32_t depth, struct pcache_queue **out_queue);

/**
 * Frees a queue, before or after the cache is closed. What has not begun is cancelled, what has is waited for, and what waits to be reaped is dropped; the descriptor is closed. NULL does nothing and returns 0.
 *
 * No other call on the queue may be running, and none follow.
 *
 * @return 0, #PCACHE_E_FORKED (nothing was touched). Blocks on the backing. Since 0.9.
 */
PCACHE_API int pcache_queue_free(struct pcache_queue *queue);

/**
 * A descriptor that is readable exactly while completions wait to be reaped: for poll(2) and its like. Never read or close it. Only a queue that was asked for it pays for it.
 *
 * @return the descriptor, -EINVAL (NULL), #PCACHE_E_FORKED, or the errno of eventfd(2). Does not block. Since 0.9.
 */
PCACHE_API int pcache_queue_fd(struct pcache_queue *queue);

/**
 * Takes completions out of the queue, oldest first.
 *
 * @param out    receives up to @a max_nr.
 * @param max_nr at most INT32_MAX.
 * @return how many (0: none waits), -EINVAL (NULL, @a max_nr), #PCACHE_E_FORKED. Does not block. Since 0.9.
 */
PCACHE_API int pcache_queue_reap(struct pcache_queue *queue, struct pcache_completion *out, uint32_t max_nr);

/**
 * Cancels a request: its completion then says ECANCELED.
 *
 * @return 0, -EINVAL (NULL), -ENOENT (it is complete, or was never there), -EBUSY (a write that has begun: it ends by itself), #PCACHE_E_FORKED. Does not block,
 *         but for the callback of the request, which it calls. Since 0.9.
 */
PCACHE_API int pcache_aio_cancel(struct pcache_queue *queue, uint64_t ticket);

/**
 * Submits a pcache_read().
 *
 * @param aio        how; NULL: no flags, no time-out, no callback.
 * @param out_ticket for pcache_aio_cancel(); set before the completion can come. 0: it was completed by its callback inside the call. May be NULL.
 * @return 0; -EINVAL (NULL queue, @a aio shorter than the library's first version or longer with something this library does not know); -EAGAIN (as many requests as the depth allows: reap, or wait for callbacks; nothing was done, but for writes beyond pcache_atomic_write_max());
 *         -ESHUTDOWN (the cache is being closed, or is); #PCACHE_E_FORKED; the errno of pthread_create(3). Does not block. Since 0.9.
 */
PCACHE_API int pcache_aio_read(struct pcache_queue *queue, void *buf, uint64_t off, uint64_t len,
			       const struct pcache_aio *aio, uint64_t *out_ticket);
/** Submits a pcache_write(); see pcache_aio_read(). Since 0.9. */
PCACHE_API int pcache_aio_write(struct pcache_queue *queue, const void *buf, uint64_t off, uint64_t len,
				const struct pcache_aio *aio, uint64_t *out_ticket);
/** Submits a pcache_readv(); see pcache_aio_read(); also -ENOMEM: it has to wait, and there is no memory for the array. Since 0.9. */
PCACHE_API int pcache_aio_readv(struct pcache_queue *queue, const struct iovec *iov, uint32_t iov_nr, uint64_t off,
				const struct pcache_aio *aio, uint64_t *out_ticket);
/** Submits a pcache_writev(); see pcache_aio_read(); also -ENOMEM: it has to wait, and there is no memory for the array. Since 0.9. */
PCACHE_API int pcache_aio_writev(struct pcache_queue *queue, const struct iovec *iov, uint32_t iov_nr, uint64_t off,
				 const struct pcache_aio *aio, uint64_t *out_ticket);
/** Submits a pcache_write_batch(); see pcache_aio_read(); also -ENOMEM: it has to wait, and there is no memory for the array. Since 0.9. */
PCACHE_API int pcache_aio_write_batch(struct pcache_queue *queue, const struct pcache_range *ranges, uint32_t range_nr,
				      const struct pcache_aio *aio, uint64_t *out_ticket);
/** Submits a pcache_flush(), of what was completed before; flags must be 0. See pcache_aio_read(). Since 0.9. */
PCACHE_API int pcache_aio_flush(struct pcache_queue *queue, const struct pcache_aio *aio, uint64_t *out_ticket);
/** Submits a pcache_discard(); see pcache_aio_read(). Since 0.9. */
PCACHE_API int pcache_aio_discard(struct pcache_queue *queue, uint64_t off, uint64_t len, const struct pcache_aio *aio,
				  uint64_t *out_ticket);
/** Submits a pcache_write_zeroes(); see pcache_aio_read(). Since 0.9. */
PCACHE_API int pcache_aio_write_zeroes(struct pcache_queue *queue, uint64_t off, uint64_t len,
				       const struct pcache_aio *aio, uint64_t *out_ticket);

#ifdef __cplusplus
}
#endif
#endif
