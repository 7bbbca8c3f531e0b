/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcache check, the rules: every statement of docs/FORMAT.md that an image can violate, numbered. docs/TOOL.md has the same table in prose; a test
 * compares the two, and another forges an image for each rule.
 *
 *   F file   S superblock   T tail record   R segment record   C chain of LOG segments   K kset   Y key   M map: what the keys together say
 *
 * X(number, what must hold, what to do if it does not and the finding is damage)
 */
#ifndef PC_TOOL_CHECK_RULES_H
#define PC_TOOL_CHECK_RULES_H

#define CHECK_NEXT_COPY "keep a copy of the file; nothing may be guessed, format only what can be given up"
#define CHECK_NEXT_LOG "keep a copy of the file; no open takes it"
#define CHECK_NEXT_KSET "keep a copy of the file; below the durable position no open takes it, above it is a write that never was"
#define CHECK_NEXT_CLOSED "keep a copy of the file; an open recovers what is behind the end as after a crash"
#define CHECK_NEXT_DATA "restore these blocks from a backup, or overwrite them"
#define CHECK_NEXT_CRC "the backing has what is clean; restore blocks that are dirty from a backup, or overwrite them"

/* clang-format off */
#define CHECK_RULES(X) \
	X(F1, "the file is at least media_bytes long", "restore the whole file; no open takes a shorter one") \
	X(F2, "every block of the file is allocated", "fill the holes: `fallocate -l SIZE FILE`; no open takes a file with holes") \
	X(F3, "the log and the data can be read", "keep a copy of what can be read, then replace the media") \
	\
	X(S1, "it can be read and begins with the magic", CHECK_NEXT_COPY) \
	X(S2, "its CRC is right", CHECK_NEXT_COPY) \
	X(S3, "version is 1 and no bit of incompat is set", "open it with the version of pcache that wrote it") \
	X(S4, "only known bits of flags are set", CHECK_NEXT_COPY) \
	X(S5, "the reserved bytes are zero", CHECK_NEXT_COPY) \
	X(S6, "block_bytes is 512 or 4096", CHECK_NEXT_COPY) \
	X(S7, "segment_bytes is a power of two from 4096 to 16777216", CHECK_NEXT_COPY) \
	X(S8, "segment_nr lies between 8 and 16777216", CHECK_NEXT_COPY) \
	X(S9, "media_bytes is a multiple of a page, and below 2^63", CHECK_NEXT_COPY) \
	X(S10, "zone_bytes is a multiple of a page, has room for all records, and is at most half of media_bytes", CHECK_NEXT_COPY) \
	X(S11, "zone_b_off is media_bytes - zone_bytes", CHECK_NEXT_COPY) \
	X(S12, "data_off is at least zone_bytes, and a multiple of segment_bytes or 2 MiB", CHECK_NEXT_COPY) \
	X(S13, "the last segment ends before zone B", CHECK_NEXT_COPY) \
	X(S14, "backing_bytes is not 0, a multiple of block_bytes, and at most 2^48 blocks", CHECK_NEXT_COPY) \
	X(S15, "the second copy stands where its own media_bytes says", CHECK_NEXT_COPY) \
	X(S16, "copies with one seq are the same", CHECK_NEXT_COPY) \
	X(S17, "copies are at most one update apart", CHECK_NEXT_COPY) \
	X(S18, "all bits of ro_compat are known, or the cache is only read", "open it with the version of pcache that wrote it") \
	X(S19, "cache_uuid was drawn, it is not zero", "nothing; but it cannot be told from other caches of that kind") \
	\
	X(T1, "it can be read and begins with the magic", CHECK_NEXT_COPY) \
	X(T2, "its CRC is right", CHECK_NEXT_COPY) \
	X(T3, "only known bits of flags are set", CHECK_NEXT_COPY) \
	X(T4, "gc_percent is at most 90", CHECK_NEXT_COPY) \
	X(T5, "log_tail_pos is at most dirty_tail_pos", CHECK_NEXT_COPY) \
	X(T6, "the reserved bytes are zero", CHECK_NEXT_COPY) \
	X(T7, "copies with one seq are the same", CHECK_NEXT_COPY) \
	X(T8, "copies are at most one update apart", CHECK_NEXT_COPY) \
	X(T9, "log_tail_pos is the first slot of a place of the log, from place 1 on", CHECK_NEXT_LOG) \
	X(T10, "dirty_tail_pos is at most the end of the log", CHECK_NEXT_LOG) \
	X(T11, "mark_pos is at most the end of the last LOG segment", CHECK_NEXT_LOG) \
	X(T12, "after a clean close the log ends at mark_pos", CHECK_NEXT_CLOSED) \
	X(T13, "dirty_tail_pos and mark_pos lie inside of no kset", CHECK_NEXT_LOG) \
	\
	X(R1, "it can be read and begins with the magic", CHECK_NEXT_COPY) \
	X(R2, "its CRC is right", CHECK_NEXT_COPY) \
	X(R3, "seg_id is the place of the record", CHECK_NEXT_COPY) \
	X(R4, "type is known", CHECK_NEXT_COPY) \
	X(R5, "ordinal of a LOG segment lies between 1 and 2^45, of others it is 0", CHECK_NEXT_COPY) \
	X(R6, "nonce is 0 but for LOG segments", CHECK_NEXT_COPY) \
	X(R7, "the reserved bytes are zero", CHECK_NEXT_COPY) \
	X(R8, "copies with one seq are the same", CHECK_NEXT_COPY) \
	X(R9, "copies are at most one update apart, after a clean close none", CHECK_NEXT_COPY) \
	X(R10, "the newer copy has no older generation, and a new one if it has another type", CHECK_NEXT_COPY) \
	\
	X(C1, "a LOG segment has the place of log_tail_pos", CHECK_NEXT_LOG) \
	X(C2, "no two LOG segments have one place", CHECK_NEXT_LOG) \
	X(C3, "no place of the log is missing between the first and the last", CHECK_NEXT_LOG) \
	\
	X(K1, "below the durable position a kset begins wherever the one before ends", CHECK_NEXT_KSET) \
	X(K2, "slot_nr is at least 1 and ends inside of the segment", CHECK_NEXT_KSET) \
	X(K3, "its CRC is right", CHECK_NEXT_KSET) \
	X(K4, "its type is known", CHECK_NEXT_KSET) \
	X(K5, "only known bits of flags are set, and only of a MARK", CHECK_NEXT_KSET) \
	X(K6, "KEYS take at most 65536 slots", CHECK_NEXT_KSET) \
	X(K7, "key_nr of KEYS is at least 1, of others it is 0", CHECK_NEXT_KSET) \
	X(K8, "its keys and their chunk cells end inside of its slots", CHECK_NEXT_KSET) \
	X(K9, "at most one cell is left, and it is zero", CHECK_NEXT_KSET) \
	X(K10, "a MARK takes one slot", CHECK_NEXT_KSET) \
	X(K11, "low_pos of a MARK is at most its position", CHECK_NEXT_KSET) \
	X(K12, "the reserved bytes of a MARK are zero", CHECK_NEXT_KSET) \
	X(K13, "the second cell of a VOID is zero", CHECK_NEXT_KSET) \
	X(K14, "data of keys at or above the durable position has its CRC, or the kset does not count", CHECK_NEXT_KSET) \
	X(K15, "ksets that break K3 or a later rule promise together at most 64 times the slots of the log and one segment", CHECK_NEXT_LOG) \
	X(K16, "low_pos of a MARK lies inside of no kset", CHECK_NEXT_LOG) \
	\
	X(Y1, "len_blk is at least 1", CHECK_NEXT_KSET) \
	X(Y2, "its range ends on the backing", CHECK_NEXT_KSET) \
	X(Y3, "its volume is 0", CHECK_NEXT_KSET) \
	X(Y4, "its type is known", CHECK_NEXT_KSET) \
	X(Y5, "only known bits of flags are set", CHECK_NEXT_KSET) \
	X(Y6, "DISCARD is set with ZERO only", CHECK_NEXT_KSET) \
	X(Y7, "seg_id of DATA is below segment_nr", CHECK_NEXT_KSET) \
	X(Y8, "the chunks of DATA end inside of the segment", CHECK_NEXT_KSET) \
	X(Y9, "bits 6 and 7 of geom are 0", CHECK_NEXT_KSET) \
	X(Y10, "head_blk is less than a chunk, and at most seg_blk", CHECK_NEXT_KSET) \
	X(Y11, "tail_blk completes the last chunk and adds none", CHECK_NEXT_KSET) \
	X(Y12, "crc is 0 unless it is that of one chunk", CHECK_NEXT_KSET) \
	X(Y13, "the padding of chunk cells is zero", CHECK_NEXT_KSET) \
	X(Y14, "the members that ZERO and POISON do not use are 0", CHECK_NEXT_KSET) \
	X(Y15, "ZERO and POISON have at most 524288 blocks", CHECK_NEXT_KSET) \
	X(Y16, "gen of DATA is at most that of the segment", CHECK_NEXT_LOG) \
	X(Y17, "a segment with the generation of a DATA key is a DATA segment", CHECK_NEXT_LOG) \
	X(Y18, "data of a RELOGGED key at or above the durable position has its CRC", CHECK_NEXT_CRC) \
	\
	X(M1, "dirty data that is seen still has its segment", CHECK_NEXT_DATA) \
	X(M2, "the segment of data that is seen has a good record", CHECK_NEXT_COPY) \
	X(M3, "no two blocks of the backing share a block of data", "keep a copy of the file; compare these blocks with a backup") \
	X(M4, "data that is seen has its CRC", CHECK_NEXT_CRC) \
	X(M5, "no range is poisoned", CHECK_NEXT_DATA) \
	X(M6, "keys claim at most some times the data that the cache can hold", "do not open this file: it was made up")
/* clang-format on */

enum check_rule {
	CHECK_OK = 0,
#define CHECK_RULE_ID(number, statement, next) CHECK_##number,
	CHECK_RULES(CHECK_RULE_ID)
#undef CHECK_RULE_ID
		CHECK_RULE_NR
};

/* "T4", "gc_percent is at most 90", "keep a copy ..."; of CHECK_OK empty strings. */
const char *check_rule_number(enum check_rule rule);
const char *check_rule_statement(enum check_rule rule);
const char *check_rule_next(enum check_rule rule);

#endif
