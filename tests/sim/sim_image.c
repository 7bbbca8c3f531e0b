/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a crash leaves of simulated media: images by policy, and saved moments that another simulator can be loaded with. See sim_media.h.
 *
 * An image hash is the exclusive or over all words of a mix of position and value, so it follows single words cheaply: pc_sim_explore builds, hashes and undoes an image
 * in time proportional to what is pending, not to the size of the image. Saving and loading go by chunks in the same way: a chunk knows at which save it changed
 * last.
 */
#include "sim/sim_internal.h"

#include <stdlib.h>
#include <string.h>

#define SUBSET_LIMIT 20u

/* Numbers the pending lines in the order of their first store. */
static void number_lines(struct pc_sim *sim)
{
	if (sim->lines_valid)
		return;
	sim->stamp++;
	sim->line_nr = 0;
	for (size_t i = 0; i < sim->entry_nr; i++) {
		uint32_t line = sim->entries[i].word / PC_SIM_LINE_WORDS;

		if (sim->line_stamp[line] != sim->stamp) {
			sim->line_stamp[line] = sim->stamp;
			sim->line_ordinal[line] = (uint32_t)sim->line_nr++;
		}
		sim->entries[i].line = sim->line_ordinal[line];
	}
	sim->lines_valid = true;
}

size_t pc_sim_pending_lines(struct pc_sim *sim)
{
	number_lines(sim);
	return sim->line_nr;
}

uint64_t pc_sim_policy_args(struct pc_sim *sim, enum pc_sim_policy policy)
{
	switch (policy) {
	case PC_SIM_NONE:
	case PC_SIM_ALL:
		return 1;
	case PC_SIM_SUBSET:
		return sim->entry_nr <= SUBSET_LIMIT ? UINT64_C(1) << sim->entry_nr : 0;
	case PC_SIM_MISSING:
	case PC_SIM_ALONE:
	case PC_SIM_PREFIX:
	case PC_SIM_SUFFIX:
		return sim->entry_nr;
	case PC_SIM_LINE_MISSING:
	case PC_SIM_LINE_ALONE:
	case PC_SIM_LINE_PREFIX:
	case PC_SIM_LINE_SUFFIX:
		return pc_sim_pending_lines(sim);
	case PC_SIM_RANDOM:
	case PC_SIM_RANDOM_LINES:
		return UINT64_MAX;
	case PC_SIM_POLICY_NR:
		break;
	}
	return 0;
}

/* True with a probability of (1 to 7) / 8, which the seed draws too. */
static bool biased_coin(uint64_t seed, uint64_t idx)
{
	uint64_t eighths = 1 + pc_sim_mix(seed ^ UINT64_C(0x5bf03635)) % 7;

	return pc_sim_mix(seed * UINT64_C(0x9e3779b97f4a7c15) + idx + 1) % 8 < eighths;
}

/* A line is kept, lost, or torn by words. */
static bool keep_torn_line(uint64_t seed, uint64_t line, uint64_t idx)
{
	switch (pc_sim_mix(seed ^ pc_sim_mix(line + 1)) % 3) {
	case 0:
		return false;
	case 1:
		return true;
	default:
		return biased_coin(seed, idx);
	}
}

/* Does pending store idx survive? */
static bool keeps(const struct pc_sim *sim, enum pc_sim_policy policy, uint64_t arg, size_t idx)
{
	uint32_t line = sim->entries[idx].line;

	switch (policy) {
	case PC_SIM_ALL:
		return true;
	case PC_SIM_SUBSET:
		return idx < 64 && (arg >> idx & 1);
	case PC_SIM_MISSING:
		return idx != arg;
	case PC_SIM_ALONE:
		return idx == arg;
	case PC_SIM_PREFIX:
		return idx <= arg;
	case PC_SIM_SUFFIX:
		return idx > arg;
	case PC_SIM_LINE_MISSING:
		return line != arg;
	case PC_SIM_LINE_ALONE:
		return line == arg;
	case PC_SIM_LINE_PREFIX:
		return line <= arg;
	case PC_SIM_LINE_SUFFIX:
		return line > arg;
	case PC_SIM_RANDOM:
		return biased_coin(arg, idx);
	case PC_SIM_RANDOM_LINES:
		return keep_torn_line(arg, line, idx);
	case PC_SIM_NONE:
	case PC_SIM_POLICY_NR:
		break;
	}
	return false;
}

uint64_t pc_sim_image_hash(const void *image, uint64_t len_bytes)
{
	const uint8_t *bytes = image;
	uint64_t hash = 0;
	uint64_t value;

	for (uint64_t word = 0; word < len_bytes / 8; word++) {
		memcpy(&value, bytes + word * 8, 8);
		hash ^= pc_sim_word_hash(word, value);
	}
	return hash;
}

