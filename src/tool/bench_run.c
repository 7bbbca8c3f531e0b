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
 * Before: every page of both mappings is there, the working set is written, then the whole cache is written through once, so that the job
 * is measured as it goes on and not as it begins.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tool/bench.h"

#define SLICE_NS 50e6
#define SLICE_NS_MIN 5e6 /* where the user gives little time */
#define SETTLE_NS UINT64_C(30000000) /* at most */
#define ROUNDS_MIN 5u
#define WARM_UP_ROUNDS 2u
#define WARM_UP_NS UINT64_C(5000000000) /* at most, beyond the working set */
#define BIG_LEN 32768u /* operations from this length on are all timed */
#define BATCH_OPS 16u /* else one in so many */

struct crew {
	struct bench_run *run;
	enum bench_job job;
	pthread_barrier_t barrier;
	pthread_mutex_t gate; /* held while threads are started */
	uint64_t slice_ns; /* constant */
	bool abandoned; /* not all of them could be; set before the gate opens */
	enum bench_phase phase; /* set between barriers */
	bool recording; /* latencies count; set between barriers */
	uint32_t busy_slices, own_slices; /* of the main thread */
	uint64_t cpu_ns, cpu_ops; /* of the job's own slices */
};

struct worker {
	struct crew *crew;
	pthread_t thread;
	struct bench_stream stream;
	/* Of the last slice. */
	uint64_t ops, ns;
	double usual_ns; /* an operation, for the longest latency */
	struct bench_hist hist;
};

static unsigned int rest_ops(const struct crew *crew)
{
	bool slow = crew->job == BENCH_WRITEFLUSH || crew->job == BENCH_MISS;

	return slow || bench_op_bytes(crew->job, crew->run->args) >= BIG_LEN ? 0 : BATCH_OPS - 1;
}

static void run_slice(struct worker *worker)
{
	const unsigned int rest_nr = rest_ops(worker->crew);
	enum bench_phase phase = worker->crew->phase;
	bool recording = worker->crew->recording && phase == BENCH_PHASE_OWN;
	uint64_t begin_ns = tool_now_ns(), now_ns = begin_ns, ops = 0;
	unsigned int i;

	while (now_ns - begin_ns < worker->crew->slice_ns && worker->stream.err == 0) {
		uint64_t batch_ns = now_ns, first_ns;

		bench_stream_op(&worker->stream, phase);
		now_ns = tool_now_ns();
		first_ns = now_ns - batch_ns;
		if (recording)
			bench_hist_add(&worker->hist, first_ns);
		for (i = 0; i < rest_nr; i++)
			bench_stream_op(&worker->stream, phase);
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
	if (phase == BENCH_PHASE_OWN && ops)
		worker->usual_ns = (double)worker->ns / (double)ops;
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	bool abandoned;

	pthread_mutex_lock(&worker->crew->gate);
	abandoned = worker->crew->abandoned;
	pthread_mutex_unlock(&worker->crew->gate);
	while (!abandoned) {
		pthread_barrier_wait(&worker->crew->barrier);
		if (worker->crew->phase == BENCH_PHASE_STOP)
			return NULL;
		run_slice(worker);
		pthread_barrier_wait(&worker->crew->barrier);
	}
	return NULL;
}

/* ---- warm-up ------------------------------------------------------------ */

/* Writes the working set, and for jobs that write goes on until the whole cache was written through once. */
static int warm_up(struct crew *crew, struct bench_stream *stream)
{
	const struct bench_place *place = crew->run->place;
	uint64_t begin_ns, left_ops = 0;
	int err = 0;

	if (crew->job == BENCH_MISS)
		return 0; /* what is read must not be there */
	err = bench_stream_fill(stream, crew->run->progress);
	if (bench_job_writes(crew->job) && crew->run->args->lap && place->cache_bytes > place->size_bytes)
		left_ops = (place->cache_bytes - place->size_bytes) / bench_op_bytes(crew->job, crew->run->args);
	begin_ns = tool_now_ns();
	while (err == 0 && left_ops-- > 0) {
		bench_stream_op(stream, BENCH_PHASE_PLAIN);
		err = stream->err;
		if (left_ops % 256 == 0 && tool_now_ns() - begin_ns > WARM_UP_NS)
			break;
	}
	return err < 0 ? err : pcache_flush(place->cache);
}

/* ---- results ------------------------------------------------------------ */

static int compare_doubles(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return a < b ? -1 : a > b;
}

struct bench_spread bench_spread_of(double *values, uint32_t value_nr)
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

uint64_t bench_cpu_ns(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) < 0)
		return 0;
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t bench_background_sum(const struct pcache_info *info)
{
	return info->writeback_bytes + info->backing_flushes + info->evicted_segments + info->cleaned_segments;
}

