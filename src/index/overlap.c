/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The classifier of overlaps: how a new range meets an old extent. Pure; what follows from it is the one switch in
 * index/shard. Named by what the new range does to the old one:
 *
 *     NONE       they do not touch a common block (adjacent ranges included)
 *     EQUAL      same range
 *     HEAD       covers the head of the old one and leaves a tail
 *     TAIL       covers the tail of the old one and leaves a head
 *     CONTAINS   covers all of it and is longer, at one end or at both
 *     CONTAINED  lies inside and leaves both a head and a tail
 */
#include "index/index.h"

enum pc_overlap pc_overlap_classify(uint64_t new_blk, uint64_t new_len, uint64_t old_blk, uint64_t old_len)
{
	uint64_t new_end = new_blk + new_len;
	uint64_t old_end = old_blk + old_len;

	if (new_blk == old_blk && new_len == old_len)
		return PC_OVERLAP_EQUAL;
	if (new_end <= old_blk || old_end <= new_blk)
		return PC_OVERLAP_NONE;
	if (new_blk <= old_blk)
		return new_end >= old_end ? PC_OVERLAP_CONTAINS : PC_OVERLAP_HEAD;
	return new_end >= old_end ? PC_OVERLAP_TAIL : PC_OVERLAP_CONTAINED;
}
