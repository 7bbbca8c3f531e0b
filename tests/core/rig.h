/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A cache on simulated media before a backing in memory, and a flat array that says what every byte must be. For the tests of the engine.
 *
 * Options are set in rig.o between rig_zero and rig_up. Operations of rig_* go to the cache and to the array alike and assert success.
 * Ways to end: rig_close (in order), rig_kill (a killed process: stores that were made are there), rig_power_cut (only what is durable is there).
 */
#ifndef PC_TESTS_RIG_H
#define PC_TESTS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/internal.h"
#include "backing/mem_backing.h"
#include "core/cache.h"
#include "sim/sim_media.h"

struct rig_options {
	enum pc_granularity granularity;
	uint32_t sim_flags;
	uint32_t block_bytes;
	uint32_t segment_bytes;
	uint32_t segment_nr;
	uint64_t backing_bytes;
	bool no_crc;
	bool threads; /* workers run; else maintenance=caller */
	uint32_t writeback_delay_ms;
	uint32_t dirty_limit_percent; /* 0: none */
	uint32_t commit; /* PCACHE_COMMIT_* */
	uint32_t ordering; /* PCACHE_ORDERING_* */
	uint32_t mode; /* PCACHE_MODE_* */
	bool guard_fence;
	bool full_error;
	bool no_read_cache;
	bool read_only;
	int gc_percent; /* negative: not given */
	uint32_t granularity_max; /* PCACHE_GRANULARITY_* */
	uint32_t data_head_nr;
	struct mem_backing_options backing; /* size_bytes is backing_bytes */
	struct pcache_backing *(*attach)(
		struct mem_backing *mb); /* how an open gets its backing; NULL: mem_backing_attach */
};

struct rig {
	struct rig_options o;
	struct pc_sim *sim;
	struct mem_backing *mb;
	struct pcache *cache;
	uint8_t *model;
	uint8_t *scratch; /* as long as the backing */
	uint64_t seed;
	uint64_t nonce;
	uint32_t messages[3]; /* by severity */
	uint32_t event_nr[16]; /* by kind */
	struct pcache_event event[16]; /* the last of each kind */
};

void rig_zero(
	struct
	rig *rig); /* defaults: cache line, blocks of 512, 32 segments of 4 KiB, 256 KiB backing, one head, the caller maintains */
void rig_up(struct rig *rig); /* formats and opens; asserts */
void rig_down(struct rig *rig); /* drops everything, whatever the state */

struct pcache_config *rig_config(struct rig *rig);
int rig_try_open(struct rig *rig); /* on the media as it is; result of the open */
void rig_open(struct rig *rig);
void rig_close(struct rig *rig);
void rig_kill(struct rig *rig);
void rig_power_cut(struct rig *rig);
void rig_reopen(struct rig *rig); /* kill and open */

uint64_t rig_random(struct rig *rig);
uint64_t rig_below(struct rig *rig, uint64_t limit);
void rig_pattern(struct rig *rig, uint8_t *buf, uint64_t len); /* bytes that occur nowhere else */

void rig_write(struct rig *rig, uint64_t off, uint64_t len, uint32_t flags);
void rig_zeroes(struct rig *rig, uint64_t off, uint64_t len, bool discard);
void rig_flush(struct rig *rig);
void rig_check_range(struct rig *rig, uint64_t off, uint64_t len); /* a read gives what the array has */
void rig_check_all(struct rig *rig); /* the same for everything, and pc_cache_check */
void rig_drain(struct rig *rig); /* and the backing, durable, is the array */
struct pcache_info rig_info(struct rig *rig);

/* Where bytes of the array at off, one block long, lie in the media now; asserts that they are there. */
uint64_t rig_find(struct rig *rig, uint64_t off);
/* Flips one bit there, in view and in durable. The media is closed or nothing of it is pending. */
void rig_flip(struct rig *rig, uint64_t media_off);

#endif
