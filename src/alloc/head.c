/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Allocation of data room from the open segments. Under the head's lock; taking new segments (rare: once per segment) also takes the segment map's
 * lock and makes their records durable. Nothing here waits for space: a full cache is reported, and nothing is held meanwhile.
 */
#include "alloc/head.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sched.h"
#include "pcache/errors.h"

static uint32_t default_head_nr(const struct pc_segmap *map)
{
	uint32_t by_size = map->segment_nr / 32;
	long cpu_nr;

	if (by_size <= 1)
		return 1; /* the C library reads a file to count the processors */
	cpu_nr = sysconf(_SC_NPROCESSORS_ONLN);
	return PC_MIN(by_size, (uint32_t)PC_MAX(1L, cpu_nr));
}

int pc_heads_init(struct pc_heads *heads, struct pc_segmap *map, uint32_t head_nr, bool page_granularity)
{
	uint32_t i;
	int rc;

	memset(heads, 0, sizeof(*heads));
	heads->map = map;
	heads->head_nr = head_nr ? head_nr : default_head_nr(map);
	heads->page_blk = page_granularity ? PC_PAGE_BYTES / map->layout->super.block_bytes : 1;
	heads->heads = calloc(heads->head_nr, sizeof(*heads->heads));
	if (!heads->heads)
		return -ENOMEM;
	for (i = 0; i < heads->head_nr; i++) {
		heads->heads[i].seg_id = PC_SEG_NONE;
		rc = pc_spin_init(&heads->heads[i].lock, PC_RANK_HEAD, i);
		if (rc)
			goto undo_locks;
	}
	return 0;
undo_locks:
	while (i-- > 0)
		pc_spin_fini(&heads->heads[i].lock);
	free(heads->heads);
	heads->heads = NULL;
	return rc;
}

void pc_heads_fini(struct pc_heads *heads)
{
	for (uint32_t i = 0; heads->heads && i < heads->head_nr; i++)
		pc_spin_fini(&heads->heads[i].lock);
	free(heads->heads);
	heads->heads = NULL;
}

/* A small number per thread, dealt out in turn. */
static uint32_t thread_number(void)
{
	static _Atomic uint32_t next;
	static _Thread_local uint32_t mine = UINT32_MAX;

	if (pc_sched)
		return pc_sched->thread_number();
	if (mine == UINT32_MAX)
		mine = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed) & 0x7fffffffu;
	return mine;
}

static void add_piece(struct pc_heads *heads, struct pc_piece *pieces, uint32_t *piece_nr, uint32_t seg_id,
		      uint32_t seg_blk, uint32_t len_blk)
{
	struct pc_seg *seg = &heads->map->segs[seg_id];

	/* The lock of the head makes this the only writer. */
	atomic_store_explicit(&seg->taken_blk, atomic_load_explicit(&seg->taken_blk, memory_order_relaxed) + len_blk,
			      memory_order_relaxed);
	pieces[(*piece_nr)++] = (struct pc_piece){
		.gen = atomic_load_explicit(&seg->gen, memory_order_relaxed),
		.seg_id = seg_id,
		.seg_blk = seg_blk,
		.len_blk = len_blk,
	};
}

/* After a flush, or another sync that is counted, the next allocation starts on a fresh page: what was made durable is not stored to again (DESIGN.md says where it is). */
static void align_after_sync(struct pc_heads *heads, struct pc_head *head)
{
	uint64_t sync_nr = atomic_load_explicit(&heads->sync_nr, memory_order_acquire);

	if (head->sync_nr != sync_nr && head->seg_id != PC_SEG_NONE)
		head->next_blk = PC_MIN(PC_ROUND_UP(head->next_blk, heads->page_blk), heads->map->segment_blk);
	head->sync_nr = sync_nr;
}

/* Nothing more goes where damage was met. */
static bool is_damaged(const struct pc_heads *heads, const struct pc_head *head)
{
	return atomic_load_explicit(&heads->map->segs[head->seg_id].damaged, memory_order_relaxed) != 0;
}

static int alloc_locked(struct pc_heads *heads, struct pc_head *head, uint32_t len_blk, uint32_t leave_nr,
			struct pc_piece *pieces, uint32_t *out_piece_nr, bool *out_took)
{
	uint32_t seg_blk = heads->map->segment_blk, room_blk, ids[PC_PIECES_MAX], seg_nr, i;
	int rc;

	align_after_sync(heads, head);
	*out_piece_nr = 0;
	*out_took = false;
	room_blk = head->seg_id == PC_SEG_NONE || is_damaged(heads, head) ? 0 : seg_blk - head->next_blk;
	seg_nr = len_blk <= room_blk ? 0 : PC_DIV_UP(len_blk - room_blk, seg_blk);
	if (seg_nr + 1 > PC_PIECES_MAX)
		return PCACHE_E_TOO_BIG;
	if (seg_nr) {
		rc = pc_segmap_take_data(heads->map, seg_nr, leave_nr, ids);
		if (rc)
			return rc;
		*out_took = true;
	}
	if (room_blk && len_blk) {
		uint32_t part_blk = PC_MIN(room_blk, len_blk);

		add_piece(heads, pieces, out_piece_nr, head->seg_id, head->next_blk, part_blk);
		head->next_blk += part_blk;
		len_blk -= part_blk;
	}
	for (i = 0; i < seg_nr; i++) {
		uint32_t part_blk = PC_MIN(seg_blk, len_blk);

		if (head->seg_id != PC_SEG_NONE)
			pc_segmap_close(heads->map, head->seg_id);
		add_piece(heads, pieces, out_piece_nr, ids[i], 0, part_blk);
		head->seg_id = ids[i];
		head->next_blk = part_blk;
		len_blk -= part_blk;
	}
	return 0;
}

int pc_heads_alloc(struct pc_heads *heads, uint32_t len_blk, uint32_t leave_nr, struct pc_piece *pieces,
		   uint32_t *out_piece_nr, bool *out_took)
{
	struct pc_head *head = &heads->heads[thread_number() % heads->head_nr];
	int rc;

	pc_spin_lock(&head->lock);
	rc = alloc_locked(heads, head, len_blk, leave_nr, pieces, out_piece_nr, out_took);
	pc_spin_unlock(&head->lock);
	return rc;
}

bool pc_heads_alloc_one(struct pc_heads *heads, uint32_t len_blk, struct pc_piece *out_piece)
{
	struct pc_head *head = &heads->heads[thread_number() % heads->head_nr];
	uint32_t piece_nr = 0;

	pc_spin_lock(&head->lock);
	if (head->seg_id != PC_SEG_NONE && len_blk <= heads->map->segment_blk - head->next_blk &&
	    !is_damaged(heads, head)) {
		add_piece(heads, out_piece, &piece_nr, head->seg_id, head->next_blk, len_blk);
		head->next_blk += len_blk;
	}
	pc_spin_unlock(&head->lock);
	return piece_nr != 0;
}

void pc_heads_unalloc(struct pc_heads *heads, const struct pc_piece *pieces, uint32_t piece_nr)
{
	for (uint32_t i = 0; i < piece_nr; i++)
		pc_segmap_give_up(heads->map, pieces[i].seg_id, pieces[i].len_blk);
}
