/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A flat model of the index for its tests: one cell per block says which inserted extent owns it and which block of that extent it is.
 * The cells know the extent; its pos is unique, but shared by a run: pos_base + 1, 2, 3, ... Every operation is done on both and compared: what was displaced, block
 * by block and exactly once, and with model_compare what is left.
 */
#ifndef TESTS_INDEX_MODEL_H
#define TESTS_INDEX_MODEL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "index/index.h"

struct cell {
	uint32_t owner; /* number of the extent; 0: none */
	uint32_t idx; /* block in it */
	uint32_t left_op; /* last operation that displaced this block */
};

struct model {
	struct pc_index *index;
	struct pc_index_params params;
	uint64_t base; /* vol_blk of cell 0 */
	uint64_t pos_base;
	uint32_t space_blk;
	uint32_t op;
	uint32_t owner_nr;
	uint32_t owner_cap;
	uint32_t pos_nr; /* positions given out */
	uint64_t displaced_blk; /* in this operation */
	uint64_t range_blk, range_len; /* of this operation */
	struct cell *cells;
	struct pc_extent *owners; /* by number */
	struct pc_extent *found; /* space_blk of them */
};

static inline uint64_t rnd(uint64_t *seed)
{
	uint64_t z = (*seed += 0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* The largest geometry of segments there is. */
static inline struct pc_index_params model_params(uint32_t shard_nr, uint32_t stripe_blk)
{
	return (struct pc_index_params){ .shard_nr = shard_nr,
					 .stripe_blk = stripe_blk,
					 .segment_nr = 1u << 24,
					 .segment_blk = 1u << 15,
					 .slot_nr = UINT64_C(1) << 26,
					 .volume_blk = UINT64_MAX };
}

static inline void model_init_with(struct model *m, const struct pc_index_params *params, uint64_t base,
				   uint32_t space_blk)
{
	memset(m, 0, sizeof(*m));
	assert_int_equal(pc_index_new(params, &m->index), 0);
	m->params = *params;
	m->base = base;
	m->space_blk = space_blk;
	m->owner_cap = 1024;
	m->cells = calloc(space_blk, sizeof(*m->cells));
	m->owners = calloc(m->owner_cap, sizeof(*m->owners));
	m->found = calloc(space_blk, sizeof(*m->found));
	assert_true(m->cells != NULL && m->owners != NULL && m->found != NULL);
}

static inline void model_init(struct model *m, uint32_t shard_nr, uint32_t stripe_blk, uint64_t base,
			      uint32_t space_blk)
{
	struct pc_index_params params = model_params(shard_nr, stripe_blk);

	model_init_with(m, &params, base, space_blk);
}

static inline void model_fini(struct model *m)
{
	pc_index_free(m->index);
	free(m->cells);
	free(m->owners);
	free(m->found);
}

/* Extent, or piece of one, agrees with the cells that it covers. */
static inline void model_check_piece(const struct model *m, const struct pc_extent *e)
{
	uint64_t blk = e->vol_blk - m->base;
	const struct pc_extent *o;
	uint32_t owner;

	assert_true(e->len_blk > 0 && blk < m->space_blk && e->len_blk <= m->space_blk - blk);
	owner = m->cells[blk].owner;
	assert_true(owner > 0 && owner <= m->owner_nr);
	o = &m->owners[owner];
	assert_int_equal(e->pos, o->pos);
	assert_int_equal(e->flags, o->flags);
	for (uint32_t i = 0; i < e->len_blk; i++) {
		assert_int_equal(m->cells[blk + i].owner, owner);
		assert_int_equal(m->cells[blk + i].idx, m->cells[blk].idx + i);
	}
	if ((o->flags & PC_EXT_TYPE_MASK) != PC_EXT_DATA) {
		assert_true(e->seg_id == 0 && e->seg_blk == 0 && e->geom == 0 && e->crc == 0);
		return;
	}
	assert_int_equal(e->seg_id, o->seg_id);
	assert_int_equal(e->crc, o->crc);
	assert_int_equal(e->seg_blk, o->seg_blk + m->cells[blk].idx);
	/* The chunk never moves and never changes its length. */
	assert_int_equal(e->seg_blk - (e->geom & 7), o->seg_blk - (o->geom & 7));
	assert_int_equal((e->geom & 7) + e->len_blk + (e->geom >> 3), (o->geom & 7) + o->len_blk + (o->geom >> 3));
}

/* Several extents in one piece: of each, what must be the same. */
static inline void model_check_alike(const struct model *m, const struct pc_extent *e)
{
	uint64_t blk = e->vol_blk - m->base;

	assert_int_equal(e->flags & ~PC_EXT_DIRTY, PC_EXT_DATA);
	for (uint32_t i = 0; i < e->len_blk; i++) {
		const struct pc_extent *o = &m->owners[m->cells[blk + i].owner];

		assert_int_not_equal(m->cells[blk + i].owner, 0);
		assert_int_equal(e->pos, o->pos);
		assert_int_equal(e->seg_id, o->seg_id);
		assert_int_equal(e->flags, o->flags);
	}
}

static inline void model_displaced(void *ctx, const struct pc_extent *piece)
{
	struct model *m = ctx;
	uint64_t blk = piece->vol_blk - m->base;

	assert_true(piece->len_blk > 0 && blk < m->space_blk && piece->len_blk <= m->space_blk - blk);
	if (m->cells[blk].owner == m->cells[blk + piece->len_blk - 1].owner)
		model_check_piece(m, piece);
	else
		model_check_alike(m, piece);
	assert_true(piece->vol_blk >= m->range_blk && piece->vol_blk + piece->len_blk <= m->range_blk + m->range_len);
	for (uint32_t i = 0; i < piece->len_blk; i++) {
		assert_int_not_equal(m->cells[blk + i].left_op, m->op); /* not twice */
		m->cells[blk + i].left_op = m->op;
	}
	m->displaced_blk += piece->len_blk;
}

static inline uint64_t model_begin(struct model *m, uint32_t blk, uint32_t len)
{
	uint64_t owned = 0;

	m->op++;
	m->displaced_blk = 0;
	m->range_blk = m->base + blk;
	m->range_len = len;
	for (uint32_t i = 0; i < len; i++)
		owned += m->cells[blk + i].owner != 0;
	return owned;
}

static inline void model_lock(struct model *m, uint32_t blk, uint32_t len, uint64_t *mask)
{
	*mask = pc_index_mask(m->index, m->base + blk, len);
	pc_index_lock(m->index, *mask);
	assert_int_equal(pc_index_reserve_locked(m->index, *mask, 1 + len), 0);
}

static inline void model_owners_room(struct model *m, uint32_t nr)
{
	if (m->owner_nr + nr + 1 < m->owner_cap)
		return;
	m->owner_cap = 2 * m->owner_cap + nr;
	m->owners = realloc(m->owners, m->owner_cap * sizeof(*m->owners));
	assert_non_null(m->owners);
}

/* One insertion; DATA gets a chunk whose head and tail are as large as hint allows. */
static inline void model_insert(struct model *m, uint32_t blk, uint32_t len, uint8_t flags, uint64_t hint)
{
	struct pc_extent e = { .vol_blk = m->base + blk, .len_blk = len, .flags = flags };
	uint64_t owned = model_begin(m, blk, len);
	uint64_t mask;

	model_owners_room(m, 1);
	e.pos = m->pos_base + ++m->pos_nr;
	m->owner_nr++;
	if ((flags & PC_EXT_TYPE_MASK) == PC_EXT_DATA) {
		uint32_t head = (uint32_t)(hint % (9 - len));
		uint32_t tail = (uint32_t)((hint >> 8) % (9 - len - head));

		e.seg_id = hint >> 40 & 1 ? m->params.segment_nr - 1 : m->owner_nr * 7 % m->params.segment_nr;
		e.crc = m->owner_nr * 0x9e3779b1u;
		e.seg_blk = (uint16_t)(head + (hint >> 16) % (m->params.segment_blk - 7));
		e.geom = (uint8_t)(head | tail << 3);
	}
	m->owners[m->owner_nr] = e;
	model_lock(m, blk, len, &mask);
	pc_index_insert_locked(m->index, &e, model_displaced, m);
	pc_index_unlock(m->index, mask);
	assert_int_equal(m->displaced_blk, owned);
	for (uint32_t i = 0; i < len; i++) {
		m->cells[blk + i].owner = m->owner_nr;
		m->cells[blk + i].idx = i;
	}
}

/* nr DATA extents of len each, in one segment; with_crcs false: their CRCs are 0. */
static inline void model_insert_run(struct model *m, uint32_t blk, uint32_t len, uint32_t nr, uint8_t flags,
				    uint64_t hint, bool with_crcs)
{
	uint64_t owned = model_begin(m, blk, nr * len), mask;
	struct pc_extent e = { .vol_blk = m->base + blk, .len_blk = len, .flags = flags };
	uint32_t *crcs = calloc(nr, sizeof(*crcs)), room_blk = m->params.segment_blk - nr * len;

	assert_non_null(crcs);
	model_owners_room(m, nr);
	e.pos = m->pos_base + ++m->pos_nr;
	e.seg_id = (uint32_t)(hint % m->params.segment_nr);
	e.seg_blk = (uint16_t)((hint >> 32) % (room_blk + 1));
	for (uint32_t i = 0; i < nr; i++) {
		struct pc_extent *o = &m->owners[m->owner_nr + 1 + i];

		*o = e;
		o->vol_blk += (uint64_t)i * len;
		o->seg_blk = (uint16_t)(e.seg_blk + i * len);
		crcs[i] = o->crc = with_crcs ? (m->owner_nr + 1 + i) * 0x9e3779b1u : 0;
	}
	e.crc = ~crcs[0]; /* is not looked at */
	model_lock(m, blk, nr * len, &mask);
	pc_index_insert_run_locked(m->index, &(struct pc_extent_run){ &e, with_crcs ? crcs : NULL, nr },
				   model_displaced, m);
	pc_index_unlock(m->index, mask);
	assert_int_equal(m->displaced_blk, owned);
	for (uint32_t i = 0; i < nr * len; i++) {
		m->cells[blk + i].owner = m->owner_nr + 1 + i / len;
		m->cells[blk + i].idx = i % len;
	}
	m->owner_nr += nr;
	free(crcs);
}

static inline void model_erase(struct model *m, uint32_t blk, uint32_t len)
{
	uint64_t owned = model_begin(m, blk, len);
	uint64_t mask;

	model_lock(m, blk, len, &mask);
	pc_index_erase_locked(m->index, m->base + blk, len, model_displaced, m);
	pc_index_unlock(m->index, mask);
	assert_int_equal(m->displaced_blk, owned);
	for (uint32_t i = 0; i < len; i++)
		m->cells[blk + i].owner = 0;
}

/* Without the lock the same is found, stripe by stripe. */
static inline void model_peek(const struct model *m, uint64_t blk, uint64_t end, const struct pc_extent *found,
			      uint32_t found_nr)
{
	struct pc_extent out[64];
	uint32_t nr = 0;

	while (blk < end) {
		uint64_t part_end = PC_MIN(pc_index_stripe_end(m->index, blk), end);
		struct pc_index_peek peek;

		assert_true(pc_index_peek(m->index, blk, part_end - blk, out, 64, &peek));
		assert_true(pc_index_peek_holds(&peek));
		assert_true(nr + peek.nr <= found_nr);
		assert_memory_equal(out, found + nr, peek.nr * sizeof(*out));
		nr += peek.nr;
		blk = peek.nr < 64 ? part_end : out[63].vol_blk + out[63].len_blk;
	}
	assert_int_equal(nr, found_nr);
}

/* Looks a range up: exactly the owned blocks, ascending, clipped. */
static inline void model_lookup(struct model *m, uint32_t blk, uint32_t len)
{
	uint64_t mask = pc_index_mask(m->index, m->base + blk, len);
	uint64_t next = m->base + blk;
	uint64_t end = next + len;
	uint64_t owned = 0;
	uint64_t seen = 0;
	uint32_t nr;

	pc_index_lock(m->index, mask);
	nr = pc_index_lookup_locked(m->index, next, len, m->found, m->space_blk);
	pc_index_unlock(m->index, mask);
	for (uint32_t i = 0; i < len; i++)
		owned += m->cells[blk + i].owner != 0;
	for (uint32_t i = 0; i < nr; i++) {
		const struct pc_extent *e = &m->found[i];

		assert_true(e->vol_blk >= next && e->vol_blk + e->len_blk <= end);
		assert_true(e->vol_blk + e->len_blk <= pc_index_stripe_end(m->index, e->vol_blk));
		model_check_piece(m, e);
		next = e->vol_blk + e->len_blk;
		seen += e->len_blk;
	}
	assert_int_equal(seen, owned);
	model_peek(m, m->base + blk, end, m->found, nr);
}

static inline void model_compare(struct model *m)
{
	const char *text = pc_index_check(m->index);

	if (text != NULL)
		fail_msg("check: %s", text);
	model_lookup(m, 0, m->space_blk);
}

#endif
