/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Planted defects, for proving that the crash simulator can fail. Only objects built with PC_PLANTS have them; in the library
 * every PC_PLANTED() is the constant 0.
 */
#ifndef PC_BASE_PLANT_H
#define PC_BASE_PLANT_H

enum pc_plant {
	PC_PLANT_NONE = 0,
	PC_PLANT_NO_WRITE_FENCE, /* core/write: the fence that commits data and kset is left out */
	PC_PLANT_KSET_AFTER_ACK, /* core/write: the slot is stored only when the next write of this cache begins */
	PC_PLANT_NEWEST_COPY_FIRST, /* layout: an update overwrites the newer copy first, and open does not repair */
	PC_PLANT_NO_VOIDS_AT_OPEN, /* recovery: rejected positions stay as they are */
	PC_PLANT_FENCE_OF_OTHER, /* simulated media: every fence is that of another thread */
	PC_PLANT_NR
};

#ifdef PC_PLANTS
extern int pc_plant; /* enum pc_plant; set by the simulator before a run */
#define PC_PLANTED(plant) (pc_plant == (plant))
#else
#define PC_PLANTED(plant) 0
#endif

#endif
