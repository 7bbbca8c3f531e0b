/* SPDX-License-Identifier: BSD-3-Clause */
/* Writes a violation as the source of a test, see kept.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/kept.h"

static const char *const kind_names[PC_GEN_KIND_NR] = {
	[PC_GEN_WRITE] = "WRITE", [PC_GEN_DURABLE] = "DURABLE",	    [PC_GEN_BATCH] = "BATCH",   [PC_GEN_FLUSH] = "FLUSH", [PC_GEN_DISCARD] = "DISCARD",
	[PC_GEN_ZEROES] = "ZEROES", [PC_GEN_READ] = "READ",	    [PC_GEN_WRITEBACK] = "WRITEBACK", [PC_GEN_EVICT] = "EVICT", [PC_GEN_CLEAN] = "CLEAN",
	[PC_GEN_MAINTAIN] = "MAINTAIN", [PC_GEN_DRAIN] = "DRAIN", [PC_GEN_REOPEN] = "REOPEN", [PC_GEN_CRASH] = "CRASH", [PC_GEN_GOES] = "GOES",
};

static void put_op(FILE *out, const struct pc_gen_op *op)
{
	const char *name = kind_names[op->kind];

	switch (op->kind) {
	case PC_GEN_WRITE:
		fprintf(out, "\tKEPT_%s%s(%u, %u),\n", name, op->arg != 0 ? "_NOWAIT" : "", op->ranges[0].blk, op->ranges[0].len_blk);
		break;
	case PC_GEN_DURABLE:
	case PC_GEN_DISCARD:
	case PC_GEN_ZEROES:
		fprintf(out, "\tKEPT_%s%s(%u, %u),\n", name, op->arg != 0 ? "_NOWAIT" : "", op->ranges[0].blk, op->ranges[0].len_blk);
		break;
	case PC_GEN_READ:
		fprintf(out, "\tKEPT_READ(%u, %u, %u),\n", op->ranges[0].blk, op->ranges[0].len_blk, op->arg);
		break;
	case PC_GEN_BATCH:
		fprintf(out, "\tKEPT_BATCH(%u, %u", op->arg, op->range_nr);
		for (uint32_t i = 0; i < op->range_nr; i++)
			fprintf(out, ", {%u, %u}", op->ranges[i].blk, op->ranges[i].len_blk);
		fprintf(out, "),\n");
		break;
	case PC_GEN_WRITEBACK:
	case PC_GEN_EVICT:
	case PC_GEN_CLEAN:
	case PC_GEN_MAINTAIN:
	case PC_GEN_CRASH:
	case PC_GEN_GOES:
		fprintf(out, "\tKEPT_%s(%u),\n", name, op->arg);
		break;
	default:
		fprintf(out, "\tKEPT_%s,\n", name);
		break;
	}
}

static void put_ops(FILE *out, const char *name, const struct pc_gen_op *ops, uint32_t op_nr)
{
	if (op_nr == 0)
		return;
	fprintf(out, "static const struct pc_gen_op %s[] = {\n", name);
	for (uint32_t i = 0; i < op_nr; i++)
		put_op(out, &ops[i]);
	fprintf(out, "};\n\n");
}

static void put_cut(FILE *out, uint32_t idx, const struct pc_crash_cut *cut, const struct pc_crash_course *course)
{
	char *words = pc_kept_words_to_text(&cut->words);
	char *disk = pc_kept_words_to_text(&cut->disk);
	char *events = pc_kept_events_to_text(course);

	if (words == NULL || disk == NULL || events == NULL)
		abort();
	fprintf(out, "\t{.step = %u, .point = %u", cut->step, cut->point);
	if (cut->killed)
		fprintf(out, ", .killed = true");
	else
		fprintf(out, ", .words = \"%s\", .disk = \"%s\"", words, disk);
	if (cut->bit_off != 0)
		fprintf(out, ", .bit_off = %" PRIu64 ", .bit = %u", cut->bit_off, cut->bit);
	if (course->op_nr != 0)
		fprintf(out, ", .then = then%u, .then_nr = PC_ARRAY_NR(then%u)", idx + 1, idx + 1);
	if (course->event_nr != 0)
		fprintf(out, ", .events = \"%s\"", events);
	fprintf(out, "},\n");
	free(words);
	free(disk);
	free(events);
}

static void put_cuts(FILE *out, const struct pc_crash_path *path)
{
	if (path->cut_nr == 0)
		return;
	for (uint32_t i = 0; i < path->cut_nr; i++) {
		char name[16];

		snprintf(name, sizeof(name), "then%u", i + 1);
		put_ops(out, name, path->courses[i + 1].ops, path->courses[i + 1].op_nr);
	}
	fprintf(out, "static const struct kept_cut cuts[] = {\n");
	for (uint32_t i = 0; i < path->cut_nr; i++)
		put_cut(out, i, &path->cuts[i], &path->courses[i + 1]);
	fprintf(out, "};\n\n");
}

/* Text as a string of C. */
static void put_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text != '\0'; text++) {
		if (*text == '\n') {
			fputs(text[1] == '\0' ? "" : "\\n\"\n\t       \"", out);
			continue;
		}
		if (*text == '"' || *text == '\\')
			fputc('\\', out);
		fputc(*text, out);
	}
	fputc('"', out);
}

