/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bugs that other caches had, by the names that these were given, and some that this one had: images that were made up, or that only look so. Each is opened by the library and
 * read by `pcache check`.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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
		rig_write(&s->rig, i * 8192, i % 4 ? 2048 : 7168, 0);
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
static void put_key(struct scene *s, uint64_t pos, const struct pc_key *key)
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

/* The end of the rig's life: everything that the cache should hold reads right, write-back and cleaning get by. */
static void works_on(struct scene *s)
{
	rig_check_all(&s->rig);
	rig_write(&s->rig, 512, 1024, 0);
	assert_true(pc_cache_step(s->rig.cache, PC_STEP_CLEAN, true) >= 0);
	rig_drain(&s->rig);
	rig_check_all(&s->rig);
	rig_close(&s->rig);
	assert_int_equal(check_rig(&s->rig).finding_nr[CHECK_DAMAGE], 0);
}

/* What an open refuses, it has not changed, and a check calls damaged. */
static void is_refused(struct scene *s, int rc)
{
	const struct check_settings settings = { 0 };
	struct check_result result;
	struct forge_media media;

	forge_media_of(&media, s->forge.bytes, s->forge.len_bytes);
	assert_int_equal(check_run(&media.media, &settings, &result), 0);
	assert_true(result.finding_nr[CHECK_DAMAGE] > 0);
	assert_int_equal(open_scene(s), rc);
	assert_memory_equal(pc_sim_view(s->rig.sim), s->forge.bytes, s->forge.len_bytes);
}

/* Position of the first kset of so many slots. */
static uint64_t find_kset(const struct scene *s, uint32_t slot_nr)
{
	uint64_t pos = s->result.tail.log_tail_pos;
	struct pc_kset kset;

	while (pos < s->result.end_pos) {
		const struct pc_segrec rec = log_segment(s, pos);

		assert_int_equal(
			pc_kset_decode(slot_at(s, pos), slots_left(s, pos), pos, rec.nonce, &s->forge.rules, &kset),
			PC_VALID);
		if (kset.type == PC_KSET_KEYS && kset.slot_nr == slot_nr)
			return pos;
		pos += kset.slot_nr;
	}
	fail_msg("no kset of %u slots", slot_nr);
	return 0;
}

static void put_tail(struct scene *s)
{
	s->forge.tail.seq++;
	forge_put_tail(&s->forge, 3);
}

/* Keys that claim the same data would let 32 bytes of log stand for a segment's worth of extents, again and again. */
static void keys_claim_one_segment_many_times(void **state)
{
	struct pc_key key = { .len_blk = 4 };
	struct scene s;
	struct pc_key old;
	uint64_t pos;

	(void)state;
	scene_up(&s, true);
	pc_key_decode((const void *)(slot_at(&s, find_kset(&s, 1)) + PC_CELL_BYTES), &old);
	key.seg_id = old.seg_id;
	key.gen = old.gen;
	pos = s.result.end_pos;
	for (uint32_t i = 0; i < 4; i++) {
		key.vol_blk = 300 + i * 16;
		put_key(&s, pos++, &key);
	}
	is_refused(&s, PCACHE_E_CORRUPT);
	scene_down(&s);
}

/* The highest sequence number: the next update begins again at 0, and both copies of it are there before anything depends on it. */
static void sequence_numbers_wrap(void **state)
{
	struct pc_segrec rec;
	struct scene s;

	(void)state;
	scene_up(&s, false);
	s.forge.tail.seq = UINT64_MAX - 1;
	put_tail(&s);
	for (uint32_t id = 0; id < s.forge.super.segment_nr; id++) {
		assert_int_equal(pc_segrec_decode(forge_segrec_at(&s.forge, 0, id), id, &rec), PC_VALID);
		rec.seq = UINT64_MAX;
		forge_put_segrec(&s.forge, &rec, 3);
	}
	assert_int_equal(open_scene(&s), 0);
	for (uint32_t i = 0; i < 200; i++)
		rig_write(&s.rig, i * 512 % (200u << 10), 4096, 0);
	rig_flush(&s.rig);
	rig_power_cut(&s.rig);
	assert_int_equal(check_rig(&s.rig).finding_nr[CHECK_DAMAGE], 0);
	rig_open(&s.rig);
	works_on(&s);
	scene_down(&s);
}

