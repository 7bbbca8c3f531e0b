/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-bench-open [PATH]: how fast a full cache opens. Makes a cache of many small keys in random order, ends it cleanly or as if the process had been killed, and opens
 * it again and again; printed are keys per second, and where the time goes. PATH (default: a file in /dev/shm) is made, and removed again. No test: it passes or fails nothing.
 *
 * An open after a kill stores to the cache (it mends). So the records, and the slots behind the end of the log, are saved before and put back after each: every round meets the same
 * media.
 *
 * --threads is the number of threads that replay may use (0: what the library takes by itself); --clean closes the cache before.
 */
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/internal.h"
#include "recovery/recovery.h"

#define ROUNDS_MAX 101u
#define SAVED_MAX 3u
#define END_BYTES (64u << 10) /* of the log behind its end: more than an open stores there */

struct args {
	const char *path;
	uint64_t key_nr, spread_bytes, cache_bytes, seed;
	uint32_t io_bytes, block_bytes, rounds, threads, flush_every;
	bool clean;
};

enum phase {
	PHASE_MEDIA,
	PHASE_RECORDS,
	PHASE_REPLAY,
	PHASE_READ,
	PHASE_APPLY,
	PHASE_DROP,
	PHASE_OPEN,
	PHASE_CLOSE,
	PHASE_NR
};
static const char *const phase_names[PHASE_NR] = { "media: open, holes, map", "records",     "replay",
						   "  read the log",          "  apply",     "drop the index",
						   "pcache_open, everything", "pcache_close" };

static void must(int rc, const char *what)
{
	if (rc >= 0)
		return;
	(void)fprintf(stderr, "bench-open: %s: %s\n", what, pcache_strerror(rc));
	exit(1);
}

/* ---- a backing that does nothing ---------------------------------------------------------------------------------------- */

static int null_read(void *user, void *buf, uint64_t off, uint64_t len)
{
	(void)user, (void)off;
	memset(buf, 0, len);
	return 0;
}

static int null_write(void *user, const void *buf, uint64_t off, uint64_t len)
{
	(void)user, (void)buf, (void)off, (void)len;
	return 0;
}

static int null_flush(void *user)
{
	(void)user;
	return 0;
}

static struct pcache_backing *new_backing(const struct args *args)
{
	const struct pcache_backing_ops ops = {
		.struct_bytes = sizeof(ops),
		.size_bytes = args->spread_bytes,
		.read = null_read,
		.write = null_write,
		.flush = null_flush,
	};
	struct pcache_backing *backing;

	must(pcache_backing_new(&ops, NULL, &backing), "backing");
	return backing;
}

static struct pcache_config *new_config(const struct args *args, bool threads)
{
	struct pcache_config *config;

	must(pcache_config_new(&config), "config");
	must(pcache_config_set(config, PCACHE_OPT_CACHE_BYTES, args->cache_bytes), "cache_bytes");
	must(pcache_config_set(config, PCACHE_OPT_BLOCK_BYTES, args->block_bytes), "block_bytes");
	must(pcache_config_set(config, PCACHE_OPT_FORCE, 1), "force");
	must(pcache_config_set(config, PCACHE_OPT_WRITEBACK_DELAY_MS, 3600000), "writeback_delay_ms");
	must(pcache_config_set(config, PCACHE_OPT_MAINTENANCE,
			       threads ? PCACHE_MAINTENANCE_THREAD : PCACHE_MAINTENANCE_CALLER),
	     "maintenance");
	return config;
}

