/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check, data: compares data with the CRCs that its key carries.
 *
 * CRCs cover chunks of the original allocation, so a fragment is verified by reading the whole chunks that it touches;
 * bytes of a chunk never change until the segment is used again. Sound keys of one generation never claim the same data
 * twice (but relogged copies, which are fragments), so no sound cache needs more reading than a few times its size.
 * Crafted keys may ask for more: the budget ends that, with a problem of its own.
 */
#include <inttypes.h>

#include "base/crc.h"
#include "tool/check_internal.h"

static bool take_budget(struct check *check, uint64_t off, uint64_t bytes)
{
	if (check->verify_left_bytes >= bytes) {
		check->verify_left_bytes -= bytes;
		check->counts.verified_bytes += bytes;
		return true;
	}
	if (!check->verify_over)
		check_problem(check, CHECK_M6, CHECK_DAMAGE, off,
			      "keys claim several times the data that the cache can hold: the rest is not verified");
	check->verify_over = true;
	return false;
}

enum check_verdict check_data(struct check *check, const struct check_key *key, uint32_t seg_blk, uint32_t len_blk,
			      uint64_t *out_off)
{
	const uint32_t block_bytes = check->rules.block_bytes, chunk_blk = pc_chunk_blk(block_bytes);
	const uint32_t run_blk = key->seg_blk - PC_GEOM_HEAD(key->geom); /* where the first chunk begins */
	const uint32_t end_blk = key->seg_blk + key->len_blk + PC_GEOM_TAIL(key->geom);
	const uint64_t segment_off = pc_geo_segment_off(&check->super, key->seg_id);
	uint8_t buf[PC_CHUNK_BYTES];
	uint32_t chunk_idx, first_blk, bytes;

	for (chunk_idx = (seg_blk - run_blk) / chunk_blk; chunk_idx <= (seg_blk + len_blk - 1 - run_blk) / chunk_blk;
	     chunk_idx++) {
		first_blk = run_blk + chunk_idx * chunk_blk;
		bytes = PC_MIN(chunk_blk, end_blk - first_blk) * block_bytes;
		*out_off = segment_off + (uint64_t)first_blk * block_bytes;
		if (!take_budget(check, *out_off, bytes))
			return CHECK_DATA_GOOD;
		if (pc_media_read(check->media, *out_off, buf, bytes) != 0)
			return CHECK_DATA_UNREADABLE;
		if (pc_crc32c(0, buf, bytes) != check->crcs[key->crc_idx + chunk_idx])
			return CHECK_DATA_WRONG;
	}
	return CHECK_DATA_GOOD;
}
