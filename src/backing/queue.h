/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A queue of writes to a backing: many are started, and their ends are fetched in whatever order they come.
 *
 *     ring      the file backing, direct I/O through io_uring (uring.c)
 *     submit    a table with a submit callback; ends are reported on any thread
 *     calls     every other table: a write has ended when it was started
 *
 * One thread at a time uses a queue, and fetches every end before it lets another one go on. Writes that are in flight together must not overlap.
 */
#ifndef PC_BACKING_QUEUE_H
#define PC_BACKING_QUEUE_H

#include <stdatomic.h>

#include "backing/backing.h"
#include "base/lock.h"

#define PC_QUEUE_DEPTH_MAX 128u

struct pc_backing_queue;
struct pc_uring;

/* One write. The caller owns it, and leaves it alone from start to fetch; so he does the bytes. */
struct pcache_backing_io {
	const void *buf;
	uint64_t off;
	uint64_t len; /* better no more than max_len of the queue */
	int result; /* of the write, once it was fetched: 0 or a negated errno */
	/* Of the queue: */
	struct pc_backing_queue *queue;
	struct pcache_backing_io *next;
};

struct pc_backing_io_list {
	struct pcache_backing_io *first;
	struct pcache_backing_io *last;
};

enum pc_queue_way { PC_QUEUE_CALLS, PC_QUEUE_SUBMIT, PC_QUEUE_RING };

struct pc_backing_queue {
	struct pcache_backing *backing;
	_Atomic enum pc_queue_way way; /* of the using thread; others may look */
	int ring_error; /* a file backing without a ring: why; 0: nothing went wrong, or there was nothing to try */
	uint64_t max_len; /* of one request; a longer write is cut, and waited for */
	uint32_t in_flight_nr; /* started and not ended, as far as the using thread knows */
	struct pc_backing_io_list ended; /* of the using thread */
	struct pc_backing_io_list refused; /* the ring cannot take such writes: done by calls once nothing is in flight */
	struct pc_uring *ring;
	struct pc_mutex lock; /* PC_RANK_BACKING: reported */
	struct pc_cond cond;
	struct pc_backing_io_list reported; /* by pcache_backing_complete(), on any thread */
};

/*
 * Chooses the way. All buffers of writes will lie in memory (aligned to a page, longer than max_len), all ranges are multiples of block_bytes. 0 or -errno; that the ring
 * cannot be had is no failure.
 */
int pc_queue_init(struct pc_backing_queue *queue, struct pcache_backing *backing, void *memory, uint64_t memory_bytes,
		  uint32_t block_bytes);
/* Whether a queue may have more than one write in flight. */
static inline bool pc_queue_overlaps(const struct pcache_backing *backing)
{
	return backing->direct_fd >= 0 || backing->ops.submit;
}
/* Nothing is in flight. */
void pc_queue_fini(struct pc_backing_queue *queue);

/* Starts a write. Always to be fetched, also if it could not be started. */
void pc_queue_write(struct pc_backing_queue *queue, struct pcache_backing_io *io);
/* A write that has ended, or NULL: none has (wait: none is left). */
struct pcache_backing_io *pc_queue_fetch(struct pc_backing_queue *queue, bool wait);
/* What pcache_backing_complete() does: any thread. */
void pc_queue_complete(struct pcache_backing_io *io, int result);

static inline void pc_io_list_add(struct pc_backing_io_list *list, struct pcache_backing_io *io)
{
	io->next = NULL;
	if (list->last)
		list->last->next = io;
	else
		list->first = io;
	list->last = io;
}

static inline struct pcache_backing_io *pc_io_list_take(struct pc_backing_io_list *list)
{
	struct pcache_backing_io *io = list->first;

	if (io) {
		list->first = io->next;
		if (!list->first)
			list->last = NULL;
	}
	return io;
}

#endif
