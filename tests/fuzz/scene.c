/* SPDX-License-Identifier: BSD-3-Clause */
/* Mutated images and their open; see scene.h. */
#include "fuzz/scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/handle.h"
#include "pcache/errors.h"
#include "sim/generator.h"
#include "tool/dump.h"
#include "tool/forge.h"
#include "tool/mutate.h"

const uint32_t scene_media_kib[8] = { 64, 80, 96, 112, 128, 160, 192, 256 };

static const volatile uint8_t no_fork = 1; /* nobody forks with a cache open */

/* ---- media and backing ----------------------------------------------------------------------------------------------- */

/* Simulated media is costly to make: one of each kind is kept. */
static struct pc_sim *sim_of(uint8_t kind, uint32_t size_idx)
{
	static struct pc_sim *sims[4][PC_ARRAY_NR(scene_media_kib)];
	static const enum pc_granularity granularities[4] = { PC_GRAN_CACHE_LINE, PC_GRAN_PAGE, PC_GRAN_BYTE,
							      PC_GRAN_PAGE };
	struct pc_sim **sim = &sims[kind][size_idx];

	if (!*sim && pc_sim_new((uint64_t)scene_media_kib[size_idx] << 10, granularities[kind],
				kind == 3 ? PC_SIM_STAGED : 0, sim) != 0)
		abort();
	return *sim;
}

void scene_fill_backing(uint8_t seed, uint8_t *to, uint64_t bytes)
{
	for (uint64_t off = 0; off + 8 <= bytes; off += 8) {
		const uint64_t word = pc_rng_mix(seed * UINT64_C(1000) + off / 512);

		memcpy(to + off, &word, 8);
	}
}

static uint64_t next_nonce(void *user)
{
	struct scene *s = user;

	return pc_rng_mix(++s->nonce);
}

static void attach_backing(struct scene *s)
{
	const struct mem_backing_options options = { .size_bytes = (uint64_t)s->block_nr * s->block_bytes,
						     .block_bytes = s->block_bytes };

	s->mb = mem_backing_create(&options);
	if (!s->mb)
		abort();
	mem_backing_load(s->mb, s->original);
}

/* ---- what check says -------------------------------------------------------------------------------------------------- */

/*
 * Damage of the data or of the map as a whole, which reads and drains meet later; Y18 is one of the data, too, that an open sees, says, and leaves to the reads. Copies further
 * apart than a crash leaves them: the newest counts. And a log that goes on behind a clean close (T12): it is recovered as if there had been none.
 * The position below which a mark says that all was durable is a bound for an open, wherever it lies (K16).
 */
static bool open_takes(enum check_rule rule)
{
	return rule == CHECK_M1 || rule == CHECK_M3 || rule == CHECK_M4 || rule == CHECK_Y18 || rule == CHECK_S17 ||
	       rule == CHECK_T12 || rule == CHECK_T8 || rule == CHECK_R9 || rule == CHECK_R10 || rule == CHECK_K16;
}

static bool is_of_kset(enum check_rule rule)
{
	return rule >= CHECK_K1 && rule < CHECK_Y18;
}

static void on_finding(void *user, const struct check_finding *finding)
{
	struct scene *s = user;
	struct scene_damage *damage = &s->damages[s->damage_nr];

	s->refused |= finding->rule == CHECK_S18;
	s->lost |= finding->rule == CHECK_M1;
	s->wrong_data |= finding->rule == CHECK_M4;
	s->unverified |= finding->rule == CHECK_M6;
	if (finding->severity != CHECK_DAMAGE || open_takes(finding->rule) || s->damage_nr == PC_ARRAY_NR(s->damages))
		return;
	s->damage_nr++;
	damage->rule = finding->rule;
	damage->media_off = finding->media_off;
	snprintf(damage->text, sizeof(damage->text), "%s %s", check_rule_number(finding->rule), finding->text);
}

