/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Media, stores that gather before they become calls: page granularity on a disk.
 *
 * A call for each block costs more than all else that a write does, and leaves the page cache with a folio for each block, which a sync then goes through one by one. Stores
 * between two syncs are nearly all appends, to the log and to the data segment of each head. So they gather in windows, some hundred KiB of consecutive bytes each, in memory of our own;
 * a window is written by one call for each run of its lines, when the next sync wants it, or when its memory is wanted for another place.
 *
 *   store   into the window that covers the place; else into a free window, or the one used least recently, which is written first
 *   sync    writes all windows, and then syncs the file. What was stored before the sync began is so covered as without windows
 *   load    of bytes that no window covers goes to the mapping. Else under the lock: mapping, and on top of it what the window has
 *
 * Windows never overlap, so each byte has one newest place. A line has a bit that says that the window has it; bytes between stores are never written. Until a window is written,
 * its stores are gone when the process ends: at page granularity nothing else was promised before a sync. What cannot be written stays in its window, readable, and the error makes every later
 * sync fail (media.h); then nothing is stored any more.
 *
 * Lock: PC_RANK_MEDIA, 1, inside of everything. The check without it reads the starts of the windows, see LOCKING.md.
 */
#include "media/stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"
#include "base/sched.h"

#define NO_WINDOW UINT64_MAX /* as base_off: covers nothing */

struct window {
	uint64_t end_off; /* at most base_off + window_bytes; the next window may begin there */
	uint64_t used_nr; /* of the last store */
	uint8_t *bytes;
	uint64_t *lines; /* a bit for each line that the window has */
};

struct pc_stage {
	struct pc_mutex lock;
	uint64_t window_bytes; /* a multiple of 64 lines */
	uint64_t store_nr;
	uint32_t window_nr;
	struct window windows[PC_STAGE_WINDOWS_MAX];
	/* Written under the lock, read by loads without. */
	_Alignas(64) _Atomic uint64_t base_off[PC_STAGE_WINDOWS_MAX];
};

int pc_stage_new(uint32_t window_nr, uint64_t window_bytes, struct pc_stage **out_stage)
{
	struct pc_stage *stage = aligned_alloc(64, sizeof(*stage));
	uint64_t word_nr = window_bytes / PC_CACHE_LINE_BYTES / 64;
	int rc = stage ? 0 : -ENOMEM;

	if (rc)
		return rc;
	memset(stage, 0, sizeof(*stage));
	stage->window_bytes = window_bytes;
	rc = pc_mutex_init(&stage->lock, PC_RANK_MEDIA, 1);
	if (rc) {
		free(stage);
		return rc;
	}
	for (; stage->window_nr < window_nr && !rc; stage->window_nr++) {
		struct window *window = &stage->windows[stage->window_nr];

		atomic_init(&stage->base_off[stage->window_nr], NO_WINDOW);
		window->bytes = aligned_alloc(PC_PAGE_BYTES, window_bytes);
		window->lines = calloc(word_nr, sizeof(*window->lines));
		if (!window->bytes || !window->lines)
			rc = -ENOMEM;
	}
	if (rc) {
		pc_stage_free(stage);
		return rc;
	}
	*out_stage = stage;
	return 0;
}

void pc_stage_free(struct pc_stage *stage)
{
	if (!stage)
		return;
	for (uint32_t i = 0; i < stage->window_nr; i++) {
		free(stage->windows[i].bytes);
		free(stage->windows[i].lines);
	}
	pc_mutex_fini(&stage->lock);
	free(stage);
}

static void clear_window_locked(struct pc_stage *stage, uint32_t idx)
{
	memset(stage->windows[idx].lines, 0, stage->window_bytes / PC_CACHE_LINE_BYTES / 8);
	/* Order of memory: who sees it sees what was written to the file before. */
	atomic_store_explicit(&stage->base_off[idx], NO_WINDOW, memory_order_release);
}

void pc_stage_drop(struct pc_stage *stage)
{
	for (uint32_t i = 0; i < stage->window_nr; i++)
		clear_window_locked(stage, i);
}

/* ---- lines ---------------------------------------------------------------------------------------------------------- */

static bool has_line(const struct window *window, uint64_t line)
{
	return window->lines[line / 64] >> (line % 64) & 1;
}

static void set_lines(struct window *window, uint64_t line, uint64_t end)
{
	while (line < end) {
		uint64_t nr = PC_MIN(64 - line % 64, end - line);
		uint64_t mask = nr == 64 ? UINT64_MAX : ((UINT64_C(1) << nr) - 1) << (line % 64);

		window->lines[line / 64] |= mask;
		line += nr;
	}
}

