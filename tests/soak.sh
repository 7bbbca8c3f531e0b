#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Soak: for MINUTES, everything that draws at random goes round with new seeds: crash simulator, schedule simulator, fault matrix, kills under threads and through NBD, frozen
# copies, churn, fio, fuzzers. Prints the figures as a table, leaves them in build/soak/soak.json, and each finding with its command in build/soak/. Ends with 1 if there was one.
#
# Usage: soak.sh MINUTES [PART...]     (parts: see tests/soak.py)
#   PCACHE_BUILD=DIR   programs of this build instead of build/release, which is built first
#   SOAK_SEED=N        first seed (default: random, and printed)
set -u
cd "$(dirname "$0")/.." || exit 1
case ${1:-} in
'' | *[!0-9]* | 0*) sed -n 's/^# \{0,1\}//; /^Usage/,/^  SOAK/p' "$0" >&2; exit 2 ;;
esac
. tests/need.sh
need_packages gcc g++ libc6-dev clang libclang-rt-14-dev binutils cmake ninja-build patch pkg-config python3 libpmem2-dev libisal-dev liburing-dev libcmocka-dev nbdkit nbdkit-plugin-dev \
	libnbd-bin python3-libnbd fio jq procps util-linux xxd || exit 1
build=${PCACHE_BUILD:-}
if [ -z "$build" ]; then
	build=build/release
	mkdir -p build
	cmake --preset release >build/soak.log 2>&1 && cmake --build --preset release >>build/soak.log 2>&1 || { tail -n 50 build/soak.log; exit 1; }
fi
mkdir -p build/soak
exec python3 tests/soak.py "$@" --build "$build" --out build/soak
