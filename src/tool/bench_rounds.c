/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache bench, rounds: the jobs that are one long thing instead of many short ones, drain and open. A round is the job once and then its limit once; the result is the
 * median of the rounds, per block or per key.
 *
 * drain: the working set is written at random, so it is dirty, and pcache_drain brings it to the backing. The limit writes the same blocks to the same file, sorted and
 * merged to long requests, out of memory that is there already, and ends with the same fdatasync: by io_uring, through the page cache and past it (the faster
 * counts), or where there is no io_uring by pwrite.
 *
 * open: the working set is written, the cache is closed and opened again and again. The limit reads as many bytes as the log holds once, at the speed of memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool/bench.h"

#define ROUNDS_MIN 5u
#define ROUNDS_MAX 64u

struct rounds {
	struct bench_run *run;
	struct bench_stream stream;
	struct bench_writer writer; /* drain */
	uint64_t *offs; /* drain: places of all keys, ascending */
	double own[ROUNDS_MAX], limit[ROUNDS_MAX], pairs[ROUNDS_MAX];
	uint32_t round_nr;
	uint64_t cpu_ns;
	uint32_t busy_nr;
};

static int begin(struct rounds *rounds, struct bench_run *run, enum bench_job job)
{
	memset(rounds, 0, sizeof(*rounds));
	rounds->run = run;
	rounds->stream.buf = aligned_alloc(4096, (run->args->block_len + 4095) & ~(size_t)4095);
	if (!rounds->stream.buf)
		return -ENOMEM;
	bench_stream_init(&rounds->stream, run->place, run->args, job, 0);
	run->result->threads = 1;
	run->result->sample_every = 1;
	run->result->limit_text = bench_limit_text(&rounds->stream);
	return 0;
}

/* Rounds until the time is up, but enough of them. */
static bool goes_on(const struct rounds *rounds, uint64_t begin_ns)
{
	uint64_t ns = tool_now_ns() - begin_ns;

	tool_progress_show(rounds->run->progress, ns, (uint64_t)(rounds->run->args->seconds * 1e9));
	return rounds->round_nr < ROUNDS_MIN ||
	       (rounds->round_nr < ROUNDS_MAX && (double)ns < rounds->run->args->seconds * 1e9);
}

static void note(struct rounds *rounds, uint64_t own_ns, uint64_t limit_ns)
{
	double nr = (double)rounds->stream.key_nr;

	rounds->own[rounds->round_nr] = (double)own_ns / nr;
	rounds->limit[rounds->round_nr] = (double)limit_ns / nr;
	rounds->pairs[rounds->round_nr] = own_ns ? (double)limit_ns / (double)own_ns : 0;
	rounds->round_nr++;
	bench_hist_add(&rounds->run->result->hist, own_ns);
}

static void conclude(struct rounds *rounds)
{
	struct bench_result *result = rounds->run->result;
	double ops = (double)rounds->stream.key_nr * rounds->round_nr;

	result->own = bench_spread_of(rounds->own, rounds->round_nr);
	result->limit = result->limit_copy = bench_spread_of(rounds->limit, rounds->round_nr);
	result->ratio = bench_spread_of(rounds->pairs, rounds->round_nr);
	result->ratio.median = result->own.median > 0 ? result->limit.median / result->own.median : 0;
	result->iops = result->own.median > 0 ? 1e9 / result->own.median : 0;
	result->cpu_ns_per_op = ops > 0 ? (double)rounds->cpu_ns / ops : 0;
	result->slice_nr = rounds->round_nr;
	result->busy_percent = rounds->round_nr ? 100.0 * rounds->busy_nr / rounds->round_nr : 0;
}

/* ---- drain ------------------------------------------------------------ */

static int compare_offs(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return a < b ? -1 : a > b;
}

static int sort_keys(struct rounds *rounds)
{
	uint64_t i;

	rounds->offs = malloc(rounds->stream.key_nr * sizeof(*rounds->offs));
	if (!rounds->offs)
		return -ENOMEM;
	for (i = 0; i < rounds->stream.key_nr; i++)
		rounds->offs[i] = bench_stream_off(&rounds->stream, i);
	qsort(rounds->offs, rounds->stream.key_nr, sizeof(*rounds->offs), compare_offs);
	return 0;
}

