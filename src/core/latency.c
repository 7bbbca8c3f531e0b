/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Histograms of how long calls take, see latency.h.
 *
 * The counters of a thread are on pages of their own and written by plain stores (base/thread_slot.h), so that counting costs two looks at the clock and three cache lines of
 * this thread's. They are made when somebody switches them on for the first time, and stay until the cache is closed: a call that began before a switch may still end.
 */
#include "core/latency.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread_slot.h"

struct kind_counters {
	_Atomic uint64_t sum_ns, max_ns;
	_Atomic uint64_t buckets[PCACHE_LATENCY_BUCKET_NR];
};

struct pc_latency {
	_Alignas(4096) struct {
		_Alignas(4096) struct kind_counters kinds[PCACHE_LATENCY_NR];
	} slots[PC_THREAD_SLOT_NR];
};

int pc_latency_switch(struct pcache *cache, bool on)
{
	struct pc_latency *none = NULL, *latency;

	if (on && !atomic_load_explicit(&cache->latency, memory_order_acquire)) {
		latency = aligned_alloc(4096, sizeof(*latency));
		if (!latency)
			return -ENOMEM;
		memset(latency, 0, sizeof(*latency));
		if (!atomic_compare_exchange_strong(&cache->latency, &none, latency))
			free(latency); /* another thread was faster */
	}
	/* Order: who sees the switch sees the counters. */
	atomic_store_explicit(&cache->latency_on, on, memory_order_release);
	return 0;
}

void pc_latency_note(struct pcache *cache, uint32_t kind, uint64_t ns)
{
	struct pc_latency *latency = atomic_load_explicit(&cache->latency, memory_order_acquire);
	uint32_t slot = pc_thread_slot();
	struct kind_counters *counters;

	if (!latency)
		return;
	counters = &latency->slots[slot].kinds[kind];
	pc_thread_slot_add(&counters->sum_ns, slot, ns);
	pc_thread_slot_add(&counters->buckets[pc_latency_bucket(ns)], slot, 1);
	pc_pos_raise(&counters->max_ns, ns);
}

static uint64_t get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

void pc_latency_get(const struct pcache *cache, uint32_t kind, struct pcache_latency *out)
{
	const struct pc_latency *latency = atomic_load_explicit(&cache->latency, memory_order_acquire);

	memset(out, 0, sizeof(*out));
	out->struct_bytes = sizeof(*out);
	out->bucket_nr = PCACHE_LATENCY_BUCKET_NR;
	for (uint32_t slot = 0; latency && slot < PC_THREAD_SLOT_NR; slot++) {
		const struct kind_counters *counters = &latency->slots[slot].kinds[kind];

		out->sum_ns += get(&counters->sum_ns);
		out->max_ns = PC_MAX(out->max_ns, get(&counters->max_ns));
		for (uint32_t i = 0; i < PCACHE_LATENCY_BUCKET_NR; i++)
			out->buckets[i] += get(&counters->buckets[i]);
	}
	for (uint32_t i = 0; i < PCACHE_LATENCY_BUCKET_NR; i++)
		out->count += out->buckets[i];
}

void pc_latency_free(struct pcache *cache)
{
	free(atomic_load_explicit(&cache->latency, memory_order_relaxed));
}
