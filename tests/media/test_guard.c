/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guard of media/guard.c: loads that meet SIGBUS are errors, everybody else's SIGBUS goes where it went before. The signals are real: pages of a mapped
 * file that was truncated. What ends a process is tried in a child.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/crc.h"
#include "media/guard.h"
#include "media/media.h"

#define PAGE 4096u
#define FILE_BYTES (64u * PAGE)
#define GOOD_BYTES (32u * PAGE) /* what a truncated file still has */

struct fixture {
	struct pc_media *media;
	char path[32];
};

static uint8_t pattern_at(uint64_t off)
{
	return (uint8_t)(off * 7 + off / 251);
}

/* A mapped file of pattern. */
static void up(struct fixture *fx)
{
	uint8_t buf[PAGE];
	int fd;

	(void)snprintf(fx->path, sizeof(fx->path), "/tmp/pcache-guard-XXXXXX");
	fd = mkstemp(fx->path);
	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(pc_media_open(fx->path, 0, NULL, &fx->media), 0);
	assert_int_equal(pc_media_allocate(fx->media, FILE_BYTES), 0);
	assert_int_equal(pc_media_map(fx->media), 0);
	for (uint64_t off = 0; off < FILE_BYTES; off += PAGE) {
		for (uint64_t i = 0; i < PAGE; i++)
			buf[i] = pattern_at(off + i);
		pc_media_copy(fx->media, off, buf, PAGE);
	}
	assert_int_equal(pc_media_commit(fx->media), 0);
}

static void up_guarded(struct fixture *fx)
{
	up(fx);
	assert_int_equal(pc_media_guard(fx->media), 0);
	assert_true(fx->media->guarded);
}

static void cut(const struct fixture *fx)
{
	assert_int_equal(truncate(fx->path, GOOD_BYTES), 0);
}

static void down(struct fixture *fx)
{
	pc_media_close(fx->media);
	assert_int_equal(unlink(fx->path), 0);
	fx->media = NULL;
}

static bool is_pattern(const uint8_t *buf, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (buf[i] != pattern_at(off + i))
			return false;
	}
	return true;
}

/* ---- loads ---------------------------------------------------------------------------------------------------------- */

static void copies_what_is_there(void **state)
{
	struct fixture fx;
	uint8_t buf[700];

	(void)state;
	up_guarded(&fx);
	for (size_t len = 0; len <= 600; len++) {
		for (uint64_t off = 0; off < 17; off += 1 + len % 3) {
			memset(buf, 0xee, sizeof(buf));
			assert_int_equal(pc_media_load(fx.media, PAGE - 40 + off, buf + 1, len), 0);
			assert_true(is_pattern(buf + 1, PAGE - 40 + off, len));
			assert_int_equal(buf[0], 0xee);
			assert_int_equal(buf[1 + len], 0xee);
		}
	}
	down(&fx);
}

static void a_fault_is_an_error_and_only_where_it_is(void **state)
{
	static const size_t lens[] = { 1, 8, 63, 64, 65, 512, 4096 };
	struct fixture fx;
	uint8_t buf[PAGE];
	uint32_t crc = 17;

	(void)state;
	up_guarded(&fx);
	cut(&fx);
	for (size_t i = 0; i < PC_ARRAY_NR(lens); i++) {
		size_t len = lens[i];

		for (uint64_t past = 0; past <= len; past += PC_MAX(len / 8, (size_t)1)) {
			uint64_t off = GOOD_BYTES - len + past;

			errno = 77;
			assert_int_equal(pc_media_load(fx.media, off, buf, len), past ? -EIO : 0);
			assert_int_equal(errno, 77);
			assert_int_equal(pc_media_load_crc(fx.media, off, buf, len, &crc), past ? -EIO : 0);
			if (!past)
				assert_true(is_pattern(buf, off, len) && crc == pc_crc32c(0, buf, len));
		}
	}
	assert_int_equal(pc_media_load(fx.media, GOOD_BYTES - PAGE, buf, PAGE), 0);
	/* Pages that are there again are read again. */
	assert_int_equal(truncate(fx.path, FILE_BYTES), 0);
	assert_int_equal(pc_media_load(fx.media, GOOD_BYTES, buf, PAGE), 0);
	assert_int_equal(buf[7], 0);
	down(&fx);
}

