/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Superblock, tail and segment records: loading, repair, creation and update of their two copies.
 *
 * Loading takes of each record the valid copy with the higher sequence number; the other one, if it is bad or older, is noted and rewritten by
 * pc_layout_repair before any new update. Two valid copies of one number that differ are damage that no crash leaves: neither is written over the other. So while the cache is open both copies are equal between updates, and the order of an
 * update (older copy, commit, other copy, commit) leaves one whole copy at every instant.
 *
 * Creation takes the magic of the old superblocks away first: from then on the file is no cache until the new magic is there, one word, last of all; and no old record can come
 * back, since keys of an older life carry nonces that no new log segment has.
 */
#include "layout/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"
#include "pcache/errors.h"

int pc_layout_init(struct pc_layout *layout, struct pc_media *media, const struct pc_super *super)
{
	int rc;

	memset(layout, 0, sizeof(*layout));
	layout->media = media;
	layout->super = *super;
	pc_kset_rules_of(super, &layout->rules);
	rc = pc_mutex_init(&layout->lock, PC_RANK_RECORD, 0);
	if (rc)
		return rc;
	layout->segrecs = calloc(super->segment_nr, sizeof(*layout->segrecs));
	layout->segrec_older = calloc(super->segment_nr, 1);
	layout->segrec_bad = calloc(super->segment_nr, 1);
	if (!layout->segrecs || !layout->segrec_older || !layout->segrec_bad) {
		pc_layout_fini(layout);
		return -ENOMEM;
	}
	return 0;
}

void pc_layout_fini(struct pc_layout *layout)
{
	free(layout->segrecs);
	free(layout->segrec_older);
	free(layout->segrec_bad);
	pc_mutex_fini(&layout->lock);
	memset(layout, 0, sizeof(*layout));
}

/* ---- loading -------------------------------------------------------------------------------------------------- */

static enum pc_valid load_one_super(struct pc_media *media, uint64_t media_off, struct pc_super *out_super, int *out_rc)
{
	struct pcm_super bytes;

	*out_rc = pc_media_read(media, media_off, &bytes, sizeof(bytes));
	if (*out_rc)
		return PC_INVALID_CRC;
	return pc_super_decode(&bytes, out_super);
}

/* What the two failures together say about the file. */
static int super_error(enum pc_valid a, enum pc_valid b)
{
	if (a == PC_INVALID_VERSION || b == PC_INVALID_VERSION)
		return PCACHE_E_VERSION;
	if (a == PC_INVALID_MAGIC && b == PC_INVALID_MAGIC)
		return PCACHE_E_NOT_A_CACHE;
	return PCACHE_E_CORRUPT;
}

int pc_layout_load_super(struct pc_media *media, struct pc_super *out_super, uint32_t *out_bad)
{
	struct pc_super copy[2];
	enum pc_valid valid[2];
	uint64_t b_off;
	uint32_t bad = 0, best;
	int rc[2];

	if (media->len_bytes < 2 * (uint64_t)PC_PAGE_BYTES)
		return PCACHE_E_NOT_A_CACHE;
	memset(copy, 0, sizeof(copy));
	valid[0] = load_one_super(media, 0, &copy[0], &rc[0]);
	if (valid[0] == PC_VALID && copy[0].media_bytes > media->len_bytes)
		return PCACHE_E_TRUNCATED;
	b_off = (valid[0] == PC_VALID ? copy[0].media_bytes : media->len_bytes) - PC_PAGE_BYTES;
	valid[1] = load_one_super(media, b_off, &copy[1], &rc[1]);
	if (valid[1] == PC_VALID && copy[1].media_bytes != b_off + PC_PAGE_BYTES)
		valid[1] = PC_INVALID_VALUE;
	if (valid[0] != PC_VALID && valid[1] != PC_VALID) {
		if (rc[0] && rc[1] && rc[0] != PCACHE_E_TRUNCATED)
			return rc[0];
		return super_error(valid[0], rc[1] ? valid[0] : valid[1]);
	}
	best = valid[0] != PC_VALID || (valid[1] == PC_VALID && copy[1].seq > copy[0].seq);
	/* A newer format that a crash cut short beside an old copy of this one: never guess. */
	if (valid[1 - best] == PC_INVALID_VERSION)
		return PCACHE_E_VERSION;
	if (valid[1 - best] != PC_VALID || memcmp(&copy[0], &copy[1], sizeof(copy[0])) != 0)
		bad = 1u << (1 - best);
	if (bad && valid[1 - best] == PC_VALID && copy[0].seq == copy[1].seq)
		return PCACHE_E_CORRUPT;
	*out_super = copy[best];
	*out_bad = bad;
	return 0;
}

/* Of two copies: which is newest (0 or 1), or 2 if both are bad, or neither is newer; *out_bad gets the copies to rewrite. */
static unsigned int newest(bool a_valid, uint64_t a_seq, bool b_valid, uint64_t b_seq, bool equal, uint32_t *out_bad)
{
	unsigned int best;

	if ((!a_valid && !b_valid) || (a_valid && b_valid && a_seq == b_seq && !equal))
		return 2;
	best = !a_valid || (b_valid && b_seq > a_seq);
	*out_bad = equal ? 0 : 1u << (1 - best);
	return best;
}

