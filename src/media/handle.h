/* SPDX-License-Identifier: BSD-3-Clause */
/* The handle of real media, private to this folder (and its tests): what file.c opens, pmem2.c maps and both use. */
#ifndef PC_MEDIA_HANDLE_H
#define PC_MEDIA_HANDLE_H

#include <libpmem2.h>
#include <sys/types.h>

#include "media/guard.h"
#include "media/media.h"

/* All fields are set before the handle is shared between threads and constant afterwards. */
struct pc_media_file {
	struct pc_media media; /* first: the ops get a pointer to it */
	struct pc_msg msg;
	char *path; /* as given; owned */
	int fd;
	pid_t owner_pid; /* a child that inherited the handle neither unlocks nor unmaps */
	bool locked;
	bool created; /* by our open; allocate removes it again on failure */
	bool is_dax; /* device DAX: has no blocks to allocate, and cannot be read through fd */
	const uint8_t *dax_view; /* device DAX only: read-only mapping of len_bytes for reads before map; else NULL */
	/* From here on only once mapped. */
	struct pmem2_source *source;
	struct pmem2_map *map;
	struct pc_guard_range *guard_range; /* NULL: loads are not guarded */
	bool store_by_call; /* page granularity: stores are pwrite(2) of fd, and the mapping is for loads only (store.c) */
	uint8_t *writable; /* NULL if nothing is stored through the mapping */
	pmem2_memcpy_fn memcpy_fn;
	pmem2_flush_fn flush_fn;
	pmem2_drain_fn drain_fn;
	unsigned copy_flags;
	int (*sync_fn)(int fd); /* fdatasync; a test puts a failing one here */
};

static inline struct pc_media_file *pc_media_file_of(struct pc_media *media)
{
	return (struct pc_media_file *)(void *)media;
}

extern const struct pc_media_ops pc_media_file_ops;

/* Reads from the file or device: as the op. */
int pc_media_file_read(struct pc_media *media, uint64_t media_off, void *buf, size_t len);

/* As the op. */
int pc_media_file_renew(struct pc_media *media, uint64_t media_off, uint64_t len);

/* The file lies in memory, and a sync of it is nothing. */
bool pc_media_is_tmpfs(int fd);
/* True if stores to the file, mapped at page granularity, should be calls of the system. */
bool pc_media_wants_calls(const struct pc_media_file *file);
/* A stage for such a file, or NULL. */
struct pc_stage *pc_media_new_stage(void);
/* Loads through the mapping are at random. */
void pc_media_advise_random(const struct pc_media_file *file, void *address);
/* As the op copy, by a call. What it cannot store makes every later sync fail. */
void pc_media_store_by_call(struct pc_media_file *file, uint64_t media_off, const void *src, size_t len);
/* As the op begin. */
void pc_media_begin_by_call(struct pc_media_file *file, uint64_t media_off, uint64_t len);

/* An error of libpmem2 as -errno. */
int pc_media_from_pmem2(int rc);

/* Writes zeroes to the blocks of the first len_bytes of the file that are allocated, but were never written. 0, -ENOMEM, -errno. */
int pc_media_write_unwritten(int fd, uint64_t len_bytes);

/* 0 if every block of the first len_bytes of the file is allocated, else PCACHE_E_HOLES or -errno. */
int pc_media_check_holes(int fd, uint64_t len_bytes);

#endif
