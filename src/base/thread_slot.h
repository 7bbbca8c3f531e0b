/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A small number for each thread, which is its own while it lives: so it can count in memory of its own by plain loads and stores, where an addition that others may make at the same time
 * would be a locked instruction.
 */
#ifndef PC_BASE_THREAD_SLOT_H
#define PC_BASE_THREAD_SLOT_H

#include <stdatomic.h>

#include "base/types.h"

#define PC_THREAD_SLOT_SHARED 63u /* of all threads for which there was none left */
#define PC_THREAD_SLOT_NR 64u

extern _Thread_local uint32_t pc_thread_slot_plus_1 __attribute__((tls_model("initial-exec")));
uint32_t pc_thread_slot_take(void);

/* Below PC_THREAD_SLOT_NR. The same for all calls of a thread, and of no other thread at the same time, but for PC_THREAD_SLOT_SHARED. */
static inline uint32_t pc_thread_slot(void)
{
	uint32_t plus_1 = pc_thread_slot_plus_1;

	return __builtin_expect(plus_1 != 0, 1) ? plus_1 - 1 : pc_thread_slot_take();
}

/* Adds to the calling thread's counter of an array of them by slot; slot is what pc_thread_slot gave. */
static inline void pc_thread_slot_add(_Atomic uint64_t *counter, uint32_t slot, uint64_t add)
{
	if (__builtin_expect(slot == PC_THREAD_SLOT_SHARED, 0))
		atomic_fetch_add_explicit(counter, add, memory_order_relaxed);
	else
		atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + add,
				      memory_order_relaxed);
}

#endif