/* The position in the log that an offset is; UINT64_MAX: none. */
static uint64_t position_of(const struct scene *s, uint64_t media_off)
{
	const struct pc_super *super = &s->check.super;
	struct pc_segrec rec, newest = { 0 };
	uint32_t id;

	if (media_off < super->data_off || media_off >= super->zone_b_off)
		return UINT64_MAX;
	id = (uint32_t)((media_off - super->data_off) / super->segment_bytes);
	for (unsigned int copy = 0; id < super->segment_nr && copy < 2; copy++)
		if (pc_segrec_decode((const void *)(s->image + pc_geo_segrec_off(super, copy, id)), id, &rec) ==
			    PC_VALID &&
		    rec.seq >= newest.seq)
			newest = rec;
	return newest.type != PC_SEG_LOG ? UINT64_MAX
					 : newest.ordinal * pc_geo_slots_per_segment(super) +
						   (media_off - pc_geo_segment_off(super, id)) / PC_SLOT_BYTES;
}

/*
 * Above the mark a kset with a good CRC that cannot be is no crash, so check calls it damage, and so it does all that is missing there after a clean close; an open takes it for
 * a write that never was.
 */
static void judge_damages(const struct scene *s)
{
	for (uint32_t i = 0; i < s->damage_nr; i++) {
		const struct scene_damage *damage = &s->damages[i];
		const uint64_t pos = is_of_kset(damage->rule) ? position_of(s, damage->media_off) : UINT64_MAX;

		if (pos == UINT64_MAX || pos < s->check.mark_pos)
			fuzz_fail("the open takes what check calls damaged: %s", damage->text);
	}
}

static void on_extent(void *user, const struct check_extent *extent)
{
	struct scene *s = user;
	const uint64_t end_blk = PC_MIN(extent->vol_blk + extent->len_blk, (uint64_t)s->block_nr);
	static const uint8_t zeroes[4096];

	for (uint64_t blk = extent->vol_blk; blk < end_blk; blk++) {
		const size_t at = (size_t)blk * s->block_bytes;
		const uint8_t *bytes = extent->type == PC_KEY_DATA
					       ? s->image + extent->media_off + (blk - extent->vol_blk) * s->block_bytes
					       : zeroes;

		if (extent->type == PC_KEY_POISON) {
			s->blocks[blk] = SCENE_POISONED;
			continue;
		}
		memcpy(s->expected + at, bytes, s->block_bytes);
		if (extent->dirty)
			s->blocks[blk] = SCENE_DIRTY;
		else
			memcpy(s->original + at, bytes, s->block_bytes);
	}
}

/* Cleaning appends again what the index shows, so it is a forged key that hides something dirty; or the backing has that already, and nobody can tell. */
static void on_key(void *user, const struct check_found_key *key)
{
	struct scene *s = user;
	const uint64_t end_blk = PC_MIN(key->vol_blk + key->len_blk, (uint64_t)s->block_nr);

	for (uint64_t blk = key->vol_blk; blk < end_blk; blk++) {
		s->is_dirty[blk] |= key->dirty;
		s->unsure[blk] |= (key->flags & PC_KEY_CLEAN) && s->is_dirty[blk];
	}
}

/* The size of the backing comes before the extents are told. */
static void find_backing(struct scene *s)
{
	struct pc_super super;
	struct pcm_super media;

	s->block_bytes = 512;
	s->block_nr = 64;
	for (unsigned int copy = 0; copy < 2; copy++) {
		memcpy(&media, s->image + (copy ? s->media_bytes - PC_PAGE_BYTES : 0), sizeof(media));
		if (pc_super_decode(&media, &super) == PC_VALID && super.backing_bytes <= SCENE_BACKING_BYTES_MAX) {
			s->block_bytes = super.block_bytes;
			s->block_nr = (uint32_t)(super.backing_bytes / super.block_bytes);
			return;
		}
	}
}

static void check_before(struct scene *s, uint8_t backing_seed)
{
	const struct check_settings settings = { .finding = on_finding, .extent = on_extent, .key = on_key, .user = s };
	struct forge_media media;

	find_backing(s);
	scene_fill_backing(backing_seed, s->original, (uint64_t)s->block_nr * s->block_bytes);
	memcpy(s->expected, s->original, (size_t)s->block_nr * s->block_bytes);
	forge_media_of(&media, s->image, s->media_bytes);
	s->check_rc = check_run(&media.media, &settings, &s->check);
}

