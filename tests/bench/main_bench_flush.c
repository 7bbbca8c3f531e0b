/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-bench-flush: what a flush costs, at both granularities, next to its limit in the same run.
 *
 *   line     cache line granularity (DRAM in /dev/shm stands in for persistent memory): random 4 KiB writes with and without a flush after each. Limit: one
 *            fenced store of a cache line.
 *   page1    page granularity, on a disk: write 4 KiB and flush. Limit: a store of 4 KiB to a mapping and msync of it.
 *   page64   64 writes of 4 KiB and a flush. Limit: 64 times pwrite of 4 KiB and fdatasync.
 *   group    page1 with 1, 2 and 8 threads; what counts is how many syncs of the file an operation needs.
 *   behind   page1 while dirty data is written back to a file beside the cache. Limit: the same without.
 *
 * Slices of job and limit take turns; the median of the slices counts, with the least and the greatest. Between two slices everything is drained, so a job
 * pays for its own work and not for the one before. Syncs are counted in the handle of the media, not by tracing.
 *
 * The file of the limit is written in full before, like a cache file that is in use for a while, and its pages are in memory; so are those of the cache.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api/internal.h"
#include "core/cache.h"
#include "media/handle.h"
#include "pcache/pcache.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define OP_BYTES 4096u
#define SLICES_MAX 203u
#define LINE_SLICES 15u /* times as many */
#define THREADS_MAX 8u
#define LATENCIES_MAX 65536u

static struct {
	const char *jobs;
	const char *memory_dir;
	const char *disk_dir;
	uint32_t slices;
	double scale; /* of the operations per slice */
	uint32_t batch; /* 1: ordering batch */
	int json;
} args = { .jobs = "line,page1,page64,group,behind",
	   .memory_dir = "/dev/shm",
	   .disk_dir = "/tmp",
	   .slices = 7,
	   .scale = 1.0 };

static uint64_t rng_state = 88172645463325252u;
static _Atomic uint64_t sync_nr;
static bool first_result = true;

static _Noreturn void die(const char *what, int rc)
{
	fprintf(stderr, "pcache-bench-flush: %s: %s (%d)\n", what,
		rc < 0 && rc >= -4095 ? strerror(-rc) : pcache_strerror(rc), rc);
	exit(1);
}

