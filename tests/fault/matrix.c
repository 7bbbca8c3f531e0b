/* SPDX-License-Identifier: BSD-3-Clause */
/* The list of the tables, and one cmocka test for each of their cells. See matrix.h. */
#include "fault/matrix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rig.h"

const struct fault_table *const fault_tables[] = {
	&fault_backing,    &fault_media[0],   &fault_media[1],   &fault_media[2], &fault_media[3],
	&fault_media[4],   &fault_media[5],   &fault_memory,     &fault_sync,     &fault_process[0],
	&fault_process[1], &fault_process[2], &fault_process[3],
};
const uint32_t fault_table_nr = PC_ARRAY_NR(fault_tables);

const char *fault_why_not(const struct fault_table *table, uint32_t row, uint32_t col)
{
	return table->why_not ? table->why_not(table, row, col) : NULL;
}

bool fault_is_slow(void)
{
	const char *sanitize = getenv("PCACHE_SANITIZE");

	return sanitize && strstr(sanitize, "thread");
}

struct cell {
	const struct fault_table *table;
	uint32_t row;
	uint32_t col;
	char name[128];
};

static void run_cell(void **state)
{
	const struct cell *cell = *state;
	uint64_t nr = cell->table->run(cell->table, cell->row, cell->col);

	print_message("%s: %llu injections\n", cell->name, (unsigned long long)nr);
	assert_true(nr > 0);
}

static uint32_t cell_nr(const char *group)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < fault_table_nr; i++)
		if (strcmp(fault_tables[i]->group, group) == 0)
			nr += fault_tables[i]->row_nr * fault_tables[i]->col_nr;
	return nr;
}

static uint32_t add_cells(const struct fault_table *table, struct cell *cells, struct CMUnitTest *tests)
{
	uint32_t nr = 0;

	for (uint32_t row = 0; row < table->row_nr; row++) {
		for (uint32_t col = 0; col < table->col_nr; col++) {
			struct cell *cell = &cells[nr];

			if (fault_why_not(table, row, col))
				continue;
			*cell = (struct cell){ .table = table, .row = row, .col = col };
			(void)snprintf(cell->name, sizeof(cell->name), "%s: %s x %s", table->name, table->rows[row],
				       table->cols[col]);
			tests[nr] =
				(struct CMUnitTest){ .name = cell->name, .test_func = run_cell, .initial_state = cell };
			nr++;
		}
	}
	return nr;
}

int fault_test_group(const char *group)
{
	uint32_t max = cell_nr(group), nr = 0;
	struct cell *cells = calloc(max, sizeof(*cells));
	struct CMUnitTest *tests = calloc(max, sizeof(*tests));
	int rc;

	if (!max || !cells || !tests)
		return 1;
	for (uint32_t i = 0; i < fault_table_nr; i++)
		if (strcmp(fault_tables[i]->group, group) == 0)
			nr += add_cells(fault_tables[i], cells + nr, tests + nr);
	rc = _cmocka_run_group_tests(group, tests, nr, NULL, NULL);
	free(tests);
	free(cells);
	return rc;
}
