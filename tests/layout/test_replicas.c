/* SPDX-License-Identifier: BSD-3-Clause */
/* Two copies of each record: damage, age, power cuts between them, other versions, and format over an old cache. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/rig.h"
#include "tool/forge.h"

static uint64_t hash(struct rig *rig)
{
	return pc_sim_image_hash(pc_sim_view(rig->sim), pc_sim_media(rig->sim)->len_bytes);
}

static bool copies_equal(struct rig *rig, uint64_t a_off, uint64_t b_off, size_t len)
{
	return memcmp(pc_sim_durable(rig->sim) + a_off, pc_sim_durable(rig->sim) + b_off, len) == 0;
}

/* The offsets of both copies of every record of a cache. */
struct record {
	uint64_t off[2];
	uint32_t len;
};

static uint32_t records_of(const struct pc_super *super, struct record *out)
{
	uint32_t nr = 0;

	out[nr++] = (struct record){ { pc_geo_super_off(super, 0), pc_geo_super_off(super, 1) }, PC_SUPER_BYTES };
	out[nr++] = (struct record){ { pc_geo_tail_off(super, 0), pc_geo_tail_off(super, 1) }, 64 };
	for (uint32_t id = 0; id < super->segment_nr; id++)
		out[nr++] = (struct record){ { pc_geo_segrec_off(super, 0, id), pc_geo_segrec_off(super, 1, id) }, 64 };
	return nr;
}

/* A closed cache with some of everything. */
static struct pc_super closed_cache(struct rig *rig)
{
	struct pc_super super;

	rig_zero(rig);
	rig->o.segment_nr = 16;
	rig_up(rig);
	for (uint32_t i = 0; i < 8; i++)
		rig_write(rig, i * 2048, 1024, 0);
	rig_drain(rig);
	rig_write(rig, 4096, 1024, 0);
	super = rig->cache->layout.super;
	rig_close(rig);
	return super;
}

/* Each copy of each record in turn is damaged: the open goes on, counts it, and mends it. */
static void one_bad_copy(void **state)
{
	struct record records[18];
	struct rig rig;
	struct pc_super super = closed_cache(&rig);
	uint32_t nr = records_of(&super, records);

	(void)state;
	assert_int_equal(nr, 18);
	for (uint32_t i = 0; i < nr; i++) {
		for (uint32_t copy = 0; copy < 2; copy++) {
			for (uint32_t way = 0; way < 2; way++) {
				uint8_t zeroes[PC_SUPER_BYTES] = { 0 };

				if (way)
					pc_sim_damage(rig.sim, records[i].off[copy], zeroes, records[i].len);
				else
					rig_flip(&rig, records[i].off[copy] + (i * 7 + copy) % records[i].len);
				rig_open(&rig);
				assert_int_equal(rig_info(&rig).replica_repairs, 1);
				assert_true(copies_equal(&rig, records[i].off[0], records[i].off[1], records[i].len));
				rig_check_range(&rig, 0, 16384);
				rig_close(&rig);
				rig_open(&rig);
				assert_int_equal(rig_info(&rig).replica_repairs, 0);
				rig_close(&rig);
			}
		}
	}
	assert_true(rig.messages[PCACHE_LOG_WARN] >= 18 * 4);
	rig_down(&rig);
}

/* The media cannot read one zone at all. */
static void one_poisoned_zone(void **state)
{
	(void)state;
	for (uint32_t zone = 0; zone < 2; zone++) {
		struct rig rig;
		struct pc_super super = closed_cache(&rig);

		pc_sim_poison(rig.sim, zone ? super.zone_b_off : 0, super.zone_bytes);
		rig_open(&rig);
		assert_int_equal(rig_info(&rig).replica_repairs, 18);
		rig_check_range(&rig, 0, 16384);
		rig_down(&rig);
	}
}

/* Both copies: an error, and no store; never a new, empty cache. */
static void both_copies_bad(void **state)
{
	struct record records[18];
	struct rig rig;
	struct pc_super super = closed_cache(&rig);
	uint32_t nr = records_of(&super, records);

	(void)state;
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t before;

		for (uint32_t copy = 0; copy < 2; copy++)
			rig_flip(&rig, records[i].off[copy] + 20);
		before = hash(&rig);
		assert_int_equal(rig_try_open(&rig), PCACHE_E_CORRUPT);
		assert_int_equal(hash(&rig), before);
		for (uint32_t copy = 0; copy < 2; copy++)
			rig_flip(&rig, records[i].off[copy] + 20);
	}
	rig_open(&rig);
	rig_check_range(&rig, 0, 16384);
	rig_down(&rig);
}