static uint64_t next_random(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

static int counted_sync(int fd)
{
	atomic_fetch_add(&sync_nr, 1);
	return fdatasync(fd);
}

/* ---- figures ------------------------------------------------------------------------------------------------------- */

struct samples {
	double ns_per_op[SLICES_MAX];
	uint32_t nr;
	uint64_t *latency_ns; /* of whole groups */
	uint64_t latency_nr;
	uint64_t ops;
	uint64_t syncs;
};

static int compare_doubles(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return left < right ? -1 : left > right;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return left < right ? -1 : left > right;
}

static double median(const struct samples *samples, double *out_min, double *out_max)
{
	double sorted[SLICES_MAX];

	memcpy(sorted, samples->ns_per_op, samples->nr * sizeof(*sorted));
	qsort(sorted, samples->nr, sizeof(*sorted), compare_doubles);
	*out_min = sorted[0];
	*out_max = sorted[samples->nr - 1];
	return sorted[samples->nr / 2];
}

static double quantile_us(const struct samples *samples, double q)
{
	if (samples->latency_nr == 0)
		return 0;
	return (double)samples->latency_ns[(uint64_t)(q * (double)(samples->latency_nr - 1))] / 1000;
}

static void note_latency(struct samples *samples, uint64_t ns)
{
	if (samples->latency_ns && samples->latency_nr < LATENCIES_MAX)
		samples->latency_ns[samples->latency_nr++] = ns;
}

static void report_line(const char *job, const char *what, struct samples *samples)
{
	double min, max, mid = median(samples, &min, &max);
	double syncs = samples->ops ? (double)samples->syncs / (double)samples->ops : 0;

	if (samples->latency_nr)
		qsort(samples->latency_ns, samples->latency_nr, sizeof(uint64_t), compare_u64);
	if (args.json) {
		printf("%s\n  {\"job\": \"%s\", \"what\": \"%s\", \"ns_per_op\": %.1f, \"min\": %.1f, \"max\": %.1f, "
		       "\"slices\": %u, \"syncs_per_op\": %.4f, "
		       "\"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f}",
		       first_result ? "" : ",", job, what, mid, min, max, samples->nr, syncs, quantile_us(samples, .5),
		       quantile_us(samples, .99), quantile_us(samples, .999));
		first_result = false;
		return;
	}
	printf("%-7s %-24s %10.1f ns/op (%.1f to %.1f)", job, what, mid, min, max);
	if (samples->syncs)
		printf("  %.3f syncs/op", syncs);
	if (samples->latency_nr)
		printf("  p50 %.0f p99 %.0f p99.9 %.0f us", quantile_us(samples, .5), quantile_us(samples, .99),
		       quantile_us(samples, .999));
	putchar('\n');
}

/* The median of the ratios of neighbouring slices: what both met counts for neither. */
static void report_ratio(const char *job, const char *what, const struct samples *over, const struct samples *under)
{
	struct samples ratios = { .nr = over->nr };
	double min, max, mid;

	for (uint32_t i = 0; i < over->nr; i++)
		ratios.ns_per_op[i] = over->ns_per_op[i] / under->ns_per_op[i];
	mid = median(&ratios, &min, &max);
	if (args.json) {
		printf(",\n  {\"job\": \"%s\", \"what\": \"%s\", \"ratio\": %.3f, \"min\": %.3f, \"max\": %.3f}", job,
		       what, mid, min, max);
		return;
	}
	printf("%-7s %-24s %10.2f (%.2f to %.2f)\n", job, what, mid, min, max);
}

static void samples_init(struct samples *samples, bool latencies)
{
	memset(samples, 0, sizeof(*samples));
	if (latencies)
		samples->latency_ns = malloc(LATENCIES_MAX * sizeof(uint64_t));
}

static void samples_add(struct samples *samples, uint64_t begin_ns, uint64_t syncs_before, uint64_t ops)
{
	samples->ns_per_op[samples->nr++] = (double)(pc_monotonic_ns() - begin_ns) / (double)ops;
	samples->syncs += atomic_load(&sync_nr) - syncs_before;
	samples->ops += ops;
}

/* ---- a cache and the file of the limit ------------------------------------------------------------------------------- */

struct place {
	struct pcache *cache;
	uint64_t size_bytes; /* working set */
	uint8_t *limit_map;
	uint64_t limit_bytes;
	uint64_t limit_at;
	int limit_fd;
	_Alignas(64) uint8_t buf[OP_BYTES];
};

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

static struct pcache_backing *new_backing(const char *path, uint64_t size_bytes)
{
	const struct pcache_backing_ops ops = {
		.struct_bytes = sizeof(ops), .size_bytes = size_bytes, .read = null_read, .write = null_write
	};
	struct pcache_backing *backing;
	int rc;

	if (path) {
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

		if (fd < 0 || posix_fallocate(fd, 0, (off_t)size_bytes) || close(fd))
			die(path, -errno);
		rc = pcache_backing_file_new(path, 0, &backing);
		(void)unlink(path);
	} else {
		rc = pcache_backing_new(&ops, NULL, &backing);
	}
	if (rc)
		die("backing", rc);
	return backing;
}

static void open_cache(struct place *place, const char *dir, uint64_t cache_bytes, const char *backing_path,
		       uint32_t delay_ms)
{
	struct pcache_backing *backing = new_backing(backing_path, place->size_bytes);
	struct pcache_config *config;
	char path[512];
	int rc = pcache_config_new(&config);

	if (rc)
		die("config", rc);

	(void)snprintf(path, sizeof(path), "%s/pcache-bench-flush-%ld", dir, (long)getpid());
	(void)pcache_config_set(config, PCACHE_OPT_CACHE_BYTES, cache_bytes);
	(void)pcache_config_set(config, PCACHE_OPT_BLOCK_BYTES, 4096);
	(void)pcache_config_set(config, PCACHE_OPT_WRITEBACK_DELAY_MS, delay_ms);
	if (args.batch)
		(void)pcache_config_set(config, PCACHE_OPT_ORDERING, PCACHE_ORDERING_BATCH);
	rc = pcache_format(path, config, backing);
	if (rc)
		die(path, rc);
	rc = pcache_open(path, config, backing, &place->cache);
	(void)unlink(path);
	if (rc)
		die(path, rc);
	pcache_config_free(config);
	pc_media_file_of(place->cache->media)->sync_fn = counted_sync;
#ifdef MADV_POPULATE_WRITE
	/* Page faults are not what is measured. A file on a disk is as format leaves it. */
	if (place->cache->media->granularity != PC_GRAN_PAGE)
		(void)madvise((void *)(uintptr_t)place->cache->media->base, place->cache->media->len_bytes,
			      MADV_POPULATE_WRITE);
#endif
	memset(place->buf, 0x5a, sizeof(place->buf));
}

static void open_limit(struct place *place, const char *dir, uint64_t bytes)
{
	static const uint8_t zeroes[OP_BYTES];
	volatile uint8_t sink;
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/pcache-bench-flush-limit-%ld", dir, (long)getpid());
	place->limit_fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	(void)unlink(path);
	if (place->limit_fd < 0 || posix_fallocate(place->limit_fd, 0, (off_t)bytes))
		die(path, -errno);
	/* In small pieces, or the kernel would keep it in large folios, and msync of a page would write all of one: the limit must not suffer from that. */
	for (uint64_t off = 0; off < bytes; off += OP_BYTES) {
		if (pwrite(place->limit_fd, zeroes, OP_BYTES, (off_t)off) != OP_BYTES)
			die(path, -errno);
	}
	if (fsync(place->limit_fd))
		die(path, -errno);
	place->limit_map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, place->limit_fd, 0);
	if (place->limit_map == MAP_FAILED)
		die(path, -errno);
	place->limit_bytes = bytes;
	for (uint64_t off = 0; off < bytes; off += OP_BYTES)
		sink = place->limit_map[off];
	(void)sink;
}

