/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check: reads everything and reports what is wrong, and where.
 *
 * This file parses the arguments and prints findings and summary; check.h is what it calls. The media is opened with the lock,
 * because a cache in use changes under the eyes of a reader, and without the means to store: a check changes nothing,
 * whatever it finds.
 *
 * Text: `damage @0x2000: what is wrong`. JSON: members of the array "problems", which the first finding opens and the summary closes.
 */
#include <errno.h>
#include <inttypes.h>

#include "pcache/errors.h"
#include "tool/check.h"
#include "tool/tool.h"

static const char check_help[] =
	"pcache check - read everything and report what is wrong\n"
	"\n"
	"Usage: pcache check CACHE [--json] [--no-data]\n"
	"\n"
	"Reads the records, the log and all cached data, and compares them with the rules of the format and the CRCs. "
	"Nothing is\n"
	"stored. The cache must not be open. Each problem is one line: severity, media offset, what is wrong, the rule that is\n"
	"broken (docs/TOOL.md lists them), what to do next. Severities:\n"
	"  note    worth knowing; a crash explains it, the next open deals with it\n"
	"  repair  one of two copies of a record is bad or old; the next open mends it, nothing is lost\n"
	"  damage  no crash explains it\n"
	"\n"
	"Options:\n"
	"  --json      one JSON object\n"
	"  --no-data   do not read the data; ksets that were not finished by a crash are then taken for finished\n"
	"  -h, --help  this text\n"
	"\n"
	"Exit codes: 0 no damage, 1 cannot be checked, 2 wrong usage, 3 damage.\n"
	"\n"
	"Examples:\n"
	"  pcache check /mnt/pmem/cache\n"
	"  pcache check --json /mnt/pmem/cache | jq '.problems[] | select(.severity == \"damage\")'";

enum { OPT_JSON = 1000, OPT_NO_DATA };

