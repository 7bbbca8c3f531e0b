/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One seed of the scheduler simulator: a small cache on simulated media and a simulated disk, two to five simulated threads that use it at the same time, in an order drawn
 * from the seed, power cuts at yield points, recovery of every image, checks by the oracle, and again from there.
 */
#ifndef PC_SIM_SCHED_RUN_H
#define PC_SIM_SCHED_RUN_H

#include "base/types.h"

#define SCHED_RUN_DEPTH_MAX 3u

struct sched_run_settings {
	uint64_t seed;
	uint32_t depth; /* power cuts in a row, 1 .. SCHED_RUN_DEPTH_MAX */
	uint64_t states_max; /* stop after so many crash states; 0: no limit */
	bool trace; /* print every step on stderr */
};

struct sched_run_result {
	uint64_t states; /* crash images that were recovered and checked */
	uint64_t distinct; /* of these, different ones */
	uint64_t undecided; /* of these, left alone by the oracle */
	uint64_t slowed, waited; /* writes that were slowed down; that waited for space */
	uint64_t steps; /* yield points passed while the first cache lived */
	uint64_t calls; /* calls of the library by simulated threads */
	uint64_t digest; /* of the schedule and of all crash images */
	uint32_t depth; /* most power cuts in a row */
	uint64_t cuts[64]; /* power cuts by yield point */
	bool failed;
	char text[12000]; /* what was wrong, and where */
};

/* Runs one seed. The same settings give the same result. */
void sched_run_seed(const struct sched_run_settings *settings, struct sched_run_result *out_result);

/* Describes the cache and the threads that a seed draws. */
void sched_run_text(uint64_t seed, char *text, size_t text_bytes);

/* For a signal handler: where the run is, by write(2) on stderr. */
void sched_run_print_where(void);

#endif
