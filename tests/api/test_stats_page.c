/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The live statistics page: round trip, consistency under a concurrent writer, life and death of its process, and
 * hostile content.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/stats_page.h"

#define PAGE_BYTES 4096
#define VERSION_OFF 8
#define INFO_BYTES_OFF 12
#define SEQUENCE_OFF 24

/* Hooks into the file accesses of this program, so that a writer can come in the middle of a read, and the disk be full. */
static void (*in_the_middle)(void); /* called once, halfway through the next read of a snapshot */
static int write_error; /* errno of writes */

ssize_t pread(int fd, void *buf, size_t len, off_t off)
{
	void (*hook)(void) = in_the_middle;
	size_t half = len / 2;
	ssize_t got;

	if (hook == NULL || len < 64 || off == 0)
		return syscall(SYS_pread64, fd, buf, len, off);
	in_the_middle = NULL;
	got = syscall(SYS_pread64, fd, buf, half, off);
	if (got != (ssize_t)half)
		return got;
	hook();
	got = syscall(SYS_pread64, fd, (uint8_t *)buf + half, len - half, off + (off_t)half);
	return got < 0 ? got : got + (ssize_t)half;
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t off)
{
	if (write_error != 0) {
		errno = write_error;
		return -1;
	}
	return syscall(SYS_pwrite64, fd, buf, len, off);
}

struct place {
	char dir[64];
	char cache[80];
	char page[96];
};

static struct place place;

static int setup(void **state)
{
	(void)state;
	(void)snprintf(place.dir, sizeof(place.dir), "/dev/shm/pcache-test-XXXXXX");
	if (mkdtemp(place.dir) == NULL)
		return -1;
	(void)snprintf(place.cache, sizeof(place.cache), "%s/c", place.dir);
	(void)snprintf(place.page, sizeof(place.page), "%s/c.stats", place.dir);
	return 0;
}

/* The directory goes away only if it is empty: no temporary file was left. */
static int teardown(void **state)
{
	(void)state;
	(void)unlink(place.page);
	return rmdir(place.dir);
}

static struct pc_stats_page *create(void)
{
	struct pc_stats_page *page = NULL;

	assert_int_equal(pc_stats_page_create(place.cache, &page), 0);
	assert_non_null(page);
	return page;
}

/* All 64-bit counters from the same number, so that a mixture shows. */
static void fill(struct pcache_info *info, uint64_t number)
{
	memset(info, 0, sizeof(*info));
	for (uint64_t *at = &info->segments; at <= &info->stored_bytes; at++)
		*at = number + (uint64_t)(at - &info->segments);
}

static bool is_whole(const struct pcache_info *info)
{
	for (const uint64_t *at = &info->segments; at <= &info->stored_bytes; at++) {
		if (*at != info->segments + (uint64_t)(at - &info->segments))
			return false;
	}
	return true;
}

static int read_page(struct pcache_info *info)
{
	memset(info, 0xcc, sizeof(*info));
	info->struct_bytes = sizeof(*info);
	return pc_stats_page_read(place.cache, info);
}

static void assert_read_fails(int expected)
{
	struct pcache_info info;
	struct pcache_info before;

	memset(&before, 0xcc, sizeof(before));
	before.struct_bytes = sizeof(before);
	assert_int_equal(read_page(&info), expected);
	assert_memory_equal(&info, &before, sizeof(info));
}

static void poke(off_t off, const void *bytes, size_t len)
{
	int fd = open(place.page, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, off), len);
	assert_int_equal(close(fd), 0);
}

static void test_round_trip(void **state)
{
	struct pc_stats_page *page = create();
	struct pcache_info put;
	struct pcache_info got;
	struct stat st;

	(void)state;
	assert_int_equal(stat(place.page, &st), 0);
	assert_int_equal(st.st_size, PAGE_BYTES);
	assert_int_equal(st.st_mode & 0777 & ~0644u, 0);
	assert_read_fails(-EAGAIN); /* nothing published yet */
	for (uint64_t number = 0; number < 5; number++) {
		fill(&put, number * 1000);
		put.struct_bytes = 8; /* does not matter */
		put.state_flags = PCACHE_STATE_DEGRADED;
		put.gc_percent = 42;
		memset(put.cache_uuid, 7, sizeof(put.cache_uuid));
		assert_int_equal(pc_stats_page_publish(page, &put), 0);
		assert_int_equal(read_page(&got), 0);
		put.struct_bytes = sizeof(put);
		put.state_flags |= PCACHE_STATE_LIVE;
		assert_memory_equal(&got, &put, sizeof(got));
	}
	pc_stats_page_close(page);
	assert_int_equal(access(place.page, F_OK), -1);
	assert_read_fails(-ENOENT);
}

