/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Damage of media: what is hit (columns) by what (rows), one table for each moment at which it strikes (G12 to G15, G23).
 *
 * The expectation follows from what the damage overlaps (damage.c): one copy of a record is repaired and counted; both copies, and a slot that is known to be durable, are
 * PCACHE_E_CORRUPT before anything is stored; clean data comes from the backing; dirty data is PCACHE_E_POISONED, exactly where it was hit; all else reads right. Then
 * the damage is taken away: an open that failed has destroyed nothing.
 */
#include <errno.h>
#include <string.h>

#include "fault/damage.h"
#include "fault/matrix.h"
#include "pcache/errors.h"
#include "tool/check.h"

enum when { WH_OPEN, WH_REPLAY, WH_HIT, WH_WRITEBACK, WH_SPACE, WH_CHECK, WH_NR };

static const char *const rows[DM_KIND_NR] = {
	[DM_POISON_64] = "poison 64 B",  [DM_POISON_256] = "poison 256 B",
	[DM_POISON_4K] = "poison 4 KiB", [DM_POISON_2M] = "poison 2 MiB, clipped",
	[DM_FLIP] = "bit flip",          [DM_OLDER] = "restored to an older state",
};

static const char *const cols[DZ_NR] = {
	[DZ_SUPER_A] = "superblock A",
	[DZ_SUPER_B] = "superblock B",
	[DZ_SUPER_AB] = "superblock A and B",
	[DZ_SEGREC_A] = "segment record A",
	[DZ_SEGREC_B] = "segment record B",
	[DZ_SEGREC_AB] = "segment record A and B",
	[DZ_TAIL_A] = "tail record A",
	[DZ_TAIL_B] = "tail record B",
	[DZ_TAIL_AB] = "tail record A and B",
	[DZ_SLOT_BELOW] = "log slot below the mark",
	[DZ_SLOT_ABOVE] = "log slot above the mark",
	[DZ_KEY_LIST] = "key list of a kset",
	[DZ_CLEAN] = "clean data",
	[DZ_DIRTY] = "dirty data",
};

static bool both_copies(uint32_t zone)
{
	return zone == DZ_SUPER_AB || zone == DZ_SEGREC_AB || zone == DZ_TAIL_AB;
}

/* Both copies older: a state that once was valid. An open cannot tell it from a crash; what it must not do is show wrong bytes. */
static bool is_rollback(const struct damage *damage)
{
	return damage->kind == DM_OLDER && both_copies(damage->zone);
}

static bool is_refusal(int rc)
{
	return rc == PCACHE_E_CORRUPT || rc == -EIO;
}

/* Both magics gone: nothing tells a cache any more. */
static bool is_no_cache(const struct damage *damage, int rc)
{
	return rc == PCACHE_E_NOT_A_CACHE && damage->zone == DZ_SUPER_AB && damage->kind == DM_FLIP;
}

/* ---- before open ------------------------------------------------------------------------------------------------------ */

static void heal_and_open(struct damage *damage)
{
	damage_heal(damage);
	rig_open(&damage->rig);
}

/* Opened over a rollback: right, or poisoned where it was dirty. */
static void check_rollback_reads(struct damage *damage)
{
	struct rig *rig = &damage->rig;

	for (uint64_t off = 0; off < rig->o.backing_bytes; off += 512) {
		int rc = pcache_read(rig->cache, rig->scratch, off, 512, 0);

		if (rc == 0)
			assert_memory_equal(rig->scratch, rig->model + off, 512);
		else
			assert_true(rc == PCACHE_E_POISONED && damage->dirty[off / 512]);
	}
}

static void check_repaired(struct damage *damage)
{
	struct rig *rig = &damage->rig;

	assert_true((rig_info(rig).replica_repairs != 0) == damage_needs_repair(damage));
	damage_check_reads(damage, damage->zone == DZ_SLOT_ABOVE);
	if (damage_is_poison(damage))
		return;
	rig_reopen(rig); /* what was repaired is good */
	assert_int_equal(rig_info(rig).replica_repairs, 0);
	damage_check_reads(damage, false);
}

