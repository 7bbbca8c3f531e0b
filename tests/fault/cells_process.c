/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Faults of processes, on real files: fork (G19), a second open (G18), a file that was cut short, and clocks that jump (G22). SIGKILL of a process under threads is
 * the work of tests/system/test_kill_threads.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/clock_faults.h"
#include "fault/matrix.h"
#include "fault/place.h"
#include "fault/scene.h"
#include "pcache/errors.h"

/* ---- fork ---------------------------------------------------------------------------------------------------------------- */

enum fork_row { FK_CALLER, FK_WORKERS, FK_ROW_NR };
enum fork_col {
	FK_READ,
	FK_WRITE,
	FK_BATCH,
	FK_FLUSH,
	FK_DISCARD,
	FK_ZEROES,
	FK_DRAIN,
	FK_MAINTAIN,
	FK_INFO,
	FK_CLOSE,
	FK_EXIT,
	FK_COL_NR
};

static const char *const fork_rows[FK_ROW_NR] = {
	[FK_CALLER] = "called in a child, maintenance by the caller",
	[FK_WORKERS] = "called in a child, workers in the parent",
};

static const char *const fork_cols[FK_COL_NR] = {
	[FK_READ] = "read",   [FK_WRITE] = "write",           [FK_BATCH] = "batch",
	[FK_FLUSH] = "flush", [FK_DISCARD] = "discard",       [FK_ZEROES] = "write-zeroes",
	[FK_DRAIN] = "drain", [FK_MAINTAIN] = "maintain",     [FK_INFO] = "information",
	[FK_CLOSE] = "close", [FK_EXIT] = "end of the child",
};

static int call_in_child(struct place *place, struct pcache *cache, uint32_t col)
{
	struct pcache_range range = { .buf = place->bytes, .off = 0, .len = 512 };
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	uint8_t got[512];

	switch (col) {
	case FK_READ:
		return pcache_read(cache, got, PLACE_OFF, sizeof(got), 0);
	case FK_WRITE:
		return pcache_write(cache, place->bytes, 0, 512, 0);
	case FK_BATCH:
		return pcache_write_batch(cache, &range, 1, 0);
	case FK_FLUSH:
		return pcache_flush(cache);
	case FK_DISCARD:
		return pcache_discard(cache, PLACE_OFF, 512, 0);
	case FK_ZEROES:
		return pcache_write_zeroes(cache, PLACE_OFF, 512, 0);
	case FK_DRAIN:
		return pcache_drain(cache, NULL, NULL);
	case FK_MAINTAIN:
		return pcache_maintain(cache, 0);
	case FK_INFO:
		return pcache_info_get(cache, &info);
	case FK_CLOSE:
		return pcache_close(cache);
	default:
		return PCACHE_E_FORKED; /* the end of the child is all there is to it */
	}
}

