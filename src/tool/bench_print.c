/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache bench, print: results as text for people and as JSON for programs.
 *
 * Bars are as wide as the terminal allows, of block characters in eighths where the locale is UTF-8, else of '#'. Colour only on a terminal, and not if NO_COLOR is set.
 */
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tool/bench.h"

#define WIDTH_MIN 60u
#define WIDTH_MAX 120u
#define WIDTH_OTHERWISE 100u

/* ---- the terminal ------------------------------------------------------------ */

static struct {
	unsigned int width;
	bool known, blocks, colour;
} terminal;

static void look_at_terminal(void)
{
	const char *columns = getenv("COLUMNS"), *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");
	struct winsize size;
	uint64_t width = 0;

	if (terminal.known)
		return;
	(void)setlocale(LC_CTYPE, "");
	terminal.known = true;
	terminal.blocks = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	terminal.colour = isatty(STDOUT_FILENO) && !(no_colour && *no_colour) && !(term && strcmp(term, "dumb") == 0);
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col)
		width = size.ws_col;
	else if (!columns || !tool_parse_u64(columns, 1, 10000, &width))
		width = WIDTH_OTHERWISE;
	terminal.width = width < WIDTH_MIN ? WIDTH_MIN : width > WIDTH_MAX ? WIDTH_MAX : (unsigned int)width;
}

/* A bar of share of cells, padded to cells. */
static void print_bar(double share, unsigned int cells, const char *colour)
{
	static const char *const eighths[] = { "", "▏", "▎", "▍", "▌", "▋", "▊", "▉" };
	unsigned int parts, used, i;

	share = share < 0 ? 0 : share > 1 ? 1 : share;
	parts = (unsigned int)(share * cells * 8 + 0.5);
	if (!terminal.blocks)
		parts = (parts + 4) / 8 * 8;
	if (terminal.colour)
		fputs(colour, stdout);
	for (i = 0; i < parts / 8; i++)
		fputs(terminal.blocks ? "█" : "#", stdout);
	fputs(eighths[parts % 8], stdout);
	if (terminal.colour)
		fputs("\033[0m", stdout);
	used = parts / 8 + (parts % 8 != 0);
	printf("%*s", (int)(cells - used), "");
}

static const char *ratio_colour(double ratio)
{
	return ratio >= 0.75 ? "\033[32m" : ratio >= 0.5 ? "\033[33m" : "\033[31m";
}

/* ---- numbers ------------------------------------------------------------ */

#define TIME_TEXT 24

/* Three digits and a unit. */
static const char *time_text(char text[TIME_TEXT], double ns)
{
	static const char *const units[] = { "ns", "us", "ms", "s" };
	unsigned int unit = 0;

	while (ns >= 9999.5 && unit < 3) {
		ns /= 1000;
		unit++;
	}
	snprintf(text, TIME_TEXT, "%.*f %s", unit && ns < 99.95 ? 1 : 0, ns, units[unit]);
	return text;
}

static const char *count_text(char text[TIME_TEXT], double count)
{
	static const char *const units[] = { "", " k", " M", " G" };
	unsigned int unit = 0;

	while (count >= 9999.5 && unit < 3) {
		count /= 1000;
		unit++;
	}
	snprintf(text, TIME_TEXT, "%.*f%s", unit && count < 99.95 ? 2 : 0, count, units[unit]);
	return text;
}

double bench_ratio(const struct bench_result *result)
{
	return result->ratio.median;
}

static const char *granularity_text(const struct pcache_info *info)
{
	static const char *const names[] = { "byte", "cache line", "page" };

	return info->granularity < TOOL_ARRAY_NR(names) ? names[info->granularity] : "unknown";
}

static const char *const writeback_names[] = { "on", "off", "flat" };

static bool is_whole(enum bench_job job)
{
	return job == BENCH_DRAIN || job == BENCH_OPEN;
}

static const char *unit_of(enum bench_job job)
{
	return job == BENCH_OPEN ? "key" : job == BENCH_DRAIN ? "block" : job == BENCH_BATCH ? "batch" : "op";
}

/* ---- text ------------------------------------------------------------ */

static void print_time_bar(const char *label, const struct bench_spread *spread, double full_ns, const char *unit,
			   const char *colour)
{
	char median[TIME_TEXT], min[TIME_TEXT], max[TIME_TEXT], text[3 * TIME_TEXT + 16];

	snprintf(text, sizeof(text), "%s/%s (%s to %s)", time_text(median, spread->median), unit,
		 time_text(min, spread->min), time_text(max, spread->max));
	printf("  %-7s", label);
	print_bar(full_ns > 0 ? spread->median / full_ns : 0, terminal.width - 9 - 38, colour);
	printf(" %s\n", text);
}

