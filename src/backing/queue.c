/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The queue of writes: which way they go, and how their ends come back.
 *
 * Direct I/O and the page cache: a file backing with a ring is read through the page cache and written past it. The kernel drops what a direct write passes from its cache, before the write
 * and after; what it cannot put right is a page that is written through the cache at the same time. So a queue takes one way for all of its writes, decided by whether the file takes
 * direct writes of one cache block; if the file should refuse one later, everything in flight ends first and all writes take the other way from then on.
 *
 * A backing whose submit callback says EAGAIN has enough for now: the write waits for another one to end, and where none is in flight the write callback is called.
 *
 * Locks: reported is filled by any thread under the lock of the queue; all else belongs to the thread that uses it.
 */
#include "backing/queue.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "backing/uring.h"

static const uint32_t direct_units[] = { 512, 4096 };

/* Smallest unit that direct I/O on fd takes, by trying; 0: none that a cache block could have. */
static uint32_t direct_unit(int fd, void *memory)
{
	for (size_t i = 0; i < PC_ARRAY_NR(direct_units); i++) {
		if (pread(fd, memory, direct_units[i], 0) >= 0)
			return direct_units[i];
	}
	return 0;
}

static int start_ring(struct pc_backing_queue *queue, void *memory, uint64_t memory_bytes, uint32_t block_bytes)
{
	int fd = queue->backing->direct_fd;
	uint32_t unit = direct_unit(fd, memory);

	if (unit == 0 || block_bytes % unit != 0)
		return -EOPNOTSUPP;
	return pc_uring_new(fd, memory, memory_bytes, PC_QUEUE_DEPTH_MAX, &queue->ring);
}

int pc_queue_init(struct pc_backing_queue *queue, struct pcache_backing *backing, void *memory, uint64_t memory_bytes,
		  uint32_t block_bytes)
{
	int rc;

	memset(queue, 0, sizeof(*queue));
	queue->backing = backing;
	queue->max_len = PC_ROUND_DOWN(backing->ops.max_transfer_bytes, (uint64_t)block_bytes);
	rc = pc_mutex_init(&queue->lock, PC_RANK_BACKING, 0);
	if (rc)
		return rc;
	rc = pc_cond_init(&queue->cond);
	if (rc) {
		pc_mutex_fini(&queue->lock);
		return rc;
	}
	queue->way = backing->ops.submit ? PC_QUEUE_SUBMIT : PC_QUEUE_CALLS;
	if (backing->direct_fd >= 0) {
		queue->ring_error = start_ring(queue, memory, memory_bytes, block_bytes);
		if (!queue->ring_error)
			queue->way = PC_QUEUE_RING;
	} else {
		queue->ring_error = backing->direct_error;
	}
	return 0;
}

void pc_queue_fini(struct pc_backing_queue *queue)
{
	pc_uring_free(queue->ring);
	pc_cond_fini(&queue->cond);
	pc_mutex_fini(&queue->lock);
	memset(queue, 0, sizeof(*queue));
}

static void write_by_call(struct pc_backing_queue *queue, struct pcache_backing_io *io)
{
	io->result = pc_backing_write(queue->backing, io->buf, io->off, io->len);
	queue->in_flight_nr--;
	pc_io_list_add(&queue->ended, io);
}

/* Takes over what was reported. Waits for something if wait. */
static void take_reported(struct pc_backing_queue *queue, bool wait)
{
	struct pcache_backing_io *io;

	pc_mutex_lock(&queue->lock);
	while (wait && !queue->reported.first)
		pc_cond_wait(&queue->cond, &queue->lock);
	while ((io = pc_io_list_take(&queue->reported)) != NULL) {
		queue->in_flight_nr--;
		pc_io_list_add(&queue->ended, io);
	}
	pc_mutex_unlock(&queue->lock);
}

static void write_by_submit(struct pc_backing_queue *queue, struct pcache_backing_io *io)
{
	const struct pcache_backing_ops *ops = &queue->backing->ops;
	/* The callback serves reads too, so its buffer is not const; a write leaves it alone. */
	void *buf = (void *)(uintptr_t)io->buf;
	int rc;

	if (io->len > queue->max_len) {
		write_by_call(queue, io); /* in parts */
		return;
	}
	while ((rc = ops->submit(queue->backing->user, io, PCACHE_BACKING_WRITE, buf, io->off, io->len)) == -EAGAIN) {
		if (queue->in_flight_nr == 1) {
			write_by_call(queue, io);
			return;
		}
		take_reported(queue, true);
	}
	if (rc < 0) {
		io->result = pc_backing_errno(rc);
		queue->in_flight_nr--;
		pc_io_list_add(&queue->ended, io);
	}
}

void pc_queue_write(struct pc_backing_queue *queue, struct pcache_backing_io *io)
{
	io->queue = queue;
	queue->in_flight_nr++;
	switch (queue->refused.first ? PC_QUEUE_CALLS : queue->way) {
	case PC_QUEUE_RING:
		pc_uring_write(queue->ring, io);
		break;
	case PC_QUEUE_SUBMIT:
		write_by_submit(queue, io);
		break;
	default:
		if (queue->refused.first)
			pc_io_list_add(&queue->refused, io); /* behind those that still are in flight */
		else
			write_by_call(queue, io);
	}
}

/* What the ring refused, now that nothing else is in flight; and no further write goes there. */
static void write_refused(struct pc_backing_queue *queue)
{
	struct pcache_backing_io *io;

	queue->way = queue->backing->ops.submit ? PC_QUEUE_SUBMIT : PC_QUEUE_CALLS;
	queue->ring_error = pc_uring_error(queue->ring);
	if (!queue->ring_error)
		queue->ring_error = -EOPNOTSUPP;
	while ((io = pc_io_list_take(&queue->refused)) != NULL)
		write_by_call(queue, io);
}

static uint32_t list_nr(const struct pc_backing_io_list *list)
{
	uint32_t nr = 0;

	for (const struct pcache_backing_io *io = list->first; io; io = io->next)
		nr++;
	return nr;
}

static void reap_ring(struct pc_backing_queue *queue, bool wait)
{
	struct pc_backing_io_list ended = { 0 };
	struct pcache_backing_io *io;

	(void)pc_uring_reap(queue->ring, wait, &ended, &queue->refused);
	while ((io = pc_io_list_take(&ended)) != NULL) {
		queue->in_flight_nr--;
		pc_io_list_add(&queue->ended, io);
	}
	if (queue->refused.first && list_nr(&queue->refused) == queue->in_flight_nr)
		write_refused(queue);
}

struct pcache_backing_io *pc_queue_fetch(struct pc_backing_queue *queue, bool wait)
{
	while (!queue->ended.first && queue->in_flight_nr != 0) {
		if (queue->way == PC_QUEUE_RING)
			reap_ring(queue, wait);
		else
			take_reported(queue, wait);
		if (!wait)
			break;
	}
	return pc_io_list_take(&queue->ended);
}

void pc_queue_complete(struct pcache_backing_io *io, int result)
{
	struct pc_backing_queue *queue = io->queue;

	pc_mutex_lock(&queue->lock);
	io->result = pc_backing_errno(result);
	pc_io_list_add(&queue->reported, io);
	/* Under the lock: the queue may go once the last end was fetched. */
	pc_cond_signal(&queue->cond);
	pc_mutex_unlock(&queue->lock);
}
