/* SPDX-License-Identifier: BSD-3-Clause */
/* Directed generators, see directed.h. Pure: everything comes from the seed. */
#include "sim/directed.h"

#include <string.h>

struct build {
	struct pc_crash_plan *plan;
	struct pc_rng rng;
};

#define BIT(what) (UINT32_C(1) << PC_REACHED_##what)

/* --- operations --- */

static struct pc_gen_op *add(struct build *b, enum pc_gen_kind kind, uint32_t arg)
{
	struct pc_gen_op *op = &b->plan->ops[PC_MIN(b->plan->op_nr, PC_CRASH_OP_NR_MAX - 1u)];

	memset(op, 0, sizeof(*op));
	op->kind = kind;
	op->arg = arg;
	op->nr = b->plan->op_nr;
	if (b->plan->op_nr < PC_CRASH_OP_NR_MAX)
		b->plan->op_nr++;
	return op;
}

static void add_range(struct build *b, enum pc_gen_kind kind, uint32_t blk, uint32_t len_blk)
{
	const uint32_t backing_blk = b->plan->shape.backing_blk;
	struct pc_gen_op *op = add(b, kind, 0);

	blk %= backing_blk;
	op->range_nr = 1;
	op->ranges[0] = (struct pc_gen_range){blk, PC_MIN(PC_MAX(len_blk, 1u), backing_blk - blk)};
}

static void add_batch(struct build *b, uint32_t range_nr)
{
	struct pc_gen_op *op = add(b, PC_GEN_BATCH, 0);

	op->range_nr = PC_MIN(range_nr, PC_GEN_RANGE_NR_MAX);
	for (uint32_t i = 0; i < op->range_nr; i++)
		op->ranges[i] = (struct pc_gen_range){pc_rng_below(&b->rng, b->plan->shape.backing_blk), 1};
}

static uint32_t any_blk(struct build *b)
{
	return pc_rng_below(&b->rng, b->plan->shape.backing_blk);
}

static void add_write(struct build *b, uint32_t len_max)
{
	const uint32_t len_blk = 1 + pc_rng_below(&b->rng, len_max);

	add_range(b, PC_GEN_WRITE, any_blk(b), len_blk);
}

/* The arguments of a call are evaluated in any order, so none of them draws twice. */
static void add_zeroes(struct build *b, uint32_t zeroes_pct)
{
	const uint32_t blk = any_blk(b);

	add_range(b, pc_rng_chance(&b->rng, zeroes_pct) ? PC_GEN_ZEROES : PC_GEN_DISCARD, blk, 1);
}

static void add_either(struct build *b, uint32_t first_pct, enum pc_gen_kind first, enum pc_gen_kind second, uint32_t arg)
{
	(void)add(b, pc_rng_chance(&b->rng, first_pct) ? first : second, arg);
}

/* Background work, with these chances in percent. */
static void work(struct build *b, uint32_t writeback_pct, uint32_t evict_pct, uint32_t clean_pct)
{
	if (pc_rng_chance(&b->rng, writeback_pct))
		(void)add(b, PC_GEN_WRITEBACK, 1);
	if (pc_rng_chance(&b->rng, evict_pct))
		(void)add(b, PC_GEN_EVICT, 1);
	if (pc_rng_chance(&b->rng, clean_pct))
		(void)add(b, PC_GEN_CLEAN, 1);
}

static bool room_for(const struct build *b, uint32_t op_nr)
{
	return b->plan->op_nr + op_nr <= PC_CRASH_OP_NR_MAX;
}

/* Segments as small as they may be, so that a log segment is full after 64 slots. */
static void small_segments(struct build *b, uint32_t segment_nr)
{
	struct pc_gen_shape *shape = &b->plan->shape;

	shape->segment_bytes = 4096;
	shape->media_bytes = (6 + segment_nr) * UINT64_C(4096);
}

/* --- kinds: each adjusts the shape that was drawn, and adds its operations --- */

/* Many more live blocks than the cache has, and little write-back. */
static void full_data(struct build *b)
{
	struct pc_gen_shape *shape = &b->plan->shape;
	const uint32_t segment_blk = shape->segment_bytes / shape->block_bytes;
	const uint32_t op_nr = 60 + pc_rng_below(&b->rng, 60);

	shape->backing_blk = PC_MIN(PC_MAX(24 * segment_blk, 32u), 256u);
	for (uint32_t i = 0; i < op_nr; i++) {
		add_write(b, PC_MAX(segment_blk + segment_blk / 2, 3u));
		if (pc_rng_chance(&b->rng, 8))
			(void)add(b, PC_GEN_FLUSH, 0);
		work(b, 6, 4, 2);
	}
}

