/* SPDX-License-Identifier: BSD-3-Clause */
/* Bugs that other caches had, by the names that these were given, as far as no test of a folder is about the same: see README.md. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/rig.h"
#include "layout/layout.h"
#include "pcache/errors.h"
#include "tool/check.h"
#include "tool/forge.h"

static void step_until_idle(struct rig *rig, enum pc_step step)
{
	int rc = 1;

	for (uint32_t nr = 0; rc > 0 && nr < 10000; nr++)
		rc = pc_cache_step(rig->cache, step, true);
	assert_int_equal(rc, 0);
}

/* ---- services -------------------------------------------------------------------------------------------------------------- */

/* Write-back fails again and again: what is clean is still evicted, so writers get room; and all goes on when the backing does. */
static void gc_error_stops_gc_for_ever(void **state)
{
	struct rig rig;
	uint64_t evicted;

	(void)state;
	rig_zero(&rig);
	rig.o.full_error = true;
	rig_up(&rig);
	for (uint32_t i = 0; i < 24; i++)
		rig_check_range(&rig, i * 4096, 4096); /* fills */
	evicted = rig_info(&rig).evicted_segments;
	mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 1, EIO, MEM_BACKING_FOREVER);
	for (uint32_t i = 0; i < 16; i++)
		rig_write(&rig, (128u << 10) + i * 4096, 4096, 0);
	assert_true(rig_info(&rig).evicted_segments > evicted);
	assert_true(rig_info(&rig).backing_errors > 0);
	mem_backing_clear_faults(rig.mb);
	for (uint32_t i = 0; i < 200; i++)
		rig_write(&rig, i * 4096 % (256u << 10), 4096, 0);
	rig_drain(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* The disk is full for good: nobody waits for it without end, nothing is lost, the state shows. */
static void enospc_waits_for_ever(void **state)
{
	(void)state;
	for (uint32_t threads = 0; threads < 2; threads++) {
		struct rig rig;
		int rc = 0;

		rig_zero(&rig);
		rig.o.full_error = true;
		rig.o.threads = threads != 0;
		rig.o.sim_flags = threads ? PC_SIM_THREADED : 0;
		rig_up(&rig);
		mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 1, ENOSPC, MEM_BACKING_FOREVER);
		(void)alarm(120);
		for (uint32_t i = 0; i < 256 && rc == 0; i++) {
			rig_pattern(&rig, rig.scratch, 1024);
			rc = pcache_write(rig.cache, rig.scratch, i * 1024, 1024, 0);
			if (rc == 0)
				memcpy(rig.model + i * 1024, rig.scratch, 1024);
		}
		assert_int_equal(rc, PCACHE_E_FULL);
		rig_flush(&rig);
		assert_int_equal(pcache_drain(rig.cache, NULL, NULL), -ENOSPC);
		assert_true(rig_info(&rig).state_flags & PCACHE_STATE_DEGRADED);
		rig_close(&rig);
		rig_open(&rig);
		rig_check_range(&rig, 0, rig.o.backing_bytes);
		mem_backing_clear_faults(rig.mb);
		rig_drain(&rig);
		(void)alarm(0);
		rig_down(&rig);
	}
}

/* A close in the middle of write-back waits for it; whatever the worker still used is seen by AddressSanitizer. */
static void close_during_writeback_uses_freed_memory(void **state)
{
	struct rig rig;
	uint32_t busy_nr = 0;

	(void)state;
	rig_zero(&rig);
	rig.o.threads = true;
	rig.o.sim_flags = PC_SIM_THREADED;
	rig_up(&rig);
	mem_backing_set_delay(rig.mb, MEM_BACKING_WRITE, 300000);
	for (uint32_t round = 0; round < 20; round++) {
		struct mem_backing_counters before, after;

		for (uint32_t i = 0; i < 24; i++)
			rig_write(&rig, rig_below(&rig, 200) * 1024, 512, 0);
		rig_flush(&rig);
		(void)usleep((useconds_t)rig_below(&rig, 3000));
		mem_backing_get_counters(rig.mb, &before);
		busy_nr += before.in_flight != 0;
		rig_close(&rig);
		mem_backing_get_counters(rig.mb, &before);
		assert_int_equal(before.in_flight, 0);
		(void)usleep(1000);
		mem_backing_get_counters(rig.mb, &after); /* the backing is the caller's again */
		assert_int_equal(after.calls[MEM_BACKING_WRITE], before.calls[MEM_BACKING_WRITE]);
		rig_open(&rig);
		rig_check_range(&rig, 0, rig.o.backing_bytes);
	}
	assert_true(busy_nr > 0);
	rig_down(&rig);
}

