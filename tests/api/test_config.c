/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options: defaults, limits and texts of the whole table, and that a refused value changes nothing.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/options.h"
#include "pcache/pcache.h"

enum kind { IS_U64, IS_BYTES, IS_BOOL, IS_ENUM };

struct row {
	int id;
	const char *name;
	enum kind kind;
	const char *words;
	uint64_t def;
	uint64_t lo;
	uint64_t hi;
};

#define ROW_U64 IS_U64, NULL
#define ROW_BYTES IS_BYTES, NULL
#define ROW_BOOL IS_BOOL, NULL
#define ROW_ENUM(list) IS_ENUM, list

static const struct row rows[] = {
#define ROW(id, name, kind, def, lo, hi, unit, when, doc) { id, name, ROW_##kind, def, lo, hi },
	PCACHE_OPTION_TABLE(ROW)
#undef ROW
};

#define ROW_NR (sizeof(rows) / sizeof(rows[0]))

static struct pcache_config *make(void)
{
	struct pcache_config *config = NULL;

	assert_int_equal(pcache_config_new(&config), 0);
	assert_non_null(config);
	return config;
}

static uint64_t get(const struct pcache_config *config, int option)
{
	uint64_t value = 0xdead;

	assert_int_equal(pcache_config_get(config, option, &value), 0);
	return value;
}

static void assert_all_default_but(const struct pcache_config *config, int option)
{
	for (size_t i = 0; i < ROW_NR; i++) {
		if (rows[i].id == option)
			continue;
		assert_int_equal(get(config, rows[i].id), rows[i].def);
		assert_false(config->is_set[rows[i].id]);
	}
}

static void test_table(void **state)
{
	(void)state;
	assert_int_equal(ROW_NR, PCACHE_OPT_NR);
	for (size_t i = 0; i < ROW_NR; i++) {
		assert_int_equal(rows[i].id, i);
		assert_true(rows[i].lo <= rows[i].def && rows[i].def <= rows[i].hi);
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(rows[i].name, rows[k].name);
		if (rows[i].kind == IS_BOOL)
			assert_int_equal(rows[i].hi, 1);
		if (rows[i].kind == IS_ENUM) {
			uint64_t commas = 0;

			for (const char *at = rows[i].words; *at != '\0'; at++)
				commas += *at == ',';
			assert_int_equal(rows[i].hi, commas); /* one value for each word */
		}
	}
}

static void test_defaults(void **state)
{
	struct pcache_config *config = make();
	static const uint8_t none[16];

	(void)state;
	assert_all_default_but(config, -1);
	assert_null(config->msg.fn);
	assert_memory_equal(config->backing_uuid, none, 16);
	pcache_config_free(config);
	pcache_config_free(NULL);
}

static void test_null_and_unknown(void **state)
{
	static const int unknown[] = { -1, PCACHE_OPT_NR, PCACHE_OPT_NR + 1, INT32_MAX, INT32_MIN };
	struct pcache_config *config = make();
	uint8_t uuid[16] = { 0 };
	uint64_t value = 77;

	(void)state;
	assert_int_equal(pcache_config_new(NULL), -EINVAL);
	assert_int_equal(pcache_config_set(NULL, 0, 0), -EINVAL);
	assert_int_equal(pcache_config_get(NULL, 0, &value), -EINVAL);
	assert_int_equal(pcache_config_get(config, 0, NULL), -EINVAL);
	assert_int_equal(pcache_config_set_str(NULL, "force", "on"), -EINVAL);
	assert_int_equal(pcache_config_set_str(config, NULL, "on"), -EINVAL);
	assert_int_equal(pcache_config_set_str(config, "force", NULL), -EINVAL);
	assert_int_equal(pcache_config_set_log(NULL, NULL, NULL), -EINVAL);
	assert_int_equal(pcache_config_set_backing_uuid(NULL, uuid), -EINVAL);
	assert_int_equal(pcache_config_set_backing_uuid(config, NULL), -EINVAL);
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		assert_int_equal(pcache_config_set(config, unknown[i], 1), -ENOENT);
		assert_int_equal(pcache_config_get(config, unknown[i], &value), -ENOENT);
	}
	assert_int_equal(value, 77);
	assert_int_equal(pcache_config_set_str(config, "", "1"), -ENOENT);
	assert_int_equal(pcache_config_set_str(config, "forc", "1"), -ENOENT);
	assert_int_equal(pcache_config_set_str(config, "forced", "1"), -ENOENT);
	assert_int_equal(pcache_config_set_str(config, "FORCE", "1"), -ENOENT);
	assert_all_default_but(config, -1);
	pcache_config_free(config);
}

