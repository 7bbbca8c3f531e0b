/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file config.h
 * @brief Options for formatting and opening a cache: an opaque object with one table of named options.
 */
#ifndef PCACHE_CONFIG_H
#define PCACHE_CONFIG_H

#include <pcache/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Opaque: a set of options. */
struct pcache_config;

/**
 * The table of options: id, name, kind, default, lowest, highest, unit, meaning.
 * Kind U64 is a plain number, BYTES accepts K, M, G and T suffixes (powers of 1024), BOOL accepts on/off, and an ENUM lists its
 * words in order, the value being the index.
 */
#define PCACHE_OPTION_TABLE(X) \
	X(PCACHE_OPT_CACHE_BYTES, "cache_bytes", BYTES, 0, 0, UINT64_MAX, "bytes", \
	  "format: size of the cache file; 0 keeps the size of an existing file or device") \
	X(PCACHE_OPT_BLOCK_BYTES, "block_bytes", BYTES, 512, 512, 4096, "bytes", \
	  "format: cache block, 512 or 4096; every request is a multiple of it") \
	X(PCACHE_OPT_SEGMENT_BYTES, "segment_bytes", BYTES, 0, 0, 16777216, "bytes", \
	  "format: segment size, a power of two of at least 4 KiB; 0 takes the largest that gives 64 segments") \
	X(PCACHE_OPT_DATA_CRC, "data_crc", BOOL, 1, 0, 1, "", "format: keep and verify a CRC32C of all data") \
	X(PCACHE_OPT_FORCE, "force", BOOL, 0, 0, 1, "", "format: destroy a cache that is there, dirty data included") \
	X(PCACHE_OPT_GC_PERCENT, "gc_percent", U64, 70, 0, 90, "percent", \
	  "share of used segments above which clean data is evicted; format records it, open with a value changes it") \
	X(PCACHE_OPT_ORDERING, "ordering", ENUM("strict,batch"), 0, 0, 1, "", \
	  "order of write-back: strict keeps the backing crash-consistent at all times, batch at checkpoints and after a drain") \
	X(PCACHE_OPT_COMMIT, "commit", ENUM("auto,write,flush"), 0, 0, 2, "", \
	  "when a completed write is durable: on return, or at the next flush; auto takes what the media does best") \
	X(PCACHE_OPT_COMMIT_GUARD, "commit_guard", ENUM("crc,fence"), 0, 0, 1, "", \
	  "what tells a torn write after a crash: the data CRC, or a fence of its own between data and log record") \
	X(PCACHE_OPT_READ_CACHE, "read_cache", BOOL, 1, 0, 1, "", "keep data read from the backing in the cache") \
	X(PCACHE_OPT_MAINTENANCE, "maintenance", ENUM("thread,caller"), 0, 0, 1, "", \
	  "who runs write-back, eviction and log cleaning: worker threads, or the caller by pcache_maintain()") \
	X(PCACHE_OPT_FULL_POLICY, "full_policy", ENUM("wait,error"), 0, 0, 1, "", \
	  "a write that finds the cache full waits for space, or fails with PCACHE_E_FULL") \
	X(PCACHE_OPT_WRITEBACK_DELAY_MS, "writeback_delay_ms", U64, 1000, 0, 3600000, "ms", \
	  "time that dirty data may rest before write-back begins when there is no pressure") \
	X(PCACHE_OPT_READ_ONLY, "read_only", BOOL, 0, 0, 1, "", \
	  "open without storing anything to the cache or the backing; only after a clean close") \
	X(PCACHE_OPT_STATS_PAGE, "stats_page", BOOL, 0, 0, 1, "", \
	  "publish live statistics in the file PATH.stats next to the cache, for `pcache info`") \
	X(PCACHE_OPT_MEDIA_GUARD, "media_guard", BOOL, 0, 0, 1, "", \
	  "open: a SIGBUS of the media where cached data is loaded becomes an error; installs a signal handler")

/** Option ids, from #PCACHE_OPTION_TABLE. */
enum pcache_option {
#define PCACHE_OPTION_ENUM(id, name, kind, def, lo, hi, unit, doc) id,
	PCACHE_OPTION_TABLE(PCACHE_OPTION_ENUM)
#undef PCACHE_OPTION_ENUM
	PCACHE_OPT_NR /**< number of options */
};

