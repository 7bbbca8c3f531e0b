/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The smallest program: a file, a cache in front of it, a write and a read. Formats the cache file if none is there.
 *
 *     truncate -s 64M slow.img && minimal slow.img fast.cache
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <pcache/pcache.h>

static int say(const char *what, int err)
{
	fprintf(stderr, "minimal: %s: %s\n", what, pcache_strerror(err));
	return 1;
}

int main(int argc, char **argv)
{
	struct pcache_backing *backing = NULL;
	struct pcache_config *config = NULL;
	struct pcache *cache = NULL;
	char block[4096] = "";
	int err;

	if (argc != 3) {
		fprintf(stderr, "usage: minimal BACKING-FILE CACHE-FILE\n");
		return 2;
	}
	err = pcache_backing_file_new(argv[1], 0, &backing);
	if (err)
		return say(argv[1], err);
	if (pcache_config_new(&config) || pcache_config_set_str(config, "cache_bytes", "64M"))
		return say("config", -ENOMEM);

	err = pcache_open(argv[2], config, backing, &cache);
	if (err == -ENOENT) {
		err = pcache_format(argv[2], config, backing);
		if (!err)
			err = pcache_open(argv[2], config, backing, &cache);
	}
	pcache_config_free(config);
	if (err) {
		pcache_backing_free(backing); /* still ours: only a successful open takes it */
		return say(argv[2], err);
	}

	err = pcache_read(cache, block, 0, sizeof(block), 0);
	printf("found:   %.40s\n", block);
	snprintf(block, sizeof(block), "hello, persistent memory");
	err = err ? err : pcache_write(cache, block, 0, sizeof(block), 0);
	err = err ? err : pcache_flush(cache); /* durable from here on, whatever the media */
	err = err ? err : pcache_read(cache, block, 0, sizeof(block), 0);
	printf("written: %.40s\n", block);
	if (err)
		say("I/O", err);
	return pcache_close(cache) || err ? 1 : 0;
}
