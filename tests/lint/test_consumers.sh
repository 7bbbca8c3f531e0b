#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Installs into a fresh prefix, moves it, and builds programs against it as its users do: pkg-config shared and static, CMake, dlopen.
set -eu
if [ -n "${PCACHE_SANITIZE:-}" ]; then
	echo "skipped: a library with sanitizers is not for installing"
	exit 77
fi
here=$(cd "$(dirname "$0")" && pwd)/consumer
cc=${PCACHE_CC:-cc}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
unset LD_LIBRARY_PATH

expect() # what, program...
{
	what=$1
	shift
	"$@" >"$tmp/out" 2>&1 || { echo "$what: exit $?"; cat "$tmp/out"; exit 1; }
	grep -q 'pcache 0\.9\.' "$tmp/out" || { echo "$what: unexpected output"; cat "$tmp/out"; exit 1; }
	if grep -q 'function of the program' "$tmp/out"; then
		echo "$what: names clash"
		exit 1
	fi
	echo "$what: $(tail -n 1 "$tmp/out")"
}

cmake --install "$PCACHE_BUILD_DIR" --prefix "$tmp/first" >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
mv "$tmp/first" "$tmp/prefix"
prefix=$tmp/prefix
libdir=$(dirname "$(find "$prefix" -name libpcache.a)")
export PKG_CONFIG_PATH="$libdir/pkgconfig"

for f in include/pcache/pcache.h bin/pcache; do
	[ -e "$prefix/$f" ] || { echo "$f was not installed"; exit 1; }
done
for l in libpcache.so libpcache.so.0 libpcache.so.0.9.0 libpcache.a; do
	[ -e "$libdir/$l" ] || { echo "$l was not installed"; exit 1; }
done
[ "$(pkg-config --modversion pcache)" = 0.9.0 ]

# shellcheck disable=SC2046
"$cc" -std=c99 -Wall -Wextra -Werror "$here/consumer.c" -o "$tmp/shared" $(pkg-config --cflags --libs pcache)
expect "pkg-config, shared" env LD_LIBRARY_PATH="$libdir" "$tmp/shared"
readelf -d "$tmp/shared" | grep -q 'NEEDED.*libpcache\.so\.0\]' || { echo "not linked to libpcache.so.0"; exit 1; }
# A user of the shared library needs none of its dependencies by himself.
if readelf -d "$tmp/shared" | grep -qE 'NEEDED.*lib(pmem2|isal|uring)'; then
	echo "pkg-config --libs names private dependencies"
	exit 1
fi

# shellcheck disable=SC2046
"$cc" -std=c99 "$here/consumer.c" -o "$tmp/static" $(pkg-config --static --cflags --libs pcache | sed 's/-lpcache/-l:libpcache.a/')
expect "pkg-config, static" "$tmp/static"
if readelf -d "$tmp/static" | grep -q 'NEEDED.*libpcache'; then
	echo "the static program needs libpcache.so"
	exit 1
fi

if ! cmake -G Ninja -S "$here" -B "$tmp/cmake" -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$prefix" >"$tmp/log" 2>&1 ||
	! cmake --build "$tmp/cmake" >>"$tmp/log" 2>&1; then
	cat "$tmp/log"
	exit 1
fi
expect "CMake, shared" "$tmp/cmake/consumer_shared"
expect "CMake, static" "$tmp/cmake/consumer_static"

"$cc" -std=c11 -D_GNU_SOURCE "$here/loader.c" -o "$tmp/loader" -ldl
expect "dlopen" "$tmp/loader" "$libdir/libpcache.so.0"

# The installed program runs from the prefix.
expect "installed pcache" "$prefix/bin/pcache" --version
