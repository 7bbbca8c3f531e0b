/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A backing that is slow, hangs, or does its work on other threads (G11 as far as it is built, G9). There are no time-outs: a call that needs a hanging backing
 * waits for it. What is held here is that everybody else goes on, that nothing is written twice at a time, and that close and drain do not return before
 * the backing did.
 */
#include "fault/cells_backing.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A call in a thread of its own. */
struct job {
	struct scene *scene;
	int (*fn)(struct scene *scene);
	pthread_t thread;
	int rc;
	_Atomic bool done;
};

static void *job_main(void *arg)
{
	struct job *job = arg;

	job->rc = job->fn(job->scene);
	atomic_store(&job->done, true);
	return NULL;
}

static void job_start(struct job *job)
{
	assert_int_equal(pthread_create(&job->thread, NULL, job_main, job), 0);
}

static void job_end(struct job *job)
{
	assert_int_equal(pthread_join(job->thread, NULL), 0);
	assert_int_equal(job->rc, 0);
}

static int do_miss(struct scene *scene)
{
	return pcache_read(scene->rig.cache, scene->rig.scratch + SCENE_MISS_OFF, SCENE_MISS_OFF, SCENE_MISS_BYTES, 0);
}

static int do_drain(struct scene *scene)
{
	return pcache_drain(scene->rig.cache, NULL, NULL);
}

static int do_close(struct scene *scene)
{
	return pcache_close(scene->rig.cache);
}

static int do_open(struct scene *scene)
{
	return rig_try_open(&scene->rig);
}

static bool is_in_flight(struct scene *scene)
{
	struct mem_backing_counters counters;

	mem_backing_get_counters(scene->rig.mb, &counters);
	return counters.in_flight != 0;
}

static bool is_clean(struct scene *scene)
{
	return rig_info(&scene->rig).dirty_bytes == 0;
}

static uint32_t parts_of(uint32_t col)
{
	if (col == BK_WRITE || col == BK_MISS)
		return SCENE_WRITES;
	return col == BK_ZEROES ? SCENE_ZEROES : SCENE_WRITES | SCENE_ZEROES;
}

static void threaded_scene(struct scene *scene)
{
	scene_zero(scene);
	scene->rig.o.sim_flags = PC_SIM_THREADED;
}

/* ---- delay ---------------------------------------------------------------------------------------------------------- */

static int run_column(struct scene *scene, uint32_t col)
{
	switch (col) {
	case BK_MISS:
		rig_check_range(&scene->rig, SCENE_MISS_OFF, SCENE_MISS_BYTES);
		return 0;
	case BK_DRAIN:
		return do_drain(scene);
	case BK_OPEN:
		rig_kill(&scene->rig);
		return rig_try_open(&scene->rig);
	case BK_CLOSE:
		rig_close(&scene->rig);
		return rig_try_open(&scene->rig);
	default:
		return scene_write_back(scene);
	}
}

uint64_t backing_delay(uint32_t col)
{
	struct scene scene;
	uint64_t calls;

	threaded_scene(&scene);
	scene.rig.o.threads = col == BK_CLOSE;
	if (col == BK_CLOSE)
		rig_up(&scene.rig);
	else
		scene_up(&scene, parts_of(col));
	calls = scene_calls(&scene);
	for (uint32_t op = 0; op < MEM_BACKING_OP_NR; op++)
		mem_backing_set_delay(scene.rig.mb, (enum mem_backing_op)op, 500000);
	if (col == BK_CLOSE)
		rig_write(&scene.rig, 0, 16384, 0);
	assert_int_equal(run_column(&scene, col), 0);
	for (uint32_t op = 0; op < MEM_BACKING_OP_NR; op++)
		mem_backing_set_delay(scene.rig.mb, (enum mem_backing_op)op, 0);
	calls = scene_calls(&scene) - calls;
	scene_recovers(&scene);
	scene_down(&scene);
	return calls;
}

/* ---- hang ------------------------------------------------------------------------------------------------------------ */

static void set_hang(struct scene *scene, uint32_t ops, bool hang)
{
	for (uint32_t op = 0; op < MEM_BACKING_OP_NR; op++)
		if (ops >> op & 1)
			mem_backing_set_hang(scene->rig.mb, (enum mem_backing_op)op, hang);
}

