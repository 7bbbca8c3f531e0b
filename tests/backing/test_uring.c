/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ring when the kernel does not do what it is asked: an old one, one that takes no buffers or files, one that takes calls later, or none any more. Each write comes back exactly once, as
 * ended or as refused, and what ended is in the file.
 *
 * The calls of liburing and pwrite(2) are caught by the linker's --wrap (tests.cmake here).
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "backing/uring.h"

#ifdef PC_HAVE_URING
#include <liburing.h>

#define IO_NR 64u
#define IO_BYTES 4096u
#define MEMORY_BYTES ((uint64_t)IO_NR * IO_BYTES)
#define DEPTH 64u

static struct {
	int setup[4]; /* results of the next set-ups; 0: as it is */
	uint32_t setup_nr;
	int files_rc, buffers_rc;
	int submit_rc;
	uint32_t submit_good_nr; /* before submit_rc is given */
	uint32_t submit_bad_nr; /* so often */
	uint32_t submit_nr;
	int put[4]; /* results of the next pwrites: -errno, or bytes; INT32_MAX: as it is */
	uint32_t put_nr, put_max;
} kernel;

int __real_io_uring_queue_init(unsigned int entries, struct io_uring *ring, unsigned int flags);
int __wrap_io_uring_queue_init(unsigned int entries, struct io_uring *ring, unsigned int flags);
int __real_io_uring_register_files(struct io_uring *ring, const int *files, unsigned int nr);
int __wrap_io_uring_register_files(struct io_uring *ring, const int *files, unsigned int nr);
int __real_io_uring_register_buffers(struct io_uring *ring, const struct iovec *iovs, unsigned int nr);
int __wrap_io_uring_register_buffers(struct io_uring *ring, const struct iovec *iovs, unsigned int nr);
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned int nr);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned int nr);
ssize_t __real_pwrite(int fd, const void *buf, size_t len, off_t off);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t off);

int __wrap_io_uring_queue_init(unsigned int entries, struct io_uring *ring, unsigned int flags)
{
	int rc = kernel.setup_nr < 4 ? kernel.setup[kernel.setup_nr] : 0;

	kernel.setup_nr++;
	return rc ? rc : __real_io_uring_queue_init(entries, ring, flags);
}

int __wrap_io_uring_register_files(struct io_uring *ring, const int *files, unsigned int nr)
{
	return kernel.files_rc ? kernel.files_rc : __real_io_uring_register_files(ring, files, nr);
}

int __wrap_io_uring_register_buffers(struct io_uring *ring, const struct iovec *iovs, unsigned int nr)
{
	return kernel.buffers_rc ? kernel.buffers_rc : __real_io_uring_register_buffers(ring, iovs, nr);
}

static bool is_taken(void)
{
	uint32_t nr = kernel.submit_nr++;

	return nr < kernel.submit_good_nr || nr - kernel.submit_good_nr >= kernel.submit_bad_nr;
}

int __wrap_io_uring_submit(struct io_uring *ring)
{
	return is_taken() ? __real_io_uring_submit(ring) : kernel.submit_rc;
}

int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned int nr)
{
	return is_taken() ? __real_io_uring_submit_and_wait(ring, nr) : kernel.submit_rc;
}

ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t off)
{
	int put = kernel.put_nr < kernel.put_max ? kernel.put[kernel.put_nr] : INT32_MAX;

	kernel.put_nr++;
	if (put >= 0)
		return __real_pwrite(fd, buf, len < (size_t)put ? len : (size_t)put, off);
	errno = -put;
	return -1;
}

/* ---- a file and a ring ---------------------------------------------------------------------------------------------- */

struct fixture {
	int fd;
	uint8_t *memory; /* the buffers, one for each write */
	struct pcache_backing_io ios[IO_NR];
	uint32_t back_nr[IO_NR]; /* how often each came back */
	uint32_t ended_nr, refused_nr;
};

static int setup(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));

	assert_non_null(fx);
	memset(&kernel, 0, sizeof(kernel));
	fx->fd = memfd_create("pcache-uring", MFD_CLOEXEC);
	assert_true(fx->fd >= 0);
	assert_int_equal(posix_memalign((void **)&fx->memory, 4096, MEMORY_BYTES), 0);
	for (uint64_t i = 0; i < MEMORY_BYTES; i++)
		fx->memory[i] = (uint8_t)(i * 7 + i / IO_BYTES + 1);
	for (uint32_t i = 0; i < IO_NR; i++) {
		fx->ios[i].buf = fx->memory + (size_t)i * IO_BYTES;
		fx->ios[i].off = (uint64_t)(IO_NR - 1 - i) * IO_BYTES;
		fx->ios[i].len = IO_BYTES;
	}
	*state = fx;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fx = *state;

	(void)close(fx->fd);
	free(fx->memory);
	free(fx);
	return 0;
}

/* NULL: this machine has none. */
static struct pc_uring *ring_of(struct fixture *fx)
{
	struct pc_uring *ring;
	int rc = pc_uring_new(fx->fd, fx->memory, MEMORY_BYTES, DEPTH, &ring);

	if (rc == -ENOSYS || rc == -EPERM)
		skip();
	assert_int_equal(rc, 0);
	return ring;
}

static void note_back(struct fixture *fx, struct pc_backing_io_list *list, uint32_t *nr)
{
	struct pcache_backing_io *io;

	while ((io = pc_io_list_take(list)) != NULL) {
		fx->back_nr[io - fx->ios]++;
		(*nr)++;
	}
}

