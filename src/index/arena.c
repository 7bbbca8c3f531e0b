/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Areas. Each is a thirty-second part of all before it, as half of the last one is unused on average; from 16 MiB on they are 32 MiB of address space each, on huge pages where the system has them: a random
 * access to many 4 KiB pages costs a walk through the page tables as well. There is memory behind such an area only as far as it was given out, huge page by
 * huge page.
 */
#include "index/arena.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_BYTES ((size_t)4096)
#define HUGE_PAGE_BYTES ((size_t)2 << 20)
#define AREA_SHARE 32u /* of what was given out before: the next area */
#define AREA_BYTES_MIN ((size_t)16 << 10)
#define HUGE_AREA_BYTES ((size_t)32 << 20)
#define HUGE_FROM_BYTES ((uint64_t)16 << 20) /* given out: one huge page more or less does not matter then */
#define ALLOCATOR_BYTES \
	(2 * PAGE_BYTES) /* touched by the allocator before an area; more than it takes for small ones */

int pc_arena_init(struct pc_arena *arena)
{
	memset(arena, 0, sizeof(*arena));
	return pc_mutex_init(&arena->mutex, PC_RANK_ARENA, 0);
}

void pc_arena_fini(struct pc_arena *arena)
{
	struct pc_area *next;

	for (struct pc_area *area = arena->areas; area != NULL; area = next) {
		next = area->next;
		free(area->memory);
		free(area);
	}
	pc_mutex_fini(&arena->mutex);
}

static bool is_huge(const struct pc_area *area)
{
	return area->bytes >= HUGE_AREA_BYTES;
}

/* Memory behind the newest area. */
static uint64_t newest_bytes(const struct pc_arena *arena)
{
	const struct pc_area *area = arena->areas;

	if (area == NULL)
		return 0;
	if (!is_huge(area))
		return area->bytes;
	return PC_MIN(PC_ROUND_UP(arena->used_bytes, HUGE_PAGE_BYTES), area->bytes) + ALLOCATOR_BYTES;
}

static bool add_area_locked(struct pc_arena *arena, size_t need_bytes)
{
	bool huge = arena->given_bytes >= HUGE_FROM_BYTES;
	size_t wish_bytes = huge ? HUGE_AREA_BYTES : PC_MAX((size_t)arena->given_bytes / AREA_SHARE, AREA_BYTES_MIN);
	struct pc_area *area = malloc(sizeof(*area));

	if (area == NULL)
		return false;
	area->bytes = PC_ROUND_UP(PC_MAX(wish_bytes, need_bytes), huge ? HUGE_PAGE_BYTES : PAGE_BYTES);
	area->memory = aligned_alloc(is_huge(area) ? HUGE_PAGE_BYTES : PC_CACHE_LINE_BYTES, area->bytes);
	if (area->memory == NULL) {
		free(area);
		return false;
	}
	/* Only a wish: without huge pages it is slower. */
	if (is_huge(area))
		(void)madvise(area->memory, PC_ROUND_DOWN(area->bytes, HUGE_PAGE_BYTES), MADV_HUGEPAGE);
	arena->old_bytes += newest_bytes(arena);
	area->next = arena->areas;
	arena->areas = area;
	arena->used_bytes = 0;
	return true;
}

void *pc_arena_take(struct pc_arena *arena, size_t bytes)
{
	void *piece = NULL;

	assert(bytes > 0 && bytes % PC_CACHE_LINE_BYTES == 0);
	pc_mutex_lock(&arena->mutex);
	if ((arena->areas != NULL && arena->areas->bytes - arena->used_bytes >= bytes) ||
	    add_area_locked(arena, bytes)) {
		piece = (char *)arena->areas->memory + arena->used_bytes;
		arena->used_bytes += bytes;
		arena->given_bytes += bytes;
		atomic_store_explicit(&arena->dram_bytes, arena->old_bytes + newest_bytes(arena), memory_order_relaxed);
	}
	pc_mutex_unlock(&arena->mutex);
	return piece;
}