bool scene_is_sound(const struct scene *s)
{
	return s->check_rc == 0 && s->check.finding_nr[CHECK_DAMAGE] == 0;
}

static void dump_nowhere(struct scene *s)
{
	static FILE *file;
	struct forge_media media;

	if (!file)
		file = fopen("/dev/null", "w");
	if (!file)
		abort();
	forge_media_of(&media, s->image, s->media_bytes);
	(void)dump_run(&media.media, DUMP_ALL, file);
}

/* `pcache info` of the closed cache. */
static void probe(struct scene *s)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	struct forge_media media;
	int rc;

	forge_media_of(&media, s->image, s->media_bytes);
	rc = pc_api_probe_media(&media.media, &info);
	if (!scene_is_sound(s))
		return;
	if (rc != 0)
		fuzz_fail("check finds no damage, but info gives %d", rc);
	if (info.dirty_bytes != s->check.counts.dirty_bytes + s->check.counts.dirty_zero_bytes ||
	    info.clean_bytes != s->check.counts.clean_bytes)
		fuzz_fail("check and info count otherwise");
}

struct scene *scene_begin(const uint8_t *data, size_t len, uint8_t *own, size_t own_bytes)
{
	static struct scene scene;
	struct scene *s = &scene;
	struct fuzz_input in = { .at = data, .left = len };
	char text[1024];
	uint8_t what, size_idx, backing_seed;
	uint32_t seed;

	s->bits = fuzz_u8(&in);
	what = fuzz_u8(&in);
	size_idx = fuzz_u8(&in) % PC_ARRAY_NR(scene_media_kib);
	backing_seed = fuzz_u8(&in);
	seed = fuzz_u32(&in);
	for (size_t i = 0; i < own_bytes; i++)
		own[i] = fuzz_u8(&in);
	s->heads = what >> 4 & 3;
	s->media_bytes = (uint64_t)scene_media_kib[size_idx] << 10;
	s->nonce = 0;
	s->cache = NULL;
	s->refused = false;
	s->lost = false;
	s->wrong_data = false;
	s->unverified = false;
	memset(s->unsure, 0, sizeof(s->unsure));
	memset(s->is_dirty, 0, sizeof(s->is_dirty));
	s->damage_nr = 0;
	memset(s->blocks, SCENE_FROM_BACKING, sizeof(s->blocks));
	fuzz_decode(in.at, in.left, s->image, s->media_bytes);
	if (seed != 0)
		mutate_image(s->image, s->media_bytes, seed, text, sizeof(text));
	fuzz_seal(s->image, s->media_bytes, what & 15u);
	check_before(s, backing_seed);
	attach_backing(s);
	s->sim = sim_of(s->bits & 3, size_idx);
	pc_sim_reset(s->sim, s->image);
	if (s->bits & SCENE_DUMP)
		dump_nowhere(s);
	probe(s);
	return s;
}

void scene_end(struct scene *s)
{
	scene_abandon(s);
	mem_backing_destroy(s->mb);
}

/* ---- the open ----------------------------------------------------------------------------------------------------------- */

static void set(struct pcache_config *config, enum pcache_option option, uint64_t value)
{
	if (pcache_config_set(config, (int)option, value) != 0)
		abort();
}

