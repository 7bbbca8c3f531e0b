/* SPDX-License-Identifier: BSD-3-Clause */
/* What all records share: a CRC32C of the whole struct with the crc member taken as zero, and reserved bytes that are zero. */
#ifndef PC_FORMAT_SEAL_H
#define PC_FORMAT_SEAL_H

#include "base/crc.h"
#include "base/types.h"

#define PC_SEAL_CRC_BYTES 4u

static inline uint32_t pc_seal_crc(const void *rec, size_t rec_len, size_t crc_off)
{
	static const uint8_t zero[PC_SEAL_CRC_BYTES];
	const uint8_t *bytes = rec;
	const size_t rest_off = crc_off + PC_SEAL_CRC_BYTES;
	uint32_t crc;

	crc = pc_crc32c(0, bytes, crc_off);
	crc = pc_crc32c(crc, zero, sizeof(zero));
	return pc_crc32c(crc, bytes + rest_off, rec_len - rest_off);
}

static inline bool pc_seal_is_zero(const void *buf, size_t len)
{
	const uint8_t *bytes = buf;
	uint8_t any = 0;

	for (size_t i = 0; i < len; i++)
		any |= bytes[i];
	return any == 0;
}

#endif