/* A generation that has none after it is a segment that is never taken again: at 0 all its old keys would be younger than it, and the next open would refuse them. */
static void generations_end(void **state)
{
	struct pc_segrec rec;
	struct scene s;
	uint32_t last_nr = 0;

	(void)state;
	scene_up(&s, false);
	for (uint32_t id = 0; id < s.forge.super.segment_nr; id++) {
		assert_int_equal(pc_segrec_decode(forge_segrec_at(&s.forge, 0, id), id, &rec), PC_VALID);
		if (rec.type != PC_SEG_FREE || id % 2)
			continue;
		/* Some can be taken no more, some once. */
		rec.gen = UINT64_MAX - id / 2 % 2;
		last_nr++;
		forge_put_segrec(&s.forge, &rec, 3);
	}
	assert_true(last_nr >= 8);
	assert_int_equal(open_scene(&s), 0);
	for (uint32_t i = 0; i < 400; i++) {
		rig_write(&s.rig, i * 512 % (100u << 10), 4096, 0);
		if (i % 50 == 49) {
			rig_drain(&s.rig);
			rig_reopen(&s.rig);
		}
	}
	for (uint32_t id = 0; id < s.forge.super.segment_nr; id++)
		assert_true(s.rig.cache->layout.segrecs[id].gen != 0);
	rig_power_cut(&s.rig);
	assert_int_equal(check_rig(&s.rig).finding_nr[CHECK_DAMAGE], 0);
	rig_open(&s.rig);
	works_on(&s);
	scene_down(&s);
}

/* Neither of the positions of the tail record may lie inside of a kset: write-back and replay would begin in the middle of its keys. */
static void dirty_tail_inside_a_kset(void **state)
{
	struct scene s;

	(void)state;
	scene_up(&s, false);
	s.forge.tail.dirty_tail_pos = find_kset(&s, 2) + 1;
	put_tail(&s);
	is_refused(&s, PCACHE_E_CORRUPT);
	scene_down(&s);
}

static void mark_inside_a_kset(void **state)
{
	struct scene s;

	(void)state;
	scene_up(&s, false);
	s.forge.tail.mark_pos = find_kset(&s, 2) + 1;
	put_tail(&s);
	is_refused(&s, PCACHE_E_CORRUPT);
	scene_down(&s);
}

/* The first key of one slot, as it stands in the log. */
static struct pc_key some_key(const struct scene *s)
{
	struct pc_key key;

	pc_key_decode((const void *)(slot_at(s, find_kset(s, 1)) + PC_CELL_BYTES), &key);
	return key;
}

/*
 * No crash spoils what a key that was appended again repeats, as its data was durable before; a flipped bit does. So the open takes it, or one bit would cost the whole cache, and says so; check calls it damage;
 * and no read returns a byte of it: clean blocks come from the backing, dirty ones are an error, and nothing older shows.
 */
static void appended_again_with_another_crc(void **state)
{
	(void)state;
	for (uint32_t dirty = 0; dirty < 2; dirty++) {
		struct check_result result;
		struct pc_key key;
		struct scene s;
		uint64_t off;
		int rc;

		scene_up(&s, false);
		key = some_key(&s);
		key.crc ^= 1;
		key.flags = (uint8_t)(PC_KEY_RELOGGED | (dirty ? 0 : PC_KEY_CLEAN));
		put_key(&s, s.result.end_pos, &key);
		scene_apply(&s);
		result = check_rig(&s.rig);
		assert_int_equal(result.finding_nr[CHECK_DAMAGE], 1);
		assert_int_equal(rig_try_open(&s.rig), 0);
		assert_int_equal(s.rig.messages[PCACHE_LOG_WARN], 1);
		off = key.vol_blk * 512;
		rc = pcache_read(s.rig.cache, s.rig.scratch, off, 512, 0);
		assert_int_equal(rc, dirty ? PCACHE_E_POISONED : 0);
		if (!dirty)
			assert_memory_equal(s.rig.scratch, mem_backing_live(s.rig.mb) + off, 512);
		assert_int_equal(rig_info(&s.rig).crc_errors, 1);
		/* An overwrite cures it; of a clean key that covers dirty data nothing was promised. */
		rig_write(&s.rig, off, key.len_blk * UINT64_C(512), 0);
		works_on(&s);
		scene_down(&s);
	}
}

