/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Oracle of the crash simulator, see oracle.h.
 *
 * The history is one array of entries in issue order; each entry links to the next older one of its block, so that a copy of the oracle is one
 * memcpy and the walk from the newest version back to the last durable one is short. What recovery lost is unlinked and never found again.
 *
 * Recovery is a search for a subset: each block that was read picks one entry. Picking an entry of a pending unit says "that unit happened", passing over
 * an entry of a pending unit says "that one did not". The choice fits if no unit is both. Blocks of zeroes may leave several choices; these are
 * tried newest first.
 */
#include "sim/oracle_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_TAG UINT64_C(0x2b)
#define CHOICES_MAX 24u
#define SEARCH_STEPS_MAX 200000u

/* --- life --- */

void *pc_oracle_must(void *memory)
{
	if (memory == NULL)
		abort(); /* a test program: there is nothing better to do */
	return memory;
}

static uint32_t add_entry(struct pc_oracle *oracle, const struct pc_oracle_entry *entry)
{
	if (oracle->entry_nr == oracle->entry_max) {
		oracle->entry_max = oracle->entry_max * 2 + 256;
		oracle->entries = pc_oracle_must(realloc(oracle->entries, oracle->entry_max * sizeof(*oracle->entries)));
	}
	oracle->entries[oracle->entry_nr] = *entry;
	return oracle->entry_nr++;
}

struct pc_oracle *pc_oracle_new(const struct pc_oracle_options *options)
{
	struct pc_oracle *oracle = calloc(1, sizeof(*oracle));

	if (oracle == NULL)
		return NULL;
	oracle->options = *options;
	oracle->undrained_batch = options->order_batch;
	oracle->next_version = 2;
	oracle->epoch = 1;
	oracle->open_slot = PC_ORACLE_NO_SLOT;
	for (uint32_t blk = 0; blk < options->block_nr; blk++) {
		const struct pc_oracle_entry entry = {.version = 1, .older = PC_ORACLE_NO_ENTRY, .blk = (uint16_t)blk, .slot = PC_ORACLE_NO_SLOT};

		oracle->newest[blk] = add_entry(oracle, &entry);
	}
	return oracle;
}

bool pc_oracle_copy(struct pc_oracle *to, const struct pc_oracle *from)
{
	const size_t table_bytes = from->options.block_nr * sizeof(*from->newest);

	if (to->entry_max < from->entry_nr) {
		struct pc_oracle_entry *entries = realloc(to->entries, from->entry_max * sizeof(*entries));

		if (entries == NULL)
			return false;
		to->entries = entries;
		to->entry_max = from->entry_max;
	}
	to->options = from->options;
	to->next_version = from->next_version;
	to->epoch = from->epoch;
	to->merged_epoch = from->merged_epoch;
	to->undrained_batch = from->undrained_batch;
	to->changes = from->changes;
	to->open_slot = from->open_slot;
	memcpy(to->units, from->units, sizeof(to->units));
	memcpy(to->newest, from->newest, table_bytes);
	memcpy(to->drained_version, from->drained_version, table_bytes);
	memcpy(to->entries, from->entries, from->entry_nr * sizeof(*to->entries));
	to->entry_nr = from->entry_nr;
	return true;
}

struct pc_oracle *pc_oracle_clone(const struct pc_oracle *oracle)
{
	struct pc_oracle *clone = calloc(1, sizeof(*clone));

	if (clone != NULL && !pc_oracle_copy(clone, oracle)) {
		free(clone);
		return NULL;
	}
	return clone;
}

void pc_oracle_free(struct pc_oracle *oracle)
{
	if (oracle == NULL)
		return;
	free(oracle->entries);
	free(oracle);
}

const char *pc_oracle_text(const struct pc_oracle *oracle)
{
	return oracle->text;
}

void pc_oracle_set_mode(struct pc_oracle *oracle, bool commit_flush, bool order_batch)
{
	if (oracle->options.order_batch && !order_batch && oracle->undrained_batch)
		oracle->merged_epoch = oracle->epoch;
	oracle->undrained_batch |= order_batch;
	oracle->options.commit_flush = commit_flush;
	oracle->options.order_batch = order_batch;
}

