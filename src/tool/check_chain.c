/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check, chain: the LOG segments from the tail on in the order of their places. The first is that of the tail, none is missing, none is there
 * twice. LOG segments below are left from a release, and hold nothing that counts.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "tool/check_internal.h"

static int compare_ordinals(const void *left, const void *right)
{
	const struct check_log_segment *a = left, *b = right;

	if (a->ordinal != b->ordinal)
		return a->ordinal < b->ordinal ? -1 : 1;
	return a->seg_id < b->seg_id ? -1 : a->seg_id > b->seg_id;
}

static void check_ordinals(struct check *check, uint64_t tail_ordinal)
{
	uint64_t want = tail_ordinal;
	uint32_t i, kept_nr = 0;

	if (check->log_segment_nr == 0 || check->log_segments[0].ordinal != tail_ordinal) {
		check_problem(check, CHECK_C1, CHECK_DAMAGE, check->tail_off,
			      "the log begins at place %" PRIu64 ", but there is no such segment", tail_ordinal);
		if (check->log_segment_nr)
			want = check->log_segments[0].ordinal;
	}
	for (i = 0; i < check->log_segment_nr; i++) {
		const struct check_log_segment *segment = &check->log_segments[i];
		uint64_t off = pc_geo_segrec_off(&check->super, 0, segment->seg_id);

		if (segment->ordinal < want)
			check_problem(check, CHECK_C2, CHECK_DAMAGE, off,
				      "segment %" PRIu32 ": place %" PRIu64 " of the log is taken twice",
				      segment->seg_id, segment->ordinal);
		else if (segment->ordinal > want)
			check_problem(check, CHECK_C3, CHECK_DAMAGE, off,
				      "segment %" PRIu32 " is place %" PRIu64 " of the log, but place %" PRIu64
				      " is missing",
				      segment->seg_id, segment->ordinal, want);
		if (segment->ordinal < want)
			continue; /* the first of them is looked at, no more */
		want = segment->ordinal + 1;
		check->log_segments[kept_nr++] = *segment;
	}
	check->log_segment_nr = kept_nr;
}

int check_chain(struct check *check)
{
	const uint64_t slot_nr = pc_geo_slots_per_segment(&check->super);
	const uint64_t tail_ordinal = check->tail.log_tail_pos / slot_nr;
	const struct pc_segrec *rec;
	uint32_t seg_id;

	if (tail_ordinal == 0 || check->tail.log_tail_pos % slot_nr)
		check_problem(check, CHECK_T9, CHECK_DAMAGE, check->tail_off,
			      "the log begins at position %" PRIu64 ", which is not the first slot of a place",
			      check->tail.log_tail_pos);
	check->log_segments = calloc((size_t)check->counts.segments_log + 1, sizeof(*check->log_segments));
	if (!check->log_segments)
		return -ENOMEM;
	for (seg_id = 0; seg_id < check->super.segment_nr; seg_id++) {
		rec = &check->segrecs[seg_id];
		if (rec->type != PC_SEG_LOG)
			continue;
		if (rec->ordinal < tail_ordinal) {
			check->counts.segments_old_log++;
			continue;
		}
		check->log_segments[check->log_segment_nr++] =
			(struct check_log_segment){ .ordinal = rec->ordinal, .nonce = rec->nonce, .seg_id = seg_id };
	}
	qsort(check->log_segments, check->log_segment_nr, sizeof(*check->log_segments), compare_ordinals);
	if (tail_ordinal)
		check_ordinals(check, tail_ordinal);
	return 0;
}
