#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The first example does what its comment says: twice, and the second run finds what the first wrote; its errors say what is wrong.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
minimal=$PCACHE_BIN_DIR/minimal
truncate -s 64M "$tmp/slow.img"

"$minimal" "$tmp/slow.img" "$tmp/fast.cache" >"$tmp/1"
"$minimal" "$tmp/slow.img" "$tmp/fast.cache" >"$tmp/2"
cat "$tmp/1" "$tmp/2"
grep -qx 'found:   ' "$tmp/1"
grep -qx 'written: hello, persistent memory' "$tmp/1"
grep -qx 'found:   hello, persistent memory' "$tmp/2"

# A file that is no cache stays as it is.
echo "precious" >"$tmp/precious"
if "$minimal" "$tmp/slow.img" "$tmp/precious" 2>"$tmp/err"; then
	echo "a file that is no cache was taken"
	exit 1
fi
cat "$tmp/err"
grep -q 'not a pcache cache' "$tmp/err"
[ "$(cat "$tmp/precious")" = precious ]
