/* SPDX-License-Identifier: BSD-3-Clause */
/* Forged images, records: each breaks one rule and returns the offset that a check must name. */
#include "tool/forged.h"

#include <string.h>

/* One copy of a record, with one member changed and sealed again. */
#define SUPER(name, change) \
	static uint64_t name(struct forge *forge, unsigned int copy) \
	{ \
		struct pcm_super *at = forge_super_at(forge, copy); \
\
		change; \
		forge_seal(at, sizeof(*at)); \
		return pc_geo_super_off(&forge->super, copy); \
	}
#define TAIL(name, change) \
	static uint64_t name(struct forge *forge, unsigned int copy) \
	{ \
		struct pcm_tail *at = forge_tail_at(forge, copy); \
\
		change; \
		forge_seal(at, sizeof(*at)); \
		return pc_geo_tail_off(&forge->super, copy); \
	}
#define SEGREC(name, seg, change) \
	static uint64_t name(struct forge *forge, unsigned int copy) \
	{ \
		struct pcm_segrec *at = forge_segrec_at(forge, copy, seg); \
\
		change; \
		forge_seal(at, sizeof(*at)); \
		return pc_geo_segrec_off(&forge->super, copy, seg); \
	}

/* clang-format off */
SUPER(s1, at->magic[3] ^= 1)
SUPER(s3_version, at->version = pc_le32(2))
SUPER(s3_incompat, at->incompat = pc_le64(1))
SUPER(s4, at->flags = pc_le32(3))
SUPER(s5, at->reserved[119] = 1)
SUPER(s6, at->block_bytes = pc_le32(1024))
SUPER(s7_odd, at->segment_bytes = pc_le32(16u * 1024 + 4096))
SUPER(s7_small, at->segment_bytes = pc_le32(2048))
SUPER(s7_large, at->segment_bytes = pc_le32(32u << 20))
SUPER(s8_few, at->segment_nr = pc_le32(7))
SUPER(s8_many, at->segment_nr = pc_le32((1u << 24) + 1))
SUPER(s9_page, at->media_bytes = pc_le64(forge->super.media_bytes - 512))
SUPER(s9_huge, at->media_bytes = pc_le64(UINT64_C(1) << 63))
SUPER(s10_page, at->zone_bytes = pc_le64(forge->super.zone_bytes + 512))
SUPER(s10_small, at->zone_bytes = pc_le64(8192))
SUPER(s10_half, at->zone_bytes = pc_le64(forge->super.media_bytes / 2 + 4096))
SUPER(s11, at->zone_b_off = pc_le64(forge->super.zone_b_off - 4096))
SUPER(s12_low, at->data_off = pc_le64(0))
SUPER(s12_odd, at->data_off = pc_le64(forge->super.data_off + 4096))
SUPER(s13_end, at->data_off = pc_le64(forge->super.data_off + 16384))
SUPER(s13_wrap, at->data_off = pc_le64(UINT64_MAX - 16383))
SUPER(s14_none, at->backing_bytes = pc_le64(0))
SUPER(s14_odd, at->backing_bytes = pc_le64(forge->super.backing_bytes + 256))
SUPER(s14_large, at->backing_bytes = pc_le64((UINT64_C(1) << 57) + 512))
TAIL(t1, at->magic = pc_le32(PC_SEGREC_MAGIC))
TAIL(t3, at->flags = pc_le32(4))
TAIL(t4, at->gc_percent = pc_le32(91))
TAIL(t5, at->log_tail_pos = pc_le64(forge->tail.dirty_tail_pos + 1))
TAIL(t6, at->reserved[15] = 1)
SEGREC(r1, FORGE_SEG_FREE, at->magic = pc_le32(PC_TAIL_MAGIC))
SEGREC(r3, FORGE_SEG_FREE, at->seg_id = pc_le32(FORGE_SEG_FREE + 1))
SEGREC(r4, FORGE_SEG_FREE, at->type = pc_le32(3))
SEGREC(r5_free, FORGE_SEG_FREE, at->ordinal = pc_le64(1))
SEGREC(r5_none, FORGE_SPARE_LOG_SEG, at->ordinal = pc_le64(0))
SEGREC(r5_large, FORGE_SPARE_LOG_SEG, at->ordinal = pc_le64(PC_ORDINAL_MAX + 1))
SEGREC(r6, FORGE_SEG_FREE, at->nonce = pc_le64(1))
SEGREC(r7, FORGE_SEG_FREE, at->reserved[0] = 1)
/* clang-format on */

