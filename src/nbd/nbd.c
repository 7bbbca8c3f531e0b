/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The NBD backing. Not part of libpcache: it uses the public headers and libnbd alone.
 *
 * Each connection has a thread, and libnbd's handle is that thread's alone. Callers append requests to the connection's list and wake the thread by an eventfd; the thread issues them, polls, and completes
 * them. A request is in one of three places: submitted (under the lock), pending (the thread's), in flight (libnbd has it). A lost connection puts what was in flight back to pending.
 *
 * Flush. Writes that the server acknowledged since the last flush may be lost with a connection (its server may have been restarted), so a loss fails the next flush: the cache then takes them for not
 * written. Only a flush that began after the loss was told may succeed.
 */
#include "pcache/nbd.h"

#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define CONN_NR_MAX 16u
#define CONN_NR_DEFAULT 4u
#define TIMEOUT_MS_DEFAULT 30000u
#define OPTIONS_BYTES_MIN 12u /* up to timeout_ms */
#define BLOCK_BYTES_MAX 4096u
#define TRANSFER_BYTES_MAX (UINT64_C(32) << 20)
#define IN_FLIGHT_MAX 64u
#define PAUSE_NS_MIN UINT64_C(10000000)
#define PAUSE_NS_MAX UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

struct request {
	struct request *next;
	struct conn *conn;
	struct pcache_backing_io *io; /* NULL: somebody waits for it */
	uint32_t kind; /* PCACHE_BACKING_* */
	void *buf;
	uint64_t off, len;
	uint64_t deadline_ns;
	int64_t cookie;
	int rc;
	bool is_done; /* under the connection's lock */
};

struct list {
	struct request *first;
	struct request **last;
};

struct conn {
	struct nbd *of;
	pthread_t thread;
	int wake_fd;
	pthread_mutex_t lock;
	pthread_cond_t done; /* somebody's request */
	struct list submitted; /* under the lock */
	bool stop; /* under the lock */
	/* Of the thread. */
	struct nbd_handle *handle; /* NULL: none */
	bool is_ready; /* it was, once */
	struct list pending, in_flight, ended;
	uint32_t in_flight_nr;
	uint64_t retry_ns, pause_ns; /* when to connect again */
	uint64_t give_up_ns; /* while it connects */
};

struct nbd {
	char *uri;
	uint64_t size_bytes;
	uint64_t timeout_ns;
	uint32_t conn_nr;
	bool read_only;
	_Atomic uint32_t next_conn;
	_Atomic bool unflushed; /* something was acknowledged since the last flush began */
	_Atomic bool lost; /* a connection went while that was so; the next flush says it */
	struct conn conns[CONN_NR_MAX];
};

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* ---- lists ---- */

static void list_init(struct list *list)
{
	list->first = NULL;
	list->last = &list->first;
}

static void list_add(struct list *list, struct request *request)
{
	request->next = NULL;
	*list->last = request;
	list->last = &request->next;
}

static struct request *list_take(struct list *list)
{
	struct request *request = list->first;

	if (request) {
		list->first = request->next;
		if (!list->first)
			list->last = &list->first;
	}
	return request;
}

static void list_remove(struct list *list, struct request *request)
{
	struct request **at = &list->first;

	while (*at != request)
		at = &(*at)->next;
	*at = request->next;
	if (!*at)
		list->last = at;
}

/* All of from, in their order, behind to. */
static void list_move(struct list *to, struct list *from)
{
	struct request *request;

	while ((request = list_take(from)))
		list_add(to, request);
}

/* ---- ends ---- */

static void end(struct request *request, int rc)
{
	struct conn *conn = request->conn;
	struct pcache_backing_io *io = request->io;

	if (!rc && (request->kind == PCACHE_BACKING_WRITE || request->kind == PCACHE_BACKING_ZEROES ||
		    request->kind == PCACHE_BACKING_DISCARD))
		atomic_store(&conn->of->unflushed, true);
	if (io) {
		free(request);
		pcache_backing_complete(io, rc);
		return;
	}
	(void)pthread_mutex_lock(&conn->lock);
	request->rc = rc;
	request->is_done = true;
	(void)pthread_cond_broadcast(&conn->done);
	(void)pthread_mutex_unlock(&conn->lock);
}

/* Of libnbd, when it has the answer, or none will come. */
static int answered(void *user, int *error)
{
	struct request *request = user;
	struct conn *conn = request->conn;

	list_remove(&conn->in_flight, request);
	conn->in_flight_nr--;
	request->rc = -*error;
	list_add(&conn->ended, request);
	return 1; /* libnbd may forget it */
}

/* What no server says of a request: the connection is gone, or about to be. */
static bool is_loss(int rc)
{
	return rc == -ENOTCONN || rc == -ESHUTDOWN || rc == -ECONNRESET || rc == -EPIPE;
}

static void end_answered(struct conn *conn)
{
	struct request *request;

	while ((request = list_take(&conn->ended))) {
		if (!is_loss(request->rc))
			end(request, request->rc);
		else if (request->kind == PCACHE_BACKING_FLUSH)
			end(request, -EIO);
		else
			list_add(&conn->pending, request);
	}
}

/* ---- the connection ---- */

static void drop(struct conn *conn)
{
	struct nbd *nbd = conn->of;

	if (!conn->handle)
		return;
	/* Nothing touches the buffers of what is in flight any more, whether libnbd says so of each or not. */
	nbd_close(conn->handle);
	conn->handle = NULL;
	while (conn->in_flight.first) {
		conn->in_flight.first->rc = -ENOTCONN;
		list_add(&conn->ended, list_take(&conn->in_flight));
	}
	conn->in_flight_nr = 0;
	if (conn->is_ready && atomic_load(&nbd->unflushed))
		atomic_store(&nbd->lost, true);
	conn->is_ready = false;
	end_answered(conn);
	conn->pause_ns = conn->pause_ns ? conn->pause_ns * 2 : PAUSE_NS_MIN;
	if (conn->pause_ns > PAUSE_NS_MAX)
		conn->pause_ns = PAUSE_NS_MAX;
	conn->retry_ns = now_ns() + conn->pause_ns;
}

static struct nbd_handle *new_handle(void)
{
	struct nbd_handle *handle = nbd_create();

	/* What is not read stays as it was: it need not be zeroed before. */
	if (handle)
		(void)nbd_set_pread_initialize(handle, false);
	return handle;
}

static void connect_again(struct conn *conn)
{
	conn->handle = new_handle();
	conn->give_up_ns = now_ns() + conn->of->timeout_ns;
	if (!conn->handle)
		conn->retry_ns = now_ns() + PAUSE_NS_MAX;
	else if (nbd_aio_connect_uri(conn->handle, conn->of->uri) != 0)
		drop(conn);
}

/* Whether the connection can be used; a new one to something else cannot. */
static bool look(struct conn *conn)
{
	if (conn->handle && (nbd_aio_is_dead(conn->handle) || nbd_aio_is_closed(conn->handle)))
		drop(conn);
	if (!conn->handle || !(nbd_aio_is_ready(conn->handle) || nbd_aio_is_processing(conn->handle)))
		return false;
	if (!conn->is_ready && nbd_get_size(conn->handle) != (int64_t)conn->of->size_bytes) {
		drop(conn);
		return false;
	}
	conn->is_ready = true;
	return true;
}

static void issue(struct conn *conn, struct request *request)
{
	nbd_completion_callback done = { .callback = answered, .user_data = request };
	struct nbd_handle *handle = conn->handle;

	/* libnbd may answer inside the call. */
	list_add(&conn->in_flight, request);
	conn->in_flight_nr++;
	switch (request->kind) {
	case PCACHE_BACKING_READ:
		request->cookie = nbd_aio_pread(handle, request->buf, (size_t)request->len, request->off, done, 0);
		break;
	case PCACHE_BACKING_WRITE:
		request->cookie = nbd_aio_pwrite(handle, request->buf, (size_t)request->len, request->off, done, 0);
		break;
	case PCACHE_BACKING_FLUSH:
		request->cookie = nbd_aio_flush(handle, done, 0);
		break;
	default: /* without NO_HOLE: the server may free the space */
		request->cookie = nbd_aio_zero(handle, request->len, request->off, done, 0);
		break;
	}
	if (request->cookie >= 0)
		return;
	/* Not begun; libnbd has not called back for it. */
	list_remove(&conn->in_flight, request);
	conn->in_flight_nr--;
	if (nbd_aio_is_dead(handle) || nbd_aio_is_closed(handle)) {
		request->rc = -ENOTCONN;
		list_add(&conn->ended, request);
	} else {
		end(request, nbd_get_errno() ? -nbd_get_errno() : -EIO);
	}
}

/* Ends what is over its time. If that is in flight, the connection goes with it. Returns when to look again. */
static uint64_t expire(struct conn *conn)
{
	uint64_t now = now_ns(), next_ns = UINT64_MAX;
	struct list kept;
	struct request *request;

	for (request = conn->in_flight.first; request; request = request->next) {
		if (request->deadline_ns <= now) {
			drop(conn);
			break;
		}
		next_ns = next_ns < request->deadline_ns ? next_ns : request->deadline_ns;
	}
	list_init(&kept);
	while ((request = list_take(&conn->pending))) {
		if (request->deadline_ns <= now) {
			end(request, -ETIMEDOUT);
		} else {
			next_ns = next_ns < request->deadline_ns ? next_ns : request->deadline_ns;
			list_add(&kept, request);
		}
	}
	list_move(&conn->pending, &kept);
	if (conn->handle && !conn->is_ready) {
		if (conn->give_up_ns <= now)
			drop(conn);
		else if (conn->give_up_ns < next_ns)
			next_ns = conn->give_up_ns;
	}
	if (!conn->handle && conn->pending.first && conn->retry_ns < next_ns)
		next_ns = conn->retry_ns;
	return next_ns;
}

/* Waits for the server, a caller, or the time. */
static void wait_for_news(struct conn *conn, uint64_t until_ns)
{
	struct pollfd fds[2] = { { .fd = conn->wake_fd, .events = POLLIN }, { .fd = -1 } };
	uint64_t now = now_ns(), wake_nr;
	int timeout_ms = -1;
	unsigned int direction = 0;

	if (conn->handle) {
		direction = nbd_aio_get_direction(conn->handle);
		fds[1].fd = nbd_aio_get_fd(conn->handle);
		fds[1].events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
					(direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
	}
	if (until_ns != UINT64_MAX)
		timeout_ms = until_ns <= now
				     ? 0
				     : (int)((until_ns - now) / NS_PER_MS + 1 < 60000 ? (until_ns - now) / NS_PER_MS + 1
										      : 60000);
	if (poll(fds, 2, timeout_ms) < 0)
		return;
	if (fds[0].revents)
		(void)!read(conn->wake_fd, &wake_nr, sizeof(wake_nr));
	if (!conn->handle || !fds[1].revents)
		return;
	if ((direction & LIBNBD_AIO_DIRECTION_READ) && (fds[1].revents & (POLLIN | POLLHUP)))
		(void)nbd_aio_notify_read(conn->handle);
	else if ((direction & LIBNBD_AIO_DIRECTION_WRITE) && (fds[1].revents & POLLOUT))
		(void)nbd_aio_notify_write(conn->handle);
	else
		drop(conn); /* POLLERR, POLLNVAL, or a hang-up that nobody reads */
}

static void *run(void *arg)
{
	struct conn *conn = arg;
	bool stop;

	for (;;) {
		uint64_t until_ns;

		(void)pthread_mutex_lock(&conn->lock);
		list_move(&conn->pending, &conn->submitted);
		stop = conn->stop;
		(void)pthread_mutex_unlock(&conn->lock);
		if (stop && !conn->pending.first && !conn->in_flight.first)
			break;
		if (!conn->handle && conn->pending.first && now_ns() >= conn->retry_ns)
			connect_again(conn);
		while (look(conn) && conn->pending.first && conn->in_flight_nr < IN_FLIGHT_MAX)
			issue(conn, list_take(&conn->pending));
		end_answered(conn);
		until_ns = expire(conn);
		wait_for_news(conn, until_ns);
		if (conn->ended.first)
			conn->pause_ns = 0; /* it works */
		end_answered(conn);
	}
	if (conn->handle) {
		(void)nbd_aio_disconnect(conn->handle, 0);
		nbd_close(conn->handle);
	}
	return NULL;
}

/* ---- callbacks of the cache ---- */

static void submit(struct nbd *nbd, struct request *request)
{
	struct conn *conn = &nbd->conns[atomic_fetch_add(&nbd->next_conn, 1) % nbd->conn_nr];
	const uint64_t one = 1;

	request->conn = conn;
	request->deadline_ns = now_ns() + nbd->timeout_ns;
	(void)pthread_mutex_lock(&conn->lock);
	list_add(&conn->submitted, request);
	(void)pthread_mutex_unlock(&conn->lock);
	(void)!write(conn->wake_fd, &one, sizeof(one));
}

static int and_wait(struct nbd *nbd, uint32_t kind, void *buf, uint64_t off, uint64_t len)
{
	struct request request = { .kind = kind, .buf = buf, .off = off, .len = len };
	int rc;

	submit(nbd, &request);
	(void)pthread_mutex_lock(&request.conn->lock);
	while (!request.is_done)
		(void)pthread_cond_wait(&request.conn->done, &request.conn->lock);
	rc = request.rc;
	(void)pthread_mutex_unlock(&request.conn->lock);
	return rc;
}

static int back_read(void *user, void *buf, uint64_t off, uint64_t len)
{
	return and_wait(user, PCACHE_BACKING_READ, buf, off, len);
}

static int back_write(void *user, const void *buf, uint64_t off, uint64_t len)
{
	struct nbd *nbd = user;
	union {
		const void *from;
		void *to;
	} bytes = { .from = buf };

	return nbd->read_only ? -EROFS : and_wait(nbd, PCACHE_BACKING_WRITE, bytes.to, off, len);
}

static int back_zero(void *user, uint64_t off, uint64_t len)
{
	struct nbd *nbd = user;

	return nbd->read_only ? -EROFS : and_wait(nbd, PCACHE_BACKING_ZEROES, NULL, off, len);
}

static int back_flush(void *user)
{
	struct nbd *nbd = user;
	int rc;

	if (atomic_exchange(&nbd->lost, false))
		return -EIO;
	atomic_store(&nbd->unflushed, false);
	rc = and_wait(nbd, PCACHE_BACKING_FLUSH, NULL, 0, 0);
	if (rc)
		atomic_store(&nbd->unflushed, true);
	/* Lost meanwhile by another connection: the server may have been another one when it flushed. */
	return !rc && atomic_exchange(&nbd->lost, false) ? -EIO : rc;
}

static int back_start(void *user, struct pcache_backing_io *io, uint32_t kind, void *buf, uint64_t off, uint64_t len)
{
	struct nbd *nbd = user;
	struct request *request;

	if (nbd->read_only && kind != PCACHE_BACKING_READ)
		return -EROFS;
	if (kind == PCACHE_BACKING_FLUSH)
		return -EOPNOTSUPP; /* back_flush has more to do than to ask */
	request = malloc(sizeof(*request));
	if (!request)
		return -ENOMEM;
	*request = (struct request){ .io = io, .kind = kind, .buf = buf, .off = off, .len = len };
	submit(nbd, request);
	return 0;
}

static void stop_conns(struct nbd *nbd, uint32_t started_nr)
{
	const uint64_t one = 1;

	for (uint32_t i = 0; i < started_nr; i++) {
		struct conn *conn = &nbd->conns[i];

		(void)pthread_mutex_lock(&conn->lock);
		conn->stop = true;
		(void)pthread_mutex_unlock(&conn->lock);
		(void)!write(conn->wake_fd, &one, sizeof(one));
		(void)pthread_join(conn->thread, NULL);
	}
	for (uint32_t i = 0; i < nbd->conn_nr; i++) {
		(void)pthread_cond_destroy(&nbd->conns[i].done);
		(void)pthread_mutex_destroy(&nbd->conns[i].lock);
		if (nbd->conns[i].wake_fd >= 0)
			(void)close(nbd->conns[i].wake_fd);
	}
	free(nbd->uri);
	free(nbd);
}

static void back_free(void *user)
{
	struct nbd *nbd = user;

	stop_conns(nbd, nbd->conn_nr);
}

/* ---- new ---- */

static int options_of(const struct pcache_nbd_options *given, struct pcache_nbd_options *out)
{
	*out = (struct pcache_nbd_options){ .struct_bytes = sizeof(*out) };
	if (given) {
		const size_t bytes = given->struct_bytes;

		if (bytes < OPTIONS_BYTES_MIN)
			return -EINVAL;
		for (size_t i = sizeof(*out); i < bytes; i++) {
			if (((const uint8_t *)given)[i])
				return -EINVAL;
		}
		memcpy(out, given, bytes < sizeof(*out) ? bytes : sizeof(*out));
	}
	if (out->connections > CONN_NR_MAX || out->reserved)
		return -EINVAL;
	if (!out->connections)
		out->connections = CONN_NR_DEFAULT;
	if (!out->timeout_ms)
		out->timeout_ms = TIMEOUT_MS_DEFAULT;
	return 0;
}

/* What the export is, from its first connection. 0, -ENOTSUP, -EIO. */
static int take_export(struct nbd_handle *handle, struct nbd *nbd, struct pcache_backing_ops *ops)
{
	int64_t size = nbd_get_size(handle), least = nbd_get_block_size(handle, LIBNBD_SIZE_MINIMUM);
	int64_t most = nbd_get_block_size(handle, LIBNBD_SIZE_MAXIMUM);

	if (size < 0 || least < 0 || most < 0)
		return -EIO;
	if (size == 0 || size % 512 || least > BLOCK_BYTES_MAX || (least > 512 && size % least))
		return -ENOTSUP;
	nbd->size_bytes = (uint64_t)size;
	nbd->read_only = nbd_is_read_only(handle) > 0;
	if (nbd_can_multi_conn(handle) <= 0)
		nbd->conn_nr = 1;
	ops->struct_bytes = sizeof(*ops);
	ops->block_bytes = least > 512 ? (uint32_t)least : 512;
	ops->size_bytes = nbd->size_bytes;
	ops->max_transfer_bytes = most && (uint64_t)most < TRANSFER_BYTES_MAX
					  ? (uint64_t)most & ~(uint64_t)(BLOCK_BYTES_MAX - 1)
					  : TRANSFER_BYTES_MAX;
	if (ops->max_transfer_bytes < BLOCK_BYTES_MAX)
		return -ENOTSUP;
	ops->read = back_read;
	ops->write = back_write;
	ops->flush = nbd_can_flush(handle) > 0 ? back_flush : NULL;
	ops->discard = nbd_can_zero(handle) > 0 ? back_zero : NULL;
	ops->write_zeroes = ops->discard;
	ops->submit = back_start;
	ops->free = back_free;
	return 0;
}

/* With all signals blocked, which the threads inherit. On failure those that run are stopped, and nbd is gone. */
static int start_conns(struct nbd *nbd, struct nbd_handle *handle)
{
	sigset_t all, before;
	uint32_t started_nr = 0;
	int rc = 0;

	for (uint32_t i = 0; i < nbd->conn_nr; i++) {
		struct conn *conn = &nbd->conns[i];

		conn->of = nbd;
		(void)pthread_mutex_init(&conn->lock, NULL);
		(void)pthread_cond_init(&conn->done, NULL);
		list_init(&conn->submitted);
		list_init(&conn->pending);
		list_init(&conn->in_flight);
		list_init(&conn->ended);
		conn->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (conn->wake_fd < 0)
			rc = -errno;
	}
	nbd->conns[0].handle = handle;
	nbd->conns[0].is_ready = true;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	while (!rc && started_nr < nbd->conn_nr) {
		rc = -pthread_create(&nbd->conns[started_nr].thread, NULL, run, &nbd->conns[started_nr]);
		started_nr += !rc;
	}
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc) {
		if (!started_nr)
			nbd_close(handle);
		stop_conns(nbd, started_nr);
	}
	return rc;
}

static int last_error(void)
{
	return nbd_get_errno() ? -nbd_get_errno() : -EIO;
}

int pcache_backing_nbd_new(const char *uri, const struct pcache_nbd_options *options,
			   struct pcache_backing **out_backing)
{
	struct pcache_backing_ops ops = { 0 };
	struct pcache_nbd_options use;
	struct nbd_handle *handle;
	struct nbd *nbd;
	int rc;

	if (!uri || !out_backing)
		return -EINVAL;
	rc = options_of(options, &use);
	if (rc)
		return rc;
	nbd = calloc(1, sizeof(*nbd));
	if (!nbd)
		return -ENOMEM;
	nbd->uri = strdup(uri);
	nbd->timeout_ns = use.timeout_ms * NS_PER_MS;
	nbd->conn_nr = use.connections;
	handle = nbd->uri ? new_handle() : NULL;
	rc = handle ? 0 : -ENOMEM;
	if (!rc && nbd_connect_uri(handle, uri) != 0)
		rc = last_error();
	if (!rc)
		rc = take_export(handle, nbd, &ops);
	if (rc) {
		if (handle)
			nbd_close(handle);
		free(nbd->uri);
		free(nbd);
		return rc;
	}
	rc = start_conns(nbd, handle);
	if (rc)
		return rc;
	rc = pcache_backing_new(&ops, nbd, out_backing);
	if (rc)
		back_free(nbd);
	return rc;
}
