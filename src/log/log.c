/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reservation of positions, the chain of LOG segments, and what is durable.
 *
 * The head moves by compare-and-swap. A reservation that does not fit the rest of a segment first moves the head to the next segment and owns
 * the skipped slots: it stores and fences a void kset over them; until then its published lower bound covers them.
 *
 * Only a bounded window may be outstanding: who enters or leaves a segment waits until nothing is in flight in the segments before the last. The others are between
 * their position and their fence and take no lock, so this wait is short; those who wait raise their own bound each time they try again, so they never wait for each other.
 *
 * Locks: lock (rank LOG) for the chain; sync_lock for syncs at page granularity.
 */
#include "log/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"
#include "base/sched.h"
#include "pcache/errors.h"

int pc_log_init(struct pc_log *log, struct pc_layout *layout, struct pc_segmap *map, uint64_t (*nonce)(void *),
		void *nonce_user)
{
	bool page = layout->media->granularity == PC_GRAN_PAGE;
	int rc;

	memset(log, 0, sizeof(*log));
	log->media = layout->media;
	log->layout = layout;
	log->map = map;
	log->nonce = nonce;
	log->nonce_user = nonce_user;
	log->slots_per_seg = pc_geo_slots_per_segment(&layout->super);
	log->slots_shift = (uint32_t)__builtin_ctz(log->slots_per_seg);
	log->kset_slots_max = PC_MIN(log->slots_per_seg, PC_KSET_SLOTS_MAX);
	log->flush_reserve_slots = page ? PC_MIN(2 * PC_PAGE_BYTES / PC_SLOT_BYTES, log->slots_per_seg / 2) : 8;
	log->poison_reserve_slots = log->slots_per_seg / 4;
	log->max_segs = PC_MAX(4u, layout->super.segment_nr / 4);
	log->ring_nr = 1;
	while (log->ring_nr < layout->super.segment_nr)
		log->ring_nr *= 2;
	for (uint32_t i = 0; i < PC_INFLIGHT_NR; i++)
		atomic_init(&log->inflight[i].low_pos, PC_POS_IDLE);
	log->ring = calloc(log->ring_nr, sizeof(*log->ring));
	if (!log->ring)
		return -ENOMEM;
	rc = pc_mutex_init(&log->lock, PC_RANK_LOG, 0);
	if (rc)
		goto undo_ring;
	rc = pc_mutex_init(&log->sync_lock, PC_RANK_SYNC, 0);
	if (rc)
		goto undo_lock;
	return 0;
undo_lock:
	pc_mutex_fini(&log->lock);
undo_ring:
	free(log->ring);
	log->ring = NULL;
	return rc;
}

void pc_log_fini(struct pc_log *log)
{
	if (!log->ring)
		return;
	pc_mutex_fini(&log->sync_lock);
	pc_mutex_fini(&log->lock);
	free(log->ring);
	log->ring = NULL;
}

void pc_log_set_seg(struct pc_log *log, uint64_t ordinal, uint32_t seg_id, uint64_t nonce)
{
	log->ring[ordinal & (log->ring_nr - 1)] = (struct pc_log_seg){ .nonce = nonce, .seg_id = seg_id };
}

void pc_log_set_cap_end(struct pc_log *log, uint64_t cap_end)
{
	atomic_store_explicit(&log->cap_end, cap_end, memory_order_release);
	atomic_store_explicit(&log->writer_limit, cap_end - log->slots_per_seg, memory_order_release);
}

uint64_t pc_log_media_off(const struct pc_log *log, uint64_t pos)
{
	uint64_t slot = pos & (log->slots_per_seg - 1);

	return pc_geo_segment_off(&log->layout->super, pc_log_seg(log, pos)->seg_id) + slot * PC_SLOT_BYTES;
}

/* ---- reservation ------------------------------------------------------------------------------------------------ */

static uint64_t limit_of(struct pc_log *log, enum pc_log_user user)
{
	uint64_t limit = atomic_load_explicit(&log->cap_end, memory_order_acquire);

	if (user == PC_LOG_WRITER)
		return atomic_load_explicit(&log->writer_limit, memory_order_acquire);
	if (user == PC_LOG_FLUSH)
		return limit;
	limit -= log->flush_reserve_slots;
	return user == PC_LOG_POISON ? limit : limit - log->poison_reserve_slots;
}

/*
 * Waits until nothing is in flight below the segment before that of pos, so that the torn end of the log stays bounded. Called by whoever moves the head into a segment, or
 * past its first slot. Those waited for are beyond their reservation and take no lock.
 */
