/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache-batch-sim: large atomic batches, of 2 to 4096 ranges, over shards, data segments and log segments. The power fails at each fence and sync of the call, and after it; in every
 * image that this may leave the batch must be there as a whole or not at all, and all else as before.
 *
 * The operations of pcache-crash-sim are small, so that a seed of them takes little; here a case is one batch. Everything comes from the seed: --seed S --cases 1 repeats one.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/internal.h"
#include "backing/mem_backing.h"
#include "base/plant.h"
#include "core/cache.h"
#include "sim/generator.h"
#include "sim/sim_media.h"

#define PREFILL_MAX 64u
#define OPEN_AGAIN_PCT 10u

static const uint32_t range_nrs[] = { 2, 3, 5, 8, 16, 17, 40, 100, 300, 1000, 2000, 4096 };

struct shape {
	uint32_t block_bytes, segment_bytes, segment_nr, range_nr, cell_blk, head_nr;
	enum pc_granularity granularity;
	bool staged, commit_flush, guard_fence, no_crc, durable;
};

struct world {
	struct shape shape;
	struct pc_rng rng;
	struct pc_tweaks tweaks;
	uint64_t nonce;
	uint64_t blk_nr;
	uint32_t *versions[2]; /* of each block: before the batch, after it */
	uint8_t *io; /* as long as the backing */
	uint8_t *data; /* of the batch, as long */
	struct pcache_range *ranges;
	struct pc_sim *sim, *after; /* the batch runs on the first, images are opened on the second */
	uint8_t *image;
	struct mem_backing *mb;
	struct pcache *cache;
	bool is_done; /* the call has returned, and what it wrote is durable */
	const char *wrong;
};

struct sums {
	uint64_t case_nr, state_nr, old_nr, new_nr, range_most;
};

static struct sums sums;
static uint64_t states_max = UINT64_MAX;

static void give_up(const char *what, int rc)
{
	fprintf(stderr, "%s: %d\n", what, rc);
	abort();
}

static uint64_t next_nonce(void *user)
{
	struct world *w = user;

	return w->nonce = pc_rng_mix(w->nonce + 1);
}

/* Each word says which block and version it is of. */
static void fill(const struct world *w, uint8_t *to, uint64_t blk, uint32_t version)
{
	const uint64_t first = pc_rng_mix(blk * UINT64_C(0x100000001) + version);

	for (uint32_t at = 0; at < w->shape.block_bytes; at += 8) {
		const uint64_t word = first + at;

		memcpy(to + at, &word, sizeof(word));
	}
}

static bool is_version(const struct world *w, const uint8_t *bytes, uint64_t blk, uint32_t version)
{
	uint8_t block[4096];

	fill(w, block, blk, version);
	return memcmp(bytes, block, w->shape.block_bytes) == 0;
}

static void draw_shape(struct world *w)
{
	struct shape *s = &w->shape;
	const uint32_t page_pct = pc_rng_below(&w->rng, 100);

	s->range_nr = range_nrs[pc_rng_below(&w->rng, PC_ARRAY_NR(range_nrs))];
	s->block_bytes = s->range_nr <= 100 && pc_rng_chance(&w->rng, 25) ? 4096 : 512;
	/* A kset lies in one segment, and a batch may take an eighth of the cache. */
	s->segment_bytes = s->range_nr > 1000 ? 262144 : 65536;
	s->segment_nr = s->range_nr > 1000 ? 96 : s->range_nr > 100 ? 64 : 48;
	s->cell_blk = 2 + pc_rng_below(&w->rng, s->range_nr > 100 ? 1 : 7);
	s->head_nr = pc_rng_below(&w->rng, 4);
	s->granularity = page_pct < 30 ? PC_GRAN_PAGE : page_pct < 45 ? PC_GRAN_BYTE : PC_GRAN_CACHE_LINE;
	s->staged = s->granularity == PC_GRAN_PAGE && pc_rng_chance(&w->rng, 50);
	s->commit_flush = s->granularity == PC_GRAN_PAGE || pc_rng_chance(&w->rng, 25);
	s->guard_fence = pc_rng_chance(&w->rng, 20);
	s->no_crc = pc_rng_chance(&w->rng, 15);
	s->durable = pc_rng_chance(&w->rng, 50);
	w->tweaks = (struct pc_tweaks){ .shard_nr = 1u << pc_rng_below(&w->rng, 7),
					.stripe_bytes = 4096u << pc_rng_below(&w->rng, 5),
					.data_head_nr = s->head_nr,
					.nonce = next_nonce,
					.nonce_user = w };
	w->blk_nr = (uint64_t)s->range_nr * s->cell_blk;
	w->blk_nr = PC_ROUND_UP(w->blk_nr, UINT64_C(8));
}

