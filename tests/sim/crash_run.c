/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One seed of the crash simulator, see crash_run.h.
 *
 * World 0 is the cache that the operations of the seed work on. Before a fence or sync, before a call of the backing, and after an API call, a
 * snapshot may be taken: the durable media, its pending stores, the disk with its pending writes. Snapshots are explored when the API call has
 * returned, since the library may hold locks in between: from each, some images are built and recovered in world 1, which works on for a few operations and
 * has its own snapshots, explored in world 2, and so on. The oracle does not change between the start of a call and the exploration, so what is accepted
 * at a snapshot is what was accepted when it was taken: the unit in flight is pending.
 *
 * All choices come from random numbers that are derived from the seed and from the number of the operation, so that leaving out an operation changes as
 * little as possible for the others: that is what makes shrinking work.
 */
#include "sim/crash_run.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/internal.h"
#include "backing/mem_backing.h"
#include "base/crc.h"
#include "format/format.h"
#include "pcache/pcache.h"
#include "sim/generator.h"
#include "sim/oracle.h"
#include "sim/sim_media.h"

#define SNAP_NR_MAX 16u
#define READ_BLK 16u

struct snap {
	char what[48]; /* "before fence 3" */
	uint32_t step; /* see crash_path.h */
	uint32_t point;
	bool between; /* no API call is running */
	uint8_t *durable;
	struct pc_sim_store *stores;
	uint32_t store_nr;
	uint32_t store_max;
	struct mem_backing *mb;
	struct pc_oracle_disk disk;
};

struct disk_cut { /* which pending writes of the disk persist */
	const struct mem_backing *mb;
	const struct pc_crash_some *some; /* these; NULL: by policy */
	uint32_t block_bytes;
	uint32_t policy;
	uint32_t bias;
	uint64_t seed;
};

struct world {
	struct run *run;
	uint32_t depth;
	struct pc_sim *sim;
	struct mem_backing *mb;
	struct pcache *cache;
	struct pc_oracle *oracle;
	struct pc_oracle_disk disk;
	struct pc_tweaks tweaks;
	struct pc_rng nonce;
	struct pc_rng rng; /* choices of crash points and images */
	struct pc_gen_memory memory;
	bool exploring;
	uint32_t point_pct; /* of the crash points that are taken */
	uint32_t image_nr; /* images of each */
	bool no_faults;
	bool faulted; /* a call of the backing failed during this API call */
	uint32_t event_nr; /* fences, syncs and backing calls of this API call */
	uint32_t step; /* see crash_path.h */
	uint32_t point_nr; /* crash points of this step so far */
	uint32_t decision_nr[128]; /* by kind, of this step */
	struct snap snaps[SNAP_NR_MAX];
	uint32_t snap_nr;
	uint32_t snap_max; /* for one API call */
	char state[512]; /* which crash image this world began with */
	char what[160]; /* what it is doing */
	uint8_t *image; /* crash image that it begins with */
	uint8_t *backing_image;
	/* How that image was made. */
	const struct snap *from;
	uint8_t *keep; /* flags of the snapshot's pending stores */
	uint32_t keep_max;
	bool killed;
	struct disk_cut disk_cut;
	uint64_t bit_off; /* damage; 0: none */
	uint32_t bit;
};

struct set { /* of hashes */
	uint64_t *slots;
	uint32_t slot_nr; /* power of two */
	uint32_t used_nr;
};

struct run {
	const struct pc_crash_settings *settings;
	struct pc_crash_result *result;
	struct pc_crash_plan *drawn; /* if the settings have no plan */
	const struct pc_crash_plan *plan;
	struct pc_gen_shape shape;
	struct pcache_config *config;
	struct pcache_config *config_read_only;
	struct world worlds[PC_CRASH_DEPTH_MAX + 1];
	struct set states; /* image, disk and what the oracle accepts */
	struct set images; /* image and disk */
	uint8_t *io; /* the whole backing, for reads and writes */
	uint8_t *seen;
	const struct pc_crash_path *follow; /* the only way to go; NULL: explore */
	struct pc_crash_course *courses; /* PC_CRASH_DEPTH_MAX + 1: what the worlds did, to be repeated */
	bool lossy; /* courses had no room for all of it */
	bool stop; /* enough states, or a violation */
	bool formatting; /* world 0 is in format */
	bool old_is_broken; /* format finds an old cache that has lost its backing */
	struct pc_oracle *old_oracle; /* of the cache that was there before format; NULL: none */
	uint32_t op_idx;
};

static struct run *current_run; /* for pc_crash_print_where */

/* --- small things --- */

static void *must(void *memory)
{
	if (memory == NULL)
		abort();
	return memory;
}

static bool set_add(struct set *set, uint64_t hash)
{
	uint32_t at;

	hash |= 1;
	if (set->used_nr * 2 >= set->slot_nr) {
		struct set larger = {.slot_nr = set->slot_nr == 0 ? 1024 : set->slot_nr * 2};

		larger.slots = must(calloc(larger.slot_nr, sizeof(*larger.slots)));
		for (uint32_t i = 0; i < set->slot_nr; i++) {
			if (set->slots[i] != 0)
				(void)set_add(&larger, set->slots[i]);
		}
		free(set->slots);
		*set = larger;
	}
	for (at = (uint32_t)(hash >> 32) & (set->slot_nr - 1); set->slots[at] != 0; at = (at + 1) & (set->slot_nr - 1)) {
		if (set->slots[at] == hash)
			return false;
	}
	set->slots[at] = hash;
	set->used_nr++;
	return true;
}

/* A block of the cache is kept as a whole, or not. */
static bool keep_disk_write(void *user, uint32_t idx)
{
	const struct disk_cut *cut = user;
	struct mem_backing_pending pending;

	mem_backing_get_pending(cut->mb, idx, &pending);
	if (cut->some != NULL)
		return pc_crash_some_has(cut->some, idx);
	if (cut->policy < 2)
		return cut->policy == 1;
	return pc_rng_mix(cut->seed ^ pc_rng_mix(pending.seq << 32 | pending.off / cut->block_bytes)) % 8 < cut->bias;
}