/* The disk below has a cache of its own, which a power cut empties: what write-back calls clean is on the disk itself. */
static void volatile_write_cache_under_backing(void **state)
{
	(void)state;
	for (uint32_t ordering = 0; ordering < 2; ordering++) {
		struct rig rig;

		rig_zero(&rig);
		rig.o.ordering = ordering;
		rig_up(&rig);
		for (uint32_t round = 0; round < 20; round++) {
			for (uint32_t i = 0; i < 6; i++)
				rig_write(&rig, rig_below(&rig, 400) * 512, 1024, 0);
			rig_flush(&rig);
			for (uint64_t nr = rig_below(&rig, 5); nr > 0; nr--)
				assert_true(pc_cache_step(rig.cache, PC_STEP_WRITEBACK, true) >= 0);
			mem_backing_crash(rig.mb, NULL, NULL);
			rig_power_cut(&rig);
			rig_open(&rig);
			step_until_idle(&rig, PC_STEP_EVICT); /* what is clean is read from the disk from now on */
			rig_check_all(&rig);
		}
		rig_down(&rig);
	}
}

/* One block written again and again over a dead backing uses up the log, to the last slot that writers get: flushes have slots of their own. */
static void flush_busy_when_full(void **state)
{
	(void)state;
	for (uint32_t page = 0; page < 2; page++) {
		struct rig rig;
		int rc = 0;

		rig_zero(&rig);
		rig.o.granularity = page ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
		rig.o.segment_nr = 12;
		rig.o.ordering = PCACHE_ORDERING_BATCH;
		rig.o.full_error = true;
		rig_up(&rig);
		mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 1, EIO, MEM_BACKING_FOREVER);
		for (uint32_t i = 0; rc == 0 && i < 10000; i++) {
			rig_pattern(&rig, rig.scratch, 512);
			rc = pcache_write(rig.cache, rig.scratch, i % 5 * 512, 512, 0);
			if (rc == 0)
				memcpy(rig.model + i % 5 * 512, rig.scratch, 512);
		}
		assert_int_equal(rc, PCACHE_E_FULL);
		for (uint32_t i = 0; i < 100; i++) {
			rig_flush(&rig);
			rc = pcache_write(rig.cache, rig.scratch, 0, 512,
					  0); /* what a flush took of the log may have room for it */
			if (rc == 0)
				memcpy(rig.model, rig.scratch, 512);
		}
		assert_int_equal(rc, PCACHE_E_FULL);
		rig_flush(&rig);
		rig_power_cut(&rig);
		mem_backing_clear_faults(rig.mb);
		rig_open(&rig);
		rig_check_all(&rig);
		rig_drain(&rig);
		rig_down(&rig);
	}
}

/* Writers come and go, each with a part-filled segment of its own: in a small cache the heads must not hold what the log needs. */
static void pinned_heads_hang_small_cache(void **state)
{
	(void)state;
	for (uint32_t segment_nr = 8; segment_nr <= 64; segment_nr *= 2) {
		struct rig rig;

		rig_zero(&rig);
		rig.o.segment_nr = segment_nr;
		rig.o.data_head_nr = 0; /* as many as the library thinks right */
		rig.o.full_error = true;
		rig_up(&rig);
		assert_in_range(rig.cache->heads.head_nr, 1, PC_MAX(segment_nr / 16, 1u));
		for (uint32_t i = 0; i < 2000; i++) {
			rig_write(&rig, rig_below(&rig, 500) * 512, 512 * (1 + rig_below(&rig, 8)), 0);
			if (i % 100 == 99)
				rig_flush(&rig);
		}
		rig_check_all(&rig);
		rig_drain(&rig);
		rig_down(&rig);
	}
}

/* A full cache writes its data back, and then has room: for ever. */
static void full_never_frees(void **state)
{
	(void)state;
	for (uint32_t ordering = 0; ordering < 2; ordering++) {
		struct rig rig;
		uint32_t full_nr = 0;

		rig_zero(&rig);
		rig.o.ordering = ordering;
		rig_up(&rig);
		for (uint32_t i = 0; i < 2000; i++) {
			const uint64_t off = rig_below(&rig, 250) * 1024;

			rig_pattern(&rig, rig.scratch, 1024);
			if (pcache_write(rig.cache, rig.scratch, off, 1024, PCACHE_NOWAIT) == PCACHE_E_FULL) {
				full_nr++;
				rig_write(&rig, off, 1024, 0);
			} else {
				memcpy(rig.model + off, rig.scratch, 1024);
			}
		}
		assert_true(full_nr > 0);
		rig_check_all(&rig);
		rig_drain(&rig);
		rig_down(&rig);
	}
}

