/* SPDX-License-Identifier: BSD-3-Clause */
/* Forged images, log and data: each breaks one rule and returns the offset that a check must name. */
#include "tool/forged.h"

#include <string.h>

/* ---- ksets --------------------------------------------------------------------------------------------------------- */

/* The second write lies below the durable position. */
static struct pcm_kset *second(struct forge *forge)
{
	return forge_kset_at(forge, forge->first_pos + 1);
}

static uint64_t off_of(const struct forge *forge, const void *at)
{
	return (uint64_t)((const uint8_t *)at - forge->bytes);
}

static uint64_t sealed(struct forge *forge, struct pcm_kset *kset)
{
	forge_seal_kset(kset);
	return off_of(forge, kset);
}

static uint64_t stranger_below_mark(struct forge *forge)
{
	second(forge)->nonce = pc_le64(1);
	return off_of(forge, second(forge));
}

static uint64_t stranger_above_mark(struct forge *forge)
{
	struct pcm_kset *kset = forge_kset_at(forge, forge->mark_at + 1);

	kset->pos = pc_le64(1);
	return off_of(forge, kset);
}

static uint64_t slot_nr_zero(struct forge *forge)
{
	second(forge)->slot_nr = pc_le32(0);
	return off_of(forge, second(forge));
}

static uint64_t slot_nr_past_segment(struct forge *forge)
{
	second(forge)->slot_nr = pc_le32((uint32_t)forge->first_pos);
	return off_of(forge, second(forge));
}

static uint64_t slot_nr_at_top(struct forge *forge)
{
	second(forge)->slot_nr = pc_le32(UINT32_MAX);
	return off_of(forge, second(forge));
}

static uint64_t torn_below_mark(struct forge *forge)
{
	forge_key_at(forge, forge->first_pos + 1)->len_blk = pc_le32(7);
	return off_of(forge, second(forge));
}

static uint64_t torn_above_mark(struct forge *forge)
{
	forge_key_at(forge, forge->mark_at + 1)->len_blk = pc_le32(7);
	return off_of(forge, forge_kset_at(forge, forge->mark_at + 1));
}

static uint64_t type_unknown(struct forge *forge)
{
	second(forge)->type = pc_le16(4);
	return sealed(forge, second(forge));
}

static uint64_t type_unknown_above_mark(struct forge *forge)
{
	struct pcm_kset *kset = forge_kset_at(forge, forge->mark_at + 1);

	kset->type = pc_le16(0);
	return sealed(forge, kset);
}

static uint64_t type_unknown_behind_end(struct forge *forge)
{
	struct pcm_kset *kset = forge_kset_at(forge, forge_void(forge, 1));

	kset->type = pc_le16(4);
	return sealed(forge, kset);
}

static uint64_t flags_of_keys(struct forge *forge)
{
	second(forge)->flags = pc_le16(PC_KSET_FLAG_FLUSH);
	return sealed(forge, second(forge));
}

static uint64_t flags_of_mark(struct forge *forge)
{
	struct pcm_kset *kset = forge_kset_at(forge, forge_mark(forge, forge->first_pos));

	kset->flags = pc_le16(2);
	return sealed(forge, kset);
}

static uint64_t key_nr_zero(struct forge *forge)
{
	second(forge)->key_nr = pc_le32(0);
	return sealed(forge, second(forge));
}

static uint64_t key_nr_of_void(struct forge *forge)
{
	struct pcm_kset *kset = forge_kset_at(forge, forge->void_at);

	kset->key_nr = pc_le32(1);
	return sealed(forge, kset);
}

static uint64_t key_nr_of_mark(struct forge *forge)
{
	struct pcm_kset *kset = forge_kset_at(forge, forge_mark(forge, forge->first_pos));

	kset->key_nr = pc_le32(1);
	return sealed(forge, kset);
}

static uint64_t keys_past_slots(struct forge *forge)
{
	second(forge)->key_nr = pc_le32(2);
	return sealed(forge, second(forge));
}

