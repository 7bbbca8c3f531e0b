/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One open cache, and what its engine does with it: write, read, fill, flush, zero, wait for space.
 *
 * The way of a write: allocate room (alloc/head), lock the shards (index), reserve a position (log), copy data and slot (media), fence, insert (index; a small write before the fence), unlock.
 * The way of a read: look up under the shard lock, unlock, copy and verify, compare the generation; what is not there comes from the backing (miss.c).
 *
 * core signals conditions (pc_signal_*); services wait on them and call pc_space_progress when they made room. Nobody calls up.
 */
#ifndef PC_CORE_CACHE_H
#define PC_CORE_CACHE_H

#include <stdatomic.h>

#include "alloc/head.h"
#include "backing/backing.h"
#include "base/msg.h"
#include "base/options.h"
#include "base/thread_slot.h"
#include "core/tweaks.h"
#include "index/index.h"
#include "log/log.h"
#include "pcache/errors.h"
#include "pcache/info.h"
#include "pcache/io.h"

/* Counters of one shard, written under its lock by plain stores that readers may see late. */
struct pc_shard_stats {
	_Alignas(64) _Atomic uint64_t read_ops, read_bytes, hit_bytes, miss_bytes, write_ops, write_bytes,
		discard_bytes, fill_bytes;
};

/* One writer at a time, under the shard lock: no locked instruction is needed. */
static inline void pc_stat_add(_Atomic uint64_t *counter, uint64_t add)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + add, memory_order_relaxed);
}

/* Of reads that took no lock, by pc_thread_slot. */
struct pc_reader_stats {
	_Alignas(64) _Atomic uint64_t read_ops, read_bytes, hit_bytes;
};

struct pc_stats {
	struct pc_shard_stats shard[PC_SHARD_NR_MAX];
	struct pc_reader_stats reader[PC_THREAD_SLOT_NR];
	_Atomic uint64_t flush_ops, writeback_bytes, backing_flushes, backing_errors, evicted_segs, cleaned_segs,
		full_waits, slowed_writes, crc_errors, media_errors;
};

#define PC_WORK_WRITEBACK 1u /* dirty data has appeared */
#define PC_WORK_SPACE 2u /* segments or log positions run short */
#define PC_WORK_URGENT 4u /* write-back without delay: somebody waits, or a drain */
#define PC_WORK_STOP 8u

/* What services sleep on. */
struct pc_signal {
	struct pc_mutex lock; /* PC_RANK_SIGNAL */
	struct pc_cond cond;
	uint32_t bits; /* PC_WORK_*; under the lock */
	_Atomic bool writeback_idle; /* the next write should signal */
	_Atomic bool space_told; /* PC_WORK_SPACE was signalled and not taken up yet */
};

/* Place of a waiter in the queue; zeroed before the first wait. */
struct pc_space_ticket {
	struct pc_space_ticket *next; /* behind it; under the lock */
	struct pc_cond *cond; /* what it sleeps on; NULL: it is awake; under the lock */
	uint64_t seen_nr; /* progress_nr before the last try */
	bool queued;
};

/* Steps that a thread runs itself (maintenance=caller), and what it wants of them; in its frame, under the lock of space. */
struct pc_space_step {
	struct pc_space_step *next;
	uint64_t nr; /* counts the steps that began */
	uint32_t want_segs;
	bool want_log;
};

/* Writers that wait for space, first come, first served. */
struct pc_space {
	struct pc_mutex lock; /* PC_RANK_SPACE */
	struct pc_space_ticket *first; /* under the lock */
	struct pc_space_ticket **last; /* where the next is linked to; under the lock */
	uint64_t progress_nr; /* under the lock: raised whenever room was made */
	_Atomic uint32_t waiting_nr;
	struct pc_space_step *steps; /* that run, in the order in which they began; under the lock */
	struct pc_space_step **steps_last; /* where the next is linked to; under the lock */
	uint64_t step_nr; /* that began; under the lock */
	_Atomic uint32_t caller_nr; /* threads that run steps because they need room */
	_Atomic uint32_t
		want_segs; /* data segments that the first waiter, or the callers who run steps, need; 0: nobody needs data */
	_Atomic bool want_log; /* the first waiter, or one of the callers, needs log positions */
	_Atomic uint64_t full_ns; /* when a write last found no space; 0: never */
};

