/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The switch of planted defects.
 *
 * The crash simulator's own build of the library (PC_PLANTS) has this variable and sets it before a run, while no other
 * thread is in the library. The library that is installed has no such symbol: there every PC_PLANTED() is the constant 0,
 * and this file is empty.
 */
#include "base/plant.h"

#ifdef PC_PLANTS
int pc_plant = PC_PLANT_NONE;
#endif
