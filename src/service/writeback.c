/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Write-back: dirty data goes to the backing in log order.
 *
 *     log     | dirty tail ... keys of epoch e ... flush mark | keys of epoch e+1 ... durable position |
 *
 * A batch starts at the durable dirty tail and ends at a kset border: at a flush mark (ordering strict), when it is large enough, or at the durable
 * position. Its versions are read from the log, or, where the batch lies in one epoch, found by a sweep over the index; they are verified and written; then, in
 * this order:
 *
 *     backing flush  ->  tail record (both copies)  ->  extents become clean  ->  segments may be reused
 *
 * and only after that may the log be cleaned there (settled_pos). So dirty never becomes clean before it is durable on the backing, and (strict) no
 * write of a later epoch reaches the backing before the tail record of the earlier one is durable: a second write-back after a crash would take the
 * backing back in time. A failed flush fails the batch; its writes are done again.
 *
 * Versions that need not be written: overwritten in the same epoch, or, with ordering batch, overwritten at all. The index tells: an extent carries the position of its key.
 * An overwritten version of an earlier epoch is still in its segment, which the hold rule (core/apply.c) keeps.
 *
 * Within an atomic kset with ordering batch a part may be skipped here because a later kset overwrote it; that later kset comes in a later batch, and the backing is
 * consistent when the drain ends.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"
#include "base/sched.h"
#include "pcache/errors.h"
#include "service/internal.h"

#define PACE_NS UINT64_C(20000000) /* a batch should take about as long */
#define BATCH_BYTES_MIN (UINT64_C(1) << 20)
#define BATCH_BYTES_MAX (UINT64_C(64) << 20)

static void drop_items(struct pcache *cache)
{
	struct pc_writeback *wb = cache->writeback;

	for (uint32_t i = 0; i < wb->item_nr; i++)
		if (pc_wb_is_data(&wb->items[i].extent))
			pc_seg_unpin(&cache->map.segs[wb->items[i].extent.seg_id]);
	wb->item_nr = 0;
}

/* The list is full in the middle of a kset. */
static int issue_and_drop(struct pcache *cache)
{
	int rc = pc_wb_issue(cache);

	drop_items(cache);
	cache->writeback->items_lost = true;
	return rc;
}

static int add_item(struct pcache *cache, const struct pc_extent *part)
{
	struct pc_writeback *wb = cache->writeback;
	int rc = 0;

	if (wb->item_nr == PC_WB_ITEM_MAX)
		rc = issue_and_drop(cache);
	if (rc)
		return rc;
	if (pc_wb_is_data(part))
		atomic_fetch_add_explicit(&cache->map.segs[part->seg_id].pins, 1,
					  memory_order_acquire); /* the caller holds one already */
	wb->items[wb->item_nr] = (struct pc_wb_item){ .extent = *part, .seq = wb->item_nr };
	wb->item_nr++;
	wb->batch_bytes += pc_wb_is_data(part) ? pc_wb_bytes(cache, part->len_blk) : PC_CHUNK_BYTES;
	return 0;
}

/* ---- collect --------------------------------------------------------------------------------------------------------- */

/* Whether the version at pos must be written although the index shows one at newer_pos. */
static bool overwritten_version_counts(struct pcache *cache, uint64_t pos, uint64_t newer_pos)
{
	uint64_t epoch_pos;

	/* What is not durable yet may still be lost, and then this version is the newest. */
	if (newer_pos <= pos || newer_pos >= cache->writeback->limit_pos)
		return true;
	if (!cache->strict &&
	    !(pc_core_draining(cache) && newer_pos >= atomic_load_explicit(&cache->drain_pos, memory_order_acquire)))
		return false;
	epoch_pos = atomic_load_explicit(&cache->log.epoch_pos, memory_order_acquire);
	epoch_pos = PC_MAX(epoch_pos, atomic_load_explicit(&cache->open_epoch_pos, memory_order_relaxed));
	/* Both in the epoch that is still open: the newer one replaces it. Else the newer one may belong to a later epoch. */
	return pos < epoch_pos;
}

/* Whether part shows the same bytes on media as version, which covers it. */
static bool same_place(const struct pc_extent *version, const struct pc_extent *part)
{
	return !pc_wb_is_data(version) || !pc_wb_is_data(part) ||
	       (part->seg_id == version->seg_id &&
		part->vol_blk - version->vol_blk == (uint64_t)part->seg_blk - version->seg_blk);
}

