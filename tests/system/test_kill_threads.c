/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SIGKILL under threads: a child writes, batches, zeroes, discards, reads and flushes from several threads on a small cache and is killed at a random
 * moment, inside the open too. What it was told is durable is recorded in a shared mapping. Then another process opens the cache: each block holds one whole
 * version between the last acknowledged and the last issued, what was lost at an earlier kill has not returned, and what was in flight is there
 * as a whole or not at all. `pcache check` finds nothing wrong before. At the end the cache is drained and the backing alone holds the same.
 *
 * PCACHE_KILL_CYCLES: kills of each shape (default 10); PCACHE_KILL_SEED: 0 is random, and is printed. The timing is never the same twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pcache/pcache.h"

#define BLOCK 512u
#define BLOCK_NR 6144u /* 3 MiB of backing */
#define AREA_BLK 8u /* one thread writes an area */
#define WRITER_NR 4u
#define RANGE_MAX 3u
#define CACHE_BYTES "1M"
#define ZERO UINT64_MAX /* content of a block that reads as zeroes */

/* What the writers know of a block; one writer each. Versions count from 1 and never repeat. */
struct block {
	uint64_t base; /* version, or ZERO, that the last verification found */
	_Atomic uint64_t acked; /* durable in this life: the least that must be found; 0: none */
	_Atomic uint64_t issued;
	_Atomic uint64_t zeroed; /* last version that was a zero; 0: none in this life */
};

/* The request that a writer is in. */
struct in_flight {
	_Atomic uint64_t version; /* 0: none */
	uint32_t range_nr;
	struct {
		uint32_t blk;
		uint32_t len;
	} ranges[RANGE_MAX];
};

struct shared {
	struct block blocks[BLOCK_NR];
	struct in_flight in_flight[WRITER_NR];
	_Atomic uint64_t version; /* last one drawn */
	uint64_t life_version; /* versions of this life are above */
	_Atomic uint32_t opened;
	_Atomic uint64_t op_nr;
	char failure[256];
};

static struct shared *shared;
static char cache_path[256], backing_path[256];
static const char *options; /* "name=value name=value" */
static uint64_t seed;
static struct pcache *cache;

static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static _Noreturn void give_up(const char *what, uint64_t a, uint64_t b)
{
	(void)snprintf(shared->failure, sizeof(shared->failure), "%s (%llu, %llu)", what, (unsigned long long)a,
		       (unsigned long long)b);
	_exit(3);
}

static void must(int rc, const char *what)
{
	if (rc) {
		(void)snprintf(shared->failure, sizeof(shared->failure), "%s: %s", what, pcache_strerror(rc));
		_exit(3);
	}
}

/* ---- content ---------------------------------------------------------------------------------------------------------- */

static void put_content(uint8_t *at, uint64_t blk, uint64_t version)
{
	for (uint32_t i = 0; i < BLOCK; i += 16) {
		uint64_t words[2] = { version, blk << 16 | i };

		memcpy(at + i, words, 16);
	}
}

/* Version of a block, or ZERO. */
static uint64_t content(const uint8_t *at, uint64_t blk)
{
	static const uint8_t zeroes[BLOCK];
	uint64_t version;

	if (memcmp(at, zeroes, BLOCK) == 0)
		return ZERO;
	memcpy(&version, at, 8);
	for (uint32_t i = 0; i < BLOCK; i += 16) {
		uint64_t words[2];

		memcpy(words, at + i, 16);
		if (words[0] != version)
			give_up("torn block", blk, words[0]);
		if (words[1] != (blk << 16 | i))
			give_up("block of another place", blk, words[1]);
	}
	return version;
}

/* ---- the child that is killed ------------------------------------------------------------------------------------------ */

static struct pcache_config *new_config(const char *extra)
{
	struct pcache_config *config;
	char text[512], *save = NULL;

