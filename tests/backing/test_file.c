/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file backing on a tmpfs (/dev/shm) and on the file system of $TMPDIR or /var/tmp: transfers, zeroes and
 * holes, and each error that its header names.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "backing/backing.h"
#include "pcache/pcache.h"

#define FILE_BYTES (UINT64_C(1) << 20)

/* What the kernel may do, but seldom does: the calls of this program go through here. */
static struct {
	size_t most_bytes; /* of one transfer; 0: all */
	uint32_t interrupt; /* so many calls fail with EINTR first */
	bool zero; /* transfers move nothing */
	int error; /* of fdatasync and fallocate */
	uint32_t calls;
} odd;

static bool odd_result(size_t *len, ssize_t *out_result)
{
	odd.calls++;
	if (odd.interrupt != 0) {
		odd.interrupt--;
		errno = EINTR;
		*out_result = -1;
		return true;
	}
	if (odd.zero) {
		*out_result = 0;
		return true;
	}
	if (odd.most_bytes != 0 && *len > odd.most_bytes)
		*len = odd.most_bytes;
	return false;
}

ssize_t pread(int fd, void *buf, size_t len, off_t off)
{
	ssize_t result;

	return odd_result(&len, &result) ? result : syscall(SYS_pread64, fd, buf, len, off);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t off)
{
	ssize_t result;

	return odd_result(&len, &result) ? result : syscall(SYS_pwrite64, fd, buf, len, off);
}

