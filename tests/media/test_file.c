/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening, locking, allocating, mapping and reading real files: each error that media.h lists, and what a failure leaves behind. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "media/handle.h"
#include "pcache/errors.h"

#if defined(__SANITIZE_THREAD__)
#define HAS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_TSAN 1
#endif
#endif

#define FILE_BYTES ((uint64_t)1 << 20)

struct fixture {
	char dir[256];
	char path[300];
	int last_severity;
	char last_text[512];
	struct pc_msg msg;
	struct pc_media *media;
};

static void note(void *user, int severity, const char *text)
{
	struct fixture *fx = user;

	fx->last_severity = severity;
	(void)snprintf(fx->last_text, sizeof(fx->last_text), "%s", text);
}

static int setup_in(void **state, const char *parent)
{
	struct fixture *fx = calloc(1, sizeof(*fx));

	if (fx == NULL)
		return -1;
	(void)snprintf(fx->dir, sizeof(fx->dir), "%s/pcache-media-XXXXXX", parent);
	if (mkdtemp(fx->dir) == NULL)
		return -1;
	(void)snprintf(fx->path, sizeof(fx->path), "%s/cache", fx->dir);
	fx->last_severity = -1;
	fx->msg.fn = note;
	fx->msg.user = fx;
	*state = fx;
	return unsetenv("PMEM2_FORCE_GRANULARITY");
}

static int setup(void **state)
{
	const char *parent = getenv("TMPDIR");

	return setup_in(state, parent ? parent : "/tmp");
}

