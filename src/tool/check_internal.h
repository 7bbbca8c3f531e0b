/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check: what its files share. An independent reader of the media: it uses the pure functions of format/ and the
 * safe read of media/, and nothing that the library itself uses to recover a cache, so that a mistake there shows here.
 *
 *   cmd_check.c      arguments, printing
 *   check.h          the seam: what the command and the tests call
 *   check_run.c      order of the steps, summary
 *   check_report.c   findings: counted, reported up to a limit
 *   check_rules.c    the rules by number
 *   check_explain.c, check_explain_kset.c   which rule a record or a kset breaks
 *   check_records.c  superblocks, tail, segment records
 *   check_chain.c    chain of LOG segments
 *   check_log.c      ksets in position order: the mark, holes, unfinished writes, keys
 *   check_map.c      which key is seen at which block; what live data says of its segments
 *   check_data.c     data against its CRCs
 */
#ifndef PC_TOOL_CHECK_INTERNAL_H
#define PC_TOOL_CHECK_INTERNAL_H

#include "tool/check.h"

/* A LOG segment at or above the tail; in the order of ordinals. */
struct check_log_segment {
	uint64_t ordinal;
	uint64_t nonce;
	uint32_t seg_id;
};

#define CHECK_KEY_STALE 1u /* the segment has another generation: the key only masks */
#define CHECK_KEY_VERIFIED 2u /* data was compared with its CRC already */
#define CHECK_KEY_IMPOSSIBLE 4u /* stale, and that was reported */

/* A key of the log. */
struct check_key {
	uint64_t vol_blk;
	uint64_t pos; /* of its kset */
	uint64_t seq; /* order of replay: later wins */
	uint64_t crc_idx; /* DATA with CRC: its first chunk CRC among check.crcs */
	uint32_t len_blk;
	uint32_t seg_id;
	uint16_t seg_blk;
	uint8_t geom;
	uint8_t flags; /* PC_KEY_* */
	uint8_t state; /* CHECK_KEY_* */
};

/* A range of blocks that is seen through a DATA key. */
struct check_piece {
	uint64_t vol_blk;
	size_t key_idx;
	uint32_t len_blk;
	uint32_t seg_id;
	uint32_t seg_blk; /* where the piece itself begins */
};

struct check {
	struct pc_media *media;
	const struct check_settings *settings;
	struct check_result *result;
	bool no_data;

	/* check_records.c */
	struct pc_super super;
	struct pc_kset_rules rules;
	struct pc_tail tail; /* newest valid copy */
	uint64_t tail_off;
	bool tail_valid;
	bool clean_close;
	struct pc_segrec *segrecs; /* newest valid copy of each; type CHECK_SEG_LOST if there is none */
	struct check_log_segment *log_segments;
	uint32_t log_segment_nr;

	/* check_log.c */
	uint8_t *inside; /* a bit for each slot of log_segments: lies inside of a kset that begins before */
	uint64_t mark_pos; /* everything below is durable: the highest of the tail's, the dirty tail and all marks */
	uint64_t end_pos; /* after the last valid kset */
	struct check_key *keys;
	size_t key_nr, key_room;
	uint32_t *crcs;
	size_t crc_nr, crc_room;

	/* check_map.c */
	struct check_piece *pieces;
	size_t piece_nr, piece_room;

	/* check_data.c */
	uint64_t verify_left_bytes; /* of data; crafted keys could ask for any amount */
	bool verify_over;

	struct check_counts counts;
};

#define CHECK_SEG_LOST 0xffu

/* ---- check_report.c ---------------------------------------------------------------------------------------------- */
void check_problem(struct check *check, enum check_rule rule, enum check_severity severity, uint64_t media_off,
		   const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Severity of what only a crash can explain. */
enum check_severity check_if_crashed(const struct check *check);
void check_progress(const struct check *check, uint64_t done, uint64_t total);

/* ---- check_explain.c, check_explain_kset.c: CHECK_OK or the rule that is broken ------------------------------------- */
bool check_is_zero(const void *bytes, size_t len);
enum check_rule check_explain_super(const struct pcm_super *media);
enum check_rule check_explain_tail(const struct pcm_tail *media);
enum check_rule check_explain_segrec(const struct pcm_segrec *media, uint32_t seg_id);
/* What stands at pos, in a segment of this nonce, with avail_slots from at on. *out_kset is filled in once the CRC is right. */
enum check_rule check_explain_kset(const uint8_t *at, uint32_t avail_slots, uint64_t pos, uint64_t nonce,
				   const struct pc_kset_rules *rules, struct pc_kset *out_kset);

/* ---- check_records.c ---------------------------------------------------------------------------------------------- */
/* 0: go on. 1: damage that leaves nothing to go on with. Else PCACHE_E_NOT_A_CACHE, PCACHE_E_VERSION or -errno: nothing to check. */
int check_supers(struct check *check);
void check_tails(struct check *check);
int check_segrecs(struct check *check); /* 0 or -ENOMEM */

/* ---- check_chain.c ------------------------------------------------------------------------------------------------- */
/* Collects the LOG segments from the tail on and looks at their ordinals. 0 or -ENOMEM. */
int check_chain(struct check *check);

/* ---- check_log.c -------------------------------------------------------------------------------------------------- */
int check_log(struct check *check); /* 0 or -ENOMEM */
/* Media offset of a position; CHECK_NOWHERE if its segment is not in the log. */
uint64_t check_pos_off(const struct check *check, uint64_t pos);
/* Whether a kset begins before this position and ends behind it. */
bool check_pos_is_inside(const struct check *check, uint64_t pos);

/* ---- check_map.c -------------------------------------------------------------------------------------------------- */
int check_map(struct check *check); /* 0 or -ENOMEM */
bool check_key_is_dirty(const struct check *check, const struct check_key *key);

/* ---- check_data.c ------------------------------------------------------------------------------------------------- */
enum check_verdict { CHECK_DATA_GOOD, CHECK_DATA_WRONG, CHECK_DATA_UNREADABLE };
/* Compares the chunks that len_blk blocks from seg_blk on touch; *out_off is the chunk that is wrong. */
enum check_verdict check_data(struct check *check, const struct check_key *key, uint32_t seg_blk, uint32_t len_blk,
			      uint64_t *out_off);

#endif
