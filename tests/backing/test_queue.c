/* SPDX-License-Identifier: BSD-3-Clause */
/* The queue of writes, each way it can go: by calls, by a submit callback, by a ring; late, out of order, short, refused, with errors. */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "backing/async_backing.h"
#include "backing/queue.h"
#include "backing/uring.h"
#include "pcache/pcache.h"

#define BACKING_BYTES (UINT64_C(4) << 20)
#define MEMORY_BYTES (UINT64_C(2) << 20)
#define IO_NR 512u /* of 4 KiB each: all of the memory */

struct place {
	struct pc_backing_queue queue;
	struct pcache_backing *backing;
	uint8_t *memory;
	struct pcache_backing_io ios[IO_NR];
	uint32_t fetched_nr;
	uint32_t failed_nr;
	int error;
};

/* What pwrite of this program does: the rest of a short write goes through here. */
static struct {
	uint32_t calls;
	size_t most_bytes;
	int error;
} odd;

ssize_t pwrite(int fd, const void *buf, size_t len, off_t off)
{
	odd.calls++;
	if (odd.error) {
		errno = odd.error;
		return -1;
	}
	return syscall(SYS_pwrite64, fd, buf, odd.most_bytes && len > odd.most_bytes ? odd.most_bytes : len, off);
}

static void up(struct place *place, struct pcache_backing *backing, uint32_t block_bytes)
{
	memset(place, 0, sizeof(*place));
	memset(&odd, 0, sizeof(odd));
	place->backing = backing;
	place->memory = aligned_alloc(4096, MEMORY_BYTES);
	assert_non_null(place->memory);
	for (uint64_t i = 0; i < MEMORY_BYTES; i++)
		place->memory[i] = (uint8_t)(i * 7 + i / 4096 * 13);
	assert_int_equal(pc_queue_init(&place->queue, backing, place->memory, MEMORY_BYTES, block_bytes), 0);
}

static void down(struct place *place)
{
	assert_null(pc_queue_fetch(&place->queue, true));
	pc_queue_fini(&place->queue);
	pcache_backing_free(place->backing);
	free(place->memory);
}

static void take(struct place *place, const struct pcache_backing_io *io)
{
	place->fetched_nr++;
	if (io->result) {
		place->failed_nr++;
		place->error = io->result;
	}
}

/* io nr, of 4 KiB: the bytes of that place in memory, to twice the offset on the backing. */
static void write_nr(struct place *place, uint32_t nr)
{
	struct pcache_backing_io *io = &place->ios[nr];

	io->buf = place->memory + nr * 4096;
	io->off = (uint64_t)nr * 8192;
	io->len = 4096;
	pc_queue_write(&place->queue, io);
}

static void write_all(struct place *place, uint32_t nr)
{
	struct pcache_backing_io *io;

	for (uint32_t i = 0; i < nr; i++) {
		while (place->queue.in_flight_nr >= PC_QUEUE_DEPTH_MAX)
			take(place, pc_queue_fetch(&place->queue, true));
		write_nr(place, i);
	}
	while ((io = pc_queue_fetch(&place->queue, true)) != NULL)
		take(place, io);
	assert_int_equal(place->fetched_nr, nr);
}

static void check_bytes(struct place *place, uint32_t nr)
{
	uint8_t buf[4096];

	for (uint32_t i = 0; i < nr; i++) {
		assert_int_equal(pc_backing_read(place->backing, buf, (uint64_t)i * 8192, 4096), 0);
		assert_memory_equal(buf, place->memory + i * 4096, 4096);
	}
}

/* ---- calls ------------------------------------------------------------------------------------------------------------ */

static struct mem_backing *new_mem(void)
{
	struct mem_backing_options options = { .size_bytes = BACKING_BYTES };
	struct mem_backing *mb = mem_backing_create(&options);

	assert_non_null(mb);
	return mb;
}

