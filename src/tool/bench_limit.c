/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache bench, limit: what the machine needs for the bytes of a job and nothing else, so that a ratio can be quoted
 * instead of nanoseconds of one machine.
 *
 * A write is a copy that bypasses the caches, a log slot of one cache line, and one fence where the job's commit mode
 * has one. A read is a copy out of the mapping. Both exist with and without a CRC32C of the data; bench_run.c takes
 * whichever is faster, which is the harder limit. The CRC uses the processor's own instruction on three parts of a
 * chunk at once, since one chain of it would wait for itself; the parts are joined by a table that appends zeroes to a
 * CRC (linear over its bits).
 *
 * This is the one place outside the library that stores to a mapping, and it is a scratch file without a name. On arm64
 * lines are cleaned to the point of coherency after a plain copy.
 */
#include <string.h>
#include <unistd.h>

#include "tool/bench.h"

#define CHUNK_BYTES 4096u
#define SLOT_BYTES 64u

typedef void (*copy_fn)(uint8_t *to, const uint8_t *from, size_t len);

static copy_fn best_copy;
static bool has_crc;

/* ---- processors ------------------------------------------------------------ */

#if defined(__x86_64__)
#include <immintrin.h>

static void copy_sse2(uint8_t *to, const uint8_t *from, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += 64) {
		__m128i a = _mm_loadu_si128((const __m128i *)(const void *)(from + i));
		__m128i b = _mm_loadu_si128((const __m128i *)(const void *)(from + i + 16));
		__m128i c = _mm_loadu_si128((const __m128i *)(const void *)(from + i + 32));
		__m128i d = _mm_loadu_si128((const __m128i *)(const void *)(from + i + 48));

		_mm_stream_si128((__m128i *)(void *)(to + i), a);
		_mm_stream_si128((__m128i *)(void *)(to + i + 16), b);
		_mm_stream_si128((__m128i *)(void *)(to + i + 32), c);
		_mm_stream_si128((__m128i *)(void *)(to + i + 48), d);
	}
}

__attribute__((target("avx"))) static void copy_avx(uint8_t *to, const uint8_t *from, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += 64) {
		__m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(from + i));
		__m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(from + i + 32));

		_mm256_stream_si256((__m256i *)(void *)(to + i), a);
		_mm256_stream_si256((__m256i *)(void *)(to + i + 32), b);
	}
}

__attribute__((target("avx512f"))) static void copy_avx512(uint8_t *to, const uint8_t *from, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += 64)
		_mm512_stream_si512((void *)(to + i), _mm512_loadu_si512(from + i));
}

static bool may_avx(void)
{
	return __builtin_cpu_supports("avx");
}

static bool may_avx512(void)
{
	return __builtin_cpu_supports("avx512f");
}

static bool may_always(void)
{
	return true;
}

static const struct {
	const char *name;
	copy_fn copy;
	bool (*may)(void);
} copies[] = {
	{ "sse2", copy_sse2, may_always },
	{ "avx", copy_avx, may_avx },
	{ "avx512", copy_avx512, may_avx512 },
};

static void fence(void)
{
	_mm_sfence();
}

#define CRC_TARGET __attribute__((target("sse4.2")))
static bool may_crc(void)
{
	return __builtin_cpu_supports("sse4.2");
}

CRC_TARGET static inline uint64_t crc_word(uint64_t crc, uint64_t word)
{
	return _mm_crc32_u64(crc, word);
}

CRC_TARGET static inline uint64_t crc_byte(uint64_t crc, uint8_t byte)
{
	return _mm_crc32_u8((uint32_t)crc, byte);
}

#else /* arm64 */
#include <sys/auxv.h>

static void copy_clean(uint8_t *to, const uint8_t *from, size_t len)
{
	size_t i;

	memcpy(to, from, len);
	for (i = 0; i < len; i += 64)
		__asm__ volatile("dc cvac, %0" : : "r"(to + i) : "memory");
}

static bool may_always(void)
{
	return true;
}

static const struct {
	const char *name;
	copy_fn copy;
	bool (*may)(void);
} copies[] = {
	{ "memcpy + dc cvac", copy_clean, may_always },
};

static void fence(void)
{
	__asm__ volatile("dsb ish" : : : "memory");
}

#define CRC_TARGET
static bool may_crc(void)
{
	return (getauxval(AT_HWCAP) & (1ul << 7)) != 0; /* HWCAP_CRC32 */
}

CRC_TARGET static inline uint64_t crc_word(uint64_t crc, uint64_t word)
{
	uint32_t next;

	__asm__(".arch_extension crc\n\tcrc32cx %w0, %w1, %x2" : "=r"(next) : "r"((uint32_t)crc), "r"(word));
	return next;
}

CRC_TARGET static inline uint64_t crc_byte(uint64_t crc, uint8_t byte)
{
	uint32_t next;

	__asm__(".arch_extension crc\n\tcrc32cb %w0, %w1, %w2" : "=r"(next) : "r"((uint32_t)crc), "r"((uint32_t)byte));
	return next;
}
#endif

/* ---- CRC ------------------------------------------------------------ */

/* Appending part_bytes zeroes to a CRC, byte by byte of the CRC. One length per run is enough: operations have one length. */
static struct {
	uint32_t of[4][256];
	size_t part_bytes;
} zeroes;

CRC_TARGET static uint32_t append_zeroes_slowly(uint32_t crc, size_t len)
{
	uint64_t state = crc;

	for (; len >= 8; len -= 8)
		state = crc_word(state, 0);
	return (uint32_t)state;
}

