/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes to a file through io_uring: a deep queue of direct writes, so that the disk is busy while the next data is loaded and verified.
 *
 * Job: each write ends whole or with an error. The file is open for direct I/O; what is in flight lies in one piece of memory, which is registered, if the
 * process may lock as much, so that the kernel does not look its pages up each time. The file is registered too.
 *
 * Starts are gathered: one system call takes many small writes, or one large one. Nothing is lost by that, as whoever waits submits first.
 *
 * Threads: one at a time. The kernel ties a request to the thread that submitted it, and cancels it when that thread ends; so the user of the queue fetches all ends
 * before it lets another thread go on.
 *
 * Errors: a short write is finished by pwrite, and so is one that the kernel wants to be asked for again (EAGAIN, EINTR). EINVAL and EOPNOTSUPP say that the file does not take
 * such a request at all; that is for the queue, which has another way. So is what the kernel has not been told of when it takes no calls any more (a process that forbids them to itself): what it has
 * been told of still ends, and is waited for without a call of the ring.
 */
#include "backing/uring.h"

#include <liburing.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SUBMIT_BYTES (UINT64_C(256) << 10) /* started and not told to the kernel: no more than these */
#define SUBMIT_NR 16u

struct pc_uring {
	struct io_uring ring;
	int fd;
	bool fixed_file;
	bool fixed_buffer;
	int error; /* the kernel takes no calls any more; or 0 */
	uint32_t told_nr; /* the kernel has them */
	struct pc_backing_io_list untold;
	uint32_t untold_nr;
	uint64_t untold_bytes;
};

int pc_uring_new(int fd, void *memory, uint64_t memory_bytes, uint32_t depth, struct pc_uring **out_ring)
{
	struct iovec iov = { .iov_base = memory, .iov_len = (size_t)memory_bytes };
	struct pc_uring *ring = calloc(1, sizeof(*ring));
	int rc;

	if (!ring)
		return -ENOMEM;
	ring->fd = fd;
	/* No interrupt of the thread for each end: it looks by itself. Kernels before 5.19 do not know that. */
	rc = io_uring_queue_init(depth, &ring->ring, IORING_SETUP_COOP_TASKRUN);
	if (rc == -EINVAL)
		rc = io_uring_queue_init(depth, &ring->ring, 0);
	if (rc) {
		free(ring);
		return rc;
	}
	ring->fixed_file = io_uring_register_files(&ring->ring, &fd, 1) == 0;
	ring->fixed_buffer = io_uring_register_buffers(&ring->ring, &iov, 1) == 0;
	*out_ring = ring;
	return 0;
}

void pc_uring_free(struct pc_uring *ring)
{
	if (!ring)
		return;
	io_uring_queue_exit(&ring->ring);
	free(ring);
}

static bool passes(int rc)
{
	return rc == -EINTR || rc == -EAGAIN || rc == -EBUSY;
}

/* Tells the kernel, and waits for wait_nr ends. A system call that could not take all leaves the rest for the next. */
static void tell(struct pc_uring *ring, uint32_t wait_nr)
{
	int taken;

	if (ring->error)
		return;
	taken = wait_nr ? io_uring_submit_and_wait(&ring->ring, wait_nr) : io_uring_submit(&ring->ring);
	/* It has taken none of them then, and is never asked again, so that none is written twice. */
	if (taken < 0 && !passes(taken))
		ring->error = taken;
	if (taken <= 0)
		return;
	ring->told_nr += (uint32_t)taken;
	for (int i = 0; i < taken && pc_io_list_take(&ring->untold); i++)
		ring->untold_nr--;
	if (!ring->untold_nr)
		ring->untold_bytes = 0;
}

void pc_uring_write(struct pc_uring *ring, struct pcache_backing_io *io)
{
	struct io_uring_sqe *sqe = NULL;
	int fd = ring->fixed_file ? 0 : ring->fd;

	while (!ring->error && (sqe = io_uring_get_sqe(&ring->ring)) == NULL)
		tell(ring, 0);
	pc_io_list_add(&ring->untold, io);
	ring->untold_nr++;
	ring->untold_bytes += io->len;
	if (ring->error)
		return;
	if (ring->fixed_buffer)
		io_uring_prep_write_fixed(sqe, fd, io->buf, (unsigned int)io->len, io->off, 0);
	else
		io_uring_prep_write(sqe, fd, io->buf, (unsigned int)io->len, io->off);
	if (ring->fixed_file)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, io);
	if (ring->untold_nr >= SUBMIT_NR || ring->untold_bytes >= SUBMIT_BYTES)
		tell(ring, 0);
}

static int write_rest(int fd, const uint8_t *bytes, uint64_t off, uint64_t len)
{
	while (len != 0) {
		ssize_t put = pwrite(fd, bytes, (size_t)len, (off_t)off);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? -errno : -EIO; /* no progress and no reason: do not spin */
		bytes += put;
		off += (uint64_t)put;
		len -= (uint64_t)put;
	}
	return 0;
}

int pc_uring_result(int fd, struct pcache_backing_io *io, int res, bool *out_refused)
{
	uint64_t done = res > 0 ? (uint64_t)res : 0;
	int rc = res < 0 ? res : 0;

	if (res >= 0 && done > io->len)
		return -EIO;
	if (rc == -EAGAIN || rc == -EINTR || (done > 0 && done < io->len))
		rc = write_rest(fd, (const uint8_t *)io->buf + done, io->off + done, io->len - done);
	else if (res == 0)
		rc = -EIO;
	*out_refused = rc == -EINVAL || rc == -EOPNOTSUPP;
	return rc;
}

/* One of those that the kernel has been told of ends by itself; any system call lets it show. */
static void wait_told(const struct pc_uring *ring)
{
	const struct timespec pause = { .tv_nsec = 50000 };

	if (ring->told_nr != 0 && io_uring_cq_ready(&ring->ring) == 0)
		(void)nanosleep(&pause, NULL);
}

int pc_uring_error(const struct pc_uring *ring)
{
	return ring->error;
}

uint32_t pc_uring_reap(struct pc_uring *ring, bool wait, struct pc_backing_io_list *ended,
		       struct pc_backing_io_list *refused)
{
	struct io_uring_cqe *cqe;
	uint32_t nr = 0;

	if (wait)
		tell(ring, io_uring_cq_ready(&ring->ring) == 0 ? 1 : 0);
	if (ring->error) {
		struct pcache_backing_io *io;

		while ((io = pc_io_list_take(&ring->untold)) != NULL)
			pc_io_list_add(refused, io);
		ring->untold_nr = 0;
		ring->untold_bytes = 0;
		if (wait)
			wait_told(ring);
	}
	while (io_uring_peek_cqe(&ring->ring, &cqe) == 0) {
		struct pcache_backing_io *io = io_uring_cqe_get_data(cqe);
		bool is_refused = false;
		int res = cqe->res;

		io_uring_cqe_seen(&ring->ring, cqe);
		ring->told_nr--;
		io->result = pc_uring_result(ring->fd, io, res, &is_refused);
		pc_io_list_add(is_refused ? refused : ended, io);
		nr++;
	}
	return nr;
}
