/* SPDX-License-Identifier: BSD-3-Clause */
/* The clients of an asynchronous load, see async_load.h. */
#include "system/async_load.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/lock.h"

#define DEPTH 64u
#define LEN_BLK_MAX 8u

struct request {
	uint32_t blk, len_blk; /* of the part; len_blk 0: not in flight */
	enum { READ, WRITE, ZEROES, FLUSH } kind;
	bool given_up; /* the buffer has a pattern that must stay */
	uint64_t ticket;
	uint8_t buf[LEN_BLK_MAX * ASYNC_LOAD_BLOCK];
};

struct client {
	struct rig *rig;
	pthread_t thread;
	uint32_t number;
	uint64_t random;
	uint64_t end_ns;
	struct pcache_queue *queue;
	struct request requests[DEPTH];
	uint8_t busy[ASYNC_LOAD_PART_BLK]; /* a request has it in flight */
	uint32_t in_flight_nr;
	uint64_t done_nr, error_nr, given_up_nr;
	const char *wrong;
};

static uint32_t below(struct client *client, uint32_t limit)
{
	client->random = client->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(client->random >> 33) % limit;
}

static uint8_t *model(struct client *client, uint32_t blk)
{
	return client->rig->model + ((uint64_t)client->number * ASYNC_LOAD_PART_BLK + blk) * ASYNC_LOAD_BLOCK;
}

static void mark(struct client *client, const struct request *request, uint8_t busy)
{
	if (request->kind != FLUSH)
		memset(client->busy + request->blk, busy, request->len_blk);
}

static bool is_pattern(const struct request *request)
{
	for (uint32_t i = 0; i < sizeof(request->buf); i++) {
		if (request->buf[i] != 0xa5)
			return false;
	}
	return true;
}

static void end(struct client *client, struct request *request, int result)
{
	uint32_t len = request->len_blk * ASYNC_LOAD_BLOCK;

	if (request->kind == READ && !result && memcmp(request->buf, model(client, request->blk), len) != 0)
		client->wrong = "a read returned other bytes than were written";
	if (request->kind == READ && result && result != -EIO && result != -ECANCELED && result != -ETIMEDOUT)
		client->wrong = "a read failed for another reason than the backing";
	if (request->kind != READ && result)
		client->wrong = "a write or a flush failed";
	if (result == -ECANCELED || result == -ETIMEDOUT) {
		request->given_up = true;
		memset(request->buf, 0xa5, sizeof(request->buf));
		client->given_up_nr++;
	}
	client->error_nr += result == -EIO;
	client->done_nr++;
	mark(client, request, 0);
	request->len_blk = 0;
	client->in_flight_nr--;
}

static int send(struct client *client, struct request *request, struct pcache_aio *aio)
{
	uint64_t off = ((uint64_t)client->number * ASYNC_LOAD_PART_BLK + request->blk) * ASYNC_LOAD_BLOCK,
		 len = request->len_blk * ASYNC_LOAD_BLOCK;

	switch (request->kind) {
	case READ:
		return pcache_aio_read(client->queue, request->buf, off, len, aio, &request->ticket);
	case WRITE:
		return pcache_aio_write(client->queue, request->buf, off, len, aio, &request->ticket);
	case ZEROES:
		return pcache_aio_write_zeroes(client->queue, off, len, aio, &request->ticket);
	default:
		return pcache_aio_flush(client->queue, aio, &request->ticket);
	}
}

/* What it will be when it is complete: nobody else reads these blocks until then. */
static void expect(struct client *client, struct request *request)
{
	uint32_t len = request->len_blk * ASYNC_LOAD_BLOCK;

	if (request->kind == WRITE) {
		for (uint32_t i = 0; i < len; i++)
			request->buf[i] = (uint8_t)below(client, 256);
		memcpy(model(client, request->blk), request->buf, len);
	} else if (request->kind == ZEROES) {
		memset(model(client, request->blk), 0, len);
	}
}

