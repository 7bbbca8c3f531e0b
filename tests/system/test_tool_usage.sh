#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Every wrong input that a user of the tool may give: the exit code is right, stderr has exactly one line, `pcache: PATH: what happened; what to do
# next`, with the specifics that help, and no file has changed by a byte.
set -u
. "$(dirname "$0")/lib.sh"

needs "$PCACHE" jq
scratch
export PMEM2_FORCE_GRANULARITY=CACHE_LINE
cd "$SHM_DIR" || exit 1
faults=0

state() {
	find . -type f ! -name 'log.*' -exec sha256sum {} + | sort
}

# refuses CODE PATTERN ARGUMENT...: runs pcache; every word of PATTERN is an extended regular expression that the message must match.
refuses() {
	wanted=$1 pattern=$2
	shift 2
	state >"$DISK_DIR/before"
	"$PCACHE" "$@" >"$DISK_DIR/out" 2>"$DISK_DIR/err"
	code=$?
	state >"$DISK_DIR/after"
	problem=
	[ $code -eq "$wanted" ] || problem="exit code $code instead of $wanted"
	[ "$(wc -l <"$DISK_DIR/err")" -eq 1 ] || problem="$problem; not one line"
	grep -Eq '^pcache: .+; .+' "$DISK_DIR/err" || problem="$problem; not of the form WHAT; WHAT TO DO"
	grep -Eq -- "$pattern" "$DISK_DIR/err" || problem="$problem; does not match '$pattern'"
	cmp -s "$DISK_DIR/before" "$DISK_DIR/after" || problem="$problem; files have changed"
	[ -z "$problem" ] || {
		echo "pcache $*: $problem" >&2
		cat "$DISK_DIR/err" >&2
		diff "$DISK_DIR/before" "$DISK_DIR/after" >&2
		faults=$((faults + 1))
	}
}

works() {
	"$PCACHE" "$@" >"$DISK_DIR/out" 2>"$DISK_DIR/err" || {
		echo "pcache $*: failed" >&2
		cat "$DISK_DIR/err" >&2
		faults=$((faults + 1))
	}
}

# patch FILE OFFSET BYTES: printf escapes.
patch() {
	printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}

truncate -s 8M backing
truncate -s 4M other-size
: >empty
head -c 1000 /dev/urandom >odd
mkdir folder

# ---- help and version
for arguments in --help -h help --version "format --help" "info --help" "check -h" "dump --help" "drain --help" "bench --help"; do
	works $arguments
	[ -s "$DISK_DIR/out" ] || { echo "pcache $arguments: says nothing" >&2; faults=$((faults + 1)); }
done
"$PCACHE" --help | grep -q '3  check found damage' || { echo "exit codes are not in the help" >&2; faults=$((faults + 1)); }
for command in format info check dump drain bench; do
	"$PCACHE" $command --help | grep -q Examples || { echo "$command --help: no examples" >&2; faults=$((faults + 1)); }
done

# ---- wrong usage
refuses 2 'command is missing'
refuses 2 "'frobnicate' is no command" frobnicate
for command in info check dump; do
	refuses 2 'path of the cache is missing' $command
	refuses 2 "'--frob' is not known" $command --frob cache
	refuses 2 "'b' is too much" $command a b
	refuses 2 'empty' $command ''
done
refuses 2 'path of the cache is missing' format --backing backing
refuses 2 'backing is missing' format cache --size 64M
refuses 2 "'--backing' wants a value" format cache --backing
refuses 2 'does not exist.*--size' format cache --backing backing
refuses 2 'size wants' format cache --backing backing --size 64X
refuses 2 'size wants' format cache --backing backing --size -1
refuses 2 'size wants' format cache --backing backing --size 99999999999999999999
refuses 2 'block wants' format cache --backing backing --size 64M --block 1024
refuses 2 'segment wants' format cache --backing backing --size 64M --segment 100000
refuses 2 'segment wants' format cache --backing backing --size 64M --segment 32M
refuses 2 'data-crc wants' format cache --backing backing --size 64M --data-crc maybe
refuses 2 'gc-percent wants' format cache --backing backing --size 64M --gc-percent 91
refuses 2 'ordering wants' format cache --backing backing --size 64M --ordering loose
refuses 2 'backing-uuid wants' format cache --backing backing --size 64M --backing-uuid 1234
refuses 2 'give two files' format backing --backing backing --size 64M
refuses 2 'takes no value' format cache --backing backing --size 64M --force=yes
refuses 2 'backing is missing' drain cache
refuses 2 'give two files' drain backing --backing backing
refuses 2 'ordering wants' drain cache --backing backing --ordering loose
refuses 2 'no job' bench --job randomwrite
refuses 2 'bs wants' bench --bs 100
refuses 2 'threads wants' bench --threads 0
refuses 2 'seconds wants' bench --seconds never
refuses 2 'no multiple' bench --bs 64k --size 100k
refuses 2 'spread wants' bench --size 1M --spread wide
refuses 2 'spread is smaller' bench --size 64M --spread 1M
refuses 2 'spread wants a --size' bench --spread 64M
refuses 2 'flush-every wants' bench --flush-every 0
refuses 2 'writeback wants on, off or flat' bench --writeback maybe
refuses 2 'fill wants on or off' bench --fill maybe
refuses 2 'warm-up wants cache or set' bench --warm-up long
refuses 2 'too much' bench cache

