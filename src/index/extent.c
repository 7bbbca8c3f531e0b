/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Cutting an extent.
 *
 * A cut never touches data. What is left of a DATA extent begins at a later block of its segment (seg_blk) and lies in
 * the middle of the same CRC chunk as before: geom counts the blocks of the chunk before and after it. So for every
 * fragment of a chunk, seg_blk - head and head + len_blk + tail stay what they were when the chunk was written, and crc
 * stays verifiable.
 *
 *     chunk       |--head--|=======extent=======|--tail--|
 *     a part      |--head + cut--|===part===|--cut + tail|
 *
 * ZERO and POISON have no bytes: of them only the range changes. The two fields of geom are those of a key on media
 * (bits 0..2 and 3..5); this folder does not include format/.
 */
#include <assert.h>

#include "index/index.h"

#define HEAD_MASK 7u
#define TAIL_SHIFT 3

struct pc_extent pc_extent_part(const struct pc_extent *extent, uint64_t vol_blk, uint32_t len_blk)
{
	struct pc_extent part = *extent;
	uint64_t before = vol_blk - extent->vol_blk;

	assert(vol_blk >= extent->vol_blk && len_blk > 0 && before + len_blk <= extent->len_blk);
	part.vol_blk = vol_blk;
	part.len_blk = len_blk;
	if ((extent->flags & PC_EXT_TYPE_MASK) == PC_EXT_DATA) {
		uint64_t after = extent->len_blk - before - len_blk;
		uint64_t head = (extent->geom & HEAD_MASK) + before;
		uint64_t tail = (extent->geom >> TAIL_SHIFT) + after;

		assert(head <= HEAD_MASK && tail <= HEAD_MASK);
		part.seg_blk = (uint16_t)(extent->seg_blk + before);
		part.geom = (uint8_t)(head | tail << TAIL_SHIFT);
	}
	return part;
}
