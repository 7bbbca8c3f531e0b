/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache bench, writer: the limit of a drain. Blocks whose places are known and sorted are merged to requests of up to 1 MiB and written out of memory by io_uring, sixteen at a
 * time, and one fdatasync ends it. Without io_uring (not built in, or not allowed here) requests are written one after the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "tool/bench.h"

#define REQUEST_BYTES_MAX (UINT64_C(1) << 20)
#define DEPTH 16u

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

/* Waits for one request to end. */
static int reap(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int err = io_uring_wait_cqe(ring, &cqe);

	if (err < 0)
		return err;
	err = cqe->res < 0 ? cqe->res : (uint64_t)cqe->res == io_uring_cqe_get_data64(cqe) ? 0 : -EIO;
	io_uring_cqe_seen(ring, cqe);
	return err;
}

static int write_by_ring(const struct bench_writer *writer, int fd)
{
	uint64_t at = 0, off, len;
	unsigned int flying_nr = 0;
	struct io_uring ring;
	int err = io_uring_queue_init(DEPTH, &ring, 0);

	if (err < 0)
		return write_plainly(writer, fd);
	while (err == 0 && next_request(writer, &at, &off, &len)) {
		struct io_uring_sqe *sqe;

		if (flying_nr == DEPTH) {
			err = reap(&ring);
			flying_nr--;
		}
		sqe = err == 0 ? io_uring_get_sqe(&ring) : NULL;
		if (!sqe)
			break;
		io_uring_prep_write(sqe, fd, source(writer, off, len), (unsigned int)len, off);
		io_uring_sqe_set_data64(sqe, len);
		err = io_uring_submit(&ring) < 0 ? -EIO : 0;
		flying_nr++;
	}
	for (; flying_nr > 0; flying_nr--) {
		int end_err = reap(&ring);

		err = err ? err : end_err;
	}
	io_uring_queue_exit(&ring);
	return err;
}
#else
static int write_by_ring(const struct bench_writer *writer, int fd)
{
	return write_plainly(writer, fd);
}
#endif

int bench_writer_run(const struct bench_writer *writer)
{
	int fd = writer->fd, err;
	char path[64];

	if (writer->direct) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", writer->fd);
		fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
		if (fd < 0)
			return -errno;
	}
	err = write_by_ring(writer, fd);
	if (err == 0 && fdatasync(fd) < 0)
		err = -errno;
	if (writer->direct)
		(void)close(fd);
	return err;
}
