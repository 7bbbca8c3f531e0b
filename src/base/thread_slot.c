/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Slots of threads: bits of one word. A thread takes one when it first asks, and gives it back when it ends; then another may have it, which sees all that the first has counted
 * (release and acquire of the word). Where there is no slot left, or no way to learn of the end of the thread, it shares the last one with others of its kind for good.
 *
 * The word belongs to the process, not to a cache: so nothing must be given back when a cache is closed.
 */
#include "base/thread_slot.h"

#include <pthread.h>

_Thread_local uint32_t pc_thread_slot_plus_1;

static _Atomic uint64_t taken = UINT64_C(1) << PC_THREAD_SLOT_SHARED;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static _Atomic bool has_key;

static void give_back(void *slot_plus_1)
{
	uint32_t slot = (uint32_t)(uintptr_t)slot_plus_1 - 1;

	/* Whoever calls once more, from the end of another part of the program, takes one anew. */
	pc_thread_slot_plus_1 = 0;
	/* Order: what was counted before the slot is another thread's. */
	atomic_fetch_and_explicit(&taken, ~(UINT64_C(1) << slot), memory_order_release);
}

static void make_key(void)
{
	atomic_store_explicit(&has_key, pthread_key_create(&key, give_back) == 0, memory_order_release);
}

/* The library may be unloaded while threads live: nobody must call give_back then. */
static __attribute__((destructor)) void drop_key(void)
{
	if (atomic_exchange_explicit(&has_key, false, memory_order_acq_rel))
		(void)pthread_key_delete(key);
}

static uint32_t take_free(void)
{
	uint64_t now = atomic_load_explicit(&taken, memory_order_relaxed);

	while (now != UINT64_MAX) {
		uint32_t slot = (uint32_t)__builtin_ctzll(~now);

		if (atomic_compare_exchange_weak_explicit(&taken, &now, now | UINT64_C(1) << slot, memory_order_acquire,
							  memory_order_relaxed))
			return slot;
	}
	return PC_THREAD_SLOT_SHARED;
}

uint32_t pc_thread_slot_take(void)
{
	uint32_t slot = PC_THREAD_SLOT_SHARED;

	(void)pthread_once(&key_once, make_key);
	if (atomic_load_explicit(&has_key, memory_order_acquire))
		slot = take_free();
	if (slot != PC_THREAD_SLOT_SHARED && pthread_setspecific(key, (void *)(uintptr_t)(slot + 1)) != 0) {
		atomic_fetch_and_explicit(&taken, ~(UINT64_C(1) << slot), memory_order_release);
		slot = PC_THREAD_SLOT_SHARED;
	}
	pc_thread_slot_plus_1 = slot + 1;
	return slot;
}
