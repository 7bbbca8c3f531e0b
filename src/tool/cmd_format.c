/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache format: makes a new, empty cache.
 *
 * The library decides what is possible; this file adds what only a tool should: it refuses to destroy a file that holds
 * something other than a cache (arguments get swapped, and the backing is the other path on this very line), and it
 * turns refusals into messages that name the bytes at stake and the way out. Nothing is written before all of these
 * checks have passed.
 */
#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "tool/tool.h"

static const char format_help[] =
	"pcache format - make a new, empty cache\n"
	"\n"
	"Usage: pcache format CACHE --backing PATH [OPTION...]\n"
	"\n"
	"CACHE is a file (made if it is missing) or a device DAX. The backing is neither read nor written; its size\n"
	"(and UUID, if given) is recorded, and only a backing of that size can be used with the cache.\n"
	"\n"
	"Options:\n"
	"  --backing PATH         file, block device or nbd:// URI that the cache will stand before\n"
	"  --size BYTES           size of the cache file, e.g. 4G; default: the size that it has\n"
	"  --block 512|4096       cache block: every request is a multiple of it; default 512\n"
	"  --segment BYTES        segment size, a power of two from 4K to 16M; default: the largest that gives 64 "
	"segments\n"
	"  --data-crc on|off      keep and verify a CRC32C of all data; default on\n"
	"  --gc-percent N         share of used segments above which clean data is evicted, 0 to 90; default 70\n"
	"  --ordering strict|batch  keep the backing crash-consistent at all times, or at checkpoints; default strict\n"
	"  --backing-uuid UUID    identity of the backing to record\n"
	"  --force                destroy what is in CACHE, dirty data included\n"
	"  -v, --verbose          print messages of the library\n"
	"  -h, --help             this text\n"
	"\n"
	"Exit codes: 0 done, 1 failed (CACHE is as it was), 2 wrong usage.\n"
	"\n"
	"Examples:\n"
	"  pcache format /mnt/pmem/cache --backing /srv/disk.img --size 4G\n"
	"  pcache format /dev/dax0.0 --backing /dev/sdb --block 4096";

enum { OPT_BACKING = 1000, OPT_FORCE, OPT_UUID, OPT_CONFIG };

/* Flags that are options of the library under another name. */
static const struct {
	const char *flag;
	const char *option;
	const char *wants;
} config_flags[] = {
	{ "size", "cache_bytes", "a size such as 4G" },
	{ "block", "block_bytes", "512 or 4096" },
	{ "segment", "segment_bytes", "a power of two from 4K to 16M" },
	{ "data-crc", "data_crc", "on or off" },
	{ "gc-percent", "gc_percent", "a number from 0 to 90" },
	{ "ordering", "ordering", "strict or batch" },
};

