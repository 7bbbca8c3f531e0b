/* SPDX-License-Identifier: BSD-3-Clause */
/* Crash images: which of the pending stores and writes of a snapshot persist. Equal states are explored once. */
#include "sim/crash_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/crc.h"
#include "format/format.h"

/* A block of the cache is kept as a whole, or not. */
bool crash_keep_disk_write(void *user, uint32_t idx)
{
	const struct crash_disk_cut *cut = user;
	struct mem_backing_pending pending;

	mem_backing_get_pending(cut->mb, idx, &pending);
	if (cut->some != NULL)
		return pc_crash_some_has(cut->some, idx);
	if (cut->policy < 2)
		return cut->policy == 1;
	return pc_rng_mix(cut->seed ^ pc_rng_mix(pending.seq << 32 | pending.off / cut->block_bytes)) % 8 < cut->bias;
}

static uint64_t word_hash(uint64_t word, uint64_t value)
{
	return value == 0 ? 0 : pc_rng_mix(value ^ (word + 1) * UINT64_C(0xd6e8feb86659fd93));
}

static uint64_t image_hash(const uint8_t *image, uint64_t len_bytes)
{
	uint64_t hash = 0;

	for (uint64_t word = 0; word < len_bytes / 8; word++) {
		uint64_t value;

		memcpy(&value, image + word * 8, 8);
		hash ^= word_hash(word, value);
	}
	return hash;
}

static uint64_t bytes_hash(const uint8_t *bytes, size_t len_bytes)
{
	const size_t half = len_bytes / 2;

	return (uint64_t)pc_crc32c(0, bytes, half) << 32 | pc_crc32c(0, bytes + half, len_bytes - half);
}

/* Number of different lines of pending stores; line_of[i] numbers them in order of first appearance. */
static uint32_t number_lines(const struct crash_snap *snap, uint16_t *line_of)
{
	uint32_t line_nr = 0;

	for (uint32_t i = 0; i < snap->store_nr; i++) {
		line_of[i] = UINT16_MAX;
		for (uint32_t j = i; j-- > 0 && line_of[i] == UINT16_MAX && i - j < 64;) {
			if (snap->stores[j].word / 8 == snap->stores[i].word / 8)
				line_of[i] = line_of[j];
		}
		if (line_of[i] == UINT16_MAX)
			line_of[i] = (uint16_t)line_nr++;
	}
	return line_nr;
}

