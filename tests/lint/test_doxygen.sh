#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The reference of the public headers builds without a warning: everything public is documented, every link leads somewhere.
set -eu
src=${PCACHE_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
if ! command -v doxygen >/dev/null 2>&1; then
	echo "skipped: doxygen is not installed"
	exit 77
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$src"
(
	cat docs/Doxyfile
	echo "OUTPUT_DIRECTORY = $tmp"
) | doxygen - >"$tmp/log" 2>"$tmp/warnings" || { cat "$tmp/warnings"; exit 1; }
if [ -s "$tmp/warnings" ]; then
	cat "$tmp/warnings"
	exit 1
fi
[ -s "$tmp/html/index.html" ]
