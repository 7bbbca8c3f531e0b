/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Write-back, sweeps: what a batch must write is found by a walk over the index, in order of offset.
 *
 *     positions    | from ........ end |            what lies here and is dirty in the index goes to the backing
 *     volume       block 0 ->->->->->->-> end       in this order, so neighbours become one request whenever they were written
 *
 * Within one epoch (or with ordering batch) only what the index still shows must be written, and most of what the log holds may be overwritten already. Then a walk costs less than a
 * look-up of every key. It needs every overwrite to be durable when it shows, which page granularity does not give, and all positions in one epoch. An overwrite of a later epoch
 * that comes meanwhile hides a version that must be written; such a version is held, and whoever holds one says so (hidden_pos). Then the log is read as well, for what is hidden
 * alone.
 *
 * A drain sweeps all that is dirty at once, however much it is: a pass. It takes many steps, and between them others may have their turn; the dirty tail moves when the pass
 * is complete. Who waits for room is not kept waiting by it: a pass is given up for a small batch from the log.
 *
 * The walk goes through the volume stripe by stripe, a few extents in one hold of a shard's lock.
 */
#include <string.h>

#include "base/sched.h"
#include "pcache/errors.h"
#include "service/internal.h"

#define FOUND_MAX 32u /* taken in one hold of a lock */
#define PASS_BYTES_MAX (UINT64_C(4) << 30) /* what a crash, or an end of the program, can make a drain write again */
#define PASS_TARGETS 512u /* a pass is no longer than so many batches: about ten seconds */

/* ---- which positions ------------------------------------------------------------------------------------------------ */

/* No flush mark at or behind from, now: all positions from there on are of one epoch. */
static bool one_epoch_from(struct pcache *cache, uint64_t from)
{
	return atomic_load_explicit(&cache->log.epoch_pos, memory_order_seq_cst) < from &&
	       atomic_load_explicit(&cache->open_epoch_pos, memory_order_relaxed) <= from;
}

/* How many slots a batch should span for the backing to be busy as long as it should; never much more than the last, whose yield is all that is known. */
static uint64_t wanted_slots(const struct pc_writeback *wb)
{
	uint64_t by_yield = (wb->target_bytes >> 10) * wb->slots_per_mib >> 10;

	return PC_MAX(PC_MIN(PC_MIN(by_yield, 4 * wb->last_slots), wb->span_slots), (uint64_t)PC_WB_BATCH_ITEMS);
}

/* How many a pass should span. */
static uint64_t pass_slots(struct pcache *cache, uint64_t all_slots)
{
	uint64_t dirty_mib = (pc_service_dirty_bytes(cache) >> 20) + 1;
	uint64_t pass_mib = PC_MIN(cache->writeback->target_bytes * PASS_TARGETS, PASS_BYTES_MAX) >> 20;

	return pass_mib >= dirty_mib ? all_slots : all_slots / dirty_mib * pass_mib + PC_WB_BATCH_ITEMS;
}

/*
 * A kset border want_slots from from, or the limit. 0 or PCACHE_E_CORRUPT. Only headers are looked at, so a damaged length may lead astray: what is returned is the start of a kset,
 * or the limit, for behind the limit the dirty tail would pass what is yet to be written.
 */
static int find_border(struct pcache *cache, uint64_t from, uint64_t limit, uint64_t want_slots, uint64_t *out_end)
{
	struct pc_log_reader *reader = &cache->writeback->reader;
	uint64_t pos = from;

	pc_log_reader_reset(reader);
	while (pos < limit) {
		uint32_t slot_nr = pc_log_reader_skip(reader, pos, limit);

		if (slot_nr == 0 || slot_nr > limit - pos)
			return pc_wb_damaged_log(cache, pos);
		if (pos - from >= want_slots)
			break;
		pos += slot_nr;
	}
	*out_end = pos;
	return 0;
}

