/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The simulated media itself: a crash simulator is worth what its model is worth. Each rule of sim_media.h is a test: what is pending and
 * for whom, what a fence, flush and sync make durable, which images a crash may leave, and that a stray store faults.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/crc.h"
#include "pcache/errors.h"
#include "sim/sim_media.h"

#define LEN 8192u

struct fixture {
	struct pc_sim *sim;
	struct pc_media *media;
	uint8_t image[LEN];
};

static struct fixture fx;

static void start(enum pc_granularity granularity, uint32_t flags)
{
	assert_int_equal(pc_sim_new(LEN, granularity, flags, &fx.sim), 0);
	fx.media = pc_sim_media(fx.sim);
}

static int stop(void **state)
{
	(void)state;
	pc_sim_free(fx.sim);
	fx.sim = NULL;
	return 0;
}

static void store(uint64_t media_off, uint64_t value)
{
	pc_media_copy(fx.media, media_off, &value, sizeof(value));
}

static uint64_t load(const void *image, uint64_t media_off)
{
	uint64_t value;

	memcpy(&value, (const uint8_t *)image + media_off, sizeof(value));
	return value;
}

static uint64_t durable(uint64_t media_off)
{
	return load(pc_sim_durable(fx.sim), media_off);
}

static uint64_t crash(enum pc_sim_policy policy, uint64_t arg, uint64_t media_off)
{
	uint64_t hash = pc_sim_crash(fx.sim, policy, arg, fx.image);

	assert_int_equal(hash, pc_sim_image_hash(fx.image, LEN));
	return load(fx.image, media_off);
}

/* Runs fn in a thread of its own and waits for it. */
static void in_thread(void *(*fn)(void *))
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, fn, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void *thread_fence(void *arg)
{
	pc_media_fence(fx.media);
	return arg;
}

static void *thread_flush_fence(void *arg)
{
	pc_media_flush(fx.media, 64, 1);
	pc_media_fence(fx.media);
	return arg;
}

static void *thread_store_fence(void *arg)
{
	store(0, 2);
	pc_media_fence(fx.media);
	return arg;
}

static void test_store_is_seen_at_once_and_durable_at_fence(void **state)
{
	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	store(64, 7);
	assert_int_equal(load(fx.media->base, 64), 7);
	assert_int_equal(durable(64), 0);
	assert_int_equal(pc_sim_pending_nr(fx.sim), 1);
	assert_int_equal(pc_sim_pending(fx.sim, 0).word, 8);
	assert_int_equal(pc_sim_pending(fx.sim, 0).value, 7);
	pc_media_fence(fx.media);
	assert_int_equal(durable(64), 7);
	assert_int_equal(pc_sim_pending_nr(fx.sim), 0);
}

static void test_unaligned_store_covers_both_words(void **state)
{
	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	store(4, UINT64_MAX);
	assert_int_equal(pc_sim_pending_nr(fx.sim), 2);
	assert_int_equal(pc_sim_pending(fx.sim, 0).value, UINT64_C(0xffffffff00000000));
	assert_int_equal(pc_sim_pending(fx.sim, 1).value, UINT64_C(0x00000000ffffffff));
	pc_media_copy(fx.media, 100, "", 0);
	assert_int_equal(pc_sim_pending_nr(fx.sim), 2);
}

static void test_equal_store_is_not_pending(void **state)
{
	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	store(0, 0);
	assert_int_equal(pc_sim_pending_nr(fx.sim), 0);
	store(0, 1);
	store(0, 0); /* durable is 0, but the 1 may come after it unless this is kept */
	assert_int_equal(pc_sim_pending_nr(fx.sim), 2);
	pc_media_fence(fx.media);
	assert_int_equal(durable(0), 0);
	assert_int_equal(crash(PC_SIM_ALL, 0, 0), 0);
}

static void test_fence_of_another_thread_does_nothing(void **state)
{
	(void)state;
	start(PC_GRAN_CACHE_LINE, PC_SIM_THREADED);
	store(64, 7);
	in_thread(thread_fence);
	assert_int_equal(durable(64), 0);
	assert_int_equal(pc_sim_pending_nr(fx.sim), 1);
	pc_media_fence(fx.media);
	assert_int_equal(durable(64), 7);
}

