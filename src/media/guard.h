/* SPDX-License-Identifier: BSD-3-Clause */
/* Loads that survive SIGBUS; private to this folder (and its tests). See guard.c. */
#ifndef PC_MEDIA_GUARD_H
#define PC_MEDIA_GUARD_H

#include "base/types.h"

struct pc_guard_range;

/*
 * Guards the mapping [base, base + len): installs the handler of SIGBUS if this is the first one of the process. 0, -ENOMEM, -errno of sigaction(2).
 * The range is removed before it is unmapped.
 */
int pc_guard_add(const void *base, uint64_t len, struct pc_guard_range **out_range);
/* No load from it may be running. The last one puts back the handler that was there, if ours still is the one installed. NULL does nothing. */
void pc_guard_remove(struct pc_guard_range *range);

/* Copies len bytes out of a guarded range. 0, or -EIO: a load of src was a SIGBUS, and dst holds anything. */
int pc_guard_load(void *dst, const void *src, size_t len);
/* What pc_guard_load calls. wide: with registers of 32 bytes, which the processor must have (x86-64; elsewhere it is not looked at). */
int pc_guard_copy(void *dst, const void *src, size_t len, int wide);

#endif
