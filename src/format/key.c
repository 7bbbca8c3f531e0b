/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Keys: one cell each, "this range of the backing has its data there"; and the CRCs of chunks that may follow a key.
 *
 *   chunk grid   |---- chunk ----|---- chunk ----|-- last --|      counted from the start of the original allocation
 *   data               |############ len_blk ########|
 *                |head |                             |tail |       head_blk and tail_blk complete the first and last chunk
 *
 * A key is valid if every number in it is safe to use: the range lies on the backing, the data with its whole chunks lies in
 * a segment that exists, and head and tail complete a chunk but do not add one. Whether the segment still has the key's
 * generation is not asked here: a stale key is valid and still masks.
 *
 * Pure: no media, no lock, no allocation. Keys come from media, so sums are taken in 64 bits, where 32-bit members cannot wrap.
 */
#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "format/format.h"
#include "format/text.h"

void pc_kset_rules_of(const struct pc_super *super, struct pc_kset_rules *out_rules)
{
	out_rules->block_bytes = super->block_bytes;
	out_rules->segment_bytes = super->segment_bytes;
	out_rules->segment_nr = super->segment_nr;
	out_rules->backing_blk = super->backing_bytes / super->block_bytes;
	out_rules->data_crc = (super->flags & PC_SUPER_FLAG_DATA_CRC) != 0;
}

uint32_t pc_key_chunk_nr(const struct pc_key *key, uint32_t block_bytes)
{
	const uint64_t covered_blk = (uint64_t)PC_GEOM_HEAD(key->geom) + key->len_blk + PC_GEOM_TAIL(key->geom);
	const uint32_t chunk_blk = pc_chunk_blk(block_bytes);
	const uint64_t chunk_nr = (covered_blk + chunk_blk - 1) >> __builtin_ctz(chunk_blk);

	/* More than a key that is valid can have; for others, anything that is large. */
	return (uint32_t)PC_MIN(chunk_nr, (uint64_t)UINT32_MAX);
}

static bool has_chunk_cells(const struct pc_key *key, const struct pc_kset_rules *rules, uint32_t chunk_nr)
{
	return rules->data_crc && (key->flags & PC_KEY_TYPE_MASK) == PC_KEY_DATA && chunk_nr > 1;
}

uint32_t pc_key_cell_nr(const struct pc_key *key, const struct pc_kset_rules *rules)
{
	const uint32_t chunk_nr = pc_key_chunk_nr(key, rules->block_bytes);

	if (!has_chunk_cells(key, rules, chunk_nr))
		return 1;
	return 1 + chunk_nr / PC_CRCS_PER_CELL + (chunk_nr % PC_CRCS_PER_CELL != 0);
}

void pc_key_encode(const struct pc_key *key, struct pcm_key *out_cell)
{
	out_cell->vol_blk = pc_le64(key->vol_blk);
	out_cell->gen = pc_le64(key->gen);
	out_cell->crc = pc_le32(key->crc);
	out_cell->seg_id = pc_le32(key->seg_id);
	out_cell->len_blk = pc_le32(key->len_blk);
	out_cell->seg_blk = pc_le16(key->seg_blk);
	out_cell->geom = key->geom;
	out_cell->flags = key->flags;
}

void pc_key_decode(const struct pcm_key *cell, struct pc_key *out_key)
{
	const struct pcm_key copy = *cell;

	out_key->vol_blk = pc_get64(copy.vol_blk);
	out_key->gen = pc_get64(copy.gen);
	out_key->crc = pc_get32(copy.crc);
	out_key->seg_id = pc_get32(copy.seg_id);
	out_key->len_blk = pc_get32(copy.len_blk);
	out_key->seg_blk = pc_get16(copy.seg_blk);
	out_key->geom = copy.geom;
	out_key->flags = copy.flags;
}

/* The place of DATA: chunks whole and inside one segment that exists. */
static bool place_is_sound(const struct pc_key *key, const struct pc_kset_rules *rules)
{
	const uint32_t head_blk = PC_GEOM_HEAD(key->geom);
	const uint32_t tail_blk = PC_GEOM_TAIL(key->geom);
	const uint32_t chunk_blk = pc_chunk_blk(rules->block_bytes);
	const uint64_t end_blk = (uint64_t)key->seg_blk + key->len_blk + tail_blk;
	const uint64_t last_blk = (uint64_t)head_blk + key->len_blk - 1; /* from the start of the first chunk */

	if (key->seg_id >= rules->segment_nr || end_blk > rules->segment_bytes >> __builtin_ctz(rules->block_bytes))
		return false;
	if (key->geom >> 6 != 0 || head_blk >= chunk_blk || head_blk > key->seg_blk)
		return false;
	if ((last_blk ^ (last_blk + tail_blk)) >= chunk_blk) /* not in one chunk */
		return false;
	if (!rules->data_crc || pc_key_chunk_nr(key, rules->block_bytes) > 1)
		return key->crc == 0;
	return true;
}

