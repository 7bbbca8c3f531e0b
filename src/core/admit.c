/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Admission: writers are slowed down before the cache is full, so that none of them is stopped for long.
 *
 *     room (free segments, and those that eviction could empty without write-back; likewise positions of the log)
 *       soft ........................ hard ........ 0
 *       as fast as you like  |  for each block written back  1/2 / (1 - share of the zone that is left)  |  space.c
 *                            |  blocks are admitted: many, one, half of one                                 |
 *
 * So room settles where just as much is admitted as comes free, whatever overwrites add to that, and comes back in the pace of single requests to the backing instead of whole segments.
 * A writer waits for what it needs, behind those who came before, and at most PC_ADMIT_WAIT_NS: after that it goes on without, for this is politeness, and what keeps the cache from
 * overflowing is the allocation. Nobody waits while there is nothing to write back, or the backing fails.
 */
#include "core/cache.h"

#define CREDIT_MAX_BYTES (INT64_C(4) << 20) /* of admission that nobody has used yet */
#define HAND_OUT_NS UINT64_C(300000) /* waiters are woken for what has come in this time */
#define DIRTY_SLOTS_MIN 16u /* less than this frees nothing */

void pc_admit_init(struct pcache *cache)
{
	cache->admit.last = &cache->admit.first;
	cache->admit.hard_segs = cache->map.log_reserve_segs + 1;
	pc_admit_target(cache);
}

void pc_admit_target(struct pcache *cache)
{
	uint32_t nr = cache->map.segment_nr, hard = cache->admit.hard_segs;
	uint32_t target = (uint32_t)((uint64_t)nr * (100 - cache->gc_percent) / 100);

	/* Not above the threshold at which write-back begins. */
	if (!cache->caller_maintains)
		atomic_store_explicit(&cache->admit.soft_segs,
				      PC_MIN(hard + PC_MAX(2u, nr / 8), PC_MAX(target, hard + 1)),
				      memory_order_relaxed);
}

/* Positions that writers can get before log segments have to be freed that write-back has not passed yet. */
static uint64_t log_room_slots(struct pcache *cache)
{
	struct pc_log *log = &cache->log;
	uint64_t head = atomic_load_explicit(&log->head, memory_order_relaxed);
	uint64_t end = atomic_load_explicit(&log->settled_pos, memory_order_acquire) +
		       (uint64_t)(log->max_segs - 1) * log->slots_per_seg;

	return end > head ? end - head : 0;
}

/* How much of a zone is left: 0 to 1024. 1024 also above it. */
static uint32_t share_left(uint64_t room, uint64_t hard, uint64_t soft)
{
	if (room >= soft)
		return 1024;
	return room <= hard ? 0 : (uint32_t)(((room - hard) << 10) / (soft - hard));
}

static uint32_t room_left(struct pcache *cache)
{
	struct pc_admit *admit = &cache->admit;
	uint64_t segs = pc_segmap_free_nr(&cache->map) +
			(uint64_t)atomic_load_explicit(&admit->clean_segs, memory_order_relaxed);
	uint64_t slots = cache->log.slots_per_seg;
	uint32_t data = share_left(segs, admit->hard_segs, admit->soft_segs);
	uint32_t log = share_left(log_room_slots(cache), slots, slots + (cache->log.max_segs - 2) * slots / 4);

	return PC_MIN(data, log);
}

static bool has_dirty(struct pcache *cache)
{
	return atomic_load_explicit(&cache->log.settled_pos, memory_order_acquire) + DIRTY_SLOTS_MIN <=
	       atomic_load_explicit(&cache->log.head, memory_order_acquire);
}

static void admit_first_locked(struct pc_admit *admit)
{
	struct pc_admit_waiter *waiter = admit->first;

	admit->first = waiter->next;
	if (!admit->first)
		admit->last = &admit->first;
	waiter->admitted = true;
	atomic_fetch_sub_explicit(&admit->waiter_nr, 1, memory_order_seq_cst);
	pc_cond_signal(&waiter->cond);
}

/* True: there was credit. The last one may take more than there is. */
static bool take_credit(struct pc_admit *admit, uint64_t bytes)
{
	if (atomic_fetch_sub_explicit(&admit->credit_bytes, (int64_t)bytes, memory_order_seq_cst) > 0)
		return true;
	atomic_fetch_add_explicit(&admit->credit_bytes, (int64_t)bytes, memory_order_seq_cst);
	return false;
}

static void hand_out_locked(struct pc_admit *admit)
{
	while (admit->first && take_credit(admit, admit->first->bytes))
		admit_first_locked(admit);
}

