/* SPDX-License-Identifier: BSD-3-Clause */
/* Reads: fills and what cancels them, and data that does not have its CRC any more. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/rig.h"

static uint64_t backing_reads(struct rig *rig)
{
	struct mem_backing_counters counters;

	mem_backing_get_counters(rig->mb, &counters);
	return counters.calls[MEM_BACKING_READ];
}

static void miss_is_kept(void **state)
{
	struct rig rig;
	uint64_t before;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_check_range(&rig, 4096, 8192);
	before = backing_reads(&rig);
	assert_true(before > 0);
	rig_check_range(&rig, 4096, 8192);
	rig_check_range(&rig, 5120, 512);
	assert_int_equal(backing_reads(&rig), before);
	assert_int_equal(rig_info(&rig).dirty_bytes, 0);
	rig_reopen(&rig); /* also over a kill */
	rig_check_range(&rig, 4096, 8192);
	assert_int_equal(backing_reads(&rig), before);
	/* Not with the flag, and not without the option. */
	assert_int_equal(pcache_read(rig.cache, rig.scratch, 65536, 512, PCACHE_NOCACHE), 0);
	before = backing_reads(&rig);
	rig_check_range(&rig, 65536, 512);
	assert_int_equal(backing_reads(&rig), before + 1);
	rig_kill(&rig);
	rig.o.no_read_cache = true;
	rig_open(&rig);
	rig_check_range(&rig, 131072, 512);
	before = backing_reads(&rig);
	rig_check_range(&rig, 131072, 512);
	assert_int_equal(backing_reads(&rig), before + 1);
	rig_down(&rig);
}

/* Every mixture of hits, gaps, zeroes and fragments in one read. */
/* Small fills must not take the room that a large write waits for. */
static void nothing_is_kept_while_a_writer_waits(void **state)
{
	struct rig rig;
	uint64_t before;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	atomic_fetch_add(&rig.cache->space.waiting_nr, 1);
	rig_check_range(&rig, 4096, 8192);
	before = backing_reads(&rig);
	rig_check_range(&rig, 4096, 8192);
	assert_true(backing_reads(&rig) > before);
	atomic_fetch_sub(&rig.cache->space.waiting_nr, 1);
	rig_check_range(&rig, 4096, 8192);
	before = backing_reads(&rig);
	rig_check_range(&rig, 4096, 8192);
	assert_int_equal(backing_reads(&rig), before);
	rig_down(&rig);
}

static void mixed_read(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 0, 8192, 0);
	rig_write(&rig, 1536, 512, 0);
	rig_zeroes(&rig, 2560, 1024, false);
	rig_check_range(&rig, 12288, 1024);
	rig_write(&rig, 12288 + 512, 4096, 0);
	for (uint64_t off = 0; off < 20480; off += 512)
		for (uint64_t len = 512; len <= 9 * 512; len += 512)
			rig_check_range(&rig, off, len);
	rig_check_all(&rig);
	rig_down(&rig);
}

struct intruder {
	struct rig *rig;
	uint64_t off;
	uint64_t len;
	uint32_t kind; /* 0 write, 1 discard */
	int rc;
	bool done;
};

static void *intrude(void *arg)
{
	struct intruder *in = arg;

	in->rc = in->kind ? pcache_discard(in->rig->cache, in->off, in->len, 0)
			  : pcache_write(in->rig->cache, in->rig->model + in->off, in->off, in->len, 0);
	return NULL;
}

