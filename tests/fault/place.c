/* SPDX-License-Identifier: BSD-3-Clause */
/* See place.h. */
#include "fault/place.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void place_up(struct place *place)
{
	const char *tmp = getenv("PCACHE_MEDIA_DIR");
	struct mem_backing_options options = { .size_bytes = PLACE_BACKING_BYTES };

	memset(place, 0, sizeof(*place));
	(void)snprintf(place->dir, sizeof(place->dir), "%s/pcache-fault.XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(place->dir));
	(void)snprintf(place->path, sizeof(place->path), "%s/cache", place->dir);
	place->mb = mem_backing_create(&options);
	assert_non_null(place->mb);
	place->backing = mem_backing_attach(place->mb);
	assert_non_null(place->backing);
	assert_int_equal(pcache_config_new(&place->config), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_CACHE_BYTES, PLACE_CACHE_BYTES), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_SEGMENT_BYTES, 8192), 0);
	assert_int_equal(pcache_config_set(place->config, PCACHE_OPT_MAINTENANCE, PCACHE_MAINTENANCE_CALLER), 0);
	for (size_t i = 0; i < sizeof(place->bytes); i++)
		place->bytes[i] = (uint8_t)(i * 31 >> 3 | 1);
}

void place_down(struct place *place)
{
	char command[128];

	pcache_config_free(place->config);
	pcache_backing_free(place->backing);
	mem_backing_destroy(place->mb);
	(void)snprintf(command, sizeof(command), "rm -rf %s", place->dir);
	assert_int_equal(system(command), 0);
}

void place_format(struct place *place)
{
	assert_int_equal(pcache_format(place->path, place->config, place->backing), 0);
}

int place_try_open(struct place *place, struct pcache **out_cache)
{
	int rc;

	if (!place->backing)
		place->backing = mem_backing_attach(place->mb);
	assert_non_null(place->backing);
	rc = pcache_open(place->path, place->config, place->backing, out_cache);
	if (rc == 0)
		place->backing = NULL;
	return rc;
}

struct pcache *place_open(struct place *place)
{
	struct pcache *cache = NULL;

	assert_int_equal(place_try_open(place, &cache), 0);
	return cache;
}

void place_close(struct place *place, struct pcache *cache)
{
	assert_int_equal(pcache_close(cache), 0);
	place->backing = mem_backing_attach(place->mb);
}

void place_write(struct place *place, struct pcache *cache)
{
	assert_int_equal(pcache_write(cache, place->bytes, PLACE_OFF, sizeof(place->bytes), PCACHE_DURABLE), 0);
}

void place_check(struct place *place, struct pcache *cache)
{
	uint8_t got[sizeof(place->bytes)];

	assert_int_equal(pcache_read(cache, got, PLACE_OFF, sizeof(got), 0), 0);
	assert_memory_equal(got, place->bytes, sizeof(got));
}

uint64_t place_hash(const struct place *place)
{
	uint64_t hash = 0;
	uint8_t bytes[8192];
	int fd = open(place->path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	assert_true(fd >= 0);
	while ((len = read(fd, bytes, sizeof(bytes))) > 0)
		for (ssize_t i = 0; i < len; i++)
			hash = hash * UINT64_C(1099511628211) + bytes[i];
	assert_int_equal(close(fd), 0);
	return hash;
}
