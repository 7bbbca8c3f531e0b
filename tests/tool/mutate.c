/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/mutate.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/format.h"
#include "tool/forge.h"

#define KSET_NR_MAX 4096u

struct mutation {
	uint64_t seed;
	struct forge forge; /* not a sound one: its bytes are the image */
	uint64_t kset_offs[KSET_NR_MAX];
	uint32_t kset_avail[KSET_NR_MAX]; /* slots to the end of its segment */
	uint32_t kset_nr;
	uint64_t end_off, end_pos, end_nonce; /* first slot of the newest LOG segment that holds nothing */
	uint32_t end_avail;
	char *text;
	size_t text_bytes, text_len;
};

static uint64_t draw(struct mutation *m)
{
	uint64_t x = m->seed += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static uint32_t below(struct mutation *m, uint32_t limit)
{
	return limit ? (uint32_t)(draw(m) % limit) : 0;
}

static void say(struct mutation *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct mutation *m, const char *fmt, ...)
{
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(m->text + m->text_len, m->text_bytes - m->text_len, fmt, args);
	va_end(args);
	m->text_len = PC_MIN(m->text_len + (size_t)(len > 0 ? len : 0), m->text_bytes - 1);
}

/* A value that somebody may not have thought of. */
static uint64_t odd_value(struct mutation *m, uint64_t old)
{
	const struct pc_super *super = &m->forge.super;
	const uint64_t near[] = { 0,
				  1,
				  old + 1,
				  old - 1,
				  old * 2,
				  super->segment_nr,
				  super->segment_bytes,
				  super->segment_bytes / PC_SLOT_BYTES,
				  super->media_bytes,
				  super->zone_b_off,
				  super->data_off,
				  super->backing_bytes,
				  UINT64_MAX,
				  UINT64_MAX / 2,
				  UINT32_MAX,
				  PC_ORDINAL_MAX };

	switch (below(m, 4)) {
	case 0:
		return near[below(m, PC_ARRAY_NR(near))];
	case 1:
		return near[below(m, PC_ARRAY_NR(near))] + below(m, 5) - 2;
	case 2:
		return old ^ UINT64_C(1) << below(m, 64);
	default:
		return (UINT64_C(1) << below(m, 64)) - below(m, 2);
	}
}

/* A field of 1, 2, 4 or 8 bytes. */
static void change(struct mutation *m, void *at, size_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, at, bytes);
	value = odd_value(m, value);
	memcpy(at, &value, bytes);
}

struct field {
	uint8_t off;
	uint8_t bytes;
};

static const struct field super_fields[] = { { 8, 4 },   { 12, 4 },  { 16, 8 },  { 24, 8 }, { 32, 8 },  { 40, 8 },
					     { 64, 8 },  { 80, 8 },  { 88, 8 },  { 96, 8 }, { 104, 8 }, { 112, 8 },
					     { 120, 4 }, { 124, 4 }, { 128, 4 }, { 140, 4 } };
static const struct field tail_fields[] = { { 4, 4 }, { 8, 8 }, { 16, 8 }, { 24, 8 }, { 32, 8 }, { 40, 4 }, { 50, 1 } };
static const struct field segrec_fields[] = {
	{ 4, 4 }, { 8, 8 }, { 16, 8 }, { 24, 8 }, { 32, 8 }, { 40, 4 }, { 50, 1 }
};
static const struct field kset_fields[] = { { 0, 8 },  { 8, 8 },  { 20, 4 }, { 24, 4 },
					    { 28, 2 }, { 30, 2 }, { 32, 8 }, { 40, 8 } };
static const struct field key_fields[] = { { 0, 8 },  { 8, 8 },  { 16, 4 }, { 20, 4 },
					   { 24, 4 }, { 28, 2 }, { 30, 1 }, { 31, 1 } };

static const struct field *pick(struct mutation *m, const struct field *fields, size_t nr)
{
	return &fields[below(m, (uint32_t)nr)];
}

/* Both copies alike, or one of them alone. */
static void change_record(struct mutation *m, const char *what, uint8_t *copies[2], size_t len,
			  const struct field *field)
{
	const uint32_t which = below(m, 4);

	say(m, " %s+%u/%u", what, field->off, which);
	change(m, copies[0] + field->off, field->bytes);
	forge_seal(copies[0], len);
	if (which < 3)
		memcpy(copies[1], copies[0], len);
}

static void change_super(struct mutation *m)
{
	uint8_t *copies[2] = { (void *)forge_super_at(&m->forge, 0), (void *)forge_super_at(&m->forge, 1) };

	change_record(m, "super", copies, sizeof(struct pcm_super), pick(m, super_fields, PC_ARRAY_NR(super_fields)));
}

