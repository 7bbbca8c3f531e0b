/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-peers MEMORY-DIR DISK-DIR: the same operations on libpcache, libpmemblk and plain files, in slices that alternate, in one process.
 *
 * A contender is four calls: open, write, read, close. Each write is durable when it returns. Files that are mapped lie in MEMORY-DIR and have got their pages, huge ones where the file
 * system has them, before anything is measured; plain files are tried there and in DISK-DIR. Built and run by run.sh; the library's own build knows nothing of this.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <libpmemblk.h>
#include <pcache/pcache.h>

#define BLOCK_BYTES 4096u
#define SLICE_NS UINT64_C(50000000)
#define WARM_UP_ROUNDS 2u
#define ROUNDS_MAX 200u
#define CONTENDER_NR 6u
#define ARRAY_NR(a) (sizeof(a) / sizeof((a)[0]))

struct options {
	const char *memory_dir, *disk_dir;
	uint64_t size_bytes;
	double seconds;
	bool json;
};

struct contender;
struct contender_ops {
	const char *name;
	bool on_disk;
	bool data_crc; /* libpcache */
	void (*open)(struct contender *contender, const struct options *options);
	void (*write)(struct contender *contender, const void *buf, uint64_t block);
	void (*read)(struct contender *contender, void *buf, uint64_t block);
	void (*close)(struct contender *contender);
};

struct contender {
	const struct contender_ops *ops;
	char path[4096];
	struct pcache *cache;
	PMEMblkpool *pool;
	int fd;
	double ns[ROUNDS_MAX];
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "pcache-peers: %s: %s\n", what, why);
	exit(1);
}