/* Ksets of one slot that are never written back, until the log may not grow. */
static void full_log(struct build *b)
{
	const uint32_t op_nr = 300 + pc_rng_below(&b->rng, 60);

	small_segments(b, 12 + pc_rng_below(&b->rng, 8));
	for (uint32_t i = 0; i < op_nr && room_for(b, 4); i++) {
		if (pc_rng_chance(&b->rng, 92))
			add_zeroes(b, 80);
		else
			add_batch(b, 6);
		if (pc_rng_chance(&b->rng, 2))
			(void)add(b, PC_GEN_FLUSH, 0);
		if (i > op_nr * 3 / 4)
			work(b, 2, 0, 3);
	}
}

/* Batches of several slots and ksets of one, with enough background work that the log goes on. */
static void log_wrap(struct build *b)
{
	small_segments(b, 10 + pc_rng_below(&b->rng, 6));
	while (room_for(b, 8)) {
		add_batch(b, 1 + pc_rng_below(&b->rng, 6));
		if (pc_rng_chance(&b->rng, 50))
			add_range(b, PC_GEN_ZEROES, any_blk(b), 1);
		if (pc_rng_chance(&b->rng, 10))
			(void)add(b, PC_GEN_FLUSH, 0);
		work(b, 25, 4, 12);
	}
}

/* Live clean keys in the oldest segments of a log that writers cannot make longer: cleaning and flushes have the reserve alone. */
static void last_slots(struct build *b)
{
	const uint32_t backing_blk = b->plan->shape.backing_blk;

	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 40; i++)
			add_range(b, PC_GEN_WRITE, i * 2 + round, 1);
		/* To the end of the segment, so that nothing dirty lies in it. */
		for (uint32_t i = 0; i < 40; i++)
			add_range(b, PC_GEN_ZEROES, backing_blk - 1, 1);
		(void)add(b, PC_GEN_DRAIN, 0);
		for (uint32_t i = 0; i < 220; i++) {
			add_range(b, PC_GEN_ZEROES, backing_blk - 1 - i % 16 % backing_blk, 1);
			b->plan->ops[b->plan->op_nr - 1].arg = 1; /* does not wait for room */
		}
		for (uint32_t i = 0; i < 6; i++) {
			add_either(b, 60, PC_GEN_CLEAN, PC_GEN_FLUSH, pc_rng_chance(&b->rng, 80));
			if (b->plan->ops[b->plan->op_nr - 1].kind == PC_GEN_FLUSH)
				b->plan->ops[b->plan->op_nr - 1].arg = 0;
			if (pc_rng_chance(&b->rng, 20))
				(void)add(b, PC_GEN_REOPEN, 0);
		}
	}
}

/* Many live clean keys, split, and a log that is cleaned again and again; sometimes when only the reserve is left. */
static void cleaning(struct build *b)
{
	struct pc_gen_shape *shape = &b->plan->shape;
	const uint32_t slots = 64;

	small_segments(b, 12 + pc_rng_below(&b->rng, 6));
	shape->kset_max_keys = pc_rng_chance(&b->rng, 50) ? 1 : 0;
	if (pc_rng_chance(&b->rng, 50)) {
		last_slots(b);
		return;
	}
	for (uint32_t round = 0; round < 3 && room_for(b, 3 * slots / 2 + 40); round++) {
		for (uint32_t i = 0; i < 12; i++)
			add_write(b, 5);
		for (uint32_t i = 0; i < 6; i++)
			add_range(b, PC_GEN_WRITE, b->plan->ops[b->plan->op_nr - 12].ranges[0].blk + 1, 1);
		(void)add(b, PC_GEN_DRAIN, 0);
		/* The log moves on without data. */
		for (uint32_t i = 0; i < slots + slots / 2 && room_for(b, 16); i++)
			add_range(b, PC_GEN_ZEROES, shape->backing_blk - 1 - pc_rng_below(&b->rng, 8), 1);
		if (pc_rng_chance(&b->rng, 70))
			(void)add(b, PC_GEN_DRAIN, 0);
		for (uint32_t i = 0; i < 4; i++)
			work(b, 20, 5, 90);
	}
}