static void prepare_zeroes(size_t part_bytes)
{
	unsigned int i, value;

	for (i = 0; i < 4; i++) {
		for (value = 0; value < 256; value++)
			zeroes.of[i][value] = append_zeroes_slowly((uint32_t)value << (8 * i), part_bytes);
	}
	zeroes.part_bytes = part_bytes;
}

static inline uint64_t append_zeroes(uint64_t crc)
{
	return zeroes.of[0][crc & 255] ^ zeroes.of[1][crc >> 8 & 255] ^ zeroes.of[2][crc >> 16 & 255] ^
	       zeroes.of[3][crc >> 24 & 255];
}

static inline uint64_t load_word(const uint8_t *from)
{
	uint64_t word;

	memcpy(&word, from, sizeof(word));
	return word;
}

/* CRC of a chunk, and a copy of it where to is not NULL: inlined, so that each caller gets its own loop. */
CRC_TARGET static inline __attribute__((always_inline)) uint32_t crc_chunk(uint8_t *to, const uint8_t *from, size_t len)
{
	size_t part = len < 3 * zeroes.part_bytes ? 0 : zeroes.part_bytes, i; /* a short last chunk is not divided */
	uint64_t a = UINT32_MAX, b = 0, c = 0;

	for (i = 0; i < part; i += 8) {
		uint64_t word_a = load_word(from + i), word_b = load_word(from + part + i),
			 word_c = load_word(from + 2 * part + i);

		a = crc_word(a, word_a);
		b = crc_word(b, word_b);
		c = crc_word(c, word_c);
		if (to) {
			memcpy(to + i, &word_a, 8);
			memcpy(to + part + i, &word_b, 8);
			memcpy(to + 2 * part + i, &word_c, 8);
		}
	}
	if (part)
		a = append_zeroes(append_zeroes(a) ^ b) ^ c;
	for (i = 3 * part; i < len; i += 8) {
		a = crc_word(a, load_word(from + i));
		if (to)
			memcpy(to + i, from + i, 8);
	}
	return ~(uint32_t)a;
}

CRC_TARGET static uint32_t crc_of(const uint8_t *from, size_t len)
{
	uint32_t crc = 0;
	size_t at;

	for (at = 0; at < len; at += CHUNK_BYTES)
		crc ^= crc_chunk(NULL, from + at, len - at < CHUNK_BYTES ? len - at : CHUNK_BYTES);
	return crc;
}

CRC_TARGET static uint32_t copy_crc_of(uint8_t *to, const uint8_t *from, size_t len)
{
	uint32_t crc = 0;
	size_t at;

	for (at = 0; at < len; at += CHUNK_BYTES)
		crc ^= crc_chunk(to + at, from + at, len - at < CHUNK_BYTES ? len - at : CHUNK_BYTES);
	return crc;
}

CRC_TARGET static uint32_t crc_slowly(const uint8_t *from, size_t len)
{
	uint64_t crc = UINT32_MAX;

	while (len--)
		crc = crc_byte(crc, *from++);
	return ~(uint32_t)crc;
}

/* ---- the limit ------------------------------------------------------------ */

static uint64_t time_copies(copy_fn copy, uint8_t *place, const uint8_t *buf, size_t len)
{
	uint64_t best_ns = UINT64_MAX;
	int round, i;

	for (round = 0; round < 20; round++) {
		uint64_t begin_ns = tool_now_ns(), ns;

		for (i = 0; i < 500; i++) {
			copy(place, buf, len);
			fence();
		}
		ns = tool_now_ns() - begin_ns;
		if (ns < best_ns)
			best_ns = ns;
	}
	return best_ns;
}

const char *bench_limit_init(uint8_t *place, const uint8_t *buf, size_t len)
{
	size_t crc_len = len < CHUNK_BYTES ? len : CHUNK_BYTES, i, best = 0;
	uint64_t best_ns = UINT64_MAX;

	for (i = 0; i < TOOL_ARRAY_NR(copies); i++) {
		uint64_t ns;

		if (!copies[i].may())
			continue;
		ns = time_copies(copies[i].copy, place, buf, len < 65536 ? len : 65536);
		if (ns < best_ns) {
			best_ns = ns;
			best = i;
		}
	}
	best_copy = copies[best].copy;
	has_crc = may_crc();
	if (has_crc) {
		prepare_zeroes(crc_len / 24 * 8);
		has_crc = crc_of(buf, crc_len) == crc_slowly(buf, crc_len);
	}
	return copies[best].name;
}

bool bench_limit_has_crc(void)
{
	return has_crc;
}

void bench_limit_write(struct bench_limit *limit, uint64_t off, const uint8_t *buf, size_t len, bool crc)
{
	uint64_t slot[SLOT_BYTES / 8] = { off, len, limit->slot_idx };
	uint8_t *to = limit->slots + (size_t)(limit->slot_idx++ % BENCH_SLOT_NR) * SLOT_BYTES;

	if (crc)
		slot[3] = crc_of(buf, len);
	if (limit->page) {
		memcpy(limit->map + off, buf, len);
		memcpy(to, slot, sizeof(slot));
		if (limit->sync_each)
			(void)!fdatasync(limit->fd);
		return;
	}
	best_copy(limit->map + off, buf, len);
	best_copy(to, (const uint8_t *)slot, sizeof(slot));
	if (limit->fence_each)
		fence(); /* Order: data and slot before the next write, because that is what the job promises for each. */
}

void bench_limit_read(struct bench_limit *limit, uint64_t off, uint8_t *buf, size_t len, bool crc)
{
	uint32_t sum = 0;

	if (crc)
		sum = copy_crc_of(buf, limit->map + off, len);
	else
		memcpy(buf, limit->map + off, len);
	__asm__ volatile("" : : "r"(buf), "r"(sum) : "memory"); /* copy and CRC count as used */
}