/* What lies behind the slots is zero, and no key. */
static uint64_t keys_past_slots_at_end(struct forge *forge)
{
	const struct pc_key key = { .vol_blk = 300, .len_blk = 1, .flags = PC_KEY_ZERO };
	struct pcm_kset *kset = forge_kset_at(forge, forge_write(forge, &key));

	kset->key_nr = pc_le32(2);
	return sealed(forge, kset);
}

static uint64_t key_nr_at_top(struct forge *forge)
{
	second(forge)->key_nr = pc_le32(UINT32_MAX);
	return sealed(forge, second(forge));
}

/* A key that says it has more chunk cells than its kset has slots. */
static uint64_t chunk_cells_past_slots(struct forge *forge)
{
	struct pcm_key *key = forge_key_at(forge, forge->first_pos + 1);

	key->len_blk = pc_le32(24);
	key->seg_blk = pc_le16(0);
	key->crc = pc_le32(0);
	return sealed(forge, second(forge));
}

static uint64_t last_cell_not_zero(struct forge *forge)
{
	(forge_key_at(forge, forge->zeroes_at) + 2)->flags = 1;
	return sealed(forge, forge_kset_at(forge, forge->zeroes_at));
}

static uint64_t cells_left(struct forge *forge)
{
	struct pcm_kset *kset = forge_kset_at(forge, forge->zeroes_at);

	kset->key_nr = pc_le32(1);
	memset(forge_key_at(forge, forge->zeroes_at) + 1, 0, PC_CELL_BYTES);
	return sealed(forge, kset);
}

static uint64_t mark_of_two_slots(struct forge *forge)
{
	struct pcm_kset *kset = forge_kset_at(forge, forge_mark(forge, forge->first_pos));

	kset->slot_nr = pc_le32(2);
	return sealed(forge, kset);
}

static uint64_t mark_above_itself(struct forge *forge)
{
	return forge_pos_off(forge, forge_mark(forge, forge->pos + 1));
}

static uint64_t mark_reserved(struct forge *forge)
{
	struct pcm_kset *kset = forge_kset_at(forge, forge_mark(forge, forge->first_pos));

	((uint8_t *)kset)[63] = 1;
	return sealed(forge, kset);
}

static uint64_t void_with_second_cell(struct forge *forge)
{
	struct pcm_kset *kset = forge_kset_at(forge, forge->void_at);

	((uint8_t *)kset)[32] = 1;
	return sealed(forge, kset);
}

static uint64_t unfinished_write(struct forge *forge)
{
	forge->bytes[forge_blk_off(forge, FORGE_SEG_A, 31)] ^= 1;
	return forge_pos_off(forge, forge->mark_at + 1);
}

/* The rest of the log is full of headers that promise ksets up to the end of their segment. */
static uint64_t headers_in_vain(struct forge *forge)
{
	const uint64_t slot_nr = forge->first_pos, limit = 64 * 3 * slot_nr;
	uint64_t promised = 0, over_pos = 0;

	for (uint64_t pos = forge->pos; pos < 3 * slot_nr; pos++) {
		struct pcm_kset *kset = forge_kset_at(forge, pos);

		kset->pos = pc_le64(pos);
		kset->nonce = pc_le64(FORGE_NONCE);
		kset->slot_nr = pc_le32((uint32_t)(slot_nr - pos % slot_nr));
		kset->type = pc_le16(PC_KSET_KEYS);
		promised += slot_nr - pos % slot_nr;
		if (promised > limit && over_pos == 0)
			over_pos = pos;
	}
	return forge_pos_off(forge, over_pos);
}

static uint64_t mark_names_inside(struct forge *forge)
{
	return forge_pos_off(forge, forge_mark(forge, forge->long_at + 1));
}

/* ---- keys ---------------------------------------------------------------------------------------------------------- */

/* The first key of a kset, changed and sealed again. */
#define KEY(name, at_pos, change) \
	static uint64_t name(struct forge *forge) \
	{ \
		struct pcm_key *key = forge_key_at(forge, at_pos); \
\
		change; \
		return sealed(forge, forge_kset_at(forge, at_pos)); \
	}
