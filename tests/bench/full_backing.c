/* SPDX-License-Identifier: BSD-3-Clause */
/* pcache-bench-full: the backing with a token bucket, the histogram, the clock. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bench/full.h"

struct full_backing {
	struct full_backing_options o;
	uint8_t *mem;
	pthread_mutex_t lock;
	bool limited;
	uint64_t next_ns; /* the bucket is empty at this time: earlier than now, it has tokens */
	struct full_backing_counters counters;
};

uint64_t full_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t full_random(uint64_t *state)
{
	uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

_Noreturn void full_die(const char *what, int rc)
{
	(void)fprintf(stderr, "pcache-bench-full: %s: %d\n", what, rc);
	exit(1);
}

static void sleep_until(uint64_t until_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static uint64_t cost_ns(const struct full_backing_options *options, uint64_t len)
{
	uint64_t by_rate = options->rate_bytes ? len * 1000000000u / options->rate_bytes : 0;
	uint64_t by_iops = options->iops ? 1000000000u / options->iops : 0;

	return by_rate > by_iops ? by_rate : by_iops;
}

uint64_t full_backing_allows(const struct full_backing_options *options, uint64_t io_bytes)
{
	uint64_t ns = cost_ns(options, io_bytes << 10);

	if (options->iops && ns < (1000000000u << 10) / options->iops)
		ns = (UINT64_C(1000000000) << 10) / options->iops;
	return ns ? (io_bytes << 10) * 1000000000u / ns : 0;
}

static void charge(struct full_backing *fb, uint64_t ns)
{
	uint64_t now_ns, until_ns;

	pthread_mutex_lock(&fb->lock);
	if (!fb->limited)
		ns = 0;
	now_ns = full_now_ns();
	if (fb->next_ns + fb->o.depth_ns < now_ns)
		fb->next_ns = now_ns - fb->o.depth_ns;
	fb->next_ns += ns;
	until_ns = fb->next_ns;
	pthread_mutex_unlock(&fb->lock);
	if (until_ns > now_ns)
		sleep_until(until_ns);
}

static int fb_read(void *user, void *buf, uint64_t off, uint64_t len)
{
	struct full_backing *fb = user;

	charge(fb, cost_ns(&fb->o, len));
	memcpy(buf, fb->mem + off, len);
	return 0;
}

static int fb_write(void *user, const void *buf, uint64_t off, uint64_t len)
{
	struct full_backing *fb = user;

	memcpy(fb->mem + off, buf, len);
	charge(fb, cost_ns(&fb->o, len));
	pthread_mutex_lock(&fb->lock);
	fb->counters.write_bytes += len;
	fb->counters.write_ops++;
	pthread_mutex_unlock(&fb->lock);
	return 0;
}

static int fb_flush(void *user)
{
	struct full_backing *fb = user;

	pthread_mutex_lock(&fb->lock);
	fb->counters.flush_ops++;
	pthread_mutex_unlock(&fb->lock);
	if (fb->o.flush_ns && fb->limited)
		sleep_until(full_now_ns() + fb->o.flush_ns);
	return 0;
}

struct full_backing *full_backing_new(const struct full_backing_options *options)
{
	struct full_backing *fb = calloc(1, sizeof(*fb));

	if (!fb)
		full_die("memory", -ENOMEM);
	fb->o = *options;
	fb->limited = true;
	fb->mem = mmap(NULL, options->size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
		       -1, 0);
	if (fb->mem == MAP_FAILED)
		full_die("memory of the backing", -errno);
	pthread_mutex_init(&fb->lock, NULL);
	return fb;
}

void full_backing_free(struct full_backing *fb)
{
	munmap(fb->mem, fb->o.size_bytes);
	pthread_mutex_destroy(&fb->lock);
	free(fb);
}

struct pcache_backing *full_backing_attach(struct full_backing *fb)
{
	struct pcache_backing_ops ops = { .struct_bytes = sizeof(ops),
					  .size_bytes = fb->o.size_bytes,
					  .read = fb_read,
					  .write = fb_write,
					  .flush = fb_flush };
	struct pcache_backing *backing;
	int rc = pcache_backing_new(&ops, fb, &backing);

	if (rc)
		full_die("backing", rc);
	return backing;
}

void full_backing_limit(struct full_backing *fb, bool on)
{
	pthread_mutex_lock(&fb->lock);
	fb->limited = on;
	fb->next_ns = full_now_ns();
	pthread_mutex_unlock(&fb->lock);
}

struct full_backing_counters full_backing_count(struct full_backing *fb)
{
	struct full_backing_counters counters;

	pthread_mutex_lock(&fb->lock);
	counters = fb->counters;
	pthread_mutex_unlock(&fb->lock);
	return counters;
}

/* ---- histogram --------------------------------------------------------------------------------------------------------------- */

static uint32_t bucket_of(uint64_t ns)
{
	uint32_t exponent;

	if (ns < FULL_HIST_STEPS)
		return (uint32_t)ns;
	exponent = 63u - (uint32_t)__builtin_clzll(ns); /* at least 6 */
	return (exponent - 5) * FULL_HIST_STEPS + (uint32_t)(ns >> (exponent - 6)) - FULL_HIST_STEPS;
}

static uint64_t latency_of(uint32_t bucket)
{
	uint32_t exponent;

	if (bucket < FULL_HIST_STEPS)
		return bucket;
	exponent = bucket / FULL_HIST_STEPS + 5;
	return (uint64_t)(FULL_HIST_STEPS + bucket % FULL_HIST_STEPS) << (exponent - 6);
}

void full_hist_add(struct full_hist *hist, uint64_t ns)
{
	hist->counts[bucket_of(ns)]++;
	hist->nr++;
	if (ns > hist->max_ns)
		hist->max_ns = ns;
}

void full_hist_merge(struct full_hist *to, const struct full_hist *from)
{
	for (uint32_t i = 0; i < FULL_HIST_NR; i++)
		to->counts[i] += from->counts[i];
	to->nr += from->nr;
	if (from->max_ns > to->max_ns)
		to->max_ns = from->max_ns;
}

uint64_t full_hist_quantile(const struct full_hist *hist, uint32_t permille)
{
	uint64_t want_nr = (hist->nr * permille + 999) / 1000, seen_nr = 0;

	for (uint32_t i = 0; i < FULL_HIST_NR && hist->nr; i++) {
		seen_nr += hist->counts[i];
		if (seen_nr >= want_nr)
			return latency_of(i);
	}
	return hist->max_ns;
}
