/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check, log: walks all slots from the tail to the end of the newest LOG segment, twice.
 *
 * The first walk finds the mark (below it everything was durable) and the end (after the last valid kset). Only with
 * both in hand can the second walk judge: a slot without a valid kset below the mark is damage, above it an unfinished
 * write, behind the end nothing at all. But a CRC that is right over values that cannot be is damage anywhere: no crash does that.
 * A kset at or above the mark counts only if the data of all its keys has the right CRC; data of a relogged key was durable before, so a wrong CRC
 * there is damage and never voids the kset. Keys of the ksets that count are collected in position order.
 *
 * A kset that is sound is skipped as a whole, another slot by one. Each that is not may read up to the rest of the segment for its CRC; the sum of that
 * is bounded, so crafted bytes cost bounded time. Memory: one segment, a bit per slot, and less than three times the log for keys and CRCs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pcache/errors.h"
#include "tool/check_internal.h"

#define TORN_LOGS_MAX \
	64u /* rule K15: ksets that break K3 or a later rule may together be so many times as long as the log */

struct walk {
	struct check *check;
	const struct check_log_segment *segment;
	uint8_t *buf; /* the segment */
	bool first_walk;
	/* The current run of slots without a kset. */
	uint64_t gap_pos;
	uint64_t gap_nr;
	uint64_t torn_slots; /* that ksets which are none promised */
	enum check_rule gap_rule; /* what the first of them that is more than a stranger breaks */
};

static const struct check_log_segment *check_log_segment(const struct check *check, uint64_t ordinal)
{
	uint32_t low = 0, high = check->log_segment_nr;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct check_log_segment *segment = &check->log_segments[middle];

		if (segment->ordinal == ordinal)
			return segment;
		if (segment->ordinal < ordinal)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

uint64_t check_pos_off(const struct check *check, uint64_t pos)
{
	const uint64_t slot_nr = pc_geo_slots_per_segment(&check->super);
	const struct check_log_segment *segment = check_log_segment(check, pos / slot_nr);

	if (!segment)
		return CHECK_NOWHERE;
	return pc_geo_segment_off(&check->super, segment->seg_id) + pos % slot_nr * PC_SLOT_BYTES;
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
	uint64_t off;

	if ((key->flags & PC_KEY_TYPE_MASK) != PC_KEY_DATA)
		return;
	rec = &check->segrecs[key->seg_id];
	off = check_pos_off(check, kept->pos);
	if (rec->type == CHECK_SEG_LOST)
		return;
	if (key->gen != rec->gen)
		kept->state |= CHECK_KEY_STALE;
	if (key->gen > rec->gen)
		check_problem(check, CHECK_Y16, CHECK_DAMAGE, off,
			      "a key at position %" PRIu64 " has generation %" PRIu64 " of segment %" PRIu32
			      ", which is at %" PRIu64,
			      kept->pos, key->gen, key->seg_id, rec->gen);
	else if (key->gen == rec->gen && rec->type != PC_SEG_DATA)
		check_problem(check, CHECK_Y17, CHECK_DAMAGE, off,
			      "a key at position %" PRIu64 " points into segment %" PRIu32
			      ", which holds no data in this generation",
			      kept->pos, key->seg_id);
	else
		return;
	kept->state |= CHECK_KEY_IMPOSSIBLE | CHECK_KEY_STALE;
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
	if (key->state & CHECK_KEY_STALE || check->segrecs[key->seg_id].type == CHECK_SEG_LOST)
		return true;
	verdict = check_data(check, key, key->seg_blk, key->len_blk, out_off);
	key->state |= CHECK_KEY_VERIFIED;
	if (verdict == CHECK_DATA_UNREADABLE)
		check_problem(check, CHECK_F3, CHECK_DAMAGE, *out_off, "data of position %" PRIu64 " cannot be read",
			      key->pos);
	else if (verdict == CHECK_DATA_WRONG && key->flags & PC_KEY_RELOGGED)
		check_problem(check, CHECK_Y18, CHECK_DAMAGE, *out_off,
			      "data that the key at position %" PRIu64 " repeats has another CRC", key->pos);
	/* What cannot be read proves nothing: the write may have been acknowledged. */
	return verdict != CHECK_DATA_WRONG || key->flags & PC_KEY_RELOGGED;
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
		check_problem(check, CHECK_K14, check_if_crashed(check), check_pos_off(check, kset->pos),
			      "an unfinished write at position %" PRIu64 ": its data at 0x%" PRIx64 " has another CRC",
			      kset->pos, wrong_off);
		check->counts.unfinished++;
		check->key_nr = first_key;
		check->crc_nr = first_crc;
	}
	check->counts.keys += check->key_nr - first_key;
	return 0;
}

