/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check, findings: each is counted, and the first CHECK_SHOWN_MAX go to the caller's function as they are found.
 *
 * Damaged media can have any number of findings; the limit keeps the output, and thereby the time, in bounds.
 */
#include <stdarg.h>

#include "tool/check_internal.h"

static enum check_zone zone_of(const struct check *check, uint64_t media_off)
{
	const struct pc_super *super = &check->super;
	uint32_t seg_id;

	if (media_off == CHECK_NOWHERE || media_off >= check->media->len_bytes)
		return CHECK_ZONE_FILE;
	if (media_off < PC_PAGE_BYTES || super->segment_bytes == 0)
		return CHECK_ZONE_SUPER;
	if (media_off < 2 * PC_PAGE_BYTES)
		return CHECK_ZONE_TAIL;
	if (media_off < super->zone_bytes)
		return CHECK_ZONE_SEGRECS;
	if (media_off >= super->zone_b_off)
		return media_off >= super->media_bytes - PC_PAGE_BYTES       ? CHECK_ZONE_SUPER
		       : media_off >= super->media_bytes - 2 * PC_PAGE_BYTES ? CHECK_ZONE_TAIL
									     : CHECK_ZONE_SEGRECS;
	seg_id = (uint32_t)((media_off - super->data_off) / super->segment_bytes);
	return check->segrecs && seg_id < super->segment_nr && check->segrecs[seg_id].type == PC_SEG_LOG
		       ? CHECK_ZONE_LOG
		       : CHECK_ZONE_DATA;
}

static const char *next_of(enum check_rule rule, enum check_severity severity)
{
	if (severity == CHECK_REPAIR)
		return "the next open mends it";
	if (severity == CHECK_NOTE && rule >= CHECK_K1 && rule <= CHECK_K16)
		return "the next open deals with it";
	return check_rule_next(rule);
}

void check_problem(struct check *check, enum check_rule rule, enum check_severity severity, uint64_t media_off,
		   const char *fmt, ...)
{
	struct check_finding finding = { .severity = severity, .rule = rule, .media_off = media_off };
	char text[512];
	va_list args;

	check->result->finding_nr[severity]++;
	if (!check->settings->finding || check->result->shown_nr >= CHECK_SHOWN_MAX)
		return;
	check->result->shown_nr++;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	finding.zone = zone_of(check, media_off);
	finding.text = text;
	finding.next = next_of(rule, severity);
	check->settings->finding(check->settings->user, &finding);
}

enum check_severity check_if_crashed(const struct check *check)
{
	return check->clean_close ? CHECK_DAMAGE : CHECK_NOTE;
}

void check_progress(const struct check *check, uint64_t done, uint64_t total)
{
	if (check->settings->progress)
		check->settings->progress(check->settings->user, done, total);
}
