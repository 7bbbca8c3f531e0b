/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ksets: round trips of each type, every flipped bit, the order of checks, what crafted and sealed bytes may not do, and noise.
 *
 * Every buffer that is decoded is a heap block of exactly the slots that it claims, so that a sanitizer sees a byte read beyond.
 */
#include "base/crc.h"
#include "format/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define POS UINT64_C(0x1000000000000123)
#define NONCE UINT64_C(0xfeedface12345678)

static const struct pc_kset_rules rules = {
	.block_bytes = 512, .segment_bytes = 131072, .segment_nr = 10, .backing_blk = 100000, .data_crc = true
};

struct image {
	uint8_t *buf;
	uint32_t slot_nr;
	uint32_t key_nr;
};

static struct image image_new(uint32_t slot_nr)
{
	struct image image = { .slot_nr = slot_nr };

	image.buf = calloc(slot_nr, PC_SLOT_BYTES);
	assert_non_null(image.buf);
	return image;
}

static struct pcm_kset *header_of(struct image *image)
{
	return (struct pcm_kset *)(void *)image->buf;
}

static struct pcm_key *cell_of(struct image *image, uint32_t cell)
{
	return (struct pcm_key *)(void *)(image->buf + cell * PC_CELL_BYTES);
}

static uint32_t ones_seen; /* that the short way took */

/* The short way says yes to a kset of one slot with one DATA key of one chunk, with the same key, and to nothing else. */
static void check_decode_one(const struct image *image, enum pc_valid valid, const struct pc_kset *kset)
{
	bool simple = valid == PC_VALID && kset->type == PC_KSET_KEYS && kset->slot_nr == 1 && kset->key_nr == 1;
	struct pc_key_cursor cursor;
	struct pc_key key, one;
	const struct pcm_le32 *crcs;

	memset(&key, 0, sizeof(key));
	memset(&one, 0, sizeof(one));
	if (simple) {
		pc_key_first(image->buf, kset, &rules, &cursor);
		assert_true(pc_key_next(&cursor, &key, &crcs));
		simple = (key.flags & PC_KEY_TYPE_MASK) == PC_KEY_DATA && pc_key_chunk_nr(&key, rules.block_bytes) == 1;
	}
	assert_int_equal(pc_kset_decode_one(image->buf, POS, NONCE, &rules, &one), simple);
	if (!simple)
		return;
	assert_memory_equal(&one, &key, sizeof(key));
	ones_seen++;
}

static enum pc_valid decode(const struct image *image, struct pc_kset *out)
{
	struct pc_kset before;
	enum pc_valid valid;

	memset(out, 0x5a, sizeof(*out));
	before = *out;
	valid = pc_kset_decode(image->buf, image->slot_nr, POS, NONCE, &rules, out);
	if (valid != PC_VALID)
		assert_memory_equal(out, &before, sizeof(before)); /* untouched on failure */
	if (image->slot_nr > 0)
		check_decode_one(image, valid, out);
	return valid;
}

/* Seals whatever the image holds now, as someone who knows how would. */
static void reseal(struct image *image)
{
	struct pcm_kset *header = header_of(image);
	const bool is_void = pc_get16(header->type) == PC_KSET_VOID;

	header->crc = pc_le32(0);
	header->crc =
		pc_le32(pc_crc32c(0, image->buf, is_void ? PC_SLOT_BYTES : (size_t)image->slot_nr * PC_SLOT_BYTES));
}

static struct pc_key key_of(uint64_t blk, uint32_t len_blk)
{
	return (struct pc_key){ .vol_blk = blk, .gen = 5, .seg_id = 2, .len_blk = len_blk, .seg_blk = 8 };
}

/* Keys of these lengths, each with its chunk CRCs, sealed. */
static struct image keys_image(const uint32_t *lens_blk, uint32_t key_nr)
{
	uint32_t cell = 1;
	struct image image;
	struct pc_key key;

