/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The live statistics page, see the header.
 *
 * The page is one 4 KiB file: a head and a struct pcache_info, in the byte order of the machine. It is written
 * with pwrite() and read with pread(), both through the page cache, not mapped: a mapped page would make it a
 * SIGBUS, in the writer too, when somebody shortens the file or the disk is full. Here that is an error return.
 *
 * Consistency is a sequence lock. The sequence is odd while the writer is inside; a reader takes a snapshot for
 * whole only if the sequence was the same even number before and after it, and tries a bounded number of times.
 *
 * Liveness is a flock() on the page, held by the writer for its life. The kernel gives it up with the process, so
 * a page that can be locked was left by a process that is gone. It is taken before the page gets its name.
 *
 * Safety: a fresh file under a drawn name, opened with O_EXCL, renamed over PATH.stats; a file of that name which
 * is no statistics page, or a symbolic link, is left alone. Removal compares the inode first. Everything is
 * relative to a descriptor of the directory, so a chdir() of the program changes nothing.
 *
 * Locks: page->mutex, a leaf, serialises writers. Durability: none, the page means nothing after its process.
 */
#include "api/stats_page.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/lock.h"

#define PAGE_MAGIC UINT64_C(0x3145474150534350) /* "PCSPAGE1" */
#define PAGE_VERSION 1u
#define SUFFIX ".stats"
#define TEMP_TRIES 8
#define READ_TRIES 200
#define READ_PAUSE_NS 100000

struct page_head {
	uint64_t magic;
	uint32_t version;
	uint32_t info_bytes; /* sizeof(struct pcache_info) of the writer */
	uint64_t pid; /* of the writer, for people */
	uint64_t sequence; /* odd: the writer is inside; 0: nothing published yet */
	uint64_t reserved[4];
};

#define SEQUENCE_OFF ((off_t)offsetof(struct page_head, sequence))
#define INFO_OFF ((off_t)sizeof(struct page_head))
#define INFO_ROOM_BYTES (PC_PAGE_BYTES - sizeof(struct page_head))
#define INFO_MIN_BYTES 8u /* struct_bytes and state_flags */

_Static_assert(sizeof(struct page_head) == 64, "the head is part of the page's format");
_Static_assert(sizeof(struct pcache_info) <= INFO_ROOM_BYTES, "the snapshot fits the page");

struct pc_stats_page {
	struct pc_mutex mutex; /* guards sequence and the writes */
	uint64_t sequence; /* of the last publish, also if it failed; even */
	int dir_fd; /* directory of the page */
	int fd; /* the page; carries the lock */
	pid_t pid; /* who made it */
	char *name; /* in dir_fd */
};

/* Whole transfers or an error; the page is small, so a short one is no ordinary event. */
static int write_at(int fd, const void *buf, size_t len, off_t off)
{
	ssize_t put;

	do {
		put = pwrite(fd, buf, len, off);
	} while (put < 0 && errno == EINTR);
	if (put < 0)
		return -errno;
	return (size_t)put == len ? 0 : -EIO;
}

static int read_at(int fd, void *buf, size_t len, off_t off)
{
	ssize_t got;

	do {
		got = pread(fd, buf, len, off);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	return (size_t)got == len ? 0 : -EPROTO;
}

/* Opens the directory of the page and makes its name. */
static int find_place(const char *cache_path, int *out_dir_fd, char **out_name)
{
	const char *slash = strrchr(cache_path, '/');
	const char *base = slash != NULL ? slash + 1 : cache_path;
	char *dir;
	char *name;
	int dir_fd;
	int err;

	if (*base == '\0')
		return -EINVAL;
	dir = slash != NULL ? strndup(cache_path, (size_t)(base - cache_path)) : strdup(".");
	if (dir == NULL)
		return -ENOMEM;
	if (asprintf(&name, "%s" SUFFIX, base) < 0) {
		err = -ENOMEM;
		goto free_dir;
	}
	dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0) {
		err = -errno;
		goto free_name;
	}
	free(dir);
	*out_dir_fd = dir_fd;
	*out_name = name;
	return 0;

free_name:
	free(name);
free_dir:
	free(dir);
	return err;
}

