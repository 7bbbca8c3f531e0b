/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How fast a drain is, against what the file under it can take.
 *
 *     job      random dirty blocks of 4 KiB in the cache; pcache_drain(), the fdatasync of the backing included
 *     limit    the same blocks, sorted, neighbours merged, written to the same file by bare io_uring from one buffer; then fdatasync
 *
 * Slices of both alternate, and each pair has drawn its own blocks. What is dirty is written to the cache outside of the measured time. A ratio is limit / job of one pair; the
 * table gives medians and the spread.
 *
 *     pcache-bench-drain --dir DIR [--cache FILE] [--volume MIB] [--dirty MIB] [--slices N] [--ordering batch|strict] [--buffered] [--block BYTES] [--seed N]
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bench/drain_limit.h"
#include "pcache/pcache.h"

#define UNIT_BYTES UINT64_C(4096)
#define SLICE_MAX 64u

struct bench {
	const char *dir;
	char cache_path[300];
	char backing_path[300];
	uint64_t volume_bytes;
	uint64_t dirty_bytes;
	uint64_t seed;
	uint32_t slice_nr;
	uint32_t block_bytes;
	bool strict;
	bool buffered;
	struct pcache *cache;
	uint32_t *units; /* of this slice, in the order in which they are written to the cache */
	uint8_t *is_dirty; /* by unit */
};

struct figures {
	double mb_s[SLICE_MAX];
	double cpu_ns[SLICE_MAX]; /* per unit */
};

static void must(int rc, const char *what)
{
	if (rc == 0)
		return;
	(void)fprintf(stderr, "%s: %d\n", what, rc);
	exit(1);
}

