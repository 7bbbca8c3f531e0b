/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Media, the memory side: mapping through libpmem2, and the operations that store and make durable.
 *
 * The mapping asks for page granularity, the weakest, so libpmem2 takes any file and reports what it found. PMEM2_FORCE_GRANULARITY
 * makes it report something else; that is the user's word against the platform's, so it is logged and shown in the information.
 *
 *   byte, cache line   copy: non-temporal stores without a drain, whole lines by a kernel of ours (the odd bytes at both ends are stored and flushed); fence: drain, that is
 *                      sfence. Flushes and copies of a thread are ordered by a fence of the SAME thread only.
 *   page               copy: pwrite (store.c), or plain stores without a flush; flush and fence: nothing; sync: fdatasync.
 *
 * At page granularity none of libpmem2's flush, drain or persist functions is ever called: they call msync, and the process is aborted if
 * that fails. fdatasync does the same work with an error return: on Linux the page cache is the mapping, a store marks its page dirty through the
 * page table, and fdatasync writes all dirty pages of the file back, whoever dirtied them and by whatever way.
 *
 * A sync that failed is never tried again: the kernel may have marked the pages clean, and a second sync would succeed without
 * having written them. What the cache does then is decided above (fail-stop).
 *
 * The mapping is MADV_DONTFORK: a child can neither store to the media nor tear what it reads. No locks; any thread may call any
 * operation but close at any time.
 */
#include "media/handle.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "media/kernel.h"
#include "pcache/errors.h"

/* pmem2_err_to_errno is in the header of libpmem2 1.12, but not exported. Errors of the system are -errno already. */
int pc_media_from_pmem2(int rc)
{
	switch (rc) {
	case PMEM2_E_NOSUPP:
	case PMEM2_E_INVALID_FILE_TYPE:
	case PMEM2_E_SOURCE_TYPE_NOT_SUPPORTED:
		return -ENOTSUP;
	case PMEM2_E_MAP_RANGE:
	case PMEM2_E_LENGTH_UNALIGNED:
	case PMEM2_E_OFFSET_UNALIGNED:
	case PMEM2_E_SOURCE_EMPTY:
		return -EINVAL;
	case PMEM2_E_NO_ACCESS:
		return -EACCES;
	default:
		return rc < 0 && rc >= -4095 ? rc : -EIO;
	}
}

/* True if libpmem2 follows the environment instead of what it finds. Other values it ignores. */
static bool is_granularity_forced(void)
{
	static const char *const words[] = { "BYTE", "byte", "CACHE_LINE", "cache_line", "PAGE", "page" };
	const char *value = getenv("PMEM2_FORCE_GRANULARITY");

	for (size_t i = 0; value != NULL && i < PC_ARRAY_NR(words); i++) {
		if (strcmp(value, words[i]) == 0)
			return true;
	}
	return false;
}

static enum pc_granularity granularity_of(struct pmem2_map *map)
{
	switch (pmem2_map_get_store_granularity(map)) {
	case PMEM2_GRANULARITY_BYTE:
		return PC_GRAN_BYTE;
	case PMEM2_GRANULARITY_CACHE_LINE:
		return PC_GRAN_CACHE_LINE;
	case PMEM2_GRANULARITY_PAGE:
	default:
		return PC_GRAN_PAGE;
	}
}

static int map_pmem2(struct pc_media_file *file)
{
	unsigned protection = file->media.read_only ? PMEM2_PROT_READ : PMEM2_PROT_READ | PMEM2_PROT_WRITE;
	struct pmem2_config *config;
	int rc;

	if (file->source == NULL) {
		rc = pmem2_source_from_fd(&file->source, file->fd);
		if (rc != 0)
			return pc_media_from_pmem2(rc);
	}
	rc = pmem2_config_new(&config);
	if (rc != 0)
		return pc_media_from_pmem2(rc);
	rc = pmem2_config_set_required_store_granularity(config, PMEM2_GRANULARITY_PAGE);
	if (rc == 0)
		rc = pmem2_config_set_length(config, file->media.len_bytes);
	if (rc == 0)
		rc = pmem2_config_set_protection(config, protection);
	if (rc == 0)
		rc = pmem2_map_new(&file->map, config, file->source);
	(void)pmem2_config_delete(&config);
	return rc == 0 ? 0 : pc_media_from_pmem2(rc);
}

