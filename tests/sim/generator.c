/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Generator of the crash simulator, see generator.h. Pure: everything comes from the random numbers that it is given.
 *
 * Shapes are small on purpose: some ten segments of a few KiB, so that the log wraps, cleaning runs and segments are reused within tens of
 * operations. Rare settings (no data CRC, a fence between data and record) come up in some of the seeds.
 */
#include "sim/generator.h"

#include <stdio.h>
#include <string.h>

#include "pcache/config.h"
#include "sim/directed.h"

uint64_t pc_rng_mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

uint64_t pc_rng_next(struct pc_rng *rng)
{
	const uint64_t value = pc_rng_mix(rng->state);

	rng->state += UINT64_C(0x9e3779b97f4a7c15);
	return value;
}

uint32_t pc_rng_below(struct pc_rng *rng, uint32_t limit)
{
	return limit == 0 ? 0 : (uint32_t)((pc_rng_next(rng) >> 32) * limit >> 32);
}

bool pc_rng_chance(struct pc_rng *rng, uint32_t pct)
{
	return pc_rng_below(rng, 100) < pct;
}

/* --- the cache --- */

void pc_gen_shape(struct pc_rng *rng, struct pc_gen_shape *out_shape)
{
	struct pc_gen_shape shape = {0};
	uint64_t segment_nr;
	uint64_t record_bytes;

	shape.block_bytes = pc_rng_chance(rng, 75) ? 512 : 4096;
	if (shape.block_bytes == 512)
		shape.segment_bytes = 4096u << pc_rng_below(rng, 3);
	else
		shape.segment_bytes = pc_rng_chance(rng, 10) ? 4096u : 8192u << pc_rng_below(rng, 2);
	segment_nr = pc_rng_chance(rng, 60) ? 10 + pc_rng_below(rng, 10) : 10 + pc_rng_below(rng, 31);
	record_bytes = PC_ROUND_UP(segment_nr * 64, UINT64_C(4096));
	shape.media_bytes = PC_ROUND_UP(2 * 4096 + record_bytes, (uint64_t)shape.segment_bytes) + segment_nr * shape.segment_bytes + record_bytes + 2 * 4096;
	shape.backing_blk = shape.block_bytes == 512 ? 48 + 16 * pc_rng_below(rng, 10) : 16 + 8 * pc_rng_below(rng, 6);
	shape.shard_nr = 1u << pc_rng_below(rng, 3);
	shape.stripe_bytes = 4096u << pc_rng_below(rng, 4);
	shape.data_head_nr = pc_rng_below(rng, 4);
	shape.kset_max_keys = pc_rng_chance(rng, 50) ? 0 : 1 + pc_rng_below(rng, 4);
	shape.gc_pct = pc_rng_chance(rng, 50) ? 70 : pc_rng_below(rng, 91);
	shape.page = pc_rng_chance(rng, 25);
	shape.commit_flush = pc_rng_chance(rng, shape.page ? 80 : 25);
	shape.order_batch = pc_rng_chance(rng, 35);
	shape.data_crc = pc_rng_chance(rng, 85);
	shape.guard_fence = pc_rng_chance(rng, 12);
	shape.read_cache = pc_rng_chance(rng, 60);
	shape.full_error = pc_rng_chance(rng, 30);
	shape.write_through = pc_rng_chance(rng, 8);
	shape.warm_nr = pc_rng_chance(rng, 50) ? 0 : pc_rng_below(rng, 160);
	shape.op_nr = shape.warm_nr + 12 + pc_rng_below(rng, 50);
	shape.mix = pc_rng_below(rng, 5);
	shape.faults = !shape.write_through && pc_rng_chance(rng, 20);
	shape.old_cache = pc_rng_chance(rng, 30);
	/* New draws come last, so that the seeds in kept_seeds.txt go on meaning what they meant. */
	if (pc_rng_chance(rng, 15))
		shape.mix = 5;
	if (pc_rng_chance(rng, 4)) {
		shape.mix = 6;
		shape.page = true;
		shape.commit_flush = true;
		shape.order_batch = pc_rng_chance(rng, 70);
		shape.old_cache = false;
		shape.segment_bytes = shape.block_bytes == 512 ? 4096 : 8192;
		segment_nr = 10 + pc_rng_below(rng, 4);
		record_bytes = 4096;
		shape.media_bytes = PC_ROUND_UP(2 * 4096 + record_bytes, (uint64_t)shape.segment_bytes) + segment_nr * shape.segment_bytes + record_bytes + 2 * 4096;
		shape.warm_nr = 20 + pc_rng_below(rng, 40);
		shape.op_nr = shape.warm_nr + 60;
	}
	shape.byte = !shape.page && pc_rng_chance(rng, 15);
	*out_shape = shape;
}

