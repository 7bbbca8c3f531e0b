/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Write-back, the writing: the items of a batch go to the backing in their planned order, neighbours in one request. Data is loaded and verified on the way; what is damaged is
 * lost, and nothing else: a POISON key takes the place of what the index still shows of it.
 *
 * Runs under the lock of write-back; the segments of all items are pinned.
 */
#include "base/sched.h"
#include "service/internal.h"

int pc_wb_backing_result(struct pcache *cache, int rc)
{
	if (rc)
		atomic_fetch_add_explicit(&cache->stats.backing_errors, 1, memory_order_relaxed);
	return rc;
}

static int write_run(struct pcache *cache, uint64_t vol_blk, uint64_t len)
{
	int rc;

	if (!len)
		return 0;
	rc = pc_backing_write(cache->backing, cache->writeback->bounce, pc_wb_bytes(cache, vol_blk), len);
	if (!rc) {
		atomic_fetch_add_explicit(&cache->stats.writeback_bytes, len, memory_order_relaxed);
		pc_admit_grant(cache, len);
	}
	cache->writeback->issued = true;
	return pc_wb_backing_result(cache, rc);
}

static int write_zero(struct pcache *cache, const struct pc_extent *extent)
{
	int rc = pc_backing_zero(cache->backing, pc_wb_bytes(cache, extent->vol_blk),
				 pc_wb_bytes(cache, extent->len_blk), !(extent->flags & PC_EXT_DISCARD));

	cache->writeback->issued = true;
	return pc_wb_backing_result(cache, rc);
}

/* What is gathered in the bounce buffer: neighbours, for one request. */
struct run {
	uint64_t blk;
	uint64_t len; /* bytes */
};

static int end_run(struct pcache *cache, struct run *run)
{
	int rc = write_run(cache, run->blk, run->len);

	run->len = 0;
	return rc;
}

/* The data of a dirty version is damaged: it must not reach the backing. Its blocks read as poisoned until they are overwritten. */
static int lose_item(struct pcache *cache, const struct pc_extent *extent, int load_rc)
{
	struct pc_writeback *wb = cache->writeback;

	if (pc_core_damage(cache, extent, load_rc))
		wb->quarantined_id = extent->seg_id;
	wb->lost = *extent;
	wb->lost_nr++;
	return pc_core_poison(cache, extent);
}

/* Loads data behind what is gathered. Returns what pc_core_load does, or 0 with the error of the backing in *out_write_rc. */
static int load_into_run(struct pcache *cache, struct run *run, const struct pc_extent *extent, int *out_write_rc)
{
	uint64_t len = pc_wb_bytes(cache, extent->len_blk);
	bool joins = run->len && run->blk + (run->len >> cache->block_shift) == extent->vol_blk &&
		     run->len + len <= PC_WB_BOUNCE_BYTES;
	int rc;

	*out_write_rc = joins ? 0 : end_run(cache, run);
	if (*out_write_rc)
		return 0;
	if (!run->len)
		run->blk = extent->vol_blk;
	rc = pc_core_load(cache, extent, cache->writeback->bounce + run->len);
	if (!rc)
		run->len += len;
	return rc;
}

/* One item of data. What of it can be verified is gathered, the rest is lost: without CRCs that is told block by block. */
static int issue_data(struct pcache *cache, struct run *run, const struct pc_extent *extent)
{
	uint32_t part_blk = cache->data_crc ? extent->len_blk : 1;
	int write_rc, rc = load_into_run(cache, run, extent, &write_rc);

	if (write_rc || !rc)
		return write_rc;
	if (part_blk == extent->len_blk)
		return lose_item(cache, extent, rc);
	for (uint32_t at = 0; at < extent->len_blk; at += part_blk) {
		struct pc_extent part = pc_extent_part(extent, extent->vol_blk + at, part_blk);

		rc = load_into_run(cache, run, &part, &write_rc);
		if (!write_rc && rc)
			write_rc = lose_item(cache, &part, rc);
		if (write_rc)
			return write_rc;
	}
	return 0;
}

/* Writes the items in their planned order, neighbours in one request. */
int pc_wb_issue(struct pcache *cache)
{
	struct pc_writeback *wb = cache->writeback;
	struct run run = { 0 };
	int rc = 0;

	PC_YIELD(WB_COLLECTED);
	(void)pc_wb_plan(wb->items, wb->scratch, wb->item_nr);
	for (uint32_t i = 0; i < wb->item_nr && !rc; i++) {
		const struct pc_extent *extent = &wb->items[i].extent;

		if (pc_wb_is_data(extent)) {
			rc = issue_data(cache, &run, extent);
			continue;
		}
		rc = end_run(cache, &run);
		if (!rc)
			rc = write_zero(cache, extent);
	}
	return rc ? rc : end_run(cache, &run);
}
