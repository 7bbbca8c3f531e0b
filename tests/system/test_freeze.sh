#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Frozen copies: a loaded writer is stopped (SIGSTOP), its cache, backing and record are copied, and it goes on. The copies must open
# and hold what the record says was acknowledged, `pcache check` must find nothing wrong, and the backing's copy alone must be a state that a power
# cut on an ordinary disk could have left (G2 to G4, G7). See main_freeze.c for how that is judged.
#
# FREEZES (default 3; long form 25) copies per variant; there are 8 variants. FREEZE_SEED (0: random),
# FREEZE_VARIANT (default all).
set -u
. "$(dirname "$0")/lib.sh"

FREEZES=${FREEZES:-3}
SEED=${FREEZE_SEED:-0}
FREEZE=$BIN_DIR/pcache-freeze

needs "$FREEZE" "$PCACHE"
scratch

# True when every thread of process $1 is stopped.
is_stopped() {
	for task in /proc/"$1"/task/*/stat; do
		state=$(sed 's/.*) //; s/ .*//' "$task" 2>/dev/null)
		[ "$state" = T ] || return 1
	done
}

freeze() {
	kill -STOP "$CHILD" || return 1
	tries=0
	until is_stopped "$CHILD"; do
		tries=$((tries + 1))
		[ $tries -lt 500 ] || return 1
		sleep 0.01
	done
}

# frozen NAME FOLDER PARAMETER...
frozen() {
	name=$1 folder=$2
	shift 2
	[ -z "${FREEZE_VARIANT:-}" ] || [ "$FREEZE_VARIANT" = "$name" ] || return 0
	rm -rf "$folder" "$DISK_DIR/writer.log" && mkdir "$folder" || fail "no folder"
	"$FREEZE" write cache="$folder/cache" backing="$folder/backing" record="$folder/record" seed="$SEED" "$@" >"$DISK_DIR/writer.log" 2>&1 &
	CHILD=$!
	tries=0
	until grep -qs seed= "$DISK_DIR/writer.log"; do
		kill -0 "$CHILD" 2>/dev/null || { cat "$DISK_DIR/writer.log" >&2; fail "$name: the writer ended"; }
		tries=$((tries + 1))
		[ $tries -lt 1200 ] || fail "$name: the writer did not begin"
		sleep 0.05
	done
	echo "$name: $(cat "$DISK_DIR/writer.log")"
	i=0
	while [ $i -lt "$FREEZES" ]; do
		i=$((i + 1))
		sleep 0."$((1 + i * 7 % 9))"
		freeze || { cat "$DISK_DIR/writer.log" >&2; fail "$name: the writer ended or could not be stopped"; }
		cp --sparse=never "$folder/cache" "$folder/copy.cache" && cp "$folder/backing" "$folder/copy.backing" &&
			cp "$folder/record" "$folder/copy.record" || fail "$name: no room for the copies"
		kill -CONT "$CHILD"
		check_clean "$folder/copy.cache" "$name, copy $i before it is opened"
		"$FREEZE" verify cache="$folder/copy.cache" backing="$folder/copy.backing" record="$folder/copy.record" >"$DISK_DIR/verify.log" 2>&1 ||
			{ cat "$DISK_DIR/verify.log" >&2; fail "$name: copy $i"; }
		check_clean "$folder/copy.cache" "$name, copy $i after it was closed"
		echo "  copy $i: $(tr '\n' ' ' <"$DISK_DIR/verify.log")"
	done
	kill -9 "$CHILD" || { cat "$DISK_DIR/writer.log" >&2; fail "$name: the writer ended"; }
	wait "$CHILD" 2>/dev/null
	CHILD=
}

PMEM2_FORCE_GRANULARITY=CACHE_LINE
export PMEM2_FORCE_GRANULARITY
frozen line-write-strict "$SHM_DIR/w" block_bytes=4096 commit=write
frozen line-write-strict-slow "$SHM_DIR/w" block_bytes=4096 commit=write rate=100M
frozen line-write-strict-nocrc-512 "$SHM_DIR/w" block_bytes=512 commit=write data_crc=off backing-size=64M cache-size=16M
frozen line-flush-strict "$SHM_DIR/w" block_bytes=4096 commit=flush writeback_delay_ms=5
frozen line-write-batch "$SHM_DIR/w" block_bytes=4096 commit=write ordering=batch
frozen line-flush-batch-nocrc "$SHM_DIR/w" block_bytes=4096 commit=flush ordering=batch data_crc=off rate=100M
unset PMEM2_FORCE_GRANULARITY
frozen page-flush-strict "$DISK_DIR/w" block_bytes=4096
frozen page-flush-strict-nocrc "$DISK_DIR/w" block_bytes=4096 data_crc=off writeback_delay_ms=5
echo "freeze: ok"
