/* SPDX-License-Identifier: BSD-3-Clause */
/* The asynchronous load of system/async_load.h over an NBD server that delays and fails: nbdkit's delay and error filters. Skipped without nbdkit. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backing/backing.h"
#include "pcache/nbd.h"
#include "system/async_load.h"

static char socket_path[64], pid_path[64], uri[128];

/* nbdkit on a socket; a pid file says when it listens. The filter on the left is the first. */
static pid_t serve(void)
{
	pid_t server = fork();

	assert_true(server >= 0);
	if (server == 0) {
		(void)execlp("nbdkit", "nbdkit", "-f", "-U", socket_path, "-P", pid_path, "--filter=error",
			     "--filter=delay", "memory", "4M", "error-pread-rate=2%", "error-pwrite-rate=0.05%",
			     "delay-read=1ms", "delay-write=1ms", (char *)NULL);
		_exit(127);
	}
	while (access(pid_path, F_OK) != 0) {
		assert_int_equal(waitpid(server, NULL, WNOHANG), 0);
		(void)usleep(2000);
	}
	return server;
}

static struct pcache_backing *attach(struct mem_backing *mb)
{
	struct pcache_backing *backing;

	(void)mb;
	assert_int_equal(pcache_backing_nbd_new(uri, NULL, &backing), 0);
	return backing;
}

/* All of it, against the server's whims. */
static void load_disk(const uint8_t *bytes)
{
	struct pcache_backing *backing = attach(NULL);

	for (uint64_t off = 0; off < ASYNC_LOAD_BYTES; off += 65536) {
		while (pc_backing_write(backing, bytes + off, off, 65536) == -EIO)
			;
	}
	assert_int_equal(pc_backing_flush(backing), 0);
	pcache_backing_free(backing);
}

static void check_disk(const uint8_t *bytes)
{
	struct pcache_backing *backing = attach(NULL);
	uint8_t *found = malloc(65536);
	int rc;

	assert_non_null(found);
	for (uint64_t off = 0; off < ASYNC_LOAD_BYTES; off += 65536) {
		do
			rc = pc_backing_read(backing, found, off, 65536);
		while (rc == -EIO);
		assert_int_equal(rc, 0);
		assert_memory_equal(found, bytes + off, 65536);
	}
	free(found);
	pcache_backing_free(backing);
}

static void load(void **state)
{
	struct async_load_sums sums;
	struct rig rig;
	int rc;

	(void)state;
	rig_zero(&rig);
	rig.o.threads = true;
	rig.o.sim_flags = PC_SIM_THREADED;
	rig.o.segment_bytes = 64 << 10;
	rig.o.segment_nr = 48;
	rig.o.backing_bytes = ASYNC_LOAD_BYTES;
	rig.o.attach = attach;
	rig_up(&rig);
	load_disk(rig.model);
	assert_int_equal(pcache_option_set(rig.cache, PCACHE_OPT_WRITEBACK_DELAY_MS, 0), 0);
	sums = async_load_run(&rig, async_load_seconds());
	assert_true(sums.done_nr > 1000 && sums.error_nr > 0 && sums.given_up_nr > 0);
	do
		rc = pcache_drain(rig.cache, NULL, NULL);
	while (rc == -EIO);
	assert_int_equal(rc, 0);
	check_disk(rig.model);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(load) };
	char folder[] = "/tmp/pcache-nbd-load-XXXXXX";
	pid_t server;
	int failed_nr;

	if (system("nbdkit --version >/dev/null 2>&1") != 0) {
		(void)fprintf(stderr, "skipped: no nbdkit\n");
		return 77;
	}
	if (!mkdtemp(folder))
		return 1;
	(void)snprintf(socket_path, sizeof(socket_path), "%s/socket", folder);
	(void)snprintf(pid_path, sizeof(pid_path), "%s/pid", folder);
	(void)snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", socket_path);
	server = serve();
	failed_nr = cmocka_run_group_tests_name("nbd_load", tests, NULL, NULL);
	(void)kill(server, SIGTERM);
	(void)waitpid(server, NULL, 0);
	(void)unlink(socket_path);
	(void)unlink(pid_path);
	(void)rmdir(folder);
	return failed_nr;
}
