/* SPDX-License-Identifier: BSD-3-Clause */
/* pcache-bench-full: the scenarios. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/full.h"
#include "service/service.h"

#define IO_BYTES 4096u
#define SLICES 5u
#define DELAY_NEVER_MS 3600000u

static const char *ordering_name(const struct full_options *options)
{
	return options->ordering == PCACHE_ORDERING_BATCH ? "batch" : "strict";
}

static void on_message(void *user, int severity, const char *text)
{
	(void)user;
	if (severity <= PCACHE_LOG_ERROR)
		(void)fprintf(stderr, "%s\n", text);
}

static struct pcache_config *new_config(const struct full_options *options, uint64_t gc_percent, uint64_t delay_ms)
{
	struct pcache_config *config;

	if (pcache_config_new(&config) || pcache_config_set(config, PCACHE_OPT_CACHE_BYTES, options->cache_bytes) ||
	    pcache_config_set(config, PCACHE_OPT_BLOCK_BYTES, IO_BYTES) ||
	    pcache_config_set(config, PCACHE_OPT_SEGMENT_BYTES, options->segment_bytes) ||
	    pcache_config_set(config, PCACHE_OPT_FORCE, 1) ||
	    pcache_config_set(config, PCACHE_OPT_ORDERING, options->ordering) ||
	    pcache_config_set(config, PCACHE_OPT_GC_PERCENT, gc_percent) ||
	    pcache_config_set(config, PCACHE_OPT_WRITEBACK_DELAY_MS, delay_ms) ||
	    pcache_config_set_log(config, on_message, NULL))
		full_die("options", 0);
	return config;
}

static struct pcache *open_cache(const struct full_options *options, struct full_backing *fb, uint64_t gc_percent,
				 uint64_t delay_ms)
{
	struct pcache_config *config = new_config(options, gc_percent, delay_ms);
	struct pcache_backing *backing = full_backing_attach(fb);
	struct pcache *cache;
	int rc = pcache_format(options->path, config, backing);

	if (rc)
		full_die("format", rc);
	rc = pcache_open(options->path, config, backing, &cache);
	if (rc)
		full_die("open", rc);
	pcache_config_free(config);
	return cache;
}

static void close_cache(struct pcache *cache)
{
	int rc = pcache_close(cache);

	if (rc)
		full_die("close", rc);
}

static struct pcache_info info_of(struct pcache *cache)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	int rc = pcache_info_get(cache, &info);

	if (rc)
		full_die("info", rc);
	return info;
}

/* Nothing is cached any more, and every segment is free but those of the log and of the heads. */
static void empty_cache(struct pcache *cache)
{
	if (pcache_drain(cache, NULL, NULL) || pcache_discard(cache, 0, pcache_size(cache), 0) ||
	    pcache_drain(cache, NULL, NULL))
		full_die("drain", 0);
	(void)pc_evict_step(cache, true);
	while (pc_clean_step(cache, true) > 0)
		;
}

/* Touches every page of media and backing once, so that none is met for the first time while it counts. */
static void prefault(const struct full_options *options, struct full_backing *fb, struct pcache *cache)
{
	struct full_load load = { .cache = cache,
				  .ws_bytes = options->ws_bytes,
				  .thread_nr = 1,
				  .ms = 60000,
				  .op_nr = options->cache_bytes / IO_BYTES * 5 / 4,
				  .seed = options->seed ^ 0x55 };
	struct full_result result;

	full_backing_limit(fb, false);
	full_load_run(&load, &result);
}

static double us(uint64_t ns)
{
	return (double)ns / 1000.0;
}

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static double per_s(uint64_t nr, uint64_t ns)
{
	return ns ? (double)nr * 1e9 / (double)ns : 0;
}

/* ---- a: the working set is twice the cache ------------------------------------------------------------------------------------- */

struct a_figures {
	double accepted_bytes_s, allowed_bytes_s, written_bytes_s, ratio, of_written;
	uint64_t backing_ops, backing_flushes, full_waits, evicted, cleaned;
};