	for (uint32_t i = 0; i < key_nr; i++) {
		key = key_of(i * 200, lens_blk[i]);
		cell += pc_key_cell_nr(&key, &rules);
	}
	image = image_new(pc_cells_to_slots(cell));
	image.key_nr = key_nr;
	cell = 1;
	for (uint32_t i = 0; i < key_nr; i++) {
		uint32_t chunk_nr;
		struct pcm_le32 *crcs;

		key = key_of(i * 200, lens_blk[i]);
		chunk_nr = pc_key_chunk_nr(&key, rules.block_bytes);
		if (chunk_nr == 1)
			key.crc = 0x01010101u * (i + 1);
		pc_key_encode(&key, cell_of(&image, cell));
		crcs = (struct pcm_le32 *)(void *)cell_of(&image, cell + 1);
		for (uint32_t c = 0; chunk_nr > 1 && c < chunk_nr; c++)
			crcs[c] = pc_le32(i << 16 | (c + 1));
		cell += pc_key_cell_nr(&key, &rules);
	}
	pc_kset_seal(image.buf, POS, NONCE, image.slot_nr, key_nr);
	return image;
}

static void one_key_is_one_slot(void **state)
{
	const uint32_t len_blk = 8;
	struct image image = keys_image(&len_blk, 1);
	const struct pcm_le32 *crcs;
	struct pc_key_cursor cursor;
	struct pc_kset kset;
	struct pc_key key;

	(void)state;
	assert_int_equal(image.slot_nr, 1);
	assert_int_equal(decode(&image, &kset), PC_VALID);
	assert_true(kset.pos == POS && kset.nonce == NONCE);
	assert_int_equal(kset.slot_nr, 1);
	assert_int_equal(kset.key_nr, 1);
	assert_int_equal(kset.type, PC_KSET_KEYS);
	assert_int_equal(kset.flags, 0);
	assert_int_equal(kset.mark_low_pos, 0);
	pc_key_first(image.buf, &kset, &rules, &cursor);
	assert_true(pc_key_next(&cursor, &key, &crcs));
	assert_int_equal(key.vol_blk, 0);
	assert_int_equal(key.len_blk, 8);
	assert_int_equal(key.gen, 5);
	assert_ptr_equal(crcs, &cell_of(&image, 1)->crc);
	assert_int_equal(pc_get32(*crcs), 0x01010101);
	assert_false(pc_key_next(&cursor, &key, &crcs));
	free(image.buf);
}

static void keys_of_all_kinds(void **state)
{
	/* 1 chunk; 2; 8, a full cell; 9, two cells; 1; an odd total leaves a padding cell. */
	const uint32_t lens_blk[] = { 3, 16, 64, 65, 8 };
	const uint32_t chunk_nrs[] = { 1, 2, 8, 9, 1 };
	struct image image = keys_image(lens_blk, PC_ARRAY_NR(lens_blk));
	const struct pcm_le32 *crcs;
	struct pc_key_cursor cursor;
	struct pc_kset kset;
	struct pc_key key;

	(void)state;
	assert_int_equal(image.slot_nr, 5); /* 1 + 1 + 2 + 2 + 3 + 1 cells */
	assert_int_equal(decode(&image, &kset), PC_VALID);
	pc_key_first(image.buf, &kset, &rules, &cursor);
	for (uint32_t i = 0; i < PC_ARRAY_NR(lens_blk); i++) {
		assert_true(pc_key_next(&cursor, &key, &crcs));
		assert_int_equal(key.vol_blk, i * 200);
		assert_int_equal(key.len_blk, lens_blk[i]);
		assert_int_equal(pc_key_chunk_nr(&key, rules.block_bytes), chunk_nrs[i]);
		for (uint32_t c = 0; c < chunk_nrs[i]; c++)
			assert_int_equal(pc_get32(crcs[c]),
					 chunk_nrs[i] == 1 ? 0x01010101u * (i + 1) : (i << 16 | (c + 1)));
	}
	assert_false(pc_key_next(&cursor, &key, &crcs));
	free(image.buf);
}

