/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-crash-sim: runs seed after seed of the crash simulator until time, states or seeds are used up, or a guarantee is broken; or all short sequences of operations;
 * or the way that a violation has gone.
 *
 * A violation is made small (reduce.h) and printed with its operations, power cuts and words, and as a line for --replay; the exit status is 1 then.
 * Only the choice of when to stop looks at the clock: a seed gives the same result always, and --seed S --seeds 1 repeats it. The library that
 * is linked in has the planted defects of base/plant.h, which --plant switches on.
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
#include "sim/crash_options.h"
#include "sim/crash_run.h"
#include "sim/exhaustive.h"
#include "sim/kept.h"
#include "sim/plants.h"
#include "sim/reduce.h"

#define HANG_CPU_S 120 /* of one seed, which takes a second */
#define HANG_S 900u /* the same on the clock, for a run that sleeps for ever */

extern const char __executable_start[]; /* from the linker */

static uint64_t seed_now;
static const struct pc_crash_plan *plan_now; /* if it is not that of the seed */
static bool plan_is_directed;

/* Where media is damaged, see crash_damage.c. */
static const char *const zones[PC_CRASH_ZONE_NR] = {"one_copy", "both_copies", "log_below_mark", "log_above_mark", "clean_data", "dirty_data"};

struct totals {
	struct pc_crash_result sites;
	uint64_t start_ns;
	uint64_t states;
	uint64_t distinct;
	uint64_t digest; /* of all states */
	uint64_t damages[PC_CRASH_ZONE_NR];
	uint64_t checks;
	uint64_t points;
	uint64_t points_taken;
	uint64_t reached[PC_REACHED_NR];
	uint64_t sequences;
	uint64_t idle; /* of these: an operation in them did nothing, so a shorter one says the same */
	uint64_t points_left_out;
	uint32_t depth;
	bool failed;
};

static void print_again(const struct pc_kept *kept)
{
	char *text = pc_kept_to_text(kept);

	if (text == NULL)
		abort();
	fprintf(stderr, "again: pcache-crash-sim --plant %s --replay \"%s\"\n", pc_plant_now(), text);
	free(text);
}

/* --- the library died or hangs: say where, then go --- */

/* The program is lost, so what a handler must not call is tried at last. */
static void print_path_now(void)
{
	static struct pc_kept kept;

	signal(SIGALRM, SIG_DFL);
	signal(SIGSEGV, SIG_DFL);
	signal(SIGABRT, SIG_DFL);
	alarm(5);
	if (plan_now != NULL)
		kept.plan = *plan_now;
	else
		pc_gen_plan(seed_now, &kept.plan);
	kept.seed = plan_now != NULL && !plan_is_directed ? 1 : seed_now;
	if (!pc_crash_path_now(&kept.path))
		return;
	print_again(&kept);
	fprintf(stderr, "(add --isolate: each attempt to make it smaller dies, too)\n");
}

