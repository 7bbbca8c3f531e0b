/* SPDX-License-Identifier: BSD-3-Clause */
/* See damage.h. */
#include "fault/damage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pcache/errors.h"

#define CLEAN_OFF (0u << 10)
#define DIRTY_OFF (32u << 10)
#define BATCH_OFF (128u << 10)
#define BATCH_NR 12u

/* ---- the scene ------------------------------------------------------------------------------------------------------- */

static const struct pc_super *super_of(struct damage *damage)
{
	return &damage->rig.cache->layout.super;
}

static void write_batch(struct rig *rig)
{
	struct pcache_range ranges[BATCH_NR];

	for (uint32_t i = 0; i < BATCH_NR; i++) {
		ranges[i] = (struct pcache_range){ .buf = rig->model + BATCH_OFF + i * 2048,
						   .off = BATCH_OFF + i * 2048,
						   .len = 512 };
		rig_pattern(rig, rig->model + ranges[i].off, 512);
	}
	assert_int_equal(pcache_write_batch(rig->cache, ranges, BATCH_NR, 0), 0);
}

static uint8_t *copy_of(const void *bytes, uint64_t len)
{
	uint8_t *copy = malloc(len);

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	return copy;
}

/* Where every block of the backing lies now. */
static void note_blocks(struct damage *damage)
{
	struct pcache *cache = damage->rig.cache;

	for (uint64_t blk = 0; blk < DAMAGE_BLK_MAX; blk++) {
		uint64_t mask = pc_index_mask(cache->index, blk, 1);
		struct pc_extent extent;
		uint32_t nr;

		pc_index_lock(cache->index, mask);
		nr = pc_index_lookup_locked(cache->index, blk, 1, &extent, 1);
		pc_index_unlock(cache->index, mask);
		if (nr == 0 || (extent.flags & PC_EXT_TYPE_MASK) != PC_EXT_DATA)
			continue;
		damage->dirty[blk] = (extent.flags & PC_EXT_DIRTY) != 0;
		damage->chunk[blk].off = pc_geo_segment_off(&cache->layout.super, extent.seg_id) +
					 ((uint64_t)extent.seg_blk - PC_GEOM_HEAD(extent.geom)) * 512;
		damage->chunk[blk].len =
			(PC_GEOM_HEAD(extent.geom) + extent.len_blk + PC_GEOM_TAIL(extent.geom)) * UINT64_C(512);
		damage->used_segs[damage->used_nr++] = extent.seg_id;
	}
}

static void note_log(struct damage *damage, uint64_t mark_pos)
{
	struct pc_log *log = &damage->rig.cache->log;
	uint64_t pos = atomic_load(&log->tail);

	while (pos < mark_pos) {
		uint64_t seg_end = PC_MIN(mark_pos, pc_log_seg_start(log, pos) + log->slots_per_seg);

		assert_true(damage->below_nr < PC_ARRAY_NR(damage->below_log));
		damage->below_log[damage->below_nr++] =
			(struct span){ .off = pc_log_media_off(log, pos), .len = (seg_end - pos) * PC_SLOT_BYTES };
		pos = seg_end;
	}
}

static void one_span(struct damage *damage, uint64_t off, uint64_t len)
{
	damage->spans[damage->span_nr++] = (struct span){ .off = off, .len = len };
}

static void copies(struct damage *damage, uint32_t which, uint64_t a_off, uint64_t b_off, uint64_t len)
{
	if (which != 1)
		one_span(damage, a_off, len);
	if (which != 0)
		one_span(damage, b_off, len);
}

/* The place of the zone, as long as the structure. */
static void find_spans(struct damage *damage, uint64_t below_pos, uint64_t list_pos)
{
	struct pc_log *log = &damage->rig.cache->log;
	const struct pc_super *super = super_of(damage);
	uint32_t seg_id = damage->used_segs[damage->used_nr - 1];
	uint32_t zone = damage->zone;

	if (zone <= DZ_SUPER_AB)
		copies(damage, zone - DZ_SUPER_A, pc_geo_super_off(super, 0), pc_geo_super_off(super, 1),
		       sizeof(struct pcm_super));
	else if (zone <= DZ_SEGREC_AB)
		copies(damage, zone - DZ_SEGREC_A, pc_geo_segrec_off(super, 0, seg_id),
		       pc_geo_segrec_off(super, 1, seg_id), sizeof(struct pcm_segrec));
	else if (zone <= DZ_TAIL_AB)
		copies(damage, zone - DZ_TAIL_A, pc_geo_tail_off(super, 0), pc_geo_tail_off(super, 1),
		       sizeof(struct pcm_tail));
	else if (zone == DZ_SLOT_BELOW)
		one_span(damage, pc_log_media_off(log, below_pos), PC_SLOT_BYTES);
	else if (zone == DZ_SLOT_ABOVE)
		one_span(damage, damage->above_slot_off, PC_SLOT_BYTES);
	else if (zone == DZ_KEY_LIST)
		one_span(damage, pc_log_media_off(log, list_pos + 2), PC_SLOT_BYTES);
	else
		one_span(damage, rig_find(&damage->rig, (zone == DZ_CLEAN ? CLEAN_OFF : DIRTY_OFF) + 1024), 512);
}

