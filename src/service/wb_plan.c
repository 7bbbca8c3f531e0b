/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The order in which a batch goes to the backing, as one pure function. Within an epoch any order is allowed, so neighbours are brought together to become
 * large writes. Two versions of one block can meet in a batch only if their epochs were merged or an overwrite is being preserved; then log order decides, the newest last;
 * likewise where the ranges of one kset overlap, the later key being the newer.
 */
#include <string.h>

#include "service/internal.h"

static int by_offset(const void *a, const void *b)
{
	const struct pc_extent *x = &((const struct pc_wb_item *)a)->extent,
			       *y = &((const struct pc_wb_item *)b)->extent;

	return (x->vol_blk > y->vol_blk) - (x->vol_blk < y->vol_blk);
}

static int by_pos(const void *a, const void *b)
{
	const struct pc_wb_item *x = a, *y = b;

	if (x->extent.pos != y->extent.pos)
		return x->extent.pos > y->extent.pos ? 1 : -1;
	return (x->seq > y->seq) - (x->seq < y->seq);
}

/* Merge sort, bottom up. Not qsort(3): that takes memory from the heap, and for as many items as these gives it back to the kernel each time. */
static void sort_items(struct pc_wb_item *items, struct pc_wb_item *scratch, uint32_t nr,
		       int (*compare)(const void *, const void *))
{
	for (uint32_t run = 1; run < nr; run *= 2) {
		for (uint32_t start = 0; start < nr; start += 2 * run) {
			uint32_t a = start, a_end = PC_MIN(start + run, nr), b = a_end,
				 b_end = PC_MIN(start + 2 * run, nr);

			for (uint32_t to = start; to < b_end; to++)
				scratch[to] = a < a_end && (b == b_end || compare(&items[a], &items[b]) <= 0)
						      ? items[a++]
						      : items[b++];
		}
		memcpy(items, scratch, nr * sizeof(*items));
	}
}

bool pc_wb_plan(struct pc_wb_item *items, struct pc_wb_item *scratch, uint32_t item_nr)
{
	sort_items(items, scratch, item_nr, by_offset);
	for (uint32_t i = 1; i < item_nr; i++) {
		const struct pc_extent *before = &items[i - 1].extent;

		if (before->vol_blk + before->len_blk > items[i].extent.vol_blk) {
			sort_items(items, scratch, item_nr, by_pos);
			return false;
		}
	}
	return true;
}
