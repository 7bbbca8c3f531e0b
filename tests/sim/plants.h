/* SPDX-License-Identifier: BSD-3-Clause */
/* The planted defects of base/plant.h by name. */
#ifndef PC_SIM_PLANTS_H
#define PC_SIM_PLANTS_H

#include "base/types.h"

uint32_t pc_plant_nr(void); /* "none" included */
const char *pc_plant_name(uint32_t idx); /* NULL: not one of the crash simulator */
/* False: there is no such plant, or the library was built without (then only "none" is there). */
bool pc_plant_switch_on(const char *name);
const char *pc_plant_now(void);

#endif
