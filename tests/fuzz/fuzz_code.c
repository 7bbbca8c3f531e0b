/* SPDX-License-Identifier: BSD-3-Clause */
/* The sparse code of images; see fuzz.h. */
#include "fuzz/fuzz.h"

#include <string.h>

#define WORD 8u
#define CODE_NR 64u /* longest run of one code byte */

enum code { CODE_LITERAL = 0, CODE_ZEROES = 1, CODE_REPEAT = 2, CODE_MANY_ZEROES = 3 };

static size_t take(const uint8_t *code, size_t code_len, uint8_t *image, size_t room)
{
	const size_t len = PC_MIN(code_len, room);

	memcpy(image, code, len);
	return len;
}

void fuzz_decode(const uint8_t *code, size_t code_len, uint8_t *image, size_t image_bytes)
{
	size_t at = 0, off = 0;

	memset(image, 0, image_bytes);
	while (at < code_len && off < image_bytes) {
		const enum code kind = (enum code)(code[at] >> 6);
		const size_t nr = (code[at] & (CODE_NR - 1)) + 1u;

		at++;
		switch (kind) {
		case CODE_LITERAL:
			at += take(code + at, PC_MIN(code_len - at, nr * WORD), image + off, image_bytes - off);
			off += nr * WORD;
			break;
		case CODE_REPEAT:
			for (size_t i = 0; i < nr && off + i * WORD < image_bytes; i++)
				(void)take(code + at, PC_MIN(code_len - at, (size_t)WORD), image + off + i * WORD,
					   image_bytes - off - i * WORD);
			at += PC_MIN(code_len - at, (size_t)WORD);
			off += nr * WORD;
			break;
		default:
			off += nr * WORD * (kind == CODE_MANY_ZEROES ? CODE_NR : 1);
			break;
		}
	}
}

static bool same_word(const uint8_t *a, const uint8_t *b)
{
	return memcmp(a, b, WORD) == 0;
}

/* Words from image on that are like the first; at most limit. */
static size_t run_of(const uint8_t *image, size_t limit)
{
	size_t nr = 1;

	while (nr < limit && same_word(image, image + nr * WORD))
		nr++;
	return nr;
}

static uint8_t code_byte(enum code kind, size_t nr)
{
	return (uint8_t)((unsigned int)kind << 6 | (unsigned int)(nr - 1));
}

size_t fuzz_encode(const uint8_t *image, size_t image_bytes, uint8_t *out_code)
{
	static const uint8_t zero[WORD];
	size_t word_nr = image_bytes / WORD, len = 0, literal_at = 0, literal_nr = 0;

	while (word_nr > 0 && same_word(image + (word_nr - 1) * WORD, zero))
		word_nr--;
	for (size_t word = 0; word < word_nr;) {
		const uint8_t *at = image + word * WORD;
		size_t nr = run_of(at, word_nr - word);

		if (same_word(at, zero)) {
			const bool many = nr >= CODE_NR;

			nr = many ? PC_MIN(nr / CODE_NR, (size_t)CODE_NR) : nr;
			out_code[len++] = code_byte(many ? CODE_MANY_ZEROES : CODE_ZEROES, nr);
			word += many ? nr * CODE_NR : nr;
			literal_nr = 0;
		} else if (nr >= 3) {
			nr = PC_MIN(nr, (size_t)CODE_NR);
			out_code[len++] = code_byte(CODE_REPEAT, nr);
			memcpy(out_code + len, at, WORD);
			len += WORD;
			word += nr;
			literal_nr = 0;
		} else {
			if (literal_nr == 0 || literal_nr == CODE_NR) {
				literal_at = len++;
				literal_nr = 0;
			}
			out_code[literal_at] = code_byte(CODE_LITERAL, ++literal_nr);
			memcpy(out_code + len, at, WORD);
			len += WORD;
			word++;
		}
	}
	return len;
}
