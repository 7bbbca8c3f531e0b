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
 * write of a later epoch to the same blocks reaches the backing before the tail record of the earlier one is durable: a second write-back after a crash would take the
 * backing back in time. Epochs that have no block in common share a batch, with a flush of the backing after each (wb_group.c). A failed flush fails its epoch; its writes are done again.
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
#include "base/probe.h"
#include "base/sched.h"
#include "pcache/errors.h"
#include "service/internal.h"

#define BATCH_BYTES_MIN (UINT64_C(1) << 20)
#define BATCH_BYTES_MAX (UINT64_C(64) << 20)

static void drop_items_from(struct pcache *cache, uint32_t first)
{
	struct pc_writeback *wb = cache->writeback;

	for (uint32_t i = first; i < wb->item_nr; i++)
		if (pc_wb_is_data(&wb->items[i].extent))
			pc_seg_unpin(&cache->map.segs[wb->items[i].extent.seg_id]);
	wb->item_nr = first;
	wb->epoch_first = first;
}

void pc_wb_drop_items(struct pcache *cache)
{
	drop_items_from(cache, 0);
}

/* The items are on the backing, but not flushed. */
static int issue_all(struct pcache *cache)
{
	int rc = pc_wb_issue(cache), settled_rc = pc_wb_settle(cache);

	return rc ? rc : settled_rc;
}