static uint64_t s2(struct forge *forge, unsigned int copy)
{
	forge_super_at(forge, copy)->reserved[7] ^= 1;
	return pc_geo_super_off(&forge->super, copy);
}

static uint64_t t2(struct forge *forge, unsigned int copy)
{
	forge_tail_at(forge, copy)->reserved[7] ^= 1;
	return pc_geo_tail_off(&forge->super, copy);
}

static uint64_t r2(struct forge *forge, unsigned int copy)
{
	forge_segrec_at(forge, copy, FORGE_SEG_FREE)->reserved[7] ^= 1;
	return pc_geo_segrec_off(&forge->super, copy, FORGE_SEG_FREE);
}

const struct forged_copy forged_copies[] = {
	{ CHECK_S1, s1 },        { CHECK_S2, s2 },         { CHECK_S4, s4 },         { CHECK_S5, s5 },
	{ CHECK_S6, s6 },        { CHECK_S7, s7_odd },     { CHECK_S7, s7_small },   { CHECK_S7, s7_large },
	{ CHECK_S8, s8_few },    { CHECK_S8, s8_many },    { CHECK_S9, s9_page },    { CHECK_S9, s9_huge },
	{ CHECK_S10, s10_page }, { CHECK_S10, s10_small }, { CHECK_S10, s10_half },  { CHECK_S11, s11 },
	{ CHECK_S12, s12_low },  { CHECK_S12, s12_odd },   { CHECK_S13, s13_end },   { CHECK_S13, s13_wrap },
	{ CHECK_S14, s14_none }, { CHECK_S14, s14_odd },   { CHECK_S14, s14_large }, { CHECK_T1, t1 },
	{ CHECK_T2, t2 },        { CHECK_T3, t3 },         { CHECK_T4, t4 },         { CHECK_T5, t5 },
	{ CHECK_T6, t6 },        { CHECK_R1, r1 },         { CHECK_R2, r2 },         { CHECK_R3, r3 },
	{ CHECK_R4, r4 },        { CHECK_R5, r5_free },    { CHECK_R5, r5_none },    { CHECK_R5, r5_large },
	{ CHECK_R6, r6 },        { CHECK_R7, r7 },
};
const size_t forged_copy_nr = PC_ARRAY_NR(forged_copies);

/* ---- the records together ------------------------------------------------------------------------------------------ */

static uint64_t newer_version_beside(struct forge *forge)
{
	return s3_version(forge, 1);
}

static uint64_t feature_beside(struct forge *forge)
{
	return s3_incompat(forge, 0);
}

static uint64_t second_super_elsewhere(struct forge *forge)
{
	struct pcm_super *at = forge_super_at(forge, 1);

	at->media_bytes = pc_le64(forge->super.media_bytes + 4096);
	at->zone_b_off = pc_le64(forge->super.zone_b_off + 4096);
	forge_seal(at, sizeof(*at));
	return pc_geo_super_off(&forge->super, 1);
}

static uint64_t supers_differ(struct forge *forge)
{
	forge->super.backing_uuid[0] ^= 1;
	forge_put_super(forge, 2);
	return 0;
}

static uint64_t super_behind(struct forge *forge)
{
	forge->super.seq += 2;
	forge_put_super(forge, 2);
	return 0;
}

static uint64_t super_one_behind(struct forge *forge)
{
	forge->super.seq++;
	forge_put_super(forge, 1);
	return pc_geo_super_off(&forge->super, 1);
}

static uint64_t feature_to_write(struct forge *forge)
{
	forge->super.ro_compat = 1;
	forge_put_super(forge, 3);
	return 0;
}

static uint64_t uuid_zero(struct forge *forge)
{
	memset(forge->super.cache_uuid, 0, sizeof(forge->super.cache_uuid));
	forge_put_super(forge, 3);
	return 0;
}

static uint64_t file_short(struct forge *forge)
{
	return forge->media.media.len_bytes -= PC_PAGE_BYTES;
}

