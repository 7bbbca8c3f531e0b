/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One seed of the crash simulator: a cache on simulated media and a simulated disk, a sequence of operations, power cuts at chosen points, recovery of
 * every image, checks by the oracle, and again from there.
 */
#ifndef PC_SIM_CRASH_RUN_H
#define PC_SIM_CRASH_RUN_H

#include "sim/crash_path.h"
#include "sim/directed.h"
#include "sim/generator.h"

struct pc_crash_settings {
	uint64_t seed;
	const struct pc_crash_plan *plan; /* cache and operations; NULL: drawn from the seed. Crash points and images come from the seed in any case. */
	const struct pc_crash_path *path; /* go only this way, without any random choice; NULL: explore */
	const struct pc_crash_every *every; /* the plan is a short sequence: all crash points, images and continuations of it; NULL: by chance */
	uint32_t depth; /* power cuts in a row, 1 .. PC_CRASH_DEPTH_MAX */
	uint64_t states_max; /* stop after so many crash states; 0: no limit */
	uint32_t op_limit; /* operations of the seed that are run; 0: all */
	const bool *skip; /* PC_CRASH_OP_NR_MAX flags: operations that are left out; NULL: none */
	bool thorough; /* every crash point, many more images */
	bool trace; /* print every operation and crash state on stderr */
	bool keep_media; /* for the next run, which then need not map its own */
	const void *skip_site; /* this call of flush, fence or sync does nothing; NULL: none */
};

/*
 * A short sequence: the operations of the plan from shape.warm_nr on. The power is cut at every crash point of each of them, and after the recovery the rest of the sequence
 * goes on, in which it is cut again: at every crash point of the open if the first cut was in the last operation, else of the last operation. What
 * lies in between are sequences of their own, shorter ones.
 */
struct pc_crash_every {
	bool all_first; /* all images of the last operation, else a few */
	bool all_second; /* and of the second cut */
};

#define PC_CRASH_SITE_NR_MAX 128u
struct pc_crash_site { /* a place in the library that calls flush, fence or sync */
	const void *address;
	const char *op;
	uint64_t calls;
};

#define PC_CRASH_ZONE_NR 6u
struct pc_crash_result {
	uint64_t digest; /* of every state: image, what was recovered, verdict; the same on every machine and in every build */
	uint64_t states; /* crash images that were recovered and checked */
	uint64_t distinct; /* of these, different ones */
	uint64_t damages[PC_CRASH_ZONE_NR]; /* by zone: caches whose media was damaged, see crash_damage.c */
	uint64_t checks; /* runs of pcache check */
	uint64_t points; /* places where the power could be cut, while crash points were taken */
	uint64_t points_taken; /* all of them, with thorough */
	uint32_t depth; /* most power cuts in a row */
	uint32_t op_nr; /* operations of the seed */
	uint32_t points_left_out; /* settings.every: crash points for which there was no room; must be 0 */
	uint32_t busy; /* settings.every: bit i: operation shape.warm_nr + i did something, in some world */
	uint32_t failed_op; /* operation (of the first cache) during or after which it happened */
	bool failed;
	uint64_t reached[PC_REACHED_NR]; /* what the first cache has met */
	uint32_t site_nr;
	struct pc_crash_site sites[PC_CRASH_SITE_NR_MAX];
	char text[4096]; /* what was wrong, and where */
	uint32_t cuts_reached; /* of settings.path */
	struct pc_crash_path path; /* if failed: goes there again, see crash_path.h */
};

/* Runs one seed. The same settings give the same result. */
void pc_crash_run(const struct pc_crash_settings *settings, struct pc_crash_result *out_result);

/* Describes the cache that a seed draws. */
void pc_crash_shape_text(uint64_t seed, char *text, size_t text_bytes);

/* Prints shape and operations of a seed on stderr, without those that are skipped. */
void pc_crash_print_plan(const struct pc_crash_settings *settings);

/* The path that the run is on; for a handler of a signal that ends the program. False: there is no run. */
bool pc_crash_path_now(struct pc_crash_path *out_path);

/* For a signal handler: where the run is, by write(2) on stderr. */
void pc_crash_print_where(void);

#endif
