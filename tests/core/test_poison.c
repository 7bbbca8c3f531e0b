/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Poison under a running cache (G12): every size of it under clean and dirty data, with and without CRCs, on a hit, in write-back, under eviction and cleaning, in the
 * log, and at an open. The poison stays where it is while the cache goes on, unless a test says otherwise.
 */
#include "core/rig.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "pcache/errors.h"

#define CHUNK 4096u
#define SEGMENT_BYTES (256u << 10)
#define CHUNK_NR 64u /* written by fill() */
#define STRIDE (2 * CHUNK) /* from one of them to the next, so that they never join */
#define BIG (2u << 20)

struct poison_case {
	uint32_t block_bytes;
	bool no_crc;
	uint64_t poison_bytes;
};

struct scene {
	struct rig rig;
	const struct poison_case *pc;
	uint64_t at[CHUNK_NR]; /* where each chunk lies in the media */
	uint64_t begin_off; /* of the poison */
	uint8_t *before; /* the array, and so the backing, before fill() */
};

typedef void (*scene_fn)(struct scene *scene);

static void each_case(scene_fn fn)
{
	static const uint64_t sizes[] = { 64, 256, 4096, BIG };
	const char *sanitize = getenv("PCACHE_SANITIZE");
	struct poison_case pc;
	struct scene scene;

	for (uint32_t i = 0; i < 16; i++) {
		pc = (struct poison_case){ .block_bytes = i & 1 ? 4096 : 512,
					   .no_crc = (i & 2) != 0,
					   .poison_bytes = sizes[i / 4] };
		/* Ten times as slow: the least and the most are enough. */
		if (sanitize && *sanitize && pc.poison_bytes != sizes[0] && pc.poison_bytes != BIG)
			continue;
		memset(&scene, 0, sizeof(scene));
		scene.pc = &pc;
		rig_zero(&scene.rig);
		scene.rig.o.block_bytes = pc.block_bytes;
		scene.rig.o.no_crc = pc.no_crc;
		scene.rig.o.segment_bytes = SEGMENT_BYTES;
		scene.rig.o.segment_nr = 24;
		scene.rig.o.backing_bytes = 1u << 20;
		scene.rig.o.gc_percent = 90;
		rig_up(&scene.rig);
		scene.before = malloc(scene.rig.o.backing_bytes);
		assert_non_null(scene.before);
		memcpy(scene.before, scene.rig.model, scene.rig.o.backing_bytes);
		fn(&scene);
		free(scene.before);
		rig_down(&scene.rig);
	}
}

static uint64_t chunk_off(uint32_t i)
{
	return (uint64_t)i * STRIDE;
}

/* Where chunk i lies: usually behind the one before, which saves a search. */
static uint64_t find(struct scene *scene, uint32_t i)
{
	struct rig *rig = &scene->rig;
	uint64_t next_off = i ? scene->at[i - 1] + CHUNK : 0;

	if (i && memcmp(pc_sim_view(rig->sim) + next_off, rig->model + chunk_off(i), CHUNK) == 0)
		return next_off;
	return rig_find(rig, chunk_off(i));
}

static void fill(struct scene *scene)
{
	for (uint32_t i = 0; i < CHUNK_NR; i++)
		rig_write(&scene->rig, chunk_off(i), CHUNK, 0);
	for (uint32_t i = 0; i < CHUNK_NR; i++)
		scene->at[i] = find(scene, i);
	rig_flush(&scene->rig);
}

/* Small poison lies in the middle of a chunk, off its beginning. 2 MiB begin with the segment of the data, behind the log. */
static void poison(struct scene *scene)
{
	uint64_t size = scene->pc->poison_bytes;
	uint64_t data_off = scene->rig.cache->layout.super.data_off;

	if (size == BIG)
		scene->begin_off = data_off + (scene->at[20] - data_off) / SEGMENT_BYTES * SEGMENT_BYTES;
	else
		scene->begin_off = size < CHUNK ? scene->at[20] + 1024 : scene->at[20];
	pc_sim_poison(scene->rig.sim, scene->begin_off, size);
}

