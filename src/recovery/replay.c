/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replay: the log becomes the index again. Nothing is stored here.
 *
 *   1  The LOG segments from the tail on form a chain of consecutive ordinals.
 *   2  Every slot of the chain is looked at. The last mark is the highest low_pos of any valid mark, or what the tail record carries. A slot that does not
 *      validate below the mark is corruption; above it, an unfinished write.
 *   3  Ksets are applied in position order, by the code that applies live writes. Above the mark the data of a kset is verified first; one bad CRC rejects the whole
 *      kset, and a rejected key never masks. A key whose segment has another generation carries no data but masks.
 *
 * Media bytes are input: every value is checked before it is used (the decoders do), memory is bounded by the size of the log, each position is visited at most twice.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc.h"
#include "pcache/errors.h"
#include "recovery/gather.h"
#include "recovery/recovery.h"

#define TORN_LOGS_MAX 64u /* ksets that do not validate may together be so many times as long as the log */

void pc_replay_fini(struct pc_replay *replay)
{
	free(replay->holes.runs);
	free(replay->voids.runs);
	memset(replay, 0, sizeof(*replay));
}

/* ---- the chain -------------------------------------------------------------------------------------------------------- */

int pc_recovery_corrupt(struct pcache *cache, const char *what, uint64_t pos)
{
	pc_msg(&cache->msg, PCACHE_LOG_ERROR, "log is damaged: %s at position %llu", what, (unsigned long long)pos);
	return PCACHE_E_CORRUPT;
}

static int adopt_log_seg(struct pcache *cache, const struct pc_segrec *rec, uint64_t tail_ordinal,
			 uint64_t *max_ordinal, uint64_t *seg_nr)
{
	struct pc_log *log = &cache->log;

	if (rec->ordinal < tail_ordinal) {
		/* The tail record says that it is not needed; a crash came before its reuse. */
		pc_segmap_adopt(&cache->map, rec->seg_id, PC_SS_FREE);
		return 0;
	}
	if (rec->ordinal >= PC_ORDINAL_MAX || rec->ordinal - tail_ordinal >= cache->map.segment_nr)
		return pc_recovery_corrupt(cache, "ordinal out of bounds", 0);
	if (log->ring[rec->ordinal & (log->ring_nr - 1)].seg_id != PC_SEG_NONE)
		return pc_recovery_corrupt(cache, "two segments with one ordinal", rec->ordinal << log->slots_shift);
	pc_log_set_seg(log, rec->ordinal, rec->seg_id, rec->nonce);
	pc_segmap_adopt(&cache->map, rec->seg_id, PC_SS_LOG);
	*max_ordinal = PC_MAX(*max_ordinal, rec->ordinal);
	++*seg_nr;
	return 0;
}

static int adopt_segments(struct pcache *cache)
{
	struct pc_log *log = &cache->log;
	const struct pc_tail *tail = &cache->layout.tail;
	uint64_t tail_ordinal, max_ordinal = 0, seg_nr = 0;
	int rc;

	if (tail->log_tail_pos & (log->slots_per_seg - 1))
		return pc_recovery_corrupt(cache, "tail inside a segment", tail->log_tail_pos);
	tail_ordinal = pc_log_ordinal(log, tail->log_tail_pos);
	for (uint32_t i = 0; i < log->ring_nr; i++)
		log->ring[i].seg_id = PC_SEG_NONE;
	for (uint32_t id = 0; id < cache->map.segment_nr; id++) {
		const struct pc_segrec *rec = &cache->layout.segrecs[id];

		if (rec->type == PC_SEG_LOG) {
			rc = adopt_log_seg(cache, rec, tail_ordinal, &max_ordinal, &seg_nr);
			if (rc)
				return rc;
		} else if (rec->type == PC_SEG_DATA) {
			pc_segmap_adopt(&cache->map, id, PC_SS_DATA);
		}
	}
	if (seg_nr == 0 || max_ordinal - tail_ordinal + 1 != seg_nr)
		return pc_recovery_corrupt(cache, "chain of segments has a gap", tail->log_tail_pos);
	pc_segmap_adopt_done(&cache->map);
	atomic_store(&log->tail, tail->log_tail_pos);
	pc_log_set_cap_end(log, (max_ordinal + 1) << log->slots_shift);
	if (tail->dirty_tail_pos < tail->log_tail_pos || tail->dirty_tail_pos > atomic_load(&log->cap_end) ||
	    tail->mark_pos > atomic_load(&log->cap_end))
		return pc_recovery_corrupt(cache, "tail record out of bounds", tail->dirty_tail_pos);
	return 0;
}

