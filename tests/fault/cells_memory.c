/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory runs out (G20): each allocation of each call fails once, in turn, and all of them at once. A call fails with -ENOMEM, or works without that memory; if it
 * failed, nothing has changed; the next one works. What must make progress without memory (flush, write-back, eviction, log cleaning, drain, close, hits) does so with every
 * allocation of every thread refused, and asks for none.
 *
 * Leaks are found by the builds with AddressSanitizer, lost references by pc_cache_check.
 */
#include "fault/cells_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fault/scene.h"
#include "pcache/errors.h"

static const char *const rows[ME_ROW_NR] = {
	[ME_EACH] = "each allocation fails once, in turn",
	[ME_ALL] = "all allocations fail",
};

static const char *const cols[ME_COL_NR] = {
	[ME_CONFIG] = "config",
	[ME_BACKING] = "backing",
	[ME_FORMAT] = "format",
	[ME_OPEN] = "open, closed before",
	[ME_REPLAY] = "open with replay",
	[ME_WORKERS] = "open with workers",
	[ME_WRITE] = "write",
	[ME_BATCH] = "batch",
	[ME_LARGE] = "write above the atomic maximum",
	[ME_HIT] = "read hit",
	[ME_MISS] = "read miss and fill",
	[ME_FLUSH] = "flush",
	[ME_DISCARD] = "discard",
	[ME_ZEROES] = "write-zeroes",
	[ME_WRITEBACK] = "write-back",
	[ME_LOST] = "write-back of damaged data",
	[ME_EVICT] = "eviction",
	[ME_CLEAN] = "log cleaning",
	[ME_DRAIN] = "drain",
	[ME_INFO] = "information",
	[ME_CLOSE] = "close",
	[ME_FILE_FORMAT] = "format of a file",
	[ME_FILE_OPEN] = "open of a file, statistics page",
	[ME_PROBE] = "probe of a file",
};

void memory_arm(uint64_t nth)
{
	if (nth)
		fault_alloc_arm(nth);
	else
		fault_alloc_arm_all();
}

/* ---- the simulated media's own memory does not count ---------------------------------------------------------------- */

static const struct pc_media_ops *real_ops;
static struct pc_media_ops paused_ops;

static void paused_copy(struct pc_media *media, uint64_t media_off, const void *src, size_t len)
{
	fault_alloc_pause();
	real_ops->copy(media, media_off, src, len);
	fault_alloc_resume();
}

static void pause_media(struct rig *rig)
{
	struct pc_media *media = pc_sim_media(rig->sim);

	if (media->ops == &paused_ops)
		return;
	real_ops = media->ops;
	paused_ops = *real_ops;
	paused_ops.copy = paused_copy;
	media->ops = &paused_ops;
}

/* ---- calls ------------------------------------------------------------------------------------------------------------ */

static uint8_t bytes[128u << 10];

/* Keeps the array in step: what failed has changed nothing. Returns the first error. */
static int note(struct rig *rig, int rc, uint64_t off, uint64_t len, const void *new_bytes, int before)
{
	if (rc == 0 && new_bytes)
		memcpy(rig->model + off, new_bytes, len);
	else if (rc == 0)
		memset(rig->model + off, 0, len);
	return before ? before : rc;
}

static int do_writes(struct rig *rig)
{
	int rc = 0;

	for (uint32_t i = 0; i < 48; i++) {
		uint64_t off = i * 5120 % (128u << 10), len = 512 * (1 + i % 3);

		rig_pattern(rig, bytes, len);
		rc = note(rig, pcache_write(rig->cache, bytes, off, len, 0), off, len, bytes, rc);
	}
	return rc;
}

static int do_batches(struct rig *rig)
{
	struct pcache_range ranges[12];
	int rc = 0, one;

	for (uint32_t i = 0; i < 8; i++) {
		rig_pattern(rig, bytes, 12 * 512);
		for (uint32_t j = 0; j < 12; j++)
			ranges[j] = (struct pcache_range){ .buf = bytes + j * 512,
							   .off = (i * 12 + j) * 1536 % (160u << 10),
							   .len = 512 };
		one = pcache_write_batch(rig->cache, ranges, 12, 0);
		for (uint32_t j = 0; j < 12; j++)
			rc = note(rig, one, ranges[j].off, 512, ranges[j].buf, rc);
	}
	return rc;
}