static uint64_t slot_idx(const struct walk *walk, uint64_t pos)
{
	const uint64_t slot_nr = pc_geo_slots_per_segment(&walk->check->super);

	return (uint64_t)(walk->segment - walk->check->log_segments) * slot_nr + pos % slot_nr;
}

/* First walk. */
static void count_kset(struct walk *walk, const struct pc_kset *kset)
{
	struct check *check = walk->check;
	uint32_t i;

	check->counts.ksets++;
	check->end_pos = kset->pos + kset->slot_nr;
	for (i = 1; i < kset->slot_nr; i++) {
		const uint64_t idx = slot_idx(walk, kset->pos + i);

		check->inside[idx / 8] |= (uint8_t)(1u << idx % 8);
	}
	if (kset->type == PC_KSET_VOID)
		check->counts.voids++;
	if (kset->type != PC_KSET_MARK)
		return;
	check->counts.marks++;
	check->mark_pos = PC_MAX(check->mark_pos, kset->mark_low_pos);
}

/* Second walk. 0 or -ENOMEM. */
static int replay_kset(struct check *check, const uint8_t *slot, const struct pc_kset *kset)
{
	if (kset->type == PC_KSET_KEYS)
		return replay_keys(check, slot, kset);
	if (kset->type == PC_KSET_MARK && check_pos_is_inside(check, kset->mark_low_pos))
		check_problem(check, CHECK_K16, CHECK_DAMAGE, check_pos_off(check, kset->pos),
			      "the mark at position %" PRIu64 " names position %" PRIu64
			      ", which lies inside of a kset",
			      kset->pos, kset->mark_low_pos);
	return 0;
}

/* Judges nr slots from pos on that hold no valid kset and lie on one side of the mark. */
static void judge_gap(struct walk *walk, uint64_t pos, uint64_t nr)
{
	struct check *check = walk->check;
	const char *why = walk->gap_rule == CHECK_K1 ? "none of this segment's life begins here"
						     : check_rule_statement(walk->gap_rule);
	const char *not = walk->gap_rule == CHECK_K1 ? "" : "not true that ";
	const uint64_t off = check_pos_off(check, pos);

	if (walk->gap_rule > CHECK_K3)
		check_problem(check, walk->gap_rule, CHECK_DAMAGE, off,
			      "the kset at position %" PRIu64 " has a good CRC over what cannot be: %s%s", pos, not,
			      why);
	else if (pos < check->mark_pos)
		check_problem(check, walk->gap_rule, CHECK_DAMAGE, off,
			      "%" PRIu64 " slots from position %" PRIu64
			      " hold no valid kset (%s%s), but everything below %" PRIu64 " was durable",
			      nr, pos, not, why, check->mark_pos);
	else
		check_problem(check, walk->gap_rule, check_if_crashed(check), off,
			      "%" PRIu64 " slots from position %" PRIu64
			      " hold no valid kset (%s%s): unfinished writes",
			      nr, pos, not, why);
}