/* ---- runs of positions ------------------------------------------------------------------------------------------------- */

/* Adds a run, joined to the one before if they touch in the same segment. */
static int add_run(struct pc_runs *runs, uint64_t pos, uint32_t slot_nr, uint32_t slots_shift)
{
	struct pc_run *last = runs->nr ? &runs->runs[runs->nr - 1] : NULL;

	if (last && last->pos + last->slot_nr == pos && last->pos >> slots_shift == pos >> slots_shift) {
		last->slot_nr += slot_nr;
		return 0;
	}
	if (runs->nr == runs->max) {
		size_t max = runs->max ? runs->max * 2 : 64;
		struct pc_run *grown = realloc(runs->runs, max * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		runs->runs = grown;
		runs->max = max;
	}
	runs->runs[runs->nr++] = (struct pc_run){ .pos = pos, .slot_nr = slot_nr };
	return 0;
}

/* ---- keys ---------------------------------------------------------------------------------------------------------------- */

enum key_state { KEY_LIVE, KEY_STALE, KEY_IMPOSSIBLE };

static enum key_state key_state(const struct pcache *cache, const struct pc_key *key)
{
	const struct pc_segrec *rec;

	if ((key->flags & PC_KEY_TYPE_MASK) != PC_KEY_DATA)
		return KEY_LIVE;
	rec = &cache->layout.segrecs[key->seg_id];
	if (key->gen < rec->gen)
		return KEY_STALE;
	return key->gen == rec->gen && rec->type == PC_SEG_DATA ? KEY_LIVE : KEY_IMPOSSIBLE;
}

enum data_state { DATA_GOOD, DATA_WRONG, DATA_UNREADABLE };

/* Whether the chunks of the key have their CRCs. One that cannot be read proves nothing, one that is wrong does. */
static enum data_state data_state(struct pcache *cache, const struct pc_key *key, const struct pcm_le32 *crcs)
{
	_Alignas(64) uint8_t chunk[PC_CHUNK_BYTES];
	uint32_t head = PC_GEOM_HEAD(key->geom), all_blk = head + key->len_blk + PC_GEOM_TAIL(key->geom);
	uint64_t off = pc_geo_segment_off(&cache->layout.super, key->seg_id) +
		       ((uint64_t)(key->seg_blk - head) << cache->block_shift);
	enum data_state state = DATA_GOOD;

	for (uint32_t start = 0, i = 0; start < all_blk; start += cache->chunk_blk, i++) {
		size_t len = (size_t)PC_MIN(cache->chunk_blk, all_blk - start) << cache->block_shift;

		if (pc_media_read(cache->media, off + ((uint64_t)start << cache->block_shift), chunk, len) != 0)
			state = DATA_UNREADABLE;
		else if (pc_crc32c(0, chunk, len) != pc_get32(crcs[i]))
			return DATA_WRONG;
	}
	return state;
}

/* Whether a kset above the mark was finished. *out_damaged_nr: keys of it that stand although their data is not right. */
static bool kset_is_finished(struct pcache *cache, const void *buf, const struct pc_kset *kset,
			     uint32_t *out_damaged_nr)
{
	struct pc_key_cursor cursor;
	struct pc_key key;
	const struct pcm_le32 *crcs;
	enum data_state state;

	*out_damaged_nr = 0;
	pc_key_first(buf, kset, &cache->layout.rules, &cursor);
	while (pc_key_next(&cursor, &key, &crcs)) {
		if ((key.flags & PC_KEY_TYPE_MASK) != PC_KEY_DATA || key_state(cache, &key) != KEY_LIVE || !crcs)
			continue;
		state = data_state(cache, &key, crcs);
		if (state == DATA_GOOD)
			continue;
		/*
		 * A crash leaves old or torn bytes, not bytes that cannot be read. So this write may have been acknowledged, and what is older must not show in its
		 * place: the key stands, and a read says what is lost. Nor can a crash spoil what was appended again: its data was durable before.
		 */
		if (state == DATA_WRONG && !(key.flags & PC_KEY_RELOGGED))
			return false;
		++*out_damaged_nr;
	}
	return true;
}

/*
 * A key to those that apply it. Above sure_pos it is not known yet whether they will; a key that cannot be then proves nothing. 0, PC_GATHER_STOPPED, or an error.
 */
static int gather_key(struct pcache *cache, struct pc_gather *gather, const struct pc_key *key,
		      const struct pcm_le32 *crcs, uint64_t pos, uint64_t sure_pos)
{
	bool dirty = pos >= cache->layout.tail.dirty_tail_pos && !(key->flags & PC_KEY_CLEAN);
	enum key_state state = key_state(cache, key);

	if (state == KEY_IMPOSSIBLE && pos >= sure_pos)
		return pc_gather_stop(gather, pos, sure_pos);
	if (state == KEY_IMPOSSIBLE)
		return pc_recovery_corrupt(cache, "a key points into a segment that never held its data", pos);
	return pc_gather_key(gather, key, crcs, pos, dirty ? PC_EXT_DIRTY : 0, state == KEY_STALE, sure_pos);
}

static int gather_kset(struct pcache *cache, struct pc_gather *gather, const void *buf, const struct pc_kset *kset,
		       uint64_t sure_pos)
{
	struct pc_key_cursor cursor;
	struct pc_key key;
	const struct pcm_le32 *crcs;
	int rc = 0;

	if (kset->type == PC_KSET_MARK && (kset->flags & PC_KSET_FLAG_FLUSH))
		return pc_gather_mark(gather, kset->pos, sure_pos);
	pc_key_first(buf, kset, &cache->layout.rules, &cursor);
	while (!rc && pc_key_next(&cursor, &key, &crcs))
		rc = gather_key(cache, gather, &key, crcs, kset->pos, sure_pos);
	return rc;
}

/* ---- first pass ---------------------------------------------------------------------------------------------------------- */

/* Whether a position of the tail record lies inside of a kset: write-back could never begin there. */
static bool tail_is_inside(const struct pc_tail *tail, const struct pc_kset *kset)
{
	return (tail->dirty_tail_pos > kset->pos && tail->dirty_tail_pos - kset->pos < kset->slot_nr) ||
	       (tail->mark_pos > kset->pos && tail->mark_pos - kset->pos < kset->slot_nr);
}

/* Below it no data needs to be looked at: it was durable, or a slot follows its data only after a fence. */
static uint64_t sure_pos_of(const struct pcache *cache, const struct pc_replay *replay)
{
	return cache->data_crc ? replay->mark_pos : UINT64_MAX;
}

/* A valid kset of the first pass. */
static int take_kset(struct pcache *cache, struct pc_replay *replay, struct pc_gather *gather, const void *buf,
		     const struct pc_kset *kset)
{
	int rc = 0;

	if (tail_is_inside(&cache->layout.tail, kset))
		return pc_recovery_corrupt(cache, "tail record inside of a kset", kset->pos);
	if (kset->type == PC_KSET_MARK) {
		replay->mark_pos = PC_MAX(replay->mark_pos, kset->mark_low_pos);
		if (kset->flags & PC_KSET_FLAG_FLUSH)
			replay->epoch_pos = kset->pos;
	}
	replay->key_nr += kset->key_nr;
	if (gather->resume_pos == UINT64_MAX && kset->type != PC_KSET_VOID)
		rc = gather_kset(cache, gather, buf, kset, sure_pos_of(cache, replay));
	return rc == PC_GATHER_STOPPED ? 0 : rc;
}

/* The same for a kset of one slot and one key, of one chunk. No position lies inside of it. */
static int take_one(struct pcache *cache, struct pc_replay *replay, struct pc_gather *gather, const struct pc_key *key,
		    uint64_t pos)
{
	const struct pcm_le32 crc = pc_le32(key->crc);
	int rc = 0;

	replay->key_nr++;
	if (gather->resume_pos == UINT64_MAX)
		rc = gather_key(cache, gather, key, cache->data_crc ? &crc : NULL, pos, sure_pos_of(cache, replay));
	return rc == PC_GATHER_STOPPED ? 0 : rc;
}

/* A slot where no valid kset starts; buf: what is there, NULL if it cannot be read. */
static int take_hole(struct pcache *cache, struct pc_replay *replay, const struct pc_log_reader *reader, uint64_t pos,
		     const void *buf)
{
	struct pc_log *log = &cache->log;
	bool closed = (cache->layout.tail.flags & PC_TAIL_FLAG_CLEAN_CLOSE) != 0;
	uint64_t log_slots = atomic_load(&log->cap_end) - atomic_load(&log->tail);

	/* Whether a write was acknowledged that had its key here, nobody knows; only a cache that was closed is known to end before. */
	if (!buf && !(closed && pos >= cache->layout.tail.mark_pos))
		return pc_recovery_corrupt(cache, "a slot cannot be read", pos);
	/*
	 * A torn kset may promise up to the rest of its segment, with a length that lay there before, and that a client may have chosen. Reading what many
	 * promise is bounded, by more than writes that a crash cut short ever do.
	 */
	if (reader->wasted_slots > TORN_LOGS_MAX * (log_slots + log->slots_per_seg))
		return pc_recovery_corrupt(cache, "too many torn ksets", pos);
	return add_run(&replay->holes, pos, 1, log->slots_shift);
}

/* Finds the end, the mark and the invalid positions below the end, and applies what lies below a mark. */
static int first_pass(struct pcache *cache, struct pc_log_reader *reader, struct pc_replay *replay,
		      struct pc_gather *gather)
{
	uint64_t pos = atomic_load(&cache->log.tail), cap_end = atomic_load(&cache->log.cap_end);
	struct pc_runs *holes = &replay->holes;
	int rc = 0;

	replay->end_pos = pos;
	replay->mark_pos = PC_MAX(cache->layout.tail.mark_pos, cache->layout.tail.dirty_tail_pos);
	while (pos < cap_end && !rc) {
		struct pc_kset kset;
		struct pc_key key;
		const void *buf;

		if (pc_log_reader_one(reader, pos, &key)) {
			rc = take_one(cache, replay, gather, &key, pos);
			replay->end_pos = ++pos;
		} else if (pc_log_reader_at(reader, pos, cap_end, &kset, &buf) == PC_VALID) {
			rc = take_kset(cache, replay, gather, buf, &kset);
			pos += kset.slot_nr;
			replay->end_pos = pos;
		} else {
			rc = take_hole(cache, replay, reader, pos, buf);
			pos++;
		}
	}
	if (rc)
		return rc;
	while (holes->nr && holes->runs[holes->nr - 1].pos >= replay->end_pos)
		holes->nr--;
	if (holes->nr && holes->runs[0].pos < replay->mark_pos)
		return pc_recovery_corrupt(cache, "a slot that was durable does not validate", holes->runs[0].pos);
	if (replay->end_pos < replay->mark_pos)
		return pc_recovery_corrupt(cache, "the log ends before its last mark", replay->end_pos);
	return gather->resume_pos == UINT64_MAX ? pc_gather_finish(gather, sure_pos_of(cache, replay)) : 0;
}

/* ---- second pass ----------------------------------------------------------------------------------------------------------- */

/* What the first pass could not apply: each kset at or above the mark with a look at its data. */
static int apply_kset(struct pcache *cache, struct pc_replay *replay, struct pc_gather *gather, const void *buf,
		      const struct pc_kset *kset)
{
	if (kset->type == PC_KSET_KEYS && kset->pos >= sure_pos_of(cache, replay)) {
		uint32_t damaged_nr;

		if (!kset_is_finished(cache, buf, kset, &damaged_nr)) {
			replay->key_nr -= kset->key_nr;
			return add_run(&replay->voids, kset->pos, kset->slot_nr, cache->log.slots_shift);
		}
		replay->damaged_nr += damaged_nr;
	}
	return kset->type == PC_KSET_VOID ? 0 : gather_kset(cache, gather, buf, kset, UINT64_MAX);
}

static int second_pass(struct pcache *cache, struct pc_log_reader *reader, struct pc_replay *replay,
		       struct pc_gather *gather)
{
	uint64_t pos = gather->resume_pos, cap_end = atomic_load(&cache->log.cap_end);
	size_t next_hole = 0;
	int rc = 0;

	pc_log_reader_reset(reader);
	while ((pos < replay->end_pos || next_hole < replay->holes.nr) && !rc) {
		const struct pc_run *hole = next_hole < replay->holes.nr ? &replay->holes.runs[next_hole] : NULL;
		struct pc_kset kset;
		const void *buf;

		if (hole && hole->pos <= pos) {
			rc = add_run(&replay->voids, hole->pos, hole->slot_nr, cache->log.slots_shift);
			pos = PC_MAX(pos, hole->pos + hole->slot_nr);
			next_hole++;
			continue;
		}
		if (pc_log_reader_at(reader, pos, cap_end, &kset, &buf) != PC_VALID)
			return pc_recovery_corrupt(cache, "a slot reads differently the second time", pos);
		rc = apply_kset(cache, replay, gather, buf, &kset);
		pos += kset.slot_nr;
	}
	return rc ? rc : pc_gather_finish(gather, UINT64_MAX);
}

int pc_recovery_replay(struct pcache *cache, struct pc_replay *replay)
{
	struct pc_log *log = &cache->log;
	struct pc_log_reader reader;
	struct pc_gather gather;
	int rc;

	memset(replay, 0, sizeof(*replay));
	rc = adopt_segments(cache);
	if (rc)
		return rc;
	rc = pc_log_reader_init(&reader, log);
	if (rc)
		return rc;
	pc_log_reader_all(&reader);
	rc = pc_gather_init(&gather, cache, atomic_load(&log->cap_end) - atomic_load(&log->tail));
	if (rc)
		goto out_reader;
	rc = first_pass(cache, &reader, replay, &gather);
	if (!rc)
		rc = second_pass(cache, &reader, replay, &gather);
	if (!rc)
		atomic_store(&log->head, replay->end_pos);
	if (!rc && replay->damaged_nr)
		pc_msg(&cache->msg, PCACHE_LOG_WARN,
		       "data of %llu keys is damaged: clean blocks of it are read from the backing, dirty ones are "
		       "lost",
		       (unsigned long long)replay->damaged_nr);
	replay->apply_ns = gather.apply_ns;
	pc_gather_fini(&gather);
out_reader:
	pc_log_reader_fini(&reader);
	return rc;
}

bool pc_recovery_needs_mend(const struct pcache *cache, const struct pc_replay *replay)
{
	return cache->layout.repair_nr != 0 || replay->voids.nr != 0 ||
	       !(cache->layout.tail.flags & PC_TAIL_FLAG_CLEAN_CLOSE) || replay->end_pos != cache->layout.tail.mark_pos;
}
