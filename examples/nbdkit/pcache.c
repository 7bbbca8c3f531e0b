/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An nbdkit plugin: serves a file or block device over NBD through a libpcache cache. Public headers only.
 *
 * Order of events. config: every `key=value` of the command line; an option of the cache is named as in <pcache/config.h>, with
 * `-` for `_`. get_ready: the cache is formatted if its file is missing or empty, and refused if it is something else; this is
 * before nbdkit goes into the background, so that mistakes reach the terminal. after_fork: the cache is opened, because a handle
 * does not survive a fork and the workers are threads. cleanup: drained and closed; with no-drain=true only closed, dirty data
 * then stays in the cache, durable, for the next start. A kill at any moment costs nothing that was acknowledged.
 *
 * Requests go to the library as they are: all its calls may run at once, so there is one global handle, no lock, and
 * every connection sees every other's completed writes (can_multi_conn). NBD's promise is that a write is durable after the next flush, or
 * with FUA when it returns: that is pcache_flush() and PCACHE_DURABLE. A request that is no multiple of the cache block is refused: the
 * size is advertised, and a silent read-modify-write here would tear under concurrency what the cache keeps whole.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <pcache/pcache.h>

#include "../common/slow_file.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define REQUEST_MAX_BYTES (32u << 20) /* nbdkit itself takes at most 64 MiB */

/* Set by config, before any thread; read-only afterwards. */
static char *cache_path;
static char *backing_path;
static struct pcache_config *config;
static uint64_t backing_rate_bytes; /* per second; 0: no limit */
static bool no_drain;
static bool block_given;
static bool data_crc_given;

static struct pcache *cache; /* from after_fork to cleanup */

/* NBD knows a handful of errno values; nbdkit turns all others into EINVAL on the wire, so whatever it does not know becomes EIO. */
static int errno_of(int err)
{
	switch (err) {
	case PCACHE_E_FULL:
		return ENOSPC;
	case PCACHE_E_READ_ONLY:
		return EROFS;
	case PCACHE_E_UNALIGNED:
	case PCACHE_E_RANGE:
	case PCACHE_E_TOO_BIG:
		return EINVAL;
	case -EPERM:
	case -EROFS:
	case -ENOMEM:
	case -EINVAL:
	case -ENOSPC:
	case -EDQUOT:
	case -EFBIG:
		return -err;
	default:
		return EIO; /* poisoned, corrupt, fail-stop, forked, and what the backing says */
	}
}

/* Reports the result of a request: 0, or -1 with message and errno for the client. */
static int reply(const char *what, int err, uint64_t off, uint64_t len)
{
	if (err == 0)
		return 0;
	if (err == PCACHE_E_UNALIGNED)
		nbdkit_error("%s of %llu bytes at %llu is no multiple of the cache block; use a client that honours "
			     "the block size %u, or add --filter=blocksize minblock=%u",
			     what, (unsigned long long)len, (unsigned long long)off, pcache_block_bytes(cache),
			     pcache_block_bytes(cache));
	else
		nbdkit_error("%s of %llu bytes at %llu: %s", what, (unsigned long long)len, (unsigned long long)off,
			     pcache_strerror(err));
	nbdkit_set_error(errno_of(err));
	return -1;
}

static void log_line(void *user, int severity, const char *text)
{
	(void)user;
	if (severity == PCACHE_LOG_ERROR)
		nbdkit_error("%s", text);
	else if (severity == PCACHE_LOG_WARN)
		nbdkit_error("warning: %s", text);
	else
		nbdkit_debug("%s", text);
}

static void pcache_load(void)
{
	int err = pcache_config_new(&config);

	if (err == 0)
		err = pcache_config_set(config, PCACHE_OPT_STATS_PAGE, 1);
	if (err == 0)
		err = pcache_config_set_log(config, log_line, NULL);
	if (err != 0) {
		nbdkit_error("pcache: %s", pcache_strerror(err));
		exit(EXIT_FAILURE); /* load cannot fail in another way */
	}
}

static void pcache_unload(void)
{
	pcache_config_free(config);
	free(cache_path);
	free(backing_path);
}