static int setup_shm(void **state)
{
	return setup_in(state, access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
}

static int teardown(void **state)
{
	struct fixture *fx = *state;

	pc_media_close(fx->media);
	(void)unlink(fx->path);
	(void)rmdir(fx->dir);
	free(fx);
	return 0;
}

static void make_file(const struct fixture *fx, uint64_t bytes)
{
	int fd = open(fx->path, O_RDWR | O_CREAT | O_EXCL, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(close(fd), 0);
}

static void create_mapped(struct fixture *fx)
{
	assert_int_equal(pc_media_open(fx->path, PC_MEDIA_CREATE, &fx->msg, &fx->media), 0);
	assert_int_equal(pc_media_allocate(fx->media, FILE_BYTES), 0);
	assert_int_equal(pc_media_map(fx->media), 0);
}

static void close_media(struct fixture *fx)
{
	pc_media_close(fx->media);
	fx->media = NULL;
}

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static void test_missing(void **state)
{
	struct fixture *fx = *state;
	struct pc_media *media = (struct pc_media *)(void *)fx;

	assert_int_equal(pc_media_open(fx->path, 0, NULL, &media), -ENOENT);
	assert_int_equal(pc_media_open("/nowhere/at/all", PC_MEDIA_CREATE, NULL, &media), -ENOENT);
	assert_int_equal(pc_media_open("", 0, NULL, &media), -ENOENT);
	assert_ptr_equal(media, fx); /* outputs are untouched on failure */
	assert_false(exists(fx->path));
	pc_media_close(NULL);
}

static void test_create_mode_and_size(void **state)
{
	struct fixture *fx = *state;
	struct stat st;

	assert_int_equal(pc_media_open(fx->path, PC_MEDIA_CREATE, &fx->msg, &fx->media), 0);
	assert_int_equal(fx->media->len_bytes, 0);
	assert_null(fx->media->base);
	assert_int_equal(pc_media_map(fx->media), -EINVAL); /* nothing to map */
	assert_int_equal(pc_media_allocate(fx->media, 0), -EINVAL);
	assert_int_equal(pc_media_allocate(fx->media, UINT64_MAX), -EFBIG);
	assert_int_equal(pc_media_allocate(fx->media, FILE_BYTES + 100), 0);
	assert_int_equal(stat(fx->path, &st), 0);
	assert_int_equal(st.st_size, FILE_BYTES + 100);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_true((uint64_t)st.st_blocks * 512 >= FILE_BYTES + 100);
	assert_int_equal(fx->media->len_bytes, FILE_BYTES);
	assert_int_equal(pc_media_map(fx->media), 0);
	assert_int_equal(pc_media_map(fx->media), -EINVAL); /* twice */
}

static void test_refused_types(void **state)
{
	struct fixture *fx = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct pc_media *media;
	int fd;

	assert_int_equal(pc_media_open(fx->dir, 0, NULL, &media), -EISDIR);
	assert_int_equal(pc_media_open(fx->dir, PC_MEDIA_RDONLY, NULL, &media), -EISDIR);
	assert_int_equal(pc_media_open("/dev/null", 0, NULL, &media), -ENOTSUP);
	assert_int_equal(pc_media_open("/dev/zero", PC_MEDIA_CREATE, NULL, &media), -ENOTSUP);
	assert_int_equal(mkfifo(fx->path, 0600), 0);
	(void)alarm(10); /* an open that blocks ends the test */
	assert_int_equal(pc_media_open(fx->path, 0, NULL, &media), -ENOTSUP);
	assert_int_equal(pc_media_open(fx->path, PC_MEDIA_RDONLY, NULL, &media), -ENOTSUP);
	(void)alarm(0);
	assert_int_equal(unlink(fx->path), 0);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_true(fd >= 0 && strlen(fx->path) < sizeof(address.sun_path));
	memcpy(address.sun_path, fx->path, strlen(fx->path));
	assert_int_equal(bind(fd, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
	assert_int_equal(pc_media_open(fx->path, 0, NULL, &media), -ENOTSUP);
	assert_int_equal(close(fd), 0);
}

static void test_no_permission(void **state)
{
	struct fixture *fx = *state;
	struct pc_media *media;

	make_file(fx, FILE_BYTES);
	assert_int_equal(chmod(fx->path, 0), 0);
	if (geteuid() == 0)
		skip();
	assert_int_equal(pc_media_open(fx->path, 0, NULL, &media), -EACCES);
}

static void test_lock(void **state)
{
	struct fixture *fx = *state;
	struct pc_media *other;

	make_file(fx, FILE_BYTES);
	assert_int_equal(pc_media_open(fx->path, 0, &fx->msg, &fx->media), 0);
	assert_int_equal(pc_media_open(fx->path, 0, NULL, &other), -EBUSY);
	assert_int_equal(pc_media_open(fx->path, PC_MEDIA_RDONLY, NULL, &other), -EBUSY);
	assert_int_equal(pc_media_open(fx->path, PC_MEDIA_CREATE, NULL, &other), -EBUSY);
	assert_true(exists(fx->path));
	assert_int_equal(pc_media_open(fx->path, PC_MEDIA_RDONLY | PC_MEDIA_NOLOCK, NULL, &other), 0);
	pc_media_close(other);
	assert_int_equal(pc_media_open(fx->path, 0, NULL, &other), -EBUSY); /* the look did not unlock */
	close_media(fx);
	assert_int_equal(pc_media_open(fx->path, 0, &fx->msg, &fx->media), 0);
}

/* A child that lives on keeps the descriptor, but not the lock once the parent closed; and its close does not unlock the parent. */
static void test_lock_and_fork(void **state)
{
	struct fixture *fx = *state;
	struct pc_media *other;
	int status;
	pid_t child;

	create_mapped(fx);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		pc_media_close(fx->media);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(pc_media_open(fx->path, 0, NULL, &other), -EBUSY);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		(void)pause();
		_exit(0);
	}
	close_media(fx);
	assert_int_equal(pc_media_open(fx->path, 0, NULL, &fx->media), 0);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
}

static void test_mapping_is_not_inherited(void **state)
{
	struct fixture *fx = *state;
	unsigned char resident;
	int status;
	pid_t child;

#ifdef HAS_TSAN
	skip(); /* its run-time keeps something mapped there in the child */
#endif
	create_mapped(fx);
	assert_int_equal(mincore((void *)(uintptr_t)fx->media->base, PC_PAGE_BYTES, &resident), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) /* ENOMEM: nothing is mapped there */
		_exit(mincore((void *)(uintptr_t)fx->media->base, PC_PAGE_BYTES, &resident) == 0 ? 0 : errno);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), ENOMEM);
}

static void test_store_and_read_back(void **state)
{
	struct fixture *fx = *state;
	uint8_t buf[5000];
	uint8_t back[5000];

	create_mapped(fx);
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 7 + 1);
	pc_media_copy(fx->media, 4096 + 13, buf, sizeof(buf));
	pc_media_flush(fx->media, 4096 + 13, sizeof(buf));
	assert_int_equal(pc_media_commit(fx->media), 0);
	assert_memory_equal(fx->media->base + 4096 + 13, buf, sizeof(buf));
	assert_int_equal(pc_media_read(fx->media, 4096 + 13, back, sizeof(back)), 0);
	assert_memory_equal(back, buf, sizeof(buf));
	close_media(fx);
	assert_int_equal(pc_media_open(fx->path, PC_MEDIA_RDONLY, &fx->msg, &fx->media), 0);
	assert_int_equal(fx->media->len_bytes, FILE_BYTES);
	memset(back, 0, sizeof(back));
	assert_int_equal(pc_media_read(fx->media, 4096 + 13, back, sizeof(back)), 0); /* works before map */
	assert_memory_equal(back, buf, sizeof(buf));
	assert_int_equal(pc_media_map(fx->media), 0);
	assert_memory_equal(fx->media->base + 4096 + 13, buf, sizeof(buf));
	assert_true(fx->media->read_only);
	assert_int_equal(pc_media_commit(fx->media), 0);
	assert_int_equal(pc_media_allocate(fx->media, 2 * FILE_BYTES), -EINVAL);
}

