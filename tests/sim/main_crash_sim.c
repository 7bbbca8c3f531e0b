/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-crash-sim: runs seed after seed of the crash simulator until time, states or seeds are used up, or a guarantee is broken.
 *
 * A violation is shrunk to few operations and printed with its seed, the operations that are left and the path of power cuts; the exit status is 1 then.
 * Only the choice of when to stop looks at the clock: a seed gives the same result always, and --seed S --seeds 1 repeats it. The library that
 * is linked in has the planted defects of base/plant.h, which --plant switches on.
 */
#include <errno.h>
#include <malloc.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/plant.h"
#include "sim/crash_run.h"

#define SHRINK_TRIES_MAX 400u
#define HANG_CPU_S 120 /* of one seed, which takes a second */
#define HANG_S 900u /* the same on the clock, for a run that sleeps for ever */

struct options {
	uint64_t seconds;
	uint64_t seed;
	uint64_t seeds; /* 0: no limit */
	uint64_t states;
	uint32_t depth;
	bool json;
	bool thorough;
	bool trace;
	bool no_shrink;
	bool plan;
	bool sites;
	const char *only; /* run only seeds whose cache is described so; NULL: all */
	uint64_t skip_site; /* offset in this program; 0: none */
};

extern const char __executable_start[]; /* from the linker */

static const char *const plant_names[] = {
	[PC_PLANT_NONE] = "none",
	[PC_PLANT_NO_WRITE_FENCE] = "no-write-fence",
	[PC_PLANT_KSET_AFTER_ACK] = "kset-after-ack",
	[PC_PLANT_NEWEST_COPY_FIRST] = "newest-copy-first",
	[PC_PLANT_NO_VOIDS_AT_OPEN] = "no-voids-at-open",
};

static uint64_t seed_now;

static void usage(void)
{
	fprintf(stderr,
		"usage: pcache-crash-sim [--seconds N] [--seed S] [--seeds N] [--states N] [--depth N] [--plant NAME] [--json] [--thorough] [--trace] [--no-shrink] "
		"[--plan] [--only TEXT] [--sites] [--skip-site OFFSET]\n"
		"  --seconds N   stop after the seed during which N seconds have passed (60, unless --seeds or --states is given)\n"
		"  --seed S      first seed (1); the next ones follow\n"
		"  --seeds N     stop after N seeds\n"
		"  --states N    stop after N crash states\n"
		"  --depth N     power cuts in a row, 1 to %u (2)\n"
		"  --plant NAME  switch on a planted defect:",
		PC_CRASH_DEPTH_MAX);
	for (size_t i = 0; i < PC_ARRAY_NR(plant_names); i++)
		fprintf(stderr, " %s", plant_names[i]);
	fprintf(stderr, "\n"
			"  --json        print one line of JSON\n"
			"  --thorough    every crash point and many images of each\n"
			"  --trace       print every operation and every crash state\n"
			"  --no-shrink   print a violation as it was found\n"
			"  --plan        print the operations of the first seed and stop\n"
			"  --only TEXT   run only seeds whose cache is described so (see --plan), e.g. \"page commit=flush ordering=batch\"\n"
			"  --sites       print the places that called flush, fence or sync: offset in this program (for addr2line), operation, calls\n"
			"  --skip-site OFFSET  the call at this place does nothing\n");
}

static uint64_t to_number(const char *text)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno != 0 || end == text || *end != '\0') {
		fprintf(stderr, "pcache-crash-sim: not a number: %s\n", text);
		exit(2);
	}
	return value;
}

static void set_plant(const char *name)
{
	for (size_t i = 0; i < PC_ARRAY_NR(plant_names); i++) {
		if (strcmp(plant_names[i], name) == 0) {
			pc_plant = (int)i;
			return;
		}
	}
	fprintf(stderr, "pcache-crash-sim: no such plant: %s\n", name);
	exit(2);
}

