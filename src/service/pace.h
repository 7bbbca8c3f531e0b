/* SPDX-License-Identifier: BSD-3-Clause */
/* When write-back is due, and how much of it: ages of dirty data and a ceiling of its rate. Pure: the time is given. */
#ifndef PC_SERVICE_PACE_H
#define PC_SERVICE_PACE_H

#include "base/types.h"

#define PC_AGES_NR 16u
#define PC_AGES_STEPS 8u /* samples in the time that counts: what is due is found so much of it late */

/* Ages of positions: samples of the head of the log, the oldest first. */
struct pc_ages {
	uint64_t due_ns; /* the age that counts, at the last look */
	uint64_t due_pos; /* what is below has it */
	uint32_t nr;
	uint64_t pos[PC_AGES_NR];
	uint64_t ns[PC_AGES_NR];
};

/* all_due: what is there at the first look is due at once, as nobody knows its age; else it is as old as the look. */
void pc_ages_init(struct pc_ages *ages, bool all_due);
/* Returns the position below which everything is as old as due_ns; what is younger may be below as well after due_ns was made less. */
uint64_t pc_ages_look(struct pc_ages *ages, uint64_t due_ns, uint64_t now_ns, uint64_t head);

/* A ceiling of bytes per second. */
struct pc_bucket {
	int64_t bytes; /* may be written now; negative: lent */
	uint64_t filled_ns; /* when it was filled; 0: never */
};

/* Most that is let through at once: what a tenth of a second gives, or 4 KiB. */
uint64_t pc_bucket_burst(uint64_t rate);
/* 0: a batch may be written; else how long it has to wait. */
uint64_t pc_bucket_wait_ns(struct pc_bucket *bucket, uint64_t rate, uint64_t now_ns);
void pc_bucket_take(struct pc_bucket *bucket, uint64_t bytes);

#endif