/* Pieces that came before the failed one are written; each block is old or new. */
static int do_large_write(struct rig *rig)
{
	uint64_t len = 3 * pcache_atomic_write_max(rig->cache);
	int rc;

	assert_true(len <= sizeof(bytes));
	rig_pattern(rig, bytes, len);
	rc = pcache_write(rig->cache, bytes, 0, len, 0);
	for (uint64_t off = 0; off < len; off += 512) {
		uint8_t got[512];

		assert_int_equal(pcache_read(rig->cache, got, off, 512, PCACHE_NOCACHE), 0);
		if (rc == 0 || memcmp(got, rig->model + off, 512) != 0)
			assert_memory_equal(got, bytes + off, 512);
		memcpy(rig->model + off, got, 512);
	}
	return rc;
}

static int do_zeroes(struct rig *rig, bool discard)
{
	int rc = 0;

	for (uint32_t i = 0; i < 32; i++) {
		uint64_t off = i * 7168 % (192u << 10), len = 512 * (1 + i * 5 % 60);
		int one = discard ? pcache_discard(rig->cache, off, len, 0)
				  : pcache_write_zeroes(rig->cache, off, len, 0);

		rc = note(rig, one, off, len, NULL, rc);
	}
	return rc;
}

/* Misses are served without memory, too. */
static int do_reads(struct rig *rig, uint64_t from, uint64_t to)
{
	int rc = 0, one;

	for (uint64_t off = from; off < to; off += 4096) {
		one = pcache_read(rig->cache, bytes, off, 4096, 0);
		if (one == 0 && memcmp(bytes, rig->model + off, 4096) != 0)
			one = -EBADMSG;
		rc = rc ? rc : one;
	}
	return rc;
}

static int do_steps(struct rig *rig, enum pc_step step)
{
	int rc, done = 0;

	while ((rc = pc_cache_step(rig->cache, step, true)) > 0 && done < 40)
		done++;
	return rc < 0 ? rc : done ? 0 : -ENODATA;
}

static int do_info(struct rig *rig)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };

	(void)pcache_size(rig->cache);
	(void)pcache_atomic_write_max(rig->cache);
	(void)pcache_strerror(-ENOMEM);
	return pcache_info_get(rig->cache, &info);
}

static int do_close(struct rig *rig)
{
	int rc = pcache_close(rig->cache);

	rig->cache = NULL;
	return rc;
}

static int call(struct rig *rig, uint32_t col)
{
	switch (col) {
	case ME_WRITE:
		return do_writes(rig);
	case ME_BATCH:
		return do_batches(rig);
	case ME_LARGE:
		return do_large_write(rig);
	case ME_HIT:
		return do_reads(rig, 0, 8192);
	case ME_MISS:
		return do_reads(rig, SCENE_MISS_OFF, 2 * SCENE_MISS_OFF);
	case ME_FLUSH:
		return pcache_flush(rig->cache);
	case ME_DISCARD:
	case ME_ZEROES:
		return do_zeroes(rig, col == ME_DISCARD);
	case ME_WRITEBACK:
	case ME_LOST:
		return do_steps(rig, PC_STEP_WRITEBACK);
	case ME_EVICT:
		return do_steps(rig, PC_STEP_EVICT);
	case ME_CLEAN:
		return do_steps(rig, PC_STEP_CLEAN);
	case ME_DRAIN:
		return pcache_drain(rig->cache, NULL, NULL);
	case ME_INFO:
		return do_info(rig);
	default:
		return do_close(rig);
	}
}

static bool needs_none(uint32_t col)
{
	return col == ME_HIT || col == ME_FLUSH || col == ME_WRITEBACK || col == ME_LOST || col == ME_EVICT ||
	       col == ME_CLEAN || col == ME_DRAIN || col == ME_INFO || col == ME_CLOSE;
}

/* ---- calls on an open cache ---------------------------------------------------------------------------------------- */

#define LOST_OFF (200u << 10)
#define LOST_NR 6u

