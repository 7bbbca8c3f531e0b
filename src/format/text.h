/* SPDX-License-Identifier: BSD-3-Clause */
/* Parts of to_text lines that several records have. */
#ifndef PC_FORMAT_TEXT_H
#define PC_FORMAT_TEXT_H

#include <stdio.h>

#include "base/types.h"

/* " key=": the names of the bits that are set, joined by commas, bits without a name as one hexadecimal number; "-" for none. */
void pc_text_flags(FILE *to, const char *key, uint64_t flags, const char *const names[], uint32_t name_nr);
/* " key=": the name of value, or its number if it has none. */
void pc_text_enum(FILE *to, const char *key, uint32_t value, const char *const names[], uint32_t name_nr);
/* " key=": 16 bytes in the usual five groups. */
void pc_text_uuid(FILE *to, const char *key, const uint8_t uuid[16]);

#endif
