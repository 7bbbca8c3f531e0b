/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each call of the system that real media make fails, in turn, over the life of a file: created, allocated, mapped, stored to, synced, closed, opened again, read. A failure is told
 * as an error or does no harm, leaks no descriptor, leaves no file that is half made, and is over with the call.
 *
 * The calls are caught by functions of the same names here, which the library's objects are linked to.
 */
#if defined(__SANITIZE_THREAD__)
#define HAS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_TSAN 1
#endif
#endif

#ifdef HAS_TSAN

/* ThreadSanitizer makes these calls itself before it is ready for functions of ours; and there are no threads here. */
int main(void)
{
	return 0;
}

#else

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "media/handle.h"
#include "pcache/errors.h"

#define FILE_BYTES ((uint64_t)256 << 10)
#define DATA_OFF 8192u
#define DATA_BYTES 10000u

enum call {
	CALL_STAT,
	CALL_LSTAT,
	CALL_FSTAT,
	CALL_FSTATFS,
	CALL_FLOCK,
	CALL_FTRUNCATE,
	CALL_FALLOCATE,
	CALL_FSYNC,
	CALL_FDATASYNC,
	CALL_PREAD,
	CALL_PWRITE,
	CALL_IOCTL,
	CALL_MMAP,
	CALL_MADVISE,
	CALL_REALPATH,
	CALL_GETRLIMIT,
	CALL_NR
};
static const char *const call_names[CALL_NR] = { "stat",      "lstat",   "fstat",     "fstatfs",  "flock",  "ftruncate",
						 "fallocate", "fsync",   "fdatasync", "pread",    "pwrite", "ioctl",
						 "mmap",      "madvise", "realpath",  "getrlimit" };

/* Of the calls of a kind the first-th fails, and from there each every-th, if every is not 0. error 0: it does half of what it should (pwrite, pread). */
static struct {
	bool armed;
	enum call call;
	int error;
	uint32_t first, every;
	uint32_t seen, hits;
} fault;

static bool fails(enum call call)
{
	if (!fault.armed || call != fault.call)
		return false;
	fault.seen++;
	if (fault.seen < fault.first ||
	    (fault.every ? (fault.seen - fault.first) % fault.every != 0 : fault.seen != fault.first))
		return false;
	fault.hits++;
	errno = fault.error;
	return true;
}

static void arm(enum call call, int error, uint32_t first, uint32_t every)
{
	memset(&fault, 0, sizeof(fault));
	fault.call = call;
	fault.error = error;
	fault.first = first;
	fault.every = every;
	fault.armed = true;
}

#define REAL(name) ((__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name))

int stat(const char *restrict path, struct stat *restrict st)
{
	return fails(CALL_STAT) ? -1 : REAL(stat)(path, st);
}

int lstat(const char *restrict path, struct stat *restrict st)
{
	return fails(CALL_LSTAT) ? -1 : REAL(lstat)(path, st);
}

int fstat(int fd, struct stat *st)
{
	return fails(CALL_FSTAT) ? -1 : REAL(fstat)(fd, st);
}

int fstatfs(int fd, struct statfs *fs)
{
	return fails(CALL_FSTATFS) ? -1 : REAL(fstatfs)(fd, fs);
}

int flock(int fd, int operation)
{
	return fails(CALL_FLOCK) ? -1 : REAL(flock)(fd, operation);
}

int ftruncate(int fd, off_t len)
{
	return fails(CALL_FTRUNCATE) ? -1 : REAL(ftruncate)(fd, len);
}

int posix_fallocate(int fd, off_t off, off_t len)
{
	return fails(CALL_FALLOCATE) ? fault.error : REAL(posix_fallocate)(fd, off, len);
}

int fsync(int fd)
{
	return fails(CALL_FSYNC) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
	return fails(CALL_FDATASYNC) ? -1 : REAL(fdatasync)(fd);
}

ssize_t pread(int fd, void *buf, size_t len, off_t off)
{
	if (!fails(CALL_PREAD))
		return REAL(pread)(fd, buf, len, off);
	return fault.error ? -1 : REAL(pread)(fd, buf, (len + 1) / 2, off);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t off)
{
	if (!fails(CALL_PWRITE))
		return REAL(pwrite)(fd, buf, len, off);
	return fault.error ? -1 : REAL(pwrite)(fd, buf, (len + 1) / 2, off);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	return fails(CALL_IOCTL) ? -1 : REAL(ioctl)(fd, request, arg);
}

void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	return fails(CALL_MMAP) ? MAP_FAILED : REAL(mmap)(at, len, prot, flags, fd, off);
}

