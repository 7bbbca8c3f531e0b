/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A backing whose writes end late and out of order, on another thread: a table with a submit callback over a backing in memory, which applies them and
 * counts overlaps. Faults of that one show as errors of the completion.
 *
 * The thread takes a drawn one of what is waiting, sometimes after a drawn pause. With busy_percent a submit is refused with EAGAIN as often.
 *
 * With gather_nr, until so many have waited at once, one ends only after a while without another; and the first that ends then is the newest. So that both are seen on any machine,
 * however its threads run.
 */
#ifndef PC_TESTS_ASYNC_BACKING_H
#define PC_TESTS_ASYNC_BACKING_H

#include "backing/mem_backing.h"

struct async_backing;

struct async_options {
	uint64_t seed;
	uint32_t busy_percent; /* of submits that say EAGAIN */
	uint32_t refuse_percent; /* of submits that say EIO */
	uint32_t at_once_percent; /* of submits that complete before they return */
	uint32_t pause_us_max;
	uint32_t most_nr; /* waiting at a time, then EAGAIN; 0: any number */
	uint32_t gather_nr; /* 0: nothing is gathered */
};

struct async_counters {
	uint64_t submit_nr; /* accepted */
	uint64_t busy_nr;
	uint64_t refused_nr;
	uint64_t disorder_nr; /* that ended before one that was submitted earlier */
	uint32_t waiting_max;
};

struct async_backing *async_backing_create(struct mem_backing *mb, const struct async_options *options);
void async_backing_destroy(struct async_backing *async); /* nothing is waiting */
/* The table; its user is async. */
void async_backing_get_ops(struct async_backing *async, struct pcache_backing_ops *out_ops);
void async_backing_get_counters(struct async_backing *async, struct async_counters *out_counters);

#endif
