/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bytes on media, version 1: structs, and for each the verbs encode, decode (validates; never repairs) and to_text.
 * Everything here is pure: no media, no allocation, no lock. docs/FORMAT.md is the prose.
 *
 *   0            zone A: superblock page, tail page, segment records (64 bytes each)
 *   data_off     segment 0 .. segment_nr - 1, segment_bytes each
 *   zone_b_off   zone B: segment records, tail page, superblock page. The last page used is its superblock, so it is found
 *                from the end of the file; the order is mirrored.
 *
 * Every record but ksets exists twice, once in each zone, and carries a sequence number and a CRC32C of its whole struct with
 * the crc member taken as zero.
 */
#ifndef PC_FORMAT_FORMAT_H
#define PC_FORMAT_FORMAT_H

#include <stdio.h>

#include "base/crc.h"
#include "base/types.h"
#include "format/le.h"

#define PC_FORMAT_VERSION 1u
#define PC_SLOT_BYTES 64u
#define PC_CELL_BYTES 32u /* header and keys of a kset are counted in cells */
#define PC_CRCS_PER_CELL 8u
#define PC_CHUNK_BYTES \
	4096u /* data CRCs cover chunks of at most this, counted from the start of the original allocation */

/* Result of a decode. */
enum pc_valid {
	PC_VALID = 0,
	PC_INVALID_MAGIC, /* not this kind of record at all */
	PC_INVALID_CRC, /* torn or damaged */
	PC_INVALID_VALUE, /* CRC is right, a value is out of its limits */
	PC_INVALID_VERSION, /* superblock only: other format version or unknown incompatible feature */
	PC_INVALID_IDENTITY /* kset only: position or nonce is another's */
};
const char *pc_valid_to_text(enum pc_valid valid);

/* ---- superblock: one page in each zone -------------------------------------------------------------------------- */

#define PC_SUPER_MAGIC "PCACHE\r\n"
#define PC_SUPER_BYTES 256u
#define PC_SUPER_FLAG_DATA_CRC 1u /* keys carry CRCs of their data */
#define PC_FEATURES_COMPAT_KNOWN 0u
#define PC_FEATURES_RO_COMPAT_KNOWN 0u
#define PC_FEATURES_INCOMPAT_KNOWN 0u

struct pcm_super {
	uint8_t magic[8];
	struct pcm_le32 version;
	struct pcm_le32 flags;
	struct pcm_le64 seq;
	struct pcm_le64 compat;
	struct pcm_le64 ro_compat;
	struct pcm_le64 incompat;
	uint8_t cache_uuid[16];
	uint8_t backing_uuid[16];
	struct pcm_le64 backing_bytes;
	struct pcm_le64 media_bytes; /* end of zone B */
	struct pcm_le64 data_off;
	struct pcm_le64 zone_b_off;
	struct pcm_le64 zone_bytes; /* of each zone */
	struct pcm_le32 segment_bytes;
	struct pcm_le32 segment_nr;
	struct pcm_le32 block_bytes;
	uint8_t reserved[120];
	struct pcm_le32 crc;
};
_Static_assert(sizeof(struct pcm_super) == PC_SUPER_BYTES, "superblock");
_Static_assert(offsetof(struct pcm_super, crc) == 252, "superblock crc is last");

struct pc_super {
	uint32_t version;
	uint32_t flags;
	uint64_t seq;
	uint64_t compat;
	uint64_t ro_compat; /* bits outside PC_FEATURES_RO_COMPAT_KNOWN: open read-only */
	uint64_t incompat;
	uint8_t cache_uuid[16];
	uint8_t backing_uuid[16];
	uint64_t backing_bytes;
	uint64_t media_bytes;
	uint64_t data_off;
	uint64_t zone_b_off;
	uint64_t zone_bytes;
	uint32_t segment_bytes;
	uint32_t segment_nr;
	uint32_t block_bytes;
};

void pc_super_encode(const struct pc_super *super, struct pcm_super *out_media);
/* Checks magic, CRC, version and incompatible features, then flags, reserved bytes, every rule of pc_geo_check and the backing's size. */
enum pc_valid pc_super_decode(const struct pcm_super *media, struct pc_super *out_super);
void pc_super_to_text(FILE *to, const struct pc_super *super);