/* Widens or narrows the spans to what this kind hits. */
static void fit_spans(struct damage *damage, uint32_t variant)
{
	static const uint64_t sizes[DM_KIND_NR] = {
		[DM_POISON_64] = 64, [DM_POISON_256] = 256, [DM_POISON_4K] = 4096, [DM_POISON_2M] = 2u << 20
	};
	/* In a slot: its length, its position, and two places further on. */
	static const uint32_t eighths[DAMAGE_FLIP_NR] = { 2, 0, 5, 7 };
	uint64_t media_len = pc_sim_media(damage->rig.sim)->len_bytes;

	for (uint32_t i = 0; i < damage->span_nr; i++) {
		struct span *span = &damage->spans[i];

		if (damage->kind == DM_FLIP) {
			*span = (struct span){ .off = span->off + eighths[variant] * span->len / 8 + 4, .len = 1 };
		} else if (damage_is_poison(damage)) {
			span->off = PC_ROUND_DOWN(span->off, sizes[damage->kind]);
			span->len = PC_MIN(sizes[damage->kind], media_len - span->off);
		}
	}
}

void damage_up(struct damage *damage, enum damage_kind kind, enum damage_zone zone, uint32_t ordering, uint32_t variant)
{
	struct rig *rig = &damage->rig;
	uint64_t media_len, below_pos, list_pos, mark_pos;

	memset(damage, 0, sizeof(*damage));
	damage->kind = kind;
	damage->zone = zone;
	rig_zero(rig);
	rig->o.ordering = ordering;
	rig->seed = 31 * (uint64_t)zone + kind;
	if (kind == DM_POISON_2M) {
		rig->o.segment_bytes = 512u << 10;
		rig->o.segment_nr = 12;
	}
	rig_up(rig);
	media_len = pc_sim_media(rig->sim)->len_bytes;
	rig_write(rig, CLEAN_OFF, 4096, 0);
	rig_write(rig, DIRTY_OFF, 4096, 0);
	rig_flush(rig);
	rig_drain(rig);
	damage->older = copy_of(pc_sim_view(rig->sim), media_len);
	for (uint64_t i = 0; i < 4; i++)
		rig_write(rig, CLEAN_OFF + i * 4096, 4096, 0);
	rig_drain(rig);
	damage->base = copy_of(rig->model, rig->o.backing_bytes);
	below_pos = rig_info(rig).log_head;
	for (uint64_t i = 0; i < 4; i++)
		rig_write(rig, DIRTY_OFF + i * 4096, 4096, 0);
	rig_flush(rig);
	list_pos = rig_info(rig).log_head;
	write_batch(rig);
	/* A new data segment stores a mark; from here on there is room enough for what must be above the last one. */
	rig_flush(rig);
	mark_pos = rig_info(rig).log_head;
	damage->older_model = copy_of(rig->model, rig->o.backing_bytes);
	damage->above_slot_off = pc_log_media_off(&rig->cache->log, mark_pos);
	rig_write(rig, ABOVE_OFF, ABOVE_LEN, 0);
	note_blocks(damage);
	/* The mark says so of what lies below it. What cannot be read is no torn write, wherever in the log it is. */
	note_log(damage, damage_is_poison(damage) ? atomic_load(&rig->cache->log.cap_end) : mark_pos - 1);
	find_spans(damage, below_pos, list_pos);
	fit_spans(damage, variant);
	damage->saved = copy_of(pc_sim_view(rig->sim), media_len);
}

void damage_down(struct damage *damage)
{
	free(damage->older);
	free(damage->saved);
	free(damage->base);
	free(damage->older_model);
	rig_down(&damage->rig);
}

/* ---- strike and heal ---------------------------------------------------------------------------------------------------- */

bool damage_is_poison(const struct damage *damage)
{
	return damage->kind <= DM_POISON_2M;
}

void damage_strike(struct damage *damage)
{
	struct pc_sim *sim = damage->rig.sim;

	for (uint32_t i = 0; i < damage->span_nr; i++) {
		const struct span *span = &damage->spans[i];

		if (damage_is_poison(damage)) {
			pc_sim_poison(sim, span->off, span->len);
		} else if (damage->kind == DM_FLIP) {
			uint8_t byte = pc_sim_view(sim)[span->off] ^ 0x10;

			pc_sim_damage(sim, span->off, &byte, 1);
		} else {
			/* The same bytes would be no damage. */
			assert_memory_not_equal(pc_sim_view(sim) + span->off, damage->older + span->off, span->len);
			pc_sim_damage(sim, span->off, damage->older + span->off, span->len);
		}
	}
}

