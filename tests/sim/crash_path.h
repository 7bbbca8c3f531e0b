/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One way through the crash simulator, said in full: which power cuts, which stores each of them keeps, what the caches after them do. With a plan it
 * repeats one crash state without any random choice, so operations can be left out and words dropped one by one.
 *
 * World 0 is the cache that the plan works on, world n the one after n power cuts. What a world does is numbered in steps: step 0 is format and first open, or the
 * open after the power cut; step n is its nth operation (from 1); the step after the last one is its end: everything is read, perhaps drained. The crash
 * points of a step are numbered from 1.
 */
#ifndef PC_SIM_CRASH_PATH_H
#define PC_SIM_CRASH_PATH_H

#include "sim/generator.h"

#define PC_CRASH_DEPTH_MAX 4u
#define PC_CRASH_COURSE_OP_NR_MAX 16u
#define PC_CRASH_EVENT_NR_MAX 512u
#define PC_CRASH_RUN_NR_MAX 2048u

/* Which of many things, in the order they were made: all but the runs, or none but the runs. */
struct pc_crash_some {
	bool rest; /* of those outside the runs; those inside are the other way round */
	uint32_t run_nr;
	struct {
		uint32_t first;
		uint32_t nr;
	} runs[PC_CRASH_RUN_NR_MAX]; /* ascending */
};

/* One power cut. */
struct pc_crash_cut {
	uint32_t step;
	uint32_t point;
	bool killed; /* no power cut: the process died, its stores are in the processor's caches, the disk goes on */
	struct pc_crash_some words; /* pending stores of the media that persist */
	struct pc_crash_some disk; /* pending writes of the disk that persist, by block of the cache */
	uint64_t bit_off; /* byte in which a bit turns; 0: none */
	uint32_t bit;
};

/* What else happens in a world. */
enum pc_crash_event_kind {
	PC_CRASH_EVENT_FAULT = 'f', /* the nth call of the backing in this step fails */
	PC_CRASH_EVENT_DEAD = 'x', /* from the nth call of the backing in this step on, many calls in a row fail */
	PC_CRASH_EVENT_RETRY = 'r', /* the cache was full: drain, and the write again */
	PC_CRASH_EVENT_PROBE = 'p', /* step 0: a read-only open comes first */
	PC_CRASH_EVENT_DRAIN = 'd', /* at the end: drain */
	PC_CRASH_EVENT_DAMAGE = 'b', /* at the end: damaged media; nr is the seed, see crash_damage.c */
	PC_CRASH_EVENT_MODE = 'm', /* step 0: opens in another mode; nr is the bits that change, see crash_mode.c */
};

struct pc_crash_event {
	uint8_t kind;
	uint32_t step;
	uint32_t nr; /* decisions of this kind in this step, from 1 */
};

struct pc_crash_course {
	uint32_t op_nr;
	uint32_t event_nr;
	struct pc_gen_op ops[PC_CRASH_COURSE_OP_NR_MAX]; /* of world 0: in the plan */
	struct pc_crash_event events[PC_CRASH_EVENT_NR_MAX];
};

struct pc_crash_path {
	uint32_t cut_nr;
	bool lossy; /* it had more runs, operations or events than fit */
	struct pc_crash_cut cuts[PC_CRASH_DEPTH_MAX];
	struct pc_crash_course courses[PC_CRASH_DEPTH_MAX + 1]; /* courses[n]: of world n */
};

/* Whether the idx-th is one of them. */
bool pc_crash_some_has(const struct pc_crash_some *some, uint32_t idx);
/* Says it in the shortest way of the two; flags has nr entries. False: more runs than fit. */
bool pc_crash_some_set(struct pc_crash_some *some, const uint8_t *flags, uint32_t nr);
/* Whether this happens. */
bool pc_crash_course_has(const struct pc_crash_course *course, uint8_t kind, uint32_t step, uint32_t nr);

#endif
