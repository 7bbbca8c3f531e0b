/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One empty file per call and error: so processes, their children and threads need no lock, and a repeated note changes nothing. Only system calls, as a test may have made
 * malloc fail. errno is kept.
 */
#include "codes/note.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void leave(const char *path)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	if (fd >= 0)
		(void)close(fd);
}

/* What ran at all, by the name of the program without test_. */
__attribute__((constructor)) static void note_program(void)
{
	const char *dir = getenv("PCACHE_CODES_DIR"), *name = program_invocation_short_name;
	char path[512];

	if (!dir || strncmp(name, "test_", 5) != 0)
		return;
	(void)snprintf(path, sizeof(path), "%s/ran,%s", dir, name + 5);
	leave(path);
}

void codes_note(const char *name, int rc)
{
	const char *dir = getenv("PCACHE_CODES_DIR");
	int before = errno;
	char path[512];

	if (!dir)
		return;
	(void)snprintf(path, sizeof(path), "%s/%s,%d", dir, name, rc);
	leave(path);
	errno = before;
}
