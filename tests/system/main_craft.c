/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-craft IMAGE VARIANT: writes a small cache image with one thing wrong, built by the encoders of format/ alone,
 * and prints what `pcache check` must say of it: `SEVERITY OFFSET` in the form of its own lines, or nothing for a sound
 * image. Without arguments it lists the variants.
 *
 * The sound image: LOG segment 0, DATA segments 1 (generation 5) and 2 (generation 9). Positions from 1024: four
 * writes, a mark, one more write and a discard above the mark.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc.h"
#include "format/format.h"

#define MEDIA_BYTES (4u << 20)
#define SEGMENT_BYTES (64u << 10)
#define BLOCK_BYTES 512u
#define NONCE UINT64_C(0x1234567890abcdef)
#define FIRST_POS (SEGMENT_BYTES / PC_SLOT_BYTES) /* ordinal 1 */
#define LOG_SEG 0u
#define SEG_A 1u
#define GEN_A 5u
#define SEG_B 2u
#define GEN_B 9u

static _Alignas(64) uint8_t image[MEDIA_BYTES];
static struct pc_super super;
static struct pc_kset_rules rules;
static struct pc_tail tail;
static uint64_t pos, mark_at;

static void expect(const char *severity, uint64_t off)
{
	printf("%s @0x%" PRIx64 "\n", severity, off);
}

static uint64_t pos_off(uint64_t at)
{
	return pc_geo_segment_off(&super, LOG_SEG) + (at - FIRST_POS) * PC_SLOT_BYTES;
}

static uint64_t blk_off(uint32_t seg_id, uint32_t seg_blk)
{
	return pc_geo_segment_off(&super, seg_id) + (uint64_t)seg_blk * BLOCK_BYTES;
}

static void put_segrec(uint32_t seg_id, uint32_t type, uint64_t gen, uint64_t ordinal, uint64_t seq,
		       unsigned int copies)
{
	const struct pc_segrec rec = {
		.seg_id = seg_id,
		.type = type,
		.seq = seq,
		.gen = gen,
		.ordinal = ordinal,
		.nonce = type == PC_SEG_LOG ? NONCE : 0,
	};
	struct pcm_segrec media;
	unsigned int i;

	pc_segrec_encode(&rec, &media);
	for (i = 0; i < 2; i++) {
		if (copies >> i & 1)
			memcpy(image + pc_geo_segrec_off(&super, i, seg_id), &media, sizeof(media));
	}
}

static void put_tail(unsigned int copies)
{
	struct pcm_tail media;
	unsigned int i;

	pc_tail_encode(&tail, &media);
	for (i = 0; i < 2; i++) {
		if (copies >> i & 1)
			memcpy(image + pc_geo_tail_off(&super, i), &media, sizeof(media));
	}
}

static void put_super(void)
{
	struct pcm_super media;
	unsigned int i;

	pc_super_encode(&super, &media);
	for (i = 0; i < 2; i++)
		memcpy(image + pc_geo_super_off(&super, i), &media, sizeof(media));
}

/* A write of up to one chunk with its data. */
static void put_write(uint64_t blk, uint32_t len_blk, uint32_t seg_id, uint16_t seg_blk, uint64_t gen, uint8_t flags)
{
	struct pc_key key = {
		.vol_blk = blk, .gen = gen, .seg_id = seg_id, .len_blk = len_blk, .seg_blk = seg_blk, .flags = flags
	};
	uint8_t *data = image + blk_off(seg_id, seg_blk);
	uint8_t *slot = image + pos_off(pos);
	uint32_t i;

	for (i = 0; i < len_blk * BLOCK_BYTES; i++)
		data[i] = (uint8_t)(blk * 7 + i * 13 + pos);
	key.crc = pc_crc32c(0, data, (size_t)len_blk * BLOCK_BYTES);
	memset(slot, 0, PC_SLOT_BYTES);
	pc_key_encode(&key, (struct pcm_key *)(void *)(slot + PC_CELL_BYTES));
	pc_kset_seal(slot, pos++, NONCE, 1, 1);
}

static void put_zero(uint64_t blk, uint32_t len_blk)
{
	const struct pc_key key = { .vol_blk = blk, .len_blk = len_blk, .flags = PC_KEY_ZERO | PC_KEY_DISCARD };
	uint8_t *slot = image + pos_off(pos);

	memset(slot, 0, PC_SLOT_BYTES);
	pc_key_encode(&key, (struct pcm_key *)(void *)(slot + PC_CELL_BYTES));
	pc_kset_seal(slot, pos++, NONCE, 1, 1);
}

