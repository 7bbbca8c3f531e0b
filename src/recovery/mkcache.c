/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Format: geometry, fresh UUID, all segments free but the first two, which are the start of the log and its reserve. Records go first, superblocks
 * last (layout). Nothing of an older life needs clearing: log slots are told apart by the random nonce of their segment.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "pcache/errors.h"
#include "recovery/recovery.h"

static uint64_t draw_nonce(const struct pc_tweaks *tweaks)
{
	uint64_t nonce = 0;

	if (tweaks && tweaks->nonce)
		return tweaks->nonce(tweaks->nonce_user);
	while (getrandom(&nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce))
		;
	return nonce;
}

static void draw_uuid(const struct pc_tweaks *tweaks, uint8_t uuid[16])
{
	uint64_t half[2] = { draw_nonce(tweaks), draw_nonce(tweaks) };

	memcpy(uuid, half, 16);
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40); /* RFC 4122, version 4 */
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

static void first_records(struct pc_layout *layout, const struct pc_tweaks *tweaks, uint32_t gc_percent, uint32_t flags)
{
	uint64_t spp = pc_geo_slots_per_segment(&layout->super);

	for (uint32_t id = 0; id < layout->super.segment_nr; id++) {
		struct pc_segrec *rec = &layout->segrecs[id];

		*rec = (struct pc_segrec){ .seg_id = id, .type = PC_SEG_FREE, .seq = 1, .gen = 1 };
		if (id < 2) {
			rec->type = PC_SEG_LOG;
			rec->ordinal = id + 1;
			rec->nonce = draw_nonce(tweaks);
		}
	}
	layout->tail = (struct pc_tail){
		.flags = flags,
		.gc_percent = gc_percent,
		.seq = 1,
		.log_tail_pos = spp,
		.dirty_tail_pos = spp,
		.mark_pos = spp,
	};
}

int pc_recovery_mkcache(struct pc_media *media, const struct pcache_config *config, const struct pc_tweaks *tweaks,
			uint64_t backing_bytes, const uint8_t backing_uuid[16])
{
	uint32_t block_bytes = config ? (uint32_t)config->values[PCACHE_OPT_BLOCK_BYTES] : 512;
	uint32_t segment_bytes = config ? (uint32_t)config->values[PCACHE_OPT_SEGMENT_BYTES] : 0;
	uint32_t gc_percent = config ? (uint32_t)config->values[PCACHE_OPT_GC_PERCENT] : 70;
	bool batch = config && config->values[PCACHE_OPT_ORDERING] == PCACHE_ORDERING_BATCH;
	struct pc_super super;
	struct pc_layout layout;
	int rc;

	memset(&super, 0, sizeof(super));
	super.block_bytes = block_bytes;
	rc = pc_geo_plan(media->len_bytes, segment_bytes, block_bytes, &super);
	if (rc)
		return rc;
	super.version = PC_FORMAT_VERSION;
	super.seq = 1;
	super.flags = !config || config->values[PCACHE_OPT_DATA_CRC] ? PC_SUPER_FLAG_DATA_CRC : 0;
	super.backing_bytes = backing_bytes;
	memcpy(super.backing_uuid, backing_uuid, 16);
	draw_uuid(tweaks, super.cache_uuid);
	if (!pc_geo_check(&super))
		return -EINVAL;
	rc = pc_layout_init(&layout, media, &super);
	if (rc)
		return rc;
	first_records(&layout, tweaks, gc_percent,
		      PC_TAIL_FLAG_CLEAN_CLOSE | (batch ? PC_TAIL_FLAG_ORDERING_BATCH : 0u));
	rc = pc_layout_create(&layout);
	pc_layout_fini(&layout);
	return rc;
}
