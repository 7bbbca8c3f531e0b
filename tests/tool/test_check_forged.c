/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `pcache check` against forged images: for each rule at least one image that breaks it and no other, sealed again with right CRCs, and exactly one finding, of that rule,
 * at that offset. No rule is without an image, and the rules are those that docs/TOOL.md lists, word for word.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "pcache/errors.h"
#include "tool/forged.h"

#define KEPT_NR 16u

struct seen {
	uint32_t nr;
	struct {
		enum check_rule rule;
		enum check_severity severity;
		enum check_zone zone;
		uint64_t media_off;
		char text[256];
	} kept[KEPT_NR];
};

static void keep_finding(void *user, const struct check_finding *finding)
{
	struct seen *seen = user;

	assert_true(finding->rule > CHECK_OK && finding->rule < CHECK_RULE_NR);
	assert_true(finding->text[0] && !strchr(finding->text, '\n'));
	assert_true(finding->next[0] && !strchr(finding->next, '\n'));
	if (seen->nr < KEPT_NR) {
		seen->kept[seen->nr].rule = finding->rule;
		seen->kept[seen->nr].severity = finding->severity;
		seen->kept[seen->nr].zone = finding->zone;
		seen->kept[seen->nr].media_off = finding->media_off;
		snprintf(seen->kept[seen->nr].text, sizeof(seen->kept[0].text), "%s", finding->text);
	}
	seen->nr++;
}

static int check(struct forge *forge, struct seen *seen)
{
	const struct check_settings settings = { .finding = keep_finding, .user = seen };
	struct check_result result;

	memset(seen, 0, sizeof(*seen));
	return check_run(&forge->media.media, &settings, &result);
}

static void print_seen(const char *what, const struct seen *seen)
{
	static const char *const names[] = { "note", "repair", "damage" };

	print_error("%s: %u findings\n", what, seen->nr);
	for (uint32_t i = 0; i < PC_MIN(seen->nr, KEPT_NR); i++)
		print_error("  %s @0x%llx %s: %s\n", names[seen->kept[i].severity],
			    (unsigned long long)seen->kept[i].media_off, check_rule_number(seen->kept[i].rule),
			    seen->kept[i].text);
}

static enum check_zone zone_of(enum check_rule rule)
{
	switch (check_rule_number(rule)[0]) {
	case 'S':
		return CHECK_ZONE_SUPER;
	case 'T':
		return CHECK_ZONE_TAIL;
	case 'R':
		return CHECK_ZONE_SEGRECS;
	case 'K':
	case 'Y':
		return CHECK_ZONE_LOG;
	default:
		return CHECK_ZONE_NR; /* more than one is right */
	}
}

/* Each finding is either the one that is expected, which comes once, or of the rule that comes with it. */
static bool is_as_forged(const struct seen *seen, const struct forged *forged, uint64_t off)
{
	const enum check_zone zone = zone_of(forged->rule);
	uint32_t hit_nr = 0;

	if (seen->nr > KEPT_NR)
		return false;
	for (uint32_t i = 0; i < seen->nr; i++) {
		if (seen->kept[i].rule == forged->rule && seen->kept[i].severity == forged->severity &&
		    seen->kept[i].media_off == off &&
		    (zone == CHECK_ZONE_NR || seen->kept[i].zone == zone || forged->rule == CHECK_Y18))
			hit_nr++;
		else if (seen->kept[i].rule != forged->also || forged->also == CHECK_OK)
			return false;
	}
	return hit_nr == 1;
}

static uint32_t run_table(const struct forged *table, size_t nr)
{
	uint32_t wrong_nr = 0;

	for (size_t i = 0; i < nr; i++) {
		struct forge forge;
		struct seen seen;
		uint64_t off;
		char what[96];

		forge_sound(&forge, &forge_usual);
		off = table[i].spoil(&forge);
		assert_int_equal(check(&forge, &seen), 0);
		if (!is_as_forged(&seen, &table[i], off)) {
			snprintf(what, sizeof(what), "image %zu, %s expected at 0x%llx", i,
				 check_rule_number(table[i].rule), (unsigned long long)off);
			print_seen(what, &seen);
			wrong_nr++;
		}
		forge_free(&forge);
	}
	return wrong_nr;
}

