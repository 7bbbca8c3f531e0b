/* SPDX-License-Identifier: BSD-3-Clause */
/* Rows and columns of the table of backing faults, and the cells of cells_backing_slow.c. */
#ifndef PC_TESTS_FAULT_CELLS_BACKING_H
#define PC_TESTS_FAULT_CELLS_BACKING_H

#include "fault/matrix.h"
#include "fault/scene.h"

enum backing_row {
	BK_ONCE,
	BK_FOR_GOOD,
	BK_UNTIL_FLUSH,
	BK_SHORT,
	BK_EINTR,
	BK_EAGAIN,
	BK_ENOSPC,
	BK_REORDERED,
	BK_LOST,
	BK_LIES,
	BK_DELAY,
	BK_HANG,
	BK_THREAD,
	BK_EARLY,
	BK_ROW_NR
};

enum backing_col { BK_MISS, BK_WRITE, BK_ZEROES, BK_FLUSH, BK_DRAIN, BK_OPEN, BK_CLOSE, BK_COL_NR };

uint64_t backing_delay(uint32_t col);
uint64_t backing_hang(uint32_t col);
uint64_t backing_async(uint32_t col, bool on_thread);
/* Workers before a backing that fails for good: the pauses between their tries grow. 0 where no worker calls. */
uint64_t backing_backoff(uint32_t col);

#endif