static void print_a(const struct full_options *options, const struct full_result *result, const struct a_figures *a)
{
	if (options->json) {
		printf("{\"scene\":\"a\",\"ordering\":\"%s\",\"cache_bytes\":%" PRIu64 ",\"segment_bytes\":%" PRIu64
		       ",\"ws_bytes\":%" PRIu64 ",\"rate_bytes\":%" PRIu64 ",\"iops\":%" PRIu64 ",\"flush_ns\":%" PRIu64
		       ",\"threads\":%" PRIu32 ",\"flush_every\":%" PRIu32
		       ",\"accepted_bytes_s\":%.0f,\"allowed_bytes_s\":%.0f,\"ratio\":%.4f,\"backing_written_bytes_s\":"
		       "%.0f"
		       ",\"accepted_over_written\":%.4f,\"stall_max_ns\":%" PRIu64 ",\"flush_max_ns\":%" PRIu64
		       ",\"p50_ns\":%" PRIu64 ",\"p99_ns\":%" PRIu64 ",\"p999_ns\":%" PRIu64 ",\"gap_ns\":%" PRIu64
		       ",\"zero_progress_s\":%" PRIu32 ",\"full_waits\":%" PRIu64 ",\"backing_ops\":%" PRIu64
		       ",\"backing_flushes\":%" PRIu64 ",\"evicted_segs\":%" PRIu64 ",\"cleaned_segs\":%" PRIu64
		       ",\"seed\":%" PRIu64 "}\n",
		       ordering_name(options), options->cache_bytes, options->segment_bytes, options->ws_bytes,
		       options->backing.rate_bytes, options->backing.iops, options->backing.flush_ns,
		       options->thread_nr, options->flush_every, a->accepted_bytes_s, a->allowed_bytes_s, a->ratio,
		       a->written_bytes_s, a->of_written, result->write.max_ns, result->flush.max_ns,
		       full_hist_quantile(&result->write, 500), full_hist_quantile(&result->write, 990),
		       full_hist_quantile(&result->write, 999), result->gap_ns, result->zero_s, a->full_waits,
		       a->backing_ops, a->backing_flushes, a->evicted, a->cleaned, options->seed);
		return;
	}
	printf("a %-6s accepted %.1f MiB/s of %.1f allowed (backing wrote %.1f): ratio %.3f, over written %.3f\n"
	       "         stall %.2f ms, flush %.2f ms, gap %.2f ms, zero seconds %" PRIu32
	       "; p50 %.1f p99 %.1f p99.9 %.1f us; waits %" PRIu64 ", backing ops %" PRIu64 " flushes %" PRIu64
	       ", evicted %" PRIu64 ", cleaned %" PRIu64 "\n",
	       ordering_name(options), a->accepted_bytes_s / 1048576, a->allowed_bytes_s / 1048576,
	       a->written_bytes_s / 1048576, a->ratio, a->of_written, ms(result->write.max_ns),
	       ms(result->flush.max_ns), ms(result->gap_ns), result->zero_s,
	       us(full_hist_quantile(&result->write, 500)), us(full_hist_quantile(&result->write, 990)),
	       us(full_hist_quantile(&result->write, 999)), a->full_waits, a->backing_ops, a->backing_flushes,
	       a->evicted, a->cleaned);
}

static void measure_a(const struct full_options *options, struct full_backing *fb, struct pcache *cache)
{
	struct full_load load = { .cache = cache,
				  .ws_bytes = options->ws_bytes,
				  .thread_nr = options->thread_nr,
				  .flush_every = options->flush_every,
				  .pace_us = options->pace_us,
				  .ms = options->warm_ms,
				  .seed = options->seed };
	struct full_backing_counters before, after;
	struct pcache_info from, to;
	struct full_result result;
	struct a_figures a;

	full_load_run(&load, &result);
	load.ms = options->seconds_ms;
	load.seed ^= UINT64_C(0xabcdef);
	before = full_backing_count(fb);
	from = info_of(cache);
	full_load_run(&load, &result);
	after = full_backing_count(fb);
	to = info_of(cache);
	a.accepted_bytes_s = per_s(result.op_nr * IO_BYTES, result.elapsed_ns);
	a.allowed_bytes_s = (double)full_backing_allows(&options->backing, IO_BYTES);
	a.written_bytes_s = per_s(after.write_bytes - before.write_bytes, result.elapsed_ns);
	a.ratio = a.allowed_bytes_s > 0 ? a.accepted_bytes_s / a.allowed_bytes_s : 0;
	a.of_written = a.written_bytes_s > 0 ? a.accepted_bytes_s / a.written_bytes_s : 0;
	a.backing_ops = after.write_ops - before.write_ops;
	a.backing_flushes = after.flush_ops - before.flush_ops;
	a.full_waits = to.full_waits - from.full_waits;
	a.evicted = to.evicted_segments - from.evicted_segments;
	a.cleaned = to.cleaned_segments - from.cleaned_segments;
	print_a(options, &result, &a);
}

void full_scene_a(const struct full_options *options)
{
	struct full_backing *fb = full_backing_new(&options->backing);
	struct pcache *cache = open_cache(options, fb, 70, 1000);

	prefault(options, fb, cache);
	full_backing_limit(fb, true);
	measure_a(options, fb, cache);
	full_backing_limit(fb, false);
	close_cache(cache);
	full_backing_free(fb);
}

