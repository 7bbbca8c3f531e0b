/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: the records with two copies. Decoders and the rules of `pcache check` agree on each; what is taken is encoded to the same bytes; a geometry that is taken has every
 * record and segment inside of the media, and none over another. Of two copies the library takes one that check takes, too, or refuses both as check does.
 *
 * Input: a byte of what to do (0x80: seal), then the bytes of the record, or of both copies.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "layout/layout.h"
#include "pcache/errors.h"
#include "tool/check_internal.h"
#include "tool/forge.h"

#define SEAL 0x80u
#define MEDIA_BYTES (96u << 10) /* of the pairs */

enum what { ONE_SUPER, ONE_TAIL, ONE_SEGREC, TWO_SUPERS, TWO_RECORDS, WHAT_NR };

static void agree(enum check_rule rule, enum pc_valid valid, const char *record)
{
	if ((rule == CHECK_OK) != (valid == PC_VALID))
		fuzz_fail("%s: the decoder says %d, check says %s", record, (int)valid, check_rule_number(rule));
}

static void print_nowhere(void (*print)(FILE *to, const void *record), const void *record)
{
	static FILE *file;

	if (!file)
		file = fopen("/dev/null", "w");
	if (!file)
		abort();
	print(file, record);
}

static void print_super(FILE *to, const void *record)
{
	pc_super_to_text(to, record);
}

static void print_tail(FILE *to, const void *record)
{
	pc_tail_to_text(to, record);
}

static void print_segrec(FILE *to, const void *record)
{
	pc_segrec_to_text(to, record);
}

/* Places of the last and the first of everything: the rest lies in between. */
static void check_geometry(const struct pc_super *super)
{
	const uint32_t last = super->segment_nr - 1;
	const uint64_t records_a = pc_geo_segrec_off(super, 0, last) + 64,
		       records_b = pc_geo_segrec_off(super, 1, last) + 64;
	const uint64_t end = pc_geo_segment_off(super, last) + super->segment_bytes;

	if (pc_geo_super_off(super, 0) != 0 || pc_geo_tail_off(super, 0) != PC_PAGE_BYTES ||
	    records_a > pc_geo_segment_off(super, 0) || end > pc_geo_segrec_off(super, 1, 0) ||
	    end < pc_geo_segment_off(super, 0) || records_b > pc_geo_tail_off(super, 1) ||
	    pc_geo_tail_off(super, 1) + PC_PAGE_BYTES > pc_geo_super_off(super, 1) ||
	    pc_geo_super_off(super, 1) + PC_PAGE_BYTES > super->media_bytes)
		fuzz_fail("records or segments lie over each other");
}

static void one_super(const uint8_t *bytes)
{
	struct pcm_super media, again;
	struct pc_super super;
	enum pc_valid valid;

	memcpy(&media, bytes, sizeof(media));
	valid = pc_super_decode(&media, &super);
	agree(check_explain_super(&media), valid, "superblock");
	if (valid != PC_VALID)
		return;
	pc_super_encode(&super, &again);
	if (memcmp(&media, &again, sizeof(media)) != 0)
		fuzz_fail("a superblock is another when it is encoded again");
	print_nowhere(print_super, &super);
	check_geometry(&super);
}

static void one_tail(const uint8_t *bytes)
{
	struct pcm_tail media, again;
	struct pc_tail tail;
	enum pc_valid valid;

	memcpy(&media, bytes, sizeof(media));
	valid = pc_tail_decode(&media, &tail);
	agree(check_explain_tail(&media), valid, "tail record");
	if (valid != PC_VALID)
		return;
	pc_tail_encode(&tail, &again);
	if (memcmp(&media, &again, sizeof(media)) != 0)
		fuzz_fail("a tail record is another when it is encoded again");
	print_nowhere(print_tail, &tail);
}

static void one_segrec(const uint8_t *bytes, uint32_t seg_id)
{
	struct pcm_segrec media, again;
	struct pc_segrec rec;
	enum pc_valid valid;

	memcpy(&media, bytes, sizeof(media));
	valid = pc_segrec_decode(&media, seg_id, &rec);
	agree(check_explain_segrec(&media, seg_id), valid, "segment record");
	if (valid != PC_VALID)
		return;
	pc_segrec_encode(&rec, &again);
	if (memcmp(&media, &again, sizeof(media)) != 0)
		fuzz_fail("a segment record is another when it is encoded again");
	print_nowhere(print_segrec, &rec);
}