#define BACKING_BLK (forge->super.backing_bytes / 512)
#define SEGMENT_BLK (forge->super.segment_bytes / 512)

/* clang-format off */
KEY(len_zero, forge->first_pos + 1, key->len_blk = pc_le32(0))
KEY(range_past_backing, forge->zeroes_at, key->vol_blk = pc_le64(BACKING_BLK - 3))
KEY(range_at_top, forge->zeroes_at, key->vol_blk = pc_le64((UINT64_C(1) << 48) - 1))
KEY(volume_one, forge->zeroes_at, key->vol_blk = pc_le64(UINT64_C(1) << 48))
KEY(type_three, forge->zeroes_at, key->flags = 3)
KEY(flag_unknown, forge->zeroes_at, key->flags |= 32)
KEY(discard_of_data, forge->first_pos + 1, key->flags = PC_KEY_DISCARD)
KEY(segment_past_last, forge->first_pos + 1, key->seg_id = pc_le32(forge->super.segment_nr))
KEY(segment_at_top, forge->first_pos + 1, key->seg_id = pc_le32(UINT32_MAX))
KEY(data_past_segment, forge->first_pos + 1, key->seg_blk = pc_le16((uint16_t)(SEGMENT_BLK - 7)))
KEY(data_at_top, forge->first_pos + 1, key->seg_blk = pc_le16(UINT16_MAX))
KEY(len_at_top, forge->long_at, key->len_blk = pc_le32((uint32_t)BACKING_BLK - 400))
KEY(geom_bits, forge->first_pos + 1, key->geom = 64)
KEY(head_before_segment, forge->first_pos, (key->len_blk = pc_le32(4), key->geom = PC_GEOM(4, 0)))
KEY(tail_adds_chunk, forge->first_pos + 1, (key->len_blk = pc_le32(7), key->geom = PC_GEOM(0, 2)))
KEY(crc_of_several, forge->long_at, key->crc = pc_le32(1))
KEY(zero_with_gen, forge->zeroes_at, key->gen = pc_le64(1))
KEY(zero_with_segment, forge->zeroes_at, key->seg_id = pc_le32(1))
KEY(zero_with_block, forge->zeroes_at, key->seg_blk = pc_le16(1))
KEY(zero_with_crc, forge->zeroes_at, key->crc = pc_le32(1))
KEY(zero_with_geom, forge->zeroes_at, key->geom = 1)
KEY(zero_too_long, forge->zeroes_at, key->len_blk = pc_le32(PC_KEY_BARE_BLK_MAX + 1))
KEY(poison_with_segment, forge->zeroes_at, (key->flags = PC_KEY_POISON, key->seg_id = pc_le32(1)))
KEY(generation_of_the_future, forge->first_pos + 1, key->gen = pc_le64(FORGE_GEN_A + 1))
KEY(generation_at_top, forge->first_pos + 1, key->gen = pc_le64(UINT64_MAX))
/* clang-format on */

static uint64_t chunk_padding(struct forge *forge)
{
	((uint8_t *)(forge_key_at(forge, forge->long_at) + 2))[-1] = 1;
	return sealed(forge, forge_kset_at(forge, forge->long_at));
}

static const struct pc_key new_key = {
	.vol_blk = 300, .gen = FORGE_GEN_A, .seg_id = FORGE_SEG_A, .len_blk = 8, .seg_blk = 16
};

static uint64_t data_in_free_segment(struct forge *forge)
{
	struct pc_key key = new_key;

	key.seg_id = FORGE_SEG_FREE;
	key.gen = 1;
	return forge_pos_off(forge, forge_write(forge, &key));
}

static uint64_t data_in_log_segment(struct forge *forge)
{
	struct pc_key key = new_key;

	key.seg_id = FORGE_SPARE_LOG_SEG;
	key.gen = 2;
	return forge_pos_off(forge, forge_claim(forge, &key));
}

