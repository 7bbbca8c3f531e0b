/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Faults of the backing, by operation: errors at every call in turn, short transfers, and what a power cut of the backing alone leaves (G7, G9, G10).
 * Slow, hanging and asynchronous backings are in cells_backing_slow.c.
 */
#include "fault/cells_backing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const rows[BK_ROW_NR] = {
	[BK_ONCE] = "EIO once, at each call in turn",
	[BK_FOR_GOOD] = "EIO for good",
	[BK_UNTIL_FLUSH] = "EIO until the next flush",
	[BK_SHORT] = "short transfer",
	[BK_EINTR] = "EINTR",
	[BK_EAGAIN] = "EAGAIN",
	[BK_ENOSPC] = "ENOSPC",
	[BK_REORDERED] = "reordered: power cut keeps any subset",
	[BK_LOST] = "lost until flush: power cut keeps nothing",
	[BK_LIES] = "flush that lies, then a power cut",
	[BK_DELAY] = "delay",
	[BK_HANG] = "hang",
	[BK_THREAD] = "completion on another thread",
	[BK_EARLY] = "table with `submit`, completion before it returns",
};

static const char *const cols[BK_COL_NR] = {
	[BK_MISS] = "miss read",
	[BK_WRITE] = "write-back write",
	[BK_ZEROES] = "write-back zeroes",
	[BK_FLUSH] = "flush in write-back",
	[BK_DRAIN] = "drain",
	[BK_OPEN] = "flush in open",
	[BK_CLOSE] = "close",
};

/* ---- errors --------------------------------------------------------------------------------------------------------- */

/* One fault: the nth call of op from its moment on. */
struct spec {
	enum mem_backing_op op;
	enum mem_backing_fault_mode mode;
	int err;
	uint64_t applied_bytes; /* of a write that fails */
	bool positive; /* the callback returns a length instead of an error, as pwrite does; -EIO comes of it */
	uint32_t ordering;
};

struct positive {
	enum mem_backing_op op;
	uint64_t left_nr;
};

static int return_length(void *user, enum mem_backing_op op, uint64_t off, uint64_t len, const void *buf)
{
	struct positive *positive = user;

	(void)off, (void)buf;
	if (op != positive->op || positive->left_nr == 0 || --positive->left_nr != 0)
		return 0;
	return len > 512 ? (int)len - 512 : (int)len; /* also all of it: not what the contract says */
}

static void arm(struct scene *scene, const struct spec *spec, uint64_t nth, struct positive *positive)
{
	struct mem_backing_fault fault = {
		.op = spec->op, .mode = spec->mode, .nth = nth, .err = spec->err, .applied_bytes = spec->applied_bytes
	};

	if (spec->positive) {
		*positive = (struct positive){ .op = spec->op, .left_nr = nth };
		mem_backing_observe(scene->rig.mb, return_length, positive);
	} else {
		assert_true(mem_backing_add_fault(scene->rig.mb, &fault));
	}
}

static void read_again_and_all(struct scene *scene)
{
	scene_foreground_works(scene);
	mem_backing_clear_faults(scene->rig.mb);
	mem_backing_observe(scene->rig.mb, NULL, NULL);
	rig_check_range(&scene->rig, SCENE_MISS_OFF, SCENE_MISS_BYTES);
	scene_check_all(scene);
	rig_reopen(&scene->rig); /* nothing wrong was kept either */
	scene_check_all(scene);
	scene_recovers(scene);
}