	must(pcache_config_new(&config), "config");
	(void)snprintf(text, sizeof(text), "%s %s", options, extra);
	for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		char *value = strchr(word, '=');

		*value++ = 0;
		must(pcache_config_set_str(config, word, value), word);
	}
	return config;
}

static void open_cache(const char *extra)
{
	struct pcache_config *config = new_config(extra);
	struct pcache_backing *backing;

	must(pcache_backing_file_new(backing_path, 0, &backing), "backing");
	must(pcache_open(cache_path, config, backing, &cache), "open");
	pcache_config_free(config);
}

struct pending {
	uint32_t blk;
	uint64_t version;
};

struct writer {
	uint32_t number;
	uint64_t seed;
	bool by_flush; /* only a flush makes durable */
	struct pending done[512]; /* completed, not flushed */
	uint32_t done_nr;
};

static void acknowledge(uint32_t blk, uint64_t version)
{
	atomic_store(&shared->blocks[blk].acked, version);
}

static void complete(struct writer *writer, const struct in_flight *op, uint64_t version, bool durable)
{
	for (uint32_t i = 0; i < op->range_nr; i++)
		for (uint32_t blk = op->ranges[i].blk; blk < op->ranges[i].blk + op->ranges[i].len; blk++) {
			if (durable)
				acknowledge(blk, version);
			else
				writer->done[writer->done_nr++] = (struct pending){ .blk = blk, .version = version };
		}
}

static void flush_all(struct writer *writer)
{
	must(pcache_flush(cache), "flush");
	for (uint32_t i = 0; i < writer->done_nr; i++)
		acknowledge(writer->done[i].blk, writer->done[i].version);
	writer->done_nr = 0;
}

/* A range inside one area of this writer; hot areas first, so that there are overwrites. */
static void choose_range(struct writer *writer, uint32_t *out_blk, uint32_t *out_len)
{
	uint32_t area_nr = BLOCK_NR / AREA_BLK / WRITER_NR;
	uint32_t limit = next_random(&writer->seed) % 3 ? 24 : area_nr;
	uint32_t area = (uint32_t)(next_random(&writer->seed) % limit) * WRITER_NR + writer->number;

	*out_len = 1 + (uint32_t)(next_random(&writer->seed) % AREA_BLK);
	*out_blk = area * AREA_BLK + (uint32_t)(next_random(&writer->seed) % (AREA_BLK - *out_len + 1));
}

static void one_request(struct writer *writer)
{
	uint8_t bytes[RANGE_MAX * AREA_BLK * BLOCK];
	struct pcache_range ranges[RANGE_MAX];
	struct in_flight *op = &shared->in_flight[writer->number];
	uint64_t version = atomic_fetch_add(&shared->version, 1) + 1, kind = next_random(&writer->seed) % 16;
	bool zero = kind < 2, durable = !writer->by_flush || kind == 15;
	uint32_t used = 0;

	op->range_nr = kind > 11 ? RANGE_MAX : 1;
	for (uint32_t i = 0; i < op->range_nr; i++) {
		choose_range(writer, &op->ranges[i].blk, &op->ranges[i].len);
		ranges[i] = (struct pcache_range){ .buf = bytes + used,
						   .off = (uint64_t)op->ranges[i].blk * BLOCK,
						   .len = (uint64_t)op->ranges[i].len * BLOCK };
		for (uint32_t blk = op->ranges[i].blk; blk < op->ranges[i].blk + op->ranges[i].len; blk++) {
			put_content(bytes + used, blk, version);
			used += BLOCK;
			if (zero)
				atomic_store(&shared->blocks[blk].zeroed, version);
			atomic_store(&shared->blocks[blk].issued, version);
		}
	}
	atomic_store(&op->version, version);
	if (zero && kind == 0)
		must(pcache_discard(cache, ranges[0].off, ranges[0].len, 0), "discard");
	else if (zero)
		must(pcache_write_zeroes(cache, ranges[0].off, ranges[0].len, 0), "zeroes");
	else if (op->range_nr == 1)
		must(pcache_write(cache, bytes, ranges[0].off, ranges[0].len, 0), "write");
	else
		must(pcache_write_batch(cache, ranges, op->range_nr, kind == 15 ? PCACHE_DURABLE : 0), "batch");
	/* The flush of this thread may be none that covers it: what is pending and what was zeroed is told by its version. */
	complete(writer, op, version, durable);
	atomic_store(&op->version, 0);
	atomic_fetch_add(&shared->op_nr, 1);
}

