/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Media on device DAX, which is a character device without read(2) and write(2), with a list of bad blocks. No such device is needed: a file is shown as one, by functions of the names of
 * the system's and libpmem2's calls here, which the library's objects are linked to. What only the device does (its granularity, its errors of memory) is not tried.
 */
#if defined(__SANITIZE_THREAD__)
#define HAS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_TSAN 1
#endif
#endif

#ifdef HAS_TSAN

/* ThreadSanitizer makes such calls itself before it is ready for functions of ours. */
int main(void)
{
	return 0;
}

#else

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libpmem2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "backing/mem_backing.h"
#include "media/handle.h"
#include "pcache/pcache.h"

#define DEVICE_BYTES ((uint64_t)2 << 20)
#define BACKING_BYTES (1u << 20)
#define BAD_NR_MAX 3u

#define REAL(name) ((__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name))

/* The device, and what fails of it. */
static struct {
	bool shown; /* a file at this inode is a character device */
	ino_t ino;
	const char *subsystem; /* what its link leads to; NULL: it has none */
	uint32_t in_pmem2; /* libpmem2 itself sees the file */
	int source_rc, size_rc; /* of libpmem2 */
	bool map_fails;
	bool has_no_list;
	struct pmem2_badblock bad[BAD_NR_MAX];
	uint32_t bad_nr, told_nr;
	uint32_t read_nr, write_nr; /* calls that a device does not have */
} device;

static void show(struct stat *st)
{
	if (!device.shown || device.in_pmem2 || st->st_ino != device.ino)
		return;
	st->st_mode = S_IFCHR | 0600;
	st->st_rdev = makedev(252, 7);
	st->st_size = 0;
	st->st_blocks = 0;
}

int stat(const char *restrict path, struct stat *restrict st)
{
	int rc = REAL(stat)(path, st);

	if (rc == 0)
		show(st);
	return rc;
}

int fstat(int fd, struct stat *st)
{
	int rc = REAL(fstat)(fd, st);

	if (rc == 0)
		show(st);
	return rc;
}

ssize_t readlink(const char *restrict path, char *restrict to, size_t max)
{
	size_t len;

	if (strcmp(path, "/sys/dev/char/252:7/subsystem") != 0)
		return REAL(readlink)(path, to, max);
	if (device.subsystem == NULL) {
		errno = ENOENT;
		return -1;
	}
	len = strlen(device.subsystem) < max ? strlen(device.subsystem) : max;
	memcpy(to, device.subsystem, len);
	return (ssize_t)len;
}

static bool is_device(int fd)
{
	struct stat st;

	return device.shown && REAL(fstat)(fd, &st) == 0 && st.st_ino == device.ino;
}

ssize_t pread(int fd, void *buf, size_t len, off_t off)
{
	device.read_nr += is_device(fd);
	return REAL(pread)(fd, buf, len, off);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t off)
{
	device.write_nr += is_device(fd);
	return REAL(pwrite)(fd, buf, len, off);
}

void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	if (device.map_fails && device.in_pmem2 == 0 && fd >= 0 && is_device(fd)) {
		errno = ENODEV;
		return MAP_FAILED;
	}
	return REAL(mmap)(at, len, prot, flags, fd, off);
}

int pmem2_source_from_fd(struct pmem2_source **out_source, int fd)
{
	int rc;

	if (device.source_rc != 0)
		return device.source_rc;
	device.in_pmem2++;
	rc = REAL(pmem2_source_from_fd)(out_source, fd);
	device.in_pmem2--;
	return rc;
}

int pmem2_source_size(const struct pmem2_source *source, size_t *out_bytes)
{
	int rc;

	if (device.size_rc != 0)
		return device.size_rc;
	device.in_pmem2++;
	rc = REAL(pmem2_source_size)(source, out_bytes);
	device.in_pmem2--;
	return rc;
}

int pmem2_map_new(struct pmem2_map **out_map, const struct pmem2_config *config, const struct pmem2_source *source)
{
	int rc;

	device.in_pmem2++;
	rc = REAL(pmem2_map_new)(out_map, config, source);
	device.in_pmem2--;
	return rc;
}

static char list_of_device;

int pmem2_badblock_context_new(struct pmem2_badblock_context **out_context, const struct pmem2_source *source)
{
	(void)source;
	if (device.has_no_list)
		return PMEM2_E_NOSUPP;
	device.told_nr = 0;
	*out_context = (struct pmem2_badblock_context *)(void *)&list_of_device;
	return 0;
}

int pmem2_badblock_next(struct pmem2_badblock_context *context, struct pmem2_badblock *out_bad)
{
	assert_ptr_equal(context, &list_of_device);
	if (device.told_nr == device.bad_nr)
		return PMEM2_E_NO_BAD_BLOCK_FOUND;
	*out_bad = device.bad[device.told_nr++];
	return 0;
}

void pmem2_badblock_context_delete(struct pmem2_badblock_context **context)
{
	assert_ptr_equal(*context, &list_of_device);
	*context = NULL;
}

/* ---- the device ------------------------------------------------------------------------------------------------------------- */

