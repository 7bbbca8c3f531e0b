/* SPDX-License-Identifier: BSD-3-Clause */
/* Segments and data heads: taken all or none, generations raised durably first, given back only when nobody needs them. */
#include <errno.h>
#include <string.h>

#include "core/rig.h"
#include "sim/generator.h"

static void durable_record(struct rig *rig, unsigned int replica, uint32_t id, struct pc_segrec *out_rec)
{
	struct pcm_segrec bytes;

	memcpy(&bytes, pc_sim_durable(rig->sim) + pc_geo_segrec_off(&rig->cache->layout.super, replica, id),
	       sizeof(bytes));
	assert_int_equal(pc_segrec_decode(&bytes, id, out_rec), PC_VALID);
}

static uint64_t hash(struct rig *rig)
{
	return pc_sim_image_hash(pc_sim_view(rig->sim), pc_sim_media(rig->sim)->len_bytes);
}

static void generation_is_durable_before_use(void **state)
{
	(void)state;
	for (uint32_t page = 0; page < 2; page++) {
		struct pc_segmap *map;
		struct rig rig;
		uint32_t ids[4], id;

		rig_zero(&rig);
		rig.o.granularity = page ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
		rig_up(&rig);
		map = &rig.cache->map;
		assert_int_equal(pc_segmap_take_data(map, 4, 0, ids), 0);
		for (uint32_t i = 0; i < 4; i++) {
			for (unsigned int replica = 0; replica < 2; replica++) {
				struct pc_segrec rec;

				durable_record(&rig, replica, ids[i], &rec);
				assert_int_equal(rec.gen, 2);
				assert_int_equal(rec.type, PC_SEG_DATA);
			}
			assert_int_equal(atomic_load(&map->segs[ids[i]].gen), 2);
			assert_int_equal(atomic_load(&map->segs[ids[i]].state), PC_SS_OPEN);
			for (uint32_t j = 0; j < i; j++)
				assert_int_not_equal(ids[i], ids[j]);
		}
		assert_int_equal(pc_segmap_take_log(map, 77, 0x1234, &id), 0);
		for (unsigned int replica = 0; replica < 2; replica++) {
			struct pc_segrec rec;

			durable_record(&rig, replica, id, &rec);
			assert_int_equal(rec.type, PC_SEG_LOG);
			assert_int_equal(rec.ordinal, 77);
			assert_int_equal(rec.nonce, 0x1234);
			assert_int_equal(rec.gen, 2);
		}
		rig_down(&rig);
	}
}

static void full_changes_nothing(void **state)
{
	struct pc_segmap *map;
	struct rig rig;
	uint32_t ids[32], free_nr;
	uint64_t before;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	map = &rig.cache->map;
	free_nr = pc_segmap_free_nr(map);
	assert_true(free_nr > 8);
	before = hash(&rig);
	/* One is the log's; the caller may leave more. */
	assert_int_equal(pc_segmap_take_data(map, free_nr, 0, ids), PCACHE_E_FULL);
	assert_int_equal(pc_segmap_take_data(map, free_nr - 4, 4, ids), PCACHE_E_FULL);
	assert_int_equal(pc_segmap_take_data(map, 1, UINT32_MAX, ids), PCACHE_E_FULL);
	assert_int_equal(pc_segmap_free_nr(map), free_nr);
	assert_int_equal(hash(&rig), before);
	assert_int_equal(pc_segmap_take_data(map, free_nr - 1, 0, ids), 0);
	assert_int_equal(pc_segmap_free_nr(map), 1);
	assert_int_equal(pc_segmap_take_data(map, 1, 0, ids), PCACHE_E_FULL);
	assert_int_equal(pc_segmap_take_log(map, 50, 1, ids), 0); /* the log has it */
	before = hash(&rig);
	assert_int_equal(pc_segmap_take_log(map, 51, 1, ids), PCACHE_E_FULL);
	assert_int_equal(hash(&rig), before);
	rig_down(&rig);
}

