/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-sched-sim: runs seed after seed of the scheduler simulator until time, states or seeds are used up, or a guarantee is broken.
 *
 * Several simulated threads use one cache in an order that the seed gives, the power fails at yield points of the library, and every image is recovered and checked. A
 * violation is printed with its seed, what each thread was doing, and the last steps; the exit status is 1 then. Only the choice of when to stop looks at the clock:
 * --seed S --seeds 1 repeats a seed. The library that is linked in has the planted defects of base/plant.h, which --plant switches on.
 */
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/plant.h"
#include "sim/generator.h"
#include "sim/sched_coro.h"
#include "sim/sched_run.h"

#define HANG_CPU_S 120 /* of one seed, which takes a second */

struct options {
	uint64_t seconds;
	uint64_t seed;
	uint64_t seeds; /* 0: no limit */
	uint64_t states;
	uint32_t depth;
	bool json;
	bool trace;
	bool plan;
	bool cuts;
};

struct plant_name {
	const char *name;
	enum pc_plant plant;
};

static const struct plant_name plants[] = {
	{ "none", PC_PLANT_NONE },
	{ "no-write-fence", PC_PLANT_NO_WRITE_FENCE },
	{ "fence-of-other", PC_PLANT_FENCE_OF_OTHER },
	{ "range-unlocked", PC_PLANT_RANGE_UNLOCKED },
	{ "epoch-early", PC_PLANT_EPOCH_EARLY },
	{ "fill-over-write", PC_PLANT_FILL_OVER_WRITE },
	{ "no-pin", PC_PLANT_NO_PIN },
	{ "peek-unchecked", PC_PLANT_PEEK_UNCHECKED },
	{ "mark-too-high", PC_PLANT_MARK_TOO_HIGH },
	{ "mark-skips-shard", PC_PLANT_MARK_SKIPS_SHARD },
	{ "round-before", PC_PLANT_ROUND_BEFORE },
	{ "sync-too-high", PC_PLANT_SYNC_TOO_HIGH },
	{ "publish-late", PC_PLANT_PUBLISH_LATE },
	{ "wb-past-inflight", PC_PLANT_WB_PAST_INFLIGHT },
	{ "settled-early", PC_PLANT_SETTLED_EARLY },
	{ "sweep-unchecked", PC_PLANT_SWEEP_UNCHECKED },
	{ "drain-forgets", PC_PLANT_DRAIN_FORGETS },
	{ "tail-past-inflight", PC_PLANT_TAIL_PAST_INFLIGHT },
	{ "clean-stale", PC_PLANT_CLEAN_STALE },
	{ "pins-ignored", PC_PLANT_PINS_IGNORED },
	{ "dead-ignored", PC_PLANT_DEAD_IGNORED },
	{ "taken-is-pinned", PC_PLANT_TAKEN_IS_PINNED },
	{ "erase-keeps-fills", PC_PLANT_ERASE_KEEPS_FILLS },
	{ "drain-mark-late", PC_PLANT_DRAIN_MARK_LATE },
	{ "steps-not-awaited", PC_PLANT_STEPS_NOT_AWAITED },
	{ "lost-wakeup", PC_PLANT_LOST_WAKEUP },
	{ "mode-not-seen", PC_PLANT_MODE_NOT_SEEN },
	{ "hold-dirty", PC_PLANT_HOLD_DIRTY },
	{ "hold-no-erase", PC_PLANT_HOLD_NO_ERASE },
	{ "hold-unseen-by-writes", PC_PLANT_HOLD_UNSEEN_BY_WRITES },
	{ "hold-unseen-by-misses", PC_PLANT_HOLD_UNSEEN_BY_MISSES },
	{ "stage-kept", PC_PLANT_STAGE_KEPT },
	{ "stage-gone-early", PC_PLANT_STAGE_GONE_EARLY },
};

static uint64_t seed_now;