static void test_flush_makes_stores_of_others_mine(void **state)
{
	(void)state;
	start(PC_GRAN_BYTE, PC_SIM_THREADED);
	store(64, 7);
	store(120, 8); /* same line */
	store(128, 9);
	in_thread(thread_flush_fence);
	assert_int_equal(durable(64), 7);
	assert_int_equal(durable(120), 8);
	assert_int_equal(durable(128), 0);
	assert_int_equal(pc_sim_pending_nr(fx.sim), 1);
}

static void test_flush_alone_is_not_durable(void **state)
{
	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	store(64, 7);
	pc_media_flush(fx.media, 0, LEN);
	assert_int_equal(durable(64), 0);
	assert_int_equal(crash(PC_SIM_NONE, 0, 64), 0);
}

static void test_later_durable_store_drops_earlier(void **state)
{
	(void)state;
	start(PC_GRAN_CACHE_LINE, PC_SIM_THREADED);
	store(0, 1);
	in_thread(thread_store_fence);
	assert_int_equal(durable(0), 2);
	assert_int_equal(pc_sim_pending_nr(fx.sim), 0); /* the 1 cannot come back */
	pc_media_fence(fx.media);
	assert_int_equal(durable(0), 2);
}

static void test_earlier_fence_leaves_later_pending(void **state)
{
	(void)state;
	start(PC_GRAN_CACHE_LINE, PC_SIM_THREADED);
	in_thread(thread_store_fence);
	store(0, 3);
	in_thread(thread_fence);
	assert_int_equal(durable(0), 2);
	assert_int_equal(crash(PC_SIM_ALL, 0, 0), 3);
}

static void test_word_stored_twice_may_keep_either(void **state)
{
	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	store(0, 1);
	store(0, 2);
	assert_int_equal(pc_sim_policy_args(fx.sim, PC_SIM_SUBSET), 4);
	assert_int_equal(crash(PC_SIM_SUBSET, 0, 0), 0);
	assert_int_equal(crash(PC_SIM_SUBSET, 1, 0), 1);
	assert_int_equal(crash(PC_SIM_SUBSET, 2, 0), 2);
	assert_int_equal(crash(PC_SIM_SUBSET, 3, 0), 2);
}

static void test_word_policies(void **state)
{
	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	for (uint64_t i = 0; i < 4; i++)
		store(i * 8, i + 1);
	assert_int_equal(crash(PC_SIM_NONE, 0, 0), 0);
	assert_int_equal(crash(PC_SIM_ALL, 0, 24), 4);
	assert_memory_equal(fx.image, pc_sim_view(fx.sim), LEN);
	for (uint64_t arg = 0; arg < 4; arg++) {
		for (uint64_t i = 0; i < 4; i++) {
			assert_int_equal(crash(PC_SIM_MISSING, arg, i * 8), i == arg ? 0 : i + 1);
			assert_int_equal(crash(PC_SIM_ALONE, arg, i * 8), i == arg ? i + 1 : 0);
			assert_int_equal(crash(PC_SIM_PREFIX, arg, i * 8), i <= arg ? i + 1 : 0);
			assert_int_equal(crash(PC_SIM_SUFFIX, arg, i * 8), i > arg ? i + 1 : 0);
		}
	}
	assert_int_equal(pc_sim_policy_args(fx.sim, PC_SIM_SUFFIX), 4);
	assert_int_equal(durable(0), 0); /* looking changes nothing */
}

static void test_line_policies(void **state)
{
	static const uint64_t offs[] = { 640, 128, 640 + 56, 256 }; /* lines 0, 1, 0, 2 in order of their first store */
	static const uint64_t lines[] = { 0, 1, 0, 2 };

	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	for (uint64_t i = 0; i < 4; i++)
		store(offs[i], i + 1);
	assert_int_equal(pc_sim_pending_lines(fx.sim), 3);
	assert_int_equal(pc_sim_policy_args(fx.sim, PC_SIM_LINE_ALONE), 3);
	for (uint64_t arg = 0; arg < 3; arg++) {
		for (uint64_t i = 0; i < 4; i++) {
			uint64_t line = lines[i];

			assert_int_equal(crash(PC_SIM_LINE_MISSING, arg, offs[i]), line == arg ? 0 : i + 1);
			assert_int_equal(crash(PC_SIM_LINE_ALONE, arg, offs[i]), line == arg ? i + 1 : 0);
			assert_int_equal(crash(PC_SIM_LINE_PREFIX, arg, offs[i]), line <= arg ? i + 1 : 0);
			assert_int_equal(crash(PC_SIM_LINE_SUFFIX, arg, offs[i]), line > arg ? i + 1 : 0);
		}
	}
	pc_media_fence(fx.media);
	assert_int_equal(pc_sim_pending_lines(fx.sim), 0);
}

