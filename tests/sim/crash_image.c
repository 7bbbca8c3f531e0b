/* SPDX-License-Identifier: BSD-3-Clause */
/* Crash images: which of the pending stores and writes of a snapshot persist. Equal states are explored once. */
#include "sim/crash_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/format.h"

/* Numbers the lines of the pending stores. */
static void number_lines(struct crash_snap *snap)
{
	const struct pc_sim_store *stores = snap->media.stores;
	const uint32_t nr = (uint32_t)snap->media.store_nr;

	if (snap->line_max < nr) {
		snap->line_max = nr * 2;
		snap->line_of = crash_must(realloc(snap->line_of, snap->line_max * sizeof(*snap->line_of)));
	}
	snap->line_nr = 0;
	for (uint32_t i = 0; i < nr; i++) {
		snap->line_of[i] = UINT16_MAX;
		for (uint32_t j = i; j-- > 0 && snap->line_of[i] == UINT16_MAX && i - j < 64;) {
			if (stores[j].word / 8 == stores[i].word / 8)
				snap->line_of[i] = snap->line_of[j];
		}
		if (snap->line_of[i] == UINT16_MAX)
			snap->line_of[i] = (uint16_t)snap->line_nr++;
	}
}

/* Fills in which pending stores the nth image of a snapshot keeps. */
static void choose_stores(struct crash_world *w, const struct crash_snap *snap, uint32_t nth, struct crash_cut *cut)
{
	const uint32_t nr = (uint32_t)snap->media.store_nr;
	uint8_t *keep = cut->keep;
	/* With caches that survive, stores persist in their order on most machines. */
	const bool in_order = w->run->shape.byte && nth >= 2 && pc_rng_chance(&w->rng, 60);
	const uint32_t policy = in_order ? 4 : nth < 2 ? nth : 2 + pc_rng_below(&w->rng, 10);
	uint32_t at;
	uint32_t bias;

	cut->policy = policy;
	if (nr <= 12 && UINT64_C(1) << nr <= w->image_nr) {
		for (uint32_t i = 0; i < nr; i++)
			keep[i] = nth >> i & 1;
		cut->policy = CRASH_POLICY_SUBSET;
		cut->at = nth;
		return;
	}
	bias = 1 + pc_rng_below(&w->rng, 7);
	at = policy >= 6 && policy <= 9 ? snap->line_nr : nr;
	/* The last stores without the earlier ones, and the reverse, are where mistakes of order show. */
	at = pc_rng_chance(&w->rng, 30) ? at - 1 : pc_rng_below(&w->rng, at);
	for (uint32_t i = 0; i < nr; i++) {
		const uint32_t line = snap->line_of[i];

		switch (policy) {
		case 0:
			keep[i] = 0;
			break;
		case 1:
			keep[i] = 1;
			break;
		case 2:
			keep[i] = i != at;
			break;
		case 3:
			keep[i] = i == at;
			break;
		case 4:
			keep[i] = i <= at;
			break;
		case 5:
			keep[i] = i > at;
			break;
		case 6:
			keep[i] = line != at;
			break;
		case 7:
			keep[i] = line == at;
			break;
		case 8:
			keep[i] = line <= at;
			break;
		case 9:
			keep[i] = line > at;
			break;
		case 10:
			keep[i] = pc_rng_below(&w->rng, 8) < bias;
			break;
		default: /* lines are kept, lost or torn */
			keep[i] = (uint8_t)(pc_rng_mix(line * UINT64_C(7919) + at * UINT64_C(104729) + bias) % 3);
			if (keep[i] == 2)
				keep[i] = pc_rng_chance(&w->rng, 50);
			break;
		}
	}
	cut->at = at;
	cut->bias = bias;
}

static uint64_t turn_bit(struct crash_world *child, uint64_t off, uint32_t bit)
{
	struct pc_sim_store store = {.word = off / 8};

	memcpy(&store.value, pc_sim_durable(child->sim) + store.word * 8, 8);
	store.value ^= UINT64_C(1) << (off % 8 * 8 + bit);
	child->cut.bit_off = off;
	child->cut.bit = bit;
	return pc_sim_put(child->sim, store);
}