static void put_case(FILE *out, const struct pc_kept *kept, const char *was)
{
	char *events = pc_kept_events_to_text(&kept->path.courses[0]);

	fprintf(out, "static const struct kept_case kept = {\n\t.was = ");
	put_string(out, was);
	fprintf(out, ",\n\t.seed = UINT64_C(%" PRIu64 "),\n\t.shape = {\n", kept->seed);
	for (uint32_t i = 0; i < pc_kept_member_nr; i++) {
		const uint64_t value = pc_kept_member_get(&kept->plan.shape, &pc_kept_members[i]);

		if (value != 0)
			fprintf(out, "\t\t.%s = %" PRIu64 ",\n", pc_kept_members[i].name, value);
	}
	fprintf(out, "\t},\n");
	if (kept->plan.old_op_nr != 0)
		fprintf(out, "\t.old_ops = old_ops,\n\t.old_op_nr = PC_ARRAY_NR(old_ops),\n");
	if (kept->plan.op_nr != 0)
		fprintf(out, "\t.ops = ops,\n\t.op_nr = PC_ARRAY_NR(ops),\n");
	if (kept->path.courses[0].event_nr != 0)
		fprintf(out, "\t.events = \"%s\",\n", events);
	if (kept->path.cut_nr != 0)
		fprintf(out, "\t.cuts = cuts,\n\t.cut_nr = PC_ARRAY_NR(cuts),\n");
	fprintf(out, "};\n\n");
	free(events);
}

bool kept_emit(const struct pc_kept *kept, const char *was, const char *file)
{
	FILE *out = fopen(file, "w");
	bool ok;

	if (out == NULL)
		return false;
	fprintf(out, "/* SPDX-License-Identifier: BSD-3-Clause */\n"
		     "/* A violation that the crash simulator found once; written by pcache-crash-sim --emit-test. The tables are what was left of it. */\n"
		     "#include <setjmp.h>\n#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\n\n#include <cmocka.h>\n\n#include \"sim/kept.h\"\n\n");
	put_ops(out, "old_ops", kept->plan.old_ops, kept->plan.old_op_nr);
	put_ops(out, "ops", kept->plan.ops, kept->plan.op_nr);
	put_cuts(out, &kept->path);
	put_case(out, kept, was);
	fprintf(out, "static void holds(void **state)\n{\n\tchar text[8192];\n\n\t(void)state;\n\tif (!kept_holds(&kept, text, sizeof(text)))\n"
		     "\t\tfail_msg(\"%%s\\nit was:\\n%%s\", text, kept.was);\n}\n\n"
		     "int main(void)\n{\n\tconst struct CMUnitTest tests[] = {cmocka_unit_test(holds)};\n\n"
		     "\treturn cmocka_run_group_tests(tests, NULL, NULL);\n}\n");
	ok = ferror(out) == 0;
	return fclose(out) == 0 && ok;
}