static void child_calls(struct place *place, struct pcache *cache, uint32_t col)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(call_in_child(place, cache, col) == PCACHE_E_FORKED ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static uint64_t backing_calls(struct place *place)
{
	struct mem_backing_counters counters;
	uint64_t nr = 0;

	mem_backing_get_counters(place->mb, &counters);
	for (uint32_t op = 0; op < MEM_BACKING_OP_NR; op++)
		nr += counters.calls[op];
	return nr + counters.frees;
}

static uint64_t run_fork(const struct fault_table *table, uint32_t row, uint32_t col)
{
	struct place place;
	struct pcache *cache;
	uint64_t hash = 0, calls = 0;

	(void)table;
	place_up(&place);
	if (row == FK_WORKERS)
		assert_int_equal(pcache_config_set(place.config, PCACHE_OPT_MAINTENANCE, PCACHE_MAINTENANCE_THREAD), 0);
	place_format(&place);
	cache = place_open(&place);
	place_write(&place, cache);
	if (row == FK_CALLER) {
		hash = place_hash(&place);
		calls = backing_calls(&place);
	}
	child_calls(&place, cache, col);
	if (row == FK_CALLER) {
		assert_int_equal(place_hash(&place), hash);
		assert_int_equal(backing_calls(&place), calls);
	}
	/* The parent does not notice: neither its data nor its lock. */
	place_check(&place, cache);
	place.backing = mem_backing_attach(place.mb);
	assert_int_equal(pcache_format(place.path, place.config, place.backing), -EBUSY);
	pcache_backing_free(place.backing);
	place.backing = NULL;
	place_write(&place, cache);
	assert_int_equal(pcache_drain(cache, NULL, NULL), 0);
	place_close(&place, cache);
	cache = place_open(&place);
	place_check(&place, cache);
	place_close(&place, cache);
	place_down(&place);
	return 1;
}

/* ---- double open --------------------------------------------------------------------------------------------------------- */

enum twice_row { TW_OPEN, TW_READ_ONLY, TW_FORMAT, TW_PROBE, TW_ROW_NR };
enum twice_col { TW_SAME, TW_OTHER, TW_ORPHAN, TW_COL_NR };

static const char *const twice_rows[TW_ROW_NR] = {
	[TW_OPEN] = "second open",
	[TW_READ_ONLY] = "second open, read-only",
	[TW_FORMAT] = "format with force",
	[TW_PROBE] = "probe",
};

static const char *const twice_cols[TW_COL_NR] = {
	[TW_SAME] = "open in the same process",
	[TW_OTHER] = "open in another process",
	[TW_ORPHAN] = "held by a child that outlives its parent",
};

static int try_second(struct place *place, uint32_t row)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	struct pcache *cache = NULL;
	int rc;

	if (!place->backing)
		place->backing = mem_backing_attach(place->mb);
	if (row == TW_PROBE)
		return pcache_probe(place->path, &info);
	if (row == TW_FORMAT) {
		assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_FORCE, 1), 0);
		rc = pcache_format(place->path, place->config, place->backing);
		assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_FORCE, 0), 0);
		return rc;
	}
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_READ_ONLY, row == TW_READ_ONLY), 0);
	rc = place_try_open(place, &cache);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_READ_ONLY, 0), 0);
	if (rc == 0)
		place_close(place, cache);
	return rc;
}

/*
 * A process that opens and writes; with a child of its own it dies at once and leaves the handle to the child, which waits until the pipe is closed.
 */
static void hold(struct place *place, uint32_t col, const int *ready, const int *end)
{
	struct pcache *cache = NULL;
	char byte = 0;

	(void)close(end[1]);
	if (place_try_open(place, &cache) ||
	    pcache_write(cache, place->bytes, PLACE_OFF, sizeof(place->bytes), PCACHE_DURABLE))
		_exit(1);
	if (col == TW_ORPHAN && fork() != 0)
		_exit(0);
	if (write(ready[1], &byte, 1) != 1)
		_exit(1);
	(void)!read(end[0], &byte, 1);
	_exit(0);
}

static uint64_t second_while_held(struct place *place, uint32_t row, uint32_t col)
{
	int ready[2], end[2];
	char byte;
	pid_t pid;
	int rc;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(end), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		hold(place, col, ready, end);
	assert_int_equal(close(end[0]), 0);
	assert_int_equal(close(ready[1]), 0);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	if (col == TW_ORPHAN)
		assert_int_equal(waitpid(pid, NULL, 0), pid);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(try_second(place, row), -EBUSY);
	assert_int_equal(close(ready[0]), 0);
	assert_int_equal(close(end[1]), 0); /* the holder ends */
	if (col != TW_ORPHAN)
		assert_int_equal(waitpid(pid, NULL, 0), pid);
	for (uint32_t tries = 0; (rc = try_second(place, TW_OPEN)) == -EBUSY; tries++) {
		assert_true(tries < 6000);
		(void)usleep(10000);
	}
	assert_int_equal(rc, 0);
	return 3;
}