static uint64_t before_open(struct damage *damage)
{
	struct rig *rig = &damage->rig;
	struct pc_sim_counts before;
	int rc;

	rig_kill(rig);
	damage_strike(damage);
	before = pc_sim_counts(rig->sim);
	rc = rig_try_open(rig);
	if (is_rollback(damage)) {
		assert_true(rc == 0 || is_refusal(rc));
		if (rc == 0)
			check_rollback_reads(damage);
		if (rc == 0)
			rig_kill(rig);
	} else if (damage_is_fatal(damage)) {
		assert_true(is_refusal(rc) || is_no_cache(damage, rc));
		assert_int_equal(pc_sim_counts(rig->sim).copies, before.copies);
	} else {
		assert_int_equal(rc, 0);
		check_repaired(damage);
	}
	if (rc || is_rollback(damage)) {
		heal_and_open(damage);
		damage->span_nr = rc ? 0 : damage->span_nr;
		damage_check_reads(damage, false);
	} else {
		damage_heal(damage);
	}
	damage_cure(damage);
	return 1;
}

/* ---- in replay --------------------------------------------------------------------------------------------------------- */

/* The damage strikes before the nth read of an open. */
static const struct pc_media_ops *real_ops;
static struct damage *striking;
static uint64_t reads_left;

static int read_and_strike(struct pc_media *media, uint64_t media_off, void *buf, size_t len)
{
	if (striking && --reads_left == 0) {
		damage_strike(striking);
		striking = NULL;
	}
	return real_ops->read(media, media_off, buf, len);
}

static bool in_replay_at(enum damage_kind kind, enum damage_zone zone, uint64_t nth)
{
	struct pc_media_ops ops;
	struct pc_media *media;
	struct damage damage;
	bool hit;
	int rc;

	damage_up(&damage, kind, zone, PCACHE_ORDERING_STRICT, 0);
	rig_kill(&damage.rig);
	media = pc_sim_media(damage.rig.sim);
	real_ops = media->ops;
	ops = *real_ops;
	ops.read = read_and_strike;
	media->ops = &ops;
	striking = &damage;
	reads_left = nth;
	rc = rig_try_open(&damage.rig);
	hit = !striking;
	striking = NULL;
	media->ops = real_ops;
	if (!hit)
		damage.span_nr = 0;
	if (rc) {
		assert_true(is_refusal(rc) && hit);
		assert_true(damage_is_fatal(&damage) || zone == DZ_SLOT_ABOVE || is_rollback(&damage));
		heal_and_open(&damage);
		damage.span_nr = 0;
		damage_check_reads(&damage, zone == DZ_SLOT_ABOVE);
	} else {
		damage_check_reads(&damage, true);
		damage_heal(&damage);
	}
	damage_cure(&damage);
	damage_down(&damage);
	return hit;
}

static uint64_t in_replay(enum damage_kind kind, enum damage_zone zone)
{
	uint64_t nr = 0, step = kind == DM_POISON_2M ? 40 : fault_is_slow() ? 5 : 1;

	for (uint64_t nth = 1; in_replay_at(kind, zone, nth); nth += step)
		nr++;
	return nr;
}

/* ---- while it is open --------------------------------------------------------------------------------------------------- */

static bool hits_log(const struct damage *damage)
{
	return damage->zone == DZ_SLOT_BELOW || damage->zone == DZ_SLOT_ABOVE || damage->zone == DZ_KEY_LIST ||
	       damage->kind == DM_POISON_4K || damage->kind == DM_POISON_2M;
}

static uint64_t on_a_hit(struct damage *damage)
{
	damage_strike(damage);
	damage_check_reads(damage, false);
	damage_check_reads(damage, false); /* once more: nothing came of the first */
	damage_heal(damage);
	damage->span_nr = 0;
	damage_check_reads(damage, false);
	damage_cure(damage);
	return 1;
}