uint64_t pc_oracle_changes(const struct pc_oracle *oracle)
{
	return oracle->changes;
}

uint64_t pc_oracle_hash(const struct pc_oracle *oracle)
{
	uint64_t hash = 0;

	for (uint32_t blk = 0; blk < oracle->options.block_nr; blk++) {
		const struct pc_oracle_entry *entry = &oracle->entries[oracle->newest[blk]];

		hash = ((hash ^ hash >> 29) + entry->version * 2u + entry->zero) * UINT64_C(0x9e3779b97f4a7c15);
	}
	return hash;
}

/* --- payload --- */

static uint64_t payload_word(uint32_t version, uint32_t blk, uint32_t word)
{
	return (uint64_t)version << 32 | (uint64_t)blk << 16 | WORD_TAG << 10 | word;
}

uint32_t pc_oracle_next_version(struct pc_oracle *oracle)
{
	return oracle->next_version++;
}

/*
 * Payload words of a block count up by one. This is where a run spends much of its time, so it goes by several words at once: with plain vectors, and with those
 * of AVX2 where the processor has them.
 */
typedef uint64_t lanes __attribute__((vector_size(16)));
typedef uint64_t lanes_avx2 __attribute__((vector_size(32)));

static void fill_block(uint8_t *to, uint32_t block_bytes, uint64_t first)
{
	lanes values = {first, first + 1};

	for (uint32_t at = 0; at < block_bytes; at += (uint32_t)sizeof(values)) {
		memcpy(to + at, &values, sizeof(values));
		values += 2;
	}
}

/* Whether a block is words that count up from the first by step. */
static bool counts_up(const uint8_t *buf, uint32_t block_bytes, uint64_t first, uint64_t step)
{
	lanes expected = {first, first + step};
	lanes bad = {0};

	for (uint32_t at = 0; at < block_bytes; at += (uint32_t)sizeof(expected)) {
		lanes values;

		memcpy(&values, buf + at, sizeof(values));
		bad |= values ^ expected;
		expected += 2 * step;
	}
	return (bad[0] | bad[1]) == 0;
}

#if defined(__x86_64__)
#define HAVE_AVX2 __builtin_cpu_supports("avx2")
__attribute__((target("avx2"))) static void fill_block_avx2(uint8_t *to, uint32_t block_bytes, uint64_t first)
{
	lanes_avx2 values = {first, first + 1, first + 2, first + 3};

	for (uint32_t at = 0; at < block_bytes; at += (uint32_t)sizeof(values)) {
		memcpy(to + at, &values, sizeof(values));
		values += 4;
	}
}

__attribute__((target("avx2"))) static bool counts_up_avx2(const uint8_t *buf, uint32_t block_bytes, uint64_t first, uint64_t step)
{
	lanes_avx2 expected = {first, first + step, first + 2 * step, first + 3 * step};
	lanes_avx2 bad = {0};

	for (uint32_t at = 0; at < block_bytes; at += (uint32_t)sizeof(expected)) {
		lanes_avx2 values;

		memcpy(&values, buf + at, sizeof(values));
		bad |= values ^ expected;
		expected += 4 * step;
	}
	return (bad[0] | bad[1] | bad[2] | bad[3]) == 0;
}
#else
#define HAVE_AVX2 false
#define fill_block_avx2 fill_block
#define counts_up_avx2 counts_up
#endif

void pc_oracle_fill(const struct pc_oracle *oracle, void *buf, uint32_t blk, uint32_t len_blk, uint32_t version)
{
	const uint32_t block_bytes = oracle->options.block_bytes;
	const bool avx2 = HAVE_AVX2;
	uint8_t *to = buf;

	for (uint32_t i = 0; i < len_blk; i++) {
		if (avx2)
			fill_block_avx2(to, block_bytes, payload_word(version, blk + i, 0));
		else
			fill_block(to, block_bytes, payload_word(version, blk + i, 0));
		to += block_bytes;
	}
}