static void test_arguments(void **state)
{
	struct pc_stats_page *page = (struct pc_stats_page *)(uintptr_t)0x10;
	struct pcache_info info;
	char long_path[400];

	(void)state;
	assert_int_equal(pc_stats_page_create("", &page), -EINVAL);
	assert_int_equal(pc_stats_page_create("/dev/shm/", &page), -EINVAL);
	assert_int_equal(pc_stats_page_create("/nonexistent/cache", &page), -ENOENT);
	assert_int_equal(pc_stats_page_create("/dev/null/cache", &page), -ENOTDIR);
	(void)snprintf(long_path, sizeof(long_path), "%s/%0255d", place.dir, 1);
	assert_int_equal(pc_stats_page_create(long_path, &page), -ENAMETOOLONG);
	assert_ptr_equal(page, (struct pc_stats_page *)(uintptr_t)0x10);
	info.struct_bytes = 7;
	assert_int_equal(pc_stats_page_read(place.cache, &info), -EINVAL);
	pc_stats_page_close(NULL);
	fill(&info, 1);
	assert_int_equal(pc_stats_page_publish(NULL, &info), 0);
}

/* A reader from before or after this version's struct. */
static void test_other_struct_sizes(void **state)
{
	struct pc_stats_page *page = create();
	struct pcache_info put;
	union {
		struct pcache_info info;
		uint8_t bytes[sizeof(struct pcache_info) + 64];
	} got;
	uint32_t small = 128;

	(void)state;
	fill(&put, 5);
	assert_int_equal(pc_stats_page_publish(page, &put), 0);
	for (uint32_t bytes = 8; bytes <= sizeof(got); bytes++) {
		memset(&got, 0xcc, sizeof(got));
		got.info.struct_bytes = bytes;
		assert_int_equal(pc_stats_page_read(place.cache, &got.info), 0);
		assert_int_equal(got.info.struct_bytes, bytes);
		assert_int_equal(got.info.state_flags, PCACHE_STATE_LIVE);
		for (uint32_t i = 8; i < sizeof(got); i++) {
			uint8_t expected = i < sizeof(put) ? ((const uint8_t *)&put)[i] : 0;

			assert_int_equal(got.bytes[i], i < bytes ? expected : 0xcc);
		}
	}
	/* A publisher that knew less: the rest is zero. */
	poke(INFO_BYTES_OFF, &small, sizeof(small));
	assert_int_equal(read_page(&got.info), 0);
	for (uint32_t i = 8; i < sizeof(put); i++)
		assert_int_equal(got.bytes[i], i < small ? ((const uint8_t *)&put)[i] : 0);
	pc_stats_page_close(page);
}

struct publisher {
	struct pc_stats_page *page;
	atomic_bool stop;
	int result;
	_Atomic uint64_t published; /* whole ones */
};

static void *publish_loop(void *arg)
{
	struct publisher *publisher = arg;
	struct pcache_info info;

	while (!atomic_load(&publisher->stop) && publisher->result == 0) {
		fill(&info, (publisher->published + 1) * 1000);
		publisher->result = pc_stats_page_publish(publisher->page, &info);
		publisher->published++;
	}
	return NULL;
}

static void test_concurrent_writers(void **state)
{
	struct publisher publishers[2] = { { .page = create() } };
	pthread_t threads[2];
	uint32_t snapshots = 0;

	(void)state;
	publishers[1].page = publishers[0].page;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, publish_loop, &publishers[i]), 0);
	for (uint32_t i = 0; i < 3000 || snapshots == 0 || !publishers[0].published || !publishers[1].published; i++) {
		struct pcache_info info;
		int err = read_page(&info);

		if (err == -EAGAIN)
			continue;
		assert_int_equal(err, 0);
		assert_true(is_whole(&info));
		snapshots++;
	}
	for (int i = 0; i < 2; i++) {
		atomic_store(&publishers[i].stop, true);
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(publishers[i].result, 0);
	}
	pc_stats_page_close(publishers[0].page);
}

static struct pc_stats_page *middle_page;

