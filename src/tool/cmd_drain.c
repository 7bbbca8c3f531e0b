/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache drain: opens a cache on its backing, writes everything dirty there, closes.
 *
 * Opening recovers a cache that was not closed. An interrupt (SIGINT, SIGTERM) stops the drain through its progress
 * callback, so the cache is closed properly; what is not written stays dirty in the cache, and a later drain goes on
 * there. The amount of dirty data that is left is part of every failure message, because it decides what the user may
 * do with the cache file.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "tool/tool.h"

static const char drain_help[] =
	"pcache drain - write all dirty data to the backing\n"
	"\n"
	"Usage: pcache drain CACHE --backing PATH [OPTION...]\n"
	"\n"
	"Afterwards the backing holds everything, and the cache can be removed or formatted. Can be interrupted and "
	"repeated.\n"
	"\n"
	"Options:\n"
	"  --backing PATH           the backing that the cache was formatted for\n"
	"  --ordering strict|batch  order of the writes; batch is faster, strict keeps the backing consistent on the "
	"way;\n"
	"                           default strict\n"
	"  -v, --verbose            print messages of the library\n"
	"  -h, --help               this text\n"
	"\n"
	"Exit codes: 0 done, 1 failed or interrupted (dirty data is left in the cache), 2 wrong usage.\n"
	"\n"
	"Examples:\n"
	"  pcache drain /mnt/pmem/cache --backing /srv/disk.img\n"
	"  pcache drain /mnt/pmem/cache --backing /dev/sdb --ordering batch";

enum { OPT_BACKING = 1000, OPT_ORDERING };

static const struct option drain_options[] = {
	{ "backing", required_argument, NULL, OPT_BACKING },
	{ "ordering", required_argument, NULL, OPT_ORDERING },
	{ "verbose", no_argument, NULL, 'v' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signal_nr)
{
	(void)signal_nr;
	interrupted = 1;
}

static int on_progress(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
	tool_progress_show(user, done_bytes, total_bytes);
	return interrupted;
}

static void catch_signals(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = on_signal;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static int explain_open(const char *path, const char *backing_path, uint64_t backing_bytes, int err)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };

	if (err == PCACHE_E_BACKING_SIZE && pcache_probe(path, &info) == 0) {
		tool_error(backing_path,
			   "has %llu bytes, but the cache was formatted for %llu; restore its size or give the right "
			   "backing",
			   (unsigned long long)backing_bytes, (unsigned long long)info.backing_bytes);
		return TOOL_FAILED;
	}
	if (err == PCACHE_E_WRONG_BACKING)
		return tool_fail(backing_path, err);
	return tool_fail(path, err);
}

static int explain_drain(const char *path, struct pcache *cache, int err)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	char text[TOOL_BYTES_TEXT];

	if (pcache_info_get(cache, &info) < 0)
		return tool_fail(path, err);
	tool_error(path, "%s, %llu bytes (%s) are still dirty in the cache; %s",
		   err == -ECANCELED ? "interrupted" : pcache_strerror(err), (unsigned long long)info.dirty_bytes,
		   tool_bytes_text(text, info.dirty_bytes),
		   err == -ECANCELED ? "run it again to go on" : "keep the cache, mend the cause, run it again");
	return TOOL_FAILED;
}

static int drain(const char *path, struct pcache *cache)
{
	struct pcache_info before = { .struct_bytes = sizeof(before) };
	struct tool_progress progress;
	char text[TOOL_BYTES_TEXT];
	int result = TOOL_OK, err;

	(void)pcache_info_get(cache, &before);
	catch_signals();
	tool_progress_init(&progress, "drain");
	err = pcache_drain(cache, on_progress, &progress);
	tool_progress_fini(&progress);
	if (err < 0)
		result = explain_drain(path, cache, err);
	err = pcache_close(cache);
	if (result == TOOL_OK && err < 0)
		result = tool_fail(path, err);
	if (result == TOOL_OK)
		printf("drained %llu bytes (%s)\n", (unsigned long long)before.dirty_bytes,
		       tool_bytes_text(text, before.dirty_bytes));
	return result;
}

static int open_and_drain(const char *path, const char *backing_path, const struct pcache_config *config)
{
	struct pcache_backing *backing = NULL;
	struct pcache *cache = NULL;
	uint64_t backing_bytes;
	int result, err;

	err = tool_backing_new(backing_path, 0, &backing);
	if (err == -EINVAL) {
		tool_error(backing_path, "the backing is empty or its size is no multiple of 512; restore its size or "
					 "give the right backing");
		return TOOL_FAILED;
	}
	if (err < 0)
		return tool_fail(backing_path, err);
	backing_bytes = pcache_backing_size(backing);
	err = pcache_open(path, config, backing, &cache);
	if (err < 0) {
		result = explain_open(path, backing_path, backing_bytes, err);
		pcache_backing_free(backing);
		return result;
	}
	return drain(path, cache);
}

static int parse_and_drain(int argc, char **argv, struct pcache_config *config)
{
	const char *path, *backing_path = NULL;
	int id;

	while ((id = tool_option_next(argc, argv, drain_options)) != TOOL_OPT_END) {
		if (id == TOOL_OPT_BAD)
			return TOOL_USAGE;
		if (id == 'h') {
			puts(drain_help);
			return TOOL_OK;
		}
		if (id == 'v')
			(void)pcache_config_set_log(config, tool_log, NULL);
		else if (id == OPT_BACKING)
			backing_path = optarg;
		else if (!tool_config_set(argv[0], config, "ordering", "ordering", optarg, "strict or batch"))
			return TOOL_USAGE;
	}
	path = tool_arg_path(argc, argv, "cache");
	if (!path)
		return TOOL_USAGE;
	if (!backing_path)
		return tool_usage(argv[0], "option --backing is missing");
	if (tool_same_file(path, backing_path))
		return tool_usage(argv[0], "'%s' is the cache and the backing: give two files", path);
	return open_and_drain(path, backing_path, config);
}

int tool_cmd_drain(int argc, char **argv)
{
	struct pcache_config *config = NULL;
	int result, err;

	err = pcache_config_new(&config);
	if (err < 0)
		return tool_fail("drain", err);
	/* Damaged media must not keep what is sound from getting out. */
	(void)pcache_config_set(config, PCACHE_OPT_MEDIA_GUARD, 1);
	result = parse_and_drain(argc, argv, config);
	pcache_config_free(config);
	return result;
}
