/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Text that the commands share: errors, numbers, JSON strings, the progress bar.
 *
 * An error is one line on stderr, `pcache: PATH: what happened; what to do next`. The library's own codes carry both
 * halves in their text; for codes of the system the second half comes from the table here. Specifics (how small, how
 * many bytes are at stake) are the business of the command that knows them.
 *
 * The bar goes to stderr and only to a terminal, so that pipes and logs see results alone.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tool/tool.h"

static const struct {
	int err;
	const char *hint;
} hints[] = {
	{ -ENOENT, "check the path" },
	{ -ENOTDIR, "check the path" },
	{ -EISDIR, "give a regular file, a block device or a device DAX" },
	{ -ENOTSUP, "give a regular file on a file system that can be mapped, or a device DAX" },
	{ -EACCES, "change its permissions or run as its owner" },
	{ -EPERM, "change its permissions or run as its owner" },
	{ -EROFS, "make the file system writable" },
	{ -EBUSY, "another process holds it open: end that process, then try again" },
	{ -ENOSPC, "free some space or choose a smaller size" },
	{ -EDQUOT, "free some of your quota or choose a smaller size" },
	{ -EFBIG, "choose a smaller size" },
	{ -ENOMEM, "free some memory, then try again" },
	{ -EIO, "check the device (dmesg); keep a copy of what can be read" },
	{ -EINVAL, "check the file and the options" },
	{ -ECANCELED, "run it again to go on" },
	{ -EMFILE, "raise the limit of open files (ulimit -n)" },
	{ -ELOOP, "check the path for circular links" },
	{ -ENAMETOOLONG, "give a shorter path" },
	{ -ENXIO, "check that the device is there" },
	{ -ENODEV, "check that the device is there" },
};

static void print_path(FILE *to, const char *path)
{
	for (; *path; path++) {
		unsigned char c = (unsigned char)*path;

		if (c < 0x20 || c == 0x7f)
			fprintf(to, "\\x%02x", c);
		else
			putc(c, to);
	}
}

void tool_error(const char *path, const char *fmt, ...)
{
	va_list args;

	fputs("pcache: ", stderr);
	print_path(stderr, path);
	fputs(": ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	putc('\n', stderr);
}

int tool_fail(const char *path, int err)
{
	const char *what = pcache_strerror(err);
	const char *hint = "check the path and the log of the system (dmesg)";
	size_t i;

	if (strstr(what, "; ")) {
		tool_error(path, "%s", what);
		return TOOL_FAILED;
	}
	for (i = 0; i < TOOL_ARRAY_NR(hints); i++) {
		if (hints[i].err == err)
			hint = hints[i].hint;
	}
	tool_error(path, "%s; %s", what, hint);
	return TOOL_FAILED;
}

int tool_usage(const char *command, const char *fmt, ...)
{
	char text[512];
	va_list args;
	char *c;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	for (c = text; *c; c++) {
		if ((unsigned char)*c < 0x20)
			*c = '?';
	}
	if (command)
		fprintf(stderr, "pcache: %s: %s; see `pcache %s --help`\n", command, text, command);
	else
		fprintf(stderr, "pcache: %s; see `pcache --help`\n", text);
	return TOOL_USAGE;
}

const char *tool_bytes_text(char text[TOOL_BYTES_TEXT], uint64_t bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	unsigned int unit = 0;

	while (value >= 1024 && unit + 1 < TOOL_ARRAY_NR(units)) {
		value /= 1024;
		unit++;
	}
	if (unit == 0)
		snprintf(text, TOOL_BYTES_TEXT, "%u bytes", (unsigned int)bytes);
	else
		snprintf(text, TOOL_BYTES_TEXT, "%.*f %s", value < 9.95 ? 1 : 0, value, units[unit]);
	return text;
}

const char *tool_uuid_text(char text[TOOL_UUID_TEXT], const uint8_t uuid[16])
{
	static const char digits[] = "0123456789abcdef";
	char *to = text;
	int i;

	for (i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*to++ = '-';
		*to++ = digits[uuid[i] >> 4];
		*to++ = digits[uuid[i] & 15];
	}
	*to = '\0';
	return text;
}

/* Length of the UTF-8 sequence at text, or 0 if there is none. Surrogates and overlong forms are left out. */
static unsigned int utf8_len(const unsigned char *text)
{
	unsigned int len, i;

	if (text[0] < 0x80)
		return 1;
	if (text[0] >= 0xc2 && text[0] <= 0xdf)
		len = 2;
	else if (text[0] >= 0xe0 && text[0] <= 0xef)
		len = 3;
	else if (text[0] >= 0xf0 && text[0] <= 0xf4)
		len = 4;
	else
		return 0;
	for (i = 1; i < len; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f))
		return 0;
	if ((text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
		return 0;
	return len;
}

void tool_json_string(FILE *to, const char *text)
{
	const unsigned char *c = (const unsigned char *)text;

	putc('"', to);
	while (*c) {
		unsigned int len = utf8_len(c);

		if (len == 0 || *c < 0x20 || *c == 0x7f) {
			fprintf(to, "\\u%04x", *c++);
			continue;
		}
		if (*c == '"' || *c == '\\')
			putc('\\', to);
		fwrite(c, 1, len, to);
		c += len;
	}
	putc('"', to);
}

uint64_t tool_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void tool_progress_init(struct tool_progress *progress, const char *label)
{
	const char *term = getenv("TERM");

	progress->label = label;
	progress->shown_ns = 0;
	progress->on = isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
}

void tool_progress_show(struct tool_progress *progress, uint64_t done, uint64_t total)
{
	static const char full[] = "########################################";
	uint64_t now_ns;
	double share;
	int filled;

	if (!progress->on)
		return;
	now_ns = tool_now_ns();
	if (progress->shown_ns && now_ns - progress->shown_ns < 100000000u && done < total)
		return;
	progress->shown_ns = now_ns;
	share = total == 0 ? 1 : (double)done / (double)total;
	if (share > 1)
		share = 1;
	filled = (int)(share * 40);
	fprintf(stderr, "\r%s [%.*s%*s] %3d%%", progress->label, filled, full, 40 - filled, "", (int)(share * 100));
	fflush(stderr);
}

void tool_progress_wipe(struct tool_progress *progress)
{
	if (progress->on && progress->shown_ns)
		fprintf(stderr, "\r%*s\r", (int)strlen(progress->label) + 52, "");
	progress->shown_ns = 0;
}

void tool_progress_fini(struct tool_progress *progress)
{
	tool_progress_wipe(progress);
	progress->on = false;
}

void tool_log(void *user, int severity, const char *text)
{
	static const char *const names[] = { "error", "warning", "info" };

	(void)user;
	fprintf(stderr, "libpcache: %s: %s\n", names[severity < 0 || severity > 2 ? 2 : severity], text);
}