/* A writer that is slowed down; in its frame. */
struct pc_admit_waiter {
	struct pc_admit_waiter *next;
	struct pc_cond cond;
	uint64_t bytes;
	bool admitted;
};

#define PC_GATE_SLOW 1u /* writers are slowed down: admit.c */
#define PC_GATE_LIMIT 2u /* dirty data may be near its limit: limit.c */
#define PC_GATE_MODE 4u /* ranges may be held: hold.c */

/* Writers are slowed down before the cache is full: admit.c. What is not atomic is under space.lock. */
struct pc_admit {
	_Atomic uint8_t gate; /* PC_GATE_*: what each write must look at */
	_Atomic bool slow;
	_Atomic uint32_t clean_segs; /* that eviction could empty, when it looked */
	_Atomic uint32_t soft_segs; /* by gc_percent; 0: nobody is ever slowed down */
	uint32_t hard_segs; /* constant */
	_Atomic int64_t credit_bytes; /* admitted and not used; negative: lent */
	_Atomic uint64_t handed_ns; /* when waiters were woken */
	_Atomic uint32_t waiter_nr; /* written under the lock */
	struct pc_admit_waiter *first;
	struct pc_admit_waiter **last;
};

/* How much may be dirty: limit.c. Counted under space.lock. */
struct pc_limit {
	_Atomic bool on; /* an option is below 100 */
	_Atomic bool over_start; /* write-back does not delay */
	_Atomic uint32_t start_percent; /* options */
	_Atomic uint32_t limit_percent;
	_Atomic uint32_t waiter_nr;
	_Atomic int64_t to_go_bytes; /* that segments may take before it is counted again */
	_Atomic int64_t left_bytes; /* near the limit: that may be written before it is counted again */
	struct pc_cond cond; /* those who wait; under space.lock */
};

/* Ranges that are held while a write goes around the cache: hold.c. */
struct pc_holds {
	_Atomic uint32_t nr; /* raised under the lock of a shard, lowered under space.lock */
	_Atomic uint64_t released_nr; /* raised under space.lock */
	struct pc_cond cond; /* a hold was released; under space.lock */
};

/* Flushes at page granularity: a mark and a sync serve all that waited when they began. Under the lock. */
struct pc_flush_rounds {
	struct pc_mutex lock; /* PC_RANK_FLUSH */
	struct pc_cond cond;
	uint64_t begun_nr;
	uint64_t done_nr; /* the last that succeeded */
	bool running; /* one at a time */
};

struct pc_latency; /* core/latency */
struct pc_writeback; /* service/writeback */
struct pc_cleaner; /* service/clean */
struct pc_workers; /* service/worker */
struct pc_async; /* api/async */

