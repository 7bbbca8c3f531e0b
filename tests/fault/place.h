/* SPDX-License-Identifier: BSD-3-Clause */
/* A cache in a real file in a directory of its own, before a backing in memory: for what simulated media cannot show. */
#ifndef PC_TESTS_FAULT_PLACE_H
#define PC_TESTS_FAULT_PLACE_H

#include "core/rig.h"

#define PLACE_BACKING_BYTES (1u << 20)
#define PLACE_CACHE_BYTES (512u << 10)
#define PLACE_OFF 8192u /* of place.bytes on the backing */

struct place {
	char dir[64];
	char path[96];
	struct mem_backing *mb;
	struct pcache_backing *backing; /* NULL while a cache owns it */
	struct pcache_config *config; /* maintenance by the caller, segments of 8 KiB */
	uint8_t bytes[4096];
};

void place_up(struct place *place); /* nothing is formatted */
void place_down(struct place *place);
void place_format(struct place *place);
int place_try_open(struct place *place, struct pcache **out_cache);
struct pcache *place_open(struct place *place);
void place_close(struct place *place, struct pcache *cache);
void place_write(struct place *place, struct pcache *cache); /* place.bytes, durable */
void place_check(struct place *place, struct pcache *cache); /* and a read finds them */
uint64_t place_hash(const struct place *place); /* of the file */

#endif
