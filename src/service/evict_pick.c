/* SPDX-License-Identifier: BSD-3-Clause */
/* The eviction policy: a clock over segments, as one pure function. At most two turns, so that it ends also when everything was touched. */
#include "service/service.h"

uint32_t pc_evict_pick(struct pc_evict_candidate *candidates, uint32_t nr, uint32_t *hand, uint32_t want,
		       uint8_t *victim)
{
	uint32_t picked = 0;

	for (uint64_t step = 0; step < 2 * (uint64_t)nr && picked < want; step++) {
		uint32_t at = *hand;

		*hand = (at + 1) % nr;
		if (!candidates[at].eligible || victim[at])
			continue;
		if (candidates[at].touched) {
			candidates[at].touched = false;
			continue;
		}
		victim[at] = 1;
		picked++;
	}
	return picked;
}
