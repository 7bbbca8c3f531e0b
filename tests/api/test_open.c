/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Format, open, probe and close on real files: every way to be refused, with its code, and what is left behind then. The requests are in test_io.c.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "backing/mem_backing.h"
#include "format/format.h"
#include "pcache/pcache.h"

#define BACKING_BYTES (1u << 20)
#define CACHE_BYTES (512u << 10)

struct place {
	char dir[64];
	char path[128];
	struct mem_backing *mb;
	struct pcache_backing *backing; /* NULL while a cache owns it */
	struct pcache_config *config;
};

static int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	const char *tmp = getenv("PCACHE_MEDIA_DIR");
	struct mem_backing_options options = { .size_bytes = BACKING_BYTES, .uuid = { 1, 2, 3 } };

	assert_non_null(place);
	(void)snprintf(place->dir, sizeof(place->dir), "%s/pcache-open.XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(place->dir));
	(void)snprintf(place->path, sizeof(place->path), "%s/cache", place->dir);
	place->mb = mem_backing_create(&options);
	assert_non_null(place->mb);
	place->backing = mem_backing_attach(place->mb);
	assert_non_null(place->backing);
	assert_int_equal(pcache_config_new(&place->config), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CACHE_BYTES, CACHE_BYTES), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_SEGMENT_BYTES, 8192), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_WRITEBACK_DELAY_MS, 3600000), 0);
	*state = place;
	return 0;
}

static int tear_down(void **state)
{
	struct place *place = *state;
	char command[160];

	pcache_config_free(place->config);
	pcache_backing_free(place->backing);
	mem_backing_destroy(place->mb);
	(void)snprintf(command, sizeof(command), "rm -rf %s", place->dir);
	assert_int_equal(system(command), 0);
	free(place);
	return 0;
}

static void format(struct place *place)
{
	assert_int_equal(pcache_format(place->path, place->config, place->backing), 0);
}

static int try_open(struct place *place, struct pcache **out_cache)
{
	int rc;

	if (!place->backing)
		place->backing = mem_backing_attach(place->mb);
	rc = pcache_open(place->path, place->config, place->backing, out_cache);
	if (rc == 0)
		place->backing = NULL;
	return rc;
}

static struct pcache *open_it(struct place *place)
{
	struct pcache *cache = NULL;

	assert_int_equal(try_open(place, &cache), 0);
	return cache;
}

/* An open that fails leaves the output and the backing alone. */
static void refused(struct place *place, int code)
{
	struct pcache *const untouched = (struct pcache *)(void *)place;
	struct pcache *cache = untouched;
	struct mem_backing_counters before, after;

	mem_backing_get_counters(place->mb, &before);
	assert_int_equal(try_open(place, &cache), code);
	assert_ptr_equal(cache, untouched);
	mem_backing_get_counters(place->mb, &after);
	assert_int_equal(after.frees, before.frees);
	assert_int_equal(after.calls[MEM_BACKING_WRITE], before.calls[MEM_BACKING_WRITE]);
}

static void write_some(struct pcache *cache)
{
	uint8_t bytes[4096];

	memset(bytes, 0x5a, sizeof(bytes));
	assert_int_equal(pcache_write(cache, bytes, 8192, sizeof(bytes), 0), 0);
}

static void patch(struct place *place, int64_t off, const void *bytes, size_t len)
{
	int fd = open(place->path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, off < 0 ? lseek(fd, 0, SEEK_END) + off : off), (ssize_t)len);
	assert_int_equal(close(fd), 0);
}

static void read_super(struct place *place, struct pc_super *out_super)
{
	struct pcm_super bytes;
	int fd = open(place->path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &bytes, sizeof(bytes), 0), (ssize_t)sizeof(bytes));
	assert_int_equal(close(fd), 0);
	assert_int_equal(pc_super_decode(&bytes, out_super), PC_VALID);
}

