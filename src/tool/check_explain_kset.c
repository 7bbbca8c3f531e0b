/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check, ksets: which rule does what stands at a position break? As check_explain.c. The order is that of docs/FORMAT.md: position and nonce, slot_nr,
 * CRC, then what the CRC vouches for. Up to there a crash explains anything; a kset whose CRC is right was made so.
 */
#include <string.h>

#include "base/crc.h"
#include "tool/check_internal.h"

static bool kset_crc_is_right(const uint8_t *at, const struct pcm_kset *header, uint32_t slot_nr)
{
	const size_t crc_off = offsetof(struct pcm_kset, crc);
	const size_t len = pc_get16(header->type) == PC_KSET_VOID ? PC_SLOT_BYTES : (size_t)slot_nr * PC_SLOT_BYTES;
	static const uint8_t zeroes[4];
	uint32_t crc = pc_crc32c(pc_crc32c(0, at, crc_off), zeroes, 4);

	return pc_crc32c(crc, at + crc_off + 4, len - crc_off - 4) == pc_get32(header->crc);
}

static enum check_rule explain_place(const struct pcm_key *cell, const struct pc_kset_rules *rules)
{
	const uint64_t chunk_blk = PC_CHUNK_BYTES / rules->block_bytes, len_blk = pc_get32(cell->len_blk);
	const uint64_t head_blk = cell->geom & 7u, tail_blk = cell->geom >> 3 & 7u, seg_blk = pc_get16(cell->seg_blk);
	const uint64_t chunk_nr = PC_DIV_UP(head_blk + len_blk + tail_blk, chunk_blk);

	if (pc_get32(cell->seg_id) >= rules->segment_nr)
		return CHECK_Y7;
	if (cell->geom >> 6)
		return CHECK_Y9;
	if (head_blk >= chunk_blk || head_blk > seg_blk)
		return CHECK_Y10;
	if (PC_DIV_UP(head_blk + len_blk, chunk_blk) != chunk_nr)
		return CHECK_Y11;
	if ((seg_blk + len_blk + tail_blk) * rules->block_bytes > rules->segment_bytes)
		return CHECK_Y8;
	if (pc_get32(cell->crc) != 0 && (!rules->data_crc || chunk_nr > 1))
		return CHECK_Y12;
	return CHECK_OK;
}

static enum check_rule explain_key(const struct pcm_key *cell, const struct pc_kset_rules *rules)
{
	const uint64_t vol_blk = pc_get64(cell->vol_blk), len_blk = pc_get32(cell->len_blk);
	const uint8_t type = cell->flags & PC_KEY_TYPE_MASK;

	if (cell->flags & ~PC_KEY_FLAGS_KNOWN)
		return CHECK_Y5;
	if (type > PC_KEY_POISON)
		return CHECK_Y4;
	if (vol_blk >> PC_KEY_BLK_BITS)
		return CHECK_Y3;
	if (len_blk == 0)
		return CHECK_Y1;
	if (vol_blk + len_blk > rules->backing_blk)
		return CHECK_Y2;
	if (cell->flags & PC_KEY_DISCARD && type != PC_KEY_ZERO)
		return CHECK_Y6;
	if (type == PC_KEY_DATA)
		return explain_place(cell, rules);
	if (pc_get64(cell->gen) || pc_get32(cell->crc) || pc_get32(cell->seg_id) || pc_get16(cell->seg_blk) ||
	    cell->geom)
		return CHECK_Y14;
	return len_blk > PC_KEY_BARE_BLK_MAX ? CHECK_Y15 : CHECK_OK;
}

/* Chunk CRCs that follow a key in cells of their own. */
static uint64_t chunk_crc_nr(const struct pcm_key *cell, const struct pc_kset_rules *rules)
{
	const uint64_t covered_blk = (uint64_t)(cell->geom & 7u) + pc_get32(cell->len_blk) + (cell->geom >> 3 & 7u);
	const uint64_t chunk_nr = PC_DIV_UP(covered_blk, PC_CHUNK_BYTES / rules->block_bytes);

	if (!rules->data_crc || (cell->flags & PC_KEY_TYPE_MASK) != PC_KEY_DATA || chunk_nr == 1)
		return 0;
	return chunk_nr;
}

