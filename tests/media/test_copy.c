/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Copies with a CRC: the CRC is that of the bytes that lie in the media, at any alignment and length, and also while another thread keeps
 * writing to the caller's buffer.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/crc.h"
#include "media/media.h"

#define FILE_BYTES ((uint64_t)1 << 20)
#define CHUNK 4096u

static struct pc_media *media;
static char path[] = "/tmp/pcache-copy-XXXXXX";
static _Atomic bool stop_scribbling;
static _Atomic uint64_t scribbles; /* passes over shared */
static uint64_t shared[CHUNK / 8];

static int setup(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	if (fd < 0 || close(fd) != 0 || setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 1) != 0)
		return -1;
	return pc_media_open(path, 0, NULL, &media) || pc_media_allocate(media, FILE_BYTES) || pc_media_map(media);
}

static int teardown(void **state)
{
	(void)state;
	pc_media_close(media);
	return unlink(path);
}

static uint32_t load_crc(uint64_t off, void *dst, size_t len)
{
	uint32_t crc;

	assert_int_equal(pc_media_load_crc(media, off, dst, len, &crc), 0);
	return crc;
}

static void test_lengths_and_alignments(void **state)
{
	static const uint64_t offs[] = { 0, 1, 8, 63, 64, 65, 4096 - 64, 4096 - 1 };
	static const size_t lens[] = { 0, 1, 7, 63, 64, 65, 512, 1023, 1024, 1025, 2048, 4032, 4095, 4096 };
	uint8_t src[CHUNK + 1];
	uint8_t back[CHUNK + 1];
	uint32_t crc;

	(void)state;
	for (size_t i = 0; i < sizeof(src); i++)
		src[i] = (uint8_t)(i * 31 + i / 256);
	for (size_t o = 0; o < PC_ARRAY_NR(offs); o++) {
		for (size_t l = 0; l < PC_ARRAY_NR(lens); l++) {
			uint64_t off = 8192 + offs[o];
			size_t len = lens[l];

			pc_media_copy(media, off - 1, "\xa5", 1);
			pc_media_copy(media, off + len, "\x5a", 1);
			crc = pc_media_copy_crc(media, off, src + 1, len);
			pc_media_fence(media);
			assert_int_equal(crc, pc_crc32c(0, src + 1, len));
			assert_memory_equal(media->base + off, src + 1, len);
			assert_int_equal(media->base[off - 1], 0xa5);
			assert_int_equal(media->base[off + len], 0x5a);
			memset(back, 0xee, sizeof(back));
			assert_int_equal(load_crc(off, back, len), crc);
			assert_memory_equal(back, src + 1, len);
			assert_int_equal(back[len], 0xee);
		}
	}
}

static void test_load_of_several_pieces(void **state)
{
	uint8_t *src = malloc(20000);
	uint8_t *back = malloc(20000);

	(void)state;
	assert_true(src != NULL && back != NULL);
	for (size_t i = 0; i < 20000; i++)
		src[i] = (uint8_t)(i * 13 + i / 300);
	pc_media_copy(media, 100, src, 20000);
	assert_int_equal(load_crc(100, back, 20000), pc_crc32c(0, src, 20000));
	assert_memory_equal(back, src, 20000);
	free(src);
	free(back);
}

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

static void test_crc_is_of_stored_bytes_while_source_changes(void **state)
{
	uint64_t last = atomic_load(&scribbles);
	uint32_t changes = 0;
	uint32_t crc;
	pthread_t thread;

	(void)state;
	atomic_store(&stop_scribbling, false);
	assert_int_equal(pthread_create(&thread, NULL, scribble, NULL), 0);
	for (uint32_t round = 0; (round < 2000000 || changes < 100) && round < UINT32_MAX && changes < 5000; round++) {
		uint64_t off = (uint64_t)(round % 16) * CHUNK;

		crc = pc_media_copy_crc(media, off, shared, CHUNK);
		assert_int_equal(crc, pc_crc32c(0, media->base + off, CHUNK));
		changes += has_scribbled(&last);
	}
	atomic_store(&stop_scribbling, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_in_range(changes, 100, 5000);
}

static void test_load_crc_is_of_media_while_target_changes(void **state)
{
	uint64_t last = atomic_load(&scribbles);
	uint32_t changes = 0;
	uint32_t crc;
	uint8_t src[CHUNK];
	pthread_t thread;

	(void)state;
	for (size_t i = 0; i < CHUNK; i++)
		src[i] = (uint8_t)i;
	crc = pc_media_copy_crc(media, 0, src, CHUNK);
	atomic_store(&stop_scribbling, false);
	assert_int_equal(pthread_create(&thread, NULL, scribble, NULL), 0);
	for (uint32_t round = 0; (round < 2000000 || changes < 100) && round < UINT32_MAX && changes < 5000; round++) {
		assert_int_equal(load_crc(0, shared, CHUNK), crc);
		changes += has_scribbled(&last);
	}
	atomic_store(&stop_scribbling, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_in_range(changes, 100, 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths_and_alignments),
		cmocka_unit_test(test_load_of_several_pieces),
		cmocka_unit_test(test_crc_is_of_stored_bytes_while_source_changes),
		cmocka_unit_test(test_load_crc_is_of_media_while_target_changes),
	};

	return cmocka_run_group_tests_name("media_copy", tests, setup, teardown);
}
