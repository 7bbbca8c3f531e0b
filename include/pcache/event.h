/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file event.h
 * @brief What happens in a cache that its owner should know of, told to a callback when it happens.
 */
#ifndef PCACHE_EVENT_H
#define PCACHE_EVENT_H

#include <pcache/config.h>
#include <pcache/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The table of events: id, number, name, when it is told and which members of struct pcache_event say more. Members that are not named are 0. docs/EVENTS.md is made from it.
 */
#define PCACHE_EVENT_TABLE(X) \
	X(PCACHE_EVENT_DEGRADED, 1, "degraded", \
	  "The backing began to fail, or the log cannot be read: dirty data stays in the cache, write-back tries " \
	  "again. " \
	  "err: the error. Told once until it is over.") \
	X(PCACHE_EVENT_RECOVERED, 2, "recovered", "Write-back works again after it was degraded.") \
	X(PCACHE_EVENT_FULL, 3, "full", \
	  "A write found no space: it waits, or fails with PCACHE_E_FULL. Told once until write-back or eviction " \
	  "have " \
	  "made space.") \
	X(PCACHE_EVENT_POISON, 4, "poison", \
	  "Dirty data is damaged and lost: reads of it fail with PCACHE_E_POISONED until it is written again. off, " \
	  "len: " \
	  "the last such place; value: how many were found at once.") \
	X(PCACHE_EVENT_MEDIA_DAMAGE, 5, "media_damage", \
	  "The media is damaged in a segment, which gets no new data until the cache is closed. off, len: the " \
	  "segment, " \
	  "in the cache file; value: its number.") \
	X(PCACHE_EVENT_REPLICA_REPAIRED, 6, "replica_repaired", \
	  "Open found metadata copies that were damaged or outdated, and stored them again. value: how many.") \
	X(PCACHE_EVENT_GRANULARITY_FORCED, 7, "granularity_forced", \
	  "PMEM2_FORCE_GRANULARITY makes open believe the media better, or worse, than it says itself. value: " \
	  "PCACHE_GRANULARITY_* in force.") \
	X(PCACHE_EVENT_FAILSTOP, 8, "failstop", \
	  "No store to the cache any more, reads are served. err: what stopped it. Told once, by the first call, or " \
	  "worker thread, that meets it.")

/** Kinds of events, from #PCACHE_EVENT_TABLE. */
enum pcache_event_kind {
#define PCACHE_EVENT_ENUM(id, number, name, doc) id = (number),
	PCACHE_EVENT_TABLE(PCACHE_EVENT_ENUM)
#undef PCACHE_EVENT_ENUM
		PCACHE_EVENT_NONE = 0 /**< never told */
};

/** An event. Later versions append members: look at @a struct_bytes before you use one of those. */
struct pcache_event {
	uint32_t struct_bytes; /**< of the library that tells it */
	uint32_t kind; /**< enum pcache_event_kind */
	int32_t err; /**< an errno value negated, or an own code */
	uint32_t reserved; /**< 0 */
	uint64_t off; /**< bytes */
	uint64_t len; /**< bytes */
	uint64_t value; /**< see the kind */
};

/**
 * Event callback. @a event is valid during the call. May come from any thread, several at once, never under a lock that a call on the cache could need; while pcache_open() runs, from that
 * thread, before there is a handle. It may call into the library, but must neither close the cache nor drain it; who does much work hands it on to a thread of his own.
 */
typedef void (*pcache_event_fn)(void *user, const struct pcache_event *event);

/**
 * Sets the event callback of every cache that is opened with this config from now on.
 *
 * @param config the config.
 * @param fn     NULL: no events.
 * @param user   passed to @a fn; must stay valid until the cache is closed.
 * @return 0, -EINVAL (NULL config). Does not block. Since 0.9.
 */
PCACHE_API int pcache_config_set_event(struct pcache_config *config, pcache_event_fn fn, void *user);

/** Name of a kind of event, e.g. "degraded"; NULL for an unknown one. Static string; thread-safe, never blocks. Since 0.9. */
PCACHE_API const char *pcache_event_name(uint32_t kind);

#ifdef __cplusplus
}
#endif
#endif