/* Each limit and its neighbours, and that only the one option changes. */
static void test_limits(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROW_NR; i++) {
		const struct row *row = &rows[i];
		struct pcache_config *config = make();

		assert_int_equal(pcache_config_set(config, row->id, row->hi), 0);
		assert_int_equal(get(config, row->id), row->hi);
		assert_int_equal(pcache_config_set(config, row->id, row->lo), 0);
		assert_int_equal(get(config, row->id), row->lo);
		if (row->hi != UINT64_MAX) {
			assert_int_equal(pcache_config_set(config, row->id, row->hi + 1), -EINVAL);
			assert_int_equal(pcache_config_set(config, row->id, UINT64_MAX), -EINVAL);
		}
		if (row->lo != 0) {
			assert_int_equal(pcache_config_set(config, row->id, row->lo - 1), -EINVAL);
			assert_int_equal(pcache_config_set(config, row->id, 0), -EINVAL);
		}
		assert_int_equal(get(config, row->id), row->lo);
		assert_true(config->is_set[row->id]);
		assert_all_default_but(config, row->id);
		pcache_config_free(config);
	}
}

static void test_a_refused_value_is_no_wish(void **state)
{
	struct pcache_config *config = make();

	(void)state;
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_GC_PERCENT, 91), -EINVAL);
	assert_int_equal(pcache_config_set_str(config, "gc_percent", "91"), -EINVAL);
	assert_all_default_but(config, -1);
	pcache_config_free(config);
}

static void test_block_and_segment_sizes(void **state)
{
	struct pcache_config *config = make();

	(void)state;
	for (uint64_t bytes = 0; bytes <= 8192; bytes++)
		assert_int_equal(pcache_config_set(config, PCACHE_OPT_BLOCK_BYTES, bytes),
				 bytes == 512 || bytes == 4096 ? 0 : -EINVAL);
	for (uint64_t bytes = 1; bytes <= 8192; bytes++)
		assert_int_equal(pcache_config_set(config, PCACHE_OPT_SEGMENT_BYTES, bytes),
				 bytes == 4096 || bytes == 8192 ? 0 : -EINVAL);
	for (uint64_t bytes = 4096; bytes <= 16777216; bytes *= 2) {
		assert_int_equal(pcache_config_set(config, PCACHE_OPT_SEGMENT_BYTES, bytes - 1), -EINVAL);
		assert_int_equal(pcache_config_set(config, PCACHE_OPT_SEGMENT_BYTES, bytes + 512), -EINVAL);
		assert_int_equal(pcache_config_set(config, PCACHE_OPT_SEGMENT_BYTES, bytes), 0);
		assert_int_equal(get(config, PCACHE_OPT_SEGMENT_BYTES), bytes);
	}
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_SEGMENT_BYTES, 0), 0);
	pcache_config_free(config);
}