# ---- format
refuses 1 'no-such' format cache --backing no-such --size 64M
refuses 1 'folder.*file' format cache --backing folder --size 64M
refuses 1 'empty' format cache --backing empty --size 64M
refuses 1 'multiple' format cache --backing odd --size 64M
refuses 1 'folder' format folder --backing backing --size 64M
refuses 1 '/dev/null' format /dev/null --backing backing --size 64M
refuses 1 'no-folder' format no-folder/cache --backing backing --size 64M
refuses 1 'at least [0-9]+' format cache --backing backing --size 100K
refuses 1 'no space.*smaller --size' format cache --backing backing --size 100T
[ ! -e cache ] || { echo "a failed format left a file behind" >&2; faults=$((faults + 1)); }
head -c 1048576 /dev/urandom >precious
refuses 1 'not a pcache cache.*--force' format precious --backing backing
least=$("$PCACHE" format cache --backing backing --size 64K 2>&1 | sed -n 's/.*at least \([0-9]*\).*/\1/p')
works format cache --backing backing --size "$least"
refuses 1 'already holds.*--force' format cache --backing backing --size 64M
works format cache --backing backing --size 9M --force
[ "$(stat -c %a cache)" = 600 ] || { echo "the mode of a new cache is not 0600" >&2; faults=$((faults + 1)); }
works check cache
works info cache
works info --openmetrics cache
[ "$(tail -n 1 "$DISK_DIR/out")" = "# EOF" ] || { echo "OpenMetrics do not end" >&2; faults=$((faults + 1)); }
works info --json cache
[ "$(jq -r .state "$DISK_DIR/out")" = closed ] || { echo "a new cache is not closed" >&2; faults=$((faults + 1)); }
[ "$(jq -r .dirty_bytes "$DISK_DIR/out")" = 0 ] || { echo "a new cache is dirty" >&2; faults=$((faults + 1)); }
works drain cache --backing backing
works check cache

# ---- not a cache, another version, damage
for command in info check dump "drain --backing backing"; do
	refuses 1 'no-such' $command no-such
	refuses 1 'folder' $command folder
	refuses 1 'not a pcache cache.*pcache format' $command precious
	refuses 1 'not a pcache cache.*pcache format' $command empty
done
cp cache newer
for off in 0 $(($(stat -c %s newer) - 4096)); do
	# A superblock of version 99 with its CRC: the last four bytes are the CRC32C of the 256 bytes with these four as zeroes.
	"$PYTHON" - newer "$off" <<'END'
import struct, sys
def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
with open(sys.argv[1], "r+b") as image:
    image.seek(int(sys.argv[2]))
    block = bytearray(image.read(256))
    block[8:12] = struct.pack("<I", 99)
    block[252:256] = bytes(4)
    block[252:256] = struct.pack("<I", crc32c(block))
    image.seek(int(sys.argv[2]))
    image.write(block)
END
done
for command in info check "drain --backing backing"; do
	refuses 1 'version.*newer library' $command newer
done
refuses 1 '--force' format newer --backing backing
cp cache short
truncate -s 3M short
refuses 1 'shorter' info short
refuses 1 'shorter' drain short --backing backing
refuses 1 '--force' format short --backing backing
cp cache damaged
patch damaged 20 '\377\377'
patch damaged $(($(stat -c %s damaged) - 4096 + 20)) '\377\377'
refuses 1 'pcache check' info damaged
refuses 1 'pcache check' drain damaged --backing backing
refuses 1 '--force' format damaged --backing backing
cp --sparse=never cache holed
if fallocate -p -o 2097152 -l 1048576 holed 2>/dev/null; then
	refuses 1 'holes.*fallocate' drain holed --backing backing
fi

# ---- the wrong backing
refuses 1 'other-size: has 4194304 bytes.*8388608' drain cache --backing other-size
works format named --backing backing --size 9M --backing-uuid 00112233-4455-6677-8899-aabbccddeeff
works info --json named
[ "$(jq -r .backing_uuid "$DISK_DIR/out")" = 00112233-4455-6677-8899-aabbccddeeff ] || { echo "the UUID is not recorded" >&2; faults=$((faults + 1)); }
refuses 1 'no-such' drain cache --backing no-such
refuses 1 'folder' drain cache --backing folder

