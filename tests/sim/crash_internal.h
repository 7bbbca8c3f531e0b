/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of the crash simulator share, see crash_run.h:
 *
 *     crash_run.c      a seed from format to the end; settings of worlds
 *     crash_point.c    crash points, snapshots, the hooks of media and backing
 *     crash_image.c    images of a snapshot
 *     crash_every.c    all images of a snapshot, for short sequences
 *     crash_ops.c      calls of the library
 *     crash_mode.c     settings that differ from open to open
 *     crash_check.c    pcache check as a second reader
 *     crash_damage.c   damaged media
 *     crash_recover.c  recovery of an image, checks, and what the cache does then
 *     crash_again.c    a power cut as an operation
 *     crash_reached.c  what the first cache has met
 *     crash_report.c   violations
 */
#ifndef PC_SIM_CRASH_INTERNAL_H
#define PC_SIM_CRASH_INTERNAL_H

#include "api/internal.h"
#include "pcache/pcache.h"
#include "sim/crash_run.h"
#include "sim/oracle.h"
#include "sim/sim_media.h"

#define SNAP_NR_MAX 16u
#define SNAP_NR_THOROUGH 100000u

/* What a world is doing, in words: before, nr, after, operation. */
struct crash_doing {
	const char *before; /* NULL: nothing */
	const char *after; /* NULL: neither this nor nr */
	const struct pc_gen_op *op; /* NULL: none */
	uint32_t nr;
};

struct crash_snap {
	const char *when; /* "before fence" */
	uint32_t event_nr;
	uint32_t step; /* see crash_path.h */
	uint32_t point;
	bool between; /* no API call is running */
	struct pc_sim_saved media;
	uint16_t *line_of; /* of each pending store: its line, numbered in order of first appearance */
	uint32_t line_max; /* room in line_of */
	uint32_t line_nr;
	struct pc_oracle_disk disk;
};

struct crash_cut { /* how the image of a world was made */
	const struct crash_snap *from;
	bool killed;
	bool given; /* by a path */
	uint8_t *keep; /* flags of the snapshot's pending stores */
	uint8_t *keep_disk; /* and of its pending writes of the disk */
	uint32_t keep_max;
	uint32_t keep_disk_max;
	uint32_t policy; /* of the stores; CRASH_POLICY_SUBSET */
	uint32_t at;
	uint32_t bias;
	uint32_t disk_policy; /* 0 none, 1 all, else some */
	uint64_t bit_off; /* damage; 0: none */
	uint32_t bit;
};
#define CRASH_POLICY_SUBSET 100u

struct crash_world {
	struct crash_run *run;
	uint32_t depth;
	struct pc_sim *sim;
	struct pcache *cache;
	struct pc_oracle *oracle;
	struct pc_oracle_disk disk;
	struct pc_tweaks tweaks;
	uint32_t mode; /* see crash_mode.c */
	uint32_t goes; /* PCACHE_MODE_* of its writes; an open begins with writeback */
	bool damaged; /* see crash_damage.c: data may be lost, so the backing need not be a whole state */
	struct pc_rng nonce;
	struct pc_rng rng; /* choices of crash points and images */
	struct pc_gen_memory memory;
	bool exploring;
	uint32_t point_pct; /* of the crash points that are taken */
	uint32_t image_nr; /* images of each */
	bool no_faults;
	bool faulted; /* a call of the backing failed during this API call */
	uint32_t dead_nr; /* so many more calls of the backing fail */
	uint32_t stop_in; /* the power fails before this fence from now on; 0: it does not */
	uint32_t event_nr; /* fences, syncs and backing calls of this API call */
	uint32_t step; /* see crash_path.h */
	uint32_t point_nr; /* crash points of this step so far */
	uint32_t decision_nr[128]; /* by kind, of this step */
	struct crash_snap *snaps;
	uint32_t snap_room; /* in snaps */
	uint32_t snap_nr;
	uint32_t snap_max; /* for one API call */
	uint32_t op_idx; /* settings.every: operation of the plan that it is at */
	bool goes_on; /* settings.every: the rest of the sequence follows */
	bool did; /* the call of the library did something */
	uint32_t call_nr; /* calls of the backing */
	struct crash_cut cut; /* which crash image this world began with */
	struct crash_doing doing;
};

