/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making true what an open shows. In this order, each step a choice that a crash leaves open again:
 *
 *   1  copies of records that are bad or old are rewritten from the good one, before any new record; then the tail record says: not closed;
 *   2  positions that hold nothing valid become void ksets, slots beyond the end that could pass for half a kset of this segment are zeroed;
 *   3  everything accepted above the mark is flushed, for the process may have died with it in the CPU caches (page granularity: stored again, for its sync may have failed); then one commit;
 *   4  the backing is flushed, for write-back may have died between a write and its flush;
 *   5  the tail record says: durable up to the end, not cleanly closed;
 *   6  the log gets its reserve, and a mark that ends the epoch.
 *
 * Only then is anything served or reused.
 */
#include <errno.h>
#include <string.h>

#include "base/plant.h"
#include "pcache/errors.h"
#include "recovery/recovery.h"

static void store_void(struct pcache *cache, uint64_t pos, uint32_t slot_nr)
{
	_Alignas(64) uint8_t slot[PC_SLOT_BYTES];

	pc_kset_encode_void(slot, pos, pc_log_seg(&cache->log, pos)->nonce, slot_nr);
	pc_log_store(&cache->log, pos, slot, 1);
}

/*
 * Page granularity: after a sync that failed, in this process's life or an earlier one's, the kernel takes pages for written that are not. What an open shows must be stored
 * again, or its own sync would succeed without having written it. What cannot be read is not shown either: the other copy, or the poison, counts.
 */
static void store_again(struct pcache *cache, uint64_t media_off, uint64_t len)
{
	_Alignas(64) uint8_t bytes[PC_CHUNK_BYTES];

	for (uint64_t part = 0; len > 0; media_off += part, len -= part) {
		part = PC_MIN(len, (uint64_t)PC_CHUNK_BYTES);
		if (pc_media_read(cache->media, media_off, bytes, part) == 0) {
			pc_media_copy(cache->media, media_off, bytes, part);
			continue;
		}
		part = PC_MIN(len, (uint64_t)PC_SLOT_BYTES);
		if (pc_media_read(cache->media, media_off, bytes, part) == 0)
			pc_media_copy(cache->media, media_off, bytes, part);
	}
}

/* The next commit makes the range durable, whoever stored it, and whatever became of him. */
PC_MEDIA_INLINE void cover(struct pcache *cache, uint64_t media_off, uint64_t len)
{
	if (cache->media->granularity == PC_GRAN_PAGE)
		store_again(cache, media_off, len);
	else
		pc_media_flush(cache->media, media_off, len);
}

/* Both copies of all records, as they are. A killed process may have left the newest in the CPU caches, also in the middle of its close. */
static void cover_records(struct pcache *cache)
{
	const struct pc_super *super = &cache->layout.super;
	struct pc_media *media = cache->media;

	if (media->granularity != PC_GRAN_PAGE) {
		pc_media_flush(media, 0, super->zone_bytes);
		pc_media_flush(media, super->zone_b_off, super->zone_bytes);
		return;
	}
	for (unsigned int replica = 0; replica < 2; replica++) {
		store_again(cache, pc_geo_super_off(super, replica), sizeof(struct pcm_super));
		store_again(cache, pc_geo_tail_off(super, replica), sizeof(struct pcm_tail));
		store_again(cache, pc_geo_segrec_off(super, replica, 0),
			    (uint64_t)super->segment_nr * sizeof(struct pcm_segrec));
	}
}

/* Slots behind the end whose header is partly of this segment's life: a later kset could complete them. */
static int zero_torn_slots(struct pcache *cache, struct pc_log_reader *reader, uint64_t from_pos)
{
	static const uint8_t zeroes[PC_SLOT_BYTES];
	uint64_t cap_end = atomic_load(&cache->log.cap_end);

	pc_log_reader_reset(reader);
	for (uint64_t pos = from_pos; pos < cap_end; pos++) {
		const struct pcm_kset *header;
		const void *buf;
		struct pc_kset kset;

		(void)pc_log_reader_at(reader, pos, cap_end, &kset, &buf);
		header = buf;
		if (!header || pc_get64(header->pos) == pos ||
		    pc_get64(header->nonce) == pc_log_seg(&cache->log, pos)->nonce)
			pc_log_store(&cache->log, pos, zeroes, 1);
	}
	return 0;
}