/* The copy for processors without wide registers. */
static void the_narrow_copy(void **state)
{
	struct fixture fx;
	uint8_t buf[700];

	(void)state;
	up_guarded(&fx);
	cut(&fx);
	for (size_t len = 0; len <= 600; len++) {
		const uint8_t *from = fx.media->base + GOOD_BYTES - len;

		memset(buf, 0xee, sizeof(buf));
		assert_int_equal(pc_guard_copy(buf + 1, from, len, 0), 0);
		assert_true(is_pattern(buf + 1, GOOD_BYTES - len, len));
		assert_int_equal(buf[0], 0xee);
		assert_int_equal(buf[1 + len], 0xee);
		assert_int_equal(pc_guard_copy(buf + 1, from + 1, len, 0), len ? -EIO : 0);
	}
	down(&fx);
}

/* A handler that leaves by longjmp would keep the signal blocked: the second fault would be the end. */
static void a_fault_changes_no_signal_mask(void **state)
{
	sigset_t mine, now;
	struct fixture fx;
	uint8_t buf[64];

	(void)state;
	up_guarded(&fx);
	cut(&fx);
	assert_int_equal(sigemptyset(&mine) | sigaddset(&mine, SIGUSR1), 0);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &mine, NULL), 0);
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(pc_media_load(fx.media, GOOD_BYTES + i, buf, sizeof(buf)), -EIO);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
	assert_int_equal(sigismember(&now, SIGUSR1), 1);
	assert_int_equal(sigismember(&now, SIGBUS), 0);
	assert_int_equal(sigemptyset(&mine), 0);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &mine, NULL), 0);
	down(&fx);
}

#define LOADERS 4u
#define LOAD_MEDIA 3u

struct loader {
	struct fixture *fixtures;
	uint32_t idx;
	uint32_t wrong;
	uint32_t faults;
};

static void *load_all(void *arg)
{
	struct loader *loader = arg;
	uint8_t buf[PAGE];
	uint32_t crc;

	for (uint32_t round = 0; round < 600; round++) {
		struct pc_media *media = loader->fixtures[(round + loader->idx) % LOAD_MEDIA].media;
		uint64_t off = (uint64_t)(round * 5 + loader->idx * 11) % (FILE_BYTES / PAGE) * PAGE;
		int rc = pc_media_load_crc(media, off, buf, PAGE, &crc);

		loader->faults += rc == -EIO;
		loader->wrong += rc != (off < GOOD_BYTES ? 0 : -EIO);
		loader->wrong += rc == 0 && (!is_pattern(buf, off, PAGE) || crc != pc_crc32c(0, buf, PAGE));
	}
	return NULL;
}

static void threads_and_several_media(void **state)
{
	struct fixture fixtures[LOAD_MEDIA], other;
	struct loader loaders[LOADERS];
	pthread_t threads[LOADERS];

	(void)state;
	for (uint32_t i = 0; i < LOAD_MEDIA; i++) {
		up_guarded(&fixtures[i]);
		cut(&fixtures[i]);
	}
	for (uint32_t i = 0; i < LOADERS; i++) {
		loaders[i] = (struct loader){ .fixtures = fixtures, .idx = i };
		assert_int_equal(pthread_create(&threads[i], NULL, load_all, &loaders[i]), 0);
	}
	/* Others come and go meanwhile. */
	for (uint32_t i = 0; i < 20; i++) {
		up_guarded(&other);
		down(&other);
	}
	for (uint32_t i = 0; i < LOADERS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(loaders[i].wrong, 0);
		assert_in_range(loaders[i].faults, 100, 500);
	}
	for (uint32_t i = 0; i < LOAD_MEDIA; i++)
		down(&fixtures[i]);
}

/* ---- the handler comes and goes --------------------------------------------------------------------------------------- */

static struct sigaction now_installed(void)
{
	struct sigaction now;

	assert_int_equal(sigaction(SIGBUS, NULL, &now), 0);
	return now;
}

static void on_other(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info, (void)context;
}

static bool is_handler(void (*fn)(int, siginfo_t *, void *))
{
	struct sigaction now = now_installed();

	return (now.sa_flags & SA_SIGINFO) && now.sa_sigaction == fn;
}

