/* SPDX-License-Identifier: BSD-3-Clause */
/* The config object, seen from inside. Its functions are in api/config. */
#ifndef PC_BASE_OPTIONS_H
#define PC_BASE_OPTIONS_H

#include "base/msg.h"
#include "base/types.h"
#include "pcache/config.h"

struct pcache_config {
	uint64_t values[PCACHE_OPT_NR];
	bool is_set[PCACHE_OPT_NR]; /* the caller set it (to tell a wish from a default, e.g. gc_percent) */
	struct pc_msg msg;
	uint8_t backing_uuid[16]; /* all zero: not given */
};

#endif