static struct pcache_config *new_config(const struct world *w)
{
	const struct shape *s = &w->shape;
	struct pcache_config *config;
	int rc = pcache_config_new(&config);

	if (rc)
		give_up("config", rc);
	rc |= pcache_config_set(config, PCACHE_OPT_BLOCK_BYTES, s->block_bytes);
	rc |= pcache_config_set(config, PCACHE_OPT_SEGMENT_BYTES, s->segment_bytes);
	rc |= pcache_config_set(config, PCACHE_OPT_DATA_CRC, !s->no_crc);
	rc |= pcache_config_set(config, PCACHE_OPT_COMMIT, s->commit_flush ? PCACHE_COMMIT_FLUSH : PCACHE_COMMIT_WRITE);
	rc |= pcache_config_set(config, PCACHE_OPT_COMMIT_GUARD, s->guard_fence || s->no_crc);
	rc |= pcache_config_set(config, PCACHE_OPT_MAINTENANCE, PCACHE_MAINTENANCE_CALLER);
	if (rc)
		give_up("options", rc);
	return config;
}

static uint64_t media_bytes(const struct shape *s)
{
	const uint64_t zone =
		PC_ROUND_UP(2 * (uint64_t)PC_PAGE_BYTES + s->segment_nr * UINT64_C(64), (uint64_t)PC_PAGE_BYTES);

	return PC_ROUND_UP(zone, (uint64_t)s->segment_bytes) + zone + (uint64_t)s->segment_nr * s->segment_bytes;
}

/* 0, or the error of the open. */
static int open_on(struct world *w, struct pc_sim *sim, struct mem_backing *mb, struct pcache **out_cache)
{
	struct pcache_config *config = new_config(w);
	struct pcache_backing *backing = mem_backing_attach(mb);
	int rc;

	if (!backing)
		give_up("backing", 0);
	rc = pc_cache_open_media(pc_sim_media(sim), config, &w->tweaks, backing, out_cache);
	if (rc)
		pcache_backing_free(backing);
	pcache_config_free(config);
	return rc;
}

static void up(struct world *w)
{
	const struct shape *s = &w->shape;
	const uint32_t flags = s->staged ? PC_SIM_STAGED : 0;
	const struct mem_backing_options options = { .size_bytes = w->blk_nr * s->block_bytes };
	struct pcache_config *config = new_config(w);
	struct pcache_backing *backing;
	int rc = pc_sim_new(media_bytes(s), s->granularity, flags, &w->sim);

	if (!rc)
		rc = pc_sim_new(media_bytes(s), s->granularity, flags, &w->after);
	if (rc)
		give_up("media", rc);
	w->mb = mem_backing_create(&options);
	w->versions[0] = calloc(w->blk_nr, sizeof(uint32_t));
	w->versions[1] = calloc(w->blk_nr, sizeof(uint32_t));
	w->io = malloc(options.size_bytes);
	w->data = malloc(options.size_bytes);
	w->ranges = calloc(s->range_nr, sizeof(*w->ranges));
	w->image = malloc(media_bytes(s));
	if (!w->mb || !w->versions[0] || !w->versions[1] || !w->io || !w->data || !w->ranges || !w->image)
		give_up("memory", 0);
	for (uint64_t blk = 0; blk < w->blk_nr; blk++)
		fill(w, w->io + blk * s->block_bytes, blk, 0);
	mem_backing_load(w->mb, w->io);
	backing = mem_backing_attach(w->mb);
	rc = pc_cache_format_media(pc_sim_media(w->sim), config, &w->tweaks, backing);
	pcache_backing_free(backing);
	pcache_config_free(config);
	if (!rc)
		rc = open_on(w, w->sim, w->mb, &w->cache);
	if (rc)
		give_up("open", rc);
}