static void write_supers(struct place *place, const struct pc_super *super)
{
	struct pcm_super bytes;

	pc_super_encode(super, &bytes);
	for (unsigned int i = 0; i < 2; i++)
		patch(place, (int64_t)pc_geo_super_off(super, i), &bytes, sizeof(bytes));
}

static uint64_t file_hash(struct place *place)
{
	uint64_t hash = 0;
	uint8_t *bytes = malloc(CACHE_BYTES);
	int fd = open(place->path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	assert_non_null(bytes);
	assert_true(fd >= 0);
	len = read(fd, bytes, CACHE_BYTES);
	for (ssize_t i = 0; i < len; i++)
		hash = hash * UINT64_C(1099511628211) + bytes[i];
	free(bytes);
	assert_int_equal(close(fd), 0);
	return hash;
}

static void bad_arguments(void **state)
{
	struct place *place = *state;
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	struct pcache *cache = NULL;

	assert_int_equal(pcache_format(NULL, place->config, place->backing), -EINVAL);
	assert_int_equal(pcache_format(place->path, place->config, NULL), -EINVAL);
	assert_int_equal(pcache_open(NULL, place->config, place->backing, &cache), -EINVAL);
	assert_int_equal(pcache_open(place->path, place->config, NULL, &cache), -EINVAL);
	assert_int_equal(pcache_open(place->path, place->config, place->backing, NULL), -EINVAL);
	assert_int_equal(pcache_probe(NULL, &info), -EINVAL);
	assert_int_equal(pcache_probe(place->path, NULL), -EINVAL);
	info.struct_bytes = 7;
	assert_int_equal(pcache_probe(place->path, &info), -EINVAL);
	assert_int_equal(pcache_close(NULL), 0);
}

static void format_refuses(void **state)
{
	struct place *place = *state;
	struct mem_backing_options odd = { .size_bytes = BACKING_BYTES + 512 };
	struct mem_backing *mb = mem_backing_create(&odd);
	struct pcache_backing *backing = mem_backing_attach(mb);
	char fifo[160];

	assert_int_equal(pcache_format(place->dir, place->config, place->backing), -EISDIR);
	(void)snprintf(fifo, sizeof(fifo), "%s/fifo", place->dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(pcache_format(fifo, place->config, place->backing), -ENOTSUP);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CACHE_BYTES, 65536), 0);
	assert_int_equal(pcache_format(place->path, place->config, place->backing), PCACHE_E_TOO_SMALL);
	assert_int_equal(access(place->path, F_OK), -1); /* nothing is left behind */
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CACHE_BYTES, 0), 0);
	assert_int_equal(pcache_format(place->path, place->config, place->backing), -ENOENT);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CACHE_BYTES, CACHE_BYTES), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_BLOCK_BYTES, 4096), 0);
	assert_int_equal(pcache_format(place->path, place->config, backing), -EINVAL);
	assert_int_equal(access(place->path, F_OK), -1);
	pcache_backing_free(backing);
	mem_backing_destroy(mb);
}

static void format_min_bytes_is_enough(void **state)
{
	struct place *place = *state;

	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_SEGMENT_BYTES, 0), 0);
	for (uint32_t block = 512; block <= 4096; block *= 8) {
		uint64_t min = pcache_format_min_bytes(block);
		struct pcache *cache;

		assert_true(min > 0 && min < (9u << 20));
		assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_BLOCK_BYTES, block), 0);
		assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CACHE_BYTES, min - 4096), 0);
		assert_int_equal(pcache_format(place->path, place->config, place->backing), PCACHE_E_TOO_SMALL);
		assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CACHE_BYTES, min), 0);
		format(place);
		cache = open_it(place);
		assert_int_equal(pcache_block_bytes(cache), block);
		assert_true(pcache_atomic_write_max(cache) >= 1u << 20);
		write_some(cache);
		assert_int_equal(pcache_drain(cache, NULL, NULL), 0);
		assert_int_equal(pcache_close(cache), 0);
		place->backing = mem_backing_attach(place->mb);
		assert_int_equal(unlink(place->path), 0);
	}
	assert_int_equal(pcache_format_min_bytes(1000), UINT64_MAX);
}