void bench_fill_counted(struct bench_result *result, const struct pcache_info *before, const struct pcache_info *after)
{
	uint64_t hit = after->hit_bytes - before->hit_bytes, miss = after->miss_bytes - before->miss_bytes;
	uint64_t written = after->write_bytes - before->write_bytes;

	result->hit_percent = hit + miss ? 100.0 * (double)hit / (double)(hit + miss) : 100;
	result->extents = after->extents;
	result->dram_bytes_per_extent = after->extents ? (double)after->index_bytes / (double)after->extents : 0;
	result->media_bytes_per_byte =
		written ? (double)(after->stored_bytes - before->stored_bytes) / (double)written : 0;
}

/* Gives write-back that the job caused a moment to end, so that it does not slow the limit down. */
static void settle(struct crew *crew)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	uint64_t begin_ns = tool_now_ns(), seen = UINT64_MAX;

	while (tool_now_ns() - begin_ns < SETTLE_NS && pcache_info_get(crew->run->place->cache, &info) == 0 &&
	       bench_background_sum(&info) != seen) {
		seen = bench_background_sum(&info);
		usleep(2000);
	}
}

/* One slice by all threads: ns per operation, as one thread sees it; an error of any thread. */
static int slice(struct crew *crew, struct worker *workers, enum bench_phase phase, double *out_ns)
{
	struct pcache_info before = { .struct_bytes = sizeof(before) }, after = { .struct_bytes = sizeof(after) };
	uint64_t ops = 0, ns = 0, cpu_ns;
	uint32_t i;

	crew->phase = phase;
	(void)pcache_info_get(crew->run->place->cache, &before);
	cpu_ns = bench_cpu_ns();
	pthread_barrier_wait(&crew->barrier);
	pthread_barrier_wait(&crew->barrier);
	cpu_ns = bench_cpu_ns() - cpu_ns;
	(void)pcache_info_get(crew->run->place->cache, &after);
	for (i = 0; i < crew->run->args->threads; i++) {
		if (workers[i].stream.err)
			return workers[i].stream.err;
		ops += workers[i].ops;
		ns += workers[i].ns;
	}
	if (phase == BENCH_PHASE_OWN && crew->recording) {
		crew->own_slices++;
		crew->busy_slices += bench_background_sum(&after) != bench_background_sum(&before);
		crew->cpu_ns += cpu_ns;
		crew->cpu_ops += ops;
	}
	*out_ns = ops ? (double)ns / (double)ops : 0;
	return 0;
}

