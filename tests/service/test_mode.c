/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Modes: what the backing has when a write returns, what a read and the next open show, and a change of the mode beside requests. Each is tried for both orders of write-back, at cache line and
 * page granularity, and with both commit modes.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "core/rig.h"
#include "pcache/errors.h"

#define IO_BYTES 512u
#define BACKING_BYTES (256u << 10)
#define NEVER_MS 3600000u

struct shape {
	enum pc_granularity granularity;
	uint32_t ordering;
	uint32_t commit;
};
static const struct shape shapes[] = {
	{ PC_GRAN_CACHE_LINE, PCACHE_ORDERING_STRICT, PCACHE_COMMIT_WRITE },
	{ PC_GRAN_CACHE_LINE, PCACHE_ORDERING_BATCH, PCACHE_COMMIT_FLUSH },
	{ PC_GRAN_PAGE, PCACHE_ORDERING_STRICT, PCACHE_COMMIT_WRITE },
	{ PC_GRAN_PAGE, PCACHE_ORDERING_BATCH, PCACHE_COMMIT_FLUSH },
};

static void up_with(struct rig *rig, const struct shape *shape, uint32_t mode, bool threads)
{
	rig_zero(rig);
	rig->o.threads = threads;
	rig->o.sim_flags = threads ? PC_SIM_THREADED : 0;
	rig->o.granularity = shape->granularity;
	rig->o.ordering = shape->ordering;
	rig->o.commit = shape->commit;
	rig->o.segment_nr = 64;
	rig->o.writeback_delay_ms = NEVER_MS;
	rig->o.mode = mode;
	rig_up(rig);
}

static void up(struct rig *rig, const struct shape *shape, uint32_t mode)
{
	up_with(rig, shape, mode, false);
}

static void set_mode(struct rig *rig, uint32_t mode)
{
	uint64_t in_force;

	assert_int_equal(pcache_option_set(rig->cache, PCACHE_OPT_MODE, mode), 0);
	assert_int_equal(pcache_option_get(rig->cache, PCACHE_OPT_MODE, &in_force), 0);
	assert_int_equal(in_force, mode);
}

static void backing_has(const struct rig *rig, uint64_t off, uint64_t len)
{
	assert_memory_equal(mem_backing_durable(rig->mb) + off, rig->model + off, len);
}

static uint64_t backing_reads(struct rig *rig)
{
	struct mem_backing_counters counters;

	mem_backing_get_counters(rig->mb, &counters);
	return counters.calls[MEM_BACKING_READ];
}

static uint64_t dirty_bytes(struct rig *rig)
{
	return rig_info(rig).dirty_bytes;
}

static void write_batch(struct rig *rig, uint64_t first_off, uint64_t step, uint32_t nr)
{
	struct pcache_range ranges[8];

	assert_true(nr <= 8);
	for (uint32_t i = 0; i < nr; i++) {
		ranges[i].off = first_off + i * step;
		ranges[i].len = IO_BYTES;
		ranges[i].buf = rig->model + ranges[i].off;
		rig_pattern(rig, rig->model + ranges[i].off, IO_BYTES);
	}
	assert_int_equal(pcache_write_batch(rig->cache, ranges, nr, 0), 0);
}

/* Everything that writes, each checked on the backing at once. */
static void all_kinds_are_on_the_backing(struct rig *rig)
{
	struct iovec iov[2];

	for (uint32_t i = 0; i < 20; i++) {
		uint64_t off = i * 7 % 40 * 1024, len = IO_BYTES * (1 + i % 9);

		rig_write(rig, off, len, 0);
		backing_has(rig, off, len);
	}
	rig_write(rig, 1024, 150u << 10, 0);
	backing_has(rig, 1024, 150u << 10);
	write_batch(rig, 2048, 5120, 8);
	for (uint32_t i = 0; i < 8; i++)
		backing_has(rig, 2048 + i * 5120, IO_BYTES);
	rig_zeroes(rig, 4096, 8192, false);
	backing_has(rig, 4096, 8192);
	rig_zeroes(rig, 10240, 4096, true);
	backing_has(rig, 10240, 4096);
	rig_pattern(rig, rig->model + 8192, 3072);
	iov[0] = (struct iovec){ .iov_base = rig->model + 8192, .iov_len = 1024 };
	iov[1] = (struct iovec){ .iov_base = rig->model + 8192 + 1024, .iov_len = 2048 };
	assert_int_equal(pcache_writev(rig->cache, iov, 2, 8192, 0), 0);
	backing_has(rig, 8192, 3072);
	assert_int_equal(dirty_bytes(rig), 0);
	rig_check_all(rig);
}

