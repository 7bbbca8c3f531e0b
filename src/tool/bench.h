/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache bench: what its files share.
 *
 *   cmd_bench.c     arguments, one job after the other
 *   bench_print.c   results as text with bars, and as JSON
 *   bench_place.c   where the files lie: a cache, the file of the limit and the backing, all without a name as soon as they are open
 *   bench_run.c     threads, slices that alternate between the job and its limit, medians
 *   bench_ops.c     what one operation of each job is, and which place is next
 *   bench_rounds.c  drain and open: rounds that alternate with their limit
 *   bench_writer.c  the limit of a drain
 *   bench_limit.c   the limit: the bytes, fences and syncs of the job and nothing else
 *   bench_kernel.c  copies and CRCs as fast as the processor can
 *   bench_hist.c    a histogram of latencies
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
	BENCH_BATCH,
	BENCH_MISS,
	BENCH_DRAIN,
	BENCH_OPEN,
	BENCH_JOB_NR
};
extern const char *const bench_job_names[BENCH_JOB_NR + 1];

#define BENCH_MIXED_WRITE_PERCENT 30u
#define BENCH_BATCH_NR 16u /* blocks of one batch */
#define BENCH_THREADS_MAX 256u
#define BENCH_CHUNK_BYTES ((size_t)4096) /* data that has one CRC */

enum bench_writeback { BENCH_WRITEBACK_ON, BENCH_WRITEBACK_OFF, BENCH_WRITEBACK_FLAT };