/*
 * The flag of a clean close goes before anything else is stored, so behind its end nothing follows, whole or torn. Where something does, check calls it damage, with what is missing up to it; an open recovers it as after a
 * crash, or it would lose what may have been acknowledged.
 */
static void log_goes_on_behind_a_clean_close(void **state)
{
	(void)state;
	for (uint32_t hole_nr = 0; hole_nr < 3; hole_nr++) {
		const struct pc_key key = { .vol_blk = 100, .len_blk = 8, .flags = PC_KEY_ZERO };
		struct check_result result;
		struct scene s;

		scene_up(&s, false);
		s.forge.tail.flags = PC_TAIL_FLAG_CLEAN_CLOSE;
		s.forge.tail.mark_pos = s.result.end_pos;
		put_tail(&s);
		put_key(&s, s.result.end_pos + hole_nr, &key);
		scene_apply(&s);
		result = check_rig(&s.rig);
		assert_int_equal(result.finding_nr[CHECK_DAMAGE], hole_nr ? 2 : 1);
		assert_int_equal(rig_try_open(&s.rig), 0);
		assert_int_equal(pcache_read(s.rig.cache, s.rig.scratch, 100 * 512, 8 * 512, 0), 0);
		memset(s.rig.model + 100 * 512, 0, 8 * 512);
		works_on(&s);
		scene_down(&s);
	}
}

/* ---- what others had --------------------------------------------------------------------------------------------------- */

static void spoil_kset(struct scene *s, uint64_t pos, uint32_t how)
{
	struct pcm_kset *kset = (void *)slot_at(s, pos);
	struct pcm_key *key = (void *)(kset + 1);
	const uint32_t left = slots_left(s, pos);

	switch (how) {
	case 0:
		kset->slot_nr = pc_le32(left + 1);
		return; /* nobody can seal that */
	case 1:
		kset->slot_nr = pc_le32(UINT32_MAX);
		return;
	case 2:
		kset->key_nr = pc_le32(UINT32_MAX);
		break;
	case 3:
		kset->key_nr = pc_le32(2);
		break;
	default: /* chunk cells for as many blocks as there are */
		key->len_blk = pc_le32((uint32_t)s->forge.rules.backing_blk);
		key->vol_blk = pc_le64(0);
		key->seg_blk = pc_le16(0);
		key->crc = pc_le32(0);
		key->flags = PC_KEY_DATA;
		break;
	}
	forge_seal_kset(kset);
}