struct pcache {
	struct pc_msg msg;
	struct pc_media *media;
	struct pcache_backing *backing; /* NULL while probing */
	struct pc_layout layout;
	struct pc_segmap map;
	struct pc_heads heads;
	struct pc_log log;
	struct pc_index *index;
	/* Constant while open. */
	uint32_t block_bytes;
	uint32_t block_shift;
	uint32_t chunk_blk;
	uint32_t chunk_shift; /* log2 of it */
	uint64_t backing_blk;
	uint64_t atomic_max_bytes;
	uint32_t granularity_max; /* coarsest that was accepted: PCACHE_GRANULARITY_* */
	uint32_t replay_threads; /* these two, 0: replay decides */
	uint32_t replay_records;
	uint32_t clean_keys_max; /* keys in one kset of log cleaning */
	uint32_t fill_leave_segs; /* free segments that fills leave to writers */
	uint32_t pass_min_slots; /* a drain of fewer reads the log */
	uint32_t
		pass_part_bytes; /* one step of a drain; 0: by the clock, or where the caller runs the steps a fixed number */
	bool data_crc;
	bool strict; /* ordering */
	bool commit_write; /* a write is durable on return */
	bool guard_fence; /* data is fenced before its slot */
	bool write_one; /* small writes may go the short ways of core/write_one.c and core/write_batch.c */
	bool caller_maintains;
	bool read_only;
	bool media_guard; /* as asked for */
	/* Options that may change while open. */
	_Atomic uint32_t gc_percent;
	_Atomic uint32_t writeback_delay_ms;
	_Atomic uint32_t dirty_age_max_ms; /* 0: none */
	_Atomic uint64_t writeback_rate; /* bytes per second; 0: none */
	_Atomic uint8_t mode; /* PCACHE_MODE_* */
	_Atomic bool fills_off; /* the mode keeps no reads */
	_Atomic bool read_cache;
	_Atomic bool full_is_error;
	_Atomic bool latency_on; /* core/latency.h */
	struct pc_latency *_Atomic latency; /* NULL: never switched on */
	/* State. */
	_Atomic int failstop; /* 0, or the error that stopped all stores */
	_Atomic bool failstop_told;
	_Atomic bool degraded; /* the backing fails */
	_Atomic bool mode_changes; /* one change at a time */
	_Atomic uint64_t dirty_zero_blk; /* dirty ZERO extents */
	_Atomic uint32_t drain_nr; /* drains that run */
	_Atomic uint64_t drain_pos; /* all of them have promised what was dirty below; 0: not known yet */
	_Atomic uint64_t
		hidden_pos; /* of the newest dirty version that was overwritten and must be written back all the same; raised under its shard's lock */
	_Atomic uint64_t open_epoch_pos; /* recovery ends an epoch here, also without a mark */
	struct pc_spin flush_lock; /* PC_RANK_FLUSH: marks, one at a time; not at page granularity */
	struct pc_flush_rounds rounds; /* page granularity */
	uint64_t flushed_head; /* head after the last flush mark; under flush_lock, or of the round that runs */
	struct pc_space space;
	struct pc_admit admit;
	struct pc_limit limit;
	struct pc_holds holds;
	struct pc_signal signal;
	struct pc_stats stats;
	struct pc_writeback *writeback;
	struct pc_cleaner *cleaner;
	struct pc_workers *workers;
	struct pc_async *async; /* api/async */
	void *stats_page; /* api/stats_page */
	uint64_t replica_repair_nr;
	uint64_t opened_head; /* log head when the cache had been opened; constant from then on */
	const volatile uint8_t *fork_page; /* 1 in the process that opened the cache, 0 in a child */
	bool owns_fork_page;
	/* maintenance=caller: one round of background work in this thread: 1 did something, 0 nothing to do, negative error. Set when the services are. */
	int (*run_steps)(struct pcache *cache);
	void *planted_kset; /* PC_PLANTS only */
};

/* Chunks of an allocation of len_blk blocks. */
static inline uint64_t pc_core_chunk_nr(const struct pcache *cache, uint64_t len_blk)
{
	return (len_blk + cache->chunk_blk - 1) >> cache->chunk_shift;
}

/* ---- cache.c: construction ------------------------------------------------------------------------------------------- */

/*
 * Builds a cache over media whose superblock is super: loads the records, prepares everything empty. Replay fills it. config and tweaks may be NULL. Media and
 * backing stay the caller's until the open has succeeded. 0, PCACHE_E_CORRUPT, -ENOMEM, -errno.
 */
int pc_core_new(struct pc_media *media, const struct pc_super *super, uint32_t super_bad,
		const struct pcache_config *config, const struct pc_tweaks *tweaks, struct pcache_backing *backing,
		struct pcache **out_cache);
/* Frees the cache, not the media, not the backing. NULL does nothing. */
void pc_core_free(struct pcache *cache);

/* ---- apply.c: a key becomes extents ---------------------------------------------------------------------------------- */

#define PC_APPLY_SHARDS UINT32_MAX /* several shards are locked, and each counts its own blocks */

/* An extent that has left the index, until what it holds is given up. */
struct pc_displaced {
	uint64_t pos;
	uint32_t len_blk;
	uint32_t seg_id;
	uint32_t share_idx; /* of its shard */
	uint8_t flags;
};

struct pc_apply {
	struct pcache *cache;
	uint64_t pos; /* of the kset that is applied */
	uint64_t epoch_pos; /* last flush mark before it, or UINT64_MAX */
	uint32_t share_idx; /* the shard that is locked counts the blocks; or PC_APPLY_SHARDS */
	uint32_t kept_nr;
	uint32_t kept_max; /* 0: what is displaced is given up at once */
	struct pc_displaced *kept; /* displaced before the fence, and not given up yet */
};
/* share_idx for the shards of mask. */
static inline uint32_t pc_apply_share_idx(uint64_t mask)
{
	return mask & (mask - 1) ? PC_APPLY_SHARDS : (uint32_t)__builtin_ctzll(mask);
}