static void by_calls(void **state)
{
	struct mem_backing *mb = new_mem();
	struct mem_backing_counters counters;
	struct place *place = *state;

	up(place, mem_backing_attach(mb), 512);
	assert_int_equal(place->queue.way, PC_QUEUE_CALLS);
	assert_int_equal(place->queue.ring_error, 0);
	mem_backing_fail(mb, MEM_BACKING_WRITE, 7, ENOSPC, MEM_BACKING_ONCE);
	write_all(place, IO_NR);
	assert_int_equal(place->failed_nr, 1);
	assert_int_equal(place->ios[6].result, -ENOSPC);
	write_nr(place, 6);
	assert_ptr_equal(pc_queue_fetch(&place->queue, false), &place->ios[6]);
	assert_int_equal(place->ios[6].result, 0);
	check_bytes(place, IO_NR);
	mem_backing_get_counters(mb, &counters);
	assert_int_equal(counters.in_flight_max, 1);
	down(place);
	mem_backing_destroy(mb);
}

/* ---- submit ----------------------------------------------------------------------------------------------------------- */

static struct pcache_backing *attach_async(struct async_backing *async)
{
	struct pcache_backing *backing = NULL;
	struct pcache_backing_ops ops;

	async_backing_get_ops(async, &ops);
	assert_int_equal(pcache_backing_new(&ops, async, &backing), 0);
	return backing;
}

static void by_submit(void **state)
{
	static const struct async_options shapes[] = {
		{ .pause_us_max = 50, .gather_nr = 32 },
		{ .busy_percent = 30 },
		{ .busy_percent = 100 }, /* all of them by calls in the end */
		{ .at_once_percent = 50, .pause_us_max = 20 },
		{ .most_nr = 1 },
		{ .most_nr = 3, .at_once_percent = 20, .busy_percent = 10 },
	};
	struct place *place = *state;

	for (uint32_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct async_options options = shapes[i];
		struct mem_backing_counters counters;
		struct mem_backing *mb = new_mem();
		struct async_counters seen;
		struct async_backing *async;

		options.seed = 71 + i;
		async = async_backing_create(mb, &options);
		assert_non_null(async);
		up(place, attach_async(async), 512);
		assert_int_equal(place->queue.way, PC_QUEUE_SUBMIT);
		write_all(place, IO_NR);
		assert_int_equal(place->failed_nr, 0);
		check_bytes(place, IO_NR);
		async_backing_get_counters(async, &seen);
		mem_backing_get_counters(mb, &counters);
		assert_int_equal(counters.calls[MEM_BACKING_WRITE], IO_NR);
		assert_int_equal(counters.overlapping_writes, 0);
		if (i == 0)
			assert_true(seen.waiting_max >= 32 && seen.disorder_nr > 0 && seen.submit_nr == IO_NR);
		if (options.busy_percent || options.most_nr)
			assert_true(seen.busy_nr > 0);
		if (options.busy_percent == 100)
			assert_int_equal(seen.submit_nr, 0);
		down(place);
		async_backing_destroy(async);
		mem_backing_destroy(mb);
	}
}

/* An error belongs to its write, whatever ended before or after; a refused start is an error of the same kind. */
static void submit_fails(void **state)
{
	struct async_options options = { .seed = 5, .pause_us_max = 20, .refuse_percent = 20, .at_once_percent = 70 };
	struct mem_backing *mb = new_mem();
	struct async_backing *async = async_backing_create(mb, &options);
	struct mem_backing_fault fault = {
		.op = MEM_BACKING_WRITE, .mode = MEM_BACKING_FOREVER, .err = ENOSPC, .off = 100 * 8192, .len = 10 * 8192
	};
	struct place *place = *state;
	struct async_counters seen;
	uint32_t space_nr = 0;

	assert_non_null(async);
	up(place, attach_async(async), 512);
	assert_true(mem_backing_add_fault(mb, &fault));
	write_all(place, IO_NR);
	async_backing_get_counters(async, &seen);
	for (uint32_t i = 0; i < IO_NR; i++) {
		assert_true(place->ios[i].result == 0 || place->ios[i].result == -ENOSPC ||
			    place->ios[i].result == -EIO);
		if (place->ios[i].result == -ENOSPC)
			space_nr++;
		assert_true((place->ios[i].result == -ENOSPC) <= (i >= 100 && i < 110));
		assert_true(i < 100 || i >= 110 || place->ios[i].result != 0);
	}
	assert_true(seen.refused_nr > 0);
	assert_int_equal(place->failed_nr, seen.refused_nr + space_nr);
	down(place);
	async_backing_destroy(async);
	mem_backing_destroy(mb);
}

