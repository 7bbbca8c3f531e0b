/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranked mutexes: exclusion, try-lock, timed waits on the monotonic clock; and, where checks are built in, that each kind of
 * violation aborts. A violation runs in a child process, whose end tells.
 */
#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NS_PER_MS UINT64_C(1000000)

struct pair {
	struct pc_mutex low;
	struct pc_mutex high;
	struct pc_cond cond;
};

static void pair_init(struct pair *pair)
{
	assert_int_equal(pc_mutex_init(&pair->low, PC_RANK_SHARD, 3), 0);
	assert_int_equal(pc_mutex_init(&pair->high, PC_RANK_SHARD, 4), 0);
	assert_int_equal(pc_cond_init(&pair->cond), 0);
}

static void pair_fini(struct pair *pair)
{
	pc_cond_fini(&pair->cond);
	pc_mutex_fini(&pair->high);
	pc_mutex_fini(&pair->low);
}

/* The same ladder holds for spin locks. */
static void do_spin_below_a_mutex(struct pair *pair)
{
	struct pc_spin spin;

	if (pc_spin_init(&spin, PC_RANK_SHARD, 2))
		_exit(1);
	pc_mutex_lock(&pair->low);
	pc_spin_lock(&spin);
}

static void do_mutex_below_a_spin(struct pair *pair)
{
	struct pc_spin spin;

	if (pc_spin_init(&spin, PC_RANK_SHARD, 5))
		_exit(1);
	pc_spin_lock(&spin);
	pc_mutex_lock(&pair->low);
}

