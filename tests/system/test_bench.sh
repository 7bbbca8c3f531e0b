#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# pcache bench: every job runs and says in JSON what it must, on memory and on a disk; numbers fit together; nothing is left behind. No time is judged.
set -u
. "$(dirname "$0")/lib.sh"

needs "$PCACHE" jq
scratch
cd "$SHM_DIR" || exit 1
export TMPDIR="$DISK_DIR"
faults=0

# bench ARGUMENT...: runs it; the JSON is in $DISK_DIR/out.
bench() {
	what=$*
	"$PCACHE" bench --json "$@" >"$DISK_DIR/out" 2>"$DISK_DIR/err" || say "failed"
	[ ! -s "$DISK_DIR/err" ] || say "says something on stderr"
}

say() {
	echo "bench $what: $*" >&2
	cat "$DISK_DIR/err" "$DISK_DIR/out" >&2
	faults=$((faults + 1))
}

# expect WHAT FILTER: the filter gives true.
expect() {
	[ "$(jq "$2" "$DISK_DIR/out" 2>/dev/null)" = true ] || say "$1"
}

sane() {
	for key in job bs threads ns_per_op limit_ns_per_op ratio iops p50_ns p99_ns p999_ns max_ns ns_per_op_min ns_per_op_max limit_ns_per_op_min limit_ns_per_op_max \
		ratio_min ratio_max limit limit_copy_ns cpu_ns_per_op dram_bytes_per_extent media_bytes_per_byte busy_percent slices hit_percent timed_one_in; do
		expect "no $key" "[.jobs[] | has(\"$key\")] | length == $1 and all"
	done
	expect "numbers make no sense" '[.jobs[] | .ns_per_op > 0 and .limit_ns_per_op > 0 and .ratio > 0 and .iops > 0 and .cpu_ns_per_op > 0 and .slices >= 5] | all'
	expect "latencies are not in order" '[.jobs[] | .p50_ns > 0 and .p50_ns <= .p99_ns and .p99_ns <= .p999_ns and .p999_ns <= .max_ns] | all'
	expect "spreads do not hold their median" '[.jobs[] | .ns_per_op_min <= .ns_per_op and .ns_per_op <= .ns_per_op_max and .limit_ns_per_op_min <= .limit_ns_per_op] | all'
	expect "the ratio is something else" '[.jobs[] | (.limit_ns_per_op / .ns_per_op - .ratio) | fabs < 0.02] | all'
}

bench --job all --seconds 0.1 --size 4M --cache-size 64M --cache .
sane 10
expect "a write costs more media than it can" '[.jobs[] | select(.job | test("write|batch")) | .media_bytes_per_byte >= 1 and .media_bytes_per_byte < 1.5] | length == 4 and all'
expect "reads alone wrote something" '[.jobs[] | select(.job | test("read|miss")) | .media_bytes_per_byte == null] | length == 3 and all'
expect "misses hit" '[.jobs[] | select(.job == "miss") | .hit_percent == 0] == [true]'
expect "hits miss" '[.jobs[] | select(.job | test("read")) | .hit_percent == 100] | length == 2 and all'
expect "not all keys are opened" '[.jobs[] | select(.job == "open") | .extents == 1024] == [true]'
expect "a flush adds nothing that is known" '[.jobs[] | select(.job == "writeflush") | .flush_adds_ns != null] == [true]'
expect "a batch has another length" '[.jobs[] | select(.job == "batch") | .bytes_per_op == 65536] == [true]'
expect "extents take no memory" '[.jobs[] | select(.extents > 0) | .dram_bytes_per_extent > 4] | length == 9 and all'

bench --job randwrite,batch --seconds 0.1 --threads 2 --bs 1536 --size 1536k --cache-size 64M --cache . --data-crc off --commit flush
sane 2
# 8192 blocks of 512 bytes, far from each other: as many extents, none beside another, less what had to leave the cache for newer ones.
bench --job randwrite,randread --seconds 0.1 --bs 512 --size 4M --spread 1G --cache-size 64M --cache . --writeback off
sane 2
expect "the spread is lost" '[.jobs[] | .extents > 5000 and .extents <= 8192] | all'
# Write-back works: flat out in some slices at least, off in none.
bench --job randread --seconds 0.1 --size 4M --cache-size 64M --cache . --writeback off
expect "write-back worked although it is off" '.jobs[0].busy_percent == 0'
bench --job randwrite --seconds 0.1 --size 4M --cache-size 64M --cache . --writeback flat
expect "write-back did nothing" '.jobs[0].busy_percent > 0'
bench --job miss --fill on --seconds 0.1 --size 4M --cache-size 64M --cache .
expect "nothing was filled" '.jobs[0].hit_percent > 0 and .jobs[0].extents > 0'

# Page granularity, on a disk.
bench --job randwrite,randread,writeflush,batch --seconds 0.1 --size 1M --cache-size 64M --cache "$DISK_DIR"
if [ "$(jq -r .granularity "$DISK_DIR/out")" = page ]; then
	sane 4
	expect "the limit of a flush is no msync" '.jobs[] | select(.job == "writeflush") | .limit | test("msync")'
	bench --job writeflush --flush-every 64 --seconds 0.1 --size 1M --cache-size 64M --cache "$DISK_DIR"
	sane 1
	expect "the limit of a group is no fdatasync" '.jobs[0].limit | test("pwrite and fdatasync")'
fi

# As text: one bar per job, no colour and no width but what was asked for.
what=text
COLUMNS=80 LC_ALL=C "$PCACHE" bench --job randwrite,randread --seconds 0.1 --size 4M --cache-size 64M --cache . >"$DISK_DIR/out" 2>"$DISK_DIR/err" || say "failed"
[ "$(grep -c 'ratio [0-9]' "$DISK_DIR/out")" -eq 2 ] || say "not a ratio for each job"
[ "$(grep -cE '^  (pcache|limit ) +#+' "$DISK_DIR/out")" -eq 4 ] || say "not two bars for each job"
! grep -q "$(printf '\033')" "$DISK_DIR/out" || say "colour although this is no terminal"

# Interrupted while it sets up: nothing stays, either.
"$PCACHE" bench --job miss --size 64M --cache-size 256M --cache . >/dev/null 2>&1 &
CHILD=$!
tries=0
until [ -n "$(find . -name 'pcache-bench*')" ] || [ $tries -ge 200 ]; do
	tries=$((tries + 1))
	sleep 0.01
done
kill "$CHILD" 2>/dev/null
wait "$CHILD"
CHILD=

[ -z "$(find . "$DISK_DIR" -name 'pcache-bench*')" ] || { echo "files are left" >&2; faults=$((faults + 1)); }
[ $faults -eq 0 ] || fail "$faults faults"
echo "ok"
