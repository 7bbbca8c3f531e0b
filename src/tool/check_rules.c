/* SPDX-License-Identifier: BSD-3-Clause */
/* pcache check, the rules: their texts. */
#include "tool/check_rules.h"

struct rule_text {
	const char *number;
	const char *statement;
	const char *next;
};

static const struct rule_text rules[CHECK_RULE_NR] = { { "", "", "" },
#define RULE_TEXT(number, statement, next) { #number, statement, next },
						       CHECK_RULES(RULE_TEXT)
#undef RULE_TEXT
};

const char *check_rule_number(enum check_rule rule)
{
	return rules[rule].number;
}

const char *check_rule_statement(enum check_rule rule)
{
	return rules[rule].statement;
}

const char *check_rule_next(enum check_rule rule)
{
	return rules[rule].next;
}
