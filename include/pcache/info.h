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
#define PCACHE_STATE_DEGRADED \
	1u /**< the backing fails, or the log cannot be read; dirty data stays in the cache, write-back retries */
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
	uint64_t
		segments_quarantined; /**< segments with damaged media, which get no new data until the cache is closed; what they hold counts above, too */
	uint64_t index_bytes; /**< memory that the index takes for its extents */
	uint64_t
		stored_bytes; /**< bytes stored to the media since open: data of writes and fills, log (padding included), records, all that cleaning appends again */
};

/**
 * The table of numbers in a snapshot: member, kind, unit, when it is known, meaning. GAUGE goes up and down, COUNTER only up (since open). ALWAYS is known of a closed cache too, LIVE
 * of an open one alone. pcache_info_render() and docs/STATISTICS.md are made from it.
 */
#define PCACHE_STATISTIC_TABLE(X) \
	X(format_version, GAUGE, "", ALWAYS, "version of the media format") \
	X(media_bytes, GAUGE, "bytes", ALWAYS, "size of the cache file or device that is used") \
	X(backing_bytes, GAUGE, "bytes", ALWAYS, "size of the backing recorded at format") \
	X(block_bytes, GAUGE, "bytes", ALWAYS, "cache block") \
	X(segment_bytes, GAUGE, "bytes", ALWAYS, "segment size") \
	X(gc_percent, GAUGE, "", ALWAYS, "share of used segments above which clean data is evicted") \
	X(segments, GAUGE, "", ALWAYS, "number of segments") \
	X(segments_free, GAUGE, "", ALWAYS, "segments that hold nothing") \
	X(segments_log, GAUGE, "", ALWAYS, "segments of the log") \
	X(segments_data, GAUGE, "", ALWAYS, "segments of data") \
	X(dirty_bytes, GAUGE, "bytes", ALWAYS, "newest data that is not on the backing yet") \
	X(clean_bytes, GAUGE, "bytes", ALWAYS, "cached data that is on the backing too") \
	X(log_head, GAUGE, "", ALWAYS, "next position of the log") \
	X(log_dirty_tail, GAUGE, "", ALWAYS, "lowest position whose data may not be on the backing yet") \
	X(log_tail, GAUGE, "", ALWAYS, "lowest position of the log") \
	X(atomic_write_max_bytes, GAUGE, "bytes", LIVE, "largest atomic write or batch") \
	X(extents, GAUGE, "", LIVE, "cached extents in the index") \
	X(index_bytes, GAUGE, "bytes", LIVE, "memory that the index takes for its extents") \
	X(segments_quarantined, GAUGE, "", LIVE, \
	  "segments with damaged media, which get no new data until the cache is closed") \
	X(read_ops, COUNTER, "", LIVE, "reads") \
	X(read_bytes, COUNTER, "bytes", LIVE, "bytes read") \
	X(hit_bytes, COUNTER, "bytes", LIVE, "of these, bytes found in the cache") \
	X(miss_bytes, COUNTER, "bytes", LIVE, "of these, bytes read from the backing") \
	X(write_ops, COUNTER, "", LIVE, "writes, batches and zeroes included") \
	X(write_bytes, COUNTER, "bytes", LIVE, "bytes written") \
	X(flush_ops, COUNTER, "", LIVE, "flushes") \
	X(discard_bytes, COUNTER, "bytes", LIVE, "bytes discarded or zeroed") \
	X(stored_bytes, COUNTER, "bytes", LIVE, "bytes stored to the media, log and records included") \
	X(writeback_bytes, COUNTER, "bytes", LIVE, "bytes written to the backing") \
	X(backing_flushes, COUNTER, "", LIVE, "flushes of the backing") \
	X(backing_errors, COUNTER, "", LIVE, "failed backing requests") \
	X(evicted_segments, COUNTER, "", LIVE, "segments emptied by eviction") \
	X(cleaned_segments, COUNTER, "", LIVE, "log segments freed by cleaning") \
	X(full_waits, COUNTER, "", LIVE, "writes that had to wait for space") \
	X(crc_errors, COUNTER, "", LIVE, "data CRC mismatches") \
	X(replica_repairs, COUNTER, "", LIVE, "metadata copies repaired at open") \
	X(media_errors, COUNTER, "", LIVE, "reads of data or log that the media could not answer")

/** Forms of pcache_info_render(). */
#define PCACHE_RENDER_TEXT 0u /**< a line for each value, for people; bytes also in KiB, MiB, ... */
#define PCACHE_RENDER_JSON 1u /**< one object in one line, without a newline; what is not known is null */
#define PCACHE_RENDER_OPENMETRICS \
	2u /**< OpenMetrics 1.0 (Prometheus), label cache="UUID", ends with # EOF; what is not known is left out */

