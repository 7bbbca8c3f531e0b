/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Oracle for concurrent calls, see sched_oracle.h.
 *
 * Every unit has one entry for each block that it covers. sure_end is the first instant at which the entry had surely taken effect (its unit had ended, or a read that returned
 * it had); last_begin the last at which it was surely not overwritten (the begin of its unit, or of a read that returned it). So A came before B in their block if A's sure_end lies
 * before B's last_begin. The block can be linearised if this never holds both ways (Gibbons and Korach 1997: the zones of two versions).
 *
 * After a crash each block picks the entry that was read. The units that are there are the durable ones and those that were picked; in each block everything that is there comes
 * before what was picked. With the order in time, and the order of entries in each block, that is a graph; the state is right if it has no cycle.
 */
#include "sim/sched_oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/oracle.h"

#define NO_ENTRY UINT32_MAX
#define NEVER UINT64_MAX
#define OPTIONAL_NR_MAX 8u

enum unit_state {
	UNIT_RUNS, /* has not returned */
	UNIT_OK, /* happened */
	UNIT_MAYBE, /* was lost, or overwritten in silence before a crash */
	UNIT_GONE /* failed, or was lost in a crash: never to be seen */
};

struct unit {
	uint64_t begin;
	uint64_t end; /* NEVER while it runs */
	uint64_t
		epoch_begin; /* begin of the last flush that had ended when it began: what had ended before that is of an earlier epoch */
	enum unit_state state;
	bool durable;
	bool observed; /* a read has returned it */
	uint32_t first_entry;
};

struct entry {
	uint64_t sure_end;
	uint64_t last_begin;
	uint32_t unit;
	uint32_t version;
	uint32_t older; /* entry of the same block that was issued before */
	uint32_t next; /* entry of the same unit */
	uint16_t blk;
	bool zero;
};

struct so {
	struct so_options options;
	struct pc_oracle *payload; /* encodes and decodes blocks */
	uint64_t clock;
	uint64_t flush_begin; /* the latest begin of a flush that has ended */
	uint64_t drain_begin;
	uint32_t next_version;
	uint32_t unit_nr;
	uint32_t entry_nr;
	uint32_t entry_max;
	struct entry *entries;
	uint32_t newest[SO_BLOCK_NR_MAX];
	struct unit units[SO_UNIT_NR_MAX];
	char text[600];
};

static void *must(void *memory)
{
	if (memory == NULL)
		abort();
	return memory;
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static struct pc_oracle *new_payload(const struct so_options *options)
{
	const struct pc_oracle_options payload = { .block_nr = options->block_nr, .block_bytes = options->block_bytes };

	return must(pc_oracle_new(&payload));
}

struct so *so_new(const struct so_options *options)
{
	struct so *so = must(calloc(1, sizeof(*so)));
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
	struct so *clone = must(malloc(sizeof(*clone)));

	memcpy(clone, so, sizeof(*clone));
	clone->payload = new_payload(&so->options);
	clone->entries = must(malloc(so->entry_max * sizeof(*clone->entries)));
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
			so->entries = must(realloc(so->entries, so->entry_max * sizeof(*so->entries)));
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

static bool matches(const struct entry *entry, const struct pc_seen *seen)
{
	if (seen->kind == PC_SEEN_ZERO)
		return entry->zero;
	return seen->kind == PC_SEEN_DATA && !entry->zero && entry->version == seen->version;
}

static bool possible(const struct so *so, const struct entry *entry)
{
	return so->units[entry->unit].state != UNIT_GONE;
}

/* It has happened, or runs; not: it was passed over by a crash, and nobody will know. */
static bool counts(const struct so *so, const struct entry *entry)
{
	return so->units[entry->unit].state <= UNIT_OK;
}

/* It has happened, whatever else is not known. */
static bool certain(const struct so *so, const struct entry *entry)
{
	return so->units[entry->unit].state == UNIT_OK;
}

static bool before(const struct entry *a, const struct entry *b)
{
	return a->sure_end < b->last_begin;
}

static const char *name_entry(const struct so *so, const struct entry *entry, char *text, size_t text_bytes)
{
	static const char *const states[] = { "runs", "done", "maybe lost", "gone" };
	const struct unit *unit = &so->units[entry->unit];

	snprintf(text, text_bytes, "v%u%s (%s%s, %llu to %lld)", entry->version, entry->zero ? " zeroes" : "",
		 states[unit->state], unit->durable ? ", durable" : "", (unsigned long long)unit->begin,
		 unit->end == NEVER ? -1LL : (long long)unit->end);
	return text;
}

static void blame(struct so *so, const char *where, uint32_t blk, const struct pc_seen *seen, const void *buf,
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
					 name_entry(so, &so->entries[idx], newest, sizeof(newest)));
}

static uint32_t find_version(const struct so *so, uint32_t blk, const struct pc_seen *seen)
{
	for (uint32_t idx = so->newest[blk]; idx != NO_ENTRY; idx = so->entries[idx].older) {
		if (matches(&so->entries[idx], seen) && possible(so, &so->entries[idx]))
			return idx;
	}
	return NO_ENTRY;
}

/* ---- live reads ------------------------------------------------------------------------------------------------ */

/* Notes that a read of [begin, end] returned the entry. */
static void observe(struct so *so, struct entry *entry, uint64_t begin, uint64_t end)
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

		if (other != entry && counts(so, other) && before(entry, other) && before(other, entry))
			return idx;
	}
	return NO_ENTRY;
}

