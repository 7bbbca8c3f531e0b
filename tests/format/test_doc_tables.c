/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The byte tables of every struct on media, as the compiler lays them out.
 *
 * Without arguments: a test that the tables below name every byte of each struct, in order, with no gap. With --print: the tables, and the
 * constants of the format, one line each, for tests/system/test_format_doc.sh, which compares them with docs/FORMAT.md:
 *
 *   struct <name> <bytes>
 *   member <struct> <offset> <bytes> <name>
 *   const <name> <value>
 */
#include "format/format.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct member {
	const char *name;
	size_t off;
	size_t bytes;
};

struct table {
	const char *name;
	size_t bytes;
	struct member members[24];
};

#define MEMBER(type, member) \
	{ \
#member, offsetof(struct type, member), sizeof(((struct type *)NULL)->member) \
	}

static const struct table tables[] = {
	{ "pcm_super",
	  sizeof(struct pcm_super),
	  {
		  MEMBER(pcm_super, magic),         MEMBER(pcm_super, version),     MEMBER(pcm_super, flags),
		  MEMBER(pcm_super, seq),           MEMBER(pcm_super, compat),      MEMBER(pcm_super, ro_compat),
		  MEMBER(pcm_super, incompat),      MEMBER(pcm_super, cache_uuid),  MEMBER(pcm_super, backing_uuid),
		  MEMBER(pcm_super, backing_bytes), MEMBER(pcm_super, media_bytes), MEMBER(pcm_super, data_off),
		  MEMBER(pcm_super, zone_b_off),    MEMBER(pcm_super, zone_bytes),  MEMBER(pcm_super, segment_bytes),
		  MEMBER(pcm_super, segment_nr),    MEMBER(pcm_super, block_bytes), MEMBER(pcm_super, reserved),
		  MEMBER(pcm_super, crc),
	  } },
	{ "pcm_segrec",
	  sizeof(struct pcm_segrec),
	  {
		  MEMBER(pcm_segrec, magic),
		  MEMBER(pcm_segrec, seg_id),
		  MEMBER(pcm_segrec, seq),
		  MEMBER(pcm_segrec, gen),
		  MEMBER(pcm_segrec, ordinal),
		  MEMBER(pcm_segrec, nonce),
		  MEMBER(pcm_segrec, type),
		  MEMBER(pcm_segrec, reserved),
		  MEMBER(pcm_segrec, crc),
	  } },
	{ "pcm_tail",
	  sizeof(struct pcm_tail),
	  {
		  MEMBER(pcm_tail, magic),
		  MEMBER(pcm_tail, flags),
		  MEMBER(pcm_tail, seq),
		  MEMBER(pcm_tail, log_tail_pos),
		  MEMBER(pcm_tail, dirty_tail_pos),
		  MEMBER(pcm_tail, mark_pos),
		  MEMBER(pcm_tail, gc_percent),
		  MEMBER(pcm_tail, reserved),
		  MEMBER(pcm_tail, crc),
	  } },
	{ "pcm_kset",
	  sizeof(struct pcm_kset),
	  {
		  MEMBER(pcm_kset, pos),
		  MEMBER(pcm_kset, nonce),
		  MEMBER(pcm_kset, crc),
		  MEMBER(pcm_kset, slot_nr),
		  MEMBER(pcm_kset, key_nr),
		  MEMBER(pcm_kset, type),
		  MEMBER(pcm_kset, flags),
	  } },
	{ "pcm_mark",
	  sizeof(struct pcm_mark),
	  {
		  MEMBER(pcm_mark, low_pos),
		  MEMBER(pcm_mark, reserved),
	  } },
	{ "pcm_key",
	  sizeof(struct pcm_key),
	  {
		  MEMBER(pcm_key, vol_blk),
		  MEMBER(pcm_key, gen),
		  MEMBER(pcm_key, crc),
		  MEMBER(pcm_key, seg_id),
		  MEMBER(pcm_key, len_blk),
		  MEMBER(pcm_key, seg_blk),
		  MEMBER(pcm_key, geom),
		  MEMBER(pcm_key, flags),
	  } },
};

