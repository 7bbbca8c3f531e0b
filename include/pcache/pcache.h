/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file pcache.h
 * @brief libpcache: a crash-consistent persistent-memory cache in front of a slower store.
 *
 * One include for the whole library. All offsets and lengths are bytes. All functions return 0 (or a
 * documented positive value) on success and a negative error on failure, see errors.h; outputs are
 * untouched on failure. Nothing is ever printed: messages go to the log callback of the config.
 *
 * Threads: a cache handle may be used by any number of threads at once, except that pcache_close() must be
 * the last call on it. A config or backing that is being set up belongs to one thread.
 *
 * Fork: after fork() every call on an inherited handle returns #PCACHE_E_FORKED in the child and touches
 * nothing. The child keeps the lock of the cache file until it exits or executes another program.
 */
#ifndef PCACHE_PCACHE_H
#define PCACHE_PCACHE_H

#include <pcache/async.h>
#include <pcache/backing.h>
#include <pcache/config.h>
#include <pcache/errors.h>
#include <pcache/event.h>
#include <pcache/export.h>
#include <pcache/info.h>
#include <pcache/io.h>

#endif