static void settle(struct place *place)
{
	int rc = pcache_drain(place->cache, NULL, NULL);

	if (rc)
		die("drain", rc);
}

static void place_close(struct place *place)
{
	int rc = pcache_close(place->cache);

	if (rc)
		die("close", rc);
	if (place->limit_map) {
		(void)munmap(place->limit_map, place->limit_bytes);
		(void)close(place->limit_fd);
	}
}

/* ---- jobs ---------------------------------------------------------------------------------------------------------- */

/* group_nr times: write_nr writes of 4 KiB to random places, and a flush. */
static void job_write_flush(struct place *place, struct samples *samples, uint64_t group_nr, uint32_t write_nr,
			    bool flush)
{
	uint64_t begin_ns = pc_monotonic_ns(), before = atomic_load(&sync_nr), last_ns = begin_ns;

	for (uint64_t i = 0; i < group_nr; i++) {
		int rc = 0;

		for (uint32_t k = 0; k < write_nr && !rc; k++)
			rc = pcache_write(place->cache, place->buf,
					  next_random() % (place->size_bytes / OP_BYTES) * OP_BYTES, OP_BYTES, 0);
		if (!rc && flush)
			rc = pcache_flush(place->cache);
		if (rc)
			die("write", rc);
		if (samples->latency_ns) {
			uint64_t now_ns = pc_monotonic_ns();

			note_latency(samples, now_ns - last_ns);
			last_ns = now_ns;
		}
	}
	samples_add(samples, begin_ns, before, group_nr * write_nr);
}

