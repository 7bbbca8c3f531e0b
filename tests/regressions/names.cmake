# SPDX-License-Identifier: BSD-3-Clause
# Bugs that other caches had, each a ctest of the name that it was given; README.md says what each is here. Some are cases of tests of other folders: those programs run
# one case alone, and the ctest looks for its OK, as a name that is no case would pass for nothing.

if(NOT CMOCKA_FOUND)
	return()
endif()
function(pcache_add_regression name program case)
	add_test(NAME ${name} COMMAND ${program})
	set_tests_properties(${name} PROPERTIES ENVIRONMENT "${TEST_ENV};PCACHE_TEST_CASE=${case}" TIMEOUT ${UNIT_TIMEOUT_S} LABELS "unit;regressions"
		PASS_REGULAR_EXPRESSION "\\[       OK \\] ${case}\n" FAIL_REGULAR_EXPRESSION "FAILED;ERROR;WARNING: ThreadSanitizer;runtime error")
	get_target_property(sources ${program} SOURCES)
	if(NOT "${sources}" MATCHES "interpose/one_case.c")
		target_sources(${program} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/regressions/interpose/one_case.c)
	endif()
endfunction()

foreach(name IN ITEMS gc_error_stops_gc_for_ever enospc_waits_for_ever close_during_writeback_uses_freed_memory volatile_write_cache_under_backing
	edge_line_not_flushed_unaligned close_succeeds_after_failed_flush section_crc_before_section partial_discard_loses_neighbour overlap_split_drops_top_half
	references_underflow_after_replay id_overflow_on_big_cache flush_busy_when_full pinned_heads_hang_small_cache full_never_frees torn_head_completed_later)
	pcache_add_regression(${name} test_regressions_peers ${name})
endforeach()

foreach(name IN ITEMS slot_index_uses_wrong_stride info_not_zeroed crafted_kset_overruns_segment tail_out_of_bounds log_chain_cycle key_past_end_of_device
	segment_count_beyond_device dirty_tail_chain_never_ends one_bad_replica_fails_open both_bad_reformats replicas_share_one_line corrupt_kset_taken_for_end_of_log
	stale_kset_resurrected)
	pcache_add_regression(${name} test_tool_regressions ${name})
endforeach()

pcache_add_regression(slot_overwrites_current test_layout_replicas power_cut_between_the_copies)
pcache_add_regression(reformat_crash_resurfaces_old_mappings test_layout_replicas power_cut_inside_format)
pcache_add_regression(backing_flush_error_dropped test_service_writeback backing_flush_fails)
pcache_add_regression(writeback_reordered_between_batches test_service_writeback strict_order)
pcache_add_regression(eio_retried_without_backoff test_service_writeback workers_retry)
pcache_add_regression(write_then_discard_completed_out_of_order test_service_async late_and_out_of_order)
pcache_add_regression(poison_at_tail_reads_as_clean test_core_poison log_slot_in_write_back)
pcache_add_regression(crc_error_aborts_whole_open test_recovery_replay bad_data_of_a_key_appended_again)
pcache_add_regression(metadata_durable_before_data test_recovery_replay valid_slot_with_bad_data)
pcache_add_regression(torn_tail_right_after_open test_recovery_killed_update in_the_caches)
pcache_add_regression(stale_chain_through_unfenced_clear test_log_log room_comes_after_its_record)
pcache_add_regression(retire_removes_wrong_entry test_log_log chain_grows_and_shrinks_in_order)
pcache_add_regression(old_extent_dropped_before_new_one_is_logged test_core_write overwritten_lives_until_the_fence)
pcache_add_regression(missing_fence_in_copy test_core_write completed_is_durable)
pcache_add_regression(commit_before_data_has_passed_flush test_core_write durable_flag)
pcache_add_regression(fill_races_bypassing_write test_core_read fill_overwrites_a_newer_write)
pcache_add_regression(freed_log_segment_wakes_nobody test_api_io writers_wait_for_space)
pcache_add_regression(reader_opens_before_writer_closed test_api_open double_open)
pcache_add_regression(disable_with_dirty_data test_api_open format_never_destroys_unasked)
pcache_add_regression(sequence_wraps_at_end_of_journal test_recovery_ordinals_end writes_fail_and_nothing_is_lost)
pcache_add_regression(completion_before_submitter_stored_state test_backing_queue submit_fails)
