/* SPDX-License-Identifier: BSD-3-Clause */
/* pcache-bench-full: threads that write 4 KiB blocks at random, with every latency noted. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "bench/full.h"

#define IO_BYTES 4096u

struct shared {
	const struct full_load *load;
	uint64_t start_ns, end_ns;
	_Atomic bool go;
};

struct writer {
	struct shared *shared;
	pthread_t thread;
	uint64_t random;
	struct full_hist write, flush;
	uint64_t op_nr, last_ns, cpu_ns;
	uint64_t *second_ops; /* completed in each second */
	_Alignas(64) uint8_t buf[IO_BYTES];
};

/* Longest time without a completed write of anybody: the end of the last one, whoever's. */
static _Atomic uint64_t last_done_ns;
static _Atomic uint64_t longest_gap_ns;

static uint64_t cpu_ns_of(int who)
{
	struct rusage usage;

	(void)getrusage(who, &usage);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000u +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000u;
}

/* Only slow writes look at the others: a gap is never longer than the slowest write at its end, and a pause. */
static void note_gap(uint64_t now_ns, uint64_t latency_ns)
{
	uint64_t last, longest;

	if (latency_ns < 100000) {
		if (now_ns - atomic_load_explicit(&last_done_ns, memory_order_relaxed) > 50000)
			atomic_store_explicit(&last_done_ns, now_ns, memory_order_relaxed);
		return;
	}
	last = atomic_exchange(&last_done_ns, now_ns);
	longest = atomic_load(&longest_gap_ns);
	if (now_ns > last && now_ns - last > longest)
		atomic_store(&longest_gap_ns, now_ns - last);
}

static void pause_us(uint32_t us)
{
	struct timespec ts = { .tv_nsec = (long)us * 1000 };

	if (us)
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}

static void write_one(struct writer *writer, uint64_t *now_ns)
{
	const struct full_load *load = writer->shared->load;
	uint64_t off = full_random(&writer->random) % (load->ws_bytes / IO_BYTES) * IO_BYTES, begin_ns = *now_ns;
	int rc;

	memcpy(writer->buf, &writer->random, sizeof(writer->random));
	rc = pcache_write(load->cache, writer->buf, off, IO_BYTES, 0);
	if (rc)
		full_die("write", rc);
	*now_ns = full_now_ns();
	full_hist_add(&writer->write, *now_ns - begin_ns);
	note_gap(*now_ns, *now_ns - begin_ns);
	writer->op_nr++;
	if (writer->second_ops && *now_ns < writer->shared->end_ns)
		writer->second_ops[(*now_ns - writer->shared->start_ns) / 1000000000u]++;
	if (!load->flush_every || writer->op_nr % load->flush_every)
		return;
	begin_ns = *now_ns;
	rc = pcache_flush(load->cache);
	if (rc)
		full_die("flush", rc);
	*now_ns = full_now_ns();
	full_hist_add(&writer->flush, *now_ns - begin_ns);
}

static void *writer_main(void *arg)
{
	struct writer *writer = arg;
	const struct full_load *load = writer->shared->load;
	uint64_t now_ns, cpu_ns;

	while (!atomic_load(&writer->shared->go))
		;
	cpu_ns = cpu_ns_of(RUSAGE_THREAD);
	now_ns = full_now_ns();
	while (now_ns < writer->shared->end_ns && (!load->op_nr || writer->op_nr < load->op_nr)) {
		write_one(writer, &now_ns);
		if (load->pace_us) {
			pause_us(load->pace_us);
			now_ns = full_now_ns();
		}
	}
	writer->last_ns = now_ns;
	writer->cpu_ns = cpu_ns_of(RUSAGE_THREAD) - cpu_ns;
	return NULL;
}

static void sum_up(struct full_result *result, const struct shared *shared, const struct writer *writers)
{
	uint64_t end_ns = shared->start_ns, second_nr = shared->load->op_nr ? 0 : shared->load->ms / 1000;

	for (uint32_t i = 0; i < shared->load->thread_nr; i++) {
		full_hist_merge(&result->write, &writers[i].write);
		full_hist_merge(&result->flush, &writers[i].flush);
		result->op_nr += writers[i].op_nr;
		result->fg_cpu_ns += writers[i].cpu_ns;
		end_ns = writers[i].last_ns > end_ns ? writers[i].last_ns : end_ns;
	}
	result->elapsed_ns = end_ns - shared->start_ns;
	result->gap_ns = atomic_load(&longest_gap_ns);
	for (uint64_t s = 0; s < second_nr; s++) {
		uint64_t ops = 0;

		for (uint32_t i = 0; i < shared->load->thread_nr; i++)
			ops += writers[i].second_ops[s];
		result->zero_s += ops == 0;
	}
}

void full_load_run(const struct full_load *load, struct full_result *result)
{
	struct writer *writers = aligned_alloc(64, load->thread_nr * sizeof(*writers));
	struct shared shared = { .load = load };
	uint64_t cpu_ns;

	memset(result, 0, sizeof(*result));
	if (!writers)
		full_die("memory", 0);
	memset(writers, 0, load->thread_nr * sizeof(*writers));
	for (uint32_t i = 0; i < load->thread_nr; i++) {
		writers[i].shared = &shared;
		writers[i].random = load->seed + i * UINT64_C(0x1234567);
		writers[i].second_ops = calloc(load->ms / 1000 + 2, sizeof(uint64_t));
		if (!writers[i].second_ops || pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]))
			full_die("thread", 0);
	}
	cpu_ns = cpu_ns_of(RUSAGE_SELF);
	shared.start_ns = full_now_ns();
	shared.end_ns = shared.start_ns + load->ms * 1000000u;
	atomic_store(&last_done_ns, shared.start_ns);
	atomic_store(&longest_gap_ns, 0);
	atomic_store(&shared.go, true);
	for (uint32_t i = 0; i < load->thread_nr; i++)
		pthread_join(writers[i].thread, NULL);
	sum_up(result, &shared, writers);
	result->all_cpu_ns = cpu_ns_of(RUSAGE_SELF) - cpu_ns;
	for (uint32_t i = 0; i < load->thread_nr; i++)
		free(writers[i].second_ops);
	free(writers);
}
