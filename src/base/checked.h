/* SPDX-License-Identifier: BSD-3-Clause */
/* Arithmetic on untrusted offsets: each returns false, and leaves *out alone, where the result would wrap. */
#ifndef PC_BASE_CHECKED_H
#define PC_BASE_CHECKED_H

#include "base/types.h"

static inline bool pc_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
	uint64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*out = sum;
	return true;
}

static inline bool pc_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
	uint64_t product;

	if (__builtin_mul_overflow(a, b, &product))
		return false;
	*out = product;
	return true;
}

/* True if [off, off + len) lies in [0, end). */
static inline bool pc_range_inside(uint64_t off, uint64_t len, uint64_t end)
{
	return off <= end && len <= end - off;
}

static inline bool pc_is_pow2(uint64_t x)
{
	return x != 0 && (x & (x - 1)) == 0;
}

#endif
