/* SPDX-License-Identifier: BSD-3-Clause */
/* Enumeration of short sequences, see exhaustive.h. Pure. */
#include "sim/exhaustive.h"

#include <string.h>

#define BACKING_BLK 24u
#define SEGMENT_NR 10u
#define SLOT_NR 64u /* of a log segment of 4096 bytes */
#define R_BLK 8u
#define R_LEN 4u

static const enum pc_gen_kind range_kinds[] = {PC_GEN_WRITE, PC_GEN_BATCH, PC_GEN_DISCARD, PC_GEN_ZEROES, PC_GEN_READ, PC_GEN_DURABLE};
static const struct {
	enum pc_gen_kind kind;
	uint32_t arg; /* of steps: forced; of opens: the mode that changes, see crash_mode.c */
} others[] = {
	{PC_GEN_FLUSH, 0}, {PC_GEN_WRITEBACK, 1}, {PC_GEN_EVICT, 1}, {PC_GEN_CLEAN, 1}, {PC_GEN_REOPEN, 0}, {PC_GEN_REOPEN, 1 /* ordering */}, {PC_GEN_REOPEN, 2 /* commit */},
};
#define OTHER_NR ((uint32_t)PC_ARRAY_NR(others))

static const struct pc_gen_range overlaps[PC_OVERLAP_NR] = {
	[PC_OVERLAP_EQUAL] = {R_BLK, R_LEN},	   [PC_OVERLAP_HEAD] = {R_BLK - 2, 4},	      [PC_OVERLAP_TAIL] = {R_BLK + 2, 4},
	[PC_OVERLAP_CONTAIN] = {R_BLK - 1, R_LEN + 2}, [PC_OVERLAP_CONTAINED] = {R_BLK + 1, 2}, [PC_OVERLAP_DISJOINT] = {R_BLK + 8, 4},
};

/* --- caches --- */

/* Bits of the number of a shape. */
enum { SHAPE_COMMIT_FLUSH = 1, SHAPE_BATCH = 2, SHAPE_NO_CRC = 4, SHAPE_PAGE = 8, SHAPE_BYTE = 16, SHAPE_NR = 24 };

static struct pc_gen_shape shape_of(uint32_t idx)
{
	const uint64_t zone_bytes = 3 * 4096; /* superblock, tail record, segment records */
	struct pc_gen_shape shape = {
		.media_bytes = 2 * zone_bytes + SEGMENT_NR * 4096,
		.segment_bytes = 4096,
		.block_bytes = 512,
		.backing_blk = BACKING_BLK,
		.shard_nr = 2,
		.stripe_bytes = 4096,
		.data_head_nr = 1,
		.gc_pct = 70,
		.read_cache = true,
		.full_error = true,
	};

	shape.commit_flush = (idx & SHAPE_COMMIT_FLUSH) != 0;
	shape.order_batch = (idx & SHAPE_BATCH) != 0;
	shape.data_crc = (idx & SHAPE_NO_CRC) == 0;
	shape.page = (idx & SHAPE_PAGE) != 0;
	shape.byte = (idx & SHAPE_BYTE) != 0;
	return shape;
}

uint32_t pc_exhaustive_shape_nr(void)
{
	return SHAPE_NR;
}

/* Kinds with a range that this cache has: the durable write comes last. */
static uint32_t range_kind_nr(uint32_t shape_idx)
{
	return (uint32_t)PC_ARRAY_NR(range_kinds) - ((shape_idx & SHAPE_COMMIT_FLUSH) == 0);
}

/* Symbols: kind * PC_OVERLAP_NR + overlap for those with a range, the others behind them. */
static uint32_t symbol_nr(uint32_t shape_idx)
{
	return range_kind_nr(shape_idx) * PC_OVERLAP_NR + OTHER_NR;
}

static bool has_range(uint32_t shape_idx, uint32_t symbol)
{
	return symbol < range_kind_nr(shape_idx) * PC_OVERLAP_NR;
}

/* --- counting --- */

static uint64_t power(uint64_t base, uint32_t exponent)
{
	uint64_t value = 1;

	while (exponent-- > 0)
		value *= base;
	return value;
}

/* With R absent: free operations without a range, then the first one with a range, of each kind in one way, then anything. */
static uint64_t absent_count(uint32_t shape_idx, uint32_t len)
{
	uint64_t count = power(OTHER_NR, len);

	for (uint32_t i = 0; i < len; i++)
		count += power(OTHER_NR, i) * range_kind_nr(shape_idx) * power(symbol_nr(shape_idx), len - 1 - i);
	return count;
}

uint64_t pc_exhaustive_count(uint32_t len)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < SHAPE_NR; i++)
		count += (PC_LIES_NR - 1) * power(symbol_nr(i), len) + absent_count(i, len);
	return count;
}

