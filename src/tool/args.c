/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Arguments of the commands: the walk over options, and values out of text.
 *
 * Options that the library knows by name are handed to its own parser (tool_config_set), so that tool and library never
 * differ in what they accept; the parsers here serve what only the tool knows. Every wrong argument ends in one line
 * that names it and says what was wanted; the caller then exits with TOOL_USAGE.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tool/tool.h"

int tool_option_next(int argc, char **argv, const struct option *options)
{
	int id;

	opterr = 0;
	id = getopt_long(argc, argv, ":hv", options, NULL);
	if (id == ':') {
		tool_usage(argv[0], "option '%s' wants a value", argv[optind - 1]);
		return TOOL_OPT_BAD;
	}
	if (id == '?') {
		if (optopt > 0 && optopt < 256)
			tool_usage(argv[0], "option '-%c' is not known", optopt);
		else if (optopt != 0)
			tool_usage(argv[0], "option '%s' takes no value", argv[optind - 1]);
		else
			tool_usage(argv[0], "option '%s' is not known", argv[optind - 1]);
		return TOOL_OPT_BAD;
	}
	return id;
}

const char *tool_arg_path(int argc, char **argv, const char *what)
{
	if (optind >= argc) {
		tool_usage(argv[0], "the path of the %s is missing", what);
		return NULL;
	}
	if (optind + 1 < argc) {
		tool_usage(argv[0], "one path is wanted, '%s' is too much", argv[optind + 1]);
		return NULL;
	}
	if (argv[optind][0] == '\0') {
		tool_usage(argv[0], "the path of the %s is empty", what);
		return NULL;
	}
	return argv[optind];
}

bool tool_parse_u64(const char *text, uint64_t lowest, uint64_t highest, uint64_t *out_value)
{
	unsigned long long value;
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *end || value < lowest || value > highest)
		return false;
	*out_value = value;
	return true;
}

bool tool_parse_bytes(const char *text, uint64_t *out_bytes)
{
	static const char suffixes[] = "KMGT";
	unsigned long long value;
	const char *suffix;
	char *end;
	unsigned int shift = 0;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (*end) {
		char upper = (char)(*end >= 'a' && *end <= 'z' ? *end - 'a' + 'A' : *end);

		suffix = strchr(suffixes, upper);
		if (!suffix || end[1])
			return false;
		shift = 10 * (unsigned int)(suffix - suffixes + 1);
	}
	if (value > UINT64_MAX >> shift)
		return false;
	*out_bytes = (uint64_t)value << shift;
	return true;
}

int tool_parse_word(const char *text, const char *const *words)
{
	int i;

	for (i = 0; words[i]; i++) {
		if (strcmp(text, words[i]) == 0)
			return i;
	}
	return -1;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool tool_parse_uuid(const char *text, uint8_t *out_uuid)
{
	uint8_t uuid[16] = { 0 };
	unsigned int digit_nr = 0;

	for (; *text; text++) {
		int value = hex_value(*text);

		if (*text == '-')
			continue;
		if (value < 0 || digit_nr == 32)
			return false;
		uuid[digit_nr / 2] = (uint8_t)(uuid[digit_nr / 2] << 4 | value);
		digit_nr++;
	}
	if (digit_nr != 32)
		return false;
	memcpy(out_uuid, uuid, sizeof(uuid));
	return true;
}

bool tool_config_set(const char *command, struct pcache_config *config, const char *flag, const char *option,
		     const char *text, const char *wants)
{
	if (pcache_config_set_str(config, option, text) == 0)
		return true;
	tool_usage(command, "option --%s wants %s, not '%s'", flag, wants, text);
	return false;
}

bool tool_same_file(const char *path_a, const char *path_b)
{
	struct stat a, b;

	if (stat(path_a, &a) < 0 || stat(path_b, &b) < 0)
		return false;
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int64_t tool_find_data(const char *path)
{
	enum { STEP_BYTES = 1 << 20 };
	int64_t found = -1, budget = 64 << 20;
	off_t at = 0, end;
	char *buf;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -1;
	buf = malloc(STEP_BYTES);
	end = lseek(fd, 0, SEEK_END);
	while (buf && found < 0 && at < end) {
		ssize_t got, i;
		off_t data = lseek(fd, at, SEEK_DATA);

		if (data < 0 && errno == ENXIO)
			break; /* holes to the end */
		if (data > at)
			at = data;
		got = pread(fd, buf, STEP_BYTES, at);
		if (got <= 0)
			break;
		for (i = 0; i < got && buf[i] == 0; i++)
			;
		if (i < got)
			found = at + i;
		at += got;
		budget -= got;
		if (budget <= 0 && at < end - STEP_BYTES)
			at = end - STEP_BYTES;
	}
	free(buf);
	close(fd);
	return found;
}
