/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Modes: the settings that may differ from one open of a cache to the next. A mode is a set of bits, each of which stands for another value than the shape's:
 *
 *     1 ordering   2 commit   4 gc_percent   8 shards and stripe   16 data heads, keys of cleaning   32 read_cache   64 full   128 commit_guard
 *
 * A world opens in the mode of the world above; an operation `close, open` changes the bits of its argument, and an open after a power cut changes some by chance.
 */
#include "sim/crash_internal.h"

#include <stdlib.h>

static void set_option(struct pcache_config *config, int option, uint64_t value)
{
	if (pcache_config_set(config, option, value) != 0)
		abort();
}

static struct pcache_config *new_config(const struct pc_gen_shape *shape, uint32_t mode)
{
	const bool order_batch = shape->order_batch != ((mode & CRASH_MODE_ORDERING) != 0);
	const bool commit_flush = shape->commit_flush != ((mode & CRASH_MODE_COMMIT) != 0);
	struct pcache_config *config;

	if (pcache_config_new(&config) != 0)
		abort();
	set_option(config, PCACHE_OPT_BLOCK_BYTES, shape->block_bytes);
	set_option(config, PCACHE_OPT_SEGMENT_BYTES, shape->segment_bytes);
	set_option(config, PCACHE_OPT_DATA_CRC, shape->data_crc);
	set_option(config, PCACHE_OPT_GC_PERCENT, mode & CRASH_MODE_GC ? (shape->gc_pct + 45) % 91 : shape->gc_pct);
	set_option(config, PCACHE_OPT_ORDERING, order_batch ? PCACHE_ORDERING_BATCH : PCACHE_ORDERING_STRICT);
	set_option(config, PCACHE_OPT_COMMIT, commit_flush ? PCACHE_COMMIT_FLUSH : PCACHE_COMMIT_WRITE);
	set_option(config, PCACHE_OPT_COMMIT_GUARD, shape->guard_fence != ((mode & CRASH_MODE_GUARD) != 0));
	set_option(config, PCACHE_OPT_READ_CACHE, shape->read_cache != ((mode & CRASH_MODE_READ_CACHE) != 0));
	set_option(config, PCACHE_OPT_MAINTENANCE, PCACHE_MAINTENANCE_CALLER);
	set_option(config, PCACHE_OPT_FULL_POLICY, shape->full_error != ((mode & CRASH_MODE_FULL) != 0));
	set_option(config, PCACHE_OPT_WRITEBACK_DELAY_MS, 0); /* no clock */
	return config;
}

void crash_configs_init(struct crash_run *run)
{
	run->configs[0] = new_config(&run->shape, 0);
	run->config = run->configs[0];
	run->config_read_only = new_config(&run->shape, 0);
	set_option(run->config_read_only, PCACHE_OPT_READ_ONLY, 1);
}

void crash_configs_fini(struct crash_run *run)
{
	for (uint32_t mode = 0; mode < CRASH_MODE_NR; mode++)
		pcache_config_free(run->configs[mode]);
	pcache_config_free(run->config_read_only);
}

const struct pcache_config *crash_config(struct crash_world *w)
{
	struct pcache_config **config = &w->run->configs[w->mode];

	if (*config == NULL)
		*config = new_config(&w->run->shape, w->mode);
	return *config;
}

void crash_set_mode(struct crash_world *w, uint32_t mode)
{
	const struct pc_gen_shape *shape = &w->run->shape;
	const bool shards = (mode & CRASH_MODE_SHARDS) != 0;
	const bool heads = (mode & CRASH_MODE_HEADS) != 0;

	w->mode = mode % CRASH_MODE_NR;
	w->goes = PCACHE_MODE_WRITEBACK;
	w->tweaks.shard_nr = !shards ? shape->shard_nr : shape->shard_nr >= 4 ? 1 : shape->shard_nr * 2;
	w->tweaks.stripe_bytes = !shards ? shape->stripe_bytes : shape->stripe_bytes >= 32768 ? 4096 : shape->stripe_bytes * 2;
	w->tweaks.data_head_nr = !heads ? shape->data_head_nr : (shape->data_head_nr + 1) % 4;
	/* Short batches at some opens: of one to three records in each shard. */
	w->tweaks.replay_records = (w->tweaks.shard_nr + w->tweaks.stripe_bytes / 4096 + w->tweaks.data_head_nr) % 4;
	w->tweaks.kset_max_keys = !heads ? shape->kset_max_keys : shape->kset_max_keys == 0 ? 2 : 0;
	/* Small segments would always be counted to the block. */
	w->tweaks.share_quantum_blk = 1u << shape->backing_blk % 3;
	pc_oracle_set_mode(w->oracle, shape->commit_flush != ((mode & CRASH_MODE_COMMIT) != 0), shape->order_batch != ((mode & CRASH_MODE_ORDERING) != 0));
}