/* ---- b and c: alternating slices on a cache that is not full ---------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct spread {
	double value[SLICES];
};

static double median(struct spread *spread)
{
	qsort(spread->value, SLICES, sizeof(double), by_value);
	return spread->value[SLICES / 2];
}

struct slice {
	uint32_t thread_nr;
	uint64_t delay_ms;
	uint32_t pace_us;
	uint64_t op_nr; /* in all */
	uint64_t seed;
};

static void run_slice(const struct full_options *options, struct full_backing *fb, struct pcache *cache,
		      const struct slice *slice, struct full_result *result, uint64_t *out_written)
{
	struct full_load load = { .cache = cache,
				  .ws_bytes = options->ws_bytes,
				  .thread_nr = slice->thread_nr,
				  .flush_every = options->flush_every,
				  .pace_us = slice->pace_us,
				  .ms = 60000,
				  .op_nr = slice->op_nr / 8 / slice->thread_nr,
				  .seed = slice->seed };
	struct full_backing_counters before, after;

	/* There is no call for it, and an open cache has every page mapped already. The worker looks again when it is woken. */
	cache->writeback_delay_ms = (uint32_t)slice->delay_ms;
	pc_signal_work(cache, PC_WORK_URGENT);
	full_load_run(&load, result); /* warm up */
	load.op_nr = slice->op_nr / slice->thread_nr;
	load.seed ^= UINT64_C(0xabcdef);
	before = full_backing_count(fb);
	full_load_run(&load, result);
	after = full_backing_count(fb);
	*out_written = after.write_bytes - before.write_bytes;
	empty_cache(cache);
}

/* How many writes leave a cache below its threshold. */
static uint64_t slice_ops(const struct full_options *options)
{
	return options->cache_bytes / IO_BYTES / 2;
}

static struct pcache *prepare(const struct full_options *options, struct full_backing **out_fb)
{
	struct full_backing *fb = full_backing_new(&options->backing);
	struct pcache *cache = open_cache(options, fb, 90, 0);

	prefault(options, fb, cache);
	empty_cache(cache);
	full_backing_limit(fb, true);
	*out_fb = fb;
	return cache;
}

void full_scene_b(const struct full_options *options)
{
	struct full_backing *fb;
	struct pcache *cache = prepare(options, &fb);
	struct spread p99[2], p50[2], rate[2], ratio, back;
	struct full_result result;
	uint64_t written, worst[2] = { 0 };

	for (uint32_t i = 0; i < SLICES; i++) {
		for (uint32_t busy = 0; busy < 2; busy++) {
			struct slice slice = { .thread_nr = options->thread_nr,
					       .delay_ms = busy ? 0 : DELAY_NEVER_MS,
					       .pace_us = options->pace_us,
					       .op_nr = slice_ops(options),
					       .seed = options->seed + i };

			if (options->pace_us)
				slice.op_nr /= 16;
			run_slice(options, fb, cache, &slice, &result, &written);
			p50[busy].value[i] = us(full_hist_quantile(&result.write, 500));
			p99[busy].value[i] = us(full_hist_quantile(&result.write, 990));
			rate[busy].value[i] = per_s(result.op_nr, result.elapsed_ns);
			worst[busy] = result.write.max_ns > worst[busy] ? result.write.max_ns : worst[busy];
			if (busy)
				back.value[i] = per_s(written, result.elapsed_ns);
		}
		ratio.value[i] = p99[1].value[i] / p99[0].value[i];
	}
	(void)median(&ratio);
	printf(options->json
		       ? "{\"scene\":\"b\",\"ordering\":\"%s\",\"p99_idle_us\":%.3f,\"p99_busy_us\":%.3f,"
			 "\"ratio\":%.3f,\"ratio_min\":%.3f,\"ratio_max\":%.3f,\"p50_idle_us\":%.3f,\"p50_busy_us\":%."
			 "3f,"
			 "\"iops_idle\":%.0f,\"iops_busy\":%.0f,\"writeback_bytes_s\":%.0f,\"worst_idle_us\":%.1f,"
			 "\"worst_busy_us\":%.1f}\n"
		       : "b %-6s p99 idle %.2f us, write-back flat out %.2f us: ratio %.2f (%.2f .. %.2f); p50 %.2f, "
			 "%.2f us; %.0f, %.0f writes/s; write-back %.0f B/s; worst %.0f, %.0f us\n",
	       ordering_name(options), median(&p99[0]), median(&p99[1]), ratio.value[SLICES / 2], ratio.value[0],
	       ratio.value[SLICES - 1], median(&p50[0]), median(&p50[1]), median(&rate[0]), median(&rate[1]),
	       median(&back), us(worst[0]), us(worst[1]));
	close_cache(cache);
	full_backing_free(fb);
}

