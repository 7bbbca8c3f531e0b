/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check in the crash simulator: a second reader of the same bytes, written from docs/FORMAT.md alone. A crash never leaves what it calls damage; and what it says the
 * cache answers, block by block, is what the recovery goes on to show.
 */
#include "sim/crash_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool/check.h"

#define SAMPLE 100u /* one in so many crash images */

struct crash_second { /* what the second reader says */
	struct crash_world *w;
	char damage[256]; /* the first finding that is damage */
	uint32_t repair_nr;
	bool cached[PC_ORACLE_BLOCK_NR_MAX]; /* else the backing answers */
	bool poisoned[PC_ORACLE_BLOCK_NR_MAX];
	struct pc_seen blocks[PC_ORACLE_BLOCK_NR_MAX];
};

static void take_finding(void *user, const struct check_finding *finding)
{
	struct crash_second *second = user;

	second->repair_nr += finding->severity == CHECK_REPAIR;
	if (finding->severity == CHECK_DAMAGE && second->damage[0] == '\0')
		snprintf(second->damage, sizeof(second->damage), "at %llu: %s", (unsigned long long)finding->media_off, finding->text);
}

static void take_extent(void *user, const struct check_extent *extent)
{
	struct crash_second *second = user;
	const struct pc_gen_shape *shape = &second->w->run->shape;

	for (uint64_t i = 0; i < extent->len_blk && extent->vol_blk + i < shape->backing_blk; i++) {
		const uint32_t blk = (uint32_t)(extent->vol_blk + i);

		second->cached[blk] = true;
		second->poisoned[blk] = extent->type == PC_KEY_POISON;
		if (extent->media_off == CHECK_NOWHERE)
			second->blocks[blk] = (struct pc_seen){0, PC_SEEN_ZERO};
		else
			second->blocks[blk] = pc_oracle_look(second->w->oracle, blk, pc_sim_view(second->w->sim) + extent->media_off + i * shape->block_bytes);
	}
}

/* Runs it on the media as it is. False: a violation was noted. */
static bool run_check(struct crash_world *w, struct crash_second *second)
{
	const struct check_settings settings = {.finding = take_finding, .extent = take_extent, .user = second};
	struct check_result result;
	int rc;

	memset(second, 0, sizeof(*second));
	second->w = w;
	rc = check_run(pc_sim_media(w->sim), &settings, &result);
	w->run->result->checks++;
	if (rc != 0)
		crash_fail(w, "check gives %d: %s", rc, crash_error_text(rc));
	else if (second->damage[0] != '\0')
		crash_fail(w, "check calls it damage, %s", second->damage);
	return !w->run->stop;
}

struct crash_second *crash_check_before(struct crash_world *w, uint64_t key)
{
	struct crash_second *second;

	if (w->run->formatting || (w->run->follow == NULL && pc_rng_mix(key + 3) % SAMPLE != 0))
		return NULL;
	second = crash_must(malloc(sizeof(*second)));
	if (run_check(w, second))
		return second;
	free(second);
	return NULL;
}

void crash_check_same(struct crash_world *w, const struct crash_second *second, const uint8_t *seen)
{
	const uint32_t block_bytes = w->run->shape.block_bytes;

	for (uint32_t blk = 0; second != NULL && blk < w->run->shape.backing_blk; blk++) {
		const struct pc_seen said = second->cached[blk] ? second->blocks[blk] : w->disk.live[blk];
		const struct pc_seen shown = pc_oracle_look(w->oracle, blk, seen + (size_t)blk * block_bytes);

		if (second->poisoned[blk] || (said.kind == shown.kind && said.version == shown.version))
			continue;
		crash_fail(w, "block %u: check says that %s has kind %u v%u, the open shows kind %u v%u", blk, second->cached[blk] ? "the cache" : "the backing",
			   said.kind, said.version, shown.kind, shown.version);
		return;
	}
}

void crash_check_closed(struct crash_world *w)
{
	struct crash_second *second = crash_must(malloc(sizeof(*second)));

	pc_sim_reopen(w->sim);
	if (run_check(w, second) && second->repair_nr != 0)
		crash_fail(w, "check finds %u things to repair after a close", second->repair_nr);
	free(second);
}