static const struct option format_options[] = {
	{ "backing", required_argument, NULL, OPT_BACKING },
	{ "force", no_argument, NULL, OPT_FORCE },
	{ "backing-uuid", required_argument, NULL, OPT_UUID },
	{ "size", required_argument, NULL, OPT_CONFIG },
	{ "block", required_argument, NULL, OPT_CONFIG + 1 },
	{ "segment", required_argument, NULL, OPT_CONFIG + 2 },
	{ "data-crc", required_argument, NULL, OPT_CONFIG + 3 },
	{ "gc-percent", required_argument, NULL, OPT_CONFIG + 4 },
	{ "ordering", required_argument, NULL, OPT_CONFIG + 5 },
	{ "verbose", no_argument, NULL, 'v' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

struct format_args {
	const char *cache;
	const char *backing;
	struct pcache_config *config;
	bool force;
};

static uint64_t config_value(const struct pcache_config *config, int option)
{
	uint64_t value = 0;

	(void)pcache_config_get(config, option, &value);
	return value;
}

/* What the library's limits let through and no cache can have. */
static int check_values(const char *command, const struct format_args *args)
{
	uint64_t block_bytes = config_value(args->config, PCACHE_OPT_BLOCK_BYTES);
	uint64_t segment_bytes = config_value(args->config, PCACHE_OPT_SEGMENT_BYTES);
	struct stat st;

	if (!args->backing)
		return tool_usage(command, "option --backing is missing");
	if (block_bytes != 512 && block_bytes != 4096)
		return tool_usage(command, "option --block wants 512 or 4096");
	if (segment_bytes && (segment_bytes < 4096 || (segment_bytes & (segment_bytes - 1)) != 0))
		return tool_usage(command, "option --segment wants a power of two from 4K to 16M");
	if (config_value(args->config, PCACHE_OPT_CACHE_BYTES) == 0 && stat(args->cache, &st) < 0 && errno == ENOENT)
		return tool_usage(command, "'%s' does not exist: say with --size how large it shall be", args->cache);
	if (tool_same_file(args->cache, args->backing))
		return tool_usage(command, "'%s' is the cache and the backing: give two files", args->cache);
	return TOOL_OK;
}

/* 0: done, go on. Else an exit code. */
static int parse(int argc, char **argv, struct format_args *args, bool *out_done)
{
	uint8_t uuid[16];
	int id;

	while ((id = tool_option_next(argc, argv, format_options)) != TOOL_OPT_END) {
		if (id == TOOL_OPT_BAD)
			return TOOL_USAGE;
		if (id == 'h') {
			puts(format_help);
			*out_done = true;
			return TOOL_OK;
		}
		if (id == 'v') {
			(void)pcache_config_set_log(args->config, tool_log, NULL);
		} else if (id == OPT_BACKING) {
			args->backing = optarg;
		} else if (id == OPT_FORCE) {
			args->force = true;
			(void)pcache_config_set(args->config, PCACHE_OPT_FORCE, 1);
		} else if (id == OPT_UUID) {
			if (!tool_parse_uuid(optarg, uuid))
				return tool_usage(
					argv[0], "option --backing-uuid wants 32 hexadecimal digits, not '%s'", optarg);
			(void)pcache_config_set_backing_uuid(args->config, uuid);
		} else {
			int flag = id - OPT_CONFIG;

			if (!tool_config_set(argv[0], args->config, config_flags[flag].flag, config_flags[flag].option,
					     optarg, config_flags[flag].wants))
				return TOOL_USAGE;
		}
	}
	args->cache = tool_arg_path(argc, argv, "cache");
	return args->cache ? check_values(argv[0], args) : TOOL_USAGE;
}

/* Refuses what the library would take for free space. */
static int guard_old_content(const struct format_args *args)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	int64_t data_off;
	struct stat st;
	int err;

	if (args->force || stat(args->cache, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
		return TOOL_OK;
	err = pcache_probe(args->cache, &info);
	if (err == 0 || err == -EBUSY || err == -ENOMEM)
		return TOOL_OK; /* the library refuses by itself, with its own reason */
	if (err == PCACHE_E_NOT_A_CACHE) {
		data_off = tool_find_data(args->cache);
		if (data_off < 0)
			return TOOL_OK;
		tool_error(args->cache,
			   "holds data that is not a pcache cache (first at byte %lld); check the path, or destroy the "
			   "data with --force",
			   (long long)data_off);
		return TOOL_FAILED;
	}
	tool_error(args->cache,
		   "holds a pcache cache that cannot be read (%s), its dirty data is unknown; keep a copy, or destroy "
		   "it with --force",
		   pcache_strerror(err));
	return TOOL_FAILED;
}

static void explain_space(const struct format_args *args)
{
	uint64_t want_bytes = config_value(args->config, PCACHE_OPT_CACHE_BYTES);
	char want[TOOL_BYTES_TEXT], free_text[TOOL_BYTES_TEXT];
	char *copy = strdup(args->cache);
	struct statvfs fs;

	if (copy && want_bytes && statvfs(dirname(copy), &fs) == 0)
		tool_error(args->cache, "no space for %s (%s are free); free some space or choose a smaller --size",
			   tool_bytes_text(want, want_bytes),
			   tool_bytes_text(free_text, (uint64_t)fs.f_bavail * fs.f_frsize));
	else
		(void)tool_fail(args->cache, -ENOSPC);
	free(copy);
}

static int explain(const struct format_args *args, int err)
{
	uint32_t block_bytes = (uint32_t)config_value(args->config, PCACHE_OPT_BLOCK_BYTES);
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	char text[TOOL_BYTES_TEXT];

	if (err == PCACHE_E_TOO_SMALL) {
		uint64_t min_bytes = pcache_format_min_bytes(block_bytes);

		tool_error(args->cache, "too small for a cache; give --size of at least %llu (%s)%s",
			   (unsigned long long)min_bytes, tool_bytes_text(text, min_bytes),
			   config_value(args->config, PCACHE_OPT_SEGMENT_BYTES) ? " or a smaller --segment" : "");
	} else if (err == PCACHE_E_DIRTY && pcache_probe(args->cache, &info) == 0) {
		tool_error(args->cache,
			   "%llu bytes of dirty data (%s) are nowhere else; run `pcache drain %s --backing %s` first, "
			   "or destroy them with --force",
			   (unsigned long long)info.dirty_bytes, tool_bytes_text(text, info.dirty_bytes), args->cache,
			   args->backing);
	} else if (err == PCACHE_E_HAS_CACHE) {
		tool_error(
			args->cache,
			"already holds a pcache cache (without dirty data); make a new one in its place with --force");
	} else if (err == -ENOSPC) {
		explain_space(args);
	} else {
		return tool_fail(args->cache, err);
	}
	return TOOL_FAILED;
}

static int format(const struct format_args *args)
{
	uint64_t block_bytes = config_value(args->config, PCACHE_OPT_BLOCK_BYTES);
	struct pcache_backing *backing = NULL;
	int result, err;

	err = tool_backing_new(args->backing, PCACHE_BACKING_FILE_RDONLY, &backing);
	if (err == -EINVAL) {
		tool_error(args->backing, "the backing is empty or its size is no multiple of 512; give it a size "
					  "(truncate -s SIZE FILE)");
		return TOOL_FAILED;
	}
	if (err < 0)
		return tool_fail(args->backing, err);
	if (pcache_backing_size(backing) % block_bytes) {
		tool_error(args->backing,
			   "its size of %llu bytes is no multiple of the block of %llu; use --block 512 or change its "
			   "size",
			   (unsigned long long)pcache_backing_size(backing), (unsigned long long)block_bytes);
		result = TOOL_FAILED;
		goto free_backing;
	}
	result = guard_old_content(args);
	if (result != TOOL_OK)
		goto free_backing;
	err = pcache_format(args->cache, args->config, backing);
	if (err < 0)
		result = explain(args, err);
free_backing:
	pcache_backing_free(backing);
	return result;
}

int tool_cmd_format(int argc, char **argv)
{
	struct format_args args = { 0 };
	bool done = false;
	int result, err;

	err = pcache_config_new(&args.config);
	if (err < 0)
		return tool_fail("format", err);
	result = parse(argc, argv, &args, &done);
	if (result == TOOL_OK && !done)
		result = format(&args);
	pcache_config_free(args.config);
	return result;
}
