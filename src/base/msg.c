/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages to the log callback of the config, and events.
 *
 * Formats into a buffer on the stack, so that a message about lack of memory needs none. A text that is too long is cut.
 * The callback was promised one line: control characters, which a path or a text from media may carry, become spaces.
 * Callers see to it that no lock is held that an API call takes; the callback may call into the library.
 */
#include "base/msg.h"

#include "base/lock.h"

#include <stdarg.h>
#include <stdio.h>

#define LINE_BYTES 512

void pc_msg(const struct pc_msg *msg, int severity, const char *fmt, ...)
{
	char line[LINE_BYTES];
	va_list args;
	int len;

	if (!msg || !msg->fn)
		return;
	va_start(args, fmt);
	len = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if (len < 0)
		return;
	for (char *c = line; *c; c++) {
		if ((unsigned char)*c < ' ')
			*c = ' ';
	}
	pc_lock_none_held("log callback");
	msg->fn(msg->user, severity, line);
}

void pc_event(const struct pc_msg *msg, struct pcache_event event)
{
	event.struct_bytes = (uint32_t)sizeof(event);
	if (!msg || !msg->event_fn)
		return;
	pc_lock_none_held("event callback");
	msg->event_fn(msg->event_user, &event);
}