static uint64_t run_twice(const struct fault_table *table, uint32_t row, uint32_t col)
{
	struct pcache *cache;
	struct place place;
	uint64_t nr = 3, hash;

	(void)table;
	place_up(&place);
	place_format(&place);
	if (col == TW_SAME) {
		cache = place_open(&place);
		place_write(&place, cache);
		hash = place_hash(&place);
		for (uint32_t i = 0; i < nr; i++)
			assert_int_equal(try_second(&place, row), -EBUSY);
		assert_int_equal(place_hash(&place), hash);
		place_check(&place, cache);
		pcache_backing_free(place.backing);
		place.backing = NULL;
		place_close(&place, cache);
	} else {
		nr = second_while_held(&place, row, col);
	}
	cache = place_open(&place);
	place_check(&place, cache);
	place_close(&place, cache);
	place_down(&place);
	return nr;
}

/* ---- a file that is cut short ---------------------------------------------------------------------------------------- */

enum cut_row { CT_PAGE, CT_HALF, CT_ZONE, CT_SUPER, CT_EMPTY, CT_ROW_NR };
enum cut_col { CT_OPEN, CT_READ_ONLY, CT_PROBE, CT_FORMAT, CT_LIVE, CT_COL_NR };

static const char *const cut_rows[CT_ROW_NR] = {
	[CT_PAGE] = "its last page is gone", [CT_HALF] = "half of it is gone",
	[CT_ZONE] = "two pages are left",    [CT_SUPER] = "100 bytes of the superblock are left",
	[CT_EMPTY] = "nothing is left",
};

static const char *const cut_cols[CT_COL_NR] = {
	[CT_OPEN] = "before open",   [CT_READ_ONLY] = "before open, read-only",
	[CT_PROBE] = "before probe", [CT_FORMAT] = "before format without force",
	[CT_LIVE] = "while open",
};

static uint64_t left_bytes(uint32_t row)
{
	static const uint64_t left[CT_ROW_NR] = { [CT_PAGE] = PLACE_CACHE_BYTES - 4096,
						  [CT_HALF] = PLACE_CACHE_BYTES / 2,
						  [CT_ZONE] = 8192,
						  [CT_SUPER] = 100,
						  [CT_EMPTY] = 0 };

	return left[row];
}

static int refusal(uint32_t row)
{
	return row == CT_SUPER || row == CT_EMPTY ? PCACHE_E_NOT_A_CACHE : PCACHE_E_TRUNCATED;
}

/* Stores to the cache file are calls, which can fail, and not a signal. */
static bool stores_are_calls(const struct place *place)
{
	struct statfs fs;

	assert_int_equal(statfs(place->path, &fs), 0);
	return fs.f_type != TMPFS_MAGIC;
}

/*
 * A live cache loses the end of its file. Whoever does not touch that goes on. A store to it is the end of the process (SIGBUS) where stores go through the mapping, else of the
 * cache: fail-stop, and the file stays as short as it is.
 */
static void use_live(struct place *place, uint32_t row)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	struct pcache *cache = NULL;
	uint8_t got[4096];
	int rc;

	if (place_try_open(place, &cache) ||
	    pcache_write(cache, place->bytes, PLACE_OFF, sizeof(place->bytes), PCACHE_DURABLE))
		_exit(1);
	if (truncate(place->path, (off_t)left_bytes(row)))
		_exit(1);
	if (pcache_info_get(cache, &info) || pcache_probe(place->path, &info) != -EBUSY)
		_exit(2);
	if (pcache_read(cache, got, PLACE_OFF + 65536, sizeof(got), PCACHE_NOCACHE))
		_exit(3); /* a miss touches nothing */
	if (row == CT_PAGE) {
		/* Nothing of the engine's is in the last page but the second superblock. */
		if (pcache_read(cache, got, PLACE_OFF, sizeof(got), 0) || memcmp(got, place->bytes, sizeof(got)) != 0)
			_exit(4);
		if (pcache_write(cache, got, 0, sizeof(got), 0) || pcache_flush(cache) || pcache_close(cache))
			_exit(5);
		_exit(0);
	}
	rc = pcache_flush(cache);
	if (rc)
		_exit(rc == PCACHE_E_TRUNCATED ? 7 : 6);
	/* Stores into the zone that is gone. */
	_exit(pcache_close(cache) == PCACHE_E_TRUNCATED ? 7 : 8);
}

