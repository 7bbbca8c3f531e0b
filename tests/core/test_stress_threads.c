/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Everything at once on a cache that is much too small: writers, a batch writer, readers that miss, a discarder, flushes, drains, with worker
 * threads, so that writers wait for space, data is evicted and the log is cleaned all the time. For the thread sanitizer above all; but each
 * block must hold one whole version, and after it all the backing is the cache. PCACHE_STRESS_OPS: requests of each thread.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/rig.h"

#define BLOCK_NR 512u
#define THREAD_NR 8u

struct shared {
	struct rig *rig;
	_Atomic uint64_t version;
	_Atomic uint32_t torn;
	_Atomic uint32_t running;
	_Atomic int rc;
	uint64_t op_nr;
};

struct thread {
	struct shared *shared;
	uint32_t role;
	uint64_t seed;
	pthread_t id;
};

static uint64_t next(struct thread *thread)
{
	uint64_t x = thread->seed += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	return x ^ x >> 29;
}

static void put(uint8_t *at, uint64_t blk, uint64_t version)
{
	for (uint32_t i = 0; i < 512; i += 16) {
		memcpy(at + i, &blk, 8);
		memcpy(at + i + 8, &version, 8);
	}
}

/* True if a block is whole: zeroes, or one version of its own. */
static bool is_whole(const uint8_t *at, uint64_t blk)
{
	static const uint8_t zeroes[512];
	uint64_t place;

	if (memcmp(at, zeroes, 512) == 0)
		return true;
	memcpy(&place, at, 8);
	return place == blk && memcmp(at, at + 16, 512 - 16) == 0;
}

static int write_some(struct thread *thread, uint32_t range_nr)
{
	uint8_t bytes[3 * 8 * 512];
	struct pcache_range ranges[3];
	uint64_t version = atomic_fetch_add(&thread->shared->version, 1);
	uint32_t used = 0;

	for (uint32_t i = 0; i < range_nr; i++) {
		uint64_t len = 1 + next(thread) % 8, blk = next(thread) % (next(thread) % 2 ? BLOCK_NR - 8 : 40);

		ranges[i] = (struct pcache_range){ .buf = bytes + used, .off = blk * 512, .len = len * 512 };
		for (uint64_t j = 0; j < len; j++, used += 512)
			put(bytes + used, blk + j, version);
	}
	if (range_nr == 1)
		return pcache_write(thread->shared->rig->cache, bytes, ranges[0].off, ranges[0].len,
				    next(thread) % 8 ? 0 : PCACHE_DURABLE);
	return pcache_write_batch(thread->shared->rig->cache, ranges, range_nr, 0);
}

static int read_some(struct thread *thread)
{
	uint8_t bytes[24 * 512];
	uint64_t len = 1 + next(thread) % 24, blk = next(thread) % (BLOCK_NR - 24);
	int rc = pcache_read(thread->shared->rig->cache, bytes, blk * 512, len * 512,
			     next(thread) % 8 ? 0 : PCACHE_NOCACHE);

	for (uint64_t i = 0; !rc && i < len; i++)
		if (!is_whole(bytes + i * 512, blk + i))
			atomic_fetch_add(&thread->shared->torn, 1);
	return rc;
}

static int one_request(struct thread *thread)
{
	struct pcache *cache = thread->shared->rig->cache;
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	uint64_t pick = next(thread) % 64, blk = next(thread) % (BLOCK_NR - 64);

	switch (thread->role) {
	case 0:
	case 1:
		return write_some(thread, 1);
	case 2:
		return write_some(thread, 3);
	case 3:
	case 4:
	case 5:
		return pick ? read_some(thread) : pcache_info_get(cache, &info);
	case 6:
		return pick % 2 ? pcache_discard(cache, blk * 512, (1 + pick) * 512, 0) : write_some(thread, 1);
	default:
		if (pick == 0)
			return pcache_drain(cache, NULL, NULL);
		return pick % 4 ? write_some(thread, 2) : pcache_flush(cache);
	}
}

static void *run(void *arg)
{
	struct thread *thread = arg;
	struct shared *shared = thread->shared;
	int rc = 0, none = 0;

	for (uint64_t i = 0; i < shared->op_nr && !rc; i++)
		rc = one_request(thread);
	if (rc)
		(void)atomic_compare_exchange_strong(&shared->rc, &none, rc);
	return NULL;
}

static void stress(void **state)
{
	const char *text = getenv("PCACHE_STRESS_OPS");

	(void)state;
	for (uint32_t shape = 0; shape < 6; shape++) {
		struct shared shared = { .op_nr = text ? strtoull(text, NULL, 0) : 600 };
		struct thread threads[THREAD_NR];
		struct rig rig;

		rig_zero(&rig);
		rig.o.granularity = shape & 1 ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
		rig.o.ordering = shape & 2 ? PCACHE_ORDERING_BATCH : PCACHE_ORDERING_STRICT;
		rig.o.commit = shape == 3 || shape == 5 ? PCACHE_COMMIT_FLUSH : PCACHE_COMMIT_AUTO;
		rig.o.no_crc = shape >= 4;
		rig.o.sim_flags = PC_SIM_THREADED;
		rig.o.threads = true;
		rig.o.segment_nr = 24;
		rig.o.data_head_nr = 2;
		rig.seed = shape;
		rig_up(&rig);
		/* The backing begins with whole blocks. */
		for (uint32_t blk = 0; blk < BLOCK_NR; blk++)
			put(rig.model + (size_t)blk * 512, blk, 1);
		mem_backing_load(rig.mb, rig.model);
		shared.rig = &rig;
		atomic_store(&shared.version, 2);
		for (uint32_t i = 0; i < THREAD_NR; i++) {
			threads[i] = (struct thread){ .shared = &shared, .role = i, .seed = shape * 100 + i };
			assert_int_equal(pthread_create(&threads[i].id, NULL, run, &threads[i]), 0);
		}
		for (uint32_t i = 0; i < THREAD_NR; i++)
			assert_int_equal(pthread_join(threads[i].id, NULL), 0);
		assert_int_equal(shared.rc, 0);
		assert_int_equal(shared.torn, 0);
		assert_true(rig_info(&rig).evicted_segments + rig_info(&rig).cleaned_segments > 0);
		assert_int_equal(pcache_read(rig.cache, rig.model, 0, rig.o.backing_bytes, 0), 0);
		for (uint32_t blk = 0; blk < BLOCK_NR; blk++)
			assert_true(is_whole(rig.model + (size_t)blk * 512, blk));
		rig_close(&rig); /* the workers end here */
		rig.o.threads = false;
		rig_open(&rig);
		rig_check_all(&rig);
		rig_drain(&rig);
		rig_down(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(stress) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
