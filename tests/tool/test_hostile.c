/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Hostile images: crash images of working caches, mutated with all CRCs right, go through `pcache check`, `pcache dump`, `pcache info`, and the open of the library with work on
 * the cache if it opens. No crash, no endless loop (an alarm), bounded memory; an image that check has nothing against opens, and reads as check's
 * map says; what opens has a consistent state, and can be worked with, drained and closed, or says why not.
 *
 * PCACHE_HOSTILE_NR: images; PCACHE_HOSTILE_SEED: the first; PCACHE_HOSTILE_KEEP: a file that each is written to.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/handle.h"
#include "core/rig.h"
#include "pcache/errors.h"
#include "tool/check.h"
#include "tool/dump.h"
#include "tool/forge.h"
#include "tool/mutate.h"

#define BASE_NR 24u
#define ALARM_S 30u
#define MEMORY_KIB_MAX (192 * 1024L)

struct base {
	struct rig_options o;
	uint8_t *media;
	uint8_t *backing;
	uint64_t media_bytes;
};

static struct base bases[BASE_NR];
static char mutation[1024];
static char where[1200];
static uint64_t opened_nr, damaged_nr, clean_nr;
static FILE *nowhere;

static void on_signal(int number)
{
	ssize_t done = write(STDERR_FILENO, where, strlen(where));

	(void)done;
	signal(number, SIG_DFL);
	raise(number);
}

/* ---- images to begin with ------------------------------------------------------------------------------------------- */

static void draw_shape(struct rig *rig)
{
	rig->o.granularity = rig_below(rig, 2) ? PC_GRAN_CACHE_LINE : PC_GRAN_PAGE;
	rig->o.segment_nr = 12 + (uint32_t)rig_below(rig, 16);
	rig->o.segment_bytes = rig_below(rig, 2) ? 4096 : 16384;
	rig->o.backing_bytes = 512 * (64 + rig_below(rig, 128));
	rig->o.no_crc = rig_below(rig, 3) == 0;
	rig->o.full_error = true;
}

static void make_base(struct base *base, uint64_t seed)
{
	struct rig rig;
	uint8_t io[16 * 512];
	uint64_t blk, len_blk;

	rig_zero(&rig);
	rig.seed = seed;
	draw_shape(&rig);
	rig_up(&rig);
	for (uint32_t nr = 5 + (uint32_t)rig_below(&rig, 60); nr > 0; nr--) {
		blk = rig_below(&rig, rig.o.backing_bytes / 512 - 16);
		len_blk = 1 + rig_below(&rig, 16);
		rig_pattern(&rig, io, sizeof(io));
		if (rig_below(&rig, 6) == 0)
			(void)pcache_discard(rig.cache, blk * 512, len_blk * 512, 0);
		else if (rig_below(&rig, 6) == 0)
			(void)pcache_maintain(rig.cache, 3);
		else
			(void)pcache_write(rig.cache, io, blk * 512, len_blk * 512, 0);
		if (rig_below(&rig, 10) == 0)
			(void)pcache_flush(rig.cache);
	}
	if (rig_below(&rig, 3) == 0)
		rig_close(&rig);
	base->o = rig.o;
	base->media_bytes = pc_sim_media(rig.sim)->len_bytes;
	base->media = malloc(base->media_bytes);
	base->backing = malloc(rig.o.backing_bytes);
	assert_true(base->media && base->backing);
	pc_sim_crash(rig.sim, rig_below(&rig, 2) ? PC_SIM_ALL : PC_SIM_RANDOM, seed, base->media);
	memcpy(base->backing, mem_backing_live(rig.mb), rig.o.backing_bytes);
	rig_down(&rig);
}

static int make_bases(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < BASE_NR; i++)
		make_base(&bases[i], i + 1);
	nowhere = fopen("/dev/null", "w");
	return nowhere ? 0 : -1;
}

static int drop_bases(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < BASE_NR; i++) {
		free(bases[i].media);
		free(bases[i].backing);
	}
	return fclose(nowhere);
}

