# SPDX-License-Identifier: BSD-3-Clause
# The kernel's answers that test_uring.c makes up.
if(TARGET test_backing_uring)
	foreach(function io_uring_queue_init io_uring_register_files io_uring_register_buffers io_uring_submit io_uring_submit_and_wait pwrite)
		target_link_options(test_backing_uring PRIVATE -Wl,--wrap=${function})
	endforeach()
endif()
