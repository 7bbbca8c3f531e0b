/* SPDX-License-Identifier: BSD-3-Clause */
/* The hooks of the deterministic scheduler. Empty in the library, see base/sched.h. */
#include "base/sched.h"

#ifdef PC_PLANTS
const struct pc_sched_hooks *pc_sched;
#endif
