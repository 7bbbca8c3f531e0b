/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Asynchronous calls: queues of requests to a cache, and the threads that do what has to wait. docs/decisions/0024-asynchronous-calls.md says why it is so.
 *
 * One lock of the cache protects all of it: the requests, the lists they are in, and the descriptors of the queues. It is a leaf but for memory, and never held where anything
 * waits or the program is called back.
 *
 *     FREE -> BEGUN      submitted; tried by the caller
 *     BEGUN -> QUEUED    waits for a thread
 *     QUEUED -> RUNNING  a thread has it; who cancels a read may take it away
 *     RUNNING -> BEGUN   the thread has done it, and nobody may take it away
 *     any -> ENDED       whoever makes this step reports it, so nobody does twice
 *     ENDED -> FREE      reported, taken, and no thread has it any more
 */
#ifndef PC_API_ASYNC_H
#define PC_API_ASYNC_H

#include <pthread.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/lock.h"
#include "core/cache.h"
#include "pcache/async.h"

enum pc_aio_state { PC_AIO_FREE, PC_AIO_BEGUN, PC_AIO_QUEUED, PC_AIO_RUNNING, PC_AIO_ENDED };
enum pc_aio_kind {
	PC_AIO_READ,
	PC_AIO_WRITE,
	PC_AIO_READV,
	PC_AIO_WRITEV,
	PC_AIO_BATCH,
	PC_AIO_FLUSH,
	PC_AIO_DISCARD,
	PC_AIO_ZEROES
};

/* What is to be done. */
struct pc_aio_call {
	enum pc_aio_kind kind;
	uint32_t flags;
	uint64_t off, len;
	union {
		void *to; /* READ */
		const void *from; /* WRITE */
		const struct iovec *iov; /* READV, WRITEV */
		const struct pcache_range *ranges; /* BATCH */
	} data;
	uint32_t data_nr; /* of iov or ranges */
	uint64_t done_bytes; /* reads: served from the cache by the caller */
	bool counted; /* reads: in the statistics */
};

struct pc_aio {
	struct pcache_queue *queue;
	TAILQ_ENTRY(pc_aio) link; /* free, jobs, running */
	STAILQ_ENTRY(pc_aio) done_link; /* ended, to be reaped */
	enum pc_aio_state state;
	bool has_thread; /* works on it, or had better been */
	bool to_reap; /* ended, and its completion was not taken */
	uint64_t ticket; /* changes whenever the slot is used again */
	uint64_t deadline_ns; /* of pc_monotonic_ns(); 0: none */
	pcache_done_fn done;
	void *user;
	int result;
	struct pc_aio_call call;
	void *copy; /* of the array of the call; freed with the slot */
};

TAILQ_HEAD(pc_aio_list, pc_aio);
STAILQ_HEAD(pc_aio_done, pc_aio);

struct pcache_queue {
	struct pc_async *async;
	uint32_t depth;
	int fd; /* eventfd, readable while done is not empty; -1: nobody asked */
	pid_t pid;
	uint32_t calling_nr; /* callbacks that run */
	struct pc_aio_list free;
	struct pc_aio_done done;
	struct pc_aio slots[];
};

/* Of a cache. Lives as long as the cache or one of its queues. */
struct pc_async {
	struct pc_mutex lock; /* PC_RANK_ASYNC */
	struct pc_cond work; /* there is a job, or the end */
	struct pc_cond clock; /* an earlier deadline, or the end */
	struct pc_cond ended; /* a thread or a callback has ended */
	_Atomic(struct pcache *) cache; /* NULL: it was closed */
	struct pc_aio_list jobs; /* QUEUED */
	struct pc_aio_list running; /* a thread has them, RUNNING or ENDED */
	uint32_t job_nr;
	uint32_t idle_nr; /* threads without a job */
	uint32_t thread_nr;
	uint32_t thread_max;
	uint32_t calling_nr; /* callbacks that run */
	uint32_t ref_nr; /* the cache, and the queues */
	_Atomic bool closing;
	bool stop;
	bool has_timer;
	pthread_t timer;
	pthread_t threads[]; /* thread_max */
};

/* ---- async_queue.c: slots and completions ------------------------------------------------------------------------------ */

/* Not locked. A slot, BEGUN; NULL: all are used. */
struct pc_aio *pc_aio_take(struct pcache_queue *queue);
/* Ends a request that is not ENDED. Unlocks while a callback runs. */
void pc_aio_end_locked(struct pc_aio *aio, int result);
/* The slot is free for another request if nobody has it any more. */
void pc_aio_release_locked(struct pc_aio *aio);
/* Lets go of async; frees it after the last. Unlocks. */
void pc_async_put_locked(struct pc_async *async);

/* ---- async_run.c: what a request does ------------------------------------------------------------------------------------ */

/* Tries without waiting. False: it would have to wait. */
bool pc_aio_try(struct pcache *cache, struct pc_aio_call *call, int *out_result);
/* Does all of it, or of a read the rest, which is left in *out_own. */
int pc_aio_run(struct pcache *cache, const struct pc_aio_call *call, void **out_own);
/* After a read has run, and if its buffer still is ours. */
void pc_aio_deliver(const struct pc_aio_call *call, const void *own);

/* ---- async_pool.c: threads ----------------------------------------------------------------------------------------------- */

int pc_async_init(struct pcache *cache, const struct pcache_config *config); /* 0 or -errno */
/* Refuses new requests, cancels what has not begun, waits for what has, ends the threads. NULL in cache does nothing. */
void pc_async_fini(struct pcache *cache);
/* Waits until no request is there. */
void pc_async_quiesce(struct pcache *cache);
uint32_t pc_async_thread_max(const struct pcache *cache);
/* BEGUN -> QUEUED. 0 or -errno: nothing was queued, and the slot is as it was. */
int pc_async_queue_locked(struct pc_async *async, struct pc_aio *aio);
/* Cancels all of the queue (NULL: of all queues) that has not begun, waits for the rest. */
void pc_async_end_all_locked(struct pc_async *async, struct pcache_queue *queue);
/* Ends a request before its time if that can be. 0, -EBUSY (a write has begun). */
int pc_async_revoke_locked(struct pc_async *async, struct pc_aio *aio, int result);

#endif