/* Consecutive pages, as a log stores them. */
static uint64_t limit_next(struct place *place)
{
	place->limit_at = (place->limit_at + OP_BYTES) % place->limit_bytes;
	return place->limit_at;
}

static void limit_msync(struct place *place, struct samples *samples, uint64_t nr)
{
	uint64_t begin_ns = pc_monotonic_ns(), last_ns = begin_ns;

	for (uint64_t i = 0; i < nr; i++) {
		uint8_t *to = place->limit_map + limit_next(place);
		uint64_t now_ns;

		memcpy(to, place->buf, OP_BYTES);
		if (msync(to, OP_BYTES, MS_SYNC))
			die("msync", -errno);
		now_ns = pc_monotonic_ns();
		note_latency(samples, now_ns - last_ns);
		last_ns = now_ns;
	}
	samples_add(samples, begin_ns, atomic_load(&sync_nr), nr);
}

static void limit_pwrite(struct place *place, struct samples *samples, uint64_t nr)
{
	uint64_t begin_ns = pc_monotonic_ns();

	for (uint64_t i = 0; i < nr; i++) {
		if (pwrite(place->limit_fd, place->buf, OP_BYTES, (off_t)limit_next(place)) != OP_BYTES ||
		    fdatasync(place->limit_fd))
			die("pwrite and fdatasync", -errno);
	}
	samples_add(samples, begin_ns, atomic_load(&sync_nr), nr);
}

static void limit_fence(struct place *place, struct samples *samples, uint64_t nr)
{
	uint64_t begin_ns = pc_monotonic_ns();

	for (uint64_t i = 0; i < nr; i++) {
		uint8_t *to = place->limit_map + (i * 64) % place->limit_bytes;
#if defined(__x86_64__)
		for (int k = 0; k < 64; k += 16)
			_mm_stream_si128((__m128i *)(void *)(to + k),
					 _mm_load_si128((const __m128i *)(const void *)(place->buf + k)));
		_mm_sfence(); /* Order: one store before the next, which is what is measured. */
#else
		memcpy(to, place->buf, 64);
		__asm__ volatile("dc cvac, %0\n\tdsb ish" : : "r"(to) : "memory");
#endif
	}
	samples_add(samples, begin_ns, atomic_load(&sync_nr), nr);
}

/* ---- what is compared with what -------------------------------------------------------------------------------------- */

static uint64_t scaled(double ops)
{
	uint64_t nr = (uint64_t)(ops * args.scale);

	return nr ? nr : 1;
}

static void run_line(void)
{
	struct place place = { .size_bytes = UINT64_C(256) << 20 };
	struct samples write, flush, fence, added;
	uint32_t slice_nr = PC_MIN(args.slices * LINE_SLICES, SLICES_MAX - 2);

	samples_init(&write, false);
	samples_init(&flush, false);
	samples_init(&fence, false);
	samples_init(&added, false);
	(void)setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 1);
	open_cache(&place, args.memory_dir, UINT64_C(1) << 30, NULL, 3600000);
	open_limit(&place, args.memory_dir, UINT64_C(64) << 20);
	/* Many short ones: what another process takes from one of them does not show in the median. */
	for (uint32_t i = 0; i <= slice_nr; i++) {
		if (i == 1)
			write.nr = flush.nr = fence.nr = 0; /* the first was to warm up */
		limit_fence(&place, &fence, scaled(20000));
		job_write_flush(&place, &write, scaled(2048), 1, false);
		settle(&place);
		job_write_flush(&place, &flush, scaled(2048), 1, true);
		settle(&place);
	}
	added.nr = write.nr;
	for (uint32_t i = 0; i < write.nr; i++)
		added.ns_per_op[i] = flush.ns_per_op[i] - write.ns_per_op[i];
	report_line("line", "limit: fenced line", &fence);
	report_line("line", "write", &write);
	report_line("line", "write + flush", &flush);
	report_line("line", "the flush adds", &added);
	report_ratio("line", "added / fenced line", &added, &fence);
	place_close(&place);
	(void)unsetenv("PMEM2_FORCE_GRANULARITY");
}

