/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ksets: what is committed to the log at once. A header cell, then keys (KEYS) or a mark (MARK) or nothing (VOID), in whole slots.
 *
 * Decoding is what replay rests on. The bytes may be stale, torn, damaged or made up, so position and nonce are compared in
 * full before anything is believed: that also rejects nearly every slot past the end of the log after reading 16 bytes. Then
 * comes the CRC, and after it every value is still checked, because a CRC shows only that somebody computed it. Cells are
 * counted down from slot_nr, whatever key_nr claims, and header and keys are copied before they are checked.
 *
 * The CRC covers the padding too, so that a kset has exactly one image, and a flipped bit anywhere in it shows. The slots that a
 * VOID skips keep whatever a torn write left there; only its first slot is sealed.
 *
 * Encoding belongs to log and recovery, which own the order of stores. Pure: no media, no lock, no allocation.
 */
#include <inttypes.h>
#include <string.h>

#include "format/format.h"
#include "format/seal.h"
#include "format/text.h"

/* The first slot, as it is copied out before it is looked at. */
struct first_slot {
	struct pcm_kset header;
	union {
		struct pcm_mark mark;
		uint8_t bytes[PC_CELL_BYTES];
	} second;
};
_Static_assert(sizeof(struct first_slot) == PC_SLOT_BYTES, "a slot is two cells");

/*
 * The same for decoding. Only whole words of it are changed: replay decodes every slot of the log, and a processor waits some 15 ns where a wide load follows narrow stores to the
 * same place.
 */
union slot_copy {
	struct first_slot slot;
	uint64_t words[PC_SLOT_BYTES / sizeof(uint64_t)];
};
#define CRC_WORD (offsetof(struct pcm_kset, crc) / sizeof(uint64_t))
#define CRC_WORD_MASK UINT64_C(0xffffffff) /* the CRC is the low half of its word */
_Static_assert(offsetof(struct pcm_kset, crc) % sizeof(uint64_t) == 0, "the CRC is the low half of its word");

static void header_encode(struct pcm_kset *out_header, const struct pc_kset *kset)
{
	out_header->pos = pc_le64(kset->pos);
	out_header->nonce = pc_le64(kset->nonce);
	out_header->crc = pc_le32(0);
	out_header->slot_nr = pc_le32(kset->slot_nr);
	out_header->key_nr = pc_le32(kset->key_nr);
	out_header->type = pc_le16(kset->type);
	out_header->flags = pc_le16(kset->flags);
}

void pc_kset_seal(void *buf, uint64_t pos, uint64_t nonce, uint32_t slot_nr, uint32_t key_nr)
{
	const struct pc_kset kset = {
		.pos = pos, .nonce = nonce, .slot_nr = slot_nr, .key_nr = key_nr, .type = PC_KSET_KEYS
	};
	struct pcm_kset *header = buf;

	header_encode(header, &kset);
	header->crc = pc_le32(pc_crc32c(0, buf, (size_t)slot_nr * PC_SLOT_BYTES));
}

void pc_kset_encode_one(uint64_t *out_slot, uint64_t pos, uint64_t nonce, const struct pc_key *key, uint32_t crc)
{
	pc_kset_header_words(out_slot, pos, nonce, 1, 1);
	pc_key_words(out_slot + PC_CELL_WORDS, key, crc);
	out_slot[CRC_WORD] = UINT64_C(1) << 32 | pc_crc32c(0, out_slot, PC_SLOT_BYTES);
}

uint32_t pc_kset_end(struct pc_kset_words *kset)
{
	if (kset->cell_nr % 2) {
		uint64_t *cell = kset->cells + (size_t)kset->cell_nr++ * PC_CELL_WORDS;

		for (uint32_t i = 0; i < PC_CELL_WORDS; i++)
			cell[i] = 0;
		kset->crc = pc_crc32c(kset->crc, cell, PC_CELL_BYTES);
	}
	kset->cells[CRC_WORD] |= kset->crc;
	return kset->cell_nr / 2;
}

