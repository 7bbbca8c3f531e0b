/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file io.h
 * @brief Format, open, read, write, flush and close a cache.
 */
#ifndef PCACHE_IO_H
#define PCACHE_IO_H

#include <sys/uio.h>

#include <pcache/backing.h>
#include <pcache/config.h>
#include <pcache/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Opaque: an open cache. */
struct pcache;

/** Flag of writes: durable when the call returns 0, in every commit mode. */
#define PCACHE_DURABLE 1u
/** Flag of reads: data that misses is not kept in the cache. */
#define PCACHE_NOCACHE 2u
/** Flag of writes: fail with #PCACHE_E_FULL instead of waiting for space. Of reads: fail with -EAGAIN instead of waiting for the backing. */
#define PCACHE_NOWAIT 4u

/** One range of a batch. */
struct pcache_range {
	const void *buf; /**< the bytes; not touched after the call returned */
	uint64_t off; /**< offset on the backing in bytes, a multiple of the cache block */
	uint64_t len; /**< length in bytes, a multiple of the cache block; 0 is allowed and does nothing */
};

/**
 * Makes a new, empty cache in a file (created if missing, mode 0600, every block allocated) or device DAX.
 *
 * A cache that is there is left alone: with dirty data the call says #PCACHE_E_DIRTY, without #PCACHE_E_HAS_CACHE, unless option
 * `force` is set. After a crash inside, the path holds the old cache, or none, or the new one.
 *
 * @param path    path of the cache.
 * @param config  options (cache_bytes, block_bytes, segment_bytes, data_crc, force, gc_percent, ordering); NULL: defaults.
 * @param backing what the cache will stand before: its size and uuid are recorded; it is neither read nor written nor taken over.
 * @return 0, -EINVAL (NULL path or backing, bad combination of options, backing no multiple of the block), -EBUSY (open elsewhere),
 *         -EISDIR, -ENOTSUP (neither a regular file nor device DAX), -ENOSPC, -ENOMEM, #PCACHE_E_TOO_SMALL,
 *         #PCACHE_E_DIRTY, #PCACHE_E_HAS_CACHE, or, for a cache that is there and cannot be read, #PCACHE_E_VERSION, #PCACHE_E_TRUNCATED, #PCACHE_E_CORRUPT; or the errno of open(2), ftruncate(2), posix_fallocate(3), mmap(2) or fsync(2).
 *
 * Blocks on the file system. Since 0.9.
 */
PCACHE_API int pcache_format(const char *path, const struct pcache_config *config, struct pcache_backing *backing);

/** Smallest cache file that pcache_format() accepts with default segments and this block size, in bytes. Since 0.9. */
PCACHE_API uint64_t pcache_format_min_bytes(uint32_t block_bytes);

/**
 * Opens a cache, recovers it if it was not closed, and starts the workers.
 *
 * What it shows it has made durable: a later crash never undoes it.
 *
 * With option `create` a path that does not exist becomes a cache as pcache_format() would make it (`cache_bytes` and the other options of format count then), and gets its name when it is complete:
 * a crash leaves no file or a whole cache. An empty file or another one is #PCACHE_E_NOT_A_CACHE and stays as it is. Of two processes that create at the same time one
 * opens the cache, the other gets -EBUSY.
 *
 * @param path      path of the cache.
 * @param config    options; NULL: defaults. Copied.
 * @param backing   the backing; on success owned by the cache, which frees it in pcache_close(); on failure still the caller's.
 * @param out_cache the open cache.
 * @return 0, -EINVAL (NULL), -EBUSY (open elsewhere, or held by a forked child), -EISDIR, -EACCES and -EROFS (read-only file), -ENOMEM,
 *         -ENOTSUP, #PCACHE_E_NOT_A_CACHE, #PCACHE_E_VERSION, #PCACHE_E_TRUNCATED, #PCACHE_E_HOLES, #PCACHE_E_WRONG_BACKING,
 *         #PCACHE_E_BACKING_SIZE, #PCACHE_E_CORRUPT, #PCACHE_E_READ_ONLY (option read_only on a cache that needs recovery), #PCACHE_E_PLATFORM (option granularity); with option create also
 *         -ENOENT (no such folder), -EOPNOTSUPP (a file system without unnamed files: call pcache_format() first), -ENOSPC, #PCACHE_E_TOO_SMALL, -EINVAL (no cache_bytes); or the
 *         errno of open(2), mmap(2), read(2), fdatasync(2), or the backing's error.
 *
 * Blocks while it reads the log. A crash inside leaves the same choice again. Since 0.9.
 */
PCACHE_API int pcache_open(const char *path, const struct pcache_config *config, struct pcache_backing *backing,
			   struct pcache **out_cache);

