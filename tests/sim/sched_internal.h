/* SPDX-License-Identifier: BSD-3-Clause */
/* State of one seed of the scheduler simulator; private to tests/sim/sched_*.c. */
#ifndef PC_SIM_SCHED_INTERNAL_H
#define PC_SIM_SCHED_INTERNAL_H

#include "api/internal.h"
#include "backing/mem_backing.h"
#include "format/format.h"
#include "pcache/pcache.h"
#include "sim/generator.h"
#include "sim/sched_coro.h"
#include "sim/sched_oracle.h"
#include "sim/sched_run.h"
#include "sim/sim_media.h"

#define ACTOR_NR_MAX 5u

enum actor_kind { ACTOR_WRITER, ACTOR_READER, ACTOR_FLUSHER, ACTOR_STEPPER, ACTOR_MIXED, ACTOR_KIND_NR };

/* Caches in which a window that a hold opens is met by others: what has to be there before the threads begin. */
enum scene {
	SCENE_NONE,
	SCENE_TINY, /* few segments, most of them emptied by any overwrite */
	SCENE_FULL, /* data in all segments but those that are kept for the log */
	SCENE_LOG_FULL, /* no position left for writers */
	SCENE_DRAWN_NR,
	SCENE_SLOW = SCENE_DRAWN_NR, /* worker threads, writers who wait: slowed down, and for space */
	SCENE_TIGHT, /* nearly each overwrite empties a segment, which comes back after a few more */
	SCENE_NR
};

/* What a seed draws beside the shape of the cache. */
struct plan {
	bool workers; /* worker threads, else the actors run the steps */
	uint32_t writeback_delay_ms; /* simulated time */
	enum sched_strategy strategy;
	uint32_t actor_nr;
	enum actor_kind kinds[ACTOR_NR_MAX];
	uint32_t op_nrs[ACTOR_NR_MAX];
	uint32_t mixes[ACTOR_NR_MAX];
	bool storm; /* long lives in which segments come back soon, and somebody is held for long */
	bool narrow; /* all ranges fall into a few blocks */
	enum scene scene;
	enum pc_yield_point scene_point; /* where somebody is held more often than elsewhere */
	bool short_ranges; /* all ranges are one block */
	bool modes; /* some operations change the mode of the writes */
	bool whole_chunks; /* all ranges are a chunk, any of them as likely as the other */
	bool scene_clean; /* what fills it is on the backing */
	uint32_t nowait_pct; /* units that do not wait for room, beside those that the generator draws */
	uint32_t cut_per_10000; /* steps after which the power fails */
	enum pc_yield_point focus; /* the power fails here half of the time */
	bool focused;
};

struct world;

struct actor {
	struct world *w;
	char name[16];
	enum actor_kind kind;
	struct pc_rng rng;
	struct pc_gen_shape shape; /* with its own mix */
	uint32_t op_nr;
	bool nowait; /* the unit at hand does not wait for room */
	uint8_t *buf;
	uint32_t coro;
};

struct world {
	struct run *run;
	uint32_t depth;
	struct pc_sim *sim;
	struct mem_backing *mb;
	struct pcache *cache;
	struct so *so;
	struct so_disk disk;
	struct sched *sched;
	struct pc_tweaks tweaks;
	struct pc_rng nonce;
	struct pc_rng rng; /* when and how the power fails */
	struct pc_gen_memory memory;
	bool lives; /* threads work after the recovery, and the power fails again */
	bool workers;
	uint32_t cuts_left;
	uint32_t image_nr; /* of each cut */
	struct actor actors[ACTOR_NR_MAX];
	uint32_t actor_nr;
	char state[256]; /* the power cut that it began with */
	uint8_t *image;
	uint8_t *backing_image;
	uint8_t *seen;
};

struct hash_set {
	uint64_t *slots;
	uint32_t slot_nr; /* power of two */
	uint32_t used_nr;
};

struct run {
	const struct sched_run_settings *settings;
	struct sched_run_result *result;
	struct pc_gen_shape shape;
	struct plan plan;
	struct pcache_config *config; /* the caller runs the steps */
	struct pcache_config *config_workers;
	struct world worlds[SCHED_RUN_DEPTH_MAX + 1];
	struct hash_set images; /* media and disk */
	struct hash_set states; /* and what the oracle accepts */
	bool stop; /* a violation */
	bool enough; /* states: no more power cuts */
};

/* --- sched_plan.c --- */

void sched_plan_draw(uint64_t seed, struct pc_gen_shape *out_shape, struct plan *out_plan);

/* Notes a violation, and ends the run. From a coroutine it does not return. */
void sched_fail(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- sched_actor.c: from a coroutine --- */

/* Draws what the actors of a world do. */
void sched_actors_draw(struct world *w, const struct plan *plan, uint64_t seed);
/* Starts all actors and waits for their end. */
void sched_actors_run(struct world *w);
/* A sequence of operations in the calling coroutine. */
void sched_ops_run(struct actor *actor);
/* Fills the cache as the scene of the plan wants it. */
void sched_fill(struct actor *actor);
/* Reads everything, checks it, and leaves it in w->seen. */
void sched_read_all(struct world *w);
void sched_drain(struct world *w);

#endif
