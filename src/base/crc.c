/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CRC32C, the checksum of every record and of all cached data.
 *
 * isa-l picks the fastest routine of the processor at run time. Its routine works on the raw register: no inversion before or
 * after. The usual CRC32C inverts both, and with both inversions here, continuing from a finished CRC is a plain call.
 * Lengths there are ints, so longer buffers go in pieces.
 *
 * A call of it costs about 50 ns however short the buffer, as it is made for long ones. Every write seals one slot of 64 bytes, so
 * buffers of a slot or two take the CRC instruction directly where the processor has it: a third to a half of that time.
 *
 * Pure: no lock, no allocation, any thread.
 */
#include "base/crc.h"

#include <isa-l/crc.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#define PIECE_BYTES ((size_t)1 << 30)
#define SHORT_BYTES ((size_t)128)

#if defined(__x86_64__)
static bool has_instruction(void)
{
	return __builtin_cpu_supports("sse4.2") != 0;
}

__attribute__((target("sse4.2"))) static uint32_t step_short(uint32_t reg, const uint8_t *bytes, size_t len)
{
	uint64_t wide_reg = reg;
	uint64_t word;

	for (; len >= sizeof(word); len -= sizeof(word), bytes += sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		wide_reg = _mm_crc32_u64(wide_reg, word);
	}
	reg = (uint32_t)wide_reg;
	for (; len > 0; len--, bytes++)
		reg = _mm_crc32_u8(reg, *bytes);
	return reg;
}
#else
static bool has_instruction(void)
{
	return false;
}

static uint32_t step_short(uint32_t reg, const uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	return reg;
}
#endif

uint32_t pc_crc32c(uint32_t crc, const void *buf, size_t len)
{
	uintptr_t at = (uintptr_t)buf; /* isa-l reads only, but its prototype lacks the const */
	uint32_t reg = ~crc;

	if (len <= SHORT_BYTES && has_instruction())
		return ~step_short(reg, buf, len);
	while (len > 0) {
		size_t piece = PC_MIN(len, PIECE_BYTES);

		reg = crc32_iscsi((unsigned char *)at, (int)piece, reg);
		at += piece;
		len -= piece;
	}
	return ~reg;
}
