/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Simulated media: see sim_media.h for what it promises.
 *
 * The pending stores are one array in the order they were made. Making some of them durable is one pass over it that writes their values
 * to the durable image and notes, per word, the number of the newest store that became durable; what is left and is older than
 * that for its word can never reach the media any more (a word does not go back), so a second pass drops it. In the usual case of one thread the
 * first pass takes all, and there is no second.
 *
 * Speed matters: a run is a few hundred operations on an image of some hundred KiB, and there are millions of runs. So there is no lock
 * unless asked for, no allocation after the array has grown once, and reset is two memcpy.
 */
#include "sim/sim_internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "media/stage.h"
#include "pcache/errors.h"

#define ALL_THREADS UINT64_MAX
#define STAGE_WINDOWS 3u
#define STAGE_WINDOW_BYTES UINT64_C(4096) /* small images: windows run full and are taken away */
#define DEAD_THREAD (UINT64_C(1) << 63)

void pc_sim_die(const char *why)
{
	fprintf(stderr, "sim_media: %s\n", why);
	abort();
}

static struct pc_sim *lock(struct pc_media *media)
{
	struct pc_sim *sim = pc_sim_of(media);

	if (sim->threaded)
		(void)pthread_mutex_lock(&sim->lock);
	return sim;
}

static void unlock(struct pc_sim *sim)
{
	if (sim->threaded)
		(void)pthread_mutex_unlock(&sim->lock);
}

static _Thread_local uint64_t acted_serial; /* of a simulated thread; 0: none */

void pc_sim_act_as(uint32_t id)
{
	acted_serial = id == 0 ? 0 : UINT64_C(1) << 63 | id;
}

/* The bit of the calling thread in this simulator. */
static uint64_t thread_bit(struct pc_sim *sim)
{
	static _Atomic uint64_t last_serial;
	static _Thread_local uint64_t own_serial;
	uint64_t serial;

	if (own_serial == 0)
		own_serial = atomic_fetch_add(&last_serial, 1) + 1;
	serial = acted_serial != 0 ? acted_serial : own_serial;
	for (uint32_t i = 0; i < sim->thread_nr; i++) {
		if (sim->thread_serials[i] == serial)
			return UINT64_C(1) << i;
	}
	if (sim->thread_nr == PC_SIM_THREADS_MAX)
		pc_sim_die("too many threads since the last reset");
	sim->thread_serials[sim->thread_nr] = serial;
	return UINT64_C(1) << sim->thread_nr++;
}

/* ------------------------------------------------------------------------------------------------ stores */

static void grow_entries(struct pc_sim *sim)
{
	size_t cap = sim->entry_cap ? sim->entry_cap * 2 : 4096;
	struct pc_sim_entry *entries = realloc(sim->entries, cap * sizeof(*entries));

	if (entries == NULL)
		pc_sim_die("no memory");
	sim->entries = entries;
	sim->entry_cap = cap;
}

static void record_word(struct pc_sim *sim, uint64_t word, uint64_t threads)
{
	uint64_t value = sim->view[word];
	struct pc_sim_entry *entry;

	if (sim->durable[word] == value && !pc_sim_is_pending(sim, word))
		return;
	if (sim->entry_nr == sim->entry_cap)
		grow_entries(sim);
	entry = &sim->entries[sim->entry_nr++];
	entry->value = value;
	entry->threads = threads;
	entry->seq = ++sim->seq;
	entry->word = (uint32_t)word;
	entry->line = 0;
	sim->stored_seq[word] = entry->seq;
}

