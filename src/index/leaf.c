/* SPDX-License-Identifier: BSD-3-Clause */
/* Packing and moving the extents of a leaf. The layout is described in index/leaf.h. */
#include "index/leaf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

#define DIRTY_BIT (UINT64_C(1) << PC_SHAPE_BITS)
#define MEDIA_SHIFT (PC_SHAPE_BITS + 1u)
#define SHAPE_MASK ((1u << PC_SHAPE_BITS) - 1)
#define SHAPE_ZERO PC_SHAPE_NR
#define SHAPE_DISCARD (PC_SHAPE_NR + 1)
#define SHAPE_POISON (PC_SHAPE_NR + 2)
#define SHAPE_NONE 0xffu
#define CHUNK_BLK_MAX 8u

static uint64_t low_mask(uint32_t bits)
{
	return bits >= 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
}

/* Bits that hold every number below nr. */
static uint32_t bits_for(uint64_t nr)
{
	return nr <= 1 ? 0 : 64 - (uint32_t)__builtin_clzll(nr - 1);
}

static void number_shapes(struct pc_pack *pack)
{
	uint8_t shape = 0;

	for (uint32_t geom = 0; geom < 64; geom++) {
		uint32_t beside_blk = (geom & 7) + (geom >> 3);

		pack->shape_of_geom[geom] = beside_blk < CHUNK_BLK_MAX ? shape : SHAPE_NONE;
		for (uint32_t len_blk = 1; len_blk + beside_blk <= CHUNK_BLK_MAX; len_blk++, shape++) {
			pack->shape_len[shape] = (uint8_t)len_blk;
			pack->shape_geom[shape] = (uint8_t)geom;
		}
	}
}

int pc_pack_init(struct pc_pack *pack, const struct pc_index_params *params)
{
	uint32_t high_bits;

	memset(pack, 0, sizeof(*pack));
	if (!pc_is_pow2(params->segment_blk) || params->segment_blk > 1u << 16 || params->segment_nr == 0 ||
	    params->slot_nr == 0)
		return -EINVAL;
	number_shapes(pack);
	pack->seg_shift = (uint8_t)__builtin_ctz(params->segment_blk);
	pack->media_bits = (uint8_t)(pack->seg_shift + bits_for(params->segment_nr));
	pack->pos_bits = (uint8_t)bits_for(params->slot_nr);
	pack->low_bits = PC_MIN(pack->pos_bits, (uint8_t)(PC_WORD_PLACE_BITS - pack->media_bits));
	high_bits = (uint32_t)pack->pos_bits - pack->low_bits;
	if (high_bits > 32)
		return -EINVAL;
	pack->high_bytes = high_bits > 16 ? 4 : high_bits > 0 ? 2 : 0;
	pack->leaf_bytes = (uint32_t)(sizeof(struct pc_leaf) + PC_LEAF_NR * pack->high_bytes);
	return 0;
}

static uint64_t get_high(const struct pc_pack *pack, const struct pc_leaf *leaf, uint32_t slot_idx)
{
	uint32_t high;

	if (pack->high_bytes == 2)
		return leaf->highs[slot_idx];
	memcpy(&high, &leaf->highs[2 * slot_idx], sizeof(high));
	return high;
}

static void set_high(const struct pc_pack *pack, struct pc_leaf *leaf, uint32_t slot_idx, uint64_t value)
{
	uint32_t high = (uint32_t)value;

	if (pack->high_bytes == 2)
		leaf->highs[slot_idx] = (uint16_t)value;
	else
		memcpy(&leaf->highs[2 * slot_idx], &high, sizeof(high));
}

