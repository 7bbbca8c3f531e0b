#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Poison that is real (G12): the cache lies in a file of nbdfuse, of which some pages cannot be read. A load of such a page from the mapping is a SIGBUS, a read(2) an error. Hits
# on clean and dirty data with and without the guard; write-back; a cure by overwrite; each copy of the metadata; both copies; the log.
set -u
. "$(dirname "$0")/lib.sh"

BAD_PLUGIN=$BIN_DIR/nbdkit-bad-media-plugin.so
CLIENT=$BIN_DIR/pcache-sigbus
needs nbdkit nbdfuse "$BAD_PLUGIN" "$CLIENT" "$PCACHE"
[ -c /dev/fuse ] || skip "there is no /dev/fuse"
scratch
ulimit -c 0
# A sanitizer would catch the signal itself and make an exit status of its own of it.
ASAN_OPTIONS="${ASAN_OPTIONS:-}:handle_sigbus=0:detect_leaks=0"
TSAN_OPTIONS="${TSAN_OPTIONS:-}:handle_sigbus=0"
export ASAN_OPTIONS TSAN_OPTIONS
unset PMEM2_FORCE_GRANULARITY

STORE=$DISK_DIR/store
BACKING=$DISK_DIR/backing
BAD=$DISK_DIR/bad
MOUNT=$DISK_DIR/mount
CACHE=$MOUNT/cache
mkdir "$MOUNT"
FUSE=

umount_cache() {
	[ -n "$FUSE" ] || return 0
	umount "$MOUNT" 2>/dev/null || fusermount3 -u "$MOUNT" 2>/dev/null || fusermount -u "$MOUNT" 2>/dev/null
	wait "$FUSE"
	FUSE=
}

end() {
	status=$1
	umount_cache
	finish "$status"
}
trap 'end $?' EXIT

# Mounts with an empty page cache: what was read before is read again.
mount_cache() {
	nbdfuse "$CACHE" --command nbdkit -s "$BAD_PLUGIN" store="$STORE" bad="$BAD" 2>>"$DISK_DIR/fuse.log" &
	FUSE=$!
	tries=0
	until [ -e "$CACHE" ]; do
		if ! kill -0 "$FUSE" 2>/dev/null || [ $tries -ge 200 ]; then
			cat "$DISK_DIR/fuse.log" >&2
			FUSE=
			skip "nbdfuse cannot mount here"
		fi
		tries=$((tries + 1))
		sleep 0.05
	done
}

# client STEP...: on the mounted cache. expect STATUS STEP...: and this is how it ends.
client() {
	"$CLIENT" "$CACHE" "$BACKING" "$@" >"$DISK_DIR/out" 2>"$DISK_DIR/err"
}
expect() {
	want=$1
	shift
	client "$@"
	got=$?
	[ $got -eq "$want" ] || { cat "$DISK_DIR/out" "$DISK_DIR/err" >&2; fail "ended with $got, not $want: $*"; }
}
SIGBUS=135

# A cache with clean blocks 0 to 31 and dirty ones 32 to 63 over older ones, closed; nothing is bad.
fresh() {
	umount_cache
	rm -f "$STORE" "$BACKING"
	truncate -s 64M "$BACKING"
	: >"$BAD"
	"$PCACHE" format "$STORE" --backing "$BACKING" --size 9M --block 4096 ${1:+"$1"} >/dev/null || fail "format"
	"$CLIENT" "$STORE" "$BACKING" open write:0:64:1 drain write:32:32:2 close || fail "first life"
	cp "$STORE" "$DISK_DIR/saved"
	mount_cache
}

where() { "$CLIENT" "$DISK_DIR/saved" "$BACKING" "where:$1:$2" || fail "where $1"; }

