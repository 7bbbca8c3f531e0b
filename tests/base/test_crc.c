/* SPDX-License-Identifier: BSD-3-Clause */
/* CRC32C: the check value of the standard, continuation at every split, alignments, and equality with a bit-by-bit model. */
#include "base/crc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t model(uint32_t crc, const uint8_t *buf, size_t len)
{
	crc = ~crc;
	for (size_t i = 0; i < len; i++) {
		crc ^= buf[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
	}
	return ~crc;
}

static void known_values(void **state)
{
	uint8_t zeroes[32] = { 0 };
	uint8_t ones[32];

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	assert_int_equal(pc_crc32c(0, "123456789", 9), 0xe3069283u);
	assert_int_equal(pc_crc32c(0, zeroes, sizeof(zeroes)), 0x8a9136aau);
	assert_int_equal(pc_crc32c(0, ones, sizeof(ones)), 0x62a8ab43u);
	assert_int_equal(pc_crc32c(0, zeroes, 0), 0);
	assert_int_equal(pc_crc32c(0x12345678u, zeroes, 0), 0x12345678u);
}

static void equals_model_at_any_length_and_alignment(void **state)
{
	uint8_t buf[600];

	(void)state;
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 167 + (i >> 3));
	for (size_t off = 0; off < 16; off++) {
		for (size_t len = 0; len + off <= sizeof(buf); len += 7)
			assert_int_equal(pc_crc32c(0, buf + off, len), model(0, buf + off, len));
	}
}

static void continues_at_any_split(void **state)
{
	uint8_t buf[300];
	uint32_t whole;

	(void)state;
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 31 + 5);
	whole = pc_crc32c(0, buf, sizeof(buf));
	for (size_t cut = 0; cut <= sizeof(buf); cut++)
		assert_int_equal(pc_crc32c(pc_crc32c(0, buf, cut), buf + cut, sizeof(buf) - cut), whole);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_values),
		cmocka_unit_test(equals_model_at_any_length_and_alignment),
		cmocka_unit_test(continues_at_any_split),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
