/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Flush: a mark in the log that ends an epoch, and at page granularity the sync of everything before it.
 *
 * At cache-line granularity every completed write is durable already, so a flush costs one slot and one fence. It still matters: write-back with ordering strict does
 * not pass the mark before all older writes are on the backing.
 *
 * The flusher announces itself (epoch_pos = UINT64_MAX) before it reserves its position. A writer that gets a position beyond the mark reads epoch_pos after
 * its own reservation, so it sees the announcement or the mark, and holds the older version that it overwrites.
 */
#include <errno.h>

#include "base/plant.h"
#include "base/sched.h"
#include "core/cache.h"
#include "pcache/errors.h"

/* Stores a mark at pos: everything below low_pos is durable now. */
static void store_mark(struct pcache *cache, uint64_t pos, uint16_t flags, uint64_t low_pos)
{
	_Alignas(64) uint8_t slot[PC_SLOT_BYTES];

	pc_kset_encode_mark(slot, pos, pc_log_seg(&cache->log, pos)->nonce, flags, low_pos);
	pc_log_store(&cache->log, pos, slot, 1);
	/* Order: the mark before what it allows (the return of the flush, less verification after a crash). */
	pc_media_fence(cache->media);
}

static uint64_t durable_below(struct pcache *cache, uint64_t pos)
{
	uint64_t low = pc_log_low(&cache->log, PC_INFLIGHT_FLUSH);

	if (PC_PLANTED(PC_PLANT_MARK_TOO_HIGH))
		return pos;
	if (PC_PLANTED(PC_PLANT_MARK_SKIPS_SHARD) && low == atomic_load(&cache->log.inflight[0].low_pos))
		return pos;
	if (cache->media->granularity == PC_GRAN_PAGE)
		low = PC_MIN(low, atomic_load_explicit(&cache->log.synced_pos, memory_order_acquire));
	return PC_MIN(low, pos);
}

/*
 * Page granularity: fills the rest of the page behind the mark, so that the next group is not stored to the page of the mark. Returns the end of what belongs to this flush: a writer may
 * have been faster, and then the slots behind the mark are his.
 */
static uint64_t pad_page(struct pcache *cache, uint64_t mark_pos)
{
	uint32_t page_slots = PC_PAGE_BYTES / PC_SLOT_BYTES;
	uint32_t rest = (uint32_t)(PC_ROUND_UP(mark_pos + 1, page_slots) - (mark_pos + 1));
	_Alignas(64) uint8_t slot[PC_SLOT_BYTES];
	uint64_t pos;

	if (rest == 0 || atomic_load_explicit(&cache->log.head, memory_order_acquire) != mark_pos + 1)
		return mark_pos + 1;
	if (pc_log_reserve(&cache->log, PC_INFLIGHT_FLUSH, rest, PC_LOG_FLUSH, &pos))
		return mark_pos + 1;
	pc_kset_encode_void(slot, pos, pc_log_seg(&cache->log, pos)->nonce, rest);
	pc_log_store(&cache->log, pos, slot, 1);
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
	return rc ? pc_core_failstop(cache, rc) : 0;
}

static int flush_locked(struct pcache *cache)
{
	struct pc_log *log = &cache->log;
	bool page = cache->media->granularity == PC_GRAN_PAGE;
	/* Sequentially consistent: where there is nothing to mark, it stands for the mark in the race of a drain with a writer. */
	uint64_t head = atomic_load_explicit(&log->head, memory_order_seq_cst), before, pos, end;
	int rc;

	if (head == cache->flushed_head &&
	    (!page || atomic_load_explicit(&log->synced_pos, memory_order_acquire) >= head))
		return 0;
	before = atomic_load_explicit(&log->epoch_pos, memory_order_relaxed);
	atomic_store_explicit(&log->epoch_pos, UINT64_MAX, memory_order_seq_cst);
	PC_YIELD(FLUSH_ANNOUNCED);
	rc = pc_log_reserve(log, PC_INFLIGHT_FLUSH, 1, PC_LOG_FLUSH, &pos);
	if (rc) {
		atomic_store_explicit(&log->epoch_pos, before, memory_order_release);
		return rc;
	}
	PC_YIELD(FLUSH_RESERVED);
	store_mark(cache, pos, PC_KSET_FLAG_FLUSH, durable_below(cache, pos));
	PC_YIELD(FLUSH_MARKED);
	atomic_store_explicit(&log->epoch_pos, pos, memory_order_release);
	pc_log_done(log, PC_INFLIGHT_FLUSH);
	end = pos + 1;
	if (page) {
		end = pad_page(cache, pos);
		rc = sync_all(cache);
	}
	if (!rc)
		cache->flushed_head = end;
	return rc;
}

int pc_core_flush(struct pcache *cache)
{
	struct pc_space_ticket ticket = { 0 };
	int rc;

	if (cache->read_only)
		return PCACHE_E_READ_ONLY;
	atomic_fetch_add_explicit(&cache->stats.flush_ops, 1, memory_order_relaxed);
	for (;;) {
		if (atomic_load_explicit(&cache->failstop, memory_order_acquire)) {
			rc = PCACHE_E_FAILSTOP;
			break;
		}
		pc_mutex_lock(&cache->flush_lock);
		rc = flush_locked(cache);
		pc_mutex_unlock(&cache->flush_lock);
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
	return rc;
}

void pc_core_mark(struct pcache *cache)
{
	uint64_t pos;

	if (cache->media->granularity == PC_GRAN_PAGE || atomic_load_explicit(&cache->failstop, memory_order_relaxed))
		return;
	pc_mutex_lock(&cache->flush_lock);
	if (pc_log_reserve(&cache->log, PC_INFLIGHT_FLUSH, 1, PC_LOG_WRITER, &pos) == 0) {
		store_mark(cache, pos, 0, durable_below(cache, pos));
		pc_log_done(&cache->log, PC_INFLIGHT_FLUSH);
	}
	pc_mutex_unlock(&cache->flush_lock);
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
	pc_space_progress(cache); /* waiters see it */
	return error;
}
