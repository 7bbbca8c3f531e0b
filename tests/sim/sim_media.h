/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Simulated media: a struct pc_media in memory that knows, word by word, what a power cut may leave behind.
 *
 *     view      what the library sees through media->base. The library's mapping is read-only, so a stray store faults.
 *     durable   what has surely reached the media.
 *     pending   the stores in between, in the order they were made: (8-byte word, value, threads whose fence makes it durable).
 *
 * copy() stores into the view and makes its words pending for this thread; a word that already is durable with the same value, and has no store
 * pending, is left out (nothing can be lost). flush() makes every pending word of its cache lines pending for this thread too. fence() makes durable
 * what is pending for this thread. At page granularity fence and flush do nothing, and sync() makes everything durable that was stored before it began.
 *
 * Byte granularity (eADR): the caches survive a power cut, so what others can see is durable, stores of a dead process too. Copies are non-temporal, as media.h says: until
 * its fence they are in the thread's own buffers, so the library owes the same fences as at cache-line granularity. A processor that reorders nothing leaves a front
 * part of the stores, torn between two words (PC_SIM_PREFIX); any subset is what the instructions allow.
 *
 * A crash image is durable plus ANY subset of the pending stores, applied in order: so unfenced words tear, cached words may be evicted early,
 * and a word that was stored twice may persist with either value. A pending store vanishes when a later store of the same word becomes durable.
 *
 * After a failed sync (pc_sim_fail_sync) what was pending stays pending for ever: no later sync makes it durable, as with a kernel that marks
 * pages clean although they were not written.
 *
 * One run, the fast way: pc_sim_new once, then per run pc_sim_reset with an image, pc_cache_open_media(pc_sim_media(sim)), crash images, pc_cache_abandon. The
 * library's pc_media_close of a simulated media only marks it closed: the owner reads the images afterwards and frees it by pc_sim_free.
 */
#ifndef PC_SIM_MEDIA_H
#define PC_SIM_MEDIA_H

#include "media/media.h"

struct pc_sim;

struct pc_sim_store {
	uint64_t word; /* byte offset / 8 */
	uint64_t value;
};

#define PC_SIM_THREADED 1u /* several threads use the media: operations take a lock */
/* Page granularity: the library's own stage (media/stage.h) in front, with few and small windows. What is in it is not in the view, and lost with the process. */
#define PC_SIM_STAGED 2u

/*
 * New simulated media of len_bytes (a multiple of 4096), all zero and durable, mapped. pc_sim_media() is what the library takes. 0, -EINVAL, -ENOMEM.
 */
int pc_sim_new(uint64_t len_bytes, enum pc_granularity granularity, uint32_t flags, struct pc_sim **out_sim);
/* The same with an image (len_bytes) as content, durable. */
int pc_sim_wrap(const void *image, uint64_t len_bytes, enum pc_granularity granularity, uint32_t flags,
		struct pc_sim **out_sim);
/* Back to just after pc_sim_wrap(image) with the same length: nothing pending, all counters, hooks, faults and poison off. NULL: all zero. Much cheaper
 * than a new one; the address of base does not change. */
void pc_sim_reset(struct pc_sim *sim, const void *image);
/* Makes it what pc_sim_new with another length gives: all zero, no place has called yet, none is skipped. False: there was never room for so much, or no media is so long; nothing has changed. */
bool pc_sim_renew(struct pc_sim *sim, uint64_t len_bytes);
void pc_sim_free(struct pc_sim *sim); /* NULL does nothing */

struct pc_media *pc_sim_media(struct pc_sim *sim);
/* The simulator of a media made here. */
struct pc_sim *pc_sim_of(struct pc_media *media);
bool pc_sim_closed(const struct pc_sim *sim); /* the library closed the media since new or reset */
/*
 * From now on stores, flushes and fences of this thread of the system are those of simulated thread id (not 0); 0: its own again. For simulators whose threads are
 * coroutines. Valid for all simulated media of the thread of the system.
 */
