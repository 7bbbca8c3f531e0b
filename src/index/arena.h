/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory of an index: pieces that are given out and never taken back one by one, out of areas that grow with what was given out. So a small
 * index costs some KiB, and a large one lies in huge pages. Thread-safe.
 */
#ifndef PC_INDEX_ARENA_H
#define PC_INDEX_ARENA_H

#include <stdatomic.h>

#include "base/lock.h"
#include "base/types.h"

struct pc_area {
	struct pc_area *next;
	size_t bytes;
	void *memory;
};

struct pc_arena {
	struct pc_mutex mutex; /* PC_RANK_ARENA: all below but the counter */
	struct pc_area *areas; /* the newest first */
	size_t used_bytes; /* of the newest */
	uint64_t given_bytes; /* in all */
	uint64_t old_bytes; /* memory behind all areas but the newest */
	_Atomic uint64_t dram_bytes; /* stored under mutex, read without */
};

int pc_arena_init(struct pc_arena *arena); /* 0 or -errno */
void pc_arena_fini(struct pc_arena *arena);
/* bytes, a multiple of the cache line, aligned to it. Lasts until pc_arena_fini. NULL: no memory, nothing has changed. */
void *pc_arena_take(struct pc_arena *arena, size_t bytes);

/* What the process pays: pages that may have been touched, and what the allocator adds. Needs no lock. */
static inline uint64_t pc_arena_dram_bytes(struct pc_arena *arena)
{
	return atomic_load_explicit(&arena->dram_bytes, memory_order_relaxed);
}

#endif
