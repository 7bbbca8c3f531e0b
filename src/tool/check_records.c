/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check, records: superblocks, tail records, segment records, and the chain that the LOG segments form.
 *
 * Every record exists twice. An update writes the older copy and then the other, so a crash leaves one copy torn, or
 * one copy one step behind: both need repair and lose nothing. What no crash explains is damage: both copies bad, equal
 * sequence numbers with different content, copies more than one step apart.
 *
 * The newest valid copy counts from here on. Without a superblock nothing can be found, and the check ends; without a
 * tail record the log cannot be placed, and only the records are checked.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pcache/errors.h"
#include "tool/check_internal.h"

static const char zone_names[2] = { 'A', 'B' };

/* What one copy of a record says. */
struct copy {
	uint64_t off;
	uint64_t seq;
	enum pc_valid valid;
	int read_err; /* it could not be read: valid is meaningless */
};

static bool copy_is_good(const struct copy *copy)
{
	return copy->read_err == 0 && copy->valid == PC_VALID;
}

static const char *copy_reason(const struct copy *copy)
{
	return copy->read_err ? pcache_strerror(copy->read_err) : pc_valid_to_text(copy->valid);
}

/*
 * Judges a pair of copies and names the newest: 0 or 1, or -1 if both are bad. same: their contents are equal apart
 * from seq. step_is_repair: a pair of valid copies one step apart needs no crash since the last close to be explained.
 */
static int judge_copies(struct check *check, const char *what, const struct copy copies[2], bool same,
			bool step_is_repair)
{
	bool good[2] = { copy_is_good(&copies[0]), copy_is_good(&copies[1]) };
	uint64_t step;
	int i;

	if (!good[0] && !good[1]) {
		check_problem(check, CHECK_DAMAGE, copies[0].off,
			      "%s: both copies are bad (A: %s; B at 0x%" PRIx64 ": %s)", what, copy_reason(&copies[0]),
			      copies[1].off, copy_reason(&copies[1]));
		return -1;
	}
	for (i = 0; i < 2; i++) {
		if (!good[i]) {
			check_problem(check, CHECK_REPAIR, copies[i].off, "%s, copy %c: %s; the other copy is good",
				      what, zone_names[i], copy_reason(&copies[i]));
			return !i;
		}
	}
	i = copies[1].seq > copies[0].seq;
	step = copies[i].seq - copies[!i].seq;
	if (step == 0 && !same)
		check_problem(check, CHECK_DAMAGE, copies[0].off,
			      "%s: two valid copies of sequence %" PRIu64 " differ (B at 0x%" PRIx64 ")", what,
			      copies[0].seq, copies[1].off);
	else if (step == 1 && (step_is_repair || !check->clean_close))
		check_problem(check, CHECK_REPAIR, copies[!i].off, "%s, copy %c: one update behind the other copy",
			      what, zone_names[!i]);
	else if (step > 0)
		check_problem(check, CHECK_DAMAGE, copies[!i].off,
			      "%s, copy %c: %" PRIu64 " updates behind the other copy", what, zone_names[!i], step);
	return i;
}

/* Compared as they are on media, which has no padding. */
static bool supers_are_equal(const struct pc_super *a, const struct pc_super *b)
{
	struct pc_super same_seq = *a;
	struct pcm_super media_a, media_b;

	same_seq.seq = b->seq;
	pc_super_encode(&same_seq, &media_a);
	pc_super_encode(b, &media_b);
	return memcmp(&media_a, &media_b, sizeof(media_a)) == 0;
}

static void load_super(struct check *check, struct copy *copy, struct pc_super *out_super)
{
	struct pcm_super media;

	memset(out_super, 0, sizeof(*out_super));
	copy->read_err = pc_media_read(check->media, copy->off, &media, sizeof(media));
	if (copy->read_err)
		return;
	copy->valid = pc_super_decode(&media, out_super);
	copy->seq = out_super->seq;
}

/* The code for media whose superblocks are both bad: no cache at all, a newer one, or 0 for a damaged one. */
static int no_super_error(const struct copy copies[2])
{
	int i;

	for (i = 0; i < 2; i++) {
		if (copies[i].read_err == 0 && copies[i].valid == PC_INVALID_VERSION)
			return PCACHE_E_VERSION;
	}
	for (i = 0; i < 2; i++) {
		if (copies[i].read_err || copies[i].valid != PC_INVALID_MAGIC)
			return 0;
	}
	return PCACHE_E_NOT_A_CACHE;
}