int scene_try_open(struct scene *s)
{
	const struct pc_tweaks tweaks = { .shard_nr = 4,
					  .stripe_bytes = 8192,
					  .data_head_nr = s->heads,
					  .pass_min_slots = 1,
					  .pass_part_bytes = 4096,
					  .nonce = next_nonce,
					  .nonce_user = s,
					  .fork_page = &no_fork };
	struct pcache_backing *backing = mem_backing_attach(s->mb);
	struct pcache_config *config;
	int rc;

	if (!backing || pcache_config_new(&config) != 0)
		abort();
	set(config, PCACHE_OPT_BLOCK_BYTES, s->block_bytes);
	set(config, PCACHE_OPT_READ_CACHE, !(s->bits & SCENE_NO_READ_CACHE));
	set(config, PCACHE_OPT_ORDERING, s->bits & SCENE_BATCH ? PCACHE_ORDERING_BATCH : PCACHE_ORDERING_STRICT);
	set(config, PCACHE_OPT_FULL_POLICY, (s->bits & SCENE_FULL_ERROR) != 0);
	set(config, PCACHE_OPT_COMMIT, s->bits & SCENE_COMMIT_FLUSH ? PCACHE_COMMIT_FLUSH : PCACHE_COMMIT_WRITE);
	set(config, PCACHE_OPT_COMMIT_GUARD, (s->bits & SCENE_GUARD_FENCE) != 0);
	set(config, PCACHE_OPT_WRITEBACK_DELAY_MS, 0);
	set(config, PCACHE_OPT_MAINTENANCE, PCACHE_MAINTENANCE_CALLER);
	if (pc_sim_closed(s->sim))
		pc_sim_reopen(s->sim);
	rc = pc_cache_open_media(pc_sim_media(s->sim), config, &tweaks, backing, &s->cache);
	if (rc != 0) {
		pcache_backing_free(backing);
		s->cache = NULL;
	}
	pcache_config_free(config);
	return rc;
}

void scene_abandon(struct scene *s)
{
	if (s->cache)
		pc_cache_abandon(s->cache);
	s->cache = NULL;
}

void scene_check_state(struct scene *s, const char *when)
{
	const char *wrong = pc_cache_check(s->cache);

	if (wrong)
		fuzz_fail("%s: %s", when, wrong);
}

void scene_check_closed(struct scene *s, const char *when)
{
	const struct check_settings settings = { 0 };
	struct check_result result;
	int rc;

	if (pc_sim_closed(s->sim))
		pc_sim_reopen(s->sim);
	rc = check_run(pc_sim_media(s->sim), &settings, &result);
	if (scene_is_sound(s) && (rc != 0 || result.finding_nr[CHECK_DAMAGE] != 0))
		fuzz_fail("%s: check gives %d and finds damage that was not there", when, rc);
}

int scene_read(struct scene *s, uint32_t blk, uint8_t *to)
{
	const int rc = pcache_read(s->cache, to, (uint64_t)blk * s->block_bytes, s->block_bytes, PCACHE_NOCACHE);

	if (rc != 0 && rc != PCACHE_E_POISONED)
		fuzz_fail("a read of block %u gives %d", blk, rc);
	return rc;
}

static bool backing_is_refused(int rc)
{
	return rc == PCACHE_E_WRONG_BACKING || rc == PCACHE_E_BACKING_SIZE;
}

/* What an open does not take, it leaves as it is. */
static void judge_refusal(struct scene *s, int rc)
{
	if (scene_is_sound(s) && !s->refused && !backing_is_refused(rc))
		fuzz_fail("check finds no damage, but the open gives %d", rc);
	if (memcmp(pc_sim_view(s->sim), s->image, s->media_bytes) != 0)
		fuzz_fail("the open gives %d, and has changed the media", rc);
}

static void read_all(struct scene *s, bool *known)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	uint8_t block[4096];

	for (uint32_t blk = 0; blk < s->block_nr; blk++) {
		const int rc = scene_read(s, blk, block);

		known[blk] = rc == 0;
		if (scene_is_sound(s) && known[blk] == (s->blocks[blk] == SCENE_POISONED))
			fuzz_fail("block %u: read gives %d", blk, rc);
		if (rc != 0 && s->blocks[blk] == SCENE_FROM_BACKING)
			fuzz_fail("block %u has nothing dirty, and read gives %d", blk, rc);
		if (rc == 0 && memcmp(block, s->expected + (size_t)blk * s->block_bytes, s->block_bytes) != 0)
			fuzz_fail("block %u reads otherwise than check says", blk);
	}
	if (pcache_info_get(s->cache, &info) != 0)
		abort();
	if (s->wrong_data && info.crc_errors == 0)
		fuzz_fail("check finds data that has another CRC, and no read does");
}

bool scene_open(struct scene *s, bool *known)
{
	const int rc = scene_try_open(s);

	if (rc != 0) {
		judge_refusal(s, rc);
		return false;
	}
	scene_check_state(s, "after the open");
	if (s->unverified)
		return false;
	judge_damages(s);
	read_all(s, known);
	return true;
}