/**
 * Flushes, stops the workers, closes. Dirty data stays in the cache, durable; call pcache_drain() first to empty it to the backing.
 *
 * No other call on the handle may be running. The handle is gone whatever is returned. NULL does nothing and returns 0.
 *
 * @return 0, or the error of the flush (#PCACHE_E_FAILSTOP, errno of the sync), #PCACHE_E_FORKED (nothing was touched; the
 *         child's copy of the handle must not be used any more). Since 0.9.
 */
PCACHE_API int pcache_close(struct pcache *cache);

/**
 * Reads. Returns the newest completed write of each byte; concurrent with a write, each block is old or new.
 *
 * All or nothing: one block that is lost (#PCACHE_E_POISONED) fails the whole call, however many others are sound. Read block by block to get at those. Lost are the blocks
 * of which the media cannot give a byte, with `data_crc` on all blocks of a 4 KiB chunk of a write of which any byte cannot be given or is wrong; others are never affected, and
 * nothing older is returned in their place. A write, discard or zeroing of a lost block cures it.
 *
 * @param buf   receives @a len bytes; on failure its content is undefined.
 * @param off   offset in bytes, a multiple of the cache block.
 * @param len   length in bytes, a multiple of the cache block; 0 does nothing.
 * @param flags any of #PCACHE_NOCACHE, #PCACHE_NOWAIT.
 * @return 0, -EINVAL (NULL, unknown flag), -EAGAIN (#PCACHE_NOWAIT, and not all of it is cached), #PCACHE_E_UNALIGNED, #PCACHE_E_RANGE, #PCACHE_E_POISONED, #PCACHE_E_FORKED, or the backing's error.
 *
 * Blocks on the backing for what is not cached. Since 0.9.
 */
PCACHE_API int pcache_read(struct pcache *cache, void *buf, uint64_t off, uint64_t len, uint32_t flags);

/**
 * Writes. In commit mode `write` the data is durable on return, in commit mode `flush` after the next flush.
 *
 * Up to pcache_atomic_write_max() the write is all or nothing across a crash; a longer one is cut into pieces that are.
 *
 * @param buf   @a len bytes; not touched after the call returned.
 * @param off   offset in bytes, a multiple of the cache block.
 * @param len   length in bytes, a multiple of the cache block; 0 does nothing.
 * @param flags any of #PCACHE_DURABLE, #PCACHE_NOWAIT.
 * @return 0, -EINVAL (NULL, unknown flag), #PCACHE_E_UNALIGNED, #PCACHE_E_RANGE, #PCACHE_E_FULL (option full_policy=error, #PCACHE_NOWAIT,
 *         or maintenance=caller and nothing can be moved), #PCACHE_E_FAILSTOP, #PCACHE_E_READ_ONLY, #PCACHE_E_FORKED, -ENOMEM, or the errno of the sync at page granularity.
 *         On failure of a write up to the atomic maximum nothing was written. In the modes that wait for the backing (@ref modes) also its errors, which say there what was written, and -EAGAIN (#PCACHE_NOWAIT);
 *         -EAGAIN also after such a mode, while a write of the range still goes around the cache.
 *
 * Blocks while the cache is full, and on the backing as the mode says. Since 0.9.
 */
PCACHE_API int pcache_write(struct pcache *cache, const void *buf, uint64_t off, uint64_t len, uint32_t flags);

/**
 * Writes many ranges as one: after a crash all of them are there or none. Where ranges overlap, the later one wins.
 *
 * @param ranges   array of @a range_nr ranges.
 * @param range_nr number of ranges; 0 does nothing.
 * @param flags    as pcache_write().
 * @return as pcache_write(), and #PCACHE_E_TOO_BIG if the ranges together exceed pcache_atomic_write_max(); nothing was written then.
 *
 * Blocks while the cache is full. Since 0.9.
 */
PCACHE_API int pcache_write_batch(struct pcache *cache, const struct pcache_range *ranges, uint32_t range_nr,
				  uint32_t flags);

/**
 * Reads a range into many buffers, one after the other. As pcache_read() otherwise.
 *
 * @param iov    @a iov_nr buffers; the length of each is a multiple of the cache block, also 0.
 * @param iov_nr number of buffers; 0 does nothing.
 * @return as pcache_read(). Since 0.9.
 */
PCACHE_API int pcache_readv(struct pcache *cache, const struct iovec *iov, uint32_t iov_nr, uint64_t off,
			    uint32_t flags);

/**
 * Writes a range from many buffers, one after the other: as atomic as pcache_write() of all of it, and cut in the same places beyond pcache_atomic_write_max().
 *
 * @param iov    @a iov_nr buffers, not touched after the call returned; the length of each is a multiple of the cache block, also 0.
 * @param iov_nr number of buffers; 0 does nothing. More than 16 take memory for the call (-ENOMEM).
 * @return as pcache_write(). Since 0.9.
 */