/* ---- the cache that is opened ------------------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

struct saved {
	uint64_t off;
	size_t len;
	uint8_t *bytes;
};

static void save(struct saved *saved, int fd, uint64_t off, size_t len)
{
	*saved = (struct saved){ .off = off, .len = len, .bytes = malloc(len) };
	if (!saved->bytes || pread(fd, saved->bytes, len, (off_t)off) != (ssize_t)len)
		must(-1, "save");
}

static void put_back(const struct saved *saved, int fd)
{
	for (uint32_t i = 0; i < SAVED_MAX; i++)
		if (saved[i].bytes &&
		    pwrite(fd, saved[i].bytes, saved[i].len, (off_t)saved[i].off) != (ssize_t)saved[i].len)
			must(-1, "put back");
}

/* Fills a new cache. saved: what an open changes. */
static void make_cache(const struct args *args, struct saved *saved)
{
	struct pcache_backing *backing = new_backing(args);
	struct pcache_config *config = new_config(args, false);
	uint64_t place_nr = args->spread_bytes / args->io_bytes, random = args->seed;
	uint8_t *buf = calloc(1, args->io_bytes);
	uint64_t head, head_off;
	struct pc_super super;
	struct pcache *cache;
	int fd;

	if (!buf)
		must(-1, "memory");
	must(pcache_format(args->path, config, backing), "format");
	must(pcache_open(args->path, config, backing, &cache), "first open");
	for (uint64_t i = 0; i < args->key_nr; i++) {
		uint64_t place = (uint64_t)((unsigned __int128)next_random(&random) * place_nr >> 64);

		memcpy(buf, &random, sizeof(random));
		must(pcache_write(cache, buf, place * args->io_bytes, args->io_bytes, 0), "write");
		if (args->flush_every && i % args->flush_every == 0)
			must(pcache_flush(cache), "flush");
	}
	super = cache->layout.super;
	head = atomic_load(&cache->log.head);
	head_off = pc_log_media_off(&cache->log, head);
	if (args->clean)
		must(pcache_close(cache), "close");
	else
		pc_cache_abandon(cache);
	fd = open(args->path, O_RDONLY);
	save(&saved[0], fd, 0, super.zone_bytes);
	save(&saved[1], fd, super.zone_b_off, super.zone_bytes);
	save(&saved[2], fd, head_off,
	     PC_MIN(END_BYTES, super.segment_bytes - (head_off - super.data_off) % super.segment_bytes));
	(void)close(fd);
	pcache_config_free(config);
	free(buf);
}

/* ---- opening it ----------------------------------------------------------------------------------------------------------- */

struct result {
	double ms[PHASE_NR][ROUNDS_MAX];
	uint64_t key_nr, extent_nr, index_bytes, peak_bytes;
};

static uint64_t rss_bytes(const char *field)
{
	unsigned long long kib = 0;
	char line[256];
	FILE *file = fopen("/proc/self/status", "r");

	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, field, strlen(field)) == 0)
			(void)sscanf(line + strlen(field), ": %llu", &kib);
	if (file)
		(void)fclose(file);
	return kib * 1024;
}

static void reset_peak(void)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY);

	if (fd < 0 || write(fd, "5", 1) != 1)
		(void)fprintf(stderr, "bench-open: no peak of memory here\n");
	if (fd >= 0)
		(void)close(fd);
}

static double ms_since(uint64_t *begin_ns)
{
	uint64_t now_ns = pc_monotonic_ns();
	double ms = (double)(now_ns - *begin_ns) / 1e6;

	*begin_ns = now_ns;
	return ms;
}

/* The parts of an open that store nothing, one by one. */
static void run_parts(const struct args *args, struct result *result, uint32_t round)
{
	const struct pc_tweaks tweaks = { .replay_threads = args->threads };
	uint64_t begin_ns = pc_monotonic_ns();
	struct pc_media *media;
	struct pc_super super;
	struct pc_replay replay;
	struct pcache *cache;
	uint32_t super_bad;

	must(pc_media_open(args->path, 0, NULL, &media), "media");
	must(pc_layout_load_super(media, &super, &super_bad), "superblock");
	must(pc_media_map(media), "map");
	result->ms[PHASE_MEDIA][round] = ms_since(&begin_ns);
	must(pc_core_new(media, &super, super_bad, NULL, &tweaks, NULL, &cache), "records");
	result->ms[PHASE_RECORDS][round] = ms_since(&begin_ns);
	must(pc_recovery_replay(cache, &replay), "replay");
	result->ms[PHASE_REPLAY][round] = ms_since(&begin_ns);
	result->ms[PHASE_APPLY][round] = (double)replay.apply_ns / 1e6;
	result->ms[PHASE_READ][round] = result->ms[PHASE_REPLAY][round] - result->ms[PHASE_APPLY][round];
	result->key_nr = replay.key_nr;
	result->extent_nr = pc_index_extent_nr(cache->index);
	result->index_bytes = pc_index_dram_bytes(cache->index);
	pc_replay_fini(&replay);
	begin_ns = pc_monotonic_ns();
	pc_core_free(cache);
	result->ms[PHASE_DROP][round] = ms_since(&begin_ns);
	pc_media_close(media);
}