struct crash_before { /* counters of the library after the operation before, see crash_reached.c */
	uint64_t first_pos; /* of the head, after the first operation; 0: not seen yet */
	uint64_t head;
	uint64_t writer_limit;
	uint64_t dirty_tail;
	uint64_t cleaned_segs;
	uint64_t evicted_segs;
	uint64_t backing_flushes;
	uint64_t backing_errors;
	uint64_t full_waits;
	uint64_t epoch_nr; /* flushes since write-back got on */
	bool last_was_open;
};

/* Bits of a mode, see crash_mode.c. */
#define CRASH_MODE_ORDERING 1u
#define CRASH_MODE_COMMIT 2u
#define CRASH_MODE_GC 4u
#define CRASH_MODE_SHARDS 8u
#define CRASH_MODE_HEADS 16u
#define CRASH_MODE_READ_CACHE 32u
#define CRASH_MODE_FULL 64u
#define CRASH_MODE_GUARD 128u
#define CRASH_MODE_NR 256u

struct crash_set { /* of hashes */
	uint64_t *slots;
	uint32_t slot_nr; /* power of two */
	uint32_t used_nr;
};

struct crash_run {
	const struct pc_crash_settings *settings;
	struct pc_crash_result *result;
	struct pc_crash_plan *drawn; /* if the settings have no plan */
	const struct pc_crash_plan *plan;
	struct pc_gen_shape shape;
	struct pcache_config *configs[CRASH_MODE_NR]; /* by mode; NULL: not needed yet */
	const struct pcache_config *config; /* of mode 0; for an open: that of the world's mode */
	struct pcache_config *config_read_only;
	struct crash_world worlds[PC_CRASH_DEPTH_MAX + 1];
	struct crash_set states; /* image, disk and what the oracle accepts */
	struct crash_set images; /* image and disk */
	uint8_t *io; /* the whole backing, for reads and writes */
	uint8_t *seen;
	const struct pc_crash_path *follow; /* the only way to go; NULL: explore */
	struct pc_crash_course *courses; /* PC_CRASH_DEPTH_MAX + 1: what the worlds did, to be repeated */
	bool lossy; /* courses had no room for all of it */
	uint64_t digest; /* of all that was seen */
	bool stop; /* enough states, or a violation */
	bool formatting; /* world 0 is in format */
	bool old_is_broken; /* format finds an old cache that has lost its backing */
	struct pc_oracle *old_oracle; /* of the cache that was there before format; NULL: none */
	uint32_t op_idx;
	struct crash_before before;
};

/* --- crash_report.c --- */

extern struct crash_run *crash_current_run; /* for pc_crash_print_where */

