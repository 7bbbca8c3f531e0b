/* SPDX-License-Identifier: BSD-3-Clause */
/* Text into a caller's buffer: counted to its end also where the buffer is too small. */
#ifndef PC_API_PUT_H
#define PC_API_PUT_H

#include "base/types.h"

#define PC_UUID_TEXT_BYTES 37u

struct pc_put {
	char *buf;
	size_t bytes;
	size_t len; /* of the whole */
};

__attribute__((format(printf, 2, 3))) void pc_put(struct pc_put *text, const char *fmt, ...);
/* False: it is all zero, which stands for none. */
bool pc_put_uuid(char text[PC_UUID_TEXT_BYTES], const uint8_t uuid[16]);

#endif
