/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check, records: superblocks, tail records, segment records.
 *
 * Every record exists twice. An update writes the older copy and then the other, so a crash leaves one copy torn, or
 * one copy one step behind: both need repair and lose nothing. What no crash explains is damage: both copies bad, equal
 * sequence numbers with different content, copies more than one step apart.
 *
 * The newest good copy counts from here on. Without a superblock nothing can be found, and the check ends; without a
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
	enum check_rule broken; /* CHECK_OK: a good copy */
	int read_err;
};

/* A kind of record, and its rules about two good copies. */
struct kind {
	const char *name; /* "tail record" */
	enum check_rule same, step;
	bool step_is_repair; /* one step apart needs no crash since the last close to be explained */
};

static void tell_broken(struct check *check, const struct kind *kind, const struct copy *copy, char zone,
			bool other_is_good)
{
	const char *why = copy->read_err ? pcache_strerror(copy->read_err) : check_rule_statement(copy->broken);

	check_problem(check, copy->broken, other_is_good ? CHECK_REPAIR : CHECK_DAMAGE, copy->off,
		      "%s, copy %c: %s%s; the other copy is %s", kind->name, zone,
		      copy->read_err ? "" : "not true that ", why, other_is_good ? "good" : "bad, too");
}

/* Judges a pair of copies and names the newest: 0 or 1, or -1 if both are bad. same: their contents are equal but for seq. */
static int judge_copies(struct check *check, const struct kind *kind, const struct copy copies[2], bool same)
{
	const bool good[2] = { !copies[0].broken, !copies[1].broken };
	uint64_t step;
	int i;

	for (i = 0; i < 2; i++) {
		if (!good[i])
			tell_broken(check, kind, &copies[i], zone_names[i], good[!i]);
	}
	if (!good[0] || !good[1])
		return good[0] ? 0 : good[1] ? 1 : -1;
	i = copies[1].seq > copies[0].seq;
	step = copies[i].seq - copies[!i].seq;
	if (step == 0 && !same)
		check_problem(check, kind->same, CHECK_DAMAGE, copies[0].off,
			      "%s: two good copies of sequence %" PRIu64 " differ (B at 0x%" PRIx64 ")", kind->name,
			      copies[0].seq, copies[1].off);
	else if (step > 0)
		check_problem(check, kind->step,
			      step == 1 && (kind->step_is_repair || !check->clean_close) ? CHECK_REPAIR : CHECK_DAMAGE,
			      copies[!i].off, "%s, copy %c: %" PRIu64 " update%s behind the other copy", kind->name,
			      zone_names[!i], step, step == 1 ? "" : "s");
	return i;
}

/* ---- superblock --------------------------------------------------------------------------------------------------- */

static void load_super(struct check *check, struct copy *copy, struct pcm_super *out_media)
{
	memset(out_media, 0, sizeof(*out_media));
	copy->read_err = pc_media_read(check->media, copy->off, out_media, sizeof(*out_media));
	copy->broken = copy->read_err ? CHECK_S1 : check_explain_super(out_media);
	if (!copy->broken && pc_super_decode(out_media, &(struct pc_super){ 0 }) != PC_VALID)
		copy->broken = CHECK_S2; /* the decoder knows a rule that is not known here */
	copy->seq = pc_get64(out_media->seq);
}

/* The first copy says where the second is; without it the second is the last page of the file. */
static void load_supers(struct check *check, struct copy copies[2], struct pcm_super media[2])
{
	copies[0].off = 0;
	load_super(check, &copies[0], &media[0]);
	copies[1].off = check->media->len_bytes - PC_PAGE_BYTES;
	if (!copies[0].broken)
		copies[1].off = pc_get64(media[0].media_bytes) - PC_PAGE_BYTES;
	load_super(check, &copies[1], &media[1]);
	if (!copies[1].broken && pc_get64(media[1].media_bytes) != copies[1].off + PC_PAGE_BYTES)
		copies[1].broken = CHECK_S15;
}

/* The code for media whose superblocks are both bad: no cache at all, a newer one, or 0 for a damaged one. */
static int no_super_error(const struct copy copies[2])
{
	if (copies[0].broken == CHECK_S3 || copies[1].broken == CHECK_S3)
		return PCACHE_E_VERSION;
	if (copies[0].broken == CHECK_S1 && copies[1].broken == CHECK_S1 && !copies[0].read_err && !copies[1].read_err)
		return PCACHE_E_NOT_A_CACHE;
	return 0;
}

