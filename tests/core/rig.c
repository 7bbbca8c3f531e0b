/* SPDX-License-Identifier: BSD-3-Clause */
#include "core/rig.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc.h"

uint64_t rig_random(struct rig *rig)
{
	uint64_t x = rig->seed += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

uint64_t rig_below(struct rig *rig, uint64_t limit)
{
	return rig_random(rig) % limit;
}

void rig_pattern(struct rig *rig, uint8_t *buf, uint64_t len)
{
	for (uint64_t i = 0; i < len; i += 8) {
		uint64_t word = rig_random(rig);

		memcpy(buf + i, &word, 8);
	}
}

static uint64_t next_nonce(void *user)
{
	struct rig *rig = user;

	return rig->nonce += UINT64_C(0x1000000000000001);
}

static void log_message(void *user, int severity, const char *text)
{
	struct rig *rig = user;

	(void)text;
	if (severity >= 0 && severity < 3)
		__atomic_fetch_add(&rig->messages[severity], 1, __ATOMIC_RELAXED);
}

void rig_zero(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	rig->o.granularity = PC_GRAN_CACHE_LINE;
	rig->o.block_bytes = 512;
	rig->o.segment_bytes = 4096;
	rig->o.segment_nr = 32;
	rig->o.backing_bytes = 256u << 10;
	rig->o.gc_percent = -1;
	rig->o.granularity_max = PCACHE_GRANULARITY_PAGE;
	rig->o.data_head_nr = 1;
}

/* The counts are exact, and may be looked at when nobody tells any more. */
static void note_event(void *user, const struct pcache_event *event)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct rig *rig = user;

	assert_int_equal(event->struct_bytes, sizeof(*event));
	assert_in_range(event->kind, 1, PC_ARRAY_NR(rig->event) - 1);
	assert_int_equal(event->reserved, 0);
	(void)pthread_mutex_lock(&lock);
	rig->event[event->kind] = *event;
	rig->event_nr[event->kind]++;
	(void)pthread_mutex_unlock(&lock);
}

struct pcache_config *rig_config(struct rig *rig)
{
	const struct rig_options *o = &rig->o;
	struct pcache_config *config;

	assert_int_equal(pcache_config_new(&config), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_BLOCK_BYTES, o->block_bytes), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_SEGMENT_BYTES, o->segment_bytes), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_DATA_CRC, !o->no_crc), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_COMMIT, o->commit), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_ORDERING, o->ordering), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_COMMIT_GUARD, o->guard_fence), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_FULL_POLICY, o->full_error), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_READ_CACHE, !o->no_read_cache), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_MODE, o->mode), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_READ_ONLY, o->read_only), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_WRITEBACK_DELAY_MS, rig->o.writeback_delay_ms), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_GRANULARITY, o->granularity_max), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_MAINTENANCE,
					   o->threads ? PCACHE_MAINTENANCE_THREAD : PCACHE_MAINTENANCE_CALLER),
			 0);
	if (o->dirty_limit_percent)
		assert_int_equal(pcache_config_set(config, PCACHE_OPT_DIRTY_LIMIT_PERCENT, o->dirty_limit_percent), 0);
	if (o->gc_percent >= 0)
		assert_int_equal(pcache_config_set(config, PCACHE_OPT_GC_PERCENT, (uint64_t)o->gc_percent), 0);
	assert_int_equal(pcache_config_set_log(config, log_message, rig), 0);
	assert_int_equal(pcache_config_set_event(config, note_event, rig), 0);
	return config;
}

static struct pc_tweaks tweaks_of(struct rig *rig)
{
	return (struct pc_tweaks){
		.shard_nr = 4,
		.stripe_bytes = 8192,
		.data_head_nr = rig->o.data_head_nr,
		.nonce = next_nonce,
		.nonce_user = rig,
	};
}

int rig_try_open(struct rig *rig)
{
	struct pcache_config *config = rig_config(rig);
	struct pc_tweaks tweaks = tweaks_of(rig);
	struct pcache_backing *backing = rig->o.attach ? rig->o.attach(rig->mb) : mem_backing_attach(rig->mb);
	int rc;

	assert_non_null(backing);
	if (pc_sim_closed(rig->sim))
		pc_sim_reopen(rig->sim);
	rc = pc_cache_open_media(pc_sim_media(rig->sim), config, &tweaks, backing, &rig->cache);
	if (rc) {
		pcache_backing_free(backing);
		rig->cache = NULL;
	}
	pcache_config_free(config);
	return rc;
}

void rig_open(struct rig *rig)
{
	assert_int_equal(rig_try_open(rig), 0);
}

static uint64_t media_bytes(const struct rig_options *o)
{
	uint64_t zone = PC_ROUND_UP(2 * PC_PAGE_BYTES + (uint64_t)o->segment_nr * 64, (uint64_t)PC_PAGE_BYTES);
	uint64_t data_off = PC_ROUND_UP(zone, (uint64_t)o->segment_bytes);

	return data_off + zone + (uint64_t)o->segment_nr * o->segment_bytes;
}