/* The same, and no further than the epoch of from. Here a header counts only if it is whole: it may be the mark. What is before a damaged one can still be written. */
static int find_epoch_border(struct pcache *cache, uint64_t from, uint64_t limit, uint64_t want_slots,
			     uint64_t *out_end)
{
	struct pc_log_reader *reader = &cache->writeback->reader;
	uint64_t pos = from, open_epoch_pos = atomic_load_explicit(&cache->open_epoch_pos, memory_order_relaxed);
	bool ended = false;

	if (from < open_epoch_pos)
		limit = PC_MIN(limit, open_epoch_pos);
	pc_log_reader_reset(reader);
	while (!ended && pos < limit && pos - from < want_slots) {
		struct pc_kset kset;
		const void *buf;

		if (pc_log_reader_at(reader, pos, limit, &kset, &buf) != PC_VALID) {
			if (pos == from)
				return pc_wb_damaged_log(cache, pos);
			break;
		}
		pos += kset.slot_nr;
		ended = kset.type == PC_KSET_MARK && (kset.flags & PC_KSET_FLAG_FLUSH);
	}
	*out_end = pos;
	return 0;
}

/* ---- whether ------------------------------------------------------------------------------------------------------------ */

/* For room, or for his turn to write. */
static bool somebody_waits(struct pcache *cache)
{
	return atomic_load_explicit(&cache->space.waiting_nr, memory_order_relaxed) != 0 ||
	       atomic_load_explicit(&cache->admit.waiter_nr, memory_order_relaxed) != 0;
}

#define EXTENTS_PER_SLOT_MAX 8u /* a chunk of a long write has an eighth of a slot */

/*
 * Extents of a slot that is not written back yet, about: as if all data in use were of such. Where most of it is clean this is too many, and a sweep is made of fewer keys; even then it costs about what looking
 * them up would.
 */
static uint64_t extents_per_slot(struct pcache *cache)
{
	struct pc_segmap *map = &cache->map;
	uint64_t free_nr = (uint64_t)pc_segmap_free_nr(map) + atomic_load_explicit(&map->log_nr, memory_order_relaxed);
	uint64_t used_nr = map->segment_nr - PC_MIN(free_nr, (uint64_t)map->segment_nr);
	uint64_t slot_nr = atomic_load_explicit(&cache->log.head, memory_order_relaxed) -
			   atomic_load_explicit(&cache->log.settled_pos, memory_order_relaxed);
	uint64_t extent_nr = used_nr * (map->segment_blk >> cache->chunk_shift) / PC_MAX(slot_nr, UINT64_C(1));

	return PC_MIN(PC_MAX(extent_nr, UINT64_C(1)), (uint64_t)EXTENTS_PER_SLOT_MAX);
}

bool pc_wb_sweep_pays(struct pcache *cache, uint64_t from)
{
	return cache->media->granularity != PC_GRAN_PAGE && (!cache->strict || one_epoch_from(cache, from)) &&
	       wanted_slots(cache->writeback) * extents_per_slot(cache) >= pc_index_extent_nr(cache->index) / 16;
}

bool pc_wb_pass_pays(struct pcache *cache, uint64_t from, uint64_t limit)
{
	return cache->media->granularity != PC_GRAN_PAGE && pc_core_draining(cache) && !somebody_waits(cache) &&
	       limit - from >= cache->pass_min_slots && limit - from >= pc_index_extent_nr(cache->index) / 16;
}

int pc_wb_sweep_begin(struct pcache *cache, struct pc_wb_sweep *sweep, uint64_t from, uint64_t limit, bool is_pass)
{
	uint64_t want_slots = is_pass ? pass_slots(cache, limit - from) : wanted_slots(cache->writeback);
	bool by_epoch = cache->strict && is_pass;
	int rc;

	memset(sweep, 0, sizeof(*sweep));
	sweep->from = from;
	cache->writeback->swept_nr = 0;
	cache->writeback->swept_lost = false;
	rc = by_epoch ? find_epoch_border(cache, from, limit, want_slots, &sweep->end)
		      : find_border(cache, from, limit, want_slots, &sweep->end);
	sweep->active = rc == 0;
	return rc;
}

bool pc_wb_sweep_hides(struct pcache *cache, const struct pc_wb_sweep *sweep)
{
	return atomic_load_explicit(&cache->hidden_pos, memory_order_relaxed) >= sweep->from;
}