static void sound_has_no_findings(void **state)
{
	static const struct forge_shape shapes[] = {
		{ .media_bytes = 256u << 10, .segment_bytes = 16u << 10, .block_bytes = 512 },
		{ .media_bytes = 256u << 10, .segment_bytes = 16u << 10, .block_bytes = 512, .no_crc = true },
		{ .media_bytes = 1u << 20, .segment_bytes = 64u << 10, .block_bytes = 512 },
		{ .media_bytes = 4u << 20, .segment_bytes = 128u << 10, .block_bytes = 4096 },
	};

	(void)state;
	for (size_t i = 0; i < PC_ARRAY_NR(shapes); i++) {
		struct forge forge;
		struct seen seen;

		forge_sound(&forge, &shapes[i]);
		assert_int_equal(check(&forge, &seen), 0);
		if (seen.nr)
			print_seen("a sound image", &seen);
		assert_int_equal(seen.nr, 0);
		forge.tail.flags = PC_TAIL_FLAG_CLEAN_CLOSE;
		forge.tail.mark_pos = forge.pos;
		forge_put_tail(&forge, 3);
		assert_int_equal(check(&forge, &seen), 0);
		assert_int_equal(seen.nr, 0);
		forge_free(&forge);
	}
}

static void one_copy_is_repair_two_are_damage(void **state)
{
	(void)state;
	for (size_t i = 0; i < forged_copy_nr; i++) {
		const struct forged_copy *forged = &forged_copies[i];

		for (unsigned int copies = 1; copies <= 3; copies++) {
			struct forge forge;
			struct seen seen;
			uint64_t off[2] = { 0, 0 };
			int rc;

			forge_sound(&forge, &forge_usual);
			for (unsigned int copy = 0; copy < 2; copy++)
				if (copies >> copy & 1)
					off[copy] = forged->spoil(&forge, copy);
			rc = check(&forge, &seen);
			if (copies == 3 && forged->rule == CHECK_S1) {
				assert_int_equal(rc, PCACHE_E_NOT_A_CACHE);
				forge_free(&forge);
				continue;
			}
			assert_int_equal(rc, 0);
			if (seen.nr != (copies == 3 ? 2 : 1))
				print_seen(check_rule_number(forged->rule), &seen);
			assert_int_equal(seen.nr, copies == 3 ? 2 : 1);
			for (uint32_t k = 0; k < seen.nr; k++) {
				assert_int_equal(seen.kept[k].rule, forged->rule);
				assert_int_equal(seen.kept[k].severity, copies == 3 ? CHECK_DAMAGE : CHECK_REPAIR);
				assert_int_equal(seen.kept[k].media_off, off[copies == 3 ? k : copies - 1]);
				if (copies != 3 || forged->rule > CHECK_S19)
					assert_int_equal(seen.kept[k].zone, zone_of(forged->rule));
			}
			forge_free(&forge);
		}
	}
}

static void records_together(void **state)
{
	(void)state;
	assert_int_equal(run_table(forged_records, forged_record_nr), 0);
}

static void log_and_data(void **state)
{
	(void)state;
	assert_int_equal(run_table(forged_log, forged_log_nr), 0);
}

/* Both of another version: nothing to check, and no damage. */
static void newer_version(void **state)
{
	struct forge forge;
	struct seen seen;

	(void)state;
	forge_sound(&forge, &forge_usual);
	forge.super.version = 2;
	forge_put_super(&forge, 3);
	assert_int_equal(check(&forge, &seen), PCACHE_E_VERSION);
	assert_int_equal(seen.nr, 0);
	forge_free(&forge);
}

/* Segments of 8 MiB: a kset of more slots than any may have. */
static void kset_too_long(void **state)
{
	static const struct forge_shape shape = { .media_bytes = 74u << 20,
						  .segment_bytes = 8u << 20,
						  .block_bytes = 4096 };
	const struct forged forged = { CHECK_K6, CHECK_DAMAGE, NULL, CHECK_OK };
	struct forge forge;
	struct seen seen;
	struct pcm_kset *kset;

	(void)state;
	forge_sound(&forge, &shape);
	kset = forge_kset_at(&forge, forge_void(&forge, 1));
	kset->type = pc_le16(PC_KSET_KEYS);
	kset->slot_nr = pc_le32(PC_KSET_SLOTS_MAX + 1);
	kset->key_nr = pc_le32(1);
	forge_seal_kset(kset);
	assert_int_equal(check(&forge, &seen), 0);
	if (!is_as_forged(&seen, &forged, (uint64_t)((uint8_t *)kset - forge.bytes)))
		print_seen("kset_too_long", &seen);
	assert_true(is_as_forged(&seen, &forged, (uint64_t)((uint8_t *)kset - forge.bytes)));
	forge_free(&forge);
}

