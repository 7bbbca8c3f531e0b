/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The limit of a drain: sorted, merged bytes go to a file by bare io_uring, and are synced. Nothing is looked up, loaded or verified.
 *
 * Direct I/O: runs of neighbours, at most 1 MiB each, up to 128 in flight and 8 MiB altogether, out of registered memory; that is the best of the depths and lengths that were
 * tried on virtio and NVMe disks. Buffered: the same without O_DIRECT.
 */
#ifndef PC_TESTS_DRAIN_LIMIT_H
#define PC_TESTS_DRAIN_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct drain_limit {
	const char *path;
	const uint8_t *is_dirty; /* by unit of the volume */
	uint64_t unit_nr;
	uint64_t unit_bytes;
	bool buffered;
	struct drain_ring *ring;
};

int drain_limit_open(struct drain_limit *limit); /* 0, -errno; -ENOSYS: no io_uring in this build */
int drain_limit_write(struct drain_limit *limit); /* what is measured. 0 or -errno */
void drain_limit_close(struct drain_limit *limit);

#endif