/* Damages one copy of some metadata record; each has two, and no record is being changed. Returns the change of the hash. */
static uint64_t damage_copy(struct crash_world *w)
{
	struct crash_world *child = &w->run->worlds[w->depth + 1];
	const unsigned int replica = pc_rng_below(&w->rng, 2);
	struct pcm_super bytes;
	struct pc_super super;
	uint64_t off;

	memcpy(&bytes, pc_sim_durable(child->sim), sizeof(bytes));
	if (pc_super_decode(&bytes, &super) != PC_VALID)
		return 0;
	switch (pc_rng_below(&w->rng, 4)) {
	case 0:
		off = pc_geo_super_off(&super, replica);
		break;
	case 1:
		off = pc_geo_tail_off(&super, replica);
		break;
	default:
		off = pc_geo_segrec_off(&super, replica, pc_rng_below(&w->rng, super.segment_nr));
		break;
	}
	off += pc_rng_below(&w->rng, 64);
	return turn_bit(child, off, pc_rng_below(&w->rng, 8));
}

static void make_room(uint8_t **flags, uint32_t *max, size_t nr)
{
	if (*max < nr + 1) {
		*max = (uint32_t)nr * 2 + 64;
		*flags = crash_must(realloc(*flags, *max));
	}
}

/* Loads the child with what is durable at the snapshot; the rest is chosen next. */
struct crash_world *crash_begin_image(struct crash_world *w, const struct crash_snap *snap, bool killed)
{
	struct crash_world *child = &w->run->worlds[w->depth + 1];
	struct crash_cut *cut = &child->cut;

	make_room(&cut->keep, &cut->keep_max, snap->media.store_nr);
	make_room(&cut->keep_disk, &cut->keep_disk_max, snap->disk.pending_nr);
	cut->from = snap;
	cut->killed = killed;
	cut->given = false;
	cut->disk_policy = 1;
	cut->bit_off = 0;
	pc_sim_load(child->sim, &snap->media);
	return child;
}

/* Makes durable the pending stores that are kept; returns the change of the hash. */
uint64_t crash_put_stores(struct crash_world *child)
{
	const struct pc_sim_saved *media = &child->cut.from->media;
	uint64_t change = 0;

	for (size_t i = 0; i < media->store_nr; i++) {
		if (child->cut.keep[i])
			change ^= pc_sim_put(child->sim, media->stores[i]);
	}
	return change;
}

static uint64_t disk_hash(const struct pc_oracle_disk *disk)
{
	uint64_t hash = disk->block_nr;

	for (uint32_t blk = 0; blk < disk->block_nr; blk++)
		hash = ((hash ^ hash >> 29) + disk->live[blk].version * 4u + disk->live[blk].kind) * UINT64_C(0x9e3779b97f4a7c15);
	return hash;
}

/* Recovers the image, if it is a new state. */
void crash_recover_image(struct crash_world *child, uint64_t hash)
{
	struct crash_run *run = child->run;
	const struct crash_world *w = &run->worlds[child->depth - 1];
	const struct crash_cut *cut = &child->cut;

	if (!cut->killed)
		pc_oracle_disk_cut(&child->disk, &cut->from->disk, cut->keep_disk);
	else if (!pc_oracle_disk_copy(&child->disk, &cut->from->disk)) /* the disk goes on as it was, with what it has not made durable yet */
		abort();
	hash = pc_rng_mix(hash ^ disk_hash(&child->disk)) + cut->killed;
	if (crash_set_add(&run->images, hash))
		run->result->distinct++;
	hash = pc_rng_mix(hash + pc_oracle_changes(w->oracle) * UINT64_C(0x2545f4914f6cdd1d) + pc_rng_mix(run->op_idx * 8 + w->depth));
	if (crash_set_add(&run->states, hash))
		crash_recover_state(child, hash);
}

