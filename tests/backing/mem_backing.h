/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A backing in memory for tests: a disk with a volatile write cache, faults, delays, counters and an observer.
 *
 * It keeps two images. The live one is what reads see. The durable one is what a power cut leaves for certain;
 * every 512-byte block written since is a pending write, and a power cut may keep any subset of them. Pending
 * writes are in issue order, so where a subset has several of one block the last one wins. A flush makes durable
 * what returned before the flush began.
 *
 * The object belongs to the test, not to the cache: the `free` callback only counts. All functions are safe from
 * any thread unless they say otherwise. Depends on nothing but the public header.
 */
#ifndef PC_TESTS_MEM_BACKING_H
#define PC_TESTS_MEM_BACKING_H

#include <stdbool.h>
#include <stdint.h>

#include "pcache/backing.h"

#define MEM_BACKING_BLOCK 512u /* unit of loss in bytes */

struct mem_backing;

enum mem_backing_op {
	MEM_BACKING_READ,
	MEM_BACKING_WRITE,
	MEM_BACKING_FLUSH,
	MEM_BACKING_DISCARD,
	MEM_BACKING_ZEROES,
	MEM_BACKING_OP_NR
};

/* Zeroed: volatile cache, 512-byte blocks, discard and write_zeroes offered, no delay. */
struct mem_backing_options {
	uint64_t size_bytes; /* a multiple of 512, not 0 */
	uint32_t block_bytes; /* of the table; 0: 512 */
	uint64_t max_transfer_bytes; /* of the table; 0: leaves 0 in the table, so 1 MiB */
	uint8_t uuid[16];
	bool write_through; /* writes are durable on return, and the table has no flush */
	bool no_discard; /* the table has no discard */
	bool no_zeroes; /* the table has no write_zeroes */
	bool failed_flush_drops; /* a failed flush forgets: what was pending stays visible, but no later flush makes it durable */
	bool flush_lies; /* flush returns 0 and does nothing */
};

struct mem_backing_counters {
	uint64_t calls[MEM_BACKING_OP_NR]; /* failed ones included */
	uint64_t bytes[MEM_BACKING_OP_NR]; /* of calls that succeeded */
	uint64_t errors[MEM_BACKING_OP_NR];
	uint64_t frees; /* calls of the free callback */
	/* Requests out of range, misaligned, empty or above max_transfer_bytes; they fail with -EINVAL. */
	uint64_t violations;
	/* Writes, zeroes or discards that began before another of the same block had ended. */
	uint64_t overlapping_writes;
	uint32_t in_flight; /* callbacks running now */
	uint32_t in_flight_max;
};

enum mem_backing_fault_mode {
	MEM_BACKING_ONCE, /* that one call */
	MEM_BACKING_FOREVER, /* that call and all later ones */
	MEM_BACKING_UNTIL_FLUSH /* that call and later ones until a flush is called; of a flush: that one call */
};

/* A fault. Zeroed but for op, nth and err: the nth call from now on fails once and does nothing. */
struct mem_backing_fault {
	enum mem_backing_op op;
	enum mem_backing_fault_mode mode;
	uint64_t nth; /* 1: the next call (that touches the range below); 0 counts as 1 */
	int err; /* positive errno, e.g. EIO */
	uint64_t applied_bytes; /* front part of a write, zeroes or discard that is applied although the call fails */
	uint64_t off; /* only calls that touch [off, off + len); len 0: every call */
	uint64_t len;
};

/*
 * Called before an operation is counted, checked for faults or applied, with no lock held, on the calling thread:
 * it may call all functions here. buf is NULL but for writes; off and len are 0 for a flush. A return other than
 * 0 (a negative errno) fails the call, and nothing is applied.
 */
typedef int (*mem_backing_observer)(void *user, enum mem_backing_op op, uint64_t off, uint64_t len, const void *buf);

/* NULL on a bad size or without memory. */
struct mem_backing *mem_backing_create(const struct mem_backing_options *options);
/* A copy with images, pending writes and options, but no observer, faults, delays, nor counts. Nobody may use the original meanwhile. */
struct mem_backing *mem_backing_clone(const struct mem_backing *mb);
void mem_backing_destroy(struct mem_backing *mb); /* NULL does nothing; no callback may be running */

/* The callback table; the user pointer of the callbacks is mb. */
void mem_backing_get_ops(const struct mem_backing *mb, struct pcache_backing_ops *out_ops);

/* A backing on it, or NULL. Several may be made one after the other, e.g. one for each open. */
static inline struct pcache_backing *mem_backing_attach(struct mem_backing *mb)
{
	struct pcache_backing_ops ops;
	struct pcache_backing *backing;

	mem_backing_get_ops(mb, &ops);
	return pcache_backing_new(&ops, mb, &backing) == 0 ? backing : NULL;
}

void mem_backing_observe(struct mem_backing *mb, mem_backing_observer observer, void *user);

/* Adds a fault (at most 16 at a time, false beyond that). Ended ones go away by themselves. */
bool mem_backing_add_fault(struct mem_backing *mb, const struct mem_backing_fault *fault);
void mem_backing_clear_faults(struct mem_backing *mb);
/* The nth call from now on fails with err, see struct mem_backing_fault. */
bool mem_backing_fail(struct mem_backing *mb, enum mem_backing_op op, uint64_t nth, int err,
		      enum mem_backing_fault_mode mode);

/* Delay of each call; 0: none. */
void mem_backing_set_delay(struct mem_backing *mb, enum mem_backing_op op, uint64_t delay_ns);
void mem_backing_set_rate(struct mem_backing *mb, uint64_t bytes_per_s); /* of reads and writes together; 0: no limit */
/* Calls of this kind hang, before they are applied, until it is set to false. */
void mem_backing_set_hang(struct mem_backing *mb, enum mem_backing_op op, bool hang);
void mem_backing_set_flush_lies(struct mem_backing *mb, bool lies);

void mem_backing_get_counters(struct mem_backing *mb, struct mem_backing_counters *out_counters);

/* The images, size_bytes each. Only while no callback is running. */
uint64_t mem_backing_size(const struct mem_backing *mb);
const uint8_t *mem_backing_live(const struct mem_backing *mb);
const uint8_t *mem_backing_durable(const struct mem_backing *mb);

/* Sets both images to a copy of image (NULL: zeroes) and forgets what is pending. */
void mem_backing_load(struct mem_backing *mb, const uint8_t *image);

/* One pending write of one block. data points into the object: valid until the next write, flush, crash or load. */
struct mem_backing_pending {
	uint64_t off;
	uint64_t seq; /* number of the call that wrote it; blocks of one call have the same */
	const uint8_t *data; /* MEM_BACKING_BLOCK bytes */
};

/* Pending writes in issue order. Only while no callback is running. */
uint32_t mem_backing_pending_nr(const struct mem_backing *mb);
void mem_backing_get_pending(const struct mem_backing *mb, uint32_t idx, struct mem_backing_pending *out_pending);

/*
 * What a power cut leaves: the durable image with the pending writes idx for which keep(user, idx) is true. keep
 * NULL: none of them. image has room for size_bytes.
 */
typedef bool (*mem_backing_keep)(void *user, uint32_t idx);
void mem_backing_crash_image(const struct mem_backing *mb, mem_backing_keep keep, void *user, uint8_t *image);
/* The power cut itself: both images become that image, and nothing is pending. Faults, delays and counters stay. */
void mem_backing_crash(struct mem_backing *mb, mem_backing_keep keep, void *user);

#endif
