/* SPDX-License-Identifier: BSD-3-Clause */
/* Snapshots: of an open cache, of a closed one (replayed without a store), or of a live one through its statistics page. */
#include <errno.h>
#include <string.h>

#include "api/handle.h"
#include "api/internal.h"
#include "api/stats_page.h"
#include "recovery/recovery.h"
#include "service/service.h"

static uint64_t get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void fill_counters(const struct pcache *cache, struct pcache_info *info)
{
	const struct pc_stats *stats = &cache->stats;
	uint64_t fill_bytes = 0;

	for (uint32_t i = 0; i < PC_SHARD_NR_MAX; i++) {
		const struct pc_shard_stats *shard = &stats->shard[i];

		info->read_ops += get(&shard->read_ops);
		info->read_bytes += get(&shard->read_bytes);
		info->hit_bytes += get(&shard->hit_bytes);
		info->miss_bytes += get(&shard->miss_bytes);
		info->write_ops += get(&shard->write_ops);
		info->write_bytes += get(&shard->write_bytes);
		info->discard_bytes += get(&shard->discard_bytes);
		fill_bytes += get(&shard->fill_bytes);
	}
	for (uint32_t i = 0; i < PC_THREAD_SLOT_NR; i++) {
		info->read_ops += get(&stats->reader[i].read_ops);
		info->read_bytes += get(&stats->reader[i].read_bytes);
		info->hit_bytes += get(&stats->reader[i].hit_bytes);
	}
	info->flush_ops = get(&stats->flush_ops);
	info->writeback_bytes = get(&stats->writeback_bytes);
	info->backing_flushes = get(&stats->backing_flushes);
	info->backing_errors = get(&stats->backing_errors);
	info->evicted_segments = get(&stats->evicted_segs);
	info->cleaned_segments = get(&stats->cleaned_segs);
	info->full_waits = get(&stats->full_waits);
	info->crc_errors = get(&stats->crc_errors);
	info->replica_repairs = cache->replica_repair_nr;
	info->media_errors = get(&stats->media_errors);
	/* Every position of the log is stored once, as a slot or under a pad, and every byte of a write or fill once; nothing is moved. */
	info->stored_bytes = info->write_bytes + fill_bytes + get(&cache->layout.stored_bytes) +
			     (atomic_load(&cache->log.head) - cache->opened_head) * PC_SLOT_BYTES;
}

static void fill_space(struct pcache *cache, struct pcache_info *info)
{
	uint64_t live_blk = 0, dirty_blk = 0;

	info->segments = cache->map.segment_nr;
	for (uint32_t id = 0; id < cache->map.segment_nr; id++) {
		struct pc_seg *seg = &cache->map.segs[id];
		uint8_t state = atomic_load_explicit(&seg->state, memory_order_relaxed);
		uint32_t live = pc_segmap_live_blk(&cache->map, id);

		/* A closed data segment without live data is as good as free. Those in quarantine are counted below. */
		if (state == PC_SS_LOG)
			info->segments_log++;
		else if (state == PC_SS_QUARANTINED)
			;
		else if (state == PC_SS_FREE || (state == PC_SS_DATA && live == 0 &&
						 !atomic_load_explicit(&seg->damaged, memory_order_relaxed)))
			info->segments_free++;
		else
			info->segments_data++;
		live_blk += live;
		dirty_blk += pc_segmap_dirty_blk(&cache->map, id);
	}
	info->segments_quarantined = atomic_load_explicit(&cache->map.damaged_nr, memory_order_relaxed);
	info->clean_bytes = (live_blk > dirty_blk ? live_blk - dirty_blk : 0) << cache->block_shift;
	info->dirty_bytes = (dirty_blk + get(&cache->dirty_zero_blk)) << cache->block_shift;
	info->extents = pc_index_extent_nr(cache->index);
	info->index_bytes = pc_index_dram_bytes(cache->index);
}

