/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Damaged media: at the end of the life of a world, a bit turns or a range can no longer be read, in a zone that chance picks, and what the library owes is checked.
 *
 *     one copy of a record            the open goes on, and shows everything
 *     both copies of a record         an error; never an empty cache
 *     log below the durable position  PCACHE_E_CORRUPT, or nothing is lost (a void)
 *     log above it                    unreadable: the same; a bit: an unfinished write, so an older version may show, and nothing else
 *     clean data                      everything is shown, from the backing
 *     dirty data                      PCACHE_E_POISONED for the blocks that lie there (others that share a CRC with them may go, too), also after a drain; a full overwrite cures
 *
 *     log, under the open cache       everything is shown, and the backing stays a whole state; write-back may stop
 *
 * Where data lies is what pcache check says, so the library is not asked. The damage comes while the cache is closed, after a kill, or under an open cache.
 */
#include "sim/crash_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cache.h"
#include "tool/check.h"

enum zone { ZONE_ONE_COPY, ZONE_BOTH_COPIES, ZONE_LOG_BELOW, ZONE_LOG_ABOVE, ZONE_CLEAN, ZONE_DIRTY, ZONE_NR };
static const char *const zone_names[ZONE_NR] = {"one copy of a record", "both copies of a record", "log below the mark", "log above the mark", "clean data", "dirty data"};

static const char *const doing[ZONE_NR] = {"damage to one copy of a record, bytes of poison: ", "damage to both copies of a record, bytes of poison: ",
					   "damage to the log below the mark, bytes of poison: ", "damage to the log above the mark, bytes of poison: ",
					   "damage to clean data, bytes of poison: ", "damage to dirty data, bytes of poison: "};

struct lies { /* a block of the backing that the cache answers for */
	uint64_t media_off; /* 0: nowhere */
	bool dirty;
};

struct damage {
	struct crash_world *w;
	struct pc_rng rng;
	enum zone zone;
	uint32_t len; /* poison; 0: one bit turns */
	uint64_t off;
	uint64_t second_off; /* of the other copy, if zone is both copies */
	bool closed; /* else killed */
	bool live; /* under the open cache */
	bool flushed; /* all was below the durable position */
	struct pc_super super;
	uint64_t mark_pos;
	uint64_t end_pos;
	struct lies lies[PC_ORACLE_BLOCK_NR_MAX];
	bool lost[PC_ORACLE_BLOCK_NR_MAX];
};

/* --- what is where --- */

static void note_extent(void *user, const struct check_extent *extent)
{
	struct damage *d = user;
	const struct pc_gen_shape *shape = &d->w->run->shape;

	for (uint64_t i = 0; i < extent->len_blk && extent->vol_blk + i < shape->backing_blk; i++) {
		if (extent->media_off == CHECK_NOWHERE)
			continue;
		d->lies[extent->vol_blk + i].media_off = extent->media_off + i * shape->block_bytes;
		d->lies[extent->vol_blk + i].dirty = extent->dirty;
	}
}

static bool look_around(struct damage *d)
{
	const struct check_settings settings = {.extent = note_extent, .user = d};
	struct check_result result;
	const int rc = check_run(pc_sim_media(d->w->sim), &settings, &result);

	if (rc != 0 || !result.super_valid || !result.tail_valid) {
		crash_fail(d->w, "check of undamaged media gives %d: %s", rc, crash_error_text(rc));
		return false;
	}
	d->super = result.super;
	d->mark_pos = result.mark_pos;
	d->end_pos = result.end_pos;
	return true;
}

/* --- where the damage goes --- */

static bool pick_record(struct damage *d)
{
	const uint32_t replica = pc_rng_below(&d->rng, 2);
	const uint32_t kind = pc_rng_below(&d->rng, 4);
	const uint32_t seg_id = pc_rng_below(&d->rng, d->super.segment_nr);
	const uint64_t at = pc_rng_below(&d->rng, 64);

	for (unsigned int i = 0; i < 2; i++) {
		const unsigned int copy = i == 0 ? replica : 1 - replica;
		const uint64_t off = at + (kind == 0 ? pc_geo_super_off(&d->super, copy) :
					   kind == 1 ? pc_geo_tail_off(&d->super, copy) : pc_geo_segrec_off(&d->super, copy, seg_id));

		if (i == 0)
			d->off = off;
		else
			d->second_off = off;
	}
	return true;
}

