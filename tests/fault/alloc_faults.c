/* SPDX-License-Identifier: BSD-3-Clause */
/* Which allocation fails, see alloc_faults.h. Nothing here allocates. */
#include "fault/alloc_faults.h"

#include <stdatomic.h>

enum mode { MODE_OFF, MODE_NTH, MODE_ALL };

static _Atomic int mode;
static _Atomic uint64_t asked_nr, failed_nr;
static uint64_t nth; /* written while off */
static _Thread_local bool is_armed; /* the thread that armed */
static _Thread_local uint32_t paused;

static void arm(int new_mode, uint64_t new_nth)
{
	nth = new_nth;
	is_armed = true;
	paused = 0;
	atomic_store(&asked_nr, 0);
	atomic_store(&failed_nr, 0);
	atomic_store(&mode, new_mode);
}

void fault_alloc_arm(uint64_t new_nth)
{
	arm(MODE_NTH, new_nth);
}

void fault_alloc_arm_all(void)
{
	arm(MODE_ALL, 0);
}

struct fault_alloc_result fault_alloc_disarm(void)
{
	atomic_store(&mode, MODE_OFF);
	is_armed = false;
	return (struct fault_alloc_result){ .asked_nr = atomic_load(&asked_nr), .failed_nr = atomic_load(&failed_nr) };
}

void fault_alloc_pause(void)
{
	paused++;
}

void fault_alloc_resume(void)
{
	paused--;
}

bool fault_alloc_may(void)
{
	int now = atomic_load_explicit(&mode, memory_order_relaxed);

	if (now == MODE_OFF || paused || (now == MODE_NTH && !is_armed))
		return true;
	if (atomic_fetch_add(&asked_nr, 1) + 1 != nth && now == MODE_NTH)
		return true;
	atomic_fetch_add(&failed_nr, 1);
	return false;
}
