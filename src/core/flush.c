/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Flush: a mark in the log that ends an epoch, and at page granularity the sync of everything before it.
 *
 * At cache-line granularity every completed write is durable already, so a flush costs one slot and one fence. It still matters: write-back with ordering strict does
 * not pass the mark before all older writes are on the backing. What can be done without a locked instruction comes first, in the shadow of the stores of the write before, for the
 * first locked instruction waits until these have drained: the lowest position in flight, and the mark itself, for the position that it will most likely get.
 *
 * At page granularity flushes go in rounds. A round is a mark and a sync, made by one of those who wait for it. A flush is done when a round is that began after it: so any
 * number of threads that flush at the same time share the next sync.
 *
 * The flusher announces itself (epoch_pos = UINT64_MAX) before it reserves its position. A writer that gets a position beyond the mark reads epoch_pos after
 * its own reservation, so it sees the announcement or the mark, and holds the older version that it overwrites.
 */
#include <errno.h>
#include <string.h>

#include "base/plant.h"
#include "base/probe.h"
#include "base/sched.h"
#include "core/cache.h"
#include "pcache/errors.h"

int pc_flush_init(struct pcache *cache)
{
	int rc = pc_spin_init(&cache->flush_lock, PC_RANK_FLUSH, 0);

	if (rc)
		return rc;
	rc = pc_mutex_init(&cache->rounds.lock, PC_RANK_FLUSH, 1);
	if (rc)
		goto undo_spin;
	rc = pc_cond_init(&cache->rounds.cond);
	if (rc)
		goto undo_mutex;
	return 0;
undo_mutex:
	pc_mutex_fini(&cache->rounds.lock);
undo_spin:
	pc_spin_fini(&cache->flush_lock);
	return rc;
}

void pc_flush_fini(struct pcache *cache)
{
	pc_cond_fini(&cache->rounds.cond);
	pc_mutex_fini(&cache->rounds.lock);
	pc_spin_fini(&cache->flush_lock);
}

/* A mark as it will be stored, if it gets the position. */
struct mark {
	_Alignas(64) uint8_t slot[PC_SLOT_BYTES];
	uint64_t pos;
	uint64_t low_pos;
	uint16_t flags;
};

static void encode_mark(struct pcache *cache, struct mark *mark, uint64_t pos)
{
	mark->pos = pos;
	pc_kset_encode_mark(mark->slot, pos, pc_log_seg(&cache->log, pos)->nonce, mark->flags,
			    PC_MIN(mark->low_pos, pos));
}

/* Everything below is durable; may be too high for a mark (a planted defect), which says at most its own position. */
static uint64_t durable_below(struct pcache *cache)
{
	uint64_t low = pc_log_low(&cache->log, PC_INFLIGHT_FLUSH);

	if (PC_PLANTED(PC_PLANT_MARK_TOO_HIGH))
		return UINT64_MAX;
	if (PC_PLANTED(PC_PLANT_MARK_SKIPS_SHARD) && low == atomic_load(&cache->log.inflight[0].low_pos))
		return UINT64_MAX;
	if (cache->media->granularity == PC_GRAN_PAGE)
		low = PC_MIN(low, atomic_load_explicit(&cache->log.synced_pos, memory_order_acquire));
	return low;
}

/* The part of a mark that needs no lock. The lower bound may be older than the position: too low verifies more after a crash than need be. */
static void prepare_mark(struct pcache *cache, struct mark *mark, uint16_t flags, uint64_t head)
{
	mark->flags = flags;
	mark->low_pos = durable_below(cache);
	mark->pos = UINT64_MAX;
	/* Beyond the capacity there is no segment yet. */
	if (head < atomic_load_explicit(&cache->log.cap_end, memory_order_acquire))
		encode_mark(cache, mark, head);
}

/* Reserves the position of a mark and stores it: what it says of positions is durable on return. 0, PCACHE_E_FULL, PCACHE_E_FAILSTOP. */
static int place_mark(struct pcache *cache, struct mark *mark, enum pc_log_user user, uint64_t *out_pos)
{
	struct pc_log *log = &cache->log;
	int rc = pc_log_reserve(log, PC_INFLIGHT_FLUSH, 1, user, out_pos);

	if (rc)
		return rc;
	PC_YIELD(FLUSH_RESERVED);
	if (mark->pos != *out_pos)
		encode_mark(cache, mark, *out_pos);
	pc_log_store(log, *out_pos, mark->slot, 1);
	/* Order: the mark before what it allows (the return of the flush, less verification after a crash). */
	pc_media_fence(cache->media);
	PC_YIELD(FLUSH_MARKED);
	return 0;
}

/*
 * Page granularity: fills the rest of the page behind the mark, so that the next group is not stored to the page of the mark. Returns the end of what belongs to this flush: a writer may
 * have been faster, and then the slots behind the mark are his. The whole rest is stored, though only its first slot counts: a page that is stored in full need not be read before.
 */
