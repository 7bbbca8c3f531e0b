/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The config object: values of options by number and by text.
 *
 * Job: hold values that are each valid by themselves (option.c). Whether they fit together, the media and the cache that is
 * there is left to format and open, which copy what they need; so a config may be changed or freed while caches
 * opened with it live.
 *
 * Locks: none; a config belongs to one thread while it is set up.
 */
#include "pcache/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/option.h"
#include "base/options.h"

#define PAIR_MAX_BYTES 128u /* of a name and its value, longer than any that is valid */

int pcache_config_new(struct pcache_config **out_config)
{
	struct pcache_config *config;

	if (out_config == NULL)
		return -EINVAL;
	config = calloc(1, sizeof(*config));
	if (config == NULL)
		return -ENOMEM;
	for (int i = 0; i < PCACHE_OPT_NR; i++)
		config->values[i] = pc_option_default(i);
	*out_config = config;
	return 0;
}

void pcache_config_free(struct pcache_config *config)
{
	free(config);
}

int pcache_config_set(struct pcache_config *config, int option, uint64_t value)
{
	if (config == NULL)
		return -EINVAL;
	if (!pc_option_exists(option))
		return -ENOENT;
	if (!pc_option_valid(option, value))
		return -EINVAL;
	config->values[option] = value;
	config->is_set[option] = true;
	return 0;
}

int pcache_config_get(const struct pcache_config *config, int option, uint64_t *out_value)
{
	if (config == NULL || out_value == NULL)
		return -EINVAL;
	if (!pc_option_exists(option))
		return -ENOENT;
	*out_value = config->values[option];
	return 0;
}

int pcache_config_set_str(struct pcache_config *config, const char *name, const char *value)
{
	uint64_t number;
	int option, rc;

	if (config == NULL || name == NULL || value == NULL)
		return -EINVAL;
	option = pcache_option_find(name);
	if (option < 0)
		return option;
	rc = pcache_option_parse(option, value, &number);
	return rc ? rc : pcache_config_set(config, option, number);
}

/* One "name=value" of len bytes. */
static int set_pair(struct pcache_config *config, const char *pair, size_t len)
{
	char text[PAIR_MAX_BYTES];
	char *value;

	if (len >= sizeof(text))
		return -EINVAL;
	memcpy(text, pair, len);
	text[len] = '\0';
	value = strchr(text, '=');
	if (value == NULL)
		return -EINVAL;
	*value++ = '\0';
	return pcache_config_set_str(config, text, value);
}

int pcache_config_parse(struct pcache_config *config, const char *text, size_t *out_bad_at)
{
	struct pcache_config changed;
	size_t at = 0;

	if (config == NULL || text == NULL)
		return -EINVAL;
	changed = *config;
	while (text[at] != '\0') {
		size_t len = strcspn(text + at, ",");
		int rc = set_pair(&changed, text + at, len);

		if (rc == 0 && text[at + len] == ',' && text[at + len + 1] == '\0') {
			/* A list does not end with a comma: something was forgotten. */
			at += len + 1;
			rc = -EINVAL;
		}
		if (rc) {
			if (out_bad_at != NULL)
				*out_bad_at = at;
			return rc;
		}
		at += len + (text[at + len] == ',');
	}
	*config = changed;
	return 0;
}

int pcache_config_set_log(struct pcache_config *config, pcache_log_fn fn, void *user)
{
	if (config == NULL)
		return -EINVAL;
	config->msg.fn = fn;
	config->msg.user = user;
	return 0;
}

int pcache_config_set_event(struct pcache_config *config, pcache_event_fn fn, void *user)
{
	if (config == NULL)
		return -EINVAL;
	config->msg.event_fn = fn;
	config->msg.event_user = user;
	return 0;
}

const char *pcache_event_name(uint32_t kind)
{
	switch (kind) {
#define EVENT_NAME(id, number, name, doc) \
	case number: \
		return name;
		PCACHE_EVENT_TABLE(EVENT_NAME)
#undef EVENT_NAME
	default:
		return NULL;
	}
}

int pcache_config_set_backing_uuid(struct pcache_config *config, const uint8_t *uuid)
{
	if (config == NULL || uuid == NULL)
		return -EINVAL;
	memcpy(config->backing_uuid, uuid, sizeof(config->backing_uuid));
	return 0;
}
