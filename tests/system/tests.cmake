# SPDX-License-Identifier: BSD-3-Clause
# The plugin of test_sigbus_fuse.sh. Without the sanitizers: it runs in nbdkit, which has none.
if(NBDKIT_FOUND)
	add_library(bad_media MODULE ${CMAKE_CURRENT_SOURCE_DIR}/system/nbdkit/bad_media.c)
	target_include_directories(bad_media SYSTEM PRIVATE ${NBDKIT_INCLUDE_DIRS})
	target_compile_definitions(bad_media PRIVATE _GNU_SOURCE)
	target_compile_options(bad_media PRIVATE -Wall -Wextra)
	set_target_properties(bad_media PROPERTIES OUTPUT_NAME nbdkit-bad-media-plugin PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endif()
