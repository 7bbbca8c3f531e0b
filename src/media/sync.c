/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Media: the part of a handle that every kind of media has: the lock around syncs, and the error that ends them. The rule itself is in pc_media_sync
 * (media.h), which is inlined so that each call in the source stays a call site of its own for the crash simulator.
 */
#include "media/stage.h"

int pc_media_init(struct pc_media *media)
{
	atomic_init(&media->sync_error, 0);
	return pc_mutex_init(&media->sync_lock, PC_RANK_MEDIA, 0);
}

void pc_media_fini(struct pc_media *media)
{
	pc_stage_free(media->stage);
	media->stage = NULL;
	pc_mutex_fini(&media->sync_lock);
}

void pc_media_fail(struct pc_media *media, int error)
{
	int none = 0;

	/* Order of memory: who sees a position of this thread leave its in-flight slot sees the error, too, and does not take a sync for a good one. */
	atomic_compare_exchange_strong_explicit(&media->sync_error, &none, error, memory_order_release,
						memory_order_relaxed);
}
