/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A sync of the cache file fails (page granularity, G25): each sync of an operation in turn. The operation fails, nothing is stored or synced any more, reads are served,
 * and however the process or the machine ends, the next open shows a state that the contract allows (G2, G3) and keeps it (G5), although the kernel takes the pages
 * that were not written for clean.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault/matrix.h"
#include "fault/scene.h"
#include "pcache/errors.h"

enum sync_row { SY_CUT, SY_SUBSET, SY_KILL, SY_OPEN_CUT, SY_ROW_NR };
enum sync_col {
	SY_DURABLE,
	SY_FLUSH,
	SY_GROUP,
	SY_WRITEBACK,
	SY_CLEAN,
	SY_RECYCLE,
	SY_OPEN,
	SY_FORMAT,
	SY_CLOSE,
	SY_COL_NR
};

static const char *const rows[SY_ROW_NR] = {
	[SY_CUT] = "EIO at each sync in turn, then a power cut that keeps what was synced",
	[SY_SUBSET] = "EIO at each sync in turn, then a power cut that keeps some of the rest",
	[SY_KILL] = "EIO at each sync in turn, then a new process, then a power cut",
	[SY_OPEN_CUT] = "EIO at each sync in turn, then a new process, and a power cut at each sync of its open",
};

static const char *const cols[SY_COL_NR] = {
	[SY_DURABLE] = "durable write",
	[SY_FLUSH] = "flush",
	[SY_GROUP] = "group sync (commit=write)",
	[SY_WRITEBACK] = "write-back",
	[SY_CLEAN] = "log cleaning",
	[SY_RECYCLE] = "segment taken again",
	[SY_OPEN] = "open",
	[SY_FORMAT] = "format",
	[SY_CLOSE] = "close",
};

#define SUBSETS 6u
#define OPEN_SYNCS 7u /* and a little more than an open has */

/* A rig at page granularity, and what must at least be there after a crash. */
struct synced {
	struct rig rig;
	uint8_t *durable; /* the array at the last sync that counts */
	uint64_t syncs_before;
};

static bool is_threaded(uint32_t col)
{
	return col == SY_GROUP;
}

static void all_durable(struct synced *synced)
{
	memcpy(synced->durable, synced->rig.model, synced->rig.o.backing_bytes);
}

static void synced_up(struct synced *synced, uint32_t col)
{
	struct rig *rig = &synced->rig;

	memset(synced, 0, sizeof(*synced));
	rig_zero(rig);
	rig->seed = 4242;
	rig->o.granularity = PC_GRAN_PAGE;
	rig->o.commit = col == SY_GROUP ? PCACHE_COMMIT_WRITE : PCACHE_COMMIT_FLUSH;
	rig->o.sim_flags = is_threaded(col) ? PC_SIM_THREADED : 0;
	rig->o.segment_bytes = 8192;
	rig->o.segment_nr = 24;
	rig->o.full_error = true;
	rig_up(rig);
	synced->durable = malloc(rig->o.backing_bytes);
	assert_non_null(synced->durable);
	rig_check_range(rig, SCENE_CLEAN_OFF, 8192);
	for (uint32_t i = 0; i < 6; i++)
		rig_write(rig, i * 4096, 2048, 0);
	rig_flush(rig);
	assert_true(pc_cache_step(rig->cache, PC_STEP_WRITEBACK, false) > 0);
	for (uint32_t i = 0; i < 4; i++)
		rig_write(rig, i * 4096 + 1024, 2048, 0);
	rig_zeroes(rig, SCENE_ZEROES_OFF, 4096, false);
	rig_flush(rig);
	all_durable(synced);
	/* Not durable yet. */
	rig_write(rig, 512, 1024, 0);
	rig_write(rig, SCENE_DURING_OFF, 4096, 0);
}

static void synced_down(struct synced *synced)
{
	free(synced->durable);
	rig_down(&synced->rig);
}

/* ---- the operations ------------------------------------------------------------------------------------------------ */

/* A write that counts only if it succeeds. */
static int write_one(struct synced *synced, uint64_t off, uint64_t len, uint32_t flags)
{
	struct rig *rig = &synced->rig;
	int rc;

	rig_pattern(rig, rig->model + off, len);
	rc = pcache_write(rig->cache, rig->model + off, off, len, flags);
	if (rc == 0 && ((flags & PCACHE_DURABLE) || rig->o.commit == PCACHE_COMMIT_WRITE))
		memcpy(synced->durable + off, rig->model + off, len);
	return rc;
}

struct writer {
	struct synced *synced;
	uint64_t off;
	uint32_t done_nr;
	int rc;
};