static void *write_on(void *arg)
{
	struct writer *writer = arg;

	for (;;) {
		one_request(writer);
		if (writer->done_nr > 512 - RANGE_MAX * AREA_BLK || next_random(&writer->seed) % 32 == 0)
			flush_all(writer);
	}
	return NULL;
}

/* Reads see what was acknowledged before they began, or newer. */
static void *read_on(void *arg)
{
	uint64_t state = *(uint64_t *)arg;
	uint8_t bytes[32 * BLOCK];
	uint64_t acked[32];

	for (;;) {
		uint64_t blk = next_random(&state) % (BLOCK_NR - 32);

		if (next_random(&state) % 2)
			blk %= 24u * AREA_BLK * WRITER_NR - 32;
		for (uint32_t i = 0; i < 32; i++)
			acked[i] = atomic_load(&shared->blocks[blk + i].acked);
		must(pcache_read(cache, bytes, blk * BLOCK, sizeof(bytes), 0), "read");
		for (uint32_t i = 0; i < 32; i++) {
			uint64_t version = content(bytes + i * BLOCK, blk + i);

			if (version != ZERO && version < acked[i])
				give_up("a read is older than what was acknowledged before it", blk + i, version);
		}
	}
	return NULL;
}

static _Noreturn void run_child(uint64_t child_seed, bool by_flush)
{
	static struct writer writers[WRITER_NR];
	uint64_t reader_seed = ~child_seed;
	pthread_t thread;

	open_cache("writeback_delay_ms=0");
	atomic_store(&shared->opened, 1);
	for (uint32_t i = 0; i < WRITER_NR; i++) {
		writers[i] = (struct writer){ .number = i,
					      .seed = child_seed + i * UINT64_C(0x1234567),
					      .by_flush = by_flush };
		if (pthread_create(&thread, NULL, write_on, &writers[i]))
			give_up("no thread", i, 0);
	}
	(void)read_on(&reader_seed);
	_exit(4);
}

/* ---- the child that verifies -------------------------------------------------------------------------------------------- */

static void verify_block(uint32_t blk, uint64_t found)
{
	struct block *block = &shared->blocks[blk];
	uint64_t acked = atomic_load(&block->acked), zeroed = atomic_load(&block->zeroed);

	if (found == ZERO) {
		if (!(zeroed && zeroed >= acked) && !(block->base == ZERO && !acked))
			give_up("zeroes where data was acknowledged", blk, acked);
		return;
	}
	if (found == block->base && !acked)
		return;
	if (found <= shared->life_version)
		give_up("a version of an earlier life", blk, found);
	if (found < acked)
		give_up("an acknowledged version is lost", blk, acked);
	if (found > atomic_load(&block->issued))
		give_up("a version that was never written", blk, found);
}

static void verify_in_flight(const struct in_flight *op, const uint64_t *found)
{
	uint64_t version = atomic_load(&op->version);
	uint32_t there = 0, missing = 0;

	if (!version)
		return;
	for (uint32_t i = 0; i < op->range_nr; i++)
		for (uint32_t blk = op->ranges[i].blk; blk < op->ranges[i].blk + op->ranges[i].len; blk++) {
			/* Zeroes that were there before look the same. */
			if (found[blk] == ZERO)
				continue;
			if (found[blk] == version)
				there++;
			else
				missing++;
		}
	if (there && missing)
		give_up("half of an atomic request", version, there);
}