/* ---- the walk ------------------------------------------------------------------------------------------------------------- */

/* Its segment is pinned. */
static void add_found(struct pcache *cache, const struct pc_extent *extent)
{
	struct pc_writeback *wb = cache->writeback;
	bool is_data = pc_wb_is_data(extent);

	wb->items[wb->item_nr++].extent = *extent;
	wb->batch_bytes += is_data ? pc_wb_bytes(cache, extent->len_blk) : PC_CHUNK_BYTES;
	if (!is_data || wb->swept_nr == PC_WB_SWEPT_MAX)
		wb->swept_lost = true;
	else
		wb->swept_blks[wb->swept_nr++] = extent->vol_blk;
}

/* The shard that goes on at the lowest offset. */
static uint32_t lowest_shard(const struct pc_wb_sweep *sweep, uint32_t shard_nr)
{
	uint32_t lowest = 0;

	for (uint32_t i = 1; i < shard_nr; i++)
		if (sweep->next_blk[i] < sweep->next_blk[lowest])
			lowest = i;
	return lowest;
}

/* The next stretch of the volume, within one stripe. False: there is none. */
static bool gather_stretch(struct pcache *cache, struct pc_wb_sweep *sweep)
{
	uint32_t shard_idx = lowest_shard(sweep, pc_index_shard_nr(cache->index));
	struct pc_index_scan scan = { .from_pos = sweep->from,
				      .end_pos = sweep->end,
				      .next_blk = sweep->next_blk[shard_idx] };
	struct pc_extent found[FOUND_MAX];
	uint32_t nr;

	if (scan.next_blk == UINT64_MAX)
		return false;
	scan.end_blk = pc_index_stripe_end(cache->index, scan.next_blk);
	pc_index_lock(cache->index, UINT64_C(1) << shard_idx);
	nr = pc_index_scan_locked(cache->index, shard_idx, &scan, found, FOUND_MAX);
	for (uint32_t i = 0; i < nr; i++)
		if (pc_wb_is_data(&found[i]))
			pc_seg_pin(&cache->map.segs[found[i].seg_id]);
	pc_index_unlock(cache->index, UINT64_C(1) << shard_idx);
	for (uint32_t i = 0; i < nr; i++)
		add_found(cache, &found[i]);
	sweep->next_blk[shard_idx] = scan.next_blk;
	return true;
}

/* A part of a pass has been long enough. Not by the clock where the caller runs the steps: his are the same every time. */
static bool part_is_done(struct pcache *cache, uint64_t start_ns)
{
	uint64_t fixed_bytes = cache->pass_part_bytes    ? cache->pass_part_bytes
			       : cache->caller_maintains ? PC_WB_BATCH_BYTES
							 : 0;

	if (fixed_bytes)
		return cache->writeback->batch_bytes >= fixed_bytes;
	return somebody_waits(cache) || pc_monotonic_ns() - start_ns >= PC_WB_PART_NS;
}

int pc_wb_sweep_run(struct pcache *cache, struct pc_wb_sweep *sweep, bool in_parts)
{
	struct pc_writeback *wb = cache->writeback;
	uint64_t start_ns = pc_monotonic_ns();
	uint32_t items_max = in_parts && cache->pass_part_bytes ? 1 : PC_WB_SWEEP_ITEMS - FOUND_MAX;
	int rc = 0, settled_rc;
	bool more = true;

	/* What cleaning must meet is in a list of its own, if it has room for it. */
	wb->items_lost = true;
	while (more && !rc && !(in_parts && part_is_done(cache, start_ns))) {
		while (more && wb->item_nr <= items_max)
			more = gather_stretch(cache, sweep);
		/* Items of one sweep never overlap, so nothing has to end before the next are issued. */
		rc = pc_wb_issue(cache);
		pc_wb_drop_items(cache);
	}
	settled_rc = pc_wb_settle(cache);
	PC_YIELD(WB_SWEPT);
	sweep->issued |= wb->issued;
	sweep->done = !more;
	return rc ? rc : settled_rc;
}
