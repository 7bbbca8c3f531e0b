/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Planted defects, for proving that the crash simulator can fail. Only objects built with PC_PLANTS have them; in the library
 * every PC_PLANTED() is the constant 0.
 */
#ifndef PC_BASE_PLANT_H
#define PC_BASE_PLANT_H

enum pc_plant {
	PC_PLANT_NONE = 0,
	PC_PLANT_NO_WRITE_FENCE, /* core/write: the fence that commits data and kset is left out */
	PC_PLANT_KSET_AFTER_ACK, /* core/write: the slot is stored only when the next write of this cache begins */
	PC_PLANT_BATCH_IN_TWO, /* core/write: the halves of a batch are written one after the other */
	PC_PLANT_NEWEST_COPY_FIRST, /* layout: an update overwrites the newer copy first, and open does not repair */
	PC_PLANT_NO_VOIDS_AT_OPEN, /* recovery: rejected positions stay as they are */
	/* Of calls at the same time: */
	PC_PLANT_FENCE_OF_OTHER, /* simulated media: every fence is that of another thread */
	PC_PLANT_RANGE_UNLOCKED, /* core/write: the range is unlocked between position and index insert */
	PC_PLANT_EPOCH_EARLY, /* core/write: the last flush mark is looked at before the position is taken */
	PC_PLANT_FILL_OVER_WRITE, /* core/write: a fill is kept although a write came by */
	PC_PLANT_NO_PIN, /* core/read: a segment is read as if it were pinned, and is not */
	PC_PLANT_PEEK_UNCHECKED, /* core/read: what was looked up without a lock counts whatever happened meanwhile */
	PC_PLANT_MARK_TOO_HIGH, /* core/flush: a mark says that all below itself was durable */
	PC_PLANT_MARK_SKIPS_SHARD, /* core/flush: the same, but for what the first shard has in flight alone */
	PC_PLANT_ROUND_BEFORE, /* core/flush: a flush is done with a round that had begun before it */
	PC_PLANT_SYNC_TOO_HIGH, /* log: a sync counts for all positions below the head, also those in flight */
	PC_PLANT_PUBLISH_LATE, /* log: the lower bound is published after the position was taken */
	PC_PLANT_WB_PAST_INFLIGHT, /* service/writeback: batches end at the head */
	PC_PLANT_SETTLED_EARLY, /* service/writeback: cleaning may follow before the extents are clean */
	PC_PLANT_SWEEP_UNCHECKED, /* service/writeback: no look at what was hidden from a sweep */
	PC_PLANT_DRAIN_FORGETS, /* core/flush: nobody knows that a drain runs */
	PC_PLANT_DRAIN_MARK_LATE, /* service/writeback: what a drain has to bring counts from behind its flush */
	PC_PLANT_TAIL_PAST_INFLIGHT, /* service/clean: the tail follows the head alone */
	PC_PLANT_CLEAN_STALE, /* service/clean: what was found is appended after the shard was unlocked and locked again */
	PC_PLANT_PINS_IGNORED, /* alloc/segmap: a segment that is read is freed */
	PC_PLANT_DEAD_IGNORED, /* alloc/segmap: a segment emptied by what is not durable is freed */
	PC_PLANT_TAKEN_IS_PINNED, /* alloc/segmap: write-back pins a segment whose generation is being raised */
	PC_PLANT_ERASE_KEEPS_FILLS, /* index/shard: zeroes do not cancel fills */
	PC_PLANT_STEPS_NOT_AWAITED, /* core/space: who finds nothing to do gives up beside others who are in the middle of it */
	PC_PLANT_HOLD_DIRTY, /* core/hold: what is dirty is erased as if it were on the backing */
	PC_PLANT_HOLD_NO_ERASE, /* core/hold: the range stays in the cache */
	PC_PLANT_HOLD_UNSEEN_BY_WRITES, /* core/write: a held range is written to */
	PC_PLANT_HOLD_UNSEEN_BY_MISSES, /* core/miss: a held range is read from the backing, and kept */
	PC_PLANT_MODE_NOT_SEEN, /* api/io: a write does not look whether the mode has changed meanwhile */
	PC_PLANT_AROUND_FIRST, /* service/mode: the backing is written before the range is held */
	PC_PLANT_LOST_WAKEUP, /* core/space: progress wakes nobody */
	/* Of stores that gather before a sync: */
	PC_PLANT_STAGE_KEPT, /* media/stage: a sync forgets to write the first window */
	PC_PLANT_STAGE_ONE_RUN, /* media/stage: of a window only the bytes up to the first gap are written */
	PC_PLANT_STAGE_GONE_EARLY, /* media/stage: loads do not see a window any more before it was written */
	PC_PLANT_STAGE_NOT_READ, /* media/stage: a load does not look into the windows */
	PC_PLANT_NR
};

#ifdef PC_PLANTS
extern int pc_plant; /* enum pc_plant; set by the simulator before a run */
#define PC_PLANTED(plant) (pc_plant == (plant))
#else
#define PC_PLANTED(plant) 0
#endif

#endif
