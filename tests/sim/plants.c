/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of the planted defects, see plants.h. Those that need several threads are found by pcache-sched-sim, which has their names. */
#include "sim/plants.h"

#include <string.h>

#include "base/plant.h"

static const char *const names[PC_PLANT_NR] = {
	[PC_PLANT_NONE] = "none",
	[PC_PLANT_NO_WRITE_FENCE] = "no-write-fence",
	[PC_PLANT_KSET_AFTER_ACK] = "kset-after-ack",
	[PC_PLANT_NEWEST_COPY_FIRST] = "newest-copy-first",
	[PC_PLANT_NO_VOIDS_AT_OPEN] = "no-voids-at-open",
	[PC_PLANT_STAGE_KEPT] = "stage-kept",
	[PC_PLANT_STAGE_ONE_RUN] = "stage-one-run",
	[PC_PLANT_STAGE_NOT_READ] = "stage-not-read",
	[PC_PLANT_HOLD_DIRTY] = "hold-dirty",
	[PC_PLANT_HOLD_NO_ERASE] = "hold-no-erase",
	[PC_PLANT_AROUND_FIRST] = "around-first",
};

uint32_t pc_plant_nr(void)
{
	return PC_PLANT_NR;
}

const char *pc_plant_name(uint32_t idx)
{
	return names[idx];
}

bool pc_plant_switch_on(const char *name)
{
	for (uint32_t i = 0; i < PC_PLANT_NR; i++) {
		if (names[i] == NULL || strcmp(names[i], name) != 0)
			continue;
#ifdef PC_PLANTS
		pc_plant = (int)i;
		return true;
#else
		return i == PC_PLANT_NONE;
#endif
	}
	return false;
}

const char *pc_plant_now(void)
{
#ifdef PC_PLANTS
	return names[pc_plant] == NULL ? "of the scheduler" : names[pc_plant];
#else
	return names[PC_PLANT_NONE];
#endif
}
