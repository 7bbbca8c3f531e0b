/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Plain types and the platform that the library accepts.
 *
 * Units end every name: _off bytes from a named origin, _len bytes of a range, _bytes a capacity, _blk cache
 * blocks, _pos a log position (slot number counted from format), _nr counts, _id and _idx numbers.
 */
#ifndef PC_BASE_TYPES_H
#define PC_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if !defined(__linux__) || !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "libpcache needs Linux on a little-endian processor"
#endif
#if !defined(__x86_64__) && !defined(__aarch64__)
#error "libpcache supports x86-64 and arm64"
#endif

#define PC_CACHE_LINE_BYTES 64u
#define PC_PAGE_BYTES 4096u

#define PC_MIN(a, b) ((a) < (b) ? (a) : (b))
#define PC_MAX(a, b) ((a) > (b) ? (a) : (b))

/* Rounds x up to a multiple of the power of two to. The caller rules out overflow. */
#define PC_ROUND_UP(x, to) (((x) + ((to)-1)) & ~((to)-1))
#define PC_ROUND_DOWN(x, to) ((x) & ~((to)-1))
#define PC_DIV_UP(x, by) (((x) + ((by)-1)) / (by))

#define PC_ARRAY_NR(a) (sizeof(a) / sizeof((a)[0]))

/*
 * Asks for a line that will be stored to, and does not wait; never faults. In the state that a store needs: another processor may have it, and what it takes to get it from there comes once
 * then, and not at the store, or at the locked instruction behind it. (A compiler that may not assume prefetchw makes a prefetch for a load out of its builtin; processors that do not know it do nothing.)
 */
static inline void pc_prefetch_store(const void *at)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)at));
#else
	__builtin_prefetch(at, 1);
#endif
}

#endif