/* Adds those parts of version that must be written. Its segment is pinned. */
static int add_needed_parts(struct pcache *cache, const struct pc_extent *version)
{
	uint64_t blk = version->vol_blk, end_blk = version->vol_blk + version->len_blk;
	struct pc_extent found[16];
	int rc = 0;

	while (blk < end_blk && !rc) {
		uint64_t part_end = PC_MIN(end_blk, pc_index_stripe_end(cache->index, blk));
		uint64_t mask = pc_index_mask(cache->index, blk, part_end - blk);
		uint32_t nr;

		pc_index_lock(cache->index, mask);
		nr = pc_index_lookup_locked(cache->index, blk, part_end - blk, found, PC_ARRAY_NR(found));
		pc_index_unlock(cache->index, mask);
		PC_YIELD(WB_LOOKED_UP);
		if (nr == PC_ARRAY_NR(found))
			part_end = found[nr - 1].vol_blk + found[nr - 1].len_blk;
		for (uint32_t i = 0; i <= nr && blk < part_end && !rc; i++) {
			uint64_t gap_end = i < nr ? found[i].vol_blk : part_end;
			struct pc_extent part;

			if (blk < gap_end) {
				part = pc_extent_part(version, blk, (uint32_t)(gap_end - blk));
				rc = add_item(cache, &part);
				blk = gap_end;
			}
			if (rc || i == nr)
				continue;
			if (found[i].pos == version->pos && !same_place(version, &found[i])) {
				/* Ranges of one kset overlap; the later key has won, and its own turn comes. */
			} else if (overwritten_version_counts(cache, version->pos, found[i].pos)) {
				part = pc_extent_part(version, found[i].vol_blk, found[i].len_blk);
				rc = add_item(cache, &part);
			}
			blk = found[i].vol_blk + found[i].len_blk;
		}
	}
	return rc;
}

static int collect_key(struct pcache *cache, const struct pc_key *key, const struct pcm_le32 *crcs, uint64_t pos)
{
	struct pc_extent version = { .vol_blk = key->vol_blk, .pos = pos, .len_blk = key->len_blk };
	uint32_t type = key->flags & PC_KEY_TYPE_MASK;
	int rc = 0;

	if ((key->flags & PC_KEY_CLEAN) || type == PC_KEY_POISON)
		return 0;
	if (type == PC_KEY_ZERO) {
		version.flags = (uint8_t)(PC_EXT_ZERO | (key->flags & PC_KEY_DISCARD ? PC_EXT_DISCARD : 0u));
		return add_needed_parts(cache, &version);
	}
	/* Stale: every block of it was overwritten in its own epoch (or, ordering batch, at all), and the segment was reused. */
	if (!pc_segmap_pin_gen(&cache->map, key->seg_id, key->gen))
		return 0;
	PC_YIELD(WB_PINNED);
	for (uint32_t i = 0; !rc && pc_apply_chunk(cache, key, crcs, pos, i, &version); i++)
		rc = add_needed_parts(cache, &version);
	pc_seg_unpin(&cache->map.segs[key->seg_id]);
	return rc;
}

static int collect_kset(struct pcache *cache, const void *buf, const struct pc_kset *kset)
{
	struct pc_key_cursor cursor;
	struct pc_key key;
	const struct pcm_le32 *crcs;
	int rc = 0;

	pc_key_first(buf, kset, &cache->layout.rules, &cursor);
	while (!rc && pc_key_next(&cursor, &key, &crcs))
		rc = collect_key(cache, &key, crcs, kset->pos);
	return rc;
}

static bool batch_has_work(const struct pc_writeback *wb)
{
	return wb->item_nr != 0 || wb->issued;
}

/* The log cannot be read at pos, or has something else there: it is never skipped. Its segment is not used again. */
static int damaged_log(struct pcache *cache, uint64_t pos)
{
	struct pc_writeback *wb = cache->writeback;
	uint32_t seg_id = pc_log_seg(&cache->log, pos)->seg_id;

	atomic_fetch_add_explicit(&cache->stats.media_errors, 1, memory_order_relaxed);
	if (pc_segmap_quarantine(&cache->map, seg_id))
		wb->quarantined_id = seg_id;
	wb->unreadable_pos = pos;
	return PCACHE_E_CORRUPT;
}

