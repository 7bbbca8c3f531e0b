/* SPDX-License-Identifier: BSD-3-Clause */
/* The backing that a user names: a file, a block device, or the URI of an NBD export. */
#include <errno.h>
#include <string.h>

#include "tool/tool.h"

#ifdef PCACHE_TOOL_NBD
#include <pcache/nbd.h>
#endif

bool tool_is_nbd(const char *name)
{
	const char *scheme_end = strstr(name, "://");

	return scheme_end && strncmp(name, "nbd", 3) == 0;
}

int tool_backing_new(const char *name, uint32_t file_flags, struct pcache_backing **out_backing)
{
	if (!tool_is_nbd(name))
		return pcache_backing_file_new(name, file_flags, out_backing);
#ifdef PCACHE_TOOL_NBD
	return pcache_backing_nbd_new(name, NULL, out_backing);
#else
	tool_error(name, "this program was built without NBD; build it with libnbd");
	return -EPROTONOSUPPORT;
#endif
}
