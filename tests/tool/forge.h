/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Forge: a cache image in memory, built by the encoders of format/ alone, to be spoilt in one place and sealed again; and a struct pc_media over any bytes
 * that can only be read.
 *
 * The sound image: LOG segments 0 (place 1) and 3 (place 2, empty), DATA segments 1 (generation 5) and 2 (generation 9), the others free in generation 1.
 * In the log: three dirty writes, a clean one, a write of ten chunks, two ranges of zeroes in one kset, a void of 3 slots, a mark; above the mark a write and
 * a discard.
 */
#ifndef PC_TESTS_FORGE_H
#define PC_TESTS_FORGE_H

#include "format/format.h"
#include "media/media.h"

#define FORGE_NONCE UINT64_C(0x1234567890abcdef)
#define FORGE_LOG_SEG 0u
#define FORGE_SPARE_LOG_SEG 3u
#define FORGE_SEG_A 1u
#define FORGE_GEN_A 5u
#define FORGE_SEG_B 2u
#define FORGE_GEN_B 9u
#define FORGE_SEG_FREE 7u
#define FORGE_SEG_NEW 4u /* free in the sound image, for what a test adds */

struct forge_media {
	struct pc_media media; /* first: pc_media_ops get this */
	const uint8_t *bytes;
	uint64_t fail_off, fail_bytes; /* reads that touch this give -EIO */
};

/* Bytes as media. Reads past len_bytes give PCACHE_E_TRUNCATED. Nothing to free. */
void forge_media_of(struct forge_media *media, const void *bytes, uint64_t len_bytes);

struct forge_shape {
	uint64_t media_bytes;
	uint32_t segment_bytes;
	uint32_t block_bytes;
	bool no_crc;
};
extern const struct forge_shape forge_usual; /* 256 KiB, segments of 16 KiB, blocks of 512 */

struct forge {
	struct pc_super super;
	struct pc_kset_rules rules;
	struct pc_tail tail;
	struct forge_media media;
	uint8_t *bytes;
	uint64_t len_bytes;
	uint64_t first_pos;
	uint64_t pos; /* end of the log */
	uint64_t mark_at, long_at, zeroes_at, void_at; /* positions of these ksets */
};

void forge_sound(struct forge *forge, const struct forge_shape *shape); /* aborts without memory */
void forge_free(struct forge *forge);

uint64_t forge_pos_off(const struct forge *forge, uint64_t pos);
uint64_t forge_blk_off(const struct forge *forge, uint32_t seg_id, uint32_t seg_blk);

/* Records, encoded and stored. copies: bit 0 A, bit 1 B. */
void forge_put_super(struct forge *forge, unsigned int copies);
void forge_put_tail(struct forge *forge, unsigned int copies);
void forge_put_segrec(struct forge *forge, const struct pc_segrec *rec, unsigned int copies);

/* Ksets, appended at forge->pos; return their position. Data is filled in. */
uint64_t forge_write(struct forge *forge, const struct pc_key *key); /* crc is computed; DATA gets bytes of its own */
uint64_t forge_claim(struct forge *forge, const struct pc_key *key); /* the same, of the bytes that are there */
uint64_t forge_mark(struct forge *forge, uint64_t low_pos);
uint64_t forge_void(struct forge *forge, uint32_t slot_nr);

/* What stands there, to be changed and then sealed again. */
struct pcm_super *forge_super_at(struct forge *forge, unsigned int copy);
struct pcm_tail *forge_tail_at(struct forge *forge, unsigned int copy);
struct pcm_segrec *forge_segrec_at(struct forge *forge, unsigned int copy, uint32_t seg_id);
struct pcm_kset *forge_kset_at(struct forge *forge, uint64_t pos);
struct pcm_key *forge_key_at(struct forge *forge, uint64_t pos); /* the first */
void forge_seal(void *record, size_t len); /* a record whose crc comes last */
void forge_seal_kset(struct pcm_kset *kset); /* by its own type and slot_nr */

#endif