/*
 * Blocks come back in shares that tell of whole quanta only. A segment is reclaimed exactly when all of its blocks have come back, whichever shares they came back in, and is never
 * forgotten: nobody sets maybe_empty by hand here.
 */
static void shares_add_up(void **state)
{
	struct pc_segmap *map;
	struct rig rig;

	(void)state;
	for (uint64_t seed = 1; seed <= 200; seed++) {
		struct pc_rng rng;
		uint32_t id, taken_blk, live_blk, dirty_blk = 0, rounds = 0;

		rng.state = pc_rng_mix(seed);
		rig_zero(&rig);
		rig_up(&rig);
		map = &rig.cache->map;
		map->quantum_shift = (uint32_t)pc_rng_below(&rng, 4);
		map->open_max_blk = map->share_nr * ((1u << map->quantum_shift) - 1);
		for (uint32_t life = 0; life < 3; life++) {
			assert_int_equal(pc_segmap_take_data(map, 1, 0, &id), 0);
			assert_int_equal(pc_segmap_live_blk(map, id), 0);
			assert_int_equal(pc_segmap_dirty_blk(map, id), 0);
			taken_blk = 1 + (uint32_t)pc_rng_below(&rng, 200);
			pc_segmap_ref(map, id, taken_blk);
			live_blk = taken_blk;
			pc_segmap_close(map, id);
			while (live_blk) {
				uint32_t blk_nr = 1 + (uint32_t)pc_rng_below(&rng, PC_MIN(live_blk, 8u));
				uint32_t share_idx = (uint32_t)pc_rng_below(&rng, map->share_nr);

				if (pc_rng_chance(&rng, 30))
					assert_int_equal(pc_segmap_reclaim(map, 1, UINT64_MAX), 0);
				if (pc_rng_chance(&rng, 10))
					pc_segmap_give_up(map, id, blk_nr);
				else
					pc_segmap_unref(map, id, share_idx, blk_nr);
				pc_segmap_dirty(map, id, share_idx, rounds % 2 ? -3 : 3);
				dirty_blk += rounds++ % 2 ? -3u : 3u;
				live_blk -= blk_nr;
				assert_int_equal(pc_segmap_live_blk(map, id), live_blk);
				assert_int_equal(pc_segmap_dirty_blk(map, id), dirty_blk);
				assert_in_range(pc_segmap_live_max_blk(map, id), live_blk,
						live_blk + map->open_max_blk);
			}
			dirty_blk = 0;
			rounds = 0;
			assert_int_equal(pc_segmap_reclaim(map, 1, UINT64_MAX), 1);
			assert_int_equal(atomic_load(&map->segs[id].state), PC_SS_FREE);
		}
		rig_down(&rig);
	}
}

static void reclaim_conditions(void **state)
{
	struct pc_segmap *map;
	struct pc_seg *seg;
	struct rig rig;
	uint32_t id;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	map = &rig.cache->map;
	assert_int_equal(pc_segmap_take_data(map, 1, 0, &id), 0);
	seg = &map->segs[id];
	atomic_store(&map->maybe_empty, true);
	assert_int_equal(pc_segmap_reclaim(map, 100, 100), 0); /* open */
	pc_segmap_close(map, id);
	pc_segmap_ref(map, id, 3);
	assert_int_equal(pc_segmap_reclaim(map, 100, 100), 0); /* live */
	pc_segmap_unref(map, id, 0, 2);
	assert_int_equal(pc_segmap_reclaim(map, 100, 100), 0);
	pc_segmap_unref(map, id, map->share_nr - 1, 1);
	pc_seg_pin(seg);
	assert_int_equal(pc_segmap_reclaim(map, 100, 100), 0); /* read */
	pc_seg_unpin(seg);
	pc_pos_raise(&seg->hold_pos, 100);
	pc_pos_raise(&seg->hold_pos, 90); /* never goes down */
	assert_int_equal(pc_segmap_reclaim(map, 100, UINT64_MAX), 0); /* the dirty tail must pass */
	atomic_store(&seg->hold_pos, 99);
	pc_pos_raise(&seg->dead_pos, 100);
	assert_int_equal(pc_segmap_reclaim(map, UINT64_MAX, 100), 0); /* what killed it must be durable */
	assert_int_equal(pc_segmap_reclaim(map, 100, 101), 1);
	assert_int_equal(atomic_load(&seg->state), PC_SS_FREE);
	assert_int_equal(pc_segmap_reclaim(map, 100, 101), 0);
	/* Taken again, it holds nothing against anyone. */
	for (uint32_t free_nr = pc_segmap_free_nr(map); free_nr > 1 && atomic_load(&seg->state) == PC_SS_FREE;
	     free_nr--)
		assert_int_equal(pc_segmap_take_data(map, 1, 0, &id),
				 0); /* in turn: the one that was freed last comes last */
	if (atomic_load(&seg->state) == PC_SS_FREE)
		assert_int_equal(pc_segmap_take_log(map, 1000, 1, &id), 0);
	assert_ptr_equal(&map->segs[id], seg);
	assert_int_equal(atomic_load(&seg->gen), 3);
	assert_int_equal(atomic_load(&seg->hold_pos), 0);
	assert_int_equal(atomic_load(&seg->dead_pos), 0);
	rig_down(&rig);
}