static void cut_live(struct place *place, uint32_t row)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)signal(SIGBUS, SIG_DFL);
		(void)close(STDERR_FILENO); /* a sanitizer would tell about the signal that is wanted */
		use_live(place, row);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (row == CT_PAGE) {
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	} else if (stores_are_calls(place)) {
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 7);
	} else {
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGBUS);
	}
}

static int meet_short_file(struct place *place, uint32_t col)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	struct pcache *cache = NULL;
	int rc;

	if (col == CT_PROBE)
		return pcache_probe(place->path, &info);
	if (col == CT_FORMAT) {
		rc = pcache_format(place->path, place->config, place->backing);
		return rc;
	}
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_READ_ONLY, col == CT_READ_ONLY), 0);
	rc = place_try_open(place, &cache);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_READ_ONLY, 0), 0);
	assert_null(cache);
	return rc;
}

/* The length alone leaves a hole; with a block behind every byte the cache is whole again, but for what must be repaired. */
static void mend_length(struct place *place)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	struct pcache *cache;
	int fd;

	assert_int_equal(truncate(place->path, PLACE_CACHE_BYTES), 0);
	assert_int_equal(meet_short_file(place, CT_OPEN), PCACHE_E_HOLES);
	fd = open(place->path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(posix_fallocate(fd, 0, PLACE_CACHE_BYTES), 0);
	assert_int_equal(close(fd), 0);
	cache = place_open(place);
	place_check(place, cache);
	assert_int_equal(pcache_info_get(cache, &info), 0);
	assert_int_equal(info.replica_repairs, 1);
	place_close(place, cache);
}

static uint64_t run_cut(const struct fault_table *table, uint32_t row, uint32_t col)
{
	struct pcache *cache;
	struct place place;
	uint64_t hash, nr = 1;
	struct stat st;

	(void)table;
	place_up(&place);
	place_format(&place);
	cache = place_open(&place);
	place_write(&place, cache);
	place_close(&place, cache);
	if (col == CT_LIVE)
		cut_live(&place, row);
	else
		assert_int_equal(truncate(place.path, (off_t)left_bytes(row)), 0);
	hash = place_hash(&place);
	if (col == CT_FORMAT && refusal(row) == PCACHE_E_NOT_A_CACHE) {
		/* There is no cache to protect any more. */
		place_format(&place);
		place_close(&place, place_open(&place));
		place_down(&place);
		return nr;
	}
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(meet_short_file(&place, col == CT_LIVE ? CT_OPEN : col), refusal(row));
	assert_int_equal(place_hash(&place), hash);
	assert_int_equal(stat(place.path, &st), 0);
	assert_int_equal(st.st_size, (off_t)left_bytes(row));
	if (row == CT_PAGE) {
		/* As the text of the error says: the missing part comes back, here as zeroes, so that one superblock of two is bad. */
		mend_length(&place);
		nr++;
	}
	place_down(&place);
	return nr;
}

/* ---- clocks and kills ---------------------------------------------------------------------------------------------------- */

enum end_row { EN_CLOCK, EN_KILL, EN_ROW_NR };
enum end_col { EN_WRITE, EN_READ, EN_FLUSH, EN_WRITEBACK, EN_SPACE, EN_DRAIN, EN_OPEN, EN_CLOSE, EN_COL_NR };

