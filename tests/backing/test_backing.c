/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backing over a recording table: which tables are taken, how requests are cut, what stands in for missing
 * callbacks, which errors come through, and that free is called exactly once.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "backing/backing.h"
#include "pcache/pcache.h"

#define SIZE_BYTES 65536u
#define CALLS_MAX 512u

enum kind { READ, WRITE, FLUSH, DISCARD, ZEROES, FREE };

struct call {
	enum kind kind;
	uint64_t off;
	uint64_t len;
};

struct recorder {
	struct call calls[CALLS_MAX];
	uint32_t nr;
	enum kind fail_kind;
	uint32_t fail_at; /* call of that kind, counted from 1; 0: none */
	uint32_t seen;
	int fail_with;
	uint8_t bytes[SIZE_BYTES];
};

static struct recorder rec;

static int record(void *user, enum kind kind, uint64_t off, uint64_t len)
{
	struct recorder *recorder = user;

	assert_ptr_equal(recorder, &rec);
	assert_true(recorder->nr < CALLS_MAX);
	recorder->calls[recorder->nr++] = (struct call){ kind, off, len };
	if (kind == recorder->fail_kind && recorder->fail_at != 0 && ++recorder->seen == recorder->fail_at)
		return recorder->fail_with;
	return 0;
}

static int on_read(void *user, void *buf, uint64_t off, uint64_t len)
{
	int err = record(user, READ, off, len);

	if (err == 0)
		memcpy(buf, rec.bytes + off, len);
	return err;
}

static int on_write(void *user, const void *buf, uint64_t off, uint64_t len)
{
	int err = record(user, WRITE, off, len);

	if (err == 0)
		memcpy(rec.bytes + off, buf, len);
	return err;
}

static int on_flush(void *user)
{
	return record(user, FLUSH, 0, 0);
}

static int on_discard(void *user, uint64_t off, uint64_t len)
{
	int err = record(user, DISCARD, off, len);

	if (err == 0)
		memset(rec.bytes + off, 0, len);
	return err;
}

static int on_zeroes(void *user, uint64_t off, uint64_t len)
{
	int err = record(user, ZEROES, off, len);

	if (err == 0)
		memset(rec.bytes + off, 0, len);
	return err;
}

static int on_submit(void *user, struct pcache_backing_io *io, uint32_t kind, void *buf, uint64_t off, uint64_t len)
{
	(void)user, (void)io, (void)kind, (void)buf, (void)off, (void)len;
	fail_msg("only a queue calls submit");
	return -EIO;
}

static void on_free(void *user)
{
	(void)record(user, FREE, 0, 0);
}

static struct pcache_backing_ops full_table(void)
{
	return (struct pcache_backing_ops){
		.struct_bytes = sizeof(struct pcache_backing_ops),
		.size_bytes = SIZE_BYTES,
		.read = on_read,
		.write = on_write,
		.flush = on_flush,
		.discard = on_discard,
		.write_zeroes = on_zeroes,
		.submit = on_submit,
		.free = on_free,
	};
}

static struct pcache_backing *make(const struct pcache_backing_ops *ops)
{
	struct pcache_backing *backing = NULL;

	memset(&rec, 0, sizeof(rec));
	memset(rec.bytes, 0xa5, sizeof(rec.bytes));
	assert_int_equal(pcache_backing_new(ops, &rec, &backing), 0);
	assert_non_null(backing);
	return backing;
}

static void fail_nth(enum kind kind, uint32_t nth, int with)
{
	rec.nr = 0;
	rec.fail_kind = kind;
	rec.fail_at = nth;
	rec.seen = 0;
	rec.fail_with = with;
}

static void assert_call(uint32_t idx, enum kind kind, uint64_t off, uint64_t len)
{
	assert_true(idx < rec.nr);
	assert_int_equal(rec.calls[idx].kind, kind);
	assert_int_equal(rec.calls[idx].off, off);
	assert_int_equal(rec.calls[idx].len, len);
}

