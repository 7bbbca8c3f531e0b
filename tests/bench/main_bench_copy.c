/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-bench-copy PATH [MiB [slice-ms]]: what it costs to copy into media and out of it, with and without CRC, beside the bare copy.
 *
 * Random places in a mapped file (made at PATH, and removed again; on tmpfs with huge pages where they can be had). Ways take turns in short slices, so that all meet the
 * same machine; printed are the medians of the slices in ns per operation, with the smallest and largest, and the ratio to the first way, which is the limit. Durable
 * ways end with a slot of 64 bytes and a fence, as a write does. No test: it passes or fails nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc.h"
#include "base/lock.h"
#include "media/handle.h"
#include "media/kernel.h"

#define SLICES 11u
#define BUF_BYTES ((size_t)65536)
#define CHUNK_BYTES ((size_t)4096)

struct bench {
	struct pc_media *media;
	const struct pc_kernel *kernel;
	uint64_t random;
	uint64_t slot_off; /* the log goes on from place to place, as the head does */
	uint64_t half_bytes; /* data in the first half, the log in the second */
	_Alignas(64) uint8_t slot[64];
	uint8_t *buf;
	uint32_t sum; /* of CRCs, so that they are needed */
};

static void must(int rc, const char *what)
{
	if (rc == 0)
		return;
	(void)fprintf(stderr, "bench-copy: %s: error %d\n", what, rc);
	exit(1);
}

static uint64_t next_place(struct bench *bench, size_t len)
{
	uint64_t unit = PC_MAX((uint64_t)len, (uint64_t)512);

	bench->random ^= bench->random << 13;
	bench->random ^= bench->random >> 7;
	bench->random ^= bench->random << 17;
	return bench->random % (bench->half_bytes / unit) * unit;
}

static uint64_t next_slot(struct bench *bench)
{
	bench->slot_off = (bench->slot_off + sizeof(bench->slot)) % bench->half_bytes;
	return bench->half_bytes + bench->slot_off;
}

/* ---- into media ------------------------------------------------------------------------------------------------------ */

static void pmem2_copy(struct bench *bench, uint64_t off, const void *src, size_t len)
{
	const struct pc_media_file *file = pc_media_file_of(bench->media);

	(void)file->memcpy_fn(file->writable + off, src, len, PMEM2_F_MEM_NONTEMPORAL | PMEM2_F_MEM_NODRAIN);
}

static void bare(struct bench *bench, size_t len)
{
	pmem2_copy(bench, next_place(bench, len), bench->buf, len);
	pmem2_copy(bench, next_slot(bench), bench->slot, sizeof(bench->slot));
	pc_media_file_of(bench->media)->drain_fn();
}

static void plain(struct bench *bench, size_t len)
{
	pc_media_copy(bench->media, next_place(bench, len), bench->buf, len);
	pc_media_copy(bench->media, next_slot(bench), bench->slot, sizeof(bench->slot));
	pc_media_fence(bench->media);
}

static void with_crc(struct bench *bench, size_t len)
{
	uint64_t off = next_place(bench, len);

	for (size_t at = 0; at < len; at += CHUNK_BYTES)
		bench->sum += pc_media_copy_crc(bench->media, off + at, bench->buf + at, PC_MIN(len - at, CHUNK_BYTES));
	pc_media_copy(bench->media, next_slot(bench), bench->slot, sizeof(bench->slot));
	pc_media_fence(bench->media);
}

/* As a write does it: the slot holds the CRC of the data, and a CRC of its own. */
static void sealed(struct bench *bench, size_t len)
{
	uint64_t off = next_place(bench, len);
	uint32_t crc = 0;

	for (size_t at = 0; at < len; at += CHUNK_BYTES)
		crc ^= pc_media_copy_crc(bench->media, off + at, bench->buf + at, PC_MIN(len - at, CHUNK_BYTES));
	memcpy(bench->slot + 56, &crc, sizeof(crc));
	memset(bench->slot + 16, 0, sizeof(crc));
	crc = pc_crc32c(0, bench->slot, sizeof(bench->slot));
	memcpy(bench->slot + 16, &crc, sizeof(crc));
	pc_media_copy(bench->media, next_slot(bench), bench->slot, sizeof(bench->slot));
	pc_media_fence(bench->media);
}

static void without_kernel(struct bench *bench, size_t len)
{
	uint8_t *lines = bench->media->lines;

	bench->media->lines = NULL;
	with_crc(bench, len);
	bench->media->lines = lines;
}

/* ---- out of it ------------------------------------------------------------------------------------------------------- */

static void library_copy(struct bench *bench, size_t len)
{
	pc_media_copy_out(bench->buf, bench->media->base + next_place(bench, len), len);
}

static void load(struct bench *bench, size_t len)
{
	must(pc_media_load(bench->media, next_place(bench, len), bench->buf, len), "load");
}

static void then_crc(struct bench *bench, size_t len)
{
	library_copy(bench, len);
	bench->sum += pc_crc32c(0, bench->buf, len);
}

