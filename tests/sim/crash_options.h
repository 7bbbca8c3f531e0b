/* SPDX-License-Identifier: BSD-3-Clause */
/* Command line of pcache-crash-sim. */
#ifndef PC_SIM_CRASH_OPTIONS_H
#define PC_SIM_CRASH_OPTIONS_H

#include "base/types.h"

struct crash_options {
	uint64_t seconds;
	uint64_t seed;
	uint64_t seeds; /* 0: no limit */
	uint64_t states; /* 0: no limit */
	uint64_t depth;
	uint64_t tries; /* of the reducer */
	uint64_t exhaustive; /* length; 0: not */
	uint64_t part; /* 1 .. part_nr */
	uint64_t part_nr;
	uint64_t skip_site; /* offset in this program; 0: none */
	const char *only; /* run only seeds whose cache is described so; NULL: all */
	const char *images; /* of short sequences: few, first, all */
	const char *directed; /* run only seeds of this kind; NULL: all */
	const char *replay; /* text of kept_text.h */
	const char *replay_file; /* lines of it */
	const char *emit_test; /* file */
	const char *plant;
	bool json;
	bool thorough;
	bool trace;
	bool no_shrink;
	bool plan;
	bool sites;
	bool isolate;
};

/* Exits with 0 after --help, with 2 after a mistake. Switches the plant on. */
struct crash_options crash_options_parse(int argc, char **argv);

#endif