static void install(void (*fn)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action = { .sa_sigaction = fn, .sa_flags = SA_SIGINFO | flags };

	assert_int_equal(sigaction(SIGBUS, &action, NULL), 0);
}

static void handler_only_while_guarded_media_is_open(void **state)
{
	struct sigaction first = now_installed();
	struct fixture a, b, plain;

	(void)state;
	install(on_other, 0);
	up(&plain);
	assert_int_equal(pc_media_guard(plain.media), 0);
	assert_false(is_handler(on_other));
	down(&plain);
	assert_true(is_handler(on_other));
	up(&plain); /* without the guard */
	assert_false(plain.media->guarded);
	assert_true(is_handler(on_other));
	up_guarded(&a);
	up_guarded(&b);
	assert_int_equal(pc_media_guard(b.media), 0); /* a second time changes nothing */
	assert_false(is_handler(on_other));
	down(&a);
	assert_false(is_handler(on_other));
	down(&b);
	assert_true(is_handler(on_other));
	down(&plain);
	assert_int_equal(sigaction(SIGBUS, &first, NULL), 0);
}

static void guard_wants_a_mapping(void **state)
{
	struct fixture fx;
	char path[32];

	(void)state;
	up(&fx);
	(void)snprintf(path, sizeof(path), "%s", fx.path);
	pc_media_close(fx.media);
	assert_int_equal(pc_media_open(path, 0, NULL, &fx.media), 0);
	assert_int_equal(pc_media_guard(fx.media), -EINVAL);
	assert_false(fx.media->guarded);
	down(&fx);
}

/* A handler that somebody put on top of ours and that calls it. */
static struct sigaction below_top;
static _Atomic uint32_t top_calls;

static void on_top(int sig, siginfo_t *info, void *context)
{
	atomic_fetch_add(&top_calls, 1);
	below_top.sa_sigaction(sig, info, context);
}

static void a_handler_on_top_of_ours_stays_there(void **state)
{
	struct sigaction first = now_installed();
	struct fixture fx;
	uint8_t byte;

	(void)state;
	install(on_other, 0);
	up_guarded(&fx);
	below_top = now_installed();
	install(on_top, 0);
	cut(&fx);
	assert_int_equal(pc_media_load(fx.media, GOOD_BYTES, &byte, 1), -EIO);
	assert_int_equal(atomic_load(&top_calls), 1);
	down(&fx);
	assert_true(is_handler(on_top));
	/* Ours lies below it still: it must not come on top a second time. */
	up_guarded(&fx);
	assert_true(is_handler(on_top));
	cut(&fx);
	assert_int_equal(pc_media_load(fx.media, GOOD_BYTES, &byte, 1), -EIO);
	assert_int_equal(atomic_load(&top_calls), 2);
	/* The other one goes, in good order: ours is the first again, and the last media takes it away. */
	assert_int_equal(sigaction(SIGBUS, &below_top, NULL), 0);
	assert_int_equal(pc_media_load(fx.media, GOOD_BYTES, &byte, 1), -EIO);
	down(&fx);
	assert_true(is_handler(on_other));
	/* Whoever throws ours away does not keep the next guard from coming. */
	up_guarded(&fx);
	below_top = now_installed();
	install(on_top, 0);
	down(&fx);
	assert_int_equal(sigaction(SIGBUS, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL), 0);
	up_guarded(&fx);
	cut(&fx);
	assert_int_equal(pc_media_load(fx.media, GOOD_BYTES, &byte, 1), -EIO);
	down(&fx);
	assert_int_equal(now_installed().sa_handler == SIG_DFL, true);
	assert_int_equal(sigaction(SIGBUS, &first, NULL), 0);
}

/* ---- what is not ours ------------------------------------------------------------------------------------------------- */

/* In a child: the SIGBUS of others. Each returns if the process lives. */
static struct fixture child_fx;
static sigjmp_buf escape;
static volatile uint32_t escapes;
static sigset_t seen_mask;

static void on_escape(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info, (void)context;
	escapes++;
	(void)pthread_sigmask(SIG_SETMASK, NULL, &seen_mask);
	siglongjmp(escape, 1);
}

static void touch(const volatile uint8_t *at)
{
	(void)*at;
}

/* A load of the guarded mapping that is not one of pc_media_load. */
static void stray_load(void)
{
	touch(child_fx.media->base + GOOD_BYTES);
}

