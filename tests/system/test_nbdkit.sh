#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# The nbdkit plugin as its user meets it: what it advertises, what it says about mistakes, that it starts in the background, drains at
# its end or leaves it with no-drain, and refuses what is no multiple of the block without touching anything.
set -u
. "$(dirname "$0")/lib.sh"

needs nbdkit "$PLUGIN" "$PCACHE" "$PYTHON" nbdinfo
"$PYTHON" -c 'import nbd' 2>/dev/null || skip "python3-libnbd is missing"
scratch
PMEM2_FORCE_GRANULARITY=CACHE_LINE
export PMEM2_FORCE_GRANULARITY
CACHE=$SHM_DIR/cache
BACKING=$DISK_DIR/backing
truncate -s 64M "$BACKING"

# refused TEXT PARAMETER...: the plugin does not start, and says TEXT.
refused() {
	text=$1
	shift
	LD_PRELOAD=$(server_preload) ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" \
		timeout 30 nbdkit -f -U "$DISK_DIR/refused.socket" "$PLUGIN" "$@" >"$DISK_DIR/refused.log" 2>&1
	status=$?
	rm -f "$DISK_DIR/refused.socket"
	[ $status -ne 0 ] && [ $status -ne 124 ] || fail "started with: $*"
	grep -q -- "$text" "$DISK_DIR/refused.log" || { cat "$DISK_DIR/refused.log" >&2; fail "does not say '$text': $*"; }
	echo "  refused: $text"
}

client() { "$PYTHON" -c "import nbd, sys
h = nbd.NBD()
h.connect_unix('$SOCKET')
$1" || fail "client: $1"; }

refused "cache=PATH and backing=PATH are required" cache="$CACHE"
refused "give cache-size=SIZE" cache="$CACHE" backing="$BACKING"
refused "no value of parameter 'ordering'" cache="$CACHE" backing="$BACKING" ordering=loose
refused "unknown parameter 'orderring'" cache="$CACHE" backing="$BACKING" orderring=strict
refused "cannot be used as backing" cache="$CACHE" backing="$DISK_DIR/none" cache-size=16M
refused "too small" cache="$CACHE" backing="$BACKING" cache-size=64K
[ ! -s "$CACHE" ] || fail "a refused start left a cache"
head -c 1M /dev/urandom >"$DISK_DIR/other"
cksum <"$DISK_DIR/other" >"$DISK_DIR/before"
refused "not a pcache cache" cache="$DISK_DIR/other" backing="$BACKING" cache-size=16M
cksum <"$DISK_DIR/other" | cmp -s - "$DISK_DIR/before" || fail "a file that is no cache was changed"

serve cache="$CACHE" backing="$BACKING" cache-size=16M block=4096 gc-percent=50
nbdinfo --no-content "$URI" >"$DISK_DIR/info" || fail "nbdinfo"
for line in "export-size: 67108864" "can_fua: true" "can_multi_conn: true" "can_trim: true" "can_zero: true" "can_flush: true" \
	"is_read_only: false" "block_size_minimum: 4096" "block_size_preferred: 4096"; do
	grep -q "$line" "$DISK_DIR/info" || { cat "$DISK_DIR/info" >&2; fail "does not advertise $line"; }
done
client "
h.pwrite(b'a' * 4096, 4096)
h.set_strict_mode(0)
for call in (lambda: h.pwrite(b'b' * 512, 4096), lambda: h.pwrite(b'b' * 4096, 4608), lambda: h.pread(512, 0), lambda: h.zero(512, 0)):
    try:
        call()
        sys.exit('a request that is no multiple of the block was taken')
    except nbd.Error as e:
        assert e.errnum == 22, e
assert h.pread(8192, 4096) == bytearray(b'a' * 4096 + bytes(4096))
h.trim(4096, 4096, nbd.CMD_FLAG_FUA)
assert h.pread(4096, 4096) == bytearray(4096)
h.pwrite(b'c' * 8192, 0, nbd.CMD_FLAG_FUA)
h.zero(4096, 0, nbd.CMD_FLAG_NO_HOLE)
h.cache(65536, 0)
h.flush()
h.shutdown()"
grep -q "no multiple of the cache block; use a client" "$DISK_DIR/server.log" || fail "does not say what to do about the block size"
refused "EBUSY\|busy" cache="$CACHE" backing="$BACKING"
stop_server
client_image=$("$PYTHON" -c "print(open('$BACKING', 'rb').read(8192) == bytes(4096) + b'c' * 4096)")
[ "$client_image" = True ] || fail "after the drain the backing does not hold what was written"
echo "  served, refused requests that are not aligned, drained"

refused "has block=4096" cache="$CACHE" backing="$BACKING" block=512
refused "has data-crc=on" cache="$CACHE" backing="$BACKING" data-crc=off
truncate -s 32M "$DISK_DIR/shorter"
refused "backing size differs" cache="$CACHE" backing="$DISK_DIR/shorter"

serve cache="$CACHE" backing="$BACKING" no-drain=true writeback-delay-ms=600000
client "
h.pwrite(b'd' * 4096, 8192)
h.shutdown()"
stop_server
"$PYTHON" -c "import sys; f = open('$BACKING', 'rb'); f.seek(8192); sys.exit(f.read(4096) != bytes(4096))" || fail "no-drain=true drained"
[ "$("$PCACHE" info --json "$CACHE" | tr -d ' \n' | sed 's/.*"dirty_bytes":\([0-9]*\).*/\1/')" -ge 4096 ] || fail "no dirty data was left"
check_clean "$CACHE" "after no-drain"
serve cache="$CACHE" backing="$BACKING"
client "
assert h.pread(4096, 8192) == bytearray(b'd' * 4096)
h.shutdown()"
stop_server
echo "  no-drain kept the dirty data in the cache, the next start had it"

# In the background: nbdkit forks and changes its folder; relative paths are those of the start.
rm -f "$SOCKET" "$DISK_DIR/server.pid"
(cd "$DISK_DIR" && LD_PRELOAD=$(server_preload) ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" \
	nbdkit -U "$SOCKET" -P "$DISK_DIR/server.pid" "$PLUGIN" cache="$CACHE" backing=backing 2>>"$DISK_DIR/server.log") ||
	{ cat "$DISK_DIR/server.log" >&2; fail "does not start in the background"; }
# The one in the background writes its number, perhaps after the one that was started has ended.
tries=0
until [ -s "$DISK_DIR/server.pid" ]; do
	tries=$((tries + 1))
	[ $tries -lt 600 ] || fail "no number of the server in the background"
	sleep 0.05
done
SERVER=$(cat "$DISK_DIR/server.pid")
client "
h.pwrite(b'e' * 4096, 12288)
h.shutdown()"
kill "$SERVER"
tries=0
while kill -0 "$SERVER" 2>/dev/null; do
	tries=$((tries + 1))
	[ $tries -lt 600 ] || fail "the server in the background does not end"
	sleep 0.05
done
SERVER=
"$PYTHON" -c "import sys; f = open('$BACKING', 'rb'); f.seek(12288); sys.exit(f.read(4096) != b'e' * 4096)" || fail "not drained"
check_clean "$CACHE" "at the end"
echo "nbdkit: ok"
