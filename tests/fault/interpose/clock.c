/* SPDX-License-Identifier: BSD-3-Clause */
/* Stands before the clocks, by the linker's --wrap, see clock_faults.h. The monotonic clock is left alone: it does not jump. */
#include <sys/time.h>
#include <time.h>

#include "fault/clock_faults.h"

time_t __real_time(time_t *out);
time_t __wrap_time(time_t *out);
int __real_gettimeofday(struct timeval *out, void *zone);
int __wrap_gettimeofday(struct timeval *out, void *zone);
int __real_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out);

time_t __wrap_time(time_t *out)
{
	time_t now = __real_time(NULL) + (time_t)fault_clock_shift_s();

	if (out)
		*out = now;
	return now;
}

int __wrap_gettimeofday(struct timeval *out, void *zone)
{
	int rc = __real_gettimeofday(out, zone);

	out->tv_sec += (time_t)fault_clock_shift_s();
	return rc;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *out)
{
	int rc = __real_clock_gettime(clock, out);

	if (rc == 0 && clock != CLOCK_MONOTONIC)
		out->tv_sec += (time_t)fault_clock_shift_s();
	return rc;
}