static void publish_other(void)
{
	struct pcache_info info;

	fill(&info, 5000);
	assert_int_equal(pc_stats_page_publish(middle_page, &info), 0);
}

/* A writer comes and goes between two halves of a read: the reader notices and takes the new snapshot. */
static void test_writer_in_the_middle_of_a_read(void **state)
{
	struct pcache_info info;

	(void)state;
	middle_page = create();
	fill(&info, 1);
	assert_int_equal(pc_stats_page_publish(middle_page, &info), 0);
	in_the_middle = publish_other;
	assert_int_equal(read_page(&info), 0);
	assert_null(in_the_middle);
	assert_true(is_whole(&info));
	assert_int_equal(info.segments, 5000);
	pc_stats_page_close(middle_page);
}

/* No page and no temporary file (see teardown) when it cannot be made; no half snapshot when one cannot be written. */
static void test_full_disk(void **state)
{
	struct pc_stats_page *page = NULL;
	struct pcache_info info;

	(void)state;
	write_error = ENOSPC;
	assert_int_equal(pc_stats_page_create(place.cache, &page), -ENOSPC);
	assert_null(page);
	write_error = 0;
	page = create();
	fill(&info, 1);
	assert_int_equal(pc_stats_page_publish(page, &info), 0);
	write_error = ENOSPC;
	fill(&info, 2);
	assert_int_equal(pc_stats_page_publish(page, &info), -ENOSPC);
	write_error = 0;
	assert_int_equal(read_page(&info), 0);
	assert_int_equal(info.segments, 1);
	fill(&info, 3);
	assert_int_equal(pc_stats_page_publish(page, &info), 0);
	assert_int_equal(read_page(&info), 0);
	assert_int_equal(info.segments, 3);
	pc_stats_page_close(page);
}

static void test_writer_died_inside(void **state)
{
	struct pc_stats_page *page = create();
	struct pcache_info info;
	uint64_t odd = 3;

	(void)state;
	fill(&info, 1);
	assert_int_equal(pc_stats_page_publish(page, &info), 0);
	poke(SEQUENCE_OFF, &odd, sizeof(odd));
	assert_read_fails(-EAGAIN); /* and comes back */
	assert_int_equal(pc_stats_page_publish(page, &info), 0);
	assert_int_equal(read_page(&info), 0);
	pc_stats_page_close(page);
}