/* A change of one byte in one copy, sealed again. */
static void change_copy(struct rig *rig, uint64_t off, uint32_t len, uint32_t at)
{
	uint8_t bytes[PC_SUPER_BYTES];

	memcpy(bytes, pc_sim_view(rig->sim) + off, len);
	bytes[at] ^= 1;
	forge_seal(bytes, len);
	pc_sim_damage(rig->sim, off, bytes, len);
}

/* Two good copies of one sequence number that differ: no crash leaves that, and nothing says which is right. To take one would write over the other. */
static void copies_of_one_sequence_differ(void **state)
{
	struct record records[18];
	struct rig rig;
	struct pc_super super = closed_cache(&rig);
	uint32_t nr = records_of(&super, records);

	(void)state;
	for (uint32_t i = 0; i < nr; i++) {
		/* Of a superblock the UUID, of the tail record gc_percent, of a segment record the generation. */
		const uint32_t at = i == 0 ? 50 : i == 1 ? 40 : 16;

		for (uint32_t copy = 0; copy < 2; copy++) {
			uint64_t before;

			change_copy(&rig, records[i].off[copy], records[i].len, at);
			before = hash(&rig);
			assert_int_equal(rig_try_open(&rig), PCACHE_E_CORRUPT);
			assert_int_equal(hash(&rig), before);
			change_copy(&rig, records[i].off[copy], records[i].len, at);
		}
	}
	rig_open(&rig);
	rig_check_range(&rig, 0, 16384);
	rig_down(&rig);
}

/* One zone is from an older time, valid in itself: the newer copies win, all old ones are rewritten. */
static void newest_wins(void **state)
{
	(void)state;
	for (uint32_t zone = 0; zone < 2; zone++) {
		struct rig rig;
		struct pc_super super = closed_cache(&rig);
		uint64_t off = zone ? super.zone_b_off : 0;
		uint8_t *old = malloc(super.zone_bytes);

		assert_non_null(old);
		memcpy(old, pc_sim_view(rig.sim) + off, super.zone_bytes);
		rig_open(&rig);
		for (uint32_t i = 0; i < 100; i++) {
			rig_write(&rig, rig_below(&rig, 100) * 512, 512, 0);
			if (i % 10 == 9)
				rig_drain(&rig);
		}
		rig_close(&rig);
		pc_sim_damage(rig.sim, off, old, super.zone_bytes);
		rig_open(&rig);
		assert_true(rig_info(&rig).replica_repairs >= 2);
		rig_check_all(&rig);
		rig_close(&rig);
		rig_open(&rig);
		assert_int_equal(rig_info(&rig).replica_repairs, 0);
		free(old);
		rig_down(&rig);
	}
}

static void put_tails(struct rig *rig, const struct pc_super *super, const struct pc_tail *tail, uint64_t seq_a,
		      uint64_t seq_b)
{
	struct pc_tail copy = *tail;
	struct pcm_tail bytes;

	for (unsigned int i = 0; i < 2; i++) {
		copy.seq = i ? seq_b : seq_a;
		copy.gc_percent = copy.seq == PC_MAX(seq_a, seq_b) ? 20 : 10;
		pc_tail_encode(&copy, &bytes);
		pc_sim_damage(rig->sim, pc_geo_tail_off(super, i), &bytes, sizeof(bytes));
	}
}

static void put_segrecs(struct rig *rig, const struct pc_super *super, const struct pc_segrec *rec, uint64_t seq_a,
			uint64_t seq_b)
{
	struct pc_segrec copy = *rec;
	struct pcm_segrec bytes;

	for (unsigned int i = 0; i < 2; i++) {
		copy.seq = i ? seq_b : seq_a;
		copy.gen = copy.seq == PC_MAX(seq_a, seq_b) ? 20 : 10;
		pc_segrec_encode(&copy, &bytes);
		pc_sim_damage(rig->sim, pc_geo_segrec_off(super, i, rec->seg_id), &bytes, sizeof(bytes));
	}
}

