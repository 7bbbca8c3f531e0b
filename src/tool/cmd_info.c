/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache info: what a cache is and how full it is, from pcache_probe alone, so without opening it and without a store.
 *
 * A cache that a process holds open is described from that process's statistics page if it publishes one; hits, misses
 * and the granularity are known only then. What is not known is left out of the text and is null in JSON.
 */
#include <errno.h>
#include <string.h>

#include "tool/tool.h"

static const char info_help[] = "pcache info - what a cache is and how full it is\n"
				"\n"
				"Usage: pcache info CACHE [--json]\n"
				"\n"
				"Reads without opening the cache. A cache in use is shown if its process publishes "
				"statistics (option stats_page);\n"
				"only then hits, misses, granularity and commit mode are known.\n"
				"\n"
				"Options:\n"
				"  --json      one JSON object; what is not known is null\n"
				"  -h, --help  this text\n"
				"\n"
				"Exit codes: 0 done, 1 failed, 2 wrong usage.\n"
				"\n"
				"Examples:\n"
				"  pcache info /mnt/pmem/cache\n"
				"  pcache info --json /mnt/pmem/cache | jq .dirty_bytes";

enum { OPT_JSON = 1000 };

static const struct option info_options[] = {
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static const char *const granularity_names[] = { "byte", "cache line", "page" };
static const char *const commit_names[] = { "auto", "write", "flush" };
static const char *const ordering_names[] = { "strict", "batch" };

static const char *name_of(const char *const *names, size_t name_nr, uint32_t value)
{
	return value < name_nr ? names[value] : "unknown";
}

#define NAME_OF(names, value) name_of(names, TOOL_ARRAY_NR(names), value)

static bool is_live(const struct pcache_info *info)
{
	return (info->state_flags & PCACHE_STATE_LIVE) != 0;
}

static const char *state_text(const struct pcache_info *info)
{
	if (is_live(info))
		return "open";
	return info->state_flags & PCACHE_STATE_CLEAN_CLOSE ? "closed" : "unclean";
}

static bool uuid_is_zero(const uint8_t *uuid)
{
	static const uint8_t zero[16];

	return memcmp(uuid, zero, sizeof(zero)) == 0;
}

static void line_bytes(const char *label, uint64_t bytes)
{
	char text[TOOL_BYTES_TEXT];

	if (bytes < 1024)
		printf("%-18s %llu\n", label, (unsigned long long)bytes);
	else
		printf("%-18s %llu (%s)\n", label, (unsigned long long)bytes, tool_bytes_text(text, bytes));
}

static void print_live(const struct pcache_info *info)
{
	uint64_t looked_up = info->hit_bytes + info->miss_bytes;

	printf("%-18s %s%s\n", "granularity", NAME_OF(granularity_names, info->granularity),
	       info->state_flags & PCACHE_STATE_GRANULARITY_FORCED ? " (forced)" : "");
	printf("%-18s %s\n", "commit", NAME_OF(commit_names, info->commit));
	if (info->state_flags & PCACHE_STATE_HUGE_PAGES)
		printf("%-18s yes\n", "huge pages");
	if (info->state_flags & PCACHE_STATE_BACKING_URING)
		printf("%-18s io_uring, direct I/O\n", "write-back");
	if (info->state_flags & PCACHE_STATE_DEGRADED)
		printf("%-18s degraded: the backing fails or the log cannot be read, write-back retries\n", "health");
	if (info->state_flags & PCACHE_STATE_FAILSTOP)
		printf("%-18s fail-stop: no more stores, reads are served\n", "health");
	line_bytes("hits", info->hit_bytes);
	line_bytes("misses", info->miss_bytes);
	if (looked_up)
		printf("%-18s %.1f %%\n", "hit ratio", 100.0 * (double)info->hit_bytes / (double)looked_up);
	line_bytes("written", info->write_bytes);
	line_bytes("written back", info->writeback_bytes);
	line_bytes("stored to media", info->stored_bytes);
	line_bytes("index memory", info->index_bytes);
	printf("%-18s %llu\n", "backing errors", (unsigned long long)info->backing_errors);
	printf("%-18s %llu\n", "data CRC errors", (unsigned long long)info->crc_errors);
	printf("%-18s %llu\n", "media errors", (unsigned long long)info->media_errors);
	if (info->segments_quarantined)
		printf("%-18s %llu segments with damaged media\n", "out of use",
		       (unsigned long long)info->segments_quarantined);
}

static void print_text(const char *path, const struct pcache_info *info)
{
	static const char *const states[] = { "open in another process", "closed",
					      "not closed: the next open recovers it" };
	char uuid[TOOL_UUID_TEXT];

	printf("%-18s %s\n", "cache", path);
	printf("%-18s %s\n", "state", states[is_live(info) ? 0 : info->state_flags & PCACHE_STATE_CLEAN_CLOSE ? 1 : 2]);
	printf("%-18s %s\n", "cache UUID", tool_uuid_text(uuid, info->cache_uuid));
	printf("%-18s %s\n", "backing UUID",
	       uuid_is_zero(info->backing_uuid) ? "none" : tool_uuid_text(uuid, info->backing_uuid));
	printf("%-18s %u\n", "format version", info->format_version);
	line_bytes("size", info->media_bytes);
	line_bytes("backing size", info->backing_bytes);
	line_bytes("block", info->block_bytes);
	line_bytes("segment", info->segment_bytes);
	printf("%-18s %llu: %llu data, %llu log, %llu free\n", "segments", (unsigned long long)info->segments,
	       (unsigned long long)info->segments_data, (unsigned long long)info->segments_log,
	       (unsigned long long)info->segments_free);
	line_bytes("dirty", info->dirty_bytes);
	line_bytes("clean", info->clean_bytes);
	printf("%-18s %llu\n", "log head", (unsigned long long)info->log_head);
	printf("%-18s %llu\n", "dirty tail", (unsigned long long)info->log_dirty_tail);
	printf("%-18s %llu\n", "log tail", (unsigned long long)info->log_tail);
	printf("%-18s %s\n", "ordering", NAME_OF(ordering_names, info->ordering));
	printf("%-18s %s\n", "data CRC", info->data_crc ? "on" : "off");
	printf("%-18s %u %%\n", "gc-percent", info->gc_percent);
	if (is_live(info))
		print_live(info);
}

struct json_number {
	const char *name;
	uint64_t value;
};

static void print_numbers(const struct json_number *numbers, size_t number_nr, bool known)
{
	size_t i;

	for (i = 0; i < number_nr; i++) {
		if (known)
			printf(", \"%s\": %llu", numbers[i].name, (unsigned long long)numbers[i].value);
		else
			printf(", \"%s\": null", numbers[i].name);
	}
}

static void print_json_identity(const char *path, const struct pcache_info *info)
{
	char uuid[TOOL_UUID_TEXT];

	fputs("{\"path\": ", stdout);
	tool_json_string(stdout, path);
	printf(", \"state\": \"%s\"", state_text(info));
	printf(", \"cache_uuid\": \"%s\"", tool_uuid_text(uuid, info->cache_uuid));
	if (uuid_is_zero(info->backing_uuid))
		fputs(", \"backing_uuid\": null", stdout);
	else
		printf(", \"backing_uuid\": \"%s\"", tool_uuid_text(uuid, info->backing_uuid));
	printf(", \"ordering\": \"%s\", \"data_crc\": %s", NAME_OF(ordering_names, info->ordering),
	       info->data_crc ? "true" : "false");
	if (is_live(info))
		printf(", \"granularity\": \"%s\", \"granularity_forced\": %s, \"commit\": \"%s\", \"degraded\": %s, "
		       "\"failstop\": %s",
		       NAME_OF(granularity_names, info->granularity),
		       info->state_flags & PCACHE_STATE_GRANULARITY_FORCED ? "true" : "false",
		       NAME_OF(commit_names, info->commit),
		       info->state_flags & PCACHE_STATE_DEGRADED ? "true" : "false",
		       info->state_flags & PCACHE_STATE_FAILSTOP ? "true" : "false");
	else
		fputs(", \"granularity\": null, \"granularity_forced\": null, \"commit\": null, \"degraded\": null, "
		      "\"failstop\": null",
		      stdout);
}

static void print_json(const char *path, const struct pcache_info *info)
{
	const struct json_number always[] = {
		{ "format_version", info->format_version },
		{ "media_bytes", info->media_bytes },
		{ "backing_bytes", info->backing_bytes },
		{ "block_bytes", info->block_bytes },
		{ "segment_bytes", info->segment_bytes },
		{ "gc_percent", info->gc_percent },
		{ "segments", info->segments },
		{ "segments_used", info->segments - info->segments_free },
		{ "segments_free", info->segments_free },
		{ "segments_log", info->segments_log },
		{ "segments_data", info->segments_data },
		{ "dirty_bytes", info->dirty_bytes },
		{ "clean_bytes", info->clean_bytes },
		{ "log_head", info->log_head },
		{ "log_dirty_tail", info->log_dirty_tail },
		{ "log_tail", info->log_tail },
	};
	const struct json_number live[] = {
		{ "atomic_write_max_bytes", info->atomic_write_max_bytes },
		{ "extents", info->extents },
		{ "read_ops", info->read_ops },
		{ "read_bytes", info->read_bytes },
		{ "hit_bytes", info->hit_bytes },
		{ "miss_bytes", info->miss_bytes },
		{ "write_ops", info->write_ops },
		{ "write_bytes", info->write_bytes },
		{ "flush_ops", info->flush_ops },
		{ "discard_bytes", info->discard_bytes },
		{ "writeback_bytes", info->writeback_bytes },
		{ "backing_flushes", info->backing_flushes },
		{ "backing_errors", info->backing_errors },
		{ "evicted_segments", info->evicted_segments },
		{ "cleaned_segments", info->cleaned_segments },
		{ "full_waits", info->full_waits },
		{ "crc_errors", info->crc_errors },
		{ "replica_repairs", info->replica_repairs },
		{ "media_errors", info->media_errors },
		{ "segments_quarantined", info->segments_quarantined },
		{ "index_bytes", info->index_bytes },
		{ "stored_bytes", info->stored_bytes },
	};

	print_json_identity(path, info);
	print_numbers(always, TOOL_ARRAY_NR(always), true);
	print_numbers(live, TOOL_ARRAY_NR(live), is_live(info));
	puts("}");
}

int tool_cmd_info(int argc, char **argv)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	bool json = false;
	const char *path;
	int id, err;

	while ((id = tool_option_next(argc, argv, info_options)) != TOOL_OPT_END) {
		if (id == TOOL_OPT_BAD)
			return TOOL_USAGE;
		if (id == 'h') {
			puts(info_help);
			return TOOL_OK;
		}
		if (id == 'v')
			return tool_usage(argv[0], "option '-v' is not known");
		json = true;
	}
	path = tool_arg_path(argc, argv, "cache");
	if (!path)
		return TOOL_USAGE;
	err = pcache_probe(path, &info);
	if (err == -EBUSY) {
		tool_error(path, "is open in another process, which publishes no statistics; open it there with option "
				 "stats_page=on, or close it");
		return TOOL_FAILED;
	}
	if (err < 0)
		return tool_fail(path, err);
	if (json)
		print_json(path, &info);
	else
		print_text(path, &info);
	return TOOL_OK;
}
