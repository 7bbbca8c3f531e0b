# SPDX-License-Identifier: BSD-3-Clause
# Every mutant still applies to the tree; the gate itself (tests/mutants/run.sh, docs/MUTANTS.md) is run by hand, a short form of it in one build. With these
# labels both run in the debug build only.
add_test(NAME mutants_apply COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/mutants/run.sh --check)
add_test(NAME mutants_short COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/mutants/run.sh --seconds 60 wb-no-backing-flush kset-crc-ignored hold-rule-off)
set_tests_properties(mutants_apply mutants_short PROPERTIES ENVIRONMENT "${TEST_ENV}" TIMEOUT ${SYSTEM_TIMEOUT_S} LABELS "mutants;lint;system")