static _Noreturn void run_verify(bool drain)
{
	static uint64_t found[BLOCK_NR];
	static uint8_t bytes[BLOCK_NR * BLOCK], again[BLOCK_NR * BLOCK];
	uint64_t state = seed + atomic_load(&shared->version);
	int fd;

	open_cache("maintenance=caller");
	must(pcache_read(cache, bytes, 0, sizeof(bytes), 0), "read");
	for (uint32_t blk = 0; blk < BLOCK_NR; blk++) {
		found[blk] = content(bytes + (size_t)blk * BLOCK, blk);
		verify_block(blk, found[blk]);
	}
	for (uint32_t i = 0; i < WRITER_NR; i++)
		verify_in_flight(&shared->in_flight[i], found);
	for (uint32_t blk = 0; blk < BLOCK_NR; blk++) {
		shared->blocks[blk].base = found[blk];
		atomic_store(&shared->blocks[blk].acked, 0);
		atomic_store(&shared->blocks[blk].zeroed, 0);
	}
	for (uint32_t i = 0; i < WRITER_NR; i++)
		atomic_store(&shared->in_flight[i].version, 0);
	shared->life_version = atomic_load(&shared->version);
	if (drain) {
		must(pcache_drain(cache, NULL, NULL), "drain");
		fd = open(backing_path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || read(fd, again, sizeof(again)) != (ssize_t)sizeof(again) ||
		    memcmp(bytes, again, sizeof(bytes)) != 0)
			give_up("the drained backing differs", 0, 0);
	}
	if (drain || next_random(&state) % 2)
		must(pcache_close(cache), "close");
	_exit(0); /* else: this process, too, ends without a close */
}

/* ---- the parent ----------------------------------------------------------------------------------------------------------- */

static void pause_us(uint64_t us)
{
	struct timespec time = { .tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000 * 1000) };

	while (nanosleep(&time, &time) && errno == EINTR)
		;
}

static int failed(const char *shape, uint32_t cycle, const char *what, int status)
{
	(void)fprintf(stderr, "%s, cycle %u, seed %llu: %s, status %d: %s\n", shape, cycle, (unsigned long long)seed,
		      what, status, shared->failure);
	return 1;
}

static int check(void)
{
	const char *bin = getenv("PCACHE_BIN_DIR");
	char command[1024];

	(void)snprintf(command, sizeof(command), "%s/pcache", bin ? bin : ".");
	if (access(command, X_OK))
		return 0;
	(void)snprintf(command, sizeof(command), "%s/pcache check %s >%s.check 2>&1 || { cat %s.check >&2; exit 1; }",
		       bin ? bin : ".", cache_path, cache_path, cache_path);
	return system(command);
}

static int run_one(uint64_t *state, bool by_flush, uint32_t cycle, const char *shape)
{
	uint64_t child_seed = next_random(state), wait_us = next_random(state) % 120000;
	bool in_open = next_random(state) % 6 == 0;
	uint64_t enough = atomic_load(&shared->op_nr) + 40;
	int status;
	pid_t pid;

	atomic_store(&shared->opened, 0);
	pid = fork();
	if (pid == 0)
		run_child(child_seed, by_flush);
	if (in_open)
		wait_us %= 3000;
	else
		for (uint32_t tries = 0;
		     !atomic_load(&shared->opened) && tries < 60000 && waitpid(pid, NULL, WNOHANG | WNOWAIT) == 0;
		     tries++)
			pause_us(1000);
	/* A slow disk gets some time to do something at all. */
	for (uint32_t tries = 0; !in_open && atomic_load(&shared->op_nr) < enough && tries < 500; tries++)
		pause_us(1000);
	pause_us(wait_us);
	(void)kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		return failed(shape, cycle, "the load ended by itself", status);
	return 0;
}

