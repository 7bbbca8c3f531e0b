/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reducer, see reduce.h. Passes over everything that a violation is made of, each in ever smaller groups, until a whole round changes nothing.
 *
 * A change of the operations may move the crash point, or the number of its pending words. So if the path itself does not fail any more, its power cuts are looked for
 * again nearby: at each crash point of the same step, with the same words, with none and with all.
 */
#include "sim/reduce.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define POINT_NR_MAX 24u /* crash points of a step that are tried */

struct reduce {
	struct pc_kept *best;
	struct pc_kept *next; /* the attempt */
	struct pc_crash_result *result; /* of best */
	struct pc_crash_result *attempt_result;
	pc_reduce_attempt attempt;
	uint32_t tries;
	uint32_t tries_max;
	bool changed; /* in this round */
};

/* --- attempts --- */

void pc_reduce_here(const struct pc_kept *kept, struct pc_crash_result *out_result)
{
	const struct pc_crash_settings settings = {
		.seed = kept->seed, .plan = &kept->plan, .path = &kept->path, .depth = PC_MAX(kept->path.cut_nr, 1u)};

	pc_crash_run(&settings, out_result);
}

void pc_reduce_forked(const struct pc_kept *kept, struct pc_crash_result *out_result)
{
	struct pc_crash_result *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = 0;
	pid_t child;

	if (shared == MAP_FAILED)
		abort();
	child = fork();
	if (child < 0)
		abort();
	if (child == 0) {
		static const int deadly[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGALRM, SIGPROF};

		for (size_t i = 0; i < PC_ARRAY_NR(deadly); i++)
			(void)signal(deadly[i], SIG_DFL);
		if (freopen("/dev/null", "w", stderr) == NULL)
			_exit(2);
		pc_reduce_here(kept, shared);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child)
		abort();
	*out_result = *shared;
	(void)munmap(shared, sizeof(*shared));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return;
	out_result->failed = true;
	out_result->path = kept->path;
	if (WIFSIGNALED(status))
		snprintf(out_result->text, sizeof(out_result->text), "  WRONG: died of signal %d", WTERMSIG(status));
	else
		snprintf(out_result->text, sizeof(out_result->text), "  WRONG: ended with status %d", WEXITSTATUS(status));
}

static const char *wrong_of(const struct pc_crash_result *result)
{
	const char *at = strstr(result->text, "WRONG: ");

	return at == NULL ? "" : at;
}

bool pc_reduce_same_kind(const struct pc_crash_result *a, const struct pc_crash_result *b)
{
	const char *wrong_a = wrong_of(a);
	const char *wrong_b = wrong_of(b);
	const size_t len = strcspn(wrong_a, "0123456789");

	return a->failed && b->failed && strcspn(wrong_b, "0123456789") == len && strncmp(wrong_a, wrong_b, len) == 0;
}

static bool fails(struct reduce *r)
{
	char error[8];

	if (r->tries >= r->tries_max || !pc_kept_plan_fits(&r->next->plan, error, sizeof(error)))
		return false;
	r->tries++;
	r->attempt(r->next, r->attempt_result);
	return pc_reduce_same_kind(r->result, r->attempt_result);
}

static bool accept(struct reduce *r)
{
	struct pc_kept *kept = r->best;
	struct pc_crash_result *result = r->result;
	char error[8];

	/* What was done in fact: shorter if it failed before the end of the path. */
	r->next->path = r->attempt_result->path;
	if (!pc_kept_plan_fits(&r->next->plan, error, sizeof(error)))
		return false;
	r->best = r->next;
	r->next = kept;
	r->result = r->attempt_result;
	r->attempt_result = result;
	r->changed = true;
	return true;
}

static void all_of(struct pc_crash_some *some, bool rest)
{
	some->rest = rest;
	some->run_nr = 0;
}

