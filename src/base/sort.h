/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Short lists of words in ascending order, in place: below PC_SORT_SHORT_NR words insertion beats whatever is better for many.
 */
#ifndef PC_BASE_SORT_H
#define PC_BASE_SORT_H

#include <stdint.h>

#define PC_SORT_SHORT_NR 48u

static inline void pc_sort_short(uint64_t *words, uint32_t nr)
{
	for (uint32_t i = 1; i < nr; i++) {
		uint64_t word = words[i];
		uint32_t to = i;

		for (; to > 0 && words[to - 1] > word; to--)
			words[to] = words[to - 1];
		words[to] = word;
	}
}

#endif