static void format_never_destroys_unasked(void **state)
{
	struct place *place = *state;
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	struct pcache *cache;
	struct stat st;
	uint8_t uuid[16], byte = 0xff;
	uint64_t hash;

	format(place);
	assert_int_equal(stat(place->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_true(st.st_size >= CACHE_BYTES);
	assert_true((uint64_t)st.st_blocks * 512 >= CACHE_BYTES);
	hash = file_hash(place);
	assert_int_equal(pcache_format(place->path, place->config, place->backing), PCACHE_E_HAS_CACHE);
	cache = open_it(place);
	place->backing = mem_backing_attach(place->mb);
	assert_int_equal(pcache_format(place->path, place->config, place->backing), -EBUSY);
	write_some(cache);
	assert_int_equal(pcache_close(cache), 0);
	hash = file_hash(place);
	assert_int_equal(pcache_format(place->path, place->config, place->backing), PCACHE_E_DIRTY);
	assert_int_equal(file_hash(place), hash);
	cache = open_it(place);
	assert_int_equal(pcache_drain(cache, NULL, NULL), 0);
	assert_int_equal(pcache_close(cache), 0);
	place->backing = mem_backing_attach(place->mb);
	assert_int_equal(pcache_format(place->path, place->config, place->backing), PCACHE_E_HAS_CACHE);
	/* Nor a damaged one. */
	patch(place, 100, &byte, 1);
	patch(place, -4096 + 100, &byte, 1);
	assert_int_equal(pcache_format(place->path, place->config, place->backing), PCACHE_E_CORRUPT);
	refused(place, PCACHE_E_CORRUPT);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_FORCE, 1), 0);
	format(place);
	assert_int_equal(pcache_probe(place->path, &info), 0);
	assert_int_equal(info.dirty_bytes, 0);
	memcpy(uuid, info.cache_uuid, 16);
	format(place);
	assert_int_equal(pcache_probe(place->path, &info), 0);
	assert_memory_not_equal(uuid, info.cache_uuid, 16);
}

static void not_a_cache(void **state)
{
	struct place *place = *state;
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	uint8_t noise[16384];
	int fd;

	refused(place, -ENOENT);
	assert_int_equal(pcache_probe(place->path, &info), -ENOENT);
	assert_int_equal(pcache_probe(place->dir, &info), -EISDIR);
	fd = open(place->path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	refused(place, PCACHE_E_NOT_A_CACHE); /* empty */
	assert_int_equal(pcache_probe(place->path, &info), PCACHE_E_NOT_A_CACHE);
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)(i * 7);
	assert_int_equal(write(fd, noise, sizeof(noise)), (ssize_t)sizeof(noise));
	refused(place, PCACHE_E_NOT_A_CACHE);
	assert_int_equal(pcache_probe(place->path, &info), PCACHE_E_NOT_A_CACHE);
	assert_int_equal(close(fd), 0);
	/* But it may become one. */
	format(place);
	assert_int_equal(pcache_close(open_it(place)), 0);
}