static void cover_keys(struct pcache *cache, const void *buf, const struct pc_kset *kset)
{
	struct pc_key_cursor cursor;
	struct pc_key key;
	const struct pcm_le32 *crcs;

	pc_key_first(buf, kset, &cache->layout.rules, &cursor);
	while (pc_key_next(&cursor, &key, &crcs)) {
		if ((key.flags & PC_KEY_TYPE_MASK) != PC_KEY_DATA)
			continue;
		cover(cache,
		      pc_geo_segment_off(&cache->layout.super, key.seg_id) +
			      ((uint64_t)key.seg_blk << cache->block_shift),
		      (uint64_t)key.len_blk << cache->block_shift);
	}
}

/* Slots and data of everything accepted at or above the mark. */
static void cover_accepted(struct pcache *cache, struct pc_log_reader *reader, const struct pc_replay *replay)
{
	uint64_t pos = replay->mark_pos, cap_end = atomic_load(&cache->log.cap_end);

	pc_log_reader_reset(reader);
	while (pos < replay->end_pos) {
		struct pc_kset kset;
		const void *buf;

		if (pc_log_reader_at(reader, pos, cap_end, &kset, &buf) != PC_VALID) {
			pos++;
			continue;
		}
		cover(cache, pc_log_media_off(&cache->log, pos),
		      (kset.type == PC_KSET_VOID ? 1 : (uint64_t)kset.slot_nr) * PC_SLOT_BYTES);
		if (kset.type == PC_KSET_KEYS)
			cover_keys(cache, buf, &kset);
		pos += kset.slot_nr;
	}
}

static int mend_log(struct pcache *cache, const struct pc_replay *replay, uint64_t head)
{
	struct pc_log_reader reader;
	int rc = pc_log_reader_init(&reader, &cache->log);

	if (rc)
		return rc;
	cover_accepted(cache, &reader, replay);
	for (size_t i = 0; i < replay->voids.nr && !PC_PLANTED(PC_PLANT_NO_VOIDS_AT_OPEN); i++)
		store_void(cache, replay->voids.runs[i].pos, replay->voids.runs[i].slot_nr);
	if (head != replay->end_pos)
		store_void(cache, replay->end_pos, (uint32_t)(head - replay->end_pos));
	zero_torn_slots(cache, &reader, head);
	pc_log_reader_fini(&reader);
	/* Order: everything accepted, and the voids, before the tail record that calls them durable. */
	return pc_media_commit(cache->media);
}

static int store_open_tail(struct pcache *cache, uint64_t mark_pos)
{
	struct pc_layout *layout = &cache->layout;
	struct pc_tail tail;
	int rc;

	pc_mutex_lock(&layout->lock);
	tail = layout->tail;
	tail.flags = cache->strict ? 0 : PC_TAIL_FLAG_ORDERING_BATCH;
	tail.gc_percent = cache->gc_percent;
	tail.mark_pos = PC_MAX(tail.mark_pos, mark_pos);
	rc = pc_layout_store_tail_locked(layout, &tail);
	pc_mutex_unlock(&layout->lock);
	return rc;
}

/* The segment of the head and one more, if there are free ones. */
static int provide_reserve(struct pcache *cache, uint64_t head)
{
	int rc = 0;

	while (!rc && atomic_load(&cache->log.cap_end) - pc_log_seg_start(&cache->log, head) <
			      2 * (uint64_t)cache->log.slots_per_seg)
		rc = pc_log_extend(&cache->log, true);
	return rc == PCACHE_E_FULL ? 0 : rc;
}