/* The same power cut at another crash point of its step, or with none or all of the words. */
static bool fails_nearby(struct reduce *r, uint32_t cut_idx)
{
	struct pc_crash_cut *cut = &r->next->path.cuts[cut_idx];
	static struct pc_crash_cut old;
	bool found = false;

	old = *cut;
	for (uint32_t point = 1; point <= POINT_NR_MAX && !found; point++) {
		cut->point = point;
		found = fails(r);
		if (r->attempt_result->cuts_reached <= cut_idx && point > old.point)
			break; /* the step has no more points */
		for (uint32_t i = 0; i < 2 && !found && !cut->killed && r->attempt_result->cuts_reached > cut_idx; i++) {
			all_of(&cut->words, i != 0);
			found = fails(r);
		}
		cut->words = old.words;
	}
	if (!found)
		*cut = old;
	return found;
}

/* Takes next if it fails; moved: its power cuts may lie elsewhere now. */
static bool take(struct reduce *r, bool moved)
{
	if (fails(r))
		return accept(r);
	for (uint32_t i = 0; moved && i < r->next->path.cut_nr; i++) {
		if (fails_nearby(r, i))
			return accept(r);
	}
	return false;
}

static struct pc_kept *begin(struct reduce *r)
{
	*r->next = *r->best;
	return r->next;
}

/* --- operations --- */

/* Steps above first (and up to first + nr) of a world lose nr operations. */
static void shift_world(struct pc_kept *kept, uint32_t world, uint32_t first, uint32_t nr)
{
	struct pc_crash_course *course = &kept->path.courses[world];
	uint32_t event_nr = 0;

	for (uint32_t i = 0; i < course->event_nr; i++) {
		struct pc_crash_event event = course->events[i];

		if (event.step > first && event.step <= first + nr)
			continue;
		if (event.step > first)
			event.step -= nr;
		course->events[event_nr++] = event;
	}
	course->event_nr = event_nr;
	if (world < kept->path.cut_nr && kept->path.cuts[world].step > first)
		kept->path.cuts[world].step -= PC_MIN(nr, kept->path.cuts[world].step - first - 1);
}

static struct pc_gen_op *ops_of(struct pc_kept *kept, uint32_t world, uint32_t **out_nr)
{
	if (world == 0) {
		*out_nr = &kept->plan.op_nr;
		return kept->plan.ops;
	}
	*out_nr = &kept->path.courses[world].op_nr;
	return kept->path.courses[world].ops;
}

static void drop_ops(struct pc_kept *kept, uint32_t world, uint32_t first, uint32_t nr)
{
	uint32_t *op_nr;
	struct pc_gen_op *ops = ops_of(kept, world, &op_nr);

	memmove(&ops[first], &ops[first + nr], (*op_nr - first - nr) * sizeof(*ops));
	*op_nr -= nr;
	shift_world(kept, world, first, nr);
	kept->plan.shape.op_nr = kept->plan.op_nr;
	kept->plan.shape.warm_nr = 0;
}

/* What comes after the power cut (or after the violation) is never run. */
static void trim(struct pc_kept *kept, uint32_t failed_op)
{
	if (kept->path.cut_nr != 0)
		kept->plan.op_nr = PC_MIN(kept->plan.op_nr, kept->path.cuts[0].step);
	else
		kept->plan.op_nr = PC_MIN(kept->plan.op_nr, failed_op + 1);
	kept->plan.shape.op_nr = kept->plan.op_nr;
}

static void reduce_ops(struct reduce *r, uint32_t world)
{
	uint32_t *op_nr;

	(void)ops_of(r->best, world, &op_nr);
	for (uint32_t group = PC_MAX(*op_nr / 2, 1u);; group /= 2) {
		for (uint32_t first = 0; first < *op_nr;) {
			const uint32_t nr = PC_MIN(group, *op_nr - first);
			bool taken;

			drop_ops(begin(r), world, first, nr);
			taken = take(r, group <= 4);
			if (world > r->best->path.cut_nr)
				return;
			(void)ops_of(r->best, world, &op_nr);
			if (!taken)
				first += nr;
		}
		if (group <= 1)
			return;
	}
}