/* ---- one image ---------------------------------------------------------------------------------------------------- */

struct map {
	const struct base *base;
	const uint8_t *media;
	uint8_t *expected;
	uint8_t *poisoned; /* NULL until the superblock is known to fit the backing */
	bool odd; /* a note that keeps an open from succeeding */
};

static void on_finding(void *user, const struct check_finding *finding)
{
	struct map *map = user;

	map->odd |= finding->rule == CHECK_S18;
}

static void on_extent(void *user, const struct check_extent *extent)
{
	struct map *map = user;

	/* Of another backing than that of the base: the open will refuse it. */
	if ((extent->vol_blk + extent->len_blk) * 512 > map->base->o.backing_bytes)
		return;
	memset(map->poisoned + extent->vol_blk, extent->type == PC_KEY_POISON, extent->len_blk);
	if (extent->type == PC_KEY_DATA)
		memcpy(map->expected + extent->vol_blk * 512, map->media + extent->media_off, extent->len_blk * 512);
	else
		memset(map->expected + extent->vol_blk * 512, 0, extent->len_blk * 512);
}

static bool backing_is_refused(int rc)
{
	return rc == PCACHE_E_WRONG_BACKING || rc == PCACHE_E_BACKING_SIZE;
}

/* Reads block by block: an error of one is its own. True if all are as check says. */
static bool reads_agree(struct rig *rig, const struct map *map, bool tell)
{
	uint8_t block[512];

	for (uint64_t blk = 0; blk < rig->o.backing_bytes / 512; blk++) {
		const int rc = pcache_read(rig->cache, block, blk * 512, 512, PCACHE_NOCACHE);

		if (rc != (map->poisoned[blk] ? PCACHE_E_POISONED : 0) ||
		    (rc == 0 && memcmp(block, map->expected + blk * 512, 512) != 0)) {
			if (tell)
				print_error("block %llu: %d\n", (unsigned long long)blk, rc);
			return false;
		}
	}
	return true;
}

static void check_state(struct rig *rig, const char *when)
{
	const char *wrong = pc_cache_check(rig->cache);

	if (wrong)
		fail_msg("%s%s: %s", where, when, wrong);
}

/* The cache is worked with; errors are answers, but the state must be one. */
static void work(struct rig *rig)
{
	uint8_t io[8 * 512];

	for (uint32_t nr = 12; nr > 0; nr--) {
		const uint64_t blk = rig_below(rig, rig->o.backing_bytes / 512 - 8);

		rig_pattern(rig, io, sizeof(io));
		(void)pcache_write(rig->cache, io, blk * 512, sizeof(io), 0);
		(void)pc_cache_step(rig->cache, (enum pc_step)(nr % PC_STEP_NR), true);
	}
	(void)pcache_flush(rig->cache);
	check_state(rig, "after work");
	(void)pcache_drain(rig->cache, NULL, NULL);
	check_state(rig, "after a drain");
	(void)pcache_close(rig->cache);
	rig->cache = NULL;
}

static void try_open(const struct base *base, const struct map *map, bool is_clean)
{
	struct rig rig;
	int rc;

	rig_zero(&rig);
	rig.o = base->o;
	rig.o.backing.size_bytes = base->o.backing_bytes;
	rig.seed = 77;
	rig.mb = mem_backing_create(&rig.o.backing);
	assert_non_null(rig.mb);
	mem_backing_load(rig.mb, base->backing);
	assert_int_equal(pc_sim_wrap(map->media, base->media_bytes, rig.o.granularity, 0, &rig.sim), 0);
	rc = rig_try_open(&rig);
	if (rc != 0 && is_clean && !map->odd && !backing_is_refused(rc))
		fail_msg("%scheck finds no damage, but the open gives %d", where, rc);
	if (rc == 0) {
		opened_nr++;
		check_state(&rig, "after the open");
		if (!reads_agree(&rig, map, is_clean) && is_clean)
			fail_msg("%sa block reads otherwise than check says", where);
		work(&rig);
	}
	rig_down(&rig);
}

