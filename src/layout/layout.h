/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Layout: the superblock and the records that exist twice, as they are on media now.
 *
 * An update overwrites the older copy, commits, then overwrites the other copy, commits; so at every instant one whole copy is on media, the newest
 * or the one before. What a record protects (reuse of a segment, a move of a tail) may happen only after the update returned 0.
 */
#ifndef PC_LAYOUT_LAYOUT_H
#define PC_LAYOUT_LAYOUT_H

#include <stdatomic.h>

#include "base/lock.h"
#include "format/format.h"
#include "media/media.h"

struct pc_layout {
	struct pc_media *media;
	struct pc_super super; /* constant while open */
	struct pc_kset_rules rules; /* constant while open */
	struct pc_mutex lock; /* PC_RANK_RECORD: everything below */
	struct pc_tail tail; /* the newest tail record; both copies hold it unless a crash or a failed sync cut in */
	struct pc_segrec *segrecs; /* the same for each segment */
	uint8_t *segrec_older; /* which copy of each segment record is the older one, if they differ */
	uint8_t tail_older;
	_Atomic uint64_t stored_bytes; /* of updates; written under the lock, read by anyone */
	/* What loading found, for recovery to mend. */
	uint32_t super_bad; /* bit i: copy i must be rewritten */
	uint32_t tail_bad;
	uint8_t *segrec_bad; /* two bits per segment record */
	uint32_t repair_nr; /* copies to rewrite */
};

/* Takes super and allocates for its geometry. 0, -ENOMEM, -errno. */
int pc_layout_init(struct pc_layout *layout, struct pc_media *media, const struct pc_super *super);
void pc_layout_fini(struct pc_layout *layout);

/*
 * Reads both superblocks and takes the newest valid one. *out_bad gets the copies to rewrite. 0, PCACHE_E_NOT_A_CACHE, PCACHE_E_VERSION, PCACHE_E_TRUNCATED, PCACHE_E_CORRUPT, -errno.
 */
int pc_layout_load_super(struct pc_media *media, struct pc_super *out_super, uint32_t *out_bad);

/* Reads tail and segment records. 0, PCACHE_E_CORRUPT (both copies of a record are bad), -ENOMEM, -errno. */
int pc_layout_load_records(struct pc_layout *layout);

/* Rewrites every copy that loading found bad or old from the good one, and commits. 0 or -errno of the sync. */
int pc_layout_repair(struct pc_layout *layout);

/* Writes everything of a new cache: records first, superblocks last. The old superblocks are destroyed before anything else. 0 or -errno. */
int pc_layout_create(struct pc_layout *layout);

/* Makes *tail (seq is set here) the tail record. Caller holds layout->lock. 0 or -errno of the sync. */
int pc_layout_store_tail_locked(struct pc_layout *layout, const struct pc_tail *tail);
/* Makes *rec (seq is set here) the record of segment rec->seg_id. Takes the lock. 0 or -errno of the sync. */
int pc_layout_store_segrec(struct pc_layout *layout, const struct pc_segrec *rec);

struct pc_tail pc_layout_tail(struct pc_layout *layout); /* a copy; takes the lock */

#endif