static uint32_t state_flags(struct pcache *cache)
{
	uint32_t flags = 0;

	if (atomic_load_explicit(&cache->degraded, memory_order_relaxed))
		flags |= PCACHE_STATE_DEGRADED;
	if (atomic_load_explicit(&cache->failstop, memory_order_relaxed))
		flags |= PCACHE_STATE_FAILSTOP;
	if (cache->read_only)
		flags |= PCACHE_STATE_READ_ONLY;
	if (cache->media->granularity_forced)
		flags |= PCACHE_STATE_GRANULARITY_FORCED;
	if (cache->media->huge_pages)
		flags |= PCACHE_STATE_HUGE_PAGES;
	if (cache->writeback && pc_service_uses_ring(cache))
		flags |= PCACHE_STATE_BACKING_URING;
	return flags;
}

void pc_api_fill_info(struct pcache *cache, struct pcache_info *info)
{
	const struct pc_super *super = &cache->layout.super;
	struct pc_tail tail = pc_layout_tail(&cache->layout);

	info->struct_bytes = sizeof(*info);
	info->state_flags = state_flags(cache);
	memcpy(info->cache_uuid, super->cache_uuid, 16);
	memcpy(info->backing_uuid, super->backing_uuid, 16);
	info->media_bytes = super->media_bytes;
	info->backing_bytes = super->backing_bytes;
	info->format_version = super->version;
	info->block_bytes = super->block_bytes;
	info->segment_bytes = super->segment_bytes;
	info->granularity = (uint32_t)cache->media->granularity;
	info->commit = cache->commit_write ? PCACHE_COMMIT_WRITE : PCACHE_COMMIT_FLUSH;
	info->ordering = cache->strict ? PCACHE_ORDERING_STRICT : PCACHE_ORDERING_BATCH;
	info->data_crc = cache->data_crc;
	info->gc_percent = cache->gc_percent;
	info->log_head = atomic_load(&cache->log.head);
	info->log_tail = atomic_load(&cache->log.tail);
	info->log_dirty_tail = tail.dirty_tail_pos;
	info->atomic_write_max_bytes = cache->atomic_max_bytes;
	fill_space(cache, info);
	fill_counters(cache, info);
}

void pc_api_copy_info(struct pcache_info *to, const struct pcache_info *full)
{
	uint32_t bytes = to->struct_bytes;

	memcpy(to, full, PC_MIN((size_t)bytes, sizeof(*full)));
	to->struct_bytes = bytes;
}

static bool info_ok(const struct pcache_info *info)
{
	return info && info->struct_bytes >= 8;
}

PCACHE_API int pcache_info_get(struct pcache *cache, struct pcache_info *info)
{
	struct pcache_info full;
	int rc = pc_api_check(cache);

	if (rc)
		return rc;
	if (!info_ok(info))
		return -EINVAL;
	memset(&full, 0, sizeof(full));
	pc_api_fill_info(cache, &full);
	pc_api_copy_info(info, &full);
	return 0;
}

int pc_api_probe_media(struct pc_media *media, struct pcache_info *info)
{
	struct pcache_info full;
	struct pc_super super;
	struct pc_replay replay;
	struct pcache *cache;
	uint32_t super_bad;
	int rc = pc_layout_load_super(media, &super, &super_bad);

	if (rc)
		return rc;
	rc = pc_core_new(media, &super, super_bad, NULL, NULL, NULL, &cache);
	if (rc)
		return rc;
	rc = pc_recovery_replay(cache, &replay);
	if (!rc) {
		memset(&full, 0, sizeof(full));
		pc_api_fill_info(cache, &full);
		full.commit = PCACHE_COMMIT_AUTO;
		full.stored_bytes = 0;
		full.ordering = cache->layout.tail.flags & PC_TAIL_FLAG_ORDERING_BATCH ? PCACHE_ORDERING_BATCH
										       : PCACHE_ORDERING_STRICT;
		full.state_flags = pc_recovery_needs_mend(cache, &replay) ? 0 : PCACHE_STATE_CLEAN_CLOSE;
		pc_api_copy_info(info, &full);
	}
	pc_replay_fini(&replay);
	pc_core_free(cache);
	return rc;
}

