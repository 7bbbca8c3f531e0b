/* SPDX-License-Identifier: BSD-3-Clause */
/* Notes which errors the calls of a test returned, for tests/codes/test_provoked.py. */
#ifndef PC_TESTS_CODES_NOTE_H
#define PC_TESTS_CODES_NOTE_H

/* Leaves the file NAME,RC in the folder that the environment variable PCACHE_CODES_DIR names. Without it: nothing. */
void codes_note(const char *name, int rc);

#endif