static void prepare(struct rig *rig, uint32_t col)
{
	if (col == ME_CLEAN || col == ME_EVICT) {
		for (uint32_t i = 0; i < 200; i++)
			rig_write(rig, SCENE_MISS_OFF + i % 40 * 1024, 512, 0);
		rig_drain(rig);
	}
	if (col == ME_LOST) {
		/* Each version is cut into fragments, one write of a block at a time: the index has little in reserve. */
		for (uint32_t i = 0; i < LOST_NR; i++) {
			rig_write(rig, LOST_OFF + i * 8192, 4096, 0);
			for (uint32_t blk = 0; blk < 8; blk += 2)
				rig_write(rig, LOST_OFF + i * 8192 + blk * 512, 512, 0);
		}
		for (uint32_t i = 0; i < 300; i++)
			rig_zeroes(rig, i * 7 % 384 * 512, 512, false);
		rig_flush(rig);
		for (uint32_t i = 0; i < LOST_NR; i++)
			rig_flip(rig, rig_find(rig, LOST_OFF + i * 8192 + 1536) + 9);
	}
}

/* The damaged fragments read as poisoned, the blocks that were written later do not, and an overwrite cures. */
static void cure(struct rig *rig)
{
	for (uint32_t i = 0; i < LOST_NR; i++) {
		for (uint64_t blk = 0; blk < 8; blk++) {
			uint64_t off = LOST_OFF + i * 8192 + blk * 512;

			int rc = pcache_read(rig->cache, rig->scratch, off, 512, 0);

			/* Of the others, those that the end of a segment parted from the damage are whole. */
			assert_true(rc == PCACHE_E_POISONED ? blk % 2 != 0 : rc == 0 && blk != 3);
			if (rc == 0)
				assert_memory_equal(rig->scratch, rig->model + off, 512);
		}
		rig_write(rig, LOST_OFF + i * 8192, 4096, 0);
	}
}

static void check_after(struct scene *scene, uint32_t col)
{
	struct rig *rig = &scene->rig;

	if (!rig->cache)
		rig_open(rig);
	if (col == ME_LOST)
		cure(rig);
	rig_check_all(rig);
	assert_int_equal(
		call(rig, col == ME_CLOSE || col == ME_LOST || col == ME_WRITEBACK || col == ME_EVICT || col == ME_CLEAN
				  ? ME_WRITE
				  : col),
		0);
	rig_check_all(rig);
	rig_drain(rig);
	rig_reopen(rig);
	rig_check_all(rig);
}

/* How many allocations were refused; nth 0: all. */
static uint64_t try_call(uint32_t col, uint64_t nth)
{
	struct fault_alloc_result result;
	struct scene scene;
	int rc;

	scene_zero(&scene);
	if (col == ME_LOST)
		rig_up(&scene.rig);
	else
		scene_up(&scene, SCENE_WRITES | SCENE_ZEROES);
	prepare(&scene.rig, col);
	pause_media(&scene.rig);
	memory_arm(nth);
	rc = call(&scene.rig, col);
	result = fault_alloc_disarm();
	if (needs_none(col) || col == ME_MISS || result.failed_nr == 0)
		assert_int_equal(rc, 0);
	else
		assert_true(rc == 0 || rc == -ENOMEM);
	if (needs_none(col))
		assert_int_equal(result.asked_nr, 0);
	check_after(&scene, col);
	scene_down(&scene);
	/* Without anything to refuse, what was done without memory is what counts. */
	return needs_none(col) ? 1 : result.failed_nr;
}

/* ---- format and open ------------------------------------------------------------------------------------------------ */

/* A log that needs all of replay and mending: two epochs, zeroes, a rejected write in the middle, and one after it. */
static void leave_unclean(struct rig *rig)
{
	uint8_t old[1024];

	memcpy(old, rig->model + SCENE_DURING_OFF, sizeof(old));
	rig_write(rig, SCENE_DURING_OFF, 1024, 0);
	rig_write(rig, SCENE_DURING_OFF + 4096, 1024, 0);
	rig_flip(rig, rig_find(rig, SCENE_DURING_OFF) + 5);
	memcpy(rig->model + SCENE_DURING_OFF, old, sizeof(old));
	rig_kill(rig);
}

