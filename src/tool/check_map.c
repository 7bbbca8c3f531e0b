/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check, map: which key is seen at which block, found by a sweep instead of an index.
 *
 * All keys of the log are sorted by their first block. The sweep goes from block to block with a heap of the keys that
 * cover the current one; the latest in the order of replay is the one that is seen. That needs none of the cuts and
 * splits of an index, which is the point: the two can hardly be wrong in the same way. A key that is seen and
 *   - has lost its segment (another generation): masks; if it is dirty, its data is lost, because a segment is used again only after
 *     everything dirty in it is on the backing
 *   - says zeroes: is gone if it is clean, because the backing reads as zeroes by then
 *   - has data: becomes a piece.
 * Pieces are then sorted by their place on media. The record of their segment must be good, and their
 * data must have its CRC. Memory: a heap entry per key and at most two pieces per key.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "tool/check_internal.h"

/* The keys that cover the current block, the latest on top: indexes into check->keys. */
struct heap {
	size_t *items;
	size_t nr;
	const struct check_key *keys;
};

static bool heap_above(const struct heap *heap, size_t a, size_t b)
{
	return heap->keys[heap->items[a]].seq > heap->keys[heap->items[b]].seq;
}

static void heap_swap(struct heap *heap, size_t a, size_t b)
{
	size_t item = heap->items[a];

	heap->items[a] = heap->items[b];
	heap->items[b] = item;
}

static void heap_push(struct heap *heap, size_t item)
{
	size_t at = heap->nr++;

	heap->items[at] = item;
	while (at > 0 && heap_above(heap, at, (at - 1) / 2)) {
		heap_swap(heap, at, (at - 1) / 2);
		at = (at - 1) / 2;
	}
}

static void heap_pop(struct heap *heap)
{
	size_t at = 0, child;

	heap->items[0] = heap->items[--heap->nr];
	while ((child = 2 * at + 1) < heap->nr) {
		if (child + 1 < heap->nr && heap_above(heap, child + 1, child))
			child++;
		if (!heap_above(heap, child, at))
			return;
		heap_swap(heap, at, child);
		at = child;
	}
}

bool check_key_is_dirty(const struct check *check, const struct check_key *key)
{
	return !(key->flags & PC_KEY_CLEAN) && key->pos >= check->tail.dirty_tail_pos;
}

static bool add_piece(struct check *check, size_t key_idx, uint64_t from_blk, uint64_t to_blk)
{
	const struct check_key *key = &check->keys[key_idx];
	struct check_piece *last = check->piece_nr ? &check->pieces[check->piece_nr - 1] : NULL;

	if (last && last->key_idx == key_idx && last->vol_blk + last->len_blk == from_blk) {
		last->len_blk += (uint32_t)(to_blk - from_blk);
		return true;
	}
	if (check->piece_nr == check->piece_room) {
		size_t room = check->piece_room ? check->piece_room * 2 : 1024;
		struct check_piece *pieces = realloc(check->pieces, room * sizeof(*pieces));

		if (!pieces)
			return false;
		check->pieces = pieces;
		check->piece_room = room;
	}
	check->pieces[check->piece_nr++] = (struct check_piece){
		.vol_blk = from_blk,
		.key_idx = key_idx,
		.len_blk = (uint32_t)(to_blk - from_blk),
		.seg_id = key->seg_id,
		.seg_blk = key->seg_blk + (uint32_t)(from_blk - key->vol_blk),
	};
	return true;
}

static void tell_extent(const struct check *check, const struct check_key *key, uint64_t from_blk, uint64_t to_blk)
{
	const enum pc_key_type type = key->flags & PC_KEY_TYPE_MASK;
	const struct check_extent extent = {
		.vol_blk = from_blk,
		.len_blk = to_blk - from_blk,
		.media_off = type != PC_KEY_DATA
				     ? CHECK_NOWHERE
				     : pc_geo_segment_off(&check->super, key->seg_id) +
					       (key->seg_blk + (from_blk - key->vol_blk)) * check->rules.block_bytes,
		.type = type,
		.dirty = type != PC_KEY_POISON && check_key_is_dirty(check, key),
	};

	if (check->settings->extent)
		check->settings->extent(check->settings->user, &extent);
}

