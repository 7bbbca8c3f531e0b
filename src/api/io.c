/* SPDX-License-Identifier: BSD-3-Clause */
/* The exported I/O calls: arguments are checked here, the work is core's. */
#include <errno.h>

#include "api/handle.h"
#include "api/internal.h"
#include "api/timed.h"
#include "base/checked.h"
#include "base/plant.h"
#include "base/probe.h"
#include "service/mode.h"
#include "service/service.h"

int pc_api_check(const struct pcache *cache)
{
	if (!cache)
		return -EINVAL;
	return cache->fork_page[0] ? 0 : PCACHE_E_FORKED;
}

static uint64_t size_bytes(const struct pcache *cache)
{
	return cache->backing_blk << cache->block_shift;
}

int pc_api_check_range(const struct pcache *cache, uint64_t off, uint64_t len)
{
	if (!pc_range_inside(off, len, size_bytes(cache)))
		return PCACHE_E_RANGE;
	return (off | len) & (cache->block_bytes - 1) ? PCACHE_E_UNALIGNED : 0;
}

int pc_api_told(struct pcache *cache, int rc)
{
	if (rc == PCACHE_E_FAILSTOP)
		pc_core_tell_failstop(cache);
	return rc;
}

PCACHE_API int pcache_read(struct pcache *cache, void *buf, uint64_t off, uint64_t len, uint32_t flags)
{
	int rc = pc_api_check(cache);

	if (rc)
		return rc;
	if ((!buf && len) || (flags & ~(PCACHE_NOCACHE | PCACHE_NOWAIT)))
		return -EINVAL;
	rc = pc_api_check_range(cache, off, len);
	if (rc)
		return rc;
	PC_PROBE3(read, off, len, flags);
	if (pc_latency_on(cache))
		return PC_TIMED(cache, PCACHE_LATENCY_READ, pc_core_read(cache, buf, off, len, flags));
	return pc_core_read(cache, buf, off, len, flags);
}

int pc_api_write(struct pcache *cache, const struct pcache_range *ranges, uint32_t range_nr, bool whole, uint32_t flags)
{
	int rc;

	if (pc_mode_waits(cache))
		return pc_mode_write(cache, ranges, range_nr, whole, flags);
	rc = pc_core_write(cache, ranges, range_nr, flags);
	if (PC_PLANTED(PC_PLANT_MODE_NOT_SEEN))
		return rc;
	/* The mode has changed meanwhile. */
	return !rc && pc_mode_waits(cache) ? pc_mode_through(cache) : rc;
}

static int write_zeroes(struct pcache *cache, uint64_t off, uint64_t len, bool discard, uint32_t flags)
{
	int rc;

	if (pc_mode_waits(cache) && (flags & PCACHE_NOWAIT))
		return -EAGAIN;
	rc = pc_core_zero(cache, off, len, discard, flags);
	return !rc && pc_mode_waits(cache) ? pc_mode_through(cache) : rc;
}

bool pc_api_write_flags_known(uint32_t flags)
{
	return !(flags & ~(PCACHE_DURABLE | PCACHE_NOWAIT));
}

PCACHE_API int pcache_write(struct pcache *cache, const void *buf, uint64_t off, uint64_t len, uint32_t flags)
{
	struct pcache_range range = { .buf = buf, .off = off, .len = len };
	int rc = pc_api_check(cache);

	if (rc)
		return rc;
	if ((!buf && len) || !pc_api_write_flags_known(flags))
		return -EINVAL;
	rc = pc_api_check_range(cache, off, len);
	if (rc)
		return rc;
	PC_PROBE3(write, off, len, flags);
	if (pc_latency_on(cache))
		return pc_api_told(cache,
				   PC_TIMED(cache, PCACHE_LATENCY_WRITE, pc_api_write(cache, &range, 1, false, flags)));
	return pc_api_told(cache, pc_api_write(cache, &range, 1, false, flags));
}

PCACHE_API int pcache_write_batch(struct pcache *cache, const struct pcache_range *ranges, uint32_t range_nr,
				  uint32_t flags)
{
	uint64_t total = 0;
	int rc = pc_api_check(cache);

	if (rc)
		return rc;
	if ((!ranges && range_nr) || !pc_api_write_flags_known(flags))
		return -EINVAL;
	for (uint32_t i = 0; i < range_nr; i++) {
		if (!ranges[i].buf && ranges[i].len)
			return -EINVAL;
		rc = pc_api_check_range(cache, ranges[i].off, ranges[i].len);
		if (rc)
			return rc;
		if (!pc_add_u64(total, ranges[i].len, &total))
			return PCACHE_E_TOO_BIG;
	}
	if (total > cache->atomic_max_bytes)
		return PCACHE_E_TOO_BIG;
	PC_PROBE3(batch, range_nr, total, flags);
	if (pc_latency_on(cache))
		return pc_api_told(cache, PC_TIMED(cache, PCACHE_LATENCY_BATCH,
						   pc_api_write(cache, ranges, range_nr, true, flags)));
	return pc_api_told(cache, pc_api_write(cache, ranges, range_nr, true, flags));
}