static void test_read_only_mapping_faults_on_store(void **state)
{
	struct fixture *fx = *state;
	int status;
	pid_t child;

	make_file(fx, 0);
	assert_int_equal(pc_media_open(fx->path, 0, &fx->msg, &fx->media), 0);
	assert_int_equal(pc_media_allocate(fx->media, FILE_BYTES), 0);
	close_media(fx);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		(void)signal(SIGSEGV, SIG_DFL);
		if (pc_media_open(fx->path, PC_MEDIA_RDONLY, NULL, &fx->media) != 0 || pc_media_map(fx->media) != 0)
			_exit(0);
		*(volatile uint8_t *)(uintptr_t)fx->media->base = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_read_past_end(void **state)
{
	struct fixture *fx = *state;
	uint8_t buf[4096];

	create_mapped(fx);
	assert_int_equal(pc_media_read(fx->media, FILE_BYTES - 4096, buf, 4096), 0);
	assert_int_equal(pc_media_read(fx->media, FILE_BYTES - 4095, buf, 4096), PCACHE_E_TRUNCATED);
	assert_int_equal(pc_media_read(fx->media, UINT64_MAX - 10, buf, 4096), PCACHE_E_TRUNCATED);
	assert_int_equal(pc_media_read(fx->media, FILE_BYTES + 4096, buf, 0), 0);
}

static void test_truncated_under_open_handle(void **state)
{
	struct fixture *fx = *state;
	uint8_t buf[4096];

	create_mapped(fx);
	assert_int_equal(truncate(fx->path, 8192 + 100), 0);
	assert_int_equal(pc_media_read(fx->media, 4096, buf, 4096), 0);
	assert_int_equal(pc_media_read(fx->media, 8192, buf, 4096), PCACHE_E_TRUNCATED);
	assert_int_equal(pc_media_read(fx->media, FILE_BYTES - 4096, buf, 4096), PCACHE_E_TRUNCATED);
	close_media(fx);
}

static void test_truncated_before_map(void **state)
{
	struct fixture *fx = *state;

	create_mapped(fx);
	close_media(fx);
	assert_int_equal(pc_media_open(fx->path, 0, &fx->msg, &fx->media), 0);
	assert_int_equal(truncate(fx->path, 4096), 0);
	assert_int_equal(pc_media_map(fx->media), PCACHE_E_TRUNCATED);
	assert_null(fx->media->base);
}

/* A file of holes, a hole at the start, inside, at the end; and a file that fallocate mended, as the message advises. */
static void test_holes(void **state)
{
	static const struct {
		off_t off;
		off_t len;
	} data[] = { { 0, 0 }, { 4096, FILE_BYTES - 4096 }, { 0, FILE_BYTES - 4096 }, { 0, FILE_BYTES / 2 } };
	struct fixture *fx = *state;
	int fd;

	for (size_t i = 0; i < PC_ARRAY_NR(data); i++) {
		make_file(fx, FILE_BYTES);
		fd = open(fx->path, O_RDWR);
		assert_true(fd >= 0);
		if (data[i].len > 0)
			assert_int_equal(posix_fallocate(fd, data[i].off, data[i].len), 0);
		assert_int_equal(pc_media_open(fx->path, 0, &fx->msg, &fx->media), 0);
		assert_int_equal(pc_media_map(fx->media), PCACHE_E_HOLES);
		assert_null(fx->media->base);
		assert_int_equal(posix_fallocate(fd, 0, FILE_BYTES), 0);
		assert_int_equal(pc_media_map(fx->media), 0);
		assert_int_equal(close(fd), 0);
		close_media(fx);
		assert_int_equal(unlink(fx->path), 0);
	}
}

/* Written data between two holes, so that the fiemap walk meets extents of several calls. */
static void test_holes_after_many_extents(void **state)
{
	struct fixture *fx = *state;
	int fd;

	make_file(fx, 400 * 4096);
	fd = open(fx->path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(posix_fallocate(fd, 0, 400 * 4096), 0);
	for (off_t blk = 0; blk < 400; blk += 2) /* written and unwritten blocks in turn: 400 extents */
		assert_int_equal(pwrite(fd, "x", 1, blk * 4096), 1);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(pc_media_check_holes(fd, 400 * 4096), 0);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 333 * 4096, 4096), 0);
	assert_int_equal(pc_media_check_holes(fd, 400 * 4096), PCACHE_E_HOLES);
	assert_int_equal(pc_media_check_holes(fd, 333 * 4096), 0);
	assert_int_equal(close(fd), 0);
}

