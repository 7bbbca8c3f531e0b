#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Instructions per operation, counted by callgrind, against those that are recorded in instructions.expected. More than the margin above is a failure; so is
# far below, because a record that is too high lets the next loss pass. After a change that is meant, from the folder of the build:
#
#   PCACHE_BIN_DIR=$PWD/bin PCACHE_BUILD_DIR=$PWD sh ../../tests/bench/test_instructions.sh --update
#
# Instructions are no times: no fence and no cache miss shows. They are the same on every run, though, so a loss of a few percent is seen where times would hide it.
# valgrind knows no AVX-512, so the library takes its AVX2 paths here. Counts depend on compiler and build type; others than the recorded ones are skipped.
set -u
here=$(cd "$(dirname "$0")" && pwd)
expected=$here/instructions.expected
bin=${PCACHE_BIN_DIR:-$here/../../build/release/bin}
build=${PCACHE_BUILD_DIR:-$bin/..}

skip() { echo "SKIPPED: $*"; exit 77; }

[ -z "${PCACHE_SANITIZE:-}" ] || skip "a build with sanitizers"
[ -x "$bin/pcache-instructions" ] || skip "pcache-instructions was not built"
command -v valgrind >/dev/null 2>&1 || skip "valgrind is missing"
grep -qw avx2 /proc/cpuinfo || skip "no AVX2"

value() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
cc=${PCACHE_CC:-$(value CMAKE_C_COMPILER)}
case $("$cc" --version | head -n 1) in
*clang*) compiler=clang ;;
*) compiler=gcc ;;
esac
kind="$compiler-$("$cc" -dumpversion | cut -d. -f1) $(value CMAKE_BUILD_TYPE) $(uname -m)"

tmp=$(mktemp -d) || exit 1
if [ -w /dev/shm ]; then place=$(mktemp -d /dev/shm/pcache-test.XXXXXX) || exit 1; else place=$tmp; fi
trap 'rm -rf "$tmp" "$place"' EXIT
trap 'exit 130' INT TERM HUP

if [ "${1:-}" != --update ]; then
	recorded=$(sed -n 's/^# build: //p' "$expected")
	[ "$kind" = "$recorded" ] || skip "this is $kind; recorded was $recorded"
fi

# The C library copies by "rep movs" on some processors, which counts as one instruction or as thousands.
tunables=glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824
(cd "$tmp" && LD_BIND_NOW=1 GLIBC_TUNABLES=$tunables PMEM2_FORCE_GRANULARITY=CACHE_LINE valgrind --tool=callgrind --callgrind-out-file=out --toggle-collect='count_*' \
	--compress-strings=no --compress-pos=no "$bin/pcache-instructions" "$place/cache" >ops 2>log) || { cat "$tmp/log"; echo "FAILED: the program under valgrind"; exit 1; }

# The function's own instructions, and those of what it calls: every cost of its block.
count() {
	awk -v fn="fn=count_$1" '/^fn=/ { on = $0 == fn } on && /^[0-9+*-]/ { sum += $2 } END { print sum + 0 }' "$tmp/out"
}

margin_percent=3
faults=0
: >"$tmp/now"
while read -r name ops; do
	instructions=$(count "$name")
	[ "$instructions" -gt "$ops" ] || { echo "FAILED: nothing was counted for $name"; exit 1; }
	per_op=$((instructions / ops))
	echo "$name $per_op" >>"$tmp/now"
	was=$(sed -n "s/^$name //p" "$expected" 2>/dev/null)
	if [ "${1:-}" = --update ]; then
		echo "$name: $per_op (was ${was:-unknown})"
	elif [ -z "$was" ]; then
		echo "$name: $per_op, but nothing is recorded"
		faults=$((faults + 1))
	elif [ $((per_op * 100)) -gt $((was * (100 + margin_percent))) ]; then
		echo "$name: $per_op instructions, recorded are $was: a loss. Find it with callgrind_annotate, or record it with --update and say why."
		faults=$((faults + 1))
	elif [ $((per_op * 100)) -lt $((was * (100 - 3 * margin_percent))) ]; then
		echo "$name: $per_op instructions, recorded are $was: a gain. Record it with --update, so that it stays."
		faults=$((faults + 1))
	else
		echo "$name: $per_op (recorded $was)"
	fi
done <"$tmp/ops"
[ -s "$tmp/now" ] || { echo "FAILED: nothing was counted"; exit 1; }

if [ "${1:-}" = --update ]; then
	{
		echo "# Instructions per operation, see test_instructions.sh. Written by its option --update."
		echo "# build: $kind"
		cat "$tmp/now"
	} >"$tmp/new" && cp "$tmp/new" "$expected" && echo "recorded in $expected"
	exit
fi
[ $faults -eq 0 ] || { echo "FAILED: $faults of $(wc -l <"$tmp/now")"; exit 1; }
echo "ok"