/* Makes the present state repeatable: see crash_path.h. */
static void note_path(struct world *w, struct pc_crash_path *path)
{
	const struct run *run = w->run;

	path->cut_nr = w->depth;
	path->lossy = run->lossy;
	memcpy(path->courses, run->courses, sizeof(path->courses));
	for (uint32_t depth = 1; depth <= w->depth; depth++) {
		const struct world *at = &run->worlds[depth];
		struct pc_crash_cut *cut = &path->cuts[depth - 1];
		const uint32_t disk_nr = mem_backing_pending_nr(at->from->mb);
		uint8_t *disk = must(calloc(1, disk_nr + 1));

		*cut = (struct pc_crash_cut){.step = at->from->step, .point = at->from->point, .killed = at->killed, .bit_off = at->bit_off, .bit = at->bit};
		for (uint32_t i = 0; i < disk_nr; i++)
			disk[i] = at->disk_cut.policy == 1 || keep_disk_write((void *)(uintptr_t)&at->disk_cut, i);
		if (!at->killed && !(pc_crash_some_set(&cut->words, at->keep, at->from->store_nr) && pc_crash_some_set(&cut->disk, disk, disk_nr)))
			path->lossy = true;
		free(disk);
	}
}

/* Notes a violation, with the path of power cuts that led to it. Only the first counts. */
static void fail(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct world *w, const char *fmt, ...)
{
	struct pc_crash_result *result = w->run->result;
	size_t used = 0;
	va_list args;

	w->run->stop = true;
	if (result->failed)
		return;
	result->failed = true;
	result->failed_op = w->run->op_idx;
	note_path(w, &result->path);
	for (uint32_t depth = 0; depth <= w->depth; depth++) {
		const struct world *at = &w->run->worlds[depth];

		if (depth > 0)
			used += (size_t)snprintf(result->text + used, sizeof(result->text) - used, "  power cut %u: %s\n", depth, at->state);
		used += (size_t)snprintf(result->text + used, sizeof(result->text) - used, "  %s\n", at->what);
	}
	used += (size_t)snprintf(result->text + used, sizeof(result->text) - used, "  WRONG: ");
	va_start(args, fmt);
	vsnprintf(result->text + used, sizeof(result->text) - used, fmt, args);
	va_end(args);
}

static void put_line(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0 || write(STDERR_FILENO, "\n", 1) < 0)
		return;
}

void pc_crash_print_where(void)
{
	const struct run *run = current_run;

	if (run == NULL)
		return;
	for (uint32_t depth = 0; depth <= run->settings->depth; depth++) {
		if (depth > 0 && run->worlds[depth].cache == NULL && run->worlds[depth].what[0] == '\0')
			break;
		put_line(run->worlds[depth].state);
		put_line(run->worlds[depth].what);
	}
}

static uint64_t draw_nonce(void *user)
{
	struct world *w = user;

	return pc_rng_next(&w->nonce);
}

/* --- snapshots --- */

static void begin_step(struct world *w, uint32_t step)
{
	w->step = step;
	w->point_nr = 0;
	memset(w->decision_nr, 0, sizeof(w->decision_nr));
}

/* Whether something happens that need not: by chance, or because the path says so. */
static bool decide(struct world *w, enum pc_crash_event_kind kind, uint32_t pct)
{
	struct run *run = w->run;
	struct pc_crash_course *course = &run->courses[w->depth];
	const uint32_t nr = ++w->decision_nr[kind];

	if (run->follow != NULL) {
		if (!pc_crash_course_has(&run->follow->courses[w->depth], (uint8_t)kind, w->step, nr))
			return false;
	} else if (!pc_rng_chance(&w->rng, pct)) {
		return false;
	}
	if (course->event_nr == PC_CRASH_EVENT_NR_MAX)
		run->lossy = true;
	else
		course->events[course->event_nr++] = (struct pc_crash_event){.kind = (uint8_t)kind, .step = w->step, .nr = nr};
	return true;
}

static void take_snap(struct world *w, const char *when, bool between)
{
	struct snap *snap;
	const size_t store_nr = pc_sim_pending_nr(w->sim);

	if (w->snap_nr >= w->snap_max)
		return;
	snap = &w->snaps[w->snap_nr++];
	snprintf(snap->what, sizeof(snap->what), "%s %u", when, w->event_nr);
	snap->between = between;
	snap->step = w->step;
	snap->point = w->point_nr;
	if (snap->durable == NULL)
		snap->durable = must(malloc(w->run->shape.media_bytes));
	memcpy(snap->durable, pc_sim_durable(w->sim), w->run->shape.media_bytes);
	if (snap->store_max < store_nr) {
		snap->store_max = (uint32_t)store_nr * 2;
		snap->stores = must(realloc(snap->stores, snap->store_max * sizeof(*snap->stores)));
	}
	for (size_t i = 0; i < store_nr; i++)
		snap->stores[i] = pc_sim_pending(w->sim, i);
	snap->store_nr = (uint32_t)store_nr;
	snap->mb = must(mem_backing_clone(w->mb));
	if (!pc_oracle_disk_copy(&snap->disk, &w->disk))
		abort();
}

static void crash_point(struct world *w, const char *when, bool between)
{
	const struct pc_crash_path *follow = w->run->follow;

	w->event_nr++;
	w->point_nr++;
	if (follow != NULL) {
		if (!w->run->stop && w->depth < follow->cut_nr && follow->cuts[w->depth].step == w->step && follow->cuts[w->depth].point == w->point_nr)
			take_snap(w, when, between);
		return;
	}
	if (w->exploring && !w->run->stop && pc_rng_chance(&w->rng, w->point_pct))
		take_snap(w, when, between);
}

static void at_fence(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	(void)sim;
	crash_point(user, event == PC_SIM_AT_FENCE ? "before fence, event" : "before sync, event", false);
}

/* Whether this call of the backing is to fail. A failed flush forgets what was pending (mem_backing does that too). */
static bool backing_fails(struct world *w, enum mem_backing_op op)
{
	if (!w->run->shape.faults || w->no_faults || !decide(w, PC_CRASH_EVENT_FAULT, op == MEM_BACKING_FLUSH ? 8 : 4))
		return false;
	w->faulted = true;
	if (op == MEM_BACKING_FLUSH)
		pc_oracle_disk_flush_failed(&w->disk);
	return true;
}