int check_supers(struct check *check)
{
	struct copy copies[2] = { { .off = 0 } };
	struct pc_super supers[2];
	bool same;
	int newest, err;

	if (check->media->len_bytes < PC_PAGE_BYTES)
		return PCACHE_E_NOT_A_CACHE;
	load_super(check, &copies[0], &supers[0]);
	copies[1].off = check->media->len_bytes - PC_PAGE_BYTES;
	if (copy_is_good(&copies[0]))
		copies[1].off = pc_geo_super_off(&supers[0], 1);
	load_super(check, &copies[1], &supers[1]);
	if (!copy_is_good(&copies[0]) && !copy_is_good(&copies[1])) {
		err = no_super_error(copies);
		if (err)
			return err;
	}
	same = copy_is_good(&copies[0]) && copy_is_good(&copies[1]) && supers_are_equal(&supers[0], &supers[1]);
	newest = judge_copies(check, "superblock", copies, same, true);
	if (newest < 0)
		return 1;
	check->super = supers[newest];
	pc_kset_rules_of(&check->super, &check->rules);
	if (check->super.ro_compat & ~(uint64_t)PC_FEATURES_RO_COMPAT_KNOWN)
		check_problem(check, CHECK_NOTE, copies[newest].off,
			      "features 0x%" PRIx64 " are not known: this version opens the cache read-only",
			      check->super.ro_compat);
	if (check->media->len_bytes < check->super.media_bytes) {
		check_problem(check, CHECK_DAMAGE, check->media->len_bytes,
			      "the file ends here, but the superblock says 0x%" PRIx64 " bytes",
			      check->super.media_bytes);
		return 1;
	}
	return 0;
}

static bool tails_are_equal(const struct pc_tail *a, const struct pc_tail *b)
{
	return a->flags == b->flags && a->gc_percent == b->gc_percent && a->log_tail_pos == b->log_tail_pos &&
	       a->dirty_tail_pos == b->dirty_tail_pos && a->mark_pos == b->mark_pos;
}

static void check_tail_values(struct check *check, uint64_t off)
{
	uint64_t slot_nr = pc_geo_slots_per_segment(&check->super);

	if (check->tail.log_tail_pos < slot_nr || check->tail.log_tail_pos % slot_nr)
		check_problem(check, CHECK_DAMAGE, off,
			      "tail: the log begins at position %" PRIu64 ", which is not the first slot of a segment",
			      check->tail.log_tail_pos);
	if (check->tail.dirty_tail_pos < check->tail.log_tail_pos)
		check_problem(check, CHECK_DAMAGE, off,
			      "tail: the dirty tail %" PRIu64 " lies before the log, which begins at %" PRIu64,
			      check->tail.dirty_tail_pos, check->tail.log_tail_pos);
}

void check_tails(struct check *check)
{
	struct copy copies[2] = { { .off = pc_geo_tail_off(&check->super, 0) },
				  { .off = pc_geo_tail_off(&check->super, 1) } };
	struct pc_tail tails[2];
	struct pcm_tail media;
	bool same;
	int i;

	memset(tails, 0, sizeof(tails));
	for (i = 0; i < 2; i++) {
		copies[i].read_err = pc_media_read(check->media, copies[i].off, &media, sizeof(media));
		if (copies[i].read_err)
			continue;
		copies[i].valid = pc_tail_decode(&media, &tails[i]);
		copies[i].seq = tails[i].seq;
	}
	same = copy_is_good(&copies[0]) && copy_is_good(&copies[1]) && tails_are_equal(&tails[0], &tails[1]);
	i = judge_copies(check, "tail record", copies, same, true);
	if (i < 0)
		return;
	check->tail = tails[i];
	check->tail_valid = true;
	check->clean_close = (check->tail.flags & PC_TAIL_FLAG_CLEAN_CLOSE) != 0;
	check_tail_values(check, copies[i].off);
}

/* Pages of segment records in both zones. */
struct segrec_pages {
	uint8_t bytes[2][PC_PAGE_BYTES];
	int read_err[2];
};

