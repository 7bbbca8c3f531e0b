/* SPDX-License-Identifier: BSD-3-Clause */
/* Events: each kind is told when it happens, with what it says, once, and to a callback that may call the library. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/rig.h"
#include "format/format.h"

static uint32_t told(const struct rig *rig)
{
	uint32_t nr = 0;

	for (uint32_t kind = 0; kind < PC_ARRAY_NR(rig->event_nr); kind++)
		nr += rig->event_nr[kind];
	return nr;
}

static void names(void **state)
{
	(void)state;
	assert_string_equal(pcache_event_name(PCACHE_EVENT_DEGRADED), "degraded");
	assert_string_equal(pcache_event_name(PCACHE_EVENT_FAILSTOP), "failstop");
	assert_null(pcache_event_name(PCACHE_EVENT_NONE));
	assert_null(pcache_event_name(PCACHE_EVENT_FAILSTOP + 1));
	assert_int_equal(pcache_config_set_event(NULL, NULL, NULL), -EINVAL);
}

static void degraded_and_recovered(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 0, 4096, 0);
	rig_flush(&rig);
	mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 1, ENOSPC, MEM_BACKING_FOREVER);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pcache_drain(rig.cache, NULL, NULL), -ENOSPC);
	assert_int_equal(rig.event_nr[PCACHE_EVENT_DEGRADED], 1);
	assert_int_equal(rig.event[PCACHE_EVENT_DEGRADED].err, -ENOSPC);
	assert_int_equal(rig.event_nr[PCACHE_EVENT_RECOVERED], 0);
	mem_backing_clear_faults(rig.mb);
	rig_drain(&rig);
	rig_drain(&rig);
	assert_int_equal(rig.event_nr[PCACHE_EVENT_RECOVERED], 1);
	assert_int_equal(told(&rig), 2);
	rig_down(&rig);
}

static void full(void **state)
{
	struct rig rig;
	uint8_t block[512] = { 0 };
	int rc = 0;

	(void)state;
	rig_zero(&rig);
	rig.o.full_error = true;
	rig_up(&rig);
	mem_backing_fail(rig.mb, MEM_BACKING_WRITE, 1, EIO, MEM_BACKING_FOREVER);
	for (uint64_t off = 0; !rc && off < rig.o.backing_bytes; off += sizeof(block))
		rc = pcache_write(rig.cache, block, off, sizeof(block), 0);
	for (uint64_t off = 0; rc == 0 && off < 64 * rig.o.backing_bytes; off += sizeof(block))
		rc = pcache_write(rig.cache, block, off % rig.o.backing_bytes, sizeof(block), 0);
	assert_int_equal(rc, PCACHE_E_FULL);
	assert_int_equal(rig.event_nr[PCACHE_EVENT_FULL], 1);
	assert_int_equal(pcache_write(rig.cache, block, 0, sizeof(block), PCACHE_NOWAIT), PCACHE_E_FULL);
	assert_int_equal(rig.event_nr[PCACHE_EVENT_FULL], 1);
	/* As if the last had been long ago. */
	atomic_store(&rig.cache->space.full_ns, 1);
	assert_int_equal(pcache_write(rig.cache, block, 0, sizeof(block), PCACHE_NOWAIT), PCACHE_E_FULL);
	assert_int_equal(rig.event_nr[PCACHE_EVENT_FULL], 2);
	rig_down(&rig);
}

static void lost_data(void **state)
{
	struct rig rig;
	uint64_t off;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_write(&rig, 8192, 4096, 0);
	rig_flush(&rig);
	off = rig_find(&rig, 8192 + 512);
	rig_flip(&rig, off);
	assert_int_equal(pcache_drain(rig.cache, NULL, NULL), PCACHE_E_POISONED);
	assert_int_equal(rig.event_nr[PCACHE_EVENT_POISON], 1);
	assert_int_equal(rig.event[PCACHE_EVENT_POISON].off, 8192);
	assert_int_equal(rig.event[PCACHE_EVENT_POISON].len, 4096);
	assert_int_equal(rig.event[PCACHE_EVENT_POISON].value, 1);
	assert_int_equal(rig.event_nr[PCACHE_EVENT_MEDIA_DAMAGE], 1);
	assert_int_equal(rig.event[PCACHE_EVENT_MEDIA_DAMAGE].len, rig_info(&rig).segment_bytes);
	assert_in_range(off, rig.event[PCACHE_EVENT_MEDIA_DAMAGE].off,
			rig.event[PCACHE_EVENT_MEDIA_DAMAGE].off + rig.event[PCACHE_EVENT_MEDIA_DAMAGE].len - 1);
	rig_down(&rig);
}

