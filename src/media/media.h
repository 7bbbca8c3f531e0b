/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Media: the only folder that stores to the mapped cache file, and the only user of libpmem2.
 *
 * Everyone else reads data by pc_media_load, which copies it out of the mapping, and metadata by pc_media_read, a system call, for which poison and truncation are
 * errors. A load from there is a SIGBUS, and an error only where the media is guarded (guard.c). A store becomes durable in two steps, both in the SAME thread:
 *
 *     byte, cache line   copy (non-temporal), then fence          flush (clwb) of lines stored by others, then fence
 *     page               copy (plain), fence does nothing, then sync (any thread; covers all threads)
 *
 * Until then any 8-byte word of it may or may not survive a crash. pc_media_commit is fence or sync, whichever the
 * granularity needs; the hot path calls pc_media_fence itself where it knows that the granularity is not page.
 *
 * A handle goes through: open (file descriptor, lock; pc_media_read works), allocate (format only), map (base, loads and stores work), guard (if wanted), close.
 * A simulator (tests/sim) implements the same ops table.
 */
#ifndef PC_MEDIA_MEDIA_H
#define PC_MEDIA_MEDIA_H

#include <stdatomic.h>
#include <string.h>

#include "base/lock.h"
#include "base/msg.h"
#include "base/types.h"

enum pc_granularity { PC_GRAN_BYTE = 0, PC_GRAN_CACHE_LINE = 1, PC_GRAN_PAGE = 2 }; /* values of PCACHE_GRANULARITY_* */

struct pc_media;
struct pc_kernel; /* media/kernel.h */

struct pc_media_ops {
	/* Copies len bytes to media_off, bypassing the CPU caches where the granularity allows. Any alignment. */
	void (*copy)(struct pc_media *media, uint64_t media_off, const void *src, size_t len);
	/* Starts making len bytes at media_off durable that were stored by anyone before (clwb); at page granularity nothing. */
	void (*flush)(struct pc_media *media, uint64_t media_off, uint64_t len);
	/* Makes this thread's copies and flushes durable; at page granularity nothing. */
	void (*fence)(struct pc_media *media);
	/* Stores of a range are on their way from now on, and the sync that follows waits less. Promises nothing. NULL: there is no such thing. */
	void (*begin)(struct pc_media *media, uint64_t media_off, uint64_t len);
	/* Page granularity: makes all stores of all threads durable; 0 or -errno. Else: fence, 0. */
	int (*sync)(struct pc_media *media);
	/* Reads through the file descriptor: 0; -EIO poison; PCACHE_E_TRUNCATED past the end of the file; other -errno. */
	int (*read)(struct pc_media *media, uint64_t media_off, void *buf, size_t len);
	/* Guarded media only: copies out of the mapping. 0, or -EIO: the media cannot give these bytes, and dst holds anything. */
	int (*load)(struct pc_media *media, uint64_t media_off, void *dst, size_t len);
	/* Writes whole pages that cannot be read, so that they can be stored to again; see pc_media_renew. NULL: a store cures by itself. */
	int (*renew)(struct pc_media *media, uint64_t media_off, uint64_t len);
	void (*close)(struct pc_media *media);
};

struct pc_media {
	const struct pc_media_ops *ops;
	const uint8_t *base; /* NULL until mapped */
	uint64_t len_bytes; /* of the file or device, rounded down to pages */
	enum pc_granularity granularity; /* valid once mapped */
	bool granularity_forced;
	bool huge_pages; /* asked for and accepted */
	bool read_only;
	bool guarded; /* loads go through the op load, or the kernel; constant while threads share the handle */
	const struct pc_kernel
		*kernel; /* for whole lines; NULL: copies and loads go through the ops. Only mappings have one */
	uint8_t *
		lines; /* base to store to non-temporally, where that makes durable; else NULL: stores go through the ops */
	struct pc_stage *
		stage; /* page granularity: stores gather here until a sync (stage.c); NULL: they go to the ops at once */
	struct pc_mutex sync_lock; /* PC_RANK_MEDIA: one sync at a time */
	_Atomic int
		sync_error; /* page granularity: the first error of a sync or a store; no later sync counts. Set once */
};

/* Part of making and closing any kind of media. init: 0 or -errno. */
int pc_media_init(struct pc_media *media);
void pc_media_fini(struct pc_media *media);
/* Page granularity: something could not be stored or synced (error: -errno): no sync says 0 any more. */
void pc_media_fail(struct pc_media *media, int error);

/* That error, or 0: what this thread has stored before the call is in the media's hands. */
static inline int pc_media_error(const struct pc_media *media)
{
	return atomic_load_explicit(&media->sync_error, memory_order_acquire);
}

