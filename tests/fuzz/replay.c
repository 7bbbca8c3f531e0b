/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Gives files to a fuzz target, without libFuzzer: each argument is a file, or a folder of files. Prints how many there were; an input that takes too long ends the program,
 * as does whatever the target finds.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz/fuzz.h"

#define ALARM_S 60u /* of a slow build on a busy machine */
#define INPUT_BYTES_MAX (1u << 20)

static char where[1024];
static uint32_t input_nr;

static void on_signal(int number)
{
	ssize_t done = write(STDERR_FILENO, where, strlen(where));

	(void)done;
	signal(number, SIG_DFL);
	raise(number);
}

static void run_file(const char *path)
{
	uint8_t *data = malloc(INPUT_BYTES_MAX), *exact;
	FILE *file = fopen(path, "rb");
	size_t len;

	if (!data || !file) {
		perror(path);
		exit(1);
	}
	len = fread(data, 1, INPUT_BYTES_MAX, file);
	exact = malloc(len ? len : 1); /* so that a read past the end is seen */
	if (ferror(file) || !exact) {
		perror(path);
		exit(1);
	}
	memcpy(exact, data, len);
	(void)fclose(file);
	free(data);
	snprintf(where, sizeof(where), "\nin the input %s\n", path);
	(void)alarm(ALARM_S);
	(void)LLVMFuzzerTestOneInput(exact, len);
	(void)alarm(0);
	free(exact);
	input_nr++;
}

static void run_folder(const char *path)
{
	struct dirent **entries;
	const int nr = scandir(path, &entries, NULL, alphasort);

	if (nr < 0) {
		perror(path);
		exit(1);
	}
	for (int i = 0; i < nr; i++) {
		char *name = NULL;

		if (entries[i]->d_name[0] != '.' && asprintf(&name, "%s/%s", path, entries[i]->d_name) > 0)
			run_file(name);
		free(name);
		free(entries[i]);
	}
	free(entries);
}

int main(int argc, char **argv)
{
	static const int signals[] = { SIGALRM, SIGSEGV, SIGBUS, SIGABRT, SIGFPE };
	struct stat is;

	for (size_t i = 0; i < PC_ARRAY_NR(signals); i++)
		signal(signals[i], on_signal);
	for (int i = 1; i < argc; i++) {
		if (stat(argv[i], &is) == 0 && S_ISDIR(is.st_mode))
			run_folder(argv[i]);
		else
			run_file(argv[i]);
	}
	printf("%u inputs\n", input_nr);
	return input_nr == 0;
}
