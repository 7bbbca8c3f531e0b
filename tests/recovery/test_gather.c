/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replay gives one result, whatever the batches and however many threads: the index, the references of segments, the voids, the end. Images are of random lives, torn and forged, and
 * each is replayed with many settings; the first is a batch of one record, which is the order of the log.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/rig.h"
#include "fault/alloc_faults.h"
#include "recovery/recovery.h"

#define LIVES 12u
#define EXTENTS_MAX 4096u

struct outcome {
	int rc;
	struct pc_extent extents[EXTENTS_MAX];
	uint32_t extent_nr;
	uint64_t mark_pos, end_pos, epoch_pos, key_nr, zero_blk;
	struct pc_run voids[64];
	size_t void_nr;
	uint32_t live_blk[128], dirty_blk[128];
	uint64_t hold_pos[128], dead_pos[128];
};

static enum pc_walk note(void *ctx, struct pc_extent *extent)
{
	struct outcome *outcome = ctx;

	assert_true(outcome->extent_nr < EXTENTS_MAX);
	outcome->extents[outcome->extent_nr++] = *extent;
	return PC_WALK_KEEP;
}

static void note_cache(struct pcache *cache, const struct pc_replay *replay, struct outcome *outcome)
{
	outcome->mark_pos = replay->mark_pos;
	outcome->end_pos = replay->end_pos;
	outcome->epoch_pos = replay->epoch_pos;
	outcome->key_nr = replay->key_nr;
	outcome->zero_blk = atomic_load(&cache->dirty_zero_blk);
	outcome->void_nr = replay->voids.nr;
	assert_true(replay->voids.nr <= PC_ARRAY_NR(outcome->voids));
	for (size_t i = 0; i < replay->voids.nr; i++) {
		outcome->voids[i].pos = replay->voids.runs[i].pos;
		outcome->voids[i].slot_nr = replay->voids.runs[i].slot_nr;
	}
	for (uint32_t i = 0; i < pc_index_shard_nr(cache->index); i++) {
		pc_index_lock(cache->index, UINT64_C(1) << i);
		pc_index_walk_shard_locked(cache->index, i, note, outcome);
		pc_index_unlock(cache->index, UINT64_C(1) << i);
	}
	assert_true(cache->map.segment_nr <= 128);
	for (uint32_t id = 0; id < cache->map.segment_nr; id++) {
		outcome->live_blk[id] = pc_segmap_live_blk(&cache->map, id);
		outcome->dirty_blk[id] = pc_segmap_dirty_blk(&cache->map, id);
		outcome->hold_pos[id] = atomic_load(&cache->map.segs[id].hold_pos);
		outcome->dead_pos[id] = atomic_load(&cache->map.segs[id].dead_pos);
	}
}

static uint64_t fail_nth; /* allocation of the replay that fails; 0: none */
static struct fault_alloc_result fault;

/* Replays the media as they are and stores nothing. */
static void replay(struct rig *rig, uint32_t threads, uint32_t records, struct outcome *outcome)
{
	struct pc_tweaks tweaks = {
		.shard_nr = 4, .stripe_bytes = 8192, .replay_threads = threads, .replay_records = records
	};
	struct pcache_config *config = rig_config(rig);
	struct pc_media *media;
	struct pc_super super;
	struct pc_replay replayed;
	struct pcache *cache;
	uint32_t super_bad;

	memset(outcome, 0, sizeof(*outcome));
	if (pc_sim_closed(rig->sim))
		pc_sim_reopen(rig->sim);
	media = pc_sim_media(rig->sim);
	assert_int_equal(pc_layout_load_super(media, &super, &super_bad), 0);
	assert_int_equal(pc_core_new(media, &super, super_bad, config, &tweaks, NULL, &cache), 0);
	if (fail_nth)
		fault_alloc_arm(fail_nth);
	outcome->rc = pc_recovery_replay(cache, &replayed);
	fault = fail_nth ? fault_alloc_disarm() : (struct fault_alloc_result){ 0 };
	if (outcome->rc == 0) {
		assert_null(pc_index_check(cache->index));
		note_cache(cache, &replayed, outcome);
	}
	pc_replay_fini(&replayed);
	pc_core_free(cache);
	pcache_config_free(config);
}

static void assert_same(const struct outcome *a, const struct outcome *b, uint32_t threads, uint32_t records)
{
	if (memcmp(a, b, sizeof(*a)) != 0)
		fail_msg("%u threads, batches of %u records: rc %d and %d, %u and %u extents, key_nr %llu and %llu, "
			 "end %llu and %llu",
			 threads, records, a->rc, b->rc, a->extent_nr, b->extent_nr, (unsigned long long)a->key_nr,
			 (unsigned long long)b->key_nr, (unsigned long long)a->end_pos, (unsigned long long)b->end_pos);
}

static struct outcome first, other;

/* All settings against the order of the log. Returns what all of them gave. */
static int compare_all(struct rig *rig)
{
	static const uint32_t records[] = { 1, 2, 3, 7, 64, 0 };

	replay(rig, 1, 1, &first);
	for (uint32_t threads = 1; threads <= 8; threads++) {
		for (size_t i = 0; i < PC_ARRAY_NR(records); i++) {
			replay(rig, threads, records[i], &other);
			assert_same(&first, &other, threads, records[i]);
		}
	}
	return first.rc;
}

