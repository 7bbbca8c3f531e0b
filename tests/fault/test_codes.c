/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Error codes that calls list and no other test has to do with: what the system refuses at an open, and each code for each of the calls that share a list. codes/test_provoked.py sees to
 * it that none is forgotten.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/rig.h"
#include "fault/alloc_faults.h"

/* ---- calls of the system that fail ---- */

static int open_error, allocate_error; /* of the next open of this kind, of each posix_fallocate */
static int open_flags;

static bool open_fails(int flags)
{
	if (!open_error || (flags & open_flags) != open_flags)
		return false;
	errno = open_error;
	open_error = 0;
	return true;
}

static mode_t mode_of(int flags, va_list args)
{
	return flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
	int (*real)(const char *path, int flags, ...) =
		(int (*)(const char *path, int flags, ...))(uintptr_t)dlsym(RTLD_NEXT, "open");
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = mode_of(flags, args);
	va_end(args);
	return open_fails(flags) ? -1 : real(path, flags, mode);
}

int openat(int folder_fd, const char *path, int flags, ...)
{
	int (*real)(int folder_fd, const char *path, int flags, ...) =
		(int (*)(int folder_fd, const char *path, int flags, ...))(uintptr_t)dlsym(RTLD_NEXT, "openat");
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = mode_of(flags, args);
	va_end(args);
	return open_fails(flags) ? -1 : real(folder_fd, path, flags, mode);
}

int posix_fallocate(int fd, off_t off, off_t len)
{
	int (*real)(int fd, off_t off, off_t len) =
		(int (*)(int fd, off_t off, off_t len))(uintptr_t)dlsym(RTLD_NEXT, "posix_fallocate");

	return allocate_error ? allocate_error : real(fd, off, len);
}

/* ---- a cache on a file ---- */

struct place {
	char folder[32];
	char path[64];
	struct pcache_config *config;
	struct mem_backing *mb;
};

static void place_up(struct place *place)
{
	assert_int_equal(setenv("PMEM2_FORCE_GRANULARITY", "PAGE", 1), 0);
	strcpy(place->folder, "/tmp/pcache-codes-XXXXXX");
	assert_non_null(mkdtemp(place->folder));
	(void)snprintf(place->path, sizeof(place->path), "%s/cache", place->folder);
	assert_int_equal(pcache_config_new(&place->config), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CACHE_BYTES, pcache_format_min_bytes(512)), 0);
	place->mb = mem_backing_create(&(struct mem_backing_options){ .size_bytes = 1048576 });
}

static void place_down(struct place *place)
{
	(void)unlink(place->path);
	assert_int_equal(rmdir(place->folder), 0);
	pcache_config_free(place->config);
	mem_backing_destroy(place->mb);
}

static int place_open(struct place *place, const char *path)
{
	struct pcache_backing *backing = mem_backing_attach(place->mb);
	struct pcache *cache;
	int rc = pcache_open(path, place->config, backing, &cache);

	if (rc)
		pcache_backing_free(backing);
	else
		assert_int_equal(pcache_close(cache), 0);
	return rc;
}

static int place_format(struct place *place)
{
	struct pcache_backing *backing = mem_backing_attach(place->mb);
	int rc = pcache_format(place->path, place->config, backing);

	pcache_backing_free(backing);
	return rc;
}

static void what_open_meets(void **state)
{
	static const int errors[] = { EACCES, EROFS };
	struct place place;

	(void)state;
	place_up(&place);
	assert_int_equal(place_open(&place, place.folder), -EISDIR);
	assert_int_equal(place_open(&place, "/dev/null"), -ENOTSUP);
	allocate_error = ENOSPC;
	assert_int_equal(place_format(&place), -ENOSPC);
	assert_int_equal(access(place.path, F_OK), -1); /* nothing is left behind */
	assert_int_equal(pcache_config_set(place.config, PCACHE_OPT_CREATE, 1), 0);
	assert_int_equal(place_open(&place, place.path), -ENOSPC);
	allocate_error = 0;
	open_error = EOPNOTSUPP;
	open_flags = O_TMPFILE;
	assert_int_equal(place_open(&place, place.path), -EOPNOTSUPP);
	assert_int_equal(access(place.path, F_OK), -1);
	assert_int_equal(place_format(&place), 0);
	open_flags = O_RDWR;
	for (uint32_t i = 0; i < PC_ARRAY_NR(errors); i++) {
		open_error = errors[i];
		assert_int_equal(place_open(&place, place.path), -errors[i]);
	}
	assert_int_equal(pcache_config_set_str(place.config, "granularity", "cache_line"), 0);
	assert_int_equal(place_open(&place, place.path), PCACHE_E_PLATFORM);
	assert_int_equal(pcache_config_set_str(place.config, "granularity", "page"), 0);
	assert_int_equal(place_open(&place, place.path), 0);
	place_down(&place);
}

/* ---- each code for each call ---- */

struct call_result {
	int writev, batch, zeroes, discard;
};

static struct call_result all_writes(struct pcache *cache)
{
	uint8_t block[512] = { 0 };
	struct iovec iov = { .iov_base = block, .iov_len = sizeof(block) };
	struct pcache_range range = { .buf = block, .off = 0, .len = sizeof(block) };

	return (struct call_result){ .writev = pcache_writev(cache, &iov, 1, 0, 0),
				     .batch = pcache_write_batch(cache, &range, 1, 0),
				     .zeroes = pcache_write_zeroes(cache, 0, 512, 0),
				     .discard = pcache_discard(cache, 0, 512, 0) };
}

