/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Media: copies that compute the CRC32C of what they copy.
 *
 * The caller's buffer may change at any time, also while it is copied: another thread of the application, or the guest of a virtual
 * machine, owns it. A CRC of the buffer would then not be that of the media, and the write would look torn or rotten later. So each
 * piece is taken once into a local buffer that nobody else sees, and CRC and copy both use that. The same holds for the way back, where the
 * caller's buffer is the target: a CRC of it would blame the media for the caller's own scribbling.
 *
 * The local buffer stays in the L1 cache, and the CRC of a piece is computed while the non-temporal stores drain, so both
 * cost next to nothing.
 *
 * No locks, no fence: the caller fences once for data and log record together.
 */
#include <string.h>

#include "base/crc.h"
#include "media/media.h"

/* Bytes taken at a time: a multiple of the cache line. Chosen by measurement. */
#define PIECE_BYTES 1024u

struct piece {
	_Alignas(PC_CACHE_LINE_BYTES) uint8_t bytes[PIECE_BYTES];
};

uint32_t pc_media_copy_crc(struct pc_media *media, uint64_t media_off, const void *src, size_t len)
{
	const uint8_t *from = src;
	struct piece piece;
	uint32_t crc = 0;
	size_t now;

	while (len > 0) {
		/* A piece ends at a line of the media, so that whole lines are stored whatever the alignment. */
		now = PC_MIN(len, PIECE_BYTES - (size_t)(media_off % PC_CACHE_LINE_BYTES));
		memcpy(piece.bytes, from, now);
		pc_media_copy(media, media_off, piece.bytes, now);
		crc = pc_crc32c(crc, piece.bytes, now);
		from += now;
		media_off += now;
		len -= now;
	}
	return crc;
}

uint32_t pc_media_load_crc(const struct pc_media *media, uint64_t media_off, void *dst, size_t len)
{
	const uint8_t *from = media->base + media_off;
	uint8_t *to = dst;
	struct piece piece;
	uint32_t crc = 0;
	size_t now;

	while (len > 0) {
		now = PC_MIN(len, (size_t)PIECE_BYTES);
		memcpy(piece.bytes, from, now);
		crc = pc_crc32c(crc, piece.bytes, now);
		memcpy(to, piece.bytes, now);
		from += now;
		to += now;
		len -= now;
	}
	return crc;
}
