/* SPDX-License-Identifier: BSD-3-Clause */
/* The usual small write; private to core. See write_one.c. */
#ifndef PC_CORE_WRITE_ONE_H
#define PC_CORE_WRITE_ONE_H

#include "base/types.h"

struct pcache;

/* Writes [blk, blk + len_blk) from buf, durable when it returns true. False: not a usual write, or not now; nothing has changed, and core/write.c knows how. */
bool pc_write_one(struct pcache *cache, const void *buf, uint64_t blk, uint32_t len_blk);

#endif