/* Zeroes: a read that began at begin may have returned the entry. */
static bool zero_fits(const struct so *so, const struct entry *zero, uint64_t begin)
{
	for (uint32_t idx = so->newest[zero->blk]; idx != NO_ENTRY; idx = so->entries[idx].older) {
		const struct entry *other = &so->entries[idx];

		if (other != zero && counts(so, other) && before(zero, other) && other->sure_end < begin)
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

		if (entry->zero && possible(so, entry) && zero_fits(so, entry, begin)) {
			only = entry;
			fit_nr++;
		}
	}
	if (fit_nr == 1)
		observe(so, only, begin, end);
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
		blame(so, "live read", blk, &seen, buf, "no zeroes can be there");
		return false;
	}
	idx = find_version(so, blk, &seen);
	if (idx == NO_ENTRY) {
		blame(so, "live read", blk, &seen, buf, "no such version, or it was lost or failed");
		return false;
	}
	observe(so, &so->entries[idx], begin, end);
	other = find_contradiction(so, &so->entries[idx]);
	if (other == NO_ENTRY)
		return true;
	snprintf(why, sizeof(why), "%s came after it", name_entry(so, &so->entries[other], text, sizeof(text)));
	blame(so, "live read", blk, &seen, buf, why);
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

/* ---- crash ----------------------------------------------------------------------------------------------------- */

struct state { /* what was read after a crash */
	uint32_t picked[SO_BLOCK_NR_MAX]; /* entry of each block */
	uint16_t zeroes[SO_BLOCK_NR_MAX]; /* blocks of zeroes */
	uint32_t zero_nr;
	uint16_t optional[OPTIONAL_NR_MAX]; /* units that some of these may come from, and that need not be there */
	uint32_t optional_nr;
	bool ambiguous; /* not all choices were tried */
	bool sure[SO_BLOCK_NR_MAX]; /* picked is the only choice */
	bool there[SO_UNIT_NR_MAX];
};

struct graph {
	uint16_t nodes[SO_UNIT_NR_MAX]; /* unit of each node */
	uint16_t node_of[SO_UNIT_NR_MAX];
	uint32_t node_nr;
	uint64_t edges[SO_UNIT_NR_MAX][SO_UNIT_NR_MAX / 64]; /* bit: this node comes before that one */
	uint32_t in_nr[SO_UNIT_NR_MAX];
};

static struct graph graph; /* large; one thread */

static bool must_survive(const struct so *so, const struct unit *unit)
{
	if (unit->state == UNIT_GONE)
		return false;
	return unit->durable || (unit->observed && !so->options.commit_flush && unit->state != UNIT_MAYBE);
}

static void add_edge(uint32_t from_unit, uint32_t to_unit)
{
	const uint32_t from = graph.node_of[from_unit], to = graph.node_of[to_unit];
	uint64_t *word = &graph.edges[from][to / 64];

	if (from != to && !(*word >> to % 64 & 1)) {
		*word |= UINT64_C(1) << to % 64;
		graph.in_nr[to]++;
	}
}

