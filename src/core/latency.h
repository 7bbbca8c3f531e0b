/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Histograms of how long calls take, for those who ask for them (option latency). Each thread adds to counters of its own; a snapshot sums them.
 *
 * Buckets are as in pcache/info.h: exact below 8 ns, then eight to each power of two.
 */
#ifndef PC_CORE_LATENCY_H
#define PC_CORE_LATENCY_H

#include "core/cache.h"

/* The bucket that counts ns. */
static inline uint32_t pc_latency_bucket(uint64_t ns)
{
	uint32_t top, idx;

	if (ns < 8)
		return (uint32_t)ns;
	top = 63 - (uint32_t)__builtin_clzll(ns);
	idx = (top - 2) * 8 + (uint32_t)(ns >> (top - 3) & 7);
	return PC_MIN(idx, PCACHE_LATENCY_BUCKET_NR - 1);
}

static inline bool pc_latency_on(const struct pcache *cache)
{
	return __builtin_expect(atomic_load_explicit(&cache->latency_on, memory_order_relaxed), 0);
}

/* 0, -ENOMEM. What was counted stays. */
int pc_latency_switch(struct pcache *cache, bool on);
/* A call of this kind (PCACHE_LATENCY_*) took so long. Only after it was switched on. */
void pc_latency_note(struct pcache *cache, uint32_t kind, uint64_t ns);
/* Sums up; out is whole. */
void pc_latency_get(const struct pcache *cache, uint32_t kind, struct pcache_latency *out);
void pc_latency_free(struct pcache *cache);

#endif