static void other_versions(void **state)
{
	struct place *place = *state;
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	struct pc_super super, other;
	struct pcache *cache;
	uint64_t hash;

	format(place);
	read_super(place, &super);
	other = super;
	other.version = 2;
	write_supers(place, &other);
	hash = file_hash(place);
	refused(place, PCACHE_E_VERSION);
	assert_int_equal(pcache_probe(place->path, &info), PCACHE_E_VERSION);
	assert_int_equal(pcache_format(place->path, place->config, place->backing), PCACHE_E_VERSION);
	assert_int_equal(file_hash(place), hash);
	other = super;
	other.incompat = UINT64_C(1) << 40;
	write_supers(place, &other);
	hash = file_hash(place);
	refused(place, PCACHE_E_VERSION);
	assert_int_equal(file_hash(place), hash);
	other = super;
	other.ro_compat = 1;
	write_supers(place, &other);
	hash = file_hash(place);
	refused(place, PCACHE_E_READ_ONLY);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_READ_ONLY, 1), 0);
	cache = open_it(place);
	assert_int_equal(pcache_close(cache), 0);
	assert_int_equal(file_hash(place), hash);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_READ_ONLY, 0), 0);
	other = super;
	other.compat = 1; /* not our business */
	write_supers(place, &other);
	assert_int_equal(pcache_close(open_it(place)), 0);
}

static void truncated(void **state)
{
	struct place *place = *state;
	struct pcache_info info = { .struct_bytes = sizeof(info) };

	format(place);
	assert_int_equal(truncate(place->path, CACHE_BYTES - 4096), 0);
	refused(place, PCACHE_E_TRUNCATED);
	assert_int_equal(pcache_probe(place->path, &info), PCACHE_E_TRUNCATED);
	assert_int_equal(truncate(place->path, 8192), 0);
	refused(place, PCACHE_E_TRUNCATED);
	assert_int_equal(truncate(place->path, 100), 0);
	refused(place, PCACHE_E_NOT_A_CACHE);
}

static void holes(void **state)
{
	struct place *place = *state;
	uint64_t hash;
	int fd;

	format(place);
	fd = open(place->path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, CACHE_BYTES / 2, 65536) != 0) {
		(void)close(fd);
		skip();
	}
	hash = file_hash(place);
	refused(place, PCACHE_E_HOLES);
	assert_int_equal(file_hash(place), hash);
	assert_int_equal(fallocate(fd, 0, 0, CACHE_BYTES), 0); /* as the text of the error says */
	assert_int_equal(close(fd), 0);
	assert_int_equal(pcache_close(open_it(place)), 0);
}

static int open_with(struct place *place, const struct mem_backing_options *options, const uint8_t *uuid)
{
	struct mem_backing *mb = mem_backing_create(options);
	struct pcache_backing *backing = mem_backing_attach(mb);
	struct pcache_config *config;
	struct pcache *cache = NULL;
	int rc;

	assert_int_equal(pcache_config_new(&config), 0);
	if (uuid)
		assert_int_equal(pcache_config_set_backing_uuid(config, uuid), 0);
	rc = pcache_open(place->path, config, backing, &cache);
	pcache_config_free(config);
	if (rc)
		pcache_backing_free(backing);
	else
		assert_int_equal(pcache_close(cache), 0);
	mem_backing_destroy(mb);
	return rc;
}

static void identity_of_the_backing(void **state)
{
	struct place *place = *state;
	struct mem_backing_options options = { .size_bytes = BACKING_BYTES, .uuid = { 1, 2, 3 } };
	uint8_t mine[16] = { 9, 9 }, zero[16] = { 0 };

	format(place);
	assert_int_equal(open_with(place, &options, NULL), 0);
	options.uuid[15] = 1;
	assert_int_equal(open_with(place, &options, NULL), PCACHE_E_WRONG_BACKING);
	memset(options.uuid, 0, 16); /* not known: not compared */
	assert_int_equal(open_with(place, &options, NULL), 0);
	assert_int_equal(open_with(place, &options, mine), PCACHE_E_WRONG_BACKING);
	assert_int_equal(open_with(place, &options, zero), 0);
	options.size_bytes = BACKING_BYTES + 512;
	assert_int_equal(open_with(place, &options, NULL), PCACHE_E_BACKING_SIZE);
	options.size_bytes = BACKING_BYTES - 4096;
	assert_int_equal(open_with(place, &options, NULL), PCACHE_E_BACKING_SIZE);
	options.size_bytes = BACKING_BYTES;
	options.block_bytes = 4096; /* coarser than the cache block */
	assert_int_equal(open_with(place, &options, NULL), -EINVAL);
	/* The uuid of the config is the one that format records. */
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_FORCE, 1), 0);
	assert_int_equal(pcache_config_set_backing_uuid(place->config, mine), 0);
	format(place);
	options.block_bytes = 0;
	options.uuid[0] = 7;
	assert_int_equal(open_with(place, &options, NULL), PCACHE_E_WRONG_BACKING);
	assert_int_equal(open_with(place, &options, mine), 0);
}