#define MOVING_OFF (200u << 10) /* overwritten again and again to make the log move; ends the array that counts here */

/* Nothing but what the array or the disk before had, ever. */
static void check_backing_bytes(struct damage *damage)
{
	const uint8_t *live = mem_backing_live(damage->rig.mb);

	for (uint64_t off = 0; off < MOVING_OFF; off += 512)
		if (memcmp(live + off, damage->rig.model + off, 512) != 0)
			assert_memory_equal(live + off, damage->base + off, 512);
}

static bool loses_any(const struct damage *damage)
{
	for (uint64_t off = 0; off < damage->rig.o.backing_bytes; off += 512)
		if (damage_loses(damage, off))
			return true;
	return false;
}

static int write_back(struct rig *rig)
{
	int rc = 1;

	for (uint32_t i = 0; i < 50 && rc > 0; i++)
		rc = pc_cache_step(rig->cache, PC_STEP_WRITEBACK, false);
	return rc;
}

static uint64_t in_write_back(struct damage *damage)
{
	struct rig *rig = &damage->rig;
	int rc;

	damage_strike(damage);
	rc = write_back(rig);
	check_backing_bytes(damage);
	if (rc) {
		assert_true(is_refusal(rc) && hits_log(damage));
		assert_true(rig_info(rig).state_flags & PCACHE_STATE_DEGRADED);
		assert_true(rig_info(rig).dirty_bytes > 0);
	} else {
		/* What comes later is dirty, and is written as well. */
		for (uint32_t i = 0; i < 4; i++)
			rig_write(rig, MOVING_OFF + i * 1024, 512, 0);
		assert_int_equal(rig_info(rig).dirty_bytes, 4 * 512);
		assert_int_equal(pcache_drain(rig->cache, NULL, NULL), loses_any(damage) ? PCACHE_E_POISONED : 0);
		assert_int_equal(rig_info(rig).dirty_bytes, 0);
		assert_memory_equal(mem_backing_live(rig->mb) + MOVING_OFF, rig->model + MOVING_OFF, 4096);
	}
	damage_check_reads(damage, false);
	/* A crash and a cure of the media later, it is the same: what was given up stays poisoned, the rest is right. */
	rig_kill(rig);
	heal_and_open(damage);
	if (rc)
		damage->span_nr = 0; /* nothing was given up */
	damage_check_reads(damage, false);
	damage_cure(damage);
	return 1;
}

static uint64_t in_cleaning(struct damage *damage)
{
	struct rig *rig = &damage->rig;
	bool failed = false;

	damage_strike(damage);
	for (uint32_t round = 0; round < 6; round++) {
		/* Not where free segments are poisoned as well: what is stored into poison is lost, and nobody knows before he has met it. */
		for (uint32_t i = 0; i < 24 && damage->kind != DM_POISON_2M; i++)
			rig_write(rig, MOVING_OFF + i % 12 * 512, 512, 0);
		for (uint32_t step = 0; step < PC_STEP_NR; step++) {
			int rc = pc_cache_step(rig->cache, (enum pc_step)step, true);

			assert_true(rc >= 0 || (is_refusal(rc) && hits_log(damage)));
			failed |= rc < 0;
		}
	}
	if (!failed && damage->kind != DM_POISON_2M)
		assert_true(rig_info(rig).cleaned_segments > 0);
	if (!failed)
		check_backing_bytes(damage);
	damage_check_reads(damage, false);
	rig_kill(rig);
	heal_and_open(damage);
	if (failed)
		damage->span_nr = 0;
	damage_check_reads(damage, false);
	damage_cure(damage);
	return 1;
}

/* ---- check --------------------------------------------------------------------------------------------------------------- */

static bool hits_data(const struct damage *damage)
{
	for (uint32_t blk = 0; blk < DAMAGE_BLK_MAX; blk++)
		if (damage->chunk[blk].len && damage_hits(damage, damage->chunk[blk].off, damage->chunk[blk].len))
			return true;
	return false;
}