/* Reads ksets from from on, until the batch is complete. *out_end: the dirty tail after it. */
static int collect(struct pcache *cache, uint64_t from, uint64_t limit, uint64_t *out_end)
{
	struct pc_writeback *wb = cache->writeback;
	uint64_t pos = from, open_epoch_pos = atomic_load_explicit(&cache->open_epoch_pos, memory_order_relaxed);
	int rc = 0;

	pc_log_reader_reset(&wb->reader);
	while (pos < limit && wb->batch_bytes < wb->target_bytes && wb->item_nr < PC_WB_BATCH_ITEMS && !rc) {
		struct pc_kset kset;
		const void *buf;

		if (cache->strict && pos >= open_epoch_pos && from < open_epoch_pos && batch_has_work(wb))
			break;
		if (pc_log_reader_at(&wb->reader, pos, limit, &kset, &buf) != PC_VALID)
			return damaged_log(cache, pos);
		if (kset.type == PC_KSET_KEYS)
			rc = collect_kset(cache, buf, &kset);
		pos += kset.slot_nr;
		/* An epoch ends here; nothing of the next may be in the same batch. */
		if (kset.type == PC_KSET_MARK && (kset.flags & PC_KSET_FLAG_FLUSH) && cache->strict &&
		    batch_has_work(wb))
			break;
	}
	*out_end = pos;
	return rc;
}

/* ---- collect by a walk over the index ------------------------------------------------------------------------------------- */
/*
 * Within one epoch (or with ordering batch) only what the index still shows must be written, and most of what the log holds may be overwritten already. Then a walk over
 * the index in order costs less than a look-up of every key, and meets the data sorted by offset. It needs every overwrite to be durable when it shows, which page granularity
 * does not give, and no flush mark among or behind the positions of the batch: an overwrite of a later epoch would hide a version that must be written. A flush that begins
 * meanwhile is noticed at the end, and the log is read after all: writing a version twice does no harm.
 */

struct walk {
	struct pcache *cache;
	uint64_t from;
	uint64_t end;
};

static bool in_batch(const struct walk *walk, const struct pc_extent *extent)
{
	return (extent->flags & PC_EXT_DIRTY) && extent->pos >= walk->from && extent->pos < walk->end;
}

static enum pc_walk gather_dirty(void *ctx, struct pc_extent *extent)
{
	struct walk *walk = ctx;
	struct pc_writeback *wb = walk->cache->writeback;

	if (!in_batch(walk, extent))
		return PC_WALK_KEEP;
	if (wb->item_nr == PC_WB_ITEM_MAX)
		return PC_WALK_STOP;
	if (pc_wb_is_data(extent))
		pc_seg_pin(&walk->cache->map.segs[extent->seg_id]);
	wb->items[wb->item_nr++].extent = *extent;
	wb->batch_bytes += pc_wb_is_data(extent) ? pc_wb_bytes(walk->cache, extent->len_blk) : PC_CHUNK_BYTES;
	return PC_WALK_KEEP;
}

static int issue_if_full(void *ctx)
{
	struct walk *walk = ctx;

	return walk->cache->writeback->item_nr == PC_WB_ITEM_MAX ? issue_and_drop(walk->cache) : 0;
}

/* No flush mark at or behind from, now: what the index shows is all that must be written. */
static bool one_epoch_from(struct pcache *cache, uint64_t from)
{
	if (!cache->strict)
		return !pc_core_draining(cache) || atomic_load_explicit(&cache->log.head, memory_order_seq_cst) <=
							   atomic_load_explicit(&cache->drain_pos, memory_order_acquire);
	return atomic_load_explicit(&cache->log.epoch_pos, memory_order_seq_cst) < from &&
	       atomic_load_explicit(&cache->open_epoch_pos, memory_order_relaxed) <= from;
}

/* How many slots a batch should span for the backing to be busy as long as it should; never much more than the last, whose yield is all that is known. */
static uint64_t wanted_slots(const struct pc_writeback *wb)
{
	uint64_t by_yield = (wb->target_bytes >> 10) * wb->slots_per_mib >> 10;

	return PC_MAX(PC_MIN(by_yield, 4 * wb->last_slots), (uint64_t)PC_WB_BATCH_ITEMS);
}