void crash_pick_mode(struct crash_world *w)
{
	const struct pc_crash_path *follow = w->run->follow;
	struct pc_crash_course *course = &w->run->courses[w->depth];
	uint32_t change = 0;

	if (follow != NULL) {
		const struct pc_crash_course *given = &follow->courses[w->depth];

		for (uint32_t i = 0; i < given->event_nr; i++) {
			if (given->events[i].kind == PC_CRASH_EVENT_MODE)
				change = given->events[i].nr;
		}
	} else if (pc_rng_chance(&w->rng, 20)) {
		/* One thing alone, or many. */
		change = pc_rng_chance(&w->rng, 60) ? 1u << pc_rng_below(&w->rng, 8) : pc_rng_below(&w->rng, CRASH_MODE_NR);
	}
	if (change == 0)
		return;
	if (course->event_nr == PC_CRASH_EVENT_NR_MAX)
		w->run->lossy = true;
	else
		course->events[course->event_nr++] = (struct pc_crash_event){.kind = PC_CRASH_EVENT_MODE, .nr = change};
	crash_set_mode(w, w->mode ^ change);
}

/*
 * Around the cache newer data is on the backing before what is dirty in the cache: its order is that of ordering batch, until a drain. What falls due with the mode counts as
 * drained.
 */
void crash_do_goes(struct crash_world *w, uint32_t goes)
{
	const struct pc_gen_shape *shape = &w->run->shape;
	const bool around = goes == PCACHE_MODE_WRITEAROUND || goes == PCACHE_MODE_PASSTHROUGH;
	int rc;

	w->no_faults = true;
	crash_call_begin(w);
	rc = pcache_option_set(w->cache, PCACHE_OPT_MODE, goes);
	crash_call_end(w);
	w->no_faults = false;
	if (w->run->stop)
		return;
	if (rc != 0) {
		crash_fail(w, "mode %u gives %d: %s", goes, rc, pcache_strerror(rc));
		return;
	}
	if (goes == PCACHE_MODE_PASSTHROUGH && w->goes != goes) {
		pc_oracle_flushed(w->oracle, false);
		if (!pc_oracle_drained(w->oracle, &w->disk)) {
			crash_fail(w, "passthrough: %s", pc_oracle_text(w->oracle));
			return;
		}
	}
	w->goes = goes;
	pc_oracle_set_mode(w->oracle, shape->commit_flush != ((w->mode & CRASH_MODE_COMMIT) != 0),
			   around || shape->order_batch != ((w->mode & CRASH_MODE_ORDERING) != 0));
}

bool crash_goes_around(const struct crash_world *w)
{
	return w->goes == PCACHE_MODE_WRITEAROUND || w->goes == PCACHE_MODE_PASSTHROUGH;
}

bool crash_waits(const struct crash_world *w)
{
	return w->goes > PCACHE_MODE_WRITEONLY;
}

/* A write that waits for the backing has returned 0. */
void crash_check_on_backing(struct crash_world *w, const struct pc_gen_op *op)
{
	for (uint32_t i = 0; i < op->range_nr; i++) {
		for (uint32_t blk = op->ranges[i].blk; blk < op->ranges[i].blk + op->ranges[i].len_blk; blk++) {
			const struct pc_seen newest = pc_oracle_newest(w->oracle, blk), *there = &w->disk.durable[blk];

			if (there->kind != newest.kind || (there->kind == PC_SEEN_DATA && there->version != newest.version)) {
				crash_fail(w, "block %u is not on the backing when the write returns in mode %u", blk, w->goes);
				return;
			}
		}
	}
}