/* Whether the block at off, of chunk i, must be lost: its bytes cannot be read, or cannot be verified. */
static bool is_lost(const struct scene *scene, uint32_t i, uint64_t off)
{
	uint64_t unit = scene->pc->no_crc ? scene->pc->block_bytes : CHUNK;
	uint64_t from = scene->at[i] + (off - chunk_off(i)) / unit * unit;

	return from < scene->begin_off + scene->pc->poison_bytes && scene->begin_off < from + unit;
}

/* Each block is lost or right, and as many as there must be are lost. */
static void check_dirty(struct scene *scene)
{
	struct rig *rig = &scene->rig;
	uint32_t block = scene->pc->block_bytes, lost_nr = 0;

	for (uint32_t i = 0; i < CHUNK_NR; i++) {
		bool any = false;

		for (uint64_t off = chunk_off(i); off < chunk_off(i) + CHUNK; off += block) {
			if (!is_lost(scene, i, off)) {
				rig_check_range(rig, off, block);
				continue;
			}
			assert_int_equal(pcache_read(rig->cache, rig->scratch, off, block, 0), PCACHE_E_POISONED);
			any = true;
			lost_nr++;
		}
		/* One bad block fails the whole read, whatever lies around it. */
		assert_int_equal(pcache_read(rig->cache, rig->scratch, chunk_off(i), STRIDE, 0),
				 any ? PCACHE_E_POISONED : 0);
		rig_check_range(rig, chunk_off(i) + CHUNK, STRIDE - CHUNK);
	}
	if (scene->pc->poison_bytes < CHUNK)
		assert_int_equal(lost_nr, scene->pc->no_crc ? 1 : CHUNK / block);
	else
		assert_true(lost_nr >= CHUNK / block);
}

static void overwrite_all(struct scene *scene)
{
	for (uint32_t i = 0; i < CHUNK_NR; i++)
		rig_write(&scene->rig, chunk_off(i), CHUNK, 0);
}

/* ---- hits --------------------------------------------------------------------------------------------------------------- */

static void clean(struct scene *scene)
{
	struct rig *rig = &scene->rig;

	fill(scene);
	rig_drain(rig);
	poison(scene);
	for (uint32_t i = 0; i < 2; i++) {
		rig_check_all(rig);
		rig_check_all(rig);
		assert_int_equal(rig_info(rig).crc_errors, 0);
		if (i == 0) {
			assert_true(rig_info(rig).media_errors >= 1);
			assert_true(rig_info(rig).segments_quarantined >= 1);
			assert_true(rig->messages[PCACHE_LOG_ERROR] >= 1);
		}
		rig_reopen(rig); /* what was fetched again is read from where it lies now */
	}
}

static void clean_hit(void **state)
{
	(void)state;
	each_case(clean);
}

static void dirty(struct scene *scene)
{
	struct rig *rig = &scene->rig;

	fill(scene);
	poison(scene);
	for (uint32_t i = 0; i < 2; i++) {
		check_dirty(scene);
		check_dirty(scene);
		assert_true(rig_info(rig).segments_quarantined >= 1);
		assert_int_equal(rig_info(rig).dirty_bytes, CHUNK_NR * CHUNK); /* nothing became clean */
		rig_reopen(rig);
	}
	rig_close(rig);
	rig_open(rig);
	check_dirty(scene);
	/* Overwritten, it is as good as new: what was written goes elsewhere, or is lost again and says so. */
	pc_sim_unpoison(rig->sim);
	overwrite_all(scene);
	rig_check_all(rig);
	rig_drain(rig);
}

static void dirty_hit(void **state)
{
	(void)state;
	each_case(dirty);
}

/* The poison stays: the overwrite lands in another segment, for the damaged one is quarantined. */
static void overwritten(struct scene *scene)
{
	struct rig *rig = &scene->rig;

	if (scene->pc->poison_bytes == BIG)
		return; /* the next segments are damaged as well */
	fill(scene);
	poison(scene);
	check_dirty(scene);
	overwrite_all(scene);
	rig_check_all(rig);
	rig_drain(rig);
	rig_reopen(rig);
	rig_check_all(rig);
}

