/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ordinals of log segments end at PC_ORDINAL_MAX. Nobody gets there: with the smallest segments and a fence for each slot it takes tens of years of nothing but
 * writes. A cache that is made to begin close to the end must not write a record that the next open refuses: writes fail, and what was acknowledged is there.
 */
#include <string.h>

#include "core/rig.h"
#include "format/format.h"
#include "pcache/errors.h"

#define ORDINALS_LEFT 6u

/* Moves the log of a cache without ksets to its last ordinals. */
static void raise_ordinals(struct rig *rig)
{
	const uint8_t *view = pc_sim_view(rig->sim);
	const uint64_t slots = rig->o.segment_bytes / 64, ordinals = PC_ORDINAL_MAX - ORDINALS_LEFT;
	struct pc_super super;

	assert_int_equal(pc_super_decode((const void *)view, &super), PC_VALID);
	for (unsigned int replica = 0; replica < 2; replica++) {
		uint64_t off = pc_geo_tail_off(&super, replica);
		struct pcm_segrec rec_bytes;
		struct pcm_tail tail_bytes;
		struct pc_segrec rec;
		struct pc_tail tail;

		assert_int_equal(pc_tail_decode((const void *)(view + off), &tail), PC_VALID);
		tail.log_tail_pos += ordinals * slots;
		tail.dirty_tail_pos += ordinals * slots;
		tail.mark_pos += ordinals * slots;
		pc_tail_encode(&tail, &tail_bytes);
		pc_sim_damage(rig->sim, off, &tail_bytes, sizeof(tail_bytes));
		for (uint32_t id = 0; id < super.segment_nr; id++) {
			off = pc_geo_segrec_off(&super, replica, id);
			assert_int_equal(pc_segrec_decode((const void *)(view + off), id, &rec), PC_VALID);
			if (rec.type != PC_SEG_LOG)
				continue;
			rec.ordinal += ordinals;
			pc_segrec_encode(&rec, &rec_bytes);
			pc_sim_damage(rig->sim, off, &rec_bytes, sizeof(rec_bytes));
		}
	}
}

/* Formats, and opens with the last ordinals. */
static void up_at_the_end(struct rig *rig)
{
	struct pcache_config *config;
	struct pcache_backing *backing;

	rig_up(rig);
	rig_kill(rig);
	config = rig_config(rig);
	backing = mem_backing_attach(rig->mb);
	pc_sim_reset(rig->sim, NULL);
	assert_int_equal(pc_cache_format_media(pc_sim_media(rig->sim), config, NULL, backing), 0);
	pcache_config_free(config);
	pcache_backing_free(backing);
	raise_ordinals(rig);
	rig_open(rig);
}

static void writes_fail_and_nothing_is_lost(void **state)
{
	struct rig rig;
	uint32_t write_nr = 0;
	uint8_t block[512];
	int rc = 0;

	(void)state;
	rig_zero(&rig);
	rig.o.full_error = true;
	up_at_the_end(&rig);
	while (rc == 0 && write_nr < 100000) {
		const uint64_t off = write_nr % 64 * 512;

		rig_pattern(&rig, block, sizeof(block));
		rc = pcache_write(rig.cache, block, off, sizeof(block), 0);
		if (rc == 0)
			memcpy(rig.model + off, block, sizeof(block));
		write_nr++;
	}
	assert_int_equal(rc, PCACHE_E_FULL);
	assert_true(write_nr > 100);
	rig_check_all(&rig);
	rig_kill(&rig);
	/* The open has no slot for the mark that ends what it recovered. It says so, after it has brought everything to the backing. */
	rc = rig_try_open(&rig);
	if (rc == 0) {
		rig_check_all(&rig);
		assert_int_equal(pcache_drain(rig.cache, NULL, NULL), 0);
	} else {
		assert_int_equal(rc, PCACHE_E_FULL);
	}
	assert_memory_equal(mem_backing_durable(rig.mb), rig.model, rig.o.backing_bytes);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(writes_fail_and_nothing_is_lost)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