/* ---- durability ------------------------------------------------------------------------------------------------------------ */

/* Whatever the length and the place, nothing of a write that returned is still on its way: no first or last line, no word. */
static void edge_line_not_flushed_unaligned(void **state)
{
	(void)state;
	for (uint32_t no_crc = 0; no_crc < 2; no_crc++) {
		struct rig rig;

		rig_zero(&rig);
		rig.o.no_crc = no_crc;
		rig.o.segment_bytes = 16384;
		rig.o.data_head_nr = 1;
		rig_up(&rig);
		for (uint32_t i = 0; i < 300; i++) {
			const uint64_t off = rig_below(&rig, 400) * 512, len = 512 * (1 + rig_below(&rig, 24));

			if (i % 7 == 0)
				rig_zeroes(&rig, off, len, i % 2);
			else
				rig_write(&rig, off, len, 0);
			assert_int_equal(pc_sim_pending_nr(rig.sim), 0);
		}
		rig_power_cut(&rig);
		rig_open(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* A sync that failed is not forgotten by the time of the close. */
static void close_succeeds_after_failed_flush(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig.o.granularity = PC_GRAN_PAGE;
	rig.o.commit = PCACHE_COMMIT_FLUSH;
	rig_up(&rig);
	rig_write(&rig, 4096, 1024, 0);
	pc_sim_fail_sync(rig.sim, 1, -EIO);
	assert_int_equal(pcache_flush(rig.cache), -EIO);
	assert_true(pcache_close(rig.cache) < 0);
	rig.cache = NULL;
	rig_down(&rig);
}

/* Media offset of the only slot with this position. */
static uint64_t find_slot(struct rig *rig, uint64_t pos)
{
	const uint64_t len = pc_sim_media(rig->sim)->len_bytes;
	uint64_t at, value;

	for (at = 8192; at < len; at += PC_SLOT_BYTES) {
		memcpy(&value, pc_sim_view(rig->sim) + at, sizeof(value));
		if (value == pos)
			return at;
	}
	fail_msg("no slot with position %llu", (unsigned long long)pos);
	return 0;
}

/* A slot of which the second half is missing, with a finished write behind it. Nothing of it is left for a later life to complete. */
static void torn_head_completed_later(void **state)
{
	const uint8_t zeroes[PC_SLOT_BYTES / 2] = { 0 };
	uint8_t torn[PC_SLOT_BYTES], whole[PC_SLOT_BYTES], newer[512];
	struct rig rig;
	uint64_t pos, at;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 4096, 1024, 0);
	rig_flush(&rig);
	pos = rig_info(&rig).log_head;
	rig_pattern(&rig, newer, sizeof(newer));
	assert_int_equal(pcache_write(rig.cache, newer, 4096, 512, 0), 0);
	rig_write(&rig, 16384, 1024, 0);
	rig_kill(&rig);
	at = find_slot(&rig, pos);
	memcpy(whole, pc_sim_view(rig.sim) + at, sizeof(whole));
	pc_sim_damage(rig.sim, at + sizeof(zeroes), zeroes, sizeof(zeroes));
	memcpy(torn, pc_sim_view(rig.sim) + at, sizeof(torn));
	rig_open(&rig);
	rig_check_all(&rig);
	rig_power_cut(&rig);
	/* The other half comes, if the first one is still there to be completed. */
	if (memcmp(pc_sim_view(rig.sim) + at, torn, sizeof(torn)) == 0)
		pc_sim_damage(rig.sim, at, whole, sizeof(whole));
	rig_open(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

struct torn {
	uint64_t len_bytes;
	uint8_t *scratch;
	uint64_t image_nr;
};

/* Both readers find a whole record of every kind. */
static bool records_are_whole(void *user, const uint8_t *image, enum pc_sim_policy policy, uint64_t arg)
{
	const struct check_settings settings = { .no_data = true };
	struct torn *torn = user;
	struct check_result result;
	struct forge_media media;
	struct pc_layout layout;
	struct pc_super super;
	uint32_t bad;

	(void)policy;
	(void)arg;
	torn->image_nr++;
	forge_media_of(&media, image, torn->len_bytes);
	assert_int_equal(check_run(&media.media, &settings, &result), 0);
	assert_int_equal(result.finding_nr[CHECK_DAMAGE], 0);
	assert_int_equal(pc_layout_load_super(&media.media, &super, &bad), 0);
	assert_int_equal(pc_layout_init(&layout, &media.media, &super), 0);
	assert_int_equal(pc_layout_load_records(&layout), 0);
	pc_layout_fini(&layout);
	return true;
}

static void tear(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	const struct pc_sim_explore how = {
		.subset_max = 8, .word_max = 24, .line_max = 24, .random_nr = 4, .seed = 3
	};
	struct torn *torn = user;

	(void)event;
	(void)pc_sim_explore(sim, &how, torn->scratch, records_are_whole, torn);
}

/* Records and their CRCs are stored together, in any order and torn between any two words: a CRC that came first vouches for nothing. */
static void section_crc_before_section(void **state)
{
	struct torn torn = { 0 };
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	torn.len_bytes = pc_sim_media(rig.sim)->len_bytes;
	torn.scratch = malloc(torn.len_bytes);
	assert_non_null(torn.scratch);
	pc_sim_crash_at(rig.sim, 0, tear, &torn);
	for (uint32_t i = 0; i < 40; i++) {
		rig_write(&rig, rig_below(&rig, 60) * 4096, 4096, 0);
		if (i % 10 == 9)
			rig_drain(&rig);
		assert_true(pc_cache_step(rig.cache, PC_STEP_CLEAN, true) >= 0);
	}
	pc_sim_crash_at(rig.sim, 0, NULL, NULL);
	assert_true(torn.image_nr > 500);
	rig_check_all(&rig);
	free(torn.scratch);
	rig_down(&rig);
}

/* ---- extents --------------------------------------------------------------------------------------------------------------- */

/* What lies beside a range that gives way: at once, after a kill, from the backing. */
static void check_everywhere(struct rig *rig)
{
	rig_check_all(rig);
	rig_reopen(rig);
	rig_check_all(rig);
	rig_drain(rig);
	step_until_idle(rig, PC_STEP_EVICT);
	rig_check_all(rig);
}

static void partial_discard_loses_neighbour(void **state)
{
	(void)state;
	for (uint32_t first = 0; first < 12; first++) {
		for (uint32_t len = 1; first + len <= 12; len += 2) {
			struct rig rig;

			rig_zero(&rig);
			rig_up(&rig);
			rig_write(&rig, 8192, 12 * 512, 0);
			rig_zeroes(&rig, 8192 + first * 512, len * 512, (first + len) % 2);
			check_everywhere(&rig);
			rig_down(&rig);
		}
	}
}

static void overlap_split_drops_top_half(void **state)
{
	(void)state;
	for (uint32_t first = 1; first < 11; first += 3) {
		for (uint32_t len = 1; first + len < 12; len += 2) {
			struct rig rig;

			rig_zero(&rig);
			rig_up(&rig);
			rig_write(&rig, 8192, 12 * 512, 0);
			rig_flush(&rig);
			rig_write(&rig, 8192 + first * 512, len * 512, 0);
			check_everywhere(&rig);
			rig_down(&rig);
		}
	}
}

/* Overwritten, erased, cleaned and evicted keys in the log: replay counts what lives in each segment as those who were there did. */
static void references_underflow_after_replay(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	for (uint32_t round = 0; round < 60; round++) {
		for (uint32_t i = 0; i < 8; i++) {
			const uint64_t off = rig_below(&rig, 120) * 512, len = 512 * (1 + rig_below(&rig, 12));

			if (rig_below(&rig, 5) == 0)
				rig_zeroes(&rig, off, len, rig_below(&rig, 2));
			else
				rig_write(&rig, off, len, 0);
		}
		assert_true(pc_cache_step(rig.cache, (enum pc_step)(round % PC_STEP_NR), true) >= 0);
		rig_reopen(&rig);
		rig_check_all(&rig); /* compares the references with the index */
	}
	rig_drain(&rig);
	step_until_idle(&rig, PC_STEP_EVICT);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* ---- sizes ------------------------------------------------------------------------------------------------------------------ */

static int zero_read(void *user, void *buf, uint64_t off, uint64_t len)
{
	(void)user;
	(void)off;
	memset(buf, 0, len);
	return 0;
}

static int any_write(void *user, const void *buf, uint64_t off, uint64_t len)
{
	(void)user;
	(void)buf;
	(void)off;
	(void)len;
	return -EIO; /* it stays in the cache */
}

static struct pcache_backing *huge_backing(struct mem_backing *mb)
{
	const struct pcache_backing_ops ops = { .struct_bytes = sizeof(ops),
						.block_bytes = 512,
						.size_bytes = (PC_KEY_BLK_MASK + 1) * 512,
						.read = zero_read,
						.write = any_write };
	struct pcache_backing *backing;

	(void)mb;
	assert_int_equal(pcache_backing_new(&ops, NULL, &backing), 0);
	return backing;
}

/* Blocks of the largest backing, whose numbers are alike in their low 32, 40 or 47 bits. */
static void blocks_of_a_huge_backing(void)
{
	static const uint64_t blks[] = { 5, UINT64_C(1) << 32 | 5, UINT64_C(1) << 40 | 5, UINT64_C(1) << 47 | 5,
					 PC_KEY_BLK_MASK };
	struct pcache_config *config;
	struct pcache_backing *backing;
	uint8_t block[512], expected[512];
	struct rig rig;

	rig_zero(&rig);
	rig.o.attach = huge_backing;
	config = rig_config(&rig);
	assert_int_equal(pc_sim_new(256u << 10, PC_GRAN_CACHE_LINE, 0, &rig.sim), 0);
	backing = huge_backing(NULL);
	assert_int_equal(pc_cache_format_media(pc_sim_media(rig.sim), config, NULL, backing), 0);
	pcache_backing_free(backing);
	pcache_config_free(config);
	rig_open(&rig);
	for (uint32_t i = 0; i < PC_ARRAY_NR(blks); i++) {
		memset(block, (int)i + 1, sizeof(block));
		assert_int_equal(pcache_write(rig.cache, block, blks[i] * 512, 512, 0), 0);
	}
	for (uint32_t i = 0; i < 2 * PC_ARRAY_NR(blks); i++) {
		if (i == PC_ARRAY_NR(blks))
			rig_reopen(&rig);
		memset(expected, (int)(i % PC_ARRAY_NR(blks)) + 1, sizeof(expected));
		assert_int_equal(pcache_read(rig.cache, block, blks[i % PC_ARRAY_NR(blks)] * 512, 512, 0), 0);
		assert_memory_equal(block, expected, sizeof(block));
	}
	rig_down(&rig);
}

/* The largest cache and the largest backing: no number is cut short. */
static void id_overflow_on_big_cache(void **state)
{
	const uint32_t last = PC_SEGMENT_NR_MAX - 1;
	struct pc_super super = { 0 };
	struct pc_key key = { .vol_blk = PC_KEY_BLK_MASK,
			      .gen = UINT64_MAX,
			      .seg_id = last,
			      .len_blk = 1,
			      .seg_blk = 32767 },
		      again;
	struct pcm_key cell;

	(void)state;
	assert_int_equal(pc_geo_plan((UINT64_C(256) << 40) + (UINT64_C(4) << 30), PC_SEGMENT_BYTES_MAX, 512, &super),
			 0);
	assert_int_equal(super.segment_nr, PC_SEGMENT_NR_MAX);
	assert_true(pc_geo_check(&super));
	for (uint32_t shift = 0; shift < 24; shift++) {
		const uint32_t id = last >> shift;
		const uint64_t off = super.data_off + ((uint64_t)id << 24);

		assert_true(pc_geo_segment_off(&super, id) == off && off < super.zone_b_off);
		assert_true(pc_geo_segrec_off(&super, 0, id) == 8192 + ((uint64_t)id << 6));
		assert_true(pc_geo_segrec_off(&super, 1, id) == super.zone_b_off + ((uint64_t)id << 6));
	}
	pc_key_encode(&key, &cell);
	pc_key_decode(&cell, &again);
	assert_true(again.vol_blk == key.vol_blk && again.seg_id == last && again.seg_blk == key.seg_blk &&
		    again.gen == key.gen);
	assert_true(PC_ORDINAL_MAX * pc_geo_slots_per_segment(&super) / pc_geo_slots_per_segment(&super) ==
		    PC_ORDINAL_MAX);
	blocks_of_a_huge_backing();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gc_error_stops_gc_for_ever),
		cmocka_unit_test(enospc_waits_for_ever),
		cmocka_unit_test(close_during_writeback_uses_freed_memory),
		cmocka_unit_test(volatile_write_cache_under_backing),
		cmocka_unit_test(flush_busy_when_full),
		cmocka_unit_test(pinned_heads_hang_small_cache),
		cmocka_unit_test(full_never_frees),
		cmocka_unit_test(edge_line_not_flushed_unaligned),
		cmocka_unit_test(torn_head_completed_later),
		cmocka_unit_test(close_succeeds_after_failed_flush),
		cmocka_unit_test(section_crc_before_section),
		cmocka_unit_test(partial_discard_loses_neighbour),
		cmocka_unit_test(overlap_split_drops_top_half),
		cmocka_unit_test(references_underflow_after_replay),
		cmocka_unit_test(id_overflow_on_big_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
