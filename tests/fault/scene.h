/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A rig with three epochs of writes and zeroes, some clean data and some blocks that were never cached; what the backing may hold at any instant (G7)
 * is known from a snapshot of the array at each flush.
 *
 * Ranges of the backing of 256 KiB:
 *     0 ..  32 KiB   written, each epoch overlaps the one before
 *    32 ..  64 KiB   zeroed and discarded in the same way
 *    64 ..  72 KiB   clean: cached by a read
 *    96 .. 104 KiB   for writes during the fault
 *   128 .. 256 KiB   never cached by the scene
 */
#ifndef PC_TESTS_FAULT_SCENE_H
#define PC_TESTS_FAULT_SCENE_H

#include "core/rig.h"

#define SCENE_EPOCHS 3u
#define SCENE_ZEROES_OFF (32u << 10)
#define SCENE_CLEAN_OFF (64u << 10)
#define SCENE_DURING_OFF (96u << 10)
#define SCENE_MISS_OFF (128u << 10)
#define SCENE_MISS_BYTES 8192u

#define SCENE_WRITES 1u
#define SCENE_ZEROES 2u

struct scene {
	struct rig rig;
	uint8_t *snaps[SCENE_EPOCHS + 1]; /* the array before the first epoch, and after each */
	uint8_t *mids
		[SCENE_EPOCHS]; /* the array in the middle of each epoch: what the same epoch overwrites may reach the backing as well */
	bool keep_faults; /* over scene_cut_and_recover: the flush of the open ends them */
};

/* Defaults: strict, transfers of at most 1 KiB, so that a request is many calls of the backing. Change scene->rig.o between zero and up. */
void scene_zero(struct scene *scene);
void scene_up(struct scene *scene, uint32_t what); /* SCENE_WRITES, SCENE_ZEROES */
void scene_down(struct scene *scene);

/* Everything reads right; with nobody else in the cache, its run-time state is looked at as well. */
void scene_check_all(struct scene *scene);
/* Write-back steps until there is nothing to do (0) or one fails. */
int scene_write_back(struct scene *scene);
/* What is cached, clean and dirty, reads right; a write and a flush work. */
void scene_foreground_works(struct scene *scene);
/* Some epochs as a whole and a part of the next: what image may be (ordering strict). During-writes do not count. */
void scene_check_backing(const struct scene *scene, const uint8_t *image);
uint64_t scene_errors(struct scene *scene); /* failed calls of the backing so far */
uint64_t scene_calls(struct scene *scene); /* calls of the backing so far */
/* Power cut of the backing (keep NULL: all that is not flushed is lost) and of the process; then the cache is opened, read, checked and drained. */
void scene_cut_and_recover(struct scene *scene, mem_backing_keep keep, void *user);
/* The faults are gone: everything reads right, the drain succeeds, the backing is the array, and so it is after a reopen. */
void scene_recovers(struct scene *scene);
/* Waits (for at most a minute) until fn says true; asserts that it did. */
void scene_await(bool (*fn)(struct scene *scene), struct scene *scene);

#endif
