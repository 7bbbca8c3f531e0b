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
 * The table of own codes: name, value, text (what happened; what to do next).
 * The documentation, pcache_strerror() and the tests are generated from it.
 */
#define PCACHE_ERROR_TABLE(X) \
	X(PCACHE_E_FULL, -5001, "cache is full; let write-back make progress, then try again") \
	X(PCACHE_E_POISONED, -5002, "data of these blocks is lost in the cache media; overwrite the blocks to cure them") \
	X(PCACHE_E_CORRUPT, -5003, "cache metadata is damaged; run `pcache check` on it and keep a copy") \
	X(PCACHE_E_NOT_A_CACHE, -5004, "not a pcache cache; run `pcache format` on it first") \
	X(PCACHE_E_VERSION, -5005, "cache has a format version or feature this library does not know; use a newer library") \
	X(PCACHE_E_TOO_SMALL, -5006, "cache is too small; make it larger") \
	X(PCACHE_E_TRUNCATED, -5007, "cache file is shorter than its superblock says; restore the missing part") \
	X(PCACHE_E_HOLES, -5008, "cache file has holes; fill them with `fallocate -l SIZE FILE`") \
	X(PCACHE_E_WRONG_BACKING, -5009, "backing is not the one this cache was formatted for; give the right one") \
	X(PCACHE_E_BACKING_SIZE, -5010, "backing size differs from the one recorded in the cache; restore its size") \
	X(PCACHE_E_DIRTY, -5011, "cache holds dirty data that is nowhere else; drain it first or force") \
	X(PCACHE_E_TOO_BIG, -5012, "batch is larger than atomic_write_max; split it") \
	X(PCACHE_E_FAILSTOP, -5013, "cache stopped after a failed sync or a broken invariant; close it, check the media, open again") \
	X(PCACHE_E_FORKED, -5014, "handle was inherited through fork; open the cache again in this process") \
	X(PCACHE_E_READ_ONLY, -5015, "cache is open read-only; open it read-write") \
	X(PCACHE_E_UNALIGNED, -5016, "offset or length is not a multiple of the cache block; align the request") \
	X(PCACHE_E_RANGE, -5017, "request ends past the end of the backing; shorten it") \
	X(PCACHE_E_HAS_CACHE, -5018, "file already holds a pcache cache; use force to format it again") \
	X(PCACHE_E_PLATFORM, -5019, "media granularity is coarser than required; use other media or relax the option")

/** Own error codes, from #PCACHE_ERROR_TABLE. */
enum pcache_error {
#define PCACHE_ERROR_ENUM(name, value, text) name = (value),
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
 * Name of an error code, e.g. "PCACHE_E_FULL" or "EIO"; NULL if the code has none.
 *
 * Thread-safe, never blocks. Since 0.9.
 */
PCACHE_API const char *pcache_errname(int err);

#ifdef __cplusplus
}
#endif
#endif
