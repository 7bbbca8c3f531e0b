/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/forge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc.h"
#include "pcache/errors.h"

const struct forge_shape forge_usual = { .media_bytes = 256u << 10, .segment_bytes = 16u << 10, .block_bytes = 512 };

/* ---- media -------------------------------------------------------------------------------------------------------- */

static int forge_read(struct pc_media *media, uint64_t media_off, void *buf, size_t len)
{
	const struct forge_media *forge = (const struct forge_media *)(const void *)media;

	if (media_off > media->len_bytes || len > media->len_bytes - media_off)
		return PCACHE_E_TRUNCATED;
	if (forge->fail_bytes && media_off < forge->fail_off + forge->fail_bytes && forge->fail_off < media_off + len)
		return -EIO;
	memcpy(buf, forge->bytes + media_off, len);
	return 0;
}

void forge_media_of(struct forge_media *media, const void *bytes, uint64_t len_bytes)
{
	static const struct pc_media_ops ops = { .read = forge_read };

	memset(media, 0, sizeof(*media));
	media->media.ops = &ops;
	media->media.base = bytes;
	media->media.len_bytes = len_bytes;
	media->media.read_only = true;
	media->bytes = bytes;
}

/* ---- places ------------------------------------------------------------------------------------------------------- */

uint64_t forge_pos_off(const struct forge *forge, uint64_t pos)
{
	const uint64_t slot_nr = pc_geo_slots_per_segment(&forge->super);
	const uint32_t seg_id = pos / slot_nr == 1 ? FORGE_LOG_SEG : FORGE_SPARE_LOG_SEG;

	return pc_geo_segment_off(&forge->super, seg_id) + pos % slot_nr * PC_SLOT_BYTES;
}

uint64_t forge_blk_off(const struct forge *forge, uint32_t seg_id, uint32_t seg_blk)
{
	return pc_geo_segment_off(&forge->super, seg_id) + (uint64_t)seg_blk * forge->super.block_bytes;
}

struct pcm_super *forge_super_at(struct forge *forge, unsigned int copy)
{
	return (void *)(forge->bytes + pc_geo_super_off(&forge->super, copy));
}

struct pcm_tail *forge_tail_at(struct forge *forge, unsigned int copy)
{
	return (void *)(forge->bytes + pc_geo_tail_off(&forge->super, copy));
}

struct pcm_segrec *forge_segrec_at(struct forge *forge, unsigned int copy, uint32_t seg_id)
{
	return (void *)(forge->bytes + pc_geo_segrec_off(&forge->super, copy, seg_id));
}

struct pcm_kset *forge_kset_at(struct forge *forge, uint64_t pos)
{
	return (void *)(forge->bytes + forge_pos_off(forge, pos));
}

struct pcm_key *forge_key_at(struct forge *forge, uint64_t pos)
{
	return (void *)(forge->bytes + forge_pos_off(forge, pos) + PC_CELL_BYTES);
}

void forge_seal(void *record, size_t len)
{
	uint8_t *bytes = record;
	uint32_t crc;

	memset(bytes + len - 4, 0, 4);
	crc = pc_crc32c(0, bytes, len);
	memcpy(bytes + len - 4, &crc, 4);
}

void forge_seal_kset(struct pcm_kset *kset)
{
	const uint32_t slot_nr = pc_get16(kset->type) == PC_KSET_VOID ? 1 : pc_get32(kset->slot_nr);

	kset->crc = pc_le32(0);
	kset->crc = pc_le32(pc_crc32c(0, kset, (size_t)slot_nr * PC_SLOT_BYTES));
}

/* ---- records ------------------------------------------------------------------------------------------------------ */

void forge_put_super(struct forge *forge, unsigned int copies)
{
	for (unsigned int i = 0; i < 2; i++)
		if (copies >> i & 1)
			pc_super_encode(&forge->super, forge_super_at(forge, i));
}

void forge_put_tail(struct forge *forge, unsigned int copies)
{
	for (unsigned int i = 0; i < 2; i++)
		if (copies >> i & 1)
			pc_tail_encode(&forge->tail, forge_tail_at(forge, i));
}

