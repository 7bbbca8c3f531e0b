/* SPDX-License-Identifier: BSD-3-Clause */
/* What every exported function on an open cache begins with; private to this folder. */
#ifndef PC_API_HANDLE_H
#define PC_API_HANDLE_H

#include "core/cache.h"
#include "pcache/errors.h"

/* 0; -EINVAL (NULL); PCACHE_E_FORKED in a child of the process that opened the cache. Costs one load. */
int pc_api_check(const struct pcache *cache);

/* Fills in info from a cache, open or replayed for a probe. */
void pc_api_fill_info(struct pcache *cache, struct pcache_info *info);
/* Describes the closed cache in media, which need not be mapped; nothing is stored. As pcache_probe. */
int pc_api_probe_media(struct pc_media *media, struct pcache_info *info);
/* Copies as much of full as the caller's struct holds; struct_bytes stays the caller's. */
void pc_api_copy_info(struct pcache_info *to, const struct pcache_info *full);

#endif