/* The table is refused, the output is untouched, and nothing was called. */
static void assert_refused(const struct pcache_backing_ops *ops)
{
	struct pcache_backing *untouched = (struct pcache_backing *)(uintptr_t)0x10;

	memset(&rec, 0, sizeof(rec));
	assert_int_equal(pcache_backing_new(ops, &rec, &untouched), -EINVAL);
	assert_ptr_equal(untouched, (struct pcache_backing *)(uintptr_t)0x10);
	assert_int_equal(rec.nr, 0);
}

static void test_null_arguments(void **state)
{
	struct pcache_backing_ops ops = full_table();

	(void)state;
	assert_refused(NULL);
	assert_int_equal(pcache_backing_new(&ops, &rec, NULL), -EINVAL);
	assert_int_equal(pcache_backing_size(NULL), 0);
	pcache_backing_free(NULL);
	pcache_backing_complete(NULL, 0);
}

static void test_bad_members(void **state)
{
	struct pcache_backing_ops ops = full_table();

	(void)state;
	ops.read = NULL;
	assert_refused(&ops);
	ops = full_table();
	ops.write = NULL;
	assert_refused(&ops);
	ops = full_table();
	ops.size_bytes = 0;
	assert_refused(&ops);
	ops.size_bytes = 511;
	assert_refused(&ops);
	ops.size_bytes = SIZE_BYTES + 1;
	assert_refused(&ops);
	ops = full_table();
	ops.block_bytes = 4096;
	ops.size_bytes = 4096 + 512;
	assert_refused(&ops);
	ops = full_table();
	ops.block_bytes = 513;
	ops.size_bytes = UINT64_C(513) * 512;
	assert_refused(&ops);
	ops = full_table();
	ops.block_bytes = 8192;
	assert_refused(&ops);
	ops = full_table();
	ops.max_transfer_bytes = 511;
	assert_refused(&ops);
}

static void test_defaults_and_rounding(void **state)
{
	struct pcache_backing_ops ops = full_table();
	struct pcache_backing *backing;

	(void)state;
	memset(ops.uuid, 7, sizeof(ops.uuid));
	backing = make(&ops);
	assert_int_equal(backing->ops.block_bytes, 512);
	assert_int_equal(backing->ops.max_transfer_bytes, 1u << 20);
	assert_memory_equal(backing->ops.uuid, ops.uuid, sizeof(ops.uuid));
	assert_int_equal(pcache_backing_size(backing), SIZE_BYTES);
	pcache_backing_free(backing);

	ops.block_bytes = 4096;
	ops.max_transfer_bytes = 12287;
	backing = make(&ops);
	assert_int_equal(backing->ops.block_bytes, 4096);
	assert_int_equal(backing->ops.max_transfer_bytes, 8192);
	pcache_backing_free(backing);
}

/* A size stamp that ends before a member makes that member NULL, whatever bytes are there. */
static void test_every_size_stamp(void **state)
{
	struct {
		struct pcache_backing_ops ops;
		uint8_t newer[64];
	} table;
	const uint32_t least = offsetof(struct pcache_backing_ops, write) + sizeof(void *);

	(void)state;
	memset(&table, 0, sizeof(table));
	for (uint32_t bytes = 0; bytes <= sizeof(table); bytes++) {
		struct pcache_backing *backing;

		table.ops = full_table();
		table.ops.struct_bytes = bytes;
		if (bytes < least || bytes % 8 != 0) {
			assert_refused(&table.ops);
			continue;
		}
		backing = make(&table.ops);
		assert_int_equal(backing->ops.flush != NULL, bytes >= offsetof(struct pcache_backing_ops, flush) + 8);
		assert_int_equal(backing->ops.discard != NULL,
				 bytes >= offsetof(struct pcache_backing_ops, discard) + 8);
		assert_int_equal(backing->ops.write_zeroes != NULL,
				 bytes >= offsetof(struct pcache_backing_ops, write_zeroes) + 8);
		assert_int_equal(backing->ops.submit != NULL, bytes >= offsetof(struct pcache_backing_ops, submit) + 8);
		assert_int_equal(backing->ops.free != NULL, bytes >= offsetof(struct pcache_backing_ops, free) + 8);
		pcache_backing_free(backing);
		assert_int_equal(rec.nr, bytes >= offsetof(struct pcache_backing_ops, free) + 8 ? 1 : 0);
	}
	table.ops.struct_bytes = UINT32_MAX - 7;
	assert_refused(&table.ops);
}