static void on_signal(int number)
{
	char text[96];
	const int len = snprintf(text, sizeof(text), "pcache-crash-sim: %s in seed %" PRIu64 "\n", number == SIGALRM || number == SIGPROF ? "no progress" : "signal", seed_now);

	if (len > 0 && write(STDERR_FILENO, text, (size_t)len) < 0)
		_exit(1);
	pc_crash_print_where();
	print_path_now();
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

/* Begins the time of one seed or attempt. */
static void watch(void)
{
	const struct itimerval timer = {.it_value = {.tv_sec = HANG_CPU_S}};

	alarm(HANG_S);
	(void)setitimer(ITIMER_PROF, &timer, NULL);
}

/* --- sites --- */

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

/* --- violations --- */

static void attempt_here(const struct pc_kept *kept, struct pc_crash_result *out_result)
{
	watch();
	pc_reduce_here(kept, out_result);
}

static void attempt_forked(const struct pc_kept *kept, struct pc_crash_result *out_result)
{
	watch();
	pc_reduce_forked(kept, out_result);
}

/* Whether the path alone ends in a violation, twice with the same text. It becomes the result: a path is checked more closely than a state among many. */
static bool repeats(const struct crash_options *options, const struct pc_kept *kept, struct pc_crash_result *result)
{
	static struct pc_crash_result again[2];

	for (uint32_t i = 0; i < 2; i++)
		(options->isolate ? attempt_forked : attempt_here)(kept, &again[i]);
	if (!again[0].failed || !again[1].failed || strcmp(again[0].text, again[1].text) != 0)
		return false;
	if (!pc_reduce_same_kind(result, &again[0]))
		fprintf(stderr, "the path alone shows more:\n%s\n", again[0].text);
	*result = again[0];
	return true;
}

/* kept and result: a violation. Says what there is to say. */
static void report(const struct crash_options *options, struct pc_kept *kept, struct pc_crash_result *result)
{
	struct pc_reduce_stats stats = {0};

	if (result->path.lossy || !repeats(options, kept, result)) {
		fprintf(stderr, "NOT REPRODUCED by its path alone%s: it depends on something else, a defect of the simulator or of the library (time, memory that was not "
				"set, threads). Nothing was left out of it.\n",
			result->path.lossy ? " (which is too long to be said)" : "");
		pc_reduce_print(kept);
		print_again(kept);
		return;
	}
	if (!options->no_shrink) {
		pc_reduce(kept, result, options->isolate ? attempt_forked : attempt_here, (uint32_t)options->tries, &stats);
		fprintf(stderr, "reduced from %u operations to %u, in %u attempts:\n", stats.op_nr_before, kept->plan.op_nr, stats.tries);
	}
	pc_reduce_print(kept);
	fprintf(stderr, "%s\n", result->text);
	if (!repeats(options, kept, result))
		fprintf(stderr, "NOT REPRODUCED: the smaller form fails at times only\n");
	print_again(kept);
	if (options->emit_test != NULL && !kept_emit(kept, result->text, options->emit_test)) {
		fprintf(stderr, "pcache-crash-sim: cannot write %s\n", options->emit_test);
		exit(2);
	}
}

static void report_run(const struct crash_options *options, const struct pc_crash_settings *settings, struct pc_crash_result *result)
{
	struct pc_kept *kept = calloc(1, sizeof(*kept));

	if (kept == NULL)
		abort();
	fprintf(stderr, "VIOLATION in seed %" PRIu64 ", operation %u\n%s\n", settings->seed, result->failed_op, result->text);
	kept->seed = settings->seed;
	kept->path = result->path;
	if (settings->plan != NULL)
		kept->plan = *settings->plan;
	else
		pc_gen_plan(settings->seed, &kept->plan);
	report(options, kept, result);
	fprintf(stderr, "the whole seed again: pcache-crash-sim --seed %" PRIu64 " --seeds 1 --depth %u --plant %s%s%s%s\n", settings->seed, settings->depth,
		pc_plant_now(), options->thorough ? " --thorough" : "", options->directed != NULL ? " --directed " : "",
		options->directed != NULL ? options->directed : "");
	free(kept);
}

/* --- replay --- */

/* 0 nothing wrong, 1 a violation; exits after a mistake. */
static int replay(const struct crash_options *options, const char *text)
{
	struct pc_kept *kept = malloc(sizeof(*kept));
	static struct pc_crash_result result;
	char error[256];

	if (kept == NULL)
		abort();
	if (!pc_kept_from_text(text, kept, error, sizeof(error))) {
		fprintf(stderr, "pcache-crash-sim: --replay: %s\n", error);
		exit(2);
	}
	plan_now = &kept->plan;
	(options->isolate ? attempt_forked : attempt_here)(kept, &result);
	alarm(0);
	if (!result.failed && result.cuts_reached < kept->path.cut_nr)
		printf("note: power cut %u of %u was not reached\n", result.cuts_reached + 1, kept->path.cut_nr);
	if (result.failed) {
		fprintf(stderr, "VIOLATION on the path\n%s\n", result.text);
		kept->path = result.path;
		report(options, kept, &result);
	}
	free(kept);
	return result.failed ? 1 : 0;
}

/* Every line of a file, and what lies around it. */
static int replay_file(const struct crash_options *options)
{
	FILE *in = fopen(options->replay_file, "r");
	struct pc_kept *kept = malloc(sizeof(*kept));
	char *line = NULL;
	size_t line_max = 0;
	uint32_t nr = 0;
	uint32_t failed_nr = 0;

	if (in == NULL || kept == NULL) {
		fprintf(stderr, "pcache-crash-sim: cannot read %s\n", options->replay_file);
		exit(2);
	}
	while (getline(&line, &line_max, in) > 0) {
		char text[8192];

		line[strcspn(line, "\n")] = '\0';
		if (line[0] == '\0' || line[0] == '#')
			continue;
		nr++;
		if (!pc_kept_from_text(line, kept, text, sizeof(text))) {
			fprintf(stderr, "pcache-crash-sim: entry %u of %s: %s\n", nr, options->replay_file, text);
			exit(2);
		}
		watch();
		if (!kept_text_holds(kept, text, sizeof(text))) {
			fprintf(stderr, "VIOLATION in entry %u of %s, %s\n", nr, options->replay_file, text);
			failed_nr++;
		}
	}
	printf("%u kept violations replayed, %u found again\n", nr, failed_nr);
	free(line);
	free(kept);
	(void)fclose(in);
	return failed_nr != 0 || nr == 0 ? 1 : 0;
}

/* --- seeds --- */

/* The first seed from seed on that the options want. */
static uint64_t next_seed(const struct crash_options *options, uint64_t seed)
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

static void add(struct totals *totals, const struct pc_crash_result *result)
{
	add_sites(&totals->sites, result);
	totals->states += result->states;
	totals->distinct += result->distinct;
	totals->checks += result->checks;
	for (uint32_t i = 0; i < PC_CRASH_ZONE_NR; i++)
		totals->damages[i] += result->damages[i];
	totals->points += result->points;
	totals->points_taken += result->points_taken;
	totals->digest = pc_rng_mix(totals->digest ^ result->digest);
	for (uint32_t i = 0; i < PC_REACHED_NR; i++)
		totals->reached[i] = pc_reached_is_max((enum pc_reached)i) ? PC_MAX(totals->reached[i], result->reached[i]) : totals->reached[i] + result->reached[i];
	totals->depth = PC_MAX(totals->depth, result->depth);
	totals->failed = result->failed;
}

static void run_seeds(const struct crash_options *options, struct pc_crash_settings *settings, struct totals *totals)
{
	static struct pc_crash_result result;
	static struct pc_crash_plan plan;
	uint32_t kind = 0;

	if (options->directed != NULL && pc_directed_find(options->directed, &kind)) {
		settings->plan = &plan;
		plan_is_directed = true;
	}
	plan_now = settings->plan;
	seed_now = options->seed - 1;
	for (uint64_t i = 1;; i++) {
		seed_now = next_seed(options, seed_now + 1);
		settings->seed = seed_now;
		settings->states_max = options->states == 0 ? 0 : options->states - totals->states;
		if (settings->plan != NULL)
			pc_directed_plan(kind, seed_now, &plan);
		watch();
		pc_crash_run(settings, &result);
		alarm(0);
		add(totals, &result);
		if (totals->failed || (options->states != 0 && totals->states >= options->states) || (options->seeds != 0 && i >= options->seeds) ||
		    (options->seconds != 0 && (pc_monotonic_ns() - totals->start_ns) / 1000000000u >= options->seconds))
			break;
	}
	if (totals->failed)
		report_run(options, settings, &result);
	alarm(0);
}

/* --- short sequences --- */

/* One sequence; true if it failed. skip_at gets the first operation that did nothing, or the length. */
static bool run_sequence(const struct crash_options *options, const struct pc_exhaustive *e, struct totals *totals, uint32_t *skip_at)
{
	const struct pc_crash_every every = {.all_first = strcmp(options->images, "few") != 0, .all_second = strcmp(options->images, "all") == 0};
	static struct pc_crash_plan plan;
	static struct pc_crash_result result;
	const struct pc_crash_settings settings = {
		.seed = 1, .plan = &plan, .every = &every, .depth = (uint32_t)options->depth, .trace = options->trace};

	pc_exhaustive_plan(e, &plan);
	plan_now = &plan;
	watch();
	pc_crash_run(&settings, &result);
	add(totals, &result);
	totals->points_left_out += result.points_left_out;
	*skip_at = 0;
	while (*skip_at < e->len && (result.busy >> *skip_at & 1) != 0)
		(*skip_at)++;
	if (result.failed)
		report_run(options, &settings, &result);
	return result.failed;
}

/* How many of the first nr sequences belong to this part. */
static uint64_t in_part(const struct crash_options *options, uint64_t nr)
{
	return (nr + options->part_nr - options->part) / options->part_nr;
}

static void run_exhaustive(const struct crash_options *options, struct totals *totals)
{
	struct pc_exhaustive e;
	uint64_t idx = 0;

	pc_exhaustive_begin(&e, (uint32_t)options->exhaustive);
	while (pc_exhaustive_next(&e)) {
		uint32_t skip_at;

		if (idx++ % options->part_nr != options->part - 1)
			continue;
		totals->sequences++;
		seed_now = totals->sequences;
		if (run_sequence(options, &e, totals, &skip_at))
			break;
		totals->idle += skip_at < e.len;
		if (skip_at + 1 < e.len) {
			const uint64_t first = idx;

			idx += pc_exhaustive_skip(&e, skip_at);
			totals->sequences += in_part(options, idx) - in_part(options, first);
			totals->idle += in_part(options, idx) - in_part(options, first);
		}
	}
	alarm(0);
}

static void print_json(const struct crash_options *options, const struct totals *totals, double per_minute)
{
	printf("{\"states\": %" PRIu64 ", \"distinct\": %" PRIu64 ", \"states_per_minute\": %.0f, \"depth\": %u, \"violations\": %d, \"seed\": %" PRIu64,
	       totals->states, totals->distinct, per_minute, totals->depth, totals->failed ? 1 : 0, seed_now);
	if (options->exhaustive != 0)
		printf(", \"sequences\": %" PRIu64 ", \"idle\": %" PRIu64 ", \"points_left_out\": %" PRIu64, totals->sequences, totals->idle, totals->points_left_out);
	if (options->seconds == 0 || options->exhaustive != 0) /* else the clock decides on the end */
		printf(", \"digest\": \"%016" PRIx64 "\"", totals->digest);
	printf(", \"checks\": %" PRIu64, totals->checks);
	for (uint32_t i = 0; i < PC_CRASH_ZONE_NR; i++)
		printf("%s\"%s\": %" PRIu64, i == 0 ? ", \"damaged\": {" : ", ", zones[i], totals->damages[i]);
	printf("}");
	printf(", \"points\": %" PRIu64 ", \"points_taken\": %" PRIu64, totals->points, totals->points_taken);
	for (uint32_t i = 0; i < PC_REACHED_NR; i++)
		printf("%s\"%s\": %" PRIu64, i == 0 ? ", \"reached\": {" : ", ", pc_reached_name((enum pc_reached)i), totals->reached[i]);
	printf("}}\n");
}

static void print_totals(const struct crash_options *options, const struct totals *totals, uint64_t elapsed_ns)
{
	const double per_minute = (double)totals->states * 60e9 / (double)PC_MAX(elapsed_ns, 1u);

	if (options->json)
		print_json(options, totals, per_minute);
	else
		printf("%" PRIu64 " crash states (%" PRIu64 " different) in %.1f s, %.0f per minute, depth %u, seeds %" PRIu64 " to %" PRIu64 ", %d violations\n",
		       totals->states, totals->distinct, (double)elapsed_ns / 1e9, per_minute, totals->depth, options->seed, seed_now, totals->failed ? 1 : 0);
}

int main(int argc, char **argv)
{
	const struct crash_options options = crash_options_parse(argc, argv);
	struct pc_crash_settings settings = {
		.seed = options.seed, .depth = (uint32_t)options.depth, .thorough = options.thorough, .trace = options.trace};
	static struct totals totals;
	uint64_t elapsed_ns;

	/* Caches come and go thousands of times a second: keep their memory. */
	(void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
	if (options.skip_site != 0)
		settings.skip_site = __executable_start + options.skip_site;
	if (options.plan) {
		pc_crash_print_plan(&settings);
		return 0;
	}
	catch_signals();
	if (options.replay != NULL)
		return replay(&options, options.replay);
	if (options.replay_file != NULL)
		return replay_file(&options);
	totals.start_ns = pc_monotonic_ns();
	if (options.exhaustive != 0)
		run_exhaustive(&options, &totals);
	else
		run_seeds(&options, &settings, &totals);
	elapsed_ns = pc_monotonic_ns() - totals.start_ns;
	if (options.sites)
		print_sites(&totals.sites);
	print_totals(&options, &totals, elapsed_ns);
	return totals.failed ? 1 : 0;
}
