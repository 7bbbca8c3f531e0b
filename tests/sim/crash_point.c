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

static void take_snap(struct crash_world *w, const char *when, bool between)
{
	struct crash_snap *snap;
	const size_t store_nr = pc_sim_pending_nr(w->sim);

	if (w->snap_nr >= w->snap_max)
		return;
	snap = &w->snaps[w->snap_nr++];
	snprintf(snap->what, sizeof(snap->what), "%s %u", when, w->event_nr);
	snap->between = between;
	snap->step = w->step;
	snap->point = w->point_nr;
	if (snap->durable == NULL)
		snap->durable = crash_must(malloc(w->run->shape.media_bytes));
	memcpy(snap->durable, pc_sim_durable(w->sim), w->run->shape.media_bytes);
	if (snap->store_max < store_nr) {
		snap->store_max = (uint32_t)store_nr * 2;
		snap->stores = crash_must(realloc(snap->stores, snap->store_max * sizeof(*snap->stores)));
	}
	for (size_t i = 0; i < store_nr; i++)
		snap->stores[i] = pc_sim_pending(w->sim, i);
	snap->store_nr = (uint32_t)store_nr;
	snap->mb = crash_must(mem_backing_clone(w->mb));
	if (!pc_oracle_disk_copy(&snap->disk, &w->disk))
		abort();
}

void crash_point(struct crash_world *w, const char *when, bool between)
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

void crash_at_fence(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	(void)sim;
	crash_point(user, event == PC_SIM_AT_FENCE ? "before fence, event" : "before sync, event", false);
}

/* Whether this call of the backing is to fail. A failed flush forgets what was pending (mem_backing does that too). */
static bool backing_fails(struct crash_world *w, enum mem_backing_op op)
{
	if (!w->run->shape.faults || w->no_faults || !crash_decide(w, PC_CRASH_EVENT_FAULT, op == MEM_BACKING_FLUSH ? 8 : 4))
		return false;
	w->faulted = true;
	if (op == MEM_BACKING_FLUSH)
		pc_oracle_disk_flush_failed(&w->disk);
	return true;
}

/* Every call of the backing: a crash point, and G7 is checked with it applied. */
int crash_at_backing(void *user, enum mem_backing_op op, uint64_t off, uint64_t len, const void *buf)
{
	struct crash_world *w = user;
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
		crash_fail(w, "backing write [%u,+%u): %s", blk, len_blk, pc_oracle_text(w->oracle));
	return 0;
}
