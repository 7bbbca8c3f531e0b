#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Mutation gate. Removes every call of fence, flush and sync of the media in turn (tests/sim/fence_gate.sh), applies each mutant of tests/mutants in turn, builds, and runs what
# should find it. Says "killed N of M", lists the survivors, and ends with 1 unless each of them is argued for in EQUIVALENT.md, or held by a mutant that dies.
#
# Usage: run.sh [--jobs N] [--seconds S] [--sample K] [--keep DIR] [NAME...]
#   NAME          these mutants, and no call sites
#   --jobs N      so many mutants at a time, each in a copy of the tree of its own (default: all processors)
#   --seconds S   limit of one simulator run (default 60)
#   --sample K    every Kth mutant only, and no call sites: which ones, goes round with the day (default 1: all)
#   --keep DIR    work in DIR and leave it there, so that the next run need not build everything
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
jobs=$(nproc)
seconds=60
sample=1
keep=

usage() {
	sed -n 's/^# \{0,1\}//; /^Usage/,/^  --keep/p' "$0" >&2
	exit 2
}

while [ $# -gt 0 ]; do
	case $1 in
	--*) [ $# -ge 2 ] || usage ;;
	*) break ;;
	esac
	case $1 in
	--jobs) jobs=$2 ;;
	--seconds) seconds=$2 ;;
	--sample) sample=$2 ;;
	--keep) keep=$2 ;;
	*) usage ;;
	esac
	shift 2
done
for number in "$jobs" "$seconds" "$sample"; do
	case $number in
	'' | *[!0-9]* | 0*) echo "not a number above 0: $number" >&2; exit 2 ;;
	esac
done
. "$root/tests/need.sh"
need_packages gcc g++ libc6-dev binutils cmake ninja-build patch pkg-config python3 libpmem2-dev libisal-dev liburing-dev libcmocka-dev || exit 1

work=${keep:-$(mktemp -d)}
[ -n "$keep" ] || trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
mkdir -p "$work" || exit 1
rm -f "$work"/*.out "$work"/*.list

# ---- what there is to do, dealt out to the workers ----

find "$root/tests/mutants" -name '*.patch' | sort | sed 's#.*/##; s/\.patch$//' |
	awk -v k="$sample" -v day="$(($(date +%s) / 86400))" 'NR % k == day % k' >"$work/all.list"
[ $# -eq 0 ] || printf '%s\n' "$@" >"$work/all.list"
[ -s "$work/all.list" ] || { echo "no mutants in $root/tests/mutants" >&2; exit 1; }
awk -v jobs="$jobs" -v dir="$work" '{ print > (dir "/" (NR - 1) % jobs ".list") }' "$work/all.list"

call_sites() {
	cmake -S "$root" -B "$work/sites" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo "-DCMAKE_C_FLAGS_RELWITHDEBINFO=-O2 -g -DNDEBUG" -DPCACHE_TOOL=OFF -DPCACHE_EXAMPLES=OFF >"$work/sites.log" 2>&1 &&
		cmake --build "$work/sites" --target pcache-crash-sim -j 1 >>"$work/sites.log" 2>&1 || { cat "$work/sites.log"; echo "MISSED  - the call sites: the simulator does not build"; return; }
	sh "$root/tests/sim/fence_gate.sh" "$work/sites/bin/pcache-crash-sim" "$seconds" 1
}

worker() { # number
	# shellcheck disable=SC2046
	sh "$root/tests/mutants/run.sh" --seconds "$seconds" --keep "$work/tree$1" $(cat "$work/$1.list")
}

[ "$sample" -ne 1 ] || [ $# -ne 0 ] || call_sites >"$work/sites.out" 2>&1 &
number=0
while [ -f "$work/$number.list" ]; do
	worker "$number" >"$work/$number.out" 2>&1 &
	number=$((number + 1))
done
wait

# ---- the sum ----

touch "$work/sites.out"
cat "$work/sites.out" "$work"/[0-9]*.out
cat "$work"/[0-9]*.out | grep -vE '^[0-9]+ mutants, ' | grep -oE '^[A-Za-z-]+ +[a-z0-9-]+ ' | awk '{ print $2 }' | sort >"$work/seen.list"
sort "$work/all.list" | comm -23 - "$work/seen.list" | sed 's/^/MISSED     /; s/$/: nothing was said of it/' >"$work/unsaid.list"
awk -v equivalent="$here/EQUIVALENT.md" '
	function argued(name,   line, yes) {
		yes = 0
		while ((getline line < equivalent) > 0)
			if (index(line, "- `" name "`") == 1 || index(line, "the call `" name "`"))
				yes = 1
		close(equivalent)
		return yes
	}
	function one_more(is_killed, name, why) {
		all++
		if (is_killed) { killed++; return }
		if (argued(name)) { survivors = survivors "  " name ": argued in EQUIVALENT.md\n"; return }
		survivors = survivors "  " name ": " why "\n"
		bad++
	}
	FILENAME ~ /unsaid.list$/ { one_more(0, $2, "nothing was said of it"); next }
	/^[0-9]+ mutants, / { next }
	FILENAME ~ /sites.out$/ {
		name = $3
		if ($1 == "found" && match($0, /after [0-9]+ states/)) { split(substr($0, RSTART, RLENGTH), w, " "); states[++n] = w[2] }
		if ($1 == "found") one_more(1, name)
		else if ($1 == "known" && match($0, /mutant [a-z0-9-]+/)) held[name] = substr($0, RSTART + 7, RLENGTH - 7)
		else one_more(0, name, $0)
		next
	}
	$1 == "found" { dead[$2] = 1; if ($3 ~ /^[0-9]+$/) states[++n] = $3; one_more(1, $2); next }
	NF { one_more(0, $2, $0) }
	END {
		for (name in held) one_more(held[name] in dead, name, "its mutant " held[name] " was not killed")
		for (i = 2; i <= n; i++)
			for (j = i; j > 1 && states[j - 1] + 0 > states[j] + 0; j--) { t = states[j]; states[j] = states[j - 1]; states[j - 1] = t }
		printf "\nkilled %d of %d", killed, all
		if (n) printf "; crash states to the kill: median %d, most %d", states[int((n + 1) / 2)], states[n]
		printf "\nsurvivors: %s\n", survivors == "" ? "none" : "\n" survivors
		exit bad ? 1 : 0
	}' "$work/sites.out" "$work/unsaid.list" "$work"/[0-9]*.out
