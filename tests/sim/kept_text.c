/* SPDX-License-Identifier: BSD-3-Clause */
/* Writer and parser of the text form, see kept_text.h. */
#include "sim/kept_text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "sim/oracle.h"

#define MEMBER(key_, name_, simplest_, max_) \
	{ .key = key_, .name = #name_, .offset = offsetof(struct pc_gen_shape, name_), .size = sizeof(((struct pc_gen_shape *)0)->name_), \
	  .simplest = simplest_, .max = max_ }

const struct pc_kept_member pc_kept_members[] = {
	MEMBER("media", media_bytes, 65536, 1u << 24),
	MEMBER("segment", segment_bytes, 4096, 1u << 16),
	MEMBER("block", block_bytes, 512, 4096),
	MEMBER("backing", backing_blk, 16, PC_ORACLE_BLOCK_NR_MAX),
	MEMBER("shards", shard_nr, 1, 64),
	MEMBER("stripe", stripe_bytes, 4096, 1u << 22),
	MEMBER("heads", data_head_nr, 1, 64),
	MEMBER("kset_keys", kset_max_keys, 0, 65536),
	MEMBER("gc", gc_pct, 70, 90),
	MEMBER("page", page, 0, 1),
	MEMBER("byte", byte, 0, 1),
	MEMBER("commit_flush", commit_flush, 0, 1),
	MEMBER("order_batch", order_batch, 0, 1),
	MEMBER("crc", data_crc, 1, 1),
	MEMBER("guard_fence", guard_fence, 0, 1),
	MEMBER("read_cache", read_cache, 0, 1),
	MEMBER("full_error", full_error, 0, 1),
	MEMBER("write_through", write_through, 0, 1),
	MEMBER("faults", faults, 0, 1),
	MEMBER("old_cache", old_cache, 0, 1),
	MEMBER("high", high, 0, 4),
	MEMBER("flush_fault_pct", flush_fault_pct, 0, 100),
	MEMBER("warm", warm_nr, 0, PC_CRASH_OP_NR_MAX),
	MEMBER("mix", mix, 0, 1000),
};
const uint32_t pc_kept_member_nr = PC_ARRAY_NR(pc_kept_members);

static const char *const op_names[PC_GEN_KIND_NR] = {
	[PC_GEN_WRITE] = "write",	  [PC_GEN_DURABLE] = "durable", [PC_GEN_BATCH] = "batch", [PC_GEN_FLUSH] = "flush",	  [PC_GEN_DISCARD] = "discard",
	[PC_GEN_ZEROES] = "zeroes",	  [PC_GEN_READ] = "read",	[PC_GEN_WRITEBACK] = "writeback", [PC_GEN_EVICT] = "evict", [PC_GEN_CLEAN] = "clean",
	[PC_GEN_MAINTAIN] = "maintain", [PC_GEN_DRAIN] = "drain",	[PC_GEN_REOPEN] = "reopen",	[PC_GEN_CRASH] = "crash",	[PC_GEN_GOES] = "goes",
};

uint64_t pc_kept_member_get(const struct pc_gen_shape *shape, const struct pc_kept_member *member)
{
	const uint8_t *at = (const uint8_t *)shape + member->offset;
	uint64_t value = 0;

	memcpy(&value, at, member->size); /* little-endian, as all machines that run this */
	return value;
}

void pc_kept_member_set(struct pc_gen_shape *shape, const struct pc_kept_member *member, uint64_t value)
{
	memcpy((uint8_t *)shape + member->offset, &value, member->size);
}

/* --- writing --- */

static void put_op(FILE *out, const struct pc_gen_op *op)
{
	fputs(op_names[op->kind], out);
	for (uint32_t i = 0; i < op->range_nr; i++)
		fprintf(out, "%c%u+%u", i == 0 ? ':' : '/', op->ranges[i].blk, op->ranges[i].len_blk);
	if (op->arg != 0)
		fprintf(out, "@%u", op->arg);
}