void *crash_must(void *memory); /* aborts without memory */
/* False: it was there already. */
bool crash_set_add(struct crash_set *set, uint64_t hash);
/* Part of what the run was: the digest tells it from others. */
void crash_note(struct crash_run *run, uint64_t value);
void crash_doing_to_text(const struct crash_doing *doing, char *text, size_t text_bytes);
void crash_cut_to_text(const struct crash_cut *cut, char *text, size_t text_bytes);
/* Notes a violation, with the path of power cuts that led to it. Only the first counts. */
void crash_fail(struct crash_world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- crash_point.c --- */

void crash_begin_step(struct crash_world *w, uint32_t step);
/* Whether something happens that need not: by chance, or because the path says so. */
bool crash_decide(struct crash_world *w, enum pc_crash_event_kind kind, uint32_t pct);
/* Here the power may be cut. between: no API call is running. */
void crash_point(struct crash_world *w, const char *when, bool between);
void crash_at_fence(struct pc_sim *sim, enum pc_sim_event event, void *user);
/* A backing for the library that is the disk of this world. */
struct pcache_backing *crash_attach(struct crash_world *w);

/* --- crash_image.c --- */

/* Before an API call. */
void crash_call_begin(struct crash_world *w);
/* The API call has returned, the oracle is as it was before: explores what was snapped. */
void crash_call_end(struct crash_world *w);
/* A crash point between two API calls. */
void crash_between(struct crash_world *w);

struct crash_world *crash_begin_image(struct crash_world *w, const struct crash_snap *snap, bool killed);
/* Makes durable the pending stores that are kept; returns the change of the hash. */
uint64_t crash_put_stores(struct crash_world *child);
/* Recovers the image, if it is a new state. */
void crash_recover_image(struct crash_world *child, uint64_t hash);

/* --- crash_every.c --- */

/* All images of a snapshot, see pc_crash_every. */
void crash_explore_every(struct crash_world *w, const struct crash_snap *snap);

/* --- crash_ops.c: each is an API call with all that belongs to it, and notes what is wrong --- */

const char *crash_error_text(int rc);
void crash_check_runtime(struct crash_world *w);
/* The library's return code; the cache is in w->cache. */
int crash_try_open(struct crash_world *w, const struct pcache_config *config);
/* Opens the media that the world holds. */
bool crash_open(struct crash_world *w);
bool crash_read_all(struct crash_world *w, uint8_t *to);
bool crash_check_all_live(struct crash_world *w);
void crash_do_flush(struct crash_world *w);
void crash_do_drain(struct crash_world *w);
void crash_do_close(struct crash_world *w);
/* mode_change: bits of the mode that change in between. */
void crash_do_reopen(struct crash_world *w, uint32_t mode_change);
void crash_do_op(struct crash_world *w, const struct pc_gen_op *op);

/* --- crash_again.c --- */

/* The power is cut, and this world goes on. */
void crash_do_crash(struct crash_world *w, uint32_t arg);

/* --- crash_reached.c --- */

/* After an operation of world 0. */
void crash_note_reached(struct crash_world *w, const struct pc_gen_op *op);
/* Between format and first open: counters begin high. */
void crash_raise_counters(struct crash_world *w);

/* --- crash_mode.c --- */

void crash_configs_init(struct crash_run *run);
void crash_configs_fini(struct crash_run *run);
/* Of the world's mode. */
const struct pcache_config *crash_config(struct crash_world *w);
/* From the next open on. */
void crash_set_mode(struct crash_world *w, uint32_t mode);
void crash_do_goes(struct crash_world *w, uint32_t goes);
bool crash_goes_around(const struct crash_world *w);
bool crash_waits(const struct crash_world *w); /* writes are on the backing when they return */
void crash_check_on_backing(struct crash_world *w, const struct pc_gen_op *op);
/* Perhaps another mode for the open after a power cut. */
void crash_pick_mode(struct crash_world *w);

/* --- crash_check.c --- */

struct crash_second;
/* A sample of the crash images: what check says of the media before the open. NULL: not in the sample, or a violation was noted. The caller frees it. */
struct crash_second *crash_check_before(struct crash_world *w, uint64_t key);
/* What was read after the open is what check said. second NULL: does nothing. */
void crash_check_same(struct crash_world *w, const struct crash_second *second, const uint8_t *seen);
/* After a close. */
void crash_check_closed(struct crash_world *w);

/* --- crash_damage.c --- */

/* Damages the media of an open cache, and checks what the library owes. Nothing may follow in this world. */
void crash_damaged_life(struct crash_world *w, uint32_t seed);

/* --- crash_recover.c --- */

/* Media and disk of the child hold the image of child->cut; the world above says what is accepted. */
void crash_recover_state(struct crash_world *child, uint64_t key);

#endif
