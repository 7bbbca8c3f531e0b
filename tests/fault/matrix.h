/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fault matrix: tables of a class of faults by the zone or the operation that it hits. Each cell either runs (and says how many faults it injected and
 * checked, never 0), or says in a few words why there is nothing to inject ("n/a: ..."), or names the ctest that holds it ("see ...").
 *
 * A cell fails by an assertion of cmocka, in a test and in the program alike.
 */
#ifndef PC_TESTS_FAULT_MATRIX_H
#define PC_TESTS_FAULT_MATRIX_H

#include <stdbool.h>
#include <stdint.h>

struct fault_table {
	const char *group; /* the ctest fault_GROUP runs it */
	const char *name;
	const char *title;
	const char *const *rows;
	const char *const *cols;
	uint32_t row_nr;
	uint32_t col_nr;
	uint32_t arg; /* of the functions */
	/* NULL: the cell runs; else why not. May be NULL itself. */
	const char *(*why_not)(const struct fault_table *table, uint32_t row, uint32_t col);
	/* Injections that were made and checked. */
	uint64_t (*run)(const struct fault_table *table, uint32_t row, uint32_t col);
};

extern const struct fault_table *const fault_tables[];
extern const uint32_t fault_table_nr;

extern const struct fault_table fault_backing;
extern const struct fault_table fault_media[6];
extern const struct fault_table fault_memory;
extern const struct fault_table fault_sync;
extern const struct fault_table fault_process[4];

/* Text instead of a number, or NULL. */
const char *fault_why_not(const struct fault_table *table, uint32_t row, uint32_t col);
/* Under ThreadSanitizer, which has nothing to find in cells of one thread: fewer of what is alike. */
bool fault_is_slow(void);
/* Every cell of the group as a test of cmocka; what main() returns. */
int fault_test_group(const char *group);

#endif