static void put_ops(FILE *out, const char *key, const struct pc_gen_op *ops, uint32_t op_nr)
{
	fprintf(out, " %s=%s", key, op_nr == 0 ? "-" : "");
	for (uint32_t i = 0; i < op_nr; i++) {
		if (i != 0)
			fputc(',', out);
		put_op(out, &ops[i]);
	}
}

/* Only those that are run. */
static void put_old_ops(FILE *out, const struct pc_crash_plan *plan)
{
	bool any = false;

	for (uint32_t i = 0; i < plan->old_op_nr; i++) {
		if (plan->old_only_writes && plan->old_ops[i].kind > PC_GEN_ZEROES)
			continue;
		fputs(any ? "," : " old=", out);
		put_op(out, &plan->old_ops[i]);
		any = true;
	}
	if (!any)
		fputs(" old=-", out);
}

static void put_events(FILE *out, const struct pc_crash_course *course)
{
	if (course->event_nr == 0)
		fputc('-', out);
	for (uint32_t i = 0; i < course->event_nr; i++)
		fprintf(out, "%s%c%u.%u", i == 0 ? "" : ",", course->events[i].kind, course->events[i].step, course->events[i].nr);
}

static void put_some(FILE *out, const struct pc_crash_some *some)
{
	fputs(some->rest ? "all" : "none", out);
	for (uint32_t i = 0; i < some->run_nr; i++) {
		fputc(i != 0 ? '/' : some->rest ? '-' : '+', out);
		fprintf(out, "%u", some->runs[i].first);
		if (some->runs[i].nr > 1)
			fprintf(out, "..%u", some->runs[i].first + some->runs[i].nr - 1);
	}
}

static void put_cut(FILE *out, const struct pc_crash_cut *cut, const struct pc_crash_course *course)
{
	fprintf(out, " cut=%u.%u", cut->step, cut->point);
	if (cut->killed) {
		fputs(" killed", out);
	} else {
		fputs(" words=", out);
		put_some(out, &cut->words);
		fputs(" disk=", out);
		put_some(out, &cut->disk);
		if (cut->bit_off != 0)
			fprintf(out, " bit=%" PRIu64 ".%u", cut->bit_off, cut->bit);
	}
	put_ops(out, "then", course->ops, course->op_nr);
	if (course->event_nr != 0) {
		fputs(" events=", out);
		put_events(out, course);
	}
}

/* Closes the stream and gives its text, or NULL. */
static char *take(FILE *out, char **text)
{
	if (ferror(out) != 0) {
		(void)fclose(out);
		free(*text);
		return NULL;
	}
	return fclose(out) == 0 ? *text : NULL;
}

char *pc_kept_to_text(const struct pc_kept *kept)
{
	char *text = NULL;
	size_t text_bytes;
	FILE *out = open_memstream(&text, &text_bytes);

	if (out == NULL)
		return NULL;
	fprintf(out, "v1 seed=%" PRIu64, kept->seed);
	for (uint32_t i = 0; i < pc_kept_member_nr; i++)
		fprintf(out, " %s=%" PRIu64, pc_kept_members[i].key, pc_kept_member_get(&kept->plan.shape, &pc_kept_members[i]));
	if (kept->plan.old_op_nr != 0)
		put_old_ops(out, &kept->plan);
	put_ops(out, "ops", kept->plan.ops, kept->plan.op_nr);
	if (kept->path.courses[0].event_nr != 0) {
		fputs(" events=", out);
		put_events(out, &kept->path.courses[0]);
	}
	for (uint32_t i = 0; i < kept->path.cut_nr; i++)
		put_cut(out, &kept->path.cuts[i], &kept->path.courses[i + 1]);
	return take(out, &text);
}

char *pc_kept_words_to_text(const struct pc_crash_some *some)
{
	char *text = NULL;
	size_t text_bytes;
	FILE *out = open_memstream(&text, &text_bytes);

	if (out == NULL)
		return NULL;
	put_some(out, some);
	return take(out, &text);
}

char *pc_kept_events_to_text(const struct pc_crash_course *course)
{
	char *text = NULL;
	size_t text_bytes;
	FILE *out = open_memstream(&text, &text_bytes);

	if (out == NULL)
		return NULL;
	put_events(out, course);
	return take(out, &text);
}

