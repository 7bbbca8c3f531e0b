/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Vectored requests: one range of the backing, many buffers.
 *
 * A write becomes a batch of ranges that lie one behind the other, so it is as atomic as one buffer would be; beyond the atomic maximum it is cut there, as pcache_write
 * does. A read goes buffer by buffer, since order and atomicity of a read are those of its blocks.
 */
#include <errno.h>
#include <stdlib.h>

#include "api/handle.h"
#include "api/timed.h"
#include "base/probe.h"

#define RANGES_IN_FRAME 16u

struct cursor {
	const struct iovec *iov; /* the next buffer */
	uint32_t left_nr; /* buffers from there on */
	uint64_t used_bytes; /* of the next one */
	uint64_t off; /* on the backing */
};

int pc_api_check_vector(const struct pcache *cache, const struct iovec *iov, uint32_t iov_nr, uint64_t off,
			uint64_t *out_total_bytes)
{
	uint64_t total = 0;

	if (!iov && iov_nr)
		return -EINVAL;
	for (uint32_t i = 0; i < iov_nr; i++) {
		if (!iov[i].iov_base && iov[i].iov_len)
			return -EINVAL;
	}
	for (uint32_t i = 0; i < iov_nr; i++) {
		if (iov[i].iov_len & (cache->block_bytes - 1))
			return PCACHE_E_UNALIGNED;
		if (!pc_add_u64(total, iov[i].iov_len, &total))
			return PCACHE_E_RANGE;
	}
	*out_total_bytes = total;
	return pc_api_check_range(cache, off, total);
}

/* The next ranges, at most max_bytes of them together; as many entries as there are buffers left are enough. */
static uint32_t take(struct cursor *at, struct pcache_range *ranges, uint64_t max_bytes)
{
	uint32_t nr = 0;

	while (at->left_nr && max_bytes) {
		uint64_t len = PC_MIN(at->iov->iov_len - at->used_bytes, max_bytes);

		ranges[nr++] = (struct pcache_range){ .buf = (const uint8_t *)at->iov->iov_base + at->used_bytes,
						      .off = at->off,
						      .len = len };
		at->used_bytes += len;
		at->off += len;
		max_bytes -= len;
		if (at->used_bytes == at->iov->iov_len) {
			at->iov++;
			at->left_nr--;
			at->used_bytes = 0;
		}
	}
	return nr;
}

static int write_all(struct pcache *cache, struct cursor *at, struct pcache_range *ranges, uint32_t flags)
{
	int rc;

	do {
		uint32_t range_nr = take(at, ranges, cache->atomic_max_bytes);

		rc = pc_api_write(cache, ranges, range_nr, false, flags);
	} while (!rc && at->left_nr);
	return rc;
}

PCACHE_API int pcache_writev(struct pcache *cache, const struct iovec *iov, uint32_t iov_nr, uint64_t off,
			     uint32_t flags)
{
	struct pcache_range in_frame[RANGES_IN_FRAME], *ranges = in_frame;
	struct cursor at = { .iov = iov, .left_nr = iov_nr, .off = off };
	uint64_t total;
	int rc = pc_api_check(cache);

	if (rc)
		return rc;
	if (!pc_api_write_flags_known(flags))
		return -EINVAL;
	rc = pc_api_check_vector(cache, iov, iov_nr, off, &total);
	if (rc)
		return rc;
	if (iov_nr > RANGES_IN_FRAME) {
		ranges = malloc(iov_nr * sizeof(*ranges));
		if (!ranges)
			return -ENOMEM;
	}
	PC_PROBE3(write, off, total, flags);
	rc = pc_latency_on(cache) ? PC_TIMED(cache, PCACHE_LATENCY_WRITE, write_all(cache, &at, ranges, flags))
				  : write_all(cache, &at, ranges, flags);
	if (ranges != in_frame)
		free(ranges);
	return pc_api_told(cache, rc);
}

static int read_all(struct pcache *cache, const struct iovec *iov, uint32_t iov_nr, uint64_t off, uint32_t flags)
{
	int rc = 0;

	for (uint32_t i = 0; i < iov_nr && !rc; i++) {
		rc = pc_core_read(cache, iov[i].iov_base, off, iov[i].iov_len, flags);
		off += iov[i].iov_len;
	}
	return rc;
}

PCACHE_API int pcache_readv(struct pcache *cache, const struct iovec *iov, uint32_t iov_nr, uint64_t off,
			    uint32_t flags)
{
	uint64_t total;
	int rc = pc_api_check(cache);

	if (rc)
		return rc;
	if (flags & ~(PCACHE_NOCACHE | PCACHE_NOWAIT))
		return -EINVAL;
	rc = pc_api_check_vector(cache, iov, iov_nr, off, &total);
	if (rc)
		return rc;
	PC_PROBE3(read, off, total, flags);
	return pc_latency_on(cache) ? PC_TIMED(cache, PCACHE_LATENCY_READ, read_all(cache, iov, iov_nr, off, flags))
				    : read_all(cache, iov, iov_nr, off, flags);
}