/* What a caller sees. */
static void run_whole(const struct args *args, const struct saved *saved, struct result *result, uint32_t round)
{
	struct pcache_backing *backing = new_backing(args);
	struct pcache_config *config = new_config(args, true);
	uint64_t begin_ns, rest_bytes;
	struct pcache *cache;
	int fd;

	(void)malloc_trim(0);
	reset_peak();
	rest_bytes = rss_bytes("VmRSS");
	begin_ns = pc_monotonic_ns();
	must(pcache_open(args->path, config, backing, &cache), "open");
	result->ms[PHASE_OPEN][round] = ms_since(&begin_ns);
	result->peak_bytes = rss_bytes("VmHWM") - rest_bytes;
	begin_ns = pc_monotonic_ns();
	must(pcache_close(cache), "close");
	result->ms[PHASE_CLOSE][round] = ms_since(&begin_ns);
	pcache_config_free(config);
	fd = open(args->path, O_WRONLY);
	put_back(saved, fd);
	(void)close(fd);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void print_result(const struct args *args, struct result *result)
{
	(void)printf("%llu keys of %u bytes over %llu MiB, %s, %u threads (0: by itself), %u rounds, seed %llu\n",
		     (unsigned long long)result->key_nr, args->io_bytes, (unsigned long long)(args->spread_bytes >> 20),
		     args->clean ? "closed" : "killed", args->threads, args->rounds, (unsigned long long)args->seed);
	(void)printf("%-26s %9s %9s %9s %10s\n", "", "median ms", "min", "max", "M keys/s");
	for (uint32_t phase = 0; phase < PHASE_NR; phase++) {
		double *ms = result->ms[phase];

		qsort(ms, args->rounds, sizeof(*ms), by_value);
		(void)printf("%-26s %9.2f %9.2f %9.2f %10.2f\n", phase_names[phase], ms[args->rounds / 2], ms[0],
			     ms[args->rounds - 1], (double)result->key_nr / 1e3 / ms[args->rounds / 2]);
	}
	(void)printf("%llu extents, %.1f bytes of index each; peak of memory %.1f MiB, index %.1f MiB\n",
		     (unsigned long long)result->extent_nr,
		     (double)result->index_bytes / (double)PC_MAX(result->extent_nr, 1u),
		     (double)result->peak_bytes / 1048576, (double)result->index_bytes / 1048576);
}

static uint64_t number_of(const char *text)
{
	char *end;
	uint64_t value = strtoull(text, &end, 0);
	unsigned int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;

	return value << shift;
}

static void take_args(int argc, char **argv, struct args *args)
{
	static const struct option options[] = { { "keys", 1, NULL, 'k' },
						 { "spread", 1, NULL, 's' },
						 { "cache", 1, NULL, 'c' },
						 { "bs", 1, NULL, 'b' },
						 { "block", 1, NULL, 'B' },
						 { "rounds", 1, NULL, 'r' },
						 { "threads", 1, NULL, 't' },
						 { "clean", 0, NULL, 'C' },
						 { "seed", 1, NULL, 'S' },
						 { "flush-every", 1, NULL, 'f' },
						 { 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		uint64_t value = optarg ? number_of(optarg) : 0;

		if (c == 'k')
			args->key_nr = value;
		else if (c == 's')
			args->spread_bytes = value;
		else if (c == 'c')
			args->cache_bytes = value;
		else if (c == 'b')
			args->io_bytes = (uint32_t)value;
		else if (c == 'B')
			args->block_bytes = (uint32_t)value;
		else if (c == 'r')
			args->rounds = (uint32_t)PC_MIN(PC_MAX(value, 1u), ROUNDS_MAX);
		else if (c == 't')
			args->threads = (uint32_t)value;
		else if (c == 'S')
			args->seed = value;
		else if (c == 'f')
			args->flush_every = (uint32_t)value;
		else if (c == 'C')
			args->clean = true;
		else
			exit(2);
	}
	if (optind < argc)
		args->path = argv[optind];
	if (!args->cache_bytes)
		args->cache_bytes = PC_MAX(args->key_nr * (args->io_bytes + 512), UINT64_C(64) << 20);
}

int main(int argc, char **argv)
{
	static struct result result;
	struct args args = {
		.key_nr = 4u << 20,
		.spread_bytes = UINT64_C(64) << 30,
		.io_bytes = 512,
		.block_bytes = 512,
		.rounds = 5,
		.seed = 1,
	};
	struct saved saved[SAVED_MAX];
	char path[64];

	(void)snprintf(path, sizeof(path), "/dev/shm/pcache-bench-open-%ld", (long)getpid());
	args.path = path;
	(void)setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 0);
	take_args(argc, argv, &args);
	make_cache(&args, saved);
	for (uint32_t round = 0; round < args.rounds; round++) {
		run_parts(&args, &result, round);
		run_whole(&args, saved, &result, round);
	}
	(void)unlink(args.path);
	print_result(&args, &result);
	return 0;
}
