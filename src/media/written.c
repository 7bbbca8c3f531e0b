/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Media: blocks that are allocated, but were never written.
 *
 * posix_fallocate(3) makes such blocks, in no time. File systems keep them in extents of their own, which read as zeroes, and the first write to a block must change them: that is a
 * transaction of the journal, and the next sync waits for its commit. On ext4 a sync then takes twice as long. A log that goes on to fresh blocks would pay that with every
 * flush until it has been all around the cache, so format pays it once: it writes zeroes to these blocks. Blocks that were written before are left alone.
 *
 * Past the page cache where the file system lets us: the zeroes are of no use to anybody, and would push out what is. Where extents cannot be listed nothing is done;
 * that costs speed, and nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "media/handle.h"

#define EXTENTS_PER_CALL 64u
#define PIECE_BYTES ((uint64_t)1 << 20)

/* Writes zeroes to [off, end_off). Where a direct write is refused, the rest goes through the page cache. */
static int write_zeroes(int fd, const void *zeroes, uint64_t off, uint64_t end_off)
{
	while (off < end_off) {
		ssize_t put = pwrite(fd, zeroes, PC_MIN(end_off - off, PIECE_BYTES), (off_t)off);
		int flags;

		if (put > 0) {
			off += (uint64_t)put;
			continue;
		}
		if (put < 0 && errno == EINTR)
			continue;
		flags = fcntl(fd, F_GETFL);
		if (put == 0 || errno != EINVAL || flags < 0 || !(flags & O_DIRECT))
			return put < 0 ? -errno : -EIO;
		if (fcntl(fd, F_SETFL, flags & ~O_DIRECT) != 0)
			return -errno;
	}
	return 0;
}

/* One round: the extents from *off on. *off gets where the next round begins. */
static int write_extents(int fd, struct fiemap *map, const void *zeroes, uint64_t *off, uint64_t len_bytes)
{
	memset(map, 0, sizeof(*map));
	map->fm_start = *off;
	map->fm_length = len_bytes - *off;
	map->fm_extent_count = EXTENTS_PER_CALL;
	if (ioctl(fd, FS_IOC_FIEMAP, map) != 0)
		return errno == EOPNOTSUPP || errno == ENOTTY ? 1 : -errno;
	if (map->fm_mapped_extents == 0)
		return 1;
	for (uint32_t i = 0; i < map->fm_mapped_extents; i++) {
		const struct fiemap_extent *extent = &map->fm_extents[i];
		uint64_t begin_off = PC_MAX((uint64_t)extent->fe_logical, *off);
		uint64_t end_off = PC_MIN((uint64_t)(extent->fe_logical + extent->fe_length), len_bytes);
		int rc = 0;

		if ((extent->fe_flags & FIEMAP_EXTENT_UNWRITTEN) && begin_off < end_off)
			rc = write_zeroes(fd, zeroes, begin_off, end_off);
		if (rc)
			return rc;
		*off = PC_MAX(*off, end_off);
		if (extent->fe_flags & FIEMAP_EXTENT_LAST)
			return 1;
	}
	return 0;
}

int pc_media_write_unwritten(int fd, uint64_t len_bytes)
{
	struct fiemap *map = malloc(sizeof(*map) + EXTENTS_PER_CALL * sizeof(map->fm_extents[0]));
	void *zeroes = aligned_alloc(PC_PAGE_BYTES, PIECE_BYTES);
	int flags = fcntl(fd, F_GETFL), rc = 0;
	uint64_t off = 0;

	if (!map || !zeroes) {
		rc = -ENOMEM;
		goto out;
	}
	memset(zeroes, 0, PIECE_BYTES);
	if (flags >= 0)
		(void)fcntl(fd, F_SETFL, flags | O_DIRECT); /* if it is refused, so be it */
	while (rc == 0 && off < len_bytes)
		rc = write_extents(fd, map, zeroes, &off, len_bytes);
	if (flags >= 0 && fcntl(fd, F_SETFL, flags) != 0 && rc >= 0)
		rc = -errno;
out:
	free(zeroes);
	free(map);
	return rc < 0 ? rc : 0;
}