/* True if the fault struck. */
static bool miss_fails(const struct spec *spec, uint64_t nth, uint32_t flags)
{
	struct positive positive;
	struct scene scene;
	uint64_t before;
	bool hit;
	int rc;

	scene_zero(&scene);
	scene_up(&scene, SCENE_WRITES);
	before = scene_errors(&scene);
	arm(&scene, spec, nth, &positive);
	rc = pcache_read(scene.rig.cache, scene.rig.scratch, SCENE_MISS_OFF, SCENE_MISS_BYTES, flags);
	hit = scene_errors(&scene) != before;
	assert_int_equal(rc, hit ? -spec->err : 0);
	if (hit)
		assert_true(rig_info(&scene.rig).backing_errors >= 1);
	if (hit && spec->mode == MEM_BACKING_FOREVER)
		assert_int_equal(pcache_read(scene.rig.cache, scene.rig.scratch, SCENE_MISS_OFF, SCENE_MISS_BYTES, 0),
				 -spec->err);
	if (hit && spec->mode == MEM_BACKING_UNTIL_FLUSH) {
		assert_int_equal(scene_write_back(&scene), 0); /* flushes the backing, and that ends it */
		rig_check_range(&scene.rig, SCENE_MISS_OFF, SCENE_MISS_BYTES);
	}
	read_again_and_all(&scene);
	scene_down(&scene);
	return hit;
}

static uint32_t scene_parts(uint32_t col)
{
	if (col == BK_WRITE)
		return SCENE_WRITES;
	return col == BK_ZEROES ? SCENE_ZEROES : SCENE_WRITES | SCENE_ZEROES;
}

/* What must be true as soon as write-back has failed. */
static void check_degraded(struct scene *scene, const struct spec *spec)
{
	struct pcache_info info = rig_info(&scene->rig);

	assert_true(info.state_flags & PCACHE_STATE_DEGRADED);
	assert_false(info.state_flags & PCACHE_STATE_FAILSTOP);
	assert_true(info.dirty_bytes > 0);
	assert_true(info.backing_errors > 0);
	if (spec->ordering == PCACHE_ORDERING_STRICT) {
		scene_check_backing(scene, mem_backing_live(scene->rig.mb));
		scene_check_backing(scene, mem_backing_durable(scene->rig.mb));
	}
	if (spec->mode == MEM_BACKING_FOREVER) {
		for (uint32_t i = 0; i < 4; i++) {
			assert_int_equal(scene_write_back(scene), -spec->err);
			assert_int_equal(rig_info(&scene->rig).dirty_bytes, info.dirty_bytes);
			assert_int_equal(rig_info(&scene->rig).log_dirty_tail, info.log_dirty_tail);
		}
		assert_int_equal(pcache_drain(scene->rig.cache, NULL, NULL), -spec->err);
		assert_int_equal(pcache_maintain(scene->rig.cache, 1), -spec->err);
	}
	scene_foreground_works(scene);
}

/* Write-back (by steps or a drain) meets the fault; ending 0: the fault goes away, 1: the power goes, of the backing too. True if it struck. */
static bool write_back_fails(uint32_t col, const struct spec *spec, uint64_t nth, uint32_t ending)
{
	struct positive positive;
	struct scene scene;
	uint64_t before;
	bool hit;
	int rc;

	scene_zero(&scene);
	scene.rig.o.ordering = spec->ordering;
	scene.rig.o.backing.no_discard = col == BK_ZEROES && spec->op != MEM_BACKING_DISCARD;
	scene.rig.o.backing.no_zeroes = col == BK_ZEROES && spec->op == MEM_BACKING_WRITE;
	scene_up(&scene, scene_parts(col));
	scene.keep_faults = spec->mode == MEM_BACKING_UNTIL_FLUSH;
	before = scene_errors(&scene);
	arm(&scene, spec, nth, &positive);
	rc = col == BK_DRAIN ? pcache_drain(scene.rig.cache, NULL, NULL) : scene_write_back(&scene);
	hit = scene_errors(&scene) != before;
	assert_int_equal(rc, hit ? -spec->err : 0);
	if (hit)
		check_degraded(&scene, spec);
	if (hit && ending == 1)
		scene_cut_and_recover(&scene, NULL, NULL);
	else
		scene_recovers(&scene);
	scene_down(&scene);
	return hit;
}