/* Every call of the backing: a crash point, and G7 is checked with it applied. */
static int at_backing(void *user, enum mem_backing_op op, uint64_t off, uint64_t len, const void *buf)
{
	struct world *w = user;
	const uint32_t block_bytes = w->run->shape.block_bytes;
	const uint32_t blk = (uint32_t)(off / block_bytes);
	const uint32_t len_blk = (uint32_t)(len / block_bytes);
	bool ok = true;

	if (op != MEM_BACKING_READ)
		crash_point(w, op == MEM_BACKING_FLUSH ? "before backing flush, event" : "before backing write, event", false);
	if (backing_fails(w, op))
		return -EIO;
	if (op == MEM_BACKING_READ)
		return 0;
	if (op == MEM_BACKING_FLUSH) {
		pc_oracle_disk_flush(&w->disk);
		return 0;
	}
	ok = pc_oracle_disk_write(w->oracle, &w->disk, blk, len_blk, op == MEM_BACKING_WRITE ? buf : NULL);
	if (ok && w->run->shape.write_through)
		pc_oracle_disk_flush(&w->disk);
	if (ok)
		ok = pc_oracle_check_backing(w->oracle, &w->disk);
	if (!ok)
		fail(w, "backing write [%u,+%u): %s", blk, len_blk, pc_oracle_text(w->oracle));
	return 0;
}

/* --- images --- */

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
static uint32_t number_lines(const struct snap *snap, uint16_t *line_of)
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
static void choose_stores(struct world *w, const struct snap *snap, uint32_t nth, uint8_t *keep, char *text, size_t text_bytes)
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

static void recover_state(struct world *child, uint64_t key, const struct snap *killed);

static void turn_bit(struct world *child, uint64_t off, uint32_t bit, char *text, size_t text_bytes)
{
	child->image[off] ^= (uint8_t)(1u << bit);
	child->bit_off = off;
	child->bit = bit;
	snprintf(text, text_bytes, "; a bit of byte %llu turned", (unsigned long long)off);
}

/* Damages one copy of some metadata record; each has two, and no record is being changed. */
static void damage_copy(struct world *w, const uint8_t *image, char *text, size_t text_bytes)
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
static uint64_t apply_stores(struct world *child, const struct snap *snap, uint64_t hash)
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
static struct world *begin_image(struct world *w, const struct snap *snap, bool killed)
{
	struct world *child = &w->run->worlds[w->depth + 1];

	if (child->keep_max < snap->store_nr + 1) {
		child->keep_max = snap->store_nr * 2 + 64;
		child->keep = must(realloc(child->keep, child->keep_max));
	}
	child->from = snap;
	child->killed = killed;
	child->bit_off = 0;
	child->disk_cut = (struct disk_cut){.mb = snap->mb, .block_bytes = w->run->shape.block_bytes, .policy = 1};
	memcpy(child->image, snap->durable, w->run->shape.media_bytes);
	return child;
}

/* Recovers child->image, with the disk that child->disk_cut says, if it is a new state. */
static void recover_image(struct world *child, uint64_t hash, const char *how, const char *damage)
{
	struct run *run = child->run;
	const struct world *w = &run->worlds[child->depth - 1];
	const struct snap *snap = child->from;
	const uint32_t policy = child->disk_cut.policy;

	mem_backing_crash_image(snap->mb, keep_disk_write, &child->disk_cut, child->backing_image);
	hash = pc_rng_mix(hash ^ bytes_hash(child->backing_image, mem_backing_size(snap->mb)));
	snprintf(child->state, sizeof(child->state), "%s, media %s%s; disk %s (%u pending)", snap->what, how, damage,
		 child->disk_cut.some != NULL ? "as given" :
		 policy == 0 ? "durable only" :
		 policy == 1 ? "all" : "random", mem_backing_pending_nr(snap->mb));
	if (set_add(&run->images, hash))
		run->result->distinct++;
	hash = pc_rng_mix(hash + pc_oracle_changes(w->oracle) * UINT64_C(0x2545f4914f6cdd1d) + pc_rng_mix(run->op_idx * 8 + w->depth));
	if (set_add(&run->states, hash))
		recover_state(child, hash, child->killed ? snap : NULL);
}