static void start(struct client *client, struct request *request)
{
	struct pcache_aio aio = { .struct_bytes = sizeof(aio), .user = request };
	uint32_t dice = below(client, 100);
	int rc;

	if (request->given_up && !is_pattern(request))
		client->wrong = "the buffer of a read that was given up was touched";
	request->given_up = false;
	request->kind = dice < 60 ? READ : dice < 92 ? WRITE : dice < 98 ? ZEROES : FLUSH;
	request->len_blk = 1 + below(client, LEN_BLK_MAX);
	request->blk = below(client, ASYNC_LOAD_PART_BLK - request->len_blk);
	for (uint32_t i = 0; i < request->len_blk; i++) {
		if (client->busy[request->blk + i]) {
			request->len_blk = 0;
			return;
		}
	}
	expect(client, request);
	mark(client, request, 1);
	if (request->kind == READ && below(client, 2))
		aio.flags = PCACHE_NOCACHE;
	if (request->kind == READ && !below(client, 8))
		aio.timeout_ns = 1 + below(client, 2000000);
	rc = send(client, request, &aio);
	client->in_flight_nr++;
	if (rc == -EAGAIN && request->kind == READ) {
		end(client, request, -EIO); /* given-up reads fill the queue */
		client->error_nr--;
	} else if (rc == -EAGAIN) {
		while ((rc = send(client, request, &aio)) == -EAGAIN)
			sched_yield();
	}
	if (rc && rc != -EAGAIN)
		client->wrong = "a submission failed";
	if (request->kind == READ && !rc && !below(client, 16))
		(void)pcache_aio_cancel(client->queue, request->ticket);
}

static void reap(struct client *client)
{
	struct pcache_completion completions[16];
	struct pollfd pollfd = { .fd = pcache_queue_fd(client->queue), .events = POLLIN };
	int nr;

	if (poll(&pollfd, 1, 60000) != 1) {
		client->wrong = "a minute without a completion";
		return;
	}
	nr = pcache_queue_reap(client->queue, completions, 16);
	if (nr <= 0)
		client->wrong = "the descriptor was readable, and there was no completion";
	for (int i = 0; i < nr; i++)
		end(client, completions[i].user, completions[i].result);
}

static void *client_main(void *arg)
{
	struct client *client = arg;
	bool over = false;

	while (!client->wrong && (!over || client->in_flight_nr)) {
		over = over || pc_monotonic_ns() > client->end_ns;
		for (uint32_t i = 0; i < DEPTH && !over; i++) {
			if (!client->requests[i].len_blk)
				start(client, &client->requests[i]);
		}
		if (client->in_flight_nr)
			reap(client);
	}
	return NULL;
}

struct async_load_sums async_load_run(struct rig *rig, uint64_t seconds)
{
	struct client *clients = calloc(ASYNC_LOAD_QUEUE_NR, sizeof(*clients));
	struct async_load_sums sums = { 0 };

	assert_non_null(clients);
	for (uint32_t i = 0; i < ASYNC_LOAD_QUEUE_NR; i++) {
		clients[i].rig = rig;
		clients[i].number = i;
		clients[i].random = i + 1;
		clients[i].end_ns = pc_monotonic_ns() + seconds * 1000000000;
		assert_int_equal(pcache_queue_new(rig->cache, DEPTH, &clients[i].queue), 0);
		assert_int_equal(pthread_create(&clients[i].thread, NULL, client_main, &clients[i]), 0);
	}
	for (uint32_t i = 0; i < ASYNC_LOAD_QUEUE_NR; i++)
		assert_int_equal(pthread_join(clients[i].thread, NULL), 0);
	for (uint32_t i = 0; i < ASYNC_LOAD_QUEUE_NR; i++) {
		if (clients[i].wrong)
			fail_msg("queue %u: %s", i, clients[i].wrong);
		assert_int_equal(pcache_queue_free(clients[i].queue), 0);
		sums.done_nr += clients[i].done_nr;
		sums.error_nr += clients[i].error_nr;
		sums.given_up_nr += clients[i].given_up_nr;
	}
	free(clients);
	print_message("%llu requests, %llu errors of the backing, %llu given up\n", (unsigned long long)sums.done_nr,
		      (unsigned long long)sums.error_nr, (unsigned long long)sums.given_up_nr);
	return sums;
}

uint64_t async_load_seconds(void)
{
	const char *text = getenv("PCACHE_ASYNC_LOAD_SECONDS");

	return text ? strtoull(text, NULL, 10) : 2;
}
