/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Read: look up, plan, copy.
 *
 * Under the shard lock the extents are looked up and their segments pinned; the copy runs without a lock. Data is immutable until its segment is recycled, and a
 * pinned segment is not recycled, so the bytes stay what the extent says, also when a write replaces the extent meanwhile (the read is then concurrent and returns the old
 * version). Every hit is verified against its CRC; a fragment is verified by reading its whole chunk.
 */
#include <errno.h>
#include <string.h>

#include "base/plant.h"
#include "base/sched.h"
#include "core/cache.h"
#include "pcache/errors.h"

#define PLAN_MAX 32u

static void count(_Atomic uint64_t *counter, uint64_t add)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + add, memory_order_relaxed);
}

/* Loads len bytes and compares their CRC. 0, -EIO, PCACHE_E_POISONED. */
static int load_verified(struct pcache *cache, uint64_t media_off, void *buf, size_t len, uint32_t crc)
{
	uint32_t found_crc;
	int rc = pc_media_load_crc(cache->media, media_off, buf, len, &found_crc);

	return !rc && found_crc != crc ? PCACHE_E_POISONED : rc;
}

int pc_core_load(struct pcache *cache, const struct pc_extent *extent, void *buf)
{
	uint64_t off = pc_geo_segment_off(&cache->layout.super, extent->seg_id) +
		       ((uint64_t)extent->seg_blk << cache->block_shift);
	size_t len = (size_t)extent->len_blk << cache->block_shift;
	size_t head = (size_t)PC_GEOM_HEAD(extent->geom) << cache->block_shift;
	size_t tail = (size_t)PC_GEOM_TAIL(extent->geom) << cache->block_shift;
	_Alignas(64) uint8_t chunk[PC_CHUNK_BYTES];
	int rc;

	if (!cache->data_crc)
		return pc_media_load(cache->media, off, buf, len);
	if (extent->geom == 0)
		return load_verified(cache, off, buf, len, extent->crc);
	rc = load_verified(cache, off - head, chunk, head + len + tail, extent->crc);
	if (!rc)
		memcpy(buf, chunk + head, len);
	return rc;
}

bool pc_core_damage(struct pcache *cache, const struct pc_extent *extent, int load_rc)
{
	atomic_fetch_add_explicit(load_rc == -EIO ? &cache->stats.media_errors : &cache->stats.crc_errors, 1,
				  memory_order_relaxed);
	return pc_segmap_quarantine(&cache->map, extent->seg_id);
}

void pc_core_tell_quarantine(struct pcache *cache, uint32_t seg_id)
{
	pc_msg(&cache->msg, PCACHE_LOG_ERROR,
	       "the media is damaged in segment %u at offset %llu; the segment gets no new data until the cache is "
	       "closed",
	       seg_id, (unsigned long long)pc_geo_segment_off(&cache->layout.super, seg_id));
}

static int copy_extent(struct pcache *cache, const struct pc_extent *extent, void *buf)
{
	switch (extent->flags & PC_EXT_TYPE_MASK) {
	case PC_EXT_DATA:
		return pc_core_load(cache, extent, buf);
	case PC_EXT_ZERO:
		memset(buf, 0, (size_t)extent->len_blk << cache->block_shift);
		return 0;
	default:
		return PCACHE_E_POISONED;
	}
}

static bool is_data(const struct pc_extent *extent)
{
	return (extent->flags & PC_EXT_TYPE_MASK) == PC_EXT_DATA;
}

/* Pins the segments of the first extents of plan that follow each other without a gap from vol_blk. Returns how many. */
static uint32_t pin_run_locked(struct pcache *cache, const struct pc_extent *plan, uint32_t plan_nr, uint64_t vol_blk)
{
	uint32_t nr = 0;

	for (; nr < plan_nr && plan[nr].vol_blk == vol_blk; nr++) {
		vol_blk += plan[nr].len_blk;
		if (is_data(&plan[nr])) {
			struct pc_seg *seg = &cache->map.segs[plan[nr].seg_id];

			if (!PC_PLANTED(PC_PLANT_NO_PIN))
				pc_seg_pin(seg);
			if (!atomic_load_explicit(&seg->touched, memory_order_relaxed))
				atomic_store_explicit(&seg->touched, 1, memory_order_relaxed);
		}
	}
	return nr;
}

struct damage {
	struct pc_extent bad;
	struct pcache *cache;
	bool is_dirty; /* still, so that nobody else has these bytes */
};

/* Drops what still is the damaged extent, unless it is dirty. */
static enum pc_walk drop_clean(void *ctx, struct pc_extent *extent)
{
	struct damage *damage = ctx;
	struct pcache *cache = damage->cache;

