/* SPDX-License-Identifier: BSD-3-Clause */
/* Asynchronous calls: what is done inside the submission and what in a thread, completions by callback and by queue, cancellation, time-outs, close and fork. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/rig.h"

#define BLOCK 512u
#define MS UINT64_C(1000000)

/* ---- helpers ----------------------------------------------------------------------------------------------------------- */

static void up(struct rig *rig)
{
	rig_zero(rig);
	rig->o.threads = true;
	rig->o.sim_flags = PC_SIM_THREADED;
	rig_up(rig);
	rig_pattern(rig, rig->model, rig->o.backing_bytes);
	mem_backing_load(rig->mb, rig->model);
}

static struct pcache_queue *queue_of(struct rig *rig, uint32_t depth)
{
	struct pcache_queue *queue = NULL;

	assert_int_equal(pcache_queue_new(rig->cache, depth, &queue), 0);
	assert_non_null(queue);
	return queue;
}

static bool is_readable(struct pcache_queue *queue, int wait_ms)
{
	struct pollfd pollfd = { .fd = pcache_queue_fd(queue), .events = POLLIN };

	assert_true(pollfd.fd >= 0);
	return poll(&pollfd, 1, wait_ms) == 1;
}

static struct pcache_completion await(struct pcache_queue *queue)
{
	struct pcache_completion completion = { 0 };

	assert_true(is_readable(queue, 20000));
	assert_int_equal(pcache_queue_reap(queue, &completion, 1), 1);
	assert_int_equal(completion.reserved, 0);
	return completion;
}

/* Until so many reads of the backing have begun. */
static void await_reads(struct rig *rig, uint32_t nr)
{
	struct mem_backing_counters counters;

	for (uint32_t i = 0; i < 20000; i++) {
		mem_backing_get_counters(rig->mb, &counters);
		if (counters.in_flight >= nr)
			return;
		usleep(1000);
	}
	fail_msg("the backing was not read");
}

struct told {
	_Atomic uint32_t nr;
	_Atomic int result;
	_Atomic bool elsewhere; /* on another thread */
	pthread_t home;
};

static void tell(void *user, int result)
{
	struct told *told = user;

	atomic_store(&told->result, result);
	atomic_store(&told->elsewhere, !pthread_equal(pthread_self(), told->home));
	atomic_fetch_add(&told->nr, 1);
}

static void await_told(struct told *told, uint32_t nr)
{
	for (uint32_t i = 0; i < 20000 && atomic_load(&told->nr) < nr; i++)
		usleep(1000);
	assert_int_equal(atomic_load(&told->nr), nr);
}

static struct pcache_aio calls(struct told *told)
{
	*told = (struct told){ .home = pthread_self() };
	return (struct pcache_aio){ .struct_bytes = sizeof(struct pcache_aio), .done = tell, .user = told };
}

/* ---- what is done where ------------------------------------------------------------------------------------------------ */