struct fixture {
	char dir[256];
	char path[300];
	uint8_t *data; /* of the whole device */
};

static int setup(void **state)
{
	const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	struct fixture *fx = calloc(1, sizeof(*fx));
	struct stat st;
	int fd;

	assert_non_null(fx);
	fx->data = malloc(DEVICE_BYTES);
	assert_non_null(fx->data);
	(void)snprintf(fx->dir, sizeof(fx->dir), "%s/pcache-dax-XXXXXX", parent);
	assert_non_null(mkdtemp(fx->dir));
	(void)snprintf(fx->path, sizeof(fx->path), "%s/dax0.0", fx->dir);
	for (uint64_t i = 0; i < DEVICE_BYTES; i++)
		fx->data[i] = (uint8_t)(i * 13 + i / 4096 + 1);
	fd = open(fx->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, fx->data, DEVICE_BYTES), DEVICE_BYTES);
	memset(&device, 0, sizeof(device));
	assert_int_equal(fstat(fd, &st), 0);
	(void)close(fd);
	device.ino = st.st_ino;
	device.subsystem = "../../../../class/dax";
	device.shown = true;
	*state = fx;
	return setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 1);
}

static int teardown(void **state)
{
	struct fixture *fx = *state;

	memset(&device, 0, sizeof(device));
	(void)unlink(fx->path);
	(void)rmdir(fx->dir);
	free(fx->data);
	free(fx);
	return 0;
}

static uint32_t descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	uint32_t nr = 0;

	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	(void)closedir(dir);
	return nr;
}

static struct pc_media *open_device(const struct fixture *fx)
{
	struct pc_media *media;

	assert_int_equal(pc_media_open(fx->path, 0, NULL, &media), 0);
	assert_int_equal(media->len_bytes, DEVICE_BYTES);
	return media;
}

static void refused(const struct fixture *fx, int error)
{
	uint32_t before = descriptors();
	struct pc_media *media;

	assert_int_equal(pc_media_open(fx->path, 0, NULL, &media), error);
	assert_int_equal(descriptors(), before);
}

/* A terminal or a disk of random numbers is none. */
static void other_character_devices_are_refused(void **state)
{
	struct fixture *fx = *state;

	device.subsystem = NULL;
	refused(fx, -ENOTSUP);
	device.subsystem = "../../../../class/tty";
	refused(fx, -ENOTSUP);
	device.subsystem = "../../../../class/daxes";
	refused(fx, -ENOTSUP);
	device.subsystem = "dax";
	pc_media_close(open_device(fx));
}

static void failures_of_the_open(void **state)
{
	static const struct {
		int pmem2, error;
	} codes[] = {
		{ PMEM2_E_NOSUPP, -ENOTSUP },      { PMEM2_E_INVALID_FILE_TYPE, -ENOTSUP },
		{ PMEM2_E_SOURCE_EMPTY, -EINVAL }, { PMEM2_E_MAP_RANGE, -EINVAL },
		{ PMEM2_E_NO_ACCESS, -EACCES },    { -ENOMEM, -ENOMEM },
		{ PMEM2_E_UNKNOWN, -EIO },
	};
	struct fixture *fx = *state;

	for (uint32_t i = 0; i < PC_ARRAY_NR(codes); i++) {
		device.source_rc = codes[i].pmem2;
		refused(fx, codes[i].error);
		device.source_rc = 0;
		device.size_rc = codes[i].pmem2;
		refused(fx, codes[i].error);
		device.size_rc = 0;
	}
	device.map_fails = true;
	refused(fx, -ENODEV);
	device.map_fails = false;
	pc_media_close(open_device(fx));
}

static void reads_come_from_a_mapping(void **state)
{
	struct fixture *fx = *state;
	struct pc_media *media = open_device(fx);
	uint8_t found[5000];

	assert_int_equal(pc_media_read(media, 12345, found, sizeof(found)), 0);
	assert_memory_equal(found, fx->data + 12345, sizeof(found));
	assert_int_equal(pc_media_read(media, DEVICE_BYTES - 100, found, 100), 0);
	assert_memory_equal(found, fx->data + DEVICE_BYTES - 100, 100);
	assert_int_equal(pc_media_read(media, DEVICE_BYTES - 100, found, 101), PCACHE_E_TRUNCATED);
	assert_int_equal(pc_media_read(media, DEVICE_BYTES + 1, found, 0), PCACHE_E_TRUNCATED);
	assert_int_equal(pc_media_read(media, UINT64_MAX, found, 2), PCACHE_E_TRUNCATED);
	assert_int_equal(device.read_nr, 0);
	pc_media_close(media);
}

