/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory runs out in the calls on real files, where libpmem2 and the C library allocate as well, and in those that make configs and backings. */
#include "fault/cells_memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault/place.h"
#include "pcache/errors.h"

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

/* The backing of a callback table, and the one of a file. */
uint64_t memory_try_backing(uint64_t nth)
{
	struct pcache_backing *backing[2] = { 0 };
	struct mem_backing_counters counters;
	struct fault_alloc_result result;
	struct pcache_backing_ops ops;
	struct place place;
	FILE *file;
	int rc[2];

	place_up(&place);
	mem_backing_get_ops(place.mb, &ops);
	file = fopen(place.path, "w");
	assert_non_null(file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(truncate(place.path, PLACE_BACKING_BYTES), 0);
	memory_arm(nth);
	rc[0] = pcache_backing_new(&ops, place.mb, &backing[0]);
	rc[1] = pcache_backing_file_new(place.path, 0, &backing[1]);
	result = fault_alloc_disarm();
	if (result.failed_nr == 0)
		assert_int_equal(rc[0] | rc[1], 0);
	for (uint32_t i = 0; i < 2; i++) {
		assert_true(rc[i] == 0 || rc[i] == -ENOMEM);
		assert_true((rc[i] == 0) == (backing[i] != NULL));
		pcache_backing_free(backing[i]);
	}
	assert_true(result.failed_nr == 0 || rc[0] || rc[1]);
	mem_backing_get_counters(place.mb, &counters);
	assert_int_equal(counters.frees, rc[0] == 0);
	assert_int_equal(pcache_backing_file_new(place.path, 0, &backing[1]), 0);
	pcache_backing_free(backing[1]);
	place_down(&place);
	return result.failed_nr;
}

/* ---- files --------------------------------------------------------------------------------------------------------------- */

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
	assert_int_equal(pcache_config_set(place.config, PCACHE_OPT_STATS_PAGE, 1), 0);
	if (col != ME_FILE_FORMAT) {
		place_format(&place);
		cache = place_open(&place);
		place_write(&place, cache);
		place_close(&place, cache);
		cache = NULL;
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
			assert_int_equal(place_try_open(&place, &cache), PCACHE_E_NOT_A_CACHE);
		place_format(&place);
	}
	if (cache) {
		place.backing = NULL; /* the cache's now */
		place_close(&place, cache);
	}
	cache = place_open(&place);
	if (col == ME_FILE_FORMAT)
		place_write(&place, cache);
	place_check(&place, cache);
	place_close(&place, cache);
	place_down(&place);
	return result.failed_nr;
}