/* Writes of all lengths that overlap, zeroes, fills, flushes, batches, write-back and cleaning. */
static void live(struct rig *rig, uint32_t op_nr)
{
	uint64_t blk_nr = rig->o.backing_bytes / 512;

	for (uint32_t i = 0; i < op_nr; i++) {
		uint64_t len = 1 + rig_below(rig, rig_below(rig, 4) ? 8 : 40), at = rig_below(rig, blk_nr - len);

		switch (rig_below(rig, 12)) {
		case 0:
			rig_zeroes(rig, at * 512, len * 512, rig_below(rig, 2));
			break;
		case 1:
			rig_flush(rig);
			break;
		case 2:
			rig_check_range(rig, at * 512, len * 512);
			break;
		case 3:
			(void)pc_cache_step(rig->cache, (enum pc_step)rig_below(rig, PC_STEP_NR), rig_below(rig, 2));
			break;
		default:
			rig_write(rig, at * 512, len * 512, 0);
		}
	}
}

static void rig_for(struct rig *rig, uint64_t seed)
{
	rig_zero(rig);
	rig->seed = seed * 1000003;
	rig->o.segment_nr = 96;
	rig->o.granularity = seed % 3 == 2 ? PC_GRAN_PAGE : PC_GRAN_CACHE_LINE;
	rig->o.no_crc = seed % 5 == 4;
	rig->o.ordering = seed % 4 == 3 ? PCACHE_ORDERING_BATCH : PCACHE_ORDERING_STRICT;
	rig->o.backing_bytes = 128u << 10;
	rig_up(rig);
}

static void same_after_random_lives(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= LIVES; seed++) {
		struct rig rig;

		rig_for(&rig, seed);
		live(&rig, 150);
		if (seed % 2)
			rig_kill(&rig);
		else
			rig_power_cut(&rig);
		if (compare_all(&rig))
			fail_msg("seed %llu: replay fails with %d", (unsigned long long)seed, first.rc);
		assert_true(first.extent_nr > 20);
		rig_down(&rig);
	}
}

/* Bits of the media change at random, every other one near the end of the log: some images cannot be opened, in some ksets are rejected; with all settings the same. */
static void same_with_damage(void **state)
{
	uint32_t good_nr = 0, bad_nr = 0, void_nr = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= LIVES; seed++) {
		uint64_t offs[24], head;
		struct rig rig;

		rig_for(&rig, seed + 100);
		live(&rig, 60);
		head = atomic_load(&rig.cache->log.head);
		for (size_t i = 0; i < PC_ARRAY_NR(offs); i++) {
			uint64_t back = 1 + rig_below(&rig, head - atomic_load(&rig.cache->log.tail));

			if (i % 2)
				offs[i] = rig_below(&rig, pc_sim_media(rig.sim)->len_bytes);
			else
				offs[i] = pc_log_media_off(&rig.cache->log, head - PC_MIN(back, 1 + back % 12)) +
					  rig_below(&rig, 64);
		}
		if (rig.o.granularity == PC_GRAN_PAGE)
			rig_power_cut(&rig); /* nothing is damaged where a store may still arrive */
		else
			rig_kill(&rig);
		for (size_t i = 0; i < PC_ARRAY_NR(offs); i++) {
			rig_flip(&rig, offs[i]);
			replay(&rig, 1, 1, &first);
			for (uint32_t threads = 1; threads <= 3; threads += 2) {
				replay(&rig, threads, i % 4 * 3, &other);
				assert_same(&first, &other, threads, i % 4 * 3);
			}
			good_nr += first.rc == 0;
			bad_nr += first.rc != 0;
			void_nr += first.void_nr != 0;
			if (first.rc)
				rig_flip(&rig, offs[i]); /* else all later ones would fail the same way */
		}
		rig_down(&rig);
	}
	if (good_nr < 50 || bad_nr < 20 || void_nr < 20)
		fail_msg("%u images opened, %u with voids, %u did not", good_nr, void_nr, bad_nr);
}

/* ---- forged logs, with right CRCs --------------------------------------------------------------------------------------- */

struct forger {
	struct rig *rig;
	uint64_t pos;
	uint32_t seg_id; /* a data segment of this life */
	uint64_t gen;
};

static void forge_begin(struct forger *forger, struct rig *rig)
{
	rig_zero(rig);
	rig->o.segment_nr = 96;
	rig->o.no_crc = true; /* so that any data counts */
	rig_up(rig);
	rig_write(rig, 0, 4096, 0);
	forger->rig = rig;
	forger->seg_id = (uint32_t)((rig_find(rig, 0) - rig->cache->layout.super.data_off) / 4096);
	forger->gen = atomic_load(&rig->cache->map.segs[forger->seg_id].gen);
	forger->pos = atomic_load(&rig->cache->log.head);
}