int fdatasync(int fd)
{
	odd.calls++;
	if (odd.error != 0) {
		errno = odd.error;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	odd.calls++;
	if (odd.error != 0) {
		errno = odd.error;
		if (odd.error == EINTR)
			odd.error = 0;
		return -1;
	}
	return (int)syscall(SYS_fallocate, fd, mode, off, len);
}

struct place {
	char dir[256];
	char path[300];
};

static int make_place(void **state, const char *parent)
{
	struct place *place = calloc(1, sizeof(*place));

	if (place == NULL)
		return -1;
	(void)snprintf(place->dir, sizeof(place->dir), "%.200s/pcache-test-XXXXXX", parent);
	if (mkdtemp(place->dir) == NULL) {
		free(place);
		return -1;
	}
	(void)snprintf(place->path, sizeof(place->path), "%s/backing", place->dir);
	*state = place;
	return 0;
}

static int setup_tmpfs(void **state)
{
	return make_place(state, "/dev/shm");
}

static int setup_disk(void **state)
{
	const char *parent = getenv("TMPDIR");

	return make_place(state, parent != NULL ? parent : "/var/tmp");
}

static int teardown(void **state)
{
	struct place *place = *state;

	(void)unlink(place->path);
	(void)rmdir(place->path);
	(void)rmdir(place->dir);
	free(place);
	return 0;
}

static void make_file(const struct place *place, uint64_t bytes, int filler)
{
	int fd = open(place->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	uint8_t block[4096];

	assert_true(fd >= 0);
	memset(block, filler, sizeof(block));
	for (uint64_t off = 0; off < bytes; off += sizeof(block)) {
		size_t len = bytes - off < sizeof(block) ? (size_t)(bytes - off) : sizeof(block);

		assert_int_equal(pwrite(fd, block, len, (off_t)off), len);
	}
	assert_int_equal(close(fd), 0);
}

static struct pcache_backing *open_file(const struct place *place, uint32_t flags)
{
	struct pcache_backing *backing = NULL;

	assert_int_equal(pcache_backing_file_new(place->path, flags, &backing), 0);
	return backing;
}

static void assert_open_fails(const char *path, uint32_t flags, int expected)
{
	struct pcache_backing *untouched = (struct pcache_backing *)(uintptr_t)0x10;

	assert_int_equal(pcache_backing_file_new(path, flags, &untouched), expected);
	assert_ptr_equal(untouched, (struct pcache_backing *)(uintptr_t)0x10);
}

static void test_arguments(void **state)
{
	const struct place *place = *state;

	assert_open_fails(NULL, 0, -EINVAL);
	make_file(place, 4096, 0);
	assert_int_equal(pcache_backing_file_new(place->path, 0, NULL), -EINVAL);
	assert_open_fails(place->path, 4, -EINVAL);
	assert_open_fails(place->path, UINT32_MAX, -EINVAL);
}

static void test_sizes(void **state)
{
	static const struct {
		uint64_t bytes;
		int err;
	} cases[] = { { 0, -EINVAL },    { 1, -EINVAL }, { 511, -EINVAL },  { 512, 0 }, { 513, -EINVAL },
		      { 1023, -EINVAL }, { 1024, 0 },    { 4097, -EINVAL }, { 4096, 0 } };
	const struct place *place = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		make_file(place, cases[i].bytes, 1);
		if (cases[i].err != 0) {
			assert_open_fails(place->path, 0, cases[i].err);
		} else {
			struct pcache_backing *backing = open_file(place, 0);

			assert_int_equal(pcache_backing_size(backing), cases[i].bytes);
			pcache_backing_free(backing);
		}
	}
}

static void test_wrong_kinds(void **state)
{
	const struct place *place = *state;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd;

	assert_open_fails(place->path, 0, -ENOENT);
	assert_open_fails(place->dir, 0, -EISDIR);
	assert_open_fails(place->dir, PCACHE_BACKING_FILE_RDONLY, -EISDIR);
	assert_open_fails("/dev/null", 0, -ENOTSUP);
	assert_int_equal(mkfifo(place->path, 0600), 0);
	assert_open_fails(place->path, 0, -ENOTSUP);
	assert_open_fails(place->path, PCACHE_BACKING_FILE_RDONLY, -ENOTSUP); /* and does not wait for a writer */
	assert_int_equal(unlink(place->path), 0);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%.100s", place->path);
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_open_fails(place->path, 0, -ENXIO); /* that of open(2) */
	assert_int_equal(close(fd), 0);
}

static void test_no_permission(void **state)
{
	const struct place *place = *state;

	if (geteuid() == 0) {
		make_file(place, 4096, 0);
		assert_int_equal(chmod(place->dir, 0755), 0);
		assert_int_equal(seteuid(65534), 0);
		assert_open_fails(place->path, 0, -EACCES);
		assert_int_equal(seteuid(0), 0);
	} else {
		make_file(place, 4096, 0);
		assert_int_equal(chmod(place->path, 0), 0);
		assert_open_fails(place->path, 0, -EACCES);
	}
}

static void test_transfers(void **state)
{
	const struct place *place = *state;
	struct pcache_backing *backing;
	static uint8_t put[FILE_BYTES];
	static uint8_t got[FILE_BYTES];

	make_file(place, FILE_BYTES, 0x11);
	backing = open_file(place, 0);
	memset(put, 0x11, sizeof(put));
	for (size_t i = 512; i < 512 + 300 * 1024; i++)
		put[i] = (uint8_t)(i * 131 >> 3);
	assert_int_equal(pc_backing_write(backing, put + 512, 512, 300 * 1024), 0);
	assert_int_equal(pc_backing_write(backing, put + FILE_BYTES - 512, FILE_BYTES - 512, 512), 0);
	assert_int_equal(pc_backing_flush(backing), 0);
	assert_int_equal(pc_backing_read(backing, got, 0, FILE_BYTES), 0);
	assert_memory_equal(put, got, FILE_BYTES);
	pcache_backing_free(backing);

	/* Seen through another descriptor too, and the size is what it was. */
	backing = open_file(place, PCACHE_BACKING_FILE_RDONLY);
	memset(got, 0, sizeof(got));
	assert_int_equal(pc_backing_read(backing, got, 0, FILE_BYTES), 0);
	assert_memory_equal(put, got, FILE_BYTES);
	assert_int_equal(pcache_backing_size(backing), FILE_BYTES);
	pcache_backing_free(backing);
}

static uint64_t allocated_bytes(const struct place *place)
{
	struct stat st;

	assert_int_equal(stat(place->path, &st), 0);
	assert_int_equal(st.st_size, FILE_BYTES);
	return (uint64_t)st.st_blocks * 512;
}

static void assert_zero_range(struct pcache_backing *backing, uint64_t off, uint64_t len)
{
	static uint8_t got[FILE_BYTES];

	assert_int_equal(pc_backing_read(backing, got, 0, FILE_BYTES), 0);
	for (uint64_t at = 0; at < FILE_BYTES; at++) {
		uint8_t expected = at >= off && at < off + len ? 0 : 0x77;

		if (got[at] != expected)
			fail_msg("byte %llu is %u", (unsigned long long)at, got[at]);
	}
}

/* Also ranges that share pages with data. */
static void test_discard_and_zeroes(void **state)
{
	static const uint64_t ranges[][2] = { { 0, 512 },       { 512, 512 },        { 3584, 1024 },
					      { 4096, 65536 },  { 512, 200 * 1024 }, { FILE_BYTES - 512, 512 },
					      { 0, FILE_BYTES } };
	const struct place *place = *state;

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		for (int keep_space = 0; keep_space <= 1; keep_space++) {
			struct pcache_backing *backing;
			uint64_t before;

			make_file(place, FILE_BYTES, 0x77);
			backing = open_file(place, 0);
			assert_int_equal(pc_backing_flush(backing), 0);
			before = allocated_bytes(place);
			assert_int_equal(pc_backing_zero(backing, ranges[i][0], ranges[i][1], keep_space != 0), 0);
			assert_zero_range(backing, ranges[i][0], ranges[i][1]);
			assert_int_equal(pc_backing_flush(backing), 0);
			if (keep_space)
				assert_true(allocated_bytes(place) >= before);
			else if (ranges[i][1] >= 65536)
				assert_true(allocated_bytes(place) < before);
			pcache_backing_free(backing);
		}
	}
}

