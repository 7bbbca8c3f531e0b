/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The end of every append: seal, store the slots, one fence, out of flight.
 *
 * The fence is issued by the thread that copied the data, so it commits data and slots together. Between the copies and the fence nothing locked runs: a locked
 * instruction would drain the pending stores and the fence would be paid twice.
 */
#include "core/append.h"

#include <stdlib.h>
#include <string.h>

#include "base/plant.h"
#include "base/sched.h"

void pc_kbuf_reset(struct pc_kbuf *kbuf)
{
	kbuf->cell_nr = 1;
	kbuf->key_nr = 0;
}

uint32_t pc_kbuf_add(struct pc_kbuf *kbuf, uint32_t chunk_nr)
{
	uint32_t cell_idx = kbuf->cell_nr;

	kbuf->cell_nr += 1 + (chunk_nr > 1 ? PC_DIV_UP(chunk_nr, PC_CRCS_PER_CELL) : 0);
	kbuf->key_nr++;
	memset(kbuf->cells + (size_t)cell_idx * PC_CELL_BYTES, 0, (size_t)(kbuf->cell_nr - cell_idx) * PC_CELL_BYTES);
	return cell_idx;
}

struct pcm_le32 *pc_kbuf_crcs(struct pc_kbuf *kbuf, uint32_t cell_idx, uint32_t chunk_nr)
{
	uint8_t *cell = kbuf->cells + (size_t)cell_idx * PC_CELL_BYTES;

	if (chunk_nr > 1)
		return (struct pcm_le32 *)(void *)(cell + PC_CELL_BYTES);
	return &((struct pcm_key *)(void *)cell)->crc;
}

void pc_kbuf_put_key(struct pc_kbuf *kbuf, uint32_t cell_idx, const struct pc_key *key, uint32_t chunk_nr)
{
	struct pcm_key *cell = (struct pcm_key *)(void *)(kbuf->cells + (size_t)cell_idx * PC_CELL_BYTES);
	struct pc_key whole = *key;

	whole.crc = chunk_nr == 1 ? pc_get32(cell->crc) : 0;
	pc_key_encode(&whole, cell);
}

#ifdef PC_PLANTS
/* Planted defect: the slots reach the media only when the next kset is committed. */
struct planted_kset {
	uint64_t pos;
	uint32_t slot_nr;
	uint8_t bytes[];
};

static void store_late(struct pcache *cache, uint64_t pos, const void *slots, uint32_t slot_nr)
{
	struct planted_kset *late = cache->planted_kset;

	if (late)
		pc_log_store(&cache->log, late->pos, late->bytes, late->slot_nr);
	free(late);
	late = malloc(sizeof(*late) + (size_t)slot_nr * PC_SLOT_BYTES);
	cache->planted_kset = late;
	if (!late)
		return;
	late->pos = pos;
	late->slot_nr = slot_nr;
	memcpy(late->bytes, slots, (size_t)slot_nr * PC_SLOT_BYTES);
}
#else
static void store_late(struct pcache *cache, uint64_t pos, const void *slots, uint32_t slot_nr)
{
	(void)cache, (void)pos, (void)slots, (void)slot_nr;
}
#endif

void pc_append_commit(struct pcache *cache, uint32_t inflight_idx, uint64_t pos, struct pc_kbuf *kbuf)
{
	struct pc_log *log = &cache->log;
	uint32_t slot_nr = pc_kbuf_slot_nr(kbuf);

	if (kbuf->cell_nr % 2)
		memset(kbuf->cells + (size_t)kbuf->cell_nr * PC_CELL_BYTES, 0, PC_CELL_BYTES);
	pc_kset_seal(kbuf->cells, pos, pc_log_seg(log, pos)->nonce, slot_nr, kbuf->key_nr);
	if (PC_PLANTED(PC_PLANT_KSET_AFTER_ACK))
		store_late(cache, pos, kbuf->cells, slot_nr);
	else
		pc_log_store(log, pos, kbuf->cells, slot_nr);
	PC_YIELD(WRITE_STORED);
	if (!PC_PLANTED(PC_PLANT_NO_WRITE_FENCE)) {
		/* Order: data and slots before the index insert and the return, because both promise that the write survives. */
		pc_media_fence(cache->media);
	}
	PC_YIELD(WRITE_FENCED);
	pc_log_done(log, inflight_idx);
}
