/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file backing: a regular file or a block device behind pread, pwrite, fdatasync and fallocate. For write-back it is opened a second time, for direct I/O, which backing/queue uses
 * if it can; then nothing is written through the page cache.
 *
 * Job: whole transfers or an error. Range checks and the cutting of requests are left to backing.c, retries to
 * service.
 *
 * Locks: none; the descriptor is used by any number of threads, and positions are always given. The file is not
 * locked: who shares it with whom is the business of the program.
 *
 * Order: a write is durable when an fdatasync() that began after it returned 0. A failed fdatasync() is never
 * repeated here, not even after EINTR: the kernel may have marked the pages clean with the first answer, so a
 * second one that says 0 would be about nothing. The caller writes the data again.
 *
 * Size: taken once. A file that was shortened later gives -EIO where a read meets its end; made up zeroes would
 * be wrong data.
 */
#include "backing/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

struct file_backing {
	int fd;
	int direct_fd; /* -1: none */
	bool read_only;
	bool is_block_device;
};

static int file_read(void *user, void *buf, uint64_t off, uint64_t len)
{
	const struct file_backing *file = user;
	uint8_t *bytes = buf;

	while (len != 0) {
		ssize_t got = pread(file->fd, bytes, (size_t)len, (off_t)off);

		if (got < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (got == 0)
			return -EIO; /* the file became shorter */
		bytes += got;
		off += (uint64_t)got;
		len -= (uint64_t)got;
	}
	return 0;
}

static int file_write(void *user, const void *buf, uint64_t off, uint64_t len)
{
	const struct file_backing *file = user;
	const uint8_t *bytes = buf;

	if (file->read_only)
		return -EROFS;
	while (len != 0) {
		ssize_t put = pwrite(file->fd, bytes, (size_t)len, (off_t)off);

		if (put < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (put == 0)
			return -EIO; /* no progress and no reason: do not spin */
		bytes += put;
		off += (uint64_t)put;
		len -= (uint64_t)put;
	}
	return 0;
}

static int file_flush(void *user)
{
	const struct file_backing *file = user;

	if (file->read_only)
		return 0;
	return fdatasync(file->fd) == 0 ? 0 : -errno;
}

/* -EOPNOTSUPP: the file system cannot, try another way. */
static int file_fallocate(const struct file_backing *file, int mode, uint64_t off, uint64_t len)
{
	int err;

	if (file->read_only)
		return -EROFS;
	do {
		err = fallocate(file->fd, mode, (off_t)off, (off_t)len) == 0 ? 0 : -errno;
	} while (err == -EINTR);
	if (err == -ENOSYS)
		return -EOPNOTSUPP;
	/* A device with sectors above 512 bytes refuses parts of them, which a write through the page cache can do. */
	if (err == -EINVAL && file->is_block_device)
		return -EOPNOTSUPP;
	return err;
}

static int file_discard(void *user, uint64_t off, uint64_t len)
{
	return file_fallocate(user, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
}

static int file_write_zeroes(void *user, uint64_t off, uint64_t len)
{
	return file_fallocate(user, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, off, len);
}

static void file_free(void *user)
{
	struct file_backing *file = user;

	(void)close(file->fd); /* what had to be durable was flushed before */
	if (file->direct_fd >= 0)
		(void)close(file->direct_fd);
	free(file);
}

static int find_size(struct file_backing *file, uint64_t *out_size_bytes)
{
	struct stat st;
	uint64_t size_bytes = 0;

	if (fstat(file->fd, &st) != 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (S_ISBLK(st.st_mode)) {
		file->is_block_device = true;
		if (ioctl(file->fd, BLKGETSIZE64, &size_bytes) != 0)
			return -errno;
	} else if (S_ISREG(st.st_mode)) {
		size_bytes = (uint64_t)st.st_size;
	} else {
		return -ENOTSUP;
	}
	*out_size_bytes = size_bytes;
	return 0;
}

/* To io_uring it says that a write which would have to wait is to be refused, and then it would be made again, by a call. */
static int forget_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ? -errno : 0;
}

/* The same file again, for direct I/O. Its absence is no failure: 0 or why. */
static int open_direct(struct file_backing *file, const char *path)
{
	struct stat st, direct_st;
	int fd, err = 0;

	fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	/* The name may belong to another file by now. */
	if (fstat(file->fd, &st) != 0 || fstat(fd, &direct_st) != 0)
		err = -errno;
	else if (st.st_dev != direct_st.st_dev || st.st_ino != direct_st.st_ino || st.st_rdev != direct_st.st_rdev)
		err = -ESTALE;
	if (err == 0)
		err = forget_nonblock(fd);
	if (err != 0) {
		(void)close(fd);
		return err;
	}
	file->direct_fd = fd;
	return 0;
}

int pc_backing_file_new(const char *path, uint32_t flags, struct pcache_backing **out_backing)
{
	struct pcache_backing_ops ops = {
		.struct_bytes = sizeof(ops),
		.read = file_read,
		.write = file_write,
		.flush = file_flush,
		.discard = file_discard,
		.write_zeroes = file_write_zeroes,
		.free = file_free,
	};
	struct file_backing *file;
	int err, direct_err = 0;

	if ((flags & ~(PCACHE_BACKING_FILE_RDONLY | PCACHE_BACKING_FILE_BUFFERED)) != 0)
		return -EINVAL;
	file = calloc(1, sizeof(*file));
	if (file == NULL)
		return -ENOMEM;
	file->direct_fd = -1;
	file->read_only = (flags & PCACHE_BACKING_FILE_RDONLY) != 0;
	/* O_NONBLOCK means nothing to files and disks, but keeps a FIFO from hanging the open that is about to refuse it. */
	file->fd = open(path, (file->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (file->fd < 0) {
		err = -errno;
		goto free_file;
	}
	err = find_size(file, &ops.size_bytes);
	if (err != 0)
		goto close_fd;
	if (flags == 0)
		direct_err = open_direct(file, path);
	err = pc_backing_new(&ops, file, out_backing); /* refuses a size of 0 or not in units of 512 */
	if (err != 0)
		goto close_direct;
	(*out_backing)->direct_fd = file->direct_fd;
	(*out_backing)->direct_error = direct_err;
	return 0;

close_direct:
	if (file->direct_fd >= 0)
		(void)close(file->direct_fd);
close_fd:
	(void)close(file->fd);
free_file:
	free(file);
	return err;
}
