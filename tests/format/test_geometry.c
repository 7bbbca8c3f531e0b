/* SPDX-License-Identifier: BSD-3-Clause */
/* Geometry: plans of all sizes obey every rule, the default rule, the smallest media, and untrusted values at their edges. */
#include "format/format.h"
#include "pcache/errors.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

/* The rules of a plan, written down once more, without the code under test. */
static void assert_plan_is_sound(const struct pc_super *super, uint64_t media_bytes)
{
	const uint64_t last = super->segment_nr - 1;
	const uint64_t zone_a_end = 8192 + 64 * (last + 1);
	const uint64_t align = PC_MIN((uint64_t)super->segment_bytes, 2 * MIB);
	const uint32_t ids[] = { 0, super->segment_nr / 2, super->segment_nr - 1 };

	assert_true(pc_geo_check(super));
	assert_true(super->media_bytes <= media_bytes && super->media_bytes % 4096 == 0);
	assert_true(media_bytes > INT64_MAX || media_bytes - super->media_bytes < 4096);
	assert_true(super->segment_nr >= 8 && super->segment_nr <= 1u << 24);
	assert_true(super->zone_bytes >= zone_a_end && super->zone_bytes % 4096 == 0);
	assert_true(super->data_off >= super->zone_bytes && super->data_off % align == 0);
	assert_true(pc_geo_segment_off(super, (uint32_t)last) + super->segment_bytes <= super->zone_b_off);
	assert_true(super->zone_b_off + super->zone_bytes == super->media_bytes);
	assert_true(pc_geo_segrec_off(super, 1, (uint32_t)last) + 64 <= pc_geo_tail_off(super, 1));
	assert_true(pc_geo_tail_off(super, 1) + 4096 == pc_geo_super_off(super, 1));
	assert_true(pc_geo_super_off(super, 1) + 4096 == super->media_bytes);
	assert_true(pc_geo_super_off(super, 0) == 0 && pc_geo_tail_off(super, 0) == 4096);
	assert_true(pc_geo_segrec_off(super, 0, 0) == 8192 && pc_geo_segrec_off(super, 1, 0) == super->zone_b_off);
	assert_true(pc_geo_segment_off(super, 0) == super->data_off);
	if (super->media_bytes < 4 * MIB)
		return;
	assert_true(distance(pc_geo_super_off(super, 0), pc_geo_super_off(super, 1)) >= 2 * MIB);
	assert_true(distance(pc_geo_tail_off(super, 0), pc_geo_tail_off(super, 1)) >= 2 * MIB);
	for (size_t i = 0; i < PC_ARRAY_NR(ids); i++)
		assert_true(distance(pc_geo_segrec_off(super, 0, ids[i]), pc_geo_segrec_off(super, 1, ids[i])) >=
			    2 * MIB);
}

/* One segment more would not have fitted. */
static void assert_plan_is_full(const struct pc_super *super)
{
	const uint64_t nr = (uint64_t)super->segment_nr + 1;
	const uint64_t zone_bytes = PC_ROUND_UP(8192 + 64 * nr, UINT64_C(4096));
	const uint64_t align = PC_MIN((uint64_t)super->segment_bytes, 2 * MIB);

	assert_true(nr > 1u << 24 ||
		    PC_ROUND_UP(zone_bytes, align) + nr * super->segment_bytes + zone_bytes > super->media_bytes);
}

static void plans_of_all_sizes(void **state)
{
	const uint32_t blocks[] = { 512, 4096 };
	struct pc_super super;

	(void)state;
	for (uint32_t segment_bytes = 4096; segment_bytes <= 16 * MIB; segment_bytes *= 2) {
		const uint64_t min_bytes = pc_geo_min_bytes(segment_bytes, 512);

		for (uint64_t bytes = min_bytes; bytes < 8 * GIB * GIB / 1024; bytes += bytes / 3 + 4093) {
			memset(&super, 0, sizeof(super));
			assert_int_equal(pc_geo_plan(bytes, segment_bytes, blocks[bytes % 2], &super), 0);
			assert_true(super.segment_bytes == segment_bytes && super.block_bytes == blocks[bytes % 2]);
			assert_plan_is_sound(&super, bytes);
			assert_plan_is_full(&super);
		}
	}
}

static void every_page_count_of_a_small_cache(void **state)
{
	struct pc_super super;

	(void)state;
	for (uint64_t bytes = pc_geo_min_bytes(4096, 512); bytes < 5 * MIB; bytes += 4096) {
		assert_int_equal(pc_geo_plan(bytes, 4096, 512, &super), 0);
		assert_plan_is_sound(&super, bytes);
		assert_plan_is_full(&super);
	}
}