static bool aborts(void (*act)(struct pair *pair))
{
	const struct rlimit no_core = { 0, 0 };
	struct pair pair;
	int status;
	pid_t pid;

	pair_init(&pair);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		setrlimit(RLIMIT_CORE, &no_core);
		dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
		act(&pair);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	pair_fini(&pair);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void do_ascending(struct pair *pair)
{
	pc_mutex_lock(&pair->low);
	pc_mutex_lock(&pair->high);
	pc_mutex_unlock(&pair->low); /* out of order on purpose: unlocking has no order */
	pc_mutex_unlock(&pair->high);
	pc_mutex_lock(&pair->low);
	pc_mutex_unlock(&pair->low);
}

static void do_trylock_descending(struct pair *pair)
{
	pc_mutex_lock(&pair->high);
	if (!pc_mutex_trylock(&pair->low))
		abort();
	pc_mutex_unlock(&pair->low);
	pc_mutex_unlock(&pair->high);
}

static void do_descending(struct pair *pair)
{
	pc_mutex_lock(&pair->high);
	pc_mutex_lock(&pair->low);
}

static void do_below_a_trylock(struct pair *pair)
{
	if (pc_mutex_trylock(&pair->high))
		pc_mutex_lock(&pair->low);
}

static void do_unlock_of_a_free_one(struct pair *pair)
{
	pc_mutex_lock(&pair->low);
	pc_mutex_unlock(&pair->high);
}

static void do_wait_below(struct pair *pair)
{
	pc_mutex_lock(&pair->low);
	pc_mutex_lock(&pair->high);
	pc_cond_wait_until(&pair->cond, &pair->low, 0);
}

static void do_wait_unlocked(struct pair *pair)
{
	pc_cond_wait_until(&pair->cond, &pair->low, 0);
}

static void legal_orders_pass(void **state)
{
	(void)state;
	assert_false(aborts(do_ascending));
	assert_false(aborts(do_trylock_descending));
}

static void violations_abort(void **state)
{
	(void)state;
#ifdef NDEBUG
	skip();
#endif
	assert_true(aborts(do_descending));
	assert_true(aborts(do_below_a_trylock));
	assert_true(aborts(do_unlock_of_a_free_one));
	assert_true(aborts(do_wait_below));
	assert_true(aborts(do_wait_unlocked));
	assert_true(aborts(do_spin_below_a_mutex));
	assert_true(aborts(do_mutex_below_a_spin));
}

static void sub_rank_must_fit(void **state)
{
	struct pc_mutex mutex;

	(void)state;
	assert_int_equal(pc_mutex_init(&mutex, PC_RANK_SHARD, 0x10000), -EINVAL);
	assert_int_equal(pc_mutex_init(&mutex, PC_RANK_SHARD, 0xffff), 0);
	pc_mutex_fini(&mutex);
}

static void timed_wait_ends(void **state)
{
	struct pair pair;
	uint64_t start = pc_monotonic_ns();

	(void)state;
	pair_init(&pair);
	pc_mutex_lock(&pair.low);
	while (pc_cond_wait_until(&pair.cond, &pair.low, start + 20 * NS_PER_MS))
		;
	assert_true(pc_monotonic_ns() >= start + 20 * NS_PER_MS);
	assert_false(pc_cond_wait_until(&pair.cond, &pair.low, 0));
	pc_mutex_unlock(&pair.low);
	pair_fini(&pair);
}

struct turns {
	struct pair pair;
	unsigned int nr; /* under pair.low */
};

static void *take_odd_turns(void *arg)
{
	struct turns *turns = arg;

	for (int i = 0; i < 1000; i++) {
		pc_mutex_lock(&turns->pair.low);
		while (turns->nr % 2 == 0)
			pc_cond_wait(&turns->pair.cond, &turns->pair.low);
		turns->nr++;
		pc_cond_broadcast(&turns->pair.cond);
		pc_mutex_unlock(&turns->pair.low);
	}
	return NULL;
}

static void two_threads_take_turns(void **state)
{
	struct turns turns = { .nr = 0 };
	pthread_t thread;

	(void)state;
	pair_init(&turns.pair);
	assert_int_equal(pthread_create(&thread, NULL, take_odd_turns, &turns), 0);
	for (int i = 0; i < 1000; i++) {
		pc_mutex_lock(&turns.pair.low);
		while (turns.nr % 2 == 1)
			assert_true(pc_cond_wait_until(&turns.pair.cond, &turns.pair.low,
						       pc_monotonic_ns() + 60000 * NS_PER_MS));
		turns.nr++;
		pc_cond_signal(&turns.pair.cond);
		pc_mutex_unlock(&turns.pair.low);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(turns.nr, 2000);
	pair_fini(&turns.pair);
}

static void *try_both(void *arg)
{
	struct pair *pair = arg;

	assert_false(pc_mutex_trylock(&pair->low));
	assert_true(pc_mutex_trylock(&pair->high));
	pc_mutex_unlock(&pair->high);
	return NULL;
}

static void held_mutex_refuses_trylock(void **state)
{
	struct pair pair;
	pthread_t thread;

	(void)state;
	pair_init(&pair);
	pc_mutex_lock(&pair.low);
	assert_int_equal(pthread_create(&thread, NULL, try_both, &pair), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	pc_mutex_unlock(&pair.low);
	pair_fini(&pair);
}

#define SPIN_THREAD_NR 8u
#define SPIN_ROUND_NR 20000u

struct spin_run {
	struct pc_spin spin;
	uint64_t plain; /* under the lock: a lost addition shows */
	uint32_t slept_nr;
};

/* Most holds are short; some are so long that the others go to sleep. */
static void *spin_adds(void *arg)
{
	struct spin_run *run = arg;

	for (uint32_t i = 0; i < SPIN_ROUND_NR; i++) {
		pc_spin_lock(&run->spin);
		run->plain++;
		if (i % (SPIN_ROUND_NR / 4) == 7) {
			usleep(1000);
			run->slept_nr += atomic_load(&run->spin.sleeper_nr) != 0;
		}
		pc_spin_unlock(&run->spin);
	}
	return NULL;
}

static void spin_lock_excludes(void **state)
{
	pthread_t threads[SPIN_THREAD_NR];
	struct spin_run run = { .plain = 0 };

	(void)state;
	assert_int_equal(pc_spin_init(&run.spin, PC_RANK_SHARD, 0), 0);
	for (uint32_t i = 0; i < SPIN_THREAD_NR; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, spin_adds, &run), 0);
	for (uint32_t i = 0; i < SPIN_THREAD_NR; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(run.plain, SPIN_THREAD_NR * SPIN_ROUND_NR);
	assert_int_equal(atomic_load(&run.spin.sleeper_nr), 0);
	pc_spin_fini(&run.spin);
}

struct sleeper_run {
	struct pc_spin spin;
	_Atomic bool done;
};

static void *take_once(void *arg)
{
	struct sleeper_run *run = arg;

	pc_spin_lock(&run->spin);
	pc_spin_unlock(&run->spin);
	atomic_store(&run->done, true);
	return NULL;
}

/* The release looked for sleepers before this one came: nobody wakes it, and it goes on all the same. */
static void missed_wake_up_ends(void **state)
{
	struct sleeper_run run = { .done = false };
	pthread_t thread;

	(void)state;
	assert_int_equal(pc_spin_init(&run.spin, PC_RANK_SHARD, 0), 0);
	atomic_store(&run.spin.word, 1);
	assert_int_equal(pthread_create(&thread, NULL, take_once, &run), 0);
	while (atomic_load(&run.spin.sleeper_nr) == 0)
		usleep(100);
	assert_false(atomic_load(&run.done));
	atomic_store(&run.spin.word, 2);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(atomic_load(&run.done));
	pc_spin_fini(&run.spin);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(legal_orders_pass),      cmocka_unit_test(violations_abort),
		cmocka_unit_test(sub_rank_must_fit),      cmocka_unit_test(timed_wait_ends),
		cmocka_unit_test(spin_lock_excludes),     cmocka_unit_test(missed_wake_up_ends),
		cmocka_unit_test(two_threads_take_turns), cmocka_unit_test(held_mutex_refuses_trylock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
