/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache bench, histogram: latencies in buckets whose width grows with the latency, so that any latency is known within
 * 1.6 % and adding one costs a few instructions and no memory. Each thread fills its own; they are merged at the end.
 */
#include "tool/bench.h"

static unsigned int bucket_of(uint64_t ns)
{
	unsigned int exponent;

	if (ns < BENCH_HIST_STEPS)
		return (unsigned int)ns;
	exponent = 63u - (unsigned int)__builtin_clzll(ns); /* at least 6 */
	return (exponent - 5) * BENCH_HIST_STEPS + (unsigned int)(ns >> (exponent - 6)) - BENCH_HIST_STEPS;
}

/* Middle of a bucket. */
static uint64_t latency_of(unsigned int bucket)
{
	unsigned int exponent;
	uint64_t low;

	if (bucket < BENCH_HIST_STEPS)
		return bucket;
	exponent = bucket / BENCH_HIST_STEPS + 5;
	low = (uint64_t)(BENCH_HIST_STEPS + bucket % BENCH_HIST_STEPS) << (exponent - 6);
	return low + (UINT64_C(1) << (exponent - 6)) / 2;
}

void bench_hist_add(struct bench_hist *hist, uint64_t ns)
{
	hist->counts[bucket_of(ns)]++;
	hist->nr++;
	if (ns > hist->max_ns)
		hist->max_ns = ns;
}

void bench_hist_merge(struct bench_hist *to, const struct bench_hist *from)
{
	unsigned int i;

	for (i = 0; i < BENCH_HIST_NR; i++)
		to->counts[i] += from->counts[i];
	to->nr += from->nr;
	if (from->max_ns > to->max_ns)
		to->max_ns = from->max_ns;
}

uint64_t bench_hist_quantile(const struct bench_hist *hist, unsigned int permille)
{
	uint64_t want_nr = (hist->nr * permille + 999) / 1000, seen_nr = 0;
	unsigned int i;

	for (i = 0; i < BENCH_HIST_NR && hist->nr; i++) {
		seen_nr += hist->counts[i];
		if (seen_nr >= want_nr)
			return latency_of(i) < hist->max_ns ? latency_of(i) : hist->max_ns;
	}
	return hist->max_ns;
}