static int make_sound(void)
{
	uint32_t i;

	super = (struct pc_super){
		.version = PC_FORMAT_VERSION, .flags = PC_SUPER_FLAG_DATA_CRC, .seq = 1, .backing_bytes = 64u << 20
	};
	memset(super.cache_uuid, 7, sizeof(super.cache_uuid));
	if (pc_geo_plan(MEDIA_BYTES, SEGMENT_BYTES, BLOCK_BYTES, &super) < 0)
		return -1;
	pc_kset_rules_of(&super, &rules);
	for (i = 0; i < MEDIA_BYTES / 4; i++)
		memcpy(image + i * 4, &(uint32_t){ i * 2654435761u }, 4); /* what an earlier life may have left */
	put_super();
	for (i = 0; i < super.segment_nr; i++)
		put_segrec(i, PC_SEG_FREE, 1, 0, 1, 3);
	put_segrec(LOG_SEG, PC_SEG_LOG, 2, 1, 2, 3);
	put_segrec(SEG_A, PC_SEG_DATA, GEN_A, 0, 2, 3);
	put_segrec(SEG_B, PC_SEG_DATA, GEN_B, 0, 2, 3);
	pos = FIRST_POS;
	put_write(0, 8, SEG_A, 0, GEN_A, 0);
	put_write(8, 8, SEG_A, 8, GEN_A, 0);
	put_write(4, 8, SEG_A, 16, GEN_A, 0);
	put_write(100, 8, SEG_B, 0, GEN_B, PC_KEY_CLEAN);
	mark_at = pos;
	pc_kset_encode_mark(image + pos_off(pos), pos, NONCE, PC_KSET_FLAG_FLUSH, pos);
	pos++;
	put_write(200, 8, SEG_A, 40, GEN_A, 0);
	put_zero(50, 4);
	tail = (struct pc_tail){
		.seq = 3,
		.gc_percent = 70,
		.log_tail_pos = FIRST_POS,
		.dirty_tail_pos = FIRST_POS + 1,
		.mark_pos = FIRST_POS + 1,
	};
	put_tail(3);
	return 0;
}

/* ---- variants ------------------------------------------------------------ */

static void sound(void)
{
}

static void clean_close(void)
{
	tail.flags = PC_TAIL_FLAG_CLEAN_CLOSE;
	tail.mark_pos = pos;
	put_tail(3);
}

static void kset_torn_below_mark(void)
{
	image[pos_off(FIRST_POS + 1) + 40] ^= 1;
	expect("damage", pos_off(FIRST_POS + 1));
}

static void kset_torn_above_mark(void)
{
	image[pos_off(mark_at + 1) + 40] ^= 1;
	expect("note", pos_off(mark_at + 1));
}

static void kset_torn_after_clean_close(void)
{
	clean_close();
	image[pos_off(mark_at + 1) + 40] ^= 1;
	expect("damage", pos_off(mark_at + 1));
}

static void unfinished_write(void)
{
	image[blk_off(SEG_A, 47)] ^= 1;
	expect("note", pos_off(mark_at + 1));
}

static void dirty_data_damaged(void)
{
	image[blk_off(SEG_A, 8) + 7 * BLOCK_BYTES] ^= 0x80; /* blocks 12 to 15 are still seen through this key */
	expect("damage", blk_off(SEG_A, 8));
}

static void clean_data_damaged(void)
{
	image[blk_off(SEG_B, 3)] ^= 1;
	expect("damage", blk_off(SEG_B, 0));
}

static void relogged_data_damaged(void)
{
	put_write(300, 8, SEG_B, 16, GEN_B, PC_KEY_CLEAN | PC_KEY_RELOGGED);
	image[blk_off(SEG_B, 20)] ^= 1;
	expect("damage", blk_off(SEG_B, 16));
}

static void super_copy_damaged(void)
{
	image[pc_geo_super_off(&super, 0) + 20] ^= 1;
	expect("repair", pc_geo_super_off(&super, 0));
}

static void super_both_damaged(void)
{
	image[pc_geo_super_off(&super, 0) + 20] ^= 1;
	image[pc_geo_super_off(&super, 1) + 20] ^= 1;
	expect("damage", 0);
}

static void tail_copy_damaged(void)
{
	image[pc_geo_tail_off(&super, 1) + 20] ^= 1;
	expect("repair", pc_geo_tail_off(&super, 1));
}

static void tail_copy_old(void)
{
	tail.seq++;
	put_tail(2);
	expect("repair", pc_geo_tail_off(&super, 0));
}

static void tail_both_damaged(void)
{
	image[pc_geo_tail_off(&super, 0) + 20] ^= 1;
	image[pc_geo_tail_off(&super, 1) + 20] ^= 1;
	expect("damage", pc_geo_tail_off(&super, 0));
}

static void segrec_copy_damaged(void)
{
	image[pc_geo_segrec_off(&super, 0, SEG_A) + 20] ^= 1;
	expect("repair", pc_geo_segrec_off(&super, 0, SEG_A));
}

static void segrec_copy_old(void)
{
	put_segrec(7, PC_SEG_DATA, 2, 0, 2, 1);
	expect("repair", pc_geo_segrec_off(&super, 1, 7));
}