struct pc_seen pc_oracle_look(const struct pc_oracle *oracle, uint32_t blk, const void *buf)
{
	struct pc_seen seen = {0, PC_SEEN_BAD};
	uint64_t first;

	memcpy(&first, buf, sizeof(first));
	if (first != 0 && first != payload_word((uint32_t)(first >> 32), blk, 0))
		return seen;
	if (!(HAVE_AVX2 ? counts_up_avx2(buf, oracle->options.block_bytes, first, first != 0) :
			  counts_up(buf, oracle->options.block_bytes, first, first != 0)))
		return seen;
	seen.kind = first == 0 ? PC_SEEN_ZERO : PC_SEEN_DATA;
	seen.version = (uint32_t)(first >> 32);
	return seen;
}

void pc_oracle_describe(const struct pc_oracle *oracle, uint32_t blk, const void *buf, char *text, size_t text_bytes)
{
	const uint32_t word_nr = oracle->options.block_bytes / 8;
	const uint8_t *from = buf;
	size_t used = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < word_nr && used + 80 < text_bytes;) {
		uint64_t first;
		uint32_t run = 1;

		memcpy(&first, from + i * 8, 8);
		for (; i + run < word_nr; run++) {
			uint64_t next;

			memcpy(&next, from + (i + run) * 8, 8);
			if (next != (first == 0 ? 0 : first + run))
				break;
		}
		if (first == 0)
			used += (size_t)snprintf(text + used, text_bytes - used, "%swords %u..%u zero", used ? ", " : "", i, i + run - 1);
		else if ((first >> 10 & 63) != WORD_TAG)
			used += (size_t)snprintf(text + used, text_bytes - used, "%sword %u is 0x%llx, no payload", used ? ", " : "", i,
						 (unsigned long long)first);
		else
			used += (size_t)snprintf(text + used, text_bytes - used, "%swords %u..%u v%u of block %u%s from word %u", used ? ", " : "", i,
						 i + run - 1, (uint32_t)(first >> 32), (uint32_t)(first >> 16 & 0xffff),
						 (first >> 16 & 0xffff) == blk ? "" : " (another block)", (uint32_t)(first & 1023));
		i += run;
	}
}

/* --- what happens --- */

void pc_oracle_begin(struct pc_oracle *oracle, bool atomic)
{
	uint32_t slot = 0;

	while (slot < PC_ORACLE_PENDING_MAX && oracle->units[slot].used)
		slot++;
	if (slot == PC_ORACLE_PENDING_MAX || oracle->open_slot != PC_ORACLE_NO_SLOT)
		abort();
	oracle->units[slot] = (struct pc_oracle_unit){.first = oracle->entry_nr, .used = true, .atomic = atomic};
	oracle->open_slot = slot;
	oracle->changes++;
}

void pc_oracle_put(struct pc_oracle *oracle, uint32_t blk, uint32_t len_blk, uint32_t version, bool zero)
{
	for (uint32_t i = blk; i < blk + len_blk; i++) {
		struct pc_oracle_entry *newest = &oracle->entries[oracle->newest[i]];
		const struct pc_oracle_entry entry = {.version = version,
					    .epoch = oracle->epoch,
					    .older = oracle->newest[i],
					    .blk = (uint16_t)i,
					    .slot = (uint8_t)oracle->open_slot,
					    .zero = zero};

		if (newest->slot == oracle->open_slot)
			newest->hidden = true;
		oracle->newest[i] = add_entry(oracle, &entry);
	}
}

/* Takes the entry out of the history of its block. */
static void unlink_entry(struct pc_oracle *oracle, uint32_t idx)
{
	const struct pc_oracle_entry *entry = &oracle->entries[idx];
	uint32_t *link = &oracle->newest[entry->blk];

	while (*link != idx && *link != PC_ORACLE_NO_ENTRY)
		link = &oracle->entries[*link].older;
	if (*link == idx)
		*link = entry->older;
}

