#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# The reducer, end to end, with each planted defect: it is found and reduced to few operations; the line for --replay finds it again, and finds nothing without the
# defect; the test that was written for it compiles unchanged, fails with the defect and passes without.

set -eu
sim=$PCACHE_BIN_DIR/pcache-crash-sim
lib=$PCACHE_BUILD_DIR/lib
if [ ! -x "$sim" ] || [ ! -e "$lib/libpcache_plants_testlib.a" ]; then
	echo "no $sim"
	exit 77
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
flags="-std=gnu11 -Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wstrict-prototypes -Wmissing-prototypes -Werror"
[ -z "${PCACHE_SANITIZE:-}" ] || flags="$flags -fsanitize=$PCACHE_SANITIZE"

fail() {
	echo "plant $1: $2"
	cat "$out/$1.err"
	exit 1
}

# compile TEST LIBRARY PROGRAM
compile() {
	uring=$(pkg-config --libs liburing 2>/dev/null) || uring=
	# shellcheck disable=SC2086
	"$PCACHE_CC" $flags -I"$PCACHE_SOURCE_DIR/tests" -I"$PCACHE_SOURCE_DIR/src" -I"$PCACHE_SOURCE_DIR/include" "$1" \
		"$lib/lib${2}_testlib.a" "$lib/lib${2}_internal.a" -lcmocka -lpmem2 -lisal $uring -lpthread -lm -ldl -o "$3"
}

for plant in no-write-fence kset-after-ack newest-copy-first no-voids-at-open; do
	test="$out/test_kept_$plant.c"
	if "$sim" --plant "$plant" --states 300000 --emit-test "$test" >/dev/null 2>"$out/$plant.err"; then
		fail "$plant" "not found"
	fi
	if grep -q 'NOT REPRODUCED' "$out/$plant.err"; then
		fail "$plant" "not reproduced"
	fi
	replay=$(sed -n 's/^again: .*--replay "\(.*\)"$/\1/p' "$out/$plant.err")
	[ -n "$replay" ] || fail "$plant" "no line for --replay"
	if "$sim" --plant "$plant" --no-shrink --replay "$replay" >/dev/null 2>"$out/replay.err"; then
		fail "$plant" "the replay does not find it: $replay"
	fi
	grep -q '^VIOLATION' "$out/replay.err" || fail "$plant" "the replay ended otherwise"
	"$sim" --replay "$replay" >/dev/null 2>"$out/replay.err" || fail "$plant" "the replay fails without the defect: $replay"
	steps=$(grep -c '  *step [0-9]*:' "$out/$plant.err") || true
	[ "$steps" -le 40 ] || fail "$plant" "$steps operations are left"
	compile "$test" pcache_plants "$out/$plant" || fail "$plant" "the test does not compile"
	if PCACHE_SIM_PLANT=$plant "$out/$plant" >"$out/run" 2>&1; then
		fail "$plant" "the test passes with the defect"
	fi
	grep -q WRONG "$out/run" || fail "$plant" "the test does not say what is wrong"
	"$out/$plant" >"$out/run" 2>&1 || {
		cat "$out/run"
		fail "$plant" "the test fails without the defect"
	}
	echo "plant $plant: $steps operations left; $replay"
done

# The helper library without defects takes the same source.
compile "$out/test_kept_no-write-fence.c" pcache "$out/plain"
"$out/plain" >/dev/null 2>&1

# What cannot be read is said, and is no success.
if "$sim" --replay "v1 seed=1" 2>"$out/err"; then
	exit 1
fi
grep -q 'media= is missing' "$out/err"