void rig_up(struct rig *rig)
{
	struct pcache_config *config;
	struct pc_tweaks tweaks = tweaks_of(rig);
	struct pcache_backing *backing;

	rig->o.backing.size_bytes = rig->o.backing_bytes;
	if (rig->o.threads)
		rig->o.sim_flags |= PC_SIM_THREADED;
	rig->mb = mem_backing_create(&rig->o.backing);
	rig->model = calloc(1, rig->o.backing_bytes);
	rig->scratch = malloc(rig->o.backing_bytes);
	assert_non_null(rig->mb);
	assert_non_null(rig->model);
	assert_non_null(rig->scratch);
	/* The backing is not empty, so that reads which should come from there can be told from zeroes. */
	rig_pattern(rig, rig->model, rig->o.backing_bytes);
	mem_backing_load(rig->mb, rig->model);
	assert_int_equal(pc_sim_new(media_bytes(&rig->o), rig->o.granularity, rig->o.sim_flags, &rig->sim), 0);
	backing = mem_backing_attach(rig->mb);
	config = rig_config(rig);
	assert_int_equal(pc_cache_format_media(pc_sim_media(rig->sim), config, &tweaks, backing), 0);
	pcache_config_free(config);
	pcache_backing_free(backing);
	rig_open(rig);
	assert_int_equal(rig->cache->map.segment_nr, rig->o.segment_nr);
}

void rig_down(struct rig *rig)
{
	if (rig->cache)
		pc_cache_abandon(rig->cache);
	pc_sim_free(rig->sim);
	mem_backing_destroy(rig->mb);
	free(rig->model);
	free(rig->scratch);
	rig_zero(rig);
}

void rig_close(struct rig *rig)
{
	assert_int_equal(pcache_close(rig->cache), 0);
	rig->cache = NULL;
}

void rig_kill(struct rig *rig)
{
	pc_cache_abandon(rig->cache);
	rig->cache = NULL;
}

void rig_power_cut(struct rig *rig)
{
	uint64_t len = pc_sim_media(rig->sim)->len_bytes;
	uint8_t *image = malloc(len);

	assert_non_null(image);
	/* First, so that no worker stores meanwhile; it makes nothing durable. */
	if (rig->cache)
		rig_kill(rig);
	pc_sim_crash(rig->sim, PC_SIM_NONE, 0, image);
	pc_sim_reset(rig->sim, image);
	free(image);
}

void rig_reopen(struct rig *rig)
{
	rig_kill(rig);
	rig_open(rig);
}

void rig_write(struct rig *rig, uint64_t off, uint64_t len, uint32_t flags)
{
	rig_pattern(rig, rig->model + off, len);
	assert_int_equal(pcache_write(rig->cache, rig->model + off, off, len, flags), 0);
}

void rig_zeroes(struct rig *rig, uint64_t off, uint64_t len, bool discard)
{
	memset(rig->model + off, 0, len);
	if (discard)
		assert_int_equal(pcache_discard(rig->cache, off, len, 0), 0);
	else
		assert_int_equal(pcache_write_zeroes(rig->cache, off, len, 0), 0);
}

void rig_flush(struct rig *rig)
{
	assert_int_equal(pcache_flush(rig->cache), 0);
}

void rig_check_range(struct rig *rig, uint64_t off, uint64_t len)
{
	memset(rig->scratch, 0xa5, len);
	assert_int_equal(pcache_read(rig->cache, rig->scratch, off, len, 0), 0);
	for (uint64_t i = 0; i < len; i++)
		if (rig->scratch[i] != rig->model[off + i])
			fail_msg("byte %llu of a read of %llu at %llu is wrong", (unsigned long long)i,
				 (unsigned long long)len, (unsigned long long)off);
}

void rig_check_all(struct rig *rig)
{
	const char *wrong = NULL;

	rig_check_range(rig, 0, rig->o.backing_bytes);
	/* The check wants a cache at rest. A worker may be in the middle of a step: then look again. */
	for (uint32_t tries = 0; tries == 0 || (wrong && rig->o.threads && tries < 60000); tries++) {
		if (tries)
			(void)usleep(1000);
		wrong = pc_cache_check(rig->cache);
	}
	if (wrong)
		fail_msg("%s", wrong);
}

void rig_drain(struct rig *rig)
{
	assert_int_equal(pcache_drain(rig->cache, NULL, NULL), 0);
	assert_memory_equal(mem_backing_durable(rig->mb), rig->model, rig->o.backing_bytes);
	assert_memory_equal(mem_backing_live(rig->mb), rig->model, rig->o.backing_bytes);
}

struct pcache_info rig_info(struct rig *rig)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };

	assert_int_equal(pcache_info_get(rig->cache, &info), 0);
	return info;
}

uint64_t rig_find(struct rig *rig, uint64_t off)
{
	uint64_t len = pc_sim_media(rig->sim)->len_bytes, found = UINT64_MAX;

	for (uint64_t at = 0; at + rig->o.block_bytes <= len; at += 512)
		if (memcmp(pc_sim_view(rig->sim) + at, rig->model + off, rig->o.block_bytes) == 0)
			found = at;
	assert_true(found != UINT64_MAX);
	return found;
}

void rig_flip(struct rig *rig, uint64_t media_off)
{
	uint8_t byte = pc_sim_view(rig->sim)[media_off] ^ 4;

	pc_sim_damage(rig->sim, media_off, &byte, 1);
}