/* Sequence numbers are compared in full: the higher one is the newer wherever a shorter or signed number would wrap. */
static void sequence_wraps_nowhere(void **state)
{
	struct pc_layout layout;
	struct rig rig;
	struct pc_super super = closed_cache(&rig);

	(void)state;
	pc_sim_reopen(rig.sim);
	assert_int_equal(pc_layout_init(&layout, pc_sim_media(rig.sim), &super), 0);
	assert_int_equal(pc_layout_load_records(&layout), 0);
	for (uint32_t bit = 1; bit < 64; bit++) {
		const uint64_t high = UINT64_C(1) << bit;

		for (uint32_t newer = 0; newer < 2; newer++) {
			struct pc_tail tail = layout.tail;
			struct pc_segrec rec = layout.segrecs[super.segment_nr - 1];

			put_tails(&rig, &super, &tail, newer ? high - 1 : high, newer ? high : high - 1);
			put_segrecs(&rig, &super, &rec, newer ? high - 1 : high, newer ? high : high - 1);
			assert_int_equal(pc_layout_load_records(&layout), 0);
			assert_int_equal(layout.tail.gc_percent, 20);
			assert_int_equal(layout.tail_older, 1 - newer);
			assert_int_equal(layout.segrecs[rec.seg_id].gen, 20);
			assert_int_equal(layout.segrec_older[rec.seg_id], 1 - newer);
			put_tails(&rig, &super, &tail, newer ? 0 : high, newer ? high : 0);
			assert_int_equal(pc_layout_load_records(&layout), 0);
			assert_int_equal(layout.tail.gc_percent, 20);
		}
	}
	pc_layout_fini(&layout);
	rig_down(&rig);
}

/* ---- power cuts inside an update ----------------------------------------------------------------------------------------- */

#define IMAGES_MAX 4096u

struct update {
	struct rig *rig;
	uint8_t *scratch;
	uint8_t *images[IMAGES_MAX]; /* looked at when the update is done: its locks are held inside */
	uint32_t image_nr;
	uint64_t old_seq;
	uint32_t seg_id; /* PC_SEG_NONE: the tail record */
	uint32_t olds, news;
};

static bool keep_image(void *user, const uint8_t *image, enum pc_sim_policy policy, uint64_t arg)
{
	struct update *update = user;
	uint64_t len = pc_sim_media(update->rig->sim)->len_bytes;

	(void)policy, (void)arg;
	assert_true(update->image_nr < IMAGES_MAX);
	update->images[update->image_nr] = malloc(len);
	assert_non_null(update->images[update->image_nr]);
	memcpy(update->images[update->image_nr++], image, len);
	return true;
}

/* Whatever survives, one whole copy is there, the old or the new. */
static void judge_image(struct update *update, const uint8_t *image)
{
	struct pc_super super;
	struct pc_layout layout;
	struct pc_sim *sim;
	uint32_t bad;
	uint64_t seq;

	assert_int_equal(
		pc_sim_wrap(image, pc_sim_media(update->rig->sim)->len_bytes, update->rig->o.granularity, 0, &sim), 0);
	assert_int_equal(pc_layout_load_super(pc_sim_media(sim), &super, &bad), 0);
	assert_int_equal(pc_layout_init(&layout, pc_sim_media(sim), &super), 0);
	assert_int_equal(pc_layout_load_records(&layout), 0);
	seq = update->seg_id == PC_SEG_NONE ? layout.tail.seq : layout.segrecs[update->seg_id].seq;
	assert_true(seq == update->old_seq || seq == update->old_seq + 1);
	update->olds += seq == update->old_seq;
	update->news += seq != update->old_seq;
	/* Mended, both copies are equal, and nothing is left to mend. */
	assert_int_equal(pc_layout_repair(&layout), 0);
	pc_layout_fini(&layout);
	assert_int_equal(pc_layout_init(&layout, pc_sim_media(sim), &super), 0);
	assert_int_equal(pc_layout_load_records(&layout), 0);
	assert_int_equal(layout.repair_nr, 0);
	assert_int_equal(update->seg_id == PC_SEG_NONE ? layout.tail.seq : layout.segrecs[update->seg_id].seq, seq);
	pc_layout_fini(&layout);
	pc_sim_free(sim);
}

static void judge_images(struct update *update)
{
	assert_true(update->image_nr >= 4);
	while (update->image_nr) {
		judge_image(update, update->images[--update->image_nr]);
		free(update->images[update->image_nr]);
	}
}

static void on_fence(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	struct update *update = user;
	const struct pc_sim_explore how = { .subset_max = 8, .word_max = 32, .line_max = 8, .random_nr = 4, .seed = 1 };

	(void)event;
	(void)pc_sim_explore(sim, &how, update->scratch, keep_image, update);
}

