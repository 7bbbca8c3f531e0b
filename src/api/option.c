/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of options as data: description, limits, and values from and to text. All of it constant, so safe from any thread.
 *
 * Job: what can be said of a value by itself. Whether values fit together, the media and the cache that is there is left to format and open; config.c keeps values, tune.c
 * shows and changes those of an open cache.
 */
#include "api/option.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/options.h"

#define SEGMENT_MIN_BYTES 4096u
#define TEXT_MAX_BYTES 32u

struct option {
	const char *name;
	const char *words; /* separated by commas, in the order of their values */
	const char *unit;
	const char *doc;
	uint32_t kind; /* PCACHE_OPTION_U64, ... */
	uint32_t when; /* PCACHE_OPTION_AT_FORMAT, ... */
	uint64_t def;
	uint64_t lo;
	uint64_t hi;
};

/* The kinds of the table, as members of struct option. */
#define KIND_U64 .kind = PCACHE_OPTION_U64
#define KIND_BYTES .kind = PCACHE_OPTION_BYTES
#define KIND_BOOL .kind = PCACHE_OPTION_BOOL
#define KIND_ENUM(list) .kind = PCACHE_OPTION_WORD, .words = list

#define WHEN_FORMAT PCACHE_OPTION_AT_FORMAT
#define WHEN_OPEN PCACHE_OPTION_AT_OPEN
#define WHEN_FORMAT_AND_OPEN (PCACHE_OPTION_AT_FORMAT | PCACHE_OPTION_AT_OPEN)
#define WHEN_LIVE (PCACHE_OPTION_AT_OPEN | PCACHE_OPTION_WHILE_OPEN)
#define WHEN_FORMAT_AND_LIVE (PCACHE_OPTION_AT_FORMAT | WHEN_LIVE)

static const struct option options[PCACHE_OPT_NR] = {
#define OPTION_ROW(id, text, kind_of, default_value, lowest, highest, unit_text, when_of, words_of_doc) \
	[id] = { .name = text, \
		 KIND_##kind_of, \
		 .unit = unit_text, \
		 .doc = words_of_doc, \
		 .when = WHEN_##when_of, \
		 .def = default_value, \
		 .lo = lowest, \
		 .hi = highest },
	PCACHE_OPTION_TABLE(OPTION_ROW)
#undef OPTION_ROW
};

bool pc_option_exists(int option)
{
	return option >= 0 && option < PCACHE_OPT_NR;
}

bool pc_option_may_change(int option)
{
	return (options[option].when & PCACHE_OPTION_WHILE_OPEN) != 0;
}

uint64_t pc_option_default(int option)
{
	return options[option].def;
}

/* The limits of the table, and what they cannot say. */
bool pc_option_valid(int option, uint64_t value)
{
	if (value < options[option].lo || value > options[option].hi)
		return false;
	if (option == PCACHE_OPT_BLOCK_BYTES)
		return value == 512 || value == 4096;
	if (option == PCACHE_OPT_SEGMENT_BYTES)
		return value == 0 || (pc_is_pow2(value) && value >= SEGMENT_MIN_BYTES);
	return true;
}

PCACHE_API int pcache_option_find(const char *name)
{
	if (name == NULL)
		return -EINVAL;
	for (int i = 0; i < PCACHE_OPT_NR; i++) {
		if (strcmp(options[i].name, name) == 0)
			return i;
	}
	return -ENOENT;
}

PCACHE_API int pcache_option_describe(int option, struct pcache_option_info *info)
{
	struct pcache_option_info full;
	const struct option *row;
	uint32_t bytes;

	if (info == NULL || info->struct_bytes < 8)
		return -EINVAL;
	if (!pc_option_exists(option))
		return -ENOENT;
	row = &options[option];
	bytes = info->struct_bytes;
	memset(&full, 0, sizeof(full));
	full.struct_bytes = bytes;
	full.kind = row->kind;
	full.when = row->when;
	full.default_value = row->def;
	full.lowest = row->lo;
	full.highest = row->hi;
	full.name = row->name;
	full.unit = row->unit;
	full.words = row->words;
	full.doc = row->doc;
	memcpy(info, &full, PC_MIN((size_t)bytes, sizeof(full)));
	return 0;
}