static uint64_t relogged_data_damaged(struct forge *forge)
{
	const struct pc_key key = { .vol_blk = 300,
				    .gen = FORGE_GEN_B,
				    .seg_id = FORGE_SEG_B,
				    .len_blk = 4,
				    .seg_blk = 28,
				    .flags = PC_KEY_CLEAN | PC_KEY_RELOGGED };

	forge_write(forge, &key);
	forge->bytes[forge_blk_off(forge, FORGE_SEG_B, 30)] ^= 1;
	return forge_blk_off(forge, FORGE_SEG_B, 28);
}

/* ---- what the keys together say -------------------------------------------------------------------------------------- */

static void put_new_segment(struct forge *forge, uint64_t gen)
{
	const struct pc_segrec rec = { .seg_id = FORGE_SEG_NEW, .type = PC_SEG_DATA, .seq = gen, .gen = gen };

	forge_put_segrec(forge, &rec, 3);
}

static uint64_t write_to_new_segment(struct forge *forge)
{
	struct pc_key key = new_key;

	key.seg_id = FORGE_SEG_NEW;
	key.gen = 2;
	key.seg_blk = 0;
	put_new_segment(forge, 2);
	return forge_pos_off(forge, forge_write(forge, &key));
}

static uint64_t segment_of_dirty_data_used_again(struct forge *forge)
{
	const uint64_t off = write_to_new_segment(forge);

	put_new_segment(forge, 3);
	return off;
}

static uint64_t record_of_data_lost(struct forge *forge)
{
	(void)write_to_new_segment(forge);
	forge_segrec_at(forge, 0, FORGE_SEG_NEW)->reserved[0] ^= 1;
	forge_segrec_at(forge, 1, FORGE_SEG_NEW)->reserved[0] ^= 1;
	return forge_blk_off(forge, FORGE_SEG_NEW, 0);
}

static uint64_t data_shared(struct forge *forge)
{
	(void)forge_claim(forge, &new_key);
	return forge_blk_off(forge, FORGE_SEG_A, 16);
}

static uint64_t data_shared_and_hidden(struct forge *forge)
{
	const struct pc_key key = { .vol_blk = 300, .len_blk = 8, .flags = PC_KEY_ZERO };
	const uint64_t off = data_shared(forge);

	(void)forge_write(forge, &key);
	return off;
}

static uint64_t clean_data_damaged(struct forge *forge)
{
	forge->bytes[forge_blk_off(forge, FORGE_SEG_B, 3)] ^= 1;
	return forge_blk_off(forge, FORGE_SEG_B, 0);
}

/* Blocks 12 to 15 are still seen through this key, whose chunk is one. */
static uint64_t dirty_data_damaged(struct forge *forge)
{
	forge->bytes[forge_blk_off(forge, FORGE_SEG_A, 8)] ^= 0x80;
	return forge_blk_off(forge, FORGE_SEG_A, 8);
}

static uint64_t last_chunk_damaged(struct forge *forge)
{
	forge->bytes[forge_blk_off(forge, FORGE_SEG_B, 27) + 511] ^= 0x80;
	return forge_blk_off(forge, FORGE_SEG_B, 24);
}

static uint64_t poisoned(struct forge *forge)
{
	const struct pc_key key = { .vol_blk = 700, .len_blk = 3, .flags = PC_KEY_POISON };

	return forge_pos_off(forge, forge_write(forge, &key));
}

/* Above the mark the data of each is read, whether it is seen or not; the budget is three times the segments. */
static uint64_t much_claimed(struct forge *forge)
{
	const uint64_t chunks = 3 * (uint64_t)forge->super.segment_nr * SEGMENT_BLK / 8;
	const uint32_t each = (uint32_t)SEGMENT_BLK / 8;
	struct pc_key key = { .vol_blk = 1024, .gen = 2, .seg_id = FORGE_SEG_NEW, .len_blk = (uint32_t)SEGMENT_BLK };

	put_new_segment(forge, 2);
	for (uint64_t i = 0; i < chunks / each + 2; i++)
		(void)forge_claim(forge, &key);
	return forge_blk_off(forge, FORGE_SEG_NEW,
			     (uint32_t)((chunks - 1) % each) * 8); /* one chunk went to the write before */
}