static void build_nodes(const struct so *so, const struct state *state)
{
	graph.node_nr = 0;
	for (uint32_t i = 0; i < so->unit_nr; i++) {
		if (!state->there[i])
			continue;
		graph.node_of[i] = (uint16_t)graph.node_nr;
		graph.nodes[graph.node_nr] = (uint16_t)i;
		graph.in_nr[graph.node_nr++] = 0;
	}
	for (uint32_t i = 0; i < graph.node_nr; i++)
		memset(graph.edges[i], 0, (graph.node_nr / 64 + 1) * sizeof(graph.edges[i][0]));
	for (uint32_t i = 0; i < graph.node_nr; i++) {
		/* Units are numbered as they began. */
		for (uint32_t j = i + 1; j < graph.node_nr; j++) {
			if (so->units[graph.nodes[i]].end < so->units[graph.nodes[j]].begin)
				add_edge(graph.nodes[i], graph.nodes[j]);
		}
	}
}

static void build_edges(const struct so *so, const struct state *state)
{
	for (uint32_t blk = 0; blk < so->options.block_nr; blk++) {
		const uint32_t picked = state->picked[blk];

		for (uint32_t idx = so->newest[blk]; idx != NO_ENTRY; idx = so->entries[idx].older) {
			const struct entry *entry = &so->entries[idx];

			if (!state->there[entry->unit])
				continue;
			if (idx != picked)
				add_edge(entry->unit, so->entries[picked].unit);
			for (uint32_t at = entry->older; at != NO_ENTRY; at = so->entries[at].older) {
				const struct entry *other = &so->entries[at];

				if (!state->there[other->unit])
					continue;
				if (before(entry, other))
					add_edge(entry->unit, other->unit);
				if (before(other, entry))
					add_edge(other->unit, entry->unit);
			}
		}
	}
}

/* Whether the graph has an order. If not, *out_unit is a unit of a cycle, or behind one. */
static bool has_order(uint32_t *out_unit)
{
	static uint16_t ready[SO_UNIT_NR_MAX];
	uint32_t ready_nr = 0, done_nr = 0;

	for (uint32_t i = 0; i < graph.node_nr; i++) {
		if (graph.in_nr[i] == 0)
			ready[ready_nr++] = (uint16_t)i;
	}
	while (done_nr < ready_nr) {
		const uint32_t node = ready[done_nr++];

		for (uint32_t word = 0; word <= graph.node_nr / 64 && word < SO_UNIT_NR_MAX / 64; word++) {
			for (uint64_t bits = graph.edges[node][word]; bits != 0; bits &= bits - 1) {
				const uint32_t to = word * 64 + (uint32_t)__builtin_ctzll(bits);

				if (--graph.in_nr[to] == 0)
					ready[ready_nr++] = (uint16_t)to;
			}
		}
	}
	for (uint32_t i = 0; i < graph.node_nr; i++) {
		if (graph.in_nr[i] != 0)
			*out_unit = graph.nodes[i];
	}
	return done_nr == graph.node_nr;
}

static bool fits(const struct so *so, struct state *state, uint32_t *out_unit)
{
	for (uint32_t i = 0; i < so->unit_nr; i++)
		state->there[i] = must_survive(so, &so->units[i]);
	for (uint32_t blk = 0; blk < so->options.block_nr; blk++)
		state->there[so->entries[state->picked[blk]].unit] = true;
	build_nodes(so, state);
	build_edges(so, state);
	return has_order(out_unit);
}

/* A durable entry of the block that surely came after this one. */
static uint32_t find_newer_durable(const struct so *so, const struct entry *entry)
{
	for (uint32_t idx = so->newest[entry->blk]; idx != NO_ENTRY; idx = so->entries[idx].older) {
		const struct entry *other = &so->entries[idx];

		if (other != entry && must_survive(so, &so->units[other->unit]) && before(entry, other))
			return idx;
	}
	return NO_ENTRY;
}

/* The next older entry that the block may have been read as, from idx on. */
static uint32_t next_choice(const struct so *so, uint32_t idx, const struct pc_seen *seen)
{
	for (; idx != NO_ENTRY; idx = so->entries[idx].older) {
		const struct entry *entry = &so->entries[idx];

		if (matches(entry, seen) && possible(so, entry) && find_newer_durable(so, entry) == NO_ENTRY)
			return idx;
	}
	return NO_ENTRY;
}

static void blame_pick(struct so *so, uint32_t blk, const struct pc_seen *seen, const uint8_t *buf)
{
	const uint32_t idx = find_version(so, blk, seen);
	char why[100] = "no such version, or it was lost or failed", text[80];
	uint32_t newer;

	if (idx != NO_ENTRY) {
		newer = find_newer_durable(so, &so->entries[idx]);
		if (newer != NO_ENTRY)
			snprintf(why, sizeof(why), "lost: %s", name_entry(so, &so->entries[newer], text, sizeof(text)));
	}
	blame(so, "recovered", blk, seen, buf, why);
}