/* Records and positions begin where 32 bits, or a sign, would end. */
static void high_counters(struct build *b)
{
	const uint32_t op_nr = 80 + pc_rng_below(&b->rng, 200);

	b->plan->shape.high = 1 + pc_rng_below(&b->rng, 3);
	for (uint32_t i = 0; i < op_nr && room_for(b, 6); i++) {
		if (pc_rng_chance(&b->rng, 50))
			add_range(b, PC_GEN_ZEROES, any_blk(b), 1);
		else
			add_batch(b, 1 + pc_rng_below(&b->rng, 6));
		if (pc_rng_chance(&b->rng, 15))
			(void)add(b, PC_GEN_FLUSH, 0);
		if (pc_rng_chance(&b->rng, 3))
			(void)add(b, PC_GEN_REOPEN, 0);
		work(b, 20, 6, 10);
	}
}

/* Opens without writes in between. */
static void reopens(struct build *b)
{
	for (uint32_t i = 0; i < 6; i++)
		add_write(b, 6);
	for (uint32_t i = 0; i < 40; i++) {
		add_either(b, 70, PC_GEN_REOPEN, PC_GEN_CRASH, (uint32_t)pc_rng_next(&b->rng) & 0xffffff);
		if (pc_rng_chance(&b->rng, 8))
			add_write(b, 4);
		work(b, 4, 2, 2);
	}
}

/* Power cuts one after the other, most of them inside the open after the last one; torn ends of the log add up. */
static void torn_opens(struct build *b)
{
	for (uint32_t i = 0; i < 30; i++) {
		for (uint32_t j = pc_rng_below(&b->rng, 4); j > 0; j--)
			add_write(b, 4);
		if (pc_rng_chance(&b->rng, 30))
			add_batch(b, 6);
		work(b, 15, 5, 8);
		(void)add(b, PC_GEN_CRASH, (uint32_t)pc_rng_next(&b->rng) | 0x80000000u);
	}
}

/* Small writes by several data heads, closed part-filled by each open. */
static void part_filled(struct build *b)
{
	b->plan->shape.data_head_nr = 2 + pc_rng_below(&b->rng, 3);
	for (uint32_t i = 0; i < 30; i++) {
		for (uint32_t j = 1 + pc_rng_below(&b->rng, 3); j > 0; j--)
			add_write(b, 2);
		add_either(b, 60, PC_GEN_REOPEN, PC_GEN_CRASH, (uint32_t)pc_rng_next(&b->rng) & 0xffffff);
		work(b, 15, 10, 5);
	}
}

/* Long writes, cut by short ones into as many fragments as there can be; then cleaning and reading of the fragments. */
static void splits(struct build *b)
{
	const struct pc_gen_shape *shape = &b->plan->shape;
	const uint32_t len_blk = PC_MIN(shape->backing_blk, 2 * shape->segment_bytes / shape->block_bytes);

	for (uint32_t round = 0; round < 4; round++) {
		const uint32_t blk = pc_rng_below(&b->rng, shape->backing_blk - len_blk + 1);

		add_range(b, PC_GEN_WRITE, blk, len_blk);
		if (pc_rng_chance(&b->rng, 50))
			(void)add(b, PC_GEN_DRAIN, 0);
		for (uint32_t i = pc_rng_below(&b->rng, 2); i < len_blk && i < 40; i += 2)
			add_range(b, pc_rng_chance(&b->rng, 70) ? PC_GEN_WRITE : PC_GEN_DISCARD, blk + i, 1);
		work(b, 50, 30, 60);
		add_range(b, PC_GEN_READ, blk, len_blk);
		if (pc_rng_chance(&b->rng, 30))
			(void)add(b, PC_GEN_REOPEN, 0);
	}
}

/* One write in each epoch, and a write-back that comes late. */
static void epochs(struct build *b)
{
	b->plan->shape.order_batch = false;
	for (uint32_t i = 0; i < 60; i++) {
		const uint32_t len_blk = 1 + pc_rng_below(&b->rng, 4);

		add_range(b, PC_GEN_WRITE, pc_rng_below(&b->rng, PC_MIN(b->plan->shape.backing_blk, 12u)), len_blk);
		(void)add(b, PC_GEN_FLUSH, 0);
		work(b, i > 30 ? 12 : 2, 2, 2);
	}
}