static void each_write_is_on_the_backing(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < PC_ARRAY_NR(shapes); i++) {
		for (uint32_t mode = PCACHE_MODE_WRITETHROUGH; mode <= PCACHE_MODE_PASSTHROUGH; mode++) {
			for (uint32_t threads = 0; threads < 2; threads++) {
				struct rig rig;

				up_with(&rig, &shapes[i], mode, threads != 0);
				all_kinds_are_on_the_backing(&rig);
				rig_power_cut(&rig);
				rig_open(&rig);
				rig_check_all(&rig);
				backing_has(&rig, 0, BACKING_BYTES);
				rig_down(&rig);
			}
		}
	}
}

/* What was cached, clean, never comes back: not after the write, not after a crash. */
static void around_replaces_what_is_cached(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < PC_ARRAY_NR(shapes); i++) {
		struct rig rig;

		up(&rig, &shapes[i], PCACHE_MODE_WRITEBACK);
		rig_write(&rig, 0, 16384, 0);
		rig_write(&rig, 32768, 8192, 0);
		rig_drain(&rig);
		assert_true(rig_info(&rig).clean_bytes >= 24576);
		set_mode(&rig, PCACHE_MODE_WRITEAROUND);
		rig_write(&rig, 4096, 4096, 0);
		rig_write(&rig, 32768, 512, 0);
		assert_int_equal(rig_info(&rig).clean_bytes, 24576 - 4096 - 512);
		backing_has(&rig, 0, 65536);
		rig.o.mode = PCACHE_MODE_WRITEAROUND;
		for (uint32_t life = 0; life < 3; life++) {
			rig_power_cut(&rig);
			rig_open(&rig);
			rig_check_all(&rig);
			rig_write(&rig, 4096 + life * 512, 1024, 0);
		}
		rig_down(&rig);
	}
}

