/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-dirty CACHE BACKING BYTES [COMMAND]: leaves that many bytes of dirty data in a cache, by writing them under
 * write-back that waits an hour, runs the command while the cache is open and publishes its statistics, and closes it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pcache/pcache.h>

static int leave_dirty(struct pcache *cache, uint64_t bytes)
{
	char block[4096];
	uint64_t off;
	int err = 0;

	for (off = 0; off < bytes && err == 0; off += sizeof(block)) {
		memset(block, (int)(off / sizeof(block) % 251) + 1, sizeof(block));
		err = pcache_write(cache, block, off, sizeof(block), 0);
	}
	return err;
}

static int run(const char *path, const char *backing_path, uint64_t bytes, const char *command)
{
	struct pcache_backing *backing = NULL;
	struct pcache_config *config = NULL;
	struct pcache *cache = NULL;
	int err, close_err;

	err = pcache_config_new(&config);
	if (err == 0)
		err = pcache_config_set(config, PCACHE_OPT_WRITEBACK_DELAY_MS, 3600000);
	if (err == 0)
		err = pcache_config_set(config, PCACHE_OPT_STATS_PAGE, command != NULL);
	if (err == 0)
		err = pcache_backing_file_new(backing_path, 0, &backing);
	if (err == 0)
		err = pcache_open(path, config, backing, &cache);
	if (err < 0) {
		pcache_backing_free(backing);
	} else {
		err = leave_dirty(cache, bytes);
		if (err == 0 && command && system(command) != 0)
			err = -ECHILD;
		close_err = pcache_close(cache);
		err = err < 0 ? err : close_err;
	}
	pcache_config_free(config);
	return err;
}

int main(int argc, char **argv)
{
	int err;

	if (argc != 4 && argc != 5)
		return 2;
	err = run(argv[1], argv[2], strtoull(argv[3], NULL, 10), argv[4]);
	if (err < 0)
		fprintf(stderr, "pcache-dirty: %s\n", pcache_strerror(err));
	return err < 0;
}