static int verify(bool drain, uint32_t cycle, const char *shape)
{
	int status;
	pid_t pid;

	if (check())
		return failed(shape, cycle, "pcache check", 0);
	pid = fork();
	if (pid == 0)
		run_verify(drain);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		return failed(shape, cycle, "verification", status);
	return 0;
}

static void make_cache(void)
{
	struct pcache_config *config = new_config("cache_bytes=" CACHE_BYTES " segment_bytes=16K force=on");
	struct pcache_backing *backing;
	uint8_t block[BLOCK];
	int fd = open(backing_path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);

	memset(shared, 0, sizeof(*shared));
	atomic_store(&shared->version, 1);
	shared->life_version = 1;
	if (fd < 0)
		give_up("no backing", 0, 0);
	for (uint32_t blk = 0; blk < BLOCK_NR; blk++) {
		put_content(block, blk, 1);
		if (pwrite(fd, block, BLOCK, (off_t)blk * BLOCK) != BLOCK)
			give_up("no backing", 0, 0);
		shared->blocks[blk].base = 1;
	}
	(void)close(fd);
	must(pcache_backing_file_new(backing_path, 0, &backing), "backing");
	must(pcache_format(cache_path, config, backing), "format");
	pcache_backing_free(backing);
	pcache_config_free(config);
}

static int run_shape(const char *dir, const char *granularity, const char *shape, uint32_t cycle_nr, uint64_t *state)
{
	int rc = 0;

	(void)snprintf(cache_path, sizeof(cache_path), "%s/cache", dir);
	(void)snprintf(backing_path, sizeof(backing_path), "%s/backing", dir);
	if (granularity)
		(void)setenv("PMEM2_FORCE_GRANULARITY", granularity, 1);
	else
		(void)unsetenv("PMEM2_FORCE_GRANULARITY");
	options = shape;
	make_cache();
	for (uint32_t cycle = 0; cycle < cycle_nr && !rc; cycle++) {
		rc = run_one(state, strstr(shape, "commit=flush") != NULL, cycle, shape);
		if (!rc)
			rc = verify(cycle + 1 == cycle_nr, cycle, shape);
	}
	(void)printf("%s, %s: %u kills, %llu requests%s\n", granularity ? granularity : "as the media", shape, cycle_nr,
		     (unsigned long long)atomic_load(&shared->op_nr), rc ? ", FAILED" : "");
	return rc;
}

static uint64_t env(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

int main(void)
{
	const char *tmp = getenv("TMPDIR");
	char disk[128], shm[] = "/dev/shm/pcache-kill.XXXXXX", command[512];
	uint32_t cycle_nr = (uint32_t)env("PCACHE_KILL_CYCLES", 10);
	uint64_t state;
	bool has_shm;
	int rc = 0;

	seed = env("PCACHE_KILL_SEED", 0);
	while (seed == 0)
		(void)!getrandom(&seed, sizeof(seed), 0);
	(void)printf("seed %llu\n", (unsigned long long)seed);
	(void)fflush(stdout);
	state = seed;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	(void)snprintf(disk, sizeof(disk), "%s/pcache-kill.XXXXXX", tmp ? tmp : "/tmp");
	if (shared == MAP_FAILED || !mkdtemp(disk))
		return 1;
	has_shm = mkdtemp(shm) != NULL;
	rc |= run_shape(has_shm ? shm : disk, "CACHE_LINE", "commit=write", cycle_nr, &state);
	rc |= run_shape(has_shm ? shm : disk, "CACHE_LINE", "commit=flush ordering=batch data_crc=off", cycle_nr,
			&state);
	rc |= run_shape(disk, NULL, "commit=flush", cycle_nr, &state);
	rc |= run_shape(disk, NULL, "commit=write ordering=batch commit_guard=fence", cycle_nr, &state);
	(void)snprintf(command, sizeof(command), "rm -rf %s %s", disk, has_shm ? shm : disk);
	if (!rc || !getenv("PCACHE_KEEP"))
		(void)!system(command);
	return rc;
}
