/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Damage of media by zone: where the structures of a cache lie, what a piece of damage hits, and what must be true then.
 *
 * The scene: an older life of the cache (for zones that are restored to an older state), clean data, dirty data of two epochs, a kset of many keys, a
 * mark, and two writes above the mark.
 */
#ifndef PC_TESTS_FAULT_DAMAGE_H
#define PC_TESTS_FAULT_DAMAGE_H

#include "core/rig.h"

enum damage_kind { DM_POISON_64, DM_POISON_256, DM_POISON_4K, DM_POISON_2M, DM_FLIP, DM_OLDER, DM_KIND_NR };

/* Zones, with the copies that are hit. */
enum damage_zone {
	DZ_SUPER_A,
	DZ_SUPER_B,
	DZ_SUPER_AB,
	DZ_SEGREC_A,
	DZ_SEGREC_B,
	DZ_SEGREC_AB,
	DZ_TAIL_A,
	DZ_TAIL_B,
	DZ_TAIL_AB,
	DZ_SLOT_BELOW,
	DZ_SLOT_ABOVE,
	DZ_KEY_LIST,
	DZ_CLEAN,
	DZ_DIRTY,
	DZ_NR
};

struct span {
	uint64_t off;
	uint64_t len;
};

#define DAMAGE_BLK_MAX 512u
#define ABOVE_OFF (96u << 10) /* the write above the mark that is damaged; 1 KiB */
#define ABOVE_LEN 1024u

struct damage {
	struct rig rig;
	enum damage_kind kind;
	enum damage_zone zone;
	struct span spans[2]; /* what is hit */
	uint32_t span_nr;
	uint8_t *older; /* an image of the media from earlier on */
	uint8_t *saved; /* the bytes under the spans, whole media */
	uint8_t *base; /* the array as the backing has it */
	uint8_t *older_model; /* the array without the writes above the mark */
	/* Known before the damage, by block of the backing. */
	struct span chunk[DAMAGE_BLK_MAX]; /* the chunk of media that holds it; len 0: none */
	bool dirty[DAMAGE_BLK_MAX];
	struct span below_log[64]; /* by slots: what is known to be durable */
	uint32_t below_nr;
	uint64_t above_slot_off;
	uint32_t used_segs[DAMAGE_BLK_MAX]; /* segments that are in use: their records matter */
	uint32_t used_nr;
};

/*
 * Open, nothing damaged. ordering: PCACHE_ORDERING_*, which decides how write-back finds what to write. variant: which bit of the structure a flip hits, below
 * DAMAGE_FLIP_NR.
 */
#define DAMAGE_FLIP_NR 4u
void damage_up(struct damage *damage, enum damage_kind kind, enum damage_zone zone, uint32_t ordering,
	       uint32_t variant);
void damage_down(struct damage *damage);
void damage_strike(struct damage *damage);
void damage_heal(struct damage *damage); /* poison goes, and where stores did not replace it the old bytes are back */

bool damage_hits(const struct damage *damage, uint64_t off, uint64_t len);
bool damage_is_poison(const struct damage *damage);
/* What an open must find: both copies of a record, or a slot that is known to be durable. */
bool damage_is_fatal(const struct damage *damage);
/* A copy of a record is hit, and differs by it. */
bool damage_needs_repair(const struct damage *damage);
/* The block is dirty and its chunk is hit: it must read as poisoned. */
bool damage_loses(const struct damage *damage, uint64_t off);

/* Every block reads as it must while the cache is open: right, or poisoned where it was lost; above the mark old or new if may_be_old. */
void damage_check_reads(struct damage *damage, bool may_be_old);
/* The lost blocks are overwritten; then everything reads right, is drained, and is right after a reopen. */
void damage_cure(struct damage *damage);

#endif
