/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bytes that the cache says it stored are those that reached the media: data, fills, slots, marks, cleaning, records. Only the padding of the log counts
 * although it is not stored, and that is bounded here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rig.h"

#define OPS 3000

static void one_operation(struct rig *rig)
{
	uint64_t blocks = rig->o.backing_bytes / 512, len = 1 + rig_below(rig, 16), off = rig_below(rig, blocks - len);

	switch (rig_below(rig, 16)) {
	case 0:
		rig_zeroes(rig, off * 512, len * 512, rig_below(rig, 2) == 0);
		break;
	case 1:
		rig_flush(rig);
		break;
	case 2:
		rig_drain(rig);
		break;
	case 3:
	case 4:
	case 5:
	case 6:
		rig_check_range(rig, off * 512, len * 512); /* misses are filled */
		break;
	default:
		rig_write(rig, off * 512, len * 512, 0);
	}
}

/* Slots of all pads together, which is what positions promise beyond what is stored: at most a kset less one at the end of each log segment. */
static uint64_t pads_max_bytes(struct rig *rig, uint64_t first_pos, uint64_t end_pos)
{
	struct pc_log *log = &rig->cache->log;

	return (pc_log_ordinal(log, end_pos) - pc_log_ordinal(log, first_pos)) * (log->kset_slots_max - 1) * PC_SLOT_BYTES;
}

static void stored_is_what_was_copied(void **state)
{
	uint64_t copied, head, stored, filled = 0;
	struct pcache_info info;
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig.seed = 7;
	rig.o.segment_bytes = 16384;
	rig.o.backing_bytes = 1 << 20;
	rig_up(&rig);
	copied = pc_sim_counts(rig.sim).copy_bytes;
	info = rig_info(&rig);
	head = info.log_head;
	assert_int_equal(info.stored_bytes, 0);
	for (int i = 0; i < OPS; i++)
		one_operation(&rig);
	info = rig_info(&rig);
	stored = info.stored_bytes;
	copied = pc_sim_counts(rig.sim).copy_bytes - copied;
	for (uint32_t i = 0; i < PC_SHARD_NR_MAX; i++)
		filled += rig.cache->stats.shard[i].fill_bytes;
	printf("stored %llu, copied %llu, of it filled %llu, pads at most %llu\n", (unsigned long long)stored,
	       (unsigned long long)copied, (unsigned long long)filled,
	       (unsigned long long)pads_max_bytes(&rig, head, info.log_head));
	assert_true(info.evicted_segments && info.cleaned_segments); /* records and cleaning were in it */
	assert_true(filled > pads_max_bytes(&rig, head, info.log_head));
	assert_true(stored >= copied);
	assert_true(stored - copied <= pads_max_bytes(&rig, head, info.log_head));
	assert_true(info.index_bytes > 0 && info.index_bytes == pc_index_dram_bytes(rig.cache->index));
	rig_close(&rig);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stored_is_what_was_copied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
