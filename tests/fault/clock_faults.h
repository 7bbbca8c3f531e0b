/* SPDX-License-Identifier: BSD-3-Clause */
/* A wall clock that jumps. fault/interpose/clock.c stands before time, gettimeofday and clock_gettime for the programs that use this. */
#ifndef PC_TESTS_FAULT_CLOCK_FAULTS_H
#define PC_TESTS_FAULT_CLOCK_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

/* From now on each look at the wall clock shows hours more or less. Returns how often anyone has looked since the last call; fault_clock_jumps does not count. */
uint64_t fault_clock_jump(bool on);
/* True if the clock does jump: looks twice. */
bool fault_clock_jumps(void);
/* For the interposer: seconds to add to what the wall clock says; counts the look. */
int64_t fault_clock_shift_s(void);

#endif