static void reap(struct fixture *fx, struct pc_uring *ring, bool wait)
{
	struct pc_backing_io_list ended = { 0 }, refused = { 0 };
	struct pcache_backing_io *io;

	(void)pc_uring_reap(ring, wait, &ended, &refused);
	for (io = ended.first; io != NULL; io = io->next) {
		uint8_t found[IO_BYTES];

		assert_int_equal(io->result, 0);
		assert_int_equal(pread(fx->fd, found, IO_BYTES, (off_t)io->off), IO_BYTES);
		assert_memory_equal(found, io->buf, IO_BYTES);
	}
	note_back(fx, &ended, &fx->ended_nr);
	note_back(fx, &refused, &fx->refused_nr);
}

static void write_all(struct fixture *fx, struct pc_uring *ring)
{
	for (uint32_t i = 0; i < IO_NR; i++) {
		pc_uring_write(ring, &fx->ios[i]);
		if (i % 16 == 15)
			reap(fx, ring, false);
	}
	while (fx->ended_nr + fx->refused_nr < IO_NR)
		reap(fx, ring, true);
	reap(fx, ring, false);
	for (uint32_t i = 0; i < IO_NR; i++)
		assert_int_equal(fx->back_nr[i], 1);
}

static void all_end(struct fixture *fx)
{
	struct pc_uring *ring = ring_of(fx);

	write_all(fx, ring);
	assert_int_equal(fx->ended_nr, IO_NR);
	assert_int_equal(pc_uring_error(ring), 0);
	pc_uring_free(ring);
}

static void the_kernel_as_it_is(void **state)
{
	all_end(*state);
}

static void an_old_kernel(void **state)
{
	kernel.setup[0] = -EINVAL;
	all_end(*state);
	assert_int_equal(kernel.setup_nr, 2);
}

static void no_ring(void **state)
{
	struct fixture *fx = *state;
	struct pc_uring *ring;

	kernel.setup[0] = -ENOMEM;
	assert_int_equal(pc_uring_new(fx->fd, fx->memory, MEMORY_BYTES, DEPTH, &ring), -ENOMEM);
	kernel.setup[1] = kernel.setup[2] = -EINVAL;
	assert_int_equal(pc_uring_new(fx->fd, fx->memory, MEMORY_BYTES, DEPTH, &ring), -EINVAL);
	pc_uring_free(NULL);
}

static void nothing_is_registered(void **state)
{
	kernel.files_rc = -EMFILE;
	kernel.buffers_rc = -ENOMEM;
	all_end(*state);
}

/* It takes them later, and none twice. */
static void the_kernel_is_busy(void **state)
{
	static const int busy[] = { -EINTR, -EAGAIN, -EBUSY };
	void *again = *state;

	for (uint32_t i = 0; i < 3; i++) {
		kernel.submit_rc = busy[i];
		kernel.submit_good_nr = i;
		kernel.submit_bad_nr = 20;
		kernel.submit_nr = 0;
		all_end(again);
		assert_true(kernel.submit_nr > 20);
		teardown(&again);
		setup(&again);
	}
	*state = again;
}

static void the_kernel_takes_no_calls_any_more(void **state)
{
	void *again = *state;

	for (uint32_t good = 0; good < 4; good++) {
		struct fixture *fx = again;
		struct pc_uring *ring = ring_of(fx);

		kernel.submit_rc = -EBADF;
		kernel.submit_good_nr = good;
		kernel.submit_bad_nr = UINT32_MAX;
		kernel.submit_nr = 0;
		write_all(fx, ring);
		assert_int_equal(pc_uring_error(ring), -EBADF);
		assert_true(fx->refused_nr > 0);
		assert_true(good > 0 || fx->ended_nr == 0);
		/* It is not asked again. */
		assert_int_equal(kernel.submit_nr, good + 1);
		pc_uring_free(ring);
		teardown(&again);
		setup(&again);
	}
	*state = again;
}

/* The kernel wrote a part; the rest goes by calls, which may be cut, interrupted, or fail. */
static void the_rest_of_a_short_write(void **state)
{
	static const struct {
		int put[4];
		uint32_t put_nr;
		int result;
	} cases[] = {
		{ { -EINTR, 100, -EINTR, 50 }, 4, 0 },
		{ { 1, -ENOSPC }, 2, -ENOSPC },
		{ { 7, 0 }, 2, -EIO },
		{ { -EIO }, 1, -EIO },
	};
	struct fixture *fx = *state;
	uint8_t found[IO_BYTES];
	bool refused;

	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memcpy(kernel.put, cases[i].put, sizeof(kernel.put));
		kernel.put_nr = 0;
		kernel.put_max = cases[i].put_nr;
		assert_int_equal(ftruncate(fx->fd, 0), 0);
		assert_int_equal(pc_uring_result(fx->fd, &fx->ios[IO_NR - 1], -EAGAIN, &refused), cases[i].result);
		assert_false(refused);
		assert_true(kernel.put_nr >= cases[i].put_nr);
		if (cases[i].result == 0) {
			assert_int_equal(pread(fx->fd, found, IO_BYTES, 0), IO_BYTES);
			assert_memory_equal(found, fx->ios[IO_NR - 1].buf, IO_BYTES);
		}
	}
	assert_int_equal(pc_uring_result(fx->fd, &fx->ios[0], IO_BYTES + 1, &refused), -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_kernel_as_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(an_old_kernel, setup, teardown),
		cmocka_unit_test_setup_teardown(no_ring, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_is_registered, setup, teardown),
		cmocka_unit_test_setup_teardown(the_kernel_is_busy, setup, teardown),
		cmocka_unit_test_setup_teardown(the_kernel_takes_no_calls_any_more, setup, teardown),
		cmocka_unit_test_setup_teardown(the_rest_of_a_short_write, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
	return 0;
}

#endif