void pc_sim_act_as(uint32_t id);
/*
 * A store of a process that has died since: the view has it, but no living thread's fence alone makes it durable, only a flush of its line with a fence, or a sync. So
 * an image with such stores is a process killed, and not a power cut. At byte granularity it is durable.
 */
void pc_sim_store_orphan(struct pc_sim *sim, struct pc_sim_store store);
/* A closed media may be opened again as it is: what is pending stays pending (a close is no power cut). */
void pc_sim_reopen(struct pc_sim *sim);

/* --- what is there --- */

const uint8_t *pc_sim_view(const struct pc_sim *sim);
const uint8_t *pc_sim_durable(const struct pc_sim *sim);

/* Stores that are pending, oldest first. Valid until the next operation. */
size_t pc_sim_pending_nr(const struct pc_sim *sim);
struct pc_sim_store pc_sim_pending(const struct pc_sim *sim, size_t idx);
/* Different cache lines with pending stores. */
size_t pc_sim_pending_lines(struct pc_sim *sim);

/* --- crash images --- */

enum pc_sim_policy {
	PC_SIM_NONE, /* durable alone */
	PC_SIM_ALL, /* the whole view, unless stopped */
	PC_SIM_SUBSET, /* arg: bit i keeps store i (at most 64 pending) */
	PC_SIM_MISSING, /* all but store arg */
	PC_SIM_ALONE, /* only store arg */
	PC_SIM_PREFIX, /* the first arg + 1 stores */
	PC_SIM_SUFFIX, /* all but the first arg + 1 */
	PC_SIM_LINE_MISSING, /* the same by cache lines, in the order of their first pending store */
	PC_SIM_LINE_ALONE,
	PC_SIM_LINE_PREFIX,
	PC_SIM_LINE_SUFFIX,
	PC_SIM_RANDOM, /* arg: seed; each store by a coin whose bias is drawn from the seed too (1/8 to 7/8) */
	PC_SIM_RANDOM_LINES, /* arg: seed; lines are kept, lost or torn by words */
	PC_SIM_POLICY_NR
};

/* Number of values of arg that make sense now: 1 for none and all, 2^pending for subset (0 if more than 20 are pending), UINT64_MAX for random. */
uint64_t pc_sim_policy_args(struct pc_sim *sim, enum pc_sim_policy policy);
/* Writes the image that a crash here and now leaves (len_bytes) and returns its pc_sim_image_hash. */
uint64_t pc_sim_crash(struct pc_sim *sim, enum pc_sim_policy policy, uint64_t arg, void *out_image);
uint64_t pc_sim_image_hash(const void *image, uint64_t len_bytes);

/*
 * Calls fn with one crash image after the other, built in scratch (len_bytes): with at most subset_max (<= 20) stores pending all subsets, else none, all, and the
 * policies by word (when at most word_max words are pending) and by line (when at most line_max lines are), and random_nr images of each random policy from seed.
 * Images of equal hash are given once. fn returns false to stop. Returns the number of images given.
 */
struct pc_sim_explore {
	uint32_t subset_max; /* 12 is usual */
	uint32_t word_max;
	uint32_t line_max;
	uint32_t random_nr;
	uint64_t seed;
};
typedef bool (*pc_sim_image_fn)(void *user, const uint8_t *image, enum pc_sim_policy policy, uint64_t arg);
uint64_t pc_sim_explore(struct pc_sim *sim, const struct pc_sim_explore *how, uint8_t *scratch, pc_sim_image_fn fn,
			void *user);

/* pc_sim_image_hash of the image that fn was given last, at no cost: to drop equal images of different crash points. */
uint64_t pc_sim_explore_hash(const struct pc_sim *sim);

/* --- saved moments --- */

/* A moment of sim: its durable image, the hash of that, and its pending stores, oldest first. All zero before the first save. */
struct pc_sim_saved {
	uint8_t *durable;
	uint64_t hash; /* pc_sim_image_hash of durable */
	struct pc_sim_store *stores;
	size_t store_nr;
	size_t store_max;
	const struct pc_sim *sim;
	uint32_t save_nr;
};

