#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Mutation gate: plants one defect after the other in a copy of the tree, builds the one program that should find it, runs it, and says whether and after how many crash
# states it was found. Each NAME.patch beside this file is one defect; the comment lines at its start say what it is:
#
#   # Item: what shared lists call it          # Breaks: what it does          # Guarantee: which promise it breaks
#   # Tool: program                            crash (pcache-crash-sim, also if the line is missing), sched (pcache-sched-sim), or test NAME [CASE] (program test_NAME, exit status; with CASE, that case has to fail)
#   # Expect: survives                         it changes nothing; docs/MUTANTS.md has the proof
#
# The simulators run with --seed S --seconds N and nothing else: the usual mix of seeds has to find it.
#
# Usage: run.sh [--seconds N] [--seed S] [--markdown] [--check] [--keep DIR] [NAME...]
#   --seconds N   limit for one mutant (60)
#   --seed S      first seed (1)
#   --markdown    rows of a table instead of lines
#   --check       only look whether every patch still applies
#   --keep DIR    work in DIR and leave it there, so that the next run need not build everything
# Exits 1 if a mutant was not found (or was, though it should survive), does not apply, or does not build.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
seconds=60
seed=1
markdown=
check=
keep=
jobs=${PCACHE_JOBS:-1}

while [ $# -gt 0 ]; do
	case $1 in
	--seconds) seconds=$2; shift ;;
	--seed) seed=$2; shift ;;
	--markdown) markdown=1 ;;
	--check) check=1 ;;
	--keep) keep=$2; shift ;;
	-*) sed -n 's/^# \{0,1\}//; /^Usage/,/^Exits/p' "$0" >&2; exit 2 ;;
	*) break ;;
	esac
	shift
done

work=${keep:-$(mktemp -d)}
[ -n "$keep" ] || trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$work/tree" || exit 1
tree=$work/tree
build=$work/build
wrong=0

field() # patch, name of the comment line
{
	sed -n "/^--- /q; s/^# $2: //p" "$1"
}

# Files of the tree that are here now; a file that is the same keeps its time, so that it is not compiled again.
copy_tree()
{
	cd "$root" || exit 1
	if git rev-parse --git-dir >/dev/null 2>&1; then
		git ls-files
	else
		find CMake* cmake include src tests examples docs -type f
	fi | while read -r file; do
		[ -f "$file" ] || continue
		cmp -s "$file" "$tree/$file" && continue
		mkdir -p "$tree/$(dirname "$file")"
		cp "$file" "$tree/$file"
	done
}

apply() # patch, further options
{
	patch_file=$1
	shift
	patch -d "$tree" -p1 -s -N -F0 --no-backup-if-mismatch "$@" <"$patch_file" >"$work/patch.log" 2>&1
}

configure()
{
	[ -f "$build/build.ninja" ] && return
	cmake -S "$tree" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo "-DCMAKE_C_FLAGS_RELWITHDEBINFO=-O2 -g -DNDEBUG" -DPCACHE_TOOL=OFF \
		-DPCACHE_EXAMPLES=OFF >"$work/build.log" 2>&1 || {
		cat "$work/build.log"
		exit 1
	}
}

say() # name, item, tool, found, states, seed, seconds, violation
{
	if [ -n "$markdown" ]; then
		printf '| `%s` | %s | %s | %s | %s | %s | %s | %s |\n' "$1" "$2" "$3" "$4" "$5" "$6" "$7" "$(echo "$8" | cut -c 1-100 | sed 's/|/\//g')"
	else
		printf '%-10s %-36s %9s states, seed %6s, %5s s  %s\n' "$4" "$1" "$5" "$6" "$7" "$(echo "$8" | cut -c 1-140)"
	fi
}

# "test NAME [CASE]": sets the program, and what it has to say.
case_of_tool() # tool
{
	# shellcheck disable=SC2086
	set -- $1
	program=test_$2
	wanted="FAILED|runtime error|AddressSanitizer|Assertion"
	[ -z "${3:-}" ] || wanted="\\[  FAILED  \\] $3\$"
}

# Runs what should find it. Sets found, states, at_seed, violation.
run_tool() # tool
{
	states=-
	at_seed=-
	violation=
	case $1 in
	test\ *)
		case_of_tool "$1"
		timeout "$((seconds * 5))" "$build/bin/$program" >"$work/out" 2>"$work/err"
		status=$?
		violation="$(cat "$work/out" "$work/err" | grep -m 1 -E "$wanted")"
		;;
	*)
		program=pcache-$1-sim
		options=
		[ "$1" = crash ] && options=--no-shrink
		timeout "$((seconds + 300))" "$build/bin/$program" --seed "$seed" --seconds "$seconds" $options --json >"$work/out" 2>"$work/err"
		status=$?
		states=$(sed -n 's/.*"states": \([0-9]*\).*/\1/p' "$work/out")
		at_seed=$(sed -n 's/.*"seed": \([0-9]*\).*/\1/p' "$work/out")
		violation=$(sed -n 's/.*WRONG: //p' "$work/err" | head -n 1)
		[ -n "$violation" ] || violation=$(grep -m 1 -E 'in seed|^VIOLATION' "$work/err")
		[ -n "$at_seed" ] || at_seed=$(sed -n 's/.* in seed \([0-9]*\).*/\1/p' "$work/err" | head -n 1)
		;;
	esac
	if [ "$status" -eq 0 ]; then
		found=MISSED
	elif [ -n "$violation" ]; then
		found=found
	else
		found=BROKEN # it ended without saying what is wrong: the program is not there, or died
		violation="status $status: $(head -n 1 "$work/err")"
	fi
}

target_of() # tool
{
	case $1 in
	test\ *) case_of_tool "$1"; echo "$program" ;;
	*) echo "pcache-$1-sim" ;;
	esac
}

mutate() # patch
{
	name=$(basename "$1" .patch)
	tool=$(field "$1" Tool)
	tool=${tool:-crash}
	expect=$(field "$1" Expect)
	item=$(field "$1" Item)
	states=-
	at_seed=-
	violation=
	began=$(date +%s)
	if ! apply "$1" --dry-run; then
		found=NO-PATCH
		violation=$(head -n 1 "$work/patch.log")
	elif [ -n "$check" ]; then
		return
	else
		apply "$1"
		if ! cmake --build "$build" --target "$(target_of "$tool")" -j "$jobs" >"$work/build.log" 2>&1; then
			found=NO-BUILD
			violation=$(grep -m 1 error: "$work/build.log")
		else
			began=$(date +%s)
			run_tool "$tool"
		fi
		apply "$1" -R || {
			echo "$name does not come off again"
			exit 1
		}
	fi
	if [ "$expect" = survives ]; then
		case $found in
		MISSED) found=survives ;;
		found) found=WAS-FOUND ;;
		esac
	fi
	case $found in
	found | survives) ;;
	*) wrong=$((wrong + 1)) ;;
	esac
	say "$name" "$item" "$tool" "$found" "$states" "$at_seed" $(($(date +%s) - began)) "$violation"
}

copy_tree
[ -n "$check" ] || configure
number=0
if [ $# -eq 0 ]; then
	set -- "$here"/*.patch
fi
for name in "$@"; do
	name=$(basename "$name" .patch)
	if [ ! -f "$here/$name.patch" ]; then
		echo "no such mutant: $name" >&2
		exit 2
	fi
	number=$((number + 1))
	mutate "$here/$name.patch"
done
[ -n "$markdown" ] || echo "$number mutants, $wrong not as they should be"
[ "$wrong" -eq 0 ]
