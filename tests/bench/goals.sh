#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Measures every line of the table in docs/PERFORMANCE.md and prints it as Markdown: sh tests/bench/goals.sh [LINE...]
#
#   PCACHE_BIN_DIR=      programs (default build/release/bin)
#   PCACHE_MEMORY_DIR=   persistent memory, or a tmpfs that stands in for it; huge pages want its mount option huge=advise (default /dev/shm)
#   PCACHE_DISK_DIR=     a folder on a disk (default TMPDIR)
#   PCACHE_BENCH_WRAP=   a command in front of each run, such as one that keeps the machine quiet
#   PCACHE_BENCH_GIB=    largest cache in memory, in GiB, for the line with 16 M extents; it wants 14 (default 4: then 4 M extents)
#   SECONDS_EACH=        seconds per job (default 2)
#
# Lines beyond the table: caches, extents, growthreads (how cost grows). Needs jq. A line takes seconds; nothing is judged by its exit status.
set -u
here=$(cd "$(dirname "$0")" && pwd)
bin=${PCACHE_BIN_DIR:-$here/../../build/release/bin}
memory=${PCACHE_MEMORY_DIR:-/dev/shm}
disk=${PCACHE_DISK_DIR:-${TMPDIR:-/tmp}}
each=${SECONDS_EACH:-2}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

# bench ARGUMENT...: the first job's object is in $tmp/job.
bench() {
	shown="pcache bench $*"
	# shellcheck disable=SC2086
	${PCACHE_BENCH_WRAP:-} "$bin/pcache" bench --json --seconds "$each" "$@" >"$tmp/out" 2>"$tmp/err" || { echo "| $shown | failed: $(head -n 1 "$tmp/err") | | |"; return 1; }
	jq '.jobs[0]' "$tmp/out" >"$tmp/job"
}

in_memory() { bench --cache "$memory" "$@"; }
key() { jq -r "$1" "$tmp/job"; }
row() { printf '| %s | %s | %s | %s |\n' "$1" "$2" "$3" "\`$(echo "$shown" | sed "s#--cache $memory ##; s#--cache $disk#--cache DISK#")\`"; }

ratio() { # name, goal and aim
	row "$1" "$2" "$(key '"\(.ratio * 1000 | round / 1000) (\(.ratio_min * 1000 | round / 1000) to \(.ratio_max * 1000 | round / 1000)); \(.ns_per_op | round) ns, limit \(.limit_ns_per_op | round)"')"
}

small="--size 512M --cache-size 2G"
line_write() { in_memory --job randwrite $small --writeback off && ratio "4 KiB random write, 1 thread" "0.75 / 0.85"; }
line_write2() { in_memory --job randwrite $small --writeback off --threads 2 && ratio "the same, 2 threads" "0.70 / 0.85"; }
line_write512() { in_memory --job randwrite --bs 512 --size 128M --cache-size 1G --writeback off && ratio "512 B random write" "0.55 / 0.70"; }
line_spread() {
	if [ "${PCACHE_BENCH_GIB:-4}" -ge 14 ]; then sizes="--size 8G --spread 64G --cache-size 13G"; else sizes="--size 2G --spread 16G --cache-size 3500M"; fi
	# shellcheck disable=SC2086
	in_memory --job randwrite --bs 512 $sizes --writeback off --warm-up set && ratio "512 B random write, $(key '.extents / 1048576 | round') M extents far apart" "0.40 / 0.55"
}
line_write64k() { in_memory --job randwrite --bs 64k $small --writeback off && ratio "64 KiB write" "0.90 / 0.95"; }
line_write1m() { in_memory --job seqwrite --bs 1M $small --writeback off && ratio "1 MiB sequential write" "0.95 / 0.98"; }
line_read() { in_memory --job randread $small && ratio "4 KiB random read hit, CRC verified" "0.75 / 0.90"; }
line_readnocrc() { in_memory --job randread $small --data-crc off && ratio "4 KiB random read hit, CRC off" "0.75 / 0.90"; }
line_batch() { in_memory --job batch $small --writeback off && ratio "atomic batch of 16 x 4 KiB" "0.80 / 0.90"; }
line_flush() {
	in_memory --job writeflush $small --writeback off && row "write + flush each, the cache full: the flush adds" "150 ns / 100 ns" "$(key '"\(.flush_adds_ns | round) ns (\(.flush_adds_ns_min | round) to \(.flush_adds_ns_max | round))"')"
	# There each flush is an epoch, so each version is written back, and a writer goes in the pace of that. Here there is room.
	shown="pcache-bench-flush --jobs line"
	${PCACHE_BENCH_WRAP:-} "$bin/pcache-bench-flush" --jobs line --memory "$memory" --json >"$tmp/out" 2>"$tmp/err" || { echo "| $shown | failed: $(head -n 1 "$tmp/err") | | |"; return 1; }
	row "the same, drained now and then: its own cost" "150 ns / 100 ns" "$(jq -r '.results[] | select(.what == "the flush adds") | "\(.ns_per_op | round) ns (\(.min | round) to \(.max | round))"' "$tmp/out")"
}
line_page() { bench --cache "$disk" --job writeflush --size 64M --cache-size 512M && ratio "page granularity, write + flush against memcpy and msync" "0.77 / 0.91 (1.3 x / 1.1 x its time)"; }
line_page64() { bench --cache "$disk" --job writeflush --flush-every 64 --size 64M --cache-size 512M && ratio "page granularity, 64 writes per flush against pwrite + fdatasync each" "20 / 40"; }
line_drain() { in_memory --job drain --size 1G --cache-size 2G --ordering batch && ratio "drain of 1 GiB of random 4 KiB, ordering batch" "0.85 / 0.95"; }
line_drainstrict() { in_memory --job drain --size 1G --cache-size 2G --ordering strict && ratio "the same, ordering strict" "reported"; }
line_miss() { in_memory --job miss $small && ratio "4 KiB read miss on a file" "0.80 / 0.95"; }
line_open() {
	in_memory --job open --bs 512 --size 2G --cache-size 3500M && row "open with $(key '.extents / 1048576 | round') M keys of 512 B" "8 M/s / 20 M/s" "$(key '"\(.iops / 10000 | round / 100) M keys/s (\(1e5 / .ns_per_op_max | round / 100) to \(1e5 / .ns_per_op_min | round / 100)); \(.ratio * 1000 | round / 1000) of reading the log"')"
}
line_dram() {
	in_memory --job randwrite $small --writeback off && row "DRAM per cached extent, random" "24 B / 16 B" "$(key '"\(.dram_bytes_per_extent * 10 | round / 10) B (\(.extents) extents)"')"
	row "media bytes per byte at 4 KiB" "1.03 / 1.02" "$(key '"\(.media_bytes_per_byte * 10000 | round / 10000)"')"
}
line_threads() {
	in_memory --job randwrite $small --threads 2 --writeback off || return
	two=$(key .iops)
	in_memory --job randwrite $small --threads 16 --writeback off && row "16 threads against 2 threads" "0.90 / 1.00" "$(key "\"\\(.iops / $two * 100 | round / 100); \\(.iops / 1000 | round) k/s against \\($two / 1000 | round) k/s\"")"
}
line_p99() {
	in_memory --job randwrite $small --writeback off || return
	idle=$(key .p99_ns)
	in_memory --job randwrite $small --writeback flat && row "p99 of 4 KiB writes, write-back flat out against idle" "3 x / 2 x" "$(key "\"\\(.p99_ns / $idle * 100 | round / 100) x; \\(.p99_ns) ns against $idle ns\"")"
}

