/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache bench, run: threads that do the job and its limit in turn, in slices of 50 ms.
 *
 * Machines drift, and neighbours come and go; a limit taken once says little about a job that ran later. So each round
 * is one slice of the job, one of the bare copy and one of the copy with a CRC, all by the same threads, and the result
 * is the median over the rounds. Threads meet at a barrier before and after each slice and time their own part of it.
 *
 * Reading the clock costs some 20 ns, a tenth of a small write. So one operation of a batch is timed, the others as a
 * whole; the longest latency also counts batches, less what their other operations usually take, so no stall goes
 * unseen. Job and limit are timed the same way.
 *
 * Before: the working set is written, then the whole cache is written through once, so that no slice pays for first
 * touches.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool/bench.h"

#define SLICE_NS UINT64_C(50000000)
#define SETTLE_NS UINT64_C(30000000) /* at most */
#define ROUNDS_MIN 5u
#define WARM_UP_ROUNDS 2u
#define WARM_UP_NS UINT64_C(20000000000) /* at most */
#define BIG_LEN 32768u /* operations from this length on are all timed */

const char *const bench_job_names[BENCH_JOB_NR + 1] = { "randwrite", "seqwrite",   "randread", "seqread",
							"mixed",     "writeflush", NULL };

enum phase { PHASE_OWN, PHASE_COPY, PHASE_CRC, PHASE_NR, PHASE_STOP = PHASE_NR };

struct run {
	struct bench_place *place;
	const struct bench_args *args;
	enum bench_job job;
	pthread_barrier_t barrier;
	pthread_mutex_t gate; /* held while threads are started */
	bool abandoned; /* not all of them could be; set before the gate opens */
	enum phase phase; /* set between barriers */
	bool recording; /* latencies count; set between barriers */
};

struct worker {
	struct run *run;
	pthread_t thread;
	uint64_t random;
	uint64_t cursor; /* next operation of sequential jobs, in operations */
	uint8_t *buf;
	struct bench_limit limit;
	/* Of the last slice. */
	uint64_t ops, ns;
	int err;
	double usual_ns; /* an operation, for the longest latency */
	struct bench_hist hist;
};

static uint64_t next_random(struct worker *worker)
{
	uint64_t x = worker->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	worker->random = x;
	return x * UINT64_C(2685821657736338717);
}

static bool is_sequential(enum bench_job job)
{
	return job == BENCH_SEQWRITE || job == BENCH_SEQREAD;
}

static uint64_t next_off(struct worker *worker)
{
	uint64_t op_nr = worker->run->place->size_bytes / worker->run->args->block_len;
	uint64_t idx;

	if (is_sequential(worker->run->job)) {
		idx = worker->cursor++;
		if (worker->cursor == op_nr)
			worker->cursor = 0;
	} else {
		idx = (uint64_t)((unsigned __int128)next_random(worker) * op_nr >> 64);
	}
	return idx * worker->run->args->block_len;
}

static bool next_is_write(struct worker *worker)
{
	switch (worker->run->job) {
	case BENCH_RANDREAD:
	case BENCH_SEQREAD:
		return false;
	case BENCH_MIXED:
		return next_random(worker) >> 32 < (UINT64_C(1) << 32) / 100 * BENCH_MIXED_WRITE_PERCENT;
	default:
		return true;
	}
}

static void own_op(struct worker *worker)
{
	struct pcache *cache = worker->run->place->cache;
	uint64_t len = worker->run->args->block_len, off = next_off(worker);
	int err;

	if (next_is_write(worker)) {
		memcpy(worker->buf, &worker->random, sizeof(worker->random)); /* never the same bytes twice */
		err = pcache_write(cache, worker->buf, off, len, 0);
		if (err == 0 && worker->run->job == BENCH_WRITEFLUSH)
			err = pcache_flush(cache);
	} else {
		err = pcache_read(cache, worker->buf, off, len, 0);
	}
	if (err < 0 && worker->err == 0)
		worker->err = err;
}