static void down(struct world *w)
{
	pc_cache_abandon(w->cache);
	pc_sim_free(w->sim);
	pc_sim_free(w->after);
	mem_backing_destroy(w->mb);
	free(w->versions[0]);
	free(w->versions[1]);
	free(w->io);
	free(w->data);
	free(w->ranges);
	free(w->image);
}

/* What the batch meets: written blocks, some of them clean, and a log head somewhere in its segment. */
static void prefill(struct world *w)
{
	const uint32_t drain_at = pc_rng_below(&w->rng, 2 * PREFILL_MAX), nr = pc_rng_below(&w->rng, PREFILL_MAX);
	const uint32_t slots_blk = 1 + pc_rng_below(&w->rng, 40);
	int rc = 0;

	for (uint32_t i = 0; !rc && i < nr; i++) {
		const uint64_t blk = pc_rng_below(&w->rng, (uint32_t)w->blk_nr);
		const uint32_t wish_blk = 1 + pc_rng_below(&w->rng, slots_blk);
		const uint64_t len_blk = PC_MIN((uint64_t)wish_blk, w->blk_nr - blk);

		for (uint64_t at = 0; at < len_blk; at++) {
			w->versions[0][blk + at] = i + 1;
			fill(w, w->io + at * w->shape.block_bytes, blk + at, i + 1);
		}
		rc = pcache_write(w->cache, w->io, blk * w->shape.block_bytes, len_blk * w->shape.block_bytes, 0);
		if (!rc && i == drain_at)
			rc = pcache_drain(w->cache, NULL, NULL);
	}
	/* Small writes move the head: the batch's kset may have to begin in the next segment of the log. */
	for (uint32_t i = pc_rng_below(&w->rng, w->shape.segment_bytes / 64); !rc && i > 0; i--) {
		w->versions[0][0] = PREFILL_MAX + i;
		fill(w, w->io, 0, PREFILL_MAX + i);
		rc = pcache_write(w->cache, w->io, 0, w->shape.block_bytes, 0);
	}
	if (!rc)
		rc = pcache_flush(w->cache);
	if (rc)
		give_up("prefill", rc);
}

/* One range in each cell of the backing, in any order, until the atomic maximum is used up. */
static void draw_batch(struct world *w)
{
	const uint32_t block_bytes = w->shape.block_bytes, version = 1u << 30;
	uint64_t left_blk = pcache_atomic_write_max(w->cache) / block_bytes;
	uint8_t *data = w->data;
	uint32_t nr = 0;

	memcpy(w->versions[1], w->versions[0], w->blk_nr * sizeof(uint32_t));
	for (uint32_t cell = 0; cell < w->shape.range_nr && left_blk > 0; cell++) {
		const uint32_t at = pc_rng_below(&w->rng, w->shape.cell_blk);
		const uint32_t most = (uint32_t)PC_MIN((uint64_t)(w->shape.cell_blk - at),
						       1 + (left_blk - 1) / (w->shape.range_nr - cell));
		const uint32_t len_blk = 1 + pc_rng_below(&w->rng, most);
		const uint64_t blk = (uint64_t)cell * w->shape.cell_blk + at;

		w->ranges[nr++] = (struct pcache_range){ .buf = data,
							 .off = blk * block_bytes,
							 .len = (uint64_t)len_blk * block_bytes };
		for (uint32_t i = 0; i < len_blk; i++, data += block_bytes) {
			w->versions[1][blk + i] = version;
			fill(w, data, blk + i, version);
		}
		left_blk -= len_blk;
	}
	w->shape.range_nr = nr;
	for (uint32_t i = nr; i > 1; i--) {
		const uint32_t other = pc_rng_below(&w->rng, i);
		const struct pcache_range range = w->ranges[other];

		w->ranges[other] = w->ranges[i - 1];
		w->ranges[i - 1] = range;
	}
}

