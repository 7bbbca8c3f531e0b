/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A violation that was found once, as a test: operations and power cuts as tables. pcache-crash-sim --emit-test writes such tests.
 *
 * kept_holds goes the way that is given, and then explores the crash states around it, since the numbers of crash points and words move when the library
 * changes.
 */
#ifndef PC_SIM_KEPT_H
#define PC_SIM_KEPT_H

#include "sim/kept_text.h"

/* Operations. */
#define KEPT_WRITE(blk, len) {.kind = PC_GEN_WRITE, .range_nr = 1, .ranges = {{blk, len}}}
#define KEPT_WRITE_NOWAIT(blk, len) {.kind = PC_GEN_WRITE, .range_nr = 1, .ranges = {{blk, len}}, .arg = 1}
#define KEPT_DURABLE(blk, len) {.kind = PC_GEN_DURABLE, .range_nr = 1, .ranges = {{blk, len}}}
#define KEPT_DISCARD(blk, len) {.kind = PC_GEN_DISCARD, .range_nr = 1, .ranges = {{blk, len}}}
#define KEPT_ZEROES(blk, len) {.kind = PC_GEN_ZEROES, .range_nr = 1, .ranges = {{blk, len}}}
#define KEPT_DISCARD_NOWAIT(blk, len) {.kind = PC_GEN_DISCARD, .range_nr = 1, .ranges = {{blk, len}}, .arg = 1}
#define KEPT_ZEROES_NOWAIT(blk, len) {.kind = PC_GEN_ZEROES, .range_nr = 1, .ranges = {{blk, len}}, .arg = 1}
#define KEPT_READ(blk, len, flags) {.kind = PC_GEN_READ, .range_nr = 1, .ranges = {{blk, len}}, .arg = flags}
#define KEPT_BATCH(durable, nr, ...) {.kind = PC_GEN_BATCH, .range_nr = nr, .ranges = {__VA_ARGS__}, .arg = durable}
#define KEPT_FLUSH {.kind = PC_GEN_FLUSH}
#define KEPT_WRITEBACK(force) {.kind = PC_GEN_WRITEBACK, .arg = force}
#define KEPT_EVICT(force) {.kind = PC_GEN_EVICT, .arg = force}
#define KEPT_CLEAN(force) {.kind = PC_GEN_CLEAN, .arg = force}
#define KEPT_MAINTAIN(steps) {.kind = PC_GEN_MAINTAIN, .arg = steps}
#define KEPT_DRAIN {.kind = PC_GEN_DRAIN}
#define KEPT_CRASH(seed_) {.kind = PC_GEN_CRASH, .arg = seed_} /* a power cut, and the same world goes on */
#define KEPT_GOES(mode_) {.kind = PC_GEN_GOES, .arg = mode_} /* PCACHE_MODE_* */
#define KEPT_REOPEN {.kind = PC_GEN_REOPEN}

/* One power cut, see crash_path.h. */
struct kept_cut {
	uint32_t step; /* during or after the step-th operation of the world before it; 0: during its open */
	uint32_t point;
	bool killed;
	const char *words; /* pending words that persist: "all-7", "none+3..5" */
	const char *disk; /* pending writes of the disk that persist */
	uint64_t bit_off; /* a byte in which a bit turns; 0: none */
	uint32_t bit;
	const struct pc_gen_op *then; /* what the cache does after it was opened again */
	uint32_t then_nr;
	const char *events; /* what else happens there; NULL: nothing */
};

struct kept_case {
	const char *was; /* what was wrong */
	uint64_t seed;
	struct pc_gen_shape shape;
	const struct pc_gen_op *old_ops;
	uint32_t old_op_nr;
	const struct pc_gen_op *ops;
	uint32_t op_nr;
	const char *events;
	const struct kept_cut *cuts;
	uint32_t cut_nr;
};

/* All guarantees hold on this way and around it; else text says which not. In a build with planted defects the environment variable PCACHE_SIM_PLANT switches one on. */
bool kept_holds(const struct kept_case *kept, char *text, size_t text_bytes);
/* The same for the text form. */
bool kept_text_holds(const struct pc_kept *kept, char *text, size_t text_bytes);

/* Writes the source of a test for it; name becomes part of the test's name. was: the violation. False: could not be written. */
bool kept_emit(const struct pc_kept *kept, const char *was, const char *file);

#endif