static void blame_order(struct so *so, const struct state *state, uint32_t unit)
{
	size_t used = (size_t)snprintf(
		so->text, sizeof(so->text),
		"recovered: no order of the units that are there gives what was read; one in question:");
	char text[80];

	for (uint32_t idx = so->units[unit].first_entry; idx != NO_ENTRY && used + 1 < sizeof(so->text);
	     idx = so->entries[idx].next) {
		const struct entry *entry = &so->entries[idx];

		used += (size_t)snprintf(so->text + used, sizeof(so->text) - used, " block %u %s, holds v%u;",
					 entry->blk, name_entry(so, entry, text, sizeof(text)),
					 so->entries[state->picked[entry->blk]].version);
	}
}

/* ---- zeroes say nothing of the unit that they come from ------------------------------------------------------- */

static void list_optional(const struct so *so, struct state *state)
{
	const struct pc_seen zero = { 0, PC_SEEN_ZERO };

	state->optional_nr = 0;
	state->ambiguous = false;
	for (uint32_t i = 0; i < state->zero_nr; i++) {
		uint32_t idx = next_choice(so, so->newest[state->zeroes[i]], &zero);

		for (; idx != NO_ENTRY; idx = next_choice(so, so->entries[idx].older, &zero)) {
			const uint32_t unit = so->entries[idx].unit;
			uint32_t at = 0;

			if (must_survive(so, &so->units[unit]))
				continue;
			while (at < state->optional_nr && state->optional[at] != unit)
				at++;
			if (at == OPTIONAL_NR_MAX)
				state->ambiguous = true;
			else if (at == state->optional_nr)
				state->optional[state->optional_nr++] = (uint16_t)unit;
		}
	}
}

static bool is_taken(const struct so *so, const struct state *state, uint32_t unit, uint32_t taken)
{
	if (must_survive(so, &so->units[unit]))
		return true;
	for (uint32_t i = 0; i < state->optional_nr; i++) {
		if (state->optional[i] == unit)
			return (taken >> i & 1) != 0;
	}
	return false;
}

/* It is there, and nothing else of zeroes that is there surely came after it. */
static bool may_show(const struct so *so, const struct state *state, const struct entry *zero, uint32_t taken)
{
	if (!is_taken(so, state, zero->unit, taken))
		return false;
	for (uint32_t idx = so->newest[zero->blk]; idx != NO_ENTRY; idx = so->entries[idx].older) {
		const struct entry *other = &so->entries[idx];

		if (other != zero && other->zero && before(zero, other) && is_taken(so, state, other->unit, taken))
			return false;
	}
	return true;
}

/* Picks for the blocks of zeroes what the durable units and these optional ones give. False: some block has nothing. */
static bool pick_zeroes(const struct so *so, struct state *state, uint32_t taken)
{
	const struct pc_seen zero = { 0, PC_SEEN_ZERO };

	for (uint32_t i = 0; i < state->zero_nr; i++) {
		const uint32_t blk = state->zeroes[i];
		uint32_t idx = next_choice(so, so->newest[blk], &zero), fit_nr = 0;

		for (; idx != NO_ENTRY; idx = next_choice(so, so->entries[idx].older, &zero)) {
			if (may_show(so, state, &so->entries[idx], taken) && fit_nr++ == 0)
				state->picked[blk] = idx;
		}
		if (fit_nr == 0)
			return false;
		state->ambiguous |= fit_nr > 1;
	}
	return true;
}

/* Few units first: what need not have happened may have. */
static bool find_fit(const struct so *so, struct state *state, uint32_t *out_unit)
{
	list_optional(so, state);
	for (uint32_t taken = 0; taken < 1u << state->optional_nr; taken++) {
		if (pick_zeroes(so, state, taken) && fits(so, state, out_unit))
			return true;
	}
	return false;
}

/* Only one entry can be what was read. */
static bool is_sure(const struct so *so, const struct state *state, uint32_t blk)
{
	const struct pc_seen zero = { 0, PC_SEEN_ZERO };
	const struct entry *picked = &so->entries[state->picked[blk]];
	uint32_t idx;

	if (!picked->zero)
		return true;
	idx = next_choice(so, so->newest[blk], &zero);
	return next_choice(so, so->entries[idx].older, &zero) == NO_ENTRY;
}

