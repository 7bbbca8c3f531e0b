/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SIGBUS that is real (G12): the cache file is cut short under a live cache. Without the guard a hit ends the process, and when the file has its length again the next open finds what was
 * acknowledged and not cut away. With the guard the process lives and gets errors. What ends a process is tried in a child. And: who does not ask for the guard gets no handler.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "pcache/pcache.h"

#define BLOCK 4096u
#define BLOCKS 512u /* 2 MiB in a cache of some 10 MiB */
#define BACKING_BYTES (16u << 20)

struct place {
	char cache_path[64];
	char backing_path[64];
	struct pcache_config *config;
	struct pcache *cache;
	off_t cache_bytes;
};

static void up(struct place *place, bool crc)
{
	struct pcache_backing *backing;
	struct stat st;
	int fd;

	memset(place, 0, sizeof(*place));
	(void)snprintf(place->cache_path, sizeof(place->cache_path), "/tmp/pcache-sigbus-XXXXXX");
	(void)snprintf(place->backing_path, sizeof(place->backing_path), "/tmp/pcache-sigbus-b-XXXXXX");
	fd = mkstemp(place->cache_path);
	assert_true(fd >= 0 && close(fd) == 0);
	fd = mkstemp(place->backing_path);
	assert_true(fd >= 0 && ftruncate(fd, BACKING_BYTES) == 0 && close(fd) == 0);
	assert_int_equal(pcache_config_new(&place->config), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CACHE_BYTES, 10u << 20), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_BLOCK_BYTES, BLOCK), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_DATA_CRC, crc), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_FORCE, 1), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_READ_CACHE, 0), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_MAINTENANCE, PCACHE_MAINTENANCE_CALLER), 0);
	assert_int_equal(pcache_backing_file_new(place->backing_path, 0, &backing), 0);
	assert_int_equal(pcache_format(place->cache_path, place->config, backing), 0);
	pcache_backing_free(backing);
	assert_int_equal(stat(place->cache_path, &st), 0);
	place->cache_bytes = st.st_size;
}

static int try_open(struct place *place, bool guard)
{
	struct pcache_backing *backing;
	int rc;

	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_MEDIA_GUARD, guard), 0);
	assert_int_equal(pcache_backing_file_new(place->backing_path, 0, &backing), 0);
	rc = pcache_open(place->cache_path, place->config, backing, &place->cache);
	if (rc)
		pcache_backing_free(backing);
	return rc;
}

static void down(struct place *place)
{
	pcache_config_free(place->config);
	assert_int_equal(unlink(place->cache_path), 0);
	assert_int_equal(unlink(place->backing_path), 0);
}

static uint8_t byte_of(uint32_t block, uint32_t version)
{
	return (uint8_t)(block * 3 + version * 101 + 1);
}

static void write_blocks(struct place *place, uint32_t first, uint32_t nr, uint32_t version)
{
	uint8_t buf[BLOCK];

	for (uint32_t block = first; block < first + nr; block++) {
		memset(buf, byte_of(block, version), BLOCK);
		assert_int_equal(pcache_write(place->cache, buf, (uint64_t)block * BLOCK, BLOCK, 0), 0);
	}
}

/* The result of the read; bytes that are not of this version fail the test. */
static int read_block(struct place *place, uint32_t block, uint32_t version)
{
	uint8_t buf[BLOCK];
	int rc = pcache_read(place->cache, buf, (uint64_t)block * BLOCK, BLOCK, 0);

	for (uint32_t i = 0; rc == 0 && i < BLOCK; i++)
		assert_int_equal(buf[i], byte_of(block, version));
	return rc;
}

/* Half of the file goes, and with it some of the data: the blocks that were written last lie behind the first ones. */
static void cut(const struct place *place)
{
	assert_int_equal(truncate(place->cache_path, 1u << 20), 0);
}