static void must(int err, const char *what)
{
	if (err < 0)
		die(what, pcache_strerror(err));
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void name_file(struct contender *contender, const struct options *options, const char *suffix)
{
	const char *dir = contender->ops->on_disk ? options->disk_dir : options->memory_dir;

	snprintf(contender->path, sizeof(contender->path), "%s/pcache-peers-%ld.%s", dir, (long)getpid(), suffix);
}

/* A file of zeroes whose pages are there, huge ones if the file system gives them to who asks. */
static int make_file(const char *path, uint64_t bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	void *map;

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		die(path, strerror(errno));
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die(path, strerror(errno));
	(void)madvise(map, bytes, MADV_HUGEPAGE);
	memset(map, 0, bytes);
	if (munmap(map, bytes) < 0 || fsync(fd) < 0)
		die(path, strerror(errno));
	return fd;
}

/* ---- libpcache ------------------------------------------------------------------------------------------------------ */

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

static void pcache_contender_open(struct contender *contender, const struct options *options)
{
	const struct pcache_backing_ops ops = {
		.struct_bytes = sizeof(ops), .size_bytes = options->size_bytes, .read = null_read, .write = null_write
	};
	struct pcache_backing *backing;
	struct pcache_config *config;

	name_file(contender, options, contender->ops->data_crc ? "cache" : "cache-no-crc");
	must(pcache_backing_new(&ops, NULL, &backing), "backing");
	must(pcache_config_new(&config), "config");
	must(pcache_config_set(config, PCACHE_OPT_CACHE_BYTES, options->size_bytes * 2), "cache_bytes");
	must(pcache_config_set(config, PCACHE_OPT_DATA_CRC, contender->ops->data_crc), "data_crc");
	must(pcache_config_set(config, PCACHE_OPT_COMMIT, PCACHE_COMMIT_WRITE), "commit");
	/* The others have nothing to do in the background, and this must not do it in their slices. */
	must(pcache_config_set(config, PCACHE_OPT_WRITEBACK_DELAY_MS, 3600000), "writeback_delay_ms");
	must(pcache_format(contender->path, config, backing), contender->path);
	must(pcache_open(contender->path, config, backing, &contender->cache), contender->path);
	pcache_config_free(config);
}

static void pcache_contender_write(struct contender *contender, const void *buf, uint64_t block)
{
	must(pcache_write(contender->cache, buf, block * BLOCK_BYTES, BLOCK_BYTES, 0), "write");
}

static void pcache_contender_read(struct contender *contender, void *buf, uint64_t block)
{
	must(pcache_read(contender->cache, buf, block * BLOCK_BYTES, BLOCK_BYTES, 0), "read");
}

static void pcache_contender_close(struct contender *contender)
{
	must(pcache_close(contender->cache), "close");
}

/* ---- libpmemblk ----------------------------------------------------------------------------------------------------- */

static void pmemblk_contender_open(struct contender *contender, const struct options *options)
{
	/* A pool has some more blocks than it shows, and a map of them. */
	uint64_t bytes = options->size_bytes + options->size_bytes / 8 + (UINT64_C(64) << 20);

	name_file(contender, options, "pmemblk");
	close(make_file(contender->path, bytes));
	contender->pool = pmemblk_create(contender->path, BLOCK_BYTES, 0, 0600);
	if (!contender->pool)
		die(contender->path, pmemblk_errormsg());
	if (pmemblk_nblock(contender->pool) * BLOCK_BYTES < options->size_bytes)
		die(contender->path, "the pool is too small");
}

static void pmemblk_contender_write(struct contender *contender, const void *buf, uint64_t block)
{
	if (pmemblk_write(contender->pool, buf, (long long)block) < 0)
		die("pmemblk_write", pmemblk_errormsg());
}

static void pmemblk_contender_read(struct contender *contender, void *buf, uint64_t block)
{
	if (pmemblk_read(contender->pool, buf, (long long)block) < 0)
		die("pmemblk_read", pmemblk_errormsg());
}

static void pmemblk_contender_close(struct contender *contender)
{
	pmemblk_close(contender->pool);
}

/* ---- a plain file --------------------------------------------------------------------------------------------------- */

static void file_contender_open(struct contender *contender, const struct options *options)
{
	name_file(contender, options, "file");
	contender->fd = make_file(contender->path, options->size_bytes);
}

static void file_contender_write(struct contender *contender, const void *buf, uint64_t block)
{
	if (pwrite(contender->fd, buf, BLOCK_BYTES, (off_t)(block * BLOCK_BYTES)) != BLOCK_BYTES ||
	    fdatasync(contender->fd) < 0)
		die(contender->path, strerror(errno));
}

static void file_contender_read(struct contender *contender, void *buf, uint64_t block)
{
	if (pread(contender->fd, buf, BLOCK_BYTES, (off_t)(block * BLOCK_BYTES)) != BLOCK_BYTES)
		die(contender->path, strerror(errno));
}

static void file_contender_close(struct contender *contender)
{
	close(contender->fd);
}

#define PCACHE_CALLS \
	.open = pcache_contender_open, .write = pcache_contender_write, .read = pcache_contender_read, \
	.close = pcache_contender_close
#define FILE_CALLS \
	.open = file_contender_open, .write = file_contender_write, .read = file_contender_read, \
	.close = file_contender_close

static const struct contender_ops contenders_ops[] = {
	{ .name = "libpcache", .data_crc = true, PCACHE_CALLS },
	{ .name = "libpcache, no data CRC", PCACHE_CALLS },
	{ .name = "libpmemblk",
	  .open = pmemblk_contender_open,
	  .write = pmemblk_contender_write,
	  .read = pmemblk_contender_read,
	  .close = pmemblk_contender_close },
	{ .name = "pwrite + fdatasync, memory", FILE_CALLS },
	{ .name = "pwrite + fdatasync, disk", .on_disk = true, FILE_CALLS },
};
_Static_assert(ARRAY_NR(contenders_ops) <= CONTENDER_NR, "room for all");

/* ---- measuring ------------------------------------------------------------------------------------------------------- */

static const struct job {
	const char *name;
	bool random;
	uint32_t read_percent;
} jobs[] = {
	{ "randwrite", true, 0 },  { "seqwrite", false, 0 }, { "randread", true, 100 },
	{ "seqread", false, 100 }, { "mixed", true, 70 },
};

struct stream {
	uint64_t random, cursor, block_nr;
	uint8_t *buf;
};

static uint64_t next_random(struct stream *stream)
{
	stream->random ^= stream->random << 13;
	stream->random ^= stream->random >> 7;
	stream->random ^= stream->random << 17;
	return stream->random;
}

static double run_slice(struct contender *contender, const struct job *job, struct stream *stream)
{
	uint64_t begin_ns = now_ns(), ops = 0, ns;

	do {
		for (unsigned int i = 0; i < (contender->ops->on_disk && job->read_percent < 100 ? 1 : 16);
		     i++, ops++) {
			uint64_t random = next_random(stream);
			uint64_t block = (job->random ? random >> 16 : stream->cursor++) % stream->block_nr;

			memcpy(stream->buf, &random, sizeof(random));
			if (random % 100 < job->read_percent)
				contender->ops->read(contender, stream->buf, block);
			else
				contender->ops->write(contender, stream->buf, block);
		}
		ns = now_ns() - begin_ns;
	} while (ns < SLICE_NS);
	return (double)ns / (double)ops;
}

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return a < b ? -1 : a > b;
}

