/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache bench, place: two files of one file system, the cache under test and the scratch file that the limit copies
 * to.
 *
 * Without a wish of the user the place is /dev/shm if there is room: DRAM then stands in for persistent memory, by the
 * environment variable PMEM2_FORCE_GRANULARITY, which must be set before the library maps anything, and the result says
 * so. Else it is TMPDIR, where data becomes durable page by page. Both files lose their names as soon as they are open, and a signal before that removes them,
 * so an interrupted run leaves nothing behind. An existing file is never taken: a benchmark has no business to destroy
 * data.
 *
 * The backing under the cache is one that does nothing (reads give zeroes, writes are dropped), so that the cache is
 * measured and not a disk; unless the user gives one, or the job is about the backing: then it is a scratch file in TMPDIR, written once so that its blocks are there.
 *
 * All pages of both mappings are asked for before anything is measured, and how many of them are huge is read from the kernel afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "tool/bench.h"

#define TMPFS_MAGIC 0x01021994
#define HUGE_BYTES (UINT64_C(2) << 20)
#define CACHE_BYTES_MAX (UINT64_C(4) << 30) /* of those that are chosen here */
#define CACHE_BYTES_MIN (UINT64_C(64) << 20)
#define SIZE_BYTES_MAX (UINT64_C(1) << 30)
#define LIMIT_BYTES_MAX (UINT64_C(1) << 30) /* of data that the limit only writes: far more than the CPU caches hold */

/* ---- the backing that does nothing ------------------------------------------------------------ */

static int null_read(void *user, void *buf, uint64_t off, uint64_t len)
{
	(void)user;
	(void)off;
	memset(buf, 0, len);
	return 0;
}

static int null_write(void *user, const void *buf, uint64_t off, uint64_t len)
{
	(void)user;
	(void)buf;
	(void)off;
	(void)len;
	return 0;
}

static int null_zero(void *user, uint64_t off, uint64_t len)
{
	(void)user;
	(void)off;
	(void)len;
	return 0;
}

static int null_flush(void *user)
{
	(void)user;
	return 0;
}

static int new_backing(const struct bench_place *place, const struct bench_args *args,
		       struct pcache_backing **out_backing)
{
	const struct pcache_backing_ops ops = {
		.struct_bytes = sizeof(ops),
		.size_bytes = place->spread_bytes,
		.read = null_read,
		.write = null_write,
		.flush = null_flush,
		.discard = null_zero,
		.write_zeroes = null_zero,
	};
	const char *path = args->backing_path ? args->backing_path : place->backing_path;

	if (path)
		return pcache_backing_file_new(path, 0, out_backing);
	return pcache_backing_new(&ops, NULL, out_backing);
}

/* ---- where ------------------------------------------------------------ */

/* Memory that can be had without pushing others out; UINT64_MAX if unknown. */
static uint64_t available_memory(void)
{
	unsigned long long kib;
	uint64_t bytes = UINT64_MAX;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "r");

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			bytes = kib * 1024;
	}
	if (file)
		fclose(file);
	return bytes;
}

/* Bytes that may be taken in a directory: half of what is there, or what the user asked for as long as a tenth is left. */
static uint64_t room_in(const char *dir, const struct bench_args *args, bool *out_tmpfs)
{
	struct statfs fs;
	uint64_t room_bytes;

	if (statfs(dir, &fs) < 0 || access(dir, W_OK | X_OK) < 0)
		return 0;
	*out_tmpfs = fs.f_type == TMPFS_MAGIC;
	room_bytes = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	if (*out_tmpfs) {
		uint64_t memory_bytes = available_memory();

		room_bytes = memory_bytes < room_bytes ? memory_bytes : room_bytes;
	}
	return args->cache_bytes ? room_bytes / 10 * 9 : room_bytes / 2;
}