static uint64_t pad_page(struct pcache *cache, uint64_t mark_pos)
{
	uint32_t page_slots = PC_PAGE_BYTES / PC_SLOT_BYTES;
	uint32_t rest = (uint32_t)(PC_ROUND_UP(mark_pos + 1, page_slots) - (mark_pos + 1));
	_Alignas(64) uint8_t slots[PC_PAGE_BYTES];
	uint64_t pos;

	if (rest == 0 || atomic_load_explicit(&cache->log.head, memory_order_acquire) != mark_pos + 1)
		return mark_pos + 1;
	if (pc_log_reserve(&cache->log, PC_INFLIGHT_FLUSH, rest, PC_LOG_FLUSH, &pos))
		return mark_pos + 1;
	memset(slots, 0, (size_t)rest * PC_SLOT_BYTES);
	pc_kset_encode_void(slots, pos, pc_log_seg(&cache->log, pos)->nonce, rest);
	pc_log_store(&cache->log, pos, slots, rest);
	pc_log_done(&cache->log, PC_INFLIGHT_FLUSH);
	return pos == mark_pos + 1 ? pos + rest : mark_pos + 1;
}

static int sync_all(struct pcache *cache)
{
	bool synced;
	int rc;

	/* Data placed from now on starts on a fresh page. */
	atomic_fetch_add_explicit(&cache->heads.sync_nr, 1, memory_order_acq_rel);
	PC_YIELD(FLUSH_SYNCING);
	/* Order: everything stored before this call is durable before it returns. */
	rc = pc_log_sync_upto(&cache->log, atomic_load_explicit(&cache->log.head, memory_order_acquire), &synced);
	PC_PROBE1(sync, rc);
	return rc ? pc_core_failstop(cache, rc) : 0;
}

/* Ends the epoch at a mark. 0: *out_pos. */
static int end_epoch(struct pcache *cache, struct mark *mark, uint64_t *out_pos)
{
	struct pc_log *log = &cache->log;
	uint64_t before = atomic_load_explicit(&log->epoch_pos, memory_order_relaxed);
	int rc;

	/* Order of memory: released by the compare-and-swap of the reservation, which every writer with a position beyond the mark has read from. */
	atomic_store_explicit(&log->epoch_pos, UINT64_MAX, memory_order_relaxed);
	PC_YIELD(FLUSH_ANNOUNCED);
	rc = place_mark(cache, mark, PC_LOG_FLUSH, out_pos);
	atomic_store_explicit(&log->epoch_pos, rc ? before : *out_pos, memory_order_release);
	if (!rc)
		pc_log_done(log, PC_INFLIGHT_FLUSH);
	return rc;
}