static void make_durable(struct pc_oracle *oracle, uint32_t slot)
{
	for (uint32_t i = oracle->units[slot].first; i < oracle->entry_nr; i++) {
		if (oracle->entries[i].slot == slot)
			oracle->entries[i].slot = PC_ORACLE_NO_SLOT;
	}
	oracle->units[slot].used = false;
}

void pc_oracle_end(struct pc_oracle *oracle, bool ok, bool durable)
{
	const uint32_t slot = oracle->open_slot;

	if (!ok) {
		for (uint32_t i = oracle->units[slot].first; i < oracle->entry_nr; i++)
			unlink_entry(oracle, i);
		oracle->entry_nr = oracle->units[slot].first;
		oracle->units[slot].used = false;
	} else if (durable || !oracle->options.commit_flush) {
		make_durable(oracle, slot);
	}
	oracle->open_slot = PC_ORACLE_NO_SLOT;
	oracle->changes++;
}

void pc_oracle_resolve(struct pc_oracle *oracle, uint32_t blk, bool kept)
{
	if (!kept && oracle->entries[oracle->newest[blk]].slot == oracle->open_slot)
		unlink_entry(oracle, oracle->newest[blk]);
}

void pc_oracle_flushed(struct pc_oracle *oracle, bool ends_epoch)
{
	for (uint32_t slot = 0; slot < PC_ORACLE_PENDING_MAX; slot++) {
		if (oracle->units[slot].used)
			make_durable(oracle, slot);
	}
	if (ends_epoch)
		oracle->epoch++;
	oracle->changes++;
}

uint32_t pc_oracle_pending_nr(const struct pc_oracle *oracle)
{
	uint32_t nr = 0;

	for (uint32_t slot = 0; slot < PC_ORACLE_PENDING_MAX; slot++)
		nr += oracle->units[slot].used;
	return nr;
}

/* --- live reads and recovery --- */

bool pc_oracle_matches(const struct pc_oracle_entry *entry, const struct pc_seen *seen)
{
	if (seen->kind == PC_SEEN_ZERO)
		return entry->zero;
	return seen->kind == PC_SEEN_DATA && !entry->zero && entry->version == seen->version;
}

/* Names an entry: "v12", or "v12 (zeroes)". */
static const char *entry_text(const struct pc_oracle_entry *entry, char *text, size_t text_bytes)
{
	snprintf(text, text_bytes, "v%u%s (epoch %u%s)", entry->version, entry->zero ? " zeroes" : "", entry->epoch,
		 entry->slot == PC_ORACLE_NO_SLOT ? "" : ", not durable");
	return text;
}

/* Says what block blk holds and what it may hold. */
void pc_oracle_blame(struct pc_oracle *oracle, const char *where, uint32_t blk, const struct pc_seen *seen, const void *buf)
{
	char held[400] = "";
	char newest[64];
	char durable[64];
	const struct pc_oracle_entry *entry = &oracle->entries[oracle->newest[blk]];

	entry_text(entry, newest, sizeof(newest));
	while (entry->slot != PC_ORACLE_NO_SLOT)
		entry = &oracle->entries[entry->older];
	entry_text(entry, durable, sizeof(durable));
	if (seen->kind == PC_SEEN_BAD && buf != NULL)
		pc_oracle_describe(oracle, blk, buf, held, sizeof(held));
	else if (seen->kind == PC_SEEN_BAD)
		snprintf(held, sizeof(held), "no version of this block");
	else if (seen->kind == PC_SEEN_ZERO)
		snprintf(held, sizeof(held), "zeroes");
	else
		snprintf(held, sizeof(held), "v%u, which is %s", seen->version,
			 seen->version > entry->version ? "lost, failed or not written yet" : "older than that");
	snprintf(oracle->text, sizeof(oracle->text), "%s: block %u: last issued %s, last durable %s; holds %.300s", where, blk, newest, durable, held);
}