static void power_cut_between_the_copies(void **state)
{
	(void)state;
	for (uint32_t page = 0; page < 2; page++) {
		struct update update = { .seg_id = PC_SEG_NONE };
		struct pc_layout *layout;
		struct pc_segrec rec;
		struct pc_tail tail;
		struct rig rig;

		rig_zero(&rig);
		rig.o.granularity = page ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
		rig_up(&rig);
		rig_write(&rig, 0, 512, 0);
		rig_flush(&rig);
		layout = &rig.cache->layout;
		update.rig = &rig;
		update.scratch = malloc(pc_sim_media(rig.sim)->len_bytes);
		assert_non_null(update.scratch);
		pc_sim_crash_at(rig.sim, 0, on_fence, &update);
		for (uint32_t i = 0; i < 3; i++) {
			tail = pc_layout_tail(layout);
			update.old_seq = tail.seq;
			tail.gc_percent = 10 + i;
			pc_mutex_lock(&layout->lock);
			assert_int_equal(pc_layout_store_tail_locked(layout, &tail), 0);
			pc_mutex_unlock(&layout->lock);
			assert_true(copies_equal(&rig, pc_geo_tail_off(&layout->super, 0),
						 pc_geo_tail_off(&layout->super, 1), 64));
			judge_images(&update);
		}
		assert_true(update.olds > 0 && update.news > 0);
		update.olds = update.news = 0;
		update.seg_id = 20;
		for (uint32_t i = 0; i < 3; i++) {
			rec = layout->segrecs[20];
			update.old_seq = rec.seq;
			rec.gen++;
			assert_int_equal(pc_layout_store_segrec(layout, &rec), 0);
			assert_true(copies_equal(&rig, pc_geo_segrec_off(&layout->super, 0, 20),
						 pc_geo_segrec_off(&layout->super, 1, 20), 64));
			judge_images(&update);
		}
		assert_true(update.olds > 0 && update.news > 0);
		free(update.scratch);
		rig_down(&rig);
	}
}

/* ---- other versions -------------------------------------------------------------------------------------------------------- */

static void put_supers(struct rig *rig, const struct pc_super *super, uint32_t copies)
{
	struct pcm_super bytes;

	pc_super_encode(super, &bytes);
	for (unsigned int i = 0; i < 2; i++)
		if (copies & 1u << i)
			pc_sim_damage(rig->sim, pc_geo_super_off(super, i), &bytes, sizeof(bytes));
}

/* Unknown features: refused before a single store; also when only one copy says so. */
static void unknown_features(void **state)
{
	struct rig rig;
	struct pc_super super = closed_cache(&rig), other;
	uint64_t before;

	(void)state;
	for (uint32_t copies = 1; copies < 4; copies++) {
		other = super;
		other.incompat = 1;
		other.seq = super.seq + 1;
		put_supers(&rig, &other, copies);
		before = hash(&rig);
		assert_int_equal(rig_try_open(&rig), PCACHE_E_VERSION);
		assert_int_equal(hash(&rig), before);
		other = super;
		other.version = 2;
		put_supers(&rig, &other, copies);
		assert_int_equal(rig_try_open(&rig), PCACHE_E_VERSION);
		put_supers(&rig, &super, 3);
	}
	other = super;
	other.ro_compat = UINT64_C(1) << 63;
	put_supers(&rig, &other, 3);
	before = hash(&rig);
	assert_int_equal(rig_try_open(&rig), PCACHE_E_READ_ONLY);
	rig.o.read_only = true;
	rig_open(&rig);
	rig_check_range(&rig, 0, 16384);
	assert_int_equal(pcache_write(rig.cache, rig.model, 0, 512, 0), PCACHE_E_READ_ONLY);
	rig_close(&rig);
	assert_int_equal(hash(&rig), before);
	rig_down(&rig);
}

/* ---- format over an old cache ------------------------------------------------------------------------------------------------- */

struct reformat {
	struct rig *rig;
	uint8_t *scratch;
	uint8_t *images[IMAGES_MAX];
	uint32_t image_nr;
	uint32_t inside_nr; /* images of cuts before format returned */
	uint8_t old_uuid[16];
	uint32_t olds, nones, news;
};

