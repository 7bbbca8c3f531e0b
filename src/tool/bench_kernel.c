/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache bench, kernels: copies and CRC32C as fast as this processor can, for the limit.
 *
 * Three kinds: a copy past the CPU caches (for writes), the same with the CRC of what was copied, and a copy out of the mapping with its CRC in one pass (for reads).
 * Of each kind there are some, and bench_kernel_init takes the one that is fastest here, after it was seen to compute the right CRC.
 *
 * The CRC either comes from the processor's CRC instruction, on three parts of a chunk at once, since one chain of it would wait for itself; the parts are joined by a
 * table that appends zeroes to a CRC (linear over its bits). Or it is folded by carry-less multiplication, 256 bytes at a time: a block that lies T bits before the end of what was
 * read counts as its remainder times x^T, so it may be multiplied by x^T mod P and added to the block that lies there. Blocks are bit-reflected, and a carry-less product of
 * reflected numbers comes out one bit low; with constants of 33 bits the factors are x^(T+32) for the first half of 16 bytes and x^(T-32) for the second.
 *
 * On arm64 lines are cleaned to the point of coherency after a plain copy.
 */
#include <string.h>

#include "tool/bench.h"

static struct {
	size_t copy, store, load; /* which of each kind */
	bool has_crc;
} chosen;

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

void bench_fence(void)
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

void bench_fence(void)
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

/* ---- CRC by its instruction ------------------------------------------------------------ */

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

CRC_TARGET static uint32_t crc_only(uint8_t *to, const uint8_t *from, size_t len)
{
	(void)to;
	return crc_chunk(NULL, from, len);
}

CRC_TARGET static uint32_t load_crc_word(uint8_t *to, const uint8_t *from, size_t len)
{
	return crc_chunk(to, from, len);
}

CRC_TARGET static uint32_t crc_slowly(const uint8_t *from, size_t len)
{
	uint64_t crc = UINT32_MAX;

	while (len--)
		crc = crc_byte(crc, *from++);
	return ~(uint32_t)crc;
}

/* ---- CRC by folding ------------------------------------------------------------ */

#if defined(__x86_64__)
#define FOLD_TARGET __attribute__((target("avx512f,avx512vl,avx512dq,vpclmulqdq,pclmul,sse4.2")))

struct fold {
	_Alignas(64) uint64_t far[8]; /* over 2048 bits, the same in each lane of 128 */
	_Alignas(64) uint64_t near[8]; /* over 512 bits */
	_Alignas(64) uint64_t last[8]; /* over 384, 256 and 128 bits, and nothing in the last lane */
};
static struct fold fold;

/* x^n mod P, reflected. */
static uint32_t power_of_x(unsigned int n)
{
	uint32_t value = UINT32_C(1) << 31;

	while (n--)
		value = value >> 1 ^ (value & 1 ? UINT32_C(0x82f63b78) : 0);
	return value;
}

static void put_power(uint64_t *lane, unsigned int bits)
{
	lane[0] = (uint64_t)power_of_x(bits + 32) << 1;
	lane[1] = (uint64_t)power_of_x(bits - 32) << 1;
}

static void prepare_fold(void)
{
	unsigned int i;

	for (i = 0; i < 4; i++) {
		put_power(fold.far + 2 * i, 2048);
		put_power(fold.near + 2 * i, 512);
		if (i < 3)
			put_power(fold.last + 2 * i, 384 - 128 * i);
	}
}

static bool may_fold(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("vpclmulqdq") && may_crc();
}

FOLD_TARGET static inline __m512i fold_by(__m512i acc, __m512i powers, __m512i next)
{
	return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(acc, powers, 0x00),
					 _mm512_clmulepi64_epi128(acc, powers, 0x11), next, 0x96);
}

FOLD_TARGET static inline uint32_t fold_end(__m512i a, __m512i b, __m512i c, __m512i d)
{
	__m512i near = _mm512_load_si512(fold.near), lanes;
	__m128i sum;
	uint64_t crc;

	a = fold_by(a, near, b);
	a = fold_by(a, near, c);
	a = fold_by(a, near, d);
	lanes = fold_by(a, _mm512_load_si512(fold.last), _mm512_setzero_si512());
	sum = _mm_xor_si128(_mm_xor_si128(_mm512_extracti64x2_epi64(lanes, 0), _mm512_extracti64x2_epi64(lanes, 1)),
			    _mm_xor_si128(_mm512_extracti64x2_epi64(lanes, 2), _mm512_extracti64x2_epi64(a, 3)));
	crc = crc_word(0, (uint64_t)_mm_extract_epi64(sum, 0));
	return ~(uint32_t)crc_word(crc, (uint64_t)_mm_extract_epi64(sum, 1));
}

/* Where the bytes go to, and what is asked for in advance. */
enum fold_to { FOLD_PLAIN, FOLD_STREAM };

