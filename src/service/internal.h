/* SPDX-License-Identifier: BSD-3-Clause */
/* State of the services; private to this folder. */
#ifndef PC_SERVICE_INTERNAL_H
#define PC_SERVICE_INTERNAL_H

#include "backing/queue.h"
#include "core/append.h"
#include "service/service.h"

#define PC_WB_ITEM_MAX 4096u
#define PC_WB_BATCH_ITEMS 2048u /* a batch ends when it has as many; one kset may add more */
#define PC_WB_SWEEP_ITEMS 1024u /* a sweep issues when it has gathered about so many */
#define PC_WB_SWEPT_MAX 16384u /* what one sweep has written is remembered, up to so much */
#define PC_WB_BATCH_BYTES (4u << 20)
#define PC_WB_GROUP_KEYS 256u /* epochs share a tail record while they have no more keys together */
#define PC_WB_GROUP_EPOCHS 16u /* and no more epochs, where the clock must not say it */
#define PC_WB_PART_NS UINT64_C(250000000) /* a step of a pass takes about as long */
#define PC_WB_PACE_NS UINT64_C(20000000) /* a batch should take about as long */
#define PC_WB_ARENA_MIN_BYTES (UINT64_C(2) << 20) /* what is on its way to the backing */
#define PC_WB_ARENA_MAX_BYTES \
	(UINT64_C(32) \
	 << 20) /* ten milliseconds of a fast disk, so that it is busy when this thread has to wait for a processor */
#define PC_WB_ARENA_SHARE 32u /* at most this part of the cache */
#define PC_WB_RUN_BYTES (UINT64_C(1) << 20) /* longest request */
#define PC_WB_SLOT_NR PC_QUEUE_DEPTH_MAX /* requests on their way */

/* A part of a dirty version that must go to the backing. Its segment is pinned once per item. */
struct pc_wb_item {
	struct pc_extent extent;
	uint32_t seq; /* order of collection: where ranges of one kset overlap, the later key wins */
};

/* A request on its way. */
struct pc_wb_slot {
	struct pcache_backing_io io; /* first: an end is told by it */
	uint64_t arena_end; /* where its bytes end */
	bool ended;
};

/* wb_issue.c: what is on its way to the backing. Places in the arena are counted from when it was last empty, modulo its length. */
struct pc_wb_out {
	struct pc_backing_queue queue;
	uint8_t *arena;
	uint64_t arena_bytes; /* a power of two */
	uint64_t arena_first; /* in use from here */
	uint64_t arena_end; /* to here */
	struct pc_wb_slot slots[PC_WB_SLOT_NR]; /* in use: from slot_first to slot_end, modulo */
	uint32_t slot_first;
	uint32_t slot_end;
	uint64_t run_blk; /* the run that is gathered: its first block */
	uint64_t run_len; /* bytes, the last ones of the arena; 0: none */
	uint64_t run_max;
	int error; /* the first that came back since it was last asked for */
};

/* wb_sweep.c: a walk over the index that finds what is dirty of a range of positions. */
struct pc_wb_sweep {
	uint64_t from; /* positions: all of one epoch, or ordering batch */
	uint64_t end;
	uint64_t next_blk[PC_SHARD_NR_MAX]; /* where each shard goes on; UINT64_MAX: at its end */
	uint64_t bytes; /* issued so far */
	bool active; /* begun */
	bool done; /* all of the index was shown */
	bool issued; /* the backing needs a flush */
};

struct pc_wb_range {
	uint64_t blk;
	uint64_t end_blk;
};

/* wb_group.c: the keys of epochs that share a tail record. */
struct pc_wb_group {
	struct pc_wb_range ranges[PC_WB_GROUP_KEYS]; /* by offset; none overlaps another */
	uint32_t range_nr;
	bool apart; /* no two keys overlap, and all are in ranges: an epoch may follow. False: keys are not looked at */
};