/* The list is full in the middle of a kset: what comes may be a newer version of what is in it. */
static int issue_and_drop(struct pcache *cache)
{
	int rc = issue_all(cache);

	pc_wb_drop_items(cache);
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

/* After a sweep: whether what the index shows where version was needs no look at version. found is of the same batch, and the sweep has written it, unless it is hidden itself by now. */
static bool sweep_has_seen(struct pcache *cache, const struct pc_extent *version, const struct pc_extent *found)
{
	uint64_t swept_end = cache->writeback->swept_end;

	if (!swept_end)
		return false;
	/* Poison: the sweep has met the version, and it is lost. */
	return (found->pos >= version->pos && found->pos < swept_end) ||
	       (found->flags & PC_EXT_TYPE_MASK) == PC_EXT_POISON;
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
			} else if (sweep_has_seen(cache, version, &found[i])) {
				/* It is on the backing, or its own turn comes, too. */
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
	pc_wb_group_add(&cache->writeback->group, key->vol_blk, key->vol_blk + key->len_blk);
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

static bool epoch_has_work(const struct pc_writeback *wb)
{
	return wb->item_nr != wb->epoch_first || wb->issued;
}

/* The log cannot be read at pos, or has something else there: it is never skipped. Its segment is not used again. */
int pc_wb_damaged_log(struct pcache *cache, uint64_t pos)
{
	struct pc_writeback *wb = cache->writeback;
	uint32_t seg_id = pc_log_seg(&cache->log, pos)->seg_id;

	atomic_fetch_add_explicit(&cache->stats.media_errors, 1, memory_order_relaxed);
	if (pc_segmap_quarantine(&cache->map, seg_id))
		wb->quarantined_id = seg_id;
	wb->unreadable_pos = pos;
	return PCACHE_E_CORRUPT;
}

static uint64_t batch_goal_bytes(const struct pc_writeback *wb)
{
	return PC_MIN(wb->target_bytes, wb->batch_max_bytes);
}

/* Reads ksets from from on, until the epoch or the batch is complete. *out_end: the dirty tail after it. */
static int collect(struct pcache *cache, uint64_t from, uint64_t limit, uint64_t *out_end)
{
	struct pc_writeback *wb = cache->writeback;
	uint64_t pos = from, open_epoch_pos = atomic_load_explicit(&cache->open_epoch_pos, memory_order_relaxed);
	int rc = 0;

	wb->epoch_ended = false;
	while (pos < limit && wb->batch_bytes < batch_goal_bytes(wb) && wb->item_nr < PC_WB_BATCH_ITEMS && !rc) {
		struct pc_kset kset;
		const void *buf;

		wb->epoch_ended = cache->strict && pos >= open_epoch_pos && from < open_epoch_pos && epoch_has_work(wb);
		if (wb->epoch_ended)
			break;
		if (pc_log_reader_at(&wb->reader, pos, limit, &kset, &buf) != PC_VALID)
			return pc_wb_damaged_log(cache, pos);
		if (kset.type == PC_KSET_KEYS)
			rc = collect_kset(cache, buf, &kset);
		pos += kset.slot_nr;
		/* An epoch ends here; nothing of the next may be written before the backing has flushed. */
		wb->epoch_ended = kset.type == PC_KSET_MARK && (kset.flags & PC_KSET_FLAG_FLUSH) && cache->strict &&
				  epoch_has_work(wb);
		if (wb->epoch_ended)
			break;
	}
	*out_end = pos;
	return rc;
}

/* ---- after the backing has it ------------------------------------------------------------------------------------------ */

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

/* What a sweep could not see: the log is read as well, and gives what is hidden. */
static int write_hidden(struct pcache *cache, const struct pc_wb_sweep *sweep, uint64_t from)
{
	struct pc_writeback *wb = cache->writeback;
	uint64_t target_bytes = wb->target_bytes, pos = from;
	int rc = 0;

	wb->swept_end = sweep->end;
	wb->target_bytes = UINT64_MAX; /* what was swept is complete with this */
	pc_log_reader_reset(&wb->reader);
	while (!rc && pos < sweep->end) {
		rc = collect(cache, pos, sweep->end, &pos);
		if (!rc)
			rc = issue_all(cache);
		pc_wb_drop_items(cache);
	}
	wb->target_bytes = target_bytes;
	wb->swept_end = 0;
	return rc;
}

static int flush_backing(struct pcache *cache)
{
	struct pc_writeback *wb = cache->writeback;
	int rc;

	if (!wb->issued)
		return 0;
	atomic_fetch_add_explicit(&cache->stats.backing_flushes, 1, memory_order_relaxed);
	/* Order: the backing has everything of the epoch before the tail record says so, and before anything of the next. A failed flush fails the epoch: it is written again. */
	rc = pc_wb_backing_result(cache, pc_backing_flush(cache->backing));
	wb->issued = rc != 0;
	PC_PROBE1(backing_flush, rc);
	return rc;
}

/* One epoch from *pos on, or what a batch takes of it: on the backing, and flushed. *pos: the end of it. Else it is as if it had not been begun. */
static int write_epoch(struct pcache *cache, uint64_t *pos, uint64_t limit)
{
	struct pc_writeback *wb = cache->writeback;
	uint64_t end, bytes_before = wb->batch_bytes;
	int rc;

	wb->epoch_first = wb->item_nr;
	rc = collect(cache, *pos, limit, &end);
	if (!rc)
		rc = issue_all(cache);
	PC_YIELD(WB_ISSUED);
	if (!rc)
		rc = flush_backing(cache);
	if (!rc) {
		*pos = end;
		return 0;
	}
	drop_items_from(cache, wb->epoch_first);
	wb->batch_bytes = bytes_before;
	wb->issued = false;
	return rc;
}

/* Whether the epoch at pos may share the tail record of the epoch_nr before it. The time is that of a batch, but not where the caller runs the steps: his are the same every time. */
static bool group_goes_on(struct pcache *cache, uint64_t pos, uint64_t limit, uint32_t epoch_nr, uint64_t start_ns)
{
	const struct pc_writeback *wb = cache->writeback;

	if (!wb->group.apart || !wb->epoch_ended || pos >= limit || wb->items_lost || wb->lost_nr)
		return false;
	if (wb->batch_bytes >= batch_goal_bytes(wb) || wb->item_nr >= PC_WB_BATCH_ITEMS)
		return false;
	if (cache->caller_maintains)
		return epoch_nr < PC_WB_GROUP_EPOCHS;
	return pc_monotonic_ns() - start_ns < PC_WB_PACE_NS;
}

/* Epochs from from on that may share a tail record. An error is that of the first: nothing is done. Of a later one it is late_error. */
static int write_epochs(struct pcache *cache, uint64_t from, uint64_t limit, uint64_t *out_end)
{
	struct pc_writeback *wb = cache->writeback;
	uint64_t start_ns = pc_monotonic_ns();
	uint32_t epoch_nr = 1;
	int rc;

	*out_end = from;
	pc_wb_group_begin(&wb->group, cache->strict);
	pc_log_reader_reset(&wb->reader);
	rc = write_epoch(cache, out_end, limit);
	while (!rc && !wb->late_error && group_goes_on(cache, *out_end, limit, epoch_nr++, start_ns))
		wb->late_error = write_epoch(cache, out_end, limit);
	wb->group.apart = false;
	return rc;
}

/* *out_end: of the batch, once *out_complete. */
static int sweep_batch(struct pcache *cache, struct pc_wb_sweep *sweep, uint64_t from, uint64_t limit,
		       uint64_t *out_end, bool *out_complete)
{
	struct pc_writeback *wb = cache->writeback;
	bool is_pass = sweep == &wb->pass;
	int rc = 0;

	if (!sweep->active)
		rc = pc_wb_sweep_begin(cache, sweep, from, limit, is_pass);
	if (!rc)
		rc = pc_wb_sweep_run(cache, sweep, is_pass);
	*out_complete = !rc && sweep->done;
	wb->is_swept = *out_complete;
	if (*out_complete && pc_wb_sweep_hides(cache, sweep) && !PC_PLANTED(PC_PLANT_SWEEP_UNCHECKED))
		rc = write_hidden(cache, sweep, from);
	*out_end = sweep->end;
	wb->issued |= sweep->issued;
	/* After an error all of it is written again: a flush that failed counts for everything before it. */
	sweep->active = !rc && !sweep->done;
	return rc;
}

/* Issues what must be on the backing for the dirty tail to move to *out_end, or (not *out_complete) a part of it. */
static int write_batch(struct pcache *cache, uint64_t from, uint64_t limit, uint64_t *out_end, bool *out_complete)
{
	struct pc_writeback *wb = cache->writeback;
	struct pc_wb_sweep own = { 0 };
	bool is_pass = pc_wb_pass_pays(cache, from, limit);
	int rc;

	if (is_pass && !wb->pass.active) {
		rc = pc_wb_sweep_begin(cache, &wb->pass, from, limit, true);
		if (rc)
			return rc;
		/* With strict it ends with its epoch: a short one is read from the log sooner than looked for in the whole index. */
		is_pass = !cache->strict || pc_wb_pass_pays(cache, from, wb->pass.end);
	}
	if (is_pass)
		return sweep_batch(cache, &wb->pass, from, limit, out_end, out_complete);
	/* Another batch may bring older versions over what the pass has written. */
	wb->pass.active = false;
	/* A sweep writes all of many positions at once. */
	if (wb->batch_max_bytes == UINT64_MAX && pc_wb_sweep_pays(cache, from))
		return sweep_batch(cache, &own, from, limit, out_end, out_complete);
	*out_complete = true;
	return write_epochs(cache, from, limit, out_end);
}

/* Learns how much log a batch should take (not from a pass: slot_nr is 0). Not by the clock where the caller runs the steps: his are the same every time. */
static void learn_pace(struct pcache *cache, uint64_t slot_nr, uint64_t elapsed_ns)
{
	struct pc_writeback *wb = cache->writeback;

	if (slot_nr) {
		wb->last_slots = slot_nr;
		wb->slots_per_mib = (slot_nr << 20) / PC_MAX(wb->batch_bytes, UINT64_C(4096));
	}
	if (!cache->caller_maintains && wb->batch_bytes >= PC_CHUNK_BYTES)
		wb->target_bytes =
			PC_MIN(PC_MAX(wb->batch_bytes * (PC_WB_PACE_NS >> 10) / PC_MAX(elapsed_ns >> 10, UINT64_C(1)),
				      BATCH_BYTES_MIN),
			       BATCH_BYTES_MAX);
	atomic_store_explicit(&wb->known_target_bytes, wb->target_bytes, memory_order_relaxed);
}

/* One batch from from, or a part of a pass. 1: the dirty tail has moved, or will. */
static int run_batch(struct pcache *cache, uint64_t from, uint64_t limit)
{
	struct pc_writeback *wb = cache->writeback;
	uint64_t end = from, start_ns = pc_monotonic_ns();
	bool complete = false, was_pass;
	int rc;

	wb->item_nr = 0;
	wb->batch_bytes = 0;
	wb->issued = false;
	wb->items_lost = false;
	wb->is_swept = false;
	wb->limit_pos = limit;
	pc_wb_choose_room(cache, from, limit);
	PC_YIELD(WB_LIMIT);
	rc = write_batch(cache, from, limit, &end, &complete);
	was_pass = wb->pass.from == from && wb->pass.end == end;
	PC_YIELD(WB_ISSUED);
	if (!rc && !complete) {
		wb->pass.bytes += wb->batch_bytes;
		atomic_store_explicit(&wb->pass_bytes, wb->pass.bytes, memory_order_relaxed);
		learn_pace(cache, 0, pc_monotonic_ns() - start_ns);
		return 1;
	}
	atomic_store_explicit(&wb->pass_bytes, 0, memory_order_relaxed);
	if (!rc)
		rc = flush_backing(cache);
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
	if (!rc)
		pc_wb_clean(cache, from, end);
	pc_wb_drop_items(cache);
	if (rc)
		return rc;
	learn_pace(cache, was_pass ? 0 : end - from, pc_monotonic_ns() - start_ns);
	PC_YIELD(WB_CLEAN);
	/* Only now may cleaning touch the keys below: it takes what it meets for clean. */
	atomic_store_explicit(&cache->log.settled_pos, end, memory_order_release);
	atomic_store_explicit(&cache->map.maybe_empty, true, memory_order_release);
	return wb->late_error ? wb->late_error : 1;
}

/*
 * As run_batch. Without a slot for what is damaged, and without a segment for more, the batch ends before it: what becomes clean by that can be evicted, and that makes room.
 */
static int run_batch_or_less(struct pcache *cache, uint64_t from, uint64_t limit)
{
	struct pc_writeback *wb = cache->writeback;
	int rc = run_batch(cache, from, limit);

	while (rc == PCACHE_E_FULL && !wb->late_error && wb->no_slot_pos > from)
		rc = run_batch(cache, from, wb->no_slot_pos);
	/* The dirty tail has moved; the next step begins where there was no slot. */
	return rc == PCACHE_E_FULL && wb->late_error ? 1 : rc;
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

static void tell_news(struct pcache *cache, const struct news *news, int rc)
{
	if (atomic_exchange_explicit(&cache->degraded, rc < 0, memory_order_relaxed) != (rc < 0)) {
		PC_PROBE1(degraded, rc < 0 ? rc : 0);
		pc_event(&cache->msg,
			 (struct pcache_event){ .kind = rc < 0 ? PCACHE_EVENT_DEGRADED : PCACHE_EVENT_RECOVERED,
						.err = rc < 0 ? rc : 0 });
	}
	if (news->quarantined_id != PC_SEG_NONE)
		pc_core_tell_quarantine(cache, news->quarantined_id);
	if (news->unreadable_pos != PC_POS_IDLE)
		pc_msg(&cache->msg, PCACHE_LOG_ERROR,
		       "write-back cannot read the log at position %llu; dirty data stays in the cache, and is "
		       "readable "
		       "as long as the cache stays open: copy it",
		       (unsigned long long)news->unreadable_pos);
	if (!news->lost_nr)
		return;
	pc_msg(&cache->msg, PCACHE_LOG_ERROR,
	       "data is damaged in the cache in %u places, one of %llu bytes at offset %llu; overwrite them to "
	       "cure them",
	       news->lost_nr, (unsigned long long)pc_wb_bytes(cache, news->lost.len_blk),
	       (unsigned long long)pc_wb_bytes(cache, news->lost.vol_blk));
	pc_event(&cache->msg, (struct pcache_event){ .kind = PCACHE_EVENT_POISON,
						     .off = pc_wb_bytes(cache, news->lost.vol_blk),
						     .len = pc_wb_bytes(cache, news->lost.len_blk),
						     .value = news->lost_nr });
}

int pc_writeback_step_of(struct pcache *cache, uint64_t max_bytes, uint64_t *out_bytes)
{
	struct pc_log *log = &cache->log;
	struct news news;
	uint64_t from, limit;
	bool moved;
	int rc = 0;

	if (atomic_load_explicit(&cache->failstop, memory_order_acquire))
		return PCACHE_E_FAILSTOP;
	pc_mutex_lock(&cache->writeback->lock);
	cache->writeback->late_error = 0;
	cache->writeback->batch_max_bytes = max_bytes;
	cache->writeback->batch_bytes = 0;
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
		rc = run_batch_or_less(cache, from, limit);
	news = take_news(cache->writeback);
	moved = rc > 0 || cache->writeback->late_error;
	*out_bytes = cache->writeback->batch_bytes;
	pc_mutex_unlock(&cache->writeback->lock);
	PC_PROBE2(writeback, pc_layout_tail(&cache->layout).dirty_tail_pos, rc);
	tell_news(cache, &news, rc);
	if (moved)
		pc_space_progress(cache);
	if (pc_limit_is_on(cache))
		pc_limit_count(cache);
	if (rc == PCACHE_E_FULL)
		pc_signal_work(cache, PC_WORK_SPACE);
	return rc;
}

int pc_writeback_step(struct pcache *cache)
{
	uint64_t bytes;

	return pc_writeback_step_of(cache, UINT64_MAX, &bytes);
}

uint64_t pc_writeback_needs_ns(struct pcache *cache, uint64_t bytes)
{
	uint64_t batch_bytes = atomic_load_explicit(&cache->writeback->known_target_bytes, memory_order_relaxed);

	return (bytes >> 10) * (PC_WB_PACE_NS / PC_MAX(batch_bytes >> 10, UINT64_C(1)));
}

uint64_t pc_service_dirty_bytes(struct pcache *cache)
{
	uint64_t blk_nr = atomic_load_explicit(&cache->dirty_zero_blk, memory_order_relaxed);

	for (uint32_t id = 0; id < cache->map.segment_nr; id++)
		blk_nr += pc_segmap_dirty_blk(&cache->map, id);
	return pc_wb_bytes(cache, blk_nr);
}

/* Write-back wants a slot of the log: whether eviction or log cleaning has done anything for that. */
static bool make_room(struct pcache *cache)
{
	return pc_evict_step(cache, false) > 0 || pc_clean_step(cache, true) > 0;
}

int pc_service_drain_to(struct pcache *cache, uint64_t target, pcache_progress_fn progress, void *user)
{
	uint64_t total = progress ? pc_service_dirty_bytes(cache) : 0;
	int rc = 0;

	while (pc_layout_tail(&cache->layout).dirty_tail_pos < target) {
		rc = pc_writeback_step(cache);
		if (rc == PCACHE_E_FULL && make_room(cache))
			continue;
		if (rc < 0)
			return rc;
		if (rc == 0) {
			/* A writer is between its position and its fence; it takes no lock there. */
			pc_spin_wait(PC_YIELD_WB_DRAIN);
			continue;
		}
		if (progress) {
			uint64_t left = PC_MIN(pc_service_dirty_bytes(cache), total);
			uint64_t pass = atomic_load_explicit(&cache->writeback->pass_bytes, memory_order_relaxed);

			if (progress(user, total - left + PC_MIN(pass, left), total))
				return -ECANCELED;
		}
	}
	/* Who has stored the tail record is still making clean what lies below it. */
	pc_mutex_lock(&cache->writeback->lock);
	pc_mutex_unlock(&cache->writeback->lock);
	return 0;
}

static int drain_flushed(struct pcache *cache, pcache_progress_fn progress, void *user)
{
	uint64_t target = atomic_load(&cache->log.head);

	if (PC_PLANTED(PC_PLANT_DRAIN_MARK_LATE))
		atomic_store(&cache->drain_pos, target);
	return pc_service_drain_to(cache, target, progress, user);
}

int pc_service_drain(struct pcache *cache, pcache_progress_fn progress, void *user)
{
	int rc;

	pc_core_drain_begin(cache);
	/*
	 * Before the flush: what lies below is below its mark too, so an overwrite behind the mark holds it. A version between mark and the head of later would count as one whose turn comes,
	 * and nothing would hold it until then.
	 */
	pc_core_drain_mark(cache, atomic_load(&cache->log.head));
	/* A flush first: at page granularity nothing goes to the backing that is not durable in the cache. */
	rc = pc_core_flush(cache);
	if (!rc)
		rc = drain_flushed(cache, progress, user);
	pc_core_drain_end(cache);
	return rc;
}
