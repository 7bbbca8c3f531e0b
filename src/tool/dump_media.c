/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache dump: prints every record of a cache as it is on media, both copies, and then the log in the order of
 * positions.
 *
 * Every line is built by the to_text functions of format/, with the place in front: the copy (A or B) and the media
 * offset. What does not decode gets a line that says why, and the dump goes on: only a cache without any valid
 * superblock ends it, because nothing else can be found then. Memory: one segment and one number per segment.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "format/format.h"
#include "pcache/errors.h"
#include "tool/dump.h"

/* A LOG segment, for sorting by ordinal. */
struct dump_log_segment {
	uint64_t ordinal;
	uint64_t nonce;
	uint32_t seg_id;
};

struct dump {
	FILE *to;
	struct pc_media *media;
	struct pc_super super;
	struct pc_kset_rules rules;
	struct pc_tail tail; /* newest valid copy */
	bool tail_valid;
	struct dump_log_segment *log_segments;
	uint32_t log_segment_nr;
	bool end_said; /* that the file ends early is said once */
};

static void print_place(const struct dump *dump, unsigned int replica, uint64_t media_off)
{
	fprintf(dump->to, "%c @0x%010" PRIx64 " ", 'A' + (int)replica, media_off);
}

/* Reads a record; a line instead, and false, if it cannot be read. */
static bool read_record(struct dump *dump, unsigned int replica, uint64_t media_off, const char *what, void *buf,
			size_t len)
{
	int err = pc_media_read(dump->media, media_off, buf, len);

	if (err == 0)
		return true;
	if (err == PCACHE_E_TRUNCATED && dump->end_said)
		return false;
	dump->end_said = err == PCACHE_E_TRUNCATED;
	print_place(dump, replica, media_off);
	fprintf(dump->to, "%s: cannot be read: %s\n", what, pcache_strerror(err));
	return false;
}

/* The second superblock lies where the first says, or else in the last page. */
static bool dump_super(struct dump *dump, bool print)
{
	struct pc_super super;
	struct pcm_super media;
	bool found = false;
	unsigned int replica;

	for (replica = 0; replica < 2; replica++) {
		uint64_t off = replica == 0 ? 0 : dump->media->len_bytes - PC_PAGE_BYTES;
		enum pc_valid valid;

		if (found)
			off = pc_geo_super_off(&dump->super, replica);
		if (!read_record(dump, replica, off, "super", &media, sizeof(media)))
			continue;
		valid = pc_super_decode(&media, &super);
		if (print || valid != PC_VALID)
			print_place(dump, replica, off);
		if (valid != PC_VALID) {
			fprintf(dump->to, "super: %s\n", pc_valid_to_text(valid));
			continue;
		}
		if (print)
			pc_super_to_text(dump->to, &super);
		if (!found || super.seq > dump->super.seq)
			dump->super = super;
		found = true;
	}
	if (found)
		pc_kset_rules_of(&dump->super, &dump->rules);
	return found;
}

static void dump_tail(struct dump *dump, bool print)
{
	struct pcm_tail media;
	struct pc_tail tail;
	unsigned int replica;

	for (replica = 0; replica < 2; replica++) {
		uint64_t off = pc_geo_tail_off(&dump->super, replica);
		enum pc_valid valid;

		if (!read_record(dump, replica, off, "tail", &media, sizeof(media)))
			continue;
		valid = pc_tail_decode(&media, &tail);
		if (print || valid != PC_VALID)
			print_place(dump, replica, off);
		if (valid != PC_VALID) {
			fprintf(dump->to, "tail: %s\n", pc_valid_to_text(valid));
			continue;
		}
		if (print)
			pc_tail_to_text(dump->to, &tail);
		if (!dump->tail_valid || tail.seq > dump->tail.seq)
			dump->tail = tail;
		dump->tail_valid = true;
	}
}

