/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two readers of one image: the open of the library, and `pcache check`, which shares no line of recovery with it. Caches of random shape work for a while, the power is cut
 * at random fences, and of each crash image:
 *
 *   - check finds no damage, before the open (one copy of a record that is damaged in addition is a repair);
 *   - what the library counts as dirty and clean without opening is what check counts;
 *   - the open succeeds, and each block reads as check's own map of extents says: of the media, zeroes, or of the backing;
 *   - check finds nothing at all once the cache is open, and again when it was closed, when its map must still be what was read.
 *
 * From each image the cache goes on, and the power is cut again. PCACHE_CHECK_SEEDS: number of seeds; PCACHE_CHECK_SEED: the first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/handle.h"
#include "core/rig.h"
#include "pcache/errors.h"
#include "tool/check.h"
#include "tool/forge.h"

#define DEPTH_MAX 3u
#define IMAGES_PER_OP 2u
#define OP_BLK_MAX 24u

/* Images of a crash, taken in the middle of an operation and looked at after it. */
struct cut {
	uint8_t *media;
	uint8_t *backing;
};

struct world {
	struct rig rig;
	uint32_t depth;
	struct cut cuts[IMAGES_PER_OP];
	uint32_t cut_nr;
	uint8_t *expected; /* what check says each block reads as */
	uint8_t *poisoned; /* a flag for each block */
	uint8_t *read;
	uint8_t *io;
};

static uint64_t seed_now, image_nr, finding_nr[CHECK_SEVERITY_NR];

/* ---- check, and its map ------------------------------------------------------------------------------------------- */

struct look {
	struct world *world;
	const uint8_t *media; /* NULL: only findings */
	uint32_t severity_max; /* more is a failure */
	uint32_t finding_nr;
};

static void on_finding(void *user, const struct check_finding *finding)
{
	struct look *look = user;

	finding_nr[finding->severity]++;
	look->finding_nr++;
	if (finding->severity > look->severity_max)
		fail_msg("seed %llu, depth %u: rule %s @0x%llx: %s", (unsigned long long)seed_now, look->world->depth,
			 check_rule_number(finding->rule), (unsigned long long)finding->media_off, finding->text);
}

static void on_extent(void *user, const struct check_extent *extent)
{
	struct look *look = user;
	const uint64_t block_bytes = look->world->rig.o.block_bytes;
	uint8_t *to = look->world->expected + extent->vol_blk * block_bytes;

	assert_true((extent->vol_blk + extent->len_blk) * block_bytes <= look->world->rig.o.backing_bytes);
	memset(look->world->poisoned + extent->vol_blk, extent->type == PC_KEY_POISON, extent->len_blk);
	if (extent->type == PC_KEY_DATA)
		memcpy(to, look->media + extent->media_off, extent->len_blk * block_bytes);
	else
		memset(to, 0, extent->len_blk * block_bytes);
}

/* Checks the media and fills in what the blocks must read as, over this backing. NULL: findings alone. */
static struct check_result look_at(struct world *w, struct pc_media *media, const uint8_t *bytes,
				   const uint8_t *backing, uint32_t severity_max, uint32_t *out_finding_nr)
{
	struct look look = { .world = w, .media = bytes, .severity_max = severity_max };
	const struct check_settings settings = { .finding = on_finding,
						 .extent = backing ? on_extent : NULL,
						 .user = &look };
	struct check_result result;

	if (backing) {
		memcpy(w->expected, backing, w->rig.o.backing_bytes);
		memset(w->poisoned, 0, w->rig.o.backing_bytes / w->rig.o.block_bytes);
	}
	assert_int_equal(check_run(media, &settings, &result), 0);
	assert_true(result.super_valid && result.tail_valid);
	if (out_finding_nr)
		*out_finding_nr = look.finding_nr;
	return result;
}

static void read_all(struct world *w)
{
	const uint64_t bytes = w->rig.o.backing_bytes, step = 16 * (uint64_t)w->rig.o.block_bytes;

	for (uint64_t off = 0; off < bytes; off += step)
		assert_int_equal(
			pcache_read(w->rig.cache, w->read + off, off, PC_MIN(step, bytes - off), PCACHE_NOCACHE), 0);
}