/* Makes durable what one of these threads may, of the stores up to seq_max. */
static void settle(struct pc_sim *sim, uint64_t threads, uint64_t seq_max)
{
	size_t left = 0;
	size_t kept = 0;

	sim->lines_valid = false;
	for (size_t i = 0; i < sim->entry_nr; i++) {
		const struct pc_sim_entry *entry = &sim->entries[i];

		if (!(entry->threads & threads) || entry->seq > seq_max) {
			left++;
			continue;
		}
		pc_sim_set_durable(sim, entry->word, entry->value);
		sim->settled_seq[entry->word] = entry->seq;
	}
	for (size_t i = 0; left > 0 && i < sim->entry_nr; i++) {
		const struct pc_sim_entry *entry = &sim->entries[i];

		if ((!(entry->threads & threads) || entry->seq > seq_max) &&
		    entry->seq > sim->settled_seq[entry->word])
			sim->entries[kept++] = *entry;
	}
	sim->entry_nr = kept;
}

static void check_range(const struct pc_sim *sim, uint64_t media_off, uint64_t len)
{
	if (media_off > sim->media.len_bytes || len > sim->media.len_bytes - media_off)
		pc_sim_die("range outside of the media");
	if (sim->closed)
		pc_sim_die("media used after it was closed");
}

static void touch_range(struct pc_sim *sim, uint64_t media_off, uint64_t len)
{
	const uint64_t first = media_off / PC_SIM_CHUNK_BYTES;

	memset(sim->chunk_touched + first, 1, (media_off + len - 1) / PC_SIM_CHUNK_BYTES - first + 1);
}

static void sim_copy(struct pc_media *media, uint64_t media_off, const void *src, size_t len)
{
	struct pc_sim *sim = lock(media);
	uint64_t threads;

	check_range(sim, media_off, len);
	if (media->read_only)
		pc_sim_die("store to read-only media");
	sim->counts.copies++;
	sim->counts.copy_bytes += len;
	memcpy((uint8_t *)sim->view + media_off, src, len);
	if (len > 0)
		touch_range(sim, media_off, len);
	if (len > 0 && !sim->stopped) {
		threads = media->granularity == PC_GRAN_PAGE ? 1 : thread_bit(sim);
		sim->lines_valid = false;
		for (uint64_t word = media_off / 8; word <= (media_off + len - 1) / 8; word++)
			record_word(sim, word, threads);
	}
	unlock(sim);
}

/* Notes the call; false: it is to be skipped. */
static bool enter_site(struct pc_sim *sim, const void *address, enum pc_sim_op op)
{
	size_t i = 0;

	while (i < sim->site_nr && (sim->sites[i].address != address || sim->sites[i].op != op))
		i++;
	if (i == sim->site_nr) {
		if (i == PC_SIM_SITES_MAX)
			pc_sim_die("too many call sites");
		sim->sites[sim->site_nr++] = (struct pc_sim_site){ .address = address, .op = op };
	}
	sim->sites[i].calls++;
	return address != sim->skipped;
}

static void call_hook(struct pc_sim *sim, enum pc_sim_event event)
{
	pc_sim_hook hook = sim->hook;

	if (hook == NULL || sim->stopped)
		return;
	if (sim->hook_left > 0) {
		if (--sim->hook_left > 0)
			return;
		sim->hook = NULL; /* once; the hook may set the next */
	}
	hook(sim, event, sim->hook_user);
}

static void sim_flush(struct pc_media *media, uint64_t media_off, uint64_t len)
{
	struct pc_sim *sim;
	uint64_t first;
	uint64_t last;
	uint64_t bit;

	if (media->granularity == PC_GRAN_PAGE || len == 0)
		return;
	sim = lock(media);
	check_range(sim, media_off, len);
	sim->counts.flushes++;
	if (enter_site(sim, __builtin_return_address(0), PC_SIM_OP_FLUSH)) {
		bit = thread_bit(sim);
		first = media_off / PC_CACHE_LINE_BYTES;
		last = (media_off + len - 1) / PC_CACHE_LINE_BYTES;
		for (size_t i = 0; i < sim->entry_nr; i++) {
			uint64_t line = sim->entries[i].word / PC_SIM_LINE_WORDS;

			if (line >= first && line <= last)
				sim->entries[i].threads |= bit;
		}
	}
	unlock(sim);
}

