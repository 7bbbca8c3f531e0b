/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Texts and names of error codes: the own ones from PCACHE_ERROR_TABLE, those of the system from the C library.
 *
 * All strings are constants: nothing is formatted, translated or kept per thread, so every function is safe
 * anywhere, also in a signal handler.
 */
#include "pcache/errors.h"

#include <string.h>

#define ERRNO_MAX 4095

const char *pcache_strerror(int err)
{
	const char *text;

	if (err >= 0)
		return "success";
	switch (err) {
#define ERROR_TEXT(name, value, words, cause) \
	case name: \
		return words;
		PCACHE_ERROR_TABLE(ERROR_TEXT)
#undef ERROR_TEXT
	default:
		break;
	}
	text = err >= -ERRNO_MAX ? strerrordesc_np(-err) : NULL;
	return text != NULL ? text : "unknown error";
}

const char *pcache_errcause(int err)
{
	switch (err) {
#define ERROR_CAUSE(name, value, words, cause) \
	case name: \
		return cause;
		PCACHE_ERROR_TABLE(ERROR_CAUSE)
#undef ERROR_CAUSE
	default:
		return NULL;
	}
}

const char *pcache_errname(int err)
{
	switch (err) {
#define ERROR_NAME(name, value, words, cause) \
	case name: \
		return #name;
		PCACHE_ERROR_TABLE(ERROR_NAME)
#undef ERROR_NAME
	default:
		break;
	}
	return err < 0 && err >= -ERRNO_MAX ? strerrorname_np(-err) : NULL;
}