static void test_read_only(void **state)
{
	const struct place *place = *state;
	struct pcache_backing *backing;
	uint8_t buf[512] = { 0 };

	make_file(place, FILE_BYTES, 0x77);
	backing = open_file(place, PCACHE_BACKING_FILE_RDONLY);
	assert_int_equal(pc_backing_write(backing, buf, 0, sizeof(buf)), -EROFS);
	assert_int_equal(pc_backing_zero(backing, 0, 4096, false), -EROFS);
	assert_int_equal(pc_backing_zero(backing, 0, 4096, true), -EROFS);
	assert_int_equal(pc_backing_flush(backing), 0);
	assert_zero_range(backing, 0, 0);
	pcache_backing_free(backing);
}

static void test_shortened_file(void **state)
{
	const struct place *place = *state;
	struct pcache_backing *backing;
	uint8_t buf[4096];

	make_file(place, FILE_BYTES, 0x77);
	backing = open_file(place, 0);
	assert_int_equal(truncate(place->path, 8192 + 100), 0);
	assert_int_equal(pc_backing_read(backing, buf, 4096, sizeof(buf)), 0);
	assert_int_equal(pc_backing_read(backing, buf, 8192, sizeof(buf)), -EIO); /* ends in the middle */
	assert_int_equal(pc_backing_read(backing, buf, 65536, sizeof(buf)), -EIO);
	assert_int_equal(pcache_backing_size(backing), FILE_BYTES);
	pcache_backing_free(backing);
}

