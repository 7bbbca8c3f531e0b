/* SPDX-License-Identifier: BSD-3-Clause */
/* pcache-bench-full: its parts. See main_bench_full.c. */
#ifndef PC_TESTS_BENCH_FULL_H
#define PC_TESTS_BENCH_FULL_H

#include <stdbool.h>
#include <stdint.h>

#include "pcache/pcache.h"

#define FULL_HIST_STEPS 64u
#define FULL_HIST_NR (FULL_HIST_STEPS * 60u)

/* Latencies in buckets of at most 1.6 % of the latency. */
struct full_hist {
	uint64_t counts[FULL_HIST_NR];
	uint64_t nr;
	uint64_t max_ns;
};
void full_hist_add(struct full_hist *hist, uint64_t ns);
void full_hist_merge(struct full_hist *to, const struct full_hist *from);
uint64_t full_hist_quantile(const struct full_hist *hist, uint32_t permille);

uint64_t full_now_ns(void); /* monotonic */
uint64_t full_random(uint64_t *state);
_Noreturn void full_die(const char *what, int rc);

/*
 * A backing in memory with a token bucket: each request costs the longer of its bytes at rate_bytes and one of iops, and the bucket holds what the device does in depth_ns. A request that the
 * bucket has no token for sleeps until it has. The bucket fills while nobody asks, but no further than its depth. rate_bytes = iops = 0: as fast as memory.
 */
struct full_backing_options {
	uint64_t size_bytes;
	uint64_t rate_bytes; /* per second */
	uint64_t iops;
	uint64_t flush_ns; /* a flush takes as long */
	uint64_t depth_ns;
};
struct full_backing;
struct full_backing *full_backing_new(const struct full_backing_options *options);
void full_backing_free(struct full_backing *fb);
struct pcache_backing *full_backing_attach(struct full_backing *fb); /* for one open */
void full_backing_limit(struct full_backing *fb, bool on); /* off: as fast as memory, whatever the options */
struct full_backing_counters {
	uint64_t write_bytes, write_ops, flush_ops;
};
struct full_backing_counters full_backing_count(struct full_backing *fb);
/* What it can write in a second, in requests of io_bytes. 0: no limit. */
uint64_t full_backing_allows(const struct full_backing_options *options, uint64_t io_bytes);

struct full_options {
	const char *path;
	uint64_t cache_bytes, ws_bytes, segment_bytes;
	struct full_backing_options backing;
	uint32_t ordering, thread_nr, flush_every;
	uint32_t pace_us; /* pause of the foreground between two writes */
	uint64_t seconds_ms, warm_ms;
	uint64_t seed;
	bool json;
};

/* ---- full_load.c: threads that write, and what they met ----------------------------------------------------------------------- */

struct full_load {
	struct pcache *cache;
	uint64_t ws_bytes;
	uint32_t thread_nr, flush_every, pace_us;
	uint64_t ms; /* ends after this time */
	uint64_t op_nr; /* or after as many writes of each thread; 0: no limit */
	uint64_t seed;
};

struct full_result {
	struct full_hist write, flush;
	uint64_t op_nr, elapsed_ns;
	uint64_t fg_cpu_ns, all_cpu_ns; /* of the writing threads; of the process */
	uint64_t gap_ns; /* longest time in which no write at all was completed */
	uint32_t zero_s; /* whole seconds without a completed write */
};

void full_load_run(const struct full_load *load, struct full_result *result);

/* ---- full_scene.c: a to d -------------------------------------------------------------------------------------------------------- */

void full_scene_a(const struct full_options *options);
void full_scene_b(const struct full_options *options);
void full_scene_c(const struct full_options *options);
void full_scene_d(const struct full_options *options);

#endif
