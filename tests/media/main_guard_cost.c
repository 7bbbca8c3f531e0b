/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-guard-cost PATH: what a 4 KiB hit costs without and with the option media_guard, in one run. Rounds without and with it take turns, so that both meet the same
 * machine; printed is the median of the rounds, in ns. PATH is made, and removed again. No test: it passes or fails nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/lock.h"
#include "pcache/pcache.h"

#define BLOCK 4096u
#define ROUNDS 21u
#define HITS 20000u

static void must(int rc, const char *what)
{
	if (rc == 0)
		return;
	(void)fprintf(stderr, "guard-cost: %s: %s\n", what, pcache_strerror(rc));
	exit(1);
}

static struct pcache_config *config_of(bool crc, bool guard, uint64_t cache_bytes)
{
	struct pcache_config *config;

	must(pcache_config_new(&config), "config");
	must(pcache_config_set(config, PCACHE_OPT_CACHE_BYTES, cache_bytes), "cache_bytes");
	must(pcache_config_set(config, PCACHE_OPT_BLOCK_BYTES, BLOCK), "block_bytes");
	must(pcache_config_set(config, PCACHE_OPT_DATA_CRC, crc), "data_crc");
	must(pcache_config_set(config, PCACHE_OPT_FORCE, 1), "force");
	must(pcache_config_set(config, PCACHE_OPT_WRITEBACK_DELAY_MS, 3600000), "writeback_delay_ms");
	must(pcache_config_set(config, PCACHE_OPT_MEDIA_GUARD, guard), "media_guard");
	return config;
}

/* ns per hit. */
static double measure(struct pcache *cache, uint64_t set_bytes)
{
	static uint8_t buf[BLOCK];
	uint64_t x = 88172645463325252u, begin_ns;

	begin_ns = pc_monotonic_ns();
	for (uint32_t i = 0; i < HITS; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		must(pcache_read(cache, buf, x % (set_bytes / BLOCK) * BLOCK, BLOCK, 0), "read");
	}
	return (double)(pc_monotonic_ns() - begin_ns) / HITS;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void fill(struct pcache *cache, uint64_t set_bytes)
{
	uint8_t buf[BLOCK];

	for (uint64_t off = 0; off < set_bytes; off += BLOCK) {
		memset(buf, (int)(off / BLOCK), BLOCK);
		must(pcache_write(cache, buf, off, BLOCK, 0), "write");
	}
}

/* Opens, measures one round, closes; guard off and on in turn. */
static void compare(const char *path, const char *backing_path, bool crc, uint64_t set_bytes)
{
	double ns[2][ROUNDS];

	for (uint32_t round = 0; round < 2 * ROUNDS; round++) {
		uint32_t guard = round % 2;
		struct pcache_config *config = config_of(crc, guard != 0, 2 * set_bytes + (16u << 20));
		struct pcache_backing *backing;
		struct pcache *cache;

		must(pcache_backing_file_new(backing_path, 0, &backing), "backing");
		if (round == 0)
			must(pcache_format(path, config, backing), "format");
		must(pcache_open(path, config, backing, &cache), "open");
		if (round == 0)
			fill(cache, set_bytes);
		(void)measure(cache, set_bytes); /* page tables, processor caches */
		ns[guard][round / 2] = measure(cache, set_bytes);
		must(pcache_close(cache), "close");
		pcache_config_free(config);
	}
	qsort(ns[0], ROUNDS, sizeof(ns[0][0]), by_value);
	qsort(ns[1], ROUNDS, sizeof(ns[1][0]), by_value);
	printf("data_crc=%-3s %4llu MiB  off %6.0f ns  on %6.0f ns  (%+.0f ns)\n", crc ? "on" : "off",
	       (unsigned long long)(set_bytes >> 20), ns[0][ROUNDS / 2], ns[1][ROUNDS / 2],
	       ns[1][ROUNDS / 2] - ns[0][ROUNDS / 2]);
}

int main(int argc, char **argv)
{
	char backing_path[] = "/tmp/pcache-guard-cost-XXXXXX";
	int fd = mkstemp(backing_path);

	if (argc != 2 || fd < 0 || ftruncate(fd, 256 << 20) != 0) {
		(void)fprintf(stderr, "usage: pcache-guard-cost PATH\n");
		return 2;
	}
	(void)setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 0);
	printf("4 KiB hit, option media_guard off and on, median of %u rounds of %u hits\n", ROUNDS, HITS);
	for (uint32_t crc = 0; crc < 2; crc++) {
		compare(argv[1], backing_path, crc == 0, 1u << 20);
		compare(argv[1], backing_path, crc == 0, 128u << 20);
	}
	(void)unlink(argv[1]);
	(void)close(fd);
	return unlink(backing_path);
}