static void fence_from(struct pc_media *media, const void *site, enum pc_sim_op op)
{
	struct pc_sim *sim = lock(media);

	check_range(sim, 0, 0);
	sim->counts.fences++;
	if (enter_site(sim, site, op)) {
		call_hook(sim, PC_SIM_AT_FENCE);
		if (!sim->stopped)
			settle(sim, thread_bit(sim), sim->seq);
	}
	unlock(sim);
}

static void sim_fence(struct pc_media *media)
{
	if (media->granularity != PC_GRAN_PAGE)
		fence_from(media, __builtin_return_address(0), PC_SIM_OP_FENCE);
}

/* A failed sync leaves what was pending as it is, and no later sync writes it: its pages count as clean. */
static int fail_sync(struct pc_sim *sim)
{
	for (size_t i = 0; i < sim->entry_nr; i++)
		sim->entries[i].threads = 0;
	return sim->fail_err;
}

static int sim_sync(struct pc_media *media)
{
	struct pc_sim *sim;
	int rc = 0;

	if (media->granularity != PC_GRAN_PAGE) {
		fence_from(media, __builtin_return_address(0), PC_SIM_OP_SYNC);
		return 0;
	}
	sim = lock(media);
	check_range(sim, 0, 0);
	sim->counts.syncs++;
	if (enter_site(sim, __builtin_return_address(0), PC_SIM_OP_SYNC)) {
		/* What other threads store while it runs may come too late. */
		uint64_t begin_seq = sim->seq;

		call_hook(sim, PC_SIM_AT_SYNC);
		if (sim->fail_nth > 0 && --sim->fail_nth == 0)
			rc = fail_sync(sim);
		else if (!sim->stopped)
			settle(sim, ALL_THREADS, begin_seq);
	}
	unlock(sim);
	return rc;
}

/* 0, PCACHE_E_TRUNCATED, -EIO. */
static int check_readable(const struct pc_sim *sim, uint64_t media_off, size_t len)
{
	if (media_off > sim->end_off || len > sim->end_off - media_off)
		return PCACHE_E_TRUNCATED;
	for (size_t i = 0; i < sim->poison_nr; i++) {
		if (media_off < sim->poison[i].end_off && sim->poison[i].begin_off < media_off + len)
			return -EIO;
	}
	return 0;
}

static int sim_read(struct pc_media *media, uint64_t media_off, void *buf, size_t len)
{
	struct pc_sim *sim = lock(media);
	int rc;

	sim->counts.reads++;
	rc = check_readable(sim, media_off, len);
	if (rc == 0 && sim->closed)
		pc_sim_die("media read after it was closed");
	if (rc == 0)
		memcpy(buf, (const uint8_t *)sim->view + media_off, len);
	unlock(sim);
	return rc;
}

/* Without a fault no lock is taken, so that it orders nothing between threads which the real media would not. */
static int sim_load(struct pc_media *media, uint64_t media_off, void *dst, size_t len)
{
	struct pc_sim *sim = pc_sim_of(media);
	int rc = 0;

	if (sim->closed)
		pc_sim_die("media load after it was closed");
	if (media_off > media->len_bytes || len > media->len_bytes - media_off)
		pc_sim_die("media load out of bounds");
	if (atomic_load_explicit(&sim->faulty, memory_order_acquire)) {
		(void)lock(media);
		rc = check_readable(sim, media_off, len) ? -EIO : 0;
		unlock(sim);
	}
	if (rc == 0)
		memcpy(dst, media->base + media_off, len);
	return rc;
}

static void sim_close(struct pc_media *media)
{
	struct pc_sim *sim = lock(media);

	if (sim->closed)
		pc_sim_die("media closed twice");
	sim->closed = true;
	unlock(sim);
}

