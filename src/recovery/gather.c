/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Keys are cut into records and laid by shard; full batches are applied, by this thread alone or by several.
 *
 * What lies at or above the last mark that is known may turn out not to have been finished. It is gathered as well, since nearly always a mark behind it says that it was; but only
 * what is below a mark is applied. If a batch is full of what is not, gathering stops, and the caller reads that part again when the whole log has been seen.
 *
 * Threads: two batches, one being filled while the other is applied. Whoever is free takes the next shard of it; the filling thread helps before it waits. No two threads
 * have the same shard, and batches follow each other, so each shard sees its records in order.
 */
#include "recovery/gather.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/sched.h"
#include "pcache/errors.h"
#include "recovery/recovery.h"

#define CAP_MIN 16u
#define PREFETCH_RECORDS 4 /* two cache lines */
#define EPOCHS_PER_RECORD 4u /* of one shard */

/* ---- threads ------------------------------------------------------------------------------------------------------------- */

struct helper {
	struct pc_gather *gather;
	struct pc_sorter sorter;
	pthread_t thread;
};

struct pc_gather_pool {
	struct pc_mutex lock; /* PC_RANK_LIFECYCLE */
	struct pc_cond todo; /* a batch was handed over, or the end */
	struct pc_cond done; /* all shards of the batch are applied */
	struct pc_batch *batch; /* being applied; under the lock */
	uint64_t batch_nr; /* how many were handed over; under the lock */
	bool end; /* under the lock */
	uint32_t helper_nr;
	struct helper helpers[PC_GATHER_THREADS_MAX];
};

static bool batch_is_done(const struct pc_gather *gather, struct pc_batch *batch)
{
	return atomic_load_explicit(&batch->done_nr, memory_order_acquire) == gather->shard_nr;
}

static void *helper_main(void *arg)
{
	struct helper *helper = arg;
	struct pc_gather *gather = helper->gather;
	struct pc_gather_pool *pool = gather->pool;
	uint64_t seen_nr = 0;

	pc_mutex_lock(&pool->lock);
	while (!pool->end) {
		struct pc_batch *batch = pool->batch;

		if (pool->batch_nr == seen_nr) {
			pc_cond_wait(&pool->todo, &pool->lock);
			continue;
		}
		seen_nr = pool->batch_nr;
		pc_mutex_unlock(&pool->lock);
		pc_batch_apply(gather, batch, &helper->sorter);
		pc_mutex_lock(&pool->lock);
		if (batch_is_done(gather, batch))
			pc_cond_signal(&pool->done);
	}
	pc_mutex_unlock(&pool->lock);
	return NULL;
}

static void stop_pool(struct pc_gather *gather)
{
	struct pc_gather_pool *pool = gather->pool;

	if (!pool)
		return;
	pc_mutex_lock(&pool->lock);
	pool->end = true;
	pc_cond_broadcast(&pool->todo);
	pc_mutex_unlock(&pool->lock);
	for (uint32_t i = 0; i < pool->helper_nr; i++) {
		pc_thread_join(pool->helpers[i].thread);
		pc_sorter_fini(&pool->helpers[i].sorter);
	}
	pc_cond_fini(&pool->done);
	pc_cond_fini(&pool->todo);
	pc_mutex_fini(&pool->lock);
	free(pool);
	gather->pool = NULL;
}

static int init_pool_locks(struct pc_gather_pool *pool)
{
	int rc = pc_mutex_init(&pool->lock, PC_RANK_LIFECYCLE, 0);

	if (rc)
		return rc;
	rc = pc_cond_init(&pool->todo);
	if (rc)
		goto undo_lock;
	rc = pc_cond_init(&pool->done);
	if (rc)
		goto undo_todo;
	return 0;
undo_todo:
	pc_cond_fini(&pool->todo);
undo_lock:
	pc_mutex_fini(&pool->lock);
	return rc;
}

static bool start_helper(struct pc_gather *gather, struct helper *helper)
{
	helper->gather = gather;
	if (pc_sorter_init(&helper->sorter, gather->cap))
		return false;
	if (pc_thread_start(&helper->thread, helper_main, helper) == 0)
		return true;
	pc_sorter_fini(&helper->sorter);
	return false;
}