/* One image of a snapshot: the nth. */
static void explore_image(struct world *w, const struct snap *snap, uint64_t base_hash, uint32_t nth, bool killed)
{
	struct world *child = begin_image(w, snap, killed);
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
static void follow_image(struct world *w, const struct snap *snap)
{
	const struct pc_crash_cut *cut = &w->run->follow->cuts[w->depth];
	struct world *child = begin_image(w, snap, cut->killed);
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
static void explore_snap(struct world *w, const struct snap *snap)
{
	struct run *run = w->run;
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

static void call_begin(struct world *w)
{
	w->event_nr = 0;
	w->faulted = false;
}

/* The API call has returned, the oracle is as it was before: now explore what was snapped. */
static void call_end(struct world *w)
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
static void crash_between(struct world *w)
{
	crash_point(w, "after the call, event", true);
	call_end(w);
}

/* --- operations --- */

static const char *error_text(int rc)
{
	return pcache_strerror(rc);
}

static void check_runtime(struct world *w)
{
	const char *wrong = pc_cache_check(w->cache);

	if (wrong != NULL)
		fail(w, "invariant of the run-time state: %s", wrong);
}

/* An error of the backing may come through if there was one. */
static bool may_fail(const struct world *w, int rc)
{
	return w->faulted && rc == -EIO;
}

static int try_open(struct world *w, const struct pcache_config *config)
{
	struct pcache_backing *backing = must(mem_backing_attach(w->mb));
	int rc;

	call_begin(w);
	rc = pc_cache_open_media(pc_sim_media(w->sim), config, &w->tweaks, backing, &w->cache);
	call_end(w);
	if (rc != 0) {
		w->cache = NULL;
		pcache_backing_free(backing);
	}
	return rc;
}

/* Opens the media that the world holds. */
static bool open_cache(struct world *w)
{
	int rc = try_open(w, w->run->config);

	if (may_fail(w, rc) && !w->run->stop) {
		w->no_faults = true;
		rc = try_open(w, w->run->config);
		w->no_faults = false;
	}
	if (rc != 0) {
		fail(w, "open gives %d: %s", rc, error_text(rc));
		return false;
	}
	if (!w->run->stop)
		check_runtime(w);
	return !w->run->stop;
}

static bool read_all(struct world *w, uint8_t *to)
{
	const struct pc_gen_shape *shape = &w->run->shape;

	w->no_faults = true;
	for (uint32_t blk = 0; blk < shape->backing_blk; blk += READ_BLK) {
		const uint32_t len_blk = PC_MIN(READ_BLK, shape->backing_blk - blk);
		const int rc = pcache_read(w->cache, to + (size_t)blk * shape->block_bytes, (uint64_t)blk * shape->block_bytes,
					   (uint64_t)len_blk * shape->block_bytes, PCACHE_NOCACHE);

		if (rc != 0) {
			fail(w, "read [%u,+%u) gives %d: %s", blk, len_blk, rc, error_text(rc));
			return false;
		}
	}
	w->no_faults = false;
	return true;
}

static bool check_all_live(struct world *w)
{
	const struct pc_gen_shape *shape = &w->run->shape;

	if (!read_all(w, w->run->seen))
		return false;
	for (uint32_t blk = 0; blk < shape->backing_blk; blk++) {
		if (!pc_oracle_check_live(w->oracle, blk, w->run->seen + (size_t)blk * shape->block_bytes)) {
			fail(w, "%s", pc_oracle_text(w->oracle));
			return false;
		}
	}
	return true;
}

static void do_flush(struct world *w)
{
	int rc;

	call_begin(w);
	rc = pcache_flush(w->cache);
	call_end(w);
	if (rc != 0)
		fail(w, "flush gives %d: %s", rc, error_text(rc));
	else
		pc_oracle_flushed(w->oracle, true);
}

static void do_drain(struct world *w)
{
	int rc;

	call_begin(w);
	rc = pcache_drain(w->cache, NULL, NULL);
	call_end(w);
	if (may_fail(w, rc))
		return;
	if (rc != 0) {
		fail(w, "drain gives %d: %s", rc, error_text(rc));
		return;
	}
	pc_oracle_flushed(w->oracle, false);
	if (!w->run->stop && !pc_oracle_drained(w->oracle, &w->disk))
		fail(w, "%s", pc_oracle_text(w->oracle));
}

static void do_maintain(struct world *w, uint32_t steps)
{
	int rc;

	call_begin(w);
	rc = pcache_maintain(w->cache, steps);
	call_end(w);
	if (rc < 0 && !may_fail(w, rc))
		fail(w, "maintain gives %d: %s", rc, error_text(rc));
}

static void do_step(struct world *w, enum pc_step step, bool force)
{
	int rc;

	call_begin(w);
	rc = pc_cache_step(w->cache, step, force);
	call_end(w);
	if (rc < 0 && !may_fail(w, rc))
		fail(w, "step %d gives %d: %s", (int)step, rc, error_text(rc));
}

static void do_reopen(struct world *w)
{
	int rc;

	call_begin(w);
	rc = pcache_close(w->cache);
	w->cache = NULL;
	call_end(w);
	if (rc != 0) {
		fail(w, "close gives %d: %s", rc, error_text(rc));
		return;
	}
	pc_oracle_flushed(w->oracle, false);
	crash_between(w);
	pc_sim_reopen(w->sim);
	if (w->run->stop || !open_cache(w))
		return;
	(void)check_all_live(w);
}

static void do_read(struct world *w, const struct pc_gen_op *op)
{
	const uint32_t block_bytes = w->run->shape.block_bytes;
	const struct pc_gen_range *range = &op->ranges[0];
	int rc;

	call_begin(w);
	rc = pcache_read(w->cache, w->run->io, (uint64_t)range->blk * block_bytes, (uint64_t)range->len_blk * block_bytes, op->arg);
	if (rc != 0 && !may_fail(w, rc))
		fail(w, "read gives %d: %s", rc, error_text(rc));
	for (uint32_t i = 0; i < range->len_blk && rc == 0; i++) {
		if (!pc_oracle_check_live(w->oracle, range->blk + i, w->run->io + (size_t)i * block_bytes)) {
			fail(w, "%s", pc_oracle_text(w->oracle));
			break;
		}
	}
	call_end(w);
}

/* A write that was cut into pieces failed in the middle: finds out which blocks it changed. */
static void resolve_pieces(struct world *w, const struct pc_gen_op *op)
{
	const uint32_t block_bytes = w->run->shape.block_bytes;

	if (!read_all(w, w->run->seen))
		return;
	for (uint32_t i = op->ranges[0].blk; i < op->ranges[0].blk + op->ranges[0].len_blk; i++) {
		const struct pc_seen seen = pc_oracle_look(w->oracle, i, w->run->seen + (size_t)i * block_bytes);
		const struct pc_seen newest = pc_oracle_newest(w->oracle, i);

		pc_oracle_resolve(w->oracle, i, seen.kind == newest.kind && seen.version == newest.version);
	}
}

/* Calls the library for one unit. */
static int call_unit(struct world *w, const struct pc_gen_op *op, uint32_t flags)
{
	const uint64_t block_bytes = w->run->shape.block_bytes;
	const struct pc_gen_range *first = &op->ranges[0];
	struct pcache_range ranges[PC_GEN_RANGE_NR_MAX];
	uint8_t *io = w->run->io;

	for (uint32_t i = 0; i < op->range_nr; i++) {
		const struct pc_gen_range *range = &op->ranges[i];
		const uint32_t version = pc_oracle_next_version(w->oracle);
		const bool zero = op->kind == PC_GEN_DISCARD || op->kind == PC_GEN_ZEROES;

		pc_oracle_put(w->oracle, range->blk, range->len_blk, version, zero);
		ranges[i] = (struct pcache_range){.buf = io, .off = range->blk * block_bytes, .len = range->len_blk * block_bytes};
		if (zero)
			continue;
		pc_oracle_fill(w->oracle, io, range->blk, range->len_blk, version);
		io += range->len_blk * block_bytes;
	}
	call_begin(w);
	switch (op->kind) {
	case PC_GEN_BATCH:
		return pcache_write_batch(w->cache, ranges, op->range_nr, flags);
	case PC_GEN_DISCARD:
		return pcache_discard(w->cache, first->blk * block_bytes, first->len_blk * block_bytes, flags);
	case PC_GEN_ZEROES:
		return pcache_write_zeroes(w->cache, first->blk * block_bytes, first->len_blk * block_bytes, flags);
	default:
		return pcache_write(w->cache, w->run->io, first->blk * block_bytes, first->len_blk * block_bytes, flags);
	}
}

/* One unit: 0, or the error of the library, if it is one that may come. */
static int do_unit(struct world *w, const struct pc_gen_op *op, uint32_t flags)
{
	const bool zero = op->kind == PC_GEN_DISCARD || op->kind == PC_GEN_ZEROES;
	/* A discard is cut where a write of its length would not be: after a stripe of each shard. */
	const uint64_t zero_max = (uint64_t)w->run->shape.stripe_bytes * w->run->shape.shard_nr;
	const uint64_t atomic_max = zero ? zero_max : pcache_atomic_write_max(w->cache);
	uint64_t len_bytes = 0;
	bool atomic;
	int rc;

	for (uint32_t i = 0; i < op->range_nr; i++)
		len_bytes += (uint64_t)op->ranges[i].len_blk * w->run->shape.block_bytes;
	atomic = len_bytes <= atomic_max;
	pc_oracle_begin(w->oracle, atomic || op->kind == PC_GEN_BATCH);
	rc = call_unit(w, op, flags);
	call_end(w);
	if (w->run->stop)
		return rc;
	if (op->kind == PC_GEN_BATCH && !atomic) {
		if (rc != PCACHE_E_TOO_BIG)
			fail(w, "a batch of %llu bytes, above the maximum of %llu, gives %d", (unsigned long long)len_bytes,
			     (unsigned long long)atomic_max, rc);
		pc_oracle_end(w->oracle, false, false);
		return 0;
	}
	/* maintenance=caller: who writes into a full cache runs write-back himself, and meets its errors. */
	if (rc != 0 && rc != PCACHE_E_FULL && !may_fail(w, rc)) {
		fail(w, "gives %d: %s", rc, error_text(rc));
		return rc;
	}
	if (rc != 0 && !atomic) {
		resolve_pieces(w, op);
		pc_oracle_end(w->oracle, true, false);
	} else {
		pc_oracle_end(w->oracle, rc == 0, (flags & PCACHE_DURABLE) != 0);
	}
	return rc;
}

/* A write; if the cache is full, it must fit once everything was drained and background work had its turn. */
static void do_write(struct world *w, const struct pc_gen_op *op)
{
	uint32_t flags = op->kind == PC_GEN_DURABLE || (op->kind == PC_GEN_BATCH && op->arg != 0) ? PCACHE_DURABLE : 0;
	int rc;

	if (op->kind == PC_GEN_WRITE && op->arg != 0)
		flags |= PCACHE_NOWAIT;
	if (pc_oracle_pending_nr(w->oracle) > PC_ORACLE_PENDING_MAX - 4)
		do_flush(w);
	if (w->run->stop)
		return;
	rc = do_unit(w, op, flags);
	if (rc != PCACHE_E_FULL || w->run->stop || !decide(w, PC_CRASH_EVENT_RETRY, 40))
		return;
	crash_between(w);
	w->no_faults = true;
	do_drain(w);
	if (!w->run->stop)
		do_maintain(w, 0);
	if (!w->run->stop)
		rc = do_unit(w, op, flags & ~PCACHE_NOWAIT);
	w->no_faults = false;
	if (w->run->stop)
		return;
	if (rc == PCACHE_E_FULL)
		fail(w, "no progress: still full after drain and maintenance");
}

static void do_op(struct world *w, const struct pc_gen_op *op)
{
	switch (op->kind) {
	case PC_GEN_FLUSH:
		do_flush(w);
		break;
	case PC_GEN_READ:
		do_read(w, op);
		break;
	case PC_GEN_WRITEBACK:
		do_step(w, PC_STEP_WRITEBACK, op->arg != 0);
		break;
	case PC_GEN_EVICT:
		do_step(w, PC_STEP_EVICT, op->arg != 0);
		break;
	case PC_GEN_CLEAN:
		do_step(w, PC_STEP_CLEAN, op->arg != 0);
		break;
	case PC_GEN_MAINTAIN:
		do_maintain(w, op->arg);
		break;
	case PC_GEN_DRAIN:
		do_drain(w);
		break;
	case PC_GEN_REOPEN:
		do_reopen(w);
		break;
	default:
		do_write(w, op);
		break;
	}
	if (!w->run->stop)
		crash_between(w);
	if (!w->run->stop && (w->run->follow != NULL || pc_rng_chance(&w->rng, 15)))
		check_runtime(w);
}

/* --- recovery of one crash state --- */

/* The operation of a world after a power cut that comes next. False: there is none. */
static bool next_op(struct world *w, uint32_t i, uint32_t op_nr, struct pc_gen_op *out_op)
{
	const struct pc_crash_path *follow = w->run->follow;
	struct pc_crash_course *course = &w->run->courses[w->depth];

	if (i >= (follow != NULL ? follow->courses[w->depth].op_nr : op_nr))
		return false;
	if (follow != NULL)
		*out_op = follow->courses[w->depth].ops[i];
	else
		pc_gen_op(&w->rng, &w->run->shape, &w->memory, out_op);
	course->ops[course->op_nr++] = *out_op;
	return true;
}

static void work_on(struct world *w)
{
	const uint32_t op_nr = 1 + pc_rng_below(&w->rng, 6);
	struct pc_gen_op op;
	uint32_t done_nr;

	for (done_nr = 0; !w->run->stop && next_op(w, done_nr, op_nr, &op); done_nr++) {
		char text[128];

		begin_step(w, done_nr + 1);
		pc_gen_op_to_text(&op, text, sizeof(text));
		snprintf(w->what, sizeof(w->what), "then, operation %u: %s", done_nr, text);
		if (w->run->settings->trace)
			fprintf(stderr, "%*s%s\n", (int)w->depth * 4, "", w->what);
		do_op(w, &op);
	}
	if (w->run->stop)
		return;
	begin_step(w, done_nr + 1);
	snprintf(w->what, sizeof(w->what), "then, after %u operations, everything is read", done_nr);
	if (check_all_live(w) && decide(w, PC_CRASH_EVENT_DRAIN, 30)) {
		snprintf(w->what, sizeof(w->what), "then, after %u operations, drain", done_nr);
		do_drain(w);
	}
}

/* A power cut in format: there is no cache, the old one, or the new one. */
static void check_half_formatted(struct world *child)
{
	struct run *run = child->run;
	const int rc = try_open(child, run->config);
	bool is_new = true;

	if (rc == PCACHE_E_NOT_A_CACHE)
		return;
	if (rc != 0) {
		fail(child, "open after a power cut in format gives %d: %s", rc, error_text(rc));
		return;
	}
	check_runtime(child);
	if (run->stop || !read_all(child, run->seen))
		return;
	for (uint32_t blk = 0; blk < run->shape.backing_blk; blk++) {
		const struct pc_seen seen = pc_oracle_look(child->oracle, blk, run->seen + (size_t)blk * run->shape.block_bytes);

		is_new &= seen.kind == PC_SEEN_DATA && seen.version == 1;
	}
	if (is_new || (run->old_oracle != NULL && pc_oracle_copy(child->oracle, run->old_oracle) && pc_oracle_recover(child->oracle, run->seen)))
		return;
	fail(child, "after a power cut in format: neither the new cache nor the old one: %s", pc_oracle_text(child->oracle));
}

/* A read-only open stores nothing, and shows what may be there, or says that recovery comes first. */
static bool check_read_only(struct world *child)
{
	struct run *run = child->run;
	const uint64_t copies = pc_sim_counts(child->sim).copies;
	struct pc_oracle *oracle;
	int rc;

	child->no_faults = true;
	rc = try_open(child, run->config_read_only);
	child->no_faults = false;
	if (rc == PCACHE_E_READ_ONLY)
		return true;
	if (rc != 0) {
		fail(child, "read-only open gives %d: %s", rc, error_text(rc));
		return false;
	}
	if (!read_all(child, run->seen))
		return false;
	oracle = must(pc_oracle_clone(child->oracle));
	if (!pc_oracle_recover(oracle, run->seen))
		fail(child, "read-only: %s", pc_oracle_text(oracle));
	pc_oracle_free(oracle);
	pc_cache_abandon(child->cache);
	child->cache = NULL;
	pc_sim_reopen(child->sim);
	if (pc_sim_counts(child->sim).copies != copies)
		fail(child, "a read-only open has stored to the media");
	return !run->stop;
}

static void check_recovered(struct world *child)
{
	struct run *run = child->run;

	if (!pc_oracle_check_backing(child->oracle, &child->disk)) {
		fail(child, "%s", pc_oracle_text(child->oracle));
		return;
	}
	if (decide(child, PC_CRASH_EVENT_PROBE, 8) && !check_read_only(child))
		return;
	if (!open_cache(child) || !read_all(child, run->seen))
		return;
	if (!pc_oracle_recover(child->oracle, run->seen)) {
		fail(child, "%s", pc_oracle_text(child->oracle));
		return;
	}
	pc_oracle_flushed(child->oracle, true); /* what an open shows is an epoch of its own */
	crash_between(child);
	if (!run->stop && (run->follow != NULL || child->exploring || pc_rng_chance(&child->rng, 35)))
		work_on(child);
}

/* Puts the child into the state of child->image and child->backing_image; killed: with the stores of that snapshot in the processor's caches. */
static void load_state(struct world *child, uint64_t key, const struct snap *killed)
{
	const struct run *run = child->run;
	const struct world *above = &run->worlds[child->depth - 1];
	const struct pc_crash_settings *settings = run->settings;

	pc_sim_reset(child->sim, child->image);
	for (uint32_t i = 0; killed != NULL && i < killed->store_nr; i++)
		pc_sim_store_orphan(child->sim, killed->stores[i]);
	if (!pc_oracle_copy(child->oracle, above->oracle))
		abort();
	if (killed != NULL) {
		/* The disk goes on as it was, with what it has not made durable yet. */
		mem_backing_destroy(child->mb);
		child->mb = must(mem_backing_clone(killed->mb));
		mem_backing_observe(child->mb, at_backing, child);
		if (!pc_oracle_disk_copy(&child->disk, &killed->disk))
			abort();
	} else {
		mem_backing_load(child->mb, child->backing_image);
		pc_oracle_disk_load(child->oracle, &child->disk, child->backing_image);
	}
	child->nonce.state = pc_rng_mix(key + 1);
	child->rng.state = pc_rng_mix(key + 2);
	child->memory = above->memory;
	child->no_faults = run->formatting;
	child->snap_nr = 0;
	begin_step(child, 0);
	run->courses[child->depth].op_nr = 0;
	run->courses[child->depth].event_nr = 0;
	child->exploring = child->depth < settings->depth && (settings->thorough || pc_rng_chance(&child->rng, killed != NULL ? 60 : 22));
	child->point_pct = settings->thorough ? 100 : 35;
	child->image_nr = settings->thorough ? 16 : 4;
	child->snap_max = settings->thorough ? SNAP_NR_MAX : 5;
	pc_sim_crash_at(child->sim, 0, at_fence, child);
	snprintf(child->what, sizeof(child->what), "open after the power cut");
}

/* child->image and child->backing_image are set; the world above says what is accepted. */
static void recover_state(struct world *child, uint64_t key, const struct snap *killed)
{
	struct run *run = child->run;
	const struct pc_crash_settings *settings = run->settings;

	run->result->states++;
	run->result->depth = PC_MAX(run->result->depth, child->depth);
	if (settings->trace)
		fprintf(stderr, "%*spower cut %u: %s\n", (int)child->depth * 4 - 2, "", child->depth, child->state);
	load_state(child, key, killed);
	if (run->formatting)
		check_half_formatted(child);
	else
		check_recovered(child);
	if (child->cache != NULL)
		pc_cache_abandon(child->cache);
	child->cache = NULL;
	child->what[0] = '\0';
	if (settings->states_max != 0 && run->result->states >= settings->states_max)
		run->stop = true;
}

/* --- one seed --- */

static bool world_init(struct run *run, uint32_t depth)
{
	const struct pc_gen_shape *shape = &run->shape;
	struct world *w = &run->worlds[depth];
	const struct pc_oracle_options oracle_options = {.block_nr = shape->backing_blk,
							 .block_bytes = shape->block_bytes,
							 .commit_flush = shape->commit_flush,
							 .order_batch = shape->order_batch};
	const struct mem_backing_options backing_options = {.size_bytes = (uint64_t)shape->backing_blk * shape->block_bytes,
							    .block_bytes = shape->block_bytes,
							    .write_through = shape->write_through,
							    .failed_flush_drops = true};

	w->run = run;
	w->depth = depth;
	pc_oracle_disk_init(&w->disk);
	w->tweaks = (struct pc_tweaks){.shard_nr = shape->shard_nr,
				       .stripe_bytes = shape->stripe_bytes,
				       .data_head_nr = shape->data_head_nr,
				       .kset_max_keys = shape->kset_max_keys,
				       .nonce = draw_nonce,
				       .nonce_user = w};
	w->oracle = must(pc_oracle_new(&oracle_options));
	w->mb = must(mem_backing_create(&backing_options));
	mem_backing_observe(w->mb, at_backing, w);
	w->image = must(malloc(shape->media_bytes));
	w->backing_image = must(malloc(backing_options.size_bytes));
	if (pc_sim_new(shape->media_bytes, shape->page ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE, 0, &w->sim) != 0)
		return false;
	pc_sim_skip_site(w->sim, run->settings->skip_site);
	return true;
}

/* Adds the places that called flush, fence or sync to the result. */
static void collect_sites(const struct world *w, struct pc_crash_result *result)
{
	static const char *const ops[] = {[PC_SIM_OP_FLUSH] = "flush", [PC_SIM_OP_FENCE] = "fence", [PC_SIM_OP_SYNC] = "sync"};

	for (size_t i = 0; i < pc_sim_site_nr(w->sim); i++) {
		const struct pc_sim_site site = pc_sim_site(w->sim, i);
		uint32_t at = 0;

		while (at < result->site_nr && result->sites[at].address != site.address)
			at++;
		if (at == PC_CRASH_SITE_NR_MAX)
			continue;
		if (at == result->site_nr)
			result->sites[result->site_nr++] = (struct pc_crash_site){.address = site.address, .op = ops[site.op]};
		result->sites[at].calls += site.calls;
	}
}

static void world_fini(struct world *w)
{
	if (w->cache != NULL)
		pc_cache_abandon(w->cache);
	for (uint32_t i = 0; i < SNAP_NR_MAX; i++) {
		free(w->snaps[i].durable);
		free(w->snaps[i].stores);
		mem_backing_destroy(w->snaps[i].mb);
		pc_oracle_disk_fini(&w->snaps[i].disk);
	}
	pc_sim_free(w->sim);
	mem_backing_destroy(w->mb);
	pc_oracle_free(w->oracle);
	pc_oracle_disk_fini(&w->disk);
	free(w->image);
	free(w->backing_image);
	free(w->keep);
}

static void set_option(struct run *run, int option, uint64_t value)
{
	if (pcache_config_set(run->config, option, value) != 0 || pcache_config_set(run->config_read_only, option, value) != 0)
		abort();
}

static void config_init(struct run *run)
{
	const struct pc_gen_shape *shape = &run->shape;

	if (pcache_config_new(&run->config) != 0 || pcache_config_new(&run->config_read_only) != 0)
		abort();
	set_option(run, PCACHE_OPT_BLOCK_BYTES, shape->block_bytes);
	set_option(run, PCACHE_OPT_SEGMENT_BYTES, shape->segment_bytes);
	set_option(run, PCACHE_OPT_DATA_CRC, shape->data_crc);
	set_option(run, PCACHE_OPT_GC_PERCENT, shape->gc_pct);
	set_option(run, PCACHE_OPT_ORDERING, shape->order_batch ? PCACHE_ORDERING_BATCH : PCACHE_ORDERING_STRICT);
	set_option(run, PCACHE_OPT_COMMIT, shape->commit_flush ? PCACHE_COMMIT_FLUSH : PCACHE_COMMIT_WRITE);
	set_option(run, PCACHE_OPT_COMMIT_GUARD, shape->guard_fence);
	set_option(run, PCACHE_OPT_READ_CACHE, shape->read_cache);
	set_option(run, PCACHE_OPT_MAINTENANCE, PCACHE_MAINTENANCE_CALLER);
	set_option(run, PCACHE_OPT_FULL_POLICY, shape->full_error);
	set_option(run, PCACHE_OPT_WRITEBACK_DELAY_MS, 0); /* no clock */
	if (pcache_config_set(run->config_read_only, PCACHE_OPT_READ_ONLY, 1) != 0)
		abort();
}

static bool do_format(struct world *w)
{
	struct pcache_backing *backing = must(mem_backing_attach(w->mb));
	int rc;

	call_begin(w);
	rc = pc_cache_format_media(pc_sim_media(w->sim), w->run->config, &w->tweaks, backing);
	call_end(w);
	pcache_backing_free(backing);
	if (rc != 0)
		fail(w, "format gives %d: %s", rc, error_text(rc));
	return rc == 0 && !w->run->stop;
}

/* Leaves an older cache with dirty data on the media. It never reaches the backing. */
static bool make_old_cache(struct world *w)
{
	const struct pc_crash_plan *plan = w->run->plan;
	struct pc_oracle *oracle = w->oracle;

	snprintf(w->what, sizeof(w->what), "older cache");
	if (!do_format(w) || !open_cache(w))
		return false;
	w->oracle = must(pc_oracle_clone(oracle));
	for (uint32_t i = 0; i < plan->old_op_nr && !w->run->stop; i++) {
		pc_gen_remember(&w->memory, &plan->old_ops[i]);
		if (plan->old_ops[i].kind <= PC_GEN_ZEROES || !plan->old_only_writes)
			do_op(w, &plan->old_ops[i]);
	}
	if (!w->run->stop)
		do_flush(w);
	pc_cache_abandon(w->cache);
	w->cache = NULL;
	pc_sim_reopen(w->sim);
	w->run->old_oracle = w->oracle;
	w->oracle = oracle;
	while (pc_oracle_next_version(oracle) < 1000)
		; /* the old versions are never given again */
	/* Writes of a full cache may have run write-back; on a fresh backing the old cache is then no whole state any more. */
	if (memcmp(mem_backing_live(w->mb), w->backing_image, mem_backing_size(w->mb)) != 0)
		w->run->old_is_broken = true;
	mem_backing_load(w->mb, w->backing_image);
	pc_oracle_disk_load(w->oracle, &w->disk, w->backing_image);
	w->disk.pending_nr = 0;
	return !w->run->stop;
}

/* Formats world 0 and opens it. */
static bool first_open(struct run *run)
{
	struct world *w = &run->worlds[0];

	pc_oracle_fill(w->oracle, w->backing_image, 0, run->shape.backing_blk, 1);
	mem_backing_load(w->mb, w->backing_image);
	pc_oracle_disk_load(w->oracle, &w->disk, w->backing_image);
	w->no_faults = true;
	if (run->shape.old_cache && !make_old_cache(w))
		return false;
	snprintf(w->what, sizeof(w->what), "format");
	w->rng.state = pc_rng_mix(run->settings->seed + 13);
	w->exploring = run->settings->seed % 4 == 0 && !run->old_is_broken;
	w->point_pct = 100;
	w->image_nr = 10;
	w->snap_max = SNAP_NR_MAX;
	run->formatting = true;
	if (!do_format(w))
		return false;
	run->formatting = false;
	w->image_nr = 40;
	crash_between(w); /* from here on there is the new cache, and nothing else */
	if (run->stop)
		return false;
	snprintf(w->what, sizeof(w->what), "first open");
	if (!open_cache(w))
		return false;
	w->no_faults = false;
	w->exploring = false;
	return check_all_live(w);
}

static void run_op(struct run *run, uint32_t i, uint32_t point_pct)
{
	const struct pc_crash_settings *settings = run->settings;
	const struct pc_gen_op *op = &run->plan->ops[i];
	struct world *w = &run->worlds[0];
	char text[128];

	run->op_idx = i;
	begin_step(w, i + 1);
	pc_gen_op_to_text(op, text, sizeof(text));
	snprintf(w->what, sizeof(w->what), "operation %u: %s", i, text);
	if (settings->trace)
		fprintf(stderr, "%s\n", w->what);
	w->rng.state = pc_rng_mix(settings->seed ^ pc_rng_mix(op->nr != 0 ? op->nr : i));
	w->exploring = i >= run->shape.warm_nr && settings->depth > 0;
	w->point_pct = point_pct;
	w->image_nr = settings->thorough ? 64 : pc_rng_chance(&w->rng, 4) ? 200 : 10;
	w->snap_max = settings->thorough ? SNAP_NR_MAX : 8;
	do_op(w, op);
}

static void run_ops(struct run *run)
{
	const struct pc_crash_settings *settings = run->settings;
	struct world *w = &run->worlds[0];
	const uint32_t op_nr = run->plan->op_nr;
	const uint32_t limit = settings->op_limit == 0 ? op_nr : PC_MIN(op_nr, settings->op_limit);
	static const uint32_t pcts[] = {12, 25, 50, 100};
	const uint32_t point_pct = settings->thorough ? 100 : pcts[pc_rng_mix(settings->seed) % PC_ARRAY_NR(pcts)];

	for (uint32_t i = 0; i < limit && !run->stop; i++) {
		pc_gen_remember(&w->memory, &run->plan->ops[i]);
		if (settings->skip == NULL || !settings->skip[i])
			run_op(run, i, point_pct);
	}
	if (run->stop || limit < op_nr)
		return;
	begin_step(w, limit + 1);
	snprintf(w->what, sizeof(w->what), "at the end");
	w->exploring = false;
	w->no_faults = true;
	if (check_all_live(w))
		do_drain(w);
	if (!run->stop)
		do_reopen(w);
}

void pc_crash_run(const struct pc_crash_settings *settings, struct pc_crash_result *out_result)
{
	struct run *run = must(calloc(1, sizeof(*run)));
	size_t backing_bytes;

	memset(out_result, 0, offsetof(struct pc_crash_result, path));
	run->settings = settings;
	run->result = out_result;
	run->plan = settings->plan;
	if (run->plan == NULL) {
		run->drawn = must(malloc(sizeof(*run->drawn)));
		pc_gen_plan(settings->seed, run->drawn);
		run->plan = run->drawn;
	}
	run->shape = run->plan->shape;
	run->follow = settings->path;
	run->courses = must(calloc(PC_CRASH_DEPTH_MAX + 1, sizeof(*run->courses)));
	out_result->op_nr = run->plan->op_nr;
	backing_bytes = (size_t)run->shape.backing_blk * run->shape.block_bytes;
	run->io = must(malloc(backing_bytes * PC_GEN_RANGE_NR_MAX));
	run->seen = must(malloc(backing_bytes));
	config_init(run);
	current_run = run;
	for (uint32_t depth = 0; depth <= settings->depth; depth++) {
		if (!world_init(run, depth))
			abort();
	}
	run->worlds[0].nonce.state = pc_rng_mix(settings->seed + 1);
	pc_sim_crash_at(run->worlds[0].sim, 0, at_fence, &run->worlds[0]);
	if (first_open(run))
		run_ops(run);
	current_run = NULL;
	for (uint32_t depth = 0; depth <= settings->depth; depth++) {
		collect_sites(&run->worlds[depth], out_result);
		world_fini(&run->worlds[depth]);
	}
	pc_oracle_free(run->old_oracle);
	pcache_config_free(run->config);
	pcache_config_free(run->config_read_only);
	free(run->states.slots);
	free(run->images.slots);
	free(run->io);
	free(run->seen);
	free(run->courses);
	free(run->drawn);
	free(run);
}

void pc_crash_shape_text(uint64_t seed, char *text, size_t text_bytes)
{
	struct pc_rng rng = {pc_rng_mix(seed)};
	struct pc_gen_shape shape;

	pc_gen_shape(&rng, &shape);
	pc_gen_shape_to_text(&shape, text, text_bytes);
}

void pc_crash_print_plan(const struct pc_crash_settings *settings)
{
	struct pc_crash_plan *drawn = NULL;
	const struct pc_crash_plan *plan = settings->plan;
	char text[512];
	uint32_t limit;

	if (plan == NULL) {
		drawn = must(malloc(sizeof(*drawn)));
		pc_gen_plan(settings->seed, drawn);
		plan = drawn;
	}
	pc_gen_shape_to_text(&plan->shape, text, sizeof(text));
	fprintf(stderr, "seed %llu: %s\n", (unsigned long long)settings->seed, text);
	limit = settings->op_limit == 0 ? plan->op_nr : PC_MIN(plan->op_nr, settings->op_limit);
	for (uint32_t i = 0; i < limit; i++) {
		if (settings->skip != NULL && settings->skip[i])
			continue;
		pc_gen_op_to_text(&plan->ops[i], text, sizeof(text));
		fprintf(stderr, "  %3u %s\n", i, text);
	}
	free(drawn);
}