static void test_newer_table_with_unknown_member(void **state)
{
	struct {
		struct pcache_backing_ops ops;
		uint8_t newer[64];
	} table;

	(void)state;
	for (uint32_t i = 0; i < sizeof(table.newer); i++) {
		struct pcache_backing *backing;

		memset(&table, 0, sizeof(table));
		table.ops = full_table();
		table.newer[i] = 1;
		table.ops.struct_bytes = sizeof(table);
		assert_refused(&table.ops);
		/* The same byte past the stamp is none of ours. */
		table.ops.struct_bytes = (uint32_t)(sizeof(table.ops) + i / 8 * 8);
		backing = make(&table.ops);
		pcache_backing_free(backing);
	}
}

static void test_table_is_copied(void **state)
{
	struct pcache_backing_ops ops = full_table();
	struct pcache_backing *backing = make(&ops);

	(void)state;
	memset(&ops, 0xff, sizeof(ops));
	assert_int_equal(pc_backing_flush(backing), 0);
	pcache_backing_free(backing);
	assert_int_equal(rec.nr, 2);
}

static void test_free_exactly_once(void **state)
{
	struct pcache_backing_ops ops = full_table();
	struct pcache_backing *backing = make(&ops);

	(void)state;
	pcache_backing_free(backing);
	assert_int_equal(rec.nr, 1);
	assert_call(0, FREE, 0, 0);
}

static void test_requests_are_cut(void **state)
{
	struct pcache_backing_ops ops = full_table();
	struct pcache_backing *backing;
	uint8_t buf[8192];
	uint8_t back[8192];

	(void)state;
	ops.max_transfer_bytes = 3072 + 100;
	backing = make(&ops);
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 31 / 7);
	assert_int_equal(pc_backing_write(backing, buf, 1024, sizeof(buf)), 0);
	assert_int_equal(rec.nr, 3);
	assert_call(0, WRITE, 1024, 3072);
	assert_call(1, WRITE, 4096, 3072);
	assert_call(2, WRITE, 7168, 2048);
	assert_memory_equal(rec.bytes + 1024, buf, sizeof(buf));
	assert_int_equal(rec.bytes[1023], 0xa5);
	assert_int_equal(rec.bytes[1024 + sizeof(buf)], 0xa5);

	rec.nr = 0;
	memset(back, 0, sizeof(back));
	assert_int_equal(pc_backing_read(backing, back, 1024, sizeof(back)), 0);
	assert_int_equal(rec.nr, 3);
	assert_call(0, READ, 1024, 3072);
	assert_call(2, READ, 7168, 2048);
	assert_memory_equal(back, buf, sizeof(buf));

	rec.nr = 0;
	assert_int_equal(pc_backing_zero(backing, 512, 6144, false), 0);
	assert_int_equal(rec.nr, 2);
	assert_call(0, DISCARD, 512, 3072);
	assert_call(1, DISCARD, 3584, 3072);
	pcache_backing_free(backing);
}

static void test_exact_and_empty_requests(void **state)
{
	struct pcache_backing_ops ops = full_table();
	struct pcache_backing *backing;
	uint8_t buf[4096] = { 0 };

	(void)state;
	ops.max_transfer_bytes = 4096;
	backing = make(&ops);
	assert_int_equal(pc_backing_write(backing, buf, 0, 0), 0);
	assert_int_equal(pc_backing_read(backing, buf, 0, 0), 0);
	assert_int_equal(pc_backing_zero(backing, 0, 0, true), 0);
	assert_int_equal(rec.nr, 0);
	assert_int_equal(pc_backing_write(backing, buf, SIZE_BYTES - 4096, 4096), 0);
	assert_int_equal(rec.nr, 1);
	pcache_backing_free(backing);
}