static int await_window(struct pc_log *log, uint32_t idx, uint64_t pos)
{
	uint64_t seg_start = pc_log_seg_start(log, pos);
	uint64_t floor_pos = seg_start - PC_MIN(seg_start, log->slots_per_seg);

	while (pc_log_low(log, idx) < floor_pos) {
		if (atomic_load_explicit(&log->stopped, memory_order_acquire))
			return PCACHE_E_FAILSTOP;
		pc_spin_wait(PC_YIELD_LOG_WINDOW);
	}
	return 0;
}

/* Moves the head past the rest of a segment and fills it with a void kset; nothing if another was faster. */
static void pad_segment(struct pc_log *log, uint64_t pos, uint64_t next_seg_pos)
{
	_Alignas(64) uint8_t slot[PC_SLOT_BYTES];

	if (!atomic_compare_exchange_strong_explicit(&log->head, &pos, next_seg_pos, memory_order_acq_rel,
						     memory_order_acquire))
		return;
	PC_YIELD(LOG_PADDED);
	pc_kset_encode_void(slot, pos, pc_log_seg(log, pos)->nonce, (uint32_t)(next_seg_pos - pos));
	pc_media_copy(log->media, pc_log_media_off(log, pos), slot, sizeof(slot));
	/* Order: the pad before this writer's lower bound is raised past it. Page granularity: the next sync covers it. */
	pc_media_fence(log->media);
}

static int give_up(struct pc_log *log, uint32_t idx, int rc)
{
	pc_log_done(log, idx);
	return rc;
}

int pc_log_reserve(struct pc_log *log, uint32_t idx, uint32_t slot_nr, enum pc_log_user user, uint64_t *out_pos)
{
	for (;;) {
		uint64_t pos = atomic_load_explicit(&log->head, memory_order_acquire);
		uint64_t next_seg_pos = pc_log_seg_start(log, pos) + log->slots_per_seg;
		bool fits = pos + slot_nr <= next_seg_pos;

		/*
		 * Order of memory: this store is released by the compare-and-swap, so who sees the head beyond pos sees it too. Raising it in a later round is
		 * right: nothing is reserved yet.
		 */
		if (!PC_PLANTED(PC_PLANT_PUBLISH_LATE))
			atomic_store_explicit(&log->inflight[idx].low_pos, pos, memory_order_release);
		PC_YIELD(LOG_PUBLISHED);
		if ((fits ? pos : next_seg_pos) + slot_nr > limit_of(log, user))
			return give_up(log, idx, PCACHE_E_FULL);
		if ((!fits || pos + log->slots_per_seg == next_seg_pos) && await_window(log, idx, pos))
			return give_up(log, idx, PCACHE_E_FAILSTOP);
		if (!fits) {
			pad_segment(log, pos, next_seg_pos);
			continue;
		}
		*out_pos = pos;
		if (atomic_compare_exchange_weak_explicit(&log->head, &pos, pos + slot_nr, memory_order_seq_cst,
							  memory_order_relaxed)) {
			if (PC_PLANTED(PC_PLANT_PUBLISH_LATE)) {
				PC_YIELD(LOG_PUBLISHED);
				atomic_store(&log->inflight[idx].low_pos, *out_pos);
			}
			return 0;
		}
	}
}

void pc_log_store(struct pc_log *log, uint64_t pos, const void *kset, uint32_t slot_nr)
{
	pc_media_copy(log->media, pc_log_media_off(log, pos), kset, (size_t)slot_nr * PC_SLOT_BYTES);
}

/* ---- what is durable ------------------------------------------------------------------------------------------------ */

static inline uint64_t low_of(struct pc_log *log, uint32_t idx)
{
	return atomic_load_explicit(&log->inflight[idx].low_pos, memory_order_acquire);
}

_Static_assert(PC_INFLIGHT_FLUSH % 4 == 0, "the slots of shards are read four at a time");