bool pc_oracle_check_live(struct pc_oracle *oracle, uint32_t blk, const void *buf)
{
	const struct pc_seen seen = pc_oracle_look(oracle, blk, buf);

	if (pc_oracle_matches(&oracle->entries[oracle->newest[blk]], &seen))
		return true;
	pc_oracle_blame(oracle, "live read", blk, &seen, buf);
	return false;
}

struct pc_seen pc_oracle_newest(const struct pc_oracle *oracle, uint32_t blk)
{
	const struct pc_oracle_entry *entry = &oracle->entries[oracle->newest[blk]];
	const struct pc_seen seen = {entry->zero ? 0 : entry->version, entry->zero ? PC_SEEN_ZERO : PC_SEEN_DATA};

	return seen;
}

struct choice {
	uint32_t entry;
	uint64_t needs; /* units that happened if this entry was read */
	uint64_t denies; /* units that did not */
};

struct choices {
	uint32_t blk;
	uint32_t choice_nr;
	struct choice choice[CHOICES_MAX];
};

struct search {
	uint32_t open_nr; /* blocks with several choices */
	uint32_t steps;
	uint32_t picked[PC_ORACLE_BLOCK_NR_MAX]; /* entry of each block */
	struct choices open[PC_ORACLE_BLOCK_NR_MAX];
};

/* All entries of a block that what was seen may be, newest first, down to the last durable one. */
static void list_choices(const struct pc_oracle *oracle, uint32_t blk, const struct pc_seen *seen, struct choices *out)
{
	uint64_t passed = 0;

	out->blk = blk;
	out->choice_nr = 0;
	for (uint32_t idx = oracle->newest[blk]; idx != PC_ORACLE_NO_ENTRY; idx = oracle->entries[idx].older) {
		const struct pc_oracle_entry *entry = &oracle->entries[idx];
		const bool pending = entry->slot != PC_ORACLE_NO_SLOT;
		const uint64_t bit = pending && oracle->units[entry->slot].atomic ? UINT64_C(1) << entry->slot : 0;

		if (pc_oracle_matches(entry, seen) && !entry->hidden && out->choice_nr < CHOICES_MAX)
			out->choice[out->choice_nr++] = (struct choice){.entry = idx, .needs = bit, .denies = passed};
		if (!pending)
			break;
		passed |= bit;
	}
}

static bool pick_open(struct search *search, uint32_t depth, uint64_t needs, uint64_t denies, uint64_t *out_denies)
{
	const struct choices *open;

	if ((needs & denies) != 0)
		return false;
	if (depth == search->open_nr) {
		*out_denies = denies;
		return true;
	}
	open = &search->open[depth];
	for (uint32_t i = 0; i < open->choice_nr; i++) {
		search->picked[open->blk] = open->choice[i].entry;
		if (++search->steps > SEARCH_STEPS_MAX) {
			*out_denies = denies;
			return true; /* undecided counts as right */
		}
		if (pick_open(search, depth + 1, needs | open->choice[i].needs, denies | open->choice[i].denies, out_denies))
			return true;
	}
	return false;
}

/* Finds two blocks that contradict each other about one unit. */
static void blame_unit(struct pc_oracle *oracle, const struct search *search, uint64_t both)
{
	uint32_t slot = 0;
	uint32_t with = UINT32_MAX;
	uint32_t without = UINT32_MAX;
	uint32_t with_version = 0;
	uint32_t without_version = 0;

	while (slot < PC_ORACLE_PENDING_MAX - 1 && (both >> slot & 1) == 0)
		slot++;
	for (uint32_t blk = 0; blk < oracle->options.block_nr; blk++) {
		for (uint32_t idx = oracle->newest[blk]; idx != PC_ORACLE_NO_ENTRY; idx = oracle->entries[idx].older) {
			const struct pc_oracle_entry *entry = &oracle->entries[idx];

			if (entry->slot == slot && idx == search->picked[blk]) {
				with = blk;
				with_version = entry->version;
			} else if (entry->slot == slot && search->picked[blk] < idx) {
				without = blk;
				without_version = entry->version;
			}
			if (idx == search->picked[blk])
				break;
		}
	}
	snprintf(oracle->text, sizeof(oracle->text), "recovered: a unit is there in part: block %u has its v%u, block %u lacks its v%u", with, with_version,
		 without, without_version);
}