/* A killed process leaves its page, which is not taken for live and is replaced by the next one. */
static void test_page_of_a_dead_process(void **state)
{
	struct pc_stats_page *page;
	struct pcache_info info;
	int status;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		fill(&info, 1);
		if (pc_stats_page_create(place.cache, &page) != 0 || pc_stats_page_publish(page, &info) != 0)
			_exit(1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(access(place.page, F_OK), 0);
	assert_read_fails(-ESTALE);
	page = create();
	fill(&info, 9);
	assert_int_equal(pc_stats_page_publish(page, &info), 0);
	assert_int_equal(read_page(&info), 0);
	assert_int_equal(info.segments, 9);
	pc_stats_page_close(page);
}

static void test_child_does_not_remove(void **state)
{
	struct pc_stats_page *page = create();
	int status;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		pc_stats_page_close(page);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(access(place.page, F_OK), 0);
	pc_stats_page_close(page);
	assert_int_equal(access(place.page, F_OK), -1);
}

static void test_foreign_file_is_left_alone(void **state)
{
	static const char text[] = "somebody's numbers";
	struct pc_stats_page *page = NULL;
	char target[96];
	char bytes[64];
	int fd = open(place.page, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
	assert_int_equal(pc_stats_page_create(place.cache, &page), -EEXIST);
	assert_int_equal(ftruncate(fd, PAGE_BYTES), 0);
	assert_int_equal(pc_stats_page_create(place.cache, &page), -EEXIST);
	assert_int_equal(pread(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	assert_memory_equal(bytes, text, sizeof(text));
	assert_int_equal(close(fd), 0);
	assert_read_fails(-EPROTO);

	/* A link is neither followed nor replaced, also where it points to a good page. */
	(void)snprintf(target, sizeof(target), "%s/target", place.dir);
	assert_int_equal(rename(place.page, target), 0);
	assert_int_equal(symlink(target, place.page), 0);
	assert_int_equal(pc_stats_page_create(place.cache, &page), -EEXIST);
	assert_read_fails(-EPROTO);
	assert_int_equal(unlink(target), 0);
	assert_int_equal(pc_stats_page_create(place.cache, &page), -EEXIST); /* dangling */
	assert_int_equal(unlink(place.page), 0);
	assert_int_equal(mkdir(place.page, 0700), 0);
	assert_int_equal(pc_stats_page_create(place.cache, &page), -EEXIST);
	assert_read_fails(-EPROTO);
	assert_int_equal(rmdir(place.page), 0);
	assert_int_equal(mkfifo(place.page, 0600), 0);
	assert_int_equal(pc_stats_page_create(place.cache, &page), -EEXIST);
	assert_read_fails(-EPROTO);
	assert_null(page);
}

/* The page was replaced behind our back: close leaves what is there. */
static void test_close_removes_only_its_own(void **state)
{
	struct pc_stats_page *page = create();
	int fd;

	(void)state;
	assert_int_equal(unlink(place.page), 0);
	fd = open(place.page, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
	pc_stats_page_close(page);
	assert_int_equal(access(place.page, F_OK), 0);
}

static void test_relative_path(void **state)
{
	struct pc_stats_page *page = NULL;
	struct pcache_info info;
	char old_dir[512];

	(void)state;
	assert_non_null(getcwd(old_dir, sizeof(old_dir)));
	assert_int_equal(chdir(place.dir), 0);
	assert_int_equal(pc_stats_page_create("c", &page), 0);
	fill(&info, 3);
	assert_int_equal(pc_stats_page_publish(page, &info), 0);
	info.struct_bytes = sizeof(info);
	assert_int_equal(pc_stats_page_read("c", &info), 0);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(pc_stats_page_read(place.cache, &info), 0);
	pc_stats_page_close(page);
	assert_int_equal(access(place.page, F_OK), -1);
	assert_int_equal(chdir(old_dir), 0);
}

/* Any bytes in a page that somebody holds locked: an error or numbers, no harm. */
static void test_hostile_content(void **state)
{
	static const uint32_t sizes[] = { 0, 7, 8, 4032, 4033, 4096, UINT32_MAX };
	struct pc_stats_page *page = create();
	struct pcache_info info;
	uint32_t version = 2;
	uint32_t good_size = sizeof(info);
	uint8_t noise[PAGE_BYTES];

	(void)state;
	fill(&info, 1);
	assert_int_equal(pc_stats_page_publish(page, &info), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		poke(INFO_BYTES_OFF, &sizes[i], sizeof(sizes[i]));
		if (sizes[i] >= 8 && sizes[i] <= 4032)
			assert_int_equal(read_page(&info), 0);
		else
			assert_read_fails(-EPROTO);
	}
	poke(INFO_BYTES_OFF, &good_size, sizeof(good_size));
	poke(VERSION_OFF, &version, sizeof(version));
	assert_read_fails(-EPROTO);

	srand(1);
	for (int round = 0; round < 200; round++) {
		for (size_t i = 0; i < sizeof(noise); i++)
			noise[i] = (uint8_t)rand();
		poke(64, noise, sizeof(noise) - 64);
		noise[0] = (uint8_t)(2 * (uint32_t)round + 2);
		version = 1;
		poke(VERSION_OFF, &version, sizeof(version));
		poke(SEQUENCE_OFF, noise, 1);
		(void)read_page(&info);
	}
	for (off_t bytes = PAGE_BYTES - 1; bytes >= 0; bytes -= 273) {
		assert_int_equal(truncate(place.page, bytes), 0);
		assert_read_fails(-EPROTO);
	}
	assert_int_equal(truncate(place.page, PAGE_BYTES * 2), 0);
	assert_read_fails(-EPROTO);
	/* The writer lives through it too. */
	assert_int_equal(truncate(place.page, 0), 0);
	assert_int_equal(pc_stats_page_publish(page, &info), 0);
	pc_stats_page_close(page);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_round_trip),
		TEST(test_arguments),
		TEST(test_other_struct_sizes),
		TEST(test_concurrent_writers),
		TEST(test_writer_in_the_middle_of_a_read),
		TEST(test_full_disk),
		TEST(test_writer_died_inside),
		TEST(test_page_of_a_dead_process),
		TEST(test_child_does_not_remove),
		TEST(test_foreign_file_is_left_alone),
		TEST(test_close_removes_only_its_own),
		TEST(test_relative_path),
		TEST(test_hostile_content),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