struct bench_args {
	unsigned int jobs; /* bit per enum bench_job */
	uint64_t block_len; /* of one operation */
	uint32_t threads;
	uint32_t flush_every; /* writeflush: writes per flush */
	double seconds; /* per job, warm-up not counted */
	uint64_t size_bytes; /* working set; 0: choose */
	uint64_t spread_bytes; /* logical space over which it is spread; 0: its own size */
	uint64_t cache_bytes; /* 0: choose */
	const char *cache_path; /* NULL: choose */
	const char *backing_path; /* NULL: one that does nothing, or for jobs that need one a scratch file */
	bool force; /* a backing that holds data may be overwritten */
	enum bench_writeback writeback;
	bool lap; /* jobs that write go once through the whole cache before they are measured */
	bool fill; /* miss: what was read is kept */
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

/* ---- bench_kernel.c ---------------------------------------------------------------------------------------------- */

/* Where kernels are tried: a mapping, a buffer, and the length of an operation. */
struct bench_trial {
	uint8_t *map;
	uint64_t map_bytes;
	uint8_t *buf; /* of len bytes; is overwritten */
	size_t len;
};
/* Takes the fastest kernels on this processor. */
void bench_kernel_init(const struct bench_trial *whole);
const char *bench_kernel_copy_name(void);
const char *bench_kernel_store_name(void);
const char *bench_kernel_load_name(void);
/* False: this processor has no instruction for it, a limit with a CRC cannot be taken. */
bool bench_kernel_has_crc(void);
/* Past the CPU caches; durable after the fence. to is aligned to 64 bytes, len a multiple of 64. */
void bench_kernel_copy(uint8_t *to, const uint8_t *from, size_t len);
/* The same, and a CRC of each chunk, which are combined to something that depends on all of them; len is a multiple of 512. */
uint32_t bench_kernel_store_crc(uint8_t *to, const uint8_t *from, size_t len);
/* The same out of the mapping, to memory that stays in the CPU caches. */
uint32_t bench_kernel_load_crc(uint8_t *to, const uint8_t *from, size_t len);
void bench_fence(void);

/* ---- bench_limit.c ----------------------------------------------------------------------------------------------- */

/* A thread's part of the mapping that the limit copies to and from. */
struct bench_limit {
	uint8_t *map; /* data, shared by all threads for reads */
	uint64_t map_bytes;
	uint64_t begin, end, cursor; /* data that this thread writes, one place after the other */
	uint8_t *slots; /* of this thread */
	uint32_t slot_idx;
	int fd; /* of the mapping */
	int backing_fd; /* miss: the file that is read */
	bool fence_each; /* a fence after each write */
	bool sync_each; /* page granularity: msync after each write */
	bool pwrite_each; /* page granularity: pwrite and fdatasync instead */
	bool page; /* page granularity: plain copies, in place */
};
#define BENCH_SLOT_NR 16384u /* slots per thread, used in a ring */
#define BENCH_SLOT_BYTES 64u
/* off is the place of the job; only page granularity uses it, elsewhere the place is the next one, as in a log. 0 or -errno. */
int bench_limit_write(struct bench_limit *limit, uint64_t off, const uint8_t *buf, size_t len, bool crc);
int bench_limit_batch(struct bench_limit *limit, const uint64_t *offs, const uint8_t *buf, size_t len, bool crc);
void bench_limit_read(struct bench_limit *limit, uint64_t off, uint8_t *buf, size_t len, bool crc);
int bench_limit_pread(struct bench_limit *limit, uint64_t off, uint8_t *buf, size_t len);
/* Reads len bytes of the mapping once, round and round if it is shorter, as fast as one thread can. */
void bench_limit_scan(struct bench_limit *limit, uint64_t len);

/* ---- bench_writer.c ---------------------------------------------------------------------------------------------- */

/* Blocks to write to a file, sorted. */
struct bench_writer {
	int fd;
	const uint8_t *map; /* where the bytes come from */
	uint64_t map_bytes;
	const uint64_t *offs; /* ascending, without doubles */
	uint64_t off_nr;
	uint64_t len; /* of one block */
	struct bench_ring *ring; /* NULL: requests are written one after the other */
};
/* The rest is filled in. map_bytes may become smaller. */
void bench_writer_init(struct bench_writer *writer);
void bench_writer_fini(struct bench_writer *writer);
/* direct: past the page cache. 0 or -errno. */
int bench_writer_run(const struct bench_writer *writer, bool direct);

/* ---- bench_place.c ----------------------------------------------------------------------------------------------- */

struct bench_place {
	char *cache_path; /* NULL once its name is removed */
	char *limit_path;
	char *backing_path; /* of a scratch file; NULL once its name is removed, or without one */
	uint64_t cache_bytes;
	uint64_t size_bytes;
	uint64_t spread_bytes;
	const char *text; /* what the place is, for the reader of the result */
	uint8_t *limit_map;
	uint64_t limit_bytes; /* of the mapping: data, then slots */
	uint64_t limit_data_bytes;
	int limit_fd;
	int cache_fd; /* for opening the cache again when its name is gone, and for finding its mapping */
	int backing_fd; /* the backing for the limit's own use; -1: none */
	double cache_huge_percent; /* of what is mapped */
	double limit_huge_percent;
	struct pcache *cache;
	struct pcache_info info; /* as opened */
};
/* Chooses the place and the sizes, formats and opens the cache, maps the limit. TOOL_OK or an exit code after a message. */
int bench_place_open(struct bench_place *place, const struct bench_args *args);
/* Closes the cache, if it is open, and opens it again. *out_ns is the time of the open alone. 0 or the error of the library. */
int bench_place_reopen(struct bench_place *place, const struct bench_args *args, uint64_t *out_ns);
/* Closes and removes everything; TOOL_OK or TOOL_FAILED. */
int bench_place_close(struct bench_place *place);
/* Asks for the pages of a mapping of the file now, so that no measured operation is the first to touch one, and returns the percentage of huge ones. */
double bench_place_populate(int fd);
/* Jobs that are nothing without a real backing. */
bool bench_job_wants_backing(unsigned int jobs);

/* ---- results ------------------------------------------------------------------------------------------------------ */

struct bench_spread {
	double median, min, max;
};
struct bench_spread bench_spread_of(double *values, uint32_t value_nr); /* sorts; all zero without values */

struct bench_result {
	enum bench_job job;
	uint32_t threads;
	uint64_t op_bytes; /* of one operation */
	struct bench_spread own; /* ns per operation of one thread */
	struct bench_spread limit; /* the faster of the two below */
	struct bench_spread limit_copy; /* without a CRC */
	struct bench_spread limit_crc; /* with one; median 0: not taken */
	struct bench_spread ratio; /* limit to own, round by round; the median is that of the medians */
	struct bench_spread flush_adds; /* writeflush: ns by which a flush makes an operation longer */
	double iops; /* of all threads together */
	double hit_percent; /* of bytes read; 100 without reads */
	double cpu_ns_per_op; /* of all threads of the process, those of the library too */
	double dram_bytes_per_extent;
	double media_bytes_per_byte; /* 0: nothing was written */
	double busy_percent; /* of the job's slices: background work was done in them */
	uint64_t extents;
	uint32_t sample_every; /* one in so many operations was timed for the latencies */
	struct bench_hist hist;
	uint32_t slice_nr;
	const char *limit_text;
};

struct bench_run {
	struct bench_place *place;
	const struct bench_args *args;
	struct tool_progress *progress;
	struct bench_result *result;
};

/* Background work that was done so far: changes when some was done. */
uint64_t bench_background_sum(const struct pcache_info *info);
/* Fills in what the library counted between two snapshots. */
void bench_fill_counted(struct bench_result *result, const struct pcache_info *before, const struct pcache_info *after);
uint64_t bench_cpu_ns(void); /* of the process */

/* ---- bench_ops.c ------------------------------------------------------------------------------------------------- */

enum bench_phase {
	BENCH_PHASE_OWN,
	BENCH_PHASE_COPY,
	BENCH_PHASE_CRC,
	BENCH_PHASE_PLAIN, /* writeflush: writes without their flush */
	BENCH_PHASE_NR,
	BENCH_PHASE_STOP = BENCH_PHASE_NR
};

/* One thread's stream of operations. */
struct bench_stream {
	const struct bench_place *place;
	const struct bench_args *args;
	enum bench_job job;
	uint64_t key_nr; /* blocks of the working set */
	uint64_t stride; /* of these, how far they lie apart */
	uint64_t random;
	uint64_t cursor; /* next block of sequential jobs */
	uint32_t unflushed; /* writes since the last flush */
	uint8_t *buf; /* of op_bytes, or of the warm-up */
	struct bench_limit limit;
	int err; /* the first */
};
uint64_t bench_op_bytes(enum bench_job job, const struct bench_args *args);
/* idx: which of all threads. buf must be set. */
void bench_stream_init(struct bench_stream *stream, const struct bench_place *place, const struct bench_args *args,
		       enum bench_job job, uint32_t idx);
uint64_t bench_stream_random(struct bench_stream *stream);
/* Place of a key of the working set. */
uint64_t bench_stream_off(const struct bench_stream *stream, uint64_t key_idx);
/* The idx-th of all keys in an order that is as good as random, and shows each once. */
uint64_t bench_stream_shuffled(const struct bench_stream *stream, uint64_t idx);
/* One operation of the job, its limit, or what else is compared. */
void bench_stream_op(struct bench_stream *stream, enum bench_phase phase);
/* Writes the working set once, each block by itself, random jobs in a random order; stops early on an error. 0 or the error of the library. */
int bench_stream_fill(struct bench_stream *stream, struct tool_progress *progress);
bool bench_job_writes(enum bench_job job);
bool bench_job_is_random(enum bench_job job);
const char *bench_limit_text(const struct bench_stream *stream);

/* ---- bench_run.c, bench_rounds.c ----------------------------------------------------------------------------------- */

/* 0 or the error of the library. */
int bench_run_slices(struct bench_run *run, enum bench_job job);
int bench_run_drain(struct bench_run *run);
int bench_run_open(struct bench_run *run);

/* ---- bench_print.c ------------------------------------------------------------------------------------------------- */

double bench_ratio(const struct bench_result *result);
void bench_print_place(const struct bench_args *args, const struct bench_place *place);
void bench_print_text(const struct bench_args *args, const struct bench_result *result);
void bench_print_json(const struct bench_args *args, const struct bench_result *result, bool first);
void bench_print_json_place(const struct bench_args *args, const struct bench_place *place);
/* Ratios of all jobs side by side. */
struct bench_line {
	enum bench_job job;
	struct bench_spread ratio;
};
void bench_print_chart(const struct bench_line *lines, uint32_t line_nr);

#endif