/* Reads keep what they read, and a write around it takes it away again. */
static void around_beside_fills(void **state)
{
	struct rig rig;
	uint64_t reads;

	(void)state;
	up(&rig, &shapes[0], PCACHE_MODE_WRITEAROUND);
	rig_write(&rig, 8192, 4096, 0);
	rig_check_range(&rig, 8192, 4096);
	reads = backing_reads(&rig);
	rig_check_range(&rig, 8192, 4096);
	assert_int_equal(backing_reads(&rig), reads);
	rig_write(&rig, 8704, 512, 0);
	rig_check_range(&rig, 8192, 4096);
	assert_int_equal(backing_reads(&rig), reads + 1);
	rig_power_cut(&rig);
	rig_open(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* An older version in the log would be written back later, over the newer data: such a range goes through the log. */
static void around_what_is_dirty(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < PC_ARRAY_NR(shapes); i++) {
		struct rig rig;

		up(&rig, &shapes[i], PCACHE_MODE_WRITEBACK);
		rig_write(&rig, 0, 8192, 0);
		rig_flush(&rig);
		rig_write(&rig, 2048, 2048, 0);
		rig_zeroes(&rig, 16384, 4096, false);
		set_mode(&rig, PCACHE_MODE_WRITEAROUND);
		rig_write(&rig, 3072, 512, 0);
		backing_has(&rig, 3072, 512);
		rig_write(&rig, 16384, 512, 0);
		backing_has(&rig, 16384, 512);
		rig_write(&rig, 65536, 512, 0);
		backing_has(&rig, 65536, 512);
		rig_power_cut(&rig);
		rig_open(&rig);
		rig_check_all(&rig);
		rig_drain(&rig);
		rig_down(&rig);
	}
}

/* The data is in the cache, and the caller hears of the backing. */
static void through_beside_a_backing_that_fails(void **state)
{
	struct rig rig;

	(void)state;
	up(&rig, &shapes[0], PCACHE_MODE_WRITETHROUGH);
	mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 1, EIO, MEM_BACKING_FOREVER);
	rig_pattern(&rig, rig.model + 4096, 1024);
	assert_int_equal(pcache_write(rig.cache, rig.model + 4096, 4096, 1024, 0), -EIO);
	assert_int_equal(dirty_bytes(&rig), 1024);
	rig_check_all(&rig);
	mem_backing_clear_faults(rig.mb);
	mem_backing_fail(rig.mb, MEM_BACKING_FLUSH, 1, EIO, MEM_BACKING_ONCE);
	rig_pattern(&rig, rig.model, 512);
	assert_int_equal(pcache_write(rig.cache, rig.model, 0, 512, 0), -EIO);
	rig_check_all(&rig);
	rig_write(&rig, 8192, 512, 0);
	backing_has(&rig, 0, 16384);
	rig_power_cut(&rig);
	rig_open(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* Each block is old or new, and the cache shows what the backing has, before and after a crash. */
static void around_beside_a_backing_that_fails(void **state)
{
	(void)state;
	for (uint32_t op = 0; op < 2; op++) {
		struct rig rig;
		uint8_t found[2048];

		up(&rig, &shapes[0], PCACHE_MODE_WRITEAROUND);
		rig_write(&rig, 4096, 2048, 0);
		rig_check_range(&rig, 4096, 2048);
		mem_backing_fail(rig.mb, op ? MEM_BACKING_FLUSH : MEM_BACKING_WRITE, 1, ENOSPC, MEM_BACKING_ONCE);
		rig_pattern(&rig, rig.scratch, 2048);
		assert_int_equal(pcache_write(rig.cache, rig.scratch, 4096, 2048, 0), -ENOSPC);
		assert_int_equal(rig_info(&rig).backing_errors, 1);
		assert_int_equal(pcache_read(rig.cache, found, 4096, 2048, 0), 0);
		assert_memory_equal(found, mem_backing_live(rig.mb) + 4096, 2048);
		/* Nothing is held any more. */
		rig_write(&rig, 4096, 2048, 0);
		rig_power_cut(&rig);
		rig_open(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

static void passthrough_leaves_nothing_in_the_cache(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < PC_ARRAY_NR(shapes); i++) {
		struct pcache_info info;
		struct rig rig;
		uint64_t reads;

		up(&rig, &shapes[i], PCACHE_MODE_WRITEBACK);
		rig_write(&rig, 0, 16384, 0);
		rig_flush(&rig);
		rig_write(&rig, 4096, 16384, 0);
		set_mode(&rig, PCACHE_MODE_PASSTHROUGH);
		backing_has(&rig, 0, BACKING_BYTES);
		info = rig_info(&rig);
		assert_int_equal(info.dirty_bytes + info.clean_bytes, 0);
		rig_check_range(&rig, 0, 16384);
		reads = backing_reads(&rig);
		rig_check_range(&rig, 0, 16384);
		assert_true(backing_reads(&rig) > reads);
		write_batch(&rig, 0, 4096, 8);
		rig_write(&rig, 20480, 4096, 0);
		info = rig_info(&rig);
		assert_int_equal(info.dirty_bytes + info.clean_bytes, 0);
		/* The keys of before are still in the log. */
		rig_power_cut(&rig);
		rig.o.mode = PCACHE_MODE_WRITEBACK;
		rig_open(&rig);
		rig_check_all(&rig);
		rig_write(&rig, 8192, 4096, 0);
		rig_check_all(&rig);
		rig_drain(&rig);
		/* Asked for at the open. */
		rig_write(&rig, 0, 512, 0);
		rig_kill(&rig);
		rig.o.mode = PCACHE_MODE_PASSTHROUGH;
		rig_open(&rig);
		backing_has(&rig, 0, BACKING_BYTES);
		assert_int_equal(rig_info(&rig).clean_bytes, 0);
		rig_down(&rig);
	}
}

static void a_change_that_fails_changes_nothing(void **state)
{
	uint64_t mode;
	struct rig rig;

	(void)state;
	up(&rig, &shapes[0], PCACHE_MODE_WRITEBACK);
	rig_write(&rig, 0, 4096, 0);
	mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 1, EIO, MEM_BACKING_FOREVER);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_MODE, PCACHE_MODE_PASSTHROUGH), -EIO);
	assert_int_equal(pcache_option_get(rig.cache, PCACHE_OPT_MODE, &mode), 0);
	assert_int_equal(mode, PCACHE_MODE_WRITEBACK);
	rig_write(&rig, 2048, 4096, 0);
	assert_int_equal(dirty_bytes(&rig), 6144);
	rig_check_all(&rig);
	rig_kill(&rig);
	rig.o.mode = PCACHE_MODE_PASSTHROUGH;
	assert_int_equal(rig_try_open(&rig), -EIO);
	mem_backing_clear_faults(rig.mb);
	rig_open(&rig);
	backing_has(&rig, 0, BACKING_BYTES);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_MODE, 5), -EINVAL);
	rig_down(&rig);
}

