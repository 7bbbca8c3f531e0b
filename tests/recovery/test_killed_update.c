/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A process is killed in the middle of an update of a record, or of its close, with what it stored in the CPU caches (page granularity: in the page cache). The next open
 * sees the newest copy, and takes it; then the power fails inside that open. Whatever it had overwritten by then, one whole copy of every record must be there: what loading
 * accepted is made durable before anything else is stored.
 */
#include <stdlib.h>
#include <string.h>

#include "core/rig.h"

#define MOMENTS_MAX 64u
#define IMAGES_MAX 8192u
#define SEG_ID 12u /* free: only its record is written here */

struct moment { /* of a fence that does not take effect any more */
	uint8_t *durable;
	uint8_t *view;
};

struct images {
	struct rig *rig;
	uint8_t *scratch;
	uint64_t len_bytes;
	struct moment moments[MOMENTS_MAX];
	uint32_t moment_nr;
	uint8_t *images[IMAGES_MAX]; /* looked at when the open is over: its locks are held inside */
	uint32_t image_nr;
	uint32_t cut_nr;
	uint32_t seed;
};

static uint8_t *copy_of(const uint8_t *bytes, uint64_t len)
{
	uint8_t *copy = malloc(len);

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	return copy;
}

static void keep_moment(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	struct images *ctx = user;

	(void)event;
	assert_true(ctx->moment_nr < MOMENTS_MAX);
	ctx->moments[ctx->moment_nr].durable = copy_of(pc_sim_durable(sim), ctx->len_bytes);
	ctx->moments[ctx->moment_nr++].view = copy_of(pc_sim_view(sim), ctx->len_bytes);
}

static bool keep_image(void *user, const uint8_t *image, enum pc_sim_policy policy, uint64_t arg)
{
	struct images *ctx = user;

	(void)policy, (void)arg;
	assert_true(ctx->image_nr < IMAGES_MAX);
	ctx->images[ctx->image_nr++] = copy_of(image, ctx->len_bytes);
	return true;
}

static void keep_cuts(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	struct images *ctx = user;
	const struct pc_sim_explore how = {
		.subset_max = 6, .word_max = 12, .line_max = 12, .random_nr = 12, .seed = ++ctx->seed
	};

	(void)event;
	ctx->cut_nr++;
	(void)pc_sim_explore(sim, &how, ctx->scratch, keep_image, ctx);
}

/* The media as the kill leaves it: everything stored is seen, and what no fence reached can still be lost. */
static void bring_back(struct pc_sim *sim, const struct moment *moment, uint64_t len_bytes)
{
	pc_sim_reset(sim, moment->durable);
	for (uint64_t word = 0; word < len_bytes / 8; word++) {
		struct pc_sim_store store = { .word = word };

		memcpy(&store.value, moment->view + word * 8, 8);
		if (memcmp(moment->durable + word * 8, &store.value, 8) != 0)
			pc_sim_store_orphan(sim, store);
	}
}

/* Life of a cache up to and including its close; a moment of each fence of the updates. Nothing is written back: the backing has none of the data. */
static void live(struct rig *rig, struct images *ctx, uint32_t update_nr)
{
	struct pc_layout *layout = &rig->cache->layout;

	for (uint32_t i = 0; i < 4; i++)
		rig_write(rig, i * 2048, 1024, 0);
	rig_flush(rig);
	pc_sim_crash_at(rig->sim, 0, keep_moment, ctx);
	/* The copies take turns in being the first: an even and an odd number of updates come to the close. */
	for (uint32_t i = 0; i < update_nr; i++) {
		struct pc_tail tail = pc_layout_tail(layout);
		struct pc_segrec rec = layout->segrecs[SEG_ID];

		tail.gc_percent = (uint8_t)(10 + i);
		pc_mutex_lock(&layout->lock);
		assert_int_equal(pc_layout_store_tail_locked(layout, &tail), 0);
		pc_mutex_unlock(&layout->lock);
		assert_int_equal(rec.type, PC_SEG_FREE);
		rec.gen++;
		assert_int_equal(pc_layout_store_segrec(layout, &rec), 0);
	}
	rig_close(rig);
	pc_sim_crash_at(rig->sim, 0, NULL, NULL);
}

/* The open after the kill, cut everywhere. */
static void open_and_cut(struct rig *rig, struct images *ctx)
{
	pc_sim_crash_at(rig->sim, 0, keep_cuts, ctx);
	rig_open(rig);
	pc_sim_crash_at(rig->sim, 0, NULL, NULL);
	rig_check_range(rig, 0, 8192);
	rig_kill(rig);
	assert_true(ctx->image_nr > 0);
	while (ctx->image_nr > 0) {
		pc_sim_reset(rig->sim, ctx->images[--ctx->image_nr]);
		free(ctx->images[ctx->image_nr]);
		rig_open(rig);
		rig_check_range(rig, 0, 8192);
		rig_kill(rig);
	}
}

static void killed(enum pc_granularity granularity)
{
	struct images *ctx = calloc(1, sizeof(*ctx));

	assert_non_null(ctx);
	for (uint32_t update_nr = 2; update_nr < 4; update_nr++) {
		struct rig rig;

		rig_zero(&rig);
		rig.o.segment_nr = 16;
		rig.o.granularity = granularity;
		rig_up(&rig);
		ctx->rig = &rig;
		ctx->len_bytes = pc_sim_media(rig.sim)->len_bytes;
		ctx->scratch = malloc(ctx->len_bytes);
		assert_non_null(ctx->scratch);
		ctx->cut_nr = 0;
		live(&rig, ctx, update_nr);
		/* Two commits for each record and each update, and two for the close. */
		assert_true(ctx->moment_nr == 4 * update_nr + 2);
		for (uint32_t i = 0; i < ctx->moment_nr; i++) {
			bring_back(rig.sim, &ctx->moments[i], ctx->len_bytes);
			open_and_cut(&rig, ctx);
			free(ctx->moments[i].durable);
			free(ctx->moments[i].view);
		}
		assert_true(ctx->cut_nr >= 4 * ctx->moment_nr);
		ctx->moment_nr = 0;
		free(ctx->scratch);
		rig_down(&rig);
	}
	free(ctx);
}

static void in_the_caches(void **state)
{
	(void)state;
	killed(PC_GRAN_CACHE_LINE);
}

static void in_the_page_cache(void **state)
{
	(void)state;
	killed(PC_GRAN_PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_the_caches),
		cmocka_unit_test(in_the_page_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