static void forge(struct forger *forger, struct pc_key key)
{
	_Alignas(64) uint8_t slot[PC_SLOT_BYTES] = { 0 };
	struct pc_log *log = &forger->rig->cache->log;

	if ((key.flags & PC_KEY_TYPE_MASK) == PC_KEY_DATA && key.gen == 0) {
		key.gen = forger->gen;
		key.seg_id = forger->seg_id;
	}
	pc_key_encode(&key, (struct pcm_key *)(void *)(slot + PC_CELL_BYTES));
	pc_kset_seal(slot, forger->pos, pc_log_seg(log, forger->pos)->nonce, 1, 1);
	pc_sim_damage(forger->rig->sim, pc_log_media_off(log, forger->pos), slot, sizeof(slot));
	forger->pos++;
}

/* The same data again and again for its own blocks: allowed, as each key takes the place of the one before. */
static void same_data_twice_for_one_block(void **state)
{
	struct forger forger;
	struct rig rig;

	(void)state;
	forge_begin(&forger, &rig);
	for (uint32_t i = 0; i < 40; i++)
		forge(&forger, (struct pc_key){ .vol_blk = i % 8, .len_blk = 1, .seg_blk = (uint16_t)(i % 8) });
	rig_kill(&rig);
	assert_int_equal(compare_all(&rig), 0);
	assert_int_equal(first.extent_nr, 8);
	assert_int_equal(first.live_blk[forger.seg_id], 8);
	rig_down(&rig);
}

/* One block of data for two blocks: the segment seems to have more blocks than it has. Also if a later key would hide it. */
static void data_is_shared(void **state)
{
	(void)state;
	for (uint32_t hide = 0; hide < 2; hide++) {
		struct forger forger;
		struct rig rig;

		forge_begin(&forger, &rig);
		forge(&forger, (struct pc_key){ .vol_blk = 100, .len_blk = 1, .seg_blk = 3 });
		if (hide)
			forge(&forger, (struct pc_key){ .vol_blk = 100, .len_blk = 1, .flags = PC_KEY_ZERO });
		rig_kill(&rig);
		assert_int_equal(compare_all(&rig), PCACHE_E_CORRUPT);
		rig_down(&rig);
	}
}

/* Ranges that overlap in chains, the later ones first by block: only all of them together are a cluster. */
static void chains_of_overlaps(void **state)
{
	struct forger forger;
	struct rig rig;

	(void)state;
	forge_begin(&forger, &rig);
	for (uint32_t i = 0; i < 14; i++)
		forge(&forger, (struct pc_key){ .vol_blk = 200 - i * 7,
						.len_blk = i % 5 == 4 ? 60 : 9,
						.flags = i % 3 ? PC_KEY_ZERO : PC_KEY_POISON });
	for (uint32_t i = 0; i < 14; i++)
		forge(&forger, (struct pc_key){ .vol_blk = 60 + i * 13 % 29 * 4,
						.len_blk = 2,
						.flags = PC_KEY_ZERO | PC_KEY_DISCARD });
	rig_kill(&rig);
	assert_int_equal(compare_all(&rig), 0);
	rig_down(&rig);
}

/* A key of data that was never there is an error below the mark, and nothing at all if its kset is rejected above it. */
static void impossible_key(void **state)
{
	struct forger forger;
	struct rig rig;

	(void)state;
	forge_begin(&forger, &rig);
	forge(&forger, (struct pc_key){ .vol_blk = 100, .len_blk = 1, .gen = forger.gen + 1, .seg_id = forger.seg_id });
	rig_kill(&rig);
	assert_int_equal(compare_all(&rig), PCACHE_E_CORRUPT);
	rig_down(&rig);
}

/*
 * Memory runs out, or no thread can be started: -ENOMEM, or the same result with what there is.
 */
static void no_memory(void **state)
{
	struct rig rig;

	(void)state;
	rig_for(&rig, 7);
	live(&rig, 150);
	rig_kill(&rig);
	replay(&rig, 1, 1, &first);
	assert_int_equal(first.rc, 0);
	for (uint32_t threads = 1; threads <= 4; threads += 3) {
		uint32_t none_nr = 0, failed_nr = 0, refused_nr = 0;

		for (fail_nth = 1; none_nr == 0; fail_nth++) {
			replay(&rig, threads, 7, &other);
			none_nr += fault.failed_nr == 0;
			failed_nr += fault.failed_nr != 0;
			refused_nr += other.rc != 0;
			assert_true(other.rc == -ENOMEM || other.rc == 0);
			if (other.rc == 0)
				assert_same(&first, &other, threads, 7);
		}
		assert_true(refused_nr > 5);
		/* Without threads, or the second batch, it goes on with one. */
		assert_true(threads == 1 ? failed_nr == refused_nr : failed_nr > refused_nr);
		fail_nth = 0;
	}
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_after_random_lives),
		cmocka_unit_test(same_with_damage),
		cmocka_unit_test(same_data_twice_for_one_block),
		cmocka_unit_test(data_is_shared),
		cmocka_unit_test(chains_of_overlaps),
		cmocka_unit_test(impossible_key),
		cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
