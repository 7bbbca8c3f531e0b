/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between the log and the index, at an open: keys are gathered by shard and applied shard by shard, by several threads if it pays. Private to src/recovery.
 *
 * A record is what one key does in one stripe: an extent to insert, or a range to erase. The log is read in order of positions, so the records of a shard are in that order. Records
 * that do not overlap may be applied in any order, those that do are applied in order of positions. So a full batch is sorted by block, shard by shard, and each shard is
 * walked once from its first extent to its last.
 *
 * Memory: a batch has room for PC_GATHER_RECORDS records per shard, or less for a short log: 32 MiB with 64 shards, twice that with threads, plus 4 bytes per segment and some
 * 100 KiB per thread. However long the log is.
 */
#ifndef PC_RECOVERY_GATHER_H
#define PC_RECOVERY_GATHER_H

#include <stdatomic.h>

#include "core/cache.h"

#define PC_GATHER_RECORDS 16384u /* per shard; at most 65536 */
#define PC_GATHER_THREADS_MAX 8u
#define PC_GATHER_STOPPED 1 /* not an error: what comes now must be read again when it is known what is durable */

struct pc_batch {
	struct pc_extent *recs; /* those of shard s from s * cap on, in order of positions */
	uint64_t *epochs; /* positions of flush marks, ascending: the last one before the first record, and all since */
	uint32_t epoch_nr;
	uint32_t nr[PC_SHARD_NR_MAX];
	_Atomic uint32_t next_shard; /* the first that nobody has taken up */
	_Atomic uint32_t done_nr; /* shards that are applied */
	_Atomic int rc; /* the first error */
};

struct pc_sorter {
	uint64_t *keys[2]; /* block and number of a record; cap of them */
};

struct pc_gather_pool;

struct pc_gather {
	struct pcache *cache;
	uint32_t shard_nr;
	uint32_t cap; /* records per shard and batch */
	uint32_t epoch_max;
	uint32_t thread_nr; /* wanted; more than one are started when the first batch is full */
	struct pc_batch batches[2]; /* the second with threads only */
	uint32_t cur; /* the one that is filled */
	bool epoch_is_bare; /* no key was gathered since the last flush mark */
	uint32_t *bound_blk; /* by segment: its live blocks are not more, with what is gathered */
	struct pc_sorter sorter;
	struct pc_gather_pool *pool; /* NULL: no threads */
	uint64_t resume_pos; /* after PC_GATHER_STOPPED: nothing from here on was applied */
	uint64_t apply_ns;
};

/* slot_nr: length of the log. 0, -ENOMEM. */
int pc_gather_init(struct pc_gather *gather, struct pcache *cache, uint64_t slot_nr);
/* Joins the threads, frees everything. */
void pc_gather_fini(struct pc_gather *gather);

/* A flush mark: what comes now is of another epoch. */
int pc_gather_mark(struct pc_gather *gather, uint64_t pos, uint64_t sure_pos);
/*
 * One key, in order of positions. stale: it only erases. ext_flags: PC_EXT_DIRTY or 0. sure_pos: everything below is durable and may be applied; it only rises.
 * 0, PC_GATHER_STOPPED (the key lies at or above sure_pos, and there is no room to keep it), -ENOMEM, PCACHE_E_CORRUPT.
 */
int pc_gather_key(struct pc_gather *gather, const struct pc_key *key, const struct pcm_le32 *crcs, uint64_t pos,
		  uint8_t ext_flags, bool stale, uint64_t sure_pos);
/* Applies what is below sure_pos, drops the rest, and waits until all is applied. resume_pos: first that was dropped, UINT64_MAX if none. */
int pc_gather_finish(struct pc_gather *gather, uint64_t sure_pos);
/* The same for a key that cannot be kept. Returns PC_GATHER_STOPPED or an error. */
int pc_gather_stop(struct pc_gather *gather, uint64_t pos, uint64_t sure_pos);

/* ---- apply_batch.c --------------------------------------------------------------------------------------------------- */

int pc_sorter_init(struct pc_sorter *sorter, uint32_t cap); /* 0, -ENOMEM */
void pc_sorter_fini(struct pc_sorter *sorter);
/* Applies shards of the batch until nobody has any left to take up. */
void pc_batch_apply(struct pc_gather *gather, struct pc_batch *batch, struct pc_sorter *sorter);

#endif
