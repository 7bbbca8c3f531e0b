/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stands before the allocator, see alloc_faults.h. Not a helper like others: it is linked into the programs of this folder alone (tests.cmake).
 *
 * FAULT_WRAP: with sanitizers, by the linker's --wrap. Else malloc and its kin are defined here, over those of glibc.
 */
#include <errno.h>
#include <libpmem2.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fault/alloc_faults.h"

/* So that shared libraries find these as well. */
#pragma GCC visibility push(default)

void *__real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);

int __real_pmem2_map_new(struct pmem2_map **out_map, const struct pmem2_config *config, struct pmem2_source *source);
int __wrap_pmem2_map_new(struct pmem2_map **out_map, const struct pmem2_config *config, struct pmem2_source *source);

void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	if (fault_alloc_may())
		return __real_mmap(addr, len, prot, flags, fd, off);
	errno = ENOMEM;
	return MAP_FAILED;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	int rc;

	if (!fault_alloc_may())
		return EAGAIN;
	/* What the C library allocates for a thread is not counted beside the thread itself. */
	fault_alloc_pause();
	rc = __real_pthread_create(thread, attr, fn, arg);
	fault_alloc_resume();
	return rc;
}

/*
 * As a whole: it walks /sys by fts(3), and glibc's fts_open runs into a null pointer when its own allocation fails. Nothing can be done about that from outside.
 */
int __wrap_pmem2_map_new(struct pmem2_map **out_map, const struct pmem2_config *config, struct pmem2_source *source)
{
	int rc;

	if (!fault_alloc_may())
		return -ENOMEM;
	fault_alloc_pause();
	rc = __real_pmem2_map_new(out_map, config, source);
	fault_alloc_resume();
	return rc;
}

/* Locks and conditions take no memory with glibc; the standard lets them. */
#define WRAP_INIT(name, object, attr) \
	int __real_##name(object *to, const attr *how); \
	int __wrap_##name(object *to, const attr *how); \
	int __wrap_##name(object *to, const attr *how) \
	{ \
		return fault_alloc_may() ? __real_##name(to, how) : ENOMEM; \
	}
#define WRAP_ATTR_INIT(name, attr) \
	int __real_##name(attr *to); \
	int __wrap_##name(attr *to); \
	int __wrap_##name(attr *to) \
	{ \
		return fault_alloc_may() ? __real_##name(to) : ENOMEM; \
	}

WRAP_INIT(pthread_mutex_init, pthread_mutex_t, pthread_mutexattr_t)
WRAP_INIT(pthread_cond_init, pthread_cond_t, pthread_condattr_t)
WRAP_ATTR_INIT(pthread_mutexattr_init, pthread_mutexattr_t)
WRAP_ATTR_INIT(pthread_condattr_init, pthread_condattr_t)

static void *refuse(void)
{
	errno = ENOMEM;
	return NULL;
}

#ifdef FAULT_WRAP
#define MINE(name) __wrap_##name
#define REAL(name) __real_##name

void *__real_malloc(size_t len);
void *__real_calloc(size_t nr, size_t len);
void *__real_realloc(void *old, size_t len);
void *__real_aligned_alloc(size_t align, size_t len);
int __real_posix_memalign(void **out, size_t align, size_t len);
void *__wrap_malloc(size_t len);
void *__wrap_calloc(size_t nr, size_t len);
void *__wrap_realloc(void *old, size_t len);
void *__wrap_aligned_alloc(size_t align, size_t len);
int __wrap_posix_memalign(void **out, size_t align, size_t len);
char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
char *__real_strndup(const char *text, size_t max);
char *__wrap_strndup(const char *text, size_t max);

char *__wrap_strdup(const char *text)
{
	return fault_alloc_may() ? __real_strdup(text) : refuse();
}

char *__wrap_strndup(const char *text, size_t max)
{
	return fault_alloc_may() ? __real_strndup(text, max) : refuse();
}
#else
#define MINE(name) name
#define REAL(name) __libc_##name

void *__libc_malloc(size_t len);
void *__libc_calloc(size_t nr, size_t len);
void *__libc_realloc(void *old, size_t len);
void *__libc_memalign(size_t align, size_t len);
#endif

void *MINE(malloc)(size_t len)
{
	return fault_alloc_may() ? REAL(malloc)(len) : refuse();
}

void *MINE(calloc)(size_t nr, size_t len)
{
	return fault_alloc_may() ? REAL(calloc)(nr, len) : refuse();
}

void *MINE(realloc)(void *old, size_t len)
{
	return fault_alloc_may() ? REAL(realloc)(old, len) : refuse();
}

void *MINE(aligned_alloc)(size_t align, size_t len)
{
	if (!fault_alloc_may())
		return refuse();
#ifdef FAULT_WRAP
	return __real_aligned_alloc(align, len);
#else
	return __libc_memalign(align, len);
#endif
}

int MINE(posix_memalign)(void **out, size_t align, size_t len)
{
	if (!fault_alloc_may())
		return ENOMEM;
#ifdef FAULT_WRAP
	return __real_posix_memalign(out, align, len);
#else
	*out = __libc_memalign(align, len);
	return *out || len == 0 ? 0 : ENOMEM;
#endif
}

#pragma GCC visibility pop
