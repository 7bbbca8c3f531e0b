/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernels of media/kernel.c, each kind that this processor can run, against a CRC computed bit by bit: all lengths and alignments, both directions, continued registers;
 * sources and targets that another thread writes to meanwhile; faults at every line.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/crc.h"
#include "media/handle.h"
#include "media/kernel.h"

#define FILE_BYTES ((uint64_t)1 << 20)
#define LEN_MAX 4225u /* a chunk, two lines and a byte */
#define LINE 64u
#define LINES_MAX 70u
#define KINDS_MAX 4u

static struct pc_media *media;
static uint8_t *lines; /* what media->lines is at first */
static char path[] = "/tmp/pcache-kernel-XXXXXX";
/* Kinds to try; a NULL stands for no kernel. */
static const struct pc_kernel *kinds[KINDS_MAX];
static size_t kind_nr;

static int setup(void **state)
{
	const struct pc_kernel *kernel;
	int fd = mkstemp(path);
	bool usable;

	(void)state;
	if (fd < 0 || close(fd) != 0 || setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 1) != 0)
		return -1;
	for (size_t i = 0; (kernel = pc_kernel_get(i, &usable)) != NULL; i++) {
		printf("kernel %s: %s\n", kernel->name, usable ? "tried" : "not for this processor");
		if (usable)
			kinds[kind_nr++] = kernel;
	}
	kinds[kind_nr++] = NULL;
	if (pc_media_open(path, 0, NULL, &media) || pc_media_allocate(media, FILE_BYTES) || pc_media_map(media))
		return -1;
	lines = pc_media_file_of(media)->writable;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pc_media_close(media);
	return unlink(path);
}

static void force(const struct pc_kernel *kernel)
{
	media->kernel = kernel;
	media->lines = kernel ? lines : NULL;
}

static uint32_t step_bits(uint32_t reg, uint8_t byte)
{
	reg ^= byte;
	for (int bit = 0; bit < 8; bit++)
		reg = reg & 1 ? reg >> 1 ^ 0x82f63b78u : reg >> 1;
	return reg;
}

static void fill_random(uint8_t *buf, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		buf[i] = (uint8_t)(seed >> 56);
	}
}

static void test_the_best_is_used(void **state)
{
	(void)state;
	assert_ptr_equal(media->kernel, pc_kernel_best());
	assert_ptr_equal(media->kernel, kinds[0]);
	assert_ptr_equal(media->lines, kinds[0] ? lines : NULL);
}

static void copy_and_load(uint64_t off, const uint8_t *src, uint8_t *back, size_t shift, size_t len, uint32_t expect)
{
	uint32_t crc;

	assert_int_equal(pc_media_copy_crc(media, off, src, len), expect);
	assert_memory_equal(media->base + off, src, len);
	memset(back, 0xee, LEN_MAX + 2 * LINE);
	assert_int_equal(pc_media_load_crc(media, off, back + shift, len, &crc), 0);
	assert_int_equal(crc, expect);
	assert_memory_equal(back + shift, src, len);
	assert_int_equal(back[shift - 1], 0xee);
	assert_int_equal(back[shift + len], 0xee);
}

static void test_every_length_and_alignment(void **state)
{
	static const size_t shifts[] = { 1, 8, 17, 32, 63, 64 };
	_Alignas(64) static uint8_t src[LEN_MAX + LINE + 1], back[LEN_MAX + 2 * LINE];

	(void)state;
	fill_random(src, sizeof(src), 4711);
	for (size_t s = 0; s < PC_ARRAY_NR(shifts); s++) {
		const uint8_t *from = src + shifts[s];
		uint32_t reg = UINT32_MAX;

		for (size_t len = 0; len <= LEN_MAX; reg = step_bits(reg, from[len]), len++) {
			for (size_t i = 0; i < kind_nr; i++) {
				/* Sometimes not at the beginning of a line of the media. */
				uint64_t off = 8192 + (len % 37 == 3 ? s + 1 : 0);

				force(kinds[i]);
				pc_media_copy(media, off - 1, "\xa5", 1);
				pc_media_copy(media, off + len, "\x5a", 1);
				copy_and_load(off, from, back, LINE - s, len, ~reg);
				assert_int_equal(media->base[off - 1], 0xa5);
				assert_int_equal(media->base[off + len], 0x5a);
			}
		}
	}
}

static void test_plain_copies(void **state)
{
	_Alignas(64) static uint8_t src[LINES_MAX * LINE + 1], back[LINES_MAX * LINE + 2];

	(void)state;
	fill_random(src, sizeof(src), 815);
	for (size_t i = 0; kinds[i]; i++) {
		for (size_t nr = 0; nr <= LINES_MAX; nr++) {
			memset(lines, 0x77, sizeof(back) + LINE);
			kinds[i]->store(lines + LINE, src + 1, nr);
			pc_media_fence(media);
			assert_memory_equal(lines + LINE, src + 1, nr * LINE);
			assert_int_equal(lines[LINE - 1], 0x77);
			assert_int_equal(lines[LINE + nr * LINE], 0x77);
			memset(back, 0xee, sizeof(back));
			assert_int_equal(kinds[i]->load(back + 1, lines + LINE, nr), 0);
			assert_memory_equal(back + 1, src + 1, nr * LINE);
			assert_int_equal(back[0], 0xee);
			assert_int_equal(back[1 + nr * LINE], 0xee);
		}
	}
}

