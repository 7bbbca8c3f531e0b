/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CRC32C, the checksum of every record and of all cached data.
 *
 * isa-l picks the fastest routine of the processor at run time. Its routine works on the raw register: no inversion before or
 * after. The usual CRC32C inverts both, and with both inversions here, continuing from a finished CRC is a plain call.
 * Lengths there are ints, so longer buffers go in pieces. Pure: no lock, no allocation, any thread.
 */
#include "base/crc.h"

#include <isa-l/crc.h>

#define PIECE_BYTES ((size_t)1 << 30)

uint32_t pc_crc32c(uint32_t crc, const void *buf, size_t len)
{
	uintptr_t at = (uintptr_t)buf; /* isa-l reads only, but its prototype lacks the const */
	uint32_t reg = ~crc;

	while (len > 0) {
		size_t piece = PC_MIN(len, PIECE_BYTES);

		reg = crc32_iscsi((unsigned char *)at, (int)piece, reg);
		at += piece;
		len -= piece;
	}
	return ~reg;
}
