/* SPDX-License-Identifier: BSD-3-Clause */
/* Calls whose duration is noted, private to this folder. The untimed way beside them has nothing but a test of pc_latency_on. */
#ifndef PC_API_TIMED_H
#define PC_API_TIMED_H

#include "base/lock.h"
#include "core/latency.h"

/* The value of call, an int; noted under kind if that is 0. */
#define PC_TIMED(cache, kind, call) \
	__extension__({ \
		uint64_t timed_begin_ns = pc_monotonic_ns(); \
		int timed_rc = (call); \
		if (!timed_rc) \
			pc_latency_note(cache, kind, pc_monotonic_ns() - timed_begin_ns); \
		timed_rc; \
	})

#endif