/* ---- geometry: where things are, computed from the superblock alone --------------------------------------------- */

#define PC_SEGMENT_BYTES_MAX (16u << 20)
#define PC_SEGMENT_BYTES_MIN 4096u /* explicit option; the default rule never goes below PC_SEGMENT_BYTES_DEFAULT_MIN */
#define PC_SEGMENT_BYTES_DEFAULT_MIN (128u << 10)
#define PC_SEGMENT_NR_DEFAULT_MIN \
	64u /* the default segment is the largest power of two that gives at least this many; fewer are too small a cache */
#define PC_SEGMENT_NR_MIN 8u
#define PC_SEGMENT_NR_MAX (1u << 24)

/* Zone A: superblock at 0, tail record at PC_PAGE_BYTES, segment record i at 2 * PC_PAGE_BYTES + 64 * i.
 * Zone B: segment record i at zone_b_off + 64 * i, tail at media_bytes - 2 pages, superblock at media_bytes - 1 page. */
uint64_t pc_geo_super_off(const struct pc_super *super, unsigned int replica); /* replica 0 is in zone A, 1 in zone B */
uint64_t pc_geo_tail_off(const struct pc_super *super, unsigned int replica);
uint64_t pc_geo_segrec_off(const struct pc_super *super, unsigned int replica, uint32_t seg_id);
uint64_t pc_geo_segment_off(const struct pc_super *super, uint32_t seg_id);
static inline uint32_t pc_geo_slots_per_segment(const struct pc_super *super)
{
	return super->segment_bytes / PC_SLOT_BYTES;
}

/*
 * Lays out a cache of at most media_bytes (rounded down to pages): fills in media_bytes, data_off, zone_b_off, zone_bytes, segment_bytes, segment_nr, block_bytes.
 * segment_bytes 0 takes the default rule. data_off is aligned to min(segment_bytes, 2 MiB). Returns 0, -EINVAL (segment_bytes or block_bytes impossible)
 * or PCACHE_E_TOO_SMALL.
 */
int pc_geo_plan(uint64_t media_bytes, uint32_t segment_bytes, uint32_t block_bytes, struct pc_super *super);
/* Smallest media_bytes that pc_geo_plan accepts with segment_bytes (0: the default rule); UINT64_MAX if it accepts none. */
uint64_t pc_geo_min_bytes(uint32_t segment_bytes, uint32_t block_bytes);
/* Every geometry rule, for untrusted superblocks; true if all hold. */
bool pc_geo_check(const struct pc_super *super);

/* ---- segment record: one cache line per segment and zone --------------------------------------------------------- */

#define PC_SEGREC_MAGIC 0x47534350u /* "PCSG" */
#define PC_ORDINAL_MAX (UINT64_C(1) << 45) /* log positions do not wrap, whatever the segment size */
enum pc_seg_type { PC_SEG_FREE = 0, PC_SEG_DATA = 1, PC_SEG_LOG = 2 };

struct pcm_segrec {
	struct pcm_le32 magic;
	struct pcm_le32 seg_id;
	struct pcm_le64 seq;
	struct pcm_le64 gen; /* raised durably each time the segment is taken into use */
	struct pcm_le64 ordinal; /* LOG: place in the log, from 1; else 0 */
	struct pcm_le64 nonce; /* LOG: random, compared with every kset; else 0 */
	struct pcm_le32 type;
	uint8_t reserved[16];
	struct pcm_le32 crc;
};
_Static_assert(sizeof(struct pcm_segrec) == 64, "segment record is one cache line");

struct pc_segrec {
	uint32_t seg_id;
	uint32_t type; /* enum pc_seg_type */
	uint64_t seq;
	uint64_t gen;
	uint64_t ordinal;
	uint64_t nonce;
};

void pc_segrec_encode(const struct pc_segrec *rec, struct pcm_segrec *out_media);
enum pc_valid pc_segrec_decode(const struct pcm_segrec *media, uint32_t seg_id, struct pc_segrec *out_rec);
void pc_segrec_to_text(FILE *to, const struct pc_segrec *rec);

/* ---- tail record: one cache line in a page of its own in each zone ---------------------------------------------------- */