static void compare(const struct world *w, const char *when)
{
	const uint32_t block_bytes = w->rig.o.block_bytes;

	for (uint64_t blk = 0; blk < w->rig.o.backing_bytes / block_bytes; blk++) {
		assert_false(w->poisoned[blk]);
		if (memcmp(w->read + blk * block_bytes, w->expected + blk * block_bytes, block_bytes) != 0)
			fail_msg("seed %llu, depth %u, %s: block %llu reads otherwise than check says",
				 (unsigned long long)seed_now, w->depth, when, (unsigned long long)blk);
	}
}

/* ---- power cuts --------------------------------------------------------------------------------------------------- */

static bool keep_write(void *user, uint32_t idx)
{
	(void)idx;
	return rig_below(user, 2) != 0;
}

static void cut_now(struct world *w)
{
	struct rig *rig = &w->rig;
	struct cut *cut = &w->cuts[w->cut_nr++];
	enum pc_sim_policy policy = (enum pc_sim_policy)rig_below(rig, PC_SIM_POLICY_NR);
	uint64_t args = pc_sim_policy_args(rig->sim, policy);

	if (args == 0) {
		policy = PC_SIM_RANDOM;
		args = UINT64_MAX;
	}
	pc_sim_crash(rig->sim, policy, rig_below(rig, args), cut->media);
	mem_backing_crash_image(rig->mb, keep_write, rig, cut->backing);
}

static void at_fence(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	struct world *w = user;

	(void)event;
	if (w->cut_nr < IMAGES_PER_OP)
		cut_now(w);
	pc_sim_crash_at(sim, 1 + rig_below(&w->rig, 6), at_fence, w);
}

/* ---- worlds --------------------------------------------------------------------------------------------------------- */

static void world_buffers(struct world *w, uint64_t media_bytes)
{
	const uint64_t bytes = w->rig.o.backing_bytes;

	for (uint32_t i = 0; i < IMAGES_PER_OP; i++) {
		w->cuts[i].media = malloc(media_bytes);
		w->cuts[i].backing = malloc(bytes);
		assert_true(w->cuts[i].media && w->cuts[i].backing);
	}
	w->expected = malloc(bytes);
	w->poisoned = malloc(bytes / w->rig.o.block_bytes);
	w->read = malloc(bytes);
	w->io = malloc((size_t)OP_BLK_MAX * w->rig.o.block_bytes);
	assert_true(w->expected && w->poisoned && w->read && w->io);
}

static void world_fini(struct world *w)
{
	for (uint32_t i = 0; i < IMAGES_PER_OP; i++) {
		free(w->cuts[i].media);
		free(w->cuts[i].backing);
	}
	free(w->expected);
	free(w->poisoned);
	free(w->read);
	free(w->io);
	rig_down(&w->rig);
}

/* A world of the same shape in which the power comes back. */
static void world_after(struct world *w, const struct world *above, const struct cut *cut)
{
	const uint64_t media_bytes = pc_sim_media(above->rig.sim)->len_bytes;

	memset(w, 0, sizeof(*w));
	rig_zero(&w->rig);
	w->rig.o = above->rig.o;
	w->rig.seed = above->rig.seed * 7919 + above->cut_nr;
	w->rig.nonce = above->rig.nonce + UINT64_C(0x123456789);
	w->depth = above->depth + 1;
	world_buffers(w, media_bytes);
	w->rig.mb = mem_backing_create(&w->rig.o.backing);
	assert_non_null(w->rig.mb);
	mem_backing_load(w->rig.mb, cut->backing);
	assert_int_equal(pc_sim_wrap(cut->media, media_bytes, w->rig.o.granularity, 0, &w->rig.sim), 0);
}

static void explore(struct world *w);

