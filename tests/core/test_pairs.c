/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each two of {read, write, batch, flush, discard, fill, write-back, eviction, cleaning, drain} beside each other on a cache that is much too small, and each of them before a close while
 * workers are busy. For the thread sanitizer above all; but every block of every read is checked.
 *
 * The model: one clock numbers the begins and ends of all writes. A block carries the number at which its write began. What a read shows is wrong if it is torn or of another block, or if
 * another write of the block began after that one had ended, and ended before the read began. PCACHE_PAIR_MS: how long each pair runs.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/rig.h"

#define BLOCK_NR 512u
#define CLOCK_MAX (1u << 21)
#define LEN_MAX 8u
#define FULL_MAX 100000u /* tries of one request */

enum role { READ, WRITE, BATCH, FLUSH, DISCARD, FILL, WRITEBACK, EVICT, CLEAN, DRAIN, ROLE_NR };

static const char *const role_names[ROLE_NR] = { "read", "write",      "batch", "flush", "discard",
						 "fill", "write-back", "evict", "clean", "drain" };

static struct {
	struct rig rig;
	_Atomic uint64_t clock;
	_Atomic uint64_t ended[CLOCK_MAX]; /* of the write that began then; 0: not yet */
	_Atomic uint64_t begun_max[BLOCK_NR]; /* of the writes of a block that have ended: the last begin */
	_Atomic uint64_t zeroed_max[BLOCK_NR]; /* last end of a discard */
	_Atomic uint32_t zeroing_nr[BLOCK_NR]; /* discards that run */
	_Atomic bool stop;
	_Atomic uint64_t block_nr; /* that were checked */
	const char *_Atomic wrong;
	_Atomic int rc;
} all;

struct actor {
	enum role role;
	uint64_t seed;
	uint64_t op_nr;
	pthread_t thread;
};

static uint64_t below(struct actor *actor, uint64_t limit)
{
	uint64_t x = actor->seed += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	return (x ^ x >> 29) % limit;
}

static uint64_t tick(void)
{
	return atomic_fetch_add(&all.clock, 1);
}

static void raise_to(_Atomic uint64_t *to, uint64_t value)
{
	uint64_t old = atomic_load(to);

	while (old < value && !atomic_compare_exchange_weak(to, &old, value))
		;
}

static void put(uint8_t *at, uint64_t blk, uint64_t begun)
{
	for (uint32_t i = 0; i < 512; i += 16) {
		memcpy(at + i, &blk, 8);
		memcpy(at + i + 8, &begun, 8);
	}
}

static void say(const char *wrong)
{
	atomic_store(&all.wrong, wrong);
}

/* before: begun_max of the block when the read began. zeroing: a discard ran then. */
static void check_block(const uint8_t *at, uint64_t blk, uint64_t before, bool zeroing)
{
	uint64_t place, begun, ended;

	atomic_fetch_add_explicit(&all.block_nr, 1, memory_order_relaxed);
	memcpy(&place, at, 8);
	memcpy(&begun, at + 8, 8);
	if (memcmp(at, at + 16, 512 - 16) != 0) {
		say("a block is torn");
	} else if (begun == 0) {
		if (!zeroing && !atomic_load(&all.zeroing_nr[blk]) && atomic_load(&all.zeroed_max[blk]) < before)
			say("zeroes that were overwritten");
	} else if (place != blk || begun >= CLOCK_MAX) {
		say("bytes of another block");
	} else {
		ended = atomic_load(&all.ended[begun]);
		if (ended && ended < before)
			say("a version that was overwritten");
	}
}

static int read_some(struct actor *actor)
{
	uint8_t bytes[24 * 512];
	uint64_t before[24], len = 1 + below(actor, 24), blk = below(actor, BLOCK_NR - 24);
	bool zeroing[24];
	int rc;

	for (uint64_t i = 0; i < len; i++) {
		before[i] = atomic_load(&all.begun_max[blk + i]);
		zeroing[i] = atomic_load(&all.zeroing_nr[blk + i]) != 0;
	}
	rc = pcache_read(all.rig.cache, bytes, blk * 512, len * 512, below(actor, 8) ? 0 : PCACHE_NOCACHE);
	for (uint64_t i = 0; !rc && i < len; i++)
		check_block(bytes + i * 512, blk + i, before[i], zeroing[i]);
	return rc;
}

