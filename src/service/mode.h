/* SPDX-License-Identifier: BSD-3-Clause */
/* Modes: where a write goes. See mode.c and docs/decisions/0025. */
#ifndef PC_SERVICE_MODE_H
#define PC_SERVICE_MODE_H

#include "core/cache.h"

/* Writes wait for the backing. Sequentially consistent: who changes the mode, and then drains, covers a write that has not seen it. */
static inline bool pc_mode_waits(struct pcache *cache)
{
	return atomic_load_explicit(&cache->mode, memory_order_seq_cst) > PCACHE_MODE_WRITEONLY;
}

/* A write where pc_mode_waits. whole: all or nothing across a crash, as around the cache it is not. 0, -EAGAIN for PCACHE_NOWAIT, an error of the backing, or as pc_core_write. */
int pc_mode_write(struct pcache *cache, const struct pcache_range *ranges, uint32_t range_nr, bool whole,
		  uint32_t flags);
/* What was appended before the call is on the backing when it returns 0. */
int pc_mode_through(struct pcache *cache);
/* Another mode. 0; -EBUSY: another change is running; to passthrough: what pcache_drain() gives but PCACHE_E_POISONED, with the old mode in force. */
int pc_mode_set(struct pcache *cache, uint32_t mode);

#endif