static void random_op(struct world *w)
{
	struct rig *rig = &w->rig;
	const uint64_t block_bytes = rig->o.block_bytes, block_nr = rig->o.backing_bytes / block_bytes;
	const uint64_t hot = rig_below(rig, 3) ? PC_MIN(block_nr, 48u) : block_nr;
	const uint64_t blk = rig_below(rig, hot);
	const uint64_t len_blk_max = rig_below(rig, 4) ? 6 : OP_BLK_MAX;
	const uint64_t len_blk = 1 + rig_below(rig, PC_MIN(block_nr - blk, len_blk_max));
	int rc = 0;

	pc_sim_crash_at(rig->sim, 1 + rig_below(rig, 6), at_fence, w);
	switch (rig_below(rig, 16)) {
	case 0:
		rc = pcache_flush(rig->cache);
		break;
	case 1:
		rc = pcache_discard(rig->cache, blk * block_bytes, len_blk * block_bytes, 0);
		break;
	case 2:
		rc = pcache_write_zeroes(rig->cache, blk * block_bytes, len_blk * block_bytes, 0);
		break;
	case 3:
		rc = pcache_read(rig->cache, w->read, blk * block_bytes, len_blk * block_bytes, 0);
		break;
	case 4:
	case 5:
		rc = pc_cache_step(rig->cache, (enum pc_step)rig_below(rig, PC_STEP_NR), rig_below(rig, 2));
		break;
	case 6:
		rc = rig_below(rig, 4) ? pcache_maintain(rig->cache, 3) : pcache_drain(rig->cache, NULL, NULL);
		break;
	default:
		rig_pattern(rig, w->io, len_blk * block_bytes);
		rc = pcache_write(rig->cache, w->io, blk * block_bytes, len_blk * block_bytes,
				  rig_below(rig, 5) ? 0 : PCACHE_DURABLE);
		break;
	}
	pc_sim_crash_at(rig->sim, 0, at_fence, w);
	if (rc < 0 && rc != PCACHE_E_FULL)
		fail_msg("seed %llu: an operation gives %d", (unsigned long long)seed_now, rc);
}

/* Closes, or cuts the power once more between two operations. */
static void world_end(struct world *w)
{
	if (w->depth < DEPTH_MAX && rig_below(&w->rig, 3) == 0) {
		w->cut_nr = 0;
		cut_now(w);
		explore(w);
	}
	read_all(w);
	rig_close(&w->rig);
	pc_sim_reopen(w->rig.sim);
	assert_true(look_at(w, pc_sim_media(w->rig.sim), pc_sim_view(w->rig.sim), mem_backing_live(w->rig.mb), 0, NULL)
			    .clean_close);
	compare(w, "after the close");
}

static void damage_one_copy(struct world *w, uint8_t *image)
{
	struct rig *rig = &w->rig;
	const uint64_t len = pc_sim_media(rig->sim)->len_bytes;
	struct pc_super super;

	memset(&super, 0, sizeof(super));
	if (pc_super_decode((const void *)image, &super) == PC_VALID && super.media_bytes == len)
		image[(rig_below(rig, 2) ? pc_geo_tail_off(&super, rig_below(rig, 2) != 0)
					 : pc_geo_super_off(&super, rig_below(rig, 2) != 0)) +
		      rig_below(rig, 64)] ^= 8;
}

/* What `pcache info` says of a cache that is not open: a replay, too, with sums of its own. */
static void counts_agree(const struct world *w, struct pc_media *media, const struct check_result *result)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	const struct check_counts *counts = &result->counts;

	assert_int_equal(pc_api_probe_media(media, &info), 0);
	if (info.dirty_bytes != counts->dirty_bytes + counts->dirty_zero_bytes ||
	    info.clean_bytes != counts->clean_bytes || info.log_head != result->end_pos)
		fail_msg("seed %llu, depth %u: %llu bytes dirty and %llu clean, check says %llu and %llu of zeroes, "
			 "and %llu",
			 (unsigned long long)seed_now, w->depth, (unsigned long long)info.dirty_bytes,
			 (unsigned long long)info.clean_bytes, (unsigned long long)counts->dirty_bytes,
			 (unsigned long long)counts->dirty_zero_bytes, (unsigned long long)counts->clean_bytes);
}

static void recover(const struct world *above, struct cut *cut, bool between)
{
	struct check_result result;
	struct forge_media media;
	struct world w;
	uint32_t wrong_nr;

	image_nr++;
	world_after(&w, above, cut);
	/* Only where no record is in the middle of an update is the other copy known to be good. */
	if (between && rig_below(&w.rig, 4) == 0) {
		damage_one_copy(&w, cut->media);
		pc_sim_reset(w.rig.sim, cut->media);
	}
	forge_media_of(&media, cut->media, pc_sim_media(w.rig.sim)->len_bytes);
	result = look_at(&w, &media.media, cut->media, cut->backing, CHECK_REPAIR, NULL);
	counts_agree(&w, &media.media, &result);
	if (rig_try_open(&w.rig) != 0)
		fail_msg("seed %llu, depth %u: check finds no damage, but the open fails", (unsigned long long)seed_now,
			 w.depth);
	read_all(&w);
	compare(&w, "after the open");
	(void)look_at(&w, pc_sim_media(w.rig.sim), NULL, NULL, 0, &wrong_nr);
	if (wrong_nr)
		fail_msg("seed %llu, depth %u: %u findings in a cache that is open", (unsigned long long)seed_now,
			 w.depth, wrong_nr);
	for (uint64_t i = rig_below(&w.rig, w.depth < DEPTH_MAX ? 8 : 3); i > 0; i--) {
		w.cut_nr = 0;
		random_op(&w);
		if (w.depth >= DEPTH_MAX || rig_below(&w.rig, 3))
			w.cut_nr = 0;
		explore(&w);
	}
	world_end(&w);
	world_fini(&w);
}

