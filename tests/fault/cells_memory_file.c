/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory runs out in the calls on real files, where libpmem2 and the C library allocate as well, and in those that make configs and backings. */
#include "fault/cells_memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/rig.h"
#include "pcache/errors.h"

#define BACKING_BYTES (1u << 20)
#define CACHE_BYTES (512u << 10)

static void end_config(struct pcache_config *config)
{
	pcache_config_free(config);
}

uint64_t memory_try_config(uint64_t nth)
{
	struct pcache_config *const untouched = (struct pcache_config *)(void *)&nth;
	struct pcache_config *config = untouched;
	struct fault_alloc_result result;
	int rc;

	memory_arm(nth);
	rc = pcache_config_new(&config);
	if (rc == 0)
		rc = pcache_config_set(config, PCACHE_OPT_GC_PERCENT, 50);
	result = fault_alloc_disarm();
	assert_int_equal(rc, result.failed_nr ? -ENOMEM : 0);
	if (rc)
		assert_ptr_equal(config, untouched);
	else
		end_config(config);
	assert_int_equal(pcache_config_new(&config), 0);
	end_config(config);
	return result.failed_nr;
}

static char *make_dir(char *dir, size_t len)
{
	const char *tmp = getenv("PCACHE_MEDIA_DIR");

	(void)snprintf(dir, len, "%s/pcache-fault.XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
	return dir;
}

static void remove_dir(const char *dir)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "rm -rf %s", dir);
	assert_int_equal(system(command), 0);
}

/* The backing of a callback table, and the one of a file. */
uint64_t memory_try_backing(uint64_t nth)
{
	struct mem_backing_options options = { .size_bytes = BACKING_BYTES };
	struct mem_backing *mb = mem_backing_create(&options);
	struct pcache_backing *backing[2] = { 0 };
	struct mem_backing_counters counters;
	struct fault_alloc_result result;
	struct pcache_backing_ops ops;
	char dir[64], path[96];
	int rc[2];

	assert_non_null(mb);
	mem_backing_get_ops(mb, &ops);
	(void)snprintf(path, sizeof(path), "%s/backing", make_dir(dir, sizeof(dir)));
	fclose(fopen(path, "w"));
	assert_int_equal(truncate(path, BACKING_BYTES), 0);
	memory_arm(nth);
	rc[0] = pcache_backing_new(&ops, mb, &backing[0]);
	rc[1] = pcache_backing_file_new(path, 0, &backing[1]);
	result = fault_alloc_disarm();
	if (result.failed_nr == 0)
		assert_int_equal(rc[0] | rc[1], 0);
	for (uint32_t i = 0; i < 2; i++) {
		assert_true(rc[i] == 0 || rc[i] == -ENOMEM);
		assert_true((rc[i] == 0) == (backing[i] != NULL));
		pcache_backing_free(backing[i]);
	}
	assert_true(result.failed_nr == 0 || rc[0] || rc[1]);
	mem_backing_get_counters(mb, &counters);
	assert_int_equal(counters.frees, rc[0] == 0);
	assert_int_equal(pcache_backing_file_new(path, 0, &backing[1]), 0);
	pcache_backing_free(backing[1]);
	mem_backing_destroy(mb);
	remove_dir(dir);
	return result.failed_nr;
}

/* ---- files --------------------------------------------------------------------------------------------------------------- */

struct place {
	char dir[64];
	char path[96];
	struct mem_backing *mb;
	struct pcache_backing *backing;
	struct pcache_config *config;
	uint8_t bytes[4096];
};

static void place_up(struct place *place)
{
	struct mem_backing_options options = { .size_bytes = BACKING_BYTES };

	memset(place, 0, sizeof(*place));
	(void)snprintf(place->path, sizeof(place->path), "%s/cache", make_dir(place->dir, sizeof(place->dir)));
	place->mb = mem_backing_create(&options);
	assert_non_null(place->mb);
	place->backing = mem_backing_attach(place->mb);
	assert_non_null(place->backing);
	assert_int_equal(pcache_config_new(&place->config), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CACHE_BYTES, CACHE_BYTES), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_SEGMENT_BYTES, 8192), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_STATS_PAGE, 1), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_MAINTENANCE, PCACHE_MAINTENANCE_CALLER), 0);
	memset(place->bytes, 0x3c, sizeof(place->bytes));
}

static void place_down(struct place *place)
{
	pcache_config_free(place->config);
	pcache_backing_free(place->backing);
	mem_backing_destroy(place->mb);
	remove_dir(place->dir);
}

/* Opens, finds the bytes if there must be any, writes, closes. */
static void use_cache(struct place *place, bool has_bytes)
{
	struct pcache *cache = NULL;
	uint8_t got[4096];

	if (!place->backing)
		place->backing = mem_backing_attach(place->mb);
	assert_int_equal(pcache_open(place->path, place->config, place->backing, &cache), 0);
	place->backing = NULL;
	assert_int_equal(pcache_read(cache, got, 8192, sizeof(got), 0), 0);
	if (has_bytes)
		assert_memory_equal(got, place->bytes, sizeof(got));
	assert_int_equal(pcache_write(cache, place->bytes, 8192, sizeof(place->bytes), 0), 0);
	assert_int_equal(pcache_close(cache), 0);
	place->backing = mem_backing_attach(place->mb);
}

static int call(struct place *place, uint32_t col, struct pcache **out_cache)
{
	struct pcache_info info = { .struct_bytes = sizeof(info) };

	if (col == ME_FILE_FORMAT)
		return pcache_format(place->path, place->config, place->backing);
	if (col == ME_FILE_OPEN)
		return pcache_open(place->path, place->config, place->backing, out_cache);
	return pcache_probe(place->path, &info);
}

uint64_t memory_try_file(uint32_t col, uint64_t nth)
{
	struct fault_alloc_result result;
	struct pcache *cache = NULL;
	struct place place;
	struct stat st;
	int rc;

	place_up(&place);
	if (col != ME_FILE_FORMAT) {
		assert_int_equal(pcache_format(place.path, place.config, place.backing), 0);
		use_cache(&place, false);
	}
	memory_arm(nth);
	rc = call(&place, col, &cache);
	result = fault_alloc_disarm();
	if (result.failed_nr == 0)
		assert_int_equal(rc, 0);
	else
		assert_true(rc == 0 || rc == -ENOMEM);
	if (col == ME_FILE_FORMAT && rc) {
		/* What could not be formatted is not there, or is no cache; a second try works. */
		if (stat(place.path, &st) == 0)
			assert_int_equal(pcache_open(place.path, place.config, place.backing, &cache),
					 PCACHE_E_NOT_A_CACHE);
		assert_int_equal(pcache_format(place.path, place.config, place.backing), 0);
	}
	if (cache) {
		place.backing = NULL; /* the cache's now */
		assert_int_equal(pcache_close(cache), 0);
	}
	use_cache(&place, col != ME_FILE_FORMAT);
	place_down(&place);
	return result.failed_nr;
}
