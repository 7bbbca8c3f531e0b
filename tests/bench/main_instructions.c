/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-instructions CACHE: does the same operations in the same order every time, for counting instructions (test_instructions.sh).
 *
 * Each kind of operation has a function count_<kind> of its own, which valgrind is told to look at, and prints how many it does. Nothing else happens meanwhile: one thread
 * calls, write-back rests, the cache is far from full. The backing does nothing, so a miss costs what the library makes of it.
 */
#include <stdlib.h>
#include <string.h>

#include "system/stress.h"

#define OPS 4000u
#define KEYS 2048u /* blocks of 4 KiB that are written to */
#define BLOCK_BYTES 4096u
#define BATCH_NR 16u
#define BACKING_BYTES (UINT64_C(64) << 20)

struct work {
	struct pcache *cache;
	uint64_t random;
	_Alignas(64) uint8_t buf[BATCH_NR * BLOCK_BYTES];
};

static int back_read(void *user, void *buf, uint64_t off, uint64_t len)
{
	(void)user, (void)buf, (void)off, (void)len;
	return 0;
}

static int back_write(void *user, const void *buf, uint64_t off, uint64_t len)
{
	(void)user, (void)buf, (void)off, (void)len;
	return 0;
}

static int back_flush(void *user)
{
	(void)user;
	return 0;
}

static uint64_t next_off(struct work *work)
{
	work->random ^= work->random << 13;
	work->random ^= work->random >> 7;
	work->random ^= work->random << 17;
	return work->random % KEYS * BLOCK_BYTES;
}

static void write_some(struct work *work, uint64_t len, bool flushes)
{
	for (uint32_t i = 0; i < OPS; i++) {
		must(pcache_write(work->cache, work->buf, next_off(work), len, 0), "write");
		if (flushes)
			must(pcache_flush(work->cache), "flush");
	}
}

/* Blocks behind those that are written: never in the cache, unless reads are kept. */
static void read_missing(struct work *work, uint32_t flags)
{
	for (uint32_t i = 0; i < OPS; i++)
		must(pcache_read(work->cache, work->buf, (KEYS + UINT64_C(1) + i) * BLOCK_BYTES, BLOCK_BYTES, flags),
		     "read");
}

/* ---- what is counted; the names are those of the report ---------------------------------------------------------- */

#define COUNTED __attribute__((noinline, used))
/* Keeps a call before it from becoming a jump, which would take the function out of its own count. */
#define COUNT_END() __asm__ volatile("" : : : "memory")

static COUNTED void count_write_4k(struct work *work)
{
	write_some(work, BLOCK_BYTES, false);
	COUNT_END();
}

static COUNTED void count_write_512(struct work *work)
{
	write_some(work, 512, false);
	COUNT_END();
}

static COUNTED void count_write_flush(struct work *work)
{
	write_some(work, BLOCK_BYTES, true);
	COUNT_END();
}

static COUNTED void count_read_4k(struct work *work)
{
	for (uint32_t i = 0; i < OPS; i++)
		must(pcache_read(work->cache, work->buf, next_off(work), BLOCK_BYTES, 0), "read");
	COUNT_END();
}

static COUNTED void count_batch(struct work *work)
{
	struct pcache_range ranges[BATCH_NR];

	for (uint32_t i = 0; i < OPS / BATCH_NR; i++) {
		for (uint32_t j = 0; j < BATCH_NR; j++)
			ranges[j] = (struct pcache_range){ .buf = work->buf + j * BLOCK_BYTES,
							   .off = next_off(work),
							   .len = BLOCK_BYTES };
		must(pcache_write_batch(work->cache, ranges, BATCH_NR, 0), "batch");
	}
	COUNT_END();
}

static COUNTED void count_miss(struct work *work)
{
	read_missing(work, PCACHE_NOCACHE);
	COUNT_END();
}

static COUNTED void count_miss_fill(struct work *work)
{
	read_missing(work, 0);
	COUNT_END();
}

/* ---- construction -------------------------------------------------------------------------------------------------- */

static void set(struct pcache_config *config, const char *name, const char *value)
{
	must(pcache_config_set_str(config, name, value), name);
}

static void open_cache(struct work *work, const char *path)
{
	const struct pcache_backing_ops ops = {
		.struct_bytes = sizeof(ops),
		.size_bytes = BACKING_BYTES,
		.read = back_read,
		.write = back_write,
		.flush = back_flush,
	};
	struct pcache_backing *backing;
	struct pcache_config *config;

	must(pcache_backing_new(&ops, NULL, &backing), "backing");
	must(pcache_config_new(&config), "config");
	set(config, "cache_bytes", "256M");
	set(config, "writeback_delay_ms", "3600000");
	set(config, "force", "on");
	must(pcache_format(path, config, backing), "format");
	must(pcache_open(path, config, backing, &work->cache), "open");
	pcache_config_free(config);
}

int main(int argc, char **argv)
{
	static struct work work = { .random = 88172645463325252u };

	if (argc != 2)
		die("usage: pcache-instructions CACHE");
	open_cache(&work, argv[1]);
	for (uint64_t i = 0; i < KEYS; i++)
		must(pcache_write(work.cache, work.buf, i * BLOCK_BYTES, BLOCK_BYTES, 0), "write");
	count_write_4k(&work);
	count_read_4k(&work);
	count_write_flush(&work);
	count_batch(&work);
	count_miss(&work);
	count_miss_fill(&work);
	count_write_512(&work); /* last: it cuts extents to pieces */
	printf("write_4k %u\nread_4k %u\nwrite_flush %u\nbatch %u\nmiss %u\nmiss_fill %u\nwrite_512 %u\n", OPS, OPS,
	       OPS, OPS / BATCH_NR, OPS, OPS, OPS);
	must(pcache_close(work.cache), "close");
	return 0;
}
