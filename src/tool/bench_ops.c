/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache bench, operations: what one operation of each job is, for the library and for the limit, and at which place.
 *
 * The working set is a number of blocks (keys) of one operation each. They may be spread over a larger space: key i then lies somewhere in the i-th part of it, at a place that depends on i
 * alone, so the number of extents stays the same however long a job runs.
 */
#include <errno.h>
#include <string.h>

#include "tool/bench.h"

const char *const bench_job_names[BENCH_JOB_NR + 1] = { "randwrite", "seqwrite",   "randread", "seqread",
							"mixed",     "writeflush", "batch",    "miss",
							"drain",     "open",       NULL };

static bool is_sequential(enum bench_job job)
{
	return job == BENCH_SEQWRITE || job == BENCH_SEQREAD;
}

bool bench_job_is_random(enum bench_job job)
{
	return !is_sequential(job);
}

bool bench_job_writes(enum bench_job job)
{
	return job != BENCH_RANDREAD && job != BENCH_SEQREAD && job != BENCH_MISS;
}

bool bench_job_wants_backing(unsigned int jobs)
{
	return (jobs & (1u << BENCH_MISS | 1u << BENCH_DRAIN)) != 0;
}

uint64_t bench_op_bytes(enum bench_job job, const struct bench_args *args)
{
	return job == BENCH_BATCH ? args->block_len * BENCH_BATCH_NR : args->block_len;
}

/* ---- places ------------------------------------------------------------ */

uint64_t bench_stream_random(struct bench_stream *stream)
{
	uint64_t x = stream->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	stream->random = x;
	return x * UINT64_C(2685821657736338717);
}

/* Spreads the bits of a number over all bits. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 31) * UINT64_C(0x7fb5d329728ea185);
	x = (x ^ x >> 27) * UINT64_C(0x81dadef4bc2dd44d);
	return x ^ x >> 33;
}

static uint64_t below(uint64_t random, uint64_t limit)
{
	return (uint64_t)((unsigned __int128)random * limit >> 64);
}

uint64_t bench_stream_off(const struct bench_stream *stream, uint64_t key_idx)
{
	uint64_t block = key_idx;

	if (stream->stride > 1)
		block = key_idx * stream->stride + mix(key_idx + 1) % stream->stride;
	return block * stream->args->block_len;
}

/* A Feistel network over the next power of four; what falls outside goes through it again. */
uint64_t bench_stream_shuffled(const struct bench_stream *stream, uint64_t idx)
{
	unsigned int half = 1, round;
	uint64_t mask;

	while (half < 31 && UINT64_C(1) << 2 * half < stream->key_nr)
		half++;
	mask = (UINT64_C(1) << half) - 1;
	do {
		uint64_t left = idx >> half, right = idx & mask;

		for (round = 1; round <= 3; round++) {
			uint64_t next = left ^ (mix(right * 4 + round) & mask);

			left = right;
			right = next;
		}
		idx = left << half | right;
	} while (idx >= stream->key_nr);
	return idx;
}

static uint64_t next_off(struct bench_stream *stream)
{
	uint64_t key_idx;

	if (is_sequential(stream->job)) {
		key_idx = stream->cursor++;
		if (stream->cursor == stream->key_nr)
			stream->cursor = 0;
	} else {
		key_idx = below(bench_stream_random(stream), stream->key_nr);
	}
	return bench_stream_off(stream, key_idx);
}

/* Place of a read of the limit: in the mapping, which may be smaller than the job's space. */
static uint64_t next_limit_off(struct bench_stream *stream)
{
	uint64_t nr = stream->limit.map_bytes / stream->args->block_len;

	if (stream->stride == 1 && nr >= stream->key_nr)
		return next_off(stream);
	if (is_sequential(stream->job))
		return stream->cursor++ % nr * stream->args->block_len;
	return below(bench_stream_random(stream), nr) * stream->args->block_len;
}

static bool next_is_write(struct bench_stream *stream)
{
	if (stream->job == BENCH_MIXED)
		return bench_stream_random(stream) >> 32 < (UINT64_C(1) << 32) / 100 * BENCH_MIXED_WRITE_PERCENT;
	return bench_job_writes(stream->job);
}

/* ---- operations ------------------------------------------------------------ */

/* Never the same bytes twice. */
static void touch_buf(struct bench_stream *stream)
{
	memcpy(stream->buf, &stream->random, sizeof(stream->random));
}

static int own_batch(struct bench_stream *stream)
{
	struct pcache_range ranges[BENCH_BATCH_NR];
	uint64_t len = stream->args->block_len;
	uint32_t i;

	touch_buf(stream);
	for (i = 0; i < BENCH_BATCH_NR; i++)
		ranges[i] = (struct pcache_range){ .buf = stream->buf + i * len, .off = next_off(stream), .len = len };
	return pcache_write_batch(stream->place->cache, ranges, BENCH_BATCH_NR, 0);
}

static int own_write(struct bench_stream *stream, bool flushes)
{
	struct pcache *cache = stream->place->cache;
	uint64_t off = next_off(stream);
	int err;

	touch_buf(stream);
	err = pcache_write(cache, stream->buf, off, stream->args->block_len, 0);
	if (err < 0 || !flushes || ++stream->unflushed < stream->args->flush_every)
		return err;
	stream->unflushed = 0;
	return pcache_flush(cache);
}

