/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replay is position order, and open makes true what it shows. Each test leaves media as a crash, or damage, would, and opens it again.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/rig.h"
#include "format/format.h"

static uint64_t head(struct rig *rig)
{
	return atomic_load(&rig->cache->log.head);
}

static uint64_t slot_off(struct rig *rig, uint64_t pos)
{
	return pc_log_media_off(&rig->cache->log, pos);
}

static uint64_t image_hash(struct rig *rig)
{
	return pc_sim_image_hash(pc_sim_view(rig->sim), pc_sim_media(rig->sim)->len_bytes);
}

/* The kset at pos, of the open cache. */
static enum pc_valid kset_at(struct rig *rig, uint64_t pos, struct pc_kset *out_kset)
{
	struct pc_log_reader reader;
	const void *buf;
	enum pc_valid valid;

	assert_int_equal(pc_log_reader_init(&reader, &rig->cache->log), 0);
	valid = pc_log_reader_at(&reader, pos, head(rig), out_kset, &buf);
	pc_log_reader_fini(&reader);
	return valid;
}

/* A key whose segment was used again carries no data, but it still masks the older key of its range. */
static void stale_key_masks(void **state)
{
	struct rig rig;
	uint32_t x, y;
	uint64_t gen;

	(void)state;
	rig_zero(&rig);
	rig.o.segment_nr = 48;
	rig_up(&rig);
	rig_write(&rig, 0, 512, 0); /* segment x: the older version, and others that keep it live */
	rig_write(&rig, 65536, 3584, 0);
	x = (uint32_t)((rig_find(&rig, 0) - rig.cache->layout.super.data_off) / 4096);
	rig_write(&rig, 0, 512, 0); /* segment y: the newer version */
	rig_write(&rig, 81920, 3584, 0);
	y = (uint32_t)((rig_find(&rig, 0) - rig.cache->layout.super.data_off) / 4096);
	assert_int_not_equal(x, y);
	rig_write(&rig, 98304, 512, 0);
	rig_drain(&rig);
	for (uint32_t id = 0; id < 48; id++)
		atomic_store(&rig.cache->map.segs[id].touched, id != y);
	gen = atomic_load(&rig.cache->map.segs[y].gen);
	assert_int_equal(pc_cache_step(rig.cache, PC_STEP_EVICT, true), 1);
	assert_true(pc_segmap_live_blk(&rig.cache->map, x) != 0);
	assert_int_equal(atomic_load(&rig.cache->map.segs[y].state), PC_SS_FREE);
	for (uint32_t i = 0; atomic_load(&rig.cache->map.segs[y].gen) == gen; i++) {
		assert_true(i < 400); /* free segments are taken in turn */
		rig_write(&rig, 114688 + i % 8 * 512, 512, 0);
	}
	rig_reopen(&rig);
	assert_true(pc_segmap_live_blk(&rig.cache->map, x) != 0);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* The last slot is torn: the write never happened, and it never comes back, also if the missing bytes do. */
static void torn_slot_at_the_end(void **state)
{
	uint8_t newer[512];
	struct pc_kset kset;
	struct rig rig;
	uint64_t pos, off;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 4096, 1024, 0);
	rig_flush(&rig);
	pos = head(&rig);
	rig_pattern(&rig, newer, sizeof(newer));
	assert_int_equal(pcache_write(rig.cache, newer, 4096, 512, 0), 0);
	assert_int_equal(head(&rig), pos + 1);
	off = slot_off(&rig, pos) + 40;
	rig_kill(&rig);
	rig_flip(&rig, off);
	rig_open(&rig);
	rig_check_all(&rig);
	assert_true(head(&rig) > pos);
	/* The open used the position for something else. */
	assert_int_equal(kset_at(&rig, pos, &kset), PC_VALID);
	assert_int_not_equal(kset.type, PC_KSET_KEYS);
	rig_reopen(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* Page granularity: the mark of a flush cannot speak for what its own sync commits; the next one does. */
static void page_mark_tells_damage_from_a_torn_end(void **state)
{
	(void)state;
	for (uint32_t flushes = 1; flushes <= 2; flushes++) {
		struct rig rig;
		uint64_t pos, off;

		rig_zero(&rig);
		rig.o.granularity = PC_GRAN_PAGE;
		rig.o.segment_bytes = 16384;
		rig_up(&rig);
		rig_write(&rig, 8192, 512, 0);
		rig_flush(&rig);
		memcpy(rig.scratch, rig.model + 8192, 512);
		pos = head(&rig);
		rig_write(&rig, 8192, 512, 0);
		rig_flush(&rig);
		if (flushes == 2) {
			rig_write(&rig, 16384, 512, 0);
			rig_flush(&rig);
		}
		off = slot_off(&rig, pos) + 40;
		rig_kill(&rig);
		rig_flip(&rig, off);
		if (flushes == 2) {
			assert_int_equal(rig_try_open(&rig), PCACHE_E_CORRUPT);
			rig_flip(&rig, off);
		} else {
			memcpy(rig.model + 8192, rig.scratch, 512);
		}
		rig_open(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* A hole above the mark, with finished writes behind it: it becomes a void kset, the others stand. */
static void hole_above_the_mark(void **state)
{
	uint8_t lost[512];
	struct pc_kset kset;
	struct rig rig;
	uint64_t pos, off;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 4096, 1024, 0);
	rig_flush(&rig);
	pos = head(&rig);
	rig_pattern(&rig, lost, sizeof(lost));
	assert_int_equal(pcache_write(rig.cache, lost, 4096, 512, 0), 0);
	rig_write(&rig, 8192, 512, 0);
	rig_write(&rig, 4096 + 512, 512, 0);
	assert_int_equal(head(&rig), pos + 3);
	off = slot_off(&rig, pos) + 33;
	rig_kill(&rig);
	rig_flip(&rig, off);
	rig_open(&rig);
	rig_check_all(&rig);
	assert_int_equal(kset_at(&rig, pos, &kset), PC_VALID);
	assert_int_equal(kset.type, PC_KSET_VOID);
	assert_int_equal(kset.slot_nr, 1);
	rig_reopen(&rig);
	rig_check_all(&rig);
	rig_drain(&rig);
	rig_down(&rig);
}

/* A slot below the mark was durable: that it does not validate is damage. It is reported, and nothing is stored anywhere. */
static void hole_below_the_mark(void **state)
{
	(void)state;
	for (uint32_t way = 0; way < 3; way++) {
		struct mem_backing_counters counters;
		struct rig rig;
		uint64_t pos, off, hash;

		rig_zero(&rig);
		rig_up(&rig);
		pos = head(&rig);
		rig_write(&rig, 4096, 512, 0);
		rig_write(&rig, 8192, 512, 0);
		if (way == 0)
			rig_flush(&rig);
		off = slot_off(&rig, pos) + 12;
		if (way == 1)
			rig_reopen(&rig); /* what an open has shown */
		if (way == 2)
			rig_close(&rig);
		else
			rig_kill(&rig);
		rig_flip(&rig, off);
		hash = image_hash(&rig);
		assert_int_equal(rig_try_open(&rig), PCACHE_E_CORRUPT);
		assert_int_equal(image_hash(&rig), hash);
		assert_int_equal(rig_try_open(&rig), PCACHE_E_CORRUPT);
		mem_backing_get_counters(rig.mb, &counters);
		assert_int_equal(counters.calls[MEM_BACKING_WRITE], 0);
		assert_true(rig.messages[PCACHE_LOG_ERROR] != 0);
		rig_flip(&rig, off);
		rig_open(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* All of the log behind the mark is gone: the log ends before its mark. */
static void log_ends_before_its_mark(void **state)
{
	uint8_t zeroes[4096] = { 0 };
	struct rig rig;
	uint64_t pos, off;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	pos = head(&rig);
	rig_write(&rig, 4096, 512, 0);
	off = slot_off(&rig, pos);
	rig_close(&rig); /* the tail record carries the mark */
	pc_sim_damage(rig.sim, off, zeroes, 64 * 3);
	assert_int_equal(rig_try_open(&rig), PCACHE_E_CORRUPT);
	rig_down(&rig);
}

/* A whole slot whose data is not: the batch is rejected as a whole, masks nothing, and is gone for ever. */
static void valid_slot_with_bad_data(void **state)
{
	uint8_t bytes[2048];
	struct pcache_range ranges[2] = { { .buf = bytes, .off = 4096, .len = 1024 },
					  { .buf = bytes + 1024, .off = 20480, .len = 1024 } };

	(void)state;
	for (uint32_t which = 0; which < 2; which++) {
		struct pc_kset kset;
		struct rig rig;
		uint64_t pos, at = UINT64_MAX;

		rig_zero(&rig);
		rig.o.segment_bytes = 16384; /* nothing below takes a segment, which would set a mark */
		rig_up(&rig);
		rig_write(&rig, 4096, 512, 0);
		rig_write(&rig, 20480, 2048, 0);
		rig_flush(&rig);
		pos = head(&rig);
		rig_pattern(&rig, bytes, sizeof(bytes));
		assert_int_equal(pcache_write_batch(rig.cache, ranges, 2, 0), 0);
		rig_write(&rig, 40960, 512, 0);
		for (uint64_t i = 0; i + 512 <= pc_sim_media(rig.sim)->len_bytes; i += 512)
			if (memcmp(pc_sim_view(rig.sim) + i, bytes + which * 1024, 512) == 0)
				at = i;
		assert_true(at != UINT64_MAX);
		rig_kill(&rig);
		rig_flip(&rig, at + 100);
		rig_open(&rig);
		rig_check_all(&rig);
		assert_int_equal(kset_at(&rig, pos, &kset), PC_VALID);
		assert_int_equal(kset.type, PC_KSET_VOID);
		assert_int_equal(rig_info(&rig).dirty_bytes, 512 + 2048 + 512);
		rig_kill(&rig);
		rig_flip(&rig, at + 100); /* the missing word arrives after all */
		rig_open(&rig);
		rig_check_all(&rig);
		rig_drain(&rig);
		rig_down(&rig);
	}
}

/* A key that cleaning appended again was durable before, so a wrong CRC is damage: the kset stands, its neighbours live, the read fetches again. */
static void bad_data_of_a_key_appended_again(void **state)
{
	struct rig rig;
	uint64_t pos = 0, at;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 0, 4096, 0);
	rig_write(&rig, 8192, 512, 0);
	/* Until the segment is full, so that it can be cleaned. */
	while (head(&rig) % 64 < 60 || head(&rig) / 64 < 2)
		rig_write(&rig, 16384 + head(&rig) % 8 * 512, 512, 0);
	for (uint32_t i = 0; i < 8; i++)
		rig_write(&rig, 24576, 512, 0);
	rig_drain(&rig);
	pos = head(&rig);
	assert_int_equal(pc_cache_step(rig.cache, PC_STEP_CLEAN, true), 1);
	assert_true(head(&rig) > pos);
	at = rig_find(&rig, 512);
	rig_kill(&rig);
	rig_flip(&rig, at);
	rig_open(&rig);
	assert_true(rig_info(&rig).clean_bytes >= 4096 + 512);
	rig_check_all(&rig);
	assert_true(rig_info(&rig).crc_errors >= 1);
	rig_down(&rig);
}

/* A kset of several slots of which one is missing. */
static void incomplete_kset(void **state)
{
	uint8_t bytes[8 * 512];
	struct pcache_range ranges[8];
	uint8_t zeroes[64] = { 0 };
	struct rig rig;
	uint64_t pos, off, slot_nr;

	(void)state;
	for (uint32_t missing = 0; missing < 4; missing++) {
		rig_zero(&rig);
		rig.o.segment_bytes = 65536;
		rig_up(&rig);
		rig_write(&rig, 0, 8192, 0);
		rig_flush(&rig);
		pos = head(&rig);
		rig_pattern(&rig, bytes, sizeof(bytes));
		for (uint32_t i = 0; i < 8; i++)
			ranges[i] = (struct pcache_range){ .buf = bytes + i * 512, .off = i * 1024, .len = 512 };
		assert_int_equal(pcache_write_batch(rig.cache, ranges, 8, 0), 0);
		slot_nr = head(&rig) - pos;
		assert_true(slot_nr >= 4);
		off = slot_off(&rig, pos) + (uint64_t)missing * 64;
		rig_kill(&rig);
		pc_sim_damage(rig.sim, off, zeroes, 64);
		rig_open(&rig);
		rig_check_all(&rig);
		rig_reopen(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* Behind the end lies a slot that says it is of this life of the segment: it must not be there when the head comes by. */
static void torn_slot_past_the_end(void **state)
{
	uint8_t slot[64], zeroes[64] = { 0 };
	struct rig rig;
	uint64_t pos, off;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 0, 512, 0);
	pos = head(&rig) + 10;
	off = slot_off(&rig, pos);
	pc_kset_encode_mark(slot, pos, pc_log_seg(&rig.cache->log, pos)->nonce, PC_KSET_FLAG_FLUSH, pos);
	slot[63] ^= 1; /* torn */
	rig_kill(&rig);
	pc_sim_damage(rig.sim, off, slot, sizeof(slot));
	rig_open(&rig);
	assert_memory_equal(pc_sim_view(rig.sim) + off, zeroes, 64);
	assert_memory_equal(pc_sim_durable(rig.sim) + off, zeroes, 64);
	rig_check_all(&rig);
	rig_down(&rig);
}

struct stray {
	struct rig *rig;
	uint64_t pos;
	const void *slot;
};

/* In a thread of its own, because nobody else's fence covers what it copied. */
static void *store_without_fence(void *arg)
{
	struct stray *stray = arg;

	pc_log_store(&stray->rig->cache->log, stray->pos, stray->slot, 1);
	return NULL;
}

/* A killed process left a whole kset in the CPU caches. What the open accepts and shows, a power cut right after it does not take back. */
static void accepted_is_made_durable(void **state)
{
	_Alignas(64) uint8_t slot[PC_SLOT_BYTES] = { 0 };
	struct pc_key key = { .vol_blk = 16, .len_blk = 4, .flags = PC_KEY_ZERO };
	struct stray stray = { .slot = slot };
	struct pc_log *log;
	struct rig rig;
	pthread_t thread;

	(void)state;
	rig_zero(&rig);
	rig.o.sim_flags = PC_SIM_THREADED;
	rig_up(&rig);
	rig_write(&rig, 8192, 2048, 0);
	log = &rig.cache->log;
	stray.rig = &rig;
	assert_int_equal(pc_log_reserve(log, 0, 1, PC_LOG_WRITER, &stray.pos), 0);
	pc_key_encode(&key, (struct pcm_key *)(void *)(slot + PC_CELL_BYTES));
	pc_kset_seal(slot, stray.pos, pc_log_seg(log, stray.pos)->nonce, 1, 1);
	assert_int_equal(pthread_create(&thread, NULL, store_without_fence, &stray), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(pc_sim_pending_nr(rig.sim) != 0);
	rig_kill(&rig);
	rig_open(&rig);
	memset(rig.model + 8192, 0, 2048);
	rig_check_all(&rig);
	rig_power_cut(&rig);
	rig_open(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

static void dirty_tail_tells_clean_from_dirty(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 0, 2048, 0);
	rig_check_range(&rig, 32768, 4096); /* a fill: clean, wherever the dirty tail is */
	rig_flush(&rig);
	assert_int_equal(rig_info(&rig).dirty_bytes, 2048);
	rig_drain(&rig);
	rig_write(&rig, 16384, 1024, 0);
	rig_check_range(&rig, 65536, 512);
	assert_int_equal(rig_info(&rig).dirty_bytes, 1024);
	for (uint32_t i = 0; i < 3; i++) {
		rig_reopen(&rig);
		assert_int_equal(rig_info(&rig).dirty_bytes, 1024);
		assert_int_equal(rig_info(&rig).clean_bytes, 2048 + 4096 + 512);
	}
	rig_check_all(&rig);
	rig_drain(&rig);
	rig_reopen(&rig);
	assert_int_equal(rig_info(&rig).dirty_bytes, 0);
	rig_check_all(&rig);
	rig_down(&rig);
}

static void zero_keys(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 0, 8192, 0);
	rig_zeroes(&rig, 512, 1024, true); /* cuts data */
	rig_zeroes(&rig, 100 * 512, 40 * 512, false); /* over a gap, across stripes */
	rig_write(&rig, 110 * 512, 1024, 0); /* is cut */
	for (uint32_t i = 0; i < 2; i++) {
		rig_reopen(&rig);
		rig_check_all(&rig);
		assert_int_equal(rig_info(&rig).dirty_bytes, 8192 + 40 * 512);
	}
	rig_drain(&rig);
	rig_reopen(&rig);
	assert_int_equal(rig_info(&rig).dirty_bytes, 0);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* Opening changes nothing of what there is, and costs the log at most its mark. */
static void replay_is_idempotent(void **state)
{
	(void)state;
	for (uint32_t page = 0; page < 2; page++) {
		struct pcache_info first, last;
		struct rig rig;

		rig_zero(&rig);
		rig.o.granularity = page ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
		rig.o.segment_bytes = 16384;
		rig_up(&rig);
		for (uint32_t i = 0; i < 100; i++)
			rig_write(&rig, rig_below(&rig, 200) * 512, 512 * (1 + rig_below(&rig, 3)), 0);
		rig_zeroes(&rig, 4096, 8192, true);
		rig_reopen(&rig);
		first = rig_info(&rig);
		for (uint32_t i = 0; i < 20; i++) {
			rig_reopen(&rig);
			assert_null(pc_cache_check(rig.cache));
		}
		last = rig_info(&rig);
		assert_int_equal(last.dirty_bytes, first.dirty_bytes);
		assert_int_equal(last.log_tail, first.log_tail);
		assert_int_equal(last.log_dirty_tail, first.log_dirty_tail);
		assert_true(last.log_head - first.log_head <= 20u * (page ? 64 : 1));
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* The first kset behind what an open recovered ends an epoch, in the log, not in memory alone. */
static void assert_open_left_a_mark(struct rig *rig)
{
	uint64_t pos = atomic_load(&rig->cache->open_epoch_pos);
	struct pc_kset kset = { 0 };

	/* Cleaning may have come between, to make room for the mark. */
	for (; pos < head(rig) && !(kset.type == PC_KSET_MARK && kset.flags == PC_KSET_FLAG_FLUSH); pos += kset.slot_nr)
		assert_int_equal(kset_at(rig, pos, &kset), PC_VALID);
	assert_int_equal(kset.type, PC_KSET_MARK);
	assert_int_equal(kset.flags, PC_KSET_FLAG_FLUSH);
}

/* A thousand crashes in a row with nothing else happening leave room to write, to flush and to drain; and every open finds a slot for its mark. */
static void thousand_opens(void **state)
{
	(void)state;
	for (uint32_t shape = 0; shape < 8; shape++) {
		struct rig rig;

		rig_zero(&rig);
		rig.o.granularity = shape & 1 ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
		rig.o.segment_nr = shape & 2 ? 16 : 8;
		rig.o.no_crc = (shape & 4) != 0;
		rig_up(&rig);
		rig_write(&rig, 0, 1024, 0);
		rig_zeroes(&rig, 4096, 512, false);
		rig_flush(&rig);
		for (uint32_t i = 0; i < 1000; i++) {
			if (i % 3 == 2)
				rig_power_cut(&rig);
			else
				rig_kill(&rig);
			rig_open(&rig);
			assert_open_left_a_mark(&rig);
		}
		rig_check_range(&rig, 0, 8192);
		rig_flush(&rig);
		for (uint32_t i = 0; i < 200; i++)
			rig_write(&rig, rig_below(&rig, 100) * 512, 512, 0);
		rig_flush(&rig);
		rig_check_all(&rig);
		rig_drain(&rig);
		rig_reopen(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

static void backing_flush_fails_in_open(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 0, 4096, 0);
	rig_kill(&rig);
	mem_backing_fail(rig.mb, MEM_BACKING_FLUSH, 1, EIO, MEM_BACKING_ONCE);
	assert_int_equal(rig_try_open(&rig), -EIO);
	rig_open(&rig);
	rig_check_all(&rig);
	assert_int_equal(rig_info(&rig).dirty_bytes, 4096);
	rig_down(&rig);
}

/* A read-only open stores nothing: it refuses a cache that needs mending, and serves one that was closed, dirty data included. */
static void read_only(void **state)
{
	struct mem_backing_counters counters;
	struct rig rig;
	uint64_t hash;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 0, 4096, 0);
	rig_kill(&rig);
	hash = image_hash(&rig);
	rig.o.read_only = true;
	assert_int_equal(rig_try_open(&rig), PCACHE_E_READ_ONLY);
	assert_int_equal(image_hash(&rig), hash);
	rig.o.read_only = false;
	rig_open(&rig);
	rig_close(&rig);
	hash = image_hash(&rig);
	rig.o.read_only = true;
	rig_open(&rig);
	rig_check_all(&rig);
	assert_int_equal(pcache_write(rig.cache, rig.model, 0, 512, 0), PCACHE_E_READ_ONLY);
	assert_int_equal(pcache_discard(rig.cache, 0, 512, 0), PCACHE_E_READ_ONLY);
	assert_int_equal(pcache_flush(rig.cache), PCACHE_E_READ_ONLY);
	assert_int_equal(pcache_drain(rig.cache, NULL, NULL), PCACHE_E_READ_ONLY);
	assert_int_equal(pcache_maintain(rig.cache, 0), PCACHE_E_READ_ONLY);
	assert_true(rig_info(&rig).state_flags & PCACHE_STATE_READ_ONLY);
	rig_close(&rig);
	assert_int_equal(image_hash(&rig), hash);
	mem_backing_get_counters(rig.mb, &counters);
	assert_int_equal(counters.calls[MEM_BACKING_WRITE], 0);
	rig_down(&rig);
}

/* After an open, new data does not go into the room of a segment that was in use: what a dead key says of it could still be needed. */
static void part_filled_segment_is_closed(void **state)
{
	struct rig rig;
	uint64_t old_off;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 0, 512, 0);
	old_off = rig_find(&rig, 0);
	rig_reopen(&rig);
	rig_write(&rig, 8192, 512, 0);
	assert_true(rig_find(&rig, 8192) / 4096 != old_off / 4096);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* Every fence inside an open, and then the power goes: the next open shows the same. */
struct cut {
	uint8_t *image;
	uint32_t policy;
	bool reached;
};

static void on_fence(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	struct cut *cut = user;

	(void)event;
	cut->reached = true;
	pc_sim_crash(sim,
		     cut->policy == 0   ? PC_SIM_NONE
		     : cut->policy == 1 ? PC_SIM_ALL
					: PC_SIM_RANDOM,
		     cut->policy, cut->image);
}

static void power_cut_inside_open(void **state)
{
	(void)state;
	for (uint32_t page = 0; page < 2; page++) {
		struct cut cut = { .reached = true };
		uint8_t lost[512], *start;
		struct rig rig;
		uint64_t len, off, nth = 1;

		rig_zero(&rig);
		rig.o.granularity = page ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
		rig_up(&rig);
		rig_write(&rig, 4096, 1024, 0);
		rig_flush(&rig);
		off = slot_off(&rig, head(&rig)) + 33;
		rig_pattern(&rig, lost, sizeof(lost));
		assert_int_equal(pcache_write(rig.cache, lost, 4096, 512, 0), 0);
		rig_write(&rig, 8192, 512, 0);
		rig_kill(&rig);
		len = pc_sim_media(rig.sim)->len_bytes;
		start = malloc(len);
		cut.image = malloc(len);
		assert_non_null(start);
		assert_non_null(cut.image);
		memcpy(start, pc_sim_view(rig.sim), len);
		start[off] ^= 1;
		for (; cut.reached; nth++) {
			for (cut.policy = 0; cut.policy < 6; cut.policy++) {
				pc_sim_reset(rig.sim, start);
				cut.reached = false;
				pc_sim_crash_at(rig.sim, nth, on_fence, &cut);
				rig_open(&rig);
				rig_kill(&rig);
				if (!cut.reached)
					break;
				pc_sim_reset(rig.sim, cut.image);
				rig_open(&rig);
				rig_check_all(&rig);
				rig_kill(&rig);
			}
		}
		assert_true(nth > (page ? 3u : 5u));
		free(start);
		free(cut.image);
		rig_down(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stale_key_masks),
		cmocka_unit_test(torn_slot_at_the_end),
		cmocka_unit_test(page_mark_tells_damage_from_a_torn_end),
		cmocka_unit_test(hole_above_the_mark),
		cmocka_unit_test(hole_below_the_mark),
		cmocka_unit_test(log_ends_before_its_mark),
		cmocka_unit_test(valid_slot_with_bad_data),
		cmocka_unit_test(bad_data_of_a_key_appended_again),
		cmocka_unit_test(incomplete_kset),
		cmocka_unit_test(torn_slot_past_the_end),
		cmocka_unit_test(accepted_is_made_durable),
		cmocka_unit_test(dirty_tail_tells_clean_from_dirty),
		cmocka_unit_test(zero_keys),
		cmocka_unit_test(replay_is_idempotent),
		cmocka_unit_test(thousand_opens),
		cmocka_unit_test(backing_flush_fails_in_open),
		cmocka_unit_test(read_only),
		cmocka_unit_test(part_filled_segment_is_closed),
		cmocka_unit_test(power_cut_inside_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
