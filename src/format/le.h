/* SPDX-License-Identifier: BSD-3-Clause */
/* Little-endian integers as one-member structs, so that mixing bytes on media with host integers does not compile. */
#ifndef PC_FORMAT_LE_H
#define PC_FORMAT_LE_H

#include "base/types.h"

struct pcm_le16 {
	uint16_t raw;
};
struct pcm_le32 {
	uint32_t raw;
};
struct pcm_le64 {
	uint64_t raw;
};

static inline struct pcm_le16 pc_le16(uint16_t x)
{
	return (struct pcm_le16){ x };
}
static inline struct pcm_le32 pc_le32(uint32_t x)
{
	return (struct pcm_le32){ x };
}
static inline struct pcm_le64 pc_le64(uint64_t x)
{
	return (struct pcm_le64){ x };
}
static inline uint16_t pc_get16(struct pcm_le16 x)
{
	return x.raw;
}
static inline uint32_t pc_get32(struct pcm_le32 x)
{
	return x.raw;
}
/* An array of them, as it is: the host is little-endian. */
static inline const uint32_t *pc_raw32s(const struct pcm_le32 *x)
{
	return &x->raw;
}
static inline uint64_t pc_get64(struct pcm_le64 x)
{
	return x.raw;
}

#endif
