/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Write-back, the writing: items go to the backing in their planned order, neighbours in one request, many requests at a time. Data is loaded and verified on the way; what is
 * damaged is lost, and nothing else: a POISON key takes the place of what the index still shows of it.
 *
 *     arena    | free | run in flight | run in flight | ... | run being gathered | free |       a ring; given back in order, oldest first
 *
 * What goes to the backing is what was verified: data is copied into the arena, its CRC is that of the copy, and the copy is written. While the backing writes, the next items are
 * loaded. Runs that are in flight together never overlap: where two items of a list do, each run ends before the next begins, and zeroes wait for everything.
 *
 * Runs under the lock of write-back; the segments of all items are pinned until their data was loaded.
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/sched.h"
#include "pcache/errors.h"
#include "service/internal.h"

#define PREFETCH_BYTES 1024u

int pc_wb_backing_result(struct pcache *cache, int rc)
{
	if (rc)
		atomic_fetch_add_explicit(&cache->stats.backing_errors, 1, memory_order_relaxed);
	return rc;
}

/* ---- runs ---------------------------------------------------------------------------------------------------------- */

/* A write has ended. Slots and arena come back in the order in which they were taken. */
static void take_end(struct pcache *cache, struct pcache_backing_io *io)
{
	struct pc_wb_out *out = &cache->writeback->out;
	struct pc_wb_slot *slot = (struct pc_wb_slot *)io;
	int rc = pc_wb_backing_result(cache, io->result);

	if (rc && !out->error)
		out->error = rc;
	if (!rc) {
		atomic_fetch_add_explicit(&cache->stats.writeback_bytes, io->len, memory_order_relaxed);
		pc_admit_grant(cache, io->len);
	}
	slot->ended = true;
	while (out->slot_first != out->slot_end && out->slots[out->slot_first % PC_WB_SLOT_NR].ended)
		out->arena_first = out->slots[out->slot_first++ % PC_WB_SLOT_NR].arena_end;
	/* Nothing in flight, nothing gathered: the same memory again, which the processor has in its caches. */
	if (out->slot_first == out->slot_end && !out->run_len)
		out->arena_first = out->arena_end = 0;
}

/* Takes what has ended; waits for one if wait. False: nothing is in flight. */
static bool take_ends(struct pcache *cache, bool wait)
{
	struct pc_wb_out *out = &cache->writeback->out;
	struct pcache_backing_io *io = pc_queue_fetch(&out->queue, wait);

	if (!io)
		return false;
	do
		take_end(cache, io);
	while ((io = pc_queue_fetch(&out->queue, false)) != NULL);
	return true;
}

/* The run that was gathered is started. */
static void end_run(struct pcache *cache)
{
	struct pc_writeback *wb = cache->writeback;
	struct pc_wb_out *out = &wb->out;
	struct pc_wb_slot *slot;

	if (!out->run_len)
		return;
	while (out->slot_end - out->slot_first == PC_WB_SLOT_NR)
		(void)take_ends(cache, true);
	slot = &out->slots[out->slot_end++ % PC_WB_SLOT_NR];
	slot->io.buf = out->arena + (out->arena_end - out->run_len) % out->arena_bytes;
	slot->io.off = pc_wb_bytes(cache, out->run_blk);
	slot->io.len = out->run_len;
	slot->arena_end = out->arena_end;
	slot->ended = false;
	out->run_len = 0;
	wb->issued = true;
	pc_queue_write(&out->queue, &slot->io);
	(void)take_ends(cache, false);
}

/* Everything that was issued has ended. The first error since the last call. */
int pc_wb_settle(struct pcache *cache)
{
	struct pc_wb_out *out = &cache->writeback->out;
	int rc;

	end_run(cache);
	while (take_ends(cache, true))
		;
	rc = out->error;
	out->error = 0;
	return rc;
}

