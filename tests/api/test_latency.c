/* SPDX-License-Identifier: BSD-3-Clause */
/* Histograms of latencies: each kind of call counts where it belongs, only while it is asked for and only if it succeeds; buckets, quantiles and forms are what the header says. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "core/latency.h"
#include "core/rig.h"

static uint64_t calls(struct rig *rig, uint32_t kind)
{
	struct pcache_latency latency = { .struct_bytes = sizeof(latency) };
	uint64_t sum = 0;

	assert_int_equal(pcache_latency_get(rig->cache, kind, &latency), 0);
	assert_int_equal(latency.struct_bytes, sizeof(latency));
	assert_int_equal(latency.bucket_nr, PCACHE_LATENCY_BUCKET_NR);
	for (uint32_t i = 0; i < PCACHE_LATENCY_BUCKET_NR; i++)
		sum += latency.buckets[i];
	assert_int_equal(sum, latency.count);
	assert_true(!latency.count == !latency.max_ns && latency.max_ns <= latency.sum_ns);
	return latency.count;
}

static void assert_calls(struct rig *rig, uint64_t read, uint64_t write, uint64_t batch, uint64_t flush, uint64_t zero)
{
	assert_int_equal(calls(rig, PCACHE_LATENCY_READ), read);
	assert_int_equal(calls(rig, PCACHE_LATENCY_WRITE), write);
	assert_int_equal(calls(rig, PCACHE_LATENCY_BATCH), batch);
	assert_int_equal(calls(rig, PCACHE_LATENCY_FLUSH), flush);
	assert_int_equal(calls(rig, PCACHE_LATENCY_ZERO), zero);
}

/* Each call once, each with an error once. */
static void all_calls(struct pcache *cache)
{
	uint8_t block[512] = { 1 };
	struct iovec iov = { .iov_base = block, .iov_len = sizeof(block) };
	struct pcache_range range = { .buf = block, .off = 0, .len = sizeof(block) };

	assert_int_equal(pcache_write(cache, block, 0, 512, 0), 0);
	assert_int_equal(pcache_write(cache, block, 1, 512, 0), PCACHE_E_UNALIGNED);
	assert_int_equal(pcache_writev(cache, &iov, 1, 0, 0), 0);
	assert_int_equal(pcache_read(cache, block, 0, 512, 0), 0);
	assert_int_equal(pcache_read(cache, block, 0, 512, 1u << 31), -EINVAL);
	assert_int_equal(pcache_readv(cache, &iov, 1, 0, 0), 0);
	assert_int_equal(pcache_write_batch(cache, &range, 1, 0), 0);
	assert_int_equal(pcache_flush(cache), 0);
	assert_int_equal(pcache_discard(cache, 0, 512, 0), 0);
	assert_int_equal(pcache_write_zeroes(cache, 0, 512, 0), 0);
}

static void what_counts(void **state)
{
	struct pcache_latency latency = { .struct_bytes = 24 };
	uint8_t block[512];
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	all_calls(rig.cache);
	assert_calls(&rig, 0, 0, 0, 0, 0);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_LATENCY, 1), 0);
	all_calls(rig.cache);
	assert_calls(&rig, 2, 2, 1, 1, 2);
	/* A read that the backing fails takes its time, and is none. */
	mem_backing_fail(rig.mb, MEM_BACKING_READ, 1, EIO, MEM_BACKING_ONCE);
	assert_int_equal(pcache_read(rig.cache, block, 65536, 512, 0), -EIO);
	assert_calls(&rig, 2, 2, 1, 1, 2);
	/* Off: what was counted stays; on again: it goes on. */
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_LATENCY, 0), 0);
	all_calls(rig.cache);
	assert_calls(&rig, 2, 2, 1, 1, 2);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_LATENCY, 1), 0);
	all_calls(rig.cache);
	assert_calls(&rig, 4, 4, 2, 2, 4);

	/* As much as the program's struct has. */
	latency.max_ns = 99;
	assert_int_equal(pcache_latency_get(rig.cache, PCACHE_LATENCY_READ, &latency), 0);
	assert_int_equal(latency.struct_bytes, 24);
	assert_int_equal(latency.count, 4);
	assert_int_equal(latency.max_ns, 99);
	latency.struct_bytes = 7;
	assert_int_equal(pcache_latency_get(rig.cache, PCACHE_LATENCY_READ, &latency), -EINVAL);
	latency.struct_bytes = sizeof(latency);
	assert_int_equal(pcache_latency_get(rig.cache, PCACHE_LATENCY_NR, &latency), -EINVAL);
	assert_int_equal(pcache_latency_get(rig.cache, PCACHE_LATENCY_READ, NULL), -EINVAL);
	assert_int_equal(pcache_latency_get(NULL, PCACHE_LATENCY_READ, &latency), -EINVAL);
	rig_down(&rig);
}

