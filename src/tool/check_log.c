/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check, log: walks all slots from the tail to the end of the newest LOG segment, twice.
 *
 * The first walk finds the mark (below it everything was durable) and the end (after the last valid kset). Only with
 * both in hand can the second walk judge: a slot without a valid kset below the mark is damage, above it an unfinished
 * write, behind the end nothing at all. A kset at or above the mark counts only if the data of all its keys has the
 * right CRC; data of a relogged key was durable before, so a wrong CRC there is damage and never voids the kset. Keys
 * of the ksets that count are collected in position order.
 *
 * A kset that decodes is skipped as a whole, an invalid slot by one. Each decode that fails may read up to the rest of
 * the segment for its CRC; after the worth of 64 segments read in vain the rest of a segment is given up, so crafted
 * bytes cost bounded time. Memory: one segment, and less than three times the log for keys and CRCs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pcache/errors.h"
#include "tool/check_internal.h"

#define VAIN_SEGMENTS 64u

struct walk {
	struct check *check;
	const struct check_log_segment *segment;
	uint8_t *buf; /* the segment */
	bool first_walk;
	/* The current run of slots without a kset. */
	uint64_t gap_pos;
	uint64_t gap_nr;
	enum pc_valid gap_valid; /* the worst of them */
};

uint64_t check_pos_off(const struct check *check, uint64_t pos)
{
	uint64_t slot_nr = pc_geo_slots_per_segment(&check->super);
	uint32_t low = 0, high = check->log_segment_nr;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct check_log_segment *segment = &check->log_segments[middle];

		if (segment->ordinal == pos / slot_nr)
			return pc_geo_segment_off(&check->super, segment->seg_id) + pos % slot_nr * PC_SLOT_BYTES;
		if (segment->ordinal < pos / slot_nr)
			low = middle + 1;
		else
			high = middle;
	}
	return CHECK_NOWHERE;
}

/* Makes room for one more element; false without memory. */
static bool grow(void **array, size_t *room, size_t want_nr, size_t element_bytes)
{
	size_t new_room = *room ? *room : 1024;
	void *new_array;

	while (new_room < want_nr) {
		if (new_room > SIZE_MAX / 2 / element_bytes)
			return false;
		new_room *= 2;
	}
	if (new_room == *room)
		return true;
	new_array = realloc(*array, new_room * element_bytes);
	if (!new_array)
		return false;
	*array = new_array;
	*room = new_room;
	return true;
}

static bool keep_crcs(struct check *check, const struct pcm_le32 *crcs, uint32_t chunk_nr)
{
	void *array = check->crcs;
	uint32_t i;

	if (!grow(&array, &check->crc_room, check->crc_nr + chunk_nr, sizeof(*check->crcs)))
		return false;
	check->crcs = array;
	for (i = 0; i < chunk_nr; i++)
		check->crcs[check->crc_nr++] = pc_get32(crcs[i]);
	return true;
}

/* Notes whether the key still has its data; a generation that cannot be is damage, also of a key that is not seen. */
static void judge_generation(struct check *check, const struct pc_key *key, struct check_key *kept)
{
	const struct pc_segrec *rec;

	if ((key->flags & PC_KEY_TYPE_MASK) != PC_KEY_DATA)
		return;
	rec = &check->segrecs[key->seg_id];
	if (key->gen == rec->gen && (rec->type == PC_SEG_FREE || rec->type == PC_SEG_LOG))
		check_problem(check, CHECK_DAMAGE, check_pos_off(check, kept->pos),
			      "a key at position %" PRIu64 " points into segment %" PRIu32
			      ", which holds no data in this generation",
			      kept->pos, key->seg_id);
	if (rec->type != CHECK_SEG_LOST && key->gen > rec->gen)
		check_problem(check, CHECK_DAMAGE, check_pos_off(check, kept->pos),
			      "a key at position %" PRIu64 " has generation %" PRIu64 " of segment %" PRIu32
			      ", which is at %" PRIu64,
			      kept->pos, key->gen, key->seg_id, rec->gen);
	if (rec->type != CHECK_SEG_LOST && key->gen != rec->gen)
		kept->state |= CHECK_KEY_STALE;
}

