/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Segment records: what a segment is used for, and since which generation. One cache line per segment in each zone.
 *
 * The generation makes keys of an earlier use stale; ordinal and nonce belong to LOG segments and are what every kset in it is
 * compared with. A record names its own segment, so that a line that landed in the wrong place is not believed.
 * Ordinals are limited so that a log position, ordinal * slots per segment + slot, cannot wrap whatever the segment size.
 *
 * Which of two valid copies is newer is decided by layout, by seq. Pure: no media, no lock, no allocation.
 */
#include <inttypes.h>
#include <string.h>

#include "format/format.h"
#include "format/seal.h"
#include "format/text.h"

_Static_assert(PC_ORDINAL_MAX < UINT64_MAX / (PC_SEGMENT_BYTES_MAX / PC_SLOT_BYTES) - 1, "log positions do not wrap");

void pc_segrec_encode(const struct pc_segrec *rec, struct pcm_segrec *out_media)
{
	struct pcm_segrec media;

	memset(&media, 0, sizeof(media));
	media.magic = pc_le32(PC_SEGREC_MAGIC);
	media.seg_id = pc_le32(rec->seg_id);
	media.seq = pc_le64(rec->seq);
	media.gen = pc_le64(rec->gen);
	media.ordinal = pc_le64(rec->ordinal);
	media.nonce = pc_le64(rec->nonce);
	media.type = pc_le32(rec->type);
	media.crc = pc_le32(pc_seal_crc(&media, sizeof(media), offsetof(struct pcm_segrec, crc)));
	*out_media = media;
}

static bool values_are_sound(const struct pc_segrec *rec)
{
	switch (rec->type) {
	case PC_SEG_FREE:
	case PC_SEG_DATA:
		return rec->ordinal == 0 && rec->nonce == 0;
	case PC_SEG_LOG:
		return rec->ordinal >= 1 && rec->ordinal <= PC_ORDINAL_MAX;
	default:
		return false;
	}
}

enum pc_valid pc_segrec_decode(const struct pcm_segrec *media, uint32_t seg_id, struct pc_segrec *out_rec)
{
	const struct pcm_segrec copy = *media;
	struct pc_segrec rec;

	if (pc_get32(copy.magic) != PC_SEGREC_MAGIC)
		return PC_INVALID_MAGIC;
	if (pc_get32(copy.crc) != pc_seal_crc(&copy, sizeof(copy), offsetof(struct pcm_segrec, crc)))
		return PC_INVALID_CRC;
	memset(&rec, 0, sizeof(rec));
	rec.seg_id = pc_get32(copy.seg_id);
	rec.type = pc_get32(copy.type);
	rec.seq = pc_get64(copy.seq);
	rec.gen = pc_get64(copy.gen);
	rec.ordinal = pc_get64(copy.ordinal);
	rec.nonce = pc_get64(copy.nonce);
	if (rec.seg_id != seg_id || !values_are_sound(&rec) || !pc_seal_is_zero(copy.reserved, sizeof(copy.reserved)))
		return PC_INVALID_VALUE;
	*out_rec = rec;
	return PC_VALID;
}

void pc_segrec_to_text(FILE *to, const struct pc_segrec *rec)
{
	static const char *const type_names[] = { "free", "data", "log" };

	fprintf(to, "segrec seg_id=%" PRIu32 " seq=%" PRIu64, rec->seg_id, rec->seq);
	pc_text_enum(to, "type", rec->type, type_names, PC_ARRAY_NR(type_names));
	fprintf(to, " gen=%" PRIu64 " ordinal=%" PRIu64 " nonce=%016" PRIx64 "\n", rec->gen, rec->ordinal, rec->nonce);
}
