/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-fuzz-seeds FOLDER [NUMBER]: inputs to begin with, in FOLDER/<target>/. Images are crash images of caches that worked for a while on simulated media; records and ksets are
 * taken out of them. The same number gives the same files. run.sh makes the corpus of them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "format/format.h"
#include "fuzz/scene.h"
#include "sim/generator.h"

#define OWN_BYTES 128u /* operations of open_ops */
#define SETTINGS_KSET_BYTES 16u

static const char *folder;

static void save(const char *target, const char *name, uint32_t nr, const void *bytes, size_t len)
{
	char path[1024];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, target);
	if (mkdir(path, 0777) != 0 && errno != EEXIST) {
		perror(path);
		exit(1);
	}
	snprintf(path, sizeof(path), "%s/%s/%s-%u", folder, target, name, nr);
	file = fopen(path, "wb");
	if (!file || fwrite(bytes, 1, len, file) != len || fclose(file) != 0) {
		perror(path);
		exit(1);
	}
}

/* ---- a cache that works for a while -------------------------------------------------------------------------------------- */

struct life {
	struct pc_rng rng;
	uint8_t bits;
	uint8_t heads;
	uint8_t size_idx;
	uint8_t backing_seed;
	uint64_t nonce;
	struct pc_sim *sim;
	struct mem_backing *mb;
	struct pcache *cache;
	uint32_t block_bytes, block_nr;
};

static uint64_t next_nonce(void *user)
{
	struct life *life = user;

	return pc_rng_mix(life->nonce++);
}

static void must(bool is)
{
	if (!is)
		abort();
}

static struct pcache_config *draw_config(struct life *life)
{
	struct pcache_config *config;

	must(pcache_config_new(&config) == 0);
	must(pcache_config_set(config, PCACHE_OPT_BLOCK_BYTES, life->block_bytes) == 0);
	must(pcache_config_set(config, PCACHE_OPT_SEGMENT_BYTES,
			       life->size_idx < 4 || pc_rng_chance(&life->rng, 50) ? 4096 : 8192) == 0);
	must(pcache_config_set(config, PCACHE_OPT_DATA_CRC, pc_rng_chance(&life->rng, 75)) == 0);
	must(pcache_config_set(config, PCACHE_OPT_MAINTENANCE, PCACHE_MAINTENANCE_CALLER) == 0);
	must(pcache_config_set(config, PCACHE_OPT_FULL_POLICY, 1) == 0);
	must(pcache_config_set(config, PCACHE_OPT_WRITEBACK_DELAY_MS, 0) == 0);
	return config;
}

static void begin(struct life *life, uint64_t seed)
{
	static const enum pc_granularity granularities[4] = { PC_GRAN_CACHE_LINE, PC_GRAN_PAGE, PC_GRAN_BYTE,
							      PC_GRAN_PAGE };
	struct pc_tweaks tweaks = { .shard_nr = 4, .stripe_bytes = 8192, .nonce = next_nonce, .nonce_user = life };
	struct mem_backing_options options = { 0 };
	static uint8_t bytes[SCENE_BACKING_BYTES_MAX];
	struct pcache_backing *backing;
	struct pcache_config *config;

	memset(life, 0, sizeof(*life));
	life->rng.state = pc_rng_mix(seed);
	life->nonce = seed * 1000;
	life->bits = (uint8_t)pc_rng_next(&life->rng);
	life->heads = (uint8_t)pc_rng_below(&life->rng, 4);
	life->size_idx = (uint8_t)pc_rng_below(&life->rng, 6);
	life->backing_seed = (uint8_t)seed;
	life->block_bytes = pc_rng_chance(&life->rng, 80) ? 512 : 4096;
	life->block_nr =
		life->block_bytes == 512 ? 48 + 16 * pc_rng_below(&life->rng, 8) : 12 + pc_rng_below(&life->rng, 20);
	options.size_bytes = (uint64_t)life->block_nr * life->block_bytes;
	options.block_bytes = life->block_bytes;
	life->mb = mem_backing_create(&options);
	must(life->mb);
	scene_fill_backing(life->backing_seed, bytes, options.size_bytes);
	mem_backing_load(life->mb, bytes);
	must(pc_sim_new((uint64_t)scene_media_kib[life->size_idx] << 10, granularities[life->bits & 3], 0,
			&life->sim) == 0);
	config = draw_config(life);
	tweaks.data_head_nr = life->heads;
	backing = mem_backing_attach(life->mb);
	must(pc_cache_format_media(pc_sim_media(life->sim), config, &tweaks, backing) == 0);
	must(pc_cache_open_media(pc_sim_media(life->sim), config, &tweaks, backing, &life->cache) == 0);
	pcache_config_free(config);
}