static uint64_t in_check(struct damage *damage)
{
	struct check_settings settings = { 0 };
	struct rig *rig = &damage->rig;
	struct check_result result;
	struct pc_sim_counts before;
	int rc;

	rig_kill(rig);
	pc_sim_reopen(rig->sim);
	damage_strike(damage);
	before = pc_sim_counts(rig->sim);
	rc = check_run(pc_sim_media(rig->sim), &settings, &result);
	if (rc) {
		assert_true(is_refusal(rc) ? damage->zone == DZ_SUPER_AB : is_no_cache(damage, rc));
	} else if (is_rollback(damage)) {
		/* It says something, or there is nothing to be said. */
		assert_true(result.super_valid);
	} else {
		if (damage_is_fatal(damage) || (hits_data(damage) && damage->zone != DZ_SLOT_ABOVE))
			assert_true(result.finding_nr[CHECK_DAMAGE] > 0);
		else
			assert_int_equal(result.finding_nr[CHECK_DAMAGE], 0);
		if (damage_needs_repair(damage) && !damage_is_fatal(damage))
			assert_true(result.finding_nr[CHECK_REPAIR] > 0);
	}
	assert_int_equal(pc_sim_counts(rig->sim).copies, before.copies);
	damage_heal(damage);
	assert_int_equal(check_run(pc_sim_media(rig->sim), &settings, &result), 0);
	assert_int_equal(result.finding_nr[CHECK_DAMAGE] + result.finding_nr[CHECK_REPAIR], 0);
	damage->span_nr = 0;
	rig_open(rig);
	damage_check_reads(damage, false);
	damage_cure(damage);
	return 1;
}

/* ---- the tables ------------------------------------------------------------------------------------------------------------ */

static const char *why_not(const struct fault_table *table, uint32_t row, uint32_t col)
{
	(void)table;
	return row == DM_OLDER && col <= DZ_SUPER_AB ? "n/a: it never changes" : NULL;
}

static uint64_t run(const struct fault_table *table, uint32_t row, uint32_t col)
{
	static uint64_t (*const cells[WH_NR])(struct damage *) = {
		[WH_OPEN] = before_open,  [WH_HIT] = on_a_hit,   [WH_WRITEBACK] = in_write_back,
		[WH_SPACE] = in_cleaning, [WH_CHECK] = in_check,
	};
	struct damage damage;
	uint64_t nr = 0;

	if (table->arg == WH_REPLAY)
		return in_replay((enum damage_kind)row, (enum damage_zone)col);
	for (uint32_t i = 0; i < (fault_is_slow() ? 1 : row == DM_FLIP ? 2 * DAMAGE_FLIP_NR : 2); i++) {
		damage_up(&damage, (enum damage_kind)row, (enum damage_zone)col, i % 2, i / 2);
		nr += cells[table->arg](&damage);
		damage_down(&damage);
	}
	return nr;
}

#define MEDIA_TABLE(when, short_name, text) \
	{ \
		.group = "media", .name = short_name, .title = text, .rows = rows, .cols = cols, .row_nr = DM_KIND_NR, \
		.col_nr = DZ_NR, .arg = (when), .why_not = why_not, .run = run \
	}

const struct fault_table fault_media[6] = {
	MEDIA_TABLE(WH_OPEN, "media-open", "Media is damaged before an open"),
	MEDIA_TABLE(WH_REPLAY, "media-replay", "Media becomes bad at each read of an open"),
	MEDIA_TABLE(WH_HIT, "media-hit", "Media becomes bad under an open cache that is read"),
	MEDIA_TABLE(WH_WRITEBACK, "media-write-back", "Media becomes bad before write-back"),
	MEDIA_TABLE(WH_SPACE, "media-cleaning", "Media becomes bad before eviction and log cleaning"),
	MEDIA_TABLE(WH_CHECK, "media-check", "Media is damaged and checked"),
};
