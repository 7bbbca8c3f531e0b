/* SPDX-License-Identifier: BSD-3-Clause */
/* Tail record: round trip, every flipped bit, values out of their limits, and the line of text. */
#include "base/crc.h"
#include "format/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct pc_tail sample = {
	.flags = PC_TAIL_FLAG_CLEAN_CLOSE | PC_TAIL_FLAG_ORDERING_BATCH,
	.gc_percent = 70,
	.seq = UINT64_C(0xfedcba9876543210),
	.log_tail_pos = 64,
	.dirty_tail_pos = 70,
	.mark_pos = UINT64_MAX,
};

static void seal(struct pcm_tail *media)
{
	media->crc = pc_le32(0);
	media->crc = pc_le32(pc_crc32c(0, media, sizeof(*media)));
}

static enum pc_valid decode_of(struct pc_tail tail)
{
	struct pcm_tail media;
	struct pc_tail out;

	pc_tail_encode(&tail, &media);
	return pc_tail_decode(&media, &out);
}

static void round_trip(void **state)
{
	struct pcm_tail media;
	struct pcm_tail again;
	struct pc_tail out;

	(void)state;
	memset(&media, 0xff, sizeof(media));
	pc_tail_encode(&sample, &media);
	assert_int_equal(pc_tail_decode(&media, &out), PC_VALID);
	assert_int_equal(out.flags, sample.flags);
	assert_int_equal(out.gc_percent, sample.gc_percent);
	assert_true(out.seq == sample.seq && out.log_tail_pos == sample.log_tail_pos);
	assert_true(out.dirty_tail_pos == sample.dirty_tail_pos && out.mark_pos == sample.mark_pos);
	again = media;
	seal(&again);
	assert_memory_equal(&again, &media, sizeof(media));
}

static void every_flipped_bit_is_noticed(void **state)
{
	struct pcm_tail media;
	struct pc_tail out;
	struct pc_tail before;

	(void)state;
	memset(&out, 0x5a, sizeof(out));
	before = out;
	for (size_t bit = 0; bit < sizeof(media) * 8; bit++) {
		pc_tail_encode(&sample, &media);
		((uint8_t *)&media)[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(pc_tail_decode(&media, &out), bit < 32 ? PC_INVALID_MAGIC : PC_INVALID_CRC);
		assert_memory_equal(&out, &before, sizeof(out));
	}
	memset(&media, 0, sizeof(media));
	assert_int_equal(pc_tail_decode(&media, &out), PC_INVALID_MAGIC);
}

#define EXPECT_WITH(valid, member, value) \
	do { \
		struct pc_tail changed = sample; \
		changed.member = (value); \
		assert_int_equal(decode_of(changed), (valid)); \
	} while (0)

static void values_out_of_their_limits(void **state)
{
	struct pcm_tail media;
	struct pc_tail out;

	(void)state;
	EXPECT_WITH(PC_VALID, flags, 0);
	EXPECT_WITH(PC_INVALID_VALUE, flags, 4);
	EXPECT_WITH(PC_INVALID_VALUE, flags, 0x80000000u);
	EXPECT_WITH(PC_VALID, gc_percent, 0);
	EXPECT_WITH(PC_VALID, gc_percent, 90);
	EXPECT_WITH(PC_INVALID_VALUE, gc_percent, 91);
	EXPECT_WITH(PC_VALID, log_tail_pos, 70);
	EXPECT_WITH(PC_INVALID_VALUE, log_tail_pos, 71);
	EXPECT_WITH(PC_VALID, mark_pos, 0);
	for (size_t i = 0; i < sizeof(media.reserved); i++) {
		pc_tail_encode(&sample, &media);
		media.reserved[i] = 1;
		seal(&media);
		assert_int_equal(pc_tail_decode(&media, &out), PC_INVALID_VALUE);
	}
}

static void one_line_of_text(void **state)
{
	struct pc_tail odd = sample;
	char *text = NULL;
	size_t len;
	FILE *to;

	(void)state;
	odd.flags = 0x40000001;
	to = open_memstream(&text, &len);
	assert_non_null(to);
	pc_tail_to_text(to, &sample);
	pc_tail_to_text(to, &odd);
	odd.flags = 0;
	pc_tail_to_text(to, &odd);
	assert_int_equal(fclose(to), 0);
	assert_string_equal(
		text, "tail seq=18364758544493064720 flags=clean_close,ordering_batch log_tail_pos=64 dirty_tail_pos=70"
		      " mark_pos=18446744073709551615 gc_percent=70\n"
		      "tail seq=18364758544493064720 flags=clean_close,0x40000000 log_tail_pos=64 dirty_tail_pos=70"
		      " mark_pos=18446744073709551615 gc_percent=70\n"
		      "tail seq=18364758544493064720 flags=- log_tail_pos=64 dirty_tail_pos=70"
		      " mark_pos=18446744073709551615 gc_percent=70\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(every_flipped_bit_is_noticed),
		cmocka_unit_test(values_out_of_their_limits),
		cmocka_unit_test(one_line_of_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
