/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache bench: measures jobs on a cache of its own, each next to its limit.
 *
 * This file parses the arguments and runs one job after the other, each on a cache that is new, so that none inherits what another left. What is measured, and how, stands in
 * bench_run.c, bench_rounds.c and bench_limit.c; where the files lie in bench_place.c; how it is shown in bench_print.c.
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
	"Makes a cache of its own for each job, runs the job in slices of 50 ms that alternate with its limit, and\n"
	"removes the cache. The limit is the same bytes with no cache around them: for a write the copy past the CPU\n"
	"caches with a log slot of 64 bytes and one fence, for a read the copy out of the mapping, with its CRC in\n"
	"one pass. It is taken with and without a CRC where the job allows, and the faster one counts. A ratio of 1.00 "
	"is the limit.\n"
	"\n"
	"Jobs:\n"
	"  randwrite, seqwrite    writes\n"
	"  randread, seqread      reads that hit\n"
	"  mixed                  70 % reads\n"
	"  writeflush             write and flush; limit at page granularity: memcpy to a mapping and msync, or with\n"
	"                         --flush-every above 1 pwrite and fdatasync of each\n"
	"  batch                  16 blocks in one atomic write; limit: their copies, their slots, one fence\n"
	"  miss                   reads of a file backing, nothing kept; limit: pread of that file\n"
	"  drain                  the working set, dirty at random, to a file; limit: the same blocks, sorted and\n"
	"                         merged, by io_uring\n"
	"  open                   close, and open with as many keys; limit: reading the log once\n"
	"\n"
	"Options:\n"
	"  --job LIST             jobs, separated by commas, or all; default randwrite,randread\n"
	"  --bs BYTES             length of a block, a multiple of 512; default 4k\n"
	"  --threads N            default 1\n"
	"  --seconds N            time per job; default 4\n"
	"  --size BYTES           working set; default the smaller of 1 GiB and a quarter of the cache\n"
	"  --spread BYTES         logical space over which the blocks of the working set are spread; default its size\n"
	"  --flush-every N        writeflush: writes per flush; default 1\n"
	"  --warm-up cache|set    jobs that write go once through the whole cache before they are measured, so that "
	"room is\n"
	"                         made as fast as it is taken; or write the working set only; default cache\n"
	"  --fill on|off          miss: keep what was read; default off\n"
	"  --cache-size BYTES     default four times --size, or up to 4 GiB, as there is room\n"
	"  --cache PATH           directory, or path of a new file; default /dev/shm if there is room (DRAM then\n"
	"                         stands in for persistent memory), else TMPDIR\n"
	"  --backing PATH         file or block device to write to; it must hold zeroes only; default one that does\n"
	"                         nothing, for miss and drain a scratch file in TMPDIR\n"
	"  --force                overwrite a backing that holds data\n"
	"  --data-crc on|off      default on\n"
	"  --commit auto|write|flush  when a write is durable; default auto\n"
	"  --ordering strict|batch    order of write-back; default strict\n"
	"  --writeback on|off|flat    on: after 100 ms; off: none unless the cache runs full; flat: at once, without "
	"rest;\n"
	"                         default on; drain and open have it off\n"
	"  --json                 one JSON object\n"
	"  -v, --verbose          print messages of the library\n"
	"  -h, --help             this text\n"
	"\n"
	"Exit codes: 0 done, 1 failed, 2 wrong usage.\n"
	"\n"
	"Examples:\n"
	"  pcache bench\n"
	"  pcache bench --job randwrite --bs 512 --threads 2 --json\n"
	"  pcache bench --job writeflush --cache /mnt/pmem --seconds 10\n"
	"  pcache bench --job drain --size 1G --ordering batch";