void pc_gen_shape_to_text(const struct pc_gen_shape *shape, char *text, size_t text_bytes)
{
	snprintf(text, text_bytes,
		 "media %llu segment %u block %u backing %u blocks, shards %u stripe %u heads %u kset_keys %u gc %u%%, %s commit=%s ordering=%s crc=%s guard=%s "
		 "read_cache=%s full=%s%s%s%s%s, %u operations (%u warm), mix %u",
		 (unsigned long long)shape->media_bytes, shape->segment_bytes, shape->block_bytes, shape->backing_blk, shape->shard_nr, shape->stripe_bytes,
		 shape->data_head_nr, shape->kset_max_keys, shape->gc_pct, shape->page ? "page" : shape->byte ? "byte" : "cache-line", shape->commit_flush ? "flush" : "write",
		 shape->order_batch ? "batch" : "strict", shape->data_crc ? "on" : "off", shape->guard_fence ? "fence" : "crc",
		 shape->read_cache ? "on" : "off", shape->full_error ? "error" : "wait", shape->write_through ? ", backing durable at once" : "",
		 shape->faults ? ", backing fails at times" : "", shape->old_cache ? ", over an old cache" : "",
		 shape->high != 0 ? ", high counters" : "",
		 shape->op_nr, shape->warm_nr, shape->mix);
}

/* --- operations --- */

/* Weights of the kinds, in the order of enum pc_gen_kind. */
static const uint32_t mixes[7][PC_GEN_KIND_NR] = {
	/* write durable batch flush discard zeroes read writeback evict clean maintain drain reopen */
	{30, 4, 10, 8, 3, 3, 10, 12, 4, 6, 6, 2, 3}, /* a bit of everything */
	{50, 4, 12, 4, 1, 1, 4, 10, 2, 2, 4, 0, 1}, /* writers run ahead */
	{20, 4, 6, 12, 2, 2, 6, 28, 6, 10, 4, 1, 2}, /* background work keeps up */
	{20, 2, 6, 4, 2, 2, 34, 10, 8, 8, 4, 3, 2}, /* fills and eviction */
	{24, 4, 10, 6, 10, 8, 8, 12, 4, 10, 4, 2, 4}, /* zeroes and reopening */
	{44, 3, 6, 4, 14, 2, 2, 1, 20, 1, 1, 0, 1}, /* overwritten segments come back before anything is flushed */
	{64, 2, 2, 4, 2, 0, 0, 1, 24, 0, 0, 0, 1}, /* the same in a cache without a free segment: nobody waits for room */
};

static uint32_t draw_len(struct pc_rng *rng, const struct pc_gen_shape *shape)
{
	const uint32_t pct = pc_rng_below(rng, 100);

	if (pct < 45)
		return 1;
	if (pct < 75)
		return 2 + pc_rng_below(rng, 3);
	if (pct < 95)
		return 1 + pc_rng_below(rng, 12);
	return 1 + pc_rng_below(rng, PC_MIN(shape->backing_blk, 40u));
}

/* A range that meets an old one in one of the ways that ranges can meet. */
static struct pc_gen_range draw_near(struct pc_rng *rng, struct pc_gen_range old)
{
	struct pc_gen_range range = old;
	const uint32_t shift = 1 + pc_rng_below(rng, 3);

	switch (pc_rng_below(rng, 6)) {
	case 0: /* equal */
		break;
	case 1: /* over its head */
		range.blk = old.blk > shift ? old.blk - shift : 0;
		range.len_blk = old.blk - range.blk + 1 + pc_rng_below(rng, old.len_blk);
		break;
	case 2: /* over its tail */
		range.blk = old.blk + pc_rng_below(rng, old.len_blk);
		range.len_blk = old.blk + old.len_blk - range.blk + shift;
		break;
	case 3: /* contains it */
		range.blk = old.blk > shift ? old.blk - shift : 0;
		range.len_blk = old.blk - range.blk + old.len_blk + 1;
		break;
	case 4: /* contained in it */
		range.blk = old.blk + pc_rng_below(rng, old.len_blk);
		range.len_blk = 1 + pc_rng_below(rng, old.blk + old.len_blk - range.blk);
		break;
	default: /* just behind it */
		range.blk = old.blk + old.len_blk;
		range.len_blk = shift;
		break;
	}
	return range;
}