/* In the middle of a miss, another thread changes a part of the range, and is done before the backing answers (with the older bytes). */
static int on_backing(void *user, enum mem_backing_op op, uint64_t off, uint64_t len, const void *buf)
{
	struct intruder *in = user;
	pthread_t thread;

	(void)off, (void)len, (void)buf;
	if (op != MEM_BACKING_READ || in->done)
		return 0;
	in->done = true;
	assert_int_equal(pthread_create(&thread, NULL, intrude, in), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	return 0;
}

static void fill_loses_against(uint32_t kind, uint64_t off, uint64_t len, bool again)
{
	struct intruder in = { .off = off, .len = len, .kind = kind };
	struct rig rig;
	uint64_t reads;

	rig_zero(&rig);
	rig.o.sim_flags = PC_SIM_THREADED;
	rig_up(&rig);
	in.rig = &rig;
	if (kind)
		memset(rig.model + off, 0, len);
	else
		rig_pattern(&rig, rig.model + off, len);
	mem_backing_observe(rig.mb, on_backing, &in);
	rig_check_range(&rig, 8192, 4096);
	assert_true(in.done);
	assert_int_equal(in.rc, 0);
	reads = backing_reads(&rig);
	assert_int_equal(reads > 1, again); /* a cancelled fill leaves gaps, one that nobody met is kept */
	rig_check_range(&rig, 8192, 4096);
	assert_int_equal(backing_reads(&rig), reads);
	rig_check_range(&rig, 0, 32768);
	rig_reopen(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

static void fill_overwrites_a_newer_write(void **state)
{
	(void)state;
	fill_loses_against(0, 8192, 4096, false);
	fill_loses_against(0, 8192 + 512, 512, true);
	fill_loses_against(0, 8192 + 3584, 1024, true);
	fill_loses_against(0, 4096, 4096 + 512, true);
	fill_loses_against(1, 8192 + 1024, 512, true);
	fill_loses_against(1, 0, 65536, false);
	fill_loses_against(0, 12288, 512, false);
	fill_loses_against(1, 0, 8192, false);
}

static void backing_error_of_a_miss(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	mem_backing_fail(rig.mb, MEM_BACKING_READ, 1, EIO, MEM_BACKING_ONCE);
	assert_int_equal(pcache_read(rig.cache, rig.scratch, 0, 512, 0), -EIO);
	assert_int_equal(rig_info(&rig).backing_errors, 1);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* Clean data with a wrong CRC comes from the backing again, and the caller sees nothing of it. */
/* ---- a segment that is reused while it is read ---------------------------------------------------------------------------- */

/* Media whose first loads give garbage, and whose segments are somebody else's by then. */
static struct {
	struct pc_media_ops ops;
	const struct pc_media_ops *plain;
	struct pcache *cache;
	uint32_t load_nr, reuse_nr, pinned_nr;
} reuse;

static int load_while_reused(struct pc_media *media, uint64_t media_off, void *dst, size_t len)
{
	bool pinned = false;

	for (uint32_t i = 0; i < reuse.cache->map.segment_nr; i++) {
		struct pc_seg *seg = &reuse.cache->map.segs[i];

		pinned |= atomic_load(&seg->pins) != 0;
		if (reuse.load_nr < reuse.reuse_nr)
			atomic_fetch_add(&seg->gen, 1);
	}
	reuse.pinned_nr += pinned;
	if (reuse.load_nr++ >= reuse.reuse_nr)
		return reuse.plain->load(media, media_off, dst, len);
	memset(dst, 0xee, len);
	return 0;
}

static void reused_while_it_is_read(bool crc, uint64_t len)
{
	uint64_t offset = 3 * 4096;
	struct rig rig;

	rig_zero(&rig);
	rig.o.no_crc = !crc;
	rig_up(&rig);
	for (uint64_t at = 0; at < len; at += 4096)
		rig_write(&rig, offset + at, 4096, 0);
	for (uint32_t reuse_nr = 0; reuse_nr <= 1; reuse_nr++) {
		reuse.cache = rig.cache;
		reuse.plain = rig.cache->media->ops;
		reuse.ops = *reuse.plain;
		reuse.ops.load = load_while_reused;
		reuse.load_nr = reuse.pinned_nr = 0;
		reuse.reuse_nr = reuse_nr;
		rig.cache->media->ops = &reuse.ops;
		rig.cache->media->guarded = true;
		rig_check_range(&rig, offset, len);
		rig.cache->media->ops = reuse.plain;
		assert_true(reuse.load_nr > reuse_nr);
		/* Without trouble there is no pin; with trouble the second try has pins. */
		assert_true(reuse_nr ? reuse.pinned_nr > 0 : reuse.pinned_nr == 0);
		for (uint32_t i = 0; i < rig.cache->map.segment_nr; i++)
			assert_int_equal(atomic_load(&rig.cache->map.segs[i].pins), 0);
	}
	assert_int_equal(rig_info(&rig).crc_errors, 0);
	assert_int_equal(rig_info(&rig).segments_quarantined, 0);
	rig_down(&rig);
}

static void no_bytes_of_another_life(void **state)
{
	(void)state;
	reused_while_it_is_read(false, 4096);
	reused_while_it_is_read(true, 4096);
	reused_while_it_is_read(false, 5 * 4096);
	reused_while_it_is_read(true, 5 * 4096);
}

static void damaged_clean_data(void **state)
{
	struct rig rig;
	uint64_t before;

	(void)state;
	for (uint32_t written = 0; written < 2; written++) {
		rig_zero(&rig);
		rig_up(&rig);
		if (written) {
			rig_write(&rig, 4096, 4096, 0);
			rig_drain(&rig);
		} else {
			rig_check_range(&rig, 4096, 4096);
		}
		rig_flip(&rig, rig_find(&rig, 5120) + 17);
		before = backing_reads(&rig);
		rig_check_range(&rig, 4096, 512);
		rig_check_range(&rig, 4096, 4096);
		assert_true(backing_reads(&rig) > before);
		assert_true(rig_info(&rig).crc_errors >= 1);
		rig_check_all(&rig);
		rig_reopen(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* The CRC of a chunk tells also for what is left of it after it was cut. */
static void damaged_fragment(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 4096, 4096, 0);
	rig_write(&rig, 4096 + 1024, 1024, 0);
	rig_reopen(&rig);
	rig_flip(&rig, rig_find(&rig, 4096 + 512));
	assert_int_equal(pcache_read(rig.cache, rig.scratch, 4096, 512, 0), PCACHE_E_POISONED);
	assert_int_equal(pcache_read(rig.cache, rig.scratch, 4096 + 512, 512, 0), PCACHE_E_POISONED);
	rig_check_range(&rig, 4096 + 1024, 1024);
	rig_check_range(&rig, 0, 4096);
	rig_check_range(&rig, 8192, 4096);
	rig_down(&rig);
}

/* Dirty data with a wrong CRC is lost, and says so, in exactly its chunk, until it is overwritten. */
static void damaged_dirty_data(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 0, 4096, 0);
	rig_write(&rig, 4096, 4096, 0);
	rig_write(&rig, 8192, 4096, 0);
	rig_flush(&rig); /* below the mark: a kill must not take it for unfinished */
	rig_flip(&rig, rig_find(&rig, 6144));
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(pcache_read(rig.cache, rig.scratch, 4096, 512, 0), PCACHE_E_POISONED);
		assert_int_equal(pcache_read(rig.cache, rig.scratch, 0, 16384, 0), PCACHE_E_POISONED);
		rig_check_range(&rig, 0, 4096);
		rig_check_range(&rig, 8192, 8192);
		rig_reopen(&rig);
	}
	rig_write(&rig, 4096, 4096, 0);
	rig_check_all(&rig);
	rig_drain(&rig);
	rig_down(&rig);
}

/* Write-back goes on past damaged data; the blocks read as poisoned ever after, whatever becomes of the log, and an overwrite cures. */
static void write_back_past_damaged_data(void **state)
{
	uint8_t before[4096];
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_check_range(&rig, 4096, 4096);
	memcpy(before, rig.model + 4096, 4096);
	rig_write(&rig, 0, 4096, 0);
	rig_write(&rig, 4096, 4096, 0);
	rig_flush(&rig);
	rig_write(&rig, 8192, 4096, 0);
	rig_flush(&rig);
	rig_flip(&rig, rig_find(&rig, 6144));
	assert_int_equal(pcache_drain(rig.cache, NULL, NULL), PCACHE_E_POISONED);
	assert_memory_equal(mem_backing_durable(rig.mb), rig.model, 4096);
	assert_memory_equal(mem_backing_durable(rig.mb) + 8192, rig.model + 8192, 4096);
	assert_memory_equal(mem_backing_durable(rig.mb) + 4096, before, 4096); /* damaged bytes reach no one */
	for (uint32_t round = 0; round < 4; round++) {
		for (uint64_t blk = 0; blk < 8; blk++)
			assert_int_equal(pcache_read(rig.cache, rig.scratch, 4096 + blk * 512, 512, 0),
					 PCACHE_E_POISONED);
		rig_check_range(&rig, 0, 4096);
		rig_check_range(&rig, 8192, 8192);
		if (round == 1)
			rig_reopen(&rig);
		/* The log moves on and is cleaned, data is evicted. */
		for (uint32_t i = 0; i < 300; i++)
			rig_write(&rig, 32768 + rig_below(&rig, 64) * 512, 512, 0);
		for (uint32_t i = 0; i < 20; i++) {
			assert_true(pc_cache_step(rig.cache, PC_STEP_WRITEBACK, true) >= 0);
			assert_true(pc_cache_step(rig.cache, PC_STEP_CLEAN, true) >= 0);
			assert_true(pc_cache_step(rig.cache, PC_STEP_EVICT, true) >= 0);
		}
	}
	assert_true(rig_info(&rig).cleaned_segments > 0);
	/* A part is cured by a write of that part, the rest by zeroes. */
	rig_write(&rig, 4096, 512, 0);
	rig_check_range(&rig, 4096, 512);
	assert_int_equal(pcache_read(rig.cache, rig.scratch, 4096 + 512, 512, 0), PCACHE_E_POISONED);
	rig_zeroes(&rig, 4096 + 512, 3584, false);
	rig_check_all(&rig);
	rig_drain(&rig);
	rig_down(&rig);
}

/* Damage in a range that a later range of the same batch covers is nobody's loss. */
static void damage_under_a_later_range(void **state)
{
	uint8_t bytes[8192];
	struct pcache_range ranges[2] = { { .buf = bytes, .off = 4096, .len = 4096 },
					  { .buf = bytes + 4096, .off = 4096, .len = 4096 } };
	struct rig rig;
	uint64_t at;

	(void)state;
	rig_zero(&rig);
	rig.o.segment_bytes = 16384;
	rig_up(&rig);
	rig_pattern(&rig, bytes, sizeof(bytes));
	memcpy(rig.model + 4096, bytes, 4096);
	assert_int_equal(pcache_write_batch(rig.cache, ranges, 2, 0), 0);
	at = rig_find(&rig, 4096);
	memcpy(rig.model + 4096, bytes + 4096, 4096);
	rig_flush(&rig);
	rig_flip(&rig, at);
	rig_check_all(&rig);
	rig_drain(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(miss_is_kept),
		cmocka_unit_test(nothing_is_kept_while_a_writer_waits),
		cmocka_unit_test(mixed_read),
		cmocka_unit_test(fill_overwrites_a_newer_write),
		cmocka_unit_test(backing_error_of_a_miss),
		cmocka_unit_test(no_bytes_of_another_life),
		cmocka_unit_test(damaged_clean_data),
		cmocka_unit_test(damaged_fragment),
		cmocka_unit_test(damaged_dirty_data),
		cmocka_unit_test(write_back_past_damaged_data),
		cmocka_unit_test(damage_under_a_later_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