/* Seals a kset of which only the first slot counts. */
static void encode_first_slot(void *slot, const struct pc_kset *kset)
{
	struct first_slot first;

	memset(&first, 0, sizeof(first));
	header_encode(&first.header, kset);
	if (kset->type == PC_KSET_MARK)
		first.second.mark.low_pos = pc_le64(kset->mark_low_pos);
	first.header.crc = pc_le32(pc_crc32c(0, &first, sizeof(first)));
	memcpy(slot, &first, sizeof(first));
}

void pc_kset_encode_void(void *slot, uint64_t pos, uint64_t nonce, uint32_t slot_nr)
{
	const struct pc_kset kset = { .pos = pos, .nonce = nonce, .slot_nr = slot_nr, .type = PC_KSET_VOID };

	encode_first_slot(slot, &kset);
}

void pc_kset_encode_mark(void *slot, uint64_t pos, uint64_t nonce, uint16_t flags, uint64_t low_pos)
{
	const struct pc_kset kset = {
		.pos = pos, .nonce = nonce, .slot_nr = 1, .type = PC_KSET_MARK, .flags = flags, .mark_low_pos = low_pos
	};

	encode_first_slot(slot, &kset);
}

/* slot_nr was checked against the slots that are there. Zeroes the CRC in the copy. */
static bool crc_matches(union slot_copy *first, const uint8_t *buf, const struct pc_kset *kset)
{
	uint32_t expected = pc_get32(first->slot.header.crc), crc;

	first->words[CRC_WORD] &= ~CRC_WORD_MASK;
	crc = pc_crc32c(0, first->words, sizeof(first->words));
	if (kset->slot_nr > 1 && kset->type != PC_KSET_VOID)
		crc = pc_crc32c(crc, buf + PC_SLOT_BYTES, (size_t)(kset->slot_nr - 1) * PC_SLOT_BYTES);
	return crc == expected;
}

/* The last chunk cell of a key ends in zeroes. */
static bool chunk_padding_is_zero(const struct pcm_le32 *crcs, uint32_t chunk_nr, uint32_t cell_nr)
{
	const uint32_t room_nr = (cell_nr - 1) * PC_CRCS_PER_CELL;

	return pc_seal_is_zero(crcs + chunk_nr, (size_t)(room_nr - chunk_nr) * sizeof(*crcs));
}

static bool keys_are_sound(const uint8_t *buf, const struct pc_kset *kset, const struct pc_kset_rules *rules)
{
	const uint8_t *cell = buf + PC_CELL_BYTES;
	uint64_t left_cells = (uint64_t)kset->slot_nr * 2 - 1;
	struct pc_key key;
	uint32_t cell_nr;

	if (kset->key_nr == 0)
		return false;
	for (uint32_t i = 0; i < kset->key_nr; i++) {
		if (left_cells == 0)
			return false;
		pc_key_decode((const void *)cell, &key);
		if (!pc_key_check(&key, rules))
			return false;
		cell_nr = pc_key_cell_nr(&key, rules);
		if (cell_nr > left_cells)
			return false;
		if (cell_nr > 1 && !chunk_padding_is_zero((const void *)(cell + PC_CELL_BYTES),
							  pc_key_chunk_nr(&key, rules->block_bytes), cell_nr))
			return false;
		cell += (size_t)cell_nr * PC_CELL_BYTES;
		left_cells -= cell_nr;
	}
	/* At most one cell is over, which is padding. */
	return left_cells <= 1 && pc_seal_is_zero(cell, (size_t)left_cells * PC_CELL_BYTES);
}

static bool values_are_sound(const struct pc_kset *kset, const struct first_slot *first, const uint8_t *buf,
			     const struct pc_kset_rules *rules)
{
	switch (kset->type) {
	case PC_KSET_KEYS:
		return kset->flags == 0 && kset->slot_nr <= PC_KSET_SLOTS_MAX && keys_are_sound(buf, kset, rules);
	case PC_KSET_VOID:
		return kset->flags == 0 && kset->key_nr == 0 && pc_seal_is_zero(&first->second, sizeof(first->second));
	case PC_KSET_MARK:
		return (kset->flags & ~PC_KSET_FLAG_FLUSH) == 0 && kset->key_nr == 0 && kset->slot_nr == 1 &&
		       kset->mark_low_pos <= kset->pos &&
		       pc_seal_is_zero(first->second.mark.reserved, sizeof(first->second.mark.reserved));
	default:
		return false;
	}
}