static enum check_rule explain_keys(const uint8_t *at, uint32_t slot_nr, uint32_t key_nr,
				    const struct pc_kset_rules *rules)
{
	uint64_t left_cells = (uint64_t)slot_nr * 2 - 1;
	const uint8_t *next = at + PC_CELL_BYTES;
	struct pcm_key cell;
	enum check_rule rule;
	uint64_t crc_nr, crc_cells;

	if (key_nr == 0)
		return CHECK_K7;
	while (key_nr--) {
		if (left_cells == 0)
			return CHECK_K8;
		memcpy(&cell, next, sizeof(cell));
		rule = explain_key(&cell, rules);
		if (rule)
			return rule;
		crc_nr = chunk_crc_nr(&cell, rules);
		crc_cells = PC_DIV_UP(crc_nr, (uint64_t)PC_CRCS_PER_CELL);
		if (crc_cells + 1 > left_cells)
			return CHECK_K8;
		if (!check_is_zero(next + PC_CELL_BYTES + crc_nr * 4, crc_cells * PC_CELL_BYTES - crc_nr * 4))
			return CHECK_Y13;
		next += (crc_cells + 1) * PC_CELL_BYTES;
		left_cells -= crc_cells + 1;
	}
	return left_cells > 1 || !check_is_zero(next, left_cells * PC_CELL_BYTES) ? CHECK_K9 : CHECK_OK;
}

static enum check_rule explain_mark(const uint8_t *at, const struct pcm_kset *header)
{
	struct pcm_mark mark;

	memcpy(&mark, at + PC_CELL_BYTES, sizeof(mark));
	if (pc_get32(header->slot_nr) != 1)
		return CHECK_K10;
	if (pc_get64(mark.low_pos) > pc_get64(header->pos))
		return CHECK_K11;
	return check_is_zero(mark.reserved, sizeof(mark.reserved)) ? CHECK_OK : CHECK_K12;
}

static enum check_rule explain_values(const uint8_t *at, const struct pcm_kset *header,
				      const struct pc_kset_rules *rules)
{
	const uint16_t type = pc_get16(header->type), flags = pc_get16(header->flags);
	const uint32_t slot_nr = pc_get32(header->slot_nr), key_nr = pc_get32(header->key_nr);

	if (type != PC_KSET_KEYS && type != PC_KSET_VOID && type != PC_KSET_MARK)
		return CHECK_K4;
	if (type == PC_KSET_MARK ? flags & ~PC_KSET_FLAG_FLUSH : flags)
		return CHECK_K5;
	if (type == PC_KSET_KEYS)
		return slot_nr > PC_KSET_SLOTS_MAX ? CHECK_K6 : explain_keys(at, slot_nr, key_nr, rules);
	if (key_nr)
		return CHECK_K7;
	if (type == PC_KSET_MARK)
		return explain_mark(at, header);
	return check_is_zero(at + PC_CELL_BYTES, PC_CELL_BYTES) ? CHECK_OK : CHECK_K13;
}

enum check_rule check_explain_kset(const uint8_t *at, uint32_t avail_slots, uint64_t pos, uint64_t nonce,
				   const struct pc_kset_rules *rules, struct pc_kset *out_kset)
{
	struct pcm_kset header;
	struct pcm_mark mark;
	uint32_t slot_nr;

	memcpy(&header, at, sizeof(header));
	memcpy(&mark, at + PC_CELL_BYTES, sizeof(mark));
	if (pc_get64(header.pos) != pos || pc_get64(header.nonce) != nonce)
		return CHECK_K1;
	slot_nr = pc_get32(header.slot_nr);
	if (slot_nr == 0 || slot_nr > avail_slots)
		return CHECK_K2;
	if (!kset_crc_is_right(at, &header, slot_nr))
		return CHECK_K3;
	*out_kset = (struct pc_kset){
		.pos = pos,
		.nonce = nonce,
		.slot_nr = slot_nr,
		.key_nr = pc_get32(header.key_nr),
		.type = pc_get16(header.type),
		.flags = pc_get16(header.flags),
	};
	if (out_kset->type == PC_KSET_MARK)
		out_kset->mark_low_pos = pc_get64(mark.low_pos);
	return explain_values(at, &header, rules);
}