#define THREAD_NR 4u
#define CALL_NR 2000u

static void *read_often(void *arg)
{
	struct rig *rig = arg;
	uint8_t block[512];

	for (uint32_t i = 0; i < CALL_NR; i++) {
		if (pcache_read(rig->cache, block, 0, sizeof(block), 0))
			return rig;
		if (i % 500 == 0 && pcache_option_set(rig->cache, PCACHE_OPT_LATENCY, 1))
			return rig;
	}
	return NULL;
}

static void of_all_threads(void **state)
{
	pthread_t threads[THREAD_NR];
	struct rig rig;
	void *failed;

	(void)state;
	rig_zero(&rig);
	rig.o.sim_flags = PC_SIM_THREADED;
	rig_up(&rig);
	rig_write(&rig, 0, 512, 0);
	for (uint32_t i = 0; i < THREAD_NR; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_often, &rig), 0);
	for (uint32_t i = 0; i < THREAD_NR; i++) {
		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	/* But for the first of each, which come before the switch. */
	assert_in_range(calls(&rig, PCACHE_LATENCY_READ), THREAD_NR * (CALL_NR - 1), THREAD_NR * CALL_NR);
	rig_down(&rig);
}

/* A bucket begins where the one before it ends, is at most an eighth wide, and counts what lies in it. */
static void buckets(void **state)
{
	uint64_t before_ns = 0;

	(void)state;
	for (uint32_t i = 0; i + 1 < PCACHE_LATENCY_BUCKET_NR; i++) {
		uint64_t first_ns = i ? before_ns + 1 : 0, last_ns = pcache_latency_bucket_ns(i);

		assert_true(last_ns >= first_ns && (last_ns - first_ns) * 8 <= first_ns);
		assert_int_equal(pc_latency_bucket(first_ns), i);
		assert_int_equal(pc_latency_bucket(last_ns), i);
		before_ns = last_ns;
	}
	assert_int_equal(pc_latency_bucket(before_ns + 1), PCACHE_LATENCY_BUCKET_NR - 1);
	assert_int_equal(pc_latency_bucket(UINT64_MAX), PCACHE_LATENCY_BUCKET_NR - 1);
	assert_int_equal(pcache_latency_bucket_ns(PCACHE_LATENCY_BUCKET_NR - 1), UINT64_MAX);
	assert_true(before_ns > UINT64_C(34) * 60 * 1000000000);
}

static void add(struct pcache_latency *latency, uint64_t ns, uint64_t nr)
{
	latency->count += nr;
	latency->sum_ns += ns * nr;
	latency->max_ns = PC_MAX(latency->max_ns, ns);
	latency->buckets[pc_latency_bucket(ns)] += nr;
}

static void quantiles(void **state)
{
	struct pcache_latency latency = { .struct_bytes = sizeof(latency), .bucket_nr = PCACHE_LATENCY_BUCKET_NR };

	(void)state;
	assert_int_equal(pcache_latency_quantile_ns(&latency, 0.5), 0);
	assert_int_equal(pcache_latency_quantile_ns(NULL, 0.5), 0);
	add(&latency, 5, 90);
	add(&latency, 1000, 9);
	add(&latency, 1000000, 1);
	assert_int_equal(pcache_latency_quantile_ns(&latency, 0.5), 5);
	assert_int_equal(pcache_latency_quantile_ns(&latency, 0.9), 5);
	assert_in_range(pcache_latency_quantile_ns(&latency, 0.99), 1000, 1125);
	assert_int_equal(pcache_latency_quantile_ns(&latency, 1), 1000000);
	assert_int_equal(pcache_latency_quantile_ns(&latency, 0), 0);
	assert_int_equal(pcache_latency_quantile_ns(&latency, -1), 0);
}

