/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Media, the file side: open and lock, allocate every block, read safely.
 *
 * Opening looks at the type before it opens anything, because opening a FIFO blocks and opening a character device may do things. The
 * lock is flock(2): it belongs to the open file, so it also keeps out a second open in this process, and it goes with the last
 * descriptor. A child made by fork shares it: as long as the child lives, the cache is busy.
 *
 * Reads here go through the file descriptor, not the mapping: poison and truncation are then error returns, not SIGBUS. Device DAX has no
 * read(2); there a mapping is read after the list of bad blocks was asked. This kernel-dependent path could not be tested on hardware.
 *
 * One thing is written through the descriptor as well: a page that cannot be read, before anything is stored to it through the mapping (renew). The kernel keeps both
 * views of a file the same.
 *
 * Durability: allocate syncs the file (its size and its blocks) before its directory, so that a name never shows up in a directory
 * before the file is what the name promises.
 *
 * No lock is taken but that on the file. Mapping and stores are in pmem2.c.
 */
#include "media/handle.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "pcache/errors.h"

#define OPEN_TRIES 8 /* a path that changes under us is taken up again this often */

static int negative_errno(void)
{
	return errno > 0 ? -errno : -EIO;
}

/* A character device is device DAX if its subsystem is "dax". */
static bool is_device_dax(const struct stat *st)
{
	char link[64];
	char target[PATH_MAX];
	const char *name;
	ssize_t len;

	(void)snprintf(link, sizeof(link), "/sys/dev/char/%u:%u/subsystem", major(st->st_rdev), minor(st->st_rdev));
	len = readlink(link, target, sizeof(target) - 1);
	if (len <= 0)
		return false;
	target[len] = '\0';
	name = strrchr(target, '/');
	return strcmp(name ? name + 1 : target, "dax") == 0;
}

