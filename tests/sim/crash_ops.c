/* SPDX-License-Identifier: BSD-3-Clause */
/* The operations of the crash simulator: calls of the library, with what the oracle must know of each. */
#include "sim/crash_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define READ_BLK 16u

const char *crash_error_text(int rc)
{
	return pcache_strerror(rc);
}

void crash_check_runtime(struct crash_world *w)
{
	const char *wrong = pc_cache_check(w->cache);

	struct pcache_info info = {.struct_bytes = sizeof(info)};

	if (wrong != NULL)
		crash_fail(w, "invariant of the run-time state: %s", wrong);
	/* No data of a key that counts is ever damaged here, so nobody may have met any. */
	else if (pcache_info_get(w->cache, &info) != 0 || (info.crc_errors != 0 && !w->damaged))
		crash_fail(w, "%llu CRC errors, and no damaged data", (unsigned long long)info.crc_errors);
}

/* An error of the backing may come through if there was one. */
static bool may_fail(const struct crash_world *w, int rc)
{
	return w->faulted && rc == -EIO;
}

int crash_try_open(struct crash_world *w, const struct pcache_config *config)
{
	struct pcache_backing *backing = crash_attach(w);
	int rc;

	if (config == w->run->config)
		config = crash_config(w);
	crash_call_begin(w);
	rc = pc_cache_open_media(pc_sim_media(w->sim), config, &w->tweaks, backing, &w->cache);
	crash_call_end(w);
	if (rc != 0) {
		w->cache = NULL;
		pcache_backing_free(backing);
	}
	return rc;
}

/* Opens the media that the world holds. */
bool crash_open(struct crash_world *w)
{
	int rc = crash_try_open(w, w->run->config);

	if (may_fail(w, rc)) {
		/* The states were used up inside the open: a fault is no violation because nobody tries again. */
		if (w->run->stop)
			return false;
		w->no_faults = true;
		rc = crash_try_open(w, w->run->config);
		w->no_faults = false;
	}
	if (w->run->stop && may_fail(w, rc))
		return false; /* enough states were seen before it could try again */
	if (rc != 0) {
		crash_fail(w, "open gives %d: %s", rc, crash_error_text(rc));
		return false;
	}
	if (!w->run->stop)
		crash_check_runtime(w);
	return !w->run->stop;
}

bool crash_read_all(struct crash_world *w, uint8_t *to)
{
	const struct pc_gen_shape *shape = &w->run->shape;

	w->no_faults = true;
	for (uint32_t blk = 0; blk < shape->backing_blk; blk += READ_BLK) {
		const uint32_t len_blk = PC_MIN(READ_BLK, shape->backing_blk - blk);
		const int rc = pcache_read(w->cache, to + (size_t)blk * shape->block_bytes, (uint64_t)blk * shape->block_bytes,
					   (uint64_t)len_blk * shape->block_bytes, PCACHE_NOCACHE);

		if (rc != 0) {
			crash_fail(w, "read [%u,+%u) gives %d: %s", blk, len_blk, rc, crash_error_text(rc));
			return false;
		}
	}
	w->no_faults = false;
	return true;
}

bool crash_check_all_live(struct crash_world *w)
{
	const struct pc_gen_shape *shape = &w->run->shape;

	if (!crash_read_all(w, w->run->seen))
		return false;
	for (uint32_t blk = 0; blk < shape->backing_blk; blk++) {
		if (!pc_oracle_check_live(w->oracle, blk, w->run->seen + (size_t)blk * shape->block_bytes)) {
			crash_fail(w, "%s", pc_oracle_text(w->oracle));
			return false;
		}
	}
	return true;
}

void crash_do_flush(struct crash_world *w)
{
	int rc;

	crash_call_begin(w);
	rc = pcache_flush(w->cache);
	crash_call_end(w);
	if (rc != 0)
		crash_fail(w, "flush gives %d: %s", rc, crash_error_text(rc));
	else
		pc_oracle_flushed(w->oracle, true);
}

