/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache bench: what its files share.
 *
 *   cmd_bench.c    arguments, one job after the other, output
 *   bench_place.c  where the files lie: a cache and the file of the limit, both without a name as soon as they are open
 *   bench_run.c    threads, slices that alternate between the job and its limit, medians
 *   bench_limit.c  the limit: bare copies, as fast as the processor can, with the bytes and fences of the job and nothing else
 *   bench_hist.c   a histogram of latencies
 */
#ifndef PC_TOOL_BENCH_H
#define PC_TOOL_BENCH_H

#include "tool/tool.h"

enum bench_job {
	BENCH_RANDWRITE,
	BENCH_SEQWRITE,
	BENCH_RANDREAD,
	BENCH_SEQREAD,
	BENCH_MIXED,
	BENCH_WRITEFLUSH,
	BENCH_JOB_NR
};
extern const char *const bench_job_names[BENCH_JOB_NR + 1];

#define BENCH_MIXED_WRITE_PERCENT 30u
#define BENCH_THREADS_MAX 256u

struct bench_args {
	unsigned int jobs; /* bit per enum bench_job */
	uint64_t block_len; /* of one operation */
	uint32_t threads;
	double seconds; /* per job, warm-up not counted */
	uint64_t size_bytes; /* working set; 0: choose */
	uint64_t cache_bytes; /* 0: choose */
	const char *cache_path; /* NULL: choose */
	const char *backing_path; /* NULL: a backing that does nothing */
	bool force; /* a backing that holds data may be overwritten */
	bool writeback;
	bool data_crc;
	bool json;
	struct pcache_config *config;
};

/* ---- bench_hist.c ------------------------------------------------------------------------------------------------ */

/* Exact below 64 ns, else 64 steps per power of two: within 1.6 %. */
#define BENCH_HIST_STEPS 64u
#define BENCH_HIST_NR (BENCH_HIST_STEPS * 59u)
struct bench_hist {
	uint64_t counts[BENCH_HIST_NR];
	uint64_t nr;
	uint64_t max_ns;
};
void bench_hist_add(struct bench_hist *hist, uint64_t ns);
void bench_hist_merge(struct bench_hist *to, const struct bench_hist *from);
/* Latency that permille / 1000 of all samples do not exceed; 0 without samples. */
uint64_t bench_hist_quantile(const struct bench_hist *hist, unsigned int permille);

/* ---- bench_limit.c ----------------------------------------------------------------------------------------------- */

/* A thread's part of the mapping that the limit copies to and from. */
struct bench_limit {
	uint8_t *map; /* size_bytes of data, then slots */
	uint8_t *slots; /* of this thread */
	uint32_t slot_idx;
	int fd;
	bool fence_each; /* a fence after each write */
	bool sync_each; /* page granularity: fdatasync after each write */
	bool page; /* page granularity: plain copies */
};
#define BENCH_SLOT_NR 16384u /* slots per thread, used in a ring */
/* Chooses the fastest way to copy on this processor; buf and place are scratch of len bytes. Returns its name. */
const char *bench_limit_init(uint8_t *place, const uint8_t *buf, size_t len);
/* False: this processor has no instruction for it, the limit with a CRC cannot be taken. */
bool bench_limit_has_crc(void);
void bench_limit_write(struct bench_limit *limit, uint64_t off, const uint8_t *buf, size_t len, bool crc);
void bench_limit_read(struct bench_limit *limit, uint64_t off, uint8_t *buf, size_t len, bool crc);

/* ---- bench_place.c ----------------------------------------------------------------------------------------------- */

struct bench_place {
	char *cache_path; /* NULL once its name is removed */
	char *limit_path;
	uint64_t cache_bytes;
	uint64_t size_bytes;
	const char *text; /* what the place is, for the reader of the result */
	uint8_t *limit_map;
	uint64_t limit_bytes;
	int limit_fd;
	struct pcache *cache;
	struct pcache_info info; /* as opened */
};
/* Chooses the place and the sizes, formats and opens the cache, maps the limit. TOOL_OK or an exit code after a message. */
int bench_place_open(struct bench_place *place, const struct bench_args *args);
/* Closes and removes everything; TOOL_OK or TOOL_FAILED. */
int bench_place_close(struct bench_place *place);

/* ---- bench_run.c ------------------------------------------------------------------------------------------------- */

struct bench_spread {
	double median, min, max; /* ns per operation of one thread */
};

struct bench_result {
	enum bench_job job;
	struct bench_spread own;
	struct bench_spread limit; /* the faster of the two below */
	struct bench_spread limit_copy; /* without a CRC */
	struct bench_spread limit_crc; /* with one; median 0: not taken */
	double iops; /* of all threads together */
	double hit_percent; /* of bytes read; 100 without reads */
	struct bench_hist hist;
	uint32_t slice_nr;
};
/* 0 or the error of the library. */
int bench_run(struct bench_place *place, const struct bench_args *args, enum bench_job job,
	      struct tool_progress *progress, struct bench_result *out_result);

#endif