static const struct pc_media_ops sim_ops = {
	.copy = sim_copy,
	.flush = sim_flush,
	.fence = sim_fence,
	.sync = sim_sync,
	.read = sim_read,
	.load = sim_load,
	.close = sim_close,
};

/* ------------------------------------------------------------------------------------------------ life */

/* Two mappings of one memory file: writable for the simulator, read-only for the library. */
static int map_view(struct pc_sim *sim, uint64_t len_bytes)
{
	int fd = memfd_create("sim_media", MFD_CLOEXEC);
	void *rw = MAP_FAILED;
	void *ro = MAP_FAILED;
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)len_bytes) == 0)
		rw = mmap(NULL, len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (rw != MAP_FAILED)
		ro = mmap(NULL, len_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (ro == MAP_FAILED) {
		rc = -errno;
		if (rw != MAP_FAILED)
			(void)munmap(rw, len_bytes);
	} else {
		sim->view = rw;
		sim->media.base = ro;
	}
	(void)close(fd);
	return rc;
}

int pc_sim_wrap(const void *image, uint64_t len_bytes, enum pc_granularity granularity, uint32_t flags,
		struct pc_sim **out_sim)
{
	struct pc_sim *sim;
	int rc;

	if (len_bytes == 0 || len_bytes % PC_PAGE_BYTES != 0 || len_bytes / 8 > UINT32_MAX)
		return -EINVAL;
	sim = calloc(1, sizeof(*sim));
	if (sim == NULL)
		return -ENOMEM;
	rc = pc_media_init(&sim->media);
	if (rc != 0) {
		free(sim);
		return rc;
	}
	(void)pthread_mutex_init(&sim->lock, NULL);
	sim->media.ops = &sim_ops;
	sim->media.len_bytes = len_bytes;
	sim->room_bytes = len_bytes;
	sim->media.granularity = granularity;
	sim->media.guarded = true; /* a mapped read of poison is an error here, too */
	sim->threaded = (flags & PC_SIM_THREADED) != 0;
	sim->durable = malloc(len_bytes);
	sim->stored_seq = calloc(pc_sim_words(sim), sizeof(*sim->stored_seq));
	sim->settled_seq = calloc(pc_sim_words(sim), sizeof(*sim->settled_seq));
	sim->line_stamp = calloc(pc_sim_words(sim) / PC_SIM_LINE_WORDS, sizeof(*sim->line_stamp));
	sim->line_ordinal = calloc(pc_sim_words(sim) / PC_SIM_LINE_WORDS, sizeof(*sim->line_ordinal));
	sim->chunk_save = calloc(len_bytes / PC_SIM_CHUNK_BYTES, sizeof(*sim->chunk_save));
	sim->chunk_touched = calloc(len_bytes / PC_SIM_CHUNK_BYTES, sizeof(*sim->chunk_touched));
	sim->chunk_stale = calloc(len_bytes / PC_SIM_CHUNK_BYTES, sizeof(*sim->chunk_stale));
	sim->chunk_hash = calloc(len_bytes / PC_SIM_CHUNK_BYTES, sizeof(*sim->chunk_hash));
	sim->save_nr = 1;
	rc = map_view(sim, len_bytes);
	if (rc == 0 && (flags & PC_SIM_STAGED) && granularity == PC_GRAN_PAGE)
		rc = pc_stage_new(STAGE_WINDOWS, STAGE_WINDOW_BYTES, &sim->media.stage);
	if (rc == 0 &&
	    (!sim->durable || !sim->stored_seq || !sim->settled_seq || !sim->line_stamp || !sim->line_ordinal || !sim->chunk_save ||
	     !sim->chunk_touched || !sim->chunk_stale || !sim->chunk_hash))
		rc = -ENOMEM;
	if (rc != 0) {
		pc_sim_free(sim);
		return rc;
	}
	pc_sim_reset(sim, image);
	*out_sim = sim;
	return 0;
}

int pc_sim_new(uint64_t len_bytes, enum pc_granularity granularity, uint32_t flags, struct pc_sim **out_sim)
{
	return pc_sim_wrap(NULL, len_bytes, granularity, flags, out_sim);
}

static void new_process(struct pc_sim *sim)
{
	atomic_store(&sim->media.sync_error, 0);
	if (sim->media.stage != NULL)
		pc_stage_drop(sim->media.stage);
}

void pc_sim_rewind(struct pc_sim *sim)
{
	sim->media.read_only = false;
	sim->closed = false;
	new_process(sim);
	sim->stopped = false;
	sim->lines_valid = false;
	sim->entry_nr = 0;
	sim->base_seq = sim->seq;
	sim->thread_nr = 0;
	sim->hook = NULL;
	sim->fail_nth = 0;
	sim->poison_nr = 0;
	sim->end_off = sim->media.len_bytes;
	atomic_store(&sim->faulty, false);
	memset(&sim->counts, 0, sizeof(sim->counts));
}

void pc_sim_reset(struct pc_sim *sim, const void *image)
{
	if (image != NULL) {
		memcpy(sim->durable, image, sim->media.len_bytes);
		memcpy(sim->view, image, sim->media.len_bytes);
	} else {
		memset(sim->durable, 0, sim->media.len_bytes);
		memset(sim->view, 0, sim->media.len_bytes);
	}
	for (uint64_t chunk = 0; chunk < sim->media.len_bytes / PC_SIM_CHUNK_BYTES; chunk++) {
		sim->chunk_save[chunk] = sim->save_nr;
		sim->chunk_stale[chunk] = 1;
	}
	sim->load_from = NULL;
	pc_sim_rewind(sim);
}

bool pc_sim_renew(struct pc_sim *sim, uint64_t len_bytes)
{
	if (len_bytes == 0 || len_bytes % PC_PAGE_BYTES != 0 || len_bytes > sim->room_bytes)
		return false;
	/* The hash is that of no chunk. */
	memset(sim->chunk_hash, 0, sim->media.len_bytes / PC_SIM_CHUNK_BYTES * sizeof(*sim->chunk_hash));
	sim->durable_hash = 0;
	sim->media.len_bytes = len_bytes;
	sim->site_nr = 0;
	sim->skipped = NULL;
	pc_sim_reset(sim, NULL);
	return true;
}

void pc_sim_free(struct pc_sim *sim)
{
	if (sim == NULL)
		return;
	if (sim->view != NULL) {
		(void)munmap(sim->view, sim->room_bytes);
		(void)munmap((void *)(uintptr_t)sim->media.base, sim->room_bytes);
	}
	free(sim->durable);
	free(sim->entries);
	free(sim->stored_seq);
	free(sim->settled_seq);
	free(sim->line_stamp);
	free(sim->line_ordinal);
	free(sim->chunk_save);
	free(sim->chunk_touched);
	free(sim->chunk_stale);
	free(sim->chunk_hash);
	free(sim->seen);
	(void)pthread_mutex_destroy(&sim->lock);
	pc_media_fini(&sim->media);
	free(sim);
}

struct pc_media *pc_sim_media(struct pc_sim *sim)
{
	return &sim->media;
}

struct pc_sim *pc_sim_of(struct pc_media *media)
{
	return (struct pc_sim *)(void *)media;
}

bool pc_sim_closed(const struct pc_sim *sim)
{
	return sim->closed;
}

void pc_sim_store_orphan(struct pc_sim *sim, struct pc_sim_store store)
{
	sim->lines_valid = false;
	if (sim->media.granularity == PC_GRAN_BYTE) {
		(void)pc_sim_put(sim, store);
		return;
	}
	sim->view[store.word] = store.value;
	pc_sim_touch(sim, store.word);
	record_word(sim, store.word, DEAD_THREAD);
}

void pc_sim_reopen(struct pc_sim *sim)
{
	sim->closed = false;
	new_process(sim);
}

/* ------------------------------------------------------------------------------------------------ what is there */

const uint8_t *pc_sim_view(const struct pc_sim *sim)
{
	return (const uint8_t *)sim->view;
}

const uint8_t *pc_sim_durable(const struct pc_sim *sim)
{
	return (const uint8_t *)sim->durable;
}

size_t pc_sim_pending_nr(const struct pc_sim *sim)
{
	return sim->entry_nr;
}

struct pc_sim_store pc_sim_pending(const struct pc_sim *sim, size_t idx)
{
	return (struct pc_sim_store){ .word = sim->entries[idx].word, .value = sim->entries[idx].value };
}

/* ------------------------------------------------------------------------------------------------ hook, faults, counters */

void pc_sim_crash_at(struct pc_sim *sim, uint64_t nth, pc_sim_hook fn, void *user)
{
	sim->hook = fn;
	sim->hook_left = nth;
	sim->hook_user = user;
}

void pc_sim_stop(struct pc_sim *sim)
{
	sim->stopped = true;
}

bool pc_sim_stopped(const struct pc_sim *sim)
{
	return sim->stopped;
}

void pc_sim_fail_sync(struct pc_sim *sim, uint64_t nth, int err)
{
	sim->fail_nth = nth;
	sim->fail_err = err;
}

/* Loads look at the ranges from now on, or no longer. */
static void tell_faulty(struct pc_sim *sim)
{
	atomic_store_explicit(&sim->faulty, sim->poison_nr != 0 || sim->end_off != sim->media.len_bytes,
			      memory_order_release);
}

void pc_sim_poison(struct pc_sim *sim, uint64_t media_off, uint64_t len)
{
	(void)lock(&sim->media);
	if (sim->poison_nr == PC_SIM_POISON_MAX)
		pc_sim_die("too many poisoned ranges");
	sim->poison[sim->poison_nr++] = (struct pc_sim_range){ .begin_off = media_off, .end_off = media_off + len };
	tell_faulty(sim);
	unlock(sim);
}

void pc_sim_unpoison(struct pc_sim *sim)
{
	(void)lock(&sim->media);
	sim->poison_nr = 0;
	tell_faulty(sim);
	unlock(sim);
}

void pc_sim_truncate(struct pc_sim *sim, uint64_t end_off)
{
	(void)lock(&sim->media);
	sim->end_off = end_off;
	tell_faulty(sim);
	unlock(sim);
}

void pc_sim_damage(struct pc_sim *sim, uint64_t media_off, const void *bytes, size_t len)
{
	if (media_off > sim->media.len_bytes || len > sim->media.len_bytes - media_off)
		pc_sim_die("damage outside of the media");
	for (uint64_t word = media_off / 8; len > 0 && word <= (media_off + len - 1) / 8; word++) {
		if (pc_sim_is_pending(sim, word))
			pc_sim_die("damage where a store is pending");
	}
	if (len == 0)
		return;
	memcpy((uint8_t *)sim->view + media_off, bytes, len);
	memcpy((uint8_t *)sim->durable + media_off, bytes, len);
	touch_range(sim, media_off, len);
	for (uint64_t chunk = media_off / PC_SIM_CHUNK_BYTES; chunk <= (media_off + len - 1) / PC_SIM_CHUNK_BYTES; chunk++) {
		sim->chunk_save[chunk] = sim->save_nr;
		sim->chunk_stale[chunk] = 1;
	}
}

struct pc_sim_counts pc_sim_counts(const struct pc_sim *sim)
{
	return sim->counts;
}

size_t pc_sim_site_nr(const struct pc_sim *sim)
{
	return sim->site_nr;
}

struct pc_sim_site pc_sim_site(const struct pc_sim *sim, size_t idx)
{
	return sim->sites[idx];
}

void pc_sim_skip_site(struct pc_sim *sim, const void *address)
{
	sim->skipped = address;
}