/* Jobs that write go round and round in it; reads need a place for each block. */
static void choose_limit(struct bench_place *place, const struct bench_args *args, uint64_t unit)
{
	const unsigned int reads = 1u << BENCH_RANDREAD | 1u << BENCH_SEQREAD | 1u << BENCH_MIXED;

	place->limit_data_bytes = place->size_bytes;
	if (!(args->jobs & reads) && place->limit_data_bytes > LIMIT_BYTES_MAX)
		place->limit_data_bytes = LIMIT_BYTES_MAX;
	if (place->limit_data_bytes < unit * args->threads * 2)
		place->limit_data_bytes = unit * args->threads * 2;
	place->limit_bytes = place->limit_data_bytes + (uint64_t)args->threads * BENCH_SLOT_NR * BENCH_SLOT_BYTES;
	place->limit_bytes = (place->limit_bytes + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
}

/* Fills in the sizes that the user left open; false if room_bytes do not suffice. */
static bool choose_sizes(struct bench_place *place, const struct bench_args *args, uint64_t room_bytes)
{
	uint64_t unit = args->block_len > 4096 ? args->block_len : 4096;

	place->cache_bytes = args->cache_bytes;
	if (place->cache_bytes == 0 && args->size_bytes)
		place->cache_bytes = args->size_bytes * 4;
	if (place->cache_bytes == 0) {
		place->cache_bytes = (room_bytes / 3 * 2) & ~(HUGE_BYTES - 1);
		if (place->cache_bytes > CACHE_BYTES_MAX)
			place->cache_bytes = CACHE_BYTES_MAX;
	}
	if (place->cache_bytes < CACHE_BYTES_MIN && args->cache_bytes == 0)
		place->cache_bytes = CACHE_BYTES_MIN;
	place->size_bytes = args->size_bytes;
	if (place->size_bytes == 0) {
		place->size_bytes = place->cache_bytes / 4;
		if (place->size_bytes > SIZE_BYTES_MAX)
			place->size_bytes = SIZE_BYTES_MAX;
	}
	place->size_bytes -= place->size_bytes % unit;
	if (place->size_bytes < unit * args->threads)
		place->size_bytes = unit * args->threads;
	place->spread_bytes = args->spread_bytes > place->size_bytes ? args->spread_bytes : place->size_bytes;
	place->spread_bytes -= place->spread_bytes % unit;
	choose_limit(place, args, unit);
	return place->cache_bytes + place->limit_bytes <= room_bytes;
}

static const char *temporary_directory(void)
{
	const char *dir = getenv("TMPDIR");

	return dir && *dir ? dir : "/tmp";
}

static bool is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static char *join(const char *left, const char *right)
{
	size_t bytes = strlen(left) + strlen(right) + 1;
	char *joined = malloc(bytes);

	if (joined)
		snprintf(joined, bytes, "%s%s", left, right);
	return joined;
}

/* Names for both files in a directory, or next to a path that the user chose. */
static bool name_files(struct bench_place *place, const char *dir, const char *path)
{
	char name[64];

	if (path) {
		place->cache_path = strdup(path);
		place->limit_path = join(path, ".limit");
	} else {
		snprintf(name, sizeof(name), "/pcache-bench-%ld", (long)getpid());
		place->cache_path = join(dir, name);
		if (place->cache_path)
			place->limit_path = join(place->cache_path, ".limit");
	}
	return place->cache_path && place->limit_path;
}

static int choose_place(struct bench_place *place, const struct bench_args *args)
{
	const char *dir = args->cache_path, *path = NULL;
	char *parent = NULL;
	uint64_t room_bytes;
	bool tmpfs = false;
	bool fits;

	if (dir && !is_directory(dir)) {
		char *slash;

		if (access(dir, F_OK) == 0) {
			tool_error(
				dir,
				"exists, and a benchmark would destroy it; give a directory or the path of a new file");
			return TOOL_FAILED;
		}
		path = dir;
		parent = strdup(path);
		slash = parent ? strrchr(parent, '/') : NULL;
		if (slash)
			slash[slash == parent] = '\0';
		dir = slash ? parent : ".";
	} else if (!dir) {
		dir = "/dev/shm";
		if (!choose_sizes(place, args, room_in(dir, args, &tmpfs)))
			dir = temporary_directory();
	}
	room_bytes = room_in(dir, args, &tmpfs);
	fits = choose_sizes(place, args, room_bytes);
	if (access(dir, W_OK | X_OK) < 0) {
		int result = tool_fail(dir, -errno);

		free(parent);
		return result;
	}
	if (!fits || !name_files(place, dir, path)) {
		char want[TOOL_BYTES_TEXT], room[TOOL_BYTES_TEXT];

		tool_error(dir,
			   "no room: %s are wanted, %s may be taken; give a smaller "
			   "--cache-size and --size, or a --cache elsewhere",
			   tool_bytes_text(want, place->cache_bytes + place->limit_bytes),
			   tool_bytes_text(room, room_bytes));
		free(parent);
		return TOOL_FAILED;
	}
	free(parent);
	place->text = tmpfs ? "tmpfs" : "file";
	if (tmpfs && setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 0) == 0)
		place->text = "tmpfs: DRAM stands in for persistent memory";
	return TOOL_OK;
}

