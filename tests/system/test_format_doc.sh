#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The byte tables and constants of docs/FORMAT.md equal the structs that the compiler laid out.
#
# In the document a heading "### `pcm_x`: N bytes" opens a table whose rows are "| offset | size | `member` | meaning |"; rows
# "| `PC_X` | value | meaning |" are constants, hexadecimal or decimal. Nothing may be missing on either side.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
source_dir=${PCACHE_SOURCE_DIR:-$here/../..}
print_tables=${PCACHE_BIN_DIR:?}/test_format_doc_tables
doc=${1:-$source_dir/docs/FORMAT.md}
[ -x "$print_tables" ] || { echo "skipped: $print_tables was not built"; exit 77; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

"$print_tables" --print >"$work/code.raw"
awk -F'|' '
function bare(s) { gsub(/[ `]/, "", s); return s }
/^### `pcm_/ {
	split($0, part, "`")
	name = part[2]
	bytes = $0
	sub(/^.*: /, "", bytes)
	sub(/ bytes.*$/, "", bytes)
	print "struct", name, bytes
	next
}
/^#/ { name = "" }
name != "" && $2 ~ /^ *[0-9]+ *$/ && $3 ~ /^ *[0-9]+ *$/ { print "member", name, bare($2), bare($3), bare($4) }
$2 ~ /^ *`PC_[A-Z0-9_]+` *$/ { print "const", bare($2), bare($3) }
' "$doc" >"$work/doc.hex"

# Values to decimal, so that the document may write what reads best.
while read -r kind rest; do
	if [ "$kind" = const ]; then
		value=${rest##* }
		echo "const ${rest% *} $((value))"
	else
		echo "$kind $rest"
	fi
done <"$work/doc.hex" | sort >"$work/doc"
sort "$work/code.raw" >"$work/code"

[ -s "$work/code" ] || { echo "no tables in the program"; exit 1; }
if ! diff -u "$work/doc" "$work/code"; then
	echo "docs/FORMAT.md (-) differs from src/format/format.h (+)"
	exit 1
fi
echo "$(wc -l <"$work/code") lines of tables and constants agree"
