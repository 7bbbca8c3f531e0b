/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Geometry: where every record and segment lies, planned once at format and computed from the superblock ever after.
 *
 *   0           zone_bytes      data_off                         zone_b_off                media_bytes
 *   | S | T | segrecs | gap |  segment 0 | segment 1 | ... | gap | segrecs | T | S |
 *   '----- zone A ----'                                          '----- zone B ----'
 *
 * S superblock page, T tail page. Zones are whole pages, so the two copies of a record never share one; zone B is the mirror
 * image of zone A, with its superblock in the last page of the media, where it is found without knowing anything. Segments begin at
 * a multiple of their size (at most 2 MiB), so that a huge page never holds both a zone and data of a segment.
 * The gap behind the last segment is what is left over.
 *
 * Copies lie at least half the media apart, so at least 2 MiB on media of 4 MiB. The closest are those of segment records, at
 * zone_b_off - 2 pages; eight segments of a page or more lie between the zones, so zone_b_off is at least media_bytes / 2 + 4 pages.
 *
 * A plan is exact: a zone has just the pages that its records need. The check of an untrusted superblock is wider: it asks only for
 * what the offsets above rely on, in sums that cannot wrap. Pure: no media, no lock, no allocation.
 */
#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "format/format.h"
#include "pcache/errors.h"

#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)
#define MEDIA_BYTES_MAX ((uint64_t)INT64_MAX) /* files and devices are not larger */
#define ZONE_HEAD_BYTES (UINT64_C(2) * PC_PAGE_BYTES) /* superblock and tail */

uint64_t pc_geo_super_off(const struct pc_super *super, unsigned int replica)
{
	return replica == 0 ? 0 : super->media_bytes - PC_PAGE_BYTES;
}

uint64_t pc_geo_tail_off(const struct pc_super *super, unsigned int replica)
{
	return replica == 0 ? PC_PAGE_BYTES : super->media_bytes - UINT64_C(2) * PC_PAGE_BYTES;
}

uint64_t pc_geo_segrec_off(const struct pc_super *super, unsigned int replica, uint32_t seg_id)
{
	const uint64_t records_off = replica == 0 ? ZONE_HEAD_BYTES : super->zone_b_off;

	return records_off + (uint64_t)seg_id * sizeof(struct pcm_segrec);
}

uint64_t pc_geo_segment_off(const struct pc_super *super, uint32_t seg_id)
{
	return super->data_off + (uint64_t)seg_id * super->segment_bytes;
}

static uint64_t zone_bytes_for(uint32_t segment_nr)
{
	return ZONE_HEAD_BYTES + PC_ROUND_UP((uint64_t)segment_nr * sizeof(struct pcm_segrec), (uint64_t)PC_PAGE_BYTES);
}

static uint64_t data_align(uint32_t segment_bytes)
{
	return PC_MIN((uint64_t)segment_bytes, HUGE_PAGE_BYTES);
}

/* Nothing here can wrap: segment_nr and segment_bytes have at most 24 bits and a bit each. */
static uint64_t bytes_needed(uint32_t segment_bytes, uint32_t segment_nr)
{
	const uint64_t zone_bytes = zone_bytes_for(segment_nr);

	return PC_ROUND_UP(zone_bytes, data_align(segment_bytes)) + (uint64_t)segment_nr * segment_bytes + zone_bytes;
}

/* Largest number of segments of this size, by bisection: what n segments need grows with n. */
static uint32_t segments_that_fit(uint64_t media_bytes, uint32_t segment_bytes)
{
	uint64_t fits = 0;
	uint64_t too_many = PC_MIN(media_bytes / segment_bytes, (uint64_t)PC_SEGMENT_NR_MAX) + 1;

	while (too_many - fits > 1) {
		const uint64_t middle = fits + (too_many - fits) / 2;

		if (bytes_needed(segment_bytes, (uint32_t)middle) <= media_bytes)
			fits = middle;
		else
			too_many = middle;
	}
	return (uint32_t)fits;
}