static void forms(void **state)
{
	struct pcache_latency by_kind[PCACHE_LATENCY_NR];
	struct pcache_info info = { .struct_bytes = sizeof(info), .cache_uuid = { 0xab } };
	static char text[32768], cut[100];
	int len;

	(void)state;
	memset(by_kind, 0, sizeof(by_kind));
	for (uint32_t kind = 0; kind < PCACHE_LATENCY_NR; kind++) {
		by_kind[kind].struct_bytes = sizeof(by_kind[kind]);
		by_kind[kind].bucket_nr = PCACHE_LATENCY_BUCKET_NR;
	}
	add(&by_kind[PCACHE_LATENCY_WRITE], 200, 3);
	add(&by_kind[PCACHE_LATENCY_WRITE], 256, 1);

	len = pcache_latency_render(by_kind, NULL, PCACHE_RENDER_TEXT, text, sizeof(text));
	assert_true(len > 0 && (size_t)len == strlen(text));
	assert_non_null(
		strstr(text, "write              4         214         207         256         256         256\n"));
	assert_int_equal(pcache_latency_render(by_kind, NULL, PCACHE_RENDER_TEXT, cut, sizeof(cut)), len);
	assert_int_equal(strlen(cut), sizeof(cut) - 1);
	assert_memory_equal(cut, text, sizeof(cut) - 1);
	assert_int_equal(pcache_latency_render(by_kind, NULL, PCACHE_RENDER_TEXT, NULL, 0), len);

	(void)pcache_latency_render(by_kind, NULL, PCACHE_RENDER_JSON, text, sizeof(text));
	assert_non_null(strstr(text, "{\"read\": {\"calls\": 0, "));
	assert_non_null(strstr(
		text,
		"\"write\": {\"calls\": 4, \"mean_ns\": 214, \"p50_ns\": 207, \"p99_ns\": 256, \"p99_9_ns\": 256, "
		"\"max_ns\": 256}, "));

	len = pcache_latency_render(by_kind, &info, PCACHE_RENDER_OPENMETRICS, text, sizeof(text));
	assert_true(len > 0 && (size_t)len < sizeof(text));
	assert_non_null(strstr(
		text, "_bucket{cache=\"ab000000-0000-0000-0000-000000000000\",call=\"write\",le=\"0.000000127\"} 0\n"));
	assert_non_null(strstr(text, "call=\"write\",le=\"0.000000255\"} 3\n"));
	assert_non_null(strstr(text, "call=\"write\",le=\"0.000000511\"} 4\n"));
	assert_non_null(strstr(text, "call=\"write\",le=\"+Inf\"} 4\n"));
	assert_non_null(
		strstr(text, "_sum{cache=\"ab000000-0000-0000-0000-000000000000\",call=\"write\"} 0.000000856\n"));
	(void)pcache_latency_render(by_kind, NULL, PCACHE_RENDER_OPENMETRICS, text, sizeof(text));
	assert_non_null(strstr(text, "_count{call=\"write\"} 4\n"));

	assert_int_equal(pcache_latency_render(NULL, NULL, PCACHE_RENDER_TEXT, text, sizeof(text)), -EINVAL);
	assert_int_equal(pcache_latency_render(by_kind, NULL, 3, text, sizeof(text)), -EINVAL);
	assert_int_equal(pcache_latency_render(by_kind, NULL, PCACHE_RENDER_TEXT, NULL, 1), -EINVAL);
	by_kind[PCACHE_LATENCY_FLUSH].struct_bytes--;
	assert_int_equal(pcache_latency_render(by_kind, NULL, PCACHE_RENDER_TEXT, text, sizeof(text)), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_counts), cmocka_unit_test(of_all_threads), cmocka_unit_test(buckets),
		cmocka_unit_test(quantiles),   cmocka_unit_test(forms),
	};

	return cmocka_run_group_tests_name("api_latency", tests, NULL, NULL);
}