#define PC_MEDIA_RDONLY 1u /* no store will be made: O_RDONLY, shared mapping without PROT_WRITE */
#define PC_MEDIA_CREATE 2u /* create a missing file, mode 0600 */
#define PC_MEDIA_NOLOCK 4u /* do not take the lock (looking at a live cache) */

/*
 * Opens and locks (flock, exclusive, non-blocking) a regular file or device DAX. 0, -EBUSY (locked), -EISDIR, -ENOTSUP (neither file nor device DAX), or the errno of
 * open(2). Copies msg.
 */
int pc_media_open(const char *path, uint32_t flags, const struct pc_msg *msg, struct pc_media **out_media);

/*
 * Format only: makes the file exactly bytes long with every block allocated (tmpfs: huge-page advice before the first touch), syncs it and its directory. A file that
 * pc_media_open created is removed again if this fails, an old one keeps its old length. 0, -ENOSPC, -errno. Device DAX: checks that bytes fit.
 */
int pc_media_allocate(struct pc_media *media, uint64_t bytes);

/* Maps. 0, PCACHE_E_HOLES (a regular file with unallocated blocks), PCACHE_E_TRUNCATED (shorter than at open), -EINVAL (mapped already, or empty), -errno. Logs a forced granularity. Sets base, granularity, ... The mapping is MADV_DONTFORK. */
int pc_media_map(struct pc_media *media);

/*
 * From now on pc_media_load gives -EIO where it would be a SIGBUS: installs a handler of that signal for as long as any guarded media is mapped. Mapped file or device only, before
 * threads share it. 0, -EINVAL (not mapped), -ENOMEM, -errno.
 */
int pc_media_guard(struct pc_media *media);
/* At the start of a thread of our own that loads: a blocked SIGBUS could not be handled, and threads inherit what is blocked. Nothing on media without a guard. */
void pc_media_guard_thread(const struct pc_media *media);

/* A file that has no name yet (create.c). */
struct pc_media_unnamed {
	int fd;
	char path[32]; /* by which this process can open it */
};

/* Makes one, empty, mode 0600, where path can be its name. 0, -EOPNOTSUPP (the file system has no such files), -ENOMEM, or the errno of open(2). */
int pc_media_unnamed(const char *path, struct pc_media_unnamed *out_unnamed);
/* Gives it its name, durably. 0, -EEXIST (path leads somewhere already, which stays), -ENOMEM, or the errno of open(2), link(2) or fsync(2). */
int pc_media_name(const struct pc_media_unnamed *unnamed, const char *path);
/* Without a name it is gone. */
void pc_media_unnamed_close(struct pc_media_unnamed *unnamed);

/* Unmaps, unlocks, frees. NULL does nothing. */
void pc_media_close(struct pc_media *media);

/* Inlined in every build, so that each call in the source is a call site of its own, which the simulator can count and leave out. */
#define PC_MEDIA_INLINE static inline __attribute__((always_inline))

/* ---- stage.c, for media that has a stage ---- */

/* As the op copy; what was stored last is what a load gives, and the next sync writes it. */
void pc_stage_store(struct pc_media *media, uint64_t media_off, const void *src, size_t len);
/* Hands everything to the op copy, for a sync that follows at once. */
void pc_stage_write(struct pc_media *media);
/* The same for what it has of a range. */
void pc_stage_write_range(struct pc_media *media, uint64_t media_off, uint64_t len);
/* False: the mapping has the newest bytes of the range, as far as the caller may know of them. */
bool pc_stage_may_have(const struct pc_media *media, uint64_t media_off, size_t len);
/* As pc_media_load, of what may be in the stage. */
int pc_stage_load(struct pc_media *media, uint64_t media_off, void *dst, size_t len);

PC_MEDIA_INLINE void pc_media_copy(struct pc_media *media, uint64_t media_off, const void *src, size_t len)
{
	if (__builtin_expect(media->stage != NULL, 0))
		pc_stage_store(media, media_off, src, len);
	else
		media->ops->copy(media, media_off, src, len);
}

/* As pc_media_copy, of one line that this thread has just put together: word by word, since a wide load would wait until the narrow stores have left the processor's queue, behind those of the data. */
PC_MEDIA_INLINE void pc_media_copy_line(struct pc_media *media, uint64_t media_off, const uint64_t *words)
{
#if defined(__x86_64__)
	if (media->lines) {
		long long *to = (long long *)(void *)(media->lines + media_off);

		for (uint32_t i = 0; i < PC_CACHE_LINE_BYTES / sizeof(*words); i++)
			__builtin_ia32_movnti64(to + i, (long long)words[i]);
		return;
	}
#endif
	pc_media_copy(media, media_off, words, PC_CACHE_LINE_BYTES);
}

PC_MEDIA_INLINE void pc_media_flush(struct pc_media *media, uint64_t media_off, uint64_t len)
{
	media->ops->flush(media, media_off, len);
}

