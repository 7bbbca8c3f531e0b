/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages to the log callback of the config, events to its event callback. The library prints nothing by itself. */
#ifndef PC_BASE_MSG_H
#define PC_BASE_MSG_H

#include "base/types.h"
#include "pcache/config.h"
#include "pcache/event.h"

struct pc_msg {
	pcache_log_fn fn; /* NULL: messages are dropped */
	void *user;
	pcache_event_fn event_fn; /* NULL: nobody listens */
	void *event_user;
};

/* Formats one line of at most 511 bytes and hands it to the callback. Never called with a lock held that API calls take. */
void pc_msg(const struct pc_msg *msg, int severity, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Tells an event; struct_bytes is filled in here. Never called with a lock held that API calls take. */
void pc_event(const struct pc_msg *msg, struct pcache_event event);

#endif
