/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reducer: makes a violation small. It drops operations, power cuts, words, events, shortens ranges, moves them to the front, and makes the cache simpler, as long as the
 * path still ends in the same kind of violation: the same text up to its first number. Every attempt follows one path and takes about a millisecond.
 */
#ifndef PC_SIM_REDUCE_H
#define PC_SIM_REDUCE_H

#include "sim/crash_run.h"
#include "sim/kept_text.h"

/* One attempt: pc_crash_run with plan and path of kept, or the same in a child process. */
typedef void (*pc_reduce_attempt)(const struct pc_kept *kept, struct pc_crash_result *out_result);

/* In this process. */
void pc_reduce_here(const struct pc_kept *kept, struct pc_crash_result *out_result);
/* In a child, so that a death of the library is a violation too ("died of signal 6"). */
void pc_reduce_forked(const struct pc_kept *kept, struct pc_crash_result *out_result);

struct pc_reduce_stats {
	uint32_t tries;
	uint32_t op_nr_before;
	uint32_t word_runs_before;
};

/* kept is a violation (result) that attempt repeats. Both are replaced by the smaller one. At most tries_max attempts. */
void pc_reduce(struct pc_kept *kept, struct pc_crash_result *result, pc_reduce_attempt attempt, uint32_t tries_max, struct pc_reduce_stats *out_stats);

/* Whether two violations are of the same kind. */
bool pc_reduce_same_kind(const struct pc_crash_result *a, const struct pc_crash_result *b);

/* The plan and the path as a table on stderr. */
void pc_reduce_print(const struct pc_kept *kept);

#endif