static void full_overwrite_cures(void **state)
{
	(void)state;
	each_case(overwritten);
}

/* ---- write-back --------------------------------------------------------------------------------------------------------- */

/* The backing, durable, has every block that could be read and verified, and of the others what it had before. */
static void check_backing(struct scene *scene)
{
	const struct rig *rig = &scene->rig;
	uint32_t block = scene->pc->block_bytes;

	for (uint32_t i = 0; i < CHUNK_NR; i++) {
		for (uint64_t off = chunk_off(i); off < chunk_off(i) + CHUNK; off += block)
			assert_memory_equal(mem_backing_durable(rig->mb) + off,
					    (is_lost(scene, i, off) ? scene->before : rig->model) + off, block);
	}
}

static void written_back(struct scene *scene)
{
	struct rig *rig = &scene->rig;

	fill(scene);
	poison(scene);
	assert_int_equal(pcache_drain(rig->cache, NULL, NULL), PCACHE_E_POISONED);
	check_backing(scene);
	check_dirty(scene);
	assert_true(rig_info(rig).media_errors >= 1);
	assert_int_equal(rig_info(rig).state_flags & PCACHE_STATE_DEGRADED, 0);
	assert_int_equal(rig_info(rig).dirty_bytes, 0);
	/* It is on record now, and stays lost even if the media recovers. */
	pc_sim_unpoison(rig->sim);
	for (uint32_t i = 0; i < 2; i++) {
		check_dirty(scene);
		rig_reopen(rig);
	}
	assert_int_equal(pcache_drain(rig->cache, NULL, NULL), PCACHE_E_POISONED);
	overwrite_all(scene);
	rig_check_all(rig);
	rig_drain(rig);
}

static void write_back(void **state)
{
	(void)state;
	each_case(written_back);
}

/* The same where the batch is read from the log, and versions of an earlier epoch are met that are overwritten. */
static void epochs(struct scene *scene)
{
	struct rig *rig = &scene->rig;

	fill(scene);
	/* Chunk 0 has a second version, of a later epoch; the first is damaged. */
	scene->at[20] = scene->at[0];
	poison(scene);
	rig_write(rig, chunk_off(0), CHUNK, 0);
	rig_flush(rig);
	scene->at[0] = rig_find(rig, chunk_off(0));
	if (scene->pc->poison_bytes == BIG)
		return;
	assert_int_equal(pcache_drain(rig->cache, NULL, NULL), 0);
	rig_check_all(rig);
	assert_memory_equal(mem_backing_durable(rig->mb), rig->model, rig->o.backing_bytes);
	assert_int_equal(rig_info(rig).media_errors >= 1, true);
}

static void damaged_version_that_was_overwritten(void **state)
{
	(void)state;
	each_case(epochs);
}

/* ---- fragments ---------------------------------------------------------------------------------------------------------- */

static void fragments(struct rig *rig, bool in_what_is_left)
{
	uint64_t at;

	rig->o.segment_bytes = SEGMENT_BYTES;
	rig_up(rig);
	rig_write(rig, 0, CHUNK, 0);
	at = rig_find(rig, 0);
	rig_write(rig, 1024, 1024, 0);
	rig_flush(rig);
	pc_sim_poison(rig->sim, at + (in_what_is_left ? 512 : 1536), 64);
	for (uint32_t i = 0; i < 2; i++) {
		for (uint64_t off = 0; off < CHUNK; off += 512) {
			bool cut = off >= 1024 && off < 2048;
			bool lost = rig->o.no_crc ? in_what_is_left && off == 512 : !cut;

			if (lost)
				assert_int_equal(pcache_read(rig->cache, rig->scratch, off, 512, 0), PCACHE_E_POISONED);
			else
				rig_check_range(rig, off, 512);
		}
		rig_reopen(rig);
	}
	rig_write(rig, 0, 1024, 0);
	rig_check_range(rig, 0, 2048);
	rig_write(rig, 2048, 2048, 0);
	rig_check_all(rig);
	rig_down(rig);
}

