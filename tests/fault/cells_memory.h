/* SPDX-License-Identifier: BSD-3-Clause */
/* Rows and columns of the table of allocation failures, and the cells of cells_memory_file.c. */
#ifndef PC_TESTS_FAULT_CELLS_MEMORY_H
#define PC_TESTS_FAULT_CELLS_MEMORY_H

#include "fault/alloc_faults.h"
#include "fault/matrix.h"

enum memory_row { ME_EACH, ME_ALL, ME_ROW_NR };
enum memory_col {
	ME_CONFIG,
	ME_BACKING,
	ME_FORMAT,
	ME_OPEN,
	ME_REPLAY,
	ME_WORKERS,
	ME_WRITE,
	ME_BATCH,
	ME_LARGE,
	ME_HIT,
	ME_MISS,
	ME_FLUSH,
	ME_DISCARD,
	ME_ZEROES,
	ME_WRITEBACK,
	ME_LOST,
	ME_EVICT,
	ME_CLEAN,
	ME_DRAIN,
	ME_INFO,
	ME_CLOSE,
	ME_FILE_FORMAT,
	ME_FILE_OPEN,
	ME_PROBE,
	ME_COL_NR
};

/* nth 0: all fail. */
void memory_arm(uint64_t nth);

/* Columns that need no rig of simulated media. nth 0: every allocation fails. Returns how many were refused. */
uint64_t memory_try_config(uint64_t nth);
uint64_t memory_try_backing(uint64_t nth);
uint64_t memory_try_file(uint32_t col, uint64_t nth);

#endif