struct pc_writeback {
	struct pc_mutex lock; /* PC_RANK_WRITEBACK: everything below */
	struct pc_log_reader reader;
	struct pc_wb_item items[PC_WB_ITEM_MAX];
	struct pc_wb_item scratch[PC_WB_ITEM_MAX]; /* for sorting */
	uint32_t item_nr;
	uint32_t epoch_first; /* items before this one are of epochs that the backing has flushed */
	bool epoch_ended; /* what was collected last is an epoch, or the rest of one */
	struct pc_wb_group group;
	uint64_t batch_bytes; /* issued and collected in this batch */
	uint64_t target_bytes; /* of a batch: what the backing takes in PC_WB_PACE_NS */
	_Atomic uint64_t known_target_bytes; /* the same, for those who do not hold the lock */
	uint64_t batch_max_bytes; /* of this step, or UINT64_MAX */
	uint64_t last_slots; /* length of the last batch in the log */
	uint64_t slots_per_mib; /* log slots per MiB that had to be written, of the last batch */
	uint64_t span_slots; /* a sweep spans no more positions */
	uint64_t limit_pos; /* everything below was durable when the batch began */
	uint64_t no_slot_pos; /* of a damaged version that found no slot for its POISON key */
	struct pc_extent lost; /* of this step: the last damaged version */
	uint32_t lost_nr;
	uint32_t quarantined_id; /* of this step: a segment that was taken out of use, or PC_SEG_NONE */
	uint64_t unreadable_pos; /* of this step: where the media could not give the log, or PC_POS_IDLE */
	uint64_t
		swept_end; /* 0, or: a sweep has written what the index shows of the positions below, and the log is read for the rest */
	uint64_t *
		swept_blks; /* first blocks of what the sweep has written: each extent of it begins within a chunk from there */
	uint32_t swept_nr;
	bool is_swept; /* the batch at hand was found by a sweep */
	bool swept_lost; /* the list does not name all that the sweep has written */
	uint64_t room_end; /* what is below leaves the cache, if makes_room */
	bool makes_room; /* what the batch has written leaves the cache, where its segment is closed and not read */
	uint8_t *
		gives_room; /* by segment, while makes_room: 0: not; 1: what becomes clean there is dropped; 2: something was */
	bool items_lost; /* one kset had more parts than items: the list does not name all that becomes clean */
	bool issued; /* the backing needs a flush */
	int late_error; /* of an epoch of the group that was begun after others had been flushed */
	struct pc_wb_out out;
	struct pc_wb_sweep pass; /* of a drain, over several steps */
	_Atomic uint64_t pass_bytes; /* issued by it: for those who show progress */
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

/* wb_group.c, pure. apart: keys will be added, none yet. */
void pc_wb_group_begin(struct pc_wb_group *group, bool apart);
void pc_wb_group_add(struct pc_wb_group *group, uint64_t blk, uint64_t end_blk);

/* wb_issue.c: counts an error of the backing. Returns rc. */
int pc_wb_backing_result(struct pcache *cache, int rc);
/*
 * Starts writing the items from epoch_first on, and names what is lost. 0, or the error that ended it: of the backing, or of the log that has no room for the poison. Either way pc_wb_settle must
 * follow before the step ends; its 0 says that all was written.
 */
int pc_wb_issue(struct pcache *cache);
int pc_wb_settle(struct pcache *cache);
int pc_wb_out_init(struct pcache *cache, struct pc_wb_out *out); /* 0, -ENOMEM, -errno */
void pc_wb_out_fini(struct pc_wb_out *out); /* nothing is in flight */

/* Forgets the items. */
void pc_wb_drop_items(struct pcache *cache);
/* The log cannot be read at pos, or has something else there: it is never skipped. Its segment is not used again. PCACHE_E_CORRUPT. */
int pc_wb_damaged_log(struct pcache *cache, uint64_t pos);

/* wb_clean.c: the dirty tail has passed [from, end); the items, or what was swept, are clean, or (makes_room) leave the cache. */
void pc_wb_clean(struct pcache *cache, uint64_t from, uint64_t end);
/* At the begin of a batch: whether it makes room itself, and where. */
void pc_wb_choose_room(struct pcache *cache, uint64_t from, uint64_t limit);

/* wb_sweep.c */
/* Whether the next batch is better swept; whether a drain should begin or continue a pass. */
bool pc_wb_sweep_pays(struct pcache *cache, uint64_t from);
bool pc_wb_pass_pays(struct pcache *cache, uint64_t from, uint64_t limit);
/* Chooses the positions. 0 or PCACHE_E_CORRUPT. */
int pc_wb_sweep_begin(struct pcache *cache, struct pc_wb_sweep *sweep, uint64_t from, uint64_t limit, bool is_pass);
/* Writes what the walk finds, to its end, or (in_parts) for as long as a step may take. 0: it is on the backing, but not flushed; or the error that ended it. */
int pc_wb_sweep_run(struct pcache *cache, struct pc_wb_sweep *sweep, bool in_parts);
/* After the walk: a version of these positions may have been hidden from it. */
bool pc_wb_sweep_hides(struct pcache *cache, const struct pc_wb_sweep *sweep);

/* wb_plan.c, pure: sorts items for issue: by offset if no two overlap (true), else in log order, so that the newest is written last (false). scratch has room for as
 * many. */
bool pc_wb_plan(struct pc_wb_item *items, struct pc_wb_item *scratch, uint32_t item_nr);

#endif