/* Write-back was cut between its writes and their flush; then the flush of the open fails. */
static bool open_fails(const struct spec *spec, uint64_t nth, uint32_t ending)
{
	struct positive positive;
	struct scene scene;
	uint64_t before;
	bool hit;
	int rc;

	scene_zero(&scene);
	scene_up(&scene, SCENE_WRITES | SCENE_ZEROES);
	mem_backing_fail(scene.rig.mb, MEM_BACKING_FLUSH, 1, EIO, MEM_BACKING_ONCE);
	assert_int_equal(scene_write_back(&scene), -EIO);
	rig_kill(&scene.rig);
	before = scene_errors(&scene);
	arm(&scene, spec, nth, &positive);
	rc = rig_try_open(&scene.rig);
	hit = scene_errors(&scene) != before;
	assert_int_equal(rc, hit ? -spec->err : 0);
	if (hit && spec->mode == MEM_BACKING_FOREVER)
		assert_int_equal(rig_try_open(&scene.rig), -spec->err);
	mem_backing_clear_faults(scene.rig.mb);
	mem_backing_observe(scene.rig.mb, NULL, NULL);
	if (hit && ending == 1)
		mem_backing_crash(scene.rig.mb, NULL, NULL);
	if (hit)
		rig_open(&scene.rig);
	scene_check_all(&scene);
	scene_recovers(&scene);
	scene_down(&scene);
	return hit;
}

static bool has_errors(struct scene *scene)
{
	return scene_errors(scene) != 0;
}

/* Workers are in the middle of failing when the cache is closed: it keeps all and says 0. */
static bool close_while_failing(const struct spec *spec, uint64_t nth)
{
	struct positive positive;
	struct scene scene;

	scene_zero(&scene);
	scene.rig.o.threads = true;
	scene.rig.o.sim_flags = PC_SIM_THREADED;
	rig_up(&scene.rig);
	arm(&scene, spec, nth, &positive);
	for (uint32_t i = 0; i < 2; i++) {
		rig_write(&scene.rig, i * 4096, 2048, 0);
		rig_zeroes(&scene.rig, SCENE_ZEROES_OFF + i * 4096, 2048, i == 0);
		rig_flush(&scene.rig);
	}
	scene_await(has_errors, &scene);
	rig_close(&scene.rig);
	mem_backing_clear_faults(scene.rig.mb);
	mem_backing_observe(scene.rig.mb, NULL, NULL);
	mem_backing_crash(scene.rig.mb, NULL, NULL); /* what was not flushed there is still in the cache */
	rig_open(&scene.rig);
	scene_check_all(&scene);
	rig_drain(&scene.rig);
	rig_close(&scene.rig);
	scene_down(&scene);
	return true;
}

/* Without workers close does not need the backing at all. */
static uint64_t close_needs_no_backing(int err)
{
	struct scene scene;
	uint64_t calls;

	scene_zero(&scene);
	scene_up(&scene, SCENE_WRITES | SCENE_ZEROES);
	for (uint32_t op = 0; op < MEM_BACKING_OP_NR; op++)
		mem_backing_fail(scene.rig.mb, (enum mem_backing_op)op, 1, err, MEM_BACKING_FOREVER);
	calls = scene_calls(&scene);
	rig_close(&scene.rig);
	assert_int_equal(scene_calls(&scene), calls);
	mem_backing_clear_faults(scene.rig.mb);
	rig_open(&scene.rig);
	assert_true(rig_info(&scene.rig).dirty_bytes > 0);
	scene_recovers(&scene);
	scene_down(&scene);
	return MEM_BACKING_OP_NR;
}

static bool strike(uint32_t col, const struct spec *spec, uint64_t nth, uint32_t variant)
{
	switch (col) {
	case BK_MISS:
		return miss_fails(spec, nth, variant ? PCACHE_NOCACHE : 0);
	case BK_OPEN:
		return open_fails(spec, nth, variant);
	case BK_CLOSE:
		return nth <= 2 && close_while_failing(spec, nth);
	default:
		return write_back_fails(col, spec, nth, variant);
	}
}

