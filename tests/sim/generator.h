/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Generator: draws, from a seed alone, a small cache and a sequence of operations on it.
 *
 * Offsets are skewed: most ranges are made from an earlier one (equal, its head, its tail, around it, inside it), so that overlaps of all kinds occur within tens of
 * operations; the rest fall into a hot zone or anywhere.
 */
#ifndef PC_SIM_GENERATOR_H
#define PC_SIM_GENERATOR_H

#include "base/types.h"

/* --- random numbers: the same on every machine --- */

struct pc_rng {
	uint64_t state;
};

uint64_t pc_rng_mix(uint64_t x); /* a good hash of one word */
uint64_t pc_rng_next(struct pc_rng *rng);
uint32_t pc_rng_below(struct pc_rng *rng, uint32_t limit); /* 0 .. limit - 1; limit 0 gives 0 */
bool pc_rng_chance(struct pc_rng *rng, uint32_t pct);

/* --- the cache --- */

struct pc_gen_shape {
	uint64_t media_bytes;
	uint32_t segment_bytes;
	uint32_t block_bytes;
	uint32_t backing_blk;
	uint32_t shard_nr;
	uint32_t stripe_bytes;
	uint32_t data_head_nr;
	uint32_t kset_max_keys;
	uint32_t gc_pct;
	bool page; /* granularity page, else cache line or byte */
	bool byte;
	bool commit_flush;
	bool order_batch;
	bool data_crc;
	bool guard_fence;
	bool read_cache;
	bool full_error;
	bool write_through; /* of the backing */
	bool faults; /* calls of the backing fail now and then */
	bool old_cache; /* format finds an older cache with dirty data */
	uint32_t high; /* 1 .. 4: generations, sequence numbers and ordinals begin high, see crash_reached.c; 0: as format leaves them */
	uint32_t flush_fault_pct; /* of the flushes of the backing, if faults; 0: as usual */
	uint32_t warm_nr; /* operations before the first crash point */
	uint32_t op_nr; /* all */
	uint32_t mix; /* which weights the operations have */
};

void pc_gen_shape(struct pc_rng *rng, struct pc_gen_shape *out_shape);
void pc_gen_shape_to_text(const struct pc_gen_shape *shape, char *text, size_t text_bytes);

/* --- operations --- */

enum pc_gen_kind {
	PC_GEN_WRITE,
	PC_GEN_DURABLE,
	PC_GEN_BATCH,
	PC_GEN_FLUSH,
	PC_GEN_DISCARD,
	PC_GEN_ZEROES,
	PC_GEN_READ,
	PC_GEN_WRITEBACK,
	PC_GEN_EVICT,
	PC_GEN_CLEAN,
	PC_GEN_MAINTAIN,
	PC_GEN_DRAIN,
	PC_GEN_REOPEN,
	PC_GEN_CRASH, /* a power cut, and the same world goes on: see crash_again.c */
	PC_GEN_GOES, /* another mode of the writes: PCACHE_MODE_* in arg */
	PC_GEN_KIND_NR
};

#define PC_GEN_RANGE_NR_MAX 6u

struct pc_gen_range {
	uint32_t blk;
	uint32_t len_blk;
};

struct pc_gen_op {
	enum pc_gen_kind kind;
	uint32_t range_nr;
	struct pc_gen_range ranges[PC_GEN_RANGE_NR_MAX];
	uint32_t arg; /* MAINTAIN: steps; WRITEBACK, EVICT, CLEAN: 1 forced; READ: flags; WRITE, ZEROES, DISCARD: 1 no wait; BATCH: bit 0 durable; CRASH: seed; GOES: mode */
	uint32_t nr; /* what crash points and images during it are drawn from, together with the seed; 0: its place in the plan */
	uint32_t hot_blk; /* hot zone of those who draw operations after it */
	uint32_t drawn_blk[PC_GEN_RANGE_NR_MAX]; /* lengths of the ranges before a batch was cut to its maximum; 0: as in ranges */
};

/* What the generator remembers of earlier ranges. */
struct pc_gen_memory {
	uint32_t nr;
	struct pc_gen_range recent[16];
	uint32_t hot_blk;
};

void pc_gen_op(struct pc_rng *rng, const struct pc_gen_shape *shape, struct pc_gen_memory *memory, struct pc_gen_op *out_op);
void pc_gen_op_to_text(const struct pc_gen_op *op, char *text, size_t text_bytes);

/* Changes memory as drawing this operation did. */
void pc_gen_remember(struct pc_gen_memory *memory, const struct pc_gen_op *op);

/* --- plans: all that a seed does in the first world --- */

#define PC_CRASH_OP_NR_MAX 1024u
#define PC_CRASH_OLD_OP_NR_MAX 130u

struct pc_crash_plan {
	struct pc_gen_shape shape;
	uint32_t directed; /* kind of directed.h plus 1; 0: none */
	uint32_t old_op_nr; /* operations on the cache that format finds, if shape.old_cache */
	uint32_t op_nr;
	bool old_only_writes; /* of old_ops, only those that write are run */
	struct pc_gen_op old_ops[PC_CRASH_OLD_OP_NR_MAX];
	struct pc_gen_op ops[PC_CRASH_OP_NR_MAX];
};

/* The plan of a seed. */
void pc_gen_plan(uint64_t seed, struct pc_crash_plan *out_plan);

#endif
