/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache bench: measures jobs on a cache of its own, each next to its limit.
 *
 * This file parses the arguments, runs one job after the other and prints. What is measured, and how, stands in
 * bench_run.c and bench_limit.c; where the files lie in bench_place.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tool/bench.h"

static const char bench_help[] =
	"pcache bench - measure, next to the limit of the machine\n"
	"\n"
	"Usage: pcache bench [OPTION...]\n"
	"\n"
	"Makes a cache of its own, runs each job in slices of 50 ms that alternate with its limit, and removes the "
	"cache. The limit is\n"
	"the bare copy of the same bytes past the CPU caches, with a log slot of 64 bytes and one fence; for reads the "
	"bare\n"
	"copy out of the mapping. It is taken with and without a CRC, and the faster one counts. A ratio of 1.00 is "
	"the limit.\n"
	"\n"
	"Options:\n"
	"  --job LIST             jobs, separated by commas: randwrite, seqwrite, randread, seqread, mixed (70 % "
	"reads), writeflush;\n"
	"                         default randwrite,randread\n"
	"  --bs BYTES             length of an operation, a multiple of 512; default 4k\n"
	"  --threads N            default 1\n"
	"  --seconds N            time per job; default 4\n"
	"  --size BYTES           working set; default the smaller of 1 GiB and a quarter of the cache\n"
	"  --cache-size BYTES     default up to 4 GiB, as there is room\n"
	"  --cache PATH           directory, or path of a new file; default /dev/shm if there is room (DRAM then "
	"stands in for\n"
	"                         persistent memory), else TMPDIR\n"
	"  --backing PATH         file or block device to write to; it must hold zeroes only; default one that does "
	"nothing\n"
	"  --force                overwrite a backing that holds data\n"
	"  --data-crc on|off      default on\n"
	"  --commit auto|write|flush  when a write is durable; default auto\n"
	"  --ordering strict|batch    order of write-back; default strict\n"
	"  --writeback on|off     off: no write-back unless the cache runs full; default on\n"
	"  --json                 one JSON object\n"
	"  -v, --verbose          print messages of the library\n"
	"  -h, --help             this text\n"
	"\n"
	"Exit codes: 0 done, 1 failed, 2 wrong usage.\n"
	"\n"
	"Examples:\n"
	"  pcache bench\n"
	"  pcache bench --job randwrite --bs 512 --threads 2 --json\n"
	"  pcache bench --job writeflush --cache /mnt/pmem --seconds 10";

enum {
	OPT_JOB = 1000,
	OPT_BS,
	OPT_THREADS,
	OPT_SECONDS,
	OPT_SIZE,
	OPT_CACHE_SIZE,
	OPT_CACHE,
	OPT_BACKING,
	OPT_CRC,
	OPT_COMMIT,
	OPT_ORDERING,
	OPT_WRITEBACK,
	OPT_FORCE,
	OPT_JSON
};

