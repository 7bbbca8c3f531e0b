/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A leaf: up to PC_LEAF_NR extents, sorted, packed. Private to src/index and its tests.
 *
 *     keys    4 B each   low half of the block number; the high half is the region, the same for a whole node
 *     words   8 B each   | position, its low bits | block on the media | dirty 1 | shape 7 |
 *     crcs    4 B each   DATA: the CRC; else the length
 *     highs   0, 2 or 4 B each   the rest of the position, where the word has no room for it
 *
 * The keys lie together, so a search touches two cache lines and needs no branch: it counts the keys that are not greater, of 16 at a time. They are stored with the
 * top bit turned, as signed compares are what every processor has; behind the last extent they are the greatest there is.
 *
 * Shape. A DATA extent lies in a chunk of at most 8 blocks: blocks before it, length and blocks behind it have 120 combinations. Three further codes are
 * ZERO, ZERO that may give up space, and POISON, of any length.
 *
 * Position. Stored modulo 2^pos_bits, and read back as the highest one that is not above the newest position of the shard. Live positions
 * lie in the log, between its tail and its head, and the log has no more slots than all segments together; pos_bits covers that many.
 */
#ifndef PC_INDEX_LEAF_H
#define PC_INDEX_LEAF_H

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "index/index.h"

#define PC_LEAF_NR 32u /* extents in a full leaf */
#define PC_SHAPE_BITS 7u
#define PC_SHAPE_NR 120u /* of DATA */
#define PC_WORD_PLACE_BITS 56u /* of a word, for block and position */

/* How the extents of an index are packed. Constant. */
struct pc_pack {
	uint32_t leaf_bytes;
	uint8_t seg_shift; /* log2 of the blocks of a segment */
	uint8_t media_bits; /* block on the media: segment, and block in it */
	uint8_t pos_bits;
	uint8_t low_bits; /* of the position, in the word */
	uint8_t high_bytes; /* for the rest of the position: 0, 2, 4 */
	uint8_t pos_shift; /* of the position in the word */
	uint64_t media_mask; /* as many ones as bits, of these three */
	uint64_t pos_mask;
	uint64_t low_mask;
	uint8_t shape_of_geom[64]; /* of length 1; a longer one adds to it */
	uint8_t shape_len[1u << PC_SHAPE_BITS];
	uint8_t shape_geom[1u << PC_SHAPE_BITS];
};

struct pc_leaf {
	union {
		int32_t keys[PC_LEAF_NR];
		struct pc_leaf *next_free; /* while on the free list */
	};
	uint64_t words[PC_LEAF_NR];
	uint32_t crcs[PC_LEAF_NR];
	uint16_t highs[]; /* PC_LEAF_NR of 2 or 4 bytes, or none */
};
_Static_assert(sizeof(struct pc_leaf) == 16 * PC_LEAF_NR, "16 bytes per extent");

#define PC_KEY_TURN 0x80000000u
#define PC_KEY_PAST INT32_MAX /* in the places behind the last key */

static inline int32_t pc_key_of(uint64_t vol_blk)
{
	return (int32_t)((uint32_t)vol_blk ^ PC_KEY_TURN);
}

static inline uint64_t pc_key_blk(uint32_t region, int32_t key)
{
	return (uint64_t)region << 32 | ((uint32_t)key ^ PC_KEY_TURN);
}

typedef int32_t pc_keys4 __attribute__((vector_size(16), may_alias));

/* How many of 16 sorted keys, on a 16-byte border, are not greater. */
static inline __attribute__((always_inline)) uint32_t pc_keys_count_16(const int32_t *keys, int32_t key)
{
#if defined(__SSE2__)
	const __m128i *vecs = (const __m128i *)(const void *)keys;
	const __m128i wanted = _mm_set1_epi32(key);
	__m128i low = _mm_packs_epi32(_mm_cmpgt_epi32(vecs[0], wanted), _mm_cmpgt_epi32(vecs[1], wanted));
	__m128i high = _mm_packs_epi32(_mm_cmpgt_epi32(vecs[2], wanted), _mm_cmpgt_epi32(vecs[3], wanted));

	/* A bit for each that is greater. */
	return (uint32_t)__builtin_ctz((uint32_t)_mm_movemask_epi8(_mm_packs_epi16(low, high)) | 1u << 16);
#else
	const pc_keys4 *vecs = (const pc_keys4 *)(const void *)keys;
	const pc_keys4 wanted = { key, key, key, key };
	pc_keys4 sum = (vecs[0] <= wanted) + (vecs[1] <= wanted) + (vecs[2] <= wanted) + (vecs[3] <= wanted);

	return (uint32_t) - (sum[0] + sum[1] + sum[2] + sum[3]);
#endif
}