/* Each error on the first, a middle and the last piece: it comes through, and nothing follows it. */
static void test_errors_come_through(void **state)
{
	static const int errors[] = { -EIO, -ENOSPC, -EINTR, -EAGAIN, -ETIMEDOUT, -1, -4095, -EOPNOTSUPP };
	struct pcache_backing_ops ops = full_table();
	struct pcache_backing *backing;
	uint8_t buf[3 * 512] = { 0 };

	(void)state;
	ops.max_transfer_bytes = 512;
	backing = make(&ops);
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		for (uint32_t nth = 1; nth <= 3; nth++) {
			fail_nth(READ, nth, errors[i]);
			assert_int_equal(pc_backing_read(backing, buf, 0, sizeof(buf)), errors[i]);
			assert_int_equal(rec.nr, nth);
			fail_nth(WRITE, nth, errors[i]);
			assert_int_equal(pc_backing_write(backing, buf, 0, sizeof(buf)), errors[i]);
			assert_int_equal(rec.nr, nth);
			if (errors[i] == -EOPNOTSUPP)
				continue;
			fail_nth(DISCARD, nth, errors[i]);
			assert_int_equal(pc_backing_zero(backing, 0, sizeof(buf), false), errors[i]);
			assert_int_equal(rec.nr, nth);
			fail_nth(ZEROES, nth, errors[i]);
			assert_int_equal(pc_backing_zero(backing, 0, sizeof(buf), true), errors[i]);
			assert_int_equal(rec.nr, nth);
		}
		fail_nth(FLUSH, 1, errors[i]);
		assert_int_equal(pc_backing_flush(backing), errors[i]);
		assert_int_equal(rec.nr, 1);
	}
	pcache_backing_free(backing);
}

/* What is no errno may be taken neither for success nor for an own code. */
static void test_not_an_errno(void **state)
{
	static const int results[] = { 1, 512, INT32_MAX, -4096, PCACHE_E_FULL, PCACHE_E_POISONED, INT32_MIN };
	struct pcache_backing_ops ops = full_table();
	struct pcache_backing *backing = make(&ops);
	uint8_t buf[512] = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
		fail_nth(READ, 1, results[i]);
		assert_int_equal(pc_backing_read(backing, buf, 0, sizeof(buf)), -EIO);
		fail_nth(WRITE, 1, results[i]);
		assert_int_equal(pc_backing_write(backing, buf, 0, sizeof(buf)), -EIO);
		fail_nth(FLUSH, 1, results[i]);
		assert_int_equal(pc_backing_flush(backing), -EIO);
		fail_nth(DISCARD, 1, results[i]);
		assert_int_equal(pc_backing_zero(backing, 0, 512, false), -EIO);
	}
	pcache_backing_free(backing);
}

static void test_flush_missing(void **state)
{
	struct pcache_backing_ops ops = full_table();
	struct pcache_backing *backing;

	(void)state;
	ops.flush = NULL;
	backing = make(&ops);
	assert_int_equal(pc_backing_flush(backing), 0);
	assert_int_equal(rec.nr, 0);
	pcache_backing_free(backing);
}

static void assert_zeroed(uint64_t off, uint64_t len)
{
	for (uint64_t at = 0; at < SIZE_BYTES; at++) {
		uint8_t expected = at >= off && at < off + len ? 0 : 0xa5;

		if (rec.bytes[at] != expected)
			fail_msg("byte %llu is %u", (unsigned long long)at, rec.bytes[at]);
	}
}