static void reduce_old_ops(struct reduce *r)
{
	struct pc_kept *kept = begin(r);

	if (!kept->plan.shape.old_cache)
		return;
	kept->plan.shape.old_cache = false;
	kept->plan.old_op_nr = 0;
	if (take(r, true))
		return;
	for (uint32_t group = PC_MAX(r->best->plan.old_op_nr / 2, 1u); group > 0; group /= 2) {
		for (uint32_t first = 0; first < r->best->plan.old_op_nr;) {
			const uint32_t nr = PC_MIN(group, r->best->plan.old_op_nr - first);

			kept = begin(r);
			memmove(&kept->plan.old_ops[first], &kept->plan.old_ops[first + nr],
				(kept->plan.old_op_nr - first - nr) * sizeof(kept->plan.old_ops[0]));
			kept->plan.old_op_nr -= nr;
			if (!take(r, group <= 2))
				first += nr;
		}
	}
}

/* The next simpler form of an operation, or false. nth: which of them. */
static bool simpler_op(struct pc_gen_op *op, uint32_t nth)
{
	if (nth < PC_GEN_RANGE_NR_MAX) {
		if (op->kind != PC_GEN_BATCH || op->range_nr < 2 || nth >= op->range_nr)
			return false;
		memmove(&op->ranges[nth], &op->ranges[nth + 1], (op->range_nr - nth - 1) * sizeof(op->ranges[0]));
		op->range_nr--;
		return true;
	}
	if (nth == PC_GEN_RANGE_NR_MAX && op->range_nr == 1 && op->kind != PC_GEN_WRITE && op->kind != PC_GEN_READ) {
		op->kind = PC_GEN_WRITE;
		op->arg = 0;
		return true;
	}
	if (nth == PC_GEN_RANGE_NR_MAX + 1 && op->arg > 1) {
		op->arg = 1;
		return true;
	}
	if (nth == PC_GEN_RANGE_NR_MAX + 2 && op->arg != 0 && op->kind != PC_GEN_MAINTAIN) {
		op->arg = 0;
		return true;
	}
	return false;
}

static void reduce_kinds(struct reduce *r, uint32_t world)
{
	uint32_t *op_nr;

	(void)ops_of(r->best, world, &op_nr);
	for (uint32_t i = 0; world <= r->best->path.cut_nr && i < *op_nr; i++) {
		for (uint32_t nth = 0; nth < PC_GEN_RANGE_NR_MAX + 3 && i < *op_nr; nth++) {
			struct pc_gen_op *ops = ops_of(begin(r), world, &op_nr);

			if (simpler_op(&ops[i], nth))
				(void)take(r, true);
			(void)ops_of(r->best, world, &op_nr);
		}
	}
}

/* --- ranges --- */

/* Tries one other range; range_idx of operation op_idx. */
static bool try_range(struct reduce *r, uint32_t world, uint32_t op_idx, uint32_t range_idx, struct pc_gen_range range)
{
	uint32_t *op_nr;
	struct pc_gen_op *ops = ops_of(begin(r), world, &op_nr);

	if (op_idx >= *op_nr || range_idx >= ops[op_idx].range_nr || range.len_blk == 0)
		return false;
	if (range.blk == ops[op_idx].ranges[range_idx].blk && range.len_blk == ops[op_idx].ranges[range_idx].len_blk)
		return false;
	ops[op_idx].ranges[range_idx] = range;
	return take(r, true);
}

static void reduce_range(struct reduce *r, uint32_t world, uint32_t op_idx, uint32_t range_idx)
{
	uint32_t *op_nr;
	struct pc_gen_range range = ops_of(r->best, world, &op_nr)[op_idx].ranges[range_idx];

	if (range.len_blk == 1 && range.blk == 0)
		return;
	if (try_range(r, world, op_idx, range_idx, (struct pc_gen_range){range.blk, 1}) ||
	    try_range(r, world, op_idx, range_idx, (struct pc_gen_range){range.blk, range.len_blk / 2}) ||
	    try_range(r, world, op_idx, range_idx, (struct pc_gen_range){range.blk, range.len_blk - 1}) ||
	    try_range(r, world, op_idx, range_idx, (struct pc_gen_range){range.blk + 1, range.len_blk - 1}))
		return;
	(void)try_range(r, world, op_idx, range_idx, (struct pc_gen_range){0, range.len_blk});
}

