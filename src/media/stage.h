/* SPDX-License-Identifier: BSD-3-Clause */
/* Stores that gather in memory until a sync, see stage.c. For media at page granularity whose stores are calls; media.h calls it where media->stage is set. */
#ifndef PC_MEDIA_STAGE_H
#define PC_MEDIA_STAGE_H

#include "media/media.h"

#define PC_STAGE_WINDOWS_MAX 32u

/* window_bytes: a power of two of at least 4096. 0, -ENOMEM, -errno. Freed by pc_media_fini. */
int pc_stage_new(uint32_t window_nr, uint64_t window_bytes, struct pc_stage **out_stage);
void pc_stage_free(struct pc_stage *stage); /* NULL does nothing */
/* Forgets what was not written, as the end of the process does. Nobody else uses the stage. */
void pc_stage_drop(struct pc_stage *stage);

#endif