#define FOLD_STEP(acc, at) \
	do { \
		__m512i next = _mm512_loadu_si512(from + i + (at)); \
		if (how == FOLD_STREAM) \
			_mm512_stream_si512((void *)(to + i + (at)), next); \
		else \
			_mm512_storeu_si512(to + i + (at), next); \
		acc = i ? fold_by(acc, far, next) : next; \
	} while (0)

/* len is a multiple of 256. */
FOLD_TARGET static inline __attribute__((always_inline)) uint32_t fold_chunk(uint8_t *to, const uint8_t *from,
									     size_t len, enum fold_to how, size_t ahead)
{
	__m512i far = _mm512_load_si512(fold.far), a, b, c, d;
	size_t i;

	a = b = c = d = _mm512_setzero_si512();
	for (i = 0; i < len; i += 256) {
		if (ahead) {
			_mm_prefetch((const char *)from + i + ahead, _MM_HINT_T0);
			_mm_prefetch((const char *)from + i + ahead + 64, _MM_HINT_T0);
			_mm_prefetch((const char *)from + i + ahead + 128, _MM_HINT_T0);
			_mm_prefetch((const char *)from + i + ahead + 192, _MM_HINT_T0);
		}
		FOLD_STEP(a, 0);
		FOLD_STEP(b, 64);
		FOLD_STEP(c, 128);
		FOLD_STEP(d, 192);
		if (i == 0)
			a = _mm512_xor_si512(a, _mm512_castsi128_si512(_mm_cvtsi32_si128(-1)));
	}
	return fold_end(a, b, c, d);
}

FOLD_TARGET static uint32_t store_crc_fold(uint8_t *to, const uint8_t *from, size_t len)
{
	return fold_chunk(to, from, len, FOLD_STREAM, 0);
}

FOLD_TARGET static uint32_t load_crc_fold(uint8_t *to, const uint8_t *from, size_t len)
{
	return fold_chunk(to, from, len, FOLD_PLAIN, 0);
}

FOLD_TARGET static uint32_t load_crc_fold_1k(uint8_t *to, const uint8_t *from, size_t len)
{
	return fold_chunk(to, from, len, FOLD_PLAIN, 1024);
}

FOLD_TARGET static uint32_t load_crc_fold_2k(uint8_t *to, const uint8_t *from, size_t len)
{
	return fold_chunk(to, from, len, FOLD_PLAIN, 2048);
}
#endif

/* All lines are asked for before the first is used. */
static void prefetch_all(const uint8_t *from, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += 64)
		__builtin_prefetch(from + i);
}

CRC_TARGET static uint32_t load_crc_word_all(uint8_t *to, const uint8_t *from, size_t len)
{
	prefetch_all(from, len);
	return crc_chunk(to, from, len);
}

#if defined(__x86_64__)
FOLD_TARGET static uint32_t load_crc_fold_all(uint8_t *to, const uint8_t *from, size_t len)
{
	prefetch_all(from, len);
	return fold_chunk(to, from, len, FOLD_PLAIN, 0);
}
#endif

/* ---- the kernels ------------------------------------------------------------ */

static const struct {
	const char *name;
	void (*copy)(uint8_t *to, const uint8_t *from, size_t len);
	bool (*may)(void);
} copies[] = {
#if defined(__x86_64__)
	{ "sse2", copy_sse2, may_always },
	{ "avx", copy_avx, may_avx },
	{ "avx512", copy_avx512, may_avx512 },
#else
	{ "memcpy + dc cvac", copy_clean, may_always },
#endif
};

struct crc_kernel {
	const char *name;
	uint32_t (*chunk)(uint8_t *to, const uint8_t *from, size_t len);
	bool (*may)(void);
	bool copies; /* else the copy is made by itself before */
};

static const struct crc_kernel stores[] = {
	{ "copy, then crc32c instruction", crc_only, may_crc, false },
#if defined(__x86_64__)
	{ "copy and CRC folded by avx512", store_crc_fold, may_fold, true },
#endif
};

static const struct crc_kernel loads[] = {
	{ "crc32c instruction, three ways", load_crc_word, may_crc, true },
	{ "the same, all prefetched", load_crc_word_all, may_crc, true },
#if defined(__x86_64__)
	{ "folded by avx512", load_crc_fold, may_fold, true },
	{ "folded by avx512, prefetch 1 KiB", load_crc_fold_1k, may_fold, true },
	{ "folded by avx512, prefetch 2 KiB", load_crc_fold_2k, may_fold, true },
	{ "folded by avx512, all prefetched", load_crc_fold_all, may_fold, true },
#endif
};

void bench_kernel_copy(uint8_t *to, const uint8_t *from, size_t len)
{
	copies[chosen.copy].copy(to, from, len);
}