/* Reads of what is cached, writes and flushes go on; also a write into the blocks that are on their way to the backing. */
static void others_go_on(struct scene *scene, uint64_t busy_off)
{
	struct rig *rig = &scene->rig;

	rig_check_range(rig, SCENE_CLEAN_OFF, 8192);
	rig_write(rig, SCENE_DURING_OFF, 2048, 0);
	rig_check_range(rig, SCENE_DURING_OFF, 2048);
	rig_write(rig, busy_off, 1024, 0);
	rig_check_range(rig, busy_off, 1024);
	rig_zeroes(rig, SCENE_DURING_OFF + 4096, 1024, true);
	rig_flush(rig);
	(void)rig_info(rig);
}

static uint64_t hanging_miss(void)
{
	struct job job = { .fn = do_miss };
	struct scene scene;
	uint8_t *old;

	threaded_scene(&scene);
	scene_up(&scene, SCENE_WRITES);
	old = malloc(SCENE_MISS_BYTES);
	assert_non_null(old);
	memcpy(old, scene.rig.model + SCENE_MISS_OFF, SCENE_MISS_BYTES);
	job.scene = &scene;
	set_hang(&scene, 1u << MEM_BACKING_READ, true);
	job_start(&job);
	scene_await(is_in_flight, &scene);
	others_go_on(&scene, SCENE_MISS_OFF + 1024);
	assert_int_equal(scene_write_back(&scene), 0); /* other calls of the backing too */
	assert_false(atomic_load(&job.done));
	set_hang(&scene, 1u << MEM_BACKING_READ, false);
	job_end(&job);
	for (uint64_t at = 0; at < SCENE_MISS_BYTES; at += 512) {
		const uint8_t *got = scene.rig.scratch + SCENE_MISS_OFF + at;

		if (memcmp(got, old + at, 512) != 0)
			assert_memory_equal(got, scene.rig.model + SCENE_MISS_OFF + at, 512);
	}
	free(old);
	scene_check_all(&scene);
	scene_recovers(&scene);
	scene_down(&scene);
	return 1;
}

/* The write-back worker hangs in op; ending by BK_CLOSE: the cache is closed meanwhile, which waits. */
static uint64_t hanging_worker(enum mem_backing_op op, bool with_close)
{
	struct job job = { .fn = do_close };
	struct scene scene;
	bool is_zero = op == MEM_BACKING_DISCARD || op == MEM_BACKING_ZEROES;
	uint64_t busy_off = is_zero ? SCENE_ZEROES_OFF : 4096;

	threaded_scene(&scene);
	scene.rig.o.threads = true;
	rig_up(&scene.rig);
	rig_check_range(&scene.rig, SCENE_CLEAN_OFF, 8192);
	job.scene = &scene;
	set_hang(&scene, 1u << op, true);
	if (is_zero)
		rig_zeroes(&scene.rig, busy_off, 4096, op == MEM_BACKING_DISCARD);
	else
		rig_write(&scene.rig, busy_off, 4096, 0);
	scene_await(is_in_flight, &scene);
	others_go_on(&scene, busy_off);
	assert_true(rig_info(&scene.rig).dirty_bytes > 0);
	if (with_close) {
		job_start(&job);
		(void)usleep(30000);
		assert_false(atomic_load(&job.done));
	}
	set_hang(&scene, 1u << op, false);
	if (with_close) {
		job_end(&job);
		rig_open(&scene.rig);
	}
	scene_await(is_clean, &scene);
	scene_check_all(&scene);
	rig_drain(&scene.rig);
	(void)scene_calls(&scene); /* asserts that no two writes of a block overlapped */
	rig_close(&scene.rig);
	scene_down(&scene);
	return 1;
}

static uint64_t hanging_drain(enum mem_backing_op op)
{
	struct job job = { .fn = do_drain };
	struct scene scene;

	threaded_scene(&scene);
	scene_up(&scene, SCENE_WRITES | SCENE_ZEROES);
	job.scene = &scene;
	set_hang(&scene, 1u << op, true);
	job_start(&job);
	scene_await(is_in_flight, &scene);
	others_go_on(&scene, 0);
	assert_false(atomic_load(&job.done));
	set_hang(&scene, 1u << op, false);
	job_end(&job);
	scene_recovers(&scene);
	scene_down(&scene);
	return 1;
}