/* Every option by its name and a text for its lowest, default and highest value. */
static void test_round_trip_by_text(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROW_NR; i++) {
		const struct row *row = &rows[i];
		const uint64_t values[] = { row->lo, row->def, row->hi };

		for (size_t k = 0; k < 3; k++) {
			struct pcache_config *config = make();
			const char *word = row->words;
			char text[64];

			if (row->kind == IS_ENUM) {
				for (uint64_t skipped = 0; skipped < values[k]; skipped++)
					word = strchr(word, ',') + 1;
				(void)snprintf(text, sizeof(text), "%.*s", (int)strcspn(word, ","), word);
			} else if (row->kind == IS_BOOL) {
				(void)snprintf(text, sizeof(text), "%s", values[k] != 0 ? "on" : "off");
			} else {
				(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)values[k]);
			}
			assert_int_equal(pcache_config_set_str(config, row->name, text), 0);
			assert_int_equal(get(config, row->id), values[k]);
			assert_true(config->is_set[row->id]);
			assert_all_default_but(config, row->id);
			pcache_config_free(config);
		}
	}
}

static void test_good_texts(void **state)
{
	static const struct {
		const char *name;
		const char *text;
		int id;
		uint64_t value;
	} cases[] = {
		{ "cache_bytes", "0", PCACHE_OPT_CACHE_BYTES, 0 },
		{ "cache_bytes", "007", PCACHE_OPT_CACHE_BYTES, 7 },
		{ "cache_bytes", "1K", PCACHE_OPT_CACHE_BYTES, UINT64_C(1) << 10 },
		{ "cache_bytes", "3M", PCACHE_OPT_CACHE_BYTES, UINT64_C(3) << 20 },
		{ "cache_bytes", "4G", PCACHE_OPT_CACHE_BYTES, UINT64_C(4) << 30 },
		{ "cache_bytes", "2T", PCACHE_OPT_CACHE_BYTES, UINT64_C(2) << 40 },
		{ "cache_bytes", "0T", PCACHE_OPT_CACHE_BYTES, 0 },
		{ "cache_bytes", "18446744073709551615", PCACHE_OPT_CACHE_BYTES, UINT64_MAX },
		{ "cache_bytes", "16777215T", PCACHE_OPT_CACHE_BYTES, UINT64_C(16777215) << 40 },
		{ "block_bytes", "4K", PCACHE_OPT_BLOCK_BYTES, 4096 },
		{ "segment_bytes", "16M", PCACHE_OPT_SEGMENT_BYTES, 16777216 },
		{ "data_crc", "off", PCACHE_OPT_DATA_CRC, 0 },
		{ "data_crc", "no", PCACHE_OPT_DATA_CRC, 0 },
		{ "data_crc", "false", PCACHE_OPT_DATA_CRC, 0 },
		{ "data_crc", "0", PCACHE_OPT_DATA_CRC, 0 },
		{ "force", "on", PCACHE_OPT_FORCE, 1 },
		{ "force", "yes", PCACHE_OPT_FORCE, 1 },
		{ "force", "true", PCACHE_OPT_FORCE, 1 },
		{ "force", "1", PCACHE_OPT_FORCE, 1 },
		{ "ordering", "batch", PCACHE_OPT_ORDERING, PCACHE_ORDERING_BATCH },
		{ "commit", "flush", PCACHE_OPT_COMMIT, PCACHE_COMMIT_FLUSH },
		{ "commit", "write", PCACHE_OPT_COMMIT, PCACHE_COMMIT_WRITE },
		{ "maintenance", "caller", PCACHE_OPT_MAINTENANCE, PCACHE_MAINTENANCE_CALLER },
		{ "gc_percent", "90", PCACHE_OPT_GC_PERCENT, 90 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct pcache_config *config = make();

		assert_int_equal(pcache_config_set_str(config, cases[i].name, cases[i].text), 0);
		assert_int_equal(get(config, cases[i].id), cases[i].value);
		pcache_config_free(config);
	}
}

static void test_bad_texts(void **state)
{
	static const char *const cases[][2] = {
		{ "cache_bytes", "" },
		{ "cache_bytes", " " },
		{ "cache_bytes", "K" },
		{ "cache_bytes", "-1" },
		{ "cache_bytes", "+1" },
		{ "cache_bytes", " 1" },
		{ "cache_bytes", "1 " },
		{ "cache_bytes", "1 K" },
		{ "cache_bytes", "0x10" },
		{ "cache_bytes", "1.5G" },
		{ "cache_bytes", "1KB" },
		{ "cache_bytes", "1KK" },
		{ "cache_bytes", "1k" },
		{ "cache_bytes", "1P" },
		{ "cache_bytes", "1\n" },
		{ "cache_bytes", "18446744073709551616" },
		{ "cache_bytes", "99999999999999999999999999" },
		{ "cache_bytes", "18014398509481984K" },
		{ "cache_bytes", "16777216T" },
		{ "block_bytes", "1K" },
		{ "segment_bytes", "32M" },
		{ "segment_bytes", "5000" },
		{ "gc_percent", "91" },
		{ "gc_percent", "70%" },
		{ "gc_percent", "1K" },
		{ "gc_percent", "" },
		{ "writeback_delay_ms", "3600001" },
		{ "writeback_delay_ms", "1s" },
		{ "data_crc", "" },
		{ "data_crc", "On" },
		{ "data_crc", "2" },
		{ "data_crc", "00" },
		{ "data_crc", "on " },
		{ "ordering", "" },
		{ "ordering", "," },
		{ "ordering", "strict," },
		{ "ordering", "strict,batch" },
		{ "ordering", "stric" },
		{ "ordering", "Strict" },
		{ "ordering", "0" },
		{ "commit", "auto,write" },
		{ "commit", "none" },
	};
	struct pcache_config *config = make();

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (pcache_config_set_str(config, cases[i][0], cases[i][1]) != -EINVAL)
			fail_msg("%s took \"%s\"", cases[i][0], cases[i][1]);
	}
	assert_all_default_but(config, -1);
	pcache_config_free(config);
}