static bool supers_are_same(const struct pcm_super media[2])
{
	struct pcm_super same_seq = media[0];

	same_seq.seq = media[1].seq;
	same_seq.crc = media[1].crc;
	return memcmp(&same_seq, &media[1], sizeof(same_seq)) == 0;
}

/* What one good superblock says of the cache as a whole. 0, or 1 if the file ends before the cache. */
static int take_super(struct check *check, const struct pcm_super *media, uint64_t off)
{
	if (pc_super_decode(media, &check->super) != PC_VALID)
		return 1;
	pc_kset_rules_of(&check->super, &check->rules);
	if (check->super.ro_compat & ~(uint64_t)PC_FEATURES_RO_COMPAT_KNOWN)
		check_problem(check, CHECK_S18, CHECK_NOTE, off,
			      "features 0x%" PRIx64 " are not known: this version opens the cache read-only",
			      check->super.ro_compat);
	if (check_is_zero(check->super.cache_uuid, sizeof(check->super.cache_uuid)))
		check_problem(check, CHECK_S19, CHECK_NOTE, off, "the UUID of the cache is zero");
	if (check->media->len_bytes >= check->super.media_bytes)
		return 0;
	check_problem(check, CHECK_F1, CHECK_DAMAGE, check->media->len_bytes,
		      "the file ends here, but the superblock says 0x%" PRIx64 " bytes", check->super.media_bytes);
	return 1;
}

int check_supers(struct check *check)
{
	static const struct kind kind = { "superblock", CHECK_S16, CHECK_S17, true };
	struct copy copies[2];
	struct pcm_super media[2];
	int newest, err;

	memset(copies, 0, sizeof(copies));
	if (check->media->len_bytes < UINT64_C(2) * PC_PAGE_BYTES)
		return PCACHE_E_NOT_A_CACHE;
	load_supers(check, copies, media);
	if (copies[0].broken && copies[1].broken) {
		err = no_super_error(copies);
		if (err)
			return err;
	}
	if (!copies[0].broken && pc_get64(media[0].media_bytes) > check->media->len_bytes)
		return take_super(check, &media[0], 0);
	for (newest = 0; newest < 2; newest++) {
		/* A newer format that a crash cut short beside a copy of this one: no open guesses. */
		if (copies[newest].broken == CHECK_S3) {
			check_problem(check, CHECK_S3, CHECK_DAMAGE, copies[newest].off,
				      "superblock, copy %c: is of another version, the other copy is of this one",
				      zone_names[newest]);
			return take_super(check, &media[!newest], copies[!newest].off);
		}
	}
	newest = judge_copies(check, &kind, copies, supers_are_same(media));
	return newest < 0 ? 1 : take_super(check, &media[newest], copies[newest].off);
}

/* ---- tail record -------------------------------------------------------------------------------------------------- */

static bool tails_are_same(const struct pc_tail *a, const struct pc_tail *b)
{
	return a->flags == b->flags && a->gc_percent == b->gc_percent && a->log_tail_pos == b->log_tail_pos &&
	       a->dirty_tail_pos == b->dirty_tail_pos && a->mark_pos == b->mark_pos;
}

void check_tails(struct check *check)
{
	static const struct kind kind = { "tail record", CHECK_T7, CHECK_T8, true };
	struct copy copies[2];
	struct pc_tail tails[2];
	struct pcm_tail media;
	unsigned int i;
	int newest;

	memset(tails, 0, sizeof(tails));
	memset(copies, 0, sizeof(copies));
	for (i = 0; i < 2; i++) {
		copies[i].off = pc_geo_tail_off(&check->super, i);
		copies[i].read_err = pc_media_read(check->media, copies[i].off, &media, sizeof(media));
		copies[i].broken = copies[i].read_err ? CHECK_T1 : check_explain_tail(&media);
		if (!copies[i].broken)
			(void)pc_tail_decode(&media, &tails[i]);
		copies[i].seq = tails[i].seq;
	}
	newest = judge_copies(check, &kind, copies, tails_are_same(&tails[0], &tails[1]));
	if (newest < 0)
		return;
	check->tail = tails[newest];
	check->tail_off = copies[newest].off;
	check->tail_valid = true;
	check->clean_close = (check->tail.flags & PC_TAIL_FLAG_CLEAN_CLOSE) != 0;
}

