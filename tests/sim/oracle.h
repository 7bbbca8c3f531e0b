/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Oracle: knows every write that was issued, and says which states a cache and its backing may be found in.
 *
 * A unit is what is all or nothing across a crash: one write, one batch, one discard. Every block that a unit covers gets an entry (version,
 * epoch, unit) in the history of that block; entries of one block are ordered by issue. A unit is pending until the guarantees make it
 * durable: in commit mode `write` on completion, in mode `flush` at the next flush or by the durable flag.
 *
 *     after a crash   the state is the outcome of all durable units plus SOME subset of the pending ones, in issue order. (G2, G3, G4, G6)
 *     after recovery  what was read is the history: the rest never returns. (G5)
 *     backing alone   every subset of its unflushed writes is "all epochs before e, plus some subset of e", for some e. (G7)
 *
 * Payload words carry (version, block, word number), so torn, stale and misplaced bytes are told apart. Zeroes carry nothing: a block of zeroes
 * may be any zeroed version of its history, and the oracle looks for one choice that fits all blocks.
 *
 * Checks return false and leave a text in pc_oracle_text().
 */
#ifndef PC_SIM_ORACLE_H
#define PC_SIM_ORACLE_H

#include "base/types.h"

#define PC_ORACLE_PENDING_MAX 64u /* units that may be pending at once */
#define PC_ORACLE_BLOCK_NR_MAX 1024u

struct pc_oracle;

struct pc_oracle_options {
	uint32_t block_nr; /* size of the backing in cache blocks, at most PC_ORACLE_BLOCK_NR_MAX */
	uint32_t block_bytes; /* 512 or 4096 */
	bool commit_flush; /* commit mode flush, else write */
	bool order_batch; /* ordering batch, else strict */
};

enum pc_seen_kind { PC_SEEN_BAD, PC_SEEN_DATA, PC_SEEN_ZERO };
struct pc_seen { /* what a block of bytes turned out to be */
	uint32_t version; /* DATA */
	uint32_t kind; /* enum pc_seen_kind */
};

/* All blocks hold version 1. NULL: no memory. */
struct pc_oracle *pc_oracle_new(const struct pc_oracle_options *options);
struct pc_oracle *pc_oracle_clone(const struct pc_oracle *oracle);
/* Makes to, of the same options, a copy of from. False: no memory. */
bool pc_oracle_copy(struct pc_oracle *to, const struct pc_oracle *from);
void pc_oracle_free(struct pc_oracle *oracle);
const char *pc_oracle_text(const struct pc_oracle *oracle);

/*
 * From the next open on, other modes. Where a life in ordering batch that no drain has ended is followed by one in strict, what was written until now stays one epoch for the
 * backing; strict holds for what comes then.
 */
void pc_oracle_set_mode(struct pc_oracle *oracle, bool commit_flush, bool order_batch);

/* --- payload --- */

uint32_t pc_oracle_next_version(struct pc_oracle *oracle); /* never given twice */
void pc_oracle_fill(const struct pc_oracle *oracle, void *buf, uint32_t blk, uint32_t len_blk, uint32_t version);
struct pc_seen pc_oracle_look(const struct pc_oracle *oracle, uint32_t blk, const void *buf);
/* Says in words what a block holds, run by run. */
void pc_oracle_describe(const struct pc_oracle *oracle, uint32_t blk, const void *buf, char *text, size_t text_bytes);

/* --- what happens --- */

/* A unit begins (one at a time); not atomic: its blocks are units of their own (a write above the atomic maximum). */
void pc_oracle_begin(struct pc_oracle *oracle, bool atomic);
/* It covers these blocks; where its ranges overlap, the later one counts. */
void pc_oracle_put(struct pc_oracle *oracle, uint32_t blk, uint32_t len_blk, uint32_t version, bool zero);
/* It completed, or failed and changed nothing. durable: it had the durable flag. */
void pc_oracle_end(struct pc_oracle *oracle, bool ok, bool durable);
/* A unit that is not atomic failed: blk keeps the new version if kept. Call for each of its blocks, then pc_oracle_end(ok). */
void pc_oracle_resolve(struct pc_oracle *oracle, uint32_t blk, bool kept);
/* A flush (or close) that returned 0. ends_epoch: the application asked for it. */
void pc_oracle_flushed(struct pc_oracle *oracle, bool ends_epoch);
uint32_t pc_oracle_pending_nr(const struct pc_oracle *oracle);
/* Counts everything that changes what the oracle accepts. */
uint64_t pc_oracle_changes(const struct pc_oracle *oracle);
/* A hash of the newest version of each block. */
uint64_t pc_oracle_hash(const struct pc_oracle *oracle);