static const struct option bench_options[] = {
	{ "job", required_argument, NULL, OPT_JOB },
	{ "bs", required_argument, NULL, OPT_BS },
	{ "threads", required_argument, NULL, OPT_THREADS },
	{ "seconds", required_argument, NULL, OPT_SECONDS },
	{ "size", required_argument, NULL, OPT_SIZE },
	{ "cache-size", required_argument, NULL, OPT_CACHE_SIZE },
	{ "cache", required_argument, NULL, OPT_CACHE },
	{ "backing", required_argument, NULL, OPT_BACKING },
	{ "data-crc", required_argument, NULL, OPT_CRC },
	{ "commit", required_argument, NULL, OPT_COMMIT },
	{ "ordering", required_argument, NULL, OPT_ORDERING },
	{ "writeback", required_argument, NULL, OPT_WRITEBACK },
	{ "force", no_argument, NULL, OPT_FORCE },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "verbose", no_argument, NULL, 'v' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static const char *const on_off[] = { "on", "off", NULL };

static int parse_jobs(const char *command, const char *text, struct bench_args *args)
{
	char *copy = strdup(text), *rest = copy, *word;
	int result = TOOL_OK;

	if (!copy)
		return tool_fail(command, -ENOMEM);
	args->jobs = 0;
	while ((word = strsep(&rest, ",")) && result == TOOL_OK) {
		int job = tool_parse_word(word, bench_job_names);

		if (job < 0)
			result = tool_usage(command, "'%s' is no job", word);
		else
			args->jobs |= 1u << job;
	}
	free(copy);
	return result;
}

static int parse_number(const char *command, int id, const char *text, struct bench_args *args)
{
	uint64_t value;
	char *end;

	switch (id) {
	case OPT_BS:
		if (!tool_parse_bytes(text, &args->block_len) || args->block_len == 0 || args->block_len % 512 ||
		    args->block_len > 16 << 20)
			return tool_usage(command, "option --bs wants a multiple of 512 up to 16M, not '%s'", text);
		break;
	case OPT_THREADS:
		if (!tool_parse_u64(text, 1, BENCH_THREADS_MAX, &value))
			return tool_usage(command, "option --threads wants a number from 1 to %u, not '%s'",
					  BENCH_THREADS_MAX, text);
		args->threads = (uint32_t)value;
		break;
	case OPT_SECONDS:
		args->seconds = strtod(text, &end);
		if (end == text || *end || !(args->seconds > 0 && args->seconds <= 86400))
			return tool_usage(command, "option --seconds wants a number up to 86400, not '%s'", text);
		break;
	case OPT_SIZE:
		if (!tool_parse_bytes(text, &args->size_bytes) || args->size_bytes < 4096 ||
		    args->size_bytes > UINT64_C(1) << 56)
			return tool_usage(command, "option --size wants a size such as 1G, not '%s'", text);
		break;
	default:
		if (!tool_parse_bytes(text, &args->cache_bytes) || args->cache_bytes == 0 ||
		    args->cache_bytes > UINT64_C(1) << 56)
			return tool_usage(command, "option --cache-size wants a size such as 4G, not '%s'", text);
	}
	return TOOL_OK;
}

/* Words: true if text was taken. */
static bool parse_word(const char *command, int id, const char *text, struct bench_args *args)
{
	int word;

	if (id == OPT_COMMIT)
		return tool_config_set(command, args->config, "commit", "commit", text, "auto, write or flush");
	if (id == OPT_ORDERING)
		return tool_config_set(command, args->config, "ordering", "ordering", text, "strict or batch");
	word = tool_parse_word(text, on_off);
	if (word < 0) {
		tool_usage(command, "option --%s wants on or off, not '%s'", id == OPT_CRC ? "data-crc" : "writeback",
			   text);
		return false;
	}
	if (id == OPT_CRC) {
		args->data_crc = word == 0;
		(void)pcache_config_set(args->config, PCACHE_OPT_DATA_CRC, word == 0);
	} else {
		args->writeback = word == 0;
		(void)pcache_config_set(args->config, PCACHE_OPT_WRITEBACK_DELAY_MS, word == 0 ? 100 : 3600000);
	}
	return true;
}

static int parse(int argc, char **argv, struct bench_args *args, bool *out_done)
{
	int id, result = TOOL_OK;

	while (result == TOOL_OK && (id = tool_option_next(argc, argv, bench_options)) != TOOL_OPT_END) {
		switch (id) {
		case TOOL_OPT_BAD:
			return TOOL_USAGE;
		case 'h':
			puts(bench_help);
			*out_done = true;
			return TOOL_OK;
		case 'v':
			(void)pcache_config_set_log(args->config, tool_log, NULL);
			break;
		case OPT_JOB:
			result = parse_jobs(argv[0], optarg, args);
			break;
		case OPT_JSON:
			args->json = true;
			break;
		case OPT_FORCE:
			args->force = true;
			break;
		case OPT_CACHE:
			args->cache_path = optarg;
			break;
		case OPT_BACKING:
			args->backing_path = optarg;
			break;
		case OPT_CRC:
		case OPT_COMMIT:
		case OPT_ORDERING:
		case OPT_WRITEBACK:
			result = parse_word(argv[0], id, optarg, args) ? TOOL_OK : TOOL_USAGE;
			break;
		default:
			result = parse_number(argv[0], id, optarg, args);
		}
	}
	if (result == TOOL_OK && optind < argc)
		result = tool_usage(argv[0], "'%s' is too much; a place is given with --cache", argv[optind]);
	if (result == TOOL_OK && args->size_bytes % args->block_len)
		result = tool_usage(argv[0], "--size is no multiple of --bs");
	return result;
}

/* ---- output ------------------------------------------------------------ */

static const char *granularity_text(const struct pcache_info *info)
{
	static const char *const names[] = { "byte", "cache line", "page" };

	return info->granularity < TOOL_ARRAY_NR(names) ? names[info->granularity] : "unknown";
}

static double ratio_of(const struct bench_result *result)
{
	return result->own.median > 0 ? result->limit.median / result->own.median : 0;
}

static void print_bar(const char *label, const struct bench_spread *spread, double full_ns)
{
	static const char full[] = "##################################################";
	int filled = full_ns > 0 ? (int)(50 * spread->median / full_ns + 0.5) : 0;

	printf("  %-6s %.*s%*s %8.0f ns  (%.0f to %.0f)\n", label, filled, full, 50 - filled, "", spread->median,
	       spread->min, spread->max);
}

static void print_text(const struct bench_args *args, const struct bench_result *result)
{
	double full_ns = result->own.median > result->limit.median ? result->own.median : result->limit.median;
	char bs[TOOL_BYTES_TEXT], rate[TOOL_BYTES_TEXT];

	printf("\n%s, %s, %u thread%s: ratio %.2f, %.0f IOPS, %s/s\n", bench_job_names[result->job],
	       tool_bytes_text(bs, args->block_len), args->threads, args->threads == 1 ? "" : "s", ratio_of(result),
	       result->iops, tool_bytes_text(rate, (uint64_t)(result->iops * (double)args->block_len)));
	print_bar("own", &result->own, full_ns);
	print_bar("limit", &result->limit, full_ns);
	printf("  latency: p50 %llu ns, p99 %llu ns, p99.9 %llu ns, max %llu ns",
	       (unsigned long long)bench_hist_quantile(&result->hist, 500),
	       (unsigned long long)bench_hist_quantile(&result->hist, 990),
	       (unsigned long long)bench_hist_quantile(&result->hist, 999), (unsigned long long)result->hist.max_ns);
	if (result->hit_percent < 100)
		printf("; %.1f %% of the bytes read were hits", result->hit_percent);
	putchar('\n');
	fflush(stdout);
}

static void print_json_spread(const char *name, const struct bench_spread *spread)
{
	printf(", \"%s_min\": %.1f, \"%s_max\": %.1f", name, spread->min, name, spread->max);
}

static void print_json(const struct bench_args *args, const struct bench_result *result, bool first)
{
	printf("%s\n  {\"job\": \"%s\", \"bs\": %llu, \"threads\": %u, \"ns_per_op\": %.1f, \"limit_ns_per_op\": %.1f, "
	       "\"ratio\": %.4f, \"iops\": %.0f",
	       first ? "" : ",", bench_job_names[result->job], (unsigned long long)args->block_len, args->threads,
	       result->own.median, result->limit.median, ratio_of(result), result->iops);
	printf(", \"p50_ns\": %llu, \"p99_ns\": %llu, \"p999_ns\": %llu, \"max_ns\": %llu",
	       (unsigned long long)bench_hist_quantile(&result->hist, 500),
	       (unsigned long long)bench_hist_quantile(&result->hist, 990),
	       (unsigned long long)bench_hist_quantile(&result->hist, 999), (unsigned long long)result->hist.max_ns);
	print_json_spread("ns_per_op", &result->own);
	print_json_spread("limit_ns_per_op", &result->limit);
	printf(", \"limit_copy_ns\": %.1f, \"limit_crc_ns\": ", result->limit_copy.median);
	if (result->limit_crc.median > 0)
		printf("%.1f", result->limit_crc.median);
	else
		fputs("null", stdout);
	printf(", \"slices\": %u, \"hit_percent\": %.2f}", result->slice_nr, result->hit_percent);
}

static void print_place(const struct bench_args *args, const struct bench_place *place, const char *copy_name)
{
	char cache[TOOL_BYTES_TEXT], size[TOOL_BYTES_TEXT];
	bool forced = (place->info.state_flags & PCACHE_STATE_GRANULARITY_FORCED) != 0;

	if (args->json) {
		printf("\n], \"place\": \"%s\", \"granularity\": \"%s\", \"granularity_forced\": %s, \"huge_pages\": "
		       "%s",
		       place->text, granularity_text(&place->info), forced ? "true" : "false",
		       place->info.state_flags & PCACHE_STATE_HUGE_PAGES ? "true" : "false");
		printf(", \"commit\": \"%s\", \"ordering\": \"%s\", \"data_crc\": %s, \"writeback\": %s",
		       place->info.commit == PCACHE_COMMIT_WRITE ? "write" : "flush",
		       place->info.ordering == PCACHE_ORDERING_BATCH ? "batch" : "strict",
		       args->data_crc ? "true" : "false", args->writeback ? "true" : "false");
		printf(", \"cache_bytes\": %llu, \"size_bytes\": %llu, \"limit_copy\": \"%s\"}\n",
		       (unsigned long long)place->cache_bytes, (unsigned long long)place->size_bytes, copy_name);
		return;
	}
	printf("cache of %s, working set %s, on %s\n", tool_bytes_text(cache, place->cache_bytes),
	       tool_bytes_text(size, place->size_bytes), place->text);
	printf("granularity %s%s, %scommit %s, ordering %s, data CRC %s, write-back %s, limit copies by %s\n",
	       granularity_text(&place->info), forced ? " (forced)" : "",
	       place->info.state_flags & PCACHE_STATE_HUGE_PAGES ? "huge pages, " : "",
	       place->info.commit == PCACHE_COMMIT_WRITE ? "write" : "flush",
	       place->info.ordering == PCACHE_ORDERING_BATCH ? "batch" : "strict", args->data_crc ? "on" : "off",
	       args->writeback ? "on" : "off", copy_name);
}

static int run_jobs(struct bench_place *place, const struct bench_args *args)
{
	struct bench_result *result = calloc(1, sizeof(*result));
	uint8_t *buf = calloc(1, args->block_len);
	struct tool_progress progress;
	const char *copy_name;
	bool first = true;
	int job, err = 0;

	if (!result || !buf) {
		free(result);
		free(buf);
		return tool_fail("bench", -ENOMEM);
	}
	copy_name = bench_limit_init(place->limit_map, buf, args->block_len);
	if (args->json)
		fputs("{\"jobs\": [", stdout);
	else
		print_place(args, place, copy_name);
	for (job = 0; job < BENCH_JOB_NR && err == 0; job++) {
		if (!(args->jobs & 1u << job))
			continue;
		tool_progress_init(&progress, bench_job_names[job]);
		err = bench_run(place, args, (enum bench_job)job, &progress, result);
		tool_progress_fini(&progress);
		if (err == 0 && args->json)
			print_json(args, result, first);
		else if (err == 0)
			print_text(args, result);
		first = false;
	}
	if (args->json)
		print_place(args, place, copy_name);
	free(result);
	free(buf);
	return err < 0 ? tool_fail("bench", err) : TOOL_OK;
}

static int bench(const struct bench_args *args)
{
	struct bench_place place;
	int result, close_result;

	result = bench_place_open(&place, args);
	if (result != TOOL_OK)
		return result;
	result = run_jobs(&place, args);
	close_result = bench_place_close(&place);
	return result != TOOL_OK ? result : close_result;
}

int tool_cmd_bench(int argc, char **argv)
{
	struct bench_args args = {
		.jobs = 1u << BENCH_RANDWRITE | 1u << BENCH_RANDREAD,
		.block_len = 4096,
		.threads = 1,
		.seconds = 4,
		.writeback = true,
		.data_crc = true,
	};
	bool done = false;
	int result, err;

	err = pcache_config_new(&args.config);
	if (err < 0)
		return tool_fail("bench", err);
	result = parse(argc, argv, &args, &done);
	if (result == TOOL_OK && !done)
		result = bench(&args);
	pcache_config_free(args.config);
	return result;
}