static void repaired(void **state)
{
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	rig_close(&rig);
	memset(rig.event_nr, 0, sizeof(rig.event_nr));
	rig_flip(&rig, 24); /* in the first copy of the superblock */
	rig_open(&rig);
	assert_int_equal(rig.event_nr[PCACHE_EVENT_REPLICA_REPAIRED], 1);
	assert_int_equal(rig.event[PCACHE_EVENT_REPLICA_REPAIRED].value, rig_info(&rig).replica_repairs);
	rig_close(&rig);
	rig_open(&rig);
	assert_int_equal(rig.event_nr[PCACHE_EVENT_REPLICA_REPAIRED], 1);
	rig_down(&rig);
}

static void failstop(void **state)
{
	struct rig rig;
	uint8_t block[512] = { 0 };

	(void)state;
	rig_zero(&rig);
	rig.o.granularity = PC_GRAN_PAGE;
	rig_up(&rig);
	rig_write(&rig, 0, 512, 0);
	pc_sim_fail_sync(rig.sim, 1, -EIO);
	assert_int_equal(pcache_flush(rig.cache), -EIO);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pcache_write(rig.cache, block, 0, sizeof(block), 0), PCACHE_E_FAILSTOP);
	assert_int_equal(rig.event_nr[PCACHE_EVENT_FAILSTOP], 1);
	assert_int_equal(rig.event[PCACHE_EVENT_FAILSTOP].err, -EIO);
	assert_int_equal(rig.messages[PCACHE_LOG_ERROR], 1);
	rig_down(&rig);
}

/* ---- on a file ---- */

static uint32_t forced_nr, granularity;

static void note_forced(void *user, const struct pcache_event *event)
{
	assert_ptr_equal(user, &forced_nr);
	if (event->kind == PCACHE_EVENT_GRANULARITY_FORCED) {
		forced_nr++;
		granularity = (uint32_t)event->value;
	}
}

static void granularity_forced(void **state)
{
	struct pcache_config *config;
	struct mem_backing *mb = mem_backing_create(&(struct mem_backing_options){ .size_bytes = 1048576 });
	char path[] = "/tmp/pcache-event-XXXXXX";
	struct pcache *cache;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0 && close(fd) == 0 && unlink(path) == 0);
	assert_int_equal(setenv("PMEM2_FORCE_GRANULARITY", "PAGE", 1), 0);
	assert_int_equal(pcache_config_new(&config), 0);
	assert_int_equal(pcache_config_parse(config, "create=on,maintenance=caller", NULL), 0);
	assert_int_equal(pcache_config_set(config, PCACHE_OPT_CACHE_BYTES, pcache_format_min_bytes(512)), 0);
	assert_int_equal(pcache_config_set_event(config, note_forced, &forced_nr), 0);
	assert_int_equal(pcache_open(path, config, mem_backing_attach(mb), &cache), 0);
	assert_int_equal(forced_nr, 1);
	assert_int_equal(granularity, PCACHE_GRANULARITY_PAGE);
	assert_int_equal(pcache_close(cache), 0);
	assert_int_equal(unsetenv("PMEM2_FORCE_GRANULARITY"), 0);
	assert_int_equal(pcache_open(path, config, mem_backing_attach(mb), &cache), 0);
	assert_int_equal(forced_nr, 1);
	assert_int_equal(pcache_close(cache), 0);
	pcache_config_free(config);
	mem_backing_destroy(mb);
	assert_int_equal(unlink(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(degraded_and_recovered),
		cmocka_unit_test(full),
		cmocka_unit_test(lost_data),
		cmocka_unit_test(repaired),
		cmocka_unit_test(failstop),
		cmocka_unit_test(granularity_forced),
	};

	return cmocka_run_group_tests_name("api_event", tests, NULL, NULL);
}