static void reduce_ranges(struct reduce *r)
{
	for (uint32_t world = 0; world <= r->best->path.cut_nr; world++) {
		uint32_t *op_nr;

		(void)ops_of(r->best, world, &op_nr);
		for (uint32_t i = 0; world <= r->best->path.cut_nr && i < *op_nr; i++) {
			for (uint32_t j = 0; i < *op_nr && j < ops_of(r->best, world, &op_nr)[i].range_nr; j++) {
				reduce_range(r, world, i, j);
				if (world > r->best->path.cut_nr)
					return;
				(void)ops_of(r->best, world, &op_nr);
			}
		}
	}
}

/* Moves everything to the front of the backing. */
static void reduce_offsets(struct reduce *r)
{
	struct pc_kept *kept = begin(r);
	uint32_t least = UINT32_MAX;

	for (uint32_t pass = 0; pass < 2; pass++) {
		for (uint32_t world = 0; world <= kept->path.cut_nr; world++) {
			uint32_t *op_nr;
			struct pc_gen_op *ops = ops_of(kept, world, &op_nr);

			for (uint32_t i = 0; i < *op_nr; i++) {
				for (uint32_t j = 0; j < ops[i].range_nr; j++) {
					if (pass == 0)
						least = PC_MIN(least, ops[i].ranges[j].blk);
					else
						ops[i].ranges[j].blk -= least;
				}
			}
		}
		if (least == 0 || least == UINT32_MAX)
			return;
	}
	(void)take(r, true);
}

/* --- the path --- */

/* Without power cut idx: the world before it goes on with what the one after it did. */
static bool join_worlds(struct pc_kept *kept, uint32_t idx)
{
	struct pc_crash_path *path = &kept->path;
	const struct pc_crash_course *course = &path->courses[idx + 1];
	const uint32_t step = path->cuts[idx].step;
	uint32_t *op_nr;
	struct pc_gen_op *ops = ops_of(kept, idx, &op_nr);
	const uint32_t max = idx == 0 ? PC_CRASH_OP_NR_MAX : PC_CRASH_COURSE_OP_NR_MAX;

	*op_nr = PC_MIN(*op_nr, step);
	if (*op_nr + course->op_nr > max)
		return false;
	memcpy(&ops[*op_nr], course->ops, course->op_nr * sizeof(*ops));
	if (idx + 1 < path->cut_nr)
		path->cuts[idx + 1].step += *op_nr;
	*op_nr += course->op_nr;
	memmove(&path->cuts[idx], &path->cuts[idx + 1], (path->cut_nr - idx - 1) * sizeof(path->cuts[0]));
	memmove(&path->courses[idx + 1], &path->courses[idx + 2], (path->cut_nr - idx - 1) * sizeof(path->courses[0]));
	path->cut_nr--;
	kept->plan.shape.op_nr = kept->plan.op_nr;
	return true;
}

static void reduce_cuts(struct reduce *r)
{
	for (uint32_t i = 0; i < r->best->path.cut_nr;) {
		if (!join_worlds(begin(r), i) || !take(r, true))
			i++;
	}
}

static void reduce_events(struct reduce *r)
{
	for (uint32_t world = 0; world <= r->best->path.cut_nr; world++) {
		for (uint32_t i = 0; world <= r->best->path.cut_nr && i < r->best->path.courses[world].event_nr;) {
			struct pc_crash_course *course = &begin(r)->path.courses[world];

			memmove(&course->events[i], &course->events[i + 1], (course->event_nr - i - 1) * sizeof(course->events[0]));
			course->event_nr--;
			if (!take(r, false))
				i++;
		}
	}
}