static struct options parse(int argc, char **argv)
{
	struct options options = {.seed = 1, .depth = 2};

	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (strcmp(argv[i], "--json") == 0) {
			options.json = true;
		} else if (strcmp(argv[i], "--thorough") == 0) {
			options.thorough = true;
		} else if (strcmp(argv[i], "--trace") == 0) {
			options.trace = true;
		} else if (strcmp(argv[i], "--no-shrink") == 0) {
			options.no_shrink = true;
		} else if (strcmp(argv[i], "--plan") == 0) {
			options.plan = true;
		} else if (strcmp(argv[i], "--sites") == 0) {
			options.sites = true;
		} else if (i + 1 < argc && strcmp(argv[i], "--only") == 0) {
			options.only = value;
			i++;
		} else if (i + 1 < argc && strcmp(argv[i], "--skip-site") == 0) {
			options.skip_site = to_number(value);
			i++;
		} else if (i + 1 < argc && strcmp(argv[i], "--seconds") == 0) {
			options.seconds = to_number(value);
			i++;
		} else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0) {
			options.seed = to_number(value);
			i++;
		} else if (i + 1 < argc && strcmp(argv[i], "--seeds") == 0) {
			options.seeds = to_number(value);
			i++;
		} else if (i + 1 < argc && strcmp(argv[i], "--states") == 0) {
			options.states = to_number(value);
			i++;
		} else if (i + 1 < argc && strcmp(argv[i], "--depth") == 0) {
			options.depth = (uint32_t)to_number(value);
			i++;
		} else if (i + 1 < argc && strcmp(argv[i], "--plant") == 0) {
			set_plant(value);
			i++;
		} else {
			usage();
			exit(strcmp(argv[i], "--help") == 0 ? 0 : 2);
		}
	}
	if (options.depth < 1 || options.depth > PC_CRASH_DEPTH_MAX) {
		usage();
		exit(2);
	}
	if (options.seconds == 0 && options.states == 0 && options.seeds == 0)
		options.seconds = 60;
	return options;
}

/* The library died or hangs: say where, then go. */
static void on_signal(int number)
{
	char text[96];
	const int len = snprintf(text, sizeof(text), "pcache-crash-sim: %s in seed %" PRIu64 "\n", number == SIGALRM || number == SIGPROF ? "no progress" : "signal", seed_now);

	if (len > 0 && write(STDERR_FILENO, text, (size_t)len) < 0)
		_exit(1);
	pc_crash_print_where();
	_exit(1);
}

static void catch_signals(void)
{
	const struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGABRT, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGFPE, &action, NULL);
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGPROF, &action, NULL);
}

/* Adds the sites of one seed to those of all. */
static void add_sites(struct pc_crash_result *all, const struct pc_crash_result *one)
{
	for (uint32_t i = 0; i < one->site_nr; i++) {
		uint32_t at = 0;

		while (at < all->site_nr && all->sites[at].address != one->sites[i].address)
			at++;
		if (at == PC_CRASH_SITE_NR_MAX)
			continue;
		if (at == all->site_nr)
			all->sites[all->site_nr++] = (struct pc_crash_site){.address = one->sites[i].address, .op = one->sites[i].op};
		all->sites[at].calls += one->sites[i].calls;
	}
}

static void print_sites(const struct pc_crash_result *all)
{
	for (uint32_t i = 0; i < all->site_nr; i++)
		printf("0x%" PRIxPTR " %s %" PRIu64 "\n", (uintptr_t)all->sites[i].address - (uintptr_t)__executable_start, all->sites[i].op,
		       all->sites[i].calls);
}

/* The first seed from seed on that the options want. */
static uint64_t next_seed(const struct options *options, uint64_t seed)
{
	char text[512];

	while (options->only != NULL) {
		pc_crash_shape_text(seed, text, sizeof(text));
		if (strstr(text, options->only) != NULL)
			break;
		seed++;
	}
	return seed;
}

/* Begins the time of one seed. */
static void watch(void)
{
	const struct itimerval timer = {.it_value = {.tv_sec = HANG_CPU_S}};

	alarm(HANG_S);
	(void)setitimer(ITIMER_PROF, &timer, NULL);
}

