/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A backing: the caller's table of callbacks, brought into one form, and the calls on it.
 *
 * Job: take a table of any age (its size stamp says how much of it there is), cut requests to the size that the
 * callbacks take, and supply what the optional callbacks leave out. What a request means, who may run two of them
 * on one range, retries and timeouts are left to core and service.
 *
 * Locks: none, and none is held around a callback. A backing never changes after pc_backing_new(), so any number
 * of threads may use it.
 *
 * Errors: what a callback returns reaches the caller as it is. A value that is no negated errno breaks the
 * contract of the table; it becomes -EIO, because passed on it could be taken for success or for one of the
 * library's own codes.
 *
 * Order: nothing here is durable before pc_backing_flush() returned 0. A backing without a flush callback is
 * durable at each return.
 */
#include "backing/backing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

#define DEFAULT_BLOCK_BYTES 512u
#define DEFAULT_TRANSFER_BYTES (UINT64_C(1) << 20)
#define LARGEST_BLOCK_BYTES 4096u /* the largest cache block, which the unit must divide */
#define ERRNO_MAX 4095
#define ZEROES_BYTES 65536u

/* A table needs its members up to and including write. */
#define OPS_MIN_BYTES (offsetof(struct pcache_backing_ops, write) + sizeof(((struct pcache_backing_ops *)0)->write))
/* Nobody will have a table this long; a stamp above it was never set. */
#define OPS_MAX_BYTES PC_PAGE_BYTES

int pc_backing_errno(int result)
{
	return result <= 0 && result >= -ERRNO_MAX ? result : -EIO;
}

static bool all_zero(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != 0)
			return false;
	}
	return true;
}

/* Copies the part of the table that both sides know; what an older program does not have stays NULL. */
static int take_table(const struct pcache_backing_ops *ops, struct pcache_backing_ops *out_ops)
{
	uint32_t struct_bytes = ops->struct_bytes;

	if (struct_bytes < OPS_MIN_BYTES || struct_bytes > OPS_MAX_BYTES)
		return -EINVAL;
	/* All members past the first are 8 bytes long or pairs of that, so that any other length cuts a pointer in two. */
	if (struct_bytes % sizeof(uint64_t) != 0)
		return -EINVAL;
	if (struct_bytes > sizeof(*ops) && !all_zero((const uint8_t *)ops + sizeof(*ops), struct_bytes - sizeof(*ops)))
		return -EINVAL;
	memset(out_ops, 0, sizeof(*out_ops));
	memcpy(out_ops, ops, PC_MIN(struct_bytes, sizeof(*out_ops)));
	out_ops->struct_bytes = sizeof(*out_ops);
	return 0;
}

static int normalise(struct pcache_backing_ops *ops)
{
	if (ops->read == NULL || ops->write == NULL)
		return -EINVAL;
	if (ops->block_bytes == 0)
		ops->block_bytes = DEFAULT_BLOCK_BYTES;
	if (!pc_is_pow2(ops->block_bytes) || ops->block_bytes > LARGEST_BLOCK_BYTES)
		return -EINVAL;
	if (ops->size_bytes == 0 || ops->size_bytes % ops->block_bytes != 0)
		return -EINVAL;
	if (ops->max_transfer_bytes == 0)
		ops->max_transfer_bytes = DEFAULT_TRANSFER_BYTES;
	ops->max_transfer_bytes = PC_ROUND_DOWN(ops->max_transfer_bytes, (uint64_t)ops->block_bytes);
	return ops->max_transfer_bytes != 0 ? 0 : -EINVAL;
}

int pc_backing_new(const struct pcache_backing_ops *ops, void *user, struct pcache_backing **out_backing)
{
	struct pcache_backing_ops taken;
	struct pcache_backing *backing;
	int err;

	err = take_table(ops, &taken);
	if (err != 0)
		return err;
	err = normalise(&taken);
	if (err != 0)
		return err;
	backing = calloc(1, sizeof(*backing));
	if (backing == NULL)
		return -ENOMEM;
	backing->ops = taken;
	backing->user = user;
	backing->direct_fd = -1;
	*out_backing = backing;
	return 0;
}

void pc_backing_free(struct pcache_backing *backing)
{
	if (backing == NULL)
		return;
	if (backing->ops.free != NULL)
		backing->ops.free(backing->user);
	free(backing);
}

int pc_backing_read(struct pcache_backing *backing, void *buf, uint64_t off, uint64_t len)
{
	uint8_t *bytes = buf;

	while (len != 0) {
		uint64_t piece_len = PC_MIN(len, backing->ops.max_transfer_bytes);
		int err = pc_backing_errno(backing->ops.read(backing->user, bytes, off, piece_len));

		if (err != 0)
			return err;
		bytes += piece_len;
		off += piece_len;
		len -= piece_len;
	}
	return 0;
}

int pc_backing_write(struct pcache_backing *backing, const void *buf, uint64_t off, uint64_t len)
{
	const uint8_t *bytes = buf;

	while (len != 0) {
		uint64_t piece_len = PC_MIN(len, backing->ops.max_transfer_bytes);
		int err = pc_backing_errno(backing->ops.write(backing->user, bytes, off, piece_len));

		if (err != 0)
			return err;
		bytes += piece_len;
		off += piece_len;
		len -= piece_len;
	}
	return 0;
}

int pc_backing_flush(struct pcache_backing *backing)
{
	if (backing->ops.flush == NULL)
		return 0;
	return pc_backing_errno(backing->ops.flush(backing->user));
}

/* Ways to make a range read as zeroes, best first. */
enum zero_way { ZERO_BY_DISCARD, ZERO_BY_ZEROES, ZERO_BY_WRITE };

static int write_zeroes(struct pcache_backing *backing, uint64_t off, uint64_t len)
{
	/* Larger than any block, and a multiple of all of them. */
	static const uint8_t zeroes[ZEROES_BYTES];

	while (len != 0) {
		uint64_t piece_len = PC_MIN(len, (uint64_t)sizeof(zeroes));
		int err = pc_backing_errno(backing->ops.write(backing->user, zeroes, off, piece_len));

		if (err != 0)
			return err;
		off += piece_len;
		len -= piece_len;
	}
	return 0;
}

static int zero_piece(struct pcache_backing *backing, enum zero_way way, uint64_t off, uint64_t len)
{
	int (*callback)(void *user, uint64_t off, uint64_t len);

	if (way == ZERO_BY_WRITE)
		return write_zeroes(backing, off, len);
	callback = way == ZERO_BY_DISCARD ? backing->ops.discard : backing->ops.write_zeroes;
	if (callback == NULL)
		return -EOPNOTSUPP;
	return pc_backing_errno(callback(backing->user, off, len));
}

int pc_backing_zero(struct pcache_backing *backing, uint64_t off, uint64_t len, bool keep_space)
{
	enum zero_way way = keep_space ? ZERO_BY_ZEROES : ZERO_BY_DISCARD;

	while (len != 0) {
		uint64_t piece_len = PC_MIN(len, backing->ops.max_transfer_bytes);
		int err = zero_piece(backing, way, off, piece_len);

		if (err == -EOPNOTSUPP && way != ZERO_BY_WRITE) {
			way++; /* for the rest of this range too; the next range asks anew */
			continue;
		}
		if (err != 0)
			return err;
		off += piece_len;
		len -= piece_len;
	}
	return 0;
}
