/* SPDX-License-Identifier: BSD-3-Clause */
/* What the first cache of a seed has met, see directed.h: looked up in the library after each operation. */
#include "sim/crash_internal.h"

#include <string.h>

#include "core/cache.h"
#include "format/format.h"

static void add(struct crash_run *run, enum pc_reached what, uint64_t value)
{
	uint64_t *to = &run->result->reached[what];

	if (pc_reached_is_max(what))
		*to = PC_MAX(*to, value);
	else
		*to += value;
}

/* Whether a void fills the end of the segment of the position from on. */
static bool is_padded(const struct crash_world *w, uint64_t from_pos)
{
	const struct pc_log *log = &w->cache->log;
	const uint64_t end_pos = pc_log_seg_start(log, from_pos) + log->slots_per_seg;

	for (uint64_t pos = from_pos; pos < end_pos; pos++) {
		const struct pcm_kset *header = (const void *)(pc_sim_view(w->sim) + pc_log_media_off(log, pos));

		if (pc_get64(header->pos) == pos && pc_get16(header->type) == PC_KSET_VOID && pc_get32(header->slot_nr) == end_pos - pos)
			return true;
	}
	return false;
}

static void note_log(struct crash_world *w, const struct pc_gen_op *op, struct crash_before *before)
{
	struct crash_run *run = w->run;
	const struct pc_log *log = &w->cache->log;
	const uint64_t head = atomic_load(&log->head);
	const uint64_t tail = atomic_load(&log->tail);
	const uint64_t cap_end = atomic_load(&log->cap_end);

	if (before->first_pos == 0)
		before->first_pos = before->head = head;
	add(run, PC_REACHED_LOG_SEGS, pc_log_ordinal(log, head) - pc_log_ordinal(log, before->head));
	add(run, PC_REACHED_LOG_ROUNDS, (pc_log_ordinal(log, head) - pc_log_ordinal(log, before->first_pos)) / log->ring_nr);
	add(run, PC_REACHED_LOG_LAST_SLOT, head % log->slots_per_seg == log->slots_per_seg - 1);
	add(run, PC_REACHED_LOG_FULL, (cap_end - tail) / log->slots_per_seg >= log->max_segs);
	/* A cleaning step appends first, and only then makes the log longer. */
	add(run, PC_REACHED_LOG_RESERVE, head > (op->kind == PC_GEN_CLEAN ? before->writer_limit : atomic_load(&log->writer_limit)));
	before->writer_limit = atomic_load(&log->writer_limit);
	add(run, PC_REACHED_HIGH_COUNTERS, head > UINT32_MAX);
	if (pc_log_seg_start(log, head) > before->head && before->head >= tail)
		add(run, PC_REACHED_LOG_PADS, is_padded(w, before->head));
	before->head = head;
}

static void note_stats(struct crash_world *w, const struct pc_gen_op *op, struct crash_before *before, uint64_t head_before)
{
	struct crash_run *run = w->run;
	struct pcache_info info = {.struct_bytes = sizeof(info)};

	if (pcache_info_get(w->cache, &info) != 0)
		return;
	if (op->kind == PC_GEN_CLEAN && info.cleaned_segments > before->cleaned_segs)
		add(run, PC_REACHED_RELOGGED_SLOTS, atomic_load(&w->cache->log.head) - head_before);
	add(run, PC_REACHED_CLEANED_SEGS, info.cleaned_segments - before->cleaned_segs);
	add(run, PC_REACHED_EVICTED_SEGS, info.evicted_segments - before->evicted_segs);
	add(run, PC_REACHED_WRITEBACKS, info.backing_flushes - before->backing_flushes);
	add(run, PC_REACHED_BACKING_ERRORS, info.backing_errors - before->backing_errors);
	add(run, PC_REACHED_DATA_FULL, info.full_waits - before->full_waits);
	add(run, PC_REACHED_FRAGMENTS, info.extents);
	add(run, PC_REACHED_NO_FREE_SEGS, pc_segmap_free_nr(&w->cache->map) <= w->cache->map.log_reserve_segs);
	before->cleaned_segs = info.cleaned_segments;
	before->evicted_segs = info.evicted_segments;
	before->backing_flushes = info.backing_flushes;
	before->backing_errors = info.backing_errors;
	before->full_waits = info.full_waits;
	if (info.log_dirty_tail != before->dirty_tail || op->kind == PC_GEN_DRAIN)
		before->epoch_nr = 0;
	before->dirty_tail = info.log_dirty_tail;
	before->epoch_nr += op->kind == PC_GEN_FLUSH;
	add(run, PC_REACHED_EPOCHS, before->epoch_nr);
}

