/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-sigbus CACHE BACKING STEP...: what test_sigbus_fuse.sh does with a cache, one step after the other. Blocks are of 4 KiB; each carries its number and a version in every
 * word.
 *
 *   guard            option media_guard, before open
 *   open, close      close ends with a flush; without it the process just leaves, and at page granularity with it what was not flushed
 *   flush
 *   write:B:N:V      writes N blocks from B on with version V, in one call each
 *   read:B:N:V       each must be of version V; V is `lost` where PCACHE_E_POISONED is wanted
 *   drain, drain-lost
 *   info:NAME:MIN    a number of struct pcache_info is at least MIN
 *   where:B:V        before open: prints the offset in CACHE of block B of version V
 *
 * An open that fails prints the name of its error and exits with 3, everything else that is wrong with 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pcache/pcache.h"

#define BLOCK 4096u
#define WORDS (BLOCK / sizeof(uint64_t))

static struct pcache_config *config;
static struct pcache *cache;
static const char *cache_path;
static const char *backing_path;

static void wrong(const char *step, const char *what)
{
	(void)fprintf(stderr, "sigbus: %s: %s\n", step, what);
	exit(1);
}

static void must(int rc, const char *step)
{
	if (rc != 0)
		wrong(step, pcache_errname(rc) ? pcache_errname(rc) : pcache_strerror(rc));
}

static void on_message(void *user, int severity, const char *text)
{
	(void)user;
	if (severity <= PCACHE_LOG_WARN)
		(void)fprintf(stderr, "  | %s\n", text);
}

static void fill(uint64_t *words, uint64_t block, uint64_t version)
{
	for (uint64_t i = 0; i < WORDS; i++)
		words[i] = (version << 48) + (block << 16) + i + 1;
}

static void do_open(const char *step)
{
	struct pcache_backing *backing;
	int rc;

	must(pcache_backing_file_new(backing_path, 0, &backing), step);
	rc = pcache_open(cache_path, config, backing, &cache);
	if (rc != 0) {
		(void)printf("%s\n", pcache_errname(rc));
		exit(3);
	}
}

static void do_write(const char *step, uint64_t first, uint64_t nr, uint64_t version)
{
	uint64_t words[WORDS];

	for (uint64_t block = first; block < first + nr; block++) {
		fill(words, block, version);
		must(pcache_write(cache, words, block * BLOCK, BLOCK, 0), step);
	}
}

static void do_read(const char *step, uint64_t first, uint64_t nr, const char *version)
{
	uint64_t words[WORDS], want[WORDS];

	for (uint64_t block = first; block < first + nr; block++) {
		int rc = pcache_read(cache, words, block * BLOCK, BLOCK, 0);

		if (strcmp(version, "lost") == 0) {
			if (rc != PCACHE_E_POISONED)
				wrong(step, "is not lost");
			continue;
		}
		must(rc, step);
		fill(want, block, strtoull(version, NULL, 10));
		if (memcmp(words, want, sizeof(want)) != 0)
			wrong(step, "other bytes");
	}
}

static void do_where(const char *step, uint64_t block, uint64_t version)
{
	uint64_t words[WORDS], want[WORDS];
	int fd = open(cache_path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		wrong(step, "cannot open");
	fill(want, block, version);
	for (off_t off = 0; pread(fd, words, sizeof(words), off) == (ssize_t)sizeof(words); off += BLOCK) {
		if (memcmp(words, want, sizeof(want)) == 0) {
			(void)printf("%lld\n", (long long)off);
			exit(0);
		}
	}
	wrong(step, "not found");
}

static void do_info(const char *step, const char *name, uint64_t min)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	uint64_t value = 0;

	must(pcache_info_get(cache, &info), step);
	if (strcmp(name, "repairs") == 0)
		value = info.replica_repairs;
	else if (strcmp(name, "media-errors") == 0)
		value = info.media_errors;
	else if (strcmp(name, "quarantined") == 0)
		value = info.segments_quarantined;
	else
		wrong(step, "no such number");
	if (value < min)
		wrong(step, "too low");
}

static void run(const char *step)
{
	char text[128], *arg[4] = { text, NULL, NULL, NULL };
	uint64_t first, nr;

	(void)snprintf(text, sizeof(text), "%s", step);
	for (int i = 1; i < 4 && arg[i - 1]; i++) {
		arg[i] = strchr(arg[i - 1], ':');
		if (arg[i])
			*arg[i]++ = '\0';
	}
	first = arg[1] ? strtoull(arg[1], NULL, 10) : 0;
	nr = arg[2] ? strtoull(arg[2], NULL, 10) : 0;
	if (strcmp(text, "guard") == 0)
		must(pcache_config_set(config, PCACHE_OPT_MEDIA_GUARD, 1), step);
	else if (strcmp(text, "open") == 0)
		do_open(step);
	else if (strcmp(text, "close") == 0)
		must(pcache_close(cache), step);
	else if (strcmp(text, "flush") == 0)
		must(pcache_flush(cache), step);
	else if (strcmp(text, "write") == 0 && arg[3])
		do_write(step, first, nr, strtoull(arg[3], NULL, 10));
	else if (strcmp(text, "read") == 0 && arg[3])
		do_read(step, first, nr, arg[3]);
	else if (strcmp(text, "drain") == 0)
		must(pcache_drain(cache, NULL, NULL), step);
	else if (strcmp(text, "drain-lost") == 0)
		must(pcache_drain(cache, NULL, NULL) == PCACHE_E_POISONED ? 0 : -EIO, step);
	else if (strcmp(text, "info") == 0 && arg[2])
		do_info(step, arg[1], nr);
	else if (strcmp(text, "where") == 0 && arg[2])
		do_where(step, first, nr);
	else
		wrong(step, "no such step");
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		(void)fprintf(stderr, "usage: pcache-sigbus CACHE BACKING STEP...\n");
		return 2;
	}
	cache_path = argv[1];
	backing_path = argv[2];
	must(pcache_config_new(&config), "config");
	must(pcache_config_set(config, PCACHE_OPT_MAINTENANCE, PCACHE_MAINTENANCE_CALLER), "config");
	must(pcache_config_set(config, PCACHE_OPT_READ_CACHE, 0), "config");
	must(pcache_config_set_log(config, on_message, NULL), "config");
	for (int i = 3; i < argc; i++)
		run(argv[i]);
	_exit(0); /* without a close, as a killed process; and no leak to report */
}
