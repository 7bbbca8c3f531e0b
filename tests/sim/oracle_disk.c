/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backing as the oracle sees it, see oracle.h: a disk with a volatile cache that knows of each block which version it holds, and the rule of what may be there.
 *
 * The rule of the backing is checked for all subsets of its unflushed writes at once. Version v of a block allows exactly the epochs e from that of v
 * to that of the next newer version. A set of intervals has a common point if every two have one, so it is enough to compare, over all
 * pairs of different blocks, the largest lower end with the smallest upper end.
 */
#include "sim/oracle_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EPOCH_NONE UINT32_MAX

void pc_oracle_disk_init(struct pc_oracle_disk *disk)
{
	memset(disk, 0, sizeof(*disk));
}

void pc_oracle_disk_fini(struct pc_oracle_disk *disk)
{
	free(disk->pending);
	memset(disk, 0, sizeof(*disk));
}

static bool reserve(struct pc_oracle_disk *disk, uint32_t pending_nr)
{
	struct pc_oracle_disk_write *pending;

	if (pending_nr <= disk->pending_max)
		return true;
	pending = realloc(disk->pending, (pending_nr * 2 + 64) * sizeof(*pending));
	if (pending == NULL)
		return false;
	disk->pending = pending;
	disk->pending_max = pending_nr * 2 + 64;
	return true;
}

bool pc_oracle_disk_copy(struct pc_oracle_disk *to, const struct pc_oracle_disk *from)
{
	if (!reserve(to, from->pending_nr))
		return false;
	to->block_nr = from->block_nr;
	memcpy(to->durable, from->durable, from->block_nr * sizeof(*to->durable));
	memcpy(to->live, from->live, from->block_nr * sizeof(*to->live));
	if (from->pending_nr != 0)
		memcpy(to->pending, from->pending, from->pending_nr * sizeof(*to->pending));
	to->pending_nr = from->pending_nr;
	return true;
}

void pc_oracle_disk_load(const struct pc_oracle *oracle, struct pc_oracle_disk *disk, const uint8_t *image)
{
	disk->pending_nr = 0;
	disk->block_nr = oracle->options.block_nr;
	for (uint32_t blk = 0; blk < disk->block_nr; blk++)
		disk->durable[blk] = pc_oracle_look(oracle, blk, image + (size_t)blk * oracle->options.block_bytes);
	memcpy(disk->live, disk->durable, sizeof(disk->live));
}

void pc_oracle_disk_format(const struct pc_oracle *oracle, struct pc_oracle_disk *disk)
{
	disk->pending_nr = 0;
	disk->block_nr = oracle->options.block_nr;
	for (uint32_t blk = 0; blk < disk->block_nr; blk++) {
		disk->durable[blk] = (struct pc_seen){1, PC_SEEN_DATA};
		disk->live[blk] = disk->durable[blk];
	}
}

void pc_oracle_disk_unflush(struct pc_oracle_disk *disk)
{
	if (!reserve(disk, disk->pending_nr + disk->block_nr))
		abort();
	for (uint32_t blk = 0; blk < disk->block_nr; blk++) {
		disk->pending[disk->pending_nr++] = (struct pc_oracle_disk_write){.blk = blk, .seen = disk->live[blk]};
		disk->durable[blk] = (struct pc_seen){0, PC_SEEN_ZERO};
	}
}

void pc_oracle_disk_cut(struct pc_oracle_disk *to, const struct pc_oracle_disk *from, const uint8_t *keep)
{
	to->pending_nr = 0;
	to->block_nr = from->block_nr;
	memcpy(to->durable, from->durable, from->block_nr * sizeof(*to->durable));
	for (uint32_t i = 0; i < from->pending_nr; i++) {
		if (keep[i])
			to->durable[from->pending[i].blk] = from->pending[i].seen;
	}
	memcpy(to->live, to->durable, to->block_nr * sizeof(*to->live));
}

void pc_oracle_disk_read(const struct pc_oracle *oracle, const struct pc_oracle_disk *disk, uint32_t blk, uint32_t len_blk, uint8_t *buf)
{
	for (uint32_t i = blk; i < blk + len_blk; i++) {
		if (disk->live[i].kind == PC_SEEN_DATA)
			pc_oracle_fill(oracle, buf, i, 1, disk->live[i].version);
		else
			memset(buf, 0, oracle->options.block_bytes);
		buf += oracle->options.block_bytes;
	}
}

bool pc_oracle_disk_write(struct pc_oracle *oracle, struct pc_oracle_disk *disk, uint32_t blk, uint32_t len_blk, const uint8_t *buf)
{
	if (!reserve(disk, disk->pending_nr + len_blk))
		abort();
	for (uint32_t i = 0; i < len_blk; i++) {
		struct pc_seen seen = {0, PC_SEEN_ZERO};
		const uint8_t *from = buf == NULL ? NULL : buf + (size_t)i * oracle->options.block_bytes;

		if (from != NULL)
			seen = pc_oracle_look(oracle, blk + i, from);
		if (seen.kind == PC_SEEN_BAD) {
			pc_oracle_blame(oracle, "written to the backing", blk + i, &seen, from);
			return false;
		}
		disk->pending[disk->pending_nr++] = (struct pc_oracle_disk_write){.blk = blk + i, .seen = seen};
		disk->live[blk + i] = seen;
	}
	return true;
}