/* A limit on the size of files stands in for a full disk: first a short count, then an error. */
static void test_write_error(void **state)
{
	const struct place *place = *state;
	struct rlimit old;
	struct rlimit low;
	struct pcache_backing *backing;
	static uint8_t buf[65536];
	void (*old_handler)(int);

	make_file(place, FILE_BYTES, 0x77);
	backing = open_file(place, 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	old_handler = signal(SIGXFSZ, SIG_IGN);
	low = old;
	low.rlim_cur = 32768 + 100;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	assert_int_equal(pc_backing_write(backing, buf, 0, sizeof(buf)), -EFBIG);
	assert_int_equal(pc_backing_write(backing, buf, 0, 32768), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	(void)signal(SIGXFSZ, old_handler);
	pcache_backing_free(backing);
}

static void test_short_and_interrupted_transfers(void **state)
{
	const struct place *place = *state;
	struct pcache_backing *backing;
	static uint8_t put[65536];
	static uint8_t got[65536];

	make_file(place, FILE_BYTES, 0x77);
	backing = open_file(place, 0);
	for (size_t i = 0; i < sizeof(put); i++)
		put[i] = (uint8_t)(i * 7 >> 4);
	memset(&odd, 0, sizeof(odd));
	odd.most_bytes = 1000;
	odd.interrupt = 3;
	assert_int_equal(pc_backing_write(backing, put, 4096, sizeof(put)), 0);
	assert_int_equal(odd.calls, 66 + 3);
	odd.interrupt = 3;
	assert_int_equal(pc_backing_read(backing, got, 4096, sizeof(got)), 0);
	assert_int_equal(odd.calls, 2 * (66 + 3));
	memset(&odd, 0, sizeof(odd));
	assert_memory_equal(put, got, sizeof(put));
	memset(got, 0, sizeof(got));
	assert_int_equal(pc_backing_read(backing, got, 4096, sizeof(got)), 0);
	assert_memory_equal(put, got, sizeof(put));

	odd.zero = true; /* no progress is an error, not a loop */
	assert_int_equal(pc_backing_write(backing, put, 0, 4096), -EIO);
	assert_int_equal(pc_backing_read(backing, got, 0, 4096), -EIO);
	memset(&odd, 0, sizeof(odd));
	pcache_backing_free(backing);
}

/* A failed sync is told once and never repeated, EINTR neither. */
static void test_failed_sync(void **state)
{
	static const int errors[] = { EIO, ENOSPC, EINTR, EDQUOT };
	const struct place *place = *state;
	struct pcache_backing *backing;

	make_file(place, FILE_BYTES, 0x77);
	backing = open_file(place, 0);
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		memset(&odd, 0, sizeof(odd));
		odd.error = errors[i];
		assert_int_equal(pc_backing_flush(backing), -errors[i]);
		assert_int_equal(odd.calls, 1);
	}
	memset(&odd, 0, sizeof(odd));
	assert_int_equal(pc_backing_flush(backing), 0);
	pcache_backing_free(backing);
}

static void test_fallocate_errors(void **state)
{
	static const int errors[] = { EIO, ENOSPC, EINVAL, ETXTBSY };
	static const int falls_back[] = { EOPNOTSUPP, ENOSYS, EINTR };
	const struct place *place = *state;
	struct pcache_backing *backing;

	make_file(place, FILE_BYTES, 0x77);
	backing = open_file(place, 0);
	memset(&odd, 0, sizeof(odd));
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		odd.error = errors[i];
		assert_int_equal(pc_backing_zero(backing, 0, 4096, false), -errors[i]);
		assert_int_equal(pc_backing_zero(backing, 0, 4096, true), -errors[i]);
	}
	odd.error = 0;
	assert_zero_range(backing, 0, 0);
	for (size_t i = 0; i < sizeof(falls_back) / sizeof(falls_back[0]); i++) {
		odd.error = falls_back[i];
		assert_int_equal(pc_backing_zero(backing, 0, 4096 * (i + 1), (i & 1) != 0), 0);
		odd.error = 0;
		assert_zero_range(backing, 0, 4096 * (i + 1));
	}
	pcache_backing_free(backing);
}

static uint32_t open_fds(void)
{
	uint32_t nr = 0;

	for (int fd = 0; fd < 256; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			nr++;
	}
	return nr;
}