static int in_child(int (*fn)(struct place *place, struct pcache *cache), struct place *place, struct pcache *cache)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fn(place, cache));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int open_in_child(struct place *place, struct pcache *cache)
{
	struct pcache *other = NULL;

	(void)cache;
	return pcache_open(place->path, place->config, mem_backing_attach(place->mb), &other) == -EBUSY ? 0 : 1;
}

static void double_open(void **state)
{
	struct place *place = *state;
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	struct pcache *cache;

	format(place);
	cache = open_it(place);
	refused(place, -EBUSY);
	assert_int_equal(in_child(open_in_child, place, NULL), 0);
	assert_int_equal(pcache_probe(place->path, &info), -EBUSY);
	write_some(cache);
	assert_int_equal(pcache_close(cache), 0);
	assert_int_equal(pcache_close(open_it(place)), 0);
}

static int use_in_child(struct place *place, struct pcache *cache)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	uint8_t bytes[512] = { 0 };
	struct pcache_range range = { .buf = bytes, .off = 0, .len = 512 };

	(void)place;
	if (pcache_read(cache, bytes, 0, 512, 0) != PCACHE_E_FORKED)
		return 1;
	if (pcache_write(cache, bytes, 0, 512, 0) != PCACHE_E_FORKED)
		return 2;
	if (pcache_write_batch(cache, &range, 1, 0) != PCACHE_E_FORKED)
		return 3;
	if (pcache_flush(cache) != PCACHE_E_FORKED || pcache_drain(cache, NULL, NULL) != PCACHE_E_FORKED)
		return 4;
	if (pcache_discard(cache, 0, 512, 0) != PCACHE_E_FORKED ||
	    pcache_write_zeroes(cache, 0, 512, 0) != PCACHE_E_FORKED)
		return 5;
	if (pcache_maintain(cache, 0) != PCACHE_E_FORKED || pcache_info_get(cache, &info) != PCACHE_E_FORKED)
		return 6;
	if (pcache_close(cache) != PCACHE_E_FORKED)
		return 7;
	return 0;
}

/* Whether the file is as before when a child has tried all calls on a cache that was at rest. */
static bool child_adds_nothing(struct place *place)
{
	struct pcache *cache = open_it(place);
	uint8_t bytes[512];
	uint64_t hash;
	bool same;

	write_some(cache);
	assert_int_equal(pcache_drain(cache, NULL, NULL), 0);
	/* The workers may still have something to tidy up. */
	for (uint32_t still_nr = 0; still_nr < 20;) {
		uint64_t before = file_hash(place);

		usleep(20000);
		still_nr = file_hash(place) == before ? still_nr + 1 : 0;
	}
	hash = file_hash(place);
	assert_int_equal(in_child(use_in_child, place, cache), 0);
	same = file_hash(place) == hash;
	assert_int_equal(pcache_read(cache, bytes, 8192, 512, 0), 0);
	assert_int_equal(bytes[100], 0x5a);
	write_some(cache);
	assert_int_equal(pcache_close(cache), 0);
	return same;
}

