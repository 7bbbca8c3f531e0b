/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A backing in memory for tests, see the header.
 *
 * One mutex guards everything. It is not held while the observer runs, nor while a call hangs or is delayed, so
 * calls overlap as on a real disk. A call has three parts: begin (count, check, draw a fault), wait (hang, delay,
 * rate), end (apply, account).
 *
 * Pending writes are an array in issue order, one entry per block, in mappings that do not come from malloc:
 * tests that let allocations of the library fail do not want this backing to fail with them. The calls that a
 * flush covers are a front part of the array, because a call gets its number when it is applied.
 */
#include "mem_backing.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define FAULTS_MAX 16u
#define RUNNING_MAX 64u
#define DEFAULT_TRANSFER_BYTES (1u << 20)
#define PENDING_MIN_NR 1024u
#define NS_PER_S UINT64_C(1000000000)

struct pending {
	uint64_t off;
	uint64_t seq;
	bool orphan; /* a failed flush forgot it: later flushes do not cover it */
	uint8_t data[MEM_BACKING_BLOCK];
};

struct fault {
	struct mem_backing_fault spec;
	uint64_t left; /* matching calls until it strikes; 0: it has */
	bool used;
};

struct running {
	uint64_t off;
	uint64_t len; /* 0: free place */
};

struct mem_backing {
	struct mem_backing_options options;
	pthread_mutex_t mutex; /* guards all below */
	pthread_cond_t unhang;
	uint8_t *live;
	uint8_t *durable;
	struct pending *pending;
	size_t pending_nr;
	size_t pending_room_nr;
	size_t orphan_nr;
	uint64_t seq; /* of the last call that was applied */
	struct fault faults[FAULTS_MAX];
	struct running running[RUNNING_MAX]; /* calls that change data */
	struct mem_backing_counters counters;
	uint64_t delay_ns[MEM_BACKING_OP_NR];
	bool hang[MEM_BACKING_OP_NR];
	uint64_t rate_bytes_per_s;
	uint64_t rate_free_ns; /* when the line is free again */
	mem_backing_observer observer;
	void *observer_user;
};