static void dump_segrec(struct dump *dump, uint32_t seg_id, bool print)
{
	struct pc_segrec rec, newest = { 0 };
	struct pcm_segrec media;
	unsigned int replica;
	bool found = false;

	for (replica = 0; replica < 2; replica++) {
		uint64_t off = pc_geo_segrec_off(&dump->super, replica, seg_id);
		enum pc_valid valid;

		if (!read_record(dump, replica, off, "segrec", &media, sizeof(media)))
			continue;
		valid = pc_segrec_decode(&media, seg_id, &rec);
		if (print || valid != PC_VALID)
			print_place(dump, replica, off);
		if (valid != PC_VALID) {
			fprintf(dump->to, "segrec seg_id=%" PRIu32 ": %s\n", seg_id, pc_valid_to_text(valid));
			continue;
		}
		if (print)
			pc_segrec_to_text(dump->to, &rec);
		if (!found || rec.seq > newest.seq)
			newest = rec;
		found = true;
	}
	if (found && newest.type == PC_SEG_LOG)
		dump->log_segments[dump->log_segment_nr++] =
			(struct dump_log_segment){ .ordinal = newest.ordinal, .nonce = newest.nonce, .seg_id = seg_id };
}

static int compare_ordinals(const void *left, const void *right)
{
	const struct dump_log_segment *a = left, *b = right;

	return a->ordinal < b->ordinal ? -1 : a->ordinal > b->ordinal;
}

static void dump_keys(const struct dump *dump, const uint8_t *slot, const struct pc_kset *kset)
{
	const struct pcm_le32 *crcs;
	struct pc_key_cursor cursor;
	struct pc_key key;

	pc_key_first(slot, kset, &dump->rules, &cursor);
	while (pc_key_next(&cursor, &key, &crcs)) {
		uint32_t chunk_nr = crcs ? pc_key_chunk_nr(&key, dump->rules.block_bytes) : 0;

		fputs("      ", dump->to);
		pc_key_to_text(dump->to, &key, crcs, chunk_nr);
	}
}

/* A run of slots in which no kset begins. */
struct dump_gap {
	uint32_t first_slot;
	uint32_t slot_nr;
	bool torn; /* some of them have the right position and nonce, but not the right bytes */
};

static void dump_gap_end(const struct dump *dump, uint64_t base_pos, struct dump_gap *gap, bool last)
{
	if (gap->slot_nr)
		fprintf(dump->to, "    pos=%" PRIu64 " %" PRIu32 " slots without a kset%s%s\n",
			base_pos + gap->first_slot, gap->slot_nr, gap->torn ? ", torn or damaged ones among them" : "",
			last ? " (to the end of the segment)" : "");
	gap->slot_nr = 0;
	gap->torn = false;
}

/*
 * Slots of one segment. Each decode that fails may read up to the rest of the segment for its CRC; after reading some
 * 64 segments in vain the rest is left out, so that crafted bytes cost bounded time.
 */
static void dump_slots(const struct dump *dump, const struct dump_log_segment *segment, const uint8_t *buf)
{
	uint32_t slot_nr = pc_geo_slots_per_segment(&dump->super);
	uint64_t base_pos = segment->ordinal * slot_nr;
	uint64_t vain_left = (uint64_t)slot_nr * 64;
	struct dump_gap gap = { 0 };
	struct pc_kset kset;
	uint32_t slot = 0;

	while (slot < slot_nr) {
		const uint8_t *at = buf + (size_t)slot * PC_SLOT_BYTES;
		enum pc_valid valid =
			pc_kset_decode(at, slot_nr - slot, base_pos + slot, segment->nonce, &dump->rules, &kset);

		if (valid == PC_VALID) {
			dump_gap_end(dump, base_pos, &gap, false);
			fputs("    ", dump->to);
			pc_kset_to_text(dump->to, &kset);
			dump_keys(dump, at, &kset);
			slot += kset.slot_nr;
			continue;
		}
		if (gap.slot_nr++ == 0)
			gap.first_slot = slot;
		if (valid != PC_INVALID_IDENTITY) {
			gap.torn = true;
			vain_left -= PC_MIN(vain_left, (uint64_t)(slot_nr - slot));
		}
		slot++;
		if (vain_left == 0) {
			fprintf(dump->to,
				"    pos=%" PRIu64 " too many damaged ksets: the rest of the segment is left out\n",
				base_pos + slot);
			return;
		}
	}
	dump_gap_end(dump, base_pos, &gap, true);
}

