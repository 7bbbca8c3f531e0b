/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ages of dirty data, and the ceiling of the rate of write-back.
 *
 * Data has no time of its own. The head of the log is looked at every eighth of the age that counts; when such a sample has that age, so has everything below it. What was written right after a sample is
 * found an eighth late.
 *
 * The rate is a bucket that fills at that rate and holds a tenth of a second. A batch may begin when there is anything in it, and takes what it has written, more than there was if need be: then the next
 * waits for longer. So in any time t no more is written than rate * t, twice the burst, and what one request is longer than that.
 */
#include "service/pace.h"

#include <string.h>

#define NS_PER_S UINT64_C(1000000000)
#define BURSTS_PER_S 10u
#define BURST_MIN_BYTES 4096u
#define FILL_MAX_NS (3600 * NS_PER_S) /* longer is not looked back */

void pc_ages_init(struct pc_ages *ages, bool all_due)
{
	memset(ages, 0, sizeof(*ages));
	ages->due_ns = all_due ? UINT64_MAX : 0;
}

/* Every other one, the newest among those that stay. */
static void thin_out(struct pc_ages *ages)
{
	for (uint32_t i = 0; i < PC_AGES_NR / 2; i++) {
		ages->pos[i] = ages->pos[2 * i + 1];
		ages->ns[i] = ages->ns[2 * i + 1];
	}
	ages->nr = PC_AGES_NR / 2;
}

static void note(struct pc_ages *ages, uint64_t now_ns, uint64_t head)
{
	if (ages->nr == PC_AGES_NR)
		thin_out(ages);
	ages->pos[ages->nr] = head;
	ages->ns[ages->nr] = now_ns;
	ages->nr++;
}

static void forget_due(struct pc_ages *ages, uint64_t due_ns, uint64_t now_ns)
{
	uint32_t due_nr = 0;

	while (due_nr < ages->nr && now_ns - ages->ns[due_nr] >= due_ns)
		due_nr++;
	if (!due_nr)
		return;
	ages->due_pos = PC_MAX(ages->due_pos, ages->pos[due_nr - 1]);
	ages->nr -= due_nr;
	memmove(ages->pos, ages->pos + due_nr, ages->nr * sizeof(*ages->pos));
	memmove(ages->ns, ages->ns + due_nr, ages->nr * sizeof(*ages->ns));
}

uint64_t pc_ages_look(struct pc_ages *ages, uint64_t due_ns, uint64_t now_ns, uint64_t head)
{
	/* The samples are too far apart for less: what is there may have the age already. */
	if (due_ns < ages->due_ns)
		ages->due_pos = head;
	ages->due_ns = due_ns;
	if (!ages->nr || now_ns - ages->ns[ages->nr - 1] >= due_ns / PC_AGES_STEPS)
		note(ages, now_ns, head);
	forget_due(ages, due_ns, now_ns);
	return ages->due_pos;
}

uint64_t pc_bucket_burst(uint64_t rate)
{
	return PC_MAX(rate / BURSTS_PER_S, (uint64_t)BURST_MIN_BYTES);
}

/* Of at most an hour: rates go up to a terabyte. */
static uint64_t bytes_in(uint64_t rate, uint64_t ns)
{
	return rate / 1000 * (ns / 1000) / 1000 + rate % 1000 * ns / NS_PER_S;
}

uint64_t pc_bucket_wait_ns(struct pc_bucket *bucket, uint64_t rate, uint64_t now_ns)
{
	uint64_t elapsed_ns = PC_MIN(now_ns - bucket->filled_ns, FILL_MAX_NS);
	uint64_t gain = bytes_in(rate, elapsed_ns), lack;

	/* What is less than a byte is not lost: it stays until it is one. */
	if (gain || elapsed_ns == FILL_MAX_NS) {
		bucket->bytes = PC_MIN(bucket->bytes + (int64_t)gain, (int64_t)pc_bucket_burst(rate));
		bucket->filled_ns = now_ns;
	}
	if (bucket->bytes > 0)
		return 0;
	lack = (uint64_t)(1 - bucket->bytes);
	return lack >= rate ? NS_PER_S : lack * NS_PER_S / rate + 1;
}

void pc_bucket_take(struct pc_bucket *bucket, uint64_t bytes)
{
	bucket->bytes -= (int64_t)bytes;
}
