/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file export.h
 * @brief Linkage of the public functions, and the version of the library.
 */
#ifndef PCACHE_EXPORT_H
#define PCACHE_EXPORT_H

#include <stddef.h>
#include <stdint.h>

/** Marks an exported function. Everything without it is hidden. */
#define PCACHE_API __attribute__((visibility("default")))

/** Version of the headers. */
#define PCACHE_VERSION_MAJOR 0
#define PCACHE_VERSION_MINOR 9 /**< see #PCACHE_VERSION_MAJOR */
#define PCACHE_VERSION_PATCH 0 /**< see #PCACHE_VERSION_MAJOR */

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Version of the library that is linked, as text, e.g. "0.9.0".
 *
 * The string is static. Never fails, never blocks, safe from any thread. Since 0.9.
 */
PCACHE_API const char *pcache_version(void);

#ifdef __cplusplus
}
#endif
#endif