/* Every call in turn, until the fault meets none. */
static uint64_t strike_each(uint32_t col, const struct spec *spec)
{
	uint64_t nr = 0;

	for (uint32_t variant = 0; variant < (fault_is_slow() ? 1u : 2u); variant++)
		for (uint64_t nth = 1; strike(col, spec, nth, variant); nth += fault_is_slow() ? 2 : 1)
			nr++;
	return nr;
}

/* The calls that can fail in a column: a bit for each. */
static uint32_t ops_of(uint32_t col)
{
	static const uint32_t all = 1u << MEM_BACKING_WRITE | 1u << MEM_BACKING_FLUSH | 1u << MEM_BACKING_DISCARD |
				    1u << MEM_BACKING_ZEROES;

	switch (col) {
	case BK_MISS:
		return 1u << MEM_BACKING_READ;
	case BK_WRITE:
		return 1u << MEM_BACKING_WRITE;
	case BK_ZEROES:
		return 1u << MEM_BACKING_DISCARD | 1u << MEM_BACKING_ZEROES | 1u << MEM_BACKING_WRITE;
	case BK_FLUSH:
	case BK_OPEN:
		return 1u << MEM_BACKING_FLUSH;
	default:
		return all;
	}
}

static bool moves_bytes(uint32_t op)
{
	return op == MEM_BACKING_READ || op == MEM_BACKING_WRITE;
}

static uint64_t errors(uint32_t row, uint32_t col)
{
	static const int errs[BK_ROW_NR] = { [BK_EINTR] = EINTR, [BK_EAGAIN] = EAGAIN, [BK_ENOSPC] = ENOSPC };
	bool for_good = row == BK_FOR_GOOD || row == BK_ENOSPC;
	struct spec spec = { .err = errs[row] ? errs[row] : EIO };
	uint32_t ordering_nr = row == BK_EINTR || row == BK_EAGAIN || fault_is_slow() ? 1 : 2;
	uint64_t nr = 0;

	if (for_good)
		spec.mode = MEM_BACKING_FOREVER;
	if (row == BK_UNTIL_FLUSH)
		spec.mode = MEM_BACKING_UNTIL_FLUSH;
	for (uint32_t op = 0; op < MEM_BACKING_OP_NR; op++) {
		if (!(ops_of(col) >> op & 1) || (row == BK_SHORT && !moves_bytes(op)))
			continue;
		spec.op = (enum mem_backing_op)op;
		spec.applied_bytes = row == BK_SHORT ? 512 : 0;
		for (spec.ordering = 0; spec.ordering < ordering_nr; spec.ordering++)
			nr += strike_each(col, &spec);
		spec.ordering = 0;
		spec.positive = row == BK_SHORT;
		spec.applied_bytes = 0;
		nr += spec.positive ? strike_each(col, &spec) : 0;
		spec.positive = false;
	}
	if (col == BK_CLOSE)
		nr += close_needs_no_backing(spec.err);
	return nr;
}

/* ---- power cuts ----------------------------------------------------------------------------------------------------- */

/* The power of the backing goes just before its nth call: from then on all calls fail, and nothing is applied. */
struct cut {
	uint64_t left_nr;
	bool off;
};

static int cut_power(void *user, enum mem_backing_op op, uint64_t off, uint64_t len, const void *buf)
{
	struct cut *cut = user;

	(void)off, (void)len, (void)buf;
	if (op != MEM_BACKING_READ && !cut->off && --cut->left_nr == 0)
		cut->off = true;
	return cut->off ? -EIO : 0;
}

struct keep {
	uint32_t kind; /* 0 none, 1 all, 2 alone, 3 missing, else a coin for each */
	uint32_t arg;
};

