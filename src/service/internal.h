/* SPDX-License-Identifier: BSD-3-Clause */
/* State of the services; private to this folder. */
#ifndef PC_SERVICE_INTERNAL_H
#define PC_SERVICE_INTERNAL_H

#include "core/append.h"
#include "service/service.h"

#define PC_WB_ITEM_MAX 4096u
#define PC_WB_BATCH_ITEMS 2048u /* a batch ends when it has as many; one kset may add more */
#define PC_WB_BATCH_BYTES (4u << 20)
#define PC_WB_BOUNCE_BYTES (1u << 20)

/* A part of a dirty version that must go to the backing. Its segment is pinned once per item. */
struct pc_wb_item {
	struct pc_extent extent;
	uint32_t seq; /* order of collection: where ranges of one kset overlap, the later key wins */
};

struct pc_writeback {
	struct pc_mutex lock; /* PC_RANK_WRITEBACK: everything below */
	struct pc_log_reader reader;
	struct pc_wb_item items[PC_WB_ITEM_MAX];
	struct pc_wb_item scratch[PC_WB_ITEM_MAX]; /* for sorting */
	uint32_t item_nr;
	uint64_t batch_bytes; /* issued and collected in this batch */
	uint64_t target_bytes; /* of a batch: what the backing takes in some 20 ms */
	uint64_t last_slots; /* length of the last batch in the log */
	uint64_t slots_per_mib; /* log slots per MiB that had to be written, of the last batch */
	uint64_t limit_pos; /* everything below was durable when the batch began */
	struct pc_extent lost; /* of this step: the last damaged version */
	uint32_t lost_nr;
	uint32_t quarantined_id; /* of this step: a segment that was taken out of use, or PC_SEG_NONE */
	uint64_t unreadable_pos; /* of this step: where the media could not give the log, or PC_POS_IDLE */
	bool items_lost; /* one kset had more parts than items: the list does not name all that becomes clean */
	bool issued; /* the backing needs a flush */
	uint8_t *bounce;
};

/* What eviction remembers of a closed segment. */
struct pc_evict_look {
	uint64_t gen; /* of the life that it is about */
	uint64_t close_pos; /* head of the log when it was first met closed */
	bool clean; /* nothing in it was dirty */
};

struct pc_cleaner {
	struct pc_mutex lock; /* PC_RANK_SPACE_STEP: everything below */
	struct pc_kbuf kbuf;
	struct pc_evict_candidate *candidates;
	struct pc_evict_look *looks; /* by segment */
	uint64_t look_nr;
	uint8_t *victim;
	uint32_t hand;
};

static inline uint64_t pc_wb_bytes(const struct pcache *cache, uint64_t blk_nr)
{
	return blk_nr << cache->block_shift;
}

static inline bool pc_wb_is_data(const struct pc_extent *extent)
{
	return (extent->flags & PC_EXT_TYPE_MASK) == PC_EXT_DATA;
}

/* wb_issue.c: counts an error of the backing. Returns rc. */
int pc_wb_backing_result(struct pcache *cache, int rc);
/* Writes the items, and names what is lost. 0, or the error that ended it: of the backing, or of the log that has no room for the poison. */
int pc_wb_issue(struct pcache *cache);

/* wb_plan.c, pure: sorts items for issue: by offset if no two overlap (true), else in log order, so that the newest is written last (false). scratch has room for as
 * many. */
bool pc_wb_plan(struct pc_wb_item *items, struct pc_wb_item *scratch, uint32_t item_nr);

#endif