static void *writer_main(void *arg)
{
	struct writer *writer = arg;

	for (uint32_t i = 0; i < 4 && writer->rc == 0; i++) {
		uint64_t off = writer->off + i * 1024;

		writer->rc = pcache_write(writer->synced->rig.cache, writer->synced->rig.model + off, off, 1024, 0);
		writer->done_nr += writer->rc == 0;
	}
	return NULL;
}

/* A sync takes its time, so that the others have stored theirs meanwhile, and wait for it: one that fails fails theirs, too, whoever is next. */
static const struct pc_media_ops *real_ops;
static struct pc_media_ops slow_ops;

static int slow_sync(struct pc_media *media)
{
	(void)usleep(2000);
	return real_ops->sync(media);
}

static void slow_down(struct rig *rig)
{
	struct pc_media *media = pc_sim_media(rig->sim);

	real_ops = media->ops;
	slow_ops = *real_ops;
	slow_ops.sync = slow_sync;
	media->ops = &slow_ops;
}

/* Writers that share syncs: whose write was acknowledged has it, whoever synced. */
static int write_group(struct synced *synced)
{
	struct writer writers[3];
	pthread_t threads[3];
	int rc = 0;

	slow_down(&synced->rig);
	for (uint32_t i = 0; i < 3; i++) {
		writers[i] = (struct writer){ .synced = synced, .off = SCENE_MISS_OFF + i * 16384 };
		rig_pattern(&synced->rig, synced->rig.model + writers[i].off, 4096);
	}
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, writer_main, &writers[i]), 0);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		memcpy(synced->durable + writers[i].off, synced->rig.model + writers[i].off, writers[i].done_nr * 1024);
		if (writers[i].rc && (!rc || rc == PCACHE_E_FAILSTOP))
			rc = writers[i].rc;
	}
	pc_sim_media(synced->rig.sim)->ops = real_ops;
	return rc;
}

static int clean_log(struct rig *rig)
{
	int rc = 1;

	for (uint32_t i = 0; i < 12 && rc >= 0; i++)
		rc = pc_cache_step(rig->cache, PC_STEP_CLEAN, true);
	return rc < 0 ? rc : 0;
}

/* Overwrites until segments that were used come round again. */
static int recycle(struct synced *synced)
{
	struct rig *rig = &synced->rig;
	int rc = 0;

	for (uint32_t i = 0; i < 24 && rc == 0; i++) {
		/* Each block once, so that it has two versions at most. */
		rc = write_one(synced, SCENE_MISS_OFF + i * 4096, 4096, 0);
		if (rc == 0)
			(void)pc_cache_step(rig->cache, PC_STEP_EVICT, true);
	}
	return rc;
}

static int write_back_all(struct rig *rig)
{
	int rc;

	do
		rc = pc_cache_step(rig->cache, PC_STEP_WRITEBACK, false);
	while (rc > 0);
	return rc;
}

static int operate(struct synced *synced, uint32_t col)
{
	struct rig *rig = &synced->rig;
	int rc;

	switch (col) {
	case SY_DURABLE:
		return write_one(synced, 20480, 2048, PCACHE_DURABLE);
	case SY_FLUSH:
		return pcache_flush(rig->cache);
	case SY_GROUP:
		return write_group(synced);
	case SY_WRITEBACK:
		return write_back_all(rig);
	case SY_CLEAN:
		return clean_log(rig);
	case SY_RECYCLE:
		return recycle(synced);
	case SY_OPEN:
		return rig_try_open(rig);
	default:
		rc = pcache_close(rig->cache);
		rig->cache = NULL;
		return rc;
	}
}

/* What an operation needs before it can meet a sync. */
static void prepare(struct synced *synced, uint32_t col)
{
	struct rig *rig = &synced->rig;

	if (col == SY_OPEN)
		rig_kill(rig);
	if (col == SY_CLEAN) {
		/* A log of several segments, all of it on the backing, and live clean extents in it. */
		for (uint32_t i = 0; i < 40; i++) {
			rig_write(rig, SCENE_MISS_OFF + i % 8 * 512, 512, 0);
			if (i % 4 == 3)
				rig_flush(rig);
		}
		rig_flush(rig);
		assert_int_equal(write_back_all(rig), 0);
		all_durable(synced);
	}
	if (col == SY_RECYCLE)
		for (uint32_t i = 0; i < 20; i++) {
			rig_write(rig, SCENE_CLEAN_OFF + i % 2 * 8192, 8192, 0);
			rig_flush(rig);
			assert_int_equal(write_back_all(rig), 0);
			(void)pc_cache_step(rig->cache, PC_STEP_EVICT, true);
			all_durable(synced);
		}
}

/* ---- what must be true ------------------------------------------------------------------------------------------------ */