/* A chunk with poison anywhere, also where it was overwritten since, cannot be verified. Without CRCs only the poisoned block is lost. */
static void fragments_of_a_chunk(void **state)
{
	struct rig rig;

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		rig_zero(&rig);
		rig.o.no_crc = (i & 1) != 0;
		fragments(&rig, (i & 2) != 0);
	}
}

/* ---- quarantine ----------------------------------------------------------------------------------------------------------- */

static void churn(struct rig *rig, uint32_t writes)
{
	for (uint32_t i = 0; i < writes; i++) {
		rig_write(rig, rig_below(rig, rig->o.backing_bytes / CHUNK) * CHUNK, CHUNK, 0);
		if (i % 16 == 0)
			rig_flush(rig);
		if (i % 7 == 0)
			rig_check_range(rig, rig_below(rig, rig->o.backing_bytes / CHUNK) * CHUNK, CHUNK);
	}
}

static uint32_t segment_of(struct rig *rig, uint64_t media_off)
{
	const struct pc_super *super = &rig->cache->layout.super;

	return (uint32_t)((media_off - super->data_off) / super->segment_bytes);
}

/* With the poison in place the cache goes on for many times its size, and never meets it again. */
static void segment_is_not_taken_again(void **state)
{
	struct rig rig;
	uint64_t errors, gen;
	uint32_t id;

	(void)state;
	for (uint32_t by_crc = 0; by_crc < 2; by_crc++) {
		rig_zero(&rig);
		rig.o.segment_bytes = 16384;
		rig_up(&rig);
		rig_write(&rig, 0, 8192, 0);
		rig_drain(&rig);
		id = segment_of(&rig, rig_find(&rig, 0));
		if (by_crc)
			rig_flip(&rig, rig_find(&rig, 0) + 99);
		else
			pc_sim_poison(rig.sim, rig_find(&rig, 0), 64);
		gen = atomic_load(&rig.cache->map.segs[id].gen);
		rig_check_all(&rig);
		assert_int_equal(rig_info(&rig).segments_quarantined, 1);
		errors = rig_info(&rig).media_errors + rig_info(&rig).crc_errors;
		assert_int_equal(errors, 1);
		churn(&rig, 3000);
		assert_int_equal(atomic_load(&rig.cache->map.segs[id].gen), gen);
		assert_int_equal(atomic_load(&rig.cache->map.segs[id].state), PC_SS_QUARANTINED);
		assert_int_equal(rig_info(&rig).media_errors + rig_info(&rig).crc_errors, errors);
		assert_int_equal(rig_info(&rig).segments_quarantined, 1);
		rig_check_all(&rig);
		rig_drain(&rig);
		/* Only as long as the cache is open. */
		pc_sim_unpoison(rig.sim);
		rig_close(&rig);
		rig_open(&rig);
		assert_int_equal(rig_info(&rig).segments_quarantined, 0);
		churn(&rig, 3000);
		assert_true(atomic_load(&rig.cache->map.segs[id].gen) > gen);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* Damage everywhere: so many segments are kept in use that there is progress. */
static void quarantine_has_a_limit(void **state)
{
	static const uint32_t segment_nrs[] = { 8, 9, 16, 32 };
	struct rig rig;
	uint32_t max;

	(void)state;
	for (uint32_t i = 0; i < PC_ARRAY_NR(segment_nrs); i++) {
		rig_zero(&rig);
		rig.o.segment_bytes = 16384;
		rig.o.segment_nr = segment_nrs[i];
		rig.o.full_error = true;
		rig_up(&rig);
		max = PC_MIN(segment_nrs[i] / 8, segment_nrs[i] - 8);
		for (uint32_t round = 0; round < 20; round++) {
			rig_write(&rig, 0, 4096, 0);
			rig_drain(&rig);
			pc_sim_poison(rig.sim, rig_find(&rig, 0), 64);
			rig_check_range(&rig, 0, 4096);
			pc_sim_unpoison(rig.sim);
			churn(&rig, 20);
		}
		assert_int_equal(rig_info(&rig).segments_quarantined, max);
		/* The largest request still finds its place. */
		for (uint32_t round = 0; round < 50; round++) {
			uint64_t len = PC_MIN(pcache_atomic_write_max(rig.cache), rig.o.backing_bytes);

			rig_write(&rig, rig_below(&rig, (rig.o.backing_bytes - len) / 512 + 1) * 512, len, 0);
		}
		churn(&rig, 500);
		rig_check_all(&rig);
		rig_drain(&rig);
		rig_down(&rig);
	}
}

/* A head leaves a damaged segment at once. */
static void head_leaves_a_damaged_segment(void **state)
{
	struct rig rig;
	uint32_t id;

	(void)state;
	rig_zero(&rig);
	rig.o.segment_bytes = SEGMENT_BYTES;
	rig_up(&rig);
	rig_write(&rig, 0, 4096, 0);
	id = segment_of(&rig, rig_find(&rig, 0));
	rig_write(&rig, 4096, 4096, 0);
	assert_int_equal(segment_of(&rig, rig_find(&rig, 4096)), id);
	pc_sim_poison(rig.sim, rig_find(&rig, 0), 64);
	assert_int_equal(pcache_read(rig.cache, rig.scratch, 0, 512, 0), PCACHE_E_POISONED);
	rig_write(&rig, 0, 4096, 0);
	assert_true(segment_of(&rig, rig_find(&rig, 0)) != id);
	rig_check_all(&rig);
	rig_drain(&rig);
	rig_down(&rig);
}

/* Eviction and cleaning do not read data: poison under them changes nothing. */
static void eviction_and_cleaning_over_poison(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig.o.segment_bytes = 16384;
	rig_up(&rig);
	churn(&rig, 400);
	rig_drain(&rig);
	for (uint32_t id = 0; id < rig.o.segment_nr && id < 16; id++) {
		const struct pc_super *super = &rig.cache->layout.super;

		if (atomic_load(&rig.cache->map.segs[id].state) == PC_SS_DATA)
			pc_sim_poison(rig.sim, pc_geo_segment_off(super, id), super->segment_bytes);
	}
	for (uint32_t i = 0; i < 20; i++) {
		assert_true(pc_cache_step(rig.cache, PC_STEP_CLEAN, true) >= 0);
		assert_true(pc_cache_step(rig.cache, PC_STEP_EVICT, true) >= 0);
	}
	assert_int_equal(rig_info(&rig).media_errors, 0);
	rig_check_all(&rig); /* what is left comes from the backing */
	rig_down(&rig);
}

/* ---- the log -------------------------------------------------------------------------------------------------------------- */

/*
 * Nearly all of the cache is dirty and damaged: the POISON keys need more slots than the log has and free segments can give. The clean rest has to make room for them, also where what is
 * clean becomes so only by what comes before the damage.
 */
static void poison_without_a_slot(bool clean_before)
{
	const uint32_t first_nr = 64, block = 512;
	struct rig rig;
	uint32_t nr;

	rig_zero(&rig);
	rig.o.gc_percent = 90;
	rig_up(&rig);
	for (uint32_t i = 0; i < first_nr; i++)
		rig_write(&rig, (uint64_t)i * block, block, 0);
	if (clean_before)
		rig_drain(&rig);
	/* As many as fit; every second block, so that each is an extent of its own. */
	for (nr = 0; nr < 160; nr++) {
		uint64_t off = (uint64_t)(first_nr + 2 * nr) * block;

		rig_pattern(&rig, rig.scratch, block);
		if (pcache_write(rig.cache, rig.scratch, off, block, PCACHE_NOWAIT))
			break;
		memcpy(rig.model + off, rig.scratch, block);
	}
	rig_flush(&rig);
	for (uint32_t i = 0; i < nr; i++)
		rig_flip(&rig, rig_find(&rig, (uint64_t)(first_nr + 2 * i) * block));
	assert_int_equal(pcache_drain(rig.cache, NULL, NULL), PCACHE_E_POISONED);
	assert_int_equal(rig_info(&rig).dirty_bytes, 0);
	rig_check_range(&rig, 0, (uint64_t)first_nr * block);
	for (uint32_t i = 0; i < nr; i++)
		assert_int_equal(pcache_read(rig.cache, rig.scratch, (uint64_t)(first_nr + 2 * i) * block, block, 0),
				 PCACHE_E_POISONED);
	assert_null(pc_cache_check(rig.cache));
	for (uint32_t i = 0; i < nr; i++)
		rig_write(&rig, (uint64_t)(first_nr + 2 * i) * block, block, 0);
	rig_check_all(&rig);
	rig_down(&rig);
}

static void poison_without_a_slot_makes_room(void **state)
{
	(void)state;
	poison_without_a_slot(true);
	poison_without_a_slot(false);
}

/* A slot that write-back needs cannot be read: it stops there, says so, and loses nothing that is still in memory. */
static void log_slot_in_write_back(void **state)
{
	struct rig rig;
	uint64_t pos;
	uint32_t id;

	(void)state;
	for (uint32_t sweep = 0; sweep < 2; sweep++) {
		rig_zero(&rig);
		rig.o.segment_bytes = 16384;
		rig_up(&rig);
		rig_write(&rig, 0, 4096, 0);
		if (!sweep)
			rig_flush(&rig); /* two epochs: the log is read */
		pos = atomic_load(&rig.cache->log.head);
		rig_write(&rig, 8192, 4096, 0);
		rig_write(&rig, 16384, 4096, 0);
		id = pc_log_seg(&rig.cache->log, pos)->seg_id;
		pc_sim_poison(rig.sim, pc_log_media_off(&rig.cache->log, pos), 64);
		for (uint32_t i = 0; i < 2; i++) {
			assert_int_equal(pcache_drain(rig.cache, NULL, NULL), PCACHE_E_CORRUPT);
			assert_true(rig_info(&rig).state_flags & PCACHE_STATE_DEGRADED);
			assert_true(rig_info(&rig).media_errors >= 1);
			assert_true(rig_info(&rig).dirty_bytes >= 8192);
			assert_true(rig.messages[PCACHE_LOG_ERROR] >= 1);
			rig_check_all(&rig);
		}
		assert_int_equal(rig_info(&rig).segments_quarantined, 1);
		rig_write(&rig, 0, 512, 0);
		rig_flush(&rig);
		/* Nor is it skipped by an open. */
		rig_kill(&rig);
		assert_int_equal(rig_try_open(&rig), PCACHE_E_CORRUPT);
		pc_sim_unpoison(rig.sim);
		rig_open(&rig);
		rig_check_all(&rig);
		rig_drain(&rig);
		assert_int_equal(rig_info(&rig).state_flags & PCACHE_STATE_DEGRADED, 0);
		rig_down(&rig);
		(void)id;
	}
}

/* Its segment is not taken again when the log has moved on. */
static void log_segment_in_quarantine(void **state)
{
	struct rig rig;
	uint64_t pos, gen;
	uint32_t id;

	(void)state;
	rig_zero(&rig);
	rig.o.segment_bytes = 4096;
	rig_up(&rig);
	rig_write(&rig, 0, 512, 0);
	pos = atomic_load(&rig.cache->log.head);
	rig_write(&rig, 512, 512, 0);
	id = pc_log_seg(&rig.cache->log, pos)->seg_id;
	gen = atomic_load(&rig.cache->map.segs[id].gen);
	pc_sim_poison(rig.sim, pc_log_media_off(&rig.cache->log, pos), 64);
	assert_int_equal(pcache_drain(rig.cache, NULL, NULL), PCACHE_E_CORRUPT);
	pc_sim_unpoison(rig.sim);
	churn(&rig, 1500);
	rig_drain(&rig);
	for (uint32_t i = 0; i < 50; i++)
		assert_true(pc_cache_step(rig.cache, PC_STEP_CLEAN, true) >= 0);
	assert_int_equal(atomic_load(&rig.cache->map.segs[id].state), PC_SS_QUARANTINED);
	assert_int_equal(atomic_load(&rig.cache->map.segs[id].gen), gen);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* ---- at an open ----------------------------------------------------------------------------------------------------------- */

/* No mark says that the write is durable, but it was acknowledged; poison is no sign of a torn write, so what is older must not show. */
static void acknowledged_data_cannot_be_read_at_open(void **state)
{
	struct rig rig;

	(void)state;
	for (uint32_t ranges = 1; ranges <= 2; ranges++) {
		rig_zero(&rig);
		rig_up(&rig);
		rig_write(&rig, 0, 512 * ranges, 0);
		rig_drain(&rig);
		rig_write(&rig, 0, 512 * ranges, 0);
		pc_sim_poison(rig.sim, rig_find(&rig, 0), 64);
		for (uint32_t i = 0; i < 2; i++) {
			rig_reopen(&rig);
			assert_int_equal(pcache_read(rig.cache, rig.scratch, 0, 512, 0), PCACHE_E_POISONED);
		}
		rig_write(&rig, 0, 512 * ranges, 0);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* One chunk is torn, another cannot be read: the write was not finished, whatever the second one held. */
static void torn_and_unreadable_data_at_open(void **state)
{
	struct rig rig;
	uint64_t at;

	(void)state;
	rig_zero(&rig);
	rig.o.segment_bytes = 16384;
	rig_up(&rig);
	rig_write(&rig, 0, 8192, 0);
	rig_flush(&rig);
	memcpy(rig.scratch, rig.model, 8192);
	rig_write(&rig, 0, 8192, 0);
	at = rig_find(&rig, 0);
	rig_flip(&rig, rig_find(&rig, 4096));
	pc_sim_poison(rig.sim, at, 64);
	memcpy(rig.model, rig.scratch, 8192);
	rig_reopen(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

static void log_slot_at_open(void **state)
{
	struct rig rig;
	uint64_t slot_off, end_off;

	(void)state;
	for (uint32_t last = 0; last < 2; last++) {
		rig_zero(&rig);
		rig_up(&rig);
		rig_write(&rig, 0, 512, 0);
		slot_off = pc_log_media_off(&rig.cache->log, atomic_load(&rig.cache->log.head));
		rig_write(&rig, 512, 512, 0);
		if (!last)
			rig_write(&rig, 1024, 512, 0);
		end_off = pc_log_media_off(&rig.cache->log, atomic_load(&rig.cache->log.head) + 3);
		rig_kill(&rig);
		/* The key of an acknowledged write, in the middle or as the last: not taken for the end, nor for a torn write. */
		pc_sim_poison(rig.sim, slot_off, 64);
		assert_int_equal(rig_try_open(&rig), PCACHE_E_CORRUPT);
		pc_sim_unpoison(rig.sim);
		/* Behind the end, one may have been as well, unless the cache was closed. */
		pc_sim_poison(rig.sim, end_off, 64);
		assert_int_equal(rig_try_open(&rig), PCACHE_E_CORRUPT);
		pc_sim_unpoison(rig.sim);
		rig_open(&rig);
		rig_check_all(&rig);
		end_off = pc_log_media_off(&rig.cache->log, atomic_load(&rig.cache->log.head) + 3);
		rig_close(&rig);
		pc_sim_poison(rig.sim, end_off, 64);
		rig_open(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* ---- threads -------------------------------------------------------------------------------------------------------------- */

#define SHARED_BLOCKS 64u

struct reader {
	struct rig *rig;
	_Atomic bool stop;
	_Atomic uint64_t reads;
	uint64_t wrong;
};

/* Each block carries its number in every word: a read gives that, or says that it is lost. */
static void *read_all(void *arg)
{
	struct reader *reader = arg;
	uint64_t words[512 / 8];

	for (uint64_t i = 0; !atomic_load(&reader->stop); i++) {
		uint64_t blk = i * 7 % SHARED_BLOCKS;
		int rc = pcache_read(reader->rig->cache, words, blk * 512, 512, 0);

		for (uint32_t w = 0; rc == 0 && w < PC_ARRAY_NR(words); w++)
			reader->wrong += words[w] != blk;
		reader->wrong += rc != 0 && rc != PCACHE_E_POISONED;
		atomic_fetch_add(&reader->reads, 1);
	}
	return NULL;
}

static void poison_comes_and_goes_under_threads(void **state)
{
	struct reader reader;
	uint64_t words[512 / 8];
	pthread_t thread;
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig.o.threads = true;
	rig.o.sim_flags = PC_SIM_THREADED;
	rig_up(&rig);
	for (uint64_t blk = 0; blk < SHARED_BLOCKS; blk++) {
		for (uint32_t w = 0; w < PC_ARRAY_NR(words); w++)
			words[w] = blk;
		assert_int_equal(pcache_write(rig.cache, words, blk * 512, 512, 0), 0);
	}
	memset(&reader, 0, sizeof(reader));
	reader.rig = &rig;
	assert_int_equal(pthread_create(&thread, NULL, read_all, &reader), 0);
	while (atomic_load(&reader.reads) == 0)
		(void)sched_yield();
	for (uint32_t i = 0; i < 1500; i++) {
		uint64_t blk = rig_below(&rig, SHARED_BLOCKS), id = rig_below(&rig, rig.o.segment_nr);

		/* Data segments only: a poisoned log stops write-back, and then the cache fills up. */
		if (i % 4 == 0 && atomic_load(&rig.cache->map.segs[id].state) == PC_SS_DATA)
			pc_sim_poison(rig.sim, pc_geo_segment_off(&rig.cache->layout.super, (uint32_t)id) + 1024, 256);
		for (uint32_t w = 0; w < PC_ARRAY_NR(words); w++)
			words[w] = blk;
		assert_int_equal(pcache_write(rig.cache, words, blk * 512, 512, 0), 0);
		if (i % 16 == 15)
			pc_sim_unpoison(rig.sim);
	}
	pc_sim_unpoison(rig.sim);
	atomic_store(&reader.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(reader.wrong, 0);
	for (uint64_t blk = 0; blk < SHARED_BLOCKS; blk++) {
		for (uint32_t w = 0; w < PC_ARRAY_NR(words); w++)
			words[w] = blk;
		memcpy(rig.model + blk * 512, words, 512);
		assert_int_equal(pcache_write(rig.cache, words, blk * 512, 512, 0), 0);
	}
	rig_check_all(&rig);
	rig_drain(&rig);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clean_hit),
		cmocka_unit_test(dirty_hit),
		cmocka_unit_test(full_overwrite_cures),
		cmocka_unit_test(write_back),
		cmocka_unit_test(damaged_version_that_was_overwritten),
		cmocka_unit_test(fragments_of_a_chunk),
		cmocka_unit_test(segment_is_not_taken_again),
		cmocka_unit_test(quarantine_has_a_limit),
		cmocka_unit_test(head_leaves_a_damaged_segment),
		cmocka_unit_test(eviction_and_cleaning_over_poison),
		cmocka_unit_test(poison_without_a_slot_makes_room),
		cmocka_unit_test(log_slot_in_write_back),
		cmocka_unit_test(log_segment_in_quarantine),
		cmocka_unit_test(acknowledged_data_cannot_be_read_at_open),
		cmocka_unit_test(torn_and_unreadable_data_at_open),
		cmocka_unit_test(log_slot_at_open),
		cmocka_unit_test(poison_comes_and_goes_under_threads),
	};

	return cmocka_run_group_tests_name("core_poison", tests, NULL, NULL);
}