for crc in on off; do
	fresh "--data-crc=$crc"
	clean_off=$(where 5 1)
	dirty_off=$(where 40 2)
	printf '%s 4096\n%s 4096\n' "$clean_off" "$dirty_off" >"$BAD"

	# Without the guard a hit ends the process, and nothing else is lost by that.
	expect $SIGBUS open read:0:5:1 read:5:1:1
	expect $SIGBUS open read:32:8:2 read:40:1:2
	expect 0 open read:0:5:1 read:6:26:1 read:32:8:2 read:41:23:2 write:100:1:7 flush read:100:1:7
	expect 0 open read:100:1:7 read:41:23:2

	# With it clean data comes from the backing, dirty data is lost and says so, and the rest goes on.
	expect 0 guard open read:0:32:1 info:media-errors:1 info:quarantined:1 read:32:8:2 read:40:1:lost read:41:23:2 \
		write:101:1:7 flush read:101:1:7 read:40:1:lost
	expect 0 guard open read:40:1:lost drain-lost read:40:1:lost read:32:8:2 read:41:23:2 close
	dd if="$BACKING" of="$DISK_DIR/block" bs=4096 skip=40 count=1 2>/dev/null
	dd if="$BACKING" of="$DISK_DIR/next" bs=4096 skip=41 count=1 2>/dev/null
	"$CLIENT" "$DISK_DIR/block" "$BACKING" where:40:1 >/dev/null || fail "the backing has something else than before"
	"$CLIENT" "$DISK_DIR/next" "$BACKING" where:41:2 >/dev/null || fail "a sound neighbour is not on the backing"
	# On record: also without the guard, and it is cured by an overwrite.
	expect 0 open read:40:1:lost write:40:1:3 read:40:1:3 drain close
	expect 0 open read:40:1:3 read:32:8:2 read:41:23:2 read:100:1:7 read:101:1:7
	echo "  data, data_crc=$crc"
done

# Metadata: one page of one copy at a time, or all three. An error at most, and never a death; what is bad is mended.
size=$(stat -c %s "$STORE")
a_super=0
a_tail=4096
a_records=8192
b_super=$((size - 4096))
b_tail=$((size - 8192))
b_records=$("$PCACHE" dump "$STORE" --super | sed -nE 's/.*zone_b_off[^0-9]*([0-9]+).*/\1/p' | head -n 1)
for pages in $a_super $a_tail $a_records $b_super $b_tail "$b_records" "$a_super $a_tail $a_records" \
	"$b_super $b_tail $b_records" "$a_super $b_tail"; do
	fresh
	for page in $pages; do echo "$page 4096" >>"$BAD"; done
	expect 0 open info:repairs:1 read:0:32:1 read:32:32:2 write:0:1:9 close
	[ ! -s "$BAD" ] || fail "page $pages was not mended"
	expect 0 open read:0:1:9 read:1:31:1 read:32:32:2
done
echo "  one copy of the metadata"
for pages in "$a_super $b_super" "$a_tail $b_tail" "$a_records $b_records"; do
	fresh
	for page in $pages; do echo "$page 4096" >>"$BAD"; done
	expect 3 open
	grep -qE '^(PCACHE_E_CORRUPT|EIO)$' "$DISK_DIR/out" || fail "both copies: $(cat "$DISK_DIR/out")"
	: >"$BAD"
	expect 0 open read:0:32:1 read:32:32:2
done
echo "  both copies"

# The log: 100 writes without a close, then a page of it.
fresh
expect 0 open write:200:100:5 flush
log_off=$("$PCACHE" dump "$STORE" --super | sed -nE 's/.*data_off[^0-9]*([0-9]+).*/\1/p' | head -n 1)
umount_cache
mount_cache
echo "$log_off 4096" >"$BAD"
expect 3 open
grep -q '^PCACHE_E_CORRUPT$' "$DISK_DIR/out" || fail "a log that cannot be read: $(cat "$DISK_DIR/out")"
: >"$BAD"
expect 0 open read:200:100:5 read:32:32:2
echo "  the log"
