#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# docs/TOOL.md and the help texts of the tool name the same commands, and for each command the same options.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
doc=${1:-${PCACHE_SOURCE_DIR:-$here/../..}/docs/TOOL.md}
pcache=${PCACHE_BIN_DIR:?}/pcache
[ -x "$pcache" ] || { echo "skipped: $pcache was not built"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

"$pcache" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' | sort >"$work/commands"
[ -s "$work/commands" ] || { echo "no commands in the help"; exit 1; }
sed -n 's/^## \([a-z]*\)$/\1/p' "$doc" | sort >"$work/sections"
diff -u "$work/sections" "$work/commands" || { echo "$doc (-) has other commands than the help (+)"; exit 1; }

faults=0
while read -r command; do
	# --help is the same everywhere and stands at the top of the document; --version belongs to no command.
	"$pcache" "$command" --help | grep -oE -- '(^|[ ,[])--[a-z-]+' | grep -oE -- '--[a-z-]+' | grep -vxE -- '--help|--version' | sort -u >"$work/help"
	sed -n "/^## $command\$/,/^## /p" "$doc" | grep -oE '^\| *`.*' | grep -oE -- '--[a-z-]+' | sort -u >"$work/doc"
	diff -u "$work/doc" "$work/help" || { echo "$command: $doc (-) has other options than the help (+)"; faults=1; }
done <"$work/commands"
[ "$faults" -eq 0 ]
echo "$(wc -l <"$work/commands") commands agree"