static uint64_t put_tail_at(struct forge *forge, unsigned int copies)
{
	forge_put_tail(forge, copies);
	return pc_geo_tail_off(&forge->super, 0);
}

static uint64_t tails_differ(struct forge *forge)
{
	forge->tail.gc_percent = 50;
	return put_tail_at(forge, 2);
}

static uint64_t tail_behind(struct forge *forge)
{
	forge->tail.seq += 2;
	return put_tail_at(forge, 2);
}

static uint64_t tail_one_behind(struct forge *forge)
{
	forge->tail.seq++;
	return put_tail_at(forge, 2);
}

static uint64_t tail_inside_segment(struct forge *forge)
{
	forge->tail.log_tail_pos++;
	return put_tail_at(forge, 3);
}

static uint64_t tail_at_zero(struct forge *forge)
{
	forge->tail = (struct pc_tail){ .seq = 4, .gc_percent = 70 };
	return put_tail_at(forge, 3);
}

static uint64_t dirty_tail_behind_end(struct forge *forge)
{
	forge->tail.dirty_tail_pos = forge->pos + 2;
	return put_tail_at(forge, 3);
}

static uint64_t dirty_tail_at_top(struct forge *forge)
{
	forge->tail.dirty_tail_pos = UINT64_MAX;
	return put_tail_at(forge, 3);
}

static uint64_t mark_beyond_log(struct forge *forge)
{
	forge->tail.mark_pos = forge->first_pos * 3 + 1;
	return put_tail_at(forge, 3);
}

static uint64_t mark_at_top(struct forge *forge)
{
	forge->tail.mark_pos = UINT64_MAX;
	return put_tail_at(forge, 3);
}

static uint64_t closed_before_end(struct forge *forge)
{
	forge->tail.flags = PC_TAIL_FLAG_CLEAN_CLOSE;
	forge->tail.mark_pos = forge->mark_at + 1;
	return put_tail_at(forge, 3);
}

static uint64_t dirty_tail_inside_kset(struct forge *forge)
{
	forge->tail.dirty_tail_pos = forge->long_at + 1;
	return put_tail_at(forge, 3);
}

static uint64_t mark_inside_void(struct forge *forge)
{
	forge->tail.mark_pos = forge->void_at + 2;
	return put_tail_at(forge, 3);
}

static uint64_t put_rec(struct forge *forge, uint32_t type, uint64_t gen, uint64_t seq, unsigned int copies)
{
	const struct pc_segrec rec = { .seg_id = FORGE_SEG_FREE, .type = type, .seq = seq, .gen = gen };

	forge_put_segrec(forge, &rec, copies);
	return pc_geo_segrec_off(&forge->super, copies == 2, FORGE_SEG_FREE);
}

static uint64_t segrecs_differ(struct forge *forge)
{
	(void)put_rec(forge, PC_SEG_DATA, 1, 1, 2);
	return pc_geo_segrec_off(&forge->super, 0, FORGE_SEG_FREE);
}

static uint64_t segrec_behind(struct forge *forge)
{
	(void)put_rec(forge, PC_SEG_DATA, 3, 3, 2);
	return pc_geo_segrec_off(&forge->super, 0, FORGE_SEG_FREE);
}

static uint64_t segrec_one_behind(struct forge *forge)
{
	(void)put_rec(forge, PC_SEG_DATA, 2, 2, 2);
	return pc_geo_segrec_off(&forge->super, 0, FORGE_SEG_FREE);
}

static uint64_t segrec_one_behind_after_close(struct forge *forge)
{
	forge->tail.flags = PC_TAIL_FLAG_CLEAN_CLOSE;
	forge->tail.mark_pos = forge->pos;
	forge_put_tail(forge, 3);
	return segrec_one_behind(forge);
}

static uint64_t generation_falls(struct forge *forge)
{
	(void)put_rec(forge, PC_SEG_DATA, 7, 1, 3);
	return put_rec(forge, PC_SEG_DATA, 6, 2, 2);
}

static uint64_t generation_not_raised(struct forge *forge)
{
	return put_rec(forge, PC_SEG_DATA, 1, 2, 2);
}

