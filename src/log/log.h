/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The log: one sequence of positions, in a chain of LOG segments with consecutive ordinals.
 *
 *     tail ................. head ...... writer_limit ......... cap_end
 *     |  ksets, marks, voids  |  free    |  one segment: cleaning and flush only  |
 *
 * Position = ordinal * slots per segment + slot. Writers reserve with one compare-and-swap; whoever finds that his kset does not fit the rest of
 * the segment pads it with a void kset first. Segments up to cap_end are prepared: their records (type LOG, ordinal, nonce) are durable.
 *
 * In flight: a writer publishes a lower bound of its position in a slot of its own (the slot of its lowest locked shard, so no two writers share one)
 * before it reserves, and clears it after its fence. pc_log_low, the lowest position that may not be durable, reads the head first and the slots after: a
 * reservation that the head shows was preceded by its publication. A writer that has to try again raises its bound first.
 */
#ifndef PC_LOG_LOG_H
#define PC_LOG_LOG_H

#include <stdatomic.h>

#include "alloc/segmap.h"

/* Slots of in-flight positions: shards first, then one for each kind of service. */
#define PC_INFLIGHT_FLUSH 64u
#define PC_INFLIGHT_NR 65u
#define PC_POS_IDLE UINT64_MAX

struct pc_inflight {
	_Alignas(64) _Atomic uint64_t low_pos;
};

struct pc_log_seg {
	uint64_t nonce;
	uint32_t seg_id;
};

struct pc_log {
	struct pc_media *media;
	struct pc_layout *layout;
	struct pc_segmap *map;
	uint64_t (*nonce)(void *user);
	void *nonce_user;
	uint32_t slots_per_seg;
	uint32_t slots_shift;
	uint32_t kset_slots_max; /* no kset is longer */
	uint32_t flush_reserve_slots; /* at the end of the capacity, for flushes only */
	uint32_t poison_reserve_slots; /* before these, for POISON keys and flushes */
	uint32_t max_segs; /* writers do not let the log grow beyond this */
	struct pc_log_seg *ring; /* by ordinal, modulo ring_nr; entries of [tail, cap_end) are constant */
	uint32_t ring_nr; /* a power of two, not less than the segments */
	struct pc_mutex lock; /* PC_RANK_LOG: extension, tail */
	_Atomic uint64_t cap_end;
	_Atomic uint64_t tail; /* first position of the oldest segment */
	struct pc_mutex sync_lock; /* PC_RANK_SYNC: page granularity */
	_Atomic uint64_t synced_pos; /* page granularity: everything below is durable */
	_Atomic uint64_t epoch_pos; /* last flush mark; UINT64_MAX while one is being placed */
	_Atomic uint64_t settled_pos; /* dirty tail, and every extent below is marked clean in the index */
	_Atomic bool stopped; /* fail-stop: nobody waits for anybody any more */
	_Alignas(64) _Atomic uint64_t head;
	_Alignas(64) _Atomic uint64_t writer_limit;
	struct pc_inflight inflight[PC_INFLIGHT_NR];
};

/*
 * Each may go further than the one before. Damaged dirty data must get its POISON key before the dirty tail can pass it, or nothing behind it would ever be written back; so
 * cleaning, which can drop what it does not append, leaves room for that.
 */
enum pc_log_user { PC_LOG_WRITER, PC_LOG_CLEANING, PC_LOG_POISON, PC_LOG_FLUSH };

/* head, tail, cap_end and the ring are filled in by format or recovery. 0, -ENOMEM, -errno. */
int pc_log_init(struct pc_log *log, struct pc_layout *layout, struct pc_segmap *map, uint64_t (*nonce)(void *),
		void *nonce_user);
void pc_log_fini(struct pc_log *log);
/* Puts a segment in the ring (recovery, extension). */
void pc_log_set_seg(struct pc_log *log, uint64_t ordinal, uint32_t seg_id, uint64_t nonce);
void pc_log_set_cap_end(struct pc_log *log, uint64_t cap_end);

static inline uint64_t pc_log_ordinal(const struct pc_log *log, uint64_t pos)
{
	return pos >> log->slots_shift;
}

static inline uint64_t pc_log_seg_start(const struct pc_log *log, uint64_t pos)
{
	return pos & ~(uint64_t)(log->slots_per_seg - 1);
}