static int own_op(struct bench_stream *stream, bool flushes)
{
	struct pcache *cache = stream->place->cache;
	uint64_t len = stream->args->block_len;

	if (stream->job == BENCH_BATCH)
		return own_batch(stream);
	if (next_is_write(stream))
		return own_write(stream, flushes);
	return pcache_read(cache, stream->buf, next_off(stream), len,
			   stream->job == BENCH_MISS && !stream->args->fill ? PCACHE_NOCACHE : 0);
}

static int limit_batch(struct bench_stream *stream, bool crc)
{
	uint64_t offs[BENCH_BATCH_NR];
	uint32_t i;

	touch_buf(stream);
	for (i = 0; i < BENCH_BATCH_NR; i++)
		offs[i] = next_off(stream);
	return bench_limit_batch(&stream->limit, offs, stream->buf, stream->args->block_len, crc);
}

static int limit_op(struct bench_stream *stream, bool crc)
{
	uint64_t len = stream->args->block_len;

	if (stream->job == BENCH_BATCH)
		return limit_batch(stream, crc);
	if (next_is_write(stream)) {
		uint64_t off = next_off(stream);

		touch_buf(stream);
		return bench_limit_write(&stream->limit, off, stream->buf, len, crc);
	}
	if (stream->job == BENCH_MISS)
		return bench_limit_pread(&stream->limit, next_off(stream), stream->buf, len);
	bench_limit_read(&stream->limit, next_limit_off(stream), stream->buf, len, crc);
	return 0;
}

void bench_stream_op(struct bench_stream *stream, enum bench_phase phase)
{
	int err;

	if (phase == BENCH_PHASE_OWN || phase == BENCH_PHASE_PLAIN)
		err = own_op(stream, phase == BENCH_PHASE_OWN && stream->job == BENCH_WRITEFLUSH);
	else
		err = limit_op(stream, phase == BENCH_PHASE_CRC);
	if (err < 0 && stream->err == 0)
		stream->err = err;
}

int bench_stream_fill(struct bench_stream *stream, struct tool_progress *progress)
{
	uint64_t i;

	for (i = 0; i < stream->key_nr; i++) {
		uint64_t key_idx = is_sequential(stream->job) ? i : bench_stream_shuffled(stream, i);
		int err;

		(void)bench_stream_random(stream);
		touch_buf(stream);
		err = pcache_write(stream->place->cache, stream->buf, bench_stream_off(stream, key_idx),
				   stream->args->block_len, 0);
		if (err < 0)
			return err;
		if (i % 65536 == 0)
			tool_progress_show(progress, i, stream->key_nr);
	}
	return 0;
}

/* ---- construction ------------------------------------------------------------ */

static void init_limit(struct bench_stream *stream, uint32_t idx)
{
	const struct bench_place *place = stream->place;
	uint64_t share = place->limit_data_bytes / stream->args->threads & ~UINT64_C(63);
	bool each = place->info.commit == PCACHE_COMMIT_WRITE || stream->job == BENCH_WRITEFLUSH;

	stream->limit = (struct bench_limit){
		.map = place->limit_map,
		.map_bytes = place->limit_data_bytes,
		.begin = share * idx,
		.end = share * (idx + 1),
		.cursor = share * idx,
		.slots = place->limit_map + place->limit_data_bytes + (size_t)idx * BENCH_SLOT_NR * BENCH_SLOT_BYTES,
		.fd = place->limit_fd,
		.backing_fd = place->backing_fd,
		.page = place->info.granularity == PCACHE_GRANULARITY_PAGE,
	};
	stream->limit.fence_each = !stream->limit.page && each;
	stream->limit.sync_each = stream->limit.page && each;
	stream->limit.pwrite_each = stream->limit.sync_each && stream->args->flush_every > 1;
}

void bench_stream_init(struct bench_stream *stream, const struct bench_place *place, const struct bench_args *args,
		       enum bench_job job, uint32_t idx)
{
	uint64_t bytes = bench_op_bytes(job, args), i;

	stream->place = place;
	stream->args = args;
	stream->job = job;
	stream->key_nr = place->size_bytes / args->block_len;
	stream->stride = is_sequential(job) ? 1 : place->spread_bytes / place->size_bytes;
	stream->random = UINT64_C(0x9e3779b97f4a7c15) * (idx + 1);
	stream->cursor = stream->key_nr / args->threads * idx;
	for (i = 0; i < bytes; i += 8) {
		uint64_t word = bench_stream_random(stream);

		memcpy(stream->buf + i, &word, sizeof(word));
	}
	init_limit(stream, idx);
}

const char *bench_limit_text(const struct bench_stream *stream)
{
	switch (stream->job) {
	case BENCH_MISS:
		return "pread of the backing";
	case BENCH_DRAIN:
		return "the same bytes, sorted and merged, to a file";
	case BENCH_OPEN:
		return "reading the log at memory speed";
	case BENCH_RANDREAD:
	case BENCH_SEQREAD:
		return stream->args->data_crc ? "copy and CRC in one pass" : "memcpy";
	case BENCH_MIXED:
		return "copies in and out of the mapping";
	case BENCH_BATCH:
		return stream->limit.page ? "copies and one fdatasync" : "copies, slots and one fence";
	default:
		if (!stream->limit.page)
			return stream->limit.fence_each ? "copy, slot and one fence" : "copy and slot";
		if (!stream->limit.sync_each)
			return "memcpy to a mapping";
		return stream->limit.pwrite_each ? "pwrite and fdatasync of each" : "memcpy to a mapping and msync";
	}
}
