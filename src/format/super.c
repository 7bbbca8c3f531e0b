/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The superblock: identity, features and geometry of a cache. One page in each zone; the record is its first 256 bytes.
 *
 * Magic, version, the three feature words and the crc at byte 252 stay where they are in every later version. So the order of
 * checks is: magic (is this a cache at all?), CRC (is it whole?), version and incompatible features (may this library read on?), then
 * values. A damaged superblock is thereby never reported as one of a newer library.
 * Unknown bits of ro_compat are passed on: the caller opens read-only. Unknown bits of compat mean nothing to a reader.
 *
 * Which of two valid copies is newer is decided by the caller, by seq. Pure: no media, no lock, no allocation.
 */
#include <inttypes.h>
#include <string.h>

#include "format/format.h"
#include "format/seal.h"
#include "format/text.h"

void pc_super_encode(const struct pc_super *super, struct pcm_super *out_media)
{
	struct pcm_super media;

	memset(&media, 0, sizeof(media));
	memcpy(media.magic, PC_SUPER_MAGIC, sizeof(media.magic));
	media.version = pc_le32(super->version);
	media.flags = pc_le32(super->flags);
	media.seq = pc_le64(super->seq);
	media.compat = pc_le64(super->compat);
	media.ro_compat = pc_le64(super->ro_compat);
	media.incompat = pc_le64(super->incompat);
	memcpy(media.cache_uuid, super->cache_uuid, sizeof(media.cache_uuid));
	memcpy(media.backing_uuid, super->backing_uuid, sizeof(media.backing_uuid));
	media.backing_bytes = pc_le64(super->backing_bytes);
	media.media_bytes = pc_le64(super->media_bytes);
	media.data_off = pc_le64(super->data_off);
	media.zone_b_off = pc_le64(super->zone_b_off);
	media.zone_bytes = pc_le64(super->zone_bytes);
	media.segment_bytes = pc_le32(super->segment_bytes);
	media.segment_nr = pc_le32(super->segment_nr);
	media.block_bytes = pc_le32(super->block_bytes);
	media.crc = pc_le32(pc_seal_crc(&media, sizeof(media), offsetof(struct pcm_super, crc)));
	*out_media = media;
}

static void load(const struct pcm_super *media, struct pc_super *out_super)
{
	memset(out_super, 0, sizeof(*out_super));
	out_super->version = pc_get32(media->version);
	out_super->flags = pc_get32(media->flags);
	out_super->seq = pc_get64(media->seq);
	out_super->compat = pc_get64(media->compat);
	out_super->ro_compat = pc_get64(media->ro_compat);
	out_super->incompat = pc_get64(media->incompat);
	memcpy(out_super->cache_uuid, media->cache_uuid, sizeof(out_super->cache_uuid));
	memcpy(out_super->backing_uuid, media->backing_uuid, sizeof(out_super->backing_uuid));
	out_super->backing_bytes = pc_get64(media->backing_bytes);
	out_super->media_bytes = pc_get64(media->media_bytes);
	out_super->data_off = pc_get64(media->data_off);
	out_super->zone_b_off = pc_get64(media->zone_b_off);
	out_super->zone_bytes = pc_get64(media->zone_bytes);
	out_super->segment_bytes = pc_get32(media->segment_bytes);
	out_super->segment_nr = pc_get32(media->segment_nr);
	out_super->block_bytes = pc_get32(media->block_bytes);
}

/* The backing is addressed in whole cache blocks, by the 48 bits that a key has. Needs a block_bytes that was checked. */
static bool backing_fits(const struct pc_super *super)
{
	return super->backing_bytes != 0 && super->backing_bytes % super->block_bytes == 0 &&
	       super->backing_bytes / super->block_bytes <= PC_KEY_BLK_MASK + 1;
}

enum pc_valid pc_super_decode(const struct pcm_super *media, struct pc_super *out_super)
{
	const struct pcm_super copy = *media;
	struct pc_super super;

	if (memcmp(copy.magic, PC_SUPER_MAGIC, sizeof(copy.magic)) != 0)
		return PC_INVALID_MAGIC;
	if (pc_get32(copy.crc) != pc_seal_crc(&copy, sizeof(copy), offsetof(struct pcm_super, crc)))
		return PC_INVALID_CRC;
	load(&copy, &super);
	if (super.version != PC_FORMAT_VERSION || (super.incompat & ~(uint64_t)PC_FEATURES_INCOMPAT_KNOWN) != 0)
		return PC_INVALID_VERSION;
	if ((super.flags & ~PC_SUPER_FLAG_DATA_CRC) != 0 || !pc_seal_is_zero(copy.reserved, sizeof(copy.reserved)))
		return PC_INVALID_VALUE;
	if (!pc_geo_check(&super) || !backing_fits(&super))
		return PC_INVALID_VALUE;
	*out_super = super;
	return PC_VALID;
}

void pc_super_to_text(FILE *to, const struct pc_super *super)
{
	static const char *const flag_names[] = { "data_crc" };

	fprintf(to, "super seq=%" PRIu64 " version=%" PRIu32, super->seq, super->version);
	pc_text_flags(to, "flags", super->flags, flag_names, PC_ARRAY_NR(flag_names));
	pc_text_flags(to, "compat", super->compat, NULL, 0);
	pc_text_flags(to, "ro_compat", super->ro_compat, NULL, 0);
	pc_text_flags(to, "incompat", super->incompat, NULL, 0);
	pc_text_uuid(to, "cache_uuid", super->cache_uuid);
	pc_text_uuid(to, "backing_uuid", super->backing_uuid);
	fprintf(to, " backing_bytes=%" PRIu64 " media_bytes=%" PRIu64 " data_off=%" PRIu64, super->backing_bytes,
		super->media_bytes, super->data_off);
	fprintf(to, " zone_b_off=%" PRIu64 " zone_bytes=%" PRIu64, super->zone_b_off, super->zone_bytes);
	fprintf(to, " segment_bytes=%" PRIu32 " segment_nr=%" PRIu32 " block_bytes=%" PRIu32 "\n", super->segment_bytes,
		super->segment_nr, super->block_bytes);
}