/* Made up with a good CRC, where the memory ends with the last slot that there is: whatever it claims, nothing behind is looked at. */
static void nothing_behind_the_last_slot_is_looked_at(void)
{
	const struct pc_kset_rules rules = {
		.block_bytes = 512, .segment_bytes = 65536, .segment_nr = 4, .backing_blk = 4096, .data_crc = true
	};
	const struct pc_key keys[] = { { .vol_blk = 9, .len_blk = 1, .flags = PC_KEY_ZERO },
				       { .vol_blk = 9, .len_blk = 128, .flags = PC_KEY_DATA } };
	const uint32_t key_nrs[] = { 1, 2, UINT32_MAX };
	uint8_t *pages = mmap(NULL, 2 * PC_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *slot = pages + PC_PAGE_BYTES - PC_SLOT_BYTES;
	struct pc_kset kset;

	assert_ptr_not_equal(pages, MAP_FAILED);
	assert_int_equal(mprotect(pages + PC_PAGE_BYTES, PC_PAGE_BYTES, PROT_NONE), 0);
	for (uint32_t i = 0; i < PC_ARRAY_NR(keys) * PC_ARRAY_NR(key_nrs); i++) {
		const struct pc_key *key = &keys[i / PC_ARRAY_NR(key_nrs)];
		const uint32_t key_nr = key_nrs[i % PC_ARRAY_NR(key_nrs)];

		memset(slot, 0, PC_SLOT_BYTES);
		pc_key_encode(key, (void *)(slot + PC_CELL_BYTES));
		pc_kset_seal(slot, 64, 4711, 1, key_nr);
		assert_int_equal(pc_kset_decode(slot, 1, 64, 4711, &rules, &kset),
				 key_nr == 1 && key == keys ? PC_VALID : PC_INVALID_VALUE);
		((struct pcm_kset *)slot)->slot_nr = pc_le32(2);
		assert_int_equal(pc_kset_decode(slot, 1, 64, 4711, &rules, &kset), PC_INVALID_CRC);
	}
	munmap(pages, 2 * PC_PAGE_BYTES);
}

static void crafted_kset_overruns_segment(void **state)
{
	const struct pc_key key = { .vol_blk = 9, .len_blk = 1, .flags = PC_KEY_ZERO };

	(void)state;
	nothing_behind_the_last_slot_is_looked_at();
	for (uint32_t how = 0; how < 5; how++) {
		struct scene s;

		scene_up(&s, false);
		spoil_kset(&s, find_kset(&s, 1), how);
		is_refused(&s, PCACHE_E_CORRUPT);
		scene_down(&s);
		/* Above the mark it is a write that never was. */
		scene_up(&s, false);
		put_key(&s, s.result.end_pos, &key);
		spoil_kset(&s, s.result.end_pos, how);
		assert_int_equal(open_scene(&s), 0);
		works_on(&s);
		scene_down(&s);
	}
}

static void tail_out_of_bounds(void **state)
{
	const uint64_t odd[] = { 0, 1, UINT64_C(1) << 32, UINT64_C(1) << 62, UINT64_MAX - 63, UINT64_MAX };

	(void)state;
	for (uint32_t i = 0; i < PC_ARRAY_NR(odd) * 3; i++) {
		const uint64_t value = odd[i / 3];
		struct scene s;

		scene_up(&s, false);
		if (i % 3 == 0)
			s.forge.tail.log_tail_pos = value;
		if (i % 3 <= 1)
			s.forge.tail.dirty_tail_pos = value;
		else
			s.forge.tail.mark_pos = value;
		put_tail(&s);
		if (i % 3 == 2 && value <= 1) /* a lower bound may be low */
			assert_int_equal(open_scene(&s), 0);
		else
			is_refused(&s, PCACHE_E_CORRUPT);
		scene_down(&s);
	}
	/* Behind the first kset, where another one begins: in bounds, but no segment begins there. */
	for (uint32_t i = 0; i < 2; i++) {
		struct scene s;

		scene_up(&s, false);
		s.forge.tail.log_tail_pos = find_kset(&s, i + 1);
		s.forge.tail.dirty_tail_pos = s.forge.tail.log_tail_pos;
		put_tail(&s);
		is_refused(&s, PCACHE_E_CORRUPT);
		scene_down(&s);
	}
}

/* One more segment of the log, behind a place that nobody has. */
static void log_chain_with_a_gap(void)
{
	struct pc_segrec rec, free_rec = { .type = PC_SEG_LOG };
	struct scene s;
	uint64_t last = 0;

	scene_up(&s, false);
	for (uint32_t id = 0; id < s.forge.super.segment_nr; id++) {
		assert_int_equal(pc_segrec_decode(forge_segrec_at(&s.forge, 0, id), id, &rec), PC_VALID);
		last = PC_MAX(last, rec.ordinal);
		if (rec.type == PC_SEG_FREE)
			free_rec = rec;
	}
	assert_int_equal(free_rec.type, PC_SEG_FREE);
	free_rec.type = PC_SEG_LOG;
	free_rec.ordinal = last + 2;
	free_rec.nonce = 4711;
	forge_put_segrec(&s.forge, &free_rec, 3);
	is_refused(&s, PCACHE_E_CORRUPT);
	scene_down(&s);
}

static void log_chain_cycle(void **state)
{
	const uint64_t first = 1;

	(void)state;
	log_chain_with_a_gap();
	for (uint64_t ordinal = first; ordinal < first + 8; ordinal++) {
		struct pc_segrec rec;
		struct scene s;
		bool taken = false;

		scene_up(&s, false);
		/* A free segment gets a place that is taken already, or one far behind the last. */
		for (uint32_t id = s.forge.super.segment_nr; id-- > 0;) {
			assert_int_equal(pc_segrec_decode(forge_segrec_at(&s.forge, 0, id), id, &rec), PC_VALID);
			if (rec.type == PC_SEG_LOG && rec.ordinal == ordinal)
				taken = true;
		}
		for (uint32_t id = s.forge.super.segment_nr; id-- > 0;) {
			assert_int_equal(pc_segrec_decode(forge_segrec_at(&s.forge, 0, id), id, &rec), PC_VALID);
			if (rec.type == PC_SEG_FREE)
				break;
		}
		assert_int_equal(rec.type, PC_SEG_FREE);
		rec.type = PC_SEG_LOG;
		rec.ordinal = taken ? ordinal : ordinal + 100;
		rec.nonce = 4711;
		forge_put_segrec(&s.forge, &rec, 3);
		is_refused(&s, PCACHE_E_CORRUPT);
		scene_down(&s);
	}
}

/* One place twice and another missing: as many segments as places, and still no chain. */
static void log_chain_twice_and_missing(void **state)
{
	struct pc_segrec rec;
	struct scene s;
	uint64_t last = 0;
	uint32_t put_nr = 0;

	(void)state;
	scene_up(&s, false);
	for (uint32_t id = 0; id < s.forge.super.segment_nr; id++) {
		assert_int_equal(pc_segrec_decode(forge_segrec_at(&s.forge, 0, id), id, &rec), PC_VALID);
		last = PC_MAX(last, rec.ordinal);
	}
	for (uint32_t id = 0; id < s.forge.super.segment_nr && put_nr < 2; id++) {
		assert_int_equal(pc_segrec_decode(forge_segrec_at(&s.forge, 0, id), id, &rec), PC_VALID);
		if (rec.type != PC_SEG_FREE)
			continue;
		rec.type = PC_SEG_LOG;
		rec.ordinal = put_nr++ == 0 ? last : last + 2;
		rec.nonce = 4711;
		forge_put_segrec(&s.forge, &rec, 3);
	}
	assert_int_equal(put_nr, 2);
	is_refused(&s, PCACHE_E_CORRUPT);
	scene_down(&s);
}

static void key_past_end_of_device(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		struct scene s;
		uint64_t firsts[4];
		struct pc_key key = { .len_blk = 8, .flags = PC_KEY_ZERO };

		scene_up(&s, false);
		firsts[0] = s.forge.rules.backing_blk - 7;
		firsts[1] = s.forge.rules.backing_blk;
		firsts[2] = PC_KEY_BLK_MASK;
		firsts[3] = UINT64_MAX - 7;
		key.vol_blk = firsts[i];
		put_key(&s, s.result.end_pos, &key);
		assert_int_equal(open_scene(&s), 0);
		works_on(&s);
		scene_down(&s);
		scene_up(&s, false);
		put_key(&s, find_kset(&s, 1), &key);
		is_refused(&s, PCACHE_E_CORRUPT);
		scene_down(&s);
	}
}