/* What is longer than a request may be is cut, and goes by calls. */
static void longer_than_a_request(void **state)
{
	struct async_options options = { .seed = 5 };
	struct mem_backing_options mem_options = { .size_bytes = BACKING_BYTES, .max_transfer_bytes = 1024 };
	struct mem_backing *mb = mem_backing_create(&mem_options);
	struct async_backing *async = async_backing_create(mb, &options);
	struct mem_backing_counters counters;
	struct place *place = *state;

	up(place, attach_async(async), 512);
	assert_int_equal(place->queue.max_len, 1024);
	write_all(place, 8);
	check_bytes(place, 8);
	mem_backing_get_counters(mb, &counters);
	assert_int_equal(counters.violations, 0);
	assert_int_equal(counters.calls[MEM_BACKING_WRITE], 32);
	down(place);
	async_backing_destroy(async);
	mem_backing_destroy(mb);
}

/* ---- ring ------------------------------------------------------------------------------------------------------------- */

static char ring_path[300];

static int make_ring_file(void **state)
{
	const char *dir = getenv("TMPDIR");
	struct place *place = calloc(1, sizeof(*place));
	int fd;

	(void)snprintf(ring_path, sizeof(ring_path), "%.200s/pcache-queue-XXXXXX", dir ? dir : "/var/tmp");
	fd = mkstemp(ring_path);
	if (!place || fd < 0 || ftruncate(fd, (off_t)BACKING_BYTES))
		return -1;
	(void)close(fd);
	*state = place;
	return 0;
}

static int make_place(void **state)
{
	*state = calloc(1, sizeof(struct place));
	return *state ? 0 : -1;
}

static int remove_ring_file(void **state)
{
	(void)unlink(ring_path);
	free(*state);
	return 0;
}

static int free_place(void **state)
{
	free(*state);
	return 0;
}

static struct pcache_backing *open_ring_file(uint32_t flags)
{
	struct pcache_backing *backing = NULL;

	assert_int_equal(pcache_backing_file_new(ring_path, flags, &backing), 0);
	return backing;
}

/* Skips the test where the machine gives no ring. */
static void up_ring(struct place *place, uint32_t block_bytes)
{
	up(place, open_ring_file(0), block_bytes);
	if (place->queue.way == PC_QUEUE_RING)
		return;
	print_message("no ring here: %d\n", place->queue.ring_error);
	down(place);
	skip();
}

static void by_ring(void **state)
{
	struct place *place = *state;

	up_ring(place, 4096);
	write_all(place, IO_NR);
	assert_int_equal(place->failed_nr, 0);
	assert_int_equal(odd.calls, 0); /* none went another way */
	assert_int_equal(pc_backing_flush(place->backing), 0);
	check_bytes(place, IO_NR);
	/* Over what the page cache has now. */
	memset(place->memory, 0x33, MEMORY_BYTES);
	place->fetched_nr = 0;
	write_all(place, IO_NR);
	check_bytes(place, IO_NR);
	down(place);
}