static void test_random_is_seeded_and_varied(void **state)
{
	static const enum pc_sim_policy policies[] = { PC_SIM_RANDOM, PC_SIM_RANDOM_LINES };
	uint64_t first;
	uint64_t kept = 0;
	uint64_t different = 0;

	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	for (uint64_t i = 0; i < 64; i++)
		store(i * 8, i + 1);
	for (size_t p = 0; p < 2; p++) {
		first = pc_sim_crash(fx.sim, policies[p], 1, fx.image);
		for (uint64_t seed = 2; seed < 66; seed++) {
			different += pc_sim_crash(fx.sim, policies[p], seed, fx.image) != first;
			for (uint64_t i = 0; i < 64; i++)
				kept += load(fx.image, i * 8) != 0;
		}
		assert_int_equal(pc_sim_crash(fx.sim, policies[p], 1, fx.image), first);
	}
	assert_true(different > 120);
	assert_in_range(kept, 2 * 64 * 64 / 3, 2 * 64 * 64 * 2 / 3);
}

struct collector {
	uint64_t nr;
	uint64_t seen_mask; /* of small images: bit of the value of the first three words */
	uint64_t stop_after;
};

static bool collect(void *user, const uint8_t *image, enum pc_sim_policy policy, uint64_t arg)
{
	struct collector *collector = user;
	uint64_t bits =
		(load(image, 0) != 0) | (uint64_t)(load(image, 64) != 0) << 1 | (uint64_t)(load(image, 128) != 0) << 2;

	(void)policy;
	(void)arg;
	assert_int_equal(pc_sim_explore_hash(fx.sim), pc_sim_image_hash(image, LEN));
	collector->seen_mask |= UINT64_C(1) << bits;
	return ++collector->nr != collector->stop_after;
}

static void test_explore_small_gives_all_subsets_once(void **state)
{
	struct pc_sim_explore how = { .subset_max = 12 };
	struct collector collector = { 0 };

	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	for (uint64_t i = 0; i < 3; i++)
		store(i * 64, 5);
	assert_int_equal(pc_sim_explore(fx.sim, &how, fx.image, collect, &collector), 8);
	assert_int_equal(collector.nr, 8);
	assert_int_equal(collector.seen_mask, 0xff);
	store(0, 5); /* the same value again: twice as many subsets, the same images */
	collector = (struct collector){ 0 };
	assert_int_equal(pc_sim_explore(fx.sim, &how, fx.image, collect, &collector), 8);
	collector = (struct collector){ .stop_after = 3 };
	assert_int_equal(pc_sim_explore(fx.sim, &how, fx.image, collect, &collector), 3);
	pc_media_fence(fx.media);
	collector = (struct collector){ 0 };
	assert_int_equal(pc_sim_explore(fx.sim, &how, fx.image, collect, &collector), 1);
}

static void test_explore_large_uses_policies(void **state)
{
	struct pc_sim_explore how = { .subset_max = 12, .word_max = 100, .line_max = 100, .random_nr = 50, .seed = 3 };
	struct collector collector = { 0 };
	uint64_t nr;

	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	for (uint64_t i = 0; i < 40; i++)
		store(i * 8, i + 1);
	/* none, all; 40 missing, 40 alone, prefixes and suffixes without what came before; 5 lines: missing, alone; random ones. */
	nr = pc_sim_explore(fx.sim, &how, fx.image, collect, &collector);
	assert_in_range(nr, 2 + 40 + 40 + 38 + 38 + 5 + 3, 300);
	assert_memory_equal(fx.image, pc_sim_durable(fx.sim), LEN); /* scratch is clean again */
	how.word_max = 39;
	how.line_max = 4;
	how.random_nr = 0;
	assert_int_equal(pc_sim_explore(fx.sim, &how, fx.image, collect, &collector), 2);
}