/* The library's copy faults, but in the caller's buffer. */
static void bad_target(void)
{
	char path[] = "/tmp/pcache-guard-XXXXXX";
	int fd = mkstemp(path);
	void *to;

	if (fd < 0 || unlink(path) != 0)
		return;
	to = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (to != MAP_FAILED)
		(void)pc_guard_load(to, child_fx.media->base, 100);
}

/* The library's copy faults in a mapping that nobody guards. */
static void bad_source(void)
{
	char path[] = "/tmp/pcache-guard-XXXXXX";
	int fd = mkstemp(path);
	uint8_t buf[100];
	void *from;

	if (fd < 0 || unlink(path) != 0)
		return;
	from = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (from != MAP_FAILED)
		(void)pc_guard_load(buf, from, sizeof(buf));
}

static void sent(void)
{
	(void)kill(getpid(), SIGBUS);
}

static void guarded_load(void)
{
	uint8_t buf[8];

	if (pc_media_load(child_fx.media, GOOD_BYTES, buf, sizeof(buf)) != -EIO)
		_exit(3);
}

static void fresh_child_media(bool guarded)
{
	const struct rlimit no_core = { 0, 0 };

	(void)setrlimit(RLIMIT_CORE, &no_core);
	up(&child_fx);
	if (guarded)
		assert_int_equal(pc_media_guard(child_fx.media), 0);
	cut(&child_fx);
	(void)unlink(child_fx.path);
}

/* What becomes of a child that does this with that disposition: 0 lives, else the signal. */
static int fate(void (*disposition)(int), bool guarded, void (*deed)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct sigaction action = { .sa_handler = disposition };

		(void)sigaction(SIGBUS, &action, NULL);
		fresh_child_media(guarded);
		deed();
		deed();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status))
		return WTERMSIG(status);
	assert_int_equal(WEXITSTATUS(status), 0);
	return 0;
}

static void others_die_as_before(void **state)
{
	(void)state;
	for (uint32_t guarded = 0; guarded < 2; guarded++) {
		assert_int_equal(fate(SIG_DFL, guarded != 0, stray_load), SIGBUS);
		assert_int_equal(fate(SIG_DFL, guarded != 0, bad_target), SIGBUS);
		assert_int_equal(fate(SIG_DFL, guarded != 0, bad_source), SIGBUS);
		assert_int_equal(fate(SIG_DFL, guarded != 0, sent), SIGBUS);
		assert_int_equal(fate(SIG_IGN, guarded != 0, stray_load), SIGBUS);
		assert_int_equal(fate(SIG_IGN, guarded != 0, sent), 0);
		assert_int_equal(fate(SIG_DFL, guarded != 0, guarded_load), guarded ? 0 : SIGBUS);
	}
}

/* Runs deed under a handler of the application that escapes by siglongjmp; returns how often it was called. */
static uint32_t escaped(void (*deed)(void), uint32_t times)
{
	escapes = 0;
	for (volatile uint32_t i = 0; i < times; i++) {
		if (sigsetjmp(escape, 1) == 0)
			deed();
	}
	return escapes;
}

static void others_reach_the_handler_before_us(void **state)
{
	struct sigaction first = now_installed();
	struct sigaction app = { .sa_sigaction = on_escape, .sa_flags = SA_SIGINFO };

	(void)state;
	(void)sigemptyset(&app.sa_mask);
	(void)sigaddset(&app.sa_mask, SIGUSR2);
	assert_int_equal(sigaction(SIGBUS, &app, NULL), 0);
	fresh_child_media(true);
	assert_int_equal(escaped(stray_load, 3), 3);
	assert_int_equal(escaped(bad_target, 3), 3);
	assert_int_equal(escaped(bad_source, 3), 3);
	assert_int_equal(escaped(sent, 3), 3);
	/* It ran with the signals blocked that it asked for. */
	assert_int_equal(sigismember(&seen_mask, SIGUSR2), 1);
	assert_int_equal(sigismember(&seen_mask, SIGBUS), 1);
	assert_int_equal(escaped(guarded_load, 3), 0);
	pc_media_close(child_fx.media);
	assert_int_equal(sigaction(SIGBUS, &first, NULL), 0);
}

static volatile uint32_t old_style_calls;