/* An error of the kernel is that of the write. */
static void ring_fails(void **state)
{
	struct place *place = *state;
	int fd;

	up_ring(place, 4096);
	pc_queue_fini(&place->queue);
	fd = open(ring_path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(dup2(fd, place->backing->direct_fd), place->backing->direct_fd);
	(void)close(fd);
	assert_int_equal(pc_queue_init(&place->queue, place->backing, place->memory, MEMORY_BYTES, 4096), 0);
	assert_int_equal(place->queue.way, PC_QUEUE_RING);
	write_all(place, 200);
	assert_int_equal(place->failed_nr, 200);
	assert_int_equal(place->error, -EBADF);
	down(place);
}

/* A file that takes no such write after all: everything goes the other way, and nothing is lost. */
static void ring_is_refused(void **state)
{
	struct place *place = *state;
	struct pcache_backing_io odd_io = { .off = 3 * 8192 + 100, .len = 1000 };
	struct pcache_backing_io *io;
	uint8_t buf[1000];

	up_ring(place, 4096);
	for (uint32_t i = 4; i < 60; i++)
		write_nr(place, i);
	odd_io.buf = place->memory + 3 * 4096 + 7;
	pc_queue_write(&place->queue, &odd_io); /* EINVAL, by its offset */
	for (uint32_t i = 60; i < 100; i++)
		write_nr(place, i);
	while ((io = pc_queue_fetch(&place->queue, true)) != NULL)
		take(place, io);
	assert_int_equal(place->fetched_nr, 97);
	assert_int_equal(place->failed_nr, 0);
	assert_int_equal(place->queue.way, PC_QUEUE_CALLS);
	assert_int_equal(place->queue.ring_error, -EOPNOTSUPP);
	for (uint32_t i = 100; i < 120; i++)
		write_nr(place, i);
	assert_true(odd.calls >= 20);
	while (pc_queue_fetch(&place->queue, true))
		;
	assert_int_equal(pc_backing_read(place->backing, buf, 3 * 8192 + 100, 1000), 0);
	assert_memory_equal(buf, odd_io.buf, 1000);
	memcpy(place->memory, place->memory + 4 * 4096, 4096);
	for (uint32_t i = 4; i < 120; i++) {
		uint8_t page[4096];

		assert_int_equal(pc_backing_read(place->backing, page, (uint64_t)i * 8192, 4096), 0);
		assert_memory_equal(page, place->memory + i * 4096, 4096);
	}
	down(place);
}

#ifdef PC_HAVE_URING
/* What the kernel may answer. */
static void answers(void **state)
{
	static const struct {
		int res;
		int pwrite_error;
		int result;
		uint32_t calls;
		bool refused;
	} cases[] = {
		{ 4096, 0, 0, 0, false },
		{ 512, 0, 0, 1, false }, /* short: the rest by pwrite */
		{ 4095, 0, 0, 1, false },
		{ 0, 0, -EIO, 0, false }, /* no progress */
		{ 4097, 0, -EIO, 0, false },
		{ -EAGAIN, 0, 0, 1, false },
		{ -EINTR, 0, 0, 1, false },
		{ -EAGAIN, ENOSPC, -ENOSPC, 1, false },
		{ 1024, EIO, -EIO, 1, false },
		{ 1024, EINVAL, -EINVAL, 1, true }, /* the rest is not aligned */
		{ -EIO, 0, -EIO, 0, false },
		{ -ENOSPC, 0, -ENOSPC, 0, false },
		{ -ECANCELED, 0, -ECANCELED, 0, false },
		{ -EINVAL, 0, -EINVAL, 0, true },
		{ -EOPNOTSUPP, 0, -EOPNOTSUPP, 0, true },
	};
	uint8_t bytes[4096], found[4096];
	struct pcache_backing_io io = { .buf = bytes, .off = 8192, .len = 4096 };
	int fd = open(ring_path, O_RDWR | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool refused = false;
		uint64_t done = cases[i].res > 0 ? (uint64_t)cases[i].res : 0;

		memset(&odd, 0, sizeof(odd));
		memset(bytes, 0, sizeof(bytes));
		assert_int_equal(syscall(SYS_pwrite64, fd, bytes, 4096, 8192), 4096);
		memset(bytes, (int)i + 1, sizeof(bytes));
		odd.error = cases[i].pwrite_error;
		assert_int_equal(pc_uring_result(fd, &io, cases[i].res, &refused), cases[i].result);
		assert_int_equal(refused, cases[i].refused);
		assert_int_equal(odd.calls, cases[i].calls);
		if (cases[i].result || done >= 4096)
			continue;
		assert_int_equal(syscall(SYS_pread64, fd, found, 4096, 8192), 4096);
		assert_memory_equal(found + done, bytes + done, 4096 - done);
	}
	/* The rest comes in bits, too. */
	memset(&odd, 0, sizeof(odd));
	odd.most_bytes = 1000;
	bool refused;
	assert_int_equal(pc_uring_result(fd, &io, 96, &refused), 0);
	assert_int_equal(odd.calls, 4);
	(void)close(fd);
}
#endif

/* The way of a file that asks for the page cache, of one that is read only, and of blocks that direct I/O does not take. */
static void other_ways(void **state)
{
	static const uint32_t flags[] = { PCACHE_BACKING_FILE_BUFFERED, PCACHE_BACKING_FILE_RDONLY };
	struct place *place = *state;

	for (uint32_t i = 0; i < 2; i++) {
		up(place, open_ring_file(flags[i]), 4096);
		assert_int_equal(place->queue.way, PC_QUEUE_CALLS);
		assert_int_equal(place->queue.ring_error, 0);
		write_all(place, 4);
		assert_int_equal(place->failed_nr, i ? 4 : 0);
		down(place);
	}
	up_ring(place, 4096);
	pc_queue_fini(&place->queue);
	assert_int_equal(pc_queue_init(&place->queue, place->backing, place->memory, MEMORY_BYTES, 256), 0);
	assert_int_equal(place->queue.way, PC_QUEUE_CALLS);
	assert_int_equal(place->queue.ring_error, -EOPNOTSUPP);
	down(place);
}

/* From now on this call fails in this process. */
static bool forbid(uint32_t call_nr, int with)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call_nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)with),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* Where the process may not have a ring, write-back works without. */
static void rings_are_forbidden(void **state)
{
	static const int errors[] = { EPERM, ENOSYS, ENOMEM };
	struct place *place = *state;

	up_ring(place, 4096);
	down(place);
	for (uint32_t i = 0; i < 3; i++) {
		pid_t pid = fork();
		int status;

		assert_true(pid >= 0);
		if (pid == 0) {
			if (!forbid(SYS_io_uring_setup, errors[i]))
				_exit(77);
			up(place, open_ring_file(0), 4096);
			write_all(place, 64);
			_exit(place->queue.way == PC_QUEUE_CALLS && place->queue.ring_error == -errors[i] &&
					      place->failed_nr == 0
				      ? 0
				      : 1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
			skip();
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
}

/* In a child: the ring is there, some writes are under way, and then the process may make no calls of it any more. Exit status. */
static int forbidden_later(struct place *place, int with)
{
	struct pcache_backing_io *io;
	uint8_t buf[4096];
	uint32_t i;

	up(place, open_ring_file(0), 4096);
	if (place->queue.way != PC_QUEUE_RING)
		return 77;
	for (i = 0; i < 40; i++)
		write_nr(place, i); /* 32 are told to the kernel, 8 are not */
	if (!forbid(SYS_io_uring_enter, with))
		return 77;
	for (; i < 100; i++)
		write_nr(place, i);
	while ((io = pc_queue_fetch(&place->queue, true)) != NULL)
		take(place, io);
	for (; i < 120; i++)
		write_nr(place, i);
	while ((io = pc_queue_fetch(&place->queue, true)) != NULL)
		take(place, io);
	if (place->fetched_nr != 120 || place->failed_nr || place->queue.way != PC_QUEUE_CALLS ||
	    place->queue.ring_error != -with || odd.calls < 80)
		return 1;
	for (i = 0; i < 120; i++)
		if (pc_backing_read(place->backing, buf, (uint64_t)i * 8192, 4096) ||
		    memcmp(buf, place->memory + i * 4096, 4096) != 0)
			return 2;
	down(place);
	return 0;
}

/* A ring that fails for good after it was made: what the kernel does not know of goes the other way, once what it knows of has ended. */
static void ring_is_forbidden_later(void **state)
{
	static const int errors[] = { EPERM, EBADF, ENOMEM };
	struct place *place = *state;

	for (uint32_t i = 0; i < 3; i++) {
		pid_t pid = fork();
		int status;

		assert_true(pid >= 0);
		if (pid == 0) {
			(void)alarm(30);
			_exit(forbidden_later(place, errors[i]));
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
			skip();
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(by_calls, make_place, free_place),
		cmocka_unit_test_setup_teardown(by_submit, make_place, free_place),
		cmocka_unit_test_setup_teardown(submit_fails, make_place, free_place),
		cmocka_unit_test_setup_teardown(longer_than_a_request, make_place, free_place),
		cmocka_unit_test_setup_teardown(by_ring, make_ring_file, remove_ring_file),
		cmocka_unit_test_setup_teardown(ring_fails, make_ring_file, remove_ring_file),
		cmocka_unit_test_setup_teardown(ring_is_refused, make_ring_file, remove_ring_file),
#ifdef PC_HAVE_URING
		cmocka_unit_test_setup_teardown(answers, make_ring_file, remove_ring_file),
#endif
		cmocka_unit_test_setup_teardown(other_ways, make_ring_file, remove_ring_file),
		cmocka_unit_test_setup_teardown(rings_are_forbidden, make_ring_file, remove_ring_file),
		cmocka_unit_test_setup_teardown(ring_is_forbidden_later, make_ring_file, remove_ring_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