# How cost grows; not among the lines that run without arguments.
grown() { row "$1" "" "$(key '"\(.ns_per_op | round) ns (\(.ns_per_op_min | round) to \(.ns_per_op_max | round)); ratio \(.ratio * 1000 | round / 1000); \(.iops / 1000 | round) k/s; \(.dram_bytes_per_extent * 10 | round / 10) B/extent"')"; }
line_caches() {
	for size in 256M 1G 4G; do in_memory --job randwrite --size 128M --cache-size $size --writeback off && grown "4 KiB random write, cache of $size"; done
}
line_extents() {
	for sizes in "--size 8M --spread 64M" "--size 64M --spread 512M" "--size 512M --spread 4G" "--size 1G --spread 8G"; do
		# shellcheck disable=SC2086
		in_memory --job randwrite --bs 512 $sizes --cache-size 2G --writeback off --warm-up set && grown "512 B random write, $(key .extents) extents"
		# shellcheck disable=SC2086
		in_memory --job randread --bs 512 $sizes --cache-size 2G --writeback off && grown "512 B random read, $(key .extents) extents"
	done
}
line_growthreads() {
	for threads in 1 2 4 8 16; do in_memory --job randwrite $small --writeback off --threads $threads && grown "4 KiB random write, $threads threads"; done
	for threads in 1 2 4 8 16; do in_memory --job randread $small --threads $threads && grown "4 KiB random read, $threads threads"; done
}

[ $# -gt 0 ] || set -- write write2 write512 spread write64k write1m read readnocrc batch flush page page64 drain drainstrict miss open dram threads p99
command -v jq >/dev/null 2>&1 || { echo "jq is missing" >&2; exit 1; }
echo "| line | goal / aim | median (least to most) | command |"
echo "|---|---|---|---|"
for line; do
	"line_$line"
done