static double now_s(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static double cpu_s(void)
{
	struct rusage usage;

	(void)getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static uint64_t draw(struct bench *bench)
{
	bench->seed ^= bench->seed << 13;
	bench->seed ^= bench->seed >> 7;
	bench->seed ^= bench->seed << 17;
	return bench->seed;
}

static uint64_t unit_nr(const struct bench *bench)
{
	return bench->dirty_bytes / UNIT_BYTES;
}

/* Distinct units in random order: the front of a shuffled volume. */
static void draw_units(struct bench *bench)
{
	uint64_t volume_nr = bench->volume_bytes / UNIT_BYTES;

	for (uint64_t i = 0; i < volume_nr; i++)
		bench->units[i] = (uint32_t)i;
	memset(bench->is_dirty, 0, volume_nr);
	for (uint64_t i = 0; i < unit_nr(bench); i++) {
		uint64_t other = i + draw(bench) % (volume_nr - i);
		uint32_t unit = bench->units[other];

		bench->units[other] = bench->units[i];
		bench->units[i] = unit;
		bench->is_dirty[unit] = 1;
	}
}

/* A file whose blocks all exist, so that both sides overwrite. */
static void make_backing(const struct bench *bench)
{
	static uint8_t buf[1 << 20];
	int fd = open(bench->backing_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	must(fd < 0 ? -errno : 0, "backing");
	memset(buf, 0x5a, sizeof(buf));
	for (uint64_t off = 0; off < bench->volume_bytes; off += sizeof(buf))
		must(pwrite(fd, buf, sizeof(buf), (off_t)off) == sizeof(buf) ? 0 : -EIO, "backing");
	must(fsync(fd), "backing");
	/* A direct write has to drop what the page cache holds of its place: neither side is to pay for this file having been made. */
	must(-posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), "backing");
	(void)close(fd);
}

static void tell(void *user, int severity, const char *text)
{
	static bool told;

	(void)user, (void)severity;
	if (!told && strncmp(text, "write-back", 10) == 0) {
		(void)printf("# %s\n", text);
		told = true;
	}
}

static void open_cache(struct bench *bench)
{
	uint64_t cache_bytes = bench->dirty_bytes + bench->dirty_bytes / 4 + (UINT64_C(64) << 20);
	struct pcache_backing *backing = NULL;
	struct pcache_config *config = NULL;

	must(pcache_config_new(&config), "config");
	must(pcache_config_set(config, PCACHE_OPT_CACHE_BYTES, cache_bytes), "cache_bytes");
	must(pcache_config_set(config, PCACHE_OPT_BLOCK_BYTES, bench->block_bytes), "block_bytes");
	must(pcache_config_set(config, PCACHE_OPT_GC_PERCENT, 90), "gc_percent");
	must(pcache_config_set(config, PCACHE_OPT_ORDERING, bench->strict ? PCACHE_ORDERING_STRICT : PCACHE_ORDERING_BATCH),
	     "ordering");
	must(pcache_config_set(config, PCACHE_OPT_WRITEBACK_DELAY_MS, 3600000), "writeback_delay_ms");
	must(pcache_config_set_log(config, tell, NULL), "log");
	must(pcache_backing_file_new(bench->backing_path, bench->buffered ? PCACHE_BACKING_FILE_BUFFERED : 0, &backing),
	     "backing");
	(void)unlink(bench->cache_path);
	must(pcache_format(bench->cache_path, config, backing), "format");
	must(pcache_open(bench->cache_path, config, backing, &bench->cache), "open");
	pcache_config_free(config);
}

static void run_job(struct bench *bench, double *out_mb_s, double *out_cpu_ns)
{
	static _Alignas(4096) uint8_t buf[UNIT_BYTES];
	double start, cpu;

	/* A new cache for each slice, so that all begin alike. */
	open_cache(bench);
	for (uint64_t i = 0; i < unit_nr(bench); i++) {
		memset(buf, (int)draw(bench), sizeof(buf));
		must(pcache_write(bench->cache, buf, bench->units[i] * UNIT_BYTES, UNIT_BYTES, 0), "write");
	}
	start = now_s();
	cpu = cpu_s();
	must(pcache_drain(bench->cache, NULL, NULL), "drain");
	*out_mb_s = (double)bench->dirty_bytes / 1e6 / (now_s() - start);
	*out_cpu_ns = (cpu_s() - cpu) * 1e9 / (double)unit_nr(bench);
	must(pcache_close(bench->cache), "close");
	(void)unlink(bench->cache_path);
}

static void run_limit(const struct bench *bench, double *out_mb_s, double *out_cpu_ns)
{
	struct drain_limit limit = { .path = bench->backing_path,
				     .is_dirty = bench->is_dirty,
				     .unit_nr = bench->volume_bytes / UNIT_BYTES,
				     .unit_bytes = UNIT_BYTES,
				     .buffered = bench->buffered };
	double start, cpu;

	must(drain_limit_open(&limit), "limit");
	start = now_s();
	cpu = cpu_s();
	must(drain_limit_write(&limit), "limit");
	*out_mb_s = (double)bench->dirty_bytes / 1e6 / (now_s() - start);
	*out_cpu_ns = (cpu_s() - cpu) * 1e9 / (double)unit_nr(bench);
	drain_limit_close(&limit);
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void print_row(const char *name, const char *unit, const double *values, uint32_t nr)
{
	double sorted[SLICE_MAX];

	memcpy(sorted, values, nr * sizeof(*values));
	qsort(sorted, nr, sizeof(*sorted), compare);
	(void)printf("%-28s %10.3f %10.3f .. %10.3f  %s\n", name, sorted[nr / 2], sorted[0], sorted[nr - 1], unit);
}

static void run(struct bench *bench)
{
	struct figures job, limit;
	double ratio[SLICE_MAX];

	for (uint32_t i = 0; i < bench->slice_nr; i++) {
		draw_units(bench);
		/* Who is first changes, too. */
		if (i % 2)
			run_limit(bench, &limit.mb_s[i], &limit.cpu_ns[i]);
		run_job(bench, &job.mb_s[i], &job.cpu_ns[i]);
		if (i % 2 == 0)
			run_limit(bench, &limit.mb_s[i], &limit.cpu_ns[i]);
		ratio[i] = job.mb_s[i] / limit.mb_s[i];
	}
	(void)printf("%-28s %10s %10s .. %10s\n", "", "median", "min", "max");
	print_row("limit", "MB/s", limit.mb_s, bench->slice_nr);
	print_row(bench->strict ? "drain, strict" : "drain, batch", "MB/s", job.mb_s, bench->slice_nr);
	print_row("ratio", "", ratio, bench->slice_nr);
	print_row("limit, CPU per 4 KiB", "ns", limit.cpu_ns, bench->slice_nr);
	print_row("drain, CPU per 4 KiB", "ns", job.cpu_ns, bench->slice_nr);
}

static void parse(struct bench *bench, int argc, char **argv)
{
	static const struct option options[] = {
		{ "dir", required_argument, NULL, 'd' },      { "cache", required_argument, NULL, 'c' },
		{ "volume", required_argument, NULL, 'v' },   { "dirty", required_argument, NULL, 'n' },
		{ "slices", required_argument, NULL, 's' },   { "ordering", required_argument, NULL, 'o' },
		{ "buffered", no_argument, NULL, 'b' },	      { "block", required_argument, NULL, 'k' },
		{ "seed", required_argument, NULL, 'r' },     { NULL, 0, NULL, 0 },
	};
	int id;

	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (id == 'd')
			bench->dir = optarg;
		else if (id == 'c')
			(void)snprintf(bench->cache_path, sizeof(bench->cache_path), "%s", optarg);
		else if (id == 'v')
			bench->volume_bytes = strtoull(optarg, NULL, 0) << 20;
		else if (id == 'n')
			bench->dirty_bytes = strtoull(optarg, NULL, 0) << 20;
		else if (id == 's')
			bench->slice_nr = (uint32_t)strtoul(optarg, NULL, 0);
		else if (id == 'o')
			bench->strict = strcmp(optarg, "strict") == 0;
		else if (id == 'b')
			bench->buffered = true;
		else if (id == 'k')
			bench->block_bytes = (uint32_t)strtoul(optarg, NULL, 0);
		else if (id == 'r')
			bench->seed = strtoull(optarg, NULL, 0);
		else
			exit(2);
	}
	if (!bench->dir || bench->slice_nr < 1 || bench->slice_nr > SLICE_MAX ||
	    bench->dirty_bytes > bench->volume_bytes || bench->dirty_bytes == 0 || bench->seed == 0) {
		(void)fprintf(stderr, "%s: see the head of the source\n", argv[0]);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct bench bench = { .volume_bytes = UINT64_C(4) << 30,
			       .dirty_bytes = UINT64_C(1) << 30,
			       .slice_nr = 5,
			       .block_bytes = 512,
			       .seed = 1 };

	(void)snprintf(bench.cache_path, sizeof(bench.cache_path), "/dev/shm/pcache-bench-drain.%d", (int)getpid());
	parse(&bench, argc, argv);
	(void)setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 1);
	(void)snprintf(bench.backing_path, sizeof(bench.backing_path), "%.250s/pcache-bench-drain.%d", bench.dir, (int)getpid());
	bench.units = calloc(bench.volume_bytes / UNIT_BYTES, sizeof(*bench.units));
	bench.is_dirty = calloc(bench.volume_bytes / UNIT_BYTES, 1);
	if (!bench.units || !bench.is_dirty)
		return 1;
	(void)printf("# seed %" PRIu64 ": %" PRIu64 " MiB of random 4 KiB in %" PRIu64 " MiB, %u slices, cache blocks of %u bytes\n",
		     bench.seed, bench.dirty_bytes >> 20, bench.volume_bytes >> 20, bench.slice_nr, bench.block_bytes);
	make_backing(&bench);
	run(&bench);
	(void)unlink(bench.backing_path);
	free(bench.units);
	free(bench.is_dirty);
	return 0;
}
