#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The asynchronous example does what its comment says: the second run reads what the first wrote.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
async=$PCACHE_BIN_DIR/async
truncate -s 64M "$tmp/slow.img"

"$async" "$tmp/slow.img" "$tmp/fast.cache" >"$tmp/1"
"$async" "$tmp/slow.img" "$tmp/fast.cache" >"$tmp/2"
cat "$tmp/1" "$tmp/2"
if grep -q block "$tmp/1"; then
	echo "the first run found something"
	exit 1
fi
grep -q '^block-0 block-1 .*block-14 block-15$' "$tmp/2"