/* ---- two copies ------------------------------------------------------------------------------------------------------ */

static uint8_t image[MEDIA_BYTES];

static bool same_super(const struct pc_super *a, const struct pc_super *b)
{
	struct pcm_super media_a, media_b;

	pc_super_encode(a, &media_a);
	pc_super_encode(b, &media_b);
	return memcmp(&media_a, &media_b, sizeof(media_a)) == 0;
}

/* What the library makes of the media, beside what check makes of it. */
static void load_both(void)
{
	const struct check_settings settings = { .no_data = true };
	struct check_result result;
	struct forge_media media;
	struct pc_layout layout;
	struct pc_super super;
	uint32_t bad = 0;
	int by_check, rc;

	forge_media_of(&media, image, sizeof(image));
	by_check = check_run(&media.media, &settings, &result);
	rc = pc_layout_load_super(&media.media, &super, &bad);
	if (rc == 0 && (by_check != 0 || !result.super_valid))
		fuzz_fail("the library takes a superblock, check says %d", by_check);
	if (rc != 0 && by_check == 0 && result.finding_nr[CHECK_DAMAGE] == 0)
		fuzz_fail("superblocks: check finds no damage, the library says %d", rc);
	if (rc != 0)
		return;
	if (!same_super(&super, &result.super))
		fuzz_fail("the library takes another superblock than check");
	check_geometry(&super);
	if (super.media_bytes > sizeof(image) || pc_layout_init(&layout, &media.media, &super) != 0)
		return;
	rc = pc_layout_load_records(&layout);
	if (rc == 0 && result.finding_nr[CHECK_DAMAGE] == 0 &&
	    (!result.tail_valid || layout.tail.seq != result.tail.seq ||
	     layout.tail.log_tail_pos != result.tail.log_tail_pos ||
	     layout.tail.dirty_tail_pos != result.tail.dirty_tail_pos || layout.tail.mark_pos != result.tail.mark_pos))
		fuzz_fail("the library takes another tail record than check");
	if (rc != 0 && result.finding_nr[CHECK_DAMAGE] == 0)
		fuzz_fail("check finds no damage, but the records give %d", rc);
	pc_layout_fini(&layout);
}

static const struct forge_shape shape = { .media_bytes = MEDIA_BYTES, .segment_bytes = 4096, .block_bytes = 512 };

/* Begins with a cache that is sound. */
static void sound_image(struct forge *forge)
{
	static struct forge made;

	if (!made.bytes)
		forge_sound(&made, &shape);
	memcpy(image, made.bytes, sizeof(image));
	*forge = made;
	forge->bytes = image;
}

static void put(uint8_t *to, struct fuzz_input *in, size_t len, bool seal)
{
	if (in->left != 0)
		memcpy(to, in->at, PC_MIN(len, in->left));
	in->at += PC_MIN(len, in->left);
	in->left -= PC_MIN(len, in->left);
	if (seal)
		forge_seal(to, len);
}

static void two_copies(enum what what, struct fuzz_input *in, bool seal)
{
	struct forge forge;

	sound_image(&forge);
	if (what == TWO_SUPERS) {
		for (unsigned int copy = 0; copy < 2; copy++)
			put((void *)forge_super_at(&forge, copy), in, sizeof(struct pcm_super), seal);
	} else {
		for (unsigned int copy = 0; copy < 2; copy++)
			put((void *)forge_tail_at(&forge, copy), in, sizeof(struct pcm_tail), seal);
		for (uint32_t id = 0; id < forge.super.segment_nr && in->left != 0; id++) {
			for (unsigned int copy = 0; copy < 2; copy++)
				put((void *)forge_segrec_at(&forge, copy, id), in, sizeof(struct pcm_segrec), seal);
		}
	}
	load_both();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_input in = { .at = data, .left = len };
	const uint8_t first = fuzz_u8(&in);
	const enum what what = (enum what)((first & ~SEAL) % WHAT_NR);
	const bool seal = first & SEAL;
	_Alignas(64) uint8_t bytes[PC_SUPER_BYTES] = { 0 };

	if (what >= TWO_SUPERS) {
		two_copies(what, &in, seal);
		return 0;
	}
	put(bytes, &in, what == ONE_SUPER ? sizeof(struct pcm_super) : 64, seal);
	if (what == ONE_SUPER)
		one_super(bytes);
	else if (what == ONE_TAIL)
		one_tail(bytes);
	else
		one_segrec(bytes, fuzz_u8(&in));
	return 0;
}