static void set_functions(struct pc_media_file *file, void *address)
{
	bool is_page = file->media.granularity == PC_GRAN_PAGE;

	file->memcpy_fn = pmem2_get_memcpy_fn(file->map);
	file->flush_fn = pmem2_get_flush_fn(file->map);
	file->drain_fn = pmem2_get_drain_fn(file->map);
	file->copy_flags = is_page ? PMEM2_F_MEM_NOFLUSH : PMEM2_F_MEM_NONTEMPORAL | PMEM2_F_MEM_NODRAIN;
	file->store_by_call = is_page && pc_media_wants_calls(file);
	/* A stray store of the program is then a fault, and not damage. Without it nothing is wrong. */
	if (file->store_by_call)
		(void)mprotect(address, file->media.len_bytes, PROT_READ);
	file->writable = file->media.read_only || file->store_by_call ? NULL : address;
	file->media.kernel = pc_kernel_best();
	file->media.lines = is_page || !file->media.kernel ? NULL : file->writable;
}

static void log_mapping(const struct pc_media_file *file)
{
	static const char *const names[] = { "byte", "cache line", "page" };

	if (file->media.granularity_forced)
		pc_msg(&file->msg, PCACHE_LOG_WARN,
		       "granularity of %s is forced to %s by PMEM2_FORCE_GRANULARITY; if the media does not keep that "
		       "promise, data is lost at a power cut",
		       file->path, names[file->media.granularity]);
	else
		pc_msg(&file->msg, PCACHE_LOG_INFO, "granularity of %s is %s", file->path,
		       names[file->media.granularity]);
}

int pc_media_map(struct pc_media *media)
{
	struct pc_media_file *file = pc_media_file_of(media);
	void *address;
	struct stat st;
	int rc;

	if (file->map != NULL || media->len_bytes == 0)
		return -EINVAL;
	if (!file->is_dax) {
		if (fstat(file->fd, &st) != 0)
			return -errno;
		if ((uint64_t)st.st_size < media->len_bytes)
			return PCACHE_E_TRUNCATED;
		rc = pc_media_check_holes(file->fd, media->len_bytes);
		if (rc != 0)
			return rc;
	}
	rc = map_pmem2(file);
	if (rc != 0)
		return rc;
	address = pmem2_map_get_address(file->map);
	if (madvise(address, media->len_bytes, MADV_DONTFORK) != 0) {
		rc = -errno;
		(void)pmem2_map_delete(&file->map);
		return rc;
	}
	media->granularity = granularity_of(file->map);
	media->granularity_forced = is_granularity_forced();
	set_functions(file, address);
	if (file->store_by_call) {
		pc_media_advise_random(file, address);
		media->stage = pc_media_new_stage();
	} else {
		media->huge_pages = madvise(address, media->len_bytes, MADV_HUGEPAGE) == 0;
	}
	media->base = address;
	log_mapping(file);
	return 0;
}

static void file_copy(struct pc_media *media, uint64_t media_off, const void *src, size_t len)
{
	struct pc_media_file *file = pc_media_file_of(media);

	assert(!media->read_only && media_off <= media->len_bytes && len <= media->len_bytes - media_off);
	if (file->store_by_call)
		pc_media_store_by_call(file, media_off, src, len);
	else if (media->lines && (media_off | len) % PC_CACHE_LINE_BYTES == 0)
		media->kernel->store(media->lines + media_off, src, len / PC_CACHE_LINE_BYTES);
	else
		(void)file->memcpy_fn(file->writable + media_off, src, len, file->copy_flags);
}

