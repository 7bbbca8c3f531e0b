/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the command `pcache` share: exit codes, the commands, and helpers for arguments and text.
 *
 * Only the public headers are included here; of the whole tool the files of `check` and `dump` alone look at format/
 * and media/.
 */
#ifndef PC_TOOL_TOOL_H
#define PC_TOOL_TOOL_H

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>

#include <pcache/pcache.h>

/* Exit codes; documented in the help of main.c. */
enum tool_exit { TOOL_OK = 0, TOOL_FAILED = 1, TOOL_USAGE = 2, TOOL_DAMAGE = 3 };

#define TOOL_ARRAY_NR(a) (sizeof(a) / sizeof((a)[0]))

/* One per file cmd_NAME.c: argv[0] is the name of the command. Return an exit code. */
int tool_cmd_format(int argc, char **argv);
int tool_cmd_info(int argc, char **argv);
int tool_cmd_check(int argc, char **argv);
int tool_cmd_dump(int argc, char **argv);
int tool_cmd_drain(int argc, char **argv);
int tool_cmd_bench(int argc, char **argv);

/* ---- args.c ----------------------------------------------------------------------------------------------------- */

#define TOOL_OPT_END (-1) /* no more options */
#define TOOL_OPT_BAD (-2) /* a message was printed; exit with TOOL_USAGE */
/*
 * getopt_long with messages in the form of this tool. Commands know long options, -h and -v; option ids are 1000 and
 * more, so that they never collide with characters.
 */
int tool_option_next(int argc, char **argv, const struct option *options);
/* The only positional argument, or NULL after a message that says what is missing or too much. */
const char *tool_arg_path(int argc, char **argv, const char *what);
/* "4096", "64k", "4G": powers of 1024. False: not a size, or too large. */
bool tool_parse_bytes(const char *text, uint64_t *out_bytes);
bool tool_parse_u64(const char *text, uint64_t lowest, uint64_t highest, uint64_t *out_value);
/* Index of text in a list of words, e.g. { "on", "off", NULL }; -1 if it is none. */
int tool_parse_word(const char *text, const char *const *words);
/* 32 hexadecimal digits; hyphens are skipped. */
bool tool_parse_uuid(const char *text, uint8_t *out_uuid);
/* Sets an option of the library, named like the flag that carried it; else a message that says what it wants, and false. */
bool tool_config_set(const char *command, struct pcache_config *config, const char *flag, const char *option,
		     const char *text, const char *wants);
/* True if both paths lead to one file or device. */
bool tool_same_file(const char *path_a, const char *path_b);
/*
 * Offset of a byte other than zero among the first 64 MiB of data and the last MiB of a file or block device; -1 if
 * there is none, or it cannot be read. For refusing to destroy what somebody may want to keep.
 */
int64_t tool_find_data(const char *path);

/* ---- backing.c -------------------------------------------------------------------------------------------------- */

/* Whether it is the URI of an NBD export, which is no path. */
bool tool_is_nbd(const char *name);
/* As pcache_backing_file_new() with these flags, or pcache_backing_nbd_new(). */
int tool_backing_new(const char *name, uint32_t file_flags, struct pcache_backing **out_backing);

/* ---- text.c ----------------------------------------------------------------------------------------------------- */

/* One line on stderr: `pcache: PATH: what happened; what to do next`. Control characters of the path are escaped. */
void tool_error(const char *path, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same for a code of the library: its text, and a hint where the text has none. Returns TOOL_FAILED. */
int tool_fail(const char *path, int err);
/* The same for wrong arguments; ends in a pointer to the help. Returns TOOL_USAGE. */
int tool_usage(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define TOOL_BYTES_TEXT 32
/* "1.5 GiB"; exact below 1 KiB. Returns text. */
const char *tool_bytes_text(char text[TOOL_BYTES_TEXT], uint64_t bytes);
#define TOOL_UUID_TEXT 37
const char *tool_uuid_text(char text[TOOL_UUID_TEXT], const uint8_t uuid[16]);
/* A JSON string with quotes; bytes that are not UTF-8 become \u00XX. */
void tool_json_string(FILE *to, const char *text);

uint64_t tool_now_ns(void);

/* A bar on stderr, redrawn at most ten times a second, and only if stderr is a terminal. */
struct tool_progress {
	const char *label;
	uint64_t shown_ns; /* when it was drawn last */
	bool on;
};
void tool_progress_init(struct tool_progress *progress, const char *label);
void tool_progress_show(struct tool_progress *progress, uint64_t done, uint64_t total);
/* Makes room for a line of results on the same terminal. */
void tool_progress_wipe(struct tool_progress *progress);
void tool_progress_fini(struct tool_progress *progress);

/* For option --verbose: prints messages of the library on stderr. */
void tool_log(void *user, int severity, const char *text);

#endif