/* A slot of the log from first to before end. */
static bool pick_slot(struct damage *d, uint64_t first, uint64_t end)
{
	const struct pc_log *log = &d->w->cache->log;
	uint64_t pos;

	if (first >= end)
		return false;
	pos = first + pc_rng_below(&d->rng, (uint32_t)(end - first));
	d->off = pc_log_media_off(log, pos) + pc_rng_below(&d->rng, 64);
	return true;
}

static bool pick_data(struct damage *d, bool dirty)
{
	const uint32_t block_nr = d->w->run->shape.backing_blk;
	const uint32_t first = pc_rng_below(&d->rng, block_nr);

	for (uint32_t i = 0; i < block_nr; i++) {
		const struct lies *lies = &d->lies[(first + i) % block_nr];

		if (lies->media_off == 0 || lies->dirty != dirty)
			continue;
		d->off = lies->media_off + pc_rng_below(&d->rng, d->w->run->shape.block_bytes);
		return true;
	}
	return false;
}

/* False: there is no such place. */
static bool pick_place(struct damage *d)
{
	static const uint32_t lens[] = {0, 0, 64, 256, 4096};
	const uint64_t log_tail = atomic_load(&d->w->cache->log.tail);

	d->zone = (enum zone)pc_rng_below(&d->rng, ZONE_NR);
	d->len = lens[pc_rng_below(&d->rng, (uint32_t)PC_ARRAY_NR(lens))];
	switch (d->zone) {
	case ZONE_LOG_BELOW:
		return pick_slot(d, log_tail, d->mark_pos);
	case ZONE_LOG_ABOVE:
		return pick_slot(d, PC_MAX(log_tail, d->mark_pos), d->end_pos);
	case ZONE_CLEAN:
	case ZONE_DIRTY:
		/* Without a CRC nobody can tell. */
		return (d->len != 0 || d->w->run->shape.data_crc) && pick_data(d, d->zone == ZONE_DIRTY);
	default:
		return pick_record(d);
	}
}

static void harm(struct damage *d, uint64_t off)
{
	uint8_t byte = (uint8_t)(pc_sim_view(d->w->sim)[off] ^ 1u << pc_rng_below(&d->rng, 8));

	if (d->len != 0)
		pc_sim_poison(d->w->sim, off - off % d->len, d->len);
	else
		pc_sim_damage(d->w->sim, off, &byte, 1);
}

/* The process is gone, and all that it stored has reached the media. */
static void settle(struct crash_world *w)
{
	uint8_t *image = crash_must(malloc(w->run->shape.media_bytes));

	if (w->cache != NULL)
		pc_cache_abandon(w->cache);
	w->cache = NULL;
	memcpy(image, pc_sim_view(w->sim), w->run->shape.media_bytes);
	pc_sim_reset(w->sim, image);
	pc_sim_crash_at(w->sim, 0, crash_at_fence, w);
	free(image);
}

/* --- what is owed --- */

static bool is_data(const struct damage *d)
{
	return d->zone == ZONE_CLEAN || d->zone == ZONE_DIRTY;
}

static bool is_log(const struct damage *d)
{
	return d->zone == ZONE_LOG_BELOW || d->zone == ZONE_LOG_ABOVE;
}

/* Bytes of a block within the damage widened by some bytes. */
static bool is_hit(const struct damage *d, uint32_t blk, uint64_t around)
{
	const uint64_t first = d->len != 0 ? d->off - d->off % d->len : d->off;
	const uint64_t end = first + PC_MAX(d->len, 1u);
	const uint64_t at = d->lies[blk].media_off;

	return is_data(d) && at != 0 && at < end + around && first < at + d->w->run->shape.block_bytes + around;
}

/* The newest writes may be gone: a bit turned in what nobody knew to be durable. */
static bool may_be_older(const struct damage *d)
{
	return d->len == 0 && !d->live && (d->zone == ZONE_LOG_ABOVE || (is_data(d) && !d->flushed));
}

