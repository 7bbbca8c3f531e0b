/* SPDX-License-Identifier: BSD-3-Clause */
/* Loads the shared library at run time, finds the public functions and none of the inner ones, and unloads it; several times. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	static const char *const hidden[] = {"pc_crc32c", "pc_media_open", "pc_mutex_lock", "pc_cache_open_media"};
	static const char *const public_names[] = {"pcache_open", "pcache_write", "pcache_config_new"};

	if (argc != 2)
		return 2;
	for (int round = 0; round < 3; round++) {
		void *lib = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
		const char *(*version)(void);
		void *symbol;

		if (!lib) {
			printf("%s\n", dlerror());
			return 1;
		}
		symbol = dlsym(lib, "pcache_version");
		if (!symbol)
			return 1;
		memcpy(&version, &symbol, sizeof(version));
		printf("loaded libpcache %s\n", version());
		for (size_t i = 0; i < sizeof(public_names) / sizeof(public_names[0]); i++)
			if (!dlvsym(lib, public_names[i], "PCACHE_0.9")) {
				printf("%s is not there\n", public_names[i]);
				return 1;
			}
		for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
			if (dlsym(lib, hidden[i])) {
				printf("%s can be found\n", hidden[i]);
				return 1;
			}
		if (dlclose(lib))
			return 1;
	}
	return 0;
}
