/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command `pcache`: finds the command in a table and runs it.
 *
 * Each command lives in cmd_NAME.c (check and bench in some more files of their own), parses its own arguments and
 * returns an exit code. Results go to stdout, errors and progress to stderr. A result that could not be written is a
 * failure, too.
 */
#include <string.h>

#include "tool/tool.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
} commands[] = {
	{ "format", tool_cmd_format, "make a new, empty cache" },
	{ "info", tool_cmd_info, "what a cache is and how full it is" },
	{ "check", tool_cmd_check, "read everything and report what is wrong" },
	{ "dump", tool_cmd_dump, "print every record of a cache" },
	{ "drain", tool_cmd_drain, "write all dirty data to the backing" },
	{ "bench", tool_cmd_bench, "measure, next to the limit of the machine" },
};

static void help(void)
{
	size_t i;

	puts("pcache - format, inspect, check, drain and measure persistent-memory caches\n"
	     "\n"
	     "Usage: pcache COMMAND [OPTION...] PATH\n"
	     "       pcache COMMAND --help\n"
	     "       pcache --version\n"
	     "\n"
	     "Commands:");
	for (i = 0; i < TOOL_ARRAY_NR(commands); i++)
		printf("  %-8s %s\n", commands[i].name, commands[i].summary);
	puts("\n"
	     "Sizes take the suffixes K, M, G and T (powers of 1024).\n"
	     "\n"
	     "Exit codes:\n"
	     "  0  done; check: no damage\n"
	     "  1  the operation failed\n"
	     "  2  wrong usage\n"
	     "  3  check found damage\n"
	     "\n"
	     "Every error is one line on stderr: `pcache: PATH: what happened; what to do next`.\n"
	     "\n"
	     "Examples:\n"
	     "  pcache format /mnt/pmem/cache --backing /srv/disk.img --size 4G\n"
	     "  pcache info /mnt/pmem/cache\n"
	     "  pcache check /mnt/pmem/cache && echo sound\n"
	     "  pcache drain /mnt/pmem/cache --backing /srv/disk.img\n"
	     "  pcache bench --job randwrite,randread");
}

static int run(int argc, char **argv)
{
	size_t i;

	if (argc < 2)
		return tool_usage(NULL, "a command is missing");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		help();
		return TOOL_OK;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("pcache %s\n", pcache_version());
		return TOOL_OK;
	}
	for (i = 0; i < TOOL_ARRAY_NR(commands); i++) {
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	}
	return tool_usage(NULL, "'%s' is no command", argv[1]);
}

int main(int argc, char **argv)
{
	int result = run(argc, argv);

	if (fflush(stdout) != 0 || ferror(stdout)) {
		tool_error("stdout", "the result could not be written; free some space or check the pipe");
		if (result == TOOL_OK)
			result = TOOL_FAILED;
	}
	return result;
}