static void say(struct damage *d, uint32_t blk, const char *what, int rc)
{
	crash_fail(d->w, "block %u, %s at %llu: %s (%d)", blk, zone_names[d->zone], (unsigned long long)d->off, what, rc);
}

static int read_blk(struct crash_world *w, uint32_t blk, uint8_t *buf)
{
	const uint64_t block_bytes = w->run->shape.block_bytes;

	return pcache_read(w->cache, buf, blk * block_bytes, block_bytes, PCACHE_NOCACHE);
}

/* Reads one block, and says what is wrong with that. */
static bool judge_blk(struct damage *d, uint32_t blk, uint8_t *buf)
{
	const bool must_go = is_hit(d, blk, 0) && d->lies[blk].dirty;
	const bool may_go = is_hit(d, blk, d->w->run->shape.data_crc ? PC_CHUNK_BYTES : 0) && d->lies[blk].dirty;
	const int rc = read_blk(d->w, blk, buf);
	struct pc_seen seen;

	d->lost[blk] = rc == PCACHE_E_POISONED;
	if (rc != 0 && rc != PCACHE_E_POISONED) {
		say(d, blk, "another error than PCACHE_E_POISONED", rc);
	} else if (rc != 0 && !may_go) {
		say(d, blk, "lost, and lies elsewhere", rc);
	} else if (rc == 0 && must_go && !may_be_older(d)) {
		say(d, blk, "dirty data that was damaged can be read", rc);
	} else if (rc == 0) {
		seen = pc_oracle_look(d->w->oracle, blk, buf);
		if (seen.kind == PC_SEEN_BAD || !pc_oracle_knows(d->w->oracle, blk, &seen))
			say(d, blk, "holds what was never written there", rc);
	}
	return !d->w->run->stop;
}

static void judge_content(struct damage *d)
{
	struct crash_world *w = d->w;
	uint8_t *seen = w->run->seen;
	bool exact = !may_be_older(d);

	for (uint32_t blk = 0; blk < w->run->shape.backing_blk; blk++) {
		if (!judge_blk(d, blk, seen + (size_t)blk * w->run->shape.block_bytes))
			return;
	}
	if (exact && !pc_oracle_recover_but(w->oracle, seen, d->lost))
		crash_fail(w, "%s damaged at %llu: %s", zone_names[d->zone], (unsigned long long)d->off, pc_oracle_text(w->oracle));
}

static void judge_open(struct damage *d, int rc)
{
	bool fine = rc == 0;

	if (d->zone == ZONE_BOTH_COPIES)
		fine = rc == PCACHE_E_CORRUPT || (d->len != 0 && rc == -EIO) || (rc == PCACHE_E_NOT_A_CACHE && d->off % PC_PAGE_BYTES < 8);
	else if (is_log(d))
		fine = rc == 0 || rc == PCACHE_E_CORRUPT; /* 0: a void, of which only the first slot is read; the content will tell */
	if (!fine)
		crash_fail(d->w, "open gives %d (%s) with %s damaged at %llu, %u bytes of poison", rc, crash_error_text(rc), zone_names[d->zone],
			   (unsigned long long)d->off, d->len);
}

/* A lost version needs a slot of the log that says so: there may be no room for one, but then nothing can make it. */
static bool is_really_full(struct crash_world *w)
{
	return pc_segmap_free_nr(&w->cache->map) == 0 && pc_cache_step(w->cache, PC_STEP_EVICT, true) == 0 &&
	       pc_cache_step(w->cache, PC_STEP_CLEAN, true) == 0;
}