/* An option of the cache: short names first, then the name in the library's table with `-` for `_`. */
static int config_option(const char *key, const char *value)
{
	static const struct {
		const char *key;
		const char *name;
	} aliases[] = { { "cache-size", "cache_bytes" }, { "block", "block_bytes" }, { "stats", "stats_page" } };
	char name[64];
	size_t i;
	int err;

	snprintf(name, sizeof(name), "%s", key);
	for (i = 0; name[i] != '\0'; i++)
		if (name[i] == '-')
			name[i] = '_';
	for (i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
		if (strcmp(key, aliases[i].key) == 0)
			snprintf(name, sizeof(name), "%s", aliases[i].name);

	if (strcmp(name, "force") == 0 || strcmp(name, "maintenance") == 0) {
		nbdkit_error("'%s' is not for this plugin; use `pcache format` to format a cache again", key);
		return -1;
	}
	err = pcache_config_set_str(config, name, value);
	if (err == -ENOENT) {
		nbdkit_error("unknown parameter '%s'; see nbdkit --help pcache", key);
		return -1;
	}
	if (err != 0) {
		nbdkit_error("'%s' is no value of parameter '%s'", value, key);
		return -1;
	}
	block_given |= strcmp(name, "block_bytes") == 0;
	data_crc_given |= strcmp(name, "data_crc") == 0;
	return 0;
}

static int pcache_config_key(const char *key, const char *value)
{
	bool is_cache = strcmp(key, "cache") == 0;

	if (is_cache || strcmp(key, "backing") == 0) {
		char *path = nbdkit_absolute_path(value); /* nbdkit changes to / in the background */
		char **slot = is_cache ? &cache_path : &backing_path;

		if (path == NULL)
			return -1;
		free(*slot);
		*slot = path;
		return 0;
	}
	if (strcmp(key, "backing-rate") == 0) {
		int64_t rate_bytes = nbdkit_parse_size(value);

		if (rate_bytes < 0)
			return -1;
		backing_rate_bytes = (uint64_t)rate_bytes;
		return 0;
	}
	if (strcmp(key, "no-drain") == 0) {
		int on = nbdkit_parse_bool(value);

		if (on < 0)
			return -1;
		no_drain = on != 0;
		return 0;
	}
	return config_option(key, value);
}

static int pcache_config_complete(void)
{
	if (cache_path == NULL || backing_path == NULL) {
		nbdkit_error("parameters cache=PATH and backing=PATH are required");
		return -1;
	}
	return 0;
}

#define pcache_config_help \
	"cache=PATH           (required) the cache; made if the file is missing or empty.\n" \
	"backing=PATH         (required) the file or block device that is served.\n" \
	"cache-size=SIZE      Size of a cache that is made.\n" \
	"block=512|4096       Its block: the unit of every request.\n" \
	"data-crc=on|off      Whether it keeps a CRC32C of all data.\n" \
	"ordering=strict|batch, commit=auto|write|flush, gc-percent=N, writeback-delay-ms=N,\n" \
	"stats=on|off (on), media-guard=on|off (off), and every other option of <pcache/config.h> with - for _.\n" \
	"backing-rate=SIZE    Limits the backing to so many bytes per second.\n" \
	"no-drain=true        On exit leave dirty data in the cache."

static int backing_open(struct pcache_backing **out_backing)
{
	int err;

	if (backing_rate_bytes != 0)
		err = slow_file_new(backing_path, backing_rate_bytes, out_backing);
	else
		err = pcache_backing_file_new(backing_path, 0, out_backing);
	if (err != 0)
		nbdkit_error("%s: cannot be used as backing: %s", backing_path, pcache_strerror(err));
	return err == 0 ? 0 : -1;
}

/* What was asked for must be what the existing cache has: silence would let a test or a user measure something else. */
static int check_existing(void)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };
	uint64_t value = 0;
	int err = pcache_probe(cache_path, &info);

	if (err == -EBUSY)
		return 0; /* open will say it */
	if (err != 0) {
		nbdkit_error("%s: %s", cache_path, pcache_strerror(err));
		return -1;
	}
	pcache_config_get(config, PCACHE_OPT_BLOCK_BYTES, &value);
	if (block_given && value != info.block_bytes) {
		nbdkit_error("%s has block=%u; leave the parameter away or format the cache again", cache_path,
			     info.block_bytes);
		return -1;
	}
	pcache_config_get(config, PCACHE_OPT_DATA_CRC, &value);
	if (data_crc_given && value != info.data_crc) {
		nbdkit_error("%s has data-crc=%s; leave the parameter away or format the cache again", cache_path,
			     info.data_crc != 0 ? "on" : "off");
		return -1;
	}
	return 0;
}

static int pcache_get_ready(void)
{
	struct pcache_backing *backing = NULL;
	uint64_t cache_bytes = 0;
	struct stat st;
	int err;

	if (stat(cache_path, &st) == 0 && (!S_ISREG(st.st_mode) || st.st_size > 0))
		return check_existing();
	pcache_config_get(config, PCACHE_OPT_CACHE_BYTES, &cache_bytes);
	if (cache_bytes == 0) {
		nbdkit_error("%s does not exist; give cache-size=SIZE to make it", cache_path);
		return -1;
	}
	if (backing_open(&backing) != 0)
		return -1;
	err = pcache_format(cache_path, config, backing);
	pcache_backing_free(backing);
	if (err != 0) {
		nbdkit_error("%s: cannot make a cache: %s", cache_path, pcache_strerror(err));
		return -1;
	}
	nbdkit_debug("%s: made a cache of %llu bytes", cache_path, (unsigned long long)cache_bytes);
	return 0;
}

static int pcache_after_fork(void)
{
	struct pcache_backing *backing = NULL;
	int err;

	if (backing_open(&backing) != 0)
		return -1;
	err = pcache_open(cache_path, config, backing, &cache);
	if (err != 0) {
		pcache_backing_free(backing);
		nbdkit_error("%s: cannot open the cache: %s", cache_path, pcache_strerror(err));
		return -1;
	}
	return 0;
}