static void test_page_only_sync_counts(void **state)
{
	(void)state;
	start(PC_GRAN_PAGE, PC_SIM_THREADED);
	store(64, 7);
	pc_media_flush(fx.media, 0, LEN);
	pc_media_fence(fx.media);
	assert_int_equal(durable(64), 0);
	assert_int_equal(crash(PC_SIM_ALL, 0, 64), 7);
	in_thread(thread_fence);
	assert_int_equal(pc_media_sync(fx.media), 0);
	assert_int_equal(durable(64), 7);
	assert_int_equal(pc_sim_counts(fx.sim).fences, 0);
	assert_int_equal(pc_sim_counts(fx.sim).flushes, 0);
	assert_int_equal(pc_sim_counts(fx.sim).syncs, 1);
	store(64, 8);
	assert_int_equal(pc_media_commit(fx.media), 0);
	assert_int_equal(durable(64), 8);
}

static void test_failed_sync_loses_for_ever(void **state)
{
	/* The model of the kernel, below the rule that no later sync counts. */
	(void)state;
	start(PC_GRAN_PAGE, 0);
	store(0, 1);
	pc_sim_fail_sync(fx.sim, 2, -ENOSPC);
	assert_int_equal(fx.media->ops->sync(fx.media), 0);
	store(64, 2);
	assert_int_equal(fx.media->ops->sync(fx.media), -ENOSPC);
	store(128, 3);
	assert_int_equal(fx.media->ops->sync(fx.media), 0);
	assert_int_equal(durable(0), 1);
	assert_int_equal(durable(64), 0);
	assert_int_equal(durable(128), 3);
	assert_int_equal(crash(PC_SIM_ALL, 0, 64), 2);
	store(64, 4);
	assert_int_equal(fx.media->ops->sync(fx.media), 0);
	assert_int_equal(durable(64), 4);
	assert_int_equal(pc_sim_pending_nr(fx.sim), 0);
}

static void test_no_sync_counts_after_a_failed_one(void **state)
{
	(void)state;
	start(PC_GRAN_PAGE, 0);
	store(0, 1);
	pc_sim_fail_sync(fx.sim, 1, -ENOSPC);
	assert_int_equal(pc_media_commit(fx.media), -ENOSPC);
	assert_int_equal(pc_media_commit(fx.media), -ENOSPC);
	assert_int_equal(pc_media_sync(fx.media), -ENOSPC);
}

static void test_sync_is_a_fence_at_cache_line(void **state)
{
	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	store(0, 1);
	assert_int_equal(pc_media_sync(fx.media), 0);
	assert_int_equal(durable(0), 1);
	store(0, 2);
	assert_int_equal(pc_media_commit(fx.media), 0);
	assert_int_equal(durable(0), 2);
	assert_int_equal(pc_sim_counts(fx.sim).fences, 2);
}

static jmp_buf after_crash;
static uint64_t hook_calls;

static void hook(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	hook_calls++;
	assert_int_equal(event, PC_SIM_AT_FENCE);
	(void)pc_sim_crash(sim, PC_SIM_NONE, 0, fx.image);
	if (user != NULL)
		longjmp(*(jmp_buf *)user, 1);
}

static void test_hook_sees_the_state_before_the_fence(void **state)
{
	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	hook_calls = 0;
	pc_sim_crash_at(fx.sim, 2, hook, NULL);
	store(0, 1);
	pc_media_fence(fx.media);
	assert_int_equal(hook_calls, 0);
	store(0, 2);
	pc_media_fence(fx.media);
	assert_int_equal(hook_calls, 1);
	assert_int_equal(load(fx.image, 0), 1);
	assert_int_equal(durable(0), 2);
	pc_media_fence(fx.media);
	assert_int_equal(hook_calls, 1);
	pc_sim_crash_at(fx.sim, 0, hook, NULL);
	pc_media_fence(fx.media);
	pc_media_fence(fx.media);
	assert_int_equal(hook_calls, 3);
}

static void test_hook_may_jump_away(void **state)
{
	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	store(0, 1);
	pc_sim_crash_at(fx.sim, 1, hook, &after_crash);
	if (setjmp(after_crash) == 0) {
		pc_media_fence(fx.media);
		fail();
	}
	assert_int_equal(durable(0), 0);
	assert_int_equal(pc_sim_pending_nr(fx.sim), 1);
}

