/* SPDX-License-Identifier: BSD-3-Clause */
/* The usual small batch; private to core. See write_batch.c. */
#ifndef PC_CORE_WRITE_BATCH_H
#define PC_CORE_WRITE_BATCH_H

#include "base/types.h"
#include "pcache/io.h"

/* Writes all ranges or none, durable when it returns true. False: not a usual batch, or not now; nothing has changed, and core/write.c knows how. */
bool pc_write_batch(struct pcache *cache, const struct pcache_range *ranges, uint32_t range_nr);

#endif
