/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tail record: where the log begins, below which position everything is on the backing, and below which everything is
 * durable. One cache line, in a page of its own in each zone, because it is the record that changes most.
 *
 * The three positions are lower bounds. They need no order among them, except that the log is never cut above the dirty tail:
 * a key that still has to reach the backing would be gone.
 *
 * Which of two valid copies is newer is decided by layout, by seq. Pure: no media, no lock, no allocation.
 */
#include <inttypes.h>
#include <string.h>

#include "format/format.h"
#include "format/seal.h"
#include "format/text.h"

void pc_tail_encode(const struct pc_tail *tail, struct pcm_tail *out_media)
{
	struct pcm_tail media;

	memset(&media, 0, sizeof(media));
	media.magic = pc_le32(PC_TAIL_MAGIC);
	media.flags = pc_le32(tail->flags);
	media.seq = pc_le64(tail->seq);
	media.log_tail_pos = pc_le64(tail->log_tail_pos);
	media.dirty_tail_pos = pc_le64(tail->dirty_tail_pos);
	media.mark_pos = pc_le64(tail->mark_pos);
	media.gc_percent = pc_le32(tail->gc_percent);
	media.crc = pc_le32(pc_seal_crc(&media, sizeof(media), offsetof(struct pcm_tail, crc)));
	*out_media = media;
}

static bool values_are_sound(const struct pc_tail *tail)
{
	return (tail->flags & ~(PC_TAIL_FLAG_CLEAN_CLOSE | PC_TAIL_FLAG_ORDERING_BATCH)) == 0 &&
	       tail->gc_percent <= PC_GC_PERCENT_MAX && tail->log_tail_pos <= tail->dirty_tail_pos;
}

enum pc_valid pc_tail_decode(const struct pcm_tail *media, struct pc_tail *out_tail)
{
	const struct pcm_tail copy = *media;
	struct pc_tail tail;

	if (pc_get32(copy.magic) != PC_TAIL_MAGIC)
		return PC_INVALID_MAGIC;
	if (pc_get32(copy.crc) != pc_seal_crc(&copy, sizeof(copy), offsetof(struct pcm_tail, crc)))
		return PC_INVALID_CRC;
	memset(&tail, 0, sizeof(tail));
	tail.flags = pc_get32(copy.flags);
	tail.gc_percent = pc_get32(copy.gc_percent);
	tail.seq = pc_get64(copy.seq);
	tail.log_tail_pos = pc_get64(copy.log_tail_pos);
	tail.dirty_tail_pos = pc_get64(copy.dirty_tail_pos);
	tail.mark_pos = pc_get64(copy.mark_pos);
	if (!values_are_sound(&tail) || !pc_seal_is_zero(copy.reserved, sizeof(copy.reserved)))
		return PC_INVALID_VALUE;
	*out_tail = tail;
	return PC_VALID;
}

void pc_tail_to_text(FILE *to, const struct pc_tail *tail)
{
	static const char *const flag_names[] = { "clean_close", "ordering_batch" };

	fprintf(to, "tail seq=%" PRIu64, tail->seq);
	pc_text_flags(to, "flags", tail->flags, flag_names, PC_ARRAY_NR(flag_names));
	fprintf(to,
		" log_tail_pos=%" PRIu64 " dirty_tail_pos=%" PRIu64 " mark_pos=%" PRIu64 " gc_percent=%" PRIu32 "\n",
		tail->log_tail_pos, tail->dirty_tail_pos, tail->mark_pos, tail->gc_percent);
}