static uint64_t hanging_open(void)
{
	struct job job = { .fn = do_open };
	struct scene scene;

	threaded_scene(&scene);
	scene_up(&scene, SCENE_WRITES | SCENE_ZEROES);
	job.scene = &scene;
	rig_kill(&scene.rig);
	set_hang(&scene, 1u << MEM_BACKING_FLUSH, true);
	job_start(&job);
	scene_await(is_in_flight, &scene);
	(void)usleep(10000);
	assert_false(atomic_load(&job.done)); /* nothing is shown that the backing could still lose */
	set_hang(&scene, 1u << MEM_BACKING_FLUSH, false);
	job_end(&job);
	scene_check_all(&scene);
	scene_recovers(&scene);
	scene_down(&scene);
	return 1;
}

uint64_t backing_hang(uint32_t col)
{
	static const enum mem_backing_op ops[] = { MEM_BACKING_WRITE, MEM_BACKING_DISCARD, MEM_BACKING_ZEROES,
						   MEM_BACKING_FLUSH };
	uint64_t nr = 0;

	switch (col) {
	case BK_MISS:
		return hanging_miss();
	case BK_WRITE:
		return hanging_worker(MEM_BACKING_WRITE, false);
	case BK_ZEROES:
		return hanging_worker(MEM_BACKING_DISCARD, false) + hanging_worker(MEM_BACKING_ZEROES, false);
	case BK_FLUSH:
		return hanging_worker(MEM_BACKING_FLUSH, false);
	case BK_OPEN:
		return hanging_open();
	default:
		for (uint32_t i = 0; i < PC_ARRAY_NR(ops); i++)
			nr += col == BK_DRAIN ? hanging_drain(ops[i]) : hanging_worker(ops[i], true);
		return nr;
	}
}

/* ---- other threads, and a table with submit -------------------------------------------------------------------------- */

/*
 * A program may have the synchronous callbacks done by other threads; and its table may have a submit callback, which gets the writes of write-back: one that
 * completes a request before it returns is the hard case.
 */
static _Atomic uint64_t submit_nr, moved_nr;
static struct pcache_backing_ops real_ops;

struct moved {
	enum mem_backing_op op;
	void *user;
	void *read_buf;
	const void *write_buf;
	uint64_t off;
	uint64_t len;
	int rc;
};

static void *moved_main(void *arg)
{
	struct moved *moved = arg;

	if (moved->op == MEM_BACKING_READ)
		moved->rc = real_ops.read(moved->user, moved->read_buf, moved->off, moved->len);
	else if (moved->op == MEM_BACKING_WRITE)
		moved->rc = real_ops.write(moved->user, moved->write_buf, moved->off, moved->len);
	else if (moved->op == MEM_BACKING_FLUSH)
		moved->rc = real_ops.flush(moved->user);
	else if (moved->op == MEM_BACKING_DISCARD)
		moved->rc = real_ops.discard(moved->user, moved->off, moved->len);
	else
		moved->rc = real_ops.write_zeroes(moved->user, moved->off, moved->len);
	return NULL;
}

static int on_thread(struct moved moved)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, moved_main, &moved))
		return -EAGAIN;
	(void)pthread_join(thread, NULL);
	atomic_fetch_add(&moved_nr, 1);
	return moved.rc;
}

static int moved_read(void *user, void *buf, uint64_t off, uint64_t len)
{
	return on_thread(
		(struct moved){ .op = MEM_BACKING_READ, .user = user, .read_buf = buf, .off = off, .len = len });
}

static int moved_write(void *user, const void *buf, uint64_t off, uint64_t len)
{
	return on_thread(
		(struct moved){ .op = MEM_BACKING_WRITE, .user = user, .write_buf = buf, .off = off, .len = len });
}

static int moved_flush(void *user)
{
	return on_thread((struct moved){ .op = MEM_BACKING_FLUSH, .user = user });
}

static int moved_discard(void *user, uint64_t off, uint64_t len)
{
	return on_thread((struct moved){ .op = MEM_BACKING_DISCARD, .user = user, .off = off, .len = len });
}

static int moved_zeroes(void *user, uint64_t off, uint64_t len)
{
	return on_thread((struct moved){ .op = MEM_BACKING_ZEROES, .user = user, .off = off, .len = len });
}

