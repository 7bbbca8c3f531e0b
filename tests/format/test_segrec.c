/* SPDX-License-Identifier: BSD-3-Clause */
/* Segment records: round trip, every flipped bit, the wrong segment, values out of their limits, and the line of text. */
#include "base/crc.h"
#include "format/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct pc_segrec log_rec = {
	.seg_id = 0x01020304,
	.type = PC_SEG_LOG,
	.seq = UINT64_C(0xfedcba9876543210),
	.gen = UINT64_MAX,
	.ordinal = 77,
	.nonce = UINT64_C(0x0123456789abcdef),
};

static void seal(struct pcm_segrec *media)
{
	media->crc = pc_le32(0);
	media->crc = pc_le32(pc_crc32c(0, media, sizeof(*media)));
}

static enum pc_valid decode_of(struct pc_segrec rec)
{
	struct pcm_segrec media;
	struct pc_segrec out;

	pc_segrec_encode(&rec, &media);
	return pc_segrec_decode(&media, rec.seg_id, &out);
}

static void round_trip(void **state)
{
	const struct pc_segrec recs[] = {
		log_rec,
		{ .seg_id = 0, .type = PC_SEG_FREE },
		{ .seg_id = 9, .type = PC_SEG_DATA, .seq = 3, .gen = 4 },
	};
	struct pcm_segrec media;
	struct pcm_segrec again;
	struct pc_segrec out;

	(void)state;
	for (size_t i = 0; i < PC_ARRAY_NR(recs); i++) {
		memset(&media, 0xff, sizeof(media));
		pc_segrec_encode(&recs[i], &media);
		assert_int_equal(pc_segrec_decode(&media, recs[i].seg_id, &out), PC_VALID);
		assert_int_equal(out.seg_id, recs[i].seg_id);
		assert_int_equal(out.type, recs[i].type);
		assert_true(out.seq == recs[i].seq && out.gen == recs[i].gen);
		assert_true(out.ordinal == recs[i].ordinal && out.nonce == recs[i].nonce);
		again = media;
		seal(&again);
		assert_memory_equal(&again, &media, sizeof(media));
	}
}

static void every_flipped_bit_is_noticed(void **state)
{
	struct pcm_segrec media;
	struct pc_segrec out;

	(void)state;
	for (size_t bit = 0; bit < sizeof(media) * 8; bit++) {
		pc_segrec_encode(&log_rec, &media);
		((uint8_t *)&media)[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(pc_segrec_decode(&media, log_rec.seg_id, &out),
				 bit < 32 ? PC_INVALID_MAGIC : PC_INVALID_CRC);
	}
	memset(&media, 0, sizeof(media));
	assert_int_equal(pc_segrec_decode(&media, 0, &out), PC_INVALID_MAGIC);
}

static void a_record_of_another_segment(void **state)
{
	struct pcm_segrec media;
	struct pc_segrec out;
	struct pc_segrec before;

	(void)state;
	memset(&out, 0x5a, sizeof(out));
	before = out;
	pc_segrec_encode(&log_rec, &media);
	assert_int_equal(pc_segrec_decode(&media, log_rec.seg_id + 1, &out), PC_INVALID_VALUE);
	assert_memory_equal(&out, &before, sizeof(out));
}

#define EXPECT_WITH(valid, base, member, value) \
	do { \
		struct pc_segrec changed = (base); \
		changed.member = (value); \
		assert_int_equal(decode_of(changed), (valid)); \
	} while (0)

static void values_out_of_their_limits(void **state)
{
	const struct pc_segrec data_rec = { .seg_id = 9, .type = PC_SEG_DATA, .seq = 3, .gen = 4 };
	const struct pc_segrec free_rec = { .seg_id = 9, .type = PC_SEG_FREE, .seq = 3, .gen = 4 };
	struct pcm_segrec media;
	struct pc_segrec out;

	(void)state;
	EXPECT_WITH(PC_INVALID_VALUE, log_rec, type, 3);
	EXPECT_WITH(PC_INVALID_VALUE, data_rec, type, UINT32_MAX);
	EXPECT_WITH(PC_INVALID_VALUE, log_rec, ordinal, 0);
	EXPECT_WITH(PC_VALID, log_rec, ordinal, 1);
	EXPECT_WITH(PC_VALID, log_rec, ordinal, PC_ORDINAL_MAX);
	EXPECT_WITH(PC_INVALID_VALUE, log_rec, ordinal, PC_ORDINAL_MAX + 1);
	EXPECT_WITH(PC_VALID, log_rec, nonce, 0);
	EXPECT_WITH(PC_INVALID_VALUE, data_rec, ordinal, 1);
	EXPECT_WITH(PC_INVALID_VALUE, data_rec, nonce, 1);
	EXPECT_WITH(PC_INVALID_VALUE, free_rec, ordinal, 1);
	EXPECT_WITH(PC_INVALID_VALUE, free_rec, nonce, 1);
	for (size_t i = 0; i < sizeof(media.reserved); i++) {
		pc_segrec_encode(&log_rec, &media);
		media.reserved[i] = 0x80;
		seal(&media);
		assert_int_equal(pc_segrec_decode(&media, log_rec.seg_id, &out), PC_INVALID_VALUE);
	}
}

static void one_line_of_text(void **state)
{
	char *text = NULL;
	size_t len;
	FILE *to;

	(void)state;
	to = open_memstream(&text, &len);
	assert_non_null(to);
	pc_segrec_to_text(to, &log_rec);
	pc_segrec_to_text(to, &(struct pc_segrec){ .type = 8 });
	assert_int_equal(fclose(to), 0);
	assert_string_equal(
		text, "segrec seg_id=16909060 seq=18364758544493064720 type=log gen=18446744073709551615 ordinal=77"
		      " nonce=0123456789abcdef\n"
		      "segrec seg_id=0 seq=0 type=8 gen=0 ordinal=0 nonce=0000000000000000\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(every_flipped_bit_is_noticed),
		cmocka_unit_test(a_record_of_another_segment),
		cmocka_unit_test(values_out_of_their_limits),
		cmocka_unit_test(one_line_of_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