static bool keep_key(struct check *check, uint64_t pos, const struct pc_key *key, const struct pcm_le32 *crcs)
{
	void *array = check->keys;
	struct check_key *kept;

	if (!grow(&array, &check->key_room, check->key_nr + 1, sizeof(*check->keys)))
		return false;
	check->keys = array;
	kept = &check->keys[check->key_nr];
	memset(kept, 0, sizeof(*kept));
	kept->vol_blk = key->vol_blk;
	kept->pos = pos;
	kept->seq = check->key_nr++;
	kept->crc_idx = check->crc_nr;
	kept->len_blk = key->len_blk;
	kept->seg_id = key->seg_id;
	kept->seg_blk = key->seg_blk;
	kept->geom = key->geom;
	kept->flags = key->flags;
	judge_generation(check, key, kept);
	return !crcs || keep_crcs(check, crcs, pc_key_chunk_nr(key, check->rules.block_bytes));
}

/* A key at or above the mark: is its data there? */
static bool key_is_finished(struct check *check, struct check_key *key, uint64_t *out_off)
{
	enum check_verdict verdict;

	if (check->no_data || !check->rules.data_crc || (key->flags & PC_KEY_TYPE_MASK) != PC_KEY_DATA)
		return true;
	if (key->flags & PC_KEY_RELOGGED || key->state & CHECK_KEY_STALE)
		return true;
	verdict = check_data(check, key, key->seg_blk, key->len_blk, out_off);
	if (verdict == CHECK_DATA_UNREADABLE)
		check_problem(check, CHECK_DAMAGE, *out_off, "data of position %" PRIu64 " cannot be read", key->pos);
	else
		key->state |= CHECK_KEY_VERIFIED;
	return verdict == CHECK_DATA_GOOD;
}

/* Second walk: collects the keys of a kset, or none of them if its data is not all there. 0 or -ENOMEM. */
static int replay_keys(struct check *check, const uint8_t *slot, const struct pc_kset *kset)
{
	size_t first_key = check->key_nr, first_crc = check->crc_nr;
	const struct pcm_le32 *crcs;
	struct pc_key_cursor cursor;
	struct pc_key key;
	uint64_t wrong_off;
	size_t i;

	pc_key_first(slot, kset, &check->rules, &cursor);
	while (pc_key_next(&cursor, &key, &crcs)) {
		if (!keep_key(check, kset->pos, &key, crcs))
			return -ENOMEM;
	}
	for (i = first_key; i < check->key_nr && kset->pos >= check->mark_pos; i++) {
		if (key_is_finished(check, &check->keys[i], &wrong_off))
			continue;
		check_problem(check, check_if_crashed(check), check_pos_off(check, kset->pos),
			      "an unfinished write at position %" PRIu64 ": its data at 0x%" PRIx64 " has another CRC",
			      kset->pos, wrong_off);
		check->counts.unfinished++;
		check->key_nr = first_key;
		check->crc_nr = first_crc;
	}
	check->counts.keys += check->key_nr - first_key;
	return 0;
}

static void count_kset(struct check *check, const struct pc_kset *kset)
{
	check->counts.ksets++;
	check->end_pos = kset->pos + kset->slot_nr;
	if (kset->type == PC_KSET_VOID)
		check->counts.voids++;
	if (kset->type != PC_KSET_MARK)
		return;
	check->counts.marks++;
	check->mark_pos = PC_MAX(check->mark_pos, kset->mark_low_pos);
}

/* Judges nr slots from pos on that hold no valid kset and lie on one side of the mark. */
static void judge_gap(struct walk *walk, uint64_t pos, uint64_t nr)
{
	struct check *check = walk->check;
	uint64_t off = check_pos_off(check, pos);

	if (pos < check->mark_pos)
		check_problem(check, CHECK_DAMAGE, off,
			      "%" PRIu64 " slots from position %" PRIu64
			      " hold no valid kset (%s), but everything below %" PRIu64 " was durable",
			      nr, pos, pc_valid_to_text(walk->gap_valid), check->mark_pos);
	else
		check_problem(check, check_if_crashed(check), off,
			      "%" PRIu64 " slots from position %" PRIu64 " hold no valid kset (%s): unfinished writes",
			      nr, pos, pc_valid_to_text(walk->gap_valid));
}

static void end_gap(struct walk *walk)
{
	uint64_t stop = PC_MAX(walk->check->end_pos, walk->check->mark_pos);
	uint64_t pos = walk->gap_pos, end = PC_MIN(walk->gap_pos + walk->gap_nr, stop);

	walk->gap_nr = 0;
	if (walk->first_walk || pos >= end)
		return;
	if (pos < walk->check->mark_pos && walk->check->mark_pos < end) {
		judge_gap(walk, pos, walk->check->mark_pos - pos);
		pos = walk->check->mark_pos;
	}
	judge_gap(walk, pos, end - pos);
}

