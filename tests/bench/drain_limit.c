/* SPDX-License-Identifier: BSD-3-Clause */
/* The limit of a drain, see the header. */
#include "bench/drain_limit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef PC_HAVE_URING
#include <liburing.h>

#define DEPTH 128u
#define RUN_BYTES (UINT64_C(1) << 20)
#define MEMORY_BYTES (UINT64_C(8) << 20)
#define SUBMIT_BYTES (UINT64_C(256) << 10)
#define SUBMIT_NR 16u

struct drain_ring {
	struct io_uring ring;
	int fd;
	uint8_t *memory;
	uint64_t flying_bytes;
	uint32_t flying_nr;
	uint64_t untold_bytes;
	uint32_t untold_nr;
	bool fixed;
	int error;
};

int drain_limit_open(struct drain_limit *limit)
{
	struct drain_ring *ring = calloc(1, sizeof(*ring));
	struct iovec iov;
	int rc;

	if (!ring)
		return -ENOMEM;
	limit->ring = ring;
	ring->fd = open(limit->path, O_RDWR | O_CLOEXEC | (limit->buffered ? 0 : O_DIRECT));
	ring->memory = aligned_alloc(4096, MEMORY_BYTES);
	if (ring->fd < 0 || !ring->memory)
		return ring->fd < 0 ? -errno : -ENOMEM;
	memset(ring->memory, 0xa5, MEMORY_BYTES);
	rc = io_uring_queue_init(DEPTH, &ring->ring, IORING_SETUP_COOP_TASKRUN);
	if (rc)
		return rc;
	iov = (struct iovec){ .iov_base = ring->memory, .iov_len = MEMORY_BYTES };
	ring->fixed = io_uring_register_buffers(&ring->ring, &iov, 1) == 0;
	return io_uring_register_files(&ring->ring, &ring->fd, 1);
}

void drain_limit_close(struct drain_limit *limit)
{
	io_uring_queue_exit(&limit->ring->ring);
	(void)close(limit->ring->fd);
	free(limit->ring->memory);
	free(limit->ring);
}

static void reap(struct drain_ring *ring, bool wait)
{
	struct io_uring_cqe *cqe;

	if (wait)
		(void)io_uring_submit_and_wait(&ring->ring, 1);
	else if (ring->untold_nr)
		(void)io_uring_submit(&ring->ring);
	ring->untold_nr = 0;
	ring->untold_bytes = 0;
	while (io_uring_peek_cqe(&ring->ring, &cqe) == 0) {
		uint64_t len = io_uring_cqe_get_data64(cqe);

		if (cqe->res != (int)len)
			ring->error = cqe->res < 0 ? cqe->res : -EIO;
		ring->flying_bytes -= len;
		ring->flying_nr--;
		io_uring_cqe_seen(&ring->ring, cqe);
	}
}

static void write_run(struct drain_ring *ring, uint64_t off, uint64_t len)
{
	struct io_uring_sqe *sqe;

	while (ring->flying_nr == DEPTH || ring->flying_bytes + len > MEMORY_BYTES)
		reap(ring, true);
	sqe = io_uring_get_sqe(&ring->ring);
	if (ring->fixed)
		io_uring_prep_write_fixed(sqe, 0, ring->memory, (unsigned int)len, off, 0);
	else
		io_uring_prep_write(sqe, 0, ring->memory, (unsigned int)len, off);
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data64(sqe, len);
	ring->flying_nr++;
	ring->flying_bytes += len;
	ring->untold_bytes += len;
	if (++ring->untold_nr == SUBMIT_NR || ring->untold_bytes >= SUBMIT_BYTES)
		reap(ring, false);
}

int drain_limit_write(struct drain_limit *limit)
{
	struct drain_ring *ring = limit->ring;
	uint64_t run_max = RUN_BYTES / limit->unit_bytes, nr;

	for (uint64_t at = 0; at < limit->unit_nr; at += nr) {
		nr = 1;
		if (!limit->is_dirty[at])
			continue;
		while (at + nr < limit->unit_nr && limit->is_dirty[at + nr] && nr < run_max)
			nr++;
		write_run(ring, at * limit->unit_bytes, nr * limit->unit_bytes);
	}
	while (ring->flying_nr)
		reap(ring, true);
	if (ring->error)
		return ring->error;
	return fdatasync(ring->fd) == 0 ? 0 : -errno;
}
#else
int drain_limit_open(struct drain_limit *limit)
{
	(void)limit;
	return -ENOSYS;
}

int drain_limit_write(struct drain_limit *limit)
{
	(void)limit;
	return -ENOSYS;
}

void drain_limit_close(struct drain_limit *limit)
{
	(void)limit;
}
#endif
