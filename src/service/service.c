/* SPDX-License-Identifier: BSD-3-Clause */
/* What the services need, allocated once at open, so that none of them needs memory to make progress; and one round of all of them. */
#include "service/service.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "service/internal.h"

#define CLEANER_CELLS 64u

static int new_writeback(struct pcache *cache)
{
	struct pc_writeback *wb = calloc(1, sizeof(*wb));
	int rc;

	if (!wb)
		return -ENOMEM;
	wb->swept_blks = calloc(PC_WB_SWEPT_MAX, sizeof(*wb->swept_blks));
	wb->gives_room = calloc(cache->map.segment_nr, 1);
	rc = wb->swept_blks && wb->gives_room ? pc_wb_out_init(cache, &wb->out) : -ENOMEM;
	if (rc)
		goto undo_wb;
	rc = pc_log_reader_init(&wb->reader, &cache->log);
	if (rc)
		goto undo_out;
	rc = pc_mutex_init(&wb->lock, PC_RANK_WRITEBACK, 0);
	if (rc)
		goto undo_reader;
	wb->target_bytes = PC_WB_BATCH_BYTES;
	wb->known_target_bytes = PC_WB_BATCH_BYTES;
	wb->batch_max_bytes = UINT64_MAX;
	wb->quarantined_id = PC_SEG_NONE;
	wb->unreadable_pos = PC_POS_IDLE;
	cache->writeback = wb;
	return 0;
undo_reader:
	pc_log_reader_fini(&wb->reader);
undo_out:
	pc_wb_out_fini(&wb->out);
undo_wb:
	free(wb->gives_room);
	free(wb->swept_blks);
	free(wb);
	return rc;
}

static void free_writeback(struct pcache *cache)
{
	struct pc_writeback *wb = cache->writeback;

	if (!wb)
		return;
	pc_mutex_fini(&wb->lock);
	pc_log_reader_fini(&wb->reader);
	pc_wb_out_fini(&wb->out);
	free(wb->gives_room);
	free(wb->swept_blks);
	free(wb);
	cache->writeback = NULL;
}

static int new_cleaner(struct pcache *cache)
{
	struct pc_cleaner *cleaner = calloc(1, sizeof(*cleaner));
	int rc = -ENOMEM;

	if (!cleaner)
		return -ENOMEM;
	cleaner->candidates = calloc(cache->map.segment_nr, sizeof(*cleaner->candidates));
	cleaner->looks = calloc(cache->map.segment_nr, sizeof(*cleaner->looks));
	cleaner->victim = calloc(cache->map.segment_nr, 1);
	cleaner->kbuf.cells = aligned_alloc(64, CLEANER_CELLS * PC_CELL_BYTES);
	if (!cleaner->candidates || !cleaner->looks || !cleaner->victim || !cleaner->kbuf.cells)
		goto undo;
	memset(cleaner->kbuf.cells, 0, CLEANER_CELLS * PC_CELL_BYTES);
	cleaner->kbuf.cell_nr = 1;
	cleaner->kbuf.cell_max = CLEANER_CELLS;
	rc = pc_mutex_init(&cleaner->lock, PC_RANK_SPACE_STEP, 0);
	if (rc)
		goto undo;
	cache->cleaner = cleaner;
	return 0;
undo:
	free(cleaner->kbuf.cells);
	free(cleaner->victim);
	free(cleaner->looks);
	free(cleaner->candidates);
	free(cleaner);
	return rc;
}

static void free_cleaner(struct pcache *cache)
{
	struct pc_cleaner *cleaner = cache->cleaner;

	if (!cleaner)
		return;
	pc_mutex_fini(&cleaner->lock);
	free(cleaner->kbuf.cells);
	free(cleaner->victim);
	free(cleaner->looks);
	free(cleaner->candidates);
	free(cleaner);
	cache->cleaner = NULL;
}

static int evict_if_needed(struct pcache *cache)
{
	return pc_evict_step(cache, false);
}

static int clean_if_needed(struct pcache *cache)
{
	return pc_clean_step(cache, false);
}

bool pc_service_uses_ring(struct pcache *cache)
{
	return atomic_load_explicit(&cache->writeback->out.queue.way, memory_order_relaxed) == PC_QUEUE_RING;
}

/* Says how a file is written: slow write-back may have its cause there. */
static void tell_way(struct pcache *cache)
{
	const struct pc_backing_queue *queue = &cache->writeback->out.queue;

	if (cache->read_only)
		return;
	if (pc_service_uses_ring(cache))
		pc_msg(&cache->msg, PCACHE_LOG_INFO, "write-back: io_uring, direct I/O, up to %u requests at a time",
		       PC_QUEUE_DEPTH_MAX);
	else if (queue->ring_error == -ENOSYS)
		pc_msg(&cache->msg, PCACHE_LOG_INFO,
		       "write-back: through the page cache, as this build or the kernel has no io_uring");
	else if (queue->ring_error == -EPERM || queue->ring_error == -EACCES)
		pc_msg(&cache->msg, PCACHE_LOG_INFO,
		       "write-back: through the page cache, as io_uring is forbidden here (%d)", queue->ring_error);
	else if (queue->ring_error)
		pc_msg(&cache->msg, PCACHE_LOG_INFO,
		       "write-back: through the page cache, as the backing takes no direct I/O in cache blocks of %u "
		       "bytes (%d)",
		       cache->block_bytes, queue->ring_error);
}

int pc_service_init(struct pcache *cache)
{
	int rc = new_writeback(cache);

	if (rc)
		return rc;
	rc = new_cleaner(cache);
	if (rc)
		free_writeback(cache);
	else
		cache->run_steps = pc_service_round;
	if (!rc)
		tell_way(cache);
	return rc;
}

void pc_service_fini(struct pcache *cache)
{
	free_cleaner(cache);
	free_writeback(cache);
}

int pc_service_round(struct pcache *cache)
{
	int (*const steps[])(struct pcache *) = { pc_writeback_step, evict_if_needed, clean_if_needed };
	int did = 0, error = 0;

	/* One that fails does not keep the others from making room. */
	for (size_t i = 0; i < PC_ARRAY_NR(steps); i++) {
		int rc = steps[i](cache);

		did |= rc > 0;
		if (rc < 0 && !error)
			error = rc;
	}
	return did ? 1 : error;
}
