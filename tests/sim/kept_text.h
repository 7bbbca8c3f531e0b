/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Plans and crash paths as one line of text: what --replay takes, what kept_seeds.txt holds. It says what the generator drew, not from what, so it means
 * the same when the generator has changed.
 *
 *     v1 seed=7 segments=10 segment=4096 ... ops=write:16+4,flush,batch:1+2/8+1@1 events=f2.1 cut=2.3 words=all-7 disk=none then=read:16+4
 *
 * After v1 come the shape (each member once, in any order), seed (of nonces and of what is explored without a path), ops, and old, the operations on the cache that
 * format finds. Lists may be "-", which is nothing. A range is BLOCK+LENGTH, ranges are joined by /, the argument of an operation follows @.
 * Each cut= begins a power cut: STEP.POINT; then, each at most once: killed, words= and disk= ("all", "none", "all-RUNS", "none+RUNS"; runs are joined
 * by /: 3 or 3..7), bit=OFFSET.BIT, and then= and events= of the world after it. An event is KINDSTEP.NR, see crash_path.h.
 *
 * The parser is strict: it names the first token that it does not understand, and what is missing.
 */
#ifndef PC_SIM_KEPT_TEXT_H
#define PC_SIM_KEPT_TEXT_H

#include "sim/crash_path.h"
#include "sim/generator.h"

struct pc_kept {
	uint64_t seed;
	struct pc_crash_plan plan;
	struct pc_crash_path path;
};

/* One line without an end of line; the caller frees it. NULL: no memory. */
char *pc_kept_to_text(const struct pc_kept *kept);
bool pc_kept_from_text(const char *text, struct pc_kept *out_kept, char *error, size_t error_bytes);

/* Parts of it, for tables. */
bool pc_kept_words_from_text(const char *text, struct pc_crash_some *out_some);
bool pc_kept_events_from_text(const char *text, struct pc_crash_course *course);
char *pc_kept_words_to_text(const struct pc_crash_some *some); /* the caller frees it */
char *pc_kept_events_to_text(const struct pc_crash_course *course);

/* Members of struct pc_gen_shape, for code that goes over all of them. */
struct pc_kept_member {
	const char *key; /* in the text */
	const char *name; /* in C */
	size_t offset;
	uint32_t size; /* 1: bool, 4, 8 */
	uint64_t simplest; /* value that a reader has to think about least */
	uint64_t max;
};
extern const struct pc_kept_member pc_kept_members[];
extern const uint32_t pc_kept_member_nr;
uint64_t pc_kept_member_get(const struct pc_gen_shape *shape, const struct pc_kept_member *member);
void pc_kept_member_set(struct pc_gen_shape *shape, const struct pc_kept_member *member, uint64_t value);

/* Whether a cache of this shape can be made, and the operations fit it; else says why not. */
bool pc_kept_plan_fits(const struct pc_crash_plan *plan, char *error, size_t error_bytes);

#endif