static bool keep_pending(void *user, uint32_t idx)
{
	const struct keep *keep = user;
	uint64_t coin = (keep->arg * UINT64_C(0x9e3779b97f4a7c15) + idx) * UINT64_C(0xbf58476d1ce4e5b9);

	switch (keep->kind) {
	case 0:
		return false;
	case 1:
		return true;
	case 2:
		return idx == keep->arg;
	case 3:
		return idx != keep->arg;
	default:
		return coin >> 40 & 1;
	}
}

/* Copies of the scene at the moment of the cut, one for each subset. */
static void recover_copy(const struct scene *at_cut, struct pc_sim *sim, const uint8_t *image, struct keep keep)
{
	struct scene copy = *at_cut;

	copy.rig.mb = mem_backing_clone(at_cut->rig.mb);
	assert_non_null(copy.rig.mb);
	copy.rig.sim = sim;
	copy.rig.cache = NULL;
	pc_sim_reset(sim, image);
	mem_backing_crash(copy.rig.mb, keep_pending, &keep);
	scene_check_backing(&copy, mem_backing_durable(copy.rig.mb));
	rig_open(&copy.rig);
	scene_check_all(&copy);
	rig_drain(&copy.rig);
	scene_check_all(&copy);
	rig_kill(&copy.rig);
	mem_backing_destroy(copy.rig.mb);
}

static uint64_t recover_subsets(const struct scene *scene, bool any_subset)
{
	uint64_t len = pc_sim_media(scene->rig.sim)->len_bytes;
	uint32_t pending = mem_backing_pending_nr(scene->rig.mb);
	struct pc_sim *sim;
	uint64_t nr = 0;

	assert_int_equal(
		pc_sim_wrap(pc_sim_view(scene->rig.sim), len, scene->rig.o.granularity, scene->rig.o.sim_flags, &sim),
		0);
	for (uint32_t kind = any_subset ? 1 : 0; kind < (any_subset ? 5u : 1u); kind++) {
		uint32_t max = kind < 2 ? 1 : kind == 4 ? 6 : PC_MIN(pending, 10u);

		for (uint32_t arg = 0; arg < max; arg++, nr++)
			recover_copy(scene, sim, pc_sim_view(scene->rig.sim),
				     (struct keep){ .kind = kind, .arg = arg });
	}
	pc_sim_free(sim);
	return nr;
}

/* The state before the nth call, in the way of the column. False: there is no such call. */
static bool cut_at(struct scene *scene, uint32_t col, uint64_t nth)
{
	struct cut cut = { .left_nr = nth };

	scene_zero(scene);
	scene->rig.o.backing.failed_flush_drops = false;
	scene_up(scene, scene_parts(col));
	if (col == BK_OPEN) {
		mem_backing_fail(scene->rig.mb, MEM_BACKING_FLUSH, 1, EIO, MEM_BACKING_ONCE);
		assert_int_equal(scene_write_back(scene), -EIO);
		rig_kill(&scene->rig);
	}
	mem_backing_observe(scene->rig.mb, cut_power, &cut);
	if (col == BK_OPEN)
		(void)rig_try_open(&scene->rig);
	else if (col == BK_DRAIN)
		(void)pcache_drain(scene->rig.cache, NULL, NULL);
	else
		(void)scene_write_back(scene);
	mem_backing_observe(scene->rig.mb, NULL, NULL);
	if (col == BK_CLOSE) {
		rig_close(&scene->rig);
		return nth <= 12;
	}
	return cut.off;
}

static uint64_t power_cuts(uint32_t row, uint32_t col)
{
	uint64_t nr = 0, step = fault_is_slow() ? 4 : 1;
	bool more = true;

	for (uint64_t nth = 1; more; nth += step) {
		struct scene scene;

		more = cut_at(&scene, col, nth);
		/* Also once with no call missing: just after the last of them. */
		nr += recover_subsets(&scene, row == BK_REORDERED);
		scene_down(&scene);
	}
	return nr;
}

/* ---- a flush that lies ---------------------------------------------------------------------------------------------- */

