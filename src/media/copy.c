/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Media: copies that compute the CRC32C of what they copy.
 *
 * The caller's buffer may change at any time, also while it is copied: another thread of the application, or the guest of a virtual
 * machine, owns it. A CRC of the buffer would then not be that of the media, and the write would look torn or rotten later. So each
 * byte is loaded once, and copy and CRC both use that. The same holds for the way back, where the caller's buffer is the target: a CRC of it would
 * blame the media for the caller's own scribbling.
 *
 * Whole lines of mapped media go through a kernel (kernel.c), which keeps what it loaded in registers: one pass, and no buffer. Other media (simulated, page
 * granularity on the way in), other processors and the odd bytes at the ends go piece by piece through a local buffer that nobody else sees. It stays in the L1
 * cache. On the way in, the CRC of a piece is computed while the non-temporal stores of it drain; on the way out the lines come from memory, and a CRC between two pieces would
 * hold the next loads up: so there a piece is 4 KiB and its lines are asked for in advance.
 *
 * The C library's memcpy is chosen for the processor. Where a compiler sees a small upper bound of the length it expands a copy of
 * its own instead ("rep movs"), which takes three times as long here; so the bound is hidden from it (pc_media_copy_out).
 *
 * No locks, no fence: the caller fences once for data and log record together.
 */
#include <assert.h>
#include <string.h>

#include "base/crc.h"
#include "media/kernel.h"
#include "media/media.h"

#define STORE_PIECE_BYTES ((size_t)1024) /* a multiple of the cache line */
#define LOAD_PIECE_BYTES ((size_t)4096)

static uint32_t copy_crc_pieces(struct pc_media *media, uint64_t media_off, const uint8_t *from, size_t len,
				uint32_t crc)
{
	_Alignas(PC_CACHE_LINE_BYTES) uint8_t piece[LOAD_PIECE_BYTES];
	/* At page granularity a copy may be a call of the system, and nothing drains. */
	const size_t piece_bytes = media->granularity == PC_GRAN_PAGE ? LOAD_PIECE_BYTES : STORE_PIECE_BYTES;
	size_t now;

	while (len > 0) {
		/* A piece ends at a line of the media, so that whole lines are stored whatever the alignment. */
		now = PC_MIN(len, piece_bytes - (size_t)(media_off % PC_CACHE_LINE_BYTES));
		pc_media_copy_out(piece, from, now);
		pc_media_copy(media, media_off, piece, now);
		crc = pc_crc32c(crc, piece, now);
		from += now;
		media_off += now;
		len -= now;
	}
	return crc;
}

uint32_t pc_media_copy_crc(struct pc_media *media, uint64_t media_off, const void *src, size_t len)
{
	size_t line_nr = len / PC_CACHE_LINE_BYTES, done = line_nr * PC_CACHE_LINE_BYTES;
	uint32_t reg = UINT32_MAX;

	if (!media->lines || media_off % PC_CACHE_LINE_BYTES != 0)
		return copy_crc_pieces(media, media_off, src, len, 0);
	assert(media_off <= media->len_bytes && len <= media->len_bytes - media_off);
	media->kernel->store_crc(media->lines + media_off, src, line_nr, &reg);
	if (__builtin_expect(done == len, 1))
		return ~reg;
	return copy_crc_pieces(media, media_off + done, (const uint8_t *)src + done, len - done, ~reg);
}

static int load_crc_pieces(struct pc_media *media, uint64_t media_off, uint8_t *to, size_t len, uint32_t *crc)
{
	_Alignas(PC_CACHE_LINE_BYTES) uint8_t piece[LOAD_PIECE_BYTES];
	const uint8_t *from = media->base + media_off;
	size_t now;
	int rc;

	while (len > 0) {
		now = PC_MIN(len, LOAD_PIECE_BYTES);
		for (size_t i = 0; i < now; i += PC_CACHE_LINE_BYTES)
			__builtin_prefetch(from + i);
		rc = pc_media_load(media, media_off, piece, now);
		if (rc)
			return rc;
		*crc = pc_crc32c(*crc, piece, now);
		pc_media_copy_out(to, piece, now);
		from += now;
		to += now;
		media_off += now;
		len -= now;
	}
	return 0;
}

static __attribute__((noinline)) int load_crc_any(struct pc_media *media, uint64_t media_off, void *dst, size_t len,
						  uint32_t *out_crc)
{
	size_t line_nr = len / PC_CACHE_LINE_BYTES, done = 0;
	uint32_t crc = 0;
	int rc = 0;

	if (media->kernel && !(media->stage && pc_stage_may_have(media, media_off, len))) {
		uint32_t reg = UINT32_MAX;

		assert(media_off <= media->len_bytes && len <= media->len_bytes - media_off);
		rc = media->kernel->load_crc(dst, media->base + media_off, line_nr, &reg);
		crc = ~reg;
		done = line_nr * PC_CACHE_LINE_BYTES;
	}
	if (!rc && done < len)
		rc = load_crc_pieces(media, media_off + done, (uint8_t *)dst + done, len - done, &crc);
	if (!rc)
		*out_crc = crc;
	return rc;
}

int pc_media_load_crc(struct pc_media *media, uint64_t media_off, void *dst, size_t len, uint32_t *out_crc)
{
	uint32_t reg = UINT32_MAX;
	int rc;

	if (!media->kernel || media->stage || len % PC_CACHE_LINE_BYTES != 0)
		return load_crc_any(media, media_off, dst, len, out_crc);
	assert(media_off <= media->len_bytes && len <= media->len_bytes - media_off);
	rc = media->kernel->load_crc(dst, media->base + media_off, len / PC_CACHE_LINE_BYTES, &reg);
	if (!rc)
		*out_crc = ~reg;
	return rc;
}

int pc_media_load_lines(struct pc_media *media, uint64_t media_off, void *dst, size_t len)
{
	if (!media->kernel || media->stage || len % PC_CACHE_LINE_BYTES != 0)
		return pc_media_load(media, media_off, dst, len);
	assert(media_off <= media->len_bytes && len <= media->len_bytes - media_off);
	return media->kernel->load(dst, media->base + media_off, len / PC_CACHE_LINE_BYTES);
}