/* Discards and zeroes over everything. */
static void discard_all(struct build *b)
{
	const uint32_t backing_blk = b->plan->shape.backing_blk;

	for (uint32_t round = 0; round < 8; round++) {
		for (uint32_t i = 0; i < 5; i++)
			add_write(b, 8);
		if (pc_rng_chance(&b->rng, 40))
			(void)add(b, pc_rng_chance(&b->rng, 50) ? PC_GEN_DRAIN : PC_GEN_FLUSH, 0);
		add_range(b, pc_rng_chance(&b->rng, 60) ? PC_GEN_DISCARD : PC_GEN_ZEROES, 0, backing_blk);
		if (pc_rng_chance(&b->rng, 40))
			add_range(b, PC_GEN_DISCARD, 0, backing_blk);
		work(b, 40, 30, 20);
		if (pc_rng_chance(&b->rng, 20))
			(void)add(b, PC_GEN_REOPEN, 0);
	}
}

/* Every other flush of the backing fails. */
static void flush_fails(struct build *b)
{
	b->plan->shape.write_through = false;
	b->plan->shape.faults = true;
	b->plan->shape.flush_fault_pct = 50;
	for (uint32_t i = 0; i < 50; i++) {
		add_write(b, 6);
		if (pc_rng_chance(&b->rng, 30))
			(void)add(b, PC_GEN_FLUSH, 0);
		if (pc_rng_chance(&b->rng, 8))
			(void)add(b, PC_GEN_DRAIN, 0);
		work(b, 50, 10, 6);
	}
}

/*
 * Page granularity: data that is durable, and dirty, is overwritten by what is not, and its segment comes back at once, since no other is free: the log has taken the last
 * one. Only then does a segment's record become durable in the same sync as what emptied the segment.
 */
static void freed_pending(struct build *b)
{
	struct pc_gen_shape *shape = &b->plan->shape;
	const uint32_t segment_nr = 9 + pc_rng_below(&b->rng, 5);

	shape->block_bytes = 512;
	shape->backing_blk = 160;
	shape->data_head_nr = 1;
	shape->page = true;
	shape->commit_flush = true;
	shape->order_batch = pc_rng_chance(&b->rng, 90);
	shape->gc_pct = 90;
	shape->faults = false;
	small_segments(b, segment_nr);
	for (uint32_t round = 0; round < 3; round++) {
		/* Three segments are the log's by now, it takes a fourth for the first write, and one is left to it; one write more would find the cache full and drain it. */
		for (uint32_t i = 0; i < segment_nr - 5; i++) {
			add_range(b, PC_GEN_WRITE, i * 8, 8);
			b->plan->ops[b->plan->op_nr - 1].arg = 1; /* nobody waits: that would write back */
		}
		(void)add(b, PC_GEN_FLUSH, 0);
		for (uint32_t i = 0; i < 2 + pc_rng_below(&b->rng, 3); i++)
			add_range(b, pc_rng_chance(&b->rng, 50) ? PC_GEN_ZEROES : PC_GEN_DISCARD, i * 8, 8);
		(void)add(b, PC_GEN_EVICT, 1);
		for (uint32_t i = 0; i < 2; i++) {
			add_range(b, PC_GEN_WRITE, any_blk(b) / 8 * 8, 8);
			b->plan->ops[b->plan->op_nr - 1].arg = 1;
		}
		if (pc_rng_chance(&b->rng, 50))
			(void)add(b, PC_GEN_DRAIN, 0);
		work(b, 0, 50, 50);
	}
}

static const struct {
	const char *name;
	const char *help;
	void (*fn)(struct build *b);
	uint32_t aims; /* counters */
	uint32_t crash_nr; /* operations at the end that have crash points; 0: all */
} kinds[] = {
	{"full-data", "nearly full of dirty data", full_data, BIT(DATA_FULL) | BIT(NO_FREE_SEGS), 40},
	{"full-log", "the log is as long as it may be", full_log, BIT(LOG_FULL) | BIT(DATA_FULL), 40},
	{"log-wrap", "the ring of log segments goes round several times", log_wrap, BIT(LOG_ROUNDS) | BIT(LOG_LAST_SLOT) | BIT(LOG_PADS), 40},
	{"cleaning", "many live clean keys, fragments, the reserve of the log used", cleaning, BIT(CLEANED_SEGS) | BIT(RELOGGED_SLOTS) | BIT(LOG_RESERVE), 40},
	{"high-counters", "positions, generations and sequence numbers beyond 32 bits", high_counters, BIT(HIGH_COUNTERS), 40},
	{"reopens", "many opens without writes", reopens, BIT(IDLE_REOPENS) | BIT(REOPENS), 20},
	{"torn-opens", "power cuts inside open, again and again", torn_opens, BIT(CRASHES) | BIT(CUT_OPENS), 40},
	{"part-filled", "data segments that an open finds part-filled", part_filled, BIT(PART_FILLED), 40},
	{"splits", "writes cut into many fragments", splits, BIT(FRAGMENTS), 40},
	{"epochs", "an epoch for each write, write-back late", epochs, BIT(EPOCHS), 40},
	{"discard-all", "discards and zeroes over everything", discard_all, BIT(DISCARD_ALL), 0},
	{"freed-pending", "segments come back before what overwrote them is durable", freed_pending, BIT(NO_FREE_SEGS), 0},
	{"flush-fails", "flushes of the backing fail often", flush_fails, BIT(BACKING_ERRORS) | BIT(FLUSH_ERRORS), 0},
};