void crash_do_drain(struct crash_world *w)
{
	int rc;

	crash_call_begin(w);
	rc = pcache_drain(w->cache, NULL, NULL);
	crash_call_end(w);
	if (may_fail(w, rc))
		return;
	if (rc != 0) {
		crash_fail(w, "drain gives %d: %s", rc, crash_error_text(rc));
		return;
	}
	pc_oracle_flushed(w->oracle, false);
	if (!w->run->stop && !pc_oracle_drained(w->oracle, &w->disk))
		crash_fail(w, "%s", pc_oracle_text(w->oracle));
}

static void do_maintain(struct crash_world *w, uint32_t steps)
{
	int rc;

	crash_call_begin(w);
	rc = pcache_maintain(w->cache, steps);
	crash_call_end(w);
	if (rc < 0 && !may_fail(w, rc))
		crash_fail(w, "maintain gives %d: %s", rc, crash_error_text(rc));
}

static void do_step(struct crash_world *w, enum pc_step step, bool force)
{
	int rc;

	crash_call_begin(w);
	rc = pc_cache_step(w->cache, step, force);
	w->did = rc > 0;
	crash_call_end(w);
	if (rc < 0 && !may_fail(w, rc))
		crash_fail(w, "step %d gives %d: %s", (int)step, rc, crash_error_text(rc));
}

void crash_do_close(struct crash_world *w)
{
	int rc;

	crash_call_begin(w);
	rc = pcache_close(w->cache);
	w->cache = NULL;
	crash_call_end(w);
	if (rc != 0) {
		crash_fail(w, "close gives %d: %s", rc, crash_error_text(rc));
		return;
	}
	pc_oracle_flushed(w->oracle, false);
	crash_between(w);
}

void crash_do_reopen(struct crash_world *w, uint32_t mode_change)
{
	crash_do_close(w);
	if (w->run->stop)
		return;
	pc_sim_reopen(w->sim);
	crash_set_mode(w, w->mode ^ mode_change);
	if (w->run->stop || !crash_open(w))
		return;
	(void)crash_check_all_live(w);
}

static void do_read(struct crash_world *w, const struct pc_gen_op *op)
{
	const uint32_t block_bytes = w->run->shape.block_bytes;
	const struct pc_gen_range *range = &op->ranges[0];
	int rc;

	crash_call_begin(w);
	rc = pcache_read(w->cache, w->run->io, (uint64_t)range->blk * block_bytes, (uint64_t)range->len_blk * block_bytes, op->arg);
	if (rc != 0 && !may_fail(w, rc))
		crash_fail(w, "read gives %d: %s", rc, crash_error_text(rc));
	for (uint32_t i = 0; i < range->len_blk && rc == 0; i++) {
		if (!pc_oracle_check_live(w->oracle, range->blk + i, w->run->io + (size_t)i * block_bytes)) {
			crash_fail(w, "%s", pc_oracle_text(w->oracle));
			break;
		}
	}
	crash_call_end(w);
}

/* A write that was cut into pieces failed in the middle: finds out which blocks it changed. */
static void resolve_pieces(struct crash_world *w, const struct pc_gen_op *op)
{
	const uint32_t block_bytes = w->run->shape.block_bytes;

	if (!crash_read_all(w, w->run->seen))
		return;
	for (uint32_t i = op->ranges[0].blk; i < op->ranges[0].blk + op->ranges[0].len_blk; i++) {
		const struct pc_seen seen = pc_oracle_look(w->oracle, i, w->run->seen + (size_t)i * block_bytes);
		const struct pc_seen newest = pc_oracle_newest(w->oracle, i);

		pc_oracle_resolve(w->oracle, i, seen.kind == newest.kind && seen.version == newest.version);
	}
}