/* The handle lives on without a store and without a sync; reads are served. */
static void check_failstop(struct synced *synced)
{
	struct rig *rig = &synced->rig;
	struct pcache_range range = { .buf = rig->scratch, .off = 0, .len = 512 };
	struct pc_sim_counts before = pc_sim_counts(rig->sim), after;

	assert_true(rig_info(rig).state_flags & PCACHE_STATE_FAILSTOP);
	assert_int_equal(pcache_write(rig->cache, rig->scratch, 0, 512, 0), PCACHE_E_FAILSTOP);
	assert_int_equal(pcache_write(rig->cache, rig->scratch, 0, 512, PCACHE_DURABLE), PCACHE_E_FAILSTOP);
	assert_int_equal(pcache_write_batch(rig->cache, &range, 1, 0), PCACHE_E_FAILSTOP);
	assert_int_equal(pcache_discard(rig->cache, 0, 512, 0), PCACHE_E_FAILSTOP);
	assert_int_equal(pcache_write_zeroes(rig->cache, 0, 512, 0), PCACHE_E_FAILSTOP);
	assert_int_equal(pcache_flush(rig->cache), PCACHE_E_FAILSTOP);
	assert_int_equal(pcache_drain(rig->cache, NULL, NULL), PCACHE_E_FAILSTOP);
	assert_int_equal(pcache_maintain(rig->cache, 0), PCACHE_E_FAILSTOP);
	for (uint32_t step = 0; step < PC_STEP_NR; step++)
		assert_int_equal(pc_cache_step(rig->cache, (enum pc_step)step, true), PCACHE_E_FAILSTOP);
	for (uint64_t off = 0; off < rig->o.backing_bytes; off += 512) {
		assert_int_equal(pcache_read(rig->cache, rig->scratch, off, 512, 0), 0);
		if (memcmp(rig->scratch, rig->model + off, 512) != 0)
			assert_memory_equal(rig->scratch, synced->durable + off, 512);
	}
	assert_int_equal(pcache_close(rig->cache), PCACHE_E_FAILSTOP);
	rig->cache = NULL;
	after = pc_sim_counts(rig->sim);
	assert_int_equal(after.copies, before.copies);
	assert_int_equal(after.syncs, before.syncs);
}

/* Opens; each block is the durable version or the newest. From then on this is what must stay. */
static void open_and_collapse(struct synced *synced)
{
	struct rig *rig = &synced->rig;

	rig_open(rig);
	assert_int_equal(pcache_read(rig->cache, rig->scratch, 0, rig->o.backing_bytes, PCACHE_NOCACHE), 0);
	for (uint64_t off = 0; off < rig->o.backing_bytes; off += 512)
		if (memcmp(rig->scratch + off, rig->model + off, 512) != 0)
			assert_memory_equal(rig->scratch + off, synced->durable + off, 512);
	memcpy(rig->model, rig->scratch, rig->o.backing_bytes);
	all_durable(synced);
	assert_null(pc_cache_check(rig->cache));
}

static void goes_on(struct synced *synced)
{
	rig_write(&synced->rig, 1024, 4096, 0);
	rig_check_all(&synced->rig);
	rig_drain(&synced->rig);
	rig_close(&synced->rig);
	rig_open(&synced->rig);
	rig_check_all(&synced->rig);
}

static void power_off(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	(void)event, (void)user;
	pc_sim_stop(sim);
}

static void end_in(struct synced *synced, uint32_t row, uint64_t seed)
{
	struct rig *rig = &synced->rig;
	uint64_t len = pc_sim_media(rig->sim)->len_bytes;
	uint8_t *image = malloc(len);

	assert_non_null(image);
	if (rig->cache)
		rig_kill(rig);
	if (row == SY_KILL) {
		open_and_collapse(synced);
		rig_kill(rig);
		pc_sim_crash(rig->sim, PC_SIM_NONE, 0, image);
	} else if (row == SY_OPEN_CUT) {
		pc_sim_crash_at(rig->sim, seed, power_off, NULL);
		rig_open(rig); /* into a world that is lost: nothing of it is shown to anybody */
		rig_kill(rig);
		pc_sim_crash(rig->sim, seed & 1 ? PC_SIM_NONE : PC_SIM_RANDOM, seed, image);
	} else {
		pc_sim_crash(rig->sim, row == SY_SUBSET ? PC_SIM_RANDOM : PC_SIM_NONE, seed, image);
	}
	pc_sim_reset(rig->sim, image);
	free(image);
	open_and_collapse(synced);
	goes_on(synced);
}

