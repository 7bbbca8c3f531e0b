/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Construction of a cache in memory: options become plain fields, the records are loaded, the index is empty. Nothing is stored to the media here.
 */
#include "core/cache.h"
#include "core/latency.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "pcache/errors.h"

#define PASS_MIN_SLOTS 2048u
#define DEFAULT_STRIPE_BYTES (4u << 20)
#define ATOMIC_MAX_BYTES (UINT64_C(64) << 20)

static uint64_t random_nonce(void *user)
{
	uint64_t nonce = 0;

	(void)user;
	while (getrandom(&nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce))
		;
	return nonce;
}

static uint64_t option(const struct pcache_config *config, enum pcache_option id)
{
#define DEFAULT_VALUE(opt, name, kind, def, lo, hi, unit, when, doc) def,
	static const uint64_t defaults[] = { PCACHE_OPTION_TABLE(DEFAULT_VALUE) };
#undef DEFAULT_VALUE

	return config ? config->values[id] : defaults[id];
}

static void take_options(struct pcache *cache, const struct pcache_config *config)
{
	uint64_t commit = option(config, PCACHE_OPT_COMMIT);
	bool page = cache->media->granularity == PC_GRAN_PAGE;

	if (config)
		cache->msg = config->msg;
	cache->strict = option(config, PCACHE_OPT_ORDERING) == PCACHE_ORDERING_STRICT;
	cache->commit_write = commit == PCACHE_COMMIT_WRITE || (commit == PCACHE_COMMIT_AUTO && !page);
	cache->guard_fence = !cache->data_crc || option(config, PCACHE_OPT_COMMIT_GUARD) == 1;
	cache->write_one = !cache->guard_fence && !page;
	cache->mode = PCACHE_MODE_WRITEBACK; /* who opens changes it */
	cache->read_cache = option(config, PCACHE_OPT_READ_CACHE) != 0;
	cache->caller_maintains = option(config, PCACHE_OPT_MAINTENANCE) == PCACHE_MAINTENANCE_CALLER;
	cache->full_is_error = option(config, PCACHE_OPT_FULL_POLICY) == 1;
	cache->writeback_delay_ms = (uint32_t)option(config, PCACHE_OPT_WRITEBACK_DELAY_MS);
	cache->dirty_age_max_ms = (uint32_t)option(config, PCACHE_OPT_DIRTY_AGE_MAX_MS);
	cache->writeback_rate = option(config, PCACHE_OPT_WRITEBACK_RATE);
	/* Nothing is dirty yet; replay makes it so, and who opens counts then. */
	cache->limit.start_percent = (uint32_t)option(config, PCACHE_OPT_DIRTY_START_PERCENT);
	cache->limit.limit_percent = (uint32_t)option(config, PCACHE_OPT_DIRTY_LIMIT_PERCENT);
	cache->read_only = option(config, PCACHE_OPT_READ_ONLY) != 0;
	cache->media_guard = option(config, PCACHE_OPT_MEDIA_GUARD) != 0;
	cache->granularity_max = (uint32_t)option(config, PCACHE_OPT_GRANULARITY);
	cache->gc_percent = cache->layout.tail.gc_percent;
	if (config && config->is_set[PCACHE_OPT_GC_PERCENT])
		cache->gc_percent = (uint32_t)config->values[PCACHE_OPT_GC_PERCENT];
}

/* Largest request that is one kset whatever its shape, and that leaves room for others. */
static uint64_t atomic_max(const struct pcache *cache)
{
	const struct pc_super *super = &cache->layout.super;
	uint64_t cells = (uint64_t)cache->log.kset_slots_max * 2;
	uint64_t by_keys = (cells - 1 - PC_MIN(cells / 2, 2 * PC_PIECES_MAX)) * super->block_bytes;
	uint64_t by_space = super->media_bytes / 8;
	uint64_t by_pieces = UINT64_C(32) * super->segment_bytes;
	uint64_t max = PC_MIN(PC_MIN(by_keys, by_space), PC_MIN(by_pieces, ATOMIC_MAX_BYTES));

	return PC_MAX(PC_ROUND_DOWN(max, (uint64_t)super->block_bytes), (uint64_t)super->block_bytes);
}