static void segment_count_beyond_device(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		struct scene s;
		uint32_t counts[4];

		scene_up(&s, false);
		counts[0] = s.forge.super.segment_nr + 1;
		counts[1] = s.forge.super.segment_nr * 2;
		counts[2] = PC_SEGMENT_NR_MAX;
		counts[3] = UINT32_MAX;
		s.forge.super.segment_nr = counts[i];
		forge_put_super(&s.forge, 3);
		/* One more has its records, too; only its data would lie on zone B. */
		if (i == 0) {
			const struct pc_segrec rec = {
				.seg_id = counts[0] - 1, .type = PC_SEG_FREE, .seq = 1, .gen = 1
			};

			assert_true(8192 + 64 * (uint64_t)counts[0] <= s.forge.super.zone_bytes);
			forge_put_segrec(&s.forge, &rec, 3);
		}
		is_refused(&s, PCACHE_E_CORRUPT);
		scene_down(&s);
	}
}

/* Write-back from a dirty tail on ends, wherever that is. */
static void dirty_tail_chain_never_ends(void **state)
{
	struct scene s;
	uint64_t end;

	(void)state;
	scene_up(&s, false);
	end = s.result.end_pos;
	scene_down(&s);
	for (uint64_t pos = end - 3; pos < end + 100; pos += 7) {
		scene_up(&s, false);
		s.forge.tail.dirty_tail_pos = pos;
		s.forge.tail.mark_pos = end;
		put_tail(&s);
		if (open_scene(&s) == 0) {
			assert_true(pos <= end);
			assert_int_equal(pcache_drain(s.rig.cache, NULL, NULL), 0);
			rig_close(&s.rig);
		} else {
			is_refused(&s, PCACHE_E_CORRUPT);
		}
		scene_down(&s);
	}
}