/* Nothing is promised for what that flush covered: its blocks may be what they were before. All others are right, and the cache is whole. */
static void check_damage(struct scene *scene)
{
	struct rig *rig = &scene->rig;

	for (uint64_t off = 0; off < rig->o.backing_bytes; off += 512) {
		bool known = false;

		assert_int_equal(pcache_read(rig->cache, rig->scratch, off, 512, 0), 0);
		/* Only what was written back, and so covered, may be older. */
		for (uint32_t epoch = 0; epoch < SCENE_EPOCHS && off < SCENE_CLEAN_OFF; epoch++)
			known |= memcmp(rig->scratch, scene->snaps[epoch] + off, 512) == 0 ||
				 memcmp(rig->scratch, scene->mids[epoch] + off, 512) == 0;
		if (!known)
			assert_memory_equal(rig->scratch, rig->model + off, 512);
		memcpy(rig->model + off, rig->scratch, 512);
	}
	assert_null(pc_cache_check(rig->cache));
}

static uint64_t lies(uint32_t col)
{
	struct scene scene;

	scene_zero(&scene);
	scene_up(&scene, scene_parts(col));
	if (col == BK_OPEN) {
		mem_backing_fail(scene.rig.mb, MEM_BACKING_FLUSH, 1, EIO, MEM_BACKING_ONCE);
		assert_int_equal(scene_write_back(&scene), -EIO);
		rig_kill(&scene.rig);
	}
	mem_backing_set_flush_lies(scene.rig.mb, true);
	if (col == BK_OPEN)
		rig_open(&scene.rig);
	else if (col == BK_DRAIN)
		assert_int_equal(pcache_drain(scene.rig.cache, NULL, NULL), 0);
	else
		assert_int_equal(scene_write_back(&scene), 0);
	mem_backing_set_flush_lies(scene.rig.mb, false);
	/* This is written back when the flush is true again: not lost. */
	rig_write(&scene.rig, SCENE_DURING_OFF, 4096, 0);
	if (col == BK_MISS)
		while (pc_cache_step(scene.rig.cache, PC_STEP_EVICT, true) > 0)
			;
	if (col == BK_CLOSE)
		rig_close(&scene.rig);
	else
		rig_kill(&scene.rig);
	mem_backing_crash(scene.rig.mb, NULL, NULL);
	rig_open(&scene.rig);
	check_damage(&scene);
	for (uint64_t off = 0; off < SCENE_MISS_OFF; off += 8192)
		rig_write(&scene.rig, off, 8192, 0);
	scene_recovers(&scene);
	scene_down(&scene);
	return 1;
}

/* ---- the table ------------------------------------------------------------------------------------------------------- */

static const char *why_not(const struct fault_table *table, uint32_t row, uint32_t col)
{
	(void)table;
	if (row == BK_SHORT && (col == BK_FLUSH || col == BK_OPEN))
		return "n/a: a flush moves no bytes";
	if ((row == BK_REORDERED || row == BK_LOST) && col == BK_MISS)
		return "n/a: a read leaves nothing pending";
	return NULL;
}

static uint64_t run(const struct fault_table *table, uint32_t row, uint32_t col)
{
	(void)table;
	switch (row) {
	case BK_REORDERED:
	case BK_LOST:
		return power_cuts(row, col);
	case BK_LIES:
		return lies(col);
	case BK_DELAY:
		return backing_delay(col);
	case BK_HANG:
		return backing_hang(col);
	case BK_THREAD:
	case BK_EARLY:
		return backing_async(col, row == BK_THREAD);
	default:
		return errors(row, col) + (row == BK_FOR_GOOD ? backing_backoff(col) : 0);
	}
}

const struct fault_table fault_backing = {
	.group = "backing",
	.name = "backing",
	.title = "The backing fails",
	.rows = rows,
	.cols = cols,
	.row_nr = BK_ROW_NR,
	.col_nr = BK_COL_NR,
	.why_not = why_not,
	.run = run,
};
