/* SPDX-License-Identifier: BSD-3-Clause */
/* See clock_faults.h. */
#include "fault/clock_faults.h"

#include <stdatomic.h>
#include <time.h>

static _Atomic bool is_on;
static _Atomic uint64_t look_nr;

uint64_t fault_clock_jump(bool on)
{
	atomic_store(&is_on, on);
	return atomic_exchange(&look_nr, 0);
}

bool fault_clock_jumps(void)
{
	time_t first = time(NULL), second = time(NULL);

	atomic_fetch_sub(&look_nr, 2);
	return first > second + 3600 || second > first + 3600;
}

int64_t fault_clock_shift_s(void)
{
	uint64_t nr = atomic_fetch_add(&look_nr, 1);

	if (!atomic_load(&is_on))
		return 0;
	return nr & 1 ? -7200 : 7200;
}