/* ---- segment records ---------------------------------------------------------------------------------------------- */

#define RECORDS_PER_PAGE ((uint32_t)(PC_PAGE_BYTES / sizeof(struct pcm_segrec)))

/* Records of up to a page in both zones. */
struct segrec_pages {
	struct pcm_segrec recs[2][PC_PAGE_BYTES / sizeof(struct pcm_segrec)];
	int read_err[2][PC_PAGE_BYTES / sizeof(struct pcm_segrec)];
};

static bool generations_are_possible(const struct pc_segrec *newer, const struct pc_segrec *older)
{
	return newer->type == older->type ? newer->gen >= older->gen : newer->gen > older->gen;
}

static void check_segrec(struct check *check, const struct segrec_pages *pages, uint32_t seg_id)
{
	const uint32_t at = seg_id % RECORDS_PER_PAGE;
	char what[32];
	const struct kind kind = { what, CHECK_R8, CHECK_R9, false };
	struct copy copies[2];
	struct pc_segrec recs[2];
	unsigned int i;
	bool same;
	int newest;

	memset(recs, 0, sizeof(recs));
	memset(copies, 0, sizeof(copies));
	for (i = 0; i < 2; i++) {
		copies[i].off = pc_geo_segrec_off(&check->super, i, seg_id);
		copies[i].read_err = pages->read_err[i][at];
		copies[i].broken = copies[i].read_err ? CHECK_R1 : check_explain_segrec(&pages->recs[i][at], seg_id);
		if (!copies[i].broken)
			(void)pc_segrec_decode(&pages->recs[i][at], seg_id, &recs[i]);
		copies[i].seq = recs[i].seq;
	}
	snprintf(what, sizeof(what), "segment record %" PRIu32, seg_id);
	if (!copies[0].broken && !copies[1].broken && recs[0].seq != recs[1].seq) {
		i = recs[1].seq > recs[0].seq;
		if (!generations_are_possible(&recs[i], &recs[!i])) {
			check_problem(check, CHECK_R10, CHECK_DAMAGE, copies[i].off,
				      "%s: the newer copy has generation %" PRIu64 ", the older %" PRIu64, what,
				      recs[i].gen, recs[!i].gen);
			check->segrecs[seg_id] = recs[i];
			return;
		}
	}
	same = recs[0].type == recs[1].type && recs[0].gen == recs[1].gen && recs[0].ordinal == recs[1].ordinal &&
	       recs[0].nonce == recs[1].nonce;
	newest = judge_copies(check, &kind, copies, same);
	if (newest < 0)
		check->segrecs[seg_id].type = CHECK_SEG_LOST;
	else
		check->segrecs[seg_id] = recs[newest];
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

/* Reads the records from seg_id on; one by one where they cannot be read together. */
static void load_page(struct check *check, uint32_t seg_id, uint32_t nr, struct segrec_pages *pages)
{
	const size_t each = sizeof(pages->recs[0][0]);
	unsigned int zone;
	uint32_t i;

	memset(pages->read_err, 0, sizeof(pages->read_err));
	for (zone = 0; zone < 2; zone++) {
		uint64_t off = pc_geo_segrec_off(&check->super, zone, seg_id);

		if (pc_media_read(check->media, off, pages->recs[zone], nr * each) == 0)
			continue;
		for (i = 0; i < nr; i++)
			pages->read_err[zone][i] =
				pc_media_read(check->media, off + i * each, &pages->recs[zone][i], each);
	}
}

int check_segrecs(struct check *check)
{
	struct segrec_pages pages;
	uint32_t seg_id;

	check->segrecs = calloc(check->super.segment_nr, sizeof(*check->segrecs));
	if (!check->segrecs)
		return -ENOMEM;
	for (seg_id = 0; seg_id < check->super.segment_nr; seg_id++) {
		if (seg_id % RECORDS_PER_PAGE == 0)
			load_page(check, seg_id, PC_MIN(check->super.segment_nr - seg_id, RECORDS_PER_PAGE), &pages);
		check_segrec(check, &pages, seg_id);
		count_segment(check, &check->segrecs[seg_id]);
	}
	return 0;
}