static void check_segrec(struct check *check, const struct segrec_pages *pages, uint32_t seg_id)
{
	uint64_t page_idx = seg_id % (PC_PAGE_BYTES / sizeof(struct pcm_segrec));
	struct copy copies[2];
	struct pc_segrec recs[2];
	struct pcm_segrec media;
	char what[32];
	bool same;
	int i;

	memset(recs, 0, sizeof(recs));
	memset(copies, 0, sizeof(copies));
	for (i = 0; i < 2; i++) {
		copies[i].off = pc_geo_segrec_off(&check->super, (unsigned int)i, seg_id);
		copies[i].read_err = pages->read_err[i];
		if (copies[i].read_err)
			continue;
		memcpy(&media, pages->bytes[i] + page_idx * sizeof(media), sizeof(media));
		copies[i].valid = pc_segrec_decode(&media, seg_id, &recs[i]);
		copies[i].seq = recs[i].seq;
	}
	same = recs[0].type == recs[1].type && recs[0].gen == recs[1].gen && recs[0].ordinal == recs[1].ordinal &&
	       recs[0].nonce == recs[1].nonce;
	snprintf(what, sizeof(what), "segment record %" PRIu32, seg_id);
	i = judge_copies(check, what, copies, same, false);
	if (i < 0)
		check->segrecs[seg_id].type = CHECK_SEG_LOST;
	else
		check->segrecs[seg_id] = recs[i];
	if (i >= 0 && copy_is_good(&copies[0]) && copy_is_good(&copies[1]) && recs[i].gen < recs[!i].gen)
		check_problem(check, CHECK_DAMAGE, copies[i].off,
			      "%s: the newer copy has the older generation (%" PRIu64 " after %" PRIu64 ")", what,
			      recs[i].gen, recs[!i].gen);
}

static void count_segment(struct check *check, const struct pc_segrec *rec)
{
	if (rec->type == PC_SEG_FREE)
		check->counts.segments_free++;
	else if (rec->type == PC_SEG_DATA)
		check->counts.segments_data++;
	else if (rec->type == PC_SEG_LOG)
		check->counts.segments_log++;
}

int check_segrecs(struct check *check)
{
	const uint32_t per_page_nr = PC_PAGE_BYTES / sizeof(struct pcm_segrec);
	struct segrec_pages pages;
	uint32_t seg_id;
	unsigned int i;

	check->segrecs = calloc(check->super.segment_nr, sizeof(*check->segrecs));
	if (!check->segrecs)
		return -ENOMEM;
	for (seg_id = 0; seg_id < check->super.segment_nr; seg_id++) {
		for (i = 0; i < 2 && seg_id % per_page_nr == 0; i++)
			pages.read_err[i] = pc_media_read(check->media, pc_geo_segrec_off(&check->super, i, seg_id),
							  pages.bytes[i], PC_PAGE_BYTES);
		check_segrec(check, &pages, seg_id);
		count_segment(check, &check->segrecs[seg_id]);
	}
	return 0;
}

static int compare_ordinals(const void *left, const void *right)
{
	const struct check_log_segment *a = left, *b = right;

	return a->ordinal < b->ordinal ? -1 : a->ordinal > b->ordinal;
}

static void check_ordinals(struct check *check, uint64_t tail_ordinal)
{
	uint64_t want = tail_ordinal;
	uint32_t i;

	for (i = 0; i < check->log_segment_nr; i++) {
		const struct check_log_segment *segment = &check->log_segments[i];
		uint64_t off = pc_geo_segrec_off(&check->super, 0, segment->seg_id);

		if (segment->ordinal < want)
			check_problem(check, CHECK_DAMAGE, off,
				      "segment %" PRIu32 ": place %" PRIu64 " of the log is taken twice",
				      segment->seg_id, segment->ordinal);
		else if (segment->ordinal > want)
			check_problem(check, CHECK_DAMAGE, off,
				      "segment %" PRIu32 " is place %" PRIu64 " of the log, but place %" PRIu64
				      " is missing",
				      segment->seg_id, segment->ordinal, want);
		want = segment->ordinal + 1;
	}
	if (check->log_segment_nr == 0)
		check_problem(check, CHECK_DAMAGE, pc_geo_tail_off(&check->super, 0),
			      "the tail says that the log begins at place %" PRIu64 ", but there is no such segment",
			      tail_ordinal);
}

int check_chain(struct check *check)
{
	uint64_t tail_ordinal = check->tail.log_tail_pos / pc_geo_slots_per_segment(&check->super);
	const struct pc_segrec *rec;
	uint32_t seg_id;

	check->log_segments = calloc((size_t)check->counts.segments_log + 1, sizeof(*check->log_segments));
	if (!check->log_segments)
		return -ENOMEM;
	for (seg_id = 0; seg_id < check->super.segment_nr; seg_id++) {
		rec = &check->segrecs[seg_id];
		if (rec->type != PC_SEG_LOG)
			continue;
		if (rec->ordinal < tail_ordinal) {
			check->counts.segments_old_log++; /* free; the record changes when the segment is taken again */
			continue;
		}
		check->log_segments[check->log_segment_nr++] =
			(struct check_log_segment){ .ordinal = rec->ordinal, .nonce = rec->nonce, .seg_id = seg_id };
	}
	qsort(check->log_segments, check->log_segment_nr, sizeof(*check->log_segments), compare_ordinals);
	check_ordinals(check, tail_ordinal);
	return 0;
}