enum {
	OPT_JOB = 1000,
	OPT_BS,
	OPT_THREADS,
	OPT_SECONDS,
	OPT_SIZE,
	OPT_SPREAD,
	OPT_FLUSH_EVERY,
	OPT_FILL,
	OPT_WARM_UP,
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
	{ "spread", required_argument, NULL, OPT_SPREAD },
	{ "flush-every", required_argument, NULL, OPT_FLUSH_EVERY },
	{ "warm-up", required_argument, NULL, OPT_WARM_UP },
	{ "fill", required_argument, NULL, OPT_FILL },
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
static const char *const warm_up_words[] = { "cache", "set", NULL };
static const char *const writeback_words[] = { "on", "off", "flat", NULL };

static int parse_jobs(const char *command, const char *text, struct bench_args *args)
{
	char *copy = strdup(text), *rest = copy, *word;
	int result = TOOL_OK;

	if (!copy)
		return tool_fail(command, -ENOMEM);
	args->jobs = 0;
	while ((word = strsep(&rest, ",")) && result == TOOL_OK) {
		int job = tool_parse_word(word, bench_job_names);

		if (job < 0 && strcmp(word, "all") == 0)
			args->jobs = (1u << BENCH_JOB_NR) - 1;
		else if (job < 0)
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
	case OPT_FLUSH_EVERY:
		if (!tool_parse_u64(text, 1, 1000000, &value))
			return tool_usage(command, "option --flush-every wants a number from 1 to 1000000, not '%s'",
					  text);
		args->flush_every = (uint32_t)value;
		break;
	case OPT_SPREAD:
		if (!tool_parse_bytes(text, &args->spread_bytes) || args->spread_bytes < 4096 ||
		    args->spread_bytes > UINT64_C(1) << 56)
			return tool_usage(command, "option --spread wants a size such as 64G, not '%s'", text);
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
	const char *name = id == OPT_CRC ? "data-crc" : "fill", *wants = "on or off";
	const char *const *words = on_off;
	int word;

	if (id == OPT_COMMIT)
		return tool_config_set(command, args->config, "commit", "commit", text, "auto, write or flush");
	if (id == OPT_ORDERING)
		return tool_config_set(command, args->config, "ordering", "ordering", text, "strict or batch");
	if (id == OPT_WRITEBACK) {
		words = writeback_words;
		name = "writeback";
		wants = "on, off or flat";
	} else if (id == OPT_WARM_UP) {
		words = warm_up_words;
		name = "warm-up";
		wants = "cache or set";
	}
	word = tool_parse_word(text, words);
	if (word < 0) {
		tool_usage(command, "option --%s wants %s, not '%s'", name, wants, text);
		return false;
	}
	if (id == OPT_CRC) {
		args->data_crc = word == 0;
		(void)pcache_config_set(args->config, PCACHE_OPT_DATA_CRC, word == 0);
	} else if (id == OPT_WARM_UP) {
		args->lap = word == 0;
	} else if (id == OPT_FILL) {
		args->fill = word == 0;
	} else {
		args->writeback = (enum bench_writeback)word;
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
		case OPT_FILL:
		case OPT_WARM_UP:
			result = parse_word(argv[0], id, optarg, args) ? TOOL_OK : TOOL_USAGE;
			break;
		default:
			result = parse_number(argv[0], id, optarg, args);
		}
	}
	if (result == TOOL_OK && optind < argc)
		result = tool_usage(argv[0], "'%s' is too much; a place is given with --cache", argv[optind]);
	if (result == TOOL_OK && args->spread_bytes && args->spread_bytes < args->size_bytes)
		result = tool_usage(argv[0], "--spread is smaller than --size");
	if (result == TOOL_OK && args->spread_bytes && !args->size_bytes)
		result = tool_usage(argv[0], "--spread wants a --size, too");
	if (result == TOOL_OK && args->size_bytes % args->block_len)
		result = tool_usage(argv[0], "--size is no multiple of --bs");
	return result;
}

/* ---- running ------------------------------------------------------------ */

struct bench_all {
	const struct bench_args *args;
	struct bench_result *result;
	struct bench_place shown; /* the place of the first job, closed, for describing it */
	struct bench_line lines[BENCH_JOB_NR];
	uint32_t line_nr;
};

static void set_delay(const struct bench_args *args, enum bench_job job)
{
	uint64_t delay_ms = args->writeback == BENCH_WRITEBACK_ON ? 100 : 0;

	/* These two need what they wrote to stay dirty until they say. */
	if (args->writeback == BENCH_WRITEBACK_OFF || job == BENCH_DRAIN || job == BENCH_OPEN)
		delay_ms = 3600000;
	(void)pcache_config_set(args->config, PCACHE_OPT_WRITEBACK_DELAY_MS, delay_ms);
}

/* What is the same for all jobs: kernels, and the head of the text. */
static int begin_all(struct bench_all *all, const struct bench_place *place)
{
	struct bench_trial trial = { .map = place->limit_map,
				     .map_bytes = place->limit_data_bytes,
				     .len = all->args->block_len };

	trial.buf = aligned_alloc(4096, (trial.len + 4095) & ~(size_t)4095);
	if (!trial.buf)
		return tool_fail("bench", -ENOMEM);
	memset(trial.buf, 0x77, trial.len);
	bench_kernel_init(&trial);
	free(trial.buf);
	all->shown = *place;
	if (all->args->json)
		fputs("{\"jobs\": [", stdout);
	else
		bench_print_place(all->args, place);
	return TOOL_OK;
}

static void show(struct bench_all *all)
{
	if (all->args->json)
		bench_print_json(all->args, all->result, all->line_nr == 0);
	else
		bench_print_text(all->args, all->result);
	all->lines[all->line_nr++] = (struct bench_line){ .job = all->result->job, .ratio = all->result->ratio };
}

static int run_job(struct bench_all *all, enum bench_job job)
{
	struct bench_args args = *all->args;
	struct tool_progress progress;
	struct bench_place place;
	struct bench_run run = { .place = &place, .args = &args, .progress = &progress, .result = all->result };
	int result, close_result, err;

	args.jobs = 1u << job;
	set_delay(&args, job);
	memset(all->result, 0, sizeof(*all->result));
	all->result->job = job;
	all->result->op_bytes = bench_op_bytes(job, &args);
	tool_progress_init(&progress, bench_job_names[job]);
	result = bench_place_open(&place, &args);
	if (result != TOOL_OK)
		return result;
	if (all->line_nr == 0)
		result = begin_all(all, &place);
	if (result == TOOL_OK) {
		err = job == BENCH_DRAIN  ? bench_run_drain(&run)
		      : job == BENCH_OPEN ? bench_run_open(&run)
					  : bench_run_slices(&run, job);
		tool_progress_fini(&progress);
		if (err < 0)
			result = tool_fail("bench", err);
		else
			show(all);
	}
	close_result = bench_place_close(&place);
	return result != TOOL_OK ? result : close_result;
}

static int bench(const struct bench_args *args)
{
	struct bench_all *all = calloc(1, sizeof(*all));
	int job, result = TOOL_OK;

	if (all)
		all->result = calloc(1, sizeof(*all->result));
	if (!all || !all->result) {
		free(all);
		return tool_fail("bench", -ENOMEM);
	}
	all->args = args;
	for (job = 0; job < BENCH_JOB_NR && result == TOOL_OK; job++) {
		if (args->jobs & 1u << job)
			result = run_job(all, (enum bench_job)job);
	}
	if (all->line_nr && args->json) {
		fputs("\n], ", stdout);
		bench_print_json_place(args, &all->shown);
		puts("}");
	} else {
		bench_print_chart(all->lines, all->line_nr);
	}
	free(all->result);
	free(all);
	return result;
}

int tool_cmd_bench(int argc, char **argv)
{
	struct bench_args args = {
		.jobs = 1u << BENCH_RANDWRITE | 1u << BENCH_RANDREAD,
		.block_len = 4096,
		.threads = 1,
		.seconds = 4,
		.flush_every = 1,
		.lap = true,
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