/* Leaves out operations, in ever smaller groups, as long as the seed still fails. */
static void shrink(struct pc_crash_settings *settings, bool *skip, struct pc_crash_result *result)
{
	uint32_t tries = 0;
	bool shrunk = true;

	settings->skip = skip;
	settings->op_limit = result->failed_op + 1;
	settings->states_max = 0;
	for (uint32_t group = PC_MAX(settings->op_limit / 2, 1u); group > 0 && tries < SHRINK_TRIES_MAX; group = shrunk && group == 1 ? 1 : group / 2) {
		shrunk = false;
		for (uint32_t first = 0; first < settings->op_limit && tries < SHRINK_TRIES_MAX; first += group) {
			bool before[PC_CRASH_OP_NR_MAX];
			static struct pc_crash_result attempt;
			const uint32_t end = PC_MIN(first + group, settings->op_limit);
			bool changed = false;

			memcpy(before, skip, sizeof(before));
			for (uint32_t i = first; i < end; i++) {
				changed |= !skip[i];
				skip[i] = true;
			}
			if (!changed)
				continue;
			tries++;
			watch();
			pc_crash_run(settings, &attempt);
			if (attempt.failed) {
				*result = attempt;
				settings->op_limit = PC_MIN(settings->op_limit, attempt.failed_op + 1);
				shrunk = true;
			} else {
				memcpy(skip, before, sizeof(before));
			}
		}
	}
}

static void report(const struct options *options, struct pc_crash_settings *settings, struct pc_crash_result *result)
{
	static bool skip[PC_CRASH_OP_NR_MAX];

	fprintf(stderr, "VIOLATION in seed %" PRIu64 ", operation %u\n%s\n", settings->seed, result->failed_op, result->text);
	if (!options->no_shrink)
		shrink(settings, skip, result);
	settings->op_limit = result->failed_op + 1;
	fprintf(stderr, "what is left of the operations:\n");
	pc_crash_print_plan(settings);
	fprintf(stderr, "%s\n", result->text);
	fprintf(stderr, "again: pcache-crash-sim --seed %" PRIu64 " --seeds 1 --depth %u --plant %s%s\n", settings->seed, settings->depth, plant_names[pc_plant],
		options->thorough ? " --thorough" : "");
}

int main(int argc, char **argv)
{
	const struct options options = parse(argc, argv);
	const uint64_t start_ns = pc_monotonic_ns();
	struct pc_crash_settings settings = {.depth = options.depth, .thorough = options.thorough, .trace = options.trace};
	static struct pc_crash_result result;
	static struct pc_crash_result all;
	uint64_t states = 0;
	uint64_t distinct = 0;
	uint32_t depth = 0;
	uint64_t elapsed_ns;
	bool failed = false;

	/* Caches come and go thousands of times a second: keep their memory. */
	(void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
	settings.seed = options.seed;
	if (options.skip_site != 0)
		settings.skip_site = __executable_start + options.skip_site;
	if (options.plan) {
		pc_crash_print_plan(&settings);
		return 0;
	}
	catch_signals();
	seed_now = options.seed - 1;
	for (uint64_t i = 0;; i++) {
		seed_now = next_seed(&options, seed_now + 1);
		settings.seed = seed_now;
		settings.states_max = options.states == 0 ? 0 : options.states - states;
		watch();
		pc_crash_run(&settings, &result);
		alarm(0);
		add_sites(&all, &result);
		states += result.states;
		distinct += result.distinct;
		depth = PC_MAX(depth, result.depth);
		failed = result.failed;
		elapsed_ns = pc_monotonic_ns() - start_ns;
		if (failed || (options.states != 0 && states >= options.states) || (options.seeds != 0 && i + 1 >= options.seeds) ||
		    (options.seconds != 0 && elapsed_ns / 1000000000u >= options.seconds))
			break;
	}
	elapsed_ns = PC_MAX(elapsed_ns, 1u);
	if (failed)
		report(&options, &settings, &result);
	alarm(0);
	if (options.sites)
		print_sites(&all);
	if (options.json)
		printf("{\"states\": %" PRIu64 ", \"distinct\": %" PRIu64 ", \"states_per_minute\": %.0f, \"depth\": %u, \"violations\": %d, \"seed\": %" PRIu64
		       "}\n",
		       states, distinct, (double)states * 60e9 / (double)elapsed_ns, depth, failed ? 1 : 0, seed_now);
	else
		printf("%" PRIu64 " crash states (%" PRIu64 " different) in %.1f s, %.0f per minute, depth %u, seeds %" PRIu64 " to %" PRIu64 ", %d violations\n",
		       states, distinct, (double)elapsed_ns / 1e9, (double)states * 60e9 / (double)elapsed_ns, depth, options.seed, seed_now, failed ? 1 : 0);
	return failed ? 1 : 0;
}
