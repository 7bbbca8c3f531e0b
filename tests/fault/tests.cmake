# SPDX-License-Identifier: BSD-3-Clause
# The programs in which allocations can fail and clocks jump, see alloc_faults.h and clock_faults.h.

set(FAULT_PROGRAMS pcache-fault-matrix)
if(CMOCKA_FOUND)
	foreach(group backing codes media memory process sync)
		list(APPEND FAULT_PROGRAMS test_fault_${group})
	endforeach()
endif()
foreach(program IN LISTS FAULT_PROGRAMS)
	if(NOT TARGET ${program})
		continue()
	endif()
	target_sources(${program} PRIVATE fault/interpose/alloc.c fault/interpose/clock.c)
	target_link_options(${program} PRIVATE -Wl,--wrap=mmap,--wrap=pthread_create,--wrap=pmem2_map_new,--wrap=pthread_mutex_init,--wrap=pthread_cond_init,--wrap=pthread_mutexattr_init,--wrap=pthread_condattr_init,--wrap=time,--wrap=gettimeofday,--wrap=clock_gettime)
	if(PCACHE_SANITIZE)
		target_compile_definitions(${program} PRIVATE FAULT_WRAP)
		foreach(function malloc calloc realloc aligned_alloc posix_memalign strdup strndup)
			target_link_options(${program} PRIVATE -Wl,--wrap=${function})
		endforeach()
	endif()
endforeach()

# Thousands of caches are made and dropped; on a busy machine that takes its time.
if(CMOCKA_FOUND)
	set_tests_properties(fault_backing fault_media PROPERTIES TIMEOUT ${SYSTEM_TIMEOUT_S})
endif()