static void file_begin(struct pc_media *media, uint64_t media_off, uint64_t len)
{
	struct pc_media_file *file = pc_media_file_of(media);

	if (file->store_by_call)
		pc_media_begin_by_call(file, media_off, len);
}

static void file_flush(struct pc_media *media, uint64_t media_off, uint64_t len)
{
	const struct pc_media_file *file = pc_media_file_of(media);

	assert(!media->read_only && media_off <= media->len_bytes && len <= media->len_bytes - media_off);
	if (media->granularity != PC_GRAN_PAGE)
		file->flush_fn(file->writable + media_off, len);
}

static void file_fence(struct pc_media *media)
{
	/* Order: all copies and flushes of this thread before what it stores next, because the caller is about to rely on them. */
	if (media->granularity != PC_GRAN_PAGE)
		pc_media_file_of(media)->drain_fn();
}

static int file_sync(struct pc_media *media)
{
	const struct pc_media_file *file = pc_media_file_of(media);

	if (media->granularity != PC_GRAN_PAGE) {
		file_fence(media);
		return 0;
	}
	if (media->read_only)
		return 0;
	/* Order: all stores of all threads before what the caller stores or says next. */
	if (file->sync_fn(file->fd) != 0)
		return errno > 0 ? -errno : -EIO;
	return 0;
}

static int file_load(struct pc_media *media, uint64_t media_off, void *dst, size_t len)
{
	assert(media_off <= media->len_bytes && len <= media->len_bytes - media_off);
	if (media->kernel && len % PC_CACHE_LINE_BYTES == 0)
		return media->kernel->load(dst, media->base + media_off, len / PC_CACHE_LINE_BYTES);
	return pc_guard_load(dst, media->base + media_off, len);
}

int pc_media_guard(struct pc_media *media)
{
	struct pc_media_file *file = pc_media_file_of(media);
	int rc;

	if (file->map == NULL)
		return -EINVAL;
	if (media->guarded)
		return 0;
	rc = pc_guard_add(media->base, media->len_bytes, &file->guard_range);
	media->guarded = rc == 0;
	return rc;
}

void pc_media_guard_thread(const struct pc_media *media)
{
	sigset_t sigbus;

	if (!media->guarded)
		return;
	(void)sigemptyset(&sigbus);
	(void)sigaddset(&sigbus, SIGBUS);
	(void)pthread_sigmask(SIG_UNBLOCK, &sigbus, NULL);
}

/*
 * A child of fork closes its copy of the descriptor only: the lock is shared with the parent, and the addresses of the mapping may
 * hold something else here.
 */
static void file_close(struct pc_media *media)
{
	struct pc_media_file *file = pc_media_file_of(media);
	bool is_owner = file->owner_pid == getpid();

	if (is_owner)
		pc_guard_remove(file->guard_range);
	if (is_owner && file->map != NULL)
		(void)pmem2_map_delete(&file->map);
	if (is_owner && file->dax_view != NULL)
		(void)munmap((void *)(uintptr_t)file->dax_view, media->len_bytes);
	if (file->source != NULL)
		(void)pmem2_source_delete(&file->source);
	if (is_owner && file->locked)
		(void)flock(file->fd, LOCK_UN); /* at once, although a child may still hold the descriptor */
	if (file->fd >= 0)
		(void)close(file->fd);
	free(file->path);
	pc_media_fini(media);
	free(file);
}

const struct pc_media_ops pc_media_file_ops = {
	.copy = file_copy,
	.begin = file_begin,
	.flush = file_flush,
	.fence = file_fence,
	.sync = file_sync,
	.read = pc_media_file_read,
	.load = file_load,
	.renew = pc_media_file_renew,
	.close = file_close,
};

void pc_media_close(struct pc_media *media)
{
	if (media != NULL)
		media->ops->close(media);
}
