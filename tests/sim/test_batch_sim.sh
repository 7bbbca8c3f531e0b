#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# The batch simulator: a short green run that saw batches of 4096 ranges, the same twice from the same seed, and planted defects that it finds. BATCH_SIM_STATES sets the length of the
# green run.

set -eu
sim=$PCACHE_BIN_DIR/pcache-batch-sim
if [ ! -x "$sim" ]; then
	echo "no $sim"
	exit 77
fi
states=${BATCH_SIM_STATES:-600}
plants="no-write-fence kset-after-ack batch-in-two"
if [ -n "${PCACHE_SANITIZE:-}" ]; then
	states=60
	plants="kset-after-ack batch-in-two"
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

for run in 1 2; do
	"$sim" --states "$states" --seed 1 --json >"$out/$run" || { cat "$out/$run"; exit 1; }
done
cat "$out/1"
cmp "$out/1" "$out/2"
grep -q '"ranges_most": 4096' "$out/1"
# Both outcomes were seen.
[ -n "${PCACHE_SANITIZE:-}" ] || ! grep -qE '"(old|new)": 0,' "$out/1"

for plant in $plants; do
	if "$sim" --states "$states" --seed 1 --plant "$plant" >"$out/plant"; then
		echo "$plant is not found"
		exit 1
	fi
	grep -q '^violation after' "$out/plant" || { cat "$out/plant"; exit 1; }
	echo "$plant: $(head -n 1 "$out/plant")"
done
