/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of options as data: what describe says is the table, each value goes to text and back, and lists of pairs are taken whole or not at all.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "pcache/pcache.h"

struct row {
	int id;
	const char *name;
	const char *kind;
	uint64_t def;
	uint64_t lo;
	uint64_t hi;
	const char *unit;
	const char *when;
	const char *doc;
};

static const struct row rows[] = {
#define ROW(id, name, kind, def, lo, hi, unit, when, doc) { id, name, #kind, def, lo, hi, unit, #when, doc },
	PCACHE_OPTION_TABLE(ROW)
#undef ROW
};

#define ROW_NR (sizeof(rows) / sizeof(rows[0]))

static struct pcache_option_info describe(int option)
{
	struct pcache_option_info info = { .struct_bytes = sizeof(info) };

	assert_int_equal(pcache_option_describe(option, &info), 0);
	return info;
}

static uint32_t when_of(const char *word)
{
	uint32_t when = 0;

	if (strstr(word, "FORMAT"))
		when |= PCACHE_OPTION_AT_FORMAT;
	if (strstr(word, "OPEN") || strstr(word, "LIVE"))
		when |= PCACHE_OPTION_AT_OPEN;
	if (strstr(word, "LIVE"))
		when |= PCACHE_OPTION_WHILE_OPEN;
	return when;
}

static void describes_the_table(void **state)
{
	static const char *const kinds[] = { "U64", "BYTES", "BOOL", "ENUM(" };

	(void)state;
	for (size_t i = 0; i < ROW_NR; i++) {
		struct pcache_option_info info = describe(rows[i].id);

		assert_int_equal(pcache_option_find(rows[i].name), rows[i].id);
		assert_string_equal(info.name, rows[i].name);
		assert_string_equal(info.unit, rows[i].unit);
		assert_string_equal(info.doc, rows[i].doc);
		assert_true(info.kind <= PCACHE_OPTION_WORD);
		assert_int_equal(strncmp(rows[i].kind, kinds[info.kind], strlen(kinds[info.kind])), 0);
		assert_int_equal(info.words != NULL, info.kind == PCACHE_OPTION_WORD);
		assert_int_equal(info.when, when_of(rows[i].when));
		assert_int_not_equal(info.when, 0);
		assert_int_equal(info.default_value, rows[i].def);
		assert_int_equal(info.lowest, rows[i].lo);
		assert_int_equal(info.highest, rows[i].hi);
		assert_int_equal(info.reserved, 0);
	}
}

/* An older program's struct is not overrun; a newer one's tail is left alone. */
static void fills_what_is_asked(void **state)
{
	struct {
		struct pcache_option_info info;
		uint64_t newer;
	} big = { .newer = 77 };
	struct pcache_option_info info;

	(void)state;
	memset(&info, 0xee, sizeof(info));
	info.struct_bytes = 8;
	assert_int_equal(pcache_option_describe(PCACHE_OPT_COMMIT, &info), 0);
	assert_int_equal(info.struct_bytes, 8);
	assert_int_equal(info.kind, PCACHE_OPTION_WORD);
	assert_int_equal(info.when, 0xeeeeeeee);
	info.struct_bytes = 7;
	assert_int_equal(pcache_option_describe(PCACHE_OPT_COMMIT, &info), -EINVAL);
	big.info.struct_bytes = sizeof(big);
	assert_int_equal(pcache_option_describe(PCACHE_OPT_COMMIT, &big.info), 0);
	assert_int_equal(big.info.struct_bytes, sizeof(big));
	assert_int_equal(big.newer, 77);
}

static void null_and_unknown(void **state)
{
	static const int unknown[] = { -1, PCACHE_OPT_NR, INT32_MAX, INT32_MIN };
	struct pcache_option_info info = { .struct_bytes = sizeof(info) };
	char text[32] = "untouched";
	uint64_t value = 77;

	(void)state;
	assert_int_equal(pcache_option_describe(0, NULL), -EINVAL);
	assert_int_equal(pcache_option_find(NULL), -EINVAL);
	assert_int_equal(pcache_option_find(""), -ENOENT);
	assert_int_equal(pcache_option_find("forc"), -ENOENT);
	assert_int_equal(pcache_option_parse(0, NULL, &value), -EINVAL);
	assert_int_equal(pcache_option_parse(0, "1", NULL), -EINVAL);
	assert_int_equal(pcache_option_text(0, 0, NULL, 32), -EINVAL);
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		assert_int_equal(pcache_option_describe(unknown[i], &info), -ENOENT);
		assert_int_equal(pcache_option_parse(unknown[i], "1", &value), -ENOENT);
		assert_int_equal(pcache_option_text(unknown[i], 1, text, sizeof(text)), -ENOENT);
	}
	assert_int_equal(pcache_option_parse(PCACHE_OPT_GC_PERCENT, "91", &value), -EINVAL);
	assert_int_equal(pcache_option_text(PCACHE_OPT_GC_PERCENT, 91, text, sizeof(text)), -EINVAL);
	assert_int_equal(pcache_option_text(PCACHE_OPT_BLOCK_BYTES, 1024, text, sizeof(text)), -EINVAL);
	assert_string_equal(text, "untouched");
	assert_int_equal(value, 77);
}

