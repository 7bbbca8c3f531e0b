/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The order in which a batch goes to the backing, as one pure function. Within an epoch any order is allowed, so neighbours are brought together to become
 * large writes. Two versions of one block can meet in a batch only if their epochs were merged or an overwrite is being preserved; then log order decides, the newest last;
 * likewise where the ranges of one kset overlap, the later key being the newer.
 */
#include <stdlib.h>

#include "service/internal.h"

static int by_offset(const void *a, const void *b)
{
	const struct pc_extent *x = &((const struct pc_wb_item *)a)->extent, *y = &((const struct pc_wb_item *)b)->extent;

	return (x->vol_blk > y->vol_blk) - (x->vol_blk < y->vol_blk);
}

static int by_pos(const void *a, const void *b)
{
	const struct pc_wb_item *x = a, *y = b;

	if (x->extent.pos != y->extent.pos)
		return x->extent.pos > y->extent.pos ? 1 : -1;
	return (x->seq > y->seq) - (x->seq < y->seq);
}

bool pc_wb_plan(struct pc_wb_item *items, uint32_t item_nr)
{
	qsort(items, item_nr, sizeof(*items), by_offset);
	for (uint32_t i = 1; i < item_nr; i++) {
		const struct pc_extent *before = &items[i - 1].extent;

		if (before->vol_blk + before->len_blk > items[i].extent.vol_blk) {
			qsort(items, item_nr, sizeof(*items), by_pos);
			return false;
		}
	}
	return true;
}
