/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The exported functions about backings: they check for NULL and call src/backing.
 *
 * Locks and durability: none of either here.
 */
#include <errno.h>

#include "backing/queue.h"
#include "pcache/backing.h"

int pcache_backing_new(const struct pcache_backing_ops *ops, void *user, struct pcache_backing **out_backing)
{
	if (ops == NULL || out_backing == NULL)
		return -EINVAL;
	return pc_backing_new(ops, user, out_backing);
}

int pcache_backing_file_new(const char *path, uint32_t flags, struct pcache_backing **out_backing)
{
	if (path == NULL || out_backing == NULL)
		return -EINVAL;
	return pc_backing_file_new(path, flags, out_backing);
}

uint64_t pcache_backing_size(const struct pcache_backing *backing)
{
	return backing != NULL ? backing->ops.size_bytes : 0;
}

void pcache_backing_free(struct pcache_backing *backing)
{
	pc_backing_free(backing);
}

void pcache_backing_complete(struct pcache_backing_io *io, int result)
{
	if (io != NULL)
		pc_queue_complete(io, result);
}
