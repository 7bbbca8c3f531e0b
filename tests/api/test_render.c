/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Snapshots as text: every number of the table in every form, what is not known, cut buffers, and the grammar of OpenMetrics as far as we use it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/rig.h"

#define TEXT_BYTES 16384u

static const struct {
	const char *name;
	const char *kind;
	const char *unit;
	const char *known;
	const char *doc;
} rows[] = {
#define ROW(member, kind, unit, known, doc) { #member, #kind, unit, #known, doc },
	PCACHE_STATISTIC_TABLE(ROW)
#undef ROW
};

/* Each number is its place in the struct, so that no two are the same. */
static struct pcache_info numbered(void)
{
	struct pcache_info info;

	memset(&info, 0, sizeof(info));
	info.struct_bytes = sizeof(info);
	info.commit = PCACHE_COMMIT_WRITE;
	info.cache_uuid[0] = 0xab;
#define NUMBER(member, kind, unit, known, doc) info.member = 1000000 + offsetof(struct pcache_info, member);
	PCACHE_STATISTIC_TABLE(NUMBER)
#undef NUMBER
	return info;
}

static uint64_t number_of(const char *name)
{
#define NUMBER(member, kind, unit, known, doc) \
	if (strcmp(name, #member) == 0) \
		return 1000000 + offsetof(struct pcache_info, member);
	PCACHE_STATISTIC_TABLE(NUMBER)
#undef NUMBER
	return 0;
}

static void render(const struct pcache_info *info, uint32_t form, char *text)
{
	int len = pcache_info_render(info, form, text, TEXT_BYTES);

	assert_true(len > 0 && len < (int)TEXT_BYTES);
	assert_int_equal(strlen(text), len);
}

static bool has_number(const char *text, uint32_t form, const char *name, bool counter)
{
	char line[256];
	const char *at;

	if (form == PCACHE_RENDER_JSON)
		(void)snprintf(line, sizeof(line), ", \"%s\": %llu", name, (unsigned long long)number_of(name));
	else if (form == PCACHE_RENDER_OPENMETRICS)
		(void)snprintf(line, sizeof(line),
			       "\npcache_%s%s{cache=\"ab000000-0000-0000-0000-000000000000\"} %llu\n", name,
			       counter ? "_total" : "", (unsigned long long)number_of(name));
	else
		(void)snprintf(line, sizeof(line), " %llu", (unsigned long long)number_of(name));
	at = strstr(text, line);
	return at && !strstr(at + 1, line);
}

static void every_number_in_every_form(void **state)
{
	struct pcache_info info = numbered();
	char text[TEXT_BYTES];

	(void)state;
	for (uint32_t form = PCACHE_RENDER_TEXT; form <= PCACHE_RENDER_OPENMETRICS; form++) {
		render(&info, form, text);
		for (size_t i = 0; i < PC_ARRAY_NR(rows); i++) {
			if (!has_number(text, form, rows[i].name, strcmp(rows[i].kind, "COUNTER") == 0))
				fail_msg("form %u has %s not once:\n%s", form, rows[i].name, text);
		}
	}
}

static void what_is_not_known(void **state)
{
	struct pcache_info info = numbered();
	char text[TEXT_BYTES], line[128];

	(void)state;
	info.commit = PCACHE_COMMIT_AUTO;
	for (uint32_t form = PCACHE_RENDER_TEXT; form <= PCACHE_RENDER_OPENMETRICS; form++) {
		render(&info, form, text);
		for (size_t i = 0; i < PC_ARRAY_NR(rows); i++)
			assert_int_equal(has_number(text, form, rows[i].name, strcmp(rows[i].kind, "COUNTER") == 0),
					 strcmp(rows[i].known, "ALWAYS") == 0);
		(void)snprintf(line, sizeof(line), ", \"%s\": null", "write_ops");
		assert_int_equal(strstr(text, line) != NULL, form == PCACHE_RENDER_JSON);
	}
	info.state_flags = PCACHE_STATE_LIVE;
	render(&info, PCACHE_RENDER_JSON, text);
	assert_true(has_number(text, PCACHE_RENDER_JSON, "write_ops", true));
	assert_non_null(strstr(text, "\"state\": \"open\""));
	info.state_flags = PCACHE_STATE_CLEAN_CLOSE;
	render(&info, PCACHE_RENDER_JSON, text);
	assert_non_null(strstr(text, "\"state\": \"closed\""));
	info.state_flags = 0;
	render(&info, PCACHE_RENDER_JSON, text);
	assert_non_null(strstr(text, "\"state\": \"unclean\""));
}

/* Each condition alone. */
static void conditions(void **state)
{
	static const struct {
		uint32_t flag;
		const char *name;
	} all[] = {
		{ PCACHE_STATE_DEGRADED, "degraded" },     { PCACHE_STATE_FAILSTOP, "failstop" },
		{ PCACHE_STATE_READ_ONLY, "read_only" },   { PCACHE_STATE_GRANULARITY_FORCED, "granularity_forced" },
		{ PCACHE_STATE_HUGE_PAGES, "huge_pages" }, { PCACHE_STATE_BACKING_URING, "backing_uring" },
	};
	struct pcache_info info = numbered();
	char text[TEXT_BYTES], line[128];

	(void)state;
	for (size_t i = 0; i < PC_ARRAY_NR(all); i++) {
		info.state_flags = all[i].flag;
		for (size_t k = 0; k < PC_ARRAY_NR(all); k++) {
			render(&info, PCACHE_RENDER_JSON, text);
			(void)snprintf(line, sizeof(line), "\"%s\": %s", all[k].name, i == k ? "true" : "false");
			assert_non_null(strstr(text, line));
			render(&info, PCACHE_RENDER_OPENMETRICS, text);
			(void)snprintf(line, sizeof(line),
				       "\npcache_%s{cache=\"ab000000-0000-0000-0000-000000000000\"} %d\n", all[k].name,
				       i == k);
			assert_non_null(strstr(text, line));
		}
	}
}

/* TYPE, UNIT where there is one, HELP, then a sample of that name; counters end with _total, units end names; # EOF is the end. */
static void openmetrics_grammar(void **state)
{
	struct pcache_info info = numbered();
	char text[TEXT_BYTES], name[128] = "", type[32] = "", unit[32];
	size_t families = 0;
	char *line, *rest = text;

	(void)state;
	render(&info, PCACHE_RENDER_OPENMETRICS, text);
	assert_string_equal(text + strlen(text) - 6, "# EOF\n");
	while ((line = strsep(&rest, "\n")) != NULL && strcmp(line, "# EOF") != 0) {
		char want[256];

		if (strncmp(line, "# TYPE ", 7) == 0) {
			assert_int_equal(sscanf(line, "# TYPE %127s %31s", name, type), 2);
			families++;
		} else if (strncmp(line, "# UNIT ", 7) == 0) {
			assert_int_equal(sscanf(line, "# UNIT %*s %31s", unit), 1);
			assert_string_equal(name + strlen(name) - strlen(unit), unit);
		} else if (strncmp(line, "# HELP ", 7) == 0) {
			assert_int_equal(strncmp(line + 7, name, strlen(name)), 0);
			assert_null(strpbrk(line, "\"\\"));
		} else {
			(void)snprintf(want, sizeof(want), "%s%s{cache=\"", name,
				       strcmp(type, "counter") == 0 ? "_total"
				       : strcmp(type, "info") == 0  ? "_info"
								    : "");
			assert_int_equal(strncmp(line, want, strlen(want)), 0);
			assert_non_null(strstr(line, "\"} "));
		}
	}
	assert_int_equal(families, PC_ARRAY_NR(rows) + 1 + 6);
	assert_string_equal(rest, "");
}

/* Any size of buffer gets the front of the text and the length of all of it; the greatest numbers fit the size that is promised. */
static void cut_buffers(void **state)
{
	struct pcache_info info;
	char whole[TEXT_BYTES], part[TEXT_BYTES];

	(void)state;
	memset(&info, 0xff, sizeof(info));
	info.struct_bytes = sizeof(info);
	for (uint32_t form = PCACHE_RENDER_TEXT; form <= PCACHE_RENDER_OPENMETRICS; form++) {
		int len = pcache_info_render(&info, form, whole, sizeof(whole));

		assert_true(len > 0 && len < (int)sizeof(whole));
		assert_int_equal(pcache_info_render(&info, form, NULL, 0), len);
		for (size_t bytes = 1; bytes <= (size_t)len + 1; bytes += bytes % 97 ? 1 : 31) {
			memset(part, 0x5a, sizeof(part));
			assert_int_equal(pcache_info_render(&info, form, part, bytes), len);
			assert_memory_equal(part, whole, bytes - 1);
			assert_int_equal(part[bytes - 1], 0);
			assert_int_equal(part[bytes], 0x5a);
		}
	}
}

static void bad_arguments_and_short_structs(void **state)
{
	struct pcache_info info = numbered(), shorter;
	char text[TEXT_BYTES];

	(void)state;
	assert_int_equal(pcache_info_render(NULL, 0, text, sizeof(text)), -EINVAL);
	assert_int_equal(pcache_info_render(&info, 3, text, sizeof(text)), -EINVAL);
	assert_int_equal(pcache_info_render(&info, 0, NULL, 1), -EINVAL);
	info.struct_bytes = 7;
	assert_int_equal(pcache_info_render(&info, 0, text, sizeof(text)), -EINVAL);
	/* What an older program's struct does not have counts as 0, whatever lies behind it. */
	shorter = numbered();
	shorter.struct_bytes = offsetof(struct pcache_info, extents);
	render(&shorter, PCACHE_RENDER_JSON, text);
	assert_non_null(strstr(text, "\"extents\": 0,"));
	assert_true(has_number(text, PCACHE_RENDER_JSON, "log_tail", false));
}

/* A real cache, open and closed. */
static void of_a_cache(void **state)
{
	struct pcache_info info;
	char text[TEXT_BYTES];
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 0, 4096, 0);
	info = rig_info(&rig);
	render(&info, PCACHE_RENDER_TEXT, text);
	assert_non_null(strstr(text, "state                    open\n"));
	assert_non_null(strstr(text, "dirty bytes              4096 (4 KiB)\n"));
	assert_non_null(strstr(text, "granularity              cache line\n"));
	render(&info, PCACHE_RENDER_JSON, text);
	assert_non_null(strstr(text, "\"dirty_bytes\": 4096, "));
	assert_non_null(strstr(text, "\"write_ops\": 1, "));
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_number_in_every_form),
		cmocka_unit_test(what_is_not_known),
		cmocka_unit_test(conditions),
		cmocka_unit_test(openmetrics_grammar),
		cmocka_unit_test(cut_buffers),
		cmocka_unit_test(bad_arguments_and_short_structs),
		cmocka_unit_test(of_a_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
