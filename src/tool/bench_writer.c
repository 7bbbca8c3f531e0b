/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache bench, writer: the limit of a drain. Blocks whose places are known and sorted are merged to requests of up to 1 MiB and written out of registered memory by io_uring, up to 128
 * requests and 8 MiB of them at a time, and one fdatasync ends it. Without io_uring (not built in, or not allowed here) requests are written one after the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "tool/bench.h"

#define REQUEST_BYTES_MAX (UINT64_C(1) << 20)
#define DEPTH 128u
#define FLYING_BYTES_MAX (UINT64_C(8) << 20)

/* The next run of blocks that touch each other. False: there is none. */
static bool next_request(const struct bench_writer *writer, uint64_t *at, uint64_t *out_off, uint64_t *out_len)
{
	uint64_t end;

	if (*at == writer->off_nr)
		return false;
	*out_off = end = writer->offs[*at];
	while (*at < writer->off_nr && writer->offs[*at] == end && end + writer->len - *out_off <= REQUEST_BYTES_MAX) {
		end += writer->len;
		(*at)++;
	}
	if (end == *out_off) { /* one block that is longer than a request */
		end += writer->len;
		(*at)++;
	}
	*out_len = end - *out_off;
	return true;
}

static const uint8_t *source(const struct bench_writer *writer, uint64_t off, uint64_t len)
{
	uint64_t at = off % writer->map_bytes;

	return writer->map + (at + len > writer->map_bytes ? 0 : at);
}

static int write_plainly(const struct bench_writer *writer, int fd)
{
	uint64_t at = 0, off, len;

	while (next_request(writer, &at, &off, &len)) {
		if (pwrite(fd, source(writer, off, len), len, (off_t)off) != (ssize_t)len)
			return errno ? -errno : -EIO;
	}
	return 0;
}

#ifdef PCACHE_TOOL_URING
#include <liburing.h>
#include <stdlib.h>

struct bench_ring {
	struct io_uring ring;
	bool registered;
	unsigned int flying_nr;
	uint64_t flying_bytes;
};

/* Waits for one request to end. */
static int reap(struct bench_ring *ring)
{
	struct io_uring_cqe *cqe;
	int err = io_uring_wait_cqe(&ring->ring, &cqe);
	uint64_t len;

	if (err < 0)
		return err;
	len = io_uring_cqe_get_data64(cqe);
	err = cqe->res < 0 ? cqe->res : (uint64_t)cqe->res == len ? 0 : -EIO;
	io_uring_cqe_seen(&ring->ring, cqe);
	ring->flying_nr--;
	ring->flying_bytes -= len;
	return err;
}

static int send_request(struct bench_ring *ring, const struct bench_writer *writer, int fd, uint64_t off, uint64_t len)
{
	struct io_uring_sqe *sqe;
	int err;

	while (ring->flying_nr == DEPTH || (ring->flying_nr && ring->flying_bytes + len > FLYING_BYTES_MAX)) {
		err = reap(ring);
		if (err < 0)
			return err;
	}
	sqe = io_uring_get_sqe(&ring->ring);
	if (!sqe)
		return -EIO;
	if (ring->registered)
		io_uring_prep_write_fixed(sqe, fd, source(writer, off, len), (unsigned int)len, off, 0);
	else
		io_uring_prep_write(sqe, fd, source(writer, off, len), (unsigned int)len, off);
	io_uring_sqe_set_data64(sqe, len);
	err = io_uring_submit(&ring->ring);
	if (err < 0)
		return err;
	ring->flying_nr++;
	ring->flying_bytes += len;
	return 0;
}

static int write_all(const struct bench_writer *writer, int fd)
{
	struct bench_ring *ring = writer->ring;
	uint64_t at = 0, off, len;
	int err = 0;

	if (!ring)
		return write_plainly(writer, fd);
	while (err == 0 && next_request(writer, &at, &off, &len))
		err = send_request(ring, writer, fd, off, len);
	while (ring->flying_nr > 0) {
		int end_err = reap(ring);

		err = err ? err : end_err;
	}
	return err;
}

void bench_writer_init(struct bench_writer *writer)
{
	struct bench_ring *ring = calloc(1, sizeof(*ring));

	if (ring && io_uring_queue_init(DEPTH, &ring->ring, 0) == 0) {
		/* One buffer can be registered up to 1 GiB. The source wraps within it. */
		struct iovec iov = { .iov_base = (void *)(uintptr_t)writer->map };

		writer->map_bytes = writer->map_bytes < UINT64_C(1) << 30 ? writer->map_bytes : UINT64_C(1) << 30;
		iov.iov_len = writer->map_bytes;
		ring->registered = io_uring_register_buffers(&ring->ring, &iov, 1) == 0;
		writer->ring = ring;
	} else {
		free(ring);
	}
}

void bench_writer_fini(struct bench_writer *writer)
{
	if (writer->ring)
		io_uring_queue_exit(&writer->ring->ring);
	free(writer->ring);
	writer->ring = NULL;
}
#else
static int write_all(const struct bench_writer *writer, int fd)
{
	return write_plainly(writer, fd);
}

void bench_writer_init(struct bench_writer *writer)
{
	(void)writer;
}

void bench_writer_fini(struct bench_writer *writer)
{
	(void)writer;
}
#endif

int bench_writer_run(const struct bench_writer *writer, bool direct)
{
	int fd = writer->fd, err;
	char path[64];

	if (direct) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", writer->fd);
		fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
		if (fd < 0)
			return -errno;
	}
	err = write_all(writer, fd);
	if (err == 0 && fdatasync(fd) < 0)
		err = -errno;
	if (direct)
		(void)close(fd);
	return err;
}