/* Index insertions that a key can need in any one shard of its mask; keys without data become one extent per stripe. */
uint32_t pc_apply_piece_nr(const struct pcache *cache, uint64_t vol_blk, uint64_t len_blk, bool has_data);
/* Inserts the extents of a key, shards locked and reserve made. flags: PC_EXT_DIRTY or 0. Clean ZERO keys only erase. The blocks were taken by the caller (pc_heads_alloc, pc_segmap_ref). */
void pc_apply_key_locked(struct pc_apply *apply, const struct pc_key *key, const struct pcm_le32 *crcs,
			 uint8_t ext_flags);
/* Erases the range of a key that carries no data any more. */
void pc_apply_mask_locked(struct pc_apply *apply, const struct pc_key *key);
/* The extent of chunk chunk_idx of a DATA key; false beyond the last. */
bool pc_apply_chunk(const struct pcache *cache, const struct pc_key *key, const struct pcm_le32 *crcs, uint64_t pos,
		    uint32_t chunk_idx, struct pc_extent *out_extent);
/* The extent of a key without data; false: it only erases. */
bool pc_apply_bare(const struct pc_key *key, uint64_t pos, uint8_t ext_flags, struct pc_extent *out_extent);
void pc_apply_displaced(void *apply, const struct pc_extent *piece);
/*
 * Who inserts before the fence of his own stores (not at page granularity) sets kept and kept_max, and calls this when all is inserted: it fences, and gives up what was displaced. With no room left in
 * kept that is done in the middle, so the data and the slots must be stored before the first insertion.
 */
void pc_apply_fence(struct pc_apply *apply);
/* The second half of it, for who has fenced. What is inserted from then on gives up at once. */
void pc_apply_give_up(struct pc_apply *apply);
/* A DATA extent leaves the index; its shard is locked. */
static inline void pc_core_unref(struct pcache *cache, const struct pc_extent *extent)
{
	pc_segmap_unref(&cache->map, extent->seg_id, pc_index_shard_idx(cache->index, extent->vol_blk),
			extent->len_blk);
}

/* ---- write.c ------------------------------------------------------------------------------------------------------------ */

int pc_core_write(struct pcache *cache, const struct pcache_range *ranges, uint32_t range_nr, uint32_t flags);
int pc_core_zero(struct pcache *cache, uint64_t off, uint64_t len, bool discard, uint32_t flags);
/* Keeps data read from the backing, unless a write was faster (then false). fill is listed; it is unlisted here. A failure to keep it is no failure of the read. */
bool pc_core_fill(struct pcache *cache, struct pc_fill *fill, const void *buf);
/*
 * Appends POISON keys over the parts of a damaged version that the index still shows. Write-back only. 0: no part shows any more; PCACHE_E_FULL (no slot and no free
 * segment for more), -ENOMEM, -errno of a sync.
 */
int pc_core_poison(struct pcache *cache, const struct pc_extent *version);

/* PCACHE_E_READ_ONLY, PCACHE_E_FAILSTOP, or 0: the media takes stores. */
static inline int pc_core_stopped(struct pcache *cache)
{
	if (cache->read_only)
		return PCACHE_E_READ_ONLY;
	return atomic_load_explicit(&cache->failstop, memory_order_relaxed) ? PCACHE_E_FAILSTOP : 0;
}

/* ---- hold.c: ranges that a write goes around ---------------------------------------------------------------------------- */

#define PC_HOLD_NO 1
/* Around all holds, both in the mode's change: nobody holds before or after. end waits for the last. Nothing may be locked. */
void pc_core_holds_begin(struct pcache *cache);
void pc_core_holds_end(struct pcache *cache);
/*
 * Erases the range from the cache, durably, and keeps writes and misses out until pc_core_release. hold: is_hold and a range within one stripe. 0; PC_HOLD_NO: something there is not on the
 * backing, or damaged, or the mode goes around no more: the write has to go through the cache; else an error, and nothing is held. Nothing may be locked.
 */
