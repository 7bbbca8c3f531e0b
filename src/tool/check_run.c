/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check, the run: the steps in their order, each of which needs what the one before found. What the steps judge is
 * described where they are.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pcache/errors.h"
#include "tool/check_internal.h"

/* Open refuses a file with holes: a store into one on a full disk would end the process. Only the mapping can tell. */
static void check_holes(struct check *check)
{
	if (!check->media->base && pc_media_map(check->media) == PCACHE_E_HOLES)
		check_problem(check, CHECK_F2, CHECK_DAMAGE, CHECK_NOWHERE,
			      "the file has holes within %" PRIu64 " bytes", check->super.media_bytes);
}

static int run_steps(struct check *check)
{
	int err;

	check->verify_left_bytes = 3 * (uint64_t)check->super.segment_nr * check->super.segment_bytes;
	check_holes(check);
	check_tails(check);
	err = check_segrecs(check);
	if (err || !check->tail_valid)
		return err;
	err = check_chain(check);
	if (err == 0)
		err = check_log(check);
	if (err == 0)
		err = check_map(check);
	return err;
}

static void fill_result(const struct check *check, struct check_result *result)
{
	result->super_valid = check->super.segment_bytes != 0;
	result->tail_valid = check->tail_valid;
	result->clean_close = check->clean_close;
	result->super = check->super;
	result->tail = check->tail;
	result->mark_pos = check->mark_pos;
	result->end_pos = check->end_pos;
	result->counts = check->counts;
}

int check_run(struct pc_media *media, const struct check_settings *settings, struct check_result *out_result)
{
	struct check check = {
		.media = media, .settings = settings, .result = out_result, .no_data = settings->no_data
	};
	int err;

	memset(out_result, 0, sizeof(*out_result));
	err = check_supers(&check);
	if (err < 0)
		return err;
	if (err > 0) {
		fill_result(&check, out_result);
		return 0;
	}
	err = run_steps(&check);
	fill_result(&check, out_result);
	free(check.segrecs);
	free(check.log_segments);
	free(check.inside);
	free(check.keys);
	free(check.crcs);
	free(check.pieces);
	return err;
}