/* [from_blk, to_blk) is seen through a key. False without memory. */
static bool see(struct check *check, size_t key_idx, uint64_t from_blk, uint64_t to_blk)
{
	const struct check_key *key = &check->keys[key_idx];
	uint64_t bytes = (to_blk - from_blk) * check->rules.block_bytes;
	bool dirty = check_key_is_dirty(check, key);

	switch (key->flags & PC_KEY_TYPE_MASK) {
	case PC_KEY_ZERO:
		if (dirty) {
			check->counts.dirty_zero_bytes += bytes;
			tell_extent(check, key, from_blk, to_blk);
		}
		return true;
	case PC_KEY_POISON:
		tell_extent(check, key, from_blk, to_blk);
		check_problem(check, CHECK_M5, CHECK_NOTE, check_pos_off(check, key->pos),
			      "%" PRIu64 " bytes at 0x%" PRIx64
			      " of the backing are poisoned: their data was lost earlier, overwriting cures them",
			      bytes, from_blk * check->rules.block_bytes);
		check->counts.poisoned_bytes += bytes;
		return true;
	default:
		break;
	}
	if (!(key->state & CHECK_KEY_STALE)) {
		tell_extent(check, key, from_blk, to_blk);
		return add_piece(check, key_idx, from_blk, to_blk);
	}
	if (dirty && !(key->state & CHECK_KEY_IMPOSSIBLE))
		check_problem(check, CHECK_M1, CHECK_DAMAGE, check_pos_off(check, key->pos),
			      "dirty data of %" PRIu64 " bytes at 0x%" PRIx64
			      " of the backing is lost: segment %" PRIu32 " was used again",
			      bytes, from_blk * check->rules.block_bytes, key->seg_id);
	return true;
}

