/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every short sequence of operations, one after the other, over small caches of all kinds.
 *
 * Before the sequence the range R = [8,+4) of the backing is absent from the cache, clean, dirty, or aged (clean, its key in the oldest log segment, and the log about
 * to enter the next one). An operation with a range meets R in one of six ways: equal, head, tail, contain, contained, disjoint.
 *
 * A crash is no operation of its own: at every crash point of every operation the power is cut, and after the recovery the rest of the sequence goes on. So the sequences of
 * length n include all those with crashes in between.
 *
 * Left out, for reasons of symmetry: with commit=write the durable write, which is the same as a write; with R absent all but one way in which the
 * first range meets it. Left out while it runs (pc_exhaustive_skip): everything behind an operation that did nothing at all, since that is
 * a shorter sequence. A fill cannot be in flight while another operation of the same thread runs, so R is never "filling" here.
 */
#ifndef PC_SIM_EXHAUSTIVE_H
#define PC_SIM_EXHAUSTIVE_H

#include "sim/generator.h"

#define PC_EXHAUSTIVE_LEN_MAX 3u

enum pc_overlap { PC_OVERLAP_EQUAL, PC_OVERLAP_HEAD, PC_OVERLAP_TAIL, PC_OVERLAP_CONTAIN, PC_OVERLAP_CONTAINED, PC_OVERLAP_DISJOINT, PC_OVERLAP_NR };
enum pc_lies { PC_LIES_ABSENT, PC_LIES_CLEAN, PC_LIES_DIRTY, PC_LIES_AGED, PC_LIES_NR };

struct pc_exhaustive {
	uint32_t len;
	uint32_t shape_idx;
	uint32_t lies; /* enum pc_lies */
	uint32_t symbols[PC_EXHAUSTIVE_LEN_MAX];
	bool begun;
};

uint32_t pc_exhaustive_shape_nr(void);
/* Sequences of this length over all caches, by formula. */
uint64_t pc_exhaustive_count(uint32_t len);
const char *pc_exhaustive_help(void);

/* Goes over them: begin, then next until it is false. */
void pc_exhaustive_begin(struct pc_exhaustive *e, uint32_t len);
bool pc_exhaustive_next(struct pc_exhaustive *e);
/* The next one differs in symbol at or before it. Returns how many are passed over, the present one not counted. */
uint64_t pc_exhaustive_skip(struct pc_exhaustive *e, uint32_t at);

/* The present one as a plan; the first shape.warm_nr operations are the set-up. */
void pc_exhaustive_plan(const struct pc_exhaustive *e, struct pc_crash_plan *out_plan);

#endif