static void writeonly_keeps_no_reads(void **state)
{
	struct rig rig;
	uint64_t reads;

	(void)state;
	up(&rig, &shapes[0], PCACHE_MODE_WRITEONLY);
	rig_check_range(&rig, 0, 4096);
	reads = backing_reads(&rig);
	rig_check_range(&rig, 0, 4096);
	assert_int_equal(backing_reads(&rig), reads + 1);
	rig_write(&rig, 0, 4096, 0);
	assert_int_equal(dirty_bytes(&rig), 4096);
	rig_check_range(&rig, 0, 4096);
	assert_int_equal(backing_reads(&rig), reads + 1);
	set_mode(&rig, PCACHE_MODE_WRITEBACK);
	rig_check_range(&rig, 8192, 4096);
	rig_check_range(&rig, 8192, 4096);
	assert_int_equal(backing_reads(&rig), reads + 2);
	rig_down(&rig);
}

static void nowait_does_not_wait_for_the_backing(void **state)
{
	struct pcache_range ranges[2];
	struct iovec iov;
	struct rig rig;

	(void)state;
	for (uint32_t mode = PCACHE_MODE_WRITETHROUGH; mode <= PCACHE_MODE_PASSTHROUGH; mode++) {
		up(&rig, &shapes[0], mode);
		ranges[0] = ranges[1] = (struct pcache_range){ .buf = rig.scratch, .len = 512 };
		ranges[1].off = 4096;
		iov = (struct iovec){ .iov_base = rig.scratch, .iov_len = 512 };
		assert_int_equal(pcache_write(rig.cache, rig.scratch, 0, 512, PCACHE_NOWAIT), -EAGAIN);
		assert_int_equal(pcache_writev(rig.cache, &iov, 1, 0, PCACHE_NOWAIT), -EAGAIN);
		assert_int_equal(pcache_write_batch(rig.cache, ranges, 2, PCACHE_NOWAIT), -EAGAIN);
		assert_int_equal(pcache_write_zeroes(rig.cache, 0, 512, PCACHE_NOWAIT), -EAGAIN);
		assert_int_equal(pcache_discard(rig.cache, 0, 512, PCACHE_NOWAIT), -EAGAIN);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

static void no_change_of_a_cache_that_is_only_read(void **state)
{
	struct rig rig;

	(void)state;
	up(&rig, &shapes[0], PCACHE_MODE_WRITEBACK);
	rig_write(&rig, 0, 4096, 0);
	rig_close(&rig);
	rig.o.read_only = true;
	rig.o.mode = PCACHE_MODE_PASSTHROUGH;
	rig_open(&rig);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_MODE, PCACHE_MODE_WRITEAROUND), PCACHE_E_READ_ONLY);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* What was lost stays lost until new data is durable: if it were erased, the backing's older bytes would take its place. */
static void around_what_is_lost(void **state)
{
	struct rig rig;
	uint8_t found[512];

	(void)state;
	up(&rig, &shapes[0], PCACHE_MODE_WRITEBACK);
	rig_write(&rig, 4096, 4096, 0);
	rig_drain(&rig);
	rig_write(&rig, 4096, 4096, 0);
	rig_flip(&rig, rig_find(&rig, 4096));
	assert_int_equal(pcache_drain(rig.cache, NULL, NULL), PCACHE_E_POISONED);
	set_mode(&rig, PCACHE_MODE_WRITEAROUND);
	mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 1, EIO, MEM_BACKING_FOREVER);
	memset(rig.model + 4096, 7, 512);
	assert_int_equal(pcache_write(rig.cache, rig.model + 4096, 4096, 512, 0), -EIO);
	/* It went through the cache. */
	rig_check_range(&rig, 4096, 512);
	rig_power_cut(&rig);
	rig_open(&rig);
	rig_check_range(&rig, 4096, 512);
	assert_int_equal(pcache_read(rig.cache, found, 4608, 512, 0), PCACHE_E_POISONED);
	rig_down(&rig);
}

/* ---- while the backing writes ---------------------------------------------------------------------------------------------- */

struct meanwhile {
	struct rig *rig;
	uint32_t nr;
};

