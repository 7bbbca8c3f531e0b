#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Takes every fence, flush and sync of the library out in turn and runs the crash simulator: the absence of each must be noticed. Prints one line per call site; exits 1
# if one was not noticed, or if fence_gate.known is out of date.
#
# A call site is FILE:FUNCTION:N, the Nth call of flush, fence, sync or commit in the text of that function. Those that the simulator needs long for, or that hold what
# it does not model, are in fence_gate.known, one "FILE:FUNCTION:N OPERATION VERDICT" a line; the verdict is "mutant NAME", a patch of tests/mutants that leaves out just
# this call and that a unit test finds, or "superfluous REASON".
# Usage: fence_gate.sh PATH/pcache-crash-sim [SECONDS per site] [SEED]

set -u
sim=$1
seconds=${2:-30}
seed=${3:-1}
here=$(cd "$(dirname "$0")" && pwd)
known=$here/fence_gate.known
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# Functions of a source file that are inlined into their callers, so that each of their callers is a call site.
inlined_of() # path
{
	sed -n 's/^PC_MEDIA_INLINE .*[ *]\([a-z_]*\)(.*/\1/p' "$1"
}

# The first frame that is neither of media.h nor of such a function: FILE:FUNCTION:N, and the line.
place_of() # return address
{
	addr2line -fie "$sim" "$(printf '0x%x' $(($1 - 1)))" | paste - - | sed 's/ (discriminator [0-9]*)//' | while read -r function at; do
		path=${at%:*}
		[ -r "$path" ] || continue
		calls='pc_media_(flush|fence|sync|commit)'
		for name in $(inlined_of "$path"); do
			calls="$calls|$name"
		done
		inlined_of "$path" | grep -qx "$function" && continue
		n=$(awk -v last="${at##*:}" -v calls="(^|[^a-z_])($calls)[(]" 'NR > last { exit } /^{/ { n = 0 } $0 ~ calls { n++ } END { print n + 0 }' "$path")
		echo "${path##*/}:$function:$n ${at##*:}"
		break
	done
}

# What fence_gate.known says of a place and operation, if that can be relied on.
verdict_of() # place, operation
{
	sed -n "s/^$1 $2 //p" "$known" | while read -r verdict rest; do
		case $verdict in
		mutant) [ -f "$here/../mutants/$rest.patch" ] && echo "mutant $rest" ;;
		superfluous) echo superfluous ;;
		esac
	done
}

"$sim" --seeds 60 --seed "$seed" --sites 2>/dev/null | grep '^0x' >"$out/sites"
while read -r offset op calls; do
	place=$(place_of "$offset")
	line=${place#* }
	place=${place% *}
	echo "$place $op" >>"$out/places"
	"$sim" --seconds "$seconds" --seed "$seed" --no-shrink --json --skip-site "$offset" >"$out/json" 2>"$out/text" </dev/null
	wrong=$(grep WRONG "$out/text" | head -1)
	states=$(sed 's/.*"states": \([0-9]*\).*/\1/' "$out/json")
	verdict=$(verdict_of "$place" "$op")
	if [ -n "$wrong" ]; then
		echo "found   $op $place line $line ($calls calls) after $states states"
	elif [ -n "$verdict" ]; then
		echo "known   $op $place line $line ($calls calls), $verdict; not found in $states states"
	else
		echo "MISSED  $op $place line $line ($calls calls), not found in $states states"
		echo x >>"$out/missed"
	fi
done <"$out/sites"
sed -n 's/^\([^#: ]*:[^ ]* [a-z]*\) .*/\1/p' "$known" | while read -r entry; do
	grep -qxF "$entry" "$out/places" && continue
	echo "STALE   $entry: no such call, or it is never met"
	echo x >>"$out/missed"
done
[ ! -e "$out/missed" ]