uint64_t pc_sim_durable_hash(struct pc_sim *sim)
{
	for (uint64_t chunk = 0; chunk < sim->media.len_bytes / PC_SIM_CHUNK_BYTES; chunk++) {
		const uint64_t first = chunk * PC_SIM_CHUNK_WORDS;
		uint64_t hash = 0;

		if (!sim->chunk_stale[chunk])
			continue;
		for (uint64_t word = first; word < first + PC_SIM_CHUNK_WORDS; word++)
			hash ^= pc_sim_word_hash(word, sim->durable[word]);
		sim->durable_hash ^= sim->chunk_hash[chunk] ^ hash;
		sim->chunk_hash[chunk] = hash;
		sim->chunk_stale[chunk] = 0;
	}
	return sim->durable_hash;
}

/* Applies the stores that survive to an image that is equal to durable; returns its hash. */
static uint64_t apply(struct pc_sim *sim, enum pc_sim_policy policy, uint64_t arg, uint8_t *image)
{
	uint64_t hash = pc_sim_durable_hash(sim);
	uint64_t old;

	if (policy >= PC_SIM_LINE_MISSING)
		number_lines(sim);
	for (size_t i = 0; i < sim->entry_nr; i++) {
		const struct pc_sim_entry *entry = &sim->entries[i];
		uint8_t *at = image + (uint64_t)entry->word * 8;

		if (!keeps(sim, policy, arg, i))
			continue;
		memcpy(&old, at, 8);
		hash ^= pc_sim_word_hash(entry->word, old) ^ pc_sim_word_hash(entry->word, entry->value);
		memcpy(at, &entry->value, 8);
	}
	return hash;
}

static void undo(const struct pc_sim *sim, uint8_t *image)
{
	for (size_t i = 0; i < sim->entry_nr; i++) {
		uint32_t word = sim->entries[i].word;

		memcpy(image + (uint64_t)word * 8, &sim->durable[word], 8);
	}
}

uint64_t pc_sim_crash(struct pc_sim *sim, enum pc_sim_policy policy, uint64_t arg, void *out_image)
{
	memcpy(out_image, sim->durable, sim->media.len_bytes);
	return apply(sim, policy, arg, out_image);
}

static void seen_put(uint64_t *seen, size_t cap, uint64_t hash)
{
	size_t at = hash & (cap - 1);

	while (seen[at] != 0)
		at = (at + 1) & (cap - 1);
	seen[at] = hash;
}

static void seen_grow(struct pc_sim *sim)
{
	size_t cap = sim->seen_cap ? sim->seen_cap * 2 : 1024;
	uint64_t *seen = calloc(cap, sizeof(*seen));

	if (seen == NULL)
		pc_sim_die("no memory");
	for (size_t i = 0; i < sim->seen_cap; i++) {
		if (sim->seen[i] != 0)
			seen_put(seen, cap, sim->seen[i]);
	}
	free(sim->seen);
	sim->seen = seen;
	sim->seen_cap = cap;
}

/* False: it was there already. */
static bool seen_add(struct pc_sim *sim, uint64_t hash)
{
	size_t at;

	hash += hash == 0;
	if (sim->seen_nr * 2 >= sim->seen_cap)
		seen_grow(sim);
	for (at = hash & (sim->seen_cap - 1); sim->seen[at] != 0; at = (at + 1) & (sim->seen_cap - 1)) {
		if (sim->seen[at] == hash)
			return false;
	}
	sim->seen[at] = hash;
	sim->seen_nr++;
	return true;
}

struct explore {
	struct pc_sim *sim;
	uint8_t *scratch;
	pc_sim_image_fn fn;
	void *user;
	uint64_t given;
	bool stop;
};

static void explore_args(struct explore *x, enum pc_sim_policy policy, uint64_t first_arg, uint64_t arg_nr)
{
	for (uint64_t i = 0; i < arg_nr && !x->stop; i++) {
		uint64_t hash = apply(x->sim, policy, first_arg + i, x->scratch);

		if (seen_add(x->sim, hash)) {
			x->given++;
			x->sim->given_hash = hash;
			x->stop = !x->fn(x->user, x->scratch, policy, first_arg + i);
		}
		undo(x->sim, x->scratch);
	}
}

static void explore_policies(struct explore *x, enum pc_sim_policy first, enum pc_sim_policy last)
{
	for (int policy = (int)first; policy <= (int)last; policy++)
		explore_args(x, (enum pc_sim_policy)policy, 0, pc_sim_policy_args(x->sim, (enum pc_sim_policy)policy));
}

