/* SPDX-License-Identifier: BSD-3-Clause */
/* pcache dump, the seam: what the command and the tests call. */
#ifndef PC_TOOL_DUMP_H
#define PC_TOOL_DUMP_H

#include <stdio.h>

#include "media/media.h"

enum dump_part { DUMP_SUPER = 1, DUMP_TAIL = 2, DUMP_SEGMENTS = 4, DUMP_LOG = 8, DUMP_ALL = 15 };

/* Prints these parts of whatever bytes; uses only pc_media_read. 0, PCACHE_E_NOT_A_CACHE (no valid superblock) or -ENOMEM. */
int dump_run(struct pc_media *media, unsigned int parts, FILE *to);

#endif