/* Writes and hits are complete when the submission returns; a callback is called inside, and has no ticket. */
static void inside_the_submission(void **state)
{
	struct rig rig;
	struct pcache_queue *queue;
	struct pcache_completion completions[4];
	struct pcache_aio aio;
	struct told told;
	uint64_t first, second = 7;

	(void)state;
	up(&rig);
	queue = queue_of(&rig, 4);
	rig_pattern(&rig, rig.model, 4 * BLOCK);
	aio = (struct pcache_aio){ .struct_bytes = sizeof(aio), .user = &rig };
	assert_int_equal(pcache_aio_write(queue, rig.model, 0, 4 * BLOCK, &aio, &first), 0);
	assert_int_equal(pcache_aio_read(queue, rig.scratch, 0, 4 * BLOCK, NULL, &second), 0);
	assert_true(first != 0 && second != 0 && first != second);
	assert_int_equal(pcache_queue_reap(queue, completions, 4), 2);
	assert_ptr_equal(completions[0].user, &rig);
	assert_true(completions[0].ticket == first && completions[1].ticket == second);
	assert_int_equal(completions[0].result, 0);
	assert_int_equal(completions[1].result, 0);
	assert_memory_equal(rig.scratch, rig.model, 4 * BLOCK);
	assert_int_equal(pcache_queue_reap(queue, completions, 4), 0);
	assert_int_equal(pcache_aio_cancel(queue, first), -ENOENT);

	aio = calls(&told);
	memset(rig.scratch, 0, 4 * BLOCK);
	assert_int_equal(pcache_aio_read(queue, rig.scratch, 0, 4 * BLOCK, &aio, &second), 0);
	assert_int_equal(second, 0);
	assert_int_equal(told.nr, 1);
	assert_false(told.elsewhere);
	assert_memory_equal(rig.scratch, rig.model, 4 * BLOCK);
	assert_int_equal(pcache_queue_free(queue), 0);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* A read that hits, misses, and hits: the rest of it comes from a thread, once in the statistics, in one buffer and in many. */
static void misses_in_a_thread(void **state)
{
	struct rig rig;
	struct pcache_queue *queue;
	struct pcache_aio aio;
	struct told told;
	struct iovec iov[4];
	struct pcache_info before, after;

	(void)state;
	up(&rig);
	queue = queue_of(&rig, 4);
	rig_write(&rig, 0, 2 * BLOCK, 0);
	rig_write(&rig, 5 * BLOCK, BLOCK, 0);
	before = rig_info(&rig);
	aio = calls(&told);
	assert_int_equal(pcache_aio_read(queue, rig.scratch, 0, 8 * BLOCK, &aio, NULL), 0);
	await_told(&told, 1);
	assert_int_equal(told.result, 0);
	assert_true(told.elsewhere);
	assert_memory_equal(rig.scratch, rig.model, 8 * BLOCK);
	after = rig_info(&rig);
	assert_int_equal(after.read_ops - before.read_ops, 1);
	assert_int_equal(after.read_bytes - before.read_bytes, 8 * BLOCK);
	assert_int_equal(after.hit_bytes - before.hit_bytes, 3 * BLOCK);
	assert_int_equal(after.miss_bytes - before.miss_bytes, 5 * BLOCK);

	rig_write(&rig, 32 * BLOCK, 4 * BLOCK, 0);
	memset(rig.scratch, 0, 16 * BLOCK);
	for (uint32_t i = 0; i < 4; i++)
		iov[i] = (struct iovec){ .iov_base = i == 2 ? NULL : rig.scratch + (3 - i) * 3 * BLOCK,
					 .iov_len = i == 2 ? 0 : 3 * BLOCK };
	assert_int_equal(pcache_aio_readv(queue, iov, 4, 32 * BLOCK, &aio, NULL), 0);
	memset(iov, 0, sizeof(iov)); /* the array may go */
	await_told(&told, 2);
	assert_int_equal(told.result, 0);
	assert_memory_equal(rig.scratch + 9 * BLOCK, rig.model + 32 * BLOCK, 3 * BLOCK);
	assert_memory_equal(rig.scratch + 6 * BLOCK, rig.model + 35 * BLOCK, 3 * BLOCK);
	assert_memory_equal(rig.scratch, rig.model + 38 * BLOCK, 3 * BLOCK);
	/* An error of the backing is the result. */
	assert_true(mem_backing_fail(rig.mb, MEM_BACKING_READ, 1, EILSEQ, MEM_BACKING_ONCE));
	assert_int_equal(pcache_aio_read(queue, rig.scratch, 100 * BLOCK, BLOCK, &aio, NULL), 0);
	await_told(&told, 3);
	assert_int_equal(told.result, -EILSEQ);
	assert_int_equal(pcache_queue_free(queue), 0);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* Every other call once, against the array; a batch, a vector, zeroes, a flush. */
static void every_call(void **state)
{
	struct rig rig;
	struct pcache_queue *queue;
	struct iovec iov[2];
	struct pcache_range ranges[2];

	(void)state;
	up(&rig);
	queue = queue_of(&rig, 1);
	rig_pattern(&rig, rig.model, 8 * BLOCK);
	iov[0] = (struct iovec){ .iov_base = rig.model, .iov_len = BLOCK };
	iov[1] = (struct iovec){ .iov_base = rig.model + BLOCK, .iov_len = 3 * BLOCK };
	assert_int_equal(pcache_aio_writev(queue, iov, 2, 0, NULL, NULL), 0);
	assert_int_equal(await(queue).result, 0);
	ranges[0] = (struct pcache_range){ .buf = rig.model + 6 * BLOCK, .off = 6 * BLOCK, .len = 2 * BLOCK };
	ranges[1] = (struct pcache_range){ .buf = rig.model + 4 * BLOCK, .off = 4 * BLOCK, .len = 2 * BLOCK };
	assert_int_equal(pcache_aio_write_batch(queue, ranges, 2, NULL, NULL), 0);
	assert_int_equal(await(queue).result, 0);
	memset(rig.model + 16 * BLOCK, 0, 32 * BLOCK);
	assert_int_equal(pcache_aio_discard(queue, 16 * BLOCK, 16 * BLOCK, NULL, NULL), 0);
	assert_int_equal(await(queue).result, 0);
	assert_int_equal(pcache_aio_write_zeroes(queue, 32 * BLOCK, 16 * BLOCK, NULL, NULL), 0);
	assert_int_equal(await(queue).result, 0);
	assert_int_equal(pcache_aio_flush(queue, NULL, NULL), 0);
	assert_int_equal(await(queue).result, 0);
	assert_int_equal(pcache_queue_free(queue), 0);
	rig_check_all(&rig);
	rig_power_cut(&rig);
	rig_open(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* A full cache: writes wait in a thread and are done when write-back has made room; with full_policy=error and NOWAIT they do not wait. */
static void writes_that_wait(void **state)
{
	struct rig rig;
	struct pcache_queue *queue;
	struct pcache_aio now = { .struct_bytes = sizeof(now), .flags = PCACHE_NOWAIT };
	uint64_t off = 0;
	uint32_t done_nr = 0;
	struct pcache_completion completions[8];

	(void)state;
	up(&rig);
	queue = queue_of(&rig, 8);
	mem_backing_set_hang(rig.mb, MEM_BACKING_WRITE, true);
	for (; off + 4096 < rig.o.backing_bytes; off += 4096) {
		rig_pattern(&rig, rig.scratch, 4096);
		if (pcache_write(rig.cache, rig.scratch, off, 4096, PCACHE_NOWAIT))
			break;
		memcpy(rig.model + off, rig.scratch, 4096);
	}
	assert_true(off + 8 * 4096 < rig.o.backing_bytes);
	assert_int_equal(pcache_aio_write(queue, rig.model, 0, 4096, &now, NULL), 0);
	assert_int_equal(await(queue).result, PCACHE_E_FULL);
	for (uint32_t i = 0; i < 8; i++) {
		rig_pattern(&rig, rig.model + off, 4096);
		assert_int_equal(pcache_aio_write(queue, rig.model + off, off, 4096, NULL, NULL), 0);
		off += 4096;
	}
	assert_int_equal(pcache_queue_reap(queue, completions, 8), 0);
	assert_int_equal(pcache_aio_write(queue, rig.model, 0, 4096, NULL, NULL), -EAGAIN);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_WRITEBACK_DELAY_MS, 0), 0);
	mem_backing_set_hang(rig.mb, MEM_BACKING_WRITE, false);
	for (; done_nr < 8; done_nr++)
		assert_int_equal(await(queue).result, 0);
	assert_int_equal(pcache_queue_free(queue), 0);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* Durable at page granularity: a sync, in a thread. */
static void durable_writes(void **state)
{
	struct rig rig;
	struct pcache_queue *queue;
	struct pcache_aio aio;
	struct told told;

	(void)state;
	rig_zero(&rig);
	rig.o.threads = true;
	rig.o.granularity = PC_GRAN_PAGE;
	rig.o.commit = PCACHE_COMMIT_FLUSH;
	rig.o.sim_flags = PC_SIM_THREADED;
	rig_up(&rig);
	queue = queue_of(&rig, 4);
	aio = calls(&told);
	rig_pattern(&rig, rig.model, BLOCK);
	assert_int_equal(pcache_aio_write(queue, rig.model, 0, BLOCK, &aio, NULL), 0);
	assert_int_equal(told.nr, 1);
	aio.flags = PCACHE_DURABLE;
	rig_pattern(&rig, rig.model, BLOCK);
	assert_int_equal(pcache_aio_write(queue, rig.model, 0, BLOCK, &aio, NULL), 0);
	await_told(&told, 2);
	assert_int_equal(told.result, 0);
	assert_true(told.elsewhere);
	assert_int_equal(pcache_queue_free(queue), 0);
	rig_power_cut(&rig);
	rig_open(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

static void flags(void **state)
{
	struct rig rig;
	struct pcache_queue *queue;
	struct pcache_aio aio = { .struct_bytes = sizeof(aio), .flags = PCACHE_NOWAIT };
	struct mem_backing_counters before, after;
	struct iovec iov;

	(void)state;
	up(&rig);
	queue = queue_of(&rig, 4);
	iov = (struct iovec){ .iov_base = rig.scratch, .iov_len = BLOCK };
	/* NOWAIT: a miss is no read of the backing. */
	mem_backing_get_counters(rig.mb, &before);
	assert_int_equal(pcache_aio_read(queue, rig.scratch, 0, BLOCK, &aio, NULL), 0);
	assert_int_equal(await(queue).result, -EAGAIN);
	assert_int_equal(pcache_read(rig.cache, rig.scratch, 0, BLOCK, PCACHE_NOWAIT), -EAGAIN);
	assert_int_equal(pcache_readv(rig.cache, &iov, 1, 0, PCACHE_NOWAIT), -EAGAIN);
	mem_backing_get_counters(rig.mb, &after);
	assert_int_equal(after.calls[MEM_BACKING_READ], before.calls[MEM_BACKING_READ]);
	/* NOCACHE: read twice, nothing kept; without, kept. */
	aio.flags = PCACHE_NOCACHE;
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(pcache_aio_read(queue, rig.scratch, 0, BLOCK, &aio, NULL), 0);
		assert_int_equal(await(queue).result, 0);
	}
	mem_backing_get_counters(rig.mb, &after);
	assert_int_equal(after.calls[MEM_BACKING_READ], before.calls[MEM_BACKING_READ] + 2);
	assert_int_equal(pcache_read(rig.cache, rig.scratch, 0, BLOCK, 0), 0);
	memset(rig.scratch, 0, BLOCK);
	assert_int_equal(pcache_read(rig.cache, rig.scratch, 0, BLOCK, PCACHE_NOWAIT | PCACHE_NOCACHE), 0);
	assert_memory_equal(rig.scratch, rig.model, BLOCK);
	/* Not for this call: the result says so. */
	aio.flags = PCACHE_DURABLE;
	assert_int_equal(pcache_aio_read(queue, rig.scratch, 0, BLOCK, &aio, NULL), 0);
	assert_int_equal(await(queue).result, -EINVAL);
	assert_int_equal(pcache_aio_flush(queue, &aio, NULL), 0);
	assert_int_equal(await(queue).result, -EINVAL);
	aio.flags = 8;
	assert_int_equal(pcache_aio_write(queue, rig.model, 0, BLOCK, &aio, NULL), 0);
	assert_int_equal(await(queue).result, -EINVAL);
	assert_int_equal(pcache_queue_free(queue), 0);
	rig_down(&rig);
}

static void bad_arguments(void **state)
{
	struct rig rig;
	struct pcache_queue *queue = NULL;
	struct pcache_completion completion;
	struct pcache_aio aio = { .struct_bytes = sizeof(aio) - 1 };
	struct {
		struct pcache_aio aio;
		uint64_t newer;
	} longer = { .aio.struct_bytes = sizeof(longer) };

	(void)state;
	up(&rig);
	assert_int_equal(pcache_queue_new(NULL, 1, &queue), -EINVAL);
	assert_int_equal(pcache_queue_new(rig.cache, 0, &queue), -EINVAL);
	assert_int_equal(pcache_queue_new(rig.cache, PCACHE_QUEUE_DEPTH_MAX + 1, &queue), -EINVAL);
	assert_int_equal(pcache_queue_new(rig.cache, 1, NULL), -EINVAL);
	assert_int_equal(pcache_queue_free(NULL), 0);
	assert_int_equal(pcache_queue_fd(NULL), -EINVAL);
	assert_int_equal(pcache_queue_reap(NULL, &completion, 1), -EINVAL);
	assert_int_equal(pcache_aio_cancel(NULL, 1), -EINVAL);
	assert_int_equal(pcache_aio_read(NULL, rig.scratch, 0, BLOCK, NULL, NULL), -EINVAL);
	queue = queue_of(&rig, 1);
	assert_int_equal(pcache_queue_reap(queue, NULL, 1), -EINVAL);
	assert_int_equal(pcache_queue_reap(queue, &completion, UINT32_MAX), -EINVAL);
	assert_int_equal(pcache_aio_cancel(queue, 5), -ENOENT);
	assert_int_equal(pcache_aio_cancel(queue, 0), -ENOENT);
	assert_int_equal(pcache_aio_read(queue, rig.scratch, 0, BLOCK, &aio, NULL), -EINVAL);
	assert_int_equal(pcache_aio_flush(queue, &longer.aio, NULL), 0);
	assert_int_equal(await(queue).result, 0);
	longer.newer = 1;
	assert_int_equal(pcache_aio_flush(queue, &longer.aio, NULL), -EINVAL);
	/* What is wrong with the call itself is its result. */
	assert_int_equal(pcache_aio_read(queue, NULL, 0, BLOCK, NULL, NULL), 0);
	assert_int_equal(await(queue).result, -EINVAL);
	assert_int_equal(pcache_aio_write(queue, rig.model, 1, BLOCK, NULL, NULL), 0);
	assert_int_equal(await(queue).result, PCACHE_E_UNALIGNED);
	assert_int_equal(pcache_aio_read(queue, rig.scratch, rig.o.backing_bytes, BLOCK, NULL, NULL), 0);
	assert_int_equal(await(queue).result, PCACHE_E_RANGE);
	assert_int_equal(pcache_queue_free(queue), 0);
	rig_down(&rig);
}

/* ---- the descriptor ---------------------------------------------------------------------------------------------------- */

static void descriptor(void **state)
{
	struct rig rig;
	struct pcache_queue *queue;
	struct pcache_completion completions[3];
	int fd;

	(void)state;
	up(&rig);
	queue = queue_of(&rig, 3);
	/* Asked for when completions wait already. */
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(pcache_aio_write(queue, rig.model, 0, BLOCK, NULL, NULL), 0);
	assert_int_equal(pcache_aio_write(queue, rig.model, 0, BLOCK, NULL, NULL), -EAGAIN);
	fd = pcache_queue_fd(queue);
	assert_true(fd >= 0 && pcache_queue_fd(queue) == fd);
	assert_true(is_readable(queue, 0));
	assert_int_equal(pcache_queue_reap(queue, completions, 2), 2);
	assert_true(is_readable(queue, 0));
	assert_int_equal(pcache_queue_reap(queue, completions, 2), 1);
	assert_false(is_readable(queue, 0));
	assert_int_equal(pcache_aio_write(queue, rig.model, 0, BLOCK, NULL, NULL), 0);
	assert_true(is_readable(queue, 0));
	assert_int_equal(pcache_queue_free(queue), 0);
	rig_down(&rig);
}

/* Misses and hits from some threads, with completions that a poller must not miss: a lost wake-up is a hang. */
#define STRESS_THREADS 3u
#define STRESS_EACH 1500u
#define STRESS_BLOCKS 64u

struct stress {
	struct rig *rig;
	struct pcache_queue *queue;
	uint8_t *bufs; /* STRESS_THREADS * STRESS_EACH blocks */
	uint32_t number;
};

static void *stress_submitter(void *arg)
{
	struct stress *stress = arg;

	for (uint32_t i = 0; i < STRESS_EACH; i++) {
		uint32_t nr = stress->number * STRESS_EACH + i;
		uint64_t off = (uint64_t)(nr * 37 % STRESS_BLOCKS) * BLOCK;
		struct pcache_aio aio = { .struct_bytes = sizeof(aio), .user = stress->bufs + (size_t)nr * BLOCK };

		if (nr % 3)
			aio.flags = PCACHE_NOCACHE;
		while (pcache_aio_read(stress->queue, aio.user, off, BLOCK, &aio, NULL) == -EAGAIN)
			sched_yield();
	}
	return NULL;
}

static void no_wake_up_is_lost(void **state)
{
	struct rig rig;
	struct stress stress[STRESS_THREADS];
	pthread_t threads[STRESS_THREADS];
	struct pcache_completion completions[5];
	uint8_t *bufs = calloc(STRESS_THREADS * STRESS_EACH, BLOCK);
	struct pcache_queue *queue;
	uint32_t done_nr = 0;

	(void)state;
	assert_non_null(bufs);
	up(&rig);
	queue = queue_of(&rig, 16);
	for (uint32_t i = 0; i < STRESS_THREADS; i++) {
		stress[i] = (struct stress){ .rig = &rig, .queue = queue, .bufs = bufs, .number = i };
		assert_int_equal(pthread_create(&threads[i], NULL, stress_submitter, &stress[i]), 0);
	}
	while (done_nr < STRESS_THREADS * STRESS_EACH) {
		int nr;

		assert_true(is_readable(queue, 20000));
		nr = pcache_queue_reap(queue, completions, 1 + done_nr % 5);
		assert_true(nr > 0);
		for (int i = 0; i < nr; i++) {
			uint32_t which = (uint32_t)((size_t)((uint8_t *)completions[i].user - bufs) / BLOCK);

			assert_int_equal(completions[i].result, 0);
			assert_memory_equal(completions[i].user, rig.model + which * 37 % STRESS_BLOCKS * BLOCK, BLOCK);
		}
		done_nr += (uint32_t)nr;
	}
	for (uint32_t i = 0; i < STRESS_THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_false(is_readable(queue, 0));
	assert_int_equal(pcache_queue_free(queue), 0);
	rig_down(&rig);
	free(bufs);
}

/* ---- cancellation and time-outs ---------------------------------------------------------------------------------------- */

/* In flight and queued reads, and a queued write: complete at once, and their buffers are left alone when the backing comes back. */
static void cancelled(void **state)
{
	struct rig rig;
	struct pcache_queue *queue;
	uint64_t tickets[8];
	uint8_t before[8 * BLOCK];

	(void)state;
	up(&rig);
	queue = queue_of(&rig, 8);
	mem_backing_set_hang(rig.mb, MEM_BACKING_READ, true);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(pcache_aio_read(queue, rig.scratch + i * BLOCK, i * BLOCK, BLOCK, NULL, &tickets[i]),
				 0);
	await_reads(&rig, 4);
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(pcache_aio_cancel(queue, tickets[i]), 0);
		assert_int_equal(pcache_aio_cancel(queue, tickets[i]), -ENOENT);
		assert_int_equal(await(queue).result, -ECANCELED);
	}
	rig_pattern(&rig, rig.scratch, sizeof(before));
	memcpy(before, rig.scratch, sizeof(before));
	mem_backing_set_hang(rig.mb, MEM_BACKING_READ, false);
	assert_int_equal(pcache_queue_free(queue), 0);
	assert_memory_equal(rig.scratch, before, sizeof(before));
	rig_check_all(&rig);
	rig_down(&rig);
}

/* A write that waits for its turn is never done; one that has begun cannot be called back. */
static void cancelled_writes(void **state)
{
	struct rig rig;
	struct pcache_queue *queue;
	uint64_t off = 0, tickets[6];
	uint32_t cancelled_nr = 0;

	(void)state;
	up(&rig);
	queue = queue_of(&rig, 6);
	mem_backing_set_hang(rig.mb, MEM_BACKING_WRITE, true);
	for (; !pcache_write(rig.cache, rig.scratch, off, 4096, PCACHE_NOWAIT); off += 4096)
		memcpy(rig.model + off, rig.scratch, 4096);
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(pcache_aio_write(queue, rig.scratch, off + i * BLOCK, BLOCK, NULL, &tickets[i]), 0);
	usleep(200000);
	for (uint32_t i = 0; i < 6; i++) {
		int rc = pcache_aio_cancel(queue, tickets[i]);

		assert_int_equal(rc, i < 4 ? -EBUSY : 0);
		cancelled_nr += !rc;
		if (rc)
			memcpy(rig.model + off + i * BLOCK, rig.scratch, BLOCK);
	}
	assert_int_equal(cancelled_nr, 2);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_WRITEBACK_DELAY_MS, 0), 0);
	mem_backing_set_hang(rig.mb, MEM_BACKING_WRITE, false);
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(await(queue).result, i < 2 ? -ECANCELED : 0);
	assert_int_equal(pcache_queue_free(queue), 0);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* The backing hangs; the reads end in time, by callback and by queue, and the buffers are left alone. */
static void timed_out(void **state)
{
	struct rig rig;
	struct pcache_queue *queue;
	struct pcache_aio aio;
	struct told told;
	uint8_t before[8 * BLOCK];

	(void)state;
	up(&rig);
	queue = queue_of(&rig, 8);
	mem_backing_set_hang(rig.mb, MEM_BACKING_READ, true);
	aio = calls(&told);
	for (uint32_t i = 0; i < 8; i++) {
		aio.timeout_ns = (8 - i) * 10 * MS;
		assert_int_equal(pcache_aio_read(queue, rig.scratch + i * BLOCK, i * BLOCK, BLOCK, &aio, NULL), 0);
	}
	await_told(&told, 8);
	assert_int_equal(told.result, -ETIMEDOUT);
	/* Four of them are with the threads until the backing comes back. */
	aio.done = NULL;
	assert_int_equal(pcache_aio_read(queue, rig.scratch, 0, BLOCK, &aio, NULL), 0);
	assert_int_equal(await(queue).result, -ETIMEDOUT);
	rig_pattern(&rig, rig.scratch, sizeof(before));
	memcpy(before, rig.scratch, sizeof(before));
	mem_backing_set_hang(rig.mb, MEM_BACKING_READ, false);
	aio.timeout_ns = 20000 * MS;
	assert_int_equal(pcache_aio_read(queue, rig.scratch + 8 * BLOCK, 0, 8 * BLOCK, &aio, NULL), 0);
	assert_int_equal(await(queue).result, 0);
	assert_memory_equal(rig.scratch + 8 * BLOCK, rig.model, 8 * BLOCK);
	assert_int_equal(pcache_queue_free(queue), 0);
	assert_memory_equal(rig.scratch, before, sizeof(before));
	rig_check_all(&rig);
	rig_down(&rig);
}

/* ---- close and fork ---------------------------------------------------------------------------------------------------- */

static void *come_back(void *arg)
{
	usleep(100000);
	mem_backing_set_hang(arg, MEM_BACKING_READ, false);
	return NULL;
}

/* What a thread has is finished, what waits for its turn cancelled; the queue outlives the cache, and takes no more. */
static void closed(void **state)
{
	struct rig rig;
	struct pcache_queue *queue;
	struct pcache_completion completions[8];
	struct pcache_aio aio;
	struct told told;
	uint32_t ok_nr = 0;
	pthread_t thread;

	(void)state;
	up(&rig);
	queue = queue_of(&rig, 8);
	mem_backing_set_hang(rig.mb, MEM_BACKING_READ, true);
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(pcache_aio_read(queue, rig.scratch + i * BLOCK, i * BLOCK, BLOCK, NULL, NULL), 0);
	aio = calls(&told);
	assert_int_equal(pcache_aio_read(queue, rig.scratch, 0, BLOCK, &aio, NULL), 0);
	await_reads(&rig, 4);
	assert_int_equal(pthread_create(&thread, NULL, come_back, rig.mb), 0);
	rig_close(&rig);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(told.nr, 1);
	assert_int_equal(told.result, -ECANCELED);
	assert_int_equal(pcache_aio_read(queue, rig.scratch, 0, BLOCK, NULL, NULL), -ESHUTDOWN);
	assert_int_equal(pcache_queue_reap(queue, completions, 8), 6);
	for (uint32_t i = 0; i < 6; i++) {
		assert_true(completions[i].result == 0 || completions[i].result == -ECANCELED);
		ok_nr += !completions[i].result;
	}
	assert_int_equal(ok_nr, 4);
	assert_int_equal(pcache_queue_free(queue), 0);
	rig_open(&rig);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* A close that wants no dirty data waits for the write that would bring some. */
static void closed_with_a_policy(void **state)
{
	struct rig rig;
	struct pcache_queue *queue;
	int is_closed = 1;

	(void)state;
	rig_zero(&rig);
	rig.o.threads = true;
	rig.o.granularity = PC_GRAN_PAGE;
	rig.o.commit = PCACHE_COMMIT_WRITE;
	rig.o.sim_flags = PC_SIM_THREADED;
	rig_up(&rig);
	queue = queue_of(&rig, 1);
	mem_backing_set_hang(rig.mb, MEM_BACKING_WRITE, true); /* it stays dirty */
	assert_int_equal(pcache_aio_write(queue, rig.model, 0, BLOCK, NULL, NULL), 0);
	assert_int_equal(pcache_close_with(rig.cache, PCACHE_CLOSE_CLEAN, NULL, NULL, &is_closed), PCACHE_E_DIRTY);
	assert_int_equal(is_closed, 0);
	mem_backing_set_hang(rig.mb, MEM_BACKING_WRITE, false);
	assert_int_equal(await(queue).result, 0);
	assert_int_equal(pcache_queue_free(queue), 0);
	rig_down(&rig);
}

static int calls_in_child(struct pcache *cache, struct pcache_queue *queue)
{
	struct pcache_completion completion;
	struct pcache_queue *other;
	uint8_t block[BLOCK];

	if (pcache_queue_new(cache, 1, &other) != PCACHE_E_FORKED || pcache_queue_free(queue) != PCACHE_E_FORKED)
		return 1;
	if (pcache_queue_fd(queue) != PCACHE_E_FORKED || pcache_queue_reap(queue, &completion, 1) != PCACHE_E_FORKED)
		return 2;
	if (pcache_aio_cancel(queue, 1) != PCACHE_E_FORKED)
		return 3;
	return pcache_aio_read(queue, block, 0, BLOCK, NULL, NULL) != PCACHE_E_FORKED ? 4 : 0;
}

static void in_a_child(struct pcache *cache, struct pcache_queue *queue)
{
	int status = 0;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0)
		_exit(cache ? calls_in_child(cache, queue) : pcache_queue_free(queue) != PCACHE_E_FORKED);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void forked(void **state)
{
	struct rig rig;
	struct pcache_queue *queue;

	(void)state;
	up(&rig);
	queue = queue_of(&rig, 1);
	assert_int_equal(pcache_aio_read(queue, rig.scratch, 0, BLOCK, NULL, NULL), 0);
	in_a_child(rig.cache, queue);
	assert_int_equal(await(queue).result, 0);
	rig_close(&rig);
	in_a_child(NULL, queue);
	assert_int_equal(pcache_queue_free(queue), 0);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inside_the_submission),
		cmocka_unit_test(misses_in_a_thread),
		cmocka_unit_test(every_call),
		cmocka_unit_test(writes_that_wait),
		cmocka_unit_test(durable_writes),
		cmocka_unit_test(flags),
		cmocka_unit_test(bad_arguments),
		cmocka_unit_test(descriptor),
		cmocka_unit_test(no_wake_up_is_lost),
		cmocka_unit_test(cancelled),
		cmocka_unit_test(cancelled_writes),
		cmocka_unit_test(timed_out),
		cmocka_unit_test(closed),
		cmocka_unit_test(closed_with_a_policy),
		cmocka_unit_test(forked),
	};

	return cmocka_run_group_tests_name("api_async", tests, NULL, NULL);
}