static void print_latency(const struct bench_result *result)
{
	char p50[TIME_TEXT], p99[TIME_TEXT], p999[TIME_TEXT], max[TIME_TEXT];

	printf("  latency%s  p50 %s   p99 %s   p99.9 %s   max %s", is_whole(result->job) ? " of all at once" : "",
	       time_text(p50, (double)bench_hist_quantile(&result->hist, 500)),
	       time_text(p99, (double)bench_hist_quantile(&result->hist, 990)),
	       time_text(p999, (double)bench_hist_quantile(&result->hist, 999)),
	       time_text(max, (double)result->hist.max_ns));
	if (result->sample_every > 1)
		printf("   (1 in %u timed)", result->sample_every);
	putchar('\n');
}

static void print_costs(const struct bench_result *result)
{
	char cpu[TIME_TEXT];

	printf("  costs    CPU %s/%s", time_text(cpu, result->cpu_ns_per_op), unit_of(result->job));
	if (result->extents)
		printf("   DRAM %.1f B/extent", result->dram_bytes_per_extent);
	if (result->media_bytes_per_byte > 0)
		printf("   media %.3f B/B", result->media_bytes_per_byte);
	if (!is_whole(result->job))
		printf("   background work in %.0f %% of the slices", result->busy_percent);
	if (result->hit_percent < 100)
		printf("   hits %.1f %%", result->hit_percent);
	putchar('\n');
}

void bench_print_text(const struct bench_args *args, const struct bench_result *result)
{
	double full_ns = result->own.median > result->limit.median ? result->own.median : result->limit.median;
	char bs[TOOL_BYTES_TEXT], rate[TOOL_BYTES_TEXT], count[TIME_TEXT];

	look_at_terminal();
	printf("\n%s%s%s  %s%s, %u thread%s   ratio %s%.2f%s (%.2f to %.2f)   %s %s/s   %s/s\n",
	       terminal.colour ? "\033[1m" : "", bench_job_names[result->job], terminal.colour ? "\033[0m" : "",
	       result->job == BENCH_BATCH ? "16 x " : "", tool_bytes_text(bs, args->block_len), result->threads,
	       result->threads == 1 ? "" : "s", terminal.colour ? ratio_colour(bench_ratio(result)) : "",
	       bench_ratio(result), terminal.colour ? "\033[0m" : "", result->ratio.min, result->ratio.max,
	       count_text(count, result->iops),
	       is_whole(result->job) || result->job == BENCH_BATCH ? unit_of(result->job) : "IO",
	       tool_bytes_text(rate, (uint64_t)(result->iops * (double)result->op_bytes)));
	print_time_bar("pcache", &result->own, full_ns, unit_of(result->job), "\033[36m");
	print_time_bar("limit", &result->limit, full_ns, unit_of(result->job), "\033[2m");
	printf("  limit is %s\n", result->limit_text);
	if (result->flush_adds.median != 0) {
		char median[TIME_TEXT], min[TIME_TEXT], max[TIME_TEXT];

		printf("  a flush %s adds %s to a write (%s to %s)\n", args->flush_every > 1 ? "now and then" : "each",
		       time_text(median, result->flush_adds.median), time_text(min, result->flush_adds.min),
		       time_text(max, result->flush_adds.max));
	}
	print_latency(result);
	print_costs(result);
	fflush(stdout);
}

void bench_print_place(const struct bench_args *args, const struct bench_place *place)
{
	char cache[TOOL_BYTES_TEXT], size[TOOL_BYTES_TEXT], spread[TOOL_BYTES_TEXT];
	const struct pcache_info *info = &place->info;
	bool forced = (info->state_flags & PCACHE_STATE_GRANULARITY_FORCED) != 0;

	printf("cache    %s on %s, granularity %s%s\n", tool_bytes_text(cache, place->cache_bytes), place->text,
	       granularity_text(info), forced ? " (forced)" : "");
	printf("work     %s", tool_bytes_text(size, place->size_bytes));
	if (place->spread_bytes > place->size_bytes)
		printf(" spread over %s", tool_bytes_text(spread, place->spread_bytes));
	printf(", commit %s, ordering %s, data CRC %s, write-back %s\n",
	       info->commit == PCACHE_COMMIT_WRITE ? "write" : "flush",
	       info->ordering == PCACHE_ORDERING_BATCH ? "batch" : "strict", args->data_crc ? "on" : "off",
	       writeback_names[args->writeback]);
	printf("pages    huge: %.0f %% of the cache, %.0f %% of the limit's mapping\n", place->cache_huge_percent,
	       place->limit_huge_percent);
	printf("limit    copies by %s; with CRC: in by %s, out by %s\n", bench_kernel_copy_name(),
	       bench_kernel_store_name(), bench_kernel_load_name());
}

