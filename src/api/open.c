/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Format, open and close.
 *
 * Open goes up the layers: media (lock, superblock), identity checks, mapping, records, replay, mending, services, workers; whatever fails is undone in
 * reverse, and nothing has been stored unless mending began. Close goes down again; dirty data stays in the cache.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "api/async.h"
#include "api/handle.h"
#include "api/internal.h"
#include "api/stats_page.h"
#include "recovery/recovery.h"
#include "service/mode.h"
#include "service/service.h"

/* ---- format ----------------------------------------------------------------------------------------------------- */

static const uint8_t no_uuid[16];

static const uint8_t *uuid_for(const struct pcache_config *config, const struct pcache_backing *backing)
{
	if (config && memcmp(config->backing_uuid, no_uuid, 16) != 0)
		return config->backing_uuid;
	return backing->ops.uuid;
}

/* 0 if the file may be formatted without force. */
static int check_old_cache(struct pc_media *media)
{
	struct pcache_info old = { .struct_bytes = sizeof(old) };
	int rc;

	if (media->len_bytes == 0)
		return 0;
	rc = pc_api_probe_media(media, &old);
	if (rc == PCACHE_E_NOT_A_CACHE)
		return 0;
	if (rc)
		return rc;
	return old.dirty_bytes ? PCACHE_E_DIRTY : PCACHE_E_HAS_CACHE;
}

static uint64_t config_value(const struct pcache_config *config, enum pcache_option option, uint64_t otherwise)
{
	return config ? config->values[option] : otherwise;
}

static int plan_fits(const struct pcache_config *config, uint64_t media_bytes)
{
	struct pc_super super;
	uint32_t block_bytes = (uint32_t)config_value(config, PCACHE_OPT_BLOCK_BYTES, 512);

	memset(&super, 0, sizeof(super));
	super.block_bytes = block_bytes;
	return pc_geo_plan(media_bytes, (uint32_t)config_value(config, PCACHE_OPT_SEGMENT_BYTES, 0), block_bytes,
			   &super);
}

static int format_open_media(struct pc_media *media, const struct pcache_config *config, struct pcache_backing *backing)
{
	uint64_t bytes = config_value(config, PCACHE_OPT_CACHE_BYTES, 0);
	int rc;

	if (!config_value(config, PCACHE_OPT_FORCE, 0)) {
		rc = check_old_cache(media);
		if (rc)
			return rc;
	}
	bytes = PC_ROUND_DOWN(bytes ? bytes : media->len_bytes, (uint64_t)PC_PAGE_BYTES);
	rc = plan_fits(config, bytes);
	if (!rc)
		rc = pc_media_allocate(media, bytes);
	if (!rc)
		rc = pc_media_map(media);
	return rc ? rc : pc_recovery_mkcache(media, config, NULL, backing->ops.size_bytes, uuid_for(config, backing));
}

PCACHE_API int pcache_format(const char *path, const struct pcache_config *config, struct pcache_backing *backing)
{
	uint64_t bytes = config_value(config, PCACHE_OPT_CACHE_BYTES, 0);
	struct pc_msg msg = { 0 };
	struct pc_media *media;
	int rc;

	if (!path || !backing)
		return -EINVAL;
	if (backing->ops.size_bytes % config_value(config, PCACHE_OPT_BLOCK_BYTES, 512))
		return -EINVAL;
	/* Before the file is created, so that a size that cannot work leaves nothing behind. */
	if (bytes) {
		rc = plan_fits(config, PC_ROUND_DOWN(bytes, (uint64_t)PC_PAGE_BYTES));
		if (rc)
			return rc;
	}
	if (config)
		msg = config->msg;
	rc = pc_media_open(path, bytes ? PC_MEDIA_CREATE : 0, &msg, &media);
	if (rc)
		return rc;
	rc = format_open_media(media, config, backing);
	pc_media_close(media);
	return rc;
}