void full_scene_c(const struct full_options *options)
{
	struct full_backing *fb;
	struct pcache *cache = prepare(options, &fb);
	const uint32_t threads[2] = { 2, options->thread_nr > 2 ? options->thread_nr : 16 };
	struct spread rate[2], ratio, p99[2];
	struct full_result result;
	uint64_t written;

	for (uint32_t i = 0; i < SLICES; i++) {
		for (uint32_t many = 0; many < 2; many++) {
			struct slice slice = { .thread_nr = threads[many],
					       .delay_ms = DELAY_NEVER_MS,
					       .op_nr = slice_ops(options),
					       .seed = options->seed + i };

			run_slice(options, fb, cache, &slice, &result, &written);
			rate[many].value[i] = per_s(result.op_nr, result.elapsed_ns);
			p99[many].value[i] = us(full_hist_quantile(&result.write, 990));
		}
		ratio.value[i] = rate[1].value[i] / rate[0].value[i];
	}
	(void)median(&ratio);
	printf(options->json
		       ? "{\"scene\":\"c\",\"ordering\":\"%s\",\"iops_2\":%.0f,\"iops_many\":%.0f,\"threads\":%" PRIu32
			 ",\"ratio\":%.3f,\"ratio_min\":%.3f,\"ratio_max\":%.3f,\"p99_2_us\":%.2f,\"p99_many_us\":%.2f}"
			 "\n"
		       : "c %-6s 2 threads %.0f writes/s, many %.0f (%" PRIu32
			 "): ratio %.3f (%.3f .. %.3f); p99 %.2f, %.2f us\n",
	       ordering_name(options), median(&rate[0]), median(&rate[1]), threads[1], ratio.value[SLICES / 2],
	       ratio.value[0], ratio.value[SLICES - 1], median(&p99[0]), median(&p99[1]));
	close_cache(cache);
	full_backing_free(fb);
}

/* ---- d: overwrites for long ---------------------------------------------------------------------------------------------------------- */

void full_scene_d(const struct full_options *options)
{
	struct full_backing *fb = full_backing_new(&options->backing);
	struct pcache *cache = open_cache(options, fb, 70, 1000);
	struct full_load load = { .cache = cache,
				  .ws_bytes = options->ws_bytes,
				  .thread_nr = options->thread_nr,
				  .flush_every = options->flush_every,
				  .ms = options->seconds_ms,
				  .seed = options->seed };
	struct pcache_info from, to;
	struct full_result result;
	double op_nr;

	prefault(options, fb, cache);
	full_backing_limit(fb, true);
	from = info_of(cache);
	full_load_run(&load, &result);
	to = info_of(cache);
	op_nr = (double)result.op_nr;
	printf(options->json ? "{\"scene\":\"d\",\"ordering\":\"%s\",\"ns_per_op\":%.1f,\"fg_cpu_ns_per_op\":%.1f,"
			       "\"services_cpu_ns_per_op\":%.1f,\"p50_us\":%.3f,\"p99_us\":%.3f,\"p999_us\":%.3f,\"max_"
			       "us\":%.1f,"
			       "\"writeback_bytes_per_byte\":%.4f,\"evicted_segs\":%" PRIu64
			       ",\"cleaned_segs\":%" PRIu64 ",\"full_waits\":%" PRIu64 ",\"extents\":%" PRIu64 "}\n"
			     : "d %-6s %.1f ns per write; CPU %.1f foreground, %.1f services; p50 %.2f p99 %.2f p99.9 "
			       "%.2f max %.0f us; "
			       "written back per byte %.3f; evicted %" PRIu64 ", cleaned %" PRIu64 ", waits %" PRIu64
			       ", extents %" PRIu64 "\n",
	       ordering_name(options), (double)result.elapsed_ns / op_nr, (double)result.fg_cpu_ns / op_nr,
	       (double)(result.all_cpu_ns - result.fg_cpu_ns) / op_nr, us(full_hist_quantile(&result.write, 500)),
	       us(full_hist_quantile(&result.write, 990)), us(full_hist_quantile(&result.write, 999)),
	       us(result.write.max_ns), (double)(to.writeback_bytes - from.writeback_bytes) / (op_nr * IO_BYTES),
	       to.evicted_segments - from.evicted_segments, to.cleaned_segments - from.cleaned_segments,
	       to.full_waits - from.full_waits, to.extents);
	close_cache(cache);
	full_backing_free(fb);
}