_Static_assert((PC_WB_ARENA_MIN_BYTES & (PC_WB_ARENA_MIN_BYTES - 1)) == 0 && PC_WB_ARENA_MIN_BYTES % PC_PAGE_BYTES == 0,
	       "places in the arena are taken modulo its length, and its first is a page");
_Static_assert(PC_WB_RUN_BYTES + PC_CHUNK_BYTES <= PC_WB_ARENA_MIN_BYTES,
	       "there is room for an item beside the longest run, or where nothing is in flight");

/* Room for len bytes, of one chunk at most, at the end of the arena. A run is one piece of memory that begins at a page, for direct I/O. */
static void make_room(struct pcache *cache, uint64_t len)
{
	struct pc_wb_out *out = &cache->writeback->out;
	uint64_t at = out->run_len ? out->arena_end : PC_ROUND_UP(out->arena_end, (uint64_t)PC_PAGE_BYTES);

	if (at % out->arena_bytes + len > out->arena_bytes || (out->run_len && at % out->arena_bytes == 0)) {
		end_run(cache);
		at = PC_ROUND_UP(out->arena_end, out->arena_bytes);
	}
	while (at + len - out->arena_first > out->arena_bytes) {
		end_run(cache);
		(void)take_ends(cache, true);
		/* It may have begun anew. */
		at = out->slot_first == out->slot_end ? 0 : PC_ROUND_UP(at, (uint64_t)PC_PAGE_BYTES);
	}
	if (!out->run_len)
		out->arena_end = at;
}

/* Loads data behind what is gathered. What pc_core_load returns. */
static int load_into_run(struct pcache *cache, const struct pc_extent *extent)
{
	struct pc_wb_out *out = &cache->writeback->out;
	uint64_t len = pc_wb_bytes(cache, extent->len_blk);
	bool joins = out->run_len && out->run_blk + (out->run_len >> cache->block_shift) == extent->vol_blk &&
		     out->run_len + len <= out->run_max;
	int rc;

	if (!joins)
		end_run(cache);
	make_room(cache, len);
	rc = pc_core_load(cache, extent, out->arena + out->arena_end % out->arena_bytes);
	if (rc)
		return rc;
	if (!out->run_len)
		out->run_blk = extent->vol_blk;
	out->run_len += len;
	out->arena_end += len;
	return 0;
}

/* ---- items ---------------------------------------------------------------------------------------------------------- */

static int write_zero(struct pcache *cache, const struct pc_extent *extent)
{
	/* Not beside writes: it may go through the page cache of the backing, and they may not. */
	int rc = pc_wb_settle(cache);

	if (rc)
		return rc;
	cache->writeback->issued = true;
	return pc_wb_backing_result(cache, pc_backing_zero(cache->backing, pc_wb_bytes(cache, extent->vol_blk),
							   pc_wb_bytes(cache, extent->len_blk),
							   !(extent->flags & PC_EXT_DISCARD)));
}

/* The data of a dirty version is damaged: it must not reach the backing. Its blocks read as poisoned until they are overwritten. */
static int lose_item(struct pcache *cache, const struct pc_extent *extent, int load_rc)
{
	struct pc_writeback *wb = cache->writeback;
	int rc;

	if (pc_core_damage(cache, extent, load_rc))
		wb->quarantined_id = extent->seg_id;
	wb->lost = *extent;
	wb->lost_nr++;
	rc = pc_core_poison(cache, extent);
	if (rc == PCACHE_E_FULL)
		wb->no_slot_pos = extent->pos;
	return rc;
}

/* One item of data. What of it can be verified is gathered, the rest is lost: without CRCs that is told block by block. */
static int issue_data(struct pcache *cache, const struct pc_extent *extent)
{
	uint32_t part_blk = cache->data_crc ? extent->len_blk : 1;
	int rc = load_into_run(cache, extent);

	if (!rc)
		return 0;
	if (part_blk == extent->len_blk)
		return lose_item(cache, extent, rc);
	for (uint32_t at = 0; at < extent->len_blk; at += part_blk) {
		struct pc_extent part = pc_extent_part(extent, extent->vol_blk + at, part_blk);

		rc = load_into_run(cache, &part);
		if (rc)
			rc = lose_item(cache, &part, rc);
		if (rc)
			return rc;
	}
	return 0;
}