/* Opens an existing page and reads its head; -EPROTO if it is none. */
static int open_page(int dir_fd, const char *name, int *out_fd, struct page_head *out_head)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct page_head head;
	struct stat st;
	int err;

	if (fd < 0)
		return errno == ELOOP ? -EPROTO : -errno;
	if (fstat(fd, &st) != 0) {
		err = -errno;
		goto close_fd;
	}
	err = -EPROTO;
	if (!S_ISREG(st.st_mode) || st.st_size != (off_t)PC_PAGE_BYTES)
		goto close_fd;
	err = read_at(fd, &head, sizeof(head), 0);
	if (err == 0 && head.magic != PAGE_MAGIC)
		err = -EPROTO;
	if (err != 0)
		goto close_fd;
	*out_fd = fd;
	*out_head = head;
	return 0;

close_fd:
	(void)close(fd);
	return err;
}

/* 0 if the name is free or has a page of an earlier process. */
static int check_old_page(int dir_fd, const char *name)
{
	struct page_head head;
	int fd;
	int err = open_page(dir_fd, name, &fd, &head);

	if (err == -ENOENT)
		return 0;
	if (err == -EPROTO)
		return -EEXIST;
	if (err == 0)
		(void)close(fd);
	return err;
}

/* A new file under a name that nobody can guess; the caller frees the name. */
static int make_temp(int dir_fd, const char *name, int *out_fd, char **out_temp_name)
{
	for (int i = 0; i < TEMP_TRIES; i++) {
		uint64_t drawn;
		char *temp_name;
		int fd;
		int err;

		if (getrandom(&drawn, sizeof(drawn), 0) != (ssize_t)sizeof(drawn))
			return -EIO;
		if (asprintf(&temp_name, "%s.%016" PRIx64, name, drawn) < 0)
			return -ENOMEM;
		fd = openat(dir_fd, temp_name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
		if (fd >= 0) {
			*out_fd = fd;
			*out_temp_name = temp_name;
			return 0;
		}
		err = -errno;
		free(temp_name);
		if (err != -EEXIST)
			return err;
	}
	return -EEXIST;
}

static int fill_new_page(int fd, pid_t pid)
{
	struct {
		struct page_head head;
		uint8_t info[INFO_ROOM_BYTES];
	} page;

	_Static_assert(sizeof(page) == PC_PAGE_BYTES, "the page is one page");
	memset(&page, 0, sizeof(page));
	page.head.magic = PAGE_MAGIC;
	page.head.version = PAGE_VERSION;
	page.head.info_bytes = sizeof(struct pcache_info);
	page.head.pid = (uint64_t)pid;
	return write_at(fd, &page, sizeof(page), 0);
}

/* Puts a locked, empty page in place of whatever page was there. */
static int put_page(struct pc_stats_page *page)
{
	char *temp_name = NULL;
	int err;

	err = check_old_page(page->dir_fd, page->name);
	if (err != 0)
		return err;
	err = make_temp(page->dir_fd, page->name, &page->fd, &temp_name);
	if (err != 0)
		return err;
	err = fill_new_page(page->fd, page->pid);
	if (err != 0)
		goto unlink_temp;
	if (flock(page->fd, LOCK_EX | LOCK_NB) != 0) {
		err = -errno;
		goto unlink_temp;
	}
	if (renameat(page->dir_fd, temp_name, page->dir_fd, page->name) != 0) {
		err = -errno;
		goto unlink_temp;
	}
	free(temp_name);
	return 0;

unlink_temp:
	(void)unlinkat(page->dir_fd, temp_name, 0);
	(void)close(page->fd);
	free(temp_name);
	return err;
}

int pc_stats_page_create(const char *cache_path, struct pc_stats_page **out_page)
{
	struct pc_stats_page *page = calloc(1, sizeof(*page));
	int err;

	if (page == NULL)
		return -ENOMEM;
	page->pid = getpid();
	err = pc_mutex_init(&page->mutex, PC_RANK_LEAF, 0);
	if (err != 0)
		goto free_page;
	err = find_place(cache_path, &page->dir_fd, &page->name);
	if (err != 0)
		goto fini_mutex;
	err = put_page(page);
	if (err != 0)
		goto free_place;
	*out_page = page;
	return 0;

free_place:
	free(page->name);
	(void)close(page->dir_fd);
fini_mutex:
	pc_mutex_fini(&page->mutex);
free_page:
	free(page);
	return err;
}

int pc_stats_page_publish(struct pc_stats_page *page, const struct pcache_info *info)
{
	struct pcache_info snapshot;
	uint64_t sequence;
	int err;

	if (page == NULL)
		return 0;
	snapshot = *info;
	snapshot.struct_bytes = sizeof(snapshot);
	pc_mutex_lock(&page->mutex);
	/* A number is used once, also where a call fails: the file may have it all the same. */
	sequence = page->sequence + 1;
	page->sequence += 2;
	err = write_at(page->fd, &sequence, sizeof(sequence), SEQUENCE_OFF);
	if (err != 0)
		goto unlock;
	/* Order: the odd sequence before the snapshot, because a reader that sees part of the new one must see it change. */
	__sync_synchronize();
	err = write_at(page->fd, &snapshot, sizeof(snapshot), INFO_OFF);
	if (err != 0)
		goto unlock; /* the sequence stays odd, so nobody takes half a snapshot */
	/* Order: the snapshot before the even sequence, because a reader that sees it even takes the snapshot for whole. */
	__sync_synchronize();
	sequence++;
	err = write_at(page->fd, &sequence, sizeof(sequence), SEQUENCE_OFF);
unlock:
	pc_mutex_unlock(&page->mutex);
	return err;
}

/* Nobody else can have put another file under our name but on purpose: leave that one alone. */
static bool name_is_ours(const struct pc_stats_page *page)
{
	struct stat ours;
	struct stat named;

	return fstat(page->fd, &ours) == 0 && fstatat(page->dir_fd, page->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	       ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

void pc_stats_page_close(struct pc_stats_page *page)
{
	if (page == NULL)
		return;
	if (page->pid == getpid() && name_is_ours(page))
		(void)unlinkat(page->dir_fd, page->name, 0);
	(void)close(page->fd);
	(void)close(page->dir_fd);
	free(page->name);
	pc_mutex_fini(&page->mutex);
	free(page);
}

/* One try: 0, -EAGAIN if the writer was inside or came by, or an error. */
static int read_snapshot(int fd, struct pcache_info *out_info, size_t len)
{
	uint64_t before;
	uint64_t after;
	int err;

	err = read_at(fd, &before, sizeof(before), SEQUENCE_OFF);
	if (err != 0)
		return err;
	if (before == 0 || before % 2 != 0)
		return -EAGAIN;
	/* Order: the sequence before the snapshot, because an older snapshot under a newer sequence would pass for it. */
	__sync_synchronize();
	err = read_at(fd, out_info, len, INFO_OFF);
	if (err != 0)
		return err;
	/* Order: the snapshot before the second look, because only then does an equal sequence vouch for all of it. */
	__sync_synchronize();
	err = read_at(fd, &after, sizeof(after), SEQUENCE_OFF);
	if (err != 0)
		return err;
	return before == after ? 0 : -EAGAIN;
}

static int read_live_page(int fd, const struct page_head *head, struct pcache_info *out_info)
{
	static const struct timespec pause = { .tv_nsec = READ_PAUSE_NS };
	int err;

	if (head->version != PAGE_VERSION || head->info_bytes < INFO_MIN_BYTES || head->info_bytes > INFO_ROOM_BYTES)
		return -EPROTO;
	/* Shared, so that two readers do not take each other for the dead writer's absence; given up with fd. */
	if (flock(fd, LOCK_SH | LOCK_NB) == 0)
		return -ESTALE;
	if (errno != EWOULDBLOCK)
		return -errno;
	memset(out_info, 0, sizeof(*out_info));
	err = -EAGAIN;
	for (int i = 0; i < READ_TRIES && err == -EAGAIN; i++) {
		if (i != 0)
			(void)nanosleep(&pause, NULL);
		err = read_snapshot(fd, out_info, PC_MIN((size_t)head->info_bytes, sizeof(*out_info)));
	}
	return err;
}

int pc_stats_page_read(const char *cache_path, struct pcache_info *info)
{
	struct pcache_info snapshot;
	struct page_head head;
	uint32_t struct_bytes = info->struct_bytes;
	char *name;
	int dir_fd;
	int fd;
	int err;

	if (struct_bytes < INFO_MIN_BYTES)
		return -EINVAL;
	err = find_place(cache_path, &dir_fd, &name);
	if (err != 0)
		return err;
	err = open_page(dir_fd, name, &fd, &head);
	free(name);
	(void)close(dir_fd);
	if (err != 0)
		return err;
	err = read_live_page(fd, &head, &snapshot);
	(void)close(fd);
	if (err != 0)
		return err;
	snapshot.struct_bytes = struct_bytes;
	snapshot.state_flags |= PCACHE_STATE_LIVE;
	memset(info, 0, struct_bytes);
	memcpy(info, &snapshot, PC_MIN((size_t)struct_bytes, sizeof(snapshot)));
	return 0;
}
