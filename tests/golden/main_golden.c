/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The golden image of a format version: an image with every kind of record in it, made once and kept, which every later version must open.
 *
 *   pcache-golden make IMAGE TABLE     makes one (for a new format version; the file must lie where PMEM2_FORCE_GRANULARITY=CACHE_LINE works)
 *   pcache-golden verify IMAGE TABLE   opens it before the backing that belongs to it, and compares every block, over a recovery, a drain and a reopen
 *
 * A line of the table: first block, number of blocks, version in the cache, version on the backing. A version is what fills a block; "zero" are zeroes,
 * "lost" is data that is damaged in the cache and must read as PCACHE_E_POISONED.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backing/mem_backing.h"
#include "pcache/pcache.h"

#define BLOCK 512u
#define BLOCK_NR 256u
#define ZERO UINT32_MAX
#define LOST (UINT32_MAX - 1)

static struct mem_backing *mb;
static struct pcache *cache;

static _Noreturn void die(const char *what, int rc)
{
	(void)fprintf(stderr, "%s: %s\n", what, rc ? pcache_strerror(rc) : "");
	exit(1);
}

static void must(int rc, const char *what)
{
	if (rc < 0)
		die(what, rc);
}

static void put(uint8_t *at, uint32_t blk, uint32_t version)
{
	for (uint32_t i = 0; i < BLOCK; i += 8) {
		uint32_t words[2] = { version, blk << 16 | i };

		memcpy(at + i, words, 8);
	}
	if (version == ZERO)
		memset(at, 0, BLOCK);
}

static uint32_t version_of(const uint8_t *at, uint32_t blk)
{
	uint8_t want[BLOCK] = { 0 };
	uint32_t version;

	if (memcmp(at, want, BLOCK) == 0)
		return ZERO;
	memcpy(&version, at, 4);
	put(want, blk, version);
	if (memcmp(at, want, BLOCK) != 0)
		die("a block has foreign bytes", 0);
	return version;
}

static void open_cache(const char *path)
{
	struct pcache_config *config;
	struct pcache_backing *backing = mem_backing_attach(mb);

	must(pcache_config_new(&config), "config");
	must(pcache_config_set(config, PCACHE_OPT_MAINTENANCE, PCACHE_MAINTENANCE_CALLER), "maintenance");
	must(pcache_config_set(config, PCACHE_OPT_READ_CACHE, 0), "read_cache");
	must(pcache_open(path, config, backing, &cache), "open");
	pcache_config_free(config);
}

static struct mem_backing *new_backing(void)
{
	struct mem_backing_options options = { .size_bytes = BLOCK_NR * BLOCK, .uuid = "golden backing " };
	struct mem_backing *made = mem_backing_create(&options);

	if (!made)
		die("backing", -ENOMEM);
	return made;
}

/* ---- make ---------------------------------------------------------------------------------------------------------------- */

static void write_blocks(uint32_t blk, uint32_t nr, uint32_t version)
{
	uint8_t bytes[16 * BLOCK];

	for (uint32_t i = 0; i < nr; i++)
		put(bytes + i * BLOCK, blk + i, version);
	must(pcache_write(cache, bytes, (uint64_t)blk * BLOCK, (uint64_t)nr * BLOCK, 0), "write");
}

/* Damages the newest bytes of a block in the file, which the mapping of the cache shares. */
static void damage(const char *path, uint32_t blk, uint32_t version)
{
	uint8_t want[BLOCK], bytes[BLOCK];
	int fd = open(path, O_RDWR | O_CLOEXEC);
	off_t at = -1;

	put(want, blk, version);
	for (off_t off = 0; pread(fd, bytes, BLOCK, off) == BLOCK; off += BLOCK)
		if (memcmp(bytes, want, BLOCK) == 0)
			at = off;
	want[5] ^= 1;
	if (at < 0 || pwrite(fd, want, BLOCK, at) != BLOCK)
		die("nothing to damage", 0);
	(void)close(fd);
}

static void write_table(const char *path)
{
	FILE *to = fopen(path, "w");
	uint8_t bytes[BLOCK];

	if (!to)
		die(path, -errno);
	for (uint32_t blk = 0; blk < BLOCK_NR; blk++) {
		int rc = pcache_read(cache, bytes, (uint64_t)blk * BLOCK, BLOCK, 0);
		uint32_t in_cache = rc == PCACHE_E_POISONED ? LOST
				    : rc                    ? (die("read", rc), 0u)
							    : version_of(bytes, blk);
		uint32_t below = version_of(mem_backing_live(mb) + (size_t)blk * BLOCK, blk);

		(void)fprintf(to, "%u 1 %u %u\n", blk, in_cache, below);
	}
	(void)fclose(to);
}

static void write_batch(uint32_t version)
{
	struct pcache_range ranges[3];
	uint8_t bytes[3 * BLOCK];

	for (uint32_t i = 0; i < 3; i++) {
		ranges[i] = (struct pcache_range){ .buf = bytes + i * BLOCK,
						   .off = (uint64_t)(140 + 5 * i) * BLOCK,
						   .len = BLOCK };
		put(bytes + i * BLOCK, 140 + 5 * i, version);
	}
	must(pcache_write_batch(cache, ranges, 3, 0), "batch");
}