static void limit_op(struct worker *worker, bool crc)
{
	uint64_t len = worker->run->args->block_len, off = next_off(worker);

	if (next_is_write(worker)) {
		memcpy(worker->buf, &worker->random, sizeof(worker->random));
		bench_limit_write(&worker->limit, off, worker->buf, len, crc);
	} else {
		bench_limit_read(&worker->limit, off, worker->buf, len, crc);
	}
}

static void op(struct worker *worker)
{
	if (worker->run->phase == PHASE_OWN)
		own_op(worker);
	else
		limit_op(worker, worker->run->phase == PHASE_CRC);
}

static void run_slice(struct worker *worker)
{
	const unsigned int rest_nr =
		worker->run->args->block_len >= BIG_LEN || worker->run->job == BENCH_WRITEFLUSH ? 0 : 15;
	bool recording = worker->run->recording && worker->run->phase == PHASE_OWN;
	uint64_t begin_ns = tool_now_ns(), now_ns = begin_ns, ops = 0;
	unsigned int i;

	while (now_ns - begin_ns < SLICE_NS && worker->err == 0) {
		uint64_t batch_ns = now_ns, first_ns;

		op(worker);
		now_ns = tool_now_ns();
		first_ns = now_ns - batch_ns;
		if (recording)
			bench_hist_add(&worker->hist, first_ns);
		for (i = 0; i < rest_nr; i++)
			op(worker);
		ops += 1 + rest_nr;
		if (rest_nr == 0)
			continue;
		batch_ns = now_ns;
		now_ns = tool_now_ns();
		if (recording &&
		    (double)(now_ns - batch_ns) - worker->usual_ns * (rest_nr - 1) > (double)worker->hist.max_ns)
			worker->hist.max_ns = now_ns - batch_ns - (uint64_t)(worker->usual_ns * (rest_nr - 1));
	}
	worker->ops = ops;
	worker->ns = now_ns - begin_ns;
	if (worker->run->phase == PHASE_OWN && ops)
		worker->usual_ns = (double)worker->ns / (double)ops;
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	bool abandoned;

	pthread_mutex_lock(&worker->run->gate);
	abandoned = worker->run->abandoned;
	pthread_mutex_unlock(&worker->run->gate);
	while (!abandoned) {
		pthread_barrier_wait(&worker->run->barrier);
		if (worker->run->phase == PHASE_STOP)
			return NULL;
		run_slice(worker);
		pthread_barrier_wait(&worker->run->barrier);
	}
	return NULL;
}

/* ---- warm-up ------------------------------------------------------------ */

/* Writes the working set, and for jobs that write goes on until the whole cache was written through once. */
static int warm_up(struct run *run, uint8_t *buf)
{
	uint64_t len = run->args->block_len > 65536 ? run->args->block_len
						    : 65536 / run->args->block_len * run->args->block_len;
	uint64_t begin_ns = tool_now_ns(), written = 0, off = 0;
	bool writes = run->job != BENCH_RANDREAD && run->job != BENCH_SEQREAD;
	uint64_t want_bytes = writes ? run->place->cache_bytes : run->place->size_bytes;
	int err;

	while (written < want_bytes) {
		uint64_t step = run->place->size_bytes - off < len ? run->place->size_bytes - off : len;

		memcpy(buf, &written, sizeof(written));
		err = pcache_write(run->place->cache, buf, off, step, 0);
		if (err < 0)
			return err;
		written += step;
		off = off + step == run->place->size_bytes ? 0 : off + step;
		if (written >= run->place->size_bytes && tool_now_ns() - begin_ns > WARM_UP_NS)
			break;
	}
	return pcache_flush(run->place->cache);
}

/* ---- results ------------------------------------------------------------ */

static int compare_doubles(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return a < b ? -1 : a > b;
}

static struct bench_spread spread_of(double *values, uint32_t value_nr)
{
	struct bench_spread spread = { 0 };

	if (value_nr == 0)
		return spread;
	qsort(values, value_nr, sizeof(*values), compare_doubles);
	spread.min = values[0];
	spread.max = values[value_nr - 1];
	spread.median = value_nr % 2 ? values[value_nr / 2] : (values[value_nr / 2 - 1] + values[value_nr / 2]) / 2;
	return spread;
}

