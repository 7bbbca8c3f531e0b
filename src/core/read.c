/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Read: look up, plan, copy, look whether it still counts.
 *
 * Under the shard lock the extents are looked up, with the generations of their segments; the copy runs without a lock. Data is immutable until its segment is recycled, and who
 * recycles raises the generation first. So the bytes are what the extent says if the generation is the same after the copy, also when a write replaced the extent meanwhile (the
 * read is then concurrent and returns the old version). If it is not, or if anything is wrong with the bytes, the rest is looked up again, and this time the segments are pinned: a
 * pinned segment is not recycled. So a hit costs no locked instruction but that of the shard lock, and nobody can keep a reader trying. docs/LOCKING.md has the proof.
 *
 * Every hit is verified against its CRC; a fragment is verified by reading its whole chunk.
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

static uint64_t data_off(const struct pcache *cache, const struct pc_extent *extent)
{
	return pc_geo_segment_off(&cache->layout.super, extent->seg_id) +
	       ((uint64_t)extent->seg_blk << cache->block_shift);
}

/* Part of a chunk: all of it is loaded, for its CRC. */
static __attribute__((noinline)) int load_fragment(struct pcache *cache, uint64_t media_off, void *buf, size_t len,
						   uint32_t crc, uint32_t geom)
{
	size_t head = (size_t)PC_GEOM_HEAD(geom) << cache->block_shift;
	size_t tail = (size_t)PC_GEOM_TAIL(geom) << cache->block_shift;
	_Alignas(64) uint8_t chunk[PC_CHUNK_BYTES];
	int rc = load_verified(cache, media_off - head, chunk, head + len + tail, crc);

	if (!rc)
		memcpy(buf, chunk + head, len);
	return rc;
}

static inline __attribute__((always_inline)) int load_part(struct pcache *cache, uint64_t media_off, void *buf,
							   size_t len, uint32_t crc, uint32_t geom)
{
	if (!cache->data_crc)
		return pc_media_load_lines(cache->media, media_off, buf, len);
	if (geom == 0)
		return load_verified(cache, media_off, buf, len, crc);
	return load_fragment(cache, media_off, buf, len, crc, geom);
}