static void stop_hook(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	(void)event;
	(void)user;
	pc_sim_stop(sim);
}

static void test_stop_freezes_the_media(void **state)
{
	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	store(0, 1);
	pc_sim_crash_at(fx.sim, 1, stop_hook, NULL);
	pc_media_fence(fx.media);
	assert_true(pc_sim_stopped(fx.sim));
	store(0, 2);
	store(64, 3);
	pc_media_fence(fx.media);
	assert_int_equal(load(fx.media->base, 64), 3);
	assert_int_equal(durable(0), 0);
	assert_int_equal(pc_sim_pending_nr(fx.sim), 1);
	assert_int_equal(crash(PC_SIM_ALL, 0, 0), 1);
	assert_int_equal(crash(PC_SIM_ALL, 0, 64), 0);
}

static void test_read_errors(void **state)
{
	uint8_t buf[128];
	uint32_t crc = 0;

	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	store(256, 7);
	assert_int_equal(pc_media_read(fx.media, 256, buf, 8), 0);
	assert_int_equal(load(buf, 0), 7);
	pc_sim_poison(fx.sim, 256, 64);
	assert_int_equal(pc_media_read(fx.media, 128, buf, 128), 0);
	assert_int_equal(pc_media_read(fx.media, 129, buf, 128), -EIO);
	assert_int_equal(pc_media_read(fx.media, 319, buf, 1), -EIO);
	assert_int_equal(pc_media_read(fx.media, 320, buf, 1), 0);
	assert_int_equal(pc_media_load(fx.media, 128, buf, 128), 0);
	assert_int_equal(pc_media_load(fx.media, 129, buf, 128), -EIO);
	assert_int_equal(pc_media_load(fx.media, 319, buf, 1), -EIO);
	assert_int_equal(pc_media_load(fx.media, 320, buf, 1), 0);
	assert_int_equal(pc_media_load_crc(fx.media, 200, buf, 128, &crc), -EIO);
	assert_int_equal(crc, 0);
	pc_sim_unpoison(fx.sim);
	assert_int_equal(pc_media_load_crc(fx.media, 200, buf, 128, &crc), 0);
	assert_int_equal(load(buf, 56), 7);
	assert_int_equal(crc, pc_crc32c(0, buf, 128));
	assert_int_equal(pc_media_read(fx.media, 256, buf, 64), 0);
	assert_int_equal(pc_media_read(fx.media, LEN - 8, buf, 9), PCACHE_E_TRUNCATED);
	assert_int_equal(pc_media_read(fx.media, UINT64_MAX, buf, 9), PCACHE_E_TRUNCATED);
	pc_sim_truncate(fx.sim, 300);
	assert_int_equal(pc_media_read(fx.media, 292, buf, 8), 0);
	assert_int_equal(pc_media_read(fx.media, 293, buf, 8), PCACHE_E_TRUNCATED);
	assert_int_equal(pc_media_load(fx.media, 292, buf, 8), 0);
	assert_int_equal(pc_media_load(fx.media, 293, buf, 8), -EIO);
}

static void test_damage_and_reset(void **state)
{
	uint8_t *image = calloc(1, LEN);

	(void)state;
	assert_non_null(image);
	image[5] = 5;
	assert_int_equal(pc_sim_wrap(image, LEN, PC_GRAN_CACHE_LINE, 0, &fx.sim), 0);
	fx.media = pc_sim_media(fx.sim);
	assert_memory_equal(fx.media->base, image, LEN);
	assert_int_equal(crash(PC_SIM_NONE, 0, 0), load(image, 0));
	pc_sim_damage(fx.sim, 5, "\x06", 1);
	assert_int_equal(fx.media->base[5], 6);
	assert_int_equal(crash(PC_SIM_NONE, 0, 0) >> 40, 6);
	store(0, 1);
	store(64, 1);
	pc_media_close(fx.media);
	assert_true(pc_sim_closed(fx.sim));
	pc_sim_reset(fx.sim, image);
	assert_false(pc_sim_closed(fx.sim));
	assert_int_equal(pc_sim_pending_nr(fx.sim), 0);
	assert_memory_equal(fx.media->base, image, LEN);
	store(64, 0); /* was pending before the reset */
	assert_int_equal(pc_sim_pending_nr(fx.sim), 0);
	assert_int_equal(pc_sim_counts(fx.sim).copies, 1);
	pc_sim_reset(fx.sim, NULL);
	assert_int_equal(fx.media->base[5], 0);
	free(image);
}