void forge_put_segrec(struct forge *forge, const struct pc_segrec *rec, unsigned int copies)
{
	for (unsigned int i = 0; i < 2; i++)
		if (copies >> i & 1)
			pc_segrec_encode(rec, forge_segrec_at(forge, i, rec->seg_id));
}

/* ---- ksets -------------------------------------------------------------------------------------------------------- */

/* One key with the CRCs of what is in its segment. */
uint64_t forge_claim(struct forge *forge, const struct pc_key *key)
{
	const uint32_t block_bytes = forge->super.block_bytes, chunk_nr = pc_key_chunk_nr(key, block_bytes);
	const uint32_t cell_nr = pc_key_cell_nr(key, &forge->rules), slot_nr = pc_cells_to_slots(1 + cell_nr);
	const uint32_t end_blk = key->seg_blk + key->len_blk + PC_GEOM_TAIL(key->geom);
	uint32_t blk = key->seg_blk - PC_GEOM_HEAD(key->geom), crc;
	uint8_t *slot = forge->bytes + forge_pos_off(forge, forge->pos);
	struct pcm_key *cell = forge_key_at(forge, forge->pos);

	memset(slot, 0, (size_t)slot_nr * PC_SLOT_BYTES);
	pc_key_encode(key, cell);
	for (uint32_t i = 0; i < chunk_nr && forge->rules.data_crc && (key->flags & PC_KEY_TYPE_MASK) == PC_KEY_DATA;
	     i++) {
		const uint32_t len_blk = PC_MIN(end_blk - blk, pc_chunk_blk(block_bytes));

		crc = pc_crc32c(0, forge->bytes + forge_blk_off(forge, key->seg_id, blk),
				(size_t)len_blk * block_bytes);
		blk += len_blk;
		if (chunk_nr == 1)
			cell->crc = pc_le32(crc);
		else
			memcpy((uint8_t *)(cell + 1) + (size_t)i * 4, &crc, 4);
	}
	pc_kset_seal(slot, forge->pos, FORGE_NONCE, slot_nr, 1);
	forge->pos += slot_nr;
	return forge->pos - slot_nr;
}

uint64_t forge_write(struct forge *forge, const struct pc_key *key)
{
	uint8_t *data = forge->bytes + forge_blk_off(forge, key->seg_id, key->seg_blk);
	uint32_t i;

	for (i = 0; (key->flags & PC_KEY_TYPE_MASK) == PC_KEY_DATA && i < key->len_blk * forge->super.block_bytes; i++)
		data[i] = (uint8_t)(key->vol_blk * 7 + i * 13 + forge->pos);
	return forge_claim(forge, key);
}

uint64_t forge_mark(struct forge *forge, uint64_t low_pos)
{
	pc_kset_encode_mark(forge_kset_at(forge, forge->pos), forge->pos, FORGE_NONCE, PC_KSET_FLAG_FLUSH, low_pos);
	return forge->pos++;
}

uint64_t forge_void(struct forge *forge, uint32_t slot_nr)
{
	pc_kset_encode_void(forge_kset_at(forge, forge->pos), forge->pos, FORGE_NONCE, slot_nr);
	forge->pos += slot_nr;
	return forge->pos - slot_nr;
}

/* Two ranges in one kset: header, two keys, a cell of padding. */
static uint64_t put_two_zeroes(struct forge *forge)
{
	const struct pc_key first = { .vol_blk = 600, .len_blk = 4, .flags = PC_KEY_ZERO };
	const struct pc_key second = { .vol_blk = 610, .len_blk = 4, .flags = PC_KEY_ZERO };
	struct pcm_key *cell = forge_key_at(forge, forge->pos);

	memset(forge_kset_at(forge, forge->pos), 0, 2 * PC_SLOT_BYTES);
	pc_key_encode(&first, cell);
	pc_key_encode(&second, cell + 1);
	pc_kset_seal(forge_kset_at(forge, forge->pos), forge->pos, FORGE_NONCE, 2, 2);
	forge->pos += 2;
	return forge->pos - 2;
}

