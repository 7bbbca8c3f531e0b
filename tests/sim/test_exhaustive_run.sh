#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Short sequences of operations with crashes at every point: all of length 1, a part of those of length 2 (EXHAUSTIVE_PART, as "7/40"). No crash point is left out, their
# number is what the formula says, and planted defects are found.

set -eu
sim=$PCACHE_BIN_DIR/pcache-crash-sim
if [ ! -x "$sim" ]; then
	echo "no $sim"
	exit 77
fi
if [ -n "${PCACHE_SANITIZE:-}" ]; then
	one=1/32
	two=${EXHAUSTIVE_PART:-1/8000}
else
	one=1/1
	two=${EXHAUSTIVE_PART:-1/160}
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# run NAME OPTIONS...
run() {
	name=$1
	shift
	"$sim" "$@" --json >"$out/$name" 2>"$out/err" || {
		echo "violation in $*:"
		cat "$out/err"
		exit 1
	}
	grep -q '"points_left_out": 0,' "$out/$name" || {
		echo "crash points were left out in $*"
		exit 1
	}
	echo "$*: $(sed 's/, "reached.*//' "$out/$name")"
}

run one --exhaustive 1 --part "$one" --images few
run two --exhaustive 2 --part "$two"
if [ "$one" = 1/1 ]; then
	sequences=$("$sim" --help | sed -n 's/.*LEN 1: \([0-9]*\).*/\1/p')
	grep -q "\"sequences\": $sequences," "$out/one" || {
		echo "not all $sequences sequences were run"
		exit 1
	}
fi

for plant in no-write-fence kset-after-ack newest-copy-first no-voids-at-open; do
	if "$sim" --exhaustive 1 --plant "$plant" --no-shrink --json >"$out/$plant" 2>"$out/err"; then
		echo "plant $plant was not found"
		exit 1
	fi
	grep -q '^VIOLATION' "$out/err" || {
		cat "$out/err"
		exit 1
	}
	echo "plant $plant: $(sed 's/.*\("sequences": [0-9]*\).*/\1/' "$out/$plant")"
done
