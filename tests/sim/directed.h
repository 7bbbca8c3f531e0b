/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Directed generators: plans that drive a cache into a situation which random operations meet seldom. A part of the ordinary seeds are such plans; --directed runs
 * one kind alone. For each kind there are counters that say whether the situation was met (enum pc_reached).
 */
#ifndef PC_SIM_DIRECTED_H
#define PC_SIM_DIRECTED_H

#include "sim/generator.h"

uint32_t pc_directed_nr(void);
const char *pc_directed_name(uint32_t kind);
const char *pc_directed_help(uint32_t kind);
bool pc_directed_find(const char *name, uint32_t *out_kind); /* out_kind may be NULL */
/* The plan of this kind with this seed. */
void pc_directed_plan(uint32_t kind, uint64_t seed, struct pc_crash_plan *out_plan);

/* --- what the first cache of a seed has met --- */

enum pc_reached {
	PC_REACHED_DATA_FULL, /* a writer found no room: error or wait */
	PC_REACHED_NO_FREE_SEGS, /* no segment was free beyond those that are left to the log */
	PC_REACHED_LOG_FULL, /* the log had as many segments as it may */
	PC_REACHED_LOG_RESERVE, /* the head was beyond the writers' limit */
	PC_REACHED_LOG_SEGS, /* log segments that the head has entered */
	PC_REACHED_LOG_ROUNDS, /* rounds of the ring of log segments */
	PC_REACHED_LOG_LAST_SLOT, /* the head stood at the last slot of a segment */
	PC_REACHED_LOG_PADS, /* ksets that did not fit the rest of a segment */
	PC_REACHED_CLEANED_SEGS, /* log segments freed by cleaning */
	PC_REACHED_RELOGGED_SLOTS, /* slots that cleaning appended */
	PC_REACHED_EVICTED_SEGS,
	PC_REACHED_WRITEBACKS, /* backing flushes */
	PC_REACHED_REOPENS,
	PC_REACHED_IDLE_REOPENS, /* two in a row with nothing in between */
	PC_REACHED_CRASHES, /* power cuts as an operation */
	PC_REACHED_CUT_OPENS, /* power cuts inside the open after such a power cut */
	PC_REACHED_PART_FILLED, /* segments that an open found part-filled */
	PC_REACHED_FRAGMENTS, /* most extents in the index */
	PC_REACHED_EPOCHS, /* most epochs that write-back had before it */
	PC_REACHED_DISCARD_ALL, /* discards or zeroes of the whole backing */
	PC_REACHED_BACKING_ERRORS,
	PC_REACHED_FLUSH_ERRORS, /* failed flushes of the backing */
	PC_REACHED_HIGH_COUNTERS, /* log positions beyond 32 bits */
	PC_REACHED_NR
};
const char *pc_reached_name(enum pc_reached what);
/* Some counters are maxima, the others sums. */
bool pc_reached_is_max(enum pc_reached what);
/* Whether a directed plan of this kind exists for the sake of this counter. */
bool pc_directed_aims_at(uint32_t kind, enum pc_reached what);

#endif
