/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pc_spin, the code of base/lock.c as a release build has it, in every interleaving: one holder at a time, nobody sleeps for ever (the futex here knows no time limit, so a
 * wake-up that is lost shows), and who reads without the lock sees whole states only. And that broken locks are found.
 */
#ifndef NDEBUG
#define NDEBUG
#endif
#undef PC_PLANTS
#include "explore/explore_atomics.h"

#define SPIN_NR 1u
#define SPIN_YIELD_NR 0u
/* Without its time limit: nobody may depend on it. */
static long futex(const void *word, int op, uint32_t val, const void *limit)
{
	(void)limit;
	return explore_futex(word, op, val);
}
#define syscall(nr, word, op, val, limit, word_2, val_2) futex(word, op, val, limit)
#include "base/lock.c" /* NOLINT: the code itself, with those accesses */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "explore/expect.h"

#define ROUND_NR 2u

bool explore_skips(const volatile void *at)
{
	(void)at;
	return false;
}

static struct state {
	struct pc_spin spin;
	void (*lock)(struct pc_spin *spin);
	void (*unlock)(struct pc_spin *spin);
	uint32_t inside_nr;
	uint64_t a, b; /* equal, but while the lock is held */
	uint64_t entered_nr;
} st;

static void begin(void *arg)
{
	(void)arg;
	atomic_init(&st.spin.word, 0);
	atomic_init(&st.spin.sleeper_nr, 0);
	st.inside_nr = 0;
	st.a = st.b = st.entered_nr = 0;
}

static void lock_it(struct pc_spin *spin)
{
	pc_spin_lock(spin);
}

static void unlock_it(struct pc_spin *spin)
{
	pc_spin_unlock(spin);
}

static void holder(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < ROUND_NR; i++) {
		st.lock(&st.spin);
		if (st.inside_nr++)
			explore_fail("two hold the lock");
		st.a++;
		explore_point();
		st.b++;
		st.entered_nr++;
		if (--st.inside_nr)
			explore_fail("two hold the lock");
		st.unlock(&st.spin);
	}
}

static void reader(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < ROUND_NR; i++) {
		uint64_t version = pc_spin_version(&st.spin), a, b;

		explore_point();
		a = st.a;
		explore_point();
		b = st.b;
		if (!(version & 1) && pc_spin_is_unchanged(&st.spin, version) && a != b)
			explore_fail("a reader took half a change for a state");
	}
}

static void end(void *arg)
{
	(void)arg;
	if (atomic_load(&st.spin.word) & 1 || atomic_load(&st.spin.sleeper_nr))
		explore_fail("the lock is not free, or counts a sleeper");
}

static struct explore_result explore_lock(void (*lock)(struct pc_spin *spin), void (*unlock)(struct pc_spin *spin),
					  bool with_reader, bool with_third)
{
	struct explore_scene scene = {
		.threads = { holder, holder }, .begin = begin, .end = end, .preemptions_max = 3
	};

	if (with_reader)
		scene.threads[1] = reader;
	if (with_third) {
		scene.threads[2] = holder;
		scene.preemptions_max = explore_preemptions(2);
	}
	st.lock = lock;
	st.unlock = unlock;
	return explore(&scene);
}

static void excludes_and_wakes(void **state)
{
	(void)state;
	assert_int_equal(pc_spin_init(&st.spin, PC_RANK_SHARD, 0), 0);
	expect_right(explore_lock(lock_it, unlock_it, false, false));
	assert_int_equal(st.entered_nr, 2 * ROUND_NR);
	expect_right(explore_lock(lock_it, unlock_it, false, true));
	assert_int_equal(st.entered_nr, 3 * ROUND_NR);
	expect_right(explore_lock(lock_it, unlock_it, true, false));
	expect_right(explore_lock(lock_it, unlock_it, true, true));
	pc_spin_fini(&st.spin);
}

/* ---- locks that are wrong ---- */

static void lock_in_two_steps(struct pc_spin *spin)
{
	while (atomic_load_explicit(&spin->word, memory_order_relaxed) & 1)
		explore_wait();
	atomic_store_explicit(&spin->word, atomic_load_explicit(&spin->word, memory_order_relaxed) | 1,
			      memory_order_relaxed);
}

static void unlock_and_wake_nobody(struct pc_spin *spin)
{
	spin_give(spin);
}

static void unlock_looks_first(struct pc_spin *spin)
{
	bool sleeps = atomic_load_explicit(&spin->sleeper_nr, memory_order_relaxed) != 0;

	spin_give(spin);
	if (sleeps)
		pc_spin_wake(spin);
}

/* The version comes back to what it was: a reader takes a change for none. */
static void unlock_to_zero(struct pc_spin *spin)
{
	atomic_store_explicit(&spin->word, 0, memory_order_relaxed);
	if (atomic_load_explicit(&spin->sleeper_nr, memory_order_relaxed))
		pc_spin_wake(spin);
}

static void broken_locks_are_found(void **state)
{
	(void)state;
	/* Both take it, or its version is not even in the end, whatever comes first. */
	expect_wrong(explore_lock(lock_in_two_steps, unlock_it, false, false), NULL);
	expect_wrong(explore_lock(lock_it, unlock_and_wake_nobody, false, false), "nobody can go on");
	expect_wrong(explore_lock(lock_it, unlock_looks_first, false, false), "nobody can go on");
	expect_wrong(explore_lock(lock_it, unlock_to_zero, true, false), "a reader took half a change for a state");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(excludes_and_wakes),
		cmocka_unit_test(broken_locks_are_found),
	};

	return cmocka_run_group_tests_name("explore_spin", tests, NULL, NULL);
}