void damage_heal(struct damage *damage)
{
	struct pc_sim *sim = damage->rig.sim;

	pc_sim_unpoison(sim);
	for (uint32_t i = 0; i < damage->span_nr && !damage_is_poison(damage); i++) {
		const struct span *span = &damage->spans[i];
		const uint8_t *now = pc_sim_view(sim) + span->off;
		uint8_t flipped = damage->saved[span->off] ^ 0x10;

		/* Only what is still damaged: a repair must not be undone. */
		if (damage->kind == DM_FLIP ? *now == flipped : memcmp(now, damage->older + span->off, span->len) == 0)
			pc_sim_damage(sim, span->off, damage->saved + span->off, span->len);
	}
}

/* ---- what it means ------------------------------------------------------------------------------------------------------ */

bool damage_hits(const struct damage *damage, uint64_t off, uint64_t len)
{
	for (uint32_t i = 0; i < damage->span_nr; i++) {
		const struct span *span = &damage->spans[i];
		uint64_t from = PC_MAX(span->off, off), to = PC_MIN(span->off + span->len, off + len);

		if (from >= to)
			continue;
		if (damage->kind != DM_OLDER || memcmp(damage->older + from, damage->saved + from, to - from) != 0)
			return true;
	}
	return false;
}

static bool hits_replica(const struct damage *damage, uint64_t off[2], uint64_t len, bool both)
{
	bool a = damage_hits(damage, off[0], len), b = damage_hits(damage, off[1], len);

	return both ? a && b : a || b;
}

static bool hits_records(const struct damage *damage, bool both)
{
	struct pc_super super;
	struct pcm_super bytes;
	uint64_t off[2];

	memcpy(&bytes, damage->saved, sizeof(bytes));
	assert_int_equal(pc_super_decode(&bytes, &super), PC_VALID);
	for (uint32_t i = 0; i < 2; i++)
		off[i] = pc_geo_super_off(&super, i);
	if (hits_replica(damage, off, sizeof(struct pcm_super), both))
		return true;
	for (uint32_t i = 0; i < 2; i++)
		off[i] = pc_geo_tail_off(&super, i);
	if (hits_replica(damage, off, sizeof(struct pcm_tail), both))
		return true;
	for (uint32_t id = 0; id < super.segment_nr; id++) {
		for (uint32_t i = 0; i < 2; i++)
			off[i] = pc_geo_segrec_off(&super, i, id);
		if (hits_replica(damage, off, sizeof(struct pcm_segrec), both))
			return true;
	}
	return false;
}

bool damage_is_fatal(const struct damage *damage)
{
	for (uint32_t i = 0; i < damage->below_nr; i++)
		if (damage_hits(damage, damage->below_log[i].off, damage->below_log[i].len))
			return true;
	return hits_records(damage, true);
}

bool damage_needs_repair(const struct damage *damage)
{
	return hits_records(damage, false);
}

bool damage_loses(const struct damage *damage, uint64_t off)
{
	const struct span *chunk = &damage->chunk[off / 512];

	return damage->dirty[off / 512] && chunk->len && damage_hits(damage, chunk->off, chunk->len);
}

void damage_check_reads(struct damage *damage, bool may_be_old)
{
	struct rig *rig = &damage->rig;

	for (uint64_t off = 0; off < rig->o.backing_bytes; off += 512) {
		bool above = off >= ABOVE_OFF && off < ABOVE_OFF + ABOVE_LEN;
		int rc;

		memset(rig->scratch, 0xa5, 512);
		rc = pcache_read(rig->cache, rig->scratch, off, 512, 0);
		if (above && may_be_old && rc == 0) {
			/* All of the write or nothing. */
			if (memcmp(rig->scratch, damage->older_model + off, 512) == 0)
				memcpy(rig->model + ABOVE_OFF, damage->older_model + ABOVE_OFF, ABOVE_LEN);
			assert_memory_equal(rig->scratch, rig->model + off, 512);
			continue;
		}
		assert_int_equal(rc, damage_loses(damage, off) ? PCACHE_E_POISONED : 0);
		if (rc == 0)
			assert_memory_equal(rig->scratch, rig->model + off, 512);
	}
	assert_null(pc_cache_check(rig->cache));
}

void damage_cure(struct damage *damage)
{
	struct rig *rig = &damage->rig;

	for (uint64_t off = 0; off < rig->o.backing_bytes; off += 512)
		if (damage_loses(damage, off))
			rig_write(rig, off, 512, 0);
	rig_check_all(rig);
	rig_drain(rig);
	rig_reopen(rig);
	rig_check_all(rig);
}