/* --- what is seen --- */

/* G1: a live read. */
bool pc_oracle_check_live(struct pc_oracle *oracle, uint32_t blk, const void *buf);
/* Version of the newest entry of a block, and whether it is zero. */
struct pc_seen pc_oracle_newest(const struct pc_oracle *oracle, uint32_t blk);

/* After a crash and a successful open: image holds block_nr blocks as read. Checks, and collapses to what was seen. */
bool pc_oracle_recover(struct pc_oracle *oracle, const uint8_t *image);
/* The same, but nothing is known of the blocks with lost[blk] (reads of them fail), and the history stays. lost NULL: none. */
bool pc_oracle_recover_but(struct pc_oracle *oracle, const uint8_t *image, const bool *lost);
/* Whether a block ever held this. */
bool pc_oracle_knows(const struct pc_oracle *oracle, uint32_t blk, const struct pc_seen *seen);

/*
 * A disk: what a power cut leaves for certain, what reads see, and the writes that are not flushed, by blocks of the cache in issue order. A block is what its payload says, so the
 * bytes are not kept: a write is decoded, and a read makes them anew.
 */
struct pc_oracle_disk_write {
	uint32_t blk;
	struct pc_seen seen;
	bool forgotten; /* a flush failed: no later one makes it durable, but a power cut may keep it */
};
struct pc_oracle_disk {
	uint32_t block_nr;
	struct pc_seen durable[PC_ORACLE_BLOCK_NR_MAX];
	struct pc_seen live[PC_ORACLE_BLOCK_NR_MAX];
	struct pc_oracle_disk_write *pending;
	uint32_t pending_nr;
	uint32_t pending_max;
};
void pc_oracle_disk_init(struct pc_oracle_disk *disk);
void pc_oracle_disk_fini(struct pc_oracle_disk *disk);
bool pc_oracle_disk_copy(struct pc_oracle_disk *to, const struct pc_oracle_disk *from); /* false: no memory */
void pc_oracle_disk_load(const struct pc_oracle *oracle, struct pc_oracle_disk *disk, const uint8_t *image);
/* All blocks hold version 1. */
void pc_oracle_disk_format(const struct pc_oracle *oracle, struct pc_oracle_disk *disk);
/* What it holds was written by somebody who did not flush: a power cut may leave zeroes of it. */
void pc_oracle_disk_unflush(struct pc_oracle_disk *disk);
/* Makes to what a power cut leaves of from that keeps the pending writes with keep[i]. */
void pc_oracle_disk_cut(struct pc_oracle_disk *to, const struct pc_oracle_disk *from, const uint8_t *keep);
void pc_oracle_disk_read(const struct pc_oracle *oracle, const struct pc_oracle_disk *disk, uint32_t blk, uint32_t len_blk, uint8_t *buf);
/* One write of len_blk blocks; buf NULL: zeroes. False: no memory, or a block is torn or misplaced. */
bool pc_oracle_disk_write(struct pc_oracle *oracle, struct pc_oracle_disk *disk, uint32_t blk, uint32_t len_blk, const uint8_t *buf);
void pc_oracle_disk_flush(struct pc_oracle_disk *disk);
void pc_oracle_disk_flush_failed(struct pc_oracle_disk *disk);

/* G7 for all subsets of the pending writes at once. In ordering batch: only versions that exist, none from before the last drain. */
bool pc_oracle_check_backing(struct pc_oracle *oracle, const struct pc_oracle_disk *disk);
/* A drain returned 0: the durable backing alone is the newest state. Later it never goes back behind that. */
bool pc_oracle_drained(struct pc_oracle *oracle, const struct pc_oracle_disk *disk);

#endif