static void forked(void **state)
{
	struct place *place = *state;
	struct pcache *cache;
	uint8_t bytes[512];
	int pipes[2];
	pid_t pid;

	format(place);
	/* A worker that got no processor for that long may tidy up just now; the child would store each time. */
	for (uint32_t tries = 0; !child_adds_nothing(place); tries++)
		assert_true(tries < 8);
	/* A process dies with the cache open, its child lives on: the cache is busy until the child ends. */
	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)open_it(place);
		if (fork() == 0) {
			(void)close(pipes[1]);
			(void)!read(pipes[0], bytes, 1);
		}
		_exit(0);
	}
	assert_int_equal(close(pipes[0]), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	refused(place, -EBUSY);
	assert_int_equal(close(pipes[1]), 0);
	for (int tries = 0; try_open(place, &cache) != 0; tries++) {
		assert_true(tries < 6000);
		(void)usleep(10000);
	}
	assert_int_equal(pcache_read(cache, bytes, 8192, 512, 0), 0);
	assert_int_equal(bytes[100], 0x5a);
	assert_int_equal(pcache_close(cache), 0);
}

static void backing_belongs_to_the_cache(void **state)
{
	struct place *place = *state;
	struct mem_backing_counters counters;

	format(place);
	mem_backing_get_counters(place->mb, &counters);
	assert_int_equal(counters.calls[MEM_BACKING_READ] + counters.calls[MEM_BACKING_WRITE],
			 0); /* format only asks for its size */
	assert_int_equal(counters.frees, 0);
	assert_int_equal(pcache_close(open_it(place)), 0);
	mem_backing_get_counters(place->mb, &counters);
	assert_int_equal(counters.frees, 1);
}

static void probe(void **state)
{
	struct place *place = *state;
	struct pcache_info info = { .struct_bytes = sizeof(info) }, small;
	struct pcache *cache;
	uint64_t hash;

	format(place);
	assert_int_equal(pcache_probe(place->path, &info), 0);
	assert_int_equal(info.state_flags, PCACHE_STATE_CLEAN_CLOSE);
	assert_int_equal(info.backing_bytes, BACKING_BYTES);
	assert_int_equal(info.backing_uuid[1], 2);
	assert_int_equal(info.block_bytes, 512);
	assert_int_equal(info.segment_bytes, 8192);
	assert_int_equal(info.format_version, 1);
	assert_int_equal(info.commit, PCACHE_COMMIT_AUTO);
	assert_int_equal(info.gc_percent, 70);
	assert_int_equal(info.dirty_bytes, 0);
	assert_int_equal(info.segments_free + info.segments_log + info.segments_data, info.segments);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_STATS_PAGE, 1), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_GC_PERCENT, 55), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_ORDERING, PCACHE_ORDERING_BATCH), 0);
	cache = open_it(place);
	assert_int_equal(pcache_probe(place->path, &info), 0);
	assert_true(info.state_flags & PCACHE_STATE_LIVE);
	assert_int_equal(info.ordering, PCACHE_ORDERING_BATCH);
	write_some(cache);
	assert_int_equal(pcache_close(cache), 0);
	hash = file_hash(place);
	assert_int_equal(pcache_probe(place->path, &info), 0);
	assert_int_equal(info.state_flags, PCACHE_STATE_CLEAN_CLOSE);
	assert_int_equal(info.dirty_bytes, 4096);
	assert_int_equal(info.ordering, PCACHE_ORDERING_BATCH);
	assert_int_equal(info.gc_percent, 55); /* recorded by the open */
	assert_int_equal(file_hash(place), hash);
	/* Only as much as the caller's struct holds. */
	memset(&small, 0xee, sizeof(small));
	small.struct_bytes = 24;
	assert_int_equal(pcache_probe(place->path, &small), 0);
	assert_memory_equal(small.cache_uuid, info.cache_uuid, 16);
	assert_int_equal(small.backing_uuid[0], 0xee);
	assert_int_equal(small.struct_bytes, 24);
}