/* --- parsing --- */

struct parse {
	const char *at;
	const char *token; /* begin of the one being read, for messages */
	char *error;
	size_t error_bytes;
};

static bool wrong(struct parse *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool wrong(struct parse *p, const char *fmt, ...)
{
	const int shown = (int)PC_MIN(strcspn(p->token, " \n"), (size_t)60);
	va_list args;
	size_t used;

	if (p->error_bytes == 0)
		return false;
	va_start(args, fmt);
	vsnprintf(p->error, p->error_bytes, fmt, args);
	va_end(args);
	used = strlen(p->error);
	snprintf(p->error + used, p->error_bytes - used, ", in \"%.*s\", at \"%.12s\"", shown, p->token, p->at);
	return false;
}

static bool is_char(struct parse *p, char c)
{
	if (*p->at != c)
		return false;
	p->at++;
	return true;
}

/* Decimal digits, no sign, no zero in front. */
static bool number(struct parse *p, uint64_t max, uint64_t *out_value)
{
	uint64_t value = 0;

	if (*p->at < '0' || *p->at > '9')
		return wrong(p, "a number was expected");
	if (p->at[0] == '0' && p->at[1] >= '0' && p->at[1] <= '9')
		return wrong(p, "a number with a zero in front");
	for (; *p->at >= '0' && *p->at <= '9'; p->at++) {
		const uint64_t digit = (uint64_t)(*p->at - '0');

		if (value > (UINT64_MAX - digit) / 10 || value * 10 + digit > max)
			return wrong(p, "the number is above %" PRIu64, max);
		value = value * 10 + digit;
	}
	*out_value = value;
	return true;
}

static bool number32(struct parse *p, uint32_t max, uint32_t *out_value)
{
	uint64_t value;

	if (!number(p, max, &value))
		return false;
	*out_value = (uint32_t)value;
	return true;
}

static bool ends(const struct parse *p)
{
	return *p->at == ' ' || *p->at == '\0';
}

static bool must_end(struct parse *p)
{
	return ends(p) || wrong(p, "the value should end here");
}

static bool takes_ranges(enum pc_gen_kind kind)
{
	switch (kind) {
	case PC_GEN_WRITE:
	case PC_GEN_DURABLE:
	case PC_GEN_BATCH:
	case PC_GEN_DISCARD:
	case PC_GEN_ZEROES:
	case PC_GEN_READ:
		return true;
	default:
		return false;
	}
}

static bool op_kind(struct parse *p, enum pc_gen_kind *out_kind)
{
	const size_t len = strspn(p->at, "abcdefghijklmnopqrstuvwxyz_");

	for (uint32_t kind = 0; kind < PC_GEN_KIND_NR; kind++) {
		if (strlen(op_names[kind]) == len && strncmp(op_names[kind], p->at, len) == 0) {
			*out_kind = (enum pc_gen_kind)kind;
			p->at += len;
			return true;
		}
	}
	return wrong(p, "no such operation");
}

static bool one_op(struct parse *p, struct pc_gen_op *op)
{
	memset(op, 0, sizeof(*op));
	if (!op_kind(p, &op->kind))
		return false;
	if (takes_ranges(op->kind)) {
		if (!is_char(p, ':'))
			return wrong(p, "a range was expected");
		do {
			struct pc_gen_range *range = &op->ranges[op->range_nr];

			if (op->range_nr == (op->kind == PC_GEN_BATCH ? PC_GEN_RANGE_NR_MAX : 1u))
				return wrong(p, "too many ranges");
			if (!number32(p, PC_ORACLE_BLOCK_NR_MAX - 1, &range->blk))
				return false;
			if (!is_char(p, '+'))
				return wrong(p, "+ and a length were expected");
			if (!number32(p, PC_ORACLE_BLOCK_NR_MAX, &range->len_blk))
				return false;
			if (range->len_blk == 0)
				return wrong(p, "an empty range");
			op->range_nr++;
		} while (is_char(p, '/'));
	}
	return !is_char(p, '@') || number32(p, UINT32_MAX, &op->arg);
}

static bool op_list(struct parse *p, struct pc_gen_op *ops, uint32_t max, uint32_t *out_nr)
{
	*out_nr = 0;
	if (is_char(p, '-'))
		return must_end(p);
	do {
		if (*out_nr == max)
			return wrong(p, "more than %u operations", max);
		if (!one_op(p, &ops[*out_nr]))
			return false;
		(*out_nr)++;
	} while (is_char(p, ','));
	return must_end(p);
}

static bool event_list(struct parse *p, struct pc_crash_course *course)
{
	course->event_nr = 0;
	if (is_char(p, '-'))
		return must_end(p);
	do {
		struct pc_crash_event *event = &course->events[course->event_nr];

		if (course->event_nr == PC_CRASH_EVENT_NR_MAX)
			return wrong(p, "more than %u events", PC_CRASH_EVENT_NR_MAX);
		if (*p->at == '\0' || strchr("bfrpdmx", *p->at) == NULL)
			return wrong(p, "an event is b, f, r, p, d, m or x");
		event->kind = (uint8_t)*p->at++;
		if (!number32(p, UINT32_MAX, &event->step))
			return false;
		if (!is_char(p, '.'))
			return wrong(p, "a dot was expected");
		if (!number32(p, UINT32_MAX, &event->nr))
			return false;
		course->event_nr++;
	} while (is_char(p, ','));
	return must_end(p);
}

static bool some_runs(struct parse *p, struct pc_crash_some *some)
{
	uint64_t least = 0;

	do {
		uint32_t first;
		uint32_t last;

		if (some->run_nr == PC_CRASH_RUN_NR_MAX)
			return wrong(p, "more than %u runs", PC_CRASH_RUN_NR_MAX);
		if (!number32(p, INT32_MAX, &first))
			return false;
		last = first;
		if (is_char(p, '.') && (!is_char(p, '.') || !number32(p, INT32_MAX, &last)))
			return wrong(p, "a run is FIRST or FIRST..LAST");
		if (first < least || last < first)
			return wrong(p, "runs must ascend");
		some->runs[some->run_nr].first = first;
		some->runs[some->run_nr++].nr = last - first + 1;
		least = (uint64_t)last + 1;
	} while (is_char(p, '/'));
	return true;
}

static bool some_of(struct parse *p, struct pc_crash_some *some)
{
	some->run_nr = 0;
	if (strncmp(p->at, "all", 3) == 0) {
		some->rest = true;
		p->at += 3;
	} else if (strncmp(p->at, "none", 4) == 0) {
		some->rest = false;
		p->at += 4;
	} else {
		return wrong(p, "all or none was expected");
	}
	if (is_char(p, some->rest ? '-' : '+') && !some_runs(p, some))
		return false;
	return must_end(p);
}

/* Takes "key=" off the text. */
static bool is_key(struct parse *p, const char *key)
{
	const size_t len = strlen(key);

	if (strncmp(p->at, key, len) != 0 || p->at[len] != '=')
		return false;
	p->at += len + 1;
	return true;
}

enum plan_key { HAS_SEED = 1, HAS_OLD = 2, HAS_OPS = 4, HAS_EVENTS = 8 };
enum cut_key { HAS_KILLED = 1, HAS_WORDS = 2, HAS_DISK = 4, HAS_BIT = 8, HAS_THEN = 16, HAS_CUT_EVENTS = 32 };

static bool once(struct parse *p, uint32_t *has, uint32_t bit)
{
	if ((*has & bit) != 0)
		return wrong(p, "given twice");
	*has |= bit;
	return true;
}

static bool shape_token(struct parse *p, struct pc_gen_shape *shape, uint32_t *has)
{
	for (uint32_t i = 0; i < pc_kept_member_nr; i++) {
		const struct pc_kept_member *member = &pc_kept_members[i];
		uint64_t value;

		if (!is_key(p, member->key))
			continue;
		if (!once(p, has, 1u << i) || !number(p, member->max, &value))
			return false;
		pc_kept_member_set(shape, member, value);
		return must_end(p);
	}
	return wrong(p, "no such key");
}

static bool plan_token(struct parse *p, struct pc_kept *kept, uint32_t *has, uint32_t *has_member)
{
	struct pc_crash_plan *plan = &kept->plan;

	if (is_key(p, "seed"))
		return once(p, has, HAS_SEED) && number(p, UINT64_MAX, &kept->seed) && must_end(p);
	if (is_key(p, "old"))
		return once(p, has, HAS_OLD) && op_list(p, plan->old_ops, PC_CRASH_OLD_OP_NR_MAX, &plan->old_op_nr);
	if (is_key(p, "ops"))
		return once(p, has, HAS_OPS) && op_list(p, plan->ops, PC_CRASH_OP_NR_MAX, &plan->op_nr);
	if (is_key(p, "events"))
		return once(p, has, HAS_EVENTS) && event_list(p, &kept->path.courses[0]);
	return shape_token(p, &plan->shape, has_member);
}

static bool begin_cut(struct parse *p, struct pc_crash_path *path, uint32_t *has)
{
	struct pc_crash_cut *cut = &path->cuts[path->cut_nr];

	if (path->cut_nr == PC_CRASH_DEPTH_MAX)
		return wrong(p, "more than %u power cuts", PC_CRASH_DEPTH_MAX);
	path->cut_nr++;
	*has = 0;
	cut->words.rest = true;
	cut->disk.rest = true;
	if (!number32(p, UINT32_MAX, &cut->step))
		return false;
	if (!is_char(p, '.'))
		return wrong(p, "a dot and the crash point were expected");
	return number32(p, UINT32_MAX, &cut->point) && must_end(p);
}

static bool bit_token(struct parse *p, struct pc_crash_cut *cut)
{
	if (!number(p, 1u << 24, &cut->bit_off))
		return false;
	if (!is_char(p, '.'))
		return wrong(p, "a dot and the bit were expected");
	return number32(p, 7, &cut->bit) && must_end(p);
}

static bool cut_token(struct parse *p, struct pc_crash_path *path, uint32_t *has)
{
	struct pc_crash_cut *cut = &path->cuts[path->cut_nr - 1];
	struct pc_crash_course *course = &path->courses[path->cut_nr];

	if (is_key(p, "words"))
		return once(p, has, HAS_WORDS) && some_of(p, &cut->words);
	if (is_key(p, "disk"))
		return once(p, has, HAS_DISK) && some_of(p, &cut->disk);
	if (is_key(p, "bit"))
		return once(p, has, HAS_BIT) && bit_token(p, cut);
	if (is_key(p, "then"))
		return once(p, has, HAS_THEN) && op_list(p, course->ops, PC_CRASH_COURSE_OP_NR_MAX, &course->op_nr);
	if (is_key(p, "events"))
		return once(p, has, HAS_CUT_EVENTS) && event_list(p, course);
	if (strncmp(p->at, "killed", 6) == 0 && (p->at[6] == ' ' || p->at[6] == '\0')) {
		p->at += 6;
		cut->killed = true;
		return once(p, has, HAS_KILLED);
	}
	return wrong(p, "no such key of a power cut");
}

/* Members that came later: a line without them means 0. */
static bool may_miss(const struct pc_kept_member *member)
{
	return strcmp(member->key, "byte") == 0 || strcmp(member->key, "high") == 0 || strcmp(member->key, "flush_fault_pct") == 0;
}

static bool missing(struct parse *p, uint32_t has, uint32_t has_member)
{
	p->token = p->at = "";
	for (uint32_t i = 0; i < pc_kept_member_nr; i++) {
		if ((has_member & 1u << i) == 0 && !may_miss(&pc_kept_members[i]))
			return !wrong(p, "%s= is missing", pc_kept_members[i].key);
	}
	if ((has & HAS_SEED) == 0)
		return !wrong(p, "seed= is missing");
	if ((has & HAS_OPS) == 0)
		return !wrong(p, "ops= is missing");
	return false;
}

bool pc_kept_from_text(const char *text, struct pc_kept *out_kept, char *error, size_t error_bytes)
{
	struct parse p = {.at = text, .token = text, .error = error, .error_bytes = error_bytes};
	uint32_t has = 0;
	uint32_t has_member = 0;
	uint32_t has_of_cut = 0;

	memset(out_kept, 0, sizeof(*out_kept));
	if (strncmp(text, "v1", 2) != 0 || (text[2] != ' ' && text[2] != '\0'))
		return wrong(&p, "the text does not begin with v1");
	p.at += 2;
	while (*p.at != '\0') {
		bool ok;

		if (!is_char(&p, ' '))
			return wrong(&p, "a space was expected");
		p.token = p.at;
		if (is_key(&p, "cut"))
			ok = begin_cut(&p, &out_kept->path, &has_of_cut);
		else if (out_kept->path.cut_nr != 0)
			ok = cut_token(&p, &out_kept->path, &has_of_cut);
		else
			ok = plan_token(&p, out_kept, &has, &has_member);
		if (!ok)
			return false;
	}
	if (missing(&p, has, has_member))
		return false;
	out_kept->plan.shape.op_nr = out_kept->plan.op_nr;
	return pc_kept_plan_fits(&out_kept->plan, error, error_bytes);
}

bool pc_kept_words_from_text(const char *text, struct pc_crash_some *out_some)
{
	char error[8];
	struct parse p = {.at = text, .token = text, .error = error, .error_bytes = sizeof(error)};

	return some_of(&p, out_some) && *p.at == '\0';
}

bool pc_kept_events_from_text(const char *text, struct pc_crash_course *course)
{
	char error[8];
	struct parse p = {.at = text, .token = text, .error = error, .error_bytes = sizeof(error)};

	return event_list(&p, course) && *p.at == '\0';
}

/* --- does it fit --- */

static bool unfit(char *error, size_t error_bytes, const char *text)
{
	if (error_bytes != 0)
		snprintf(error, error_bytes, "%s", text);
	return false;
}

static bool ops_fit(const struct pc_gen_op *ops, uint32_t op_nr, uint32_t backing_blk)
{
	for (uint32_t i = 0; i < op_nr; i++) {
		for (uint32_t j = 0; j < ops[i].range_nr; j++) {
			if (ops[i].ranges[j].blk >= backing_blk || ops[i].ranges[j].len_blk > backing_blk - ops[i].ranges[j].blk)
				return false;
		}
	}
	return true;
}

bool pc_kept_plan_fits(const struct pc_crash_plan *plan, char *error, size_t error_bytes)
{
	const struct pc_gen_shape *shape = &plan->shape;
	uint64_t zone_bytes = 4 * 4096;

	if (shape->block_bytes != 512 && shape->block_bytes != 4096)
		return unfit(error, error_bytes, "block is 512 or 4096");
	if (!pc_is_pow2(shape->segment_bytes) || shape->segment_bytes < 4096)
		return unfit(error, error_bytes, "segment is a power of two from 4096");
	if (!pc_is_pow2(shape->shard_nr) || !pc_is_pow2(shape->stripe_bytes) || shape->stripe_bytes < 4096)
		return unfit(error, error_bytes, "shards is a power of two, and stripe is one from 4096");
	zone_bytes += 2 * 4096 + 2 * (uint64_t)shape->segment_bytes; /* more than enough for records and gap */
	if (shape->media_bytes % 4096 != 0 || shape->media_bytes < zone_bytes + 8 * (uint64_t)shape->segment_bytes)
		return unfit(error, error_bytes, "media is a multiple of 4096 with room for ten segments and the zones");
	if (shape->backing_blk == 0)
		return unfit(error, error_bytes, "backing is empty");
	if (plan->old_op_nr != 0 && !shape->old_cache)
		return unfit(error, error_bytes, "old= without old_cache=1");
	if (!ops_fit(plan->ops, plan->op_nr, shape->backing_blk) || !ops_fit(plan->old_ops, plan->old_op_nr, shape->backing_blk))
		return unfit(error, error_bytes, "an operation reaches beyond the backing");
	return true;
}