/* The length comes back, what was cut away does not: it reads as zeroes. A file may have no holes. */
static void restore_length(const struct place *place)
{
	int fd = open(place->cache_path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(posix_fallocate(fd, 0, place->cache_bytes), 0);
	assert_int_equal(close(fd), 0);
}

/* The whole file as it was before the cut: the part that went is put back. */
static uint8_t *save(const struct place *place)
{
	uint8_t *bytes = malloc((size_t)place->cache_bytes);
	int fd = open(place->cache_path, O_RDONLY | O_CLOEXEC);

	assert_true(bytes != NULL && fd >= 0);
	assert_int_equal(pread(fd, bytes, (size_t)place->cache_bytes, 0), place->cache_bytes);
	assert_int_equal(close(fd), 0);
	return bytes;
}

static void put_back(const struct place *place, uint8_t *bytes)
{
	int fd = open(place->cache_path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, (size_t)place->cache_bytes, 0), place->cache_bytes);
	assert_int_equal(close(fd), 0);
	free(bytes);
}

/* Runs in a child: opens, reads what is there, cuts the file, reads all of it again. Exit status 0: it lived. */
static void read_over_a_cut(struct place *place, bool guard)
{
	const struct rlimit no_core = { 0, 0 };
	struct sigaction by_default = { .sa_handler = SIG_DFL };
	uint32_t lost = 0;

	(void)setrlimit(RLIMIT_CORE, &no_core);
	(void)sigaction(SIGBUS, &by_default, NULL);
	if (try_open(place, guard))
		_exit(2);
	if (read_block(place, 0, 2) || read_block(place, BLOCKS - 1, 2))
		_exit(3);
	cut(place);
	for (uint32_t block = 0; block < BLOCKS; block++) {
		int rc = read_block(place, block, 2);

		if (rc && rc != PCACHE_E_POISONED)
			_exit(4);
		lost += rc != 0;
	}
	if (lost < BLOCKS / 4)
		_exit(5);
	if (read_block(place, 0, 2)) /* it lies before the cut */
		_exit(6);
	_exit(0);
}

static int fate(struct place *place, bool guard)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		read_over_a_cut(place, guard);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void without_the_guard_a_hit_is_the_end(void **state)
{
	struct place place;
	uint8_t *bytes;

	(void)state;
	for (uint32_t crc = 0; crc < 2; crc++) {
		up(&place, crc != 0);
		assert_int_equal(try_open(&place, false), 0);
		write_blocks(&place, 0, BLOCKS, 2);
		assert_int_equal(pcache_close(place.cache), 0);
		bytes = save(&place);
		assert_int_equal(fate(&place, false), -SIGBUS);
		/* Short: refused, and nothing is stored. */
		assert_int_equal(try_open(&place, false), PCACHE_E_TRUNCATED);
		put_back(&place, bytes);
		assert_int_equal(try_open(&place, false), 0);
		for (uint32_t block = 0; block < BLOCKS; block++)
			assert_int_equal(read_block(&place, block, 2), 0);
		assert_int_equal(pcache_close(place.cache), 0);
		down(&place);
	}
}

static void with_the_guard_it_lives(void **state)
{
	struct place place;

	(void)state;
	for (uint32_t crc = 0; crc < 2; crc++) {
		up(&place, crc != 0);
		assert_int_equal(try_open(&place, false), 0);
		write_blocks(&place, 0, BLOCKS, 2);
		assert_int_equal(pcache_close(place.cache), 0);
		assert_int_equal(fate(&place, true), 0);
		assert_int_equal(try_open(&place, true), PCACHE_E_TRUNCATED);
		down(&place);
	}
}