/* values: PHASE_NR rows of round_nr each. */
static void conclude(const struct crew *crew, double *const *values, uint32_t round_nr, bool with_crc, bool with_plain)
{
	struct bench_result *result = crew->run->result;
	double *pairs = values[BENCH_PHASE_NR];
	const double *limit = values[BENCH_PHASE_COPY];
	uint32_t i;

	/* Pairs of one round first: sorting takes the rounds apart. */
	for (i = 0; i < round_nr; i++)
		pairs[i] = values[BENCH_PHASE_OWN][i] - values[BENCH_PHASE_PLAIN][i];
	if (with_plain)
		result->flush_adds = bench_spread_of(pairs, round_nr);
	for (i = 0; i < 2 * round_nr; i++)
		pairs[i] = values[i < round_nr ? BENCH_PHASE_COPY : BENCH_PHASE_CRC][i % round_nr];
	result->limit_copy = bench_spread_of(pairs, round_nr);
	result->limit_crc = bench_spread_of(pairs + round_nr, with_crc ? round_nr : 0);
	result->limit = result->limit_copy;
	if (with_crc && result->limit_crc.median < result->limit.median) {
		result->limit = result->limit_crc;
		limit = values[BENCH_PHASE_CRC];
	}
	for (i = 0; i < round_nr; i++)
		pairs[i] = values[BENCH_PHASE_OWN][i] > 0 ? limit[i] / values[BENCH_PHASE_OWN][i] : 0;
	result->ratio = bench_spread_of(pairs, round_nr);
	result->own = bench_spread_of(values[BENCH_PHASE_OWN], round_nr);
	result->ratio.median = result->own.median > 0 ? result->limit.median / result->own.median : 0;
	result->slice_nr = round_nr;
	result->iops = result->own.median > 0 ? (double)result->threads * 1e9 / result->own.median : 0;
	result->busy_percent = crew->own_slices ? 100.0 * crew->busy_slices / crew->own_slices : 0;
	result->cpu_ns_per_op = crew->cpu_ops ? (double)crew->cpu_ns / (double)crew->cpu_ops : 0;
}

/* A read with its CRC checked has no limit without it. */
static bool limit_has_copy(const struct crew *crew, bool with_crc)
{
	return !with_crc || (crew->job != BENCH_RANDREAD && crew->job != BENCH_SEQREAD);
}

static int run_round(struct crew *crew, struct worker *workers, double *const *values, uint32_t at, bool with_crc,
		     bool with_plain)
{
	uint32_t i;
	int err = 0;

	for (i = 0; i < BENCH_PHASE_NR && err == 0; i++) {
		double ns = 0;

		if ((i == BENCH_PHASE_CRC && !with_crc) || (i == BENCH_PHASE_PLAIN && !with_plain) ||
		    (i == BENCH_PHASE_COPY && !limit_has_copy(crew, with_crc)))
			continue;
		if (i == BENCH_PHASE_COPY || i == BENCH_PHASE_CRC)
			settle(crew);
		err = slice(crew, workers, (enum bench_phase)i, &ns);
		values[i][at] = ns;
	}
	if (!limit_has_copy(crew, with_crc))
		values[BENCH_PHASE_COPY][at] = values[BENCH_PHASE_CRC][at];
	return err;
}

static int run_rounds(struct crew *crew, struct worker *workers)
{
	bool with_crc = crew->run->args->data_crc && bench_kernel_has_crc() && crew->job != BENCH_MISS &&
			!workers[0].stream.limit.page;
	/* On a disk a slice of writes alone would keep it busy for the slices that follow. */
	bool with_plain = crew->job == BENCH_WRITEFLUSH && !workers[0].stream.limit.page;
	uint32_t phase_nr = 2, round_nr, round, i;
	double *values[BENCH_PHASE_NR + 1], *all;
	int err = 0;

	phase_nr += with_plain ? 1 : 0;
	phase_nr += with_crc && limit_has_copy(crew, with_crc) ? 1 : 0;
	round_nr = (uint32_t)(crew->run->args->seconds * 1e9 / (double)(crew->slice_ns * phase_nr));
	if (round_nr < ROUNDS_MIN)
		round_nr = ROUNDS_MIN;
	all = calloc((size_t)round_nr * (BENCH_PHASE_NR + 2), sizeof(*all));
	if (!all)
		return -ENOMEM;
	for (i = 0; i <= BENCH_PHASE_NR; i++)
		values[i] = all + (size_t)i * round_nr;
	for (round = 0; round < WARM_UP_ROUNDS + round_nr && err == 0; round++) {
		crew->recording = round >= WARM_UP_ROUNDS;
		err = run_round(crew, workers, values, crew->recording ? round - WARM_UP_ROUNDS : 0, with_crc,
				with_plain);
		tool_progress_show(crew->run->progress, round + 1, WARM_UP_ROUNDS + round_nr);
	}
	conclude(crew, values, round_nr, with_crc, with_plain);
	free(all);
	return err;
}