/* Gives write-back that the job caused a moment to end, so that it does not slow the limit down. */
static void settle(struct run *run)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	uint64_t begin_ns = tool_now_ns(), seen_bytes = UINT64_MAX;

	while (tool_now_ns() - begin_ns < SETTLE_NS && pcache_info_get(run->place->cache, &info) == 0 &&
	       info.writeback_bytes != seen_bytes) {
		seen_bytes = info.writeback_bytes;
		usleep(2000);
	}
}

/* One slice by all threads: ns per operation, as one thread sees it; an error of any thread. */
static int slice(struct run *run, struct worker *workers, enum phase phase, double *out_ns)
{
	uint64_t ops = 0, ns = 0;
	uint32_t i;

	run->phase = phase;
	pthread_barrier_wait(&run->barrier);
	pthread_barrier_wait(&run->barrier);
	for (i = 0; i < run->args->threads; i++) {
		if (workers[i].err)
			return workers[i].err;
		ops += workers[i].ops;
		ns += workers[i].ns;
	}
	*out_ns = ops ? (double)ns / (double)ops : 0;
	return 0;
}

static int run_rounds(struct run *run, struct worker *workers, struct tool_progress *progress,
		      struct bench_result *out_result)
{
	bool with_crc = run->args->data_crc && bench_limit_has_crc();
	uint32_t phase_nr = with_crc ? 3 : 2, round_nr, round, i;
	double *values[PHASE_NR], *all, ns = 0;
	int err = 0;

	round_nr = (uint32_t)(run->args->seconds * 1e9 / (double)(SLICE_NS * phase_nr));
	if (round_nr < ROUNDS_MIN)
		round_nr = ROUNDS_MIN;
	all = calloc((size_t)round_nr * PHASE_NR, sizeof(*all));
	if (!all)
		return -ENOMEM;
	for (i = 0; i < PHASE_NR; i++)
		values[i] = all + (size_t)i * round_nr;
	for (round = 0; round < WARM_UP_ROUNDS + round_nr && err == 0; round++) {
		run->recording = round >= WARM_UP_ROUNDS;
		for (i = 0; i < phase_nr && err == 0; i++) {
			if (i == PHASE_COPY)
				settle(run);
			err = slice(run, workers, (enum phase)i, &ns);
			if (run->recording)
				values[i][round - WARM_UP_ROUNDS] = ns;
		}
		tool_progress_show(progress, round + 1, WARM_UP_ROUNDS + round_nr);
	}
	out_result->slice_nr = round_nr;
	out_result->own = spread_of(values[PHASE_OWN], round_nr);
	out_result->limit_copy = spread_of(values[PHASE_COPY], round_nr);
	out_result->limit_crc = spread_of(values[PHASE_CRC], with_crc ? round_nr : 0);
	out_result->limit = out_result->limit_copy;
	if (with_crc && out_result->limit_crc.median < out_result->limit.median)
		out_result->limit = out_result->limit_crc;
	out_result->iops = out_result->own.median > 0 ? (double)run->args->threads * 1e9 / out_result->own.median : 0;
	free(all);
	return err;
}

static double hit_percent(const struct pcache_info *before, const struct pcache_info *after)
{
	uint64_t hit = after->hit_bytes - before->hit_bytes, miss = after->miss_bytes - before->miss_bytes;

	return hit + miss ? 100.0 * (double)hit / (double)(hit + miss) : 100;
}

/* ---- threads ------------------------------------------------------------ */

