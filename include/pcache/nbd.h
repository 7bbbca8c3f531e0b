/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file nbd.h
 * @brief A backing behind a network block device. Optional: a library of its own, libpcache-nbd, which uses libnbd (pkg-config pcache-nbd).
 */
#ifndef PCACHE_NBD_H
#define PCACHE_NBD_H

#include <pcache/backing.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How to reach the server. Set @a struct_bytes to sizeof(struct pcache_nbd_options), zero what is not used. */
struct pcache_nbd_options {
	uint32_t struct_bytes; /**< sizeof(struct pcache_nbd_options) of the program */
	uint32_t connections; /**< at most 16; 0: 4. A server that does not say that it allows several gets one */
	uint32_t timeout_ms; /**< of each request, with all its tries; 0: 30000 */
	uint32_t reserved; /**< 0 */
};

/**
 * Connects to an NBD export and makes a backing of it.
 *
 * Reads, writes and zeroes are asynchronous, over all connections. A connection that is lost is made again, with pauses of 10 ms to 1 s; what was under way on it is asked for again, which is safe, as
 * the same bytes go to the same place. What the server had acknowledged and not flushed may be gone with it, so the next flush after a loss is -EIO, and the cache writes it again.
 * A request that is not complete within the time-out is -ETIMEDOUT; if it is under way, its connection is given up, so its buffer is never touched again. A server that comes back with another size is taken for gone.
 *
 * The export's smallest block becomes the backing's block, its largest request the backing's largest transfer. Discards are zeroes that may free space. Without flushes on the server a write counts as
 * durable when it is complete.
 *
 * @param uri         NBD URI, e.g. nbd://host/export or nbd+unix:///export?socket=PATH.
 * @param options     NULL: the defaults.
 * @param out_backing the new backing; see pcache_backing_new() for who owns it.
 * @return 0, -EINVAL (NULL, options shorter than the first version's, longer with something this library does not know, or more than 16 connections; a URI that libnbd does not take), -ENOMEM, -ENOTSUP (the export's smallest block is above 4096, its size 0 or
 *         no multiple of 512), or the errno of the connection: -ECONNREFUSED, -ENOENT (no such socket or export), -ETIMEDOUT and so on; -EIO where libnbd knows none.
 *
 * A read-only export makes a backing whose writes are -EROFS. Blocks until the first connection is there. Its threads block all signals. Since 0.9.
 */
PCACHE_API int pcache_backing_nbd_new(const char *uri, const struct pcache_nbd_options *options,
				      struct pcache_backing **out_backing);

#ifdef __cplusplus
}
#endif
#endif
