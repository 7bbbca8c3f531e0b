/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the two stress programs share: self-describing blocks, a generator of random numbers, options of the form key=value, and a
 * way to die that says why. Public headers only: these programs see the library as its users do.
 */
#ifndef PC_SYSTEM_STRESS_H
#define PC_SYSTEM_STRESS_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pcache/pcache.h>

__attribute__((format(printf, 1, 2), noreturn)) static inline void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "FAILED: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}

/* Ends the program unless a call of the library returned 0. */
static inline void must(int err, const char *what)
{
	if (err != 0)
		die("%s: %s (%d)", what, pcache_strerror(err), err);
}

static inline uint64_t mix64(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

struct rng {
	uint64_t state;
};

static inline uint64_t rng_next(struct rng *r)
{
	r->state += 0x9e3779b97f4a7c15u;
	return mix64(r->state);
}

static inline uint64_t rng_below(struct rng *r, uint64_t bound)
{
	return rng_next(r) % bound;
}

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/*
 * A block says what it is: word 0 its number plus 1, word 1 its version, and all others follow from both, so that a torn, stale or
 * misplaced block is told from a whole one. Version 0 is the block of zeroes.
 */
static inline void block_fill(void *buf, uint64_t block_bytes, uint64_t block, uint64_t version)
{
	uint64_t *word = (uint64_t *)buf;
	uint64_t base = mix64(block * 0x9e3779b97f4a7c15u ^ version);
	uint64_t i;

	if (version == 0) {
		memset(buf, 0, (size_t)block_bytes);
		return;
	}
	word[0] = block + 1;
	word[1] = version;
	for (i = 2; i < block_bytes / 8; i++)
		word[i] = base + i * 0xd6e8feb86659fd93u;
}

/* True if buf is a whole block of this number; its version. */
static inline bool block_parse(const void *buf, uint64_t block_bytes, uint64_t block, uint64_t *out_version)
{
	const uint64_t *word = (const uint64_t *)buf;
	uint64_t version = word[0] == 0 ? 0 : word[1];
	uint64_t base = mix64(block * 0x9e3779b97f4a7c15u ^ version);
	uint64_t bad = version == 0 ? word[0] | word[1] : word[0] ^ (block + 1);
	uint64_t i;

	for (i = 2; i < block_bytes / 8; i++)
		bad |= word[i] ^ (version == 0 ? 0 : base + i * 0xd6e8feb86659fd93u);
	*out_version = version;
	return bad == 0;
}

/* ---- options: key=value on the command line ---- */

struct option {
	const char *key;
	const char **text; /* either a text */
	uint64_t *number; /* or a number with an optional suffix K, M, G */
	const char *help;
};

static inline uint64_t parse_number(const char *key, const char *value)
{
	char *end;
	uint64_t number = strtoull(value, &end, 0);
	int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;

	if (end == value || end[shift != 0] != '\0')
		die("'%s' is no value of %s", value, key);
	return number << shift;
}

/* Takes what the table names; an option of the library (any key of <pcache/config.h>) goes into the config. */
static inline void parse_options(char **argv, const struct option *table, struct pcache_config *config)
{
	for (; *argv != NULL; argv++) {
		const struct option *o = table;
		char *value = strchr(*argv, '=');

		if (value == NULL)
			die("'%s' is not of the form key=value", *argv);
		*value++ = '\0';
		while (o->key != NULL && strcmp(o->key, *argv) != 0)
			o++;
		if (o->key == NULL)
			must(pcache_config_set_str(config, *argv, value), *argv);
		else if (o->text != NULL)
			*o->text = value;
		else
			*o->number = parse_number(*argv, value);
	}
}

static inline void log_line(void *user, int severity, const char *text)
{
	(void)user;
	/* The tests force the granularity on purpose. */
	if (severity != PCACHE_LOG_INFO && strstr(text, "PMEM2_FORCE_GRANULARITY") == NULL)
		fprintf(stderr, "%s: %s\n", severity == PCACHE_LOG_ERROR ? "error" : "warning", text);
}

static inline uint64_t seed_or_random(uint64_t seed)
{
	return seed != 0 ? seed : mix64((uint64_t)time(NULL) ^ now_ns()) >> 16;
}

#endif
