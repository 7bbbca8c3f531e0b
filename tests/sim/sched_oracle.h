/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Oracle for calls that run at the same time: every call has an interval, from the stamp at which it began to the stamp at which it returned.
 *
 * A unit is what is all or nothing: one write, batch, discard or write of zeroes. A unit precedes another if it ended before the other began; of two that overlap in time
 * either may come first, until somebody reads. What each block was read as, and when, orders the versions of that block.
 *
 *     live      G1   each block is a register that can be linearised: no read returns what a newer completed write, or a read that ended before, has ruled out
 *     crash     G2   every unit that was durable is there; with commit mode `write` also what a completed read has returned
 *               G3   each block holds one whole version
 *               G4   a unit is there in all its blocks or in none
 *               G6   one order of all units that are there fits what was read after the crash, the order in time, and all earlier reads
 *     collapse  G5   after recovery what was seen is read again, and what was not there never comes
 *     backing   G7   no write that began after a flush had ended, unless all that had ended before that flush began are there: for every subset of the disk's unflushed writes
 *
 * Units that may or may not have happened are kept as such, so every check is a necessary condition: a violation is one. What can escape: where blocks of zeroes leave a choice,
 * the choice that fits is taken, for each check anew, and where there are too many choices the crash state counts as undecided.
 *
 * Checks return false and leave a text in so_text().
 */
#ifndef PC_SIM_SCHED_ORACLE_H
#define PC_SIM_SCHED_ORACLE_H

#include "base/types.h"

#define SO_BLOCK_NR_MAX 512u
#define SO_UNIT_NR_MAX 1024u

struct so_options {
	uint32_t block_nr; /* at most SO_BLOCK_NR_MAX */
	uint32_t block_bytes; /* 512 or 4096 */
	bool commit_flush; /* commit mode flush, else write */
	bool order_batch; /* ordering batch, else strict */
};

struct so; /* the oracle of one cache and its backing */

/* All blocks hold version 1. */
struct so *so_new(const struct so_options *options);
struct so *so_clone(const struct so *so);
void so_free(struct so *so);
const char *so_text(const struct so *so);

/* --- payload --- */

uint32_t so_next_version(struct so *so); /* never given twice */
void so_fill(const struct so *so, void *buf, uint32_t blk, uint32_t len_blk, uint32_t version);

/* --- calls --- */

uint64_t so_stamp(struct so *so); /* the time, which each call of it moves on */
uint64_t so_now(const struct so *so); /* the last stamp: while it stays, the oracle accepts the same */
/* A unit begins. Its ranges (so_put) do not overlap. */
uint32_t so_begin(struct so *so);
void so_put(struct so *so, uint32_t unit, uint32_t blk, uint32_t len_blk, uint32_t version, bool zero);
/* It returned; failed: it changed nothing. durable: it had the durable flag. False: a read has returned what failed. */
bool so_end(struct so *so, uint32_t unit, bool ok, bool durable);
/* A flush that began at begin returned 0. ends_epoch: the application asked for it (else it is a part of drain or close, which may but need not end an epoch). */
void so_flushed(struct so *so, uint64_t begin, bool ends_epoch);
/* A read that began at begin returned these bytes. */
bool so_read(struct so *so, uint64_t begin, uint32_t blk, uint32_t len_blk, const uint8_t *buf);

/* --- crash --- */

enum so_verdict {
	SO_WRONG,
	SO_RIGHT,
	SO_UNDECIDED /* too many ways in which zeroes may have come about; the oracle is of no use any more */
};
/* The oracle of the cache after a crash now, of which image was read. Checks and, if right, collapses. */
enum so_verdict so_recover(struct so *so, const uint8_t *image);

/* --- the backing --- */

struct so_disk_write {
	uint32_t blk;
	uint32_t version;
	bool zero;
};

struct so_disk {
	struct so_disk_write durable[SO_BLOCK_NR_MAX];
	struct so_disk_write *pending;
	uint32_t pending_nr;
	uint32_t pending_max;
};

void so_disk_fini(struct so_disk *disk);
/* A disk with this content, all durable. False: some block is torn or misplaced. */
bool so_disk_load(struct so *so, struct so_disk *disk, const uint8_t *image);
void so_disk_copy(struct so_disk *to, const struct so_disk *from);
/* buf NULL: zeroes. False as above. */
bool so_disk_write(struct so *so, struct so_disk *disk, uint32_t blk, uint32_t len_blk, const uint8_t *buf);
void so_disk_flush(struct so_disk *disk);
/* G7 for every subset of the unflushed writes. */
bool so_check_backing(struct so *so, const struct so_disk *disk);
/* A drain that began at begin returned 0: everything that had ended before is on the disk, durable, and never goes back. */
bool so_drained(struct so *so, uint64_t begin, const struct so_disk *disk);

#endif