/* During the write of a range that is held: nobody writes to it; what lies beside it is free. */
static int during_the_write(void *user, enum mem_backing_op op, uint64_t off, uint64_t len, const void *buf)
{
	struct meanwhile *meanwhile = user;
	struct pcache *cache = meanwhile->rig->cache;
	static const uint8_t bytes[1024];
	uint64_t mode;

	(void)len;
	(void)buf;
	if (op != MEM_BACKING_WRITE || off != 8192)
		return 0;
	meanwhile->nr++;
	assert_int_equal(pcache_option_get(cache, PCACHE_OPT_MODE, &mode), 0);
	/* As one that was begun before the mode changed. */
	assert_int_equal(
		pc_core_write(cache, &(struct pcache_range){ .buf = bytes, .off = 8192, .len = 512 }, 1, PCACHE_NOWAIT),
		-EAGAIN);
	assert_int_equal(pc_core_write(cache, &(struct pcache_range){ .buf = bytes, .off = 8192 + 3584, .len = 1024 },
				       1, PCACHE_NOWAIT),
			 -EAGAIN);
	assert_int_equal(pc_core_zero(cache, 4096, 8192, false, PCACHE_NOWAIT), -EAGAIN);
	assert_int_equal(pc_core_write(cache, &(struct pcache_range){ .buf = bytes, .off = 7168, .len = 1024 }, 1,
				       PCACHE_NOWAIT),
			 0);
	memset(meanwhile->rig->model + 7168, 0, 1024);
	return 0;
}

static void a_held_range_is_left_alone(void **state)
{
	struct meanwhile meanwhile = { 0 };
	struct rig rig;

	(void)state;
	up(&rig, &shapes[0], PCACHE_MODE_WRITEAROUND);
	meanwhile.rig = &rig;
	mem_backing_observe(rig.mb, during_the_write, &meanwhile);
	rig_write(&rig, 8192, 4096, 0);
	mem_backing_observe(rig.mb, NULL, NULL);
	assert_int_equal(meanwhile.nr, 1);
	backing_has(&rig, 8192, 4096);
	rig_check_all(&rig);
	rig_down(&rig);
}

struct one_write {
	pthread_t thread;
	struct rig *rig;
	uint64_t off, len;
	uint8_t byte;
	int rc;
	_Atomic bool done;
};

static void *write_it(void *arg)
{
	struct one_write *one = arg;
	uint8_t buf[4096];

	memset(buf, one->byte, one->len);
	one->rc = pcache_write(one->rig->cache, buf, one->off, one->len, 0);
	one->done = true;
	return NULL;
}

static void doze(void)
{
	const struct timespec tenth = { .tv_nsec = 100000000 };

	(void)nanosleep(&tenth, NULL);
}

static void ends(struct one_write *one)
{
	for (uint32_t tenths = 0; !one->done; tenths++) {
		assert_true(tenths < 300);
		doze();
	}
	assert_int_equal(pthread_join(one->thread, NULL), 0);
	assert_int_equal(one->rc, 0);
}

