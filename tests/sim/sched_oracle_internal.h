/* SPDX-License-Identifier: BSD-3-Clause */
/* What the parts of the oracle of concurrent calls share; private to tests/sim/sched_oracle*.c. */
#ifndef PC_SIM_SCHED_ORACLE_INTERNAL_H
#define PC_SIM_SCHED_ORACLE_INTERNAL_H

#include "sim/oracle.h"
#include "sim/sched_oracle.h"

#define NO_ENTRY UINT32_MAX
#define NEVER UINT64_MAX

enum unit_state {
	UNIT_RUNS, /* has not returned */
	UNIT_OK, /* happened */
	UNIT_MAYBE, /* was lost, or overwritten in silence before a crash */
	UNIT_GONE /* failed, or was lost in a crash: never to be seen */
};

struct unit {
	uint64_t begin;
	uint64_t end; /* NEVER while it runs */
	uint64_t
		epoch_begin; /* begin of the last flush that had ended when it began: what had ended before that is of an earlier epoch */
	enum unit_state state;
	bool durable;
	bool observed; /* a read has returned it */
	uint32_t first_entry;
};

struct entry {
	uint64_t sure_end;
	uint64_t last_begin;
	uint32_t unit;
	uint32_t version;
	uint32_t older; /* entry of the same block that was issued before */
	uint32_t next; /* entry of the same unit */
	uint16_t blk;
	bool zero;
};

struct so {
	struct so_options options;
	struct pc_oracle *payload; /* encodes and decodes blocks */
	uint64_t clock;
	uint64_t flush_begin; /* the latest begin of a flush that has ended */
	uint64_t drain_begin;
	uint32_t next_version;
	uint32_t unit_nr;
	uint32_t entry_nr;
	uint32_t entry_max;
	struct entry *entries;
	uint32_t newest[SO_BLOCK_NR_MAX];
	struct unit units[SO_UNIT_NR_MAX];
	char text[600];
};

void *so_must(void *memory); /* aborts without memory */
/* The entry may be what was seen. */
bool so_matches(const struct entry *entry, const struct pc_seen *seen);
bool so_possible(const struct so *so, const struct entry *entry);
/* It has happened, whatever else is not known. */
bool so_certain(const struct so *so, const struct entry *entry);
/* Of two entries of a block: a surely came before b. */
static inline bool so_before(const struct entry *a, const struct entry *b)
{
	return a->sure_end < b->last_begin;
}
/* A possible entry of the block that is what was seen, or NO_ENTRY. */
uint32_t so_find_version(const struct so *so, uint32_t blk, const struct pc_seen *seen);
/* Notes that a read of [begin, end] returned the entry. */
void so_observe(struct so *so, struct entry *entry, uint64_t begin, uint64_t end);
const char *so_name_entry(const struct so *so, const struct entry *entry, char *text, size_t text_bytes);
/* Says in so->text what a block holds and has had. buf may be NULL. */
void so_blame(struct so *so, const char *where, uint32_t blk, const struct pc_seen *seen, const void *buf,
	      const char *why);

#endif
