/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A loop over events: requests are submitted, poll(2) waits for what was not done at once, and completions are taken out of the queue.
 *
 *     truncate -s 64M slow.img && async slow.img fast.cache
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include <pcache/pcache.h>

#define BLOCK_BYTES 4096u
#define REQUEST_NR 16u

static int say(const char *what, int err)
{
	fprintf(stderr, "async: %s: %s\n", what, pcache_strerror(err));
	return err;
}

/* Waits until all of the requests are complete. The first of their errors, or 0. */
static int complete(struct pcache_queue *queue, unsigned request_nr)
{
	struct pcache_completion done[REQUEST_NR];
	int fd = pcache_queue_fd(queue), err = fd < 0 ? fd : 0;
	struct pollfd events = { .fd = fd, .events = POLLIN };

	while (request_nr && fd >= 0) {
		int nr = pcache_queue_reap(queue, done, REQUEST_NR);

		if (nr < 0)
			return nr;
		if (nr == 0)
			(void)poll(&events, 1, -1); /* here a program waits for its other descriptors, too */
		for (int i = 0; i < nr; i++) {
			if (done[i].result && !err)
				err = say(done[i].user, done[i].result);
		}
		request_nr -= (unsigned)nr;
	}
	return err;
}

static int work(struct pcache_queue *queue)
{
	static char blocks[REQUEST_NR][BLOCK_BYTES];
	struct pcache_aio aio = { .struct_bytes = sizeof(aio), .user = "read", .timeout_ns = 5000000000 };
	unsigned nr;
	int err = 0;

	for (nr = 0; nr < REQUEST_NR && !err; nr++)
		err = pcache_aio_read(queue, blocks[nr], (uint64_t)nr * BLOCK_BYTES, BLOCK_BYTES, &aio, NULL);
	err = complete(queue, nr - (err != 0)) || err;
	for (nr = 0; nr < REQUEST_NR && !err; nr++)
		printf("%.40s%s", blocks[nr], nr + 1 < REQUEST_NR ? " " : "\n");
	aio.user = "write";
	for (nr = 0; nr < REQUEST_NR && !err; nr++) {
		snprintf(blocks[nr], BLOCK_BYTES, "block-%u", nr);
		err = pcache_aio_write(queue, blocks[nr], (uint64_t)nr * BLOCK_BYTES, BLOCK_BYTES, &aio, NULL);
		err = err ? err : complete(queue, 1);
	}
	aio.user = "flush";
	err = err ? err : pcache_aio_flush(queue, &aio, NULL);
	return err ? err : complete(queue, 1); /* durable from here on, whatever the media */
}

int main(int argc, char **argv)
{
	struct pcache_backing *backing = NULL;
	struct pcache_config *config = NULL;
	struct pcache_queue *queue = NULL;
	struct pcache *cache = NULL;
	int err;

	if (argc != 3) {
		fprintf(stderr, "usage: async BACKING-FILE CACHE-FILE\n");
		return 2;
	}
	err = pcache_backing_file_new(argv[1], 0, &backing);
	if (!err && (pcache_config_new(&config) || pcache_config_set_str(config, "cache_bytes", "64M") ||
		     pcache_config_set_str(config, "create", "on")))
		err = -ENOMEM;
	if (!err)
		err = pcache_open(argv[2], config, backing, &cache);
	pcache_config_free(config);
	if (err) {
		pcache_backing_free(backing); /* still ours: only a successful open takes it */
		return say(argv[2], err) != 0;
	}
	err = pcache_queue_new(cache, REQUEST_NR, &queue);
	err = err ? err : work(queue);
	if (err)
		say("I/O", err);
	(void)pcache_queue_free(queue);
	return pcache_close(cache) || err ? 1 : 0;
}