/* How many keys of a leaf are not greater: those of places that hold nothing count as well if key is PC_KEY_PAST. */
static inline __attribute__((always_inline)) uint32_t pc_leaf_keys_count(const int32_t *keys, int32_t key)
{
	uint32_t before = keys[16] <= key ? 16 : 0;

	return before + pc_keys_count_16(keys + before, key);
}

/* 0 or -EINVAL: not possible with such a segment, or so many positions. */
int pc_pack_init(struct pc_pack *pack, const struct pc_index_params *params);

/* An extent as it lies in a leaf, but for its first block. */
struct pc_packed {
	uint64_t word;
	uint64_t high;
	uint32_t crc;
};

#define PC_PACKED_DIRTY (UINT64_C(1) << PC_SHAPE_BITS)
#define PC_PACKED_MEDIA_SHIFT (PC_SHAPE_BITS + 1u)
#define PC_SHAPE_MASK ((1u << PC_SHAPE_BITS) - 1)
#define PC_SHAPE_ZERO PC_SHAPE_NR
#define PC_SHAPE_DISCARD (PC_SHAPE_NR + 1)
#define PC_SHAPE_POISON (PC_SHAPE_NR + 2)

static inline uint64_t pc_unpack_pos(const struct pc_pack *pack, const struct pc_packed *packed, uint64_t newest_pos)
{
	uint64_t pos = packed->word >> pack->pos_shift | packed->high << pack->low_bits;

	return newest_pos - ((newest_pos - pos) & pack->pos_mask);
}

/* One that is known to be DATA. newest_pos: of the shard, not below any position in it. */
static inline struct pc_extent pc_unpack_data(const struct pc_pack *pack, const struct pc_packed *packed,
					      uint64_t vol_blk, uint64_t newest_pos)
{
	uint64_t media_blk = packed->word >> PC_PACKED_MEDIA_SHIFT & pack->media_mask;
	uint32_t shape = packed->word & PC_SHAPE_MASK;

	return (struct pc_extent){
		.vol_blk = vol_blk,
		.pos = pc_unpack_pos(pack, packed, newest_pos),
		.len_blk = pack->shape_len[shape],
		.seg_id = (uint32_t)(media_blk >> pack->seg_shift),
		.crc = packed->crc,
		.seg_blk = (uint16_t)(media_blk & ((UINT64_C(1) << pack->seg_shift) - 1)),
		.geom = pack->shape_geom[shape],
		.flags = (uint8_t)(packed->word / PC_PACKED_DIRTY % 2 * PC_EXT_DIRTY),
	};
}

/* Any bits give some extent. */
static inline struct pc_extent pc_unpack(const struct pc_pack *pack, const struct pc_packed *packed, uint64_t vol_blk,
					 uint64_t newest_pos)
{
	uint32_t shape = packed->word & PC_SHAPE_MASK;
	struct pc_extent extent;

	if (shape < PC_SHAPE_NR)
		return pc_unpack_data(pack, packed, vol_blk, newest_pos);
	extent = (struct pc_extent){
		.vol_blk = vol_blk,
		.pos = pc_unpack_pos(pack, packed, newest_pos),
		.len_blk = packed->crc,
		.flags = packed->word & PC_PACKED_DIRTY ? PC_EXT_DIRTY : 0,
	};
	if (shape == PC_SHAPE_POISON)
		extent.flags |= PC_EXT_POISON;
	else
		extent.flags |= shape == PC_SHAPE_DISCARD ? PC_EXT_ZERO | PC_EXT_DISCARD : PC_EXT_ZERO;
	return extent;
}