#define CONST(name) \
	{ \
#name, (uint64_t)(name) \
	}

static const struct {
	const char *name;
	uint64_t value;
} constants[] = {
	CONST(PC_FORMAT_VERSION),
	CONST(PC_SLOT_BYTES),
	CONST(PC_CELL_BYTES),
	CONST(PC_CRCS_PER_CELL),
	CONST(PC_CHUNK_BYTES),
	CONST(PC_SUPER_FLAG_DATA_CRC),
	CONST(PC_FEATURES_COMPAT_KNOWN),
	CONST(PC_FEATURES_RO_COMPAT_KNOWN),
	CONST(PC_FEATURES_INCOMPAT_KNOWN),
	CONST(PC_SEGMENT_BYTES_MIN),
	CONST(PC_SEGMENT_BYTES_MAX),
	CONST(PC_SEGMENT_NR_MIN),
	CONST(PC_SEGMENT_NR_MAX),
	CONST(PC_SEGREC_MAGIC),
	CONST(PC_SEG_FREE),
	CONST(PC_SEG_DATA),
	CONST(PC_SEG_LOG),
	CONST(PC_ORDINAL_MAX),
	CONST(PC_TAIL_MAGIC),
	CONST(PC_TAIL_FLAG_CLEAN_CLOSE),
	CONST(PC_TAIL_FLAG_ORDERING_BATCH),
	CONST(PC_GC_PERCENT_MAX),
	CONST(PC_KSET_KEYS),
	CONST(PC_KSET_VOID),
	CONST(PC_KSET_MARK),
	CONST(PC_KSET_FLAG_FLUSH),
	CONST(PC_KSET_SLOTS_MAX),
	CONST(PC_KEY_BLK_BITS),
	CONST(PC_KEY_BARE_BLK_MAX),
	CONST(PC_KEY_TYPE_MASK),
	CONST(PC_KEY_DATA),
	CONST(PC_KEY_ZERO),
	CONST(PC_KEY_POISON),
	CONST(PC_KEY_CLEAN),
	CONST(PC_KEY_RELOGGED),
	CONST(PC_KEY_DISCARD),
	CONST(PC_KEY_FLAGS_KNOWN),
};

static void print_all(void)
{
	for (size_t t = 0; t < PC_ARRAY_NR(tables); t++) {
		printf("struct %s %zu\n", tables[t].name, tables[t].bytes);
		for (const struct member *m = tables[t].members; m->name; m++)
			printf("member %s %zu %zu %s\n", tables[t].name, m->off, m->bytes, m->name);
	}
	for (size_t i = 0; i < PC_ARRAY_NR(constants); i++)
		printf("const %s %" PRIu64 "\n", constants[i].name, constants[i].value);
}

static void tables_name_every_byte(void **state)
{
	(void)state;
	for (size_t t = 0; t < PC_ARRAY_NR(tables); t++) {
		size_t end_off = 0;

		for (const struct member *m = tables[t].members; m->name; m++) {
			assert_int_equal(m->off, end_off);
			end_off += m->bytes;
		}
		assert_int_equal(end_off, tables[t].bytes);
	}
}

static void magic_numbers_spell_their_names(void **state)
{
	const struct pcm_le32 segrec = pc_le32(PC_SEGREC_MAGIC);
	const struct pcm_le32 tail = pc_le32(PC_TAIL_MAGIC);

	(void)state;
	assert_memory_equal(&segrec, "PCSG", 4);
	assert_memory_equal(&tail, "PCTL", 4);
	assert_int_equal(sizeof(PC_SUPER_MAGIC) - 1, 8);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_name_every_byte),
		cmocka_unit_test(magic_numbers_spell_their_names),
	};

	if (argc > 1 && strcmp(argv[1], "--print") == 0) {
		print_all();
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