static void assert_all_writes(struct pcache *cache, int expected)
{
	struct call_result result = all_writes(cache);

	assert_int_equal(result.writev, expected);
	assert_int_equal(result.batch, expected);
	assert_int_equal(result.zeroes, expected);
	assert_int_equal(result.discard, expected);
}

static void every_write_is_refused(void **state)
{
	uint8_t block[512] = { 0 };
	struct rig rig;
	int rc = 0;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_close(&rig);
	rig.o.read_only = true;
	rig_open(&rig);
	assert_all_writes(rig.cache, PCACHE_E_READ_ONLY);
	rig_down(&rig);

	rig_zero(&rig);
	rig.o.granularity = PC_GRAN_PAGE;
	rig_up(&rig);
	rig_write(&rig, 0, 512, 0);
	pc_sim_fail_sync(rig.sim, 1, -EIO);
	assert_int_equal(pcache_flush(rig.cache), -EIO);
	assert_all_writes(rig.cache, PCACHE_E_FAILSTOP);
	rig_down(&rig);

	/* Data goes first; then zeroes, which need a slot of the log only. */
	rig_zero(&rig);
	rig.o.full_error = true;
	rig_up(&rig);
	mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 1, EIO, MEM_BACKING_FOREVER);
	for (uint64_t i = 0; !rc; i++)
		rc = pcache_write(rig.cache, block, i * 512 % rig.o.backing_bytes, sizeof(block), 0);
	assert_int_equal(rc, PCACHE_E_FULL);
	do
		rc = pcache_write_zeroes(rig.cache, 0, 512, 0);
	while (!rc);
	assert_int_equal(rc, PCACHE_E_FULL);
	assert_all_writes(rig.cache, PCACHE_E_FULL);
	rig_down(&rig);
}

/* Large requests need memory, small ones when the index grows. */
static void no_memory(void **state)
{
	struct rig rig;
	uint64_t len;
	int rc = 0;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	for (len = 512; !rc && len <= pcache_atomic_write_max(rig.cache) && len <= rig.o.backing_bytes; len *= 2) {
		struct iovec iov = { .iov_base = rig.scratch, .iov_len = len };

		fault_alloc_arm(1);
		rc = pcache_writev(rig.cache, &iov, 1, 0, 0);
		(void)fault_alloc_disarm();
	}
	assert_int_equal(rc, -ENOMEM);
	fault_alloc_arm(1);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_LATENCY, 1), -ENOMEM);
	(void)fault_alloc_disarm();
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_LATENCY, 1), 0);
	rig_down(&rig);
}

/* A queue; and the array of a call that has to wait: then the submission fails, and its slot is free again. */
static void no_memory_for_asynchronous_calls(void **state)
{
	struct rig rig;
	struct pcache_queue *queue;
	struct pcache_range range;
	struct iovec iov;

	(void)state;
	rig_zero(&rig);
	rig.o.granularity = PC_GRAN_PAGE; /* writes have to wait, too */
	rig.o.commit = PCACHE_COMMIT_WRITE;
	rig.o.sim_flags = PC_SIM_THREADED;
	rig_up(&rig);
	fault_alloc_arm(1);
	assert_int_equal(pcache_queue_new(rig.cache, 1, &queue), -ENOMEM);
	(void)fault_alloc_disarm();
	assert_int_equal(pcache_queue_new(rig.cache, 1, &queue), 0);
	iov = (struct iovec){ .iov_base = rig.scratch, .iov_len = 512 };
	range = (struct pcache_range){ .buf = rig.scratch, .len = 512 };
	fault_alloc_arm(1);
	assert_int_equal(pcache_aio_readv(queue, &iov, 1, 0, NULL, NULL), -ENOMEM);
	fault_alloc_arm(1);
	assert_int_equal(pcache_aio_writev(queue, &iov, 1, 0, NULL, NULL), -ENOMEM);
	fault_alloc_arm(1);
	assert_int_equal(pcache_aio_write_batch(queue, &range, 1, NULL, NULL), -ENOMEM);
	(void)fault_alloc_disarm();
	assert_int_equal(pcache_aio_write(queue, rig.model, 0, 512, NULL, NULL), 0);
	assert_int_equal(pcache_queue_free(queue), 0);
	rig_down(&rig);
}

static int calls_in_child(struct pcache *cache)
{
	uint8_t block[512];
	struct iovec iov = { .iov_base = block, .iov_len = sizeof(block) };
	struct pcache_latency latency = { .struct_bytes = sizeof(latency) };
	uint64_t value;

	if (pcache_readv(cache, &iov, 1, 0, 0) != PCACHE_E_FORKED ||
	    pcache_writev(cache, &iov, 1, 0, 0) != PCACHE_E_FORKED)
		return 1;
	if (pcache_option_get(cache, PCACHE_OPT_ORDERING, &value) != PCACHE_E_FORKED)
		return 2;
	if (pcache_latency_get(cache, PCACHE_LATENCY_READ, &latency) != PCACHE_E_FORKED)
		return 3;
	return pcache_option_set(cache, PCACHE_OPT_READ_CACHE, 0) != PCACHE_E_FORKED ? 4 : 0;
}

static void in_a_child(void **state)
{
	struct rig rig;
	int status = 0;
	pid_t child;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(calls_in_child(rig.cache));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_open_meets),
		cmocka_unit_test(every_write_is_refused),
		cmocka_unit_test(no_memory),
		cmocka_unit_test(no_memory_for_asynchronous_calls),
		cmocka_unit_test(in_a_child),
	};

	return cmocka_run_group_tests_name("fault_codes", tests, NULL, NULL);
}