const char *pc_exhaustive_help(void)
{
	return "Operations: write, durable write, batch, discard, write_zeroes, read that fills, each over a range that is equal to one that is there, over its head, over its\n"
	       "tail, around it, inside it, elsewhere; flush, write-back step, evict step, cleaning step, close and open, the same with another ordering, with another commit mode; a crash at every point of each of them, after which\n"
	       "the rest goes on. What lies there is absent, clean, dirty or aged. (A fill in flight needs a second thread: see pcache-sched-sim.)\n";
}

/* --- enumeration --- */

static bool is_canonical(const struct pc_exhaustive *e, uint32_t *out_at)
{
	if (e->lies != PC_LIES_ABSENT)
		return true;
	for (uint32_t i = 0; i < e->len; i++) {
		if (!has_range(e->shape_idx, e->symbols[i]))
			continue;
		*out_at = i;
		return e->symbols[i] % PC_OVERLAP_NR == PC_OVERLAP_EQUAL;
	}
	return true;
}

/* Counts up at a place, everything behind it to 0. False: there is no more. */
static bool step(struct pc_exhaustive *e, uint32_t at)
{
	memset(&e->symbols[at + 1], 0, (PC_EXHAUSTIVE_LEN_MAX - at - 1) * sizeof(e->symbols[0]));
	for (;;) {
		if (++e->symbols[at] < symbol_nr(e->shape_idx))
			return true;
		e->symbols[at] = 0;
		if (at-- != 0)
			continue;
		at = 0;
		if (++e->lies == PC_LIES_NR) {
			e->lies = 0;
			e->shape_idx++;
		}
		return e->shape_idx < SHAPE_NR;
	}
}

void pc_exhaustive_begin(struct pc_exhaustive *e, uint32_t len)
{
	memset(e, 0, sizeof(*e));
	e->len = len;
}

bool pc_exhaustive_next(struct pc_exhaustive *e)
{
	uint32_t at = e->len - 1;

	if (!e->begun) {
		e->begun = true;
		return e->len != 0;
	}
	do {
		if (!step(e, at))
			return false;
		at = e->len - 1;
	} while (!is_canonical(e, &at));
	return true;
}

static bool same_begin(const struct pc_exhaustive *a, const struct pc_exhaustive *b, uint32_t at)
{
	return a->shape_idx == b->shape_idx && a->lies == b->lies && memcmp(a->symbols, b->symbols, (at + 1) * sizeof(a->symbols[0])) == 0;
}

uint64_t pc_exhaustive_skip(struct pc_exhaustive *e, uint32_t at)
{
	struct pc_exhaustive ahead = *e;
	uint64_t count = 0;

	while (pc_exhaustive_next(&ahead) && same_begin(&ahead, e, at)) {
		*e = ahead;
		count++;
	}
	return count;
}

/* --- plans --- */

static struct pc_gen_op *add(struct pc_crash_plan *plan, enum pc_gen_kind kind)
{
	struct pc_gen_op *op = &plan->ops[plan->op_nr++];

	memset(op, 0, sizeof(*op));
	op->kind = kind;
	return op;
}

static void add_range(struct pc_crash_plan *plan, enum pc_gen_kind kind, struct pc_gen_range range)
{
	struct pc_gen_op *op = add(plan, kind);

	op->range_nr = 1;
	op->ranges[0] = range;
	if (kind == PC_GEN_BATCH) { /* of two ranges in two shards */
		op->range_nr = 2;
		op->ranges[1] = (struct pc_gen_range){BACKING_BLK - 1, 1};
	}
}

static void add_set_up(struct pc_crash_plan *plan, uint32_t lies)
{
	if (lies == PC_LIES_ABSENT)
		return;
	add_range(plan, PC_GEN_WRITE, overlaps[PC_OVERLAP_EQUAL]);
	if (lies == PC_LIES_DIRTY)
		return;
	add(plan, PC_GEN_DRAIN);
	if (lies != PC_LIES_AGED)
		return;
	/* Zeroes take a slot each and no data. */
	for (uint32_t i = 0; i < SLOT_NR - 6; i++)
		add_range(plan, PC_GEN_ZEROES, (struct pc_gen_range){0, 1});
	add(plan, PC_GEN_DRAIN);
}

void pc_exhaustive_plan(const struct pc_exhaustive *e, struct pc_crash_plan *out_plan)
{
	out_plan->shape = shape_of(e->shape_idx);
	out_plan->op_nr = 0;
	out_plan->old_op_nr = 0;
	add_set_up(out_plan, e->lies);
	out_plan->shape.warm_nr = out_plan->op_nr;
	for (uint32_t i = 0; i < e->len; i++) {
		const uint32_t symbol = e->symbols[i];

		if (has_range(e->shape_idx, symbol)) {
			add_range(out_plan, range_kinds[symbol / PC_OVERLAP_NR], overlaps[symbol % PC_OVERLAP_NR]);
		} else {
			const uint32_t other = symbol - range_kind_nr(e->shape_idx) * PC_OVERLAP_NR;

			add(out_plan, others[other].kind)->arg = others[other].arg;
		}
	}
	out_plan->shape.op_nr = out_plan->op_nr;
}
