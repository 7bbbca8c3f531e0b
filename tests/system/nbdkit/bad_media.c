/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An nbdkit plugin that serves a file of which some parts cannot be read: store=FILE, bad=LIST. Each line of LIST is the offset and the length of such a part, in bytes. It is
 * looked at in each request, so that parts may come and go. A part that a write covers as a whole is good again, and goes from the list.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS
#define PARTS_MAX 64

struct part {
	unsigned long long off;
	unsigned long long len;
};

static char *store_path;
static char *bad_path;
static int fd = -1;

static int bad_config(const char *key, const char *value)
{
	char **path = key[0] == 's' ? &store_path : &bad_path;

	free(*path);
	*path = nbdkit_realpath(value);
	return *path ? 0 : -1;
}

static int bad_get_ready(void)
{
	if (!store_path || !bad_path) {
		nbdkit_error("store=FILE and bad=LIST are required");
		return -1;
	}
	fd = open(store_path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		nbdkit_error("%s: %m", store_path);
	return fd < 0 ? -1 : 0;
}

static void *bad_open(int readonly)
{
	(void)readonly;
	return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t bad_get_size(void *handle)
{
	struct stat st;

	(void)handle;
	return fstat(fd, &st) == 0 ? st.st_size : -1;
}

static size_t load_parts(struct part *parts)
{
	FILE *list = fopen(bad_path, "r");
	size_t nr = 0;

	while (list && nr < PARTS_MAX && fscanf(list, "%llu %llu", &parts[nr].off, &parts[nr].len) == 2)
		nr++;
	if (list)
		(void)fclose(list);
	return nr;
}

static int bad_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct part parts[PARTS_MAX];
	size_t nr = load_parts(parts);

	(void)handle, (void)flags;
	for (size_t i = 0; i < nr; i++) {
		if (parts[i].off < offset + count && offset < parts[i].off + parts[i].len) {
			nbdkit_set_error(EIO);
			return -1;
		}
	}
	return pread(fd, buf, count, (off_t)offset) == (ssize_t)count ? 0 : -1;
}

static int bad_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct part parts[PARTS_MAX];
	size_t nr = load_parts(parts), left = 0;
	FILE *list;

	(void)handle, (void)flags;
	for (size_t i = 0; i < nr; i++) {
		if (parts[i].off < offset || parts[i].off + parts[i].len > offset + count)
			parts[left++] = parts[i];
	}
	if (left != nr) {
		list = fopen(bad_path, "w");
		for (size_t i = 0; list && i < left; i++)
			fprintf(list, "%llu %llu\n", parts[i].off, parts[i].len);
		if (!list || fclose(list) != 0)
			return -1;
	}
	return pwrite(fd, buf, count, (off_t)offset) == (ssize_t)count ? 0 : -1;
}

static int bad_flush(void *handle, uint32_t flags)
{
	(void)handle, (void)flags;
	return fdatasync(fd);
}

static struct nbdkit_plugin plugin = {
	.name = "bad-media",
	.version = "1",
	.config = bad_config,
	.get_ready = bad_get_ready,
	.open = bad_open,
	.get_size = bad_get_size,
	.pread = bad_pread,
	.pwrite = bad_pwrite,
	.flush = bad_flush,
};

NBDKIT_REGISTER_PLUGIN(plugin)