#define PC_TAIL_MAGIC 0x4c544350u /* "PCTL" */
#define PC_TAIL_FLAG_CLEAN_CLOSE 1u
#define PC_TAIL_FLAG_ORDERING_BATCH 2u
#define PC_GC_PERCENT_MAX 90u

struct pcm_tail {
	struct pcm_le32 magic;
	struct pcm_le32 flags;
	struct pcm_le64 seq;
	struct pcm_le64 log_tail_pos; /* first slot of the oldest LOG segment still needed */
	struct pcm_le64 dirty_tail_pos; /* all data of keys below is on the backing */
	struct pcm_le64 mark_pos; /* everything below is durable */
	struct pcm_le32 gc_percent;
	uint8_t reserved[16];
	struct pcm_le32 crc;
};
_Static_assert(sizeof(struct pcm_tail) == 64, "tail record is one cache line");

struct pc_tail {
	uint32_t flags;
	uint32_t gc_percent;
	uint64_t seq;
	uint64_t log_tail_pos;
	uint64_t dirty_tail_pos;
	uint64_t mark_pos;
};

void pc_tail_encode(const struct pc_tail *tail, struct pcm_tail *out_media);
enum pc_valid pc_tail_decode(const struct pcm_tail *media, struct pc_tail *out_tail);
void pc_tail_to_text(FILE *to, const struct pc_tail *tail);

/* ---- kset: header, then keys or a mark; a multiple of slots ------------------------------------------------------------- */
/*
 * A log position is ordinal * slots_per_segment + slot number; ordinals start at 1. A kset never crosses a segment.
 * The header's crc covers all slot_nr * 64 bytes (its own member as zero) of KEYS and MARK ksets, whose padding is zero; of a VOID kset it covers
 * the first slot only, whatever slot_nr, and the slots that it skips may hold anything.
 */
enum pc_kset_type { PC_KSET_KEYS = 1, PC_KSET_VOID = 2, PC_KSET_MARK = 3 };
#define PC_KSET_SLOTS_MAX 65536u /* longest KEYS kset, 4 MiB */
#define PC_KSET_FLAG_FLUSH 1u /* MARK: ends an epoch */

struct pcm_kset {
	struct pcm_le64 pos;
	struct pcm_le64 nonce;
	struct pcm_le32 crc;
	struct pcm_le32 slot_nr;
	struct pcm_le32 key_nr; /* KEYS: at least 1; else 0 */
	struct pcm_le16 type;
	struct pcm_le16 flags;
};
_Static_assert(sizeof(struct pcm_kset) == PC_CELL_BYTES, "kset header is one cell");

struct pcm_mark { /* second cell of a MARK kset */
	struct pcm_le64
		low_pos; /* everything below was durable when the mark was made; at most the position of the mark */
	uint8_t reserved[24];
};
_Static_assert(sizeof(struct pcm_mark) == PC_CELL_BYTES, "mark is one cell");

#define PC_KEY_BLK_BITS 48
#define PC_KEY_BLK_MASK ((UINT64_C(1) << PC_KEY_BLK_BITS) - 1)
#define PC_KEY_BARE_BLK_MAX \
	(1u << 19) /* longest key without data: one such key never costs an open more than a few extents */
enum pc_key_type { PC_KEY_DATA = 0, PC_KEY_ZERO = 1, PC_KEY_POISON = 2 };
#define PC_KEY_TYPE_MASK 3u
#define PC_KEY_CLEAN 4u /* the backing has the same bytes: a fill, or appended again by cleaning */
#define PC_KEY_RELOGGED 8u /* appended again: its data was durable before */
#define PC_KEY_DISCARD 16u /* ZERO: space on the backing may be given up */
#define PC_KEY_FLAGS_KNOWN 31u

/*
 * Key: range of the backing -> place of its data. Data is at block seg_blk of segment seg_id if the segment's generation equals gen, else the key
 * carries no data but still erases older keys of its range.
 *
 * geom: bits 0..2 head_blk, bits 3..5 tail_blk. The CRC chunks run from block (seg_blk - head_blk) to (seg_blk + len_blk + tail_blk), every
 * chunk_blk = 4096 / block_bytes blocks (the last may be shorter): so a fragment of a chunk can still be verified by reading the whole chunk.
 * One chunk: its CRC is in crc. More: crc is 0, and cells of 8 CRCs each, the last padded with zeroes, follow the key.
 * ZERO and POISON: gen, seg_id, seg_blk, geom and crc are 0, no chunk cells. Without PC_SUPER_FLAG_DATA_CRC: crc 0, no chunk cells.
 */