/* True if there was an nth sync to fail. */
static bool fail_nth(uint32_t row, uint32_t col, uint64_t nth, uint64_t seed)
{
	struct synced synced;
	uint64_t before;
	bool hit;
	int rc;

	synced_up(&synced, col);
	prepare(&synced, col);
	before = pc_sim_counts(synced.rig.sim).syncs;
	pc_sim_fail_sync(synced.rig.sim, nth, -EIO);
	rc = operate(&synced, col);
	hit = pc_sim_counts(synced.rig.sim).syncs >= before + nth;
	assert_int_equal(rc, hit ? -EIO : 0);
	if (hit && synced.rig.cache)
		check_failstop(&synced);
	pc_sim_fail_sync(synced.rig.sim, 0, 0);
	/* The media of an open that failed is still open, and remembers. */
	if (hit && col == SY_OPEN)
		pc_sim_reopen(synced.rig.sim);
	if (hit)
		end_in(&synced, row, seed);
	synced_down(&synced);
	return hit;
}

/* ---- format ------------------------------------------------------------------------------------------------------------ */

/* Format of an old cache, cut short: the old one is there, or none, or the new one; and a second format mends that. */
static bool fail_format(uint32_t row, uint64_t nth, uint64_t seed)
{
	struct synced synced;
	struct rig *rig = &synced.rig;
	struct pcache_config *config;
	struct pcache_backing *backing;
	uint64_t len, before;
	uint8_t *image;
	bool hit;
	int rc;

	synced_up(&synced, SY_FORMAT);
	rig_flush(rig);
	rig_close(rig);
	pc_sim_reopen(rig->sim);
	config = rig_config(rig);
	backing = mem_backing_attach(rig->mb);
	len = pc_sim_media(rig->sim)->len_bytes;
	before = pc_sim_counts(rig->sim).syncs;
	pc_sim_fail_sync(rig->sim, nth, -EIO);
	rc = pc_cache_format_media(pc_sim_media(rig->sim), config, NULL, backing);
	hit = pc_sim_counts(rig->sim).syncs == before + nth; /* and none after it */
	assert_int_equal(rc, hit ? -EIO : 0);
	pc_sim_fail_sync(rig->sim, 0, 0);
	pc_sim_reopen(rig->sim);
	if (hit && row != SY_KILL && row != SY_OPEN_CUT) {
		image = malloc(len);
		assert_non_null(image);
		pc_sim_crash(rig->sim, row == SY_SUBSET ? PC_SIM_RANDOM : PC_SIM_NONE, seed, image);
		pc_sim_reset(rig->sim, image);
		free(image);
	}
	rc = hit ? rig_try_open(rig) : 0;
	if (rc) {
		assert_int_equal(rc, PCACHE_E_NOT_A_CACHE);
	} else if (hit) {
		/* The old cache, whole, or the new one, which shows the backing. */
		assert_int_equal(pcache_read(rig->cache, rig->scratch, 0, rig->o.backing_bytes, PCACHE_NOCACHE), 0);
		if (memcmp(rig->scratch, mem_backing_live(rig->mb), rig->o.backing_bytes) != 0)
			assert_memory_equal(rig->scratch, rig->model, rig->o.backing_bytes);
		rig_close(rig);
		pc_sim_reopen(rig->sim);
	}
	assert_int_equal(pc_cache_format_media(pc_sim_media(rig->sim), config, NULL, backing), 0);
	memcpy(rig->model, mem_backing_live(rig->mb), rig->o.backing_bytes);
	rig_power_cut(rig);
	rig_open(rig);
	rig_check_all(rig);
	pcache_backing_free(backing);
	pcache_config_free(config);
	synced_down(&synced);
	return hit;
}

static const char *why_not(const struct fault_table *table, uint32_t row, uint32_t col)
{
	(void)table;
	return row == SY_OPEN_CUT && col == SY_FORMAT ? "n/a: format opens nothing" : NULL;
}

static uint64_t run(const struct fault_table *table, uint32_t row, uint32_t col)
{
	uint32_t seed_nr = row == SY_SUBSET ? SUBSETS : row == SY_OPEN_CUT ? OPEN_SYNCS : 1;
	uint64_t nr = 0;

	(void)table;
	if (fault_is_slow())
		seed_nr = PC_MIN(seed_nr, 2u);
	for (uint32_t seed = 1; seed <= seed_nr; seed++)
		for (uint64_t nth = 1; col == SY_FORMAT ? fail_format(row, nth, seed) : fail_nth(row, col, nth, seed);
		     nth++)
			nr++;
	return nr;
}

const struct fault_table fault_sync = {
	.group = "sync",
	.name = "sync",
	.title = "A sync of the cache file fails (page granularity)",
	.rows = rows,
	.cols = cols,
	.row_nr = SY_ROW_NR,
	.col_nr = SY_COL_NR,
	.why_not = why_not,
	.run = run,
};
