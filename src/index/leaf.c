/* SPDX-License-Identifier: BSD-3-Clause */
/* Packing and moving the extents of a leaf. The layout is described in index/leaf.h. */
#include "index/leaf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

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
	pack->pos_shift = (uint8_t)(PC_PACKED_MEDIA_SHIFT + pack->media_bits);
	pack->media_mask = low_mask(pack->media_bits);
	pack->pos_mask = low_mask(pack->pos_bits);
	pack->low_mask = low_mask(pack->low_bits);
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

/* As it lies in the leaf, but for the key. */
static inline struct pc_packed get_packed(const struct pc_pack *pack, const struct pc_leaf *leaf, uint32_t slot_idx)
{
	return (struct pc_packed){
		.word = leaf->words[slot_idx],
		.crc = leaf->crcs[slot_idx],
		.high = pack->high_bytes != 0 ? get_high(pack, leaf, slot_idx) : 0,
	};
}

static inline struct pc_extent get_data(const struct pc_pack *pack, const struct pc_leaf *leaf, uint32_t slot_idx,
					uint64_t vol_blk, uint64_t newest_pos)
{
	struct pc_packed packed = get_packed(pack, leaf, slot_idx);

	return pc_unpack_data(pack, &packed, vol_blk, newest_pos);
}

struct pc_extent pc_leaf_get(const struct pc_pack *pack, const struct pc_leaf *leaf, uint32_t slot_idx, uint32_t region,
			     uint64_t newest_pos)
{
	struct pc_packed packed = get_packed(pack, leaf, slot_idx);

	return pc_unpack(pack, &packed, pc_key_blk(region, leaf->keys[slot_idx]), newest_pos);
}

uint32_t pc_leaf_dirty_mask(const struct pc_pack *pack, const struct pc_leaf *leaf, uint32_t extent_nr,
			    uint64_t newest_pos, uint64_t from_pos, uint64_t end_pos)
{
	uint64_t youngest, span;
	uint32_t found = 0;

	if (from_pos > newest_pos || from_pos >= end_pos)
		return 0;
	/* Counted back from the newest position: no wrapping within the range. */
	youngest = newest_pos < end_pos ? 0 : newest_pos - end_pos + 1;
	span = newest_pos - from_pos - youngest;
	for (uint32_t i = 0; i < extent_nr; i++) {
		uint64_t word = leaf->words[i], pos = word >> pack->pos_shift, age;

		if (pack->high_bytes != 0)
			pos |= get_high(pack, leaf, i) << pack->low_bits;
		age = (newest_pos - pos) & pack->pos_mask;
		found |= (uint32_t)((word & PC_PACKED_DIRTY) != 0 && age - youngest <= span) << i;
	}
	return found;
}

static uint32_t bare_shape(const struct pc_extent *extent)
{
	switch (extent->flags & ~PC_EXT_DIRTY) {
	case PC_EXT_ZERO:
		return PC_SHAPE_ZERO;
	case PC_EXT_ZERO | PC_EXT_DISCARD:
		return PC_SHAPE_DISCARD;
	case PC_EXT_POISON:
		return PC_SHAPE_POISON;
	default:
		return SHAPE_NONE;
	}
}

/* All of a word but the position, of the first of nr DATA extents side by side. */
static inline uint64_t data_word(const struct pc_pack *pack, const struct pc_extent *first, uint32_t nr,
				 uint64_t newest_pos)
{
	uint32_t shape = pack->shape_of_geom[first->geom & 63] + first->len_blk - 1;
	uint32_t last_blk = first->seg_blk + (nr - 1) * first->len_blk;
	uint64_t media_blk = (uint64_t)first->seg_id << pack->seg_shift | first->seg_blk;

	/* A geometry that there is and a length that goes with it: these have a shape of their own. */
	if (newest_pos - first->pos > pack->pos_mask || first->geom >= 64 || shape >= PC_SHAPE_NR ||
	    pack->shape_geom[shape] != first->geom || pack->shape_len[shape] != first->len_blk ||
	    last_blk >> pack->seg_shift != 0 || media_blk > pack->media_mask)
		abort();
	return shape | (first->flags & PC_EXT_DIRTY) * (PC_PACKED_DIRTY / PC_EXT_DIRTY) |
	       media_blk << PC_PACKED_MEDIA_SHIFT;
}

/* The position goes into the word, or into both. */
static inline uint64_t set_pos(const struct pc_pack *pack, struct pc_leaf *leaf, uint32_t slot_idx, uint64_t pos)
{
	if (pack->high_bytes != 0)
		set_high(pack, leaf, slot_idx, (pos & pack->pos_mask) >> pack->low_bits);
	return (pos & pack->low_mask) << pack->pos_shift;
}