/* ---- threads ------------------------------------------------------------ */

static void free_workers(struct worker *workers, uint32_t worker_nr)
{
	uint32_t i;

	for (i = 0; workers && i < worker_nr; i++)
		free(workers[i].stream.buf);
	free(workers);
}

static struct worker *new_workers(struct crew *crew)
{
	const struct bench_args *args = crew->run->args;
	size_t buf_bytes = (bench_op_bytes(crew->job, args) + 4095) & ~(size_t)4095;
	struct worker *workers = calloc(args->threads, sizeof(*workers));
	bool ok = workers != NULL;
	uint32_t i;

	for (i = 0; ok && i < args->threads; i++) {
		workers[i].crew = crew;
		workers[i].stream.buf = aligned_alloc(4096, buf_bytes);
		ok = workers[i].stream.buf != NULL;
		if (ok)
			bench_stream_init(&workers[i].stream, crew->run->place, args, crew->job, i);
	}
	if (ok)
		return workers;
	free_workers(workers, args->threads);
	return NULL;
}

/* Starts all threads or none. 0 or -errno. */
static int start_workers(struct crew *crew, struct worker *workers)
{
	uint32_t started_nr, i;
	int err = 0;

	pthread_mutex_lock(&crew->gate);
	for (started_nr = 0; started_nr < crew->run->args->threads && err == 0; started_nr += err == 0)
		err = pthread_create(&workers[started_nr].thread, NULL, worker_main, &workers[started_nr]);
	crew->abandoned = err != 0;
	pthread_mutex_unlock(&crew->gate);
	for (i = 0; err && i < started_nr; i++)
		pthread_join(workers[i].thread, NULL);
	return -err;
}

static void stop_workers(struct crew *crew, struct worker *workers)
{
	uint32_t i;

	crew->phase = BENCH_PHASE_STOP;
	pthread_barrier_wait(&crew->barrier);
	for (i = 0; i < crew->run->args->threads; i++)
		pthread_join(workers[i].thread, NULL);
}

static int run_threads(struct crew *crew, struct worker *workers)
{
	struct pcache_info before = { .struct_bytes = sizeof(before) }, after = { .struct_bytes = sizeof(after) };
	struct bench_result *result = crew->run->result;
	uint32_t i;
	int err;

	err = -pthread_barrier_init(&crew->barrier, NULL, crew->run->args->threads + 1);
	if (err < 0)
		return err;
	err = start_workers(crew, workers);
	if (err == 0) {
		(void)pcache_info_get(crew->run->place->cache, &before);
		err = run_rounds(crew, workers);
		(void)pcache_info_get(crew->run->place->cache, &after);
		bench_fill_counted(result, &before, &after);
		stop_workers(crew, workers);
		for (i = 0; i < crew->run->args->threads; i++)
			bench_hist_merge(&result->hist, &workers[i].hist);
	}
	pthread_barrier_destroy(&crew->barrier);
	return err;
}

static uint64_t slice_ns(double seconds)
{
	double ns = seconds * 1e9 / (3 * ROUNDS_MIN);

	return (uint64_t)(ns > SLICE_NS ? SLICE_NS : ns < SLICE_NS_MIN ? SLICE_NS_MIN : ns);
}

int bench_run_slices(struct bench_run *run, enum bench_job job)
{
	struct crew crew = { .run = run, .job = job, .gate = PTHREAD_MUTEX_INITIALIZER };
	struct worker *workers = new_workers(&crew);
	int err;

	if (!workers)
		return -ENOMEM;
	crew.slice_ns = slice_ns(run->args->seconds);
	run->result->threads = run->args->threads;
	run->result->sample_every = rest_ops(&crew) + 1;
	run->result->limit_text = bench_limit_text(&workers[0].stream);
	err = warm_up(&crew, &workers[0].stream);
	if (err == 0)
		err = run_threads(&crew, workers);
	free_workers(workers, run->args->threads);
	return err;
}
