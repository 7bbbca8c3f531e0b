/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-bench-full: how the cache behaves when it gets hard. A benchmark: it passes no judgement.
 *
 *   a  working set of random 4 KiB writes twice the cache, slow backing, a flush every 64 writes. In steady state, after the cache has run full:
 *          ratio = accepted bytes / (bytes that the backing can write in requests of 4 KiB in the same time)
 *      Overwrites that the cache absorbs before they are written back let it exceed 1 (ordering batch, or several writes of a block within one epoch); `over written` is
 *      accepted bytes / bytes that the backing did write in that time, which shows how much that is. Also the longest stall of one write.
 *   b  p99 of writes while write-back runs flat out (fast backing, delay 0) against p99 without write-back (delay an hour); slices alternate, the cache never fills.
 *   c  throughput of many threads against two, in alternating slices.
 *   d  overwrites of a working set of a quarter of the cache for long: what a write costs, all background work included.
 *
 * The cache lies in a file of its own (--path, default in /dev/shm), which is made and removed. PMEM2_FORCE_GRANULARITY=CACHE_LINE is set unless it is given.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/full.h"

static void usage(void)
{
	(void)fprintf(stderr, "usage: pcache-bench-full [--scene a|b|c|d] [--cache BYTES] [--ws BYTES] [--segment "
			      "BYTES] [--rate BYTES/S] [--iops N]\n"
			      "       [--flush-us N] [--depth-us N] [--ordering strict|batch|both] [--threads N] "
			      "[--flush-every N] [--pace-us N]\n"
			      "       [--seconds S] [--warm S] [--seed N] [--path FILE] [--json]\n"
			      "Bytes with K, M, G. Defaults: every scene, both orderings; a: cache 512M, rate 200M.\n");
	exit(2);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t value = strtoull(text, &end, 10);

	if (*end == 'K')
		value <<= 10;
	else if (*end == 'M')
		value <<= 20;
	else if (*end == 'G')
		value <<= 30;
	else if (*end)
		usage();
	return value;
}

struct given {
	struct full_options o;
	const char *scenes;
	const char *ordering;
	bool has_rate, has_flush_every;
};

static void take(struct given *given, const char *name, const char *value)
{
	struct full_options *o = &given->o;

	if (!strcmp(name, "--scene"))
		given->scenes = value;
	else if (!strcmp(name, "--cache"))
		o->cache_bytes = number(value);
	else if (!strcmp(name, "--ws"))
		o->ws_bytes = number(value);
	else if (!strcmp(name, "--segment"))
		o->segment_bytes = number(value);
	else if (!strcmp(name, "--rate"))
		o->backing.rate_bytes = number(value), given->has_rate = true;
	else if (!strcmp(name, "--iops"))
		o->backing.iops = number(value);
	else if (!strcmp(name, "--flush-us"))
		o->backing.flush_ns = number(value) * 1000;
	else if (!strcmp(name, "--depth-us"))
		o->backing.depth_ns = number(value) * 1000;
	else if (!strcmp(name, "--ordering"))
		given->ordering = value;
	else if (!strcmp(name, "--threads"))
		o->thread_nr = (uint32_t)number(value);
	else if (!strcmp(name, "--flush-every"))
		o->flush_every = (uint32_t)number(value), given->has_flush_every = true;
	else if (!strcmp(name, "--pace-us"))
		o->pace_us = (uint32_t)number(value);
	else if (!strcmp(name, "--seconds"))
		o->seconds_ms = number(value) * 1000;
	else if (!strcmp(name, "--warm"))
		o->warm_ms = number(value) * 1000;
	else if (!strcmp(name, "--seed"))
		o->seed = number(value);
	else if (!strcmp(name, "--path"))
		o->path = value;
	else
		usage();
}

static void run(const struct given *given, char scene, uint32_t ordering)
{
	struct full_options o = given->o;
	uint64_t cache_default = scene == 'a'   ? UINT64_C(512) << 20
				 : scene == 'd' ? UINT64_C(4) << 30
						: UINT64_C(2) << 30;

	o.ordering = ordering;
	o.cache_bytes = o.cache_bytes ? o.cache_bytes : cache_default;
	if (!o.ws_bytes)
		o.ws_bytes = scene == 'a' ? 2 * o.cache_bytes : o.cache_bytes / 4;
	o.backing.size_bytes = o.ws_bytes;
	if (scene == 'a' && !given->has_rate)
		o.backing.rate_bytes = UINT64_C(200) << 20;
	if (scene == 'a' && !given->has_flush_every)
		o.flush_every = 64;
	o.thread_nr = o.thread_nr ? o.thread_nr : 1;
	if (scene == 'a')
		full_scene_a(&o);
	else if (scene == 'b')
		full_scene_b(&o);
	else if (scene == 'c')
		full_scene_c(&o);
	else
		full_scene_d(&o);
	(void)fflush(stdout);
	(void)unlink(o.path);
}

int main(int argc, char **argv)
{
	struct given given = {
		.o = { .seconds_ms = 5000, .warm_ms = 1000, .seed = 1, .backing = { .depth_ns = 2000000 } },
		.scenes = "abcd",
		.ordering = "both"
	};
	char path[64];

	(void)snprintf(path, sizeof(path), "/dev/shm/pcache-bench-full.%ld", (long)getpid());
	given.o.path = path;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			given.o.json = true;
		else if (i + 1 < argc)
			take(&given, argv[i], argv[i + 1]), i++;
		else
			usage();
	}
	if (strspn(given.scenes, "abcd") != strlen(given.scenes))
		usage();
	(void)setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 0);
	if (!given.o.json)
		printf("seed %" PRIu64 "\n", given.o.seed);
	for (const char *scene = given.scenes; *scene; scene++) {
		if (strcmp(given.ordering, "batch") != 0)
			run(&given, *scene, PCACHE_ORDERING_STRICT);
		if (strcmp(given.ordering, "strict") != 0)
			run(&given, *scene, PCACHE_ORDERING_BATCH);
	}
	return 0;
}