static void write_ended(uint64_t blk, uint64_t len, uint64_t begun)
{
	for (uint64_t i = 0; i < len; i++)
		raise_to(&all.begun_max[blk + i], begun);
}

static int write_some(struct actor *actor, uint32_t range_nr)
{
	uint8_t bytes[3 * LEN_MAX * 512];
	struct pcache_range ranges[3];
	uint64_t begun = tick();
	uint32_t used = 0, tries = 0;
	int rc;

	for (uint32_t i = 0; i < range_nr; i++) {
		uint64_t len = 1 + below(actor, LEN_MAX);
		uint64_t blk = below(actor, below(actor, 2) ? BLOCK_NR - LEN_MAX : 40);

		ranges[i] = (struct pcache_range){ .buf = bytes + used, .off = blk * 512, .len = len * 512 };
		for (uint64_t j = 0; j < len; j++, used += 512)
			put(bytes + used, blk + j, begun);
	}
	do
		rc = range_nr == 1 ? pcache_write(all.rig.cache, bytes, ranges[0].off, ranges[0].len, 0)
				   : pcache_write_batch(all.rig.cache, ranges, range_nr, 0);
	while (rc == PCACHE_E_FULL && ++tries < FULL_MAX);
	if (rc)
		return rc;
	atomic_store(&all.ended[begun], tick());
	for (uint32_t i = 0; i < range_nr; i++)
		write_ended(ranges[i].off / 512, ranges[i].len / 512, begun);
	return 0;
}

static int discard_some(struct actor *actor)
{
	uint64_t len = 1 + below(actor, 40), blk = below(actor, BLOCK_NR - 40), begun = tick(), ended;
	uint32_t tries = 0;
	int rc;

	for (uint64_t i = 0; i < len; i++)
		atomic_fetch_add(&all.zeroing_nr[blk + i], 1);
	do
		rc = below(actor, 2) ? pcache_discard(all.rig.cache, blk * 512, len * 512, 0)
				     : pcache_write_zeroes(all.rig.cache, blk * 512, len * 512, 0);
	while (rc == PCACHE_E_FULL && ++tries < FULL_MAX);
	ended = tick();
	for (uint64_t i = 0; i < len; i++) {
		raise_to(&all.zeroed_max[blk + i], ended);
		atomic_fetch_sub(&all.zeroing_nr[blk + i], 1);
	}
	write_ended(blk, len, begun);
	return rc;
}

static int step(enum pc_step step)
{
	int rc = pc_cache_step(all.rig.cache, step, true);

	return rc > 0 ? 0 : rc;
}

static int act(struct actor *actor)
{
	int rc;

	switch (actor->role) {
	case READ:
		return read_some(actor);
	case WRITE:
		return write_some(actor, 1);
	case BATCH:
		return write_some(actor, 3);
	case FLUSH:
		/* Of something. */
		rc = write_some(actor, 1);
		return rc ? rc : pcache_flush(all.rig.cache);
	case DISCARD:
		return discard_some(actor);
	case FILL:
		/* Something has to be missing. */
		rc = step(PC_STEP_EVICT);
		return rc ? rc : read_some(actor);
	case WRITEBACK:
		return step(PC_STEP_WRITEBACK);
	case EVICT:
		return step(PC_STEP_EVICT);
	case CLEAN:
		return step(PC_STEP_CLEAN);
	default:
		return pcache_drain(all.rig.cache, NULL, NULL);
	}
}

static void *run(void *arg)
{
	struct actor *actor = arg;
	int none = 0, rc = 0;

	for (actor->op_nr = 0; !rc && !atomic_load(&all.wrong) && atomic_load(&all.clock) < CLOCK_MAX - 1000;
	     actor->op_nr++) {
		if (atomic_load(&all.stop) && actor->op_nr >= 20)
			break;
		rc = act(actor);
	}
	if (rc)
		(void)atomic_compare_exchange_strong(&all.rc, &none, rc);
	return NULL;
}

/* With nobody else there. */
static void check_all(void)
{
	assert_int_equal(pcache_read(all.rig.cache, all.rig.scratch, 0, BLOCK_NR * 512, 0), 0);
	for (uint64_t blk = 0; blk < BLOCK_NR; blk++)
		check_block(all.rig.scratch + blk * 512, blk, atomic_load(&all.begun_max[blk]), false);
}