static bool walk_pays(struct pcache *cache, uint64_t from)
{
	return cache->media->granularity != PC_GRAN_PAGE && one_epoch_from(cache, from) &&
	       wanted_slots(cache->writeback) >= pc_index_extent_nr(cache->index) / 16;
}

/*
 * A kset border some slots from from. 0 or PCACHE_E_CORRUPT. Only headers are looked at, so a damaged length may lead astray: what is returned is the start of a kset, or the limit, for
 * behind the limit the dirty tail would pass what is yet to be written.
 */
static int find_border(struct pcache *cache, uint64_t from, uint64_t limit, uint64_t *out_end)
{
	struct pc_log_reader *reader = &cache->writeback->reader;
	uint64_t pos = from, want_end = from + wanted_slots(cache->writeback);

	pc_log_reader_reset(reader);
	while (pos < limit) {
		uint32_t slot_nr = pc_log_reader_skip(reader, pos, limit);

		if (slot_nr == 0 || slot_nr > limit - pos)
			return damaged_log(cache, pos);
		if (pos >= want_end)
			break;
		pos += slot_nr;
	}
	*out_end = pos;
	return 0;
}

/* Gathers and issues the batch. *out_walked is false if the log must be read after all. */
static int walk_batch(struct pcache *cache, uint64_t from, uint64_t limit, uint64_t *out_end, bool *out_walked)
{
	struct walk walk = { .cache = cache, .from = from };
	struct pc_index_sweep sweep = { .ctx = &walk, .fn = gather_dirty, .between = issue_if_full };
	int rc = find_border(cache, from, limit, &walk.end);

	if (!rc)
		rc = pc_index_sweep(cache->index, &sweep);
	PC_YIELD(WB_SWEPT);
	*out_end = walk.end;
	*out_walked = PC_PLANTED(PC_PLANT_SWEEP_UNCHECKED) || one_epoch_from(cache, from);
	/* What cleaning must meet is found by another walk, not in the list of items. */
	cache->writeback->items_lost = true;
	return rc;
}

/* ---- after the backing has it ------------------------------------------------------------------------------------------ */

struct clean_ctx {
	struct pcache *cache;
	uint64_t pos;
};

static enum pc_walk make_clean(void *ctx, struct pc_extent *extent)
{
	const struct clean_ctx *clean = ctx;
	struct pcache *cache = clean->cache;

	if (extent->pos != clean->pos || !(extent->flags & PC_EXT_DIRTY))
		return PC_WALK_KEEP;
	if (!pc_wb_is_data(extent)) {
		/* The backing reads as zeroes by itself now. */
		atomic_fetch_sub_explicit(&cache->dirty_zero_blk, extent->len_blk, memory_order_relaxed);
		return PC_WALK_DROP;
	}
	extent->flags &= (uint8_t)~PC_EXT_DIRTY;
	pc_segmap_dirty(&cache->map, extent->seg_id, pc_index_shard_idx(cache->index, extent->vol_blk),
			-(int32_t)extent->len_blk);
	return PC_WALK_KEEP;
}

/* The parts of the batch that the index still shows. */
static void clean_items(struct pcache *cache)
{
	struct pc_writeback *wb = cache->writeback;

	for (uint32_t i = 0; i < wb->item_nr; i++) {
		const struct pc_extent *extent = &wb->items[i].extent;
		struct clean_ctx clean = { .cache = cache, .pos = extent->pos };
		uint64_t mask = pc_index_mask(cache->index, extent->vol_blk, extent->len_blk);

		pc_index_lock(cache->index, mask);
		pc_index_walk_range_locked(cache->index, extent->vol_blk, extent->len_blk, make_clean, &clean);
		pc_index_unlock(cache->index, mask);
	}
}

static enum pc_walk make_batch_clean(void *ctx, struct pc_extent *extent)
{
	struct walk *walk = ctx;
	struct clean_ctx clean = { .cache = walk->cache, .pos = extent->pos };

	return in_batch(walk, extent) ? make_clean(&clean, extent) : PC_WALK_KEEP;
}