struct pcm_key {
	struct pcm_le64 vol_blk; /* volume << 48 | first cache block */
	struct pcm_le64 gen;
	struct pcm_le32 crc;
	struct pcm_le32 seg_id;
	struct pcm_le32 len_blk; /* not 0 */
	struct pcm_le16 seg_blk;
	uint8_t geom;
	uint8_t flags;
};
_Static_assert(sizeof(struct pcm_key) == PC_CELL_BYTES, "key is one cell");

#define PC_GEOM(head_blk, tail_blk) ((uint8_t)((head_blk) | (tail_blk) << 3))
#define PC_GEOM_HEAD(geom) ((uint32_t)(geom)&7u)
#define PC_GEOM_TAIL(geom) ((uint32_t)(geom) >> 3 & 7u)

struct pc_kset {
	uint64_t pos;
	uint64_t nonce;
	uint32_t slot_nr;
	uint32_t key_nr;
	uint16_t type;
	uint16_t flags;
	uint64_t mark_low_pos; /* MARK only */
};

struct pc_key {
	uint64_t vol_blk;
	uint64_t gen;
	uint32_t crc;
	uint32_t seg_id;
	uint32_t len_blk;
	uint16_t seg_blk;
	uint8_t geom;
	uint8_t flags;
};

/* What the pure functions must know of the cache that a kset belongs to. */
struct pc_kset_rules {
	uint32_t block_bytes;
	uint32_t segment_bytes;
	uint32_t segment_nr;
	uint64_t backing_blk; /* keys end at most here */
	bool data_crc;
};
void pc_kset_rules_of(const struct pc_super *super, struct pc_kset_rules *out_rules);

/* Blocks are powers of two: a shift, as this is asked several times for each key of the log. */
static inline uint32_t pc_chunk_blk(uint32_t block_bytes)
{
	return PC_CHUNK_BYTES >> __builtin_ctz(block_bytes);
}
/* Number of chunks that a DATA key touches, from its geometry. */
uint32_t pc_key_chunk_nr(const struct pc_key *key, uint32_t block_bytes);
/* Cells of a key and its chunk CRCs. */
uint32_t pc_key_cell_nr(const struct pc_key *key, const struct pc_kset_rules *rules);
static inline uint32_t pc_cells_to_slots(uint32_t cell_nr)
{
	return (cell_nr + 1) / 2;
}

/* Encoding: a KEYS kset is built in a zeroed buffer of slots: cell 0 is left for the header, keys follow from cell 1. */
void pc_key_encode(const struct pc_key *key, struct pcm_key *out_cell);
void pc_key_decode(const struct pcm_key *cell, struct pc_key *out_key); /* checks nothing: see pc_key_check */
/* One slot with one key of DATA of one chunk, whose CRC is crc, sealed: 8 words. What pc_key_encode and pc_kset_seal do, faster. */
void pc_kset_encode_one(uint64_t *out_slot, uint64_t pos, uint64_t nonce, const struct pc_key *key, uint32_t crc);
#define PC_CELL_WORDS (PC_CELL_BYTES / sizeof(uint64_t))
/* Cells as words, little-endian: what is read soon, or wide, must not be stored in narrow parts, nor the other way round; so all of it stays in registers. */
static inline void pc_kset_header_words(uint64_t *cell, uint64_t pos, uint64_t nonce, uint32_t slot_nr, uint32_t key_nr)
{
	cell[0] = pos;
	cell[1] = nonce;
	cell[2] = (uint64_t)slot_nr << 32;
	cell[3] = key_nr | (uint64_t)PC_KSET_KEYS << 32;
}
static inline __attribute__((always_inline)) void pc_key_words(uint64_t *cell, const struct pc_key *key, uint32_t crc)
{
	cell[0] = key->vol_blk;
	cell[1] = key->gen;
	cell[2] = (uint64_t)key->seg_id << 32 | crc;
	cell[3] = (uint64_t)key->flags << 56 | (uint64_t)key->geom << 48 | (uint64_t)key->seg_blk << 32 | key->len_blk;
}