static int load_tail(struct pc_layout *layout)
{
	struct pcm_tail bytes[2];
	struct pc_tail copy[2];
	bool ok[2];
	unsigned int i, best;

	memset(copy, 0, sizeof(copy));
	for (i = 0; i < 2; i++) {
		int rc = pc_media_read(layout->media, pc_geo_tail_off(&layout->super, i), &bytes[i], sizeof(bytes[i]));

		ok[i] = rc == 0 && pc_tail_decode(&bytes[i], &copy[i]) == PC_VALID;
	}
	best = newest(ok[0], copy[0].seq, ok[1], copy[1].seq,
		      ok[0] && ok[1] && memcmp(&bytes[0], &bytes[1], sizeof(bytes[0])) == 0, &layout->tail_bad);
	if (best == 2)
		return PCACHE_E_CORRUPT;
	layout->tail = copy[best];
	layout->tail_older = (uint8_t)(1 - best);
	layout->repair_nr += layout->tail_bad != 0;
	return 0;
}

/* Reads all records of one zone; a failed read leaves zeroes, which do not validate. */
static void read_zone(struct pc_layout *layout, unsigned int replica, struct pcm_segrec *to)
{
	uint32_t seg_nr = layout->super.segment_nr, id, part_nr = 0;

	for (id = 0; id < seg_nr; id += part_nr) {
		uint64_t off = pc_geo_segrec_off(&layout->super, replica, id);

		part_nr = PC_MIN(seg_nr - id, 64u);
		if (pc_media_read(layout->media, off, to + id, part_nr * sizeof(*to)) == 0)
			continue;
		for (uint32_t i = 0; i < part_nr; i++)
			if (pc_media_read(layout->media, off + i * sizeof(*to), to + id + i, sizeof(*to)) != 0)
				memset(to + id + i, 0, sizeof(*to));
	}
}

int pc_layout_load_records(struct pc_layout *layout)
{
	uint32_t seg_nr = layout->super.segment_nr, id;
	struct pcm_segrec *zone[2];
	int rc = load_tail(layout);

	if (rc)
		return rc;
	zone[0] = calloc(seg_nr, sizeof(*zone[0]));
	zone[1] = calloc(seg_nr, sizeof(*zone[1]));
	if (!zone[0] || !zone[1]) {
		rc = -ENOMEM;
		goto out;
	}
	read_zone(layout, 0, zone[0]);
	read_zone(layout, 1, zone[1]);
	for (id = 0; id < seg_nr; id++) {
		struct pc_segrec copy[2];
		uint32_t bad = 0;
		bool ok[2];
		unsigned int i, best;

		memset(copy, 0, sizeof(copy));
		for (i = 0; i < 2; i++)
			ok[i] = pc_segrec_decode(&zone[i][id], id, &copy[i]) == PC_VALID;
		best = newest(ok[0], copy[0].seq, ok[1], copy[1].seq,
			      ok[0] && ok[1] && memcmp(&zone[0][id], &zone[1][id], sizeof(*zone[0])) == 0, &bad);
		if (best == 2) {
			rc = PCACHE_E_CORRUPT;
			goto out;
		}
		layout->segrecs[id] = copy[best];
		layout->segrec_older[id] = (uint8_t)(1 - best);
		layout->segrec_bad[id] = (uint8_t)bad;
		layout->repair_nr += bad != 0;
	}
out:
	free(zone[0]);
	free(zone[1]);
	return rc;
}

/* ---- storing --------------------------------------------------------------------------------------------------- */

static void put_super(struct pc_layout *layout, unsigned int replica)
{
	struct pcm_super bytes;

	pc_super_encode(&layout->super, &bytes);
	pc_media_copy(layout->media, pc_geo_super_off(&layout->super, replica), &bytes, sizeof(bytes));
}

static void put_tail(struct pc_layout *layout, unsigned int replica)
{
	struct pcm_tail bytes;

	pc_tail_encode(&layout->tail, &bytes);
	pc_media_copy(layout->media, pc_geo_tail_off(&layout->super, replica), &bytes, sizeof(bytes));
}

static void put_segrec(struct pc_layout *layout, uint32_t seg_id, unsigned int replica)
{
	struct pcm_segrec bytes;

	pc_segrec_encode(&layout->segrecs[seg_id], &bytes);
	pc_media_copy(layout->media, pc_geo_segrec_off(&layout->super, replica, seg_id), &bytes, sizeof(bytes));
}

int pc_layout_repair(struct pc_layout *layout)
{
	uint32_t id, i;
	int rc;

	if (PC_PLANTED(PC_PLANT_NEWEST_COPY_FIRST))
		return 0;
	for (i = 0; i < 2; i++) {
		/* A copy that could not be read may not be there to store to, either. */
		rc = pc_media_renew(layout->media, i ? layout->super.zone_b_off : 0, layout->super.zone_bytes);
		if (rc)
			return rc;
		if (layout->super_bad & 1u << i)
			put_super(layout, i);
		if (layout->tail_bad & 1u << i)
			put_tail(layout, i);
		for (id = 0; id < layout->super.segment_nr; id++)
			if (layout->segrec_bad[id] & 1u << i)
				put_segrec(layout, id, i);
	}
	/* Order: the mended copies before any new record. A second line of defence: an update begins with the copy that was mended, and its first commit covers it. */
	return pc_media_commit(layout->media);
}

