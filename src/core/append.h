/* SPDX-License-Identifier: BSD-3-Clause */
/* Building a kset in memory and committing it at a reserved position. */
#ifndef PC_CORE_APPEND_H
#define PC_CORE_APPEND_H

#include "core/cache.h"

/* Cells of a kset under construction; cell 0 is the header's. An even number of cells is there; each is zeroed when it is taken into use. */
struct pc_kbuf {
	uint8_t *cells; /* 64-byte aligned */
	uint32_t cell_nr; /* used, header included */
	uint32_t cell_max;
	uint32_t key_nr;
};

/* Starts over. */
void pc_kbuf_reset(struct pc_kbuf *kbuf);

static inline uint32_t pc_kbuf_slot_nr(const struct pc_kbuf *kbuf)
{
	return pc_cells_to_slots(kbuf->cell_nr);
}

/* Makes room for a key with chunk_nr chunk CRCs: the cell index of the key. The caller checked that it fits. */
uint32_t pc_kbuf_add(struct pc_kbuf *kbuf, uint32_t chunk_nr);
/* Where the chunk CRCs of the key in cell cell_idx are: in the key itself if there is one. */
struct pcm_le32 *pc_kbuf_crcs(struct pc_kbuf *kbuf, uint32_t cell_idx, uint32_t chunk_nr);
/* Encodes the key proper; CRCs that were put by pc_kbuf_crcs stay. */
void pc_kbuf_put_key(struct pc_kbuf *kbuf, uint32_t cell_idx, const struct pc_key *key, uint32_t chunk_nr);

/*
 * Seals the kset, stores its slots at pos, fences, and takes the position out of flight. Data that the same thread copied before is committed by the same fence.
 */
void pc_append_commit(struct pcache *cache, uint32_t inflight_idx, uint64_t pos, struct pc_kbuf *kbuf);

#endif
