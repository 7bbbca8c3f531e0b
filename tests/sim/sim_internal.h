/* SPDX-License-Identifier: BSD-3-Clause */
/* What the parts of the simulated media share: sim_media.c are its operations, sim_image.c what a crash leaves of it. */
#ifndef PC_SIM_INTERNAL_H
#define PC_SIM_INTERNAL_H

#include "sim/sim_media.h"

#define PC_SIM_THREADS_MAX 63u
#define PC_SIM_POISON_MAX 16u
#define PC_SIM_SITES_MAX 512u
#define PC_SIM_LINE_WORDS (PC_CACHE_LINE_BYTES / 8u)

/* A store that is not durable yet. threads: bit of each thread whose fence makes it durable; 0: never (its sync failed). */
struct pc_sim_entry {
	uint64_t value;
	uint64_t threads;
	uint64_t seq;
	uint32_t word;
	uint32_t line; /* ordinal among the pending lines; valid while sim->lines_valid */
};

struct pc_sim_range {
	uint64_t begin_off;
	uint64_t end_off;
};

struct pc_sim {
	struct pc_media media; /* first */
	bool threaded;
	bool closed;
	bool stopped;
	bool lines_valid;
	pthread_mutex_t lock; /* everything here, if threaded */
	uint64_t room_bytes; /* as long as media.len_bytes can become */
	uint64_t *view; /* writable alias of media.base */
	uint64_t *durable;
	uint64_t durable_hash; /* of all chunks that are not stale */
	uint64_t given_hash; /* of the last image that explore gave */
	struct pc_sim_entry *entries;
	size_t entry_nr;
	size_t entry_cap;
	uint64_t seq; /* of the last store; never goes back, so reset need not clear the arrays by word */
	uint64_t base_seq; /* at the last reset */
	uint64_t *stored_seq; /* by word: its last store */
	uint64_t *settled_seq; /* by word: its newest durable store */
	uint64_t *line_stamp; /* by line: number of the count that saw it */
	uint32_t *line_ordinal; /* by line: valid if stamped */
	uint64_t stamp;
	size_t line_nr;
	uint64_t thread_serials[PC_SIM_THREADS_MAX];
	uint32_t thread_nr;
	uint64_t hook_left; /* events until the hook is called once; 0: at each */
	pc_sim_hook hook;
	void *hook_user;
	uint64_t fail_nth; /* 0: off */
	int fail_err;
	struct pc_sim_range poison[PC_SIM_POISON_MAX];
	size_t poison_nr;
	uint64_t end_off;
	_Atomic bool faulty; /* there is poison, or the media ends early */
	struct pc_sim_counts counts;
	struct pc_sim_site sites[PC_SIM_SITES_MAX];
	size_t site_nr;
	const void *skipped;
	/* By chunk of PC_SIM_CHUNK_BYTES: what changed, so that images can be saved, loaded and hashed in time proportional to that. */
	uint32_t save_nr; /* images saved so far */
	uint32_t *chunk_save; /* save_nr when the durable chunk changed last */
	uint8_t *chunk_touched; /* view or durable changed since the last load */
	uint8_t *chunk_stale; /* chunk_hash is not what is there */
	uint64_t *chunk_hash;
	const struct pc_sim *load_from; /* where the last load came from; NULL: from elsewhere */
	uint32_t load_save; /* save_nr of that image */
	uint64_t *seen; /* explore: open-addressed set of hashes, 0 is free */
	size_t seen_cap;
	size_t seen_nr;
};

#define PC_SIM_CHUNK_BYTES 512u
#define PC_SIM_CHUNK_WORDS (PC_SIM_CHUNK_BYTES / 8u)

void pc_sim_die(const char *why) __attribute__((noreturn));

static inline uint64_t pc_sim_mix(uint64_t x)
{
	x ^= x >> 32;
	x *= UINT64_C(0xd6e8feb86659fd93);
	x ^= x >> 32;
	x *= UINT64_C(0xd6e8feb86659fd93);
	return x ^ x >> 32;
}

static inline uint64_t pc_sim_word_hash(uint64_t word, uint64_t value)
{
	return pc_sim_mix(value ^ (word + 1) * UINT64_C(0x9e3779b97f4a7c15));
}

static inline uint64_t pc_sim_words(const struct pc_sim *sim)
{
	return sim->media.len_bytes / 8;
}

static inline bool pc_sim_is_pending(const struct pc_sim *sim, uint64_t word)
{
	return sim->stored_seq[word] > sim->base_seq && sim->stored_seq[word] > sim->settled_seq[word];
}

/* A store to this word: view or durable is no longer what was loaded. */
static inline void pc_sim_touch(struct pc_sim *sim, uint64_t word)
{
	sim->chunk_touched[word / PC_SIM_CHUNK_WORDS] = 1;
}

/* The durable word changes. */
static inline void pc_sim_set_durable(struct pc_sim *sim, uint64_t word, uint64_t value)
{
	const uint64_t chunk = word / PC_SIM_CHUNK_WORDS;

	sim->durable[word] = value;
	sim->chunk_save[chunk] = sim->save_nr;
	sim->chunk_stale[chunk] = 1;
}

/* Everything but the content is as new. */
void pc_sim_rewind(struct pc_sim *sim);

#endif
