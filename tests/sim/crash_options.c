/* SPDX-License-Identifier: BSD-3-Clause */
/* Command line of pcache-crash-sim: one table, from which the help is printed too. */
#include "sim/crash_options.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/crash_path.h"
#include "sim/directed.h"
#include "sim/exhaustive.h"
#include "sim/plants.h"

enum kind { FLAG, NUMBER, TEXT, PART };

static const struct option {
	const char *name;
	const char *value; /* in the help */
	enum kind kind;
	size_t offset;
	const char *help;
} options_known[] = {
	{"seconds", "N", NUMBER, offsetof(struct crash_options, seconds), "stop after the seed during which N seconds have passed (60, unless --seeds or --states is given)"},
	{"seed", "S", NUMBER, offsetof(struct crash_options, seed), "first seed (1); the next ones follow"},
	{"seeds", "N", NUMBER, offsetof(struct crash_options, seeds), "stop after N seeds"},
	{"states", "N", NUMBER, offsetof(struct crash_options, states), "stop after N crash states"},
	{"depth", "N", NUMBER, offsetof(struct crash_options, depth), "power cuts in a row, 1 to 4 (2)"},
	{"thorough", NULL, FLAG, offsetof(struct crash_options, thorough), "every crash point and many images of each"},
	{"only", "TEXT", TEXT, offsetof(struct crash_options, only), "run only seeds whose cache is described so (see --plan), e.g. \"page commit=flush ordering=batch\""},
	{"directed", "NAME", TEXT, offsetof(struct crash_options, directed), "run only seeds that drive the cache into this situation (list below)"},
	{"exhaustive", "LEN", NUMBER, offsetof(struct crash_options, exhaustive), "instead of seeds: all sequences of LEN operations, 1 to 3 (below)"},
	{"part", "I/N", PART, 0, "of these, every N-th from the I-th on"},
	{"images", "TEXT", TEXT, offsetof(struct crash_options, images), "of these: few, or all of the first power cut (\"first\"), or of both (\"all\") (first for LEN 1, else few)"},
	{"replay", "TEXT", TEXT, offsetof(struct crash_options, replay), "go only the way that a violation has printed"},
	{"replay-file", "FILE", TEXT, offsetof(struct crash_options, replay_file), "the same for each line of FILE that is not empty and does not begin with #"},
	{"emit-test", "FILE", TEXT, offsetof(struct crash_options, emit_test), "write a violation as a test of its own (tests/sim/test_kept_NAME.c)"},
	{"no-shrink", NULL, FLAG, offsetof(struct crash_options, no_shrink), "print a violation as it was found"},
	{"tries", "N", NUMBER, offsetof(struct crash_options, tries), "attempts to make a violation smaller (20000)"},
	{"isolate", NULL, FLAG, offsetof(struct crash_options, isolate), "attempts in a child each: for a --replay of which the library dies"},
	{"plan", NULL, FLAG, offsetof(struct crash_options, plan), "print the operations of the first seed and stop"},
	{"trace", NULL, FLAG, offsetof(struct crash_options, trace), "print every operation and every crash state"},
	{"json", NULL, FLAG, offsetof(struct crash_options, json), "print one line of JSON"},
	{"sites", NULL, FLAG, offsetof(struct crash_options, sites), "print the places that called flush, fence or sync: offset in this program (for addr2line), operation, calls"},
	{"skip-site", "OFFSET", NUMBER, offsetof(struct crash_options, skip_site), "the call at this place does nothing"},
	{"plant", "NAME", TEXT, offsetof(struct crash_options, plant), "switch on a planted defect (list below)"},
};

static void help_exhaustive(FILE *out)
{
	fprintf(out, "sequences of --exhaustive, over %u caches:", pc_exhaustive_shape_nr());
	for (uint32_t len = 1; len <= PC_EXHAUSTIVE_LEN_MAX; len++)
		fprintf(out, " LEN %u: %" PRIu64, len, pc_exhaustive_count(len));
	fprintf(out, "\n%s", pc_exhaustive_help());
}

