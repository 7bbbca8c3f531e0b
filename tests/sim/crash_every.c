/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Images of a crash point for short sequences, without any choice by chance.
 *
 * A few images: no word persists, all do, the last line alone (a record without its data), the process is killed; after these the rest of the sequence goes on. Then, of the
 * last operation: the last word alone, all but the last, the first half, the second half; after these it goes on if the sequence has one operation only. All
 * images: with at most 12 words pending every subset; with more each line and each of the last words (they belong to the record, the others are data)
 * missing, alone, and as the end of a prefix and of a suffix. Where the disk has pending writes: all and none with every image, and each missing and each alone.
 */
#include "sim/crash_internal.h"

#define SUBSET_WORDS_MAX 12u
#define LAST_WORDS 16u
#define DISK_WRITES_MAX 32u

enum pattern { NONE, ALL, WORD_MISSING, WORD_ALONE, WORD_PREFIX, WORD_SUFFIX, LINE_MISSING, LINE_ALONE, LINE_PREFIX, LINE_SUFFIX, SUBSET = CRASH_POLICY_SUBSET };

static bool keeps(const struct crash_snap *snap, enum pattern pattern, uint32_t at, uint32_t i)
{
	const uint32_t line = snap->line_of[i];

	switch (pattern) {
	case NONE:
		return false;
	case ALL:
		return true;
	case WORD_MISSING:
		return i != at;
	case WORD_ALONE:
		return i == at;
	case WORD_PREFIX:
		return i <= at;
	case WORD_SUFFIX:
		return i > at;
	case LINE_MISSING:
		return line != at;
	case LINE_ALONE:
		return line == at;
	case LINE_PREFIX:
		return line <= at;
	case LINE_SUFFIX:
		return line > at;
	case SUBSET:
		return (at >> i & 1) != 0;
	}
	return false;
}

struct every {
	struct crash_world *w;
	const struct crash_snap *snap;
	bool goes_on; /* the rest of the sequence follows */
	bool alone; /* a sequence of one operation: after all of a few the rest follows, which is the end, or another cut in the open */
	bool part_of_longer; /* not the last operation: what does not go on belongs to a shorter sequence */
};

/* One image. disk: pattern of the pending writes, one of the first four. */
static void image(const struct every *e, enum pattern pattern, uint32_t at, enum pattern disk, uint32_t disk_at)
{
	struct crash_world *child;
	uint64_t hash = e->snap->media.hash;

	if (e->w->run->stop)
		return;
	child = crash_begin_image(e->w, e->snap, false);
	child->goes_on = e->goes_on;
	child->cut.policy = pattern;
	child->cut.at = at;
	child->cut.disk_policy = disk == NONE ? 0 : disk == ALL ? 1 : 2;
	for (uint32_t i = 0; i < e->snap->media.store_nr; i++)
		child->cut.keep[i] = keeps(e->snap, pattern, at, i);
	for (uint32_t i = 0; i < e->snap->disk.pending_nr; i++)
		child->cut.keep_disk[i] = disk == ALL || (disk == WORD_MISSING && i != disk_at) || (disk == WORD_ALONE && i == disk_at);
	hash ^= crash_put_stores(child);
	crash_recover_image(child, hash);
}

/* With all of the disk, and with none of it; equal ones are told by their hash. */
static void image_and_disks(const struct every *e, enum pattern pattern, uint32_t at)
{
	image(e, pattern, at, ALL, 0);
	if (e->snap->disk.pending_nr != 0)
		image(e, pattern, at, NONE, 0);
}

static void killed(const struct every *e)
{
	struct crash_world *child;

	if (e->w->run->stop || (e->snap->media.store_nr == 0 && e->snap->disk.pending_nr == 0))
		return;
	child = crash_begin_image(e->w, e->snap, true);
	child->goes_on = e->goes_on;
	for (uint32_t i = 0; i < e->snap->disk.pending_nr; i++)
		child->cut.keep_disk[i] = true;
	crash_recover_image(child, e->snap->media.hash);
}

static void few(struct every *e)
{
	const uint32_t nr = (uint32_t)e->snap->media.store_nr;

	image_and_disks(e, ALL, 0);
	image_and_disks(e, NONE, 0);
	killed(e);
	if (e->snap->line_nr > 1) /* the record without its data */
		image(e, LINE_ALONE, e->snap->line_nr - 1, ALL, 0);
	if (e->part_of_longer)
		return;
	e->goes_on &= e->alone;
	if (nr > 1) {
		image(e, WORD_ALONE, nr - 1, ALL, 0);
		image(e, WORD_MISSING, nr - 1, ALL, 0);
	}
	if (nr > 3 && e->w->depth == 0) {
		image(e, WORD_PREFIX, nr / 2, ALL, 0);
		image(e, WORD_SUFFIX, nr / 2, ALL, 0);
	}
	e->goes_on = false;
}

static void all(const struct every *e)
{
	const uint32_t nr = (uint32_t)e->snap->media.store_nr;
	const uint32_t disk_nr = PC_MIN(e->snap->disk.pending_nr, DISK_WRITES_MAX);

	for (uint32_t i = 0; i < disk_nr; i++) {
		image(e, ALL, 0, WORD_MISSING, i);
		image(e, ALL, 0, WORD_ALONE, i);
	}
	if (nr <= SUBSET_WORDS_MAX) {
		for (uint32_t subset = 0; subset < 1u << nr; subset++)
			image_and_disks(e, SUBSET, subset);
		return;
	}
	for (uint32_t pattern = LINE_MISSING; pattern <= LINE_SUFFIX; pattern++) {
		for (uint32_t line = 0; line < e->snap->line_nr; line++)
			image_and_disks(e, (enum pattern)pattern, line);
	}
	for (uint32_t pattern = WORD_MISSING; pattern <= WORD_SUFFIX; pattern++) {
		for (uint32_t word = nr - PC_MIN(nr, LAST_WORDS); word < nr; word++)
			image_and_disks(e, (enum pattern)pattern, word);
	}
}

void crash_explore_every(struct crash_world *w, const struct crash_snap *snap)
{
	const struct pc_crash_every *every = w->run->settings->every;
	const bool is_last = w->op_idx + 1 == w->run->plan->op_nr;
	struct every e = {.w = w, .snap = snap, .goes_on = w->depth + 1 < w->run->settings->depth || !is_last, .alone = w->op_idx == w->run->shape.warm_nr, .part_of_longer = !is_last};

	few(&e);
	if (w->depth == 0 ? is_last && every->all_first : every->all_second)
		all(&e);
}
