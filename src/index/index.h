/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Index: which range of the backing is cached where. Extents never intersect.
 *
 * The space of volume blocks is cut into stripes of stripe_blk blocks; stripe s belongs to shard (hash of s) % shard_nr. Each shard has
 * a spin lock (rank PC_RANK_SHARD, sub-rank shard number) and a sorted structure of extents. A request locks all its shards in ascending order:
 * pc_index_mask gives the set, one bit per shard.
 *
 * A DATA extent lies within one CRC chunk of its allocation (at most PC_CHUNK_BYTES), so it carries exactly one CRC; a ZERO or POISON extent may
 * be any length up to its stripe. No extent crosses a stripe: insertion cuts. Cutting an extent never touches data: it moves seg_blk and widens geom.
 *
 * The index knows nothing of segments or of the log: what an insertion displaces is handed to a callback, piece by piece, under the shard lock.
 */
#ifndef PC_INDEX_INDEX_H
#define PC_INDEX_INDEX_H

#include "base/lock.h"
#include "base/types.h"

#define PC_SHARD_NR_MAX 64u

#define PC_EXT_TYPE_MASK 3u /* PC_KEY_DATA, PC_KEY_ZERO, PC_KEY_POISON of the format: 0, 1, 2 */
#define PC_EXT_DATA 0u
#define PC_EXT_ZERO 1u
#define PC_EXT_POISON 2u
#define PC_EXT_DIRTY 4u /* the backing does not have these bytes yet */
#define PC_EXT_DISCARD 8u /* ZERO that may give up space on the backing */

struct pc_extent {
	uint64_t vol_blk; /* volume << 48 | first block */
	uint64_t pos; /* log position of the kset that holds its newest key */
	uint32_t len_blk;
	uint32_t seg_id; /* DATA */
	uint32_t crc; /* DATA: of the whole chunk that geom describes */
	uint16_t seg_blk; /* DATA: block in the segment where this extent's own first block is */
	uint8_t geom; /* DATA: PC_GEOM: blocks of the chunk before and after this extent */
	uint8_t flags; /* PC_EXT_* */
};
_Static_assert(sizeof(struct pc_extent) == 32, "extent");

/*
 * A copy, field by field: what was just stored in narrow parts must not be loaded wide, or the load waits until they have left the processor's queue, behind the stores of a write's data.
 */
static inline void pc_extent_copy(struct pc_extent *to, const struct pc_extent *from)
{
	const volatile struct pc_extent *alone = from;

	to->vol_blk = alone->vol_blk;
	to->pos = alone->pos;
	to->len_blk = alone->len_blk;
	to->seg_id = alone->seg_id;
	to->crc = alone->crc;
	to->seg_blk = alone->seg_blk;
	to->geom = alone->geom;
	to->flags = alone->flags;
}

/* The part [vol_blk, vol_blk + len_blk) of an extent, which must lie inside it. */
struct pc_extent pc_extent_part(const struct pc_extent *extent, uint64_t vol_blk, uint32_t len_blk);

/* DATA extents side by side in the volume and in one segment, each as long as first, the first of them, and with a geom of 0; crcs are theirs (NULL: 0). */
struct pc_extent_run {
	const struct pc_extent *first;
	const uint32_t *crcs;
	uint32_t nr;
};

/* run begins nr extents later; first is what it points to. */
static inline void pc_extent_run_skip(struct pc_extent_run *run, struct pc_extent *first, uint32_t nr)
{
	first->vol_blk += (uint64_t)nr * first->len_blk;
	first->seg_blk = (uint16_t)(first->seg_blk + nr * first->len_blk);
	run->crcs = run->crcs != NULL ? run->crcs + nr : NULL;
	run->nr -= nr;
}

/* How new range [a, a + a_len) meets old extent [b, b + b_len): one classifier, one switch. */
enum pc_overlap {
	PC_OVERLAP_NONE,
	PC_OVERLAP_EQUAL,
	PC_OVERLAP_HEAD,
	PC_OVERLAP_TAIL,
	PC_OVERLAP_CONTAINS,
	PC_OVERLAP_CONTAINED
};
enum pc_overlap pc_overlap_classify(uint64_t new_blk, uint64_t new_len, uint64_t old_blk, uint64_t old_len);

struct pc_index;

struct pc_index_params {
	uint32_t shard_nr; /* 1 .. PC_SHARD_NR_MAX */
	uint32_t stripe_blk; /* power of two, at least a CRC chunk, at most 2^31 */
	/* What extents may hold; more aborts. Fewer bits for it cost less DRAM. */
	uint32_t segment_nr;
	uint32_t segment_blk; /* power of two, at most 2^16 */
	uint64_t slot_nr; /* positions in the index at the same time lie less than this apart: the log has no more */
	uint64_t volume_blk; /* blocks of volume 0, if there is no other volume; else UINT64_MAX */
};

int pc_index_new(const struct pc_index_params *params, struct pc_index **out_index); /* 0, -EINVAL, -ENOMEM, -errno */
void pc_index_free(struct pc_index *index);

