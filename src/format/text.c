/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parts of to_text lines, and the names of decode results.
 *
 * A line is "record key=value key=value ...", one record a line, no spaces in a value, always the same keys in the same order, so
 * that scripts and golden files can compare them. Values print whatever they are: a reader of damaged media needs to see
 * them. Writes to the stream that it is given and to nothing else; errors of the stream are left to the caller, who
 * asks ferror() once at the end.
 */
#include "format/text.h"

#include <inttypes.h>

#include "format/format.h"

const char *pc_valid_to_text(enum pc_valid valid)
{
	switch (valid) {
	case PC_VALID:
		return "valid";
	case PC_INVALID_MAGIC:
		return "no such record here";
	case PC_INVALID_CRC:
		return "torn or damaged";
	case PC_INVALID_VALUE:
		return "value out of its limits";
	case PC_INVALID_VERSION:
		return "unknown version or feature";
	case PC_INVALID_IDENTITY:
		return "position or nonce of another";
	}
	return "unknown result";
}

void pc_text_flags(FILE *to, const char *key, uint64_t flags, const char *const names[], uint32_t name_nr)
{
	const char *sep = "";

	fprintf(to, " %s=", key);
	if (flags == 0)
		fputc('-', to);
	for (uint32_t i = 0; i < name_nr; i++) {
		const uint64_t bit = UINT64_C(1) << i;

		if (!(flags & bit) || !names[i])
			continue;
		fprintf(to, "%s%s", sep, names[i]);
		flags &= ~bit;
		sep = ",";
	}
	if (flags != 0)
		fprintf(to, "%s0x%" PRIx64, sep, flags);
}

void pc_text_enum(FILE *to, const char *key, uint32_t value, const char *const names[], uint32_t name_nr)
{
	if (value < name_nr && names[value])
		fprintf(to, " %s=%s", key, names[value]);
	else
		fprintf(to, " %s=%" PRIu32, key, value);
}

void pc_text_uuid(FILE *to, const char *key, const uint8_t uuid[16])
{
	fprintf(to, " %s=", key);
	for (unsigned int i = 0; i < 16; i++)
		fprintf(to, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", (unsigned int)uuid[i]);
}
