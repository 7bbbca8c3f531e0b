/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading the log in order, for replay, write-back and cleaning. Slots are copied out by safe reads, so that poison is an error and never a death, and a
 * kset that changes underneath (it cannot, below the durable position) would be caught by its CRC. A window of slots is read ahead; a longer kset gets a read of its own.
 * The buffer is as long as the longest kset, allocated once: write-back and cleaning need no memory while they run.
 */
#include "log/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AHEAD_SLOTS 256u
#define AHEAD_ALL_SLOTS 1024u /* stays in a second-level cache */

int pc_log_reader_init(struct pc_log_reader *reader, struct pc_log *log)
{
	memset(reader, 0, sizeof(*reader));
	reader->log = log;
	/* A whole segment bounds every kset, also those of an image that other limits wrote. */
	reader->buf_slots = log->slots_per_seg;
	reader->buf = aligned_alloc(64, (size_t)reader->buf_slots * PC_SLOT_BYTES);
	reader->ahead_slots = AHEAD_SLOTS;
	reader->seg_pos = UINT64_MAX;
	return reader->buf ? 0 : -ENOMEM;
}

void pc_log_reader_fini(struct pc_log_reader *reader)
{
	free(reader->buf);
	reader->buf = NULL;
}

void pc_log_reader_all(struct pc_log_reader *reader)
{
	reader->ahead_slots = AHEAD_ALL_SLOTS;
}

void pc_log_reader_reset(struct pc_log_reader *reader)
{
	reader->win_slots = 0;
	reader->seg_pos = UINT64_MAX;
}

/* The nonce of the segment of pos, looked up once for each segment. */
static uint64_t nonce_at(struct pc_log_reader *reader, uint64_t pos)
{
	uint64_t seg_pos = pc_log_seg_start(reader->log, pos);

	if (seg_pos != reader->seg_pos) {
		reader->seg_pos = seg_pos;
		reader->seg_nonce = pc_log_seg(reader->log, pos)->nonce;
	}
	return reader->seg_nonce;
}

/* Makes the window start at pos and hold at least min_slots (which do not cross a segment); more if they are there. */
static int load_window(struct pc_log_reader *reader, uint64_t pos, uint64_t end_pos, uint32_t min_slots)
{
	struct pc_log *log = reader->log;
	uint64_t seg_end = PC_MIN(end_pos, pc_log_seg_start(log, pos) + log->slots_per_seg);
	uint32_t slots = (uint32_t)PC_MIN(seg_end - pos, (uint64_t)PC_MAX(min_slots, reader->ahead_slots));
	int rc = pc_media_read(log->media, pc_log_media_off(log, pos), reader->buf, (size_t)slots * PC_SLOT_BYTES);

	if (rc && slots > min_slots) {
		/* Poison further on must not hide this kset. */
		slots = min_slots;
		rc = pc_media_read(log->media, pc_log_media_off(log, pos), reader->buf, (size_t)slots * PC_SLOT_BYTES);
	}
	reader->win_pos = pos;
	reader->win_slots = rc ? 0 : slots;
	return rc;
}

static bool in_window(const struct pc_log_reader *reader, uint64_t pos, uint32_t slot_nr)
{
	return pos >= reader->win_pos && pos + slot_nr <= reader->win_pos + reader->win_slots;
}

enum pc_valid pc_log_reader_at(struct pc_log_reader *reader, uint64_t pos, uint64_t end_pos, struct pc_kset *out_kset,
			       const void **out_buf)
{
	struct pc_log *log = reader->log;
	uint64_t seg_end = PC_MIN(end_pos, pc_log_seg_start(log, pos) + log->slots_per_seg);
	uint32_t avail = (uint32_t)(seg_end - pos), slot_nr;
	uint64_t nonce = nonce_at(reader, pos);
	const struct pcm_kset *header;
	const uint8_t *at;
	enum pc_valid valid;

	*out_buf = NULL;
	if (!in_window(reader, pos, 1) && load_window(reader, pos, end_pos, 1))
		return PC_INVALID_CRC;
	at = reader->buf + (pos - reader->win_pos) * PC_SLOT_BYTES;
	header = (const struct pcm_kset *)(const void *)at;
	*out_buf = at;
	if (pc_get64(header->pos) != pos || pc_get64(header->nonce) != nonce)
		return PC_INVALID_IDENTITY;
	slot_nr = pc_get32(header->slot_nr);
	if (slot_nr == 0 || slot_nr > avail)
		return PC_INVALID_VALUE;
	if (slot_nr > PC_KSET_SLOTS_MAX && pc_get16(header->type) != PC_KSET_VOID)
		return PC_INVALID_VALUE;
	if (pc_get16(header->type) != PC_KSET_VOID && !in_window(reader, pos, slot_nr)) {
		if (load_window(reader, pos, end_pos, slot_nr)) {
			*out_buf = NULL;
			return PC_INVALID_CRC;
		}
		at = reader->buf;
		*out_buf = at;
	}
	valid = pc_kset_decode(at, avail, pos, nonce, &log->layout->rules, out_kset);
	if (valid != PC_VALID)
		reader->wasted_slots += slot_nr;
	return valid;
}

bool pc_log_reader_one(struct pc_log_reader *reader, uint64_t pos, struct pc_key *out_key)
{
	return in_window(reader, pos, 1) &&
	       pc_kset_decode_one(reader->buf + (pos - reader->win_pos) * PC_SLOT_BYTES, pos, nonce_at(reader, pos),
				  &reader->log->layout->rules, out_key);
}

uint32_t pc_log_reader_skip(struct pc_log_reader *reader, uint64_t pos, uint64_t end_pos)
{
	struct pc_log *log = reader->log;
	uint64_t seg_end = pc_log_seg_start(log, pos) + log->slots_per_seg;
	const struct pcm_kset *header;
	uint32_t slot_nr;

	if (!in_window(reader, pos, 1) && load_window(reader, pos, end_pos, 1))
		return 0;
	header = (const struct pcm_kset *)(const void *)(reader->buf + (pos - reader->win_pos) * PC_SLOT_BYTES);
	slot_nr = pc_get32(header->slot_nr);
	if (pc_get64(header->pos) != pos || pc_get64(header->nonce) != pc_log_seg(log, pos)->nonce ||
	    slot_nr > seg_end - pos)
		return 0;
	return slot_nr;
}