static uint64_t data_unreadable(struct forge *forge)
{
	forge->media.fail_off = forge_blk_off(forge, FORGE_SEG_B, 2);
	forge->media.fail_bytes = 64;
	return forge_blk_off(forge, FORGE_SEG_B, 0);
}

static uint64_t new_data_unreadable(struct forge *forge)
{
	forge->media.fail_off = forge_blk_off(forge, FORGE_SEG_A, 24);
	forge->media.fail_bytes = 64;
	return forge_blk_off(forge, FORGE_SEG_A, 24);
}

static uint64_t log_unreadable(struct forge *forge)
{
	forge->media.fail_off = forge_pos_off(forge, 2 * forge->first_pos) + 4096;
	forge->media.fail_bytes = 64;
	return forge->media.fail_off;
}

const struct forged forged_log[] = {
	{ CHECK_F3, CHECK_DAMAGE, data_unreadable, CHECK_OK },
	{ CHECK_F3, CHECK_DAMAGE, new_data_unreadable, CHECK_OK },
	{ CHECK_F3, CHECK_DAMAGE, log_unreadable, CHECK_OK },
	{ CHECK_K1, CHECK_DAMAGE, stranger_below_mark, CHECK_OK },
	{ CHECK_K1, CHECK_NOTE, stranger_above_mark, CHECK_OK },
	{ CHECK_K2, CHECK_DAMAGE, slot_nr_zero, CHECK_OK },
	{ CHECK_K2, CHECK_DAMAGE, slot_nr_past_segment, CHECK_OK },
	{ CHECK_K2, CHECK_DAMAGE, slot_nr_at_top, CHECK_OK },
	{ CHECK_K3, CHECK_DAMAGE, torn_below_mark, CHECK_OK },
	{ CHECK_K3, CHECK_NOTE, torn_above_mark, CHECK_OK },
	{ CHECK_K4, CHECK_DAMAGE, type_unknown, CHECK_OK },
	{ CHECK_K4, CHECK_DAMAGE, type_unknown_above_mark, CHECK_OK },
	{ CHECK_K4, CHECK_DAMAGE, type_unknown_behind_end, CHECK_OK },
	{ CHECK_K5, CHECK_DAMAGE, flags_of_keys, CHECK_OK },
	{ CHECK_K5, CHECK_DAMAGE, flags_of_mark, CHECK_OK },
	{ CHECK_K7, CHECK_DAMAGE, key_nr_zero, CHECK_OK },
	{ CHECK_K7, CHECK_DAMAGE, key_nr_of_void, CHECK_K1 },
	{ CHECK_K7, CHECK_DAMAGE, key_nr_of_mark, CHECK_OK },
	{ CHECK_K8, CHECK_DAMAGE, keys_past_slots, CHECK_OK },
	{ CHECK_K8, CHECK_DAMAGE, keys_past_slots_at_end, CHECK_OK },
	{ CHECK_K8, CHECK_DAMAGE, key_nr_at_top, CHECK_OK },
	{ CHECK_K8, CHECK_DAMAGE, chunk_cells_past_slots, CHECK_OK },
	{ CHECK_K9, CHECK_DAMAGE, last_cell_not_zero, CHECK_OK },
	{ CHECK_K9, CHECK_DAMAGE, cells_left, CHECK_OK },
	{ CHECK_K10, CHECK_DAMAGE, mark_of_two_slots, CHECK_OK },
	{ CHECK_K11, CHECK_DAMAGE, mark_above_itself, CHECK_OK },
	{ CHECK_K12, CHECK_DAMAGE, mark_reserved, CHECK_OK },
	{ CHECK_K13, CHECK_DAMAGE, void_with_second_cell, CHECK_K1 },
	{ CHECK_K14, CHECK_NOTE, unfinished_write, CHECK_OK },
	{ CHECK_K15, CHECK_DAMAGE, headers_in_vain, CHECK_OK },
	{ CHECK_K16, CHECK_DAMAGE, mark_names_inside, CHECK_OK },
	{ CHECK_Y1, CHECK_DAMAGE, len_zero, CHECK_OK },
	{ CHECK_Y2, CHECK_DAMAGE, range_past_backing, CHECK_OK },
	{ CHECK_Y2, CHECK_DAMAGE, range_at_top, CHECK_OK },
	{ CHECK_Y3, CHECK_DAMAGE, volume_one, CHECK_OK },
	{ CHECK_Y4, CHECK_DAMAGE, type_three, CHECK_OK },
	{ CHECK_Y5, CHECK_DAMAGE, flag_unknown, CHECK_OK },
	{ CHECK_Y6, CHECK_DAMAGE, discard_of_data, CHECK_OK },
	{ CHECK_Y7, CHECK_DAMAGE, segment_past_last, CHECK_OK },
	{ CHECK_Y7, CHECK_DAMAGE, segment_at_top, CHECK_OK },
	{ CHECK_Y8, CHECK_DAMAGE, data_past_segment, CHECK_OK },
	{ CHECK_Y8, CHECK_DAMAGE, data_at_top, CHECK_OK },
	{ CHECK_Y8, CHECK_DAMAGE, len_at_top, CHECK_OK },
	{ CHECK_Y9, CHECK_DAMAGE, geom_bits, CHECK_OK },
	{ CHECK_Y10, CHECK_DAMAGE, head_before_segment, CHECK_OK },
	{ CHECK_Y11, CHECK_DAMAGE, tail_adds_chunk, CHECK_OK },
	{ CHECK_Y12, CHECK_DAMAGE, crc_of_several, CHECK_OK },
	{ CHECK_Y13, CHECK_DAMAGE, chunk_padding, CHECK_OK },
	{ CHECK_Y14, CHECK_DAMAGE, zero_with_gen, CHECK_OK },
	{ CHECK_Y14, CHECK_DAMAGE, zero_with_segment, CHECK_OK },
	{ CHECK_Y14, CHECK_DAMAGE, zero_with_block, CHECK_OK },
	{ CHECK_Y14, CHECK_DAMAGE, zero_with_crc, CHECK_OK },
	{ CHECK_Y14, CHECK_DAMAGE, zero_with_geom, CHECK_OK },
	{ CHECK_Y14, CHECK_DAMAGE, poison_with_segment, CHECK_OK },
	{ CHECK_Y15, CHECK_DAMAGE, zero_too_long, CHECK_OK },
	{ CHECK_Y16, CHECK_DAMAGE, generation_of_the_future, CHECK_OK },
	{ CHECK_Y16, CHECK_DAMAGE, generation_at_top, CHECK_OK },
	{ CHECK_Y17, CHECK_DAMAGE, data_in_free_segment, CHECK_OK },
	{ CHECK_Y17, CHECK_DAMAGE, data_in_log_segment, CHECK_OK },
	{ CHECK_Y18, CHECK_DAMAGE, relogged_data_damaged, CHECK_OK },
	{ CHECK_M1, CHECK_DAMAGE, segment_of_dirty_data_used_again, CHECK_OK },
	{ CHECK_M2, CHECK_DAMAGE, record_of_data_lost, CHECK_R2 },
	{ CHECK_M3, CHECK_DAMAGE, data_shared, CHECK_OK },
	{ CHECK_M3, CHECK_DAMAGE, data_shared_and_hidden, CHECK_OK },
	{ CHECK_M4, CHECK_DAMAGE, clean_data_damaged, CHECK_OK },
	{ CHECK_M4, CHECK_DAMAGE, dirty_data_damaged, CHECK_OK },
	{ CHECK_M4, CHECK_DAMAGE, last_chunk_damaged, CHECK_OK },
	{ CHECK_M5, CHECK_NOTE, poisoned, CHECK_OK },
	{ CHECK_M6, CHECK_DAMAGE, much_claimed, CHECK_OK },
};
const size_t forged_log_nr = PC_ARRAY_NR(forged_log);