static void up(uint32_t shape, bool threads)
{
	struct rig *rig = &all.rig;

	memset(&all, 0, sizeof(all));
	rig_zero(rig);
	rig->o.granularity = shape & 1 ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
	rig->o.ordering = shape & 1 ? PCACHE_ORDERING_BATCH : PCACHE_ORDERING_STRICT;
	rig->o.sim_flags = PC_SIM_THREADED;
	rig->o.threads = threads;
	rig->o.segment_nr = 24;
	rig->o.data_head_nr = 2;
	rig->seed = shape;
	rig_up(rig);
	/* The backing begins with versions of the time 1. */
	for (uint32_t blk = 0; blk < BLOCK_NR; blk++)
		put(rig->model + (size_t)blk * 512, blk, 1);
	mem_backing_load(rig->mb, rig->model);
	atomic_store(&all.clock, 2);
	atomic_store(&all.ended[1], 1);
}

static void expect_right(const char *a, const char *b)
{
	if (atomic_load(&all.wrong) || atomic_load(&all.rc))
		fail_msg("%s beside %s: %s (%d)", a, b, atomic_load(&all.wrong) ? atomic_load(&all.wrong) : "an error",
			 atomic_load(&all.rc));
}

/* What was there stays: over a close and an open, and on the backing. */
static void down(const char *a, const char *b)
{
	struct rig *rig = &all.rig;

	check_all();
	rig_close(rig);
	rig->o.threads = false;
	rig_open(rig);
	check_all();
	expect_right(a, b);
	assert_true(all.block_nr >= 2 * BLOCK_NR);
	memcpy(rig->model, rig->scratch, rig->o.backing_bytes);
	rig_check_all(rig);
	rig_drain(rig);
	rig_down(rig);
}

static uint64_t pair_ms(void)
{
	const char *text = getenv("PCACHE_PAIR_MS");

	return text ? strtoull(text, NULL, 0) : 25;
}

static void run_pair(enum role a, enum role b, uint32_t shape)
{
	struct actor actors[2] = { { .role = a, .seed = 1 + shape }, { .role = b, .seed = 1000 + shape } };
	uint64_t end_ns;

	up(shape, false);
	for (uint32_t i = 0; i < 200; i++)
		assert_int_equal(write_some(&actors[0], 1), 0);
	end_ns = pc_monotonic_ns() + pair_ms() * 1000000;
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&actors[i].thread, NULL, run, &actors[i]), 0);
	while (pc_monotonic_ns() < end_ns)
		(void)usleep(1000);
	atomic_store(&all.stop, true);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(pthread_join(actors[i].thread, NULL), 0);
	expect_right(role_names[a], role_names[b]);
	assert_true(actors[0].op_nr >= 20 && actors[1].op_nr >= 20);
	down(role_names[a], role_names[b]);
}

static void each_two(void **state)
{
	(void)state;
	for (uint32_t a = 0; a < ROLE_NR; a++)
		for (uint32_t b = a; b < ROLE_NR; b++)
			for (uint32_t shape = 0; shape < 2; shape++)
				run_pair((enum role)a, (enum role)b, shape);
}

/* The workers are in the middle of something, and the cache is closed. */
static void each_before_a_close(void **state)
{
	(void)state;
	for (uint32_t role = 0; role < ROLE_NR; role++) {
		for (uint32_t shape = 0; shape < 2; shape++) {
			struct actor actor = { .role = (enum role)role, .seed = 77 + shape };
			struct actor writer = { .role = WRITE, .seed = 99 };

			up(shape, true);
			for (uint32_t round = 0; round < 6; round++) {
				for (uint32_t i = 0; i < 60; i++)
					assert_int_equal(write_some(&writer, 1), 0);
				for (uint32_t i = 0; i < 1 + round; i++)
					assert_int_equal(act(&actor), 0);
				rig_close(&all.rig);
				rig_open(&all.rig);
				check_all();
				expect_right(role_names[role], "close");
			}
			down(role_names[role], "close");
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_two),
		cmocka_unit_test(each_before_a_close),
	};

	return cmocka_run_group_tests_name("core_pairs", tests, NULL, NULL);
}