static struct pc_crash_some *some_of(struct pc_kept *kept, uint32_t cut_idx, bool disk)
{
	return disk ? &kept->path.cuts[cut_idx].disk : &kept->path.cuts[cut_idx].words;
}

/* Fewer exceptions: whole runs first, then halves of runs. */
static void reduce_some(struct reduce *r, uint32_t cut_idx, bool disk)
{
	for (uint32_t rest = 0; rest < 2; rest++) {
		if (some_of(r->best, cut_idx, disk)->run_nr == 0)
			return;
		all_of(some_of(begin(r), cut_idx, disk), rest != 0);
		if (take(r, false))
			return;
	}
	for (uint32_t i = 0; cut_idx < r->best->path.cut_nr && i < some_of(r->best, cut_idx, disk)->run_nr;) {
		struct pc_crash_some *some = some_of(begin(r), cut_idx, disk);
		const uint32_t nr = some->runs[i].nr;

		memmove(&some->runs[i], &some->runs[i + 1], (some->run_nr - i - 1) * sizeof(some->runs[0]));
		some->run_nr--;
		if (take(r, false))
			continue;
		if (nr > 1) {
			some = some_of(begin(r), cut_idx, disk);
			some->runs[i].nr = nr / 2;
			if (take(r, false))
				continue;
			some = some_of(begin(r), cut_idx, disk);
			some->runs[i].first += nr / 2;
			some->runs[i].nr -= nr / 2;
			if (take(r, false))
				continue;
		}
		i++;
	}
}

static void reduce_images(struct reduce *r)
{
	for (uint32_t i = 0; i < r->best->path.cut_nr; i++) {
		if (r->best->path.cuts[i].killed) {
			struct pc_crash_cut *cut = &begin(r)->path.cuts[i];

			cut->killed = false;
			all_of(&cut->words, true);
			all_of(&cut->disk, true);
			(void)take(r, false);
		}
		if (i < r->best->path.cut_nr && r->best->path.cuts[i].bit_off != 0) {
			begin(r)->path.cuts[i].bit_off = 0;
			(void)take(r, false);
		}
		for (uint32_t disk = 0; disk < 2; disk++) {
			if (i < r->best->path.cut_nr && !r->best->path.cuts[i].killed)
				reduce_some(r, i, disk != 0);
		}
	}
}

/* --- the cache --- */

static void try_member(struct reduce *r, const struct pc_kept_member *member, uint64_t value)
{
	if (pc_kept_member_get(&r->best->plan.shape, member) == value)
		return;
	pc_kept_member_set(&begin(r)->plan.shape, member, value);
	(void)take(r, true);
}

static void reduce_shape(struct reduce *r)
{
	for (uint32_t i = 0; i < pc_kept_member_nr; i++) {
		const struct pc_kept_member *member = &pc_kept_members[i];
		const uint64_t value = pc_kept_member_get(&r->best->plan.shape, member);

		try_member(r, member, member->simplest);
		if (member->max > 1 && value / 2 > member->simplest)
			try_member(r, member, value / 2);
	}
	/* Fewer segments, one at a time. */
	for (uint32_t i = 0; i < 40; i++) {
		struct pc_gen_shape *shape = &begin(r)->plan.shape;

		shape->media_bytes -= PC_MIN(shape->media_bytes, (uint64_t)PC_MAX(shape->segment_bytes, 4096u));
		if (!take(r, true))
			break;
	}
}

/* --- all of it --- */

static void one_round(struct reduce *r)
{
	r->changed = false;
	reduce_images(r);
	reduce_cuts(r);
	for (uint32_t world = 0; world <= r->best->path.cut_nr; world++)
		reduce_ops(r, world);
	reduce_old_ops(r);
	reduce_events(r);
	for (uint32_t world = 0; world <= r->best->path.cut_nr; world++)
		reduce_kinds(r, world);
	reduce_ranges(r);
	reduce_offsets(r);
	reduce_shape(r);
}