/* The same blocks to the same file, past the page cache and through it; the faster one counts. */
static int time_limit(struct rounds *rounds, uint64_t *out_ns)
{
	unsigned int i;

	*out_ns = UINT64_MAX;
	for (i = 0; i < 2; i++) {
		uint64_t begin_ns = tool_now_ns(), ns;
		int err = bench_writer_run(&rounds->writer, i == rounds->round_nr % 2);

		ns = tool_now_ns() - begin_ns;
		if (err == 0 && ns < *out_ns)
			*out_ns = ns;
	}
	return *out_ns == UINT64_MAX ? -EIO : 0;
}

static int drain_round(struct rounds *rounds)
{
	uint64_t begin_ns, own_ns, limit_ns, cpu_ns;
	int err = bench_stream_fill(&rounds->stream, rounds->run->progress);

	if (err < 0)
		return err;
	cpu_ns = bench_cpu_ns();
	begin_ns = tool_now_ns();
	err = pcache_drain(rounds->run->place->cache, NULL, NULL);
	own_ns = tool_now_ns() - begin_ns;
	rounds->cpu_ns += bench_cpu_ns() - cpu_ns;
	rounds->busy_nr++;
	if (err == 0)
		err = time_limit(rounds, &limit_ns);
	if (err == 0)
		note(rounds, own_ns, limit_ns);
	return err;
}

static int drain_rounds(struct rounds *rounds)
{
	const struct bench_place *place = rounds->run->place;
	uint64_t begin_ns = tool_now_ns();
	int err = 0;

	rounds->writer = (struct bench_writer){
		.fd = place->backing_fd,
		.map = place->limit_map,
		.map_bytes = place->limit_data_bytes,
		.offs = rounds->offs,
		.off_nr = rounds->stream.key_nr,
		.len = rounds->run->args->block_len,
	};
	bench_writer_init(&rounds->writer);
	while (err == 0 && goes_on(rounds, begin_ns))
		err = drain_round(rounds);
	bench_writer_fini(&rounds->writer);
	return err;
}

int bench_run_drain(struct bench_run *run)
{
	struct pcache_info before = { .struct_bytes = sizeof(before) }, after = { .struct_bytes = sizeof(after) };
	struct rounds *rounds = malloc(sizeof(*rounds));
	int err;

	if (!rounds)
		return -ENOMEM;
	err = begin(rounds, run, BENCH_DRAIN);
	if (err == 0)
		err = sort_keys(rounds);
	if (err == 0)
		err = pcache_info_get(run->place->cache, &before);
	if (err == 0)
		err = drain_rounds(rounds);
	if (err == 0)
		err = pcache_info_get(run->place->cache, &after);
	bench_fill_counted(run->result, &before, &after);
	conclude(rounds);
	free(rounds->offs);
	free(rounds->stream.buf);
	free(rounds);
	return err;
}

/* ---- open ------------------------------------------------------------ */

static int open_round(struct rounds *rounds)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	uint64_t begin_ns, own_ns = 0, cpu_ns = bench_cpu_ns();
	int err = bench_place_reopen(rounds->run->place, rounds->run->args, &own_ns);

	rounds->cpu_ns += bench_cpu_ns() - cpu_ns;
	if (err == 0)
		err = pcache_info_get(rounds->run->place->cache, &info);
	if (err < 0)
		return err;
	begin_ns = tool_now_ns();
	bench_limit_scan(&rounds->stream.limit, (info.log_head - info.log_tail) * BENCH_SLOT_BYTES);
	note(rounds, own_ns, tool_now_ns() - begin_ns);
	return 0;
}

int bench_run_open(struct bench_run *run)
{
	struct pcache_info before = { .struct_bytes = sizeof(before) }, after = { .struct_bytes = sizeof(after) };
	struct rounds *rounds = malloc(sizeof(*rounds));
	uint64_t begin_ns;
	int err;

	if (!rounds)
		return -ENOMEM;
	err = begin(rounds, run, BENCH_OPEN);
	if (err == 0)
		err = pcache_info_get(run->place->cache, &before);
	if (err == 0)
		err = bench_stream_fill(&rounds->stream, run->progress);
	if (err == 0)
		err = pcache_info_get(run->place->cache, &after);
	bench_fill_counted(run->result, &before, &after);
	begin_ns = tool_now_ns();
	while (err == 0 && goes_on(rounds, begin_ns))
		err = open_round(rounds);
	/* The index as an open builds it. */
	after.struct_bytes = sizeof(after);
	if (err == 0 && pcache_info_get(run->place->cache, &after) == 0 && after.extents)
		run->result->dram_bytes_per_extent = (double)after.index_bytes / (double)after.extents;
	conclude(rounds);
	free(rounds->stream.buf);
	free(rounds);
	return err;
}
