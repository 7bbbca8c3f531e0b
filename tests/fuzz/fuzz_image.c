/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzz target: a whole cache image. It is checked, opened, read everywhere, closed, opened and read again, drained, closed: see scene.h for the input.
 *
 * check, info and open agree about damage; an open that refuses has changed nothing; every block reads as check says, or is an error that check explains; a second open shows
 * the same; a drain ends, and leaves the backing with what was read, other blocks unchanged; what was sound stays sound.
 */
#include <string.h>

#include "fuzz/scene.h"
#include "pcache/errors.h"

static bool known[SCENE_BLOCK_NR_MAX];

static void close_it(struct scene *s, const char *when)
{
	const int rc = pcache_close(s->cache);

	s->cache = NULL;
	if (rc != 0)
		fuzz_fail("%s: close gives %d", when, rc);
	scene_check_closed(s, when);
}

static void open_again(struct scene *s)
{
	const int rc = scene_try_open(s);
	uint8_t block[4096];

	if (rc != 0)
		fuzz_fail("the second open gives %d", rc);
	scene_check_state(s, "after the second open");
	for (uint32_t blk = 0; blk < s->block_nr; blk++) {
		if ((scene_read(s, blk, block) == 0) != known[blk])
			fuzz_fail("block %u: the second open reads it otherwise", blk);
		if (known[blk] && memcmp(block, s->expected + (size_t)blk * s->block_bytes, s->block_bytes) != 0)
			fuzz_fail("block %u has other bytes at the second open", blk);
	}
}

/* Nothing but what the cache had goes to the backing. */
static void check_backing(const struct scene *s, bool drained)
{
	const uint8_t *live = mem_backing_live(s->mb), *durable = mem_backing_durable(s->mb);

	for (uint32_t blk = 0; blk < s->block_nr; blk++) {
		const size_t at = (size_t)blk * s->block_bytes;
		const bool is_old = memcmp(live + at, s->original + at, s->block_bytes) == 0;

		if ((s->lost || s->unsure[blk]) && s->blocks[blk] == SCENE_FROM_BACKING)
			continue;
		if (s->blocks[blk] != SCENE_DIRTY && !is_old)
			fuzz_fail("block %u of the backing was changed, and has nothing dirty", blk);
		if (s->blocks[blk] == SCENE_DIRTY && !is_old &&
		    memcmp(live + at, s->expected + at, s->block_bytes) != 0)
			fuzz_fail("block %u of the backing has bytes of its own", blk);
		if (drained && known[blk] && memcmp(durable + at, s->expected + at, s->block_bytes) != 0)
			fuzz_fail("block %u is not on the backing after a drain", blk);
	}
}

static void drain(struct scene *s)
{
	const int rc = pcache_drain(s->cache, NULL, NULL);
	bool lost = false;

	for (uint32_t blk = 0; blk < s->block_nr; blk++)
		lost |= !known[blk];
	/* Full: where each flush takes a segment of the log, the one for noting a loss may be missing (docs/DESIGN.md). */
	if (rc != 0 && (!lost || (rc != PCACHE_E_POISONED &&
				  (rc != PCACHE_E_FULL || pc_sim_media(s->sim)->granularity != PC_GRAN_PAGE))))
		fuzz_fail("drain gives %d", rc);
	scene_check_state(s, "after the drain");
	check_backing(s, rc == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct scene *s = scene_begin(data, len, NULL, 0);

	if (scene_open(s, known)) {
		close_it(s, "after the first open");
		open_again(s);
		drain(s);
		close_it(s, "after the drain");
	}
	scene_end(s);
	return 0;
}