/* All sets of callbacks, with and without keeping space: the range reads as zeroes, nothing else changes, and space is kept. */
static void test_zero_with_each_set_of_callbacks(void **state)
{
	(void)state;
	for (uint32_t set = 0; set < 8; set++) {
		struct pcache_backing_ops ops = full_table();
		bool has_discard = (set & 1) != 0;
		bool has_zeroes = (set & 2) != 0;
		bool keep_space = (set & 4) != 0;
		enum kind expected = WRITE;
		struct pcache_backing *backing;

		if (!has_discard)
			ops.discard = NULL;
		if (!has_zeroes)
			ops.write_zeroes = NULL;
		if (has_zeroes)
			expected = ZEROES;
		if (has_discard && !keep_space)
			expected = DISCARD;
		ops.max_transfer_bytes = 8192;
		backing = make(&ops);
		assert_int_equal(pc_backing_zero(backing, 1536, 20480, keep_space), 0);
		assert_zeroed(1536, 20480);
		assert_int_equal(rec.nr, 3);
		assert_call(0, expected, 1536, 8192);
		assert_call(1, expected, 9728, 8192);
		assert_call(2, expected, 17920, 4096);
		pcache_backing_free(backing);
	}
}

static void test_zero_falls_back(void **state)
{
	struct pcache_backing_ops ops = full_table();
	struct pcache_backing *backing;

	(void)state;
	ops.max_transfer_bytes = 4096;
	backing = make(&ops);
	fail_nth(DISCARD, 1, -EOPNOTSUPP);
	assert_int_equal(pc_backing_zero(backing, 0, 8192, false), 0);
	assert_int_equal(rec.nr, 3);
	assert_call(0, DISCARD, 0, 4096);
	assert_call(1, ZEROES, 0, 4096);
	assert_call(2, ZEROES, 4096, 4096);
	assert_zeroed(0, 8192);

	memset(rec.bytes, 0xa5, sizeof(rec.bytes));
	fail_nth(ZEROES, 2, -EOPNOTSUPP);
	assert_int_equal(pc_backing_zero(backing, 0, 8192, true), 0);
	assert_int_equal(rec.nr, 3);
	assert_call(0, ZEROES, 0, 4096);
	assert_call(1, ZEROES, 4096, 4096);
	assert_call(2, WRITE, 4096, 4096);
	assert_zeroed(0, 8192);
	pcache_backing_free(backing);

	/* The last way has nothing behind it. */
	ops.discard = NULL;
	ops.write_zeroes = NULL;
	backing = make(&ops);
	fail_nth(WRITE, 1, -EOPNOTSUPP);
	assert_int_equal(pc_backing_zero(backing, 0, 8192, false), -EOPNOTSUPP);
	assert_int_equal(rec.nr, 1);
	pcache_backing_free(backing);
}

/* A transfer limit above the page of zeroes. */
static void test_zero_by_long_writes(void **state)
{
	struct pcache_backing_ops ops = full_table();
	struct pcache_backing *backing;

	(void)state;
	ops.discard = NULL;
	ops.write_zeroes = NULL;
	ops.max_transfer_bytes = UINT64_MAX;
	backing = make(&ops);
	assert_int_equal(pc_backing_zero(backing, 0, SIZE_BYTES, false), 0);
	assert_zeroed(0, SIZE_BYTES);
	pcache_backing_free(backing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_null_arguments),
		cmocka_unit_test(test_bad_members),
		cmocka_unit_test(test_defaults_and_rounding),
		cmocka_unit_test(test_every_size_stamp),
		cmocka_unit_test(test_newer_table_with_unknown_member),
		cmocka_unit_test(test_table_is_copied),
		cmocka_unit_test(test_free_exactly_once),
		cmocka_unit_test(test_requests_are_cut),
		cmocka_unit_test(test_exact_and_empty_requests),
		cmocka_unit_test(test_errors_come_through),
		cmocka_unit_test(test_not_an_errno),
		cmocka_unit_test(test_flush_missing),
		cmocka_unit_test(test_zero_with_each_set_of_callbacks),
		cmocka_unit_test(test_zero_falls_back),
		cmocka_unit_test(test_zero_by_long_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