static int new_index(struct pcache *cache, const struct pc_tweaks *tweaks)
{
	const struct pc_super *super = &cache->layout.super;
	/* The log is a chain of segments, none twice, so that it never has more slots than all of them together. */
	struct pc_index_params params = { .shard_nr = PC_SHARD_NR_MAX,
					  .stripe_blk = DEFAULT_STRIPE_BYTES / cache->block_bytes,
					  .segment_nr = super->segment_nr,
					  .segment_blk = super->segment_bytes / super->block_bytes,
					  .slot_nr = (uint64_t)super->segment_nr * pc_geo_slots_per_segment(super),
					  .volume_blk = cache->backing_blk };

	if (tweaks && tweaks->shard_nr)
		params.shard_nr = tweaks->shard_nr;
	if (tweaks && tweaks->stripe_bytes)
		params.stripe_blk = tweaks->stripe_bytes / cache->block_bytes;
	return pc_index_new(&params, &cache->index);
}

static void take_geometry(struct pcache *cache)
{
	const struct pc_super *super = &cache->layout.super;

	cache->block_bytes = super->block_bytes;
	cache->block_shift = (uint32_t)__builtin_ctz(super->block_bytes);
	cache->chunk_blk = pc_chunk_blk(super->block_bytes);
	cache->chunk_shift = (uint32_t)__builtin_ctz(cache->chunk_blk);
	cache->backing_blk = super->backing_bytes / super->block_bytes;
	cache->data_crc = (super->flags & PC_SUPER_FLAG_DATA_CRC) != 0;
	cache->fill_leave_segs = PC_MAX(2u, super->segment_nr / 16);
}

int pc_core_new(struct pc_media *media, const struct pc_super *super, uint32_t super_bad,
		const struct pcache_config *config, const struct pc_tweaks *tweaks, struct pcache_backing *backing,
		struct pcache **out_cache)
{
	struct pcache *cache = aligned_alloc(64, PC_ROUND_UP(sizeof(*cache), (size_t)64));
	int rc;

	if (!cache)
		return -ENOMEM;
	memset(cache, 0, sizeof(*cache));
	cache->media = media;
	cache->backing = backing;
	rc = pc_layout_init(&cache->layout, media, super);
	if (rc)
		goto undo_cache;
	cache->layout.super_bad = super_bad;
	cache->layout.repair_nr = super_bad != 0;
	rc = pc_layout_load_records(&cache->layout);
	if (rc)
		goto undo_layout;
	take_geometry(cache);
	take_options(cache, config);
	rc = new_index(cache, tweaks);
	if (rc)
		goto undo_layout;
	rc = pc_segmap_init(&cache->map, &cache->layout, pc_index_shard_nr(cache->index),
			    tweaks ? tweaks->share_quantum_blk : 0);
	if (rc)
		goto undo_index;
	rc = pc_heads_init(&cache->heads, &cache->map, tweaks ? tweaks->data_head_nr : 0,
			   media->granularity == PC_GRAN_PAGE);
	if (rc)
		goto undo_map;
	rc = pc_log_init(&cache->log, &cache->layout, &cache->map,
			 tweaks && tweaks->nonce ? tweaks->nonce : random_nonce, tweaks ? tweaks->nonce_user : NULL);
	if (rc)
		goto undo_heads;
	cache->atomic_max_bytes = atomic_max(cache);
	cache->replay_records = tweaks ? tweaks->replay_records : 0;
	cache->replay_threads = tweaks ? tweaks->replay_threads : 0;
	cache->pass_min_slots = tweaks && tweaks->pass_min_slots ? tweaks->pass_min_slots : PASS_MIN_SLOTS;
	cache->pass_part_bytes = tweaks ? tweaks->pass_part_bytes : 0;
	cache->clean_keys_max = tweaks && tweaks->kset_max_keys ? tweaks->kset_max_keys : UINT32_MAX;
	rc = pc_flush_init(cache);
	if (rc)
		goto undo_log;
	if (option(config, PCACHE_OPT_LATENCY))
		rc = pc_latency_switch(cache, true);
	if (rc)
		goto undo_flush;
	rc = pc_space_init(cache);
	if (rc)
		goto undo_flush;
	*out_cache = cache;
	return 0;
undo_flush:
	pc_latency_free(cache);
	pc_flush_fini(cache);
undo_log:
	pc_log_fini(&cache->log);
undo_heads:
	pc_heads_fini(&cache->heads);
undo_map:
	pc_segmap_fini(&cache->map);
undo_index:
	pc_index_free(cache->index);
undo_layout:
	pc_layout_fini(&cache->layout);
undo_cache:
	free(cache);
	return rc;
}

void pc_core_free(struct pcache *cache)
{
	if (!cache)
		return;
	pc_space_fini(cache);
	pc_flush_fini(cache);
	pc_log_fini(&cache->log);
	pc_heads_fini(&cache->heads);
	pc_segmap_fini(&cache->map);
	pc_index_free(cache->index);
	pc_layout_fini(&cache->layout);
	free(cache->planted_kset);
	pc_latency_free(cache);
	free(cache);
}