static void usage(void)
{
	fprintf(stderr, "usage: pcache-sched-sim [--seconds N] [--seed S] [--seeds N] [--states N] [--depth N] "
			"[--plant NAME] [--json] [--trace] "
			"[--plan] [--cuts]\n"
			"  --seconds N   stop after the seed during which N seconds have passed (60, unless --seeds or "
			"--states is given)\n"
			"  --seed S      first seed (1); the next ones follow\n"
			"  --seeds N     stop after N seeds\n"
			"  --states N    stop after N crash states\n"
			"  --depth N     power cuts in a row, 0 to 3 (2)\n"
			"  --plant NAME  switch on a planted defect:");
	for (size_t i = 0; i < PC_ARRAY_NR(plants); i++)
		fprintf(stderr, " %s", plants[i].name);
	fprintf(stderr, "\n"
			"  --json        print one line of JSON\n"
			"  --trace       print every step\n"
			"  --plan        print what each seed draws, and run nothing\n"
			"  --cuts        print how often the power failed at each yield point of the first cache\n");
}

static uint64_t to_number(const char *text)
{
	char *end;
	const uint64_t value = strtoull(text, &end, 10);

	if (*text == '\0' || *end != '\0') {
		usage();
		exit(2);
	}
	return value;
}

static void set_plant(const char *name)
{
	for (size_t i = 0; i < PC_ARRAY_NR(plants); i++) {
		if (strcmp(name, plants[i].name) == 0) {
			pc_plant = (int)plants[i].plant;
			return;
		}
	}
	usage();
	exit(2);
}

static const char *plant_text(void)
{
	for (size_t i = 0; i < PC_ARRAY_NR(plants); i++) {
		if ((int)plants[i].plant == pc_plant)
			return plants[i].name;
	}
	return "?";
}

static bool take_flag(struct options *options, const char *arg)
{
	if (strcmp(arg, "--json") == 0)
		options->json = true;
	else if (strcmp(arg, "--trace") == 0)
		options->trace = true;
	else if (strcmp(arg, "--plan") == 0)
		options->plan = true;
	else if (strcmp(arg, "--cuts") == 0)
		options->cuts = true;
	else
		return false;
	return true;
}

static bool take_value(struct options *options, const char *arg, const char *value)
{
	if (strcmp(arg, "--seconds") == 0)
		options->seconds = to_number(value);
	else if (strcmp(arg, "--seed") == 0)
		options->seed = to_number(value);
	else if (strcmp(arg, "--seeds") == 0)
		options->seeds = to_number(value);
	else if (strcmp(arg, "--states") == 0)
		options->states = to_number(value);
	else if (strcmp(arg, "--depth") == 0)
		options->depth = (uint32_t)to_number(value);
	else if (strcmp(arg, "--plant") == 0)
		set_plant(value);
	else
		return false;
	return true;
}

static struct options parse(int argc, char **argv)
{
	struct options options = { .seed = 1, .depth = 2 };

	for (int i = 1; i < argc; i++) {
		if (take_flag(&options, argv[i]))
			continue;
		if (i + 1 == argc || !take_value(&options, argv[i], argv[i + 1])) {
			usage();
			exit(2);
		}
		i++;
	}
	if (options.depth > SCHED_RUN_DEPTH_MAX) {
		usage();
		exit(2);
	}
	if (options.seconds == 0 && options.seeds == 0 && options.states == 0)
		options.seconds = 60;
	return options;
}

static void on_signal(int number)
{
	char text[96];
	const int len = snprintf(text, sizeof(text), "pcache-sched-sim: %s %d in seed %" PRIu64 "\n",
				 number == SIGPROF ? "no progress," : "signal", number, seed_now);

	if (len > 0 && write(STDERR_FILENO, text, (size_t)len) < 0)
		_exit(1);
	sched_run_print_where();
	_exit(1);
}

static void catch_signals(void)
{
	static const int numbers[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGPROF };
	static uint8_t stack[65536];
	const stack_t alternate = { .ss_sp = stack, .ss_size = sizeof(stack) };
	const struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };

	(void)sigaltstack(&alternate, NULL);
	for (size_t i = 0; i < PC_ARRAY_NR(numbers); i++)
		(void)sigaction(numbers[i], &action, NULL);
}

struct totals {
	uint64_t seeds, states, distinct, undecided, steps, calls, digest, slowed, waited;
	uint64_t cuts[64];
	uint32_t depth;
	bool failed;
};

static void add(struct totals *totals, const struct sched_run_result *result)
{
	totals->seeds++;
	totals->states += result->states;
	totals->distinct += result->distinct;
	totals->undecided += result->undecided;
	totals->steps += result->steps;
	totals->calls += result->calls;
	totals->slowed += result->slowed;
	totals->waited += result->waited;
	totals->digest = pc_rng_mix(totals->digest ^ result->digest);
	totals->depth = PC_MAX(totals->depth, result->depth);
	totals->failed = result->failed;
	for (uint32_t i = 0; i < PC_YIELD_POINT_NR; i++)
		totals->cuts[i] += result->cuts[i];
}