static int compare_keys(const void *left, const void *right)
{
	const struct check_key *a = left, *b = right;

	if (a->vol_blk != b->vol_blk)
		return a->vol_blk < b->vol_blk ? -1 : 1;
	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

static uint64_t end_blk(const struct check_key *key)
{
	return key->vol_blk + key->len_blk;
}

/* False without memory. */
static bool sweep(struct check *check, struct heap *heap)
{
	size_t next = 0;
	uint64_t blk = 0;

	while (next < check->key_nr || heap->nr) {
		uint64_t to_blk;

		if (heap->nr == 0)
			blk = check->keys[next].vol_blk;
		while (next < check->key_nr && check->keys[next].vol_blk == blk)
			heap_push(heap, next++);
		while (heap->nr && end_blk(&check->keys[heap->items[0]]) <= blk)
			heap_pop(heap);
		if (heap->nr == 0)
			continue;
		to_blk = end_blk(&check->keys[heap->items[0]]);
		if (next < check->key_nr)
			to_blk = PC_MIN(to_blk, check->keys[next].vol_blk);
		if (!see(check, heap->items[0], blk, to_blk))
			return false;
		blk = to_blk;
	}
	return true;
}

static int compare_pieces(const void *left, const void *right)
{
	const struct check_piece *a = left, *b = right;

	if (a->seg_id != b->seg_id)
		return a->seg_id < b->seg_id ? -1 : 1;
	if (a->seg_blk != b->seg_blk)
		return a->seg_blk < b->seg_blk ? -1 : 1;
	return a->vol_blk < b->vol_blk ? -1 : a->vol_blk > b->vol_blk;
}

static void verify_piece(struct check *check, const struct check_piece *piece)
{
	const struct check_key *key = &check->keys[piece->key_idx];
	enum check_verdict verdict;
	uint64_t off;

	if (check->no_data || !check->rules.data_crc || key->state & CHECK_KEY_VERIFIED)
		return;
	verdict = check_data(check, key, piece->seg_blk, piece->len_blk, &off);
	if (verdict != CHECK_DATA_GOOD)
		check_problem(check, verdict == CHECK_DATA_WRONG ? CHECK_M4 : CHECK_F3, CHECK_DAMAGE, off,
			      "%s data of 0x%" PRIx64 " of the backing (key at position %" PRIu64 ") %s",
			      check_key_is_dirty(check, key) ? "dirty" : "clean",
			      piece->vol_blk * check->rules.block_bytes, key->pos,
			      verdict == CHECK_DATA_WRONG ? "has another CRC" : "cannot be read");
}

static void check_piece(struct check *check, const struct check_piece *piece)
{
	uint64_t bytes = (uint64_t)piece->len_blk * check->rules.block_bytes;
	uint64_t off =
		pc_geo_segment_off(&check->super, piece->seg_id) + (uint64_t)piece->seg_blk * check->rules.block_bytes;

	check->counts.live_extents++;
	if (check_key_is_dirty(check, &check->keys[piece->key_idx]))
		check->counts.dirty_bytes += bytes;
	else
		check->counts.clean_bytes += bytes;
	if (check->segrecs[piece->seg_id].type == CHECK_SEG_LOST)
		check_problem(check, CHECK_M2, CHECK_DAMAGE, off,
			      "data of 0x%" PRIx64 " of the backing lies in segment %" PRIu32 ", whose record is lost",
			      piece->vol_blk * check->rules.block_bytes, piece->seg_id);
	verify_piece(check, piece);
}

static bool has_data(const struct check_key *key)
{
	return (key->flags & PC_KEY_TYPE_MASK) == PC_KEY_DATA && !(key->state & CHECK_KEY_STALE);
}

static int compare_places(const void *left, const void *right)
{
	const struct check_key *a = left, *b = right;

	if (a->seg_id != b->seg_id)
		return a->seg_id < b->seg_id ? -1 : 1;
	if (a->seg_blk != b->seg_blk)
		return a->seg_blk < b->seg_blk ? -1 : 1;
	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

/*
 * A block of a segment holds, for as long as the segment has this generation, one block of the backing: also where a newer key hides it. Keys that are sorted by place and
 * meet must lie at one distance from their range. Leaves the keys sorted by place.
 */
static void check_sharing(struct check *check)
{
	const struct check_key *widest = NULL; /* of those before, the one that ends last */
	size_t i;

	qsort(check->keys, check->key_nr, sizeof(*check->keys), compare_places);
	for (i = 0; i < check->key_nr; i++) {
		const struct check_key *key = &check->keys[i];

		if (!has_data(key))
			continue;
		if (widest && widest->seg_id == key->seg_id && widest->seg_blk + widest->len_blk > key->seg_blk &&
		    key->vol_blk - key->seg_blk != widest->vol_blk - widest->seg_blk)
			check_problem(check, CHECK_M3, CHECK_DAMAGE,
				      pc_geo_segment_off(&check->super, key->seg_id) +
					      (uint64_t)key->seg_blk * check->rules.block_bytes,
				      "0x%" PRIx64 " and 0x%" PRIx64
				      " of the backing share data (keys at positions %" PRIu64 " and %" PRIu64 ")",
				      widest->vol_blk * check->rules.block_bytes,
				      key->vol_blk * check->rules.block_bytes, widest->pos, key->pos);
		if (!widest || widest->seg_id != key->seg_id ||
		    widest->seg_blk + widest->len_blk < key->seg_blk + key->len_blk)
			widest = key;
	}
}

static void tell_keys(const struct check *check)
{
	for (size_t i = 0; check->settings->key && i < check->key_nr; i++) {
		const struct check_key *key = &check->keys[i];
		const struct check_found_key found = { .vol_blk = key->vol_blk,
						       .len_blk = key->len_blk,
						       .flags = key->flags,
						       .dirty = check_key_is_dirty(check, key) };

		check->settings->key(check->settings->user, &found);
	}
}

int check_map(struct check *check)
{
	struct heap heap = { 0 };
	size_t i;
	bool ok;

	if (check->key_nr == 0)
		return 0;
	tell_keys(check);
	check_sharing(check);
	qsort(check->keys, check->key_nr, sizeof(*check->keys), compare_keys);
	heap.items = calloc(check->key_nr, sizeof(*heap.items));
	if (!heap.items)
		return -ENOMEM;
	heap.keys = check->keys;
	ok = sweep(check, &heap);
	free(heap.items);
	if (!ok)
		return -ENOMEM;
	if (check->piece_nr == 0)
		return 0;
	qsort(check->pieces, check->piece_nr, sizeof(*check->pieces), compare_pieces);
	for (i = 0; i < check->piece_nr; i++) {
		check_piece(check, &check->pieces[i]);
		check_progress(check, check->piece_nr + i, (uint64_t)check->piece_nr * 2);
	}
	return 0;
}