static void test_allocate_old_file(void **state)
{
	struct fixture *fx = *state;
	struct stat st;
	uint8_t byte;

	make_file(fx, 3 * FILE_BYTES);
	assert_int_equal(pc_media_open(fx->path, PC_MEDIA_CREATE, &fx->msg, &fx->media), 0);
	assert_int_equal(fx->media->len_bytes, 3 * FILE_BYTES);
	assert_int_equal(pc_media_allocate(fx->media, FILE_BYTES), 0); /* shorter */
	assert_int_equal(stat(fx->path, &st), 0);
	assert_int_equal(st.st_size, FILE_BYTES);
	assert_int_equal(pc_media_allocate(fx->media, 2 * FILE_BYTES), 0); /* longer */
	assert_int_equal(pc_media_map(fx->media), 0);
	assert_int_equal(pc_media_read(fx->media, 2 * FILE_BYTES - 1, &byte, 1), 0);
}

/* Runs fn in a child in which no file may grow past a limit: allocation fails then as on a full disk, but with EFBIG. */
static int in_limited_child(struct fixture *fx, uint32_t flags, uint64_t bytes)
{
	const struct rlimit limit = { .rlim_cur = 2 * FILE_BYTES, .rlim_max = 2 * FILE_BYTES };
	struct pc_media *media;
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		(void)signal(SIGXFSZ, SIG_IGN);
		if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || pc_media_open(fx->path, flags, NULL, &media) != 0)
			_exit(255);
		status = -pc_media_allocate(media, bytes);
		pc_media_close(media);
		_exit(status);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_failed_allocate_removes_new_file(void **state)
{
	struct fixture *fx = *state;

	assert_int_equal(in_limited_child(fx, PC_MEDIA_CREATE, 4 * FILE_BYTES), EFBIG);
	assert_false(exists(fx->path));
}