static int submit_at_once(void *user, struct pcache_backing_io *io, uint32_t kind, void *buf, uint64_t off,
			  uint64_t len)
{
	int rc = -EINVAL;

	atomic_fetch_add(&submit_nr, 1);
	if (kind == PCACHE_BACKING_READ)
		rc = real_ops.read(user, buf, off, len);
	if (kind == PCACHE_BACKING_WRITE)
		rc = real_ops.write(user, buf, off, len);
	pcache_backing_complete(io, rc);
	return 0;
}

static struct pcache_backing *attach(struct mem_backing *mb, bool moved)
{
	struct pcache_backing *backing = NULL;
	struct pcache_backing_ops ops;

	mem_backing_get_ops(mb, &real_ops);
	ops = real_ops;
	if (!moved)
		ops.submit = submit_at_once;
	if (moved) {
		ops.read = moved_read;
		ops.write = moved_write;
		ops.flush = moved_flush;
		ops.discard = moved_discard;
		ops.write_zeroes = moved_zeroes;
	}
	assert_int_equal(pcache_backing_new(&ops, mb, &backing), 0);
	return backing;
}

static struct pcache_backing *attach_moved(struct mem_backing *mb)
{
	return attach(mb, true);
}

static struct pcache_backing *attach_submit(struct mem_backing *mb)
{
	return attach(mb, false);
}

/* A table with nothing but submit is refused: there is nobody to call it. */
static void submit_alone_is_refused(struct mem_backing *mb)
{
	struct pcache_backing *backing = NULL;
	struct pcache_backing_ops ops;

	mem_backing_get_ops(mb, &ops);
	ops.submit = submit_at_once;
	ops.read = NULL;
	assert_int_equal(pcache_backing_new(&ops, mb, &backing), -EINVAL);
	assert_null(backing);
}

uint64_t backing_async(uint32_t col, bool moved)
{
	uint64_t calls, submitted = atomic_load(&submit_nr);
	struct scene scene;

	threaded_scene(&scene);
	scene.rig.o.attach = moved ? attach_moved : attach_submit;
	scene.rig.o.threads = col == BK_CLOSE;
	if (col == BK_CLOSE)
		rig_up(&scene.rig);
	else
		scene_up(&scene, parts_of(col));
	calls = moved ? atomic_load(&moved_nr) : scene_calls(&scene);
	if (col == BK_CLOSE)
		rig_write(&scene.rig, 0, 16384, 0);
	assert_int_equal(run_column(&scene, col), 0);
	calls = (moved ? atomic_load(&moved_nr) : scene_calls(&scene)) - calls;
	scene_recovers(&scene);
	submitted = atomic_load(&submit_nr) - submitted;
	assert_true(moved ? submitted == 0 : submitted != 0 || col == BK_CLOSE || col == BK_ZEROES);
	submit_alone_is_refused(scene.rig.mb);
	scene_down(&scene);
	return calls;
}

/* ---- back-off ---------------------------------------------------------------------------------------------------------- */

static bool has_many_errors(struct scene *scene)
{
	return scene_errors(scene) >= 6;
}

/* The pauses are at least 10, 20, 40, ... ms, so tries cost at least that much time, on a machine of any speed. */
uint64_t backing_backoff(uint32_t col)
{
	enum mem_backing_op op = col == BK_FLUSH ? MEM_BACKING_FLUSH : MEM_BACKING_WRITE;
	struct scene scene;
	uint64_t start_ns;

	if (col != BK_WRITE && col != BK_FLUSH)
		return 0;
	threaded_scene(&scene);
	scene.rig.o.threads = true;
	rig_up(&scene.rig);
	mem_backing_fail(scene.rig.mb, op, 1, EIO, MEM_BACKING_FOREVER);
	start_ns = pc_monotonic_ns();
	rig_write(&scene.rig, 0, 512, 0);
	scene_await(has_many_errors, &scene);
	assert_true(pc_monotonic_ns() - start_ns >= UINT64_C(300000000)); /* 10 + 20 + 40 + 80 + 160 ms less rounding */
	assert_true(rig_info(&scene.rig).state_flags & PCACHE_STATE_DEGRADED);
	mem_backing_clear_faults(scene.rig.mb);
	scene_await(is_clean, &scene); /* by itself */
	rig_drain(&scene.rig);
	rig_close(&scene.rig);
	scene_down(&scene);
	return 6;
}
