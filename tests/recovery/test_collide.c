/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A payload made to collide: its CRC32C is that of the bytes that lie in the free data segment already. If power fails when the slot is durable and the
 * data is not, the CRC cannot tell: that is the documented limit of one fence per write, and the reason for commit_guard=fence, which makes the data durable before
 * its slot. Both are shown: the first so that the second is known to be able to fail.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc.h"
#include "core/rig.h"

#define IMAGE_NR_MAX 256u
#define BLOCK 512u

struct images {
	uint8_t *bytes[IMAGE_NR_MAX];
	uint32_t nr;
	uint64_t len_bytes;
};

static void take(struct images *images, struct pc_sim *sim, enum pc_sim_policy policy, uint64_t arg)
{
	uint8_t *image = malloc(images->len_bytes);

	assert_non_null(image);
	assert_true(images->nr < IMAGE_NR_MAX);
	(void)pc_sim_crash(sim, policy, arg, image);
	images->bytes[images->nr++] = image;
}

static void at_fence(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	(void)event;
	take(user, sim, PC_SIM_NONE, 0);
	take(user, sim, PC_SIM_ALL, 0);
	for (uint64_t line = 0; line < pc_sim_policy_args(sim, PC_SIM_LINE_ALONE); line++) {
		take(user, sim, PC_SIM_LINE_ALONE, line);
		take(user, sim, PC_SIM_LINE_MISSING, line);
	}
}

/* Sets the last four bytes of buf so that its CRC is want. CRC is affine: the effect of each bit is found, and the system solved. */
static void make_collide(uint8_t *buf, uint32_t want)
{
	uint32_t rows[32], picks[32], rest, base, pick = 0;

	memset(buf + BLOCK - 4, 0, 4);
	base = pc_crc32c(0, buf, BLOCK);
	for (uint32_t bit = 0; bit < 32; bit++) {
		buf[BLOCK - 4 + bit / 8] = (uint8_t)(1u << bit % 8);
		rows[bit] = pc_crc32c(0, buf, BLOCK) ^ base;
		picks[bit] = UINT32_C(1) << bit;
		buf[BLOCK - 4 + bit / 8] = 0;
	}
	rest = want ^ base;
	for (uint32_t column = 0; column < 32; column++) {
		uint32_t at = column;

		while (at < 32 && !(rows[at] >> column & 1))
			at++;
		assert_true(at < 32); /* four bytes reach every CRC */
		if (at != column) {
			const uint32_t row = rows[at], row_pick = picks[at];

			rows[at] = rows[column], picks[at] = picks[column];
			rows[column] = row, picks[column] = row_pick;
		}
		for (uint32_t i = 0; i < 32; i++) {
			if (i != column && rows[i] >> column & 1) {
				rows[i] ^= rows[column];
				picks[i] ^= picks[column];
			}
		}
	}
	for (uint32_t column = 0; column < 32; column++)
		pick ^= rest >> column & 1 ? picks[column] : 0;
	for (uint32_t i = 0; i < 4; i++)
		buf[BLOCK - 4 + i] = (uint8_t)(pick >> 8 * i);
	assert_int_equal(pc_crc32c(0, buf, BLOCK), want);
}

/* How many crash images of one durable write show a block that is neither old nor new. */
static uint32_t count_wrong(enum pc_granularity granularity, bool guard)
{
	static const uint8_t zeroes[BLOCK];
	struct images images = { .nr = 0 };
	uint8_t payload[BLOCK], seen[BLOCK];
	uint32_t wrong_nr = 0, new_nr = 0, old_nr = 0;
	struct rig rig;

	rig_zero(&rig);
	rig.o.granularity = granularity;
	rig.o.guard_fence = guard;
	rig_up(&rig);
	rig_pattern(&rig, payload, sizeof(payload));
	/* Simulated media begins as zeroes, and so does the data segment that the first write takes. */
	make_collide(payload, pc_crc32c(0, zeroes, BLOCK));
	images.len_bytes = pc_sim_media(rig.sim)->len_bytes;
	pc_sim_crash_at(rig.sim, 0, at_fence, &images);
	assert_int_equal(pcache_write(rig.cache, payload, 4096, BLOCK, PCACHE_DURABLE), 0);
	pc_sim_crash_at(rig.sim, 0, NULL, NULL);
	rig_kill(&rig);
	assert_true(images.nr > 4);
	for (uint32_t i = 0; i < images.nr; i++) {
		pc_sim_reset(rig.sim, images.bytes[i]);
		rig_open(&rig);
		assert_int_equal(pcache_read(rig.cache, seen, 4096, BLOCK, PCACHE_NOCACHE), 0);
		new_nr += memcmp(seen, payload, BLOCK) == 0;
		old_nr += memcmp(seen, rig.model + 4096, BLOCK) == 0;
		wrong_nr += memcmp(seen, payload, BLOCK) != 0 && memcmp(seen, rig.model + 4096, BLOCK) != 0;
		rig_kill(&rig);
		free(images.bytes[i]);
	}
	assert_true(new_nr != 0 && old_nr != 0); /* the images are from before and after the commit */
	rig_down(&rig);
	return wrong_nr;
}

static void guard_holds(void **state)
{
	(void)state;
	assert_int_equal(count_wrong(PC_GRAN_CACHE_LINE, true), 0);
	assert_int_equal(count_wrong(PC_GRAN_PAGE, true), 0);
}

static void without_guard_a_collision_shows(void **state)
{
	(void)state;
	assert_true(count_wrong(PC_GRAN_CACHE_LINE, false) != 0);
	assert_true(count_wrong(PC_GRAN_PAGE, false) != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guard_holds),
		cmocka_unit_test(without_guard_a_collision_shows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