/* What the cache shows: 0 all as before, 1 the whole batch; negative: neither. */
static int what_is_there(struct world *w, struct pcache *cache)
{
	const uint32_t block_bytes = w->shape.block_bytes;
	uint32_t seen[2] = { 0, 0 };
	int rc = pcache_read(cache, w->io, 0, w->blk_nr * block_bytes, 0);

	if (rc) {
		w->wrong = "a read fails";
		return -1;
	}
	for (uint64_t blk = 0; blk < w->blk_nr; blk++) {
		const uint8_t *bytes = w->io + blk * block_bytes;
		const bool is_old = is_version(w, bytes, blk, w->versions[0][blk]);

		if (w->versions[0][blk] == w->versions[1][blk]) {
			if (!is_old)
				w->wrong = "a block outside of the batch has changed";
			continue;
		}
		if (!is_old && !is_version(w, bytes, blk, w->versions[1][blk]))
			w->wrong = "a block of the batch is neither old nor new";
		seen[!is_old]++;
	}
	if (!w->wrong && seen[0] && seen[1])
		w->wrong = "a part of the batch is there";
	return w->wrong ? -1 : seen[1] > 0;
}

static bool check_image(void *user, const uint8_t *image, enum pc_sim_policy policy, uint64_t arg)
{
	struct world *w = user;
	struct mem_backing *mb = mem_backing_clone(w->mb);
	struct pcache *cache;
	int there;

	(void)policy, (void)arg;
	if (!mb)
		give_up("memory", 0);
	pc_sim_reset(w->after, image);
	if (open_on(w, w->after, mb, &cache)) {
		w->wrong = "the open fails";
		mem_backing_destroy(mb);
		return false;
	}
	there = what_is_there(w, cache);
	if (there == 0 && w->is_done)
		w->wrong = "the batch had returned, and is lost";
	pc_cache_abandon(cache);
	/* What an open showed stays. */
	if (!w->wrong && pc_rng_chance(&w->rng, OPEN_AGAIN_PCT)) {
		pc_sim_crash(w->after, PC_SIM_NONE, 0, w->image);
		pc_sim_reset(w->after, w->image);
		if (open_on(w, w->after, mb, &cache)) {
			w->wrong = "the second open fails";
		} else {
			if (what_is_there(w, cache) != there)
				w->wrong = "a second open shows something else";
			pc_cache_abandon(cache);
		}
	}
	mem_backing_destroy(mb);
	sums.state_nr++;
	sums.old_nr += there == 0;
	sums.new_nr += there == 1;
	return !w->wrong && sums.state_nr < states_max;
}

static void explore(struct world *w, struct pc_sim *sim)
{
	const struct pc_sim_explore how = { .subset_max = 4,
					    .word_max = 0,
					    .line_max = w->shape.range_nr <= 8 ? 12 : 0,
					    .random_nr = w->shape.range_nr > 1000 ? 3 : 8,
					    .seed = pc_rng_next(&w->rng) };
	uint8_t *scratch = malloc(media_bytes(&w->shape));

	if (!scratch)
		give_up("memory", 0);
	(void)pc_sim_explore(sim, &how, scratch, check_image, w);
	free(scratch);
}

struct moment {
	struct world *w;
	struct pc_sim *sim;
};

static void *explore_moment(void *arg)
{
	struct moment *moment = arg;

	explore(moment->w, moment->sim);
	return NULL;
}

/* The caller holds locks of its cache, so that the caches that are opened here need another thread: locks are ranked by thread. */
static void at_fence(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	struct moment moment = { .w = user, .sim = sim };
	pthread_t thread;

	(void)event;
	if (moment.w->wrong)
		return;
	if (pthread_create(&thread, NULL, explore_moment, &moment) || pthread_join(thread, NULL))
		give_up("thread", 0);
}