void bench_print_chart(const struct bench_line *lines, uint32_t line_nr)
{
	unsigned int cells;
	uint32_t i;

	look_at_terminal();
	if (line_nr < 2)
		return;
	cells = terminal.width - 13 - 24;
	printf("\nshare of what the machine can do\n");
	for (i = 0; i < line_nr; i++) {
		printf("  %-11s", bench_job_names[lines[i].job]);
		print_bar(lines[i].ratio.median, cells, ratio_colour(lines[i].ratio.median));
		printf("%s %.2f (%.2f to %.2f)\n", terminal.blocks ? "▏" : "|", lines[i].ratio.median,
		       lines[i].ratio.min, lines[i].ratio.max);
	}
}

/* ---- JSON ------------------------------------------------------------ */

static void print_json_spread(const char *name, const struct bench_spread *spread)
{
	printf(", \"%s_min\": %.1f, \"%s_max\": %.1f", name, spread->min, name, spread->max);
}

static void print_json_or_null(const char *name, double value, int digits)
{
	if (value != 0)
		printf(", \"%s\": %.*f", name, digits, value);
	else
		printf(", \"%s\": null", name);
}

void bench_print_json(const struct bench_args *args, const struct bench_result *result, bool first)
{
	printf("%s\n  {\"job\": \"%s\", \"bs\": %llu, \"threads\": %u, \"ns_per_op\": %.1f, \"limit_ns_per_op\": %.1f, "
	       "\"ratio\": %.4f, \"iops\": %.0f",
	       first ? "" : ",", bench_job_names[result->job], (unsigned long long)args->block_len, result->threads,
	       result->own.median, result->limit.median, bench_ratio(result), result->iops);
	printf(", \"p50_ns\": %llu, \"p99_ns\": %llu, \"p999_ns\": %llu, \"max_ns\": %llu",
	       (unsigned long long)bench_hist_quantile(&result->hist, 500),
	       (unsigned long long)bench_hist_quantile(&result->hist, 990),
	       (unsigned long long)bench_hist_quantile(&result->hist, 999), (unsigned long long)result->hist.max_ns);
	printf(", \"bytes_per_op\": %llu, \"timed_one_in\": %u", (unsigned long long)result->op_bytes,
	       result->sample_every);
	print_json_spread("ns_per_op", &result->own);
	print_json_spread("limit_ns_per_op", &result->limit);
	printf(", \"ratio_min\": %.4f, \"ratio_max\": %.4f", result->ratio.min, result->ratio.max);
	print_json_or_null("limit_copy_ns", result->limit_copy.median, 1);
	print_json_or_null("limit_crc_ns", result->limit_crc.median, 1);
	printf(", \"limit\": \"%s\"", result->limit_text);
	print_json_or_null("flush_adds_ns", result->flush_adds.median, 1);
	print_json_or_null("flush_adds_ns_min", result->flush_adds.min, 1);
	print_json_or_null("flush_adds_ns_max", result->flush_adds.max, 1);
	printf(", \"cpu_ns_per_op\": %.1f", result->cpu_ns_per_op);
	print_json_or_null("dram_bytes_per_extent", result->dram_bytes_per_extent, 2);
	print_json_or_null("media_bytes_per_byte", result->media_bytes_per_byte, 4);
	printf(", \"extents\": %llu, \"busy_percent\": %.1f, \"slices\": %u, \"hit_percent\": %.2f}",
	       (unsigned long long)result->extents, result->busy_percent, result->slice_nr, result->hit_percent);
}

void bench_print_json_place(const struct bench_args *args, const struct bench_place *place)
{
	const struct pcache_info *info = &place->info;

	printf("\"place\": \"%s\", \"granularity\": \"%s\", \"granularity_forced\": %s, \"huge_pages\": %s",
	       place->text, granularity_text(info),
	       info->state_flags & PCACHE_STATE_GRANULARITY_FORCED ? "true" : "false",
	       info->state_flags & PCACHE_STATE_HUGE_PAGES ? "true" : "false");
	printf(", \"cache_huge_percent\": %.1f, \"limit_huge_percent\": %.1f", place->cache_huge_percent,
	       place->limit_huge_percent);
	printf(", \"commit\": \"%s\", \"ordering\": \"%s\", \"data_crc\": %s, \"writeback\": \"%s\"",
	       info->commit == PCACHE_COMMIT_WRITE ? "write" : "flush",
	       info->ordering == PCACHE_ORDERING_BATCH ? "batch" : "strict", args->data_crc ? "true" : "false",
	       writeback_names[args->writeback]);
	printf(", \"cache_bytes\": %llu, \"size_bytes\": %llu, \"spread_bytes\": %llu, \"limit_copy\": \"%s\", "
	       "\"limit_store_crc\": \"%s\", \"limit_load_crc\": \"%s\"",
	       (unsigned long long)place->cache_bytes, (unsigned long long)place->size_bytes,
	       (unsigned long long)place->spread_bytes, bench_kernel_copy_name(), bench_kernel_store_name(),
	       bench_kernel_load_name());
}