static bool keep_format_image(void *user, const uint8_t *image, enum pc_sim_policy policy, uint64_t arg)
{
	struct reformat *ctx = user;
	uint64_t len = pc_sim_media(ctx->rig->sim)->len_bytes;

	(void)policy, (void)arg;
	assert_true(ctx->image_nr < IMAGES_MAX);
	ctx->images[ctx->image_nr] = malloc(len);
	assert_non_null(ctx->images[ctx->image_nr]);
	memcpy(ctx->images[ctx->image_nr++], image, len);
	return true;
}

/* What survives is the old cache with its dirty data, no cache, or the new, empty one. */
static void judge_format(struct reformat *ctx, const uint8_t *image)
{
	struct pc_sim *mine = ctx->rig->sim;
	struct pc_sim *sim;
	struct pcache_info info;
	int rc;

	assert_int_equal(pc_sim_wrap(image, pc_sim_media(mine)->len_bytes, ctx->rig->o.granularity, 0, &sim), 0);
	ctx->rig->sim = sim;
	rc = rig_try_open(ctx->rig);
	if (rc) {
		assert_int_equal(rc, PCACHE_E_NOT_A_CACHE);
		ctx->nones++;
	} else {
		info = rig_info(ctx->rig);
		if (memcmp(info.cache_uuid, ctx->old_uuid, 16) == 0) {
			rig_check_range(ctx->rig, 0, 16384);
			assert_int_equal(info.dirty_bytes, 1024);
			ctx->olds++;
		} else {
			assert_int_equal(info.extents, 0);
			assert_int_equal(info.dirty_bytes, 0);
			ctx->news++;
		}
		rig_kill(ctx->rig);
	}
	ctx->rig->sim = mine;
	pc_sim_free(sim);
}

static void on_format_fence(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	struct reformat *ctx = user;
	const struct pc_sim_explore how = {
		.subset_max = 6, .word_max = 64, .line_max = 64, .random_nr = 8, .seed = 3
	};

	(void)event;
	(void)pc_sim_explore(sim, &how, ctx->scratch, keep_format_image, ctx);
}

static void power_cut_inside_format(void **state)
{
	(void)state;
	for (uint32_t page = 0; page < 2; page++) {
		struct reformat ctx = { .olds = 0 };
		struct pc_tweaks tweaks = { .shard_nr = 4, .stripe_bytes = 8192 };
		struct pcache_backing *backing;
		struct pcache_config *config;
		struct rig rig;

		rig_zero(&rig);
		rig.o.segment_nr = 16;
		rig.o.granularity = page ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
		rig_up(&rig);
		rig_write(&rig, 0, 8192, 0);
		rig_drain(&rig);
		rig_write(&rig, 2048, 1024, 0);
		memcpy(ctx.old_uuid, rig_info(&rig).cache_uuid, 16);
		rig_close(&rig);
		pc_sim_reopen(rig.sim);
		ctx.rig = &rig;
		ctx.scratch = malloc(pc_sim_media(rig.sim)->len_bytes);
		assert_non_null(ctx.scratch);
		pc_sim_crash_at(rig.sim, 0, on_format_fence, &ctx);
		config = rig_config(&rig);
		backing = mem_backing_attach(rig.mb);
		assert_int_equal(pc_cache_format_media(pc_sim_media(rig.sim), config, &tweaks, backing), 0);
		pcache_backing_free(backing);
		pcache_config_free(config);
		pc_sim_crash_at(rig.sim, 0, NULL, NULL);
		ctx.inside_nr = ctx.image_nr;
		on_format_fence(rig.sim, PC_SIM_AT_FENCE, &ctx);
		assert_true(ctx.image_nr > ctx.inside_nr);
		while (ctx.image_nr) {
			const uint32_t others = ctx.olds + ctx.nones;

			judge_format(&ctx, ctx.images[--ctx.image_nr]);
			free(ctx.images[ctx.image_nr]);
			/* Success was reported: it is the new cache. */
			assert_true(ctx.image_nr < ctx.inside_nr || ctx.olds + ctx.nones == others);
		}
		assert_true(ctx.olds > 0);
		assert_true(ctx.nones > 0);
		assert_true(ctx.news > 0);
		free(ctx.scratch);
		rig_down(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_bad_copy),           cmocka_unit_test(one_poisoned_zone),
		cmocka_unit_test(both_copies_bad), cmocka_unit_test(copies_of_one_sequence_differ),        cmocka_unit_test(newest_wins),
		cmocka_unit_test(sequence_wraps_nowhere), cmocka_unit_test(power_cut_between_the_copies),
		cmocka_unit_test(unknown_features),       cmocka_unit_test(power_cut_inside_format),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
