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
 * The table of options: id, name, kind, default, lowest, highest, unit, when, meaning. All else about options comes from it: ids, setters by number and by text, what
 * pcache_option_describe() says, and docs/OPTIONS.md.
 *
 * Kind U64 is a plain number, BYTES accepts K, M, G and T suffixes (powers of 1024), BOOL accepts on/off, and an ENUM lists its words in order, the value being the
 * index. When: FORMAT, OPEN, both, or LIVE, which is OPEN and pcache_option_set() on an open cache. The default is also the meaning of an option that nobody set.
 */
#define PCACHE_OPTION_TABLE(X) \
	X(PCACHE_OPT_CACHE_BYTES, "cache_bytes", BYTES, 0, 0, UINT64_MAX, "bytes", FORMAT, \
	  "size of the cache file; 0 keeps the size of an existing file or device") \
	X(PCACHE_OPT_BLOCK_BYTES, "block_bytes", BYTES, 512, 512, 4096, "bytes", FORMAT, \
	  "cache block, 512 or 4096; every request is a multiple of it") \
	X(PCACHE_OPT_SEGMENT_BYTES, "segment_bytes", BYTES, 0, 0, 16777216, "bytes", FORMAT, \
	  "segment size, a power of two of at least 4 KiB; 0 takes the largest that gives 64 segments") \
	X(PCACHE_OPT_DATA_CRC, "data_crc", BOOL, 1, 0, 1, "", FORMAT, "keep and verify a CRC32C of all data") \
	X(PCACHE_OPT_FORCE, "force", BOOL, 0, 0, 1, "", FORMAT, "destroy a cache that is there, dirty data included") \
	X(PCACHE_OPT_GC_PERCENT, "gc_percent", U64, 70, 0, 90, "percent", FORMAT_AND_LIVE, \
	  "share of used segments above which clean data is evicted; kept in the cache: format records it, open with " \
	  "a value and pcache_option_set() change it") \
	X(PCACHE_OPT_ORDERING, "ordering", ENUM("strict,batch"), 0, 0, 1, "", FORMAT_AND_OPEN, \
	  "order of write-back: strict keeps the backing crash-consistent at all times, batch at checkpoints and " \
	  "after a drain") \
	X(PCACHE_OPT_COMMIT, "commit", ENUM("auto,write,flush"), 0, 0, 2, "", OPEN, \
	  "when a completed write is durable: on return, or at the next flush; auto takes what the media does best") \
	X(PCACHE_OPT_COMMIT_GUARD, "commit_guard", ENUM("crc,fence"), 0, 0, 1, "", OPEN, \
	  "what tells a torn write after a crash: the data CRC, or a fence of its own between data and log record") \
	X(PCACHE_OPT_READ_CACHE, "read_cache", BOOL, 1, 0, 1, "", LIVE, \
	  "keep data read from the backing in the cache") \
	X(PCACHE_OPT_MAINTENANCE, "maintenance", ENUM("thread,caller"), 0, 0, 1, "", OPEN, \
	  "who runs write-back, eviction and log cleaning: worker threads, or the caller by pcache_maintain()") \
	X(PCACHE_OPT_FULL_POLICY, "full_policy", ENUM("wait,error"), 0, 0, 1, "", LIVE, \
	  "a write that finds the cache full waits for space, or fails with PCACHE_E_FULL") \
	X(PCACHE_OPT_WRITEBACK_DELAY_MS, "writeback_delay_ms", U64, 1000, 0, 3600000, "ms", LIVE, \
	  "time that dirty data may rest before write-back begins when there is no pressure") \
	X(PCACHE_OPT_READ_ONLY, "read_only", BOOL, 0, 0, 1, "", OPEN, \
	  "open without storing anything to the cache or the backing; only after a clean close") \
	X(PCACHE_OPT_STATS_PAGE, "stats_page", BOOL, 0, 0, 1, "", OPEN, \
	  "publish live statistics in the file PATH.stats next to the cache, for `pcache info`") \
	X(PCACHE_OPT_MEDIA_GUARD, "media_guard", BOOL, 0, 0, 1, "", OPEN, \
	  "a SIGBUS of the media where cached data is loaded becomes an error; installs a signal handler") \
	X(PCACHE_OPT_GRANULARITY, "granularity", ENUM("byte,cache_line,page"), 2, 0, 2, "", OPEN, \
	  "coarsest granularity of the media that is accepted; on coarser media open is PCACHE_E_PLATFORM") \
	X(PCACHE_OPT_CREATE, "create", BOOL, 0, 0, 1, "", OPEN, \
	  "a path that does not exist becomes a new cache by the options of format; what exists is never formatted") \
	X(PCACHE_OPT_LATENCY, "latency", BOOL, 0, 0, 1, "", LIVE, \
	  "keep histograms of how long calls take, for pcache_latency_get(); some 40 ns for each call") \
	X(PCACHE_OPT_IO_THREADS, "io_threads", U64, 4, 1, 64, "threads", OPEN, \
	  "most threads for what asynchronous calls have to wait for; each is started when it is first needed") \
	X(PCACHE_OPT_DIRTY_START_PERCENT, "dirty_start_percent", U64, 100, 0, 100, "percent", LIVE, \
	  "share of the segments with dirty data above which write-back does not wait for writeback_delay_ms; 100: " \
	  "none; of the worker threads") \
	X(PCACHE_OPT_DIRTY_LIMIT_PERCENT, "dirty_limit_percent", U64, 100, 1, 100, "percent", LIVE, \
	  "share of the segments that dirty data may fill: a write that finds it reached waits or fails as " \
	  "full_policy says; 100: no limit") \
	X(PCACHE_OPT_DIRTY_AGE_MAX_MS, "dirty_age_max_ms", U64, 0, 0, 86400000, "ms", LIVE, \
	  "age by which dirty data is durable on the backing, as far as that is fast enough; 0: none; of the worker " \
	  "threads") \
	X(PCACHE_OPT_WRITEBACK_RATE, "writeback_rate", BYTES, 0, 0, 1099511627776, "bytes/s", LIVE, \
	  "most that write-back writes where nothing is urgent: not for room, dirty_limit_percent, dirty_age_max_ms " \
	  "or a drain; 0: as much as the backing takes; of the worker threads") \
	X(PCACHE_OPT_MODE, "mode", ENUM("writeback,writeonly,writethrough,writearound,passthrough"), 0, 0, 4, "", LIVE, \
	  "where writes go: to the cache; the same, and reads keep nothing; to both before they return; to the " \
	  "backing; to the backing, with nothing in the cache")