uint32_t pc_directed_nr(void)
{
	return (uint32_t)PC_ARRAY_NR(kinds);
}

const char *pc_directed_name(uint32_t kind)
{
	return kinds[kind].name;
}

const char *pc_directed_help(uint32_t kind)
{
	return kinds[kind].help;
}

bool pc_directed_find(const char *name, uint32_t *out_kind)
{
	for (uint32_t i = 0; i < PC_ARRAY_NR(kinds); i++) {
		if (strcmp(kinds[i].name, name) != 0)
			continue;
		if (out_kind != NULL)
			*out_kind = i;
		return true;
	}
	return false;
}

bool pc_directed_aims_at(uint32_t kind, enum pc_reached what)
{
	return (kinds[kind].aims >> what & 1) != 0;
}

void pc_directed_plan(uint32_t kind, uint64_t seed, struct pc_crash_plan *out_plan)
{
	struct build b = {.plan = out_plan, .rng = {pc_rng_mix(seed + 19)}};
	const uint32_t crash_nr = kinds[kind].crash_nr;

	memset(out_plan, 0, sizeof(*out_plan));
	pc_gen_shape(&b.rng, &out_plan->shape);
	out_plan->shape.old_cache = false;
	out_plan->directed = kind + 1;
	kinds[kind].fn(&b);
	out_plan->shape.op_nr = out_plan->op_nr;
	out_plan->shape.warm_nr = crash_nr == 0 || crash_nr > out_plan->op_nr ? 0 : out_plan->op_nr - crash_nr;
}

/* --- counters --- */

static const char *const reached_names[PC_REACHED_NR] = {
	[PC_REACHED_DATA_FULL] = "full",
	[PC_REACHED_NO_FREE_SEGS] = "no_free_segments",
	[PC_REACHED_LOG_FULL] = "log_full",
	[PC_REACHED_LOG_RESERVE] = "log_reserve_used",
	[PC_REACHED_LOG_SEGS] = "log_segments",
	[PC_REACHED_LOG_ROUNDS] = "log_rounds",
	[PC_REACHED_LOG_LAST_SLOT] = "log_last_slot",
	[PC_REACHED_LOG_PADS] = "log_pads",
	[PC_REACHED_CLEANED_SEGS] = "cleaned_segments",
	[PC_REACHED_RELOGGED_SLOTS] = "relogged_slots",
	[PC_REACHED_EVICTED_SEGS] = "evicted_segments",
	[PC_REACHED_WRITEBACKS] = "backing_flushes",
	[PC_REACHED_REOPENS] = "reopens",
	[PC_REACHED_IDLE_REOPENS] = "idle_reopens",
	[PC_REACHED_CRASHES] = "crashes",
	[PC_REACHED_CUT_OPENS] = "cut_opens",
	[PC_REACHED_PART_FILLED] = "part_filled_segments",
	[PC_REACHED_FRAGMENTS] = "extents_max",
	[PC_REACHED_EPOCHS] = "epochs_max",
	[PC_REACHED_DISCARD_ALL] = "discards_of_all",
	[PC_REACHED_BACKING_ERRORS] = "backing_errors",
	[PC_REACHED_FLUSH_ERRORS] = "flush_errors",
	[PC_REACHED_HIGH_COUNTERS] = "high_counters",
};

const char *pc_reached_name(enum pc_reached what)
{
	return reached_names[what];
}

bool pc_reached_is_max(enum pc_reached what)
{
	return what == PC_REACHED_FRAGMENTS || what == PC_REACHED_EPOCHS || what == PC_REACHED_LOG_ROUNDS;
}