# ---- in use, read-only
exec 9<cache
flock -x 9 || fail "cannot lock"
refuses 1 'open in another process' check cache
refuses 1 'stats_page' info cache
refuses 1 'another process' drain cache --backing backing
refuses 1 'another process' format cache --backing backing --force
works dump cache
exec 9<&-
if [ "$(id -u)" -ne 0 ]; then
	chmod 400 cache
	refuses 1 'ermission' drain cache --backing backing
	chmod 600 cache
elif command -v setpriv >/dev/null 2>&1 && chmod 755 . && chmod 444 cache && setpriv --reuid 65534 --clear-groups test -x "$PCACHE"; then
	tool=$PCACHE
	# The same tool, as a user who may read the cache, but not write it.
	printf '#!/bin/sh\nexec setpriv --reuid 65534 --clear-groups "%s" "$@"\n' "$tool" >"$DISK_DIR/log.as-nobody"
	chmod 755 "$DISK_DIR/log.as-nobody"
	PCACHE=$DISK_DIR/log.as-nobody
	chmod 666 backing
	refuses 1 'ermission' drain cache --backing backing
	refuses 1 'ermission' format cache --backing backing --force
	PCACHE=$tool
	chmod 600 cache
fi

# ---- dirty data is never destroyed by accident
if [ -x "$BIN_DIR/pcache-dirty" ]; then
	works format dirty --backing backing --size 9M
	"$BIN_DIR/pcache-dirty" dirty backing 1048576 || fail "cannot make dirty data"
	works info --json dirty
	[ "$(jq -r .dirty_bytes "$DISK_DIR/out")" = 1048576 ] || { echo "info does not show the dirty bytes" >&2; faults=$((faults + 1)); }
	refuses 1 '1048576 bytes of dirty data.*pcache drain dirty --backing backing.*--force' format dirty --backing backing
	works check dirty
	works drain dirty --backing backing
	grep -q '1048576 bytes' "$DISK_DIR/out" || { echo "drain does not say what it did" >&2; faults=$((faults + 1)); }
	works info --json dirty
	[ "$(jq -r .dirty_bytes "$DISK_DIR/out")" = 0 ] || { echo "drain left dirty data" >&2; faults=$((faults + 1)); }
	refuses 1 'already holds.*--force' format dirty --backing backing
	works format dirty --backing backing --force

	# A cache in use that publishes statistics (some times a second) is shown, with what only its process knows.
	cat >"$DISK_DIR/look" <<-END
		tries=0
		until '$PCACHE' info --json dirty >'$DISK_DIR/live' && grep -q '"dirty_bytes": 65536,' '$DISK_DIR/live'; do
			tries=\$((tries + 1))
			[ \$tries -lt 100 ] || exit 1
			sleep 0.1
		done
		'$PCACHE' info dirty >'$DISK_DIR/text'
	END
	"$BIN_DIR/pcache-dirty" dirty backing 65536 "sh '$DISK_DIR/look'" ||
		{ echo "info of a cache in use failed" >&2; faults=$((faults + 1)); }
	[ "$(jq -r '[.state, .granularity, .granularity_forced, .commit, .dirty_bytes, .write_bytes] | join(" ")' "$DISK_DIR/live")" = \
		"open cache line true write 65536 65536" ] || { echo "info of a cache in use:" >&2; cat "$DISK_DIR/live" >&2; faults=$((faults + 1)); }
	grep -q '^hit bytes ' "$DISK_DIR/text" || { echo "info of a cache in use shows no hits" >&2; faults=$((faults + 1)); }
fi

# ---- bench
refuses 1 'exists.*give a directory' bench --cache precious
refuses 1 'no room.*--cache-size' bench --cache . --cache-size 100T
refuses 1 'holds data.*--force' bench --cache . --backing precious --size 1M --cache-size 64M
refuses 1 'smaller --size' bench --cache . --backing other-size --size 16M --cache-size 64M
[ -z "$(find . -name 'pcache-bench*')" ] || { echo "bench left files behind" >&2; faults=$((faults + 1)); }

# ---- a result that cannot be written
if [ -c /dev/full ]; then
	"$PCACHE" --help >/dev/full 2>"$DISK_DIR/err"
	[ $? -eq 1 ] && grep -q '^pcache: stdout: .*; ' "$DISK_DIR/err" || { echo "a full disk under stdout goes unnoticed" >&2; faults=$((faults + 1)); }
fi

[ $faults -eq 0 ] || fail "$faults faults"
echo "ok"
