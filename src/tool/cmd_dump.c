/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache dump: arguments; dump.h is what it calls. The media is opened without the lock and without the means to store, so a cache in use may be
 * dumped, too; it may then change while it is read.
 */
#include "tool/dump.h"
#include "tool/tool.h"

static const char dump_help[] = "pcache dump - print every record of a cache\n"
				"\n"
				"Usage: pcache dump CACHE [--super] [--tail] [--segments] [--log]\n"
				"\n"
				"Prints both copies (A, B) of the superblock, the tail record and the segment records, "
				"and the log in the order of its\n"
				"positions. Works on damaged caches: what cannot be decoded is named, and the dump "
				"goes on. Nothing is stored. A cache in use\n"
				"may be dumped; it changes meanwhile.\n"
				"\n"
				"Options (without any of the first four: all of them):\n"
				"  --super     superblocks\n"
				"  --tail      tail records\n"
				"  --segments  segment records\n"
				"  --log       ksets and keys\n"
				"  -h, --help  this text\n"
				"\n"
				"Exit codes: 0 done, 1 failed, 2 wrong usage.\n"
				"\n"
				"Examples:\n"
				"  pcache dump /mnt/pmem/cache\n"
				"  pcache dump --log /mnt/pmem/cache | grep -c '^ *key'";

static const struct option dump_options[] = {
	{ "super", no_argument, NULL, 1000 + DUMP_SUPER },
	{ "tail", no_argument, NULL, 1000 + DUMP_TAIL },
	{ "segments", no_argument, NULL, 1000 + DUMP_SEGMENTS },
	{ "log", no_argument, NULL, 1000 + DUMP_LOG },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

int tool_cmd_dump(int argc, char **argv)
{
	struct pc_media *media;
	unsigned int parts = 0;
	const char *path;
	int id, err;

	while ((id = tool_option_next(argc, argv, dump_options)) != TOOL_OPT_END) {
		if (id == TOOL_OPT_BAD)
			return TOOL_USAGE;
		if (id == 'h') {
			puts(dump_help);
			return TOOL_OK;
		}
		if (id == 'v')
			return tool_usage(argv[0], "option '-v' is not known");
		parts |= (unsigned int)(id - 1000);
	}
	path = tool_arg_path(argc, argv, "cache");
	if (!path)
		return TOOL_USAGE;
	err = pc_media_open(path, PC_MEDIA_RDONLY | PC_MEDIA_NOLOCK, NULL, &media);
	if (err < 0)
		return tool_fail(path, err);
	err = dump_run(media, parts ? parts : DUMP_ALL, stdout);
	pc_media_close(media);
	return err == 0 ? TOOL_OK : tool_fail(path, err);
}
