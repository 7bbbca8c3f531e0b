#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# The golden image of format version 1: v1.img.gz is a cache that a killed process left, with every kind of record in it, v1.table says what each
# block reads as, v1.dump is what `pcache dump` prints of it. Whoever changes the dump on purpose makes v1.dump again; the image never changes.
# See main_golden.c.
set -u
. "$(dirname "$0")/../system/lib.sh"

HERE=$SOURCE_DIR/tests/golden
GOLDEN=$BIN_DIR/pcache-golden

needs "$GOLDEN" "$PCACHE" gzip
scratch

unpack() {
	gzip -dc "$HERE/v1.img.gz" >"$1" || fail "cannot unpack"
}

unpack "$DISK_DIR/v1.img"
cp "$DISK_DIR/v1.img" "$DISK_DIR/copy.img"
"$PCACHE" dump "$DISK_DIR/v1.img" >"$DISK_DIR/v1.dump" || fail "dump"
diff -u "$HERE/v1.dump" "$DISK_DIR/v1.dump" >&2 || fail "the dump has changed"
check_clean "$DISK_DIR/v1.img" "as it was left"
cmp "$DISK_DIR/v1.img" "$DISK_DIR/copy.img" || fail "dump or check changed the image"

"$GOLDEN" verify "$DISK_DIR/v1.img" "$HERE/v1.table" || fail "on disk"
check_clean "$DISK_DIR/v1.img" "after a drain"
unpack "$SHM_DIR/v1.img"
PMEM2_FORCE_GRANULARITY=CACHE_LINE "$GOLDEN" verify "$SHM_DIR/v1.img" "$HERE/v1.table" || fail "as persistent memory"
check_clean "$SHM_DIR/v1.img" "after a drain, as persistent memory"

# It can fail: one word of the newest data, one of the table.
unpack "$DISK_DIR/bad.img"
sed 's/5003/5004/' "$HERE/v1.table" >"$DISK_DIR/bad.table"
"$GOLDEN" verify "$DISK_DIR/bad.img" "$DISK_DIR/bad.table" 2>/dev/null && fail "a wrong table passed"
echo "golden v1: ok"
