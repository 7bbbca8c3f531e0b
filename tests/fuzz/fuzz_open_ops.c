/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: a mutated image is opened, and then worked with. Input: as in scene.h, with 32 operations of 4 bytes before the image.
 *
 * What could be read after the open is the state to begin with. From there on everything is promised that is promised to any cache: reads give the newest write; a power cut,
 * with any of the pending stores and writes of the backing lost, takes nothing that was completed (or flushed, by commit mode); drains end; the run-time state is one.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz/scene.h"
#include "pcache/errors.h"
#include "sim/generator.h"

#define OP_NR 32u
#define OP_BYTES 4u
#define LEN_BLK_MAX 12u

enum op {
	OP_WRITE,
	OP_WRITE_DURABLE,
	OP_BATCH,
	OP_DISCARD,
	OP_ZEROES,
	OP_READ,
	OP_FLUSH,
	OP_WRITEBACK,
	OP_EVICT,
	OP_CLEAN,
	OP_MAINTAIN,
	OP_DRAIN,
	OP_REOPEN,
	OP_POWER_CUT,
	OP_NR_OF
};

struct work {
	struct scene *s;
	bool known[SCENE_BLOCK_NR_MAX]; /* expected says what the block reads as */
	uint64_t version;
	uint8_t io[2 * LEN_BLK_MAX * 4096];
};

/* Errors that a damaged image explains, and a full cache. */
static bool is_answer(int rc)
{
	return rc >= 0 || rc == PCACHE_E_FULL || rc == PCACHE_E_POISONED;
}

static void must_answer(int rc, const char *what)
{
	if (!is_answer(rc))
		fuzz_fail("%s gives %d", what, rc);
}

static void check_blocks(struct work *w, uint32_t blk, uint32_t len_blk)
{
	const struct scene *s = w->s;
	uint8_t block[4096];

	for (; len_blk > 0; len_blk--, blk++) {
		const int rc = scene_read(w->s, blk, block);

		if (rc != 0 && w->known[blk])
			fuzz_fail("block %u was known, and read gives %d", blk, rc);
		if (rc == 0 && w->known[blk] &&
		    memcmp(block, s->expected + (size_t)blk * s->block_bytes, s->block_bytes) != 0)
			fuzz_fail("block %u is not what was written last", blk);
	}
}

/* What a write, discard or zeroing of a range left behind. */
static void note(struct work *w, uint32_t blk, uint32_t len_blk, const uint8_t *bytes, int rc)
{
	const size_t block_bytes = w->s->block_bytes;

	for (uint32_t i = 0; i < len_blk; i++) {
		if (rc != 0 && len_blk > 1)
			w->known[blk + i] = false; /* a long one may have been cut into pieces */
		if (rc != 0)
			continue;
		w->known[blk + i] = true;
		if (bytes)
			memcpy(w->s->expected + (blk + i) * block_bytes, bytes + i * block_bytes, block_bytes);
		else
			memset(w->s->expected + (blk + i) * block_bytes, 0, block_bytes);
	}
}

static void fill(struct work *w, uint8_t *to, size_t bytes)
{
	for (size_t off = 0; off < bytes; off += 8) {
		const uint64_t word = pc_rng_mix(UINT64_C(0xabcdef) + ++w->version);

		memcpy(to + off, &word, 8);
	}
}

static void do_write(struct work *w, uint32_t blk, uint32_t len_blk, uint32_t flags)
{
	const size_t bytes = (size_t)len_blk * w->s->block_bytes;
	int rc;

	fill(w, w->io, bytes);
	rc = pcache_write(w->s->cache, w->io, (uint64_t)blk * w->s->block_bytes, bytes, flags);
	must_answer(rc, "write");
	note(w, blk, len_blk, w->io, rc);
}

static void do_batch(struct work *w, uint32_t blk, uint32_t len_blk, uint32_t other_blk)
{
	const size_t bytes = (size_t)len_blk * w->s->block_bytes;
	const uint32_t other_len = PC_MIN(len_blk, w->s->block_nr - other_blk);
	const struct pcache_range ranges[2] = {
		{ .buf = w->io, .off = (uint64_t)blk * w->s->block_bytes, .len = bytes },
		{ .buf = w->io + bytes,
		  .off = (uint64_t)other_blk * w->s->block_bytes,
		  .len = (uint64_t)other_len * w->s->block_bytes },
	};
	int rc;

	fill(w, w->io, 2 * bytes);
	rc = pcache_write_batch(w->s->cache, ranges, 2, 0);
	if (rc == PCACHE_E_TOO_BIG)
		return;
	must_answer(rc, "batch");
	if (rc != 0)
		return; /* nothing of it */
	note(w, blk, len_blk, w->io, 0);
	note(w, other_blk, other_len, w->io + bytes, 0);
}