/**
 * Renders a snapshot as text. A pure function of @a info.
 *
 * @param info      from pcache_info_get() or pcache_probe(); what lies beyond its @a struct_bytes counts as 0.
 * @param form      PCACHE_RENDER_*.
 * @param buf       receives the text and a 0, cut at @a buf_bytes; NULL if @a buf_bytes is 0. 16 KiB are enough for every form.
 * @param buf_bytes size of @a buf.
 * @return length of the whole text without the 0, whether it fit or not; -EINVAL (NULL info, @a struct_bytes below 8, unknown form, NULL buf with a size).
 *         Thread-safe, does not block. Since 0.9.
 */
PCACHE_API int pcache_info_render(const struct pcache_info *info, uint32_t form, char *buf, size_t buf_bytes);

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

/** Kinds of calls that latencies are kept of. */
#define PCACHE_LATENCY_READ 0u /**< pcache_read() and pcache_readv() */
#define PCACHE_LATENCY_WRITE 1u /**< pcache_write() and pcache_writev() */
#define PCACHE_LATENCY_BATCH 2u /**< pcache_write_batch() */
#define PCACHE_LATENCY_FLUSH 3u /**< pcache_flush() */
#define PCACHE_LATENCY_ZERO 4u /**< pcache_discard() and pcache_write_zeroes() */
#define PCACHE_LATENCY_NR 5u /**< number of kinds */

/** Buckets of a histogram: one for each ns below 8, then eight for each power of two, so that a bucket is at most an eighth wide; the last takes all from 34 minutes on. */
#define PCACHE_LATENCY_BUCKET_NR 312u

/** How long the calls of a kind took that returned 0, since the option `latency` was first switched on. Set @a struct_bytes before the call. */
struct pcache_latency {
	uint32_t struct_bytes; /**< sizeof(struct pcache_latency) of the program */
	uint32_t bucket_nr; /**< members of @a buckets that are filled in */
	uint64_t count; /**< calls */
	uint64_t sum_ns; /**< of all of them */
	uint64_t max_ns; /**< the longest */
	uint64_t buckets[PCACHE_LATENCY_BUCKET_NR]; /**< calls by duration, see pcache_latency_bucket_ns() */
};

/**
 * Fills in the histogram of a kind of calls. All zero while option `latency` was never on: two looks at the clock, some 40 ns for each call, are what it costs.
 *
 * @param kind    PCACHE_LATENCY_*.
 * @param latency @a struct_bytes says how much of it to fill.
 * @return 0, -EINVAL (NULL, unknown kind, or struct_bytes below 8), #PCACHE_E_FORKED. Nobody is stopped meanwhile, so that the newest calls may be there in part.
 *         Thread-safe, does not block. Since 0.9.
 */
PCACHE_API int pcache_latency_get(struct pcache *cache, uint32_t kind, struct pcache_latency *latency);

/** Longest duration in ns that bucket @a idx counts; UINT64_MAX for the last one and beyond. Pure function. Since 0.9. */
PCACHE_API uint64_t pcache_latency_bucket_ns(uint32_t idx);

/**
 * A duration that a share of the calls did not exceed, e.g. 0.99: the longest of its bucket, so at most an eighth too much, and never more than @a max_ns.
 *
 * @return ns; 0 without calls, without @a latency, or for a @a share that is not above 0. Pure function. Since 0.9.
 */
PCACHE_API uint64_t pcache_latency_quantile_ns(const struct pcache_latency *latency, double share);

/**
 * Renders histograms as text. A pure function.
 *
 * @param by_kind   #PCACHE_LATENCY_NR histograms of this program's size, in the order of the kinds.
 * @param info      whose UUID becomes the label of OpenMetrics; NULL: no label.
 * @param form      PCACHE_RENDER_*: a line for each kind with count, mean, p50, p99, p99.9 and longest; the same as one JSON object; or an OpenMetrics histogram in
 *                  seconds with a bucket for each power of two, without # EOF, so that it can stand before what pcache_info_render() gives.
 * @param buf       receives the text and a 0, cut at @a buf_bytes; NULL if @a buf_bytes is 0. 32 KiB are enough for every form.
 * @param buf_bytes size of @a buf.
 * @return length of the whole text without the 0; -EINVAL (NULL histograms, struct_bytes other than this program's, unknown form, NULL buf with a size). Since 0.9.
 */
PCACHE_API int pcache_latency_render(const struct pcache_latency *by_kind, const struct pcache_info *info,
				     uint32_t form, char *buf, size_t buf_bytes);

#ifdef __cplusplus
}
#endif
#endif