static void change_tail(struct mutation *m)
{
	uint8_t *copies[2] = { (void *)forge_tail_at(&m->forge, 0), (void *)forge_tail_at(&m->forge, 1) };

	change_record(m, "tail", copies, sizeof(struct pcm_tail), pick(m, tail_fields, PC_ARRAY_NR(tail_fields)));
}

static void change_segrec(struct mutation *m)
{
	const uint32_t id = below(m, m->forge.super.segment_nr);
	uint8_t *copies[2] = { (void *)forge_segrec_at(&m->forge, 0, id), (void *)forge_segrec_at(&m->forge, 1, id) };

	say(m, " seg%u", id);
	change_record(m, "segrec", copies, sizeof(struct pcm_segrec),
		      pick(m, segrec_fields, PC_ARRAY_NR(segrec_fields)));
}

/* One segment gets the record of another, its number and sequence apart: places twice, generations that meet. */
static void copy_segrec(struct mutation *m)
{
	const uint32_t from = below(m, m->forge.super.segment_nr), to = below(m, m->forge.super.segment_nr);
	struct pc_segrec rec;

	if (pc_segrec_decode(forge_segrec_at(&m->forge, 0, from), from, &rec) != PC_VALID)
		return;
	say(m, " segrec%u=%u", to, from);
	rec.seg_id = to;
	forge_put_segrec(&m->forge, &rec, 3);
}

/* Seals a kset as far as it lies in the image. */
static void seal_kset_at(struct mutation *m, uint64_t off, uint32_t avail)
{
	struct pcm_kset *kset = (void *)(m->forge.bytes + off);

	if (pc_get16(kset->type) == PC_KSET_VOID || (pc_get32(kset->slot_nr) && pc_get32(kset->slot_nr) <= avail))
		forge_seal_kset(kset);
}

static void change_kset(struct mutation *m, bool of_key)
{
	const uint32_t i = below(m, m->kset_nr);
	const struct field *field =
		of_key ? pick(m, key_fields, PC_ARRAY_NR(key_fields)) : pick(m, kset_fields, PC_ARRAY_NR(kset_fields));

	if (m->kset_nr == 0)
		return;
	say(m, " %s@0x%llx+%u", of_key ? "key" : "kset", (unsigned long long)m->kset_offs[i], field->off);
	change(m, m->forge.bytes + m->kset_offs[i] + (of_key ? PC_CELL_BYTES : 0) + field->off, field->bytes);
	seal_kset_at(m, m->kset_offs[i], m->kset_avail[i]);
}

/* An old kset once more, at the end of the log: its data is claimed twice, or it erases what came after it. */
static void repeat_kset(struct mutation *m)
{
	const uint32_t i = below(m, m->kset_nr);
	struct pcm_kset *kset;
	uint32_t slot_nr;

	if (m->kset_nr == 0 || m->end_avail == 0)
		return;
	slot_nr = pc_get32(((struct pcm_kset *)(void *)(m->forge.bytes + m->kset_offs[i]))->slot_nr);
	if (slot_nr == 0 || slot_nr > m->end_avail || slot_nr > m->kset_avail[i])
		return;
	say(m, " repeat@0x%llx", (unsigned long long)m->kset_offs[i]);
	memmove(m->forge.bytes + m->end_off, m->forge.bytes + m->kset_offs[i], (size_t)slot_nr * PC_SLOT_BYTES);
	kset = (void *)(m->forge.bytes + m->end_off);
	kset->pos = pc_le64(m->end_pos);
	kset->nonce = pc_le64(m->end_nonce);
	if (below(m, 2)) /* of another range of the backing */
		change(m, m->forge.bytes + m->end_off + PC_CELL_BYTES, 2);
	seal_kset_at(m, m->end_off, m->end_avail);
	m->end_off += (uint64_t)slot_nr * PC_SLOT_BYTES;
	m->end_pos += slot_nr;
	m->end_avail -= slot_nr;
}

/* Keys that nobody wrote: as long as they may be, all over one segment. */
static void add_keys(struct mutation *m)
{
	const uint32_t segment_blk = m->forge.super.segment_bytes / m->forge.super.block_bytes;
	const uint64_t backing_blk = m->forge.super.backing_bytes / m->forge.super.block_bytes;
	const uint32_t seg_id = below(m, m->forge.super.segment_nr), type = below(m, 3);
	struct pc_key key = { .flags = (uint8_t)(type | below(m, 4) << 2) };
	struct pc_segrec rec;

	if (pc_segrec_decode(forge_segrec_at(&m->forge, 0, seg_id), seg_id, &rec) != PC_VALID)
		return;
	say(m, " keys of type %u into %u", type, seg_id);
	for (uint32_t nr = 1 + below(m, 40); nr > 0 && m->end_avail; nr--) {
		uint8_t *slot = m->forge.bytes + m->end_off;

		key.vol_blk = draw(m) % backing_blk;
		key.len_blk =
			(uint32_t)PC_MIN(backing_blk - key.vol_blk, type ? UINT64_C(1) << 19 : (uint64_t)segment_blk);
		if (type == PC_KEY_DATA) {
			key.gen = rec.gen;
			key.seg_id = seg_id;
			if (m->forge.rules.data_crc)
				key.len_blk = PC_MIN(key.len_blk, pc_chunk_blk(m->forge.super.block_bytes));
		}
		memset(slot, 0, PC_SLOT_BYTES);
		pc_key_encode(&key, (void *)(slot + PC_CELL_BYTES));
		pc_kset_seal(slot, m->end_pos, m->end_nonce, 1, 1);
		m->end_off += PC_SLOT_BYTES;
		m->end_pos++;
		m->end_avail--;
	}
}

