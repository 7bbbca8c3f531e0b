#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# `pcache check` and `pcache dump` on images with one thing wrong: what is wrong is named with its severity and media offset, the exit
# code says whether it is damage, nothing else is reported as damage, and the image is not touched. The images come from pcache-craft, which knows
# what must be said of each; then random bytes are damaged, and both commands must end in time with a known exit code.
#
# FUZZ_IMAGES (default 60): random damages.
set -u
. "$(dirname "$0")/lib.sh"

FUZZ_IMAGES=${FUZZ_IMAGES:-60}
CRAFT=$BIN_DIR/pcache-craft

needs "$CRAFT" "$PCACHE" jq
scratch
image=$DISK_DIR/image
faults=0

say() {
	echo "$variant: $*" >&2
	faults=$((faults + 1))
}

# check_variant EXPECTED: one line "SEVERITY @OFFSET", or empty.
check_variant() {
	before=$(sha256sum <"$image")
	"$PCACHE" check "$image" >"$DISK_DIR/out" 2>"$DISK_DIR/err"
	code=$?
	case $1 in
	damage*) wanted=3 ;;
	*) wanted=0 ;;
	esac
	[ $code -eq $wanted ] || say "exit code $code instead of $wanted"
	[ -z "$1" ] || grep -q "^$1: " "$DISK_DIR/out" || { say "not said: $1"; cat "$DISK_DIR/out" >&2; }
	[ -n "$1" ] || ! grep -E '^(damage|repair|note) ' "$DISK_DIR/out" >&2 || say "a sound image has problems"
	[ $wanted -eq 3 ] || ! grep -E '^damage ' "$DISK_DIR/out" >&2 || say "damage was reported"
	[ ! -s "$DISK_DIR/err" ] || { say "messages on stderr"; cat "$DISK_DIR/err" >&2; }
	"$PCACHE" check --json "$image" >"$DISK_DIR/json"
	[ $? -eq $wanted ] || say "another exit code with --json"
	severity=${1%% *}
	[ -z "$severity" ] || [ "$(jq "[.problems[] | select(.severity == \"$severity\")] | length > 0" "$DISK_DIR/json")" = true ] ||
		say "JSON does not say it"
	"$PCACHE" dump "$image" >"$DISK_DIR/dump" 2>&1
	code=$?
	[ $code -eq 0 ] || [ "$variant" = super_both_damaged ] || say "dump ends with $code"
	[ "$before" = "$(sha256sum <"$image")" ] || say "the image was changed"
}

for variant in $("$CRAFT"); do
	expected=$("$CRAFT" "$image" "$variant") || fail "cannot craft $variant"
	check_variant "$expected"
done

# --no-data finds no damaged data, but all else.
variant=no-data
"$CRAFT" "$image" clean_data_damaged >/dev/null
"$PCACHE" check --no-data "$image" >"$DISK_DIR/out" || say "data was read with --no-data"
"$CRAFT" "$image" chain_with_gap >/dev/null
"$PCACHE" check --no-data "$image" >"$DISK_DIR/out" && say "damage of the log was missed with --no-data"

# Shorter than the superblock says: damage at the end of the file. A file with holes: an open would refuse it.
variant=shortened
"$CRAFT" "$image" sound >/dev/null
truncate -s 3M "$image"
"$PCACHE" check "$image" >"$DISK_DIR/out"
[ $? -eq 3 ] && grep -q '^damage @0x300000: ' "$DISK_DIR/out" || say "not found"
variant=holes
"$CRAFT" "$image" sound >/dev/null
fallocate -p -o 3145728 -l 65536 "$image" 2>/dev/null && {
	"$PCACHE" check "$image" >"$DISK_DIR/out"
	[ $? -eq 3 ] && grep -q '^damage: .*holes' "$DISK_DIR/out" || say "not found"
}

# What cannot be checked is no damage: exit code 1 and one line.
variant=uncheckable
head -c 1048576 /dev/zero >"$image"
for path in "$image" "$DISK_DIR" "$DISK_DIR/missing"; do
	"$PCACHE" check "$path" >"$DISK_DIR/out" 2>"$DISK_DIR/err"
	code=$?
	[ $code -eq 1 ] && [ "$(wc -l <"$DISK_DIR/err")" -eq 1 ] && grep -q "^pcache: $path: .*; " "$DISK_DIR/err" || say "$path: exit code $code"
done

# Any bytes: an end in time with a known exit code.
"$CRAFT" "$DISK_DIR/sound" sound >/dev/null
"${PYTHON:-python3}" - "$PCACHE" "$DISK_DIR/sound" "$image" "$FUZZ_IMAGES" <<'END' || { variant=fuzz; say "see above"; }
import json, random, subprocess, sys

pcache, sound, image, number = sys.argv[1:4] + [int(sys.argv[4])]
sound = open(sound, "rb").read()
end = len(sound)
regions = [(0, 256), (4096, 4160), (8192, 8192 + 64 * 60), (65536, 65536 + 640), (131072, 131072 + 32768),
           (end - 12288, end - 8192), (end - 8192, end - 8128), (end - 4096, end - 3840)]
faults = 0
for seed in range(number):
    rng = random.Random(seed)
    data = bytearray(sound)
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(*rng.choice(regions))] = rng.randrange(256)
    if rng.random() < 0.1:
        data = data[: rng.randrange(end)]
    open(image, "wb").write(data)
    for arguments in (["check"], ["check", "--json"], ["dump"]):
        run = subprocess.run([pcache] + arguments + [image], capture_output=True, timeout=60)
        if run.returncode not in (0, 1, 3):
            print("seed", seed, arguments, run.returncode, run.stderr[-400:])
            faults += 1
        elif arguments[-1] == "--json" and run.stdout:
            json.loads(run.stdout)
sys.exit(faults != 0)
END

[ $faults -eq 0 ] || fail "$faults faults"
echo "$("$CRAFT" | wc -l) variants, $FUZZ_IMAGES random damages"
