/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Snapshots as text: for people, as JSON, as OpenMetrics. Numbers come from PCACHE_STATISTIC_TABLE; what is no number (UUIDs, words, state) is written here.
 *
 * A pure function of the snapshot: no cache, no lock, no allocation. The text is counted to its end also where the buffer is too small.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/put.h"
#include "base/types.h"
#include "pcache/config.h"
#include "pcache/info.h"

#define SIZE_TEXT_BYTES 32u
#define LABEL_BYTES 32u

enum kind { GAUGE, COUNTER };
enum known { ALWAYS, LIVE };

struct statistic {
	const char *name;
	const char *unit;
	const char *doc;
	enum kind kind;
	enum known known;
	size_t off; /* in struct pcache_info */
	size_t bytes; /* 4 or 8 */
};

static const struct statistic statistics[] = {
#define STATISTIC(member, kind_of, unit_text, known_when, meaning) \
	{ .name = #member, \
	  .unit = unit_text, \
	  .doc = meaning, \
	  .kind = kind_of, \
	  .known = known_when, \
	  .off = offsetof(struct pcache_info, member), \
	  .bytes = sizeof(((struct pcache_info *)NULL)->member) },
	PCACHE_STATISTIC_TABLE(STATISTIC)
#undef STATISTIC
};

static const char *const granularity_words[] = { "byte", "cache line", "page" };
static const char *const commit_words[] = { "auto", "write", "flush" };
static const char *const ordering_words[] = { "strict", "batch" };
static const char *const state_words[] = { "open", "closed", "unclean" };

static const struct {
	const char *name;
	const char *doc;
	uint32_t flag;
} conditions[] = {
	{ "degraded", "the backing fails or the log cannot be read, write-back retries", PCACHE_STATE_DEGRADED },
	{ "failstop", "no more stores, reads are served", PCACHE_STATE_FAILSTOP },
	{ "read_only", "opened read-only", PCACHE_STATE_READ_ONLY },
	{ "granularity_forced", "by PMEM2_FORCE_GRANULARITY", PCACHE_STATE_GRANULARITY_FORCED },
	{ "huge_pages", "asked for and accepted", PCACHE_STATE_HUGE_PAGES },
	{ "backing_uring", "write-back goes through io_uring and direct I/O", PCACHE_STATE_BACKING_URING },
};

static const char *word(const char *const *words, size_t word_nr, uint32_t value)
{
	return value < word_nr ? words[value] : "unknown";
}

#define WORD(words, value) word(words, PC_ARRAY_NR(words), value)

static uint64_t number(const struct pcache_info *info, const struct statistic *statistic)
{
	uint64_t wide;
	uint32_t narrow;

	if (statistic->bytes == sizeof(wide)) {
		memcpy(&wide, (const uint8_t *)info + statistic->off, sizeof(wide));
		return wide;
	}
	memcpy(&narrow, (const uint8_t *)info + statistic->off, sizeof(narrow));
	return narrow;
}

/* Of a closed cache the commit mode is not known, and the counters are not. */
static bool is_open(const struct pcache_info *info)
{
	return (info->state_flags & PCACHE_STATE_LIVE) || info->commit != PCACHE_COMMIT_AUTO;
}

static bool is_known(const struct pcache_info *info, const struct statistic *statistic)
{
	return statistic->known == ALWAYS || is_open(info);
}

static const char *state_word(const struct pcache_info *info)
{
	return state_words[is_open(info) ? 0 : info->state_flags & PCACHE_STATE_CLEAN_CLOSE ? 1 : 2];
}

/* ---- for people --------------------------------------------------------------------------------------------------------- */

static const char *size_text(char text[SIZE_TEXT_BYTES], uint64_t bytes)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double size = (double)bytes / 1024;
	size_t unit = 0;

	while (size >= 1024 && unit + 1 < PC_ARRAY_NR(units)) {
		size /= 1024;
		unit++;
	}
	(void)snprintf(text, SIZE_TEXT_BYTES, "%.*f %s", size == (double)(uint64_t)size ? 0 : 1, size, units[unit]);
	return text;
}

/* "dirty_bytes" as "dirty bytes". */
static const char *label(char text[LABEL_BYTES], const char *name)
{
	(void)snprintf(text, LABEL_BYTES, "%s", name);
	for (char *at = text; *at; at++)
		*at = (char)(*at == '_' ? ' ' : *at);
	return text;
}

static void put_people_number(struct pc_put *text, const struct statistic *statistic, uint64_t value)
{
	char name[LABEL_BYTES], size[SIZE_TEXT_BYTES];

	pc_put(text, "%-24s %" PRIu64, label(name, statistic->name), value);
	if (statistic->unit[0] && value >= 1024)
		pc_put(text, " (%s)", size_text(size, value));
	pc_put(text, "\n");
}