static void add_headers(struct mutation *m)
{
	say(m, " headers");
	for (uint32_t i = 0; i < m->end_avail; i++) {
		struct pcm_kset *kset = (void *)(m->forge.bytes + m->end_off + (uint64_t)i * PC_SLOT_BYTES);

		kset->pos = pc_le64(m->end_pos + i);
		kset->nonce = pc_le64(m->end_nonce);
		kset->slot_nr = pc_le32(below(m, 8) ? m->end_avail - i : 1 + below(m, m->end_avail - i));
		kset->type = pc_le16(below(m, 8) ? PC_KSET_KEYS : PC_KSET_VOID);
	}
}

static void change_bytes(struct mutation *m, uint64_t len_bytes)
{
	say(m, " bytes");
	for (uint32_t nr = 1 + below(m, 8); nr > 0; nr--)
		m->forge.bytes[draw(m) % len_bytes] = (uint8_t)draw(m);
}

/* ---- what there is -------------------------------------------------------------------------------------------------- */

static void collect_segment(struct mutation *m, const struct pc_segrec *rec)
{
	const uint32_t slot_nr = pc_geo_slots_per_segment(&m->forge.super);
	const uint64_t off = pc_geo_segment_off(&m->forge.super, rec->seg_id);
	uint32_t slot = 0, end = 0;
	struct pc_kset kset;

	while (slot < slot_nr) {
		const uint64_t at = off + (uint64_t)slot * PC_SLOT_BYTES;

		if (pc_kset_decode(m->forge.bytes + at, slot_nr - slot, rec->ordinal * slot_nr + slot, rec->nonce,
				   &m->forge.rules, &kset) != PC_VALID) {
			slot++;
			continue;
		}
		if (m->kset_nr < KSET_NR_MAX) {
			m->kset_offs[m->kset_nr] = at;
			m->kset_avail[m->kset_nr++] = slot_nr - slot;
		}
		slot += kset.slot_nr;
		end = slot;
	}
	if (end < slot_nr && rec->ordinal * slot_nr + end > m->end_pos) {
		m->end_off = off + (uint64_t)end * PC_SLOT_BYTES;
		m->end_pos = rec->ordinal * slot_nr + end;
		m->end_nonce = rec->nonce;
		m->end_avail = slot_nr - end;
	}
}

static bool collect(struct mutation *m, uint64_t len_bytes)
{
	struct pc_segrec rec;

	if (pc_super_decode(forge_super_at(&m->forge, 0), &m->forge.super) != PC_VALID ||
	    m->forge.super.media_bytes > len_bytes)
		return false;
	pc_kset_rules_of(&m->forge.super, &m->forge.rules);
	for (uint32_t id = 0; id < m->forge.super.segment_nr; id++)
		if (pc_segrec_decode(forge_segrec_at(&m->forge, 0, id), id, &rec) == PC_VALID && rec.type == PC_SEG_LOG)
			collect_segment(m, &rec);
	return true;
}

static void mutate_once(struct mutation *m, uint64_t len_bytes)
{
	switch (below(m, 14)) {
	case 0:
		change_super(m);
		break;
	case 1:
	case 2:
		change_tail(m);
		break;
	case 3:
	case 4:
		change_segrec(m);
		break;
	case 5:
		copy_segrec(m);
		break;
	case 6:
		add_headers(m);
		break;
	case 7:
		add_keys(m);
		break;
	case 8:
		repeat_kset(m);
		break;
	case 9:
		change_bytes(m, len_bytes);
		break;
	default:
		change_kset(m, below(m, 3) != 0);
		break;
	}
}

void mutate_image(uint8_t *image, uint64_t len_bytes, uint64_t seed, char *text, size_t text_bytes)
{
	struct mutation *m = calloc(1, sizeof(*m));

	if (!m)
		abort();
	m->seed = seed * UINT64_C(0xd1342543de82ef95) + 3;
	m->forge.bytes = image;
	m->text = text;
	m->text_bytes = text_bytes;
	text[0] = '\0';
	if (collect(m, len_bytes))
		for (uint32_t nr = 1 + below(m, 3); nr > 0; nr--)
			mutate_once(m, len_bytes);
	free(m);
}
