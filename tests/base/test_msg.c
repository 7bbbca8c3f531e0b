/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages: handed on whole, cut at 511 bytes, always one line, and dropped without a callback. */
#include "base/msg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct seen {
	char text[1024];
	int severity;
	int nr;
};

static void note(void *user, int severity, const char *text)
{
	struct seen *seen = user;

	assert_true(strlen(text) < sizeof(seen->text));
	strcpy(seen->text, text);
	seen->severity = severity;
	seen->nr++;
}

static void formats_and_hands_on(void **state)
{
	struct seen seen = { .nr = 0 };
	struct pc_msg msg = { .fn = note, .user = &seen };

	(void)state;
	pc_msg(&msg, PCACHE_LOG_WARN, "segment %u of %s", 7u, "x");
	assert_int_equal(seen.nr, 1);
	assert_int_equal(seen.severity, PCACHE_LOG_WARN);
	assert_string_equal(seen.text, "segment 7 of x");
}

static void cuts_long_lines(void **state)
{
	struct seen seen = { .nr = 0 };
	struct pc_msg msg = { .fn = note, .user = &seen };
	char text[800];

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	pc_msg(&msg, PCACHE_LOG_INFO, "%s", text);
	assert_int_equal(strlen(seen.text), 511);
}

static void is_one_line(void **state)
{
	struct seen seen = { .nr = 0 };
	struct pc_msg msg = { .fn = note, .user = &seen };

	(void)state;
	pc_msg(&msg, PCACHE_LOG_ERROR, "a\nb\x1b[c\xc3\xa4");
	assert_string_equal(seen.text, "a b [c\xc3\xa4");
}

static void drops_without_callback(void **state)
{
	struct pc_msg msg = { 0 };

	(void)state;
	pc_msg(&msg, PCACHE_LOG_ERROR, "nobody hears %d", 1);
	pc_msg(NULL, PCACHE_LOG_ERROR, "nobody hears %d", 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats_and_hands_on),
		cmocka_unit_test(cuts_long_lines),
		cmocka_unit_test(is_one_line),
		cmocka_unit_test(drops_without_callback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
