/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Recovery: make a cache, replay its log, and make true what an open shows.
 *
 * Replay only reads. What it found wrong is then mended (pc_recovery_mend) before anything is served, or, for a probe, just dropped.
 */
#ifndef PC_RECOVERY_RECOVERY_H
#define PC_RECOVERY_RECOVERY_H

#include "core/cache.h"

/* Positions [pos, pos + slot_nr) of one segment. */
struct pc_run {
	uint64_t pos;
	uint32_t slot_nr;
};

struct pc_runs {
	struct pc_run *runs;
	size_t nr;
	size_t max;
};

struct pc_replay {
	uint64_t mark_pos; /* everything below was durable */
	uint64_t end_pos; /* behind the last valid kset */
	struct pc_runs holes; /* slots below end_pos that do not validate, ascending */
	struct pc_runs voids; /* positions below end_pos that hold nothing valid, ascending */
	uint64_t key_nr; /* keys that were accepted */
	uint64_t damaged_nr; /* of those at or above the mark: their data is not right, and no crash did that */
	uint64_t apply_ns; /* time spent on applying, beside reading the log */
	uint64_t epoch_pos; /* last flush mark */
};

/* Formats mapped media. See api/internal.h. */
int pc_recovery_mkcache(struct pc_media *media, const struct pcache_config *config, const struct pc_tweaks *tweaks,
			uint64_t backing_bytes, const uint8_t backing_uuid[16]);

/* Reads the log into the empty cache. 0, PCACHE_E_CORRUPT, -ENOMEM, -errno. replay is filled in; free it with pc_replay_fini in any case. */
int pc_recovery_replay(struct pcache *cache, struct pc_replay *replay);
void pc_replay_fini(struct pc_replay *replay);
/* Says what is wrong with the log. Returns PCACHE_E_CORRUPT. */
int pc_recovery_corrupt(struct pcache *cache, const char *what, uint64_t pos);
/* True if an open must store something before it serves. */
bool pc_recovery_needs_mend(const struct pcache *cache, const struct pc_replay *replay);
/* Stores what is needed. After 0 the cache is ready. 0, -errno of a sync or of the backing. */
int pc_recovery_mend(struct pcache *cache, const struct pc_replay *replay);

#endif