/* Any register is continued: all at once is the same as in two parts. */
static void test_registers_go_on(void **state)
{
	_Alignas(64) static uint8_t src[LINES_MAX * LINE], back[LINES_MAX * LINE];

	(void)state;
	fill_random(src, sizeof(src), 1234567);
	for (size_t i = 0; kinds[i]; i++) {
		for (size_t cut = 0; cut <= LINES_MAX; cut++) {
			uint32_t whole = (uint32_t)cut * 2654435761u, parts = whole, back_reg = whole;

			for (size_t at = 0; at < sizeof(src); at++)
				whole = step_bits(whole, src[at]);
			kinds[i]->store_crc(lines, src, cut, &parts);
			kinds[i]->store_crc(lines + cut * LINE, src + cut * LINE, LINES_MAX - cut, &parts);
			assert_int_equal(parts, whole);
			assert_int_equal(kinds[i]->load_crc(back, lines, LINES_MAX - cut, &back_reg), 0);
			assert_int_equal(kinds[i]->load_crc(back, lines + (LINES_MAX - cut) * LINE, cut, &back_reg), 0);
			assert_int_equal(back_reg, whole);
		}
	}
}

/* ---- the caller's buffer changes ---------------------------------------------------------------------------------------- */

#define CHUNK 4096u

static _Atomic bool stop_scribbling;
static _Atomic uint64_t scribbles; /* passes over shared */
static uint64_t shared[CHUNK / 8];

/* The race is the point of the test: not for the thread sanitizer to report. */
__attribute__((no_sanitize("thread"))) static void *scribble(void *arg)
{
	uint64_t value = 1;

	while (!atomic_load_explicit(&stop_scribbling, memory_order_relaxed)) {
		for (size_t i = 0; i < PC_ARRAY_NR(shared); i += 3)
			*(volatile uint64_t *)&shared[i] = value++;
		atomic_fetch_add_explicit(&scribbles, 1, memory_order_relaxed);
	}
	return arg;
}

/* The scribbler ran since the last call: else a round proves nothing. */
static bool has_scribbled(uint64_t *last)
{
	uint64_t now = atomic_load(&scribbles);
	bool yes = now != *last;

	*last = now;
	return yes;
}

static void scribble_while(void (*round)(uint32_t nr))
{
	uint64_t last = atomic_load(&scribbles);
	uint32_t changes = 0;
	pthread_t thread;

	atomic_store(&stop_scribbling, false);
	assert_int_equal(pthread_create(&thread, NULL, scribble, NULL), 0);
	for (uint32_t nr = 0; (nr < 200000 || changes < 100) && nr < UINT32_MAX && changes < 300; nr++) {
		round(nr);
		if (has_scribbled(&last))
			changes++;
		else
			sched_yield(); /* on a busy machine it may have no processor */
	}
	atomic_store(&stop_scribbling, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_in_range(changes, 100, 300);
}

static void store_round(uint32_t nr)
{
	uint64_t off = (uint64_t)(nr % 16) * CHUNK;
	uint32_t crc = pc_media_copy_crc(media, off, shared, CHUNK);

	assert_int_equal(crc, pc_crc32c(0, media->base + off, CHUNK));
}

static uint32_t media_crc;

static void load_round(uint32_t nr)
{
	uint32_t crc;

	(void)nr;
	assert_int_equal(pc_media_load_crc(media, 0, shared, CHUNK, &crc), 0);
	assert_int_equal(crc, media_crc);
}

static void test_crc_is_of_what_is_in_the_media(void **state)
{
	uint8_t src[CHUNK];

	(void)state;
	for (size_t i = 0; i < kind_nr; i++) {
		force(kinds[i]);
		scribble_while(store_round);
		fill_random(src, sizeof(src), i);
		media_crc = pc_media_copy_crc(media, 0, src, CHUNK);
		scribble_while(load_round);
	}
}

/* ---- faults --------------------------------------------------------------------------------------------------------------- */

static void test_a_fault_at_any_line(void **state)
{
	const uint64_t good_bytes = FILE_BYTES / 2;
	uint8_t buf[LINES_MAX * LINE];
	uint32_t reg;

	(void)state;
	assert_int_equal(pc_media_guard(media), 0);
	assert_int_equal(truncate(path, (off_t)good_bytes), 0);
	for (size_t i = 0; kinds[i]; i++) {
		for (size_t nr = 1; nr <= LINES_MAX; nr++) {
			for (size_t bad_nr = 0; bad_nr <= nr; bad_nr += 1 + nr / 9) {
				const uint8_t *from = media->base + good_bytes - (nr - bad_nr) * LINE;

				reg = 99;
				assert_int_equal(kinds[i]->load(buf, from, nr), bad_nr ? -EIO : 0);
				assert_int_equal(kinds[i]->load_crc(buf, from, nr, &reg), bad_nr ? -EIO : 0);
				assert_true(bad_nr == 0 || reg == 99);
				/* The last byte of the last line is the only one that is not there. */
				assert_int_equal(kinds[i]->load(buf, from + 1, nr), -EIO);
				assert_int_equal(kinds[i]->load_crc(buf, from + 1, nr, &reg), -EIO);
			}
		}
	}
	assert_int_equal(truncate(path, (off_t)FILE_BYTES), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_best_is_used),
		cmocka_unit_test(test_every_length_and_alignment),
		cmocka_unit_test(test_plain_copies),
		cmocka_unit_test(test_registers_go_on),
		cmocka_unit_test(test_crc_is_of_what_is_in_the_media),
		cmocka_unit_test(test_a_fault_at_any_line),
	};

	return cmocka_run_group_tests_name("media_kernel", tests, setup, teardown);
}
