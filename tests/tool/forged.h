/* SPDX-License-Identifier: BSD-3-Clause */
/* Forged images: what each breaks, and what a check must say of it. */
#ifndef PC_TESTS_FORGED_H
#define PC_TESTS_FORGED_H

#include "tool/check.h"
#include "tool/forge.h"

/* One copy of a record is made bad: repair, or damage if both are. Returns the offset of the copy. */
struct forged_copy {
	enum check_rule rule;
	uint64_t (*spoil)(struct forge *forge, unsigned int copy);
};
extern const struct forged_copy forged_copies[];
extern const size_t forged_copy_nr;

/* The image gets one finding, of this rule and severity at the offset that spoil returns. */
struct forged {
	enum check_rule rule;
	enum check_severity severity;
	uint64_t (*spoil)(struct forge *forge);
	enum check_rule also; /* a rule that cannot but be broken with it; any number of findings */
};
extern const struct forged forged_records[];
extern const size_t forged_record_nr;
extern const struct forged forged_log[];
extern const size_t forged_log_nr;

#endif