/* The same by a walk over the index, when the items do not name them all. */
static void clean_range(struct pcache *cache, uint64_t from, uint64_t end)
{
	struct walk walk = { .cache = cache, .from = from, .end = end };
	struct pc_index_sweep sweep = { .ctx = &walk, .fn = make_batch_clean };

	(void)pc_index_sweep(cache->index, &sweep);
}

static int store_dirty_tail(struct pcache *cache, uint64_t dirty_tail_pos, uint64_t durable_pos)
{
	struct pc_layout *layout = &cache->layout;
	struct pc_tail tail;
	int rc;

	pc_mutex_lock(&layout->lock);
	tail = layout->tail;
	tail.dirty_tail_pos = dirty_tail_pos;
	tail.mark_pos = PC_MAX(tail.mark_pos, durable_pos);
	rc = pc_layout_store_tail_locked(layout, &tail);
	pc_mutex_unlock(&layout->lock);
	return rc ? pc_core_failstop(cache, rc) : 0;
}

/* ---- the step -------------------------------------------------------------------------------------------------------------- */

/* Issues everything that must be on the backing for the dirty tail to move to *out_end. */
static int write_batch(struct pcache *cache, uint64_t from, uint64_t limit, uint64_t *out_end)
{
	bool walked = false;
	int rc = 0;

	if (walk_pays(cache, from)) {
		rc = walk_batch(cache, from, limit, out_end, &walked);
		if (!rc)
			rc = pc_wb_issue(cache);
		limit = *out_end;
		if (!walked) {
			drop_items(cache);
			cache->writeback->batch_bytes = 0;
		}
	}
	if (rc || walked)
		return rc;
	rc = collect(cache, from, limit, out_end);
	return rc ? rc : pc_wb_issue(cache);
}

/* Learns how much log a batch should take. Not by the clock where the caller runs the steps: his are the same every time. */
static void learn_pace(struct pcache *cache, uint64_t slot_nr, uint64_t elapsed_ns)
{
	struct pc_writeback *wb = cache->writeback;

	wb->last_slots = slot_nr;
	wb->slots_per_mib = (slot_nr << 20) / PC_MAX(wb->batch_bytes, UINT64_C(4096));
	if (!cache->caller_maintains && wb->batch_bytes >= PC_CHUNK_BYTES)
		wb->target_bytes =
			PC_MIN(PC_MAX(wb->batch_bytes * (PACE_NS >> 10) / PC_MAX(elapsed_ns >> 10, UINT64_C(1)),
				      BATCH_BYTES_MIN),
			       BATCH_BYTES_MAX);
}

/* One batch from from. 1: the dirty tail has moved. */
static int run_batch(struct pcache *cache, uint64_t from, uint64_t limit)
{
	struct pc_writeback *wb = cache->writeback;
	uint64_t end = from, start_ns = pc_monotonic_ns();
	int rc;

	wb->item_nr = 0;
	wb->batch_bytes = 0;
	wb->issued = false;
	wb->items_lost = false;
	wb->limit_pos = limit;
	PC_YIELD(WB_LIMIT);
	rc = write_batch(cache, from, limit, &end);
	PC_YIELD(WB_ISSUED);
	if (!rc && wb->issued) {
		atomic_fetch_add_explicit(&cache->stats.backing_flushes, 1, memory_order_relaxed);
		/* Order: the backing has everything of the batch before the tail record says so. A failed flush fails the batch: it is written again. */
		rc = pc_wb_backing_result(cache, pc_backing_flush(cache->backing));
	}
	if (!rc && wb->lost_nr) {
		/* Order: page granularity: the poison before the tail record that makes what lies below clean. */
		rc = pc_core_sync(cache);
	}
	PC_YIELD(WB_FLUSHED);
	if (!rc)
		rc = store_dirty_tail(cache, end, limit);
	if (!rc && PC_PLANTED(PC_PLANT_SETTLED_EARLY))
		atomic_store(&cache->log.settled_pos, end);
	PC_YIELD(WB_TAIL);
	if (!rc && !wb->items_lost)
		clean_items(cache);
	drop_items(cache);
	if (!rc && wb->items_lost)
		clean_range(cache, from, end);
	if (rc)
		return rc;
	learn_pace(cache, end - from, pc_monotonic_ns() - start_ns);
	PC_YIELD(WB_CLEAN);
	/* Only now may cleaning touch the keys below: it takes what it meets for clean. */
	atomic_store_explicit(&cache->log.settled_pos, end, memory_order_release);
	atomic_store_explicit(&cache->map.maybe_empty, true, memory_order_release);
	return 1;
}

