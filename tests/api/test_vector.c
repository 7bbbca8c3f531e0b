/* SPDX-License-Identifier: BSD-3-Clause */
/* Vectored reads and writes: against the array, every bad argument, and as atomic as a write of one buffer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "core/rig.h"

#define IOV_MAX_NR 96u

/* Cuts len bytes of buf into iov_nr parts of whole blocks, some empty. */
static void cut(struct rig *rig, uint8_t *buf, uint64_t len, struct iovec *iov, uint32_t iov_nr)
{
	uint32_t block = rig->o.block_bytes;

	for (uint32_t i = 0; i < iov_nr; i++) {
		uint64_t part = i + 1 == iov_nr ? len : rig_below(rig, len / block / 2 + 1) * block;

		iov[i].iov_base = part ? buf : NULL;
		iov[i].iov_len = part;
		buf += part;
		len -= part;
	}
}

/* Any number of buffers, above and below the number that needs no memory, and requests beyond the atomic maximum. */
static void there_and_back(void **state)
{
	struct iovec iov[IOV_MAX_NR];

	(void)state;
	for (uint32_t block = 512; block <= 4096; block *= 8) {
		struct rig rig;
		uint32_t beyond_nr = 0;

		rig_zero(&rig);
		rig.o.block_bytes = block;
		rig.o.segment_bytes = 8192;
		rig_up(&rig);
		for (uint32_t round = 0; round < 300; round++) {
			uint64_t max = pcache_atomic_write_max(rig.cache) / block * (round % 8 ? 1 : 3);
			uint64_t len = rig_below(&rig, max) * block;
			uint64_t off = rig_below(&rig, (rig.o.backing_bytes - len) / block + 1) * block;
			uint32_t iov_nr = 1 + (uint32_t)rig_below(&rig, IOV_MAX_NR);

			rig_pattern(&rig, rig.scratch, len);
			cut(&rig, rig.scratch, len, iov, iov_nr);
			beyond_nr += len > pcache_atomic_write_max(rig.cache);
			assert_int_equal(pcache_writev(rig.cache, iov, iov_nr, off, 0), 0);
			memcpy(rig.model + off, rig.scratch, len);
			memset(rig.scratch, 0, len);
			cut(&rig, rig.scratch, len, iov, iov_nr);
			assert_int_equal(pcache_readv(rig.cache, iov, iov_nr, off, round & 1 ? PCACHE_NOCACHE : 0), 0);
			assert_memory_equal(rig.scratch, rig.model + off, len);
		}
		assert_true(beyond_nr > 0);
		rig_check_all(&rig);
		rig_reopen(&rig);
		rig_check_all(&rig);
		rig_down(&rig);
	}
}

static void bad_arguments(void **state)
{
	uint8_t buf[4096];
	struct iovec good[2] = { { .iov_base = buf, .iov_len = 512 }, { .iov_base = buf + 512, .iov_len = 512 } };
	struct iovec null[2] = { good[0], { .iov_base = NULL, .iov_len = 512 } };
	struct iovec odd[2] = { { .iov_base = buf, .iov_len = 256 }, { .iov_base = buf, .iov_len = 256 } };
	struct iovec huge[2] = { { .iov_base = buf, .iov_len = SIZE_MAX - 511 },
				 { .iov_base = buf, .iov_len = SIZE_MAX - 511 } };
	struct rig rig;
	uint64_t size, head;

	(void)state;
	memset(buf, 0, sizeof(buf));
	rig_zero(&rig);
	rig_up(&rig);
	size = pcache_size(rig.cache);
	head = rig_info(&rig).log_head;
	const struct {
		struct pcache *cache;
		const struct iovec *iov;
		uint32_t iov_nr;
		uint64_t off;
		int code;
	} bad[] = {
		{ NULL, good, 2, 0, -EINVAL },
		{ rig.cache, NULL, 1, 0, -EINVAL },
		{ rig.cache, null, 2, 0, -EINVAL },
		{ rig.cache, odd, 2, 0, PCACHE_E_UNALIGNED },
		{ rig.cache, good, 2, 256, PCACHE_E_UNALIGNED },
		{ rig.cache, good, 2, size - 512, PCACHE_E_RANGE },
		{ rig.cache, good, 2, UINT64_MAX - 511, PCACHE_E_RANGE },
		{ rig.cache, huge, 1, 0, PCACHE_E_RANGE },
		{ rig.cache, huge, 2, 0, PCACHE_E_RANGE },
		{ rig.cache, NULL, 0, 256, PCACHE_E_UNALIGNED },
		{ rig.cache, NULL, 0, size + 512, PCACHE_E_RANGE },
	};

	for (size_t i = 0; i < PC_ARRAY_NR(bad); i++) {
		assert_int_equal(pcache_writev(bad[i].cache, bad[i].iov, bad[i].iov_nr, bad[i].off, 0), bad[i].code);
		assert_int_equal(pcache_readv(bad[i].cache, bad[i].iov, bad[i].iov_nr, bad[i].off, 0), bad[i].code);
	}
	for (uint32_t bit = 0; bit < 32; bit++) {
		uint32_t flag = 1u << bit;

		if (flag != PCACHE_NOCACHE && flag != PCACHE_NOWAIT)
			assert_int_equal(pcache_readv(rig.cache, good, 2, 0, flag), -EINVAL);
		if (flag != PCACHE_DURABLE && flag != PCACHE_NOWAIT)
			assert_int_equal(pcache_writev(rig.cache, good, 2, 0, flag), -EINVAL);
	}
	assert_int_equal(pcache_writev(rig.cache, NULL, 0, 0, 0), 0);
	assert_int_equal(pcache_readv(rig.cache, NULL, 0, 0, 0), 0);
	assert_int_equal(rig_info(&rig).log_head, head);
	rig_check_all(&rig);
	rig_down(&rig);
}

