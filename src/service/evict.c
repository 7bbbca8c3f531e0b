/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Eviction: clean data gives way to new data.
 *
 * First, segments in which nothing is live become free. If that is not enough, closed segments without dirty data are picked by the clock, and one pass over the index drops
 * every clean extent in them. The pass costs the length of the index whatever it finds, so it is made for a sixteenth of the segments at a time: it waits until so many can be taken,
 * unless free segments run out. Nothing is stored: a crash brings evicted data back as clean data, which the backing has too, until the segment's generation is raised.
 */
#include <string.h>

#include "base/probe.h"
#include "base/sched.h"
#include "pcache/errors.h"
#include "service/internal.h"

static uint32_t target_free(struct pcache *cache)
{
	uint32_t by_percent = (uint32_t)((uint64_t)cache->map.segment_nr * (100 - cache->gc_percent) / 100);
	uint32_t wanted =
		atomic_load_explicit(&cache->space.want_segs, memory_order_relaxed) + cache->map.log_reserve_segs;

	if (atomic_load_explicit(&cache->space.want_log, memory_order_relaxed))
		wanted += 1;
	return PC_MAX(by_percent, wanted);
}

static uint32_t reclaim(struct pcache *cache)
{
	uint64_t durable_pos = pc_log_durable_pos(&cache->log);

	return pc_segmap_reclaim(&cache->map, pc_layout_tail(&cache->layout).dirty_tail_pos, durable_pos);
}

struct evict_ctx {
	struct pcache *cache;
	const uint8_t *victim;
	uint64_t dropped_nr; /* extents */
};

static enum pc_walk drop_clean(void *ctx, struct pc_extent *extent)
{
	struct evict_ctx *evict = ctx;

	if ((extent->flags & PC_EXT_TYPE_MASK) != PC_EXT_DATA || (extent->flags & PC_EXT_DIRTY) ||
	    !evict->victim[extent->seg_id])
		return PC_WALK_KEEP;
	pc_core_unref(evict->cache, extent);
	evict->dropped_nr++;
	return PC_WALK_DROP;
}

/* Segments that a pass takes, and below which free ones run out. */
static uint32_t pass_segs(const struct pcache *cache)
{
	return cache->map.segment_nr / 16 + 1;
}

static uint32_t low_segs(const struct pcache *cache)
{
	return pass_segs(cache) / 2 + cache->map.log_reserve_segs;
}

/*
 * Nothing dirty is in a closed segment. The counts of dirty blocks are sums over the shards, dear for thousands of segments after each batch of write-back; so what was found clean is taken for
 * clean in the looks that follow, and what has keys that write-back has not passed for dirty, but for every sixteenth look. Either is a matter of when, not of whether: no dirty extent is
 * ever dropped, and a segment with one is not free.
 */
static bool is_clean(struct pcache *cache, uint32_t seg_id, bool all)
{
	struct pc_evict_look *look = &cache->cleaner->looks[seg_id];
	uint64_t gen = atomic_load_explicit(&cache->map.segs[seg_id].gen, memory_order_relaxed);

	if (look->gen != gen)
		*look = (struct pc_evict_look){ .gen = gen,
						.close_pos =
							atomic_load_explicit(&cache->log.head, memory_order_relaxed) };
	if (all ||
	    (!look->clean && atomic_load_explicit(&cache->log.settled_pos, memory_order_acquire) >= look->close_pos))
		look->clean = pc_segmap_dirty_blk(&cache->map, seg_id) == 0;
	return look->clean;
}

static bool is_candidate(struct pcache *cache, uint32_t seg_id, bool all)
{
	return atomic_load_explicit(&cache->map.segs[seg_id].state, memory_order_acquire) == PC_SS_DATA &&
	       is_clean(cache, seg_id, all) && pc_segmap_live_blk(&cache->map, seg_id) != 0;
}

