/* SPDX-License-Identifier: BSD-3-Clause */
/* Oracle for concurrent calls, see sched_oracle.h: what the backing alone may hold. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/sched_oracle_internal.h"

void so_disk_fini(struct so_disk *disk)
{
	free(disk->pending);
	memset(disk, 0, sizeof(*disk));
}

static bool look(struct so *so, uint32_t blk, const uint8_t *buf, struct so_disk_write *out)
{
	struct pc_seen seen = { 0, PC_SEEN_ZERO };

	if (buf != NULL)
		seen = pc_oracle_look(so->payload, blk, buf);
	*out = (struct so_disk_write){ .blk = blk, .version = seen.version, .zero = seen.kind == PC_SEEN_ZERO };
	if (seen.kind != PC_SEEN_BAD)
		return true;
	so_blame(so, "written to the backing", blk, &seen, buf, "no whole version of this block");
	return false;
}

bool so_disk_load(struct so *so, struct so_disk *disk, const uint8_t *image)
{
	bool whole = true;

	disk->pending_nr = 0;
	for (uint32_t blk = 0; blk < so->options.block_nr && whole; blk++)
		whole = look(so, blk, image + (size_t)blk * so->options.block_bytes, &disk->durable[blk]);
	return whole;
}

void so_disk_copy(struct so_disk *to, const struct so_disk *from)
{
	if (to->pending_max < from->pending_nr) {
		to->pending_max = from->pending_nr;
		to->pending = so_must(realloc(to->pending, to->pending_max * sizeof(*to->pending)));
	}
	memcpy(to->durable, from->durable, sizeof(to->durable));
	if (from->pending_nr > 0)
		memcpy(to->pending, from->pending, from->pending_nr * sizeof(*to->pending));
	to->pending_nr = from->pending_nr;
}

bool so_disk_write(struct so *so, struct so_disk *disk, uint32_t blk, uint32_t len_blk, const uint8_t *buf)
{
	for (uint32_t i = 0; i < len_blk; i++) {
		struct so_disk_write write;

		if (!look(so, blk + i, buf == NULL ? NULL : buf + (size_t)i * so->options.block_bytes, &write))
			return false;
		if (disk->pending_nr == disk->pending_max) {
			disk->pending_max = disk->pending_max * 2 + 64;
			disk->pending = so_must(realloc(disk->pending, disk->pending_max * sizeof(*disk->pending)));
		}
		disk->pending[disk->pending_nr++] = write;
	}
	return true;
}

void so_disk_flush(struct so_disk *disk)
{
	for (uint32_t i = 0; i < disk->pending_nr; i++)
		disk->durable[disk->pending[i].blk] = disk->pending[i];
	disk->pending_nr = 0;
}

/* The end of the first unit that is surely missing where the backing holds the entry; NEVER if there is none. */
static uint64_t first_missing(const struct so *so, const struct entry *entry)
{
	uint64_t end = NEVER;

	for (uint32_t idx = so->newest[entry->blk]; idx != NO_ENTRY; idx = so->entries[idx].older) {
		const struct entry *other = &so->entries[idx];

		if (other != entry && so_certain(so, other) && so_before(entry, other))
			end = PC_MIN(end, so->units[other->unit].end);
	}
	return end;
}

struct bounds { /* of one block, over all that it may hold after a power cut */
	uint64_t needs; /* all that had ended before must be there */
	uint64_t misses; /* end of the first that may not be there */
	struct so_disk_write needing; /* what is there then */
	struct so_disk_write missing;
};

/* What is there: the most lenient reading, where zeroes leave a choice. */
static bool bound(struct so *so, struct bounds *bounds, const struct so_disk_write *write)
{
	const struct pc_seen seen = { write->version, write->zero ? PC_SEEN_ZERO : PC_SEEN_DATA };
	uint64_t needs = NEVER, misses = 0;

	for (uint32_t idx = so->newest[write->blk]; idx != NO_ENTRY; idx = so->entries[idx].older) {
		const struct entry *entry = &so->entries[idx];

		if (!so_matches(entry, &seen) || !so_possible(so, entry))
			continue;
		needs = PC_MIN(needs, so->units[entry->unit].epoch_begin);
		misses = PC_MAX(misses, first_missing(so, entry));
	}
	if (needs == NEVER) {
		so_blame(so, "on the backing", write->blk, &seen, NULL, "no such version, or it was lost or failed");
		return false;
	}
	if (misses < so->drain_begin) {
		so_blame(so, "on the backing", write->blk, &seen, NULL, "older than what a drain has brought there");
		return false;
	}
	if (needs > bounds->needs)
		bounds->needing = *write;
	if (misses < bounds->misses)
		bounds->missing = *write;
	bounds->needs = PC_MAX(bounds->needs, needs);
	bounds->misses = PC_MIN(bounds->misses, misses);
	return true;
}

static void blame_pair(struct so *so, const struct so_disk_write *needing, const struct so_disk_write *missing,
		       uint64_t needs, uint64_t misses)
{
	const struct pc_seen seen = { missing->version, missing->zero ? PC_SEEN_ZERO : PC_SEEN_DATA };
	char where[160];

	snprintf(where, sizeof(where),
		 "backing alone: block %u may hold v%u%s, which began after a flush begun at %llu, and what ended at "
		 "%llu is missing",
		 needing->blk, needing->version, needing->zero ? " zeroes" : "", (unsigned long long)needs,
		 (unsigned long long)misses);
	so_blame(so, where, missing->blk, &seen, NULL, "a later epoch without an earlier one");
}

/* Two different blocks of which one needs what the other may miss. */
static bool compare_bounds(struct so *so, const struct bounds *bounds)
{
	for (uint32_t x = 0; x < so->options.block_nr; x++) {
		for (uint32_t y = 0; bounds[x].needs > 0 && y < so->options.block_nr; y++) {
			if (x == y || bounds[y].misses >= bounds[x].needs)
				continue;
			blame_pair(so, &bounds[x].needing, &bounds[y].missing, bounds[x].needs, bounds[y].misses);
			return false;
		}
	}
	return true;
}

bool so_check_backing(struct so *so, const struct so_disk *disk)
{
	static struct bounds bounds[SO_BLOCK_NR_MAX];

	for (uint32_t blk = 0; blk < so->options.block_nr; blk++) {
		bounds[blk] = (struct bounds){ .misses = NEVER };
		if (!bound(so, &bounds[blk], &disk->durable[blk]))
			return false;
	}
	for (uint32_t i = 0; i < disk->pending_nr; i++) {
		if (!bound(so, &bounds[disk->pending[i].blk], &disk->pending[i]))
			return false;
	}
	return so->options.order_batch || compare_bounds(so, bounds);
}

bool so_drained(struct so *so, uint64_t begin, const struct so_disk *disk)
{
	so->drain_begin = PC_MAX(so->drain_begin, begin);
	return so_check_backing(so, disk);
}