/* No word, cut or grown by a character, is taken. */
static void test_every_word_and_its_neighbours(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROW_NR; i++) {
		const char *word = rows[i].words;
		uint64_t value = 0;

		while (word != NULL) {
			struct pcache_config *config = make();
			size_t len = strcspn(word, ",");
			char text[64];

			(void)snprintf(text, sizeof(text), "%.*s", (int)len, word);
			assert_int_equal(pcache_config_set_str(config, rows[i].name, text), 0);
			assert_int_equal(get(config, rows[i].id), value++);
			(void)snprintf(text, sizeof(text), "%.*sx", (int)len, word);
			assert_int_equal(pcache_config_set_str(config, rows[i].name, text), -EINVAL);
			(void)snprintf(text, sizeof(text), "%.*s", (int)len - 1, word);
			assert_int_equal(pcache_config_set_str(config, rows[i].name, text), -EINVAL);
			pcache_config_free(config);
			word = word[len] == ',' ? word + len + 1 : NULL;
		}
	}
}

static void on_message(void *user, int severity, const char *text)
{
	(void)user, (void)severity, (void)text;
}

static void test_log_and_uuid(void **state)
{
	struct pcache_config *config = make();
	uint8_t uuid[16];
	int user;

	(void)state;
	for (uint8_t i = 0; i < 16; i++)
		uuid[i] = (uint8_t)(i + 1);
	assert_int_equal(pcache_config_set_log(config, on_message, &user), 0);
	assert_true(config->msg.fn == on_message);
	assert_ptr_equal(config->msg.user, &user);
	assert_int_equal(pcache_config_set_log(config, NULL, NULL), 0);
	assert_null(config->msg.fn);
	assert_int_equal(pcache_config_set_backing_uuid(config, uuid), 0);
	uuid[0] = 99; /* it was copied */
	assert_int_equal(config->backing_uuid[0], 1);
	assert_memory_equal(config->backing_uuid + 1, uuid + 1, 15);
	pcache_config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_null_and_unknown),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_a_refused_value_is_no_wish),
		cmocka_unit_test(test_block_and_segment_sizes),
		cmocka_unit_test(test_round_trip_by_text),
		cmocka_unit_test(test_good_texts),
		cmocka_unit_test(test_bad_texts),
		cmocka_unit_test(test_every_word_and_its_neighbours),
		cmocka_unit_test(test_log_and_uuid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