static void segrec_copy_older(void)
{
	put_segrec(7, PC_SEG_DATA, 4, 0, 4, 1);
	expect("damage", pc_geo_segrec_off(&super, 1, 7));
}

static void segrec_copies_differ(void)
{
	put_segrec(7, PC_SEG_DATA, 1, 0, 1, 1);
	expect("damage", pc_geo_segrec_off(&super, 0, 7));
}

static void segrec_both_damaged(void)
{
	image[pc_geo_segrec_off(&super, 0, 30) + 20] ^= 1;
	image[pc_geo_segrec_off(&super, 1, 30) + 20] ^= 1;
	expect("damage", pc_geo_segrec_off(&super, 0, 30));
}

static void segment_of_dirty_data_used_again(void)
{
	put_segrec(SEG_A, PC_SEG_DATA, GEN_A + 1, 0, 3, 3);
	expect("damage", pos_off(FIRST_POS + 1));
}

static void dirty_tail_behind_end(void)
{
	tail.dirty_tail_pos = pos + 2;
	put_tail(3);
	expect("damage", pc_geo_tail_off(&super, 0));
}

static void data_shared(void)
{
	struct pc_key key = { .vol_blk = 300, .gen = GEN_A, .seg_id = SEG_A, .len_blk = 8, .seg_blk = 16 };
	uint8_t *slot = image + pos_off(pos);

	key.crc = pc_crc32c(0, image + blk_off(SEG_A, 16), 8 * BLOCK_BYTES);
	memset(slot, 0, PC_SLOT_BYTES);
	pc_key_encode(&key, (struct pcm_key *)(void *)(slot + PC_CELL_BYTES));
	pc_kset_seal(slot, pos++, NONCE, 1, 1);
	expect("damage", blk_off(SEG_A, 16));
}

static void data_in_unused_segment(void)
{
	put_write(300, 8, 7, 0, 1, 0);
	expect("damage", pos_off(pos - 1));
}

static void generation_of_the_future(void)
{
	put_write(300, 8, SEG_A, 100, GEN_A + 1, 0);
	expect("damage", pos_off(pos - 1));
}

static void chain_with_gap(void)
{
	put_segrec(9, PC_SEG_LOG, 2, 3, 2, 3);
	expect("damage", pc_geo_segrec_off(&super, 0, 9));
}

static void chain_place_twice(void)
{
	put_segrec(9, PC_SEG_LOG, 2, 1, 2, 3);
	expect("damage", pc_geo_segrec_off(&super, 0, 9));
}

static void chain_lost(void)
{
	put_segrec(LOG_SEG, PC_SEG_FREE, 3, 0, 3, 3);
	expect("damage", pc_geo_tail_off(&super, 0));
}

static void mark_beyond_log(void)
{
	tail.mark_pos = UINT64_C(1) << 40;
	put_tail(3);
	expect("damage", pc_geo_tail_off(&super, 0));
}

static const struct {
	const char *name;
	void (*apply)(void);
} variants[] = {
#define VARIANT(name) \
	{ \
#name, name \
	}
	VARIANT(sound),
	VARIANT(clean_close),
	VARIANT(kset_torn_below_mark),
	VARIANT(kset_torn_above_mark),
	VARIANT(kset_torn_after_clean_close),
	VARIANT(unfinished_write),
	VARIANT(dirty_data_damaged),
	VARIANT(clean_data_damaged),
	VARIANT(relogged_data_damaged),
	VARIANT(super_copy_damaged),
	VARIANT(super_both_damaged),
	VARIANT(tail_copy_damaged),
	VARIANT(tail_copy_old),
	VARIANT(tail_both_damaged),
	VARIANT(segrec_copy_damaged),
	VARIANT(segrec_copy_old),
	VARIANT(segrec_copy_older),
	VARIANT(segrec_copies_differ),
	VARIANT(segrec_both_damaged),
	VARIANT(segment_of_dirty_data_used_again),
	VARIANT(dirty_tail_behind_end),
	VARIANT(data_shared),
	VARIANT(data_in_unused_segment),
	VARIANT(generation_of_the_future),
	VARIANT(chain_with_gap),
	VARIANT(chain_place_twice),
	VARIANT(chain_lost),
	VARIANT(mark_beyond_log),
};

static int store(const char *path)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
	bool ok = fd >= 0 && write(fd, image, sizeof(image)) == (ssize_t)sizeof(image);

	if (fd >= 0)
		close(fd);
	if (!ok)
		perror(path);
	return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
	size_t i;

	for (i = 0; i < PC_ARRAY_NR(variants); i++) {
		if (argc < 3)
			puts(variants[i].name);
		else if (strcmp(argv[2], variants[i].name) == 0 && make_sound() == 0) {
			variants[i].apply();
			return store(argv[1]);
		}
	}
	return argc < 3 ? 0 : 2;
}
