/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sealing of mutated images; see fuzz.h. It trusts nothing: records that no reader would find are left alone, and nothing lies outside of the image.
 */
#include <string.h>

#include "base/crc.h"
#include "format/format.h"
#include "fuzz/fuzz.h"
#include "tool/forge.h"

struct seal {
	struct forge forge; /* its bytes are the image; only the places and the sealing are used */
	unsigned int what;
};

static void seal_record(struct seal *seal, uint64_t off, size_t len)
{
	if (off <= seal->forge.len_bytes && len <= seal->forge.len_bytes - off)
		forge_seal(seal->forge.bytes + off, len);
}

/* The geometry that both superblocks are found by: that of the first, if it can be one. */
static bool find_super(struct seal *seal)
{
	struct pcm_super copy;

	if (seal->forge.len_bytes < PC_PAGE_BYTES)
		return false;
	memcpy(&copy, seal->forge.bytes, sizeof(copy));
	forge_seal(&copy, sizeof(copy));
	if (pc_super_decode(&copy, &seal->forge.super) != PC_VALID ||
	    seal->forge.super.media_bytes > seal->forge.len_bytes)
		return false;
	pc_kset_rules_of(&seal->forge.super, &seal->forge.rules);
	return true;
}

static void seal_records(struct seal *seal)
{
	const struct pc_super *super = &seal->forge.super;

	for (unsigned int copy = 0; copy < 2; copy++) {
		seal_record(seal, pc_geo_super_off(super, copy), sizeof(struct pcm_super));
		seal_record(seal, pc_geo_tail_off(super, copy), sizeof(struct pcm_tail));
		for (uint32_t id = 0; id < super->segment_nr; id++)
			seal_record(seal, pc_geo_segrec_off(super, copy, id), sizeof(struct pcm_segrec));
	}
}

/* CRCs of the chunks that a key claims, as the bytes are. */
static void seal_chunks(struct seal *seal, const struct pc_key *key, struct pcm_key *cell)
{
	const struct pc_super *super = &seal->forge.super;
	const uint32_t chunk_blk = pc_chunk_blk(super->block_bytes),
		       chunk_nr = pc_key_chunk_nr(key, super->block_bytes);
	const uint32_t end_blk = key->seg_blk + key->len_blk + PC_GEOM_TAIL(key->geom);
	struct pcm_le32 *crcs = chunk_nr > 1 ? (void *)(cell + 1) : &cell->crc;

	for (uint32_t chunk = 0; chunk < chunk_nr; chunk++) {
		const uint32_t blk = key->seg_blk - PC_GEOM_HEAD(key->geom) + chunk * chunk_blk;
		const uint32_t len_blk = PC_MIN(chunk_blk, end_blk - blk);

		crcs[chunk] = pc_le32(pc_crc32c(0, seal->forge.bytes + forge_blk_off(&seal->forge, key->seg_id, blk),
						(size_t)len_blk * super->block_bytes));
	}
}

static void seal_data(struct seal *seal, uint8_t *slot, const struct pc_kset *kset)
{
	struct pcm_key *cell = (void *)(slot + PC_CELL_BYTES);
	struct pc_key key;

	for (uint32_t i = 0; i < kset->key_nr; i++) {
		pc_key_decode(cell, &key);
		if (seal->forge.rules.data_crc && (key.flags & PC_KEY_TYPE_MASK) == PC_KEY_DATA)
			seal_chunks(seal, &key, cell);
		cell += pc_key_cell_nr(&key, &seal->forge.rules);
	}
	forge_seal_kset((void *)slot);
}

/* One slot in which a kset may begin. Returns the slots that it takes. */
static uint32_t seal_slot(struct seal *seal, uint8_t *slot, uint32_t avail, uint64_t pos, uint64_t nonce)
{
	struct pcm_kset *header = (void *)slot;
	struct pc_kset kset;

	if (seal->what & FUZZ_SEAL_IDENTITY && pc_get16(header->type) >= PC_KSET_KEYS &&
	    pc_get16(header->type) <= PC_KSET_MARK) {
		header->pos = pc_le64(pos);
		header->nonce = pc_le64(nonce);
	}
	if (pc_get64(header->pos) != pos || pc_get64(header->nonce) != nonce || pc_get32(header->slot_nr) == 0 ||
	    pc_get32(header->slot_nr) > avail)
		return 1;
	if (seal->what & FUZZ_SEAL_KSETS)
		forge_seal_kset(header);
	if (pc_kset_decode(slot, avail, pos, nonce, &seal->forge.rules, &kset) != PC_VALID)
		return 1;
	if (seal->what & FUZZ_SEAL_DATA && kset.type == PC_KSET_KEYS)
		seal_data(seal, slot, &kset);
	return kset.slot_nr;
}

static void seal_segment(struct seal *seal, const struct pc_segrec *rec)
{
	const uint32_t slot_nr = pc_geo_slots_per_segment(&seal->forge.super);
	uint8_t *base = seal->forge.bytes + pc_geo_segment_off(&seal->forge.super, rec->seg_id);

	for (uint32_t slot = 0; slot < slot_nr;)
		slot += seal_slot(seal, base + (size_t)slot * PC_SLOT_BYTES, slot_nr - slot,
				  rec->ordinal * slot_nr + slot, rec->nonce);
}

void fuzz_seal(uint8_t *image, uint64_t len_bytes, unsigned int what)
{
	struct seal seal = { .forge = { .bytes = image, .len_bytes = len_bytes }, .what = what };
	struct pc_segrec rec;

	if (!find_super(&seal))
		return;
	if (what & FUZZ_SEAL_RECORDS)
		seal_records(&seal);
	for (uint32_t id = 0; what & ~FUZZ_SEAL_RECORDS && id < seal.forge.super.segment_nr; id++)
		if (pc_segrec_decode(forge_segrec_at(&seal.forge, 0, id), id, &rec) == PC_VALID &&
		    rec.type == PC_SEG_LOG)
			seal_segment(&seal, &rec);
}