static uint64_t copy_off(const struct scene *s, uint32_t which, unsigned int copy)
{
	return which == 0   ? pc_geo_super_off(&s->forge.super, copy)
	       : which == 1 ? pc_geo_tail_off(&s->forge.super, copy)
			    : pc_geo_segrec_off(&s->forge.super, copy, which - 2);
}

static void one_bad_replica_fails_open(void **state)
{
	(void)state;
	for (uint32_t which = 0; which < 6; which++) {
		for (unsigned int copy = 0; copy < 2; copy++) {
			struct scene s;

			scene_up(&s, false);
			memset(s.forge.bytes + copy_off(&s, which, copy), 0xff, 64);
			assert_int_equal(open_scene(&s), 0);
			assert_int_equal(check_rig(&s.rig).finding_nr[CHECK_REPAIR], 0); /* mended already */
			works_on(&s);
			scene_down(&s);
		}
	}
}

static void both_bad_reformats(void **state)
{
	(void)state;
	for (uint32_t which = 0; which < 6; which++) {
		struct scene s;

		scene_up(&s, false);
		for (unsigned int copy = 0; copy < 2; copy++)
			s.forge.bytes[copy_off(&s, which, copy) + 20] ^= 1;
		is_refused(&s, PCACHE_E_CORRUPT);
		scene_down(&s);
	}
}

static void replicas_share_one_line(void **state)
{
	(void)state;
	for (uint64_t bytes = 64u << 10; bytes < 64u << 20; bytes += bytes / 3 + 4096) {
		struct pc_super super = { 0 };

		if (pc_geo_plan(bytes, 4096, 512, &super) != 0)
			continue;
		for (uint32_t id = 0; id < super.segment_nr; id++) {
			/* Nor a page. */
			assert_true(pc_geo_segrec_off(&super, 0, id) / PC_PAGE_BYTES !=
				    pc_geo_segrec_off(&super, 1, id) / PC_PAGE_BYTES);
			assert_true(pc_geo_segrec_off(&super, 0, id) + 64 <= super.zone_bytes);
			assert_true(pc_geo_segrec_off(&super, 1, id) >= super.zone_b_off);
		}
		assert_true(pc_geo_tail_off(&super, 0) / PC_PAGE_BYTES != pc_geo_tail_off(&super, 1) / PC_PAGE_BYTES);
		assert_true(pc_geo_super_off(&super, 0) / PC_PAGE_BYTES != pc_geo_super_off(&super, 1) / PC_PAGE_BYTES);
	}
}

/* The last kset below the mark is damaged: the log does not end before it. */
static void corrupt_kset_taken_for_end_of_log(void **state)
{
	struct scene s;
	uint64_t pos, last = 0;
	struct pc_kset kset;

	(void)state;
	scene_up(&s, false);
	for (pos = s.result.tail.log_tail_pos; pos < s.result.mark_pos; pos += kset.slot_nr) {
		assert_int_equal(pc_kset_decode(slot_at(&s, pos), slots_left(&s, pos), pos, log_segment(&s, pos).nonce,
						&s.forge.rules, &kset),
				 PC_VALID);
		last = pos;
	}
	slot_at(&s, last)[50] ^= 1;
	/* All behind it goes, too, but for the tail record's word that it was there. */
	s.forge.tail.mark_pos = s.result.mark_pos;
	put_tail(&s);
	memset(slot_at(&s, pos), 0, (size_t)slots_left(&s, pos) * PC_SLOT_BYTES);
	is_refused(&s, PCACHE_E_CORRUPT);
	scene_down(&s);
}

/* Ksets that were good once stand where the log goes on: of another place of the log, or of another life of the segment. Position and nonce are compared before anything is believed. */
static void stale_kset_resurrected(void **state)
{
	const struct pc_key key = { .vol_blk = 0, .len_blk = 400, .flags = PC_KEY_ZERO };

	(void)state;
	for (uint32_t how = 0; how < 3; how++) {
		struct scene s;
		struct pcm_kset *kset;

		scene_up(&s, false);
		put_key(&s, s.result.end_pos, &key);
		kset = (void *)slot_at(&s, s.result.end_pos);
		if (how == 0)
			kset->nonce = pc_le64(pc_get64(kset->nonce) ^ 1);
		else if (how == 1)
			kset->pos = pc_le64(s.result.end_pos - pc_geo_slots_per_segment(&s.forge.super));
		else
			kset->pos = pc_le64(s.result.end_pos - 1);
		forge_seal_kset(kset);
		assert_int_equal(open_scene(&s), 0);
		works_on(&s);
		scene_down(&s);
	}
}

