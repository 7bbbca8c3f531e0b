#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# The scheduler simulator: a short green run, the seeds that found something once, the same twice from the same seed, and planted defects of concurrency, each found within a
# bounded number of crash states. SCHED_SIM_SECONDS sets the length of the green run; SCHED_SIM_SEED its first seed.

set -eu
sim=$PCACHE_BIN_DIR/pcache-sched-sim
if [ ! -x "$sim" ]; then
	echo "no $sim"
	exit 77
fi
seconds=${SCHED_SIM_SECONDS:-10}
seed=${SCHED_SIM_SEED:-1}
states=1000
plants="fence-of-other range-unlocked epoch-early fill-over-write erase-keeps-fills no-pin peek-unchecked taken-is-pinned mark-too-high mark-skips-shard round-before sync-too-high
	stage-gone-early publish-late wb-past-inflight settled-early drain-forgets tail-past-inflight clean-stale lost-wakeup"
if [ -n "${PCACHE_SANITIZE:-}" ]; then
	states=200
	plants="range-unlocked tail-past-inflight"
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# Green.
"$sim" --seconds "$seconds" --seed "$seed" --json >"$out/green" 2>"$out/green.err" || {
	echo "violation in the green run:"
	cat "$out/green.err"
	exit 1
}
cat "$out/green"
grep -q '"depth": 2' "$out/green"

# Writers beside worker threads were slowed down, and waited for space.
"$sim" --seed 20 --seeds 1 --json >"$out/slow"
cat "$out/slow"
! grep -q '"slowed": 0,' "$out/slow"
! grep -q '"waited": 0,' "$out/slow"

# Seeds that found something once: without the defect nothing is found, with it something is, there or soon after, should the seed draw something else by now.
grep -v '^#' "$PCACHE_SOURCE_DIR/tests/sim/kept_sched_seeds.txt" | while read -r kept plant what; do
	"$sim" --seed "$kept" --seeds 1 --json >"$out/kept" 2>"$out/kept.err" || {
		echo "seed $kept again ($what):"
		cat "$out/kept.err"
		exit 1
	}
	[ -z "${PCACHE_SANITIZE:-}" ] || continue
	[ "$plant" != none ] || continue
	if "$sim" --seed "$kept" --states 200000 --plant "$plant" --json >"$out/kept" 2>"$out/kept.err" ||
		! grep -q '^VIOLATION' "$out/kept.err"; then
		echo "$plant is not found any more from seed $kept on ($what):"
		cat "$out/kept" "$out/kept.err"
		exit 1
	fi
	echo "kept $kept $plant: $(sed -n 's/.*\("states": [0-9]*\).*\("seed": [0-9]*\).*/\1, \2/p' "$out/kept")"
done

# The same seed gives the same schedules and states, another one gives others.
digest_of() # first seed
{
	"$sim" --states "$states" --seed "$1" --json 2>/dev/null | sed 's/.*"digest": "\([0-9a-f]*\)".*/\1/'
}
first=$(digest_of 100)
again=$(digest_of 100)
other=$(digest_of 101)
echo "digests $first $again $other"
[ ${#first} -eq 16 ]
[ "$first" = "$again" ]
[ "$first" != "$other" ]

# Planted defects are found, and as violations, not as a death of the program. The rest of them: --plant without a name lists all.
for plant in $plants; do
	if ASAN_OPTIONS=detect_leaks=0 "$sim" --plant "$plant" --states 50000 --json >"$out/$plant" 2>"$out/$plant.err"; then
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
