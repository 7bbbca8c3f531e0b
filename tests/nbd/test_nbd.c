/* SPDX-License-Identifier: BSD-3-Clause */
/* The NBD backing before a real server, nbdkit: what the export says, errors, a server that is killed and comes back, one that hangs. Skipped without nbdkit. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "backing/backing.h"
#include "pcache/nbd.h"
#include "pcache/pcache.h"

#define SIZE (UINT64_C(8) << 20)

static char folder[32];
static char uri[128];
static pid_t server;

static void path_of(char path[64], const char *name)
{
	(void)snprintf(path, 64, "%s/%s", folder, name);
}

/* nbdkit with these arguments, NULL at the end, on the socket in the folder. Returns when it listens. */
static void serve(const char *const *arguments)
{
	const char *argv[20] = { "nbdkit", "-f", "-U" };
	char socket_path[64], pid_path[64];
	size_t nr = 3;

	path_of(socket_path, "socket");
	path_of(pid_path, "pid");
	(void)unlink(socket_path);
	(void)unlink(pid_path);
	argv[nr++] = socket_path;
	argv[nr++] = "-P";
	argv[nr++] = pid_path;
	while (*arguments)
		argv[nr++] = *arguments++;
	argv[nr] = NULL;
	(void)snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", socket_path);
	server = fork();
	assert_true(server >= 0);
	if (server == 0) {
		char *child_argv[20];

		for (size_t i = 0; i <= nr; i++)
			child_argv[i] = argv[i] ? strdup(argv[i]) : NULL;
		(void)execvp("nbdkit", child_argv);
		_exit(127);
	}
	while (access(pid_path, F_OK) != 0) {
		assert_int_equal(waitpid(server, NULL, WNOHANG), 0);
		(void)usleep(2000);
	}
}

static void kill_server(int signal_nr)
{
	assert_int_equal(kill(server, signal_nr), 0);
	assert_int_equal(waitpid(server, NULL, 0), server);
	server = 0;
}

static struct pcache_backing *connect_with(uint32_t connections, uint32_t timeout_ms)
{
	struct pcache_nbd_options options = { .struct_bytes = sizeof(options),
					      .connections = connections,
					      .timeout_ms = timeout_ms };
	struct pcache_backing *backing;

	assert_int_equal(pcache_backing_nbd_new(uri, &options, &backing), 0);
	return backing;
}

static int try_connect(void)
{
	struct pcache_backing *backing;
	int rc = pcache_backing_nbd_new(uri, NULL, &backing);

	if (!rc)
		pcache_backing_free(backing);
	return rc;
}

static void fill(uint8_t *buf, uint64_t len, uint32_t seed)
{
	for (uint64_t i = 0; i < len; i++) {
		seed = seed * 1664525u + 1013904223u;
		buf[i] = (uint8_t)(seed >> 24);
	}
}

static const char *const memory_8m[] = { "memory", "8M", NULL };

static void arguments(void **state)
{
	struct pcache_nbd_options options = { .struct_bytes = sizeof(options) };
	struct {
		struct pcache_nbd_options known;
		uint64_t more;
	} longer = { .known = { .struct_bytes = sizeof(longer) } };
	struct pcache_backing *backing;

	(void)state;
	serve(memory_8m);
	assert_int_equal(pcache_backing_nbd_new(NULL, NULL, &backing), -EINVAL);
	assert_int_equal(pcache_backing_nbd_new(uri, NULL, NULL), -EINVAL);
	assert_int_equal(pcache_backing_nbd_new("what://is/this", NULL, &backing), -EINVAL);
	options.struct_bytes = 8;
	assert_int_equal(pcache_backing_nbd_new(uri, &options, &backing), -EINVAL);
	options.struct_bytes = 12;
	assert_int_equal(pcache_backing_nbd_new(uri, &options, &backing), 0);
	pcache_backing_free(backing);
	options.connections = 17;
	assert_int_equal(pcache_backing_nbd_new(uri, &options, &backing), -EINVAL);
	assert_int_equal(pcache_backing_nbd_new(uri, &longer.known, &backing), 0);
	pcache_backing_free(backing);
	longer.more = 1;
	assert_int_equal(pcache_backing_nbd_new(uri, &longer.known, &backing), -EINVAL);
	kill_server(SIGTERM);
	assert_true(try_connect() == -ENOENT || try_connect() == -ECONNREFUSED);
}

