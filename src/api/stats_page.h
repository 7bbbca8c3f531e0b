/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The live statistics page: PATH.stats next to a cache, in which the process that holds the cache shows its
 * numbers to others.
 */
#ifndef PC_API_STATS_PAGE_H
#define PC_API_STATS_PAGE_H

#include "base/types.h"
#include "pcache/info.h"

struct pc_stats_page;

/*
 * Makes the page of a cache that the caller holds the lock of, in place of the page of an earlier process. 0;
 * -EINVAL (empty path); -EEXIST if PATH.stats is there and is no such page (it stays as it is); -ENAMETOOLONG;
 * -ENOMEM; the errno of the file system.
 */
int pc_stats_page_create(const char *cache_path, struct pc_stats_page **out_page);

/*
 * Writes a snapshot; info->struct_bytes does not matter. From any thread. 0, or the errno of the file system: the
 * page is then unreadable until a later call succeeds. NULL does nothing. Two small writes, no sync.
 */
int pc_stats_page_publish(struct pc_stats_page *page, const struct pcache_info *info);

/* Removes the page, if PATH.stats still is this one and this process made it, and frees it. NULL does nothing. */
void pc_stats_page_close(struct pc_stats_page *page);

/*
 * Copies the newest snapshot of a live process: as many bytes as info->struct_bytes says, zeroes where the
 * publisher knew less; PCACHE_STATE_LIVE is set. The numbers are hints: whoever can write PATH.stats chooses
 * them.
 *
 * 0; -EINVAL (info->struct_bytes below 8); -ENOENT; -ESTALE (its process is gone); -EPROTO (no such page, or of
 * another version); -EAGAIN (nothing published yet, or no consistent snapshot within some 20 ms); -ENOMEM;
 * -ENAMETOOLONG; the errno of open or read. *info is untouched on failure.
 */
int pc_stats_page_read(const char *cache_path, struct pcache_info *info);

#endif
