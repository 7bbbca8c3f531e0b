/* SPDX-License-Identifier: BSD-3-Clause */
/* Superblock: round trip, every flipped bit, the order of checks, values out of their limits, and the line of text. */
#include "base/crc.h"
#include "format/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct pc_super sample(void)
{
	struct pc_super super;

	memset(&super, 0, sizeof(super));
	assert_int_equal(pc_geo_plan(UINT64_C(64) << 20, 0, 512, &super), 0);
	super.version = PC_FORMAT_VERSION;
	super.flags = PC_SUPER_FLAG_DATA_CRC;
	super.seq = UINT64_C(0x1122334455667788);
	super.compat = UINT64_C(1) << 63;
	super.ro_compat = 5;
	for (unsigned int i = 0; i < 16; i++) {
		super.cache_uuid[i] = (uint8_t)(i * 17);
		super.backing_uuid[i] = (uint8_t)(0xa0 + i);
	}
	super.backing_bytes = UINT64_C(10) << 30;
	return super;
}

static void seal(struct pcm_super *media)
{
	media->crc = pc_le32(0);
	media->crc = pc_le32(pc_crc32c(0, media, sizeof(*media)));
}

static enum pc_valid decode(const struct pcm_super *media)
{
	struct pc_super out;
	struct pc_super before;
	enum pc_valid valid;

	memset(&out, 0x5a, sizeof(out));
	before = out;
	valid = pc_super_decode(media, &out);
	if (valid != PC_VALID)
		assert_memory_equal(&out, &before, sizeof(out)); /* untouched on failure */
	return valid;
}

static void round_trip(void **state)
{
	struct pc_super super = sample();
	struct pcm_super media;
	struct pcm_super again;
	struct pc_super out;

	(void)state;
	memset(&media, 0xff, sizeof(media));
	pc_super_encode(&super, &media);
	assert_int_equal(pc_super_decode(&media, &out), PC_VALID);
	assert_int_equal(out.version, super.version);
	assert_int_equal(out.flags, super.flags);
	assert_true(out.seq == super.seq && out.compat == super.compat && out.ro_compat == super.ro_compat);
	assert_true(out.incompat == 0);
	assert_memory_equal(out.cache_uuid, super.cache_uuid, 16);
	assert_memory_equal(out.backing_uuid, super.backing_uuid, 16);
	assert_true(out.backing_bytes == super.backing_bytes && out.media_bytes == super.media_bytes);
	assert_true(out.data_off == super.data_off && out.zone_b_off == super.zone_b_off);
	assert_true(out.zone_bytes == super.zone_bytes);
	assert_int_equal(out.segment_bytes, super.segment_bytes);
	assert_int_equal(out.segment_nr, super.segment_nr);
	assert_int_equal(out.block_bytes, super.block_bytes);
	pc_super_encode(&out, &again);
	assert_memory_equal(&again, &media, sizeof(media));
	seal(&again); /* the rule for the CRC, told once more */
	assert_memory_equal(&again, &media, sizeof(media));
}

static void every_flipped_bit_is_noticed(void **state)
{
	struct pc_super super = sample();
	struct pcm_super media;

	(void)state;
	for (size_t bit = 0; bit < sizeof(media) * 8; bit++) {
		pc_super_encode(&super, &media);
		((uint8_t *)&media)[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(decode(&media), bit < 64 ? PC_INVALID_MAGIC : PC_INVALID_CRC);
	}
	memset(&media, 0, sizeof(media));
	assert_int_equal(decode(&media), PC_INVALID_MAGIC);
}

static void unknown_versions_and_features(void **state)
{
	struct pc_super super = sample();
	struct pcm_super media;

	(void)state;
	super.version = 2;
	pc_super_encode(&super, &media);
	assert_int_equal(decode(&media), PC_INVALID_VERSION);
	media.segment_bytes = pc_le32(77); /* the version is named before values that only it could explain */
	seal(&media);
	assert_int_equal(decode(&media), PC_INVALID_VERSION);
	media.reserved[3] ^= 1; /* damage is named before the version */
	assert_int_equal(decode(&media), PC_INVALID_CRC);
	super.version = 0;
	pc_super_encode(&super, &media);
	assert_int_equal(decode(&media), PC_INVALID_VERSION);
	super = sample();
	for (unsigned int bit = 0; bit < 64; bit++) {
		super.incompat = UINT64_C(1) << bit;
		pc_super_encode(&super, &media);
		assert_int_equal(decode(&media), PC_INVALID_VERSION);
	}
}

static enum pc_valid decode_of(const struct pc_super *super)
{
	struct pcm_super media;

	pc_super_encode(super, &media);
	return decode(&media);
}

#define EXPECT_WITH(valid, member, value) \
	do { \
		struct pc_super changed = sample(); \
		changed.member = (value); \
		assert_int_equal(decode_of(&changed), (valid)); \
	} while (0)

static void values_out_of_their_limits(void **state)
{
	struct pc_super super = sample();
	struct pcm_super media;

	(void)state;
	EXPECT_WITH(PC_VALID, flags, 0);
	EXPECT_WITH(PC_INVALID_VALUE, flags, 2);
	EXPECT_WITH(PC_INVALID_VALUE, flags, 0x80000001u);
	EXPECT_WITH(PC_INVALID_VALUE, backing_bytes, 0);
	EXPECT_WITH(PC_INVALID_VALUE, backing_bytes, 1000);
	EXPECT_WITH(PC_VALID, backing_bytes, 512);
	EXPECT_WITH(PC_VALID, backing_bytes, UINT64_C(1) << 57);
	EXPECT_WITH(PC_INVALID_VALUE, backing_bytes, (UINT64_C(1) << 57) + 512);
	EXPECT_WITH(PC_INVALID_VALUE, block_bytes, 0);
	EXPECT_WITH(PC_INVALID_VALUE, segment_bytes, 0);
	EXPECT_WITH(PC_INVALID_VALUE, segment_nr, UINT32_MAX);
	EXPECT_WITH(PC_INVALID_VALUE, data_off, UINT64_MAX);
	EXPECT_WITH(PC_INVALID_VALUE, media_bytes, UINT64_MAX);
	for (size_t i = 0; i < sizeof(media.reserved); i++) {
		pc_super_encode(&super, &media);
		media.reserved[i] = 1;
		seal(&media);
		assert_int_equal(decode(&media), PC_INVALID_VALUE);
	}
}

static void one_line_of_text(void **state)
{
	struct pc_super super = sample();
	char *text = NULL;
	size_t len;
	FILE *to;

	(void)state;
	to = open_memstream(&text, &len);
	assert_non_null(to);
	pc_super_to_text(to, &super);
	assert_int_equal(fclose(to), 0);
	assert_string_equal(
		text,
		"super seq=1234605616436508552 version=1 flags=data_crc compat=0x8000000000000000 ro_compat=0x5"
		" incompat=- cache_uuid=00112233-4455-6677-8899-aabbccddeeff"
		" backing_uuid=a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf backing_bytes=10737418240 media_bytes=67108864"
		" data_off=524288 zone_b_off=67092480 zone_bytes=16384 segment_bytes=524288 segment_nr=126"
		" block_bytes=512\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(every_flipped_bit_is_noticed),
		cmocka_unit_test(unknown_versions_and_features),
		cmocka_unit_test(values_out_of_their_limits),
		cmocka_unit_test(one_line_of_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