	if (extent->pos != damage->bad.pos || !is_data(extent) || extent->seg_id != damage->bad.seg_id)
		return PC_WALK_KEEP;
	if (extent->flags & PC_EXT_DIRTY) {
		damage->is_dirty = true;
		return PC_WALK_KEEP;
	}
	pc_segmap_unref(&cache->map, &cache->map.segs[extent->seg_id], extent->len_blk);
	return PC_WALK_DROP;
}

/* An extent could not be loaded. 0: try again, it has gone or was clean and comes from the backing now. PCACHE_E_POISONED: its bytes were nowhere else. */
static int bad_extent(struct pcache *cache, const struct pc_extent *extent)
{
	uint64_t mask = pc_index_mask(cache->index, extent->vol_blk, extent->len_blk);
	struct damage damage = { .bad = *extent, .cache = cache };

	if (!is_data(extent))
		return PCACHE_E_POISONED;
	pc_index_lock(cache->index, mask);
	pc_index_walk_range_locked(cache->index, extent->vol_blk, extent->len_blk, drop_clean, &damage);
	pc_index_unlock(cache->index, mask);
	return damage.is_dirty ? PCACHE_E_POISONED : 0;
}

/* Copies a pinned run, and unpins it. *out_blk: blocks copied; less than the run if an extent was bad and dropped. */
static int copy_run(struct pcache *cache, const struct pc_extent *plan, uint32_t run_nr, uint8_t *buf,
		    uint64_t *out_blk)
{
	const struct pc_extent *bad = NULL;
	bool tell = false;
	int rc = 0;

	*out_blk = 0;
	PC_YIELD(READ_PINNED);
	for (uint32_t i = 0; i < run_nr; i++) {
		if (!bad) {
			rc = copy_extent(cache, &plan[i], buf);
			buf += (size_t)plan[i].len_blk << cache->block_shift;
			*out_blk += rc ? 0 : plan[i].len_blk;
		}
		if (rc && !bad) {
			bad = &plan[i];
			/* While it is pinned: later it may be another segment in the same place. */
			tell = is_data(bad) && pc_core_damage(cache, bad, rc);
		}
		PC_YIELD(READ_COPIED);
		if (is_data(&plan[i]) && !PC_PLANTED(PC_PLANT_NO_PIN))
			pc_seg_unpin(&cache->map.segs[plan[i].seg_id]);
	}
	if (tell)
		pc_core_tell_quarantine(cache, bad->seg_id);
	return bad ? bad_extent(cache, bad) : 0;
}

int pc_core_read(struct pcache *cache, void *buf, uint64_t off, uint64_t len, uint32_t flags)
{
	uint64_t blk = off >> cache->block_shift, end_blk = (off + len) >> cache->block_shift;
	struct pc_extent plan[PLAN_MAX];
	uint8_t *to = buf;
	bool counted = false;
	int rc = 0;

	while (blk < end_blk && !rc) {
		uint64_t part_end = PC_MIN(end_blk, pc_index_stripe_end(cache->index, blk)), done_blk;
		uint64_t mask = pc_index_mask(cache->index, blk, part_end - blk);
		struct pc_shard_stats *stats = &cache->stats.shard[__builtin_ctzll(mask)];
		uint32_t plan_nr, run_nr;

		pc_index_lock(cache->index, mask);
		plan_nr = pc_index_lookup_locked(cache->index, blk, part_end - blk, plan, PLAN_MAX);
		if (!counted) {
			count(&stats->read_ops, 1);
			count(&stats->read_bytes, len);
			counted = true;
		}
		if (plan_nr == 0 || plan[0].vol_blk != blk) {
			done_blk = (plan_nr ? plan[0].vol_blk : part_end) - blk;
			done_blk = PC_MIN(done_blk, cache->atomic_max_bytes >> cache->block_shift);
			done_blk = PC_MIN(done_blk, (UINT64_C(1) << 20) >> cache->block_shift);
			count(&stats->miss_bytes, done_blk << cache->block_shift);
			rc = pc_core_miss(cache, mask, to, blk, done_blk, flags);
			if (rc == PC_MISS_RETRY) {
				rc = 0;
				done_blk = 0;
			}
		} else {
			run_nr = pin_run_locked(cache, plan, plan_nr, blk);
			count(&stats->hit_bytes, (plan[run_nr - 1].vol_blk + plan[run_nr - 1].len_blk - blk)
							 << cache->block_shift);
			pc_index_unlock(cache->index, mask);
			rc = copy_run(cache, plan, run_nr, to, &done_blk);
		}
		blk += done_blk;
		to += done_blk << cache->block_shift;
	}
	return rc;
}
