/* SPDX-License-Identifier: BSD-3-Clause */
/* Histograms of latencies: snapshots, what is read off them, and as text. Counting is in core/latency. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "api/handle.h"
#include "api/put.h"
#include "core/latency.h"

#define LEAST_BYTES 8u /* struct_bytes and bucket_nr */
#define POWER_LEAST 6u /* OpenMetrics: from 64 ns, */
#define POWER_MOST 36u /* to 69 s */
#define LABEL_BYTES (sizeof("cache=\"\",") + PC_UUID_TEXT_BYTES)

static const char *const kind_names[PCACHE_LATENCY_NR] = { "read", "write", "batch", "flush", "zero" };

PCACHE_API int pcache_latency_get(struct pcache *cache, uint32_t kind, struct pcache_latency *latency)
{
	struct pcache_latency full;
	uint32_t struct_bytes;
	int rc = pc_api_check(cache);

	if (rc)
		return rc;
	if (!latency || latency->struct_bytes < LEAST_BYTES || kind >= PCACHE_LATENCY_NR)
		return -EINVAL;
	struct_bytes = latency->struct_bytes;
	pc_latency_get(cache, kind, &full);
	memcpy(latency, &full, PC_MIN((size_t)struct_bytes, sizeof(full)));
	latency->struct_bytes = struct_bytes;
	return 0;
}

PCACHE_API uint64_t pcache_latency_bucket_ns(uint32_t idx)
{
	uint32_t shift;

	if (idx < 8)
		return idx;
	if (idx >= PCACHE_LATENCY_BUCKET_NR - 1)
		return UINT64_MAX;
	shift = idx / 8 - 1;
	return (UINT64_C(9) + idx % 8) * (UINT64_C(1) << shift) - 1;
}

PCACHE_API uint64_t pcache_latency_quantile_ns(const struct pcache_latency *latency, double share)
{
	uint64_t seen = 0;

	if (!latency || !latency->count || !(share > 0))
		return 0;
	for (uint32_t i = 0; i < PC_MIN(latency->bucket_nr, PCACHE_LATENCY_BUCKET_NR); i++) {
		seen += latency->buckets[i];
		if ((double)seen >= share * (double)latency->count)
			return PC_MIN(pcache_latency_bucket_ns(i), latency->max_ns);
	}
	return latency->max_ns;
}

static uint64_t mean_ns(const struct pcache_latency *latency)
{
	return latency->count ? latency->sum_ns / latency->count : 0;
}

static void put_text(struct pc_put *text, const struct pcache_latency *by_kind)
{
	pc_put(text, "%-8s%12s%12s%12s%12s%12s%12s\n", "ns", "calls", "mean", "p50", "p99", "p99.9", "longest");
	for (uint32_t kind = 0; kind < PCACHE_LATENCY_NR; kind++) {
		const struct pcache_latency *latency = &by_kind[kind];

		pc_put(text, "%-8s%12" PRIu64 "%12" PRIu64 "%12" PRIu64 "%12" PRIu64 "%12" PRIu64 "%12" PRIu64 "\n",
		       kind_names[kind], latency->count, mean_ns(latency), pcache_latency_quantile_ns(latency, 0.5),
		       pcache_latency_quantile_ns(latency, 0.99), pcache_latency_quantile_ns(latency, 0.999),
		       latency->max_ns);
	}
}

static void put_json(struct pc_put *text, const struct pcache_latency *by_kind)
{
	for (uint32_t kind = 0; kind < PCACHE_LATENCY_NR; kind++) {
		const struct pcache_latency *latency = &by_kind[kind];

		pc_put(text,
		       "%s\"%s\": {\"calls\": %" PRIu64 ", \"mean_ns\": %" PRIu64 ", \"p50_ns\": %" PRIu64
		       ", \"p99_ns\": %" PRIu64 ", \"p99_9_ns\": %" PRIu64 ", \"max_ns\": %" PRIu64 "}",
		       kind ? ", " : "{", kind_names[kind], latency->count, mean_ns(latency),
		       pcache_latency_quantile_ns(latency, 0.5), pcache_latency_quantile_ns(latency, 0.99),
		       pcache_latency_quantile_ns(latency, 0.999), latency->max_ns);
	}
	pc_put(text, "}");
}

/* Exact: no bucket crosses a power of two. A bound of OpenMetrics counts itself, so it is the last ns below the power. */
static uint64_t below_power(const struct pcache_latency *latency, uint32_t power)
{
	uint64_t nr = 0;

	for (uint32_t i = 0; pcache_latency_bucket_ns(i) < UINT64_C(1) << power; i++)
		nr += latency->buckets[i];
	return nr;
}

static void put_openmetrics(struct pc_put *text, const struct pcache_latency *by_kind, const struct pcache_info *info)
{
	char uuid[PC_UUID_TEXT_BYTES], label[LABEL_BYTES] = "";
	struct pc_put to = { .buf = label, .bytes = sizeof(label) };

	if (info) {
		(void)pc_put_uuid(uuid, info->cache_uuid);
		pc_put(&to, "cache=\"%s\",", uuid);
	}
	pc_put(text, "# TYPE pcache_call_seconds histogram\n# UNIT pcache_call_seconds seconds\n"
		     "# HELP pcache_call_seconds Duration of successful calls.\n");
	for (uint32_t kind = 0; kind < PCACHE_LATENCY_NR; kind++) {
		const struct pcache_latency *latency = &by_kind[kind];

		for (uint32_t power = POWER_LEAST; power <= POWER_MOST; power++)
			pc_put(text, "pcache_call_seconds_bucket{%scall=\"%s\",le=\"%.9f\"} %" PRIu64 "\n", label,
			       kind_names[kind], (double)((UINT64_C(1) << power) - 1) * 1e-9,
			       below_power(latency, power));
		pc_put(text, "pcache_call_seconds_bucket{%scall=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", label,
		       kind_names[kind], latency->count);
		pc_put(text, "pcache_call_seconds_count{%scall=\"%s\"} %" PRIu64 "\n", label, kind_names[kind],
		       latency->count);
		pc_put(text, "pcache_call_seconds_sum{%scall=\"%s\"} %.9f\n", label, kind_names[kind],
		       (double)latency->sum_ns * 1e-9);
	}
}

PCACHE_API int pcache_latency_render(const struct pcache_latency *by_kind, const struct pcache_info *info,
				     uint32_t form, char *buf, size_t buf_bytes)
{
	struct pc_put text = { .buf = buf, .bytes = buf_bytes };

	if (!by_kind || (!buf && buf_bytes))
		return -EINVAL;
	for (uint32_t kind = 0; kind < PCACHE_LATENCY_NR; kind++) {
		if (by_kind[kind].struct_bytes != sizeof(*by_kind))
			return -EINVAL;
	}
	switch (form) {
	case PCACHE_RENDER_TEXT:
		put_text(&text, by_kind);
		break;
	case PCACHE_RENDER_JSON:
		put_json(&text, by_kind);
		break;
	case PCACHE_RENDER_OPENMETRICS:
		put_openmetrics(&text, by_kind, info);
		break;
	default:
		return -EINVAL;
	}
	return (int)text.len;
}
