/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Write-back, groups: epochs that share a tail record (ordering strict).
 *
 *     log     | dirty tail .. A=1 B=1 | mark | C=1 | mark | A=2 D=1 | mark | ...
 *               '------ flush ------'  'flush' '---- flush -- tail record'  '- the next group
 *
 * Each epoch is on the backing, and flushed there, before anything of the next is written. The tail record says where write-back begins after a crash: at the first epoch of the group. What
 * is written again there must not take the backing back in time below an epoch that is on it. So no block is twice in a group but for its last epoch: what is written again of the
 * others is what the backing holds already, or what it held before the last epoch, a part of which may be missing. Keys count, and not what was written of them: a version that the newest one of
 * its epoch replaced may be written after a crash.
 *
 * Pure.
 */
#include <string.h>

#include "service/internal.h"

void pc_wb_group_begin(struct pc_wb_group *group, bool apart)
{
	group->apart = apart;
	group->range_nr = 0;
}

/* The first range that ends behind blk. */
static uint32_t find_range(const struct pc_wb_group *group, uint64_t blk)
{
	uint32_t from = 0, end = group->range_nr;

	while (from < end) {
		uint32_t middle = from + (end - from) / 2;

		if (group->ranges[middle].end_blk > blk)
			end = middle;
		else
			from = middle + 1;
	}
	return from;
}

void pc_wb_group_add(struct pc_wb_group *group, uint64_t blk, uint64_t end_blk)
{
	uint32_t at;

	if (!group->apart)
		return;
	at = find_range(group, blk);
	if (group->range_nr == PC_WB_GROUP_KEYS || (at < group->range_nr && group->ranges[at].blk < end_blk)) {
		group->apart = false;
		return;
	}
	memmove(&group->ranges[at + 1], &group->ranges[at], (group->range_nr - at) * sizeof(*group->ranges));
	group->ranges[at] = (struct pc_wb_range){ .blk = blk, .end_blk = end_blk };
	group->range_nr++;
}
