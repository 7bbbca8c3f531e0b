/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Oracle for concurrent calls, see sched_oracle.h.
 *
 * Every unit has one entry for each block that it covers. sure_end is the first instant at which the entry had surely taken effect (its unit had ended, or a read that returned
 * it had); last_begin the last at which it was surely not overwritten (the begin of its unit, or of a read that returned it). So A came before B in their block if A's sure_end lies
 * before B's last_begin. The block can be linearised if this never holds both ways (Gibbons and Korach 1997: the zones of two versions).
 */
#include "sim/sched_oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/sched_oracle_internal.h"

void *so_must(void *memory)
{
	if (memory == NULL)
		abort();
	return memory;
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static struct pc_oracle *new_payload(const struct so_options *options)
{
	const struct pc_oracle_options payload = { .block_nr = options->block_nr, .block_bytes = options->block_bytes };

	return so_must(pc_oracle_new(&payload));
}

struct so *so_new(const struct so_options *options)
{
	struct so *so = so_must(calloc(1, sizeof(*so)));
	uint32_t unit;

	so->options = *options;
	so->payload = new_payload(options);
	so->next_version = 2;
	for (uint32_t blk = 0; blk < options->block_nr; blk++)
		so->newest[blk] = NO_ENTRY;
	unit = so_begin(so);
	so_put(so, unit, 0, options->block_nr, 1, false);
	(void)so_end(so, unit, true, true);
	return so;
}

struct so *so_clone(const struct so *so)
{
	struct so *clone = so_must(malloc(sizeof(*clone)));

	memcpy(clone, so, sizeof(*clone));
	clone->payload = new_payload(&so->options);
	clone->entries = so_must(malloc(so->entry_max * sizeof(*clone->entries)));
	memcpy(clone->entries, so->entries, so->entry_nr * sizeof(*clone->entries));
	return clone;
}

void so_free(struct so *so)
{
	if (so == NULL)
		return;
	pc_oracle_free(so->payload);
	free(so->entries);
	free(so);
}

const char *so_text(const struct so *so)
{
	return so->text;
}

uint32_t so_next_version(struct so *so)
{
	return so->next_version++;
}

void so_fill(const struct so *so, void *buf, uint32_t blk, uint32_t len_blk, uint32_t version)
{
	pc_oracle_fill(so->payload, buf, blk, len_blk, version);
}

/* ---- calls ----------------------------------------------------------------------------------------------------- */

uint64_t so_stamp(struct so *so)
{
	return ++so->clock;
}

uint64_t so_now(const struct so *so)
{
	return so->clock;
}

uint32_t so_begin(struct so *so)
{
	struct unit *unit = &so->units[so->unit_nr];

	if (so->unit_nr == SO_UNIT_NR_MAX)
		abort();
	*unit = (struct unit){
		.begin = so_stamp(so), .end = NEVER, .epoch_begin = so->flush_begin, .first_entry = NO_ENTRY
	};
	return so->unit_nr++;
}

void so_put(struct so *so, uint32_t unit, uint32_t blk, uint32_t len_blk, uint32_t version, bool zero)
{
	for (uint32_t i = blk; i < blk + len_blk; i++) {
		if (so->entry_nr == so->entry_max) {
			so->entry_max = so->entry_max * 2 + 256;
			so->entries = so_must(realloc(so->entries, so->entry_max * sizeof(*so->entries)));
		}
		so->entries[so->entry_nr] = (struct entry){ .sure_end = NEVER,
							    .last_begin = so->units[unit].begin,
							    .unit = unit,
							    .version = version,
							    .older = so->newest[i],
							    .next = so->units[unit].first_entry,
							    .blk = (uint16_t)i,
							    .zero = zero };
		so->units[unit].first_entry = so->entry_nr;
		so->newest[i] = so->entry_nr++;
	}
}

bool so_end(struct so *so, uint32_t unit_idx, bool ok, bool durable)
{
	struct unit *unit = &so->units[unit_idx];

	unit->end = so_stamp(so);
	unit->state = ok ? UNIT_OK : UNIT_GONE;
	unit->durable = ok && (durable || !so->options.commit_flush);
	for (uint32_t idx = unit->first_entry; idx != NO_ENTRY; idx = so->entries[idx].next)
		so->entries[idx].sure_end = PC_MIN(so->entries[idx].sure_end, unit->end);
	if (!ok && unit->observed) {
		snprintf(so->text, sizeof(so->text), "a read has returned v%u of block %u, whose call failed then",
			 so->entries[unit->first_entry].version, so->entries[unit->first_entry].blk);
		return false;
	}
	return true;
}

void so_flushed(struct so *so, uint64_t begin, bool ends_epoch)
{
	for (uint32_t i = 0; i < so->unit_nr; i++) {
		if (so->units[i].state == UNIT_OK && so->units[i].end < begin)
			so->units[i].durable = true;
	}
	if (ends_epoch)
		so->flush_begin = PC_MAX(so->flush_begin, begin);
	so_stamp(so);
}

/* ---- order of the versions of a block ------------------------------------------------------------------------- */

bool so_matches(const struct entry *entry, const struct pc_seen *seen)
{
	if (seen->kind == PC_SEEN_ZERO)
		return entry->zero;
	return seen->kind == PC_SEEN_DATA && !entry->zero && entry->version == seen->version;
}

bool so_possible(const struct so *so, const struct entry *entry)
{
	return so->units[entry->unit].state != UNIT_GONE;
}

/* It has happened, or runs; not: it was passed over by a crash, and nobody will know. */
static bool counts(const struct so *so, const struct entry *entry)
{
	return so->units[entry->unit].state <= UNIT_OK;
}

/* It has happened, whatever else is not known. */
bool so_certain(const struct so *so, const struct entry *entry)
{
	return so->units[entry->unit].state == UNIT_OK;
}

const char *so_name_entry(const struct so *so, const struct entry *entry, char *text, size_t text_bytes)
{
	static const char *const states[] = { "runs", "done", "maybe lost", "gone" };
	const struct unit *unit = &so->units[entry->unit];

	snprintf(text, text_bytes, "v%u%s (%s%s, %llu to %lld)", entry->version, entry->zero ? " zeroes" : "",
		 states[unit->state], unit->durable ? ", durable" : "", (unsigned long long)unit->begin,
		 unit->end == NEVER ? -1LL : (long long)unit->end);
	return text;
}

void so_blame(struct so *so, const char *where, uint32_t blk, const struct pc_seen *seen, const void *buf,
	      const char *why)
{
	char held[240] = "zeroes", newest[80] = "";
	size_t used;

	if (seen->kind == PC_SEEN_BAD && buf != NULL)
		pc_oracle_describe(so->payload, blk, buf, held, sizeof(held));
	else if (seen->kind == PC_SEEN_DATA)
		snprintf(held, sizeof(held), "v%u", seen->version);
	used = (size_t)snprintf(so->text, sizeof(so->text),
				"%s: block %u holds %.220s: %.100s; it has had, newest first:", where, blk, held, why);
	for (uint32_t idx = so->newest[blk], nr = 0; idx != NO_ENTRY && nr < 4 && used < sizeof(so->text);
	     idx = so->entries[idx].older, nr++)
		used += (size_t)snprintf(so->text + used, sizeof(so->text) - used, " %s",
					 so_name_entry(so, &so->entries[idx], newest, sizeof(newest)));
}

uint32_t so_find_version(const struct so *so, uint32_t blk, const struct pc_seen *seen)
{
	for (uint32_t idx = so->newest[blk]; idx != NO_ENTRY; idx = so->entries[idx].older) {
		if (so_matches(&so->entries[idx], seen) && so_possible(so, &so->entries[idx]))
			return idx;
	}
	return NO_ENTRY;
}

/* ---- live reads ------------------------------------------------------------------------------------------------ */

/* Notes that a read of [begin, end] returned the entry. */
void so_observe(struct so *so, struct entry *entry, uint64_t begin, uint64_t end)
{
	entry->sure_end = PC_MIN(entry->sure_end, end);
	entry->last_begin = PC_MAX(entry->last_begin, begin);
	so->units[entry->unit].observed = true;
}

/* A version that came before the entry and after it, or NO_ENTRY. */
static uint32_t find_contradiction(const struct so *so, const struct entry *entry)
{
	for (uint32_t idx = so->newest[entry->blk]; idx != NO_ENTRY; idx = so->entries[idx].older) {
		const struct entry *other = &so->entries[idx];

		if (other != entry && counts(so, other) && so_before(entry, other) && so_before(other, entry))
			return idx;
	}
	return NO_ENTRY;
}

/* Zeroes: a read that began at begin may have returned the entry. */
static bool zero_fits(const struct so *so, const struct entry *zero, uint64_t begin)
{
	for (uint32_t idx = so->newest[zero->blk]; idx != NO_ENTRY; idx = so->entries[idx].older) {
		const struct entry *other = &so->entries[idx];

		if (other != zero && counts(so, other) && so_before(zero, other) && other->sure_end < begin)
			return false;
	}
	return true;
}

static bool read_zero(struct so *so, uint32_t blk, uint64_t begin, uint64_t end)
{
	struct entry *only = NULL;
	uint32_t fit_nr = 0;

	for (uint32_t idx = so->newest[blk]; idx != NO_ENTRY; idx = so->entries[idx].older) {
		struct entry *entry = &so->entries[idx];

		if (entry->zero && so_possible(so, entry) && zero_fits(so, entry, begin)) {
			only = entry;
			fit_nr++;
		}
	}
	if (fit_nr == 1)
		so_observe(so, only, begin, end);
	return fit_nr > 0;
}

static bool read_block(struct so *so, uint64_t begin, uint64_t end, uint32_t blk, const uint8_t *buf)
{
	const struct pc_seen seen = pc_oracle_look(so->payload, blk, buf);
	uint32_t idx, other;
	char why[100], text[80];

	if (seen.kind == PC_SEEN_ZERO) {
		if (read_zero(so, blk, begin, end))
			return true;
		so_blame(so, "live read", blk, &seen, buf, "no zeroes can be there");
		return false;
	}
	idx = so_find_version(so, blk, &seen);
	if (idx == NO_ENTRY) {
		so_blame(so, "live read", blk, &seen, buf, "no such version, or it was lost or failed");
		return false;
	}
	so_observe(so, &so->entries[idx], begin, end);
	other = find_contradiction(so, &so->entries[idx]);
	if (other == NO_ENTRY)
		return true;
	snprintf(why, sizeof(why), "%s came after it", so_name_entry(so, &so->entries[other], text, sizeof(text)));
	so_blame(so, "live read", blk, &seen, buf, why);
	return false;
}

bool so_read(struct so *so, uint64_t begin, uint32_t blk, uint32_t len_blk, const uint8_t *buf)
{
	const uint64_t end = so_stamp(so);

	for (uint32_t i = 0; i < len_blk; i++) {
		if (!read_block(so, begin, end, blk + i, buf + (size_t)i * so->options.block_bytes))
			return false;
	}
	return true;
}