static inline const struct pc_log_seg *pc_log_seg(const struct pc_log *log, uint64_t pos)
{
	return &log->ring[pc_log_ordinal(log, pos) & (log->ring_nr - 1)];
}

uint64_t pc_log_media_off(const struct pc_log *log, uint64_t pos);

/*
 * Reserves slot_nr positions that do not cross a segment and publishes them in inflight slot idx, which the caller owns. 0 or PCACHE_E_FULL
 * (nothing reserved; the slot is idle again), PCACHE_E_FAILSTOP. After 0 the caller stores the kset (pc_log_store), fences, and calls pc_log_done.
 */
int pc_log_reserve(struct pc_log *log, uint32_t idx, uint32_t slot_nr, enum pc_log_user user, uint64_t *out_pos);
/* Asks for what a reservation stores to. */
static inline void pc_log_prefetch(const struct pc_log *log, uint32_t idx)
{
	pc_prefetch_store(&log->inflight[idx]);
	pc_prefetch_store(&log->head);
}
/* Stores a sealed kset at its reserved position; durable after the next fence of this thread. */
void pc_log_store(struct pc_log *log, uint64_t pos, const void *kset, uint32_t slot_nr);

static inline void pc_log_done(struct pc_log *log, uint32_t idx)
{
	atomic_store_explicit(&log->inflight[idx].low_pos, PC_POS_IDLE, memory_order_release);
}

/* Lowest position that may be in flight, not counting slot except (PC_INFLIGHT_NR: none). */
uint64_t pc_log_low(struct pc_log *log, uint32_t except);
/* Everything below is durable: pc_log_low, or at page granularity the last synced position. */
uint64_t pc_log_durable_pos(struct pc_log *log);
/* Page granularity: makes everything below pos durable that was stored and done. 0 or -errno. Elsewhere 0. *out_synced: a sync was made. */
int pc_log_sync_upto(struct pc_log *log, uint64_t pos, bool *out_synced);

/* Takes a free segment as the next of the chain. force: also beyond max_segs. 0, PCACHE_E_FULL, -errno. */
int pc_log_extend(struct pc_log *log, bool force);
/* Frees the oldest segment; the tail record is durable first. Everything in it was cleaned. 0 or -errno. */
int pc_log_drop_tail(struct pc_log *log);
/* Writers have less than a quarter segment left. */
bool pc_log_short(struct pc_log *log);

/* ---- reading: ksets in order through safe reads ------------------------------------------------------------------------ */

struct pc_log_reader {
	struct pc_log *log;
	uint8_t *buf;
	uint32_t buf_slots; /* capacity */
	uint32_t ahead_slots; /* read at once, if they are there */
	uint64_t win_pos; /* what buf holds */
	uint32_t win_slots;
	uint64_t seg_pos; /* first position of the segment that was asked for last */
	uint64_t seg_nonce;
	uint64_t
		wasted_slots; /* of ksets that were read whole and did not validate: bounds the work on a hostile image */
};

int pc_log_reader_init(struct pc_log_reader *reader, struct pc_log *log); /* 0 or -ENOMEM */
/* For who reads the whole log: longer reads. */
void pc_log_reader_all(struct pc_log_reader *reader);
void pc_log_reader_fini(struct pc_log_reader *reader);
/* Slots of the durable kset at pos, from its header alone: position and nonce are compared, the CRC is not. 0: no kset of this life starts there. */
uint32_t pc_log_reader_skip(struct pc_log_reader *reader, uint64_t pos, uint64_t end_pos);
/* Forgets what was read (the log has grown since). */
void pc_log_reader_reset(struct pc_log_reader *reader);
/*
 * The kset at pos: *out_buf stays valid until the next call. PC_INVALID_* : no valid kset there; *out_buf then has its first slot, or is NULL where the media could not be read.
 */
enum pc_valid pc_log_reader_at(struct pc_log_reader *reader, uint64_t pos, uint64_t end_pos, struct pc_kset *out_kset,
			       const void **out_buf);
/* The same where a kset of one slot and one DATA key of one chunk is likely: true if it is one, and has been read already. */
bool pc_log_reader_one(struct pc_log_reader *reader, uint64_t pos, struct pc_key *out_key);

#endif