/* What begin found out for wait and end. */
struct call {
	enum mem_backing_op op;
	uint64_t off;
	uint64_t len;
	int result;
	uint64_t applied_len; /* front part to apply, also if the call fails */
	uint64_t flush_seq; /* of a flush: last call it covers */
	struct running *running;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void sleep_until_ns(uint64_t when_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(when_ns / NS_PER_S), .tv_nsec = (long)(when_ns % NS_PER_S) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static void *map_bytes(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static bool ranges_touch(uint64_t a_off, uint64_t a_len, uint64_t b_off, uint64_t b_len)
{
	return a_off < b_off + b_len && b_off < a_off + a_len;
}

/* Room for add_nr more entries. */
static bool pending_reserve(struct mem_backing *mb, size_t add_nr)
{
	size_t room_nr = mb->pending_room_nr;
	void *p;

	while (room_nr - mb->pending_nr < add_nr)
		room_nr *= 2;
	if (room_nr == mb->pending_room_nr)
		return true;
	p = mremap(mb->pending, mb->pending_room_nr * sizeof(struct pending), room_nr * sizeof(struct pending),
		   MREMAP_MAYMOVE);
	if (p == MAP_FAILED)
		return false;
	mb->pending = p;
	mb->pending_room_nr = room_nr;
	return true;
}

static bool is_change(enum mem_backing_op op)
{
	return op == MEM_BACKING_WRITE || op == MEM_BACKING_DISCARD || op == MEM_BACKING_ZEROES;
}

/* Returns the fault that strikes this call, or NULL; copies it, because it may end here. */
static bool draw_fault(struct mem_backing *mb, const struct call *call, struct mem_backing_fault *out_fault)
{
	bool struck = false;

	for (uint32_t i = 0; i < FAULTS_MAX; i++) {
		struct fault *fault = &mb->faults[i];

		if (!fault->used)
			continue;
		if (call->op == MEM_BACKING_FLUSH && fault->left == 0 && fault->spec.mode == MEM_BACKING_UNTIL_FLUSH) {
			fault->used = false;
			continue;
		}
		if (fault->spec.op != call->op)
			continue;
		if (fault->spec.len != 0 && !ranges_touch(call->off, call->len, fault->spec.off, fault->spec.len))
			continue;
		if (fault->left != 0 && --fault->left != 0)
			continue;
		if (!struck)
			*out_fault = fault->spec;
		struck = true;
		if (fault->spec.mode == MEM_BACKING_ONCE ||
		    (fault->spec.mode == MEM_BACKING_UNTIL_FLUSH && call->op == MEM_BACKING_FLUSH))
			fault->used = false;
	}
	return struck;
}

static bool call_is_valid(const struct mem_backing *mb, const struct call *call)
{
	uint64_t block_bytes = mb->options.block_bytes != 0 ? mb->options.block_bytes : MEM_BACKING_BLOCK;
	uint64_t max_bytes =
		mb->options.max_transfer_bytes != 0 ? mb->options.max_transfer_bytes : DEFAULT_TRANSFER_BYTES;

	if (call->op == MEM_BACKING_FLUSH)
		return true;
	return call->len != 0 && call->len <= max_bytes && call->len % block_bytes == 0 &&
	       call->off % block_bytes == 0 && call->off <= mb->options.size_bytes &&
	       call->len <= mb->options.size_bytes - call->off;
}

static void enter_running(struct mem_backing *mb, struct call *call)
{
	bool overlaps = false;

	for (uint32_t i = 0; i < RUNNING_MAX; i++) {
		struct running *running = &mb->running[i];

		if (running->len == 0) {
			if (call->running == NULL)
				call->running = running;
		} else if (ranges_touch(running->off, running->len, call->off, call->len)) {
			overlaps = true;
		}
	}
	if (call->running != NULL)
		*call->running = (struct running){ .off = call->off, .len = call->len };
	if (overlaps)
		mb->counters.overlapping_writes++;
}

static void call_begin(struct mem_backing *mb, struct call *call, int observed)
{
	struct mem_backing_fault fault;

	mb->counters.calls[call->op]++;
	mb->counters.in_flight++;
	if (mb->counters.in_flight > mb->counters.in_flight_max)
		mb->counters.in_flight_max = mb->counters.in_flight;
	call->flush_seq = mb->seq;
	call->applied_len = call->len;
	if (observed != 0) {
		call->result = observed;
		call->applied_len = 0;
	} else if (!call_is_valid(mb, call)) {
		mb->counters.violations++;
		call->result = -EINVAL;
		call->applied_len = 0;
	} else if (draw_fault(mb, call, &fault)) {
		call->result = -fault.err;
		call->applied_len = fault.applied_bytes < call->len ? fault.applied_bytes : call->len;
		call->applied_len -= call->applied_len % MEM_BACKING_BLOCK;
	}
	if (is_change(call->op) && call->result != -EINVAL)
		enter_running(mb, call);
}

/* Hang, delay and rate. Called with the mutex held, and gives it up meanwhile. */
static void call_wait(struct mem_backing *mb, const struct call *call)
{
	uint64_t until_ns = 0;

	while (mb->hang[call->op])
		pthread_cond_wait(&mb->unhang, &mb->mutex);
	if (mb->delay_ns[call->op] != 0)
		until_ns = now_ns() + mb->delay_ns[call->op];
	if (mb->rate_bytes_per_s != 0 && (call->op == MEM_BACKING_READ || call->op == MEM_BACKING_WRITE)) {
		uint64_t now = now_ns();

		if (mb->rate_free_ns < now)
			mb->rate_free_ns = now;
		mb->rate_free_ns += (uint64_t)((double)call->len * (double)NS_PER_S / (double)mb->rate_bytes_per_s);
		if (until_ns < mb->rate_free_ns)
			until_ns = mb->rate_free_ns;
	}
	if (until_ns == 0)
		return;
	pthread_mutex_unlock(&mb->mutex);
	sleep_until_ns(until_ns);
	pthread_mutex_lock(&mb->mutex);
}

static void call_end(struct mem_backing *mb, struct call *call)
{
	if (call->running != NULL)
		call->running->len = 0;
	mb->counters.in_flight--;
	if (call->result != 0)
		mb->counters.errors[call->op]++;
	else
		mb->counters.bytes[call->op] += call->len;
}

/* Applies the front part that call_begin decided on; buf NULL: zeroes. */
static void apply_change(struct mem_backing *mb, struct call *call, const uint8_t *buf)
{
	static const uint8_t zeroes[MEM_BACKING_BLOCK];

	if (call->applied_len == 0)
		return;
	if (!mb->options.write_through && !pending_reserve(mb, (size_t)(call->applied_len / MEM_BACKING_BLOCK))) {
		call->result = -ENOMEM;
		return;
	}
	mb->seq++;
	for (uint64_t at = 0; at < call->applied_len; at += MEM_BACKING_BLOCK) {
		const uint8_t *data = buf != NULL ? buf + at : zeroes;

		memcpy(mb->live + call->off + at, data, MEM_BACKING_BLOCK);
		if (mb->options.write_through) {
			memcpy(mb->durable + call->off + at, data, MEM_BACKING_BLOCK);
		} else {
			struct pending *pending = &mb->pending[mb->pending_nr++];

			pending->off = call->off + at;
			pending->seq = mb->seq;
			pending->orphan = false;
			memcpy(pending->data, data, MEM_BACKING_BLOCK);
		}
	}
}

/* A block that a flush made durable ends what earlier flushes had forgotten of it. */
static void end_orphans(struct mem_backing *mb, size_t before_idx, uint64_t off)
{
	for (size_t i = 0; i < before_idx && mb->orphan_nr != 0; i++) {
		struct pending *pending = &mb->pending[i];

		if (pending->orphan && pending->off == off) {
			/* It falls out below: it is in the covered part, and what follows it was applied. */
			pending->orphan = false;
			mb->orphan_nr--;
		}
	}
}

static void apply_flush(struct mem_backing *mb, uint64_t up_to_seq)
{
	size_t covered_nr = 0;
	size_t kept_nr = 0;

	while (covered_nr < mb->pending_nr && mb->pending[covered_nr].seq <= up_to_seq)
		covered_nr++;
	for (size_t i = 0; i < covered_nr; i++) {
		if (mb->pending[i].orphan)
			continue;
		memcpy(mb->durable + mb->pending[i].off, mb->pending[i].data, MEM_BACKING_BLOCK);
		end_orphans(mb, i, mb->pending[i].off);
	}
	if (mb->orphan_nr == 0 && covered_nr == mb->pending_nr) {
		mb->pending_nr = 0;
		return;
	}
	for (size_t i = 0; i < mb->pending_nr; i++) {
		if (i >= covered_nr || mb->pending[i].orphan)
			mb->pending[kept_nr++] = mb->pending[i];
	}
	mb->pending_nr = kept_nr;
}

static void forget_pending(struct mem_backing *mb)
{
	for (size_t i = 0; i < mb->pending_nr; i++)
		mb->pending[i].orphan = true;
	mb->orphan_nr = mb->pending_nr;
}

static int run_call(struct mem_backing *mb, enum mem_backing_op op, uint64_t off, uint64_t len, void *read_buf,
		    const void *write_buf)
{
	struct call call = { .op = op, .off = off, .len = len };
	mem_backing_observer observer;
	void *observer_user;
	int observed = 0;

	pthread_mutex_lock(&mb->mutex);
	observer = mb->observer;
	observer_user = mb->observer_user;
	pthread_mutex_unlock(&mb->mutex);
	if (observer != NULL)
		observed = observer(observer_user, op, off, len, write_buf);

	pthread_mutex_lock(&mb->mutex);
	call_begin(mb, &call, observed);
	call_wait(mb, &call);
	if (op == MEM_BACKING_READ) {
		if (call.result == 0)
			memcpy(read_buf, mb->live + off, (size_t)len);
	} else if (op == MEM_BACKING_FLUSH) {
		if (call.result != 0 && mb->options.failed_flush_drops)
			forget_pending(mb);
		else if (call.result == 0 && !mb->options.flush_lies)
			apply_flush(mb, call.flush_seq);
	} else {
		apply_change(mb, &call, write_buf);
	}
	call_end(mb, &call);
	pthread_mutex_unlock(&mb->mutex);
	return call.result;
}

static int cb_read(void *user, void *buf, uint64_t off, uint64_t len)
{
	return run_call(user, MEM_BACKING_READ, off, len, buf, NULL);
}

static int cb_write(void *user, const void *buf, uint64_t off, uint64_t len)
{
	return run_call(user, MEM_BACKING_WRITE, off, len, NULL, buf);
}

static int cb_flush(void *user)
{
	return run_call(user, MEM_BACKING_FLUSH, 0, 0, NULL, NULL);
}

static int cb_discard(void *user, uint64_t off, uint64_t len)
{
	return run_call(user, MEM_BACKING_DISCARD, off, len, NULL, NULL);
}

static int cb_write_zeroes(void *user, uint64_t off, uint64_t len)
{
	return run_call(user, MEM_BACKING_ZEROES, off, len, NULL, NULL);
}

static void cb_free(void *user)
{
	struct mem_backing *mb = user;

	pthread_mutex_lock(&mb->mutex);
	mb->counters.frees++;
	pthread_mutex_unlock(&mb->mutex);
}

struct mem_backing *mem_backing_create(const struct mem_backing_options *options)
{
	struct mem_backing *mb = map_bytes(sizeof(*mb));

	if (mb == NULL)
		return NULL;
	if (options->size_bytes == 0 || options->size_bytes % MEM_BACKING_BLOCK != 0)
		goto free_mb;
	mb->options = *options;
	mb->live = map_bytes((size_t)options->size_bytes);
	if (mb->live == NULL)
		goto free_mb;
	mb->durable = map_bytes((size_t)options->size_bytes);
	if (mb->durable == NULL)
		goto free_live;
	mb->pending_room_nr = PENDING_MIN_NR;
	mb->pending = map_bytes(mb->pending_room_nr * sizeof(struct pending));
	if (mb->pending == NULL)
		goto free_durable;
	pthread_mutex_init(&mb->mutex, NULL);
	pthread_cond_init(&mb->unhang, NULL);
	return mb;

free_durable:
	munmap(mb->durable, (size_t)options->size_bytes);
free_live:
	munmap(mb->live, (size_t)options->size_bytes);
free_mb:
	munmap(mb, sizeof(*mb));
	return NULL;
}

struct mem_backing *mem_backing_clone(const struct mem_backing *mb)
{
	struct mem_backing *copy = mem_backing_create(&mb->options);

	if (copy == NULL)
		return NULL;
	if (!pending_reserve(copy, mb->pending_nr)) {
		mem_backing_destroy(copy);
		return NULL;
	}
	memcpy(copy->live, mb->live, (size_t)mb->options.size_bytes);
	memcpy(copy->durable, mb->durable, (size_t)mb->options.size_bytes);
	memcpy(copy->pending, mb->pending, mb->pending_nr * sizeof(struct pending));
	copy->pending_nr = mb->pending_nr;
	copy->orphan_nr = mb->orphan_nr;
	copy->seq = mb->seq;
	return copy;
}

void mem_backing_destroy(struct mem_backing *mb)
{
	if (mb == NULL)
		return;
	pthread_cond_destroy(&mb->unhang);
	pthread_mutex_destroy(&mb->mutex);
	munmap(mb->pending, mb->pending_room_nr * sizeof(struct pending));
	munmap(mb->durable, (size_t)mb->options.size_bytes);
	munmap(mb->live, (size_t)mb->options.size_bytes);
	munmap(mb, sizeof(*mb));
}

void mem_backing_get_ops(const struct mem_backing *mb, struct pcache_backing_ops *out_ops)
{
	memset(out_ops, 0, sizeof(*out_ops));
	out_ops->struct_bytes = sizeof(*out_ops);
	out_ops->block_bytes = mb->options.block_bytes;
	out_ops->size_bytes = mb->options.size_bytes;
	memcpy(out_ops->uuid, mb->options.uuid, sizeof(out_ops->uuid));
	out_ops->max_transfer_bytes = mb->options.max_transfer_bytes;
	out_ops->read = cb_read;
	out_ops->write = cb_write;
	if (!mb->options.write_through)
		out_ops->flush = cb_flush;
	if (!mb->options.no_discard)
		out_ops->discard = cb_discard;
	if (!mb->options.no_zeroes)
		out_ops->write_zeroes = cb_write_zeroes;
	out_ops->free = cb_free;
}

void mem_backing_observe(struct mem_backing *mb, mem_backing_observer observer, void *user)
{
	pthread_mutex_lock(&mb->mutex);
	mb->observer = observer;
	mb->observer_user = user;
	pthread_mutex_unlock(&mb->mutex);
}

bool mem_backing_add_fault(struct mem_backing *mb, const struct mem_backing_fault *fault)
{
	bool added = false;

	pthread_mutex_lock(&mb->mutex);
	for (uint32_t i = 0; i < FAULTS_MAX && !added; i++) {
		if (mb->faults[i].used)
			continue;
		mb->faults[i].spec = *fault;
		mb->faults[i].left = fault->nth != 0 ? fault->nth : 1;
		mb->faults[i].used = true;
		added = true;
	}
	pthread_mutex_unlock(&mb->mutex);
	return added;
}

void mem_backing_clear_faults(struct mem_backing *mb)
{
	pthread_mutex_lock(&mb->mutex);
	memset(mb->faults, 0, sizeof(mb->faults));
	pthread_mutex_unlock(&mb->mutex);
}

bool mem_backing_fail(struct mem_backing *mb, enum mem_backing_op op, uint64_t nth, int err,
		      enum mem_backing_fault_mode mode)
{
	struct mem_backing_fault fault = { .op = op, .mode = mode, .nth = nth, .err = err };

	return mem_backing_add_fault(mb, &fault);
}

void mem_backing_set_delay(struct mem_backing *mb, enum mem_backing_op op, uint64_t delay_ns)
{
	pthread_mutex_lock(&mb->mutex);
	mb->delay_ns[op] = delay_ns;
	pthread_mutex_unlock(&mb->mutex);
}

void mem_backing_set_rate(struct mem_backing *mb, uint64_t bytes_per_s)
{
	pthread_mutex_lock(&mb->mutex);
	mb->rate_bytes_per_s = bytes_per_s;
	pthread_mutex_unlock(&mb->mutex);
}

void mem_backing_set_hang(struct mem_backing *mb, enum mem_backing_op op, bool hang)
{
	pthread_mutex_lock(&mb->mutex);
	mb->hang[op] = hang;
	pthread_cond_broadcast(&mb->unhang);
	pthread_mutex_unlock(&mb->mutex);
}

void mem_backing_set_flush_lies(struct mem_backing *mb, bool lies)
{
	pthread_mutex_lock(&mb->mutex);
	mb->options.flush_lies = lies;
	pthread_mutex_unlock(&mb->mutex);
}

void mem_backing_get_counters(struct mem_backing *mb, struct mem_backing_counters *out_counters)
{
	pthread_mutex_lock(&mb->mutex);
	*out_counters = mb->counters;
	pthread_mutex_unlock(&mb->mutex);
}

uint64_t mem_backing_size(const struct mem_backing *mb)
{
	return mb->options.size_bytes;
}

const uint8_t *mem_backing_live(const struct mem_backing *mb)
{
	return mb->live;
}

const uint8_t *mem_backing_durable(const struct mem_backing *mb)
{
	return mb->durable;
}

void mem_backing_load(struct mem_backing *mb, const uint8_t *image)
{
	pthread_mutex_lock(&mb->mutex);
	if (image != NULL)
		memcpy(mb->durable, image, (size_t)mb->options.size_bytes);
	else
		memset(mb->durable, 0, (size_t)mb->options.size_bytes);
	memcpy(mb->live, mb->durable, (size_t)mb->options.size_bytes);
	mb->pending_nr = 0;
	mb->orphan_nr = 0;
	pthread_mutex_unlock(&mb->mutex);
}

uint32_t mem_backing_pending_nr(const struct mem_backing *mb)
{
	return (uint32_t)mb->pending_nr;
}

void mem_backing_get_pending(const struct mem_backing *mb, uint32_t idx, struct mem_backing_pending *out_pending)
{
	out_pending->off = mb->pending[idx].off;
	out_pending->seq = mb->pending[idx].seq;
	out_pending->data = mb->pending[idx].data;
}

static void apply_kept(const struct mem_backing *mb, mem_backing_keep keep, void *user, uint8_t *image)
{
	if (keep == NULL)
		return;
	for (size_t i = 0; i < mb->pending_nr; i++) {
		if (keep(user, (uint32_t)i))
			memcpy(image + mb->pending[i].off, mb->pending[i].data, MEM_BACKING_BLOCK);
	}
}

void mem_backing_crash_image(const struct mem_backing *mb, mem_backing_keep keep, void *user, uint8_t *image)
{
	memcpy(image, mb->durable, (size_t)mb->options.size_bytes);
	apply_kept(mb, keep, user, image);
}

void mem_backing_crash(struct mem_backing *mb, mem_backing_keep keep, void *user)
{
	pthread_mutex_lock(&mb->mutex);
	apply_kept(mb, keep, user, mb->durable);
	memcpy(mb->live, mb->durable, (size_t)mb->options.size_bytes);
	mb->pending_nr = 0;
	mb->orphan_nr = 0;
	pthread_mutex_unlock(&mb->mutex);
}
