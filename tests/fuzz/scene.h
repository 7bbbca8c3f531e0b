/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A mutated cache image before a backing in memory, for the targets that open it. What `pcache check` says of the image, read before the open, is what the open has to show.
 *
 * Input: 8 bytes of settings (scene_begin), then, for a target that wants them, bytes of its own, then the image in the code of fuzz.h.
 *
 * The backing holds a pattern, and where the image says that its data is clean, that data: so a clean extent may go at any time.
 */
#ifndef PC_FUZZ_SCENE_H
#define PC_FUZZ_SCENE_H

#include "api/internal.h"
#include "backing/mem_backing.h"
#include "fuzz/fuzz.h"
#include "sim/sim_media.h"
#include "tool/check.h"

#define SCENE_SETTINGS_BYTES 8u
#define SCENE_MEDIA_BYTES_MAX (256u << 10)
#define SCENE_BACKING_BYTES_MAX (256u << 10)
#define SCENE_BLOCK_NR_MAX (SCENE_BACKING_BYTES_MAX / 512)

/* Bits of the settings' first byte; the lowest two: 0 cache line, 1 page, 2 byte, 3 page with a stage. */
#define SCENE_NO_READ_CACHE 4u
#define SCENE_BATCH 8u
#define SCENE_FULL_ERROR 16u
#define SCENE_COMMIT_FLUSH 32u
#define SCENE_GUARD_FENCE 64u
#define SCENE_DUMP 128u

enum scene_block {
	SCENE_FROM_BACKING, /* or the cache has the same bytes */
	SCENE_DIRTY,
	SCENE_POISONED,
};

struct scene {
	uint8_t bits;
	uint8_t heads;
	struct pc_sim *sim; /* kept from input to input */
	uint64_t media_bytes;
	uint8_t image[SCENE_MEDIA_BYTES_MAX]; /* as it was before the open */
	uint64_t nonce;

	/* What check says. */
	int check_rc;
	struct check_result check;
	struct scene_damage {
		enum check_rule rule;
		uint64_t media_off;
		char text[200];
	} damages[16]; /* the first that an open can see, too */
	uint32_t damage_nr;
	bool lost; /* dirty data whose segment was used again (M1): of its blocks nothing is known, as write-back may bring an older version of them */
	bool is_dirty[SCENE_BLOCK_NR_MAX]; /* some key of it is */
	bool unsure
		[SCENE_BLOCK_NR_MAX]; /* a clean key covers a dirty one: the block reads from the backing, but write-back may bring what is older */
	bool wrong_data; /* data that is seen has another CRC (M4) */
	bool unverified; /* keys claim more than check reads (M6): of what comes behind, it does not know what an open takes */
	bool refused; /* by a note that keeps an open from succeeding */

	struct mem_backing *mb;
	uint32_t block_bytes;
	uint32_t block_nr;
	uint8_t original[SCENE_BACKING_BYTES_MAX]; /* of the backing */
	uint8_t expected[SCENE_BACKING_BYTES_MAX];
	uint8_t blocks[SCENE_BLOCK_NR_MAX]; /* enum scene_block */

	struct pcache *cache; /* NULL: not open */
};

/* Reads the settings, decodes, mutates and seals the image, checks it, and makes the backing. own: receives own_bytes that stand between settings and image. */
struct scene *scene_begin(const uint8_t *data, size_t len, uint8_t *own, size_t own_bytes);
void scene_end(struct scene *s);

/* No damage at all. */
bool scene_is_sound(const struct scene *s);
/* Opens the media as it is. */
int scene_try_open(struct scene *s);
/* The first open: judges what it gives. True: the cache is open, and every block was read and is as check says. known: flags of the blocks that could be read. */
bool scene_open(struct scene *s, bool *known);
/* Reads a block. 0 or the library's error, which is one that reads may give. */
int scene_read(struct scene *s, uint32_t blk, uint8_t *to);
/* The run-time state is one. */
void scene_check_state(struct scene *s, const char *when);
/* Check finds no damage in the closed cache, if it found none before. */
void scene_check_closed(struct scene *s, const char *when);
void scene_abandon(struct scene *s);

/* The backing of a cache that was made with this seed, before check had a say. */
void scene_fill_backing(uint8_t seed, uint8_t *to, uint64_t bytes);
extern const uint32_t scene_media_kib[8]; /* by the third byte of the settings */

#endif
