# SPDX-License-Identifier: BSD-3-Clause
# Allocations of the replay that fail, see ../fault/tests.cmake.
if(TARGET test_recovery_gather)
	target_sources(test_recovery_gather PRIVATE fault/interpose/alloc.c)
	target_link_options(test_recovery_gather PRIVATE -Wl,--wrap=mmap,--wrap=pthread_create,--wrap=pmem2_map_new,--wrap=pthread_mutex_init,--wrap=pthread_cond_init,--wrap=pthread_mutexattr_init,--wrap=pthread_condattr_init)
	if(PCACHE_SANITIZE)
		target_compile_definitions(test_recovery_gather PRIVATE FAULT_WRAP)
		foreach(function malloc calloc realloc aligned_alloc posix_memalign strdup strndup)
			target_link_options(test_recovery_gather PRIVATE -Wl,--wrap=${function})
		endforeach()
	endif()
endif()