enum pc_valid pc_kset_decode(const void *buf, uint32_t avail_slots, uint64_t pos, uint64_t nonce,
			     const struct pc_kset_rules *rules, struct pc_kset *out_kset)
{
	union slot_copy first;
	struct pc_kset kset;

	if (avail_slots == 0)
		return PC_INVALID_IDENTITY;
	/* What is compared is what the CRC is taken of, even if the bytes change meanwhile. */
	memcpy(&first, buf, sizeof(first));
	if (pc_get64(first.slot.header.pos) != pos || pc_get64(first.slot.header.nonce) != nonce)
		return PC_INVALID_IDENTITY;
	kset.pos = pos;
	kset.nonce = nonce;
	kset.slot_nr = pc_get32(first.slot.header.slot_nr);
	kset.key_nr = pc_get32(first.slot.header.key_nr);
	kset.type = pc_get16(first.slot.header.type);
	kset.flags = pc_get16(first.slot.header.flags);
	kset.mark_low_pos = kset.type == PC_KSET_MARK ? pc_get64(first.slot.second.mark.low_pos) : 0;
	if (kset.slot_nr == 0 || kset.slot_nr > avail_slots || !crc_matches(&first, buf, &kset))
		return PC_INVALID_CRC;
	if (!values_are_sound(&kset, &first.slot, buf, rules))
		return PC_INVALID_VALUE;
	*out_kset = kset;
	return PC_VALID;
}

bool pc_kset_decode_one(const void *buf, uint64_t pos, uint64_t nonce, const struct pc_kset_rules *rules,
			struct pc_key *out_key)
{
	const uint64_t one_slot = UINT64_C(1) << 32, one_key = UINT64_C(1) | (uint64_t)PC_KSET_KEYS << 32;
	uint64_t words[PC_SLOT_BYTES / sizeof(uint64_t)];
	uint32_t crc;

	/* What is compared is what the CRC is taken of, even if the bytes change meanwhile. Little-endian, as in le.h. */
	memcpy(words, buf, sizeof(words));
	if (words[0] != pos || words[1] != nonce || (words[CRC_WORD] & ~CRC_WORD_MASK) != one_slot ||
	    words[CRC_WORD + 1] != one_key)
		return false;
	crc = (uint32_t)words[CRC_WORD];
	words[CRC_WORD] &= ~CRC_WORD_MASK;
	if (pc_crc32c(0, words, sizeof(words)) != crc)
		return false;
	out_key->vol_blk = words[4];
	out_key->gen = words[5];
	out_key->crc = (uint32_t)words[6];
	out_key->seg_id = (uint32_t)(words[6] >> 32);
	out_key->len_blk = (uint32_t)words[7];
	out_key->seg_blk = (uint16_t)(words[7] >> 32);
	out_key->geom = (uint8_t)(words[7] >> 48);
	out_key->flags = (uint8_t)(words[7] >> 56);
	return (out_key->flags & PC_KEY_TYPE_MASK) == PC_KEY_DATA && pc_key_check(out_key, rules) &&
	       pc_key_chunk_nr(out_key, rules->block_bytes) == 1;
}

void pc_kset_to_text(FILE *to, const struct pc_kset *kset)
{
	static const char *const type_names[] = { NULL, "keys", "void", "mark" };
	static const char *const flag_names[] = { "flush" };

	fprintf(to, "kset pos=%" PRIu64, kset->pos);
	pc_text_enum(to, "type", kset->type, type_names, PC_ARRAY_NR(type_names));
	pc_text_flags(to, "flags", kset->flags, flag_names, PC_ARRAY_NR(flag_names));
	fprintf(to, " nonce=%016" PRIx64 " slot_nr=%" PRIu32 " key_nr=%" PRIu32, kset->nonce, kset->slot_nr,
		kset->key_nr);
	fprintf(to, " low_pos=%" PRIu64 "\n", kset->mark_low_pos);
}