/* ---- pages ------------------------------------------------------------ */

/* A line of /proc/self/smaps that begins a mapping: its range and the inode of its file. */
static bool parse_mapping(const char *line, unsigned long long *begin, unsigned long long *end,
			  unsigned long long *inode)
{
	return sscanf(line, "%llx-%llx %*4s %*x %*x:%*x %llu", begin, end, inode) == 3;
}

double bench_place_populate(int fd)
{
	unsigned long long begin = 0, end = 0, inode = 0, kib, mapped_kib = 0, huge_kib = 0;
	unsigned int pass;
	struct stat st;
	bool ours;

	if (fstat(fd, &st) < 0)
		return 0;
	for (pass = 0; pass < 2; pass++) {
		FILE *file = fopen("/proc/self/smaps", "r");
		char line[512];

		ours = false;
		while (file && fgets(line, sizeof(line), file)) {
			if (parse_mapping(line, &begin, &end, &inode)) {
				ours = inode == (unsigned long long)st.st_ino;
#ifdef MADV_POPULATE_WRITE
				if (ours && pass == 0)
					(void)madvise((void *)(uintptr_t)begin, (size_t)(end - begin),
						      MADV_POPULATE_WRITE);
#endif
				if (ours && pass == 1)
					mapped_kib += (end - begin) / 1024;
			} else if (ours && pass == 1 &&
				   (sscanf(line, "ShmemPmdMapped: %llu kB", &kib) == 1 ||
				    sscanf(line, "FilePmdMapped: %llu kB", &kib) == 1)) {
				huge_kib += kib;
			}
		}
		if (file)
			fclose(file);
	}
	return mapped_kib ? 100.0 * (double)huge_kib / (double)mapped_kib : 0;
}

/* Names that an interrupted run removes: while files have any. */
static const char *volatile doomed[3];

static void on_signal(int number)
{
	unsigned int i;

	for (i = 0; i < TOOL_ARRAY_NR(doomed); i++) {
		if (doomed[i])
			(void)unlink(doomed[i]);
	}
	_exit(128 + number);
}

static void set_signals(void (*handler)(int))
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action;
	unsigned int i;

	memset(&action, 0, sizeof(action));
	action.sa_handler = handler;
	for (i = 0; i < TOOL_ARRAY_NR(numbers); i++)
		(void)sigaction(numbers[i], &action, NULL);
}

/* ---- the files ------------------------------------------------------------ */