PCACHE_API uint64_t pcache_format_min_bytes(uint32_t block_bytes)
{
	return pc_geo_min_bytes(0, block_bytes);
}

int pc_cache_format_media(struct pc_media *media, const struct pcache_config *config, const struct pc_tweaks *tweaks,
			  struct pcache_backing *backing)
{
	return pc_recovery_mkcache(media, config, tweaks, backing->ops.size_bytes, uuid_for(config, backing));
}

/* ---- open --------------------------------------------------------------------------------------------------------- */

static int check_identity(const struct pc_super *super, const struct pcache_config *config,
			  const struct pcache_backing *backing)
{
	const uint8_t *uuid = uuid_for(config, backing);

	if ((super->ro_compat & ~(uint64_t)PC_FEATURES_RO_COMPAT_KNOWN) &&
	    !config_value(config, PCACHE_OPT_READ_ONLY, 0))
		return PCACHE_E_READ_ONLY;
	if (memcmp(uuid, no_uuid, 16) != 0 && memcmp(super->backing_uuid, no_uuid, 16) != 0 &&
	    memcmp(uuid, super->backing_uuid, 16) != 0)
		return PCACHE_E_WRONG_BACKING;
	if (super->backing_bytes != backing->ops.size_bytes)
		return PCACHE_E_BACKING_SIZE;
	/* The backing must be able to write what the cache writes. */
	return super->block_bytes % backing->ops.block_bytes ? -EINVAL : 0;
}

/* Finer is better, and smaller as a number. */
static int check_granularity(const struct pc_media *media, const struct pcache_config *config)
{
	uint64_t coarsest = config_value(config, PCACHE_OPT_GRANULARITY, PCACHE_GRANULARITY_PAGE);

	return (uint64_t)media->granularity > coarsest ? PCACHE_E_PLATFORM : 0;
}