void pc_reduce(struct pc_kept *kept, struct pc_crash_result *result, pc_reduce_attempt attempt, uint32_t tries_max, struct pc_reduce_stats *out_stats)
{
	struct pc_kept *kept_spare = malloc(sizeof(*kept_spare));
	struct pc_crash_result *result_spare = malloc(sizeof(*result_spare));
	struct reduce r = {.best = kept, .next = kept_spare, .result = result, .attempt_result = result_spare, .attempt = attempt, .tries_max = tries_max};

	if (kept_spare == NULL || result_spare == NULL)
		abort();
	*out_stats = (struct pc_reduce_stats){.op_nr_before = kept->plan.op_nr};
	for (uint32_t i = 0; i < kept->path.cut_nr; i++)
		out_stats->word_runs_before += kept->path.cuts[i].words.run_nr;
	*r.next = *r.best;
	trim(r.next, result->failed_op);
	(void)take(&r, false);
	do {
		one_round(&r);
	} while (r.changed && r.tries < r.tries_max);
	out_stats->tries = r.tries;
	if (r.best != kept)
		*kept = *r.best;
	if (r.result != result)
		*result = *r.result;
	free(kept_spare);
	free(result_spare);
}

/* --- table --- */

static void print_op(const char *indent, uint32_t step, const struct pc_gen_op *op)
{
	char text[160];

	pc_gen_op_to_text(op, text, sizeof(text));
	fprintf(stderr, "%s step %u: %s\n", indent, step, text);
}

static void print_events(const struct pc_crash_course *course)
{
	static const char *const names[128] = {
		[PC_CRASH_EVENT_FAULT] = "fails, call of the backing",
		[PC_CRASH_EVENT_DEAD] = "is dead from here on, call of the backing",
		[PC_CRASH_EVENT_RETRY] = "is full, drained and tried again, time",
		[PC_CRASH_EVENT_PROBE] = "is preceded by a read-only open",
		[PC_CRASH_EVENT_DRAIN] = "drains",
		[PC_CRASH_EVENT_DAMAGE] = "has its media damaged, seed",
		[PC_CRASH_EVENT_MODE] = "opens with these bits of the mode changed:",
	};

	for (uint32_t i = 0; i < course->event_nr; i++)
		fprintf(stderr, "      in step %u: %s %u\n", course->events[i].step, names[course->events[i].kind], course->events[i].nr);
}

void pc_reduce_print(const struct pc_kept *kept)
{
	char text[512];

	pc_gen_shape_to_text(&kept->plan.shape, text, sizeof(text));
	fprintf(stderr, "  cache: %s\n", text);
	for (uint32_t i = 0; i < kept->plan.old_op_nr; i++)
		print_op("   older cache,", i + 1, &kept->plan.old_ops[i]);
	for (uint32_t i = 0; i < kept->plan.op_nr; i++)
		print_op("  ", i + 1, &kept->plan.ops[i]);
	print_events(&kept->path.courses[0]);
	for (uint32_t i = 0; i < kept->path.cut_nr; i++) {
		const struct pc_crash_cut *cut = &kept->path.cuts[i];
		char *words = pc_kept_words_to_text(&cut->words);
		char *disk = pc_kept_words_to_text(&cut->disk);

		if (cut->killed)
			fprintf(stderr, "  KILLED in step %u at crash point %u\n", cut->step, cut->point);
		else
			fprintf(stderr, "  POWER CUT in step %u at crash point %u: of the pending words %s persist, of the disk's writes %s\n", cut->step,
				cut->point, words, disk);
		if (cut->bit_off != 0)
			fprintf(stderr, "      bit %u of byte %llu turns\n", cut->bit, (unsigned long long)cut->bit_off);
		for (uint32_t j = 0; j < kept->path.courses[i + 1].op_nr; j++)
			print_op("     then,", j + 1, &kept->path.courses[i + 1].ops[j]);
		print_events(&kept->path.courses[i + 1]);
		free(words);
		free(disk);
	}
}
