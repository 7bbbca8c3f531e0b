/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mutations of a cache image that keep every CRC right: fields of records, ksets and keys take values near their limits, ksets are repeated elsewhere, the
 * log gets keys and headers that nobody wrote. A few random bytes besides.
 */
#ifndef PC_TESTS_MUTATE_H
#define PC_TESTS_MUTATE_H

#include "base/types.h"

/* Changes the image in place; the same seed makes the same change. text says what was done, for a failure. */
void mutate_image(uint8_t *image, uint64_t len_bytes, uint64_t seed, char *text, size_t text_bytes);

#endif
