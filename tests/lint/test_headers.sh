#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Each public header compiles alone, as pedantic C99 and as C++; each internal header compiles alone as C11.
set -eu
src=${PCACHE_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
cc=${PCACHE_CC:-cc}
warn="-Wall -Wextra -pedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Werror"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
faults=0
nr=0

try() # header, command that compiles stdin...
{
	header=$1
	shift
	nr=$((nr + 1))
	# Twice: the include guard is part of the promise.
	printf '#include <%s>\n#include <%s>\nextern int only_to_be_not_empty;\n' "$header" "$header" >"$tmp/in"
	if ! "$@" - <"$tmp/in" 2>"$tmp/err"; then
		echo "$header: $*"
		sed 's/^/    /' "$tmp/err"
		faults=$((faults + 1))
	fi
}

cxx=
for c in g++ clang++ c++; do
	if command -v "$c" >/dev/null 2>&1 && echo '#include <cstdint>' | "$c" -fsyntax-only -x c++ - 2>/dev/null; then
		cxx=$c
		break
	fi
done
[ -n "$cxx" ] || echo "no C++ compiler: the headers were tried as C only"

cd "$src/include"
for h in pcache/*.h; do
	# shellcheck disable=SC2086
	try "$h" "$cc" -x c -std=c99 -fsyntax-only $warn -Wstrict-prototypes -I "$src/include"
	if [ -n "$cxx" ]; then
		# shellcheck disable=SC2086
		try "$h" "$cxx" -x c++ -std=c++11 -fsyntax-only $warn -I "$src/include"
	fi
done
cd "$src/src"
for h in */*.h; do
	[ -e "$h" ] || continue
	try "$h" "$cc" -x c -std=c11 -D_GNU_SOURCE -fsyntax-only -Wall -Wextra -Werror -I "$src/src" -I "$src/include"
done
echo "$nr compilations, $faults faults"
[ "$nr" -gt 0 ] && [ "$faults" -eq 0 ]
