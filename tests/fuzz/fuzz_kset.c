/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: one kset, as replay finds it. The decoder and the rules of `pcache check`, which were written apart, agree; what is taken can be walked, printed and encoded to
 * the same bytes; nothing behind the slots that are there is read.
 *
 * Input: 16 bytes of settings (see read_settings), then the slots.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "tool/check_internal.h"
#include "tool/forge.h"

#define SLOT_NR_MAX 64u
#define SETTINGS_BYTES 16u

struct settings {
	struct pc_kset_rules rules;
	uint64_t pos;
	uint64_t nonce;
	bool identity; /* position and nonce are put in */
	bool seal;
};

static struct settings read_settings(struct fuzz_input *in)
{
	const uint8_t bits = fuzz_u8(in);
	struct settings s = { .identity = bits & 1, .seal = bits & 2 };

	s.rules.data_crc = bits & 4;
	s.rules.block_bytes = bits & 8 ? 4096 : 512;
	s.rules.segment_bytes = 4096u << fuzz_u8(in) % 13;
	s.rules.segment_nr = 8 + fuzz_u8(in);
	s.rules.backing_blk = UINT64_C(1) << fuzz_u8(in) % 49;
	s.rules.backing_blk -= fuzz_u32(in) % s.rules.backing_blk;
	s.pos = (UINT64_C(1) << fuzz_u8(in) % 63) + fuzz_u8(in);
	s.nonce = ~(uint64_t)fuzz_u32(in);
	(void)fuzz_u8(in);
	(void)fuzz_u8(in);
	return s;
}

static FILE *nowhere(void)
{
	static FILE *file;

	if (!file)
		file = fopen("/dev/null", "w");
	if (!file)
		abort();
	return file;
}

/* Every key is one by the rules; written again it is the same cell. Returns the cells that keys and chunks take. */
static uint64_t walk(const uint8_t *slots, const struct pc_kset *kset, const struct pc_kset_rules *rules)
{
	struct pc_key_cursor cursor;
	const struct pcm_le32 *crcs;
	uint64_t cell_nr = 0;
	struct pc_key key;
	uint32_t key_nr = 0;

	pc_key_first(slots, kset, rules, &cursor);
	while (pc_key_next(&cursor, &key, &crcs)) {
		const uint8_t *cell = slots + (1 + cell_nr) * PC_CELL_BYTES;
		const uint32_t chunk_nr = crcs ? pc_key_chunk_nr(&key, rules->block_bytes) : 0;
		struct pcm_key again;

		pc_key_encode(&key, &again);
		if (memcmp(&again, cell, sizeof(again)) != 0)
			fuzz_fail("key %u is another when it is encoded again", key_nr);
		if (!pc_key_check(&key, rules))
			fuzz_fail("key %u of a kset that was taken is none", key_nr);
		if (crcs && (const uint8_t *)(crcs + chunk_nr) > slots + (size_t)kset->slot_nr * PC_SLOT_BYTES)
			fuzz_fail("chunk CRCs of key %u end behind the kset", key_nr);
		pc_key_to_text(nowhere(), &key, crcs, chunk_nr);
		cell_nr += pc_key_cell_nr(&key, rules);
		key_nr++;
	}
	if (key_nr != kset->key_nr)
		fuzz_fail("%u keys instead of %u", key_nr, kset->key_nr);
	return cell_nr;
}

static void encode_again(const uint8_t *slots, const struct pc_kset *kset, const struct settings *s)
{
	_Alignas(64) static uint8_t again[SLOT_NR_MAX * PC_SLOT_BYTES];
	size_t len = PC_SLOT_BYTES;

	if (kset->type == PC_KSET_VOID) {
		pc_kset_encode_void(again, s->pos, s->nonce, kset->slot_nr);
	} else if (kset->type == PC_KSET_MARK) {
		pc_kset_encode_mark(again, s->pos, s->nonce, kset->flags, kset->mark_low_pos);
	} else {
		len = (size_t)kset->slot_nr * PC_SLOT_BYTES;
		memcpy(again, slots, len);
		pc_kset_seal(again, s->pos, s->nonce, kset->slot_nr, kset->key_nr);
	}
	if (memcmp(again, slots, len) != 0)
		fuzz_fail("a kset of type %u is another when it is encoded again", kset->type);
}

static void look(const uint8_t *slots, uint32_t avail, const struct settings *s)
{
	struct pc_kset kset, by_check;
	const enum pc_valid valid = pc_kset_decode(slots, avail, s->pos, s->nonce, &s->rules, &kset);
	enum check_rule rule;

	if (avail == 0 || valid == PC_INVALID_IDENTITY) {
		if (valid == PC_VALID)
			fuzz_fail("a kset without slots");
		return; /* check compares position and nonce before it asks */
	}
	rule = check_explain_kset(slots, avail, s->pos, s->nonce, &s->rules, &by_check);
	if ((rule == CHECK_OK) != (valid == PC_VALID))
		fuzz_fail("the decoder says %d, check says %s", (int)valid, check_rule_number(rule));
	if (valid != PC_VALID)
		return;
	if (kset.slot_nr != by_check.slot_nr || kset.key_nr != by_check.key_nr || kset.type != by_check.type ||
	    kset.flags != by_check.flags || kset.mark_low_pos != by_check.mark_low_pos)
		fuzz_fail("decoder and check read different ksets");
	pc_kset_to_text(nowhere(), &kset);
	if (kset.slot_nr == 0 || kset.slot_nr > avail)
		fuzz_fail("%u slots of %u", kset.slot_nr, avail);
	if (kset.type == PC_KSET_KEYS &&
	    pc_cells_to_slots((uint32_t)(1 + walk(slots, &kset, &s->rules))) != kset.slot_nr)
		fuzz_fail("keys do not fill the slots");
	encode_again(slots, &kset, s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_input in = { .at = data, .left = PC_MIN(len, (size_t)SETTINGS_BYTES) };
	const struct settings s = read_settings(&in);
	const uint32_t avail = len > SETTINGS_BYTES
				       ? (uint32_t)PC_MIN((len - SETTINGS_BYTES + PC_SLOT_BYTES - 1) / PC_SLOT_BYTES,
							  (size_t)SLOT_NR_MAX)
				       : 0;
	/* As long as the slots that are there, so that AddressSanitizer sees a read behind them. */
	uint8_t *slots = aligned_alloc(PC_SLOT_BYTES, (size_t)PC_MAX(avail, 1u) * PC_SLOT_BYTES);
	struct pcm_kset *header = (void *)slots;

	if (!slots)
		abort();
	memset(slots, 0, (size_t)PC_MAX(avail, 1u) * PC_SLOT_BYTES);
	if (avail != 0)
		memcpy(slots, data + SETTINGS_BYTES, PC_MIN(len - SETTINGS_BYTES, (size_t)avail * PC_SLOT_BYTES));
	if (s.identity) {
		header->pos = pc_le64(s.pos);
		header->nonce = pc_le64(s.nonce);
	}
	if (s.seal && avail != 0 &&
	    (pc_get16(header->type) == PC_KSET_VOID ||
	     (pc_get32(header->slot_nr) != 0 && pc_get32(header->slot_nr) <= avail)))
		forge_seal_kset(header);
	look(slots, avail, &s);
	free(slots);
	return 0;
}