/* The images that were taken during the last operation. */
static void explore(struct world *w)
{
	const uint32_t cut_nr = w->cut_nr;

	for (uint32_t i = 0; i < cut_nr; i++)
		recover(w, &w->cuts[i], false);
	w->cut_nr = 0;
}

static void draw_shape(struct rig *rig)
{
	static const uint32_t segment_bytes[] = { 4096, 4096, 8192, 16384 };

	rig->o.granularity = rig_below(rig, 3) ? PC_GRAN_CACHE_LINE : PC_GRAN_PAGE;
	rig->o.block_bytes = rig_below(rig, 6) ? 512 : 4096;
	rig->o.segment_bytes = segment_bytes[rig_below(rig, PC_ARRAY_NR(segment_bytes))];
	if (rig->o.block_bytes == 4096)
		rig->o.segment_bytes = 16384;
	rig->o.segment_nr = 16 + (uint32_t)rig_below(rig, 24);
	rig->o.backing_bytes = (uint64_t)rig->o.block_bytes * (64 + rig_below(rig, 128));
	rig->o.no_crc = rig_below(rig, 5) == 0;
	rig->o.commit = rig_below(rig, 3) == 0 ? PCACHE_COMMIT_FLUSH : PCACHE_COMMIT_AUTO;
	rig->o.ordering = rig_below(rig, 3) == 0 ? PCACHE_ORDERING_BATCH : PCACHE_ORDERING_STRICT;
	rig->o.guard_fence = rig_below(rig, 4) == 0;
	rig->o.no_read_cache = rig_below(rig, 3) == 0;
	rig->o.full_error = true;
	rig->o.data_head_nr = 1 + (uint32_t)rig_below(rig, 2);
}

static void run_seed(uint64_t seed)
{
	struct world w;

	seed_now = seed;
	memset(&w, 0, sizeof(w));
	rig_zero(&w.rig);
	w.rig.seed = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	draw_shape(&w.rig);
	rig_up(&w.rig);
	world_buffers(&w, pc_sim_media(w.rig.sim)->len_bytes);
	for (uint32_t op_nr = 20 + (uint32_t)rig_below(&w.rig, 60), i = 0; i < op_nr; i++) {
		w.cut_nr = 0;
		random_op(&w);
		if (rig_below(&w.rig, 4) == 0)
			explore(&w);
		w.cut_nr = 0;
		if (rig_below(&w.rig, 12) == 0) {
			cut_now(&w);
			w.cut_nr = 0;
			recover(&w, &w.cuts[0], true);
		}
	}
	world_end(&w);
	world_fini(&w);
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

static void two_readers_agree(void **state)
{
	const char *sanitize = getenv("PCACHE_SANITIZE");
	const uint64_t first = number_of("PCACHE_CHECK_SEED", 1);
	const uint64_t nr = number_of("PCACHE_CHECK_SEEDS", sanitize && *sanitize ? 30 : 150);

	(void)state;
	for (uint64_t seed = first; seed < first + nr; seed++)
		run_seed(seed);
	print_message("seeds %llu to %llu: %llu crash images; %llu notes, %llu repairs, no damage\n",
		      (unsigned long long)first, (unsigned long long)(first + nr - 1), (unsigned long long)image_nr,
		      (unsigned long long)finding_nr[CHECK_NOTE], (unsigned long long)finding_nr[CHECK_REPAIR]);
	if (nr >= 20) /* that the images were worth looking at */
		assert_true(finding_nr[CHECK_NOTE] > 0 && finding_nr[CHECK_REPAIR] > 0 && image_nr > 20 * nr / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_readers_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