static const struct option check_options[] = {
	{ "json", no_argument, NULL, OPT_JSON },
	{ "no-data", no_argument, NULL, OPT_NO_DATA },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/* What this command was told, and has printed. */
struct run {
	const char *path;
	bool json;
	bool no_data;
	struct tool_progress progress;
	uint32_t shown_nr;
	struct check_result result;
};

static const char *const severity_names[CHECK_SEVERITY_NR] = { "note", "repair", "damage" };
static const char *const zone_names[CHECK_ZONE_NR] = { "file", "superblock", "tail", "segment records", "log", "data" };

static void print_finding_json(const struct run *run, const struct check_finding *finding)
{
	printf("%s{\"severity\": \"%s\", \"media_off\": ", run->shown_nr ? ", " : "{\"problems\": [",
	       severity_names[finding->severity]);
	if (finding->media_off == CHECK_NOWHERE)
		fputs("null", stdout);
	else
		printf("%" PRIu64, finding->media_off);
	printf(", \"zone\": \"%s\", \"rule\": \"%s\", \"text\": ", zone_names[finding->zone],
	       check_rule_number(finding->rule));
	tool_json_string(stdout, finding->text);
	fputs(", \"next\": ", stdout);
	tool_json_string(stdout, finding->next);
	putchar('}');
}

static void print_finding_text(const struct check_finding *finding)
{
	printf("%s", severity_names[finding->severity]);
	if (finding->media_off != CHECK_NOWHERE)
		printf(" @0x%" PRIx64, finding->media_off);
	printf(": %s [%s]; %s\n", finding->text, check_rule_number(finding->rule), finding->next);
}

static void print_finding(void *user, const struct check_finding *finding)
{
	struct run *run = user;

	tool_progress_wipe(&run->progress);
	if (run->json)
		print_finding_json(run, finding);
	else
		print_finding_text(finding);
	run->shown_nr++;
	if (run->shown_nr == CHECK_SHOWN_MAX && !run->json)
		puts("(further problems are counted, not shown)");
}

static void show_progress(void *user, uint64_t done, uint64_t total)
{
	struct run *run = user;

	tool_progress_show(&run->progress, done, total);
}

static void print_text(const struct run *run)
{
	const struct check_result *result = &run->result;
	const struct check_counts *counts = &result->counts;
	char dirty[TOOL_BYTES_TEXT], clean[TOOL_BYTES_TEXT], verified[TOOL_BYTES_TEXT];

	printf("segments   %" PRIu64 " of data, %" PRIu64 " of the log, %" PRIu64 " formerly of the log, %" PRIu64
	       " never used\n",
	       counts->segments_data, counts->segments_log - counts->segments_old_log, counts->segments_old_log,
	       counts->segments_free);
	printf("log        %" PRIu64 " ksets (%" PRIu64 " void, %" PRIu64 " marks), %" PRIu64 " keys, %" PRIu64
	       " unfinished; positions %" PRIu64 " to %" PRIu64 ", marked up to %" PRIu64 "\n",
	       counts->ksets, counts->voids, counts->marks, counts->keys, counts->unfinished, result->tail.log_tail_pos,
	       result->end_pos, result->mark_pos);
	printf("live       %" PRIu64 " extents: %s dirty, %s clean; %" PRIu64 " bytes of dirty zeroes\n",
	       counts->live_extents, tool_bytes_text(dirty, counts->dirty_bytes),
	       tool_bytes_text(clean, counts->clean_bytes), counts->dirty_zero_bytes);
	printf("verified   %s%s\n", tool_bytes_text(verified, counts->verified_bytes),
	       !(result->super.flags & PC_SUPER_FLAG_DATA_CRC) ? " (the cache keeps no data CRC)"
	       : run->no_data                                  ? " (--no-data)"
							       : "");
	printf("problems   %" PRIu64 " notes, %" PRIu64 " repairs, %" PRIu64 " damage\n",
	       result->finding_nr[CHECK_NOTE], result->finding_nr[CHECK_REPAIR], result->finding_nr[CHECK_DAMAGE]);
	printf("%s: %s\n", run->path,
	       result->finding_nr[CHECK_DAMAGE] ? "DAMAGED; keep a copy before anything else is done with it"
	       : result->clean_close            ? "sound, closed properly"
						: "sound, not closed; the next open recovers it");
}

static void print_json(const struct run *run)
{
	const struct check_result *result = &run->result;
	const struct check_counts *counts = &result->counts;
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {
		{ "problems_shown", run->shown_nr },
		{ "notes", result->finding_nr[CHECK_NOTE] },
		{ "repairs", result->finding_nr[CHECK_REPAIR] },
		{ "damage", result->finding_nr[CHECK_DAMAGE] },
		{ "segments_data", counts->segments_data },
		{ "segments_log", counts->segments_log - counts->segments_old_log },
		{ "segments_old_log", counts->segments_old_log },
		{ "segments_unused", counts->segments_free },
		{ "ksets", counts->ksets },
		{ "voids", counts->voids },
		{ "marks", counts->marks },
		{ "keys", counts->keys },
		{ "unfinished", counts->unfinished },
		{ "live_extents", counts->live_extents },
		{ "dirty_bytes", counts->dirty_bytes },
		{ "dirty_zero_bytes", counts->dirty_zero_bytes },
		{ "clean_bytes", counts->clean_bytes },
		{ "poisoned_bytes", counts->poisoned_bytes },
		{ "verified_bytes", counts->verified_bytes },
		{ "log_tail", result->tail.log_tail_pos },
		{ "log_dirty_tail", result->tail.dirty_tail_pos },
		{ "log_mark", result->mark_pos },
		{ "log_end", result->end_pos },
	};
	size_t i;

	fputs(run->shown_nr ? "], \"path\": " : "{\"problems\": [], \"path\": ", stdout);
	tool_json_string(stdout, run->path);
	printf(", \"clean_close\": %s", result->clean_close ? "true" : "false");
	for (i = 0; i < TOOL_ARRAY_NR(numbers); i++)
		printf(", \"%s\": %" PRIu64, numbers[i].name, numbers[i].value);
	puts("}");
}

static int explain(const char *path, int err)
{
	if (err != -EBUSY)
		return tool_fail(path, err);
	tool_error(path, "is open in another process, and changes while it is read; close it there, then check it");
	return TOOL_FAILED;
}

static int check_path(struct run *run)
{
	const struct check_settings settings = {
		.no_data = run->no_data, .finding = print_finding, .progress = show_progress, .user = run
	};
	struct pc_media *media;
	int err = pc_media_open(run->path, PC_MEDIA_RDONLY, NULL, &media);

	if (err < 0)
		return explain(run->path, err);
	tool_progress_init(&run->progress, "check");
	err = check_run(media, &settings, &run->result);
	tool_progress_fini(&run->progress);
	pc_media_close(media);
	if (run->json && (err == 0 || run->shown_nr))
		print_json(run);
	else if (err == 0)
		print_text(run);
	if (err < 0)
		return explain(run->path, err);
	return run->result.finding_nr[CHECK_DAMAGE] ? TOOL_DAMAGE : TOOL_OK;
}

int tool_cmd_check(int argc, char **argv)
{
	struct run run = { 0 };
	int id;

	while ((id = tool_option_next(argc, argv, check_options)) != TOOL_OPT_END) {
		if (id == TOOL_OPT_BAD)
			return TOOL_USAGE;
		if (id == 'h') {
			puts(check_help);
			return TOOL_OK;
		}
		if (id == 'v')
			return tool_usage(argv[0], "option '-v' is not known");
		if (id == OPT_JSON)
			run.json = true;
		else
			run.no_data = true;
	}
	run.path = tool_arg_path(argc, argv, "cache");
	return run.path ? check_path(&run) : TOOL_USAGE;
}