/* Only the mapping of a file can tell. */
static void file_with_holes(void **state)
{
	const struct forged forged = { CHECK_F2, CHECK_DAMAGE, NULL, CHECK_OK };
	struct seen seen = { 0 };
	const struct check_settings settings = { .finding = keep_finding, .user = &seen };
	char path[] = "/tmp/pcache-forged-XXXXXX";
	struct check_result result;
	struct pc_media *media;
	struct forge forge;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	forge_sound(&forge, &forge_usual);
	assert_int_equal(ftruncate(fd, (off_t)forge.len_bytes), 0);
	/* All but the page in the middle of the gap, a multiple of any block size. */
	assert_int_equal(pwrite(fd, forge.bytes, 128u << 10, 0), 128 << 10);
	assert_int_equal(pwrite(fd, forge.bytes + (192u << 10), 64u << 10, 192 << 10), 64 << 10);
	assert_int_equal(pc_media_open(path, PC_MEDIA_RDONLY, NULL, &media), 0);
	assert_int_equal(check_run(media, &settings, &result), 0);
	pc_media_close(media);
	assert_true(is_as_forged(&seen, &forged, CHECK_NOWHERE));
	forge_free(&forge);
	close(fd);
	unlink(path);
}

/* ---- the list ------------------------------------------------------------------------------------------------------ */

static bool has_image(enum check_rule rule)
{
	bool has = rule == CHECK_F2 || rule == CHECK_K6; /* in tests of their own above */

	for (size_t i = 0; i < forged_copy_nr; i++)
		has |= forged_copies[i].rule == rule;
	for (size_t i = 0; i < forged_record_nr; i++)
		has |= forged_records[i].rule == rule;
	for (size_t i = 0; i < forged_log_nr; i++)
		has |= forged_log[i].rule == rule;
	return has;
}

static void no_rule_without_an_image(void **state)
{
	uint32_t without_nr = 0;

	(void)state;
	for (enum check_rule rule = CHECK_OK + 1; rule < CHECK_RULE_NR; rule++) {
		if (has_image(rule))
			continue;
		print_error("no image breaks rule %s\n", check_rule_number(rule));
		without_nr++;
	}
	print_message("%d rules, %zu forged images, %u rules without an image\n", CHECK_RULE_NR - 1,
		      forged_copy_nr * 3 + forged_record_nr + forged_log_nr + 3, without_nr);
	assert_int_equal(without_nr, 0);
}

/* A cell of a table of Markdown, without its backquotes. */
static char *next_cell(char **line)
{
	char *cell = strsep(line, "|"), *end, *to;

	if (!cell)
		return NULL;
	while (*cell == ' ')
		cell++;
	for (end = to = cell; *end; end++)
		if (*end != '`' && *end != '\n')
			*to++ = *end;
	while (to > cell && to[-1] == ' ')
		to--;
	*to = '\0';
	return cell;
}

static enum check_rule rule_of(const char *number)
{
	enum check_rule rule = CHECK_RULE_NR;

	while (--rule > CHECK_OK && strcmp(check_rule_number(rule), number) != 0)
		;
	return rule;
}

static void document_lists_the_same_rules(void **state)
{
	const char *root = getenv("PCACHE_SOURCE_DIR");
	uint32_t listed[CHECK_RULE_NR] = { 0 };
	char path[4096], *line = NULL;
	size_t room = 0;
	FILE *file;

	(void)state;
	snprintf(path, sizeof(path), "%s/docs/TOOL.md", root ? root : ".");
	file = fopen(path, "r");
	assert_non_null(file);
	while (getline(&line, &room, file) > 0) {
		char *rest = line, *number, *statement;
		enum check_rule rule;

		if (*strsep(&rest, "|") || !rest)
			continue;
		number = next_cell(&rest);
		statement = next_cell(&rest);
		if (!number || !statement || !strchr("FSTRCKYM", number[0]) || number[1] < '1' || number[1] > '9')
			continue;
		rule = rule_of(number);
		if (rule == CHECK_OK)
			print_error("docs/TOOL.md: there is no rule %s\n", number);
		assert_int_not_equal(rule, CHECK_OK);
		assert_string_equal(statement, check_rule_statement(rule));
		listed[rule]++;
	}
	free(line);
	fclose(file);
	for (enum check_rule rule = CHECK_OK + 1; rule < CHECK_RULE_NR; rule++) {
		if (listed[rule] != 1)
			print_error("docs/TOOL.md lists rule %s %u times\n", check_rule_number(rule), listed[rule]);
		assert_int_equal(listed[rule], 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sound_has_no_findings),
		cmocka_unit_test(one_copy_is_repair_two_are_damage),
		cmocka_unit_test(records_together),
		cmocka_unit_test(log_and_data),
		cmocka_unit_test(newer_version),
		cmocka_unit_test(kset_too_long),
		cmocka_unit_test(file_with_holes),
		cmocka_unit_test(no_rule_without_an_image),
		cmocka_unit_test(document_lists_the_same_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
