/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache info: what a cache is and how full it is, from pcache_probe and pcache_info_render alone, so without opening it and without a store.
 *
 * A cache that a process holds open is described from that process's statistics page if it publishes one; hits, misses
 * and the granularity are known only then. What is not known is left out of the text and is null in JSON.
 */
#include <errno.h>
#include <string.h>

#include "tool/tool.h"

static const char info_help[] = "pcache info - what a cache is and how full it is\n"
				"\n"
				"Usage: pcache info CACHE [--json | --openmetrics]\n"
				"\n"
				"Reads without opening the cache. A cache in use is shown if its process publishes "
				"statistics (option stats_page);\n"
				"only then hits, misses, granularity and commit mode are known.\n"
				"\n"
				"Options:\n"
				"  --json         one JSON object; what is not known is null\n"
				"  --openmetrics  for Prometheus and its like; what is not known is left out\n"
				"  -h, --help     this text\n"
				"\n"
				"Exit codes: 0 done, 1 failed, 2 wrong usage.\n"
				"\n"
				"Examples:\n"
				"  pcache info /mnt/pmem/cache\n"
				"  pcache info --json /mnt/pmem/cache | jq .dirty_bytes";

#define TEXT_BYTES 16384u

enum { OPT_JSON = 1000, OPT_OPENMETRICS };

static const struct option info_options[] = {
	{ "json", no_argument, NULL, OPT_JSON },
	{ "openmetrics", no_argument, NULL, OPT_OPENMETRICS },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static int print(const char *path, const struct pcache_info *info, uint32_t form)
{
	char text[TEXT_BYTES];
	int len = pcache_info_render(info, form, text, sizeof(text));

	if (len < 0 || (size_t)len >= sizeof(text))
		return tool_fail(path, len < 0 ? len : -ENOSPC);
	if (form == PCACHE_RENDER_TEXT)
		printf("%-24s %s\n", "cache", path);
	if (form == PCACHE_RENDER_JSON) {
		fputs("{\"path\": ", stdout);
		tool_json_string(stdout, path);
		printf(", %s\n", text + 1);
	} else {
		fputs(text, stdout);
	}
	return TOOL_OK;
}

int tool_cmd_info(int argc, char **argv)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	uint32_t form = PCACHE_RENDER_TEXT;
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
		form = id == OPT_JSON ? PCACHE_RENDER_JSON : PCACHE_RENDER_OPENMETRICS;
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
	return print(path, &info, form);
}
