/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Included before a source file of the library: each of its atomic accesses is a place where another thread of explore() may get its turn, and so is each wait. All threads are one
 * thread of the system, so what follows such a place is not interrupted. explore_skips says which addresses are nobody else's; a test defines it.
 */
#ifndef PC_TESTS_EXPLORE_ATOMICS_H
#define PC_TESTS_EXPLORE_ATOMICS_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "explore/explore.h"

bool explore_skips(const volatile void *at);

static inline void explore_at(const volatile void *at)
{
	if (!explore_skips(at))
		explore_point();
}

#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_or_explicit
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak_explicit
#undef atomic_load
#undef atomic_store

/* The sum is not atomic, as clang takes the value itself to be. */
#define EXPLORE_RMW(at, expr) \
	__extension__({ \
		__auto_type explore_to = (at); \
		explore_at(explore_to); \
		__auto_type explore_old = *explore_to + 0; \
		*explore_to = (expr); \
		explore_old; \
	})
#define EXPLORE_CAS(at, expected, value) \
	__extension__({ \
		__auto_type explore_to = (at); \
		__auto_type explore_expected = (expected); \
		explore_at(explore_to); \
		bool explore_same = *explore_to == *explore_expected; \
		if (explore_same) \
			*explore_to = (value); \
		else \
			*explore_expected = *explore_to; \
		explore_same; \
	})
#define atomic_load_explicit(at, order) (explore_at(at), *(at))
#define atomic_store_explicit(at, value, order) (explore_at(at), (void)(*(at) = (value)))
#define atomic_exchange_explicit(at, value, order) EXPLORE_RMW(at, value)
#define atomic_fetch_add_explicit(at, value, order) EXPLORE_RMW(at, explore_old + (value))
#define atomic_fetch_sub_explicit(at, value, order) EXPLORE_RMW(at, explore_old - (value))
#define atomic_fetch_or_explicit(at, value, order) EXPLORE_RMW(at, explore_old | (value))
#define atomic_compare_exchange_strong_explicit(at, expected, value, order, order_2) EXPLORE_CAS(at, expected, value)
#define atomic_compare_exchange_weak_explicit(at, expected, value, order, order_2) EXPLORE_CAS(at, expected, value)
#define atomic_load(at) atomic_load_explicit(at, 0)
#define atomic_store(at, value) atomic_store_explicit(at, value, 0)

#define sched_yield() explore_wait()
#if defined(__x86_64__)
#define __builtin_ia32_pause() explore_wait()
#endif

#endif