static uint32_t run_crc(const struct crc_kernel *kernel, uint8_t *to, const uint8_t *from, size_t len)
{
	uint32_t crc = 0;
	size_t at;

	for (at = 0; at < len; at += BENCH_CHUNK_BYTES) {
		size_t part = len - at < BENCH_CHUNK_BYTES ? len - at : BENCH_CHUNK_BYTES;

		if (!kernel->copies)
			copies[chosen.copy].copy(to + at, from + at, part);
		crc ^= kernel->chunk(to + at, from + at, part);
	}
	return crc;
}

uint32_t bench_kernel_store_crc(uint8_t *to, const uint8_t *from, size_t len)
{
	return run_crc(&stores[chosen.store], to, from, len);
}

uint32_t bench_kernel_load_crc(uint8_t *to, const uint8_t *from, size_t len)
{
	return run_crc(&loads[chosen.load], to, from, len);
}

bool bench_kernel_has_crc(void)
{
	return chosen.has_crc;
}

/* ---- choosing ------------------------------------------------------------ */

#define TRIAL_ROUNDS 12
#define TRIAL_BYTES (UINT64_C(1) << 20) /* per round */

enum kind { KIND_COPY, KIND_STORE, KIND_LOAD };

/* Best time of some rounds: places of the mapping one after the other for stores, at random for loads. */
static uint64_t time_kernel(enum kind kind, size_t idx, const struct bench_trial *trial)
{
	uint64_t best_ns = UINT64_MAX, places = trial->map_bytes / trial->len, random = 88172645463325252u, at = 0;
	unsigned int round, i, nr = (unsigned int)(TRIAL_BYTES / trial->len) + 1;

	for (round = 0; round < TRIAL_ROUNDS; round++) {
		uint64_t begin_ns = tool_now_ns(), ns;

		for (i = 0; i < nr; i++) {
			uint8_t *place = trial->map + at * trial->len;

			if (kind == KIND_COPY)
				copies[idx].copy(place, trial->buf, trial->len);
			else if (kind == KIND_STORE)
				(void)run_crc(&stores[idx], place, trial->buf, trial->len);
			else
				(void)run_crc(&loads[idx], trial->buf, place, trial->len);
			if (kind != KIND_LOAD)
				bench_fence();
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			at = (kind == KIND_LOAD ? random : at + 1) % places;
		}
		ns = tool_now_ns() - begin_ns;
		best_ns = ns < best_ns ? ns : best_ns;
	}
	return best_ns;
}

/* A kernel that computes something else is out. */
static bool is_right(const struct crc_kernel *kernel, const struct bench_trial *trial)
{
	size_t len = trial->len < BENCH_CHUNK_BYTES ? trial->len : BENCH_CHUNK_BYTES;

	return run_crc(kernel, trial->map, trial->buf, len) == crc_slowly(trial->buf, len) &&
	       memcmp(trial->map, trial->buf, len) == 0;
}

static bool choose_crc(enum kind kind, const struct crc_kernel *kernels, size_t kernel_nr,
		       const struct bench_trial *trial, size_t *out_best)
{
	uint64_t best_ns = UINT64_MAX;
	size_t i;

	for (i = 0; i < kernel_nr; i++) {
		uint64_t ns;

		if (!kernels[i].may() || !is_right(&kernels[i], trial))
			continue;
		ns = time_kernel(kind, i, trial);
		if (ns < best_ns) {
			best_ns = ns;
			*out_best = i;
		}
	}
	return best_ns != UINT64_MAX;
}

void bench_kernel_init(const struct bench_trial *whole)
{
	struct bench_trial trial = *whole;
	uint64_t best_ns = UINT64_MAX;
	size_t i;

	trial.len = trial.len < 65536 ? trial.len : 65536;
	for (i = 0; i < TOOL_ARRAY_NR(copies); i++) {
		uint64_t ns;

		if (!copies[i].may())
			continue;
		ns = time_kernel(KIND_COPY, i, &trial);
		if (ns < best_ns) {
			best_ns = ns;
			chosen.copy = i;
		}
	}
	if (!may_crc())
		return;
	prepare_zeroes((trial.len < BENCH_CHUNK_BYTES ? trial.len : BENCH_CHUNK_BYTES) / 24 * 8);
#if defined(__x86_64__)
	prepare_fold();
#endif
	chosen.has_crc = choose_crc(KIND_STORE, stores, TOOL_ARRAY_NR(stores), &trial, &chosen.store) &&
			 choose_crc(KIND_LOAD, loads, TOOL_ARRAY_NR(loads), &trial, &chosen.load);
}

const char *bench_kernel_copy_name(void)
{
	return copies[chosen.copy].name;
}

const char *bench_kernel_store_name(void)
{
	return chosen.has_crc ? stores[chosen.store].name : "none";
}

const char *bench_kernel_load_name(void)
{
	return chosen.has_crc ? loads[chosen.load].name : "none";
}