static __attribute__((noinline)) void fence_here(void)
{
	pc_media_fence(fx.media);
	__asm__ volatile("" ::: "memory"); /* no tail call */
}

static void test_skipped_site_does_nothing(void **state)
{
	struct pc_sim_site site;

	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	assert_int_equal(pc_sim_site_nr(fx.sim), 0);
	fence_here();
	fence_here();
	assert_int_equal(pc_sim_site_nr(fx.sim), 1);
	site = pc_sim_site(fx.sim, 0);
	assert_int_equal(site.calls, 2);
	assert_int_equal(site.op, PC_SIM_OP_FENCE);
	pc_media_flush(fx.media, 0, 1);
	assert_int_equal(pc_sim_site_nr(fx.sim), 2);
	pc_sim_skip_site(fx.sim, site.address);
	store(0, 1);
	fence_here();
	assert_int_equal(durable(0), 0);
	pc_media_fence(fx.media);
	assert_int_equal(durable(0), 1);
	pc_sim_skip_site(fx.sim, NULL);
	store(0, 2);
	fence_here();
	assert_int_equal(durable(0), 2);
}

static void test_stray_store_faults(void **state)
{
	int status;
	pid_t child;

	(void)state;
	start(PC_GRAN_CACHE_LINE, 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		(void)signal(SIGSEGV, SIG_DFL);
		*(volatile uint8_t *)(uintptr_t)fx.media->base = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0); /* a signal, or a sanitizer's exit */
}

static void test_bad_lengths(void **state)
{
	struct pc_sim *sim;

	(void)state;
	assert_int_equal(pc_sim_new(0, PC_GRAN_PAGE, 0, &sim), -EINVAL);
	assert_int_equal(pc_sim_new(4097, PC_GRAN_PAGE, 0, &sim), -EINVAL);
	pc_sim_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_store_is_seen_at_once_and_durable_at_fence, stop),
		cmocka_unit_test_teardown(test_unaligned_store_covers_both_words, stop),
		cmocka_unit_test_teardown(test_equal_store_is_not_pending, stop),
		cmocka_unit_test_teardown(test_fence_of_another_thread_does_nothing, stop),
		cmocka_unit_test_teardown(test_flush_makes_stores_of_others_mine, stop),
		cmocka_unit_test_teardown(test_flush_alone_is_not_durable, stop),
		cmocka_unit_test_teardown(test_later_durable_store_drops_earlier, stop),
		cmocka_unit_test_teardown(test_earlier_fence_leaves_later_pending, stop),
		cmocka_unit_test_teardown(test_word_stored_twice_may_keep_either, stop),
		cmocka_unit_test_teardown(test_word_policies, stop),
		cmocka_unit_test_teardown(test_line_policies, stop),
		cmocka_unit_test_teardown(test_random_is_seeded_and_varied, stop),
		cmocka_unit_test_teardown(test_explore_small_gives_all_subsets_once, stop),
		cmocka_unit_test_teardown(test_explore_large_uses_policies, stop),
		cmocka_unit_test_teardown(test_page_only_sync_counts, stop),
		cmocka_unit_test_teardown(test_failed_sync_loses_for_ever, stop),
		cmocka_unit_test_teardown(test_no_sync_counts_after_a_failed_one, stop),
		cmocka_unit_test_teardown(test_sync_is_a_fence_at_cache_line, stop),
		cmocka_unit_test_teardown(test_hook_sees_the_state_before_the_fence, stop),
		cmocka_unit_test_teardown(test_hook_may_jump_away, stop),
		cmocka_unit_test_teardown(test_stop_freezes_the_media, stop),
		cmocka_unit_test_teardown(test_read_errors, stop),
		cmocka_unit_test_teardown(test_damage_and_reset, stop),
		cmocka_unit_test_teardown(test_skipped_site_does_nothing, stop),
		cmocka_unit_test_teardown(test_stray_store_faults, stop),
		cmocka_unit_test_teardown(test_bad_lengths, stop),
	};

	return cmocka_run_group_tests_name("sim_media", tests, NULL, NULL);
}