/* The first line from line on that the window has (or has not); end if there is none. */
static uint64_t find_line(const struct window *window, uint64_t line, uint64_t end, bool has)
{
	while (line < end) {
		uint64_t word = has ? window->lines[line / 64] : ~window->lines[line / 64];

		word >>= line % 64;
		if (word)
			return PC_MIN(end, line + (uint64_t)__builtin_ctzll(word));
		line = PC_ROUND_UP(line + 1, UINT64_C(64));
	}
	return end;
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

static void write_window_locked(struct pc_media *media, uint32_t idx)
{
	struct pc_stage *stage = media->stage;
	struct window *window = &stage->windows[idx];
	uint64_t base_off = atomic_load_explicit(&stage->base_off[idx], memory_order_relaxed);
	uint64_t end = stage->window_bytes / PC_CACHE_LINE_BYTES, line = 0;

	if (base_off == NO_WINDOW)
		return;
	if (PC_PLANTED(PC_PLANT_STAGE_GONE_EARLY))
		atomic_store(&stage->base_off[idx], NO_WINDOW);
	PC_YIELD(STAGE_WRITING);
	while ((line = find_line(window, line, end, true)) < end) {
		uint64_t run_end = find_line(window, line, end, false);

		media->ops->copy(media, base_off + line * PC_CACHE_LINE_BYTES,
				 window->bytes + line * PC_CACHE_LINE_BYTES, (run_end - line) * PC_CACHE_LINE_BYTES);
		line = run_end;
		if (PC_PLANTED(PC_PLANT_STAGE_ONE_RUN))
			break;
	}
	if (!pc_media_error(media))
		clear_window_locked(stage, idx);
}

/* The disk gets to work on a window while the next one is written. After the last one comes the sync. */
void pc_stage_write(struct pc_media *media)
{
	struct pc_stage *stage = media->stage;
	uint64_t begin_off = NO_WINDOW, begin_bytes = 0;

	pc_mutex_lock(&stage->lock);
	for (uint32_t i = 0; i < stage->window_nr && !pc_media_error(media); i++) {
		uint64_t base_off = atomic_load_explicit(&stage->base_off[i], memory_order_relaxed);

		if (base_off == NO_WINDOW || (PC_PLANTED(PC_PLANT_STAGE_KEPT) && i == 0))
			continue;
		if (begin_off != NO_WINDOW && media->ops->begin)
			media->ops->begin(media, begin_off, begin_bytes);
		begin_off = base_off;
		begin_bytes = stage->windows[i].end_off - base_off;
		write_window_locked(media, i);
	}
	pc_mutex_unlock(&stage->lock);
}

/* Writes the windows that have any of [off, off + len). */
static void write_range_locked(struct pc_media *media, uint64_t off, uint64_t len)
{
	struct pc_stage *stage = media->stage;

	for (uint32_t i = 0; i < stage->window_nr; i++) {
		uint64_t base_off = atomic_load_explicit(&stage->base_off[i], memory_order_relaxed);

		if (base_off != NO_WINDOW && base_off < off + len && off < stage->windows[i].end_off)
			write_window_locked(media, i);
	}
}

void pc_stage_write_range(struct pc_media *media, uint64_t off, uint64_t len)
{
	pc_mutex_lock(&media->stage->lock);
	write_range_locked(media, off, len);
	pc_mutex_unlock(&media->stage->lock);
}

/* ---- storing -------------------------------------------------------------------------------------------------------- */

/* A window for off: one that is free, or the one that was used least recently. window_nr: the media has failed. */
static uint32_t begin_window_locked(struct pc_media *media, uint64_t off)
{
	struct pc_stage *stage = media->stage;
	uint64_t base_off = PC_ROUND_DOWN(off, (uint64_t)PC_PAGE_BYTES), end_off;
	uint32_t idx = 0;

	for (uint32_t i = 0; i < stage->window_nr; i++) {
		if (atomic_load_explicit(&stage->base_off[i], memory_order_relaxed) == NO_WINDOW) {
			idx = i;
			break;
		}
		if (stage->windows[i].used_nr < stage->windows[idx].used_nr)
			idx = i;
	}
	write_window_locked(media, idx);
	if (pc_media_error(media))
		return stage->window_nr;
	/* Another window may lie above, and one below may end in this page. */
	end_off = base_off + stage->window_bytes;
	for (uint32_t i = 0; i < stage->window_nr; i++) {
		uint64_t other_off = atomic_load_explicit(&stage->base_off[i], memory_order_relaxed);

		if (other_off == NO_WINDOW)
			continue;
		if (other_off > off)
			end_off = PC_MIN(end_off, other_off);
		else
			base_off = PC_MAX(base_off, stage->windows[i].end_off);
	}
	stage->windows[idx].end_off = end_off;
	atomic_store_explicit(&stage->base_off[idx], base_off, memory_order_release);
	return idx;
}

static uint32_t window_of_locked(struct pc_media *media, uint64_t off)
{
	struct pc_stage *stage = media->stage;

	for (uint32_t i = 0; i < stage->window_nr; i++) {
		uint64_t base_off = atomic_load_explicit(&stage->base_off[i], memory_order_relaxed);

		if (base_off <= off && off < stage->windows[i].end_off && base_off != NO_WINDOW)
			return i;
	}
	return begin_window_locked(media, off);
}

void pc_stage_store(struct pc_media *media, uint64_t off, const void *src, size_t len)
{
	struct pc_stage *stage = media->stage;
	const uint8_t *from = src;

	pc_mutex_lock(&stage->lock);
	if ((off | len) % PC_CACHE_LINE_BYTES != 0) {
		write_range_locked(media, PC_ROUND_DOWN(off, (uint64_t)PC_CACHE_LINE_BYTES),
				   len + 2 * PC_CACHE_LINE_BYTES);
		if (!pc_media_error(media))
			media->ops->copy(media, off, src, len);
		len = 0;
	}
	while (len > 0 && !pc_media_error(media)) {
		uint32_t idx = window_of_locked(media, off);
		struct window *window = &stage->windows[idx];
		uint64_t base_off, line;
		size_t part;

		if (idx == stage->window_nr)
			break;
		base_off = atomic_load_explicit(&stage->base_off[idx], memory_order_relaxed);
		part = PC_MIN(len, (size_t)(window->end_off - off));
		pc_media_copy_out(window->bytes + (off - base_off), from, part);
		line = (off - base_off) / PC_CACHE_LINE_BYTES;
		set_lines(window, line, line + part / PC_CACHE_LINE_BYTES);
		window->used_nr = ++stage->store_nr;
		off += part;
		from += part;
		len -= part;
	}
	pc_mutex_unlock(&stage->lock);
}

/* ---- loading -------------------------------------------------------------------------------------------------------- */

bool pc_stage_may_have(const struct pc_media *media, uint64_t off, size_t len)
{
	const struct pc_stage *stage = media->stage;

	for (uint32_t i = 0; i < stage->window_nr; i++) {
		/* Order of memory: a window that is gone was written to the file before. */
		uint64_t base_off = atomic_load_explicit(&stage->base_off[i], memory_order_acquire);

		if (base_off != NO_WINDOW && base_off < off + len && off < base_off + stage->window_bytes)
			return true;
	}
	return false;
}

/* Puts what a window has of [off, off + len) over dst. Returns the bytes. */
static size_t overlay_locked(const struct window *window, uint64_t base_off, uint64_t off, uint8_t *dst, size_t len)
{
	uint64_t at = PC_MAX(off, base_off), end = PC_MIN(off + len, window->end_off);
	size_t put = 0;

	while (at < end) {
		uint64_t line = (at - base_off) / PC_CACHE_LINE_BYTES;
		uint64_t part = PC_MIN(end, base_off + (line + 1) * PC_CACHE_LINE_BYTES) - at;

		if (has_line(window, line) && !PC_PLANTED(PC_PLANT_STAGE_NOT_READ)) {
			memcpy(dst + (at - off), window->bytes + (at - base_off), part);
			put += part;
		}
		at += part;
	}
	return put;
}

int pc_stage_load(struct pc_media *media, uint64_t off, void *dst, size_t len)
{
	struct pc_stage *stage = media->stage;
	size_t put = 0;
	int rc;

	pc_mutex_lock(&stage->lock);
	rc = pc_media_load_mapped(media, off, dst, len);
	for (uint32_t i = 0; i < stage->window_nr; i++) {
		uint64_t base_off = atomic_load_explicit(&stage->base_off[i], memory_order_relaxed);

		if (base_off != NO_WINDOW && base_off < off + len && off < stage->windows[i].end_off)
			put += overlay_locked(&stage->windows[i], base_off, off, dst, len);
	}
	pc_mutex_unlock(&stage->lock);
	return put == len ? 0 : rc;
}