static void add_to_gap(struct walk *walk, uint64_t pos, enum pc_valid valid)
{
	if (walk->gap_nr++ == 0) {
		walk->gap_pos = pos;
		walk->gap_valid = valid;
	}
	if (walk->gap_valid == PC_INVALID_IDENTITY)
		walk->gap_valid = valid;
}

/* 0 or -ENOMEM. */
static int walk_slots(struct walk *walk)
{
	struct check *check = walk->check;
	uint32_t slot_nr = pc_geo_slots_per_segment(&check->super), slot = 0;
	uint64_t base_pos = walk->segment->ordinal * slot_nr;
	uint64_t vain_left = (uint64_t)slot_nr * VAIN_SEGMENTS;
	struct pc_kset kset;
	int err;

	while (slot < slot_nr) {
		const uint8_t *at = walk->buf + (size_t)slot * PC_SLOT_BYTES;
		enum pc_valid valid;

		valid = pc_kset_decode(at, slot_nr - slot, base_pos + slot, walk->segment->nonce, &check->rules, &kset);
		if (valid != PC_VALID) {
			add_to_gap(walk, base_pos + slot, valid);
			slot++;
			if (valid == PC_INVALID_IDENTITY)
				continue;
			vain_left -= PC_MIN(vain_left, (uint64_t)(slot_nr - slot));
			if (vain_left)
				continue;
			if (walk->first_walk)
				check_problem(check, CHECK_DAMAGE, check_pos_off(check, base_pos + slot),
					      "too many damaged ksets: the rest of this log segment is not checked");
			break;
		}
		end_gap(walk);
		if (walk->first_walk)
			count_kset(check, &kset);
		err = walk->first_walk || kset.type != PC_KSET_KEYS ? 0 : replay_keys(check, at, &kset);
		if (err)
			return err;
		slot += kset.slot_nr;
	}
	end_gap(walk);
	return 0;
}

/* What cannot be read becomes zeroes, which hold no kset. */
static void read_segment(struct walk *walk)
{
	struct check *check = walk->check;
	uint64_t off = pc_geo_segment_off(&check->super, walk->segment->seg_id);
	uint32_t at;

	if (pc_media_read(check->media, off, walk->buf, check->super.segment_bytes) == 0)
		return;
	for (at = 0; at < check->super.segment_bytes; at += PC_PAGE_BYTES) {
		int err = pc_media_read(check->media, off + at, walk->buf + at, PC_PAGE_BYTES);

		if (err == 0)
			continue;
		memset(walk->buf + at, 0, PC_PAGE_BYTES);
		if (walk->first_walk)
			check_problem(check, CHECK_DAMAGE, off + at, "a page of the log cannot be read: %s",
				      pcache_strerror(err));
	}
}

static int walk_log(struct check *check, uint8_t *buf, bool first_walk)
{
	struct walk walk = { .check = check, .buf = buf, .first_walk = first_walk };
	uint32_t i;
	int err;

	for (i = 0; i < check->log_segment_nr; i++) {
		walk.segment = &check->log_segments[i];
		read_segment(&walk);
		err = walk_slots(&walk);
		if (err)
			return err;
		check_progress(check, i + (first_walk ? 0 : check->log_segment_nr),
			       (uint64_t)check->log_segment_nr * 4);
	}
	return 0;
}

static void check_positions(struct check *check)
{
	uint64_t off = pc_geo_tail_off(&check->super, 0);
	uint64_t slot_nr = pc_geo_slots_per_segment(&check->super), last_pos;

	if (check->log_segment_nr == 0)
		return;
	last_pos = (check->log_segments[check->log_segment_nr - 1].ordinal + 1) * slot_nr;
	if (check->tail.dirty_tail_pos > check->end_pos)
		check_problem(check, CHECK_DAMAGE, off, "the dirty tail is %" PRIu64 ", but the log ends at %" PRIu64,
			      check->tail.dirty_tail_pos, check->end_pos);
	if (check->mark_pos > last_pos)
		check_problem(check, CHECK_DAMAGE, off,
			      "everything below %" PRIu64 " was durable, but the log has room up to %" PRIu64 " only",
			      check->mark_pos, last_pos);
}

int check_log(struct check *check)
{
	uint8_t *buf = aligned_alloc(PC_PAGE_BYTES, check->super.segment_bytes);
	int err;

	if (!buf)
		return -ENOMEM;
	check->mark_pos = PC_MAX(check->tail.mark_pos,
				 check->tail.dirty_tail_pos); /* what is on the backing was durable before */
	check->end_pos = check->tail.log_tail_pos;
	err = walk_log(check, buf, true);
	if (err == 0) {
		check_positions(check);
		err = walk_log(check, buf, false);
	}
	free(buf);
	return err;
}