PC_MEDIA_INLINE void pc_media_fence(struct pc_media *media)
{
#if defined(__x86_64__)
	if (media->lines) {
		__builtin_ia32_sfence(); /* what libpmem2 drains by here */
		return;
	}
#endif
	media->ops->fence(media);
}

/*
 * A sync that fails is the last: the kernel has marked the pages clean, so the next one would succeed without having written them, for this thread or
 * any other. One at a time, so that none is on its way when the first fails.
 */
PC_MEDIA_INLINE int pc_media_sync(struct pc_media *media)
{
	int rc;

	if (media->granularity != PC_GRAN_PAGE)
		return media->ops->sync(media);
	pc_mutex_lock(&media->sync_lock);
	if (media->stage)
		pc_stage_write(media);
	rc = pc_media_error(media);
	if (!rc) {
		rc = media->ops->sync(media);
		if (rc)
			pc_media_fail(media, rc);
	}
	pc_mutex_unlock(&media->sync_lock);
	return rc;
}

/* Makes what this thread stored durable, at any granularity: 0 or -errno (page only). */
PC_MEDIA_INLINE int pc_media_commit(struct pc_media *media)
{
	if (media->granularity == PC_GRAN_PAGE)
		return pc_media_sync(media);
	pc_media_fence(media);
	return 0;
}

static inline int pc_media_read(struct pc_media *media, uint64_t media_off, void *buf, size_t len)
{
	if (media->stage)
		pc_stage_write_range(media, media_off, len);
	return media->ops->read(media, media_off, buf, len);
}

/*
 * Before stores to a range that could not be read: a store to such a page of a file may be a SIGBUS, as the rest of the page must be read first. Pages of the range that cannot be read
 * are written as a whole, through the file: what can be read of them stays, the rest becomes zero. Pages that can be read are left alone. Range and length in whole
 * pages. 0 or -errno: then a store there would end the process.
 */
static inline int pc_media_renew(struct pc_media *media, uint64_t media_off, uint64_t len)
{
	return media->ops->renew ? media->ops->renew(media, media_off, len) : 0;
}

/* Copies len bytes (at most 4096) and returns the CRC32C of the bytes that were STORED, also if the caller changes src meanwhile: it is loaded once. */
uint32_t pc_media_copy_crc(struct pc_media *media, uint64_t media_off, const void *src, size_t len);

/* memcpy, but none that the compiler makes of its own because it sees a small bound of the length: see media/copy.c. */
static inline void pc_media_copy_out(void *dst, const void *src, size_t len)
{
	__asm__("" : "+r"(len));
	memcpy(dst, src, len);
}

/*
 * Asks the processor for what a load will need, and does not wait; never faults. A load asks for a line at a time, and the first one waits for the page tables: all
 * lines of a piece asked for in advance come together.
 */
static inline void pc_media_prefetch(const struct pc_media *media, uint64_t media_off, size_t len)
{
	const uint8_t *from = media->base + media_off, *end = from + len;

	for (; from + 16 * PC_CACHE_LINE_BYTES <= end; from += 16 * PC_CACHE_LINE_BYTES) {
#pragma GCC unroll 16
		for (size_t line = 0; line < 16; line++)
			__builtin_prefetch(from + line * PC_CACHE_LINE_BYTES);
	}
	for (; from < end; from += PC_CACHE_LINE_BYTES)
		__builtin_prefetch(from);
	__asm__ volatile(""); /* gcc leaves out calls of functions that do nothing but prefetch */
}

/* The part of a load that is of the mapping. */
static inline int pc_media_load_mapped(struct pc_media *media, uint64_t media_off, void *dst, size_t len)
{
	if (__builtin_expect(media->guarded, 0))
		return media->ops->load(media, media_off, dst, len);
	pc_media_copy_out(dst, media->base + media_off, len);
	return 0;
}

/* Copies len bytes out of the mapping. 0; -EIO if the media cannot give them (guarded media; elsewhere the process ends by SIGBUS): dst then holds anything. */
static inline int pc_media_load(struct pc_media *media, uint64_t media_off, void *dst, size_t len)
{
	if (__builtin_expect(media->stage != NULL, 0) && pc_stage_may_have(media, media_off, len))
		return pc_stage_load(media, media_off, dst, len);
	return pc_media_load_mapped(media, media_off, dst, len);
}

/* The same, in fewer instructions where these are whole lines. */
int pc_media_load_lines(struct pc_media *media, uint64_t media_off, void *dst, size_t len);

/* The same, and the CRC32C of the bytes that were copied. *out_crc is set only if 0 is returned. */
int pc_media_load_crc(struct pc_media *media, uint64_t media_off, void *dst, size_t len, uint32_t *out_crc);

#endif