/* The extent in slot_idx. newest_pos: of the shard, not below any position in it. */
struct pc_extent pc_leaf_get(const struct pc_pack *pack, const struct pc_leaf *leaf, uint32_t slot_idx, uint32_t region,
			     uint64_t newest_pos);
/* Aborts if the extent cannot be packed: a wrong one would be served later. */
void pc_leaf_set(const struct pc_pack *pack, struct pc_leaf *leaf, uint32_t slot_idx, const struct pc_extent *extent,
		 uint64_t newest_pos);

/*
 * extent, DATA, takes the place of what is in slot_idx if that has the very same range, and is DATA too; *out_old is what goes. Else false, and nothing has changed. old_newest_pos: of the shard,
 * until now; newest_pos: from now on. Aborts like pc_leaf_set.
 */
bool pc_leaf_swap(const struct pc_pack *pack, struct pc_leaf *leaf, uint32_t slot_idx, const struct pc_extent *extent,
		  uint64_t old_newest_pos, uint64_t newest_pos, struct pc_extent *out_old);

/*
 * As pc_leaf_swap, from slot_idx on, for as many of the run as find their places before end_idx. Returns how many. What goes is shown to displaced (may be NULL): neighbours of one segment,
 * position and dirtiness as one piece that is as long as all of them; its crc and geom mean nothing.
 */
uint32_t pc_leaf_swap_run(const struct pc_pack *pack, struct pc_leaf *leaf, uint32_t slot_idx, uint32_t end_idx,
			  const struct pc_extent_run *run, uint64_t old_newest_pos, uint64_t newest_pos,
			  pc_displaced_fn displaced, void *ctx);
/* Puts the first nr of a run into slots from slot_idx on, whatever is there. */
void pc_leaf_set_run(const struct pc_pack *pack, struct pc_leaf *leaf, uint32_t slot_idx, uint32_t nr,
		     const struct pc_extent_run *run, uint64_t newest_pos);
/* Which of the first extent_nr extents are dirty and have a position in [from_pos, end_pos): a bit for each. */
uint32_t pc_leaf_dirty_mask(const struct pc_pack *pack, const struct pc_leaf *leaf, uint32_t extent_nr,
			    uint64_t newest_pos, uint64_t from_pos, uint64_t end_pos);

static inline uint32_t pc_leaf_len_blk(const struct pc_pack *pack, const struct pc_leaf *leaf, uint32_t slot_idx)
{
	uint32_t len_blk = pack->shape_len[leaf->words[slot_idx] & ((1u << PC_SHAPE_BITS) - 1)];

	return len_blk != 0 ? len_blk : leaf->crcs[slot_idx];
}

/* Copies nr packed extents; from and to may be the same leaf, and overlap. */
void pc_leaf_move(const struct pc_pack *pack, struct pc_leaf *to, uint32_t to_idx, const struct pc_leaf *from,
		  uint32_t from_idx, uint32_t nr);

/* The places from nr on hold nothing. */
static inline void pc_leaf_end_at(struct pc_leaf *leaf, uint32_t nr)
{
	for (uint32_t i = nr; i < PC_LEAF_NR; i++)
		leaf->keys[i] = PC_KEY_PAST;
}

/* The steps in a leaf that is not in the processor's caches would miss one after the other: let them miss together. */
static inline void pc_leaf_prefetch(const struct pc_pack *pack, const struct pc_leaf *leaf)
{
	for (uint32_t at = 0; at < pack->leaf_bytes; at += PC_CACHE_LINE_BYTES)
		__builtin_prefetch((const char *)leaf + at);
}

/* The same for a change. */
static inline void pc_leaf_prefetch_to_change(const struct pc_pack *pack, const struct pc_leaf *leaf)
{
	for (uint32_t at = 0; at < pack->leaf_bytes; at += PC_CACHE_LINE_BYTES)
		__builtin_prefetch((const char *)leaf + at, 1);
}

#endif