static void pin_by_generation(void **state)
{
	struct pc_segmap *map;
	struct rig rig;
	uint32_t id;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	map = &rig.cache->map;
	assert_false(pc_segmap_pin_gen(map, 10, 1)); /* free */
	assert_int_equal(pc_segmap_take_data(map, 1, 0, &id), 0);
	assert_false(pc_segmap_pin_gen(map, id, 1));
	assert_false(pc_segmap_pin_gen(map, id, 3));
	assert_true(pc_segmap_pin_gen(map, id, 2));
	assert_int_equal(atomic_load(&map->segs[id].pins), 1);
	pc_segmap_close(map, id);
	assert_int_equal(pc_segmap_reclaim(map, UINT64_MAX, UINT64_MAX), 0);
	pc_seg_unpin(&map->segs[id]);
	assert_int_equal(pc_segmap_reclaim(map, UINT64_MAX, UINT64_MAX), 1);
	assert_false(pc_segmap_pin_gen(map, id, 2));
	assert_int_equal(pc_segmap_take_log(map, 50, 1, &id), 0);
	assert_false(pc_segmap_pin_gen(map, id, atomic_load(&map->segs[id].gen)));
	rig_down(&rig);
}

static uint32_t sum(const struct pc_piece *pieces, uint32_t nr)
{
	uint32_t len_blk = 0;

	for (uint32_t i = 0; i < nr; i++)
		len_blk += pieces[i].len_blk;
	return len_blk;
}

