# SPDX-License-Identifier: BSD-3-Clause
# Fuzz targets, see fuzz.h and run.sh: pcache-fuzz-<target>, with libFuzzer under PCACHE_FUZZ, else with a main that reads files; ctest fuzz_<target> replays the corpus.

if(PCACHE_FUZZ)
	set_source_files_properties(${PCACHE_CHECK_SOURCES} PROPERTIES COMPILE_OPTIONS -fsanitize=fuzzer-no-link)
endif()
add_library(pcache_fuzz_objects OBJECT fuzz/fuzz_common.c fuzz/fuzz_code.c fuzz/fuzz_seal.c fuzz/scene.c)
target_link_libraries(pcache_fuzz_objects PUBLIC pcache_testlib)
function(pcache_add_fuzzer target testlib)
	add_executable(pcache-fuzz-${target} fuzz/fuzz_${target}.c ${ARGN})
	target_link_libraries(pcache-fuzz-${target} PRIVATE ${testlib} m)
	if(PCACHE_FUZZ)
		target_link_options(pcache-fuzz-${target} PRIVATE -fsanitize=fuzzer)
		return()
	endif()
	target_sources(pcache-fuzz-${target} PRIVATE fuzz/replay.c)
	add_test(NAME fuzz_${target} COMMAND pcache-fuzz-${target} ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${target})
	set_tests_properties(fuzz_${target} PROPERTIES ENVIRONMENT "${TEST_ENV}" TIMEOUT ${UNIT_TIMEOUT_S} LABELS "unit;fuzz")
endfunction()

foreach(target IN ITEMS image open_ops kset superblock)
	pcache_add_fuzzer(${target} pcache_testlib $<TARGET_OBJECTS:pcache_fuzz_objects>)
endforeach()
# With the planted defects, so that they can be switched on.
pcache_add_fuzzer(ops pcache_plants_testlib fuzz/fuzz_common.c)

add_executable(pcache-fuzz-seeds fuzz/main_seeds.c $<TARGET_OBJECTS:pcache_fuzz_objects>)
target_link_libraries(pcache-fuzz-seeds PRIVATE pcache_testlib m)