void pc_oracle_disk_flush(struct pc_oracle_disk *disk)
{
	uint32_t kept_nr = 0;

	for (uint32_t i = 0; i < disk->pending_nr; i++) {
		const uint32_t blk = disk->pending[i].blk;

		if (disk->pending[i].forgotten)
			continue;
		disk->durable[blk] = disk->pending[i].seen;
		/* What was forgotten of this block before can no longer come over it. */
		for (uint32_t j = 0; j < i; j++) {
			if (disk->pending[j].blk == blk)
				disk->pending[j].forgotten = false;
		}
	}
	for (uint32_t i = 0; i < disk->pending_nr; i++) {
		if (disk->pending[i].forgotten)
			disk->pending[kept_nr++] = disk->pending[i];
	}
	disk->pending_nr = kept_nr;
}

void pc_oracle_disk_flush_failed(struct pc_oracle_disk *disk)
{
	for (uint32_t i = 0; i < disk->pending_nr; i++)
		disk->pending[i].forgotten = true;
}

struct span { /* epochs e for which a version on the backing is right */
	uint32_t low;
	uint32_t high;
};

/* Widens *span over every entry that seen may be; false if there is none. */
static bool find_span(const struct pc_oracle *oracle, uint32_t blk, const struct pc_seen *seen, struct span *span)
{
	uint32_t newer_epoch = EPOCH_NONE;
	bool found = false;

	for (uint32_t idx = oracle->newest[blk]; idx != PC_ORACLE_NO_ENTRY; idx = oracle->entries[idx].older) {
		const struct pc_oracle_entry *entry = &oracle->entries[idx];

		if (pc_oracle_matches(entry, seen)) {
			if (!found)
				span->high = newer_epoch;
			span->low = entry->epoch;
			found = true;
			if (!entry->zero)
				break;
		}
		if (entry->version == oracle->drained_version[blk])
			break;
		newer_epoch = entry->epoch;
	}
	return found;
}

struct bounds { /* over all that one block may hold after a power cut */
	uint32_t max_low;
	uint32_t min_high;
};

static bool bound_block(struct pc_oracle *oracle, struct bounds *bounds, uint32_t blk, const struct pc_seen *seen)
{
	struct span span = {0, 0};

	if (!find_span(oracle, blk, seen, &span)) {
		pc_oracle_blame(oracle, "backing alone", blk, seen, NULL);
		return false;
	}
	bounds->max_low = PC_MAX(bounds->max_low, PC_MAX(span.low, oracle->merged_epoch));
	bounds->min_high = PC_MIN(bounds->min_high, PC_MAX(span.high, oracle->merged_epoch));
	return true;
}

bool pc_oracle_check_backing(struct pc_oracle *oracle, const struct pc_oracle_disk *disk)
{
	static struct bounds bounds[PC_ORACLE_BLOCK_NR_MAX];
	const uint32_t block_nr = oracle->options.block_nr;
	uint32_t low[2] = {UINT32_MAX, UINT32_MAX}; /* the two blocks with the largest lower ends */
	uint32_t high[2] = {UINT32_MAX, UINT32_MAX};

	for (uint32_t blk = 0; blk < block_nr; blk++) {
		bounds[blk] = (struct bounds){0, EPOCH_NONE};
		if (!bound_block(oracle, &bounds[blk], blk, &disk->durable[blk]))
			return false;
	}
	for (uint32_t i = 0; i < disk->pending_nr; i++) {
		if (!bound_block(oracle, &bounds[disk->pending[i].blk], disk->pending[i].blk, &disk->pending[i].seen))
			return false;
	}
	if (oracle->options.order_batch)
		return true;
	for (uint32_t blk = 0; blk < block_nr; blk++) {
		if (low[0] == UINT32_MAX || bounds[blk].max_low > bounds[low[0]].max_low) {
			low[1] = low[0];
			low[0] = blk;
		} else if (low[1] == UINT32_MAX || bounds[blk].max_low > bounds[low[1]].max_low) {
			low[1] = blk;
		}
		if (high[0] == UINT32_MAX || bounds[blk].min_high < bounds[high[0]].min_high) {
			high[1] = high[0];
			high[0] = blk;
		} else if (high[1] == UINT32_MAX || bounds[blk].min_high < bounds[high[1]].min_high) {
			high[1] = blk;
		}
	}
	for (uint32_t i = 0; i < 2; i++) {
		for (uint32_t j = 0; j < 2; j++) {
			if (low[i] == UINT32_MAX || high[j] == UINT32_MAX || low[i] == high[j])
				continue;
			if (bounds[low[i]].max_low <= bounds[high[j]].min_high)
				continue;
			snprintf(oracle->text, sizeof(oracle->text),
				 "backing alone: block %u may hold a version of epoch %u while block %u may lack its version of epoch %u", low[i],
				 bounds[low[i]].max_low, high[j], bounds[high[j]].min_high);
			return false;
		}
	}
	return true;
}

bool pc_oracle_drained(struct pc_oracle *oracle, const struct pc_oracle_disk *disk)
{
	for (uint32_t i = 0; i < disk->pending_nr; i++) {
		const struct pc_oracle_disk_write *write = &disk->pending[i];

		if (!pc_oracle_matches(&oracle->entries[oracle->newest[write->blk]], &write->seen)) {
			pc_oracle_blame(oracle, "drained, but a power cut may still undo it on the backing", write->blk, &write->seen, NULL);
			return false;
		}
	}
	for (uint32_t blk = 0; blk < oracle->options.block_nr; blk++) {
		const struct pc_oracle_entry *entry = &oracle->entries[oracle->newest[blk]];

		if (!pc_oracle_matches(entry, &disk->durable[blk])) {
			pc_oracle_blame(oracle, "drained", blk, &disk->durable[blk], NULL);
			return false;
		}
		oracle->drained_version[blk] = entry->version;
	}
	oracle->undrained_batch = oracle->options.order_batch;
	oracle->changes++;
	return true;
}