static void end_gap(struct walk *walk)
{
	uint64_t stop = PC_MAX(walk->check->end_pos, walk->check->mark_pos);
	uint64_t pos = walk->gap_pos, end = walk->gap_pos + walk->gap_nr;

	if (walk->gap_rule <= CHECK_K3)
		end = PC_MIN(end, stop);
	if (walk->gap_nr == 0 || walk->first_walk || pos >= end) {
		walk->gap_nr = 0;
		return;
	}
	walk->gap_nr = 0;
	if (walk->gap_rule <= CHECK_K3 && pos < walk->check->mark_pos && walk->check->mark_pos < end) {
		judge_gap(walk, pos, walk->check->mark_pos - pos);
		pos = walk->check->mark_pos;
	}
	judge_gap(walk, pos, end - pos);
}

/* A kset that breaks a rule ends the gap before it and begins one, so that its offset is told. */
static void add_to_gap(struct walk *walk, uint64_t pos, enum check_rule rule)
{
	if (rule != CHECK_K1)
		end_gap(walk);
	if (walk->gap_nr++ == 0) {
		walk->gap_pos = pos;
		walk->gap_rule = rule;
	}
}

/* Counts what was read of a kset that is not one. False: too much together. */
static bool may_be_torn(struct walk *walk, const uint8_t *at, uint64_t pos)
{
	struct check *check = walk->check;
	const uint64_t log_slots = (check->log_segment_nr + UINT64_C(1)) * pc_geo_slots_per_segment(&check->super);
	struct pcm_kset header;

	memcpy(&header, at, sizeof(header));
	walk->torn_slots += pc_get32(header.slot_nr);
	if (walk->torn_slots <= TORN_LOGS_MAX * log_slots)
		return true;
	if (walk->first_walk)
		check_problem(check, CHECK_K15, CHECK_DAMAGE, check_pos_off(check, pos),
			      "damaged ksets promise more slots than the log has: from position %" PRIu64
			      " on it is not checked",
			      pos);
	return false;
}

/* 0, 1 (the walk ends here) or -ENOMEM. */
static int walk_slots(struct walk *walk)
{
	struct check *check = walk->check;
	uint32_t slot_nr = pc_geo_slots_per_segment(&check->super), slot = 0;
	uint64_t base_pos = walk->segment->ordinal * slot_nr;
	struct pc_kset kset;

	while (slot < slot_nr) {
		const uint8_t *at = walk->buf + (size_t)slot * PC_SLOT_BYTES;
		const enum check_rule broken = check_explain_kset(at, slot_nr - slot, base_pos + slot,
								  walk->segment->nonce, &check->rules, &kset);

		if (broken) {
			add_to_gap(walk, base_pos + slot, broken);
			if (broken > CHECK_K2 && !may_be_torn(walk, at, base_pos + slot))
				return 1;
			slot++;
			continue;
		}
		end_gap(walk);
		if (walk->first_walk)
			count_kset(walk, &kset);
		else if (replay_kset(check, at, &kset) < 0)
			return -ENOMEM;
		slot += kset.slot_nr;
	}
	end_gap(walk);
	return 0;
}

/* Slots that cannot be read become zeroes, which hold no kset. What a cache that was closed has behind its end is not missed. */
static void read_slots(struct walk *walk, uint64_t off, uint32_t first, uint32_t nr)
{
	struct check *check = walk->check;
	const uint64_t base_pos = walk->segment->ordinal * pc_geo_slots_per_segment(&check->super);
	uint32_t i;
	int err;

	for (i = first; i < first + nr; i++) {
		err = pc_media_read(check->media, off + (uint64_t)i * PC_SLOT_BYTES,
				    walk->buf + (size_t)i * PC_SLOT_BYTES, PC_SLOT_BYTES);
		if (err == 0)
			continue;
		memset(walk->buf + (size_t)i * PC_SLOT_BYTES, 0, PC_SLOT_BYTES);
		if (walk->first_walk)
			check_problem(check, CHECK_F3,
				      check->clean_close && base_pos + i >= check->tail.mark_pos ? CHECK_NOTE
												 : CHECK_DAMAGE,
				      off + (uint64_t)i * PC_SLOT_BYTES, "a slot of the log cannot be read: %s",
				      pcache_strerror(err));
	}
}

