/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A backing of one's own, in one header: a file behind the callback table of <pcache/backing.h>, optionally limited to a number
 * of bytes per second. It shows what a callback backing needs, and lets tests and demonstrations stand a cache before a store
 * that is as slow as they like.
 *
 * All callbacks may run at once. The only shared state is the time at which the store is free again: each transfer books its
 * share of it under `lock` and sleeps outside. Discards, flushes and errors cost nothing.
 */
#ifndef PCACHE_EXAMPLES_SLOW_FILE_H
#define PCACHE_EXAMPLES_SLOW_FILE_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <pcache/pcache.h>

struct slow_file {
	int fd;
	uint64_t rate_bytes; /* per second; 0: no limit */
	pthread_mutex_t lock; /* guards free_ns */
	uint64_t free_ns; /* monotonic time when all booked transfers are through */
};

static inline void slow_file_wait(struct slow_file *f, uint64_t len)
{
	struct timespec ts;
	uint64_t now_ns;
	uint64_t until_ns;

	if (f->rate_bytes == 0)
		return;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	now_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	pthread_mutex_lock(&f->lock);
	if (f->free_ns < now_ns)
		f->free_ns = now_ns;
	/* In double: len * 10^9 could pass 64 bits, and the loss below a nanosecond does not matter. */
	f->free_ns += (uint64_t)((double)len * 1e9 / (double)f->rate_bytes);
	until_ns = f->free_ns;
	pthread_mutex_unlock(&f->lock);

	ts.tv_sec = (time_t)(until_ns / 1000000000u);
	ts.tv_nsec = (long)(until_ns % 1000000000u);
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static inline int slow_file_read(void *user, void *buf, uint64_t off, uint64_t len)
{
	struct slow_file *f = (struct slow_file *)user;
	char *to = (char *)buf;

	slow_file_wait(f, len);
	while (len > 0) {
		ssize_t got = pread(f->fd, to, (size_t)len, (off_t)off);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EIO; /* 0: the file became shorter */
		to += got;
		off += (uint64_t)got;
		len -= (uint64_t)got;
	}
	return 0;
}

static inline int slow_file_store(struct slow_file *f, const char *from, uint64_t off, uint64_t len)
{
	while (len > 0) {
		ssize_t put = pwrite(f->fd, from, (size_t)len, (off_t)off);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? -errno : -EIO;
		from += put;
		off += (uint64_t)put;
		len -= (uint64_t)put;
	}
	return 0;
}

static inline int slow_file_write(void *user, const void *buf, uint64_t off, uint64_t len)
{
	struct slow_file *f = (struct slow_file *)user;

	slow_file_wait(f, len);
	return slow_file_store(f, (const char *)buf, off, len);
}

static inline int slow_file_flush(void *user)
{
	struct slow_file *f = (struct slow_file *)user;

	return fdatasync(f->fd) == 0 ? 0 : -errno;
}

static inline int slow_file_discard(void *user, uint64_t off, uint64_t len)
{
	static const char zeroes[65536];
	struct slow_file *f = (struct slow_file *)user;
	int err = 0;

	if (fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return -errno;
	while (len > 0 && err == 0) {
		uint64_t piece_len = len < sizeof(zeroes) ? len : sizeof(zeroes);

		err = slow_file_store(f, zeroes, off, piece_len);
		off += piece_len;
		len -= piece_len;
	}
	return err;
}

static inline void slow_file_free(void *user)
{
	struct slow_file *f = (struct slow_file *)user;

	close(f->fd);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

/* Opens a file or block device as a backing of at most rate_bytes per second (0: no limit). 0 or a negative error. */
static inline int slow_file_new(const char *path, uint64_t rate_bytes, struct pcache_backing **out_backing)
{
	struct pcache_backing_ops ops = { 0 };
	struct slow_file *f = (struct slow_file *)calloc(1, sizeof(*f));
	off_t end;
	int err;

	if (f == NULL)
		return -ENOMEM;
	f->rate_bytes = rate_bytes;
	f->fd = open(path, O_RDWR | O_CLOEXEC);
	if (f->fd < 0) {
		err = -errno;
		free(f);
		return err;
	}
	pthread_mutex_init(&f->lock, NULL);
	end = lseek(f->fd, 0, SEEK_END); /* also the size of a block device */
	err = end < 0 ? -errno : 0;

	ops.struct_bytes = (uint32_t)sizeof(ops);
	ops.size_bytes = end < 0 ? 0 : (uint64_t)end;
	ops.read = slow_file_read;
	ops.write = slow_file_write;
	ops.flush = slow_file_flush;
	ops.discard = slow_file_discard;
	ops.free = slow_file_free;
	if (err == 0)
		err = pcache_backing_new(&ops, f, out_backing);
	if (err != 0)
		slow_file_free(f); /* pcache_backing_new() leaves it to us when it fails */
	return err;
}

#endif