/* Calls the library for one unit. */
static int call_unit(struct crash_world *w, const struct pc_gen_op *op, uint32_t flags)
{
	const uint64_t block_bytes = w->run->shape.block_bytes;
	const struct pc_gen_range *first = &op->ranges[0];
	struct pcache_range ranges[PC_GEN_RANGE_NR_MAX];
	uint8_t *io = w->run->io;

	for (uint32_t i = 0; i < op->range_nr; i++) {
		const struct pc_gen_range *range = &op->ranges[i];
		const uint32_t version = pc_oracle_next_version(w->oracle);
		const bool zero = op->kind == PC_GEN_DISCARD || op->kind == PC_GEN_ZEROES;

		pc_oracle_put(w->oracle, range->blk, range->len_blk, version, zero);
		ranges[i] = (struct pcache_range){.buf = io, .off = range->blk * block_bytes, .len = range->len_blk * block_bytes};
		if (zero)
			continue;
		pc_oracle_fill(w->oracle, io, range->blk, range->len_blk, version);
		io += range->len_blk * block_bytes;
	}
	crash_call_begin(w);
	switch (op->kind) {
	case PC_GEN_BATCH:
		return pcache_write_batch(w->cache, ranges, op->range_nr, flags);
	case PC_GEN_DISCARD:
		return pcache_discard(w->cache, first->blk * block_bytes, first->len_blk * block_bytes, flags);
	case PC_GEN_ZEROES:
		return pcache_write_zeroes(w->cache, first->blk * block_bytes, first->len_blk * block_bytes, flags);
	default:
		return pcache_write(w->cache, w->run->io, first->blk * block_bytes, first->len_blk * block_bytes, flags);
	}
}

/* One unit: 0, or the error of the library, if it is one that may come. */
static int do_unit(struct crash_world *w, const struct pc_gen_op *op, uint32_t flags)
{
	const bool zero = op->kind == PC_GEN_DISCARD || op->kind == PC_GEN_ZEROES;
	/* A discard is cut where a write of its length would not be: after a stripe of each shard. */
	const uint64_t zero_max = (uint64_t)w->tweaks.stripe_bytes * w->tweaks.shard_nr;
	const uint64_t atomic_max = zero ? zero_max : pcache_atomic_write_max(w->cache);
	const bool faultless = w->no_faults;
	uint64_t len_bytes = 0;
	bool atomic;
	int rc;

	for (uint32_t i = 0; i < op->range_nr; i++)
		len_bytes += (uint64_t)op->ranges[i].len_blk * w->run->shape.block_bytes;
	atomic = len_bytes <= atomic_max;
	/* As atomic as the backing is. */
	if ((op->kind == PC_GEN_WRITE || op->kind == PC_GEN_DURABLE) && crash_goes_around(w))
		atomic = false;
	if (crash_waits(w))
		w->no_faults = true;
	pc_oracle_begin(w->oracle, atomic || op->kind == PC_GEN_BATCH);
	rc = call_unit(w, op, flags);
	crash_call_end(w);
	w->no_faults = faultless;
	if (w->run->stop)
		return rc;
	if (op->kind == PC_GEN_BATCH && !atomic) {
		if (rc != PCACHE_E_TOO_BIG)
			crash_fail(w, "a batch of %llu bytes, above the maximum of %llu, gives %d", (unsigned long long)len_bytes,
			     (unsigned long long)atomic_max, rc);
		pc_oracle_end(w->oracle, false, false);
		return 0;
	}
	if (rc == -EAGAIN && (flags & PCACHE_NOWAIT) && crash_waits(w)) {
		pc_oracle_end(w->oracle, false, false);
		return rc;
	}
	/* maintenance=caller: who writes into a full cache runs write-back himself, and meets its errors. */
	if (rc != 0 && rc != PCACHE_E_FULL && !may_fail(w, rc)) {
		crash_fail(w, "gives %d: %s", rc, crash_error_text(rc));
		return rc;
	}
	if (rc != 0 && !atomic) {
		resolve_pieces(w, op);
		pc_oracle_end(w->oracle, true, false);
	} else {
		pc_oracle_end(w->oracle, rc == 0, (flags & PCACHE_DURABLE) != 0 || crash_waits(w));
	}
	if (rc == 0 && crash_waits(w))
		crash_check_on_backing(w, op);
	return rc;
}