/* Fills in which pending stores the nth image of a snapshot keeps; says how in text. */
static void choose_stores(struct crash_world *w, const struct crash_snap *snap, uint32_t nth, uint8_t *keep, char *text, size_t text_bytes)
{
	static uint16_t line_of[65536];
	const uint32_t nr = PC_MIN(snap->store_nr, 65535u);
	uint32_t policy = nth < 2 ? nth : 2 + pc_rng_below(&w->rng, 10);
	uint32_t line_nr;
	uint32_t at;
	uint32_t bias;

	if (nr <= 12 && UINT64_C(1) << nr <= w->image_nr) {
		for (uint32_t i = 0; i < nr; i++)
			keep[i] = nth >> i & 1;
		snprintf(text, text_bytes, "subset 0x%x of %u words", nth, nr);
		return;
	}
	line_nr = number_lines(snap, line_of);
	bias = 1 + pc_rng_below(&w->rng, 7);
	at = policy >= 6 && policy <= 9 ? line_nr : nr;
	/* The last stores without the earlier ones, and the reverse, are where mistakes of order show. */
	at = pc_rng_chance(&w->rng, 30) ? at - 1 : pc_rng_below(&w->rng, at);
	for (uint32_t i = 0; i < nr; i++) {
		const uint32_t line = line_of[i];

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
	snprintf(text, text_bytes, "policy %u at %u bias %u of %u words in %u lines", policy, at, bias, nr, line_nr);
}

static void turn_bit(struct crash_world *child, uint64_t off, uint32_t bit, char *text, size_t text_bytes)
{
	child->image[off] ^= (uint8_t)(1u << bit);
	child->bit_off = off;
	child->bit = bit;
	snprintf(text, text_bytes, "; a bit of byte %llu turned", (unsigned long long)off);
}

/* Damages one copy of some metadata record; each has two, and no record is being changed. */
static void damage_copy(struct crash_world *w, const uint8_t *image, char *text, size_t text_bytes)
{
	const unsigned int replica = pc_rng_below(&w->rng, 2);
	struct pcm_super bytes;
	struct pc_super super;
	uint64_t off;

	memcpy(&bytes, image, sizeof(bytes));
	if (pc_super_decode(&bytes, &super) != PC_VALID)
		return;
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
	turn_bit(&w->run->worlds[w->depth + 1], off, pc_rng_below(&w->rng, 8), text, text_bytes);
}

/* Applies the pending stores that are kept to child->image; returns the hash of the result. */
static uint64_t apply_stores(struct crash_world *child, const struct crash_snap *snap, uint64_t hash)
{
	for (uint32_t i = 0; i < snap->store_nr; i++) {
		const struct pc_sim_store *store = &snap->stores[i];
		uint64_t old;

		if (!child->keep[i])
			continue;
		memcpy(&old, child->image + store->word * 8, 8);
		hash ^= word_hash(store->word, old) ^ word_hash(store->word, store->value);
		memcpy(child->image + store->word * 8, &store->value, 8);
	}
	return hash;
}

/* Room for what is said of the next image. */
static struct crash_world *begin_image(struct crash_world *w, const struct crash_snap *snap, bool killed)
{
	struct crash_world *child = &w->run->worlds[w->depth + 1];

	if (child->keep_max < snap->store_nr + 1) {
		child->keep_max = snap->store_nr * 2 + 64;
		child->keep = crash_must(realloc(child->keep, child->keep_max));
	}
	child->from = snap;
	child->killed = killed;
	child->bit_off = 0;
	child->disk_cut = (struct crash_disk_cut){.mb = snap->mb, .block_bytes = w->run->shape.block_bytes, .policy = 1};
	memcpy(child->image, snap->durable, w->run->shape.media_bytes);
	return child;
}

/* Recovers child->image, with the disk that child->disk_cut says, if it is a new state. */
static void recover_image(struct crash_world *child, uint64_t hash, const char *how, const char *damage)
{
	struct crash_run *run = child->run;
	const struct crash_world *w = &run->worlds[child->depth - 1];
	const struct crash_snap *snap = child->from;
	const uint32_t policy = child->disk_cut.policy;

	mem_backing_crash_image(snap->mb, crash_keep_disk_write, &child->disk_cut, child->backing_image);
	hash = pc_rng_mix(hash ^ bytes_hash(child->backing_image, mem_backing_size(snap->mb)));
	snprintf(child->state, sizeof(child->state), "%s, media %s%s; disk %s (%u pending)", snap->what, how, damage,
		 child->disk_cut.some != NULL ? "as given" :
		 policy == 0 ? "durable only" :
		 policy == 1 ? "all" : "random", mem_backing_pending_nr(snap->mb));
	if (crash_set_add(&run->images, hash))
		run->result->distinct++;
	hash = pc_rng_mix(hash + pc_oracle_changes(w->oracle) * UINT64_C(0x2545f4914f6cdd1d) + pc_rng_mix(run->op_idx * 8 + w->depth));
	if (crash_set_add(&run->states, hash))
		crash_recover_state(child, hash, child->killed ? snap : NULL);
}

/* One image of a snapshot: the nth. */
static void explore_image(struct crash_world *w, const struct crash_snap *snap, uint64_t base_hash, uint32_t nth, bool killed)
{
	struct crash_world *child = begin_image(w, snap, killed);
	const uint32_t policy = pc_rng_below(&w->rng, 4);
	char how[128] = "process killed, all stores visible";
	char damage[64] = "";
	uint64_t hash = base_hash;

	if (killed) {
		hash++;
	} else {
		child->disk_cut.policy = policy;
		choose_stores(w, snap, nth, child->keep, how, sizeof(how));
		hash = apply_stores(child, snap, hash);
		if (snap->between && !w->run->formatting && pc_rng_chance(&w->rng, 15)) {
			damage_copy(w, child->image, damage, sizeof(damage));
			hash = pc_rng_mix(hash + pc_rng_next(&w->rng));
		}
	}
	child->disk_cut.bias = 1 + pc_rng_below(&w->rng, 7);
	child->disk_cut.seed = pc_rng_next(&w->rng);
	recover_image(child, hash, how, damage);
}

/* The image that the path asks for. */
static void follow_image(struct crash_world *w, const struct crash_snap *snap)
{
	const struct pc_crash_cut *cut = &w->run->follow->cuts[w->depth];
	struct crash_world *child = begin_image(w, snap, cut->killed);
	char damage[64] = "";

	w->run->result->cuts_reached = w->depth + 1;
	if (!cut->killed) {
		child->disk_cut.some = &cut->disk;
		for (uint32_t i = 0; i < snap->store_nr; i++)
			child->keep[i] = pc_crash_some_has(&cut->words, i);
		(void)apply_stores(child, snap, 0);
		if (cut->bit_off != 0 && cut->bit_off < w->run->shape.media_bytes)
			turn_bit(child, cut->bit_off, cut->bit, damage, sizeof(damage));
	}
	recover_image(child, image_hash(child->image, w->run->shape.media_bytes) + cut->killed, cut->killed ? "process killed" : "as given", damage);
	w->run->stop = true;
}

/* Builds and recovers the images of one snapshot. */
static void explore_snap(struct crash_world *w, const struct crash_snap *snap)
{
	struct crash_run *run = w->run;
	const uint64_t base_hash = image_hash(snap->durable, run->shape.media_bytes);
	uint32_t image_nr = w->image_nr;

	if (run->follow != NULL) {
		follow_image(w, snap);
		return;
	}
	if (snap->store_nr <= 12)
		image_nr = PC_MIN(image_nr, 1u << snap->store_nr);
	if (snap->between || mem_backing_pending_nr(snap->mb) != 0)
		image_nr = PC_MAX(image_nr, 4u); /* with different damage or disks; equal ones are told by their hash */
	for (uint32_t nth = 0; nth < image_nr && !run->stop; nth++)
		explore_image(w, snap, base_hash, nth, false);
	if (!run->stop && (snap->store_nr != 0 || mem_backing_pending_nr(snap->mb) != 0) && pc_rng_chance(&w->rng, 30))
		explore_image(w, snap, base_hash, 0, true);
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
		mem_backing_destroy(w->snaps[i].mb);
		w->snaps[i].mb = NULL;
	}
}

/* A crash point between two API calls. */
void crash_between(struct crash_world *w)
{
	crash_point(w, "after the call, event", true);
	crash_call_end(w);
}