PCACHE_API int pcache_probe(const char *path, struct pcache_info *info)
{
	struct pc_msg msg = { 0 };
	struct pc_media *media;
	int rc;

	if (!path || !info_ok(info))
		return -EINVAL;
	rc = pc_media_open(path, PC_MEDIA_RDONLY, &msg, &media);
	if (rc == -EBUSY)
		return pc_stats_page_read(path, info) == 0 ? 0 : -EBUSY;
	if (rc)
		return rc;
	rc = pc_api_probe_media(media, info);
	pc_media_close(media);
	return rc;
}

/* ---- invariants, for tests --------------------------------------------------------------------------------------------- */

struct census {
	struct pcache *cache;
	uint64_t dirty_tail; /* when the shard was locked */
	uint64_t live_blk;
	uint64_t dirty_blk;
	uint64_t shard_dirty_blk; /* of the shard at hand */
	uint64_t zero_blk;
	const char *wrong;
};

static enum pc_walk take_census(void *ctx, struct pc_extent *extent)
{
	struct census *census = ctx;
	struct pcache *cache = census->cache;
	uint8_t state;

	if (extent->pos < atomic_load(&cache->log.tail) || extent->pos >= atomic_load(&cache->log.head))
		census->wrong = "an extent's position is outside of the log";
	if ((extent->flags & PC_EXT_DIRTY) && extent->pos < census->dirty_tail)
		census->wrong = "a dirty extent below the dirty tail";
	if ((extent->flags & PC_EXT_TYPE_MASK) == PC_EXT_DATA) {
		census->live_blk += extent->len_blk;
		if (extent->flags & PC_EXT_DIRTY)
			census->shard_dirty_blk += extent->len_blk;
		state = atomic_load(&cache->map.segs[extent->seg_id].state);
		if (state == PC_SS_FREE || state == PC_SS_LOG || state == PC_SS_QUARANTINED)
			census->wrong = "an extent in a segment that is no data segment";
	} else if (extent->flags & PC_EXT_DIRTY) {
		census->zero_blk += extent->len_blk;
	}
	return PC_WALK_KEEP;
}

/* Each share has what its shard has, so that a sum that is formed while others write shows no dirty segment as clean. */
static void check_shares_locked(struct census *census, uint32_t shard_idx)
{
	const struct pc_segmap *map = &census->cache->map;
	uint64_t dirty_blk = 0;

	for (uint32_t id = 0; id < map->segment_nr; id++)
		dirty_blk += atomic_load(&pc_segmap_share(map, id, shard_idx)->dirty_blk);
	if (dirty_blk != census->shard_dirty_blk)
		census->wrong = "dirty blocks of a shard do not add up";
	census->dirty_blk += census->shard_dirty_blk;
	census->shard_dirty_blk = 0;
}

const char *pc_cache_check(struct pcache *cache)
{
	struct census census = { .cache = cache };
	uint64_t live_blk = 0, dirty_blk = 0;
	const char *wrong = pc_index_check(cache->index);

	if (wrong)
		return wrong;
	for (uint32_t i = 0; i < pc_index_shard_nr(cache->index); i++) {
		pc_index_lock(cache->index, UINT64_C(1) << i);
		census.dirty_tail = pc_layout_tail(&cache->layout).dirty_tail_pos;
		pc_index_walk_shard_locked(cache->index, i, take_census, &census);
		check_shares_locked(&census, i);
		pc_index_unlock(cache->index, UINT64_C(1) << i);
	}
	for (uint32_t id = 0; id < cache->map.segment_nr; id++) {
		live_blk += pc_segmap_live_blk(&cache->map, id);
		dirty_blk += pc_segmap_dirty_blk(&cache->map, id);
		if (pc_segmap_live_max_blk(&cache->map, id) - pc_segmap_live_blk(&cache->map, id) >
		    cache->map.open_max_blk)
			return "more blocks came back than were published";
		if (atomic_load(&cache->map.segs[id].pins))
			return "a segment is pinned although nobody reads";
	}
	if (census.wrong)
		return census.wrong;
	if (census.live_blk != live_blk)
		return "references of segments do not add up";
	if (census.dirty_blk != dirty_blk)
		return "dirty blocks of segments do not add up";
	if (census.zero_blk != atomic_load(&cache->dirty_zero_blk))
		return "dirty zeroes do not add up";
	return NULL;
}