int pc_core_load(struct pcache *cache, const struct pc_extent *extent, void *buf)
{
	return load_part(cache, data_off(cache, extent), buf, (size_t)extent->len_blk << cache->block_shift,
			 extent->crc, extent->geom);
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
	pc_event(&cache->msg, (struct pcache_event){ .kind = PCACHE_EVENT_MEDIA_DAMAGE,
						     .off = pc_geo_segment_off(&cache->layout.super, seg_id),
						     .len = cache->layout.super.segment_bytes,
						     .value = seg_id });
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

/*
 * What is copied after the shards were unlocked. Each segment's generation is kept: if it still is the same when the copy is over, the bytes are of the life that the extent
 * means. Else somebody was faster, and the rest is looked up again, this time with pins.
 */
struct run {
	struct pc_extent plan[PLAN_MAX];
	uint64_t gens[PLAN_MAX]; /* of DATA extents */
	uint32_t nr;
	bool pinned;
};

static struct pc_seg *seg_of(struct pcache *cache, const struct pc_extent *extent)
{
	return &cache->map.segs[extent->seg_id];
}

static bool is_touched(const struct pc_seg *seg)
{
	return atomic_load_explicit(&seg->touched, memory_order_relaxed) == PC_TOUCHED_READ;
}

/*
 * The same out of a plan that was made without the lock. False: a segment that does not exist. The generations count, like the plan, only if the index has not changed until they were
 * loaded: then the extents were in it all the time. To touch a wrong segment does no harm.
 */
static bool peek_run(struct pcache *cache, struct run *run, uint32_t plan_nr, uint64_t vol_blk, uint64_t *out_end_blk)
{
	uint32_t nr = 0;

	for (; nr < plan_nr && run->plan[nr].vol_blk == vol_blk; nr++) {
		struct pc_seg *seg;

		vol_blk += run->plan[nr].len_blk;
		if (!is_data(&run->plan[nr]))
			continue;
		if (run->plan[nr].seg_id >= cache->map.segment_nr)
			return false;
		seg = seg_of(cache, &run->plan[nr]);
		run->gens[nr] = atomic_load_explicit(&seg->gen, memory_order_relaxed);
		if (!is_touched(seg))
			atomic_store_explicit(&seg->touched, PC_TOUCHED_READ, memory_order_relaxed);
	}
	run->nr = nr;
	*out_end_blk = vol_blk;
	return nr > 0;
}

/* Takes the first extents of the plan that follow each other without a gap from vol_blk; returns where they end. */
static uint64_t take_run_locked(struct pcache *cache, struct run *run, uint32_t plan_nr, uint64_t vol_blk)
{
	uint32_t nr = 0;

	for (; nr < plan_nr && run->plan[nr].vol_blk == vol_blk; nr++) {
		struct pc_seg *seg = seg_of(cache, &run->plan[nr]);

		vol_blk += run->plan[nr].len_blk;
		if (!is_data(&run->plan[nr]))
			continue;
		run->gens[nr] = atomic_load_explicit(&seg->gen, memory_order_relaxed);
		if (run->pinned && !PC_PLANTED(PC_PLANT_NO_PIN))
			pc_seg_pin(seg);
		if (!is_touched(seg))
			atomic_store_explicit(&seg->touched, PC_TOUCHED_READ, memory_order_relaxed);
	}
	run->nr = nr;
	return vol_blk;
}

/* After a copy: whether the segment still lives the life in which its data was found. */
static bool is_same_life(const struct pc_seg *seg, uint64_t gen)
{
	/* Order: the generation is looked at after the bytes; who reuses a segment raises it before he stores (segmap.c). */
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&seg->gen, memory_order_relaxed) == gen;
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
	pc_core_unref(cache, extent);
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

#define READ_AGAIN 1 /* no error: from there on it must be looked up again, with pins */

static void prefetch(struct pcache *cache, const struct pc_extent *extent)
{
	if (is_data(extent))
		pc_media_prefetch(cache->media, data_off(cache, extent), (size_t)extent->len_blk << cache->block_shift);
}

/* Copies a run that is not pinned. *out_blk: blocks copied. 0; READ_AGAIN if there are fewer than the run has. */
static int copy_run(struct pcache *cache, const struct run *run, uint8_t *buf, uint64_t *out_blk)
{
	uint64_t done_blk = 0;

	prefetch(cache, &run->plan[0]);
	PC_YIELD(READ_FOUND);
	for (uint32_t i = 0; i < run->nr; i++) {
		const struct pc_extent *extent = &run->plan[i];
		int rc;

		if (i + 1 < run->nr)
			prefetch(cache, extent + 1);
		rc = copy_extent(cache, extent, buf);
		PC_YIELD(READ_COPIED);
		/* Damage is dealt with while the segment is pinned: without, it may be another life's bytes that are wrong. */
		if (rc || (is_data(extent) && !is_same_life(seg_of(cache, extent), run->gens[i]))) {
			*out_blk = done_blk;
			return READ_AGAIN;
		}
		buf += (size_t)extent->len_blk << cache->block_shift;
		done_blk += extent->len_blk;
	}
	*out_blk = done_blk;
	return 0;
}

/* Copies a pinned run, and unpins it. *out_blk: blocks copied; less than the run if an extent was bad and dropped. */
static int copy_pinned_run(struct pcache *cache, const struct run *run, uint8_t *buf, uint64_t *out_blk)
{
	const struct pc_extent *bad = NULL;
	bool tell = false;
	int rc = 0;

	*out_blk = 0;
	PC_YIELD(READ_FOUND);
	for (uint32_t i = 0; i < run->nr; i++) {
		const struct pc_extent *extent = &run->plan[i];

		if (!bad) {
			rc = copy_extent(cache, extent, buf);
			buf += (size_t)extent->len_blk << cache->block_shift;
			*out_blk += rc ? 0 : extent->len_blk;
		}
		if (rc && !bad) {
			bad = extent;
			/* While it is pinned: later it may be another segment in the same place. */
			tell = is_data(bad) && pc_core_damage(cache, bad, rc);
		}
		PC_YIELD(READ_COPIED);
		if (is_data(extent) && !PC_PLANTED(PC_PLANT_NO_PIN))
			pc_seg_unpin(seg_of(cache, extent));
	}
	if (tell)
		pc_core_tell_quarantine(cache, bad->seg_id);
	return bad ? bad_extent(cache, bad) : 0;
}

/* ---- one call --------------------------------------------------------------------------------------------------------- */

struct read {
	struct pcache *cache;
	uint8_t *to;
	uint64_t blk, end_blk; /* what is left */
	uint64_t uncounted_bytes; /* of the call, until they are counted in the first shard */
	uint32_t flags; /* PCACHE_* flags of the caller */
	struct run run;
};

#define MISS_MAX_BYTES (UINT64_C(1) << 20)

static void advance(struct read *read, uint64_t done_blk)
{
	read->blk += done_blk;
	read->to += done_blk << read->cache->block_shift;
}

static void count_call_locked(struct read *read, struct pc_shard_stats *stats)
{
	if (!read->uncounted_bytes)
		return;
	count(&stats->read_ops, 1);
	count(&stats->read_bytes, read->uncounted_bytes);
	read->uncounted_bytes = 0;
}

/* The index has nothing up to gap_end_blk. The shard is unlocked here. */
static int read_gap_locked(struct read *read, uint64_t mask, struct pc_shard_stats *stats, uint64_t gap_end_blk)
{
	struct pcache *cache = read->cache;
	uint64_t len_blk = gap_end_blk - read->blk;
	int rc;

	if (read->flags & PCACHE_NOWAIT) {
		pc_index_unlock(cache->index, mask);
		return -EAGAIN;
	}
	len_blk = PC_MIN(len_blk, PC_MIN(cache->atomic_max_bytes, MISS_MAX_BYTES) >> cache->block_shift);
	count(&stats->miss_bytes, len_blk << cache->block_shift);
	rc = pc_core_miss(cache, mask, read->to, read->blk, len_blk, read->flags);
	if (rc == PC_MISS_RETRY)
		return 0;
	advance(read, len_blk);
	return rc;
}

/* As count_call_locked, and what was hit, without a lock. read_bytes: of the call; 0: it was counted. */
static inline __attribute__((always_inline)) void count_hit(struct pcache *cache, uint64_t read_bytes,
							    uint64_t hit_bytes)
{
	uint32_t slot = pc_thread_slot();
	struct pc_reader_stats *stats = &cache->stats.reader[slot];

	if (read_bytes) {
		pc_thread_slot_add(&stats->read_ops, slot, 1);
		pc_thread_slot_add(&stats->read_bytes, slot, read_bytes);
	}
	pc_thread_slot_add(&stats->hit_bytes, slot, hit_bytes);
}

/* A run up to part_end, found without a lock. False: there is none at the beginning, or somebody is changing the shard. */
static bool find_run(struct read *read, uint64_t part_end)
{
	struct pcache *cache = read->cache;
	struct pc_index_peek peek;
	uint64_t run_end;

	if (!pc_index_peek(cache->index, read->blk, part_end - read->blk, read->run.plan, PLAN_MAX, &peek) ||
	    !peek_run(cache, &read->run, peek.nr, read->blk, &run_end))
		return false;
	if (!pc_index_peek_holds(&peek) && !PC_PLANTED(PC_PLANT_PEEK_UNCHECKED))
		return false;
	count_hit(cache, read->uncounted_bytes, (run_end - read->blk) << cache->block_shift);
	read->uncounted_bytes = 0;
	return true;
}

/* Copies the run that was found. */
static int read_run(struct read *read)
{
	struct run *run = &read->run;
	uint64_t done_blk;
	int rc = run->pinned ? copy_pinned_run(read->cache, run, read->to, &done_blk)
			     : copy_run(read->cache, run, read->to, &done_blk);

	advance(read, done_blk);
	run->pinned = rc == READ_AGAIN || PC_PLANTED(PC_PLANT_NO_PIN);
	return rc == READ_AGAIN ? 0 : rc;
}

/* Goes on by one gap, or one run of extents, up to part_end; or not at all, and is to be called again. */
static int read_locked(struct read *read, uint64_t part_end)
{
	struct pcache *cache = read->cache;
	uint64_t run_end;
	uint64_t mask = pc_index_mask(cache->index, read->blk, part_end - read->blk);
	struct pc_shard_stats *stats = &cache->stats.shard[__builtin_ctzll(mask)];
	struct run *run = &read->run;
	uint32_t plan_nr;

	pc_index_lock(cache->index, mask);
	plan_nr = pc_index_lookup_locked(cache->index, read->blk, part_end - read->blk, run->plan, PLAN_MAX);
	count_call_locked(read, stats);
	if (plan_nr == 0 || run->plan[0].vol_blk != read->blk)
		return read_gap_locked(read, mask, stats, plan_nr ? run->plan[0].vol_blk : part_end);
	run_end = take_run_locked(cache, run, plan_nr, read->blk);
	if (!run->pinned) /* else it was counted before */
		count(&stats->hit_bytes, (run_end - read->blk) << cache->block_shift);
	pc_index_unlock(cache->index, mask);
	return read_run(read);
}

static int read_some(struct read *read)
{
	uint64_t part_end = PC_MIN(read->end_blk, pc_index_stripe_end(read->cache->index, read->blk));

	if (!read->run.pinned && find_run(read, part_end))
		return read_run(read);
	return read_locked(read, part_end);
}

enum one { ONE_DONE, ONE_UNUSUAL, ONE_AGAIN };

/*
 * The read that nearly all reads are: of data that one extent has, with nobody in the way.
 *
 * A processor works on some hundreds of instructions at a time. So it asks for the data of this call while that of the last one is still on its way, if there are few instructions in between; what
 * is decided anew for every run of others is constant here, and nothing is looked up that is not needed. ONE_UNUSUAL: something is not as usual, and nothing was counted. ONE_AGAIN: as READ_AGAIN,
 * and the hit was counted.
 */
static inline __attribute__((always_inline)) enum one read_one(struct pcache *cache, void *buf, uint64_t blk,
							       uint64_t len_blk)
{
	struct pc_index_peek peek;
	struct pc_index_hit hit;
	struct pc_seg *seg;
	uint64_t gen, media_off, len = len_blk << cache->block_shift;
	int rc;

	if (len_blk - 1 >= cache->chunk_blk || PC_PLANTED(PC_PLANT_NO_PIN) ||
	    !pc_index_peek_one(cache->index, blk, len_blk, &hit, &peek) || hit.seg_id >= cache->map.segment_nr)
		return ONE_UNUSUAL;
	media_off = cache->layout.super.data_off + (hit.media_blk << cache->block_shift);
	pc_media_prefetch(cache->media, media_off, len);
	seg = &cache->map.segs[hit.seg_id];
	gen = atomic_load_explicit(&seg->gen, memory_order_relaxed);
	if (!pc_index_peek_holds(&peek) && !PC_PLANTED(PC_PLANT_PEEK_UNCHECKED))
		return ONE_UNUSUAL;
	if (!is_touched(seg))
		atomic_store_explicit(&seg->touched, PC_TOUCHED_READ, memory_order_relaxed);
	count_hit(cache, len, len);
	PC_YIELD(READ_FOUND);
	rc = load_part(cache, media_off, buf, len, hit.crc, hit.geom);
	PC_YIELD(READ_COPIED);
	return rc || !is_same_life(seg, gen) ? ONE_AGAIN : ONE_DONE;
}

/*
 * In any number of runs. count_bytes: of the call, counted in the first shard; 0: it was counted. pinned: the first run is to be. *out_done_bytes: from the beginning, also if
 * it fails.
 */
static inline __attribute__((always_inline)) int read_any(struct pcache *cache, void *buf, uint64_t off, uint64_t len,
							  uint32_t flags, uint64_t count_bytes, bool pinned,
							  uint64_t *out_done_bytes)
{
	struct read read; /* not zeroed: the plan is large */
	int rc = 0;

	read.cache = cache;
	read.to = buf;
	read.blk = off >> cache->block_shift;
	read.end_blk = (off + len) >> cache->block_shift;
	read.uncounted_bytes = count_bytes;
	read.flags = flags;
	read.run.pinned = pinned || PC_PLANTED(PC_PLANT_NO_PIN);
	while (read.blk < read.end_blk && !rc)
		rc = read_some(&read);
	*out_done_bytes = (read.blk << cache->block_shift) - off;
	return rc;
}

/* again: all of it is one hit that was counted. A function of its own with few arguments, so that the usual read pays nothing. */
static __attribute__((noinline)) int read_unusual(struct pcache *cache, void *buf, uint64_t off, uint64_t len,
						  uint32_t flags, bool again)
{
	uint64_t done_bytes;

	return read_any(cache, buf, off, len, flags, again ? 0 : len, again, &done_bytes);
}

int pc_core_read(struct pcache *cache, void *buf, uint64_t off, uint64_t len, uint32_t flags)
{
	enum one one = read_one(cache, buf, off >> cache->block_shift, len >> cache->block_shift);

	return one == ONE_DONE ? 0 : read_unusual(cache, buf, off, len, flags, one == ONE_AGAIN);
}

int pc_core_read_hits(struct pcache *cache, void *buf, uint64_t off, uint64_t len, uint64_t count_bytes,
		      uint64_t *out_done_bytes)
{
	return read_any(cache, buf, off, len, PCACHE_NOWAIT, count_bytes, false, out_done_bytes);
}

int pc_core_read_rest(struct pcache *cache, void *buf, uint64_t off, uint64_t len, uint32_t flags)
{
	uint64_t done_bytes;

	return read_any(cache, buf, off, len, flags, 0, false, &done_bytes);
}