/* After an open: counters of the library begin again. */
static void note_open(struct crash_world *w, const struct pc_gen_op *op, struct crash_before *before)
{
	const struct pc_segmap *map = &w->cache->map;

	before->cleaned_segs = before->evicted_segs = before->backing_flushes = before->backing_errors = before->full_waits = 0;
	add(w->run, op->kind == PC_GEN_CRASH ? PC_REACHED_CRASHES : PC_REACHED_REOPENS, 1);
	add(w->run, PC_REACHED_IDLE_REOPENS, before->last_was_open);
	for (uint32_t i = 0; i < map->segment_nr; i++) {
		const uint32_t live_blk = pc_segmap_live_blk(map, i);

		add(w->run, PC_REACHED_PART_FILLED, atomic_load(&map->segs[i].state) == PC_SS_DATA && live_blk != 0 && live_blk < map->segment_blk);
	}
}

void crash_note_reached(struct crash_world *w, const struct pc_gen_op *op)
{
	struct crash_before *before = &w->run->before;
	const bool is_open = op->kind == PC_GEN_REOPEN || op->kind == PC_GEN_CRASH;
	const uint64_t head_before = before->head;

	if (w->cache == NULL)
		return;
	if (is_open)
		note_open(w, op, before);
	before->last_was_open = is_open;
	if ((op->kind == PC_GEN_DISCARD || op->kind == PC_GEN_ZEROES) && op->ranges[0].len_blk == w->run->shape.backing_blk)
		add(w->run, PC_REACHED_DISCARD_ALL, 1);
	note_log(w, op, before);
	note_stats(w, op, before, head_before);
}

/* --- counters near their ends --- */

/* What is added to generations, sequence numbers and ordinals: so that what follows passes the end of 32 bits, or has the highest bit set. */
struct raise {
	uint64_t gen;
	uint64_t seq;
	uint64_t ordinal;
};

static struct raise raise_of(const struct pc_gen_shape *shape)
{
	const uint64_t slots = shape->segment_bytes / 64;

	switch (shape->high) {
	case 1: /* positions, generations and sequence numbers pass 2^32 */
		return (struct raise){.gen = UINT32_MAX - 1u, .seq = UINT32_MAX - 6u, .ordinal = (UINT64_C(1) << 32) / slots - 2};
	case 2: /* ordinals pass 2^32; signs would be wrong */
		return (struct raise){.gen = (UINT64_C(1) << 63) - 2, .seq = (UINT64_C(1) << 63) - 7, .ordinal = UINT32_MAX - 2u};
	case 4: /* ordinals end after a few log segments */
		return (struct raise){.ordinal = PC_ORDINAL_MAX - 8};
	default: /* as high as there is, with room for what a run needs */
		return (struct raise){.gen = UINT64_MAX - 4096, .seq = UINT64_MAX - 65536, .ordinal = PC_ORDINAL_MAX - 1024};
	}
}

void crash_raise_counters(struct crash_world *w)
{
	const struct raise raise = raise_of(&w->run->shape);
	const uint64_t slots = w->run->shape.segment_bytes / 64;
	const uint8_t *view = pc_sim_view(w->sim);
	struct pc_super super;

	if (pc_super_decode((const void *)view, &super) != PC_VALID) {
		crash_fail(w, "the superblock is bad after format");
		return;
	}
	for (unsigned int replica = 0; replica < 2; replica++) {
		uint64_t off = pc_geo_tail_off(&super, replica);
		struct pcm_segrec rec_bytes;
		struct pcm_tail tail_bytes;
		struct pc_segrec rec;
		struct pc_tail tail;

		if (pc_tail_decode((const void *)(view + off), &tail) != PC_VALID) {
			crash_fail(w, "a tail record is bad after format");
			return;
		}
		tail.seq += raise.seq;
		tail.log_tail_pos += raise.ordinal * slots;
		tail.dirty_tail_pos += raise.ordinal * slots;
		tail.mark_pos += raise.ordinal * slots;
		pc_tail_encode(&tail, &tail_bytes);
		pc_sim_damage(w->sim, off, &tail_bytes, sizeof(tail_bytes));
		for (uint32_t id = 0; id < super.segment_nr; id++) {
			off = pc_geo_segrec_off(&super, replica, id);
			if (pc_segrec_decode((const void *)(view + off), id, &rec) != PC_VALID) {
				crash_fail(w, "a segment record is bad after format");
				return;
			}
			rec.seq += raise.seq;
			rec.gen += raise.gen;
			if (rec.type == PC_SEG_LOG)
				rec.ordinal += raise.ordinal;
			pc_segrec_encode(&rec, &rec_bytes);
			pc_sim_damage(w->sim, off, &rec_bytes, sizeof(rec_bytes));
		}
	}
}
