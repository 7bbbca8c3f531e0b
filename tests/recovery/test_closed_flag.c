/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The flag of a clean close: set by a close that succeeded, and gone from both durable copies of the tail record before anything else of the cache has changed. Nothing
 * that an open decides hangs on the flag alone, so only this test, `pcache check` and `pcache dump` would show it wrong.
 */
#include <stdlib.h>
#include <string.h>

#include "core/rig.h"

struct watch {
	struct rig *rig;
	uint8_t *closed; /* the media as the close left it */
	uint32_t changed_nr; /* fences at which something else than the tail record had changed */
};

static bool says_closed(struct rig *rig, const struct pc_super *super, unsigned int replica)
{
	struct pcm_tail bytes;
	struct pc_tail tail;

	memcpy(&bytes, pc_sim_durable(rig->sim) + pc_geo_tail_off(super, replica), sizeof(bytes));
	return pc_tail_decode(&bytes, &tail) == PC_VALID && (tail.flags & PC_TAIL_FLAG_CLEAN_CLOSE);
}

static struct pc_super super_of(struct rig *rig)
{
	struct pcm_super bytes;
	struct pc_super super;

	memcpy(&bytes, pc_sim_durable(rig->sim), sizeof(bytes));
	assert_int_equal(pc_super_decode(&bytes, &super), PC_VALID);
	return super;
}

/* Whether the media, as a kill here would leave it, differs from that of the close outside of the tail record. */
static bool else_changed(const struct watch *watch, const struct pc_super *super)
{
	const uint64_t tail_a = pc_geo_tail_off(super, 0), tail_b = pc_geo_tail_off(super, 1);
	const uint8_t *now = pc_sim_view(watch->rig->sim);

	return memcmp(now, watch->closed, tail_a) != 0 ||
	       memcmp(now + tail_a + PC_PAGE_BYTES, watch->closed + tail_a + PC_PAGE_BYTES,
		      tail_b - tail_a - PC_PAGE_BYTES) != 0;
}

static void on_fence(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	struct watch *watch = user;
	const struct pc_super super = super_of(watch->rig);

	(void)sim, (void)event;
	if (!else_changed(watch, &super))
		return;
	watch->changed_nr++;
	assert_false(says_closed(watch->rig, &super, 0));
	assert_false(says_closed(watch->rig, &super, 1));
}

static void only_while_it_is_closed(void **state)
{
	(void)state;
	for (uint32_t page = 0; page < 2; page++) {
		struct watch watch = { 0 };
		struct rig rig;
		struct pc_super super;
		uint64_t len_bytes;

		rig_zero(&rig);
		rig.o.granularity = page ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
		rig_up(&rig);
		rig_write(&rig, 0, 4096, 0);
		rig_close(&rig);
		super = super_of(&rig);
		assert_true(says_closed(&rig, &super, 0) && says_closed(&rig, &super, 1));
		len_bytes = pc_sim_media(rig.sim)->len_bytes;
		watch.rig = &rig;
		watch.closed = malloc(len_bytes);
		assert_non_null(watch.closed);
		memcpy(watch.closed, pc_sim_durable(rig.sim), len_bytes);
		pc_sim_crash_at(rig.sim, 0, on_fence, &watch);
		rig_open(&rig);
		rig_write(&rig, 8192, 4096, 0);
		rig_flush(&rig);
		rig_drain(&rig);
		pc_sim_crash_at(rig.sim, 0, NULL, NULL);
		assert_true(watch.changed_nr > 4);
		assert_false(says_closed(&rig, &super, 0) || says_closed(&rig, &super, 1));
		/* A kill leaves it so, and the open after it too. */
		rig_reopen(&rig);
		assert_false(says_closed(&rig, &super, 0) || says_closed(&rig, &super, 1));
		rig_close(&rig);
		assert_true(says_closed(&rig, &super, 0) && says_closed(&rig, &super, 1));
		free(watch.closed);
		rig_down(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_while_it_is_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