/* NULL, or what is wrong. */
static const char *run_case(uint64_t seed, struct shape *out_shape)
{
	struct world w = { .rng = { 0 }, .nonce = seed };
	uint32_t flags;
	int rc;

	w.rng.state = pc_rng_mix(seed);
	draw_shape(&w);
	up(&w);
	prefill(&w);
	draw_batch(&w);
	flags = w.shape.durable ? PCACHE_DURABLE : 0;
	pc_sim_crash_at(w.sim, 0, at_fence, &w);
	rc = pcache_write_batch(w.cache, w.ranges, w.shape.range_nr, flags);
	if (!rc && !w.wrong) {
		w.is_done = w.shape.durable || !w.shape.commit_flush;
		explore(&w, w.sim);
		rc = pcache_flush(w.cache);
		w.is_done = true;
	}
	pc_sim_crash_at(w.sim, 0, NULL, NULL);
	if (rc)
		give_up("batch", rc);
	if (!w.wrong)
		explore(&w, w.sim);
	if (!w.wrong && what_is_there(&w, w.cache) != 1 && !w.wrong)
		w.wrong = "the batch does not show";
	sums.range_most = PC_MAX(sums.range_most, (uint64_t)w.shape.range_nr);
	down(&w);
	*out_shape = w.shape;
	return w.wrong;
}

static bool switch_on(const char *name)
{
	static const struct {
		const char *name;
		enum pc_plant plant;
	} plants[] = { { "no-write-fence", PC_PLANT_NO_WRITE_FENCE },
		       { "kset-after-ack", PC_PLANT_KSET_AFTER_ACK },
		       { "batch-in-two", PC_PLANT_BATCH_IN_TWO } };

	for (size_t i = 0; i < PC_ARRAY_NR(plants); i++) {
		if (strcmp(name, plants[i].name) == 0) {
			pc_plant = (int)plants[i].plant;
			return true;
		}
	}
	return false;
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, case_max = UINT64_MAX, seconds = 60;
	bool json = false, timed = true;
	const time_t begin = time(NULL);
	struct shape shape;

	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (strcmp(argv[i], "--json") == 0) {
			json = true;
			continue;
		}
		i++;
		if (strcmp(argv[i - 1], "--seed") == 0) {
			seed = strtoull(value, NULL, 10);
		} else if (strcmp(argv[i - 1], "--cases") == 0) {
			case_max = strtoull(value, NULL, 10);
			timed = false;
		} else if (strcmp(argv[i - 1], "--states") == 0) {
			states_max = strtoull(value, NULL, 10);
			timed = false;
		} else if (strcmp(argv[i - 1], "--seconds") == 0) {
			seconds = strtoull(value, NULL, 10);
		} else if (strcmp(argv[i - 1], "--plant") != 0 || !switch_on(value)) {
			fprintf(stderr, "usage: pcache-batch-sim [--seconds N] [--seed S] [--cases N] [--states N] "
					"[--json] [--plant "
					"no-write-fence|kset-after-ack|batch-in-two]\n");
			return 2;
		}
	}
	while (sums.case_nr < case_max && sums.state_nr < states_max &&
	       (!timed || time(NULL) - begin < (time_t)seconds)) {
		const char *wrong = run_case(seed + sums.case_nr, &shape);

		if (wrong) {
			printf("violation after %" PRIu64 " states: %s, in a batch of %u ranges, block %u, segment "
			       "%u\nrepeat: pcache-batch-sim --seed %" PRIu64 " --cases 1\n",
			       sums.state_nr, wrong, shape.range_nr, shape.block_bytes, shape.segment_bytes,
			       seed + sums.case_nr);
			return 1;
		}
		sums.case_nr++;
	}
	printf(json ? "{\"cases\": %" PRIu64 ", \"states\": %" PRIu64 ", \"old\": %" PRIu64 ", \"new\": %" PRIu64
		      ", \"ranges_most\": %" PRIu64 "}\n"
		    : "%" PRIu64 " cases, %" PRIu64 " states: %" PRIu64 " as before, %" PRIu64
		      " with the batch; up to %" PRIu64 " ranges; no violation\n",
	       sums.case_nr, sums.state_nr, sums.old_nr, sums.new_nr, sums.range_most);
	return 0;
}