/* Descriptors are close-on-exec, and given back by free and by every failure. */
static void test_descriptors(void **state)
{
	const struct place *place = *state;
	struct pcache_backing *backing;
	uint32_t before = open_fds();

	make_file(place, 4096, 0);
	backing = open_file(place, 0);
	assert_int_equal(open_fds(), before + (backing->direct_fd >= 0 ? 2 : 1));
	for (int fd = 3; fd < 256; fd++) {
		char link[64];
		char target[512];
		ssize_t len;

		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		len = readlink(link, target, sizeof(target) - 1);
		if (len < 0)
			continue;
		target[len] = '\0';
		if (strcmp(target, place->path) == 0)
			assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	}
	pcache_backing_free(backing);
	assert_int_equal(open_fds(), before);
	make_file(place, 100, 0);
	assert_open_fails(place->path, 0, -EINVAL);
	assert_open_fails("/dev/null", 0, -ENOTSUP);
	assert_open_fails(place->dir, PCACHE_BACKING_FILE_RDONLY, -EISDIR);
	assert_int_equal(open_fds(), before);
}

/* A loop device over the file, or -1 where this machine gives none. */
static int attach_loop(const struct place *place, uint32_t sector_bytes, char *out_path, size_t out_len)
{
	struct loop_config config = { .block_size = sector_bytes };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int file = open(place->path, O_RDWR | O_CLOEXEC);
	int number = control >= 0 ? ioctl(control, LOOP_CTL_GET_FREE) : -1;
	int loop = -1;

	if (number >= 0) {
		(void)snprintf(out_path, out_len, "/dev/loop%d", number);
		loop = open(out_path, O_RDWR | O_CLOEXEC);
	}
	config.fd = (uint32_t)file;
	config.info.lo_flags = LO_FLAGS_AUTOCLEAR; /* the last close detaches it, whatever ends this test */
	if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) != 0) {
		(void)close(loop);
		loop = -1;
	}
	(void)close(file);
	(void)close(control);
	return loop;
}

/* With sectors of 4 KiB the device refuses to punch parts of them, and zeroes are written instead. */
static void test_block_device(void **state)
{
	const struct place *place = *state;

	for (uint32_t sector_bytes = 512; sector_bytes <= 4096; sector_bytes *= 8) {
		struct pcache_backing *backing = NULL;
		char path[64];
		int loop;

		make_file(place, FILE_BYTES, 0x77);
		loop = attach_loop(place, sector_bytes, path, sizeof(path));
		if (loop < 0)
			skip();
		assert_int_equal(pcache_backing_file_new(path, 0, &backing), 0);
		assert_int_equal(pcache_backing_size(backing), FILE_BYTES);
		assert_int_equal(pc_backing_zero(backing, 512, 1024, false), 0);
		assert_zero_range(backing, 512, 1024);
		assert_int_equal(pc_backing_zero(backing, 0, 12288 + 512, false), 0);
		assert_zero_range(backing, 0, 12288 + 512);
		assert_int_equal(pc_backing_zero(backing, 0, FILE_BYTES - 512, true), 0);
		assert_zero_range(backing, 0, FILE_BYTES - 512);
		assert_int_equal(pc_backing_flush(backing), 0);
		pcache_backing_free(backing);
		assert_int_equal(close(loop), 0);
	}
}

#define ON_BOTH(test) \
	{ #test " (tmpfs)", test, setup_tmpfs, teardown, NULL }, \
	{ \
#test " (disk)", test, setup_disk, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(test_arguments),
		ON_BOTH(test_sizes),
		ON_BOTH(test_wrong_kinds),
		ON_BOTH(test_no_permission),
		ON_BOTH(test_transfers),
		ON_BOTH(test_discard_and_zeroes),
		ON_BOTH(test_read_only),
		ON_BOTH(test_shortened_file),
		ON_BOTH(test_write_error),
		ON_BOTH(test_descriptors),
		ON_BOTH(test_short_and_interrupted_transfers),
		ON_BOTH(test_failed_sync),
		ON_BOTH(test_fallocate_errors),
		{ "test_block_device", test_block_device, setup_disk, teardown, NULL },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