int pc_core_hold(struct pcache *cache, struct pc_fill *hold, uint32_t flags);
/* written: all of it is on the backing; op_nr: requests that this ends, for the counters. */
void pc_core_release(struct pcache *cache, struct pc_fill *hold, bool written, uint32_t op_nr);
/* Whether a part of the range is held. Its shards are locked. */
static inline bool pc_core_held_locked(struct pcache *cache, uint64_t mask, uint64_t vol_blk, uint64_t len_blk)
{
	return (atomic_load_explicit(&cache->admit.gate, memory_order_relaxed) & PC_GATE_MODE) &&
	       pc_index_held_locked(cache->index, mask, vol_blk, len_blk);
}
/* Waits until something is released. seen_nr: holds.released_nr, read under the lock of the shard where the hold was. 0, or -EAGAIN for PCACHE_NOWAIT. Nothing may be locked. */
int pc_core_hold_wait(struct pcache *cache, uint64_t seen_nr, uint32_t flags);
static inline bool pc_mode_goes_around(struct pcache *cache)
{
	uint8_t mode = atomic_load_explicit(&cache->mode, memory_order_seq_cst);

	return mode == PCACHE_MODE_WRITEAROUND || mode == PCACHE_MODE_PASSTHROUGH;
}

/* ---- read.c, miss.c -------------------------------------------------------------------------------------------------------- */

int pc_core_read(struct pcache *cache, void *buf, uint64_t off, uint64_t len, uint32_t flags);
/* A read in two steps: what is cached up to the first miss (-EAGAIN), and the rest from there on. count_bytes: of the call, counted by the first; 0: it was counted. */
int pc_core_read_hits(struct pcache *cache, void *buf, uint64_t off, uint64_t len, uint64_t count_bytes,
		      uint64_t *out_done_bytes);
int pc_core_read_rest(struct pcache *cache, void *buf, uint64_t off, uint64_t len, uint32_t flags);
/*
 * A gap of the index at vol_blk: lists a fill (mask is locked), unlocks, reads the backing, keeps the data. 0, PC_MISS_RETRY (a write came in between; what was read may be half old: look
 * the range up again), or the backing's error.
 */
#define PC_MISS_RETRY 1
int pc_core_miss(struct pcache *cache, uint64_t mask, void *buf, uint64_t vol_blk, uint64_t len_blk, uint32_t flags);
/* Loads an extent's own bytes, verified. The segment is pinned. 0, PCACHE_E_POISONED (CRC mismatch), or -EIO (guarded media that cannot give them). */
int pc_core_load(struct pcache *cache, const struct pc_extent *extent, void *buf);
/* A load of the extent gave load_rc, one of these: counts it, and takes the segment, which is still pinned, out of use. True if the segment was in use before. */
bool pc_core_damage(struct pcache *cache, const struct pc_extent *extent, int load_rc);
/* Says that. With nothing locked. */
void pc_core_tell_quarantine(struct pcache *cache, uint32_t seg_id);

/* ---- flush.c ------------------------------------------------------------------------------------------------------------------- */

int pc_flush_init(struct pcache *cache); /* part of construction: 0 or -errno */
void pc_flush_fini(struct pcache *cache);
int pc_core_flush(struct pcache *cache);
/*
 * A drain promises what was dirty when it began. With ordering batch an overwritten version need not be written, but the overwrite may lie behind what the drain will write: so
 * while drains run, versions from before their marks are held and written where the overwrite lies behind. begin: before the flush of the drain. mark: after it, with
 * the end of what the drain will write.
 */
void pc_core_drain_begin(struct pcache *cache);
void pc_core_drain_mark(struct pcache *cache, uint64_t pos);
void pc_core_drain_end(struct pcache *cache);
static inline bool pc_core_draining(struct pcache *cache)
{
	return atomic_load_explicit(&cache->drain_nr, memory_order_seq_cst) != 0;
}
/* Appends a mark that ends no epoch, so that less must be verified after a crash. Failure is harmless. */
void pc_core_mark(struct pcache *cache);
/* Page granularity: makes everything durable that is stored now, without ending an epoch. */
int pc_core_sync(struct pcache *cache);
/* No store to the media from now on. Returns error. */
int pc_core_failstop(struct pcache *cache, int error);
/* Tells the program of a fail-stop, once; the place where it happened may hold locks and cannot. */
void pc_core_tell_failstop(struct pcache *cache);