static void set_slow(struct pcache *cache, bool slow)
{
	struct pc_admit *admit = &cache->admit;

	pc_mutex_lock(&cache->space.lock);
	if (!slow) {
		while (admit->first)
			admit_first_locked(admit);
		atomic_store_explicit(&admit->credit_bytes, 0, memory_order_seq_cst);
	}
	atomic_store_explicit(&admit->slow, slow, memory_order_relaxed);
	if (slow)
		atomic_fetch_or_explicit(&admit->gate, PC_GATE_SLOW, memory_order_relaxed);
	else
		atomic_fetch_and_explicit(&admit->gate, (uint8_t)~PC_GATE_SLOW, memory_order_relaxed);
	pc_mutex_unlock(&cache->space.lock);
}

void pc_admit_look(struct pcache *cache)
{
	struct pc_admit *admit = &cache->admit;
	bool slow, was_slow = atomic_load_explicit(&admit->slow, memory_order_relaxed);

	if (!admit->soft_segs)
		return;
	slow = room_left(cache) < 1024 && has_dirty(cache) &&
	       !atomic_load_explicit(&cache->degraded, memory_order_relaxed) &&
	       !atomic_load_explicit(&cache->failstop, memory_order_relaxed);
	if (slow == was_slow)
		return;
	set_slow(cache, slow);
	/* Who is slowed down relies on write-back. */
	if (slow)
		pc_signal_work(cache, PC_WORK_SPACE | PC_WORK_URGENT);
}

void pc_admit_all(struct pcache *cache)
{
	if (atomic_load_explicit(&cache->admit.slow, memory_order_relaxed))
		set_slow(cache, false);
}

void pc_admit_grant(struct pcache *cache, uint64_t bytes)
{
	struct pc_admit *admit = &cache->admit;
	uint64_t left, now_ns;

	if (!atomic_load_explicit(&admit->slow, memory_order_relaxed))
		return;
	left = room_left(cache);
	left = PC_MIN(left, UINT64_C(1023));
	if (atomic_load_explicit(&admit->credit_bytes, memory_order_relaxed) < CREDIT_MAX_BYTES)
		atomic_fetch_add_explicit(&admit->credit_bytes, (int64_t)(bytes * 512 / (1024 - left)),
					  memory_order_seq_cst);
	/* A writer that finds no credit counts itself and looks again. One of the two sees the other. */
	if (atomic_load_explicit(&admit->waiter_nr, memory_order_seq_cst) == 0)
		return;
	now_ns = pc_monotonic_ns();
	if (now_ns - atomic_load_explicit(&admit->handed_ns, memory_order_relaxed) < HAND_OUT_NS)
		return;
	atomic_store_explicit(&admit->handed_ns, now_ns, memory_order_relaxed);
	pc_mutex_lock(&cache->space.lock);
	hand_out_locked(admit);
	pc_mutex_unlock(&cache->space.lock);
}

/* Takes a waiter whose time is over out of the queue. */
static void unlink_locked(struct pc_admit *admit, struct pc_admit_waiter *waiter)
{
	struct pc_admit_waiter **at = &admit->first;

	while (*at != waiter)
		at = &(*at)->next;
	*at = waiter->next;
	if (!*at)
		admit->last = at;
	atomic_fetch_sub_explicit(&admit->waiter_nr, 1, memory_order_seq_cst);
}

static void wait_locked(struct pcache *cache, struct pc_admit_waiter *waiter)
{
	struct pc_admit *admit = &cache->admit;
	uint64_t deadline_ns = pc_monotonic_ns() + PC_ADMIT_WAIT_NS;

	if (pc_cond_init(&waiter->cond))
		return;
	*admit->last = waiter;
	admit->last = &waiter->next;
	atomic_fetch_add_explicit(&admit->waiter_nr, 1, memory_order_seq_cst);
	hand_out_locked(admit);
	if (!waiter->admitted)
		atomic_fetch_add_explicit(&cache->stats.slowed_writes, 1, memory_order_relaxed);
	while (!waiter->admitted && pc_cond_wait_until(&waiter->cond, &cache->space.lock, deadline_ns))
		;
	if (!waiter->admitted)
		unlink_locked(admit, waiter);
	pc_cond_fini(&waiter->cond);
}

void pc_admit_slowly(struct pcache *cache, uint64_t bytes, uint32_t flags)
{
	struct pc_admit *admit = &cache->admit;
	struct pc_admit_waiter waiter = { .bytes = bytes };

	if ((flags & PCACHE_NOWAIT) || cache->full_is_error)
		return;
	if (atomic_load_explicit(&admit->waiter_nr, memory_order_relaxed) == 0 && take_credit(admit, bytes))
		return;
	pc_mutex_lock(&cache->space.lock);
	if (atomic_load_explicit(&admit->slow, memory_order_relaxed))
		wait_locked(cache, &waiter);
	pc_mutex_unlock(&cache->space.lock);
}