static void work(struct life *life)
{
	static uint8_t io[64 * 4096];
	const uint32_t blk = pc_rng_below(&life->rng, life->block_nr);
	const uint32_t len_blk =
		PC_MIN(1 + pc_rng_below(&life->rng, pc_rng_chance(&life->rng, 25) ? 24 : 5), life->block_nr - blk);
	const uint64_t off = (uint64_t)blk * life->block_bytes, len = (uint64_t)len_blk * life->block_bytes;

	switch (pc_rng_below(&life->rng, 14)) {
	case 0:
		(void)pcache_discard(life->cache, off, len, 0);
		break;
	case 1:
		(void)pcache_write_zeroes(life->cache, off, len, 0);
		break;
	case 2:
		(void)pcache_read(life->cache, io, off, len, 0);
		break;
	case 3:
		(void)pcache_flush(life->cache);
		break;
	case 4:
	case 5:
		(void)pcache_maintain(life->cache, 1 + pc_rng_below(&life->rng, 8));
		break;
	case 6:
		(void)pc_cache_step(life->cache, (enum pc_step)pc_rng_below(&life->rng, PC_STEP_NR), true);
		break;
	default: /* a word again and again: the input stays short */
		memset(io, 1 + (int)pc_rng_below(&life->rng, 255), len);
		(void)pcache_write(life->cache, io, off, len, pc_rng_chance(&life->rng, 20) ? PCACHE_DURABLE : 0);
		break;
	}
}

static void end(struct life *life)
{
	if (life->cache)
		pc_cache_abandon(life->cache);
	pc_sim_free(life->sim);
	mem_backing_destroy(life->mb);
}

/* ---- inputs ---------------------------------------------------------------------------------------------------------------- */

static uint8_t image[SCENE_MEDIA_BYTES_MAX];
static uint8_t input[SCENE_SETTINGS_BYTES + OWN_BYTES + SCENE_MEDIA_BYTES_MAX / 8 * 9 + 1];

static void save_image(struct life *life, uint32_t nr, uint64_t media_bytes)
{
	size_t len = SCENE_SETTINGS_BYTES;

	memset(input, 0, sizeof(input));
	input[0] = life->bits;
	input[1] = (uint8_t)((nr % 4 ? 15 : 0) | life->heads << 4); /* one in four is not sealed again */
	input[2] = life->size_idx;
	input[3] = life->backing_seed;
	len += fuzz_encode(image, media_bytes, input + len);
	save("image", "image", nr, input, len);
	memmove(input + SCENE_SETTINGS_BYTES + OWN_BYTES, input + SCENE_SETTINGS_BYTES, len - SCENE_SETTINGS_BYTES);
	for (uint32_t i = 0; i < OWN_BYTES; i++)
		input[SCENE_SETTINGS_BYTES + i] = (uint8_t)pc_rng_next(&life->rng);
	save("open_ops", "image", nr, input, len + OWN_BYTES);
}

static void save_records(const struct pc_super *super, uint32_t nr)
{
	uint8_t bytes[1 + 2 * PC_SUPER_BYTES];
	const uint32_t id = nr % super->segment_nr;
	uint64_t at;

	bytes[0] = (uint8_t)(nr % 4 ? 0x80 : 0);
	memcpy(bytes + 1, image, PC_SUPER_BYTES);
	save("superblock", "super", nr, bytes, 1 + PC_SUPER_BYTES);
	bytes[0]++;
	memcpy(bytes + 1, image + pc_geo_tail_off(super, 0), 64);
	save("superblock", "tail", nr, bytes, 65);
	bytes[0]++;
	memcpy(bytes + 1, image + pc_geo_segrec_off(super, 0, id), 64);
	bytes[65] = (uint8_t)id;
	save("superblock", "segrec", nr, bytes, 66);
	bytes[0]++;
	for (unsigned int copy = 0; copy < 2; copy++)
		memcpy(bytes + 1 + copy * PC_SUPER_BYTES, image + pc_geo_super_off(super, copy), PC_SUPER_BYTES);
	save("superblock", "supers", nr, bytes, sizeof(bytes));
	bytes[0]++;
	for (uint32_t i = 0; i < 8; i++) {
		at = i < 2 ? pc_geo_tail_off(super, i) : pc_geo_segrec_off(super, i & 1, i / 2 - 1);
		memcpy(bytes + 1 + i * 64, image + at, 64);
	}
	save("superblock", "records", nr, bytes, 1 + 8 * 64);
}