/* A unit has run its course: it is there, it is not, or nobody knows. */
static void settle_unit(struct so *so, const struct state *state, uint32_t unit_idx, uint64_t crash)
{
	struct unit *unit = &so->units[unit_idx];
	bool there = must_survive(so, unit), refuted = false;

	for (uint32_t idx = unit->first_entry; idx != NO_ENTRY; idx = so->entries[idx].next) {
		struct entry *entry = &so->entries[idx];
		const uint32_t picked = state->picked[entry->blk];

		if (unit->end == NEVER)
			entry->sure_end = PC_MIN(entry->sure_end, crash);
		if (!state->sure[entry->blk])
			continue;
		there |= idx == picked;
		refuted |= before(&so->entries[picked], entry);
	}
	unit->end = PC_MIN(unit->end, crash);
	unit->state = there ? UNIT_OK : refuted ? UNIT_GONE : UNIT_MAYBE;
	unit->durable = there;
	unit->observed &= there;
}

/* What was read is the history. Where it is not known which zeroes were read, they are those of a unit of their own. */
static void collapse(struct so *so, struct state *state)
{
	const uint64_t crash = so_stamp(so);
	uint64_t begin, end;
	uint32_t zeroes;

	for (uint32_t blk = 0; blk < so->options.block_nr; blk++)
		state->sure[blk] = is_sure(so, state, blk);
	for (uint32_t i = 0; i < so->unit_nr; i++) {
		if (so->units[i].state != UNIT_GONE)
			settle_unit(so, state, i, crash);
	}
	zeroes = so_begin(so);
	so->units[zeroes].epoch_begin = 0; /* they may be old */
	for (uint32_t blk = 0; blk < so->options.block_nr; blk++) {
		if (!state->sure[blk]) {
			so_put(so, zeroes, blk, 1, so_next_version(so), true);
			state->picked[blk] = so->newest[blk];
		}
	}
	(void)so_end(so, zeroes, true, true);
	begin = so_stamp(so);
	end = so_stamp(so);
	for (uint32_t blk = 0; blk < so->options.block_nr; blk++)
		observe(so, &so->entries[state->picked[blk]], begin, end);
}

enum so_verdict so_recover(struct so *so, const uint8_t *image)
{
	static struct state state; /* large; one thread */
	uint32_t unit = 0;

	state.zero_nr = 0;
	for (uint32_t blk = 0; blk < so->options.block_nr; blk++) {
		const uint8_t *buf = image + (size_t)blk * so->options.block_bytes;
		const struct pc_seen seen = pc_oracle_look(so->payload, blk, buf);

		state.picked[blk] = next_choice(so, so->newest[blk], &seen);
		if (state.picked[blk] == NO_ENTRY) {
			blame_pick(so, blk, &seen, buf);
			return SO_WRONG;
		}
		if (seen.kind == PC_SEEN_ZERO)
			state.zeroes[state.zero_nr++] = (uint16_t)blk;
	}
	if (!find_fit(so, &state, &unit)) {
		blame_order(so, &state, unit);
		return state.ambiguous ? SO_UNDECIDED : SO_WRONG;
	}
	collapse(so, &state);
	return SO_RIGHT;
}

/* ---- the backing ----------------------------------------------------------------------------------------------- */

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
	blame(so, "written to the backing", blk, &seen, buf, "no whole version of this block");
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
		to->pending = must(realloc(to->pending, to->pending_max * sizeof(*to->pending)));
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
			disk->pending = must(realloc(disk->pending, disk->pending_max * sizeof(*disk->pending)));
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

		if (other != entry && certain(so, other) && before(entry, other))
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

		if (!matches(entry, &seen) || !possible(so, entry))
			continue;
		needs = PC_MIN(needs, so->units[entry->unit].epoch_begin);
		misses = PC_MAX(misses, first_missing(so, entry));
	}
	if (needs == NEVER) {
		blame(so, "on the backing", write->blk, &seen, NULL, "no such version, or it was lost or failed");
		return false;
	}
	if (misses < so->drain_begin) {
		blame(so, "on the backing", write->blk, &seen, NULL, "older than what a drain has brought there");
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
	blame(so, where, missing->blk, &seen, NULL, "a later epoch without an earlier one");
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