/* The gate was open when it came, and the range is held when it has the lock. */
static void a_short_write_that_has_passed_the_gate(void **state)
{
	struct pc_fill hold = { .vol_blk = 16, .len_blk = 8, .is_hold = true };
	struct one_write one;
	struct rig rig;
	uint64_t mask;

	(void)state;
	up_with(&rig, &shapes[0], PCACHE_MODE_WRITEBACK, true);
	/* A segment is open, so that the next write goes the short way. */
	rig_write(&rig, 0, 512, 0);
	mask = pc_index_mask(rig.cache->index, hold.vol_blk, hold.len_blk);
	one = (struct one_write){ .rig = &rig, .off = 8192, .len = 512, .byte = 3 };
	pc_index_lock(rig.cache->index, mask);
	assert_int_equal(pthread_create(&one.thread, NULL, write_it, &one), 0);
	doze();
	pc_core_holds_begin(rig.cache);
	atomic_fetch_add(&rig.cache->holds.nr, 1);
	pc_index_fill_list_locked(rig.cache->index, &hold);
	pc_index_unlock(rig.cache->index, mask);
	doze();
	assert_false(one.done);
	pc_core_release(rig.cache, &hold, true, 1);
	ends(&one);
	pc_core_holds_end(rig.cache);
	memset(rig.model + 8192, 3, 512);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* Who comes later is not overtaken, and is woken. */
static void a_write_waits_for_the_release(void **state)
{
	struct mem_backing_counters counters;
	struct one_write first, second;
	struct rig rig;

	(void)state;
	up_with(&rig, &shapes[0], PCACHE_MODE_WRITEAROUND, true);
	mem_backing_set_hang(rig.mb, MEM_BACKING_WRITE, true);
	first = (struct one_write){ .rig = &rig, .off = 8192, .len = 4096, .byte = 1 };
	second = (struct one_write){ .rig = &rig, .off = 8192 + 3584, .len = 1024, .byte = 2 };
	assert_int_equal(pthread_create(&first.thread, NULL, write_it, &first), 0);
	do
		mem_backing_get_counters(rig.mb, &counters);
	while (counters.calls[MEM_BACKING_WRITE] == 0);
	assert_int_equal(pthread_create(&second.thread, NULL, write_it, &second), 0);
	doze();
	mem_backing_set_hang(rig.mb, MEM_BACKING_WRITE, false);
	ends(&first);
	ends(&second);
	memset(rig.model + 8192, 1, 4096);
	memset(rig.model + 8192 + 3584, 2, 1024);
	backing_has(&rig, 8192, 8192);
	rig_check_all(&rig);
	rig_down(&rig);
}

static int during_the_drain(void *user, enum mem_backing_op op, uint64_t off, uint64_t len, const void *buf)
{
	struct meanwhile *meanwhile = user;

	(void)off;
	(void)len;
	(void)buf;
	if (op == MEM_BACKING_WRITE && meanwhile->nr++ == 0) {
		assert_int_equal(pcache_option_set(meanwhile->rig->cache, PCACHE_OPT_MODE, PCACHE_MODE_WRITEONLY),
				 -EBUSY);
		/* As one that was begun before the change. */
		assert_int_equal(pcache_write(meanwhile->rig->cache, meanwhile->rig->model, 0, 512, PCACHE_NOWAIT),
				 -EAGAIN);
	}
	return 0;
}

static void one_change_at_a_time(void **state)
{
	struct meanwhile meanwhile = { 0 };
	struct rig rig;

	(void)state;
	up(&rig, &shapes[0], PCACHE_MODE_WRITEBACK);
	rig_write(&rig, 0, 4096, 0);
	meanwhile.rig = &rig;
	mem_backing_observe(rig.mb, during_the_drain, &meanwhile);
	set_mode(&rig, PCACHE_MODE_PASSTHROUGH);
	mem_backing_observe(rig.mb, NULL, NULL);
	assert_true(meanwhile.nr > 0);
	rig_down(&rig);
}

static void *read_it(void *arg)
{
	struct rig *rig = arg;
	static uint8_t found[4096];

	if (pcache_read(rig->cache, found, 8192, sizeof(found), 0))
		return rig;
	return memcmp(found, rig->model + 8192, sizeof(found)) ? rig : NULL;
}

/* fill_races_bypassing_write: what the miss has read before the write is neither shown nor kept. */
static void a_miss_beside_a_write_around(void **state)
{
	(void)state;
	for (uint32_t mode = PCACHE_MODE_WRITETHROUGH; mode <= PCACHE_MODE_PASSTHROUGH; mode++) {
		struct mem_backing_counters counters;
		pthread_t thread;
		struct rig rig;
		void *wrong;

		up_with(&rig, &shapes[0], mode, true);
		rig_write(&rig, 8192, 4096, 0);
		(void)pc_cache_step(rig.cache, PC_STEP_EVICT, true);
		rig_reopen(&rig);
		/* The reader is in the backing. */
		mem_backing_set_hang(rig.mb, MEM_BACKING_READ, true);
		set_mode(&rig, PCACHE_MODE_WRITEAROUND);
		rig_write(&rig, 8192, 4096, 0);
		set_mode(&rig, mode);
		assert_int_equal(pthread_create(&thread, NULL, read_it, &rig), 0);
		do
			mem_backing_get_counters(rig.mb, &counters);
		while (counters.calls[MEM_BACKING_READ] == 0);
		rig_write(&rig, 8192, 2048, 0);
		mem_backing_set_hang(rig.mb, MEM_BACKING_READ, false);
		assert_int_equal(pthread_join(thread, &wrong), 0);
		assert_null(wrong);
		rig_check_all(&rig);
		rig_power_cut(&rig);
		rig_open(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

/* ---- beside requests -------------------------------------------------------------------------------------------------------- */

#define THREAD_NR 3u
#define BLK_NR 48u /* of each thread */
#define ROUND_NR 400u

struct worker {
	pthread_t thread;
	struct rig *rig;
	uint32_t number;
	_Atomic bool *stop;
};

static void *write_and_read(void *arg)
{
	struct worker *worker = arg;
	struct rig *rig = worker->rig;
	uint64_t first_off = worker->number * BLK_NR * IO_BYTES;
	uint8_t buf[4 * IO_BYTES], found[4 * IO_BYTES];
	uint32_t x = worker->number + 1;

	for (uint32_t i = 0; i < ROUND_NR; i++) {
		uint64_t off, len;

		x = x * 1103515245u + 12345u;
		len = IO_BYTES * (1 + (x >> 20) % 4);
		off = first_off + (x >> 8) % (BLK_NR - 3) * IO_BYTES;
		memset(buf, (int)(i % 250) + 1, len);
		if (i % 7 == 0) {
			memset(buf, 0, len);
			if (pcache_write_zeroes(rig->cache, off, len, 0))
				return worker;
		} else if (pcache_write(rig->cache, buf, off, len, 0)) {
			return worker;
		}
		memcpy(rig->model + off, buf, len);
		off = first_off + (x >> 12) % (BLK_NR - 3) * IO_BYTES;
		if (pcache_read(rig->cache, found, off, sizeof(found), 0) ||
		    memcmp(found, rig->model + off, sizeof(found)) != 0)
			return worker;
	}
	return NULL;
}

static void *change_modes(void *arg)
{
	struct worker *worker = arg;

	for (uint32_t i = 0; !*worker->stop; i++) {
		static const uint8_t modes[] = { 3, 0, 4, 1, 3, 2, 4, 3, 2, 0 };

		if (pcache_option_set(worker->rig->cache, PCACHE_OPT_MODE, modes[i % sizeof(modes)]))
			return worker;
	}
	return NULL;
}

static void modes_change_beside_requests(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < PC_ARRAY_NR(shapes); i++) {
		struct worker workers[THREAD_NR], changer;
		_Atomic bool stop = false;
		struct rig rig;
		void *wrong;

		up_with(&rig, &shapes[i], PCACHE_MODE_WRITEAROUND, true);
		changer = (struct worker){ .rig = &rig, .stop = &stop };
		assert_int_equal(pthread_create(&changer.thread, NULL, change_modes, &changer), 0);
		for (uint32_t t = 0; t < THREAD_NR; t++) {
			workers[t] = (struct worker){ .rig = &rig, .number = t };
			assert_int_equal(pthread_create(&workers[t].thread, NULL, write_and_read, &workers[t]), 0);
		}
		for (uint32_t t = 0; t < THREAD_NR; t++) {
			assert_int_equal(pthread_join(workers[t].thread, &wrong), 0);
			assert_null(wrong);
		}
		stop = true;
		assert_int_equal(pthread_join(changer.thread, &wrong), 0);
		assert_null(wrong);
		rig_check_all(&rig);
		set_mode(&rig, PCACHE_MODE_PASSTHROUGH);
		backing_has(&rig, 0, BACKING_BYTES);
		rig_down(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_write_is_on_the_backing),
		cmocka_unit_test(around_replaces_what_is_cached),
		cmocka_unit_test(around_beside_fills),
		cmocka_unit_test(around_what_is_dirty),
		cmocka_unit_test(through_beside_a_backing_that_fails),
		cmocka_unit_test(around_beside_a_backing_that_fails),
		cmocka_unit_test(passthrough_leaves_nothing_in_the_cache),
		cmocka_unit_test(a_change_that_fails_changes_nothing),
		cmocka_unit_test(writeonly_keeps_no_reads),
		cmocka_unit_test(nowait_does_not_wait_for_the_backing),
		cmocka_unit_test(no_change_of_a_cache_that_is_only_read),
		cmocka_unit_test(around_what_is_lost),
		cmocka_unit_test(one_change_at_a_time),
		cmocka_unit_test(a_held_range_is_left_alone),
		cmocka_unit_test(a_short_write_that_has_passed_the_gate),
		cmocka_unit_test(a_write_waits_for_the_release),
		cmocka_unit_test(a_miss_beside_a_write_around),
		cmocka_unit_test(modes_change_beside_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