uint64_t pc_log_low(struct pc_log *log, uint32_t except)
{
	uint64_t low = atomic_load_explicit(&log->head, memory_order_acquire), a, b;

	PC_YIELD(LOG_LOW);
	if (except < PC_INFLIGHT_FLUSH) {
		for (uint32_t i = 0; i < PC_INFLIGHT_NR; i++) {
			a = low_of(log, i);
			low = i == except || low < a ? low : a;
		}
		return low;
	}
	/* Each flush does this. Two chains of comparisons, which do not wait for each other. */
	b = low_of(log, PC_INFLIGHT_FLUSH);
	a = except == PC_INFLIGHT_FLUSH || low < b ? low : b;
	b = low;
	for (uint32_t i = 0; i < PC_INFLIGHT_FLUSH; i += 4) {
		uint64_t p = low_of(log, i), q = low_of(log, i + 1), r = low_of(log, i + 2), t = low_of(log, i + 3);

		a = PC_MIN(a, PC_MIN(p, q));
		b = PC_MIN(b, PC_MIN(r, t));
	}
	return PC_MIN(a, b);
}

uint64_t pc_log_durable_pos(struct pc_log *log)
{
	if (log->media->granularity == PC_GRAN_PAGE)
		return atomic_load_explicit(&log->synced_pos, memory_order_acquire);
	return pc_log_low(log, PC_INFLIGHT_NR);
}

int pc_log_sync_upto(struct pc_log *log, uint64_t pos, bool *out_synced)
{
	uint64_t target;
	int rc = 0;

	*out_synced = false;
	if (log->media->granularity != PC_GRAN_PAGE)
		return 0;
	pc_mutex_lock(&log->sync_lock);
	if (atomic_load_explicit(&log->synced_pos, memory_order_acquire) < pos) {
		target = pc_log_low(log, PC_INFLIGHT_NR);
		if (PC_PLANTED(PC_PLANT_SYNC_TOO_HIGH))
			target = atomic_load(&log->head);
		/* Order: every store below target was made before its slot went idle, so this sync covers it. */
		rc = pc_media_sync(log->media);
		if (!rc)
			pc_pos_raise(&log->synced_pos, target);
		*out_synced = true;
	}
	pc_mutex_unlock(&log->sync_lock);
	return rc;
}

/* ---- the chain ---------------------------------------------------------------------------------------------------------- */

int pc_log_extend(struct pc_log *log, bool force)
{
	uint64_t cap_end, nonce = 0;
	uint32_t seg_id;
	int rc = 0;

	pc_mutex_lock(&log->lock);
	cap_end = atomic_load_explicit(&log->cap_end, memory_order_relaxed);
	if (!force &&
	    (cap_end - atomic_load_explicit(&log->tail, memory_order_relaxed)) >> log->slots_shift >= log->max_segs)
		rc = PCACHE_E_FULL;
	/* The last ordinal: a record beyond it would be damage to the next open. */
	if (pc_log_ordinal(log, cap_end) >= PC_ORDINAL_MAX)
		rc = PCACHE_E_FULL;
	if (!rc) {
		nonce = log->nonce(log->nonce_user);
		rc = pc_segmap_take_log(log->map, pc_log_ordinal(log, cap_end), nonce, &seg_id);
	}
	if (!rc) {
		PC_YIELD(LOG_EXTENDED);
		pc_log_set_seg(log, pc_log_ordinal(log, cap_end), seg_id, nonce);
		pc_log_set_cap_end(log, cap_end + log->slots_per_seg);
	}
	pc_mutex_unlock(&log->lock);
	return rc;
}

int pc_log_drop_tail(struct pc_log *log)
{
	struct pc_layout *layout = log->layout;
	struct pc_tail tail;
	uint64_t old_tail;
	uint32_t seg_id;
	int rc;

	pc_mutex_lock(&log->lock);
	old_tail = atomic_load_explicit(&log->tail, memory_order_relaxed);
	seg_id = pc_log_seg(log, old_tail)->seg_id;
	pc_mutex_lock(&layout->lock);
	tail = layout->tail;
	tail.log_tail_pos = old_tail + log->slots_per_seg;
	/* Order: the tail record (both copies) before the segment may be taken again. */
	rc = pc_layout_store_tail_locked(layout, &tail);
	pc_mutex_unlock(&layout->lock);
	PC_YIELD(LOG_TAIL_STORED);
	if (!rc) {
		atomic_store_explicit(&log->tail, tail.log_tail_pos, memory_order_release);
		pc_segmap_free_log(log->map, seg_id);
	}
	pc_mutex_unlock(&log->lock);
	return rc;
}

bool pc_log_short(struct pc_log *log)
{
	uint64_t head = atomic_load_explicit(&log->head, memory_order_relaxed);
	uint64_t limit = atomic_load_explicit(&log->writer_limit, memory_order_relaxed);

	return head + log->slots_per_seg / 4 >= limit;
}