/* 0 if media may lie in a file of this type. */
static int check_type(const struct stat *st)
{
	if (S_ISDIR(st->st_mode))
		return -EISDIR;
	if (S_ISREG(st->st_mode))
		return 0;
	return S_ISCHR(st->st_mode) && is_device_dax(st) ? 0 : -ENOTSUP;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Removes the file at path if it still is the one behind fd. */
static void remove_created(const char *path, int fd)
{
	struct stat by_fd;
	struct stat by_path;

	if (fstat(fd, &by_fd) == 0 && lstat(path, &by_path) == 0 && is_same_file(&by_fd, &by_path))
		(void)unlink(path);
}

/* Opens path once, as it is now. -EAGAIN: it appeared or disappeared meanwhile. */
static int open_once(const char *path, uint32_t flags, bool *out_created, int *out_fd)
{
	int mode = (flags & PC_MEDIA_RDONLY ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	bool create = false;
	struct stat st;
	int rc;
	int fd;

	if (stat(path, &st) == 0) {
		rc = check_type(&st);
		if (rc != 0)
			return rc;
	} else if (errno == ENOENT && (flags & PC_MEDIA_CREATE)) {
		create = true;
	} else {
		return negative_errno();
	}
	fd = open(path, create ? mode | O_CREAT | O_EXCL : mode, 0600);
	if (fd < 0)
		return (create ? errno == EEXIST : errno == ENOENT) ? -EAGAIN : negative_errno();
	*out_created = create;
	*out_fd = fd;
	return 0;
}

static int lock_file(int fd)
{
	int rc;

	do
		rc = flock(fd, LOCK_EX | LOCK_NB);
	while (rc != 0 && errno == EINTR);
	if (rc == 0)
		return 0;
	return errno == EWOULDBLOCK ? -EBUSY : negative_errno();
}

/*
 * Opens and locks. Whoever held the lock before may have removed the file (a format that failed) or put another in its place: a lock
 * on a file that no longer is the one at path protects nothing, so that is tried again.
 */
static int open_and_lock(struct pc_media_file *file, uint32_t flags, struct stat *out_st)
{
	struct stat by_path;
	int rc = -EAGAIN;

	for (int tries = 0; rc == -EAGAIN && tries < OPEN_TRIES; tries++) {
		rc = open_once(file->path, flags, &file->created, &file->fd);
		if (rc != 0)
			continue;
		if (!(flags & PC_MEDIA_NOLOCK))
			rc = lock_file(file->fd);
		file->locked = rc == 0 && !(flags & PC_MEDIA_NOLOCK);
		if (rc == 0 && fstat(file->fd, out_st) != 0)
			rc = negative_errno();
		if (rc == 0)
			rc = check_type(out_st);
		if (rc == 0 && (stat(file->path, &by_path) != 0 || !is_same_file(out_st, &by_path)))
			rc = -EAGAIN;
		if (rc == 0)
			return 0;
		if (file->created)
			remove_created(file->path, file->fd);
		(void)close(file->fd);
		file->fd = -1;
		file->created = false;
	}
	if (rc == -EAGAIN)
		return flags & PC_MEDIA_CREATE ? -EBUSY : -ENOENT;
	return rc;
}

/* Device DAX: size, and a mapping to read from until (and after) map. */
static int open_dax(struct pc_media_file *file)
{
	size_t bytes;
	void *view;
	int rc;

	rc = pmem2_source_from_fd(&file->source, file->fd);
	if (rc == 0)
		rc = pmem2_source_size(file->source, &bytes);
	if (rc != 0)
		return pc_media_from_pmem2(rc);
	view = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file->fd, 0);
	if (view == MAP_FAILED)
		return negative_errno();
	(void)madvise(view, bytes, MADV_DONTFORK);
	file->dax_view = view;
	file->media.len_bytes = bytes;
	return 0;
}

int pc_media_open(const char *path, uint32_t flags, const struct pc_msg *msg, struct pc_media **out_media)
{
	struct pc_media_file *file = calloc(1, sizeof(*file));
	struct stat st;
	int rc;

	if (file == NULL)
		return -ENOMEM;
	rc = pc_media_init(&file->media);
	if (rc) {
		free(file);
		return rc;
	}
	file->media.ops = &pc_media_file_ops;
	file->media.read_only = (flags & PC_MEDIA_RDONLY) != 0;
	if (msg != NULL)
		file->msg = *msg;
	file->fd = -1;
	file->owner_pid = getpid();
	file->sync_fn = fdatasync;
	file->path = strdup(path);
	rc = file->path == NULL ? -ENOMEM : open_and_lock(file, flags, &st);
	if (rc == 0) {
		file->is_dax = S_ISCHR(st.st_mode);
		file->media.len_bytes = PC_ROUND_DOWN((uint64_t)st.st_size, (uint64_t)PC_PAGE_BYTES);
		if (file->is_dax)
			rc = open_dax(file);
	}
	if (rc != 0) {
		pc_media_close(&file->media);
		return rc;
	}
	*out_media = &file->media;
	return 0;
}

/*
 * tmpfs gives huge pages only to a mapping that asked for them at the moment of the first touch; fallocate(2) never does. Best effort:
 * what is not populated here is left to fallocate, which also says when the space does not suffice (populating then stops without a signal).
 */
static void populate_tmpfs(int fd, uint64_t bytes)
{
	void *view;

	if (!pc_media_is_tmpfs(fd) || ftruncate(fd, (off_t)bytes) != 0)
		return;
	view = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (view == MAP_FAILED)
		return;
#ifdef MADV_POPULATE_WRITE
	if (madvise(view, bytes, MADV_HUGEPAGE) == 0)
		(void)madvise(view, bytes, MADV_POPULATE_WRITE);
#endif
	(void)munmap(view, bytes);
}

/*
 * False if the blocks that are missing are more than are free. Only a first look, so that a wish that cannot be met does not fill the
 * disk of others (or, on tmpfs, the memory) before it fails.
 */
static bool has_space(int fd, uint64_t bytes)
{
	struct statfs fs;
	struct stat st;
	uint64_t allocated_bytes;

	if (fstatfs(fd, &fs) != 0 || fstat(fd, &st) != 0 || fs.f_blocks == 0 || fs.f_bsize <= 0)
		return true; /* not known */
	allocated_bytes = (uint64_t)st.st_blocks * 512;
	return bytes <= allocated_bytes || (bytes - allocated_bytes) / (uint64_t)fs.f_bsize <= fs.f_bfree;
}

static int allocate_blocks(int fd, uint64_t old_bytes, uint64_t bytes)
{
	int err;

	if (!has_space(fd, bytes))
		return -ENOSPC;
	if (old_bytes == 0)
		populate_tmpfs(fd, bytes);
	do
		err = posix_fallocate(fd, 0, (off_t)bytes);
	while (err == EINTR);
	if (err != 0)
		return -err;
	if (bytes < old_bytes && ftruncate(fd, (off_t)bytes) != 0)
		return negative_errno();
	return pc_media_is_tmpfs(fd) ? 0 : pc_media_write_unwritten(fd, bytes);
}

/* Makes the name of the file durable. A file without a name (memfd, unlinked) has no directory to sync. */
static int sync_directory(const char *path, int fd)
{
	struct stat st;
	char *real = realpath(path, NULL);
	int rc = 0;
	int dir_fd;

	if (real == NULL)
		return fstat(fd, &st) == 0 && st.st_nlink == 0 ? 0 : negative_errno();
	dir_fd = open(dirname(real), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(real);
	if (dir_fd < 0)
		return negative_errno();
	if (fsync(dir_fd) != 0 && errno != EINVAL) /* EINVAL: this file system has no such thing */
		rc = negative_errno();
	(void)close(dir_fd);
	return rc;
}

int pc_media_allocate(struct pc_media *media, uint64_t bytes)
{
	struct pc_media_file *file = pc_media_file_of(media);
	struct stat st;
	int rc;

	if (file->is_dax)
		return bytes <= media->len_bytes ? 0 : -ENOSPC;
	if (bytes == 0 || media->read_only)
		return -EINVAL;
	if (bytes > INT64_MAX)
		return -EFBIG;
	if (fstat(file->fd, &st) != 0) {
		rc = negative_errno();
		if (file->created)
			remove_created(file->path, file->fd);
		return rc;
	}
	rc = allocate_blocks(file->fd, (uint64_t)st.st_size, bytes);
	/* Order: size and blocks before the name, because a name that survives must lead to a whole file. */
	if (rc == 0 && fsync(file->fd) != 0)
		rc = negative_errno();
	if (rc == 0)
		rc = sync_directory(file->path, file->fd);
	if (rc == 0) {
		media->len_bytes = PC_ROUND_DOWN(bytes, (uint64_t)PC_PAGE_BYTES);
		return 0;
	}
	if (ftruncate(file->fd, st.st_size) != 0)
		pc_msg(&file->msg, PCACHE_LOG_WARN, "cannot set %s back to its old length: errno %d", file->path,
		       errno);
	if (file->created)
		remove_created(file->path, file->fd);
	return rc;
}

/* 0, -EIO if a known bad block of a device lies in the range. Without a list (no support) the range counts as good. */
static int check_bad_blocks(const struct pc_media_file *file, uint64_t media_off, size_t len)
{
	struct pmem2_badblock_context *context;
	struct pmem2_badblock bad;
	int rc = 0;

	if (pmem2_badblock_context_new(&context, file->source) != 0)
		return 0;
	while (rc == 0 && pmem2_badblock_next(context, &bad) == 0) {
		if (bad.offset < media_off + len && media_off < bad.offset + bad.length)
			rc = -EIO;
	}
	pmem2_badblock_context_delete(&context);
	return rc;
}

static int read_dax(const struct pc_media_file *file, uint64_t media_off, void *buf, size_t len)
{
	int rc;

	if (media_off > file->media.len_bytes || len > file->media.len_bytes - media_off)
		return PCACHE_E_TRUNCATED;
	rc = check_bad_blocks(file, media_off, len);
	if (rc == 0)
		memcpy(buf, file->dax_view + media_off, len);
	return rc;
}

int pc_media_file_read(struct pc_media *media, uint64_t media_off, void *buf, size_t len)
{
	const struct pc_media_file *file = pc_media_file_of(media);
	uint8_t *to = buf;
	ssize_t got;

	if (file->is_dax)
		return read_dax(file, media_off, buf, len);
	if (media_off > INT64_MAX || len > INT64_MAX - media_off)
		return PCACHE_E_TRUNCATED;
	while (len > 0) {
		got = pread(file->fd, to, len, (off_t)media_off);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return negative_errno();
		if (got == 0)
			return PCACHE_E_TRUNCATED;
		to += got;
		media_off += (uint64_t)got;
		len -= (size_t)got;
	}
	return 0;
}

#define PIECE_BYTES PC_CACHE_LINE_BYTES /* poison is not smaller */

/* What can be read of the page, and zeroes. */
static void read_what_is_left(struct pc_media *media, uint64_t media_off, uint8_t page[PC_PAGE_BYTES])
{
	for (size_t at = 0; at < PC_PAGE_BYTES; at += PIECE_BYTES) {
		if (pc_media_file_read(media, media_off + at, page + at, PIECE_BYTES) != 0)
			memset(page + at, 0, PIECE_BYTES);
	}
}

int pc_media_file_renew(struct pc_media *media, uint64_t media_off, uint64_t len)
{
	const struct pc_media_file *file = pc_media_file_of(media);
	uint8_t page[PC_PAGE_BYTES];
	ssize_t put;

	if (file->is_dax) /* has no write(2); a store of whole lines is all there is */
		return 0;
	for (uint64_t end_off = media_off + len; media_off < end_off; media_off += PC_PAGE_BYTES) {
		if (pc_media_file_read(media, media_off, page, sizeof(page)) == 0)
			continue;
		read_what_is_left(media, media_off, page);
		do
			put = pwrite(file->fd, page, sizeof(page), (off_t)media_off);
		while (put < 0 && errno == EINTR);
		if (put < 0)
			return negative_errno();
		if (put != (ssize_t)sizeof(page))
			return -EIO;
	}
	return 0;
}