static void heads_allocate_all_or_none(void **state)
{
	struct pc_piece pieces[PC_PIECES_MAX];
	struct pc_heads *heads;
	struct pc_segmap *map;
	struct rig rig;
	uint32_t nr, first, free_nr, live;
	bool took;

	(void)state;
	rig_zero(&rig);
	rig.o.segment_nr = 64;
	rig_up(&rig);
	heads = &rig.cache->heads;
	map = &rig.cache->map;
	assert_int_equal(pc_heads_alloc(heads, 3, 0, pieces, &nr, &took), 0);
	assert_true(took);
	assert_int_equal(nr, 1);
	first = pieces[0].seg_id;
	assert_int_equal(pieces[0].seg_blk, 0);
	assert_int_equal(pieces[0].gen, 2);
	assert_int_equal(pc_segmap_live_blk(map, first), 3);
	/* The rest of the segment, two whole ones, a part of a fourth. */
	assert_int_equal(pc_heads_alloc(heads, 5 + 16 + 2, 0, pieces, &nr, &took), 0);
	assert_true(took);
	assert_int_equal(nr, 4);
	assert_int_equal(pieces[0].seg_id, first);
	assert_int_equal(pieces[0].seg_blk, 3);
	assert_int_equal(pieces[3].len_blk, 2);
	assert_int_equal(sum(pieces, nr), 23);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(atomic_load(&map->segs[pieces[i].seg_id].state), PC_SS_DATA); /* left behind */
	assert_int_equal(atomic_load(&map->segs[pieces[3].seg_id].state), PC_SS_OPEN);
	assert_int_equal(pc_heads_alloc(heads, 6, 0, pieces, &nr, &took), 0);
	assert_false(took);
	assert_int_equal(nr, 1);
	/* Too much: nothing changes. */
	free_nr = pc_segmap_free_nr(map);
	live = pc_segmap_live_blk(map, first);
	assert_int_equal(pc_heads_alloc(heads, PC_PIECES_MAX * 8, 0, pieces, &nr, &took), PCACHE_E_TOO_BIG);
	assert_int_equal(nr, 0);
	assert_int_equal(pc_heads_alloc(heads, 8, free_nr, pieces, &nr, &took), PCACHE_E_FULL);
	assert_int_equal(nr, 0);
	assert_false(took);
	assert_int_equal(pc_segmap_free_nr(map), free_nr);
	assert_int_equal(pc_segmap_live_blk(map, first), live);
	/* Given up: the references are gone, the room is not used again before the segment is. */
	assert_int_equal(pc_heads_alloc(heads, 4, 0, pieces, &nr, &took), 0);
	first = pieces[0].seg_id;
	pc_heads_unalloc(heads, pieces, nr);
	assert_int_equal(pc_segmap_live_blk(map, first), 0);
	assert_int_equal(pc_heads_alloc(heads, 4, 0, pieces, &nr, &took), 0);
	assert_int_equal(pieces[0].seg_blk, 4);
	rig_down(&rig);
}

/* At page granularity a group starts on a page of its own, so that a page with durable data is never written again. */
static void group_starts_on_a_fresh_page(void **state)
{
	struct pc_piece pieces[PC_PIECES_MAX];
	struct rig rig;
	uint32_t nr;
	bool took;

	(void)state;
	rig_zero(&rig);
	rig.o.granularity = PC_GRAN_PAGE;
	rig.o.segment_bytes = 16384;
	rig_up(&rig);
	assert_int_equal(pc_heads_alloc(&rig.cache->heads, 3, 0, pieces, &nr, &took), 0);
	assert_int_equal(pc_heads_alloc(&rig.cache->heads, 1, 0, pieces, &nr, &took), 0);
	assert_int_equal(pieces[0].seg_blk, 3);
	rig_flush(&rig);
	rig_write(&rig, 0, 512, 0);
	rig_flush(&rig);
	assert_int_equal(pc_heads_alloc(&rig.cache->heads, 1, 0, pieces, &nr, &took), 0);
	assert_int_equal(pieces[0].seg_blk % 8, 0);
	rig_down(&rig);
}

/* A failed sync while a generation is raised: the segment is not used, whatever it was. */
static void failed_sync_takes_nothing(void **state)
{
	struct rig rig;
	uint32_t ids[2];

	(void)state;
	rig_zero(&rig);
	rig.o.granularity = PC_GRAN_PAGE;
	rig_up(&rig);
	pc_sim_fail_sync(rig.sim, 2, -EIO);
	assert_int_equal(pc_segmap_take_data(&rig.cache->map, 2, 0, ids), -EIO);
	assert_true(atomic_load(&rig.cache->map.segs[ids[0]].state) != PC_SS_FREE);
	assert_int_equal(atomic_load(&rig.cache->map.segs[ids[0]].gen), 1);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(generation_is_durable_before_use),
		cmocka_unit_test(full_changes_nothing),
		cmocka_unit_test(shares_add_up),
		cmocka_unit_test(reclaim_conditions),
		cmocka_unit_test(pin_by_generation),
		cmocka_unit_test(heads_allocate_all_or_none),
		cmocka_unit_test(group_starts_on_a_fresh_page),
		cmocka_unit_test(failed_sync_takes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
