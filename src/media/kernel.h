/* SPDX-License-Identifier: BSD-3-Clause */
/* Copies of whole cache lines in one pass, with the CRC taken from the registers; private to this folder (and its tests). See kernel.c. */
#ifndef PC_MEDIA_KERNEL_H
#define PC_MEDIA_KERNEL_H

#include "base/types.h"

/*
 * The routines for one kind of processor. Each copies line_nr lines of 64 bytes (0 is allowed), loads every line exactly once, and keeps nothing of it but in registers until it
 * is stored. *reg is the raw register of the CRC32C (inverted before and after by the caller), which is continued.
 *
 *     store      to media: dst is aligned to a line; non-temporal stores, no fence
 *     store_crc  the same with the CRC of what was stored
 *     load       from media: dst, src of any alignment. 0, or -EIO: a load of src was a SIGBUS within a guarded mapping, and dst holds anything
 *     load_crc   the same with the CRC of what was loaded; *reg is set only if 0 is returned
 */
struct pc_kernel {
	const char *name;
	void (*store)(void *dst, const void *src, size_t line_nr);
	void (*store_crc)(void *dst, const void *src, size_t line_nr, uint32_t *reg);
	int (*load)(void *dst, const void *src, size_t line_nr);
	int (*load_crc)(void *dst, const void *src, size_t line_nr, uint32_t *reg);
};

/* The best for this processor; NULL: there is none, and copies go piece by piece. */
const struct pc_kernel *pc_kernel_best(void);
/* For tests: kind idx, counted from the best; NULL: beyond the last. *out_usable: the processor can run it. */
const struct pc_kernel *pc_kernel_get(size_t idx, bool *out_usable);

/*
 * For the handler of SIGBUS: where to go on if the instruction at this address loads from media for one of the routines (a return of -EIO); 0 if it is none of theirs.
 */
uintptr_t pc_kernel_fault_of(uintptr_t at);

#endif