/* What write-back makes of it; then the lost blocks are written. */
static void cure(struct damage *d)
{
	struct crash_world *w = d->w;
	const uint64_t block_bytes = w->run->shape.block_bytes;
	const int drain_rc = pcache_drain(w->cache, NULL, NULL);
	uint32_t cured = 0;
	bool lost[PC_ORACLE_BLOCK_NR_MAX];

	/* Corrupt: poison stays where it is, and if the segment was freed before anybody met it there, the log may lie on it now. */
	if (drain_rc == PCACHE_E_CORRUPT && d->len != 0 && !is_log(d))
		return;
	if (drain_rc != 0 && drain_rc != PCACHE_E_POISONED && !(drain_rc == PCACHE_E_FULL && is_really_full(w)))
		crash_fail(w, "drain of a damaged cache gives %d: %s", drain_rc, crash_error_text(drain_rc));
	memcpy(lost, d->lost, sizeof(lost));
	if (!w->run->stop)
		judge_content(d);
	for (uint32_t blk = 0; blk < w->run->shape.backing_blk && !w->run->stop; blk++) {
		const uint32_t version = pc_oracle_next_version(w->oracle);
		struct pc_seen seen;
		int rc;

		if (lost[blk] && !d->lost[blk])
			say(d, blk, "no longer lost after a drain", drain_rc);
		if (w->run->stop || !d->lost[blk] || ++cured > 3)
			continue;
		pc_oracle_fill(w->oracle, w->run->io, blk, 1, version);
		rc = pcache_write(w->cache, w->run->io, blk * block_bytes, block_bytes, 0);
		if (rc == PCACHE_E_FULL)
			continue;
		if (rc == 0)
			rc = read_blk(w, blk, w->run->io);
		seen = pc_oracle_look(w->oracle, blk, w->run->io);
		if (rc != 0 || seen.kind != PC_SEEN_DATA || seen.version != version)
			say(d, blk, "not cured by a write", rc);
	}
}

/* Under the open cache the log is read by write-back alone: it gets through, or stops, but does nothing wrong. Then as if the process had been killed. */
static void write_back_by_bad_log(struct damage *d)
{
	struct crash_world *w = d->w;

	judge_content(d);
	if (w->run->stop)
		return;
	crash_note(w->run, (uint64_t)(uint32_t)pcache_drain(w->cache, NULL, NULL));
	if (!w->run->stop)
		judge_content(d);
	if (w->run->stop)
		return;
	settle(w);
	harm(d, d->off);
	d->live = false;
}

/* --- the life --- */

/* Brings the cache into the state in which it is harmed. */
static bool prepare(struct damage *d)
{
	struct crash_world *w = d->w;
	const uint64_t head = atomic_load(&w->cache->log.head);

	w->no_faults = true;
	w->exploring = false;
	if (pc_rng_chance(&d->rng, 60))
		crash_do_flush(w);
	if (w->run->stop || !look_around(d) || !pick_place(d))
		return false;
	/* At page granularity the mark of a flush does not cover yet what the same flush made durable. */
	d->flushed = d->mark_pos >= head;
	d->live = ((is_data(d) && d->flushed) || (is_log(d) && d->len != 0)) && pc_rng_chance(&d->rng, 40);
	d->closed = !d->live && pc_rng_chance(&d->rng, 25);
	if (d->closed) {
		d->flushed = true;
		crash_do_close(w);
	}
	if (!d->live)
		settle(w);
	return !w->run->stop;
}

void crash_damaged_life(struct crash_world *w, uint32_t seed)
{
	struct damage *d = crash_must(calloc(1, sizeof(*d)));
	int rc = 0;

	d->w = w;
	d->rng.state = pc_rng_mix(seed);
	if (!prepare(d))
		goto out;
	w->doing = (struct crash_doing){.before = doing[d->zone], .nr = d->len, .after = d->live ? ", under the open cache" : ""};
	w->damaged = is_data(d) || !d->live;
	w->run->result->damages[d->zone]++;
	harm(d, d->off);
	if (d->zone == ZONE_BOTH_COPIES)
		harm(d, d->second_off);
	if (d->live && is_log(d))
		write_back_by_bad_log(d);
	if (!d->live && !w->run->stop) {
		rc = crash_try_open(w, w->run->config);
		judge_open(d, rc);
	}
	crash_note(w->run, (uint64_t)(uint32_t)rc << 8 | d->zone);
	if (rc == 0 && !w->run->stop)
		judge_content(d);
	/* Nothing can be stored where even the words that data is lost do not fit: what there is can be read. */
	if (rc == 0 && !w->run->stop && !(d->zone == ZONE_DIRTY && atomic_load(&w->cache->failstop) == PCACHE_E_FULL))
		cure(d);
out:
	w->damaged = false;
	free(d);
}
