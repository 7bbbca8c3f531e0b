/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the fuzz targets share. A target is one file fuzz_<target>.c with LLVMFuzzerTestOneInput; it is linked with libFuzzer, or with replay.c, which reads inputs from
 * files, so that every build of every compiler runs the corpus.
 *
 * Whatever a target finds wrong ends the program by fuzz_fail: that is a crash for libFuzzer. The same input does the same.
 */
#ifndef PC_FUZZ_FUZZ_H
#define PC_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "base/types.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Prints what is wrong and aborts. */
void fuzz_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* --- an input as numbers: past its end everything is 0 --- */

struct fuzz_input {
	const uint8_t *at;
	size_t left;
};
uint8_t fuzz_u8(struct fuzz_input *in);
uint32_t fuzz_u32(struct fuzz_input *in);

/* --- sparse code of an image: fuzz_code.c --- */

/*
 * A few KiB for a media of some 100 KiB, in which a mutation of one byte is one of a record, key or datum. The unit is the word of 8 bytes; n is the low 6 bits of a code
 * byte plus 1:
 *
 *     00nnnnnn    n words follow
 *     01nnnnnn    n words of zeroes
 *     10nnnnnn    one word follows, which stands n times
 *     11nnnnnn    64 * n words of zeroes
 *
 * The rest of the image is zero. Any bytes are an image.
 */
void fuzz_decode(const uint8_t *code, size_t code_len, uint8_t *image, size_t image_bytes);
/* Room for image_bytes / 8 * 9 + 1 bytes. Returns the length. */
size_t fuzz_encode(const uint8_t *image, size_t image_bytes, uint8_t *out_code);

/* --- sealing: fuzz_seal.c --- */

#define FUZZ_SEAL_RECORDS 1u /* CRCs of superblocks, tail and segment records */
#define FUZZ_SEAL_IDENTITY 2u /* position and nonce of slots that hold something where a kset may begin */
#define FUZZ_SEAL_KSETS 4u /* CRCs of ksets */
#define FUZZ_SEAL_DATA 8u /* CRCs of data in the keys */

/* Makes these right wherever the records of the image say that they are, so that what a mutation changed is not refused for a CRC alone. */
void fuzz_seal(uint8_t *image, uint64_t len_bytes, unsigned int what);

#endif