/* Clean data comes from the backing, all of it; and what is dirty and lost stays so when the file has its length again but not its bytes. */
static void clean_data_and_zeroes_where_data_was(void **state)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	struct place place;
	uint32_t lost = 0;

	(void)state;
	up(&place, true);
	assert_int_equal(try_open(&place, true), 0);
	write_blocks(&place, 0, BLOCKS, 1);
	assert_int_equal(pcache_drain(place.cache, NULL, NULL), 0);
	cut(&place);
	for (uint32_t block = 0; block < BLOCKS; block++)
		assert_int_equal(read_block(&place, block, 1), 0);
	assert_int_equal(pcache_info_get(place.cache, &info), 0);
	assert_true(info.media_errors >= 1 && info.segments_quarantined >= 1);
	restore_length(&place);
	assert_int_equal(pcache_close(place.cache), 0);

	/* The second copies of all records are zeroes now: one copy is enough. */
	assert_int_equal(try_open(&place, true), 0);
	write_blocks(&place, 0, BLOCKS, 2);
	assert_int_equal(pcache_flush(place.cache), 0);
	cut(&place);
	restore_length(&place);
	for (uint32_t block = 0; block < BLOCKS; block++) {
		int rc = read_block(&place, block, 2);

		lost += rc == PCACHE_E_POISONED;
		assert_true(rc == 0 || rc == PCACHE_E_POISONED);
	}
	assert_in_range(lost, BLOCKS / 4, BLOCKS - 1);
	assert_int_equal(pcache_drain(place.cache, NULL, NULL), PCACHE_E_POISONED);
	write_blocks(&place, 0, BLOCKS, 3);
	for (uint32_t block = 0; block < BLOCKS; block++)
		assert_int_equal(read_block(&place, block, 3), 0);
	assert_int_equal(pcache_drain(place.cache, NULL, NULL), 0);
	assert_int_equal(pcache_close(place.cache), 0);
	down(&place);
}

static bool same_action(const struct sigaction *a, const struct sigaction *b)
{
	return a->sa_handler == b->sa_handler && a->sa_flags == b->sa_flags;
}

static struct sigaction now_installed(void)
{
	struct sigaction now;

	assert_int_equal(sigaction(SIGBUS, NULL, &now), 0);
	return now;
}

/* Also a cache whose workers run, one that is read-only, and one that cannot be opened. */
static void a_handler_only_if_asked_for(void **state)
{
	struct sigaction before = now_installed(), now;
	struct place plain, guarded;

	(void)state;
	up(&plain, true);
	up(&guarded, true);
	assert_int_equal(pcache_config_set(plain.config, PCACHE_OPT_MAINTENANCE, PCACHE_MAINTENANCE_THREAD), 0);
	assert_int_equal(try_open(&plain, false), 0);
	now = now_installed();
	assert_true(same_action(&now, &before));
	assert_int_equal(pcache_close(plain.cache), 0);
	assert_int_equal(try_open(&guarded, true), 0);
	now = now_installed();
	assert_false(same_action(&now, &before));
	assert_int_equal(try_open(&guarded, true), -EBUSY);
	now = now_installed();
	assert_false(same_action(&now, &before));
	assert_int_equal(pcache_config_set(plain.config, PCACHE_OPT_READ_ONLY, 1), 0);
	assert_int_equal(try_open(&plain, true), 0);
	assert_int_equal(pcache_close(guarded.cache), 0);
	now = now_installed();
	assert_false(same_action(&now, &before));
	assert_int_equal(pcache_close(plain.cache), 0);
	now = now_installed();
	assert_true(same_action(&now, &before));
	cut(&guarded);
	assert_int_equal(try_open(&guarded, true), PCACHE_E_TRUNCATED);
	now = now_installed();
	assert_true(same_action(&now, &before));
	down(&plain);
	down(&guarded);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_the_guard_a_hit_is_the_end),
		cmocka_unit_test(with_the_guard_it_lives),
		cmocka_unit_test(clean_data_and_zeroes_where_data_was),
		cmocka_unit_test(a_handler_only_if_asked_for),
	};

	return cmocka_run_group_tests_name("system_sigbus", tests, NULL, NULL);
}