int madvise(void *at, size_t len, int advice)
{
	return fails(CALL_MADVISE) ? -1 : REAL(madvise)(at, len, advice);
}

char *realpath(const char *restrict path, char *restrict resolved)
{
	return fails(CALL_REALPATH) ? NULL : REAL(realpath)(path, resolved);
}

int getrlimit(__rlimit_resource_t resource, struct rlimit *limit)
{
	return fails(CALL_GETRLIMIT) ? -1 : REAL(getrlimit)(resource, limit);
}

/* ---- the life of a file ---------------------------------------------------------------------------------------------- */

struct fixture {
	char dir[256];
	char path[300];
	uint8_t data[DATA_BYTES];
};

static int setup_in(void **state, const char *parent)
{
	struct fixture *fx = calloc(1, sizeof(*fx));

	if (fx == NULL)
		return -1;
	(void)snprintf(fx->dir, sizeof(fx->dir), "%s/pcache-faults-XXXXXX", parent);
	if (mkdtemp(fx->dir) == NULL)
		return -1;
	(void)snprintf(fx->path, sizeof(fx->path), "%s/cache", fx->dir);
	for (uint32_t i = 0; i < DATA_BYTES; i++)
		fx->data[i] = (uint8_t)(i * 7 + i / 256 + 1);
	*state = fx;
	return setenv("PMEM2_FORCE_GRANULARITY", "PAGE", 1);
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

	fault.armed = false;
	(void)unlink(fx->path);
	(void)rmdir(fx->dir);
	free(fx);
	return 0;
}

static uint32_t descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	uint32_t nr = 0;

	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	(void)closedir(dir);
	return nr;
}

/* The file is made, up to its length. */
static int create(struct fixture *fx, struct pc_media **out_media)
{
	int rc = pc_media_open(fx->path, PC_MEDIA_CREATE, NULL, out_media);

	if (rc)
		return rc;
	rc = pc_media_allocate(*out_media, FILE_BYTES);
	if (rc)
		pc_media_close(*out_media);
	return rc;
}

/* Mapped, stored to and synced; closed. */
static int store(struct fixture *fx, struct pc_media *media)
{
	int rc = pc_media_map(media);

	if (!rc) {
		pc_media_copy(media, DATA_OFF, fx->data, DATA_BYTES);
		rc = pc_media_sync(media);
	}
	pc_media_close(media);
	return rc;
}

static int load(struct fixture *fx)
{
	struct pc_media *media;
	uint8_t *found = malloc(DATA_BYTES);
	int rc = pc_media_open(fx->path, PC_MEDIA_RDONLY, NULL, &media);

	assert_non_null(found);
	if (!rc) {
		rc = pc_media_map(media);
		if (!rc)
			rc = pc_media_read(media, DATA_OFF, found, DATA_BYTES);
		if (!rc)
			assert_memory_equal(found, fx->data, DATA_BYTES);
		pc_media_close(media);
	}
	free(found);
	return rc;
}

/* All of it; what a failure leaves behind is judged. */
static int live(struct fixture *fx)
{
	uint32_t before = descriptors();
	struct pc_media *media;
	int rc = create(fx, &media), load_rc;

	if (rc && access(fx->path, F_OK) == 0)
		fail_msg("call %u of %s with error %d, result %d: the file is left", fault.first,
			 call_names[fault.call], fault.error, rc);
	if (!rc)
		rc = store(fx, media);
	if (!rc) {
		load_rc = load(fx);
		rc = load_rc;
	}
	fault.armed = false;
	assert_true(rc <= 0);
	assert_int_equal(descriptors(), before);
	if (access(fx->path, F_OK) == 0)
		assert_int_equal(unlink(fx->path), 0);
	return rc;
}

/* Whether the life has to succeed although one call of this kind gave the error. */
static bool does_no_harm(enum call call, int error)
{
	if (error == EINTR)
		return call == CALL_FLOCK || call == CALL_FALLOCATE || call == CALL_PREAD || call == CALL_PWRITE;
	if (error == 0)
		return true;
	return call == CALL_GETRLIMIT || call == CALL_FSTATFS;
}

/* Whether it must fail. stat of a path that was just opened is done again, flock unlocks as well, mmap and madvise are also those of tmpfs pages that are only wanted early. */
static bool is_told(enum call call, int error)
{
	return error == EIO && (call == CALL_FALLOCATE || call == CALL_FSYNC || call == CALL_FDATASYNC ||
				call == CALL_PREAD || call == CALL_PWRITE || call == CALL_REALPATH);
}