static void run_page(bool group)
{
	struct place place = { .size_bytes = UINT64_C(64) << 20 };
	struct samples job, limit;

	samples_init(&job, true);
	samples_init(&limit, !group);
	open_cache(&place, args.disk_dir, UINT64_C(512) << 20, NULL, 3600000);
	open_limit(&place, args.disk_dir, UINT64_C(256) << 20);
	for (uint32_t i = 0; i <= args.slices; i++) {
		if (i == 1) {
			job.nr = limit.nr = 0;
			job.latency_nr = limit.latency_nr = job.syncs = job.ops = 0;
		}
		if (group) {
			limit_pwrite(&place, &limit, scaled(640));
			job_write_flush(&place, &job, scaled(100), 64, true);
		} else {
			limit_msync(&place, &limit, scaled(640));
			job_write_flush(&place, &job, scaled(640), 1, true);
		}
		settle(&place);
	}
	if (group) {
		report_line("page64", "limit: pwrite+fdatasync", &limit);
		report_line("page64", "64 writes + flush", &job);
		report_ratio("page64", "limit / job (rate)", &limit, &job);
	} else {
		report_line("page1", "limit: mmap + msync", &limit);
		report_line("page1", "write + flush", &job);
		report_ratio("page1", "job / limit (time)", &job, &limit);
	}
	place_close(&place);
}

struct worker {
	pthread_t thread;
	struct place *place;
	uint64_t nr;
	uint64_t seed;
};

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	uint64_t block_nr = worker->place->size_bytes / OP_BYTES;

	for (uint64_t i = 0; i < worker->nr; i++) {
		uint64_t off = (worker->seed + i * 7919) % block_nr * OP_BYTES;
		int rc = pcache_write(worker->place->cache, worker->place->buf, off, OP_BYTES, 0);

		if (!rc)
			rc = pcache_flush(worker->place->cache);
		if (rc)
			die("write", rc);
	}
	return NULL;
}

static void job_threads(struct place *place, struct samples *samples, uint32_t thread_nr, uint64_t nr)
{
	uint64_t begin_ns = pc_monotonic_ns(), before = atomic_load(&sync_nr);
	struct worker workers[THREADS_MAX];

	for (uint32_t i = 0; i < thread_nr; i++) {
		workers[i] = (struct worker){ .place = place, .nr = nr / thread_nr, .seed = next_random() >> 1 };
		if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]))
			die("thread", -EAGAIN);
	}
	for (uint32_t i = 0; i < thread_nr; i++)
		(void)pthread_join(workers[i].thread, NULL);
	samples_add(samples, begin_ns, before, nr / thread_nr * thread_nr);
}

static void run_group(void)
{
	static const uint32_t thread_nrs[] = { 1, 2, THREADS_MAX };
	struct place place = { .size_bytes = UINT64_C(64) << 20 };
	struct samples samples[3];

	open_cache(&place, args.disk_dir, UINT64_C(512) << 20, NULL, 3600000);
	for (uint32_t k = 0; k < 3; k++)
		samples_init(&samples[k], false);
	for (uint32_t i = 0; i <= args.slices; i++) {
		for (uint32_t k = 0; k < 3; k++) {
			if (i == 1)
				samples[k].nr = 0, samples[k].ops = samples[k].syncs = 0;
			job_threads(&place, &samples[k], thread_nrs[k], scaled(800));
			settle(&place);
		}
	}
	report_line("group", "1 thread", &samples[0]);
	report_line("group", "2 threads", &samples[1]);
	report_line("group", "8 threads", &samples[2]);
	report_ratio("group", "2 threads / 1 (rate)", &samples[0], &samples[1]);
	report_ratio("group", "8 threads / 1 (rate)", &samples[0], &samples[2]);
	place_close(&place);
}

