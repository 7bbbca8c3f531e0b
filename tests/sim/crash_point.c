/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Crash points: snapshots of everything a power cut could leave, and the hooks that come by there.
 *
 * A snapshot is explored only when the API call has returned, since the library may hold locks in between. The oracle does not change from the start of the call
 * until then, so what is accepted at a snapshot is what was accepted when it was taken: the unit in flight is pending.
 */
#include "sim/crash_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void crash_begin_step(struct crash_world *w, uint32_t step)
{
	w->step = step;
	w->point_nr = 0;
	memset(w->decision_nr, 0, sizeof(w->decision_nr));
}

/* Whether something happens that need not: by chance, or because the path says so. */
bool crash_decide(struct crash_world *w, enum pc_crash_event_kind kind, uint32_t pct)
{
	struct crash_run *run = w->run;
	struct pc_crash_course *course = &run->courses[w->depth];
	const uint32_t nr = ++w->decision_nr[kind];

	if (run->settings->every != NULL && run->follow == NULL) {
		if (kind != PC_CRASH_EVENT_DRAIN && kind != PC_CRASH_EVENT_RETRY)
			return false;
	} else if (run->follow != NULL) {
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

static void take_snap(struct crash_world *w, const char *when, bool between)
{
	struct crash_snap *snap;

	if (w->snap_nr >= w->snap_max) {
		w->run->result->points_left_out++;
		return;
	}
	if (w->snap_nr == w->snap_room) {
		w->snaps = crash_must(realloc(w->snaps, (w->snap_room + SNAP_NR_MAX) * sizeof(*w->snaps)));
		memset(w->snaps + w->snap_room, 0, SNAP_NR_MAX * sizeof(*w->snaps));
		w->snap_room += SNAP_NR_MAX;
	}
	w->run->result->points_taken++;
	snap = &w->snaps[w->snap_nr++];
	snap->when = when;
	snap->event_nr = w->event_nr;
	snap->between = between;
	snap->step = w->step;
	snap->point = w->point_nr;
	pc_sim_save(w->sim, &snap->media);
	if (!pc_oracle_disk_copy(&snap->disk, &w->disk))
		abort();
}

void crash_point(struct crash_world *w, const char *when, bool between)
{
	const struct pc_crash_path *follow = w->run->follow;

	if (pc_sim_stopped(w->sim))
		return;
	w->event_nr++;
	w->point_nr++;
	if (follow != NULL) {
		if (!w->run->stop && w->depth < follow->cut_nr && follow->cuts[w->depth].step == w->step && follow->cuts[w->depth].point == w->point_nr)
			take_snap(w, when, between);
		return;
	}
	if (!w->exploring || w->run->stop)
		return;
	w->run->result->points++;
	if (pc_rng_chance(&w->rng, w->point_pct))
		take_snap(w, when, between);
}

void crash_at_fence(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	struct crash_world *w = user;

	if (w->stop_in != 0 && --w->stop_in == 0)
		pc_sim_stop(sim);
	crash_point(w, event == PC_SIM_AT_FENCE ? "before fence" : "before sync", false);
}

#define DEAD_CALL_NR 60u /* calls that fail in a row when the backing dies: longer than the cache can do without it */

enum backing_op { BACKING_READ, BACKING_WRITE, BACKING_FLUSH };

/* Whether this call of the backing is to fail. A failed flush forgets what was pending: it stays visible, but no later flush makes it durable. */
static bool backing_fails(struct crash_world *w, enum backing_op op)
{
	const uint32_t flush_pct = w->run->shape.flush_fault_pct == 0 ? 8 : w->run->shape.flush_fault_pct;

	if (pc_sim_stopped(w->sim))
		return true; /* no power */
	if (!w->run->shape.faults || w->no_faults)
		return false;
	if (w->dead_nr == 0 && crash_decide(w, PC_CRASH_EVENT_DEAD, 1))
		w->dead_nr = DEAD_CALL_NR;
	if (w->dead_nr != 0)
		w->dead_nr--;
	else if (!crash_decide(w, PC_CRASH_EVENT_FAULT, op == BACKING_FLUSH ? flush_pct : 4))
		return false;
	w->faulted = true;
	if (op == BACKING_FLUSH) {
		pc_oracle_disk_flush_failed(&w->disk);
		w->run->result->reached[PC_REACHED_FLUSH_ERRORS] += w->depth == 0;
	}
	return true;
}

/* Blocks of a request. False, and a violation: it is misaligned, empty or out of range. */
static bool to_blocks(struct crash_world *w, uint64_t off, uint64_t len, uint32_t *out_blk, uint32_t *out_len_blk)
{
	const uint32_t block_bytes = w->run->shape.block_bytes;
	const uint64_t size = (uint64_t)w->run->shape.backing_blk * block_bytes;

	if (len == 0 || off % block_bytes != 0 || len % block_bytes != 0 || off > size || len > size - off) {
		crash_fail(w, "a request to the backing of %llu bytes at %llu", (unsigned long long)len, (unsigned long long)off);
		return false;
	}
	*out_blk = (uint32_t)(off / block_bytes);
	*out_len_blk = (uint32_t)(len / block_bytes);
	return true;
}

static int backing_read(void *user, void *buf, uint64_t off, uint64_t len)
{
	struct crash_world *w = user;
	uint32_t blk;
	uint32_t len_blk;

	w->call_nr++;
	if (!to_blocks(w, off, len, &blk, &len_blk) || backing_fails(w, BACKING_READ))
		return -EIO;
	pc_oracle_disk_read(w->oracle, &w->disk, blk, len_blk, buf);
	return 0;
}

/* A crash point, and G7 is checked with the write applied. */
static int change_backing(struct crash_world *w, const void *buf, uint64_t off, uint64_t len)
{
	uint32_t blk;
	uint32_t len_blk;
	bool ok;

	w->call_nr++;
	crash_point(w, "before backing write", false);
	if (!to_blocks(w, off, len, &blk, &len_blk) || backing_fails(w, BACKING_WRITE))
		return -EIO;
	ok = pc_oracle_disk_write(w->oracle, &w->disk, blk, len_blk, buf);
	if (ok && w->run->shape.write_through)
		pc_oracle_disk_flush(&w->disk);
	if (ok && !w->damaged)
		ok = pc_oracle_check_backing(w->oracle, &w->disk);
	if (!ok)
		crash_fail(w, "backing write [%u,+%u): %s", blk, len_blk, pc_oracle_text(w->oracle));
	return 0;
}

static int backing_write(void *user, const void *buf, uint64_t off, uint64_t len)
{
	return change_backing(user, buf, off, len);
}

static int backing_zeroes(void *user, uint64_t off, uint64_t len)
{
	return change_backing(user, NULL, off, len);
}

static int backing_flush(void *user)
{
	struct crash_world *w = user;

	w->call_nr++;
	crash_point(w, "before backing flush", false);
	if (backing_fails(w, BACKING_FLUSH))
		return -EIO;
	pc_oracle_disk_flush(&w->disk);
	return 0;
}

struct pcache_backing *crash_attach(struct crash_world *w)
{
	const struct pcache_backing_ops ops = {.struct_bytes = sizeof(ops),
					       .block_bytes = w->run->shape.block_bytes,
					       .size_bytes = (uint64_t)w->run->shape.backing_blk * w->run->shape.block_bytes,
					       .read = backing_read,
					       .write = backing_write,
					       .flush = w->run->shape.write_through ? NULL : backing_flush,
					       .discard = backing_zeroes,
					       .write_zeroes = backing_zeroes};
	struct pcache_backing *backing;

	if (pcache_backing_new(&ops, w, &backing) != 0)
		abort();
	return backing;
}