/* A write; if the cache is full, it must fit once everything was drained and background work had its turn. */
static void do_write(struct crash_world *w, const struct pc_gen_op *op)
{
	uint32_t flags = op->kind == PC_GEN_DURABLE || (op->kind == PC_GEN_BATCH && op->arg != 0) ? PCACHE_DURABLE : 0;
	int rc;

	if ((op->kind == PC_GEN_WRITE || op->kind == PC_GEN_ZEROES || op->kind == PC_GEN_DISCARD) && op->arg != 0)
		flags |= PCACHE_NOWAIT;
	if (pc_oracle_pending_nr(w->oracle) > PC_ORACLE_PENDING_MAX - 4)
		crash_do_flush(w);
	if (w->run->stop)
		return;
	rc = do_unit(w, op, flags);
	w->run->result->reached[PC_REACHED_DATA_FULL] += w->depth == 0 && rc == PCACHE_E_FULL;
	if (rc != PCACHE_E_FULL || w->run->stop || !crash_decide(w, PC_CRASH_EVENT_RETRY, 40))
		return;
	crash_between(w);
	w->no_faults = true;
	crash_do_drain(w);
	if (!w->run->stop)
		do_maintain(w, 0);
	if (!w->run->stop)
		rc = do_unit(w, op, flags & ~PCACHE_NOWAIT);
	w->no_faults = false;
	if (w->run->stop)
		return;
	if (rc == PCACHE_E_FULL)
		crash_fail(w, "no progress: still full after drain and maintenance");
}

/* Notes whether an operation of a short sequence did anything: on media, on the backing, or in memory (a step says so). */
static void note_busy(struct crash_world *w, const struct pc_sim_counts *before, uint32_t call_nr)
{
	const struct pc_sim_counts now = pc_sim_counts(w->sim);

	if (w->op_idx < w->run->shape.warm_nr || w->cache == NULL)
		return;
	if (w->did || now.copies != before->copies || now.syncs != before->syncs || w->call_nr != call_nr)
		w->run->result->busy |= 1u << (w->op_idx - w->run->shape.warm_nr) % 32;
}

static void do_call(struct crash_world *w, const struct pc_gen_op *op)
{
	switch (op->kind) {
	case PC_GEN_FLUSH:
		crash_do_flush(w);
		break;
	case PC_GEN_READ:
		do_read(w, op);
		break;
	case PC_GEN_WRITEBACK:
		do_step(w, PC_STEP_WRITEBACK, op->arg != 0);
		break;
	case PC_GEN_EVICT:
		do_step(w, PC_STEP_EVICT, op->arg != 0);
		break;
	case PC_GEN_CLEAN:
		do_step(w, PC_STEP_CLEAN, op->arg != 0);
		break;
	case PC_GEN_MAINTAIN:
		do_maintain(w, op->arg);
		break;
	case PC_GEN_DRAIN:
		crash_do_drain(w);
		break;
	case PC_GEN_REOPEN:
		crash_do_reopen(w, op->arg);
		break;
	case PC_GEN_GOES:
		crash_do_goes(w, op->arg);
		break;
	case PC_GEN_CRASH:
		crash_do_crash(w, op->arg);
		break;
	default:
		do_write(w, op);
		break;
	}
}

void crash_do_op(struct crash_world *w, const struct pc_gen_op *op)
{
	const struct pc_sim_counts before = pc_sim_counts(w->sim);
	const uint32_t call_nr = w->call_nr;

	w->did = false;
	do_call(w, op);
	if (w->run->settings->every != NULL)
		note_busy(w, &before, call_nr);
	crash_note(w->run, (uint64_t)op->kind << 32 | w->event_nr);
	if (!w->run->stop)
		crash_between(w);
	if (!w->run->stop && (w->run->follow != NULL || pc_rng_chance(&w->rng, 15)))
		crash_check_runtime(w);
}