/* The set of shards that a range touches, as a bit mask; or it together for a batch. */
uint64_t pc_index_mask(const struct pc_index *index, uint64_t vol_blk, uint64_t len_blk);
void pc_index_lock(struct pc_index *index, uint64_t mask);
void pc_index_unlock(struct pc_index *index, uint64_t mask);
/* The shard that is in charge of a block: below pc_index_shard_nr. */
uint32_t pc_index_shard_idx(const struct pc_index *index, uint64_t vol_blk);
/* First block after vol_blk that begins a stripe. */
uint64_t pc_index_stripe_end(const struct pc_index *index, uint64_t vol_blk);

/* Called for each piece that leaves the index; must not call the index. The shard of the piece is locked. */
typedef void (*pc_displaced_fn)(void *ctx, const struct pc_extent *piece);

/*
 * Makes sure that piece_nr pc_index_insert calls' worth of extents (each no longer than a chunk, or a ZERO or POISON within a stripe; count one more for every stripe border
 * that one crosses) can be inserted into each shard of mask without memory. 0 or -ENOMEM (nothing changed). The reserve lasts until the locks are dropped, and covers
 * cuts as well: each insertion or erasure may split one extent. Cheap when the reserve is there already.
 */
int pc_index_reserve_locked(struct pc_index *index, uint64_t mask, uint32_t piece_nr);

/*
 * Inserts extent, cut at stripe borders; older extents give way, whole or in part, and go to displaced (may be NULL). Cancels overlapping fills. Cannot fail.
 */
void pc_index_insert_locked(struct pc_index *index, const struct pc_extent *extent, pc_displaced_fn displaced,
			    void *ctx);

/*
 * The same for each of a run. What displaced is shown may stand for several neighbours of one segment, position and dirtiness: it is as long as all of them, and its crc and geom mean
 * nothing.
 */
void pc_index_insert_run_locked(struct pc_index *index, const struct pc_extent_run *run, pc_displaced_fn displaced,
				void *ctx);

/* Asks the processor for what a lock and an insertion at vol_blk will store to, and does not wait. No lock is needed: what it finds may be of the past. */
void pc_index_prefetch(const struct pc_index *index, uint64_t vol_blk);
/* Asks the processor for what an insertion at vol_blk will need, and does not wait. For a caller that has other work before the insertion. The shard is locked. */
void pc_index_prefetch_locked(struct pc_index *index, uint64_t vol_blk);
/* Asks for what pc_index_prefetch_locked has to look at: for a caller with many insertions, who calls this for all of them first. */
void pc_index_prefetch_node_locked(struct pc_index *index, uint64_t vol_blk);

/* Removes a range (a reserve for one piece per stripe must be there, since an extent may be split); cancels overlapping fills. */
void pc_index_erase_locked(struct pc_index *index, uint64_t vol_blk, uint64_t len_blk, pc_displaced_fn displaced,
			   void *ctx);

/*
 * Many changes of one shard, which is locked, at once: the same as if each record were inserted, or its range erased, one after the other in order of positions. Pieces that leave
 * the index go to replaced, with the position of the record that took their place. For replay: no fill may be listed, and nobody may look up without the lock. 0; -ENOMEM: the index is good only
 * for pc_index_free.
 */
#define PC_REC_ERASE 0x80u /* flag of a record beside PC_EXT_*: nothing is inserted */
#define PC_MERGE_IDX_BITS 16
#define PC_MERGE_IDX_MASK ((UINT64_C(1) << PC_MERGE_IDX_BITS) - 1)
typedef void (*pc_replaced_fn)(void *ctx, const struct pc_extent *piece, uint64_t by_pos);
struct pc_merge {
	const struct pc_extent *recs; /* in order of positions; each within a stripe of the shard */
	uint64_t
		*order; /* their numbers, in the low PC_MERGE_IDX_BITS, by first block and then by position; not kept */
	uint32_t nr; /* at least one */
	pc_replaced_fn replaced;
	void *ctx;
};
int pc_index_merge_locked(struct pc_index *index, uint32_t shard_idx, const struct pc_merge *merge);

/*
 * Copies the extents that intersect the range, clipped to it, in ascending order, at most max. Returns how many. The range must lie within shards that are locked; it may
 * span stripes.
 */
uint32_t pc_index_lookup_locked(struct pc_index *index, uint64_t vol_blk, uint64_t len_blk, struct pc_extent *out,
				uint32_t max);

/*
 * The same without a lock, within one stripe. False: somebody is changing the shard, nothing is known. True: what it gives counts if pc_index_peek_holds says so afterwards, together with
 * all that the caller has loaded in between. Until then it may be anything: extents of no time, segments that do not exist.
 */
struct pc_index_peek {
	const struct pc_spin *lock;
	uint64_t version;
	uint32_t nr; /* extents */
};
bool pc_index_peek(struct pc_index *index, uint64_t vol_blk, uint64_t len_blk, struct pc_extent *out, uint32_t max,
		   struct pc_index_peek *out_peek);

