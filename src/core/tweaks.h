/* SPDX-License-Identifier: BSD-3-Clause */
/* Parameters that the public options do not show: for tests and the simulator. */
#ifndef PC_CORE_TWEAKS_H
#define PC_CORE_TWEAKS_H

#include "base/types.h"

struct pc_tweaks {
	uint32_t shard_nr; /* 0: the default, 64 */
	uint32_t stripe_bytes; /* 0: the default, 4 MiB; a power of two of at least 4096 */
	uint32_t data_head_nr; /* 0: by processors and size */
	uint32_t replay_threads; /* 0: by processors and length of the log */
	uint32_t replay_records; /* records of a batch in each shard; 0: by length of the log */
	uint32_t kset_max_keys; /* 0: as many as fit a segment; else ksets of cleaning are cut shorter */
	uint32_t
		share_quantum_blk; /* 0: the default; a power of two: blocks that a shard counts by itself before it tells (alloc/segmap.h) */
	uint32_t pass_min_slots; /* of the log, for a drain to sweep the index; 0: the default, 2048 */
	uint32_t pass_part_bytes; /* of a sweep in one step; 0: by the clock */
	uint64_t (*nonce)(void *user); /* NULL: getrandom(2) */
	void *nonce_user;
	const volatile uint8_t *
		fork_page; /* not 0: the process has not forked; NULL: a page of its own, at the cost of three system calls */
};

#endif