static int init_batch(struct pc_gather *gather, struct pc_batch *batch)
{
	batch->recs = malloc((size_t)gather->shard_nr * gather->cap * sizeof(*batch->recs));
	batch->epochs = malloc(gather->epoch_max * sizeof(*batch->epochs));
	atomic_init(&batch->done_nr, gather->shard_nr); /* nothing to wait for */
	return batch->recs && batch->epochs ? 0 : -ENOMEM;
}

/* Best effort: what cannot be started is done without. */
static void start_pool(struct pc_gather *gather)
{
	struct pc_gather_pool *pool = calloc(1, sizeof(*pool));

	if (!pool || init_pool_locks(pool)) {
		free(pool);
		gather->thread_nr = 1;
		return;
	}
	gather->pool = pool;
	if (init_batch(gather, &gather->batches[1]) == 0)
		while (pool->helper_nr + 1 < gather->thread_nr && start_helper(gather, &pool->helpers[pool->helper_nr]))
			pool->helper_nr++;
	if (pool->helper_nr == 0) {
		stop_pool(gather);
		gather->thread_nr = 1;
	}
}

/* One for each processor that this process may use. Threads of their own would make the work of a deterministic caller depend on time. */
static uint32_t threads_for(const struct pcache *cache)
{
	cpu_set_t cpus;

	if (cache->replay_threads)
		return PC_MIN(cache->replay_threads, PC_GATHER_THREADS_MAX);
	if (pc_sched || cache->caller_maintains)
		return 1;
	if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0)
		return 1;
	return PC_MIN((uint32_t)CPU_COUNT(&cpus), PC_GATHER_THREADS_MAX);
}

/* ---- life ---------------------------------------------------------------------------------------------------------------- */

static void fini_batch(struct pc_batch *batch)
{
	free(batch->recs);
	free(batch->epochs);
}

/* Twice what the log gives each shard if it is full of keys of one cell. */
static uint32_t cap_for(uint32_t shard_nr, uint64_t slot_nr)
{
	uint64_t wish = slot_nr * 4 / shard_nr;

	return (uint32_t)PC_MIN(PC_MAX(wish, (uint64_t)CAP_MIN), (uint64_t)PC_GATHER_RECORDS);
}

int pc_gather_init(struct pc_gather *gather, struct pcache *cache, uint64_t slot_nr)
{
	int rc;

	memset(gather, 0, sizeof(*gather));
	gather->cache = cache;
	gather->shard_nr = pc_index_shard_nr(cache->index);
	gather->cap = cache->replay_records ? PC_MIN(cache->replay_records, PC_GATHER_RECORDS)
					    : cap_for(gather->shard_nr, slot_nr);
	gather->epoch_max = gather->cap * EPOCHS_PER_RECORD;
	gather->thread_nr = threads_for(cache);
	gather->resume_pos = UINT64_MAX;
	rc = init_batch(gather, &gather->batches[0]);
	if (!rc)
		rc = pc_sorter_init(&gather->sorter, gather->cap);
	gather->bound_blk = calloc(cache->map.segment_nr, sizeof(*gather->bound_blk));
	if (!rc && !gather->bound_blk)
		rc = -ENOMEM;
	if (rc)
		pc_gather_fini(gather);
	return rc;
}

void pc_gather_fini(struct pc_gather *gather)
{
	stop_pool(gather);
	fini_batch(&gather->batches[0]);
	fini_batch(&gather->batches[1]);
	pc_sorter_fini(&gather->sorter);
	free(gather->bound_blk);
	memset(gather, 0, sizeof(*gather));
}

/* ---- batches ------------------------------------------------------------------------------------------------------------- */

/* Waits until the other batch, if there is one, is applied. Its error. */
static int wait_for_other(struct pc_gather *gather)
{
	struct pc_gather_pool *pool = gather->pool;
	struct pc_batch *batch = &gather->batches[1 - gather->cur];

	if (!pool)
		return 0;
	if (!batch_is_done(gather, batch)) {
		pc_batch_apply(gather, batch, &gather->sorter);
		pc_mutex_lock(&pool->lock);
		while (!batch_is_done(gather, batch))
			pc_cond_wait(&pool->done, &pool->lock);
		pc_mutex_unlock(&pool->lock);
	}
	return atomic_load_explicit(&batch->rc, memory_order_relaxed);
}