static void what_the_export_says(void **state)
{
	static const char *const odd[] = { "memory", "1000", NULL };
	static const char *const coarse[] = {
		"--filter=blocksize-policy", "memory", "8M", "blocksize-minimum=8192", "blocksize-preferred=8192",
		"blocksize-maximum=65536",   NULL
	};
	static const char *const four[] = {
		"--filter=blocksize-policy", "memory", "8M", "blocksize-minimum=4096", "blocksize-preferred=4096",
		"blocksize-maximum=65536",   NULL
	};
	static const char *const read_only[] = { "-r", "memory", "8M", NULL };
	struct pcache_backing *backing;
	uint8_t block[4096] = { 0 };

	(void)state;
	serve(odd);
	assert_int_equal(try_connect(), -ENOTSUP);
	kill_server(SIGTERM);
	serve(coarse);
	assert_int_equal(try_connect(), -ENOTSUP);
	kill_server(SIGTERM);

	serve(four);
	backing = connect_with(2, 0);
	assert_int_equal(pcache_backing_size(backing), SIZE);
	assert_int_equal(backing->ops.block_bytes, 4096);
	assert_int_equal(backing->ops.max_transfer_bytes, 65536);
	pcache_backing_free(backing);
	kill_server(SIGTERM);

	serve(read_only);
	backing = connect_with(2, 0);
	assert_int_equal(pc_backing_read(backing, block, 0, sizeof(block)), 0);
	assert_int_equal(pc_backing_write(backing, block, 0, sizeof(block)), -EROFS);
	pcache_backing_free(backing);
	kill_server(SIGTERM);
}

static void bytes_come_back(void **state)
{
	uint8_t *buf = malloc(SIZE), *back = malloc(SIZE);
	struct pcache_backing *backing;

	(void)state;
	assert_true(buf && back);
	fill(buf, SIZE, 1);
	serve(memory_8m);
	backing = connect_with(0, 0);
	assert_int_equal(pc_backing_write(backing, buf, 0, SIZE), 0);
	assert_int_equal(pc_backing_flush(backing), 0);
	assert_int_equal(pc_backing_read(backing, back, 0, SIZE), 0);
	assert_memory_equal(buf, back, SIZE);
	assert_int_equal(pc_backing_zero(backing, 4096, 65536, false), 0);
	memset(buf + 4096, 0, 65536);
	assert_int_equal(pc_backing_read(backing, back, 0, SIZE), 0);
	assert_memory_equal(buf, back, SIZE);
	pcache_backing_free(backing);
	kill_server(SIGTERM);
	free(buf);
	free(back);
}

static void errors_of_the_server(void **state)
{
	static const char *const arguments_of[] = { "--filter=error",      "memory", "8M", "error-pwrite-rate=1",
						    "error-pwrite=ENOSPC", NULL };
	uint8_t block[4096] = { 0 };
	struct pcache_backing *backing;

	(void)state;
	serve(arguments_of);
	backing = connect_with(1, 0);
	assert_int_equal(pc_backing_write(backing, block, 0, sizeof(block)), -ENOSPC);
	assert_int_equal(pc_backing_read(backing, block, 0, sizeof(block)), 0);
	assert_int_equal(pc_backing_flush(backing), 0);
	pcache_backing_free(backing);
	kill_server(SIGTERM);
}

static void a_loss_fails_the_next_flush(void **state)
{
	char disk[64];
	const char *const file[] = { "file", disk, NULL };
	uint8_t block[4096], back[4096];
	struct pcache_backing *backing;
	int fd;

	(void)state;
	path_of(disk, "disk");
	fd = open(disk, O_CREAT | O_RDWR, 0600);
	assert_true(fd >= 0 && ftruncate(fd, (off_t)SIZE) == 0 && close(fd) == 0);
	fill(block, sizeof(block), 2);
	serve(file);
	backing = connect_with(3, 0);
	assert_int_equal(pc_backing_write(backing, block, 0, sizeof(block)), 0);
	kill_server(SIGKILL);
	serve(file);
	/* The write may be gone, though here it is not. */
	for (int i = 0; i < 6; i++)
		assert_int_equal(pc_backing_read(backing, back, 0, sizeof(back)), 0);
	assert_memory_equal(block, back, sizeof(block));
	assert_int_equal(pc_backing_flush(backing), -EIO);
	assert_int_equal(pc_backing_flush(backing), 0);
	/* Nothing was written since: a loss takes nothing. */
	kill_server(SIGKILL);
	serve(file);
	for (int i = 0; i < 6; i++)
		assert_int_equal(pc_backing_read(backing, back, 0, sizeof(back)), 0);
	assert_int_equal(pc_backing_flush(backing), 0);
	/* Written, and lost before anybody asks for anything: the flush itself meets the loss. */
	assert_int_equal(pc_backing_write(backing, block, 0, sizeof(block)), 0);
	kill_server(SIGKILL);
	serve(file);
	assert_int_equal(pc_backing_flush(backing), -EIO);
	pcache_backing_free(backing);
	kill_server(SIGTERM);
	assert_int_equal(unlink(disk), 0);
}