/* Without a backing that could be refused. */
static void probe(struct pc_media *media, const struct check_result *result, bool is_clean)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	const int rc = pc_api_probe_media(media, &info);

	if (!is_clean)
		return;
	if (rc != 0)
		fail_msg("%scheck finds no damage, but `pcache info` gives %d", where, rc);
	if (info.dirty_bytes != result->counts.dirty_bytes + result->counts.dirty_zero_bytes ||
	    info.clean_bytes != result->counts.clean_bytes)
		fail_msg("%scheck and `pcache info` count otherwise", where);
}

static void run_image(const struct base *base, uint64_t seed)
{
	struct map map = { .base = base };
	const struct check_settings settings = { .finding = on_finding, .extent = on_extent, .user = &map };
	struct check_result result;
	struct forge_media media;
	uint8_t *image = malloc(base->media_bytes);
	int rc;

	assert_non_null(image);
	memcpy(image, base->media, base->media_bytes);
	mutate_image(image, base->media_bytes, seed, mutation, sizeof(mutation));
	snprintf(where, sizeof(where), "PCACHE_HOSTILE_SEED=%llu, changed:%s\n", (unsigned long long)seed, mutation);
	map.media = image;
	map.expected = malloc(base->o.backing_bytes);
	map.poisoned = calloc(1, base->o.backing_bytes / 512);
	assert_true(map.expected && map.poisoned);
	memcpy(map.expected, base->backing, base->o.backing_bytes);
	forge_media_of(&media, image, base->media_bytes);
	alarm(ALARM_S);
	rc = check_run(&media.media, &settings, &result);
	clean_nr += rc == 0 && result.finding_nr[CHECK_DAMAGE] == 0;
	damaged_nr += rc != 0 || result.finding_nr[CHECK_DAMAGE] != 0;
	if (getenv("PCACHE_HOSTILE_KEEP")) {
		FILE *kept = fopen(getenv("PCACHE_HOSTILE_KEEP"), "w");

		assert_non_null(kept);
		assert_int_equal(fwrite(image, 1, base->media_bytes, kept), base->media_bytes);
		assert_int_equal(fclose(kept), 0);
	}
	(void)dump_run(&media.media, DUMP_ALL, nowhere);
	probe(&media.media, &result, rc == 0 && result.finding_nr[CHECK_DAMAGE] == 0);
	try_open(base, &map, rc == 0 && result.finding_nr[CHECK_DAMAGE] == 0);
	alarm(0);
	free(map.expected);
	free(map.poisoned);
	free(image);
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

static void mutated_images(void **state)
{
	const char *sanitize = getenv("PCACHE_SANITIZE");
	const bool plain = !sanitize || !*sanitize;
	const uint64_t first = number_of("PCACHE_HOSTILE_SEED", 1),
		       nr = number_of("PCACHE_HOSTILE_NR", plain ? 4000 : 1000);
	static const int signals[] = { SIGALRM, SIGSEGV, SIGBUS, SIGABRT, SIGFPE };
	struct rusage usage;

	(void)state;
	for (size_t i = 0; i < PC_ARRAY_NR(signals); i++)
		signal(signals[i], on_signal);
	for (uint64_t seed = first; seed < first + nr; seed++)
		run_image(&bases[seed % BASE_NR], seed);
	assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
	print_message("seeds %llu to %llu: %llu with damage, %llu without, %llu opened; at most %ld KiB of memory\n",
		      (unsigned long long)first, (unsigned long long)(first + nr - 1), (unsigned long long)damaged_nr,
		      (unsigned long long)clean_nr, (unsigned long long)opened_nr, usage.ru_maxrss);
	if (plain)
		assert_true(usage.ru_maxrss < MEMORY_KIB_MAX);
	if (nr >= 100)
		assert_true(damaged_nr && clean_nr && opened_nr);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mutated_images),
	};

	return cmocka_run_group_tests(tests, make_bases, drop_bases);
}