static struct pc_gen_range draw_range(struct pc_rng *rng, const struct pc_gen_shape *shape, struct pc_gen_memory *memory)
{
	struct pc_gen_range range = {0, draw_len(rng, shape)};
	const uint32_t pct = pc_rng_below(rng, 100);
	const uint32_t hot_blk = PC_MIN(12u, shape->backing_blk);

	if (memory->nr == 0 || pc_rng_chance(rng, 3))
		memory->hot_blk = pc_rng_below(rng, shape->backing_blk);
	if (pct < 45 && memory->nr != 0)
		range = draw_near(rng, memory->recent[pc_rng_below(rng, PC_MIN(memory->nr, (uint32_t)PC_ARRAY_NR(memory->recent)))]);
	else if (pct < 75)
		range.blk = (memory->hot_blk + pc_rng_below(rng, hot_blk)) % shape->backing_blk;
	else
		range.blk = pc_rng_below(rng, shape->backing_blk);
	if (range.blk >= shape->backing_blk)
		range.blk = shape->backing_blk - 1;
	if (range.len_blk > shape->backing_blk - range.blk)
		range.len_blk = shape->backing_blk - range.blk;
	memory->recent[memory->nr++ % PC_ARRAY_NR(memory->recent)] = range;
	return range;
}

void pc_gen_op(struct pc_rng *rng, const struct pc_gen_shape *shape, struct pc_gen_memory *memory, struct pc_gen_op *out_op)
{
	const uint32_t *weights = mixes[shape->mix % PC_ARRAY_NR(mixes)];
	struct pc_gen_op op = {.kind = PC_GEN_WRITE};
	uint32_t sum = 0;
	uint32_t at;

	for (uint32_t kind = 0; kind < PC_GEN_KIND_NR; kind++)
		sum += weights[kind];
	at = pc_rng_below(rng, sum);
	for (uint32_t kind = 0; kind < PC_GEN_KIND_NR; kind++) {
		if (at < weights[kind]) {
			op.kind = (enum pc_gen_kind)kind;
			break;
		}
		at -= weights[kind];
	}
	switch (op.kind) {
	case PC_GEN_BATCH:
		op.range_nr = 1 + pc_rng_below(rng, PC_GEN_RANGE_NR_MAX);
		op.arg = pc_rng_chance(rng, 15);
		break;
	case PC_GEN_WRITE:
		op.range_nr = 1;
		op.arg = pc_rng_chance(rng, shape->mix == 6 ? 90 : 10);
		break;
	case PC_GEN_DURABLE:
	case PC_GEN_DISCARD:
	case PC_GEN_ZEROES:
		op.range_nr = 1;
		break;
	case PC_GEN_READ:
		op.range_nr = 1;
		op.arg = pc_rng_chance(rng, 15) ? 2 : 0;
		break;
	case PC_GEN_MAINTAIN:
		op.arg = 1 + pc_rng_below(rng, 6);
		break;
	case PC_GEN_REOPEN:
		if (pc_rng_chance(rng, 50))
			op.arg = pc_rng_chance(rng, 60) ? 1u << pc_rng_below(rng, 8) : pc_rng_below(rng, 256);
		break;
	case PC_GEN_WRITEBACK:
	case PC_GEN_EVICT:
	case PC_GEN_CLEAN:
		op.arg = pc_rng_chance(rng, 70);
		break;
	default:
		break;
	}
	for (uint32_t i = 0; i < op.range_nr; i++) {
		op.ranges[i] = draw_range(rng, shape, memory);
		op.drawn_blk[i] = op.ranges[i].len_blk;
		if (op.kind == PC_GEN_BATCH && op.ranges[i].len_blk > 4)
			op.ranges[i].len_blk = 1 + op.ranges[i].len_blk % 4;
	}
	op.hot_blk = memory->hot_blk;
	*out_op = op;
}

