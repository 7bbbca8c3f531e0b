/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The decoders of format/ and the rules of `pcache check` were written apart from the same text. They must agree on every record: what one takes, the other finds nothing
 * against. Records of forged images, with some fields changed and sealed again, are given to both.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tool/check_internal.h"
#include "tool/forge.h"

#define TRIES 200000u

static uint64_t seed = 5;
static uint32_t taken_nr, refused_nr, rule_nr[CHECK_RULE_NR];

static uint64_t draw(void)
{
	uint64_t x = seed += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* Small changes mostly, so that other rules still hold. */
static void change(uint8_t *bytes, size_t len)
{
	static const uint8_t sizes[] = { 1, 2, 4, 8 };

	for (uint64_t nr = draw() % 3; nr > 0; nr--) {
		const size_t size = sizes[draw() % 4], at = draw() % (len / size) * size;
		uint64_t value = 0;

		memcpy(&value, bytes + at, size);
		switch (draw() % 5) {
		case 0:
			value += draw() % 9 - 4;
			break;
		case 1:
			value = UINT64_C(1) << draw() % 64;
			break;
		case 2:
			value = (UINT64_C(1) << draw() % 64) - 1;
			break;
		case 3:
			value = draw() % 70;
			break;
		default:
			value = value * 2;
			break;
		}
		memcpy(bytes + at, &value, size);
	}
}

static void agree(enum check_rule rule, enum pc_valid valid, const char *what, uint64_t first_seed)
{
	if ((rule == CHECK_OK) != (valid == PC_VALID))
		fail_msg("%s of seed %llu: the decoder says %d, check says %s", what, (unsigned long long)first_seed,
			 (int)valid, check_rule_number(rule));
	rule_nr[rule]++;
	if (rule)
		refused_nr++;
	else
		taken_nr++;
}

static void records(void **state)
{
	struct forge forge;

	(void)state;
	forge_sound(&forge, &forge_usual);
	for (uint32_t i = 0; i < TRIES; i++) {
		const uint64_t first_seed = seed;
		const uint32_t id = (uint32_t)(draw() % forge.super.segment_nr);
		struct pcm_super super = *forge_super_at(&forge, 0);
		struct pcm_tail tail = *forge_tail_at(&forge, 0);
		struct pcm_segrec segrec = *forge_segrec_at(&forge, 0, id);
		struct pc_super out_super;
		struct pc_tail out_tail;
		struct pc_segrec out_segrec;

		change((uint8_t *)&super, sizeof(super));
		change((uint8_t *)&tail, sizeof(tail));
		change((uint8_t *)&segrec, sizeof(segrec));
		if (draw() % 16) {
			forge_seal(&super, sizeof(super));
			forge_seal(&tail, sizeof(tail));
			forge_seal(&segrec, sizeof(segrec));
		}
		agree(check_explain_super(&super), pc_super_decode(&super, &out_super), "superblock", first_seed);
		agree(check_explain_tail(&tail), pc_tail_decode(&tail, &out_tail), "tail record", first_seed);
		agree(check_explain_segrec(&segrec, id), pc_segrec_decode(&segrec, id, &out_segrec), "segment record",
		      first_seed);
	}
	forge_free(&forge);
}

static void compare_ksets(const struct pc_kset *a, const struct pc_kset *b)
{
	assert_true(a->pos == b->pos && a->nonce == b->nonce && a->slot_nr == b->slot_nr && a->key_nr == b->key_nr);
	assert_true(a->type == b->type && a->flags == b->flags && a->mark_low_pos == b->mark_low_pos);
}

static void ksets_of(const struct forge_shape *shape)
{
	struct forge forge;
	uint8_t *log;
	size_t log_bytes;

	forge_sound(&forge, shape);
	log = forge.bytes + forge_pos_off(&forge, forge.first_pos);
	log_bytes = (size_t)(forge.pos - forge.first_pos) * PC_SLOT_BYTES;
	for (uint32_t i = 0; i < TRIES; i++) {
		const uint64_t first_seed = seed, slot = draw() % (forge.pos - forge.first_pos);
		const uint32_t avail = (uint32_t)(1 + draw() % (forge.pos - forge.first_pos - slot));
		_Alignas(64) static uint8_t copy[64 * PC_SLOT_BYTES];
		struct pc_kset by_check, by_decoder;
		enum check_rule rule;
		enum pc_valid valid;
		uint8_t *at = copy + slot * PC_SLOT_BYTES;
		struct pcm_kset *kset = (void *)at;

		assert_true(log_bytes <= sizeof(copy));
		memcpy(copy, log, log_bytes);
		change(at, PC_SLOT_BYTES * PC_MIN(2u, avail));
		if (draw() % 8) {
			kset->pos = pc_le64(forge.first_pos + slot);
			kset->nonce = pc_le64(FORGE_NONCE);
		}
		if (draw() % 8 && (pc_get16(kset->type) == PC_KSET_VOID ||
				   (pc_get32(kset->slot_nr) && pc_get32(kset->slot_nr) <= avail)))
			forge_seal_kset(kset);
		rule = check_explain_kset(at, avail, forge.first_pos + slot, FORGE_NONCE, &forge.rules, &by_check);
		valid = pc_kset_decode(at, avail, forge.first_pos + slot, FORGE_NONCE, &forge.rules, &by_decoder);
		agree(rule, valid, "kset", first_seed);
		if (valid == PC_VALID)
			compare_ksets(&by_check, &by_decoder);
	}
	forge_free(&forge);
}

static void ksets(void **state)
{
	static const struct forge_shape no_crc = {
		.media_bytes = 256u << 10, .segment_bytes = 16u << 10, .block_bytes = 512, .no_crc = true
	};
	static const struct forge_shape large = { .media_bytes = 4u << 20,
						  .segment_bytes = 128u << 10,
						  .block_bytes = 4096 };

	(void)state;
	ksets_of(&forge_usual);
	ksets_of(&no_crc);
	ksets_of(&large);
}

/* The changes reached both sides of the rules of one record alone, but K6, which needs a segment of MiB. */
static void every_rule_was_broken(void **state)
{
	(void)state;
	print_message("%u taken, %u refused\n", taken_nr, refused_nr);
	assert_true(taken_nr > TRIES / 10);
	for (enum check_rule rule = CHECK_S1; rule <= CHECK_Y15; rule++) {
		const char *number = check_rule_number(rule);
		const bool of_one_record = rule <= CHECK_S14 || (rule >= CHECK_T1 && rule <= CHECK_T6) ||
					   (rule >= CHECK_R1 && rule <= CHECK_R7) ||
					   (rule >= CHECK_K1 && rule <= CHECK_K13) || rule >= CHECK_Y1;

		if (of_one_record && rule != CHECK_K6 && rule_nr[rule] == 0)
			fail_msg("rule %s was never broken", number);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records),
		cmocka_unit_test(ksets),
		cmocka_unit_test(every_rule_was_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
