/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Modes: where a write goes.
 *
 *   writeback     to the cache
 *   writeonly     the same; nothing that is read is kept
 *   writethrough  to the cache, and from there to the backing before the call returns: one way to the backing for all, so that order and crash consistency are those of write-back
 *   writearound   to the backing, with the range held in the cache (core/hold.c); through, where something of the range is dirty, and whatever must be atomic or has no data
 *   passthrough   as writearound, with nothing dirty left in the cache and nothing clean
 *
 * The mode is read by each request, and is not on the media. Each order of requests of two modes is right, as holds and versions in the log exclude each other; so a change is one store, and
 * only passthrough, which promises something of all requests, waits: it is stored first, then all is drained. A write that was begun before and appends behind the drain sees the new mode when it
 * has appended, and goes through.
 */
#include "service/mode.h"

#include <errno.h>

#include "base/plant.h"
#include "base/sched.h"
#include "pcache/errors.h"
#include "service/service.h"

static enum pc_walk drop_clean(void *ctx, struct pc_extent *extent)
{
	struct pcache *cache = ctx;

	if ((extent->flags & PC_EXT_DIRTY) || (extent->flags & PC_EXT_TYPE_MASK) != PC_EXT_DATA)
		return PC_WALK_KEEP;
	pc_core_unref(cache, extent);
	return PC_WALK_DROP;
}

/* As eviction does. Whatever the next open finds of it is what the backing has, as each write lays a key over it first. */
static void drop_all_clean(struct pcache *cache)
{
	struct pc_index_sweep sweep = { .ctx = cache, .fn = drop_clean };

	(void)pc_index_sweep(cache->index, &sweep);
	pc_signal_work(cache, PC_WORK_SPACE);
}

int pc_mode_through(struct pcache *cache)
{
	uint64_t target;
	int rc;

	/* As a drain, whose mark is the end of what it writes. */
	pc_core_drain_begin(cache);
	target = atomic_load(&cache->log.head);
	pc_core_drain_mark(cache, target);
	rc = pc_service_drain_to(cache, target, NULL, NULL);
	pc_core_drain_end(cache);
	if (!rc && atomic_load(&cache->mode) == PCACHE_MODE_PASSTHROUGH)
		drop_all_clean(cache);
	return rc;
}

/* One part, within a stripe. op_nr: requests that it ends. */
static int around(struct pcache *cache, const struct pcache_range *part, uint32_t op_nr, uint32_t flags)
{
	struct pc_fill hold = { .vol_blk = part->off >> cache->block_shift,
				.len_blk = part->len >> cache->block_shift,
				.is_hold = true };
	int rc;

	if (PC_PLANTED(PC_PLANT_AROUND_FIRST))
		(void)pc_backing_write(cache->backing, part->buf, part->off, part->len);
	rc = pc_core_hold(cache, &hold, flags);

	if (rc == PC_HOLD_NO) {
		rc = pc_core_write(cache, part, 1, flags);
		return rc ? rc : pc_mode_through(cache);
	}
	if (rc)
		return rc;
	rc = pc_backing_write(cache->backing, part->buf, part->off, part->len);
	PC_YIELD(AROUND_WRITTEN);
	/* Order: durable before a read shows it, and before the call returns. */
	if (!rc)
		rc = pc_backing_flush(cache->backing);
	if (rc)
		atomic_fetch_add_explicit(&cache->stats.backing_errors, 1, memory_order_relaxed);
	pc_core_release(cache, &hold, !rc, op_nr);
	return rc;
}

static int around_all(struct pcache *cache, const struct pcache_range *range, uint32_t flags)
{
	const uint8_t *from = range->buf;
	uint64_t off = range->off, end_off = off + range->len;
	int rc = 0;

	while (off < end_off && !rc) {
		uint64_t stripe_end = pc_index_stripe_end(cache->index, off >> cache->block_shift)
				      << cache->block_shift;
		struct pcache_range part = { .buf = from, .off = off, .len = PC_MIN(end_off, stripe_end) - off };

		rc = around(cache, &part, off + part.len == end_off, flags);
		from += part.len;
		off += part.len;
	}
	return rc;
}

int pc_mode_write(struct pcache *cache, const struct pcache_range *ranges, uint32_t range_nr, bool whole,
		  uint32_t flags)
{
	int rc;

	if (flags & PCACHE_NOWAIT)
		return -EAGAIN;
	if (range_nr == 1 && !whole && pc_mode_goes_around(cache))
		return around_all(cache, ranges, flags);
	rc = pc_core_write(cache, ranges, range_nr, flags);
	return rc ? rc : pc_mode_through(cache);
}

static int enter_passthrough(struct pcache *cache)
{
	int rc = pc_service_drain(cache, NULL, NULL);

	if (!rc)
		drop_all_clean(cache);
	return rc;
}

static void store_mode(struct pcache *cache, uint8_t mode)
{
	atomic_store(&cache->fills_off, mode == PCACHE_MODE_WRITEONLY || mode == PCACHE_MODE_PASSTHROUGH);
	atomic_store(&cache->mode, mode);
}

int pc_mode_set(struct pcache *cache, uint32_t mode)
{
	uint8_t old;
	int rc = 0;

	if (atomic_exchange(&cache->mode_changes, true))
		return -EBUSY;
	old = atomic_load(&cache->mode);
	if (mode == PCACHE_MODE_WRITEAROUND || mode == PCACHE_MODE_PASSTHROUGH)
		pc_core_holds_begin(cache);
	store_mode(cache, (uint8_t)mode);
	PC_YIELD(MODE_STORED);
	if (mode == PCACHE_MODE_PASSTHROUGH && old != mode)
		rc = enter_passthrough(cache);
	if (rc)
		store_mode(cache, old);
	if (!pc_mode_goes_around(cache))
		pc_core_holds_end(cache);
	atomic_store(&cache->mode_changes, false);
	return rc;
}