static void load_with_crc(struct bench *bench, size_t len)
{
	uint64_t off = next_place(bench, len);
	uint32_t crc;

	for (size_t at = 0; at < len; at += CHUNK_BYTES) {
		must(pc_media_load_crc(bench->media, off + at, bench->buf + at, PC_MIN(len - at, CHUNK_BYTES), &crc),
		     "load");
		bench->sum += crc;
	}
}

static void load_without_kernel(struct bench *bench, size_t len)
{
	bench->media->kernel = NULL;
	load_with_crc(bench, len);
	bench->media->kernel = bench->kernel;
}

/* ---- measuring ------------------------------------------------------------------------------------------------------- */

struct way {
	const char *name;
	void (*run)(struct bench *bench, size_t len);
};

static const struct way in_ways[] = {
	{ "copy + slot + fence by libpmem2 (limit)", bare },
	{ "the same by ours", plain },
	{ "with CRC", with_crc },
	{ "with CRC, slot sealed", sealed },
	{ "with CRC, through a local buffer", without_kernel },
};

static const struct way out_ways[] = {
	{ "memcpy (limit)", library_copy },
	{ "load", load },
	{ "load with CRC", load_with_crc },
	{ "memcpy, then CRC", then_crc },
	{ "with CRC, through a local buffer", load_without_kernel },
};

#define WAYS_MAX 8u

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double measure(struct bench *bench, const struct way *way, size_t len, uint64_t slice_ns)
{
	uint64_t begin_ns = pc_monotonic_ns(), now_ns, nr = 0;

	do {
		for (uint32_t i = 0; i < 64; i++)
			way->run(bench, len);
		nr += 64;
		now_ns = pc_monotonic_ns();
	} while (now_ns - begin_ns < slice_ns);
	return (double)(now_ns - begin_ns) / (double)nr;
}

static void compare(struct bench *bench, const char *title, const struct way *ways, size_t way_nr, size_t len,
		    uint64_t slice_ns)
{
	static double ns[WAYS_MAX][SLICES];
	double limit_ns;

	for (uint32_t slice = 0; slice < SLICES; slice++) {
		for (size_t i = 0; i < way_nr; i++)
			ns[i][slice] = measure(bench, &ways[i], len, slice_ns);
	}
	printf("%s, %zu bytes\n", title, len);
	for (size_t i = 0; i < way_nr; i++)
		qsort(ns[i], SLICES, sizeof(ns[i][0]), by_value);
	limit_ns = ns[0][SLICES / 2];
	for (size_t i = 0; i < way_nr; i++)
		printf("  %-42s %8.1f ns  (%.1f .. %.1f)  %.2f\n", ways[i].name, ns[i][SLICES / 2], ns[i][0],
		       ns[i][SLICES - 1], limit_ns / ns[i][SLICES / 2]);
}

int main(int argc, char **argv)
{
	static const size_t lens[] = { 64, 512, 1024, 4096, 16384, 65536 };
	uint64_t bytes = (argc > 2 ? strtoull(argv[2], NULL, 10) : 1024) << 20;
	uint64_t slice_ns = (argc > 3 ? strtoull(argv[3], NULL, 10) : 10) * 1000000;
	struct bench bench = { .random = 88172645463325252u, .half_bytes = bytes / 2 };

	if (argc < 2 || argc > 4 || bytes < (16u << 20) || slice_ns == 0) {
		(void)fprintf(stderr, "usage: pcache-bench-copy PATH [MiB [slice-ms]]\n");
		return 2;
	}
	(void)setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 0);
	must(pc_media_open(argv[1], PC_MEDIA_CREATE, NULL, &bench.media), "open");
	must(pc_media_allocate(bench.media, bytes), "allocate");
	must(pc_media_map(bench.media), "map");
	bench.kernel = bench.media->kernel;
	bench.buf = aligned_alloc(64, BUF_BYTES);
	if (!bench.buf || bench.media->granularity == PC_GRAN_PAGE)
		must(1, "memory, or granularity");
	memset(bench.buf, 0x5a, BUF_BYTES);
	for (uint64_t off = 0; off < bytes; off += BUF_BYTES)
		pc_media_copy(bench.media, off, bench.buf, BUF_BYTES);
	pc_media_fence(bench.media);
	printf("%llu MiB, kernel %s, huge pages %s, median of %u slices (min .. max), limit / time\n",
	       (unsigned long long)(bytes >> 20), bench.kernel ? bench.kernel->name : "none",
	       bench.media->huge_pages ? "asked for" : "refused", SLICES);
	for (size_t i = 0; i < PC_ARRAY_NR(lens); i++)
		compare(&bench, "into media, durable", in_ways, PC_ARRAY_NR(in_ways), lens[i], slice_ns);
	for (size_t i = 0; i < PC_ARRAY_NR(lens); i++)
		compare(&bench, "out of media", out_ways, PC_ARRAY_NR(out_ways), lens[i], slice_ns);
	pc_media_close(bench.media);
	free(bench.buf);
	return unlink(argv[1]) == 0 && bench.sum != 1 ? 0 : 1;
}