PCACHE_API uint64_t pcache_atomic_write_max(const struct pcache *cache)
{
	return cache ? cache->atomic_max_bytes : 0;
}

PCACHE_API uint64_t pcache_size(const struct pcache *cache)
{
	return cache ? size_bytes(cache) : 0;
}

PCACHE_API uint32_t pcache_block_bytes(const struct pcache *cache)
{
	return cache ? cache->block_bytes : 0;
}

PCACHE_API int pcache_flush(struct pcache *cache)
{
	int rc = pc_api_check(cache);

	if (rc)
		return rc;
	if (pc_latency_on(cache))
		return pc_api_told(cache, PC_TIMED(cache, PCACHE_LATENCY_FLUSH, pc_core_flush(cache)));
	return pc_api_told(cache, pc_core_flush(cache));
}

static int zero(struct pcache *cache, uint64_t off, uint64_t len, bool discard, uint32_t flags)
{
	int rc = pc_api_check(cache);

	if (rc)
		return rc;
	if (!pc_api_write_flags_known(flags))
		return -EINVAL;
	rc = pc_api_check_range(cache, off, len);
	if (rc)
		return rc;
	PC_PROBE3(zero, off, len, flags);
	if (pc_latency_on(cache))
		return pc_api_told(cache,
				   PC_TIMED(cache, PCACHE_LATENCY_ZERO, write_zeroes(cache, off, len, discard, flags)));
	return pc_api_told(cache, write_zeroes(cache, off, len, discard, flags));
}

PCACHE_API int pcache_discard(struct pcache *cache, uint64_t off, uint64_t len, uint32_t flags)
{
	return zero(cache, off, len, true, flags);
}

PCACHE_API int pcache_write_zeroes(struct pcache *cache, uint64_t off, uint64_t len, uint32_t flags)
{
	return zero(cache, off, len, false, flags);
}

static enum pc_walk find_poison(void *ctx, struct pc_extent *extent)
{
	bool *found = ctx;

	if ((extent->flags & PC_EXT_TYPE_MASK) != PC_EXT_POISON)
		return PC_WALK_KEEP;
	*found = true;
	return PC_WALK_STOP;
}

bool pc_api_has_poison(struct pcache *cache)
{
	bool found = false;

	for (uint32_t i = 0; i < pc_index_shard_nr(cache->index) && !found; i++) {
		pc_index_lock(cache->index, UINT64_C(1) << i);
		pc_index_walk_shard_locked(cache->index, i, find_poison, &found);
		pc_index_unlock(cache->index, UINT64_C(1) << i);
	}
	return found;
}

PCACHE_API int pcache_drain(struct pcache *cache, pcache_progress_fn progress, void *user)
{
	int rc = pc_api_check(cache);

	if (rc)
		return rc;
	if (cache->read_only)
		return PCACHE_E_READ_ONLY;
	rc = pc_service_drain(cache, progress, user);
	if (!rc && pc_api_has_poison(cache))
		rc = PCACHE_E_POISONED;
	return pc_api_told(cache, rc);
}

PCACHE_API int pcache_maintain(struct pcache *cache, uint32_t max_steps)
{
	uint32_t done = 0;
	bool any = true;
	int error = 0, rc = pc_api_check(cache);

	if (rc)
		return rc;
	if (cache->read_only)
		return PCACHE_E_READ_ONLY;
	while (any && (max_steps == 0 || done < max_steps)) {
		any = false;
		for (int step = 0; step < PC_STEP_NR && (max_steps == 0 || done < max_steps); step++) {
			rc = pc_cache_step(cache, (enum pc_step)step, false);
			if (rc < 0 && !error)
				error = rc;
			any |= rc > 0;
			done += rc > 0;
		}
		/* The round is finished first: what failed does not keep the rest from being done. */
		if (error)
			return pc_api_told(cache, error);
	}
	return (int)PC_MIN(done, (uint32_t)INT32_MAX);
}

static int run_step(struct pcache *cache, enum pc_step step, bool force)
{
	switch (step) {
	case PC_STEP_WRITEBACK:
		return pc_writeback_step(cache);
	case PC_STEP_EVICT:
		return pc_evict_step(cache, force);
	case PC_STEP_CLEAN:
		return pc_clean_step(cache, force);
	case PC_STEP_NR:
		break;
	}
	return -EINVAL;
}

int pc_cache_step(struct pcache *cache, enum pc_step step, bool force)
{
	struct pc_space_step running = { 0 };
	int rc;

	pc_space_step_begin(cache, &running);
	rc = run_step(cache, step, force);
	pc_space_step_end(cache, &running);
	return rc;
}