/* The history is what was picked: passed-over entries and denied units are gone, the rest is durable. */
static void collapse(struct pc_oracle *oracle, const struct search *search, uint64_t denies)
{
	for (uint32_t blk = 0; blk < oracle->options.block_nr; blk++) {
		uint32_t *link;

		oracle->newest[blk] = search->picked[blk];
		link = &oracle->newest[blk];
		while (*link != PC_ORACLE_NO_ENTRY && oracle->entries[*link].slot != PC_ORACLE_NO_SLOT) {
			struct pc_oracle_entry *entry = &oracle->entries[*link];

			if (denies >> entry->slot & 1) {
				*link = entry->older;
			} else {
				entry->slot = PC_ORACLE_NO_SLOT;
				link = &entry->older;
			}
		}
	}
	/* Also what a durable entry hides: nothing is pending any more. */
	for (uint32_t slot = 0; slot < PC_ORACLE_PENDING_MAX; slot++) {
		if (oracle->units[slot].used)
			make_durable(oracle, slot);
	}
	oracle->open_slot = PC_ORACLE_NO_SLOT;
	oracle->changes++;
}

bool pc_oracle_knows(const struct pc_oracle *oracle, uint32_t blk, const struct pc_seen *seen)
{
	for (uint32_t idx = oracle->newest[blk]; idx != PC_ORACLE_NO_ENTRY; idx = oracle->entries[idx].older) {
		if (!oracle->entries[idx].hidden && pc_oracle_matches(&oracle->entries[idx], seen))
			return true;
	}
	return false;
}

/* Finds the outcome that an image is, not counting lost blocks (NULL: there are none). */
static bool find_outcome(struct pc_oracle *oracle, const uint8_t *image, const bool *lost, struct search *out_search, uint64_t *out_denies)
{
	uint64_t needs = 0;
	uint64_t denies = 0;

	out_search->open_nr = 0;
	out_search->steps = 0;
	for (uint32_t blk = 0; blk < oracle->options.block_nr; blk++) {
		const uint8_t *buf = image + (size_t)blk * oracle->options.block_bytes;
		const struct pc_seen seen = pc_oracle_look(oracle, blk, buf);
		struct choices *choices = &out_search->open[out_search->open_nr];

		if (lost != NULL && lost[blk]) {
			out_search->picked[blk] = oracle->newest[blk];
			continue;
		}
		list_choices(oracle, blk, &seen, choices);
		if (choices->choice_nr == 0) {
			pc_oracle_blame(oracle, "recovered", blk, &seen, buf);
			return false;
		}
		out_search->picked[blk] = choices->choice[0].entry;
		if (choices->choice_nr > 1) {
			out_search->open_nr++;
			continue;
		}
		needs |= choices->choice[0].needs;
		denies |= choices->choice[0].denies;
	}
	if ((needs & denies) != 0) {
		blame_unit(oracle, out_search, needs & denies);
		return false;
	}
	if (!pick_open(out_search, 0, needs, denies, out_denies)) {
		snprintf(oracle->text, sizeof(oracle->text), "recovered: no subset of the pending units gives what was read (zeroes involved)");
		return false;
	}
	return true;
}

static struct search search; /* large; one thread */

bool pc_oracle_recover(struct pc_oracle *oracle, const uint8_t *image)
{
	uint64_t denies;

	if (!find_outcome(oracle, image, NULL, &search, &denies))
		return false;
	collapse(oracle, &search, denies);
	return true;
}

bool pc_oracle_recover_but(struct pc_oracle *oracle, const uint8_t *image, const bool *lost)
{
	uint64_t denies;

	return find_outcome(oracle, image, lost, &search, &denies);
}
