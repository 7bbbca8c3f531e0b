#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# The crash simulator: a short green run, the violations that were found once, the same twice from the same seed, and each planted defect found within a bounded number of crash states.
# CRASH_SIM_SECONDS sets the length of the green run; CRASH_SIM_SEED its first seed.

set -eu
sim=$PCACHE_BIN_DIR/pcache-crash-sim
if [ ! -x "$sim" ]; then
	echo "no $sim"
	exit 77
fi
seconds=${CRASH_SIM_SECONDS:-15}
seed=${CRASH_SIM_SEED:-1}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# Green.
"$sim" --seconds "$seconds" --seed "$seed" --json >"$out/green" 2>"$out/green.err" || {
	echo "violation in the green run:"
	cat "$out/green.err"
	exit 1
}
cat "$out/green"
# Media was damaged in every zone (a sanitizer is too slow to promise that).
damaged=$(sed -n 's/.*"damaged": {\([^}]*\)}.*/\1/p' "$out/green")
case "$damaged" in
'' | *': 0'*)
	if [ -z "${PCACHE_SANITIZE:-}" ]; then
		echo "a zone was never damaged: $damaged"
		exit 1
	fi
	;;
esac

# What was found once.
"$sim" --replay-file "$PCACHE_SOURCE_DIR/tests/sim/kept_seeds.txt" 2>"$out/kept.err" || {
	echo "a kept violation is back:"
	cat "$out/kept.err"
	exit 1
}

# The same seed gives the same states, down to what was recovered of each; tests/run.sh compares the builds.
states=20000
[ -z "${PCACHE_SANITIZE:-}" ] || states=4000
for i in 1 2; do
	"$sim" --states $states --seed 100 --json | sed 's/"states_per_minute": [0-9]*, //' >"$out/same$i"
done
cmp "$out/same1" "$out/same2"
grep -q '"digest": "[0-9a-f]*"' "$out/same1"
"$sim" --states $states --seed 101 --json | sed 's/.*"digest"//' >"$out/other"
if grep -qF "$(cat "$out/other")" "$out/same1"; then
	echo "another seed has the same digest"
	exit 1
fi

# A thorough run takes every crash point: each fence, each call of the backing, each return, those inside opens too.
"$sim" --thorough --depth 1 --seed 4 --seeds 1 --json >"$out/thorough"
cat "$out/thorough"
points=$(sed -n 's/.*"points": \([0-9]*\),.*/\1/p' "$out/thorough")
grep -q "\"points\": $points, \"points_taken\": $points," "$out/thorough"
[ "$points" -gt 100 ]

# Every planted defect is found, and as a violation, not as a death of the program.
for plant in no-write-fence kset-after-ack newest-copy-first no-voids-at-open stage-kept stage-one-run stage-not-read hold-dirty hold-no-erase around-first; do
	if "$sim" --plant "$plant" --states 300000 --no-shrink --json >"$out/$plant" 2>"$out/$plant.err"; then
		echo "plant $plant was not found:"
		cat "$out/$plant"
		exit 1
	fi
	grep -q '^VIOLATION' "$out/$plant.err" || {
		echo "plant $plant ended otherwise:"
		cat "$out/$plant.err"
		exit 1
	}
	echo "plant $plant: $(cat "$out/$plant")"
done