static void default_segment_size(void **state)
{
	const struct {
		uint64_t media_bytes;
		uint32_t segment_bytes;
	} cases[] = {
		{ 64 * GIB, 16 * MIB },  { GIB + 8 * MIB, 16 * MIB }, { GIB, 8 * MIB },
		{ 512 * MIB, 4 * MIB },  { 256 * MIB, 2 * MIB },      { 100 * MIB, MIB },
		{ 16 * MIB, 128 * KIB }, { 9 * MIB, 128 * KIB },
	};
	struct pc_super super;
	struct pc_super larger;

	(void)state;
	for (size_t i = 0; i < PC_ARRAY_NR(cases); i++) {
		assert_int_equal(pc_geo_plan(cases[i].media_bytes, 0, 512, &super), 0);
		assert_int_equal(super.segment_bytes, cases[i].segment_bytes);
	}
	for (uint64_t bytes = pc_geo_min_bytes(0, 4096); bytes < 64 * GIB; bytes += bytes / 5) {
		assert_int_equal(pc_geo_plan(bytes, 0, 4096, &super), 0);
		assert_plan_is_sound(&super, bytes);
		assert_true(super.segment_nr >= 64);
		if (super.segment_bytes == 16 * MIB)
			continue;
		/* The next size up must not give 64 segments, or it would have been taken. */
		if (pc_geo_plan(bytes, super.segment_bytes * 2, 4096, &larger) == 0)
			assert_true(larger.segment_nr < 64);
	}
}

static void smallest_media(void **state)
{
	struct pc_super super;
	struct pc_super before;

	(void)state;
	assert_int_equal(pc_geo_min_bytes(4096, 512), 12288 + 8 * 4096 + 12288);
	assert_int_equal(pc_geo_min_bytes(0, 512), 128 * KIB + 64 * 128 * KIB + 12288);
	for (uint32_t segment_bytes = 4096; segment_bytes <= 16 * MIB; segment_bytes *= 2) {
		const uint64_t bytes = pc_geo_min_bytes(segment_bytes, 4096);

		assert_int_equal(pc_geo_plan(bytes, segment_bytes, 4096, &super), 0);
		assert_int_equal(super.segment_nr, 8);
		assert_plan_is_sound(&super, bytes);
		before = super;
		assert_int_equal(pc_geo_plan(bytes - 1, segment_bytes, 4096, &super), PCACHE_E_TOO_SMALL);
		assert_int_equal(pc_geo_plan(bytes - 4096, segment_bytes, 4096, &super), PCACHE_E_TOO_SMALL);
		assert_int_equal(pc_geo_plan(0, segment_bytes, 4096, &super), PCACHE_E_TOO_SMALL);
		assert_memory_equal(&before, &super, sizeof(super)); /* untouched on failure */
	}
	assert_int_equal(pc_geo_plan(pc_geo_min_bytes(0, 512), 0, 512, &super), 0);
	assert_int_equal(super.segment_bytes, 128 * KIB);
	assert_int_equal(pc_geo_plan(pc_geo_min_bytes(0, 512) - 4096, 0, 512, &super), PCACHE_E_TOO_SMALL);
}

static void tiny_cache_in_numbers(void **state)
{
	struct pc_super super;

	(void)state;
	assert_int_equal(pc_geo_plan(57344 + 4095, 4096, 512, &super), 0);
	assert_int_equal(super.media_bytes, 57344);
	assert_int_equal(super.zone_bytes, 12288);
	assert_int_equal(super.data_off, 12288);
	assert_int_equal(super.zone_b_off, 45056);
	assert_int_equal(super.segment_nr, 8);
	assert_int_equal(pc_geo_slots_per_segment(&super), 64);
	assert_int_equal(pc_geo_segrec_off(&super, 0, 7), 8192 + 448);
	assert_int_equal(pc_geo_segrec_off(&super, 1, 7), 45056 + 448);
	assert_int_equal(pc_geo_tail_off(&super, 1), 57344 - 8192);
	assert_int_equal(pc_geo_super_off(&super, 1), 57344 - 4096);
	assert_int_equal(pc_geo_segment_off(&super, 7), 12288 + 7 * 4096);
}

static void impossible_sizes(void **state)
{
	const uint32_t segments[] = { 1, 512, 2048, 4097, 12288, 32 * MIB, UINT32_MAX };
	const uint32_t blocks[] = { 0, 1, 256, 1024, 513, 8192, UINT32_MAX };
	struct pc_super super;

	(void)state;
	for (size_t i = 0; i < PC_ARRAY_NR(segments); i++) {
		assert_int_equal(pc_geo_plan(GIB, segments[i], 512, &super), -EINVAL);
		assert_true(pc_geo_min_bytes(segments[i], 512) == UINT64_MAX);
	}
	for (size_t i = 0; i < PC_ARRAY_NR(blocks); i++) {
		assert_int_equal(pc_geo_plan(GIB, 0, blocks[i], &super), -EINVAL);
		assert_true(pc_geo_min_bytes(0, blocks[i]) == UINT64_MAX);
	}
}

static void largest_media(void **state)
{
	struct pc_super super;

	(void)state;
	assert_int_equal(pc_geo_plan(UINT64_MAX, 0, 512, &super), 0);
	assert_int_equal(super.segment_nr, 1u << 24);
	assert_plan_is_sound(&super, UINT64_MAX);
	assert_int_equal(pc_geo_plan(UINT64_MAX, 4096, 512, &super), 0);
	assert_int_equal(super.segment_nr, 1u << 24);
	assert_plan_is_sound(&super, UINT64_MAX);
}

