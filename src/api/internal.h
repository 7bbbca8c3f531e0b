/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The seam for tests and the simulator: format and open over media that the caller made, with the parameters that the public
 * options do not show, and single steps of background work. Not exported.
 */
#ifndef PC_API_INTERNAL_H
#define PC_API_INTERNAL_H

#include "base/types.h"
#include "core/tweaks.h"
#include "media/media.h"
#include "pcache/pcache.h"

/* Formats mapped media of media->len_bytes. Takes the options of config (NULL: defaults); does not look for an old cache. Media stays the caller's. */
int pc_cache_format_media(struct pc_media *media, const struct pcache_config *config, const struct pc_tweaks *tweaks,
			  struct pcache_backing *backing);

/* Opens (recovers) mapped media. On success media and backing belong to the cache; on failure to the caller. */
int pc_cache_open_media(struct pc_media *media, const struct pcache_config *config, const struct pc_tweaks *tweaks,
			struct pcache_backing *backing, struct pcache **out_cache);

/* Drops the cache from memory without a flush or any store: what a killed process leaves. Frees the backing and closes the media. */
void pc_cache_abandon(struct pcache *cache);

enum pc_step { PC_STEP_WRITEBACK, PC_STEP_EVICT, PC_STEP_CLEAN, PC_STEP_NR };
/* One step of one kind, for maintenance=caller: 1 it did something, 0 there was nothing to do, negative error. force: also without pressure (evict, clean). */
int pc_cache_step(struct pcache *cache, enum pc_step step, bool force);

/* Invariants of the run-time state (index, references of segments, log) with nobody else in the cache; NULL or a text. */
const char *pc_cache_check(struct pcache *cache);

#endif