static void keys_without_data(void **state)
{
	struct pc_key zero = { .vol_blk = 50, .len_blk = 99950, .flags = PC_KEY_ZERO | PC_KEY_DISCARD };
	struct pc_key poison = { .vol_blk = 0, .len_blk = 1, .flags = PC_KEY_POISON };
	struct image image = image_new(2);
	const struct pcm_le32 *crcs;
	struct pc_key_cursor cursor;
	struct pc_kset kset;
	struct pc_key key;

	(void)state;
	pc_key_encode(&zero, cell_of(&image, 1));
	pc_key_encode(&poison, cell_of(&image, 2));
	pc_kset_seal(image.buf, POS, NONCE, 2, 2);
	assert_int_equal(decode(&image, &kset), PC_VALID);
	pc_key_first(image.buf, &kset, &rules, &cursor);
	assert_true(pc_key_next(&cursor, &key, &crcs));
	assert_null(crcs);
	assert_int_equal(key.flags, zero.flags);
	assert_true(pc_key_next(&cursor, &key, &crcs));
	assert_null(crcs);
	assert_false(pc_key_next(&cursor, &key, &crcs));
	free(image.buf);
}

static void without_data_crc_keys_are_one_cell(void **state)
{
	struct pc_kset_rules no_crc = rules;
	const struct pcm_le32 *crcs;
	struct pc_key_cursor cursor;
	struct pc_key key = key_of(0, 100);
	struct image image = image_new(1);
	struct pc_kset kset;

	(void)state;
	no_crc.data_crc = false;
	pc_key_encode(&key, cell_of(&image, 1));
	pc_kset_seal(image.buf, POS, NONCE, 1, 1);
	assert_int_equal(pc_kset_decode(image.buf, 1, POS, NONCE, &no_crc, &kset), PC_VALID);
	pc_key_first(image.buf, &kset, &no_crc, &cursor);
	assert_true(pc_key_next(&cursor, &key, &crcs));
	assert_null(crcs);
	assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE); /* with CRCs its chunk cells are missing */
	free(image.buf);
}

static void a_key_of_a_whole_segment(void **state)
{
	const struct pc_kset_rules big = {
		.block_bytes = 4096, .segment_bytes = 1u << 24, .segment_nr = 1, .backing_blk = 4096, .data_crc = true
	};
	const struct pc_key key = { .len_blk = 4096 };
	struct image image = image_new(257);
	struct pc_kset kset;

	(void)state;
	assert_int_equal(pc_cells_to_slots(1 + pc_key_cell_nr(&key, &big)), 257);
	pc_key_encode(&key, cell_of(&image, 1));
	memset(cell_of(&image, 2), 0xee, 512 * PC_CELL_BYTES);
	pc_kset_seal(image.buf, POS, NONCE, 257, 1);
	assert_int_equal(pc_kset_decode(image.buf, 257, POS, NONCE, &big, &kset), PC_VALID);
	assert_int_equal(pc_kset_decode(image.buf, 256, POS, NONCE, &big, &kset), PC_INVALID_CRC);
	free(image.buf);
}