static void hand_over(struct pc_gather *gather, struct pc_batch *batch)
{
	struct pc_gather_pool *pool = gather->pool;

	pc_mutex_lock(&pool->lock);
	pool->batch = batch;
	pool->batch_nr++;
	pc_cond_broadcast(&pool->todo);
	pc_mutex_unlock(&pool->lock);
}

/* How many records of a shard lie below pos. */
static uint32_t records_below(const struct pc_extent *recs, uint32_t nr, uint64_t pos)
{
	uint32_t from = 0, to = nr;

	if (nr == 0 || recs[nr - 1].pos < pos)
		return nr;
	while (from < to) {
		uint32_t mid = from + (to - from) / 2;

		if (recs[mid].pos < pos)
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

/* Flush marks from the last one before pos on. */
static void keep_epochs(struct pc_batch *to, const struct pc_batch *from, uint64_t pos)
{
	uint32_t first = from->epoch_nr;

	while (first > 0 && from->epochs[first - 1] >= pos)
		first--;
	first -= first > 0;
	memmove(to->epochs, from->epochs + first, (from->epoch_nr - first) * sizeof(*to->epochs));
	to->epoch_nr = from->epoch_nr - first;
}

/* The records of batch from from_nr[shard] on become all that to has; both may be the same. */
static void move_rest(const struct pc_gather *gather, struct pc_batch *to, const struct pc_batch *batch,
		      const uint32_t *from_nr, const uint32_t *rest_nr)
{
	for (uint32_t i = 0; i < gather->shard_nr; i++) {
		size_t at = (size_t)i * gather->cap;

		memmove(to->recs + at, batch->recs + at + from_nr[i], rest_nr[i] * sizeof(*to->recs));
		to->nr[i] = rest_nr[i];
	}
}

/* The first position that is gathered and not applied, UINT64_MAX if there is none. */
static uint64_t first_pos(const struct pc_gather *gather, const struct pc_batch *batch)
{
	uint64_t pos = UINT64_MAX;

	for (uint32_t i = 0; i < gather->shard_nr; i++)
		if (batch->nr[i])
			pos = PC_MIN(pos, batch->recs[(size_t)i * gather->cap].pos);
	return pos;
}

/* What lies below sure_pos is applied, or handed to those who do it; the rest stays. Makes no room if nothing lies below. */
static int flush_batch(struct pc_gather *gather, uint64_t sure_pos)
{
	struct pc_batch *batch = &gather->batches[gather->cur], *next = &gather->batches[1 - gather->cur];
	uint32_t below_nr[PC_SHARD_NR_MAX], rest_nr[PC_SHARD_NR_MAX], sum = 0;
	int rc = wait_for_other(gather);

	for (uint32_t i = 0; i < gather->shard_nr; i++) {
		below_nr[i] = records_below(batch->recs + (size_t)i * gather->cap, batch->nr[i], sure_pos);
		rest_nr[i] = batch->nr[i] - below_nr[i];
		sum += below_nr[i];
	}
	if (rc || sum == 0)
		return rc;
	if (gather->pool) {
		move_rest(gather, next, batch, below_nr, rest_nr);
		keep_epochs(next, batch, first_pos(gather, next));
	}
	memcpy(batch->nr, below_nr, gather->shard_nr * sizeof(below_nr[0]));
	atomic_store_explicit(&batch->done_nr, 0, memory_order_relaxed);
	/* Order of memory: a thread that is still on its way out of this batch's last round may take up a shard here. */
	atomic_store_explicit(&batch->next_shard, 0, memory_order_release);
	if (gather->pool) {
		gather->cur = 1 - gather->cur;
		hand_over(gather, batch);
		return 0;
	}
	pc_batch_apply(gather, batch, &gather->sorter);
	move_rest(gather, batch, batch, below_nr, rest_nr);
	keep_epochs(batch, batch, first_pos(gather, batch));
	return atomic_load_explicit(&batch->rc, memory_order_relaxed);
}

/* Makes room, if there is something to apply. */
static int make_room(struct pc_gather *gather, uint64_t sure_pos)
{
	uint64_t begin_ns = pc_monotonic_ns();
	int rc;

	if (gather->thread_nr > 1 && !gather->pool)
		start_pool(gather);
	rc = flush_batch(gather, sure_pos);
	gather->apply_ns += pc_monotonic_ns() - begin_ns;
	return rc;
}

int pc_gather_finish(struct pc_gather *gather, uint64_t sure_pos)
{
	uint64_t begin_ns = pc_monotonic_ns();
	int rc = flush_batch(gather, sure_pos);
	struct pc_batch *batch = &gather->batches[gather->cur];

	gather->resume_pos = first_pos(gather, batch);
	memset(batch->nr, 0, sizeof(batch->nr));
	keep_epochs(batch, batch, gather->resume_pos);
	if (gather->resume_pos != UINT64_MAX)
		batch->epoch_nr = PC_MIN(batch->epoch_nr, 1u);
	if (!rc)
		rc = wait_for_other(gather);
	gather->apply_ns += pc_monotonic_ns() - begin_ns;
	return rc;
}

int pc_gather_stop(struct pc_gather *gather, uint64_t pos, uint64_t sure_pos)
{
	struct pc_batch *batch = &gather->batches[gather->cur];
	int rc = pc_gather_finish(gather, sure_pos);

	if (rc)
		return rc;
	batch = &gather->batches[gather->cur];
	gather->resume_pos = PC_MIN(gather->resume_pos, pos);
	keep_epochs(batch, batch, gather->resume_pos);
	batch->epoch_nr = PC_MIN(batch->epoch_nr, 1u);
	return PC_GATHER_STOPPED;
}

/* ---- keys ---------------------------------------------------------------------------------------------------------------- */

int pc_gather_mark(struct pc_gather *gather, uint64_t pos, uint64_t sure_pos)
{
	struct pc_batch *batch = &gather->batches[gather->cur];

	if (batch->epoch_nr == gather->epoch_max) {
		int rc = make_room(gather, sure_pos);

		if (rc)
			return rc;
		batch = &gather->batches[gather->cur];
		if (batch->epoch_nr == gather->epoch_max)
			return pc_gather_stop(gather, pos, sure_pos);
	}
	/* Of marks with no key between them the last one counts. */
	batch->epoch_nr -= gather->epoch_is_bare && batch->epoch_nr > 0;
	batch->epochs[batch->epoch_nr++] = pos;
	gather->epoch_is_bare = true;
	return 0;
}

/* Room for one more record of the shard of vol_blk at pos. *out_nr: counts it, once it is filled in. As pc_gather_key. */
static int next_record(struct pc_gather *gather, uint64_t vol_blk, uint64_t pos, uint64_t sure_pos,
		       struct pc_extent **out_rec, uint32_t **out_nr)
{
	uint32_t shard_idx = pc_index_shard_idx(gather->cache->index, vol_blk);
	struct pc_batch *batch = &gather->batches[gather->cur];

	if (batch->nr[shard_idx] == gather->cap) {
		int rc = make_room(gather, sure_pos);

		if (rc)
			return rc;
		batch = &gather->batches[gather->cur];
		if (batch->nr[shard_idx] == gather->cap)
			return pc_gather_stop(gather, pos, sure_pos);
	}
	gather->epoch_is_bare = false;
	*out_nr = &batch->nr[shard_idx];
	*out_rec = &batch->recs[(size_t)shard_idx * gather->cap + **out_nr];
	/* There are too many shards for the processor to see where each will go on. */
	__builtin_prefetch(*out_rec + PREFETCH_RECORDS, 1);
	return 0;
}

/* One record for each stripe of a range. */
static int put_range(struct pc_gather *gather, const struct pc_extent *range, uint64_t sure_pos)
{
	uint64_t vol_blk = range->vol_blk, end_blk = range->vol_blk + range->len_blk, stripe_end;
	int rc = 0;

	for (; vol_blk < end_blk && !rc; vol_blk = stripe_end) {
		struct pc_extent *rec;
		uint32_t *nr;

		stripe_end = PC_MIN(pc_index_stripe_end(gather->cache->index, vol_blk), end_blk);
		rc = next_record(gather, vol_blk, range->pos, sure_pos, &rec, &nr);
		if (rc)
			break;
		*rec = pc_extent_part(range, vol_blk, (uint32_t)(stripe_end - vol_blk));
		++*nr;
	}
	return rc;
}

/*
 * Most keys are one chunk in one stripe, and millions of them are read: their record, which says what the key says, is made where it will lie. To copy a struct that was just filled in member by member
 * would make the processor wait for the members, longer than all the rest of it takes.
 */
static int put_small(struct pc_gather *gather, const struct pc_key *key, const struct pcm_le32 *crcs, uint64_t pos,
		     uint8_t ext_flags, uint64_t sure_pos)
{
	struct pc_extent *rec;
	uint32_t *nr;
	int rc = next_record(gather, key->vol_blk, pos, sure_pos, &rec, &nr);

	if (rc)
		return rc;
	rec->vol_blk = key->vol_blk;
	rec->pos = pos;
	rec->len_blk = key->len_blk;
	rec->seg_id = key->seg_id;
	rec->crc = crcs ? pc_get32(crcs[0]) : 0;
	rec->seg_blk = key->seg_blk;
	rec->geom = key->geom;
	rec->flags = PC_EXT_DATA | ext_flags;
	++*nr;
	return 0;
}

static bool is_small(const struct pc_gather *gather, const struct pc_key *key)
{
	uint32_t all_blk = PC_GEOM_HEAD(key->geom) + key->len_blk + PC_GEOM_TAIL(key->geom);

	return all_blk <= gather->cache->chunk_blk &&
	       key->vol_blk + key->len_blk <= pc_index_stripe_end(gather->cache->index, key->vol_blk);
}

static int put_key(struct pc_gather *gather, const struct pc_key *key, const struct pcm_le32 *crcs, uint64_t pos,
		   uint8_t ext_flags, bool stale, uint64_t sure_pos)
{
	struct pc_extent extent;
	int rc = 0;

	if (!stale && (key->flags & PC_KEY_TYPE_MASK) == PC_KEY_DATA) {
		if (is_small(gather, key))
			return put_small(gather, key, crcs, pos, ext_flags, sure_pos);
		for (uint32_t i = 0; !rc && pc_apply_chunk(gather->cache, key, crcs, pos, i, &extent); i++) {
			extent.flags |= ext_flags;
			rc = put_range(gather, &extent, sure_pos);
		}
		return rc;
	}
	if (stale || !pc_apply_bare(key, pos, ext_flags, &extent))
		extent = (struct pc_extent){
			.vol_blk = key->vol_blk,
			.pos = pos,
			.len_blk = key->len_blk,
			.flags = PC_EXT_ZERO | PC_REC_ERASE,
		};
	return put_range(gather, &extent, sure_pos);
}

static uint32_t live_blk(const struct pc_gather *gather, uint32_t seg_id)
{
	return pc_segmap_live_blk(&gather->cache->map, seg_id);
}

/*
 * No two blocks of the backing share a block of data, so the blocks that are seen of a segment are at most those that it has. That also bounds the index by the size of the
 * media, whatever a made-up log says. As long as all that was ever gathered of a segment is not more, nothing needs to be looked at; else what is gathered is applied, and
 * the key by itself.
 */
static int put_counted(struct pc_gather *gather, const struct pc_key *key, const struct pcm_le32 *crcs, uint64_t pos,
		       uint8_t ext_flags, uint64_t sure_pos)
{
	uint32_t segment_blk = gather->cache->map.segment_blk, *bound_blk = &gather->bound_blk[key->seg_id];
	int rc;

	if (key->len_blk > segment_blk - PC_MIN(*bound_blk, segment_blk)) {
		if (pos >= sure_pos)
			return pc_gather_stop(gather, pos, sure_pos);
		rc = pc_gather_finish(gather, sure_pos);
		if (!rc)
			rc = put_key(gather, key, crcs, pos, ext_flags, false, sure_pos);
		if (!rc)
			rc = pc_gather_finish(gather, sure_pos);
		*bound_blk = live_blk(gather, key->seg_id);
		return rc                         ? rc
		       : *bound_blk > segment_blk ? pc_recovery_corrupt(gather->cache, "keys share data", pos)
						  : 0;
	}
	*bound_blk += key->len_blk;
	return put_key(gather, key, crcs, pos, ext_flags, false, sure_pos);
}

int pc_gather_key(struct pc_gather *gather, const struct pc_key *key, const struct pcm_le32 *crcs, uint64_t pos,
		  uint8_t ext_flags, bool stale, uint64_t sure_pos)
{
	if (!stale && (key->flags & PC_KEY_TYPE_MASK) == PC_KEY_DATA)
		return put_counted(gather, key, crcs, pos, ext_flags, sure_pos);
	return put_key(gather, key, crcs, pos, ext_flags, stale, sure_pos);
}
