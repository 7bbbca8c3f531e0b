/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check, records: which rule does a record break? Written from docs/FORMAT.md, not from the decoders of format/, whose one answer for any wrong
 * value would not help a user; that the two agree on every record is tested. The bytes are copies, so they do not change meanwhile. Sums of what
 * comes from media are taken in 64 bits, of members that are that wide themselves by comparing differences.
 */
#include <string.h>

#include "base/crc.h"
#include "tool/check_internal.h"

#define KNOWN_TAIL_FLAGS (PC_TAIL_FLAG_CLEAN_CLOSE | PC_TAIL_FLAG_ORDERING_BATCH)
#define BACKING_BLK_MAX (UINT64_C(1) << PC_KEY_BLK_BITS)

bool check_is_zero(const void *bytes, size_t len)
{
	const uint8_t *at = bytes;

	while (len && *at == 0) {
		at++;
		len--;
	}
	return len == 0;
}

/* CRC of a record whose crc member, the last four bytes, counts as zero. */
static bool record_crc_is_right(const void *record, size_t len)
{
	static const uint8_t zeroes[4];
	const uint8_t *bytes = record;
	struct pcm_le32 crc;

	memcpy(&crc, bytes + len - 4, 4);
	return pc_crc32c(pc_crc32c(0, bytes, len - 4), zeroes, 4) == pc_get32(crc);
}

/* The rules of the geometry, in the order in which one may rely on the ones before. */
static enum check_rule explain_geometry(const struct pcm_super *media)
{
	const uint32_t block_bytes = pc_get32(media->block_bytes), segment_bytes = pc_get32(media->segment_bytes);
	const uint64_t segment_nr = pc_get32(media->segment_nr), media_bytes = pc_get64(media->media_bytes);
	const uint64_t zone_bytes = pc_get64(media->zone_bytes), data_off = pc_get64(media->data_off);
	const uint64_t zone_b_off = pc_get64(media->zone_b_off), backing_bytes = pc_get64(media->backing_bytes);

	if (block_bytes != 512 && block_bytes != 4096)
		return CHECK_S6;
	if (segment_bytes < PC_SEGMENT_BYTES_MIN || segment_bytes > PC_SEGMENT_BYTES_MAX ||
	    (segment_bytes & (segment_bytes - 1)) != 0)
		return CHECK_S7;
	if (segment_nr < PC_SEGMENT_NR_MIN || segment_nr > PC_SEGMENT_NR_MAX)
		return CHECK_S8;
	if (media_bytes % PC_PAGE_BYTES || media_bytes >> 63)
		return CHECK_S9;
	if (zone_bytes % PC_PAGE_BYTES || zone_bytes < 8192 + 64 * segment_nr || zone_bytes > media_bytes / 2)
		return CHECK_S10;
	if (zone_b_off != media_bytes - zone_bytes)
		return CHECK_S11;
	if (data_off < zone_bytes || data_off % PC_MIN(segment_bytes, 2u << 20))
		return CHECK_S12;
	if (data_off > zone_b_off || segment_nr * segment_bytes > zone_b_off - data_off)
		return CHECK_S13;
	if (backing_bytes == 0 || backing_bytes % block_bytes || backing_bytes / block_bytes > BACKING_BLK_MAX)
		return CHECK_S14;
	return CHECK_OK;
}

enum check_rule check_explain_super(const struct pcm_super *media)
{
	if (memcmp(media->magic, PC_SUPER_MAGIC, sizeof(media->magic)) != 0)
		return CHECK_S1;
	if (!record_crc_is_right(media, sizeof(*media)))
		return CHECK_S2;
	if (pc_get32(media->version) != PC_FORMAT_VERSION ||
	    pc_get64(media->incompat) & ~(uint64_t)PC_FEATURES_INCOMPAT_KNOWN)
		return CHECK_S3;
	if (pc_get32(media->flags) & ~PC_SUPER_FLAG_DATA_CRC)
		return CHECK_S4;
	if (!check_is_zero(media->reserved, sizeof(media->reserved)))
		return CHECK_S5;
	return explain_geometry(media);
}

enum check_rule check_explain_tail(const struct pcm_tail *media)
{
	if (pc_get32(media->magic) != PC_TAIL_MAGIC)
		return CHECK_T1;
	if (!record_crc_is_right(media, sizeof(*media)))
		return CHECK_T2;
	if (pc_get32(media->flags) & ~KNOWN_TAIL_FLAGS)
		return CHECK_T3;
	if (pc_get32(media->gc_percent) > PC_GC_PERCENT_MAX)
		return CHECK_T4;
	if (pc_get64(media->log_tail_pos) > pc_get64(media->dirty_tail_pos))
		return CHECK_T5;
	if (!check_is_zero(media->reserved, sizeof(media->reserved)))
		return CHECK_T6;
	return CHECK_OK;
}

enum check_rule check_explain_segrec(const struct pcm_segrec *media, uint32_t seg_id)
{
	const uint32_t type = pc_get32(media->type);
	const uint64_t ordinal = pc_get64(media->ordinal);

	if (pc_get32(media->magic) != PC_SEGREC_MAGIC)
		return CHECK_R1;
	if (!record_crc_is_right(media, sizeof(*media)))
		return CHECK_R2;
	if (pc_get32(media->seg_id) != seg_id)
		return CHECK_R3;
	if (type != PC_SEG_FREE && type != PC_SEG_DATA && type != PC_SEG_LOG)
		return CHECK_R4;
	if (type == PC_SEG_LOG ? ordinal < 1 || ordinal > PC_ORDINAL_MAX : ordinal != 0)
		return CHECK_R5;
	if (type != PC_SEG_LOG && pc_get64(media->nonce) != 0)
		return CHECK_R6;
	if (!check_is_zero(media->reserved, sizeof(media->reserved)))
		return CHECK_R7;
	return CHECK_OK;
}