static void init_worker(struct run *run, struct worker *worker, uint32_t idx)
{
	struct bench_place *place = run->place;
	bool writes_commit = place->info.commit == PCACHE_COMMIT_WRITE;
	uint64_t op_nr = place->size_bytes / run->args->block_len, i;

	worker->run = run;
	worker->random = UINT64_C(0x9e3779b97f4a7c15) * (idx + 1);
	worker->cursor = op_nr / run->args->threads * idx;
	for (i = 0; i < run->args->block_len; i += 8) {
		uint64_t word = next_random(worker);

		memcpy(worker->buf + i, &word, sizeof(word));
	}
	worker->limit.map = place->limit_map;
	worker->limit.slots = place->limit_map + place->size_bytes + (size_t)idx * BENCH_SLOT_NR * 64;
	worker->limit.fd = place->limit_fd;
	worker->limit.page = place->info.granularity == PCACHE_GRANULARITY_PAGE;
	worker->limit.fence_each = !worker->limit.page && (writes_commit || run->job == BENCH_WRITEFLUSH);
	worker->limit.sync_each = worker->limit.page && (writes_commit || run->job == BENCH_WRITEFLUSH);
}

static struct worker *new_workers(struct run *run)
{
	size_t buf_bytes =
		(run->args->block_len + 65536 + 4095) & ~(size_t)4095; /* the warm-up writes up to that much */
	struct worker *workers = calloc(run->args->threads, sizeof(*workers));
	bool ok = workers != NULL;
	uint32_t i;

	for (i = 0; ok && i < run->args->threads; i++) {
		workers[i].buf = aligned_alloc(4096, buf_bytes);
		ok = workers[i].buf != NULL;
		if (ok) {
			memset(workers[i].buf, 0x77, buf_bytes);
			init_worker(run, &workers[i], i);
		}
	}
	if (ok)
		return workers;
	for (i = 0; workers && i < run->args->threads; i++)
		free(workers[i].buf);
	free(workers);
	return NULL;
}

/* Starts all threads or none. 0 or -errno. */
static int start_workers(struct run *run, struct worker *workers)
{
	uint32_t started_nr, i;
	int err = 0;

	pthread_mutex_lock(&run->gate);
	for (started_nr = 0; started_nr < run->args->threads && err == 0; started_nr += err == 0)
		err = pthread_create(&workers[started_nr].thread, NULL, worker_main, &workers[started_nr]);
	run->abandoned = err != 0;
	pthread_mutex_unlock(&run->gate);
	for (i = 0; err && i < started_nr; i++)
		pthread_join(workers[i].thread, NULL);
	return -err;
}

static void stop_workers(struct run *run, struct worker *workers)
{
	uint32_t i;

	run->phase = PHASE_STOP;
	pthread_barrier_wait(&run->barrier);
	for (i = 0; i < run->args->threads; i++)
		pthread_join(workers[i].thread, NULL);
}

static int run_threads(struct run *run, struct worker *workers, struct tool_progress *progress,
		       struct bench_result *out_result)
{
	struct pcache_info before = { .struct_bytes = sizeof(before) }, after = { .struct_bytes = sizeof(after) };
	uint32_t i;
	int err;

	err = -pthread_barrier_init(&run->barrier, NULL, run->args->threads + 1);
	if (err < 0)
		return err;
	err = start_workers(run, workers);
	if (err == 0) {
		(void)pcache_info_get(run->place->cache, &before);
		err = run_rounds(run, workers, progress, out_result);
		(void)pcache_info_get(run->place->cache, &after);
		out_result->hit_percent = hit_percent(&before, &after);
		stop_workers(run, workers);
		for (i = 0; i < run->args->threads; i++)
			bench_hist_merge(&out_result->hist, &workers[i].hist);
	}
	pthread_barrier_destroy(&run->barrier);
	return err;
}

int bench_run(struct bench_place *place, const struct bench_args *args, enum bench_job job,
	      struct tool_progress *progress, struct bench_result *out_result)
{
	struct run run = { .place = place, .args = args, .job = job, .gate = PTHREAD_MUTEX_INITIALIZER };
	struct worker *workers = new_workers(&run);
	uint32_t i;
	int err;

	memset(out_result, 0, sizeof(*out_result));
	out_result->job = job;
	if (!workers)
		return -ENOMEM;
	err = warm_up(&run, workers[0].buf);
	if (err == 0)
		err = run_threads(&run, workers, progress, out_result);
	for (i = 0; i < args->threads; i++)
		free(workers[i].buf);
	free(workers);
	return err;
}