static const char *const end_rows[EN_ROW_NR] = {
	[EN_CLOCK] = "the wall clock jumps by hours at each look",
	[EN_KILL] = "SIGKILL under threads",
};

static const char *const end_cols[EN_COL_NR] = {
	[EN_WRITE] = "write",
	[EN_READ] = "read",
	[EN_FLUSH] = "flush",
	[EN_WRITEBACK] = "write-back",
	[EN_SPACE] = "waiting for space",
	[EN_DRAIN] = "drain",
	[EN_OPEN] = "open",
	[EN_CLOSE] = "close",
};

static bool is_clean(struct scene *scene)
{
	return rig_info(&scene->rig).dirty_bytes == 0;
}

/* The operation, with workers, so that all that sleeps and paces is there. */
static void jump_during(struct scene *scene, uint32_t col)
{
	struct rig *rig = &scene->rig;

	switch (col) {
	case EN_WRITE:
		rig_write(rig, 0, 8192, 0);
		break;
	case EN_READ:
		rig_check_range(rig, 0, 32768);
		break;
	case EN_FLUSH:
		rig_flush(rig);
		break;
	case EN_WRITEBACK:
		scene_await(is_clean, scene);
		break;
	case EN_SPACE:
		for (uint32_t i = 0; i < 300; i++)
			rig_write(rig, i * 1024 % (192u << 10), 1024, 0);
		break;
	case EN_DRAIN:
		rig_drain(rig);
		break;
	case EN_OPEN:
		rig_reopen(rig);
		break;
	default:
		rig_close(rig);
		rig_open(rig);
	}
}

static uint64_t run_end(const struct fault_table *table, uint32_t row, uint32_t col)
{
	struct scene scene;

	(void)table, (void)row;
	scene_zero(&scene);
	scene.rig.o.threads = true;
	scene.rig.o.sim_flags = PC_SIM_THREADED;
	scene.rig.o.segment_nr = col == EN_SPACE ? 32 : 64;
	rig_up(&scene.rig);
	rig_write(&scene.rig, 0, 16384, 0);
	rig_flush(&scene.rig);
	fault_clock_jump(true);
	assert_true(fault_clock_jumps());
	jump_during(&scene, col);
	scene_check_all(&scene);
	rig_drain(&scene.rig);
	/* Nothing of the library asked what time it is: there is nothing that could go wrong. */
	assert_int_equal(fault_clock_jump(false), 0);
	rig_close(&scene.rig);
	scene_down(&scene);
	return 1;
}

static const char *why_not_end(const struct fault_table *table, uint32_t row, uint32_t col)
{
	(void)table, (void)col;
	return row == EN_KILL ? "see system_kill_threads" : NULL;
}

const struct fault_table fault_process[4] = {
	{ .group = "process",
	  .name = "fork",
	  .title = "A process forks",
	  .rows = fork_rows,
	  .cols = fork_cols,
	  .row_nr = FK_ROW_NR,
	  .col_nr = FK_COL_NR,
	  .run = run_fork },
	{ .group = "process",
	  .name = "twice",
	  .title = "A cache is used twice",
	  .rows = twice_rows,
	  .cols = twice_cols,
	  .row_nr = TW_ROW_NR,
	  .col_nr = TW_COL_NR,
	  .run = run_twice },
	{ .group = "process",
	  .name = "truncated",
	  .title = "The cache file is cut short",
	  .rows = cut_rows,
	  .cols = cut_cols,
	  .row_nr = CT_ROW_NR,
	  .col_nr = CT_COL_NR,
	  .run = run_cut },
	{ .group = "process",
	  .name = "end",
	  .title = "Clocks jump, processes are killed",
	  .rows = end_rows,
	  .cols = end_cols,
	  .row_nr = EN_ROW_NR,
	  .col_nr = EN_COL_NR,
	  .why_not = why_not_end,
	  .run = run_end },
};