static void voids(void **state)
{
	struct image image = image_new(7);
	struct pc_key_cursor cursor;
	const struct pcm_le32 *crcs;
	struct pc_kset kset;
	struct pc_key key;

	(void)state;
	memset(image.buf, 0xc3, 7 * PC_SLOT_BYTES); /* what a torn write left */
	pc_kset_encode_void(image.buf, POS, NONCE, 7);
	assert_int_equal(image.buf[PC_SLOT_BYTES], 0xc3);
	assert_int_equal(decode(&image, &kset), PC_VALID);
	assert_int_equal(kset.type, PC_KSET_VOID);
	assert_int_equal(kset.slot_nr, 7);
	assert_int_equal(kset.key_nr, 0);
	pc_key_first(image.buf, &kset, &rules, &cursor);
	assert_false(pc_key_next(&cursor, &key, &crcs));
	image.buf[PC_SLOT_BYTES] ^= 1; /* skipped slots may hold anything */
	assert_int_equal(decode(&image, &kset), PC_VALID);
	image.slot_nr = 6;
	assert_int_equal(decode(&image, &kset), PC_INVALID_CRC);
	image.slot_nr = 7;
	image.buf[PC_CELL_BYTES] = 1;
	reseal(&image);
	assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	image.buf[PC_CELL_BYTES] = 0;
	header_of(&image)->key_nr = pc_le32(1);
	reseal(&image);
	assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	header_of(&image)->key_nr = pc_le32(0);
	header_of(&image)->flags = pc_le16(1);
	reseal(&image);
	assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	free(image.buf);
}

static void marks(void **state)
{
	struct image image = image_new(1);
	struct pc_kset kset;

	(void)state;
	pc_kset_encode_mark(image.buf, POS, NONCE, PC_KSET_FLAG_FLUSH, POS - 9);
	assert_int_equal(decode(&image, &kset), PC_VALID);
	assert_int_equal(kset.type, PC_KSET_MARK);
	assert_int_equal(kset.flags, PC_KSET_FLAG_FLUSH);
	assert_int_equal(kset.slot_nr, 1);
	assert_true(kset.mark_low_pos == POS - 9);
	pc_kset_encode_mark(image.buf, POS, NONCE, 0, POS);
	assert_int_equal(decode(&image, &kset), PC_VALID);
	pc_kset_encode_mark(image.buf, POS, NONCE, 0, POS + 1);
	assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	pc_kset_encode_mark(image.buf, POS, NONCE, 2, POS);
	assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	for (uint32_t i = 0; i < 24; i++) {
		pc_kset_encode_mark(image.buf, POS, NONCE, 0, POS);
		image.buf[PC_CELL_BYTES + 8 + i] = 1;
		reseal(&image);
		assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	}
	pc_kset_encode_mark(image.buf, POS, NONCE, 0, POS);
	header_of(&image)->key_nr = pc_le32(1);
	reseal(&image);
	assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	free(image.buf);
	image = image_new(2);
	pc_kset_encode_mark(image.buf, POS, NONCE, 0, POS);
	header_of(&image)->slot_nr = pc_le32(2);
	reseal(&image);
	assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	free(image.buf);
}