static int open_armed(struct rig *rig, uint64_t nth, struct fault_alloc_result *out_result)
{
	struct pcache_config *config = rig_config(rig);
	struct pcache_backing *backing = mem_backing_attach(rig->mb);
	struct pc_tweaks tweaks = { .shard_nr = 4, .stripe_bytes = 8192, .data_head_nr = 1 };
	int rc;

	assert_non_null(backing);
	pc_sim_reopen(rig->sim);
	memory_arm(nth);
	rc = pc_cache_open_media(pc_sim_media(rig->sim), config, &tweaks, backing, &rig->cache);
	*out_result = fault_alloc_disarm();
	if (rc) {
		pcache_backing_free(backing);
		rig->cache = NULL;
	}
	pcache_config_free(config);
	return rc;
}

static uint64_t try_open(uint32_t col, uint64_t nth)
{
	struct fault_alloc_result result;
	struct scene scene;
	int rc;

	scene_zero(&scene);
	scene.rig.o.sim_flags = PC_SIM_THREADED;
	scene_up(&scene, SCENE_WRITES | SCENE_ZEROES);
	pause_media(&scene.rig);
	if (col == ME_REPLAY)
		leave_unclean(&scene.rig);
	else
		rig_close(&scene.rig);
	scene.rig.o.threads = col == ME_WORKERS;
	rc = open_armed(&scene.rig, nth, &result);
	if (result.failed_nr == 0)
		assert_int_equal(rc, 0);
	else
		assert_true(rc == 0 || rc == -ENOMEM || (col == ME_WORKERS && rc == -EAGAIN));
	if (rc == 0)
		rig_kill(&scene.rig);
	scene.rig.o.threads = false;
	rig_open(&scene.rig);
	rig_check_all(&scene.rig);
	scene_recovers(&scene);
	scene_down(&scene);
	return result.failed_nr;
}

static uint64_t try_format(uint64_t nth)
{
	struct fault_alloc_result result;
	struct pcache_config *config;
	struct pcache_backing *backing;
	struct scene scene;
	int rc;

	scene_zero(&scene);
	scene_up(&scene, SCENE_WRITES);
	rig_close(&scene.rig);
	pc_sim_reopen(scene.rig.sim);
	pause_media(&scene.rig);
	config = rig_config(&scene.rig);
	backing = mem_backing_attach(scene.rig.mb);
	memory_arm(nth);
	rc = pc_cache_format_media(pc_sim_media(scene.rig.sim), config, NULL, backing);
	result = fault_alloc_disarm();
	assert_int_equal(rc, result.failed_nr ? -ENOMEM : 0);
	pcache_backing_free(backing);
	pcache_config_free(config);
	/* A format that failed has not begun; one that did not has made an empty cache. */
	if (rc == 0)
		memcpy(scene.rig.model, mem_backing_live(scene.rig.mb), scene.rig.o.backing_bytes);
	rig_open(&scene.rig);
	rig_check_all(&scene.rig);
	scene_recovers(&scene);
	scene_down(&scene);
	return result.failed_nr;
}

/* ---- the table --------------------------------------------------------------------------------------------------------- */

static uint64_t try_cell(uint32_t col, uint64_t nth)
{
	switch (col) {
	case ME_CONFIG:
		return memory_try_config(nth);
	case ME_BACKING:
		return memory_try_backing(nth);
	case ME_FORMAT:
		return try_format(nth);
	case ME_OPEN:
	case ME_REPLAY:
	case ME_WORKERS:
		return try_open(col, nth);
	case ME_FILE_FORMAT:
	case ME_FILE_OPEN:
	case ME_PROBE:
		return memory_try_file(col, nth);
	default:
		return try_call(col, nth);
	}
}

static const char *why_not(const struct fault_table *table, uint32_t row, uint32_t col)
{
	(void)table;
	return row == ME_EACH && needs_none(col) ? "n/a: it allocates nothing" : NULL;
}

static uint64_t run(const struct fault_table *table, uint32_t row, uint32_t col)
{
	uint64_t nr = 0, failed_nr = 1;

	(void)table;
	if (row == ME_ALL)
		return try_cell(col, 0);
	for (uint64_t nth = 1; failed_nr; nth++) {
		failed_nr = try_cell(col, nth);
		nr += failed_nr;
	}
	return nr;
}

const struct fault_table fault_memory = {
	.group = "memory",
	.name = "memory",
	.title = "Memory runs out",
	.rows = rows,
	.cols = cols,
	.row_nr = ME_ROW_NR,
	.col_nr = ME_COL_NR,
	.why_not = why_not,
	.run = run,
};
