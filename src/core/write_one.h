/* SPDX-License-Identifier: BSD-3-Clause */
/* The usual small write; private to core. See write_one.c. */
#ifndef PC_CORE_WRITE_ONE_H
#define PC_CORE_WRITE_ONE_H

#include "base/plant.h"
#include "core/cache.h"

/* Whether this is a moment for a short way, and this a cache. */
static inline bool pc_write_short_may(struct pcache *cache)
{
#ifdef PC_PLANTS
	if (!PC_PLANTED(PC_PLANT_NONE))
		return false; /* the defects are in core/write.c */
#endif
	return cache->write_one && !atomic_load_explicit(&cache->admit.gate, memory_order_relaxed) &&
	       atomic_load_explicit(&cache->log.head, memory_order_relaxed) <
		       atomic_load_explicit(&cache->log.writer_limit, memory_order_relaxed);
}

/* Asked once more under the locks of the shards: a hold comes after its gate. */
static inline bool pc_write_may_be_held(struct pcache *cache)
{
	return (atomic_load_explicit(&cache->admit.gate, memory_order_relaxed) & PC_GATE_MODE) != 0;
}

/* After a write, nothing locked. */
static inline void pc_write_short_signal(struct pcache *cache)
{
	if (atomic_load_explicit(&cache->signal.writeback_idle, memory_order_seq_cst))
		pc_signal_work(cache, PC_WORK_WRITEBACK);
	if (pc_log_short(&cache->log))
		pc_signal_work(cache, PC_WORK_SPACE);
}

/* Writes [blk, blk + len_blk) from buf, durable when it returns true. False: not a usual write, or not now; nothing has changed, and core/write.c knows how. */
bool pc_write_one(struct pcache *cache, const void *buf, uint64_t blk, uint32_t len_blk);

#endif