static void flip_every_bit(struct image *image, size_t sealed_len)
{
	struct pc_kset kset;

	assert_int_equal(decode(image, &kset), PC_VALID);
	for (size_t bit = 0; bit < sealed_len * 8; bit++) {
		image->buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(decode(image, &kset), bit < 128 ? PC_INVALID_IDENTITY : PC_INVALID_CRC);
		image->buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(decode(image, &kset), PC_VALID);
}

static void every_flipped_bit_is_noticed(void **state)
{
	const uint32_t one[] = { 8 };
	const uint32_t padded[] = { 8, 8 };
	const uint32_t many[] = { 3, 16, 64, 65, 8 };
	struct image image;

	(void)state;
	image = keys_image(one, PC_ARRAY_NR(one));
	flip_every_bit(&image, PC_SLOT_BYTES);
	free(image.buf);
	image = keys_image(padded, PC_ARRAY_NR(padded));
	assert_int_equal(image.slot_nr, 2);
	flip_every_bit(&image, (size_t)2 * PC_SLOT_BYTES); /* the last cell is padding */
	free(image.buf);
	image = keys_image(many, PC_ARRAY_NR(many));
	flip_every_bit(&image, (size_t)image.slot_nr * PC_SLOT_BYTES);
	free(image.buf);
	image = image_new(3);
	pc_kset_encode_void(image.buf, POS, NONCE, 3);
	flip_every_bit(&image, PC_SLOT_BYTES);
	pc_kset_encode_mark(image.buf, POS, NONCE, 0, 1);
	flip_every_bit(&image, PC_SLOT_BYTES);
	free(image.buf);
}

static void position_and_nonce_come_first(void **state)
{
	const uint32_t len_blk = 8;
	struct image image = keys_image(&len_blk, 1);
	struct pc_kset kset;

	(void)state;
	assert_int_equal(pc_kset_decode(image.buf, 1, POS + 1, NONCE, &rules, &kset), PC_INVALID_IDENTITY);
	assert_int_equal(pc_kset_decode(image.buf, 1, POS, NONCE ^ (UINT64_C(1) << 63), &rules, &kset),
			 PC_INVALID_IDENTITY);
	assert_int_equal(pc_kset_decode(image.buf, 0, POS, NONCE, &rules, &kset), PC_INVALID_IDENTITY);
	image.buf[PC_CELL_BYTES] ^= 1; /* damaged besides */
	assert_int_equal(pc_kset_decode(image.buf, 1, POS + 1, NONCE, &rules, &kset), PC_INVALID_IDENTITY);
	assert_int_equal(pc_kset_decode(image.buf, 1, POS, NONCE, &rules, &kset), PC_INVALID_CRC);
	free(image.buf);
}

/* Two ways to the one image of a kset with one key: every field at its limits. */
static void one_key_the_short_way(void **state)
{
	const uint64_t wide[] = { 0, 1, UINT64_C(0x0123456789abcdef), UINT64_MAX };

	(void)state;
	for (uint32_t i = 0; i < 4 * 4 * 4 * 4; i++) {
		const uint64_t a = wide[i % 4], b = wide[i / 4 % 4], c = wide[i / 16 % 4], d = wide[i / 64];
		const struct pc_key key = { .vol_blk = a,
					    .gen = b,
					    .crc = (uint32_t)c,
					    .seg_id = (uint32_t)d,
					    .len_blk = (uint32_t)a,
					    .seg_blk = (uint16_t)b,
					    .geom = (uint8_t)c,
					    .flags = (uint8_t)d };
		uint64_t words[PC_SLOT_BYTES / sizeof(uint64_t)], general[PC_SLOT_BYTES / sizeof(uint64_t)] = { 0 };

		pc_key_encode(&key, (struct pcm_key *)(void *)((uint8_t *)general + PC_CELL_BYTES));
		pc_kset_seal(general, c, d, 1, 1);
		pc_kset_encode_one(words, c, d, &key, key.crc);
		assert_memory_equal(words, general, sizeof(words));
	}
}

/* The same of ksets with several. */
static void many_keys_the_short_way(void **state)
{
	(void)state;
	for (uint32_t key_nr = 1; key_nr <= PC_KSET_WORDS_KEYS; key_nr++) {
		uint64_t general[(PC_KSET_WORDS_KEYS + 2) * PC_CELL_WORDS] = { 0 };
		const uint32_t slot_nr = pc_cells_to_slots(1 + key_nr);
		struct pc_kset_words words;

		memset(&words, 0xee, sizeof(words));
		pc_kset_begin(&words, UINT64_C(0x123456789abcdef), UINT64_MAX - key_nr, key_nr);
		for (uint32_t i = 0; i < key_nr; i++) {
			const struct pc_key key = { .vol_blk = UINT64_C(0x123456789abc) * i,
						    .gen = UINT64_MAX - i,
						    .crc = 0xdeadbeef * i,
						    .seg_id = 0xfffffff0 + i,
						    .len_blk = 8 - i % 8,
						    .seg_blk = (uint16_t)(0xffff - i),
						    .geom = (uint8_t)(i * 5),
						    .flags = (uint8_t)(0xff - i) };

			pc_key_encode(&key, (struct pcm_key *)(void *)(general + (1 + i) * PC_CELL_WORDS));
			pc_kset_add(&words, &key, key.crc);
		}
		pc_kset_seal(general, UINT64_C(0x123456789abcdef), UINT64_MAX - key_nr, slot_nr, key_nr);
		assert_int_equal(pc_kset_end(&words), slot_nr);
		assert_memory_equal(words.cells, general, slot_nr * PC_SLOT_BYTES);
	}
}

static void a_torn_kset_of_two_slots(void **state)
{
	const uint32_t lens_blk[] = { 8, 8, 8 };
	struct image image = keys_image(lens_blk, 3);
	struct pc_kset kset;

	(void)state;
	assert_int_equal(image.slot_nr, 2);
	memset(image.buf + PC_SLOT_BYTES, 0, PC_SLOT_BYTES);
	assert_int_equal(decode(&image, &kset), PC_INVALID_CRC);
	free(image.buf);
}

static void crafted_slot_numbers(void **state)
{
	const uint32_t slot_nrs[] = { 0, 2, 3, 0x40000000, 0x80000000, UINT32_MAX };
	const uint32_t len_blk = 8;
	struct image image = keys_image(&len_blk, 1);
	struct pc_kset kset;

	(void)state;
	for (size_t i = 0; i < PC_ARRAY_NR(slot_nrs); i++) {
		header_of(&image)->slot_nr = pc_le32(slot_nrs[i]);
		reseal(&image);
		assert_int_equal(decode(&image, &kset), PC_INVALID_CRC);
	}
	free(image.buf);
}

static void crafted_key_numbers(void **state)
{
	const uint32_t key_nrs[] = { 0, 2, 4, 5, 0x7fffffff, UINT32_MAX };
	const uint32_t lens_blk[] = { 8, 8, 8 };
	struct image image = keys_image(lens_blk, 3);
	struct pc_kset kset;

	(void)state;
	for (size_t i = 0; i < PC_ARRAY_NR(key_nrs); i++) {
		header_of(&image)->key_nr = pc_le32(key_nrs[i]);
		reseal(&image);
		assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	}
	free(image.buf);
}

static void slots_are_filled_exactly(void **state)
{
	struct image image = image_new(3);
	const struct pc_key key = key_of(0, 8);
	struct pc_kset kset;

	(void)state;
	pc_key_encode(&key, cell_of(&image, 1));
	pc_kset_seal(image.buf, POS, NONCE, 3, 1); /* one slot would do */
	assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	image.slot_nr = 2;
	pc_kset_seal(image.buf, POS, NONCE, 2, 1);
	assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	pc_key_encode(&key, cell_of(&image, 2));
	pc_kset_seal(image.buf, POS, NONCE, 2, 2);
	assert_int_equal(decode(&image, &kset), PC_VALID);
	for (uint32_t i = 3 * PC_CELL_BYTES; i < 4 * PC_CELL_BYTES; i++) {
		image.buf[i] = 1; /* padding that is not zero */
		pc_kset_seal(image.buf, POS, NONCE, 2, 2);
		assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
		image.buf[i] = 0;
	}
	free(image.buf);
}

static void chunk_cells_stay_inside(void **state)
{
	const uint32_t lens_blk[] = { 8, 64 };
	struct image image = keys_image(lens_blk, 2);
	struct pc_key longer = key_of(200, 65);
	struct pc_key longest = key_of(200, 248);
	struct pc_kset kset;

	(void)state;
	assert_int_equal(image.slot_nr, 2);
	assert_int_equal(decode(&image, &kset), PC_VALID);
	pc_key_encode(&longer, cell_of(&image, 2)); /* its second cell of CRCs lies past the kset */
	reseal(&image);
	assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	pc_key_encode(&longest, cell_of(&image, 2));
	reseal(&image);
	assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	pc_key_encode(&longer, cell_of(&image, 3)); /* a key in the last cell, all its CRCs outside */
	header_of(&image)->key_nr = pc_le32(3);
	longer = key_of(200, 8);
	pc_key_encode(&longer, cell_of(&image, 2));
	reseal(&image);
	assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	free(image.buf);
}

static void chunk_padding_is_zero(void **state)
{
	const uint32_t lens_blk[] = { 65, 16 }; /* nine chunks in two cells, two chunks in one */
	const uint32_t chunk_nrs[] = { 9, 2 };
	struct pc_kset kset;

	(void)state;
	for (size_t k = 0; k < PC_ARRAY_NR(lens_blk); k++) {
		struct image image = keys_image(&lens_blk[k], 1);
		struct pcm_le32 *crcs = (struct pcm_le32 *)(void *)cell_of(&image, 2);

		assert_int_equal(image.slot_nr, 2);
		for (uint32_t i = 0; i < 16; i++) {
			crcs[i].raw ^= 0x01000000;
			reseal(&image);
			assert_int_equal(decode(&image, &kset), i < chunk_nrs[k] ? PC_VALID : PC_INVALID_VALUE);
			crcs[i].raw ^= 0x01000000;
		}
		free(image.buf);
	}
}

static void bad_keys_behind_good_ones(void **state)
{
	const uint32_t lens_blk[] = { 8, 8, 8 };
	struct image image = keys_image(lens_blk, 3);
	struct pc_key bad[] = {
		key_of(0, 0), /* no length */
		key_of(99993, 8), /* past the backing */
		key_of(UINT64_C(1) << 48, 8), /* volume 1 */
		key_of(0, 249), /* past the segment */
		key_of(0, 8),
		key_of(0, 8),
		key_of(0, 8),
		key_of(0, 8),
	};
	struct pc_kset kset;

	(void)state;
	bad[4].seg_id = 10;
	bad[5].flags = 0x20;
	bad[6].flags = 3;
	bad[7].geom = PC_GEOM(7, 7);
	bad[7].seg_blk = 6;
	for (size_t i = 0; i < PC_ARRAY_NR(bad); i++) {
		pc_key_encode(&bad[i], cell_of(&image, 3));
		reseal(&image);
		assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	}
	free(image.buf);
}

static void unknown_types_and_flags(void **state)
{
	const uint16_t types[] = { 0, 4, 0x101, UINT16_MAX };
	const uint32_t len_blk = 8;
	struct image image = keys_image(&len_blk, 1);
	struct pc_kset kset;

	(void)state;
	for (size_t i = 0; i < PC_ARRAY_NR(types); i++) {
		header_of(&image)->type = pc_le16(types[i]);
		reseal(&image);
		assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	}
	header_of(&image)->type = pc_le16(PC_KSET_KEYS);
	for (unsigned int bit = 0; bit < 16; bit++) {
		header_of(&image)->flags = pc_le16((uint16_t)(1u << bit));
		reseal(&image);
		assert_int_equal(decode(&image, &kset), PC_INVALID_VALUE);
	}
	free(image.buf);
}

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Noise behind a right identity and a right CRC: whatever is accepted must be walkable and obey the rules. */
static void sealed_noise(void **state)
{
	uint64_t seed = 88172645463325252u;
	uint32_t accepted_nr = 0;
	const struct pcm_le32 *crcs;
	struct pc_key_cursor cursor;
	struct pc_kset kset;
	struct pc_key key;

	(void)state;
	for (uint32_t round = 0; round < 200000; round++) {
		const uint32_t lens_blk[] = { (uint32_t)(1 + next_random(&seed) % 100),
					      (uint32_t)(1 + next_random(&seed) % 20) };
		struct image image = keys_image(lens_blk, 1 + (uint32_t)(next_random(&seed) % 2));
		const uint64_t change_nr = 1 + next_random(&seed) % 3;
		uint32_t walked_nr = 0;

		for (uint64_t i = 0; i < change_nr; i++) {
			const size_t at = 20 + next_random(&seed) % ((size_t)image.slot_nr * PC_SLOT_BYTES - 20);

			image.buf[at] =
				(uint8_t)(next_random(&seed) % 4 == 0 ? next_random(&seed) : next_random(&seed) % 4);
		}
		reseal(&image);
		if (decode(&image, &kset) == PC_VALID) {
			accepted_nr++;
			pc_key_first(image.buf, &kset, &rules, &cursor);
			while (pc_key_next(&cursor, &key, &crcs)) {
				assert_true(pc_key_check(&key, &rules));
				assert_true(cursor.next_cell <= image.buf + (size_t)image.slot_nr * PC_SLOT_BYTES);
				walked_nr++;
			}
			assert_int_equal(walked_nr, kset.key_nr);
		}
		free(image.buf);
	}
	assert_in_range(accepted_nr, 1000, 190000); /* the noise reaches both sides */
}

static void lines_of_text(void **state)
{
	const struct pc_kset kset = { .pos = 70, .nonce = 0xabc, .slot_nr = 2, .key_nr = 3, .type = PC_KSET_KEYS };
	const struct pc_kset mark = { .pos = 72,
				      .nonce = 0xabc,
				      .slot_nr = 1,
				      .type = PC_KSET_MARK,
				      .flags = PC_KSET_FLAG_FLUSH,
				      .mark_low_pos = 71 };
	char *text = NULL;
	size_t len;
	FILE *to;

	(void)state;
	to = open_memstream(&text, &len);
	assert_non_null(to);
	pc_kset_to_text(to, &kset);
	pc_kset_to_text(to, &mark);
	assert_int_equal(fclose(to), 0);
	assert_string_equal(text,
			    "kset pos=70 type=keys flags=- nonce=0000000000000abc slot_nr=2 key_nr=3 low_pos=0\n"
			    "kset pos=72 type=mark flags=flush nonce=0000000000000abc slot_nr=1 key_nr=0 low_pos=71\n");
	free(text);
}

static void results_have_names(void **state)
{
	(void)state;
	for (int valid = PC_VALID; valid <= PC_INVALID_IDENTITY; valid++) {
		for (int other = PC_VALID; other < valid; other++)
			assert_string_not_equal(pc_valid_to_text((enum pc_valid)valid),
						pc_valid_to_text((enum pc_valid)other));
	}
	assert_non_null(pc_valid_to_text((enum pc_valid)99));
}

static void the_short_way_was_taken(void **state)
{
	(void)state;
	assert_true(ones_seen > 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_key_is_one_slot),
		cmocka_unit_test(keys_of_all_kinds),
		cmocka_unit_test(keys_without_data),
		cmocka_unit_test(without_data_crc_keys_are_one_cell),
		cmocka_unit_test(a_key_of_a_whole_segment),
		cmocka_unit_test(voids),
		cmocka_unit_test(marks),
		cmocka_unit_test(every_flipped_bit_is_noticed),
		cmocka_unit_test(position_and_nonce_come_first),
		cmocka_unit_test(a_torn_kset_of_two_slots),
		cmocka_unit_test(crafted_slot_numbers),
		cmocka_unit_test(crafted_key_numbers),
		cmocka_unit_test(slots_are_filled_exactly),
		cmocka_unit_test(chunk_cells_stay_inside),
		cmocka_unit_test(chunk_padding_is_zero),
		cmocka_unit_test(bad_keys_behind_good_ones),
		cmocka_unit_test(unknown_types_and_flags),
		cmocka_unit_test(sealed_noise),
		cmocka_unit_test(one_key_the_short_way),
		cmocka_unit_test(many_keys_the_short_way),
		cmocka_unit_test(lines_of_text),
		cmocka_unit_test(results_have_names),
		cmocka_unit_test(the_short_way_was_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