static int drain_progress(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
	(void)user;
	nbdkit_debug("drained %llu of %llu bytes", (unsigned long long)done_bytes, (unsigned long long)total_bytes);
	return 0;
}

static void pcache_cleanup(void)
{
	int err;

	if (cache == NULL)
		return;
	if (!no_drain) {
		err = pcache_drain(cache, drain_progress, NULL);
		if (err != 0 && err != PCACHE_E_READ_ONLY)
			nbdkit_error("%s: drain failed, dirty data stays in the cache: %s", cache_path,
				     pcache_strerror(err));
	}
	err = pcache_close(cache);
	cache = NULL;
	if (err != 0)
		nbdkit_error("%s: close: %s", cache_path, pcache_strerror(err));
}

static void *pcache_conn_open(int readonly)
{
	(void)readonly; /* nbdkit keeps writes from a read-only connection */
	return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t pcache_get_size(void *handle)
{
	(void)handle;
	return (int64_t)pcache_size(cache);
}

static int pcache_can_write(void *handle)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };

	(void)handle;
	return pcache_info_get(cache, &info) == 0 && (info.state_flags & PCACHE_STATE_READ_ONLY) == 0;
}

static int pcache_yes(void *handle)
{
	(void)handle;
	return 1;
}

static int pcache_no(void *handle)
{
	(void)handle;
	return 0;
}

static int pcache_can_fua(void *handle)
{
	(void)handle;
	return NBDKIT_FUA_NATIVE;
}

/* NBD_CMD_CACHE: a read whose data nbdkit throws away fills the cache. */
static int pcache_can_cache(void *handle)
{
	(void)handle;
	return NBDKIT_CACHE_EMULATE;
}

/* The largest request is the largest atomic write: so each write of a client that honours it is all or nothing across a crash. */
static int pcache_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
	uint32_t block_bytes = pcache_block_bytes(cache);
	uint64_t max_bytes = pcache_atomic_write_max(cache);

	(void)handle;
	if (max_bytes > REQUEST_MAX_BYTES)
		max_bytes = REQUEST_MAX_BYTES;
	max_bytes -= max_bytes % 4096;
	*minimum = block_bytes;
	*preferred = 4096;
	*maximum = max_bytes < 4096 ? 4096 : (uint32_t)max_bytes;
	return 0;
}

static uint32_t write_flags(uint32_t flags)
{
	return (flags & NBDKIT_FLAG_FUA) != 0 ? PCACHE_DURABLE : 0;
}

static int pcache_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return reply("read", pcache_read(cache, buf, offset, count, 0), offset, count);
}

static int pcache_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)handle;
	return reply("write", pcache_write(cache, buf, offset, count, write_flags(flags)), offset, count);
}

static int pcache_do_flush(void *handle, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return reply("flush", pcache_flush(cache), 0, 0);
}

static int pcache_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)handle;
	return reply("trim", pcache_discard(cache, offset, count, write_flags(flags)), offset, count);
}

static int pcache_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	int err;

	(void)handle;
	if ((flags & NBDKIT_FLAG_MAY_TRIM) != 0)
		err = pcache_discard(cache, offset, count, write_flags(flags));
	else
		err = pcache_write_zeroes(cache, offset, count, write_flags(flags));
	return reply("zero", err, offset, count);
}

static void pcache_dump_plugin(void)
{
	printf("pcache_library_version=%s\n", pcache_version());
}

static struct nbdkit_plugin plugin = {
	.name = "pcache",
	.longname = "libpcache persistent-memory cache",
	.description = "Serves a file or block device through a crash-consistent persistent-memory write-back cache.",
	.version = "0.9.0",
	.load = pcache_load,
	.unload = pcache_unload,
	.config = pcache_config_key,
	.config_complete = pcache_config_complete,
	.config_help = pcache_config_help,
	.dump_plugin = pcache_dump_plugin,
	.get_ready = pcache_get_ready,
	.after_fork = pcache_after_fork,
	.cleanup = pcache_cleanup,
	.open = pcache_conn_open,
	.get_size = pcache_get_size,
	.block_size = pcache_block_size,
	.can_write = pcache_can_write,
	.can_flush = pcache_yes,
	.can_trim = pcache_yes,
	.can_zero = pcache_yes,
	.can_fast_zero = pcache_yes, /* a zero is one log record */
	.can_fua = pcache_can_fua,
	.can_cache = pcache_can_cache,
	.can_multi_conn = pcache_yes,
	.is_rotational = pcache_no,
	.pread = pcache_pread,
	.pwrite = pcache_pwrite,
	.flush = pcache_do_flush,
	.trim = pcache_trim,
	.zero = pcache_zero,
};

/* nbdkit's macro defines this function without a prototype of its own. */
struct nbdkit_plugin *plugin_init(void);
NBDKIT_REGISTER_PLUGIN(plugin)
