/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache bench, limit: what the machine needs for the bytes of a job and nothing else, so that a ratio can be quoted
 * instead of nanoseconds of one machine.
 *
 * A write is a copy that bypasses the caches, a log slot of one cache line, and one fence where the job's commit mode
 * has one; it goes to the next place of a ring, because a log does that too and because it is faster than random places, so the limit is the harder one. A batch is its blocks, the
 * slots that their keys fill, and one fence. A read is a copy out of a random place of the mapping. All exist with and without a CRC32C of the data; bench_run.c takes whichever is
 * faster. At page granularity a write is what a program does that has no log: a copy in place and an msync of it, or pwrite and fdatasync where the job flushes seldom.
 *
 * This is the one place outside the library that stores to a mapping, and it is a scratch file without a name.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tool/bench.h"

#define PAGE_BYTES 4096u
#define KEY_BYTES 32u /* of a slot; a kset begins with as many for itself */

static uint8_t *next_place(struct bench_limit *limit, size_t len)
{
	uint8_t *place;

	if (limit->cursor + len > limit->end)
		limit->cursor = limit->begin;
	place = limit->map + limit->cursor;
	limit->cursor += len;
	return place;
}

static uint8_t *next_slots(struct bench_limit *limit, uint32_t slot_nr)
{
	if (limit->slot_idx + slot_nr > BENCH_SLOT_NR)
		limit->slot_idx = 0;
	limit->slot_idx += slot_nr;
	return limit->slots + (size_t)(limit->slot_idx - slot_nr) * BENCH_SLOT_BYTES;
}

/* Whole pages around a range, durable. */
static int sync_range(const struct bench_limit *limit, uint64_t off, size_t len)
{
	uint64_t begin = off - off % PAGE_BYTES, end = (off + len + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;

	return msync(limit->map + begin, end - begin, MS_SYNC) < 0 ? -errno : 0;
}

/* In place; a mapping that is smaller than the job's space is used round and round. */
static uint64_t page_place(const struct bench_limit *limit, uint64_t off, size_t len)
{
	off %= limit->map_bytes;
	return off + len > limit->map_bytes ? 0 : off;
}

static int write_page(struct bench_limit *limit, uint64_t off, const uint8_t *buf, size_t len)
{
	off = page_place(limit, off, len);
	if (limit->pwrite_each) {
		if (pwrite(limit->fd, buf, len, (off_t)off) != (ssize_t)len)
			return errno ? -errno : -EIO;
		return fdatasync(limit->fd) < 0 ? -errno : 0;
	}
	memcpy(limit->map + off, buf, len);
	return limit->sync_each ? sync_range(limit, off, len) : 0;
}

int bench_limit_write(struct bench_limit *limit, uint64_t off, const uint8_t *buf, size_t len, bool crc)
{
	uint64_t slot[BENCH_SLOT_BYTES / 8] = { off, len, limit->slot_idx };
	uint8_t *to;

	if (limit->page)
		return write_page(limit, off, buf, len);
	to = next_place(limit, len);
	if (crc)
		slot[3] = bench_kernel_store_crc(to, buf, len);
	else
		bench_kernel_copy(to, buf, len);
	bench_kernel_copy(next_slots(limit, 1), (const uint8_t *)slot, sizeof(slot));
	if (limit->fence_each)
		bench_fence(); /* Order: data and slot before the next write, because that is what the job promises for each. */
	return 0;
}

int bench_limit_batch(struct bench_limit *limit, const uint64_t *offs, const uint8_t *buf, size_t len, bool crc)
{
	enum { SLOT_NR = ((BENCH_BATCH_NR + 1) * KEY_BYTES + BENCH_SLOT_BYTES - 1) / BENCH_SLOT_BYTES };
	_Alignas(64) uint64_t slots[SLOT_NR * BENCH_SLOT_BYTES / 8];
	uint32_t i;

	memset(slots, 0, sizeof(slots));
	for (i = 0; i < BENCH_BATCH_NR; i++) {
		uint64_t *key = slots + (i + 1) * (KEY_BYTES / 8);

		key[0] = offs[i];
		if (limit->page)
			memcpy(limit->map + page_place(limit, offs[i], len), buf + i * len, len);
		else if (crc)
			key[1] = bench_kernel_store_crc(next_place(limit, len), buf + i * len, len);
		else
			bench_kernel_copy(next_place(limit, len), buf + i * len, len);
	}
	if (limit->page)
		return limit->sync_each && fdatasync(limit->fd) < 0 ? -errno : 0;
	bench_kernel_copy(next_slots(limit, SLOT_NR), (const uint8_t *)slots, sizeof(slots));
	if (limit->fence_each)
		bench_fence(); /* Order: the whole batch before the next one, because that is what the job promises. */
	return 0;
}

void bench_limit_read(struct bench_limit *limit, uint64_t off, uint8_t *buf, size_t len, bool crc)
{
	uint32_t sum = 0;

	if (crc)
		sum = bench_kernel_load_crc(buf, limit->map + off, len);
	else
		memcpy(buf, limit->map + off, len);
	__asm__ volatile("" : : "r"(buf), "r"(sum) : "memory"); /* copy and CRC count as used */
}

int bench_limit_pread(struct bench_limit *limit, uint64_t off, uint8_t *buf, size_t len)
{
	ssize_t got = pread(limit->backing_fd, buf, len, (off_t)off);

	if (got == (ssize_t)len)
		return 0;
	return got < 0 ? -errno : -EIO;
}

void bench_limit_scan(struct bench_limit *limit, uint64_t len)
{
	_Alignas(64) uint8_t near[32768]; /* stays in the CPU cache */
	uint64_t at = 0;

	while (len > 0) {
		size_t part = len < sizeof(near) ? (size_t)len : sizeof(near);

		if (at + part > limit->map_bytes)
			at = 0;
		memcpy(near, limit->map + at, part);
		__asm__ volatile("" : : "r"(near) : "memory");
		at += part;
		len -= part;
	}
}
