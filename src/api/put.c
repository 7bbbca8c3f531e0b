/* SPDX-License-Identifier: BSD-3-Clause */
/* Text into a caller's buffer, see put.h. Allocates nothing. */
#include "api/put.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void pc_put(struct pc_put *text, const char *fmt, ...)
{
	size_t room = text->len < text->bytes ? text->bytes - text->len : 0;
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(room ? text->buf + text->len : NULL, room, fmt, args);
	va_end(args);
	if (len > 0)
		text->len += (size_t)len;
}

bool pc_put_uuid(char text[PC_UUID_TEXT_BYTES], const uint8_t uuid[16])
{
	static const uint8_t none[16];
	size_t at = 0;

	for (size_t i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			text[at++] = '-';
		at += (size_t)snprintf(text + at, 3, "%02x", uuid[i]);
	}
	return memcmp(uuid, none, sizeof(none)) != 0;
}
