/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Asynchronous load: eight queues of depth 64, each with a thread and a part of the backing of its own; hits, misses, writes, zeroes, flushes, cancels and time-outs mixed. Every byte that a
 * read returns is compared, and a buffer of a read that was given up must stay as it is. Reads may fail with EIO; nothing else may fail.
 *
 * PCACHE_ASYNC_LOAD_SECONDS: how long (2).
 */
#ifndef PC_TESTS_SYSTEM_ASYNC_LOAD_H
#define PC_TESTS_SYSTEM_ASYNC_LOAD_H

#include "core/rig.h"

#define ASYNC_LOAD_QUEUE_NR 8u
#define ASYNC_LOAD_BLOCK 512u
#define ASYNC_LOAD_PART_BLK 1024u /* of one queue */
#define ASYNC_LOAD_BYTES ((uint64_t)ASYNC_LOAD_QUEUE_NR * ASYNC_LOAD_PART_BLK * ASYNC_LOAD_BLOCK)

struct async_load_sums {
	uint64_t done_nr, error_nr, given_up_nr;
};

/* On an open cache before ASYNC_LOAD_BYTES of backing; rig->model is what is there, and is kept. Asserts. */
struct async_load_sums async_load_run(struct rig *rig, uint64_t seconds);
uint64_t async_load_seconds(void);

#endif
