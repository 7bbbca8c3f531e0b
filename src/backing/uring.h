/* SPDX-License-Identifier: BSD-3-Clause */
/* Writes to a file through io_uring, for backing/queue alone. In a build without liburing there is no ring (-ENOSYS). */
#ifndef PC_BACKING_URING_H
#define PC_BACKING_URING_H

#include <errno.h>

#include "backing/queue.h"

#ifdef PC_HAVE_URING
/* A ring for writes to fd out of memory. 0, or why there is none: -ENOSYS, -EPERM (forbidden), -ENOMEM, -errno. */
int pc_uring_new(int fd, void *memory, uint64_t memory_bytes, uint32_t depth, struct pc_uring **out_ring);
void pc_uring_free(struct pc_uring *ring); /* NULL does nothing */
/* Starts a write; no more than depth are in flight. */
void pc_uring_write(struct pc_uring *ring, struct pcache_backing_io *io);
/* Moves what has ended to ended, or to refused if the file does not take such writes, or the kernel no calls. Waits for one if wait. Returns how many. */
uint32_t pc_uring_reap(struct pc_uring *ring, bool wait, struct pc_backing_io_list *ended,
		       struct pc_backing_io_list *refused);
/* 0, or why the kernel takes no calls any more. What it has not been told of is refused from then on. */
int pc_uring_error(const struct pc_uring *ring);
/* What the kernel's answer res means for io: 0 or a negated errno; what is left of a short write is written. *out_refused: not by this way. Exposed for tests. */
int pc_uring_result(int fd, struct pcache_backing_io *io, int res, bool *out_refused);
#else
static inline int pc_uring_new(int fd, void *memory, uint64_t memory_bytes, uint32_t depth, struct pc_uring **out_ring)
{
	(void)fd, (void)memory, (void)memory_bytes, (void)depth, (void)out_ring;
	return -ENOSYS;
}

static inline void pc_uring_free(struct pc_uring *ring)
{
	(void)ring;
}

static inline int pc_uring_error(const struct pc_uring *ring)
{
	(void)ring;
	return -ENOSYS;
}

static inline void pc_uring_write(struct pc_uring *ring, struct pcache_backing_io *io)
{
	(void)ring, (void)io;
}

static inline uint32_t pc_uring_reap(struct pc_uring *ring, bool wait, struct pc_backing_io_list *ended,
				     struct pc_backing_io_list *refused)
{
	(void)ring, (void)wait, (void)ended, (void)refused;
	return 0;
}
#endif

#endif
