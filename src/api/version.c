/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The version of the library as text, put together from the numbers of the public header it was built with.
 *
 * No state, no locks.
 */
#include "pcache/export.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *pcache_version(void)
{
	return TEXT(PCACHE_VERSION_MAJOR) "." TEXT(PCACHE_VERSION_MINOR) "." TEXT(PCACHE_VERSION_PATCH);
}
