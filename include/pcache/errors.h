/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file errors.h
 * @brief Error codes.
 *
 * A negative return of -1 to -4095 is an errno value, negated: from the system, or unchanged from the
 * caller's backing. Codes below -4095 are libpcache's own, so they are never mistaken for the backing's.
 */
#ifndef PCACHE_ERRORS_H
#define PCACHE_ERRORS_H

#include <pcache/export.h>

/**
 * The table of own codes: name, value, text (what happened; what to do next), causes.
 * docs/ERRORS.md, pcache_strerror(), pcache_errcause() and the tests are generated from it.
 */
#define PCACHE_ERROR_TABLE(X) \
	X(PCACHE_E_FULL, -5001, "cache is full; let write-back make progress, then try again", \
	  "Writers may not wait (full_policy=error, PCACHE_NOWAIT, or maintenance=caller), and there is no free " \
	  "segment or log position: dirty data has to go to the backing first. If the backing fails, it cannot.") \
	X(PCACHE_E_POISONED, -5002, \
	  "data of these blocks is lost in the cache media; overwrite the blocks to cure them", \
	  "The media cannot give the bytes, or their CRC is wrong, and the backing does not have them yet. Nothing " \
	  "older is returned in their place. Other blocks are not affected.") \
	X(PCACHE_E_CORRUPT, -5003, "cache metadata is damaged; run `pcache check` on it and keep a copy", \
	  "Both copies of a record are damaged, or a part of the log that is known to be durable is. It is a failure " \
	  "of the media or of who wrote to it; a crash does not do this.") \
	X(PCACHE_E_NOT_A_CACHE, -5004, "not a pcache cache; run `pcache format` on it first", \
	  "Neither copy of the superblock has its magic number.") \
	X(PCACHE_E_VERSION, -5005, \
	  "cache has a format version or feature this library does not know; use a newer library", \
	  "The superblock names a later version of the format, or a feature without which it cannot be read.") \
	X(PCACHE_E_TOO_SMALL, -5006, "cache is too small; make it larger", \
	  "The size leaves less room than the records, the log and a minimum of data need. pcache_format_min_bytes() " \
	  "says how much that is.") \
	X(PCACHE_E_TRUNCATED, -5007, "cache file is shorter than its superblock says; restore the missing part", \
	  "The file was cut off, or copied in part.") \
	X(PCACHE_E_HOLES, -5008, "cache file has holes; fill them with `fallocate -l SIZE FILE`", \
	  "The file was copied or restored as a sparse file. A store into a hole ends the process when the disk is " \
	  "full, so none is risked.") \
	X(PCACHE_E_WRONG_BACKING, -5009, "backing is not the one this cache was formatted for; give the right one", \
	  "The UUID of the backing, or the one of the config, differs from the one recorded at format.") \
	X(PCACHE_E_BACKING_SIZE, -5010, "backing size differs from the one recorded in the cache; restore its size", \
	  "The backing grew or shrank since format, or it is another one.") \
	X(PCACHE_E_DIRTY, -5011, "cache holds dirty data that is nowhere else; drain it first or force", \
	  "pcache_format() was called on a cache with data that was not written back.") \
	X(PCACHE_E_TOO_BIG, -5012, "batch is larger than atomic_write_max; split it", \
	  "The ranges of one batch together exceed pcache_atomic_write_max().") \
	X(PCACHE_E_FAILSTOP, -5013, \
	  "cache stopped after a failed sync or a broken invariant; close it, check the media, open again", \
	  "A sync of the cache file failed, so that the system no longer knows what of it is durable; or the cache " \
	  "file was cut off. Nothing is stored any more; reads go on.") \
	X(PCACHE_E_FORKED, -5014, "handle was inherited through fork; open the cache again in this process", \
	  "The process that opened the cache is the parent of this one.") \
	X(PCACHE_E_READ_ONLY, -5015, "cache is open read-only; open it read-write", \
	  "The cache was opened with read_only, or has a feature that this library can only read, or needs recovery " \
	  "that read_only forbids.") \
	X(PCACHE_E_UNALIGNED, -5016, "offset or length is not a multiple of the cache block; align the request", \
	  "Requests are whole cache blocks: 512 or 4096 bytes, see pcache_block_bytes().") \
	X(PCACHE_E_RANGE, -5017, "request ends past the end of the backing; shorten it", \
	  "The request reaches beyond pcache_size(), or its offset and length overflow.") \
	X(PCACHE_E_HAS_CACHE, -5018, "file already holds a pcache cache; use force to format it again", \
	  "pcache_format() was called on a cache without dirty data, and without the option force.") \
	X(PCACHE_E_PLATFORM, -5019, "media granularity is coarser than required; use other media or relax the option", \
	  "The option granularity asks for persistent memory, and the file is not on such, or " \
	  "PMEM2_FORCE_GRANULARITY says so.")

/** Own error codes, from #PCACHE_ERROR_TABLE. */
enum pcache_error {
#define PCACHE_ERROR_ENUM(name, value, text, cause) name = (value),
	PCACHE_ERROR_TABLE(PCACHE_ERROR_ENUM)
#undef PCACHE_ERROR_ENUM
		PCACHE_E_NONE = 0 /**< no error */
};

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Text of an error code: what happened and, for own codes, what to do next.
 *
 * @param err a return value of this library; 0 and positive values give "success".
 * @return a string that stays valid for the life of the program; never NULL. An unknown code gives
 *         "unknown error".
 *
 * Thread-safe, never blocks. Since 0.9.
 */
PCACHE_API const char *pcache_strerror(int err);

/**
 * What leads to an own error code, in a sentence or two; NULL for errno values and unknown codes.
 *
 * @return a string that stays valid for the life of the program. Thread-safe, never blocks. Since 0.9.
 */
PCACHE_API const char *pcache_errcause(int err);

/**
 * Name of an error code, e.g. "PCACHE_E_FULL" or "EIO"; NULL if the code has none.
 *
 * Thread-safe, never blocks. Since 0.9.
 */
PCACHE_API const char *pcache_errname(int err);

#ifdef __cplusplus
}
#endif
#endif
