#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Takes every fence, flush and sync of the library out in turn and runs the crash simulator: each must be missed. Prints one line per call site; exits 1 if one
# was not missed. A site without which nothing breaks is either superfluous or guards against what the simulator does not model; those that are
# known carry their proof in tests/sim/fence_gate.known, one "file:function operation" a line.
# Usage: fence_gate.sh PATH/pcache-crash-sim [SECONDS per site] [SEED]

set -u
sim=$1
seconds=${2:-30}
seed=${3:-1}
known=$(dirname "$0")/fence_gate.known
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$sim" --seeds 60 --seed "$seed" --sites 2>/dev/null | grep '^0x' | while read -r offset op calls; do
	where=$(addr2line -fie "$sim" "$(printf '0x%x' $((offset - 1)))" | paste - - | grep -v 'media/media.h' | head -1 |
		awk '{n = split($2, path, "/"); sub(/ .*/, "", path[n]); print path[n] ":" $1}')
	"$sim" --seconds "$seconds" --seed "$seed" --no-shrink --json --skip-site "$offset" >"$out/json" 2>"$out/text"
	line=$(grep WRONG "$out/text" | head -1)
	states=$(sed 's/.*"states": \([0-9]*\).*/\1/' "$out/json")
	if [ -n "$line" ]; then
		echo "found   $op $where ($calls calls) after $states states"
	elif grep -qs "^$(echo "$where" | sed 's/:[0-9]*:/:/') $op " "$known"; then
		echo "known   $op $where ($calls calls), not found in $states states"
	else
		echo "MISSED  $op $where ($calls calls), not found in $states states"
		echo x >>"$out/missed"
	fi
done
[ ! -e "$out/missed" ]
