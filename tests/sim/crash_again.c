/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A power cut as an operation: the same world goes on after it. So any number of them can follow each other, also inside open, where torn ends of the log add up.
 *
 * The argument says which words and writes persist: it is the seed of all choices. With its highest bit set, up to three opens are cut short by another one first.
 */
#include "sim/crash_internal.h"

#include <stdlib.h>
#include <string.h>

#define CUT_OPEN_FENCES 14u /* an open is cut before one of its first fences */

/* What persists of the media; the power is on again. */
static void cut_media(struct crash_world *w, struct pc_rng *rng, uint8_t *image)
{
	static const enum pc_sim_policy policies[] = {PC_SIM_NONE, PC_SIM_ALL, PC_SIM_RANDOM, PC_SIM_RANDOM, PC_SIM_RANDOM_LINES, PC_SIM_RANDOM_LINES};
	const enum pc_sim_policy policy = policies[pc_rng_below(rng, (uint32_t)PC_ARRAY_NR(policies))];

	(void)pc_sim_crash(w->sim, policy, policy < PC_SIM_RANDOM ? 0 : pc_rng_next(rng), image);
	pc_sim_reset(w->sim, image);
	pc_sim_crash_at(w->sim, 0, crash_at_fence, w);
}

static void cut_disk(struct crash_world *w, struct pc_rng *rng)
{
	struct pc_oracle_disk before;
	uint8_t *keep = crash_must(malloc(w->disk.pending_nr + 1));
	const uint32_t bias = pc_rng_below(rng, 9);

	for (uint32_t i = 0; i < w->disk.pending_nr; i++)
		keep[i] = pc_rng_below(rng, 8) < bias;
	pc_oracle_disk_init(&before);
	if (!pc_oracle_disk_copy(&before, &w->disk))
		abort();
	pc_oracle_disk_cut(&w->disk, &before, keep);
	pc_oracle_disk_fini(&before);
	free(keep);
}

static void cut_power(struct crash_world *w, struct pc_rng *rng, uint8_t *image)
{
	if (w->cache != NULL)
		pc_cache_abandon(w->cache);
	w->cache = NULL;
	cut_media(w, rng, image);
	cut_disk(w, rng);
	if (!pc_oracle_check_backing(w->oracle, &w->disk))
		crash_fail(w, "%s", pc_oracle_text(w->oracle));
}

/* An open during which the power fails. True if it did; else the cache is open. */
static bool open_cut_short(struct crash_world *w, struct pc_rng *rng)
{
	bool stopped;
	int rc;

	w->stop_in = 1 + pc_rng_below(rng, CUT_OPEN_FENCES);
	rc = crash_try_open(w, w->run->config);
	stopped = w->stop_in == 0;
	w->stop_in = 0;
	if (stopped)
		w->run->result->reached[PC_REACHED_CUT_OPENS] += w->depth == 0;
	else if (rc != 0 && !w->run->stop)
		crash_fail(w, "open gives %d: %s", rc, crash_error_text(rc));
	return stopped;
}

void crash_do_crash(struct crash_world *w, uint32_t arg)
{
	struct pc_rng rng = {pc_rng_mix(arg)};
	uint8_t *image = crash_must(malloc(w->run->shape.media_bytes));
	const bool exploring = w->exploring;
	const bool no_faults = w->no_faults;

	cut_power(w, &rng, image);
	w->exploring = false;
	w->no_faults = true;
	for (uint32_t left = arg >> 31 != 0 ? 1 + pc_rng_below(&rng, 3) : 0; left > 0 && !w->run->stop && open_cut_short(w, &rng); left--)
		cut_power(w, &rng, image);
	w->exploring = exploring;
	if (!w->run->stop && w->cache == NULL)
		(void)crash_open(w);
	if (!w->run->stop && crash_read_all(w, w->run->seen)) {
		if (pc_oracle_recover(w->oracle, w->run->seen))
			pc_oracle_flushed(w->oracle, true); /* what an open shows is an epoch of its own */
		else
			crash_fail(w, "%s", pc_oracle_text(w->oracle));
	}
	w->no_faults = no_faults;
	free(image);
}