static void count_flush_locked(struct pcache *cache)
{
	_Atomic uint64_t *nr = &cache->stats.flush_ops;

	atomic_store_explicit(nr, atomic_load_explicit(nr, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* ---- cache line, byte --------------------------------------------------------------------------------------------------- */

/* first: the first try of this flush, which is counted. */
static int flush_line(struct pcache *cache, bool first)
{
	/* Sequentially consistent: where there is nothing to mark, it stands for the mark in the race of a drain with a writer. */
	uint64_t head = atomic_load_explicit(&cache->log.head, memory_order_seq_cst), pos;
	struct mark mark;
	int rc = 0;

	prepare_mark(cache, &mark, PC_KSET_FLAG_FLUSH, head);
	pc_spin_lock(&cache->flush_lock);
	if (first)
		count_flush_locked(cache);
	/* All that has completed before this flush lies below a mark already. */
	if (cache->flushed_head < head) {
		rc = end_epoch(cache, &mark, &pos);
		if (!rc)
			cache->flushed_head = pos + 1;
	}
	pc_spin_unlock(&cache->flush_lock);
	return rc;
}

void pc_core_mark(struct pcache *cache)
{
	struct mark mark;
	uint64_t pos;

	if (cache->media->granularity == PC_GRAN_PAGE || atomic_load_explicit(&cache->failstop, memory_order_relaxed))
		return;
	prepare_mark(cache, &mark, 0, atomic_load_explicit(&cache->log.head, memory_order_acquire));
	pc_spin_lock(&cache->flush_lock);
	if (place_mark(cache, &mark, PC_LOG_WRITER, &pos) == 0)
		pc_log_done(&cache->log, PC_INFLIGHT_FLUSH);
	pc_spin_unlock(&cache->flush_lock);
}

/* ---- page --------------------------------------------------------------------------------------------------------------- */

/* One round. Rounds do not overlap. */
static int run_round(struct pcache *cache)
{
	struct pc_log *log = &cache->log;
	uint64_t head = atomic_load_explicit(&log->head, memory_order_seq_cst), pos, end;
	struct mark mark;
	int rc;

	if (head == cache->flushed_head && atomic_load_explicit(&log->synced_pos, memory_order_acquire) >= head)
		return 0;
	prepare_mark(cache, &mark, PC_KSET_FLAG_FLUSH, head);
	rc = end_epoch(cache, &mark, &pos);
	if (rc)
		return rc;
	end = pad_page(cache, pos);
	rc = sync_all(cache);
	PC_YIELD(FLUSH_SYNCED);
	if (!rc)
		cache->flushed_head = end;
	return rc;
}

/* Waits for a round that began after the call, or makes it. */
static int flush_page(struct pcache *cache, bool first)
{
	struct pc_flush_rounds *rounds = &cache->rounds;
	uint64_t want_nr, own_nr;
	int rc = 0;

	pc_mutex_lock(&rounds->lock);
	if (first)
		count_flush_locked(cache);
	want_nr = rounds->begun_nr + 1;
	if (PC_PLANTED(PC_PLANT_ROUND_BEFORE) && rounds->running)
		want_nr--;
	while (!rc && rounds->done_nr < want_nr) {
		if (rounds->running) {
			pc_cond_wait(&rounds->cond, &rounds->lock);
			continue;
		}
		if (atomic_load_explicit(&cache->failstop, memory_order_acquire)) {
			rc = PCACHE_E_FAILSTOP; /* no store any more */
			break;
		}
		rounds->running = true;
		own_nr = ++rounds->begun_nr;
		pc_mutex_unlock(&rounds->lock);
		rc = run_round(cache);
		pc_mutex_lock(&rounds->lock);
		rounds->running = false;
		if (!rc)
			rounds->done_nr = own_nr;
		pc_cond_broadcast(&rounds->cond);
	}
	pc_mutex_unlock(&rounds->lock);
	return rc;
}

int pc_core_flush(struct pcache *cache)
{
	struct pc_space_ticket ticket = { 0 };
	bool page = cache->media->granularity == PC_GRAN_PAGE;
	int rc;

	if (cache->read_only)
		return PCACHE_E_READ_ONLY;
	for (bool first = true;; first = false) {
		if (atomic_load_explicit(&cache->failstop, memory_order_acquire)) {
			rc = PCACHE_E_FAILSTOP;
			break;
		}
		rc = page ? flush_page(cache, first) : flush_line(cache, first);
		if (rc != PCACHE_E_FULL)
			break;
		/* Even the slots kept for flushes are used: cleaning makes room, whatever the full policy says. */
		rc = pc_log_extend(&cache->log, true);
		if (rc && rc != PCACHE_E_FULL)
			rc = pc_core_failstop(cache, rc);
		else if (rc)
			rc = pc_space_wait(cache, &ticket, 0, true, PC_SPACE_MUST);
		if (rc)
			break;
	}
	pc_space_leave(cache, &ticket);
	PC_PROBE1(flush, rc);
	return rc;
}

void pc_core_drain_begin(struct pcache *cache)
{
	if (PC_PLANTED(PC_PLANT_DRAIN_FORGETS))
		return;
	/* Order of memory: before the mark, so that who reserves a position behind the mark sees it, as with epoch_pos. */
	if (atomic_fetch_add_explicit(&cache->drain_nr, 1, memory_order_seq_cst) == 0)
		atomic_store_explicit(&cache->drain_pos, 0, memory_order_release);
}

void pc_core_drain_mark(struct pcache *cache, uint64_t pos)
{
	uint64_t old = atomic_load_explicit(&cache->drain_pos, memory_order_relaxed);

	/* The lowest of all: too low writes more than need be. */
	while ((old == 0 || old > pos) &&
	       !atomic_compare_exchange_weak_explicit(&cache->drain_pos, &old, pos, memory_order_release,
						      memory_order_relaxed))
		;
}

void pc_core_drain_end(struct pcache *cache)
{
	if (!PC_PLANTED(PC_PLANT_DRAIN_FORGETS))
		atomic_fetch_sub_explicit(&cache->drain_nr, 1, memory_order_release);
}

int pc_core_sync(struct pcache *cache)
{
	if (cache->media->granularity != PC_GRAN_PAGE)
		return 0;
	return sync_all(cache);
}

int pc_core_failstop(struct pcache *cache, int error)
{
	int none = 0;

	if (error == PCACHE_E_FAILSTOP)
		return error; /* somebody else was first */
	atomic_compare_exchange_strong(&cache->failstop, &none, error);
	atomic_store_explicit(&cache->log.stopped, true, memory_order_release);
	PC_PROBE1(failstop, error);
	pc_space_progress(cache); /* waiters see it */
	return error;
}

void pc_core_tell_failstop(struct pcache *cache)
{
	int why = atomic_load_explicit(&cache->failstop, memory_order_relaxed);

	if (!why || atomic_exchange(&cache->failstop_told, true))
		return;
	pc_msg(&cache->msg, PCACHE_LOG_ERROR, "no store to the cache any more: it met the error %d; reads are served",
	       why);
	pc_event(&cache->msg, (struct pcache_event){ .kind = PCACHE_EVENT_FAILSTOP, .err = why });
}
