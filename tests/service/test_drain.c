/* SPDX-License-Identifier: BSD-3-Clause */
/* A drain brings to the backing what was dirty when it began, also what is overwritten while it runs. */
#include <stdlib.h>
#include <string.h>

#include "core/rig.h"
#include "service/internal.h"

#define FIRST_BATCH_SLOTS 2048u /* PC_WB_BATCH_ITEMS, before the pace is known */
#define SECOND_BATCH_SLOTS (4 * FIRST_BATCH_SLOTS) /* at most four times the one before */
#define VICTIM_BLK 5000u /* in the second batch */

struct overwriter {
	struct rig *rig;
	uint32_t calls;
	bool discards;
};

static uint64_t log_slots(const struct pcache *cache, uint64_t from)
{
	return atomic_load(&cache->log.head) - from;
}

/* After the first batch: a block of the second is overwritten, behind everything that the drain will look at. */
static int overwrite(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
	struct overwriter *overwriter = user;

	(void)done_bytes, (void)total_bytes;
	if (overwriter->calls++ > 0)
		return 0;
	if (overwriter->discards)
		assert_int_equal(pcache_discard(overwriter->rig->cache, VICTIM_BLK * 512, 512, 0), 0);
	else
		assert_int_equal(
			pcache_write(overwriter->rig->cache, overwriter->rig->scratch, VICTIM_BLK * 512, 512, 0), 0);
	return 0;
}

static void overwritten_while_it_runs(uint32_t ordering, bool discards)
{
	struct overwriter overwriter = { .discards = discards };
	uint64_t base;
	struct rig rig;

	rig_zero(&rig);
	rig.o.segment_bytes = 64 << 10;
	rig.o.segment_nr = 256;
	rig.o.backing_bytes = 8 << 20;
	rig.o.ordering = ordering;
	rig_up(&rig);
	overwriter.rig = &rig;
	base = rig.cache->layout.tail.dirty_tail_pos;
	for (uint64_t blk = 0; log_slots(rig.cache, base) < FIRST_BATCH_SLOTS + SECOND_BATCH_SLOTS - 1; blk++)
		rig_write(&rig, blk * 512, 512, 0);
	/* The mark of the drain is the last slot of the second batch. */
	assert_int_equal(log_slots(rig.cache, base), FIRST_BATCH_SLOTS + SECOND_BATCH_SLOTS - 1);
	rig_pattern(&rig, rig.scratch, 512);
	if (discards)
		memset(rig.scratch, 0, 512);
	assert_int_equal(pcache_drain(rig.cache, overwrite, &overwriter), 0);
	assert_true(overwriter.calls >= 2);
	if (memcmp(mem_backing_durable(rig.mb) + VICTIM_BLK * 512, rig.scratch, 512) != 0)
		assert_memory_equal(mem_backing_durable(rig.mb) + VICTIM_BLK * 512, rig.model + VICTIM_BLK * 512, 512);
	rig_down(&rig);
}

static void batch_overwritten(void **state)
{
	(void)state;
	overwritten_while_it_runs(PCACHE_ORDERING_BATCH, false);
}

static void batch_discarded(void **state)
{
	(void)state;
	overwritten_while_it_runs(PCACHE_ORDERING_BATCH, true);
}

static void strict_overwritten(void **state)
{
	(void)state;
	overwritten_while_it_runs(PCACHE_ORDERING_STRICT, false);
}

/* Steps of a drain, and how many of them had walked over the whole index. */
struct walks {
	const struct rig *rig;
	uint32_t steps;
	uint32_t walks;
};

static int count_walks(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
	struct walks *walks = user;
	const struct pc_writeback *wb = walks->rig->cache->writeback;

	(void)done_bytes, (void)total_bytes;
	walks->steps++;
	walks->walks += wb->is_swept || wb->items_lost;
	return 0;
}

/* Ordering strict, the same number of keys in epochs of different length: the index is walked once for a long one, and not at all for short ones, however many they are. */
static void short_epochs_walk_nothing(void **state)
{
	static const uint32_t epoch_keys[] = { 4096, 64, 8, 1 };

	(void)state;
	for (uint32_t i = 0; i < PC_ARRAY_NR(epoch_keys); i++) {
		struct walks walks = { 0 };
		struct rig rig;

		rig_zero(&rig);
		rig.o.segment_bytes = 64 << 10;
		rig.o.segment_nr = 256;
		rig.o.backing_bytes = 8 << 20;
		rig_up(&rig);
		walks.rig = &rig;
		for (uint64_t blk = 0; blk < 4096; blk++) {
			rig_write(&rig, blk * 512, 512, 0);
			if ((blk + 1) % epoch_keys[i] == 0)
				rig_flush(&rig);
		}
		assert_int_equal(pcache_drain(rig.cache, count_walks, &walks), 0);
		assert_true(walks.steps >= 4096 / (epoch_keys[i] * PC_WB_GROUP_EPOCHS));
		if (epoch_keys[i] == 4096)
			assert_true(walks.walks > 0); /* they are seen here */
		else
			assert_int_equal(walks.walks, 0);
		rig_down(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(batch_overwritten),
		cmocka_unit_test(batch_discarded),
		cmocka_unit_test(strict_overwritten),
		cmocka_unit_test(short_epochs_walk_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