static void run_behind(void)
{
	struct place place = { .size_bytes = UINT64_C(64) << 20 }, idle = { .size_bytes = UINT64_C(64) << 20 };
	struct samples busy, calm;
	char path[512];

	samples_init(&busy, true);
	samples_init(&calm, true);
	(void)snprintf(path, sizeof(path), "%s/pcache-bench-flush-backing-%ld", args.disk_dir, (long)getpid());
	open_cache(&place, args.disk_dir, UINT64_C(512) << 20, path, 0);
	open_cache(&idle, args.disk_dir, UINT64_C(512) << 20, NULL, 3600000);
	for (uint32_t i = 0; i <= args.slices; i++) {
		if (i == 1) {
			busy.nr = calm.nr = 0;
			busy.latency_nr = calm.latency_nr = busy.ops = busy.syncs = calm.ops = calm.syncs = 0;
		}
		job_write_flush(&place, &busy, scaled(640), 1, true);
		settle(&place);
		job_write_flush(&idle, &calm, scaled(640), 1, true);
		settle(&idle);
	}
	report_line("behind", "without write-back", &calm);
	report_line("behind", "with write-back", &busy);
	report_ratio("behind", "with / without (time)", &busy, &calm);
	place_close(&place);
	place_close(&idle);
}

/* ---- arguments ------------------------------------------------------------------------------------------------------- */

static void usage(FILE *to)
{
	fputs("Usage: pcache-bench-flush [--jobs line,page1,page64,group,behind] [--slices N] [--scale FACTOR] "
	      "[--memory DIR] [--disk DIR]\n"
	      "                          [--batch] [--json]\n"
	      "Measures what a flush costs next to its limit. --batch: ordering batch. --scale: operations per slice. "
	      "Files are made in --memory\n"
	      "(default /dev/shm) and --disk (default /tmp; it must not be a tmpfs), without names.\n",
	      to);
}

static bool has_job(const char *name)
{
	size_t len = strlen(name);

	for (const char *at = args.jobs; (at = strstr(at, name)); at += len) {
		if ((at == args.jobs || at[-1] == ',') && (at[len] == ',' || at[len] == '\0'))
			return true;
	}
	return false;
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "jobs", required_argument, NULL, 'j' },
		{ "slices", required_argument, NULL, 's' },
		{ "scale", required_argument, NULL, 'x' },
		{ "memory", required_argument, NULL, 'm' },
		{ "disk", required_argument, NULL, 'd' },
		{ "batch", no_argument, NULL, 'b' },
		{ "json", no_argument, NULL, 'J' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int id;

	while ((id = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (id) {
		case 'j':
			args.jobs = optarg;
			break;
		case 's':
			args.slices = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'x':
			args.scale = strtod(optarg, NULL);
			break;
		case 'm':
			args.memory_dir = optarg;
			break;
		case 'd':
			args.disk_dir = optarg;
			break;
		case 'b':
			args.batch = 1;
			break;
		case 'J':
			args.json = 1;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
	if (args.slices < 1 || args.slices >= SLICES_MAX || !(args.scale > 0)) {
		usage(stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	if (args.json)
		printf("{\"bench\": \"flush\", \"ordering\": \"%s\", \"results\": [", args.batch ? "batch" : "strict");
	if (has_job("line"))
		run_line();
	if (has_job("page1"))
		run_page(false);
	if (has_job("page64"))
		run_page(true);
	if (has_job("group"))
		run_group();
	if (has_job("behind"))
		run_behind();
	if (args.json)
		printf("\n]}\n");
	return 0;
}