/* Everything of a superblock but its magic; or the magic alone, one aligned word, which no crash can tear. */
static void put_super_body(struct pc_layout *layout, unsigned int replica)
{
	struct pcm_super bytes;

	pc_super_encode(&layout->super, &bytes);
	pc_media_copy(layout->media, pc_geo_super_off(&layout->super, replica) + sizeof(bytes.magic),
		      (const uint8_t *)&bytes + sizeof(bytes.magic), sizeof(bytes) - sizeof(bytes.magic));
}

static void put_super_magic(struct pc_layout *layout, unsigned int replica)
{
	pc_media_copy(layout->media, pc_geo_super_off(&layout->super, replica), PC_SUPER_MAGIC,
		      sizeof(((struct pcm_super *)0)->magic));
}

int pc_layout_create(struct pc_layout *layout)
{
	static const uint64_t no_magic;
	struct pc_media *media = layout->media;
	uint32_t id, i;
	int rc;

	for (i = 0; i < 2; i++)
		pc_media_copy(media, pc_geo_super_off(&layout->super, i), &no_magic, sizeof(no_magic));
	/* A larger cache that was here has its second superblock at the end. */
	pc_media_copy(media, media->len_bytes - PC_PAGE_BYTES, &no_magic, sizeof(no_magic));
	/* Order: the old superblocks go before the old records do, because half a new set must not pass for a cache. */
	rc = pc_media_commit(media);
	if (rc)
		return rc;
	for (i = 0; i < 2; i++) {
		for (id = 0; id < layout->super.segment_nr; id++)
			put_segrec(layout, id, i);
		put_tail(layout, i);
		put_super_body(layout, i);
	}
	/* Order: records and superblocks before the magic that says they are there. */
	rc = pc_media_commit(media);
	if (rc)
		return rc;
	/* In any order: with either, the cache is there and whole; with none, there is none. */
	for (i = 0; i < 2; i++)
		put_super_magic(layout, i);
	/* Order: both superblocks before format reports success. */
	return pc_media_commit(media);
}

/* Copy to overwrite first. */
static unsigned int first_copy(unsigned int older)
{
	return PC_PLANTED(PC_PLANT_NEWEST_COPY_FIRST) ? 1 - older : older;
}

/* Both copies of a record are about to be stored. */
static void count_stored_locked(struct pc_layout *layout, size_t record_bytes)
{
	atomic_store_explicit(&layout->stored_bytes,
			      atomic_load_explicit(&layout->stored_bytes, memory_order_relaxed) + 2 * record_bytes,
			      memory_order_relaxed);
}

int pc_layout_store_tail_locked(struct pc_layout *layout, const struct pc_tail *tail)
{
	unsigned int first = first_copy(layout->tail_older);
	struct pc_tail before = layout->tail;
	int rc;

	layout->tail = *tail;
	layout->tail.seq = before.seq + 1;
	count_stored_locked(layout, sizeof(struct pcm_tail));
	put_tail(layout, first);
	layout->tail_older = (uint8_t)(1 - first);
	/* Order: this copy before the other, because while one is torn the other must be whole. */
	rc = pc_media_commit(layout->media);
	if (!rc) {
		put_tail(layout, 1 - first);
		/* Order: both copies before what the record protects, because either alone may be lost to damage. */
		rc = pc_media_commit(layout->media);
	}
	if (rc)
		layout->tail = before; /* nobody may act on what may not be on media; there will be no other update */
	return rc;
}

int pc_layout_store_segrec(struct pc_layout *layout, const struct pc_segrec *rec)
{
	uint32_t id = rec->seg_id;
	struct pc_segrec before;
	unsigned int first;
	int rc;

	pc_mutex_lock(&layout->lock);
	first = first_copy(layout->segrec_older[id]);
	before = layout->segrecs[id];
	layout->segrecs[id] = *rec;
	layout->segrecs[id].seq = before.seq + 1;
	count_stored_locked(layout, sizeof(struct pcm_segrec));
	put_segrec(layout, id, first);
	layout->segrec_older[id] = (uint8_t)(1 - first);
	/* Order: this copy before the other, because while one is torn the other must be whole. */
	rc = pc_media_commit(layout->media);
	if (!rc) {
		put_segrec(layout, id, 1 - first);
		/* Order: both copies before the segment is used under its new generation. */
		rc = pc_media_commit(layout->media);
	}
	if (rc)
		layout->segrecs[id] = before;
	pc_mutex_unlock(&layout->lock);
	return rc;
}

struct pc_tail pc_layout_tail(struct pc_layout *layout)
{
	struct pc_tail tail;

	pc_mutex_lock(&layout->lock);
	tail = layout->tail;
	pc_mutex_unlock(&layout->lock);
	return tail;
}
