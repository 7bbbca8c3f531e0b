/* SPDX-License-Identifier: BSD-3-Clause */
/* What the two halves of the oracle share: oracle.c is about the cache, oracle_disk.c about the backing. */
#ifndef PC_SIM_ORACLE_INTERNAL_H
#define PC_SIM_ORACLE_INTERNAL_H

#include "sim/oracle.h"

#define PC_ORACLE_NO_ENTRY UINT32_MAX
#define PC_ORACLE_NO_SLOT 255u

struct pc_oracle_entry {
	uint32_t version;
	uint32_t epoch;
	uint32_t older; /* index, or PC_ORACLE_NO_ENTRY */
	uint16_t blk;
	uint8_t slot; /* pending unit, or PC_ORACLE_NO_SLOT: durable */
	bool zero : 1;
	bool hidden : 1; /* the same unit wrote over it: on the backing for a moment at most, never read */
};

struct pc_oracle_unit {
	uint32_t first; /* index of its first entry */
	bool used;
	bool atomic;
};

struct pc_oracle {
	struct pc_oracle_options options;
	uint32_t next_version;
	uint32_t epoch;
	uint32_t merged_epoch; /* for the backing, this epoch and all before it are one */
	bool undrained_batch; /* ordering was batch at some time since the last drain */
	uint64_t changes;
	uint32_t open_slot; /* unit between begin and end, or PC_ORACLE_NO_SLOT */
	struct pc_oracle_unit units[PC_ORACLE_PENDING_MAX];
	uint32_t newest[PC_ORACLE_BLOCK_NR_MAX];
	uint32_t drained_version[PC_ORACLE_BLOCK_NR_MAX]; /* entries older than this one are never on the backing again; 0: none */
	char text[512];
	struct pc_oracle_entry *entries;
	uint32_t entry_nr;
	uint32_t entry_max;
};

void *pc_oracle_must(void *memory); /* aborts without memory */
bool pc_oracle_matches(const struct pc_oracle_entry *entry, const struct pc_seen *seen);
/* Says what block blk holds (buf: its bytes, or NULL) and what it may hold. */
void pc_oracle_blame(struct pc_oracle *oracle, const char *where, uint32_t blk, const struct pc_seen *seen, const void *buf);

#endif