/* Saves this moment over an older one of the same sim: costs what has changed since. */
void pc_sim_save(struct pc_sim *sim, struct pc_sim_saved *saved);
void pc_sim_saved_fini(struct pc_sim_saved *saved);
/* As pc_sim_reset(saved->durable), where saved->sim is another sim of the same size that still lives. Costs what differs from the last load from there. */
void pc_sim_load(struct pc_sim *sim, const struct pc_sim_saved *saved);
/* Makes the word durable at once, without a crash point: a pending store that persists. Returns what the hash of the image changes by (exclusive or). */
uint64_t pc_sim_put(struct pc_sim *sim, struct pc_sim_store store);
/* pc_sim_image_hash of the durable image; costs what has changed since the last time. */
uint64_t pc_sim_durable_hash(struct pc_sim *sim);

/* --- hook, stop --- */

enum pc_sim_event { PC_SIM_AT_FENCE, PC_SIM_AT_SYNC };

/*
 * Called BEFORE a fence or sync takes effect (at page granularity: only before syncs; a fence there is no crash point). It may use everything under "what is there"
 * and "crash images", pc_sim_crash_at, pc_sim_stop, and, if the simulator is not threaded, longjmp away; it must not use media operations (a scheduler of coroutines may
 * switch to others that do, if the simulator is not threaded).
 */
typedef void (*pc_sim_hook)(struct pc_sim *sim, enum pc_sim_event event, void *user);
/* nth 0: the hook is called at every fence and sync; n: once, at the n-th from now (1: the next); the hook may ask for another. fn NULL: off. */
void pc_sim_crash_at(struct pc_sim *sim, uint64_t nth, pc_sim_hook fn, void *user);
/* The power is off: from now on stores change only the view, and nothing becomes durable any more. Crash images are those of this moment. */
void pc_sim_stop(struct pc_sim *sim);
bool pc_sim_stopped(const struct pc_sim *sim);

/* --- faults --- */

/* The nth sync from now (1: the next) fails with err (negative errno). nth 0: off. Syncs count at page granularity only. */
void pc_sim_fail_sync(struct pc_sim *sim, uint64_t nth, int err);
/* pc_media_read and pc_media_load that touch the range give -EIO. At most 16 ranges; stays until pc_sim_unpoison, stores do not cure it. */
void pc_sim_poison(struct pc_sim *sim, uint64_t media_off, uint64_t len);
void pc_sim_unpoison(struct pc_sim *sim);
/* pc_media_read at or past end_off gives PCACHE_E_TRUNCATED, pc_media_load -EIO. Default: len_bytes. */
void pc_sim_truncate(struct pc_sim *sim, uint64_t end_off);
/* Changes bytes of view and durable behind the library's back (bit rot, an old replica). Nothing may be pending there. */
void pc_sim_damage(struct pc_sim *sim, uint64_t media_off, const void *bytes, size_t len);

/* --- counters and call sites --- */

struct pc_sim_counts {
	uint64_t copies;
	uint64_t copy_bytes;
	uint64_t flushes;
	uint64_t fences; /* not counted at page granularity */
	uint64_t syncs; /* counted at page granularity only */
	uint64_t reads;
};
struct pc_sim_counts pc_sim_counts(const struct pc_sim *sim);

/*
 * Every place that called flush, fence or sync since pc_sim_new (reset keeps them), by its return address. A place that is skipped does nothing: that is how
 * every fence is taken out in turn without building the library again. Fences and flushes at page granularity are not listed.
 * (Objects built with -fno-optimize-sibling-calls give exact places; else a fence that ends its function counts for that function's caller.)
 */
enum pc_sim_op { PC_SIM_OP_FLUSH, PC_SIM_OP_FENCE, PC_SIM_OP_SYNC };
struct pc_sim_site {
	const void *address;
	enum pc_sim_op op;
	uint64_t calls;
};
size_t pc_sim_site_nr(const struct pc_sim *sim);
struct pc_sim_site pc_sim_site(const struct pc_sim *sim, size_t idx);
void pc_sim_skip_site(struct pc_sim *sim, const void *address); /* NULL: none. Survives pc_sim_reset. */

#endif