static void sweep(struct fixture *fx, enum call call, int error)
{
	for (uint32_t nr = 1;; nr++) {
		int rc;

		arm(call, error, nr, 0);
		rc = live(fx);
		if (fault.hits == 0)
			break;
		if (does_no_harm(call, error) ? rc != 0 : is_told(call, error) && rc == 0)
			fail_msg("call %u of %s with error %d: result %d", nr, call_names[call], error, rc);
	}
	assert_int_equal(live(fx), 0);
}

static void each_call_fails(void **state)
{
	for (uint32_t call = 0; call < CALL_NR; call++)
		sweep(*state, (enum call)call, EIO);
}

static void each_call_is_interrupted(void **state)
{
	for (uint32_t call = 0; call < CALL_NR; call++)
		sweep(*state, (enum call)call, EINTR);
}

static void each_call_is_refused(void **state)
{
	for (uint32_t call = 0; call < CALL_NR; call++)
		sweep(*state, (enum call)call, EINVAL);
	sweep(*state, CALL_IOCTL, EOPNOTSUPP);
	sweep(*state, CALL_IOCTL, ENOTTY);
}

static void half_is_gone_on_with(void **state)
{
	sweep(*state, CALL_PREAD, 0);
	sweep(*state, CALL_PWRITE, 0);
}

/* Each time it is opened, another file is at the path when it is looked at again: a try is no loop. */
static void file_that_always_changes(void **state)
{
	struct fixture *fx = *state;
	struct pc_media *media = NULL;
	uint32_t before;

	arm(CALL_STAT, EIO, 2, 2);
	assert_int_equal(live(fx), -EBUSY);
	assert_true(fault.hits > 1);
	assert_int_equal(create(fx, &media), 0);
	pc_media_close(media);
	before = descriptors();
	media = NULL;
	arm(CALL_STAT, EIO, 2, 2);
	assert_int_equal(pc_media_open(fx->path, 0, NULL, &media), -ENOENT);
	fault.armed = false;
	assert_null(media);
	assert_int_equal(descriptors(), before);
	assert_int_equal(access(fx->path, F_OK), 0); /* not ours to remove */
}

static void lock_of_another(void **state)
{
	struct fixture *fx = *state;

	arm(CALL_FLOCK, EWOULDBLOCK, 1, 0);
	assert_int_equal(live(fx), -EBUSY);
}

/* Of a page that cannot be read as a whole what can be read stays, and the rest becomes zeroes; what can be read is left alone. */
static void page_is_renewed(void **state)
{
	struct fixture *fx = *state;
	struct pc_media *media;
	uint8_t page[PC_PAGE_BYTES], zeroes[PC_CACHE_LINE_BYTES] = { 0 };

	assert_int_equal(create(fx, &media), 0);
	assert_int_equal(store(fx, media), 0);
	assert_int_equal(pc_media_open(fx->path, 0, NULL, &media), 0);
	assert_int_equal(pc_media_map(media), 0);
	/* The whole, and then each fifth piece of it. */
	arm(CALL_PREAD, EIO, 1, 5);
	assert_int_equal(pc_media_renew(media, DATA_OFF, PC_PAGE_BYTES), 0);
	fault.armed = false;
	assert_int_equal(pc_media_read(media, DATA_OFF, page, sizeof(page)), 0);
	for (uint32_t at = 0; at < PC_PAGE_BYTES; at += PC_CACHE_LINE_BYTES)
		assert_memory_equal(page + at, at / PC_CACHE_LINE_BYTES % 5 == 4 ? zeroes : fx->data + at,
				    PC_CACHE_LINE_BYTES);
	/* The next page could be read. */
	assert_int_equal(pc_media_read(media, DATA_OFF + PC_PAGE_BYTES, page, sizeof(page)), 0);
	assert_memory_equal(page, fx->data + PC_PAGE_BYTES, sizeof(page));
	fault.armed = false;
	arm(CALL_PREAD, EIO, 1, 0);
	assert_int_equal(pc_media_renew(media, DATA_OFF + PC_PAGE_BYTES, PC_PAGE_BYTES), 0);
	fault.armed = false;
	assert_int_equal(pc_media_read(media, DATA_OFF + PC_PAGE_BYTES, page, sizeof(page)), 0);
	assert_memory_equal(page, fx->data + PC_PAGE_BYTES, sizeof(page));
	pc_media_close(media);
}

#define BOTH(test) \
	cmocka_unit_test_setup_teardown(test, setup, teardown), \
		cmocka_unit_test_setup_teardown(test, setup_shm, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(each_call_fails),      BOTH(each_call_is_interrupted), BOTH(each_call_is_refused),
		BOTH(half_is_gone_on_with), BOTH(file_that_always_changes), BOTH(lock_of_another),
		BOTH(page_is_renewed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
