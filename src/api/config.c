/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The config object: options by number and by text, out of PCACHE_OPTION_TABLE.
 *
 * Job: hold values that are each valid by themselves. Whether they fit together, the media and the cache that is
 * there is left to format and open, which copy what they need; so a config may be changed or freed while caches
 * opened with it live.
 *
 * Locks: none; a config belongs to one thread while it is set up.
 */
#include "pcache/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/options.h"

#define SEGMENT_MIN_BYTES 4096u

enum option_kind { OPTION_U64, OPTION_BYTES, OPTION_BOOL, OPTION_ENUM };

struct option {
	const char *name;
	enum option_kind kind;
	const char *words; /* of an enum: separated by commas, in the order of their values */
	uint64_t def;
	uint64_t lo;
	uint64_t hi;
};

/* The kinds of the table, as members of struct option. */
#define OPTION_OF_U64 .kind = OPTION_U64, .words = NULL
#define OPTION_OF_BYTES .kind = OPTION_BYTES, .words = NULL
#define OPTION_OF_BOOL .kind = OPTION_BOOL, .words = NULL
#define OPTION_OF_ENUM(list) .kind = OPTION_ENUM, .words = list

static const struct option options[PCACHE_OPT_NR] = {
#define OPTION_ROW(id, text, kind_of, default_value, lowest, highest, unit, doc) \
	[id] = { .name = text, OPTION_OF_##kind_of, .def = default_value, .lo = lowest, .hi = highest },
	PCACHE_OPTION_TABLE(OPTION_ROW)
#undef OPTION_ROW
};

int pcache_config_new(struct pcache_config **out_config)
{
	struct pcache_config *config;

	if (out_config == NULL)
		return -EINVAL;
	config = calloc(1, sizeof(*config));
	if (config == NULL)
		return -ENOMEM;
	for (int i = 0; i < PCACHE_OPT_NR; i++)
		config->values[i] = options[i].def;
	*out_config = config;
	return 0;
}

void pcache_config_free(struct pcache_config *config)
{
	free(config);
}

static bool option_exists(int option)
{
	return option >= 0 && option < PCACHE_OPT_NR;
}

/* The limits of the table, and what they cannot say. */
static bool value_is_valid(int option, uint64_t value)
{
	if (value < options[option].lo || value > options[option].hi)
		return false;
	if (option == PCACHE_OPT_BLOCK_BYTES)
		return value == 512 || value == 4096;
	if (option == PCACHE_OPT_SEGMENT_BYTES)
		return value == 0 || (pc_is_pow2(value) && value >= SEGMENT_MIN_BYTES);
	return true;
}

int pcache_config_set(struct pcache_config *config, int option, uint64_t value)
{
	if (config == NULL)
		return -EINVAL;
	if (!option_exists(option))
		return -ENOENT;
	if (!value_is_valid(option, value))
		return -EINVAL;
	config->values[option] = value;
	config->is_set[option] = true;
	return 0;
}

int pcache_config_get(const struct pcache_config *config, int option, uint64_t *out_value)
{
	if (config == NULL || out_value == NULL)
		return -EINVAL;
	if (!option_exists(option))
		return -ENOENT;
	*out_value = config->values[option];
	return 0;
}

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

static bool parse_enum(const char *words, const char *text, uint64_t *out_value)
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
	case OPTION_U64:
		return parse_u64(text, out_value);
	case OPTION_BYTES:
		return parse_bytes(text, out_value);
	case OPTION_BOOL:
		return parse_bool(text, out_value);
	case OPTION_ENUM:
		return parse_enum(option->words, text, out_value);
	}
	return false;
}

int pcache_config_set_str(struct pcache_config *config, const char *name, const char *value)
{
	if (config == NULL || name == NULL || value == NULL)
		return -EINVAL;
	for (int i = 0; i < PCACHE_OPT_NR; i++) {
		uint64_t number;

		if (strcmp(options[i].name, name) != 0)
			continue;
		if (!parse_value(&options[i], value, &number))
			return -EINVAL;
		return pcache_config_set(config, i, number);
	}
	return -ENOENT;
}

int pcache_config_set_log(struct pcache_config *config, pcache_log_fn fn, void *user)
{
	if (config == NULL)
		return -EINVAL;
	config->msg.fn = fn;
	config->msg.user = user;
	return 0;
}

int pcache_config_set_backing_uuid(struct pcache_config *config, const uint8_t *uuid)
{
	if (config == NULL || uuid == NULL)
		return -EINVAL;
	memcpy(config->backing_uuid, uuid, sizeof(config->backing_uuid));
	return 0;
}