static void print_totals(const struct options *options, const struct totals *totals, uint64_t elapsed_ns)
{
	if (options->cuts) {
		for (uint32_t i = 0; i < PC_YIELD_POINT_NR; i++)
			printf("%-16s %" PRIu64 "\n", sched_point_name((enum pc_yield_point)i), totals->cuts[i]);
	}
	if (options->json)
		printf("{\"states\": %" PRIu64 ", \"distinct\": %" PRIu64 ", \"undecided\": %" PRIu64
		       ", \"states_per_minute\": %.0f, \"depth\": %u, \"violations\": %d, \"seeds\": %" PRIu64
		       ", \"seed\": %" PRIu64 ", \"steps\": %" PRIu64 ", \"calls\": %" PRIu64 ", \"slowed\": %" PRIu64
		       ", \"waited\": %" PRIu64 ", \"digest\": \"%016" PRIx64 "\"}\n",
		       totals->states, totals->distinct, totals->undecided,
		       (double)totals->states * 60e9 / (double)elapsed_ns, totals->depth, totals->failed, totals->seeds,
		       seed_now, totals->steps, totals->calls, totals->slowed, totals->waited, totals->digest);
	else
		printf("%" PRIu64 " crash states (%" PRIu64 " different) in %.1f s, %.0f per minute, depth %u; %" PRIu64
		       " schedules (seeds %" PRIu64 " to %" PRIu64 ") of %" PRIu64 " steps and %" PRIu64
		       " calls; digest %016" PRIx64 "; %d violations\n",
		       totals->states, totals->distinct, (double)elapsed_ns / 1e9,
		       (double)totals->states * 60e9 / (double)elapsed_ns, totals->depth, totals->seeds, options->seed,
		       seed_now, totals->steps, totals->calls, totals->digest, totals->failed);
}

static bool enough(const struct options *options, const struct totals *totals, uint64_t elapsed_ns)
{
	return totals->failed || (options->states != 0 && totals->states >= options->states) ||
	       (options->seeds != 0 && totals->seeds >= options->seeds) ||
	       (options->seconds != 0 && elapsed_ns / 1000000000u >= options->seconds);
}

static void print_plans(const struct options *options)
{
	char text[1024];

	for (uint64_t i = 0; i < PC_MAX(options->seeds, UINT64_C(1)); i++) {
		sched_run_text(options->seed + i, text, sizeof(text));
		printf("seed %" PRIu64 ": %s\n", options->seed + i, text);
	}
}

static void report(const struct sched_run_settings *settings, const struct sched_run_result *result)
{
	char text[1024];

	sched_run_text(settings->seed, text, sizeof(text));
	fprintf(stderr, "VIOLATION in seed %" PRIu64 ": %s\n%s\n", settings->seed, text, result->text);
	fprintf(stderr, "again: pcache-sched-sim --seed %" PRIu64 " --seeds 1 --depth %u --plant %s\n", settings->seed,
		settings->depth, plant_text());
}

int main(int argc, char **argv)
{
	const struct options options = parse(argc, argv);
	const struct itimerval watch = { .it_value = { .tv_sec = HANG_CPU_S } };
	const uint64_t start_ns = pc_monotonic_ns();
	struct sched_run_settings settings = { .depth = options.depth, .trace = options.trace };
	static struct sched_run_result result;
	struct totals totals = { 0 };
	uint64_t elapsed_ns;

	/* Caches come and go thousands of times a second: keep their memory. */
	(void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
	if (options.plan) {
		print_plans(&options);
		return 0;
	}
	catch_signals();
	do {
		seed_now = options.seed + totals.seeds;
		settings.seed = seed_now;
		settings.states_max = options.states == 0 ? 0 : options.states - totals.states;
		(void)setitimer(ITIMER_PROF, &watch, NULL);
		sched_run_seed(&settings, &result);
		add(&totals, &result);
		elapsed_ns = PC_MAX(pc_monotonic_ns() - start_ns, UINT64_C(1));
	} while (!enough(&options, &totals, elapsed_ns));
	if (totals.failed)
		report(&settings, &result);
	print_totals(&options, &totals, elapsed_ns);
	return totals.failed ? 1 : 0;
}
