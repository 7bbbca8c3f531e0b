/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file info.h
 * @brief What a cache is and how it does: a size-stamped snapshot.
 */
#ifndef PCACHE_INFO_H
#define PCACHE_INFO_H

#include <pcache/export.h>

#ifdef __cplusplus
extern "C" {
#endif

struct pcache;

/** Granularity of the media: what a store needs to become durable. */
#define PCACHE_GRANULARITY_BYTE 0u
#define PCACHE_GRANULARITY_CACHE_LINE 1u /**< see #PCACHE_GRANULARITY_BYTE */
#define PCACHE_GRANULARITY_PAGE 2u /**< see #PCACHE_GRANULARITY_BYTE */

/** Bits of pcache_info.state_flags. */
#define PCACHE_STATE_DEGRADED 1u /**< the backing fails, or the log cannot be read; dirty data stays in the cache, write-back retries */
#define PCACHE_STATE_FAILSTOP 2u /**< no store to the media any more; reads are served */
#define PCACHE_STATE_READ_ONLY 4u /**< opened read-only */
#define PCACHE_STATE_GRANULARITY_FORCED 8u /**< the granularity was forced by PMEM2_FORCE_GRANULARITY */
#define PCACHE_STATE_HUGE_PAGES 16u /**< huge pages were asked for and accepted */
#define PCACHE_STATE_CLEAN_CLOSE 32u /**< the cache was closed properly (probe only) */
#define PCACHE_STATE_LIVE 64u /**< filled in from the shared page of the process that holds the cache */
#define PCACHE_STATE_BACKING_URING 128u /**< write-back goes through io_uring and direct I/O */

/** Snapshot of a cache. Set @a struct_bytes before the call; only that many bytes are filled in. */
struct pcache_info {
	uint32_t struct_bytes; /**< sizeof(struct pcache_info) of the program */
	uint32_t state_flags; /**< PCACHE_STATE_* bits */
	uint8_t cache_uuid[16]; /**< drawn at format */
	uint8_t backing_uuid[16]; /**< recorded at format; all zero: none */
	uint64_t media_bytes; /**< size of the cache file or device that is used */
	uint64_t backing_bytes; /**< size of the backing recorded at format */
	uint32_t format_version; /**< version of the media format */
	uint32_t block_bytes; /**< cache block */
	uint32_t segment_bytes; /**< segment size */
	uint32_t granularity; /**< PCACHE_GRANULARITY_* */
	uint32_t commit; /**< #PCACHE_COMMIT_WRITE or #PCACHE_COMMIT_FLUSH in force; probe: #PCACHE_COMMIT_AUTO */
	uint32_t ordering; /**< PCACHE_ORDERING_*: in force, or of the last open */
	uint32_t data_crc; /**< 1: all data carries a CRC */
	uint32_t gc_percent; /**< eviction threshold */
	uint64_t segments; /**< number of segments */
	uint64_t segments_free; /**< segments that hold nothing */
	uint64_t segments_log; /**< segments of the log */
	uint64_t segments_data; /**< segments of data */
	uint64_t dirty_bytes; /**< newest data that is not on the backing yet */
	uint64_t clean_bytes; /**< cached data that is on the backing too */
	uint64_t log_head; /**< next position (a slot number counted from format) */
	uint64_t log_dirty_tail; /**< lowest position whose data may not be on the backing yet */
	uint64_t log_tail; /**< lowest position of the log */
	uint64_t atomic_write_max_bytes; /**< largest atomic write or batch */
	uint64_t extents; /**< cached extents in the index */
	uint64_t read_ops; /**< reads since open */
	uint64_t read_bytes; /**< bytes read since open */
	uint64_t hit_bytes; /**< of these, bytes found in the cache */
	uint64_t miss_bytes; /**< of these, bytes read from the backing */
	uint64_t write_ops; /**< writes since open, batches and zeroes included */
	uint64_t write_bytes; /**< bytes written since open */
	uint64_t flush_ops; /**< flushes since open */
	uint64_t discard_bytes; /**< bytes discarded or zeroed since open */
	uint64_t writeback_bytes; /**< bytes written to the backing since open */
	uint64_t backing_flushes; /**< flushes of the backing since open */
	uint64_t backing_errors; /**< failed backing requests since open */
	uint64_t evicted_segments; /**< segments emptied by eviction since open */
	uint64_t cleaned_segments; /**< log segments freed by cleaning since open */
	uint64_t full_waits; /**< writes that had to wait for space since open */
	uint64_t crc_errors; /**< data CRC mismatches since open */
	uint64_t replica_repairs; /**< metadata copies repaired at open */
	uint64_t media_errors; /**< reads of data or log since open that the media could not answer */
	uint64_t segments_quarantined; /**< segments with damaged media, which get no new data until the cache is closed; what they hold counts above, too */
	uint64_t index_bytes; /**< memory that the index takes for its extents */
	uint64_t stored_bytes; /**< bytes stored to the media since open: data of writes and fills, log (padding included), records, all that cleaning appends again */
};

/**
 * Fills in a snapshot of an open cache.
 *
 * @param info @a struct_bytes says how much of it to fill.
 * @return 0, -EINVAL (NULL, or struct_bytes below 8), #PCACHE_E_FORKED. Counters are read without stopping anyone, so they
 *         may be some operations apart. Does not block on I/O. Since 0.9.
 */
PCACHE_API int pcache_info_get(struct pcache *cache, struct pcache_info *info);

/**
 * Looks at a cache file without opening it and without storing anything. A cache that another process holds open is
 * described from its shared page (option `stats_page`); without one, the call says -EBUSY.
 *
 * @param path path of the cache file or device.
 * @param info as above; the counters since open are 0 unless the cache is live.
 * @return 0, -EINVAL, -EBUSY, -EISDIR, -ENOMEM, #PCACHE_E_NOT_A_CACHE, #PCACHE_E_VERSION, #PCACHE_E_TRUNCATED, #PCACHE_E_CORRUPT, or the errno of open(2) or
 *         read(2).
 *
 * Blocks while it reads the log. Since 0.9.
 */
PCACHE_API int pcache_probe(const char *path, struct pcache_info *info);

#ifdef __cplusplus
}
#endif
#endif