static void choose_disk(struct crash_world *w, struct crash_cut *cut)
{
	const uint32_t bias = 1 + pc_rng_below(&w->rng, 7);
	const uint64_t seed = pc_rng_next(&w->rng);

	for (uint32_t i = 0; i < cut->from->disk.pending_nr; i++)
		cut->keep_disk[i] = cut->disk_policy < 2 ? cut->disk_policy == 1 : pc_rng_mix(seed ^ pc_rng_mix(i)) % 8 < bias;
}

/* One image of a snapshot: the nth. */
static void explore_image(struct crash_world *w, const struct crash_snap *snap, uint32_t nth, bool killed)
{
	struct crash_world *child = crash_begin_image(w, snap, killed);
	uint64_t hash = snap->media.hash;

	child->cut.disk_policy = killed ? 1 : pc_rng_below(&w->rng, 4);
	if (!killed) {
		choose_stores(w, snap, nth, &child->cut);
		hash ^= crash_put_stores(child);
		if (snap->between && !w->run->formatting && pc_rng_chance(&w->rng, 15))
			hash ^= damage_copy(w);
	}
	choose_disk(w, &child->cut);
	crash_recover_image(child, hash);
}

/* The image that the path asks for. */
static void follow_image(struct crash_world *w, const struct crash_snap *snap)
{
	const struct pc_crash_cut *given = &w->run->follow->cuts[w->depth];
	struct crash_world *child = crash_begin_image(w, snap, given->killed);
	struct crash_cut *cut = &child->cut;
	uint64_t hash = snap->media.hash;

	w->run->result->cuts_reached = w->depth + 1;
	cut->given = !given->killed;
	for (uint32_t i = 0; i < snap->media.store_nr; i++)
		cut->keep[i] = pc_crash_some_has(&given->words, i);
	for (uint32_t i = 0; i < snap->disk.pending_nr; i++)
		cut->keep_disk[i] = pc_crash_some_has(&given->disk, i);
	if (!given->killed) {
		hash ^= crash_put_stores(child);
		if (given->bit_off != 0 && given->bit_off < w->run->shape.media_bytes)
			hash ^= turn_bit(child, given->bit_off, given->bit);
	}
	crash_recover_image(child, hash);
	w->run->stop = true;
}

/* Builds and recovers the images of one snapshot. */
static void explore_snap(struct crash_world *w, struct crash_snap *snap)
{
	struct crash_run *run = w->run;
	const size_t store_nr = snap->media.store_nr;
	uint32_t image_nr = w->image_nr;

	if (run->follow != NULL) {
		follow_image(w, snap);
		return;
	}
	number_lines(snap);
	if (run->settings->every != NULL) {
		crash_explore_every(w, snap);
		return;
	}
	if (store_nr <= 12)
		image_nr = PC_MIN(image_nr, 1u << store_nr);
	if (snap->between || snap->disk.pending_nr != 0)
		image_nr = PC_MAX(image_nr, 4u); /* with different damage or disks; equal ones are told by their hash */
	for (uint32_t nth = 0; nth < image_nr && !run->stop; nth++)
		explore_image(w, snap, nth, false);
	if (!run->stop && (store_nr != 0 || snap->disk.pending_nr != 0) && pc_rng_chance(&w->rng, 30))
		explore_image(w, snap, 0, true);
}

void crash_call_begin(struct crash_world *w)
{
	w->event_nr = 0;
	w->faulted = false;
}

/* The API call has returned, the oracle is as it was before: now explore what was snapped. */
void crash_call_end(struct crash_world *w)
{
	const uint32_t snap_nr = w->snap_nr;

	w->snap_nr = 0;
	for (uint32_t i = 0; i < snap_nr; i++) {
		if (!w->run->stop)
			explore_snap(w, &w->snaps[i]);
	}
}

/* A crash point between two API calls. */
void crash_between(struct crash_world *w)
{
	crash_point(w, "after the call", true);
	crash_call_end(w);
}
