/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: operations with a crash string. The input is a cache, and a sequence of calls, background steps and power cuts on it; the oracle of the crash simulator (sim/oracle.h)
 * judges every read, every recovery and every write of the backing. If the input asks for it, power cuts inside of calls are explored besides, with a second one after each.
 *
 * Input: 12 bytes of settings, then operations of 4 bytes: kind, block, length, argument. PCACHE_SIM_PLANT switches on a planted defect (base/plant.h).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "sim/crash_run.h"
#include "sim/kept_text.h"
#include "sim/plants.h"

#define OP_NR_MAX 96u
#define EXPLORE 0xc0u /* both bits: one input in four */

static struct pc_crash_plan plan;
static struct pc_crash_result result;

/* By weight: what changes something stands more than once. */
static const uint8_t kinds[32] = {
	PC_GEN_WRITE,   PC_GEN_WRITE,  PC_GEN_WRITE, PC_GEN_WRITE, PC_GEN_WRITE,     PC_GEN_WRITE,     PC_GEN_DURABLE,
	PC_GEN_DURABLE, PC_GEN_BATCH,  PC_GEN_BATCH, PC_GEN_BATCH, PC_GEN_FLUSH,     PC_GEN_FLUSH,     PC_GEN_DISCARD,
	PC_GEN_DISCARD, PC_GEN_ZEROES, PC_GEN_READ,  PC_GEN_READ,  PC_GEN_WRITEBACK, PC_GEN_WRITEBACK, PC_GEN_WRITEBACK,
	PC_GEN_EVICT,   PC_GEN_EVICT,  PC_GEN_CLEAN, PC_GEN_CLEAN, PC_GEN_MAINTAIN,  PC_GEN_MAINTAIN,  PC_GEN_DRAIN,
	PC_GEN_REOPEN,  PC_GEN_REOPEN, PC_GEN_CRASH, PC_GEN_CRASH
};

static void read_shape(struct fuzz_input *in, struct pc_gen_shape *shape)
{
	const uint8_t bits = fuzz_u8(in), more = fuzz_u8(in), sizes = fuzz_u8(in), segments = fuzz_u8(in),
		      heads = fuzz_u8(in);
	const uint64_t segment_nr = 10 + segments % 16;

	memset(shape, 0, sizeof(*shape));
	shape->page = (bits & 3) == 1;
	shape->byte = (bits & 3) == 2;
	shape->commit_flush = bits & 4;
	shape->order_batch = bits & 8;
	shape->data_crc = !(bits & 16);
	shape->guard_fence = bits & 32;
	shape->read_cache = !(bits & 64);
	shape->full_error = bits & 128;
	shape->write_through = more & 1;
	shape->faults = !shape->write_through && (more & 2);
	shape->high = more >> 2 & 3;
	shape->gc_pct = more & 16 ? 70 : (more >> 5) * 12u;
	shape->block_bytes = sizes & 1 ? 4096 : 512;
	shape->segment_bytes = (sizes & 1 ? 8192u : 4096u) << (sizes >> 1) % 3;
	shape->backing_blk = sizes & 1 ? 16 + 8 * (sizes >> 3 & 3u) : 48 + 32 * (sizes >> 3 & 3u);
	shape->media_bytes = PC_ROUND_UP(3 * UINT64_C(4096), (uint64_t)shape->segment_bytes) +
			     segment_nr * shape->segment_bytes + 3 * 4096;
	shape->shard_nr = 1u << (heads & 3);
	shape->stripe_bytes = 4096u << (heads >> 2 & 3);
	shape->data_head_nr = heads >> 4 & 3;
	shape->kset_max_keys = heads >> 6;
}

static struct pc_gen_range range_of(const struct pc_gen_shape *shape, uint32_t blk, uint32_t len_blk)
{
	struct pc_gen_range range = { .blk = blk % shape->backing_blk };

	range.len_blk = PC_MIN(len_blk, shape->backing_blk - range.blk);
	return range;
}

static struct pc_gen_op read_op(struct fuzz_input *in, const struct pc_gen_shape *shape)
{
	const uint8_t kind = fuzz_u8(in), blk = fuzz_u8(in), len = fuzz_u8(in), arg = fuzz_u8(in);
	struct pc_gen_op op = { .kind = (enum pc_gen_kind)kinds[kind % PC_ARRAY_NR(kinds)], .nr = plan.op_nr };

	switch (op.kind) {
	case PC_GEN_BATCH:
		op.range_nr = 1 + len % 4;
		for (uint32_t i = 0; i < op.range_nr; i++)
			op.ranges[i] = range_of(shape, blk + i * (arg >> 1), 1 + (len >> 2) % 4);
		op.arg = arg & 1;
		break;
	case PC_GEN_WRITE:
	case PC_GEN_DURABLE:
	case PC_GEN_DISCARD:
	case PC_GEN_ZEROES:
	case PC_GEN_READ:
		op.range_nr = 1;
		op.ranges[0] = range_of(shape, blk, 1 + len % 24);
		op.arg = op.kind == PC_GEN_READ ? arg & 2 : op.kind == PC_GEN_DURABLE ? 0 : arg & 1;
		break;
	case PC_GEN_MAINTAIN:
		op.arg = 1 + arg % 16;
		break;
	case PC_GEN_REOPEN:
		op.arg = len & 1 ? arg : 0;
		break;
	case PC_GEN_CRASH:
		op.arg = (uint32_t)(blk | len << 8) | (uint32_t)arg << 24;
		break;
	case PC_GEN_FLUSH:
	case PC_GEN_DRAIN:
		break;
	default:
		op.arg = arg & 1;
		break;
	}
	return op;
}

static void switch_on_plant(void)
{
	static bool done;
	const char *plant = getenv("PCACHE_SIM_PLANT");

	if (!done && plant && !pc_plant_switch_on(plant))
		abort();
	done = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct pc_crash_settings settings = { .plan = &plan, .keep_media = true };
	struct fuzz_input in = { .at = data, .left = len };
	uint8_t explore, seed, warm;
	char text[512];

	switch_on_plant();
	read_shape(&in, &plan.shape);
	explore = fuzz_u8(&in);
	seed = fuzz_u8(&in);
	warm = fuzz_u8(&in);
	for (unsigned int i = 0; i < 4; i++)
		(void)fuzz_u8(&in); /* for settings to come */
	for (plan.op_nr = 0; in.left >= 2 && plan.op_nr < OP_NR_MAX; plan.op_nr++)
		plan.ops[plan.op_nr] = read_op(&in, &plan.shape);
	plan.shape.op_nr = plan.op_nr;
	plan.shape.warm_nr = (explore & EXPLORE) == EXPLORE ? warm % (plan.op_nr + 1) : plan.op_nr;
	if (!pc_kept_plan_fits(&plan, text, sizeof(text)))
		return 0;
	/* A seed that 4 divides explores the format, too: its own place is the simulator. */
	settings.seed = 4 * (uint64_t)seed + 1 + (seed & 1);
	settings.depth = plan.shape.warm_nr == plan.op_nr ? 0 : 1 + (explore >> 5 & 1);
	settings.states_max = 1 + (explore & 15u);
	pc_crash_run(&settings, &result);
	if (result.failed) {
		settings.op_limit = 0;
		pc_crash_print_plan(&settings);
		fuzz_fail("%s", result.text);
	}
	return 0;
}