static bool is_in_memory(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* In small pieces, or the kernel would keep the file in large folios, and msync of a page would write all of one: the limit must not suffer from that. */
static int write_pages(int fd, uint64_t bytes)
{
	uint8_t page[4096];

	memset(page, 0x5a, sizeof(page));
	for (uint64_t off = 0; off < bytes; off += sizeof(page)) {
		size_t len = bytes - off < sizeof(page) ? (size_t)(bytes - off) : sizeof(page);

		if (pwrite(fd, page, len, (off_t)off) != (ssize_t)len)
			return errno ? -errno : -EIO;
	}
	return 0;
}

static int map_limit(struct bench_place *place)
{
	bool in_memory;
	void *map;
	int err;

	place->limit_fd = open(place->limit_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (place->limit_fd < 0) {
		err = -errno;
		doomed[1] = NULL;
		free(place->limit_path); /* not ours to remove */
		place->limit_path = NULL;
		return err;
	}
	if (ftruncate(place->limit_fd, (off_t)place->limit_bytes) < 0)
		return -errno;
	map = mmap(NULL, place->limit_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, place->limit_fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	place->limit_map = map;
	in_memory = is_in_memory(place->limit_fd);
	if (in_memory) {
		/* Huge pages as the library asks for them; on tmpfs that must precede the first touch. */
		(void)madvise(map, place->limit_bytes, MADV_HUGEPAGE);
#ifdef MADV_POPULATE_WRITE
		(void)madvise(map, place->limit_bytes, MADV_POPULATE_WRITE);
#endif
	}
	err = posix_fallocate(place->limit_fd, 0, (off_t)place->limit_bytes);
	if (err)
		return -err;
	if (in_memory)
		memset(map, 0x5a, place->limit_bytes); /* prefaulted, and not the zero page */
	else
		err = write_pages(place->limit_fd, place->limit_bytes);
	if (err)
		return err;
	/* On a disk: blocks that were written once, as those of a cache in use are. */
	return fsync(place->limit_fd) < 0 ? -errno : 0;
}

/* Every block written once, with something else than zeroes, so that a read or a write finds blocks and not holes. */
static int fill_file(int fd, uint64_t bytes)
{
	static uint8_t piece[1 << 20];
	uint64_t at;

	memset(piece, 0x6b, sizeof(piece));
	for (at = 0; at < bytes; at += sizeof(piece)) {
		size_t part = bytes - at < sizeof(piece) ? (size_t)(bytes - at) : sizeof(piece);

		if (pwrite(fd, piece, part, (off_t)at) != (ssize_t)part)
			return errno ? -errno : -ENOSPC;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* The file that the cache stands before, where the job is about it. */
static int open_backing_file(struct bench_place *place, const struct bench_args *args)
{
	const char *dir = temporary_directory(), *path = args->backing_path;
	struct statvfs fs;
	char name[64];

	if (!bench_job_wants_backing(args->jobs))
		return TOOL_OK;
	if (!path) {
		char want[TOOL_BYTES_TEXT];

		if (statvfs(dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < place->spread_bytes) {
			tool_error(dir, "no room for a backing of %s; give a smaller --size, or a --backing elsewhere",
				   tool_bytes_text(want, place->spread_bytes));
			return TOOL_FAILED;
		}
		snprintf(name, sizeof(name), "/pcache-bench-%ld.backing", (long)getpid());
		place->backing_path = join(dir, name);
		doomed[2] = place->backing_path;
		path = place->backing_path;
		if (!path)
			return tool_fail("bench", -ENOMEM);
	}
	place->backing_fd =
		open(path, args->backing_path ? O_RDWR | O_CLOEXEC : O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (place->backing_fd < 0)
		return tool_fail(path, -errno);
	if (!args->backing_path) {
		int err = fill_file(place->backing_fd, place->spread_bytes);

		return err < 0 ? tool_fail(path, err) : TOOL_OK;
	}
	return TOOL_OK;
}

static void remove_names(struct bench_place *place)
{
	unsigned int i;

	for (i = 0; i < TOOL_ARRAY_NR(doomed); i++)
		doomed[i] = NULL;
	set_signals(SIG_DFL);

	if (place->cache_path)
		(void)unlink(place->cache_path);
	if (place->limit_path)
		(void)unlink(place->limit_path);
	if (place->backing_path)
		(void)unlink(place->backing_path);
	free(place->cache_path);
	free(place->limit_path);
	free(place->backing_path);
	place->cache_path = NULL;
	place->limit_path = NULL;
	place->backing_path = NULL;
}

static int open_cache(struct bench_place *place, const struct bench_args *args)
{
	struct pcache_backing *backing = NULL;
	int err, result;

	if (args->backing_path && !args->force && tool_find_data(args->backing_path) >= 0) {
		tool_error(args->backing_path, "holds data, which a benchmark overwrites; give another backing, or "
					       "destroy the data with --force");
		return TOOL_FAILED;
	}
	result = open_backing_file(place, args);
	if (result != TOOL_OK)
		return result;
	err = new_backing(place, args, &backing);
	if (err < 0)
		return tool_fail(args->backing_path ? args->backing_path : "backing", err);
	if (pcache_backing_size(backing) < place->spread_bytes) {
		tool_error(args->backing_path,
			   "has %llu bytes, the working set %llu; give a smaller --size or a larger backing",
			   (unsigned long long)pcache_backing_size(backing), (unsigned long long)place->spread_bytes);
		pcache_backing_free(backing);
		return TOOL_FAILED;
	}
	(void)pcache_config_set(args->config, PCACHE_OPT_CACHE_BYTES, place->cache_bytes);
	err = pcache_format(place->cache_path, args->config, backing);
	if (err == 0)
		err = pcache_open(place->cache_path, args->config, backing, &place->cache);
	if (err < 0) {
		pcache_backing_free(backing);
		return tool_fail(place->cache_path, err);
	}
	place->cache_fd = open(place->cache_path, O_RDONLY | O_CLOEXEC);
	if (place->cache_fd < 0)
		return tool_fail(place->cache_path, -errno);
	place->info.struct_bytes = sizeof(place->info);
	err = pcache_info_get(place->cache, &place->info);
	return err < 0 ? tool_fail(place->cache_path, err) : TOOL_OK;
}

int bench_place_reopen(struct bench_place *place, const struct bench_args *args, uint64_t *out_ns)
{
	struct pcache_backing *backing = NULL;
	uint64_t begin_ns;
	char path[64];
	int err;

	/* The file has no name any more; this one leads to it. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", place->cache_fd);
	err = pcache_close(place->cache);
	place->cache = NULL;
	if (err == 0)
		err = new_backing(place, args, &backing);
	if (err < 0)
		return err;
	begin_ns = tool_now_ns();
	err = pcache_open(path, args->config, backing, &place->cache);
	*out_ns = tool_now_ns() - begin_ns;
	if (err < 0)
		pcache_backing_free(backing);
	return err;
}

int bench_place_open(struct bench_place *place, const struct bench_args *args)
{
	int result, err;

	memset(place, 0, sizeof(*place));
	place->limit_fd = place->cache_fd = place->backing_fd = -1;
	result = choose_place(place, args);
	if (result == TOOL_OK) {
		doomed[0] = place->cache_path;
		doomed[1] = place->limit_path;
		set_signals(on_signal);
		err = map_limit(place);
		if (err < 0)
			result = tool_fail(place->limit_path ? place->limit_path : place->cache_path, err);
		else
			result = open_cache(place, args);
	}
	if (result == TOOL_OK) {
		place->cache_huge_percent = bench_place_populate(place->cache_fd);
		/* On a disk it would all be dirty. */
		if (place->info.granularity != PCACHE_GRANULARITY_PAGE)
			place->limit_huge_percent = bench_place_populate(place->limit_fd);
	}
	remove_names(place);
	if (result != TOOL_OK)
		(void)bench_place_close(place);
	return result;
}

int bench_place_close(struct bench_place *place)
{
	int err = pcache_close(place->cache);

	place->cache = NULL;
	if (place->limit_map)
		(void)munmap(place->limit_map, place->limit_bytes);
	place->limit_map = NULL;
	if (place->limit_fd >= 0)
		(void)close(place->limit_fd);
	if (place->cache_fd >= 0)
		(void)close(place->cache_fd);
	if (place->backing_fd >= 0)
		(void)close(place->backing_fd);
	place->limit_fd = place->cache_fd = place->backing_fd = -1;
	remove_names(place);
	return err < 0 ? tool_fail("bench", err) : TOOL_OK;
}