static uint32_t default_segment_bytes(uint64_t media_bytes)
{
	uint32_t segment_bytes = PC_SEGMENT_BYTES_MAX;

	while (segment_bytes > PC_SEGMENT_BYTES_DEFAULT_MIN &&
	       segments_that_fit(media_bytes, segment_bytes) < PC_SEGMENT_NR_DEFAULT_MIN)
		segment_bytes /= 2;
	return segment_bytes;
}

static bool block_is_possible(uint32_t block_bytes)
{
	return block_bytes == 512 || block_bytes == PC_PAGE_BYTES;
}

static bool segment_is_possible(uint32_t segment_bytes)
{
	return pc_is_pow2(segment_bytes) && segment_bytes >= PC_SEGMENT_BYTES_MIN &&
	       segment_bytes <= PC_SEGMENT_BYTES_MAX;
}

int pc_geo_plan(uint64_t media_bytes, uint32_t segment_bytes, uint32_t block_bytes, struct pc_super *super)
{
	uint32_t segment_nr, least_nr = segment_bytes ? PC_SEGMENT_NR_MIN : PC_SEGMENT_NR_DEFAULT_MIN;

	if (!block_is_possible(block_bytes) || (segment_bytes != 0 && !segment_is_possible(segment_bytes)))
		return -EINVAL;
	media_bytes = PC_ROUND_DOWN(PC_MIN(media_bytes, MEDIA_BYTES_MAX), (uint64_t)PC_PAGE_BYTES);
	if (segment_bytes == 0)
		segment_bytes = default_segment_bytes(media_bytes);
	segment_nr = segments_that_fit(media_bytes, segment_bytes);
	if (segment_nr < least_nr)
		return PCACHE_E_TOO_SMALL;
	super->media_bytes = media_bytes;
	super->zone_bytes = zone_bytes_for(segment_nr);
	super->zone_b_off = media_bytes - super->zone_bytes;
	super->data_off = PC_ROUND_UP(super->zone_bytes, data_align(segment_bytes));
	super->segment_bytes = segment_bytes;
	super->segment_nr = segment_nr;
	super->block_bytes = block_bytes;
	return 0;
}

uint64_t pc_geo_min_bytes(uint32_t segment_bytes, uint32_t block_bytes)
{
	uint32_t least_nr = segment_bytes ? PC_SEGMENT_NR_MIN : PC_SEGMENT_NR_DEFAULT_MIN;

	if (segment_bytes == 0)
		segment_bytes = PC_SEGMENT_BYTES_DEFAULT_MIN;
	if (!block_is_possible(block_bytes) || !segment_is_possible(segment_bytes))
		return UINT64_MAX;
	return bytes_needed(segment_bytes, least_nr);
}

static bool zones_are_sound(const struct pc_super *super)
{
	if (super->media_bytes > MEDIA_BYTES_MAX || super->media_bytes % PC_PAGE_BYTES != 0 ||
	    super->zone_bytes % PC_PAGE_BYTES != 0)
		return false;
	if (super->zone_bytes < zone_bytes_for(super->segment_nr) || super->zone_bytes > super->media_bytes / 2)
		return false;
	return super->zone_b_off == super->media_bytes - super->zone_bytes;
}

bool pc_geo_check(const struct pc_super *super)
{
	uint64_t end_off;

	if (!block_is_possible(super->block_bytes) || !segment_is_possible(super->segment_bytes))
		return false;
	if (super->segment_nr < PC_SEGMENT_NR_MIN || super->segment_nr > PC_SEGMENT_NR_MAX)
		return false;
	if (!zones_are_sound(super))
		return false;
	if (super->data_off < super->zone_bytes || super->data_off % data_align(super->segment_bytes) != 0)
		return false;
	return pc_add_u64(super->data_off, (uint64_t)super->segment_nr * super->segment_bytes, &end_off) &&
	       end_off <= super->zone_b_off;
}