static void print_row(const struct options *options, const struct job *job, const struct contender *contender,
		      uint32_t round_nr, double own_ns, bool first)
{
	double ns = contender->ns[round_nr / 2];

	if (options->json)
		printf("%s\n  {\"job\": \"%s\", \"contender\": \"%s\", \"ns_per_op\": %.1f, \"ns_per_op_min\": %.1f, "
		       "\"ns_per_op_max\": %.1f, \"libpcache_is_faster_by\": %.3f}",
		       first ? "" : ",", job->name, contender->ops->name, ns, contender->ns[0],
		       contender->ns[round_nr - 1], ns / own_ns);
	else
		printf("  %-28s %10.0f ns  (%.0f to %.0f)%*s%8.2f x\n", contender->ops->name, ns, contender->ns[0],
		       contender->ns[round_nr - 1],
		       24 - snprintf(NULL, 0, "(%.0f to %.0f)", contender->ns[0], contender->ns[round_nr - 1]), "",
		       ns / own_ns);
}

static void run_job(const struct options *options, const struct job *job, struct contender *contenders,
		    struct stream *stream, bool first)
{
	uint32_t round_nr = (uint32_t)(options->seconds * 1e9 / (double)(SLICE_NS * ARRAY_NR(contenders_ops))), round;
	double own_ns;
	size_t i;

	round_nr = round_nr < 5 ? 5 : round_nr > ROUNDS_MAX ? ROUNDS_MAX : round_nr;
	for (round = 0; round < WARM_UP_ROUNDS + round_nr; round++) {
		for (i = 0; i < ARRAY_NR(contenders_ops); i++) {
			double ns = run_slice(&contenders[i], job, stream);

			contenders[i].ns[round < WARM_UP_ROUNDS ? 0 : round - WARM_UP_ROUNDS] = ns;
		}
	}
	if (!options->json)
		printf("\n%s of 4 KiB, %u slices each%*stime of it to libpcache's\n", job->name, round_nr,
		       (int)(40 - strlen(job->name)), "");
	for (i = 0; i < ARRAY_NR(contenders_ops); i++)
		qsort(contenders[i].ns, round_nr, sizeof(double), compare);
	own_ns = contenders[0].ns[round_nr / 2];
	for (i = 0; i < ARRAY_NR(contenders_ops); i++)
		print_row(options, job, &contenders[i], round_nr, own_ns, first && i == 0);
	fflush(stdout);
}

static void fill(struct contender *contender, struct stream *stream)
{
	uint64_t block;

	/* On a disk, blocks that were allocated and zeroed are there. */
	for (block = 0; block < stream->block_nr && !contender->ops->on_disk; block++) {
		uint64_t random = next_random(stream);

		memcpy(stream->buf, &random, sizeof(random));
		contender->ops->write(contender, stream->buf, block);
	}
}

static void parse(int argc, char **argv, struct options *options)
{
	int i = 1;

	for (; i < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "--json") == 0)
			options->json = true;
		else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
			options->seconds = strtod(argv[++i], NULL);
		else if (strcmp(argv[i], "--size-mib") == 0 && i + 1 < argc)
			options->size_bytes = strtoull(argv[++i], NULL, 10) << 20;
		else
			die(argv[i],
			    "not known; usage: pcache-peers [--json] [--seconds N] [--size-mib N] MEMORY-DIR DISK-DIR");
	}
	if (i + 2 != argc || options->size_bytes == 0 || !(options->seconds > 0))
		die("usage", "pcache-peers [--json] [--seconds N] [--size-mib N] MEMORY-DIR DISK-DIR");
	options->memory_dir = argv[i];
	options->disk_dir = argv[i + 1];
}

int main(int argc, char **argv)
{
	static struct contender contenders[CONTENDER_NR];
	struct options options = { .size_bytes = UINT64_C(512) << 20, .seconds = 4 };
	struct stream stream = { .random = 88172645463325252u };
	size_t i;

	parse(argc, argv, &options);
	/* DRAM stands in for persistent memory, for all of them. */
	setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 0);
	setenv("PMEM_IS_PMEM_FORCE", "1", 0);
	stream.block_nr = options.size_bytes / BLOCK_BYTES;
	stream.buf = aligned_alloc(4096, BLOCK_BYTES);
	if (!stream.buf)
		die("memory", strerror(ENOMEM));
	memset(stream.buf, 0x77, BLOCK_BYTES);
	for (i = 0; i < ARRAY_NR(contenders_ops); i++) {
		contenders[i].ops = &contenders_ops[i];
		contenders[i].ops->open(&contenders[i], &options);
		unlink(contenders[i].path);
		fill(&contenders[i], &stream);
	}
	if (options.json)
		printf("{\"size_bytes\": %" PRIu64 ", \"peers\": [", options.size_bytes);
	for (i = 0; i < ARRAY_NR(jobs); i++)
		run_job(&options, &jobs[i], contenders, &stream, i == 0);
	if (options.json)
		puts("\n]}");
	for (i = 0; i < ARRAY_NR(contenders_ops); i++)
		contenders[i].ops->close(&contenders[i]);
	free(stream.buf);
	return 0;
}