static void test_failed_allocate_keeps_old_length(void **state)
{
	struct fixture *fx = *state;
	struct stat st;

	make_file(fx, 12345);
	assert_int_equal(in_limited_child(fx, PC_MEDIA_CREATE, 4 * FILE_BYTES), EFBIG);
	assert_int_equal(stat(fx->path, &st), 0);
	assert_int_equal(st.st_size, 12345);
}

/* The file was extended already when the last step fails: its directory is gone from where it was. */
static void test_failed_last_step_keeps_old_length(void **state)
{
	struct fixture *fx = *state;
	char moved[sizeof(fx->dir) + 8];
	struct stat st;
	int fd;

	make_file(fx, 12345);
	fd = open(fx->path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(pc_media_open(fx->path, 0, &fx->msg, &fx->media), 0);
	(void)snprintf(moved, sizeof(moved), "%s-moved", fx->dir);
	assert_int_equal(rename(fx->dir, moved), 0);
	assert_int_equal(pc_media_allocate(fx->media, FILE_BYTES), -ENOENT);
	assert_int_equal(rename(moved, fx->dir), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 12345);
	assert_int_equal(close(fd), 0);
}

/* More than the file system can hold. */
static void test_no_space(void **state)
{
	struct fixture *fx = *state;
	struct stat st;

	make_file(fx, 0);
	assert_int_equal(pc_media_open(fx->path, 0, &fx->msg, &fx->media), 0);
	if (pc_media_allocate(fx->media, (uint64_t)1 << 50) == 0) {
		assert_int_equal(truncate(fx->path, 0), 0);
		skip();
	}
	assert_int_equal(pc_media_allocate(fx->media, (uint64_t)1 << 50), -ENOSPC);
	assert_int_equal(stat(fx->path, &st), 0);
	assert_int_equal(st.st_size, 0);
	close_media(fx);
	assert_int_equal(unlink(fx->path), 0);
	assert_int_equal(pc_media_open(fx->path, PC_MEDIA_CREATE, &fx->msg, &fx->media), 0);
	assert_int_equal(pc_media_allocate(fx->media, (uint64_t)1 << 50), -ENOSPC);
	assert_false(exists(fx->path));
}

static int failing_sync(int fd)
{
	(void)fd;
	errno = EIO;
	return -1;
}

static int sync_calls;

static int counting_sync(int fd)
{
	sync_calls++;
	return fdatasync(fd);
}

static void test_page_sync(void **state)
{
	struct fixture *fx = *state;

	assert_int_equal(setenv("PMEM2_FORCE_GRANULARITY", "PAGE", 1), 0);
	create_mapped(fx);
	assert_int_equal(fx->media->granularity, PC_GRAN_PAGE);
	sync_calls = 0;
	pc_media_file_of(fx->media)->sync_fn = counting_sync;
	pc_media_copy(fx->media, 0, "data", 4);
	pc_media_flush(fx->media, 0, 4);
	pc_media_fence(fx->media);
	assert_int_equal(sync_calls, 0);
	assert_int_equal(pc_media_sync(fx->media), 0);
	assert_int_equal(pc_media_commit(fx->media), 0);
	assert_int_equal(sync_calls, 2);
	pc_media_file_of(fx->media)->sync_fn = failing_sync;
	assert_int_equal(pc_media_sync(fx->media), -EIO);
	assert_int_equal(pc_media_commit(fx->media), -EIO);
}

/* A file on a disk: loads are of the mapping, stores are calls. */
static void test_page_stores_are_calls(void **state)
{
	struct fixture *fx = *state;
	struct pc_media_file *file;
	uint8_t bytes[3];
	int fd, other_fd;

	assert_int_equal(setenv("PMEM2_FORCE_GRANULARITY", "PAGE", 1), 0);
	create_mapped(fx);
	file = pc_media_file_of(fx->media);
	if (!file->store_by_call)
		skip(); /* tmpfs */
	assert_null(file->writable);
	pc_media_copy(fx->media, 4095, "abc", 3);
	assert_memory_equal(fx->media->base + 4095, "abc", 3);
	assert_int_equal(pc_media_read(fx->media, 4095, bytes, 3), 0);
	assert_memory_equal(bytes, "abc", 3);
	assert_int_equal(pc_media_sync(fx->media), 0);
	/* What cannot be stored must not pass for synced, then or later. */
	other_fd = open(fx->path, O_RDONLY);
	assert_true(other_fd >= 0);
	fd = file->fd;
	file->fd = other_fd;
	pc_media_copy(fx->media, 0, "lost", 4);
	file->fd = fd;
	assert_int_equal(close(other_fd), 0);
	assert_int_equal(pc_media_error(fx->media), -EBADF);
	assert_int_equal(pc_media_sync(fx->media), -EBADF);
	assert_int_equal(pc_media_commit(fx->media), -EBADF);
}

/* A limit for the length of files would make a signal of a call. */
static void test_page_stores_below_limit(void **state)
{
	struct fixture *fx = *state;
	int status;
	pid_t child;

	assert_int_equal(setenv("PMEM2_FORCE_GRANULARITY", "PAGE", 1), 0);
	create_mapped(fx);
	close_media(fx);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		const struct rlimit limit = { .rlim_cur = FILE_BYTES / 2, .rlim_max = FILE_BYTES / 2 };
		bool stored;

		if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || pc_media_open(fx->path, 0, NULL, &fx->media) != 0 ||
		    pc_media_map(fx->media) != 0)
			_exit(1);
		pc_media_copy(fx->media, FILE_BYTES - 4096, "data", 4);
		stored = memcmp(fx->media->base + FILE_BYTES - 4096, "data", 4) == 0;
		_exit(stored && pc_media_sync(fx->media) == 0 ? 0 : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Blocks of the file that were never written; -1: unknown. */
static int64_t unwritten_bytes(int fd)
{
	struct fiemap *map = calloc(1, sizeof(*map) + 512 * sizeof(map->fm_extents[0]));
	int64_t bytes = 0;

	assert_non_null(map);
	map->fm_length = UINT64_MAX;
	map->fm_flags = FIEMAP_FLAG_SYNC;
	map->fm_extent_count = 512;
	if (ioctl(fd, FS_IOC_FIEMAP, map) != 0)
		bytes = -1;
	for (uint32_t i = 0; i < map->fm_mapped_extents && bytes >= 0; i++)
		bytes += map->fm_extents[i].fe_flags & FIEMAP_EXTENT_UNWRITTEN ? (int64_t)map->fm_extents[i].fe_length
									       : 0;
	free(map);
	return bytes;
}

/* Format has every block written, and leaves alone what was there. */
static void test_allocate_writes_blocks(void **state)
{
	struct fixture *fx = *state;
	uint8_t bytes[8192];
	int fd;

	make_file(fx, 0);
	fd = open(fx->path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(posix_fallocate(fd, 0, 5 * FILE_BYTES / 2), 0);
	for (uint32_t blk = 0; blk < 400; blk += 2) /* 400 extents */
		assert_int_equal(pwrite(fd, "x", 1, blk * 4096), 1);
	assert_int_equal(fsync(fd), 0);
	if (unwritten_bytes(fd) <= 0) {
		assert_int_equal(close(fd), 0);
		skip();
	}
	assert_int_equal(pc_media_open(fx->path, PC_MEDIA_CREATE, &fx->msg, &fx->media), 0);
	assert_int_equal(pc_media_allocate(fx->media, 4 * FILE_BYTES), 0);
	assert_int_equal(unwritten_bytes(fd), 0);
	for (uint32_t blk = 0; blk < 400; blk += 2) {
		assert_int_equal(pread(fd, bytes, sizeof(bytes), blk * 4096), sizeof(bytes));
		assert_int_equal(bytes[0], 'x');
		for (uint32_t i = 1; i < sizeof(bytes); i++)
			assert_int_equal(bytes[i], 0);
	}
	assert_int_equal(fcntl(fd, F_GETFL) & O_DIRECT, 0);
	assert_int_equal(fcntl(pc_media_file_of(fx->media)->fd, F_GETFL) & O_DIRECT, 0);
	assert_int_equal(close(fd), 0);
}

static void test_forced_granularity_is_reported(void **state)
{
	struct fixture *fx = *state;

	create_mapped(fx);
	assert_false(fx->media->granularity_forced);
	assert_int_equal(fx->last_severity, PCACHE_LOG_INFO);
	close_media(fx);
	assert_int_equal(setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 1), 0);
	create_mapped(fx);
	assert_true(fx->media->granularity_forced);
	assert_int_equal(fx->media->granularity, PC_GRAN_CACHE_LINE);
	assert_int_equal(fx->last_severity, PCACHE_LOG_WARN);
	assert_non_null(strstr(fx->last_text, "forced to cache line"));
	sync_calls = 0;
	pc_media_file_of(fx->media)->sync_fn = counting_sync;
	pc_media_copy(fx->media, 1, "data", 4);
	pc_media_flush(fx->media, 1, 4);
	assert_int_equal(pc_media_commit(fx->media), 0);
	assert_int_equal(pc_media_sync(fx->media), 0);
	assert_int_equal(sync_calls, 0);
	assert_memory_equal(fx->media->base + 1, "data", 4);
	close_media(fx);
	assert_int_equal(setenv("PMEM2_FORCE_GRANULARITY", "byte", 1), 0);
	create_mapped(fx);
	assert_true(fx->media->granularity_forced);
	assert_int_equal(fx->media->granularity, PC_GRAN_BYTE);
	close_media(fx);
	assert_int_equal(setenv("PMEM2_FORCE_GRANULARITY", "nonsense", 1), 0);
	create_mapped(fx);
	assert_false(fx->media->granularity_forced);
}

#define BOTH(test) \
	cmocka_unit_test_setup_teardown(test, setup, teardown), \
		cmocka_unit_test_setup_teardown(test, setup_shm, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_missing),
		BOTH(test_create_mode_and_size),
		BOTH(test_refused_types),
		BOTH(test_no_permission),
		BOTH(test_lock),
		BOTH(test_lock_and_fork),
		BOTH(test_mapping_is_not_inherited),
		BOTH(test_store_and_read_back),
		BOTH(test_read_only_mapping_faults_on_store),
		BOTH(test_read_past_end),
		BOTH(test_truncated_under_open_handle),
		BOTH(test_truncated_before_map),
		BOTH(test_holes),
		BOTH(test_holes_after_many_extents),
		BOTH(test_allocate_old_file),
		BOTH(test_failed_allocate_removes_new_file),
		BOTH(test_failed_allocate_keeps_old_length),
		BOTH(test_failed_last_step_keeps_old_length),
		BOTH(test_no_space),
		BOTH(test_page_sync),
		BOTH(test_page_stores_are_calls),
		BOTH(test_page_stores_below_limit),
		BOTH(test_allocate_writes_blocks),
		BOTH(test_forced_granularity_is_reported),
	};

	return cmocka_run_group_tests_name("media_file", tests, NULL, NULL);
}
