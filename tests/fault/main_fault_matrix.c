/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Prints the fault matrix: for each class of faults a table of fault by zone or operation, each cell with the number of faults that were injected and checked, or why
 * there is nothing to inject.
 *
 * Usage: pcache-fault-matrix [--markdown] [--list] [--group NAME]
 *   --markdown  as in docs/FAULTS.md
 *   --list      no run: one line for each cell, TABLE|ROW|COLUMN|TEXT; TEXT is "run", or what stands in the cell instead of a number
 *   --group     only the tables of backing, media, memory, sync or process
 *
 * Exits 1 at the first cell that fails.
 */
#include <stdio.h>
#include <string.h>

#include "fault/matrix.h"

static void list_table(const struct fault_table *table)
{
	for (uint32_t row = 0; row < table->row_nr; row++) {
		for (uint32_t col = 0; col < table->col_nr; col++) {
			const char *why = fault_why_not(table, row, col);

			printf("%s|%s|%s|%s\n", table->name, table->rows[row], table->cols[col], why ? why : "run");
		}
	}
}

/* False: a cell that ran injected nothing. */
static bool print_table(const struct fault_table *table, bool markdown)
{
	uint64_t total = 0;
	bool ok = true;

	printf("%s%s\n\n|  |", markdown ? "## " : "", table->title);
	for (uint32_t col = 0; col < table->col_nr; col++)
		printf(" %s |", table->cols[col]);
	printf("\n|---|");
	for (uint32_t col = 0; col < table->col_nr; col++)
		printf("---|");
	printf("\n");
	for (uint32_t row = 0; row < table->row_nr; row++) {
		printf("| %s |", table->rows[row]);
		for (uint32_t col = 0; col < table->col_nr; col++) {
			const char *why = fault_why_not(table, row, col);
			uint64_t nr = why ? 0 : table->run(table, row, col);

			if (why)
				printf(" %s |", why);
			else
				printf(" %llu |", (unsigned long long)nr);
			(void)fflush(stdout);
			total += nr;
			ok &= why || nr;
		}
		printf("\n");
	}
	printf("\n%llu injections.\n\n", (unsigned long long)total);
	return ok;
}

int main(int argc, char **argv)
{
	const char *group = NULL;
	bool markdown = false, list = false, ok = true;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--markdown") == 0) {
			markdown = true;
		} else if (strcmp(argv[i], "--list") == 0) {
			list = true;
		} else if (strcmp(argv[i], "--group") == 0 && i + 1 < argc) {
			group = argv[++i];
		} else {
			fprintf(stderr, "usage: %s [--markdown] [--list] [--group NAME]\n", argv[0]);
			return 2;
		}
	}
	for (uint32_t i = 0; i < fault_table_nr; i++) {
		if (group && strcmp(group, fault_tables[i]->group) != 0)
			continue;
		if (list)
			list_table(fault_tables[i]);
		else
			ok &= print_table(fault_tables[i], markdown);
	}
	return ok ? 0 : 1;
}