static void a_server_that_hangs(void **state)
{
	static const char *const memory_4m[] = { "memory", "4M", NULL };
	uint8_t block[4096], before[4096];
	struct pcache_backing *backing;

	(void)state;
	serve(memory_8m);
	backing = connect_with(1, 300);
	assert_int_equal(kill(server, SIGSTOP), 0);
	memset(block, 0x55, sizeof(block));
	memcpy(before, block, sizeof(block));
	assert_int_equal(pc_backing_read(backing, block, 0, sizeof(block)), -ETIMEDOUT);
	assert_int_equal(kill(server, SIGCONT), 0);
	(void)usleep(50000);
	assert_memory_equal(block, before, sizeof(block)); /* nobody writes it late */
	while (pc_backing_read(backing, block, 0, sizeof(block)) == -ETIMEDOUT)
		;
	assert_int_equal(pc_backing_read(backing, block, 0, sizeof(block)), 0);
	/* Gone, and then another one in its place. */
	kill_server(SIGKILL);
	assert_int_equal(pc_backing_read(backing, block, 0, sizeof(block)), -ETIMEDOUT);
	serve(memory_4m);
	assert_int_equal(pc_backing_read(backing, block, 0, sizeof(block)), -ETIMEDOUT);
	pcache_backing_free(backing);
	kill_server(SIGTERM);
}

/* A cache is drained while its server is killed and comes back, again and again. */
static void a_drain_goes_through(void **state)
{
	char disk[64], cache_path[64];
	const char *const slow[] = { "--filter=delay", "file", disk, "delay-write=2ms", NULL };
	uint8_t *model = malloc(SIZE), *found = malloc(SIZE);
	struct pcache_config *config;
	struct pcache_backing *backing;
	struct pcache *cache;
	uint32_t restart_nr = 0;
	int fd, rc;

	(void)state;
	assert_true(model && found);
	path_of(disk, "disk");
	path_of(cache_path, "cache");
	fd = open(disk, O_CREAT | O_RDWR, 0600);
	assert_true(fd >= 0 && ftruncate(fd, (off_t)SIZE) == 0 && close(fd) == 0);
	serve(slow);
	backing = connect_with(4, 5000);
	assert_int_equal(pcache_config_new(&config), 0);
	assert_int_equal(pcache_config_parse(
				 config, "create=on,cache_bytes=32M,writeback_delay_ms=3600000,ordering=batch", NULL),
			 0);
	assert_int_equal(pcache_open(cache_path, config, backing, &cache), 0);
	fill(model, SIZE, 3);
	for (uint64_t off = 0; off < SIZE; off += 8192)
		assert_int_equal(pcache_write(cache, model + off, off, 4096, 0), 0);
	for (uint64_t off = 4096; off < SIZE; off += 8192)
		memset(model + off, 0, 4096);
	do {
		pid_t killer = fork();

		assert_true(killer >= 0);
		if (killer == 0) {
			(void)usleep(60000);
			(void)kill(server, SIGKILL);
			_exit(0);
		}
		if (restart_nr < 5)
			assert_int_equal(waitpid(killer, NULL, 0), killer);
		else
			assert_int_equal(kill(killer, SIGKILL) || waitpid(killer, NULL, 0) != killer, 0);
		if (restart_nr++ < 5) {
			assert_int_equal(waitpid(server, NULL, 0), server);
			serve(slow);
		}
		rc = pcache_drain(cache, NULL, NULL);
		assert_true(rc == 0 || rc == -EIO || rc == -ETIMEDOUT);
	} while (rc || restart_nr < 6);
	assert_int_equal(pcache_close(cache), 0);
	pcache_config_free(config);
	kill_server(SIGTERM);
	fd = open(disk, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, found, SIZE, 0), SIZE);
	assert_int_equal(close(fd), 0);
	assert_memory_equal(found, model, SIZE);
	assert_int_equal(unlink(disk) || unlink(cache_path), 0);
	free(model);
	free(found);
}

static int make_folder(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/pcache-nbd-XXXXXX");
	return mkdtemp(folder) && !setenv("PMEM2_FORCE_GRANULARITY", "PAGE", 1) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char path[64];

	(void)state;
	if (server) {
		(void)kill(server, SIGKILL);
		(void)waitpid(server, NULL, 0);
		server = 0;
	}
	path_of(path, "socket");
	(void)unlink(path);
	path_of(path, "pid");
	(void)unlink(path);
	return rmdir(folder);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(arguments),
		TEST(what_the_export_says),
		TEST(bytes_come_back),
		TEST(errors_of_the_server),
		TEST(a_loss_fails_the_next_flush),
		TEST(a_server_that_hangs),
		TEST(a_drain_goes_through),
	};

	if (system("nbdkit --version >/dev/null 2>&1") != 0) {
		(void)fprintf(stderr, "skipped: no nbdkit\n");
		return 77;
	}
	return cmocka_run_group_tests_name("nbd_nbd", tests, NULL, NULL);
}
