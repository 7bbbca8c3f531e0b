/* SPDX-License-Identifier: BSD-3-Clause */
/* What the coroutines of a scheduler are doing, in words. See sched_coro.h. */
#include "sim/sched_coro_internal.h"

#ifdef PC_PLANTS

#include <stdio.h>

static const char *const point_names[] = {
#define POINT_NAME(name) #name,
	PC_YIELD_POINTS(POINT_NAME)
#undef POINT_NAME
};

const char *sched_point_name(enum pc_yield_point point)
{
	return point < PC_YIELD_POINT_NR ? point_names[point] : "?";
}

const char *sched_strategy_name(enum sched_strategy strategy)
{
	static const char *const names[] = { "random", "priority", "run-on", "hold", "sequence" };

	return names[strategy];
}

static size_t describe_coro(const struct sched *sched, const struct coro *coro, char *text, size_t text_bytes)
{
	static const char *const states[] = { "can run", "waits for a mutex", "waits on a condition", "spins",
					      "joins",   "has ended" };
	size_t used;

	used = (size_t)snprintf(text, text_bytes, "    %-10s %s, at %s", coro->name, states[coro->state],
				sched_point_name(coro->point));
	if (coro->state == CORO_MUTEX && used < text_bytes) {
		used += (size_t)snprintf(text + used, text_bytes - used, " of rank %u.%u", coro->waits_order >> 16,
					 coro->waits_order & 0xffff);
	}
	if (coro->state == CORO_JOIN && used < text_bytes)
		used += (size_t)snprintf(text + used, text_bytes - used, " %s", sched->coros[coro->joins].name);
	for (uint32_t i = 0; i < coro->held_nr && used < text_bytes; i++)
		used += (size_t)snprintf(text + used, text_bytes - used, "%s%u.%u", i == 0 ? ", holds " : " ",
					 coro->held_orders[i] >> 16, coro->held_orders[i] & 0xffff);
	if (used < text_bytes)
		used += (size_t)snprintf(text + used, text_bytes - used, ": %s\n", coro->note);
	return PC_MIN(used, text_bytes - 1);
}

void sched_describe(const struct sched *sched, char *text, size_t text_bytes)
{
	size_t used = (size_t)snprintf(text, text_bytes, "  after %llu steps (%s):\n", (unsigned long long)sched->steps,
				       sched_strategy_name(sched->settings.strategy));

	for (uint32_t i = 0; i < sched->coro_nr; i++) {
		if (sched->coros[i].state != CORO_ENDED && used + 1 < text_bytes)
			used += describe_coro(sched, &sched->coros[i], text + used, text_bytes - used);
	}
	if (used + 1 < text_bytes)
		used += (size_t)snprintf(text + used, text_bytes - used, "    last steps:");
	for (uint64_t step = sched->steps > RECENT_NR ? sched->steps - RECENT_NR : 0; step < sched->steps; step++) {
		const struct recent *recent = &sched->recent[step % RECENT_NR];

		if (used + 1 < text_bytes)
			used += (size_t)snprintf(text + used, text_bytes - used, " %s@%s",
						 sched->coros[recent->number].name, sched_point_name(recent->point));
	}
}

#endif
