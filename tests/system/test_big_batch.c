/* SPDX-License-Identifier: BSD-3-Clause */
/* A cache of 512 MiB takes 64 MiB in one batch, and has it after its process is gone. Skipped where memory is short: it wants 700 MiB. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "pcache/pcache.h"

#define MIB (UINT64_C(1) << 20)
#define CACHE_BYTES (512 * MIB)
#define BATCH_BYTES (64 * MIB)
#define BACKING_BYTES (256 * MIB)
#define RANGE_NR 4096u
#define RANGE_BYTES (BATCH_BYTES / RANGE_NR)

static char cache_path[] = "/dev/shm/pcache-batch-XXXXXX", backing_path[] = "/dev/shm/pcache-batch-backing-XXXXXX";

static struct pcache *open_cache(void)
{
	struct pcache_backing *backing;
	struct pcache *cache;

	assert_int_equal(pcache_backing_file_new(backing_path, PCACHE_BACKING_FILE_BUFFERED, &backing), 0);
	assert_int_equal(pcache_open(cache_path, NULL, backing, &cache), 0);
	return cache;
}

/* Range i lies at every fourth place, backwards. */
static uint64_t off_of(uint32_t i)
{
	return (uint64_t)(RANGE_NR - 1 - i) * RANGE_BYTES * 4;
}

static uint64_t word_of(uint32_t i, uint64_t at)
{
	return ((uint64_t)i << 32 | at) * UINT64_C(0x9e3779b97f4a7c15);
}

/* In a process of its own, which ends without a close. */
static int write_batch(void)
{
	struct pcache_range *ranges = calloc(RANGE_NR, sizeof(*ranges));
	uint64_t *words = malloc(BATCH_BYTES);
	struct pcache *cache = open_cache();
	int rc;

	if (!ranges || !words || pcache_atomic_write_max(cache) != BATCH_BYTES)
		return 1;
	for (uint32_t i = 0; i < RANGE_NR; i++) {
		uint64_t *to = words + i * (RANGE_BYTES / 8);

		for (uint64_t at = 0; at < RANGE_BYTES / 8; at++)
			to[at] = word_of(i, at);
		ranges[i] = (struct pcache_range){ .buf = to, .off = off_of(i), .len = RANGE_BYTES };
	}
	ranges[0].len += 4096;
	rc = pcache_write_batch(cache, ranges, RANGE_NR, PCACHE_DURABLE);
	ranges[0].len -= 4096;
	if (rc != PCACHE_E_TOO_BIG)
		return 2;
	return pcache_write_batch(cache, ranges, RANGE_NR, PCACHE_DURABLE) ? 3 : 0;
}

static void all_in_one(void **state)
{
	uint64_t *words = malloc(RANGE_BYTES);
	struct pcache_backing *backing;
	struct pcache_config *config;
	struct pcache *cache;
	int status = 0;
	pid_t child;

	(void)state;
	assert_non_null(words);
	assert_int_equal(pcache_config_new(&config), 0);
	assert_int_equal(pcache_config_parse(config, "cache_bytes=512M,block_bytes=4096", NULL), 0);
	assert_int_equal(pcache_backing_file_new(backing_path, PCACHE_BACKING_FILE_BUFFERED, &backing), 0);
	assert_int_equal(unlink(cache_path), 0);
	assert_int_equal(pcache_format(cache_path, config, backing), 0);
	pcache_backing_free(backing);
	pcache_config_free(config);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(write_batch());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	cache = open_cache();
	for (uint32_t i = 0; i < RANGE_NR; i++) {
		assert_int_equal(pcache_read(cache, words, off_of(i), RANGE_BYTES, 0), 0);
		for (uint64_t at = 0; at < RANGE_BYTES / 8; at++)
			assert_int_equal(words[at], word_of(i, at));
	}
	assert_int_equal(pcache_close(cache), 0);
	free(words);
}

static int make_files(void **state)
{
	int cache_fd = mkstemp(cache_path), backing_fd = mkstemp(backing_path);

	(void)state;
	if (cache_fd < 0 || backing_fd < 0 || close(cache_fd) || ftruncate(backing_fd, (off_t)BACKING_BYTES) ||
	    close(backing_fd))
		return -1;
	return setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 1);
}

static int remove_files(void **state)
{
	(void)state;
	(void)unlink(cache_path);
	(void)unlink(backing_path);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(all_in_one, make_files, remove_files) };
	struct statvfs fs;

	if (statvfs("/dev/shm", &fs) || (uint64_t)fs.f_bavail * fs.f_bsize < CACHE_BYTES + 4 * BATCH_BYTES) {
		(void)fprintf(stderr, "skipped: /dev/shm has too little room\n");
		return 77;
	}
	return cmocka_run_group_tests_name("system_big_batch", tests, NULL, NULL);
}