/* A cache of a killed process: the probe says what there is, that it was not closed, and stores nothing. */
static void probe_after_a_kill(void **state)
{
	struct place *place = *state;
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	struct pcache *cache;
	uint64_t hash;
	int status;
	pid_t pid;

	format(place);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		cache = open_it(place);
		write_some(cache);
		_exit(pcache_flush(cache));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	hash = file_hash(place);
	assert_int_equal(pcache_probe(place->path, &info), 0);
	assert_int_equal(info.state_flags, 0);
	assert_int_equal(info.dirty_bytes, 4096);
	assert_int_equal(file_hash(place), hash);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_READ_ONLY, 1), 0);
	refused(place, PCACHE_E_READ_ONLY);
	assert_int_equal(file_hash(place), hash);
	assert_int_equal(pcache_format(place->path, place->config, place->backing), PCACHE_E_DIRTY);
}

static void count_message(void *user, int severity, const char *text)
{
	(void)severity, (void)text;
	__atomic_fetch_add((uint32_t *)user, 1, __ATOMIC_RELAXED);
}

/* Nothing goes to standard output or error, whatever happens; the log callback gets it. */
static void silence(void **state)
{
	struct place *place = *state;
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	struct pcache *cache = NULL;
	uint32_t messages = 0;
	uint8_t byte = 0xff, bytes[4096] = { 0 };
	char path[160];
	struct stat st;
	int fd, out, err, rc[8], n = 0;

	(void)snprintf(path, sizeof(path), "%s/output", place->dir);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)fflush(stdout);
	(void)fflush(stderr);
	out = dup(1);
	err = dup(2);
	assert_true(dup2(fd, 1) >= 0 && dup2(fd, 2) >= 0);
	(void)pcache_config_set_log(place->config, count_message, &messages);
	rc[n++] = pcache_open(place->path, place->config, place->backing, &cache);
	rc[n++] = pcache_format(place->path, place->config, place->backing);
	rc[n++] = pcache_format(place->path, place->config, place->backing);
	patch(place, 4096 + 20, &byte, 1); /* one copy of the tail record */
	rc[n++] = pcache_open(place->path, place->config, place->backing, &cache);
	if (rc[3] == 0) {
		place->backing = NULL;
		mem_backing_fail(place->mb, MEM_BACKING_WRITE, 1, EIO, MEM_BACKING_FOREVER);
		(void)pcache_write(cache, bytes, 0, sizeof(bytes), 0);
		rc[n++] = pcache_drain(cache, NULL, NULL);
		(void)pcache_close(cache);
		patch(place, 4096 + 20, &byte, 1);
		patch(place, -8192 + 20, &byte, 1);
		rc[n++] = pcache_probe(place->path, &info);
	}
	(void)fflush(stdout);
	(void)fflush(stderr);
	assert_true(dup2(out, 1) >= 0 && dup2(err, 2) >= 0);
	(void)close(out);
	(void)close(err);
	assert_int_equal(fstat(fd, &st), 0);
	(void)close(fd);
	assert_int_equal(rc[0], -ENOENT);
	assert_int_equal(rc[1], 0);
	assert_int_equal(rc[2], PCACHE_E_HAS_CACHE);
	assert_int_equal(rc[3], 0);
	assert_int_equal(rc[4], -EIO);
	assert_int_equal(rc[5], PCACHE_E_CORRUPT);
	assert_true(messages > 0);
	assert_int_equal(st.st_size, 0);
}

static bool is_there(struct place *place)
{
	struct stat st;

	return stat(place->path, &st) == 0;
}

static uint32_t names_in(const char *dir)
{
	DIR *folder = opendir(dir);
	uint32_t nr = 0;

	assert_non_null(folder);
	while (readdir(folder) != NULL)
		nr++;
	(void)closedir(folder);
	return nr - 2;
}