/* A page that a child of fork finds zeroed: noticing a fork costs one load and no system call. */
static int map_fork_page(struct pcache *cache, const struct pc_tweaks *tweaks)
{
	uint8_t *page;

	if (tweaks && tweaks->fork_page) {
		cache->fork_page = tweaks->fork_page;
		return 0;
	}
	page = mmap(NULL, PC_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return -errno;
	if (madvise(page, PC_PAGE_BYTES, MADV_WIPEONFORK)) {
		int rc = -errno;

		munmap(page, PC_PAGE_BYTES);
		return rc;
	}
	page[0] = 1;
	cache->fork_page = page;
	cache->owns_fork_page = true;
	return 0;
}

static void unmap_fork_page(struct pcache *cache)
{
	if (cache->owns_fork_page)
		munmap((void *)(uintptr_t)cache->fork_page, PC_PAGE_BYTES);
}

static int recover(struct pcache *cache)
{
	struct pc_replay replay;
	int rc = pc_recovery_replay(cache, &replay);

	if (!rc && cache->read_only) {
		rc = pc_recovery_needs_mend(cache, &replay) ? PCACHE_E_READ_ONLY : 0;
		atomic_store(&cache->log.epoch_pos, replay.epoch_pos);
	} else if (!rc) {
		rc = pc_recovery_mend(cache, &replay);
	}
	pc_replay_fini(&replay);
	/* What is counted as stored begins here. */
	cache->opened_head = atomic_load(&cache->log.head);
	atomic_store(&cache->layout.stored_bytes, 0);
	return rc;
}

static void publish_stats(struct pcache *cache)
{
	struct pcache_info info;

	memset(&info, 0, sizeof(info));
	pc_api_fill_info(cache, &info);
	(void)pc_stats_page_publish(cache->stats_page, &info);
}

static int open_mapped(struct pc_media *media, const struct pc_super *super, uint32_t super_bad,
		       const struct pcache_config *config, const struct pc_tweaks *tweaks,
		       struct pcache_backing *backing, const char *stats_path, struct pcache **out_cache)
{
	struct pc_stats_page *stats_page = NULL;
	struct pcache *cache;
	int rc = check_granularity(media, config);

	if (!rc)
		rc = pc_core_new(media, super, super_bad, config, tweaks, backing, &cache);
	if (rc)
		return rc;
	rc = map_fork_page(cache, tweaks);
	if (!rc)
		rc = pc_async_init(cache, config);
	if (!rc)
		rc = pc_service_init(cache);
	if (!rc)
		rc = recover(cache);
	if (!rc && stats_path && pc_stats_page_create(stats_path, &stats_page))
		pc_msg(&cache->msg, PCACHE_LOG_WARN, "no statistics page beside %s: it cannot be made there",
		       stats_path);
	cache->stats_page = stats_page;
	if (!rc)
		pc_limit_change(cache);
	if (!rc && !cache->caller_maintains && !cache->read_only)
		rc = pc_workers_start(cache, stats_page ? publish_stats : NULL);
	if (!rc && !cache->read_only && config_value(config, PCACHE_OPT_MODE, 0) != PCACHE_MODE_WRITEBACK)
		rc = pc_mode_set(cache, (uint32_t)config_value(config, PCACHE_OPT_MODE, 0));
	if (rc) {
		pc_workers_stop(cache);
		pc_stats_page_close(stats_page);
		pc_async_fini(cache);
		pc_service_fini(cache);
		unmap_fork_page(cache);
		pc_core_free(cache);
		return rc;
	}
	if (stats_page)
		publish_stats(cache);
	if (media->granularity_forced)
		pc_event(&cache->msg, (struct pcache_event){ .kind = PCACHE_EVENT_GRANULARITY_FORCED,
							     .value = (uint64_t)media->granularity });
	*out_cache = cache;
	return 0;
}

/* Option create: makes the cache under a name that nobody else uses meanwhile. 0 also if somebody was faster. */
static int create(const char *path, const struct pcache_config *config, struct pcache_backing *backing)
{
	struct pc_media_unnamed unnamed;
	int rc;

	if (!config_value(config, PCACHE_OPT_CACHE_BYTES, 0))
		return -EINVAL;
	rc = pc_media_unnamed(path, &unnamed);
	if (rc)
		return rc;
	rc = pcache_format(unnamed.path, config, backing);
	if (!rc)
		rc = pc_media_name(&unnamed, path);
	pc_media_unnamed_close(&unnamed);
	return rc == -EEXIST ? 0 : rc;
}

static int open_media(const char *path, const struct pcache_config *config, struct pcache_backing *backing,
		      struct pc_media **out_media)
{
	uint32_t flags = config_value(config, PCACHE_OPT_READ_ONLY, 0) ? PC_MEDIA_RDONLY : 0;
	struct pc_msg msg = { 0 };
	int rc;

	if (config)
		msg = config->msg;
	rc = pc_media_open(path, flags, &msg, out_media);
	if (rc == -ENOENT && config_value(config, PCACHE_OPT_CREATE, 0)) {
		rc = create(path, config, backing);
		if (!rc)
			rc = pc_media_open(path, flags, &msg, out_media);
	}
	return rc;
}

PCACHE_API int pcache_open(const char *path, const struct pcache_config *config, struct pcache_backing *backing,
			   struct pcache **out_cache)
{
	struct pc_super super;
	struct pc_media *media;
	uint32_t super_bad;
	int rc;

	if (!path || !backing || !out_cache)
		return -EINVAL;
	rc = open_media(path, config, backing, &media);
	if (rc)
		return rc;
	rc = pc_layout_load_super(media, &super, &super_bad);
	if (!rc)
		rc = check_identity(&super, config, backing);
	if (!rc)
		rc = pc_media_map(media);
	if (!rc && config_value(config, PCACHE_OPT_MEDIA_GUARD, 0))
		rc = pc_media_guard(media);
	if (!rc)
		rc = open_mapped(media, &super, super_bad, config, NULL, backing,
				 config_value(config, PCACHE_OPT_STATS_PAGE, 0) ? path : NULL, out_cache);
	if (rc)
		pc_media_close(media);
	return rc;
}

int pc_cache_open_media(struct pc_media *media, const struct pcache_config *config, const struct pc_tweaks *tweaks,
			struct pcache_backing *backing, struct pcache **out_cache)
{
	struct pc_super super;
	uint32_t super_bad;
	int rc = pc_layout_load_super(media, &super, &super_bad);

	if (!rc)
		rc = check_identity(&super, config, backing);
	return rc ? rc : open_mapped(media, &super, super_bad, config, tweaks, backing, NULL, out_cache);
}

/* ---- close ------------------------------------------------------------------------------------------------------------- */

/* The tail record says that nothing needs mending. */
static int store_clean_close(struct pcache *cache)
{
	struct pc_layout *layout = &cache->layout;
	struct pc_tail tail;
	int rc;

	pc_mutex_lock(&layout->lock);
	tail = layout->tail;
	tail.flags |= PC_TAIL_FLAG_CLEAN_CLOSE;
	tail.mark_pos = atomic_load(&cache->log.head);
	rc = pc_layout_store_tail_locked(layout, &tail);
	pc_mutex_unlock(&layout->lock);
	return rc;
}

static void release(struct pcache *cache)
{
	struct pc_media *media = cache->media;
	struct pcache_backing *backing = cache->backing;

	pc_stats_page_close(cache->stats_page);
	pc_service_fini(cache);
	unmap_fork_page(cache);
	pc_core_free(cache);
	pc_media_close(media);
	pcache_backing_free(backing);
}

PCACHE_API int pcache_close(struct pcache *cache)
{
	int rc;

	if (!cache)
		return 0;
	rc = pc_api_check(cache);
	if (rc)
		return rc;
	/* First: what still runs may need the workers. */
	pc_async_fini(cache);
	pc_workers_stop(cache);
	if (!cache->read_only) {
		/* Without workers nobody else makes room; the flush has slots of its own. */
		cache->caller_maintains = true;
		rc = pc_core_flush(cache);
		if (!rc)
			rc = store_clean_close(cache);
	}
	if (rc)
		pc_msg(&cache->msg, PCACHE_LOG_ERROR, "close: not everything is durable (%d)", rc);
	release(cache);
	return rc;
}

static bool has_dirty(struct pcache *cache)
{
	uint64_t dirty_blk = atomic_load(&cache->dirty_zero_blk);

	for (uint32_t id = 0; id < cache->map.segment_nr; id++)
		dirty_blk += pc_segmap_dirty_blk(&cache->map, id);
	return dirty_blk != 0;
}

PCACHE_API int pcache_close_with(struct pcache *cache, uint32_t policy, pcache_progress_fn progress, void *user,
				 int *out_closed)
{
	int rc = pc_api_check(cache);

	if (out_closed)
		*out_closed = 0;
	if (rc)
		return rc;
	if (policy > PCACHE_CLOSE_CLEAN || (!out_closed && policy != PCACHE_CLOSE_KEEP))
		return -EINVAL;
	/* What is still to be written would come after the look. */
	if (policy != PCACHE_CLOSE_KEEP)
		pc_async_quiesce(cache);
	if (policy == PCACHE_CLOSE_DRAIN && !cache->read_only)
		rc = pcache_drain(cache, progress, user);
	else if (policy != PCACHE_CLOSE_KEEP)
		rc = has_dirty(cache) ? PCACHE_E_DIRTY : pc_api_has_poison(cache) ? PCACHE_E_POISONED : 0;
	if (rc)
		return rc;
	if (out_closed)
		*out_closed = 1;
	return pcache_close(cache);
}

void pc_cache_abandon(struct pcache *cache)
{
	pc_async_fini(cache);
	pc_workers_stop(cache);
	release(cache);
}
