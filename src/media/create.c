/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A new file that gets its name when it is complete: made without one in the folder where it shall be, formatted by its descriptor, then linked. So at every moment the path leads
 * to nothing or to a whole cache, and what a crash leaves behind is nothing. What was there first stays: a link never replaces.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "media/media.h"

static int open_folder(const char *path, int *out_fd)
{
	char *copy = strdup(path);
	int rc = 0;

	if (copy == NULL)
		return -ENOMEM;
	*out_fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*out_fd < 0)
		rc = -errno;
	free(copy);
	return rc;
}

int pc_media_unnamed(const char *path, struct pc_media_unnamed *out_unnamed)
{
	int folder_fd;
	int rc = open_folder(path, &folder_fd);

	if (rc)
		return rc;
	out_unnamed->fd = openat(folder_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (out_unnamed->fd < 0)
		rc = -errno;
	(void)close(folder_fd);
	if (rc)
		return rc;
	(void)snprintf(out_unnamed->path, sizeof(out_unnamed->path), "/proc/self/fd/%d", out_unnamed->fd);
	return 0;
}

int pc_media_name(const struct pc_media_unnamed *unnamed, const char *path)
{
	int folder_fd;
	int rc = open_folder(path, &folder_fd);

	if (rc)
		return rc;
	if (linkat(AT_FDCWD, unnamed->path, AT_FDCWD, path, AT_SYMLINK_FOLLOW) != 0)
		rc = -errno;
	else if (fsync(folder_fd) != 0 && errno != EINVAL) /* EINVAL: this file system has no such thing */
		rc = -errno;
	(void)close(folder_fd);
	return rc;
}

void pc_media_unnamed_close(struct pc_media_unnamed *unnamed)
{
	(void)close(unnamed->fd);
}