void pc_gen_remember(struct pc_gen_memory *memory, const struct pc_gen_op *op)
{
	for (uint32_t i = 0; i < op->range_nr; i++) {
		struct pc_gen_range *recent = &memory->recent[memory->nr++ % PC_ARRAY_NR(memory->recent)];

		*recent = op->ranges[i];
		if (op->drawn_blk[i] != 0)
			recent->len_blk = op->drawn_blk[i];
	}
	memory->hot_blk = op->hot_blk;
}

/* Operations on the older cache; a short life of it has only writes. */
static void draw_old_ops(uint64_t seed, struct pc_gen_memory *memory, struct pc_crash_plan *plan)
{
	struct pc_rng rng = {pc_rng_mix(seed + 11)};
	const uint32_t op_nr = 10 + (pc_rng_chance(&rng, 50) ? pc_rng_below(&rng, 120) : 0);

	plan->old_op_nr = op_nr;
	plan->old_only_writes = op_nr == 10;
	for (uint32_t i = 0; i < op_nr; i++)
		pc_gen_op(&rng, &plan->shape, memory, &plan->old_ops[i]);
}

#define DIRECTED_ONE_IN 4u /* of the seeds */
#define GOING_ONE_IN 4u /* of the others: in the place of some operations the mode of writes changes */

static void draw_modes(uint64_t seed, struct pc_crash_plan *plan)
{
	static const uint8_t modes[] = {
		PCACHE_MODE_WRITEAROUND,  PCACHE_MODE_WRITEAROUND,   PCACHE_MODE_WRITEAROUND,  PCACHE_MODE_WRITEBACK,
		PCACHE_MODE_WRITEBACK,	  PCACHE_MODE_WRITETHROUGH, PCACHE_MODE_PASSTHROUGH, PCACHE_MODE_WRITEONLY,
	};
	struct pc_rng rng = {pc_rng_mix(seed + 41)};

	if (pc_rng_below(&rng, GOING_ONE_IN) != 0)
		return;
	/* What a write around the cache left in a disk that loses it when a flush fails, nobody can bring back. */
	plan->shape.faults = false;
	for (uint32_t i = 0; i < plan->op_nr; i++) {
		if (!pc_rng_chance(&rng, 12))
			continue;
		plan->ops[i] = (struct pc_gen_op){.kind = PC_GEN_GOES,
						  .arg = modes[pc_rng_below(&rng, PC_ARRAY_NR(modes))],
						  .nr = i,
						  .hot_blk = plan->ops[i].hot_blk};
	}
}

void pc_gen_plan(uint64_t seed, struct pc_crash_plan *out_plan)
{
	struct pc_rng rng = {pc_rng_mix(seed)};
	struct pc_gen_memory memory = {0};
	const uint64_t kind = pc_rng_mix(seed + 23) % (pc_directed_nr() * DIRECTED_ONE_IN);

	if (kind < pc_directed_nr()) {
		pc_directed_plan((uint32_t)kind, seed, out_plan);
		return;
	}
	memset(out_plan, 0, sizeof(*out_plan));
	pc_gen_shape(&rng, &out_plan->shape);
	if (out_plan->shape.old_cache)
		draw_old_ops(seed, &memory, out_plan);
	rng.state = pc_rng_mix(seed + 7);
	for (uint32_t i = 0; i < out_plan->shape.op_nr; i++) {
		pc_gen_op(&rng, &out_plan->shape, &memory, &out_plan->ops[i]);
		out_plan->ops[i].nr = i;
	}
	out_plan->op_nr = out_plan->shape.op_nr;
	draw_modes(seed, out_plan);
}

void pc_gen_op_to_text(const struct pc_gen_op *op, char *text, size_t text_bytes)
{
	static const char *const names[PC_GEN_KIND_NR] = {"write",	"write durable", "batch",	"flush", "discard", "write_zeroes", "read",
							  "write-back step", "evict step",    "clean step", "maintain", "drain",   "close, open", "power cut", "mode"};
	size_t used = (size_t)snprintf(text, text_bytes, "%s", names[op->kind]);

	for (uint32_t i = 0; i < op->range_nr && used < text_bytes; i++)
		used += (size_t)snprintf(text + used, text_bytes - used, " [%u,+%u)", op->ranges[i].blk, op->ranges[i].len_blk);
	if (op->arg != 0 && used < text_bytes)
		snprintf(text + used, text_bytes - used, " arg %u", op->arg);
}
