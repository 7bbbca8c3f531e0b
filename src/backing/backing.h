/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Backing: calls the caller's table. Splits by max_transfer_bytes, supplies what optional callbacks leave out.
 * Everything returns 0 or the callback's negative errno unchanged. No lock is held around a callback.
 */
#ifndef PC_BACKING_BACKING_H
#define PC_BACKING_BACKING_H

#include "base/types.h"
#include "pcache/backing.h"

struct pcache_backing {
	struct pcache_backing_ops ops; /* normalised: block_bytes and max_transfer_bytes never 0 */
	void *user;
	int direct_fd; /* of a file backing, open for direct I/O; -1: none. Closed by its free callback. */
	int direct_error; /* why there is none, or 0 */
};

/* What the exported functions of the same names do, arguments already checked for NULL; see the public header. */
int pc_backing_new(const struct pcache_backing_ops *ops, void *user, struct pcache_backing **out_backing);
int pc_backing_file_new(const char *path, uint32_t flags, struct pcache_backing **out_backing);
void pc_backing_free(struct pcache_backing *backing); /* NULL does nothing */

/* What a callback returned, as it may be passed on: 0 or a negated errno. */
int pc_backing_errno(int result);

/* Ranges lie inside size_bytes and are multiples of block_bytes; the caller sees to that. A length of 0 calls nothing. */
int pc_backing_read(struct pcache_backing *backing, void *buf, uint64_t off, uint64_t len);
int pc_backing_write(struct pcache_backing *backing, const void *buf, uint64_t off, uint64_t len);
int pc_backing_flush(struct pcache_backing *backing);
/*
 * Makes the range read as zeroes; keep_space: do not punch. A callback that is missing or returns -EOPNOTSUPP
 * makes it fall back from discard to write_zeroes to writing zeroes.
 */
int pc_backing_zero(struct pcache_backing *backing, uint64_t off, uint64_t len, bool keep_space);

#endif