/* The longest kset, the first MARK, and one by chance. */
static void save_ksets(struct life *life, const struct pc_super *super, uint32_t nr)
{
	static uint8_t bytes[SETTINGS_KSET_BYTES + 64 * PC_SLOT_BYTES];
	const uint32_t slot_nr = pc_geo_slots_per_segment(super);
	uint32_t saved_nr = 0;
	struct pc_kset_rules rules;
	struct pc_segrec rec;
	struct pc_kset kset;

	pc_kset_rules_of(super, &rules);
	for (uint32_t id = 0; id < super->segment_nr; id++) {
		if (pc_segrec_decode((const void *)(image + pc_geo_segrec_off(super, 0, id)), id, &rec) != PC_VALID ||
		    rec.type != PC_SEG_LOG)
			continue;
		for (uint32_t slot = 0; slot < slot_nr; slot++) {
			const uint8_t *at = image + pc_geo_segment_off(super, id) + (size_t)slot * PC_SLOT_BYTES;

			if (pc_kset_decode(at, slot_nr - slot, rec.ordinal * slot_nr + slot, rec.nonce, &rules,
					   &kset) != PC_VALID ||
			    kset.slot_nr > 64)
				continue;
			if (kset.slot_nr < 2 && !pc_rng_chance(&life->rng, 10))
				continue;
			memset(bytes, 0, sizeof(bytes));
			bytes[0] = (uint8_t)(3 | (rules.data_crc ? 4 : 0) | (rules.block_bytes == 4096 ? 8 : 0));
			bytes[1] = (uint8_t)__builtin_ctz(rules.segment_bytes / 4096);
			bytes[2] = (uint8_t)(rules.segment_nr - 8);
			bytes[3] = 8;
			bytes[8] = 20;
			memcpy(bytes + SETTINGS_KSET_BYTES, at, (size_t)kset.slot_nr * PC_SLOT_BYTES);
			save("kset", "kset", nr * 100 + saved_nr++, bytes,
			     SETTINGS_KSET_BYTES + (size_t)kset.slot_nr * PC_SLOT_BYTES);
		}
	}
}

static void save_ops(uint32_t nr)
{
	struct pc_rng rng = { pc_rng_mix(nr + 5000) };
	uint8_t bytes[12 + 4 * 60];
	const uint32_t op_nr = 8 + pc_rng_below(&rng, 52);

	for (uint32_t i = 0; i < 12 + 4 * op_nr; i++)
		bytes[i] = (uint8_t)pc_rng_next(&rng);
	if (nr % 3)
		bytes[1] &= (uint8_t)~3u; /* mostly without faults */
	save("ops", "ops", nr, bytes, 12 + 4 * op_nr);
}

static void make(uint32_t nr)
{
	struct life life;
	struct pc_super super;
	uint64_t media_bytes;

	begin(&life, nr);
	for (uint32_t left = 3 + pc_rng_below(&life.rng, 60); left > 0; left--)
		work(&life);
	if (pc_rng_chance(&life.rng, 25)) {
		(void)pcache_close(life.cache);
		life.cache = NULL;
	}
	media_bytes = pc_sim_media(life.sim)->len_bytes;
	(void)pc_sim_crash(life.sim, pc_rng_chance(&life.rng, 50) ? PC_SIM_ALL : PC_SIM_RANDOM,
			   pc_rng_chance(&life.rng, 50) ? 0 : nr, image);
	save_image(&life, nr, media_bytes);
	if (pc_super_decode((const void *)image, &super) == PC_VALID) {
		save_records(&super, nr);
		save_ksets(&life, &super, nr);
	}
	save_ops(nr);
	end(&life);
}

int main(int argc, char **argv)
{
	const unsigned long nr = argc > 2 ? strtoul(argv[2], NULL, 0) : 24;

	if (argc < 2) {
		fputs("Usage: pcache-fuzz-seeds FOLDER [NUMBER]\n", stderr);
		return 2;
	}
	folder = argv[1];
	if (mkdir(folder, 0777) != 0 && errno != EEXIST) {
		perror(folder);
		return 1;
	}
	for (uint32_t i = 1; i <= nr; i++)
		make(i);
	return 0;
}