static uint64_t log_has_no_first(struct forge *forge)
{
	const struct pc_segrec rec = { .seg_id = FORGE_LOG_SEG, .type = PC_SEG_FREE, .seq = 3, .gen = 3 };

	forge_put_segrec(forge, &rec, 3);
	return pc_geo_tail_off(&forge->super, 0);
}

static uint64_t put_log_seg(struct forge *forge, uint64_t ordinal)
{
	const struct pc_segrec rec = {
		.seg_id = 9, .type = PC_SEG_LOG, .seq = 2, .gen = 2, .ordinal = ordinal, .nonce = 77
	};

	forge_put_segrec(forge, &rec, 3);
	return pc_geo_segrec_off(&forge->super, 0, rec.seg_id);
}

static uint64_t place_twice(struct forge *forge)
{
	return put_log_seg(forge, 2);
}

static uint64_t place_missing(struct forge *forge)
{
	return put_log_seg(forge, 4);
}

static uint64_t place_far(struct forge *forge)
{
	return put_log_seg(forge, PC_ORDINAL_MAX);
}

const struct forged forged_records[] = {
	{ CHECK_F1, CHECK_DAMAGE, file_short, CHECK_OK },
	{ CHECK_S3, CHECK_DAMAGE, newer_version_beside, CHECK_OK },
	{ CHECK_S3, CHECK_DAMAGE, feature_beside, CHECK_OK },
	{ CHECK_S15, CHECK_REPAIR, second_super_elsewhere, CHECK_OK },
	{ CHECK_S16, CHECK_DAMAGE, supers_differ, CHECK_OK },
	{ CHECK_S17, CHECK_DAMAGE, super_behind, CHECK_OK },
	{ CHECK_S17, CHECK_REPAIR, super_one_behind, CHECK_OK },
	{ CHECK_S18, CHECK_NOTE, feature_to_write, CHECK_OK },
	{ CHECK_S19, CHECK_NOTE, uuid_zero, CHECK_OK },
	{ CHECK_T7, CHECK_DAMAGE, tails_differ, CHECK_OK },
	{ CHECK_T8, CHECK_DAMAGE, tail_behind, CHECK_OK },
	{ CHECK_T8, CHECK_REPAIR, tail_one_behind, CHECK_OK },
	{ CHECK_T9, CHECK_DAMAGE, tail_inside_segment, CHECK_OK },
	{ CHECK_T9, CHECK_DAMAGE, tail_at_zero, CHECK_OK },
	{ CHECK_T10, CHECK_DAMAGE, dirty_tail_behind_end, CHECK_OK },
	{ CHECK_T10, CHECK_DAMAGE, dirty_tail_at_top, CHECK_OK },
	{ CHECK_T11, CHECK_DAMAGE, mark_beyond_log, CHECK_OK },
	{ CHECK_T11, CHECK_DAMAGE, mark_at_top, CHECK_OK },
	{ CHECK_T12, CHECK_DAMAGE, closed_before_end, CHECK_OK },
	{ CHECK_T13, CHECK_DAMAGE, dirty_tail_inside_kset, CHECK_OK },
	{ CHECK_T13, CHECK_DAMAGE, mark_inside_void, CHECK_OK },
	{ CHECK_R8, CHECK_DAMAGE, segrecs_differ, CHECK_OK },
	{ CHECK_R9, CHECK_DAMAGE, segrec_behind, CHECK_OK },
	{ CHECK_R9, CHECK_REPAIR, segrec_one_behind, CHECK_OK },
	{ CHECK_R9, CHECK_DAMAGE, segrec_one_behind_after_close, CHECK_OK },
	{ CHECK_R10, CHECK_DAMAGE, generation_falls, CHECK_OK },
	{ CHECK_R10, CHECK_DAMAGE, generation_not_raised, CHECK_OK },
	{ CHECK_C1, CHECK_DAMAGE, log_has_no_first, CHECK_OK },
	{ CHECK_C2, CHECK_DAMAGE, place_twice, CHECK_OK },
	{ CHECK_C3, CHECK_DAMAGE, place_missing, CHECK_OK },
	{ CHECK_C3, CHECK_DAMAGE, place_far, CHECK_OK },
};
const size_t forged_record_nr = PC_ARRAY_NR(forged_records);
