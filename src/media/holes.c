/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Media: does a file have a block for every byte?
 *
 * A store through a mapping into a hole needs a new block, and on a full disk that is a SIGBUS. So open refuses files with holes. There
 * is no single call that tells a hole from a block that is allocated but was never written: SEEK_HOLE takes both for holes on
 * ext4, XFS and tmpfs (a file that was just made by fallocate is one big hole to it). Three questions are asked therefore:
 *
 *   1. SEEK_HOLE finds no hole: every block is there and written. The usual case after the first use.
 *   2. FIEMAP, where the file system has it: lists allocated extents, written or not, so a gap is a true hole.
 *   3. Else (tmpfs) the number of allocated blocks. On tmpfs it is exact, up to the rounding of a huge page at the end of the file.
 *
 * On tmpfs the third is asked first: there SEEK_HOLE looks at every page, 10 ms for each GiB, and one yes is enough.
 *
 * Pure questions: nothing is stored, no lock.
 */
#include "media/handle.h"

#include <errno.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "pcache/errors.h"

#define EXTENTS_PER_CALL 64

/* Advances *end_off over extents that follow each other without a gap. 0, PCACHE_E_HOLES: a gap, -errno. */
static int skip_extents(int fd, struct fiemap *map, uint64_t len_bytes, uint64_t *end_off)
{
	const struct fiemap_extent *extent;
	uint64_t begin_off = *end_off;

	memset(map, 0, sizeof(*map));
	map->fm_start = begin_off;
	map->fm_length = len_bytes - begin_off;
	map->fm_flags = FIEMAP_FLAG_SYNC; /* delayed allocations get their blocks */
	map->fm_extent_count = EXTENTS_PER_CALL;
	if (ioctl(fd, FS_IOC_FIEMAP, map) != 0)
		return -errno;
	for (uint32_t i = 0; i < map->fm_mapped_extents && *end_off < len_bytes; i++) {
		extent = &map->fm_extents[i];
		if (extent->fe_logical > *end_off)
			return PCACHE_E_HOLES;
		*end_off = PC_MAX(*end_off, (uint64_t)(extent->fe_logical + extent->fe_length));
	}
	return *end_off > begin_off ? 0 : PCACHE_E_HOLES;
}

/* -EOPNOTSUPP or -ENOTTY where the file system has no FIEMAP. */
static int check_extents(int fd, uint64_t len_bytes)
{
	struct fiemap *map = malloc(sizeof(*map) + EXTENTS_PER_CALL * sizeof(map->fm_extents[0]));
	uint64_t end_off = 0;
	int rc = 0;

	if (map == NULL)
		return -ENOMEM;
	while (rc == 0 && end_off < len_bytes)
		rc = skip_extents(fd, map, len_bytes, &end_off);
	free(map);
	return rc;
}

static bool has_all_blocks(int fd, uint64_t len_bytes)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (uint64_t)st.st_blocks * 512 >= len_bytes;
}

static bool is_tmpfs(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

int pc_media_check_holes(int fd, uint64_t len_bytes)
{
	off_t hole_off;
	int rc;

	if (is_tmpfs(fd) && has_all_blocks(fd, len_bytes))
		return 0;
	hole_off = lseek(fd, 0, SEEK_HOLE);
	if (hole_off >= 0 && (uint64_t)hole_off >= len_bytes)
		return 0;
	rc = check_extents(fd, len_bytes);
	if (rc != -EOPNOTSUPP && rc != -ENOTTY)
		return rc;
	return has_all_blocks(fd, len_bytes) ? 0 : PCACHE_E_HOLES;
}
