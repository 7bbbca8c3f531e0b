/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Media, stores by calls of the system: page granularity on a disk.
 *
 * The page cache is the mapping, so a byte that pwrite(2) has put there is what a load from the mapping sees. Which of the two stores it makes a difference for the sync:
 *
 *   - The kernel keeps a file in folios of up to some MiB. A store through the mapping marks the whole folio dirty, and a sync writes all of it: a page of data and a slot of
 *     the log cost a sync of hundreds of KiB. A call marks the blocks that it wrote.
 *   - After each sync, the first store to each page through the mapping is a page fault. A call costs half of one.
 *   - A whole page that is not in memory need not be read before it is overwritten.
 *
 * So here the mapping is for loads, and cannot be stored to. On tmpfs there is no sync, and where a limit for the size of files (RLIMIT_FSIZE) lies below ours a call would
 * be a signal: there stores go through the mapping.
 *
 * Even so stores gather in memory first (stage.c), since a call to write one block of a large folio takes longer the larger the folio is (ext4 goes through all of its blocks), and
 * many small folios make a sync slow. The mapping is advised to be read at random: what is read ahead would be large folios of what nobody asked for.
 *
 * A store has no result, but a call can fail. Then what should have been there is not, and a later sync that says 0 would be a lie: so the error is kept as that of a sync, and
 * from then on every sync fails (media.h). What was stored in part is torn, which is what a crash may leave as well.
 *
 * No lock. Calls of several threads that overlap in a page, but not in bytes, do not disturb each other: the kernel copies under the lock of the folio or the inode.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "media/handle.h"
#include "media/stage.h"
#include "pcache/errors.h"

#define WINDOW_BYTES ((uint64_t)256 << 10)
#define OTHER_WINDOWS 3 /* beside one for each data head: the log, and records */
#define TMPFS_MAGIC_NR 0x01021994

bool pc_media_is_tmpfs(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC_NR;
}

bool pc_media_wants_calls(const struct pc_media_file *file)
{
	struct rlimit limit;

	if (file->is_dax || file->media.read_only || pc_media_is_tmpfs(file->fd))
		return false;
	if (getrlimit(RLIMIT_FSIZE, &limit) != 0)
		return false;
	return limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= file->media.len_bytes;
}

struct pc_stage *pc_media_new_stage(void)
{
	long cpu_nr = sysconf(_SC_NPROCESSORS_ONLN);
	uint32_t window_nr = (uint32_t)PC_MIN(PC_MAX(cpu_nr, 1L) + OTHER_WINDOWS, (long)PC_STAGE_WINDOWS_MAX);
	struct pc_stage *stage;

	/* Without memory for it each store is a call, which is slower, and right. */
	return pc_stage_new(window_nr, WINDOW_BYTES, &stage) == 0 ? stage : NULL;
}

void pc_media_advise_random(const struct pc_media_file *file, void *address)
{
	(void)madvise(address, file->media.len_bytes, MADV_RANDOM);
}

void pc_media_store_by_call(struct pc_media_file *file, uint64_t media_off, const void *src, size_t len)
{
	const uint8_t *from = src;
	off_t file_bytes = lseek(file->fd, 0, SEEK_END);

	/* A file that was truncated under us must not grow again, with a hole where data was. Through the mapping it would be a SIGBUS. */
	if (file_bytes < 0 || (uint64_t)file_bytes < media_off + len) {
		pc_media_fail(&file->media, PCACHE_E_TRUNCATED);
		return;
	}
	while (len > 0) {
		ssize_t put = pwrite(file->fd, from, len, (off_t)media_off);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0) {
			pc_media_fail(&file->media, put < 0 && errno > 0 ? -errno : -EIO);
			return;
		}
		from += put;
		media_off += (uint64_t)put;
		len -= (size_t)put;
	}
}

void pc_media_begin_by_call(struct pc_media_file *file, uint64_t media_off, uint64_t len)
{
	/* Does not wait. What cannot be written is an error of the file, which the next sync gives, as it does where the kernel has begun by itself. */
	(void)sync_file_range(file->fd, (off_t)media_off, (off_t)len, SYNC_FILE_RANGE_WRITE);
}