/* Format over the bytes of somebody else: what is reserved in a record is zero all the same, or no later version could give it a meaning. */
static void info_not_zeroed(void **state)
{
	struct pcache_backing *backing;
	struct pcache_config *config;
	uint8_t *old;
	struct rig rig;
	uint64_t len;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_kill(&rig);
	len = pc_sim_media(rig.sim)->len_bytes;
	old = malloc(len);
	assert_non_null(old);
	memset(old, 0xa5, len);
	pc_sim_reset(rig.sim, old);
	backing = mem_backing_attach(rig.mb);
	config = rig_config(&rig);
	assert_int_equal(pc_cache_format_media(pc_sim_media(rig.sim), config, NULL, backing), 0);
	pcache_config_free(config);
	pcache_backing_free(backing);
	assert_int_equal(check_rig(&rig).finding_nr[CHECK_DAMAGE], 0);
	assert_int_equal(check_rig(&rig).finding_nr[CHECK_REPAIR], 0);
	for (unsigned int i = 132; i < 252; i++)
		assert_int_equal(pc_sim_view(rig.sim)[i], 0);
	for (unsigned int i = 44; i < 60; i++) {
		assert_int_equal(pc_sim_view(rig.sim)[4096 + i], 0);
		assert_int_equal(pc_sim_view(rig.sim)[8192 + 5 * 64 + i], 0);
	}
	free(old);
	rig_down(&rig);
}

/* Record i stands at 64 * i of its zone, in both, whatever was updated: computed here from the numbers in docs/FORMAT.md. */
static void slot_index_uses_wrong_stride(void **state)
{
	struct pcm_segrec a, b;
	struct pc_segrec rec;
	struct scene s;

	(void)state;
	scene_up(&s, false);
	assert_int_equal(open_scene(&s), 0);
	for (uint32_t i = 0; i < 60; i++)
		rig_write(&s.rig, i * 4096, 4096, 0);
	rig_drain(&s.rig);
	for (uint32_t id = 0; id < s.forge.super.segment_nr; id++) {
		memcpy(&a, pc_sim_view(s.rig.sim) + 8192 + UINT64_C(64) * id, 64);
		memcpy(&b, pc_sim_view(s.rig.sim) + s.forge.super.zone_b_off + UINT64_C(64) * id, 64);
		assert_memory_equal(&a, &b, 64);
		assert_int_equal(pc_segrec_decode(&a, id, &rec), PC_VALID);
		assert_int_equal(rec.seg_id, id);
	}
	works_on(&s);
	scene_down(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(torn_headers_promise_more_than_the_log),
		cmocka_unit_test(keys_claim_one_segment_many_times),
		cmocka_unit_test(sequence_numbers_wrap),
		cmocka_unit_test(generations_end),
		cmocka_unit_test(dirty_tail_inside_a_kset),
		cmocka_unit_test(mark_inside_a_kset),
		cmocka_unit_test(appended_again_with_another_crc),
		cmocka_unit_test(log_goes_on_behind_a_clean_close),
		cmocka_unit_test(crafted_kset_overruns_segment),
		cmocka_unit_test(tail_out_of_bounds),
		cmocka_unit_test(log_chain_cycle),
		cmocka_unit_test(log_chain_twice_and_missing),
		cmocka_unit_test(key_past_end_of_device),
		cmocka_unit_test(segment_count_beyond_device),
		cmocka_unit_test(dirty_tail_chain_never_ends),
		cmocka_unit_test(one_bad_replica_fails_open),
		cmocka_unit_test(both_bad_reformats),
		cmocka_unit_test(replicas_share_one_line),
		cmocka_unit_test(corrupt_kset_taken_for_end_of_log),
		cmocka_unit_test(stale_kset_resurrected),
		cmocka_unit_test(info_not_zeroed),
		cmocka_unit_test(slot_index_uses_wrong_stride),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
