/* SPDX-License-Identifier: BSD-3-Clause */
/* The common scene of the fault matrix, see scene.h. */
#include "fault/scene.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void scene_zero(struct scene *scene)
{
	memset(scene, 0, sizeof(*scene));
	rig_zero(&scene->rig);
	scene->rig.seed = 77;
	scene->rig.o.segment_nr = 64;
	scene->rig.o.backing.max_transfer_bytes = 1024;
	scene->rig.o.backing.failed_flush_drops = true;
}

static uint8_t *copy_model(const struct rig *rig)
{
	uint8_t *copy = malloc(rig->o.backing_bytes);

	assert_non_null(copy);
	memcpy(copy, rig->model, rig->o.backing_bytes);
	return copy;
}

static void one_epoch(struct scene *scene, uint32_t epoch, uint32_t what)
{
	struct rig *rig = &scene->rig;

	if (what & SCENE_WRITES) {
		rig_write(rig, epoch * 2048, 4096, 0);
		rig_write(rig, 16384 + epoch * 1024, 1536, 0);
	}
	scene->mids[epoch] = copy_model(rig);
	if (what & SCENE_WRITES)
		rig_write(rig, 16384 + epoch * 1024 + 512, 512, 0); /* overwritten in its own epoch */
	if (what & SCENE_ZEROES) {
		rig_zeroes(rig, SCENE_ZEROES_OFF + epoch * 2048, 4096, epoch % 2 == 0);
		rig_zeroes(rig, SCENE_ZEROES_OFF + 16384 + epoch * 1024, 1536, epoch % 2 != 0);
	}
	rig_flush(rig);
}

void scene_up(struct scene *scene, uint32_t what)
{
	struct rig *rig = &scene->rig;

	rig_up(rig);
	for (uint32_t epoch = 0; epoch <= SCENE_EPOCHS; epoch++) {
		if (epoch)
			one_epoch(scene, epoch - 1, what);
		else
			rig_check_range(rig, SCENE_CLEAN_OFF, 8192);
		scene->snaps[epoch] = copy_model(rig);
	}
}

void scene_down(struct scene *scene)
{
	for (uint32_t i = 0; i <= SCENE_EPOCHS; i++)
		free(scene->snaps[i]);
	for (uint32_t i = 0; i < SCENE_EPOCHS; i++)
		free(scene->mids[i]);
	rig_down(&scene->rig);
}

void scene_check_all(struct scene *scene)
{
	if (scene->rig.o.threads)
		rig_check_range(&scene->rig, 0, scene->rig.o.backing_bytes);
	else
		rig_check_all(&scene->rig);
}

int scene_write_back(struct scene *scene)
{
	int rc;

	do
		rc = pc_cache_step(scene->rig.cache, PC_STEP_WRITEBACK, false);
	while (rc > 0);
	return rc;
}

void scene_foreground_works(struct scene *scene)
{
	struct rig *rig = &scene->rig;

	rig_check_range(rig, 0, 8192);
	rig_check_range(rig, 16384, 3584);
	rig_check_range(rig, SCENE_CLEAN_OFF, 8192);
	rig_write(rig, SCENE_DURING_OFF, 1024, 0);
	rig_check_range(rig, SCENE_DURING_OFF, 1024);
	rig_flush(rig);
	if (!rig->o.threads)
		assert_null(pc_cache_check(rig->cache));
}

static bool is_epoch(const struct scene *scene, const uint8_t *image, uint32_t epoch)
{
	for (uint64_t off = 0; off < scene->rig.o.backing_bytes; off += 512) {
		if (off >= SCENE_DURING_OFF && off < SCENE_MISS_OFF)
			continue;
		if (memcmp(image + off, scene->snaps[epoch] + off, 512) == 0)
			continue;
		if (epoch == SCENE_EPOCHS || (memcmp(image + off, scene->mids[epoch] + off, 512) != 0 &&
					      memcmp(image + off, scene->snaps[epoch + 1] + off, 512) != 0))
			return false;
	}
	return true;
}

void scene_check_backing(const struct scene *scene, const uint8_t *image)
{
	for (uint32_t epoch = 0; epoch <= SCENE_EPOCHS; epoch++)
		if (is_epoch(scene, image, epoch))
			return;
	fail_msg("the backing alone is no state that an ordinary disk could be in");
}

uint64_t scene_errors(struct scene *scene)
{
	struct mem_backing_counters counters;
	uint64_t nr = 0;

	mem_backing_get_counters(scene->rig.mb, &counters);
	for (uint32_t op = 0; op < MEM_BACKING_OP_NR; op++)
		nr += counters.errors[op];
	return nr;
}

uint64_t scene_calls(struct scene *scene)
{
	struct mem_backing_counters counters;
	uint64_t nr = 0;

	mem_backing_get_counters(scene->rig.mb, &counters);
	assert_int_equal(counters.violations, 0);
	assert_int_equal(counters.overlapping_writes, 0);
	for (uint32_t op = 0; op < MEM_BACKING_OP_NR; op++)
		nr += counters.calls[op];
	return nr;
}

void scene_recovers(struct scene *scene)
{
	struct rig *rig = &scene->rig;

	mem_backing_clear_faults(rig->mb);
	mem_backing_observe(rig->mb, NULL, NULL);
	rig_drain(rig);
	assert_int_equal(rig_info(rig).dirty_bytes, 0);
	assert_false(rig_info(rig).state_flags & PCACHE_STATE_DEGRADED);
	scene_check_all(scene);
	rig_reopen(rig);
	scene_check_all(scene);
	(void)scene_calls(scene);
}

void scene_cut_and_recover(struct scene *scene, mem_backing_keep keep, void *user)
{
	struct rig *rig = &scene->rig;

	rig_kill(rig);
	if (!scene->keep_faults) {
		mem_backing_clear_faults(rig->mb);
		mem_backing_observe(rig->mb, NULL, NULL);
	}
	mem_backing_crash(rig->mb, keep, user);
	rig_open(rig);
	scene_check_all(scene);
	scene_recovers(scene);
}

void scene_await(bool (*fn)(struct scene *scene), struct scene *scene)
{
	for (uint32_t tries = 0; !fn(scene); tries++) {
		assert_true(tries < 60000);
		(void)usleep(1000);
	}
}