/* Asked before each read, as a load of a bad block ends the process. */
static void bad_blocks_are_not_read(void **state)
{
	struct fixture *fx = *state;
	struct pc_media *media = open_device(fx);
	uint8_t found[1024];

	device.bad[0] = (struct pmem2_badblock){ .offset = 512, .length = 512 };
	device.bad[1] = (struct pmem2_badblock){ .offset = 8192, .length = 1024 };
	device.bad_nr = 2;
	assert_int_equal(pc_media_read(media, 0, found, 512), 0);
	assert_int_equal(pc_media_read(media, 0, found, 513), -EIO);
	assert_int_equal(pc_media_read(media, 1023, found, 1), -EIO);
	assert_int_equal(pc_media_read(media, 1024, found, 512), 0);
	assert_int_equal(pc_media_read(media, 9215, found, 1), -EIO);
	assert_int_equal(pc_media_read(media, 9216, found, 512), 0);
	assert_int_equal(pc_media_read(media, 7168, found, 1024), 0);
	/* Where nobody keeps a list all counts as good. */
	device.has_no_list = true;
	assert_int_equal(pc_media_read(media, 512, found, 512), 0);
	pc_media_close(media);
}

static void a_device_has_the_size_it_has(void **state)
{
	struct fixture *fx = *state;
	struct pc_media *media = open_device(fx);

	assert_int_equal(pc_media_allocate(media, DEVICE_BYTES), 0);
	assert_int_equal(pc_media_allocate(media, 4096), 0);
	assert_int_equal(media->len_bytes, DEVICE_BYTES);
	assert_int_equal(pc_media_allocate(media, DEVICE_BYTES + 4096), -ENOSPC);
	pc_media_close(media);
	assert_int_equal(access(fx->path, F_OK), 0);
}

static void stores_go_to_the_mapping(void **state)
{
	struct fixture *fx = *state;
	struct pc_media *media = open_device(fx);
	uint8_t found[4096];

	assert_int_equal(pc_media_map(media), 0);
	assert_int_equal(media->granularity, PC_GRAN_CACHE_LINE);
	pc_media_copy(media, 65536, fx->data, sizeof(found));
	pc_media_fence(media);
	assert_int_equal(pc_media_sync(media), 0);
	assert_int_equal(pc_media_read(media, 65536, found, sizeof(found)), 0);
	assert_memory_equal(found, fx->data, sizeof(found));
	/* A page that cannot be read is not written by a call; whole lines are stored to it. */
	device.bad[0] = (struct pmem2_badblock){ .offset = 4096, .length = 512 };
	device.bad_nr = 1;
	assert_int_equal(media->ops->renew(media, 4096, 4096), 0);
	assert_int_equal(device.write_nr + device.read_nr, 0);
	pc_media_close(media);
	media = open_device(fx);
	assert_int_equal(pc_media_read(media, 65536, found, sizeof(found)), 0);
	assert_memory_equal(found, fx->data, sizeof(found));
	pc_media_close(media);
}

/* ---- a cache on it ---------------------------------------------------------------------------------------------------------- */

static void a_cache_lives_on_it(void **state)
{
	struct mem_backing_options options = { .size_bytes = BACKING_BYTES, .uuid = { 1, 2, 3 } };
	struct mem_backing *mb = mem_backing_create(&options);
	struct pcache_backing *backing = mem_backing_attach(mb);
	struct fixture *fx = *state;
	struct pcache_config *config;
	struct pcache *cache;
	uint8_t found[4096];

	assert_int_equal(pcache_config_new(&config), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_SEGMENT_BYTES, 16384), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_WRITEBACK_DELAY_MS, 3600000), 0);
	/* It has the size it has. */
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_CACHE_BYTES, 2 * DEVICE_BYTES), 0);
	assert_int_equal(pcache_format(fx->path, config, backing), -ENOSPC);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_CACHE_BYTES, DEVICE_BYTES), 0);
	assert_int_equal(pcache_format(fx->path, config, backing), 0);
	for (uint32_t life = 0; life < 3; life++) {
		assert_int_equal(pcache_open(fx->path, config, backing, &cache), 0);
		for (uint64_t off = 0; life > 0 && off < 16 * 4096; off += 4096) {
			assert_int_equal(pcache_read(cache, found, off, sizeof(found), 0), 0);
			assert_memory_equal(found, fx->data + off + life - 1, sizeof(found));
		}
		for (uint64_t off = 0; off < 16 * 4096; off += 4096)
			assert_int_equal(pcache_write(cache, fx->data + off + life, off, 4096, 0), 0);
		if (life == 1)
			assert_int_equal(pcache_drain(cache, NULL, NULL), 0);
		assert_int_equal(pcache_close(cache), 0);
		backing = mem_backing_attach(mb);
		assert_non_null(backing);
	}
	assert_memory_equal(mem_backing_live(mb), fx->data + 1, 16 * 4096);
	assert_int_equal(device.write_nr + device.read_nr, 0);
	pcache_backing_free(backing);
	mem_backing_destroy(mb);
	pcache_config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(other_character_devices_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(failures_of_the_open, setup, teardown),
		cmocka_unit_test_setup_teardown(reads_come_from_a_mapping, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_blocks_are_not_read, setup, teardown),
		cmocka_unit_test_setup_teardown(a_device_has_the_size_it_has, setup, teardown),
		cmocka_unit_test_setup_teardown(stores_go_to_the_mapping, setup, teardown),
		cmocka_unit_test_setup_teardown(a_cache_lives_on_it, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