static void fill(const char *path)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };

	write_blocks(0, 1, 10); /* one chunk, one block */
	write_blocks(8, 16, 11); /* several chunks */
	write_blocks(10, 3, 12); /* cuts a chunk: fragments */
	must(pcache_flush(cache), "flush");
	write_blocks(30, 8, 13);
	must(pcache_flush(cache), "flush");
	damage(path, 33, 13);
	if (pcache_drain(cache, NULL, NULL) != PCACHE_E_POISONED) /* a POISON key */
		die("no poison", 0);
	/* Until cleaning has appended live keys again. */
	for (uint32_t version = 20; info.cleaned_segments < 2; version++) {
		write_blocks(200 + version % 8, 1, version);
		must(pcache_drain(cache, NULL, NULL) == PCACHE_E_POISONED ? 0 : -EIO, "drain");
		must(pcache_maintain(cache, 0), "maintain");
		must(pcache_info_get(cache, &info), "info");
	}
	/* To the last slot of a segment of the log: the batch does not fit, so a void kset pads it. */
	for (uint32_t version = 4000;; version++) {
		must(pcache_info_get(cache, &info), "info");
		if (info.log_head % 128 == 127)
			break;
		write_blocks(210, 1, version);
	}
	write_batch(4999);
	must(pcache_discard(cache, 60 * BLOCK, 20 * BLOCK, 0), "discard");
	must(pcache_drain(cache, NULL, NULL) == PCACHE_E_POISONED ? 0 : -EIO, "drain");
	/* Dirty from here on. */
	must(pcache_write_zeroes(cache, 64 * BLOCK, 40 * BLOCK, 0), "zeroes");
	must(pcache_discard(cache, 120 * BLOCK, 8 * BLOCK, 0), "discard");
	write_blocks(66, 2, 5000);
	write_batch(5001);
	must(pcache_flush(cache), "flush");
	write_blocks(140, 1, 5002); /* the next epoch overwrites a part */
	write_blocks(16, 16, 5003);
	/* No flush, no close. */
}

static void make(const char *path, const char *table)
{
	struct pcache_config *config;
	struct pcache_backing *backing;
	uint8_t bytes[BLOCK_NR * BLOCK];

	for (uint32_t blk = 0; blk < BLOCK_NR; blk++)
		put(bytes + blk * BLOCK, blk, 1);
	mem_backing_load(mb, bytes);
	backing = mem_backing_attach(mb);
	must(pcache_config_new(&config), "config");
	must(pcache_config_set(config, PCACHE_OPT_CACHE_BYTES, 38 * 4096), "cache_bytes");
	must(pcache_config_set(config, PCACHE_OPT_SEGMENT_BYTES, 8192), "segment_bytes");
	must(pcache_config_set(config, PCACHE_OPT_FORCE, 1), "force");
	must(pcache_format(path, config, backing), "format");
	pcache_config_free(config);
	pcache_backing_free(backing);
	open_cache(path);
	fill(path);
	write_table(table);
}

/* ---- verify -------------------------------------------------------------------------------------------------------------- */

static uint32_t in_cache[BLOCK_NR], below[BLOCK_NR];

static void read_table(const char *path)
{
	FILE *from = fopen(path, "r");
	uint8_t bytes[BLOCK_NR * BLOCK];
	uint32_t blk, nr, a, b, seen = 0;

	if (!from)
		die(path, -errno);
	while (fscanf(from, "%u %u %u %u", &blk, &nr, &a, &b) == 4) {
		for (uint32_t i = blk; i < blk + nr && i < BLOCK_NR; i++, seen++) {
			in_cache[i] = a;
			below[i] = b;
			put(bytes + i * BLOCK, i, b);
		}
	}
	(void)fclose(from);
	if (seen != BLOCK_NR)
		die("the table is not whole", 0);
	mem_backing_load(mb, bytes);
}

static void verify_reads(void)
{
	uint8_t bytes[BLOCK];

	for (uint32_t blk = 0; blk < BLOCK_NR; blk++) {
		int rc = pcache_read(cache, bytes, (uint64_t)blk * BLOCK, BLOCK, 0);

		if (in_cache[blk] == LOST ? rc != PCACHE_E_POISONED
					  : rc != 0 || version_of(bytes, blk) != in_cache[blk]) {
			(void)fprintf(stderr, "block %u: %d, want version %u\n", blk, rc, in_cache[blk]);
			exit(1);
		}
	}
}

static void verify(const char *path)
{
	bool lost = false;

	open_cache(path);
	verify_reads();
	must(pcache_close(cache), "close");
	open_cache(path);
	verify_reads();
	for (uint32_t blk = 0; blk < BLOCK_NR; blk++)
		lost |= in_cache[blk] == LOST;
	if (pcache_drain(cache, NULL, NULL) != (lost ? PCACHE_E_POISONED : 0))
		die("drain", 0);
	verify_reads();
	for (uint32_t blk = 0; blk < BLOCK_NR; blk++)
		if (version_of(mem_backing_durable(mb) + (size_t)blk * BLOCK, blk) !=
		    (in_cache[blk] == LOST ? below[blk] : in_cache[blk]))
			die("the backing is not what the cache says", 0);
	must(pcache_close(cache), "close");
}

int main(int argc, char **argv)
{
	if (argc != 4 || (strcmp(argv[1], "make") != 0 && strcmp(argv[1], "verify") != 0)) {
		(void)fprintf(stderr, "usage: pcache-golden make|verify IMAGE TABLE\n");
		return 2;
	}
	mb = new_backing();
	if (strcmp(argv[1], "make") == 0) {
		make(argv[2], argv[3]);
		_exit(0); /* as a killed process */
	}
	read_table(argv[3]);
	verify(argv[2]);
	mem_backing_destroy(mb);
	return 0;
}