static void on_old_style(int sig)
{
	old_style_calls += sig == SIGBUS;
}

static void handlers_of_the_old_kind(void **state)
{
	struct sigaction first = now_installed();
	struct sigaction app = { .sa_handler = on_old_style };

	(void)state;
	assert_int_equal(sigaction(SIGBUS, &app, NULL), 0);
	fresh_child_media(true);
	sent();
	sent();
	assert_int_equal(old_style_calls, 2);
	pc_media_close(child_fx.media);
	assert_true(now_installed().sa_handler == on_old_style);
	assert_int_equal(sigaction(SIGBUS, &first, NULL), 0);
}

/* SA_RESETHAND: the second one is the end. */
static void once_only(void)
{
	struct sigaction app = { .sa_handler = on_old_style, .sa_flags = (int)SA_RESETHAND };

	old_style_calls = 0;
	pc_media_close(child_fx.media);
	(void)sigaction(SIGBUS, &app, NULL);
	fresh_child_media(true);
	sent();
	if (old_style_calls != 1)
		_exit(4);
	guarded_load();
	sent();
	_exit(5);
}

static void a_handler_for_one_call_is_called_once(void **state)
{
	(void)state;
	assert_int_equal(fate(SIG_DFL, true, once_only), SIGBUS);
}

/* ---- blocked signals, alternate stacks ---------------------------------------------------------------------------------- */

static void *load_after_inheriting_a_block(void *arg)
{
	if (arg)
		pc_media_guard_thread(child_fx.media);
	guarded_load();
	return NULL;
}

static void in_thread_with_block(bool guard_thread)
{
	pthread_t thread;
	sigset_t sigbus;

	(void)sigemptyset(&sigbus);
	(void)sigaddset(&sigbus, SIGBUS);
	(void)pthread_sigmask(SIG_BLOCK, &sigbus, NULL);
	if (pthread_create(&thread, NULL, load_after_inheriting_a_block, guard_thread ? &child_fx : NULL) != 0)
		_exit(6);
	(void)pthread_join(thread, NULL);
}

static void blocked_and_left(void)
{
	in_thread_with_block(false);
}

static void blocked_and_unblocked(void)
{
	in_thread_with_block(true);
}

static void our_threads_unblock_the_signal(void **state)
{
	(void)state;
	assert_int_equal(fate(SIG_DFL, true, blocked_and_unblocked), 0);
	/* The kernel does not wait with a fault until it is unblocked. */
	assert_int_equal(fate(SIG_DFL, true, blocked_and_left), SIGBUS);
}

static void works_on_an_alternate_stack(void **state)
{
	stack_t mine = { .ss_sp = malloc(1 << 16), .ss_size = 1 << 16 };
	stack_t old;
	struct fixture fx;
	uint8_t byte;

	(void)state;
	assert_non_null(mine.ss_sp);
	assert_int_equal(sigaltstack(&mine, &old), 0);
	up_guarded(&fx);
	assert_true(now_installed().sa_flags & SA_ONSTACK);
	cut(&fx);
	assert_int_equal(pc_media_load(fx.media, GOOD_BYTES, &byte, 1), -EIO);
	down(&fx);
	old.ss_flags |= old.ss_sp ? 0 : SS_DISABLE;
	assert_int_equal(sigaltstack(&old, NULL), 0);
	free(mine.ss_sp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies_what_is_there),
		cmocka_unit_test(a_fault_is_an_error_and_only_where_it_is),
		cmocka_unit_test(the_narrow_copy),
		cmocka_unit_test(a_fault_changes_no_signal_mask),
		cmocka_unit_test(threads_and_several_media),
		cmocka_unit_test(handler_only_while_guarded_media_is_open),
		cmocka_unit_test(guard_wants_a_mapping),
		cmocka_unit_test(a_handler_on_top_of_ours_stays_there),
		cmocka_unit_test(others_die_as_before),
		cmocka_unit_test(others_reach_the_handler_before_us),
		cmocka_unit_test(handlers_of_the_old_kind),
		cmocka_unit_test(a_handler_for_one_call_is_called_once),
		cmocka_unit_test(our_threads_unblock_the_signal),
		cmocka_unit_test(works_on_an_alternate_stack),
	};

	return cmocka_run_group_tests_name("media_guard", tests, NULL, NULL);
}