/* Looks at all segments. Returns how many a pass could take. */
static uint32_t find_candidates(struct pcache *cache, bool force)
{
	struct pc_evict_candidate *candidates = cache->cleaner->candidates;
	bool all = force || cache->cleaner->look_nr++ % 16 == 0 ||
		   atomic_load_explicit(&cache->space.waiting_nr, memory_order_relaxed) != 0 ||
		   atomic_load_explicit(&cache->space.caller_nr, memory_order_relaxed) != 0;
	uint32_t nr = 0;

	for (uint32_t id = 0; id < cache->map.segment_nr; id++) {
		candidates[id].eligible = is_candidate(cache, id, all);
		nr += candidates[id].eligible;
	}
	return nr;
}

/* Picks victims among the candidates. Returns how many. */
static uint32_t pick(struct pcache *cache, uint32_t want)
{
	struct pc_cleaner *cleaner = cache->cleaner;
	uint32_t nr = cache->map.segment_nr, picked;

	memset(cleaner->victim, 0, nr);
	for (uint32_t id = 0; id < nr; id++)
		cleaner->candidates[id].touched =
			atomic_load_explicit(&cache->map.segs[id].touched, memory_order_relaxed) != 0;
	picked = pc_evict_pick(cleaner->candidates, nr, &cleaner->hand, want, cleaner->victim);
	for (uint32_t id = 0; id < nr; id++)
		if (!cleaner->candidates[id].touched)
			atomic_store_explicit(&cache->map.segs[id].touched, 0, memory_order_relaxed);
	return picked;
}

/* False: nothing of the victims was in the index. What is live in them belongs to writes under way. */
static bool drop_victims(struct pcache *cache)
{
	struct evict_ctx evict = { .cache = cache, .victim = cache->cleaner->victim };
	struct pc_index_sweep sweep = { .ctx = &evict, .fn = drop_clean };

	(void)pc_index_sweep(cache->index, &sweep);
	return evict.dropped_nr != 0;
}

/* A pass is worth while: it finds many, or fewer the fewer are free. */
static bool pass_is_due(struct pcache *cache, uint32_t free_nr, uint32_t found)
{
	uint32_t low = low_segs(cache), needed = pass_segs(cache);

	if (free_nr >= target_free(cache))
		return false;
	if (atomic_load_explicit(&cache->space.want_segs, memory_order_relaxed) ||
	    atomic_load_explicit(&cache->space.want_log, memory_order_relaxed))
		needed = 1;
	else if (free_nr < low)
		needed = PC_MAX(needed * free_nr / low, 1u);
	return found >= needed;
}

bool pc_evict_lacks_clean(struct pcache *cache)
{
	return atomic_load_explicit(&cache->admit.clean_segs, memory_order_relaxed) < pass_segs(cache) &&
	       pc_segmap_free_nr(&cache->map) < target_free(cache);
}

/* Drops clean data if it is time for a pass, or if force. Returns how many segments are left that another pass could take. */
static uint32_t evict_clean(struct pcache *cache, bool force, uint32_t *out_freed, bool *out_dropped)
{
	uint32_t free_nr = pc_segmap_free_nr(&cache->map), found = find_candidates(cache, force), picked;
	uint32_t want = atomic_load_explicit(&cache->space.want_segs, memory_order_relaxed);
	bool due = pass_is_due(cache, free_nr, found);

	if (!found || (!due && !force))
		return found;
	picked = pick(cache, due ? PC_MAX(pass_segs(cache), want) : 1);
	PC_YIELD(EVICT_PICKED);
	*out_dropped = drop_victims(cache);
	PC_YIELD(EVICT_DROPPED);
	if (*out_dropped)
		atomic_fetch_add_explicit(&cache->stats.evicted_segs, picked, memory_order_relaxed);
	PC_PROBE1(evict, picked);
	*out_freed += reclaim(cache);
	return found - picked;
}

int pc_evict_step(struct pcache *cache, bool force)
{
	uint32_t freed;
	bool dropped = false;

	if (atomic_load_explicit(&cache->failstop, memory_order_acquire))
		return PCACHE_E_FAILSTOP;
	pc_mutex_lock(&cache->cleaner->lock);
	freed = reclaim(cache);
	atomic_store_explicit(&cache->admit.clean_segs, evict_clean(cache, force, &freed, &dropped),
			      memory_order_relaxed);
	pc_mutex_unlock(&cache->cleaner->lock);
	pc_admit_look(cache);
	if (freed)
		pc_space_progress(cache);
	return freed || dropped ? 1 : 0;
}