/*
 * The end of what was recovered must be a mark in the log: kept in memory alone, a second crash would merge it with what is written from now on, and ordering strict
 * would be broken. A log without a slot for it (many opens in a row can use up the reserve) is cleaned here and now, with write-back and eviction if it takes them: nothing is
 * served yet, so only time is lost. 0, or the error that kept room from being made: the backing's.
 */
static int make_room_for_mark(struct pcache *cache)
{
	struct pc_log *log = &cache->log;
	int rc = 1;

	atomic_store(&cache->space.want_log, true);
	while (rc > 0 && atomic_load(&log->head) + log->flush_reserve_slots >= atomic_load(&log->cap_end)) {
		rc = pc_log_extend(log, true);
		if (rc == PCACHE_E_FULL)
			rc = cache->run_steps(cache);
		else if (rc == 0)
			rc = 1;
	}
	atomic_store(&cache->space.want_log, false);
	return rc > 0 ? 0 : rc ? rc : PCACHE_E_FULL;
}

/*
 * Damaged dirty data needs a slot that says so before anything behind it can be written back; a log without one, and without a free segment, takes no mark. What was recovered is
 * durable, and without stores no epoch can be merged with it: so it can be read.
 */
static int serve_reads_only(struct pcache *cache)
{
	pc_msg(&cache->msg, PCACHE_LOG_ERROR,
	       "the log is full and damaged data keeps it from being cleaned: the cache can be read only; copy its "
	       "data away and format it");
	(void)pc_core_failstop(cache, PCACHE_E_FULL);
	return 0;
}

int pc_recovery_mend(struct pcache *cache, const struct pc_replay *replay)
{
	struct pc_log *log = &cache->log;
	bool page = cache->media->granularity == PC_GRAN_PAGE;
	uint64_t head =
		page ? PC_ROUND_UP(replay->end_pos, (uint64_t)(PC_PAGE_BYTES / PC_SLOT_BYTES)) : replay->end_pos;
	int rc = 0;

	cache->replica_repair_nr = cache->layout.repair_nr;
	cover_records(cache);
	/* Order: what loading accepted before anything overwrites a copy of it. */
	rc = pc_media_commit(cache->media);
	if (!rc && cache->layout.repair_nr) {
		pc_msg(&cache->msg, PCACHE_LOG_WARN, "%u damaged or outdated metadata copies repaired",
		       cache->layout.repair_nr);
		pc_event(&cache->msg, (struct pcache_event){ .kind = PCACHE_EVENT_REPLICA_REPAIRED,
							     .value = cache->layout.repair_nr });
		rc = pc_layout_repair(&cache->layout);
	}
	/* From the first other store on, the cache is one that was not closed. */
	if (!rc && (cache->layout.tail.flags & PC_TAIL_FLAG_CLEAN_CLOSE))
		rc = store_open_tail(cache, 0);
	if (!rc)
		rc = mend_log(cache, replay, head);
	/* Order: what an earlier life wrote to the backing before the mark of this open counts on it. */
	if (!rc)
		rc = pc_backing_flush(cache->backing);
	if (!rc)
		rc = store_open_tail(cache, head);
	if (rc)
		return rc;
	atomic_store(&log->head, head);
	atomic_store(&log->synced_pos, head);
	atomic_store(&log->settled_pos, cache->layout.tail.dirty_tail_pos);
	atomic_store(&log->epoch_pos, replay->epoch_pos);
	/* What was recovered is an epoch of its own. */
	atomic_store(&cache->open_epoch_pos, head);
	rc = provide_reserve(cache, head);
	if (rc)
		return rc;
	(void)pc_segmap_reclaim(&cache->map, cache->layout.tail.dirty_tail_pos, head);
	rc = make_room_for_mark(cache);
	if (rc == PCACHE_E_FULL)
		return serve_reads_only(cache);
	if (rc)
		return rc;
	cache->flushed_head = 0;
	return pc_core_flush(cache);
}
