/* SPDX-License-Identifier: BSD-3-Clause */
/* What every exported function on an open cache begins with; private to this folder. */
#ifndef PC_API_HANDLE_H
#define PC_API_HANDLE_H

#include "base/checked.h"
#include "core/cache.h"
#include "pcache/errors.h"

/* 0; -EINVAL (NULL); PCACHE_E_FORKED in a child of the process that opened the cache. Costs one load. */
int pc_api_check(const struct pcache *cache);

/* 0, PCACHE_E_RANGE, PCACHE_E_UNALIGNED. */
int pc_api_check_range(const struct pcache *cache, uint64_t off, uint64_t len);
/* 0, or what is wrong with the buffers (-EINVAL, PCACHE_E_*). *out_total_bytes: of all of them. */
int pc_api_check_vector(const struct pcache *cache, const struct iovec *iov, uint32_t iov_nr, uint64_t off,
			uint64_t *out_total_bytes);
bool pc_api_write_flags_known(uint32_t flags);
/* Blocks are lost that nobody has written again. */
bool pc_api_has_poison(struct pcache *cache);
/* Writes as the mode says; whole: all or nothing across a crash, in each of them. */
int pc_api_write(struct pcache *cache, const struct pcache_range *ranges, uint32_t range_nr, bool whole,
		 uint32_t flags);
/* Returns rc. If that is a fail-stop, the program is told why stores stopped, unless it was already. */
int pc_api_told(struct pcache *cache, int rc);

/* Fills in info from a cache, open or replayed for a probe. */
void pc_api_fill_info(struct pcache *cache, struct pcache_info *info);
/* Describes the closed cache in media, which need not be mapped; nothing is stored. As pcache_probe. */
int pc_api_probe_media(struct pc_media *media, struct pcache_info *info);
/* Copies as much of full as the caller's struct holds; struct_bytes stays the caller's. */
void pc_api_copy_info(struct pcache_info *to, const struct pcache_info *full);

#endif