/*
 * A kset of several such keys, whose CRC grows with each: begin, add key_nr times, end, which returns the number of slots. Between them slots that are full are what they will be, but for the
 * first, which is not before the end.
 */
#define PC_KSET_WORDS_KEYS 32u
struct pc_kset_words {
	uint32_t cell_nr; /* that are there */
	uint32_t crc; /* of them */
	uint64_t cells[(1 + PC_KSET_WORDS_KEYS + 1) * PC_CELL_WORDS];
};
static inline void pc_kset_begin(struct pc_kset_words *kset, uint64_t pos, uint64_t nonce, uint32_t key_nr)
{
	pc_kset_header_words(kset->cells, pos, nonce, pc_cells_to_slots(1 + key_nr), key_nr);
	kset->crc = pc_crc32c(0, kset->cells, PC_CELL_BYTES);
	kset->cell_nr = 1;
}
static inline __attribute__((always_inline)) void pc_kset_add(struct pc_kset_words *kset, const struct pc_key *key,
							      uint32_t crc)
{
	uint64_t *cell = kset->cells + (size_t)kset->cell_nr++ * PC_CELL_WORDS;

	pc_key_words(cell, key, crc);
	kset->crc = pc_crc32c(kset->crc, cell, PC_CELL_BYTES);
}
uint32_t pc_kset_end(struct pc_kset_words *kset);

/* Seals the header of a KEYS kset whose cells 1.. are in place: buf has slot_nr * 64 bytes, 8-byte aligned. */
void pc_kset_seal(void *buf, uint64_t pos, uint64_t nonce, uint32_t slot_nr, uint32_t key_nr);
void pc_kset_encode_void(void *slot, uint64_t pos, uint64_t nonce, uint32_t slot_nr);
void pc_kset_encode_mark(void *slot, uint64_t pos, uint64_t nonce, uint16_t flags, uint64_t low_pos);

/*
 * Decodes the kset that starts at buf (8-byte aligned, avail_slots of the segment lie behind it) and should be at pos with nonce: compares position and nonce in full,
 * then slot_nr against avail_slots, then the CRC, then every key (pc_key_check) against the rules, and that keys fill the slots exactly.
 * A slot_nr that does not fit is PC_INVALID_CRC: what it covers cannot be verified. Any bytes may lie at buf, and may even change meanwhile.
 */
enum pc_valid pc_kset_decode(const void *buf, uint32_t avail_slots, uint64_t pos, uint64_t nonce,
			     const struct pc_kset_rules *rules, struct pc_kset *out_kset);

/*
 * The same for what millions of slots hold: a kset of one slot with one DATA key of one chunk. True: it is valid, and *out_key is its key. False says nothing; ask pc_kset_decode. buf: a slot, 8-byte
 * aligned.
 */
bool pc_kset_decode_one(const void *buf, uint64_t pos, uint64_t nonce, const struct pc_kset_rules *rules,
			struct pc_key *out_key);

/* Walks the keys of a kset that pc_kset_decode accepted. */
struct pc_key_cursor {
	const uint8_t *next_cell;
	uint32_t left_nr;
	const struct pc_kset_rules *rules;
};
void pc_key_first(const void *buf, const struct pc_kset *kset, const struct pc_kset_rules *rules,
		  struct pc_key_cursor *out_cursor);
/* False at the end. *out_crcs: the chunk CRCs, also for a single chunk (then it points to the crc in the cell); NULL without data CRC and for ZERO, POISON. */
bool pc_key_next(struct pc_key_cursor *cursor, struct pc_key *out_key, const struct pcm_le32 **out_crcs);

/* Same checks as in pc_kset_decode for one key. */
bool pc_key_check(const struct pc_key *key, const struct pc_kset_rules *rules);

void pc_kset_to_text(FILE *to, const struct pc_kset *kset);
void pc_key_to_text(FILE *to, const struct pc_key *key, const struct pcm_le32 *crcs, uint32_t chunk_nr);

#endif
