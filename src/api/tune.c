/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options of an open cache: what is in force, and the change of those that may change.
 *
 * The values live as plain fields of struct pcache, where they are used; a change is one store that running calls see early or late. gc_percent alone is on media:
 * its record comes first, so that what is in force is what the next open finds.
 */
#include <errno.h>

#include "api/async.h"
#include "api/handle.h"
#include "api/internal.h"
#include "api/option.h"
#include "core/latency.h"
#include "service/mode.h"

static uint64_t geometry_in_force(const struct pcache *cache, enum pcache_option option)
{
	const struct pc_super *super = &cache->layout.super;

	switch (option) {
	case PCACHE_OPT_CACHE_BYTES:
		return super->media_bytes;
	case PCACHE_OPT_BLOCK_BYTES:
		return super->block_bytes;
	case PCACHE_OPT_SEGMENT_BYTES:
		return super->segment_bytes;
	default:
		return cache->data_crc;
	}
}

static uint64_t in_force(const struct pcache *cache, enum pcache_option option)
{
	switch (option) {
	case PCACHE_OPT_GC_PERCENT:
		return atomic_load_explicit(&cache->gc_percent, memory_order_relaxed);
	case PCACHE_OPT_ORDERING:
		return cache->strict ? PCACHE_ORDERING_STRICT : PCACHE_ORDERING_BATCH;
	case PCACHE_OPT_COMMIT:
		return cache->commit_write ? PCACHE_COMMIT_WRITE : PCACHE_COMMIT_FLUSH;
	case PCACHE_OPT_COMMIT_GUARD:
		return cache->guard_fence;
	case PCACHE_OPT_MODE:
		return atomic_load_explicit(&cache->mode, memory_order_relaxed);
	case PCACHE_OPT_READ_CACHE:
		return atomic_load_explicit(&cache->read_cache, memory_order_relaxed);
	case PCACHE_OPT_MAINTENANCE:
		return cache->caller_maintains ? PCACHE_MAINTENANCE_CALLER : PCACHE_MAINTENANCE_THREAD;
	case PCACHE_OPT_FULL_POLICY:
		return atomic_load_explicit(&cache->full_is_error, memory_order_relaxed);
	case PCACHE_OPT_WRITEBACK_DELAY_MS:
		return atomic_load_explicit(&cache->writeback_delay_ms, memory_order_relaxed);
	case PCACHE_OPT_DIRTY_START_PERCENT:
		return atomic_load_explicit(&cache->limit.start_percent, memory_order_relaxed);
	case PCACHE_OPT_DIRTY_LIMIT_PERCENT:
		return atomic_load_explicit(&cache->limit.limit_percent, memory_order_relaxed);
	case PCACHE_OPT_DIRTY_AGE_MAX_MS:
		return atomic_load_explicit(&cache->dirty_age_max_ms, memory_order_relaxed);
	case PCACHE_OPT_WRITEBACK_RATE:
		return atomic_load_explicit(&cache->writeback_rate, memory_order_relaxed);
	case PCACHE_OPT_READ_ONLY:
		return cache->read_only;
	case PCACHE_OPT_STATS_PAGE:
		return cache->stats_page != NULL;
	case PCACHE_OPT_MEDIA_GUARD:
		return cache->media_guard;
	case PCACHE_OPT_GRANULARITY:
		return cache->granularity_max;
	case PCACHE_OPT_LATENCY:
		return atomic_load_explicit(&cache->latency_on, memory_order_relaxed);
	case PCACHE_OPT_IO_THREADS:
		return pc_async_thread_max(cache);
	case PCACHE_OPT_FORCE:
	case PCACHE_OPT_CREATE:
		return 0;
	default:
		return geometry_in_force(cache, option);
	}
}

PCACHE_API int pcache_option_get(const struct pcache *cache, int option, uint64_t *out_value)
{
	int rc = pc_api_check(cache);

	if (rc)
		return rc;
	if (!out_value)
		return -EINVAL;
	if (!pc_option_exists(option))
		return -ENOENT;
	*out_value = in_force(cache, (enum pcache_option)option);
	return 0;
}

/* The record of the next open, then what is in force. */
static int set_gc_percent(struct pcache *cache, uint32_t gc_percent)
{
	struct pc_layout *layout = &cache->layout;
	struct pc_tail tail;
	int rc;

	if (cache->read_only)
		return PCACHE_E_READ_ONLY;
	if (atomic_load_explicit(&cache->failstop, memory_order_acquire))
		return PCACHE_E_FAILSTOP;
	pc_mutex_lock(&layout->lock);
	tail = layout->tail;
	tail.gc_percent = gc_percent;
	rc = pc_layout_store_tail_locked(layout, &tail);
	if (!rc)
		atomic_store_explicit(&cache->gc_percent, gc_percent, memory_order_relaxed);
	pc_mutex_unlock(&layout->lock);
	if (rc)
		return pc_core_failstop(cache, rc);
	pc_admit_target(cache);
	pc_signal_work(cache, PC_WORK_SPACE);
	return 0;
}

PCACHE_API int pcache_option_set(struct pcache *cache, int option, uint64_t value)
{
	int rc = pc_api_check(cache);

	if (rc)
		return rc;
	if (!pc_option_exists(option))
		return -ENOENT;
	if (!pc_option_may_change(option))
		return -EPERM;
	if (!pc_option_valid(option, value))
		return -EINVAL;
	switch (option) {
	case PCACHE_OPT_MODE:
		return cache->read_only ? PCACHE_E_READ_ONLY : pc_api_told(cache, pc_mode_set(cache, (uint32_t)value));
	case PCACHE_OPT_READ_CACHE:
		atomic_store_explicit(&cache->read_cache, value != 0, memory_order_relaxed);
		return 0;
	case PCACHE_OPT_FULL_POLICY:
		atomic_store_explicit(&cache->full_is_error, value != 0, memory_order_relaxed);
		pc_space_progress(cache); /* who waits already looks again */
		return 0;
	case PCACHE_OPT_WRITEBACK_DELAY_MS:
		atomic_store_explicit(&cache->writeback_delay_ms, (uint32_t)value, memory_order_relaxed);
		break;
	case PCACHE_OPT_LATENCY:
		return pc_latency_switch(cache, value != 0);
	case PCACHE_OPT_DIRTY_AGE_MAX_MS:
		atomic_store_explicit(&cache->dirty_age_max_ms, (uint32_t)value, memory_order_relaxed);
		break;
	case PCACHE_OPT_WRITEBACK_RATE:
		atomic_store_explicit(&cache->writeback_rate, value, memory_order_relaxed);
		break;
	case PCACHE_OPT_DIRTY_START_PERCENT:
		atomic_store_explicit(&cache->limit.start_percent, (uint32_t)value, memory_order_relaxed);
		pc_limit_change(cache);
		break;
	case PCACHE_OPT_DIRTY_LIMIT_PERCENT:
		atomic_store_explicit(&cache->limit.limit_percent, (uint32_t)value, memory_order_relaxed);
		pc_limit_change(cache);
		break;
	default:
		return set_gc_percent(cache, (uint32_t)value);
	}
	pc_signal_work(cache, PC_WORK_URGENT); /* who sleeps by the old value */
	return 0;
}
