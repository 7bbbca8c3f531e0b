/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A program of somebody else: built against the installed library only. It has names of its own that the library uses inside,
 * which must not meet.
 */
#include <stdio.h>
#include <string.h>

#include <pcache/pcache.h>

unsigned int pc_crc32c(unsigned int crc, const void *buf, size_t len);
void pc_mutex_lock(void *mutex);

/* Called by nobody: a library that called it would not be ours alone. */
unsigned int pc_crc32c(unsigned int crc, const void *buf, size_t len)
{
	(void)crc;
	(void)buf;
	(void)len;
	printf("the library called a function of the program\n");
	return 0;
}

void pc_mutex_lock(void *mutex)
{
	(void)mutex;
	printf("the library called a function of the program\n");
}

int main(void)
{
	struct pcache_config *config = NULL;
	uint64_t value = 0;

	if (pcache_config_new(&config) || pcache_config_set_str(config, "gc_percent", "50") ||
	    pcache_config_get(config, PCACHE_OPT_GC_PERCENT, &value) || value != 50)
		return 1;
	pcache_config_free(config);
	if (strcmp(pcache_errname(PCACHE_E_FULL), "PCACHE_E_FULL") != 0 || pcache_close(NULL) != 0)
		return 2;
	printf("libpcache %s\n", pcache_version());
	return 0;
}