static void do_zeroes(struct work *w, uint32_t blk, uint32_t len_blk, bool discard)
{
	const uint64_t off = (uint64_t)blk * w->s->block_bytes, bytes = (uint64_t)len_blk * w->s->block_bytes;
	const int rc =
		discard ? pcache_discard(w->s->cache, off, bytes, 0) : pcache_write_zeroes(w->s->cache, off, bytes, 0);

	must_answer(rc, discard ? "discard" : "write_zeroes");
	note(w, blk, len_blk, NULL, rc);
}

static void must_flush(struct work *w)
{
	const int rc = pcache_flush(w->s->cache);

	if (rc != 0)
		fuzz_fail("flush gives %d", rc);
}

static void open_again(struct work *w, const char *after)
{
	const int rc = scene_try_open(w->s);

	if (rc != 0)
		fuzz_fail("open after %s gives %d", after, rc);
	scene_check_state(w->s, after);
	check_blocks(w, 0, w->s->block_nr);
}

static void do_reopen(struct work *w)
{
	const int rc = pcache_close(w->s->cache);

	w->s->cache = NULL;
	if (rc != 0)
		fuzz_fail("close gives %d", rc);
	scene_check_closed(w->s, "after a close");
	open_again(w, "a close");
}

static bool keep_by_chance(void *user, uint32_t idx)
{
	const uint32_t *seed = user;

	return pc_rng_mix(*seed * UINT64_C(77) + idx) & 1;
}

static void do_power_cut(struct work *w, uint32_t arg)
{
	static uint8_t image[SCENE_MEDIA_BYTES_MAX];
	static const enum pc_sim_policy policies[] = { PC_SIM_NONE, PC_SIM_ALL, PC_SIM_RANDOM, PC_SIM_RANDOM_LINES };
	struct scene *s = w->s;
	const enum pc_sim_policy policy = policies[arg % PC_ARRAY_NR(policies)];

	if (s->bits & SCENE_COMMIT_FLUSH)
		must_flush(w);
	(void)pc_sim_crash(s->sim, policy, policy < PC_SIM_RANDOM ? 0 : arg, image);
	scene_abandon(s);
	pc_sim_reset(s->sim, image);
	mem_backing_crash(s->mb, keep_by_chance, &arg);
	scene_check_closed(s, "after a power cut");
	open_again(w, "a power cut");
}

static void do_op(struct work *w, const uint8_t *bytes)
{
	const enum op op = (enum op)(bytes[0] % OP_NR_OF);
	const uint32_t blk = bytes[1] % w->s->block_nr;
	const uint32_t len_blk = PC_MIN(1u + bytes[2] % LEN_BLK_MAX, w->s->block_nr - blk);
	const uint32_t arg = bytes[3];

	switch (op) {
	case OP_WRITE:
	case OP_WRITE_DURABLE:
		do_write(w, blk, len_blk,
			 (op == OP_WRITE_DURABLE ? PCACHE_DURABLE : 0) | (arg & 1 ? PCACHE_NOWAIT : 0));
		break;
	case OP_BATCH:
		do_batch(w, blk, PC_MIN(len_blk, 4u), arg % w->s->block_nr);
		break;
	case OP_DISCARD:
	case OP_ZEROES:
		do_zeroes(w, blk, len_blk, op == OP_DISCARD);
		break;
	case OP_READ:
		must_answer(pcache_read(w->s->cache, w->io, (uint64_t)blk * w->s->block_bytes,
					(uint64_t)len_blk * w->s->block_bytes, 0),
			    "read");
		check_blocks(w, blk, len_blk);
		break;
	case OP_FLUSH:
		must_flush(w);
		break;
	case OP_WRITEBACK:
	case OP_EVICT:
	case OP_CLEAN:
		for (uint32_t nr = 1 + arg % 8; nr > 0; nr--)
			must_answer(pc_cache_step(w->s->cache, (enum pc_step)(op - OP_WRITEBACK), (arg & 128) == 0),
				    "a step");
		break;
	case OP_MAINTAIN:
		must_answer(pcache_maintain(w->s->cache, 1 + arg % 16), "maintain");
		break;
	case OP_DRAIN:
		must_answer(pcache_drain(w->s->cache, NULL, NULL), "drain");
		break;
	case OP_REOPEN:
		do_reopen(w);
		break;
	default:
		do_power_cut(w, arg);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct work work;
	uint8_t ops[OP_NR * OP_BYTES];
	struct work *w = &work;

	w->s = scene_begin(data, len, ops, sizeof(ops));
	w->version = 0;
	if (scene_open(w->s, w->known)) {
		for (uint32_t blk = 0; blk < w->s->block_nr; blk++)
			w->known[blk] &= (!w->s->lost && !w->s->unsure[blk]) || w->s->blocks[blk] != SCENE_FROM_BACKING;
		for (uint32_t i = 0; i < OP_NR && (ops[i * OP_BYTES] | ops[i * OP_BYTES + 1] | ops[i * OP_BYTES + 2] |
						   ops[i * OP_BYTES + 3]);
		     i++)
			do_op(w, ops + i * OP_BYTES);
		scene_check_state(w->s, "after the operations");
		check_blocks(w, 0, w->s->block_nr);
	}
	scene_end(w->s);
	return 0;
}