bool pc_key_check(const struct pc_key *key, const struct pc_kset_rules *rules)
{
	const uint8_t type = key->flags & PC_KEY_TYPE_MASK;

	/* Volumes other than 0 are for a later version. */
	if ((key->flags & ~PC_KEY_FLAGS_KNOWN) != 0 || key->vol_blk >> PC_KEY_BLK_BITS != 0)
		return false;
	if (key->len_blk == 0 || !pc_range_inside(key->vol_blk & PC_KEY_BLK_MASK, key->len_blk, rules->backing_blk))
		return false;
	if ((key->flags & PC_KEY_DISCARD) != 0 && type != PC_KEY_ZERO)
		return false;
	switch (type) {
	case PC_KEY_DATA:
		return place_is_sound(key, rules);
	case PC_KEY_ZERO:
	case PC_KEY_POISON:
		return key->len_blk <= PC_KEY_BARE_BLK_MAX && key->gen == 0 && key->seg_id == 0 && key->seg_blk == 0 &&
		       key->geom == 0 && key->crc == 0;
	default:
		return false;
	}
}

void pc_key_first(const void *buf, const struct pc_kset *kset, const struct pc_kset_rules *rules,
		  struct pc_key_cursor *out_cursor)
{
	out_cursor->next_cell = (const uint8_t *)buf + PC_CELL_BYTES;
	out_cursor->left_nr = kset->type == PC_KSET_KEYS ? kset->key_nr : 0;
	out_cursor->rules = rules;
}

bool pc_key_next(struct pc_key_cursor *cursor, struct pc_key *out_key, const struct pcm_le32 **out_crcs)
{
	/* Cells are 32 bytes from an 8-byte aligned start. */
	const struct pcm_key *cell = (const void *)cursor->next_cell;
	uint32_t cell_nr;

	if (cursor->left_nr == 0)
		return false;
	pc_key_decode(cell, out_key);
	cell_nr = pc_key_cell_nr(out_key, cursor->rules);
	if (cell_nr > 1)
		*out_crcs = (const void *)(cursor->next_cell + PC_CELL_BYTES);
	else if (cursor->rules->data_crc && (out_key->flags & PC_KEY_TYPE_MASK) == PC_KEY_DATA)
		*out_crcs = &cell->crc;
	else
		*out_crcs = NULL;
	cursor->next_cell += (size_t)cell_nr * PC_CELL_BYTES;
	cursor->left_nr--;
	return true;
}

void pc_key_to_text(FILE *to, const struct pc_key *key, const struct pcm_le32 *crcs, uint32_t chunk_nr)
{
	static const char *const type_names[] = { "data", "zero", "poison" };
	static const char *const flag_names[] = { NULL, NULL, "clean", "relogged", "discard" };

	fputs("key", to);
	pc_text_enum(to, "type", key->flags & PC_KEY_TYPE_MASK, type_names, PC_ARRAY_NR(type_names));
	pc_text_flags(to, "flags", key->flags & ~PC_KEY_TYPE_MASK, flag_names, PC_ARRAY_NR(flag_names));
	fprintf(to, " volume=%" PRIu64 " blk=%" PRIu64 " len_blk=%" PRIu32, key->vol_blk >> PC_KEY_BLK_BITS,
		key->vol_blk & PC_KEY_BLK_MASK, key->len_blk);
	fprintf(to, " seg_id=%" PRIu32 " seg_blk=%u gen=%" PRIu64, key->seg_id, (unsigned int)key->seg_blk, key->gen);
	fprintf(to, " head_blk=%" PRIu32 " tail_blk=%" PRIu32 " crcs=", PC_GEOM_HEAD(key->geom),
		PC_GEOM_TAIL(key->geom));
	if (!crcs || chunk_nr == 0)
		fputc('-', to);
	for (uint32_t i = 0; crcs && i < chunk_nr; i++)
		fprintf(to, i == 0 ? "%08" PRIx32 : ",%08" PRIx32, pc_get32(crcs[i]));
	fputc('\n', to);
}
