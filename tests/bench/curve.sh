#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Throughput by number of threads, 4 KiB random writes and reads, as a table in Markdown.
#
#   sh tests/bench/curve.sh carry DIR        copies the tool, its shared libraries and this script to DIR, to be run on a machine that has none of them
#   sh curve.sh [THREADS...]                 measures (default 1 2 4 8 16 32)
#
#   PCACHE_BIN_DIR=      where the tool is (default: beside this script, else build/release/bin)
#   PCACHE_MEMORY_DIR=   persistent memory, or a tmpfs that stands in for it (default /dev/shm)
#   PCACHE_SIZES=        default "--size 2G --cache-size 8G"
set -eu
here=$(cd "$(dirname "$0")" && pwd)
bin=${PCACHE_BIN_DIR:-}
[ -n "$bin" ] || { if [ -x "$here/pcache" ]; then bin=$here; else bin=$here/../../build/release/bin; fi; }

if [ "${1:-}" = carry ]; then
	to=${2:?a folder}
	mkdir -p "$to/lib"
	cp "$bin/pcache" "$here/curve.sh" "$to/"
	# The loader and the C library belong together, so both travel.
	ldd "$bin/pcache" | sed -nE 's/.*=> (\/[^ ]*) .*/\1/p; s/^[[:space:]]*(\/[^ ]*ld-linux[^ ]*) .*/\1/p' | while read -r library; do cp -L "$library" "$to/lib/"; done
	echo "$to: run 'sh curve.sh' there"
	exit
fi

loader=$(find "$here/lib" -name 'ld-linux*' 2>/dev/null | head -n 1)
tool() {
	if [ -n "$loader" ] && [ "$bin" = "$here" ]; then "$loader" --library-path "$here/lib" "$bin/pcache" "$@"; else "$bin/pcache" "$@"; fi
}

# measure JOB THREADS: IOPS, the limit's IOPS and the ratio.
measure() {
	# shellcheck disable=SC2086
	tool bench --json --cache "${PCACHE_MEMORY_DIR:-/dev/shm}" ${PCACHE_SIZES:---size 2G --cache-size 8G} --seconds 2 --writeback off --job "$1" --threads "$2" |
		sed -nE 's/.*"limit_ns_per_op": ([0-9.]+), "ratio": ([0-9.]+), "iops": ([0-9]+).*/\1 \2 \3/p'
}

[ $# -gt 0 ] || set -- 1 2 4 8 16 32
echo "$(nproc) processors, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
echo "| threads | write k/s | times one thread | ratio to limit | read k/s | times one thread | ratio to limit |"
echo "|---|---|---|---|---|---|---|"
first_write=
first_read=
for threads; do
	write=$(measure randwrite "$threads")
	read=$(measure randread "$threads")
	first_write=${first_write:-${write##* }}
	first_read=${first_read:-${read##* }}
	echo "$threads $write $first_write $read $first_read" |
		awk '{ printf "| %d | %.0f | %.2f | %.2f | %.0f | %.2f | %.2f |\n", $1, $4 / 1000, $4 / $5, $3, $8 / 1000, $8 / $9, $7 }'
done