/* What one step met, for messages: those are given outside of every lock. */
struct news {
	struct pc_extent lost;
	uint32_t lost_nr;
	uint32_t quarantined_id;
	uint64_t unreadable_pos;
};

static struct news take_news(struct pc_writeback *wb)
{
	struct news news = { .lost = wb->lost,
			     .lost_nr = wb->lost_nr,
			     .quarantined_id = wb->quarantined_id,
			     .unreadable_pos = wb->unreadable_pos };

	wb->lost_nr = 0;
	wb->quarantined_id = PC_SEG_NONE;
	wb->unreadable_pos = PC_POS_IDLE;
	return news;
}

static void tell_news(struct pcache *cache, const struct news *news)
{
	if (news->quarantined_id != PC_SEG_NONE)
		pc_core_tell_quarantine(cache, news->quarantined_id);
	if (news->unreadable_pos != PC_POS_IDLE)
		pc_msg(&cache->msg, PCACHE_LOG_ERROR,
		       "write-back cannot read the log at position %llu; dirty data stays in the cache, and is "
		       "readable "
		       "as long as the cache stays open: copy it",
		       (unsigned long long)news->unreadable_pos);
	if (news->lost_nr)
		pc_msg(&cache->msg, PCACHE_LOG_ERROR,
		       "data is damaged in the cache in %u places, one of %llu bytes at offset %llu; overwrite them to "
		       "cure them",
		       news->lost_nr, (unsigned long long)pc_wb_bytes(cache, news->lost.len_blk),
		       (unsigned long long)pc_wb_bytes(cache, news->lost.vol_blk));
}

int pc_writeback_step(struct pcache *cache)
{
	struct pc_log *log = &cache->log;
	struct news news;
	uint64_t from, limit;
	int rc = 0;

	if (atomic_load_explicit(&cache->failstop, memory_order_acquire))
		return PCACHE_E_FAILSTOP;
	pc_mutex_lock(&cache->writeback->lock);
	from = pc_layout_tail(&cache->layout).dirty_tail_pos;
	limit = pc_log_durable_pos(log);
	if (PC_PLANTED(PC_PLANT_WB_PAST_INFLIGHT))
		limit = atomic_load(&log->head);
	if (from >= limit && atomic_load_explicit(&log->head, memory_order_acquire) > limit) {
		/* Page granularity: what is not durable in the cache must not go to the backing. */
		rc = pc_core_sync(cache);
		limit = pc_log_durable_pos(log);
	}
	if (!rc && from < limit)
		rc = run_batch(cache, from, limit);
	news = take_news(cache->writeback);
	pc_mutex_unlock(&cache->writeback->lock);
	tell_news(cache, &news);
	atomic_store_explicit(&cache->degraded, rc < 0, memory_order_relaxed);
	if (rc > 0)
		pc_space_progress(cache);
	return rc;
}

uint64_t pc_service_dirty_bytes(struct pcache *cache)
{
	uint64_t blk_nr = atomic_load_explicit(&cache->dirty_zero_blk, memory_order_relaxed);

	for (uint32_t id = 0; id < cache->map.segment_nr; id++)
		blk_nr += pc_segmap_dirty_blk(&cache->map, id);
	return pc_wb_bytes(cache, blk_nr);
}

int pc_service_drain(struct pcache *cache, pcache_progress_fn progress, void *user)
{
	uint64_t target = atomic_load(&cache->log.head), total = pc_service_dirty_bytes(cache);
	int rc = 0;

	pc_core_drain_mark(cache, target);
	while (pc_layout_tail(&cache->layout).dirty_tail_pos < target) {
		rc = pc_writeback_step(cache);
		if (rc < 0)
			return rc;
		if (rc == 0) {
			/* A writer is between its position and its fence; it takes no lock there. */
			pc_spin_wait(PC_YIELD_WB_DRAIN);
			continue;
		}
		if (progress) {
			uint64_t left = PC_MIN(pc_service_dirty_bytes(cache), total);

			if (progress(user, total - left, total))
				return -ECANCELED;
		}
	}
	return 0;
}