struct pc_extent pc_leaf_get(const struct pc_pack *pack, const struct pc_leaf *leaf, uint32_t slot_idx, uint32_t region,
			     uint64_t newest_pos)
{
	uint64_t word = leaf->words[slot_idx];
	uint32_t shape = word & SHAPE_MASK;
	uint64_t pos = word >> (MEDIA_SHIFT + pack->media_bits);
	struct pc_extent extent = {
		.vol_blk = pc_key_blk(region, leaf->keys[slot_idx]),
		.flags = word & DIRTY_BIT ? PC_EXT_DIRTY : 0,
	};

	if (pack->high_bytes != 0)
		pos |= get_high(pack, leaf, slot_idx) << pack->low_bits;
	extent.pos = newest_pos - ((newest_pos - pos) & low_mask(pack->pos_bits));
	if (shape < PC_SHAPE_NR) {
		uint64_t media_blk = word >> MEDIA_SHIFT & low_mask(pack->media_bits);

		extent.len_blk = pack->shape_len[shape];
		extent.geom = pack->shape_geom[shape];
		extent.seg_id = (uint32_t)(media_blk >> pack->seg_shift);
		extent.seg_blk = (uint16_t)(media_blk & low_mask(pack->seg_shift));
		extent.crc = leaf->crcs[slot_idx];
		return extent;
	}
	extent.len_blk = leaf->crcs[slot_idx];
	if (shape == SHAPE_POISON)
		extent.flags |= PC_EXT_POISON;
	else
		extent.flags |= shape == SHAPE_DISCARD ? PC_EXT_ZERO | PC_EXT_DISCARD : PC_EXT_ZERO;
	return extent;
}

static uint32_t bare_shape(const struct pc_extent *extent)
{
	switch (extent->flags & ~PC_EXT_DIRTY) {
	case PC_EXT_ZERO:
		return SHAPE_ZERO;
	case PC_EXT_ZERO | PC_EXT_DISCARD:
		return SHAPE_DISCARD;
	case PC_EXT_POISON:
		return SHAPE_POISON;
	default:
		return SHAPE_NONE;
	}
}

void pc_leaf_set(const struct pc_pack *pack, struct pc_leaf *leaf, uint32_t slot_idx, const struct pc_extent *extent,
		 uint64_t newest_pos)
{
	bool is_data = (extent->flags & ~PC_EXT_DIRTY) == PC_EXT_DATA;
	uint64_t pos = extent->pos & low_mask(pack->pos_bits);
	uint64_t media_blk = 0;
	uint32_t shape;
	bool fits = newest_pos - extent->pos <= low_mask(pack->pos_bits);

	if (is_data) {
		uint32_t beside_blk = (extent->geom & 7u) + (extent->geom >> 3 & 7u);

		shape = pack->shape_of_geom[extent->geom & 63] + extent->len_blk - 1;
		media_blk = (uint64_t)extent->seg_id << pack->seg_shift | extent->seg_blk;
		fits = fits && extent->geom < 64 && beside_blk < CHUNK_BLK_MAX &&
		       extent->len_blk - 1 < CHUNK_BLK_MAX - beside_blk && extent->seg_blk >> pack->seg_shift == 0 &&
		       media_blk <= low_mask(pack->media_bits);
	} else {
		shape = bare_shape(extent);
		fits = fits && shape != SHAPE_NONE && extent->len_blk != 0;
	}
	if (!fits)
		abort();
	leaf->keys[slot_idx] = pc_key_of(extent->vol_blk);
	leaf->crcs[slot_idx] = is_data ? extent->crc : extent->len_blk;
	leaf->words[slot_idx] = shape | (extent->flags & PC_EXT_DIRTY ? DIRTY_BIT : 0) | media_blk << MEDIA_SHIFT |
				(pos & low_mask(pack->low_bits)) << (MEDIA_SHIFT + pack->media_bits);
	if (pack->high_bytes != 0)
		set_high(pack, leaf, slot_idx, pos >> pack->low_bits);
}

void pc_leaf_move(const struct pc_pack *pack, struct pc_leaf *to, uint32_t to_idx, const struct pc_leaf *from,
		  uint32_t from_idx, uint32_t nr)
{
	if (nr == 0)
		return;
	memmove(&to->keys[to_idx], &from->keys[from_idx], nr * sizeof(to->keys[0]));
	memmove(&to->words[to_idx], &from->words[from_idx], nr * sizeof(to->words[0]));
	memmove(&to->crcs[to_idx], &from->crcs[from_idx], nr * sizeof(to->crcs[0]));
	if (pack->high_bytes != 0)
		memmove((char *)to->highs + (size_t)to_idx * pack->high_bytes,
			(const char *)from->highs + (size_t)from_idx * pack->high_bytes, (size_t)nr * pack->high_bytes);
}