static void there_and_back(const struct row *row, uint64_t value)
{
	char text[32], cut[32];
	uint64_t back = ~value;
	int len = pcache_option_text(row->id, value, text, sizeof(text));

	assert_true(len > 0);
	assert_int_equal(strlen(text), len);
	assert_int_equal(pcache_option_parse(row->id, text, &back), 0);
	assert_int_equal(back, value);
	/* One byte too few, and just enough. */
	strcpy(cut, "untouched");
	assert_int_equal(pcache_option_text(row->id, value, cut, (size_t)len), -ENOSPC);
	assert_string_equal(cut, "untouched");
	assert_int_equal(pcache_option_text(row->id, value, cut, (size_t)len + 1), len);
	assert_string_equal(cut, text);
}

static void round_trip_over_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROW_NR; i++) {
		there_and_back(&rows[i], rows[i].lo);
		there_and_back(&rows[i], rows[i].def);
		there_and_back(&rows[i], rows[i].hi);
		for (uint64_t value = 0; describe(rows[i].id).kind == PCACHE_OPTION_WORD && value <= rows[i].hi;
		     value++)
			there_and_back(&rows[i], value);
	}
}

static uint64_t get(const struct pcache_config *config, int option)
{
	uint64_t value = 0xdead;

	assert_int_equal(pcache_config_get(config, option, &value), 0);
	return value;
}

/* Every option, first at its lowest and then at its highest value, in one list. */
static void a_list_of_all(void **state)
{
	struct pcache_config *config = NULL;
	char list[2048];

	(void)state;
	assert_int_equal(pcache_config_new(&config), 0);
	for (int high = 0; high <= 1; high++) {
		size_t len = 0;

		for (size_t i = 0; i < ROW_NR; i++) {
			char text[32];

			(void)pcache_option_text(rows[i].id, high ? rows[i].hi : rows[i].lo, text, sizeof(text));
			len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s=%s", i ? "," : "", rows[i].name,
						text);
		}
		assert_int_equal(pcache_config_parse(config, list, NULL), 0);
		for (size_t i = 0; i < ROW_NR; i++)
			assert_int_equal(get(config, rows[i].id), high ? rows[i].hi : rows[i].lo);
	}
	assert_int_equal(pcache_config_parse(config, "", NULL), 0);
	assert_int_equal(pcache_config_parse(config, "gc_percent=10,gc_percent=20", NULL), 0);
	assert_int_equal(get(config, PCACHE_OPT_GC_PERCENT), 20);
	pcache_config_free(config);
}

static void a_bad_list_sets_nothing(void **state)
{
	static const struct {
		const char *text;
		int code;
		size_t bad_at;
	} cases[] = {
		{ "gc_percent=91", -EINVAL, 0 },
		{ "gc_percent", -EINVAL, 0 },
		{ "=", -ENOENT, 0 },
		{ ",", -EINVAL, 0 },
		{ "gc_percent=50,", -EINVAL, 14 },
		{ "gc_percent=50,,data_crc=off", -EINVAL, 14 },
		{ "gc_percent=50,nothing=1", -ENOENT, 14 },
		{ "gc_percent=50, data_crc=off", -ENOENT, 14 },
		{ "gc_percent=50,data_crc=off,ordering=other", -EINVAL, 27 },
		{ "gc_percent==50", -EINVAL, 0 },
		{ "gc_percent=50=", -EINVAL, 0 },
	};
	struct pcache_config *config = NULL;
	size_t bad_at = 99;
	char longest[512];

	(void)state;
	assert_int_equal(pcache_config_new(&config), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(pcache_config_parse(config, cases[i].text, NULL), cases[i].code);
		assert_int_equal(pcache_config_parse(config, cases[i].text, &bad_at), cases[i].code);
		assert_int_equal(bad_at, cases[i].bad_at);
		assert_int_equal(get(config, PCACHE_OPT_GC_PERCENT), 70);
		assert_int_equal(get(config, PCACHE_OPT_DATA_CRC), 1);
	}
	memset(longest, '0', sizeof(longest));
	memcpy(longest, "gc_percent=", 11);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(pcache_config_parse(config, longest, &bad_at), -EINVAL);
	bad_at = 99;
	assert_int_equal(pcache_config_parse(NULL, "", &bad_at), -EINVAL);
	assert_int_equal(pcache_config_parse(config, NULL, &bad_at), -EINVAL);
	assert_int_equal(bad_at, 99);
	pcache_config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(describes_the_table), cmocka_unit_test(fills_what_is_asked),
		cmocka_unit_test(null_and_unknown),    cmocka_unit_test(round_trip_over_the_table),
		cmocka_unit_test(a_list_of_all),       cmocka_unit_test(a_bad_list_sets_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