/**
 * @page media_guard The option media_guard
 *
 * A load from damaged persistent memory, or from a part of the cache file that was cut off, is a SIGBUS, and by default ends the process. What was acknowledged
 * survives that: open the cache again. With `media_guard=on` pcache_open() makes such a load an error of the call: clean data is read from the backing instead,
 * dirty data is #PCACHE_E_POISONED. Off by default, because it installs a signal handler:
 *
 * - one handler of SIGBUS for the process, with SA_SIGINFO and SA_ONSTACK, when the first such cache is opened; when the last one is closed, the disposition from before
 *   comes back, unless somebody has installed another one meanwhile;
 * - it takes only loads of cached data by this library. Any other SIGBUS goes to the disposition that was there before: another handler is called as the kernel would
 *   call it, the default action ends the process;
 * - who installs a handler of SIGBUS later must call the one that was there for what is not his own, and must not put that one back while a guarded cache is open;
 * - SIGBUS must not be blocked in a thread that calls the library: the kernel ends a process whose thread faults with the signal blocked. The worker threads of the library unblock it
 *   for themselves. No other signal and no signal mask of the caller is changed;
 * - the library must not be unloaded (dlclose) while its handler is installed.
 *
 * The guard covers loads. A store to media that is gone or cannot be mapped is still a SIGBUS, as is everything else that touches the mapping. Caches opened without the
 * option are not covered, also if another one in the process is. Metadata and the log are read by system calls in either case, so damage there is an error and
 * never a signal. The cost for each call is not measurable.
 */

/** Values of option `ordering`. */
#define PCACHE_ORDERING_STRICT 0u
#define PCACHE_ORDERING_BATCH 1u /**< see #PCACHE_ORDERING_STRICT */
/** Values of option `commit`. */
#define PCACHE_COMMIT_AUTO 0u
#define PCACHE_COMMIT_WRITE 1u /**< see #PCACHE_COMMIT_AUTO */
#define PCACHE_COMMIT_FLUSH 2u /**< see #PCACHE_COMMIT_AUTO */
/** Values of option `maintenance`. */
#define PCACHE_MAINTENANCE_THREAD 0u
#define PCACHE_MAINTENANCE_CALLER 1u /**< see #PCACHE_MAINTENANCE_THREAD */

/** Severities of log messages. */
#define PCACHE_LOG_ERROR 0
#define PCACHE_LOG_WARN 1 /**< see #PCACHE_LOG_ERROR */
#define PCACHE_LOG_INFO 2 /**< see #PCACHE_LOG_ERROR */

/**
 * Log callback: @a text is one line without a newline, valid during the call. May come from any thread, never
 * under a lock that a call on the cache could need.
 */
typedef void (*pcache_log_fn)(void *user, int severity, const char *text);

/**
 * Makes a config with every option at its default.
 *
 * @param out_config the new config; free it with pcache_config_free().
 * @return 0, -EINVAL (NULL), -ENOMEM. Does not block. Since 0.9.
 */
PCACHE_API int pcache_config_new(struct pcache_config **out_config);

/** Frees a config; NULL does nothing. Caches opened with it are not affected. Since 0.9. */
PCACHE_API void pcache_config_free(struct pcache_config *config);

/**
 * Sets one option by number.
 *
 * @param option one of enum pcache_option (an int, so that the ABI does not depend on the enum).
 * @return 0, -EINVAL (NULL config, value out of its limits), -ENOENT (no such option). Does not block. Since 0.9.
 */
PCACHE_API int pcache_config_set(struct pcache_config *config, int option, uint64_t value);

/** Reads one option. @return 0, -EINVAL (NULL), -ENOENT (no such option). Does not block. Since 0.9. */
PCACHE_API int pcache_config_get(const struct pcache_config *config, int option, uint64_t *out_value);

/**
 * Sets one option by name and text, e.g. ("gc_percent", "50"), ("cache_bytes", "4G"), ("data_crc", "off").
 *
 * @return 0, -EINVAL (NULL, or a text that is no value of this option), -ENOENT (no such option). Does not block. Since 0.9.
 */
PCACHE_API int pcache_config_set_str(struct pcache_config *config, const char *name, const char *value);

/** Sets the callback for log messages; NULL drops them (the default). @return 0, -EINVAL (NULL config). Since 0.9. */
PCACHE_API int pcache_config_set_log(struct pcache_config *config, pcache_log_fn fn, void *user);

/**
 * Sets the identity of the backing: format records it, open compares it. All zero (the default): take that of the backing.
 *
 * @param uuid 16 bytes; copied. @return 0, -EINVAL (NULL). Does not block. Since 0.9.
 */
PCACHE_API int pcache_config_set_backing_uuid(struct pcache_config *config, const uint8_t *uuid);

#ifdef __cplusplus
}
#endif
#endif