void pc_leaf_set(const struct pc_pack *pack, struct pc_leaf *leaf, uint32_t slot_idx, const struct pc_extent *extent,
		 uint64_t newest_pos)
{
	bool is_data = (extent->flags & ~PC_EXT_DIRTY) == PC_EXT_DATA;
	uint64_t word;

	if (is_data) {
		word = data_word(pack, extent, 1, newest_pos);
	} else {
		word = bare_shape(extent);
		if (newest_pos - extent->pos > pack->pos_mask || word == SHAPE_NONE || extent->len_blk == 0)
			abort();
		word |= extent->flags & PC_EXT_DIRTY ? PC_PACKED_DIRTY : 0;
	}
	leaf->keys[slot_idx] = pc_key_of(extent->vol_blk);
	leaf->crcs[slot_idx] = is_data ? extent->crc : extent->len_blk;
	leaf->words[slot_idx] = word | set_pos(pack, leaf, slot_idx, extent->pos);
}

/* Whether slot_idx holds DATA of this very range. */
static inline bool is_same(const struct pc_pack *pack, const struct pc_leaf *leaf, uint32_t slot_idx, int32_t key,
			   uint32_t len_blk)
{
	return leaf->keys[slot_idx] == key && pack->shape_len[leaf->words[slot_idx] & PC_SHAPE_MASK] == len_blk;
}

bool pc_leaf_swap(const struct pc_pack *pack, struct pc_leaf *leaf, uint32_t slot_idx, const struct pc_extent *extent,
		  uint64_t old_newest_pos, uint64_t newest_pos, struct pc_extent *out_old)
{
	uint64_t word;

	if (!is_same(pack, leaf, slot_idx, pc_key_of(extent->vol_blk), extent->len_blk))
		return false;
	*out_old = get_data(pack, leaf, slot_idx, extent->vol_blk, old_newest_pos);
	word = data_word(pack, extent, 1, newest_pos);
	leaf->words[slot_idx] = word | set_pos(pack, leaf, slot_idx, extent->pos);
	leaf->crcs[slot_idx] = extent->crc;
	return true;
}

/* All of a run but the keys. */
static inline void set_data(const struct pc_pack *pack, struct pc_leaf *leaf, uint32_t slot_idx, uint32_t nr,
			    const struct pc_extent_run *run, uint64_t newest_pos)
{
	const struct pc_extent *first = run->first;
	uint64_t word = data_word(pack, first, nr, newest_pos);
	uint64_t step = (uint64_t)first->len_blk << PC_PACKED_MEDIA_SHIFT;

	for (uint32_t i = 1; i < nr; i++)
		(void)set_pos(pack, leaf, slot_idx + i, first->pos);
	word |= set_pos(pack, leaf, slot_idx, first->pos);
	for (uint32_t i = 0; i < nr; i++, word += step)
		leaf->words[slot_idx + i] = word;
	if (run->crcs != NULL)
		memcpy(&leaf->crcs[slot_idx], run->crcs, nr * sizeof(leaf->crcs[0]));
	else
		memset(&leaf->crcs[slot_idx], 0, nr * sizeof(leaf->crcs[0]));
}

void pc_leaf_set_run(const struct pc_pack *pack, struct pc_leaf *leaf, uint32_t slot_idx, uint32_t nr,
		     const struct pc_extent_run *run, uint64_t newest_pos)
{
	for (uint32_t i = 0; i < nr; i++)
		leaf->keys[slot_idx + i] = pc_key_of(run->first->vol_blk + (uint64_t)i * run->first->len_blk);
	set_data(pack, leaf, slot_idx, nr, run, newest_pos);
}

/* Whether two DATA extents are of one segment, position and dirtiness. */
static inline bool is_alike(const struct pc_pack *pack, const struct pc_leaf *leaf, uint32_t a_idx, uint32_t b_idx)
{
	uint64_t differs = leaf->words[a_idx] ^ leaf->words[b_idx];

	return ((differs & PC_PACKED_DIRTY) | differs >> (PC_PACKED_MEDIA_SHIFT + pack->seg_shift)) == 0 &&
	       (pack->high_bytes == 0 || get_high(pack, leaf, a_idx) == get_high(pack, leaf, b_idx));
}

uint32_t pc_leaf_swap_run(const struct pc_pack *pack, struct pc_leaf *leaf, uint32_t slot_idx, uint32_t end_idx,
			  const struct pc_extent_run *run, uint64_t old_newest_pos, uint64_t newest_pos,
			  pc_displaced_fn displaced, void *ctx)
{
	uint32_t len_blk = run->first->len_blk, nr = 0, from, to;
	uint64_t vol_blk = run->first->vol_blk;

	end_idx = PC_MIN(end_idx, slot_idx + run->nr);
	while (slot_idx + nr < end_idx &&
	       is_same(pack, leaf, slot_idx + nr, pc_key_of(vol_blk + (uint64_t)nr * len_blk), len_blk))
		nr++;
	if (nr == 0)
		return 0;
	for (from = 0; displaced != NULL && from < nr; from = to) {
		struct pc_extent old =
			get_data(pack, leaf, slot_idx + from, vol_blk + (uint64_t)from * len_blk, old_newest_pos);

		for (to = from + 1; to < nr && is_alike(pack, leaf, slot_idx + from, slot_idx + to);)
			to++;
		old.len_blk = (to - from) * len_blk;
		displaced(ctx, &old);
	}
	set_data(pack, leaf, slot_idx, nr, run, newest_pos);
	return nr;
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