static void read_segment(struct walk *walk)
{
	struct check *check = walk->check;
	const uint32_t page_slots = PC_PAGE_BYTES / PC_SLOT_BYTES;
	uint64_t off = pc_geo_segment_off(&check->super, walk->segment->seg_id);
	uint32_t at;

	if (pc_media_read(check->media, off, walk->buf, check->super.segment_bytes) == 0)
		return;
	for (at = 0; at < pc_geo_slots_per_segment(&check->super); at += page_slots) {
		if (pc_media_read(check->media, off + (uint64_t)at * PC_SLOT_BYTES,
				  walk->buf + (size_t)at * PC_SLOT_BYTES, PC_PAGE_BYTES) != 0)
			read_slots(walk, off, at, page_slots);
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
			return err < 0 ? err : 0;
		check_progress(check, i + (first_walk ? 0 : check->log_segment_nr),
			       (uint64_t)check->log_segment_nr * 4);
	}
	return 0;
}

bool check_pos_is_inside(const struct check *check, uint64_t pos)
{
	const uint64_t slot_nr = pc_geo_slots_per_segment(&check->super);
	const struct check_log_segment *segment = check_log_segment(check, pos / slot_nr);
	uint64_t idx;

	if (!segment)
		return false;
	idx = (uint64_t)(segment - check->log_segments) * slot_nr + pos % slot_nr;
	return check->inside[idx / 8] >> idx % 8 & 1;
}

/* The positions of the tail record against what the log holds; after the first walk. Raises the mark by those that can be. */
static void check_positions(struct check *check)
{
	const uint64_t slot_nr = pc_geo_slots_per_segment(&check->super);
	const struct pc_tail *tail = &check->tail;
	uint64_t room_pos;

	if (check->log_segment_nr == 0)
		return;
	room_pos = (check->log_segments[check->log_segment_nr - 1].ordinal + 1) * slot_nr;
	if (tail->mark_pos > room_pos)
		check_problem(check, CHECK_T11, CHECK_DAMAGE, check->tail_off,
			      "everything below %" PRIu64 " was durable, but the log has room up to %" PRIu64 " only",
			      tail->mark_pos, room_pos);
	else
		check->mark_pos = PC_MAX(check->mark_pos, tail->mark_pos);
	/* What is on the backing was durable before. */
	if (tail->dirty_tail_pos > PC_MAX(check->end_pos, check->mark_pos))
		check_problem(check, CHECK_T10, CHECK_DAMAGE, check->tail_off,
			      "the dirty tail is %" PRIu64 ", but the log ends at %" PRIu64, tail->dirty_tail_pos,
			      check->end_pos);
	else
		check->mark_pos = PC_MAX(check->mark_pos, tail->dirty_tail_pos);
	if (check->clean_close && tail->mark_pos < check->end_pos)
		check_problem(check, CHECK_T12, CHECK_DAMAGE, check->tail_off,
			      "closed with everything below %" PRIu64 " durable, but the log ends at %" PRIu64,
			      tail->mark_pos, check->end_pos);
	if (check_pos_is_inside(check, tail->dirty_tail_pos) || check_pos_is_inside(check, tail->mark_pos))
		check_problem(check, CHECK_T13, CHECK_DAMAGE, check->tail_off,
			      "the dirty tail %" PRIu64 " or the mark %" PRIu64 " lies inside of a kset",
			      tail->dirty_tail_pos, tail->mark_pos);
}

int check_log(struct check *check)
{
	const uint64_t slot_nr = (uint64_t)check->log_segment_nr * pc_geo_slots_per_segment(&check->super);
	uint8_t *buf = aligned_alloc(PC_PAGE_BYTES, check->super.segment_bytes);
	int err = -ENOMEM;

	check->inside = calloc(slot_nr / 8 + 1, 1);
	if (buf && check->inside) {
		check->end_pos = check->tail.log_tail_pos;
		err = walk_log(check, buf, true);
	}
	if (err == 0) {
		check_positions(check);
		err = walk_log(check, buf, false);
	}
	free(buf);
	return err;
}