/* ---- values from text ------------------------------------------------------------------------------------------------ */

/* Decimal digits only: no sign, no blank. Stops at the first other character; false without a digit or on overflow. */
static bool parse_digits(const char **text, uint64_t *out_value)
{
	const char *at = *text;
	uint64_t value = 0;

	for (; *at >= '0' && *at <= '9'; at++) {
		if (!pc_mul_u64(value, 10, &value) || !pc_add_u64(value, (uint64_t)(*at - '0'), &value))
			return false;
	}
	if (at == *text)
		return false;
	*text = at;
	*out_value = value;
	return true;
}

static bool parse_u64(const char *text, uint64_t *out_value)
{
	uint64_t value;

	if (!parse_digits(&text, &value) || *text != '\0')
		return false;
	*out_value = value;
	return true;
}

static bool parse_bytes(const char *text, uint64_t *out_value)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	uint64_t value;

	if (!parse_digits(&text, &value))
		return false;
	if (*text != '\0') {
		suffix = strchr(suffixes, *text);
		if (suffix == NULL || text[1] != '\0')
			return false;
		if (!pc_mul_u64(value, UINT64_C(1) << (10 * (suffix - suffixes + 1)), &value))
			return false;
	}
	*out_value = value;
	return true;
}

static bool parse_bool(const char *text, uint64_t *out_value)
{
	static const char *const words[][2] = { { "off", "on" }, { "false", "true" }, { "no", "yes" }, { "0", "1" } };

	for (size_t i = 0; i < PC_ARRAY_NR(words); i++) {
		for (uint64_t value = 0; value <= 1; value++) {
			if (strcmp(text, words[i][value]) == 0) {
				*out_value = value;
				return true;
			}
		}
	}
	return false;
}

static bool parse_word(const char *words, const char *text, uint64_t *out_value)
{
	size_t text_len = strlen(text);
	uint64_t value = 0;

	if (text_len == 0)
		return false;
	for (;;) {
		size_t word_len = strcspn(words, ",");

		if (word_len == text_len && memcmp(words, text, word_len) == 0) {
			*out_value = value;
			return true;
		}
		if (words[word_len] == '\0')
			return false;
		words += word_len + 1;
		value++;
	}
}

static bool parse_value(const struct option *option, const char *text, uint64_t *out_value)
{
	switch (option->kind) {
	case PCACHE_OPTION_U64:
		return parse_u64(text, out_value);
	case PCACHE_OPTION_BYTES:
		return parse_bytes(text, out_value);
	case PCACHE_OPTION_BOOL:
		return parse_bool(text, out_value);
	default:
		return parse_word(option->words, text, out_value);
	}
}

PCACHE_API int pcache_option_parse(int option, const char *text, uint64_t *out_value)
{
	uint64_t value;

	if (text == NULL || out_value == NULL)
		return -EINVAL;
	if (!pc_option_exists(option))
		return -ENOENT;
	if (!parse_value(&options[option], text, &value) || !pc_option_valid(option, value))
		return -EINVAL;
	*out_value = value;
	return 0;
}

/* ---- and to text ------------------------------------------------------------------------------------------------------- */

/* The word of a value: its start, and its length. */
static const char *word_of(const char *words, uint64_t value, size_t *out_len)
{
	for (; value; value--)
		words = strchr(words, ',') + 1;
	*out_len = strcspn(words, ",");
	return words;
}

PCACHE_API int pcache_option_text(int option, uint64_t value, char *buf, size_t buf_bytes)
{
	char number[TEXT_MAX_BYTES];
	const char *text = number;
	size_t len;

	if (buf == NULL)
		return -EINVAL;
	if (!pc_option_exists(option))
		return -ENOENT;
	if (!pc_option_valid(option, value))
		return -EINVAL;
	if (options[option].kind == PCACHE_OPTION_WORD)
		text = word_of(options[option].words, value, &len);
	else if (options[option].kind == PCACHE_OPTION_BOOL)
		text = word_of("off,on", value, &len);
	else
		len = (size_t)snprintf(number, sizeof(number), "%llu", (unsigned long long)value);
	if (len >= buf_bytes)
		return -ENOSPC;
	memcpy(buf, text, len);
	buf[len] = '\0';
	return (int)len;
}