/* Reads a segment page by page where it cannot be read as a whole; unreadable pages become zeroes, and a line. */
static void read_segment(const struct dump *dump, uint64_t off, uint8_t *buf)
{
	uint32_t at;

	if (pc_media_read(dump->media, off, buf, dump->super.segment_bytes) == 0)
		return;
	for (at = 0; at < dump->super.segment_bytes; at += PC_PAGE_BYTES) {
		int err = pc_media_read(dump->media, off + at, buf + at, PC_PAGE_BYTES);

		if (err == 0)
			continue;
		fprintf(dump->to, "    @0x%010" PRIx64 " cannot be read: %s\n", off + at, pcache_strerror(err));
		if (err == PCACHE_E_TRUNCATED) {
			memset(buf + at, 0, dump->super.segment_bytes - at);
			return;
		}
		memset(buf + at, 0, PC_PAGE_BYTES);
	}
}

static int dump_log(const struct dump *dump)
{
	uint8_t *buf = aligned_alloc(PC_PAGE_BYTES, dump->super.segment_bytes);
	uint64_t slot_nr = pc_geo_slots_per_segment(&dump->super);
	uint32_t i;

	if (!buf)
		return -ENOMEM;
	qsort(dump->log_segments, dump->log_segment_nr, sizeof(*dump->log_segments), compare_ordinals);
	for (i = 0; i < dump->log_segment_nr; i++) {
		const struct dump_log_segment *segment = &dump->log_segments[i];
		uint64_t off = pc_geo_segment_off(&dump->super, segment->seg_id);
		bool freed = dump->tail_valid && segment->ordinal < dump->tail.log_tail_pos / slot_nr;

		fprintf(dump->to, "log ordinal=%" PRIu64 " seg_id=%" PRIu32 " @0x%010" PRIx64 "%s\n", segment->ordinal,
			segment->seg_id, off, freed ? " (below the log tail)" : "");
		read_segment(dump, off, buf);
		dump_slots(dump, segment, buf);
	}
	free(buf);
	return 0;
}

int dump_run(struct pc_media *media, unsigned int parts, FILE *to)
{
	struct dump dump = { .to = to, .media = media };
	uint64_t record_nr = media->len_bytes / sizeof(struct pcm_segrec);
	uint32_t seg_id;
	int err = 0;

	if (media->len_bytes < PC_PAGE_BYTES || !dump_super(&dump, parts & DUMP_SUPER))
		return PCACHE_E_NOT_A_CACHE;
	if (media->len_bytes < dump.super.media_bytes)
		fprintf(to, "the file ends at 0x%" PRIx64 ", the superblock says 0x%" PRIx64 "\n", media->len_bytes,
			dump.super.media_bytes);
	if (parts & (DUMP_TAIL | DUMP_LOG))
		dump_tail(&dump, parts & DUMP_TAIL);
	if (!(parts & (DUMP_SEGMENTS | DUMP_LOG)))
		return 0;
	/* Of a forged number no more than the file can hold. */
	record_nr = PC_MIN(record_nr, (uint64_t)dump.super.segment_nr);
	dump.log_segments = calloc(record_nr, sizeof(*dump.log_segments));
	if (!dump.log_segments)
		return -ENOMEM;
	for (seg_id = 0; seg_id < record_nr; seg_id++)
		dump_segrec(&dump, seg_id, parts & DUMP_SEGMENTS);
	if (parts & DUMP_LOG)
		err = dump_log(&dump);
	free(dump.log_segments);
	return err;
}
