/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Oracle for concurrent calls, see sched_oracle.h: what may be found after a crash.
 *
 * Each block picks the entry that was read. The units that are there are the durable ones and those that were picked; in each block everything that is there comes
 * before what was picked. With the order in time, and the order of entries in each block, that is a graph; the state is right if it has no cycle.
 */
#include <stdio.h>
#include <string.h>

#include "sim/sched_oracle_internal.h"

#define OPTIONAL_NR_MAX 8u

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
				if (so_before(entry, other))
					add_edge(entry->unit, other->unit);
				if (so_before(other, entry))
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

		if (other != entry && must_survive(so, &so->units[other->unit]) && so_before(entry, other))
			return idx;
	}
	return NO_ENTRY;
}

/* The next older entry that the block may have been read as, from idx on. */
static uint32_t next_choice(const struct so *so, uint32_t idx, const struct pc_seen *seen)
{
	for (; idx != NO_ENTRY; idx = so->entries[idx].older) {
		const struct entry *entry = &so->entries[idx];

		if (so_matches(entry, seen) && so_possible(so, entry) && find_newer_durable(so, entry) == NO_ENTRY)
			return idx;
	}
	return NO_ENTRY;
}

static void blame_pick(struct so *so, uint32_t blk, const struct pc_seen *seen, const uint8_t *buf)
{
	const uint32_t idx = so_find_version(so, blk, seen);
	char why[100] = "no such version, or it was lost or failed", text[80];
	uint32_t newer;

	if (idx != NO_ENTRY) {
		newer = find_newer_durable(so, &so->entries[idx]);
		if (newer != NO_ENTRY)
			snprintf(why, sizeof(why), "lost: %s",
				 so_name_entry(so, &so->entries[newer], text, sizeof(text)));
	}
	so_blame(so, "recovered", blk, seen, buf, why);
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
					 entry->blk, so_name_entry(so, entry, text, sizeof(text)),
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

		if (other != zero && other->zero && so_before(zero, other) && is_taken(so, state, other->unit, taken))
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
		refuted |= so_before(&so->entries[picked], entry);
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
		so_observe(so, &so->entries[state->picked[blk]], begin, end);
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
