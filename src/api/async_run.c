/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an asynchronous request does: first, in the submitting thread, all that needs no wait; then, in a thread of the library, the synchronous call.
 *
 * A read that misses goes on where its first miss was, into memory of our own: the buffer is touched only by who ends the request, so one that is cancelled or timed out while the
 * backing hangs leaves its buffer alone for good.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/async.h"
#include "api/handle.h"

static bool is_read(const struct pc_aio_call *call)
{
	return call->kind == PC_AIO_READ || call->kind == PC_AIO_READV;
}

/* The buffers of a read. */
static const struct iovec *buffers(const struct pc_aio_call *call, struct iovec *one, uint32_t *out_nr)
{
	if (call->kind == PC_AIO_READV) {
		*out_nr = call->data_nr;
		return call->data.iov;
	}
	*one = (struct iovec){ .iov_base = call->data.to, .iov_len = call->len };
	*out_nr = 1;
	return one;
}

static int read_total(const struct pcache *cache, const struct pc_aio_call *call, uint64_t *out_total_bytes)
{
	struct iovec one;
	uint32_t nr;
	const struct iovec *iov = buffers(call, &one, &nr);

	return pc_api_check_vector(cache, iov, nr, call->off, out_total_bytes);
}

/* What is cached, up to the first miss. */
static int read_hits(struct pcache *cache, struct pc_aio_call *call)
{
	struct iovec one;
	uint64_t total, done = 0;
	uint32_t nr;
	const struct iovec *iov = buffers(call, &one, &nr);
	int rc;

	if (call->flags & ~(PCACHE_NOCACHE | PCACHE_NOWAIT))
		return -EINVAL;
	rc = read_total(cache, call, &total);
	for (uint32_t i = 0; i < nr && !rc; i++) {
		if (!iov[i].iov_len)
			continue;
		rc = pc_core_read_hits(cache, iov[i].iov_base, call->off + call->done_bytes, iov[i].iov_len,
				       call->done_bytes ? 0 : total, &done);
		call->done_bytes += done;
	}
	return rc;
}

static int write_of(struct pcache *cache, const struct pc_aio_call *call, uint32_t flags)
{
	switch (call->kind) {
	case PC_AIO_WRITE:
		return pcache_write(cache, call->data.from, call->off, call->len, flags);
	case PC_AIO_WRITEV:
		return pcache_writev(cache, call->data.iov, call->data_nr, call->off, flags);
	case PC_AIO_BATCH:
		return pcache_write_batch(cache, call->data.ranges, call->data_nr, flags);
	case PC_AIO_DISCARD:
		return pcache_discard(cache, call->off, call->len, flags);
	case PC_AIO_ZEROES:
		return pcache_write_zeroes(cache, call->off, call->len, flags);
	default:
		return pcache_flush(cache);
	}
}

/* Whether a write waits for a sync of the media. */
static bool write_syncs(const struct pcache *cache, const struct pc_aio_call *call)
{
	return cache->media->granularity == PC_GRAN_PAGE && (cache->commit_write || (call->flags & PCACHE_DURABLE));
}

bool pc_aio_try(struct pcache *cache, struct pc_aio_call *call, int *out_result)
{
	bool may_wait = !(call->flags & PCACHE_NOWAIT);

	if (is_read(call)) {
		*out_result = read_hits(cache, call);
		return *out_result != -EAGAIN || !may_wait;
	}
	if (call->kind == PC_AIO_FLUSH) {
		*out_result = -EINVAL;
		return call->flags != 0;
	}
	if (may_wait && write_syncs(cache, call))
		return false;
	*out_result = write_of(cache, call, call->flags | PCACHE_NOWAIT);
	if (*out_result == -EAGAIN)
		return !may_wait; /* the mode, or a write of the range that goes around the cache, waits for the backing */
	return *out_result != PCACHE_E_FULL || !may_wait || cache->full_is_error;
}

static int run_read(struct pcache *cache, const struct pc_aio_call *call, void **out_own)
{
	uint64_t total, rest;
	int rc = read_total(cache, call, &total);
	void *own;

	if (rc)
		return rc;
	rest = total - call->done_bytes;
	own = aligned_alloc(PC_PAGE_BYTES, PC_ROUND_UP(rest, (uint64_t)PC_PAGE_BYTES));
	if (!own)
		return -ENOMEM;
	*out_own = own;
	return pc_core_read_rest(cache, own, call->off + call->done_bytes, rest, call->flags);
}

int pc_aio_run(struct pcache *cache, const struct pc_aio_call *call, void **out_own)
{
	*out_own = NULL;
	return is_read(call) ? run_read(cache, call, out_own) : write_of(cache, call, call->flags);
}

void pc_aio_deliver(const struct pc_aio_call *call, const void *own)
{
	struct iovec one;
	uint64_t skip = call->done_bytes;
	const uint8_t *from = own;
	uint32_t nr;
	const struct iovec *iov = buffers(call, &one, &nr);

	for (uint32_t i = 0; i < nr; i++) {
		uint64_t skipped = PC_MIN(skip, (uint64_t)iov[i].iov_len);
		uint64_t len = iov[i].iov_len - skipped;

		skip -= skipped;
		if (len)
			memcpy((uint8_t *)iov[i].iov_base + skipped, from, len);
		from += len;
	}
}
