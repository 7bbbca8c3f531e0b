#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# libpcache beside libpmemblk and pwrite + fdatasync: sh tests/bench/peers/run.sh [--json] [--seconds N] [--size-mib N]
#
# Installs libpmemblk where it may, builds libpcache (preset release) unless PCACHE_BUILD_DIR names a build, and the program beside it, and runs it. Everybody writes durably, and
# the slices of all alternate.
#
#   PCACHE_MEMORY_DIR=   persistent memory (DAX), or a tmpfs that stands in for it (default /dev/shm; huge pages want the mount option huge=advise)
#   PCACHE_DISK_DIR=     a folder on a disk (default TMPDIR)
set -eu
cd "$(dirname "$0")/../../.."
. tests/need.sh
need_packages gcc cmake ninja-build pkg-config libpmem2-dev libpmemblk-dev libisal-dev liburing-dev >&2

build=${PCACHE_BUILD_DIR:-}
if [ -z "$build" ]; then
	build=build/release
	cmake --preset release -DBUILD_TESTING=OFF >&2
	cmake --build --preset release --target pcache_static >&2
fi
cc=${CC:-cc}
# shellcheck disable=SC2046
"$cc" -std=gnu11 -O2 -g -Wall -Wextra -Iinclude tests/bench/peers/peers.c -o "$build/pcache-peers" "$build/lib/libpcache.a" \
	$(pkg-config --libs libpmemblk libpmem2 libisal liburing) -lpthread
exec "$build/pcache-peers" "$@" "${PCACHE_MEMORY_DIR:-/dev/shm}" "${PCACHE_DISK_DIR:-${TMPDIR:-/tmp}}"
