/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Data heads: where the next data goes. Each thread uses one of a few heads, so that threads seldom meet; a small cache has few, so that open segments never pin it.
 */
#ifndef PC_ALLOC_HEAD_H
#define PC_ALLOC_HEAD_H

#include "alloc/segmap.h"

#define PC_PIECES_MAX 36u /* an allocation of at most 32 segments, its part in the old head, and slack */

/* A contiguous part of an allocation. */
struct pc_piece {
	uint64_t gen;
	uint32_t seg_id;
	uint32_t seg_blk;
	uint32_t len_blk;
};

struct pc_head {
	struct pc_spin lock; /* PC_RANK_HEAD */
	uint32_t seg_id; /* PC_SEG_NONE: none yet */
	uint32_t next_blk;
	uint64_t sync_nr; /* value of pc_heads.sync_nr at the last allocation */
};

struct pc_heads {
	struct pc_segmap *map;
	struct pc_head *heads;
	uint32_t head_nr;
	uint32_t
		page_blk; /* blocks per 4 KiB page at page granularity, else 1: where the next allocation after a sync may start */
	_Atomic uint64_t
		sync_nr; /* page granularity: raised by flushes, durable writes and syncs of the services; not by commit=write */
};

/* head_nr 0: by processors and size. 0 or -errno. */
int pc_heads_init(struct pc_heads *heads, struct pc_segmap *map, uint32_t head_nr, bool page_granularity);
void pc_heads_fini(struct pc_heads *heads);

/*
 * Allocates len_blk blocks in at most PC_PIECES_MAX pieces, all or none; they count as live from now on. leave_nr: free segments to leave (for allocations that are
 * mere wishes). *out_took: new segments were taken. 0, PCACHE_E_FULL, -errno of a sync.
 */
int pc_heads_alloc(struct pc_heads *heads, uint32_t len_blk, uint32_t leave_nr, struct pc_piece *pieces,
		   uint32_t *out_piece_nr, bool *out_took);
/* One piece out of the segment that is open, or false, and nothing has changed. Not at page granularity. */
bool pc_heads_alloc_one(struct pc_heads *heads, uint32_t len_blk, struct pc_piece *out_piece);
/* Gives up an allocation that no key refers to. Its room is gone until the segment is reclaimed. */
void pc_heads_unalloc(struct pc_heads *heads, const struct pc_piece *pieces, uint32_t piece_nr);

#endif