/** Option ids, from #PCACHE_OPTION_TABLE. */
enum pcache_option {
#define PCACHE_OPTION_ENUM(id, name, kind, def, lo, hi, unit, when, doc) id,
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

/**
 * @page modes The option mode
 *
 * Where writes go. Every mode may follow every other while the cache is open and requests run; the change is not kept in the cache.
 *
 * | mode | a write returns when it is | reads that miss | what crashes leave |
 * |---|---|---|---|
 * | `writeback` | in the cache | are kept (option read_cache) | the guarantees as they stand |
 * | `writeonly` | in the cache | are not kept | the same |
 * | `writethrough` | in the cache, and durable on the backing | are kept | the same |
 * | `writearound` | durable on the backing, and not in the cache | are kept | a single write is as atomic as the backing, block by block |
 * | `passthrough` | the same | are not kept | the same; nothing dirty is in the cache, and nothing clean |
 *
 * In the last three a write waits for the backing: with #PCACHE_NOWAIT it is -EAGAIN, and an error of the backing is an error of the call. In `writethrough` the data is then in the cache all the same, durable and dirty,
 * and goes to the backing when that works again. In the other two each block is old or new.
 *
 * Batches, discards and zeroes, and writes of what is dirty in the cache, go through the cache in `writearound` and `passthrough`, too: they are all or nothing, in the cache and on the backing when they return, and an error of the
 * backing means what it means in `writethrough`.
 *
 * `passthrough` drains the cache before the change returns, and so does an open that asks for it; if the backing fails, so does the change (the open), the old mode stays in force and nothing is lost. Lost blocks (#PCACHE_E_POISONED) stay lost
 * until they are written. With ordering `strict` the backing alone is in order in the first three modes, and after a drain in the others.
 */

/** Values of option `mode`, see @ref modes. */
#define PCACHE_MODE_WRITEBACK 0u
#define PCACHE_MODE_WRITEONLY 1u /**< see #PCACHE_MODE_WRITEBACK */
#define PCACHE_MODE_WRITETHROUGH 2u /**< see #PCACHE_MODE_WRITEBACK */
#define PCACHE_MODE_WRITEAROUND 3u /**< see #PCACHE_MODE_WRITEBACK */
#define PCACHE_MODE_PASSTHROUGH 4u /**< see #PCACHE_MODE_WRITEBACK */

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

/**
 * Sets many options by a list "name=value,name=value,...", as front-ends get it on a command line. All or none.
 *
 * @param text       the list; no blanks; may be empty; the last of two values for one option counts.
 * @param out_bad_at offset in @a text of the first pair that was refused, set on -EINVAL and -ENOENT only; may be NULL.
 * @return 0, -EINVAL (NULL config or text; a pair without =, or a text that is no value of its option), -ENOENT (no such option). Nothing is set on failure. Does not
 *         block. Since 0.9.
 */
PCACHE_API int pcache_config_parse(struct pcache_config *config, const char *text, size_t *out_bad_at);

/** Sets the callback for log messages; NULL drops them (the default). @return 0, -EINVAL (NULL config). Since 0.9. */
PCACHE_API int pcache_config_set_log(struct pcache_config *config, pcache_log_fn fn, void *user);

/**
 * Sets the identity of the backing: format records it, open compares it. All zero (the default): take that of the backing.
 *
 * @param uuid 16 bytes; copied. @return 0, -EINVAL (NULL). Does not block. Since 0.9.
 */
PCACHE_API int pcache_config_set_backing_uuid(struct pcache_config *config, const uint8_t *uuid);

/** Kinds of options. */
#define PCACHE_OPTION_U64 0u
#define PCACHE_OPTION_BYTES 1u /**< see #PCACHE_OPTION_U64 */
#define PCACHE_OPTION_BOOL 2u /**< see #PCACHE_OPTION_U64 */
#define PCACHE_OPTION_WORD 3u /**< one of a list of words: ENUM in the table */

/** Bits of pcache_option_info.when: what looks at the option. */
#define PCACHE_OPTION_AT_FORMAT 1u
#define PCACHE_OPTION_AT_OPEN 2u /**< see #PCACHE_OPTION_AT_FORMAT */
#define PCACHE_OPTION_WHILE_OPEN 4u /**< see #PCACHE_OPTION_AT_FORMAT */

/** One option as the table has it. Set @a struct_bytes before the call; only that many bytes are filled in. All strings are constants. */
struct pcache_option_info {
	uint32_t struct_bytes; /**< sizeof(struct pcache_option_info) of the program */
	uint32_t kind; /**< PCACHE_OPTION_U64, BYTES, BOOL or WORD */
	uint32_t when; /**< PCACHE_OPTION_AT_* bits */
	uint32_t reserved; /**< 0 */
	uint64_t default_value; /**< of a new config */
	uint64_t lowest; /**< lowest value */
	uint64_t highest; /**< highest value */
	const char *name; /**< e.g. "gc_percent" */
	const char *unit; /**< "bytes", "percent", "ms", or "" */
	const char *words; /**< of a word: all of them, separated by commas, in the order of their values; else NULL */
	const char *doc; /**< what it does, one line */
};

/**
 * Describes an option; ids run from 0 to #PCACHE_OPT_NR - 1 of the library that is linked, which -ENOENT tells from a newer program's.
 *
 * @return 0, -EINVAL (NULL, or @a struct_bytes below 8), -ENOENT (no such option). Thread-safe, does not block. Since 0.9.
 */
PCACHE_API int pcache_option_describe(int option, struct pcache_option_info *info);

/** Id of the option of this name. @return 0 or more; -EINVAL (NULL), -ENOENT. Thread-safe, does not block. Since 0.9. */
PCACHE_API int pcache_option_find(const char *name);

/**
 * Value out of text, as pcache_config_set_str() takes it.
 *
 * @return 0, -EINVAL (NULL, or no value of this option), -ENOENT (no such option). Thread-safe, does not block. Since 0.9.
 */
PCACHE_API int pcache_option_parse(int option, const char *text, uint64_t *out_value);

/**
 * Text of a value, as pcache_option_parse() takes it: "on", "strict", "70", "4294967296".
 *
 * @param buf       receives the text and a 0; untouched on failure. 32 bytes are enough for every option.
 * @param buf_bytes size of @a buf.
 * @return length of the text; -EINVAL (NULL, or no value of this option), -ENOENT (no such option), -ENOSPC (@a buf is too small). Thread-safe, does not
 *         block. Since 0.9.
 */
PCACHE_API int pcache_option_text(int option, uint64_t value, char *buf, size_t buf_bytes);

struct pcache;

/**
 * Value of an option that is in force on an open cache: what was asked for, or what was recorded at format, or what "auto" came to. `force` and `create` are 0.
 *
 * @return 0, -EINVAL (NULL), -ENOENT (no such option), #PCACHE_E_FORKED. Thread-safe, does not block. Since 0.9.
 */
PCACHE_API int pcache_option_get(const struct pcache *cache, int option, uint64_t *out_value);

/**
 * Changes an option of an open cache, for those marked #PCACHE_OPTION_WHILE_OPEN. Calls that run see the old or the new value; writers that wait for space see the new `full_policy`. See @ref modes for `mode`.
 *
 * `gc_percent` is kept in the cache, and durable on return; after a crash inside it is the old or the new one. The others last until close.
 *
 * @return 0, -EINVAL (NULL, or out of its limits), -ENOENT (no such option), -EPERM (not while open), #PCACHE_E_FORKED; latency also -ENOMEM; mode and gc_percent also #PCACHE_E_READ_ONLY,
 *         #PCACHE_E_FAILSTOP, or the errno of the sync at page granularity (the cache is then fail-stop); mode also -EBUSY (another change of it runs) and the backing's error. On failure the old value stays in force. Thread-safe. gc_percent blocks on the sync, mode on writes around the cache that run and, for `passthrough`, on a drain; the others do not. Since 0.9.
 */
PCACHE_API int pcache_option_set(struct pcache *cache, int option, uint64_t value);

#ifdef __cplusplus
}
#endif
#endif