PCACHE_API int pcache_writev(struct pcache *cache, const struct iovec *iov, uint32_t iov_nr, uint64_t off,
			     uint32_t flags);

/** Largest atomic write or batch in bytes, at least 1 MiB with default segments; 0 if @a cache is NULL. Since 0.9. */
PCACHE_API uint64_t pcache_atomic_write_max(const struct pcache *cache);

/** Size of the cached store in bytes; 0 if @a cache is NULL. Since 0.9. */
PCACHE_API uint64_t pcache_size(const struct pcache *cache);

/** Cache block in bytes; 0 if @a cache is NULL. Since 0.9. */
PCACHE_API uint32_t pcache_block_bytes(const struct pcache *cache);

/**
 * Makes every write that completed before this call durable, and ends an epoch: with ordering `strict` the backing never shows a write
 * from after a flush without all writes from before it.
 *
 * @return 0, -EINVAL (NULL), #PCACHE_E_FAILSTOP, #PCACHE_E_READ_ONLY, #PCACHE_E_FORKED, or the errno of the sync at page granularity (the cache is
 *         then fail-stop). Always completes, also when the cache is full. Since 0.9.
 */
PCACHE_API int pcache_flush(struct pcache *cache);

/**
 * Makes a range read as zeroes, durable like a write; its space on the backing may be given up later.
 *
 * A long range is cut into pieces, each all or nothing across a crash.
 *
 * @return as pcache_write(). Since 0.9.
 */
PCACHE_API int pcache_discard(struct pcache *cache, uint64_t off, uint64_t len, uint32_t flags);

/** As pcache_discard(), but the space on the backing is kept. Since 0.9. */
PCACHE_API int pcache_write_zeroes(struct pcache *cache, uint64_t off, uint64_t len, uint32_t flags);

/** Progress of a drain: @a done and @a total in bytes; a return other than 0 stops the drain with -ECANCELED. */
typedef int (*pcache_progress_fn)(void *user, uint64_t done_bytes, uint64_t total_bytes);

/**
 * Writes everything that was dirty at the call to the backing and flushes it there.
 *
 * @param progress may be NULL.
 * @return 0, -EINVAL (NULL cache), -ECANCELED, #PCACHE_E_FAILSTOP, #PCACHE_E_READ_ONLY, #PCACHE_E_FORKED, #PCACHE_E_POISONED (all but the
 *         poisoned blocks was written), -ENOMEM, or the backing's error.
 *
 * Blocks on the backing. Since 0.9.
 */
PCACHE_API int pcache_drain(struct pcache *cache, pcache_progress_fn progress, void *user);

/** Policies of pcache_close_with(): what is to become of dirty data. */
#define PCACHE_CLOSE_KEEP 0u /**< it stays in the cache, durable, for the next open: as pcache_close() */
#define PCACHE_CLOSE_DRAIN 1u /**< it is written to the backing first: as pcache_drain() */
#define PCACHE_CLOSE_CLEAN 2u /**< there is to be none: #PCACHE_E_DIRTY if there is */

/**
 * Closes with a policy. Unlike pcache_close(), a policy that cannot be kept leaves the cache open and everything as it is, so that the caller may choose another.
 *
 * No other call on the handle may be running.
 *
 * @param policy     PCACHE_CLOSE_*.
 * @param progress   of the drain; may be NULL. Not called by the other policies.
 * @param user       passed to @a progress.
 * @param out_closed 1: the handle is gone, whatever is returned; 0: the cache is open. Always set; may be NULL only with #PCACHE_CLOSE_KEEP.
 * @return 0; -EINVAL (NULL cache, unknown policy, missing @a out_closed); #PCACHE_E_DIRTY (policy CLEAN, or DRAIN on a cache that is open read-only, with dirty data);
 *         #PCACHE_E_POISONED (the same with lost blocks); what pcache_drain() returns (policy DRAIN); of the close itself what pcache_close() returns. Since 0.9.
 *
 * Blocks on the backing with policy DRAIN. A crash inside leaves what a crash in pcache_drain() or pcache_close() does.
 */
PCACHE_API int pcache_close_with(struct pcache *cache, uint32_t policy, pcache_progress_fn progress, void *user,
				 int *out_closed);

/**
 * Runs background work (write-back, eviction, log cleaning) in the calling thread: for option maintenance=caller.
 *
 * @param max_steps most steps to run; 0 means until there is nothing to do.
 * @return the number of steps that did something (0: nothing to do), -EINVAL (NULL), #PCACHE_E_FAILSTOP, #PCACHE_E_READ_ONLY, #PCACHE_E_FORKED, -ENOMEM, or the backing's error.
 *
 * Blocks on the backing. Since 0.9.
 */
PCACHE_API int pcache_maintain(struct pcache *cache, uint32_t max_steps);

#ifdef __cplusplus
}
#endif
#endif
