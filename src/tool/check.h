/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check, the seam: reads everything on a media handle and reports what is wrong, and where. Prints nothing, stores nothing, keeps nothing between two
 * calls; the command prints what it reports, tests and simulators judge it.
 *
 * The handle is one that was opened, mapped or not, or a simulated one: only pc_media_read is used, and pc_media_map on a handle that is not mapped yet,
 * to find holes. It must not be open for a cache at the same time.
 *
 * Any bytes are good: time is bounded by a few readings of the media, memory by a few times the size of the log.
 */
#ifndef PC_TOOL_CHECK_H
#define PC_TOOL_CHECK_H

#include "format/format.h"
#include "media/media.h"
#include "tool/check_rules.h"

/* How bad it is. */
enum check_severity {
	CHECK_NOTE, /* worth knowing; a crash explains it */
	CHECK_REPAIR, /* one of two copies is bad or old: the next open mends it, nothing is lost */
	CHECK_DAMAGE, /* no crash explains it */
	CHECK_SEVERITY_NR
};

/* What lies at the offset of a finding. */
enum check_zone {
	CHECK_ZONE_FILE, /* the file as a whole */
	CHECK_ZONE_SUPER,
	CHECK_ZONE_TAIL,
	CHECK_ZONE_SEGRECS,
	CHECK_ZONE_LOG,
	CHECK_ZONE_DATA,
	CHECK_ZONE_NR
};

#define CHECK_NOWHERE UINT64_MAX /* a finding without a media offset */
#define CHECK_SHOWN_MAX 1000u /* findings that are reported; all are counted */

struct check_finding {
	enum check_severity severity;
	enum check_zone zone;
	enum check_rule rule; /* that is broken; check_rule_number() is its name in docs/TOOL.md */
	uint64_t media_off; /* CHECK_NOWHERE: of no single place */
	const char *text; /* one line; valid during the call, as all strings here */
	const char *next; /* what to do about it */
};

/* A range of the backing that the cache answers for; what lies between two ranges is read from the backing. */
struct check_extent {
	uint64_t vol_blk;
	uint64_t len_blk;
	uint64_t media_off; /* DATA: of its bytes; else CHECK_NOWHERE */
	enum pc_key_type type;
	bool dirty;
};

/* A key of the log, seen or hidden by others. */
struct check_found_key {
	uint64_t vol_blk;
	uint32_t len_blk;
	uint8_t flags; /* PC_KEY_* */
	bool dirty;
};

struct check_settings {
	bool no_data; /* data is not read; ksets that a crash cut short are then taken for finished */
	/* All may be NULL. */
	void (*finding)(void *user, const struct check_finding *finding);
	void (*extent)(void *user, const struct check_extent *extent); /* in the order of vol_blk */
	void (*key)(void *user, const struct check_found_key *key); /* each that counts, in the order of the log */
	void (*progress)(void *user, uint64_t done, uint64_t total);
	void *user;
};

struct check_counts {
	uint64_t ksets, voids, marks, keys;
	uint64_t unfinished; /* ksets above the mark whose data is not there */
	uint64_t live_extents, dirty_bytes, clean_bytes, dirty_zero_bytes, poisoned_bytes;
	uint64_t segments_free, segments_data, segments_log, segments_old_log; /* by their records */
	uint64_t verified_bytes;
};

struct check_result {
	uint64_t finding_nr[CHECK_SEVERITY_NR];
	uint32_t shown_nr; /* findings that were reported */
	bool super_valid; /* else nothing below means anything */
	bool tail_valid; /* else there is no log */
	bool clean_close;
	struct pc_super super; /* newest valid copies */
	struct pc_tail tail;
	uint64_t mark_pos; /* everything below is durable */
	uint64_t end_pos; /* after the last valid kset */
	struct check_counts counts;
};

/*
 * 0: it was checked, out_result says what was found. Else it cannot be checked, whatever was reported until then: PCACHE_E_NOT_A_CACHE, PCACHE_E_VERSION,
 * -ENOMEM, -errno of the media.
 */
int check_run(struct pc_media *media, const struct check_settings *settings, struct check_result *out_result);

#endif