/* What a read wants to know of data that one extent has. */
struct pc_index_hit {
	uint64_t media_blk; /* seg_id * segment_blk + block in the segment */
	uint32_t seg_id;
	uint32_t crc; /* of the whole chunk that geom describes */
	uint32_t geom;
};
/* One DATA extent that has the whole range of len_blk, less than 2^32, which may lie anywhere: false also if none has. nr is not set. */
bool pc_index_peek_one(struct pc_index *index, uint64_t vol_blk, uint64_t len_blk, struct pc_index_hit *out,
		       struct pc_index_peek *out_peek);
static inline bool pc_index_peek_holds(const struct pc_index_peek *peek)
{
	return pc_spin_is_unchanged(peek->lock, peek->version);
}

/*
 * Calls fn for every extent that intersects the range and lets it change pos and flags of the copy that it is shown (they are taken over when it returns), or drop
 * the extent (PC_WALK_DROP). Whole extents are shown, not clipped ones. Needs no reserve. A drop is an erasure: it cancels overlapping fills. fn must not call the index.
 */
enum pc_walk { PC_WALK_KEEP, PC_WALK_DROP, PC_WALK_STOP };
typedef enum pc_walk (*pc_walk_fn)(void *ctx, struct pc_extent *extent);
void pc_index_walk_range_locked(struct pc_index *index, uint64_t vol_blk, uint64_t len_blk, pc_walk_fn fn, void *ctx);
/* The same over a whole shard, which must be locked. */
void pc_index_walk_shard_locked(struct pc_index *index, uint32_t shard_idx, pc_walk_fn fn, void *ctx);
/* The same from the extent at or behind from_vol_blk on, so that a long walk can let others in between. */
void pc_index_walk_shard_from_locked(struct pc_index *index, uint32_t shard_idx, uint64_t from_vol_blk, pc_walk_fn fn,
				     void *ctx);

/* A look along a shard for what is dirty and has a position in [from_pos, end_pos). */
struct pc_index_scan {
	uint64_t from_pos;
	uint64_t end_pos;
	uint64_t next_blk; /* where it goes on; UINT64_MAX: at the end of the shard */
	uint64_t end_blk; /* it goes no further for now */
};
/*
 * Copies what the next stretch of a shard, which is locked, has of that: at most max, in ascending order; returns how many. Moves next_blk on: to end_blk or beyond it if all
 * before was shown, else less, for a stretch is never long.
 */
uint32_t pc_index_scan_locked(struct pc_index *index, uint32_t shard_idx, struct pc_index_scan *scan,
			      struct pc_extent *out, uint32_t max);

/*
 * A walk over the whole index that never holds a lock for long: it takes the locks itself, looks at a few extents of one shard, goes to the next shard, and comes back until all are
 * done. Every extent that is there all the time is shown; one that is inserted meanwhile may be.
 */
struct pc_index_sweep {
	void *ctx; /* of all three */
	pc_walk_fn fn; /* PC_WALK_STOP: not now; the same extent comes again in the next stretch */
	/* After each stretch, shard still locked: it was walked from from_blk on, visited_nr extents. May be NULL. Not 0 ends the sweep. */
	int (*finish_locked)(void *ctx, uint32_t shard_idx, uint64_t from_blk, uint32_t visited_nr);
	int (*between)(void *ctx); /* After each stretch, nothing locked. May be NULL. Not 0 ends the sweep. */
};
/* 0, or what ended it. */
int pc_index_sweep(struct pc_index *index, const struct pc_index_sweep *sweep);

/*
 * A fill in flight: listed before the backing is read, cancelled by any insertion or erasure that overlaps. Embedded in the caller's frame. The range must lie
 * within one stripe.
 */
struct pc_fill {
	struct pc_fill *next; /* list of the shard; under the shard lock */
	uint64_t vol_blk;
	uint64_t len_blk;
	bool cancelled; /* under the shard lock */
	bool is_hold; /* no fill: others have to wait (core/hold.c) */
};
void pc_index_fill_list_locked(struct pc_index *index, struct pc_fill *fill);
void pc_index_fill_unlist_locked(struct pc_index *index, struct pc_fill *fill);
/* Whether a hold overlaps the range, in the shards of mask. */
bool pc_index_held_locked(struct pc_index *index, uint64_t mask, uint64_t vol_blk, uint64_t len_blk);

uint32_t pc_index_shard_nr(const struct pc_index *index);
uint64_t pc_index_extent_nr(struct pc_index *index); /* relaxed sum; needs no lock */
uint64_t pc_index_dram_bytes(struct pc_index *index); /* relaxed; all that it costs, unused memory included */

/* Every invariant: order, no overlap, no crossing of a stripe, lengths, counts. For tests and debug builds; takes the locks itself. NULL or a text. */
const char *pc_index_check(struct pc_index *index);

#endif
