/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bugs that other caches had, by the names that these were given, and some that this one had: images that were made up, or that only look so. Each is opened by the library and
 * read by `pcache check`.
 */
#include <stdlib.h>
#include <string.h>

#include "core/rig.h"
#include "pcache/errors.h"
#include "tool/check.h"
#include "tool/forge.h"

/* The records of a cache that is not open, and where its log ends. */
struct scene {
	struct rig rig;
	struct check_result result;
	struct forge forge; /* only for the places of records; its bytes are a copy of the media */
};

static struct check_result check_rig(struct rig *rig)
{
	const struct check_settings settings = { 0 };
	struct check_result result;

	if (pc_sim_closed(rig->sim))
		pc_sim_reopen(rig->sim);
	assert_int_equal(check_run(pc_sim_media(rig->sim), &settings, &result), 0);
	return result;
}

/* A cache that was killed with some dirty data, all of it durable. */
static void scene_up(struct scene *s, bool no_crc)
{
	memset(s, 0, sizeof(*s));
	rig_zero(&s->rig);
	s->rig.seed = 11;
	s->rig.o.no_crc = no_crc;
	rig_up(&s->rig);
	for (uint32_t i = 0; i < 12; i++)
		rig_write(&s->rig, i * 8192, 2048, 0);
	rig_flush(&s->rig);
	rig_kill(&s->rig);
	s->result = check_rig(&s->rig);
	assert_int_equal(s->result.finding_nr[CHECK_DAMAGE], 0);
	s->forge.super = s->result.super;
	s->forge.len_bytes = pc_sim_media(s->rig.sim)->len_bytes;
	pc_kset_rules_of(&s->forge.super, &s->forge.rules);
	s->forge.tail = s->result.tail;
	s->forge.bytes = malloc(s->forge.len_bytes);
	assert_non_null(s->forge.bytes);
	memcpy(s->forge.bytes, pc_sim_view(s->rig.sim), s->forge.len_bytes);
}

/* The bytes of forge become the media. */
static void scene_apply(struct scene *s)
{
	if (s->rig.cache)
		rig_kill(&s->rig);
	pc_sim_reset(s->rig.sim, s->forge.bytes);
}

static void scene_down(struct scene *s)
{
	forge_free(&s->forge);
	rig_down(&s->rig);
}

/* The segment of the log that a position lies in. */
static struct pc_segrec log_segment(const struct scene *s, uint64_t pos)
{
	struct pc_segrec rec;

	for (uint32_t id = 0; id < s->forge.super.segment_nr; id++) {
		const uint64_t off = pc_geo_segrec_off(&s->forge.super, 0, id);

		if (pc_segrec_decode((const void *)(s->forge.bytes + off), id, &rec) == PC_VALID &&
		    rec.type == PC_SEG_LOG && rec.ordinal == pos / pc_geo_slots_per_segment(&s->forge.super))
			return rec;
	}
	fail_msg("no segment for position %llu", (unsigned long long)pos);
	return rec;
}

static uint8_t *slot_at(const struct scene *s, uint64_t pos)
{
	const struct pc_segrec rec = log_segment(s, pos);

	return s->forge.bytes + pc_geo_segment_off(&s->forge.super, rec.seg_id) +
	       pos % pc_geo_slots_per_segment(&s->forge.super) * PC_SLOT_BYTES;
}

static uint32_t slots_left(const struct scene *s, uint64_t pos)
{
	const uint32_t slot_nr = pc_geo_slots_per_segment(&s->forge.super);

	return slot_nr - (uint32_t)(pos % slot_nr);
}

/* A kset of one key at pos. */
static void __attribute__((unused)) put_key(struct scene *s, uint64_t pos, const struct pc_key *key)
{
	uint8_t *slot = slot_at(s, pos);

	memset(slot, 0, PC_SLOT_BYTES);
	pc_key_encode(key, (void *)(slot + PC_CELL_BYTES));
	pc_kset_seal(slot, pos, log_segment(s, pos).nonce, 1, 1);
}

static int open_scene(struct scene *s)
{
	scene_apply(s);
	return rig_try_open(&s->rig);
}

/* ---- what this cache had --------------------------------------------------------------------------------------------- */

/*
 * A power cut may leave of a kset position and nonce, and of the word behind them, with slot_nr, what lay there before: which a client may have chosen. Such slots
 * are unfinished writes, however much they promise together.
 */
static void torn_headers_promise_more_than_the_log(void **state)
{
	struct scene s;
	uint64_t pos;

	(void)state;
	scene_up(&s, false);
	pos = s.result.end_pos;
	for (uint32_t left = slots_left(&s, pos); left > 1; left--, pos++) {
		struct pcm_kset *kset = (void *)slot_at(&s, pos);

		memset(kset, 0x5a, PC_SLOT_BYTES);
		kset->pos = pc_le64(pos);
		kset->nonce = pc_le64(log_segment(&s, pos).nonce);
		kset->slot_nr = pc_le32(left);
		kset->type = pc_le16(PC_KSET_KEYS);
	}
	assert_int_equal(open_scene(&s), 0);
	rig_check_all(&s.rig);
	scene_down(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(torn_headers_promise_more_than_the_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