uint64_t pc_sim_explore(struct pc_sim *sim, const struct pc_sim_explore *how, uint8_t *scratch, pc_sim_image_fn fn,
			void *user)
{
	struct explore x = { .sim = sim, .scratch = scratch, .fn = fn, .user = user };

	memcpy(scratch, sim->durable, sim->media.len_bytes);
	if (sim->seen_nr > 0)
		memset(sim->seen, 0, sim->seen_cap * sizeof(*sim->seen));
	sim->seen_nr = 0;
	if (sim->entry_nr <= how->subset_max && sim->entry_nr <= SUBSET_LIMIT) {
		explore_policies(&x, PC_SIM_SUBSET, PC_SIM_SUBSET);
		return x.given;
	}
	explore_policies(&x, PC_SIM_NONE, PC_SIM_ALL);
	if (sim->entry_nr <= how->word_max)
		explore_policies(&x, PC_SIM_MISSING, PC_SIM_SUFFIX);
	if (pc_sim_pending_lines(sim) <= how->line_max)
		explore_policies(&x, PC_SIM_LINE_MISSING, PC_SIM_LINE_SUFFIX);
	explore_args(&x, PC_SIM_RANDOM, how->seed, how->random_nr);
	explore_args(&x, PC_SIM_RANDOM_LINES, how->seed, how->random_nr);
	return x.given;
}

uint64_t pc_sim_explore_hash(const struct pc_sim *sim)
{
	return sim->given_hash;
}

/* ------------------------------------------------------------------------------------------------ saved moments */

static void save_stores(const struct pc_sim *sim, struct pc_sim_saved *saved)
{
	if (saved->store_max < sim->entry_nr) {
		saved->store_max = sim->entry_nr * 2;
		saved->stores = realloc(saved->stores, saved->store_max * sizeof(*saved->stores));
		if (saved->stores == NULL)
			pc_sim_die("no memory");
	}
	for (size_t i = 0; i < sim->entry_nr; i++)
		saved->stores[i] = (struct pc_sim_store){ .word = sim->entries[i].word, .value = sim->entries[i].value };
	saved->store_nr = sim->entry_nr;
}

void pc_sim_save(struct pc_sim *sim, struct pc_sim_saved *saved)
{
	const uint64_t chunk_nr = sim->media.len_bytes / PC_SIM_CHUNK_BYTES;

	if (saved->sim != sim) {
		free(saved->durable);
		saved->durable = malloc(sim->media.len_bytes);
		if (saved->durable == NULL)
			pc_sim_die("no memory");
		saved->sim = sim;
		saved->save_nr = 0;
	}
	for (uint64_t chunk = 0; chunk < chunk_nr; chunk++) {
		if (sim->chunk_save[chunk] > saved->save_nr)
			memcpy(saved->durable + chunk * PC_SIM_CHUNK_BYTES, sim->durable + chunk * PC_SIM_CHUNK_WORDS, PC_SIM_CHUNK_BYTES);
	}
	saved->hash = pc_sim_durable_hash(sim);
	saved->save_nr = sim->save_nr++;
	save_stores(sim, saved);
}

void pc_sim_saved_fini(struct pc_sim_saved *saved)
{
	free(saved->durable);
	free(saved->stores);
	memset(saved, 0, sizeof(*saved));
}

void pc_sim_load(struct pc_sim *sim, const struct pc_sim_saved *saved)
{
	const struct pc_sim *from = saved->sim;
	const uint32_t same_until = sim->load_from == from ? (sim->load_save < saved->save_nr ? sim->load_save : saved->save_nr) : 0;
	const uint64_t chunk_nr = sim->media.len_bytes / PC_SIM_CHUNK_BYTES;

	if (from == sim || from->media.len_bytes != sim->media.len_bytes)
		pc_sim_die("loaded from media of another size");
	for (uint64_t chunk = 0; chunk < chunk_nr; chunk++) {
		if (!sim->chunk_touched[chunk] && from->chunk_save[chunk] <= same_until)
			continue;
		memcpy(sim->durable + chunk * PC_SIM_CHUNK_WORDS, saved->durable + chunk * PC_SIM_CHUNK_BYTES, PC_SIM_CHUNK_BYTES);
		memcpy(sim->view + chunk * PC_SIM_CHUNK_WORDS, saved->durable + chunk * PC_SIM_CHUNK_BYTES, PC_SIM_CHUNK_BYTES);
		sim->chunk_touched[chunk] = 0;
		sim->chunk_save[chunk] = sim->save_nr;
		sim->chunk_stale[chunk] = 1;
	}
	sim->load_from = from;
	sim->load_save = saved->save_nr;
	pc_sim_rewind(sim);
}

uint64_t pc_sim_put(struct pc_sim *sim, struct pc_sim_store store)
{
	const uint64_t old = sim->durable[store.word];

	if (pc_sim_is_pending(sim, store.word))
		pc_sim_die("put where a store is pending");
	pc_sim_touch(sim, store.word);
	sim->view[store.word] = store.value;
	pc_sim_set_durable(sim, store.word, store.value);
	return pc_sim_word_hash(store.word, old) ^ pc_sim_word_hash(store.word, store.value);
}