/* ---- space.c -------------------------------------------------------------------------------------------------------------------- */

int pc_space_init(struct pcache *cache);
void pc_space_fini(struct pcache *cache);
/* True if the caller may take new segments now: nobody waits, or it is the first waiter. */
/* Internal flag beside PCACHE_NOWAIT: wait even if full_policy=error (flush always completes). */
#define PC_SPACE_MUST 0x80000000u
bool pc_space_may_take(struct pcache *cache, const struct pc_space_ticket *ticket);
/*
 * Waits until services made room, or runs steps (maintenance=caller); the ticket is kept over retries and ended by pc_space_leave. 0 to try again, PCACHE_E_FULL,
 * fail-stop error. No lock of rank below PC_RANK_SPACE may be held.
 */
int pc_space_wait(struct pcache *cache, struct pc_space_ticket *ticket, uint32_t want_segs, bool want_log,
		  uint32_t flags);
/* Ends a wait; does nothing if there was none. */
void pc_space_leave(struct pcache *cache, struct pc_space_ticket *ticket);
/* Services: room was made, waiters try again. */
void pc_space_progress(struct pcache *cache);
/* Around every step that a thread of the application runs. step: zeroed but for what it wants. */
void pc_space_step_begin(struct pcache *cache, struct pc_space_step *step);
void pc_space_step_end(struct pcache *cache, struct pc_space_step *step);
void pc_signal_work(struct pcache *cache, uint32_t bits);
/* Used segments exceed the eviction threshold, or the log runs short, or somebody waits or is slowed down. */
bool pc_space_pressure(struct pcache *cache);

/* ---- admit.c: writers are slowed down before the cache is full ------------------------------------------------------------ */

#define PC_ADMIT_WAIT_NS UINT64_C(10000000) /* nobody waits longer for one request */

void pc_admit_init(struct pcache *cache);
/* gc_percent has another value. Nothing may be locked. */
void pc_admit_target(struct pcache *cache);
/* There may be less room, or more. No lock of rank SPACE or above may be held. */
void pc_admit_look(struct pcache *cache);
/* Services: the backing has bytes more. */
void pc_admit_grant(struct pcache *cache, uint64_t bytes);
/* Services: there is nothing to write back now, or it failed. Nobody is slowed down any more. */
void pc_admit_all(struct pcache *cache);
void pc_admit_slowly(struct pcache *cache, uint64_t bytes, uint32_t flags);
/* ---- limit.c: how much may be dirty ------------------------------------------------------------------------------------------ */

int pc_limit_init(struct pcache *cache); /* 0 or -errno */
void pc_limit_fini(struct pcache *cache);
/* The options have other values, or the cache is open from now on. Nothing may be locked. */
void pc_limit_change(struct pcache *cache);
/* Counts, and lets those go on who wait, if there is less than the limit. No lock of rank SPACE or above may be held. */
void pc_limit_count(struct pcache *cache);
/* A request of bytes has taken segments. No lock of rank SPACE or above may be held. */
void pc_limit_took(struct pcache *cache, uint64_t bytes);
/* Waits until less than the limit is dirty. 0, PCACHE_E_FULL, PCACHE_E_FAILSTOP. Nothing may be locked. */
int pc_limit_wait(struct pcache *cache, uint64_t bytes, uint32_t flags);
/* Dirty data, without zeroes. */
uint64_t pc_limit_dirty_bytes(const struct pcache *cache);

static inline bool pc_limit_is_on(struct pcache *cache)
{
	return atomic_load_explicit(&cache->limit.on, memory_order_relaxed);
}

/* Before a request takes room: waits for its turn, where writers are slowed down or dirty data is limited. 0, PCACHE_E_FULL, PCACHE_E_FAILSTOP. Nothing may be locked. */
static inline int pc_admit(struct pcache *cache, uint64_t bytes, uint32_t flags)
{
	uint8_t gate = atomic_load_explicit(&cache->admit.gate, memory_order_relaxed);

	if (__builtin_expect(gate == 0, 1))
		return 0;
	if (gate & PC_GATE_SLOW)
		pc_admit_slowly(cache, bytes, flags);
	return gate & PC_GATE_LIMIT && bytes ? pc_limit_wait(cache, bytes, flags) : 0;
}

#endif
