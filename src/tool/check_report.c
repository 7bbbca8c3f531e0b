/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check, problems: each is counted, and the first CHECK_SHOWN_MAX are printed as they are found.
 *
 * Text: `damage @0x2000: what is wrong`. JSON: members of the array "problems", which the first problem opens and
 * cmd_check.c closes. Damaged media can have any number of problems; the limit keeps the output, and thereby the time,
 * in bounds.
 */
#include <inttypes.h>
#include <stdarg.h>

#include "tool/check.h"

static const char *const severity_names[CHECK_SEVERITY_NR] = { "note", "repair", "damage" };

void check_problem(struct check *check, enum check_severity severity, uint64_t media_off, const char *fmt, ...)
{
	char text[512];
	va_list args;

	check->problem_nr[severity]++;
	if (check->shown_nr >= CHECK_SHOWN_MAX)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	tool_progress_wipe(&check->progress);
	if (check->json) {
		printf("%s{\"severity\": \"%s\", \"media_off\": ", check->shown_nr ? ", " : "{\"problems\": [",
		       severity_names[severity]);
		if (media_off == CHECK_NOWHERE)
			fputs("null", stdout);
		else
			printf("%" PRIu64, media_off);
		fputs(", \"text\": ", stdout);
		tool_json_string(stdout, text);
		putchar('}');
	} else if (media_off == CHECK_NOWHERE) {
		printf("%s: %s\n", severity_names[severity], text);
	} else {
		printf("%s @0x%" PRIx64 ": %s\n", severity_names[severity], media_off, text);
	}
	check->shown_nr++;
	if (check->shown_nr == CHECK_SHOWN_MAX && !check->json)
		puts("(further problems are counted, not shown)");
}

enum check_severity check_if_crashed(const struct check *check)
{
	return check->clean_close ? CHECK_DAMAGE : CHECK_NOTE;
}
