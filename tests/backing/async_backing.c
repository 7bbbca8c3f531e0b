/* SPDX-License-Identifier: BSD-3-Clause */
/* A backing whose writes end late and out of order, see the header. */
#include "async_backing.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define WAITING_NR 256u
#define GATHER_NS 2000000 /* without another: whoever submits may be waiting for this one */

struct waiting {
	struct pcache_backing_io *io;
	const void *buf;
	uint64_t off;
	uint64_t len;
	uint64_t number;
};

struct async_backing {
	struct mem_backing *mb;
	struct pcache_backing_ops ops; /* of mb */
	struct async_options options;
	struct async_counters counters;
	pthread_t thread;
	pthread_mutex_t mutex; /* guards all of this */
	pthread_cond_t cond;
	struct waiting waiting[WAITING_NR];
	uint32_t waiting_nr;
	uint64_t number;
	bool stop;
};

static uint32_t draw(struct async_backing *async, uint32_t below)
{
	uint64_t *seed = &async->options.seed;

	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return (uint32_t)(*seed >> 20) % below;
}

static int end_one_locked(struct async_backing *async, uint32_t idx)
{
	struct waiting one = async->waiting[idx];
	int rc;

	for (uint32_t i = 0; i < async->waiting_nr; i++) {
		if (async->waiting[i].number < one.number) {
			async->counters.disorder_nr++;
			break;
		}
	}
	pthread_mutex_unlock(&async->mutex);
	rc = async->ops.write(async->mb, one.buf, one.off, one.len);
	pthread_mutex_lock(&async->mutex);
	/* Others were only added meanwhile. */
	async->waiting[idx] = async->waiting[--async->waiting_nr];
	pthread_mutex_unlock(&async->mutex);
	pcache_backing_complete(one.io, rc);
	pthread_mutex_lock(&async->mutex);
	return rc;
}

static bool is_gathering(const struct async_backing *async)
{
	return async->counters.waiting_max < async->options.gather_nr;
}

/* Sleeps until enough have come, or for a while none. */
static void gather_locked(struct async_backing *async)
{
	uint64_t number = async->number - 1;
	struct timespec until;

	while (is_gathering(async) && number != async->number && !async->stop) {
		number = async->number;
		(void)clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += GATHER_NS;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		while (number == async->number && !async->stop &&
		       pthread_cond_timedwait(&async->cond, &async->mutex, &until) == 0)
			;
	}
}

static void *end_some(void *arg)
{
	struct async_backing *async = arg;

	pthread_mutex_lock(&async->mutex);
	while (!async->stop || async->waiting_nr) {
		uint32_t pause_us, idx;

		if (!async->waiting_nr) {
			pthread_cond_wait(&async->cond, &async->mutex);
			continue;
		}
		gather_locked(async);
		pause_us = async->options.pause_us_max && draw(async, 16) == 0
				   ? draw(async, async->options.pause_us_max)
				   : 0;
		if (pause_us) {
			pthread_mutex_unlock(&async->mutex);
			(void)usleep(pause_us);
			pthread_mutex_lock(&async->mutex);
		}
		idx = draw(async, async->waiting_nr);
		if (async->options.gather_nr && !async->counters.disorder_nr)
			idx = async->waiting_nr - 1;
		(void)end_one_locked(async, idx);
	}
	pthread_mutex_unlock(&async->mutex);
	return NULL;
}

static int submit(void *user, struct pcache_backing_io *io, uint32_t kind, void *buf, uint64_t off, uint64_t len)
{
	struct async_backing *async = user;
	uint32_t what;
	int rc = 0;

	if (kind != PCACHE_BACKING_WRITE)
		return -EINVAL;
	pthread_mutex_lock(&async->mutex);
	what = draw(async, 100);
	if (what < async->options.busy_percent || async->waiting_nr == WAITING_NR ||
	    (async->options.most_nr && async->waiting_nr >= async->options.most_nr)) {
		async->counters.busy_nr++;
		rc = -EAGAIN;
	} else if (what < async->options.busy_percent + async->options.refuse_percent) {
		async->counters.refused_nr++;
		rc = -EIO;
	} else {
		async->counters.submit_nr++;
		if (draw(async, 100) < async->options.at_once_percent) {
			pthread_mutex_unlock(&async->mutex);
			pcache_backing_complete(io, async->ops.write(async->mb, buf, off, len));
			return 0;
		}
		async->waiting[async->waiting_nr++] =
			(struct waiting){ .io = io, .buf = buf, .off = off, .len = len, .number = async->number++ };
		if (async->waiting_nr > async->counters.waiting_max)
			async->counters.waiting_max = async->waiting_nr;
		pthread_cond_signal(&async->cond);
	}
	pthread_mutex_unlock(&async->mutex);
	return rc;
}

static int async_read(void *user, void *buf, uint64_t off, uint64_t len)
{
	struct async_backing *async = user;

	return async->ops.read(async->mb, buf, off, len);
}

static int async_write(void *user, const void *buf, uint64_t off, uint64_t len)
{
	struct async_backing *async = user;

	return async->ops.write(async->mb, buf, off, len);
}

/* No write may be in flight when a flush begins: whoever flushes wants them covered. */
static int async_flush(void *user)
{
	struct async_backing *async = user;
	bool idle;

	pthread_mutex_lock(&async->mutex);
	idle = async->waiting_nr == 0;
	pthread_mutex_unlock(&async->mutex);
	return idle ? async->ops.flush(async->mb) : -EPROTO;
}

static int async_discard(void *user, uint64_t off, uint64_t len)
{
	struct async_backing *async = user;

	return async->ops.discard(async->mb, off, len);
}

static int async_zeroes(void *user, uint64_t off, uint64_t len)
{
	struct async_backing *async = user;

	return async->ops.write_zeroes(async->mb, off, len);
}

struct async_backing *async_backing_create(struct mem_backing *mb, const struct async_options *options)
{
	struct async_backing *async = calloc(1, sizeof(*async));

	if (!async)
		return NULL;
	async->mb = mb;
	async->options = *options;
	mem_backing_get_ops(mb, &async->ops);
	(void)pthread_mutex_init(&async->mutex, NULL);
	(void)pthread_cond_init(&async->cond, NULL);
	if (pthread_create(&async->thread, NULL, end_some, async)) {
		free(async);
		return NULL;
	}
	return async;
}

void async_backing_destroy(struct async_backing *async)
{
	pthread_mutex_lock(&async->mutex);
	async->stop = true;
	pthread_cond_signal(&async->cond);
	pthread_mutex_unlock(&async->mutex);
	(void)pthread_join(async->thread, NULL);
	(void)pthread_cond_destroy(&async->cond);
	(void)pthread_mutex_destroy(&async->mutex);
	free(async);
}

void async_backing_get_ops(struct async_backing *async, struct pcache_backing_ops *out_ops)
{
	*out_ops = async->ops;
	out_ops->read = async_read;
	out_ops->write = async_write;
	out_ops->flush = async_flush;
	out_ops->discard = async_discard;
	out_ops->write_zeroes = async_zeroes;
	out_ops->submit = submit;
	out_ops->free = NULL;
}

void async_backing_get_counters(struct async_backing *async, struct async_counters *out_counters)
{
	pthread_mutex_lock(&async->mutex);
	*out_counters = async->counters;
	pthread_mutex_unlock(&async->mutex);
}