static void help(FILE *out)
{
	fprintf(out, "usage: pcache-crash-sim [OPTION]...\n");
	for (size_t i = 0; i < PC_ARRAY_NR(options_known); i++) {
		char name[40];

		snprintf(name, sizeof(name), "--%s %s", options_known[i].name, options_known[i].value == NULL ? "" : options_known[i].value);
		fprintf(out, "  %-20s %s\n", name, options_known[i].help);
	}
	fprintf(out, "planted defects:");
	for (uint32_t i = 0; i < pc_plant_nr(); i++) {
		if (pc_plant_name(i) != NULL)
			fprintf(out, " %s", pc_plant_name(i));
	}
	fprintf(out, "\nsituations, which one seed in four is about:\n");
	for (uint32_t i = 0; i < pc_directed_nr(); i++)
		fprintf(out, "  %-20s %s\n", pc_directed_name(i), pc_directed_help(i));
	help_exhaustive(out);
}

static void mistake(const char *what, const char *value)
{
	fprintf(stderr, "pcache-crash-sim: %s: %s\n", what, value);
	exit(2);
}

static uint64_t to_number(const char *text)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno != 0 || end == text || *end != '\0' || *text == '-')
		mistake("not a number", text);
	return value;
}

static void set_part(struct crash_options *options, const char *text)
{
	char *end;

	options->part = strtoull(text, &end, 10);
	if (*end != '/')
		mistake("not a part like 2/8", text);
	options->part_nr = to_number(end + 1);
	if (options->part == 0 || options->part > options->part_nr)
		mistake("not a part like 2/8", text);
}

static void set(struct crash_options *options, const struct option *option, const char *value)
{
	uint8_t *at = (uint8_t *)options + option->offset;
	const bool yes = true;
	uint64_t number;

	switch (option->kind) {
	case FLAG:
		memcpy(at, &yes, sizeof(yes));
		break;
	case NUMBER:
		number = to_number(value);
		memcpy(at, &number, sizeof(number));
		break;
	case TEXT:
		memcpy(at, &value, sizeof(value));
		break;
	case PART:
		set_part(options, value);
		break;
	}
}

static void check(struct crash_options *options)
{
	if (options->depth < 1 || options->depth > PC_CRASH_DEPTH_MAX)
		mistake("depth is 1 to 4", "--depth");
	if (options->exhaustive > PC_EXHAUSTIVE_LEN_MAX)
		mistake("LEN is 1 to 3", "--exhaustive");
	if (options->images == NULL)
		options->images = options->exhaustive == 1 ? "first" : "few";
	if (strcmp(options->images, "few") != 0 && strcmp(options->images, "first") != 0 && strcmp(options->images, "all") != 0)
		mistake("images are few, first or all", options->images);
	if (options->directed != NULL && !pc_directed_find(options->directed, NULL))
		mistake("no such situation", options->directed);
	if (options->plant != NULL && !pc_plant_switch_on(options->plant))
		mistake("no such plant", options->plant);
	if (options->seconds == 0 && options->states == 0 && options->seeds == 0)
		options->seconds = 60;
}

struct crash_options crash_options_parse(int argc, char **argv)
{
	struct crash_options options = {.seed = 1, .depth = 2, .tries = 20000, .part = 1, .part_nr = 1};

	for (int i = 1; i < argc; i++) {
		size_t at = 0;

		if (strcmp(argv[i], "--help") == 0) {
			help(stdout);
			exit(0);
		}
		while (at < PC_ARRAY_NR(options_known) && (strncmp(argv[i], "--", 2) != 0 || strcmp(argv[i] + 2, options_known[at].name) != 0))
			at++;
		if (at == PC_ARRAY_NR(options_known))
			mistake("no such option, see --help", argv[i]);
		if (options_known[at].kind != FLAG && i + 1 == argc)
			mistake("a value is missing after", argv[i]);
		set(&options, &options_known[at], options_known[at].kind == FLAG ? NULL : argv[i + 1]);
		i += options_known[at].kind != FLAG;
	}
	check(&options);
	return options;
}