static void create_makes_what_is_missing(void **state)
{
	struct place *place = *state;
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	struct pcache *cache;
	struct stat st;

	refused(place, -ENOENT);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CREATE, 1), 0);
	cache = open_it(place);
	assert_int_equal(pcache_info_get(cache, &info), 0);
	assert_int_equal(info.segment_bytes, 8192);
	assert_int_equal(stat(place->path, &st), 0);
	assert_int_equal(st.st_size, CACHE_BYTES);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_nlink, 1);
	write_some(cache);
	assert_int_equal(pcache_close(cache), 0);
	/* And leaves what is there. */
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_FORCE, 1), 0);
	cache = open_it(place);
	assert_int_equal(pcache_info_get(cache, &info), 0);
	assert_int_equal(info.dirty_bytes, 4096);
	refused(place, -EBUSY);
	assert_int_equal(pcache_close(cache), 0);
	assert_int_equal(names_in(place->dir), 1);
}

static void create_refuses(void **state)
{
	struct place *place = *state;
	uint64_t hash;
	int fd;

	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CREATE, 1), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CACHE_BYTES, 0), 0);
	refused(place, -EINVAL);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CACHE_BYTES, 65536), 0);
	refused(place, PCACHE_E_TOO_SMALL);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CACHE_BYTES, UINT64_C(1) << 62), 0);
	assert_true(try_open(place, &(struct pcache *){ NULL }) < 0);
	assert_false(is_there(place));
	assert_int_equal(names_in(place->dir), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CACHE_BYTES, CACHE_BYTES), 0);
	/* An empty file and one with other data are somebody's. */
	for (int64_t bytes = 0; bytes <= CACHE_BYTES; bytes += CACHE_BYTES) {
		fd = open(place->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, bytes), 0);
		if (bytes)
			assert_int_equal(pwrite(fd, "mine", 4, 9000), 4);
		assert_int_equal(close(fd), 0);
		hash = file_hash(place);
		refused(place, PCACHE_E_NOT_A_CACHE);
		assert_true(file_hash(place) == hash);
	}
	(void)snprintf(place->path, sizeof(place->path), "%s/none/cache", place->dir);
	refused(place, -ENOENT);
}

/* Killed at any moment: no file, or one that opens; and nothing else in the folder. */
static void create_killed(void **state)
{
	struct place *place = *state;
	uint32_t there = 0, missing = 0;
	uint64_t pause_ns = 0;

	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CREATE, 1), 0);
	for (uint32_t i = 0; i < 400 && (i < 60 || !there || !missing); i++) {
		struct pcache *cache = NULL;
		int status;
		pid_t child = fork();

		assert_true(child >= 0);
		if (child == 0) {
			(void)try_open(place, &cache);
			for (;;)
				(void)pause();
		}
		nanosleep(&(struct timespec){ .tv_nsec = (long)pause_ns }, NULL);
		assert_int_equal(kill(child, SIGKILL), 0);
		assert_int_equal(waitpid(child, &status, 0), child);
		if (is_there(place)) {
			there++;
			pause_ns = pause_ns * 7 / 8;
			assert_int_equal(names_in(place->dir), 1);
			cache = open_it(place);
			assert_int_equal(pcache_close(cache), 0);
			assert_int_equal(unlink(place->path), 0);
		} else {
			missing++;
			pause_ns = pause_ns * 9 / 8 + 50000;
			assert_int_equal(names_in(place->dir), 0);
		}
	}
	assert_true(there > 0 && missing > 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(bad_arguments),
		TEST(format_refuses),
		TEST(format_min_bytes_is_enough),
		TEST(format_never_destroys_unasked),
		TEST(not_a_cache),
		TEST(other_versions),
		TEST(truncated),
		TEST(holes),
		TEST(identity_of_the_backing),
		TEST(double_open),
		TEST(forked),
		TEST(backing_belongs_to_the_cache),
		TEST(probe),
		TEST(probe_after_a_kill),
		TEST(silence),
		TEST(create_makes_what_is_missing),
		TEST(create_refuses),
		TEST(create_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