static void put_segrecs(struct forge *forge)
{
	for (uint32_t id = 0; id < forge->super.segment_nr; id++) {
		struct pc_segrec rec = { .seg_id = id, .type = PC_SEG_FREE, .seq = 1, .gen = 1 };

		if (id == FORGE_LOG_SEG || id == FORGE_SPARE_LOG_SEG)
			rec = (struct pc_segrec){ .seg_id = id,
						  .type = PC_SEG_LOG,
						  .seq = 2,
						  .gen = 2,
						  .ordinal = id == FORGE_LOG_SEG ? 1 : 2,
						  .nonce = FORGE_NONCE };
		if (id == FORGE_SEG_A || id == FORGE_SEG_B)
			rec = (struct pc_segrec){ .seg_id = id,
						  .type = PC_SEG_DATA,
						  .seq = 2,
						  .gen = id == FORGE_SEG_A ? FORGE_GEN_A : FORGE_GEN_B };
		forge_put_segrec(forge, &rec, 3);
	}
}

static void put_log(struct forge *forge)
{
	struct pc_key key = { .gen = FORGE_GEN_A, .seg_id = FORGE_SEG_A };

	for (uint16_t i = 0; i < 3; i++) {
		key.vol_blk = i == 2 ? 4 : (uint64_t)i * 8;
		key.seg_blk = (uint16_t)(i * 8);
		key.len_blk = 4096 / forge->super.block_bytes;
		forge_write(forge, &key);
	}
	key = (struct pc_key){
		.vol_blk = 100, .gen = FORGE_GEN_B, .seg_id = FORGE_SEG_B, .len_blk = key.len_blk, .flags = PC_KEY_CLEAN
	};
	forge_write(forge, &key);
}

/* The rest needs blocks of 512 and segments of 16 KiB. */
static void put_long_log(struct forge *forge)
{
	struct pc_key key = { .vol_blk = 400, .gen = FORGE_GEN_B, .seg_id = FORGE_SEG_B, .len_blk = 20, .seg_blk = 8 };

	forge->long_at = forge_write(forge, &key);
	forge->zeroes_at = put_two_zeroes(forge);
	forge->void_at = forge_void(forge, 3);
	forge->mark_at = forge_mark(forge, forge->pos);
	key = (struct pc_key){ .vol_blk = 200, .gen = FORGE_GEN_A, .seg_id = FORGE_SEG_A, .len_blk = 8, .seg_blk = 24 };
	forge_write(forge, &key);
	key = (struct pc_key){ .vol_blk = 50, .len_blk = 4, .flags = PC_KEY_ZERO | PC_KEY_DISCARD };
	forge_write(forge, &key);
}

void forge_sound(struct forge *forge, const struct forge_shape *shape)
{
	memset(forge, 0, sizeof(*forge));
	forge->super = (struct pc_super){ .version = PC_FORMAT_VERSION,
					  .flags = shape->no_crc ? 0 : PC_SUPER_FLAG_DATA_CRC,
					  .seq = 1,
					  .backing_bytes = UINT64_C(1) << 30 };
	memset(forge->super.cache_uuid, 7, sizeof(forge->super.cache_uuid));
	forge->bytes = calloc(1, shape->media_bytes);
	if (!forge->bytes ||
	    pc_geo_plan(shape->media_bytes, shape->segment_bytes, shape->block_bytes, &forge->super) < 0)
		abort();
	forge->len_bytes = shape->media_bytes;
	pc_kset_rules_of(&forge->super, &forge->rules);
	forge_put_super(forge, 3);
	put_segrecs(forge);
	forge->first_pos = pc_geo_slots_per_segment(&forge->super);
	forge->pos = forge->first_pos;
	put_log(forge);
	if (shape->block_bytes == 512 && shape->segment_bytes >= 16384)
		put_long_log(forge);
	else
		forge->mark_at = forge_mark(forge, forge->pos);
	forge->tail = (struct pc_tail){ .seq = 3,
					.gc_percent = 70,
					.log_tail_pos = forge->first_pos,
					.dirty_tail_pos = forge->first_pos + 1,
					.mark_pos = forge->first_pos + 1 };
	forge_put_tail(forge, 3);
	forge_media_of(&forge->media, forge->bytes, forge->len_bytes);
}

void forge_free(struct forge *forge)
{
	free(forge->bytes);
	memset(forge, 0, sizeof(*forge));
}