static void reject(struct pc_super super)
{
	assert_false(pc_geo_check(&super));
}

#define REJECT_WITH(member, value) \
	do { \
		struct pc_super bad = super; \
		bad.member = (value); \
		reject(bad); \
	} while (0)

static void check_refuses_what_lies(void **state)
{
	struct pc_super super;
	struct pc_super wide;

	(void)state;
	assert_int_equal(pc_geo_plan(64 * MIB, 128 * KIB, 512, &super), 0);
	assert_true(pc_geo_check(&super));
	REJECT_WITH(block_bytes, 0);
	REJECT_WITH(block_bytes, 1024);
	REJECT_WITH(segment_bytes, 0);
	REJECT_WITH(segment_bytes, super.segment_bytes + 1);
	REJECT_WITH(segment_bytes, super.segment_bytes * 2); /* runs past zone B */
	REJECT_WITH(segment_bytes, 32 * MIB);
	REJECT_WITH(segment_bytes, 2048);
	REJECT_WITH(segment_nr, 0);
	REJECT_WITH(segment_nr, 7);
	REJECT_WITH(segment_nr, super.segment_nr + 1);
	REJECT_WITH(segment_nr, UINT32_MAX);
	REJECT_WITH(data_off, 0);
	REJECT_WITH(data_off, super.data_off - 4096);
	REJECT_WITH(data_off, super.data_off + 4096);
	REJECT_WITH(data_off, super.data_off + super.segment_bytes);
	REJECT_WITH(data_off, UINT64_MAX - 128 * KIB + 1); /* the sum wraps */
	REJECT_WITH(zone_bytes, 0);
	REJECT_WITH(zone_bytes, super.zone_bytes - 4096);
	REJECT_WITH(zone_bytes, super.zone_bytes + 1);
	REJECT_WITH(zone_bytes, UINT64_MAX - 4095);
	REJECT_WITH(zone_b_off, super.zone_b_off - 4096);
	REJECT_WITH(zone_b_off, super.zone_b_off + 4096);
	REJECT_WITH(zone_b_off, 0);
	REJECT_WITH(media_bytes, super.media_bytes + 4096);
	REJECT_WITH(media_bytes, super.media_bytes + 1);
	REJECT_WITH(media_bytes, 0);
	REJECT_WITH(media_bytes, UINT64_MAX);
	/* Nothing but the page rule is wrong here. */
	wide = super;
	wide.media_bytes += 512;
	wide.zone_b_off += 512;
	reject(wide);
	/* Nothing but the size of the zones is wrong here: too small for the records, or past the end so that zone_b_off wraps. */
	wide = super;
	wide.zone_bytes -= 4096;
	wide.zone_b_off += 4096;
	reject(wide);
	wide = super;
	wide.zone_bytes = wide.media_bytes + 4 * MIB;
	wide.zone_b_off = wide.media_bytes - wide.zone_bytes;
	wide.data_off = wide.media_bytes + 8 * MIB;
	reject(wide);
	/* Nothing but the limit of media is wrong here. */
	wide = super;
	wide.media_bytes = UINT64_C(1) << 63;
	wide.zone_b_off = wide.media_bytes - wide.zone_bytes;
	reject(wide);
}

/* Larger zones than needed, and a gap before segment 0, are laid out soundly, so a later version may write them. */
static void check_accepts_room_to_spare(void **state)
{
	struct pc_super super;

	(void)state;
	assert_int_equal(pc_geo_plan(64 * MIB, 128 * KIB, 512, &super), 0);
	super.zone_bytes += 4096;
	super.zone_b_off -= 4096;
	super.segment_nr -= 2;
	super.data_off += super.segment_bytes;
	assert_true(pc_geo_check(&super));
}

/* The widest zones that are accepted leave the copies as close as they can be. */
static void copies_are_never_close(void **state)
{
	struct pc_super super;

	(void)state;
	for (uint64_t bytes = 4 * MIB; bytes < 4 * MIB + 16 * 4096; bytes += 4096) {
		assert_int_equal(pc_geo_plan(bytes, 4096, 512, &super), 0);
		super.segment_nr = 8;
		do {
			super.zone_bytes += 4096;
			super.zone_b_off = super.media_bytes - super.zone_bytes;
			super.data_off = super.zone_bytes;
			if (pc_geo_check(&super))
				assert_true(pc_geo_segrec_off(&super, 1, 0) - pc_geo_segrec_off(&super, 0, 0) >=
					    2 * MIB);
		} while (super.zone_bytes < bytes - 4096);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plans_of_all_sizes),
		cmocka_unit_test(every_page_count_of_a_small_cache),
		cmocka_unit_test(default_segment_size),
		cmocka_unit_test(smallest_media),
		cmocka_unit_test(tiny_cache_in_numbers),
		cmocka_unit_test(impossible_sizes),
		cmocka_unit_test(largest_media),
		cmocka_unit_test(check_refuses_what_lies),
		cmocka_unit_test(check_accepts_room_to_spare),
		cmocka_unit_test(copies_are_never_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