/* Asks for the first lines of what will be loaded next: neighbours on the backing are anywhere on the media. The processor sees by itself where a longer load goes. */
static void prefetch_item(struct pcache *cache, const struct pc_extent *extent)
{
	const uint8_t *from = cache->media->base + pc_geo_segment_off(&cache->layout.super, extent->seg_id) +
			      pc_wb_bytes(cache, extent->seg_blk);
	uint64_t bytes = PC_MIN(pc_wb_bytes(cache, extent->len_blk), (uint64_t)PREFETCH_BYTES);

	for (uint64_t at = 0; at < bytes; at += PC_CACHE_LINE_BYTES)
		__builtin_prefetch(from + at);
}

/* Starts the items in their planned order, neighbours in one request. */
int pc_wb_issue(struct pcache *cache)
{
	struct pc_writeback *wb = cache->writeback;
	bool apart;
	int rc = 0;

	PC_YIELD(WB_COLLECTED);
	apart = pc_wb_plan(wb->items + wb->epoch_first, wb->scratch, wb->item_nr - wb->epoch_first);
	for (uint32_t i = wb->epoch_first; i < wb->item_nr && !rc; i++) {
		const struct pc_extent *extent = &wb->items[i].extent;

		if (i + 1 < wb->item_nr && pc_wb_is_data(&wb->items[i + 1].extent))
			prefetch_item(cache, &wb->items[i + 1].extent);
		rc = pc_wb_is_data(extent) ? issue_data(cache, extent) : write_zero(cache, extent);
		/* Of two versions of a block the newer one must come second. */
		if (!rc && !apart)
			rc = pc_wb_settle(cache);
		if (!rc)
			rc = wb->out.error;
	}
	return rc;
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

/* One long request at a time needs little. */
static uint64_t arena_bytes(const struct pcache *cache)
{
	uint64_t bytes = PC_WB_ARENA_MIN_BYTES, share = cache->layout.super.media_bytes / PC_WB_ARENA_SHARE;

	if (!pc_queue_overlaps(cache->backing))
		return bytes;
	while (bytes < PC_WB_ARENA_MAX_BYTES && bytes * 2 <= share)
		bytes *= 2;
	return bytes;
}

int pc_wb_out_init(struct pcache *cache, struct pc_wb_out *out)
{
	void *arena;
	int rc;

	out->arena_bytes = arena_bytes(cache);
	/*
	 * Of its own, and not from the heap: a child of fork has none of it. Else this process would be left with copies of pages that the kernel has registered, and that go on to the
	 * backing as they were.
	 */
	arena = mmap(NULL, out->arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (arena == MAP_FAILED)
		return -ENOMEM;
	(void)madvise(arena, out->arena_bytes, MADV_DONTFORK);
	/* In huge pages a request of 1 MiB is one or two pieces to the disk; in small ones it is 256, which take longer than the disk needs for them. */
	(void)madvise(arena, out->arena_bytes, MADV_HUGEPAGE);
	out->arena = arena;
	rc = pc_queue_init(&out->queue, cache->backing, out->arena, out->arena_bytes, cache->block_bytes);
	if (rc) {
		(void)munmap(arena, out->arena_bytes);
		out->arena = NULL;
		return rc;
	}
	out->run_max = PC_MIN(PC_WB_RUN_BYTES, out->queue.max_len);
	return 0;
}

void pc_wb_out_fini(struct pc_wb_out *out)
{
	pc_queue_fini(&out->queue);
	(void)munmap(out->arena, out->arena_bytes);
}
