/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check: reads everything and reports what is wrong, and where.
 *
 * This file parses the arguments, runs the steps in their order (each needs what the one before found) and prints the
 * summary. What the steps judge is described where they are; check.h lists them. The media is opened with the lock,
 * because a cache in use changes under the eyes of a reader, and without the means to store: a check changes nothing,
 * whatever it finds.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "pcache/errors.h"
#include "tool/check.h"

static const char check_help[] =
	"pcache check - read everything and report what is wrong\n"
	"\n"
	"Usage: pcache check CACHE [--json] [--no-data]\n"
	"\n"
	"Reads the records, the log and all cached data, and compares them with the rules of the format and the CRCs. "
	"Nothing is\n"
	"stored. The cache must not be open. Each problem has a media offset and one of three severities:\n"
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

static void print_text(const struct check *check)
{
	const struct check_counts *counts = &check->counts;
	char dirty[TOOL_BYTES_TEXT], clean[TOOL_BYTES_TEXT], verified[TOOL_BYTES_TEXT];

	printf("segments   %" PRIu64 " of data, %" PRIu64 " of the log, %" PRIu64 " formerly of the log, %" PRIu64
	       " never used\n",
	       counts->segments_data, counts->segments_log - counts->segments_old_log, counts->segments_old_log,
	       counts->segments_free);
	printf("log        %" PRIu64 " ksets (%" PRIu64 " void, %" PRIu64 " marks), %" PRIu64 " keys, %" PRIu64
	       " unfinished; positions %" PRIu64 " to %" PRIu64 ", marked up to %" PRIu64 "\n",
	       counts->ksets, counts->voids, counts->marks, counts->keys, counts->unfinished, check->tail.log_tail_pos,
	       check->end_pos, check->mark_pos);
	printf("live       %" PRIu64 " extents: %s dirty, %s clean; %" PRIu64 " bytes of dirty zeroes\n",
	       counts->live_extents, tool_bytes_text(dirty, counts->dirty_bytes),
	       tool_bytes_text(clean, counts->clean_bytes), counts->dirty_zero_bytes);
	printf("verified   %s%s\n", tool_bytes_text(verified, counts->verified_bytes),
	       !check->rules.data_crc ? " (the cache keeps no data CRC)"
	       : check->no_data       ? " (--no-data)"
				      : "");
	printf("problems   %" PRIu64 " notes, %" PRIu64 " repairs, %" PRIu64 " damage\n", check->problem_nr[CHECK_NOTE],
	       check->problem_nr[CHECK_REPAIR], check->problem_nr[CHECK_DAMAGE]);
	printf("%s: %s\n", check->path,
	       check->problem_nr[CHECK_DAMAGE] ? "DAMAGED; keep a copy before anything else is done with it"
	       : check->clean_close            ? "sound, closed properly"
					       : "sound, not closed; the next open recovers it");
}

static void print_json(const struct check *check)
{
	const struct check_counts *counts = &check->counts;
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {
		{ "problems_shown", check->shown_nr },
		{ "notes", check->problem_nr[CHECK_NOTE] },
		{ "repairs", check->problem_nr[CHECK_REPAIR] },
		{ "damage", check->problem_nr[CHECK_DAMAGE] },
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
		{ "log_tail", check->tail.log_tail_pos },
		{ "log_dirty_tail", check->tail.dirty_tail_pos },
		{ "log_mark", check->mark_pos },
		{ "log_end", check->end_pos },
	};
	size_t i;

	fputs(check->shown_nr ? "], \"path\": " : "{\"problems\": [], \"path\": ", stdout);
	tool_json_string(stdout, check->path);
	printf(", \"clean_close\": %s", check->clean_close ? "true" : "false");
	for (i = 0; i < TOOL_ARRAY_NR(numbers); i++)
		printf(", \"%s\": %" PRIu64, numbers[i].name, numbers[i].value);
	puts("}");
}

/* Open refuses a file with holes: a store into one on a full disk would end the process. Only the mapping can tell. */
static void check_holes(struct check *check)
{
	if (pc_media_map(check->media) == PCACHE_E_HOLES)
		check_problem(check, CHECK_DAMAGE, CHECK_NOWHERE,
			      "the file has holes, so that no open takes it; fill them with `fallocate -l %" PRIu64
			      " %s`",
			      check->super.media_bytes, check->path);
}

/* The steps; 0 or a code when there is nothing to check. Damage is in the counts. */
static int run_steps(struct check *check)
{
	int err;

	check_tails(check);
	err = check_segrecs(check);
	if (err == 0 && check->tail_valid) {
		err = check_chain(check);
		if (err == 0)
			err = check_log(check);
		if (err == 0)
			err = check_map(check);
	}
	return err;
}

static int check_media(struct check *check)
{
	int err = check_supers(check);

	if (err < 0)
		return err;
	if (err == 0) {
		check->verify_left_bytes = 3 * (uint64_t)check->super.segment_nr * check->super.segment_bytes;
		check_holes(check);
		tool_progress_init(&check->progress, "check");
		err = run_steps(check);
		tool_progress_fini(&check->progress);
		free(check->segrecs);
		free(check->log_segments);
		free(check->keys);
		free(check->crcs);
		free(check->pieces);
		if (err < 0)
			return err;
	}
	return 0;
}

static int explain(const char *path, int err)
{
	if (err != -EBUSY)
		return tool_fail(path, err);
	tool_error(path, "is open in another process, and changes while it is read; close it there, then check it");
	return TOOL_FAILED;
}

static int check_path(struct check *check)
{
	int err = pc_media_open(check->path, PC_MEDIA_RDONLY, NULL, &check->media);

	if (err < 0)
		return explain(check->path, err);
	err = check_media(check);
	pc_media_close(check->media);
	if (check->json && (err == 0 || check->shown_nr))
		print_json(check);
	else if (err == 0)
		print_text(check);
	if (err < 0)
		return explain(check->path, err);
	return check->problem_nr[CHECK_DAMAGE] ? TOOL_DAMAGE : TOOL_OK;
}

int tool_cmd_check(int argc, char **argv)
{
	struct check check = { 0 };
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
			check.json = true;
		else
			check.no_data = true;
	}
	check.path = tool_arg_path(argc, argv, "cache");
	return check.path ? check_path(&check) : TOOL_USAGE;
}