/* Images of crashes right before each fence of a write: none of the stores since the last, the first few, all, some by chance. */
#define IMAGE_NR 16u
#define FENCE_NR 8u

struct images {
	uint8_t *bytes[FENCE_NR * IMAGE_NR];
	uint32_t nr;
};

static void take_images(struct pc_sim *sim, enum pc_sim_event event, void *user)
{
	struct images *images = user;

	(void)event;
	for (uint32_t i = 0; i < IMAGE_NR && images->nr < FENCE_NR * IMAGE_NR; i++) {
		enum pc_sim_policy policy = i == 0   ? PC_SIM_NONE
					    : i == 1 ? PC_SIM_ALL
					    : i & 1  ? PC_SIM_PREFIX
						     : PC_SIM_RANDOM;

		if (policy == PC_SIM_PREFIX && i >= pc_sim_policy_args(sim, policy))
			policy = PC_SIM_RANDOM;
		images->bytes[images->nr] = malloc(pc_sim_media(sim)->len_bytes);
		assert_non_null(images->bytes[images->nr]);
		pc_sim_crash(sim, policy, i, images->bytes[images->nr++]);
	}
}

/* All of the buffers are there or none, whatever shards and segments they lie in. */
static void all_or_nothing(void **state)
{
	const uint64_t off = 4096, len = 8192;
	struct images images = { .nr = 0 };
	uint32_t none = 0, all = 0;
	struct iovec iov[16];
	uint8_t *now;
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	now = rig.scratch + len;
	assert_true(pcache_atomic_write_max(rig.cache) >= len);
	rig_pattern(&rig, rig.scratch, len);
	cut(&rig, rig.scratch, len, iov, 16);
	pc_sim_crash_at(rig.sim, 0, take_images, &images);
	assert_int_equal(pcache_writev(rig.cache, iov, 16, off, 0), 0);
	pc_sim_crash_at(rig.sim, 0, NULL, NULL);
	for (uint32_t i = 0; i < images.nr; i++) {
		rig_kill(&rig);
		pc_sim_reset(rig.sim, images.bytes[i]);
		free(images.bytes[i]);
		rig_open(&rig);
		assert_int_equal(pcache_read(rig.cache, now, off, len, 0), 0);
		if (memcmp(now, rig.scratch, len) == 0)
			all++;
		else if (memcmp(now, rig.model + off, len) == 0)
			none++;
	}
	assert_int_equal(none + all, images.nr);
	assert_true(none > 0 && all > 0);
	rig_down(&rig);
}

/* One lost block fails the whole read; buffers without it can be had. */
static void poison(void **state)
{
	struct iovec iov[3];
	struct rig rig;

	(void)state;
	rig_zero(&rig);
	rig_up(&rig);
	for (uint32_t i = 0; i < 3; i++) {
		rig_write(&rig, i * 4096, 4096, 0);
		iov[i] = (struct iovec){ .iov_base = rig.scratch + i * 4096, .iov_len = 4096 };
	}
	rig_flip(&rig, rig_find(&rig, 4096 + 512));
	assert_int_equal(pcache_readv(rig.cache, iov, 3, 0, 0), PCACHE_E_POISONED);
	assert_int_equal(pcache_readv(rig.cache, iov, 1, 0, 0), 0);
	assert_int_equal(pcache_readv(rig.cache, iov + 2, 1, 8192, 0), 0);
	assert_memory_equal(rig.scratch + 8192, rig.model + 8192, 4096);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(bad_arguments),
		cmocka_unit_test(all_or_nothing),
		cmocka_unit_test(poison),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
