/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Allocations that fail. fault/interpose/alloc.c, linked into the programs that use this, puts itself before malloc and its kin, mmap, pthread_create, and what makes
 * mutexes and conditions, and asks here.
 *
 * Without sanitizers it stands before those of the whole process, the C library and libpmem2 included; with sanitizers, which have a malloc of their own, before the calls of
 * the library and of the tests only.
 */
#ifndef PC_TESTS_FAULT_ALLOC_FAULTS_H
#define PC_TESTS_FAULT_ALLOC_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

/* From now on: the nth allocation of this thread fails; 0: none, they are only counted. */
void fault_alloc_arm(uint64_t nth);
/* From now on every allocation of every thread fails. */
void fault_alloc_arm_all(void);

struct fault_alloc_result {
	uint64_t asked_nr; /* allocations that were asked for */
	uint64_t failed_nr; /* of these, refused */
};
struct fault_alloc_result fault_alloc_disarm(void);

/* What a test's own helpers allocate in between, on this thread, is none of the library's. Nests. */
void fault_alloc_pause(void);
void fault_alloc_resume(void);

/* For the interposer: false if this one must fail. */
bool fault_alloc_may(void);

#endif
