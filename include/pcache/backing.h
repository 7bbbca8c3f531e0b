/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file backing.h
 * @brief The slower store behind the cache: a table of callbacks, and the file backing that ships.
 *
 * The callbacks are called from the thread of a foreground request (misses) and from the worker threads
 * (write-back), concurrently, and never while the library holds a lock that a call on the same cache could
 * need. They must not call into the same cache. They return 0 or a negated errno, which reaches the caller
 * unchanged; anything else is taken for -EIO, and -EOPNOTSUPP of discard and write_zeroes makes the library try the
 * next way. The whole transfer succeeds or the call fails: a short transfer is an error.
 */
#ifndef PCACHE_BACKING_H
#define PCACHE_BACKING_H

#include <pcache/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Opaque: a backing. Owned by the caller until pcache_open() succeeds, by the cache afterwards. */
struct pcache_backing;

/** Opaque: one asynchronous request to a backing; valid until pcache_backing_complete(). */
struct pcache_backing_io;

/** Kinds of asynchronous requests. */
#define PCACHE_BACKING_READ 1u
#define PCACHE_BACKING_WRITE 2u /**< see #PCACHE_BACKING_READ */
#define PCACHE_BACKING_FLUSH 3u /**< see #PCACHE_BACKING_READ */
#define PCACHE_BACKING_DISCARD 4u /**< see #PCACHE_BACKING_READ */
#define PCACHE_BACKING_ZEROES 5u /**< see #PCACHE_BACKING_READ */

/**
 * Callback table of a backing, stamped with its size: set @a struct_bytes to sizeof(struct pcache_backing_ops)
 * and zero the rest before filling it. A longer table from a newer program is accepted if what this library does not
 * know is zero; a shorter one from an older program leaves the missing callbacks NULL.
 *
 * @a read and @a write are required, @a flush too unless every write is durable on return. The others are optional.
 */
struct pcache_backing_ops {
	/** sizeof(struct pcache_backing_ops) of the program. */
	uint32_t struct_bytes;
	/** Unit of every request in bytes, a power of two that divides the cache block; 0 means 512. */
	uint32_t block_bytes;
	/** Size of the backing in bytes; a multiple of the cache block, not 0. */
	uint64_t size_bytes;
	/** Identity that format records and open compares; all zero: not compared. */
	uint8_t uuid[16];
	/** Largest range per call in bytes, discards and zeroes included; 0 means 1 MiB. */
	uint64_t max_transfer_bytes;
	/** Reads @a len bytes at @a off into @a buf. */
	int (*read)(void *user, void *buf, uint64_t off, uint64_t len);
	/** Writes @a len bytes of @a buf at @a off. */
	int (*write)(void *user, const void *buf, uint64_t off, uint64_t len);
	/** Makes every write that returned before this call durable; NULL: writes are durable on return. */
	int (*flush)(void *user);
	/** Makes the range read as zeroes and may free its space; NULL: @a write_zeroes or zeroes are written. */
	int (*discard)(void *user, uint64_t off, uint64_t len);
	/** Makes the range read as zeroes; NULL: zeroes are written. */
	int (*write_zeroes)(void *user, uint64_t off, uint64_t len);
	/**
	 * Starts a request without waiting for it; the backing later calls pcache_backing_complete() exactly once,
	 * on any thread, also before this call returns. A negative return means that the request was not
	 * started and will not be completed; -EAGAIN: not now, try again when another one has ended. NULL: the synchronous callbacks are used.
	 * Write-back starts its writes (#PCACHE_BACKING_WRITE) with it, up to 128 at a time that do not overlap, and leaves @a buf alone until they are complete; all else
	 * still goes to the synchronous callbacks, which stay required. @a flush is called when no write is in flight.
	 */
	int (*submit)(void *user, struct pcache_backing_io *io, uint32_t kind, void *buf, uint64_t off, uint64_t len);
	/** Called exactly once, when the backing is given up; may be NULL. */
	void (*free)(void *user);
};

/**
 * Makes a backing out of a callback table.
 *
 * @param ops  table; copied. See struct pcache_backing_ops for what each member means.
 * @param user passed to every callback; owned by the caller, or given up by @a ops->free.
 * @param out_backing the new backing; free it with pcache_backing_free() unless pcache_open() took it.
 * @return 0, -EINVAL (NULL argument; @a struct_bytes too small for @a write; @a read or @a write missing; block
 *         no power of two or above 4096; size 0 or not a multiple of the block; @a max_transfer_bytes below the block; a member this
 *         library does not know is not zero), -ENOMEM. On failure @a ops->free is not called.
 *
 * Does not block. Since 0.9.
 */
PCACHE_API int pcache_backing_new(const struct pcache_backing_ops *ops, void *user,
				  struct pcache_backing **out_backing);

/** Opens the file for reading only: write-back is then impossible (-EROFS). For inspection. */
#define PCACHE_BACKING_FILE_RDONLY 1u
/** Writes through the page cache with pwrite(2), one request at a time; without it write-back uses io_uring(7) and direct I/O where it can. */
#define PCACHE_BACKING_FILE_BUFFERED 2u

/**
 * Opens a regular file or block device as a backing (pread, pwrite, fdatasync; holes are punched for discards).
 *
 * Write-back keeps many direct writes in flight by io_uring(7), if the library was built with it, the kernel allows it, and the file takes direct I/O in units of
 * the cache block; else it writes as with #PCACHE_BACKING_FILE_BUFFERED. pcache_open() tells the log callback which it is, and why;
 * #PCACHE_STATE_BACKING_URING tells it at any time.
 *
 * @param path        path of the file.
 * @param flags       0, #PCACHE_BACKING_FILE_RDONLY or #PCACHE_BACKING_FILE_BUFFERED.
 * @param out_backing the new backing.
 * @return 0, -EINVAL (NULL argument, unknown flag, empty file, or a size that is no multiple of 512), -EISDIR (a directory), -ENOTSUP
 *         (neither file nor block device), -ENOMEM, or the errno of open(2), fstat(2) or ioctl(2).
 *
 * May block on the file system. Since 0.9.
 */
PCACHE_API int pcache_backing_file_new(const char *path, uint32_t flags, struct pcache_backing **out_backing);

/** Size of the backing in bytes; 0 if @a backing is NULL. Never blocks. Since 0.9. */
PCACHE_API uint64_t pcache_backing_size(const struct pcache_backing *backing);

/**
 * Gives up a backing that no cache owns: calls its @a free callback. NULL does nothing.
 *
 * May block as long as the callback does. Since 0.9.
 */
PCACHE_API void pcache_backing_free(struct pcache_backing *backing);

/**
 * Reports the end of a request that the backing's @a submit callback started.
 *
 * @param io     the request; invalid afterwards.
 * @param result 0 or a negated errno.
 *
 * Safe from any thread, also inside @a submit; never blocks. Since 0.9.
 */
PCACHE_API void pcache_backing_complete(struct pcache_backing_io *io, int result);

#ifdef __cplusplus
}
#endif
#endif
