/* SPDX-License-Identifier: BSD-3-Clause */
/* CRC32C (Castagnoli), the only user of isa-l. */
#ifndef PC_BASE_CRC_H
#define PC_BASE_CRC_H

#include "base/types.h"

/*
 * CRC32C of len bytes, continuing from crc: pc_crc32c(pc_crc32c(0, a), b) is the CRC of a followed by b, and pc_crc32c(0, "123456789")
 * is 0xe3069283.
 */
uint32_t pc_crc32c(uint32_t crc, const void *buf, size_t len);

#endif