static void render_people(struct pc_put *text, const struct pcache_info *info)
{
	static const char *const states[] = { "open", "closed", "not closed: the next open recovers it" };
	uint64_t looked_up = info->hit_bytes + info->miss_bytes;
	char uuid[PC_UUID_TEXT_BYTES], name[LABEL_BYTES];

	pc_put(text, "%-24s %s\n", "state",
	       states[is_open(info)                                  ? 0
		      : info->state_flags & PCACHE_STATE_CLEAN_CLOSE ? 1
								     : 2]);
	(void)pc_put_uuid(uuid, info->cache_uuid);
	pc_put(text, "%-24s %s\n", "cache UUID", uuid);
	pc_put(text, "%-24s %s\n", "backing UUID", pc_put_uuid(uuid, info->backing_uuid) ? uuid : "none");
	pc_put(text, "%-24s %s\n", "ordering", WORD(ordering_words, info->ordering));
	pc_put(text, "%-24s %s\n", "data CRC", info->data_crc ? "on" : "off");
	if (is_open(info)) {
		pc_put(text, "%-24s %s\n", "granularity", WORD(granularity_words, info->granularity));
		pc_put(text, "%-24s %s\n", "commit", WORD(commit_words, info->commit));
		for (size_t i = 0; i < PC_ARRAY_NR(conditions); i++) {
			if (info->state_flags & conditions[i].flag)
				pc_put(text, "%-24s %s\n", label(name, conditions[i].name), conditions[i].doc);
		}
	}
	for (size_t i = 0; i < PC_ARRAY_NR(statistics); i++) {
		if (is_known(info, &statistics[i]))
			put_people_number(text, &statistics[i], number(info, &statistics[i]));
	}
	if (looked_up)
		pc_put(text, "%-24s %.1f %%\n", "hit ratio", 100.0 * (double)info->hit_bytes / (double)looked_up);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------------------ */

static void put_json_word(struct pc_put *text, const char *name, const char *value)
{
	pc_put(text, value ? ", \"%s\": \"%s\"" : ", \"%s\": null", name, value);
}

static void render_json(struct pc_put *text, const struct pcache_info *info)
{
	char uuid[PC_UUID_TEXT_BYTES];
	bool open = is_open(info);

	pc_put(text, "{\"state\": \"%s\"", state_word(info));
	(void)pc_put_uuid(uuid, info->cache_uuid);
	put_json_word(text, "cache_uuid", uuid);
	put_json_word(text, "backing_uuid", pc_put_uuid(uuid, info->backing_uuid) ? uuid : NULL);
	put_json_word(text, "ordering", WORD(ordering_words, info->ordering));
	pc_put(text, ", \"data_crc\": %s", info->data_crc ? "true" : "false");
	put_json_word(text, "granularity", open ? WORD(granularity_words, info->granularity) : NULL);
	put_json_word(text, "commit", open ? WORD(commit_words, info->commit) : NULL);
	for (size_t i = 0; i < PC_ARRAY_NR(conditions); i++)
		pc_put(text, ", \"%s\": %s", conditions[i].name,
		       !open                                    ? "null"
		       : info->state_flags & conditions[i].flag ? "true"
								: "false");
	for (size_t i = 0; i < PC_ARRAY_NR(statistics); i++) {
		if (is_known(info, &statistics[i]))
			pc_put(text, ", \"%s\": %" PRIu64, statistics[i].name, number(info, &statistics[i]));
		else
			pc_put(text, ", \"%s\": null", statistics[i].name);
	}
	pc_put(text, "}");
}

/* ---- OpenMetrics ------------------------------------------------------------------------------------------------------------ */

static void put_family(struct pc_put *text, const char *name, const char *type, const char *unit, const char *doc)
{
	pc_put(text, "# TYPE pcache_%s %s\n", name, type);
	if (unit[0])
		pc_put(text, "# UNIT pcache_%s %s\n", name, unit);
	pc_put(text, "# HELP pcache_%s %s\n", name, doc);
}

static void render_openmetrics(struct pc_put *text, const struct pcache_info *info)
{
	char uuid[PC_UUID_TEXT_BYTES], backing[PC_UUID_TEXT_BYTES];
	bool open = is_open(info);

	(void)pc_put_uuid(uuid, info->cache_uuid);
	(void)pc_put_uuid(backing, info->backing_uuid);
	put_family(text, "cache", "info", "", "what the cache is");
	pc_put(text,
	       "pcache_cache_info{cache=\"%s\",backing=\"%s\",state=\"%s\",ordering=\"%s\",data_crc=\"%s\",granularity="
	       "\"%"
	       "s\",commit=\"%s\"} 1\n",
	       uuid, backing, state_word(info), WORD(ordering_words, info->ordering), info->data_crc ? "on" : "off",
	       open ? WORD(granularity_words, info->granularity) : "", open ? WORD(commit_words, info->commit) : "");
	for (size_t i = 0; open && i < PC_ARRAY_NR(conditions); i++) {
		put_family(text, conditions[i].name, "gauge", "", conditions[i].doc);
		pc_put(text, "pcache_%s{cache=\"%s\"} %d\n", conditions[i].name, uuid,
		       (info->state_flags & conditions[i].flag) != 0);
	}
	for (size_t i = 0; i < PC_ARRAY_NR(statistics); i++) {
		const struct statistic *statistic = &statistics[i];
		bool counter = statistic->kind == COUNTER;

		if (!is_known(info, statistic))
			continue;
		put_family(text, statistic->name, counter ? "counter" : "gauge", statistic->unit, statistic->doc);
		pc_put(text, "pcache_%s%s{cache=\"%s\"} %" PRIu64 "\n", statistic->name, counter ? "_total" : "", uuid,
		       number(info, statistic));
	}
	pc_put(text, "# EOF\n");
}

PCACHE_API int pcache_info_render(const struct pcache_info *info, uint32_t form, char *buf, size_t buf_bytes)
{
	struct pc_put text = { .buf = buf, .bytes = buf_bytes };
	struct pcache_info full;

	if (!info || info->struct_bytes < 8 || form > PCACHE_RENDER_OPENMETRICS || (!buf && buf_bytes))
		return -EINVAL;
	memset(&full, 0, sizeof(full));
	memcpy(&full, info, PC_MIN((size_t)info->struct_bytes, sizeof(full)));
	if (buf_bytes)
		buf[0] = '\0';
	if (form == PCACHE_RENDER_TEXT)
		render_people(&text, &full);
	else if (form == PCACHE_RENDER_JSON)
		render_json(&text, &full);
	else
		render_openmetrics(&text, &full);
	return (int)text.len;
}
